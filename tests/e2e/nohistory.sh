#!/bin/bash
# nohistory.sh: directories and names of which no history is kept: what is in them is there, and in no snapshot; what is moved in and out; restore leaves it alone; a
# directory with a CACHEDIR.TAG; what the commands say; after a restart and with an index made anew all is the same. Environment: tests/lib/tap.sh
set -u
. "${SPARE_SRC:?}/tests/lib/tap.sh"
need_root
need_fuse
mnt=$WORK/m snap=$WORK/m/.snapshots attr=user.spare.nohistory
cleanup() { umount -l "$mnt" 2>/dev/null; }
trap cleanup EXIT
mkdir m

names() { (cd "$1" && find . -mindepth 1 -name .snapshots -prune -o -mindepth 1 -print | sort | tr '\n' ' '); }
digest() { python3 "$SPARE_SRC/tests/lib/tree.py" "$1"; }
moment() { "$SPARE" snapshot create "$1" --store m >/dev/null; }
mount_it() { "$SPARE" mount st m -o "log=$WORK/daemon.log"; }

start() {
	"$SPARE" init st >/dev/null && mount_it && mkdir -p m/p/src m/p/target && echo one >m/p/src/main && setfattr -n $attr -v 1 m/p/target && same 1 "$(getfattr --only-values -n $attr m/p/target)" || return 1
	mkdir -p m/p/target/debug/deps && echo object >m/p/target/debug/deps/x.o && ln m/p/target/debug/deps/x.o m/p/target/debug/x && moment first
}
check "a directory that keeps no history, worked in" start
absent() { same "./p ./p/src ./p/src/main ./p/target " "$(names "$snap/first")" && same "./debug ./debug/deps ./debug/deps/x.o ./debug/x " "$(names m/p/target)" && [ ! -s "$snap/first/p/target/debug" ] && [ -z "$(ls m/p/target/debug/.snapshots)" ]; }
check "a snapshot shows it, and nothing of what is in it" absent
moves() { # as git and cargo do: written aside, renamed into place, replaced; a tree moved within
	local i
	for i in 1 2 3 4 5; do echo "object $i" >m/p/target/debug/.tmp && mv m/p/target/debug/.tmp m/p/target/debug/out || return 1; done
	mkdir m/p/target/stage && echo a >m/p/target/stage/a && mv m/p/target/stage m/p/target/release && mv m/p/target/release/a m/p/target/debug/a && rmdir m/p/target/release && same a "$(cat m/p/target/debug/a)" &&
		exits 1 "$SPARE" log m/p/target/debug/out && says 'no history is kept of it: p/target has the attribute user.spare.nohistory.*setfattr -x' && exits 1 "$SPARE" undo m/p/target/debug/out && says 'no history is kept'
}
check "files replaced and trees moved within it; log and undo say why there is nothing" moves
out() {
	mv m/p/target/debug/out m/p/out && moment second && echo later >m/p/out && same "object 5" "$(cat "$snap/second/p/out")" && exits 0 "$SPARE" log m/p/out && exits 0 "$SPARE" undo m/p/out && same "object 5" "$(cat m/p/out)"
}
check "a file moved out has a history from then on" out
over() {
	echo mine >m/p/notes && moment third && echo built >m/p/target/notes && mv m/p/target/notes m/p/notes && same built "$(cat m/p/notes)" && same mine "$(cat "$snap/third/p/notes")" && exits 0 "$SPARE" undo m/p/notes && same mine "$(cat m/p/notes)"
}
check "one moved over a file: what that held is in the past" over
away() { # mv falls back to a copy
	fails python3 -c 'import os, sys; os.rename(sys.argv[1], sys.argv[2])' m/p/target/debug m/p/debug && python3 -c 'import errno, os, sys
try: os.rename(sys.argv[1], sys.argv[2])
except OSError as e: sys.exit(e.errno != errno.EXDEV)' m/p/target/debug m/p/debug && mv m/p/target/debug m/p/debug && same object "$(cat m/p/debug/deps/x.o)" && [ ! -e m/p/target/debug ] && moment fourth && same object "$(cat "$snap/fourth/p/debug/deps/x.o")" && mv m/p/debug m/p/target/
}
check "a directory is not renamed out (EXDEV); mv copies it, and the copy has a history" away
in_() { mkdir m/p/keep && echo kept >m/p/keep/f && mv m/p/keep m/p/target/keep && echo kept2 >m/p/target/keep/f && moment fifth && same kept2 "$(cat "$snap/fifth/p/target/keep/f")" && mv m/p/target/keep m/p/keep; }
check "a directory moved in keeps its history, and goes out again" in_
restored() {
	echo broken >m/p/src/main && mkdir m/p/target/fresh && echo blob >m/p/target/fresh/blob && digest m/p/target >target.before && mkdir -p m/p/extra/cache && setfattr -n $attr -v 1 m/p/extra/cache && echo c >m/p/extra/cache/c && echo v >m/p/extra/v &&
		exits 0 "$SPARE" restore m/p --at first --delete-extra && prints '[0-9]+ not removed, since no history is kept' && same one "$(cat m/p/src/main)" && [ ! -e m/p/extra/v ] && same c "$(cat m/p/extra/cache/c)" && same blob "$(cat m/p/target/fresh/blob)" &&
		same "./fresh ./fresh/blob " "$(names m/p/target | sed 's/\.\/debug[^ ]* //g')" && exits 0 getfattr -n $attr m/p/target
}
check "restore of the tree around it, with --delete-extra, leaves it alone" restored
in_the_way() {
	echo old >m/p/w && moment sixth && rm m/p/w && setfattr -n $attr -v 1 m/p && echo new >m/p/w && exits 1 "$SPARE" restore m/p/w --at sixth && says 'keeps no history' && exits 3 "$SPARE" restore m/p --at sixth && says '1 not restored.*the first is p/w' &&
		same new "$(cat m/p/w)" && exits 0 "$SPARE" restore m/p/w --at sixth --to m/w && same old "$(cat m/w)" && setfattr -x $attr m/p
}
check "what has no history does not give way to what is restored; the command says so" in_the_way
asked() {
	exits 1 "$SPARE" cat m/p/target/fresh/blob --at now && says 'no history is kept of it' && exits 0 "$SPARE" cat m/p/target/fresh/blob && prints blob && exits 0 "$SPARE" log m/p/target && says 'no history is kept of what is made in it' &&
		fails grep -q fresh out && exits 1 "$SPARE" log m/p/target/fresh && says 'no history' && exits 0 "$SPARE" diff --from sixth m && fails grep -q 'target/' out && exits 0 "$SPARE" find --deleted '.tmp' --store m && [ ! -s out ]
}
check "cat, log, diff and find pass over it, and say so" asked
patterns() {
	exits 2 "$SPARE" config set m 'nohistory=*.o a/b' && says 'nohistory a/b: expected a pattern for names' && exits 2 "$SPARE" config set m 'nohistory=*' && says 'expected a pattern with a letter' && exits 0 "$SPARE" config set m 'nohistory=*.o  node_modules CACHEDIR.TAG' &&
		exits 0 "$SPARE" retain show m && prints '^nohistory +\*\.o node_modules CACHEDIR\.TAG' && mkdir -p m/q/node_modules/left && echo x >m/q/a.o && echo y >m/q/a.c && echo z >m/q/node_modules/left/index.js && moment seventh && same "./a.c " "$(names "$snap/seventh/q")" &&
		exits 1 "$SPARE" log m/q/a.o && says 'the setting nohistory'
}
check "names that the setting has, in a mounted store at once; bad patterns are refused" patterns
tagged() {
	local before after
	mkdir m/r && before=$(stat -c %Z.%z m/r) && printf 'Signature: 8a477f597d28d172789f06886806bc55\n# a cache\n' >m/r/CACHEDIR.TAG && after=$(stat -c %Z.%z m/r) && [ "$before" != "$after" ] && same CACHEDIR.TAG "$(getfattr --only-values -n $attr m/r)" && echo x >m/r/x &&
		moment eighth && same "./CACHEDIR.TAG " "$(names "$snap/eighth/r")"
}
check "a directory in which a CACHEDIR.TAG is written" tagged
again() {
	local n
	digest m >live.before && for n in first fifth eighth; do digest "$snap/$n/" >"before.$n"; done
	"$SPARE" umount m && { [ "$1" = restart ] || exits 0 "$SPARE" rebuild-index st; } && mount_it && digest m >live.after && cmp live.before live.after || return 1
	for n in first fifth eighth; do digest "$snap/$n/" >after && cmp after "before.$n" || return 1; done
	echo x >m/q/b.o && exits 1 "$SPARE" log m/q/b.o && exits 0 "$SPARE" check m --read-data && prints 'No damage'
}
check "after a restart it is the same" again restart
check "and with an index made anew" again rebuild
check "umount at the end" "$SPARE" umount m
finish
