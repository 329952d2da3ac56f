#!/usr/bin/env bash
# Generates everything in a copy of the tree and compares: the working tree is left as it is.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

copy=$(mktemp -d "${TMPDIR:-/tmp}/sandboxer-generate.XXXXXX")
trap 'rm -rf "$copy"' EXIT
tar -c --exclude=./.git --exclude=./.cache --exclude=./bin . | tar -x -C "$copy"
bash "$copy/scripts/generate.sh"
if ! diff -r --brief --exclude=.git --exclude=.cache --exclude=bin "$ROOT" "$copy"; then
	echo "generated files are not up to date: run make generate" >&2
	exit 1
fi
