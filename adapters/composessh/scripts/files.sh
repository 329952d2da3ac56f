# files NAME OWNER OPTION...: prints the ID of the container for files, which is made when it is first needed, with the options.
name=$1 owner=$2
shift 2
at=$ROOT/$name
[ -d "$at" ] || exit 76
lock "$name" 60 || { echo "another process works on $at" >&2; exit 75; }
[ -e "$at/claim.json" ] && [ ! -e "$at/removing" ] || exit 76
list=$(containers "$name" "$owner") || exit 1
id=$(printf '%s\n' "$list" | while read -r i _ s; do [ "$s" != sandboxer-files ] || echo "$i"; done)
if [ -z "$id" ]; then
	[ -n "$list" ] || exit 76
	image=$(empty_image) || exit 1
	read -r owned <"$at/owner" # by which it is found and removed
	id=$(engine run -d "$@" --label "sandboxer-owner=$owned" "$image" -c 'while :; do sleep 86400; done') || exit 1
elif [ "$(engine inspect --format '{{.State.Status}}' "$id")" != running ]; then
	engine start "$id" >/dev/null || exit 1
fi
echo "$id"
