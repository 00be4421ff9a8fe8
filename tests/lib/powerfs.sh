# powerfs.sh: sourced behind tap.sh: a powerfs (tests/crash/README.md) mounted at $PFS, its control socket $PFS_CTL.
PFS=$WORK/pfs PFS_CTL=$WORK/pfs.ctl PFS_PID=

powerfs_ctl() { "$(tool crash/powerfs)" --client="$PFS_CTL" "$@"; }
# powerfs_start OPTION...: the socket listens before the mount and answers after it.
powerfs_start() {
	mkdir -p "$PFS"
	"$(tool crash/powerfs)" -f "$@" --ctl="$PFS_CTL" "$PFS" 2>"$WORK/pfs.log" &
	PFS_PID=$!
	until_true powerfs_ctl status || { cat "$WORK/pfs.log"; return 1; }
}
# powerfs_stop: unmounts; fails when it had something to say.
powerfs_stop() {
	[ -n "$PFS_PID" ] || return 0
	umount "$PFS" 2>/dev/null || umount -l "$PFS"
	wait "$PFS_PID"
	local rc=$?
	PFS_PID=
	[ ! -s "$WORK/pfs.log" ] || { cat "$WORK/pfs.log"; rc=1; }
	return $rc
}
