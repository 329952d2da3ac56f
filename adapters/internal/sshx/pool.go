package sshx

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// Pool holds SSH connections to any number of hosts. Safe for concurrent use.
type Pool struct {
	cfg    Config
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup // every goroutine of the pool
	writes atomic.Int64   // to callers' writers, under way

	mu         sync.Mutex
	closed     bool
	hosts      map[[32]byte]*host
	handshakes map[string]chan struct{} // by address
}

// NewPool makes a Pool. Nothing is connected before it is used.
func NewPool(cfg Config) *Pool {
	p := &Pool{cfg: cfg.withDefaults(), hosts: map[[32]byte]*host{}, handshakes: map[string]chan struct{}{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// Host gives access to a host. It connects when something is asked of it. secret fetches host.Credential, at once;
// connections are shared by callers with the same way to the host and the same credential, and by nobody else.
//
// Its errors are refusals: InvalidArgument for an address, a host key or an SSH configuration that cannot be read,
// Unauthenticated without a credential.
func (p *Pool) Host(ctx context.Context, target sandboxer.Host, secret sandboxer.SecretFunc) (*Conn, error) {
	way, err := p.resolve(ctx, target, secret)
	if err != nil {
		return nil, err
	}
	key := routeKey(way)
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, errClosed
	}
	h := p.hosts[key]
	if h == nil {
		h = &host{p: p, way: way, limit: defaultSessions, freed: make(chan struct{}, maxResidents), runners: runners{all: map[*runner]struct{}{}}}
		p.hosts[key] = h
	}
	p.mu.Unlock()
	return &Conn{h: h, name: first(target.ID, target.Address)}, nil
}

func routeKey(way []*hop) [32]byte {
	sum := sha256.New()
	for _, h := range way {
		_, _ = fmt.Fprintf(sum, "%q %q %q %x %q;", h.address, h.user, h.keys.lookup, h.cred.id(), h.keys.files)
		for _, k := range h.keys.fixed {
			_, _ = fmt.Fprintf(sum, "%x,", k.Marshal())
		}
	}
	return [32]byte(sum.Sum(nil))
}

// Close ends all connections and waits until everything that the Pool started has ended. Commands that run are ended on
// their hosts; calls that wait fail. A caller's writer that blocks is waited for no longer than KillGrace.
func (p *Pool) Close() error {
	p.mu.Lock()
	p.closed = true
	hosts := p.hosts
	p.hosts = map[[32]byte]*host{}
	p.mu.Unlock()
	p.cancel()
	for _, h := range hosts {
		h.close()
	}
	ended := make(chan struct{})
	go func() { p.wg.Wait(); close(ended) }()
	for {
		limit := time.NewTimer(p.cfg.KillGrace)
		select {
		case <-ended:
			limit.Stop()
			return nil
		case <-limit.C:
			if p.writes.Load() > 0 {
				return nil // to end with the Write
			}
		}
	}
}

// spawn runs f in a goroutine that Close waits for; false when the pool is closed.
func (p *Pool) spawn(f func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.wg.Go(f)
	return true
}
