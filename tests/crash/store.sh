#!/bin/bash
# store.sh: a whole store, RocksDB included, on powerfs; cut in many ways, recovered and compared with the model.
# Environment: tests/lib/tap.sh; STORE_CUT_STATES (300) crash states at least, from STORE_CUT_SEED (1) on.
set -u
. "${SPARE_SRC:?}/tests/lib/tap.sh"
. "$SPARE_SRC/tests/lib/powerfs.sh"
need_root
need_fuse
trap powerfs_stop EXIT
check "powerfs" powerfs_start
run() {
	"$(tool crash/store_on_powerfs)" "$PFS" "$PFS_CTL" "${STORE_CUT_SEED:-1}" "${STORE_CUT_STATES:-300}" >"$WORK/store.out" 2>&1
	local rc=$?
	cat "$WORK/store.out"
	return $rc
}
check "store_survives_${STORE_CUT_STATES:-300}_power_cuts" run
tail -n 1 store.out
# Cuts that lose nothing prove nothing.
bit() { [ "$(sed -n 's/.*lost what was not synced \([0-9]*\).*/\1/p' store.out)" -gt 0 ] && [ "$(sed -n 's/.*torn tail \([0-9]*\).*/\1/p' store.out)" -gt 0 ]; }
check "some lost what was not synced, some left a torn tail" bit
check "powerfs ends quietly" powerfs_stop
finish
