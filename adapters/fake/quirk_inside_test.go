package fake_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
)

func (l *lab) copyOut(src string) (map[string]*tar.Header, map[string]string, error) {
	var raw bytes.Buffer
	if err := as[sandboxer.FileTransferer](l, l.ext).CopyOut(l.Context(), l.sbx, src, &raw); err != nil {
		return nil, nil, err
	}
	heads, texts := map[string]*tar.Header{}, map[string]string{}
	for tr := tar.NewReader(&raw); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return heads, texts, nil
		}
		if err != nil {
			return nil, nil, err
		}
		text, err := io.ReadAll(tr)
		if err != nil {
			return nil, nil, err
		}
		heads[h.Name], texts[h.Name] = h, string(text)
	}
}

// sync brings a tree of one file.
func (l *lab) sync(dst string) error {
	src := fstest.MapFS{"new": {Data: []byte("text\n"), Mode: 0o640, ModTime: stamp}}
	return as[sandboxer.Syncer](l, l.ext).Sync(l.Context(), l.sbx, dst, src)
}

var stamp = time.Date(2020, 1, 2, 3, 4, 5, 123456789, time.UTC)

// tree is a tar stream with one of everything.
func tree(t testing.TB) *bytes.Buffer {
	var raw bytes.Buffer
	tw := tar.NewWriter(&raw)
	for _, e := range []struct {
		h    tar.Header
		text string
	}{
		{tar.Header{Name: "empty/", Typeflag: tar.TypeDir, Mode: 0o700}, ""},
		{tar.Header{Name: "binary", Typeflag: tar.TypeReg, Mode: 0o640}, "a\x00b\xff"},
		{tar.Header{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "binary"}, ""},
	} {
		e.h.ModTime, e.h.Size, e.h.Format = stamp, int64(len(e.text)), tar.FormatPAX
		if err := tw.WriteHeader(&e.h); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte(e.text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return &raw
}

// roundTrip copies the tree in and out and asks about what came back.
func roundTrip(check func(heads map[string]*tar.Header, texts map[string]string) error) func(*lab) error {
	return func(l *lab) error {
		if err := as[sandboxer.FileTransferer](l, l.ext).CopyIn(l.Context(), l.sbx, "t", tree(l)); err != nil {
			return err
		}
		heads, texts, err := l.copyOut("t")
		if err != nil {
			return err
		}
		return check(heads, texts)
	}
}

// blocked is an input that never comes until it is closed.
type blocked chan struct{}

func (b blocked) Read([]byte) (int, error) {
	<-b
	return 0, io.EOF
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("no room") }

// insideProbes are those of commands and files.
func insideProbes() map[fake.Quirk]func(*lab) error {
	return map[fake.Quirk]func(*lab) error{
		fake.ExecLosesTail: func(l *lab) error { return l.prints("echo tail", "tail\n") },
		fake.ExecMergesStreams: func(l *lab) error {
			out, errs, _, err := l.run(sandboxer.ExecRequest{}, "echo a; echo b >&2")
			return errors.Join(err, expect(out == "a\n" && errs == "b\n", "%q and %q", out, errs))
		},
		fake.ExecReorders: func(l *lab) error { return l.prints("echo a; echo b; echo c", "a\nb\nc\n") },
		fake.ExecLosesExitCode: func(l *lab) error {
			_, _, res, err := l.run(sandboxer.ExecRequest{}, "exit 7")
			return errors.Join(err, expect(res.ExitCode == 7, "exit code %d", res.ExitCode))
		},
		fake.ExecExitIsError: func(l *lab) error { _, _, _, err := l.run(sandboxer.ExecRequest{}, "exit 7"); return err },
		fake.ExecIgnoresTimeout: func(l *lab) error {
			_, _, res, err := l.run(sandboxer.ExecRequest{Timeout: time.Second}, "sleep 10")
			return errors.Join(err, expect(res.TimedOut && res.Duration == time.Second, "%+v", res))
		},
		fake.ExecIgnoresDir: func(l *lab) error {
			out, _, _, err := l.run(sandboxer.ExecRequest{Dir: "/tmp"}, "pwd")
			return errors.Join(err, expect(out == "/tmp\n", "in %q", out))
		},
		fake.ExecIgnoresEnv: func(l *lab) error {
			out, _, _, err := l.run(sandboxer.ExecRequest{Env: map[string]string{"A": "b"}}, "echo $A")
			return errors.Join(err, expect(out == "b\n", "A is %q", out))
		},
		fake.ExecIgnoresStdin: func(l *lab) error {
			out, _, _, err := l.run(sandboxer.ExecRequest{Stdin: strings.NewReader("in")}, "cat")
			return errors.Join(err, expect(out == "in", "read %q", out))
		},
		fake.ExecWaitsForStdin: func(l *lab) error {
			in := make(blocked)
			begun := time.Now()
			time.AfterFunc(time.Hour, func() { close(in) })
			_, _, _, err := l.run(sandboxer.ExecRequest{Stdin: in}, "timeout 1 cat; exit 0")
			took := time.Since(begun)
			time.Sleep(time.Hour)
			return errors.Join(err, expect(took == time.Second, "took %v", took))
		},
		fake.ExecWaitsForChildren: func(l *lab) error {
			begun := time.Now()
			_, _, _, err := l.run(sandboxer.ExecRequest{}, "sleep 100 &")
			return errors.Join(err, expect(time.Since(begun) == 0, "took %v", time.Since(begun)))
		},
		fake.ExecKillsChildren: func(l *lab) error {
			err := l.prints("{ sleep 1; echo x > f; } & echo a", "a\n")
			time.Sleep(2 * time.Second)
			return errors.Join(err, l.prints("cat f", "x\n"))
		},
		fake.ExecJoinsArgs: func(l *lab) error {
			var out bytes.Buffer
			_, err := as[sandboxer.Executor](l, l.ext).Exec(l.Context(), l.sbx, sandboxer.ExecRequest{Command: []string{"printf", "[%s]", "a b", ""}, Stdout: &out})
			return errors.Join(err, expect(out.String() == "[a b][]", "%q", out.String()))
		},
		fake.ExecMangles: func(l *lab) error { return l.prints(`printf '\377'`, "\xff") },
		fake.ExecIgnoresWriteErr: func(l *lab) error {
			_, _, _, err := l.run(sandboxer.ExecRequest{Stdout: brokenWriter{}, Timeout: time.Minute}, "echo a; sleep 3600")
			return expect(err != nil && strings.Contains(err.Error(), "no room"), "%v", err)
		},
		fake.ExecLeavesProcess: func(l *lab) error {
			ctx, cancel := context.WithTimeout(l.Context(), time.Second)
			defer cancel()
			_, err := as[sandboxer.Executor](l, l.ext).Exec(ctx, l.sbx, sandboxer.ExecRequest{Command: []string{"sh", "-c", "sleep 2; echo x > f"}})
			time.Sleep(5 * time.Second)
			return errors.Join(code(err, sandboxer.DeadlineExceeded), l.prints("cat f || echo killed", "killed\n"))
		},
		fake.CopyDropsModes: roundTrip(func(h map[string]*tar.Header, _ map[string]string) error {
			return expect(h["binary"].Mode == 0o640 && h["empty/"].Mode == 0o700, "modes %o, %o", h["binary"].Mode, h["empty/"].Mode)
		}),
		fake.CopyDropsTimes: roundTrip(func(h map[string]*tar.Header, _ map[string]string) error {
			return expect(h["binary"].ModTime.Equal(stamp) && h["empty/"].ModTime.Equal(stamp) && h["link"].ModTime.Equal(stamp), "times %v", h["binary"].ModTime)
		}),
		fake.CopyDropsEmpty: roundTrip(func(h map[string]*tar.Header, _ map[string]string) error {
			return expect(h["empty/"] != nil, "no empty/")
		}),
		fake.CopyFollowsLinks: roundTrip(func(h map[string]*tar.Header, _ map[string]string) error {
			return expect(h["link"] != nil && h["link"].Linkname == "binary", "link is %+v", h["link"])
		}),
		fake.CopyCutsBinary: roundTrip(func(_ map[string]*tar.Header, texts map[string]string) error {
			return expect(texts["binary"] == "a\x00b\xff", "content %q", texts["binary"])
		}),
		fake.CopyOtherWorld: func(l *lab) error {
			err := as[sandboxer.FileTransferer](l, l.ext).CopyIn(l.Context(), l.sbx, "t", tree(l))
			return errors.Join(err, l.prints("ls t", "binary\nempty\nlink\n"))
		},
		fake.CopyNeedsDir: func(l *lab) error {
			return as[sandboxer.FileTransferer](l, l.ext).CopyIn(l.Context(), l.sbx, "a/b/c", tree(l))
		},
		fake.SyncKeepsExtra: func(l *lab) error {
			err := as[sandboxer.FileTransferer](l, l.ext).CopyIn(l.Context(), l.sbx, "t", tree(l))
			return errors.Join(err, l.sync("t"), l.prints("ls t", "new\n"))
		},
		fake.SyncReadsAll: func(l *lab) error {
			err := l.sync("t")
			_, _, _, tamper := l.run(sandboxer.ExecRequest{}, "echo else > t/new; touch -d 2020-01-02T03:04:05.123456789Z t/new; chmod 640 t/new")
			return errors.Join(err, tamper, l.sync("t"), l.prints("cat t/new", "else\n"))
		},
		fake.SyncFollowsLinks: func(l *lab) error {
			_, _, _, err := l.run(sandboxer.ExecRequest{}, "echo kept > out; mkdir t; ln -s ../out t/new")
			return errors.Join(err, l.sync("t"), l.prints("cat out t/new", "kept\ntext\n"))
		},
		fake.SyncNeedsDir: func(l *lab) error { return errors.Join(l.sync("a/b/c"), l.prints("ls a/b/c", "new\n")) },
	}
}
