package shell

import (
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"
)

func touch(p *proc) int {
	set, names, ok := p.options("cm", "d")
	if !ok {
		return 2
	}
	when := time.Now()
	if has(set, 'd') {
		var err error
		if when, err = instant(set['d']); err != nil {
			p.complain("-d %s: give @seconds or a time like 2006-01-02T15:04:05.999999999Z", set['d'])
			return 2
		}
	}
	return p.each(names, func(name string) error {
		if _, err := p.fs().Stat(p.path(name)); err != nil {
			if has(set, 'c') {
				return nil
			}
			if _, err := p.fs().OpenWriter(p.path(name), true, 0o644); err != nil {
				return err
			}
		}
		return p.fs().Chtimes(p.path(name), when)
	})
}

// instant reads @seconds[.fraction] or RFC 3339, also with a blank and without a zone (UTC).
func instant(s string) (time.Time, error) {
	if text, ok := strings.CutPrefix(s, "@"); ok {
		whole, frac, _ := strings.Cut(text, ".")
		sec, err := strconv.ParseInt(whole, 10, 64)
		if err != nil {
			return time.Time{}, err
		}
		nanos, err := strconv.ParseInt((frac + "000000000")[:9], 10, 64)
		return time.Unix(sec, nanos), err
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Parse("2006-01-02", s)
}

func chmod(p *proc) int {
	set, args, ok := p.options("R", "")
	if !ok || len(args) < 2 {
		if ok {
			p.complain("a mode and a path are needed")
		}
		return 2
	}
	if has(set, 'R') {
		p.complain("-R is not supported in a fake sandbox")
		return 2
	}
	return p.each(args[1:], func(name string) error {
		in, err := p.fs().Stat(p.path(name))
		if err != nil {
			return err
		}
		mode := in.Mode.Perm()
		if n, err := strconv.ParseUint(args[0], 8, 12); err == nil {
			mode = fs.FileMode(n).Perm()
		} else if mode, err = symbolic(args[0], mode); err != nil {
			return err
		}
		return p.fs().Chmod(p.path(name), mode)
	})
}

// symbolic applies one change such as +x, u+rw or go-w.
func symbolic(change string, mode fs.FileMode) (fs.FileMode, error) {
	at := strings.IndexAny(change, "+-")
	bad := fmt.Errorf("mode %q: use octal digits, or one change like u+x", change)
	if at < 0 {
		return 0, bad
	}
	who := orElse(strings.ReplaceAll(change[:at], "a", "ugo"), "ugo")
	var bits fs.FileMode
	for _, w := range who {
		for _, c := range change[at+1:] {
			bit := map[rune]fs.FileMode{'r': 4, 'w': 2, 'x': 1}[c]
			shift := map[rune]int{'u': 6, 'g': 3, 'o': 0}
			n, ok := shift[w]
			if bit == 0 || !ok {
				return 0, bad
			}
			bits |= bit << n
		}
	}
	if change[at] == '+' {
		return mode | bits, nil
	}
	return mode &^ bits, nil
}

// stat knows -c with %a %s %Y %y %n %F %N %%, -L, and without -c prints mode, size, time and name.
func stat(p *proc) int {
	set, names, ok := p.options("L", "c")
	if !ok {
		return 2
	}
	look := p.fs().Lstat
	if has(set, 'L') {
		look = p.fs().Stat
	}
	format := "%a %s %y %n"
	if has(set, 'c') {
		format = set['c']
	}
	return p.each(names, func(name string) error {
		in, err := look(p.path(name))
		if err != nil {
			return err
		}
		kind := "regular file"
		switch {
		case in.Mode.IsDir():
			kind = "directory"
		case in.Mode&fs.ModeSymlink != 0:
			kind = "symbolic link"
		case in.Size == 0:
			kind = "regular empty file"
		}
		var out strings.Builder
		for i := 0; i < len(format); i++ {
			if format[i] != '%' || i+1 == len(format) {
				out.WriteByte(format[i])
				continue
			}
			i++
			switch format[i] {
			case 'a':
				_, _ = fmt.Fprintf(&out, "%o", in.Mode.Perm())
			case 's':
				_, _ = fmt.Fprint(&out, in.Size)
			case 'Y':
				_, _ = fmt.Fprint(&out, in.MTime.Unix())
			case 'y':
				out.WriteString(in.MTime.UTC().Format("2006-01-02 15:04:05.000000000 -0700"))
			case 'n':
				out.WriteString(name)
			case 'N':
				out.WriteString("'" + name + "'")
				if in.Target != "" {
					out.WriteString(" -> '" + in.Target + "'")
				}
			case 'F':
				out.WriteString(kind)
			case '%':
				out.WriteByte('%')
			default:
				return fmt.Errorf("%%%c is not supported in a fake sandbox", format[i])
			}
		}
		_, err = fmt.Fprintln(p.out(), out.String())
		return err
	})
}

func readlink(p *proc) int {
	_, names, ok := p.options("n", "")
	if !ok {
		return 2
	}
	return p.each(names, func(name string) error {
		in, err := p.fs().Lstat(p.path(name))
		if err != nil {
			return err
		}
		if in.Target == "" {
			return fmt.Errorf("%s: not a symbolic link", name)
		}
		_, err = fmt.Fprintln(p.out(), in.Target)
		return err
	})
}
