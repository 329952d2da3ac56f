# settings prints by what the engine's command finds its engine: hosts of one login may have several, and one watch.
settings() {
	env | grep -E '^(DOCKER_HOST|DOCKER_CONTEXT|DOCKER_CONFIG|DOCKER_CERT_PATH|DOCKER_TLS_VERIFY|DOCKER_TLS|XDG_RUNTIME_DIR|PATH|HOME)='
}

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
