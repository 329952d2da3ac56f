package sandboxer

import (
	"context"
	"log/slog"
	"time"
)

// Extension is a configured backend. The interface is frozen at three methods: growth is new optional interfaces (see
// [Capability]) and new struct fields. All methods are safe for concurrent use, honour ctx and are idempotent. Errors are
// classified with [Mark], and with [Refused] where it is known that nothing was created.
type Extension interface {
	// Provision creates the resource called req.Name and returns without waiting for it. Called again with the same Name it
	// returns the same Handle where the backend can tell. A resource of that name with another owner's labels is not
	// touched: AlreadyExists. Failing after creating anything: a non-zero Handle with the error.
	Provision(ctx context.Context, req *ProvisionRequest) (Handle, error)
	// WaitReady blocks until the sandbox is usable or failed for good. It may be called again; it tears nothing down.
	WaitReady(ctx context.Context, t Target) (Reachability, error)
	// Teardown removes everything Provision or Restore created. Gone already is success; anything left is an error as well
	// as a line in the report. For a Handle without state (the reply was lost) it looks by name and creates nothing; what
	// carries that name and another LabelOwner than Target.Labels says is left alone, which is success.
	Teardown(ctx context.Context, t Target) (CleanupReport, error)
}

// ProvisionRequest is resolved and validated: the Manager guarantees every field but those that say otherwise. Its maps and
// lists, as those of a Target, are copies that nobody else sees.
type ProvisionRequest struct {
	ID        ID
	Attempt   int
	Name      string // every backend name derives from it; at most 44 characters, DNS-label safe
	Profile   Profile
	Inputs    Inputs // of the profile and the request, merged; holds SecretRefs, never secrets
	Host      Host   // zero unless the adapter is Hosted
	Consumer  Consumer
	Labels    map[string]string // LabelID, LabelName, LabelOwner and the caller's: stamped on the backend where it can carry them
	ExpiresAt time.Time         // zero: no end; a backend with a native lifetime must set it, at or after this
	Secret    SecretFunc        // already bound to whoever pays; adapters never name a tenant
	// Checkpoint stores a handle before Provision returns, for creations in several steps. Durable when it returns nil.
	Checkpoint func(ctx context.Context, h Handle) error
}

// Handle makes the handle of what this request creates; version and state are as in [NewHandle].
func (r *ProvisionRequest) Handle(version int, state any) (Handle, error) {
	return NewHandle(r.Ref(), version, state)
}

// Ref is the identity of what this request creates. The extension is the one of the profile.
func (r *ProvisionRequest) Ref() HandleRef {
	return HandleRef{ID: r.ID, Attempt: r.Attempt, Extension: r.Profile.Extension, Host: r.Host.ID}
}

// The labels that the Manager stamps on every resource and every snapshot.
const (
	LabelID    = "sandboxer-id"    // the sandbox's ID
	LabelName  = "sandboxer-name"  // the attempt's name
	LabelOwner = "sandboxer-owner" // "<Config.Owner>.<store ID>": only what matches exactly is ever removed

	LabelConsumer = "sandboxer-consumer" // Consumer.ID
	LabelTenant   = "sandboxer-tenant"   // Consumer.Tenant, where set
	LabelRun      = "sandboxer-run"      // Consumer.Run, where set
)

// Target is the subject of every later call; a struct, so that new fields break no adapter.
type Target struct {
	Handle    Handle // after a crash perhaps without state
	Host      Host
	Inputs    Inputs
	Consumer  Consumer
	Labels    map[string]string // as in ProvisionRequest: LabelOwner tells ours from others of the same name
	ExpiresAt time.Time
	Secret    SecretFunc
}

// CleanupReport says what Teardown removed and what it had to leave.
type CleanupReport struct {
	Removed []string `json:"removed,omitempty"` // "compose project sbx-…", "directory …"
	Left    []string `json:"left,omitempty"`    // not empty: Teardown also returned an error
}

// Progress is reported through the context by any long call: upload, build, pull, snapshot, wait.
type Progress struct {
	Stage string // "upload"
	Done  int64
	Total int64  // 0: not known
	Unit  string // "bytes", "files"
}

type progressKey struct{}

// WithProgress returns a context whose progress is reported to f. f is called by the goroutine that makes the progress,
// sometimes by several at once, and must not block.
func WithProgress(ctx context.Context, f func(Progress)) context.Context {
	return context.WithValue(ctx, progressKey{}, f)
}

// Report tells whoever asked through [WithProgress] how far a call has come; without one it does nothing.
func Report(ctx context.Context, p Progress) {
	if f, ok := ctx.Value(progressKey{}).(func(Progress)); ok && f != nil {
		f(p)
	}
}

// Adapter is the registration of one handler: plain data, given to a registry explicitly.
type Adapter struct {
	Handler  string   // what a manifest's `handler:` names
	Hosted   bool     // its sandboxes are placed on Hosts
	Manifest []byte   // the adapter's own ext.<name>.yaml; a supplied document with the same id takes its place
	Profiles [][]byte // profile.<slug>.yaml documents that come with it
	// Credentials names the config keys that hold SecretRefs. The Manager asks the SecretSource once, before anything is
	// created, who pays for the first of them that is set; the others are fetched for the same payer.
	Credentials []string
	New         func(ctx context.Context, s Settings) (Extension, error)
}

// Settings are what an Adapter builds an extension from.
type Settings struct {
	ExtensionID string       // one handler may serve several manifests
	Config      Inputs       // the manifest's config section; secrets only as SecretRef
	Logger      *slog.Logger // never nil
}

// Op names a call of an extension.
type Op string

// The calls that interceptors see.
const (
	OpProvision      Op = "provision"
	OpWaitReady      Op = "wait-ready"
	OpTeardown       Op = "teardown"
	OpFind           Op = "find"
	OpList           Op = "list"
	OpExec           Op = "exec"
	OpCopyIn         Op = "copy-in"
	OpCopyOut        Op = "copy-out"
	OpDial           Op = "dial"
	OpExpose         Op = "expose"
	OpSnapshot       Op = "snapshot"
	OpRestore        Op = "restore"
	OpDeleteSnapshot Op = "delete-snapshot"
	OpListSnapshots  Op = "list-snapshots"
	OpExportSnapshot Op = "export-snapshot"
	OpImportSnapshot Op = "import-snapshot"
	OpEstimateCost   Op = "estimate-cost"
	OpMeterActual    Op = "meter-actual"
	OpSnapshotCost   Op = "snapshot-cost"
	OpInspect        Op = "inspect"
	OpExtend         Op = "extend"
	OpPause          Op = "pause"
	OpResume         Op = "resume"
	OpPreflight      Op = "preflight"
	OpSync           Op = "sync"
)

// Call describes one call of an extension.
type Call struct {
	Op        Op
	Extension string
	Host      string
	ID        ID // "" for calls that concern no one sandbox
	Attempt   int
	Profile   string
	Consumer  Consumer
}

// Interceptor goes around one call of an extension: tracing, limits, extra metrics. It calls next once, or returns an
// error instead; an error without calling next is taken as if the backend had not been asked, so use [Refused].
type Interceptor func(ctx context.Context, call Call, next func(context.Context) error) error
