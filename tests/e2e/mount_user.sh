#!/bin/bash
# mount_user.sh: an ordinary user mounts his own directory through fusermount3. Started as root it becomes one.
# Environment: tests/lib/tap.sh
set -u
. "${SPARE_SRC:?}/tests/lib/tap.sh"
need_fuse
command -v fusermount3 >/dev/null || skip_all "fusermount3 is not installed"
if [ "$(id -u)" = 0 ]; then
	as_user "$0"
	finish
fi
cleanup() { mountpoint -q "$WORK/m" && fusermount3 -uz "$WORK/m"; }
trap cleanup EXIT
mkdir m
check init "$SPARE" init st
check mount timeout 60 "$SPARE" mount st m -o "log=$WORK/daemon.log"
check "it is a mount of ours" bash -c 'grep -q " $1 .*fuse.spare .*user_id=$(id -u)" /proc/self/mountinfo' - "$WORK/m"
check work bash -c 'mkdir m/d && echo hi >m/d/f && ln m/d/f m/g && mv m/d m/e && [ "$(cat m/e/f)" = hi ] && chmod 600 m/g'
check "not a device" bash -c '! mknod m/dev c 1 3 2>/dev/null'
check "not another's" bash -c '! chown 0:0 m/g 2>/dev/null'
check "fsync and mmap" python3 -c '
import mmap, os
f = os.open("m/x", os.O_RDWR | os.O_CREAT); os.ftruncate(f, 8192)
m = mmap.mmap(f, 8192); m[4096:4100] = b"abcd"; m.flush(); m.close(); os.fsync(f)
assert os.pread(f, 4, 4096) == b"abcd"'
check umount timeout 60 "$SPARE" umount m
check "not writable while unmounted" bash -c '! touch m/x 2>/dev/null'
check "mount again" timeout 60 "$SPARE" mount st m -o "log=$WORK/daemon.log"
check "all there" bash -c '[ "$(cat m/e/f)" = hi ] && [ "$(stat -c %a:%h m/g)" = 600:2 ] && [ "$(dd if=m/x bs=4 skip=1024 count=1 status=none)" = abcd ]'
check "umount again" timeout 60 "$SPARE" umount m
[ $bad -eq 0 ] || sed 's/^/# daemon: /' daemon.log
finish
