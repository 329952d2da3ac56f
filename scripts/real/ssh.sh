#!/usr/bin/env bash
# OpenSSH's server and client, for tests that start servers of their own on loopback (adapters/internal/sshtest). Nothing is
# started here, and the service that the package brings is kept from starting.
set -euo pipefail
. "$(dirname "$0")/../lib.sh"

policy=/usr/sbin/policy-rc.d
PATH=$PATH:/usr/sbin:/sbin

case $1 in
up)
	if ! command -v sshd >/dev/null || ! command -v ssh >/dev/null; then
		# Debian asks this program whether an installed service may start; one that is there already is the machine's.
		if [ ! -e "$policy" ] && [ -w "$(dirname "$policy")" ]; then
			printf '#!/bin/sh\nexit 101\n' >"$policy"
			chmod 755 "$policy"
			echo "$policy" >"$2/ssh-policy"
		fi
		need sshd openssh-server openssh-client
		need ssh openssh-client
		bash "$0" down "$2"
	fi
	# Where sshd keeps its privileges apart; the service would make it.
	[ "$(id -u)" != 0 ] || mkdir -p /run/sshd
	echo "SANDBOXER_SSHD=$(command -v sshd)" >>"$2/env"
	;;
down)
	[ ! -e "$2/ssh-policy" ] || { rm -f "$(cat "$2/ssh-policy")" "$2/ssh-policy"; }
	;;
esac
