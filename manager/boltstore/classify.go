package boltstore

import (
	"errors"
	"io/fs"

	"github.com/sand-boxer/sandboxer"
)

// classify gives an error of the file system its code.
func classify(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return sandboxer.Refused(sandboxer.PermissionDenied, err)
	case errors.Is(err, fs.ErrNotExist):
		return sandboxer.Refused(sandboxer.NotFound, err)
	case isDiskFull(err):
		return sandboxer.Refused(sandboxer.Unavailable, err)
	}
	return sandboxer.Mark(sandboxer.Unavailable, err)
}
