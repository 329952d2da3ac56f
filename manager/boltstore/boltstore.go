package boltstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"

	bolt "go.etcd.io/bbolt"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager/store"
)

// Option changes how a store is opened.
type Option func(*options)

type options struct {
	logger *slog.Logger
}

// WithLogger sets where Open reports what it repaired. Defaults to nowhere.
func WithLogger(l *slog.Logger) Option { return func(o *options) { o.logger = l } }

// Store is an open store file. Its methods are safe for concurrent use.
type Store struct {
	path string
	id   string
	log  *slog.Logger
	lock *fileLock
	db   *bolt.DB

	queue   queue
	stopped chan struct{}
	state   state // the committing goroutine's

	failure atomic.Pointer[error] // why it refuses to go on

	closing  sync.RWMutex // held for reading while db is used
	closed   bool
	closeErr error
}

var _ store.Store = (*Store)(nil)

// Open opens the store file at path and creates it, readable for its owner only, where there is none; the directory must
// exist. It reads the whole file to check it. FailedPrecondition: another process has it open (the error says which), it
// was written by a newer version, or it is no store; Internal: it is damaged; PermissionDenied and NotFound as the file
// system says. A file of an older version is brought up to date.
func Open(ctx context.Context, path string, opts ...Option) (*Store, error) {
	o := options{logger: slog.New(slog.DiscardHandler)}
	for _, opt := range opts {
		opt(&o)
	}
	s, err := open(ctx, path, o)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	return s, nil
}

func open(ctx context.Context, path string, o options) (_ *Store, err error) {
	if err := ctx.Err(); err != nil {
		return nil, sandboxer.Refused(sandboxer.CodeOf(err), context.Cause(ctx))
	}
	path, err = resolve(path)
	if err != nil {
		return nil, err
	}
	s := &Store{path: path, log: o.logger, stopped: make(chan struct{}), queue: queue{wake: make(chan struct{}, 1)}}
	if s.lock, err = acquire(ctx, path); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.lock.release()
		}
	}()
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := create(path, newAbout(format)); err != nil {
			return nil, classify(err)
		}
	}
	if s.db, err = openBolt(path); err != nil {
		return nil, classify(err)
	}
	if err := s.load(); err != nil {
		_ = s.db.Close()
		return nil, err
	}
	go s.run()
	return s, nil
}

// resolve returns the file that path leads to, so that all its names share one lock.
func resolve(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", classify(err)
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(abs))
	if err != nil {
		return "", classify(fmt.Errorf("its directory: %w", err))
	}
	abs = filepath.Join(dir, filepath.Base(abs))
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		abs = real
	}
	info, err := os.Stat(abs)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return abs, nil
	case err != nil:
		return "", classify(err)
	case info.IsDir():
		return "", sandboxer.Refused(sandboxer.FailedPrecondition, errors.New("it is a directory; name a file in it"))
	case !info.Mode().IsRegular():
		return "", sandboxer.Refused(sandboxer.FailedPrecondition, fmt.Errorf("it is no regular file (%s)", info.Mode().Type()))
	case info.Size() == 0:
		return "", sandboxer.Refused(sandboxer.FailedPrecondition, errors.New(
			"it is empty, and a store never is: where it was one, restore it from a copy; to begin a new one, remove it"))
	}
	return abs, nil
}

// initialMap is how much of the address space is set aside at once on 64-bit systems, so that the file is rarely mapped
// anew, which would wait for readers. Windows would make the file that long.
func boltOptions() *bolt.Options {
	o := &bolt.Options{
		Timeout:        lockTimeout,
		NoFreelistSync: true, // one page less to write each time; Open reads the whole file anyway
		FreelistType:   bolt.FreelistMapType,
		PageSize:       pageSize,
		NoStatistics:   true,
	}
	if mapAhead && strconv.IntSize == 64 {
		o.InitialMmapSize = 1 << 30
	}
	return o
}

const pageSize = 4096

// load reads what the store knows about itself.
func (s *Store) load() error {
	return s.view(func(tx *bolt.Tx) error {
		a, st, err := readMeta(tx)
		if err != nil {
			return damaged("%w", err)
		}
		s.id, s.state = a.id, st
		return nil
	})
}

// Info implements [store.Store].
func (s *Store) Info(ctx context.Context) (store.Info, error) {
	if err := ctx.Err(); err != nil {
		return store.Info{}, sandboxer.Refused(sandboxer.CodeOf(err), context.Cause(ctx))
	}
	return store.Info{ID: s.id, Durable: true}, nil
}

// Close waits for the commits and reads under way and closes the file. Later calls fail with FailedPrecondition. Closing
// twice is harmless.
func (s *Store) Close() error {
	s.queue.close()
	<-s.stopped
	s.closing.Lock()
	defer s.closing.Unlock()
	if s.closed {
		return s.closeErr
	}
	s.closed = true
	if err := s.db.Close(); err != nil {
		s.closeErr = fmt.Errorf("close store %s: %w", s.path, err)
	}
	s.lock.release()
	return s.closeErr
}

func (s *Store) failed() error {
	if err := s.failure.Load(); err != nil {
		return *err
	}
	return nil
}

func (s *Store) view(f func(tx *bolt.Tx) error) error {
	s.closing.RLock()
	defer s.closing.RUnlock()
	if s.closed {
		return errClosed()
	}
	if err := s.failed(); err != nil {
		return err
	}
	return s.db.View(f)
}

// update runs f in a writing transaction and commits it if f says so.
func (s *Store) update(f func(tx *bolt.Tx) (bool, error)) error {
	tx, err := s.db.Begin(true)
	if err != nil {
		return err
	}
	dirty, err := f(tx)
	if err != nil || !dirty {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}
