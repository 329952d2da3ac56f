package composessh_test

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer/adapters/internal/hosttest"
)

// TestRelayEnds: when a connection is closed, or the one to the host is lost, what carried it ends, also where the server would
// never close it, or takes nothing.
func TestRelayEnds(t *testing.T) {
	t.Parallel()
	f := newFar(t, 1)
	f.req.Inputs["repo"] = repository(t, "services:\n  app:\n    image: "+hosttest.Image+"\n    command: [sh, -c, \"nc -ll -p 8080 127.0.0.1 -e sleep 1000\"]\n    init: true\n")
	to := f.up(t)
	gone := func(after string) {
		t.Helper()
		begun := time.Now()
		for len(f.relays()) > 0 {
			if time.Since(begun) > 30*time.Second {
				t.Fatalf("30 s after %s there are %v", after, f.relays())
			}
			pause(t, 100*time.Millisecond)
		}
	}
	idle, full := dialled(t, f.ext, to, "localhost:8080"), dialled(t, f.ext, to, "localhost:8080")
	if n := len(f.relays()); n != 2 {
		t.Errorf("two connections have %d containers", n)
	}
	sent := fill(t, full)
	for _, c := range []io.Closer{idle, full} {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	<-sent
	gone("their connections were closed")
	lost := dialled(t, f.ext, to, "localhost:8080")
	sent = fill(t, lost)
	f.proxy.Reset()
	<-sent
	gone("the host could not be reached")
	_ = lost.Close() // it has failed
	f.gone(t)
}

// relays are the containers that carry connections: those of no service.
func (f *far) relays() []string {
	var out []string
	for line := range strings.Lines(f.h.Docker("ps", "-a", "--filter", "label=sandboxer-name="+f.req.Name, "--format", `{{.Names}} {{.Label "com.docker.compose.service"}}`)) {
		if f := strings.Fields(line); len(f) == 1 {
			out = append(out, f[0])
		}
	}
	return out
}

// fill writes to a server that takes nothing, until all on the way is full. The channel is closed when that fails.
func fill(t *testing.T, conn io.Closer) <-chan struct{} {
	t.Helper()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for {
			if _, err := conn.(io.Writer).Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	}()
	pause(t, 2*time.Second)
	return sent
}
