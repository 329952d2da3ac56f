#!/usr/bin/env bash
# Runs us and the programs that people use today (OpenSSH's client, tar over it, rsync, Docker Compose) alternately, against
# the same servers, and prints how we stand to them. Debian or Ubuntu, as root: it sets up what the tests use, and stops it. An
# argument chooses benchmarks, as -bench does: benchmarks/ssh/run.sh PeersExec. They lie beside what they measure, in
# packages below adapters/, because Go lets nobody else import those.
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
: >"$STATE/env"
for part in "${parts[@]}"; do
	bash "scripts/real/$part.sh" up "$STATE"
done
need rsync rsync || echo "rows about rsync are left out" >&2
set -a
. "$STATE/env"
set +a
export SANDBOXER_REQUIRE_REAL=1

echo "$(nproc) processors, load $(cut -d' ' -f1-3 /proc/loadavg) before; $(ssh -V 2>&1), $(go env GOVERSION); aes128-gcm@openssh.com for both"
echo
mapfile -t packages < <(grep -rl --include='*_test.go' 'func BenchmarkPeers' adapters | xargs -n1 dirname | sort -u | sed 's|^|./|')
go test -p 1 -run '^$' -bench "${1:-Peers}" -benchtime 1x -timeout 60m "${packages[@]}" | tee "$STATE/raw" | awk '
	BEGIN {
		print "| ours | beside | ours | theirs | ours ÷ theirs (4 of 5 rounds) | target | |"
		print "|---|---|---|---|---|---|---|"
	}
	/^Benchmark.*ratio/ {
		name = $1
		sub(/^Benchmark.*\//, "", name); sub(/-[0-9]+$/, "", name); gsub(/_/, " ", name)
		split(name, part, ": ")
		for (i = 2; i < NF; i++) { # a value, and its unit
			if ($(i + 1) ~ /-ours$/) { ours = $i; unit = $(i + 1); sub(/-ours$/, "", unit) }
			if ($(i + 1) ~ /-peer$/) theirs = $i
			if ($(i + 1) == "ratio") ratio = $i
			if ($(i + 1) == "ratio-low") low = $i
			if ($(i + 1) == "ratio-high") high = $i
			if ($(i + 1) == "target") target = $i
		}
		met = target < 0 ? ratio >= -target : ratio <= target
		printf "| %s | %s | %.4g %s | %.4g %s | %.2f (%.2f–%.2f) | %s %.2f | %s |\n", part[1], part[2], ours, unit, theirs, unit, ratio, low, high,
			target < 0 ? "≥" : "≤", target < 0 ? -target : target, met ? "met" : "missed"
		fflush()
	}
	/^--- |^panic|_test\.go:/ { print > "/dev/stderr" }
	/^(--- )?FAIL|^panic/ { failed = 1 }
	END { exit failed }'
echo
echo "load $(cut -d' ' -f1-3 /proc/loadavg) after"
