# kept [ID]: prints "snapshot", the owner and the description of one snapshot, or of all.
for d in "$ROOT/.snapshots/"${1:-*}; do
	[ -e "$d/meta.json" ] || continue
	# Three lines or none, also of one that is deleted in this moment.
	owned=$(cat "$d/owner" 2>/dev/null) && meta=$(cat "$d/meta.json" 2>/dev/null) || continue
	printf 'snapshot\n%s\n%s\n' "$owned" "$meta"
done
