#!/bin/bash
# branch.sh: what an old primary held that the new one did not: kept, listed, shown file by file, read, mounted, removed. Environment: tests/lib/tap.sh.
set -u
. "${SPARE_SRC:?}/tests/lib/tap.sh"
need_root
need_fuse
cleanup() { local d; for d in m m2 mb; do umount -l "$WORK/$d" 2>/dev/null; done; }
trap cleanup EXIT
mkdir m m2 mb

parts() { # a: what was not shipped; b: promoted, and worked in
	"$SPARE" init a >/dev/null && "$SPARE" mount a m && echo one >m/one && echo two >m/two && echo moved >m/from && mkdir m/d && echo deep >m/d/deep && "$SPARE" sync a "$WORK/b" >/dev/null || return 1
	echo late >m/late && echo mine >m/one && mv m/from m/to && rm m/d/deep && "$SPARE" umount m || return 1
	"$SPARE" promote b >/dev/null && "$SPARE" mount b m2 && echo theirs >m2/one && echo changed >m2/from && echo new >m2/new && "$SPARE" umount m2
}
check "two sites go different ways" parts
nothing_yet() { exits 0 "$SPARE" branch list a && [ ! -s out ] && exits 1 "$SPARE" branch show nosuch a && says 'expected a branch of'; }
check "there is no branch yet" nothing_yet
back() {
	exits 24 "$SPARE" sync b "$WORK/a" && says 'spare demote' && exits 0 "$SPARE" demote a && exits 22 "$SPARE" sync b "$WORK/a" && says 'keeps what it has beyond as a branch' && exits 0 "$SPARE" sync b "$WORK/a" &&
		 same theirs "$("$SPARE" cat one --at now --store a)" && fails "$SPARE" cat late --at now --store a
}
check "the old primary follows the new one" back
listed() { exits 0 "$SPARE" branch list a && same 1 "$(wc -l <out)" && prints 'parted .*, ends' && NAME=$(cut -d' ' -f1 out) && [ -d "a/branches/$NAME" ]; }
check "what it had is a branch" listed
shown() {
	exits 0 "$SPARE" branch show "$NAME" a && prints '^  \+ .* late$' && prints '^! M .* one$' && prints '^! R .* to  \(was from\)$' && prints '^  - .* d/deep$' && ! grep -q two out && says '2 of them to what has changed' &&
		exits 0 "$SPARE" --json branch show "$NAME" a && same 2 "$(grep -c '"changed_since_in_store": *true' out)"
}
check "each change of it, and what both sides changed, by either name" shown
read_it() {
	same late "$("$SPARE" cat late --at now --store "a/branches/$NAME")" && same mine "$("$SPARE" cat one --at now --store "a/branches/$NAME")" && "$SPARE" mount -o ro "a/branches/$NAME" mb && same moved "$(cat mb/to)" &&
		fails touch mb/x && exits 11 "$SPARE" branch remove "$NAME" a && says 'found it mounted' && same late "$(cat mb/late)" && "$SPARE" umount mb
}
check "it can be read, mounted, not written, not removed while it is mounted" read_it
whole() { exits 0 "$SPARE" check --read-data a && prints 'No damage' && exits 0 "$SPARE" check --read-data "a/branches/$NAME" && prints 'No damage'; }
check "both are whole" whole
removed() { exits 0 "$SPARE" branch remove "$NAME" a && exits 0 "$SPARE" branch list a && [ ! -s out ] && exits 0 "$SPARE" check --read-data a && same theirs "$("$SPARE" cat one --at now --store a)"; }
check "removed, and the store is as before" removed
finish
