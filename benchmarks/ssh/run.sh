#!/usr/bin/env bash
# Measures us and the peers (OpenSSH's client, tar over it, rsync, Docker Compose) alternately in one run, and prints each as a
# ratio. Debian or Ubuntu, as root: it sets up the same real parts as the tests, and stops what it started.
#
#   bash benchmarks/ssh/run.sh            # all
#   bash benchmarks/ssh/run.sh Exec       # only the benchmarks whose name matches
set -euo pipefail
. "$(dirname "$0")/../../scripts/lib.sh"

STATE=$(mktemp -d "${TMPDIR:-/tmp}/sandboxer-bench.XXXXXX")
parts=(ssh git docker)
finish() {
	local code=$? i
	trap - EXIT INT TERM
	for ((i = ${#parts[@]} - 1; i >= 0; i--)); do
		bash "scripts/real/${parts[i]}.sh" down "$STATE" || echo "could not stop ${parts[i]}" >&2
	done
	rm -rf "$STATE"
	exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM
need rsync rsync
: >"$STATE/env"
for part in "${parts[@]}"; do
	bash "scripts/real/$part.sh" up "$STATE"
done
set -a
. "$STATE/env"
set +a
export SANDBOXER_REQUIRE_REAL=1

say "$(nproc) cores, $(uname -r), $(ssh -V 2>&1), $(go version)"
for package in ./adapters/internal/sshx ./adapters/composessh/internal/workspace ./adapters/composessh; do
	go test -run '^$' -bench "Peers.*${1:-}" -benchtime "${BENCHTIME:-5x}" -timeout 30m "$package" || echo "failed: $package" >&2
done | awk '
	/^Benchmark/ {
		line = $1
		for (i = 3; i < NF; i += 2) line = line sprintf("  %s %s", $(i + 1), $i)
		print line
	}
	/^(FAIL|failed|---)/ { print }'
