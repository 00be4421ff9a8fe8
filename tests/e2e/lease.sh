#!/bin/bash
# lease.sh: a primary whose standby gives it a lease: it needs one once it has begun, takes no changes without, goes on by itself; the standby is promoted behind its end. Environment: tests/lib/tap.sh
set -u
. "${SPARE_SRC:?}/tests/lib/tap.sh"
need_fuse
need_root
cleanup() { local m; for m in m m2; do umount -l "$WORK/$m" 2>/dev/null; done; }
trap cleanup EXIT
mkdir m m2
state() { "$SPARE" status --json "$1" | python3 -c 'import json, sys; print(json.load(sys.stdin)["'"$2"'"])'; }
lease() { "$SPARE" status --json "$1" | python3 -c 'import json, sys; print(json.load(sys.stdin)["lease"]["state"])'; }
is() { [ "$("$1" "$2" ${4:+"$4"} 2>/dev/null)" = "$3" ]; }

begins() {
	"$SPARE" init st >/dev/null && "$SPARE" mount st m -o "log=$WORK/daemon.log" && exits 2 "$SPARE" config set m "lease=5s $WORK/st2" && exits 2 "$SPARE" config set m lease=30 &&
		"$SPARE" standby add m "$WORK/st2" && until_true is state m Protected state && "$SPARE" config set m "lease=5s $WORK/st2" >/dev/null && until_true is lease m held && echo one >m/f
}
check "it begins with the first acknowledgement, and changes go on" begins
runs_out() {
	"$SPARE" standby pause m && until_true is lease m out && [ "$(state m state)" = Fenced ] && exits 24 "$SPARE" status m && prints '^lease  *out: no change is taken' || return 1
	until_true fails touch m/refused && same one "$(cat m/f)" && fails test -e m/refused
}
check "without, no change is taken, status says so, reads go on" runs_out
comes_back() { "$SPARE" standby resume m && until_true is lease m held && until_true touch m/g && until_true is state m Protected state && "$SPARE" status m >out && grep -q '^lease  *held, of 5 s$' out; }
check "given again, it goes on by itself" comes_back
giver() { exits 11 "$SPARE" standby remove m "$WORK/st2" && says 'config set .* lease=' && is lease m held; }
check "who gives it is not removed" giver
promoted() {
	"$SPARE" mount st2 m2 -o "log=$WORK/daemon2.log" && until_true is state m Protected state && until_true is lease m held && "$SPARE" umount m &&
		exits 0 "$SPARE" promote m2 && says 'lease of this standby' && echo two >m2/h && same one "$(cat m2/f)"
}
check "the standby is promoted behind its end" promoted
# The first change is refused: it waits for a lease and gets none, or the other side was met before.
fenced() {
	"$SPARE" mount st m -o "log=$WORK/daemon.log" && fails touch m/late && fails test -e m/late && "$SPARE" umount m && fails grep -q 'ended with code' daemon.log && "$SPARE" check st >/dev/null
}
check "the primary of before takes no change, met or not" fenced
word() {
	exits 0 "$SPARE" demote st && { "$SPARE" sync m2 "$WORK/st" >/dev/null 2>&1; "$SPARE" standby add m2 "$WORK/st"; } && until_true is state m2 Protected state && "$SPARE" config set m2 "lease=1h $WORK/st" >/dev/null && until_true is lease m2 held &&
		echo three >m2/i && until_true is state m2 Protected state && "$SPARE" umount m2 && exits 0 "$SPARE" promote st --unfenced && ! says 'lease of this standby' >/dev/null && "$SPARE" mount st m -o "log=$WORK/daemon.log" && echo four >m/j && "$SPARE" umount m &&
		"$SPARE" check st >/dev/null && "$SPARE" check st2 >/dev/null
}
check "by a person's word it is promoted at once" word
finish
