package registry_test

import (
	"fmt"
	"testing"
	"testing/fstest"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/registry"
)

// BenchmarkNew reads 200 profiles and ten manifests.
func BenchmarkNew(b *testing.B) {
	files := fstest.MapFS{}
	for i := range 10 {
		id := fmt.Sprintf("ext.backend-%d", i)
		files["extensions/"+id+".yaml"] = &fstest.MapFile{Data: []byte(ext(id, "inputs: {optional: [repo]}\nconfig: {a: 1, b: [x, y]}\n"))}
	}
	for i := range 200 {
		id := fmt.Sprintf("profile.p%d", i)
		burst := ""
		if i > 0 {
			burst = fmt.Sprintf("burst:\n  to: [profile.p%d]\n  within: 30s\n", i-1)
		}
		files["profiles/"+id+".yaml"] = &fstest.MapFile{Data: []byte(fmt.Sprintf("id: %s\nextension: ext.backend-%d\n", id, i%10) +
			"isolation: container\ninputs: {repo: https://example.com/r.git}\nresources: {cpu: 500m, memory: 4Gi}\nttl: 45m\nports: [80, 443]\nlabels: {team: build}\n" + burst)}
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := registry.New(adapters(), registry.WithFS(files)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkResolve is what every create pays.
func BenchmarkResolve(b *testing.B) {
	reg := mustNew(b, adapters(), yamlDoc("m", ext("ext.a", "inputs: {required: [repo], optional: [branch]}\n")), yamlDoc("p", "id: profile.a\nextension: ext.a\ninputs: {branch: main}\n"))
	in := sandboxer.Inputs{"repo": "https://example.com/r.git"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := reg.Resolve("profile.a", in); err != nil {
			b.Fatal(err)
		}
	}
}
