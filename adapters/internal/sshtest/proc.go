package sshtest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Processes lists what the server's sessions have running and whose command line contains part: "pid command line". Those of
// other servers are not in it. The empty part asks for all.
func (s *Server) Processes(part string) []string {
	return list(part, s.marked)
}

// WaitNoProcess fails the test unless Processes lists none within the time.
func (s *Server) WaitNoProcess(part string, within time.Duration) {
	s.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	for {
		left := s.Processes(part)
		if len(left) == 0 {
			return
		}
		if !tick(ctx, 20*time.Millisecond) {
			s.tb.Errorf("after %v there are still:\n%s", within, strings.Join(left, "\n"))
			return
		}
	}
}

// WaitProcess waits until Processes lists one. The shell that is about to become a command does not have it in its own
// command line.
func (s *Server) WaitProcess(part string, within time.Duration) {
	s.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	for len(s.Processes(part)) == 0 {
		if !tick(ctx, 10*time.Millisecond) {
			s.tb.Fatalf("no process with %q within %v", part, within)
		}
	}
}

// Find is Processes for the whole machine, whoever started them. It is for those that have a new environment, and so are no
// longer known as a session's.
func (s *Server) Find(part string) []string {
	return list(part, func(int) bool { return true })
}

// list lists processes by their command lines alone: a number in part is not looked for in their numbers.
func list(part string, which func(pid int) bool) []string {
	var out []string
	for _, pid := range processes() {
		if !which(pid) {
			continue
		}
		if state, _, ok := stat(pid); !ok || state == "Z" {
			continue
		}
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if text := string(bytes.TrimSpace(bytes.ReplaceAll(line, []byte{0}, []byte{' '}))); strings.Contains(text, part) {
			out = append(out, fmt.Sprintf("%d %s", pid, text))
		}
	}
	return out
}

// WaitFind fails the test unless Find lists so many within the time.
func (s *Server) WaitFind(part string, n int, within time.Duration) {
	s.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	for {
		found := s.Find(part)
		if len(found) == n {
			return
		}
		if !tick(ctx, 20*time.Millisecond) {
			s.tb.Errorf("after %v there are %d processes with %q, want %d:\n%s", within, len(found), part, n, strings.Join(found, "\n"))
			return
		}
	}
}

func (s *Server) marked(pid int) bool {
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	return err == nil && bytes.Contains(env, []byte(envMark+"="+s.mark))
}

func (s *Server) killAll() {
	for _, pid := range processes() {
		if s.marked(pid) {
			killProcess(pid)
		}
	}
}

func processes() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var out []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			out = append(out, pid)
		}
	}
	return out
}

// stat returns a process's state and parent.
func stat(pid int) (state string, parent int, ok bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0, false
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 2 {
		return "", 0, false
	}
	parent, err = strconv.Atoi(fields[1])
	return fields[0], parent, err == nil
}

// children lists all that descend from a process.
func children(root int) []int {
	parents := map[int]int{}
	for _, pid := range processes() {
		if _, parent, ok := stat(pid); ok {
			parents[pid] = parent
		}
	}
	var out []int
	for pid := range parents {
		for up, n := parents[pid], 0; up > 1 && n < 64; up, n = parents[up], n+1 {
			if up == root {
				out = append(out, pid)
				break
			}
		}
	}
	return out
}
