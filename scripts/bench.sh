#!/usr/bin/env bash
# What `make bench` runs: every benchmark of every module.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

for dir in $(modules); do
	say "benchmarks in $dir"
	(cd "$dir" && go test -run='^$' -bench=. -benchmem ./... </dev/null)
done
