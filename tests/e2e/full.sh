#!/bin/bash
# full.sh: another program fills the file system to the last byte while the store is mounted and written to: clean ENOSPC, reading goes on, names can be removed, the past
# gives way by itself, and work goes on; a store on a full disk can be opened and closed. FULL_RUNS=N (1). Environment: tests/lib/tap.sh
set -u
. "${SPARE_SRC:?}/tests/lib/tap.sh"
need_root
need_fuse
runs=${FULL_RUNS:-1}
cleanup() { umount -l "$WORK/m" 2>/dev/null; umount -l "$WORK/fs" 2>/dev/null; }
trap cleanup EXIT
mkdir m fs
truncate -s 240M img && mkfs.ext4 -q -m 0 img && mount -o loop img fs || { skip_all "no file system in a file here"; }

start() { "$SPARE" init fs/st >/dev/null && mount_it && "$SPARE" retain set m min-age=3s reclaim-grace=0 >/dev/null && [ "$("$SPARE" status m --json | sed -n 's/.*"state":"\([^"]*\)".*/\1/p')" = "Local only" ]; }
mount_it() { "$SPARE" mount fs/st m -o "log=$WORK/daemon.log"; }
check "a store on a small file system" start
digest() { (cd m && find . -type f -print0 | sort -z | xargs -0 sha256sum) | sha256sum | cut -d' ' -f1; }
# History that can go: files written over again and again.
history() { local i k; for k in 1 2 3 4; do for i in $(seq 40); do head -c 60000 /dev/urandom >"m/f$i" || return 1; done; sleep 0.4; done; }
check "with some history" history
reserve() { until_true [ -s fs/st/ballast ] && [ "$(stat -c %b fs/st/ballast)" -gt 20000 ]; }
check "holds back a reserve" reserve
# Until it says ENOSPC: each file is whole, or was refused; nothing else happens.
refused() {
	local i rc
	for i in $(seq 2000); do
		{ seq "$i" 6000 >"m/new$i"; } 2>err
		rc=$?
		[ $rc = 0 ] && continue
		grep -q 'No space left' err || { cat err; return 1; }
		rm -f "m/new$i" || { echo "rm on a full disk"; return 1; }
		return 0
	done
	echo "never refused"
	return 1
}
works() { local i; for i in $(seq 90); do echo "again $1" 2>/dev/null >m/again && return 0; read -r -t 1 _ <> <(:); done; echo "not after 90 s"; "$SPARE" status m; return 1; }
# To the last byte, once: who goes on and on takes what the store lets go of to help itself, and it is read-only then, by name.
fill() { if cat /dev/zero >fs/filler 2>filled; then echo "never full"; return 1; fi; grep -q 'No space left' filled; }
one_run() {
	local was
	history || return 1
	fill || return 1
	refused && was=$(digest) && exits 0 "$SPARE" status m && prints 'Space low' || return 1
	works "$1" && rm -f m/again && same "$was" "$(digest)" && exits 0 "$SPARE" check m && prints 'No damage' || return 1
	rm -f fs/filler m/new*
	until_true eval "echo free >m/again" && rm m/again && { [ "$1" -gt 3 ] || until_true [ -s fs/st/ballast ]; }
}
all_runs() { local i; for i in $(seq "$runs"); do one_run "$i" || { echo "run $i"; cat daemon.log; return 1; }; done; }
check "filled to the last byte by another program, $runs times: ENOSPC, then the past gives way and work goes on" all_runs
given() { prints_log 'space is short' && [ "$(grep -c 'the store failed' daemon.log)" -le "$runs" ]; }
prints_log() { grep -q "$1" daemon.log || { cat daemon.log; return 1; }; }
check "and the log says so" given
reopened() {
	local was
	was=$(digest)
	cat /dev/zero >fs/filler 2>/dev/null
	exits 0 "$SPARE" umount m && mount_it && same "$was" "$(digest)" && exits 0 "$SPARE" umount m && rm fs/filler && exits 0 "$SPARE" check fs/st --read-data && prints 'No damage' && mount_it && echo x >m/x && "$SPARE" umount m
}
check "closed, opened and closed on a full disk" reopened
# The reserve is gone, too, and the worker dies: there is nothing left to open the store with.
comes_back() {
	local was
	mount_it && echo y >m/y && until_true [ -s fs/st/ballast ] || return 1
	was=$(digest)
	rm -f fs/st/ballast && { cat /dev/zero >fs/filler 2>/dev/null; kill -9 "$(worker daemon.log)"; }
	until_true grep -q 'trying read-only' daemon.log || { cat daemon.log; return 1; }
	until_true same "$was" "$(digest)" && ! { echo z 2>/dev/null >m/z; } || return 1
	rm -f fs/filler
	until_true eval 'echo again 2>/dev/null >m/again' && rm m/again && same "$was" "$(digest)" && prints_log 'there is space again'
}
check "read-only for want of space, it writes again by itself when there is some" comes_back
ended() { "$SPARE" umount m && exits 0 "$SPARE" check fs/st --read-data && prints 'No damage'; }
check "and nothing is damaged" ended
finish
