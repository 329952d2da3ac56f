package registry

import (
	"math"

	"github.com/sand-boxer/sandboxer"
)

// key is one key of a mapping: how it is decoded, and what the JSON Schemas say about it. Both come from the same tables,
// so that an editor accepts what the registry accepts.
type key[T any] struct {
	name     string
	required bool
	shape    shape
	decode   func(d *decoder, at path, n *node, into *T)
}

// decoder decodes one document.
type decoder struct {
	ps  *problems
	src *source
}

func (d *decoder) add(n *node, at path, format string, args ...any) {
	prefix := ""
	if len(at) > 0 {
		prefix = at.String() + ": "
	}
	where := place{d.src, n.line, n.column}
	d.ps.mark(where)
	d.ps.add(where, "%s", prefix+sprintf(format, args...))
}

// decodeKeys decodes a mapping by its table.
func decodeKeys[T any](d *decoder, at path, n *node, keys []key[T], into *T) {
	if n.kind != mapping {
		d.add(n, at, "must be a mapping, not %s", n.describe())
		return
	}
	byName := map[string]key[T]{}
	var names []string
	for _, k := range keys {
		byName[k.name] = k
		names = append(names, k.name)
		if k.required && n.get(k.name) == nil {
			d.add(n, at, "missing key %q", k.name)
		}
	}
	for i, kn := range n.keys {
		k, ok := byName[kn.text]
		if !ok {
			d.add(kn, at, "unknown key %s%s", quote(kn.text), sandboxer.DidYouMean(kn.text, names))
			continue
		}
		v, below := n.items[i], at.with(k.name)
		if v.isNull() {
			if k.required || !k.shape.nullable() {
				d.add(v, below, "has no value; give it one or leave the key out")
			}
			continue
		}
		k.decode(d, below, v, into)
	}
}

// textInto decodes a string.
func textInto[T any, S ~string](field func(*T) *S) func(*decoder, path, *node, *T) {
	return func(d *decoder, at path, n *node, into *T) {
		if s, ok := d.text(at, n); ok {
			*field(into) = S(s)
		}
	}
}

// listInto decodes a list of strings. An empty list is not nil.
func listInto[T any, S ~string](field func(*T) *[]S) func(*decoder, path, *node, *T) {
	return func(d *decoder, at path, n *node, into *T) {
		out := []S{}
		d.each(at, n, func(at path, item *node) {
			s, _ := d.text(at, item)
			out = append(out, S(s))
		})
		*field(into) = out
	}
}

// parsedInto decodes a scalar with a parser; its problem becomes the document's.
func parsedInto[T, V any](field func(*T) *V, parse func(string) (V, error)) func(*decoder, path, *node, *T) {
	return func(d *decoder, at path, n *node, into *T) {
		if n.kind != scalar || n.tag == "!!bool" || n.isNull() {
			d.add(n, at, "must be a single value, not %s", n.describe())
			return
		}
		v, err := parse(n.quantity())
		if err != nil {
			d.add(n, at, "%v", err)
			return
		}
		*field(into) = v
	}
}

// labelsInto decodes a mapping of strings.
func labelsInto[T any](field func(*T) *map[string]string) func(*decoder, path, *node, *T) {
	return func(d *decoder, at path, n *node, into *T) {
		if n.kind != mapping {
			d.add(n, at, "must be a mapping of strings, not %s", n.describe())
			return
		}
		out := map[string]string{}
		for i, k := range n.keys {
			if s, ok := d.text(at.with(k.text), n.items[i]); ok {
				out[k.text] = s
			}
		}
		*field(into) = out
	}
}

// dataInto decodes a mapping of anything.
func dataInto[T any](field func(*T) *sandboxer.Inputs) func(*decoder, path, *node, *T) {
	return func(d *decoder, at path, n *node, into *T) {
		if n.kind != mapping {
			d.add(n, at, "must be a mapping, not %s", n.describe())
			return
		}
		*field(into) = d.data(at, n).(map[string]any)
	}
}

func (d *decoder) text(at path, n *node) (string, bool) {
	switch {
	case n.kind == scalar && (n.tag == "!!str" || n.tag == "!!timestamp"):
		return n.text, true
	case n.kind == scalar && !n.isNull():
		d.add(n, at, "must be a string, not %s; write it in quotes", n.describe())
	default:
		d.add(n, at, "must be a string, not %s", n.describe())
	}
	return "", false
}

// each calls f for every item of a list.
func (d *decoder) each(at path, n *node, f func(at path, item *node)) {
	if n.kind != sequence {
		d.add(n, at, "must be a list, not %s", n.describe())
		return
	}
	for i, item := range n.items {
		f(at.with(i), item)
	}
}

func (d *decoder) integer(at path, n *node) (int, bool) {
	if n.kind != scalar || n.tag != "!!int" && n.tag != "!!float" {
		d.add(n, at, "must be a whole number, not %s", n.describe())
		return 0, false
	}
	v, err := n.number()
	if err != nil {
		d.add(n, at, "%v", err)
		return 0, false
	}
	if f, ok := v.(float64); ok { // 1e3 and 80.0 are whole, to an editor too
		if f != math.Trunc(f) {
			d.add(n, at, "must be a whole number, not %s", n.describe())
			return 0, false
		}
		if math.Abs(f) <= 1<<53 {
			v = int(f)
		}
	}
	i, ok := v.(int)
	if !ok {
		d.add(n, at, "is too large a number")
	}
	return i, ok
}

// data turns a node into the Go value that Inputs hold: map[string]any, []any, string, bool, int, uint64, float64, nil.
func (d *decoder) data(at path, n *node) any {
	switch n.kind {
	case mapping:
		out := make(map[string]any, len(n.keys))
		for i, k := range n.keys {
			out[k.text] = d.data(at.with(k.text), n.items[i])
		}
		return out
	case sequence:
		out := make([]any, len(n.items))
		for i, item := range n.items {
			out[i] = d.data(at.with(i), item)
		}
		return out
	}
	switch n.tag {
	case "!!null":
		return nil
	case "!!bool":
		return n.text[0] == 't' || n.text[0] == 'T'
	case "!!int", "!!float":
		v, err := n.number()
		if err != nil {
			d.add(n, at, "%v", err)
			return nil
		}
		return v
	}
	return n.text
}
