#!/bin/bash
# mount_kill.sh: kill -9 of the worker under load: nobody notices; of worker and supervisor: mount again, nothing
# acknowledged is missing. Environment: tests/lib/tap.sh
set -u
. "${SPARE_SRC:?}/tests/lib/tap.sh"
mnt=$WORK/m
cleanup() { mountpoint -q "$mnt" && umount -l "$mnt"; [ -z "${load-}" ] || kill -9 $load 2>/dev/null; }
trap cleanup EXIT
need_root
need_fuse
new_worker() { local w; w=$(worker daemon.log); [ -n "$w" ] && [ "$w" != "$1" ]; }
rounds() { local f t=0; for f in "$@"; do [ -e "$f" ] && t=$((t + $(wc -l <"$f"))); done; echo $t; }
until_rounds() { # until_rounds N FILE...: the writers have done so many together
	local want=$1 end=$((SECONDS + 60))
	shift
	while [ "$(rounds "$@")" -lt "$want" ]; do
		[ $SECONDS -lt $end ] || { echo "# only $(rounds "$@") of $want rounds in 60 s"; return 1; }
	done
}
cat >load.py <<'P'
# Each writer does operations and notes each one that returned, in a file outside of the mount.
import os, sys
me, root, log, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
out = open(log, "w", buffering=1)
d = os.path.join(root, "w" + me); os.mkdir(d)
big = os.urandom(1 << 20)
app = os.open(d + "/append", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
tmp = os.open(d + "/gone", os.O_CREAT | os.O_RDWR); os.unlink(d + "/gone")
for i in range(count):
    try:
        n = "%s/f%d" % (d, i)
        f = os.open(n, os.O_CREAT | os.O_EXCL | os.O_RDWR)
        data = big[:1 << 20] if i % 20 == 0 else b"%010d" % i
        assert os.write(f, data) == len(data)
        if i % 10 == 0: os.fsync(f)
        os.close(f)
        os.write(app, b"%09d\n" % i)
        os.pwrite(tmp, b"%010d" % i, 10 * i)
        os.mkdir(n + ".d"); os.rmdir(n + ".d")
        os.link(n, n + ".l"); os.rename(n + ".l", n + ".m")
        os.setxattr(n, "user.i", b"%d" % i); os.chmod(n, 0o600); os.symlink("x", n + ".s"); os.unlink(n + ".s")
        out.write("%d %d\n" % (i, len(data)))
    except Exception as e:
        if len(sys.argv) > 5: break      # the mount dies on purpose
        print("operation", i, "failed:", repr(e)); sys.exit(1)
if len(sys.argv) <= 5:
    assert os.pread(tmp, 10 * count, 0) == b"".join(b"%010d" % i for i in range(count)), "unlinked file"
P
cat >verify.py <<'P'
import os, sys
root, logs, torn = sys.argv[1], sys.argv[2:-1], sys.argv[-1] == "torn"
total = 0
for log in logs:
    d = os.path.join(root, "w" + log.rsplit(".", 1)[1])
    done = [tuple(map(int, l.split())) for l in open(log)]
    names = set(os.listdir(d))
    for i, size in done:
        st = os.stat("%s/f%d" % (d, i))
        assert st.st_size == size and st.st_nlink == 2 and st.st_mode & 0o777 == 0o600, (d, i, st)
        assert os.getxattr("%s/f%d" % (d, i), "user.i") == b"%d" % i
        for there, suffix in ((True, ""), (True, ".m"), (False, ".l"), (False, ".d"), (False, ".s")):
            assert (("f%d%s" % (i, suffix)) in names) == there, (d, i, suffix)
        if size == 10: assert open("%s/f%d" % (d, i), "rb").read() == b"%010d" % i
    a = open(d + "/append", "rb").read()
    want = b"".join(b"%09d\n" % i for i in range(len(a) // 10))
    assert a == want, (d, "append: doubled, lost or torn", len(a))
    assert len(a) // 10 - len(done) in ((0, 1) if torn else (0,)), (d, len(a) // 10, len(done))
    total += len(done)
print(total, "rounds verified")
assert total > 0
P
mkdir "$mnt"
check init "$SPARE" init st
check mount timeout 60 "$SPARE" mount st m -o "log=$WORK/daemon.log"
load=
for i in 1 2 3 4; do timeout 120 python3 load.py $i "$mnt" "$WORK/load.$i" 400 >"out.$i" 2>&1 & load="$load $!"; done
# One that is nearly always inside an fsync: so that, whenever a worker dies, it has a request that was read and not answered.
python3 -c 'import os, sys
f = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)
while not os.path.exists(sys.argv[2]):
    os.pwrite(f, b"x", 0)
    os.fsync(f)' "$mnt/syncs" "$WORK/stop" >out.syncs 2>&1 &
syncs=$!
killed=0
for i in 1 2 3 4; do
	w=$(worker daemon.log)
	until_rounds $((i * 300)) load.1 load.2 load.3 load.4
	kill -9 "$w" && killed=$((killed + 1))
	check "a new worker after kill -9, $i" until_true new_worker "$w"
done
failed=0
for p in $load; do wait "$p" || failed=$((failed + 1)); done
: >stop
wait "$syncs" || failed=$((failed + 1))
load=
check "four writers saw no error" bash -c '[ "$1" = 0 ] && [ "$2" = 4 ] || { cat out.*; exit 1; }' - $failed $killed
check "everything is there, once" timeout 60 python3 verify.py "$mnt" load.1 load.2 load.3 load.4 whole
check "some requests were taken over" grep -qE 'took over: [1-9][0-9]* requests found' daemon.log
check unmount timeout 60 "$SPARE" umount m
check "mount again" timeout 60 "$SPARE" mount st m -o "log=$WORK/daemon.log"
check "still there" timeout 60 python3 verify.py "$mnt" load.1 load.2 load.3 load.4 whole

for i in 5 6 7 8; do timeout 120 python3 load.py $i "$mnt" "$WORK/load.$i" 100000 until-dead >"out.$i" 2>&1 & load="$load $!"; done
until_rounds 300 load.5 load.6 load.7 load.8
s=$(supervisor daemon.log) w=$(worker daemon.log)
kill -9 "$s" "$w"
for p in $load; do wait "$p"; done
load=
check "mount after kill -9 of both, no step in between" timeout 60 "$SPARE" mount st m -o "log=$WORK/daemon.log"
check "nothing answered is missing" timeout 60 python3 verify.py "$mnt" load.5 load.6 load.7 load.8 torn
check "nor of before" timeout 60 python3 verify.py "$mnt" load.1 load.2 load.3 load.4 whole
check "unmount at the end" timeout 60 "$SPARE" umount m
[ $bad -eq 0 ] || sed 's/^/# daemon: /' daemon.log
finish
