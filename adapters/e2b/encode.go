package e2b

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// decoder restores arguments, environment and directory that are no valid UTF-8, which JSON cannot carry: they come as
// printf escapes. $1 is the nonce, $2 the directory, $3 the number of variables, then names and values, then the command. Its
// own variables have names that are nobody's.
const decoder = `__sbx_n=$1; __sbx_v=$(printf '%b_' "$2"); cd -- "${__sbx_v%_}" || exit 66
__sbx_c=$3; shift 3
while [ $__sbx_c -gt 0 ]; do __sbx_v=$(printf '%b_' "$2"); export "$1=${__sbx_v%_}"; shift 2; __sbx_c=$((__sbx_c-1)); done
__sbx_c=$#
while [ $__sbx_c -gt 0 ]; do __sbx_v=$(printf '%b_' "$1"); shift; set -- "$@" "${__sbx_v%_}"; __sbx_c=$((__sbx_c-1)); done
set -- "$__sbx_n" "$@"
`

// noDirectory is the decoder's exit code where there is no such directory; the wrapper behind it never ends with that.
const noDirectory = 66

// encodable reports whether JSON carries all of it as it is.
func encodable(dir string, command []string, env map[string]string) bool {
	ok := utf8.ValidString(dir)
	for _, s := range command {
		ok = ok && utf8.ValidString(s)
	}
	for _, v := range env {
		ok = ok && utf8.ValidString(v)
	}
	return ok
}

// escaped are the arguments of decoder.
func escaped(nonce, dir string, command []string, env map[string]string) []string {
	out := []string{nonce, escape(dir), strconv.Itoa(len(env))}
	for _, k := range slices.Sorted(maps.Keys(env)) {
		out = append(out, k, escape(env[k]))
	}
	for _, s := range command {
		out = append(out, escape(s))
	}
	return out
}

// escape writes s for printf's %b.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c >= ' ' && c < 0x7f && c != '\\' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "\\0%03o", c)
		}
	}
	return b.String()
}
