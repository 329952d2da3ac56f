package fake_test

import (
	"context"
	"errors"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const owner = "tests.store-1"

// open builds the extension of an adapter as a Manager does.
func open(t testing.TB, a sandboxer.Adapter) sandboxer.Extension {
	t.Helper()
	ext, err := a.New(t.Context(), sandboxer.Settings{ExtensionID: "ext." + a.Handler})
	if err != nil {
		t.Fatal(err)
	}
	return ext
}

func as[T any](t testing.TB, ext sandboxer.Extension) T {
	t.Helper()
	v, ok := sandboxer.As[T](ext)
	if !ok {
		t.Fatalf("%T lacks a capability", ext)
	}
	return v
}

func request(id sandboxer.ID) *sandboxer.ProvisionRequest {
	return &sandboxer.ProvisionRequest{
		ID: id, Attempt: 1, Name: string(id), Consumer: sandboxer.Consumer{ID: "test"},
		Profile: sandboxer.Profile{ID: "profile.fake", Extension: "ext.fake"},
		Labels:  map[string]string{sandboxer.LabelID: string(id), sandboxer.LabelName: string(id), sandboxer.LabelOwner: owner},
	}
}

func target(h sandboxer.Handle) sandboxer.Target {
	return sandboxer.Target{Handle: h, Labels: map[string]string{sandboxer.LabelOwner: owner}}
}

func bare(h sandboxer.Handle) sandboxer.Target { return target(sandboxer.BareHandle(h.Ref())) }

// made provisions a sandbox that works.
func made(t testing.TB, ext sandboxer.Extension, id sandboxer.ID) sandboxer.Target {
	t.Helper()
	h, err := ext.Provision(t.Context(), request(id))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ext.WaitReady(t.Context(), target(h)); err != nil {
		t.Fatal(err)
	}
	return target(h)
}

func wantCode(t testing.TB, err error, want sandboxer.Code) {
	t.Helper()
	if got := sandboxer.CodeOf(err); got != want {
		t.Errorf("code %q (%v), want %q", got, err, want)
	}
}

func wantLive(t testing.TB, b *fake.Backend, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, b.Live()); diff != "" {
		t.Errorf("live (-want +got):\n%s", diff)
	}
}

func TestLifeOfASandbox(t *testing.T) {
	t.Parallel()
	b := fake.New()
	ext, other := open(t, b.Adapter()), open(t, b.Adapter())
	first, err := ext.Provision(t.Context(), request("one"))
	if err != nil {
		t.Fatal(err)
	}
	again, err := other.Provision(t.Context(), request("one"))
	if err != nil || again != first {
		t.Errorf("the same name again is %v, %v; want %v", again, err, first)
	}
	r, err := other.WaitReady(t.Context(), bare(first))
	if err != nil || r.RemoteDir != fake.Workspace {
		t.Errorf("WaitReady by name: %+v, %v", r, err)
	}
	wantLive(t, b, "one")
	for range 3 {
		if _, err := ext.Teardown(t.Context(), bare(first)); err != nil {
			t.Error(err)
		}
	}
	wantLive(t, b)
	_, err = ext.WaitReady(t.Context(), target(first))
	wantCode(t, err, sandboxer.NotFound)
}

func TestForeignIsLeftAlone(t *testing.T) {
	t.Parallel()
	b := fake.New()
	ext := open(t, b.Adapter())
	b.Plant("ext.fake", "", "one", map[string]string{sandboxer.LabelOwner: "tests.store-2"})
	_, err := ext.Provision(t.Context(), request("one"))
	wantCode(t, err, sandboxer.AlreadyExists)
	if !sandboxer.IsRefused(err) {
		t.Error("AlreadyExists is not refused")
	}
	_, err = as[sandboxer.Finder](t, ext).Find(t.Context(), request("one"), time.Now())
	wantCode(t, err, sandboxer.NotFound)
	h := sandboxer.BareHandle(request("one").Ref())
	if r, err := ext.Teardown(t.Context(), target(h)); err != nil || len(r.Removed) > 0 {
		t.Errorf("teardown of a foreign sandbox: %+v, %v", r, err)
	}
	wantLive(t, b, "one")
	if _, err := ext.Teardown(t.Context(), sandboxer.Target{Handle: h}); err != nil {
		t.Error(err)
	}
	wantLive(t, b)
}

func TestFaults(t *testing.T) {
	t.Parallel()
	boom := sandboxer.Mark(sandboxer.Unavailable, errors.New("boom"))
	for name, tc := range map[string]struct {
		fault  fake.Fault
		code   sandboxer.Code
		handle bool
		live   []string
	}{
		"before":            {fake.Fault{Err: boom}, sandboxer.Unavailable, false, nil},
		"after":             {fake.Fault{Err: boom, Effect: fake.After}, sandboxer.Unavailable, false, []string{"one"}},
		"after with handle": {fake.Fault{Err: boom, Effect: fake.AfterWithHandle}, sandboxer.Unavailable, true, []string{"one"}},
		"hangs":             {fake.Fault{Hang: true}, sandboxer.DeadlineExceeded, false, nil},
		"hangs after":       {fake.Fault{Hang: true, Effect: fake.After}, sandboxer.DeadlineExceeded, false, []string{"one"}},
		"late":              {fake.Fault{Delay: time.Second}, "", true, []string{"one"}},
		"too late":          {fake.Fault{Delay: time.Hour}, sandboxer.DeadlineExceeded, false, nil},
		"never released":    {fake.Fault{Release: make(chan struct{})}, sandboxer.DeadlineExceeded, false, nil},
		"another's":         {fake.Fault{Err: boom, ID: "two"}, "", true, []string{"one"}},
		"skipped":           {fake.Fault{Err: boom, Skip: 1}, "", true, []string{"one"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := fake.New()
				ext := open(t, b.Adapter())
				if tc.fault.Release != nil {
					tc.fault.Release = make(chan struct{})
				}
				tc.fault.Op = sandboxer.OpProvision
				b.Fail(tc.fault)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				h, err := ext.Provision(ctx, request("one"))
				wantCode(t, err, tc.code)
				if !h.IsZero() != tc.handle {
					t.Errorf("handle %v", h)
				}
				wantLive(t, b, tc.live...)
			})
		})
	}
}

func TestManyCallers(t *testing.T) {
	t.Parallel()
	b := fake.New()
	ext := open(t, b.Adapter())
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			id := sandboxer.ID("s" + strings.Repeat("x", i%8))
			for range 50 {
				h, err := ext.Provision(t.Context(), request(id))
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = as[sandboxer.Executor](t, ext).Exec(t.Context(), target(h), sandboxer.ExecRequest{Command: []string{"true"}})
				if _, err := ext.Teardown(t.Context(), target(h)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	wantLive(t, b)
	if n := b.Count(sandboxer.OpProvision); n != 64*50 {
		t.Errorf("counted %d calls of Provision", n)
	}
}

// TestFailUnknownOp: a fault that could never hit is a mistake of the test.
func TestFailUnknownOp(t *testing.T) {
	t.Parallel()
	b := fake.New()
	defer func() {
		if got, want := recover(), `fake: Fail: there is no operation "provison"; did you mean "provision"?`; got != want {
			t.Errorf("panic %v, want %s", got, want)
		}
	}()
	b.Fail(fake.Fault{Op: "provison"})
}

// TestFailEveryOp: a fault may be for any operation that the contract has.
func TestFailEveryOp(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("../../extension.go")
	if err != nil {
		t.Fatal(err)
	}
	ops := regexp.MustCompile(`(?m)^\tOp\w+ +Op = "([a-z-]+)"`).FindAllSubmatch(source, -1)
	if len(ops) < 20 {
		t.Fatalf("found only %d operations", len(ops))
	}
	b := fake.New()
	for _, op := range ops {
		b.Fail(fake.Fault{Op: sandboxer.Op(op[1])})
	}
}
