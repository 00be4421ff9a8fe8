#!/bin/bash
# role.sh: which site is the primary, of stores that are mounted and in use: promoted in place, demoted, fenced by what a stream meets, switched over and back under a
# client that counts; the worker killed around it. Environment: tests/lib/tap.sh
set -u
. "${SPARE_SRC:?}/tests/lib/tap.sh"
need_fuse
if [ "$(id -u)" != 0 ]; then         # as_user, below
	cleanup() { local m; for m in u u2; do mountpoint -q "$WORK/$m" && fusermount3 -uz "$WORK/$m"; done; }
	trap cleanup EXIT
	mkdir u u2
	users() {
		"$SPARE" init st >/dev/null && "$SPARE" mount st u -o "log=$WORK/u.log" && echo one >u/f && "$SPARE" sync st "$WORK/st2" && "$SPARE" mount st2 u2 -o "log=$WORK/u2.log,snapdir=.old,noexec" &&
			fails touch u2/x || return 1
		exits 0 "$SPARE" promote u2 && says "unmounted and mounted again" && prints "writable at $WORK/u2" && echo two >u2/g && same one "$(cat u2/f)" && ls u2/.old >/dev/null && grep -q " $WORK/u2 .*noexec" /proc/self/mountinfo
	}
	check "an ordinary user's mount comes back writable, with its options" users
	held() {
		exits 0 "$SPARE" demote u2 && says "refuses every change all the same" && fails touch u2/h && exits 0 "$SPARE" promote u2 && touch u2/h && exits 0 "$SPARE" demote u2 || return 1
		"$SPARE" umount u2 && "$SPARE" mount st2 u2 -o "log=$WORK/u2.log" && exec 7<u2/f && exits 3 "$SPARE" promote u2 && says "mount at $WORK/u2 is still read-only.*in use by" && exec 7<&- &&
			"$SPARE" umount u2 && "$SPARE" mount st2 u2 -o "log=$WORK/u2.log" && touch u2/i
	}
	check "demoted, its mount refuses; promoted again it takes changes; what is in use is not taken away" held
	check "both end" sh -c '"$0" umount u && "$0" umount u2 && "$0" check st2' "$SPARE"
	finish
fi
FOLLOW=
stop_follow() { [ -z "$FOLLOW" ] || { kill -INT "$FOLLOW" 2>/dev/null; wait "$FOLLOW"; }; FOLLOW=; }
cleanup() { stop_follow; : >"$WORK/stop"; local m; for m in m m2; do umount -l "$WORK/$m" 2>/dev/null; done; }
trap cleanup EXIT
mkdir m m2

mount_it() { "$SPARE" mount st m -o "log=$WORK/daemon.log$1"; }
mount_2() { "$SPARE" mount st2 m2 -o "log=$WORK/daemon2.log$1"; }
follow() { "$SPARE" sync --follow "$1" "$2" >follow.out 2>follow.err & FOLLOW=$!; until_true sh -c "'$SPARE' status $1 | grep -q 'RPO .*$2: Protected'"; }
role_is() { same "$2" "$("$SPARE" status --json "$1" | python3 -c 'import json, sys; print(json.load(sys.stdin)["role"])')"; }
head_of() { "$SPARE" status --json "$1" | python3 -c 'import json, sys; d = json.load(sys.stdin); print(d["durable_lsn"])'; }
refused() { fails touch "$1/refused" && { touch "$1/refused" 2>&1 | grep -q "Read-only file system"; }; } # refused DIR: a change there is answered EROFS
takes() { echo taken >"$1/taken" && rm "$1/taken"; }
new_worker() { local w; w=$(worker "$1"); [ -n "$w" ] && [ "$w" != "$2" ]; }
new_pair() { # a primary at m, and its standby, mounted at m2
	"$SPARE" init st >/dev/null && mount_it "${1-}" && mkdir m/d && echo one >m/f && "$SPARE" sync st "$WORK/st2" && mount_2 "${1-}"
}
no_pair() {
	stop_follow
	umount -l m m2 2>/dev/null
	until_true no_daemon daemon.log && until_true no_daemon daemon2.log && rm -rf st st2
}

# ---- promotion in place, and the old primary finds out

cat >reader.py <<'P'
# Looks at a tree all the time: an open file, another read anew, a listing, one that is unlinked and still open. Any error ends it.
import os, sys
top, stop = sys.argv[1:]
f = open(top + "/f", "rb", buffering=0)
held = open(top + "/held", "rb", buffering=0)
rounds = 0
while not os.path.exists(stop):
    f.seek(0); assert f.read() == b"one\n"
    held.seek(0); assert held.read() == b"held\n"
    assert open(top + "/f").read() == "one\n"
    assert "f" in os.listdir(top)
    rounds += 1
    if rounds == 1: open(stop + ".reads", "w")
print(rounds, "rounds")
P
in_place() {
	new_pair && follow st "$WORK/st2" && echo held >m/held && exec 8>>m/answered && echo answered >&8 && "$SPARE" wait --on standby m || return 1
	python3 reader.py m2 "$WORK/stop.reader" >reader.out 2>&1 & READER=$!
	until_true [ -e stop.reader.reads ] && rm m/held && "$SPARE" wait --on standby m && [ ! -e m2/held ] && refused m2 || return 1
	"$SPARE" mount -o ro,nonempty st2 m2 2>/dev/null    # refused: something is mounted there
	exits 0 "$SPARE" promote m2 && prints "st2: is the primary now.*writable at $WORK/m2" && echo on >m2/on && same on "$(cat m2/on)" && role_is m2 primary
}
check "a mounted standby that follows turns writable in place" in_place
goes_on() { takes m2 && mkdir m2/d/e && mv m2/on m2/d/on && ln m2/f m2/d/f && setfattr -n user.k -v v m2/f && : >stop.reader && { wait "$READER" || { cat reader.out; return 1; }; } && rm m2/d/f; }
check "who was reading there sees no error, and all kinds of changes are taken" goes_on
flags() { grep -q " $WORK/m2 rw,relatime" /proc/self/mountinfo && grep -c "is the primary now" daemon2.log | grep -qx 1; }
check "its mount is as one made now would be" flags
sent_away() { wait "$FOLLOW"; same 24 $? && grep -q "is being promoted" follow.err; }
check "the stream into it ended in order, and the sender learns that another is primary" sent_away
FOLLOW=
fenced() {
	until_true refused m && role_is m fenced && exits 24 "$SPARE" status m && prints "state +Fenced" || return 1
	echo no 2>&1 >&8 | grep -q "Read-only" || ! echo no >&8 || return 1
	python3 -c 'import os; os.fsync(8)' && same answered "$(cat m/answered)" && ls m/d >/dev/null && until_true grep -q "fenced: another site is the primary since epoch 2" daemon.log && same 1 "$(grep -c "fenced: another site is the primary since epoch 2" daemon.log)"
}
check "the old primary is fenced: changes are refused, what was answered stays, looks go on" fenced
exec 8>&-
ends_fenced() {
	local before
	before=$(head_of m) && "$SPARE" umount m && same "$before" "$(head_of st)" && exits 0 "$SPARE" mount st m -o "log=$WORK/daemon.log" && says "is fenced" && refused m && grep -q " $WORK/m ro" /proc/self/mountinfo &&
		same answered "$(cat m/answered)" && "$SPARE" umount m && exits 0 "$SPARE" check st && prints "No damage"
}
check "it is unmounted without a record, and mounted read-only with a word why" ends_fenced
once_only() { exits 2 "$SPARE" promote m2 && says "is primary already" && takes m2; }
check "what is primary is not promoted" once_only

# ---- demotion

demoted() {
	exec 8>>m2/w && echo one >&8 && exits 0 "$SPARE" demote m2 && says "open for writing" && role_is m2 standby && refused m2 || return 1
	! echo two >&8 2>/dev/null && python3 -c 'import os; os.fsync(8)' && same one "$(cat m2/w)" && grep -q " $WORK/m2 rw,nosuid,nodev" /proc/self/mountinfo && exec 8>&-
}
check "demoted with a file open for writing: refused, and nosuid at least" demoted
promoted_again() { exits 0 "$SPARE" promote m2 && takes m2 && exits 0 "$SPARE" demote m2 && refused m2 && grep -q " $WORK/m2 ro,nosuid,nodev" /proc/self/mountinfo && exits 0 "$SPARE" demote m2; }
check "promoted again it takes changes; demoted with nothing open it is read-only for the kernel" promoted_again
by_upgrade() { exits 0 "$SPARE" promote m2 && exits 0 "$SPARE" upgrade m2 && takes m2 && "$SPARE" mount -o remount,ro st2 m2 && exits 0 "$SPARE" upgrade m2 && refused m2 && "$SPARE" mount -o remount,rw st2 m2 && takes m2; }
check "another program goes on with the role; a person's remount stays" by_upgrade
ends() { "$SPARE" umount m2 && exits 0 "$SPARE" check st2 && prints "No damage"; }
check "it ends cleanly" ends
no_pair
unmounted() {
	new_pair && "$SPARE" umount m2 && exits 0 "$SPARE" demote m && refused m && "$SPARE" umount m && exits 0 "$SPARE" promote st && mount_it "" && takes m && "$SPARE" umount m && exits 0 "$SPARE" demote st &&
		exits 0 "$SPARE" mount st m -o "log=$WORK/daemon.log" && says "is a standby" && refused m
}
check "roles of what is not mounted" unmounted
no_pair
writeback() { # pages that only the kernel has: what happens to them is said where they are synced
	new_pair ,writeback && python3 - m/wb "$SPARE" <<-'P'
		import errno, os, subprocess, sys
		f = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
		os.write(f, b"synced"); os.fsync(f)
		os.pwrite(f, b"dirty!", 0)
		subprocess.run([sys.argv[2], "demote", "m"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
		try: os.fsync(f); os.pwrite(f, b"later!", 0); os.fsync(f)
		except OSError as e: print(errno.errorcode[e.errno]); sys.exit(e.errno not in (errno.EROFS, errno.EIO))
		sys.exit("no error")
	P
	local rc=$?
	cat check.out
	[ $rc = 0 ] && "$SPARE" umount m && mount_it "" && grep -q "synced\|dirty!" m/wb
}
check "with -o writeback, what the kernel has not written yet fails at its sync" writeback
grep -E '^E[A-Z]+$' check.out | sed 's/^/# fsync: /'
no_pair

# ---- promotion to a moment

# What a tree is: names, kinds, rights, owners, times, targets, attributes, names of one file, content.
print_tree() { (cd "$1" && find . -mindepth 1 -printf '%P %y %m %U %G %n %l ' \( -type d -printf '\n' -o -printf '%T@ %s\n' \) | sort && getfattr -R -d -m '^user\.' . && find . -type f -print0 | sort -z | xargs -0 sha256sum && find . -type f -links +1 -printf '%i %P\n' | sort -k2 | awk '{ if (!($1 in n)) n[$1] = ++i; print n[$1], $2 }'); }
old_tree() { # what is to come back, in m
	mkdir -p m/p/sub m/p/gone && echo first >m/p/changed && echo kept >m/p/kept && echo twice >m/p/one && ln m/p/one m/p/sub/two && ln -s kept m/p/link && echo x >m/p/gone/x && chmod 640 m/p/kept && setfattr -n user.k -v old m/p/kept &&
		mkdir m/cache && setfattr -n user.spare.nohistory -v 1 m/cache && head -c 300000 /dev/urandom >m/p/big && seq 200 | (cd m/p/sub && xargs touch) && touch -d 2020-01-01 m/p/kept m/p/sub
}
change_tree() {
	echo second >m/p/changed && rm -r m/p/gone && rm m/p/one && echo other >m/p/one && ln -sfn changed m/p/link && chmod 600 m/p/kept && setfattr -n user.k -v new m/p/kept && setfattr -n user.more -v x m/p/sub && mkdir m/p/later && echo later >m/p/later/f &&
		echo hole >>m/p/big && mv m/p/sub/5 m/p/five && rm -r m/d && echo hidden >m/cache/now
}
to_a_moment() {
	new_pair && old_tree && "$SPARE" snapshot create good --store m >/dev/null && "$SPARE" sync st "$WORK/st2" && print_tree m2 >then.tree && grep -q 'user.k="old"' then.tree && change_tree && follow st "$WORK/st2" && "$SPARE" wait --on standby m || return 1
	! print_tree m2 | cmp -s - then.tree && exits 1 "$SPARE" promote --at nosuch m2 && says nosuch && exits 1 "$SPARE" promote --at 2001-01-01T00:00:00Z m2 && role_is m2 standby && refused m2 && kill -0 "$FOLLOW" || return 1
	exits 0 "$SPARE" promote --json --at good m2 && prints '"removed": *[1-9]' && prints '"at_lsn"' && role_is m2 primary && same hidden "$(cat m2/cache/now)" && rm m2/cache/now && print_tree m2 >now.tree && { diff then.tree now.tree || return 1; } && takes m2
}
check "a mounted standby that follows is promoted to a moment: the tree is exactly that one's, what has no history stays" to_a_moment
wait "$FOLLOW"
FOLLOW=
later_is_there() { "$SPARE" cat p/later/f --at "$("$SPARE" log p/later/f --store m2 | sed -n 's/.*@\([0-9]*\) .*/@\1/p' | tail -n 1)" --store m2 | grep -qx later && exits 2 "$SPARE" promote --at good m2 && says "is primary already" && "$SPARE" umount m2 && exits 0 "$SPARE" check st2 && prints "No damage"; }
check "what came after it is in history; a primary is not set back by it; no damage" later_is_there
at_rest_to() {
	no_pair
	new_pair && old_tree && "$SPARE" snapshot create good --store m >/dev/null && "$SPARE" sync st "$WORK/st2" && print_tree m2 >then.tree && change_tree && "$SPARE" sync st "$WORK/st2" && "$SPARE" umount m2 || return 1
	exits 0 "$SPARE" promote --at good st2 && prints "Its tree is the one of .*removed; what came after is in history" && mount_2 "" && rm m2/cache/now && print_tree m2 | diff then.tree -
}
check "so is one that is not mounted" at_rest_to
no_pair
with_a_writer() { # the kernel lets changes through, since a file is open for writing; somebody asks for one, again and again, in the directory that is emptied: refused, and in nobody's way
	local touching rc
	new_pair && mkdir m/full && "$SPARE" snapshot create good --store m >/dev/null && (cd m/full && seq 6000 | xargs touch) || return 1
	exec 9>>m/keep
	exits 0 "$SPARE" demote m || { exec 9>&-; return 1; }
	(while :; do touch m/full/new; done 2>/dev/null) &
	touching=$!
	exits 0 timeout 100 "$SPARE" promote --at good m
	rc=$?
	kill $touching; wait $touching 2>/dev/null
	exec 9>&-
	[ $rc = 0 ] && role_is m primary && rm -f m/full/new && same "" "$(ls m/full)" && takes m
}
check "a mount that lets changes through does not hold it up" with_a_writer
no_pair
halves() { # a tree that is half gone and half new at the standby, whose state before is good
	new_pair && mkdir m/p && (cd m/p && seq 3000 | xargs touch) && "$SPARE" snapshot create good --store m >/dev/null && "$SPARE" sync st "$WORK/st2" && print_tree m2 >then.tree && (cd m/p && seq 1 2 3000 | xargs rm && mkdir q && cd q && seq 3000 | xargs touch) &&
		"$SPARE" sync st "$WORK/st2"
}
kill_when_marked() { # kill_when_marked PID: once the superblock says that a promotion to a moment is under way. 3: it never did, or that process ended before
	python3 -c 'import os, sys, time
end = time.monotonic() + 20
def runs():
    try: return " Z " not in open("/proc/%s/stat" % sys.argv[1]).read()
    except FileNotFoundError: return False
while b"promote-at" not in open("st2/super.0", "rb").read() + open("st2/super.1", "rb").read():
    if time.monotonic() > end or not runs(): sys.exit(3)
if not runs(): sys.exit(3)
os.kill(int(sys.argv[1]), 9)' "$1"
}
worker_killed() { # the command goes on by itself with the next worker
	local w promote
	halves && w=$(worker daemon2.log) || return 1
	"$SPARE" promote --at good m2 >kill.out 2>&1 &
	promote=$!
	kill_when_marked "$w" && wait "$promote" && until_true new_worker daemon2.log "$w" && until_true "$SPARE" status m2 && print_tree m2 | diff then.tree - && takes m2 && "$SPARE" umount m2 && exits 0 "$SPARE" check st2 && prints "No damage" || { cat kill.out; return 1; }
}
check "kill -9 of the worker in the middle: the command goes on with the next one" worker_killed
no_pair
both_killed() { # (one that was over before it was killed shows nothing)
	local i rc
	for i in 1 2 3; do
		killed_itself && return 0
		rc=$?
		no_pair
		[ $rc = 3 ] || return 1
	done
	echo "it was over before it was killed, three times"
	return 1
}
killed_itself() { # 3: it was over before
	local promote rc
	halves && "$SPARE" umount m2 || return 1
	"$SPARE" promote --at good st2 >kill.out 2>&1 &
	promote=$!
	kill_when_marked "$promote"
	rc=$?
	wait "$promote"
	[ $rc = 0 ] || return $rc
	exits 0 "$SPARE" status st2 || return 1
	grep -q "^tree .*not yet the one of" out || return 3
	exits 2 "$SPARE" promote st2 && mount_2 "" && exits 0 "$SPARE" promote --at good m2 && print_tree m2 | diff then.tree - && exits 0 "$SPARE" status m2 && ! grep -q "not yet" out && "$SPARE" umount m2 && exits 0 "$SPARE" check st2 && prints "No damage"
}
check "kill -9 of the command that does it itself: said, and the same command goes on" both_killed
no_pair

# ---- the worker dies around it

killing() { # killing PID SECONDS COMMAND...: runs it, and kills that process at some time within so long; its messages are in kill.out
	python3 -c 'import os, random, subprocess, sys, time
c = subprocess.Popen(sys.argv[3:], stdout=open("kill.out", "w"), stderr=subprocess.STDOUT)
time.sleep(random.random() * float(sys.argv[2]))
os.kill(int(sys.argv[1]), 9)
done = c.poll() is not None
sys.exit(0 if c.wait() == 0 and done else 1)' "$@"
}
killed() { # killed VERB: m2's worker is killed at some time around it; then the command is given again where it failed
	local w
	w=$(worker daemon2.log) && [ -n "$w" ] || return 1
	killing "$w" "${KILL_WITHIN:-0.04}" "$SPARE" "$1" m2 || echo during >>kills
	until_true new_worker daemon2.log "$w" && until_true "$SPARE" status m2 || return 1
	role_is m2 "$([ "$1" = promote ] && echo primary || echo standby)" >/dev/null || "$SPARE" "$1" m2 || { cat kill.out; return 1; }
	same one "$(cat m2/f)" || return 1
	if [ "$1" = promote ]; then until_true takes m2; else until_true refused m2 && until_true grep -q " $WORK/m2 ro" /proc/self/mountinfo; fi
}
kills() { # five deaths in ten seconds are too many for one mount
	local i
	new_pair || return 1
	for i in 1 2 3 4; do
		killed promote && killed demote && { [ $((i % 2)) = 1 ] || { "$SPARE" umount m2 && mount_2 ""; }; } || { tail -n 20 daemon2.log; return 1; }
	done
}
: >kills
check "kill -9 around promotion and demotion: one role or the other, and a mount that fits" kills
echo "# killed during it: $(wc -l <kills) of 8 times"
still_standby() { "$SPARE" umount m2 && exits 0 "$SPARE" check st2 && prints "No damage" && role_is st2 standby; }
check "and no damage" still_standby
no_pair

# ---- planned switchover

no_switch() {
	new_pair && exits 1 "$SPARE" switchover m "$WORK/st2" --stop "echo stopping; exit 7" && says "exit status is 7" && takes m && exits 2 "$SPARE" switchover m "$WORK/st2" --timeout soon && exits 2 "$SPARE" switchover m "$WORK/st"
}
check "a stop hook that fails: nothing happens" no_switch
nobody() { exits 22 "$SPARE" switchover m "$WORK/nowhere/st" && takes m && role_is m primary; }
check "a target that is not there: the work goes on here" nobody
stalls() { # a standby that is there and acknowledges nothing
	local w
	follow st "$WORK/st2" && w=$(worker daemon2.log) && kill -STOP "$w" && echo more >m/more || return 1
	exits 22 "$SPARE" switchover m "$WORK/st2" --timeout 300ms && says "has not acknowledged everything" && takes m
	local rc=$?
	kill -CONT "$w"
	[ $rc = 0 ] && role_is m primary && until_true "$SPARE" wait --on standby m
}
check "a standby that does not get there in time: the work goes on here" stalls
there_and_back() {
	python3 "$SPARE_SRC/tests/e2e/role.py" "$WORK/m,$WORK/m2" "$WORK/stop" >client.out 2>&1 & local client=$!
	until_true [ -s m/numbers ] || return 1
	exits 0 "$SPARE" switchover m "$WORK/st2" --stop "echo stop >>hooks" --start "echo start >>hooks" && prints "st2: is the primary now" && refused m && role_is m standby && same "stop start" "$(tr '\n' ' ' <hooks | sed 's/ $//')" || return 1
	stop_follow
	until_true grep -q . m2/numbers && "$SPARE" sync st2 "$WORK/st" >/dev/null && exits 0 "$SPARE" switchover m2 "$WORK/st" && refused m2 && role_is m2 standby || return 1
	exits 0 "$SPARE" switchover m "$WORK/st2" && exits 0 "$SPARE" switchover m2 "$WORK/st" || return 1
	: >stop
	wait $client || { cat client.out; return 1; }
	cat client.out
	same 4 "$(sed 's/.*, \(.*\) times.*/\1/' client.out)"
}
check "there and back, twice, under a client: no number is missing, none is there twice" there_and_back
sed 's/^/# /' client.out
killed_over() { # the worker dies around it: one primary, or none and one command makes it so again
	local i w roles
	for i in 1 2 3; do
		follow st "$WORK/st2" && w=$(worker daemon.log) && echo "round $i" >m/round || return 1
		killing "$w" "${KILL_WITHIN:-0.15}" "$SPARE" switchover m "$WORK/st2"
		until_true new_worker daemon.log "$w" && until_true "$SPARE" status m || return 1
		roles="$("$SPARE" status --json m | python3 -c 'import json, sys; print(json.load(sys.stdin)["role"])') $("$SPARE" status --json m2 | python3 -c 'import json, sys; print(json.load(sys.stdin)["role"])')"
		echo "# $roles: $(tail -n 1 kill.out)"
		stop_follow
		case $roles in
		"primary standby") ;;
		"standby standby") exits 0 "$SPARE" promote m || return 1 ;;
		"standby primary") exits 0 "$SPARE" switchover m2 "$WORK/st" || return 1 ;;
		*) cat kill.out; return 1 ;;
		esac
		until_true takes m && refused m2 && same "round $i" "$(cat m/round)" || return 1
	done
}
check "kill -9 of the primary's worker around it: one primary or none, and nothing is missing" killed_over
grep '^# ' check.out
both_same() { "$SPARE" sync st "$WORK/st2" >/dev/null && diff -r m m2 && "$SPARE" umount m && "$SPARE" umount m2 && exits 0 "$SPARE" check st && prints "No damage" && exits 0 "$SPARE" check st2 && prints "No damage"; }
check "and both are the same" both_same
at_rest() { exits 0 "$SPARE" switchover st "$WORK/st2" && role_is st standby && mount_2 "" && takes m2 && mount_it "" && refused m; }
check "a store that is not mounted is switched over, too" at_rest
cat >way <<-END
	#!/bin/sh
	for a; do :; done
	case \$a in *" promote "*) [ ! -e "$WORK/no.promote" ] || exit 9 ;; esac
	exec sh -c "\$a"
END
chmod +x way
other_side_fails() {
	: >no.promote
	exits 22 "$SPARE" switchover m2 "there:$WORK/st" --ssh "$WORK/way" --remote-spare "$SPARE" && says "is a standby now, and there:$WORK/st is not the primary yet" && says "Nothing is lost" && says "spare promote $WORK/st2. resumes here" && refused m2 || return 1
	rm no.promote
	exits 0 "$SPARE" promote "$WORK/st2" && takes m2
}
check "the other side's promotion fails: said what is, and one command resumes here" other_side_fails
by_way() { exits 0 "$SPARE" switchover m2 "there:$WORK/st" --ssh "$WORK/way" --remote-spare "$SPARE" --start "echo there >>hooks.there" && refused m2 && takes m && same there "$(cat hooks.there)"; }
check "by way of ssh, with a start hook there" by_way
no_pair
as_user "$0"
finish
