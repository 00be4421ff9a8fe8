#!/bin/bash
# mount_basic.sh: mounting itself: refusals with their exit codes, options, signals, nothing left behind.
# Environment: tests/lib/tap.sh
set -u
. "${SPARE_SRC:?}/tests/lib/tap.sh"
cleanup() { for d in m m2; do mountpoint -q "$WORK/$d" && umount -l "$WORK/$d"; done; }
trap cleanup EXIT
need_fuse
refuses() { # refuses CODE TEXT COMMAND...: its exit status, and a part of what it says
	local text=$2
	exits "$1" "${@:3}" && says "$text"
}
ended() { until_true gone m && until_true no_daemon daemon.log; }
opt="log=$WORK/daemon.log"
mkdir m m2 full && touch full/file plain
check init "$SPARE" init st
check "no mount point" refuses 1 "nothere" "$SPARE" mount st nothere
check "a file as mount point" refuses 1 "not a directory" "$SPARE" mount st plain
check "a mount point that is not empty" refuses 1 "not empty" "$SPARE" mount st full
check "a store inside its mount point" refuses 2 "may not lie inside" "$SPARE" mount st "$WORK"
check "a mount point inside the store" refuses 2 "may not lie inside" "$SPARE" mount st st/log
check "an unknown option" refuses 2 "unknown mount option" "$SPARE" mount st m -o nosuchthing
check "no store" exits 10 "$SPARE" mount m m2
check mount exits 0 "$SPARE" mount st m -o "$opt"
check "twice at one place" refuses 11 "already" "$SPARE" mount st m
check "twice elsewhere" exits 11 "$SPARE" mount st m2
check "work" bash -c 'echo data >m/f'
check "SIGTERM to the daemon unmounts" eval 'kill -TERM "$(supervisor daemon.log)"'
check "... and it ends" ended
check "read-only" exits 0 "$SPARE" mount st m -o "ro,$opt"
check "reads" bash -c '[ "$(cat m/f)" = data ]'
check "does not write" bash -c '! touch m/g 2>/dev/null && ! (echo x >>m/f) 2>/dev/null'
check "umount" exits 0 "$SPARE" umount m
check "nothing left" ended
check "writeback, ordered, own name" exits 0 "$SPARE" mount st m -o "writeback,fsync=ordered,snapdir=.past,memory=64M,spin_us=0,$opt"
check "small writes and fsync" python3 - <<'P'
import os
f = os.open("m/wb", os.O_RDWR | os.O_CREAT)
for i in range(5000): os.write(f, b"%07d\n" % i)
os.fsync(f)
assert open("m/wb").read() == "".join("%07d\n" % i for i in range(5000))
P
plain_umount() { if [ "$(id -u)" = 0 ]; then umount m; else fusermount3 -u m; fi; }
check "plain umount(8)" plain_umount
check "ends by itself" ended
check "and all is there" bash -c '"$SPARE" mount st m -o "$1" && [ "$(wc -l <m/wb)" = 5000 ] && "$SPARE" umount m' - "$opt"
finish
