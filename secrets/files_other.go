//go:build !unix

package secrets

import "io/fs"

const openNonblock = 0

// filePrivacy cannot tell from mode bits what an access list says.
func filePrivacy(fs.FileInfo) string { return "" }
