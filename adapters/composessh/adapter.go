package composessh

import (
	"context"
	_ "embed" // for the manifest and the profile
	"log/slog"
	"sync"

	"golang.org/x/sync/singleflight"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/internal/sshx"
)

// Handler is what a manifest's `handler:` names for this adapter.
const Handler = "compose-ssh"

//go:embed ext.compose-ssh.yaml
var manifestYAML []byte

//go:embed profile.compose-ssh.yaml
var profileYAML []byte

// Adapter registers the handler "compose-ssh" with the manifest ext.compose-ssh and the profile profile.compose-ssh. What its
// configuration and inputs mean stands in the documentation of the package. Its New connects to nothing.
func Adapter() sandboxer.Adapter {
	return sandboxer.Adapter{
		Handler: Handler, Hosted: true,
		Manifest: append([]byte(nil), manifestYAML...),
		Profiles: [][]byte{append([]byte(nil), profileYAML...)},
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
				id: s.ExtensionID, cfg: cfg, log: log,
				pool:   sshx.NewPool(sshx.Config{SSHConfig: cfg.SSHConfig, KnownHosts: cfg.KnownHosts, Agent: cfg.Agent}),
				probes: map[string]*probe{}, stacks: map[string]*stack{}, ids: map[string]string{}, owners: map[string]owner{},
			}, nil
		},
	}
}

// extension is one configuration of the adapter. What it keeps in memory spares questions and is asked again after a restart.
type extension struct {
	id   string
	cfg  config
	log  *slog.Logger
	pool *sshx.Pool

	asking singleflight.Group
	tails  sync.WaitGroup // commands whose end was told and whose connection is still ending

	mu     sync.Mutex
	probes map[string]*probe // by way to a host
	stacks map[string]*stack // by token: what is running
	ids    map[string]string // by token and service: of the first container
	owners map[string]owner  // by token: who owns what is copied in
}

// Close ends all connections. The Manager calls it after the last call returned.
func (e *extension) Close() error {
	err := e.pool.Close()
	e.tails.Wait()
	return err
}

// HasCapability says that a port has an address for others only where ports are published to others.
func (e *extension) HasCapability(c sandboxer.Capability) bool {
	return c != sandboxer.CapExpose || !e.cfg.loopbackOnly()
}

var (
	_ sandboxer.Extension          = (*extension)(nil)
	_ sandboxer.CapabilityFilter   = (*extension)(nil)
	_ sandboxer.Finder             = (*extension)(nil)
	_ sandboxer.Lister             = (*extension)(nil)
	_ sandboxer.Inspector          = (*extension)(nil)
	_ sandboxer.Executor           = (*extension)(nil)
	_ sandboxer.FileTransferer     = (*extension)(nil)
	_ sandboxer.Syncer             = (*extension)(nil)
	_ sandboxer.Dialer             = (*extension)(nil)
	_ sandboxer.Exposer            = (*extension)(nil)
	_ sandboxer.Snapshotter        = (*extension)(nil)
	_ sandboxer.SnapshotTransferer = (*extension)(nil)
	_ sandboxer.Extender           = (*extension)(nil)
	_ sandboxer.Pauser             = (*extension)(nil)
	_ sandboxer.Preflighter        = (*extension)(nil)
)
