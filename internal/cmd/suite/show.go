package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
)

// event is a line of `go test -json`.
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
}

// show copies everything to file and prints what `go test` without -v prints: the output of tests that failed or never
// ended, and a line for each package. The first complaint of each test that failed is said once more at the end, where a log
// of a whole run is read first.
func show(in io.Reader, out io.Writer, file string, verbose bool) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	p := printer{out: out, verbose: verbose, said: map[string][]string{}}
	r := bufio.NewReader(in)
	for {
		line, err := r.ReadString('\n')
		if line != "" {
			if _, err := io.WriteString(f, line); err != nil {
				return errors.Join(err, f.Close())
			}
			p.line(line)
		}
		if errors.Is(err, io.EOF) {
			p.summary()
			return f.Close()
		}
		if err != nil {
			return errors.Join(err, f.Close())
		}
	}
}

type printer struct {
	out     io.Writer
	verbose bool
	order   []string            // tests whose end is not known, in the order of their first words
	said    map[string][]string // by package and test
	failed  []string            // a line for each
}

func (p *printer) line(line string) {
	var e event
	if json.Unmarshal([]byte(line), &e) != nil || e.Action == "" {
		fmt.Fprint(p.out, line) // of go itself
		return
	}
	key := e.Package + " " + e.Test
	switch {
	case e.Action == "build-output" || (e.Action == "output" && p.verbose):
		fmt.Fprint(p.out, e.Output)
	case e.Action == "output" && e.Test == "":
		if e.Output != "PASS\n" {
			fmt.Fprint(p.out, e.Output)
		}
	case e.Action == "output":
		if chatter(e.Output) {
			return
		}
		if p.said[key] == nil {
			p.order = append(p.order, key)
		}
		p.said[key] = append(p.said[key], e.Output)
	case e.Test != "" && (e.Action == "pass" || e.Action == "skip"):
		delete(p.said, key)
	case e.Test != "" && e.Action == "fail":
		p.fail(key)
	case e.Test == "" && e.Action == "fail":
		for _, k := range p.order { // a program that died takes down tests that had not ended
			if strings.HasPrefix(k, e.Package+" ") && p.said[k] != nil {
				p.fail(k)
			}
		}
	}
}

// said is how a line begins that a test said itself.
var said = regexp.MustCompile(`^[\w-]+\.go:\d+:`)

// fail prints what a test said.
func (p *printer) fail(key string) {
	complaint, ofTest := "", false
	for i, text := range p.said[key] {
		fmt.Fprint(p.out, text)
		text = strings.TrimSpace(text)
		switch {
		case strings.HasPrefix(text, "---"), ofTest:
		case said.MatchString(text):
			complaint, ofTest = text, true
			if next := p.said[key][i+1:]; strings.HasSuffix(text, ":") && len(next) > 0 { // what it is about follows
				complaint += " " + strings.TrimSpace(next[0])
			}
		case complaint == "": // of a panic, or of a program that the test ran
			complaint = text
		}
	}
	delete(p.said, key)
	if complaint != "" { // the parent of a subtest has none
		p.failed = append(p.failed, key+": "+complaint)
	}
}

func (p *printer) summary() {
	if len(p.failed) == 0 {
		return
	}
	fmt.Fprintf(p.out, "\n%d tests complained, first of all:\n", len(p.failed))
	for _, line := range p.failed {
		fmt.Fprintln(p.out, line)
	}
}

// chatter is what -v says about the order of tests.
func chatter(text string) bool {
	for _, word := range []string{"=== RUN", "=== PAUSE", "=== CONT", "=== NAME"} {
		if strings.HasPrefix(text, word) {
			return true
		}
	}
	return false
}
