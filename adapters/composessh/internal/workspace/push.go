package workspace

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"

	"github.com/sand-boxer/sandboxer"
)

// stageUpload is the stage under which Push reports its progress, in bytes.
const stageUpload = "upload"

// PushOptions adjust a push. The zero value makes the host's tree equal to the one here.
type PushOptions struct {
	// Ignore names the kinds of files whose patterns are respected: [GitIgnore], [DockerIgnore]. What they match is not
	// sent, and what the host has of it stays there. Patterns alone count: a file that git tracks although it is ignored is
	// not sent either. Nothing in a .git is ignored by a .gitignore.
	Ignore []string
	NoGit  bool // leave .git alone, wherever it is
	Keep   bool // remove nothing of the host but what is in the way

	// Owner is whose the entries are that are sent. nil: whose the commands of the Runner run as.
	Owner *Owner
}

// Owner is a user and a group by number.
type Owner struct{ UID, GID int }

// Summary says what a push did.
type Summary struct {
	Files, Links, Dirs int64    // sent; a directory also where only what is in it changed
	Bytes              int64    // contents of the files that were sent
	Same               int64    // entries that the host had already
	Removed            int64    // from the host; a directory with everything in it counts once
	Skipped            []string // sockets, devices and named pipes, which are left out
}

// applyScript changes the tree in the directory $1: it reads $2 bytes of names of directories to open, $3 bytes of names
// to remove, and a tar stream, which it extracts with the option $4. The last name of a list ends it and is dropped, so that a list that broke
// off does no harm.
const applyScript = `LC_ALL=C;export LC_ALL
cd -- "$1"||exit 83
case $(tar --version 2>/dev/null </dev/null) in *"GNU tar"*);;*)echo tar >&2;exit 81;;esac
[ "$2" = 0 ]||head -c "$2"|sed -z '$d'|xargs -0 -r chmod u+rwx --
[ "$3" = 0 ]||head -c "$3"|sed -z '$d'|xargs -0 -r rm -rf --||exit 84
exec tar -b 1024 -xpf - --numeric-owner "$4" --delay-directory-restore`

// Push makes the directory dir of the host, an absolute path, which it makes, equal to the tree below root: files,
// directories and links, with their permissions and their times to the nanosecond. Owners, set-user-ID and set-group-ID
// bits, and the mode and time of dir itself, are the host's own. It sends what differs from what the host has in kind, size,
// permissions, time or target, and removes what is not here. A file is replaced, never written into, so that programs that
// read it and other links to it keep what they have. Links are copied as links and never followed.
//
// A push that fails has done a part of it; another one completes it. The host needs GNU find, tar and sed, and head, dd, gzip and xargs:
// FailedPrecondition says so. Errors about what is here name the file. Progress is reported as stage "upload", in bytes.
func Push(ctx context.Context, r Runner, dir string, root *os.Root, o PushOptions) (Summary, error) {
	return pushTree(ctx, r, dir, diskTree{root}, o)
}

// PushFS is [Push] of any file system, whose links need an [fs.ReadLinkFS]. Files without a time are always sent. Files of
// patterns are not heeded, so that o.Ignore has to be empty.
func PushFS(ctx context.Context, r Runner, dir string, fsys fs.FS, o PushOptions) (Summary, error) {
	if len(o.Ignore) > 0 {
		return Summary{}, invalid("patterns of a %T are not heeded", fsys)
	}
	return pushTree(ctx, r, dir, fsTree{fsys, "."}, o)
}

func pushTree(ctx context.Context, r Runner, dir string, root tree, o PushOptions) (Summary, error) {
	if !path.IsAbs(dir) || path.Clean(dir) == "/" || hasControl(dir) {
		return Summary{}, invalid("the directory %q to push into is not an absolute path", dir)
	}
	rules, err := readRules(root, o)
	if err != nil {
		return Summary{}, err
	}
	// Both sides are read at the same time, and what fails on one ends the other.
	both, cancel := context.WithCancel(ctx)
	defer cancel()
	p := &push{r: r, dir: dir, root: root, owners: "--no-same-owner"}
	if o.Owner != nil {
		p.own, p.owners = owner{o.Owner.UID, o.Owner.GID}, "--same-owner"
	}
	w := startWalk(both, root, rules, cancel)
	there, err := readRemote(both, r, dir)
	fresh := err == nil && len(there.entries) == 0 && !rules.mayDescend()
	if fresh {
		err = p.all(both, w)
	}
	if err != nil {
		cancel()
	}
	here, unread := w.wait()
	if unread != nil && (err == nil || !isContext(unread)) {
		return Summary{}, fmt.Errorf("read the workspace: %w", unread)
	}
	if err != nil {
		return Summary{}, err
	}
	if fresh {
		return here.summary(), nil
	}
	return p.differences(ctx, here, there, o)
}

// push is one call.
type push struct {
	r    Runner
	dir  string
	root tree
	own  owner

	owners string // the option of tar
}

// all sends everything while it is found.
func (p *push) all(ctx context.Context, w *walk) error {
	s := newStream(ctx, p.root, p.own, func(s *stream, yield func(*list) bool) {
		var total int64
		for l := range w.follow {
			for i := range l.entries {
				l.entries[i].send = true
				total += l.entries[i].size
			}
			if !yield(l) {
				return
			}
		}
		s.total.Store(total)
	})
	return p.apply(ctx, s, 0, 0)
}

// differences sends what the host lacks or has differently.
func (p *push) differences(ctx context.Context, here *local, there *remote, o PushOptions) (Summary, error) {
	plan := compare(here, there, o.Keep)
	plan.sum.Skipped = here.skipped
	if plan.empty() {
		return plan.sum, nil
	}
	s := newStream(ctx, p.root, p.own, func(_ *stream, yield func(*list) bool) {
		for i := range here.lists {
			if !yield(&here.lists[i]) {
				return
			}
		}
	})
	s.total.Store(plan.sum.Bytes)
	open, remove := nulList(plan.open), nulList(plan.remove)
	s.rest = append(open, remove...) // nobody reads yet
	return plan.sum, p.apply(ctx, s, len(open), len(remove))
}

// apply lets the host take a stream, in one command.
func (p *push) apply(ctx context.Context, s *stream, open, remove int) error {
	said := &tail{}
	result, err := p.r.Send(ctx, sandboxer.ExecRequest{
		Command: script(applyScript, p.dir, strconv.Itoa(open), strconv.Itoa(remove), p.owners),
		Stdin:   s, Stderr: said,
	})
	_ = s.Close() // nothing can fail
	unread := s.failure()
	switch {
	case unread != nil:
		return fmt.Errorf("read the workspace: %w", unread)
	case err != nil:
		return err
	case result.Err() == nil:
		return nil
	case result.ExitCode == exitMissing:
		return failed(p.r, sandboxer.FailedPrecondition, "a workspace needs GNU %s on the host; install it (apt-get install tar)", said.lastLine())
	case result.ExitCode == exitNoDir:
		return failed(p.r, sandboxer.FailedPrecondition, "the directory %s cannot be entered: %s", p.dir, said.lastLine())
	}
	return failed(p.r, saidCode(said), "write to %s: %w: %s; another push completes it", p.dir, result.Err(), said.lastLine())
}

func isContext(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
