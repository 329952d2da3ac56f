package canary

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Hit is a place where a key was found.
type Hit struct {
	Where string // a file, or a part of a process
	At    int64  // in bytes from its beginning; -1: in its name
	Form  string // how it was written
	Text  string // what stands around it, without it
}

func (h Hit) String() string {
	if h.At < 0 {
		return fmt.Sprintf("%s: the name holds a key (%s)", h.Where, h.Form)
	}
	return fmt.Sprintf("%s: a key (%s) at byte %d: …%s…", h.Where, h.Form, h.At, h.Text)
}

// Finder finds the keys of a run. The zero Finder finds none.
type Finder struct {
	forms   []form
	longest int

	Files int   // how many were looked at
	Bytes int64 // and how much was in them
}

type form struct {
	name string
	text []byte
}

// Mine returns a Finder for the keys of this program.
func Mine() *Finder { return NewFinder(os.Getenv(dirVariable)) }

// NewFinder returns a Finder for the keys of the run in dir, and of programs that ran without one.
func NewFinder(dir string) *Finder {
	f := &Finder{}
	for _, seed := range slices.Compact([]string{readSeed(dir), ""}) {
		f.add(markOf(seed))
	}
	return f
}

// add adds the forms that a mark may be written in.
func (f *Finder) add(mark string) {
	put := func(name, text string) {
		f.forms = append(f.forms, form{name, []byte(text)})
		f.longest = max(f.longest, len(text))
	}
	put("plain", mark)
	put("upper case", strings.ToUpper(mark))
	h := hex.EncodeToString([]byte(mark))
	put("hexadecimal", h)
	put("hexadecimal", strings.ToUpper(h))
	for shift := range 3 { // where the mark begins within three bytes decides what it looks like
		for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			text := enc.EncodeToString([]byte("xxx"[:shift] + mark))
			put("base64", text[(shift*8+5)/6:len(text)-1])
		}
	}
	var decimals, units strings.Builder
	for i := range len(mark) {
		fmt.Fprintf(&decimals, "%d ", mark[i])
		units.WriteString(mark[i:i+1] + "\x00")
	}
	put("numbers", decimals.String())
	put("numbers", strings.ReplaceAll(strings.TrimSpace(decimals.String()), " ", ", "))
	put("UTF-16", strings.TrimSuffix(units.String(), "\x00"))
}

// name returns the form in which text holds a key, or "".
func (f *Finder) name(text []byte) (form string, at int) {
	for _, want := range f.forms {
		if at := bytes.Index(text, want.text); at >= 0 {
			return want.name, at
		}
	}
	return "", -1
}

const chunk = 1 << 20

// Read looks for a key in r, which is called where; nil where there is none.
func (f *Finder) Read(where string, r io.Reader) (*Hit, error) {
	f.Files++
	buf := make([]byte, 0, chunk+f.longest)
	for from := int64(0); ; {
		n, err := io.ReadFull(r, buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		f.Bytes += int64(n)
		if form, at := f.name(buf); at >= 0 {
			return &Hit{Where: where, At: from + int64(at), Form: form, Text: f.around(buf, at)}, nil
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		rest := min(f.longest-1, len(buf)) // a key may begin in this part and end in the next
		from += int64(len(buf) - rest)
		buf = append(buf[:0], buf[len(buf)-rest:]...)
	}
}

// Walk looks at all files below path, and at their names. It follows no links. skip says which directories are left out.
func (f *Finder) Walk(path string, skip func(path string) bool) (hits []Hit, err error) {
	err = filepath.WalkDir(path, func(at string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // removed meanwhile
		case err != nil:
			return err
		case d.IsDir() && at != path && skip != nil && skip(at):
			return fs.SkipDir
		}
		if form, i := f.name([]byte(d.Name())); i >= 0 {
			hits = append(hits, Hit{Where: f.hide(at), At: -1, Form: form})
		}
		if !d.Type().IsRegular() {
			return nil
		}
		file, err := os.Open(at)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		hit, err := f.Read(f.hide(at), file)
		if errors.Is(err, syscall.EINVAL) {
			err = nil // it has no contents, as a network namespace that is mounted on a file
		}
		if hit != nil {
			hits = append(hits, *hit)
		}
		return errors.Join(err, file.Close())
	})
	return hits, err
}

// hide takes keys out of a name that is to be printed.
func (f *Finder) hide(text string) string {
	for _, form := range f.forms {
		text = strings.ReplaceAll(text, string(form.text), "[a key]")
	}
	return text
}

// around is the text near at, on one line and without keys. What the ends cut a key to is no more than stands there in
// the open.
func (f *Finder) around(text []byte, at int) string {
	near := f.hide(string(text[max(0, at-120):min(len(text), at+120)]))
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '.'
		}
		return r
	}, near)
}

// Used returns how many programs of the run in dir used canaries.
func Used(dir string) (int, error) {
	found, err := filepath.Glob(filepath.Join(dir, usedPrefix+"*"))
	return len(found), err
}
