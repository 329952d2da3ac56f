# exec NAME CONTAINER MARK TTY ROWS COLUMNS: runs a shell in a container, which reads on its standard input what it is to do. As
# long as it runs, a file says so, by which the watch ends what was cut off. The engine gives a terminal its size at some time
# after the shell has begun; where it has not yet, the shell does.
f=$ROOT/$1/exec/$3 container=$2 mark=$3 tty=$4 size="rows $5 cols $6"
read -r stat </proc/$$/stat
stat=${stat##*) }
set -- $stat
echo "$$ ${20} $container $mark" 2>/dev/null >"$f"
if [ -n "$tty" ]; then
	$ENGINE exec -i -t -e "SANDBOXER_EXEC=$mark" -e "TERM=$tty" "$container" sh -c \
		'stty raw -echo || exit 124; printf "\036%s?" "$0"; IFS= read -r __l && stty sane && case $(stty size 2>/dev/null) in "" | "0 0") stty $1 2>/dev/null || : ;; esac && eval "$__l"' "$mark" "$size"
else
	$ENGINE exec -i -e "SANDBOXER_EXEC=$mark" "$container" sh -c 'IFS= read -r __l && eval "$__l"' "$mark"
fi
code=$?
rm -f "$f"
exit $code
