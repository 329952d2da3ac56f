package shell

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/sand-boxer/sandboxer/adapters/fake/internal/memfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type outcome struct {
	Out, Err string
	Result   Result
}

// locked keeps what streams of several processes write.
type locked struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *locked) WriteContext(_ context.Context, b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func newSystem(t testing.TB) *System {
	t.Helper()
	tree := memfs.New()
	if err := tree.MkdirAll("/workspace", 0o755); err != nil {
		t.Fatal(err)
	}
	return &System{FS: tree, Name: "box"}
}

func runIn(ctx context.Context, sys *System, stdin string, argv ...string) outcome {
	var out, errs locked
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	res := sys.Run(ctx, Command{Argv: argv, Dir: "/workspace", Stdin: plain{Reader: strings.NewReader(stdin)},
		Stdout: &out, Stderr: &errs, Go: wg.Go, Children: ctx})
	wg.Wait()
	return outcome{out.b.String(), errs.b.String(), res}
}

func script(t testing.TB, stdin, text string) outcome {
	t.Helper()
	return runIn(t.Context(), newSystem(t), stdin, "sh", "-c", text)
}

func TestScripts(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, script, out string }{
		{"echo", `echo a  b`, "a b\n"},
		{"quotes", `echo 'a  $b' "c  d" e\ f`, "a  $b c  d e f\n"},
		{"quotes in quotes", `echo "a'b" 'c"d' "e\"f" "\$g" "\x"`, "a'b c\"d e\"f $g \\x\n"},
		{"empty field", `printf '[%s]' "" '' x`, "[][][x]"},
		{"variable", `x=1; y="$x 2"; echo $y "${y}3"`, "1 2 1 23\n"},
		{"splitting", `x=" a  b "; printf '[%s]' $x; printf '[%s]' "$x"; printf '[%s]' c${x}d`, "[a][b][ a  b ][c][a][b][d]"},
		{"no field", `x=; printf '[%s]' a $x b`, "[a][b]"},
		{"defaults", `echo ${x:-d e} ${x-f} "${x:-g h}"; x=; echo [${x-a}] [${x:-b}] [${x:+c}] [${x+d}]`, "d e f g h\n[] [b] [] [d]\n"},
		{"assign default", `: ${x:=7}; echo $x`, "7\n"},
		{"length", `x=abcd; echo ${#x} $#`, "4 0\n"},
		{"trim", `x=/a/b.c.d; echo ${x##*/} ${x#*/} ${x%.*} ${x%%.*}`, "b.c.d a/b.c.d /a/b.c /a/b\n"},
		{"arithmetic", `x=3; echo $((x*2+1)) $(( (1+2)*3 )) $((7/2)) $((7%4)) $((1<2)) $((-x)) $((1<<4)) $((!0)) $((0x10))`, "7 9 3 3 1 -3 16 1 16\n"},
		{"logic in arithmetic", `echo $((1 && 0)) $((1 || 0)) $((3 & 1)) $((2 | 1)) $((2 == 2)) $((2 != 2)) $((3 >= 3))`, "0 1 1 3 1 0 1\n"},
		{"substitution", "echo $(echo a; echo b) \"$(printf 'c\\nd\\n\\n')\" `echo e`", "a b c\nd e\n"},
		{"nested substitution", `echo $(echo $(echo "$(echo deep)"))`, "deep\n"},
		{"and or", `true && echo a || echo b; false && echo c || echo d; ! false && echo e`, "a\nd\ne\n"},
		{"pipe", `printf 'b\na\n' | sort | head -n 1`, "a\n"},
		{"pipe of groups", `{ echo a; echo b; } | while read x; do echo "<$x>"; done`, "<a>\n<b>\n"},
		{"if", `if false; then echo a; elif true; then echo b; else echo c; fi`, "b\n"},
		{"else", `if false; then echo a; else echo c; fi`, "c\n"},
		{"for", `for i in 1 "2 3" $(seq 4 5); do echo $i; done`, "1\n2 3\n4\n5\n"},
		{"for params", `f() { for a; do echo $a; done; }; f x "y z"`, "x\ny z\n"},
		{"while", `i=0; while [ $i -lt 3 ]; do i=$((i+1)); [ $i = 2 ] && continue; echo $i; done`, "1\n3\n"},
		{"until and break", `i=0; until false; do i=$((i+1)); if [ $i -gt 2 ]; then break; fi; done; echo $i`, "3\n"},
		{"break two", `for i in 1 2; do for j in 1 2; do echo $i$j; break 2; done; done`, "11\n"},
		{"case", `for x in abc b z.go; do case $x in a*|q) echo one;; b) echo two;; *.go) echo three;; esac; done`, "one\ntwo\nthree\n"},
		{"quoted pattern", `case '*' in "*") echo star;; esac; case x in '*') echo no;; *) echo any;; esac`, "star\nany\n"},
		{"function", `f() { echo "$1-$#"; return 3; }; f a b; echo $?`, "a-2\n3\n"},
		{"function with space", "f () {\n echo in\n}\nf", "in\n"},
		{"subshell", `x=1; (x=2; cd /; echo $x $PWD); echo $x $PWD`, "2 /\n1 /workspace\n"},
		{"all params", `set -- a "b c"; printf '[%s]' "$@"; printf '[%s]' $*; printf '[%s]' "$*"; shift; echo $1`, "[a][b c][a][b][c][a b c]b c\n"},
		{"redirect", `echo a > f; echo b >> f; cat < f; wc -l < f`, "a\nb\n2\n"},
		{"redirect stderr", `{ echo out; echo err >&2; } 2>/dev/null`, "out\n"},
		{"merge", `{ echo out; echo err >&2; } > f 2>&1; sort f`, "err\nout\n"},
		{"here-document", "x=1; cat <<EOF\na $x $((1+1))\n\\$x\nEOF\necho after", "a 1 2\n$x\nafter\n"},
		{"quoted here-document", "cat <<'E'\n$x\nE", "$x\n"},
		{"dashed here-document", "cat <<-E | tr a b\n\ta\n\tE\n", "b\n"},
		{"two here-documents", "cat <<A; cat <<B\n1\nA\n2\nB\n", "1\n2\n"},
		{"globbing", `mkdir d; touch d/a.c d/b.c .h x; echo *; echo d/*.c; echo "*" d/z*`, "d x\nd/a.c d/b.c\n* d/z*\n"},
		{"glob class", `touch a1 a2 b1; echo a[12] [!a]1`, "a1 a2 b1\n"},
		{"comment", "echo a # b\n# c\necho d#e", "a\nd#e\n"},
		{"continued line", "echo a \\\n b", "a b\n"},
		{"status", `false; echo $?; (exit 7); echo $?; sh -c 'exit 9'; echo $?`, "1\n7\n9\n"},
		{"env for one", `X=1 sh -c 'echo $X'; echo [$X]`, "1\n[]\n"},
		{"export", `export A=1; B=2; sh -c 'echo $A$B'`, "1\n"},
		{"errexit", `sh -ec 'false || true; if false; then :; fi; echo a; false; echo b'; echo $?`, "a\n1\n"},
		{"nounset", `sh -uc 'echo $nope; echo b' 2>/dev/null; echo $?`, "2\n"},
		{"exit trap", `trap 'echo bye' EXIT; echo hi; exit 4`, "hi\nbye\n"},
		{"eval", `x='echo a; echo b'; eval "$x"`, "a\nb\n"},
		{"source", `echo 'y=5' > lib; . ./lib; echo $y`, "5\n"},
		{"script file", "printf '#!/bin/sh\\necho \"$0 $1\"\\n' > s; chmod +x s; ./s arg", "./s arg\n"},
		{"read", `echo "a b c" | { read x y; echo "$y,$x"; }`, "b c,a\n"},
		{"exec", `exec echo a; echo b`, "a\n"},
		{"exec redirect", `exec > f; echo a; exec >&2; cat f`, ""},
		{"background", `echo b > f & wait; cat f; (exit 3) & wait $!; echo $?`, "b\n3\n"},
		{"kill child", `sleep 1000 & kill $!; wait $!; echo $?`, "143\n"},
		{"kill child hard", `sleep 1000 & kill -9 $!; wait $!; echo $?`, "137\n"},
		{"broken pipe", `yes | head -n 2`, "y\ny\n"},
		{"args of -c", `sh -c 'echo $0 $1' name arg`, "name arg\n"},
		{"stdin script", `echo 'echo in' | sh`, "in\n"},
		{"command -v", `command -v cat && command -v nonesuch || echo no`, "cat\nno\n"},
		{"test", `[ -n a ] && [ ! -e q ] && [ 2 -ge 1 -a a != b ] && test -d / && echo ok`, "ok\n"},
		{"links", `echo t > f; ln -s f l; cat l; readlink l; [ -L l ] && echo link; rm l; cat f`, "t\nf\nlink\nt\n"},
		{"stat", `touch -d '2020-01-02T03:04:05.123456789Z' f; chmod 640 f; stat -c '%a %Y %y %F' f`, "640 1577934245 2020-01-02 03:04:05.123456789 +0000 regular empty file\n"},
		{"cp", `mkdir d; echo 1 > d/a; ln -s a d/l; cp -a d e; cat e/l; readlink e/l; cp d/a d/b; cat d/b`, "1\na\n1\n"},
		{"mv", `echo 1 > a; mkdir d; mv a d; cat d/a; mv d/a d/b; ls d`, "1\nb\n"},
		{"find", `mkdir -p a/b; touch a/b/c; find a -type f; find . -name 'b'`, "a/b/c\n./a/b\n"},
		{"text tools", `printf 'b\na\na\n' | sort -u | tr a-z A-Z | grep -v B`, "A\n"},
		{"tail", `seq 5 | tail -n 2; printf abcdef | tail -c 2`, "4\n5\nef"},
		{"printf", `printf '%s=%03d\n' a 5 b 6; printf '\303\050\x41%%'`, "a=005\nb=006\n\303\050A%"},
		{"digest", `printf abc | sha256sum`, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  -\n"},
		{"base64", `printf 'a\0b' | base64; echo YQBi | base64 -d | wc -c`, "YQBi\n3\n"},
		{"timeout", `timeout 0.001 sleep 1000; echo $?`, "124\n"},
		{"nohup", `nohup setsid echo a`, "a\n"},
		{"dup number", `echo a 3>&1 >&3`, "a\n"},
		{"names with spaces", `echo x > 'a b'; for f in *; do echo "[$f]"; done; cat "a b"`, "[a b]\nx\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got := script(t, "", tc.script)
			if got.Out != tc.out {
				t.Errorf("%s\nprinted %q\n   want %q\n stderr %q", tc.script, got.Out, tc.out, got.Err)
			}
		})
	}
}

func TestEndings(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, script string
		want         outcome
	}{
		{"exit code", "exit 300", outcome{Result: Result{Code: 44}}},
		{"signal", "kill -9 $$; echo never", outcome{Result: Result{Code: -1, Signal: "SIGKILL"}}},
		{"term", "kill -s TERM $$; sleep 1000", outcome{Result: Result{Code: -1, Signal: "SIGTERM"}}},
		{"ignored", "trap '' TERM; kill $$; echo alive", outcome{Out: "alive\n"}},
		{"unknown command", "nonesuch", outcome{Err: "nonesuch: not found (a fake sandbox knows sh and a few commands; answer others with OnExec)\n", Result: Result{Code: 127}}},
		{"unknown flag", "head -z", outcome{Err: "head: -z is not supported in a fake sandbox\n", Result: Result{Code: 2}}},
		{"missing file", "cat nope", outcome{Err: "cat: open /workspace/nope: file does not exist\n", Result: Result{Code: 1}}},
		{"syntax", "if true", outcome{Err: "sh: syntax error: \"then\" is missing before \"\"\n", Result: Result{Code: 2}}},
		{"open quote", "echo 'a", outcome{Err: "sh: syntax error: a single quote is not closed\n", Result: Result{Code: 2}}},
		{"no permission", "echo true > s; ./s", outcome{Err: "./s: permission denied\n", Result: Result{Code: 126}}},
		{"full device", "echo a > /dev/full", outcome{Err: "echo: no space left on device\n", Result: Result{Code: 1}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tc.want, script(t, "", tc.script)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.script, diff)
			}
		})
	}
}

func TestArgvIsNotAShell(t *testing.T) {
	t.Parallel()
	want := "[a b][$x][*][][\n][']"
	got := runIn(t.Context(), newSystem(t), "", "printf", "[%s]", "a b", "$x", "*", "", "\n", "'")
	if got.Out != want {
		t.Errorf("printed %q, want %q", got.Out, want)
	}
}

func TestStdin(t *testing.T) {
	t.Parallel()
	if got := script(t, "a\nb\n", "read x; echo $x; cat"); got.Out != "a\nb\n" {
		t.Errorf("printed %q", got.Out)
	}
}

func TestKilledInTheMiddle(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"sleep 1000", "sleep 1000 | cat", "while :; do :; done", "yes | cat > /dev/null", "sleep 1000 & wait",
		"x=$(sleep 1000)", "(sleep 1000)", "trap '' TERM; sh -c 'sleep 1000 & sleep 1000'", "cat /dev/zero > /dev/null"} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				sys := newSystem(t)
				ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
				if strings.Contains(text, "while") || strings.Contains(text, "yes") || strings.Contains(text, "zero") {
					go cancel() // busy: the clock of the bubble stands still
				}
				defer cancel()
				runIn(ctx, sys, "", "sh", "-c", text)
				if len(sys.procs) > 0 {
					t.Errorf("%d processes are left", len(sys.procs))
				}
			})
		})
	}
}

func TestDeepNestingIsRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{strings.Repeat("(", 1e5), strings.Repeat("$(", 1e5), strings.Repeat("if ", 1e5), `f() { f; }; f`,
		"echo $((" + strings.Repeat("(", 1e5) + "))", "echo $((" + strings.Repeat("-", 1e5) + "1))", strings.Repeat("${a:-", 1e5)} {
		if got := script(t, "", text); got.Result.Code == 0 {
			t.Errorf("%.20s… was taken: %.100q", text, got.Out)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"echo a | b && c; d &", "for i in $(x); do case $i in a) ;; esac; done", "cat <<E\n$((1+2))\nE\n", "f() { ${a%%b*}; }", "\"`$(\"\\"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, src string) {
		body, err := parse(src)
		if err != nil {
			return
		}
		again, err := parse(src)
		if err != nil {
			t.Fatalf("the second time: %v", err)
		}
		if diff := cmp.Diff(body, again, cmp.AllowUnexported(item{}, andOr{}, pipeline{}, simple{}, group{}, ifClause{}, loop{}, forClause{}, caseClause{}, caseArm{}, function{}, assign{}, redir{}, part{})); diff != "" {
			t.Fatal(diff)
		}
	})
}

// FuzzQuoting checks that what is quoted with the single-quote rule arrives as it was.
func FuzzQuoting(f *testing.F) {
	f.Add("a b")
	f.Add("it's $HOME `x` \"\\\n*")
	f.Fuzz(func(t *testing.T, s string) {
		if strings.Contains(s, "\x00") {
			return
		}
		text := "printf %s '" + strings.ReplaceAll(s, "'", `'\''`) + "'"
		if got := script(t, "", text); got.Out != s {
			t.Fatalf("%q arrived as %q (%s)", s, got.Out, got.Err)
		}
	})
}

func FuzzArithmetic(f *testing.F) {
	f.Add("1+2*(3-4)")
	f.Add("x||!y&&~1<<70")
	f.Fuzz(func(t *testing.T, text string) {
		s := newShell(&proc{sys: newSystem(t), env: map[string]string{}}, "sh", nil)
		n, err := s.evaluate(text)
		if m, err2 := s.evaluate(text); m != n || (err == nil) != (err2 == nil) {
			t.Fatalf("%q is %d, then %d", text, n, m)
		}
	})
}
