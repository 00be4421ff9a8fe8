#!/bin/bash
# commit.sh: a failover by hand: not final until a person says so or the old primary follows; the way back, on which what was written meanwhile stays as a branch. Environment: tests/lib/tap.sh.
set -u
. "${SPARE_SRC:?}/tests/lib/tap.sh"
need_root
need_fuse
cleanup() { local d; for d in m m2; do umount -l "$WORK/$d" 2>/dev/null; done; }
trap cleanup EXIT
mkdir m m2
word() { "$SPARE" status "$1" --json | grep -q "\"state\": *\"$2\""; }
begun() { # a: two files, one of them not shipped; b: promoted, and worked in
	rm -rf a b && "$SPARE" init a >/dev/null && "$SPARE" mount a m && echo one >m/one && "$SPARE" sync a "$WORK/b" >/dev/null && echo late >m/late && "$SPARE" umount m &&
		exits 0 "$SPARE" promote b && "$SPARE" mount b m2 && echo theirs >m2/one && echo new >m2/new && "$SPARE" umount m2
}
before() { begun && word b 'Failed over, before commit' && exits 0 "$SPARE" status b && prints 'promote --commit' && ! word a 'Failed over, before commit'; }
check "a promoted standby says that it is not final" before
untouched() { "$SPARE" mount b m2 && word m2 'Failed over, before commit' && exits 24 "$SPARE" sync a "$WORK/b" && "$SPARE" umount m2 && same late "$("$SPARE" cat late --at now --store a)" && [ ! -e a/branches ]; }
check "the old one has what it had; met, it takes no writes" untouched
back() { # what the man page says
	exits 0 "$SPARE" demote b && exits 0 "$SPARE" promote a && ! word a 'Failed over, before commit' && same late "$("$SPARE" cat late --at now --store a)" && same one "$("$SPARE" cat one --at now --store a)" &&
		"$SPARE" mount a m && echo on >m/on && "$SPARE" umount m && exits 22 "$SPARE" sync a "$WORK/b" && says 'keeps what it has beyond as a branch' && exits 0 "$SPARE" sync a "$WORK/b" && same on "$("$SPARE" cat on --at now --store b)" && fails "$SPARE" cat new --at now --store b
}
check "the way back: b demoted, a promoted, and b follows" back
kept() {
	B=$("$SPARE" branch list b | cut -d' ' -f1) && same theirs "$("$SPARE" cat one --at now --store "b/branches/$B")" && same new "$("$SPARE" cat new --at now --store "b/branches/$B")" && exits 0 "$SPARE" branch show "$B" b && prints '\+ .* new$' &&
		exits 0 "$SPARE" check --read-data a && exits 0 "$SPARE" check --read-data b && exits 0 "$SPARE" status a --json && prints '"epoch": *3'
}
check "what was written at b is a branch there, and both are whole" kept
mounted() { # the same with both in use, and met from the other side
	begun && "$SPARE" mount a m && "$SPARE" mount b m2 && exits 24 "$SPARE" sync b "$WORK/a" && until_true fails touch m/x && exits 0 "$SPARE" demote b && exits 0 "$SPARE" promote a && until_true touch m/y && fails touch m2/z && same late "$(cat m/late)" && "$SPARE" umount m2 &&
		{ "$SPARE" sync a "$WORK/b"; exits 0 "$SPARE" sync a "$WORK/b"; } && [ -n "$("$SPARE" branch list b)" ] && "$SPARE" umount m
}
check "of stores that are mounted: the old one is writable again where it was" mounted
final() {
	begun && exits 0 "$SPARE" promote --commit b && prints 'for good' && ! word b 'Failed over, before commit' && exits 0 "$SPARE" promote --commit b && exits 10 "$SPARE" promote --commit nosuch
}
check "committed by a person, once or twice" final
at_once() { begun && "$SPARE" demote b >/dev/null && exits 0 "$SPARE" promote --commit b && ! word b 'Failed over, before commit' && exits 0 "$SPARE" --json promote --commit b && prints '"role": *"primary"'; }
check "promoted for good at once" at_once
follows() { begun && exits 0 "$SPARE" demote a && { "$SPARE" sync b "$WORK/a"; exits 0 "$SPARE" sync b "$WORK/a"; } && ! word b 'Failed over, before commit' && [ -n "$("$SPARE" branch list a)" ]; }
check "committed by the old primary, which follows" follows
planned() { rm -rf a b && "$SPARE" init a >/dev/null && "$SPARE" mount a m && echo one >m/one && exits 0 "$SPARE" sync a "$WORK/b" && exits 0 "$SPARE" switchover a "$WORK/b" && ! word b 'Failed over, before commit' && "$SPARE" umount m; }
check "a planned switchover has nothing to commit" planned
finish
