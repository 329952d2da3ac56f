package adaptertest

import (
	"context"
	"flag"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv(childVariable) != "" {
		os.Exit(m.Run())
	}
	if err := flag.Set("test.parallel", "16"); err != nil { // the tests wait more than they work
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

const childVariable = "SANDBOXER_ADAPTERTEST_CHILD"

// children are whole runs of the suite, each in a process of its own, because most of them fail.
var children = map[string]struct {
	edit   func(*fake.Backend, *Config)
	failed []string // exactly these subtests
	says   []string
}{
	"all rules kept": {says: []string{"--- PASS: TestChild/exec-io/flood", "--- PASS: TestChild/end/no-goroutine"}},
	"slow, in steps, with a key and a short memory": {
		edit: func(b *fake.Backend, c *Config) {
			c.Secrets = oneKey{}
			b.Behave(fake.Behaviour{
				ReadyAfter: 30 * time.Millisecond, ListLag: 20 * time.Millisecond, ExpiryMargin: time.Minute, Credential: "env:ANY", Checkpoint: true,
			})
		},
		says: []string{"--- PASS: TestChild/provision/checkpoint", "--- PASS: TestChild/secrets/missing"},
	},
	"listings that lag": {
		edit: func(b *fake.Backend, c *Config) {
			b.Behave(fake.Behaviour{ReadyAfter: 5 * time.Millisecond, ListLag: 50 * time.Millisecond})
		},
	},
	"few capabilities": {
		edit: func(b *fake.Backend, c *Config) {
			c.Adapter = func(testing.TB) sandboxer.Adapter { return b.Adapter(sandboxer.CapInspect) }
		},
		says: []string{"--- PASS: TestChild/lost-reply/removed", "--- PASS: TestChild/inspect/state"},
	},
	"nothing that looks, but Config.Live": {
		edit: func(b *fake.Backend, c *Config) {
			c.Adapter = func(testing.TB) sandboxer.Adapter { return b.Adapter(sandboxer.CapExec) }
		},
		says: []string{"--- PASS: TestChild/foreign/provision", "--- PASS: TestChild/foreign/teardown", "--- PASS: TestChild/foreign/manager"},
	},
	"what it is given is its own": {
		edit: func(_ *fake.Backend, c *Config) {
			profile := c.Profile
			c.Profile = func(t testing.TB) sandboxer.Profile {
				p := profile(t)
				p.Labels, p.Inputs = map[string]string{"team": "a"}, sandboxer.Inputs{"files": map[string]any{"a": "b"}}
				return p
			}
			adapter := c.Adapter
			c.Adapter = func(t testing.TB) sandboxer.Adapter {
				a := adapter(t)
				build := a.New
				a.New = func(ctx context.Context, s sandboxer.Settings) (sandboxer.Extension, error) {
					ext, err := build(ctx, s)
					return careless(ext), err
				}
				return a
			}
		},
	},
	"a broken rule": {
		edit:   func(b *fake.Backend, _ *Config) { b.Break(fake.ExecIgnoresEnv) },
		failed: []string{"exec", "exec/environment", "exec-args", "exec-args/invalid-utf8"},
		says:   []string{"rule: ExecRequest.Env is added to the sandbox's own environment", "why:  tokens, paths and flags travel in it"},
	},
	"a rule that is skipped": {
		edit: func(b *fake.Backend, c *Config) {
			b.Break(fake.ExecIgnoresEnv)
			c.Skip = map[string]string{"exec/environment": "its interface takes none", "exec-args/invalid-utf8": "the same"}
		},
		says: []string{"--- SKIP: TestChild/exec/environment", "its interface takes none"},
	},
	"a stale skip": {
		edit: func(_ *fake.Backend, c *Config) {
			c.Skip = map[string]string{"files/round-tripp": "", "exec/signal": "no signals"}
		},
		says: []string{`Config.Skip names files/round-tripp`, `did you mean "files/round-trip"?`},
	},
	"a skip of what is not run": {
		edit: func(b *fake.Backend, c *Config) {
			c.Adapter = func(testing.TB) sandboxer.Adapter { return b.Adapter(sandboxer.CapInspect) }
			c.Skip = map[string]string{"files/round-trip": "there are no files"}
		},
		says: []string{"Config.Skip names files/round-trip"},
	},
	"a skip without a reason": {
		edit: func(_ *fake.Backend, c *Config) { c.Skip = map[string]string{"exec/signal": ""} },
		says: []string{"Config.Skip gives no reason for exec/signal"},
	},
	"a manifest that lies": {
		edit:   func(b *fake.Backend, _ *Config) { b.Break(fake.MissingCapability) },
		failed: []string{"capabilities", "capabilities/declared"},
	},
	"a goroutine for each sandbox": {
		edit: func(_ *fake.Backend, c *Config) {
			adapter := c.Adapter
			c.Adapter = func(t testing.TB) sandboxer.Adapter {
				a := adapter(t)
				build := a.New
				a.New = func(ctx context.Context, s sandboxer.Settings) (sandboxer.Extension, error) {
					ext, err := build(ctx, s)
					return bent{inFront: inFront{ext}, wait: func(ctx context.Context, t sandboxer.Target) (sandboxer.Reachability, error) {
						go func() { select {} }()
						return ext.WaitReady(ctx, t)
					}}, err
				}
				return a
			}
		},
		failed: []string{"end", "end/no-goroutine"},
	},
	"a sandbox that nobody removes": {
		edit: func(b *fake.Backend, c *Config) {
			profile := c.Profile
			c.Profile = func(t testing.TB) sandboxer.Profile {
				time.AfterFunc(100*time.Millisecond, func() { b.Plant("ext.fake", "", string(sandboxer.NewID()), nil) })
				return profile(t)
			}
		},
		failed: []string{"end", "end/nothing-live", "end/close"},
	},
	"no adapter": {edit: func(_ *fake.Backend, c *Config) { c.Adapter = nil }, says: []string{"Config.Adapter is nil"}},
	"no profile": {edit: func(_ *fake.Backend, c *Config) { c.Profile = nil }, says: []string{"Config.Profile is nil"}},
	"no host": {
		edit: func(b *fake.Backend, c *Config) {
			c.Adapter = func(testing.TB) sandboxer.Adapter { a := b.Adapter(); a.Hosted = true; return a }
		},
		says: []string{"give Config.Host"},
	},
	"on a host": {
		edit: func(b *fake.Backend, c *Config) {
			c.Adapter = func(testing.TB) sandboxer.Adapter { a := b.Adapter(); a.Hosted = true; return a }
			c.Host = func(testing.TB) sandboxer.Host { return sandboxer.Host{ID: "host-1", Address: "localhost"} }
		},
		says: []string{"--- PASS: TestChild/transfer/round-trip"},
	},
}

// good are the children that pass.
var good = []string{"all rules kept", "listings that lag", "slow, in steps, with a key and a short memory", "few capabilities", "nothing that looks, but Config.Live", "what it is given is its own", "a rule that is skipped", "on a host"}

// TestChild is the suite as an adapter author would call it; it does nothing unless TestRunReports asks for it.
func TestChild(t *testing.T) {
	child, ok := children[os.Getenv(childVariable)]
	if !ok {
		return
	}
	b := fake.New()
	cfg := onFake(b)
	cfg.Secrets, cfg.Within = nil, 30*time.Second
	if child.edit != nil {
		child.edit(b, &cfg)
	}
	Run(t, cfg)
}

// careless empties the maps that it was given when it is done with them.
func careless(ext sandboxer.Extension) sandboxer.Extension {
	emptied := func(t sandboxer.Target) {
		clear(t.Labels)
		clear(t.Inputs)
		clear(t.Consumer.Labels)
	}
	return bent{
		inFront: inFront{ext},
		provision: func(ctx context.Context, req *sandboxer.ProvisionRequest) (sandboxer.Handle, error) {
			defer func() { clear(req.Labels); clear(req.Inputs); clear(req.Profile.Inputs); clear(req.Profile.Labels) }()
			return ext.Provision(ctx, req)
		},
		wait: func(ctx context.Context, t sandboxer.Target) (sandboxer.Reachability, error) {
			defer emptied(t)
			return ext.WaitReady(ctx, t)
		},
		teardown: func(ctx context.Context, t sandboxer.Target) (sandboxer.CleanupReport, error) {
			defer emptied(t)
			return ext.Teardown(ctx, t)
		},
	}
}

// quiet is what of a verbose run only fills the screen.
var quiet = regexp.MustCompile(`(?m)^=== .*\n`)

var failLine = regexp.MustCompile(`--- FAIL: TestChild/(\S+)`)

// TestRunReports runs the whole suite, as a process, and reads what it reports.
func TestRunReports(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	turns := make(chan struct{}, 3) // each is a whole run
	for name, child := range children {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			turns <- struct{}{}
			defer func() { <-turns }()
			cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestChild$", "-test.v")
			cmd.Env = append(os.Environ(), childVariable+"="+name)
			out, err := cmd.CombinedOutput()
			text := quiet.ReplaceAllString(string(out), "")
			if passed := err == nil; passed != slices.Contains(good, name) {
				t.Errorf("passed: %v (%v)\n%s", passed, err, text)
			}
			var failed []string
			for _, m := range failLine.FindAllStringSubmatch(text, -1) {
				failed = append(failed, m[1])
			}
			slices.Sort(failed)
			want := slices.Sorted(slices.Values(child.failed))
			if !slices.Equal(failed, want) {
				t.Errorf("these subtests failed: %q; they should be %q\n%s", failed, want, text)
			}
			for _, s := range child.says {
				if !strings.Contains(text, s) {
					t.Errorf("it does not say %q\n%s", s, text)
				}
			}
		})
	}
}
