# source NAME FILE prints the Compose file of a sandbox after a line with its name, and keeps it: later, and in restored
# sandboxes, what stood in it first counts. FILE is its path in the workspace; empty: the first of the usual names. A file that
# lies outside, by a link, is none.
at=$ROOT/$1
if [ ! -e "$at/compose.name" ]; then
	ws=$(cd "$at/workspace" && pwd -P) || exit 1
	if [ -n "$2" ]; then set -- "$2"; else set -- compose.yaml compose.yml docker-compose.yaml docker-compose.yml; fi
	for f in "$@"; do
		real=$(readlink -e -- "$ws/$f") || continue
		case $real in "$ws"/*) ;; *) continue ;; esac
		[ -f "$real" ] || continue
		head -c 1100000 -- "$real" >"$at/compose" && put "$at/compose.name" "$f" || exit 1
		break
	done
fi
[ -e "$at/compose.name" ] || exit 0
cat "$at/compose.name" "$at/compose"
