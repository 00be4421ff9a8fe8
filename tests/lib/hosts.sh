# hosts.sh: sourced behind tap.sh: machines, as far as one kernel has several. Each host is a process namespace (to kill a host is to kill its first process, and all of it is gone at once), with a network,
# a name, a machine id, /run, a home and a disk of its own, and a real sshd. A switch, one more network namespace, joins them; the machine's own network is never touched.
#
# A host sees the same directory by the same name, $HOST_DIR, and its own disk there, never another's; from outside it is $HOSTS/NAME. What is mounted by a host is seen by it alone.
# By ssh the hosts know each other by name, as root, without a word of configuration: `ssh b`, and `spare` is in the path there.
# Needs SSHD: the server's program (scripts/lib/common.sh, fetch_sshd); root; python3; iproute2; util-linux.
#
# hosts_need: skips the whole script, by name of what is missing. hosts_up NAME...: makes them. hosts_end: all are gone.
# host_run NAME COMMAND...: runs it there, in $HOST_DIR; $HOSTS/run is the same as a program. host_kill NAME: all its processes, mounts and its network end at once, the disk stays. host_start NAME: it is switched on again.
# host_freeze NAME, host_thaw NAME: all its processes stand still, and go on.
# link_down NAME, link_up NAME: its cable. address_move NAME: the service address, $SERVICE, is at NAME and nowhere else. host_ip NAME. switch_run COMMAND...: a client that is none of the hosts.

HOSTS=$WORK/hosts HOST_DIR=$WORK/host NET=198.18.0 SERVICE=198.18.0.100	# (RFC 2544: of no real network)
declare -A HOST_INIT HOST_UNSHARE HOST_FROZEN
HOST_NAMES=() SWITCH=

hosts_need() {
	need_root
	[ -n "${SSHD-}" ] || skip_all "no ssh server"
	local p
	for p in ip nsenter unshare ssh-keygen python3; do command -v $p >/dev/null || skip_all "no $p"; done
	unshare -m true 2>/dev/null || skip_all "no mount namespace can be made here (in a chroot, or it is forbidden)"
	unshare -n -u -p -f true 2>/dev/null || skip_all "no namespaces of network, name and processes can be made here"
	unshare -n sh -c 'ip link add br0 type bridge && ip link add v0 type veth peer name v1 && ip link set v0 master br0' 2>/dev/null || skip_all "the kernel has no veth or no bridge"
	[ -e /etc/machine-id ] || skip_all "there is no /etc/machine-id, which each host has its own of"
	case $WORK/ in /run/*) skip_all "$WORK lies in /run, which each host has its own of" ;; esac
}
host_ip() { local i; for i in "${!HOST_NAMES[@]}"; do [ "${HOST_NAMES[i]}" != "$1" ] || echo "$NET.$((i + 11))"; done; }
child_of() { local c; c=$(cat "/proc/$1/task/$1/children" 2>/dev/null) && [ -n "$c" ] && echo "${c%% *}"; }
switch_run() { nsenter -t "$SWITCH" -n -- "$@"; }

hosts_up() {
	local h lib=${SSHD%/usr/sbin/sshd}/usr/lib/openssh
	HOST_NAMES=("$@")
	mkdir -p "$HOSTS" "$HOST_DIR" && chmod 755 "$HOSTS" "$HOST_DIR" || return 1
	for h in "$@"; do
		mkdir -m 755 "$HOSTS/$h" "$HOSTS/$h/bin" "$HOSTS/$h/etc" && mkdir -m 700 -p "$HOSTS/$h/home/.ssh" "$HOSTS/$h/run" &&
			ssh-keygen -q -t ed25519 -N '' -C "$h" -f "$HOSTS/$h/etc/key" && ssh-keygen -q -t ed25519 -N '' -C "$h" -f "$HOSTS/$h/home/.ssh/id_ed25519" && ln -s "$SPARE" "$HOSTS/$h/bin/spare" || return 1
	done
	for h in "$@"; do
		echo "$(host_ip "$h"),$h $(cut -d' ' -f1,2 "$HOSTS/$h/etc/key.pub")"
	done >"$WORK/known_hosts"
	for h in "$@"; do
		cp "$WORK/known_hosts" "$HOSTS/$h/home/.ssh/known_hosts" && cat "$HOSTS"/*/home/.ssh/id_ed25519.pub >"$HOSTS/$h/home/.ssh/authorized_keys" && host_files "$h" "$lib" >"$HOSTS/$h/etc/sshd_config" || return 1
	done
	cat >"$HOSTS/run" <<-END
		#!/bin/sh
		i=\$(cat "$HOSTS/\$1.init") || exit 125
		shift
		exec nsenter -t "\$i" -m -u -n -p -- env HOME="$HOST_DIR/home" XDG_RUNTIME_DIR="$HOST_DIR/run" SPARE_DR_STATE="$HOST_DIR/state" PATH="$HOST_DIR/bin:$PATH" sh -c 'cd "\$0" && exec "\$@"' "$HOST_DIR" "\$@"
	END
	chmod +x "$HOSTS/run" || return 1
	unshare -n sleep infinity &
	SWITCH=$!
	until_true sh -c "[ \"\$(readlink /proc/$SWITCH/ns/net)\" != \"\$(readlink /proc/self/ns/net)\" ]" &&
		switch_run sh -c "ip link add br0 type bridge && ip addr add $NET.1/24 dev br0 && ip link set br0 up && ip link set lo up" || return 1
	for h in "$@"; do host_start "$h" || return 1; done
}
# What is in its /etc; its sshd's configuration is printed. StrictModes: the directory of the test need not be root's.
host_files() {
	local n dir=$HOSTS/$1/etc
	{ sed "s!^\(root:.*:\)/root:!\1$HOST_DIR/home:!" /etc/passwd; grep -q '^sshd:' /etc/passwd || echo 'sshd:x:74:65534::/run/sshd:/usr/sbin/nologin'; } >"$dir/passwd"
	tr -d - </proc/sys/kernel/random/uuid >"$dir/machine-id"
	{ echo '127.0.0.1 localhost'; for n in "${HOST_NAMES[@]}"; do echo "$(host_ip "$n") $n"; done; } >"$dir/hosts"
	cat <<-END
		ListenAddress 0.0.0.0
		HostKey $HOST_DIR/etc/key
		AuthorizedKeysFile $HOST_DIR/home/.ssh/authorized_keys
		PidFile none
		StrictModes no
		UsePAM no
		UseDNS no
		PrintMotd no
		MaxStartups 100
		PermitRootLogin yes
		SetEnv PATH=$HOST_DIR/bin:$PATH XDG_RUNTIME_DIR=$HOST_DIR/run SPARE_DR_STATE=$HOST_DIR/state SPARE_TEST_RUN=${SPARE_TEST_RUN-} "ASAN_OPTIONS=${ASAN_OPTIONS-}" "UBSAN_OPTIONS=${UBSAN_OPTIONS-}" LC_ALL=${LC_ALL-C}
	END
	[ ! -x "$2/sshd-session" ] || echo "SshdSessionPath $2/sshd-session"
	[ ! -x "$2/sshd-auth" ] || echo "SshdAuthPath $2/sshd-auth"
}

# The first process: its disk in place, the others' out of sight, then sshd; it takes in what is left behind by others. It must not hold on to what
# others have mounted: their stores would not be closed for as long as it lives.
host_start() {
	local h=$1 i net
	unshare --net --uts --mount --pid --fork --kill-child --mount-proc bash -c '
		h=$1 hosts=$2 dir=$3 sshd=$4
		awk "/ - fuse/ { print \$5 }" /proc/self/mountinfo | tac | while read -r m; do umount -l "$m"; done
		hostname "$h" && mount --bind "$hosts/$h" "$dir" && mount -t tmpfs -o mode=700 none "$hosts" && mount -t tmpfs -o mode=755 none /run && mkdir /run/sshd || exit 1
		for f in passwd machine-id hosts; do mount --bind "$dir/etc/$f" "/etc/$f" || exit 1; done
		ip link set lo up && cd / && : >"$dir/run/on" || exit 1
		"$sshd" -D -f "$dir/etc/sshd_config" -E "$dir/etc/sshd.log" &
		while :; do sleep infinity & wait; done' - "$h" "$HOSTS" "$HOST_DIR" "$SSHD" </dev/null >"$HOSTS/$h.out" 2>&1 &
	HOST_UNSHARE[$h]=$!
	until_true child_of "${HOST_UNSHARE[$h]}" && until_true [ -e "$HOSTS/$h/run/on" ] || { cat "$HOSTS/$h.out"; return 1; }
	rm -f "$HOSTS/$h/run/on"
	i=$(child_of "${HOST_UNSHARE[$h]}") && HOST_INIT[$h]=$i && echo "$i" >"$HOSTS/$h.init" && net=$(host_ip "$h") || return 1
	# The same card as before: its neighbours know it for a while.
	nsenter -t "$SWITCH" -n ip link del "v$h" 2>/dev/null	# (what a dead one had may be there for a moment)
	nsenter -t "$SWITCH" -n ip link add "v$h" type veth peer name eth0 address "02:00:00:00:00:${net##*.}" netns "$i" && nsenter -t "$SWITCH" -n ip link set "v$h" master br0 up &&
		nsenter -t "$i" -n sh -c "ip addr add $net/24 dev eth0 && ip link set eth0 up" &&
		until_true switch_run python3 -c 'import socket, sys; assert socket.create_connection((sys.argv[1], 22), 1).recv(4) == b"SSH-"' "$net" || { cat "$HOSTS/$h.out" "$HOSTS/$h/etc/sshd.log"; return 1; }
}
host_run() { "$HOSTS/run" "$@"; }
host_on() { [ -n "${HOST_INIT[$1]-}" ] && kill -0 "${HOST_INIT[$1]}" 2>/dev/null; }
host_kill() { # all its processes are gone when this returns: the first one cannot be waited for before
	[ -z "${HOST_FROZEN[$1]-}" ] || host_thaw "$1"
	kill -9 "${HOST_INIT[$1]}" 2>/dev/null
	wait "${HOST_UNSHARE[$1]}" 2>/dev/null
	rm -f "$HOSTS/$1.init"
	unset "HOST_INIT[$1]" "HOST_UNSHARE[$1]"
}
host_pids() { local p ns; ns=$(readlink "/proc/${HOST_INIT[$1]}/ns/pid"); for p in /proc/[0-9]*; do [ "$(readlink "$p/ns/${2-pid}" 2>/dev/null)" != "$ns" ] || echo "${p#/proc/}"; done; return 0; }
host_freeze() { # until none is found that was made meanwhile (one that waits for another's answer stops when it has it), within 20 s
	local p was= end=$((SECONDS + 20))
	HOST_FROZEN[$1]=1
	while p=$(host_pids "$1") && kill -STOP $p 2>/dev/null; [ "$p" != "$was" ]; do
		[ $SECONDS -lt $end ] || { echo "host $1 does not stand still: expected the processes" $was, found $p; return 1; }
		was=$p
	done
}
host_thaw() { # and, behind them, those outside that wait for them: nsenter stops itself when its child stops, and goes on, and reaps, only when it is told to
	unset "HOST_FROZEN[$1]"
	kill -CONT $(host_pids "$1") 2>/dev/null
	kill -CONT $(host_pids "$1" pid_for_children) 2>/dev/null
	return 0
}
link_down() { nsenter -t "$SWITCH" -n ip link set "v$1" down; }
link_up() { nsenter -t "$SWITCH" -n ip link set "v$1" up; }
address_move() {
	local h
	for h in "${HOST_NAMES[@]}"; do [ "$h" = "$1" ] || ! host_on "$h" || host_run "$h" ip addr del "$SERVICE/24" dev eth0 2>/dev/null; done
	host_run "$1" sh -c "ip addr replace $SERVICE/24 dev eth0 && python3 '$SPARE_SRC/tests/lib/announce.py' eth0 $SERVICE"
}
hosts_end() {
	local h
	for h in "${!HOST_INIT[@]}"; do host_kill "$h"; done
	[ -z "$SWITCH" ] || { kill "$SWITCH"; wait "$SWITCH" 2>/dev/null; }
	SWITCH=
}
