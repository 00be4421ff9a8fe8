#!/bin/bash
# cli_mounted.sh: the same commands on a mounted store, over its control socket; who is busy; mount and umount.
# Environment: tests/lib/tap.sh
set -u
. "${SPARE_SRC:?}/tests/lib/tap.sh"
M=$WORK/mnt

mount_it() {
	exits 0 "$SPARE" init st && mkdir mnt other && exits 0 "$SPARE" mount --json st mnt && grep -q '"mounted_at"' out && [ -S st/control ] &&
		exits 11 "$SPARE" mount st other
}
check "mount; a second mount exits 11" mount_it
places() {
	mkdir -p mnt/a/b && echo one >mnt/a/b/f && sync mnt/a/b/f && for at in st mnt mnt/a/b mnt/a/b/f; do
		exits 0 "$SPARE" status "$at" && grep -q "^mounted at  $M\$" out || return 1
	done
	(cd mnt/a && exits 0 "$SPARE" status && exits 0 "$SPARE" log b/f && exits 0 "$SPARE" cat b/f && [ "$(cat "$WORK/out")" = one ]) &&
		exits 0 "$SPARE" cat --store st a/b/f && [ "$(cat out)" = one ] && exits 0 "$SPARE" cat --store mnt/a /a/b/f && [ "$(cat out)" = one ] &&
		ln -s "$M/a" link && exits 0 "$SPARE" cat link/b/f && [ "$(cat out)" = one ]
}
check "a store is found from itself, its mount point and any path inside" places
past() {
	local lsn
	echo two >mnt/a/b/f && sync mnt/a/b/f && exits 0 "$SPARE" log mnt/a/b/f --json && [ "$(wc -l <out)" -eq 2 ] || return 1
	lsn=$(sed -n '2s/.*"lsn":\([0-9]*\).*/\1/p' out)
	exits 0 "$SPARE" cat mnt/a/b/f --at "@$lsn" && [ "$(cat out)" = one ] && exits 2 "$SPARE" log mnt/.snapshots/now/a/b/f &&
		exits 0 "$SPARE" undo mnt/a/b/f && [ "$(cat mnt/a/b/f)" = one ] && exits 0 "$SPARE" restore mnt/a/b/f --at "@$lsn" --to mnt/a/g &&
		cmp mnt/a/g mnt/a/b/f && exits 0 "$SPARE" snapshot create here --store mnt && rm -r mnt/a && exits 0 "$SPARE" log mnt/a/b/f &&
		exits 0 "$SPARE" restore mnt/a --at here && [ "$(cat mnt/a/b/f)" = one ] && [ "$(cat mnt/a/g)" = one ]
}
check "log, cat, undo, restore act through the mount" past
checks() { exits 0 "$SPARE" check --read-data mnt && exits 0 "$SPARE" wait mnt && exits 0 "$SPARE" wait --applied mnt && exits 0 "$SPARE" config show mnt; }
check "check and wait while mounted" checks
busy() {
	local pid
	exec 8<mnt/a/b/f
	exits 11 "$SPARE" umount mnt && grep -q "fd 8, $M/a/b/f" err || return 1
	timeout 60 "$SPARE" umount --when-free mnt >free.out 2>&1 8<&- &
	pid=$!
	local deadline=$((SECONDS + 30))
	while ! grep -q 'waiting for' free.out && [ $SECONDS -lt $deadline ]; do :; done
	grep -q "waiting for.*$M/a/b/f" free.out && kill -0 $pid && exec 8<&- && wait $pid && ! mountpoint -q mnt && [ ! -e st/control ]
}
check "umount names who is busy and waits for them" busy
again() {
	exits 0 "$SPARE" cat --store st a/b/f && [ "$(cat out)" = one ] && exits 0 "$SPARE" mount st mnt && [ "$(cat mnt/a/b/f)" = one ] &&
		exits 0 "$SPARE" umount st && ! mountpoint -q mnt && exits 1 "$SPARE" umount mnt && exits 0 "$SPARE" check --read-data st
}
check "the same without the mount, and with it again" again
import() {
	mkdir tree && head -c 300000 /dev/urandom >tree/x && cp -a tree tree.copy && exits 0 "$SPARE" import tree si && exits 0 "$SPARE" mount si tree &&
		diff -r tree.copy tree && exits 0 "$SPARE" umount tree
}
check "an imported directory is itself again under the mount" import
finish
