// Package crashtest proves that a Manager survives being killed: its tests kill a process that uses one with SIGKILL before
// and after every commit, every call of an extension and every delivery of a meter record, start again, and compare what
// the backend holds with what the store says.
package crashtest
