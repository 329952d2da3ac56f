package workspace_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/composessh/internal/workspace"
)

// fill makes files of one byte, and files of patterns with their text.
func fill(tb testing.TB, dir string, files map[string]string) {
	tb.Helper()
	for name, text := range files {
		write(tb, filepath.Join(dir, name), text)
	}
}

// files lists what is in a tree, directories only where they are empty.
func files(tb testing.TB, dir string) []string {
	tb.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		if !d.IsDir() {
			out = append(out, rel)
		} else if entries, err := os.ReadDir(p); err != nil || len(entries) == 0 {
			out = append(out, rel+"/")
		}
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	slices.Sort(out)
	return out
}

func push(tb testing.TB, r workspace.Runner, src, dst string, o workspace.PushOptions) workspace.Summary {
	tb.Helper()
	sum, err := workspace.Push(tb.Context(), r, dst, openRoot(tb, src), o)
	if err != nil {
		tb.Fatal(err)
	}
	return sum
}

func TestPushIgnores(t *testing.T) {
	t.Parallel()
	r := newShell(t)
	for _, tc := range []struct {
		name   string
		ignore []string
		noGit  bool
		files  map[string]string
		want   []string
	}{
		{"git", []string{workspace.GitIgnore}, false, map[string]string{
			".gitignore": "*.log\n!keep.log\n/top\nbuild/\nnode_modules\ndoc/**/*.pdf\n", "a.log": "", "keep.log": "", "top": "", "sub/top": "",
			"build/x": "", "sub/build": "", "sub/node_modules/a": "", "doc/a.pdf": "", "doc/x/y/a.pdf": "", "x/doc/a.pdf": "",
			"sub/.gitignore": "!b.log\nown\n", "sub/b.log": "", "sub/own": "", "own": "", ".git/a.log": "", ".git/top": "",
		}, []string{".git/a.log", ".git/top", ".gitignore", "doc/x/y/", "keep.log", "own", "sub/.gitignore", "sub/b.log", "sub/build", "sub/top", "x/doc/a.pdf"}},
		{"docker", []string{workspace.DockerIgnore}, false, map[string]string{
			".dockerignore": "# comment\n*.md\n!README.md\nout\n!out/keep\n**/*.tmp\n/abs\n.git\n", "a.md": "", "README.md": "", "sub/a.md": "",
			"out/x": "", "out/keep": "", "out/deep/x": "", "a.tmp": "", "sub/a/b.tmp": "", "abs": "", "sub/abs": "", ".git/config": "", ".gitignore": "*",
		}, []string{".dockerignore", ".gitignore", "README.md", "out/keep", "sub/a.md", "sub/a/", "sub/abs"}},
		{"both", []string{workspace.DockerIgnore, workspace.GitIgnore}, true, map[string]string{
			".dockerignore": "d\n", ".gitignore": "g\n", "d": "", "g": "", "a": "", ".git/x": "", "sub/.git/y": "",
		}, []string{".dockerignore", ".gitignore", "a", "sub/"}},
		{"a link is no file of patterns", []string{workspace.GitIgnore}, false, map[string]string{
			"patterns": "a\n", "a": "",
		}, []string{".gitignore", "a", "patterns"}},
		{"nothing", nil, false, map[string]string{".gitignore": "*", ".dockerignore": "*", ".git/x": ""}, []string{".dockerignore", ".git/x", ".gitignore"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			src, dst := t.TempDir(), filepath.Join(t.TempDir(), "dst")
			fill(t, src, tc.files)
			if _, has := tc.files["patterns"]; has {
				symlink(t, "patterns", filepath.Join(src, ".gitignore"))
			}
			o := workspace.PushOptions{Ignore: tc.ignore, NoGit: tc.noGit}
			push(t, r, src, dst, o)
			if diff := cmp.Diff(tc.want, files(t, dst)); diff != "" {
				t.Errorf("sent (-want +got):\n%s", diff)
			}
			again := push(t, r, src, dst, o)
			if again.Files+again.Links+again.Dirs+again.Removed > 0 {
				t.Errorf("an unchanged tree: %+v", again)
			}
		})
	}
}

// What is ignored here is left alone there, and what lies around it with it.
func TestPushLeavesAloneWhatIsIgnored(t *testing.T) {
	t.Parallel()
	r := newShell(t)
	src, dst := t.TempDir(), t.TempDir()
	fill(t, src, map[string]string{".gitignore": "node_modules\n*.o\n/cache/\n", "pkg/.gitignore": "local\n", "pkg/a": ""})
	fill(t, dst, map[string]string{
		"node_modules/x/y": "", "gone/node_modules/z": "", "gone/b": "", "gone/deep/c": "", "a.o": "", "pkg/local": "", "pkg/x": "",
		"other/local": "", "cache/x": "", "sub/cache/x": "", ".git/x": "",
	})
	want := []string{".gitignore", "a.o", "cache/x", "gone/node_modules/z", "node_modules/x/y", "pkg/.gitignore", "pkg/a", "pkg/local"}
	push(t, r, src, dst, workspace.PushOptions{Ignore: []string{workspace.GitIgnore}})
	if diff := cmp.Diff(want, files(t, dst)); diff != "" {
		t.Errorf("there is (-want +got):\n%s", diff)
	}
	// What is here has the place, whatever is in the way.
	fill(t, src, map[string]string{"gone": "a file now"})
	push(t, r, src, dst, workspace.PushOptions{Ignore: []string{workspace.GitIgnore}})
	want = slices.DeleteFunc(append(want, "gone"), func(s string) bool { return strings.HasPrefix(s, "gone/") })
	slices.Sort(want)
	if diff := cmp.Diff(want, files(t, dst)); diff != "" {
		t.Errorf("there is (-want +got):\n%s", diff)
	}
}

func TestPushRefusesPatterns(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		o     workspace.PushOptions
		files map[string]string
	}{
		"unknown kind":   {workspace.PushOptions{Ignore: []string{"hgignore"}}, nil},
		"bad pattern":    {workspace.PushOptions{Ignore: []string{workspace.DockerIgnore}}, map[string]string{".dockerignore": "[a\n"}},
		"lone exception": {workspace.PushOptions{Ignore: []string{workspace.DockerIgnore}}, map[string]string{".dockerignore": "!\n"}},
		"too long":       {workspace.PushOptions{Ignore: []string{workspace.GitIgnore}}, map[string]string{"sub/.gitignore": strings.Repeat("a\n", 1<<20)}},
	} {
		src := t.TempDir()
		fill(t, src, tc.files)
		_, err := workspace.Push(t.Context(), &scripted{out: ".0\x00"}, "/nowhere", openRoot(t, src), tc.o)
		if sandboxer.CodeOf(err) != sandboxer.InvalidArgument {
			t.Errorf("%s: %v, want InvalidArgument", name, err)
		}
	}
}

// git is asked about the same trees and patterns.
func TestGitIgnoreIsGits(t *testing.T) {
	t.Parallel()
	program, r := gitProgram(t), newShell(t)
	rnd := rand.New(rand.NewPCG(1, 2))
	pieces := []string{"a", "b", "ab", "abc", "*", "?", "**", "[ab]", "[!a]", "[^b]", "[a-c]", "[]a]", "[[:alpha:]]", "[[:digit:]x]", "[a", "\\a", "\\*", "\\", "-", ".", "é", " ", "\\ ", "[-a]", "[a-]", "[b-a]", "[\\]]", "[[:bogus:]]", "[[:a]"}
	pattern := func() string {
		var b strings.Builder
		if rnd.IntN(5) == 0 {
			b.WriteByte('!')
		}
		if rnd.IntN(4) == 0 {
			b.WriteByte('/')
		}
		for i := range 1 + rnd.IntN(3) {
			if i > 0 {
				b.WriteByte('/')
			}
			for range 1 + rnd.IntN(3)*rnd.IntN(2) {
				b.WriteString(pieces[rnd.IntN(len(pieces))])
			}
		}
		if rnd.IntN(4) == 0 {
			b.WriteByte('/')
		}
		b.WriteString([]string{"", "", "", " ", "\t", "\r", "  \r"}[rnd.IntN(7)])
		return b.String()
	}
	names := []string{"a", "b", "ab", "abc", "c", "x1", "a*", "é", "a b", "-", "]", "[", "\\", ".hid", "a ", "xaby"}
	for round := range 60 {
		src, dst := t.TempDir(), filepath.Join(t.TempDir(), "dst")
		for range 40 {
			parts := make([]string, 1+rnd.IntN(4))
			for i := range parts {
				parts[i] = names[rnd.IntN(len(names))]
			}
			name := filepath.Join(src, filepath.Join(parts...))
			if os.MkdirAll(filepath.Dir(name), 0o755) == nil {
				_ = os.WriteFile(name, nil, 0o644) // where no directory has the name
			}
		}
		git(t, src, "init", "-q")
		where := []string{src}
		for _, n := range files(t, src) {
			if rnd.IntN(6) == 0 && !strings.HasPrefix(n, ".git/") {
				where = append(where, filepath.Dir(filepath.Join(src, n)))
			}
		}
		said := ""
		for i, dir := range where {
			lines := make([]string, 1+rnd.IntN(5))
			for i := range lines {
				lines[i] = pattern()
			}
			text := strings.Join(lines, "\n")
			if i == 0 && round%7 == 0 {
				text = "\ufeff" + text
			}
			write(t, filepath.Join(dir, ".gitignore"), text)
			said += fmt.Sprintf("%s: %q\n", strings.TrimPrefix(dir, src), lines)
		}
		var all []string
		for _, n := range files(t, src) {
			if !strings.HasPrefix(n, ".git/") {
				all = append(all, n)
			}
		}
		cmd := exec.Command(program, "check-ignore", "--no-index", "-z", "--stdin")
		cmd.Dir = src
		cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null")
		cmd.Stdin = strings.NewReader(strings.Join(all, "\x00") + "\x00")
		var out, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &stderr
		var exit *exec.ExitError
		if err := cmd.Run(); err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
			t.Fatalf("%v: %s", err, stderr.String())
		}
		ignored := map[string]bool{}
		for n := range strings.SplitSeq(out.String(), "\x00") {
			ignored[n] = true
		}
		want := slices.DeleteFunc(slices.Clone(all), func(n string) bool { return ignored[n] })
		push(t, r, src, dst, workspace.PushOptions{Ignore: []string{workspace.GitIgnore}, NoGit: true})
		got := slices.DeleteFunc(files(t, dst), func(n string) bool { return strings.HasSuffix(n, "/") && !slices.Contains(want, n) })
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("round %d, patterns\n%s(-git +ours):\n%s", round, said, diff)
		}
	}
}

// Any text is taken as patterns or refused, in a time that does not explode.
func FuzzIgnore(f *testing.F) {
	for _, s := range []string{"*.o\n!a.o\n/x/**/y/\n", "[[:alpha:]-z]*\\", strings.Repeat("*a", 200), strings.Repeat("**/a/", 100), "!\n", "[\n", "\ufeff#\n \\ \n"} {
		f.Add(s)
	}
	src := f.TempDir()
	fill(f, src, map[string]string{strings.Repeat("a", 200): "", strings.Repeat("a/", 100) + "b": "", "x/y/a.o": "", ".git/a": ""})
	root := openRoot(f, src)
	f.Fuzz(func(t *testing.T, text string) {
		fill(t, src, map[string]string{".gitignore": text, ".dockerignore": text})
		r := &scripted{out: "f644 1 1.0 a.o\x00\x00.0\x00"}
		_, err := workspace.Push(t.Context(), r, "/w", root, workspace.PushOptions{Ignore: []string{workspace.GitIgnore, workspace.DockerIgnore}})
		if err != nil && sandboxer.CodeOf(err) != sandboxer.InvalidArgument {
			t.Errorf("error is %v, want InvalidArgument", err)
		}
	})
}
