#!/usr/bin/env bash
# E2B's official JavaScript SDK, which keeps the fake E2B server of adapters/e2b/e2btest honest. It is kept in .cache/.
set -euo pipefail
. "$(dirname "$0")/../lib.sh"

VERSION=2.51.0 # changed on purpose only: what a new one asks of the server has to be looked at
case $1 in
up)
	need node nodejs
	need npm npm
	DIR=$ROOT/.cache/e2b-sdk-$VERSION
	if [ ! -e "$DIR/node_modules/e2b/package.json" ]; then
		mkdir -p "$DIR"
		(cd "$DIR" && npm install --no-save --no-audit --no-fund --ignore-scripts --loglevel=error "e2b@$VERSION")
	fi
	echo "SANDBOXER_E2B_SDK=$DIR" >>"$2/env"
	;;
down) ;;
esac
