// Package all lists every adapter of this module, for host applications that leave the choice to their manifests.
package all

import (
	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/composessh"
	"github.com/sand-boxer/sandboxer/adapters/e2b"
	"github.com/sand-boxer/sandboxer/adapters/local"
	"github.com/sand-boxer/sandboxer/adapters/saasstub"
)

// Adapters returns every adapter of this module. Cloud adapters that are modules of their own, because they bring large
// client libraries, are not among them. The fake is not either: it is for tests.
func Adapters() []sandboxer.Adapter {
	return []sandboxer.Adapter{composessh.Adapter(), e2b.Adapter(), local.Adapter(), saasstub.Adapter()}
}
