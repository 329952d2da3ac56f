package sshtest

import (
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy passes connections on to a server, and does to them what a network does. Safe for concurrent use.
type Proxy struct {
	Address string

	dial func() (net.Conn, error)
	l    net.Listener
	done chan struct{}
	wg   sync.WaitGroup

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when the rules change
	hole    bool          // nothing is passed on
	delay   time.Duration
	chunk   int // bytes at a time …
	every   time.Duration
	left    int64 // bytes until a reset; negative: none
	links   map[*link]struct{}
}

type link struct{ client, server *net.TCPConn }

// NewProxy starts one in front of target until the test ends.
func NewProxy(tb testing.TB, target string) *Proxy {
	tb.Helper()
	return NewProxyTo(tb, func() (net.Conn, error) { return net.Dial("tcp", target) })
}

// NewProxyTo starts one in front of what dial connects to, with TCP.
func NewProxyTo(tb testing.TB, dial func() (net.Conn, error)) *Proxy {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &Proxy{Address: l.Addr().String(), dial: dial, l: l, done: make(chan struct{}), changed: make(chan struct{}), left: -1, links: map[*link]struct{}{}}
	p.wg.Go(p.accept)
	tb.Cleanup(func() {
		close(p.done)
		_ = l.Close()
		p.Reset()
		p.wg.Wait()
	})
	return p
}

func (p *Proxy) accept() {
	for {
		c, err := p.l.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.serve(c.(*net.TCPConn)) })
	}
}

func (p *Proxy) serve(client *net.TCPConn) {
	c, err := p.dial()
	if err != nil {
		_ = client.SetLinger(0)
		_ = client.Close()
		return
	}
	k := &link{client, c.(*net.TCPConn)}
	p.mu.Lock()
	p.links[k] = struct{}{}
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { p.pass(k, k.client, k.server) })
	both.Go(func() { p.pass(k, k.server, k.client) })
	both.Wait()
	_, _ = k.client.Close(), k.server.Close()
	p.mu.Lock()
	delete(p.links, k)
	p.mu.Unlock()
}

// packet is something on its way.
type packet struct {
	data []byte
	due  time.Time
}

func (p *Proxy) pass(k *link, from, to *net.TCPConn) {
	way := make(chan packet, 4096)
	var wg sync.WaitGroup
	wg.Go(func() {
		failed := false
		for pk := range way {
			if failed {
				continue
			}
			if failed = !p.deliver(k, pk, to); failed {
				_ = from.Close()
			}
		}
		if !failed {
			_ = to.CloseWrite()
		}
	})
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			p.mu.Lock()
			delay := p.delay
			p.mu.Unlock()
			way <- packet{append([]byte(nil), buf[:n]...), time.Now().Add(delay)}
		}
		if err != nil {
			break
		}
	}
	close(way)
	wg.Wait()
}

// deliver writes what is due, under the rules of the moment.
func (p *Proxy) deliver(k *link, pk packet, to *net.TCPConn) bool {
	for wait := time.Until(pk.due); wait > 0 || len(pk.data) > 0; wait = time.Until(pk.due) {
		p.mu.Lock()
		hole, changed, chunk, every, left := p.hole, p.changed, p.chunk, p.every, p.left
		n := len(pk.data)
		if chunk > 0 {
			n = min(n, chunk)
		}
		if !hole && wait <= 0 && left >= 0 {
			n = int(min(int64(n), left))
			p.left -= int64(n)
		}
		p.mu.Unlock()
		if hole || wait > 0 {
			var due <-chan time.Time
			if !hole {
				t := time.NewTimer(wait)
				defer t.Stop()
				due = t.C
			}
			select {
			case <-due:
			case <-changed:
			case <-p.done:
				return false
			}
			continue
		}
		if n > 0 {
			if _, err := to.Write(pk.data[:n]); err != nil {
				return false
			}
			pk.data = pk.data[n:]
		}
		if left >= 0 && left <= int64(n) {
			k.reset()
			return false
		}
		if chunk > 0 {
			pk.due = time.Now().Add(every)
		}
	}
	return true
}

func (k *link) reset() {
	for _, c := range []*net.TCPConn{k.client, k.server} {
		_ = c.SetLinger(0)
		_ = c.Close()
	}
}

func (p *Proxy) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	close(p.changed)
	p.changed = make(chan struct{})
}

// BlackHole stops or starts again to pass anything on, in both directions; new connections are taken and hear nothing.
func (p *Proxy) BlackHole(on bool) { p.set(func() { p.hole = on }) }

// Delay makes everything arrive so much later, in each direction.
func (p *Proxy) Delay(d time.Duration) { p.set(func() { p.delay = d }) }

// Drip passes on so many bytes at a time, with a pause after each; 0 bytes end it.
func (p *Proxy) Drip(bytes int, pause time.Duration) {
	p.set(func() { p.chunk, p.every = bytes, pause })
}

// ResetAfter resets the connection on which the n-th byte from now passes, of both directions together; negative: never.
func (p *Proxy) ResetAfter(n int64) { p.set(func() { p.left = n }) }

// Reset resets all connections at once.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k := range p.links {
		k.reset()
	}
}

// HalfOpen ends the server's side of all connections; the client's stay open and silent.
func (p *Proxy) HalfOpen() {
	p.BlackHole(true)
	p.mu.Lock()
	defer p.mu.Unlock()
	for k := range p.links {
		_ = k.server.SetLinger(0)
		_ = k.server.Close()
	}
}
