# Says what this host has, as "name=value" lines. $1 is the root as it was configured. It is run without lib.sh.
has() { command -v "$1" >/dev/null 2>&1; }
case $1 in
/*) echo "root=$1" ;;
*) echo "root=${HOME:?has no home directory}/$1" ;;
esac
echo "now=$(date +%s)"
echo "uid=$(id -u)"
for engine in docker podman; do
	has $engine || continue
	# Podman is refused, whatever it comes as: by its own name, as a program called docker, and as what docker's client talks to.
	case $($engine --version 2>/dev/null) in
	podman*)
		echo "podman=$($engine --version 2>/dev/null)"
		continue
		;;
	esac
	what=$($engine version --format '{{.Server.Version}} {{range .Server.Components}}{{.Name}},{{end}}' 2>/dev/null) || {
		echo "refused=$engine: $($engine version --format '{{.Server.Version}}' 2>&1 >/dev/null | head -n 1)"
		continue
	}
	case $what in
	*Podman*)
		echo "podman=podman ${what%% *} behind docker's client"
		continue
		;;
	esac
	echo "engine=$engine"
	echo "version=${what%% *}"
	# With it Compose builds by BuildKit, unless that is switched off.
	case ${DOCKER_BUILDKIT-} in
	0 | [fF]*) ;;
	*) ! $engine buildx version >/dev/null 2>&1 || echo "has=buildx" ;;
	esac
	if $engine compose version >/dev/null 2>&1; then
		echo "compose=$engine compose"
	elif has docker-compose && v=$(docker-compose version --short 2>/dev/null) && case $v in [01].* | v[01].*) false ;; esac; then
		echo "compose=docker-compose"
	elif has podman-compose; then
		echo "podman-compose=$(podman-compose version 2>/dev/null | sed -n 's/^podman-compose[a-z]* version *//p' | head -n 1)"
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
for d in /usr /bin /sbin /lib /lib32 /lib64 /libx32 /etc/alternatives /etc/ld.so.cache; do
	[ ! -e $d ] || echo "dir=$d"
done
exit 0
