// Package fake is a backend in memory for the tests of host applications and of this library: every capability, no process,
// no network, no clock of its own (it works inside testing/synctest), and faults, delays and lies on demand.
//
//	backend := fake.New()
//	reg, err := registry.New(registry.WithAdapters(backend.Adapter()))
//	…
//	if live := backend.Live(); len(live) > 0 {
//		t.Errorf("leaked: %v", live)
//	}
//
// [Backend.Adapter] registers the handler "fake" with a manifest and a profile of its own ("ext.fake", "profile.fake").
// [Backend.InPlaceOf] serves the manifests that the host application already has: its profiles then run against memory.
// Any number of adapters may share one Backend; what one made, the others of the same extension see.
//
// # Commands
//
// A sandbox has a file system and a small POSIX-like shell, both in memory, so that Exec, CopyIn, CopyOut and snapshots
// agree with each other without a process of the host: see [Commands] for the commands it knows. [Backend.OnExec]
// answers commands in the test's own words instead.
//
// # Faults
//
// [Backend.Fail] makes calls fail before or after their effect, hang, or come late. [Backend.Behave] sets what a backend
// is like: lagging listings, limited lifetimes, a key that must match. [Backend.Break] breaks one rule of the contract, to
// prove that a test suite notices. None of it is for production: nothing here survives the process.
package fake
