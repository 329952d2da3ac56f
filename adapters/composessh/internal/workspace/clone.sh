# Clones a repository into the new directory $1, by way of the directory $2 beside it, which is there and is gone at the end.
# The rest is what to clone and how. The user and the password, where there are any, are two lines on standard input.
dir=$1 t=$2 mark=$3 url=$4 ref=$5 kind=$6 depth=$7 submodules=$8 scope=$9
shift 9
protocols=$1 hosts=$2 ca=$3 agent=$4 secret=$5

trap 'rm -rf -- "$t"' EXIT
trap 'exit 143' HUP INT TERM

for p in awk git; do command -v $p >/dev/null 2>&1 || { echo $p >&2; exit 81; }; done

# Nothing of the login's environment reaches git, but for what leads it through a proxy and what marks our processes.
for v in $(awk 'BEGIN { for (v in ENVIRON) if (v ~ /^[A-Za-z_][A-Za-z0-9_]*$/) print v }'); do
	case $v in
	PATH | PWD | TMPDIR | SANDBOXER_* | SSL_CERT_FILE | SSL_CERT_DIR) ;;
	http_proxy | https_proxy | all_proxy | no_proxy | HTTP_PROXY | HTTPS_PROXY | ALL_PROXY | NO_PROXY) ;;
	*) unset "$v" ;;
	esac
done
export HOME="$t/home" LC_ALL=C GIT_TERMINAL_PROMPT=0 GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null \
	GIT_ATTR_NOSYSTEM=1 GIT_LFS_SKIP_SMUDGE=1 GIT_TEMPLATE_DIR="$t/none" GIT_NO_REPLACE_OBJECTS=1
user= password=
[ -z "$secret" ] || { IFS= read -r user; IFS= read -r password; }

# A clone of the same that is there already is the answer to a call whose reply was lost.
there() {
	[ "$(git config --file "$dir/.git/config" --no-includes --get sandboxer.clone 2>/dev/null)" = "$mark" ] || return 1
	printf 'commit %s\n' "$(git config --file "$dir/.git/config" --no-includes --get sandboxer.commit)"
}
if [ -e "$dir" ] || [ -L "$dir" ]; then
	there && exit
	[ -d "$dir" ] && [ ! -L "$dir" ] && [ -z "$(ls -A -- "$dir")" ] || exit 82
fi
mkdir -- "$t/home" "$t/none" || exit 83

printf '%s' "$hosts" >"$t/hosts"
ssh='ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=yes -o IdentityFile=none -o ConnectTimeout=30'
ssh="$ssh -o ForwardAgent=no -o ClearAllForwardings=yes -o ControlPath=none -o UpdateHostKeys=no -o ServerAliveInterval=15"
# The shell that runs this expands the variable; the inner quotes are for ssh.
[ -z "$hosts" ] || ssh="$ssh"' -o GlobalKnownHostsFile=/dev/null -o "UserKnownHostsFile=\"$SANDBOXER_HOSTS\""'
export SANDBOXER_HOSTS="$t/hosts" GIT_SSH_COMMAND="$ssh" GIT_SSH_VARIANT=ssh
[ -z "$agent" ] || export SSH_AUTH_SOCK="$agent"

set -- -c core.hooksPath=/dev/null -c core.fsmonitor=false -c core.attributesFile=/dev/null -c core.excludesFile=/dev/null \
	-c gc.auto=0 -c maintenance.auto=false -c advice.detachedHead=false -c init.defaultBranch=main \
	-c submodule.recurse=false -c fetch.recurseSubmodules=false -c protocol.allow=never -c credential.helper=
for p in $protocols; do set -- "$@" -c "protocol.$p.allow=always"; done
[ -z "$ca" ] || { printf '%s' "$ca" >"$t/ca"; set -- "$@" -c "http.sslCAInfo=$t/ca"; }
[ -z "$secret" ] || set -- "$@" -c "credential.$scope.helper="'!f() { [ "$1" = get ] && IFS= read -r u <&3 && IFS= read -r p <&3 && printf "username=%s\npassword=%s\n" "$u" "$p"; }; f'

# The helper may be asked more than once, so the pipe that it reads is filled for as long as git runs.
feed() { while printf '%s\n%s\n' "$user" "$password"; do :; done 2>/dev/null; }
run() { if [ -n "$secret" ]; then feed | git "$@" 3<&0 </dev/null >/dev/null; else git "$@" </dev/null >/dev/null; fi; }

tree=$t/tree
[ "$depth" -gt 0 ] && shallow="--depth=$depth" || shallow=
if [ "$kind" = name ]; then
	[ -n "$shallow" ] && shallow="$shallow --single-branch --no-tags"
	run "$@" clone --progress --template= $shallow ${ref:+"--branch=$ref"} -- "$url" "$tree" || exit
else
	git "$@" init -q --template= -- "$tree" && git -C "$tree" "$@" remote add origin "$url" || exit
	[ -z "$shallow" ] || shallow="$shallow --no-tags"
	case $kind:$ref in
	commit:*)
		if [ -n "$shallow" ]; then
			run -C "$tree" "$@" fetch --progress $shallow origin "$ref" || exit
		else
			run -C "$tree" "$@" fetch --progress --tags origin '+refs/heads/*:refs/remotes/origin/*' || exit
		fi
		run -C "$tree" "$@" checkout --progress --detach "$ref" || exit
		;;
	ref:refs/heads/*)
		b=${ref#refs/heads/}
		run -C "$tree" "$@" fetch --progress $shallow origin "+$ref:refs/remotes/origin/$b" &&
			run -C "$tree" "$@" checkout --progress -B "$b" --track "refs/remotes/origin/$b" || exit
		;;
	ref:*)
		run -C "$tree" "$@" fetch --progress $shallow origin "+$ref:$ref" &&
			run -C "$tree" "$@" checkout --progress --detach "$ref" || exit
		;;
	esac
fi
if [ -n "$submodules" ]; then
	[ "$depth" -gt 0 ] && shallow="--depth=$depth" || shallow=
	run -C "$tree" "$@" submodule update --init --recursive --progress $shallow || exit
fi
commit=$(git -C "$tree" "$@" rev-parse -q --verify 'HEAD^{commit}')
git -C "$tree" "$@" config sandboxer.clone "$mark" && git -C "$tree" "$@" config sandboxer.commit "$commit" || exit
mv -T -- "$tree" "$dir" || { there || exit 82; exit 0; }
printf 'commit %s\n' "$commit"
