package sshx

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sand-boxer/sandboxer"
)

const (
	// longTrip is the round trip from which on streams are spread: a channel moves one window of 2 MiB in it.
	longTrip = 15 * time.Millisecond
	lanes    = 6 // a shell names descriptors 3 to 9, and the scripts need one more
	// stripe is how much goes over one lane before it is the next one's turn.
	stripe = 256 << 10
)

// Each lane is a FIFO with a session of its own at the other end. Their directory is gone once all ends are open.
const (
	makeLanes = `umask 077;d=$(mktemp -d)&&mkfifo "$d/0" "$d/1" "$d/2" "$d/3" "$d/4" "$d/5" "$d/in"&&printf %s "$d"`

	// dd reads exactly one stripe, and says "1+0 records in" unless the stream ended within it.
	oneStripe = `one(){ case $(dd bs="$s" count=1 iflag=fullblock 2>&1 >&9) in 1+0*);;*)return 1;;esac;};`

	joinLanes = `d=$1 s=$2;shift 2;exec 3<"$d/0" 4<"$d/1" 5<"$d/2" 6<"$d/3" 7<"$d/4" 8<"$d/5";rm -rf "$d";` + oneStripe +
		`while one <&3&&one <&4&&one <&5&&one <&6&&one <&7&&one <&8;do :;done 9>&1|"$@" 3<&- 4<&- 5<&- 6<&- 7<&- 8<&-`

	splitLanes = `d=$1 s=$2;shift 2;` + oneStripe +
		`{ exec 3>"$d/0" 4>"$d/1" 5>"$d/2" 6>"$d/3" 7>"$d/4" 8>"$d/5" <"$d/in";rm -rf "$d";` +
		`while one 9>&3&&one 9>&4&&one 9>&5&&one 9>&6&&one 9>&7&&one 9>&8;do :;done;} >/dev/null &` +
		"\n" + `"$@" >"$d/in";c=$?;wait $!||c=1;exit $c`
)

// Send is Exec for a command that reads much: where the round trip is long, Stdin is spread over several channels. The
// command reads a pipe. A stream that breaks off may look to the command as if it had ended: what must not be half done is
// completed by another command after Send returned nil.
func (c *Conn) Send(ctx context.Context, req sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
	if long, err := c.far(ctx); err != nil || !long || req.Stdin == nil || req.TTY != nil {
		return c.orExec(ctx, req, err)
	}
	in := req.Stdin
	req.Stdin = nil
	var sent atomic.Bool
	return c.striped(ctx, req, joinLanes, &sent, func(ctx context.Context, g *errgroup.Group, dir string) {
		queues := make([]chan []byte, lanes)
		for i := range queues {
			queues[i] = make(chan []byte, 2)
			g.Go(func() error {
				err := c.lane(ctx, sandboxer.ExecRequest{Command: []string{"sh", "-c", `exec cat >"$0"`, dir + "/" + strconv.Itoa(i)}, Stdin: &chunks{ctx: ctx, from: queues[i]}})
				var exit *sandboxer.ExitError
				if errors.As(err, &exit) && exit.Signal == "SIGPIPE" {
					return nil // the command does not want more, and tells how it ended
				}
				return err
			})
		}
		g.Go(func() error { return deal(ctx, in, queues, &sent) })
	})
}

// Receive is Exec for a command that writes much: where the round trip is long, Stdout is spread over several channels.
// What was written to Stdout is complete when the result says exit code 0.
func (c *Conn) Receive(ctx context.Context, req sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
	if long, err := c.far(ctx); err != nil || !long || req.Stdout == nil || req.TTY != nil {
		return c.orExec(ctx, req, err)
	}
	out := req.Stdout
	req.Stdout = nil
	var all atomic.Bool
	all.Store(true)
	return c.striped(ctx, req, splitLanes, &all, func(ctx context.Context, g *errgroup.Group, dir string) {
		readers := make([]*io.PipeReader, lanes)
		for i := range readers {
			r, w := io.Pipe()
			readers[i] = r
			g.Go(func() error {
				err := c.lane(ctx, sandboxer.ExecRequest{Command: []string{"cat", dir + "/" + strconv.Itoa(i)}, Stdout: w})
				_ = w.CloseWithError(err)
				return err
			})
		}
		g.Go(func() error {
			err := collect(out, readers)
			for _, r := range readers {
				_ = r.CloseWithError(errors.Join(err, io.ErrClosedPipe))
			}
			return err
		})
	})
}

// far reports whether spreading pays, once something is known about the host.
func (c *Conn) far(ctx context.Context) (bool, error) {
	if _, err := c.h.keeperFor(ctx); err != nil {
		return false, fmt.Errorf("host %s: %w", c.name, err)
	}
	return c.RoundTrip() >= longTrip, nil
}

func (c *Conn) orExec(ctx context.Context, req sandboxer.ExecRequest, err error) (sandboxer.ExecResult, error) {
	if err != nil {
		return sandboxer.ExecResult{}, err
	}
	return c.alone(ctx, req)
}

// alone is Exec in a session of its own, where the streams of a command are not copied once more.
func (c *Conn) alone(ctx context.Context, req sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
	return c.exec(ctx, req, func(context.Context, *sandboxer.ExecRequest) (sandboxer.ExecResult, bool, error) {
		return sandboxer.ExecResult{}, false, nil
	})
}

// striped runs the command under the script, and the lanes beside it. A command that fails, or ends before complete is
// true, ends the lanes.
func (c *Conn) striped(ctx context.Context, req sandboxer.ExecRequest, script string, complete *atomic.Bool, carry func(context.Context, *errgroup.Group, string)) (sandboxer.ExecResult, error) {
	made, err := c.Small(ctx, sandboxer.ExecRequest{Command: []string{"sh", "-c", makeLanes}})
	if err != nil {
		return sandboxer.ExecResult{}, err
	}
	dir := string(bytes.TrimSpace(made.Stdout))
	if made.ExitCode != 0 || dir == "" {
		return sandboxer.ExecResult{}, sandboxer.Refused(sandboxer.Unavailable, fmt.Errorf("host %s: no FIFOs in its temporary directory: %s", c.name, bytes.TrimSpace(made.Stderr)))
	}
	all, stop := context.WithCancel(ctx)
	defer stop()
	g, inner := errgroup.WithContext(all)
	carry(inner, g, dir)
	req.Command = append([]string{"sh", "-c", script, "sh", dir, strconv.Itoa(stripe)}, req.Command...)
	var result sandboxer.ExecResult
	g.Go(func() error {
		var err error
		result, err = c.alone(inner, req)
		if err == nil && (result.Err() != nil || !complete.Load()) {
			return errEarly
		}
		return err
	})
	err = g.Wait()
	if err != nil {
		// Where the lanes were not all opened, their directory is still there.
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.h.p.cfg.KillGrace)
		_, _ = c.Small(clean, sandboxer.ExecRequest{Command: []string{"rm", "-rf", dir}})
		cancel()
	}
	if errors.Is(err, errEarly) {
		return result, nil
	}
	return result, err
}

var errEarly = errors.New("the command ended before its stream")

// lane carries one part of a stream.
func (c *Conn) lane(ctx context.Context, req sandboxer.ExecRequest) error {
	var said tail
	req.Stderr = &said
	result, err := c.alone(ctx, req)
	if err == nil && result.Err() != nil {
		err = sandboxer.Mark(sandboxer.Unavailable, fmt.Errorf("host %s: a part of the stream: %w: %s", c.name, result.Err(), said.lastLine()))
	}
	return err
}

// tail keeps the end of what is written to it.
type tail struct{ kept []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p...)
	if extra := len(t.kept) - 4096; extra > 0 {
		t.kept = append([]byte(nil), t.kept[extra:]...)
	}
	return len(p), nil
}

func (t *tail) lastLine() string {
	text := bytes.TrimSpace(bytes.ToValidUTF8(t.kept, nil))
	return string(text[bytes.LastIndexByte(text, '\n')+1:])
}

// chunks reads what is queued for a lane.
type chunks struct {
	ctx  context.Context
	from <-chan []byte
	rest []byte
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		select {
		case chunk, ok := <-c.from:
			if !ok {
				return 0, io.EOF
			}
			c.rest = chunk
		case <-c.ctx.Done():
			return 0, context.Cause(c.ctx)
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// deal gives the lanes their stripes in turn. Only the last is short.
func deal(ctx context.Context, from io.Reader, queues []chan []byte, sent *atomic.Bool) error {
	for i := 0; ; i = (i + 1) % len(queues) {
		chunk := make([]byte, stripe)
		n, err := io.ReadFull(from, chunk)
		if n > 0 {
			select {
			case queues[i] <- chunk[:n]:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			sent.Store(true)
			for _, q := range queues {
				close(q)
			}
			return nil
		case err != nil:
			return sandboxer.Mark(sandboxer.Unknown, fmt.Errorf("standard input: %w", err))
		}
	}
}

// collect takes the stripes of the lanes in turn, up to one that is short.
func collect(to io.Writer, lanes []*io.PipeReader) error {
	buf := make([]byte, stripe)
	for i := 0; ; i = (i + 1) % len(lanes) {
		n, err := io.ReadFull(lanes[i], buf)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return sandboxer.Mark(sandboxer.Unknown, fmt.Errorf("output: %w", err))
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			// The stream ended here, or the lane broke: then its own error tells. The others bring nothing more.
			for _, l := range lanes {
				_, _ = io.Copy(io.Discard, l)
			}
			return nil
		case err != nil:
			return err
		}
	}
}
