//go:build linux || darwin

package local

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const pumpBuffer = 64 << 10

// pump carries one stream of a command to the caller's writer, in the order in which it was written.
type pump struct {
	f         *os.File // the end that we read
	w         io.Writer
	stream    string
	failed    chan<- error // the caller's Write failed; has room
	abandoned atomic.Bool  // nobody waits any more: nothing is to be written
	done      chan struct{}
	err       error // of Write; read after done
	open      bool  // somebody else still holds the other end; read after done
}

func startPump(f *os.File, w io.Writer, stream string, failed chan<- error) *pump {
	p := &pump{f: f, w: w, stream: stream, failed: failed, done: make(chan struct{})}
	go p.run()
	return p
}

func (p *pump) run() {
	defer close(p.done)
	buf := make([]byte, pumpBuffer)
	for {
		n, err := p.f.Read(buf)
		if n > 0 && !p.write(buf[:n]) {
			return
		}
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			p.rest(buf)
			return
		default: // EOF; of a terminal EIO, when its last user is gone
			return
		}
	}
}

// exited tells the pump that the command has ended: what it wrote is in the pipe, and more is not waited for.
func (p *pump) exited() { _ = p.f.SetReadDeadline(time.Unix(1, 0)) }

// rest delivers what is in the pipe. A background process that goes on writing must not keep it for ever, so it takes no
// more than a pipe can hold.
func (p *pump) rest(buf []byte) {
	conn, err := p.f.SyscallConn()
	if err != nil {
		return
	}
	p.open = true
	for left := capacity(p.f); left > 0; {
		var n int
		var rerr error
		err := conn.Control(func(fd uintptr) {
			for {
				if n, rerr = unix.Read(int(fd), buf[:min(left, len(buf))]); !errors.Is(rerr, unix.EINTR) {
					return
				}
			}
		})
		if errors.Is(rerr, unix.EAGAIN) {
			return
		}
		if err != nil || rerr != nil || n <= 0 {
			p.open = false
			return
		}
		if !p.write(buf[:n]) {
			return
		}
		left -= n
	}
}

func (p *pump) write(b []byte) bool {
	if p.abandoned.Load() {
		return false
	}
	n, err := p.w.Write(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	if err != nil {
		p.err = fmt.Errorf("writing %s: %w", p.stream, err)
		p.failed <- p.err
		return false
	}
	return true
}

// drains goes on emptying pipes that background processes hold, so that these are not ended by writing to a closed one.
type drains struct {
	mu     sync.Mutex
	closed bool
	files  map[*os.File]bool
	wg     sync.WaitGroup
}

// take owns f from now on.
func (d *drains) take(f *os.File) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || f.SetReadDeadline(time.Time{}) != nil {
		_ = f.Close() // only read
		return
	}
	if d.files == nil {
		d.files = map[*os.File]bool{}
	}
	d.files[f] = true
	d.wg.Go(func() {
		_, _ = io.Copy(io.Discard, f) // its end is the end of the writers
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.files, f)
		_ = f.Close() // only read
	})
}

func (d *drains) close() {
	d.mu.Lock()
	d.closed = true
	for f := range d.files {
		_ = f.Close() // ends its reader
	}
	d.mu.Unlock()
	d.wg.Wait()
}
