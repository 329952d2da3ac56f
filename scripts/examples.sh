#!/usr/bin/env bash
# What `make examples` runs: every example program in an empty directory, and the tests of the examples that are tests.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

tmp=$(mktemp -d "${TMPDIR:-/tmp}/sandboxer-examples.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
for dir in examples/*/; do
	name=$(basename "$dir")
	if [ -e "$dir/main.go" ]; then
		say "$name"
		mkdir "$tmp/$name"
		(cd "$dir" && go build -o "$tmp/$name.bin" .)
		args=()
		[ "$name" != quickstart ] || args=("$ROOT" go version) # its own default runs this library's tests
		(cd "$tmp/$name" && timeout 300 "$tmp/$name.bin" "${args[@]}" </dev/null)
	fi
	(cd "$dir" && go test ./... </dev/null)
done
