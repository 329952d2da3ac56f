package storetest

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sand-boxer/sandboxer/manager/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(f flaw) func(testing.TB) store.Store {
	return func(testing.TB) store.Store { return newFlawed(f) }
}

var reopened = WithReopen(func(_ testing.TB, s store.Store) store.Store { return s.(*flawed).reopen() })

// The model without a flaw passes, so what catches the others is the flaw.
func TestSoundStorePasses(t *testing.T) {
	t.Parallel()
	Run(t, open(""), reopened)
}

// Every rule catches at least one store that breaks it.
func TestBrokenStoresAreCaught(t *testing.T) {
	t.Parallel()
	caught := map[flaw]string{
		"what comes before a conflict is applied":       "a commit applies all of its mutations or none",
		"Expect is ignored":                             "Expect is compared with the Rev that stands",
		"a conflict names no key":                       "Expect is compared with the Rev that stands",
		"Commit returns another Rev":                    "Commit returns the Rev of everything that it put",
		"a Rev is free again after Delete":              "a Rev is never reused",
		"Put sets N to 0":                               "Put keeps N, Add keeps Tags and Body",
		"only the last Add of a key counts":             "Adds add up, and only what would pass Max is refused",
		"what comes before a wrong mutation is applied": "wrong mutations are refused as a whole",
		"bodies over 64 KiB are refused":                "the limits can be reached",
		"an ended context commits":                      "an ended context commits nothing",
		"bodies are shared with the caller":             "nothing is shared with the caller",
		"Get sorts its answers":                         "Get answers in the order of the keys",
		"Get reads key by key":                          "Get reads one consistent view",
		"After includes its ID":                         "Scan selects exactly, in the order of the IDs",
		"old tags are still indexed":                    "the tag index follows every change",
		"Scan holds its lock":                           "Scan holds no lock while the caller works",
		"a scan ends after 1000 records":                "Scan holds no lock while the caller works",
		"Limit is applied before After":                 "a scan can be paged and left early",
		"a bad query finds nothing":                     "Scan refuses a query that means nothing",
		"all stores have one ID":                        "Info names the store",
		"counters collide":                              "counters never collide",
		"a conflict fails the next commit too":          "one caller's conflict is not another's",
		"Expect is compared before the lock is taken":   "compare-and-swap loses nothing",
		"a counter stops at 4":                          "the store acts like the model",
		"Get is sometimes late":                         "histories are linearizable",
		"a restart forgets counters":                    "everything outlives the process",
		"a restart forgets the last commit":             "everything outlives the process",
		"a restart makes a new ID":                      "everything outlives the process",
	}
	missing := make(map[string]bool)
	for _, r := range rules {
		missing[r.name] = true
	}
	for f, name := range caught {
		delete(missing, name)
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			got := verdict(t, name, f)
			if !strings.Contains(got, "rule: "+name) {
				t.Errorf("the rule %q did not catch it: %q", name, got)
			}
		})
	}
	for name := range missing {
		t.Errorf("no broken store shows that the rule %q catches anything", name)
	}
}

// A store that says it is durable must be tested so.
func TestDurableNeedsReopen(t *testing.T) {
	t.Parallel()
	for _, r := range rules {
		if r.durable {
			rec := &recorder{TB: t}
			rec.run(func() { r.run(rec, open(""), &config{}) })
			if !strings.Contains(rec.text(), "WithReopen") {
				t.Errorf("%q: %q", r.name, rec.text())
			}
		}
	}
}

// verdict runs one rule against one flaw and returns what it reports.
func verdict(t *testing.T, name string, f flaw) string {
	c := config{hang: time.Second}
	reopened(&c)
	for _, r := range rules {
		if r.name == name {
			rec := &recorder{TB: t}
			rec.run(func() { r.run(rec, open(f), &c) })
			return rec.text()
		}
	}
	t.Fatalf("there is no rule %q", name)
	return ""
}

// recorder takes the failures of a rule for itself.
type recorder struct {
	testing.TB
	mu   sync.Mutex
	msgs []string
}

func (r *recorder) run(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	<-done
}

func (r *recorder) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.msgs, "\n")
}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.msgs = append(r.msgs, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Failed() bool { return r.text() != "" }
