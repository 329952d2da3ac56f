package manager_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
	"github.com/sand-boxer/sandboxer/internal/canary"
	"github.com/sand-boxer/sandboxer/manager"
	"github.com/sand-boxer/sandboxer/manager/store"
)

// secret is one that must be found nowhere.
var secret = canary.Secret("platform-", "vault")

// vault is a source of secrets whose keys can be rotated; tenants have keys of their own.
type vault struct {
	mu    sync.Mutex
	keys  map[string]string // tenant → version
	asked int               // calls of Payer
}

func (v *vault) version(tenant string) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.keys[tenant]
}

func (v *vault) rotate(tenant, version string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.keys[tenant] = version
}

func (v *vault) Payer(_ context.Context, ref sandboxer.SecretRef, c sandboxer.Consumer) (sandboxer.Payer, error) {
	v.mu.Lock()
	v.asked++
	v.mu.Unlock()
	if k := v.version(c.Tenant); k != "" {
		return sandboxer.Payer{Tenant: c.Tenant, Key: k}, nil
	}
	return sandboxer.Payer{}, sandboxer.Refused(sandboxer.Unauthenticated, fmt.Errorf("tenant %q has no key %s; add one in the settings", c.Tenant, ref))
}

func (v *vault) Secret(_ context.Context, _ sandboxer.SecretRef, p sandboxer.Payer) (sandboxer.Secret, error) {
	k := v.version(p.Tenant)
	if k == "" {
		return sandboxer.Secret{}, sandboxer.Refused(sandboxer.Unauthenticated, errors.New("the key was deleted"))
	}
	return sandboxer.NewSecret([]byte(secret+k), k), nil
}

// paid makes a world whose backend needs a key of the vault.
func paid(t *testing.T, caps ...sandboxer.Capability) (*world, *vault) {
	t.Helper()
	w := newWorld(t, caps...)
	w.backend.Behave(fake.Behaviour{Credential: "service-key"})
	a := w.backend.Adapter(caps...)
	a.Credentials = []string{"key"}
	a.Manifest = append(a.Manifest, "config:\n  key: service-key\n"...)
	w.adapters = []sandboxer.Adapter{a}
	v := &vault{keys: map[string]string{"": "platform-1", "blue": "blue-1"}}
	w.cfg.Secrets = v
	return w, v
}

func forTenant(id sandboxer.ID, tenant string) sandboxer.CreateRequest {
	req := ask(id)
	req.Consumer.Tenant = tenant
	return req
}

// TestPayer: who pays is asked once, before anything is stored, and kept with the sandbox whatever happens to the keys.
func TestPayer(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w, v := paid(t, sandboxer.CapExec, sandboxer.CapSnapshot)
		m := w.open()
		ctx := context.Background()
		sb := created(t, m, forTenant("a", "blue"))
		created(t, m, ask("b"))
		want := sandboxer.Payer{Tenant: "blue", Key: "blue-1"}
		s := status(t, m, "a")
		if diff := cmp.Diff([]sandboxer.Payer{want, want}, []sandboxer.Payer{s.Payer, s.Attempts[0].Payer}); diff != "" {
			t.Errorf("payer (-want +got):\n%s", diff)
		}
		snap, err := sb.Snapshot(ctx, sandboxer.SnapshotRequest{})
		if err != nil || snap.Payer != want {
			t.Errorf("snapshot paid by %+v, %v", snap.Payer, err)
		}
		restore := forTenant("c", "blue")
		restore.FromSnapshot = snap.ID
		created(t, m, restore)
		if got := status(t, m, "c").Payer; got != want {
			t.Errorf("restored for %+v", got)
		}
		if v.asked != 2 {
			t.Errorf("asked %d times who pays, want once for each sandbox", v.asked)
		}
		w.journal.take()
		_, err = m.Create(ctx, forTenant("d", "red"))
		wantCode(t, err, sandboxer.Unauthenticated)
		wantText(t, err, `"red"`, "service-key", "in the settings", "ext.fake")
		w.wantJournal()
	})
}

// TestRotatedKey: what another key does not see may still exist. Nothing is said to be gone on its word; with the key that
// it was bought with it is removed, and otherwise when the backend's own deadline has passed.
func TestRotatedKey(t *testing.T) {
	t.Parallel()
	for name, comesBack := range map[string]bool{"the key comes back": true, "the key is lost": false} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				w, v := paid(t, sandboxer.CapInspect, sandboxer.CapList, sandboxer.CapFind, sandboxer.CapSnapshot)
				m := w.open()
				sb := created(t, m, forTenant("a", "blue"))
				snap, err := sb.Snapshot(context.Background(), sandboxer.SnapshotRequest{ID: "snap"})
				if err != nil {
					t.Fatal(err)
				}
				v.rotate("blue", "blue-2")
				if r := reap(t, m, manager.ReapOptions{}); len(names(r)) > 0 {
					t.Errorf("reaped %+v", r)
				}
				wantState(t, m, "a", sandboxer.StateReady)
				if err := m.DeleteSnapshot(context.Background(), snap.ID); err == nil {
					t.Error("a snapshot that the key does not see was said to be deleted")
				}
				if _, err := sb.Teardown(context.Background()); err == nil {
					t.Error("a sandbox that the key does not see was said to be gone")
				}
				wantState(t, m, "a", sandboxer.StateOrphaned)
				w.wantLive("a", "snapshot/snap")
				if comesBack {
					v.rotate("blue", "blue-1")
					pass(30 * time.Minute)
					wantState(t, m, "a", sandboxer.StateGone)
					w.wantLive()
					return
				}
				pass(2 * time.Hour)
				wantState(t, m, "a", sandboxer.StateGone)
				w.wantLive("snapshot/snap")
			})
		})
	}
}

// TestRotatedWhileCreating: a look-up with another key does not settle what became of a lost reply.
func TestRotatedWhileCreating(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w, v := paid(t, sandboxer.CapFind)
		w.cfg.ReadyTimeout = time.Minute
		w.backend.Fail(fake.Fault{Op: sandboxer.OpProvision, Err: sandboxer.Mark(sandboxer.Unavailable, errLost), Effect: fake.After, Times: 1, Delay: time.Second})
		m := w.open()
		done := make(chan error, 1)
		go func() {
			_, err := m.Create(context.Background(), forTenant("a", "blue"))
			done <- err
		}()
		pass(time.Millisecond)
		v.rotate("blue", "blue-2")
		if err := <-done; err == nil {
			t.Error("no error")
		}
		if n := w.backend.Count(sandboxer.OpProvision); n != 1 {
			t.Errorf("%d calls of Provision, want 1", n)
		}
		wantState(t, m, "a", sandboxer.StateOrphaned)
		v.rotate("blue", "blue-1")
		pass(time.Hour)
		wantState(t, m, "a", sandboxer.StateFailed)
		w.wantLive()
	})
}

// TestRevokedKey: a bad key is said to be one, and is no reason to try again.
func TestRevokedKey(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w, _ := paid(t, sandboxer.CapExec)
		w.backend.Revoke("blue-1")
		m := w.open()
		_, err := m.Create(context.Background(), forTenant("a", "blue"))
		wantCode(t, err, sandboxer.Unauthenticated)
		wantText(t, err, "revoked")
		if n := w.backend.Count(sandboxer.OpProvision); n != 1 {
			t.Errorf("%d calls of Provision, want 1", n)
		}
	})
}

// TestKeyIsRevokedWhileItRuns: what nobody can end any more stays visible until its backend has ended it by itself, however
// often the host application is started again, and costs no more than until then.
func TestKeyIsRevokedWhileItRuns(t *testing.T) {
	for name, restart := range map[string]bool{"one Manager": false, "many": true} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				w, _ := paid(t, sandboxer.CapInspect, sandboxer.CapFind)
				m := w.open()
				sb := created(t, m, forTenant("a", "blue"))
				ends := status(t, m, "a").Reachability.ExpiresAt
				if ends.IsZero() {
					t.Fatal("the backend granted no end")
				}
				w.backend.Revoke("blue-1")
				_, err := sb.Teardown(context.Background())
				wantCode(t, err, sandboxer.Unauthenticated)
				for time.Now().Before(ends) {
					if restart {
						if err := m.Close(); err != nil {
							t.Fatal(err)
						}
						m = w.open()
					}
					st := status(t, m, "a")
					if st.State != sandboxer.StateOrphaned || st.Tries == 0 || st.NextTry.IsZero() || st.Reason == "" {
						t.Fatalf("%v before its end it is %s after %d tries, next %v: %q", time.Until(ends), st.State, st.Tries, st.NextTry, st.Reason)
					}
					pass(15 * time.Minute)
				}
				pass(2 * time.Hour) // clocks may differ, and tries are far apart by now
				wantState(t, m, "a", sandboxer.StateGone)
				w.wantLive()
			})
		})
	}
}

// TestNoSecrets: the value of a key is in no status, event, error, log line, label, handle and record, whatever fails.
func TestNoSecrets(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w, v := paid(t, sandboxer.AllCapabilities()...)
		var log bytes.Buffer
		w.cfg.Logger = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		m := w.open()
		sub := m.Subscribe(manager.Filter{})
		defer sub.Close()
		ctx := context.Background()
		var texts []string
		say := func(v any) {
			b, err := json.Marshal(v)
			texts = append(texts, string(b), fmt.Sprintf("%v %+v %#v", v, v, v), fmt.Sprint(err))
		}
		sb := created(t, m, forTenant("a", "blue"))
		_, err := sb.Snapshot(ctx, sandboxer.SnapshotRequest{ID: "snap"})
		say(err)
		for _, op := range []sandboxer.Op{sandboxer.OpProvision, sandboxer.OpWaitReady, sandboxer.OpTeardown} {
			w.backend.Fail(fake.Fault{Op: op, Err: errLost, Times: 1, Effect: fake.After})
			sb, err := m.Create(ctx, forTenant(sandboxer.ID("b-"+string(op)), "blue"))
			say(err)
			if err == nil {
				_, err = sb.Teardown(ctx)
				say(err)
			}
		}
		w.backend.Revoke("blue-1")
		_, err = m.Create(ctx, forTenant("c", "blue"))
		say(err)
		v.rotate("blue", "")
		_, err = m.Create(ctx, forTenant("d", "blue"))
		say(err)
		_, err = sb.Teardown(ctx)
		say(err)
		report, err := m.Reap(ctx, manager.ReapOptions{})
		say(err)
		say(report)
		for sb := range m.List(ctx, manager.Filter{}) {
			say(status(t, m, sb.ID()))
			say(sb)
		}
		for s := range m.Snapshots(ctx, manager.Filter{}) {
			say(s)
		}
		for _, e := range drain(sub) {
			say(e)
		}
		for _, kind := range []string{"sandbox", "snapshot", "outbox", "place"} {
			for r, err := range w.store.Scan(ctx, store.Query{Kind: kind}) {
				if err != nil {
					t.Fatal(err)
				}
				texts = append(texts, string(r.Body), strings.Join(r.Tags, " "))
			}
		}
		texts = append(texts, log.String())
		if !strings.Contains(log.String(), `"op":"provision"`) || len(texts) < 40 {
			t.Fatal("the test has not seen what it should look at")
		}
		said := canary.Log(t)
		for _, text := range texts {
			fmt.Fprintln(said, text)
			if strings.Contains(text, secret) {
				t.Errorf("the key is in: %s", text)
			}
		}
		v.rotate("blue", "blue-1")
	})
}

// TestEnvironment: without a source of secrets keys come from the environment, and a missing one is asked for by name.
func TestEnvironment(t *testing.T) {
	w := newWorld(t)
	a := w.backend.Adapter(plain...)
	a.Manifest = append(a.Manifest, "config:\n  key: env:SANDBOXER_TEST_KEY\n"...)
	w.adapters = []sandboxer.Adapter{a}
	w.backend.Behave(fake.Behaviour{Credential: "env:SANDBOXER_TEST_KEY"})
	m := w.open()
	_, err := m.Create(context.Background(), ask("a"))
	wantCode(t, err, sandboxer.Unauthenticated)
	wantText(t, err, "set the environment variable SANDBOXER_TEST_KEY")
	t.Setenv("SANDBOXER_TEST_KEY", secret)
	created(t, m, ask("a"))
	if key := status(t, m, "a").Payer.Key; key == "" || strings.Contains(key, secret) {
		t.Errorf("the key is called %q", key)
	}
}
