package mock_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"go.uber.org/mock/gomock"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/mock"
	"github.com/sand-boxer/sandboxer/manager/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// all has every mock of a capability; a capability without one is missing below.
type all struct {
	*mock.MockExtension
	*mock.MockFinder
	*mock.MockLister
	*mock.MockExecutor
	*mock.MockFileTransferer
	*mock.MockDialer
	*mock.MockExposer
	*mock.MockSnapshotter
	*mock.MockSnapshotTransferer
	*mock.MockMeterer
	*mock.MockInspector
	*mock.MockExtender
	*mock.MockPauser
	*mock.MockPreflighter
	*mock.MockSyncer
}

var (
	_ sandboxer.SecretSource = (*mock.MockSecretSource)(nil)
	_ store.Store            = (*mock.MockStore)(nil)
)

func TestEveryCapabilityHasAMock(t *testing.T) {
	t.Parallel()
	if diff := cmp.Diff(sandboxer.AllCapabilities(), sandboxer.Capabilities(all{})); diff != "" {
		t.Errorf("(-capabilities +mocks):\n%s", diff)
	}
}

// some has one capability.
type some struct {
	*mock.MockExtension
	*mock.MockExecutor
}

func TestAStructOfMocksHasItsCapabilitiesOnly(t *testing.T) {
	t.Parallel()
	ctrl := gomock.NewController(t)
	b := some{mock.NewMockExtension(ctrl), mock.NewMockExecutor(ctrl)}
	if diff := cmp.Diff([]sandboxer.Capability{sandboxer.CapExec}, sandboxer.Capabilities(b)); diff != "" {
		t.Errorf("capabilities (-want +got):\n%s", diff)
	}
	gone := sandboxer.Mark(sandboxer.NotFound, errors.New("gone"))
	b.MockExecutor.EXPECT().Exec(gomock.Any(), gomock.Any(), gomock.Any()).Return(sandboxer.ExecResult{}, gone)
	x, ok := sandboxer.As[sandboxer.Executor](b)
	if !ok {
		t.Fatal("no Executor")
	}
	if _, err := x.Exec(t.Context(), sandboxer.Target{}, sandboxer.ExecRequest{}); !errors.Is(err, sandboxer.NotFound) {
		t.Errorf("Exec: %v", err)
	}
}

// TestGenerated runs the go:generate lines into another directory: what is checked in is what they make. Where the
// generator cannot be had it is skipped, unless SANDBOXER_REQUIRE_REAL=1 says that it must be there.
func TestGenerated(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(doc)) {
		command, ok := strings.CutPrefix(line, "//go:generate go ")
		if !ok {
			continue
		}
		n++
		args := strings.Fields(command)
		at := slices.Index(args, "-destination")
		if at < 0 || at+1 == len(args) {
			t.Fatalf("no -destination in %q", line)
		}
		name := args[at+1]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args[at+1] = filepath.Join(t.TempDir(), name)
			if out, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput(); err != nil {
				if os.Getenv("SANDBOXER_REQUIRE_REAL") == "1" {
					t.Fatalf("mockgen: %v\n%s", err, out)
				}
				t.Skipf("mockgen cannot be run here: %v\n%s", err, out)
			}
			want, err := os.ReadFile(args[at+1])
			if err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(want, got) {
				t.Errorf("%s is not what its interfaces make of it; run go generate ./adapters/mock\n%s", name, cmp.Diff(string(got), string(want)))
			}
		})
	}
	if n == 0 {
		t.Error("doc.go has no go:generate line")
	}
}
