# kept [ID]: prints "snapshot", the owner and the description of one snapshot, or of all.
for d in "$ROOT/.snapshots/"${1:-*}; do
	[ -e "$d/meta.json" ] || continue
	echo snapshot
	cat "$d/owner" "$d/meta.json"
done
