package boltstore

import bolt "go.etcd.io/bbolt"

// A file's new pages are written into blocks that the file has already: a sync of such is two to three times as fast as one
// that makes the file system give it blocks first. So zeros are written behind the last page, much at once and rarely.
const (
	aheadChunk  = 1 << 20
	aheadMargin = 256 << 10
)

var zeros [aheadChunk]byte

// ahead makes sure that there are blocks behind the pages that the transaction has so far. Nothing lies there: what is
// allocated next is written after it, and what is not allocated is never read. It is only for speed, so that a failure is none.
func (s *Store) ahead(tx *bolt.Tx) {
	end := tx.Size()
	if s.filled-end >= aheadMargin {
		return
	}
	from := max(s.filled, end)
	if _, err := s.file.WriteAt(zeros[:], from); err != nil {
		s.filled = from // tried again when more has been allocated
		return
	}
	s.filled = from + aheadChunk
}
