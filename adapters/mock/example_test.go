package mock_test

import (
	"context"
	"fmt"
	"testing"

	"go.uber.org/mock/gomock"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/mock"
)

// backend can run commands, and nothing else beyond what every extension can.
type backend struct {
	*mock.MockExtension
	*mock.MockExecutor
}

func Example() {
	t := &testing.T{} // in a test: its own
	ctrl := gomock.NewController(t)
	b := backend{mock.NewMockExtension(ctrl), mock.NewMockExecutor(ctrl)}
	b.MockExtension.EXPECT().WaitReady(gomock.Any(), gomock.Any()).
		Return(sandboxer.Reachability{RemoteDir: "/workspace"}, nil)
	b.MockExecutor.EXPECT().Exec(gomock.Any(), gomock.Any(), gomock.Any()).
		DoAndReturn(func(_ context.Context, _ sandboxer.Target, r sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
			fmt.Println("asked to run", r.Command)
			return sandboxer.ExecResult{ExitCode: 3}, nil
		})
	adapter := sandboxer.Adapter{Handler: "mock", New: func(context.Context, sandboxer.Settings) (sandboxer.Extension, error) { return b, nil }}

	ctx := context.Background()
	ext, _ := adapter.New(ctx, sandboxer.Settings{ExtensionID: "ext.mock"})
	fmt.Println(sandboxer.Capabilities(ext))
	r, _ := ext.WaitReady(ctx, sandboxer.Target{})
	fmt.Println(r.RemoteDir)
	x, _ := sandboxer.As[sandboxer.Executor](ext)
	res, _ := x.Exec(ctx, sandboxer.Target{}, sandboxer.ExecRequest{Command: []string{"make", "test"}})
	fmt.Println(res.Err())
	ctrl.Finish()
	// Output:
	// [exec]
	// /workspace
	// asked to run [make test]
	// command exited with code 3
}
