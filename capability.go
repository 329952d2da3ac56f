package sandboxer

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net"
	"time"
)

// Capability names an optional interface of an extension, in manifests, profiles and [CapabilityFilter].
type Capability string

// The capabilities and the interfaces they stand for.
const (
	CapFind             Capability = "find"              // Finder
	CapList             Capability = "list"              // Lister
	CapExec             Capability = "exec"              // Executor
	CapFiles            Capability = "files"             // FileTransferer
	CapDial             Capability = "dial"              // Dialer
	CapExpose           Capability = "expose"            // Exposer
	CapSnapshot         Capability = "snapshot"          // Snapshotter
	CapSnapshotTransfer Capability = "snapshot-transfer" // SnapshotTransferer
	CapMeter            Capability = "meter"             // Meterer
	CapInspect          Capability = "inspect"           // Inspector
	CapExtend           Capability = "extend"            // Extender
	CapPause            Capability = "pause"             // Pauser
	CapPreflight        Capability = "preflight"         // Preflighter
	CapSync             Capability = "sync"              // Syncer
)

// Finder resolves an unknown outcome so that it can be adopted. It never creates.
type Finder interface {
	// Find returns the Handle of the resource called req.Name that a Provision or Restore begun at since may have made.
	// NotFound means certainly absent, now and later; while that cannot be known (a listing that lags, a request that may
	// still be running at the backend) it is Unknown with RetryAfter. A resource of that name with another owner's labels
	// is not ours: NotFound.
	Find(ctx context.Context, req *ProvisionRequest, since time.Time) (Handle, error)
}

// Snapshotter keeps the contents of a sandbox and makes new sandboxes from them.
type Snapshotter interface {
	// Snapshot stores the snapshot req.ID; called again with that ID it returns the same snapshot. Failing leaves nothing,
	// or the Manager removes it with DeleteSnapshot by ID.
	Snapshot(ctx context.Context, t Target, req SnapshotRequest) (Snapshot, error)
	// Restore creates req.Name from s, under Provision's rules.
	Restore(ctx context.Context, req *ProvisionRequest, s Snapshot) (Handle, error)
	// DeleteSnapshot removes a snapshot. Gone already is success; without State it looks by ID.
	DeleteSnapshot(ctx context.Context, t SnapshotTarget) error
	// ListSnapshots yields all snapshots: they cost money too, and none may be lost. An error anywhere means that the
	// listing is incomplete.
	ListSnapshots(ctx context.Context, q ListQuery) iter.Seq2[Snapshot, error]
}

// SnapshotRequest asks for a snapshot. Its ID is minted and stored before anything is created.
type SnapshotRequest struct {
	ID        string            // optional in Sandbox.Snapshot, an idempotency key like a sandbox's; never empty for an adapter
	Name      string            // for people
	Labels    map[string]string // an adapter also finds LabelID and LabelOwner here
	ExpiresAt time.Time         // zero: kept until deleted
}

// SnapshotTarget is the subject of a call about a stored snapshot.
type SnapshotTarget struct {
	Snapshot Snapshot
	Host     Host
	Consumer Consumer
	Secret   SecretFunc
}

// SnapshotStatus is where a snapshot is in its life.
const (
	SnapshotCreating  = "creating"
	SnapshotImporting = "importing"
	SnapshotReady     = "ready"
	SnapshotDeleting  = "deleting"
	SnapshotFailed    = "failed"
)

// Snapshot describes a stored snapshot; the Manager keeps it, and it holds no secret.
type Snapshot struct {
	ID        string            `json:"id"`
	Name      string            `json:"name,omitempty"`
	Extension string            `json:"extension"`
	Host      string            `json:"host,omitempty"`
	Source    ID                `json:"source,omitempty"` // the sandbox that it was taken of
	Status    string            `json:"status"`           // creating importing ready deleting failed
	Consumer  Consumer          `json:"consumer"`
	Payer     Payer             `json:"payer,omitzero"`
	Labels    map[string]string `json:"labels,omitempty"`
	Kind      string            `json:"kind,omitempty"` // "workspace", "filesystem", "memory", "metadata": what a restore brings back
	SizeBytes int64             `json:"size_bytes,omitempty"`
	Digest    string            `json:"digest,omitempty"` // "sha256:…" where there are bytes to digest
	CreatedAt time.Time         `json:"created_at,omitzero"`
	ExpiresAt time.Time         `json:"expires_at,omitzero"`
	State     []byte            `json:"state,omitempty"` // the adapter's own, JSON
	// How its deletion goes, as Manager.Snapshots tells it: why it failed, how often, and when the next try comes.
	Reason  string    `json:"reason,omitempty"`
	Tries   int       `json:"tries,omitempty"`
	NextTry time.Time `json:"next_try,omitzero"`
}

// SnapshotTransferer moves a snapshot's bytes, so that one host's snapshot restores on another.
type SnapshotTransferer interface {
	ExportSnapshot(ctx context.Context, from SnapshotTarget, w io.Writer) error
	// ImportSnapshot stores the bytes as to.Snapshot.ID on to.Host and verifies to.Snapshot.Digest before the snapshot is
	// visible.
	ImportSnapshot(ctx context.Context, to SnapshotTarget, r io.Reader) (Snapshot, error)
}

// SnapshotMover is for a SnapshotTransferer whose hosts can send a snapshot to each other. It is no capability of its own: a
// Manager asks it first, and relays the bytes itself where the answer is a refusal with the code Unsupported.
type SnapshotMover interface {
	// MoveSnapshot stores from's bytes as to.Snapshot.ID on to.Host, under the rules of ImportSnapshot. Unsupported says that
	// these two hosts cannot, and that nothing of the try is left.
	MoveSnapshot(ctx context.Context, from, to SnapshotTarget) (Snapshot, error)
}

// Executor runs commands in a sandbox. Exec, copies and Dial see one world: the same file system and network; relative
// paths and an empty Dir mean the workspace.
type Executor interface {
	// Exec: any exit code is a nil error; an error means that it never ran or that its fate is unknown. ctx ending, or
	// req.Timeout, kills the whole process tree in the sandbox. Background children outlive a normal exit, and Exec does
	// not wait for pipes that they hold open. A Stdin that blocks does not keep Exec from returning. A Write error ends it.
	// Once Exec has returned, nothing is read from Stdin or written to Stdout and Stderr any more; only a Read or a Write that
	// blocks may still be waiting, a Write only where ctx or a failure ended the call.
	// The tree includes what made itself a session of its own. A Dir that does not exist is an error. A terminal that the
	// backend cannot give is Unsupported.
	Exec(ctx context.Context, t Target, req ExecRequest) (ExecResult, error)
}

// ExecRequest is one command.
type ExecRequest struct {
	Command []string          // argv, never a shell string
	Env     map[string]string // added to the sandbox's own environment
	Dir     string            // relative to the workspace, or absolute as seen inside; empty: the workspace
	Service string            // which container of a stack; empty: the profile's main one; InvalidArgument where there are none
	Stdin   io.Reader         // nil: empty
	Stdout  io.Writer         // nil discards; the same writer for both is never written to concurrently
	Stderr  io.Writer
	Timeout time.Duration // 0: none but ctx's
	TTY     *TTY          // nil: pipes; with a terminal everything arrives on Stdout
}

// TTY asks for a terminal.
type TTY struct {
	Term   string // Defaults to "xterm-256color"
	Cols   int    // Defaults to 80
	Rows   int    // Defaults to 24
	Resize <-chan WindowSize
}

// WindowSize is the size of a terminal in characters.
type WindowSize struct{ Cols, Rows int }

// ExecResult is how a command ended.
type ExecResult struct {
	ExitCode int    // -1 where a signal ended it
	Signal   string // its name, as in "SIGKILL"; "" where it exited by itself
	TimedOut bool   // ExecRequest.Timeout passed and the command was killed
	Duration time.Duration
}

// Err returns nil for exit code 0 and an [*ExitError] otherwise.
func (r ExecResult) Err() error {
	if r.ExitCode == 0 && r.Signal == "" && !r.TimedOut {
		return nil
	}
	return &ExitError{ExecResult: r}
}

// ExitError is a command that ran and did not succeed.
type ExitError struct{ ExecResult }

func (e *ExitError) Error() string {
	switch {
	case e.TimedOut:
		return fmt.Sprintf("command timed out after %v and was killed", e.Duration.Round(time.Millisecond))
	case e.Signal != "":
		return "command was ended by " + e.Signal
	default:
		return fmt.Sprintf("command exited with code %d", e.ExitCode)
	}
}

// FileTransferer moves trees as tar streams. Modes, nanosecond modification times, symbolic links (as links, never what they
// point to) and empty directories are kept; owners are not, and set-user-ID and set-group-ID bits need not be: a copy in may
// drop them. A path of one file moves that file.
type FileTransferer interface {
	// CopyIn extracts tar into the directory dst, which it creates; nothing is ever written through a link that leaves it.
	CopyIn(ctx context.Context, t Target, dst string, tar io.Reader) error
	// CopyOut writes the tree at src as tar, with names relative to src; a file is one entry with its base name.
	CopyOut(ctx context.Context, t Target, src string, tar io.Writer) error
}

// Syncer refreshes a directory of a sandbox: what a copy of all of it would bring, at the price of what changed.
type Syncer interface {
	// Sync makes the directory dst, which it creates, equal to src: files, directories and symbolic links as links, with their
	// modes and their modification times to the nanosecond. dst is what it is in CopyIn; its own mode and time, and owners, are
	// not src's. It reads and sends only what differs in kind, size, mode, time or link target, and removes what src has not;
	// a file without a time in src (embed.FS) always differs. Nothing is written, emptied or removed through a link of dst: a
	// link is replaced, and so is a file, so that programs which have it open keep what they read. Where the sandbox changes
	// dst meanwhile, that still leads to nothing outside of it. After an error dst may hold some of both, and calling again
	// completes it. A link of src needs an [fs.ReadLinkFS]; what is no file, directory or link is left out. A dst that cannot
	// be synced is Unsupported, before anything changed.
	Sync(ctx context.Context, t Target, dst string, src fs.FS) error
}

// Dialer connects to a port inside a sandbox. Dial fits http.Transport once its target is bound.
type Dialer interface {
	Dial(ctx context.Context, t Target, network, address string) (net.Conn, error)
}

// Exposer publishes a port at an address that others can use.
type Exposer interface {
	Expose(ctx context.Context, t Target, port int) (Endpoint, error)
}

// Lister yields what exists at the backend. It may yield more than asked for and skips what is not ours; an error anywhere
// means that the listing is incomplete, and then nothing is concluded from it.
type Lister interface {
	List(ctx context.Context, q ListQuery) iter.Seq2[Instance, error]
}

// ListQuery narrows a listing.
type ListQuery struct {
	Host     Host
	Consumer Consumer
	Secret   SecretFunc
	Labels   map[string]string // all must match
}

// Instance is a resource as the backend shows it. One without LabelOwner is never reaped.
type Instance struct {
	Handle    Handle
	State     State
	Labels    map[string]string
	CreatedAt time.Time
	ExpiresAt time.Time
}

// Inspector looks one sandbox up. NotFound where it is gone; it must not mean "not visible with this key".
type Inspector interface {
	Inspect(ctx context.Context, t Target) (Instance, error)
}

// Extender changes when the backend ends a sandbox by itself. It never shortens.
type Extender interface {
	Extend(ctx context.Context, t Target, until time.Time) (granted time.Time, err error)
}

// Pauser stops and continues a sandbox; its contents stay. Pausing a paused one and resuming a running one succeed.
type Pauser interface {
	Pause(ctx context.Context, t Target) error
	Resume(ctx context.Context, t Target) (Reachability, error)
}

// Preflighter checks inputs and credentials before anything is stored. It creates nothing.
type Preflighter interface {
	Preflight(ctx context.Context, req *ProvisionRequest) error
}

// Unwrapper is an extension that stands in front of another. What it does not implement is looked for there.
type Unwrapper interface{ Unwrap() Extension }

// CapabilityFilter is an extension whose ability depends on configuration: it denies what its type could do. It is asked
// about everything that it or an extension behind it implements.
type CapabilityFilter interface{ HasCapability(c Capability) bool }

// probe pairs a capability with the question whether a value implements its interface.
type probe struct {
	name Capability
	has  func(any) bool
}

func implements[T any](v any) bool { _, ok := v.(T); return ok }

// probes returns all capabilities in the order in which they are shown.
func probes() []probe {
	return []probe{
		{CapFind, implements[Finder]},
		{CapList, implements[Lister]},
		{CapExec, implements[Executor]},
		{CapFiles, implements[FileTransferer]},
		{CapDial, implements[Dialer]},
		{CapExpose, implements[Exposer]},
		{CapSnapshot, implements[Snapshotter]},
		{CapSnapshotTransfer, implements[SnapshotTransferer]},
		{CapMeter, implements[Meterer]},
		{CapInspect, implements[Inspector]},
		{CapExtend, implements[Extender]},
		{CapPause, implements[Pauser]},
		{CapPreflight, implements[Preflighter]},
		{CapSync, implements[Syncer]},
	}
}

// AllCapabilities returns every capability there is.
func AllCapabilities() []Capability {
	ps := probes()
	out := make([]Capability, len(ps))
	for i, p := range ps {
		out[i] = p.name
	}
	return out
}

// capabilityOf returns the capability that the interface type T stands for, or "".
func capabilityOf[T any]() Capability {
	switch any((*T)(nil)).(type) {
	case *Finder:
		return CapFind
	case *Lister:
		return CapList
	case *Executor:
		return CapExec
	case *FileTransferer:
		return CapFiles
	case *Dialer:
		return CapDial
	case *Exposer:
		return CapExpose
	case *Snapshotter:
		return CapSnapshot
	case *SnapshotTransferer:
		return CapSnapshotTransfer
	case *Meterer:
		return CapMeter
	case *Inspector:
		return CapInspect
	case *Extender:
		return CapExtend
	case *Pauser:
		return CapPause
	case *Preflighter:
		return CapPreflight
	case *Syncer:
		return CapSync
	}
	return ""
}

// maxUnwrap bounds a chain of extensions, so that one that unwraps to itself ends.
const maxUnwrap = 64

// As finds the optional interface T of ext, also behind extensions that unwrap to others, unless a [CapabilityFilter] on
// the way denies it. It is the only way in which this library discovers what an extension can do.
func As[T any](ext Extension) (T, bool) {
	var none T
	c := capabilityOf[T]()
	for range maxUnwrap {
		if ext == nil {
			return none, false
		}
		if f, ok := ext.(CapabilityFilter); ok && c != "" && !f.HasCapability(c) {
			return none, false
		}
		if v, ok := ext.(T); ok {
			return v, true
		}
		u, ok := ext.(Unwrapper)
		if !ok {
			return none, false
		}
		ext = u.Unwrap()
	}
	return none, false
}

// Capabilities returns what ext can do, in the order of [AllCapabilities].
func Capabilities(ext Extension) []Capability {
	var out []Capability
	for _, p := range probes() {
		if hasCapability(ext, p) {
			out = append(out, p.name)
		}
	}
	return out
}

func hasCapability(ext Extension, p probe) bool {
	for range maxUnwrap {
		if ext == nil {
			return false
		}
		if f, ok := ext.(CapabilityFilter); ok && !f.HasCapability(p.name) {
			return false
		}
		if p.has(ext) {
			return true
		}
		u, ok := ext.(Unwrapper)
		if !ok {
			return false
		}
		ext = u.Unwrap()
	}
	return false
}
