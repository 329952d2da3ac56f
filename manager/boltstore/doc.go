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
// A commit that returned without an error is there after any crash of the process or the system, whatever became of writes
// that were not yet synced, unless the file is damaged besides: see below. A commit that was under way then is there as a
// whole or not at all.
//
// Open reads the whole file and compares every page, record and index entry with its checksum, its place and the totals
// that the last commit wrote; every later read checks the record's checksum again. What is damaged is named, and repaired
// where nothing can be lost (the tag index, a flipped bit in a root page); otherwise Open refuses the file, which then has
// to be restored from a copy: see [Store.Backup]. The check takes 1 to 3 seconds for a million records in the system's
// cache (measured in 2026 on two cores); an open store keeps next to nothing on the heap.
//
// A commit writes its pages and its root page and syncs once. After a crash of the system Open can find that the last
// commit did not reach the disk as a whole; then nobody was told that it is done, so it is undone, and that is logged. Within
// one run of the system, and after Close, an incomplete commit cannot come about so, and is refused as damage. Where runs
// of the system cannot be told apart (all but Linux and macOS), pages are synced before the root page is written.
//
// When the disk is full the commit fails and nothing of it is applied; the store goes on once there is room. When the
// disk reports an error, or a sync fails, the store refuses everything until it is opened again, because after a failed
// sync nobody can know what the disk holds.
//
// # What is not
//
// Damage done to just the pages of the last commit, found after a crash of the system that came before the next commit,
// cannot be told from a commit that was under way, and undoes it, although it had returned: the warning in the log says that
// it may be so. A file that is changed by others while it
// is open is an error where it is noticed, at the latest when it is opened again. NFS and other file systems whose sync
// or locks do not hold what they promise are not for this.
package boltstore
