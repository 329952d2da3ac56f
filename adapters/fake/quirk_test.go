package fake_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
)

// lab is what a probe works with: a backend, two instances over it, and one sandbox that is ready.
type lab struct {
	*testing.T
	b        *fake.Backend
	ext, two sandboxer.Extension
	sbx      sandboxer.Target
}

func (l *lab) run(r sandboxer.ExecRequest, script string) (string, string, sandboxer.ExecResult, error) {
	var out, errs bytes.Buffer
	r.Command = []string{"sh", "-c", script}
	if r.Stdout == nil {
		r.Stdout = &out
	}
	r.Stderr = &errs
	res, err := as[sandboxer.Executor](l, l.ext).Exec(l.Context(), l.sbx, r)
	return out.String(), errs.String(), res, err
}

// prints reports what keeps a script from printing want.
func (l *lab) prints(script, want string) error {
	out, _, _, err := l.run(sandboxer.ExecRequest{}, script)
	if err == nil && out != want {
		err = fmt.Errorf("%s printed %q, not %q", script, out, want)
	}
	return err
}

func expect(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, args...)
}

func code(err error, want sandboxer.Code) error {
	return expect(sandboxer.CodeOf(err) == want, "code %q (%v), not %q", sandboxer.CodeOf(err), err, want)
}

// foreign plants a sandbox of another owner.
func (l *lab) foreign() sandboxer.Handle {
	l.b.Plant("ext.fake", "", "theirs", map[string]string{sandboxer.LabelOwner: "tests.store-2"})
	return sandboxer.BareHandle(request("theirs").Ref())
}

func (l *lab) live(want ...string) error {
	got := l.b.Live()
	return expect(slices.Equal(got, want), "live are %v, not %v", got, want)
}

func (l *lab) snapshot() (sandboxer.Snapshot, error) {
	return as[sandboxer.Snapshotter](l, l.ext).Snapshot(l.Context(), l.sbx,
		sandboxer.SnapshotRequest{ID: "snap", Labels: map[string]string{sandboxer.LabelOwner: owner}})
}

func (l *lab) deleteSnapshot(s sandboxer.Snapshot) error {
	return as[sandboxer.Snapshotter](l, l.ext).DeleteSnapshot(l.Context(), sandboxer.SnapshotTarget{Snapshot: s})
}

func (l *lab) reading() (sandboxer.MeterReading, error) {
	return as[sandboxer.Meterer](l, l.ext).MeterActual(l.Context(), l.sbx)
}

func (l *lab) teardown() error {
	_, err := l.ext.Teardown(l.Context(), l.sbx)
	return err
}

func (l *lab) listed() ([]sandboxer.Instance, error) {
	var out []sandboxer.Instance
	for in, err := range as[sandboxer.Lister](l, l.ext).List(l.Context(), sandboxer.ListQuery{}) {
		if err != nil {
			return nil, err
		}
		out = append(out, in)
	}
	return out, nil
}

func (l *lab) provision(change func(*sandboxer.ProvisionRequest)) (sandboxer.Handle, error) {
	req := request("two")
	change(req)
	return l.ext.Provision(l.Context(), req)
}

// probes tell a backend with a quirk from one without: nil, or what is wrong.
func probes() map[fake.Quirk]func(*lab) error {
	again := func(l *lab) (sandboxer.Handle, error) { return l.ext.Provision(l.Context(), request("one")) }
	all := insideProbes()
	maps.Copy(all, map[fake.Quirk]func(*lab) error{
		fake.CreatesTwice: func(l *lab) error { _, _ = again(l); return l.live("one") },
		fake.ForgetsName: func(l *lab) error {
			h, err := again(l)
			return errors.Join(err, expect(h == l.sbx.Handle, "another handle"))
		},
		fake.StealsForeign: func(l *lab) error {
			l.foreign()
			_, err := l.ext.Provision(l.Context(), request("theirs"))
			return code(err, sandboxer.AlreadyExists)
		},
		fake.BadInputsCreate: func(l *lab) error {
			_, err := l.provision(func(r *sandboxer.ProvisionRequest) { r.Inputs = sandboxer.Inputs{"flies": 1} })
			return errors.Join(code(err, sandboxer.InvalidArgument), l.live("one"))
		},
		fake.AcceptsBadInputs: func(l *lab) error {
			_, err := l.provision(func(r *sandboxer.ProvisionRequest) { r.Inputs = sandboxer.Inputs{"flies": 1} })
			return code(err, sandboxer.InvalidArgument)
		},
		fake.ReadyTooEarly: func(l *lab) error {
			l.b.Behave(fake.Behaviour{ReadyAfter: time.Hour})
			begun := time.Now()
			_, err := l.ext.WaitReady(l.Context(), l.sbx)
			return errors.Join(err, expect(time.Since(begun) >= time.Hour, "ready after %v", time.Since(begun)))
		},
		fake.ReadyOnce: func(l *lab) error { _, err := l.two.WaitReady(l.Context(), l.sbx); return err },
		fake.TeardownLies: func(l *lab) error {
			return errors.Join(l.teardown(), l.live())
		},
		fake.TeardownOnce: func(l *lab) error { return errors.Join(l.teardown(), l.teardown()) },
		fake.TeardownNeedsState: func(l *lab) error {
			_, err := l.ext.Teardown(l.Context(), bare(l.sbx.Handle))
			return err
		},
		fake.TeardownForeign: func(l *lab) error {
			_, err := l.ext.Teardown(l.Context(), target(l.foreign()))
			return errors.Join(err, l.live("one", "theirs"))
		},
		fake.TeardownLeavesQuiet: func(l *lab) error {
			r, err := l.ext.Teardown(l.Context(), l.sbx)
			return expect(len(r.Left) == 0 || err != nil, "left %v without an error", r.Left)
		},
		fake.HandleNeedsInstance: func(l *lab) error {
			h, err := again(l)
			if err != nil {
				return err
			}
			_, err = l.two.WaitReady(l.Context(), target(h))
			return err
		},
		fake.FindCreates: func(l *lab) error {
			_, err := as[sandboxer.Finder](l, l.ext).Find(l.Context(), request("two"), time.Now())
			return errors.Join(code(err, sandboxer.NotFound), l.live("one"))
		},
		fake.FindForeign: func(l *lab) error {
			l.foreign()
			_, err := as[sandboxer.Finder](l, l.ext).Find(l.Context(), request("theirs"), time.Now())
			return code(err, sandboxer.NotFound)
		},
		fake.FindMisses: func(l *lab) error {
			_, err := as[sandboxer.Finder](l, l.ext).Find(l.Context(), request("one"), time.Now())
			return err
		},
		fake.ListsForeign: func(l *lab) error {
			l.foreign()
			if _, err := l.provision(func(*sandboxer.ProvisionRequest) {}); err != nil {
				return err
			}
			all, err := l.listed()
			for _, in := range all {
				if in.Handle.Ref().ID == "theirs" && in.Labels[sandboxer.LabelOwner] == owner {
					return errors.New("theirs is listed as ours")
				}
			}
			return err
		},
		fake.ListMisses: func(l *lab) error {
			all, err := l.listed()
			return errors.Join(err, expect(len(all) == 1, "%d listed", len(all)))
		},
		fake.ListDropsLabels: func(l *lab) error {
			all, err := l.listed()
			return errors.Join(err, expect(len(all) > 0 && all[0].Labels[sandboxer.LabelOwner] == owner, "listed %+v", all))
		},
		fake.InspectLies: func(l *lab) error {
			_, err := as[sandboxer.Inspector](l, l.ext).Inspect(l.Context(), l.sbx)
			return err
		},
		fake.InspectNeverGone: func(l *lab) error {
			err := l.teardown()
			_, gone := as[sandboxer.Inspector](l, l.ext).Inspect(l.Context(), l.sbx)
			return errors.Join(err, code(gone, sandboxer.NotFound))
		},
		fake.InspectWrongState: func(l *lab) error {
			err := as[sandboxer.Pauser](l, l.ext).Pause(l.Context(), l.sbx)
			in, err2 := as[sandboxer.Inspector](l, l.ext).Inspect(l.Context(), l.sbx)
			return errors.Join(err, err2, expect(in.State == sandboxer.StatePaused, "state %q", in.State))
		},
		fake.ExtendShortens: func(l *lab) error {
			end := time.Now().Add(time.Hour)
			h, err := l.provision(func(r *sandboxer.ProvisionRequest) { r.ExpiresAt = end })
			got, err2 := as[sandboxer.Extender](l, l.ext).Extend(l.Context(), target(h), end.Add(-time.Minute))
			return errors.Join(err, err2, expect(got.Equal(end), "ends at %v", got))
		},
		fake.ExtendLies: func(l *lab) error {
			end := time.Now().Add(time.Hour)
			h, err := l.provision(func(r *sandboxer.ProvisionRequest) { r.ExpiresAt = end })
			got, err2 := as[sandboxer.Extender](l, l.ext).Extend(l.Context(), target(h), end.Add(time.Hour))
			r, err3 := l.ext.WaitReady(l.Context(), target(h))
			return errors.Join(err, err2, err3, expect(r.ExpiresAt.Equal(got), "granted %v, set %v", got, r.ExpiresAt))
		},
		fake.IgnoresExpiry: func(l *lab) error {
			end := time.Now().Add(time.Hour)
			h, err := l.provision(func(r *sandboxer.ProvisionRequest) { r.ExpiresAt = end })
			r, err2 := l.ext.WaitReady(l.Context(), target(h))
			return errors.Join(err, err2, expect(!r.ExpiresAt.Before(end), "ends at %v", r.ExpiresAt))
		},
		fake.PauseTwiceFails: func(l *lab) error {
			p := as[sandboxer.Pauser](l, l.ext)
			return errors.Join(p.Pause(l.Context(), l.sbx), p.Pause(l.Context(), l.sbx))
		},
		fake.PauseLosesFiles: func(l *lab) error {
			p := as[sandboxer.Pauser](l, l.ext)
			err := l.prints("echo x > f", "")
			err2 := p.Pause(l.Context(), l.sbx)
			_, err3 := p.Resume(l.Context(), l.sbx)
			return errors.Join(err, err2, err3, l.prints("cat f", "x\n"))
		},
		fake.DialAnything: func(l *lab) error {
			c, err := as[sandboxer.Dialer](l, l.ext).Dial(l.Context(), l.sbx, "tcp", "localhost:80")
			if c != nil {
				defer func() { _ = c.Close() }()
			}
			return code(err, sandboxer.Unavailable)
		},
		fake.SnapshotForgotten: func(l *lab) error {
			_, err := l.snapshot()
			_, err2 := l.snapshot()
			return errors.Join(err, err2, l.live("one", "snapshot/snap"))
		},
		fake.SnapshotLosesFiles: func(l *lab) error {
			err := l.prints("echo x > f", "")
			snap, err2 := l.snapshot()
			h, err3 := as[sandboxer.Snapshotter](l, l.ext).Restore(l.Context(), request("two"), snap)
			l.sbx = target(h)
			return errors.Join(err, err2, err3, l.prints("cat f", "x\n"))
		},
		fake.SnapshotsUnlisted: func(l *lab) error {
			_, err := l.snapshot()
			n := 0
			for _, err2 := range as[sandboxer.Snapshotter](l, l.ext).ListSnapshots(l.Context(), sandboxer.ListQuery{}) {
				err, n = errors.Join(err, err2), n+1
			}
			return errors.Join(err, expect(n == 1, "%d listed", n))
		},
		fake.SnapshotDeleteLies: func(l *lab) error {
			snap, err := l.snapshot()
			return errors.Join(err, l.deleteSnapshot(snap), l.live("one"))
		},
		fake.SnapshotDeleteOnce: func(l *lab) error {
			snap, err := l.snapshot()
			return errors.Join(err, l.deleteSnapshot(snap), l.deleteSnapshot(snap))
		},
		fake.SnapshotNeedsState: func(l *lab) error {
			_, err := l.snapshot()
			return errors.Join(err, l.deleteSnapshot(sandboxer.Snapshot{ID: "snap"}))
		},
		fake.SnapshotDiesToo: func(l *lab) error {
			_, err := l.snapshot()
			return errors.Join(err, l.teardown(), l.live("snapshot/snap"))
		},
		fake.ImportUnverified: func(l *lab) error {
			to := sandboxer.SnapshotTarget{Snapshot: sandboxer.Snapshot{ID: "moved", Digest: "sha256:00"}}
			_, err := as[sandboxer.SnapshotTransferer](l, l.ext).ImportSnapshot(l.Context(), to, tree(l))
			return errors.Join(code(err, sandboxer.InvalidArgument), l.live("one"))
		},
		fake.MeterFalls: func(l *lab) error {
			time.Sleep(time.Hour)
			first, err := l.reading()
			second, err2 := l.reading()
			c, err3 := second.Total.Cmp(first.Total)
			return errors.Join(err, err2, err3, expect(c >= 0, "%v, then %v", first.Total, second.Total))
		},
		fake.MeterForgets: func(l *lab) error {
			err := l.teardown()
			_, err2 := l.reading()
			return errors.Join(err, err2)
		},
		fake.MeterNeverFinal: func(l *lab) error {
			err := l.teardown()
			r, err2 := l.reading()
			return errors.Join(err, err2, expect(r.Final, "not final"))
		},
		fake.MeterWrongSum: func(l *lab) error {
			time.Sleep(time.Hour)
			r, err := l.reading()
			sum, err2 := sandboxer.SumLines(r.Lines)
			return errors.Join(err, err2, expect(sum == r.Total, "%v is not %v", sum, r.Total))
		},
		fake.EstimateCreates: func(l *lab) error {
			_, err := as[sandboxer.Meterer](l, l.ext).EstimateCost(l.Context(), sandboxer.Profile{}, time.Hour)
			return errors.Join(err, l.live("one"))
		},
		fake.PreflightCreates: func(l *lab) error {
			err := as[sandboxer.Preflighter](l, l.ext).Preflight(l.Context(), request("two"))
			return errors.Join(err, l.live("one"))
		},
		fake.UndeclaredCapability: func(l *lab) error {
			ext := open(l, l.b.Adapter(sandboxer.CapExec))
			return expect(len(sandboxer.Capabilities(ext)) == 1, "can %v", sandboxer.Capabilities(ext))
		},
		fake.MissingCapability: func(l *lab) error {
			ext := open(l, l.b.Adapter(sandboxer.CapExec, sandboxer.CapFiles))
			return expect(len(sandboxer.Capabilities(ext)) == 2, "can %v", sandboxer.Capabilities(ext))
		},
		fake.IgnoresContext: func(l *lab) error {
			ctx, cancel := context.WithCancel(l.Context())
			cancel()
			_, err := l.ext.Provision(ctx, request("two"))
			return errors.Join(code(err, sandboxer.Canceled), l.live("one"))
		},
		fake.HandleHoldsSecret: func(l *lab) error {
			l.b.Behave(fake.Behaviour{Credential: "key"})
			h, err := l.provision(func(r *sandboxer.ProvisionRequest) { r.Secret = key("v1") })
			text, err2 := h.MarshalJSON()
			return errors.Join(err, err2, expect(!bytes.Contains(text, []byte("the value")), "%s", text))
		},
		fake.ErrorHoldsSecret: func(l *lab) error {
			l.b.Behave(fake.Behaviour{Credential: "key"})
			l.b.Revoke("v1")
			_, err := l.provision(func(r *sandboxer.ProvisionRequest) { r.Secret = key("v1") })
			return errors.Join(code(err, sandboxer.Unauthenticated), expect(!strings.Contains(err.Error(), "the value"), "%v", err))
		},
		fake.Unclassified: func(l *lab) error {
			err := l.teardown()
			_, err2 := l.ext.WaitReady(l.Context(), l.sbx)
			return errors.Join(err, code(err2, sandboxer.NotFound))
		},
	})
	return all
}

func key(version string) sandboxer.SecretFunc {
	return func(context.Context, sandboxer.SecretRef) (sandboxer.Secret, error) {
		return sandboxer.NewSecret([]byte("the value"), version), nil
	}
}

// TestQuirks: each rule holds without its quirk, and is seen to be broken with it.
func TestQuirks(t *testing.T) {
	t.Parallel()
	all := probes()
	for _, q := range fake.Quirks() {
		probe := all[q]
		if probe == nil {
			t.Errorf("nothing shows that %q", q)
			continue
		}
		delete(all, q)
		for _, on := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s: %v", q, on), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					b := fake.New()
					l := &lab{T: t, b: b, ext: open(t, b.Adapter()), two: open(t, b.Adapter())}
					l.sbx = made(t, l.ext, "one")
					if on {
						b.Break(q)
					}
					err := probe(l)
					b.Mend()
					b.Behave(fake.Behaviour{})
					for _, name := range b.Live() { // ends what still runs inside
						b.Vanish(name)
					}
					synctest.Wait()
					if on == (err == nil) {
						t.Errorf("quirk %v: %v", on, err)
					}
				})
			})
		}
	}
	for q := range all {
		t.Errorf("%q is not among Quirks()", q)
	}
}
