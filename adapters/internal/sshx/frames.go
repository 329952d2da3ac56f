package sshx

import (
	"bufio"
	"bytes"
	_ "embed" // the runner's script
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
)

//go:embed runner.pl
var runnerScript string

const (
	frameHead = 5
	maxFrame  = 64 << 10 // of what a runner sends
	maxInput  = 32 << 10 // of input in one frame
)

// runnerLine is what the shell of a runner's session evaluates; the script follows it.
func runnerLine(token, keeper string, number int, lease time.Duration) string {
	load := `my$s="";while(length($s)<` + strconv.Itoa(len(runnerScript)) + `){sysread(STDIN,$s,` + strconv.Itoa(len(runnerScript)) +
		`-length$s,length$s)||exit 1}eval$s;die$@`
	return "exec perl -C0 -e '" + load + "' " + token + " " + keeper + " " + strconv.Itoa(number) + " " +
		strconv.Itoa(int(2*lease.Seconds())+10) + " " + strconv.Itoa(stripe) + "\n" + runnerScript
}

// request is the frame that asks for a command.
func (r *runner) request(token string, req *sandboxer.ExecRequest, l *lanes) []byte {
	mode, n := "", 0
	switch {
	case l != nil:
		mode, n = string(l.mode), l.n
	case req.Stdin != nil:
		mode = "i"
	}
	fields := append(make([]string, 0, 5+len(req.Env)+len(req.Command)), token, mode, strconv.Itoa(n), plainDir(req.Dir), strconv.Itoa(len(req.Env)))
	for _, name := range slices.Sorted(maps.Keys(req.Env)) {
		fields = append(fields, name+"="+req.Env[name])
	}
	return frame('R', strings.Join(append(fields, req.Command...), "\x00"))
}

func frame(kind byte, payload string) []byte {
	out := make([]byte, frameHead, frameHead+len(payload))
	out[0] = kind
	binary.BigEndian.PutUint32(out[1:], uint32(len(payload)))
	return append(out, payload...)
}

// skipTo reads up to the end of the mark, past what login files print.
func skipTo(in *bufio.Reader, mark string) error {
	seen := make([]byte, 0, 8*len(mark))
	for range maxNoise {
		b, err := in.ReadByte()
		if err != nil {
			return err
		}
		if seen = append(seen, b); bytes.HasSuffix(seen, []byte(mark)) {
			return nil
		}
		if len(seen) == cap(seen) {
			seen = append(seen[:0], seen[len(seen)-len(mark):]...)
		}
	}
	return errNoise
}

var errFrame = errors.New("the process that runs commands there sent what it never sends; something that is not ours prints into its session")

// readFrame reads one frame; the payload is in buf.
func readFrame(in io.Reader, buf []byte) (kind byte, payload []byte, err error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return 0, nil, errNoSession
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > uint32(len(buf)) || !strings.ContainsRune("OXQDNL", rune(head[0])) {
		return 0, nil, errFrame
	}
	if _, err := io.ReadFull(in, buf[:n]); err != nil {
		return 0, nil, errNoSession
	}
	return head[0], buf[:n], nil
}

// signalNames are those of Linux, by number.
var signalNames = strings.Fields("SIGHUP SIGINT SIGQUIT SIGILL SIGTRAP SIGABRT SIGBUS SIGFPE SIGKILL SIGUSR1 SIGSEGV SIGUSR2 SIGPIPE " +
	"SIGALRM SIGTERM SIGSTKFLT SIGCHLD SIGCONT SIGSTOP SIGTSTP SIGTTIN SIGTTOU SIGURG SIGXCPU SIGXFSZ SIGVTALRM SIGPROF SIGWINCH " +
	"SIGIO SIGPWR SIGSYS")

func signalName(n int) string {
	if n >= 1 && n <= len(signalNames) {
		return signalNames[n-1]
	}
	return "SIG" + strconv.Itoa(n)
}
