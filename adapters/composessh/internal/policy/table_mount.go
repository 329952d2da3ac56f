package policy

var mountTables = map[string]fields{
	"ServiceVolumeConfig": {
		"Type":        check(mountType),
		"Source":      allow(), // by together, which knows the mount's type and the mounts of others
		"Target":      allow(),
		"ReadOnly":    allow(),
		"Consistency": allow(),
		"Bind":        allow(),
		"Volume":      allow(),
		"Tmpfs":       allow(),
		"Image":       deny("mounts are volumes, tmpfs, or of the workspace"),
		"Extensions":  own(),
	},
	"ServiceVolumeBind": {
		"SELinux":        allow(), // of the workspace's own files
		"Propagation":    check(propagation),
		"CreateHostPath": allow(),
		"Recursive":      allow(),
		"Extensions":     own(),
	},
	"ServiceVolumeVolume":    {"Labels": drop(hostLabels), "NoCopy": allow(), "Subpath": check(subpath), "Extensions": own()},
	"ServiceVolumeTmpfs":     {"Size": check(bytesAbove), "Mode": allow(), "Extensions": own()},
	"ServiceConfigObjConfig": {"Source": allow(), "Target": allow(), "UID": allow(), "GID": allow(), "Mode": allow(), "Extensions": own()},
	"ServiceSecretConfig":    {"Source": allow(), "Target": allow(), "UID": allow(), "GID": allow(), "Mode": allow(), "Extensions": own()},
}
