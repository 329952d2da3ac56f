package sshx

import (
	"errors"
	"fmt"
	"strings"

	"github.com/sand-boxer/sandboxer"
)

var errNUL = errors.New("contains a NUL byte, which no command line or environment can carry")

// Quote makes one word of s for a POSIX shell, whatever it contains. A NUL byte is an InvalidArgument.
func Quote(s string) (string, error) {
	if strings.IndexByte(s, 0) >= 0 {
		return "", sandboxer.Refused(sandboxer.InvalidArgument, errNUL)
	}
	return quote(s), nil
}

// QuoteAll quotes each word and joins them with spaces.
func QuoteAll(words ...string) (string, error) {
	out := make([]string, len(words))
	for i, w := range words {
		q, err := Quote(w)
		if err != nil {
			return "", fmt.Errorf("word %d: %w", i+1, err)
		}
		out[i] = q
	}
	return strings.Join(out, " "), nil
}

// quote also quotes what has nothing special in it: a word alone may be reserved.
func quote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// oneLine quotes s so that no line break is in it, for text that is read with the shell's `read`: a line break becomes
// the value of the variable N, which holds one. s has no NUL.
func oneLine(s string) string {
	q := quote(s)
	return strings.ReplaceAll(q, "\n", `'"$N"'`)
}
