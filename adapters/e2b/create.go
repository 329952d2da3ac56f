package e2b

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// creation is one name that this process creates or created, so that it is bought once.
type creation struct {
	done   chan struct{} // closed when the call ended
	handle sandboxer.Handle
	since  time.Time // not zero: when a call began whose outcome is not known
}

// Provision creates a sandbox with one request. Called again with the same name it returns the same handle; after a lost
// reply it looks first, and is Unknown, with RetryAfter, while E2B may still be working on the first.
func (e *extension) Provision(ctx context.Context, req *sandboxer.ProvisionRequest) (sandboxer.Handle, error) {
	in, err := decodeInputs(req.Inputs)
	if err != nil {
		return sandboxer.Handle{}, err
	}
	return e.once(ctx, req, func(begun time.Time) (sandboxer.Handle, error) { return e.create(ctx, req, begun, in, in.Template) })
}

// once makes sure that at most one create of a name is under way, and none follows one that may have succeeded.
func (e *extension) once(ctx context.Context, req *sandboxer.ProvisionRequest, create func(begun time.Time) (sandboxer.Handle, error)) (sandboxer.Handle, error) {
	begun := time.Now()
	sandboxer.Report(ctx, sandboxer.Progress{Stage: "create"})
	for {
		c, mine := e.claim(req)
		if !mine {
			select {
			case <-c.done:
			case <-ctx.Done():
				return sandboxer.Handle{}, sandboxer.Mark(sandboxer.CodeOf(ctx.Err()), context.Cause(ctx))
			}
			if !c.handle.IsZero() {
				return c.handle, nil
			}
			if c.since.IsZero() {
				continue // it was refused; its entry is gone
			}
			h, err := e.Find(ctx, req, c.since)
			if errors.Is(err, sandboxer.NotFound) {
				e.drop(req, c)
				continue
			}
			return h, err
		}
		h, err := create(begun)
		switch {
		case err == nil:
			c.handle = h
		case sandboxer.IsRefused(err):
			e.drop(req, c)
		default:
			c.since = begun
		}
		close(c.done)
		return h, err
	}
}

func creationKey(name string, labels map[string]string) string {
	return labels[sandboxer.LabelOwner] + "\x00" + name
}

func (e *extension) claim(req *sandboxer.ProvisionRequest) (c *creation, mine bool) {
	key := creationKey(req.Name, req.Labels)
	e.mu.Lock()
	defer e.mu.Unlock()
	if c, ok := e.names[key]; ok {
		return c, false
	}
	c = &creation{done: make(chan struct{})}
	e.names[key] = c
	return c, true
}

// drop forgets a creation: c, or any where c is nil.
func (e *extension) drop(req *sandboxer.ProvisionRequest, c *creation) {
	e.forgetName(req.Name, req.Labels, c)
}

func (e *extension) forgetName(name string, labels map[string]string, c *creation) {
	key := creationKey(name, labels)
	e.mu.Lock()
	defer e.mu.Unlock()
	if have := e.names[key]; have != nil && (c == nil || have == c) {
		delete(e.names, key)
	}
}

type createBody struct {
	TemplateID    string            `json:"templateID"`
	Timeout       int64             `json:"timeout"` // seconds
	Metadata      map[string]string `json:"metadata"`
	EnvVars       map[string]string `json:"envVars,omitempty"`
	AllowInternet *bool             `json:"allow_internet_access,omitempty"`
	Network       *createNetwork    `json:"network,omitempty"`
	AutoPause     bool              `json:"autoPause"` // always false: at its deadline it is to end, not to be kept
	Secure        bool              `json:"secure,omitempty"`
}

type createNetwork struct {
	AllowOut           []string `json:"allowOut,omitempty"`
	DenyOut            []string `json:"denyOut,omitempty"`
	AllowPublicTraffic *bool    `json:"allowPublicTraffic,omitempty"`
}

// created is E2B's answer to a create and to a resume.
type created struct {
	SandboxID       string `json:"sandboxID"`
	EnvdVersion     string `json:"envdVersion"`
	EnvdAccessToken string `json:"envdAccessToken"`
	Domain          string `json:"domain"`
}

// create buys a sandbox. What carries its name already is looked up meanwhile, which costs no time: names are not exclusive
// at E2B, and a look-up before would make every create slower.
func (e *extension) create(ctx context.Context, req *sandboxer.ProvisionRequest, begun time.Time, in inputs, template string) (sandboxer.Handle, error) {
	shared := *req
	shared.Secret = fetchedOnce(req.Secret)
	look := e.lookUp(ctx, &shared)
	h, err := e.buy(ctx, &shared, begun, in, template)
	return e.compare(ctx, &shared, look(), h, err)
}

// sendWindow is how long after it began a create may still be sent. Fetching a key and waiting for a rate limit take time,
// and Find counts from the beginning until E2B cannot be working on it any more.
const sendWindow = 30 * time.Second

// inTime refuses to send what would come too late to be over when it is declared absent.
func (e *extension) inTime(begun time.Time, what string) func() error {
	window := min(e.limits.send, max(e.cfg.Settle/2, 5*time.Second))
	return func() error {
		if late := time.Since(begun); late > window {
			return sandboxer.Refused(sandboxer.Unavailable, fmt.Errorf("%v passed before %s could be sent (fetching the key, rate limits), which is too long; try again", late.Round(time.Millisecond), what))
		}
		return nil
	}
}

func (e *extension) buy(ctx context.Context, req *sandboxer.ProvisionRequest, begun time.Time, in inputs, template string) (sandboxer.Handle, error) {
	none := sandboxer.Handle{}
	inTime := e.inTime(begun, "the create of "+req.Name)
	body := createBody{TemplateID: template, EnvVars: in.Env, AllowInternet: in.AllowInternet}
	if in.AllowOut != nil || in.DenyOut != nil || in.PublicPorts != nil {
		body.Network = &createNetwork{AllowOut: in.AllowOut, DenyOut: in.DenyOut, AllowPublicTraffic: in.PublicPorts}
	}
	key, err := e.api.key(ctx, req.Secret)
	if err != nil {
		return none, err
	}
	most := e.longest(key)
	p := purchase{Created: time.Now().UTC().Round(0)}
	p.CPU, p.Memory = planned(req.Profile)
	for try := 0; ; try++ {
		if p.Timeout, err = lifetime(req.ExpiresAt, most); err != nil {
			return none, err
		}
		rep, err := e.postCreate(ctx, req.Secret, inTime, func(key string, v1 bool) any {
			p.Key = key
			body.Metadata, body.Timeout, body.Secure = e.metadata(req.Labels, p), p.Timeout, v1
			return body
		})
		if limit := lifetimeLimit(err); limit > 0 && try == 0 {
			e.learn(key, limit)
			most = limit
			continue
		}
		if err != nil {
			return none, createError(err, template)
		}
		return e.adoptReply(req, in, rep, p)
	}
}

// postCreate sends the create to v2, or to v1 where the server says that it has no v2.
func (e *extension) postCreate(ctx context.Context, secret sandboxer.SecretFunc, inTime func() error, body func(key string, v1 bool) any) (*reply, error) {
	post := func(path string, v1 bool) (*reply, error) {
		return e.api.do(ctx, secret, request{
			method: http.MethodPost, path: path, timeout: createTimeout, before: inTime,
			bodyFor: func(key string) any { return body(key, v1) },
		})
	}
	if !e.api.old.Load() {
		rep, err := post("/v2/sandboxes", false)
		if !noSuchMethod(err) {
			return rep, err
		}
		e.api.old.Store(true)
	}
	return post("/sandboxes", true)
}

// noSuchMethod recognises a server without v2.
func noSuchMethod(err error) bool {
	var s *statusError
	return errors.As(err, &s) && (s.status == http.StatusNotFound || s.status == http.StatusMethodNotAllowed) &&
		strings.Contains(strings.ToLower(s.message), "method not allowed")
}

// createError says what a refusal means for a create.
func createError(err error, template string) error {
	var s *statusError
	if !errors.As(err, &s) {
		return err
	}
	switch s.status {
	case http.StatusNotFound:
		return sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("the template %q is not known to the team of this key; check the input \"template\" (%w)", template, s))
	case http.StatusBadRequest:
		return sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("E2B does not take the request, check the inputs of the profile (template %q): %w", template, s))
	case http.StatusConflict:
		return sandboxer.Refused(sandboxer.FailedPrecondition, s)
	}
	if s.status >= 500 {
		return sandboxer.Mark(sandboxer.Unavailable, fmt.Errorf("whether a sandbox was created is not known: %w", s))
	}
	return err
}

// adoptReply makes the handle of a sandbox that was created, and keeps how to talk to it.
func (e *extension) adoptReply(req *sandboxer.ProvisionRequest, in inputs, rep *reply, p purchase) (sandboxer.Handle, error) {
	var got created
	if err := rep.into(&got); err != nil {
		return sandboxer.Handle{}, err
	}
	if !sandboxID.MatchString(got.SandboxID) {
		return sandboxer.Handle{}, sandboxer.Mark(sandboxer.Unavailable, fmt.Errorf("E2B created a sandbox and named it %q, which is no ID", plain(got.SandboxID)))
	}
	s := state{Sandbox: got.SandboxID, purchase: p}
	h, err := req.Handle(stateVersion, s)
	if err != nil {
		return sandboxer.Handle{}, err
	}
	e.keep(&session{id: got.SandboxID, token: got.EnvdAccessToken, version: got.EnvdVersion, domain: got.Domain, deadline: p.deadline(), user: in.User, workdir: in.Workdir})
	e.startMeter(s)
	return h, nil
}

const (
	defaultLifetime = time.Hour // what every plan allows, August 2026
	maxLifetime     = 30 * 24 * time.Hour
)

// lifetime is how many seconds E2B is to let a sandbox live: until at, or as long as it may where there is no end, and
// never more than most.
func lifetime(at time.Time, most time.Duration) (int64, error) {
	d := most
	if d == 0 {
		d = defaultLifetime
	}
	if !at.IsZero() {
		left := time.Until(at)
		if left <= 0 {
			return 0, sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("the end of the sandbox, %s, has passed", at.Format(time.RFC3339)))
		}
		if d = min(left, maxLifetime); most > 0 {
			d = min(d, most)
		}
	}
	return int64((d + time.Second - 1) / time.Second), nil
}

// learned is the longest lifetime that E2B said a plan allows. Plans change, so that it is not believed for ever.
type learned struct {
	limit time.Duration
	until time.Time
}

const learnedFor = time.Hour

// fingerprint tells keys apart: what a source calls their versions may be the same for two tenants.
func fingerprint(key sandboxer.Secret) [sha256.Size]byte { return sha256.Sum256(key.Reveal()) }

// longest is the longest lifetime that the plan of a key is known to allow; 0: not known.
func (e *extension) longest(key sandboxer.Secret) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	if l := e.lifetimes[fingerprint(key)]; time.Now().Before(l.until) && (e.cfg.MaxLifetime == 0 || l.limit < e.cfg.MaxLifetime) {
		return l.limit
	}
	return e.cfg.MaxLifetime
}

func (e *extension) learn(key sandboxer.Secret, limit time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.lifetimes) > 10000 {
		clear(e.lifetimes)
	}
	e.lifetimes[fingerprint(key)] = learned{limit, time.Now().Add(learnedFor)}
}

var tooLong = regexp.MustCompile(`(?i)timeout cannot be greater than (\d{1,4}) (hour|minute|second)`)

// lifetimeLimit reads the plan's limit from a refusal; 0 where it is another error.
func lifetimeLimit(err error) time.Duration {
	var s *statusError
	if !errors.As(err, &s) || s.status != http.StatusBadRequest {
		return 0
	}
	m := tooLong.FindStringSubmatch(s.message)
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1]) // digits, by the pattern
	unit := map[string]time.Duration{"hour": time.Hour, "minute": time.Minute, "second": time.Second}[strings.ToLower(m[2])]
	return time.Duration(n) * unit
}

// planned is what a sandbox of p has. A template fixes it at E2B; a profile repeats it so that it can be priced.
func planned(p sandboxer.Profile) (cpuMillis, memory int64) {
	cpuMillis, memory = p.Resources.CPUMillis, p.Resources.MemoryBytes
	if cpuMillis <= 0 {
		cpuMillis = defaultCPUMillis
	}
	if memory <= 0 {
		memory = defaultMemory
	}
	return cpuMillis, memory
}
