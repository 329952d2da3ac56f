package store

import (
	"slices"
	"sort"
)

// chunkLen bounds what one insertion has to move.
const chunkLen = 512

// idSet is a sorted set of IDs in chunks: close to a plain slice in memory, and as quick to append to, which is what
// IDs that sort by time do.
type idSet struct{ chunks [][]string }

// find returns where id is, or where it belongs.
func (s *idSet) find(id string) (chunk, at int, found bool) {
	chunk = sort.Search(len(s.chunks), func(i int) bool { c := s.chunks[i]; return c[len(c)-1] >= id })
	if chunk == len(s.chunks) {
		return chunk, 0, false
	}
	at, found = slices.BinarySearch(s.chunks[chunk], id)
	return chunk, at, found
}

func (s *idSet) insert(id string) {
	chunk, at, found := s.find(id)
	if found {
		return
	}
	if chunk == len(s.chunks) { // behind everything
		if chunk > 0 && len(s.chunks[chunk-1]) < chunkLen {
			s.chunks[chunk-1] = append(s.chunks[chunk-1], id)
			return
		}
		s.chunks = append(s.chunks, []string{id})
		return
	}
	c := slices.Insert(s.chunks[chunk], at, id)
	if len(c) > chunkLen {
		s.chunks = slices.Insert(s.chunks, chunk+1, slices.Clone(c[len(c)/2:]))
		c = slices.Clip(c[:len(c)/2])
	}
	s.chunks[chunk] = c
}

func (s *idSet) remove(id string) {
	chunk, at, found := s.find(id)
	if !found {
		return
	}
	if c := slices.Delete(s.chunks[chunk], at, at+1); len(c) > 0 {
		s.chunks[chunk] = c
		return
	}
	s.chunks = slices.Delete(s.chunks, chunk, chunk+1)
}

// ascend calls f with the IDs from start on, until f returns false.
func (s *idSet) ascend(start string, f func(id string) bool) {
	if s == nil {
		return
	}
	chunk, at, _ := s.find(start)
	for ; chunk < len(s.chunks); chunk, at = chunk+1, 0 {
		for _, id := range s.chunks[chunk][at:] {
			if !f(id) {
				return
			}
		}
	}
}
