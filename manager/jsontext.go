package manager

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"
)

// object writes the members of one JSON object, byte for byte as encoding/json does, and without its reflection: a record
// is encoded at every commit, and that was a sixth of what a create cost.
type object struct {
	b   []byte
	err error
}

func (o *object) key(name string) {
	if last := o.b[len(o.b)-1]; last != '{' {
		o.b = append(o.b, ',')
	}
	o.b = append(append(append(o.b, '"'), name...), '"', ':')
}

// open begins an object that is a member, or an element of a list; close ends it.
func (o *object) open()  { o.b = append(o.b, '{') }
func (o *object) close() { o.b = append(o.b, '}') }

func (o *object) str(name, s string) {
	o.key(name)
	o.b = appendString(o.b, s)
}

// strIf, like all that end in If, leaves out what is zero.
func (o *object) strIf(name, s string) {
	if s != "" {
		o.str(name, s)
	}
}

func (o *object) num(name string, n int64) {
	o.key(name)
	o.b = strconv.AppendInt(o.b, n, 10)
}

func (o *object) numIf(name string, n int64) {
	if n != 0 {
		o.num(name, n)
	}
}

func (o *object) trueIf(name string, v bool) {
	if v {
		o.key(name)
		o.b = append(o.b, "true"...)
	}
}

func (o *object) time(name string, t time.Time) {
	o.key(name)
	b, err := t.AppendText(append(o.b, '"'))
	if err != nil {
		o.fail(name, err)
		return
	}
	o.b = append(b, '"')
}

func (o *object) timeIf(name string, t time.Time) {
	if !t.IsZero() {
		o.time(name, t)
	}
}

// raw writes what is JSON already.
func (o *object) raw(name string, text []byte) {
	o.key(name)
	o.b = append(o.b, text...)
}

// any is for what is seldom there, or was not made here: encoding/json writes it.
func (o *object) any(name string, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		o.fail(name, err)
		return
	}
	o.raw(name, text)
}

func (o *object) fail(name string, err error) {
	if o.err == nil {
		o.err = fmt.Errorf("%s: %w", name, err)
	}
}

// appendString writes s as encoding/json does. What it would have to escape it leaves to it.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' || c == 0x7f {
			if text, err := json.Marshal(s); err == nil { // which a string's never is
				return append(b, text...)
			}
		}
	}
	return append(append(append(b, '"'), s...), '"')
}
