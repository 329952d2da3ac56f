// Package shed is an adapter of one's own: its sandboxes are directories, which is all that a backend needs to be.
package shed

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sand-boxer/sandboxer"
)

//go:embed ext.shed.yaml
var manifest []byte

// Adapter registers the handler "shed". Its extension's config says where the boxes are: `dir`, which Defaults to a
// directory below the temporary one.
func Adapter() sandboxer.Adapter {
	return sandboxer.Adapter{Handler: "shed", Manifest: manifest, New: func(_ context.Context, s sandboxer.Settings) (sandboxer.Extension, error) {
		var cfg struct{ Dir string }
		if err := s.Config.Decode(&cfg); err != nil {
			return nil, err
		}
		if cfg.Dir == "" {
			cfg.Dir = filepath.Join(os.TempDir(), "shed")
		}
		return &shed{dir: cfg.Dir}, nil
	}}
}

type shed struct{ dir string }

// Provision makes the directory by moving it into place with its labels in it: there is never half a box.
func (s *shed) Provision(ctx context.Context, req *sandboxer.ProvisionRequest) (sandboxer.Handle, error) {
	if err := errors.Join(ctx.Err(), req.Inputs.Decode(&struct{}{})); err != nil { // it takes no inputs
		return sandboxer.Handle{}, sandboxer.Refused(sandboxer.CodeOf(err), err)
	}
	if have, err := s.labels(req.Name); err == nil && have[sandboxer.LabelOwner] != req.Labels[sandboxer.LabelOwner] {
		return sandboxer.Handle{}, sandboxer.Refused(sandboxer.AlreadyExists, fmt.Errorf("box %s is somebody else's", req.Name))
	} else if err == nil {
		return req.Handle(1, req.Name)
	}
	text, err := json.Marshal(req.Labels)
	if err = errors.Join(err, os.MkdirAll(s.dir, 0o700)); err != nil {
		return sandboxer.Handle{}, sandboxer.Refused(sandboxer.Internal, err)
	}
	aside, err := os.MkdirTemp(s.dir, ".new-")
	if err != nil {
		return sandboxer.Handle{}, sandboxer.Refused(sandboxer.Unavailable, err)
	}
	defer os.RemoveAll(aside) //nolint:errcheck // gone already where it was moved
	if err := errors.Join(os.WriteFile(filepath.Join(aside, "labels"), text, 0o600), os.Rename(aside, filepath.Join(s.dir, req.Name))); err != nil {
		return sandboxer.Handle{}, sandboxer.Mark(sandboxer.Unavailable, err)
	}
	return req.Handle(1, req.Name)
}

func (s *shed) labels(name string) (labels map[string]string, err error) {
	text, err := os.ReadFile(filepath.Join(s.dir, name, "labels"))
	if err == nil {
		err = json.Unmarshal(text, &labels)
	}
	return labels, err
}

func (s *shed) WaitReady(ctx context.Context, t sandboxer.Target) (sandboxer.Reachability, error) {
	name := t.Handle.Ref().Name()
	if _, err := s.labels(name); errors.Is(err, fs.ErrNotExist) {
		return sandboxer.Reachability{}, sandboxer.Mark(sandboxer.NotFound, fmt.Errorf("box %s is gone", name))
	}
	return sandboxer.Reachability{RemoteDir: filepath.Join(s.dir, name)}, sandboxer.Mark(sandboxer.CodeOf(ctx.Err()), ctx.Err())
}

func (s *shed) Teardown(_ context.Context, t sandboxer.Target) (sandboxer.CleanupReport, error) {
	name := t.Handle.Ref().Name()
	have, err := s.labels(name)
	if owner := t.Labels[sandboxer.LabelOwner]; err != nil || (owner != "" && have[sandboxer.LabelOwner] != owner) {
		return sandboxer.CleanupReport{}, nil // gone, or not ours
	}
	box := filepath.Join(s.dir, name)
	if err := os.RemoveAll(box); err != nil {
		return sandboxer.CleanupReport{Left: []string{"box " + box}}, sandboxer.Mark(sandboxer.Unavailable, err)
	}
	return sandboxer.CleanupReport{Removed: []string{"box " + box}}, nil
}

// Inspect is an optional capability: with it the Manager verifies that what it removed is gone.
func (s *shed) Inspect(_ context.Context, t sandboxer.Target) (sandboxer.Instance, error) {
	have, err := s.labels(t.Handle.Ref().Name())
	if err != nil {
		return sandboxer.Instance{}, sandboxer.Mark(sandboxer.NotFound, err)
	}
	return sandboxer.Instance{Handle: t.Handle, State: sandboxer.StateReady, Labels: have}, nil
}
