#!/usr/bin/env bash
# Builds every module for every system that the library supports; the tests of each system are checked as well.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

export CGO_ENABLED=0
for target in {linux,darwin,windows}/{amd64,arm64}; do
	export GOOS=${target%/*} GOARCH=${target#*/}
	for dir in $(modules); do
		(cd "$dir" && go build ./...) || { echo "$dir does not build for $target" >&2; exit 1; }
		[ "$GOARCH" != amd64 ] || (cd "$dir" && go vet ./...) || { echo "$dir: go vet fails for $target" >&2; exit 1; }
	done
	echo "$target"
done
