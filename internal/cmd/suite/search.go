package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer/internal/canary"
)

const (
	sampleEvery = 300 * time.Millisecond
	samplesFile = "processes.json"
)

// seen is what watch found.
type seen struct {
	Looks int      // how often it looked
	Parts int      // command lines and environments that it looked at
	Hits  []string // each once
}

func begin(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return canary.Begin(dir)
}

// watch looks at all processes again and again. Where there is no /proc it says so and has nothing to do.
func watch(ctx context.Context, dir string) error {
	f := canary.NewFinder(dir)
	var s seen
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		hits, err := f.Processes()
		if errors.Is(err, fs.ErrNotExist) {
			fmt.Fprintln(os.Stderr, "suite: this system shows no processes, so that none are looked at")
			return nil
		}
		if err != nil {
			return err
		}
		s.Looks, s.Parts = s.Looks+1, f.Files
		fresh := s.Looks == 1
		for _, h := range hits {
			if text := h.String(); !slices.Contains(s.Hits, text) {
				s.Hits, fresh = append(s.Hits, text), true
			}
		}
		if fresh { // also when it is killed later, what was found stays
			if err := s.write(dir); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return s.write(dir)
		case <-tick.C:
		}
	}
}

func (s seen) write(dir string) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, samplesFile), text, 0o600)
}

var errFound = errors.New("keys of tests are where no key may be")

// search looks at dir and paths, and at what watch found. partial: not all tests were run.
func search(out io.Writer, dir string, paths, skip []string, partial bool) error {
	if err := prove(dir); err != nil {
		return err
	}
	f := canary.NewFinder(dir)
	var found []string
	for _, path := range append([]string{dir}, paths...) {
		hits, err := f.Walk(path, func(at string) bool { return slices.Contains(skip, filepath.Base(at)) })
		if err != nil {
			return fmt.Errorf("searching %s: %w", path, err)
		}
		for _, h := range hits {
			found = append(found, h.String())
		}
	}
	var s seen
	text, err := os.ReadFile(filepath.Join(dir, samplesFile))
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	found = append(found, s.Hits...)
	users, err := canary.Used(dir)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "keys of %d test programs were looked for in %d files (%d MiB) and %d times in the process listing\n", users, f.Files, f.Bytes>>20, s.Looks)
	if len(found) > 0 {
		return fmt.Errorf("%w:\n%s", errFound, strings.Join(found, "\n"))
	}
	switch _, err := os.Stat("/proc/self/environ"); {
	case partial:
	case users == 0:
		return errors.New("no test had a key, so that the search proves nothing")
	case err == nil && s.Looks == 0:
		return errors.New("nobody looked at process listings: suite watch did not run")
	}
	return nil
}

// prove plants a key and makes sure that it is found.
func prove(dir string) error {
	plant, err := os.MkdirTemp("", "suite-plant-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(plant) }() // nothing of worth is in it
	key, err := canary.Planted(dir)
	if err != nil {
		return err
	}
	text := append(bytes.Repeat([]byte("x"), 3<<20-5), key...) // over a border of what is read at once
	if err := os.WriteFile(filepath.Join(plant, "planted"), text, 0o600); err != nil {
		return err
	}
	if hits, err := canary.NewFinder(dir).Walk(plant, nil); err != nil || len(hits) != 1 {
		return fmt.Errorf("the search does not find a key that was planted for it: %v, %w", hits, err)
	}
	return nil
}
