package shell

import (
	"fmt"
	"io/fs"
	"strconv"
)

// test is `test` and `[`: the usual questions about strings, numbers and files, with !, -a, -o and brackets.
func test(p *proc) int {
	args := p.args[1:]
	if p.args[0] == "[" {
		if len(args) == 0 || args[len(args)-1] != "]" {
			p.complain("] is missing")
			return 2
		}
		args = args[:len(args)-1]
	}
	t := &tester{p: p, args: args}
	if len(args) == 0 {
		return 1
	}
	ok, err := t.or()
	if err == nil && len(t.args) > 0 {
		err = fmt.Errorf("%s is unexpected", t.args[0])
	}
	if err != nil {
		p.complain("%v", err)
		return 2
	}
	return truth(ok)
}

type tester struct {
	p    *proc
	args []string
}

func (t *tester) next() string {
	if len(t.args) == 0 {
		return ""
	}
	a := t.args[0]
	t.args = t.args[1:]
	return a
}

func (t *tester) or() (bool, error) {
	ok, err := t.and()
	for err == nil && len(t.args) > 0 && t.args[0] == "-o" {
		t.next()
		var right bool
		right, err = t.and()
		ok = ok || right
	}
	return ok, err
}

func (t *tester) and() (bool, error) {
	ok, err := t.one()
	for err == nil && len(t.args) > 0 && t.args[0] == "-a" {
		t.next()
		var right bool
		right, err = t.one()
		ok = ok && right
	}
	return ok, err
}

func (t *tester) one() (bool, error) {
	if len(t.args) >= 3 {
		if f := binaryTest(t.args[1]); f != nil {
			x, _, y := t.next(), t.next(), t.next()
			return f(x, y)
		}
	}
	switch {
	case len(t.args) == 0:
		return false, fmt.Errorf("an operand is missing")
	case t.args[0] == "!" && len(t.args) > 1:
		t.next()
		ok, err := t.one()
		return !ok, err
	case t.args[0] == "(" && len(t.args) > 1:
		t.next()
		ok, err := t.or()
		if err == nil && t.next() != ")" {
			err = fmt.Errorf(") is missing")
		}
		return ok, err
	case len(t.args) >= 2 && len(t.args[0]) == 2 && t.args[0][0] == '-':
		op := t.next()
		return t.file(op, t.next())
	}
	return t.next() != "", nil
}

func (t *tester) file(op, arg string) (bool, error) {
	in, err := t.p.fs().Stat(t.p.path(arg))
	there := err == nil && arg != ""
	switch op {
	case "-n":
		return arg != "", nil
	case "-z":
		return arg == "", nil
	case "-e":
		return there, nil
	case "-f":
		return there && in.Mode.IsRegular(), nil
	case "-d":
		return there && in.Mode.IsDir(), nil
	case "-s":
		return there && in.Size > 0, nil
	case "-r":
		return there, nil
	case "-w":
		return there, nil
	case "-x":
		return there && in.Mode&0o111 != 0, nil
	case "-L", "-h":
		in, err := t.p.fs().Lstat(t.p.path(arg))
		return err == nil && in.Mode&fs.ModeSymlink != 0, nil
	case "-t":
		return t.p.ex.terminal != nil, nil
	}
	return false, fmt.Errorf("%s is not supported in a fake sandbox", op)
}

func binaryTest(op string) func(x, y string) (bool, error) {
	switch op {
	case "=", "==":
		return func(x, y string) (bool, error) { return x == y, nil }
	case "!=":
		return func(x, y string) (bool, error) { return x != y, nil }
	}
	compare := map[string]func(a, b int64) bool{
		"-eq": func(a, b int64) bool { return a == b }, "-ne": func(a, b int64) bool { return a != b },
		"-lt": func(a, b int64) bool { return a < b }, "-le": func(a, b int64) bool { return a <= b },
		"-gt": func(a, b int64) bool { return a > b }, "-ge": func(a, b int64) bool { return a >= b },
	}[op]
	if compare == nil {
		return nil
	}
	return func(x, y string) (bool, error) {
		a, err := strconv.ParseInt(x, 10, 64)
		if err != nil {
			return false, fmt.Errorf("%s: not a number", x)
		}
		b, err := strconv.ParseInt(y, 10, 64)
		if err != nil {
			return false, fmt.Errorf("%s: not a number", y)
		}
		return compare(a, b), nil
	}
}
