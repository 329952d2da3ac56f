# Begins every script beside it. $1 is the directory below which everything of ours lies on this host, $2 the engine's
# command. POSIX sh.
set -u
umask 077
export LC_ALL=C
ROOT=$1 ENGINE=$2
shift 2

# engine runs the engine's command, without the locks that we hold.
engine() { $ENGINE "$@" 7>&- 8>&- 9>&-; }

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

# containers prints "ID NAME SERVICE" of a sandbox's containers. A label may be of an image, and hold whatever its maker wrote: one
# that is no name of a service is none, and none makes a line of its own.
containers() {
	all=$(labelled "$1" "$2" ps -a --no-trunc --format '{{.ID}} {{json .Names}} {{json (.Label "com.docker.compose.service")}}') || return 1
	printf '%s\n' "$all" | sed -n -e 's/^\([0-9a-f]\{12,64\}\) "\([A-Za-z0-9_.,/-]*\)" "\([A-Za-z0-9_.-]*\)"$/\1 \2 \3/p' -e t \
		-e 's/^\([0-9a-f]\{12,64\}\) .*/\1 - /p'
}

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

# EMPTY is the image of all containers that are ours and not the stack's. It holds nothing, for they run the host's programs: what
# stood in an image of somebody else's (a preloaded library, a volume over /usr/bin, a label) would be part of them.
EMPTY=sandboxer/empty:1

# empty_id prints the ID of an image, if it holds nothing: a name alone says nothing, for others can give it to theirs.
empty_id() {
	what=$(engine image inspect --format '{{.ID}} {{range .RootFS.Layers}}{{.}} {{end}}{{with .Config}}{{range .Env}}env {{end}}{{range $k, $v := .Volumes}}volume {{end}}{{range $k, $v := .Labels}}label {{end}}{{end}}' "$1" 2>/dev/null) || return 1
	[ "${what#* }" = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef " ] || return 1 # of 1024 zeros, an empty tar
	echo "${what%% *}"
}

# empty_image is the same of EMPTY, which it makes where the engine has it not. It stays, for all sandboxes of the engine.
empty_image() {
	empty_id "$EMPTY" && return
	(
		# One maker at a time, for a second one's would take the name from the first's. Elsewhere on the host that would do no harm.
		exec 7<"$ROOT" && flock -w 60 7
		empty_id "$EMPTY" && exit
		made=$(head -c 1024 /dev/zero | engine import - "$EMPTY") && empty_id "$made"
	) || { echo "the engine cannot make the image $EMPTY" >&2; return 1; }
}

# tools prints the options that give a container the host's own programs, to read only.
tools() {
	for t in $TOOLS; do
		[ ! -e $t ] || printf '%s ' -v "$t:$t:ro"
	done
}
TOOLS="/usr /bin /sbin /lib /lib32 /lib64 /libx32 /etc/alternatives /etc/ld.so.cache"

# confined runs one of the host's programs, as root, in a container of the moment that has a directory as /w and can reach nothing
# else: NAME OWNER DIRECTORY SECONDS PROGRAM ARGUMENT...; no more than so many seconds, and 0 are all that it takes.
confined() (
	n=$1 o=$2 d=$3 s=$4
	shift 4
	image=$(empty_image) || exit 1
	box=$n-sandboxer-moment-$$
	timeout -s KILL "$s" $ENGINE run --rm -i --name "$box" --log-driver none --network none --read-only --cap-drop ALL --cap-add CHOWN \
		--cap-add DAC_OVERRIDE --cap-add FOWNER --cap-add FSETID --security-opt no-new-privileges:true --pids-limit 64 --user 0:0 \
		--label "sandboxer-name=$n" --label "sandboxer-owner=$o" -v "$d:/w" $(tools) --entrypoint /usr/bin/env "$image" \
		-i PATH=/usr/local/bin:/usr/bin:/bin LC_ALL=C "$@" 7>&- 8>&- 9>&-
	code=$?
	[ $code -lt 124 ] || engine rm -f "$box" >/dev/null 2>&1 # it was the client that was ended
	exit $code
)

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
