# Ends what commands left running. Reads lines. From shells that are about to become a command, through a pipe that they
# find at descriptor 9 of this process: +T PID, with the time at which that began, if they know it. From us, and from
# runners: -T the command ended, !T end all of it, ?T the same where it may be about to begin, . we are there. Writes who it
# is, and each token of which nothing is left. LIVE and TODO have words T/PID/START.
F= LIVE= DEAD= TODO= WORK= PART= BEAT= TIMER= DUE=

# Sets at to what is known of token $1.
entry() {
	at=
	for o in $LIVE; do
		case $o in "$1/"*) at=$o ;; esac
	done
}

without() {
	n=
	for o in $LIVE; do
		case $o in "$1/"*) ;; *) n="$n $o" ;; esac
	done
	LIVE=$n
}

# Sets born to the time at which process $1 was started, if there is one.
birth() {
	born=
	{ IFS= read -r born <"/proc/$1/stat"; } 2>/dev/null || return
	set -- ${born##*) }
	born=${20}
}

# The processes in TODO that are alive, after the number of them: those with a token in their environment or command line,
# those that began one, all below them, and all in a session that one of them leads.
members() {
	roots=
	set --
	for o in $TODO; do
		t=${o%%/*} p=${o#*/} b=${p#*/} p=${p%/*}
		set -- "$@" -e "[${t%"${t#?}"}]${t#?}"
		[ -n "$p" ] || continue
		birth "$p"
		[ -n "$born" ] && [ "$born" != "$b" ] || roots="$roots $p" # or the number is another's by now
	done
	[ $# -gt 0 ] || { echo 0; return; }
	m=$(grep -ls "$@" /proc/[0-9]*/environ /proc/[0-9]*/cmdline)
	[ -n "$m$roots" ] || { echo 0; return; }
	cat /proc/[0-9]*/stat | awk -v m="$(echo $m)" -v roots="$roots" '
		{
			p = name == "" ? $1 : name
			if (!sub(/^.*\) /, "")) { name = p; next } # a name with a line break
			name = ""; state[p] = $1; parent[p] = $2; session[p] = $4
		}
		END {
			n = split(m, a, " ")
			for (i = 1; i <= n; i++) { split(a[i], b, "/"); hit[b[3]] = 1 }
			n = split(roots, a, " ")
			for (i = 1; i <= n; i++) hit[a[i]] = 1
			do {
				more = 0
				for (q in parent) if (!(q in hit) && (parent[q] in hit || session[q] in hit)) { hit[q] = 1; more = 1 }
			} while (more)
			n = 0; out = ""
			for (q in hit) if (q in parent && state[q] != "Z" && state[q] != "X") { n++; out = out " " q }
			print n out
		}'
} 2>/dev/null

# Ends all that is in TODO, and tells when nothing is left of it. It holds the processes first, so that none escapes by
# forking.
finish() {
	i=0 before=0
	while [ $i -lt 60 ]; do
		i=$((i + 1))
		set -- $(members)
		if [ "${1:-0}" -eq 0 ]; then
			for o in $TODO; do
				t=${o%%/*}
				case $t in y*-0-) rm -rf "$TMPDIR/sandboxer-${t%0-}"* "/tmp/sandboxer-${t%0-}"* ;; esac # its lanes' socket
				echo "$t"
			done
			return
		fi
		n=$1
		shift
		if [ "$n" -eq "$before" ] || [ $i -gt 20 ]; then
			kill -KILL "$@" 2>/dev/null
			before=0
		else
			kill -STOP "$@" 2>/dev/null
			before=$n
		fi
	done
}

# Ends token $1, together with those for which that is asked while others are being ended: it is the looking that costs.
end() {
	entry "$1"
	without "$1"
	TODO="$TODO ${at:-$1//}"
	[ -n "$WORK" ] || work
}

work() {
	WORK=1
	{ finish; echo '*' >/proc/$K/fd/9; } 9<&- 2>/dev/null &
	TODO=
}

# Wakes us after a lease. Its steps are short for when nobody ends it.
arm() {
	BEAT=
	(
		trap 'kill $s; exit' TERM
		i=0
		while [ $i -lt LEASE ]; do
			sleep STEP &
			s=$!
			wait $s
			i=$((i + STEP))
			read -r _ _ _ parent _ </proc/self/stat && [ "$parent" = $K ] || exit
		done
		kill -USR1 $K
	) >/dev/null 2>&1 9<&- &
	TIMER=$!
}

# Takes the line $l.
take() {
	t=${l#?}
	case $l in
	+*)
		set -- $t
		[ -n "$3" ] || birth "$2"
		t=$1
		LIVE="$LIVE $1/$2/${3:-$born}"
		case " $DEAD " in *" $t "*) end "$t" ;; esac
		[ -n "$TIMER" ] || arm
		;;
	-*) without "$t" ;;
	!*) end "$t" ;;
	'?'*) # where sshd has not started it yet, it is ended as soon as it comes, if it does within some seconds
		entry "$t"
		if [ -n "$at" ]; then end "$t"; else DEAD="$DEAD $t"; { sleep 2; echo "~$t" >/proc/$K/fd/9; } 9<&- 2>/dev/null & fi
		;;
	'~'*) echo "$t" ;;
	'*') WORK=; [ -z "$TODO" ] || work ;;
	=*) F=$t ;;
	esac
}

# Ends everything. The shells that have the pipe open have their say; those that come later find none, and begin nothing.
leave() {
	[ -z "$1" ] || kill "$F"
	[ -z "$TIMER" ] || kill $TIMER
	exec 8<&9 9<&-
	WORK=1 # what is to be ended is ended together
	while IFS= read -r l <&8; do take; done
	TODO="$TODO $LIVE"
	finish
	exit 0
}

keep() {
	read -r K _ </proc/self/stat
	trap 'DUE=1' USR1
	trap '' PIPE # nobody listens any more, and there is work to do
	exec 9<&0 </dev/null
	echo; echo "TOKEN=$K $(uname -m) $SHELL"
	while :; do
		if IFS= read -r l <&9; then
			l=$PART$l PART= BEAT=1
			take
		elif [ -n "$DUE" ]; then
			PART=$PART$l
		else
			leave
		fi
		if [ -n "$DUE" ]; then
			DUE= TIMER=
			if [ -z "$LIVE" ]; then :; elif [ -n "$BEAT" ]; then arm; else leave late; fi
		fi
	done
}

# Lines go through whole, so that those of others are never within one.
{ read -r F _ </proc/self/stat; echo "=$F"; while IFS= read -r l; do printf '%s\n' "$l"; done; } | keep
