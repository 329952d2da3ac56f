#!/usr/bin/env bash
# git with its servers (http-backend, daemon), and rsync to compare with. Tests start servers of their own on loopback;
# nothing is started here.
set -euo pipefail
. "$(dirname "$0")/../lib.sh"

case $1 in
up)
	need git git
	need rsync rsync
	echo "SANDBOXER_GIT=$(command -v git)" >>"$2/env"
	;;
down) ;;
esac
