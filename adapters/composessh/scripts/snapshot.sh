# snapshot NAME OWNER ID ZSTD FILES TOOLPATH MEMBER...: writes the workspace and the named volumes to a directory that nobody sees yet, and
# prints that directory, the digest and the size. The services are held meanwhile, so that what is kept is of one instant.
name=$1 owner=$2 id=$3 zstd=$4 files=$5 path=$6
shift 6
at=$ROOT/$name
new=$ROOT/.snapshots/.tmp.$id.$$
out=$id.$$ # what the container for files writes, below the directory that it has as /o
held= said=
undo() {
	[ -z "$held" ] || engine unpause $held >/dev/null 2>&1
	rm -f "$at/held"
}
# take moves a file that the container has packed to where it is kept, and takes nothing but a file that has no other name.
take() {
	mv -T "$new/out/$1" "$new/$1" 2>/dev/null && [ -f "$new/$1" ] && [ ! -L "$new/$1" ] && [ "$(stat -c %h "$new/$1")" = 1 ]
}
fail() {
	undo
	rm -rf "$new" "$at/out/$out"
	trap - EXIT
	[ -z "$1" ] || echo "$1" >&2
	exit "$2"
}
trap 'fail "" 1' EXIT HUP INT TERM
mkdir -p "$new" "$at/out/$out" || exit 1
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
engine exec "$files" env -i "PATH=$path" LC_ALL=C sh -c '
cd "/o/$1" || exit 1
zstd=$2
shift 2
pack() {
	tar --format=posix --pax-option=delete=atime,delete=ctime --numeric-owner --warning=no-file-ignored --sort=name -C / -cf - -- "$@" 2>said
	echo $? >code
}
if [ -n "$zstd" ] && command -v zstd >/dev/null; then pack "$@" | zstd -q -1 -T0 >data; else pack "$@" >data; fi' sh "$out" "$zstd" "$@"
ran=$?
undo
held=
# First out of the container's reach, and then it is looked at.
mv -T "$at/out/$out" "$new/out" && [ ! -L "$new/out" ] || fail "what was packed is not there" 1
! take said || said=$(head -c 8000 "$new/said")
[ $ran = 0 ] && take code && [ "$(head -c 4 "$new/code")" = 0 ] || fail "$said" 1
take data && rm -rf "$new/out" "$new/said" "$new/code" && cp "$at/compose" "$at/compose.name" "$new/" || fail "" 1
durable "$new"/* & syncing=$!
digest=$(cat "$new/compose.name" "$new/compose" "$new/data" | digest) || fail "" 1
wait $syncing || fail "the snapshot could not be put on the disk" 1
trap - EXIT
echo "$new"
echo "$digest"
wc -c <"$new/data"
