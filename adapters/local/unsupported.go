//go:build !linux && !darwin

package local

import (
	"fmt"
	"runtime"

	"github.com/sand-boxer/sandboxer"
)

func newExtension(s sandboxer.Settings, _ config) (sandboxer.Extension, error) {
	return nil, sandboxer.Refused(sandboxer.Unsupported, fmt.Errorf("%s: the local adapter works on Linux and macOS, not on %s; use a profile of another extension", s.ExtensionID, runtime.GOOS))
}
