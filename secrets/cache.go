package secrets

import (
	"context"
	"sync"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// Cached keeps what source answers for at most lifetime, for sources that are slow or limited (a vault). Keep it short: a
// key that was taken away is used for as long. When a backend refuses a key, the adapter's next fetch goes past the cache
// and replaces what was in it. Failures are never kept, and who pays is always asked anew. Several callers that need the
// same key at once cause one fetch. A lifetime of 0 or less returns source as it is.
func Cached(source sandboxer.SecretSource, lifetime time.Duration) sandboxer.SecretSource {
	if lifetime <= 0 {
		return source
	}
	return &cache{source: source, lifetime: lifetime, entries: map[cacheKey]*cacheEntry{}}
}

type cacheKey struct {
	ref   sandboxer.SecretRef
	payer sandboxer.Payer
}

type cacheEntry struct {
	turn    chan struct{} // holds one token while nobody fetches
	secret  sandboxer.Secret
	expires time.Time // zero: nothing is kept
	users   int       // callers that hold the entry, guarded by cache.mu
}

type cache struct {
	source   sandboxer.SecretSource
	lifetime time.Duration

	mu      sync.Mutex
	entries map[cacheKey]*cacheEntry
	swept   time.Time
}

func (c *cache) Payer(ctx context.Context, ref sandboxer.SecretRef, consumer sandboxer.Consumer) (sandboxer.Payer, error) {
	return c.source.Payer(ctx, ref, consumer)
}

func (c *cache) Secret(ctx context.Context, ref sandboxer.SecretRef, p sandboxer.Payer) (sandboxer.Secret, error) {
	key := cacheKey{ref, p}
	e := c.enter(key)
	defer c.leave()
	defer func() {
		c.mu.Lock()
		e.users--
		c.mu.Unlock()
	}()
	select {
	case e.turn <- struct{}{}:
		defer func() { <-e.turn }()
	case <-ctx.Done():
		return sandboxer.Secret{}, ctxErr(ctx)
	}
	c.mu.Lock()
	secret, fresh := e.secret, time.Now().Before(e.expires)
	c.mu.Unlock()
	if refused, ok := sandboxer.RefusedKey(ctx); fresh && (!ok || refused != secret.Version()) {
		return secret, nil
	}
	secret, err := c.source.Secret(ctx, ref, p)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		e.secret, e.expires = sandboxer.Secret{}, time.Time{}
		return sandboxer.Secret{}, err
	}
	e.secret, e.expires = secret, time.Now().Add(c.lifetime)
	return secret, nil
}

// enter finds or makes the entry and keeps it from being swept.
func (c *cache) enter(key cacheKey) *cacheEntry {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[key]
	if e == nil {
		e = &cacheEntry{turn: make(chan struct{}, 1)}
		c.entries[key] = e
	}
	e.users++
	return e
}

// leave forgets, once a lifetime, what has expired, so that keys of tenants that went away do not stay in memory.
func (c *cache) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if now.Sub(c.swept) < c.lifetime {
		return
	}
	c.swept = now
	for key, e := range c.entries {
		if e.users == 0 && !now.Before(e.expires) {
			delete(c.entries, key)
		}
	}
}
