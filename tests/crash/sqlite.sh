#!/bin/bash
# sqlite.sh: SQLite in a mount whose store lies on powerfs; the power is cut under load, and databases are opened as after the
# cut: nothing that was committed may be missing, and with -o fsync=ordered what is there is a prefix.
# Environment: tests/lib/tap.sh; SQLITE_CUTS (4) cuts of each profile, SQLITE_PROFILES ("durable ordered"), SQLITE_IMAGES (3) moments
# and one more in each life of the load, SQLITE_SEED (1) the first seed.
set -u
. "${SPARE_SRC:?}/tests/lib/tap.sh"
. "$SPARE_SRC/tests/lib/powerfs.sh"
need_root
need_fuse
cuts=${SQLITE_CUTS:-4} images=${SQLITE_IMAGES:-3} first=${SQLITE_SEED:-1}
# fsync=ordered may lose 100 ms, what came during the sync before that and the one at the cut; the rest is for a machine with other work.
ORDERED_MS=500
names="delete extra wal" writers= can_slow=0
! command -v strace >/dev/null || can_slow=1
mkdir m notes
load() { python3 "$SPARE_SRC/tests/lib/sqlite_load.py" "$@"; }
# shellcheck disable=SC2046,SC2086
cleanup() { cd /; [ -z "$writers" ] || kill -9 $writers 2>/dev/null; kill -9 $(pids daemon.log) 2>/dev/null; umount -l "$WORK/m" 2>/dev/null; powerfs_stop; }
trap cleanup EXIT
mount_it() { timeout 60 "$SPARE" mount "$PFS/st" m -o "log=$WORK/daemon.log$options"; }
mounted() { mountpoint -q m && [ -n "$(worker daemon.log)" ]; }
# A sync of powerfs takes no time, and the kernel lets nobody write to a file of FUSE during one: nothing would ever be answered and
# not durable. So flushes wait before they begin, as for a slow disk, and return late; what is written meanwhile is not covered.
mount_slowly() {
	[ -n "$slow" ] || { mount_it; return; }
	strace -qq -f --seccomp-bpf -e trace=fdatasync -e "inject=fdatasync:$slow" -T -o syncs "$SPARE" mount "$PFS/st" m -o "log=$WORK/daemon.log$options" &
	tracer=$!
	until_true mounted
}

# Half of the cuts are random; the others keep or lose in order, all or nothing.
mode_of() { case $(($1 % 8)) in 1 | 5) echo prefix ;; 3) echo drop-all ;; 7) echo keep-all ;; *) echo random ;; esac; }
noted() { mkdir -p "$1" && cp notes/*.notes "$1"; } # noted DIR: copies of the notes
until_commits() { # until_commits N: of each writer
	local end=$((SECONDS + 120))
	until [ "$(load count notes/*.notes)" -ge "$1" ]; do
		[ $SECONDS -lt $end ] || { echo "not $1 commits in 120 s"; tail -n 1 notes/*.notes; return 1; }
		read -r -t 0.02 _ <> <(:)
	done
	return 0
}
ctl() { powerfs_ctl "$@" >ctl.out || { cat ctl.out; return 1; }; }
# Nothing is answered while powerfs is frozen, so what is noted then was answered before the image; and what is in the image had begun.
image() { ctl freeze && noted "image$1/before" && ctl save "image$1" && ctl thaw && noted "image$1/after"; }
cut() { # cut: with the next seed; what it took is noted
	seed=$((seed + 1)) mode=$(mode_of $seed)
	said=$(powerfs_ctl cut $seed "$mode") || { echo "$said"; return 1; }
}
# shellcheck disable=SC2046
killed() { kill -9 $(pids daemon.log) 2>/dev/null; no_daemon daemon.log; } # a new worker may just have begun
verified() { # verified NOTES: brought back as after a power cut, mounted with no step in between, and all looked at
	local line
	: >daemon.log
	line=$(ctl revive && mount_it && load verify m "$profile" "$1/before" "$1/after" && "$SPARE" check --read-data m 2>&1 && "$SPARE" umount m) ||
		{ echo "seed $seed $mode of $1: $line"; cat daemon.log; return 1; }
	done_cuts=$((done_cuts + 1))
	torn=$(grep -c 'in the middle of a record' daemon.log)
	echo "seed $seed $mode $said; $(grep '^missing' <<<"$line") tail $torn longest $((10#${longest:-0}))" >>"$profile.cuts"
}

# One life: writers; images of the disk with all that is pending, taken while they write; then the power is cut under them.
life() {
	local name i c commits=20
	ctl load empty && "$SPARE" init "$PFS/st" >/dev/null || return 1
	slow=
	if [ "$profile" = ordered ]; then slow=delay_enter=60000; elif [ $((lives % 2)) = 0 ]; then slow=delay_enter=1000:delay_exit=4000; fi
	[ $can_slow = 1 ] || slow=
	rm -rf notes live image* syncs && mkdir notes
	mount_slowly || return 1
	writers=
	for name in $names; do
		load load "$name" m "notes/$name.notes" &
		writers="$writers $!"
	done
	for ((i = 1; i <= images; i++)); do
		commits=$((commits + 5 + RANDOM % 60))
		until_commits $commits && image "$i" || return 1
	done
	# The cut under the load itself: a dead disk answers nothing, so that all that was noted at the end counts as noted before it.
	until_commits $((commits + RANDOM % 30)) && cut && until_true killed || return 1
	# shellcheck disable=SC2086
	wait $writers
	writers=
	[ -z "$slow" ] || wait "$tracer"
	longest=$(sed -n 's/.*= 0 (DELAYED) <\([0-9]*\)\.\([0-9]\{3\}\).*/\1\2/p' syncs 2>/dev/null | sort -n | tail -n 1)
	{ umount -l m 2>/dev/null || gone m; } && noted live/before && noted live/after || return 1
	committed=$((committed + $(cat notes/*.notes | grep -c '^E')))
	verified live || return 1
	moments=$((moments + 1))
	for ((i = 1; i <= images; i++)); do
		for ((c = 0; c < per_image && done_cuts < cuts; c++)); do
			ctl load image$i && cut && verified image$i || return 1
			[ $c -gt 0 ] || moments=$((moments + 1))
		done
		ctl forget image$i
	done
}
run() {
	profile=$1 options=
	[ "$profile" = durable ] || options=,fsync=$profile
	seed=$((first - 1)) done_cuts=0 moments=0 lives=0 committed=0
	RANDOM=$first
	: >"$profile.cuts"
	# At least twenty moments of the load in a hundred cuts.
	per_image=$((cuts / 20 < 5 ? cuts / 20 + 1 : 5))
	while [ $done_cuts -lt "$cuts" ]; do
		life || { figures >"$profile.figures"; return 1; }
		lives=$((lives + 1))
	done
	figures >"$profile.figures"
}
figures() {
	python3 - "$profile.cuts" <<-END
		import re, sys
		cuts = open(sys.argv[1]).read().splitlines()
		def of(pattern): return [int(re.search(pattern, c).group(1)) for c in cuts]
		def some(numbers): return sum(n > 0 for n in numbers)
		lost, missing = of(r" lost=(\d+)"), of(r"missing (\d+)")
		rows, ms = of(r"commits (\d+)"), of(r"rows (\d+) ms")
		late = sorted(m for m, n in zip(ms, missing) if n)
		modes = [c.split()[2] for c in cuts]
		print("%d cuts of $moments moments in $lives lives, $committed commits (%s); %d lost writes that were pending, %d left a torn tail;"
		      " committed and missing: %d commits, %d rows, in %d cuts%s; the last unlink of a journal undone %d; in flight and there %d"
		      % (len(cuts), ", ".join("%s %d" % (m, modes.count(m)) for m in ("random", "prefix", "drop-all", "keep-all")), some(lost), some(of(r"tail (\d+)")),
		         sum(missing), sum(rows), some(missing), ", the last %d ms in the median, %d at most" % (late[len(late) // 2], late[-1]) if late else "",
		         sum(of(r"unsynced (\d+)")), sum(of(r"flying (\d+)"))))
	END
}

check "powerfs" powerfs_start
powerfs_ctl save empty >/dev/null
for p in ${SQLITE_PROFILES:-durable ordered}; do
	check "sqlite_survives_${cuts}_power_cuts_$p" run "$p"
	[ ! -e "$p.figures" ] || sed 's/^/# /' "$p.figures"
done
# What loses nothing proves nothing: this is also the check that "nothing is missing" can fail.
loses() { grep ' missing [1-9]' ordered.cuts || { cat ordered.cuts; return 1; }; }
in_time() { awk -v most=$ORDERED_MS '{ for (i = 1; i < NF; i++) v[$i] = $(i + 1); for (i = 2; i <= NF; i++) if ($i == "ms") ms = $(i - 1); if (ms > most + 2 * v["longest"]) { print; bad = 1 } } END { exit bad }' ordered.cuts; }
case " ${SQLITE_PROFILES:-durable ordered} " in
*' ordered '*)
	if [ $can_slow = 1 ]; then check "ordered loses some of the last commits" loses; else skip "ordered loses some of the last commits" "there is no strace to slow the disk down"; fi
	check "not more than $ORDERED_MS ms and two syncs of them" in_time ;;
esac
check "powerfs ends quietly" powerfs_stop
finish
