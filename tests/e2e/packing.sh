#!/bin/bash
# packing.sh: what left the log for packs and archive is there as before: the tree, every moment, versions, after a restart, without the index, at a standby
# made new; a worker killed while it packs loses nothing; damage in a pack is named and stays where it is. Environment: tests/lib/tap.sh
set -u
. "${SPARE_SRC:?}/tests/lib/tap.sh"
need_root
need_fuse
mnt=$WORK/m
cleanup() { umount -l "$mnt" "$WORK/m2" 2>/dev/null; }
trap cleanup EXIT
mkdir m m2

digest() { (cd "$1" && find . -printf '%P %y %m %s %l %n\n' | sort && find . -type f -print0 | sort -z | xargs -0 sha256sum) | sha256sum | cut -d' ' -f1; }
mount_it() { "$SPARE" mount st m -o "log=$WORK/daemon.log"; }
again() { "$SPARE" umount m && mount_it; }
# Round ${1}: a tree made anew, files changed in place, by rename and by appending, a large one, links.
round() {
	local i
	rm -rf "$mnt/tree" && mkdir -p "$mnt/tree/a/b" || return 1
	for i in $(seq 60); do { seq -f "file $i line %g" 400; [ $((i % 7)) != $(($1 % 7)) ] || echo "round $1"; } >"$mnt/tree/a/f$i"; done
	cp -r "$mnt/tree/a" "$mnt/tree/copy"
	seq "$(($1 * 1000))" "$(($1 * 1000 + 500))" >>"$mnt/grows"
	{ head -c 700000 "$WORK/noise"; echo "round $1"; tail -c 2000000 "$WORK/noise"; } >"$mnt/.new" && mv "$mnt/.new" "$mnt/large"
	dd if="$WORK/noise" of="$mnt/pages" bs=4096 count=3 seek=$(($1 * 5)) skip="$1" conv=notrunc status=none
	ln -sf "large $1" "$mnt/tree/link" && ln "$mnt/large" "$mnt/tree/hard" && setfattr -n user.round -v "$1" "$mnt/tree/a/f1"
}
work() { # work FROM TO: rounds, each a moment with a digest
	local i
	for i in $(seq "$1" "$2"); do
		round "$i" && "$SPARE" snapshot create "r$i" --store m >/dev/null && digest "$mnt" >"$WORK/digest.$i" || return 1
	done
}
equal() { # equal MOUNT LAST: the live tree and each moment
	local i
	same "$(cat "digest.$2")" "$(digest "$1")" || return 1
	for i in $(seq "$2"); do same "$(cat "digest.$i")" "$(digest "$1/.snapshots/r$i")" || { echo "moment r$i"; return 1; }; done
}
log_bytes() { "$SPARE" status --json "$1" | sed -n 's/.*"log_bytes":\([0-9]*\).*/\1/p'; }
start() { head -c 3000000 /dev/urandom >noise && "$SPARE" init st >/dev/null && mount_it && work 1 4; }
check "a store with four rounds of work" start
packed() { exits 0 "$SPARE" reclaim m && prints '^Packed [0-9]+ operations' && ls st/packs/*.pack st/archive/*.arc && equal "$mnt" 4; }
check "packed while mounted: the tree and every moment are the same" packed
less() { exits 0 "$SPARE" reclaim m && prints 'Nothing to pack|^Packed [0-9]+ op' && "$SPARE" umount m && [ "$(du -sb st/log | cut -f1)" -lt 1000000 ] && mount_it; }
check "the log holds next to nothing then" less
more() { work 5 7 && exits 0 "$SPARE" reclaim m && equal "$mnt" 7; }
check "and again, after more work: a second pack, which refers to the first" more
restarted() { again && equal "$mnt" 7; }
check "the same after a restart" restarted
versions() {
	exits 0 "$SPARE" log m/grows && [ "$(grep -c . out)" -ge 7 ] && exits 0 "$SPARE" cat m/grows --at r2 && same "$(seq 1000 1500 | cat - <(seq 2000 2500) | sha256sum)" "$(sha256sum <out)" &&
		exits 0 "$SPARE" log m/tree && prints 'f1' && exits 0 "$SPARE" restore m/pages --at r3 && "$SPARE" undo m/pages >/dev/null
}
check "versions, content of then and undo, out of packs" versions
whole() { exits 0 "$SPARE" check m --read-data && prints 'packs' && prints 'archive records' && prints 'No damage'; }
check "check reads every pack" whole
dumped() {
	local f
	for f in st/packs/*.pack st/archive/*.arc; do exits 0 "$SPARE" dump "$f" && [ -s out ] && exits 0 "$SPARE" dump "$f" --json && head -n 1 out | grep -q '^{' || return 1; done
}
check "dump prints packs and archive files" dumped
no_index() {
	local last
	last=$(digest "$mnt")
	"$SPARE" umount m && rm -rf st/index && mount_it && same "$last" "$(digest "$mnt")" || return 1
	for i in 1 4 7; do same "$(cat "digest.$i")" "$(digest "$mnt/.snapshots/r$i")" || return 1; done
	exits 0 "$SPARE" check m && prints 'No damage' && exits 11 "$SPARE" rebuild-index m && "$SPARE" umount m && exits 0 "$SPARE" rebuild-index st && prints 'the index is made anew, up to @[0-9]+' && [ ! -e st/index.replaced ] && mount_it &&
		same "$last" "$(digest "$mnt")" && same "$(cat digest.4)" "$(digest "$mnt/.snapshots/r4")"
}
check "without the index, which is made anew from the archive" no_index
standby() {
	exits 0 "$SPARE" sync m "$WORK/st2" && mkdir -p m2 && "$SPARE" mount -o ro st2 m2 && same "$(digest "$mnt")" "$(digest m2)" || return 1
	for i in 1 5 7; do same "$(cat "digest.$i")" "$(digest "m2/.snapshots/r$i")" || return 1; done
	"$SPARE" umount m2
}
check "a standby made new has all of it" standby
standby_packs() { exits 0 "$SPARE" reclaim st2 && "$SPARE" mount -o ro st2 m2 && same "$(digest "$mnt")" "$(digest m2)" && same "$(cat digest.3)" "$(digest m2/.snapshots/r3)" && "$SPARE" umount m2 && exits 0 "$SPARE" standby remove m "$WORK/st2"; }	# (what it lacks would stay in the log for it)
check "and packs what it has itself" standby_packs
killed() {
	local i w
	for i in 1 2 3; do
		round $((20 + i)) && digest "$mnt" >live.then || return 1
		"$SPARE" reclaim m >/dev/null 2>&1 &
		w=$(worker daemon.log)
		read -r -t "0.0$i" _ <> <(:)
		kill -9 "$w"
		wait
		until_true ls "$mnt/large" && same "$(cat live.then)" "$(digest "$mnt")" || return 1
	done
	exits 0 "$SPARE" reclaim m && same "$(cat live.then)" "$(digest "$mnt")" && same "$(cat digest.6)" "$(digest "$mnt/.snapshots/r6")"
}
check "the worker killed while it packs, three times" killed
damaged() {
	local pack
	"$SPARE" umount m
	pack=$(ls st/packs/*.pack | head -n 1)
	cp "$pack" pack.keep
	printf '\377' | dd of="$pack" bs=1 seek=5000 conv=notrunc status=none
	mount_it && exits 13 "$SPARE" check m --read-data && prints "DAMAGE.*$(basename "$pack")" || return 1
	same "$(cat live.then)" "$(digest "$mnt" 2>/dev/null)" || echo "(some of the live tree lies in the damaged frame)"
	"$SPARE" umount m && cp pack.keep "$pack" && mount_it && exits 0 "$SPARE" check m --read-data && same "$(cat digest.2)" "$(digest "$mnt/.snapshots/r2")"
}
check "a flipped byte in a pack is named" damaged
quiet_enough() {
	local end=$((SECONDS + 60))
	work 30 30 && cp "$mnt/large" "$mnt/large2" || return 1
	until [ -n "$(find st/packs -newer digest.30 -name '*.pack')" ]; do
		[ $SECONDS -lt $end ] || { echo "nothing packed within 60 s"; return 1; }
		read -r -t 0.3 _ <> <(:)
	done
	same "$(cat digest.30)" "$(digest "$mnt/.snapshots/r30")"
}
check "by itself, when there is quiet" quiet_enough
check "umount at the end" "$SPARE" umount m
finish
