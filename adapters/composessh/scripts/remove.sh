# remove NAME OWNER GRACE WAIT FENCE WATCH: see remove_lib.sh. Prints "foreign" and does nothing where the claim is
# somebody else's. A name that nobody has claimed is fenced for FENCE seconds.
name=$1 owner=$2 grace=$3 wait=$4 fence=$5
at=$ROOT/$name
if [ -e "$at/claim.json" ]; then
	read -r owned <"$at/owner"
	if [ -n "$owner" ] && [ "$owner" != "$owned" ]; then
		echo foreign
		exit 0
	fi
	mark_removing "$at"
	lock "$name" "$wait" || { echo "left directory $at, which another process works on"; exit 1; }
elif [ "$fence" -gt 0 ]; then
	mkdir -p "$ROOT" || exit 1
	put "$ROOT/.fence.$name" $(($(date +%s) + fence))
	start_watch "$6"
fi
remove "$name" "$owner" "$grace"
