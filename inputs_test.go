package sandboxer_test

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sand-boxer/sandboxer"
)

type embedded struct{ Zone string }

type Shared struct{ Region string }

// options has a field of every kind that an adapter may declare.
type options struct {
	Repo      string
	SSHTarget sandboxer.SecretRef
	E2BKey    sandboxer.SecretRef
	HTTPPort  int
	Small     int8
	Count     int64
	Size      uint64
	Byte      uint8
	Ratio     float64
	Third     float32
	Verbose   bool
	Wait      time.Duration
	Waits     []time.Duration
	Tags      []string
	Matrix    [][]int
	Env       map[string]string
	Limits    map[string]int64
	Git       struct {
		Branch string
		Depth  int
		Auth   *struct{ Key sandboxer.SecretRef }
	}
	Mounts   []struct{ Source, Target string }
	MaxCost  *sandboxer.Money
	Since    time.Time
	Anything any
	Free     map[string]any
	Renamed  string `json:"other-name,omitempty"`
	Omit     string `json:",omitempty"`
	Hidden   string `json:"-"`
	private  string //nolint:unused // that no input reaches it is what is tried
	embedded
	*Shared
}

var optionsCmp = cmp.Options{cmp.AllowUnexported(options{}), cmp.Comparer(func(a, b sandboxer.Money) bool { return a == b }), cmpopts.EquateEmpty()}

func mustMoney(t testing.TB, s string) sandboxer.Money {
	t.Helper()
	m, err := sandboxer.ParseMoney(s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestInputsDecode(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		in   sandboxer.Inputs
		want options
	}{
		{"nothing", nil, options{}},
		{"null is as if it were not given", sandboxer.Inputs{"repo": nil, "git": nil, "wait": nil, "max_cost": nil}, options{}},
		{"text", sandboxer.Inputs{"repo": "r", "ssh_target": "env:T", "e2b_key": sandboxer.SecretRef("env:K")},
			options{Repo: "r", SSHTarget: "env:T", E2BKey: "env:K"}},
		{"integers of any Go type", sandboxer.Inputs{"http_port": int32(80), "small": uint16(127), "count": uint8(9), "size": 7, "byte": int64(255)},
			options{HTTPPort: 80, Small: 127, Count: 9, Size: 7, Byte: 255}},
		{"all digits", sandboxer.Inputs{"count": json.Number("9007199254740993"), "size": json.Number("18446744073709551615"), "limits": map[string]any{"a": int64(math.MinInt64)}},
			options{Count: 9007199254740993, Size: math.MaxUint64, Limits: map[string]int64{"a": math.MinInt64}}},
		{"floats that are integers", sandboxer.Inputs{"count": 3.0, "size": float32(2)}, options{Count: 3, Size: 2}},
		{"numbers", sandboxer.Inputs{"ratio": json.Number("0.5"), "third": 1}, options{Ratio: 0.5, Third: 1}},
		{"true", sandboxer.Inputs{"verbose": true}, options{Verbose: true}},
		{"durations", sandboxer.Inputs{"wait": "1h10s", "waits": []any{"1s", time.Minute, "0"}},
			options{Wait: time.Hour + 10*time.Second, Waits: []time.Duration{time.Second, time.Minute, 0}}},
		{"lists", sandboxer.Inputs{"tags": []any{"a", "b"}, "matrix": []any{[]int{1}, []any{json.Number("2"), 3}, nil}},
			options{Tags: []string{"a", "b"}, Matrix: [][]int{{1}, {2, 3}, nil}}},
		{"mappings", sandboxer.Inputs{"env": map[string]string{"A": "1"}, "limits": sandboxer.Inputs{"Any Key": 1}},
			options{Env: map[string]string{"A": "1"}, Limits: map[string]int64{"Any Key": 1}}},
		{"nested", sandboxer.Inputs{"git": map[string]any{"branch": "main", "depth": 1, "auth": map[string]any{"key": "env:K"}}, "mounts": []any{map[string]any{"source": "/a", "target": "/b"}}},
			func() (o options) {
				o.Git.Branch, o.Git.Depth, o.Git.Auth = "main", 1, &struct{ Key sandboxer.SecretRef }{"env:K"}
				o.Mounts = []struct{ Source, Target string }{{"/a", "/b"}}
				return o
			}()},
		{"text that knows how to be read", sandboxer.Inputs{"max_cost": "0.50 USD", "since": "2026-01-02T03:04:05Z"}, func() (o options) {
			m := mustMoney(t, "0.5 USD")
			o.MaxCost, o.Since = &m, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
			return o
		}()},
		{"anything", sandboxer.Inputs{"anything": []any{json.Number("9007199254740993")}, "free": map[string]any{"x": 1}},
			options{Anything: []any{json.Number("9007199254740993")}, Free: map[string]any{"x": 1}}},
		{"tags", sandboxer.Inputs{"other-name": "x", "omit": "y"}, options{Renamed: "x", Omit: "y"}},
		{"embedded", sandboxer.Inputs{"zone": "a"}, options{embedded: embedded{"a"}}},
		{"embedded by pointer", sandboxer.Inputs{"region": "a"}, options{Shared: &Shared{"a"}}},
	} {
		var got options
		if err := tc.in.Decode(&got); err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if diff := cmp.Diff(tc.want, got, optionsCmp); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
}

func TestInputsDecodeIsStrict(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		in   sandboxer.Inputs
		say  []string
	}{
		{"unknown", sandboxer.Inputs{"rebo": "x"}, []string{`unknown input "rebo"; did you mean "repo"?`}},
		{"wrong case", sandboxer.Inputs{"Repo": "x"}, []string{`unknown input "Repo"; did you mean "repo"?`}},
		{"Go's spelling", sandboxer.Inputs{"SSHTarget": "x"}, []string{`did you mean "ssh_target"?`}},
		{"camel case", sandboxer.Inputs{"httpPort": 1}, []string{`did you mean "http_port"?`}},
		{"hyphens", sandboxer.Inputs{"http-port": 1}, []string{`did you mean "http_port"?`}},
		{"a name with a tag", sandboxer.Inputs{"renamed": "x"}, []string{`unknown input "renamed"`}},
		{"a hidden field", sandboxer.Inputs{"hidden": "x"}, []string{`unknown input "hidden"`}},
		{"a private field", sandboxer.Inputs{"private": "x"}, []string{`unknown input "private"`}},
		{"an embedded struct by name", sandboxer.Inputs{"embedded": map[string]any{"zone": "a"}}, []string{`unknown input "embedded"`}},
		{"an embedded pointer by name", sandboxer.Inputs{"shared": map[string]any{"region": "a"}}, []string{`unknown input "shared"`}},
		{"nested unknown", sandboxer.Inputs{"git": map[string]any{"brunch": "x"}}, []string{`unknown input "git.brunch"; did you mean "branch"?`}},
		{"nested in a list", sandboxer.Inputs{"mounts": []any{map[string]any{"source": 1}}}, []string{`input "mounts[0].source" must be a string, not a number`}},
		{"number for text", sandboxer.Inputs{"repo": 1}, []string{`input "repo" must be a string, not a number`}},
		{"JSON number for text", sandboxer.Inputs{"repo": json.Number("1")}, []string{`input "repo" must be a string, not a number`}},
		{"true for text", sandboxer.Inputs{"repo": true}, []string{`must be a string, not true or false`}},
		{"list for text", sandboxer.Inputs{"repo": []any{"x"}}, []string{`must be a string, not a list`}},
		{"mapping for text", sandboxer.Inputs{"repo": map[string]any{}}, []string{`must be a string, not a mapping`}},
		{"text for number", sandboxer.Inputs{"http_port": "80"}, []string{`input "http_port" must be an integer`, `not a string`}},
		{"fraction", sandboxer.Inputs{"http_port": 1.5}, []string{`must be an integer`}},
		{"JSON fraction", sandboxer.Inputs{"http_port": json.Number("1.0")}, []string{`must be an integer`}},
		{"exponent", sandboxer.Inputs{"http_port": json.Number("1e3")}, []string{`must be an integer`}},
		{"too big for 8 bits", sandboxer.Inputs{"small": 128}, []string{`an integer of 8 bits`}},
		{"too big for 64 bits", sandboxer.Inputs{"count": uint64(1) << 63}, []string{`an integer of 64 bits`}},
		{"JSON too big for 64 bits", sandboxer.Inputs{"count": json.Number("9223372036854775808")}, []string{`an integer of 64 bits`}},
		{"a float beyond exactness", sandboxer.Inputs{"count": float64(1 << 54)}, []string{`an integer of 64 bits`}},
		{"infinite", sandboxer.Inputs{"count": math.Inf(1), "size": math.NaN()}, []string{`"count" must be`, `"size" must be`}},
		{"negative", sandboxer.Inputs{"size": -1}, []string{`that is not negative`}},
		{"number for a duration", sandboxer.Inputs{"wait": 10}, []string{`must be a duration like "10s", not a number`}},
		{"zero for a duration", sandboxer.Inputs{"wait": json.Number("0")}, []string{`must be a duration like "10s", not a number`}},
		{"a duration without a unit", sandboxer.Inputs{"wait": "10"}, []string{`must be a duration like "10s"`}},
		{"a duration for a number", sandboxer.Inputs{"count": time.Second, "ratio": time.Second}, []string{`"count" must be`, `"ratio" must be a number, not a duration`}},
		{"text for true", sandboxer.Inputs{"verbose": "true"}, []string{`must be true or false`}},
		{"number for true", sandboxer.Inputs{"verbose": 1}, []string{`must be true or false`}},
		{"text for a list", sandboxer.Inputs{"tags": "a,b"}, []string{`must be a list, not a string`}},
		{"a wrong item", sandboxer.Inputs{"tags": []any{"a", 2}}, []string{`input "tags[1]" must be a string`}},
		{"a wrong item deep down", sandboxer.Inputs{"matrix": []any{[]any{1, "x"}}}, []string{`input "matrix[0][1]" must be an integer`}},
		{"list for a mapping", sandboxer.Inputs{"env": []any{"A=1"}}, []string{`must be a mapping, not a list`}},
		{"a wrong value", sandboxer.Inputs{"env": map[string]any{"A": 1}}, []string{`input "env.A" must be a string`}},
		{"text for a struct", sandboxer.Inputs{"git": "main"}, []string{`input "git" must be a mapping`}},
		{"numbered keys", sandboxer.Inputs{"env": map[int]string{1: "x"}}, []string{`must be a mapping`}},
		{"text that does not parse", sandboxer.Inputs{"max_cost": "half a dollar"}, []string{`input "max_cost"`, `0.50 USD`}},
		{"a number where text is parsed", sandboxer.Inputs{"max_cost": json.Number("0.5")}, []string{`input "max_cost"`}},
		{"all at once", sandboxer.Inputs{"nope": 1, "repo": 2, "git": map[string]any{"depth": "x", "who": 1}},
			[]string{`"nope"`, `"repo"`, `"git.depth"`, `"git.who"`}},
	} {
		var got options
		err := tc.in.Decode(&got)
		if !errors.Is(err, sandboxer.InvalidArgument) || !sandboxer.IsRefused(err) {
			t.Errorf("%s: got %v, want a refused InvalidArgument", tc.name, err)
			continue
		}
		for _, s := range tc.say {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%s: the message %q does not say %q", tc.name, err, s)
			}
		}
	}
}

// TestInputsDecodeQuotesNoValue: a secret in the wrong place must not reach an error, and so a log.
func TestInputsDecodeQuotesNoValue(t *testing.T) {
	t.Parallel()
	const secret = "hunter2-hunter2"
	for _, key := range []string{"http_port", "count", "size", "ratio", "verbose", "wait", "tags", "env", "git", "mounts", "nope"} {
		var o options
		if err := (sandboxer.Inputs{key: secret}).Decode(&o); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", key, err)
		}
	}
}

func TestInputsDecodeBoundsItsMessages(t *testing.T) {
	t.Parallel()
	var o options
	err := sandboxer.Inputs{strings.Repeat("x", 1<<20): 1}.Decode(&o)
	if err == nil || len(err.Error()) > 2000 {
		t.Errorf("a key of 1 MiB makes a message of %d bytes", len(err.Error()))
	}
}

func TestInputsDecodeKeepsDefaults(t *testing.T) {
	t.Parallel()
	o := options{Repo: "default", HTTPPort: 22, Tags: []string{"default"}}
	o.Git.Branch, o.Git.Depth = "main", 5
	if err := (sandboxer.Inputs{"http_port": 80, "git": map[string]any{"depth": 1}, "repo": nil}).Decode(&o); err != nil {
		t.Fatal(err)
	}
	want := options{Repo: "default", HTTPPort: 80, Tags: []string{"default"}}
	want.Git.Branch, want.Git.Depth = "main", 1
	if diff := cmp.Diff(want, o, optionsCmp); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestInputsDecodeCopies: what an adapter does to the maps and lists that it decoded is not seen in the inputs, which others
// read. It was seen to fail where assignable ones were set by reference.
func TestInputsDecodeCopies(t *testing.T) {
	t.Parallel()
	made := func() sandboxer.Inputs {
		return sandboxer.Inputs{
			"free":     map[string]any{"a": map[string]any{"b": []any{1}}, "null": nil},
			"env":      map[string]string{"k": "v"},
			"tags":     []string{"x"},
			"matrix":   [][]int{{1}},
			"anything": []any{map[string]any{"c": []string{"d"}}, nil},
			"limits":   map[string]int64(nil),
		}
	}
	in := made()
	var got options
	if err := in.Decode(&got); err != nil {
		t.Fatal(err)
	}
	want := options{
		Free: map[string]any{"a": map[string]any{"b": []any{1}}, "null": nil}, Env: map[string]string{"k": "v"}, Tags: []string{"x"},
		Matrix: [][]int{{1}}, Anything: []any{map[string]any{"c": []string{"d"}}, nil},
	}
	if diff := cmp.Diff(want, got, optionsCmp); diff != "" {
		t.Errorf("decoded (-want +got):\n%s", diff)
	}
	inner := got.Free["a"].(map[string]any)
	inner["b"].([]any)[0] = "mine"
	inner["more"], got.Free["more"], got.Env["k"], got.Tags[0], got.Matrix[0][0] = true, true, "mine", "mine", 9
	first := got.Anything.([]any)[0].(map[string]any)
	first["c"].([]string)[0] = "mine"
	first["more"], got.Anything.([]any)[1] = true, true
	if diff := cmp.Diff(made(), in); diff != "" {
		t.Errorf("the inputs changed with what was decoded (-made +now):\n%s", diff)
	}
}

func TestInputsDecodeNeedsAPointerToAStruct(t *testing.T) {
	t.Parallel()
	var nilPointer *options
	for _, into := range []any{nil, options{}, nilPointer, new(int), map[string]any{}} {
		if err := (sandboxer.Inputs{}).Decode(into); !errors.Is(err, sandboxer.Internal) {
			t.Errorf("Decode(%T) = %v, want Internal: it is the adapter's defect", into, err)
		}
	}
	var unfit struct {
		F func()
		C chan int
	}
	if err := (sandboxer.Inputs{"f": "x", "c": 1}).Decode(&unfit); err == nil {
		t.Error("Decode filled a func and a chan")
	}
}

func TestInputsThroughJSON(t *testing.T) {
	t.Parallel()
	var in sandboxer.Inputs
	if err := json.Unmarshal([]byte(`{"count": 9007199254740993, "limits": {"a": 9223372036854775807}, "repo": "x"}`), &in); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(`{"count":9007199254740993,"limits":{"a":9223372036854775807},"repo":"x"}`, string(out)); diff != "" {
		t.Error(diff)
	}
	var o options
	if err := in.Decode(&o); err != nil || o.Count != 9007199254740993 || o.Limits["a"] != math.MaxInt64 {
		t.Errorf("Decode after JSON = %+v, %v", o, err)
	}
	if err := json.Unmarshal([]byte(`[]`), &in); err == nil {
		t.Error("a list was read as inputs")
	}
}

// TestDidYouMean: a word is suggested where it is a slip away, and not because a beginning that all of them have makes it
// look near; profile.gpu was once taken for profile.e2b, and tag for ttl. Otherwise all words are shown, up to 16 of them.
func TestDidYouMean(t *testing.T) {
	t.Parallel()
	few := strings.Split("alpha bravo charlie delta echo foxtrot golf hotel india juliett kilo lima mike november oscar papa", " ")
	many := append([]string{"quebec"}, few...)
	profiles := []string{"profile.e2b", "profile.go-build"}
	for _, tc := range []struct {
		got   string
		valid []string
		want  string
	}{
		{"rpeo", []string{"image", "repo"}, `; did you mean "repo"?`},
		{"REPO", []string{"image", "repo"}, `; did you mean "repo"?`},
		{"repository", []string{"image", "repo"}, `; valid: image, repo`},
		{"x", []string{"vm"}, `; valid: vm`},
		{"x", nil, `; none is taken`},
		{"tag", []string{"ttl"}, `; valid: ttl`},
		{"tlt", []string{"ttl"}, `; did you mean "ttl"?`},
		{"lt", []string{"ttl"}, `; valid: ttl`},
		{"trust", []string{"strict", "trusted"}, `; did you mean "trusted"?`},
		{"templtae", []string{"timeout", "template"}, `; did you mean "template"?`},
		{"profile.gpu", profiles, `; valid: profile.e2b, profile.go-build`},
		{"profile.vm", profiles, `; valid: profile.e2b, profile.go-build`},
		{"profile.e2", profiles, `; did you mean "profile.e2b"?`},
		{"profile.gobuild", profiles, `; did you mean "profile.go-build"?`},
		{"profil.go-build", profiles, `; did you mean "profile.go-build"?`},
		{"profile.", profiles, `; valid: profile.e2b, profile.go-build`},
		{"zulu-zulu", few, `; valid: ` + strings.Join(few, ", ")},
		{"zulu-zulu", many, ``},
		{strings.Repeat("x", 1000), many, ``},
		{"", []string{"a"}, `; valid: a`},
	} {
		if got := sandboxer.DidYouMean(tc.got, tc.valid); got != tc.want {
			t.Errorf("DidYouMean(%.20q, %q) = %q, want %q", tc.got, tc.valid, got, tc.want)
		}
	}
}

func FuzzInputsDecode(f *testing.F) {
	f.Add([]byte(`{"repo":"x","http_port":80,"wait":"10s","git":{"auth":{"key":"env:K"}},"mounts":[{"source":"a"}],"max_cost":"1 USD"}`))
	f.Add([]byte(`{"Repo":1,"matrix":[[1,"x"],null,[2.5]],"free":{"a":{"b":[]}},"limits":{"":-1}}`))
	f.Add([]byte(`{"since":"2026-01-02T03:04:05Z","size":18446744073709551616,"third":1e300,"":null}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var in sandboxer.Inputs
		if json.Unmarshal(text, &in) != nil {
			return
		}
		before, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		var a, b options
		errA, errB := in.Decode(&a), in.Decode(&b)
		if errA != nil && !errors.Is(errA, sandboxer.InvalidArgument) {
			t.Fatalf("%s: %v", text, errA)
		}
		if (errA == nil) != (errB == nil) || (errA != nil && errA.Error() != errB.Error()) {
			t.Fatalf("%s: decoding twice gave %v and %v", text, errA, errB)
		}
		if diff := cmp.Diff(a, b, optionsCmp); errA == nil && diff != "" {
			t.Fatalf("%s: decoding twice gave (-first +second)\n%s", text, diff)
		}
		if after, err := json.Marshal(in); err != nil || string(after) != string(before) {
			t.Fatalf("decoding changed the inputs from %s to %s", before, after)
		}
	})
}
