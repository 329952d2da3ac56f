package registry_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/registry"
)

// fill repeats unit up to just below the size limit.
func fill(head, unit string) string {
	const most = 1 << 20
	return head + strings.Repeat(unit, (most-len(head))/len(unit))
}

// bomb is a document whose aliases, written out, are ten to the power of levels values.
func bomb(levels int) string {
	var b strings.Builder
	b.WriteString("id: ext.bomb\nconfig:\n  a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := 1; i < levels; i++ {
		fmt.Fprintf(&b, "  a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 10), ", "))
	}
	return b.String()
}

// repeated is a document of 16 KiB whose aliases, written out, are 20 MB in 2,000 strings.
func repeated(text string) string {
	return "id: ext.a\nconfig:\n  a: &a \"" + strings.Repeat(text, 10_000/len(text)) + "\"\n  b: [" + strings.Repeat("*a,", 2000) + "]\n"
}

// repeatedKey is repeated with the text in the key of a mapping.
func repeatedKey(text string) string {
	return "id: ext.a\nconfig:\n  a: &a {? \"" + strings.Repeat(text, 10_000/len(text)) + "\" : 1}\n  b: [" + strings.Repeat("*a,", 2000) + "]\n"
}

// TestHostile: documents that were made to exhaust a reader are refused quickly. A long string behind many aliases was once
// accepted, after a search for secrets that took 24 seconds for a document of 16 KiB.
func TestHostile(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ doc, want string }{
		"too large":          {fill("id: ext.a\n#", "x") + strings.Repeat("x", 100), "a.yaml:1:1: the document has more than 1048576 bytes"},
		"alias bomb":         {bomb(60), "values, with aliases written out"},
		"repeated string":    {repeated("x "), "bytes of text (2 MiB), with aliases written out"},
		"repeated key":       {repeatedKey("x "), "bytes of text (2 MiB), with aliases written out"},
		"alias chain":        {aliasChain(100), "nested more than 64 levels deep"},
		"alias in itself":    {"id: ext.a\nconfig: &x\n  - a: [*x, *x, *x]\n", "this alias contains itself"},
		"flow sequences":     {fill("id: ext.a\nconfig: ", "["), ""},
		"flow mappings":      {fill("id: ext.a\nconfig: ", "{a: "), ""},
		"closed nesting":     {"config: " + strings.Repeat("[", 9000) + strings.Repeat("]", 9000), "nested more than 64 levels deep"},
		"nesting of 65":      {"config: " + strings.Repeat("[", 64) + strings.Repeat("]", 64), "nested more than 64 levels deep"},
		"block sequences":    {fill("id: ext.a\nconfig:\n  ", "- "), ""},
		"complex keys":       {fill("", "? "), ""},
		"many keys":          {fill("", "a:\n"), "duplicate key"},
		"many items":         {fill("config:\n", "- x\n"), "more than 20000 values"},
		"many unknown keys":  {manyKeys(9000), "more problems"},
		"many anchors":       {fill("config:\n", "- &a x\n"), ""},
		"anchors only":       {fill("config: ", "&a "), ""},
		"tags only":          {fill("config: ", "!a "), ""},
		"quotes":             {fill("config: ", "'' "), ""},
		"open quote":         {fill("config: \"", "x "), ""},
		"colons":             {fill("", ": "), ""},
		"comments":           {fill("", "# x\n"), "the document is empty"},
		"comments in a list": {fill("config:\n", "- # x\n"), ""},
		"comments before":    {fill("config:\n", "# x\n- x\n"), ""},
		"comments behind":    {fill("config:\n", "- x # x\n\n# y\n\n"), ""},
		"comments inside":    {fill("config: [", "# x\nx,"), ""},
		"comment of a key":   {fill("config:\n", "- a: # x\n    b\n# y\n"), ""},
		"spaces":             {fill("id:", " "), ""},
		"newlines":           {fill("id:", "\n"), ""},
		"documents":          {fill("", "---\n"), ""},
		"directives":         {fill("", "%TAG ! x\n"), ""},
		"plain lines":        {fill("id: ", "x\n "), ""},
		"long key":           {fill("", "x") + ": y", ""},
		"block scalars":      {fill("config:\n", "- |\n"), ""},
		"commas":             {fill("config: [", ","), ""},
		"deep block":         {deepBlock(1300), "nested more than 64 levels deep"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			_, err := registry.New(registry.WithYAML("a.yaml", []byte(tt.doc)))
			took := time.Since(start)
			if took > time.Minute { // a second and less, where nothing else runs and without the race detector
				t.Errorf("took %v", took)
			}
			if sandboxer.CodeOf(err) != sandboxer.InvalidArgument {
				t.Fatalf("got %.200v, want InvalidArgument", err)
			}
			if !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "a.yaml:") {
				t.Errorf("got %.400v, want a place and %q", err, tt.want)
			}
			if len(err.Error()) > 20_000 {
				t.Errorf("the message has %d bytes", len(err.Error()))
			}
		})
	}
}

func aliasChain(n int) string {
	var b strings.Builder
	b.WriteString("config:\n  a0: &a0 [x]\n")
	for i := 1; i < n; i++ {
		fmt.Fprintf(&b, "  a%d: &a%d [*a%d]\n", i, i, i-1)
	}
	return b.String()
}

func manyKeys(n int) string {
	var b strings.Builder
	b.WriteString("id: ext.a\n")
	for i := range n {
		fmt.Fprintf(&b, "handlr%d: x\n", i)
	}
	return b.String()
}

func deepBlock(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

// TestLongStrings: the limit for text is for aliases. No document within its size is refused for it without them, also not
// with escapes that are longer when they are read, and a long string may stand in several places.
func TestLongStrings(t *testing.T) {
	t.Parallel()
	for name, doc := range map[string]string{
		"escapes": "id: \"" + strings.Repeat(`\L`, 500_000) + "\"\n",
		"aliases": ext("ext.a", `config: {a: &a "`+strings.Repeat("x ", 5_000)+`", b: [*a, *a, *a]}`),
	} {
		_, err := registry.New(adapters(), yamlDoc("ext.a.yaml", doc))
		if err != nil && strings.Contains(err.Error(), "aliases written out") || (err == nil) != (name == "aliases") {
			t.Errorf("%s: %.300v", name, err)
		}
	}
}
