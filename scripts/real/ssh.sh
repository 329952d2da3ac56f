#!/usr/bin/env bash
# OpenSSH's server and client, for tests that start servers of their own on loopback (adapters/internal/sshtest). Nothing is
# started here, and the service that the package brings is kept from starting.
set -euo pipefail
. "$(dirname "$0")/../lib.sh"

PATH=$PATH:/usr/sbin:/sbin

case $1 in
up)
	need_idle sshd openssh-server openssh-client
	need ssh openssh-client
	# Where sshd keeps its privileges apart; the service would make it.
	[ "$(id -u)" != 0 ] || mkdir -p /run/sshd
	echo "SANDBOXER_SSHD=$(command -v sshd)" >>"$2/env"
	;;
down) ;;
esac
