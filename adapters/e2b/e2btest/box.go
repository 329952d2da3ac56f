package e2btest

import (
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// box is one sandbox.
type box struct {
	id       string
	team     string
	template string
	token    string
	metadata map[string]string
	envs     map[string]string
	root     string // its directory; paths of the sandbox are below it
	started  time.Time
	ends     time.Time
	paused   bool
	stopped  chan struct{} // closed when it is paused or ended: streams break
	keep     bool          // pause instead of end
	timer    *time.Timer

	mu        sync.Mutex
	processes map[int]*process
	over      bool
}

type snapshot struct {
	id, team string
	names    []string
	root     string
	source   string
}

func random(n int) string {
	const alphabet = "0123456789abcdefghijklmnopqrstuvwxyz"
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the program instead
	for i := range b {
		b[i] = alphabet[int(b[i])%len(alphabet)]
	}
	return string(b)
}

func (b *box) home() string { return filepath.Join(b.root, "home", "user") }

// real maps a path of the sandbox to one of this machine. Paths that the server gave out itself are real already.
func (b *box) real(p string) string {
	switch {
	case p == "" || p == "~":
		return b.home()
	case strings.HasPrefix(p, "~/"):
		return filepath.Join(b.home(), p[2:])
	case !filepath.IsAbs(p):
		return filepath.Join(b.home(), p)
	case p == b.root || strings.HasPrefix(p, b.root+string(filepath.Separator)):
		return filepath.Clean(p)
	}
	return filepath.Join(b.root, filepath.Clean(p))
}

// copyTree copies with modes, times and links, as a snapshot of a disk does.
func copyTree(to, from string) error {
	out, err := exec.Command("cp", "-a", from, to).CombinedOutput() //nolint:noctx // it is local and short
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// newBox makes a sandbox from a template or a snapshot. The caller holds s.mu.
func (s *Server) newBox(team, template string, metadata, envs map[string]string, life time.Duration, keep bool) (*box, error) {
	id := "i" + random(19)
	b := &box{
		id: id, team: team, template: template, token: s.opts.TokenPrefix + random(20), metadata: metadata, envs: envs,
		root: filepath.Join(s.dir, id), keep: keep, processes: map[int]*process{},
	}
	if sn := s.snapshots[template]; sn != nil {
		if err := copyTree(b.root, sn.root); err != nil {
			return nil, err
		}
	}
	for _, dir := range []string{b.home(), filepath.Join(b.root, "tmp")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	s.begin(b, life)
	return b, nil
}

// begin lets a sandbox run for life. The caller holds s.mu.
func (s *Server) begin(b *box, life time.Duration) {
	b.started = time.Now()
	if b.paused {
		signalMarked(b.mark(), sigCont)
	}
	b.paused, b.stopped = false, make(chan struct{})
	s.boxes[b.id] = b
	s.until(b, b.started.Add(life))
	running := 0
	for _, other := range s.boxes {
		if other.team == b.team && !other.paused {
			running++
		}
	}
	s.most[b.team] = max(s.most[b.team], running)
}

// until sets the deadline. The caller holds s.mu.
func (s *Server) until(b *box, at time.Time) {
	b.ends = at
	if b.timer != nil {
		b.timer.Stop()
	}
	b.timer = time.AfterFunc(time.Until(at), func() { s.deadline(b) })
}

func (s *Server) deadline(b *box) {
	s.mu.Lock()
	due := !b.paused && !time.Now().Before(b.ends)
	if due && b.keep {
		s.pause(b)
		due = false
	}
	s.mu.Unlock()
	if due {
		s.end(b)
	}
}

// pause stops what runs in a sandbox and breaks the connections into it. The caller holds s.mu.
func (s *Server) pause(b *box) {
	b.paused = true
	close(b.stopped)
	for range 3 { // what was being started
		signalMarked(b.mark(), sigStop)
	}
}

// mark is what all processes of a sandbox have in their environment.
func (b *box) mark() []byte { return []byte("E2B_SANDBOX_ID=" + b.id) }

// end kills a sandbox.
func (s *Server) end(b *box) bool {
	s.mu.Lock()
	if s.boxes[b.id] != b {
		s.mu.Unlock()
		return false
	}
	delete(s.boxes, b.id)
	b.timer.Stop()
	if !b.paused {
		close(b.stopped) // before its processes end: the machine is gone, and nobody is left to say how
	}
	s.mu.Unlock()
	b.killAll()
	_ = os.RemoveAll(b.root) // Close removes what is left
	return true
}

// take stores a snapshot of b.
func (s *Server) take(b *box, name string) (*snapshot, error) {
	id := random(20) + ":default"
	sn := &snapshot{id: id, team: b.team, source: b.id, root: filepath.Join(s.dir, "snapshot-"+strings.TrimSuffix(id, ":default"))}
	if name == "" {
		name = "snapshot-" + random(8)
	}
	sn.names = []string{fmt.Sprintf("%s/%s:default", b.team, name)}
	if err := copyTree(sn.root, b.root); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.snapshots[id] = sn
	return sn, nil
}
