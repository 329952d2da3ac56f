# snapshot NAME OWNER ID ZSTD FILES TOOLPATH MEMBER...: writes the workspace and the named volumes to a directory that nobody sees yet, and
# prints that directory, the digest and the size. The services are held meanwhile, so that what is kept is of one instant.
name=$1 owner=$2 id=$3 zstd=$4 files=$5 path=$6
shift 6
at=$ROOT/$name
new=$ROOT/.snapshots/.tmp.$id.$$
held=
undo() {
	[ -z "$held" ] || engine unpause $held >/dev/null 2>&1
	rm -f "$at/held"
}
fail() {
	undo
	rm -rf "$new"
	trap - EXIT
	[ -z "$1" ] || echo "$1" >&2
	exit "$2"
}
trap 'fail "" 1' EXIT HUP INT TERM
mkdir -p "$new" || exit 1
list=$(containers "$name" "$owner") || exit 1
ids=$(printf '%s\n' "$list" | while read -r i _ service; do
	# One of no service is of the moment, for a connection, and holds no files.
	[ -z "$service" ] || [ "$service" = sandboxer-files ] || [ "$(engine inspect --format '{{.State.Status}}' "$i")" != running ] || echo "$i"
done)
if [ -n "$ids" ]; then
	read -r stat </proc/$$/stat
	stat=${stat##*) }
	start=$(set -- $stat; echo "${20}")
	# Should we be ended, the watch lets them go on.
	echo "$$ $start" $ids >"$at/held" || exit 1
	held=$ids
	for i in $ids; do
		freeze "$i" || fail "the services could not be held" 1
	done
fi
pack() {
	engine exec "$files" env -i "PATH=$path" LC_ALL=C tar --format=posix --pax-option=delete=atime,delete=ctime --numeric-owner \
		--warning=no-file-ignored --sort=name -C / -cf - -- "$@" 2>"$new/said"
	echo $? >"$new/code"
}
if [ -n "$zstd" ]; then
	pack "$@" | zstd -q -1 -T0 >"$new/data" || fail "$(cat "$new/said")" 1
else
	pack "$@" >"$new/data" || fail "$(cat "$new/said")" 1
fi
undo
held=
read -r code <"$new/code"
[ "$code" = 0 ] || fail "$(cat "$new/said")" 1
rm -f "$new/said" "$new/code"
cp "$at/compose" "$at/compose.name" "$new/" || fail "" 1
digest=$(cat "$new/compose.name" "$new/compose" "$new/data" | sha256sum | cut -d' ' -f1) || fail "" 1
sync "$new"/* 2>/dev/null || sync
trap - EXIT
echo "$new"
echo "$digest"
wc -c <"$new/data"
