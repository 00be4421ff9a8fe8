#!/bin/bash
# torture.sh: random operations of every kind through a mount next to the model, then past moments against the model as it
# was, before and after a restart. Environment: tests/lib/tap.sh; TORTURE_OPS (2000), TORTURE_MOMENTS (60), TORTURE_SEED (1).
set -u
. "${SPARE_SRC:?}/tests/lib/tap.sh"
need_root
need_fuse
cleanup() { umount -l "$WORK/m" 2>/dev/null; }
trap cleanup EXIT
mkdir m
check init "$SPARE" init st
check mount timeout 60 "$SPARE" mount st m -o "log=$WORK/daemon.log"
# Its output is TAP of its own: each result is one of ours.
while IFS= read -r line; do
	case $line in
	'ok '*) check "${line#*- }" true ;;
	'not ok '*) check "${line#*- }" false ;;
	1..*) planned=${line#1..} ;;
	'exit '*) ended=${line#exit } ;;
	*) echo "$line" ;;
	esac
done < <("$(tool e2e/torture)" --seed "${TORTURE_SEED:-1}" --ops "${TORTURE_OPS:-2000}" --moments "${TORTURE_MOMENTS:-60}" \
	--spare "$SPARE" "$WORK/st" "$WORK/m"; echo "exit $?") 
check "it ran to its end" test "${ended-}" = 0 -a "${planned:-0}" -gt 0 -a $n -eq $((2 + ${planned:-0}))
check "check finds nothing" exits 0 "$SPARE" check --read-data m
check unmount timeout 60 "$SPARE" umount m
check "no message of trouble" bash -c '! grep -v "^$" "$1"' - "$WORK/daemon.log"
finish
