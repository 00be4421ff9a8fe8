#!/bin/bash
# fsync.sh: an fsync is answered when the disk has it, and not before: seen from outside, by strace of the worker under SQLite.
# Environment: tests/lib/tap.sh; FSYNC_COMMITS (25) commits at least of each database while it is looked at
set -u
. "${SPARE_SRC:?}/tests/lib/tap.sh"
need_root
need_fuse
command -v strace >/dev/null || skip_all "there is no strace"
strace -qq -o /dev/null true 2>/dev/null || skip_all "strace may not trace here"
names="delete extra wal" writers= tracer=
# shellcheck disable=SC2086
cleanup() { cd /; [ -z "$tracer$writers" ] || kill $tracer $writers 2>/dev/null; umount -l "$WORK/m" 2>/dev/null; }
trap cleanup EXIT
mkdir m
spare() { timeout 60 "$SPARE" "$@"; }
load() { python3 "$SPARE_SRC/tests/lib/sqlite_load.py" "$@"; }
commits() { load count *.notes; }
until_commits() { # until_commits N: of each writer
	local end=$((SECONDS + 100))
	until [ "$(commits)" -ge "$1" ]; do
		[ $SECONDS -lt $end ] || { echo "not $1 commits in 100 s"; return 1; }
		read -r -t 0.05 _ <> <(:)
	done
	return 0
}

# looked_at OPTIONS COMMITS: the load, and strace of the worker for so much of it.
looked_at() {
	local name rc=0
	rm -rf st ./*.notes stop trace judged
	spare init st >/dev/null && spare mount st m -o "log=$WORK/daemon.log$1" || return 1
	writers=
	for name in $names; do
		load load "$name" m "$name.notes" stop &
		writers="$writers $!"
	done
	until_commits 5 || return 1
	strace -qq -f -y -xx -s 40 -e trace=read,readv,write,writev,pwrite64,pwritev,pwritev2,fsync,fdatasync -e signal=none -o trace -p "$(worker daemon.log)" &
	tracer=$!
	until_true test -s trace && until_commits $(($(commits) + $2)) || rc=1
	kill -INT $tracer
	wait $tracer
	tracer=
	touch stop
	# shellcheck disable=SC2086
	for name in $writers; do wait "$name" || { rc=1; echo "a writer failed"; tail -n 1 ./*.notes; }; done
	writers=
	mkdir -p notes && cp ./*.notes notes && load verify m durable notes notes && spare umount m || return 1
	return $rc
}
judge() { python3 "$SPARE_SRC/tests/e2e/fsync_trace.py" trace "$WORK/st/log" >judged; }
had() { [ "$(sed -n "s/.*$1 \([0-9]*\).*/\1/p" judged)" -ge "$2" ] || { cat judged; return 1; }; } # had WHAT AT_LEAST

honest() { looked_at "" "${FSYNC_COMMITS:-25}" && { judge || { cat judged; return 1; }; } && had waited 50; }
check "each fsync of SQLite was answered after a sync of all that was answered before it" honest
[ ! -e judged ] || sed 's/^/# /' judged
# What this looks at must be able to fail: a mount that is told to answer at once.
at_once() { looked_at ,fsync=ordered 10 && { ! judge || { echo "not seen"; cat judged; return 1; }; } && had violations 10; }
check "with fsync=ordered they are not, and it is seen" at_once
[ ! -e judged ] || tail -n 1 judged | sed 's/^/# /'
finish
