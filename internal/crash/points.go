package crash

// Commits are the names of the store commits of a Manager, Calls those of its calls of an extension, Deliveries those of
// the metering outbox. Each has a point before and a point after it: "commit/C1/before".
func Commits() []string {
	return []string{
		"C1", "A", "U", "checkpoint", "C2", "T1", "T2", "O", "pausing", "pause", "resuming", "resumed", "looked", "extending", "extend",
		"snapshot-intent", "snapshot-ready", "snapshot-deleting", "snapshot-orphan", "snapshot-gone", "snapshot-metered", "import-intent",
		"purge",
	}
}

// Deliveries names what happens to the outbox.
func Deliveries() []string { return []string{"export", "remove"} }
