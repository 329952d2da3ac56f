# keep DIRECTORY ID OWNER META: makes a finished snapshot visible. Prints what is kept under that ID, which may have been there
# first, after a line with its owner.
new=$1 id=$2 owner=$3
to=$ROOT/.snapshots/$id
if [ ! -e "$to/meta.json" ]; then
	printf '%s\n' "$owner" >"$new/owner" && printf '%s\n' "$4" >"$new/meta.json" || exit 1
	durable "$new/owner" "$new/meta.json" "$new" || { rm -rf "$new"; exit 1; }
	mv -T "$new" "$to" 2>/dev/null
fi
rm -rf "$new"
[ -e "$to/meta.json" ] || { echo "$to cannot be made, or was deleted" >&2; exit 1; }
durable "$ROOT/.snapshots" "$ROOT" || exit 1 # its name, also where another call gave it a moment ago
cat "$to/owner" "$to/meta.json"
