# up NAME COMPOSE SERVICES FACTS: starts a stack, whose project comes on standard input, and notes that it is up. With SERVICES
# it starts only these, and notes nothing. COMPOSE is the words of the command.
name=$1 compose=$2 services=$3 facts=$4
at=$ROOT/$name
lock "$name" 60 || { echo "another process works on $at" >&2; exit 75; }
[ -e "$at/claim.json" ] && [ ! -e "$at/removing" ] || { echo "$name is being removed" >&2; exit 76; }
[ ! -e "$at/up" ] || exit 0
# Names are of a root, and projects of an engine: what others call so is not ours to replace, or to read.
if [ ! -e "$at/ours" ]; then
	read -r owned <"$at/owner"
	found=$(for kind in "ps -a" "network ls" "volume ls"; do
		engine $kind --filter "label=com.docker.compose.project=$name" --format '{{.Label "sandboxer-name"}} {{.Label "sandboxer-owner"}}' ||
			echo failed &
	done; wait)
	found=$(printf '%s\n' "$found" | grep -vxF -e "$name $owned" -e "" | sort -u)
	case $found in
	"") ;;
	failed) exit 1 ;; # the engine has said why
	*) echo "the engine has a project $name already, which is not this sandbox's" >&2; exit 77 ;;
	esac
	put "$at/ours" "$owned" || exit 1
fi
for v in $(env | sed -n 's/^\(COMPOSE_[A-Za-z0-9_]*\)=.*/\1/p'); do unset "$v"; done
set -- -p "$name" --project-directory "$at/workspace" --env-file /dev/null -f -
if [ "$services" = build ]; then
	$compose "$@" build 8>&- >&2 || exit 1
	exit 0
fi
$compose "$@" up -d --quiet-pull $services 8>&- >&2 || exit 1
[ -n "$services" ] || put "$at/up" "$facts"
