package shellwrap

import (
	"bytes"
	"os/exec"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWrapperInEveryShell(t *testing.T) {
	t.Parallel()
	for _, shell := range [][]string{{"sh"}, {"dash"}, {"bash"}, {"busybox", "sh"}} {
		path, err := exec.LookPath(shell[0])
		if err != nil {
			t.Logf("%s is not on this machine", shell[0])
			continue
		}
		for _, c := range []struct {
			script, out string
			exit        int
			signal      string
		}{
			{"exit 0", "", 0, ""}, {"exit 200", "", 200, ""}, {"echo x; exit 7", "x\n", 7, ""},
			{"kill -9 $$", "", -1, "SIGKILL"}, {"kill -TERM $$", "", -1, "SIGTERM"}, {"kill -INT $$", "", -1, "SIGINT"},
		} {
			argv := append(append([]string(nil), shell[1:]...), "-c", Script, "sandboxer", "NONCE", "sh", "-c", c.script)
			got, err := exec.CommandContext(t.Context(), path, argv...).Output()
			if err != nil {
				t.Errorf("%s: %s: %v", shell, c.script, err)
				continue
			}
			s := NewSentinel("NONCE")
			out := s.Feed(got)
			exit, signal := s.Outcome()
			if !s.seen || string(out) != c.out || exit != c.exit || signal != c.signal {
				t.Errorf("%s: %s: seen %v, %q, %d %q; want %q, %d %q", shell, c.script, s.seen, out, exit, signal, c.out, c.exit, c.signal)
			}
		}
	}
}

// FuzzSentinel: however the output is cut into pieces, what the command wrote comes out whole, and the word is found.
func FuzzSentinel(f *testing.F) {
	f.Add([]byte("hello"), uint8(3), 5)
	f.Add([]byte("\x1eNONCE:"), uint8(0), 1)
	f.Add([]byte("\x1eNONCE:1:2;\x1eNONC\x1eNONCE:x;"), uint8(255), 2)
	f.Fuzz(func(t *testing.T, text []byte, code uint8, step int) {
		const nonce = "NONCE-that-nobody-guesses"
		if bytes.Contains(text, []byte(nonce)) {
			return
		}
		step = max(1, min(step, 64))
		all := append(bytes.Clone(text), []byte("\x1e"+nonce+":"+string(rune('0'+code/100))+string(rune('0'+code/10%10))+string(rune('0'+code%10))+":1;behind")...)
		s := NewSentinel(nonce)
		var out []byte
		for rest := all; len(rest) > 0; {
			n := min(step, len(rest))
			out = append(out, s.Feed(rest[:n])...)
			rest = rest[n:]
		}
		if !s.seen || s.code != int(code) || !bytes.Equal(out, text) {
			t.Errorf("seen %v, code %d, %q; want code %d, %q", s.seen, s.code, out, code, text)
		}
	})
}
