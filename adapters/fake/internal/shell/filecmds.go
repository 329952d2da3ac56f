package shell

import (
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer/adapters/fake/internal/memfs"
)

func pwd(p *proc) int { return p.print("%s\n", p.dir) }

func ls(p *proc) int {
	set, names, ok := p.options("1aAl", "")
	if !ok {
		return 2
	}
	if len(names) == 0 {
		names = []string{"."}
	}
	show := func(in memfs.Info) error {
		line := in.Name
		if has(set, 'l') {
			line = fmt.Sprintf("%s %d %s %s", in.Mode, in.Size, in.MTime.UTC().Format(time.RFC3339Nano), in.Name)
			if in.Target != "" {
				line += " -> " + in.Target
			}
		}
		_, err := fmt.Fprintln(p.out(), line)
		return err
	}
	return p.each(names, func(name string) error {
		in, err := p.fs().Stat(p.path(name))
		if err != nil {
			return err
		}
		if !in.Mode.IsDir() {
			in.Name = name
			return show(in)
		}
		all, err := p.fs().ReadDir(p.path(name))
		for _, in := range all {
			if strings.HasPrefix(in.Name, ".") && !has(set, 'a') && !has(set, 'A') {
				continue
			}
			if err := show(in); err != nil {
				return err
			}
		}
		return err
	})
}

func mkdir(p *proc) int {
	set, names, ok := p.options("p", "m")
	if !ok {
		return 2
	}
	return p.each(names, func(name string) error {
		var err error
		if has(set, 'p') {
			err = p.fs().MkdirAll(p.path(name), 0o755)
		} else {
			err = p.fs().Mkdir(p.path(name), 0o755)
		}
		if err == nil && has(set, 'm') {
			var m uint64
			if m, err = strconv.ParseUint(set['m'], 8, 12); err == nil {
				err = p.fs().Chmod(p.path(name), fs.FileMode(m))
			}
		}
		return err
	})
}

func rm(p *proc) int {
	set, names, ok := p.options("rRf", "")
	if !ok {
		return 2
	}
	if len(names) == 0 && has(set, 'f') {
		return 0
	}
	all := has(set, 'r') || has(set, 'R')
	return p.each(names, func(name string) error {
		in, err := p.fs().Lstat(p.path(name))
		switch {
		case err != nil && has(set, 'f'):
			return nil
		case err != nil:
			return err
		case in.Mode.IsDir() && !all:
			return fmt.Errorf("%s: is a directory", name)
		}
		return p.fs().Remove(p.path(name), all)
	})
}

func rmdir(p *proc) int {
	_, names, ok := p.options("", "")
	if !ok {
		return 2
	}
	return p.each(names, func(name string) error {
		in, err := p.fs().Lstat(p.path(name))
		if err == nil && !in.Mode.IsDir() {
			return fmt.Errorf("%s: not a directory", name)
		}
		return p.fs().Remove(p.path(name), false)
	})
}

// intoDir is where a file lands that is copied, moved or linked to to.
func (p *proc) intoDir(name, to string) string {
	if in, err := p.fs().Stat(p.path(to)); err == nil && in.Mode.IsDir() {
		return path.Join(p.path(to), path.Base(name))
	}
	return p.path(to)
}

// pair takes the operands FROM TO.
func (p *proc) pair(flags string) (set map[byte]string, from, to string, ok bool) {
	set, names, ok := p.options(flags, "")
	if ok && len(names) != 2 {
		p.complain("two paths are needed")
		ok = false
	}
	if !ok {
		return nil, "", "", false
	}
	return set, names[0], names[1], true
}

func cp(p *proc) int {
	set, from, to, ok := p.pair("rRpafP")
	if !ok {
		return 2
	}
	deep := has(set, 'r') || has(set, 'R') || has(set, 'a')
	if err := p.copy(p.path(from), p.intoDir(from, to), deep, has(set, 'p') || has(set, 'a')); err != nil {
		return p.failed(err)
	}
	return 0
}

func (p *proc) copy(from, to string, deep, times bool) error {
	look := p.fs().Stat
	if deep {
		look = p.fs().Lstat
	}
	in, err := look(from)
	if err != nil {
		return err
	}
	switch {
	case in.Mode&fs.ModeSymlink != 0:
		return p.fs().Symlink(in.Target, to)
	case in.Mode.IsDir() && !deep:
		return fmt.Errorf("%s: is a directory; use -r", from)
	case in.Mode.IsDir():
		if err := p.fs().MkdirAll(to, in.Mode.Perm()); err != nil {
			return err
		}
		all, err := p.fs().ReadDir(from)
		if err != nil {
			return err
		}
		for _, kid := range all {
			if err := p.copy(path.Join(from, kid.Name), path.Join(to, kid.Name), deep, times); err != nil {
				return err
			}
		}
	default:
		data, err := p.fs().ReadFile(from)
		if err != nil {
			return err
		}
		w, err := p.fs().OpenWriter(to, false, in.Mode.Perm())
		if err != nil {
			return err
		}
		if _, err := w.Write(data); err != nil {
			return err
		}
	}
	if times {
		return p.fs().Chtimes(to, in.MTime)
	}
	return nil
}

func mv(p *proc) int {
	_, from, to, ok := p.pair("f")
	if !ok {
		return 2
	}
	if err := p.fs().Rename(p.path(from), p.path(to)); err != nil {
		return p.failed(err)
	}
	return 0
}

func ln(p *proc) int {
	set, target, name, ok := p.pair("sfn")
	if !ok {
		return 2
	}
	if !has(set, 's') {
		p.complain("only symbolic links (-s) are supported in a fake sandbox")
		return 2
	}
	to := p.path(name)
	if !has(set, 'n') {
		to = p.intoDir(target, name)
	}
	if has(set, 'f') {
		_ = p.fs().Remove(to, false) // nothing there is as good
	}
	if err := p.fs().Symlink(target, to); err != nil {
		return p.failed(err)
	}
	return 0
}

// find walks trees and knows -type f|d|l and -name PATTERN.
func find(p *proc) int {
	var roots []string
	args := p.args[1:]
	for len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		roots, args = append(roots, args[0]), args[1:]
	}
	if len(roots) == 0 {
		roots = []string{"."}
	}
	kind, pattern, zero := "", "", "\n"
	for len(args) > 0 {
		switch {
		case args[0] == "-print0":
			zero, args = "\x00", args[1:]
		case args[0] == "-print":
			args = args[1:]
		case args[0] == "-type" && len(args) > 1:
			kind, args = args[1], args[2:]
		case args[0] == "-name" && len(args) > 1:
			pattern, args = args[1], args[2:]
		default:
			p.complain("%s is not supported in a fake sandbox", args[0])
			return 2
		}
	}
	return p.each(roots, func(root string) error {
		in, err := p.fs().Lstat(p.path(root))
		if err != nil {
			return err
		}
		return p.walk(root, in, func(name string, in memfs.Info) error {
			is := "f"
			if in.Mode.IsDir() {
				is = "d"
			} else if in.Mode&fs.ModeSymlink != 0 {
				is = "l"
			}
			if kind != "" && kind != is || pattern != "" && !match(pattern, path.Base(name)) {
				return nil
			}
			_, err := io.WriteString(p.out(), name+zero)
			return err
		})
	})
}

func (p *proc) walk(name string, in memfs.Info, f func(string, memfs.Info) error) error {
	if err := f(name, in); err != nil {
		return err
	}
	if !in.Mode.IsDir() {
		return nil
	}
	all, err := p.fs().ReadDir(p.path(name))
	if err != nil {
		return err
	}
	for _, kid := range all {
		if err := p.walk(name+"/"+kid.Name, kid, f); err != nil {
			return err
		}
	}
	return nil
}

func basename(p *proc) int {
	if len(p.args) < 2 {
		p.complain("a path is missing")
		return 2
	}
	name := path.Base(p.args[1])
	if len(p.args) > 2 && name != p.args[2] {
		name = strings.TrimSuffix(name, p.args[2])
	}
	return p.print("%s\n", name)
}

func dirname(p *proc) int {
	if len(p.args) < 2 {
		p.complain("a path is missing")
		return 2
	}
	return p.print("%s\n", path.Dir(p.args[1]))
}
