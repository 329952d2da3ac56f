package sshx

import (
	"errors"

	"golang.org/x/crypto/ssh"

	"github.com/sand-boxer/sandboxer"
)

// requestTTY asks for a terminal that neither echoes nor interprets, for the line that the bootstrap reads; that line then
// makes it an ordinary one.
func requestTTY(ch ssh.Channel, tty *sandboxer.TTY) error {
	modes := ""
	for _, m := range []byte{ssh.ECHO, ssh.ICANON, ssh.ISIG, ssh.IEXTEN, ssh.ICRNL, ssh.INLCR, ssh.IGNCR, ssh.IXON, ssh.ISTRIP} {
		modes += string([]byte{m, 0, 0, 0, 0})
	}
	ok, err := ch.SendRequest("pty-req", true, ssh.Marshal(struct {
		Term                      string
		Cols, Rows, Width, Height uint32
		Modes                     string
	}{first(tty.Term, "xterm-256color"), size(tty.Cols, 80), size(tty.Rows, 24), 0, 0, modes + "\x00"}))
	if err == nil && !ok {
		err = errors.New("the request was refused")
	}
	return err
}

func size(n, def int) uint32 {
	if n <= 0 || n > 1<<16 {
		n = def
	}
	return uint32(n)
}

// resize passes on sizes until the caller's channel or done is closed.
func (s *session) resize(sizes <-chan sandboxer.WindowSize, done <-chan struct{}) {
	for {
		select {
		case w, ok := <-sizes:
			if !ok {
				return
			}
			_, err := s.ch.SendRequest("window-change", false, ssh.Marshal(struct{ Cols, Rows, Width, Height uint32 }{size(w.Cols, 80), size(w.Rows, 24), 0, 0}))
			if err != nil {
				return
			}
		case <-done:
			return
		}
	}
}
