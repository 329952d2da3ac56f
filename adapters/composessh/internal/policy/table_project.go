package policy

const (
	swarmOnly   = "it is for a swarm"
	anothers    = "it belongs to somebody else on the host"
	hostDriver  = "it is passed to a driver of the host, which can mount any directory (o: bind) or join any network"
	secretStore = "it is for a swarm or for a plugin of the host"
)

var projectTables = map[string]fields{
	"Project": {
		"Name":             own(),
		"WorkingDir":       own(),
		"Services":         allow(),
		"Jobs":             deny("jobs are run by other programs of the host, on their schedule"),
		"Networks":         allow(),
		"Volumes":          allow(),
		"Secrets":          allow(),
		"Configs":          allow(),
		"Models":           deny("it has the host run a model, outside of the sandbox"),
		"Extensions":       own(),
		"ComposeFiles":     own(),
		"Environment":      own(),
		"DisabledServices": own(), // not sent
		"DisabledJobs":     own(), // not sent
		"Profiles":         own(),
	},
	"NetworkConfig": {
		"Name":         check(projectName),
		"Driver":       check(networkDriver),
		"DriverOpts":   deny(hostDriver),
		"Ipam":         allow(),
		"External":     deny(anothers),
		"Internal":     allow(),
		"Attachable":   deny(swarmOnly),
		"Labels":       drop(hostLabels),
		"CustomLabels": own(),
		"EnableIPv4":   allow(),
		"EnableIPv6":   allow(),
		"Extensions":   own(),
	},
	"IPAMConfig": {
		"Driver":     check(ipamDriver),
		"Config":     deny("a chosen subnet can take over routes of the host"),
		"Options":    deny(hostDriver),
		"Extensions": own(),
	},
	"VolumeConfig": {
		"Name":         check(projectName),
		"Driver":       check(volumeDriver),
		"DriverOpts":   deny(hostDriver),
		"External":     deny(anothers),
		"Labels":       drop(hostLabels),
		"CustomLabels": own(),
		"Extensions":   own(),
	},
	"SecretConfig": {
		"Name":           own(), // not used without a swarm
		"File":           deny(hostFile + "; use environment, with the value in the input env"),
		"Environment":    check(given),
		"Content":        own(), // of the variable; never written
		"External":       deny(secretStore),
		"Labels":         drop(hostLabels),
		"Driver":         deny(secretStore),
		"DriverOpts":     deny(secretStore),
		"TemplateDriver": deny(secretStore),
		"Extensions":     own(),
	},
	"ConfigObjConfig": {
		"Name":           own(), // not used without a swarm
		"File":           deny(hostFile + "; use content, or mount the file from the workspace"),
		"Environment":    check(given),
		"Content":        allow(),
		"External":       deny(secretStore),
		"Labels":         drop(hostLabels),
		"Driver":         deny(secretStore),
		"DriverOpts":     deny(secretStore),
		"TemplateDriver": deny(secretStore),
		"Extensions":     own(),
	},
}
