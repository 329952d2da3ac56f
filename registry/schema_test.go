package registry_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"

	"github.com/sand-boxer/sandboxer/registry"
)

const schemaDir = "../docs/schema"

// TestSchemas: the files are what follows from the decoder.
func TestSchemas(t *testing.T) {
	for name, schema := range registry.Schemas() {
		var out bytes.Buffer
		enc := json.NewEncoder(&out)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		if err := enc.Encode(schema); err != nil {
			t.Fatal(err)
		}
		golden(t, filepath.Join(schemaDir, name+".schema.json"), out.String())
	}
}

// compiled returns the schema of docs/schema called name.
func compiled(t testing.TB, name string) *jsonschema.Schema {
	t.Helper()
	s, err := jsonschema.NewCompiler().Compile(filepath.Join(schemaDir, name+".schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// validate checks a YAML document against a schema, as an editor does.
func validate(s *jsonschema.Schema, doc []byte) error {
	var root yaml.Node
	if err := yaml.Unmarshal(doc, &root); err != nil {
		return err
	}
	plain(&root, map[*yaml.Node]bool{})
	var v any
	if err := root.Decode(&v); err != nil {
		return err
	}
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	return s.Validate(instance)
}

// plain turns dates into strings: YAML 1.2, which editors follow, knows none.
func plain(n *yaml.Node, seen map[*yaml.Node]bool) {
	if n == nil || seen[n] {
		return
	}
	seen[n] = true
	if n.Tag == "!!timestamp" {
		n.Tag = "!!str"
	}
	for _, child := range n.Content {
		plain(child, seen)
	}
}

// documents yields the YAML documents below a directory of testdata.
func documents(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	found := map[string][]byte{}
	err := filepath.WalkDir(filepath.Join(manifests, dir), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, ".yaml") {
			found[filepath.ToSlash(path)], err = os.ReadFile(path)
		}
		return err
	})
	if err != nil || len(found) == 0 {
		t.Fatalf("documents in %s: %d, %v", dir, len(found), err)
	}
	return found
}

func schemaOf(path string) string {
	if strings.HasPrefix(filepath.Base(path), "profile.") {
		return "profile"
	}
	return "manifest"
}

// TestSchemasAccept: what the registry accepts, an editor does.
func TestSchemasAccept(t *testing.T) {
	schemas := map[string]*jsonschema.Schema{"profile": compiled(t, "profile"), "manifest": compiled(t, "manifest")}
	for path, doc := range documents(t, "valid") {
		if err := validate(schemas[schemaOf(path)], doc); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	catalogue := compiled(t, "catalogue")
	for _, dir := range cases(t, "valid") {
		text, err := os.ReadFile(filepath.Join(dir, "catalogue.json"))
		if err != nil {
			t.Fatal(err)
		}
		instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := catalogue.Validate(instance); err != nil {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

// TestSchemasRefuse: what is wrong with one document by itself, an editor marks too. The cases left out are wrong in ways
// that a schema cannot see: other documents, the file's name, secrets, YAML syntax.
func TestSchemasRefuse(t *testing.T) {
	schemas := map[string]*jsonschema.Schema{"profile": compiled(t, "profile"), "manifest": compiled(t, "manifest")}
	right := map[string]bool{ // here the registry has something to say that a schema cannot
		manifests + "/invalid/numbers/extensions/ext.my-backend.yaml": true,
	}
	for _, kind := range []string{"unknown-keys", "missing-keys", "empty-values", "wrong-types", "unknown-words", "numbers"} {
		for path, doc := range documents(t, "invalid/"+kind) {
			if right[path] {
				continue
			}
			if err := validate(schemas[schemaOf(path)], doc); err == nil {
				t.Errorf("%s: the schema accepts what the registry refuses", path)
			}
		}
	}
	catalogue := compiled(t, "catalogue")
	for _, broken := range []string{
		`{}`,
		`{"format": 2, "extensions": [], "profiles": []}`,
		`{"format": 1, "extensions": [], "profiles": [], "more": 1}`,
		`{"format": 1, "extensions": [{"id": "ext.a"}], "profiles": []}`,
		`{"format": 1, "extensions": [], "profiles": [{"id": "profile.a", "extension": "ext.a", "preset": [], "missing": [], "isolation": "docker"}]}`,
	} {
		instance, err := jsonschema.UnmarshalJSON(strings.NewReader(broken))
		if err != nil {
			t.Fatal(err)
		}
		if err := catalogue.Validate(instance); err == nil {
			t.Errorf("the schema accepts %s", broken)
		}
	}
}

// TestSchemasAgree: an editor and the registry say the same of every way to write a value. The schemas once took numbers,
// titles, label keys and durations of 0 that the registry refuses.
func TestSchemasAgree(t *testing.T) {
	t.Parallel()
	schema := compiled(t, "profile")
	for line, want := range map[string]bool{
		"resources: {cpu: 1e3, memory: 4e9, disk: +4294967296}":        true, // JSON, and so the editor, knows values only
		"resources: {cpu: .5, memory: 4294967296.0, disk: 0x40000000}": true,
		"resources: {cpu: 1., memory: 0, disk: 0.0, gpus: 1.0}":        true,
		"resources: {cpu: +2, gpus: +1}":                               true,
		"resources: {cpu: 0o17, gpus: 1e1}":                            true,
		"ports: [8e1, 443.0]":                                          true,
		"resources: {cpu: -.5}":                                        false,
		"resources: {cpu: .inf}":                                       false,
		"resources: {cpu: .nan}":                                       false,
		"resources: {cpu: '1e3'}":                                      false,
		"resources: {memory: 1024}":                                    false,
		"resources: {memory: 1e3}":                                     false,
		"resources: {memory: -4294967296}":                             false,
		"resources: {disk: 4294967296.5}":                              false,
		"resources: {gpus: 1.5}":                                       false,
		"resources: {gpus: 1e9}":                                       false,
		"ports: [80.5]":                                                false,
		"ttl: 1h":                                                      true,
		"ttl: 0h0.5s":                                                  true,
		"ttl: none":                                                    true,
		"ttl: 0s":                                                      false,
		"ttl: 0h0.0m":                                                  false,
		"ttl: 0none":                                                   false,
		"ready_timeout: 10s":                                           true,
		"ready_timeout: 0s":                                            false,
		"ready_timeout: none":                                          false,
		"burst: {to: [profile.b], within: 0m}":                         false,
		`title: "a é\u2028"`:                                           true,
		`title: "a\nb"`:                                                false,
		`title: "a\n"`:                                                 false,
		`title: "a\x85"`:                                               false,
		`title: "a\x7f"`:                                               false,
		"labels: {a.b/c_d-e: f, A: '', '1': x}":                        true,
		"labels: {sandboxer: x}":                                       true,
		"labels: {sandboxer-x: y}":                                     false,
		"labels: {-a: y}":                                              false,
		"labels: {'': y}":                                              false,
		"labels: {a b: y}":                                             false,
		"labels: {" + strings.Repeat("a", 64) + ": y}":                 false,
		`labels: {a: "b\tc"}`:                                          false,
		"labels: {a: " + strings.Repeat("a", 257) + "}":                false,
		"host_selector: {sandboxer-x: y}":                              false,
		"host_selector: {arch: amd64}":                                 true,
		"burst: {to: [{profile: profile.b, inputs: {a b: c}}]}":        false,
		"burst: {to: [{profile: profile.b, inputs: {a: b c}}]}":        false,
		"burst: {to: [{profile: profile.b, inputs: {a: c.d}}]}":        true,
	} {
		doc := "id: profile.a\nextension: ext.a\n" + line + "\n"
		_, err := registry.New(adapters(), yamlDoc("m", ext("ext.a", "")), yamlDoc("b", "id: profile.b\nextension: ext.a\n"), yamlDoc("a", doc))
		if (err == nil) != want {
			t.Errorf("%s: the registry says %v, want accepted %v", line, err, want)
		}
		if err := validate(schema, []byte(doc)); (err == nil) != want {
			t.Errorf("%s: the schema says %v, want accepted %v", line, err, want)
		}
	}
}
