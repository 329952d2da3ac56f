package secrets

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/sand-boxer/sandboxer"
)

// maxKeyFile bounds what is read; the longest private keys are far below.
const maxKeyFile = 64 << 10

// Files reads the platform's keys from files: "file:/etc/sandboxer/e2b.key", an absolute path. The file is read at each
// use, so that replacing it rotates the key. It must be a regular file of at most 64 KiB that belongs to the user of this
// process or to root and that nobody else can read or write (chmod 600); on Windows its access list is the user's own
// affair. Versions are as in [Env].
func Files(opts ...Option) sandboxer.SecretSource {
	v := newVersions(opts)
	return platform{read: func(ctx context.Context, ref sandboxer.SecretRef) (sandboxer.Secret, error) {
		if err := ctxErr(ctx); err != nil {
			return sandboxer.Secret{}, err
		}
		path, ok := strings.CutPrefix(string(ref), "file:")
		if !ok || !filepath.IsAbs(path) {
			return sandboxer.Secret{}, otherKind(ref, "files serve references such as file:/etc/sandboxer/e2b.key, with an absolute path")
		}
		value, err := readKeyFile(path, os.OpenFile)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return sandboxer.Secret{}, missing(ref, "", "create the file with the key in it, and chmod 600 it")
		case err != nil:
			return sandboxer.Secret{}, sandboxer.Refused(sandboxer.Unauthenticated, err)
		case len(value) == 0:
			return sandboxer.Secret{}, missing(ref, "", "the file is empty; write the key into it")
		}
		return v.secret(value), nil
	}}
}

// readKeyFile reads path through open, which is os.OpenFile or an os.Root's. What is checked is the opened file, so that
// nothing can be put in its place between.
func readKeyFile(path string, open func(string, int, fs.FileMode) (*os.File, error)) ([]byte, error) {
	f, err := open(path, os.O_RDONLY|openNonblock, 0)
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("key file %s is not a regular file", path)
	}
	if why := filePrivacy(info); why != "" {
		return nil, fmt.Errorf("key file %s %s", path, why)
	}
	value, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	if len(value) > maxKeyFile {
		return nil, fmt.Errorf("key file %s is larger than 64 KiB: that is no key", path)
	}
	return []byte(strings.Trim(string(value), "\r\n")), nil
}
