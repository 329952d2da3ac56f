package fake

import (
	"context"
	"path"
	"sync"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake/internal/memfs"
	"github.com/sand-boxer/sandboxer/adapters/fake/internal/shell"
)

// Workspace is where relative paths lead in a fake sandbox.
const Workspace = "/workspace"

// world is what is inside a sandbox: files, listening ports, background children.
type world struct {
	fs   *memfs.FS
	ctx  context.Context // ends with the sandbox
	stop context.CancelFunc
	jobs sync.WaitGroup

	mu        sync.Mutex
	sys       *shell.System
	over      bool
	listeners map[int]*listener
}

func newWorld(tree *memfs.FS) *world {
	if tree == nil {
		tree = memfs.New()
		for _, dir := range []string{Workspace, "/tmp", "/root"} {
			_ = tree.MkdirAll(dir, 0o755) // an empty tree takes them
		}
	}
	w := &world{fs: tree}
	w.ctx, w.stop = context.WithCancel(context.Background())
	return w
}

// seeded returns w, or a new world, with files in its workspace.
func seeded(w *world, files map[string]string) (*world, error) {
	if w == nil {
		w = newWorld(nil)
	}
	for name, text := range files {
		if err := w.fs.WriteFile(path.Join(Workspace, name), []byte(text), 0o644); err != nil {
			return nil, sandboxer.Refused(sandboxer.InvalidArgument, err)
		}
	}
	return w, nil
}

// world returns what is inside the running sandbox of t.
func (e *extension) world(ctx context.Context, t sandboxer.Target) (*world, error) {
	var w *world
	err := e.running(ctx, t, func(s *sandbox) error {
		if s.world == nil {
			s.world = newWorld(nil)
		}
		w = s.world
		return nil
	})
	return w, err
}

// begin registers one command or connection, unless the sandbox is gone.
func (w *world) begin() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return false
	}
	w.jobs.Add(1)
	return true
}

// system is the process table of the sandbox called name.
func (w *world) system(name string) *shell.System {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sys == nil {
		w.sys = &shell.System{FS: w.fs, Name: name, Listen: w.listen}
	}
	return w.sys
}

// end tells everything inside to stop.
func (w *world) end() {
	w.mu.Lock()
	w.over = true
	listeners := w.listeners
	w.listeners = nil
	w.mu.Unlock()
	w.stop()
	for _, l := range listeners {
		l.shut()
	}
}

// wait waits until everything inside has stopped.
func (w *world) wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		w.jobs.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ended(ctx)
	}
}

// forget loses all files, for the quirk.
func (w *world) forget() {
	_ = w.fs.Remove(Workspace, true)
	_ = w.fs.MkdirAll(Workspace, 0o755)
}
