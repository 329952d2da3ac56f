package manager

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
)

// filler sets every field that encoding/json would write to something, or, one time in three, leaves it zero.
type filler struct {
	t   *testing.T
	rng *rand.Rand
}

var strings4fill = []string{"a", "sbx-1", "two words", `"quoted" \ back`, "<&>", "ü€😀", "\u2028\u2029", "tab\tnl\n\x00\x7f", "cut \xff off", ""}

func (f filler) fill(v reflect.Value) {
	if f.rng.IntN(3) == 0 {
		return
	}
	switch at := v.Addr().Interface().(type) {
	case *time.Time:
		*at = time.Unix(f.rng.Int64N(4e9), f.rng.Int64N(1e9)*int64(f.rng.IntN(2))).In([]*time.Location{time.UTC, time.FixedZone("", 3600)}[f.rng.IntN(2)])
		return
	case *sandboxer.Handle:
		h, err := sandboxer.NewHandle(sandboxer.HandleRef{ID: "sbx-1", Attempt: 1 + f.rng.IntN(3), Extension: "ext.<a>", Host: strings.ToValidUTF8(f.text(), "")}, 1, map[string]string{"k": f.text()})
		if err != nil {
			f.t.Fatal(err)
		}
		*at = h
		return
	case *sandboxer.Money:
		*at = money(f.t, []string{"0.05 USD", "0 EUR", "12.345678901 USD"}[f.rng.IntN(3)])
		return
	case *sandboxer.Inputs:
		*at = sandboxer.Inputs{f.text() + "k": f.text(), "n": 1.5, "list": []any{true, nil}}
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(f.text())
	case reflect.Int, reflect.Int64:
		v.SetInt(f.rng.Int64() - f.rng.Int64())
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		f.fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), f.rng.IntN(4), 4))
		for i := range v.Len() {
			f.fill(v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range f.rng.IntN(4) {
			v.SetMapIndex(reflect.ValueOf(f.text()), reflect.ValueOf(f.text()))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if field := v.Type().Field(i); field.IsExported() && field.Tag.Get("json") != "-" || field.Anonymous && field.IsExported() {
				f.fill(v.Field(i))
			}
		}
	default:
		f.t.Fatalf("%s: teach this test to fill a %s", v.Type(), v.Kind())
	}
}

func (f filler) text() string { return strings4fill[f.rng.IntN(len(strings4fill))] }

// TestEncodeIsEncodingJSONs: what encode writes by hand is, byte for byte, what encoding/json makes of the same record. A
// field of a record, an attempt or a request that encode forgets, misnames or puts elsewhere fails here.
func TestEncodeIsEncodingJSONs(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2000) {
		f := filler{t, rand.New(rand.NewPCG(seed, 1))}
		r := &record{}
		f.fill(reflect.ValueOf(&r.Asked).Elem())
		f.fill(reflect.ValueOf(r).Elem())
		e := envelope{record: r}
		if f.rng.IntN(2) == 0 {
			r.Quote = &estimate{}
			f.fill(reflect.ValueOf(&r.Quote.MeterQuote).Elem())
			e.Quote = &r.Quote.MeterQuote
		}
		e.Recipes = make([]*sandboxer.Profile, len(r.Attempts))
		for i := range r.Attempts {
			if f.rng.IntN(2) == 0 {
				r.Attempts[i].Recipe = &recipe{}
				f.fill(reflect.ValueOf(&r.Attempts[i].Recipe.Profile).Elem())
				e.Recipes[i] = &r.Attempts[i].Recipe.Profile
			}
		}
		var err error
		if r.Asked, err = r.Asked.freeze(); err != nil {
			t.Fatal(err)
		}
		e.Asked = &r.Asked
		want, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		got, err := r.encode(nil)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Fatalf("seed %d (-encoding/json +encode):\n%s", seed, diff)
		}
	}
}

// TestEncodeRefuses: a time that no JSON can hold is an error, not half a record.
func TestEncodeRefuses(t *testing.T) {
	t.Parallel()
	r := &record{CreatedAt: time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)}
	if b, err := r.encode(nil); err == nil {
		t.Errorf("the year 10000 was encoded: %s", b)
	}
}

func FuzzAppendString(f *testing.F) {
	for _, s := range strings4fill {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		want, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(appendString(nil, s)); got != string(want) {
			t.Error(fmt.Sprintf("%q is written as %s, not as", s, got), string(want))
		}
	})
}
