# restore NAME SNAPSHOT FILES TOOLPATH [MEMBER...]: extracts a snapshot through the container for files, or, without one, its
# workspace with the host's tar into the directory that nobody has written to yet.
name=$1 data=$2/data files=$3 path=$4
shift 4
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
	unpack | tar -C "$at/workspace" -xpf - --strip-components=1 --numeric-owner --warning=no-timestamp --delay-directory-restore w
fi
