#!/bin/bash
# follow.sh: a mounted standby while it follows: what is reported as applied is what every look sees there, cached or not, and looks and
# invalidation never wait for each other; either side's worker may die meanwhile. Environment: tests/lib/tap.sh; FOLLOW_SECONDS (15).
set -u
. "${SPARE_SRC:?}/tests/lib/tap.sh"
need_root
need_fuse
cleanup() { [ -z "${SYNC-}" ] || kill "$SYNC" 2>/dev/null; umount -l "$WORK/m" "$WORK/m2" 2>/dev/null; }
trap cleanup EXIT
mkdir m m2
seconds=${FOLLOW_SECONDS:-15}
start() {
	"$SPARE" init st >/dev/null && "$SPARE" mount st m -o "log=$WORK/daemon.log" && echo one >m/one && "$SPARE" sync st "$WORK/st2" &&
		"$SPARE" mount st2 m2 -o "log=$WORK/daemon2.log" || return 1
	"$SPARE" sync --follow st "$WORK/st2" >sync.out 2>sync.err &
	SYNC=$!
	until_true sh -c "'$SPARE' status m | grep -q Protected"
}
check "a mounted standby follows" start
check "what is applied is seen there by every look" python3 "$SPARE_SRC/tests/e2e/follow.py" st m m2 "$seconds"
sed 's/^/# /' check.out
same_now() { "$SPARE" wait --on standby m && diff -r m m2; }
check "and at the end they are the same" same_now
kill_worker() { # kill_worker LOG: its worker dies, and the stream with it; both come back by themselves
	local before
	before=$(worker "$1") && kill -9 "$before" && echo "after $1" >m/after && until_true sh -c "'$SPARE' status m | grep -q Protected" && same_now
}
stalls() { # a standby that is there and does nothing: said, and no more once it goes on
	local w t=$EPOCHREALTIME	# it takes 8 s; how long it took is shown, and no reason to fail: the machine may be busy
	w=$(worker daemon2.log) && kill -STOP "$w" && echo stalled >m/stalled || return 1
	until_true sh -c "'$SPARE' status m | grep -q 'RPO not met.*nothing is acknowledged any more'" && until_true grep -q "acknowledges nothing more" sync.err
	local rc=$? took
	took=$(awk "BEGIN { print $EPOCHREALTIME - $t }")
	kill -CONT "$w"
	echo "$took" >"$WORK/took"
	[ $rc = 0 ] || { echo "$took s"; cat sync.err; return 1; }
	until_true sh -c "'$SPARE' status m | grep -q Protected" && same_now
}
check "a standby that acknowledges nothing is an error" stalls
echo "# after $(cat took) s"
# A standby at rest is opened by the far end of the stream; a mount can have it, and the stream finds the mount.
in_and_out() {
	# Of the standby itself: the primary may say so still of the stream that is just ending.
	"$SPARE" umount m2 && until_true sh -c "'$SPARE' status st2 | grep -q 'state *Protected'" && exits 0 "$SPARE" status st2 || return 1
	echo rest >m/rest && "$SPARE" wait --on "$WORK/st2" m && "$SPARE" mount st2 m2 -o "log=$WORK/daemon2.log" && same rest "$(cat m2/rest)" || return 1
	echo back >m/rest && until_true sh -c "'$SPARE' wait --on standby m" && same_now
}
check "a standby is unmounted and mounted while it follows" in_and_out
primary_too() {
	"$SPARE" umount m && "$SPARE" mount st m -o "log=$WORK/daemon.log" && echo again >m/again && until_true sh -c "'$SPARE' status m | grep -q Protected" && same_now
}
check "and so is the primary: the command does not take the store from it" primary_too
check "the standby's worker dies: it goes on" kill_worker daemon2.log
check "the primary's worker dies: it goes on" kill_worker daemon.log
check "once more, under load" python3 "$SPARE_SRC/tests/e2e/follow.py" st m m2 3
ends() { kill -INT "$SYNC" && { wait "$SYNC"; [ $? = 130 ]; } && SYNC= && "$SPARE" umount m && "$SPARE" umount m2 && exits 0 "$SPARE" check st2 && prints "No damage"; }
check "it ends cleanly" ends
finish
