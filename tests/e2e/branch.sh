#!/bin/bash
# branch.sh: what an old primary held that the new one did not: kept, listed, shown file by file, read, mounted, seen in the mount of its store, removed. Environment: tests/lib/tap.sh.
set -u
. "${SPARE_SRC:?}/tests/lib/tap.sh"
need_root
need_fuse
cleanup() { local d; for d in m m2 mb; do umount -l "$WORK/$d" 2>/dev/null; done; }
trap cleanup EXIT
mkdir m m2 mb

parts() { # a: what was not shipped; b: promoted, and worked in
	"$SPARE" init a >/dev/null && "$SPARE" mount a m && echo one >m/one && echo two >m/two && echo moved >m/from && mkdir m/d && echo deep >m/d/deep && echo common >m/d/common && "$SPARE" sync a "$WORK/b" >/dev/null || return 1
	echo late >m/late && echo mine >m/one && mv m/from m/to && rm m/d/deep && ln m/late m/d/again && ln -s late m/link && setfattr -n user.k -v value m/late && chmod 640 m/late && head -c 3000000 /dev/urandom >m/big && truncate -s 9M m/big && sha256sum <m/big >big.sum && seq -f 'm/many%g' 300 | xargs touch && "$SPARE" umount m || return 1
	"$SPARE" promote b >/dev/null && "$SPARE" mount b m2 && echo theirs >m2/one && echo changed >m2/from && echo new >m2/new && "$SPARE" umount m2
}
check "two sites go different ways" parts
nothing_yet() { exits 0 "$SPARE" branch list a && [ ! -s out ] && exits 1 "$SPARE" branch show nosuch a && says 'expected a branch of'; }
check "there is no branch yet" nothing_yet
back() {
	exits 24 "$SPARE" sync b "$WORK/a" && says 'spare demote' && exits 0 "$SPARE" demote a && exits 22 "$SPARE" sync b "$WORK/a" && says 'keeps what it has beyond as a branch' && exits 0 "$SPARE" sync b "$WORK/a" &&
		 same theirs "$("$SPARE" cat one --at now --store a)" && fails "$SPARE" cat late --at now --store a
}
check "the old primary follows the new one" back
listed() { exits 0 "$SPARE" branch list a && same 1 "$(wc -l <out)" && prints 'parted .*, ends' && NAME=$(cut -d' ' -f1 out) && [ -d "a/branches/$NAME" ]; }
check "what it had is a branch" listed
shown() {
	exits 0 "$SPARE" branch show "$NAME" a && prints '^  \+ .* late$' && prints '^! M .* one$' && prints '^! R .* to  \(was from\)$' && prints '^  - .* d/deep$' && ! grep -q two out && says '2 of them to what has changed' &&
		exits 0 "$SPARE" --json branch show "$NAME" a && same 2 "$(grep -c '"changed_since_in_store": *true' out)"
}
check "each change of it, and what both sides changed, by either name" shown
read_it() {
	same late "$("$SPARE" cat late --at now --store "a/branches/$NAME")" && same mine "$("$SPARE" cat one --at now --store "a/branches/$NAME")" && "$SPARE" mount -o ro "a/branches/$NAME" mb && same moved "$(cat mb/to)" &&
		fails touch mb/x && exits 11 "$SPARE" branch remove "$NAME" a && says 'found it mounted' && same late "$(cat mb/late)" && "$SPARE" umount mb
}
check "it can be read, mounted, not written, not removed while it is mounted" read_it
# ---- in the mount of the store

shows() { "$SPARE" mount a m -o "log=$WORK/a.log" && B=m/.snapshots/@$NAME && ls m/.snapshots/ | grep -qxF "@$NAME" && [ "$(find m/.snapshots/ -maxdepth 1 -type d -name '@d*' | wc -l)" = 1 ] && same theirs "$(cat m/one)" && same mine "$(cat "$B/one")" && [ -d "$B/d" ] && fails ls "m/.snapshots/@diverged-no-such" && fails ls "m/.snapshots/@$NAME.part" && fails cat "m/.snapshots/@1x/one" && fails ls m/.snapshots/@0 && fails ls m/.snapshots/@4611686018427387905 && fails ls m/.snapshots/@; }
check "a mount of the store lists it in .snapshots, as a directory" shows
as_it_was() {
	same late "$(cat "$B/late")" && same late "$(cat "$B/link")" && same late "$(readlink "$B/link")" && same value "$(getfattr --only-values -n user.k "$B/late")" && same "640 2 $(stat -c %i "$B/d/again")" "$(stat -c '%a %h %i' "$B/late")" && [ ! -e "$B/d/deep" ] && same common "$(cat "$B/d/common")" &&
		same "$(cat big.sum)" "$(sha256sum <"$B/big")" && same 300 "$(ls "$B" | grep -c many)" && same moved "$(cat "$B/to")" && [ ! -e "$B/from" ] && [ ! -e "$B/.snapshots" ] && [ "$(du -k "$B/big" | cut -f1)" -lt 4000 ]
}
check "content, holes, rights, attributes, links and names are those of its end" as_it_was
no_changes() {
	local c
	for c in 'touch new' 'rm late' 'mv late x' 'ln late x' 'mkdir x' 'chmod 600 late' 'setfattr -n user.a -v b late' 'truncate -s 0 late'; do
		(cd "$B" && LC_ALL=C sh -c "$c" 2>&1) | grep -q "Read-only file system" || { echo "$c"; return 1; }
	done
	python3 -c 'import errno, os, sys
try: os.open(sys.argv[1] + "/late", os.O_RDWR)
except OSError as e: sys.exit(e.errno != errno.EROFS)
sys.exit(1)' "$B"
}
check "every change of it is refused as of a read-only file system" no_changes
brought_back() { exits 0 "$SPARE" promote m && cp -a "$B/late" m/late && same late "$(cat m/late)" && same value "$(getfattr --only-values -n user.k m/late)" && same mine "$("$SPARE" cat m/one --at "@$NAME")" && same theirs "$("$SPARE" cat m/one)" && same late "$(tail -n 1 m/late)" && exits 1 "$SPARE" cat m/one --at @nosuch && says 'expected a branch of'; }
check "in a primary a file of it is copied into the tree, and printed by cat --at" brought_back
restored() {
	exits 0 "$SPARE" restore --at "@$NAME" m/one --to m/one.mine && prints "end of the branch $NAME: 1 files" && same mine "$(cat m/one.mine)" && same theirs "$(cat m/one)" && exits 0 "$SPARE" restore --at "@$NAME" m/one && same mine "$(cat m/one)" && exits 0 "$SPARE" undo m/one && same theirs "$(cat m/one)" &&
		exits 0 "$SPARE" restore --at "@$NAME" m --to m/all && same "$(cat big.sum)" "$(sha256sum <m/all/big)" && [ "$(du -k m/all/big | cut -f1)" -lt 4000 ] && same value "$(getfattr --only-values -n user.k m/all/late)" && same late "$(readlink m/all/link)" &&
		same "640 2 $(stat -c %i m/all/d/again)" "$(stat -c '%a %h %i' m/all/late)" && diff -r --no-dereference "$B" m/all && same "$(cd "$B" && find . -printf '%P %y %m %n %l %T@\n' | sort)" "$(cd m/all && find . -printf '%P %y %m %n %l %T@\n' | sort)" && rm -r m/all m/one.mine &&
		exits 0 "$SPARE" restore --at "@$NAME" m/two && prints "1 unchanged" && exits 1 "$SPARE" restore --at "@nosuch" m/one && says "expected a branch of"
}
check "restore --at brings back a file, and all of it, with its holes, links and attributes; unchanged is what was not changed since" restored
worker_dies() {
	local w
	w=$(worker a.log) && exec 5<"$B/big" && head -c 1000 <&5 >/dev/null && kill -9 "$w" && until_true new_worker "$w" && echo 3 >/proc/sys/vm/drop_caches && same "$(cat big.sum)" "$(sha256sum <"$B/big")" && python3 -c 'import os, hashlib
os.lseek(5, 0, 0); h = hashlib.sha256()
while b := os.read(5, 1 << 20): h.update(b)
print(h.hexdigest(), " -")' | diff - big.sum && exec 5<&-
}
new_worker() { local w; w=$(worker a.log); [ -n "$w" ] && [ "$w" != "$1" ]; }
check "kill -9 of the worker while a file of it is open: who has it open reads on" worker_dies
in_use() { (cd "$B/d" && exits_in 11 "$SPARE" branch remove "$NAME" "$WORK/a" && grep -q 'found somebody in' "$WORK/err") && same late "$(cat "$B/late")"; }
exits_in() { local want=$1 rc=0; shift; "$@" >"$WORK/out" 2>"$WORK/err" || rc=$?; same "$want" $rc; }
check "it is not removed while somebody is in it" in_use
seen_besides() { cat "$B/late" >/dev/null && exits 0 "$SPARE" branch list a && prints "$NAME" && exits 0 "$SPARE" branch show "$NAME" a; }
check "commands read it meanwhile" seen_besides
ends() { "$SPARE" umount m && "$SPARE" mount -o past=off a m && [ ! -e "m/.snapshots" ] && "$SPARE" umount m; }
check "not shown where the past is not" ends
whole() { exits 0 "$SPARE" check --read-data a && prints 'No damage' && exits 0 "$SPARE" check --read-data "a/branches/$NAME" && prints 'No damage'; }
check "both are whole" whole
halves() { # as a removal that was cut off leaves it
	cp -a "a/branches/$NAME" kept && rm -f "a/branches/$NAME"/super.? && mv "a/branches/$NAME" "a/branches/$NAME.part" && exits 3 "$SPARE" branch list a && says "$NAME.part" && exits 0 "$SPARE" branch remove "$NAME" a && [ ! -e "a/branches/$NAME.part" ] && exits 1 "$SPARE" branch remove "$NAME" a && says 'none of that name' && mv kept "a/branches/$NAME"
}
check "what a removal left goes by the same name" halves
removed() { "$SPARE" mount a m && cat "$B/late" >/dev/null && exits 0 "$SPARE" branch remove "$NAME" a && exits 0 "$SPARE" branch list a && [ ! -s out ] && fails ls "$B" && ! ls m/.snapshots/ | grep -q @ && "$SPARE" umount m && exits 0 "$SPARE" check --read-data a && same theirs "$("$SPARE" cat one --at now --store a)"; }
check "removed, and the store is as before" removed
finish
