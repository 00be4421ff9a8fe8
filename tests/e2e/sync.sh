#!/bin/bash
# sync.sh: a store at rest or mounted and written to, shipped to a standby: a directory and through a real sshd; the line cut at any
# byte; who may be whose standby; promotion. Environment: tests/lib/tap.sh; SSHD (tests/lib/sshd.sh); CUTS (20), cut points in each direction.
set -u
. "${SPARE_SRC:?}/tests/lib/tap.sh"
. "$SPARE_SRC/tests/lib/sshd.sh"
need_root
need_fuse
CUTS=${CUTS:-20}
relay=$SPARE_SRC/tests/lib/relay.py tree=$SPARE_SRC/tests/lib/tree.py
cleanup() { sshd_stop; local m; for m in m m2 m5 full other; do umount -l "$WORK/$m" 2>/dev/null; done; }
trap cleanup EXIT
mkdir m m2

[ -z "${SSHD-}" ] || check "an ssh server" sshd_start     # before anything is mounted

# ---- a store with a past, and one that grows

work() { # work SEED COUNT: changes of many kinds in m
	python3 - "$WORK/m" "$1" "$2" <<-'END'
		import os, random, sys
		top, seed, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
		r = random.Random(seed)
		names = ["f%d" % i for i in range(20)] + ["d%d/g%d" % (i % 4, i) for i in range(20)]
		for i in range(4): os.makedirs("%s/d%d" % (top, i), exist_ok=True)
		for i in range(count):
		    p, q = (os.path.join(top, r.choice(names)) for _ in range(2))
		    k = r.randrange(8)
		    try:
		        if k < 3:
		            with open(p, "wb") as f: f.write(bytes([r.randrange(256)]) * r.choice([10, 5000, 300000]))
		        elif k == 3:
		            with open(p, "ab") as f: f.write(b"more %d\n" % i)
		        elif k == 4: os.rename(p, q)
		        elif k == 5: os.unlink(p)
		        elif k == 6: os.chmod(p, r.choice([0o600, 0o644, 0o755]))
		        else: os.setxattr(p, "user.k", b"%d" % i)
		    except FileNotFoundError: pass
	END
}
lsn() { "$SPARE" status --json "$1" | python3 -c 'import json, sys; print(json.load(sys.stdin)["durable_lsn"])'; }
# What was unlinked is let go of a moment later, by a record of its own: the next sync has it.
shipped() { ship st "$1" && same "$(lsn st)" "$(lsn "$1")"; }
moments_same() { # moments_same COUNT SEED: m and m2 have the same trees at the same LSNs, up to where both are
	local to
	to=$(lsn st2)
	python3 -c 'import random, sys
r = random.Random(int(sys.argv[3]))
for at in sorted(r.randrange(6000, int(sys.argv[1])) for _ in range(int(sys.argv[2]))) + [int(sys.argv[1]) - 1]:
    print("m/.snapshots/@%d/ m2/.snapshots/@%d/" % (at, at))' "$to" "$1" "$2" | xargs python3 "$tree" --same
}
live_same() { python3 "$tree" m >a.tree && python3 "$tree" m2 >b.tree && cmp a.tree b.tree && [ "$(wc -l <a.tree)" -gt 20 ]; }
start() { "$SPARE" init st >/dev/null && "$SPARE" mount st m -o "log=$WORK/daemon.log" && work 1 500; }
check "a store with a past" start
ship() { "$SPARE" sync "$@" </dev/null; }
while_written() { # while_written SHIP...: the store is written to meanwhile
	work "$RANDOM" 400 & local writer=$!
	"$@" || return 1
	wait "$writer" && "$@"
}
check "to a directory, while it is written to" while_written ship st "$WORK/st2"
mounted_same() { "$SPARE" mount st2 m2 -o "log=$WORK/daemon2.log" && live_same && moments_same 100 1 && "$SPARE" umount m2; }
check "live tree and 100 moments are equal at the same LSN" mounted_same
exact() { exits 0 "$SPARE" check st2 && prints "No damage"; }
check "and check finds nothing" exact

# ---- by ssh

if [ -n "${SSHD-}" ]; then
	by_ssh() { ship st "there:$WORK/st3" --ssh "$SSH" --remote-spare "$SPARE"; }
	check "through sshd, while it is written to" while_written by_ssh
	ssh_same() { mv st2 st2.dir && mv st3 st2 && "$SPARE" mount st2 m2 -o "moved,log=$WORK/daemon2.log" && live_same && moments_same 100 2 && "$SPARE" umount m2 && mv st2 st3 && mv st2.dir st2; }
	check "the same trees there" ssh_same
	moved_back() { cp -a st3 st3.new && rm -rf st3 && mv st3.new st3 && exits 10 "$SPARE" sync st "there:$WORK/st3" --ssh "$SSH" --remote-spare "$SPARE" && says "moved or copied|--moved" && ship st "there:$WORK/st3" --ssh "$SSH" --remote-spare "$SPARE" --moved; }
	check "a standby that lies elsewhere is asked about" moved_back
	added() {
		exits 0 "$SPARE" standby add st "there:$WORK/st3" --ssh "$SSH" --remote-spare "$SPARE" && prints "restrict,command=.*--receive-only" || return 1
		sed -n 's/^  restrict,command="\([^"]*\)".*/restrict,command="\1" /p' "$WORK/out" | tr -d '\n' >sshd/authorized_keys && cat sshd/key.pub >>sshd/authorized_keys
	}
	check "standby add tries the way and prints the line for authorized_keys" added
	only_append() {
		"$SPARE" standby remove st "there:$WORK/st3" && ship st "there:$WORK/st3" --ssh "$SSH" --remote-spare "$SPARE" || return 1
		# whatever that key asks for, it gets the receiving end
		exits 0 $SSH there "rm -rf $WORK/st3" && [ -e st3/super.0 ] && grep -aq SPWM "$WORK/out"
	}
	check "a key bound to it can append, and nothing else" only_append
	cp sshd/key.pub sshd/authorized_keys
	no_way() { exits 22 "$SPARE" sync st "there:$WORK/st3" --ssh "$SSH -p 1" --remote-spare "$SPARE" && says "cannot be reached|let this user in"; }
	check "a host that does not answer: unreachable" no_way
	not_there() { exits 22 "$SPARE" sync st "there:$WORK/st3" --ssh "$SSH" --remote-spare /nonexistent/spare && says "expected spare at the other end"; }
	check "spare is not there: said so" not_there
else
	skip "through sshd" "no ssh server"
fi

# ---- the line

through() { # through TARGET [--new] RELAY_ARG...: one sync with the relay as ssh
	local target=$1 new=
	shift
	[ "$1" != --new ] || { new=--new; shift; }
	ship $new st "there:$target" --ssh "python3 $relay $*" --remote-spare "$SPARE"
}
small() { # an unchanged store: less than 4 KiB in all
	through "$WORK/st4" log=first.log && "$SPARE" umount m && through "$WORK/st4" log=again.log || return 1
	"$SPARE" mount st m -o "log=$WORK/daemon.log"
	awk '{ if ($1 + $2 >= 4096) { print "bytes:", $1 + $2; exit 1 } }' again.log
}
check "a second sync of an unchanged store sends less than 4 KiB" small
cut_at_random() { # in each direction: half of them in the first words, the others anywhere in what is left to be sent
	local way at i left
	for way in up down; do
		left=$(awk -v w=$way '{ print w == "up" ? $1 : $2 }' first.log)
		for i in $(seq "$CUTS"); do
			at=$((RANDOM % 2 ? 1 + RANDOM % 700 : 1 + (RANDOM * 32768 + RANDOM) % left))
			if through "$WORK/cut.$way" --new "$way=$at" log=cuts.log $([ $((RANDOM % 4)) != 0 ] || echo kill=1) 2>>cut.err; then
				rm -rf "cut.$way"        # it was all there before the cut: from the beginning
				echo new >>cuts.log
			fi
		done
		echo new >>cuts.log
	done
	same "$(grep -c ' ' cuts.log)" $((2 * CUTS))
}
check "the line is cut at random bytes in both directions" cut_at_random
ends_equal() {
	local way
	for way in up down; do
		through "$WORK/cut.$way" --new log=last.log && exits 0 "$SPARE" check "cut.$way" && prints "No damage" && same "$(lsn st)" "$(lsn "cut.$way")" || return 1
	done
}
check "it goes on where it was, and ends equal" ends_equal
nothing_twice() { # what a connection begins with was not acknowledged as durable in one before it
	awk '/new/ { acked = 0; next } $3 && $3 < acked { print "line", FNR, "begins @" $3 ", acknowledged @" acked; bad = 1 } $4 > acked { acked = $4 } $3 { n++ } END { exit bad || n < '$((CUTS / 4))' }' cuts.log
}
check "nothing acknowledged was sent again" nothing_twice

# ---- who may be whose standby

wrong_store() { "$SPARE" init other.st >/dev/null && exits 10 "$SPARE" sync st "$WORK/other.st" && says "expected a standby of this store .*another" && exits 0 "$SPARE" check other.st; }
check "another store is refused" wrong_store
anothers() { "$SPARE" sync other.st "$WORK/other.2" && exits 10 "$SPARE" sync st "$WORK/other.2" && says "lineage"; }
check "another's standby is refused" anothers
itself() { exits 2 "$SPARE" sync st "$WORK/st" && says "found the store itself"; }
check "the store itself is refused" itself
writable() { ship st "$WORK/pr" && "$SPARE" promote pr && cp -a pr/log pr.log && exits 24 "$SPARE" sync st "$WORK/pr" && says "itself writable \(epoch 2, here 1\)" && diff -r pr/log pr.log && fails touch m/x && exits 0 "$SPARE" promote m && touch m/x && rm m/x; }
check "a target that is itself writable is refused, and fences; promoted in place the store goes on" writable
parent_gone() { exits 22 "$SPARE" sync st "$WORK/gone/st" && says "parent directory $WORK/gone is gone" && [ ! -e gone ]; }
check "a parent directory that is gone: nothing is made" parent_gone
was_there() { mv st2 st2.away && exits 22 "$SPARE" sync st "$WORK/st2" && says "it was there before" && [ ! -e st2 ] && mv st2.away st2; }
check "a standby that was there and is gone is not made anew" was_there
in_the_way() { mkdir busy.dir && : >busy.dir/mine && exits 1 "$SPARE" sync st "$WORK/busy.dir" && says "expected an empty directory" && same "$(ls busy.dir)" mine; }
check "a directory with something in it is left alone" in_the_way
printf '#!/bin/sh\nexec python3 %s/peer.py\n' "$WORK" >peer && chmod +x peer
old_protocol() {
	cat >peer.py <<-'END'
		import ctypes, glob, os, struct
		x = ctypes.CDLL((glob.glob("/usr/lib/*/libxxhash.so.0") + glob.glob("/usr/lib/libxxhash.so.0"))[0])
		x.XXH3_64bits.restype = ctypes.c_uint64
		h = lambda b: x.XXH3_64bits(b, ctypes.c_size_t(len(b))) & 0xffffffff
		body = struct.pack("<II16s16sIIQQQ16sIIQ", 7, 9, bytes(16), bytes(16), 0, 0, 0, 0, 0, bytes(16), 2, 0, 0)
		head = struct.pack("<IHHII16sQI", 0x4D575053, 1, 0, len(body), 0, bytes(16), 0, h(body))
		os.write(1, head + struct.pack("<I", h(head)) + body)
		while os.read(0, 65536): pass
	END
	exits 2 "$SPARE" sync st "there:$WORK/x" --ssh "$WORK/peer" && says "speaks protocol 7 to 9, this side 1 to 1"
}
check "a protocol that is not spoken here is named" old_protocol
no_spare() { printf '#!/bin/sh\necho hello from a login script\ncat >/dev/null\n' >talk && chmod +x talk && exits 22 "$SPARE" sync st "there:$WORK/x" --ssh "$WORK/talk" && says "something that says \"hello from a login script\""; }
check "what is no spare at the other end is named" no_spare
damaged() { # its last record, and its superblock
	local seg
	rm -rf dam && cp -a st2 dam && ship st "$WORK/dam" --moved >/dev/null && seg=$(ls dam/log/*.seg | tail -n 1) || return 1
	printf 'xxxx' | dd of="$seg" bs=1 seek=$(($(stat -c %s "$seg") - 60)) conv=notrunc status=none
	cp -a dam dam.before && exits 13 "$SPARE" sync st "$WORK/dam" && diff -r dam/log dam.before/log || return 1
	printf 'xxxx' | tee >(dd of=dam/super.0 bs=1 seek=200 conv=notrunc status=none) | dd of=dam/super.1 bs=1 seek=200 conv=notrunc status=none
	exits 13 "$SPARE" sync st "$WORK/dam" && says "superblock"
}
check "a damaged standby is named, and left as it is" damaged
full() {
	mkdir full && mount -t tmpfs -o size=90m tmpfs full && ship st "$WORK/full/st" || return 1
	dd if=/dev/zero of="$WORK/full/fill" bs=64k count=100000 2>/dev/null
	work 77 100
	dd if=/dev/urandom of="m/big" bs=1M count=80 status=none
	exits 14 "$SPARE" sync st "$WORK/full/st" && says "[Nn]o space" || return 1
	rm full/fill m/big
	mount -o remount,size=300m full
	ship st "$WORK/full/st" && until_true shipped "$WORK/full/st" && exits 0 "$SPARE" check full/st && prints "No damage" && umount full
}
check "a full standby says so, and goes on when there is room" full

# ---- following, and the last day

follows() {
	"$SPARE" mount st2 m2 -o "log=$WORK/daemon2.log" && { "$SPARE" sync --follow st "$WORK/st2" 2>follow.err & FOLLOW=$!; } || return 1
	work 99 200 && echo now >m/now && "$SPARE" wait --on standby m/now && same now "$(cat m2/now)" && rm m/now && "$SPARE" wait --on standby m && fails cat m2/now
}
check "it follows: wait --on standby, then it is seen there, new and gone" follows
told() {
	until_true sh -c "'$SPARE' status m | grep -q 'RPO .*st2: Protected; behind by 0 s, 0 B, 0 operations'" || { "$SPARE" status m; return 1; }
	exits 0 "$SPARE" status m2 && prints "role +standby" && prints "state +Protected" && exits 0 "$SPARE" standby list m && prints "Protected +$WORK/st2"
}
check "status tells on both sides" told
no_writes() { fails touch m2/x && fails mkdir m2/d && exits 24 "$SPARE" snapshot create n --store m2 && says "another site is primary"; }
check "nothing is written at a standby" no_writes
second() { exits 11 "$SPARE" sync st "$WORK/st2" && says "one sender at a time"; }
check "a second stream into it is refused" second
away() {
	kill -INT "$FOLLOW" && { wait "$FOLLOW"; [ $? = 130 ]; } && until_true sh -c "'$SPARE' status m | grep -q 'Standby away'" || return 1
	echo more >m/more && exits 22 "$SPARE" wait m --on standby --timeout 0.2
}
check "with nobody following, status and wait say so" away
last_day() {
	"$SPARE" umount m && python3 - <<-END || return 1
		import shutil; shutil.rmtree("$WORK/st")     # the primary is gone
	END
	"$SPARE" promote st2 && "$SPARE" mount st2 m2 -o "log=$WORK/daemon2.log" && python3 "$tree" m2 >b.tree && cmp a.tree b.tree && echo on >m2/on && "$SPARE" log m2/d1 | grep -q .
}
"$SPARE" sync st "$WORK/st2" >/dev/null && python3 "$tree" m >a.tree
carried() { # its disk was brought to where nobody has seen it
	"$SPARE" umount m2 && cp -a st2 st5 && mkdir m5 && exits 10 "$SPARE" promote st5 && says "say --moved" && "$SPARE" promote st5 --moved && "$SPARE" mount st5 m5 || return 1
	python3 "$tree" m5 >c.tree && cmp a.tree c.tree && echo on >m5/on && "$SPARE" umount m5
}
check "a standby on a disk that was carried elsewhere is promoted there" carried
check "the primary is gone: promote, mount, and all is there to go on" last_day
once_only() { "$SPARE" umount m2 && exits 2 "$SPARE" promote st2 && says "is primary already"; }
check "what is primary is not promoted" once_only
finish
