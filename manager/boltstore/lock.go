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
	Since   time.Time `json:"since"`
}

// refusal says who has the store open, and what to do.
func (h holder) refusal() string {
	if h.PID == 0 {
		return "another process has it open; stop that one, or use another file"
	}
	if host, _ := os.Hostname(); h.PID == os.Getpid() && h.Host == host {
		return "this process has it open already; use that store"
	}
	return fmt.Sprintf("process %d (%s) on %s has had it open since %s; stop that one, or use another file",
		h.PID, h.Program, h.Host, h.Since.UTC().Format(time.RFC3339))
}

// fileLock is a lock of the operating system on a file beside the store's. The system drops it when the process ends,
// however it ends, so a file that was left behind is no obstacle; what is written in it only tells others who it is.
type fileLock struct {
	file *os.File
	path string
}

// acquire locks the store at path, or says who has it.
func acquire(ctx context.Context, path string) (*fileLock, error) {
	path += ".lock"
	deadline := time.Now().Add(lockTimeout)
	for {
		l, err := tryLock(path)
		if err != nil || l != nil {
			return l, err
		}
		if time.Now().After(deadline) {
			return nil, sandboxer.Refused(sandboxer.FailedPrecondition, errors.New(readHolder(path).refusal()))
		}
		select {
		case <-ctx.Done():
			return nil, sandboxer.Refused(sandboxer.CodeOf(ctx.Err()), context.Cause(ctx))
		case <-time.After(lockPoll):
		}
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
