# inspect NAME OWNER prints a line of JSON for each container of a sandbox.
ids=$(containers "$1" "$2" | cut -d' ' -f1)
[ -n "$ids" ] || exit 0
engine inspect --format '{"id":{{json .Id}},"name":{{json .Name}},"service":{{json (index .Config.Labels "com.docker.compose.service")}},"number":{{json (index .Config.Labels "com.docker.compose.container-number")}},"state":{{json .State}},"restarts":{{json .RestartCount}},"restart":{{json .HostConfig.RestartPolicy.Name}},"ports":{{json .NetworkSettings.Ports}},"networks":{{json .NetworkSettings.Networks}},"user":{{json .Config.User}}}' $ids
