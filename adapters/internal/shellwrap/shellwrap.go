// Package shellwrap runs a command below a short shell that says on the command's own outputs how it ended, behind all that
// it wrote: for backends whose word on the end of a command comes too late, says too little, or comes before the output.
package shellwrap

import (
	"bytes"
	"strconv"
)

// docs:begin script

// Script runs the command in its arguments, with the nonce before it, and then says how it ended. The shell prints a message
// of its own ("Killed") where a signal ended the command; that tells a signal from an exit code above 128, but in bash, which
// prints none here. With the variable SANDBOXER_TTY there is one output. Its variables have names that no command's have, so
// that it changes none that is exported.
//
// $1 is the nonce, the rest is the command. File descriptors 3 and 4 are its outputs, kept from the shell's message. Where
// the inner shell was killed it has no status to tell, and says nothing: an empty one would count as 0.
const Script = `__n=$1; shift
{ __r=$( exec 2>&1; ( exec 2>&3 3>&- >&4 4>&-; exec "$@" ); echo "<$?>" ); } 3>&2 4>&1
__c=${__r#*<}; __c=${__c%%>*}; __s=0
case $__c in ''|*[!0-9]*) exit 70;; esac
if [ "$__r" != "<$__c>" ] || [ -n "$BASH_VERSION" ]; then __s=1; fi
printf '\036%s:%d:%d;' "$__n" "$__c" "$__s"
if [ -z "$SANDBOXER_TTY" ]; then printf '\036%s:%d:%d;' "$__n" "$__c" "$__s" >&2; fi`

// docs:end

// Sentinel finds the shell's word in one output and passes on everything before it.
type Sentinel struct {
	mark []byte // what the word begins with
	held []byte // the end of the output, while it may be the beginning of the word
	code int
	sig  bool
	seen bool
}

// NewSentinel looks for the word of the shell that was given this nonce.
func NewSentinel(nonce string) *Sentinel { return &Sentinel{mark: []byte("\x1e" + nonce + ":")} }

// maxWord bounds what may stand between the mark and its end: "255:1;".
const maxWord = 16

// Feed takes what arrived and returns what the command wrote. After the word nothing is passed on: it comes from
// children in the background.
func (s *Sentinel) Feed(p []byte) []byte {
	if s.seen || len(p) == 0 {
		return nil
	}
	s.held = append(s.held, p...)
	for from := 0; ; {
		at := bytes.Index(s.held[from:], s.mark)
		if at < 0 {
			return s.pass(len(s.held) - s.overlap())
		}
		at += from
		rest := s.held[at+len(s.mark):]
		end := bytes.IndexByte(rest, ';')
		switch {
		case end >= 0 && s.word(string(rest[:end])):
			out := bytes.Clone(s.held[:at])
			s.held, s.seen = nil, true
			return out
		case end < 0 && len(rest) < maxWord:
			return s.pass(at) // the rest of the word has not arrived yet
		}
		from = at + 1 // the command wrote something that looks alike
	}
}

func (s *Sentinel) pass(n int) []byte {
	out := bytes.Clone(s.held[:n])
	s.held = append(s.held[:0], s.held[n:]...)
	return out
}

// overlap is the length of the longest end of what is held that the mark begins with.
func (s *Sentinel) overlap() int {
	for n := min(len(s.held), len(s.mark)-1); n > 0; n-- {
		if bytes.HasSuffix(s.held, s.mark[:n]) {
			return n
		}
	}
	return 0
}

func (s *Sentinel) word(text string) bool {
	code, sig, ok := bytes.Cut([]byte(text), []byte(":"))
	n, err := strconv.Atoi(string(code))
	if !ok || err != nil || n < 0 || n > 255 || (string(sig) != "0" && string(sig) != "1") {
		return false
	}
	s.code, s.sig = n, string(sig) == "1"
	return true
}

// Rest returns what was held back, for a command that ended without a word.
func (s *Sentinel) Rest() []byte {
	out := s.held
	s.held = nil
	return out
}

// Seen reports whether the word has come.
func (s *Sentinel) Seen() bool { return s.seen }

// Outcome is the exit code and the signal that the word says. 128+n stands for signal n where the shell said that a signal
// ended the command, and for the two that shells say nothing about, INT and PIPE.
func (s *Sentinel) Outcome() (exit int, signal string) {
	n := s.code - 128
	if name, ok := signals[n]; ok && (s.sig || n == 2 || n == 13) {
		return -1, name
	}
	return s.code, ""
}

// signals are Linux's, by number.
var signals = map[int]string{
	1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 5: "SIGTRAP", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL",
	10: "SIGUSR1", 11: "SIGSEGV", 12: "SIGUSR2", 13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM", 16: "SIGSTKFLT",
	24: "SIGXCPU", 25: "SIGXFSZ", 26: "SIGVTALRM", 27: "SIGPROF", 29: "SIGIO", 30: "SIGPWR", 31: "SIGSYS",
}
