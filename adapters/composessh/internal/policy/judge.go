package policy

import (
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// A judgement is what the policy says of one field of compose-go's types.
type judgement struct {
	kind kind
	why  string
	// check looks closer at a field that is there: "" allows it, anything else is why not. It may change what is no more
	// than a way to write something.
	check func(l *load, v reflect.Value) string
}

type kind int

const (
	_        kind = iota // no judgement: refused
	allowed              // with all that is in it, each by its own judgement
	checked              // by a function
	dropped              // means nothing in a sandbox: left out, and told
	ours                 // not from the file, or written over by canonical
	refused              // but for Trusted
	building             // but for BuildAllowed and Trusted
	never                // whatever the policy
)

func allow() judgement            { return judgement{kind: allowed} }
func drop(why string) judgement   { return judgement{kind: dropped, why: why} }
func own() judgement              { return judgement{kind: ours} }
func deny(why string) judgement   { return judgement{kind: refused, why: why} }
func build(why string) judgement  { return judgement{kind: building, why: why} }
func refuse(why string) judgement { return judgement{kind: never, why: why} }

func check(f func(l *load, v reflect.Value) string) judgement {
	return judgement{kind: checked, check: f}
}

// of returns the judgement of a field, and none where nobody judged it.
func of(t reflect.Type, field string) judgement { return tables[t.Name()][field] }

// tables has a judgement for every field that can be reached from a project, by type and field; inside of what is refused,
// nothing needs one.
var tables = merged(projectTables, serviceTables, mountTables, buildTables)

func merged(of ...map[string]fields) map[string]fields {
	all := map[string]fields{}
	for _, m := range of {
		maps.Copy(all, m)
	}
	return all
}

type fields map[string]judgement

// judge goes through the project and notes what is refused. It takes out what is dropped.
func (l *load) judge() {
	l.walk(reflect.ValueOf(l.project).Elem(), nil)
}

// walk judges what v holds; v can be set.
func (l *load) walk(v reflect.Value, at []string) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() && v.Kind() == reflect.Pointer {
			l.walk(v.Elem(), at)
		}
	case reflect.Slice:
		for i := range v.Len() {
			l.walk(v.Index(i), append(slices.Clip(at), "["+strconv.Itoa(i)+"]"))
		}
	case reflect.Map:
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		for _, key := range keys {
			item := reflect.New(v.Type().Elem()).Elem() // what is in a map cannot be set in place
			item.Set(v.MapIndex(key))
			l.walk(item, append(slices.Clip(at), key.String()))
			v.SetMapIndex(key, item)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				l.field(v, i, at)
			}
		}
	}
}

// field judges one field of a struct.
func (l *load) field(parent reflect.Value, i int, at []string) {
	v, f := parent.Field(i), parent.Type().Field(i)
	if f.Anonymous {
		l.walk(v, at)
		return
	}
	if absent(v) {
		return
	}
	j := of(parent.Type(), f.Name)
	at = append(slices.Clip(at), keyOf(f))
	if l.o.Policy == Trusted && j.kind != never {
		if j.kind != ours {
			l.walk(v, at)
		}
		return
	}
	switch j.kind {
	case allowed:
		l.walk(v, at)
	case checked:
		if why := j.check(l, v); why != "" {
			l.refuse(at, why, Trusted)
			return
		}
		if !absent(v) {
			l.walk(v, at)
		}
	case dropped:
		l.drop(at, j.why)
		v.SetZero()
	case ours:
	case building:
		if l.o.Policy != BuildAllowed {
			l.refuse(at, j.why, BuildAllowed)
			return
		}
		l.walk(v, at)
	case refused:
		l.refuse(at, j.why, Trusted)
	case never:
		l.refuse(at, j.why, "")
	default:
		l.refuse(at, "it is not known to this version, so nobody can say what it reaches", Trusted)
	}
}

// drop notes what is left out.
func (l *load) drop(at []string, why string) {
	place := l.o.File
	if line, col := l.places.of(at); line > 0 {
		place += ":" + strconv.Itoa(line) + ":" + strconv.Itoa(col)
	}
	l.dropped = append(l.dropped, l.scrub(place+": "+dotted(at)+": "+why))
}

// absent reports whether a field says nothing: it is not in the file, or has the value that it has without the file.
func absent(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map:
		return v.Len() == 0
	}
	return v.IsZero()
}

// keyOf is a field's name in the file.
func keyOf(f reflect.StructField) string {
	for _, tag := range []string{"yaml", "json"} {
		if name, _, _ := strings.Cut(f.Tag.Get(tag), ","); name != "" && name != "-" {
			return name
		}
	}
	return strings.ToLower(f.Name)
}
