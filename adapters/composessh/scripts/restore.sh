# restore NAME OWNER SNAPSHOT FILES TOOLPATH [MEMBER...]: extracts a snapshot through the container for files, or, without one, its
# workspace through a container of the moment into a directory that no service has written to. There it belongs to the login,
# which is to read it. Never by tar on the host: an archive may come from anywhere, and its names and links lead wherever tar
# can reach, a name of two slashes even where tar takes absolute names for relative ones.
name=$1 owner=$2 data=$3/data files=$4 path=$5
shift 5
at=$ROOT/$name
unpack() {
	case $(head -c 4 "$data" | od -An -tx1 | tr -d ' \n') in
	28b52ffd) zstd -q -dc "$data" ;;
	*) cat "$data" ;;
	esac
}
if [ -n "$files" ]; then
	unpack | $ENGINE exec -i "$files" env -i "PATH=$path" LC_ALL=C tar -C / -xpf - --same-owner --numeric-owner --warning=no-timestamp \
		--delay-directory-restore -- "$@"
else
	# Services of an attempt that was cut off may have left what would be mixed with it, or run on.
	lock "$name" 60 || { echo "another process works on $at" >&2; exit 75; }
	ids=$(containers "$name" "$owner" | cut -d' ' -f1)
	if [ -n "$ids" ] || [ -n "$(ls -A "$at/workspace")" ]; then
		[ -z "$ids" ] || engine rm -f -v $ids >/dev/null || exit 1
		clear_away "$at/workspace"
		mkdir "$at/workspace" && chmod 755 "$at/workspace" || exit 1
	fi
	unpack | confined "$name" "$owner" "$at/workspace" 0 sh -c '
who=$(stat -c %u:%g /w) own=--same-owner
[ "$1" = 0 ] || own=--no-same-owner
tar -C / -xpf - $own --numeric-owner --warning=no-timestamp --delay-directory-restore -- w || exit
[ "$1" = 0 ] || chown -hR "$who" /w' sh "$(id -u)"
fi
