# send ID USER HOST PORT FILE: sends the data of a snapshot to a file of another host, which this login may enter without being
# asked and whose key it knows.
id=$1 user=$2 host=$3 port=$4 file=$5
command -v ssh >/dev/null || { echo "it has no ssh" >&2; exit 1; }
exec ssh -T -o BatchMode=yes -o StrictHostKeyChecking=yes -o ConnectTimeout=10 -o ServerAliveInterval=5 -o ServerAliveCountMax=3 \
	-o ClearAllForwardings=yes -o ForwardAgent=no -o ForwardX11=no -o PermitLocalCommand=no -o ControlMaster=no -o ControlPath=none \
	${user:+-l "$user"} ${port:+-p "$port"} -- "$host" "umask 077; exec cat >'$file'" <"$ROOT/.snapshots/$id/data"
