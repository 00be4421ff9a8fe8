# sshd.sh: sourced behind tap.sh: a real ssh server on loopback, in a mount namespace of its own, for as long as the script runs.
# Needs SSHD: the server's program, unpacked by scripts/lib/common.sh (fetch_sshd); root.
# sshd_start sets SSH, what --ssh takes: it reaches this machine as host "there". sshd_stop ends it; sshd_run begins it again, as it was.

sshd_start() {
	local dir=$WORK/sshd port extra=
	mkdir -m 700 -p "$dir" || return 1
	ssh-keygen -q -t ed25519 -N '' -f "$dir/host" && ssh-keygen -q -t ed25519 -N '' -f "$dir/key" && cp "$dir/key.pub" "$dir/authorized_keys" || return 1
	{ cat /etc/passwd; grep -q '^sshd:' /etc/passwd || echo 'sshd:x:74:65534::/run/sshd:/usr/sbin/nologin'; } >"$dir/passwd"
	port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
	local lib=${SSHD%/usr/sbin/sshd}/usr/lib/openssh
	[ ! -x "$lib/sshd-session" ] || extra="SshdSessionPath $lib/sshd-session"
	[ ! -x "$lib/sshd-auth" ] || extra="$extra"$'\n'"SshdAuthPath $lib/sshd-auth"
	cat >"$dir/config" <<-END
		Port $port
		ListenAddress 127.0.0.1
		HostKey $dir/host
		AuthorizedKeysFile $dir/authorized_keys
		PidFile none
		StrictModes no
		UsePAM no
		PermitRootLogin yes
		$extra
	END
	cat >"$dir/client" <<-END
		Host there
		HostName 127.0.0.1
		Port $port
		User root
		IdentityFile $dir/key
		IdentitiesOnly yes
		UserKnownHostsFile $dir/known
		StrictHostKeyChecking no
		LogLevel ERROR
	END
	SSH="ssh -F $dir/client"
	sshd_run
}
sshd_run() {
	local dir=$WORK/sshd
	# The user it gives its rights up to exists in its own view of /etc/passwd only. It must not hold on to what spare has mounted: so it is
	# started before, and lets go of what others have. (In a chroot the root is no mount point, and nothing can be said of propagation.)
	local how=slave
	unshare -m --propagation slave true 2>/dev/null || how=unchanged
	unshare -m --propagation $how sh -c '
		[ "$3" = unchanged ] || awk "/ - fuse\.spare/ { print \$5 }" /proc/self/mountinfo | tac | while read -r m; do umount -l "$m"; done
		mount --bind "$1/passwd" /etc/passwd && mkdir -p /run/sshd && mount -t tmpfs -o mode=755 tmpfs /run/sshd && exec "$2" -D -f "$1/config" -E "$1/log"
	' - "$dir" "$SSHD" $how &
	SSHD_PID=$!
	until_true $SSH -oBatchMode=yes there true || { cat "$dir/log"; return 1; }
}
sshd_stop() {
	local m
	[ -z "${SSHD_PID-}" ] || kill "$SSHD_PID" 2>/dev/null
	# Where its mounts came through to here after all.
	for m in /etc/passwd /run/sshd; do grep -q " $m " /proc/self/mountinfo && umount "$m"; done
	return 0
}
