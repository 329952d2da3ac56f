#!/usr/bin/env bash
# Two Docker engines with a network namespace each, so that they are two hosts to the tests (adapters/internal/hosttest), and
# Compose. Nothing of them is the machine's own: sockets, data, networks, cgroups and configuration are below STATE or carry
# its name. Compose is kept in .cache/: Debian has only the first version of it, which nobody should use any more.
#
# Each socket may be used by a group that no account is in: a test's login that is not root is of it, and passes through the
# directories above.
#
# What tests find in SANDBOXER_DOCKER: 1/ and 2/, each with docker.sock and netns, compose/docker-compose, and in both engines
# the image sandboxer-test/busybox:1.
set -euo pipefail
. "$(dirname "$0")/../lib.sh"

IMAGE=sandboxer-test/busybox:1
GROUP=61791
PATH=$PATH:/usr/sbin:/sbin
STATE=$2
NAME=$(basename "$STATE")

# compose builds Compose unless .cache/ has this version, and prints where it is.
compose() {
	local module=github.com/docker/compose/v5 version dir
	version=$(cd tools/compose && go list -m -f '{{.Version}}' $module)
	dir=$ROOT/.cache/compose-$version
	if [ ! -x "$dir/docker-compose" ]; then
		echo "building Compose $version; this takes a minute or two, once" >&2
		mkdir -p "$dir"
		(cd tools/compose && CGO_ENABLED=0 go build -ldflags "-s -w -X $module/internal.Version=$version" \
			-o "$dir/new.$$" $module/cmd) || { rm -f "$dir/new.$$"; return 1; }
		mv "$dir/new.$$" "$dir/docker-compose"
	fi
	echo "$dir"
}

# home makes the directory that everything is in, at STATE/docker, and lets everybody pass through. Paths of Unix sockets have at most 107 bytes, and
# containerd makes some far below: where STATE is too deep, STATE/docker is a link to a short one.
home() {
	DIR=$STATE/docker
	mkdir -p "$STATE"
	if [ ${#DIR} -lt 60 ]; then
		mkdir "$DIR"
	else
		DIR=$(mktemp -d /tmp/sbx.XXXXXX)
		ln -s "$DIR" "$STATE/docker"
	fi
	chmod 711 "$STATE" "$DIR"
}

# image packs a root file system: busybox, each of its commands as a link, and what programs expect beside.
image() {
	local root=$DIR/image
	mkdir -p "$root"/{bin,etc,home,proc,root,sys,tmp,usr,var}
	chmod 1777 "$root/tmp"
	cp "$(command -v busybox)" "$root/bin/busybox"
	local command
	for command in $("$root/bin/busybox" --list); do
		[ "$command" = busybox ] || ln -s busybox "$root/bin/$command"
	done
	ln -s ../bin "$root/usr/bin"
	printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/tmp:/bin/sh\n' >"$root/etc/passwd"
	printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
	tar -C "$root" --owner=0 --group=0 -cf "$DIR/image.tar" .
	rm -rf "$root"
}

# engine N starts one, waits until it answers, and gives it the image. Its options are those that keep it to itself; where a
# file system does not suit overlay2 it takes another driver by itself.
engine() {
	local dir=$DIR/$1 i
	mkdir -p "$dir/home"
	chmod 711 "$dir"
	: >"$dir/netns"
	unshare --net="$dir/netns" true
	nsenter --net="$dir/netns" ip link set lo up
	echo '{}' >"$dir/daemon.json"
	start "$DIR" "$1" nsenter --net="$dir/netns" env -i "PATH=$PATH" "HOME=$dir/home" "TMPDIR=${TMPDIR:-/tmp}" \
		dockerd --config-file "$dir/daemon.json" --host "unix://$dir/docker.sock" \
		--data-root "$dir/data" --exec-root "$dir/x" --pidfile "$dir/pid" \
		--exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "/$NAME-$1" --log-level warn --shutdown-timeout 1
	for ((i = 0; i < 300; i++)); do
		! docker_ "$1" version >/dev/null 2>&1 || break
		kill -0 "$(cut -d' ' -f1 "$DIR/$1.pid")" 2>/dev/null || break
		sleep 0.1
	done
	if ! docker_ "$1" version >/dev/null; then
		echo "engine $1 does not answer; the end of what it said:" >&2
		tail -n 20 "$DIR/$1.log" >&2
		return 1
	fi
	chgrp "$GROUP" "$dir/docker.sock"
	chmod 660 "$dir/docker.sock"
}

# load N gives the image to an engine.
load() {
	docker_ "$1" import --change 'ENV PATH=/bin' --change 'CMD ["/bin/sh"]' "$DIR/image.tar" "$IMAGE" >/dev/null
}

# docker_ N ARG... is the client of an engine, with nobody's configuration.
docker_() {
	local n=$1
	shift
	env -i "PATH=$PATH" "HOME=$DIR/$n/home" docker --host "unix://$DIR/$n/docker.sock" "$@"
}

# await waits for all of JOBS and fails when one did; the failed one has said why.
JOBS=()
await() {
	local job code=0
	for job in "${JOBS[@]}"; do wait "$job" || code=$?; done
	JOBS=()
	return $code
}

up() {
	[ "$(id -u)" = 0 ] || { echo "Docker engines are started by root only" >&2; return 1; }
	need_idle dockerd docker.io
	need docker docker-cli
	need ip iproute2
	need iptables iptables
	need nsenter util-linux
	need busybox busybox-static
	! ldd "$(command -v busybox)" >/dev/null 2>&1 || apt_get install busybox-static # the other one needs libraries
	need git git
	need rsync rsync
	home
	compose >"$DIR/compose-dir" & JOBS+=($!)
	engine 1 & JOBS+=($!)
	engine 2 & JOBS+=($!)
	image & JOBS+=($!)
	await
	load 1 & JOBS+=($!)
	load 2 & JOBS+=($!)
	await
	rm "$DIR/image.tar"
	mkdir -m 755 "$DIR/compose" # the checkout need not let everybody through
	ln "$(cat "$DIR/compose-dir")/docker-compose" "$DIR/compose/" 2>/dev/null || cp "$(cat "$DIR/compose-dir")/docker-compose" "$DIR/compose/"
	chmod 755 "$DIR/compose/docker-compose"
	echo "SANDBOXER_DOCKER='$DIR'" >>"$STATE/env"
}

# ours lists the processes that belong to the engines: those in their network namespaces, whoever started them, and those of
# containers, which are in namespaces of their own.
ours() {
	local n net
	for n in 1 2; do
		if net=$(stat -Lc %i "$DIR/$n/netns" 2>/dev/null); then
			find /proc -mindepth 3 -maxdepth 3 -path '/proc/[0-9]*/ns/net' -lname "net:\\[$net\\]" || true # processes end meanwhile
		fi
		find /sys/fs/cgroup -path "*/$NAME-$n/*" -name cgroup.procs -exec cat {} + || true
	done 2>/dev/null | cut -d/ -f3- | cut -d/ -f1 | sort -un
}

down() {
	DIR=$(readlink -f "$STATE/docker") && [ -d "$DIR" ] || return 0
	local i pids mount
	# An `up` that was interrupted may have jobs that go on.
	for i in $(grep -lzxF "$STATE" /proc/[0-9]*/cmdline 2>/dev/null); do
		! grep -qzx up "$i" 2>/dev/null || kill -KILL "$(cut -d/ -f3 <<<"$i")" 2>/dev/null || true
	done
	remove 1 & JOBS+=($!)
	remove 2 & JOBS+=($!)
	await || true
	# What is left when an engine was killed, or has not stopped: the shims and containers are nobody's then.
	for ((i = 0; i < 50; i++)); do
		pids=$(ours)
		[ -n "$pids" ] || break
		kill -KILL $pids 2>/dev/null || true
		sleep 0.1
	done
	awk -v dir="$DIR/" 'index($2, dir) == 1 {print $2}' /proc/self/mounts | sort -r | while read -r mount; do
		umount "$(printf '%b' "$mount")" || umount -l "$(printf '%b' "$mount")" || true
	done
	find /sys/fs/cgroup -depth -type d \( -path "*/$NAME-[12]/*" -o -name "$NAME-[12]" \) -exec rmdir {} + 2>/dev/null || true # the rest is told
	rm -rf "$DIR" "$STATE/docker"
	left
}

# remove N ends an engine as it should end: without containers, it stops at once.
remove() {
	local ids
	if [ -S "$DIR/$1/docker.sock" ] && ids=$(timeout 20 bash -c "$(declare -f docker_); DIR=$DIR; docker_ $1 ps -aq" 2>/dev/null); then
		[ -z "$ids" ] || timeout 60 env -i "PATH=$PATH" docker --host "unix://$DIR/$1/docker.sock" rm -f $ids >/dev/null 2>&1 || true
	fi
	stop "$DIR" "$1"
}

# left says what is still there, which is a defect.
left() {
	local bad=0
	[ -z "$(ours)" ] || { echo "processes are left: $(ours | tr '\n' ' ')" >&2; bad=1; }
	! grep -F " $DIR/" /proc/self/mounts >&2 || { echo "mounts are left" >&2; bad=1; }
	[ -z "$(find /sys/fs/cgroup -type d -name "$NAME-[12]" 2>/dev/null)" ] || { echo "cgroups are left" >&2; bad=1; }
	[ ! -e "$DIR" ] || { echo "$DIR is left" >&2; bad=1; }
	return $bad
}

case $1 in
up) up ;;
down) down ;;
esac
