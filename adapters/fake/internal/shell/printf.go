package shell

import (
	"fmt"
	"strconv"
	"strings"
)

// printf knows %s %b %c %d %i %u %o %x %X %% with flags, width and precision, and the usual escapes. The format is used
// again as long as arguments are left.
func printf(p *proc) int {
	if len(p.args) < 2 {
		p.complain("a format is missing")
		return 2
	}
	format, args := p.args[1], p.args[2:]
	if format == "--" && len(args) > 0 {
		format, args = args[0], args[1:]
	}
	var out strings.Builder
	status := 0
	for {
		rest, problem := formatOnce(&out, format, args)
		if problem != "" {
			p.complain("%s", problem)
			status = 1
		}
		if len(rest) == 0 || len(rest) == len(args) {
			break
		}
		args = rest
	}
	if _, err := p.out().Write([]byte(out.String())); err != nil {
		return p.failed(err)
	}
	return status
}

// formatOnce writes the format once and returns the arguments that it did not use.
func formatOnce(out *strings.Builder, format string, args []string) (rest []string, problem string) {
	next := func() string {
		if len(args) == 0 {
			return ""
		}
		a := args[0]
		args = args[1:]
		return a
	}
	for i := 0; i < len(format); i++ {
		switch {
		case format[i] == '\\':
			n, text := escape(format[i:])
			out.WriteString(text)
			i += n - 1
		case format[i] != '%':
			out.WriteByte(format[i])
		case strings.HasPrefix(format[i:], "%%"):
			out.WriteByte('%')
			i++
		default:
			start := i
			for i++; i < len(format) && strings.IndexByte("-+ #0123456789.*", format[i]) >= 0; i++ {
			}
			if i == len(format) {
				return nil, "the format ends within %"
			}
			spec := strings.Replace(format[start:i], "*", "", 1)
			if strings.Contains(format[start:i], "*") {
				spec = strings.Replace(format[start:i], "*", next(), 1)
			}
			switch c := format[i]; c {
			case 's':
				_, _ = fmt.Fprintf(out, spec+"s", next())
			case 'b':
				_, _ = fmt.Fprintf(out, spec+"s", unescape(next()))
			case 'c':
				if a := next(); a != "" {
					out.WriteByte(a[0])
				}
			case 'd', 'i', 'u', 'o', 'x', 'X':
				verb := map[byte]string{'i': "d", 'u': "d"}[c]
				if verb == "" {
					verb = string(rune(c))
				}
				a := next()
				n, err := strconv.ParseInt(orElse(a, "0"), 0, 64)
				if err != nil {
					problem = fmt.Sprintf("%s: not a number", a)
				}
				_, _ = fmt.Fprintf(out, spec+verb, n)
			default:
				return nil, fmt.Sprintf("%%%c is not supported in a fake sandbox", c)
			}
		}
	}
	return args, problem
}

func unescape(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); {
		if s[i] != '\\' {
			out.WriteByte(s[i])
			i++
			continue
		}
		n, text := escape(s[i:])
		out.WriteString(text)
		i += n
	}
	return out.String()
}

// escape reads one escape at the beginning of s: how long it is and what it means.
func escape(s string) (int, string) {
	if len(s) < 2 {
		return 1, `\`
	}
	if i := strings.IndexByte(`abfnrtv\`, s[1]); i >= 0 {
		return 2, "\a\b\f\n\r\t\v\\"[i : i+1]
	}
	digits, base, from := 0, 8, 1
	if s[1] == 'x' {
		base, from = 16, 2
	}
	most := 3
	if base == 16 {
		most = 2
	} else if s[1] == '0' {
		most = 4
	}
	for digits < most && from+digits < len(s) {
		if _, err := strconv.ParseUint(s[from+digits:from+digits+1], base, 8); err != nil {
			break
		}
		digits++
	}
	if digits == 0 {
		return 2, s[:2]
	}
	n, err := strconv.ParseUint(s[from:from+digits], base, 16)
	if err != nil {
		return 2, s[:2]
	}
	return from + digits, string([]byte{byte(n)})
}
