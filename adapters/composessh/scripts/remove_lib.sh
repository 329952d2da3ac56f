# remove NAME OWNER GRACE removes a sandbox: containers, networks, volumes, images that it built, its directory. It prints
# "removed WHAT" and "left WHAT", and fails while anything is left. Whoever calls it holds the lock of the sandbox, where
# there is one.
remove() {
	name=$1 owner=$2 grace=$3 at=$ROOT/$1 failed=
	[ ! -d "$at" ] || mark_removing "$at"
	tries=1
	[ -e "$at/up" ] || tries=3 # an engine may still be working for a creation that was cut off
	while [ $tries -gt 0 ]; do
		tries=$((tries - 1))
		list=$(containers "$name" "$owner") || return 1
		if [ -n "$list" ]; then
			ids=$(printf '%s\n' "$list" | cut -d' ' -f1)
			engine unpause $ids >/dev/null 2>&1
			[ "$(id -u)" = 0 ] || empty "$list" "$grace"
			engine stop -t "$grace" $ids >/dev/null 2>&1
			engine rm -f -v $ids >/dev/null 2>&1
			printf '%s\n' "$list" | while read -r _ n _; do echo "removed container $n"; done
		elif [ $tries -gt 0 ]; then
			sleep 0.3
		fi
	done
	for kind in network volume; do
		list=$(things "$name" "$owner" $kind) || return 1
		[ -n "$list" ] || continue
		engine $kind rm $(printf '%s\n' "$list" | cut -d' ' -f1) >/dev/null 2>&1
		printf '%s\n' "$list" | while read -r _ n; do echo "removed $kind $n"; done
	done
	[ ! -d "$at/workspace" ] || [ -n "$(containers "$name" "$owner")" ] || clear_away "$at/workspace"
	tries=8 # a container that somebody else made of an image for a moment keeps it
	while [ $tries -gt 0 ]; do
		list=$(images_of "$name" "$owner") || return 1
		[ -n "$list" ] || break
		engine rmi -f $list >/dev/null 2>&1
		printf '%s\n' "$list" | while read -r n; do echo "removed image $n"; done
		tries=$((tries - 1))
		[ -z "$(images_of "$name" "$owner")" ] || sleep 0.5
	done
	# Only what is seen to be gone is gone.
	for kind in container network volume image; do
		case $kind in
		container) list=$(containers "$name" "$owner") ;;
		image) list=$(images_of "$name" "$owner") ;;
		*) list=$(things "$name" "$owner" $kind) ;;
		esac || return 1
		[ -z "$list" ] || { failed=1; printf '%s\n' "$list" | while read -r id n _; do echo "left $kind ${n:-$id}"; done; }
	done
	[ -z "$failed" ] || return 1
	if [ -d "$at" ]; then
		if mv -T "$at" "$ROOT/.trash.$name.$$"; then echo "removed directory $at"; else failed=1 && echo "left directory $at"; fi
	fi
	for d in "$ROOT/.trash.$name".*; do
		[ -e "$d" ] || continue
		clear_away "$d"
		[ ! -e "$d" ] || { failed=1; echo "left directory $d"; }
	done
	[ -z "$failed" ]
}

# mark_removing says that a sandbox is being removed, also where it has used up the disk: renaming takes no room. Without the
# mark the removal goes on; a failed redirection of a special builtin would end the shell.
mark_removing() {
	[ -e "$1/removing" ] || mv "$1/spare" "$1/removing" 2>/dev/null || (: >"$1/removing") 2>/dev/null || :
}

# things prints "ID NAME" of a sandbox's networks or volumes. Engines take any name for a network, also one that holds other names.
# A volume's name is its ID, and has nothing odd.
things() {
	id={{.ID}}
	[ "$3" = network ] || id={{.Name}}
	all=$(labelled "$1" "$2" "$3" ls --format "$id {{json .Name}}") || return 1
	printf '%s\n' "$all" | sed -n -e 's/^\([A-Za-z0-9_.-]*\) "\([A-Za-z0-9_.-]*\)"$/\1 \2/p' -e t -e 's/^\([0-9a-f]\{12,64\}\) .*/\1 -/p'
}

# images_of prints the IDs of the images that a sandbox built: those with its labels that are called after it, or nothing any more. What
# was pulled may have any label, and may be what somebody else runs.
images_of() {
	labelled "$1" "$2" images -q --no-trunc --filter "reference=$1-*" && labelled "$1" "$2" images -q --no-trunc --filter dangling=true
}

# empty removes the contents of the workspace from within the container that has it, which is root there: what services wrote
# may belong to others than us. They are ended first, or they would write on.
empty() {
	files=$(printf '%s\n' "$1" | while read -r id _ service; do [ "$service" != sandboxer-files ] || echo "$id"; done)
	[ -n "$files" ] || return 0
	services=$(printf '%s\n' "$1" | while read -r id _ service; do [ "$service" = sandboxer-files ] || echo "$id"; done)
	[ -z "$services" ] || engine stop -t "$2" $services >/dev/null 2>&1
	bounded 120 exec $files find /w -mindepth 1 -delete >/dev/null 2>&1
}

# clear_away removes a directory of ours. Where we may not, because containers wrote what is in it and the one that could have
# emptied it is gone, a container of the moment empties it. Whether the directory is gone is what counts, not what that says.
clear_away() {
	rm -rf "$1" 2>/dev/null
	[ -e "$1" ] && [ "$(id -u)" != 0 ] || return 0
	confined "$name" "$owner" "$1" 120 find /w -mindepth 1 -delete </dev/null >/dev/null 2>&1
	rm -rf "$1" 2>/dev/null
}

# lock takes the lock of a sandbox's directory, which one process holds while it builds or removes. Where there is no room for
# the file, the directory is what is locked.
lock() {
	if [ -e "$ROOT/$1/lock" ] || (: >>"$ROOT/$1/lock") 2>/dev/null; then
		exec 8>>"$ROOT/$1/lock"
	else
		exec 8<"$ROOT/$1"
	fi
	flock -w "$2" 8
}
