# Begins every script beside it. $1 is the directory below which everything of ours lies on this host, $2 the engine's
# command. POSIX sh.
set -u
umask 077
export LC_ALL=C
ROOT=$1 ENGINE=$2
shift 2

# engine runs the engine's command, without the locks that we hold.
engine() { $ENGINE "$@" 8>&- 9>&-; }

# bounded SECONDS ARG... is engine for what a container could make hang: programs of its image.
bounded() {
	seconds=$1
	shift
	timeout -k 1 "$seconds" $ENGINE "$@" 7>&- 8>&- 9>&-
}

# alive PID START tells whether a process still runs, and is none that nobody has waited for.
alive() { read -r stat 2>/dev/null <"/proc/$1/stat" && [ "$(set -- ${stat##*) } && [ "$1" != Z ] && echo "${20}")" = "$2" ]; }

# watched tells whether the watch of this root runs.
watched() { pid= start= && read -r pid start 2>/dev/null <"$ROOT/.watch" && alive "$pid" "$start"; }

# labelled prints one line of a listing for each thing with these labels: NAME OWNER COMMAND... An empty owner asks for none.
labelled() {
	n=$1 o=$2
	shift 2
	if [ -n "$o" ]; then
		engine "$@" --filter "label=sandboxer-name=$n" --filter "label=sandboxer-owner=$o"
	else
		engine "$@" --filter "label=sandboxer-name=$n"
	fi
}

# containers prints "ID NAME SERVICE" of a sandbox's containers.
containers() { labelled "$1" "$2" ps -a --no-trunc --format '{{.ID}} {{.Names}} {{.Label "com.docker.compose.service"}}'; }

# put writes a file so that it is there as a whole or not at all.
put() { printf '%s\n' "$2" >"$1.$$" && mv -f "$1.$$" "$1"; }

# durable FILE... puts files and directories on the disk, and fails where that fails; an old sync knows all or nothing.
durable() { if sync --help 2>&1 | grep -q FILE; then sync "$@"; else sync; fi; }

# fenced tells whether a name was torn down a moment ago, by somebody who did not see what made it.
fenced() {
	until=0
	[ ! -e "$ROOT/.fence.$1" ] || read -r until <"$ROOT/.fence.$1"
	[ "$(date +%s)" -le "$until" ]
}

# tools prints the options that give a container the host's own programs, to read only.
tools() {
	for t in /usr /bin /sbin /lib /lib32 /lib64 /libx32; do
		[ ! -d $t ] || printf '%s ' -v "$t:$t:ro"
	done
}

# digest prints the SHA-256 of its input. OpenSSL's is several times as fast as that of coreutils.
digest() {
	if command -v openssl >/dev/null; then openssl dgst -sha256 -r; else sha256sum; fi | cut -d' ' -f1
}

# freeze holds the processes of a container. An engine sometimes cannot, where they are just being made.
freeze() {
	k=0
	until engine pause "$1" >/dev/null; do
		[ "$(engine inspect --format '{{.State.Status}}' "$1")" != paused ] || return 0
		k=$((k + 1))
		[ $k -lt 8 ] || return 1
		sleep 0.1
	done
}
