#!/usr/bin/env bash
# What `make fuzz-short` runs: every fuzz target of every module for a while, FUZZTIME each (10s).
set -euo pipefail
. "$(dirname "$0")/lib.sh"

for dir in $(modules); do
	cd "$ROOT/$dir"
	go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}} {{.Dir}}{{end}}' ./... | while read -r package files; do
		for target in $(grep -hoE '^func Fuzz[A-Za-z0-9_]+' "$files"/*_test.go | sed 's/^func //' | sort -u); do
			say "$package $target"
			go test -run='^$' -fuzz="^$target\$" -fuzztime="${FUZZTIME:-10s}" "$package" </dev/null
		done
	done
done
