package e2b

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"sync"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// Handler is what a manifest's `handler:` names for this adapter.
const Handler = "e2b"

// Adapter returns the registration of the handler "e2b", with the manifest ext.e2b and the profile profile.e2b. Its config:
//
//   - api_key: reference to the key, as env:E2B_API_KEY. Required: who pays is decided by it
//   - domain: of the deployment. Defaults to e2b.app
//   - api_url: the control plane, where it is not https://api.<domain>
//   - sandbox_url: the way into sandboxes, where it is not E2B's own
//   - port_url: the public address of a port. Defaults to https://{port}-{id}.{domain}
//   - max_lifetime: the longest that the plan allows ("1h", "24h"); learned from E2B's refusal where it is not given
//   - settle: how long after it began a create whose reply was lost, or a snapshot, may still be made at E2B; one is sent within
//     half of it, and at most 30 s. Defaults to 2m
//
// Its inputs: template (defaults to base), workdir (defaults to the home directory), user (defaults to the template's), env,
// allow_internet, allow_out and deny_out (addresses), public_ports (defaults to true, as at E2B).
func Adapter() sandboxer.Adapter {
	return sandboxer.Adapter{
		Handler: Handler, Manifest: manifest, Profiles: [][]byte{profile}, Credentials: []string{"api_key"},
		New: func(_ context.Context, s sandboxer.Settings) (sandboxer.Extension, error) {
			cfg, err := decodeConfig(s.Config)
			if err != nil {
				return nil, err
			}
			log := s.Logger
			if log == nil {
				log = slog.New(slog.DiscardHandler)
			}
			return &extension{
				id: s.ExtensionID, cfg: cfg, log: log, api: newClient(cfg, log), envd: newEnvdHTTP(),
				names: map[string]*creation{}, sessions: map[string]*session{}, meters: map[string]*meter{},
				lifetimes: map[[sha256.Size]byte]learned{}, sameTeam: map[[2]string]bool{}, turns: map[string]*turn{},
				limits: limits{call: callTimeout, silence: silence, send: sendWindow},
			}, nil
		},
	}
}

// extension is one configured account at E2B. What it keeps in memory spares requests and is found again at E2B after a
// restart.
type extension struct {
	id   string
	cfg  config
	log  *slog.Logger
	api  *client
	envd *envdHTTP

	mu        sync.Mutex
	names     map[string]*creation          // by owner and name: what this process creates or created
	sessions  map[string]*session           // by E2B's ID: how to talk to what runs
	meters    map[string]*meter             // by E2B's ID
	ended     []string                      // whose meters are kept though they ended, oldest first
	lifetimes map[[sha256.Size]byte]learned // by fingerprint of a key: the longest that its plan allows
	sameTeam  map[[2]string]bool            // pairs of versions of keys that were seen to see the same sandbox
	turns     map[string]*turn              // by E2B's ID: whose turn it is to move its deadline

	limits limits
}

// limits are how long things may take; tests have less patience.
type limits struct{ call, silence, send time.Duration }

// Close drops connections that are kept for reuse. The Manager calls it after the last call returned.
func (e *extension) Close() error {
	e.api.http.CloseIdleConnections()
	e.envd.http.CloseIdleConnections()
	return nil
}

var (
	_ sandboxer.Extension   = (*extension)(nil)
	_ sandboxer.Finder      = (*extension)(nil)
	_ sandboxer.Lister      = (*extension)(nil)
	_ sandboxer.Executor    = (*extension)(nil)
	_ sandboxer.Exposer     = (*extension)(nil)
	_ sandboxer.Snapshotter = (*extension)(nil)
	_ sandboxer.Meterer     = (*extension)(nil)
	_ sandboxer.Inspector   = (*extension)(nil)
	_ sandboxer.Extender    = (*extension)(nil)
	_ sandboxer.Pauser      = (*extension)(nil)
	_ sandboxer.Preflighter = (*extension)(nil)

	_ sandboxer.FileTransferer = (*extension)(nil)
)
