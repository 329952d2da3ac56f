# claim NAME OWNER CLAIM LATEST SECONDS WATCH: makes the directory of a sandbox, with the claim that says whose it is, unless there
# is one. Prints "new", "have" and the claim, "late", or "fenced".
name=$1 owner=$2 claim=$3 latest=$4 seconds=$5
at=$ROOT/$name
if [ ! -e "$at/claim.json" ]; then
	# A request that lay in some buffer must make nothing after it was given up.
	[ "$(date +%s)" -le "$latest" ] || { echo late; exit 0; }
	if fenced "$name"; then echo fenced; exit 0; fi
	mkdir -p "$ROOT" || exit 1
	new=$(mktemp -d "$ROOT/.new.$name.XXXXXXXX") || exit 1
	# What a removal needs is there before the sandbox can use up the disk.
	mkdir "$new/workspace" "$new/exec" "$new/out" && touch "$new/spare" "$new/lock" "$new/ending" && settings >"$new/engine" &&
		chmod 755 "$new/workspace" && # which is a root directory for whoever is in a container
		printf '%s\n' "$owner" >"$new/owner" && printf '%s\n' "$claim" >"$new/claim.json" || { rm -rf "$new"; exit 1; }
	if [ -n "$seconds" ]; then
		echo $(($(date +%s) + seconds)) >"$new/deadline" || { rm -rf "$new"; exit 1; }
	fi
	if mv -T "$new" "$at" 2>/dev/null; then
		echo new
	else
		rm -rf "$new"
	fi
fi
[ -e "$at/claim.json" ] || { echo "$at cannot be made" >&2; exit 1; }
start_watch "$6"
echo have
cat "$at/claim.json"
[ ! -e "$at/removing" ] || echo removing
[ ! -e "$at/up" ] || cat "$at/up"
