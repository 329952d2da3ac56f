package manager

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net"
	"os"
	"sync"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/archive"
	"github.com/sand-boxer/sandboxer/manager/store"
)

// Sandbox is one sandbox of a Manager. It holds nothing but its name: any number of them may stand for the same sandbox,
// and it is dropped without being closed. Methods fail with FailedPrecondition where the sandbox's state forbids them, and
// with Unsupported where its extension cannot do what they ask for.
type Sandbox struct {
	m         *Manager
	id        sandboxer.ID
	extension string // where it was when it was got
	moves     bool   // it was not ready then: a create may have gone on to another extension since
}

func (m *Manager) sandbox(r *record) *Sandbox {
	sb := &Sandbox{m: m, id: r.ID, moves: r.ReadyAt.IsZero()}
	if a := r.current(); a != nil {
		sb.extension = a.Extension
	}
	return sb
}

// Get finds a sandbox by its ID. NotFound where none is recorded.
func (m *Manager) Get(ctx context.Context, id sandboxer.ID) (*Sandbox, error) {
	if err := id.Validate(); err != nil {
		return nil, wrap("get", &record{ID: id}, err)
	}
	r, err := m.load(ctx, id)
	if err != nil {
		return nil, wrap("get", &record{ID: id}, err)
	}
	return m.sandbox(r), nil
}

// List yields the sandboxes that f matches, in the order of their IDs; those of NewID are then sorted by time. Ended ones
// are listed until Config.Keep has passed; Filter.States leaves them out. An error ends the listing.
func (m *Manager) List(ctx context.Context, f Filter) iter.Seq2[*Sandbox, error] {
	return func(yield func(*Sandbox, error) bool) {
		for r, err := range m.records(ctx, f) {
			if err != nil {
				yield(nil, wrap("list", nil, err))
				return
			}
			if !yield(m.sandbox(r), nil) {
				return
			}
		}
	}
}

// records yields the records that f matches, through the narrowest index there is.
func (m *Manager) records(ctx context.Context, f Filter) iter.Seq2[*record, error] {
	return func(yield func(*record, error) bool) {
		if len(f.IDs) > 0 {
			for _, id := range f.IDs {
				r, err := m.load(ctx, id)
				if errors.Is(err, sandboxer.NotFound) || (err == nil && !f.matches(r)) {
					continue
				}
				if !yield(r, err) || err != nil {
					return
				}
			}
			return
		}
		q := store.Query{Kind: kindSandbox}
		switch {
		case f.Host != "":
			q.Tag = hostTag(f.Host)
		case f.Tenant != "":
			q.Tag = tenantTag(f.Tenant)
		}
		for sr, err := range m.cfg.Store.Scan(ctx, q) {
			var r *record
			if err == nil {
				r, err = decodeRecord(sr)
			}
			if err == nil && !f.matches(r) {
				continue
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}

// ID returns the sandbox's name.
func (s *Sandbox) ID() sandboxer.ID { return s.id }

// Status returns everything that is known of the sandbox. It asks the store, not the backend.
func (s *Sandbox) Status(ctx context.Context) (sandboxer.SandboxStatus, error) {
	r, err := s.m.load(ctx, s.id)
	if err != nil {
		return sandboxer.SandboxStatus{}, wrap("status", &record{ID: s.id}, err)
	}
	return r.status(), nil
}

// Supports reports whether the sandbox's extension has a capability. Expose works over "dial" as well. While a create is under
// way that is the extension where it is now, and may be another one when the sandbox is ready.
func (s *Sandbox) Supports(c sandboxer.Capability) bool {
	ctx, cancel := context.WithTimeout(s.m.ctx, s.m.cfg.CallTimeout)
	defer cancel()
	x := s.at(ctx)
	return x != nil && x.can(c)
}

// at returns the extension where the sandbox is, by the store's last word or the last that is remembered; nil where it is not
// configured.
func (s *Sandbox) at(ctx context.Context) *extension {
	id := s.extension
	if s.moves {
		if r, err := s.m.load(ctx, s.id); err == nil && r.current() != nil {
			id = r.current().Extension
		}
	}
	return s.m.extensions[id]
}

// subject is what a call about a ready sandbox needs.
type subject struct {
	r      *record
	a      *attempt
	x      *extension
	target sandboxer.Target
}

// ready loads the sandbox and finds everything that a call needs; the state must be one of states.
func (s *Sandbox) in(ctx context.Context, states ...sandboxer.State) (*subject, error) {
	r, err := s.m.load(ctx, s.id)
	if err != nil {
		return nil, err
	}
	return s.m.subject(r, states...)
}

func (m *Manager) subject(r *record, states ...sandboxer.State) (*subject, error) {
	ok := false
	for _, st := range states {
		ok = ok || r.State == st
	}
	if !ok {
		hint := ""
		switch {
		case r.State == sandboxer.StatePaused:
			hint = "; call Resume first"
		case r.Reason != "":
			hint = ": " + r.Reason
		}
		return nil, sandboxer.Refused(sandboxer.FailedPrecondition, fmt.Errorf("the sandbox is %s%s", r.State, hint))
	}
	a := r.current()
	x, err := m.extension(a.Extension)
	if err != nil {
		return nil, err
	}
	h, err := m.host(a.Host)
	if err != nil {
		return nil, err
	}
	return &subject{r: r, a: a, x: x, target: m.target(r, a, h, nil)}, nil
}

// use makes one call of capability T on a ready sandbox.
func use[T any](ctx context.Context, s *Sandbox, op sandboxer.Op, c sandboxer.Capability, f func(context.Context, T, sandboxer.Target) error) error {
	ctx, done, err := s.m.begin(ctx)
	if err != nil {
		return wrap(string(op), &record{ID: s.id}, err)
	}
	defer done()
	ctx, over := s.m.using(ctx, s.id)
	defer over()
	on, err := s.in(ctx, sandboxer.StateReady)
	if err != nil {
		return wrap(string(op), &record{ID: s.id}, err)
	}
	v, err := as[T](on.x, c)
	if err == nil {
		err = s.m.call(ctx, callOf(op, on.r, on.a), func(ctx context.Context) error { return f(ctx, v, on.target) })
	}
	return wrap(string(op), on.r, blame(ctx, err))
}

// Exec runs a command. Any exit code is a nil error; see [sandboxer.Executor]. InvalidArgument for a request without a
// command.
func (s *Sandbox) Exec(ctx context.Context, req sandboxer.ExecRequest) (res sandboxer.ExecResult, err error) {
	if len(req.Command) == 0 || req.Command[0] == "" {
		return res, wrap("exec", &record{ID: s.id}, sandboxer.Refused(sandboxer.InvalidArgument, errors.New("ExecRequest.Command is empty")))
	}
	if req.Timeout < 0 {
		return res, wrap("exec", &record{ID: s.id}, sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("ExecRequest.Timeout is negative: %v", req.Timeout)))
	}
	err = use(ctx, s, sandboxer.OpExec, sandboxer.CapExec, func(ctx context.Context, x sandboxer.Executor, t sandboxer.Target) (err error) {
		res, err = x.Exec(ctx, t, req)
		return err
	})
	return res, err
}

// maxOutput is the most that Output keeps.
const maxOutput = 64 << 20

// Output runs a command and returns what it wrote to its standard output. A command that does not succeed is an error that
// holds an [*sandboxer.ExitError], which errors.As finds, and the end of its standard error; its code is Unknown, because
// nothing is wrong with the sandbox. More than 64 MiB is ResourceExhausted: use Exec.
func (s *Sandbox) Output(ctx context.Context, argv ...string) ([]byte, error) {
	var out limited
	tail := tail{keep: 4 << 10}
	res, err := s.Exec(ctx, sandboxer.ExecRequest{Command: argv, Stdout: &out, Stderr: &tail})
	if out.full {
		return nil, wrap("output", &record{ID: s.id}, sandboxer.Mark(sandboxer.ResourceExhausted, fmt.Errorf("the command wrote more than %d bytes; use Exec with a writer of your own", maxOutput)))
	}
	if err != nil {
		return out.Bytes(), err
	}
	if err := res.Err(); err != nil {
		if text := tail.String(); text != "" {
			err = fmt.Errorf("%w: %s", err, text)
		}
		return out.Bytes(), wrap("output", &record{ID: s.id}, err)
	}
	return out.Bytes(), nil
}

type limited struct {
	bytes.Buffer
	full bool
}

func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > maxOutput {
		l.full = true
		return 0, errors.New("too much output")
	}
	return l.Buffer.Write(p)
}

// tail keeps the end of what is written to it.
type tail struct {
	keep int
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if over := len(t.text) - t.keep; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(bytes.ToValidUTF8(t.text, []byte("\uFFFD"))))
}

// CopyIn copies a tree into the directory dst of the sandbox: os.DirFS("."), an embed.FS, any fs.FS. Modes, modification
// times, symbolic links and empty directories are kept. A relative dst is in the workspace; "" is the workspace.
func (s *Sandbox) CopyIn(ctx context.Context, dst string, src fs.FS) error {
	if src == nil {
		return wrap("copy-in", &record{ID: s.id}, errNoFS)
	}
	return use(ctx, s, sandboxer.OpCopyIn, sandboxer.CapFiles, func(ctx context.Context, x sandboxer.FileTransferer, t sandboxer.Target) error {
		return pipe(ctx,
			func(ctx context.Context, w io.Writer) error {
				_, err := archive.PackFS(ctx, w, src, ".", archive.PackOptions{Stage: "upload"})
				return err
			},
			func(ctx context.Context, r io.Reader) error { return x.CopyIn(ctx, t, dst, r) })
	})
}

var errNoFS = sandboxer.Refused(sandboxer.InvalidArgument, errors.New("the file system to copy from is nil"))

// Sync makes the directory dst of the sandbox equal to src, and sends only what differs: the way to bring changes of a local
// tree into a sandbox that runs. What src has not is removed, also what the sandbox made itself; sync a directory that holds
// nothing else. Files are told apart by kind, size, mode and modification time, as rsync does; those of a file system without
// times, such as an embed.FS, are sent each time. After an error dst may hold some of both, and another Sync completes it.
// Unsupported where the extension is no [sandboxer.Syncer], or cannot sync that dst; CopyIn then brings all of src.
func (s *Sandbox) Sync(ctx context.Context, dst string, src fs.FS) error {
	if src == nil {
		return wrap("sync", &record{ID: s.id}, errNoFS)
	}
	return use(ctx, s, sandboxer.OpSync, sandboxer.CapSync, func(ctx context.Context, x sandboxer.Syncer, t sandboxer.Target) error {
		return x.Sync(ctx, t, dst, src)
	})
}

// CopyOut copies the tree at src in the sandbox into localDir, which it creates. Nothing is ever written outside localDir;
// symbolic links that lead out of it are left out and named in an InvalidArgument when all else is copied.
func (s *Sandbox) CopyOut(ctx context.Context, src, localDir string) error {
	return use(ctx, s, sandboxer.OpCopyOut, sandboxer.CapFiles, func(ctx context.Context, x sandboxer.FileTransferer, t sandboxer.Target) error {
		if err := os.MkdirAll(localDir, 0o777); err != nil {
			return sandboxer.Refused(sandboxer.InvalidArgument, err)
		}
		root, err := os.OpenRoot(localDir)
		if err != nil {
			return sandboxer.Refused(sandboxer.InvalidArgument, err)
		}
		defer root.Close() //nolint:errcheck // nothing was written through it that needs it
		return pipe(ctx,
			func(ctx context.Context, w io.Writer) error { return x.CopyOut(ctx, t, src, w) },
			func(ctx context.Context, r io.Reader) error {
				_, err := archive.Extract(ctx, r, root, archive.ExtractOptions{Links: archive.LeaveOut, Stage: "download"})
				return err
			})
	})
}

// pipe runs a writer and a reader of one stream, and ends both when one fails. The error that came first is the cause;
// what the other then says of the broken pipe is left out.
func pipe(ctx context.Context, write func(context.Context, io.Writer) error, read func(context.Context, io.Reader) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pr, pw := io.Pipe()
	wrote := make(chan error, 1)
	go func() {
		err := errExited // unless write returns
		defer func() {
			_ = pw.CloseWithError(err) // nil: io.EOF
			wrote <- err
		}()
		err = write(ctx, pw)
	}()
	readErr := read(ctx, pr)
	if readErr == nil {
		_, _ = io.Copy(io.Discard, pr) // what a reader leaves, such as the padding behind an archive
	}
	_ = pr.CloseWithError(errReaderGone)
	if readErr != nil {
		cancel()
	}
	writeErr := <-wrote
	switch {
	case writeErr == nil || errors.Is(writeErr, errReaderGone) || (readErr != nil && errors.Is(writeErr, context.Canceled)):
		return readErr
	case readErr == nil || errors.Is(readErr, writeErr):
		return writeErr
	}
	return errors.Join(writeErr, readErr)
}

var errReaderGone = errors.New("the other side of the transfer ended")

// Dial connects to a port inside the sandbox, as seen from inside: "tcp", "localhost:8080". It fits http.Transport. The
// connection belongs to the caller, who closes it.
func (s *Sandbox) Dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = use(ctx, s, sandboxer.OpDial, sandboxer.CapDial, func(ctx context.Context, x sandboxer.Dialer, t sandboxer.Target) (err error) {
		if conn, err = x.Dial(ctx, t, network, address); err == nil && conn == nil {
			err = sandboxer.Mark(sandboxer.Internal, errors.New("its adapter returned neither a connection nor an error"))
		}
		return err
	})
	return conn, err
}

// Meter reads what the sandbox has cost so far, or, after its end, what it did cost. Unsupported where nobody bills.
func (s *Sandbox) Meter(ctx context.Context) (sandboxer.MeterReading, error) {
	ctx, done, err := s.m.begin(ctx)
	if err != nil {
		return sandboxer.MeterReading{}, wrap("meter", &record{ID: s.id}, err)
	}
	defer done()
	r, err := s.m.load(ctx, s.id)
	if err != nil {
		return sandboxer.MeterReading{}, wrap("meter", &record{ID: s.id}, err)
	}
	if r.ended() && r.Cost != nil {
		return *r.Cost, nil
	}
	on, err := s.m.subject(r, sandboxer.StateReady, sandboxer.StatePaused, sandboxer.StateOrphaned, sandboxer.StateTearingDown, sandboxer.StateGone, sandboxer.StateFailed)
	if err != nil {
		return sandboxer.MeterReading{}, wrap("meter", r, err)
	}
	x, err := as[sandboxer.Meterer](on.x, sandboxer.CapMeter)
	if err != nil {
		return sandboxer.MeterReading{}, wrap("meter", r, err)
	}
	var reading sandboxer.MeterReading
	err = s.m.call(ctx, callOf(sandboxer.OpMeterActual, r, on.a), func(ctx context.Context) (err error) {
		reading, err = x.MeterActual(ctx, on.target)
		return err
	})
	return reading, wrap("meter", r, err)
}
