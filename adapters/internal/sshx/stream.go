package sshx

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
)

// maxNoise is how much login files may print before the command.
const maxNoise = 1 << 20

var errNoise = errors.New("the host's login files print without end before the command")

// stream carries one output of a command to its writer, without what came before the mark.
type stream struct {
	from  io.Reader
	token []byte
	to    io.Writer // nil discards
	lock  *sync.Mutex
	begun chan byte // gets the mark; closed at the end

	count atomic.Int64 // bytes read so far
	noise []byte       // what came before the mark
	gate  *gate        // to the caller's writer
}

// run copies until the channel ends or to fails. It returns to's error.
func (s *stream) run() error {
	defer close(s.begun)
	buf := make([]byte, 32<<10)
	marked := false
	for {
		n, err := s.from.Read(buf)
		s.count.Add(int64(n))
		data := buf[:n]
		if !marked && n > 0 {
			var mark byte
			if data, mark = s.find(data); mark != 0 {
				marked = true
				s.noise = s.noise[:len(s.noise):len(s.noise)]
				s.begun <- mark
			} else if len(s.noise) > maxNoise {
				drain(s.from)
				return errNoise
			}
		}
		if len(data) > 0 && s.to != nil {
			if err := s.write(data); err != nil {
				// What still comes must be taken, or the command would wait for room.
				go drain(s.from)
				return fmt.Errorf("output: %w", err)
			}
		}
		if err != nil {
			return nil
		}
	}
}

// find looks for the mark in what was read so far, and returns what follows it.
func (s *stream) find(data []byte) (after []byte, mark byte) {
	from := max(0, len(s.noise)-len(s.token))
	s.noise = append(s.noise, data...)
	i := bytes.Index(s.noise[from:], s.token)
	if i < 0 {
		return nil, 0
	}
	end := from + i + len(s.token)
	if end >= len(s.noise) {
		return nil, 0 // the byte after the token is still to come
	}
	after, mark = s.noise[end+1:], s.noise[end]
	s.noise = s.noise[:from+i]
	return after, mark
}

func (s *stream) write(data []byte) error {
	s.lock.Lock()
	defer s.lock.Unlock()
	return s.gate.write(s.to, data)
}

// lastNoise is the last line before the mark, for messages.
func (s *stream) lastNoise() string {
	text := strings.TrimSpace(string(bytes.ToValidUTF8(s.noise[max(0, len(s.noise)-512):], nil)))
	return text[strings.LastIndexByte(text, '\n')+1:]
}

func drain(r io.Reader) { _, _ = io.Copy(io.Discard, r) }

// same reports whether two writers are one.
func same(a, b io.Writer) bool {
	return a != nil && b != nil && reflect.TypeOf(a) == reflect.TypeOf(b) && reflect.TypeOf(a).Comparable() && a == b
}
