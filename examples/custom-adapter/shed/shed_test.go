package shed_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/adaptertest"

	"example.com/custom-adapter/shed"
)

func TestConformance(t *testing.T) {
	dir := t.TempDir()
	adaptertest.Run(t, adaptertest.Config{
		Adapter: func(testing.TB) sandboxer.Adapter {
			a := shed.Adapter()
			a.Manifest = fmt.Appendf(a.Manifest, "config:\n  dir: %q\n", dir)
			return a
		},
		Profile: func(testing.TB) sandboxer.Profile {
			return sandboxer.Profile{ID: "profile.box", Extension: "ext.shed"}
		},
		Live: func(t testing.TB) (names []string) {
			boxes, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range boxes {
				names = append(names, b.Name())
			}
			return names
		},
		Bad: []sandboxer.Inputs{{"colour": "red"}},
	})
}
