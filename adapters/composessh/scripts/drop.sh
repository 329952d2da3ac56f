# drop ID OWNER: removes a snapshot, whole or half-made, also what a container was packing for it; one of another owner stays.
to=$ROOT/.snapshots/$1
if [ -e "$to/owner" ]; then
	read -r owned <"$to/owner"
	[ -z "$2" ] || [ "$owned" = "$2" ] || exit 0
fi
# It is there as a whole or not at all, also where this is cut off.
[ ! -e "$to" ] || mv -T "$to" "$ROOT/.snapshots/.tmp.$1.x$$" || [ ! -e "$to" ] || exit 1
for d in "$ROOT/.snapshots/.tmp.$1."* "$ROOT"/*/out/"$1".*; do
	case ${d##*/} in
	".tmp.$1."*.* | "$1".*.*) ;; # of a snapshot whose ID begins with this one's
	*) rm -rf "$d" || exit 1 ;;
	esac
done
rmdir "$ROOT/.snapshots" "$ROOT" 2>/dev/null
exit 0
