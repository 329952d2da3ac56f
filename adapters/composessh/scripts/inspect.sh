# inspect NAME OWNER prints a line of JSON for each container of a sandbox's services. One that goes meanwhile is left out.
ids=$(containers "$1" "$2" | while read -r id _ service; do [ -z "$service" ] || echo "$id"; done)
[ -n "$ids" ] || exit 0
errs=$(mktemp) || exit 1
engine inspect --format '{"id":{{json .ID}},"name":{{json .Name}},"service":{{json (index .Config.Labels "com.docker.compose.service")}},"number":{{json (index .Config.Labels "com.docker.compose.container-number")}},"state":{{json .State}},"restarts":{{json .RestartCount}},"restart":{{json .HostConfig.RestartPolicy.Name}},"ports":{{json .NetworkSettings.Ports}},"networks":{{json .NetworkSettings.Networks}},"user":{{json .Config.User}},"check":{{json .Config.Healthcheck}},"shell":{{json .Config.Shell}}}' $ids 2>"$errs"
left=$(grep -v -e '^$' -e 'No such object' -e 'No such container' "$errs")
rm -f "$errs"
[ -z "$left" ] || { echo "$left" >&2; exit 1; }
