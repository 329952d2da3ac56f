# exec NAME CONTAINER MARK TTY: runs a shell in a container, which reads on its standard input what it is to do. As long as it
# runs, a file says so, by which the watch ends what was cut off.
f=$ROOT/$1/exec/$3 container=$2 mark=$3 tty=$4
read -r stat </proc/$$/stat
stat=${stat##*) }
set -- $stat
echo "$$ ${20} $container $mark" 2>/dev/null >"$f"
if [ -n "$tty" ]; then
	$ENGINE exec -i -t -e "SANDBOXER_EXEC=$mark" -e "TERM=$tty" "$container" sh -c \
		'stty raw -echo || exit 124; printf "\036%s?" "$0"; IFS= read -r __l && stty sane && eval "$__l"' "$mark"
else
	$ENGINE exec -i -e "SANDBOXER_EXEC=$mark" "$container" sh -c 'IFS= read -r __l && eval "$__l"' "$mark"
fi
code=$?
rm -f "$f"
exit $code
