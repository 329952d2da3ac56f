package sandboxer

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Inputs are the values an extension declares (repo, vm, ssh_target, template …). A secret appears only as a SecretRef.
type Inputs map[string]any

// UnmarshalJSON keeps all digits of integers, as [Inputs.Decode] does.
func (in *Inputs) UnmarshalJSON(b []byte) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var m map[string]any
	if err := dec.Decode(&m); err != nil {
		return err
	}
	*in = m
	return nil
}

// Decode fills the struct that into points to. It is strict: an unknown, mistyped or wrongly cased key is an
// InvalidArgument naming it and the closest valid one. A field's key is its name in snake_case (SSHTarget: ssh_target), or
// its json tag where it has one; durations are strings ("10s"), integers keep all their digits. Fields without a key keep
// their value, so that defaults are set before. Maps and lists are copied: into is the caller's to change. All problems are
// reported at once; on an error into is left half-filled.
func (in Inputs) Decode(into any) error {
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return Mark(Internal, fmt.Errorf("Inputs.Decode needs a pointer to a struct, not %T", into))
	}
	return Refused(InvalidArgument, errors.Join(decodeStruct("", reflect.ValueOf(map[string]any(in)), v.Elem())...))
}

func decodeStruct(path string, src, dst reflect.Value) []error {
	fields := fieldsByKey(dst.Type())
	var problems []error
	for _, k := range sortedKeys(src) {
		index, ok := fields[k]
		if !ok {
			problems = append(problems, fmt.Errorf("unknown input %q%s", path+clip(k), DidYouMean(k, slices.Sorted(maps.Keys(fields)))))
			continue
		}
		field, ok := fieldAt(dst, index)
		if !ok {
			problems = append(problems, fmt.Errorf("input %q: its field is embedded by a nil pointer of an unexported type", path+k))
			continue
		}
		problems = append(problems, decodeValue(path+k, mapValue(src, k), field)...)
	}
	return problems
}

// fieldsByKey returns where the field of each key is. Fields of embedded structs count as the struct's own.
func fieldsByKey(t reflect.Type) map[string][]int {
	fields := map[string][]int{}
	for _, f := range reflect.VisibleFields(t) {
		embedded := f.Anonymous && (f.Type.Kind() == reflect.Struct || f.Type.Kind() == reflect.Pointer && f.Type.Elem().Kind() == reflect.Struct)
		if !f.IsExported() || embedded {
			continue
		}
		key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch key {
		case "-":
			continue
		case "":
			key = snakeCase(f.Name)
		}
		fields[key] = f.Index
	}
	return fields
}

// fieldAt is v.FieldByIndex that makes embedded structs that are nil pointers.
func fieldAt(v reflect.Value, index []int) (reflect.Value, bool) {
	for i, n := range index {
		if i > 0 && v.Kind() == reflect.Pointer {
			if v.IsNil() {
				if !v.CanSet() {
					return v, false
				}
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
		}
		v = v.Field(n)
	}
	return v, true
}

// sortedKeys returns the string keys of a map in order, so that messages are stable.
func sortedKeys(m reflect.Value) []string {
	var keys []string
	for _, k := range m.MapKeys() {
		keys = append(keys, k.String())
	}
	slices.Sort(keys)
	return keys
}

func mapValue(m reflect.Value, key string) reflect.Value {
	v := m.MapIndex(reflect.ValueOf(key).Convert(m.Type().Key()))
	for v.IsValid() && v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	return v
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	numberType   = reflect.TypeFor[json.Number]()
)

func decodeValue(path string, src, dst reflect.Value) []error {
	mistyped := func(want string) []error {
		return []error{fmt.Errorf("input %q must be %s, not %s", path, want, describe(src))}
	}
	if !src.IsValid() { // null: as if it were not given
		return nil
	}
	if dst.Kind() == reflect.Pointer {
		dst.Set(reflect.New(dst.Type().Elem()))
		return decodeValue(path, src, dst.Elem())
	}
	if dst.Type() == durationType {
		if src.Type() == durationType {
			dst.Set(src)
			return nil
		}
		d, err := time.ParseDuration(asString(src))
		if err != nil {
			return mistyped(`a duration like "10s"`)
		}
		dst.SetInt(int64(d))
		return nil
	}
	if u, ok := dst.Addr().Interface().(encoding.TextUnmarshaler); ok && src.Kind() == reflect.String && src.Type() != numberType {
		if err := u.UnmarshalText([]byte(src.String())); err != nil {
			return []error{fmt.Errorf("input %q: %w", path, err)}
		}
		return nil
	}
	if src.Type().AssignableTo(dst.Type()) && (dst.Kind() != reflect.Interface || dst.NumMethod() == 0) && dst.Kind() != reflect.Struct {
		dst.Set(copied(src))
		return nil
	}
	switch dst.Kind() {
	case reflect.String:
		if src.Kind() != reflect.String || src.Type() == numberType {
			return mistyped("a string")
		}
		dst.SetString(src.String())
	case reflect.Bool:
		if src.Kind() != reflect.Bool {
			return mistyped("true or false")
		}
		dst.SetBool(src.Bool())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n, ok := asInt(src)
		if !ok || dst.OverflowInt(n) {
			return mistyped(fmt.Sprintf("an integer of %d bits", dst.Type().Bits()))
		}
		dst.SetInt(n)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n, ok := asUint(src)
		if !ok || dst.OverflowUint(n) {
			return mistyped(fmt.Sprintf("an integer of %d bits that is not negative", dst.Type().Bits()))
		}
		dst.SetUint(n)
	case reflect.Float32, reflect.Float64:
		f, ok := asFloat(src)
		if !ok || dst.OverflowFloat(f) {
			return mistyped("a number")
		}
		dst.SetFloat(f)
	case reflect.Slice:
		if src.Kind() != reflect.Slice && src.Kind() != reflect.Array {
			return mistyped("a list")
		}
		out := reflect.MakeSlice(dst.Type(), src.Len(), src.Len())
		var problems []error
		for i := range src.Len() {
			item := src.Index(i)
			if item.Kind() == reflect.Interface {
				item = item.Elem()
			}
			problems = append(problems, decodeValue(fmt.Sprintf("%s[%d]", path, i), item, out.Index(i))...)
		}
		dst.Set(out)
		return problems
	case reflect.Map:
		if src.Kind() != reflect.Map || src.Type().Key().Kind() != reflect.String || dst.Type().Key().Kind() != reflect.String {
			return mistyped("a mapping")
		}
		out := reflect.MakeMapWithSize(dst.Type(), src.Len())
		var problems []error
		for _, k := range sortedKeys(src) {
			item := reflect.New(dst.Type().Elem()).Elem()
			problems = append(problems, decodeValue(path+"."+clip(k), mapValue(src, k), item)...)
			out.SetMapIndex(reflect.ValueOf(k).Convert(dst.Type().Key()), item)
		}
		dst.Set(out)
		return problems
	case reflect.Struct:
		if src.Kind() != reflect.Map || src.Type().Key().Kind() != reflect.String {
			return mistyped("a mapping")
		}
		return decodeStruct(path+".", src, dst)
	default:
		return []error{fmt.Errorf("input %q: fields of type %v cannot be decoded", path, dst.Type())}
	}
	return nil
}

// copied returns v with maps and lists of its own: the inputs of a profile are read by many at once.
func copied(v reflect.Value) reflect.Value {
	switch v.Kind() {
	case reflect.Interface:
		if !v.IsNil() {
			return copied(v.Elem())
		}
	case reflect.Map:
		if v.IsNil() {
			return v
		}
		out := reflect.MakeMapWithSize(v.Type(), v.Len())
		for each := v.MapRange(); each.Next(); {
			out.SetMapIndex(each.Key(), copied(each.Value()))
		}
		return out
	case reflect.Slice:
		if v.IsNil() {
			return v
		}
		out := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		for i := range v.Len() {
			out.Index(i).Set(copied(v.Index(i)))
		}
		return out
	}
	return v
}

func asString(v reflect.Value) string {
	if v.Kind() == reflect.String && v.Type() != numberType {
		return v.String()
	}
	return ""
}

func asInt(v reflect.Value) (int64, bool) {
	switch {
	case v.Type() == numberType:
		n, err := strconv.ParseInt(v.String(), 10, 64)
		return n, err == nil
	case v.Type() == durationType:
		return 0, false
	case v.CanInt():
		return v.Int(), true
	case v.CanUint():
		return int64(v.Uint()), v.Uint() <= math.MaxInt64
	case v.CanFloat(): // JSON decoded without UseNumber: exact up to 2^53
		f := v.Float()
		return int64(f), f == math.Trunc(f) && math.Abs(f) <= 1<<53
	}
	return 0, false
}

func asUint(v reflect.Value) (uint64, bool) {
	switch {
	case v.Type() == numberType:
		n, err := strconv.ParseUint(v.String(), 10, 64)
		return n, err == nil
	case v.CanUint():
		return v.Uint(), true
	}
	n, ok := asInt(v)
	return uint64(n), ok && n >= 0
}

func asFloat(v reflect.Value) (float64, bool) {
	switch {
	case v.Type() == numberType:
		f, err := strconv.ParseFloat(v.String(), 64)
		return f, err == nil
	case v.Type() == durationType:
		return 0, false
	case v.CanFloat():
		return v.Float(), true
	case v.CanInt():
		return float64(v.Int()), true
	case v.CanUint():
		return float64(v.Uint()), true
	}
	return 0, false
}

// describe names a value's type as its author wrote it, and quotes no value: it might be a secret in the wrong place.
func describe(v reflect.Value) string {
	switch {
	case v.Type() == numberType:
		return "a number"
	case v.Type() == durationType:
		return "a duration"
	case v.Kind() == reflect.String:
		return "a string"
	case v.Kind() == reflect.Bool:
		return "true or false"
	case v.CanInt(), v.CanUint(), v.CanFloat():
		return "a number"
	case v.Kind() == reflect.Slice, v.Kind() == reflect.Array:
		return "a list"
	case v.Kind() == reflect.Map:
		return "a mapping"
	}
	return "a " + v.Type().String()
}

// snakeCase turns a Go field name into a key: ComposeFile → compose_file, SSHTarget → ssh_target, E2BKey → e2b_key.
func snakeCase(name string) string {
	var b strings.Builder
	runes := []rune(name)
	for i, r := range runes {
		if unicode.IsUpper(r) && i > 0 {
			afterLower := unicode.IsLower(runes[i-1])
			endsAcronym := i+1 < len(runes) && unicode.IsLower(runes[i+1]) && !unicode.IsLower(runes[i-1])
			if afterLower || endsAcronym {
				b.WriteByte('_')
			}
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// DidYouMean ends a message about the unknown word got with the closest of the valid ones, or with all of them where none
// is close and they are few: `; did you mean "repo"?`. Adapters use it for inputs of their own.
func DidYouMean(got string, valid []string) string {
	best, bestAt := "", math.MaxInt
	for _, v := range valid {
		a, b := strings.ToLower(got), strings.ToLower(v)
		if kind, _, ok := strings.Cut(a, "."); ok && strings.HasPrefix(b, kind+".") {
			a, b = a[len(kind)+1:], b[len(kind)+1:] // what all profiles have in common makes no two of them alike
		}
		most := min(bestAt, 1+max(1, len(a)/3, len(b)/3))
		if d := editDistance(a, b, most); d < most && d < max(len(a), len(b)) {
			best, bestAt = v, d
		}
	}
	switch {
	case best != "":
		return fmt.Sprintf("; did you mean %q?", best)
	case len(valid) == 0:
		return "; none is taken"
	case len(valid) <= 16: // no table of the project's has more
		return "; valid: " + strings.Join(valid, ", ")
	}
	return ""
}

// editDistance counts the letters that are missing, added, replaced or swapped with their neighbour, up to most.
func editDistance(a, b string, most int) int {
	if len(a) > 128 || len(b) > 128 || len(a)-len(b) >= most || len(b)-len(a) >= most {
		return most
	}
	earlier, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		earlier, last, row = last, row, earlier
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], earlier[j-2]+1)
			}
		}
	}
	return min(row[len(b)], most)
}
