package registry

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/sand-boxer/sandboxer"
)

// docKind tells manifests from profiles; it is also what their ids begin with.
type docKind string

const (
	manifestKind docKind = "ext"
	profileKind  docKind = "profile"
)

const (
	maxID        = 80
	maxTitle     = 256 // characters
	inputPattern = `^[A-Za-z_][A-Za-z0-9_.-]{0,62}$`
	// For the JSON Schemas; the registry asks sandboxer.ValidateLabels and unicode.IsControl.
	labelPattern   = `^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$`
	oneLinePattern = `^[^\x00-\x1f\x7f-\x9f]*$`
)

// idPattern is what the ids of a kind look like.
func idPattern(k docKind) string { return `^` + string(k) + `\.[a-z0-9]([a-z0-9._-]*[a-z0-9])?$` }

func titleShape() shape {
	return shape{"type": "string", "minLength": 1, "maxLength": maxTitle, "pattern": oneLinePattern}
}

var (
	inputFormat      = regexp.MustCompile(inputPattern)
	manifestIDFormat = regexp.MustCompile(idPattern(manifestKind))
	profileIDFormat  = regexp.MustCompile(idPattern(profileKind))
)

func idOK(k docKind, id string) bool {
	format := manifestIDFormat
	if k == profileKind {
		format = profileIDFormat
	}
	return len(id) <= maxID && format.MatchString(id)
}

// document is one manifest or profile, with what is needed to speak about its places.
type document struct {
	ps       *problems
	src      *source
	kind     docKind
	root     *node  // nil for a Go value
	fileID   string // what the file's name says that the id is; "" where it says nothing
	id       string // as far as it could be read
	broken   bool   // it has problems of its own; it still counts as existing
	manifest Manifest
	profile  sandboxer.Profile
}

// place returns where the value at a path is, or the nearest one above it.
func (doc *document) place(at path) place {
	if doc.root == nil {
		return place{src: doc.src}
	}
	n := doc.root
	for _, step := range at {
		var next *node
		switch step := step.(type) {
		case string:
			next = n.get(step)
		case int:
			if step < len(n.items) && n.kind == sequence {
				next = n.items[step]
			}
		}
		if next == nil {
			break
		}
		n = next
	}
	return place{doc.src, n.line, n.column}
}

// add reports a problem with a decoded value. Where the decoder already has something to say about that very place, it is
// the better message.
func (doc *document) add(at path, format string, args ...any) {
	doc.broken = true
	where := doc.place(at)
	if where.line > 0 && doc.ps.places[where] {
		return
	}
	doc.ps.add(where, "%s: %s", at, sprintf(format, args...))
}

// oneOf reports a value that is none of the known ones, or that was given before.
func oneOf[S ~string](doc *document, at path, what string, got S, valid []S) {
	for _, v := range valid {
		if v == got {
			return
		}
	}
	doc.add(at, "unknown %s %s%s", what, quote(string(got)), sandboxer.DidYouMean(string(got), texts(valid)))
}

// setOf checks a list whose items are known and differ.
func setOf[S ~string](doc *document, at path, what string, got, valid []S) {
	seen := map[S]bool{}
	for i, v := range got {
		if seen[v] {
			doc.add(at.with(i), "%s is listed twice", quote(string(v)))
			continue
		}
		seen[v] = true
		oneOf(doc, at.with(i), what, v, valid)
	}
}

// checkID checks the id against its format and the file's name.
func (doc *document) checkID(id string) {
	doc.id = id
	at := path{"id"}
	switch {
	case id == "":
		doc.add(at, "is missing")
	case !idOK(doc.kind, id):
		hint := fmt.Sprintf("write %q, with at most %d lower-case letters, digits and inner '-', '_' and '.'", string(doc.kind)+".<name>", maxID)
		if fixed := strings.ToLower(strings.ReplaceAll(id, " ", "-")); fixed != id && idOK(doc.kind, fixed) {
			hint = "did you mean " + quote(fixed) + "?"
		} else if !strings.HasPrefix(id, string(doc.kind)+".") && idOK(doc.kind, string(doc.kind)+"."+id) {
			hint = "did you mean " + quote(string(doc.kind)+"."+id) + "?"
		}
		doc.add(at, "%s is no id; %s", quote(id), hint)
	case doc.fileID != "" && doc.fileID != id:
		doc.add(at, "%s does not match the file's name, which stands for %s; rename one of them", quote(id), quote(doc.fileID))
	}
	if doc.id == "" {
		doc.id = doc.fileID
	}
}

func (doc *document) checkTitle(title string) {
	at := path{"title"}
	switch {
	case title == "" && doc.root != nil && doc.root.get("title") != nil:
		doc.add(at, "is empty; give it a value or leave the key out")
	case utf8.RuneCountInString(title) > maxTitle:
		doc.add(at, "has more than %d characters", maxTitle)
	case !utf8.ValidString(title), strings.ContainsFunc(title, unicode.IsControl):
		doc.add(at, "must be one line of text, without control characters")
	}
}

// checkLabels checks labels or a host selector one by one, so that each problem has its place.
func (doc *document) checkLabels(at path, labels map[string]string) {
	if len(labels) > 32 {
		doc.add(at, "%d labels; at most 32 are carried", len(labels))
	}
	for _, k := range sortedStrings(labels) {
		if err := sandboxer.ValidateLabels(map[string]string{k: labels[k]}); err != nil {
			if secretShape(k) != "" {
				doc.add(at.with(k), "is no label key")
				continue
			}
			doc.add(at.with(k), "%s", strings.TrimPrefix(err.Error(), string(sandboxer.InvalidArgument)+": "))
		}
	}
}
