# Ends what commands left running. Writes the login shell, and each token of which nothing is left. Reads lines: +T a command begins, -T it ended, !T end all of it,
# ?T the same, and it may be about to begin, . we are there.
K=$$ LIVE= PART= BEAT= TIMER= P=

# The processes of token $1 that are alive, after the number of them: those with the token in their environment or command
# line, all below them, and all in a session that one of them leads.
members() {
	f=${1%"${1#?}"} r=${1#?}
	m=$(grep -ls -e "[$f]$r" /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null)
	[ -n "$m" ] || { echo 0; return; }
	cat /proc/[0-9]*/status 2>/dev/null | awk -v m="$(echo $m)" '
		/^State:/ { s = $2 } /^Pid:/ { p = $2; state[p] = s } /^PPid:/ { parent[p] = $2 } /^NSsid:/ { session[p] = $2 }
		END {
			n = split(m, a, " ")
			for (i = 1; i <= n; i++) { split(a[i], b, "/"); hit[b[3]] = 1 }
			do {
				more = 0
				for (q in parent) if (!(q in hit) && (parent[q] in hit || session[q] in hit)) { hit[q] = 1; more = 1 }
			} while (more)
			n = 0; out = ""
			for (q in hit) if (q in parent && state[q] != "Z" && state[q] != "X") { n++; out = out " " q }
			print n out
		}'
}

# Ends all processes of token $1; fails when there were none: holds them first, so that none escapes by forking.
finish() {
	i=0 before=0 none=1
	while [ $i -lt 60 ]; do
		i=$((i + 1))
		set -- "$1" $(members "$1")
		n=${2:-0} t=$1
		[ "$n" -gt 0 ] || return $none
		none=0
		shift 2
		if [ "$n" -eq 1 ] || [ "$n" -eq "$before" ] || [ $i -gt 20 ]; then
			kill -KILL "$@" 2>/dev/null
			before=0
		else
			kill -STOP "$@" 2>/dev/null
			before=$n
		fi
		set -- "$t"
	done
}

# The same for one that sshd may be about to start: between its fork and the shell there is no token to be seen.
await() {
	w=0
	while ! finish "$1" && [ $w -lt 10 ]; do
		w=$((w + 1))
		sleep 0.2 2>/dev/null || sleep 1
	done
}

# Wakes us after a lease. Its steps are short because nobody ends it when we are gone.
arm() {
	BEAT= TIMER=1
	(
		i=0
		while [ $i -lt LEASE ]; do
			sleep STEP
			i=$((i + STEP))
			read -r _ _ _ parent _ </proc/self/stat && [ "$parent" = $K ] || exit
		done
		kill -USR1 $K
	) </dev/null >/dev/null 2>&1 &
}

leave() {
	for t in $LIVE; do await $t & P="$P $!"; done
	[ -z "$P" ] || wait $P
	exit 0
}

without() {
	n=
	for o in $LIVE; do [ "$o" = "$1" ] || n="$n $o"; done
	LIVE=$n
}

trap 'DUE=1' USR1
trap '' PIPE # nobody listens any more, and there is work to do
echo; echo "TOKEN=$SHELL"
DUE=
while :; do
	if IFS= read -r l; then
		l=$PART$l PART= BEAT=1
		case $l in
		+*) LIVE="$LIVE ${l#+}"; [ -n "$TIMER" ] || arm ;;
		-*) without "${l#-}" ;;
		!*) t=${l#!}; without "$t"; (finish "$t"; echo "$t") </dev/null & ;;
		'?'*) t=${l#?}; without "$t"; (await "$t"; echo "$t") </dev/null & ;;
		esac
	elif [ -n "$DUE" ]; then
		PART=$PART$l
	else
		leave
	fi
	if [ -n "$DUE" ]; then
		DUE= TIMER=
		if [ -z "$LIVE" ]; then :; elif [ -n "$BEAT" ]; then arm; else leave; fi
	fi
done
