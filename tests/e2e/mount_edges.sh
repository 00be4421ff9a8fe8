#!/bin/bash
# mount_edges.sh: what happens at the edges: commands while the worker restarts, an unmount that is refused, two mounts at one
# place one after the other, and what the kernel still believes. Environment: tests/lib/tap.sh
set -u
. "${SPARE_SRC:?}/tests/lib/tap.sh"
need_root
need_fuse
cleanup() { cd /; umount -l "$WORK/m" 2>/dev/null; umount -l "$WORK/m" 2>/dev/null; }
trap cleanup EXIT
mkdir m
spare() { timeout 60 "$SPARE" "$@"; }
mount_it() { spare mount "$1" m -o "log=$WORK/${2:-daemon.log}"; }
start() { spare init st >/dev/null && mount_it st && echo one >m/f && sync m/f && echo two >m/f && sync m/f && mkdir m/d && echo x >m/d/x; }
check "a store, mounted" start

told() { # an undo is seen at once, however the file was cached
	local i
	for i in $(seq 20); do
		[ "$(cat m/f)" = two ] && spare undo m/f >/dev/null && [ "$(cat m/f)" = one ] && spare undo --redo m/f >/dev/null || { echo "round $i: $(cat m/f)"; return 1; }
	done
}
check "undo and redo are seen as soon as they are done" told
refused() {
	exec 7<m/f
	exits 11 "$SPARE" umount m && exits 11 "$SPARE" umount m && [ "$(cat m/.snapshots/now/f)" = two ] && exec 7<&- && exits 0 "$SPARE" umount m && mount_it st
}
check "an unmount that is refused leaves the past as it was" refused
gap() { # commands in the moment in which nobody serves
	local i w
	for i in 1 2 3 4; do
		w=$(worker daemon.log) && kill -9 "$w" && spare undo m/f >/dev/null && [ "$(cat m/f)" = one ] && spare undo --redo m/f >/dev/null && [ "$(cat m/f)" = two ] ||
			{ echo "round $i"; cat daemon.log; return 1; }
		until_true test -n "$(worker daemon.log)"
		# More deaths within ten seconds than the supervisor puts up with would end the mount.
		[ $i -lt 2 ] || until_true test "$(worker daemon.log)" != "$w"
	done
	echo three >m/g && [ "$(cat m/g)" = three ] && ! grep -q 'trying read-only' daemon.log
}
check "commands while the worker is dead wait for the next one" gap
orphan() { # a file that a restore takes away, held open, with commands and a restart in between
	local w
	spare umount m && mount_it st && echo kept >m/open && sync m/open && spare snapshot create without --store m >/dev/null && exec 8<>m/open && rm m/open && echo more >&8 &&
		echo extra >m/extra && exec 9<m/extra && spare restore m --at without --delete-extra >/dev/null && [ "$(cat m/open)" = kept ] && [ ! -e m/extra ] && w=$(worker daemon.log) && kill -9 "$w" &&
		[ "$(cat /proc/self/fd/9)" = extra ] && [ "$(cat /proc/self/fd/8 | tail -n 1)" = more ] && exec 8<&- 9<&-
}
check "files open and without a name survive commands and a restart" orphan
forgotten() { # what a restore did is seen after its worker died
	local w
	rm -r m/d && [ ! -e m/d ] && [ ! -e m/d/x ] && spare restore m/d --at without >/dev/null && w=$(worker daemon.log) && kill -9 "$w" && [ "$(cat m/d/x)" = x ]
}
check "what a restore brought back is there after the worker died" forgotten
many() { # more names than the queue of notifications holds, each believed to be gone
	cat >many.py <<-'P'
		import os, subprocess, sys
		names = ["m/many/f%d" % i for i in range(5000)]
		def there(): return sum(os.path.exists(n) for n in names)
		os.mkdir("m/many")
		for n in names: open(n, "w").write(n)
		subprocess.check_call([os.environ["SPARE"], "snapshot", "create", "full", "--store", "m"], stdout=subprocess.DEVNULL)
		for n in names: os.unlink(n)
		assert there() == 0
		subprocess.check_call([os.environ["SPARE"], "restore", "m/many", "--at", "full"], stdout=subprocess.DEVNULL)
		assert there() == 5000, there()
		assert all(open(n).read() == n for n in names)
	P
	timeout 120 python3 many.py
}
check "5,000 names come back, each known to be gone before" many
sizes() { # -o writeback: the kernel believes its own size of a file
	local i
	spare umount m && spare mount st m -o "writeback,log=$WORK/daemon.log" && : >m/s || return 1
	for i in 1 2 3 4; do
		seq $((i % 2 * 3000 + i)) >m/s && sync m/s && seq $((i % 2 * 3000 + i)) >"s.$i"
	done
	for i in 3 2 1; do spare undo m/s >/dev/null && cmp m/s "s.$i" && [ "$(stat -c %s m/s)" = "$(stat -c %s "s.$i")" ] || { echo "undo to $i"; return 1; }; done
	for i in 2 3 4; do spare undo --redo m/s >/dev/null && cmp m/s "s.$i" || { echo "redo to $i"; return 1; }; done
	echo more >>m/s && [ "$(tail -n 1 m/s)" = more ] && [ "$(wc -l <m/s)" = $(($(wc -l <s.4) + 1)) ] && spare umount m && mount_it st
}
check "with -o writeback too, an undo shows the size it brings back" sizes
one_after_the_other() {
	spare umount m && spare init other >/dev/null && mount_it st first.log || return 1
	(cd m && exec tail -f /dev/null) &
	local pid=$!
	until_true grep -q tail "/proc/$pid/comm"
	umount -l m && mount_it other second.log && echo mine >m/mine || { kill $pid; return 1; }
	kill $pid
	wait $pid 2>/dev/null
	until_true no_daemon first.log && [ "$(cat m/mine)" = mine ] && [ "$(cat m/.snapshots/now/mine)" = mine ] && spare umount m && until_true no_daemon second.log
}
check "a mount that ends late leaves the next one at its place alone" one_after_the_other
same_again() { # the same store at the same place: the kernel gives it the same device number again
	local sup
	mount_it st first.log && sup=$(supervisor first.log) && kill -STOP "$sup" || return 1
	spare umount m && mount_it st second.log && echo mine >m/mine || { kill -CONT "$sup"; return 1; }
	kill -CONT "$sup"
	until_true no_daemon first.log && mountpoint -q m && [ "$(cat m/mine)" = mine ] && [ "$(cat m/.snapshots/now/mine)" = mine ] && spare umount m && until_true no_daemon second.log
}
check "also where the next one is of the same store" same_again
handles() { mount_it st && python3 "$SPARE_SRC/tests/e2e/handles.py" m && spare umount m; }
check "a file is opened by its handle after the kernel has forgotten it" handles
remount() { # what mount(8) hands on, options of the mount there is included
	mount_it st && spare mount st m -o rw,relatime,user_id=0,group_id=0,default_permissions,allow_other,remount,ro && fails touch m/r && spare mount st m -o remount,rw && touch m/r || return 1
	exec 7>m/open
	exits 11 "$SPARE" mount st m -o remount,ro && says "open for writing" || return 1
	exec 7>&-
	spare umount m && spare mount st m -o ro && exits 1 "$SPARE" mount st m -o remount,rw && says "open read-only" && spare umount m
}
check "remounted read-only, and back" remount
check "check finds nothing" exits 0 "$SPARE" check --read-data st
finish
