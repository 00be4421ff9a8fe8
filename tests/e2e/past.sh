#!/bin/bash
# past.sh: the past in a mount: every way to name a moment, every way to change one, for root and for an ordinary user.
# Environment: tests/lib/tap.sh
set -u
. "${SPARE_SRC:?}/tests/lib/tap.sh"
need_fuse
TRY=$(tool e2e/try_change)
[ -x "$TRY" ] || { echo "Bail out! $TRY was not built"; exit 1; }
root=1
[ "$(id -u)" = 0 ] || root=0
mnt=$WORK/m past=$WORK/m/.snapshots

digest() { python3 "$SPARE_SRC/tests/lib/tree.py" "$@"; }
equal() { # equal DIR NAME: DIR is what want.NAME says
	digest "$1" >"$WORK/found" && cmp -s "$WORK/found" "$WORK/want.$2" ||
		{ echo "$1 is not what $2 was"; diff "$WORK/want.$2" "$WORK/found" | head -n 20; return 1; }
}
# keep NAME: remembers what the live tree is, and names the moment.
keep() { digest "$mnt" >"want.$1" && "$SPARE" snapshot create "$1" "$mnt" >/dev/null 2>&1 || (cd "$mnt" && "$SPARE" snapshot create "$1" >/dev/null); }
cleanup() { cd /; umount -l "$mnt" 2>/dev/null; }
[ $root = 1 ] && trap cleanup EXIT

# ---- a tree and its history; the same for root and for a user

build_history() {
	mkdir "$mnt/d" "$mnt/d/e" && echo one >"$mnt/f" && chmod 640 "$mnt/f" && ln "$mnt/f" "$mnt/d/hard" && ln -s ../f "$mnt/d/soft" &&
		head -c 300000 /dev/urandom >"$mnt/d/e/big" && truncate -s 5M "$mnt/sparse" && printf end >>"$mnt/sparse" &&
		mkfifo "$mnt/fifo" && printf x >"$mnt/d/"$'new\nline' && printf '\377' >"$mnt/"$'\377' && touch -d 2001-02-03T04:05:06.789 "$mnt/d/e" &&
		setfattr -n user.k -v v1 "$mnt/f" && keep first || return 1
	echo two >"$mnt/f" && rm "$mnt/d/soft" && mv "$mnt/d/e" "$mnt/moved" && setfattr -n user.k -v v2 "$mnt/f" && chmod 600 "$mnt/f" &&
		printf hello | dd of="$mnt/moved/big" bs=1 seek=100000 conv=notrunc status=none && truncate -s 0 "$mnt/sparse" && keep second || return 1
	between=$(date -u +%Y-%m-%dT%H:%M:%S.%NZ)
	rm -r "$mnt/d" && echo three >"$mnt/g" && mv "$mnt/g" "$mnt/f" && mkdir "$mnt/d" && keep third || return 1
	echo four >>"$mnt/f" && digest "$mnt" >want.live
}
lsn() { readlink "$past/$1"; }
by_name() { for m in first second third; do equal "$past/$m/" $m || return 1; done; }
by_lsn() {
	for m in first second third; do
		[[ $(lsn $m) =~ ^@[1-9][0-9]*$ ]] && [ ! -L "$past/$(lsn $m)" ] && equal "$past/$(lsn $m)" $m || return 1
	done
	same "$(stat -c %i "$mnt/f")" "$(stat -c %i "$past/third/f")"
}
by_time() {
	[ -L "$past/$between" ] && equal "$past/$between/" second && equal "$past/${between//:/}/" second &&
		same "$(lsn "$between")" "$(lsn "${between//:/}")"
}
by_age() { # names that move with the clock: never cached
	local a b
	until_true equal "$past/2s/" live && a=$(lsn 1s) && echo five >>"$mnt/f" && fails grep -q five "$past/1s/f" &&
		until_true grep -q five "$past/1s/f" && b=$(lsn 1s) && fails same "$a" "$b" && same "$b" "$(lsn 0s)" && [[ $(lsn now) =~ ^@ ]] || return 1
	# What a process is in stays one moment.
	(cd "$past/1s/" && echo six >>"$mnt/f" && until_true grep -q six "$past/1s/f" && fails grep -q six f)
}
no_such() {
	for m in nope 2101-01-01 @1 @0 @99999999999999 @-1 @x "$(date -u -d '+1 day' +%Y-%m-%dT%H%M%SZ)" -- .snapshots; do
		[ ! -e "$past/$m" ] && [ ! -L "$past/$m" ] || { echo "there is $m"; return 1; }
	done
	fails ls "$past/nope/" && [ ! -e "$past/first/.snapshots" ] && [ ! -e "$past/first/d/.snapshots" ]
}
listing() {
	local names
	names=$(ls "$past") && grep -qx first <<<"$names" && grep -qx third <<<"$names" || { echo "$names"; return 1; }
	while read -r m; do
		[ -L "$past/$m" ] && [ -d "$past/$m/" ] && { [[ $m =~ ^(first|second|third)$ ]] || [[ $m =~ ^20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{6}Z$ ]]; } ||
			{ echo "listed: $m"; return 1; }
	done <<<"$names"
}
listing_moves() { "$SPARE" snapshot create later "$mnt" 2>/dev/null || (cd "$mnt" && "$SPARE" snapshot create later) && ls "$past" | grep -qx later && ls "$mnt/moved/.snapshots" | grep -qx later; }
not_listed() {
	! { ls -A "$mnt"; ls -A "$mnt/d"; ls -A "$past/first/"; ls -A "$past/first/d"; } | grep -q snapshots && same 0 "$(find "$mnt" -xdev -name '.snap*' | wc -l)" &&
		[ -d "$past" ] && [ -d "$mnt/d/.snapshots" ] && [ -d "$mnt/moved/.snapshots" ]
}
below() {
	equal "$mnt/.snapshots/first/" first && same "../../.snapshots/$(lsn second)/moved" "$(readlink "$mnt/moved/.snapshots/second")" &&
		same "../../.snapshots/$(lsn first)/d/e" "$(readlink "$mnt/moved/.snapshots/first")" &&
		same "$(stat -c %s "$past/first/d/e/big")" "$(stat -L -c %s "$mnt/moved/.snapshots/first/big")" &&
		cmp "$past/first/d/e/big" "$mnt/moved/.snapshots/first/big" && fails cmp "$mnt/moved/big" "$mnt/moved/.snapshots/first/big" &&
		(cd "$mnt/moved" && cmp .snapshots/second/big big) || return 1
	# The directory d of today is another one than the d of then.
	[ ! -e "$mnt/d/.snapshots/first" ] && [ ! -L "$mnt/d/.snapshots/first" ] && [ -L "$mnt/d/.snapshots/third" ] &&
		fails grep -qx first <(ls "$mnt/d/.snapshots") && grep -qx first <(ls "$mnt/moved/.snapshots") || return 1
	# Moved: the link leads there all the same.
	mkdir -p "$mnt/x/y" && mv "$mnt/moved" "$mnt/x/y/z" && cmp "$past/first/d/e/big" "$mnt/x/y/z/.snapshots/first/big" && mv "$mnt/x/y/z" "$mnt/moved" &&
		cmp "$past/first/d/e/big" "$mnt/moved/.snapshots/first/big" && rm -r "$mnt/x"
}
reserved() {
	for d in "$mnt" "$mnt/d"; do
		fails mkdir "$d/.snapshots" && fails touch "$d/.snapshots/x" && fails ln -s x "$d/.snapshots" && fails ln "$mnt/f" "$d/.snapshots" &&
			fails rmdir "$d/.snapshots" && fails python3 -c 'import os, sys; os.rename(sys.argv[1], sys.argv[2])' "$mnt/f" "$d/.snapshots" &&
			fails python3 -c 'import os, sys; os.rename(sys.argv[1] + "/.snapshots", sys.argv[1] + "/free")' "$d" &&
			fails python3 -c 'import os, sys; os.mknod(sys.argv[1] + "/.snapshots")' "$d" && fails chmod 777 "$d/.snapshots" || return 1
	done
	[ -e "$mnt/f" ] && mkdir "$mnt/removable" && [ -d "$mnt/removable/.snapshots" ] && rmdir "$mnt/removable"
}
# As a second process sees it, which reads the file before, meanwhile by mapping it, and after.
unchangeable() { # unchangeable COMMAND-PREFIX...
	local rc
	mkdir -p "$WORK/elsewhere" && chmod 777 "$WORK/elsewhere"
	cat "$past/first/f" "$past/first/d/e/big" >/dev/null
	for target in "$past/first" "$past/$(lsn first)" "$mnt/moved/.snapshots/first/../.."; do
		for pair in "f d" "d/e/big d/e" "sparse d"; do
			set -- $pair
			"$TRY" "$target/$1" "$target/$2" "$WORK/elsewhere" >tried
			rc=$?
			[ $rc = 0 ] && ! grep -q CHANGED tried && [ "$(grep -c ^refused tried)" -ge 45 ] || { echo "$target/$1: exit $rc"; cat tried; return 1; }
		done
	done
	# Not for want of permission: read-only.
	"$TRY" "$past/first/f" "$past/first/d" "$WORK/elsewhere" | grep -c 'Read-only file system' >count && [ "$(cat count)" -ge 35 ] || { echo "read-only: $(cat count)"; return 1; }
	for m in first second third; do equal "$past/$m/" $m || return 1; done
	ls -A "$WORK/elsewhere" | grep . && return 1
	return 0
}
can_fail() { # the same attempts succeed where changes are allowed
	mkdir -p "$mnt/victim/sub" && head -c 9000 /dev/zero >"$mnt/victim/file" && ! "$TRY" "$mnt/victim/file" "$mnt/victim/sub" "$WORK/elsewhere" >tried &&
		[ "$(grep -c CHANGED tried)" -ge 20 ] && rm -rf "$mnt/victim"
}
copies() {
	rm -rf copy && cp -a "$past/first/" copy && digest copy >found && cmp found want.first && rm -rf copy &&
		same "$(find "$mnt" -xdev | wc -l)" "$(find "$past/now/" | wc -l)" && same "$past/first/f" "$(grep -rlx one "$past/first/" | grep '/f$' | sed s,//,/,)" &&
		tar -C "$past/second/" -cf all.tar . && mkdir -p untar && tar -C untar -xpf all.tar && digest untar no-times >a && digest "$past/second/" no-times >b &&
		diff <(sed "s/, \[[^][]*\]\]$//; /^\[b'\.'/d" a) <(sed "s/, \[[^][]*\]\]$//; /^\[b'\.'/d" b)    # tar left attributes out
}
mmap_follows_moments() { # a file that changed has another content in each moment, whatever is cached
	same one "$(cat "$past/first/f")" && same two "$(cat "$past/second/f")" && same three "$(cat "$past/third/f")" &&
		same "$(stat -c %h "$past/first/f")" 2 && same "$(stat -c %h "$past/third/f")" 1 && same v1 "$(getfattr --only-values -n user.k "$past/first/d/hard")"
}
run_all() { # run_all WHO
	check "$1: a tree and its history" build_history
	check "$1: moments by name" by_name
	check "$1: moments by LSN, inode numbers stay" by_lsn
	check "$1: moments by time" by_time
	check "$1: moments by age, never cached; a process stays in its moment" by_age
	check "$1: what is no moment is not there" no_such
	check "$1: the listing holds names of moments only" listing
	check "$1: a new snapshot is listed at once" listing_moves
	check "$1: .snapshots is there and not listed" not_listed
	check "$1: .snapshots of a directory follows it through renames" below
	check "$1: nothing takes the name" reserved
	check "$1: content, links and attributes of the moment" mmap_follows_moments
	check "$1: nothing changes the past" unchangeable
	check "$1: the same attempts change the present" can_fail
	check "$1: copies, find, grep, tar out of the past" copies
}

# ---- root

mount_it() { "$SPARE" mount "$WORK/st" "$mnt" -o "log=$WORK/daemon.log${1:+,$1}"; }
two_mounts() { # and the past is where ".snapshots" leads
	at=$(readlink "$past") && same 1 "$(mounts m)" && [ -L "$past" ] && grep -qE " $at ro,nosuid,nodev[^ ]* .* fuse.spare-past $WORK/st/.snapshots " /proc/self/mountinfo &&
		fails same "$(stat -c %d "$mnt")" "$(stat -L -c %d "$past")"
}
past_mounts() { awk '{ print $5 }' /proc/self/mountinfo | grep -cxF -- "$at"; }
nothing_left() { gone m && until_true no_daemon daemon.log && same 0 "$(past_mounts)" && [ ! -e "$at" ]; }
restart() {
	"$SPARE" umount "$mnt" && nothing_left && mount_it && two_mounts && by_name && by_lsn && by_time && below && equal "$mnt/.snapshots/first/" first
}
plain_umount() { umount "$mnt" && until_true nothing_left && mount_it && by_name; }
busy() {
	local rc pid
	(cd "$past/first/d" && exec tail -f /dev/null) &
	pid=$!
	until_true grep -q tail "/proc/$pid/comm"
	"$SPARE" umount "$mnt"
	rc=$?
	two_mounts
	rc=$rc:$?
	kill $pid
	wait $pid 2>/dev/null
	same 11:0 "$rc" && by_name
}
in_order() { # SIGTERM, while somebody is in the past
	local pid
	(cd "$past/first/d" && exec tail -f /dev/null) &
	pid=$!
	until_true grep -q tail "/proc/$pid/comm"
	kill -TERM "$(supervisor daemon.log)" && until_true nothing_left
	local rc=$?
	kill $pid
	wait $pid 2>/dev/null
	[ $rc = 0 ] && until_true mount_it && by_name
}
worker_dies() { # a process in the past goes on
	local w
	w=$(worker daemon.log) && [ -n "$w" ] || return 1
	(cd "$past/first/d" && kill -9 "$w" && cmp e/big "$past/first/d/e/big" && ls -l .. "$mnt/moved/.snapshots/" >/dev/null && equal .. first) && by_name && by_lsn &&
		fails same "$w" "$(worker daemon.log)"
}
past_alone() { umount "$at" && same 0 "$(past_mounts)" && same "" "$(ls -A "$past/")" && echo alive >"$mnt/alive" && "$SPARE" umount "$mnt" && nothing_left && mount_it; }
killed() { # of both daemons nothing is left but two dead mounts
	kill -9 $(pids daemon.log) && until_true no_daemon daemon.log && until_true mount_it && by_name && same 1 "$(past_mounts)"
}
who_sees() {
	local nobody="setpriv --reuid 65534 --regid 65534 --clear-groups"
	$nobody ls "$mnt" >/dev/null && fails $nobody ls "$past" && fails $nobody ls "$mnt/d/.snapshots" && fails $nobody cat "$past/third/f" || return 1
	"$SPARE" umount "$mnt" && mount_it past=all && $nobody ls "$past" "$mnt/d/.snapshots" >/dev/null && $nobody cat "$past/third/f" >/dev/null &&
		fails $nobody cat "$past/first/f" || return 1
	"$SPARE" umount "$mnt" && mount_it past=off && [ ! -e "$past" ] && [ ! -e "$mnt/d/.snapshots" ] && same 1 "$(mounts m)" && fails mkdir "$mnt/d/.snapshots" &&
		"$SPARE" umount "$mnt" && mount_it
}
other_name() {
	"$SPARE" umount "$mnt" && mount_it snapdir=.history && same one "$(cat "$mnt/.history/first/f")" && [ ! -e "$past" ] &&
		cmp "$mnt/moved/.history/first/big" "$mnt/.history/first/d/e/big" && fails mkdir "$mnt/d/.history" && "$SPARE" umount "$mnt" && mount_it
}
read_only() { "$SPARE" umount "$mnt" && mount_it ro && by_name && by_lsn && "$SPARE" umount "$mnt" && mount_it; }

start() { "$SPARE" init "$WORK/st" >/dev/null && mkdir "$mnt" && mount_it && two_mounts; }
if [ $root = 1 ]; then
	check "root: mounted with its past" start
	run_all root
	check "root: unmounted and mounted again, the same moments" restart
	check "root: plain umount(8) takes the past with it" plain_umount
	check "root: somebody in the past: busy, both stay" busy
	check "root: SIGTERM takes both down" in_order
	check "root: the worker is killed, nobody notices in the past" worker_dies
	check "root: the past unmounted alone" past_alone
	check "root: all daemons killed, mounted again" killed
	check "root: past=owner, all, off" who_sees
	check "root: snapdir=NAME" other_name
	check "root: a read-only mount" read_only
	check "root: the end" eval '"$SPARE" umount "$mnt" && nothing_left && sed "s/^/# /" daemon.log'
fi

# ---- an ordinary user

if ! command -v fusermount3 >/dev/null; then
	skip user "fusermount3 is not installed"
elif [ $root = 1 ]; then
	as_user "$0"
fi
if [ $root = 0 ]; then
	trap 'cd /; fusermount3 -u -z "$mnt" 2>/dev/null' EXIT
	start_user() { start && [[ $at == "$XDG_RUNTIME_DIR"/spare/* ]]; }
	restart_user() { "$SPARE" umount "$mnt" && nothing_left && mount_it && by_name && by_lsn && by_time && below; }
	by_fusermount() { fusermount3 -u "$mnt" && until_true nothing_left && mount_it && by_name; }
	term_user() { kill -TERM "$(supervisor daemon.log)" && until_true nothing_left && mount_it && by_name; }
	no_runtime_dir() {
		"$SPARE" umount "$mnt" && env -u XDG_RUNTIME_DIR "$SPARE" mount "$WORK/st" "$mnt" -o "log=$WORK/daemon.log" && by_name &&
			[[ $(readlink "$past") != "$XDG_RUNTIME_DIR"/* ]] && "$SPARE" umount "$mnt" && mount_it
	}
	check "user: mounted with its past" start_user
	run_all user
	check "user: unmounted and mounted again, the same moments" restart_user
	check "user: fusermount3 -u takes the past with it" by_fusermount
	check "user: SIGTERM takes both down" term_user
	check "user: the worker is killed, nobody notices in the past" worker_dies
	check "user: all daemons killed, mounted again" killed
	check "user: without XDG_RUNTIME_DIR" no_runtime_dir
	check "user: the end" eval '"$SPARE" umount "$mnt" && nothing_left'
fi
finish
