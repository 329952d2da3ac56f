#!/usr/bin/env bash
# The C compiler that the race detector needs on Linux.
set -euo pipefail
. "$(dirname "$0")/../lib.sh"
case $1 in
up) [ -n "${CC:-}" ] || need gcc gcc libc6-dev ;;
down) ;;
esac
