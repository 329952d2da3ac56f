i=0 more=$2
while [ $i -lt 60 ]; do
	i=$((i + 1)) hit=" " all=
	for d in /proc/[0-9]*; do
		p=${d#/proc/}
		[ "$p" != $$ ] || continue
		parent= state=
		while read -r k v _; do
			case $k in State:) state=$v ;; PPid:) parent=$v; break ;; esac
		done 2>/dev/null <"$d/status"
		case $state in Z | X | "") continue ;; esac
		all="$all $p:$parent"
		while IFS= read -r x || [ -n "$x" ]; do
			case $x in *"SANDBOXER_EXEC=$1"*) hit="$hit$p "; break ;; esac
		done 2>/dev/null <"$d/environ"
	done
	again=1
	while [ -n "$again" ]; do
		again=
		for e in $all; do
			case $hit in *" ${e%%:*} "*) continue ;; esac
			case $hit in *" ${e#*:} "*) hit="$hit${e%%:*} " again=1 ;; esac
		done
	done
	if [ "$hit" != " " ]; then
		kill -KILL $hit 2>/dev/null
		[ $i -lt 3 ] || sleep 0.05 2>/dev/null || :
		continue
	fi
	[ "$more" -gt 0 ] || exit 0
	more=$((more - 1))
	sleep 0.1 2>/dev/null || sleep 1
done
exit 1
