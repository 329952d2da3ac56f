// Package benchmarks measures the library beside what it is compared with, in one run, and reports ratios. Run it with
// `make bench`, or `go test -bench . ./benchmarks`.
package benchmarks
