# start_watch starts what removes sandboxes when their time has passed, unless it runs: in a session of its own, with an
# environment of its own, so that it outlives the connection. $1 is its text.
start_watch() {
	(
		exec </dev/null >/dev/null 2>&1 8>&- 9>&-
		if command -v setsid >/dev/null; then new=setsid; else new=nohup; fi
		env -i PATH="$PATH" HOME="${HOME-/}" ${DOCKER_HOST:+"DOCKER_HOST=$DOCKER_HOST"} \
			${XDG_RUNTIME_DIR:+"XDG_RUNTIME_DIR=$XDG_RUNTIME_DIR"} $new sh -c "$1" sandboxer-watch "$ROOT" "$ENGINE" &
	)
}
