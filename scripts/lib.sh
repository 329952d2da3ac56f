# Shared by the scripts beside it; sourced, never run.

# root of the checkout; every script works from there.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
ROOT=$PWD

command -v go >/dev/null || PATH=$PATH:/usr/local/go/bin
command -v go >/dev/null || { echo "Go is not installed: https://go.dev/dl" >&2; exit 1; }
# A checkout that belongs to another user must build as well.
export GOFLAGS="${GOFLAGS:+$GOFLAGS }-buildvcs=false"

# say prints a headline.
say() { printf '\n== %s\n' "$*"; }

# modules lists the directories of all modules that hold code of ours; tools/ only pins tools.
modules() {
	find . -name go.mod -not -path './tools/*' -not -path '*/testdata/*' -not -path './.cache/*' -exec dirname {} \; | sort
}

# tool NAME ARG... runs a tool at the version that tools/go.mod pins.
tool() { go tool -modfile="$ROOT/tools/go.mod" "$@"; }

# need COMMAND PACKAGE... installs Debian packages unless the command is there. Returns 1 where it cannot.
need() {
	local command=$1
	shift
	command -v "$command" >/dev/null && return 0
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
		echo "$command is missing; on Debian or Ubuntu: apt-get install $*" >&2
		return 1
	fi
	echo "installing $* for $command"
	apt_get install "$@" || { apt_get update && apt_get install "$@"; } || {
		echo "apt-get could not install $*" >&2
		return 1
	}
	command -v "$command" >/dev/null
}

apt_get() {
	DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends \
		-o DPkg::Lock::Timeout=120 -o Acquire::Retries=3 "$@" >/dev/null </dev/null
}

# need_idle COMMAND PACKAGE... is need for packages that bring a service, which is kept from starting: Debian asks policy-rc.d
# whether it may. One that is there already is the machine's and left alone. The lock is for runs at the same time, and says
# whether the one found there is left from a run that was killed.
need_idle() {
	local policy=/usr/sbin/policy-rc.d mark='# sandboxer: no service starts while tests install' code=0
	command -v "$1" >/dev/null && return 0
	[ "$(id -u)" = 0 ] && [ -d "${policy%/*}" ] || { need "$@"; return; }
	(
		flock 9
		if [ ! -e "$policy" ] || grep -qxF "$mark" "$policy"; then
			trap 'rm -f "$policy"' EXIT
			trap 'exit 143' INT TERM HUP
			printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >"$policy"
			chmod 755 "$policy"
		fi
		need "$@" 9>&-
	) 9>"${TMPDIR:-/tmp}/sandboxer-install.lock" || code=$?
	hash -r
	return $code
}

# started_at PID prints when a process started, in clock ticks after boot: with the PID it names one process for ever.
started_at() {
	local stat
	stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
	stat=${stat##*) }
	set -- $stat
	echo "${20}"
}

# start STATE NAME COMMAND... starts a daemon in a session of its own and notes its process id in STATE/NAME.pid; what it
# prints goes to STATE/NAME.log.
start() {
	local state=$1 name=$2
	shift 2
	setsid "$@" >"$state/$name.log" 2>&1 </dev/null &
	echo "$! $(started_at $!)" >"$state/$name.pid"
}

# stop STATE NAME ends what start began, and only that: TERM, and KILL after ten seconds.
stop() {
	local pid began i
	[ -f "$1/$2.pid" ] || return 0
	read -r pid began <"$1/$2.pid"
	for ((i = 0; i < 100; i++)); do
		[ "$(started_at "$pid" || true)" = "$began" ] || break
		[ $i -gt 0 ] || kill -TERM "$pid" 2>/dev/null || true
		sleep 0.1
	done
	[ "$(started_at "$pid" || true)" != "$began" ] || kill -KILL -- "-$pid" 2>/dev/null || kill -KILL "$pid" 2>/dev/null || true
	rm -f "$1/$2.pid"
}
