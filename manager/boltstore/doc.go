// Package boltstore is the durable, embedded [store.Store]: one file, no server. A host application opens one and hands
// it to manager.Config:
//
//	st, err := boltstore.Open(ctx, "sandboxes.db")
//	if err != nil {
//		return err
//	}
//	defer st.Close()
//
// One process uses a file at a time; a second one is told who holds it. One goroutine commits, and folds all commits that
// wait into one transaction, so that many callers share one wait for the disk.
//
// # What is promised
//
// A commit that returned without an error is there after any crash, whatever the crash did to writes that were not yet
// synced. Open reads the whole file and compares every page, record and index entry with its checksum, its place and the
// totals that the last commit wrote; every later read checks the record's checksum again. What is damaged is named, and
// repaired where nothing can be lost (the tag index, a flipped bit in a root page); otherwise Open refuses the file. That
// takes 1 to 3 seconds for a million records in the system's cache (measured in 2026 on two cores); an open store keeps
// next to nothing on the heap. A commit that the end of the system tore while it was written is undone, and that is logged.
//
// When the disk is full the commit fails and nothing of it is applied; the store goes on once there is room. When the
// disk reports an error, or a sync fails, the store refuses everything until it is opened again, because after a failed
// sync nobody can know what the disk holds.
package boltstore
