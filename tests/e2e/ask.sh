#!/bin/bash
# ask.sh: questions about the past: diff between moments, find of what is gone, space; mounted and not, as text and as JSON. Environment: tests/lib/tap.sh
set -u
. "${SPARE_SRC:?}/tests/lib/tap.sh"
need_root
need_fuse
mnt=$WORK/m
cleanup() { umount -l "$mnt" 2>/dev/null; }
trap cleanup EXIT
mkdir m

start() {
	"$SPARE" init st >/dev/null && "$SPARE" mount st m -o "log=$WORK/daemon.log" && mkdir -p m/src/lib m/doc && seq 100 >m/src/main.c && seq 200 >m/src/lib/util.c && echo text >m/doc/read.me &&
		echo gone >m/doc/old.txt && "$SPARE" snapshot create one --store m >/dev/null && mv m/src/lib m/src/library && sed -i s/7/seven/ m/src/library/util.c && rm m/doc/old.txt && echo more >>m/doc/read.me &&
		chmod 600 m/src/main.c && mkdir m/new && echo x >"$(printf 'm/new/a\tb')"
}
check "a store with two moments" start
changed() {
	exits 0 "$SPARE" diff --from one m && grep -qx -- '-  doc/old.txt' out && grep -q '^M  doc/read.me  (5 B -> 10 B)' out && grep -qx 'R  src/lib -> src/library' out && grep -q '^M  src/library/util.c' out && grep -qx 'm  src/main.c' out &&
		grep -qx '+  new/' out && grep -qxF '+  new/a\011b' out && [ "$(grep -c . out)" = 7 ] || { cat out; return 1; }
}
check "diff: what came, went, changed, was renamed" changed
some() {
	exits 0 "$SPARE" diff --from one m/doc && [ "$(grep -c . out)" = 2 ] && exits 0 "$SPARE" diff --from one --json m/new && [ "$(grep -c '^{"change":"added"' out)" = 2 ] && exits 0 "$SPARE" diff --from one --to one m && [ ! -s out ] &&
		exits 2 "$SPARE" diff --from now --to one m && says 'expected --from before --to' && (cd m/doc && exits 0 "$SPARE" diff --from one . && grep -q 'read.me' "$WORK/out")
}
check "diff of some paths, as JSON, of a moment with itself, the wrong way round" some
found() {
	exits 0 "$SPARE" find '*.c' --store m && [ "$(sort out | tr '\n' ' ')" = "src/library/util.c src/main.c " ] && exits 0 "$SPARE" find --deleted 'old*' --store m && prints '^doc/old.txt  gone .*Z, there at @[0-9]+$' &&
		exits 0 "$SPARE" find --deleted 'lib' --store m && prints '^src/lib  gone .*; now src/library$' && exits 0 "$SPARE" find 'src/*/*.c' --store m && prints '^src/library/util.c$' && exits 0 "$SPARE" find 'none*' --store m && [ ! -s out ]
}
check "find: by name and by path, what is gone, what was moved" found
brought() {
	local at
	exits 0 "$SPARE" find --deleted 'old.txt' --store m --json && at=$(sed -n 's/.*"at_lsn":\([0-9]*\).*/\1/p' out) && exits 0 "$SPARE" restore m/doc/old.txt --at "@$at" && same gone "$(cat m/doc/old.txt)"
}
check "and the moment it names brings it back" brought
total() {
	local all parts
	head -c 2000000 /dev/urandom >m/noise && head -c 2000000 /dev/urandom >m/noise && "$SPARE" reclaim m >/dev/null && "$SPARE" umount m && exits 0 "$SPARE" space st --json || return 1
	all=$(sed -n 's/.*"total_bytes":\([0-9]*\).*/\1/p' out)
	parts=$(grep -o '"[a-z_]*_bytes":[0-9]*' out | grep -v total | cut -d: -f2 | paste -sd+ | bc)
	[ $((all - parts)) -lt 10 ] && [ $((parts - all)) -lt 10 ] && [ $((all * 100)) -ge $(($(du -s --block-size=1 st | cut -f1) * 99)) ] && [ $((all * 99)) -le $(($(du -s --block-size=1 st | cut -f1) * 100)) ] ||
		{ echo "total $all parts $parts du $(du -s --block-size=1 st)"; return 1; }
}
check "space: its parts are its total, and that is what du says" total
of_path() {
	"$SPARE" mount st m -o "log=$WORK/daemon.log" && exits 0 "$SPARE" space m/noise && prints '^noise: 1 objects.*hold (3\.[89]|4\.0) MiB for it alone' && exits 0 "$SPARE" space m/src && prints '^src: ' && exits 0 "$SPARE" space m --free 1M && prints 'frees 1\.9 MiB' &&
		exits 0 "$SPARE" space m --free 1G && prints 'does not free 1.0 GiB' && exits 2 "$SPARE" space m --free lots
}
check "space of a path, and what would free some" of_path
check "umount at the end" "$SPARE" umount m
finish
