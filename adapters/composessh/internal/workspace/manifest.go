package workspace

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/sand-boxer/sandboxer"
)

// manifestScript lists everything below the directory $1, which it makes, and ends the list with a mark: a stream that broke
// off looks as if it had ended. -ignore_readdir_race is for what goes while it looks.
const manifestScript = `LC_ALL=C;export LC_ALL
mkdir -p -- "$1"&&cd -- "$1"||exit 83
find . -ignore_readdir_race -mindepth 1 -printf '%y%m %s %T@ %P\0%l\0'&&exec printf '.\0'
c=$?
case $(find --version 2>/dev/null) in *GNU*)exit $c;;esac
echo find >&2;exit 81`

const (
	maxManifest = 512 << 20 // bytes that a host's list may have
	maxPath     = 1 << 16   // of one name in it, or of where a link leads
	manifestEnd = ".\x00"
)

var errManifest = errors.New("the list of files on the host is not one that find writes")

// remote is what the host has.
type remote struct {
	entries []entry
	index   map[string]int32 // by name
}

// capped keeps what is written to it, up to a limit.
type capped struct {
	bytes.Buffer
	limit int
}

func (c *capped) Write(p []byte) (int, error) {
	if c.Len()+len(p) > c.limit {
		return 0, sandboxer.Mark(sandboxer.ResourceExhausted, fmt.Errorf("the list of files on the host has more than %d MiB; remove some of them, or push into a new directory", c.limit>>20))
	}
	return c.Buffer.Write(p)
}

// readRemote lists what the host has below dir.
func readRemote(ctx context.Context, r Runner, dir string) (*remote, error) {
	out, said := &capped{limit: maxManifest}, &tail{}
	result, err := r.Exec(ctx, sandboxer.ExecRequest{Command: script(manifestScript, dir), Stdout: out, Stderr: said})
	if err != nil {
		return nil, err
	}
	switch {
	case result.ExitCode == exitMissing:
		return nil, failed(r, sandboxer.FailedPrecondition, "a workspace needs GNU %s on the host; install it (apt-get install findutils)", said.lastLine())
	case result.ExitCode == exitNoDir:
		return nil, failed(r, sandboxer.FailedPrecondition, "the directory %s cannot be made or entered: %s", dir, said.lastLine())
	case result.Err() != nil:
		return nil, failed(r, saidCode(said), "list %s: %w: %s", dir, result.Err(), said.lastLine())
	}
	there, err := parseManifest(out.String())
	if err != nil {
		return nil, failed(r, sandboxer.CodeOf(err), "list %s: %w", dir, err)
	}
	return there, nil
}

// saidCode classifies what programs of the host complain about.
func saidCode(said *tail) sandboxer.Code {
	switch {
	case bytes.Contains(said.kept, []byte("No space left")), bytes.Contains(said.kept, []byte("quota exceeded")):
		return sandboxer.ResourceExhausted
	case bytes.Contains(said.kept, []byte("ermission denied")), bytes.Contains(said.kept, []byte("not permitted")):
		return sandboxer.PermissionDenied
	case bytes.Contains(said.kept, []byte("Read-only file system")):
		return sandboxer.FailedPrecondition
	}
	return sandboxer.Unknown
}

// parseManifest reads "TYPE MODE SIZE TIME PATH \0 TARGET \0" records up to the mark. Paths are relative, clean and
// unique, whoever wrote them.
func parseManifest(text string) (*remote, error) {
	bad := func(what string) (*remote, error) {
		return nil, sandboxer.Mark(sandboxer.Internal, fmt.Errorf("%w: %s", errManifest, what))
	}
	text, ended := strings.CutSuffix(text, manifestEnd)
	if !ended {
		return nil, sandboxer.Mark(sandboxer.Unavailable, fmt.Errorf("%w: it broke off", errManifest))
	}
	r := &remote{entries: make([]entry, 0, len(text)/64), index: make(map[string]int32, len(text)/64)}
	for len(text) > 0 {
		record, rest, ok := strings.Cut(text, "\x00")
		target, rest, ok2 := strings.Cut(rest, "\x00")
		if !ok || !ok2 {
			return bad("a record is not ended")
		}
		text = rest
		e, ok := parseRecord(record, target)
		if !ok {
			return bad(strconv.Quote(clip(record)))
		}
		if _, twice := r.index[e.name]; twice {
			return bad("a name comes twice")
		}
		r.index[e.name] = int32(len(r.entries))
		r.entries = append(r.entries, e)
	}
	return r, nil
}

func parseRecord(record, target string) (e entry, ok bool) {
	head, rest, ok1 := strings.Cut(record, " ")
	size, rest, ok2 := strings.Cut(rest, " ")
	stamp, name, ok3 := strings.Cut(rest, " ")
	if !ok1 || !ok2 || !ok3 || len(head) < 2 || !isClean(name) || len(name) > maxPath || len(target) > maxPath {
		return e, false
	}
	e.name, e.kind, e.link = name, head[0], target
	perm, err := strconv.ParseUint(head[1:], 8, 12)
	if err != nil || (e.kind != kindLink && target != "") {
		return e, false
	}
	e.perm = uint16(perm)
	if e.size, ok = count(size); !ok {
		return e, false
	}
	e.sec, e.nsec, ok = parseTime(stamp)
	return e, ok
}

// parseTime reads seconds with a fraction of any length, as find's %T@ writes them: the fraction counts forward also
// where the seconds are negative.
func parseTime(s string) (sec int64, nsec int32, ok bool) {
	whole, fraction, _ := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || sec > math.MaxInt64/2 || sec < math.MinInt64/2 {
		return 0, 0, false
	}
	if strings.Trim(fraction, "0123456789") != "" {
		return 0, 0, false
	}
	if len(fraction) > 9 {
		fraction = fraction[:9]
	}
	for i := range 9 {
		nsec *= 10
		if i < len(fraction) {
			nsec += int32(fraction[i] - '0')
		}
	}
	return sec, nsec, true
}

// isClean reports whether a path leads to a place below the directory that it is relative to, spelled in the one way.
func isClean(path string) bool {
	for part := range strings.SplitSeq(path, "/") {
		if part == "" || part == "." || part == ".." {
			return false
		}
	}
	return true
}
