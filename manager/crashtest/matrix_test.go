package crashtest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
	"github.com/sand-boxer/sandboxer/internal/crash"
	"github.com/sand-boxer/sandboxer/internal/crashworld"
	"github.com/sand-boxer/sandboxer/internal/operations"
	"github.com/sand-boxer/sandboxer/internal/remote"
)

// TestCrashPoints kills a process at each point of each scenario. It was seen to fail with each of these changes to the
// Manager: C1 committed after Provision instead of before (a resource without a record, at call/provision/after); T2
// committed before Teardown (the same, at call/teardown/before); recovery that keeps "provisioning" records (a record
// without an end, at commit/C1/after); the bill left out of T2's commit (a name without a bill, everywhere); the snapshot's
// intent committed after the call (a snapshot without a record, at call/snapshot/after); recovery that ends unfinished creates
// without a teardown, where the reaper would find what they made (a resource without a record, at call/provision/after); a
// start that deletes every stored snapshot (one that had been taken is gone, at every point of restore behind it); the intent
// of a transfer committed after the call (a snapshot without a record, at call/import-snapshot/after of move). Without a
// scenario that syncs it failed for the operations that are declared and not visited.
func TestCrashPoints(t *testing.T) {
	t.Parallel()
	child := build(t)
	visits := &coverage{seen: map[string]map[string]int{}}
	t.Run("matrix", func(t *testing.T) {
		for name, s := range scenarios() {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				points := learn(t, child, name, s)
				visits.add(name, points)
				for _, p := range points {
					t.Run(strings.ReplaceAll(p, "/", "-"), func(t *testing.T) {
						w := newWorld(t, s)
						promised := w.play(child, name, p)
						w.check(promised)
					})
				}
			})
		}
	})
	visits.report(t)
}

// scenario is what the backend does while the child plays a scenario.
type scenario struct {
	faults []fake.Fault
	plant  bool // a resource of this store that no record knows
}

func scenarios() map[string]scenario {
	refused := sandboxer.Refused(sandboxer.Unavailable, errors.New("no room"))
	lost := sandboxer.Mark(sandboxer.Unavailable, errors.New("connection reset"))
	bad := sandboxer.Mark(sandboxer.Internal, errors.New("it does not start"))
	return map[string]scenario{
		"create":      {},
		"checkpoint":  {},
		"burst":       {faults: []fake.Fault{{Op: sandboxer.OpProvision, Extension: "ext.full", Err: refused}}},
		"unready":     {faults: []fake.Fault{{Op: sandboxer.OpWaitReady, Times: 1, Err: bad}}},
		"adopted":     {faults: []fake.Fault{{Op: sandboxer.OpProvision, Times: 1, Err: lost, Effect: fake.After}}},
		"lost":        {faults: []fake.Fault{{Op: sandboxer.OpProvision, Times: 1, Err: lost, Effect: fake.After}}},
		"teardown":    {},
		"stuck":       {faults: []fake.Fault{{Op: sandboxer.OpTeardown, Times: 1, Err: lost}}},
		"snapshot":    {},
		"snapfail":    {faults: []fake.Fault{{Op: sandboxer.OpSnapshot, Times: 1, Err: lost, Effect: fake.After}, {Op: sandboxer.OpDeleteSnapshot, Times: 1, Err: lost}}},
		"snapstorage": {},
		"snapkeep":    {},
		"restore":     {},
		"transfer":    {},
		"move":        {},
		"movelost":    {faults: []fake.Fault{{Op: sandboxer.OpImportSnapshot, Times: 1, Err: lost, Effect: fake.After}}},
		"extend":      {},
		"pause":       {},
		"pauselost":   {faults: []fake.Fault{{Op: sandboxer.OpPause, Times: 1, Err: lost, Effect: fake.After}}},
		"use":         {},
		"reap":        {plant: true},
		"purge":       {},
		"estimate":    {},
	}
}

// build compiles the program that is killed, with its crash points.
func build(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "crashchild")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-tags", "sandboxer_crash", "-o", bin, "github.com/sand-boxer/sandboxer/internal/crashchild").CombinedOutput()
	if err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return bin
}

// learn plays a scenario to its end and returns every visit of a point: "commit/C1/before", "commit/C1/before#2" …
func learn(t *testing.T, child, name string, s scenario) []string {
	t.Helper()
	w := newWorld(t, s)
	log := filepath.Join(w.dir, "visits")
	out, err := w.run(child, name, "SANDBOXER_CRASH_LOG="+log)
	if err != nil {
		t.Fatalf("the scenario itself fails: %v\n%s", err, out)
	}
	w.check(promises(out))
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	var points []string
	count := map[string]int{}
	for p := range strings.FieldsSeq(string(text)) {
		if count[p]++; count[p] == 1 {
			points = append(points, p)
		} else if count[p] <= 3 { // more of the same, such as looking again and again
			points = append(points, fmt.Sprintf("%s#%d", p, count[p]))
		}
	}
	return points
}

// coverage holds which points which scenario visited.
type coverage struct {
	mu   sync.Mutex
	seen map[string]map[string]int
}

func (c *coverage) add(scenario string, points []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[scenario] = map[string]int{}
	for _, p := range points {
		base, _, _ := strings.Cut(p, "#")
		c.seen[scenario][base]++
	}
}

// report prints points × scenarios and fails for a point that nobody visited.
func (c *coverage) report(t *testing.T) {
	t.Helper()
	names, points := slices.Sorted(maps.Keys(c.seen)), allPoints(allOperations(t))
	var table bytes.Buffer
	kills := 0
	for _, p := range points {
		visits := 0
		row := make([]string, 0, len(names))
		for _, n := range names {
			k := c.seen[n][p]
			visits += k
			row = append(row, map[bool]string{true: fmt.Sprint(k), false: "."}[k > 0])
		}
		kills += visits
		fmt.Fprintf(&table, "%-36s %s\n", p, strings.Join(row, " "))
		if visits == 0 {
			t.Errorf("no scenario visits the point %s: nothing is proven about a crash there", p)
		}
	}
	for _, n := range names {
		for p := range c.seen[n] {
			if !slices.Contains(points, p) {
				t.Errorf("the scenario %s visits the point %s, which is in no list: add it, so that it is missed when it is visited no more", n, p)
			}
		}
	}
	t.Logf("kills at points × scenarios (%s): %d kills\n%s", strings.Join(names, " "), kills, table.String())
}

func allPoints(ops []sandboxer.Op) []string {
	var out []string
	both := func(kind, name string) { out = append(out, kind+"/"+name+"/before", kind+"/"+name+"/after") }
	for _, c := range crash.Commits() {
		both("commit", c)
	}
	for _, op := range ops {
		both("call", string(op))
	}
	for _, d := range crash.Deliveries() {
		both("outbox", d)
	}
	return out
}

// allOperations reads from the source which calls of an extension there are, so that none is forgotten.
func allOperations(t *testing.T) []sandboxer.Op {
	t.Helper()
	out, err := operations.In(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(out, sandboxer.OpProvision) || !slices.Contains(out, sandboxer.OpSync) {
		t.Fatalf("the operations are not found where they should be declared; found are %q", out)
	}
	return out
}

// world is one backend, one store, and the processes that use them.
type world struct {
	t       *testing.T
	dir     string
	store   string
	backend *fake.Backend
	url     string
	planted string // the name of what no record knows, where there is such a thing
}

func newWorld(t *testing.T, s scenario) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), backend: fake.New()}
	w.store = filepath.Join(w.dir, "store.db")
	served := map[string]sandboxer.Extension{}
	for id, blind := range crashworld.Extensions() {
		caps := sandboxer.AllCapabilities()
		if blind {
			caps = crashworld.Blind()
		}
		ext, err := w.backend.InPlaceOf("far", caps...).New(t.Context(), sandboxer.Settings{ExtensionID: id})
		if err != nil {
			t.Fatal(err)
		}
		served[id] = aged{ext}
	}
	server := httptest.NewServer(remote.Handler(served))
	t.Cleanup(server.Close)
	w.url = server.URL
	for _, f := range s.faults {
		w.backend.Fail(f)
	}
	if s.plant {
		w.plant()
	}
	return w
}

func (w *world) run(child, name string, env ...string) (string, error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, child, w.store, w.url, name)
	cmd.Env = append([]string{"TMPDIR=" + w.dir, "PATH=" + os.Getenv("PATH")}, env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// play runs the scenario until the process dies at the point.
func (w *world) play(child, name, point string) []string {
	w.t.Helper()
	out, err := w.run(child, name, "SANDBOXER_CRASH_AT="+point)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != -1 {
		w.t.Fatalf("the process was to be killed at %s; it ended with %v\n%s", point, err, out)
	}
	w.backend.Heal()
	return promises(out)
}

func promises(out string) []string { return strings.Split(strings.TrimSpace(out), "\n") }
