#!/bin/bash
# kill_points.sh: kill -9 of the worker at exact points of a request's life, between its record's append and its answer above all: nobody
# notices, nothing is done twice, and what is left is what a run without kills leaves. The short form of `scripts/crash worker`.
# Environment: tests/lib/tap.sh
set -u
. "${SPARE_SRC:?}/tests/lib/tap.sh"
need_root
need_fuse
check "four kills each during create, rename, unlink, link and append" timeout 200 bash -c '
	python3 "$1/tests/crash/worker_points.py" "$2/points" "$3" "$4" 4 1 quick >"$2/kills" 2>&1 || { cat "$2/kills"; exit 1; }' \
	- "$SPARE_SRC" "$WORK" "$SPARE" "$(tool crash/kill_at)"
for kind in create rename unlink link append; do
	for point in appended applied append replied; do
		check "$kind: killed at the point \"$point\"" grep -q "^$kind [0-9]*: killed $point " kills
	done
done
check "no writer saw an error, nothing is there twice" fails grep FAILED kills
check "requests were answered from the log, and others done again" bash -c '
	cat points/*/daemon.log | grep -qE "took over: .* [1-9][0-9]* answered from the log" && cat points/*/daemon.log | grep -qE " [1-9][0-9]* done again"'
tail -n 1 kills | sed 's/^/# /'
finish
