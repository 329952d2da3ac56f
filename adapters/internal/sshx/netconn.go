package sshx

import (
	"net"
	"sync/atomic"
	"time"
)

// watchedConn knows when something was last read from it.
type watchedConn struct {
	net.Conn
	ack   func()
	start time.Time
	read  atomic.Int64 // nanoseconds after start
	ended atomic.Bool  // nothing more is read from it; known before channels over it end
}

func watch(c net.Conn) *watchedConn {
	w := &watchedConn{Conn: c, ack: quickAck(c), start: time.Now()}
	w.ack()
	return w
}

func (w *watchedConn) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if n > 0 {
		w.read.Store(int64(time.Since(w.start)))
		w.ack()
	}
	if err != nil {
		w.ended.Store(true)
	}
	return n, err
}

func (w *watchedConn) Close() error {
	w.ended.Store(true)
	return w.Conn.Close()
}

// inner is a connection through another server.
type inner struct {
	net.Conn
	ended *atomic.Bool
}

func (c inner) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.ended.Store(true)
	}
	return n, err
}

// silence is how long nothing was read.
func (w *watchedConn) silence() time.Duration {
	return time.Since(w.start) - time.Duration(w.read.Load())
}
