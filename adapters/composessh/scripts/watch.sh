# Runs on a host as long as a sandbox of this root lives there, whether anybody is connected or not. It removes sandboxes
# whose time has passed, lets those go on that a snapshot held when its connection broke, and ends commands in containers
# whose connection broke.
#
# It asks the engine in the background, with a limit, and for one sandbox at a time: what a container does must hold no other.
GRACE=10
exec 9>>"$ROOT/.watch" || exit 1
flock -n 9 || exit 0
read -r stat </proc/$$/stat
: >"$ROOT/.watch"
(set -- ${stat##*) } && echo "$$ ${20}") >&9

engine() { bounded 60 "$@"; }

any() {
	for d in "$ROOT"/* "$ROOT"/.fence.* "$ROOT"/.trash.* "$ROOT"/.new.*; do
		[ ! -e "$d" ] || return 0
	done
	return 1
}

expired() {
	[ -e "$1/deadline" ] || return 1
	read -r due <"$1/deadline" || return 1
	[ "$now" -ge "$due" ]
}

# cut_off FILE tells whether a command's connection broke, and its end is to be tried now. In the file stand, below what the
# command said, the times before which it was not to be tried again.
cut_off() {
	[ -e "$1" ] || return 1
	mark= after=0 tries=0
	{
		read -r pid start container mark
		while read -r t; do after=$t tries=$((tries + 1)); done
	} <"$1"
	[ -n "$mark" ] && [ "$now" -ge "$after" ] && ! alive "$pid" "$start"
}

# dropped tells whether services are held by a snapshot whose connection broke.
dropped() { [ -e "$1/held" ] && read -r pid start ids <"$1/held" && ! alive "$pid" "$start"; }

broken() {
	! dropped "$1" || return 0
	for f in "$1"/exec/*; do
		! cut_off "$f" || return 0
	done
	return 1
}

# reach DIRECTORY makes engine mean the engine of a sandbox, for the subshell that does something about it.
reach() {
	exec 9>&-
	[ -e "$1/engine" ] || return 0
	unset DOCKER_HOST DOCKER_CONTEXT DOCKER_CONFIG DOCKER_CERT_PATH DOCKER_TLS_VERIFY DOCKER_TLS XDG_RUNTIME_DIR
	while IFS= read -r line; do
		case $line in [A-Z]*=*) export "$line" ;; esac
	done <"$1/engine"
}

over() {
	n=${1##*/}
	lock "$n" 0 || return
	reach "$1"
	now=$(date +%s)
	expired "$1" || return
	read -r owner <"$1/owner"
	remove "$n" "$owner" "$GRACE"
}

mend() {
	exec 7>>"$1/ending"
	flock -n 7 || return
	reach "$1"
	! dropped "$1" || ! freed $ids || rm -f "$1/held"
	for f in "$1"/exec/*; do
		cut_off "$f" || continue
		again=$((5 << (tries < 6 ? tries : 6)))
		if ended "$container" "$mark"; then rm -f "$f"; else echo $(($(date +%s) + again)) >>"$f"; fi
	done
}

freed() {
	for id in "$@"; do
		bounded 15 unpause "$id"
		case $(bounded 15 inspect --format '{{.State.Paused}}' "$id" 2>&1) in
		false | *[Nn]"o such"*) ;;
		*) return 1 ;;
		esac
	done
}

# unneeded CONTAINER removes what carried a connection.
unneeded() {
	bounded 15 rm -f "$1"
	case $(bounded 15 inspect --format '{{.Id}}' "$1" 2>&1) in *[Nn]"o such"*) ;; *) return 1 ;; esac
}

# ended CONTAINER MARK ends a command. One that is paused with its container would run on later; it is tried again, without
# growing patience.
ended() {
	[ "$2" != relay ] || { unneeded "$1"; return; }
	bounded 15 exec "$1" sh -c "$KILLER" sandboxer "$2" 0 </dev/null && return
	case $(bounded 15 inspect --format '{{.State.Status}}' "$1" 2>&1) in
	running) bounded 15 exec -u 0 "$1" sh -c "$KILLER" sandboxer "$2" 0 </dev/null ;;
	exited | dead | created | restarting | removing | *[Nn]"o such"*) ;;
	*) again=5 && return 1 ;;
	esac
}

while :; do
	now=$(date +%s)
	for d in "$ROOT"/*; do
		[ -e "$d/claim.json" ] || continue
		# Nobody's children: a shell keeps count of its own until it waits for them.
		if expired "$d"; then (over "$d" &); elif broken "$d"; then (mend "$d" &); fi
	done
	for f in "$ROOT"/.fence.*; do
		[ ! -e "$f" ] || fenced "${f#"$ROOT"/.fence.}" || rm -f "$f"
	done
	timeout -k 1 15 find "$ROOT" -mindepth 1 -maxdepth 1 \( -name '.new.*' -o -name '.trash.*' \) -mmin +60 -exec rm -rf {} + 2>/dev/null
	if ! any; then
		flock -u 9
		any || { rm -f "$ROOT/.watch"; rmdir "$ROOT" 2>/dev/null; exit 0; }
		flock -n 9 || exit 0 # somebody came in between, and has one of their own
	fi
	sleep 1 9>&-
done
