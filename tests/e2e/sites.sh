#!/bin/bash
# sites.sh: two and three hosts, each with processes, a network, mounts, a disk and an sshd of its own, by ssh: shipped to, fetched, shipped on; the primary's host killed, its cable pulled, standing still; the
# way back with a branch; switchover there and back. Environment: tests/lib/tap.sh; SSHD (tests/lib/hosts.sh); ROUNDS (1), how often each disaster; SANITIZED: it is skipped, since it runs once, without them.
set -u
. "${SPARE_SRC:?}/tests/lib/tap.sh"
. "$SPARE_SRC/tests/lib/hosts.sh"
[ -z "${SANITIZED-}" ] || skip_all "runs once, without sanitizers"
hosts_need
need_fuse
ROUNDS=${ROUNDS:-1} M=$HOST_DIR/m ST=$HOST_DIR/st
WRITER=
cleanup() { kill $WRITER 2>/dev/null; hosts_end; }
trap cleanup EXIT
check "three hosts on one switch" hosts_up a b c
on() { local h=$1 code=$2; shift 2; exits "$code" "$HOSTS/run" "$h" spare "$@"; }	# on HOST CODE COMMAND...: spare there, and its exit status
spare() { local h=$1; shift; host_run "$h" spare "$@"; }
apart() { # by name, with nothing shared
	local h
	for h in a b c; do host_run $h mkdir m || return 1; done
	host_run a sh -c 'echo a >only' && same c "$(host_run a ssh c hostname)" && host_run b sh -c "! ls only $HOSTS/a" 2>/dev/null && host_run a sh -c "! ls -d /proc/$$" 2>/dev/null &&
		[ "$(host_run a cat /etc/machine-id)" != "$(host_run b cat /etc/machine-id)" ] && same spare "$(host_run c ssh a 'basename $(command -v spare)')"
}
check "each sees its own disk, processes and name, and the others by ssh only" apart

# word HOST WORD CODE: the state of its store and the exit status with it. of HOST STANDBY WORD
word() { local out rc; out=$(spare "$1" status st); rc=$?; grep -q "^state  *$2\$" <<<"$out" && [ $rc = "$3" ] || { echo "$out"; echo "exit $rc"; return 1; }; }
of() { spare "$1" status st | grep -qF "$2: $3;"; }
field() { spare "$1" status --json st | python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$2"; }
mount_at() { spare "$1" mount st m -o "log=$HOST_DIR/log"; }
holds() { [ "$(spare "$1" cat --store st --at now "$2" 2>/dev/null)" = "$3" ]; }

# Numbers, one a line, each with an fsync; what was answered is written down outside of all hosts.
cat >numbers.py <<'END'
import os, sys, time
fd = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY | os.O_APPEND)
n = int(sys.argv[2])
while True:
    try: os.write(fd, b"%d\n" % n); os.fsync(fd)
    except OSError as e: print("errno %d" % e.errno, flush=True); break
    print(n, flush=True); n += 1; time.sleep(0.002)
END
writes() { "$HOSTS/run" "$1" python3 "$WORK/numbers.py" "$M/$2" "$3" >"$4" 2>/dev/null & WRITER=$!; until_true eval "[ \$(wc -l <$4) -gt 50 ]"; } # writes HOST NAME FROM ANSWERED
writer_ends() { until_true fails kill -0 $WRITER || return 1; wait $WRITER; WRITER=; }	# by itself, at the first change that is refused
stop_writer() { kill $WRITER 2>/dev/null; wait $WRITER 2>/dev/null; WRITER=; }
numbers() { spare "$1" cat --store "${3-st}" --at now "$2" >"$WORK/numbers.$1"; }
in_a_row() { awk -v from="$2" '$1 != from + NR - 1 { print "line", NR, "is", $1; exit 1 }' "$1"; } # in_a_row FILE FROM: none missing, none twice

# ---- shipped, fetched, shipped on

ships() { spare a init st >/dev/null && mount_at a && on a 0 standby add m b:$ST && prints 'restrict,command=.*--receive-only' && until_true word a Protected 0 && host_run a sh -c 'echo one >m/one' && until_true holds b one one; }
check "shipped by ssh to a host that had nothing" ships
ships_on() { mount_at b && on b 0 standby add m c:$ST && host_run a sh -c 'echo two >m/two' && until_true holds c two two && until_true of b c:$ST Protected && same standby "$(field c role)"; }
check "and on from there to a third" ships_on
fetches() {
	on b 0 standby remove m c:$ST && host_run c rm -rf st && on c 0 sync --from a:$ST st && prints 'holds everything' && holds c two two && on c 0 standby add --from a:$ST st && prints 'serve --stdio --send --as c' && mount_at c &&
		until_true of a pull:c Protected && host_run a sh -c 'echo three >m/three' && until_true host_run c sh -c '[ "$(cat m/three)" = three ]' && word a Protected 0
}
check "fetched by a third that the first knows no way to" fetches
no_more() { spare c umount m && on c 0 standby remove st a:$ST && on a 0 standby remove m pull:c; }
check "and no more" no_more

# ---- disasters. P is the primary, S the standby; after each the standby is primary, the old one is its standby with what only it had as a branch, and all goes on

P=a S=b
branches() { spare "$1" branch list --json st 2>/dev/null | grep -c '"name"'; }
# back NEW OLD FILE HELD ANSWERED: OLD, an old primary that is not mounted, follows NEW. Its branch shows FILE as changed and nothing else, and has of it more than the HELD lines that NEW has, all that were ANSWERED
back() {
	local new=$1 old=$2 name=$3 held=$4 answered=$5 before
	before=$(branches "$old")
	on "$new" 24 standby add m "$old:$ST" && says 'spare demote' || return 1
	on "$old" 0 demote st && on "$new" 22 sync m "$old:$ST" && says 'keeps what it has beyond as a branch' && on "$new" 0 standby add m "$old:$ST" && on "$new" 0 sync m "$old:$ST" && { until_true of "$new" "$old:$ST" Protected || { spare "$new" status st; return 1; }; } && same $((before + 1)) "$(branches "$old")" || return 1
	local b
	b=$(spare "$old" branch list --json st | tail -n 1 | sed 's/.*"name": *"\([^"]*\)".*/\1/') && on "$old" 0 branch show "$b" st --json && same "$name" "$(python3 -c 'import json, sys; [print(json.loads(l)["path"]) for l in open(sys.argv[1]) if "\"path\"" in l]' "$WORK/out" | sort -u)" || return 1
	numbers "$old" "$name" "st/branches/$b" && in_a_row numbers.$old 1 && [ "$(wc -l <numbers.$old)" -ge "$answered" ] && [ "$(wc -l <numbers.$old)" -gt "$held" ] && on "$old" 0 check --read-data st && prints 'No damage' && until_true word "$new" Protected 0
}
there() { until_true eval "numbers $S $1 && [ -s numbers.$S ]"; } # there FILE: the first of it have come
killed() { # its line goes a moment before it
	writes $P k$1 1 answered && there k$1 && link_down $P || return 1
	local n held
	n=$(wc -l <answered); until_true eval "[ \$(wc -l <answered) -gt $((n + 20)) ]" && host_kill $P && stop_writer && n=$(wc -l <answered) || return 1
	on $S 0 promote m && numbers $S k$1 && in_a_row numbers.$S 1 && held=$(wc -l <numbers.$S) && [ "$held" -gt 0 ] && [ "$held" -lt "$n" ] || return 1
	host_run $S sh -c "echo after >m/after$1" && host_start $P && same primary "$(field $P role)" && mount_at $P && until_true word $P Fenced 24 && fails host_run $P sh -c 'echo x >m/x' && spare $P umount m &&
		back $S $P k$1 "$held" "$n" && holds $P after$1 after && mount_at $P
}
turn() { local x=$P; P=$S S=$x; }
rounds() { local f=$1 i; for i in $(seq "$ROUNDS"); do "$f" "$i" && turn && ready || { echo "round $i"; return 1; }; done; }
ready() { spare $P standby list m | grep -q "^$S:$ST" || spare $P standby add m $S:$ST >/dev/null; until_true word $P Protected 0; }
check "the primary's host is killed: what is at the other is a prefix of what was answered; it comes back with a branch" rounds killed
cut() {
	writes $P c$1 1 answered && there c$1 || return 1
	link_down $P
	local held n
	on $S 0 promote m && numbers $S c$1 && in_a_row numbers.$S 1 && held=$(wc -l <numbers.$S) || return 1
	n=$(wc -l <answered); until_true eval "[ \$(wc -l <answered) -gt $((n + 100)) ]" || return 1
	host_run $S sh -c "echo other >m/other$1" && same primary "$(field $P role)" && same primary "$(field $S role)" && [ "$(field $P epoch)" -lt "$(field $S epoch)" ] || return 1
	link_up $P
	# Either finds out by itself: the old one, which ships to the new one, is told at its next try.
	until_true word $P Fenced 24 && writer_ends || return 1
	grep -q '^errno \(5\|30\)$' answered && n=$(grep -vc errno answered) && fails host_run $P sh -c 'echo x >m/x' && spare $P umount m && back $S $P c$1 "$held" "$n" && holds $P other$1 other && mount_at $P
}
check "its cable is pulled: both write, in different epochs; fenced at first contact, and nobody's writes are lost" rounds cut
frozen() {
	writes $P f$1 1 answered || return 1
	host_freeze $S || return 1
	local n
	n=$(wc -l <answered); until_true eval "[ \$(wc -l <answered) -gt $((n + 500)) ]" && host_thaw $S && until_true word $P Protected 0 || return 1
	# The primary stands still, and is taken for dead.
	host_freeze $P || return 1
	local held
	on $S 0 promote m && numbers $S f$1 && in_a_row numbers.$S 1 && held=$(wc -l <numbers.$S) && host_run $S sh -c "echo other >m/stood$1" || return 1
	n=$(wc -l <answered); host_thaw $P
	until_true word $P Fenced 24 && writer_ends || return 1
	grep -q '^errno' answered && spare $P umount m && n=$(grep -vc errno answered) && back $S $P f$1 "$held" "$n" && holds $P stood$1 other && mount_at $P
}
check "a standby stands still: work goes on, and it catches up; the primary stands still: fenced when it wakes" rounds frozen
planned() { # there and back, under writes that go on in between
	local i from=1 t=$P
	for i in 1 2; do
		writes $P s $from answered && on $P 0 switchover m $S:$ST || return 1
		writer_ends || return 1
		from=$(($(grep -vc errno answered) + from)) && turn && mount_state $P && numbers $P s && in_a_row numbers.$P 1 && same $((from - 1)) "$(wc -l <numbers.$P)" && ready || return 1
	done
	same "$t" $P
}
mount_state() { until_true host_run "$1" sh -c ': >m/here'; }
check "switchover there and back under numbered writes: none is missing" planned
same_everywhere() { on $P 0 sync m $S:$ST && same "$(field $P durable_lsn)" "$(field $S durable_lsn)" && spare a umount m && spare b umount m && for h in a b c; do on $h 0 check --read-data st && prints 'No damage' || return 1; done; }
check "both hold the same, and no store is damaged" same_everywhere
finish
