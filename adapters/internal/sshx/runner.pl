# Runs commands, one after the other, each in a session of its own, and carries their streams in frames: a letter, the
# length in four bytes, and the payload. In come R a request, I input for it and E the end of that; out go O and X what it
# prints, Q its wait status and whether nothing holds its streams any more, D there is no such directory, N no process for it.
my ($own, $setsid, $patience) = @ARGV;
my ($buf, $pid, $ended) = ('');
open my $in, '<&', \*STDIN or die "input: $!\n";
open my $out, '>&', \*STDOUT or die "output: $!\n";
open my $err, '>&', \*STDERR or die "errors: $!\n";
open my $null, '<', '/dev/null' or die "null: $!\n";
open STDIN, '<&', $null;
open STDOUT, '>&', $err;
$SIG{PIPE} = sub { };
$SIG{CHLD} = sub { $ended = 1 };

# Whom we work for has gone. The keeper ends what runs, and needs to be told for that by our command line what it is.
sub gone {
	if ($pid) {
		close $_ for $in, $out, $err, \*STDOUT, \*STDERR;
		my $until = time + $patience;
		while (time < $until) { sleep $until - time }
		kill KILL => -$pid;
	}
	exit 1;
}

sub put {
	my $b = shift;
	while (length $b) {
		my $n = syswrite $out, $b;
		if (defined $n) { substr $b, 0, $n, '' } elsif ($! != 4) { gone() }
	}
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

put($own . '.');
for (;;) {
	$0 = "sandboxer $own";
	my ($type, $data) = frame();
	if (!defined $type) { fill(); next }
	next if $type ne 'R'; # what is left of input that nobody read
	my ($token, $input, $dir, $n, @argv) = split /\0/, $data, -1;
	$0 = "sandboxer $own $token";
	my %was;
	for ("SANDBOXER_EXEC=$token", splice @argv, 0, $n) {
		my ($k, $v) = split /=/, $_, 2;
		$was{$k} = $ENV{$k};
		$ENV{$k} = $v;
	}
	my ($ir, $iw, $or, $ow, $er, $ew, $status, $eof, %open);
	my ($pending, $after, $idle) = ('', 0, 0);
	unless (pipe($or, $ow) && pipe($er, $ew) && (!$input || pipe $ir, $iw)) { put(pack 'aN', 'N', 0); exit 1 }
	open STDIN, '<&', $ir if $input;
	open STDOUT, '>&', $ow;
	open STDERR, '>&', $ew;
	$ended = 0;
	$pid = fork;
	if (!defined $pid) { put(pack 'aN', 'N', 0); exit 1 }
	if (!$pid) {
		syscall $setsid + 0;
		if (getpgrp != $$) { put(pack 'aN', 'N', 0); exit 1 }
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
	for (keys %was) { if (defined $was{$_}) { $ENV{$_} = $was{$_} } else { delete $ENV{$_} } }
	$open{O} = $or;
	$open{X} = $er;

	for (;;) {
		while (!length $pending) {
			my ($type, $data) = frame() or last;
			if ($type eq 'E') { $eof = 1 } elsif ($type eq 'I' && $iw) { $pending = $data }
		}
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
		vec($w, fileno $iw, 1) = 1 if length $pending;
		my $ready = select $r, $w, undef, defined $status ? 0.01 : %open ? 0.1 : 0.005;
		if ($ready <= 0) {
			last if defined $status && !$ready && ++$idle > 4; # what it printed was all taken; others hold the streams
			$ended = 1;
			next;
		}
		for my $type (keys %open) {
			next unless vec $r, fileno $open{$type}, 1;
			my $n = sysread $open{$type}, my $data, 65536;
			if ($n) { put(pack('aN', $type, $n) . $data); $after += $n if defined $status }
			elsif (defined $n || $! != 4) { delete $open{$type} }
		}
		fill() if vec $r, fileno $in, 1;
		if (length $pending && vec $w, fileno $iw, 1) {
			my $n = syswrite $iw, $pending;
			if (defined $n) { substr $pending, 0, $n, '' } elsif ($! != 4 && $! != 11) { $pending = ''; undef $iw }
		}
	}
	undef $pid;
	$0 = "sandboxer $own";
	my $clean = !%open;
	put(pack 'aNnC', 'Q', 3, $status, $clean ? 1 : 0);
	exit if !$clean;
}
