package shell

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

func echo(p *proc) int {
	args, end := p.args[1:], "\n"
	if len(args) > 0 && args[0] == "-n" {
		args, end = args[1:], ""
	}
	return p.print("%s", strings.Join(args, " ")+end)
}

// inputs calls f with each file, or with standard input where there is none or it is "-".
func (p *proc) inputs(names []string, f func(name string, r io.Reader) error) int {
	if len(names) == 0 {
		names = []string{"-"}
	}
	return p.each(names, func(name string) error {
		if name == "-" {
			return f(name, p.in())
		}
		file, err := p.open(name, "<")
		if err != nil {
			return err
		}
		r, ok := file.(Reader)
		if !ok {
			return fmt.Errorf("%s: cannot be read", name)
		}
		return f(name, bound{p: p, r: r})
	})
}

// stream copies, and honours the end of the process.
func (p *proc) stream(w io.Writer, r io.Reader) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, make([]byte, chunkSize))
	return err
}

func cat(p *proc) int {
	_, names, ok := p.options("u", "")
	if !ok {
		return 2
	}
	return p.inputs(names, func(_ string, r io.Reader) error { return p.stream(p.out(), r) })
}

func tee(p *proc) int {
	set, names, ok := p.options("a", "")
	if !ok {
		return 2
	}
	op := ">"
	if has(set, 'a') {
		op = ">>"
	}
	writers := []io.Writer{p.out()}
	for _, name := range names {
		f, err := p.open(name, op)
		if err != nil {
			return p.failed(err)
		}
		if w, ok := f.(Writer); ok {
			writers = append(writers, bound{p: p, w: w})
		}
	}
	if err := p.stream(io.MultiWriter(writers...), p.in()); err != nil {
		return p.failed(err)
	}
	return 0
}

// amount reads what -c or -n of head and tail say.
func (p *proc) amount(set map[byte]string) (n int64, unit byte, ok bool) {
	n, unit = 10, 'n'
	for _, c := range []byte("nc") {
		if !has(set, c) {
			continue
		}
		v, err := strconv.ParseInt(set[c], 10, 64)
		if err != nil || v < 0 {
			p.complain("-%c %s: not a number of lines or bytes", c, set[c])
			return 0, 0, false
		}
		n, unit = v, c
	}
	return n, unit, true
}

func head(p *proc) int {
	set, names, ok := p.options("", "nc")
	if !ok {
		return 2
	}
	n, unit, ok := p.amount(set)
	if !ok {
		return 2
	}
	return p.inputs(names, func(_ string, r io.Reader) error {
		if unit == 'c' {
			return p.stream(p.out(), io.LimitReader(r, n))
		}
		in := bufio.NewReader(r)
		for range n {
			line, err := in.ReadBytes('\n')
			if _, werr := p.out().Write(line); werr != nil {
				return werr
			}
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func tail(p *proc) int {
	set, names, ok := p.options("", "nc")
	if !ok {
		return 2
	}
	n, unit, ok := p.amount(set)
	if !ok {
		return 2
	}
	return p.inputs(names, func(_ string, r io.Reader) error {
		data, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if unit == 'n' {
			ls := bytes.SplitAfter(data, []byte("\n"))
			if len(ls[len(ls)-1]) == 0 {
				ls = ls[:len(ls)-1]
			}
			data = bytes.Join(ls[max(0, int64(len(ls))-n):], nil)
		} else {
			data = data[max(0, int64(len(data))-n):]
		}
		_, err = p.out().Write(data)
		return err
	})
}

func wc(p *proc) int {
	set, names, ok := p.options("lwc", "")
	if !ok {
		return 2
	}
	return p.inputs(names, func(name string, r io.Reader) error {
		var ls, ws, cs int64
		inWord := false
		buf := make([]byte, chunkSize)
		for {
			n, err := r.Read(buf)
			for _, c := range buf[:n] {
				if c == '\n' {
					ls++
				}
				blank := c == ' ' || c >= '\t' && c <= '\r'
				if !blank && !inWord {
					ws++
				}
				inWord = !blank
			}
			cs += int64(n)
			if err == io.EOF {
				break
			}
			if err != nil {
				return err
			}
		}
		var cols []string
		for _, c := range []struct {
			flag byte
			n    int64
		}{{'l', ls}, {'w', ws}, {'c', cs}} {
			if len(set) == 0 || has(set, c.flag) {
				cols = append(cols, strconv.FormatInt(c.n, 10))
			}
		}
		if name != "-" {
			cols = append(cols, name)
		}
		_, err := fmt.Fprintln(p.out(), strings.Join(cols, " "))
		return err
	})
}

func seq(p *proc) int {
	nums := []int64{1}
	for _, a := range p.args[1:] {
		n, err := strconv.ParseInt(a, 10, 64)
		if err != nil {
			p.complain("%s: not an integer", a)
			return 2
		}
		nums = append(nums, n)
	}
	if len(nums) < 2 || len(nums) > 4 {
		p.complain("one to three numbers are needed")
		return 2
	}
	first, step, last := int64(1), int64(1), nums[len(nums)-1]
	if len(nums) > 2 {
		first = nums[1]
	}
	if len(nums) == 4 {
		step = nums[2]
	}
	out := bufio.NewWriterSize(p.out(), chunkSize)
	for n := first; step > 0 && n <= last || step < 0 && n >= last; n += step {
		if _, err := out.WriteString(strconv.FormatInt(n, 10) + "\n"); err != nil {
			return p.failed(err)
		}
	}
	if err := out.Flush(); err != nil {
		return p.failed(err)
	}
	return 0
}

func yes(p *proc) int {
	text := "y"
	if len(p.args) > 1 {
		text = strings.Join(p.args[1:], " ")
	}
	block := bytes.Repeat([]byte(text+"\n"), 1+chunkSize/(len(text)+2))
	for {
		if _, err := p.out().Write(block); err != nil {
			return p.failed(err)
		}
	}
}

// tr translates or, with -d, deletes single bytes; ranges such as a-z are known.
func tr(p *proc) int {
	set, sets, ok := p.options("d", "")
	if !ok {
		return 2
	}
	if len(sets) == 0 || len(sets) == 1 != has(set, 'd') {
		p.complain("two sets are needed, or -d and one")
		return 2
	}
	from := ranges(sets[0])
	var to []byte
	if len(sets) > 1 {
		if to = ranges(sets[1]); len(to) == 0 {
			p.complain("the second set is empty")
			return 2
		}
	}
	return p.inputs(nil, func(_ string, r io.Reader) error {
		buf := make([]byte, chunkSize)
		for {
			n, err := r.Read(buf)
			out := buf[:0]
			for _, c := range buf[:n] {
				switch i := slices.Index(from, c); {
				case i < 0:
					out = append(out, c)
				case to != nil:
					out = append(out, to[min(i, len(to)-1)])
				}
			}
			if _, werr := p.out().Write(out); werr != nil {
				return werr
			}
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
		}
	})
}

func ranges(set string) []byte {
	text := []byte(unescape(set))
	var out []byte
	for i := 0; i < len(text); i++ {
		if i+2 < len(text) && text[i+1] == '-' && text[i] <= text[i+2] {
			for c := int(text[i]); c <= int(text[i+2]); c++ {
				out = append(out, byte(c))
			}
			i += 2
			continue
		}
		out = append(out, text[i])
	}
	return out
}

func sortLines(p *proc) int {
	set, names, ok := p.options("ru", "")
	if !ok {
		return 2
	}
	var all []string
	status := p.inputs(names, func(_ string, r io.Reader) error {
		data, err := io.ReadAll(r)
		if len(data) > 0 {
			all = append(all, strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")...)
		}
		return err
	})
	slices.Sort(all)
	if has(set, 'u') {
		all = slices.Compact(all)
	}
	if has(set, 'r') {
		slices.Reverse(all)
	}
	for _, line := range all {
		if s := p.print("%s\n", line); s != 0 {
			return s
		}
	}
	return status
}

// grep matches Go's regular expressions, which hold those of POSIX.
func grep(p *proc) int {
	set, args, ok := p.options("qvciFE", "")
	if !ok {
		return 2
	}
	if len(args) == 0 {
		p.complain("a pattern is missing")
		return 2
	}
	pattern := args[0]
	if has(set, 'F') {
		pattern = regexp.QuoteMeta(pattern)
	}
	if has(set, 'i') {
		pattern = "(?i)" + pattern
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		p.complain("%v", err)
		return 2
	}
	n := 0
	status := p.inputs(args[1:], func(_ string, r io.Reader) error {
		in := bufio.NewReader(r)
		for {
			line, err := in.ReadBytes('\n')
			if len(line) > 0 && re.Match(bytes.TrimSuffix(line, []byte("\n"))) != has(set, 'v') {
				n++
				if !has(set, 'q') && !has(set, 'c') {
					if _, werr := p.out().Write(append(bytes.TrimSuffix(line, []byte("\n")), '\n')); werr != nil {
						return werr
					}
				}
			}
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
		}
	})
	if status != 0 {
		return 2
	}
	if has(set, 'c') {
		p.print("%d\n", n)
	}
	return truth(n > 0)
}

func sha256sum(p *proc) int {
	_, names, ok := p.options("b", "")
	if !ok {
		return 2
	}
	return p.inputs(names, func(name string, r io.Reader) error {
		h := sha256.New()
		if err := p.stream(h, r); err != nil {
			return err
		}
		_, err := fmt.Fprintf(p.out(), "%s  %s\n", hex.EncodeToString(h.Sum(nil)), name)
		return err
	})
}

func base64Cmd(p *proc) int {
	set, names, ok := p.options("d", "w")
	if !ok {
		return 2
	}
	return p.inputs(names, func(_ string, r io.Reader) error {
		if has(set, 'd') {
			return p.stream(p.out(), base64.NewDecoder(base64.StdEncoding, r))
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(p.out(), base64.StdEncoding.EncodeToString(data))
		return err
	})
}
