// Package composessh puts sandboxes on hosts of one's own: each is a Docker Compose stack on a host that is reached over SSH,
// with a workspace that the stack's main service has mounted. Host applications register [Adapter] and name the hosts in
// manager.Config.Hosts.
//
// # Hosts
//
// A host needs an SSH server, Docker Engine with Compose v2 or newer (the plugin, or the program docker-compose on the PATH), a
// POSIX login shell, GNU tar and find, coreutils, util-linux (flock), grep, sed and awk; git for repositories that are cloned, and
// zstd for snapshots that are compressed. What is missing is said before anything is created. The user must be allowed to use
// the engine, as a member of its socket's group is, and needs no other right: what containers wrote as root is removed through
// a container. Keys of hosts are always verified: see Host.HostKeys and the error that an unknown one gives.
//
// Podman is refused, also behind docker's client, and so is podman-compose; decision 0012 says what does not work there.
//
// Host.Options: jump ("user@host:port", several with commas), docker_host (the engine's socket, where it is not the login's
// own), peer ("user@host:port", how other hosts reach it: those whose login may enter it by ssh without being asked, and know
// its host key, send it snapshots themselves; other snapshots pass through us). Names, ports, users and jump hosts of
// ~/.ssh/config are honoured.
//
// # Inputs
//
//	repo            what the workspace holds: a git URL, which the host clones, or a directory of this machine ("/…", "./…")
//	ref             branch, tag or commit of a git URL. Defaults to its default branch
//	git_credential  SecretRef of the token (https) or the private key (ssh) for a private repository; it reaches git without
//	                touching a command line, an environment or the disk of the host
//	git_user        whose token that is, where the server wants to know
//	known_hosts     keys of a git server that is reached over SSH, as lines of known_hosts
//	ignore          for a directory: gitignore, dockerignore, or both: what they exclude is not sent
//	compose_file    path in the repository. Defaults to the first of compose.yaml, compose.yml, docker-compose.yaml, …
//	service         the main service. May be left out where there is one only
//	env             variables that the Compose file may refer to; their values are part of the stack
//	secret_env      the same as SecretRefs. What the file passes on as environment of a container can be read by whoever may
//	                ask the engine; a Compose secret (secrets: {x: {environment: X}}) cannot
//	profiles        Compose's profiles to enable
//	sandbox_id      the sandbox's ID, as CreateRequest.ID
//
// # Compose files are not trusted
//
// The file is loaded here, judged field by field, and sent in a canonical form: project name, labels, limits, paths and ports
// are ours. What reaches the host beyond the stack's own containers, networks, volumes and workspace is refused with the field
// and the line. policy chooses: "strict" (the default), "build-allowed" (images may be built from the workspace), "trusted"
// (whatever Compose can do, root on the host included; only for files that the operator wrote).
//
// Where the host has no buildx, the engine's old builder builds, which leaves containers and images of steps behind. Each stage is
// given the sandbox's labels then, so that a teardown finds them; builds of different sandboxes share no cache there, and a
// here-document with FROM in it is refused.
//
// A stack is ready when each service runs and each health check has passed. An engine makes the first check when an interval
// has passed; the same command is run in the container sooner, unless it holds a secret of secret_env.
//
// A stack that mounts single paths of the repository has a read-only workspace, because whoever can write there could put a
// link in the place of what the engine mounts; mount the whole repository (".") where the workspace is to be written.
//
// # Configuration
//
//	root             directory on the hosts, absolute or below the login directory. Defaults to .local/state/sandboxer/compose
//	policy           strict, build-allowed or trusted. Defaults to strict
//	workspace        where the main service gets the workspace if the file does not mount it. Defaults to /workspace
//	stop_grace       how long a container has to end by itself at teardown. Defaults to 10s
//	publish_address  the address of the hosts that ports are published on. Defaults to 127.0.0.1: reached over Dial only. With
//	                 another one, ports have addresses that others can use (Expose)
//	ssh_config       the SSH configuration to read, "none" for none. Defaults to the user's and the system's
//	known_hosts      files of host keys. Defaults to what the SSH configuration says
//	agent            the SSH agent's socket, "none" for none. Defaults to what the SSH configuration says
//
// # What is where
//
//	<root>/<name>/claim.json      whose the sandbox is; written first, removed last
//	<root>/<name>/engine          how the login found its engine, for the watch
//	<root>/<name>/out             what the container for files packs, until the host has taken it
//	<root>/<name>/workspace       what relative paths, an empty Dir and snapshots mean
//	<root>/.snapshots/<id>        a snapshot, made visible by one rename when it is complete and synced
//	<root>/.watch                 the lock of the watch
//
// Files are copied, and snapshots are taken, through one more container, sandboxer-files, which a stack gets when it first needs
// it: with no network, no capability but those over files, the host's programs to read only, the workspace and the named
// volumes. A link that a sandbox has planted leads nowhere else. It is made of an image that holds nothing, sandboxer/empty:1, which
// each host makes once and keeps, as are the other containers that are ours: of a stack's own images, nothing is in them.
//
// The watch is one shell for each root, which runs as long as a sandbox lives there, whether anybody is connected or not. It
// removes stacks whose time has passed, lets services go on that a snapshot held when its connection broke, and ends commands,
// and what carried connections, when the way to the host broke; it asks each sandbox's own engine, and a container that hangs
// holds no other sandbox. After a reboot it runs again when a Manager next makes, looks at or lists a sandbox of that root; until
// then a stack that its restart policies have brought back can outlive its time.
//
// # What differs from a machine of one's own
//
// Commands run in the container of a service as its user, through a shell called sh of its image; terminals need stty there.
// The workspace belongs to the user of the main service. Copies into it and into named volumes keep nanosecond times and
// belong to that user; paths elsewhere in the image are copied by its own tar. Sync works on the workspace and named volumes:
// the host lists what is there, one stream brings what differs, and what the source has not is removed, also what ignore left
// out. Dial reaches the stack's network ("localhost" is the main service, other services by name); a server that listens on a
// container's loopback interface only is reached through a container of the moment, which needs perl or python3 on the host; such
// a connection ends in both directions when one of them ends. A
// snapshot holds the workspace, the named volumes and the Compose file, taken while the services are held; memory and other
// files of containers are not in it. Pause freezes processes and frees no memory.
// Resources of a profile bound all services together. Containers share the host's kernel.
package composessh
