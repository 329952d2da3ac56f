package policy

import (
	"reflect"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"
)

// TestEveryFieldIsJudged fails when compose-go grows a field that nobody has judged, or loses one: a new field of a newer
// compose-go is refused at run time, and has to be judged before that version is taken.
func TestEveryFieldIsJudged(t *testing.T) {
	t.Parallel()
	seen := map[reflect.Type]bool{}
	names := map[string]bool{}
	var visit func(reflect.Type)
	visit = func(typ reflect.Type) {
		switch typ.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Array:
			visit(typ.Elem())
			return
		case reflect.Interface:
			t.Errorf("%v can hold anything, which no table judges", typ)
			return
		case reflect.Struct:
		default:
			return
		}
		if seen[typ] {
			return
		}
		seen[typ] = true
		if names[typ.Name()] {
			t.Errorf("two types are called %s, and the tables know names only", typ.Name())
		}
		names[typ.Name()] = true
		have := map[string]bool{}
		for i := range typ.NumField() {
			f := typ.Field(i)
			if f.Anonymous {
				visit(f.Type)
				continue
			}
			if !f.IsExported() {
				continue
			}
			have[f.Name] = true
			j := of(typ, f.Name)
			switch j.kind {
			case 0:
				t.Errorf("nobody has judged %s.%s (%s)", typ.Name(), f.Name, keyOf(f))
			case allowed, building:
				visit(f.Type)
			case checked:
				if j.check == nil {
					t.Errorf("%s.%s has no check", typ.Name(), f.Name)
				}
				visit(f.Type)
			case refused, never, dropped:
				if j.why == "" {
					t.Errorf("%s.%s is refused without a reason", typ.Name(), f.Name)
				}
			}
		}
		for name := range tables[typ.Name()] {
			if !have[name] {
				t.Errorf("%s.%s is judged, and compose-go has no such field", typ.Name(), name)
			}
		}
	}
	visit(reflect.TypeFor[types.Project]())
	for name := range tables {
		if !names[name] {
			t.Errorf("the type %s is judged and cannot be reached", name)
		}
	}
	if len(names) < 20 {
		t.Errorf("only %d types were visited", len(names))
	}
}

// TestUnjudgedFieldIsRefused: what the tables do not know is refused, under every policy but Trusted.
func TestUnjudgedFieldIsRefused(t *testing.T) {
	t.Parallel()
	type Novelty struct {
		Reach string `yaml:"reach,omitempty"`
	}
	for _, p := range []Policy{Strict, BuildAllowed} {
		l := &load{o: Options{Policy: p}, places: locate(nil)}
		v := reflect.ValueOf(&Novelty{Reach: "host"}).Elem()
		l.field(v, 0, []string{"services", "web"})
		if len(l.problems) != 1 || l.problems[0].Field != "services.web.reach" {
			t.Errorf("%s: %+v", p, l.problems)
		}
	}
}

// TestPlaces: keys are found where they are, in every style.
func TestPlaces(t *testing.T) {
	t.Parallel()
	p := locate([]byte(`# services: {web: {}}
services:
  web:
    image: "a: b"   # pid: host
    command: |
      pid: host
      - x
    environment:
    - A=1
    - {name: x}
    labels: {a: 1, "b c": [2, {d: 3}],
      e: 4}
    <<: *base
    volumes:
      - type: bind
        source: ./x
      - - nested
  'quo''ted':
    text: "runs
      over: lines"
    after: 1
`))
	for path, want := range map[string][2]int{
		"services":                            {2, 1},
		"services.web":                        {3, 3},
		"services.web.image":                  {4, 5},
		"services.web.environment.[0]":        {9, 5},
		"services.web.environment.[1].name":   {10, 8},
		"services.web.labels.a":               {11, 14},
		"services.web.labels.b c.[0]":         {11, 28},
		"services.web.labels.b c.[1].d":       {11, 32},
		"services.web.labels.e":               {12, 7},
		"services.web.privileged":             {13, 5}, // by the merge key
		"services.web.volumes.[0].source":     {16, 9},
		"services.web.volumes.[1].[0]":        {17, 9},
		"services.quo''ted.after":             {21, 5},
		"services.quo''ted.nothing":           {18, 3}, // its parent
		"networks.default":                    {0, 0},
		"services.web.volumes.[0].bind.x.y.z": {15, 7},
	} {
		line, col := p.of(strings.Split(path, "."))
		if got := [2]int{line, col}; got != want {
			t.Errorf("%s: %v, want %v", path, got, want)
		}
	}
}
