# relay CONTAINER PORT NAME OWNER MARK: connects to a port of a container's loopback interface, writes "+" when it is connected,
# and then carries its standard input and output, until either ends: whoever closes the connection closes both. It runs in a
# container that shares the network and has the host's programs, and goes when it ends. As long as we run, a file says so, by
# which the watch removes a container that outlives us because its server takes nothing.
container=$1 port=$2 name=$3 owner=$4 mark=$5
image=$(empty_image) || exit 1
read -r stat </proc/$$/stat
stat=${stat##*) }
f=$ROOT/$name/exec/$mark
echo "$$ $(set -- $stat; echo "${20}") $name-sandboxer-relay-$mark relay" >"$f" || exit 1
$ENGINE run --rm -i --name "$name-sandboxer-relay-$mark" --log-driver none --network "container:$container" --read-only --cap-drop ALL \
	--security-opt no-new-privileges:true --pids-limit 16 --user 65534:65534 --label "sandboxer-name=$name" --label "sandboxer-owner=$owner" \
	$(tools) --entrypoint /usr/bin/env "$image" \
	-i PATH=/usr/local/bin:/usr/bin:/bin sh -c '
if command -v perl >/dev/null; then
	exec perl -e '"'"'
use Socket; use strict;
my $s; my $up = 0; my $why;
for my $to ([PF_INET, pack_sockaddr_in($ARGV[0], inet_aton("127.0.0.1"))], [PF_INET6, pack_sockaddr_in6($ARGV[0], Socket::inet_pton(PF_INET6, "::1"))]) {
	next unless socket($s, $to->[0], SOCK_STREAM, 6);
	if (connect($s, $to->[1])) { $up = 1; last }
	$why ||= "$!";
}
die "nobody listens: $why\n" unless $up;
syswrite(STDOUT, "+");
while (1) {
	my $r = ""; vec($r, 0, 1) = 1; vec($r, fileno($s), 1) = 1;
	select($r, undef, undef, undef);
	for my $w ([\*STDIN, $s], [$s, \*STDOUT]) {
		next unless vec($r, fileno($w->[0]), 1);
		my $n = sysread($w->[0], my $b, 65536);
		exit 0 unless $n;
		for (my $o = 0; $o < $n;) { my $k = syswrite($w->[1], $b, $n - $o, $o); exit 1 unless $k; $o += $k }
	}
}
'"'"' "$1"
elif command -v python3 >/dev/null; then
	exec python3 -c '"'"'
import os, select, socket, sys
s = socket.create_connection(("localhost", int(sys.argv[1])))
os.write(1, b"+")
while True:
	for f in select.select([0, s], [], [])[0]:
		b = os.read(0, 65536) if f == 0 else s.recv(65536)
		if not b: sys.exit(0)
		if f == 0: s.sendall(b)
		else:
			while b: b = b[os.write(1, b):]
'"'"' "$1"
fi
echo "the host has neither perl nor python3" >&2; exit 1' sh "$port"
code=$?
rm -f "$f"
exit $code
