package boltstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// How long to wait for whoever is just closing the store, and how often to look.
const (
	lockTimeout = 250 * time.Millisecond
	lockPoll    = 20 * time.Millisecond
)

// holder is what the lock file says about the process that has the store open.
type holder struct {
	PID     int       `json:"pid"`
	Host    string    `json:"host"`
	Program string    `json:"program"`
	Since   time.Time `json:"since"` // zero: not known
}

// refusal says who has the store open, and what to do.
func (h holder) refusal() string {
	if h.PID == 0 {
		return "another process has it open; stop that one, or use another file"
	}
	if host, _ := os.Hostname(); h.PID == os.Getpid() && h.Host == host {
		return "this process has it open already; use that store"
	}
	has := "has it open"
	if !h.Since.IsZero() {
		has = "has had it open since " + h.Since.UTC().Format(time.RFC3339)
	}
	return fmt.Sprintf("process %d (%s) on %s %s; stop that one, or use another file", h.PID, h.Program, h.Host, has)
}

// fileLock is a lock of the operating system on a file beside the store's. The system drops it when the process ends,
// however it ends, so a file that was left behind is no obstacle; what is written in it only tells others who it is.
type fileLock struct {
	file *os.File
	path string
}

// acquire locks the store at path, or says who has it.
func acquire(ctx context.Context, path string) (l *fileLock, err error) {
	path += ".lock"
	err = patiently(ctx, func() (bool, error) {
		l, err = tryLock(path)
		return l != nil, err
	}, func() holder { return readHolder(path) })
	return l, err
}

// patiently tries to lock for as long as whoever is just closing the store may take, and then says who has it.
func patiently(ctx context.Context, try func() (locked bool, err error), who func() holder) error {
	deadline := time.Now().Add(lockTimeout)
	for {
		if locked, err := try(); err != nil || locked {
			return err
		}
		if time.Now().After(deadline) {
			return sandboxer.Refused(sandboxer.FailedPrecondition, errors.New(who().refusal()))
		}
		select {
		case <-ctx.Done():
			return sandboxer.Refused(sandboxer.CodeOf(ctx.Err()), context.Cause(ctx))
		case <-time.After(lockPoll):
		}
	}
}

// hold locks the store's file itself, as bbolt does, before anything of it is read or written. The lock beside it has one
// name; the file may have several, or that lock may have been removed by hand.
func (e *examiner) hold(ctx context.Context) error {
	if e.file != nil {
		return nil
	}
	who := holder{}
	return patiently(ctx, func() (bool, error) {
		f, err := os.OpenFile(e.path, os.O_RDWR, 0)
		if errors.Is(err, fs.ErrPermission) {
			err = fmt.Errorf("%w; %s", err, allow(e.path))
		}
		if err != nil {
			return false, classify(err)
		}
		held, err := lockData(f)
		if err == nil && !held && sameFile(f, e.path) { // and nobody put another in its place between our two steps
			e.file = f
			return true, nil
		}
		if held {
			who = holderOf(f)
		}
		_ = f.Close()
		if err != nil {
			err = classify(fmt.Errorf("its lock: %w", err))
		}
		return false, err
	}, func() holder { return who })
}

// handOver gives the locked file to bbolt, which locks it as well, and closes it.
func (e *examiner) handOver() *os.File {
	f := e.file
	e.file = nil
	shareData(f)
	return f
}

// release ends the lock, if it was not handed over.
func (e *examiner) release() {
	if e.file != nil {
		_ = e.file.Close()
		e.file = nil
	}
}

// tryLock returns nil without an error when another has the lock.
func tryLock(path string) (*fileLock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		err = fmt.Errorf("its lock file: %w", err)
		if errors.Is(err, fs.ErrPermission) {
			err = fmt.Errorf("%w; %s", err, allow(path))
		}
		return nil, classify(err)
	}
	held, err := lockFile(f)
	if err != nil || held {
		_ = f.Close()
		if err != nil {
			err = classify(fmt.Errorf("its lock file %s: %w", path, err))
		}
		return nil, err
	}
	if !sameFile(f, path) { // the last holder removed it between our two steps
		_ = f.Close()
		return nil, nil
	}
	l := &fileLock{file: f, path: path}
	if err := l.describe(); err != nil {
		l.release()
		return nil, classify(fmt.Errorf("its lock file: %w", err))
	}
	return l, nil
}

// allow says what to do about a file that may not be opened for writing, or not be made.
func allow(path string) string {
	if _, err := os.Lstat(path); err == nil {
		return "give the user of this process read and write access to the file"
	}
	return "give the user of this process write access to the directory"
}

// describe writes who we are.
func (l *fileLock) describe() error {
	h := holder{PID: os.Getpid(), Since: time.Now().UTC().Truncate(time.Second)}
	h.Host, _ = os.Hostname()
	if exe, err := os.Executable(); err == nil {
		h.Program = filepath.Base(exe)
	}
	b, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	_, err = l.file.WriteAt(append(b, '\n'), 0)
	if isDiskFull(err) {
		err = nil // a full disk must not keep a store from being opened to make room in it
	}
	return err
}

// release removes the lock file while it is still locked, so that nobody can lock a file that is about to go.
func (l *fileLock) release() {
	removeLocked(l.file, l.path)
}

func readHolder(path string) (h holder) {
	f, err := os.Open(path)
	if err != nil {
		return h
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil || json.Unmarshal(b, &h) != nil {
		return holder{}
	}
	return h
}

func sameFile(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) || err != nil {
		return false
	}
	return os.SameFile(a, b)
}
