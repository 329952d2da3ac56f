// Command docs fills the generated parts of the Markdown files named on its command line: what stands between
//
//	<!-- adapters -->           and  <!-- /adapters -->      a table of what each adapter supports, asked of its code
//	<!-- code: file#region -->  and  <!-- /code -->          a region of a Go file, or all of it, that compiles and is tested
//
// Files are relative to the root of the module, in which the command runs. A region begins with a line "// docs:begin name"
// and ends with "// docs:end". `make generate` runs the command, and its test fails while a file is not up to date.
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

//go:generate go run . -C ../../.. README.md docs/extension-sdk.md

func main() {
	args := os.Args[1:]
	if len(args) > 1 && args[0] == "-C" {
		if err := os.Chdir(args[1]); err != nil {
			fail(err)
		}
		args = args[2:]
	}
	for _, name := range args {
		if err := update(context.Background(), name); err != nil {
			fail(err)
		}
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "docs:", err)
	os.Exit(1)
}

func update(ctx context.Context, name string) error {
	old, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	text, err := fill(ctx, ".", string(old))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if bytes.Equal(old, []byte(text)) {
		return nil
	}
	return os.WriteFile(name, []byte(text), 0o644)
}

var part = regexp.MustCompile(`(?s)(<!-- (adapters|code: ([^ #]+)(?:#([^ ]+))?) -->\n).*?(<!-- /(?:adapters|code) -->)`)

// fill returns text with its generated parts renewed; root is the directory of the module.
func fill(ctx context.Context, root, text string) (string, error) {
	var problem error
	out := part.ReplaceAllStringFunc(text, func(found string) string {
		m := part.FindStringSubmatch(found)
		var body string
		var err error
		if m[2] == "adapters" {
			body, err = table(ctx)
		} else {
			body, err = code(filepath.Join(root, filepath.FromSlash(m[3])), m[4])
		}
		if err != nil && problem == nil {
			problem = err
		}
		return m[1] + body + m[5]
	})
	return out, problem
}

// code returns a region of a Go file, or all of it where region is "", as a fenced block without the regions' own marks.
func code(file, region string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	var lines []string
	inside, found := region == "", region == ""
	for line := range strings.Lines(string(text)) {
		switch mark := strings.TrimSpace(line); {
		case mark == "// docs:begin "+region && region != "":
			inside, found = true, true
		case mark == "// docs:end" && region != "":
			inside = false
		case strings.HasPrefix(mark, "// docs:"):
		case inside:
			lines = append(lines, strings.TrimRight(line, "\r\n"))
		}
	}
	if !found {
		return "", fmt.Errorf("%s has no region %q", file, region)
	}
	return "```go\n" + strings.TrimSpace(dedent(lines)) + "\n```\n", nil
}

// dedent takes away the tabs that all lines begin with.
func dedent(lines []string) string {
	least := -1
	for _, l := range lines {
		if strings.TrimSpace(l) == "" {
			continue
		}
		if tabs := len(l) - len(strings.TrimLeft(l, "\t")); least < 0 || tabs < least {
			least = tabs
		}
	}
	for i, l := range lines {
		lines[i] = strings.TrimPrefix(l, strings.Repeat("\t", max(least, 0)))
	}
	return strings.Join(lines, "\n")
}
