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

// Adapter registers the handler "shed". In its extension's config `dir` is where the boxes are, by default below os.TempDir.
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

// Provision writes down whose a box is before it makes it, so that none is ever nobody's. Both may be there already.
func (s *shed) Provision(ctx context.Context, req *sandboxer.ProvisionRequest) (sandboxer.Handle, error) {
	if err := errors.Join(ctx.Err(), req.Inputs.Decode(&struct{}{})); err != nil { // it takes no inputs
		return sandboxer.Handle{}, sandboxer.Refused(sandboxer.CodeOf(err), err)
	}
	_, err := s.labels(req.Name, req.Labels)
	box := filepath.Join(s.dir, req.Name)
	if errors.Is(err, sandboxer.NotFound) {
		text, badLabels := json.Marshal(req.Labels)
		if err = errors.Join(badLabels, os.MkdirAll(s.dir, 0o700), os.WriteFile(box+".new", text, 0o600)); err == nil {
			err = os.Rename(box+".new", box+".labels") // never half there
		}
	}
	if err == nil {
		err = os.MkdirAll(box, 0o700)
	}
	if err != nil {
		return sandboxer.Handle{}, err
	}
	return req.Handle(1, req.Name)
}

// labels are those of a box that is ours. Only where they are written nowhere is there none: what cannot be read says nothing.
func (s *shed) labels(name string, ours map[string]string) (labels map[string]string, err error) {
	text, err := os.ReadFile(filepath.Join(s.dir, name+".labels"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, sandboxer.Mark(sandboxer.NotFound, fmt.Errorf("there is no box %s", name))
	}
	err = errors.Join(err, json.Unmarshal(text, &labels))
	if owner := ours[sandboxer.LabelOwner]; err == nil && owner != "" && labels[sandboxer.LabelOwner] != owner {
		return nil, sandboxer.Refused(sandboxer.AlreadyExists, fmt.Errorf("box %s is somebody else's", name))
	}
	return labels, err
}

func (s *shed) WaitReady(ctx context.Context, t sandboxer.Target) (sandboxer.Reachability, error) {
	_, err := s.labels(t.Handle.Ref().Name(), nil)
	return sandboxer.Reachability{RemoteDir: filepath.Join(s.dir, t.Handle.Ref().Name())}, errors.Join(ctx.Err(), err)
}

// Teardown removes last what tells the next one that something is left.
func (s *shed) Teardown(_ context.Context, t sandboxer.Target) (sandboxer.CleanupReport, error) {
	box := filepath.Join(s.dir, t.Handle.Ref().Name())
	parts := []string{box + ".new", box, box + ".labels"}
	switch _, err := s.labels(t.Handle.Ref().Name(), t.Labels); {
	case errors.Is(err, sandboxer.NotFound), errors.Is(err, sandboxer.AlreadyExists): // gone, or not ours
		return sandboxer.CleanupReport{}, os.RemoveAll(box + ".new") // of a Provision that was cut off
	case err != nil:
		return sandboxer.CleanupReport{Left: parts}, err
	}
	for i, part := range parts {
		if err := os.RemoveAll(part); err != nil {
			return sandboxer.CleanupReport{Left: parts[i:]}, err
		}
	}
	return sandboxer.CleanupReport{Removed: []string{"box " + box}}, nil
}

// Inspect is an optional capability: with it the Manager verifies that what it removed is gone.
func (s *shed) Inspect(_ context.Context, t sandboxer.Target) (sandboxer.Instance, error) {
	have, err := s.labels(t.Handle.Ref().Name(), nil)
	return sandboxer.Instance{Handle: t.Handle, State: sandboxer.StateReady, Labels: have}, err
}
