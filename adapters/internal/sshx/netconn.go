package sshx

import (
	"errors"
	"io"
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
	return n, notEOF(err)
}

var errPeerClosed = errors.New("the peer closed the connection")

// notEOF tells the end of a connection from that of a channel, which x/crypto reports by io.EOF.
func notEOF(err error) error {
	if err == io.EOF { //nolint:errorlint // of the reader itself
		return errPeerClosed
	}
	return err
}

// inner is a connection through another server.
type inner struct{ net.Conn }

func (c inner) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	return n, notEOF(err)
}

// silence is how long nothing was read.
func (w *watchedConn) silence() time.Duration {
	return time.Since(w.start) - time.Duration(w.read.Load())
}
