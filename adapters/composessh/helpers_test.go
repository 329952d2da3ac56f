package composessh_test

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"os"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/internal/hosttest"
	"github.com/sand-boxer/sandboxer/manager/store"
)

// build makes an extension without a Manager, as one that has died leaves it.
func build(t testing.TB, a sandboxer.Adapter, config ...string) sandboxer.Extension {
	t.Helper()
	cfg := sandboxer.Inputs{"root": place, "ssh_config": "none", "agent": "none", "stop_grace": "1s"}
	for i := 0; i+1 < len(config); i += 2 {
		cfg[config[i]] = config[i+1]
	}
	ext, err := a.New(context.Background(), sandboxer.Settings{ExtensionID: "ext.compose-ssh", Config: cfg})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeExt(t, ext) })
	return ext
}

func closeExt(t testing.TB, ext sandboxer.Extension) {
	t.Helper()
	if err := ext.(io.Closer).Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// provisionRequest is what a Manager would ask.
func provisionRequest(h *hosttest.Host, repo string) *sandboxer.ProvisionRequest {
	id := sandboxer.NewID()
	return &sandboxer.ProvisionRequest{
		ID: id, Attempt: 1, Name: string(id), Profile: sandboxer.Profile{ID: "profile.stack", Extension: "ext.compose-ssh"},
		Inputs: sandboxer.Inputs{"repo": repo}, Host: h.Host(), Consumer: sandboxer.Consumer{ID: "test"},
		Labels: map[string]string{sandboxer.LabelID: string(id), sandboxer.LabelName: string(id), sandboxer.LabelOwner: "test.store"},
		Secret: h.Secret, Checkpoint: func(context.Context, sandboxer.Handle) error { return nil },
	}
}

func target(req *sandboxer.ProvisionRequest, h sandboxer.Handle) sandboxer.Target {
	return sandboxer.Target{Handle: h, Host: req.Host, Inputs: req.Inputs, Consumer: req.Consumer, Labels: req.Labels, ExpiresAt: req.ExpiresAt, Secret: req.Secret}
}

// started makes a sandbox without a Manager, and removes it at the end of the test.
func started(t *testing.T, ext sandboxer.Extension, req *sandboxer.ProvisionRequest) sandboxer.Target {
	t.Helper()
	handle, err := ext.Provision(context.Background(), req)
	to := target(req, handle)
	if err == nil {
		_, err = ext.WaitReady(context.Background(), to)
	} else {
		to = target(req, sandboxer.BareHandle(req.Ref()))
	}
	t.Cleanup(func() {
		if rep, err := ext.Teardown(context.Background(), to); err != nil {
			t.Errorf("teardown of %s: %v %+v", req.Name, err, rep)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// pause waits between two looks at what a host does by itself.
func pause(t testing.TB, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

// tarOf is a directory as a tar stream.
func tarOf(t testing.TB, dir string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func newStore() store.Store { return store.Memory() }
