// Package archive packs trees into tar streams and extracts tar streams that nobody vouches for. The Manager uses it for
// copies from and to the caller's disk, adapters for copies and snapshots of what they can reach as files.
//
// A stream is PAX: names of any bytes and any length, up to 1000 directories deep, modes, modification times in nanoseconds,
// symbolic links as links, empty directories. Owners, access times, extended attributes and holes are not kept, and a hard link arrives as a second
// file. The same tree always gives the same bytes.
//
// Extraction goes through an [os.Root], so that nothing outside of it is ever written, and goes through no symbolic link at
// all, so that a link in the stream cannot redirect what follows it.
package archive

// Summary counts what a call packed or extracted.
type Summary struct {
	Entries int64    // files, directories and links
	Bytes   int64    // contents of files, without headers
	Skipped []string // packing only: sockets, devices and named pipes that were left out, by name
}
