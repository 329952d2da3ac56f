package workspace

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// manifestScript lists everything below the directory $1, which it makes, and ends the list with find's exit code: a stream
// that broke off looks as if it had ended. -ignore_readdir_race is for what goes while it looks. The rest of the arguments
// is a command that the list goes through.
const manifestScript = `LC_ALL=C;export LC_ALL
cd -- "$1" 2>/dev/null||{ mkdir -p -- "$1"&&cd -- "$1"||exit 83;}
shift
{ find . -ignore_readdir_race -mindepth 1 -printf '%y%m %s %T@ %P\0%l\0'
c=$?
[ $c = 0 ]||case $(find --version 2>/dev/null) in *GNU*);;*)c=81;;esac
printf '.%s\0' $c;}|"$@"`

const (
	maxManifest = 256 << 20 // bytes that a host's list may have
	maxPath     = 1 << 16   // of one name in it, or of where a link leads

	// farTrip is the round trip from which on the list is compressed; nearer, that costs more than it saves.
	farTrip = 15 * time.Millisecond
)

// Find writes 4 KiB at a time, and each piece costs both sides more than its contents.
var (
	inBlocks   = []string{"dd", "bs=64k", "iflag=fullblock", "status=none"}
	compressed = []string{"gzip", "-1"}
)

var errManifest = errors.New("the list of files on the host is not one that find writes")

// remote is what the host has.
type remote struct {
	entries []entry
	index   map[string]int32 // by name
}

// readRemote lists what the host has below dir.
func readRemote(ctx context.Context, r Runner, dir string) (*remote, error) {
	m, said := newManifest(), &tail{}
	var out io.Writer = m
	through := inBlocks
	var unpack *gunzip
	if c, ok := r.(interface{ RoundTrip() time.Duration }); ok && c.RoundTrip() >= farTrip {
		through, unpack = compressed, newGunzip(m)
		defer unpack.stop()
		out = unpack
	}
	result, err := r.Exec(ctx, sandboxer.ExecRequest{Command: script(manifestScript, append([]string{dir}, through...)...), Stdout: out, Stderr: said})
	if m.err != nil { // it ended the command
		return nil, failed(r, sandboxer.CodeOf(m.err), "list %s: %w", dir, m.err)
	}
	if err != nil {
		return nil, err
	}
	switch {
	case result.ExitCode == exitNoDir:
		return nil, failed(r, sandboxer.FailedPrecondition, "the directory %s cannot be made or entered: %s", dir, said.lastLine())
	case result.ExitCode == exitNoCommand:
		return nil, failed(r, sandboxer.FailedPrecondition, "a workspace needs find and %s on the host: %s", through[0], said.lastLine())
	case result.Err() != nil:
		return nil, failed(r, saidCode(said), "list %s: %w: %s", dir, result.Err(), said.lastLine())
	}
	if unpack != nil {
		err = unpack.close() // m.err must not be looked at before, where the command was ended by something else
	}
	if err == nil {
		err = m.end()
	}
	switch {
	case err != nil:
		return nil, failed(r, sandboxer.CodeOf(err), "list %s: %w", dir, err)
	case m.code == exitMissing:
		return nil, failed(r, sandboxer.FailedPrecondition, "a workspace needs GNU find on the host; install it (apt-get install findutils)")
	case m.code != 0:
		return nil, failed(r, saidCode(said), "list %s: find ended with %d: %s", dir, m.code, said.lastLine())
	}
	return &m.remote, nil
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

// manifest parses a list while it comes: "TYPE MODE SIZE TIME PATH \0 TARGET \0" records, and ". CODE \0" at the end.
// Paths are relative, clean and unique, whoever wrote them.
type manifest struct {
	remote
	rest  []byte // of a record
	total int
	code  int   // of find; -1 until the end came
	err   error // why it took no more
}

func newManifest() *manifest {
	return &manifest{remote: remote{index: map[string]int32{}}, code: -1}
}

func (m *manifest) Write(p []byte) (int, error) {
	if m.err == nil {
		m.err = m.take(p)
	}
	if m.err != nil {
		return 0, m.err
	}
	return len(p), nil
}

func (m *manifest) take(p []byte) error {
	if m.total += len(p); m.total > maxManifest {
		return sandboxer.Mark(sandboxer.ResourceExhausted, fmt.Errorf("the list of files on the host has more than %d MiB; remove some of them, or push into a new directory", maxManifest>>20))
	}
	m.rest = append(m.rest, p...)
	last := bytes.LastIndexByte(m.rest, 0)
	text := string(m.rest[:last+1]) // once for all that is in it
	done := 0
	for done < len(text) {
		n, err := m.record(text[done:])
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		done += n
	}
	m.rest = append(m.rest[:0], m.rest[done:]...)
	if len(m.rest) > 3*maxPath {
		return badManifest("a record is too long")
	}
	return nil
}

// record takes one record off the text, whose last byte is a NUL. It returns its length, and 0 where it is not whole.
func (m *manifest) record(text string) (int, error) {
	if m.code >= 0 {
		return 0, badManifest("something follows its end")
	}
	head, rest, _ := strings.Cut(text, "\x00")
	if code, ok := strings.CutPrefix(head, "."); ok {
		n, err := strconv.ParseUint(code, 10, 8)
		if err != nil {
			return 0, badManifest(strconv.Quote(clip(head)))
		}
		m.code = int(n)
		return len(head) + 1, nil
	}
	target, _, ok := strings.Cut(rest, "\x00")
	if !ok {
		return 0, nil
	}
	e, ok := parseRecord(head, target)
	if !ok {
		return 0, badManifest(strconv.Quote(clip(head)))
	}
	if _, twice := m.index[e.name]; twice {
		return 0, badManifest("a name comes twice")
	}
	m.index[e.name] = int32(len(m.entries))
	m.entries = append(m.entries, e)
	return len(head) + len(target) + 2, nil
}

// end says whether all of it came.
func (m *manifest) end() error {
	if m.code < 0 || len(m.rest) > 0 {
		return sandboxer.Mark(sandboxer.Unavailable, fmt.Errorf("%w: it broke off", errManifest))
	}
	return nil
}

func badManifest(what string) error {
	return sandboxer.Mark(sandboxer.Internal, fmt.Errorf("%w: %s", errManifest, what))
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
