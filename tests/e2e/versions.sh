#!/bin/bash
# versions.sh: one file saved five times in each of the ways people and programs save: five versions each, and undo and redo
# walk along them, never to an empty or half-written file. Environment: tests/lib/tap.sh
set -u
. "${SPARE_SRC:?}/tests/lib/tap.sh"
need_root
need_fuse
mnt=$WORK/m
cleanup() { umount -l "$mnt" 2>/dev/null; }
trap cleanup EXIT
mkdir m

# ---- content ${1} of 1..5: each of another length, so that a rest of an older one shows
text() { seq -f "line %g of save $1" $((3000 - 500 * $1)); }
by_shell() { text "$1" >"$mnt/shell"; }
by_editor() { text "$1" >"$mnt/.editor.swp" && mv "$mnt/.editor.swp" "$mnt/editor"; }
by_backup() { # as vim with backupcopy=no
	[ ! -e "$mnt/backup" ] || mv "$mnt/backup" "$mnt/backup~"
	text "$1" >"$mnt/backup" && rm -f "$mnt/backup~"
}
by_fsync() { # as editors that do not trust the disk: write, fsync, rename
	python3 -c 'import os, sys
f = os.open(sys.argv[1] + ".tmp", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
d = sys.stdin.buffer.read()
for i in range(0, len(d), 8192): os.write(f, d[i:i + 8192])
os.fsync(f); os.close(f); os.rename(sys.argv[1] + ".tmp", sys.argv[1])' "$mnt/fsync" < <(text "$1")
}
by_sed() { # the first is made, the others are edits in place
	if [ "$1" = 1 ]; then text 1 >"$mnt/sed"; else sed -i "s/of save .*/of save $1/; $((3001 - 500 * $1)),\$d" "$mnt/sed"; fi
}
by_unlink() { rm -f "$mnt/unlink"; text "$1" >"$mnt/unlink"; }
by_cp() { cp "$WORK/big.$1" "$mnt/cp"; }
by_append() { text "$1" >>"$mnt/append"; }
by_in_place() { { text "$1"; head -c 100000 /dev/zero; } | head -c 60000 | dd of="$mnt/in_place" conv=notrunc bs=4096 status=none; }
by_git() {
	[ -d "$mnt/g/.git" ] || { git init -q "$mnt/g" && git -C "$mnt/g" config user.email a@b.c && git -C "$mnt/g" config user.name n; }
	if git -C "$mnt/g" rev-parse -q --verify "v$1" >/dev/null; then git -C "$mnt/g" checkout -q "v$1"; return; fi
	text "$1" >"$mnt/g/git" && git -C "$mnt/g" add git && git -C "$mnt/g" commit -qm "$1" && git -C "$mnt/g" tag "v$1"
}
name_of() { if [ "$1" = git ]; then echo "$mnt/g/git"; else echo "$mnt/$1"; fi; }
expected() { # what the name held after save ${2}
	case $1 in
	cp) cat "$WORK/big.$2" ;;
	append) for i in $(seq "$2"); do text "$i"; done ;;
	in_place) { text "$2"; head -c 100000 /dev/zero; } | head -c 60000 ;;
	*) text "$2" ;;
	esac
}
ways="shell editor backup fsync sed unlink cp append in_place git"
start() {
	for i in 1 2 3 4 5; do head -c $((42000000 - i * 1000000)) /dev/urandom >"big.$i"; done
	"$SPARE" init st >/dev/null && "$SPARE" mount st m -o "log=$WORK/daemon.log"
}
# All names are saved in each round; a round is over when 2 s without an operation have passed for all.
rounds() {
	local i w
	for i in 1 2 3 4 5; do
		for w in $ways; do "by_$w" "$i" || { echo "$w $i"; return 1; }; done
		quiet
	done
}
# Two seconds without an operation end a burst: the thing that is tested, not a wait for something.
quiet() { local end=$(($(date +%s%N) + 2300000000)); while [ "$(date +%s%N)" -lt $end ]; do read -r -t 0.2 _ <> <(:); done; return 0; }
five() { # five NAME: log lists five versions, each what was saved then
	local p i lsns
	p=$(name_of "$1")
	"$SPARE" log "$p" --json >"log.$1" || return 1
	same 5 "$(wc -l <"log.$1")" || { "$SPARE" log "$p"; return 1; }
	mapfile -t lsns < <(sed 's/.*"lsn":\([0-9]*\).*/\1/' "log.$1")
	for i in 1 2 3 4 5; do
		"$SPARE" cat "$p" --at "@${lsns[$((5 - i))]}" | cmp - <(expected "$1" $i) || { echo "version $i of $1"; return 1; }
	done
}
holds() { cmp "$1" <(expected "$2" "$3") && [ -s "$1" ]; }
back_and_forth() { # undo to the first, redo to the last; nothing beyond
	local p i
	p=$(name_of "$1")
	for i in 4 3 2 1; do "$SPARE" undo "$p" >/dev/null && holds "$p" "$1" $i || { echo "undo to $i"; return 1; }; done
	fails "$SPARE" undo "$p" || return 1
	holds "$p" "$1" 1 || return 1
	for i in 2 3 4 5; do "$SPARE" undo --redo "$p" >/dev/null && holds "$p" "$1" $i || { echo "redo to $i"; return 1; }; done
	fails "$SPARE" undo --redo "$p" && holds "$p" "$1" 5
}
every_write() { [ "$("$SPARE" log --every-write "$mnt/cp" | wc -l)" -gt 50 ]; }
# Saved within two seconds of each other: the last of a burst is the version; never a state in between.
burst() {
	local i
	for i in 1 2 3 4 5; do text "$i" >"$mnt/burst"; done
	"$SPARE" log "$mnt/burst" --json >log.burst && same 5 "$(wc -l <log.burst)" || return 1
	"$SPARE" undo "$mnt/burst" >/dev/null && [ -s "$mnt/burst" ] && cmp "$mnt/burst" <(text 4)
}
check "mounted" start
check "each name saved five times" rounds
for w in $ways; do check "$w: five versions" five $w; done
for w in $ways; do check "$w: undo and redo" back_and_forth $w; done
check "--every-write lists what lies between" every_write
check "saved five times at once" burst
restart() { "$SPARE" umount m && "$SPARE" mount st m -o "log=$WORK/daemon.log"; }
check "a restart" restart
after() { local p; p=$(name_of editor); "$SPARE" undo "$p" >/dev/null && holds "$p" editor 4 && "$SPARE" undo --redo "$p" >/dev/null && holds "$p" editor 5; }
check "undo after a restart" after
check unmount "$SPARE" umount m
check "check finds nothing" exits 0 "$SPARE" check --read-data st
finish
