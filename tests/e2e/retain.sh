#!/bin/bash
# retain.sh: what is kept of the past: a policy shown, set, planned; moments that are not listed any more are refused by name, can be brought back, and go; snapshots and
# moments somebody is in stay; space comes back; the index made anew brings nothing back; a worker killed in the middle loses nothing. Environment: tests/lib/tap.sh
set -u
. "${SPARE_SRC:?}/tests/lib/tap.sh"
need_root
need_fuse
mnt=$WORK/m
cleanup() { umount -l "$mnt" "$WORK/m2" 2>/dev/null; }
trap cleanup EXIT
mkdir m m2

digest() { (cd "$1" && find . -printf '%P %y %m %s %l %n\n' | sort && find . -type f -print0 | sort -z | xargs -0 sha256sum) | sha256sum | cut -d' ' -f1; }
mount_it() { "$SPARE" mount st m -o "log=$WORK/daemon.log"; }
pack_bytes() { du -cb st/packs/*.pack | tail -n 1 | cut -f1; }
lsn() { "$SPARE" snapshot create "$1" --store m >/dev/null && readlink "$mnt/.snapshots/$1"; }
# Round ${1}: 1 MiB of noise and a small tree, both replaced.
round() {
	head -c 1000000 /dev/urandom >"$mnt/noise" && rm -rf "$mnt/tree" && mkdir "$mnt/tree" && for i in $(seq 20); do seq -f "round $1 file $i line %g" 200 >"$mnt/tree/f$i"; done
}
start() { "$SPARE" init st >/dev/null && mount_it && for i in 1 2 3 4; do round "$i" && sleep 1.1; done && lsn here >/dev/null && digest "$mnt" >digest.live; }
check "a store with four rounds of work" start
shown() { exits 0 "$SPARE" retain show m && prints 'keep-all +7d.*default' && prints 'keep-yearly +3 ' && prints 'reclaim-grace +1d' && exits 0 "$SPARE" retain show m --json && head -n 1 out | grep -q '^{'; }
check "the policy is shown" shown
kept() { exits 0 "$SPARE" reclaim m && prints 'Packed' && prints 'every moment that is kept needs what there is' && exits 0 "$SPARE" retain plan m && prints 'Every moment from .* on is kept' && prints 'give back 0 B'; }
check "by the default policy nothing goes" kept
refused() {
	exits 2 "$SPARE" retain set m keep-all=7x && says 'keep-all 7x: expected a duration such as' && exits 2 "$SPARE" retain set m keep-daily=-1 && says 'expected a number from 0 to 10000' &&
		exits 2 "$SPARE" retain plan m keep-nothing=1 && says 'expected a setting of retention' && exits 2 "$SPARE" retain frobnicate m && exits 2 "$SPARE" retain set m
}
check "a policy that is none is refused by name" refused
planned() { exits 0 "$SPARE" retain plan m keep-all=0 min-age=0 && prints 'give back [23]\.[0-9] MiB of ' && exits 0 "$SPARE" retain show m && prints 'keep-all +7d.*default'; }
check "a plan under another policy says what would go, and changes nothing" planned
# The moment before the last round: not listed under a policy that keeps nothing.
first=$(cd "$mnt" && ls .snapshots | head -n 1)
unlisted() {
	local at
	at=$(stat -c %W "$mnt/tree/f1")
	before=$("$SPARE" log m/noise --json | sed -n 's/.*"lsn":\([0-9]*\).*/\1/p' | tail -n 1)
	[ -n "$before" ] && [ -f "$mnt/.snapshots/@$before/noise" ] && sha256sum <"$mnt/.snapshots/@$before/noise" >noise.before && "$SPARE" retain set m keep-all=1s min-age=0 >/dev/null || return 1
	for i in daily hourly weekly monthly yearly; do "$SPARE" retain set m "keep-$i=0" >/dev/null; done
	sleep 1.5 && "$SPARE" umount m && mount_it && exits 0 "$SPARE" reclaim m && exits 1 "$SPARE" cat m/noise --at "@$before" && says 'this moment is not kept; the nearest one is @[0-9]+' && [ ! -e "$mnt/.snapshots/@$before" ]
}
check "moments the policy does not keep are not listed any more; the message names the nearest" unlisted
back() {
	local was now
	exits 0 "$SPARE" retain set m keep-all=7d && exits 0 "$SPARE" reclaim m && was=$(cat noise.before) && now=$("$SPARE" cat m/noise --at "@$before" | sha256sum) && same "$was" "$now" && "$SPARE" retain set m keep-all=1s >/dev/null
}
check "within the grace a looser policy brings them back, whole" back
in_use() {
	exec 9<"$mnt/.snapshots/@$before/noise" && sleep 1.5 && exits 0 "$SPARE" reclaim --now m && prints 'Let go of' && same "$(cat noise.before)" "$(sha256sum <&9)" && exec 9<&- && same "$(cat digest.live)" "$(digest "$mnt/.snapshots/here")"
}
check "reclaim --now lets go of all else, but not of a moment that somebody is in, nor of a snapshot" in_use
smaller() {
	echo 3 >/proc/sys/vm/drop_caches
	"$SPARE" umount m && mount_it && exits 0 "$SPARE" reclaim --now m && exits 1 "$SPARE" cat m/noise --at "@$before" && says 'not kept' && [ "$(pack_bytes)" -lt 1300000 ] && same "$(cat digest.live)" "$(digest "$mnt")"
}
check "when he is out it goes, and the packs are what the present needs" smaller
whole() { exits 0 "$SPARE" check m --read-data && prints 'No damage'; }
check "check finds nothing wrong" whole
anew() {
	"$SPARE" umount m && rm -rf st/index && mount_it && same "$(cat digest.live)" "$(digest "$mnt")" && same "$(cat digest.live)" "$(digest "$mnt/.snapshots/here")" && exits 1 "$SPARE" cat m/noise --at "@$before" && says 'not kept' &&
		exits 0 "$SPARE" check m --read-data && prints 'No damage' && exits 0 "$SPARE" reclaim m && same "$(cat digest.live)" "$(digest "$mnt")"
}
check "an index made anew brings nothing back, and loses nothing" anew
deleted() { exits 0 "$SPARE" snapshot delete here --store m && round 5 && sleep 1.5 && digest "$mnt" >digest.live && exits 0 "$SPARE" reclaim --now m && [ "$(pack_bytes)" -lt 1300000 ] && exits 1 "$SPARE" cat m/noise --at here && same "$(cat digest.live)" "$(digest "$mnt")"; }
check "a snapshot that was deleted gives back what it held" deleted
versions() { exits 0 "$SPARE" log m/noise && [ "$(grep -c . out)" -ge 1 ] && exits 0 "$SPARE" log m/tree/f1 && [ "$(grep -c write out)" -le 2 ]; }
check "versions that are gone are not listed" versions
killed() {
	local i w
	for i in 1 2 3 4 5; do
		round $((20 + i)) && digest "$mnt" >digest.live && sleep 1.1 || return 1
		"$SPARE" reclaim --now m >/dev/null 2>&1 &
		w=$(worker daemon.log)
		read -r -t "0.$((i * 4 + 10))" _ <> <(:)
		kill -9 "$w"
		wait
		until_true ls "$mnt/noise" && same "$(cat digest.live)" "$(digest "$mnt")" || return 1
	done
	exits 0 "$SPARE" reclaim --now m && same "$(cat digest.live)" "$(digest "$mnt")" && [ "$(pack_bytes)" -lt 1300000 ] && exits 0 "$SPARE" check m --read-data && prints 'No damage'
}
check "a worker killed in the middle loses nothing, and the next one goes on" killed
ended() { exits 0 "$SPARE" umount m && exits 0 "$SPARE" check st --read-data && prints 'No damage' && exits 0 "$SPARE" dump st/retained.0 && prints 'listed_lsn='; }
check "unmounted and checked" ended
finish
