package sshx

import (
	"bufio"
	"context"
	_ "embed" // the keeper's script
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sand-boxer/sandboxer"
)

//go:embed keeper.sh
var keeperScript string

// keeper is a shell on the host that ends commands: when it is told to, when the connection under it ends, and when it
// hears nothing for two leases. A host has one; a connection's commands may be under a keeper of another connection.
type keeper struct {
	h     *host
	ready chan struct{} // closed when lines can be sent
	done  chan struct{} // closed when it ended
	wake  chan struct{}
	path  string // where it is told what begins; set when ready
	arch  string // what the host's kernel calls its processor; set when ready

	mu    sync.Mutex
	err   error
	t     *transport
	queue []string
	sent  chan struct{}            // closed when what is in queue was sent
	live  map[string]struct{}      // tokens it looks after
	kills map[string]chan struct{} // closed when nothing with the token is left
	said  string                   // the last line on standard error
}

// newKeeper starts one on t, whose slot is claimed already, or with t nil wherever there is one.
func newKeeper(h *host, t *transport) *keeper {
	k := &keeper{
		h: h, t: t, ready: make(chan struct{}), done: make(chan struct{}), wake: make(chan struct{}, 1),
		sent: make(chan struct{}), live: map[string]struct{}{}, kills: map[string]chan struct{}{},
	}
	if !h.p.spawn(func() { k.run(t) }) {
		k.end(errClosed)
	}
	return k
}

// keeperFor returns the host's keeper, when it can be told things.
func (h *host) keeperFor(ctx context.Context) (*keeper, error) {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil, errClosed
	}
	if h.keeper == nil || h.keeper.ended() {
		h.keeper = newKeeper(h, nil)
	}
	k := h.keeper
	h.mu.Unlock()
	select {
	case <-k.ready:
		return k, nil
	case <-k.done:
		return nil, k.reason()
	case <-ctx.Done():
		return nil, ctxError(ctx, fmt.Errorf("waiting for %s", h))
	}
}

func (k *keeper) run(claimed *transport) {
	ctx, cancel := context.WithTimeout(k.h.p.ctx, k.h.p.cfg.DialTimeout)
	t, ch, requests, err := k.h.session(ctx, claimed)
	cancel()
	if err != nil {
		k.end(err)
		return
	}
	defer k.h.release(t)
	k.mu.Lock()
	k.t = t
	k.mu.Unlock()
	token := newToken()
	lease := max(int(k.h.p.cfg.Lease.Seconds()), 1)
	script := strings.NewReplacer("TOKEN", token, "LEASE", strconv.Itoa(lease), "STEP", strconv.Itoa(min(lease, 5))).Replace(bare(keeperScript))
	// The first line reads the others, up to one that is the token.
	load := `N=$(printf '\n_');N=${N%_};s=;while IFS= read -r l&&[ "$l" != ` + token + ` ];do s=$s$l$N;done;eval "$s"` + "\n"
	_, err = ch.SendRequest("exec", false, ssh.Marshal(struct{ Command string }{bootstrap(token, false)}))
	if err == nil {
		_, err = ch.Write([]byte(load + script + token + "\n"))
	}
	if err != nil {
		_ = ch.Close()
		k.end(sandboxer.Refused(sandboxer.Unavailable, fmt.Errorf("connection to %s: %w", k.h, err)))
		return
	}
	k.h.p.spawn(func() { k.write(ch) })
	k.h.p.spawn(func() {
		lines := bufio.NewScanner(ch.Stderr())
		for lines.Scan() {
			k.mu.Lock()
			k.said = lines.Text()
			k.mu.Unlock()
		}
		drain(ch.Stderr())
	})
	k.h.p.spawn(func() { ssh.DiscardRequests(requests) })
	lines, up := bufio.NewScanner(ch), false
	for lines.Scan() {
		if about, ok := strings.CutPrefix(lines.Text(), token+"="); ok && !up {
			pid, about, _ := strings.Cut(about, " ")
			arch, shell, _ := strings.Cut(about, " ")
			if _, err := strconv.ParseUint(pid, 10, 32); err != nil {
				break
			}
			up = true
			k.path, k.arch = "/proc/"+pid+"/fd/9", arch
			k.h.direct.Store(isDirect(shell))
			close(k.ready)
			continue
		}
		if !up {
			k.mu.Lock()
			k.said = lines.Text()
			k.mu.Unlock()
		}
		k.acknowledged(lines.Text())
	}
	_ = ch.Close()
	k.mu.Lock()
	said := first(k.said, "nothing")
	k.mu.Unlock()
	select {
	case <-t.done:
		k.end(t.err)
	case <-time.After(50 * time.Millisecond): // the connection's end is found out right after its channels'
		if !up {
			k.end(sandboxer.Refused(sandboxer.FailedPrecondition, fmt.Errorf("%s lets us in but runs no command for us; its login shell said: %s", k.h, said)))
			return
		}
		k.end(fmt.Errorf("the process on %s that looks after commands ended; it said %q", k.h, said))
	}
}

// bare is the script without its comments and indentation: the host's shell reads it byte by byte.
func bare(script string) string {
	var out strings.Builder
	for line := range strings.Lines(script) {
		line = strings.TrimLeft(line, "\t")
		if line != "\n" && !strings.HasPrefix(line, "#") {
			out.WriteString(line)
		}
	}
	return out.String()
}

// write sends what is queued, and a sign of life three times in a lease while commands run.
func (k *keeper) write(ch ssh.Channel) {
	beat := time.NewTicker(k.h.p.cfg.Lease / 3)
	defer beat.Stop()
	for {
		select {
		case <-k.done:
			return
		case <-beat.C:
			if k.runs() == 0 {
				continue
			}
			k.send(".")
		case <-k.wake:
		}
		k.mu.Lock()
		lines, sent := strings.Join(k.queue, ""), k.sent
		k.queue, k.sent = nil, make(chan struct{})
		k.mu.Unlock()
		if lines == "" {
			continue
		}
		if _, err := ch.Write([]byte(lines)); err != nil {
			return // the reading side ends as well, and tells
		}
		close(sent)
	}
}

// send queues a line; the channel is closed when it was written.
func (k *keeper) send(line string) <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.queue = append(k.queue, line+"\n")
	select {
	case k.wake <- struct{}{}:
	default:
	}
	return k.sent
}

// expect notes that a command is about to begin. Its shell tells the keeper itself, so that there is no moment in which the
// command runs and the keeper does not know, whatever becomes of us.
func (k *keeper) expect(token string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.live[token] = struct{}{}
}

// remove says that a command ended by itself; what it left in the background goes on, even when the connection ends right
// after, which is why sending is waited for.
func (k *keeper) remove(ctx context.Context, token string) {
	k.mu.Lock()
	delete(k.live, token)
	k.mu.Unlock()
	select {
	case <-k.send("-" + token):
	case <-k.done:
	case <-ctx.Done():
	}
}

// kill ends everything with the token; the channel is closed when nothing is left of it. begun says that the command is
// known to run; otherwise it is waited for.
func (k *keeper) kill(token string, begun bool) <-chan struct{} {
	k.mu.Lock()
	gone, asked := k.kills[token]
	if !asked {
		gone = make(chan struct{})
		k.kills[token] = gone
	}
	k.mu.Unlock()
	if !asked {
		verb := "?"
		if begun {
			verb = "!"
		}
		k.send(verb + token)
	}
	return gone
}

func (k *keeper) acknowledged(token string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if gone, ok := k.kills[token]; ok {
		close(gone)
		delete(k.kills, token)
		delete(k.live, token)
	}
}

func (k *keeper) end(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err == nil {
		k.err = err
		close(k.done)
	}
}

// up reports whether it can be told things.
func (k *keeper) up() bool {
	select {
	case <-k.ready:
		return !k.ended()
	default:
		return false
	}
}

func (k *keeper) ended() bool {
	select {
	case <-k.done:
		return true
	default:
		return false
	}
}

// reason is why it ended. Whoever asks has not begun.
func (k *keeper) reason() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if sandboxer.IsRefused(k.err) {
		return k.err
	}
	return sandboxer.Refused(sandboxer.Unavailable, k.err)
}

// runs is how many tokens it looks after.
func (k *keeper) runs() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.live)
}

func (k *keeper) on(t *transport) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.t == t && !k.endedLocked()
}

func (k *keeper) endedLocked() bool { return k.err != nil }

var errNoSession = errors.New("the session ended")
