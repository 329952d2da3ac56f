//go:build linux || darwin

package proctree_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sand-boxer/sandboxer/adapters/local/internal/proctree"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs a script in a session of its own with the marker, and returns once it has printed "ready".
func start(t *testing.T, marker, script string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sh", "-c", script)
	cmd.Env = append(os.Environ(), marker)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || strings.TrimSpace(line) != "ready" {
		t.Fatalf("the script said %q, %v", line, err)
	}
	return cmd
}

func marker(t *testing.T) string {
	return fmt.Sprintf("SANDBOXER_TEST=%s-%d-%d", strings.ReplaceAll(t.Name(), "/", "_"), os.Getpid(), time.Now().UnixNano())
}

func TestKillEndsEveryKindOfChild(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"ignores SIGTERM":       `trap '' TERM HUP INT; echo ready; while :; do sleep 100; done`,
		"child":                 `sleep 100 & echo ready; wait`,
		"orphan":                `(sleep 100 & sleep 100 &) ; echo ready; sleep 100`,
		"own session":           `setsid sh -c 'sleep 100 & sleep 100' & sleep 0.1; echo ready; wait`,
		"orphan, own session":   `(setsid sleep 100 &); sleep 0.1; echo ready; sleep 100`,
		"without environment":   `env -i sleep 100 & sleep 0.1; echo ready; wait`,
		"stopped":               `sleep 100 & kill -STOP $!; echo ready; wait`,
		"forks without end":     `echo ready; while :; do (sleep 0.05; sleep 100) & sleep 0.01; done`,
		"parent that exits":     `trap '' TERM; (sh -c 'trap "" TERM; while :; do sleep 1 & wait; done' &); echo ready; exit 0`,
		"session that is left":  `(env -i setsid sh -c 'sleep 100 & sleep 100 & wait' & wait) & sleep 0.1; echo ready; sleep 100`,
		"name like a stat line": `ln -s "$(command -v sleep)" "$TMPDIR/x) R 1 1"; "$TMPDIR/x) R 1 1" 100 & echo ready; wait`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := marker(t)
			cmd := start(t, m, "TMPDIR='"+t.TempDir()+"'; "+script)
			sel := proctree.Selector{Marker: m, Root: proctree.Of(cmd.Process.Pid)}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			n, err := proctree.Kill(ctx, sel)
			if err != nil {
				t.Errorf("Kill: %v", err)
			}
			if n == 0 {
				t.Error("Kill found nothing")
			}
			_ = cmd.Wait()
			left, err := proctree.Find(sel)
			if err != nil {
				t.Fatal(err)
			}
			if len(left) > 0 {
				t.Errorf("still there: %v", left)
			}
		})
	}
}

func TestKillLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	m, o := marker(t), marker(t)+"x"
	mine, other := start(t, m, `echo ready; exec sleep 100`), start(t, o, `echo ready; exec sleep 100`)
	defer func() { _ = other.Wait() }()
	defer func() { _ = other.Process.Kill() }()
	if n, err := proctree.Kill(t.Context(), proctree.Selector{Marker: m}); n != 1 || err != nil {
		t.Errorf("Kill = %d, %v; want 1 process", n, err)
	}
	_ = mine.Wait()
	if got, err := proctree.Find(proctree.Selector{Marker: o}); err != nil || len(got) != 1 || got[0] != other.Process.Pid {
		t.Errorf("the other is now %v, %v", got, err)
	}
	if n, err := proctree.Kill(t.Context(), proctree.Selector{Marker: m}); n != 0 || err != nil {
		t.Errorf("Kill of nothing = %d, %v", n, err)
	}
	if n, err := proctree.Kill(t.Context(), proctree.Selector{}); n != 0 || err != nil {
		t.Errorf("Kill of no selection = %d, %v", n, err)
	}
}

func TestKillEndsWithItsContext(t *testing.T) {
	t.Parallel()
	m := marker(t)
	cmd := start(t, m, `echo ready; exec sleep 100`)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := proctree.Kill(ctx, proctree.Selector{Marker: m}); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("Kill: %v", err)
	}
	if _, err := proctree.Kill(t.Context(), proctree.Selector{Marker: m}); err != nil {
		t.Errorf("Kill: %v", err)
	}
	_ = cmd.Wait()
}
