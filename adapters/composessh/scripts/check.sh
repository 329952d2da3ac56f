# check NAME PATH... resolves what the engine will open in the workspace, links and all, and prints each path that leads out of
# it. One that does not exist is made by the engine, below a directory that was checked.
ws=$(cd "$ROOT/$1/workspace" && pwd -P) || exit 1
shift
for p in "$@"; do
	real=$(readlink -m -- "$ws/$p") || { printf '%s\n' "$p"; continue; }
	case $real/ in
	"$ws"/*) ;;
	*) printf '%s\n' "$p" ;;
	esac
done
