package workspace

import (
	"math"
	"strconv"
	"time"
)

const block = 512

// trailer ends a tar stream.
const trailer = 2 * block

// appendHeader appends the headers of an entry. archive/tar would do, at ten times the cost, which is most of what a small
// file costs here. What does not fit into a ustar header, such as the fraction of a time, is in a pax header before it.
func appendHeader(b []byte, path string, e *entry, size int64, own owner) []byte {
	var pax []byte
	name, kind, link := path, byte('0'), ""
	switch e.kind {
	case kindDir:
		name, kind = path+"/", '5'
	case kindLink:
		kind, link = '2', e.link
	}
	if len(name) > 100 {
		pax, name = record(pax, "path", name), name[:100]
	}
	if len(link) > 100 {
		pax, link = record(pax, "linkpath", link), link[:100]
	}
	if size > maxOctal {
		pax = record(pax, "size", strconv.FormatInt(size, 10))
	}
	if e.nsec != 0 || e.sec < 0 || e.sec > maxOctal {
		pax = record(pax, "mtime", paxTime(e.sec, e.nsec))
	}
	if own.uid > maxID {
		pax = record(pax, "uid", strconv.Itoa(own.uid))
	}
	if own.gid > maxID {
		pax = record(pax, "gid", strconv.Itoa(own.gid))
	}
	if len(pax) > 0 {
		b = appendBlock(b, "sandboxer", 'x', 0o644, int64(len(pax)), 0, "", owner{})
		b = append(b, pax...)
		b = pad(b, int64(len(pax)))
	}
	perm := int64(e.perm)
	if e.kind == kindLink {
		perm = permBits
	}
	return appendBlock(b, name, kind, perm, size, e.sec, link, own)
}

const (
	maxOctal = 1<<33 - 1 // eleven digits
	maxID    = 1<<21 - 1 // seven
)

// owner is whose an entry is.
type owner struct{ uid, gid int }

// appendBlock appends one ustar header.
func appendBlock(b []byte, name string, kind byte, perm, size, sec int64, link string, own owner) []byte {
	start := len(b)
	b = append(b, zeros[:block]...)
	h := b[start:]
	copy(h[:100], name)
	octal(h[100:108], perm)
	octal(h[108:116], int64(min(own.uid, maxID)))
	octal(h[116:124], int64(min(own.gid, maxID)))
	octal(h[124:136], min(size, maxOctal))
	octal(h[136:148], min(max(sec, 0), maxOctal))
	h[156] = kind
	copy(h[157:257], link)
	copy(h[257:], "ustar\x0000")
	copy(h[148:], "        ")
	var sum int64
	for _, c := range h {
		sum += int64(c)
	}
	octal(h[148:155], sum)
	return b
}

// octal fills a field with digits and a NUL at its end.
func octal(field []byte, n int64) {
	for i := len(field) - 2; i >= 0; i-- {
		field[i] = byte('0' + n&7)
		n >>= 3
	}
	field[len(field)-1] = 0
}

// record appends "LENGTH KEY=VALUE\n", whose length counts itself.
func record(b []byte, key, value string) []byte {
	n := len(key) + len(value) + 3
	digits := len(strconv.Itoa(n))
	if len(strconv.Itoa(n+digits)) > digits {
		digits++
	}
	b = strconv.AppendInt(b, int64(n+digits), 10)
	b = append(b, ' ')
	b = append(b, key...)
	b = append(b, '=')
	b = append(b, value...)
	return append(b, '\n')
}

// paxTime writes a time as pax does: below zero the fraction counts backwards.
func paxTime(sec int64, nsec int32) string {
	sign := ""
	if sec < 0 && sec > math.MinInt64 {
		sign, sec = "-", -sec
		if nsec != 0 {
			sec, nsec = sec-1, int32(time.Second)-nsec
		}
	}
	s := sign + strconv.FormatInt(sec, 10)
	if nsec == 0 {
		return s
	}
	digits := strconv.Itoa(int(nsec) + int(time.Second)) // a one, and nine digits
	return s + "." + digits[1:]
}

var zeros [trailer]byte

// pad appends what fills the last block of size bytes.
func pad(b []byte, size int64) []byte { return append(b, zeros[:padding(size)]...) }

func padding(size int64) int64 { return -size & (block - 1) }
