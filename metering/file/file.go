// Package file exports meter records as lines of JSON in a file: the simplest bill, and one that other tools can read.
package file

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/metering"
)

// How long to wait for whoever is just closing the file, and how often to look.
const (
	lockTimeout = 250 * time.Millisecond
	lockPoll    = 20 * time.Millisecond
)

// Exporter appends records to a file, each once: a record that is delivered again is recognised by its key. It has the file
// to itself; several Managers of one program share one Exporter, programs have a file each.
type Exporter struct {
	mu   sync.Mutex
	f    *os.File
	seen map[string]bool
}

// Open opens or creates the file at path with mode 0600 and reads which records it holds. A last line that a crash cut
// short is removed; any other line that is no record is an error, and so is one that cannot be read: then the file is left as
// it is. The file is locked until Close or the end of the process, however it ends; one that another has open is a
// FailedPrecondition.
func Open(path string) (*Exporter, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, sandboxer.Mark(sandboxer.InvalidArgument, fmt.Errorf("meter file: %w", err))
	}
	e := &Exporter{f: f, seen: map[string]bool{}}
	if err = lock(f); err == nil {
		err = e.load(f)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("meter file %s: %w", path, err)
	}
	return e, nil
}

// lock makes f ours alone. Two exporters that each write where they think the end is write over each other's records.
func lock(f *os.File) error {
	poll := time.NewTicker(lockPoll)
	defer poll.Stop()
	for deadline := time.Now().Add(lockTimeout); ; <-poll.C {
		held, err := tryLock(f)
		switch {
		case err != nil:
			return fmt.Errorf("locking it: %w", err)
		case !held:
			return nil
		case time.Now().After(deadline):
			return sandboxer.Refused(sandboxer.FailedPrecondition, errors.New("another exporter has it open; use that one, or another file"))
		}
	}
}

// load reads what the file holds, through r. What follows the last record is cut off only when the end has been seen.
func (e *Exporter) load(r io.Reader) error {
	in := bufio.NewReader(r)
	var size int64
	for {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) { // an incomplete line was never acknowledged
			break
		}
		if err != nil {
			return fmt.Errorf("reading it at byte %d: %w", size, err)
		}
		var r metering.Record
		if err := json.Unmarshal(line, &r); err != nil || r.Key == "" {
			return sandboxer.Mark(sandboxer.FailedPrecondition, fmt.Errorf("the line at byte %d is no meter record", size))
		}
		e.seen[r.Key] = true
		size += int64(len(line))
	}
	if err := e.f.Truncate(size); err != nil {
		return err
	}
	_, err := e.f.Seek(size, 0)
	return err
}

// Export appends the records that the file does not hold yet, and is durable when it returns nil.
func (e *Exporter) Export(ctx context.Context, rs []metering.Record) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.f == nil {
		return sandboxer.Refused(sandboxer.FailedPrecondition, errors.New("the meter file is closed"))
	}
	end, err := e.f.Seek(0, 1)
	if err != nil {
		return err
	}
	var out []byte
	fresh := map[string]bool{}
	for _, r := range rs {
		if e.seen[r.Key] || fresh[r.Key] {
			continue
		}
		line, err := json.Marshal(r)
		if err != nil {
			return err
		}
		out = append(append(out, line...), '\n')
		fresh[r.Key] = true
	}
	if _, err := e.f.Write(out); err != nil {
		return errors.Join(err, e.rewind(end))
	}
	if err := e.f.Sync(); err != nil {
		return errors.Join(err, e.rewind(end))
	}
	for k := range fresh {
		e.seen[k] = true
	}
	return nil
}

// rewind forgets a write that did not succeed, so that the next one does not stand behind half a line.
func (e *Exporter) rewind(to int64) error {
	if err := e.f.Truncate(to); err != nil {
		return err
	}
	_, err := e.f.Seek(to, 0)
	return err
}

// Close closes the file.
func (e *Exporter) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.f == nil {
		return nil
	}
	err := e.f.Close()
	e.f = nil
	return err
}
