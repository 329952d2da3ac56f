package registry

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// A document is small and flat; what is not was made to keep the reader busy.
const (
	maxBytes = 1 << 20
	maxDepth = 64
	maxNodes = 20_000  // with every alias written out
	maxText  = 2 << 20 // bytes of keys and strings, with every alias written out: each is looked through for secrets
)

type nodeKind uint8

const (
	scalar nodeKind = iota + 1
	mapping
	sequence
)

// node is a YAML value with its position. Aliases are resolved: a node may be reached on several ways.
type node struct {
	kind         nodeKind
	tag          string // of a scalar, as YAML resolved it: !!str, !!int, !!float, !!bool, !!null, !!timestamp
	text         string // of a scalar
	line, column int
	keys         []*node // of a mapping: string scalars, each once
	items        []*node // of a mapping, beside keys, or a sequence
	size, height int     // with aliases written out
	bytes        int     // of text, keys included, with aliases written out
}

// get returns the value of a key, or nil.
func (n *node) get(key string) *node {
	for i, k := range n.keys {
		if k.text == key {
			return n.items[i]
		}
	}
	return nil
}

func (n *node) isNull() bool { return n.kind == scalar && n.tag == "!!null" }

// describe says what a node is without showing it: it might be a secret in the wrong place.
func (n *node) describe() string {
	switch {
	case n.kind == mapping:
		return "a mapping"
	case n.kind == sequence:
		return "a list"
	case n.tag == "!!int":
		return "a number"
	case n.tag == "!!float":
		return "a decimal number"
	case n.tag == "!!bool":
		return "true or false"
	case n.tag == "!!null":
		return "empty"
	}
	return "a string"
}

// parse reads one YAML document. It returns nil after reporting why it cannot.
func parse(ps *problems, src *source, data []byte) *node {
	at := func(line, column int) place { return place{src, line, column} }
	if len(data) > maxBytes {
		ps.add(at(1, 1), "the document has more than %d bytes (1 MiB); a manifest or profile is a page of text", maxBytes)
		return nil
	}
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		ps.add(at(1, 1), "the document is UTF-16; save it as UTF-8")
		return nil
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")) // a byte order mark, as some editors write
	for i := 0; i < len(data); {
		r, width := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && width == 1 {
			line, column := position(data, i)
			ps.add(at(line, column), "byte 0x%02x is not UTF-8; save the document as UTF-8", data[i])
			return nil
		}
		if r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0x7f {
			line, column := position(data, i)
			ps.add(at(line, column), "the control character %U is not allowed", r)
			return nil
		}
		i += width
	}
	root, next, err := load(data)
	if err != nil {
		line, column, text := explain(data, err)
		ps.add(at(line, column), "%s", text)
		return nil
	}
	if root == nil || len(root.Content) == 0 || isEmpty(root.Content[0]) {
		ps.add(at(1, 1), "the document is empty; it begins with its id, such as \"id: ext.my-backend\"")
		return nil
	}
	if next != nil {
		ps.add(at(max(next.Line, 1), max(next.Column, 1)), "a second document begins here; write each manifest and profile into a file of its own")
		return nil
	}
	c := converter{ps: ps, src: src, done: map[*yaml.Node]*node{}, active: map[*yaml.Node]bool{}}
	return c.convert(root.Content[0], 1)
}

func isEmpty(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// load returns the first document and, where there is another one, that.
func load(data []byte) (first, second *yaml.Node, err error) {
	defer func() {
		// The YAML library panics on a few malformed inputs instead of returning an error.
		if r := recover(); r != nil {
			first, second, err = nil, nil, errors.New("the YAML cannot be parsed")
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var docs [2]*yaml.Node
	for i := range docs {
		n := &yaml.Node{}
		if err := dec.Decode(n); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, nil, err
		}
		docs[i] = n
	}
	return docs[0], docs[1], nil
}

var (
	yamlLine    = regexp.MustCompile(`^line (\d+): `)
	yamlAnchor  = regexp.MustCompile(`^unknown anchor '(.*)' referenced$`)
	yamlBlock   = regexp.MustCompile(`^did not find expected (key|'-' indicator)$`)
	yamlGrammar = regexp.MustCompile(`^(did not find expected (',' or|'-' indicator|key$|node content|<)|found undefined tag handle)`)
)

// explain finds the position and the cause behind an error of the YAML library, which knows lines only.
func explain(data []byte, err error) (line, column int, text string) {
	text = strings.TrimPrefix(err.Error(), "yaml: ")
	lines := bytes.SplitAfter(data, []byte("\n"))
	if m := yamlAnchor.FindStringSubmatch(text); m != nil {
		// The name is not shown: a password that begins with "*" and stands without quotes looks like an alias.
		line, column = aliasIn(lines, m[1], firstLine(lines, err, 1))
		return line, column, "this alias (*…) refers to no anchor; write a value that begins with \"*\" in quotes"
	}
	line = 1
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		text = text[len(m[0]):]
		if n, err := strconv.Atoi(m[1]); err == nil && n >= 1 {
			if yamlGrammar.MatchString(text) {
				n++ // the library counts these lines from 0
			}
			line = min(n, len(lines))
		}
	}
	if yamlBlock.MatchString(text) {
		line = firstLine(lines, err, line) // the library's is the beginning of the mapping or list
	}
	blamed := lines[line-1 : line]
	if strings.Contains(text, "found a tab character") {
		blamed = lines[line-1:] // the library's is the beginning of the string
	}
	for i, l := range blamed {
		indent := l[:len(l)-len(bytes.TrimLeft(l, " \t"))]
		if tab := bytes.IndexByte(indent, '\t'); tab >= 0 && len(indent) < len(bytes.TrimRight(l, "\r\n")) {
			return line + i, tab + 1, "a tab in the indentation; YAML is indented with spaces"
		}
	}
	l := lines[line-1]
	column = 1 + len(l) - len(bytes.TrimLeft(l, " "))
	return line, column, "not valid YAML: " + text
}

// firstLine returns the first line at or behind from with which the lines up to it have that same error: the library reads
// from the top and stops where it cannot go on. It is from where the document is too large to be read many times.
func firstLine(lines [][]byte, err error, from int) int {
	const most = 64 << 10
	size := 0
	for _, l := range lines {
		size += len(l)
	}
	if size > most {
		return from
	}
	return from + sort.Search(len(lines)-from, func(n int) bool {
		_, _, e := load(bytes.Join(lines[:from+n], nil))
		return e != nil && e.Error() == err.Error()
	})
}

// aliasIn finds an alias at or behind the line from.
func aliasIn(lines [][]byte, name string, from int) (line, column int) {
	alias := regexp.MustCompile(`(?:^|[\s,:\[{])(\*` + regexp.QuoteMeta(name) + `)(?:[^0-9A-Za-z_-]|$)`)
	for i, l := range lines[from-1:] {
		if m := alias.FindSubmatchIndex(l); m != nil {
			_, column = position(l, m[2])
			return from + i, column
		}
	}
	return from, 1
}

// position turns an offset into a line and a column, both from 1, in characters.
func position(data []byte, offset int) (line, column int) {
	before := data[:offset]
	line = 1 + bytes.Count(before, []byte("\n"))
	if i := bytes.LastIndexByte(before, '\n'); i >= 0 {
		before = before[i+1:]
	}
	return line, 1 + utf8.RuneCount(before)
}

// converter turns the library's nodes into ours and refuses what no manifest needs.
type converter struct {
	ps     *problems
	src    *source
	done   map[*yaml.Node]*node // what has an anchor, so that aliases cost nothing
	active map[*yaml.Node]bool
	tooBig bool
}

func (c *converter) add(n *yaml.Node, format string, args ...any) {
	c.ps.add(place{c.src, n.Line, n.Column}, format, args...)
}

// give up once: a document that is too large or too deep gets one message, not one per level.
func (c *converter) giveUp(n *yaml.Node, format string, args ...any) *node {
	if !c.tooBig {
		c.tooBig = true
		c.add(n, format, args...)
	}
	return nil
}

// convert returns nil after giving up.
func (c *converter) convert(n *yaml.Node, depth int) *node {
	if c.tooBig {
		return nil
	}
	if n.Kind == yaml.AliasNode {
		return c.alias(n, depth)
	}
	if depth > maxDepth {
		return c.giveUp(n, "nested more than %d levels deep", maxDepth)
	}
	out := &node{text: n.Value, line: n.Line, column: n.Column, size: 1, height: 1, bytes: len(n.Value)}
	if n.Style&yaml.TaggedStyle != 0 {
		c.add(n, "YAML tags (%s) are not taken; write strings in quotes and everything else plainly", printable(n.Tag))
		n.Tag = "!!str"
	}
	c.active[n] = true
	defer delete(c.active, n)
	ok := true
	switch n.Kind {
	case yaml.ScalarNode:
		out.kind, out.tag = scalar, n.Tag
	case yaml.SequenceNode:
		out.kind = sequence
		for _, child := range n.Content {
			ok = ok && c.adopt(out, n, child, depth)
		}
	case yaml.MappingNode:
		out.kind = mapping
		seen := map[string]*yaml.Node{}
		for i := 0; i+1 < len(n.Content) && ok; i += 2 {
			if k := c.key(n.Content[i], seen); k != nil {
				out.bytes += len(k.text)
				if ok = c.adopt(out, n, n.Content[i+1], depth); ok {
					out.keys = append(out.keys, k)
				}
			}
		}
	default:
		return c.giveUp(n, "this kind of YAML is not taken")
	}
	if !ok {
		return nil
	}
	if n.Anchor != "" {
		c.done[n] = out
	}
	return out
}

// adopt makes child an item of out and keeps the measures.
func (c *converter) adopt(out *node, parent, child *yaml.Node, depth int) bool {
	item := c.convert(child, depth+1)
	if item == nil {
		return false
	}
	out.items = append(out.items, item)
	out.size += item.size
	out.bytes += item.bytes
	out.height = max(out.height, 1+item.height)
	if out.bytes > maxText {
		c.giveUp(parent, "more than %d bytes of text (2 MiB), with aliases written out", maxText)
		return false
	}
	if out.size > maxNodes {
		c.giveUp(parent, "more than %d values, with aliases written out", maxNodes)
		return false
	}
	return true
}

func (c *converter) alias(n *yaml.Node, depth int) *node {
	if c.active[n.Alias] {
		return c.giveUp(n, "this alias contains itself")
	}
	target := c.done[n.Alias]
	if target == nil {
		return c.giveUp(n, "this alias cannot be resolved")
	}
	if depth+target.height-1 > maxDepth {
		return c.giveUp(n, "nested more than %d levels deep", maxDepth)
	}
	out := *target
	out.line, out.column = n.Line, n.Column // a value is wrong where it stands, not where it was written out
	return &out
}

// key checks a key of a mapping and returns nil where its value is to be passed over.
func (c *converter) key(n *yaml.Node, seen map[string]*yaml.Node) *node {
	switch {
	case n.Kind == yaml.AliasNode || n.Kind != yaml.ScalarNode:
		c.add(n, "a key must be a plain word")
		return nil
	case n.Tag == "!!merge":
		c.add(n, "merge keys (<<) are not taken; write the keys out")
		return nil
	case n.Tag != "!!str" || n.Style&yaml.TaggedStyle != 0:
		c.add(n, "the key %s is not a string; write it in quotes", printable(n.Value))
		return nil
	}
	if first := seen[n.Value]; first != nil {
		c.add(n, "duplicate key %s, first set on line %d", quote(n.Value), first.Line)
		return nil
	}
	seen[n.Value] = n
	return &node{kind: scalar, tag: n.Tag, text: n.Value, line: n.Line, column: n.Column, size: 1, height: 1}
}

// number turns an int or float scalar into a Go number: int, uint64 or float64.
func (n *node) number() (any, error) {
	plain := strings.TrimLeft(n.text, "+-")
	if len(plain) > 1 && plain[0] == '0' && plain[1] >= '0' && plain[1] <= '9' {
		return nil, fmt.Errorf("a number with a leading zero is octal to some and decimal to others; write it in quotes, or as 0o…")
	}
	var v any
	if err := (&yaml.Node{Kind: yaml.ScalarNode, Tag: n.tag, Value: n.text}).Decode(&v); err != nil {
		return nil, fmt.Errorf("not a number that can be kept exactly; write it in quotes")
	}
	switch v := v.(type) {
	case int:
		return v, nil
	case int64:
		return int(v), nil
	case uint64:
		return v, nil
	case float64:
		if v-v != 0 || (n.tag == "!!float" && !strings.ContainsAny(n.text, ".eE")) {
			return nil, fmt.Errorf("not a number that can be kept exactly; write it in quotes")
		}
		return v, nil
	}
	return nil, fmt.Errorf("not a number that can be kept exactly; write it in quotes")
}

// yaml12 is how YAML 1.2, which editors follow, writes numbers. The library also takes older ways.
var yaml12 = regexp.MustCompile(`^([-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+|[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?)$`)

// quantity is the text of a scalar, and of a number its value written out: an editor, which checks by the schema, cannot
// tell 1e3 from 1000. What is written plainly stays as it is, with all its digits.
func (n *node) quantity() string {
	if (n.tag != "!!int" && n.tag != "!!float") || plainNumber.MatchString(n.text) || !yaml12.MatchString(n.text) {
		return n.text
	}
	v, err := n.number()
	if err != nil {
		return n.text
	}
	if f, ok := v.(float64); ok {
		return strconv.FormatFloat(f, 'f', -1, 64)
	}
	return fmt.Sprint(v)
}
