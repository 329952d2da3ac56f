#!/usr/bin/env bash
# What `make lint` runs: everything that judges the code without running it. All findings are shown before it fails.
set -uo pipefail
. "$(dirname "$0")/lib.sh"

CHECK= # process id of the running check, which ends with this script
trap '[ -z "$CHECK" ] || kill -TERM "$CHECK" 2>/dev/null; exit 143' INT TERM HUP

failed=()
check() {
	local name=$1 begin=$SECONDS
	shift
	say "$name"
	"$@" &
	CHECK=$!
	if wait "$CHECK"; then
		echo "ok, $((SECONDS - begin)) s"
	else
		failed+=("$name")
	fi
}

formatted() {
	local files
	files=$(find . -name '*.go' -not -path './.cache/*' -not -path '*/testdata/*' -exec gofmt -l {} +) || return 1
	[ -z "$files" ] || { printf 'gofmt would change:\n%s\n' "$files"; return 1; }
}

# Tests wait for what they await; time.Sleep is for packages that use testing/synctest, where it costs nothing. The
# conformance suite's own tests live in the real time of the backends that it is for.
sleepless() {
	local file found=0
	while read -r file; do
		grep -qF '"testing/synctest"' "$(dirname "$file")"/*_test.go || { echo "$file: time.Sleep without testing/synctest"; found=1; }
	done < <(grep -rlF --include='*_test.go' 'time.Sleep(' . | grep -v '^./adapters/adaptertest/')
	return $found
}

each_module() {
	local dir code=0
	for dir in $(modules); do
		(cd "$dir" && "$@") || { echo "in module $dir"; code=1; }
	done
	return $code
}

linted() { tool golangci-lint run --allow-serial-runners --config "$ROOT/.golangci.yml" ./...; }

check "gofmt" formatted
check "sleeps in tests" sleepless
check "go vet" each_module go vet ./...
check "go mod tidy" each_module go mod tidy -diff
check "golangci-lint" each_module linted
check "generated files" bash scripts/generated.sh
check "cross build" bash scripts/cross.sh

if [ ${#failed[@]} -gt 0 ]; then
	printf '\nfailed: %s\n' "$(IFS=,; echo "${failed[*]}")" >&2
	exit 1
fi
