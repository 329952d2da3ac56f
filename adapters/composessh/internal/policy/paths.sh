# PathCheck: sh -c "$PathCheck" sh WORKSPACE, with Stack.Paths on standard input, one a line. It prints those of them that lie
# outside of the workspace in fact, or that nobody can tell of. 0: none. 1: those that it printed. 2: there is no workspace.
end='
.' # keeps newlines at the end of a name, which $(…) would cut off
top=$(cd -P -- "$1" && pwd -P && echo .) || exit 2
top=${top%"$end"}
code=0
while IFS= read -r path; do
	# What is not there yet, the engine makes below what is there.
	at=$top/$path
	until [ -e "$at" ] || [ -L "$at" ]; do
		at=${at%/*}
	done
	real=$(readlink -f -- "$at" && echo .)
	real=${real%"$end"}
	case $real in
	"$top" | "$top"/*) [ "$at" = "$top/$path" ] || [ ! -d "$at" ] || [ -x "$at" ] || real= ;; # what is in it cannot be seen
	*) real= ;;
	esac
	[ -n "$real" ] || { printf '%s\n' "$path"; code=1; }
done
exit $code
