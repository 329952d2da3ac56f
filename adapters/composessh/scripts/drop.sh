# drop ID OWNER: removes a snapshot, whole or half-made, also what a container was packing for it; one of another owner stays.
to=$ROOT/.snapshots/$1
if [ -e "$to/owner" ]; then
	read -r owned <"$to/owner"
	[ -z "$2" ] || [ "$owned" = "$2" ] || exit 0
fi
rm -rf "$to" "$ROOT/.snapshots/.tmp.$1."* "$ROOT"/*/out/"$1".* || exit 1
rmdir "$ROOT/.snapshots" "$ROOT" 2>/dev/null
exit 0
