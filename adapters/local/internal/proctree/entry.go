//go:build linux || darwin

package proctree

import "bytes"

// hasEntry looks for one whole entry in a list of strings that NUL ends.
func hasEntry(environ []byte, marker string) bool {
	for entry := range bytes.SplitSeq(environ, []byte{0}) {
		if string(entry) == marker {
			return true
		}
	}
	return false
}
