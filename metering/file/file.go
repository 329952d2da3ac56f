// Package file exports meter records as lines of JSON in a file: the simplest bill, and one that other tools can read.
package file

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/metering"
)

// Exporter appends records to a file, each once: a record that is delivered again is recognised by its key.
type Exporter struct {
	mu   sync.Mutex
	f    *os.File
	seen map[string]bool
}

// Open opens or creates the file at path with mode 0600 and reads which records it holds. A last line that a crash cut
// short is removed; any other line that is no record is an error, and the file is left as it is.
func Open(path string) (*Exporter, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, sandboxer.Mark(sandboxer.InvalidArgument, fmt.Errorf("meter file: %w", err))
	}
	e := &Exporter{f: f, seen: map[string]bool{}}
	if err := e.load(); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("meter file %s: %w", path, err)
	}
	return e, nil
}

func (e *Exporter) load() error {
	in := bufio.NewReader(e.f)
	var size int64
	for {
		line, err := in.ReadBytes('\n')
		if err != nil { // an incomplete line was never acknowledged
			break
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
