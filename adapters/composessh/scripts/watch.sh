# Runs on a host as long as a sandbox of this root lives there, whether anybody is connected or not. It removes sandboxes
# whose time has passed, lets those go on that a snapshot held when its connection broke, and ends commands in containers
# whose connection broke.
GRACE=10
exec 9>>"$ROOT/.watch" || exit 1
flock -n 9 || exit 0

# alive PID START tells whether a process still runs.
alive() { [ "$(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20)" = "$2" ]; }

any() {
	for d in "$ROOT"/* "$ROOT"/.fence.* "$ROOT"/.trash.* "$ROOT"/.new.*; do
		[ ! -e "$d" ] || return 0
	done
	return 1
}

expired() {
	[ -e "$1/deadline" ] || return 1
	read -r due <"$1/deadline" || return 1
	[ "$(date +%s)" -ge "$due" ]
}

over() {
	n=${1##*/}
	(
		lock "$n" 0 || exit 0
		expired "$1" || exit 0
		read -r owner <"$1/owner"
		remove "$n" "$owner" "$GRACE"
	) >/dev/null 2>&1
}

freed() {
	read -r pid start ids <"$1/held" || return 0
	alive "$pid" "$start" && return 0
	engine unpause $ids >/dev/null 2>&1
	rm -f "$1/held"
}

ended() {
	for f in "$1"/exec/*; do
		[ -e "$f" ] || continue
		read -r pid start container mark <"$f" || continue
		alive "$pid" "$start" && continue
		engine exec "$container" sh -c "$KILLER" sandboxer "$mark" 0 </dev/null >/dev/null 2>&1
		rm -f "$f"
	done
}

while :; do
	for d in "$ROOT"/*; do
		[ -e "$d/claim.json" ] || continue
		if expired "$d"; then over "$d"; continue; fi
		[ ! -e "$d/held" ] || freed "$d"
		ended "$d"
	done
	for f in "$ROOT"/.fence.*; do
		[ ! -e "$f" ] || fenced "${f#"$ROOT"/.fence.}" || rm -f "$f"
	done
	find "$ROOT" -mindepth 1 -maxdepth 1 \( -name '.new.*' -o -name '.trash.*' \) -mmin +60 -exec rm -rf {} + 2>/dev/null
	if ! any; then
		flock -u 9
		any || { rm -f "$ROOT/.watch"; rmdir "$ROOT" 2>/dev/null; exit 0; }
		flock -n 9 || exit 0 # somebody came in between, and has one of their own
	fi
	sleep 1 9>&-
done
