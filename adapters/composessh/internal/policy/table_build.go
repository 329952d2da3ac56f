package policy

const builderReach = "it reaches beyond the directory that is built"

var buildTables = map[string]fields{
	"BuildConfig": {
		"Context":            allow(), // by together
		"Dockerfile":         check(dockerfile),
		"DockerfileInline":   allow(),
		"Entitlements":       deny("entitlements let a build out of its sandbox"),
		"Args":               allow(), // what has no value is left out
		"Provenance":         allow(),
		"SBOM":               allow(),
		"SSH":                refuse("it gives the build keys of who sends this, which are not on the host"),
		"Labels":             drop(hostLabels),
		"CacheFrom":          deny(builderReach),
		"CacheTo":            deny("it writes to directories of the host, or to registries with the host's rights"),
		"NoCache":            allow(),
		"NoCacheFilter":      allow(),
		"AdditionalContexts": deny(builderReach),
		"Pull":               allow(),
		"ExtraHosts":         deny("it changes whom the host's builder talks to"),
		"Isolation":          deny(windowsOnly),
		"Network":            check(buildNetwork),
		"Target":             allow(),
		"Secrets":            allow(),
		"ShmSize":            deny("what a build uses is the operator's"),
		"Tags":               deny("it puts images in the place of those that other stacks of the host use"),
		"Ulimits":            deny("what a build uses is the operator's"),
		"Platforms":          deny("it needs builders that the host may not have"),
		"Privileged":         deny("a privileged build is root on the host"),
		"Extensions":         own(),
	},
}
