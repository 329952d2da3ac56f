package manager_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
)

// consumers is a log handler that keeps which consumer each message named.
type consumers struct {
	mu   sync.Mutex
	seen map[string]string
}

func (c *consumers) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }

func (c *consumers) Handle(_ context.Context, r slog.Record) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[r.Message] = ""
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "consumer" {
			c.seen[r.Message] = a.Value.String()
		}
		return true
	})
	return nil
}

func (c *consumers) WithAttrs([]slog.Attr) slog.Handler { return c }
func (c *consumers) WithGroup(string) slog.Handler      { return c }

// TestLogNamesTheConsumer: what goes wrong with somebody's sandbox or snapshot is logged with whose it is. It was seen to fail
// where these lines had an ID only.
func TestLogNamesTheConsumer(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t, sandboxer.CapExec, sandboxer.CapSnapshot, sandboxer.CapMeter)
		log := &consumers{seen: map[string]string{}}
		w.cfg.Logger = slog.New(log)
		w.metered()
		m := w.open()
		sb := created(t, m, ask("a"))
		if _, err := sb.Snapshot(t.Context(), sandboxer.SnapshotRequest{ID: "s", ExpiresAt: time.Now().Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
		w.backend.Fail(fake.Fault{Op: sandboxer.OpDeleteSnapshot, Err: errLost, Times: 1})
		w.backend.Fail(fake.Fault{Op: sandboxer.OpSnapshotCost, Err: errLost})
		w.backend.Fail(fake.Fault{Op: sandboxer.OpEstimateCost, Err: errLost})
		w.backend.Fail(fake.Fault{Op: sandboxer.OpMeterActual, Err: sandboxer.Mark(sandboxer.NotFound, errLost)})
		pass(2 * time.Hour)
		want := map[string]string{
			"a cost cannot be estimated; the time alone is recorded":                   "tests",
			"a snapshot could not be deleted; it is tried again":                       "tests",
			"a stored snapshot cannot be priced; its size and time alone are recorded": "tests",
		}
		if diff := cmp.Diff(want, log.seen); diff != "" {
			t.Errorf("messages and their consumers (-want +got):\n%s", diff)
		}
	})
}
