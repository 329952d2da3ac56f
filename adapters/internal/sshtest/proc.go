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

// Processes lists what the server's sessions have running: "pid command line". Those of other servers are not in it.
func (s *Server) Processes() []string {
	var out []string
	for _, pid := range processes() {
		if !s.marked(pid) {
			continue
		}
		if state, _, ok := stat(pid); !ok || state == "Z" {
			continue
		}
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		out = append(out, fmt.Sprintf("%d %s", pid, bytes.TrimSpace(bytes.ReplaceAll(line, []byte{0}, []byte{' '}))))
	}
	return out
}

// WaitNoProcess fails the test unless all processes of the server's sessions whose command line contains part end within
// the time; the empty part asks for all of them.
func (s *Server) WaitNoProcess(part string, within time.Duration) {
	s.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	for {
		var left []string
		for _, p := range s.Processes() {
			if strings.Contains(p, part) {
				left = append(left, p)
			}
		}
		if len(left) == 0 {
			return
		}
		if !tick(ctx, 20*time.Millisecond) {
			s.tb.Errorf("after %v there are still:\n%s", within, strings.Join(left, "\n"))
			return
		}
	}
}

// WaitProcess waits until a process of the server's sessions has part in its command line.
func (s *Server) WaitProcess(part string, within time.Duration) {
	s.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	for {
		for _, p := range s.Processes() {
			// The shell that is about to become the command does not have it in its own command line.
			if strings.Contains(p, part) {
				return
			}
		}
		if !tick(ctx, 10*time.Millisecond) {
			s.tb.Fatalf("no process with %q within %v", part, within)
		}
	}
}

// Find lists the processes of the machine whose command line contains part, whoever started them: "pid command line". It is
// for those that have a new environment, and so are no longer known as a session's.
func (s *Server) Find(part string) []string {
	var out []string
	for _, pid := range processes() {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		text := string(bytes.TrimSpace(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
		if state, _, ok := stat(pid); ok && state != "Z" && strings.Contains(text, part) {
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
