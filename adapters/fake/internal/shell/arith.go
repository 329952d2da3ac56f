package shell

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// evaluate computes the expression of $((…)).
func (s *shell) evaluate(text string) (int64, error) {
	a := &calculator{s: s, src: text}
	n, err := a.binary(0)
	if err != nil {
		return 0, err
	}
	if a.blanks(); a.pos < len(a.src) {
		return 0, fmt.Errorf("arithmetic: %q is unexpected", a.src[a.pos:])
	}
	return n, nil
}

type calculator struct {
	s     *shell
	src   string
	pos   int
	depth int
}

// levels are the binary operators, loosest first; longer ones before those that begin them.
func levels() [][]string {
	return [][]string{{"||"}, {"&&"}, {"|"}, {"^"}, {"&"}, {"==", "!="}, {"<=", ">=", "<", ">"}, {"<<", ">>"}, {"+", "-"}, {"*", "/", "%"}}
}

func (a *calculator) blanks() {
	for a.pos < len(a.src) && strings.IndexByte(" \t\n", a.src[a.pos]) >= 0 {
		a.pos++
	}
}

// operator takes one of ops, but none that is the beginning of a longer operator.
func (a *calculator) operator(ops []string) string {
	a.blanks()
	for _, op := range ops {
		rest := a.src[a.pos:]
		if !strings.HasPrefix(rest, op) {
			continue
		}
		if len(op) == 1 && len(rest) > 1 && strings.IndexByte("|&<>", op[0]) >= 0 && rest[1] == op[0] {
			continue
		}
		a.pos += len(op)
		return op
	}
	return ""
}

func (a *calculator) binary(level int) (int64, error) {
	all := levels()
	if level == len(all) {
		return a.unary()
	}
	left, err := a.binary(level + 1)
	for err == nil {
		op := a.operator(all[level])
		if op == "" {
			return left, nil
		}
		var right int64
		if right, err = a.binary(level + 1); err == nil {
			left, err = apply(op, left, right)
		}
	}
	return 0, err
}

func apply(op string, x, y int64) (int64, error) {
	flag := func(b bool) (int64, error) {
		if b {
			return 1, nil
		}
		return 0, nil
	}
	switch op {
	case "||":
		return flag(x != 0 || y != 0)
	case "&&":
		return flag(x != 0 && y != 0)
	case "|":
		return x | y, nil
	case "^":
		return x ^ y, nil
	case "&":
		return x & y, nil
	case "==":
		return flag(x == y)
	case "!=":
		return flag(x != y)
	case "<=":
		return flag(x <= y)
	case ">=":
		return flag(x >= y)
	case "<":
		return flag(x < y)
	case ">":
		return flag(x > y)
	case "<<":
		return x << uint64(y&63), nil
	case ">>":
		return x >> uint64(y&63), nil
	case "+":
		return x + y, nil
	case "-":
		return x - y, nil
	case "*":
		return x * y, nil
	}
	if y == 0 {
		return 0, errors.New("arithmetic: division by zero")
	}
	if op == "/" {
		return x / y, nil
	}
	return x % y, nil
}

func (a *calculator) unary() (int64, error) {
	if a.depth++; a.depth > maxDepth {
		return 0, errors.New("arithmetic: nested too deep")
	}
	defer func() { a.depth-- }()
	a.blanks()
	if a.pos == len(a.src) {
		return 0, errors.New("arithmetic: a number is missing")
	}
	switch c := a.src[a.pos]; {
	case c == '(':
		a.pos++
		n, err := a.binary(0)
		if err != nil {
			return 0, err
		}
		if a.operator([]string{")"}) == "" {
			return 0, errors.New("arithmetic: ) is missing")
		}
		return n, nil
	case strings.IndexByte("-+!~", c) >= 0:
		a.pos++
		n, err := a.unary()
		switch c {
		case '-':
			n = -n
		case '~':
			n = ^n
		case '!':
			n = int64(truth(n != 0))
		}
		return n, err
	}
	p := &parser{src: a.src, pos: a.pos}
	if name := p.name(); name != "" {
		a.pos = p.pos
		value, _ := a.s.get(name)
		if value == "" {
			return 0, nil
		}
		return number(value)
	}
	start := a.pos
	for a.pos < len(a.src) && (a.src[a.pos] >= '0' && a.src[a.pos] <= '9' || a.src[a.pos] == 'x' || a.src[a.pos] >= 'a' && a.src[a.pos] <= 'f' || a.src[a.pos] >= 'A' && a.src[a.pos] <= 'F') {
		a.pos++
	}
	return number(a.src[start:a.pos])
}

func number(text string) (int64, error) {
	n, err := strconv.ParseInt(strings.TrimSpace(text), 0, 64)
	if err != nil {
		return 0, fmt.Errorf("arithmetic: %q is not a number", text)
	}
	return n, nil
}
