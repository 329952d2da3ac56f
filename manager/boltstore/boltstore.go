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
	logger     *slog.Logger
	boot       uint64
	format     uint32
	migrations map[uint32]migration
}

// WithLogger sets where Open reports what it repaired. Defaults to nowhere.
func WithLogger(l *slog.Logger) Option { return func(o *options) { o.logger = l } }

// Store is an open store file. Its methods are safe for concurrent use.
type Store struct {
	store.Exclusive // one Manager at a time; the lock keeps other processes out

	path string
	id   string
	log  *slog.Logger
	lock *fileLock
	db   *bolt.DB
	file *os.File // db's

	filled int64 // blocks are allocated up to there; the committing goroutine's

	queue   queue
	stopped chan struct{}
	state   state // the committing goroutine's

	failure atomic.Pointer[error] // why it refuses to go on
	stuck   atomic.Bool           // bbolt panicked and holds its locks

	beginning sync.Mutex // held while a transaction begins

	closing  sync.RWMutex // held for reading while db is used
	closed   bool
	closeErr error
}

var _ store.Store = (*Store)(nil)

// Open opens the store file at path and creates it, readable for its owner only, where there is none; the directory must
// exist. It reads the whole file to check it. FailedPrecondition: another process has it open (the error says which), or
// this one has, it was written by a newer version, or it is no store; Internal: it is damaged; InvalidArgument: path is empty;
// PermissionDenied and NotFound as the file system says. A file of an older version is brought up to date.
func Open(ctx context.Context, path string, opts ...Option) (*Store, error) {
	if path == "" {
		return nil, sandboxer.Refused(sandboxer.InvalidArgument, errors.New("open store: the path is empty; name a file"))
	}
	o := options{logger: slog.New(slog.DiscardHandler), boot: bootID(), format: format, migrations: migrations}
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
	e := &examiner{path: path, log: o.logger, boot: o.boot, format: o.format, migrations: o.migrations}
	defer e.release()
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := e.create(newAbout(o.format)); err != nil {
			return nil, classify(err)
		}
		if err := e.hold(ctx); err != nil {
			return nil, err
		}
	} else if err := e.run(ctx); err != nil {
		return nil, err
	}
	s.file = e.handOver()
	if s.db, err = openBolt(path, s.file, o.boot == 0); err != nil {
		return nil, classify(err)
	}
	if err := s.start(o.boot); err != nil {
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
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", classify(fmt.Errorf("its directory: %w; make the directory first", err))
	case errors.Is(err, fs.ErrPermission):
		return "", classify(fmt.Errorf("its directory: %w; give the user of this process access to the directory", err))
	case err != nil:
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

const pageSize = 4096

func boltOptions() *bolt.Options {
	o := &bolt.Options{
		Timeout:        lockTimeout,
		NoFreelistSync: true, // one page less to write each time; Open reads the whole file anyway
		FreelistType:   bolt.FreelistMapType,
		PageSize:       pageSize,
		NoStatistics:   true,
	}
	if mapAhead && strconv.IntSize == 64 {
		// Address space, not memory: the file is rarely mapped anew, which would wait for readers.
		o.InitialMmapSize = 1 << 30
	}
	return o
}

// openBolt opens a file that was examined and is locked, and closes it where that fails. Unless ordered, a commit writes its
// pages and its root page and syncs once: the examination finds a commit that the system's end tore, and undoes it. Where it
// could not tell that from damage, bbolt syncs the pages before it writes the root page.
func openBolt(path string, file *os.File, ordered bool) (db *bolt.DB, err error) {
	defer func() {
		if err != nil {
			_ = file.Close()
		}
	}()
	defer recoverTo(&err)
	o := boltOptions()
	o.NoSync = !ordered
	given := false
	o.OpenFile = func(path string, flag int, mode os.FileMode) (*os.File, error) {
		if given { // for a backup
			return os.OpenFile(path, flag, mode)
		}
		given = true
		return file, nil
	}
	if db, err = bolt.Open(path, 0o600, o); err == nil {
		db.AllocSize = 1 << 20 // how far ahead the file grows; 16 MiB are much for a small store
	}
	return db, err
}

// start reads what the store knows about itself and marks the beginning of this process's use of it.
func (s *Store) start(boot uint64) error {
	err := s.view(func(tx *bolt.Tx) error {
		a, st, err := readMeta(tx)
		if err != nil {
			return damaged("%w", err)
		}
		s.id, s.state = a.id, st
		return nil
	})
	if err != nil {
		return err
	}
	s.state.boot, s.state.sealed = boot, true
	err = s.seal()
	if isDiskFull(err) && sandboxer.IsRefused(err) {
		// Room is often made by ending what the store knows of. The next commit says the same.
		s.log.Warn("store: the disk is full", "path", s.path, "err", err)
		return nil
	}
	return err
}

// seal commits the state alone.
func (s *Store) seal() error {
	return s.update(func(tx *bolt.Tx) (bool, error) {
		return true, s.state.put(tx)
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
	var err error
	if s.failed() == nil && !s.state.sealed {
		s.state.sealed = true
		err = s.seal()
	}
	if s.stuck.Load() {
		err = errors.Join(err, s.file.Close()) // which ends bbolt's lock; the map stays
	} else {
		err = errors.Join(err, s.db.Close())
	}
	if err != nil {
		s.closeErr = fmt.Errorf("close store %s: %w", s.path, err)
	}
	s.lock.release()
	return s.closeErr
}
