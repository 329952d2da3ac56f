package sandboxer_test

import (
	"bytes"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/canary"
)

var secretText = canary.Secret("s3cr3t-hunter2-", "root")

// leaks are the ways in which secretText could be printed by mistake.
var leaks = sync.OnceValue(func() []string {
	var decimal, quoted []string
	for _, b := range []byte(secretText) {
		decimal = append(decimal, fmt.Sprint(b))
		quoted = append(quoted, fmt.Sprintf("%#x", b))
	}
	return []string{
		secretText, secretText[:6], strings.ToUpper(secretText),
		hex.EncodeToString([]byte(secretText))[:12], strings.ToUpper(hex.EncodeToString([]byte(secretText)))[:12],
		fmt.Sprintf("% x", secretText)[:12], fmt.Sprintf("% X", secretText)[:12], fmt.Sprintf("%# x", secretText)[:16],
		strings.Join(decimal, " ")[:12], strings.Join(decimal, ", ")[:12], strings.Join(decimal, ",")[:12],
		strings.Join(quoted, ", ")[:12], base64.StdEncoding.EncodeToString([]byte(secretText))[:8],
		fmt.Sprintf("%o", []byte(secretText))[1:12], fmt.Sprintf("%b", []byte(secretText))[1:20],
	}
})

// holders put a secret where a host application or an adapter may have it when it prints something bigger.
func holders() map[string]any {
	s := sandboxer.NewSecret([]byte(secretText), "v1")
	type inner struct{ private sandboxer.Secret }
	type exported struct{ Secret sandboxer.Secret }
	type pointers struct {
		private *sandboxer.Secret
		Public  *sandboxer.Secret
		In      *inner
	}
	type everything struct {
		private  sandboxer.Secret
		Any      any
		any      any
		list     []sandboxer.Secret
		byName   map[string]sandboxer.Secret
		bySecret map[sandboxer.Secret]string
		array    [1]sandboxer.Secret
		nested   struct{ deep struct{ er exported } }
	}
	all := everything{private: s, Any: s, any: &s, list: []sandboxer.Secret{s}, byName: map[string]sandboxer.Secret{"k": s},
		bySecret: map[sandboxer.Secret]string{s: "k"}, array: [1]sandboxer.Secret{s}}
	all.nested.deep.er.Secret = s
	ps := &s
	return map[string]any{
		"itself": s, "pointer": &s, "pointer to pointer": &ps, "exported field": exported{s}, "private field": inner{s},
		"pointers": pointers{&s, &s, &inner{s}}, "pointer to pointers": &pointers{&s, &s, &inner{s}},
		"slice": []sandboxer.Secret{s}, "slice of pointers": []*sandboxer.Secret{&s}, "slice of any": []any{s, &s, inner{s}},
		"map": map[string]sandboxer.Secret{"k": s}, "map of any": map[string]any{"k": s, "p": &s, "i": inner{s}},
		"map key": map[sandboxer.Secret]int{s: 1}, "array": [2]sandboxer.Secret{s, s},
		"everything": all, "pointer to everything": &all, "inputs": sandboxer.Inputs{"k": s},
	}
}

func checkNoLeak(t *testing.T, how, got string) {
	t.Helper()
	for _, leak := range leaks() {
		if strings.Contains(got, leak) {
			t.Errorf("%s shows the secret: %s", how, got)
			return
		}
	}
}

func TestSecretUnderEveryVerb(t *testing.T) {
	t.Parallel()
	s := sandboxer.NewSecret([]byte(secretText), "v1")
	var flags []string
	for bits := range 32 {
		flag := ""
		for i, f := range "+-# 0" {
			if bits&(1<<i) != 0 {
				flag += string(f)
			}
		}
		flags = append(flags, flag)
	}
	// Every letter, and some that are no verbs: those print a value in ways of their own.
	verbs := "!\"$&'()ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyzé"
	for name, v := range holders() {
		for _, flag := range flags {
			for _, width := range []string{"", "40.3"} {
				for _, verb := range verbs {
					format := "%" + flag + width + string(verb)
					checkNoLeak(t, name+" under "+format, fmt.Sprintf(format, v))
				}
			}
		}
	}
	// fmt prints what a reflect.Value holds, and not with the methods of its type.
	inside := reflect.ValueOf(s).Field(0)
	checkNoLeak(t, "reflection", fmt.Sprintf("%v %+v %#v %s %v", inside, inside, inside, inside, inside.Elem().Field(0)))

	// What it prints is always the same, so that one sees that there is a secret.
	for _, verb := range "vsqxXdbocUeEfFgGt" {
		for _, format := range []string{"%" + string(verb), "%+" + string(verb), "%#" + string(verb), "%20.3" + string(verb)} {
			for _, v := range []any{s, &s, sandboxer.Secret{}} {
				if got := fmt.Sprintf(format, v); got != "[redacted]" {
					t.Errorf("%s of %T prints %q", format, v, got)
				}
			}
		}
	}
	if s.String() != "[redacted]" || s.GoString() != "[redacted]" {
		t.Error("String or GoString is wrong")
	}
}

func TestSecretInEncodings(t *testing.T) {
	t.Parallel()
	for name, v := range holders() {
		if text, err := json.Marshal(v); err == nil {
			checkNoLeak(t, name+" in JSON", string(text))
		}
		if text, err := xml.Marshal(v); err == nil {
			checkNoLeak(t, name+" in XML", string(text))
		}
		var b bytes.Buffer
		if err := gob.NewEncoder(&b).Encode(v); err == nil {
			checkNoLeak(t, name+" in gob", b.String())
		}
		checkNoLeak(t, name+" in an error", fmt.Errorf("%w: %v", sandboxer.Mark(sandboxer.Internal, fmt.Errorf("%v", v)), v).Error())

		b.Reset()
		log.New(&b, "", 0).Print(v)
		text := slog.New(slog.NewTextHandler(&b, nil))
		js := slog.New(slog.NewJSONHandler(&b, nil))
		for _, l := range []*slog.Logger{text, js, text.With("with", v), js.WithGroup("group").With("with", v)} {
			l.Info("message", "key", v)
			l.LogAttrs(t.Context(), slog.LevelError, "message", slog.Any("key", v), slog.Group("g", "key", v))
		}
		checkNoLeak(t, name+" in logs", b.String())
	}
	s := sandboxer.NewSecret([]byte(secretText), "v1")
	text, err := json.Marshal(map[string]any{"a": s, "b": &s, "c": []any{s}})
	if err != nil || string(text) != `{"a":"[redacted]","b":"[redacted]","c":["[redacted]"]}` {
		t.Errorf("in JSON: %s, %v", text, err)
	}
	if v := s.LogValue(); v.Kind() != slog.KindString || v.String() != "[redacted]" {
		t.Errorf("LogValue() = %v", v)
	}
}

// TestSecretInPanics: the runtime prints what a panic carries; errors are what libraries recover and print.
func TestSecretInPanics(t *testing.T) {
	t.Parallel()
	for name, v := range holders() {
		func() {
			defer func() { checkNoLeak(t, name+" recovered", fmt.Sprint(recover())) }()
			panic(v)
		}()
	}
	var target sandboxer.Secret
	err := json.Unmarshal([]byte(`"`+secretText+`"`), &target) //nolint:staticcheck // SA9005: that it does not decode is what is tried
	if err == nil {
		t.Error("a secret was decoded from JSON: configuration holds references, not secrets")
	}
	checkNoLeak(t, "decoding", fmt.Sprint(err, errors.Unwrap(err)))
}

func TestSecretValue(t *testing.T) {
	t.Parallel()
	value := []byte(secretText)
	s := sandboxer.NewSecret(value, "v1")
	value[0] = 'X'
	if got := string(s.Reveal()); got != secretText {
		t.Errorf("a change of what it was made of changed the secret to %q", got)
	}
	s.Reveal()[0] = 'X'
	if got := string(s.Reveal()); got != secretText {
		t.Errorf("a change of what Reveal returned changed the secret to %q", got)
	}
	if s.Version() != "v1" {
		t.Errorf("Version() = %q", s.Version())
	}
	same := sandboxer.NewSecret([]byte(secretText), "v2")
	other := sandboxer.NewSecret([]byte(secretText[1:]), "v1")
	if !s.Equal(same) || s.Equal(other) || s.Equal(sandboxer.Secret{}) {
		t.Error("Equal compares something else than values")
	}
	var zero sandboxer.Secret
	if len(zero.Reveal()) != 0 || zero.Version() != "" || !zero.Equal(sandboxer.NewSecret(nil, "")) {
		t.Error("the zero Secret is not empty")
	}
}

func TestRefusedKey(t *testing.T) {
	t.Parallel()
	if v, ok := sandboxer.RefusedKey(t.Context()); ok || v != "" {
		t.Errorf("a first fetch: %q, %v", v, ok)
	}
	key := sandboxer.NewSecret([]byte(secretText), "v1")
	ctx := sandboxer.WithRefusedKey(t.Context(), key)
	if v, ok := sandboxer.RefusedKey(ctx); !ok || v != "v1" {
		t.Errorf("a second fetch: %q, %v", v, ok)
	}
	for _, leak := range leaks() {
		if text := fmt.Sprintf("%v %+v", ctx, ctx); strings.Contains(text, leak) {
			t.Errorf("the context shows the key: %s", text)
		}
	}
}
