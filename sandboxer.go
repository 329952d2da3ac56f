package sandboxer

import (
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// ID names one sandbox for its whole life. It is minted, or given by the caller, and stored before anything is created; it
// is stamped on every backend resource and is the idempotency key. Any DNS label (RFC 1123) of at most 40 characters.
type ID string

const maxIDLength = 40

// crockford is lower-case base32 without i, l, o and u; its order is the byte order, so that encoded times sort.
var crockford = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// NewID mints an ID of 30 characters. IDs of different milliseconds sort by time; 80 random bits tell the rest apart.
func NewID() ID {
	var raw [16]byte
	ms := uint64(time.Now().UnixMilli())
	for i := range 6 {
		raw[i] = byte(ms >> (8 * (5 - i)))
	}
	_, _ = rand.Read(raw[6:]) // never fails: crypto/rand ends the program instead
	return ID("sbx-" + crockford.EncodeToString(raw[:]))
}

// Validate reports an InvalidArgument unless id is a DNS label of at most 40 characters.
func (id ID) Validate() error {
	if why := labelProblem(string(id), maxIDLength); why != "" {
		return Refused(InvalidArgument, fmt.Errorf("sandbox ID %q %s; use at most %d lower-case letters, digits and inner hyphens, as sandboxer.NewID does", clip(string(id)), why, maxIDLength))
	}
	return nil
}

// labelProblem says why s is not a DNS label of up to limit characters, or "".
func labelProblem(s string, limit int) string {
	switch {
	case s == "":
		return "is empty"
	case len(s) > limit:
		return fmt.Sprintf("has %d characters", len(s))
	case s[0] == '-' || s[len(s)-1] == '-':
		return "begins or ends with a hyphen"
	}
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return fmt.Sprintf("contains %q", c)
		}
	}
	return ""
}

// clip keeps messages readable whatever they quote.
func clip(s string) string {
	if len(s) > 64 {
		return strings.ToValidUTF8(s[:64], "") + "…"
	}
	return s
}

// Consumer says on whose behalf a sandbox exists. It reaches every meter record, event, log line and backend label. It
// never travels in Inputs, and holds no secret: labels are readable by whoever can read the backend.
type Consumer struct {
	ID     string            `json:"id"`               // required
	Tenant string            `json:"tenant,omitempty"` // account or project; the key of per-tenant credentials and budgets
	Run    string            `json:"run,omitempty"`    // job, session or request
	Labels map[string]string `json:"labels,omitempty"`
}

// Validate reports an InvalidArgument unless ID is set and every value fits on one line of a label.
func (c Consumer) Validate() error {
	if c.ID == "" {
		return Refused(InvalidArgument, fmt.Errorf("consumer.id is empty; say on whose behalf the sandbox exists"))
	}
	for _, f := range []struct{ name, value string }{{"consumer.id", c.ID}, {"consumer.tenant", c.Tenant}, {"consumer.run", c.Run}} {
		if why := textProblem(f.value); why != "" {
			return Refused(InvalidArgument, fmt.Errorf("%s %s", f.name, why))
		}
	}
	if err := ValidateLabels(c.Labels); err != nil {
		return Refused(InvalidArgument, fmt.Errorf("consumer.labels: %w", err))
	}
	return nil
}

const maxText = 256

func textProblem(s string) string {
	if len(s) > maxText {
		return fmt.Sprintf("has %d bytes; at most %d fit in a label", len(s), maxText)
	}
	if !utf8.ValidString(s) {
		return "is not valid UTF-8"
	}
	for _, c := range s {
		if unicode.IsControl(c) {
			return fmt.Sprintf("contains the control character %U", c)
		}
	}
	return ""
}

// ReservedLabelPrefix begins the labels that the Manager stamps; a caller's own may not begin with it.
const ReservedLabelPrefix = "sandboxer-"

// ValidateLabels reports an InvalidArgument for a label that not every backend can carry: at most 32 labels, keys of 1 to
// 63 letters, digits, '.', '_', '/' and '-' that begin with a letter or digit and not with [ReservedLabelPrefix], values of
// at most 256 bytes without control characters.
func ValidateLabels(labels map[string]string) error {
	if len(labels) > 32 {
		return Refused(InvalidArgument, fmt.Errorf("%d labels; at most 32 are carried", len(labels)))
	}
	for k, v := range labels {
		if strings.HasPrefix(k, ReservedLabelPrefix) {
			return Refused(InvalidArgument, fmt.Errorf("label %q: the prefix %q is reserved", clip(k), ReservedLabelPrefix))
		}
		if !labelKeyOK(k) {
			return Refused(InvalidArgument, fmt.Errorf("label key %q: use 1 to 63 letters, digits, '.', '_', '/' or '-', beginning with a letter or digit", clip(k)))
		}
		if why := textProblem(v); why != "" {
			return Refused(InvalidArgument, fmt.Errorf("label %q: its value %s", k, why))
		}
	}
	return nil
}

func labelKeyOK(k string) bool {
	if k == "" || len(k) > 63 {
		return false
	}
	for i, c := range k {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case i > 0 && strings.ContainsRune("._/-", c):
		default:
			return false
		}
	}
	return true
}

// IsolationLevel says what separates a sandbox from its host and its neighbours.
type IsolationLevel string

// The levels, weakest first. [IsolationProcess] is no security boundary.
const (
	IsolationProcess   IsolationLevel = "process"
	IsolationContainer IsolationLevel = "container"
	IsolationGVisor    IsolationLevel = "gvisor"
	IsolationMicroVM   IsolationLevel = "microvm"
	IsolationVM        IsolationLevel = "vm"
)

// IsolationLevels returns all levels, weakest first.
func IsolationLevels() []IsolationLevel {
	return []IsolationLevel{IsolationProcess, IsolationContainer, IsolationGVisor, IsolationMicroVM, IsolationVM}
}

func (l IsolationLevel) rank() int {
	for i, known := range IsolationLevels() {
		if l == known {
			return i + 1
		}
	}
	return 0
}

// AtLeast reports whether l separates at least as well as least. The empty least asks for nothing; an unknown level is
// weaker than all, and as a minimum it is met by none.
func (l IsolationLevel) AtLeast(least IsolationLevel) bool {
	if least == "" {
		return true
	}
	return least.rank() > 0 && l.rank() >= least.rank()
}

// PricingModel says who bills for a sandbox.
type PricingModel string

// The pricing models. A metered extension must be a [Meterer].
const (
	PricingSelfHosted PricingModel = "self-hosted"
	PricingMetered    PricingModel = "metered"
	PricingFree       PricingModel = "free"
)

// PricingModels returns all pricing models.
func PricingModels() []PricingModel {
	return []PricingModel{PricingSelfHosted, PricingMetered, PricingFree}
}

// Resources are what a sandbox may use; 0 leaves a quantity to the backend.
type Resources struct {
	CPUMillis   int64 `json:"cpu_millis,omitempty"` // thousandths of a CPU
	MemoryBytes int64 `json:"memory_bytes,omitempty"`
	DiskBytes   int64 `json:"disk_bytes,omitempty"`
	GPUs        int   `json:"gpus,omitempty"`
}

// Profile is a named recipe: an extension plus inputs, resources, lifetime and where to go when it cannot serve.
type Profile struct {
	ID           string            `json:"id"` // "profile.go-build"
	Title        string            `json:"title,omitempty"`
	Extension    string            `json:"extension"`           // "ext.compose-ssh"
	Isolation    IsolationLevel    `json:"isolation,omitempty"` // minimum; also binds every burst target
	Inputs       Inputs            `json:"inputs,omitempty"`
	Resources    Resources         `json:"resources,omitzero"`
	Ports        []int             `json:"ports,omitempty"`         // that will be exposed; some backends must know at create
	Requires     []Capability      `json:"requires,omitempty"`      // checked when the Manager is built, not when a sandbox is created
	TTL          time.Duration     `json:"ttl,omitempty"`           // 0: the Manager's default; NoTTL: none
	ReadyTimeout time.Duration     `json:"ready_timeout,omitempty"` // how long WaitReady may take; 0: the Manager's default
	HostSelector map[string]string `json:"host_selector,omitempty"` // labels that a host must carry
	Burst        *BurstPolicy      `json:"burst,omitempty"`
	Labels       map[string]string `json:"labels,omitempty"`
}

// BurstPolicy says where a create may go when the profile's own extension cannot serve it, or cannot be asked whether it can.
type BurstPolicy struct {
	To      []BurstTarget `json:"to"`                 // in order; YAML also takes a plain list of profile ids
	On      []Code        `json:"on,omitempty"`       // Defaults to ResourceExhausted and Unavailable
	MaxCost *Money        `json:"max_cost,omitempty"` // estimated cost of one sandbox over its TTL; a dearer target, or one without an end, is skipped, and said so
	Within  time.Duration `json:"within,omitempty"`   // time the first choice gets before the next is tried; 0: until it fails
}

// BurstTarget is one place to go.
type BurstTarget struct {
	Profile string            `json:"profile"`
	Inputs  map[string]string `json:"inputs,omitempty"` // request input → target input; one that the target does not take makes it skipped, and said so
}

// Host is a place that sandboxes are put on: an SSH server, a VM, this machine. SaaS extensions need none.
type Host struct {
	ID           string
	Address      string // "build1.example.net" or "build1.example.net:22"
	User         string
	HostKeys     []string          // authorized_keys lines or a known_hosts file; verification cannot be turned off silently
	Credential   SecretRef         // of the private key or password
	Options      Inputs            // the adapter's: jump host, docker context …
	MaxSandboxes int               // 0: unlimited
	Labels       map[string]string // matched by Profile.HostSelector
}

// Reachability says how a ready sandbox is contacted.
type Reachability struct {
	SSH            string     `json:"ssh,omitempty"`             // ssh destination
	RemoteDir      string     `json:"remote_dir,omitempty"`      // workspace path, where Exec and the copies see it
	Host           string     `json:"host,omitempty"`            // placement host
	ComposeProject string     `json:"compose_project,omitempty"` // name of the Compose project
	Endpoints      []Endpoint `json:"endpoints,omitempty"`
	ExpiresAt      time.Time  `json:"expires_at,omitzero"` // what the backend granted; zero: it never ends it by itself
}

// Endpoint is an address of a port in a sandbox. There is no secret in it.
type Endpoint struct {
	Name string `json:"name,omitempty"`
	URL  string `json:"url"`
	Port int    `json:"port,omitempty"` // the port inside the sandbox
}

// State is where a sandbox is in its life.
type State string

// The states. Gone and failed are ends; everything else is still looked after.
const (
	StateProvisioning State = "provisioning"
	StateReady        State = "ready"
	StatePaused       State = "paused"
	StateTearingDown  State = "tearing_down"
	StateGone         State = "gone"     // it was ready once, and is verified to be gone
	StateFailed       State = "failed"   // it never became ready, and nothing is left of it
	StateOrphaned     State = "orphaned" // something may be left; removal is tried again until it succeeds
	StateUnknown      State = "unknown"  // the outcome of its creation is being found out
)

// NoTTL as a TTL asks for a sandbox without an end.
const NoTTL time.Duration = -1

// CreateRequest asks a Manager for a sandbox.
type CreateRequest struct {
	ID           ID // optional idempotency key: the same request under the same ID is the same sandbox
	Profile      string
	Consumer     Consumer
	Inputs       Inputs            // merged over the profile's
	Host         string            // pins placement
	TTL          time.Duration     // 0: the profile's, then the Manager's default (1 h); NoTTL: none
	FromSnapshot string            // Snapshot.ID: restore instead of provision
	Labels       map[string]string // stamped on the backend where it can carry them
	MaxCost      *Money            // refused before provisioning when the quote exceeds it
}

// SandboxStatus is everything a caller may know about one sandbox; JSON-serialisable, secret-free, zero times omitted.
type SandboxStatus struct {
	ID           ID                `json:"id"`
	Profile      string            `json:"profile"`
	Extension    string            `json:"extension"`
	Host         string            `json:"host,omitempty"`
	State        State             `json:"state"`
	Reason       string            `json:"reason,omitempty"` // why, for humans, when not ready
	Consumer     Consumer          `json:"consumer"`
	Payer        Payer             `json:"payer,omitzero"`
	Reachability *Reachability     `json:"reachability,omitempty"`
	Labels       map[string]string `json:"labels,omitempty"`
	CreatedAt    time.Time         `json:"created_at,omitzero"`
	ReadyAt      time.Time         `json:"ready_at,omitzero"`
	ExpiresAt    time.Time         `json:"expires_at,omitzero"`
	EndedAt      time.Time         `json:"ended_at,omitzero"`
	Attempts     []Attempt         `json:"attempts,omitempty"` // the places that were tried, in order; the latest 100
	Quote        *MeterQuote       `json:"quote,omitempty"`
	Cleanup      *CleanupReport    `json:"cleanup,omitempty"`
	Tries        int               `json:"tries,omitempty"` // of an unfinished teardown
	NextTry      time.Time         `json:"next_try,omitzero"`
}

// Attempt is one place a create was tried at. At most one resource exists per attempt.
type Attempt struct {
	N         int       `json:"n,omitempty"`    // from 1; 0 for a place that was skipped
	Name      string    `json:"name,omitempty"` // what the backend's resource is called: "<ID>" for the first, then "<ID>-2" …
	Profile   string    `json:"profile"`
	Extension string    `json:"extension"`
	Host      string    `json:"host,omitempty"`
	Payer     Payer     `json:"payer,omitzero"`
	StartedAt time.Time `json:"started_at,omitzero"`
	EndedAt   time.Time `json:"ended_at,omitzero"`
	Code      Code      `json:"code,omitempty"`   // "" when it served
	Reason    string    `json:"reason,omitempty"` // also why a target was skipped: too dear, too weakly isolated, no credential
}
