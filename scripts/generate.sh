#!/usr/bin/env bash
# What `make generate` runs: every go:generate directive of every module.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

for dir in $(modules); do
	(cd "$dir" && go generate ./...)
done
