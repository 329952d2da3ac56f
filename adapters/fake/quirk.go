package fake

import "maps"

// Quirk is one broken rule of the contract. Quirks exist to test test suites: a suite that passes on a backend with a
// quirk does not check that rule.
type Quirk string

// The quirks.
const (
	CreatesTwice         Quirk = "Provision under a name that exists makes a second sandbox"
	ForgetsName          Quirk = "Provision under a name that exists returns another handle"
	StealsForeign        Quirk = "Provision takes over a sandbox of another owner"
	BadInputsCreate      Quirk = "bad inputs are noticed after the sandbox was made"
	AcceptsBadInputs     Quirk = "unknown inputs are taken without a word"
	ReadyTooEarly        Quirk = "WaitReady returns before the sandbox is usable"
	ReadyOnce            Quirk = "a second WaitReady fails"
	TeardownLies         Quirk = "Teardown reports success and removes nothing"
	TeardownOnce         Quirk = "tearing down what is gone fails"
	TeardownNeedsState   Quirk = "Teardown of a handle without state fails"
	TeardownForeign      Quirk = "Teardown removes a sandbox of another owner"
	TeardownLeavesQuiet  Quirk = "Teardown lists something as left and reports success"
	HandleNeedsInstance  Quirk = "a handle works only with the adapter instance that made it"
	FindCreates          Quirk = "Find makes what it does not find"
	FindForeign          Quirk = "Find returns a sandbox of another owner"
	FindMisses           Quirk = "Find does not find what exists"
	ListsForeign         Quirk = "List yields sandboxes without our labels as ours"
	ListMisses           Quirk = "List leaves out a sandbox"
	ListDropsLabels      Quirk = "List yields sandboxes without their labels"
	InspectLies          Quirk = "Inspect says that a live sandbox is gone"
	InspectNeverGone     Quirk = "Inspect shows a sandbox that is gone"
	InspectWrongState    Quirk = "Inspect shows a paused sandbox as ready"
	ExtendShortens       Quirk = "Extend to an earlier end shortens the lifetime"
	ExtendLies           Quirk = "Extend reports an end that it did not set"
	IgnoresExpiry        Quirk = "the end that Provision was asked for is set too early"
	PauseTwiceFails      Quirk = "pausing a paused sandbox fails"
	PauseLosesFiles      Quirk = "the files are gone after Pause and Resume"
	ExecLosesTail        Quirk = "the last bytes of an output are lost"
	ExecMergesStreams    Quirk = "standard error arrives on standard output"
	ExecReorders         Quirk = "output arrives in another order"
	ExecLosesExitCode    Quirk = "every exit code is 0"
	ExecExitIsError      Quirk = "an exit code other than 0 is an error"
	ExecIgnoresTimeout   Quirk = "ExecRequest.Timeout has no effect"
	ExecIgnoresDir       Quirk = "ExecRequest.Dir has no effect"
	ExecIgnoresEnv       Quirk = "ExecRequest.Env has no effect"
	ExecIgnoresStdin     Quirk = "standard input is empty"
	ExecWaitsForStdin    Quirk = "Exec returns only after a blocked Stdin has ended"
	ExecWaitsForChildren Quirk = "Exec waits for background children"
	ExecKillsChildren    Quirk = "background children die when their command exits"
	ExecJoinsArgs        Quirk = "arguments are joined with spaces and split again"
	ExecMangles          Quirk = "output that is not valid UTF-8 is replaced"
	ExecIgnoresWriteErr  Quirk = "a writer that fails does not end Exec"
	ExecLeavesProcess    Quirk = "a cancelled command runs on"
	CopyDropsModes       Quirk = "copies lose modes"
	CopyDropsTimes       Quirk = "copies lose modification times"
	CopyDropsEmpty       Quirk = "copies lose empty directories"
	CopyFollowsLinks     Quirk = "copies replace links by what they point to, and write through links"
	CopyCutsBinary       Quirk = "files end at their first NUL byte"
	CopyOtherWorld       Quirk = "Exec and the copies see different files"
	CopyNeedsDir         Quirk = "CopyIn does not make its destination"
	SyncKeepsExtra       Quirk = "Sync removes nothing"
	SyncReadsAll         Quirk = "Sync reads and sends what is equal"
	SyncFollowsLinks     Quirk = "Sync writes through links of its destination"
	SyncNeedsDir         Quirk = "Sync does not make its destination"
	DialAnything         Quirk = "Dial to a port where nobody listens succeeds"
	SnapshotForgotten    Quirk = "Snapshot again under the same ID makes a second snapshot"
	SnapshotLosesFiles   Quirk = "a restored sandbox lacks a file"
	SnapshotsUnlisted    Quirk = "ListSnapshots yields nothing"
	SnapshotDeleteLies   Quirk = "DeleteSnapshot reports success and deletes nothing"
	SnapshotDeleteOnce   Quirk = "deleting a snapshot that is gone fails"
	SnapshotNeedsState   Quirk = "DeleteSnapshot of a snapshot without state fails"
	SnapshotDiesToo      Quirk = "Teardown of a sandbox removes its snapshots"
	ImportUnverified     Quirk = "ImportSnapshot does not verify the digest"
	MeterFalls           Quirk = "the second reading is below the first"
	MeterForgets         Quirk = "MeterActual fails after Teardown"
	MeterNeverFinal      Quirk = "MeterActual after Teardown is not final"
	MeterWrongSum        Quirk = "a reading's total is not the sum of its lines"
	SnapshotPriceFalls   Quirk = "a snapshot costs less the longer it is kept"
	EstimateCreates      Quirk = "EstimateCost makes a sandbox"
	PreflightCreates     Quirk = "Preflight makes a sandbox"
	UndeclaredCapability Quirk = "the extension can do more than its manifest declares"
	MissingCapability    Quirk = "the extension can do less than its manifest declares"
	IgnoresContext       Quirk = "calls go on although their context has ended"
	HandleHoldsSecret    Quirk = "the key is in the handle"
	ErrorHoldsSecret     Quirk = "the key is in an error"
	Unclassified         Quirk = "errors carry no code"
)

// Break turns quirks on, from now until [Backend.Mend].
func (b *Backend) Break(qs ...Quirk) {
	for {
		old := b.quirks.Load()
		all := maps.Clone(*old)
		for _, q := range qs {
			all[q] = true
		}
		if b.quirks.CompareAndSwap(old, &all) {
			return
		}
	}
}

// Mend turns all quirks off.
func (b *Backend) Mend() { b.quirks.Store(&map[Quirk]bool{}) }

func (b *Backend) broken(q Quirk) bool {
	m := *b.quirks.Load()
	return len(m) > 0 && m[q]
}

// Quirks returns all quirks.
func Quirks() []Quirk {
	return []Quirk{
		CreatesTwice, ForgetsName, StealsForeign, BadInputsCreate, AcceptsBadInputs, ReadyTooEarly, ReadyOnce,
		TeardownLies, TeardownOnce, TeardownNeedsState, TeardownForeign, TeardownLeavesQuiet, HandleNeedsInstance,
		FindCreates, FindForeign, FindMisses, ListsForeign, ListMisses, ListDropsLabels, InspectLies,
		InspectNeverGone, InspectWrongState, ExtendShortens, ExtendLies, IgnoresExpiry, PauseTwiceFails,
		PauseLosesFiles, ExecLosesTail, ExecMergesStreams, ExecReorders, ExecLosesExitCode, ExecExitIsError,
		ExecIgnoresTimeout, ExecIgnoresDir, ExecIgnoresEnv, ExecIgnoresStdin, ExecWaitsForStdin,
		ExecWaitsForChildren, ExecKillsChildren, ExecJoinsArgs, ExecMangles, ExecIgnoresWriteErr, ExecLeavesProcess,
		CopyDropsModes, CopyDropsTimes, CopyDropsEmpty, CopyFollowsLinks, CopyCutsBinary, CopyOtherWorld,
		CopyNeedsDir, SyncKeepsExtra, SyncReadsAll, SyncFollowsLinks, SyncNeedsDir, DialAnything, SnapshotForgotten, SnapshotLosesFiles, SnapshotsUnlisted, SnapshotDeleteLies,
		SnapshotDeleteOnce, SnapshotNeedsState, SnapshotDiesToo, ImportUnverified, MeterFalls, MeterForgets,
		MeterNeverFinal, MeterWrongSum, EstimateCreates, PreflightCreates, UndeclaredCapability, MissingCapability,
		IgnoresContext, HandleHoldsSecret, ErrorHoldsSecret, Unclassified,
	}
}
