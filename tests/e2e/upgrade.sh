#!/bin/bash
# upgrade.sh: the program behind a mount is swapped while files are open and written: nobody notices, nothing is lost or done twice. As root, and as an
# ordinary user. Environment: tests/lib/tap.sh; UPGRADES (6)
set -u
. "${SPARE_SRC:?}/tests/lib/tap.sh"
need_fuse
cleanup() { [ -z "${LOAD-}" ] || kill -9 "$LOAD" 2>/dev/null; umount -l "$WORK/m" 2>/dev/null || fusermount3 -uz "$WORK/m" 2>/dev/null; }
trap cleanup EXIT
mkdir m
cp "$SPARE" one && cp "$SPARE" two || exit 1
UPGRADES=${UPGRADES:-6}
exe() { readlink "/proc/$(worker daemon.log)/exe"; }
start() { ./one init st && timeout 60 ./one mount st m -o "log=$WORK/daemon.log,memory=64M" && echo old >m/file && same "$WORK/one" "$(exe)"; }
check "a mount" start
cat >load.py <<'P'
# Appends a line and reads it back, makes, renames and removes a file, all with what was opened before; each must succeed and happen once.
import os, sys, time
f = os.open("m/lines", os.O_CREAT | os.O_RDWR | os.O_APPEND)
gone = os.open("m/gone", os.O_CREAT | os.O_RDWR); os.unlink("m/gone")
i, worst = 0, 0.0
while not os.path.exists("stop"):
    t = time.monotonic()
    line = b"%09d\n" % i
    assert os.write(f, line) == 10
    assert os.pread(f, 10, 10 * i) == line
    os.pwrite(gone, line, 10 * (i % 100))
    os.mkdir("m/d%d" % i); os.rename("m/d%d" % i, "m/e%d" % i); os.rmdir("m/e%d" % i)
    if i % 50 == 0: os.fsync(f)
    worst = max(worst, time.monotonic() - t)
    i += 1
assert os.fstat(f).st_size == 10 * i and os.fstat(gone).st_nlink == 0
open("done", "w").write("%d lines, longest round %.0f ms\n" % (i, worst * 1000))
P
there_and_back() {
	local i before program
	python3 load.py 2>load.err &
	LOAD=$!
	until_true test -s m/lines || return 1
	for i in $(seq "$UPGRADES"); do
		program=$([ $((i % 2)) = 1 ] && echo two || echo one)
		before=$(supervisor daemon.log)
		exits 0 "./$program" upgrade m && prints "served by $WORK/$program now" && same "$WORK/$program" "$(exe)" && same "$before" "$(supervisor daemon.log)" || return 1
	done
	touch stop
	wait $LOAD || { cat load.err; return 1; }
	LOAD=
}
check "it goes on as another program, and back, while it is worked in" there_and_back
sed 's/^/# /' done 2>/dev/null
all_there() {
	python3 - <<-'END' && same old "$(cat m/file)" && same "file lines" "$(ls m | xargs)" && same old "$(cat m/.snapshots/0s/file)"
		lines = open("m/lines").read().split()
		assert lines == ["%09d" % i for i in range(len(lines))], "a line is missing, or there twice"
	END
}
check "every line is there once; so is the past" all_there
other_layout() { python3 -c '
import sys; sys.path.insert(0, sys.argv[1] + "/tests/lib")
from control import Control
try: Control("st").ask("upgrade", program=sys.argv[2], layout=999)
except RuntimeError as e: assert "unmount, and mount again" in str(e), e
else: sys.exit("accepted")' "$SPARE_SRC" "$WORK/two" && same "$WORK/$([ $((UPGRADES % 2)) = 0 ] && echo one || echo two)" "$(exe)"; }
check "a program that keeps requests otherwise is refused" other_layout
not_run() { # what cannot be run: it stays what it is, and says so
	printf 'no program' >bad && chmod 755 bad && python3 -c '
import sys; sys.path.insert(0, sys.argv[1] + "/tests/lib")
from control import Control
Control("st").ask("upgrade", program=sys.argv[2], layout=2)' "$SPARE_SRC" "$WORK/bad"
	until_true grep -q "could not be run" daemon.log && until_true ls m/file && same old "$(cat m/file)"
}
check "what cannot be run leaves it as it was" not_run
inside() { cp two m/prog && exits 2 m/prog upgrade m && says "lies in the mount" && rm m/prog; }
check "a program that lies in the mount is refused" inside
loose() { cp two loose && chmod 777 loose && exits 12 ./loose upgrade m && says "nobody else may write"; }
check "and one that anybody may write" loose
ends() { timeout 60 ./two umount m && gone m && until_true no_daemon daemon.log && exits 0 ./two check st && prints "No damage"; }
check "it unmounts, and check finds nothing" ends
stranger() { # a program that is none of ours: the worker serves on, without a supervisor
	timeout 60 ./one mount st m -o "log=$WORK/daemon.log" && cp /bin/true none && python3 -c '
import sys; sys.path.insert(0, sys.argv[1] + "/tests/lib")
from control import Control
Control("st").ask("upgrade", program=sys.argv[2], layout=2)' "$SPARE_SRC" "$WORK/none" && until_true grep -q "supervisor is gone" daemon.log &&
		same old "$(cat m/file)" && echo new >m/file && same new "$(cat m/file)" && timeout 60 ./one umount m && until_true no_daemon daemon.log &&
		timeout 60 ./one mount st m -o "log=$WORK/daemon.log" && same new "$(cat m/file)" && ends
}
check "a program that is no spare: what is open is served on" stranger
nothing() { exits 1 ./one upgrade st && says "not mounted|found a store|nobody serves"; }
check "what is not mounted is not upgraded" nothing
[ $bad -eq 0 ] || sed 's/^/# daemon: /' daemon.log
if [ "$(id -u)" = 0 ]; then as_user "$0"; fi
finish
