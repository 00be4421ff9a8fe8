#!/bin/bash
# damage.sh: damage and trouble below a mount: named, contained, nothing lost: bits that changed, a torn end, a moved or copied
# store, a full disk, a flush that fails. Environment: tests/lib/tap.sh
set -u
. "${SPARE_SRC:?}/tests/lib/tap.sh"
. "$SPARE_SRC/tests/lib/powerfs.sh"
need_root
need_fuse
cleanup() { cd /; umount -l "$WORK/m" 2>/dev/null; umount -l "$WORK/small" 2>/dev/null; powerfs_stop; }
trap cleanup EXIT
mkdir m
spare() { timeout 60 "$SPARE" "$@"; }
mount_it() { spare mount "$@" m -o "log=$WORK/daemon.log"; }
# files FIRST LAST: each of 5,000 bytes that say which it is.
files() { local i; for i in $(seq "$1" "$2"); do yes "file $i" | head -c 5000 >"m/f$i" || return 1; done; sync "m/f$2"; }
whole() { local i; for i in $(seq "$1" "$2"); do cmp -s "m/f$i" <(yes "file $i" | head -c 5000) || { echo "f$i differs"; return 1; }; done; }
die() { kill -9 $(pids daemon.log); until_true no_daemon daemon.log && umount -l m; }
newest() { ls "$1"/log/*.seg | tail -n 1; }
# place SEGMENT PATTERN: file offset of the data of the first record whose dump matches
place() { "$SPARE" dump "$1" | sed -n "/$2/s/.*file_offset=\([0-9]*\).*/\1/p" | head -n 1; }
spoil() { printf '\xff\xfe\xfd' | dd of="$1" bs=1 seek="$2" conv=notrunc status=none; }

start() { spare init st >/dev/null && mount_it st && files 1 60 && spare umount m; }
check "a store with 60 files" start

one_file() {
	local seg at ino
	cp -a st data && seg=$(newest data) && mount_it --copied data && ino=$(stat -c %i m/f30) && spare umount m && at=$(place "$seg" "type=WRITE .*inode=$ino ") &&
		spoil "$seg" $((at + 1000)) && mount_it data && fails cat m/f30 >/dev/null && whole 1 29 && whole 31 60 && spare umount m &&
		grep -q "offset [0-9]*: .*expected [0-9a-f]*, found" daemon.log || { cat daemon.log; return 1; }
	exits 13 "$SPARE" check --read-data data && prints 'offset [0-9]+: .*expected [0-9a-f]+, found' && prints 'f30'
}
check "a byte of data: that file cannot be read, all others can; named with the file" one_file

# What lies behind a hole is looked at, too: f55's data is named.
hole() {
	local seg from to bad
	cp -a st hole && seg=$(newest hole) && mount_it --copied hole && spare umount m && from=$(place "$seg" 'type=CREATE .*name=f20 ') && to=$(place "$seg" 'type=CREATE .*name=f40 ') && bad=$(place "$seg" 'type=CREATE .*name=f55 ') &&
		dd if=/dev/zero of="$seg" bs=1 seek="$from" count=$((to - from)) conv=notrunc status=none && spoil "$seg" $((bad + 1500)) || return 1
	exits 13 "$SPARE" check --read-data hole && prints 'addresses [0-9]+ to [0-9]+ cannot be read' && prints 'f55'
}
check "a hole in the log: where it begins and ends, and what is bad behind it" hole

in_the_middle() {
	local seg before
	cp -a st mid && mount_it --copied mid && files 61 80 && files 81 100 && echo x >m/last && sync m/last && die && seg=$(newest mid) &&
		spoil "$seg" $(($(place "$seg" 'type=CREATE .*name=f85 ') + 190)) || return 1
	exits 13 "$SPARE" mount mid m && says 'log/[0-9a-f-]+\.seg: offset [0-9]+: .*expected [0-9a-f.]+, found [0-9a-f.]+; addresses below [0-9]+ were durable' &&
		before=$(find mid -type f ! -name lock -print0 | sort -z | xargs -0 md5sum) && spare mount -o "ro,log=$WORK/daemon.log" mid m && whole 1 84 && [ ! -e m/f86 ] && exits 0 "$SPARE" status m && prints Damaged &&
		ls m/.snapshots/now/f84 && spare umount m && same "$before" "$(find mid -type f ! -name lock -print0 | sort -z | xargs -0 md5sum)"
}
check "a record in the middle: no writing; read-only up to it, and no byte is changed" in_the_middle

# Without what a stream begins with nothing is healed in place: refused, with the way out, which is gone to its end.
beyond() {
	local seg
	mkdir p && spare init p/st >/dev/null && mount_it p/st && files 1 20 && exits 0 "$SPARE" sync m "$WORK/p/st2" && spare umount m && seg=$(newest p/st) && rm "$seg" &&
		exits 13 "$SPARE" mount p/st m && says 'cannot be healed in place' && says 'spare promote STORE' && says "spare sync STORE $WORK/p/st --new" && exits 13 "$SPARE" check p/st &&
		exits 0 "$SPARE" promote p/st2 && mv p/st p/lost && mount_it p/st2 && whole 1 20 && exits 0 "$SPARE" sync m "$WORK/p/st" --new && spare umount m && exits 0 "$SPARE" check --read-data p/st || return 1
	seg=$(newest p/st) && rm "$seg" && mount_it p/st2 && ! timeout 60 "$SPARE" sync m "$WORK/p/st" >out 2>err && says "move $WORK/p/st away, then at its primary: spare sync STORE $WORK/p/st --new" && mv p/st p/lost2 &&
		exits 0 "$SPARE" sync m "$WORK/p/st" --new && spare umount m && rm p/st/super.0 p/st/super.1 && exits 13 "$SPARE" mount p/st m && says 'expected super.0 or super.1, found neither' && says 'spare sync STORE .* --new'
}
check "the newest segment is gone, both superblocks are: refused, with the command that makes it whole" beyond

torn() {
	local seg end
	rm -f daemon.log
	cp -a st torn && mount_it --copied torn && files 61 80 && echo more >m/torn && die && seg=$(newest torn) && end=$(place "$seg" 'type=WRITE .*data_bytes=5 ') &&
		printf '\0\0\0\0\0\0\0\0' | dd of="$seg" bs=1 seek=$((end + 100)) conv=notrunc status=none && mount_it torn && whole 1 80 &&
		grep -q 'the log ended in the middle of a record; cut at' daemon.log && [ ! -s m/torn ] && echo again >m/torn && spare umount m && exits 0 "$SPARE" check --read-data torn
}
check "a torn end is cut and reported" torn

elsewhere() {
	cp -a st moved && exits 10 "$SPARE" mount moved m && says '--moved' && says '--copied' && exits 0 "$SPARE" mount --moved moved m && whole 1 60 && exits 0 "$SPARE" umount m &&
		exits 0 "$SPARE" mount moved m && exits 0 "$SPARE" umount m && cp -a st copied && exits 0 "$SPARE" mount --copied copied m && exits 0 "$SPARE" status --json m || return 1
	# The copy has a name and an epoch of its own, keeps what it was copied with, and survives what any store does.
	local site
	site=$(sed 's/.*"site":"\([0-9a-f]*\)".*/\1/' out) && files 61 70 && whole 1 70 && spare umount m && mount_it copied && files 71 80 && die && mount_it copied && whole 1 80 &&
		exits 0 "$SPARE" status --json m && grep -q "\"site\":\"$site\"" out && grep -q '"epoch":2' out && grep -q '"forked_lsn":' out && spare umount m && exits 0 "$SPARE" check --read-data copied &&
		exits 0 "$SPARE" status --json moved && ! grep -q "$site" out && grep -q '"epoch":1' out
}
check "moved or copied: asked; the same store, or one of its own" elsewhere

# Bytes that cannot be made smaller: of others the packer would make room meanwhile.
full() {
	local rc
	mkdir small && mount -t tmpfs -o size=96m tmpfs small && spare init small/st >/dev/null && mount_it small/st && files 1 20 || return 1
	head -c 200000000 /dev/urandom >m/big 2>full.err
	rc=$?
	[ $rc -ne 0 ] && grep -q 'No space left' full.err || { echo "exit $rc"; cat full.err; return 1; }
	whole 1 20 && fails bash -c 'head -c 2000000 /dev/urandom >m/more' && fails bash -c 'head -c 3000000 /dev/urandom >m/more2 && sync m/more2' && whole 1 20 && ls m >/dev/null && spare umount m &&
		mount -o remount,size=200m small && mount_it small/st && whole 1 20 && files 21 30 && whole 21 30 && spare umount m && exits 0 "$SPARE" check --read-data small/st
}
check "a full disk: ENOSPC, and on it goes with more room" full

flush_fails() {
	local i
	rm -f daemon.log
	powerfs_start && spare init pfs/st >/dev/null && mount_it pfs/st && files 1 20 && powerfs_ctl eio fdatasync 2 || return 1
	# One of these fsyncs meets it. It may fail or, taken over by the next worker, succeed; what it said holds after a cut.
	: >acked
	for i in $(seq 21 60); do
		yes "file $i" | head -c 5000 >"m/f$i" 2>/dev/null && sync "m/f$i" 2>/dev/null && echo "$i" >>acked
	done
	grep -q 'starting over from what the disk holds' daemon.log || { echo "no flush failed"; cat daemon.log; return 1; }
	[ "$(wc -l <acked)" -ge 30 ] || { echo "only $(wc -l <acked) were acknowledged"; return 1; }
	powerfs_ctl cut 7 drop-all && die && powerfs_ctl revive && mount_it pfs/st && whole 1 20 || return 1
	while read -r i; do whole "$i" "$i" || return 1; done <acked
	spare umount m && exits 0 "$SPARE" check --read-data pfs/st && powerfs_stop
}
check "a flush that fails: nothing acknowledged is lost in a power cut after it" flush_fails

# Worse: what was answered is gone, while the mount lives. The supervisor stands still meanwhile, so that no worker opens a dead disk.
no_worker() { [ -z "$(worker daemon.log)" ]; }
answered_is_lost() {
	local sup try p rc=0
	rm -f daemon.log
	powerfs_start && spare init pfs/st >/dev/null && mount_it pfs/st && files 1 20 && sup=$(supervisor daemon.log) || return 1
	for try in $(seq 1 30); do
		kill -STOP "$sup"
		echo lost >"m/lost$try"
		powerfs_ctl cut "$try" drop-all
		timeout 30 sync "m/lost$try" 2>sync.err &
		p=$!
		until_true no_worker daemon.log || return 1
		powerfs_ctl revive
		kill -CONT "$sup"
		wait "$p"
		rc=$?
		until_true grep -q "took over" daemon.log || return 1
		grep -q 'are lost' daemon.log && break
		# It had been written in time: once more, of a mount that has not lost so many workers.
		spare umount m && : >daemon.log && mount_it pfs/st && sup=$(supervisor daemon.log) || return 1
	done
	grep -q 'had been answered are lost, the disk did not keep them: it ends with the record @[0-9]*, and @[0-9]* had been answered. Reading works; unmount and mount again' daemon.log || { cat daemon.log; return 1; }
	[ $rc -ne 0 ] && [ $rc -ne 124 ] || { echo "fsync of what was lost: exit $rc"; return 1; }
	# Nothing goes on as if nothing had been: no writing, no fsync that says done; reading does.
	fails bash -c 'echo x >m/more' && fails sync m/f3 && whole 1 20 && spare umount m && mount_it pfs/st && whole 1 20 && files 21 30 && spare umount m &&
		exits 0 "$SPARE" check --read-data pfs/st && powerfs_stop
}
check "what was answered is lost: the fsync in flight fails, and nothing is written before it is mounted again" answered_is_lost
finish
