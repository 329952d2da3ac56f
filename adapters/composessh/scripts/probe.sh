# Says what this host has, as "name=value" lines. $1 is the root as it was configured, $2 the engine's command, or nothing.
# It is run without lib.sh.
has() { command -v "$1" >/dev/null 2>&1; }
case $1 in
/*) echo "root=$1" ;;
*) echo "root=${HOME:?has no home directory}/$1" ;;
esac
echo "now=$(date +%s)"
echo "uid=$(id -u)"
for engine in ${2:-docker podman}; do
	has "$engine" || continue
	version=$($engine version --format '{{.Server.Version}}' 2>/dev/null) || {
		echo "refused=$engine: $($engine version --format '{{.Server.Version}}' 2>&1 >/dev/null | head -n 1)"
		continue
	}
	echo "engine=$engine"
	echo "version=$version"
	if $engine compose version >/dev/null 2>&1; then
		echo "compose=$engine compose"
	elif has docker-compose && docker-compose version --short 2>/dev/null | grep -q '^v\{0,1\}[2-9]'; then
		echo "compose=docker-compose"
	elif has podman-compose; then
		echo "compose=podman-compose"
	fi
	break
done
for tool in flock tar find setsid mktemp sha256sum; do
	has $tool || echo "missing=$tool"
done
tar --version 2>/dev/null | grep -q GNU || echo "missing=GNU tar"
for tool in zstd git; do
	! has $tool || echo "has=$tool"
done
for d in /usr /bin /sbin /lib /lib32 /lib64 /libx32; do
	[ ! -d $d ] || echo "dir=$d"
done
exit 0
