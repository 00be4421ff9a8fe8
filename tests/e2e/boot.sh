#!/bin/bash
# boot.sh: a new standby of a store that has let go of most of its past: it takes files of archive and packs, then the log; cut off anywhere it goes on with what it has; it
# has every moment that the primary lists, is promoted, and its index can be lost. Environment: tests/lib/tap.sh
set -u
. "${SPARE_SRC:?}/tests/lib/tap.sh"
need_root
need_fuse
tree=$SPARE_SRC/tests/lib/tree.py relay=$SPARE_SRC/tests/lib/relay.py
cleanup() { umount -l "$WORK/m" "$WORK/m2" 2>/dev/null; }
trap cleanup EXIT
mkdir m m2

mount_it() { "$SPARE" mount st m -o "log=$WORK/daemon.log"; }
round() { # round N: files written anew, some removed, a tree
	local i
	mkdir -p "m/d$1" || return 1
	for i in $(seq 60); do head -c $((RANDOM % 9000 + 1)) /dev/urandom >"m/f$i" && seq "$1" $((RANDOM % 3000)) >"m/d$1/g$i" || return 1; done
	rm -f "m/f$((RANDOM % 60 + 1))"
	setfattr -n user.round -v "$1" m/f1 2>/dev/null
	"$SPARE" snapshot create "s$1" --store m >/dev/null && "$SPARE" reclaim m >/dev/null
}
start() {
	"$SPARE" init st >/dev/null && mount_it || return 1
	for i in 1 2 3 4; do round $i || return 1; done
	"$SPARE" snapshot delete s2 --store m >/dev/null && "$SPARE" retain set m keep-all=1s min-age=0 reclaim-grace=0 keep-hourly=0 keep-daily=0 keep-weekly=0 keep-monthly=0 keep-yearly=0 >/dev/null
	read -r -t 1.5 _ <> <(:)
	"$SPARE" reclaim --now m >gone && "$SPARE" reclaim --now m >>gone && grep -q 'Let go of [1-9]' gone && echo more >m/more && [ "$(ls st/packs | wc -l)" -ge 1 ]
}
check "a store that has let go of a part of its past" start
same_trees() { python3 "$tree" --same m m2 m/.snapshots/s1/ m2/.snapshots/s1/ m/.snapshots/s3/ m2/.snapshots/s3/ m/.snapshots/s4/ m2/.snapshots/s4/; }
well() { # well STORE: has what the primary has
	"$SPARE" mount "$1" m2 -o "log=$WORK/daemon2.log" && same_trees && ! ls m2/.snapshots/s2/ 2>/dev/null && "$SPARE" umount m2 && exits 0 "$SPARE" check "$1" --read-data && prints 'No damage'
}
by_dir() { exits 0 "$SPARE" sync st "$WORK/st2" && [ "$(cd st/packs && ls)" = "$(cd st2/packs && ls)" ] && [ ! -e "st2/log/0000000000001000-00000001.seg" ]; }
check "a new standby takes its files" by_dir
check "and has every moment that is listed, and no other" well st2
on() { echo "on $RANDOM" >>m/more && round 5 && "$SPARE" sync st "$WORK/st2" </dev/null && well st2; }
check "it goes on with the log" on
work() { local i; for i in $(seq 40); do echo "$i" >>m/more && head -c 3000 /dev/urandom >"m/w$i"; done; }
through() { # through STORE RELAY_ARG...
	local to=$1
	shift
	"$SPARE" sync --new st "there:$to" --ssh "python3 $relay $*" --remote-spare "$SPARE" </dev/null
}
saved() { cat st3/archive/* st3/packs/* 2>/dev/null | wc -c; }
cut_off() { # in the middle of files, at random, while it is written to
	local all i again had
	through "$WORK/st3" log=whole && all=$(awk '{ print $1 }' whole) && rm -rf st3 || return 1
	work & for i in 1 2 3 4 5 6; do
		if through "$WORK/st3" "up=$((RANDOM * 32768 % all + 200))" log=cuts "$([ $((i % 2)) = 0 ] || echo kill=1)" 2>>cut.err; then rm -rf st3; fi
	done
	wait
	rm -rf st3
	for i in 1 2 3 4 5 6 7 8; do     # what had come when the line was cut is not always taken: who cannot answer stops reading
		through "$WORK/st3" "up=$((all * (50 + i * 4) / 100))" log=part 2>>cut.err && { echo "not cut"; return 1; }
		had=$(saved)
		[ "$had" -lt 200000 ] || break
	done
	[ "$had" -ge 200000 ] && [ ! -e st3/super.1 ] && through "$WORK/st3" log=rest && through "$WORK/st4" log=all || return 1
	again=$(awk '{ print $1 }' rest) all=$(awk '{ print $1 }' all)
	echo "# $all bytes in all; with $had there from before $again"
	[ "$again" -lt $((all - had + 65536)) ] && well st3
}
check "cut off anywhere it goes on, and does not take again what is whole" cut_off
taken_over() { "$SPARE" umount m && exits 0 "$SPARE" rebuild-index st3 && exits 0 "$SPARE" promote st3 && "$SPARE" mount st3 m2 && mount_it && same_trees && echo new >m2/new && "$SPARE" umount m2 && exits 0 "$SPARE" check st3 && prints 'No damage'; }
check "its index made anew it is promoted, and worked in" taken_over
foreign() { mkdir -p x/packs && echo mine >x/packs/notes && exits 1 "$SPARE" sync st "$WORK/x" && [ "$(cat x/packs/notes)" = mine ]; }
check "what is no file of a store is left alone" foreign
ended() { "$SPARE" umount m && exits 0 "$SPARE" check st && prints 'No damage'; }
check "unmounted and checked" ended
finish
