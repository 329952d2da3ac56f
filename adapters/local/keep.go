//go:build linux || darwin

package local

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/sand-boxer/sandboxer"
)

// Snapshots are kept as contents, each once and called by its digest, and records, which say what contents a snapshot has.
// A content is written beside its place, and there with the record in one step of the base's lock: a crash leaves nothing
// that looks like a snapshot, and what it leaves is removed with the next snapshot that is.
const (
	keepDir    = ".snapshots"
	recordEnd  = ".json"
	contentEnd = ".tar.zst"
	keepTemp   = ".tmp."
)

// record is what is stored of a snapshot.
type record struct {
	V        int                `json:"v"`
	Snapshot sandboxer.Snapshot `json:"snapshot"`
}

const recordVersion = 1

func checkSnapshotID(id string) error {
	ok := id != "" && len(id) <= 128 && id[0] != '.'
	for _, c := range id {
		ok = ok && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.')
	}
	if !ok {
		return sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("the snapshot ID %q cannot be that of a file; use letters, digits, hyphens, underscores and inner dots", id))
	}
	return nil
}

// contentFile is where the content with a digest is.
func contentFile(digest string) (string, error) {
	hex, ok := strings.CutPrefix(digest, "sha256:")
	if !ok || len(hex) != 64 || strings.Trim(hex, "0123456789abcdef") != "" {
		return "", sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("%q is no digest of a snapshot of this extension", digest))
	}
	return path.Join(keepDir, hex+contentEnd), nil
}

// record reads the record of a snapshot; nil where there is none.
func (b *base) record(id string) (*record, error) {
	f, err := b.root.Open(path.Join(keepDir, id+recordEnd))
	if err != nil {
		return nil, classify(ignoreGone(err))
	}
	var r record
	err = decodeFile(f, &r)
	if err == nil && (r.V > recordVersion || r.Snapshot.ID != id) {
		err = fmt.Errorf("it is of version %d and of snapshot %q", r.V, r.Snapshot.ID)
	}
	if err != nil {
		return nil, sandboxer.Mark(sandboxer.FailedPrecondition, fmt.Errorf("%s cannot be read; repair or remove it: %w", path.Join(b.path, keepDir, id+recordEnd), err))
	}
	return &r, nil
}

// owns reports whether a stored snapshot belongs to who asks.
func owns(stored, asked map[string]string) bool {
	want := asked[sandboxer.LabelOwner]
	return want == "" || stored[sandboxer.LabelOwner] == want
}

// incoming is a content that is being written. Its lock tells it from one that a crash left.
type incoming struct {
	f    *os.File
	name string
	b    *base
}

func (e *extension) incoming(ctx context.Context, b *base) (*incoming, error) {
	in := &incoming{b: b, name: path.Join(keepDir, keepTemp+strings.ToLower(rand.Text()))}
	err := e.locked(ctx, b, func() error {
		if err := b.root.Mkdir(keepDir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		f, err := b.root.OpenFile(in.name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		in.f = f
		return flock(f, syscall.LOCK_EX|syscall.LOCK_NB)
	})
	if err != nil {
		in.abandon()
		return nil, classify(err)
	}
	return in, nil
}

// abandon removes what was written, and does nothing after keep.
func (in *incoming) abandon() {
	if in.f == nil {
		return
	}
	_ = in.b.root.Remove(in.name) // where it stays, the next deletion finds it
	_ = in.f.Close()              // its contents are of no interest
	in.f = nil
}

// keep stores the content with its snapshot, and returns the one that is stored under that ID, which may have been first.
func (e *extension) keep(ctx context.Context, in *incoming, s sandboxer.Snapshot) (sandboxer.Snapshot, error) {
	defer in.abandon()
	file, err := contentFile(s.Digest)
	if err != nil {
		return s, err
	}
	data, err := json.Marshal(record{V: recordVersion, Snapshot: s})
	if err == nil {
		err = in.f.Sync()
	}
	if err != nil {
		return s, classify(err)
	}
	err = e.locked(ctx, in.b, func() error {
		have, err := in.b.record(s.ID)
		if err != nil {
			return err
		}
		if have != nil {
			if !owns(have.Snapshot.Labels, s.Labels) {
				return taken(s.ID)
			}
			s = have.Snapshot
			return nil
		}
		// Also over the same content of another snapshot: should that have been damaged meanwhile, it is whole again.
		if err := in.b.root.Rename(in.name, file); err != nil {
			return err
		}
		err = replace(in.b.root, path.Join(keepDir, keepTemp+strings.ToLower(rand.Text())), path.Join(keepDir, s.ID+recordEnd), data)
		if err != nil {
			return errors.Join(err, e.collect(in.b)) // a content that no record names
		}
		return syncDir(in.b.root, keepDir)
	})
	return s, classify(err)
}

func taken(id string) error {
	return sandboxer.Refused(sandboxer.AlreadyExists, fmt.Errorf("the snapshot ID %s belongs to another owner", id))
}

func syncDir(root *os.Root, name string) error {
	d, err := root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// collect removes contents that no record names, what crashes left, and then an empty directory. It removes no content
// while a record cannot be read. The caller holds the lock.
func (e *extension) collect(b *base) error {
	names, err := elements(b.root, keepDir, "")
	if err != nil {
		return err
	}
	used := map[string]bool{}
	var errs []error
	for _, n := range names {
		if id, ok := strings.CutSuffix(n, recordEnd); ok && !strings.HasPrefix(n, ".") {
			r, err := b.record(id)
			if err != nil {
				return err
			}
			if r != nil {
				used[strings.TrimPrefix(r.Snapshot.Digest, "sha256:")+contentEnd] = true
			}
		}
	}
	for _, n := range names {
		at := path.Join(keepDir, n)
		switch {
		case strings.HasPrefix(n, keepTemp) && !inUse(b.root, at), strings.HasSuffix(n, contentEnd) && !used[n]:
			errs = append(errs, ignoreGone(b.root.Remove(at)))
		}
	}
	_ = b.root.Remove(keepDir) // where it is empty
	return classify(errors.Join(errs...))
}

// inUse reports whether somebody is still writing a content.
func inUse(root *os.Root, name string) bool {
	f, err := root.Open(name)
	if err != nil {
		return false
	}
	err = flock(f, syscall.LOCK_EX|syscall.LOCK_NB)
	_ = f.Close() // which also unlocks it
	return errors.Is(err, syscall.EWOULDBLOCK)
}
