#!/bin/bash
# mount_ops.sh: every kind of operation through a mount, as root; then the tree is the same after a remount.
# Environment: tests/lib/tap.sh
set -u
. "${SPARE_SRC:?}/tests/lib/tap.sh"
mnt=$WORK/m
cleanup() { mountpoint -q "$mnt" && umount -l "$mnt"; }
trap cleanup EXIT
need_root
need_fuse
mkdir "$mnt"
check init "$SPARE" init st
check mount timeout 60 "$SPARE" mount st m -o "log=$WORK/daemon.log"
cd "$mnt" || exit 1

check mkdir mkdir -p d/e
check "write and read" bash -c 'echo hello >d/f && [ "$(cat d/f)" = hello ]'
check "copy a binary" bash -c 'cp /bin/bash d/big && cmp /bin/bash d/big'
check rename bash -c 'mv d/f d/g && [ ! -e d/f ] && [ -e d/g ]'
check "hard link" bash -c 'ln d/g h && [ "$(stat -c %h d/g)" = 2 ] && [ d/g -ef h ]'
check symlink bash -c 'ln -s d/g s && [ "$(readlink s)" = d/g ] && [ "$(cat s)" = hello ]'
check device bash -c 'mknod null c 1 3 && [ "$(stat -c %t:%T null)" = 1:3 ] && echo x >null'
check fifo bash -c 'mkfifo p && [ -p p ]'
check "chmod and umask" bash -c 'umask 027; touch u && [ "$(stat -c %a u)" = 640 ] && chmod 4755 u && [ "$(stat -c %a u)" = 4755 ]'
check "chown clears setuid" bash -c 'chown 1000:1000 u && [ "$(stat -c %a:%u u)" = 755:1000 ]'
check "chown of what is no directory clears setuid too, of a directory not" bash -c 'mkfifo ff && mkdir sd && chmod 6755 ff sd && chown 1000:1000 ff sd && [ "$(stat -c %a ff sd | tr "\n" " ")" = "755 6755 " ] && rm -r ff sd'
check "who renames each file as he lists them comes to the end" python3 -c '
import os
os.mkdir("ren")
for i in range(3000): open("ren/f%d" % i, "w").close()
seen = 0
for e in os.scandir("ren"):
    os.rename(e.path, "ren/tmp"); os.rename("ren/tmp", e.path)
    seen += 1
    assert seen <= 6000
assert len(os.listdir("ren")) == 3000'
check "> over a longer file" bash -c 'echo longlonglong >t; echo ab >t; [ "$(cat t)" = ab ]'
check truncate bash -c 'truncate -s 10000 t && [ "$(stat -c %s t)" = 10000 ] && [ "$(head -c 2 t)" = ab ]'
check fallocate bash -c 'fallocate -l 1M fa && [ "$(stat -c %s fa)" = 1048576 ]'
check "punch a hole" bash -c 'cp d/big pu && fallocate -p -o 4096 -l 8192 pu && [ -z "$(dd if=pu bs=4096 skip=1 count=2 status=none | tr -d \\0)" ] &&
	cmp <(tail -c +12289 pu) <(tail -c +12289 d/big)'
check "collapse is refused" fails fallocate -c -o 0 -l 4096 pu
check xattr bash -c 'setfattr -n user.a -v b t && [ "$(getfattr --only-values -n user.a t)" = b ] && setfattr -x user.a t && ! getfattr -n user.a t'
check acl bash -c 'setfacl -m u:1000:rw t && getfacl -nc t | grep -q user:1000:rw-'
check "default acl" bash -c 'setfacl -d -m u:1000:rwx d/e && touch d/e/n && getfacl -nc d/e/n | grep -q user:1000 && mkdir d/e/sub && getfacl -ndc d/e/sub | grep -q user:1000:rwx'
check "setgid directory" bash -c 'mkdir sg && chgrp 1000 sg && chmod g+s sg && touch sg/f && mkdir sg/d && [ "$(stat -c %g sg/f)" = 1000 ] && [ "$(stat -c %A:%g sg/d | cut -c7)" = s ]'
check "unlink and rmdir" bash -c 'rm h && [ "$(stat -c %h d/g)" = 1 ] && ! rmdir d/e 2>/dev/null && rm -r d/e && [ ! -e d/e ]'
check "unlinked but open" bash -c 'exec 5<>d/g; rm d/g; [ "$(cat <&5)" = hello ] && echo more >&5 && [ "$(stat -Lc %h:%s /proc/self/fd/5)" = 0:11 ]'
check "name of 255 bytes" bash -c 'touch "$(printf a%.0s $(seq 255))"'
check "name of 256 bytes" bash -c '! touch "$(printf a%.0s $(seq 256))" 2>/dev/null'
check "odd names" bash -c "touch \$'a\\nb' \$'\\xff\\xfe' ' ' '*' && [ -e \$'a\\nb' ] && [ -e \$'\\xff\\xfe' ]"
check "the name of the past is taken" bash -c '! touch .snapshots 2>/dev/null && ! mkdir d/.snapshots 2>/dev/null'
check "3000 entries" bash -c 'mkdir many && cd many && for i in $(seq 3000); do echo $i >f$i; done && [ "$(ls | wc -l)" = 3000 ] && [ "$(ls -l | wc -l)" = 3001 ] && [ "$(cat f* | sort -n | md5sum)" = "$(seq 3000 | md5sum)" ]'
check "remove 2000 of them" bash -c 'cd many && for i in $(seq 2000); do rm f$i; done && [ "$(ls | wc -l)" = 1000 ]'
check "system calls" python3 - <<'P'
import ctypes, errno, mmap, os
libc = ctypes.CDLL(None, use_errno=True)
def rename2(a, b, flags):
    return 0 if libc.renameat2(-100, a.encode(), -100, b.encode(), flags) == 0 else ctypes.get_errno()
os.makedirs("r")
open("r/a", "w").write("A"); open("r/b", "w").write("B")
assert rename2("r/a", "r/b", 1) == errno.EEXIST
assert rename2("r/a", "r/b", 2) == 0 and open("r/a").read() == "B" and open("r/b").read() == "A"
assert rename2("r", "r/x", 0) == errno.EINVAL
f = os.open("r/c", os.O_RDWR | os.O_CREAT)
os.pwrite(f, b"x" * 4096, 1 << 20); os.fsync(f); os.fdatasync(f)
assert os.lseek(f, 0, os.SEEK_DATA) == 1 << 20
assert os.lseek(f, 0, os.SEEK_HOLE) == 0 and os.lseek(f, 1 << 20, os.SEEK_HOLE) == (1 << 20) + 4096
g = os.open("r/d", os.O_RDWR | os.O_CREAT)
assert os.copy_file_range(f, g, (1 << 20) + 4096, 0, 0) == (1 << 20) + 4096
assert os.fstat(g).st_size == (1 << 20) + 4096 and os.pread(g, 4096, 1 << 20) == b"x" * 4096
m = mmap.mmap(f, 8192); m[0:5] = b"mmapp"; m.flush(); assert os.pread(f, 5, 0) == b"mmapp"; m.close()
os.utime("r/d", ns=(1, 1700000000000000002)); assert os.stat("r/d").st_mtime_ns == 1700000000000000002
a = os.open("r/e", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
b = os.open("r/e", os.O_WRONLY | os.O_APPEND)
for i in range(50): os.write(a, b"a"); os.write(b, b"b")
assert open("r/e").read() == "ab" * 50
try: os.pwrite(f, b"x", (1 << 43)); assert False
except OSError as e: assert e.errno == errno.EFBIG, e
d = os.open("r", os.O_RDONLY); os.fsync(d)
try: os.open("r/x", os.O_CREAT | os.O_EXCL | os.O_RDWR); os.open("r/x", os.O_CREAT | os.O_EXCL | os.O_RDWR); assert False
except FileExistsError: pass
assert os.statvfs(".").f_namemax == 255 and os.statvfs(".").f_blocks > 0
P
check "chmod by another user is refused" bash -c '! setpriv --reuid=1001 --regid=1001 --clear-groups chmod 777 d 2>/dev/null'
check "write by another user clears setuid" bash -c 'cp /bin/true su && chmod 6777 su && setpriv --reuid=1001 --regid=1001 --clear-groups bash -c "echo x >>su" && [ "$(stat -c %a su)" = 777 ]'
if command -v git >/dev/null; then
	check git bash -c 'git init -q g && cd g && git config user.email a@b && git config user.name n && for i in $(seq 50); do echo $i >f$i; done && git add . && git commit -qm x && git fsck --strict && git clone -q . ../g2 && diff -r --exclude=.git . ../g2'
fi
if command -v sqlite3 >/dev/null; then
	check sqlite bash -c 'for i in $(seq 20); do echo "begin; create table t$i(a); insert into t$i select value from generate_series(1,500); commit;"; done | sqlite3 db &&
		[ "$(sqlite3 db "pragma integrity_check")" = ok ] && [ "$(sqlite3 db "select count(*) from t20")" = 500 ]'
fi
check tar bash -c 'tar -C /usr/include -cf - linux | tar xf - && diff -r linux /usr/include/linux'

list() { find . -printf '%P %y %m %U %G %s %n %T@ %l\n' | LC_ALL=C sort; find . -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum; getfacl -R -n -p . 2>/dev/null; }
list >"$WORK/before"
cd "$WORK" || exit 1
check unmount timeout 60 "$SPARE" umount m
check "mount again" timeout 60 "$SPARE" mount st m -o "log=$WORK/daemon.log"
(cd "$mnt" && list) >"$WORK/after"
check "the same tree after a remount" diff "$WORK/before" "$WORK/after"
check "unmount again" timeout 60 "$SPARE" umount m
check "the mount point is not writable below" same 555 "$(stat -c %a "$mnt")"
check "no message of trouble" bash -c '! grep -v "^$" "$1"' - "$WORK/daemon.log"
finish
