package e2b

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// killer ends every process whose environment carries the mark $1, also those that left the session or the group, and all
// that are below one, for a command may clear the environment of what it starts (env -i, sudo). It holds them before it ends
// them, so that none escapes by forking. envd's own signal reaches one process only. Where /proc is missing it ends the tree
// below the process $2, and without awk those with the mark alone. It looks $3 times more after it found nothing, for a command
// whose start is still under way.
const killer = `members() {
  if [ ! -r /proc/self/environ ]; then
    [ "$2" -gt 0 ] && ps -A -o pid= -o ppid= | awk -v r="$2" '{p[$1]=$2} END {for (x in p) {y=x; while (y!="" && y!=r && y>1) y=p[y]; if (y==r) print x}}'
    return
  fi
  m=$(for f in $(grep -lsF "` + markerEnv + `=$1" /proc/[0-9]*/environ); do p=${f#/proc/}; echo "${p%%/*}"; done)
  [ -n "$m" ] || return
  cat /proc/[0-9]*/stat | awk -v m="$(echo $m)" '
    {
      p = name == "" ? $1 : name
      if (!sub(/^.*\) /, "")) { name = p; next } # a name with a line break
      name = ""; state[p] = $1; parent[p] = $2; session[p] = $4
    }
    END {
      n = split(m, a, " ")
      for (i = 1; i <= n; i++) hit[a[i]] = 1
      do {
        more = 0
        for (q in parent) if (!(q in hit) && (parent[q] in hit || session[q] in hit)) { hit[q] = 1; more = 1 }
      } while (more)
      for (q in hit) if (q in parent && state[q] != "Z" && state[q] != "X") print q
    }' || echo $m
} 2>/dev/null
more=$3; i=0; before=0
while [ $i -lt 60 ]; do
  i=$((i+1)); l=$(members "$1" "$2"); n=$(echo $l | wc -w)
  if [ "$n" -eq 0 ]; then
    [ $more -gt 0 ] || exit 0
    more=$((more-1)); sleep 0.1
  elif [ "$n" -eq "$before" ] || [ $i -gt 20 ]; then
    kill -KILL $l 2>/dev/null
    before=0; [ $i -lt 5 ] || sleep 0.05
  else
    kill -STOP $l 2>/dev/null
    before=$n
  fi
done
exit 1`

var errKill = errors.New("the command may still run, because it could not be killed")

const killTimeout = 15 * time.Second

// kill ends the command and its children. It works after ctx ended, for at most killTimeout. A sandbox that is gone or
// paused runs nothing: that is no failure, and away says so.
func (r *run) kill(ctx context.Context) (away, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTimeout)
	defer cancel()
	more := 0
	if r.pid.Load() == 0 {
		more = 5 // it may be starting
	}
	args := []string{"-c", killer, "sandboxer", r.nonce, strconv.Itoa(int(r.pid.Load())), strconv.Itoa(more)}
	err = r.e.talk(ctx, r.t, func(ses *session) error {
		err := r.e.script(ctx, r.t, ses, "root", args)
		if code := sandboxer.CodeOf(err); code == sandboxer.InvalidArgument || code == sandboxer.Unauthenticated {
			err = r.e.script(ctx, r.t, ses, "", args) // a template without root
		}
		return err
	})
	switch {
	case err == nil:
		return nil, nil
	case errors.Is(err, sandboxer.NotFound), errors.Is(err, sandboxer.FailedPrecondition):
		return err, nil
	}
	return nil, fmt.Errorf("%w: %w", errKill, err)
}

// script runs /bin/sh with args as user and fails unless it exits with 0. Only envd's word counts here.
func (e *extension) script(ctx context.Context, t sandboxer.Target, ses *session, user string, args []string) error {
	text, err := json.Marshal(startBody{Process: startProcess{Cmd: "/bin/sh", Args: args, Envs: map[string]string{}, Cwd: "/"}})
	if err != nil {
		return sandboxer.Refused(sandboxer.Internal, err)
	}
	left := new(atomic.Bool)
	req, err := e.envdRequest(traced(ctx, left), ses, http.MethodPost, "/process.Process/Start", user, bytes.NewReader(envelope(text)))
	if err != nil {
		return err
	}
	streamHeaders(req)
	res, err := e.envd.http.Do(req)
	if err != nil {
		return transportError(ctx, err, left.Load())
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		var body bytes.Buffer
		_, _ = body.ReadFrom(http.MaxBytesReader(nil, res.Body, maxUnary)) // a cut message is still a message
		return e.envdFailure(ctx, t, ses, res, body.Bytes())
	}
	f := frames{r: res.Body}
	for {
		text, end, err := f.next()
		if err != nil {
			return transportError(ctx, err, true)
		}
		if end {
			rpc, err := trailer(text)
			if rpc != nil {
				return rpc.classify(false)
			}
			return errors.Join(err, sandboxer.Mark(sandboxer.Unknown, errors.New("the stream ended before the command did")))
		}
		ev, err := decodeEvent(text)
		if err != nil {
			return err
		}
		if ended := ev.Event.End; ended != nil {
			if ended.ExitCode != 0 || !ended.Exited {
				return sandboxer.Mark(sandboxer.Unknown, fmt.Errorf("it ended with code %d (%s)", ended.ExitCode, plain(ended.Status)))
			}
			return nil
		}
	}
}
