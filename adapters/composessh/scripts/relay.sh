# relay CONTAINER PORT NAME OWNER: connects to a port of a container's loopback interface, writes "+" when it is connected,
# and then carries its standard input and output. It runs in a container that shares the network and has the host's programs,
# and goes when it ends.
container=$1 port=$2 name=$3 owner=$4
image=$(empty_image) || exit 1
exec $ENGINE run --rm -i --network "container:$container" --read-only --cap-drop ALL --security-opt no-new-privileges:true --pids-limit 16 \
	--user 65534:65534 --label "sandboxer-name=$name" --label "sandboxer-owner=$owner" $(tools) --entrypoint /usr/bin/env "$image" \
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
my ($in, $out) = (1, 1);
while ($out) {
	my $r = ""; vec($r, 0, 1) = 1 if $in; vec($r, fileno($s), 1) = 1;
	select($r, undef, undef, undef);
	for my $w ([0, \*STDIN, $s], [1, $s, \*STDOUT]) {
		next unless vec($r, fileno($w->[1]), 1);
		my $n = sysread($w->[1], my $b, 65536);
		if (!$n) { if ($w->[0]) { $out = 0 } else { $in = 0; shutdown($s, 1) } next }
		for (my $o = 0; $o < $n;) { my $k = syswrite($w->[2], $b, $n - $o, $o); exit 1 unless $k; $o += $k }
	}
}
'"'"' "$1"
elif command -v python3 >/dev/null; then
	exec python3 -c '"'"'
import os, select, socket, sys
s = socket.create_connection(("localhost", int(sys.argv[1])))
os.write(1, b"+")
ins = [0, s]
while s in ins:
	for f in select.select(ins, [], [])[0]:
		b = os.read(0, 65536) if f == 0 else s.recv(65536)
		if f == 0:
			if b: s.sendall(b)
			else: ins.remove(0); s.shutdown(socket.SHUT_WR)
		elif b:
			while b: b = b[os.write(1, b):]
		else: ins.remove(s)
'"'"' "$1"
fi
echo "the host has neither perl nor python3" >&2; exit 1' sh "$port"
