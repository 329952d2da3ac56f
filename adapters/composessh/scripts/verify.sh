# verify DIRECTORY DIGEST [NAME]: makes sure that a snapshot is what it was, and gives its Compose file to the sandbox NAME.
have=$(cat "$1/compose.name" "$1/compose" "$1/data" | digest)
[ "sha256:$have" = "$2" ] || { echo "its digest is sha256:$have and should be $2"; exit 0; }
[ -z "${3-}" ] || cp "$1/compose" "$1/compose.name" "$ROOT/$3/" || exit 1
echo ok
