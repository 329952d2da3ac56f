package policy

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The caps on a file. compose-go's own time grows with the square of the nesting and with the product of aliases and what
// they stand for (measured 2026-11 with v2.16: 9,000 brackets took a minute and 53 GB of allocations, 10,000 aliases to one
// long string as long). Its YAML parser refuses what expands more than a hundredfold, and these caps keep the hundredfold
// small. They look at bytes, not at YAML: a count of everything that may be a bracket or an alias, wherever it stands,
// cannot be fooled by quoting.
const (
	maxFile     = 256 << 10
	maxBrackets = 1000     // [ and {, but for ${: no nesting of flow style is deeper
	maxIndent   = 200      // columns: no nesting of block style is deeper
	maxMarks    = 8        // "- - - x": nesting in one line
	maxNodes    = 10000    // lines, commas and brackets
	maxAliased  = 1500     // the same where the file has aliases
	maxExpanded = 16 << 20 // bytes, were every alias the whole file
	maxText     = 1 << 20  // of all strings, once aliases and variables are resolved
	maxRefs     = 64       // ${…} in one string: their nesting
	maxPorts    = 512
	maxServices = 64
	maxProblems = 50 // told at once
	maxScale    = 64 // containers of all services together
)

// bound refuses what would cost too much to parse.
func bound(src []byte) error {
	switch {
	case len(src) > maxFile:
		return fmt.Errorf("the file has %d bytes; at most %d are read", len(src), maxFile)
	case !utf8.Valid(src):
		return errors.New("the file is not UTF-8 text")
	case bytes.IndexByte(src, 0) >= 0:
		return errors.New("the file has a NUL byte")
	}
	brackets := bytes.Count(src, []byte("[")) + bytes.Count(src, []byte("{")) - bytes.Count(src, []byte("${"))
	if brackets > maxBrackets {
		return fmt.Errorf("the file has %d opening brackets; at most %d are read", brackets, maxBrackets)
	}
	nodes, most := brackets+bytes.Count(src, []byte(",")), maxNodes
	for n, line := range strings.FieldsFunc(string(src), func(r rune) bool { return r == '\n' || r == '\r' || r == '\u0085' || r == '\u2028' || r == '\u2029' }) {
		nodes++
		rest := strings.TrimLeft(line, " \t")
		if len(line)-len(rest) > maxIndent && rest != "" {
			return fmt.Errorf("line %d or so is indented by %d; at most %d are read", n+1, len(line)-len(rest), maxIndent)
		}
		marks := 0
		for len(rest) > 1 && strings.IndexByte("-?:", rest[0]) >= 0 && (rest[1] == ' ' || rest[1] == '\t') {
			rest = strings.TrimLeft(rest[1:], " \t")
			marks++
		}
		if marks > maxMarks {
			return fmt.Errorf("line %d or so nests %d lists; at most %d are read", n+1, marks, maxMarks)
		}
	}
	if n := aliases(src); n > 0 {
		if most = maxAliased; n*len(src) > maxExpanded {
			return fmt.Errorf("the file has about %d aliases in %d bytes; the product of both is at most %d", n, len(src), maxExpanded)
		}
	}
	if nodes > most {
		return fmt.Errorf("the file has about %d values; at most %d are read, and %d in a file with aliases", nodes, maxNodes, maxAliased)
	}
	return nil
}

// aliases counts what may be an alias: a * that begins a word.
func aliases(src []byte) int {
	n := 0
	for i, c := range src {
		if c != '*' || i+1 == len(src) || strings.IndexByte(" \t\r\n", src[i+1]) >= 0 {
			continue
		}
		if i == 0 || strings.IndexByte(" \t\r\n[]{},:-?", src[i-1]) >= 0 {
			n++
		}
	}
	return n
}

var portRange = regexp.MustCompile(`(?:^|:)(\d+)-(\d+)(?:/[^:]*)?(?::|$)`)

// portsIn is how many ports a string stands for where it is a range of them: compose-go makes a value of each.
func portsIn(s string) int {
	widest := 0
	for _, m := range portRange.FindAllStringSubmatch(s, -1) {
		from, _ := strconv.Atoi(m[1])
		to, _ := strconv.Atoi(m[2])
		widest = max(widest, min(to-from, 1<<16)+1)
	}
	return widest
}
