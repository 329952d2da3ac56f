# list OWNER WATCH prints the claims of all sandboxes, each between "sandbox" and "end", and then a line for each container, network
# and volume with our labels: "thing", a tab, and a list in JSON of name, owner, id, extension, time of its making, state. Labels
# may be of anybody's making, and end no line of ours.
owner=$1
watched || for d in "$ROOT"/*/claim.json; do [ ! -e "$d" ] || { start_watch "$2"; break; }; done
for d in "$ROOT"/*; do
	[ -e "$d/claim.json" ] || continue
	[ -z "$owner" ] || [ "$(cat "$d/owner" 2>/dev/null)" = "$owner" ] || continue
	echo sandbox
	cat "$d/claim.json" 2>/dev/null
	[ ! -e "$d/removing" ] || echo removing
	[ ! -e "$d/up" ] || cat "$d/up" 2>/dev/null
	echo end
done
f=label=sandboxer-name
[ -z "$owner" ] || f=label=sandboxer-owner=$owner
l='{{json (.Label "sandboxer-name")}},{{json (.Label "sandboxer-owner")}},{{json (.Label "sandboxer-id")}},{{json (.Label "sandboxer-extension")}}'
engine ps -a --filter "$f" --format "thing	[$l,{{json .CreatedAt}},{{json .State}}]" || exit 1
engine network ls --filter "$f" --format "thing	[$l,{{json .CreatedAt}},\"network\"]" || exit 1
volumes=$(engine volume ls -q --filter "$f") || exit 1
[ -n "$volumes" ] || exit 0
l='{{json (index .Labels "sandboxer-name")}},{{json (index .Labels "sandboxer-owner")}},{{json (index .Labels "sandboxer-id")}},{{json (index .Labels "sandboxer-extension")}}'
engine volume inspect --format "thing	[$l,{{json .CreatedAt}},\"volume\"]" $volumes 2>/dev/null
exit 0 # one that has gone meanwhile is none
