package e2b_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/e2b"
	"github.com/sand-boxer/sandboxer/adapters/e2b/e2btest"
	"github.com/sand-boxer/sandboxer/internal/canary"
	"github.com/sand-boxer/sandboxer/secrets"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// canaryKey must never be seen anywhere; nor must the access tokens of sandboxes.
var (
	canaryKey   = canary.Key("team")
	canaryToken = canary.Secret("tok_", "access token")
)

const owner = "test.store1"

func start(t *testing.T, opts e2btest.Options) *e2btest.Server {
	t.Helper()
	opts.TokenPrefix = canaryToken
	s, err := e2btest.Start(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if strays := s.Strays(); len(strays) > 0 {
			t.Errorf("sandboxes were sent the key of the team: %q", strays)
		}
	})
	return s
}

// withConfig replaces the config section of a manifest. JSON is YAML.
func withConfig(manifest []byte, cfg sandboxer.Inputs) []byte {
	head, _, _ := bytes.Cut(manifest, []byte("config:"))
	text, err := json.Marshal(cfg)
	if err != nil {
		panic(err)
	}
	return append(append(bytes.Clone(head), "config: "...), append(text, '\n')...)
}

// rig is an extension over a server, called directly.
type rig struct {
	sandboxer.Extension
	s   *e2btest.Server
	key *wallet
}

// version names keys as secrets.Map does.
var version = secrets.Versioned(secrets.WithVersionKey([]byte("of the tests")))

// wallet holds the key in use, and counts how often it was asked.
type wallet struct {
	mu    sync.Mutex
	value string
	asked int
}

func (w *wallet) set(value string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.value = value
}

func (w *wallet) secret(context.Context, sandboxer.SecretRef) (sandboxer.Secret, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	return version([]byte(w.value)), nil
}

func newRig(t *testing.T, s *e2btest.Server, more sandboxer.Inputs) *rig {
	t.Helper()
	cfg := sandboxer.Inputs{"api_key": "env:E2B_API_KEY", "settle": "200ms"}
	maps.Copy(cfg, s.Config())
	maps.Copy(cfg, more)
	ext, err := e2b.Adapter().New(t.Context(), sandboxer.Settings{ExtensionID: "ext.e2b", Config: cfg, Logger: logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ext.(interface{ Close() error }).Close(); err != nil {
			t.Error(err)
		}
	})
	return &rig{Extension: ext, s: s, key: &wallet{value: canaryKey}}
}

// logger logs everything there is, to where keys are looked for.
func logger(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(canary.Log(t), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func as[T any](t *testing.T, r *rig) T {
	t.Helper()
	v, ok := sandboxer.As[T](r.Extension)
	if !ok {
		t.Fatalf("the extension is no %T", (*T)(nil))
	}
	return v
}

// request asks for a sandbox under an ID of its own.
func (r *rig) request() *sandboxer.ProvisionRequest {
	id := sandboxer.NewID()
	return &sandboxer.ProvisionRequest{
		ID: id, Attempt: 1, Name: string(id), Profile: sandboxer.Profile{Extension: "ext.e2b"},
		Consumer: sandboxer.Consumer{ID: "c"}, Secret: r.key.secret, ExpiresAt: time.Now().Add(30 * time.Minute),
		Labels: map[string]string{sandboxer.LabelID: string(id), sandboxer.LabelName: string(id), sandboxer.LabelOwner: owner},
	}
}

func (r *rig) target(req *sandboxer.ProvisionRequest, h sandboxer.Handle) sandboxer.Target {
	return sandboxer.Target{Handle: h, Inputs: req.Inputs, Consumer: req.Consumer, Labels: req.Labels, ExpiresAt: req.ExpiresAt, Secret: r.key.secret}
}

// sandbox provisions one.
func (r *rig) sandbox(t *testing.T) sandboxer.Target {
	t.Helper()
	req := r.request()
	h, err := r.Provision(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return r.target(req, h)
}

// sh runs a script and returns its result and what it wrote.
func (r *rig) sh(ctx context.Context, target sandboxer.Target, script string) (res sandboxer.ExecResult, stdout, stderr string, err error) {
	var out, errs bytes.Buffer
	x, _ := sandboxer.As[sandboxer.Executor](r.Extension)
	res, err = x.Exec(ctx, target, sandboxer.ExecRequest{Command: []string{"sh", "-c", script}, Stdout: &out, Stderr: &errs})
	return res, out.String(), errs.String(), err
}

// wantCode checks the code of an error and whether it says that nothing was done.
func wantCode(t *testing.T, what string, err error, code sandboxer.Code, refused bool) {
	t.Helper()
	t.Logf("%s: %v, %+v", what, err, err) // for the search for keys
	if sandboxer.CodeOf(err) != code || !errors.Is(err, code) || sandboxer.IsRefused(err) != refused {
		t.Errorf("%s: got %v (refused: %v), want %s (refused: %v)", what, err, sandboxer.IsRefused(err), code, refused)
	}
}
