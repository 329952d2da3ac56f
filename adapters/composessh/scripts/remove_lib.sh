# remove NAME OWNER GRACE removes a sandbox: containers, networks, volumes, images that it built, its directory. It prints
# "removed WHAT" and "left WHAT", and fails while anything is left. Whoever calls it holds the lock of the sandbox, where
# there is one.
remove() {
	name=$1 owner=$2 grace=$3 at=$ROOT/$1 failed=
	[ ! -d "$at" ] || : >"$at/removing"
	tries=1
	[ -e "$at/up" ] || tries=3 # an engine may still be working for a creation that was cut off
	while [ $tries -gt 0 ]; do
		tries=$((tries - 1))
		list=$(containers "$name" "$owner") || return 1
		if [ -n "$list" ]; then
			ids=$(printf '%s\n' "$list" | cut -d' ' -f1)
			if [ "$(id -u)" != 0 ]; then
				empty "$list" # what containers wrote belongs to others than us
			fi
			engine unpause $ids >/dev/null 2>&1
			engine stop -t "$grace" $ids >/dev/null 2>&1
			engine rm -f -v $ids >/dev/null 2>&1
			printf '%s\n' "$list" | while read -r _ n _; do echo "removed container $n"; done
		elif [ $tries -gt 0 ]; then
			sleep 0.3
		fi
	done
	for kind in network volume; do
		list=$(labelled "$name" "$owner" $kind ls --format '{{.Name}}') || return 1
		[ -n "$list" ] || continue
		engine $kind rm $list >/dev/null 2>&1
		printf '%s\n' "$list" | while read -r n; do echo "removed $kind $n"; done
	done
	list=$(labelled "$name" "$owner" images -q --no-trunc) || return 1
	if [ -n "$list" ]; then
		engine rmi -f $list >/dev/null 2>&1
		printf '%s\n' "$list" | while read -r n; do echo "removed image $n"; done
	fi
	# Only what is seen to be gone is gone.
	for kind in container network volume image; do
		case $kind in
		container) list=$(containers "$name" "$owner" | cut -d' ' -f2) ;;
		image) list=$(labelled "$name" "$owner" images -q) ;;
		*) list=$(labelled "$name" "$owner" $kind ls --format '{{.Name}}') ;;
		esac || return 1
		[ -z "$list" ] || { failed=1; printf '%s\n' "$list" | while read -r n; do echo "left $kind $n"; done; }
	done
	[ -z "$failed" ] || return 1
	if [ -d "$at" ]; then
		mv -T "$at" "$ROOT/.trash.$name.$$" && echo "removed directory $at"
	fi
	for d in "$ROOT/.trash.$name".*; do
		[ -e "$d" ] || continue
		rm -rf "$d" 2>/dev/null
		[ ! -e "$d" ] || { failed=1; echo "left directory $d"; }
	done
	[ -z "$failed" ]
}

# empty removes the contents of the workspace from within the container that has it, which is root there.
empty() {
	printf '%s\n' "$1" | while read -r id _ service; do
		[ "$service" != "$FILES" ] || engine exec "$id" find /w -mindepth 1 -delete >/dev/null 2>&1
	done
}
FILES=sandboxer-files

# lock takes the lock of a sandbox's directory, which one process holds while it builds or removes.
lock() {
	exec 8>>"$ROOT/$1/lock" && flock -w "$2" 8
}
