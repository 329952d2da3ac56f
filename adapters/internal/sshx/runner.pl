# Runs commands, one after the other, each in a session of its own, and carries their streams in frames: a letter, the
# length in four bytes, and the payload. In come R a request, I input for it and E the end of that; out go O and X what it
# prints, Q its wait status and whether nothing holds its streams any more, D there is no such directory, N no process for it.
#
# Of a request for lanes, input or output is dealt over so many connections in stripes, and E or Q tell how much it was. L
# is the socket to which they are to be made.
my ($own, $keeper, $setsid, $patience, $stripe) = @ARGV;
my ($buf, $pid, $ended, $place) = ('');
open my $in, '<&', \*STDIN or die "input: $!\n";
open my $out, '>&', \*STDOUT or die "output: $!\n";
open my $err, '>&', \*STDERR or die "errors: $!\n";
open my $null, '<', '/dev/null' or die "null: $!\n";
open STDIN, '<&', $null;
open STDOUT, '>&', $err;
$SIG{PIPE} = sub { };
$SIG{CHLD} = sub { $ended = 1 };

# Whom we work for has gone. The keeper ends what runs, and sees best what that is while nobody else does; without it, we do.
sub gone {
	if ($place) { unlink "$place/s"; rmdir $place }
	if ($pid) {
		close $_ for $in, $out, $err, \*STDOUT, \*STDERR;
		my $until = time + $patience;
		sleep 1 while -p $keeper && time < $until;
		kill KILL => -$pid;
	}
	exit 1;
}

# Tells the keeper; false where there is none any more.
sub inform {
	my $k;
	return -p $keeper && open($k, '>', $keeper) && syswrite($k, "@_\n");
}

# When this process was started.
sub born {
	my ($f, $stat);
	return open($f, '<', "/proc/$$/stat") && sysread($f, $stat, 4096) && $stat =~ /^.*\) (?:\S+ ){19}(\d+)/s && $1;
}

# All of it, to us or on a lane; false where a lane takes no more.
sub put {
	my ($b, $lane) = @_;
	while (length $b) {
		my $n = syswrite $lane || $out, $b;
		if (defined $n) { substr $b, 0, $n, '' } elsif ($! != 4) { return if $lane; gone() }
	}
	return 1;
}

sub fill {
	my $n = sysread $in, $buf, 65536, length $buf;
	gone() if defined $n ? !$n : $! != 4;
}

# The next frame, when all of it is here.
sub frame {
	return if length $buf < 5;
	my ($type, $n) = unpack 'aN', $buf;
	return if length $buf < 5 + $n;
	my $data = substr $buf, 5, $n;
	substr $buf, 0, 5 + $n, '';
	return ($type, $data);
}

# Waits for the lanes, each of which begins with its number. A socket's path has at most 107 bytes.
sub lanes {
	my ($token, $n) = @_;
	my ($l, @lane);
	for my $at (map { "$_/sandboxer-$token" } grep { defined } $ENV{TMPDIR}, '/tmp') {
		$place = $at if !$place && length $at < 100 && mkdir $at, 0700;
	}
	return unless $place && socket($l, 1, 1, 0) && bind($l, pack 'S a108', 1, "$place/s") && listen($l, $n);
	put(pack('aN', 'L', length "$place/s") . "$place/s");
	while (grep({ defined } @lane) < $n) {
		my $r = '';
		vec($r, fileno $_, 1) = 1 for $l, $in;
		next if select($r, undef, undef, undef) <= 0;
		fill() if vec $r, fileno $in, 1;
		next unless vec($r, fileno $l, 1) && accept(my $c, $l);
		sysread $c, my $number, 1 or next;
		$lane[ord $number] = $c;
	}
	unlink "$place/s";
	rmdir $place;
	undef $place;
	return @lane;
}

# Where the stripes are after $n more bytes.
sub step {
	my ($at, $rest, $moved, $n, $lanes) = @_;
	$rest -= $n;
	return $rest ? ($at, $rest, $moved + $n) : (($at + 1) % $lanes, $stripe, $moved + $n);
}

put($own . '.');
for (;;) {
	my ($type, $data) = frame();
	if (!defined $type) { fill(); next }
	next if $type ne 'R'; # what is left of input that nobody read
	my ($token, $mode, $lanes, $dir, $n, @argv) = split /\0/, $data, -1;
	my $input = $mode eq 'i' || $mode eq 'u';
	my @lane = $lanes ? lanes($token, $lanes) : ();
	if (@lane != $lanes) { put(pack 'aN', 'N', 0); gone() }
	my %was;
	for ("SANDBOXER_EXEC=$token", splice @argv, 0, $n) {
		my ($k, $v) = split /=/, $_, 2;
		$was{$k} = $ENV{$k};
		$ENV{$k} = $v;
	}
	my ($ir, $iw, $or, $ow, $er, $ew, $status, $eof, %open);
	my ($pending, $after, $idle) = ('', 0, 0);
	my ($at, $rest, $moved, $total) = (0, $stripe, 0); # of the stripes
	unless (pipe($or, $ow) && pipe($er, $ew) && (!$input || pipe $ir, $iw)) { put(pack 'aN', 'N', 0); exit 1 }
	open STDIN, '<&', $ir if $input;
	open STDOUT, '>&', $ow;
	open STDERR, '>&', $ew;
	$ended = 0;
	$pid = fork;
	if (!defined $pid) { put(pack 'aN', 'N', 0); exit 1 }
	if (!$pid) {
		syscall $setsid + 0;
		my $born = born();
		unless (getpgrp == $$ && $born && inform("+$token", $$, $born)) { put(pack 'aN', 'N', 0); exit 1 }
		if (length $dir) {
			if (!chdir $dir) { put(pack 'aN', 'D', 0); exit 1 }
			$ENV{PWD} = $dir =~ m{^/} ? $dir : "$ENV{PWD}/$dir" if exists $ENV{PWD};
		}
		exec { $argv[0] } @argv;
		my $code = $! == 2 ? 127 : 126;
		syswrite STDERR, "$argv[0]: $!\n";
		exit $code;
	}
	open STDIN, '<&', $null if $input;
	open STDOUT, '>&', $err;
	open STDERR, '>&', $err;
	close $_ for grep { $_ } $ir, $ow, $ew;
	if ($input) { fcntl $iw, 4, 1 | 04000 } # F_SETFL: O_WRONLY, O_NONBLOCK
	if (@lane) { fcntl $iw || $or, 1031, 1 << 20 } # F_SETPIPE_SZ
	for (keys %was) { if (defined $was{$_}) { $ENV{$_} = $was{$_} } else { delete $ENV{$_} } }
	$open{O} = $or;
	$open{X} = $er;

	for (;;) {
		while (!length $pending) {
			my ($type, $data) = frame() or last;
			if ($type eq 'E') { if (@lane) { $total = $data } else { $eof = 1 } } elsif ($type eq 'I' && $iw) { $pending = $data }
		}
		$eof = 1 if defined $total && $moved == $total && $mode eq 'u';
		undef $iw if $eof && !length $pending;
		if (!defined $status) {
			# Without streams there is nothing to watch but its end.
			my $all = !%open && !$iw;
			if ($all || $ended || !%open) { $ended = 0; $status = $? if waitpid($pid, $all ? 0 : 1) == $pid }
			next if $all && !defined $status;
		}
		last if defined $status && (!%open || $after > 1 << 20);
		my ($r, $w) = ('', '');
		vec($r, fileno $_, 1) = 1 for values %open;
		vec($r, fileno $in, 1) = 1 if !length $pending && !defined $status;
		vec($r, fileno $lane[$at], 1) = 1 if $iw && !$eof && $lane[$at] && !length $pending && !defined $status;
		vec($w, fileno $iw, 1) = 1 if length $pending;
		my $ready = select $r, $w, undef, defined $status ? 0.01 : %open ? 0.1 : 0.005;
		if ($ready <= 0) {
			last if defined $status && !$ready && ++$idle > 4; # what it printed was all taken; others hold the streams
			$ended = 1;
			next;
		}
		for my $type (keys %open) {
			next unless vec $r, fileno $open{$type}, 1;
			my $onto = $type eq 'O' && $mode eq 'd';
			my $n = sysread $open{$type}, my $data, $onto && $rest < 65536 ? $rest : 65536;
			if (!$n) { delete $open{$type} if defined $n || $! != 4; next }
			$after += $n if defined $status;
			if (!$onto) { put(pack('aN', $type, $n) . $data); next }
			put($data, $lane[$at]) or delete $open{$type};
			($at, $rest, $moved) = step($at, $rest, $moved, $n, $lanes);
		}
		if ($lane[$at] && $mode eq 'u' && vec $r, fileno $lane[$at], 1) {
			my $n = sysread $lane[$at], $pending, $rest < 65536 ? $rest : 65536;
			if ($n) { ($at, $rest, $moved) = step($at, $rest, $moved, $n, $lanes) }
			elsif (defined $n || $! != 4) { undef $lane[$at] } # of the stream, or of the connection
		}
		fill() if vec $r, fileno $in, 1;
		if (length $pending) {
			my $n = syswrite $iw, $pending;
			if (defined $n) { substr $pending, 0, $n, '' } elsif ($! != 4 && $! != 11) { $pending = ''; undef $iw }
		}
	}
	undef $pid;
	inform("-$token");
	my $clean = !%open;
	@lane = ();
	put(pack('aNnC', 'Q', 3 + length $moved, $status, $clean ? 1 : 0) . $moved);
	exit if !$clean;
}
