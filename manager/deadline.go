package manager

import (
	"context"
	"sync"
	"time"
)

// deadline is what [context.WithDeadlineCause] returns, but that it has no timer and no place in its parent until somebody
// waits for its end: most calls return sooner, and many adapters only look at Err.
type deadline struct {
	parent context.Context
	by     time.Time
	cause  error

	mu     sync.Mutex
	ended  bool            // by its cancel function
	made   context.Context // nil until it is needed
	cancel context.CancelFunc
}

// withTimeoutCause is [context.WithTimeoutCause].
func withTimeoutCause(parent context.Context, d time.Duration, cause error) (context.Context, context.CancelFunc) {
	c := &deadline{parent: parent, by: time.Now().Add(d), cause: cause}
	return c, c.end
}

func (c *deadline) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cancel != nil {
		c.cancel()
		return
	}
	c.ended = time.Now().Before(c.by)
}

// real makes the context that everything is asked of from then on.
func (c *deadline) real() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.made == nil && c.ended:
		c.made, c.cancel = context.WithCancel(c.parent)
		c.cancel()
	case c.made == nil:
		c.made, c.cancel = context.WithDeadlineCause(c.parent, c.by, c.cause)
	}
	return c.made
}

// idle reports whether nothing of it is needed yet.
func (c *deadline) idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.made == nil && !c.ended
}

func (c *deadline) Deadline() (time.Time, bool) {
	if by, ok := c.parent.Deadline(); ok && by.Before(c.by) {
		return by, true
	}
	return c.by, true
}

func (c *deadline) Done() <-chan struct{} { return c.real().Done() }

func (c *deadline) Err() error {
	if c.idle() && time.Now().Before(c.by) {
		return c.parent.Err()
	}
	return c.real().Err()
}

// Value finds the context that is waited for as well, which package context does by a value.
func (c *deadline) Value(key any) any {
	c.mu.Lock()
	made := c.made
	c.mu.Unlock()
	if made == nil {
		return c.parent.Value(key)
	}
	return made.Value(key)
}
