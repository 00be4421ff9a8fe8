#!/bin/bash
# fork.sh: a writable copy of a moment: of a store that is mounted and written to, of one nobody has open, of a standby that follows, of a branch; each goes on by itself. Environment: tests/lib/tap.sh.
set -u
. "${SPARE_SRC:?}/tests/lib/tap.sh"
need_root
need_fuse
cleanup() { local d; for d in m mf ms; do umount -l "$WORK/$d" 2>/dev/null; done; }
trap cleanup EXIT
mkdir m mf ms
shared() { find a/log a/packs a/archive -type f -links +1 -print0 | sort -z | xargs -0r md5sum; }

setup() {
	"$SPARE" init a >/dev/null && "$SPARE" mount a m && mkdir m/d && echo one >m/one && echo deep >m/d/deep && seq 20000 >m/d/big && ln m/one m/hard && sync m/one && "$SPARE" snapshot create first --store a >/dev/null &&
		"$SPARE" reclaim a >/dev/null && echo two >m/one && rm m/d/deep
}
check "a store with something packed, and a snapshot" setup
none() { exits 0 "$SPARE" fork list a && [ ! -s out ] && exits 2 "$SPARE" fork 'a/b' a && says 'expected the name of a fork' && exits 1 "$SPARE" fork remove nosuch a && says 'found none of that name'; }
check "there is no fork yet, and not any name will do" none
made() {
	( i=0; while [ ! -e stop ]; do echo "$i" >m/w$((i % 50)); i=$((i + 1)); done ) & local pid=$! rc=1
	until_true test -e m/w49 && exits 0 "$SPARE" --json fork f a && rc=0
	: >stop; wait $pid; rm stop
	[ $rc -eq 0 ] && prints '"forked_lsn"' && [ -d a/forks/f ] && same two "$("$SPARE" cat one --at now --store a/forks/f)" && exits 0 "$SPARE" fork list a && prints '^f  made .*, of ' && exits 1 "$SPARE" fork f a && says 'found one'
}
check "made while the store is written to" made
same_moment() { # the fork is the moment it names: both read the same there
	local at; at=@$("$SPARE" --json fork list a | sed -n 's/.*"forked_lsn": *\([0-9]*\).*/\1/p')
	exits 0 "$SPARE" diff --from "$at" --to now --store a/forks/f && [ ! -s out ] &&
		for f in one d/big w1 w2 w49; do "$SPARE" cat $f --at "$at" --store a >there && "$SPARE" cat $f --at now --store a/forks/f >here && cmp there here || return 1; done
}
check "it is the very moment it names" same_moment
apart() {
	shared >before && [ -s before ] && "$SPARE" mount a/forks/f mf && same two "$(cat mf/one)" && [ "$(stat -c %i mf/one)" = "$(stat -c %i mf/hard)" ] && echo forked >mf/one && echo new >mf/new && rm mf/d/big && echo mine >m/mine &&
		fails cat m/new && fails cat mf/mine && same two "$(cat m/one)" && [ -s m/d/big ] && same one "$(cat "mf/.snapshots/first/one")" && "$SPARE" undo mf/one && same two "$(cat mf/one)" && echo forked >mf/one &&
		"$SPARE" reclaim a/forks/f >/dev/null && exits 11 "$SPARE" fork remove f a && says 'found it mounted' && "$SPARE" umount mf && md5sum -c --quiet --ignore-missing before
}
check "what is written in one is not in the other, and no file that both have has changed" apart
status() { exits 0 "$SPARE" --json status a/forks/f && prints '"role": *"primary"' && exits 0 "$SPARE" standby list a/forks/f && [ ! -s out ]; }
check "it is a primary of its own, and ships to nobody" status
whole() { exits 0 "$SPARE" check --read-data a && prints 'No damage' && exits 0 "$SPARE" check --read-data a/forks/f && prints 'No damage'; }
check "both are whole" whole
lineage() { exits 1 "$SPARE" sync a/forks/f "$WORK/a" || exits 10 "$SPARE" sync a/forks/f "$WORK/a"; says 'lineage'; }
check "it is not taken for a standby of its original, nor the other way" lineage
its_standby() {
	exits 0 "$SPARE" sync a/forks/f "$WORK/fs" && same forked "$("$SPARE" cat one --at now --store fs)" && exits 0 "$SPARE" check --read-data fs && prints 'No damage' && exits 0 "$SPARE" promote fs && same forked "$("$SPARE" cat one --at now --store fs)" &&
		exits 0 "$SPARE" rebuild-index a/forks/f && exits 0 "$SPARE" check a/forks/f
}
check "it has standbys like any other, and its index can be made anew" its_standby
then_() {
	exits 0 "$SPARE" fork old --at first a && same one "$("$SPARE" cat one --at now --store a/forks/old)" && same deep "$("$SPARE" cat d/deep --at now --store a/forks/old)" && fails "$SPARE" cat mine --at now --store a/forks/old &&
		"$SPARE" mount a/forks/old mf && diff -r mf mf/.snapshots/first/ && same 2 "$(stat -c %h mf/one)" && "$SPARE" umount mf && exits 0 "$SPARE" check --read-data a/forks/old && prints 'No damage'
}
check "of a moment of the past" then_
closed() {
	"$SPARE" umount m && exits 0 "$SPARE" fork g a && same mine "$("$SPARE" cat mine --at now --store a/forks/g)" && exits 0 "$SPARE" fork h a/forks/g && exits 1 "$SPARE" fork remove g a && says 'forks of its own, found h' &&
		exits 0 "$SPARE" fork remove h a/forks/g && exits 0 "$SPARE" fork remove g a && [ ! -e a/forks/g ]
}
check "of a store nobody has open; a fork of a fork" closed
standby() {
	"$SPARE" mount a m && exits 0 "$SPARE" sync a "$WORK/s" && "$SPARE" mount s ms && exits 0 "$SPARE" standby add a "$WORK/s" && echo shipped >m/shipped && exits 0 "$SPARE" wait m/shipped --on "$WORK/s" --timeout 20 && exits 0 "$SPARE" fork drill s &&
		same shipped "$("$SPARE" cat shipped --at now --store s/forks/drill)" && "$SPARE" mount s/forks/drill mf && echo drilled >mf/shipped && "$SPARE" umount mf && echo on >m/on && exits 0 "$SPARE" wait m/on --on "$WORK/s" --timeout 20 &&
		same on "$(cat ms/on)" && same shipped "$(cat ms/shipped)" && exits 0 "$SPARE" check --read-data s/forks/drill && prints 'No damage'
}
check "of a standby that goes on following" standby
copied() { # behind its back, in use, and told so
	cp -a a c && rm -f c/control && exits 10 "$SPARE" mount c mf && says '--copied if the other one still exists' && exits 0 "$SPARE" mount --copied c mf && says 'a store of its own from now on' && same on "$(cat mf/on)" && echo copy >mf/on || return 1
	exits 11 "$SPARE" sync mf "$WORK/s" && says 'one sender at a time' && exits 0 "$SPARE" standby pause m "$WORK/s" && until_true eval '"$SPARE" sync mf "$WORK/s" 2>err; [ $? = 10 ]' && says 'of another lineage \(.*which this one was forked from, or copied, @[0-9]' && exits 10 "$SPARE" sync m "$WORK/c" && says 'of another lineage \(.*forked from this one, or copied, @[0-9]' || return 1
	echo original >m/on && exits 0 "$SPARE" standby resume m "$WORK/s" && exits 0 "$SPARE" wait m/on --on "$WORK/s" --timeout 20 && same original "$(cat ms/on)" && same copy "$(cat mf/on)" && exits 0 "$SPARE" status --json m && prints '"role": *"primary"' && prints '"epoch": *1,' || return 1
	exits 0 "$SPARE" standby list c && [ ! -s out ] && exits 0 "$SPARE" status c && prints '^fork  *a store of its own since @[0-9]' && exits 0 "$SPARE" undo mf/on && same on "$(cat mf/on)" && "$SPARE" umount mf && "$SPARE" mount c mf && "$SPARE" umount mf &&
		exits 0 "$SPARE" sync c "$WORK/cs" && same on "$("$SPARE" cat on --at now --store cs)" && exits 0 "$SPARE" check --read-data c && prints 'No damage' && exits 0 "$SPARE" rebuild-index c && exits 0 "$SPARE" check c
}
check "a copy is as a fork is: while it is mounted the original stays the primary of its standby, and each is refused by name" copied
again() { # c is one already, and nobody has it open
	md5sum c/super.* >before && exits 2 "$SPARE" mount -o copied c mf && says 'a store of its own already; leave --copied away' && md5sum -c --quiet before || return 1
	cp -a c c2 && exits 2 "$SPARE" promote c2 --copied && says 'expected the copy of a standby, found that of a primary' && exits 2 "$SPARE" sync m "$WORK/c2" --copied && says 'expected the copy of a standby' && exits 10 "$SPARE" mount c2 mf && says '--copied if' || return 1
	exits 0 "$SPARE" mount --copied c2 mf && "$SPARE" umount mf && exits 0 "$SPARE" check c2 && cp c/retained.* c2/ && exits 13 "$SPARE" check c2 && prints 'retained.0: expected the lineage of the superblock, found that of the store' && exits 13 "$SPARE" mount c2 mf && says 'it belongs to another store'
}
check "said again it changes nothing; a command for standbys makes no store of its own; a retained set of its original's is none" again
space() { exits 0 "$SPARE" space a && prints 'beside these: forks' && prints 'of these: .* fork' && exits 0 "$SPARE" --json space a/forks/old && prints '"linked_bytes": *[1-9]'; }
check "what forks hold is said" space
part() {
	cp -a a/forks/old a/forks/x.part && exits 3 "$SPARE" fork list a && says 'x.part' && exits 0 "$SPARE" fork x a && exits 0 "$SPARE" fork remove x a && cp -a a/forks/old a/forks/x.part && exits 0 "$SPARE" fork remove x a && [ ! -e a/forks/x.part ]
}
check "what a try that was cut off left is made anew, or goes" part
removed() {
	exits 0 "$SPARE" fork remove f a && exits 0 "$SPARE" fork remove old a && exits 0 "$SPARE" fork list a && [ ! -s out ] && "$SPARE" umount ms && "$SPARE" umount m && exits 0 "$SPARE" check --read-data a && prints 'No damage' && same two "$("$SPARE" cat one --at now --store a)"
}
check "removed, and the store is as before" removed
branch() {
	exits 0 "$SPARE" promote s && "$SPARE" mount s ms && echo theirs >ms/one && "$SPARE" umount ms && "$SPARE" mount a m && echo lost >m/lost && "$SPARE" umount m && exits 0 "$SPARE" demote a && exits 22 "$SPARE" sync s "$WORK/a" && exits 0 "$SPARE" sync s "$WORK/a" &&
		B=$("$SPARE" branch list a | cut -d' ' -f1) && exits 0 "$SPARE" fork saved "a/branches/$B" && same lost "$("$SPARE" cat lost --at now --store a/forks/saved)" && exits 0 "$SPARE" branch remove "$B" a && "$SPARE" mount a/forks/saved mf && echo more >mf/lost && "$SPARE" umount mf &&
		exits 0 "$SPARE" check --read-data a/forks/saved && prints 'No damage'
}
check "of a branch, which may go then" branch
finish
