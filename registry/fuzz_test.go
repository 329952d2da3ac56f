package registry_test

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/registry"
)

// FuzzManifest: no document breaks the decoder; what it accepts, the schema accepts, and the catalogue shows it; what it
// refuses has a place.
func FuzzManifest(f *testing.F) { fuzzDocuments(f, "manifest", adapters()) }

// FuzzProfile is FuzzManifest for profiles, beside the extensions that they name.
func FuzzProfile(f *testing.F) {
	beside := []registry.Option{adapters()}
	for path, doc := range documents(f, "valid/full") {
		if schemaOf(path) == "manifest" {
			beside = append(beside, registry.WithYAML(path, doc))
		}
	}
	fuzzDocuments(f, "profile", beside...)
}

func fuzzDocuments(f *testing.F, kind string, beside ...registry.Option) {
	for _, dir := range []string{"valid", "invalid"} {
		for path, doc := range documents(f, dir) {
			if schemaOf(path) == kind {
				f.Add(doc)
			}
		}
	}
	f.Add([]byte(bomb(9)))
	schemas := map[string]*jsonschema.Schema{}
	for name := range registry.Schemas() {
		schemas[name] = compiled(f, name)
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		reg, err := registry.New(append(slices.Clip(beside), registry.WithYAML("fuzzed", doc))...)
		if err != nil {
			checkRefusal(t, err)
			return
		}
		schema := "manifest"
		for range reg.Profiles() {
			schema = "profile"
		}
		if err := validate(schemas[schema], bytes.TrimPrefix(doc, []byte("\xef\xbb\xbf"))); err != nil {
			t.Errorf("the registry accepts what the schema refuses: %v", err)
		}
		var out bytes.Buffer
		if err := reg.WriteCatalogue(&out); err != nil {
			t.Fatal(err)
		}
		instance, err := jsonschema.UnmarshalJSON(&out)
		if err != nil {
			t.Fatal(err)
		}
		if err := schemas["catalogue"].Validate(instance); err != nil {
			t.Errorf("the catalogue does not fit its schema: %v", err)
		}
	})
}

var placed = regexp.MustCompile(`^(\S+\.yaml|fuzzed)(:[1-9][0-9]*:[1-9][0-9]*: \S|: and [0-9]+ more problems$)`)

// checkRefusal checks that each line of an error is one problem with its place.
func checkRefusal(t *testing.T, err error) {
	t.Helper()
	if sandboxer.CodeOf(err) != sandboxer.InvalidArgument {
		t.Fatalf("got %v, want InvalidArgument", err)
	}
	for _, line := range strings.Split(err.Error(), "\n")[1:] {
		if !placed.MatchString(line) {
			t.Errorf("no place in %q", line)
		}
	}
}

// FuzzHandler: what is accepted is a plain name, and stays the same when read again.
func FuzzHandler(f *testing.F) {
	for _, s := range []string{"my-backend", "sandboxer.extensions.my_backend:MyExtension", "sandboxer.extensions._a:B", "a--b", "", "A", "a:b"} {
		f.Add(s)
	}
	plain := regexp.MustCompile(`\A[a-z0-9]+(-[a-z0-9]+)*\z`)
	f.Fuzz(func(t *testing.T, s string) {
		name, err := registry.HandlerName(s)
		if err != nil {
			return
		}
		if !plain.MatchString(name) {
			t.Errorf("%q became %q", s, name)
		}
		if again, err := registry.HandlerName(name); err != nil || again != name {
			t.Errorf("%q became %q, then %q, %v", s, name, again, err)
		}
	})
}

// FuzzQuantities: no parser breaks, rounds or goes below 0.
func FuzzQuantities(f *testing.F) {
	for _, s := range []string{"2", "500m", "1.5", "4Gi", "512Mi", "10G", "1073741824", "9223372036854775807", "9223372036854775808", "8Pi", "45m", "1h30m", "none", "0.50 USD", "1e9", "0x10", "-1", "9223372036.854775807 USD", "2562047h47m16.854775807s", "2562048h"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := registry.ParseCPU(s); err == nil && n < 0 {
			t.Errorf("cpu %q is %d", s, n)
		}
		if n, err := registry.ParseBytes(s); err == nil && (n < 0 || n > 0 && n < 1<<20) {
			t.Errorf("bytes %q is %d", s, n)
		}
		if d, err := registry.ParseDuration(s); err == nil && d <= 0 {
			t.Errorf("duration %q is %d", s, d)
		}
		if d, err := registry.ParseTTL(s); err == nil && d <= 0 && (s != "none" || d != sandboxer.NoTTL) {
			t.Errorf("ttl %q is %d", s, d)
		}
		if m, err := registry.ParseMoney(s); err == nil && m.Nanos() < 0 {
			t.Errorf("money %q is %v", s, m)
		}
	})
}
