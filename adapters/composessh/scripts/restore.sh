# restore NAME SNAPSHOT FILES TOOLPATH MEMBERS: extracts a snapshot through the container for files, or, without one, its
# workspace with the host's tar into the directory that nobody has written to yet.
name=$1 data=$2/data files=$3 path=$4 members=$5
at=$ROOT/$name
unpack() {
	case $(head -c 4 "$data" | od -An -tx1 | tr -d ' \n') in
	28b52ffd) zstd -q -dc "$data" ;;
	*) cat "$data" ;;
	esac
}
if [ -n "$files" ]; then
	unpack | $ENGINE exec -i "$files" env -i "PATH=$path" LC_ALL=C tar -C / -xpf - --same-owner --numeric-owner --warning=no-timestamp $members
else
	unpack | tar -C "$at/workspace" -xpf - --strip-components=1 --numeric-owner --warning=no-timestamp w
fi
