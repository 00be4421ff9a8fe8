#!/bin/bash
# replicate.sh: a mount ships to its standbys by itself, whatever happens to either side; paused, removed, several, on from a standby; fetched by a standby; with a limit; and
# what status says of it, by word and exit code. Environment: tests/lib/tap.sh; SSHD (tests/lib/sshd.sh).
set -u
. "${SPARE_SRC:?}/tests/lib/tap.sh"
. "$SPARE_SRC/tests/lib/sshd.sh"
need_root
need_fuse
tree=$SPARE_SRC/tests/lib/tree.py
cleanup() { sshd_stop; local m; for m in m m2 m3 m4 m6; do umount -l "$WORK/$m" 2>/dev/null; done; }
trap cleanup EXIT
mkdir m m2 m3 m4 m6
[ -z "${SSHD-}" ] || check "an ssh server" sshd_start

mount_it() { "$SPARE" mount st m -o "log=$WORK/daemon.log"; }
# word STORE WORD [CODE]: state as a whole, and the exit code with it
word() { local out rc; out=$("$SPARE" status "$1"); rc=$?; grep -q "^state  *$2\$" <<<"$out" && [ $rc = "${3:-0}" ] || { echo "$out"; echo "exit $rc"; return 1; }; }
# of STORE TARGET WORD: state of that standby
of() { "$SPARE" status "$1" | grep -qF "$2: $3;"; }
# holds STORE TEXT NAME: a standby at rest or followed into has it; asked of whoever has it open
holds() { [ "$("$SPARE" cat "$3" --at now --store "$1" 2>/dev/null)" = "$2" ]; }
prompt_umount() { # prompt_umount DIR: within 5 s
	local t=${EPOCHREALTIME/./}
	"$SPARE" umount "$1" || return 1
	t=$(((${EPOCHREALTIME/./} - t) / 1000))
	[ $t -lt 5000 ] || { echo "umount took $t ms"; return 1; }
}
serves() { local p; for p in /proc/[0-9]*; do tr '\0' ' ' 2>/dev/null <"$p/cmdline" | grep -qE -- "serve --stdio .*$WORK/$1 *\$" && echo "${p#/proc/}"; done; return 0; }

# ---- one, in a directory

start() { "$SPARE" init st >/dev/null && mount_it && echo one >m/one && word m 'Local only' 0; }
check "a store" start
by_itself() { exits 0 "$SPARE" standby add st "$WORK/st2" && prints 'reached' && until_true word m Protected 0 && echo two >m/two && until_true holds st2 two two; }
check "once it is added, what is written arrives without a command" by_itself
for_sync() {
	dd if=/dev/urandom of=m/big bs=1M count=20 status=none && exits 0 "$SPARE" sync st "$WORK/st2" && prints 'holds everything' && cmp m/big <("$SPARE" cat big --at now --store st2)
}
check "sync waits until it is all there" for_sync
scrubbed() { # scrubbed STORE PLACE: bytes of big go bad on the disk of that store, and nobody reads them
	printf 'went bad' | dd of="$1/log/$(ls -S "$1/log" | head -n 1)" bs=1 seek=5000000 conv=notrunc status=none
	exits 0 "$SPARE" scrub "$2" && prints 'DAMAGE .*data of the record at address .*, big' && prints '1 places were damaged, 1 of them are healed' &&
		exits 0 "$SPARE" scrub "$2" && prints 'no damage found'
}
check "what goes bad on the primary's disk is found by scrub, and healed from the standby" scrubbed st m
check "and the other way round" scrubbed st2 st2
headless() { # headless STORE PLACE: the head of a record, and the header of its segment
	local seg at
	seg=$1/log/$(ls -S "$1/log" | head -n 1) && at=$(grep -abo SPRF "$seg" | sed -n '12s/:.*//p') && printf 'went bad' | dd of="$seg" bs=1 seek=$((at + 60)) conv=notrunc status=none &&
		printf 'went bad' | dd of="$seg" bs=1 seek=50 conv=notrunc status=none
	exits 0 "$SPARE" scrub --again "$2" && prints 'DAMAGE .*seg: offset [0-9]+: ' && prints 'DAMAGE .*header of the segment' && prints '2 places were damaged, 2 of them are healed' &&
		exits 0 "$SPARE" scrub --again "$2" && prints 'no damage found' && exits 0 "$SPARE" check --read-data "$2"
}
check "records that cannot be read on the primary's disk are healed from the standby" headless st m
check "and those on the standby's from the primary" headless st2 st2
follows() {
	"$SPARE" sync --follow st "$WORK/st2" 2>follow.err & local f=$!
	until_true kill -0 $f && echo three >m/three && until_true holds st2 three three && word m Protected 0 && kill -INT $f && { wait $f; [ $? = 130 ]; } && echo four >m/four && until_true holds st2 four four
}
check "sync --follow watches it, and its end ends nothing" follows
own_way() { exits 0 "$SPARE" sync st "$WORK/st2" --remote-spare "$SPARE" && until_true word m Protected 0 && echo five >m/five && until_true holds st2 five five; }
check "a command that says how to get there runs its own stream, then the mount goes on" own_way
serve_dies() {
	local p
	p=$(serves st2) && [ -n "$p" ] && kill -9 $p && echo six >m/six && until_true holds st2 six six && until_true word m Protected 0 && [ "$(serves st2)" != "$p" ]
}
check "its far end is killed: it catches up" serve_dies
worker_dies() {
	kill -9 "$(worker daemon.log)" && echo seven >m/seven && until_true holds st2 seven seven && until_true word m Protected 0
}
check "the worker is killed: the next one goes on" worker_dies
paused() {
	exits 0 "$SPARE" standby pause st "$WORK/st2" && until_true word m Paused 0 && until_true eval '[ -z "$(serves st2)" ]' || return 1
	echo eight >m/eight && "$SPARE" config set m rpo=1s >/dev/null && until_true word m Paused 20 && fails holds st2 eight eight || return 1
	"$SPARE" umount m && mount_it && word m Paused 20 && [ -z "$(serves st2)" ] || return 1
	exits 0 "$SPARE" standby resume m && until_true holds st2 eight eight && until_true word m Protected 0 && "$SPARE" config set m rpo= >/dev/null
}
check "paused it stays, over a remount; resumed it catches up" paused
away() {
	mv st2 st2.away && kill -9 $(serves st2) && until_true word m 'Standby away' 22 && until_true sh -c "'$SPARE' status m | grep -q 'it was there before.*tried again in'" || return 1
	"$SPARE" status m --json | grep -q '"reason_code":"AWAY".*"next_try":"2' && exits 22 "$SPARE" sync st "$WORK/st2" && says "it was there before" || return 1
	mv st2.away st2 && exits 0 "$SPARE" sync st "$WORK/st2" && until_true word m Protected 0
}
check "away: a word, an exit code, a reason, the next try; sync tries at once" away
refused() { # another store in its place; then a copy in its place
	mv st2 st2.away && kill -9 $(serves st2) && "$SPARE" init st2 >/dev/null && exits 10 "$SPARE" sync st "$WORK/st2" && says 'expected a standby of this store' || return 1
	word m 'Standby away' 22 && "$SPARE" status m | grep -q 'expected a standby of this store.*tried again in [23][0-9][0-9] s' && "$SPARE" status m --json | grep -q '"reason_code":"NOSTORE"' || return 1
	"$SPARE" standby resume m && "$SPARE" standby resume m && exits 10 "$SPARE" sync st "$WORK/st2" && same 1 "$(grep -c 'expected a standby of this store.*each 5 minutes' daemon.log)" || return 1
	rm -rf st2 && cp -a st2.away st2 && rm -rf st2.away && exits 10 "$SPARE" sync st "$WORK/st2" && says moved && exits 0 "$SPARE" sync st "$WORK/st2" --moved && until_true word m Protected 0
}
check "refused: kept, said once, tried again when a person says so" refused
fenced() {
	"$SPARE" standby pause m && until_true eval '[ -z "$(serves st2)" ]' && cp -a st2 st2.before && "$SPARE" promote st2 >/dev/null && "$SPARE" standby resume m && until_true word m Fenced 24 &&
		until_true sh -c "'$SPARE' status m | grep -q 'itself writable'" && exits 24 "$SPARE" sync st "$WORK/st2" || return 1
	same 1 "$(grep -c 'itself writable' daemon.log)" && grep -q 'tried again each 5 minutes' daemon.log || return 1
	"$SPARE" standby pause m && until_true eval '[ -z "$(serves st2)" ]' && rm -rf st2 && mv st2.before st2 && exits 0 "$SPARE" promote m && "$SPARE" standby resume m && exits 10 "$SPARE" sync st "$WORK/st2" && says moved || return 1
	exits 0 "$SPARE" sync st "$WORK/st2" --moved && until_true word m Protected 0
}
check "a standby that was promoted meanwhile: fenced, and promoted again it goes on" fenced

# ---- several, and on from one to the next

two() { exits 0 "$SPARE" standby add m "$WORK/st3" && echo nine >m/nine && until_true holds st3 nine nine && until_true holds st2 nine nine && until_true of m "$WORK/st3" Protected && of m "$WORK/st2" Protected; }
check "two at once" two
one_away() {
	mv st3 st3.away && kill -9 $(serves st3) && echo ten >m/ten && until_true of m "$WORK/st3" 'Standby away' && until_true holds st2 ten ten && until_true word m Protected 22 && mv st3.away st3 &&
		exits 0 "$SPARE" sync m "$WORK/st3" && until_true word m Protected 0
}
check "one of them away: the other goes on; the word is that of the nearest, the exit code tells" one_away
cascade() {
	"$SPARE" mount st2 m2 -o "log=$WORK/daemon2.log" && exits 0 "$SPARE" standby add m2 "$WORK/st4" && echo eleven >m/eleven && until_true holds st4 eleven eleven && until_true word m2 Protected 0 &&
		until_true of m2 "$WORK/st4" Protected && exits 0 "$SPARE" sync m "$WORK/st2" && exits 0 "$SPARE" sync m2 "$WORK/st4" || return 1
	kill -9 "$(worker daemon2.log)" && echo twelve >m/twelve && until_true holds st4 twelve twelve
}
check "a mounted standby ships on to its own" cascade
removed() {
	exits 0 "$SPARE" standby remove m "$WORK/st3" && until_true eval '[ -z "$(serves st3)" ]' && echo more >m/more && until_true holds st2 more more && fails holds st3 more more && fails of m "$WORK/st3" Protected
}
check "removed: nothing more goes there" removed
upgraded() {
	local before
	before=$(serves st4) && "$SPARE" upgrade m2 && echo anew >m/anew && until_true holds st4 anew anew && until_true eval "[ -n '$before' ] && [ -n \"\$(serves st4)\" ] && [ \"\$(serves st4)\" != '$before' ]"
}
check "an upgrade ends the children, and the new program begins again" upgraded
umounts() { prompt_umount m2 && until_true eval '[ -z "$(serves st4)" ]' && prompt_umount m && until_true eval '[ -z "$(serves st2)" ]' && exits 0 "$SPARE" check st4 && prints 'No damage' && exits 0 "$SPARE" check st2 && prints 'No damage'; }
check "umount is prompt, and takes the children along" umounts
as_one() {
	mount_it && until_true word m Protected 0 && "$SPARE" sync st "$WORK/st2" >/dev/null && python3 "$tree" m >a.tree && "$SPARE" mount st2 m2 -o "log=$WORK/daemon2.log" && python3 "$tree" m2 >b.tree && cmp a.tree b.tree
}
check "the trees are equal" as_one

# ---- fsync that waits

synced() { python3 -c 'import os, sys, time
fd = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY); os.write(fd, sys.argv[2].encode())
t = time.time()
try: os.fsync(fd)
except OSError as e: print(e.errno)
else: print("%d" % ((time.time() - t) * 1000))' "$@"; }
rpo_zero() { # what fsync answered is there, at once
	mkdir -p m/zero/deep m/other && setfattr -n user.spare.rpo -v 0 m/zero && fails setfattr -n user.spare.rpo -v 7 m/other && until_true word m Protected 0 || return 1
	local i
	for i in 1 2 3 4 5; do synced m/zero/deep/f "sync $i" >ms && until_true grep -qx "sync $i" m2/zero/deep/f && [ "$(cat ms)" -lt 4000 ] || return 1; done
}
check "rpo 0: what fsync answered is durable at the standby" rpo_zero
rpo_zero_away() {
	"$SPARE" umount m2 && "$SPARE" standby pause m && until_true eval '[ -z "$(serves st2)" ]' || return 1
	local before first next
	before=$(grep -c 'rpo is 0' daemon.log)
	[ "$(synced m/other/f x)" -lt 4000 ] && first=$(synced m/zero/f x) && next=$(synced m/zero/f y) && [ "$first" -ge 4900 ] && [ "$next" -lt 4000 ] || { echo "$first, then $next ms"; return 1; }
	word m 'RPO not met' 20 && same $((before + 1)) "$(grep -c 'rpo is 0' daemon.log)" && "$SPARE" standby resume m && until_true word m Protected 0 && grep -q 'fsync waits for it again' daemon.log
}
check "with no standby it waits 5 s, then answers, with an alarm, until one is back" rpo_zero_away
rpo_zero_fails() {
	"$SPARE" config set m rpo-away=fail >/dev/null && "$SPARE" standby pause m && until_true eval '[ -z "$(serves st2)" ]' || return 1
	same 5 "$(synced m/zero/f z)" && "$SPARE" config set m rpo-away=wait >/dev/null || return 1	# (the setting is looked at until the 5 s are over)
	synced m/zero/f w >ms & local s=$!
	until_true sh -c "'$SPARE' status m --json | grep -q '\"parked\":1'" && kill -9 "$(worker daemon.log)" && until_true sh -c "'$SPARE' status m --json | grep -q '\"parked\":1'" && kill -0 $s && [ ! -s ms ] &&
		"$SPARE" standby resume m && wait $s && [ "$(cat ms)" -gt 100 ] && "$SPARE" config set m rpo-away= >/dev/null && until_true word m Protected 0 &&
		"$SPARE" mount st2 m2 -o "log=$WORK/daemon2.log" && until_true grep -qx w m2/zero/f
}
check "or fails, or waits for as long as it takes, parked, over the death of the worker" rpo_zero_fails
rpo_zero_ordered() {
	"$SPARE" umount m && "$SPARE" mount st m -o "fsync=ordered,log=$WORK/daemon.log" && until_true word m Protected 0 && synced m/zero/f ordered >ms && until_true grep -qx ordered m2/zero/f
}
check "fsync=ordered or not" rpo_zero_ordered

# ---- by ssh

if [ -n "${SSHD-}" ]; then
	T=there:$WORK/st5
	ssh_add() { exits 0 "$SPARE" standby add m "$T" --ssh "$SSH" --remote-spare "$SPARE" && prints 'restrict,command=.*--receive-only' && until_true of m "$T" Protected && echo ssh >m/ssh && until_true holds st5 ssh ssh; }
	check "through sshd; how to get there is remembered" ssh_add
	sshd_dies() {
		kill "$SSHD_PID" && wait "$SSHD_PID" 2>/dev/null
		pkill_sessions && echo down >m/down && until_true of m "$T" 'Standby away' && until_true sh -c "'$SPARE' status m | grep -q 'cannot be reached.*refused'" || return 1
		sshd_run && exits 0 "$SPARE" sync m "$T" && until_true of m "$T" Protected && holds st5 down down
	}
	# The sessions of that server: those that have our store's command as a child.
	pkill_sessions() { local p; for p in $(serves st5); do kill -9 "$p"; done; return 0; }
	check "sshd is gone, and back: it catches up" sshd_dies
	slow() { # 3 MiB that do not compress, at 1 MiB a second, the last of them owed
		"$SPARE" config set m bandwidth=00:00-24:00=1M >/dev/null && exits 2 "$SPARE" config set m bandwidth=fast && says '08:00-18:00=2M' && until_true of m "$T" Protected || return 1
		local t
		read -r -t 1.2 _ <> <(:)     # until the stream has seen it
		t=${EPOCHREALTIME/./} && dd if=/dev/urandom of=m/slow bs=1M count=3 status=none && exits 0 "$SPARE" sync m "$T" && t=$(((${EPOCHREALTIME/./} - t) / 1000))
		[ "$t" -gt 1500 ] && [ "$t" -lt 20000 ] && "$SPARE" config set m bandwidth= >/dev/null || { echo "3 MiB in $t ms"; return 1; }
	}
	check "a limit of bandwidth is kept to" slow
	"$SPARE" standby remove m "$T" >/dev/null

	# ---- fetched by the standby

	S=there:$WORK/st NAME=$(hostname | tr -cd 'A-Za-z0-9._-')
	pull_once() { exits 0 "$SPARE" sync --from "$S" "$WORK/st6" --ssh "$SSH" --remote-spare "$SPARE" && prints "st6: holds everything" && holds st6 ssh ssh && exits 22 "$SPARE" status m && prints "pull:$NAME: Standby away"; }
	check "a standby fetches itself where nothing is" pull_once
	pull_line() {
		exits 0 "$SPARE" standby add --from "$S" "$WORK/st6" --ssh "$SSH" --remote-spare "$SPARE" && prints "restrict,command=.*serve --stdio --send --as $NAME '$WORK/st'" || return 1
		sed -n 's/^  restrict,command="\([^"]*\)".*/restrict,command="\1" /p' "$WORK/out" | tr -d '\n' >sshd/authorized_keys && cat sshd/key.pub >>sshd/authorized_keys
	}
	check "and by itself: the line for a key that can only fetch is printed" pull_line
	pulls() {
		"$SPARE" mount st6 m6 -o "log=$WORK/daemon6.log" && until_true of m "pull:$NAME" Protected && echo pulled >m/pulled &&
			until_true sh -c "[ \"\$(cat m6/pulled)\" = pulled ]" && until_true word m6 Protected 0 && "$SPARE" status m6 | grep -q "^from  *$S" && exits 0 "$SPARE" wait m --on "pull:$NAME"
	}
	check "a mounted standby fetches, by a key that can do nothing else; the primary sees it as any other" pulls
	pull_dies() {
		kill -9 "$(worker daemon6.log)" && echo again >m/again && until_true sh -c "[ \"\$(cat m6/again)\" = again ]" && kill -9 "$(worker daemon.log)" && echo again2 >m/again && until_true sh -c "[ \"\$(cat m6/again)\" = again2 ]" &&
			exits 0 "$SPARE" sync --from "$S" st6 && prints "holds everything"
	}
	check "either side's worker dies: it fetches on" pull_dies
	pull_paused() {
		exits 0 "$SPARE" standby pause m6 && until_true of m "pull:$NAME" 'Standby away' && "$SPARE" status m6 | grep -q "$S: paused" && exits 0 "$SPARE" standby resume m6 && until_true of m "pull:$NAME" Protected
	}
	check "paused and resumed at the standby" pull_paused
	cp sshd/key.pub sshd/authorized_keys
	pull_refused() { exits 2 "$SPARE" sync m "pull:$NAME" && says 'fetches' && exits 2 "$SPARE" serve --stdio --send --as 'a b' st; }
	check "what fetches is not shipped to" pull_refused
	pull_ends() { prompt_umount m6 && exits 0 "$SPARE" standby remove st6 "$S" && exits 0 "$SPARE" standby remove m "pull:$NAME" && exits 0 "$SPARE" check st6 && prints 'No damage'; }
	check "and ends" pull_ends
else
	skip "through sshd" "no ssh server"
fi
at_last() { prompt_umount m2 && prompt_umount m && until_true no_daemon daemon.log && exits 0 "$SPARE" check st && prints 'No damage'; }
check "it all ends cleanly" at_last
finish
