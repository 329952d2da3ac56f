#!/usr/bin/env bash
# What `make test` runs: sets up the real parts, runs every test of every module with the race detector, looks for keys of
# the tests where no key may be, and stops what it started, also on failure and on Ctrl-C. Arguments go to `go test`.
#
# SANDBOXER_REQUIRE_REAL=1 makes a real part that cannot be set up, and a test that cannot run without it, a failure.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

STATE=$(mktemp -d "${TMPDIR:-/tmp}/sandboxer-test.XXXXXX")
LEFT=$(mktemp -d "${TMPDIR:-/tmp}/sbx.XXXXXX") # temporary files of tests; a short name, for sockets have little room
chmod 711 "$LEFT" # logins of tests that are not root have their home directories below
TESTS= # process id, and group, of the running go test
WATCH= # process id of what looks at process listings
UP=()

finish() {
	local code=$? i
	trap - EXIT INT TERM HUP
	[ -z "$TESTS" ] || { kill -TERM -- "-$TESTS" 2>/dev/null && wait "$TESTS" || true; }
	[ -z "$WATCH" ] || { kill -TERM "$WATCH" 2>/dev/null && wait "$WATCH" || true; }
	for ((i = ${#UP[@]} - 1; i >= 0; i--)); do
		bash "${UP[i]}" down "$STATE" || echo "could not stop $(basename "${UP[i]}" .sh)" >&2
	done
	rm -rf "$STATE" "$LEFT"
	exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# A real part says what it needs and how to start it; see scripts/real/README.md. What it exports is in STATE/env.
: >"$STATE/env"
for part in scripts/real/*.sh; do
	[ -e "$part" ] || continue
	UP+=("$part") # before it is up: one that fails half-way is taken down too
	if ! bash "$part" up "$STATE"; then
		[ "${SANDBOXER_REQUIRE_REAL:-}" != 1 ] || { echo "the real part $(basename "$part" .sh) is required" >&2; exit 1; }
		echo "going on without $(basename "$part" .sh); the tests that need it say so" >&2
	fi
done
set -a
. "$STATE/env"
set +a

race=(-race)
if [ "${CGO_ENABLED:-}" = 0 ] || ! command -v "${CC:-gcc}" >/dev/null; then
	[ "${SANDBOXER_REQUIRE_REAL:-}" != 1 ] || { echo "the race detector needs a C compiler" >&2; exit 1; }
	echo "no C compiler: running without the race detector" >&2
	race=()
fi

show=() partial=()
for arg in "$@"; do
	partial=(-partial)
	[ "$arg" != -v ] || show=(-v)
done

# Keys of tests carry a mark of this run; see internal/canary.
go build -o "$STATE/suite" ./internal/cmd/suite
"$STATE/suite" begin "$STATE"
export SANDBOXER_CANARY=$STATE
"$STATE/suite" watch "$STATE" </dev/null &
WATCH=$!

failed=()
for dir in $(modules); do
	say "go test ${race[*]} in $dir"
	# In a process group of its own, so that stopping it also stops the test binaries and what they started.
	set -m
	(
		cd "$dir"
		export TMPDIR=$LEFT
		go test -json "${race[@]}" -count=1 -timeout=15m "$@" ./... 2>&1 | "$STATE/suite" show "${show[@]}" "$STATE/output.json"
	) </dev/null &
	TESTS=$!
	set +m
	wait "$TESTS" || failed+=("$dir")
	TESTS=
done

say "keys of tests"
kill -TERM "$WATCH"
wait "$WATCH" || failed+=("process listings")
WATCH=
"$STATE/suite" search "${partial[@]}" -skip .git -skip .cache "$STATE" "$LEFT" "$ROOT" || failed+=("keys of tests")

if [ ${#failed[@]} -gt 0 ]; then
	echo "failed: ${failed[*]}" >&2
	exit 1
fi
