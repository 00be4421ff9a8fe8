#!/bin/bash
# cli_unmounted.sh: the commands on stores that are not mounted: exit codes, forms of output, damage, import.
# Environment: tests/lib/tap.sh
set -u
. "${SPARE_SRC:?}/tests/lib/tap.sh"
json_lines() { # every line of out is one JSON object
	python3 -c '
import json, sys
lines = open(sys.argv[1], encoding="utf-8").read().splitlines()
assert lines, "no line"
for l in lines: assert isinstance(json.loads(l), dict), l
' "$WORK/$1"
}

# ---- command line

usage() {
	exits 2 "$SPARE" && says 'expected a command' && exits 2 "$SPARE" frobnicate && says 'no such command' &&
		exits 2 "$SPARE" init && says 'the form is: spare init STORE' && exits 2 "$SPARE" log --limit 0 x && exits 2 "$SPARE" log --limit &&
		exits 2 "$SPARE" status --colour && says 'no such option' && exits 2 "$SPARE" snapshot && exits 2 "$SPARE" snapshot create &&
		exits 2 "$SPARE" restore x && says '--at' && exits 2 "$SPARE" --json frobnicate && json_lines err &&
		grep -q '"name":"USAGE"' "$WORK/err"
}
check "wrong command lines exit 2 and say the form" usage
help() {
	exits 0 "$SPARE" help && prints 'spare restore' && exits 0 "$SPARE" help --json && json_lines out && exits 0 "$SPARE" --help || return 1
	local c
	for c in $("$SPARE" help --json | sed 's/.*"command":"\([a-z-]*\)".*/\1/'); do
		exits 0 "$SPARE" help "$c" && prints "^spare $c" && exits 0 "$SPARE" "$c" --help && prints "^spare $c" || return 1
	done
	# What is not built yet is not promised.
	! "$SPARE" help | grep -qE 'spare (purge|drill|bisect)'
}
check "help lists every command and none that is missing" help
version() { exits 0 "$SPARE" version && prints '^spare [0-9]' && exits 0 "$SPARE" version --json && json_lines out; }
check "version" version

# ---- stores

new_store() {
	exits 0 "$SPARE" init s1 && prints 'history-max' && [ "$(stat -c %a s1)" = 700 ] && exits 1 "$SPARE" init s1 && says 'already' &&
		mkdir full && touch full/x && exits 1 "$SPARE" init full && [ ! -e full/super.0 ] && exits 0 "$SPARE" init --json s2 &&
		json_lines out && grep -q '"history_max_bytes":[0-9]' out && exits 2 "$SPARE" init --timezone Nowhere/None s3 && [ ! -e s3 ]
}
check "init: limits, an existing store, a directory in use, a bad zone" new_store
unfinished() { # as a crash leaves a store that is being made
	local keep
	for keep in "log" "log retained.0" "log retained.0 retained.1" "log retained.0 retained.1 super.0"; do
		rm -rf half && "$SPARE" init half >/dev/null && (cd half && for f in *; do case " $keep " in *" $f "*) ;; *) rm -r "$f" ;; esac; done; [ ! -e super.0 ] || : >super.0) &&
			exits 0 "$SPARE" init half && exits 0 "$SPARE" check half || { echo "with $keep"; return 1; }
	done
	# A log with work in it is nobody's to remove.
	mkdir t && head -c 3000 /dev/urandom >t/x && exits 0 "$SPARE" import t worked && rm -r worked/super.* worked/index worked/lock && exits 1 "$SPARE" init worked && [ -s "$(ls worked/log/*.seg | head -n 1)" ]
}
check "init clears a store that was never finished, and nothing else" unfinished
no_store() {
	mkdir -p plain && exits 10 "$SPARE" status plain && says 'expected a store' && exits 10 "$SPARE" status missing && exits 10 "$SPARE" status &&
		exits 10 "$SPARE" mount plain "$WORK/m" && exits 10 "$SPARE" log plain/x && says '--store' &&
		SPARE_STORE=$WORK/s1 exits 0 "$SPARE" status && prints 's1$'
}
check "no store exits 10, \$SPARE_STORE is the last resort" no_store
status() {
	exits 0 "$SPARE" status s1 && prints 'Local only' && prints 'not mounted' && exits 0 "$SPARE" status --json s1 && json_lines out &&
		[ "$(wc -l <out)" -eq 1 ] && grep -q '"rpo_seconds":null' out && grep -q '"durable_lsn":' out && exits 0 "$SPARE" wait s1 &&
		exits 0 "$SPARE" wait --applied s1
}
check "status and wait" status
config() {
	exits 0 "$SPARE" config set s1 memory=64M timezone=Europe/Zurich && exits 0 "$SPARE" config show s1 && prints 'memory +67108864' &&
		prints 'timezone +Europe/Zurich' && exits 2 "$SPARE" config set s1 colour=red && exits 2 "$SPARE" config set s1 memory=lots &&
		exits 2 "$SPARE" config set s1 && exits 0 "$SPARE" config set s1 memory= && exits 0 "$SPARE" config --json show s1 && json_lines out &&
		grep '"name":"memory"' out | grep -q '"set":false'
}
check "config" config

# ---- import

sample() { # sample DIR: some of everything
	mkdir -p "$1/sub/deep" && echo one >"$1/file" && ln "$1/file" "$1/sub/other name" && ln -s ../file "$1/sub/link" && mkfifo "$1/pipe" &&
		truncate -s 5M "$1/sparse" && printf x | dd of="$1/sparse" bs=1 seek=3000000 conv=notrunc status=none &&
		printf a >"$1/new"$'\n'"line" && printf b >"$1/bad"$'\xff' && head -c 3000000 /dev/urandom >"$1/sub/big" && chmod 2750 "$1/sub" &&
		chmod 4711 "$1/file" && touch -h -d '2001-02-03 04:05:06.789' "$1/sub/link" && touch -d '1969-01-01 00:00:01' "$1/sub/deep" || return 1
	if [ "$(id -u)" -eq 0 ]; then chown 12:34 "$1/sub/big" && mknod "$1/null" c 1 3; fi
	if command -v setfattr >/dev/null; then setfattr -n user.colour -v blue "$1/file" 2>/dev/null; fi
	return 0
}
import() {
	sample d && cp -a d d.copy && exits 0 "$SPARE" import d sd && prints 'Next:  spare mount' && [ -d d.before-import ] && [ -z "$(ls -A d)" ] &&
		diff -r --no-dereference -x pipe -x null d.copy d.before-import && exits 0 "$SPARE" check --read-data sd && prints 'No damage' &&
		cmp <("$SPARE" cat --store sd sub/big) d.copy/sub/big && cmp <("$SPARE" cat --store sd sparse) d.copy/sparse &&
		[ "$("$SPARE" cat --store sd "bad"$'\xff')" = b ] && exits 1 "$SPARE" import d sd && says 'expected a new store'
}
check "import: everything of a tree, compared; the original stays" import
import_refuses() {
	mkdir -p e/in && exits 2 "$SPARE" import e e/in/store && says 'outside' && [ ! -e e/in/store ] && exits 1 "$SPARE" import missing sx && [ ! -e sx ] &&
		exits 1 "$SPARE" import d.copy/file sx && exits 2 "$SPARE" import / sx && mkdir e.before-import && exits 1 "$SPARE" import e sx && says 'before-import' &&
		[ -d e/in ] && rmdir e.before-import
}
check "import refuses what it could not undo" import_refuses
import_writer() {
	mkdir -p w && exec 9>w/open && exits 11 "$SPARE" import w sw && says "$$" && [ -d w ] && [ ! -e w.before-import ] && exec 9>&- &&
		exits 0 "$SPARE" import w sw && [ -e w.before-import/open ]
}
check "import names who still writes, and goes on when they are gone" import_writer
import_killed() {
	local i pid deadline
	mkdir k && for i in $(seq 400); do head -c 20000 /dev/urandom >"k/f$i"; done
	cp -a k k.copy
	for i in 1 2 3 4 5 6; do
		"$SPARE" import k sk >killed.out 2>&1 &
		pid=$!
		# Killed ever later: when the log grew by another part.
		deadline=$((SECONDS + 60))
		while kill -0 $pid 2>/dev/null && [ $SECONDS -lt $deadline ]; do
			[ "$(cat sk/log/*.seg 2>/dev/null | head -c 9000000 | wc -c)" -gt $((i * 1300000)) ] && break
		done
		kill -KILL $pid 2>/dev/null
		wait $pid 2>/dev/null
		# Whole under one of its names, at every moment.
		if [ -d k.before-import ]; then diff -r k.copy k.before-import || return 1; else diff -r k.copy k || return 1; fi
	done
	[ -d k.before-import ] && [ -z "$(ls -A k)" ] && exits 0 "$SPARE" check sk && return 0
	exits 0 "$SPARE" import k sk && diff -r k.copy k.before-import && exits 0 "$SPARE" check --read-data sk || return 1
	for i in 1 77 400; do cmp <("$SPARE" cat --store sk "f$i") "k.copy/f$i" || return 1; done
}
check "import killed six times loses nothing and goes on" import_killed

# ---- the past

past() {
	exits 0 "$SPARE" log --store sd sub && exits 0 "$SPARE" log --store sd --json -n 5 && json_lines out && [ "$(wc -l <out)" -eq 5 ] &&
		exits 0 "$SPARE" log --store sd file && prints '@[0-9]+' && exits 0 "$SPARE" log --store sd --json "bad"$'\xff' && json_lines out &&
		exits 1 "$SPARE" log --store sd never-was && exits 1 "$SPARE" cat --store sd never-was && says 'never-was' &&
		exits 1 "$SPARE" cat --store sd sub && exits 1 "$SPARE" cat --store sd file --at @1
}
check "log and cat" past
snapshots() {
	exits 0 "$SPARE" snapshot --store sd create before && exits 1 "$SPARE" snapshot --store sd create before &&
		exits 0 "$SPARE" snapshot --store sd list && prints 'before' && exits 2 "$SPARE" snapshot --store sd create @5 &&
		exits 2 "$SPARE" snapshot --store sd hold before && says 'reason' && exits 0 "$SPARE" snapshot --store sd hold before --reason 'audit 7' &&
		exits 0 "$SPARE" snapshot --store sd --json list && json_lines out && grep '"name":"before"' out | grep -q '"held":true' &&
		! "$SPARE" snapshot --store sd delete before 2>err && exits 0 "$SPARE" snapshot --store sd release before &&
		exits 0 "$SPARE" snapshot --store sd delete before && exits 1 "$SPARE" snapshot --store sd delete before
}
check "snapshots: create, hold, release, delete" snapshots
restore() {
	exits 0 "$SPARE" restore --store sd sub/big --at import --to again && cmp <("$SPARE" cat --store sd again) d.copy/sub/big &&
		exits 0 "$SPARE" restore --store sd sub --at import --to sub2 && cmp <("$SPARE" cat --store sd sub2/big) d.copy/sub/big &&
		exits 1 "$SPARE" restore --store sd sub --at nowhere-such && exits 0 "$SPARE" check --read-data sd
}
check "restore a file and a tree elsewhere" restore

# ---- damage and dump

dump() {
	exits 0 "$SPARE" dump sd/super.0 && prints 'file=superblock' && exits 0 "$SPARE" dump sd/retained.0 && prints 'file=retained set' || return 1
	local seg
	for seg in sd/log/*.seg; do exits 0 "$SPARE" dump "$seg" && prints 'type=' && exits 0 "$SPARE" dump --json "$seg" && json_lines out || return 1; done
	exits 2 "$SPARE" dump d.copy/file && exits 2 "$SPARE" dump sd && exits 1 "$SPARE" dump missing
}
check "dump every kind of file" dump
damage() {
	local seg
	cp -a sd dmg && seg=$(ls dmg/log/*.seg | head -n 1) && printf '\xff\xfe\xfd' | dd of="$seg" bs=1 seek=20000 conv=notrunc status=none || return 1
	exits 13 "$SPARE" dump "$seg" && says "offset [0-9]+" && exits 13 "$SPARE" check --read-data dmg && exits 13 "$SPARE" check --read-data --json dmg && json_lines out || return 1
	cp -a sd dmg2 && printf 'XXXX' | dd of=dmg2/super.1 bs=1 seek=40 conv=notrunc status=none && cp dmg2/super.1 dmg2/super.0 &&
		exits 13 "$SPARE" status dmg2 && exits 13 "$SPARE" check dmg2 && says 'super'
}
check "damage exits 13 and names the place" damage
newer() {
	exits 10 "$SPARE" status --json plain && json_lines err && grep -q '"code":23' err
}
check "errors as JSON carry name, number and text" newer
broken_pipe() {
	local rc
	"$SPARE" cat --store sd sub/big 2>err | head -c 10 >/dev/null
	rc=${PIPESTATUS[0]}
	[ "$rc" -eq 141 ] && [ ! -s err ] || { echo "exit status $rc"; cat err; return 1; }
	"$SPARE" cat --store sd sub/big >/dev/full 2>err
	rc=$?
	[ $rc -ne 0 ] && [ -s err ]
}
check "a reader that goes away ends quietly, a full disk does not" broken_pipe

finish
