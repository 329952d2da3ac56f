package main

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"go.uber.org/goleak"
	"go.uber.org/mock/gomock"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
	"github.com/sand-boxer/sandboxer/adapters/mock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestOnTheFake: the application's own manifest runs in memory, whose shell knows wc.
func TestOnTheFake(t *testing.T) {
	t.Parallel()
	lost := sandboxer.Mark(sandboxer.Unavailable, errors.New("connection reset"))
	for _, c := range []struct {
		name  string
		fault *fake.Fault
		lines int
		code  sandboxer.Code
	}{
		{name: "it works", lines: 2},
		{name: "the host is full", fault: &fake.Fault{Op: sandboxer.OpProvision, Err: sandboxer.Refused(sandboxer.ResourceExhausted, errors.New("full"))}, code: sandboxer.ResourceExhausted},
		{name: "a reply is lost", fault: &fake.Fault{Op: sandboxer.OpProvision, Times: 1, Err: lost, Effect: fake.After}, lines: 2},
		{name: "the command's fate is not known", fault: &fake.Fault{Op: sandboxer.OpExec, Err: lost}, code: sandboxer.Unavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			backend := fake.New()
			m, err := open(t.Context(), backend.InPlaceOf("local"))
			if err != nil {
				t.Fatal(err)
			}
			if c.fault != nil {
				backend.Fail(*c.fault)
			}
			n, err := countLines(t.Context(), m, "profile.counter", "a\nb\n")
			if n != c.lines || sandboxer.CodeOf(err) != c.code {
				t.Errorf("got %d lines and %v, want %d and %q", n, err, c.lines, c.code)
			}
			if err := m.Close(); err != nil {
				t.Error(err)
			}
			if live := backend.Live(); len(live) > 0 {
				t.Errorf("the application leaks %v", live)
			}
		})
	}
}

// TestOnMocks: what exactly the application asks its backend for.
func TestOnMocks(t *testing.T) {
	t.Parallel()
	ctrl := gomock.NewController(t)
	backend := struct {
		*mock.MockExtension
		*mock.MockExecutor
	}{mock.NewMockExtension(ctrl), mock.NewMockExecutor(ctrl)}
	m, err := open(t.Context(), sandboxer.Adapter{
		Handler: "local",
		New:     func(context.Context, sandboxer.Settings) (sandboxer.Extension, error) { return backend, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	gomock.InOrder(
		backend.MockExtension.EXPECT().Provision(gomock.Any(), gomock.Any()).DoAndReturn(func(_ context.Context, req *sandboxer.ProvisionRequest) (sandboxer.Handle, error) {
			if req.Consumer.ID != "counter" {
				t.Errorf("the consumer is %q", req.Consumer.ID)
			}
			return req.Handle(1, "state")
		}),
		backend.MockExtension.EXPECT().WaitReady(gomock.Any(), gomock.Any()).Return(sandboxer.Reachability{}, nil),
		backend.MockExecutor.EXPECT().Exec(gomock.Any(), gomock.Any(), gomock.Any()).DoAndReturn(func(_ context.Context, _ sandboxer.Target, req sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
			_, err := fmt.Fprintln(req.Stdout, " 7")
			return sandboxer.ExecResult{}, err
		}),
		backend.MockExtension.EXPECT().Teardown(gomock.Any(), gomock.Any()).Return(sandboxer.CleanupReport{}, nil),
	)
	n, err := countLines(t.Context(), m, "profile.counter", "")
	if n != 7 || err != nil {
		t.Errorf("got %d lines and %v, want 7", n, err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

func Example() {
	if err := run(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output: 3 lines
}
