#!/bin/bash
# dr.sh: the disaster recovery plan with two directories as sites: the order, failover, what refuses, commit and rollback, switchover and the way back, killed at every step and resumed, people
# told (a mail sink, a webhook server, a link), the record proven, the runbook typed as printed. Environment: tests/lib/tap.sh; SSHD (tests/lib/sshd.sh); KILLS (17; of children 12), every so many-th line of the record is a kill point, and every
# so many-th child that is begun (scripts/dr-kill takes each); ONLY, a pattern: only checks with such a name.
set -u
. "${SPARE_SRC:?}/tests/lib/tap.sh"
. "$SPARE_SRC/tests/lib/sshd.sh"
need_root
need_fuse
export SPARE_DR_STATE=$WORK/state PATH=$WORK/bin:$PATH
mkdir -p bin a.m b.m state svc
ln -s "$SPARE" bin/spare
cleanup() {
	local f m
	sshd_stop
	for f in "$WORK"/svc/*.pid "$WORK"/hook.pid; do [ -e "$f" ] && kill "$(cat "$f")" 2>/dev/null; done
	for m in a.m b.m a2.m b2.m; do umount -l "$WORK/$m/.snapshots" 2>/dev/null; umount -l "$WORK/$m" 2>/dev/null; done
}
trap cleanup EXIT
if [ -n "${ONLY-}" ]; then
	eval "every_$(declare -f check)"
	check() { [[ ! $1 =~ $ONLY ]] || every_check "$@"; }
fi

[ -z "${SSHD-}" ] || check "an ssh server" sshd_start     # before anything is mounted

# ---- what there is: two systems, each a process with its data in the mount

cat >bin/svc <<'END'
#!/bin/bash
# svc NAME start|stop|health: a service that appends to SPARE_MOUNT/NAME.data, and answers while it lives. W/NAME.broken: it answers errors. W/NAME.hang: its health check hangs. W/NAME.flap: every second time. W/hold: it starts when that is gone.
W=$(dirname "$0")/../svc
echo "$SPARE_SITE $1 $2" >>"$W/calls"
[ "$2" = health ] || { mkdir "$W/$1.busy" || echo "OVERLAP $1 $2" >>"$W/calls"; trap 'rmdir "$W/$1.busy"' EXIT; }
case $2 in
start)
	[ ! -e "$W/slow" ] || sleep 0.3
	while [ -e "$W/hold" ]; do sleep 0.02; done
	[ -e "$W/$1.fail" ] && { echo "$1 does not start"; exit 7; }
	[ -e "$W/$1.pid" ] && kill -0 "$(cat "$W/$1.pid")" 2>/dev/null && [ "$(cat "$W/$1.at")" = "$SPARE_SITE" ] && exit 0
	echo "$1 began at $SPARE_SITE" >>"$SPARE_MOUNT/$1.data" || exit 1
	setsid sleep 1000 </dev/null >/dev/null 2>&1 &
	echo $! >"$W/$1.pid"; echo "$SPARE_SITE" >"$W/$1.at" ;;
stop) [ ! -e "$W/$1.pid" ] || { kill "$(cat "$W/$1.pid")" 2>/dev/null; rm -f "$W/$1.pid"; } ; exit 0 ;;
health)
	[ ! -e "$W/$1.broken" ] || { echo "500 internal error"; exit 1; }
	[ ! -e "$W/$1.hang" ] || sleep 600
	if [ -e "$W/$1.flap" ]; then n=$(cat "$W/$1.n" 2>/dev/null || echo 0); echo $((n + 1)) >"$W/$1.n"; [ $((n % 2)) = 0 ] || exit 1; fi
	grep -q "^seed" "$SPARE_MOUNT/$1.data" || { echo "wrong data"; exit 1; }
	kill -0 "$(cat "$W/$1.pid")" && [ "$(cat "$W/$1.at")" = "$SPARE_SITE" ] ;;
esac
END
chmod +x bin/svc
plan() { # plan [PATCH...]: plan.yaml, changed by sed expressions
	cat >plan.yaml <<-END
		plan: shop
		version: 1
		primary: a
		objectives: {rpo: 10m, rto: 20s}
		sites:
		  a:
		    contact-timeout: 5s
		    stores: {data: {path: $WORK/a.st, mount: $WORK/a.m, options: "log=$WORK/a.log"}}
		    fence: [{name: power, command: "test ! -e $WORK/svc/nofence && echo fenced >>$WORK/svc/calls"}]
		  b:
		    contact-timeout: 5s
		    stores: {data: {path: $WORK/b.st, mount: $WORK/b.m, options: "log=$WORK/b.log"}}
		    fence: [{name: power, command: "echo fenced >>$WORK/svc/calls"}]
		systems:
		  db: {critical: 1, max-outage: 1m, start: svc db start, stop: svc db stop, health: {command: svc db health, timeout: 3s, interval: 50ms, stable: 2}}
		  web: {critical: 2, depends: [db], start: svc web start, stop: svc web stop, health: {command: svc web health, timeout: 3s, interval: 50ms}}
		  mail: {critical: 3, depends: [db], start: svc mail start, stop: svc mail stop}
		traffic: [{name: address, command: 'echo \$SPARE_SITE >$WORK/svc/address'}]
	END
	[ $# = 0 ] || sed -i "$@" plan.yaml
}
plan
dr() { "$SPARE" dr "$@" </dev/null; }
calls() { grep -v health svc/calls 2>/dev/null | tr '\n' ';'; }

stop_all() { local s; for s in db web mail; do SPARE_SITE=x svc $s stop; done; rm -rf svc/*.{broken,hang,flap,fail,busy} svc/nofence svc/slow svc/hold svc/calls; }
away() { for m in a.m b.m; do [ "$(mounts $m)" = 0 ] || "$SPARE" umount "$WORK/$m" || return 1; done; }
at_it() { # at_it PATTERN: the processes of this test whose command line has it
	local p
	for p in $(pgrep -f -- "$1"); do ! grep -qz "^SPARE_DR_STATE=$SPARE_DR_STATE$" "/proc/$p/environ" 2>/dev/null || echo "$p"; done
	return 0
}
decides() { at_it "dr (commit|rollback) .*--by policy"; }	# what a plan's policy decided goes on after its line is there
# fresh: site a is primary and serves, b has everything; runs of before are gone.
fresh() {
	stop_all; until_true eval '[ -z "$(decides)" ]' && away || return 1
	rm -rf a.st a.gone b.st state/*
	"$SPARE" init a.st >/dev/null && "$SPARE" mount a.st a.m -o "log=$WORK/a.log" || return 1
	mkdir -p a.m/.spare && cp plan.yaml a.m/.spare/plan.yaml && for s in db web mail; do echo seed >a.m/$s.data; done
	for s in db web mail; do SPARE_SITE=a SPARE_MOUNT=$WORK/a.m svc $s start || return 1; done
	seq 1000 >a.m/numbers && "$SPARE" sync a.st "$WORK/b.st" >/dev/null || return 1
	rm -f svc/calls; echo a >svc/address
}
# lost: site a is gone: its services and its mount; --since is now.
lost() { stop_all; "$SPARE" umount "$WORK/a.m" && mv a.st a.gone || return 1; since=$(date -u +%Y-%m-%dT%H:%M:%S.%3NZ); }
returns() { mv a.gone a.st; }
serves() { # serves SITE: all three are healthy there, traffic goes there, the data is writable
	local s
	for s in db web mail; do SPARE_SITE=$1 SPARE_MOUNT=$WORK/$1.m svc $s health || { echo "$s is not healthy at $1"; return 1; }; done
	same "$1" "$(cat svc/address)" && same "$(seq 1000 | md5sum)" "$(md5sum <"$1.m/numbers")" && touch "$1.m/writable"
}

# ---- the plan

check "two sites" fresh
found_by_name() { exits 0 "$SPARE" dr plan show shop && prints "^wave 1$" && prints "db .*critical 1" && prints "a.st/.spare/plan.yaml"; }
export SPARE_STORE=$WORK/a.st
check "the plan is found by its name in the store" found_by_name
in_standby() { exits 0 "$SPARE" dr plan show b.st && prints "b.st/.spare/plan.yaml"; }
check "and at the standby" in_standby
order() { exits 0 "$SPARE" dr plan show plan.yaml --json && same '["db",1] ["web",2] ["mail",2] ' "$(python3 -c 'import json, sys
for l in open(sys.argv[1]): o = json.loads(l); print(json.dumps([o["system"], o["wave"]], separators=(",", ":")), end=" ")' "$WORK/out")"; }
check "the order in waves" order
faulty() { plan 's/critical: 2/critical: 12/; s/depends: \[db\], start: svc mail/depends: [dba], start: svc mail/'; exits 2 "$SPARE" dr plan show plan.yaml && says 'plan.yaml:[0-9]+:[0-9]+: expected a whole number from 1 to 9' && plan; }
check "a fault is said with its place" faulty

# ---- failover

failover() { dr failover b.st --site b "$@"; }
refuses() {
	fresh && lost || return 1
	exits 23 "$SPARE" dr failover b.st --site b && says "would be lost: b holds everything up to 20.*Z, and nothing says" && says "accept-loss" && says "next: nothing was changed" && same "standby" "$("$SPARE" status --json b.st | sed 's/.*"role":"\([a-z]*\)".*/\1/')" && same "" "$(calls)"
}
check "without a bound it refuses to lose anything, and does nothing" refuses
too_small() { exits 23 "$SPARE" dr failover b.st --site b --accept-loss 1ms && says "Accepted are 1 ms"; }
check "a bound that is too small refuses, too" too_small
with_since() { exits 0 "$SPARE" dr failover b.st --site b --since "$since" --accept-loss 60s && prints "up, before commit" && serves b; }
check "with one that is enough it goes on: all systems are up at the other site" with_since
in_order() {
	same "fenced;b db start;" "$(calls | sed 's/b web.*//; s/b mail.*//')" && [ "$(grep -n 'b db start' svc/calls | cut -d: -f1)" -lt "$(grep -n 'b web start' svc/calls | cut -d: -f1)" ] &&
		[ "$(grep -n 'b db health' svc/calls | head -n 2 | tail -n 1 | cut -d: -f1)" -lt "$(grep -n 'b web start' svc/calls | cut -d: -f1)" ]
}
check "fenced first, in the plan's order, each behind the health of what it needs" in_order
again() { exits 0 "$SPARE" dr failover b.st --site b && same 1 "$(grep -c 'b db start' svc/calls)"; }
check "once more does nothing more" again
commits() { exits 0 "$SPARE" dr commit && exits 0 "$SPARE" dr list && prints "committed"; }
check "commit" commits

rejoins() {
	returns && exits 0 "$SPARE" dr rejoin b.st --site b && same standby "$("$SPARE" status --json a.st | sed 's/.*"role":"\([a-z]*\)".*/\1/')"
}
check "the old primary rejoins as a standby" rejoins
rejoins_again() { exits 0 "$SPARE" dr rejoin b.st --site b && exits 0 "$SPARE" dr report --site b && prints "^lost .*nothing" && exits 0 "$SPARE" dr report --site b --run "$(basename state/sites/b/runs/*-failover-*)" && prints "^RPO +exactly"; }
check "once more is no news: what was lost is known" rejoins_again
way_back() { exits 0 "$SPARE" dr switchover b.st --site b && serves a && same standby "$("$SPARE" status --json b.st | sed 's/.*"role":"\([a-z]*\)".*/\1/')"; }
check "and the way back is a switchover: nothing is lost, all is as before" way_back
by_hand_before() { # the old primary went back by the runbook's own lines; then once more, with nobody left who knows what it had. Its list is longer than what is kept of what an ordinary command says
	local run b d
	d=$(printf '%0250d' 0) && d=$d/$d && d=$d/$d/$d/$d && fresh && mkdir -p "a.m/$d" && (cd "a.m/$d" && seq 1100 | xargs touch) && lost && exits 0 "$SPARE" dr failover b.st --site b --accept-loss any && exits 0 "$SPARE" dr commit && returns && exits 0 "$SPARE" demote a.st && exits 22 "$SPARE" sync b.st "$WORK/a.st" && exits 0 "$SPARE" sync b.st "$WORK/a.st" || return 1
	run=$(basename state/sites/b/runs/*-failover-*) b=$("$SPARE" branch list --store a.st | cut -d' ' -f1) && [ -n "$b" ] || return 1
	cp -a state state.was && exits 0 "$SPARE" dr rejoin b.st --site b && exits 0 "$SPARE" dr report --site b --run "$run" && prints "^RPO +exactly" && prints "^lost .* to 1108 files, .* kept as branch $b at a" && [ "$(stat -c %s state/sites/b/runs/*-rejoin-*/out/lost.data)" -gt 2200000 ] || return 1
	rm -rf state && mv state.was state && exits 0 "$SPARE" branch remove "$b" a.st && exits 3 "$SPARE" dr rejoin b.st --site b && exits 0 "$SPARE" dr report --site b --run "$run" && prints "^RPO +at most" && prints "^lost .* not known: it had gone back before"
}
check "one that went back before the rejoin: its branch is found, and its long list is whole; without a branch nobody knows what was lost" by_hand_before
leased() { # a lease that outlasts any promotion: the fence is confirmed, so it is not waited for
	fresh && exits 0 "$SPARE" standby add a.m "$WORK/b.st" && until_true eval '"$SPARE" status --json a.m | grep -q "\"state\":\"Protected\""' && exits 0 "$SPARE" config set a.m "lease=1h $WORK/b.st" && until_true eval '"$SPARE" status --json a.m | grep -q "\"state\":\"held\""' &&
		lost && exits 0 "$SPARE" dr failover b.st --site b --accept-loss any && serves b
}
check "a lease is not waited for behind a fence that confirms" leased
short_of_space() { exits 0 "$SPARE" config set b.m keep-free=900T && exits 0 "$SPARE" status b.m && prints "Space low" && exits 0 "$SPARE" dr commit && "$SPARE" status --json b.m >out && fails grep failed_over_from out; }
check "commit is told to a store that has something else to say, too" short_of_space

alive() { fresh && exits 23 "$SPARE" dr failover b.st --site b && says "switchover. moves without losing"; }
check "a primary that answers: switchover is named" alive

# ---- health

to_moment() { # what harmed the data came by the stream, too
	local before
	fresh && before=$(date -u +%Y-%m-%dT%H:%M:%S.%3NZ) && echo ruined >a.m/mail.data && "$SPARE" sync a.st "$WORK/b.st" >/dev/null && lost && exits 2 "$SPARE" dr failover b.st --site b --at yesterday && says "expected a time" && exits 2 "$SPARE" dr commit --at "$before" &&
		exits 0 "$SPARE" dr failover b.st --site b --accept-loss any --at "$before" && serves b && grep -q seed b.m/mail.data && ! grep -q ruined b.m/mail.data && same ruined "$("$SPARE" cat mail.data --at "$("$SPARE" log mail.data --store b.m | sed -n 's/.*\(@[0-9]*\) .* 7 B .*/\1/p' | tail -n 1)" --store b.m)" &&
		grep -rqF "\"at\":\"$before\"" state
}
check "failover to a moment before the harm; what came after is in history" to_moment
moment_and_back() { returns && exits 0 "$SPARE" dr rollback --accept-loss any && grep -q "^ruined" a.m/mail.data; }
check "its rollback brings back what the old primary had, not that moment" moment_and_back
wrong_data() { fresh && sed -i s/seed/weed/ a.m/db.data && "$SPARE" sync a.st "$WORK/b.st" >/dev/null && lost || return 1; exits 1 "$SPARE" dr failover b.st --site b --accept-loss any && says "health/db.*wrong data" && ! grep -q "web start" svc/calls && same a "$(cat svc/address)"; }
check "wrong data stops the run at that system" wrong_data
answers_errors() { fresh && lost && : >svc/web.broken && exits 1 "$SPARE" dr failover b.st --site b --accept-loss any && says "health/web.*500 internal error" && says "next: all it said is in .*/out/health.web; when that is mended" && same a "$(cat svc/address)" && exits 0 "$SPARE" dr list && prints "stopped at health/web"; }
check "a service that starts and answers errors stops it there" answers_errors
mended() { rm svc/web.broken && exits 0 "$SPARE" dr failover b.st --site b && says "going on with" && serves b && same 1 "$(grep -c 'b db start' svc/calls)"; }
check "mended, the same command goes on from there" mended
hangs() { fresh && lost && : >svc/db.hang && exits 1 "$SPARE" dr failover b.st --site b --accept-loss any && says "health/db.*hangs"; }
check "a health check that hangs" hangs
flaps() { fresh && lost && : >svc/db.flap && exits 1 "$SPARE" dr failover b.st --site b --accept-loss any && says "health/db.*it flaps"; }
check "one that flaps is not healthy" flaps
no_start() { fresh && lost && : >svc/db.fail && exits 1 "$SPARE" dr failover b.st --site b --accept-loss any && says "start/db.*exit status 7: db does not start"; }
check "a start that fails" no_start
hanging_hook() { plan 's/start: svc db start/start: {command: sleep 600, timeout: 300ms}/'; fresh && lost && exits 1 "$SPARE" dr failover b.st --site b --accept-loss any && says "start/db.*took longer than 300 ms"; plan; }
check "a start that hangs is ended" hanging_hook

# ---- fencing

unfenced() {
	fresh && lost && : >svc/nofence && exits 23 "$SPARE" dr failover b.st --site b --accept-loss any && says "nothing confirms that site a writes no more" && same standby "$("$SPARE" status --json b.st | sed 's/.*"role":"\([a-z]*\)".*/\1/')" &&
		exits 0 "$SPARE" dr failover b.st --site b --unfenced && serves b
}
check "no fence confirms: it stops; --unfenced goes on" unfenced

# ---- rollback

rolls_back() {
	fresh && lost && exits 0 "$SPARE" dr failover b.st --site b --accept-loss any && returns && echo late >b.m/late || return 1
	exits 23 "$SPARE" dr rollback && says "would not be in the live tree of a" && exits 0 "$SPARE" dr rollback --accept-loss any && serves a && [ ! -e a.m/late ] && exits 0 "$SPARE" dr list && prints "rolled back"
}
check "rollback: the old primary goes on, if what was done since may be lost" rolls_back
branch_kept() { "$SPARE" sync a.st "$WORK/b.st" || exits 0 "$SPARE" sync a.st "$WORK/b.st" && exits 0 "$SPARE" branch list --store b.st && [ -s out ]; }
check "and what was done at the other site is kept there as a branch" branch_kept
not_begun() { fresh && lost && exits 23 "$SPARE" dr failover b.st --site b && exits 0 "$SPARE" dr rollback && prints "closed"; }
check "rollback of a run that has done nothing closes it" not_begun

# ---- a site that is reached by ssh

if [ -n "${SSHD-}" ] && [ -z "${ONLY-}" ]; then
	# (The server has a mount name space of its own, in which a later mount may not be seen: what it runs comes back to this one.)
	plan_ssh() { plan && sed -i "s!^  a:!  a:\n    host: there\n    ssh: $SSH\n    spare: nsenter -t $$ -m env SPARE_DR_STATE=$WORK/state PATH=$PATH $SPARE!; s!svc \(db\|web\|mail\) !nsenter -t $$ -m $WORK/bin/svc \1 !g" plan.yaml; }
	there_and_back() {
		fresh && exits 0 "$SPARE" dr switchover b.st && serves b && same standby "$("$SPARE" status --json a.st | sed 's/.*"role":"\([a-z]*\)".*/\1/')" && grep -q "^a db stop" svc/calls && exits 0 "$SPARE" dr commit &&
			exits 0 "$SPARE" dr switchover b.st && serves a && grep -q "^b db stop" svc/calls && exits 0 "$SPARE" dr report --json && prints '"countersigned_by":"a"'
	}
	plan_ssh
	check "switchover from a site that is reached by ssh, and back to it" there_and_back
	ssh_ready() { exits 3 "$SPARE" dr plan check b.st && prints "ok +site +a, store data: primary" && prints "ok +drift" && fails grep -q PROBLEM out; }
	check "plan check asks it" ssh_ready
	ssh_alive() { fresh && exits 23 "$SPARE" dr failover b.st && says "site a answers"; }
	check "a primary that answers by ssh is not failed over from" ssh_alive
	ssh_gone() { sshd_stop; until_true fails $SSH -oBatchMode=yes there true && exits 0 "$SPARE" dr rollback && fresh && lost && exits 0 "$SPARE" dr failover b.st --accept-loss any && serves b && exits 0 "$SPARE" dr report && prints "witness +none: site a: not reached"; }
	check "a site that is not reached any more is" ssh_gone
	plan
else
	skip "a site that is reached by ssh" "no ssh server"
fi

# ---- people: anna by mail; bert's pager is down, so by a webhook; carla by a command

cat >bin/sink <<-'END'
	#!/bin/sh
	# as sendmail: -i -- ADDRESS, the message on stdin
	[ ! -e "$(dirname "$0")/../mail.down" ] || exit 75
	{ echo "TO $3"; cat; echo "END"; } >>"$(dirname "$0")/../mails"
END
chmod +x bin/sink
python3 "$SPARE_SRC/tests/lib/hookserver.py" "$WORK/hooks" "$WORK/hook.port" >/dev/null 2>&1 &
echo $! >hook.pid
until_true [ -e hook.port ]
LINK_PORT=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
people() { # people [WAIT]
	plan
	cat >>plan.yaml <<-END
		people:
		  anna: {role: on call, decides: true, contacts: [{channel: mail, address: anna@example.org}]}
		  bert: {role: second, contacts: [{channel: pager, address: "1"}, {channel: chat, address: bert}]}
		  carla: {role: head, contacts: [{channel: shout, address: carla}]}
		channels:
		  mail: {type: mail, command: $WORK/bin/sink, from: dr@example.org}
		  pager: {type: command, command: "echo pager >>$WORK/pager; exit 1"}
		  chat: {type: webhook, url: "http://127.0.0.1:$(cat hook.port)/hook"}
		  shout: {type: command, command: "cat >>$WORK/shouts; echo \$SPARE_TO \$SPARE_EVENT >>$WORK/shouted"}
		  beat: {type: heartbeat, url: "http://127.0.0.1:$(cat hook.port)/beat", interval: 1s}
		escalation: [{who: [anna], wait: ${1-1s}}, {who: [bert], wait: ${1-1s}}, {who: [carla], wait: ${1-1s}}]
		messages: {up: {subject: "{plan} is up, {person}", text: "rpo {rpo} eta {eta} decides {decides}\\nlink {link}\\n"}}
		acknowledge: {listen: "127.0.0.1:$LINK_PORT", url: "http://127.0.0.1:$LINK_PORT"}
	END
	rm -f mails hooks pager shouts shouted mail.down
}
mails() { cat mails 2>/dev/null | grep -c '^TO'; true; }
events() { python3 -c 'import json, glob, sys
for l in open(glob.glob(sys.argv[1] + "/sites/b/runs/*/journal")[0]):
    o = json.loads(l)
    if o["event"] in sys.argv[2:]: print(o["event"], o.get("notice", ""), o.get("message", ""), o.get("person", ""), o.get("channel", ""), o.get("by", ""), o.get("how", ""))' "$WORK/state" "$@"; }
told_in_order() {
	people && fresh && lost && exits 0 "$SPARE" dr failover b.st --site b --accept-loss any || return 1
	until_true [ -e shouted ] && until_true eval 'events silence | grep -q n2' || return 1
	# (Where the beginning took longer than a rung waits, others have heard of that, too.)
	same 1 "$(grep -c "^carla up" shouted)" && same 2 "$(mails)" && same "$(events unsent | grep -c pager)" "$(wc -l <pager)" && same 1 "$(grep -c '"event":"up"' hooks)" && same "sent n1 begun anna mail  " "$(events sent | head -n 1)" &&
		same "sent n2 up anna mail  |unsent n2 up bert pager  |sent n2 up bert chat  |sent n2 up carla shout  |" "$(events sent unsent | grep " n2 " | tr '\n' '|')"
}
check "silence moves up the ladder; a channel that is down goes to the next; each is told once, in order" told_in_order
says_figures() { grep -q '^To: anna@example.org' mails && grep -q '^From: dr@example.org' mails && grep -q '^Subject: shop is up, anna' mails && grep -qE '^rpo [0-9.]+ s eta 0.0 s decides anna' mails && grep -q beat hooks; }
check "with live figures, and a heartbeat" says_figures
by_link() {
	people 20s && fresh && lost && exits 0 "$SPARE" dr failover b.st --site b --accept-loss any && until_true eval 'grep -q "^link" mails' || return 1
	local link
	link=$(sed -n 's/^link //p' mails | head -n 1)
	python3 - "$link" <<-'END' || return 1
		import sys, urllib.request, urllib.error
		url = sys.argv[1]
		ask = lambda u, d=None: urllib.request.urlopen(u, data=d, timeout=5)
		def code(u, d=None):
		    try: return ask(u, d).status
		    except urllib.error.HTTPError as e: return e.code
		assert b"Acknowledge" in ask(url).read()
		assert code(url) == 200
		assert code(url[:-1] + ("0" if url[-1] != "0" else "1"), b"") == 404
		assert b"Acknowledged" in ask(url, b"").read()
		assert code(url, b"") == 410 and code(url) == 410
	END
	same "ack n2 anna link" "$(events ack | tr -s ' ' | sed 's/ *$//')" && { [ ! -e hooks ] || ! grep -q '"event"' hooks; }
}
check "a link acknowledges, once; looking at it does not" by_link
gone_with_it() { until_true fails curl_link; }
curl_link() { python3 -c 'import socket, sys; socket.create_connection(("127.0.0.1", int(sys.argv[1])), 1)' "$LINK_PORT"; }
check "and is served only as long as somebody waits" gone_with_it
by_command() { people 20s && fresh && lost && exits 0 "$SPARE" dr failover b.st --site b --accept-loss any && until_true eval '[ "$(mails)" = 2 ]' && exits 0 "$SPARE" dr ack --by anna && until_true fails curl_link && [ ! -e shouted ] && exits 0 "$SPARE" dr commit && until_true eval 'grep -q "is final" mails' && same 3 "$(mails)"; }
check "a command acknowledges; what comes later goes to who did" by_command
first_mail_down() { people && fresh && lost && : >mail.down && exits 0 "$SPARE" dr failover b.st --site b --accept-loss any && until_true [ -e shouted ] && same 0 "$(mails)" && same 1 "$(grep -c '"event":"begun"' hooks)"; }
check "the first person cannot be reached: the second is told at once" first_mail_down
keeper() { at_it "dr keep --run .* --site b"; }
nothing_twice() { # the process that tells people is killed again and again, and started again by the command
	people && fresh && lost || return 1
	local i p killed=0
	for i in $(seq 100); do
		[ $i -le 25 ] || [ $killed -le 5 ] || break     # (one that ended before it was looked for is none that was killed)
		exits 0 "$SPARE" dr failover b.st --site b --accept-loss any || return 1
		read -r -t "0.$((RANDOM % 3))$((RANDOM % 10))" _ <> <(:)	# (any time will do)
		for p in $(keeper); do kill -9 "$p" && killed=$((killed + 1)); done
	done
	exits 0 "$SPARE" dr failover b.st --site b && until_true eval 'events silence | grep -q n2' && until_true eval '[ -z "$(keeper)" ]' && [ $killed -gt 5 ] || return 1
	same "" "$(grep '^Subject' mails | sort | uniq -d)" && same "" "$(sort shouted 2>/dev/null | uniq -d)" && same "" "$(grep -o '"event":"[a-z]*"' hooks | sort | uniq -d)" &&
		same "" "$(events sending | sort | uniq -d)"
}
check "killed at any time and started again, nothing is sent twice" nothing_twice
by_hand() {
	plan 's/health: {command: svc web health, timeout: 3s, interval: 50ms}/manual: [{name: cable, text: Plug it in., when: before-start}]/'
	fresh && lost || return 1
	dr failover b.st --site b --accept-loss any >hand.out 2>&1 & local pid=$!
	until_true grep -q "manual/web/cable waits" hand.out && ! grep -q "web start" svc/calls && exits 0 "$SPARE" dr ack --step manual/web/cable --by anna && wait $pid && grep -q "b web start" svc/calls; local rc=$?
	plan; return $rc
}
check "a step by hand waits for its acknowledgement" by_hand
policy() { plan; echo 'commit: {after: 1s, then: commit}' >>plan.yaml; fresh && lost && exits 0 "$SPARE" dr failover b.st --site b --accept-loss any && until_true eval '"$SPARE" dr list | grep -q committed'; local rc=$?; plan; return $rc; }
check "nobody decides: the plan's policy does" policy

policy_refused() { # the policy wants to go back to a site that is gone: it is refused, and the run stays up, to be decided by people
	plan; echo 'commit: {after: 1s, then: rollback}' >>plan.yaml
	fresh && lost && exits 0 "$SPARE" dr failover b.st --site b --accept-loss any && until_true grep -q '"event":"refused".*"by":"policy"' state/sites/b/runs/*/journal && until_true grep -q '"message":"stopped"' state/sites/b/runs/*/journal &&
		exits 22 "$SPARE" dr rollback --accept-loss any && says "nothing can go back to it" && exits 0 "$SPARE" dr commit && prints "failover .*committed" && serves b; local rc=$?
	plan; return $rc
}
check "a policy that is refused leaves the run up, and is not tried again and again" policy_refused
new_plan() { # a plan that is changed while a run is stopped
	fresh && lost && : >svc/web.broken && exits 1 "$SPARE" dr failover b.st --site b --accept-loss any && rm svc/web.broken && echo "# changed" >>b.m/.spare/plan.yaml &&
		exits 0 "$SPARE" dr failover b.st --site b && says "is not the plan that run .* began with" && serves b || return 1
	echo "# changed" >>$(echo state/sites/b/runs/*/plan.yaml)
	exits 13 "$SPARE" dr report --site b && says "expected the plan the run began with" && exits 20 "$SPARE" dr failover b.st --site b --new && says "not taken over, what it promoted and lost is not known: .*expected the plan the run began with" && prints "^RPO +nobody can say what was lost"
}
check "a changed plan: the run goes on with its own, and says so; its own that is changed is damage" new_plan
no_plan() { # a run that was stopped; today's plan is faulty, then gone: the run has its own
	before=$(date -u +%Y-%m-%dT%H:%M:%S.%3NZ) && fresh && lost && : >svc/web.fail && exits 1 "$SPARE" dr failover b.st --site b --accept-loss any && echo "faulty: [" >b.m/.spare/plan.yaml && exits 1 "$SPARE" dr failover b.st --site b && says "going on with run .* by the plan it began with, .*/plan.yaml" &&
		rm b.m/.spare/plan.yaml && fails "$SPARE" dr failover b.st --site b --new && exits 1 "$SPARE" dr failover b.st --site b && says "going on with run" && cp plan.yaml b.m/.spare/plan.yaml
}
check "without a plan of today that can be read, a run that is not over goes on with its own" no_plan
moment_too_late() { # what is promoted has the tree it has
	exits 11 "$SPARE" dr failover b.st --site b --at "$before" && says "promoted store data already, to its newest moment" && says "spare restore $WORK/b.m --at" && rm svc/web.fail || return 1
	exits 11 "$SPARE" dr failover b.st --site b --new --accept-loss any --at "$before" && says "promote/data.*is the primary already" && exits 0 "$SPARE" dr failover b.st --site b --new --accept-loss any && serves b
}
check "a moment that comes too late is refused, not ignored" moment_too_late
new_beside() { # --new: not beside one that is under way, nor beside what one that was killed had begun
	fresh && lost && : >svc/hold || return 1
	"$SPARE" dr failover b.st --site b --accept-loss any >new.out 2>&1 </dev/null & local pid=$! rc
	until_true grep -q "b db start" svc/calls && exits 11 "$SPARE" dr failover b.st --site b --accept-loss any --new && says "is under way"; rc=$?
	kill -9 $pid; wait $pid 2>/dev/null
	"$SPARE" dr failover b.st --site b --accept-loss any --new >new.out 2>&1 </dev/null & pid=$!
	[ $rc = 0 ] && until_true grep -q "waiting for what was begun before" new.out; rc=$?
	rm svc/hold; wait $pid || { cat new.out; return 1; }
	[ $rc = 0 ] && serves b && fails grep OVERLAP svc/calls
}
check "--new begins when what was begun has ended" new_beside
at_once() { # two commands at the same moment, each of which would begin a run: one does; the other finds that one's lock, or that it is up
	local a b
	fresh && lost && : >svc/web.fail && exits 1 "$SPARE" dr failover b.st --site b --accept-loss any && rm svc/web.fail && : >svc/slow || return 1
	"$SPARE" dr failover b.st --site b --new >a.out 2>&1 </dev/null & a=$!
	"$SPARE" dr failover b.st --site b --new >b.out 2>&1 </dev/null & b=$!
	wait $a; a=$?; wait $b; b=$?
	case $a,$b in 0,0|0,11|11,0) ;; *) echo "exit status $a, $b"; cat a.out b.out; return 1 ;; esac
	fails grep OVERLAP svc/calls && serves b && exits 0 "$SPARE" dr commit
}
check "two at the same moment: one run begins" at_once
replaced() { # an older run is not gone on with when a newer one took its place; that one has what the older one promoted and lost
	local old new loss
	fresh && lost && : >svc/web.broken && exits 1 "$SPARE" dr failover b.st --site b --accept-loss any && old=$(ls state/sites/b/runs) && loss=$("$SPARE" dr report --site b --json | sed -n 's/.*"loss_at_most_ms":\([0-9]*\).*/\1/p' | head -n 1) && [ "$loss" -gt 0 ] && rm svc/web.broken &&
		exits 0 "$SPARE" dr failover b.st --site b --new && says "run $old, a failover that is stopped, is closed" && serves b && same "$loss" "$("$SPARE" dr report --site b --json | sed -n 's/.*"loss_at_most_ms":\([0-9]*\).*/\1/p' | head -n 1)" || return 1
	exits 11 "$SPARE" dr failover b.st --site b --run "$old" && says "run $old is over \(closed: a newer one took its place\)" && new=$(ls state/sites/b/runs | tail -n 1) && [ "$new" != "$old" ] && exits 0 "$SPARE" dr report --site b && prints "^after .*$old" || return 1
	returns && exits 23 "$SPARE" dr rollback && exits 11 "$SPARE" dr rollback --run "$old" --accept-loss any && exits 0 "$SPARE" dr commit && exits 11 "$SPARE" dr failover b.st --site b --run "$new" && says "run $new is over \(committed\)"
}
out_since() { # the time out of service counts from when the first of the two began
	exits 0 "$SPARE" dr report --site b && prints "^out since" && exits 0 "$SPARE" dr report --site b --json && python3 - out state/sites/b/runs/*/journal <<-'END'
		import datetime, json, sys
		rows, (old, new) = [json.loads(l) for l in open(sys.argv[1])], [[json.loads(l) for l in open(j)] for j in sys.argv[2:]]
		ms = lambda line: round(datetime.datetime.fromisoformat(line["time"].replace("Z", "+00:00")).timestamp() * 1000)
		up = next(l for l in new if l["event"] == "up")
		assert new[0]["out_since_wall_ms"] == ms(old[0]), (new[0], old[0])
		assert rows[0]["up_ms"] == ms(up) - ms(old[0]) and rows[0]["up_ms"] > up["ms"], (rows[0], up)
		assert all(r["up_ms"] > ms(new[0]) - ms(old[0]) for r in rows if r["what"] == "system"), rows
	END
}
check "--new closes the run before, which is not gone on with any more, and takes over what it promoted" replaced
check "and since when the systems are out" out_since
out_of_lease() { # its role says that it is promoted, not that it takes changes
	fresh && exits 0 "$SPARE" dr switchover b.st --site b && exits 0 "$SPARE" dr commit && { "$SPARE" standby add b.m "$WORK/a.st" >/dev/null; "$SPARE" standby resume b.m "$WORK/a.st" >/dev/null; until_true eval '"$SPARE" status --json b.m | grep -q "\"state\":\"Protected\""'; } && exits 0 "$SPARE" config set b.m "lease=5s $WORK/a.st" keep-free=900T &&
		until_true eval '"$SPARE" status --json b.m | grep -q "\"state\":\"held\""' && exits 0 "$SPARE" standby pause b.m "$WORK/a.st" && "$SPARE" umount b.m && "$SPARE" mount b.st b.m -o "log=$WORK/b.log" && until_true eval '"$SPARE" status --json b.m | grep -q "\"state\":\"out\""' && mv a.st a.gone &&
		exits 24 "$SPARE" dr failover b.st --site b --accept-loss any && says "promote/data.*its lease is out" && exits 0 "$SPARE" config set b.m lease= && exits 0 "$SPARE" dr failover b.st --site b && serves b
}
check "a primary whose lease is out is said to take no change, also where space is low" out_of_lease
no_line() { # killed before its first line, or with all of its lines taken off
	local r=state/sites/b/runs/20200101T000000Z-failover-aaaa
	fresh && lost && mkdir -p $r && cp plan.yaml $r && printf '{"seq":1,' >$r/journal && exits 0 "$SPARE" dr list && same "" "$(cat err)" && exits 0 "$SPARE" dr failover b.st --site b --accept-loss any && serves b || return 1
	: >"$(ls -d state/sites/b/runs/*-failover-* | tail -n 1)/journal"
	exits 13 "$SPARE" dr report --site b && says "they were taken off"
}
check "a run without a first line is none; one that had lines is damage" no_line
took_over_open() { # what the run before promoted is not left behind by one that is refused and closed
	local loss
	fresh && lost && : >svc/web.fail && exits 1 "$SPARE" dr failover b.st --site b --accept-loss any && loss=$(at_most) && rm svc/web.fail && returns || return 1
	exits 23 "$SPARE" dr failover b.st --site b --new && says "site a answers" && says "when that is mended, the same command goes on from there; .spare dr rollback. goes back to a" && same "$loss" "$(at_most)" && exits 23 "$SPARE" dr rollback && says "would not be in the live tree of a" &&
		exits 0 "$SPARE" dr rollback --accept-loss any && serves a && same standby "$(role b.st)" || return 1
	fresh && lost && exits 0 "$SPARE" promote b.st && exits 20 "$SPARE" dr failover b.st --site b && prints "^RPO +nobody can say what was lost \(objective 10m, not known\)" && exits 0 "$SPARE" dr report --site b && prints "^RPO +not known: nobody can say what was lost; objective 10m: not known" # (promoted by hand)
}
role() { "$SPARE" status --json "$1" | sed 's/.*"role":"\([a-z]*\)".*/\1/'; }
at_most() { "$SPARE" dr report --site b --json | sed -n 's/.*"loss_at_most_ms":\([0-9]*\).*/\1/p' | head -n 1; }
check "--new takes over what was promoted also where it is refused: a rollback takes that back; what nobody can say is not called nothing" took_over_open
have_strace() { command -v strace >/dev/null && strace -qq -o /dev/null true 2>/dev/null; }
kill_at() { # kill_at CALL N COMMAND...: at the N-th such call
	local at="$1:signal=KILL:when=$2"
	ASAN_OPTIONS=${ASAN_OPTIONS-}:detect_leaks=0 exits 137 timeout 60 strace -qq -o /dev/null -e trace="$1" -e inject="$at" "${@:3}" </dev/null
}
plan_two() { # listed in another order at the other site
	plan "s!data: {path: $WORK/a.st!more: {path: $WORK/a2.st, mount: $WORK/a2.m}, data: {path: $WORK/a.st!; s!stores: {data: {path: $WORK/b.st\(.*\)}\$!stores: {data: {path: $WORK/b.st\1, more: {path: $WORK/b2.st, mount: $WORK/b2.m}}!; s/SPARE_MOUNT/SPARE_MOUNT_DATA/"
	sed -i 's/start: svc/start: SPARE_MOUNT=$SPARE_MOUNT_DATA svc/g; s/\({command: \|stop: \)svc/\1SPARE_MOUNT=$SPARE_MOUNT_DATA svc/g' plan.yaml
}
away2() { local m; for m in a2.m b2.m; do [ "$(mounts $m)" = 0 ] || "$SPARE" umount "$WORK/$m"; done; rm -rf a2.st a2.gone b2.st; }
fresh2() { away2 && fresh && mkdir -p a2.m b2.m && "$SPARE" init a2.st >/dev/null && "$SPARE" mount a2.st a2.m && echo more >a2.m/more && "$SPARE" sync a2.st "$WORK/b2.st" >/dev/null; }
lost2() { "$SPARE" umount "$WORK/a2.m" && mv a2.st a2.gone && lost; }
two_stores() { plan_two && fresh2 && exits 0 "$SPARE" dr switchover b.st --site b && serves b && same more "$(cat b2.m/more)"; local rc=$?; plan; away2; return $rc; }
part_lost() { # killed as the first of two promotions is on its way, which goes on: what was lost by it is no less for the one that takes its place
	local loss
	plan_two && fresh2 && echo late >a2.m/late && "$SPARE" sync a2.st "$WORK/b2.st" >/dev/null && lost2 && kill_at fdatasync 9 "$SPARE" dr failover b.st --site b --since "$since" --accept-loss any && tail -n 1 state/sites/b/runs/*/journal | grep -q '"intent","step":"promote/data"' &&
		exits 0 "$SPARE" promote b.st --unfenced && loss=$(at_most) && exits 0 "$SPARE" dr failover b.st --site b --new --since "$since" --accept-loss any && serves b && same "$loss" "$(at_most)"; local rc=$?
	plan; away2; return $rc
}
part_told() { # cut off behind the first of two stores, the rejoin has told of that one only; another one tells of the other, and does not say that nothing was lost
	local run said
	plan_two && fresh2 && echo gone >a.m/gone && echo gone >a2.m/gone && lost2 && exits 0 "$SPARE" dr failover b.st --site b --accept-loss any && exits 0 "$SPARE" dr commit && mv a.gone a.st && mv a2.gone a2.st && run=$(ls state/sites/b/runs) && kill_at fdatasync 11 "$SPARE" dr rejoin b.st --site b &&
		tail -n 1 state/sites/b/runs/*-rejoin-*/journal | grep -q '"done","step":"ship/data".*"branch":"' && exits 0 "$SPARE" dr report --site b --run "$run" && prints "^RPO +at most" && prints "^lost +store data: [0-9]+ operations" && exits 0 "$SPARE" dr report --site b --run "$run" --json && prints '"loss_ms":null' &&
		exits 0 "$SPARE" dr rejoin b.st --site b --new && exits 0 "$SPARE" dr report --site b && prints "^lost +store data: nothing more than run .*-rejoin-.* says" && prints "^lost +store more: [0-9]+ operations" && exits 0 "$SPARE" dr report --site b --run "$run" && prints "^RPO +exactly" && prints "^lost +store data: [0-9]+ operations" && prints "^lost +store more: [0-9]+ operations"; local rc=$?
	plan; away2; return $rc
}
check "stores that are listed in another order at the other site" two_stores
if have_strace; then
	check "killed between two promotions: what the first one lost is taken over" part_lost
	check "a rejoin cut off between two stores: exactly is said when both are known" part_told
else
	skip "killed between two stores" "no strace"
fi

# ---- killed at every line of the record, and at every child that is begun, and gone on with

every() { # every LINE|CHILD COMMAND...: killed as the N-th line is made durable, or right behind the birth of the N-th child, which goes on; N is each multiple of KILLS; then once more, to its end
	local at killed=0 call=fdatasync step=${KILLS:-17}
	[ "$1" = LINE ] || call=setpgid step=${KILLS:-12}
	shift
	for ((at = step; at < 300; at += step)); do
		before || return 1
		ASAN_OPTIONS=${ASAN_OPTIONS-}:detect_leaks=0 timeout 60 strace -qq -o /dev/null -e trace=$call -e inject=$call:signal=KILL:when=$at "$@" >kill.out 2>&1 </dev/null
		local rc=$?
		[ $rc != 0 ] || break
		[ $rc = 137 ] || { echo "at $at: exit status $rc"; cat kill.out; return 1; }
		killed=$((killed + 1))
		timeout 60 "$@" >>kill.out 2>&1 </dev/null || { echo "at $at, gone on with: exit status $?"; cat kill.out; return 1; }
		after && fails grep OVERLAP svc/calls || { echo "at $at"; cat kill.out; return 1; }
	done
	echo "$killed $call" >>killed
	[ $killed -gt 0 ]
}
once_each() { local s; for s in db web mail; do same 1 "$(grep -c "^$s began at b" "b.m/$s.data")" || { echo "$s was started twice"; return 1; }; done; }
if have_strace; then
	for what in LINE CHILD; do
		at="each line of its record"
		[ $what = LINE ] || at="the birth of each child, which goes on"
		before() { fresh && : >svc/slow && lost && : >svc/slow; }
		after() { serves b && once_each && exits 0 "$SPARE" dr report --site b; }
		check "failover, killed at $at, and gone on with" every $what "$SPARE" dr failover b.st --site b --accept-loss any
		before() { fresh && : >svc/slow; }
		after() { serves b && same standby "$(role a.st)" && exits 0 "$SPARE" dr report --site b; }
		check "switchover, killed at $at, and gone on with" every $what "$SPARE" dr switchover b.st --site b
		before() { fresh && lost && dr failover b.st --site b --accept-loss any >/dev/null 2>&1 && returns && : >svc/slow; }
		after() { serves a && exits 0 "$SPARE" dr report --site b && exits 0 "$SPARE" dr list && prints "rolled back"; }
		check "rollback, killed at $at, and gone on with" every $what "$SPARE" dr rollback --site b --accept-loss any
		[ "${KILLS:-17}" = 1 ] || continue
		before() { fresh && lost && dr failover b.st --site b --accept-loss any >/dev/null 2>&1; }
		after() { serves b && exits 0 "$SPARE" dr report --site b && exits 0 "$SPARE" dr list && prints "committed"; }
		check "commit, killed at $at, and gone on with" every $what "$SPARE" dr commit --site b
		before() { fresh && lost && dr failover b.st --site b --accept-loss any >/dev/null 2>&1 && dr commit >/dev/null && returns; }
		after() { serves b && same standby "$(role a.st)" && exits 0 "$SPARE" dr report --site b && exits 0 "$SPARE" dr list && prints "closed"; }
		check "rejoin, killed at $at, and gone on with" every $what "$SPARE" dr rejoin b.st --site b
	done
else
	skip "killed at every step" "no strace"
fi
[ ! -e killed ] || echo "# killed $(tr '\n' ',' <killed)"

# ---- the record, and the report

report_true() { # between two stopwatches: one around the command, one within its steps; how near they are is said, not judged
	plan "s!start: svc db start!start: 'date +%s%3N >>$WORK/stamps; sleep 1.5; svc db start; date +%s%3N >>$WORK/stamps'!; s!svc/address'!svc/address; date +%s%3N >>$WORK/stamps'!"
	fresh && lost && rm -f stamps || return 1
	local t0 t1
	t0=$(date +%s%3N) && exits 0 "$SPARE" dr failover b.st --site b --accept-loss any && t1=$(date +%s%3N) && exits 0 "$SPARE" dr report --site b --json || return 1
	plan
	python3 - "$WORK/out" $((t1 - t0)) "$WORK/stamps" >figures <<-'END'
		import json, sys
		rows = [json.loads(l) for l in open(sys.argv[1])]
		around = int(sys.argv[2])
		begun, started, moved = [int(l) for l in open(sys.argv[3])]
		run = next(r for r in rows if r["what"] == "run")
		step = {r["step"]: r for r in rows if r["what"] == "step"}
		print("whole %d ms, stopwatch around it %d, from its first command to its last %d; start/db %d ms, stopwatch within %d" % (run["up_ms"], around, moved - begun, step["start/db"]["ms"], started - begun))
		assert moved - begun <= run["up_ms"] <= around
		assert 1500 <= started - begun <= step["start/db"]["ms"] <= run["up_ms"]
		assert run["countersigned_by"] == "a"
		assert next(r for r in rows if r.get("system") == "db")["rto"] == "met"
	END
}
check "the report agrees with a stopwatch around it and one within; the other site countersigns" report_true
sed 's/^/# /' figures 2>/dev/null
J() { echo "$WORK"/state/sites/b/runs/*/journal; }
damaged() { # damaged WORDS CHANGE...: the change is found; then the record is as it was
	local words=$1
	shift
	rm -rf state.was && cp -a state state.was && "$@" && exits 13 "$SPARE" dr report --site b && says "$words"; local rc=$?
	rm -rf state && mv state.was state
	return $rc
}
change() { sed -i '5s/"ms":[0-9]*/"ms":1/; 5s/intent/inteNt/' $(J); }
remove() { sed -i 5d $(J); }
shorten() { sed -i '$d' $(J); }
shorten_all() { sed -i '$d' $(J) && rm state/sites/b/runs/*/head && cp $(J) j && python3 -c 'pass'; }
sign_anew() { # sign_anew [own]: all of it, well-formed, with one figure changed and a line more, by a new key that is put in the place of the site's; own: by the site's own
	python3 - state/sites/b $(J) "${1-}" <<-'END'
		import base64, hashlib, os, re, subprocess, sys
		site, journal, own = sys.argv[1:]
		run = os.path.dirname(journal)
		if own: der = bytes.fromhex("302e020100300506032b657004220420") + open(site + "/site.key", "rb").read()
		else: der = subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-outform", "DER"], capture_output=True, check=True).stdout
		open("new.der", "wb").write(der)
		pub = subprocess.run(["openssl", "pkey", "-inform", "DER", "-in", "new.der", "-pubout", "-outform", "DER"], capture_output=True, check=True).stdout[-32:]
		def sign(text):
		    open("new.text", "w").write(text)
		    return base64.b64encode(subprocess.run(["openssl", "pkeyutl", "-sign", "-inkey", "new.der", "-keyform", "DER", "-rawin", "-in", "new.text"], capture_output=True, check=True).stdout).decode()
		prev, out = "", []
		bodies = [l[:l.rindex(',"hash":"')] for l in open(journal)]
		bodies.append('{"seq":%d,"time":"2026-01-01T00:00:00.000Z","event":"more","prev":"x"' % (len(bodies) + 1))
		for n, body in enumerate(bodies, 1):
		    body = re.sub('"prev":"[^"]*"$', '"prev":"%s"' % prev, body)
		    if n == 4: body = re.sub('"ms":[0-9]*', '"ms":1', body)
		    prev = hashlib.sha256(body.encode()).hexdigest()
		    out.append('%s,"hash":"%s","sig":"%s"}\n' % (body, prev, sign(prev)))
		open(journal, "w").writelines(out)
		head = "%d %s" % (len(out), prev)
		open(run + "/head", "w").write("%s %s\n" % (head, sign(head)))
		open(site + "/site.key", "wb").write(der[-32:])
		open(site + "/site.pub", "w").write(base64.b64encode(pub).decode() + "\n")
	END
}
no_report() { plan && fresh && lost && exits 0 "$SPARE" dr failover b.st --site b --accept-loss any; }
check "a run whose report nobody asked for" no_report
check "a changed line is detected" damaged "line 5: expected the hash .* it was changed" change
check "a removed line is detected" damaged "a line was removed" remove
check "a line taken off the end is detected" damaged "its end was taken off" shorten
check "and with the head gone as well" damaged "expected the head|expected line|countersigned" shorten_all
check "a record signed by another key than the site's is detected" damaged "as countersigned before, found" sign_anew
other_key() { rm state/sites/b/site.key state/sites/b/site.pub; }
check "one made anew by the site's own key, and longer, is detected by what the other site knows" damaged "as site a countersigned it before, found" sign_anew own
last_run_removed() { # two runs; the record of the second one is taken away
	local last
	exits 0 "$SPARE" dr commit && returns && exits 0 "$SPARE" dr rejoin b.st --site b || return 1
	last=$(ls state/sites/b/runs | tail -n 1) && cp -a state state.was && rm -r "state/sites/b/runs/$last" || return 1
	exits 13 "$SPARE" dr report --site b && says "run $last: expected its record here, since site a countersigned" && { "$SPARE" dr plan check b.st --site b --quick >out 2>&1; prints "PROBLEM +record +run $last: expected line"; }; local rc=$?
	rm -rf state && mv state.was state
	return $rc
}
torn_note() { # a crash within a line of what the other site noted: it is cut off by the next one
	local note=state/sites/a/witness.shop@b@$(ls state/sites/b/runs | head -n 1)
	[ -s "$note" ] && truncate -s -5 "$note" && exits 0 "$SPARE" dr report --site b && ! grep -qvE '^[0-9]+ [0-9a-f]{64} [A-Za-z0-9+/]{43}=$' "$note" && [ "$(tail -c 1 "$note" | wc -l)" = 1 ]
}
check "a torn line of what the other site noted is mended" torn_note
note() { echo state/sites/a/witness.shop@b@$(ls state/sites/b/runs | head -n 1); }
nuls() { printf '1 \0\n' >>"$(note)"; }
check "one with bytes of something else is damage" damaged "witness.shop@b@.*expected a number, a hash and a key" nuls
unreadable() { echo nothing >"state/sites/a/witness.shop@b@29990101T000000Z-failover-aaaa"; }
check "so is the note of another run that cannot be read: it is not left out" damaged "29990101.*expected a number, a hash and a key" unreadable
key_anew() { rm state/sites/a/site.key; }
check "another key of the other site than the one it answered with first" damaged "expected the key it answered with first" key_anew
whose() { # of that plan and site, no other of a like name; and a command that was slower than the next one shows an older line: nothing is written, and it is no damage
	local run was
	run=$(ls state/sites/b/runs | head -n 1) && cp "$(note)" "state/sites/a/witness.shop@b.c@$run" && cp "$(note)" "state/sites/a/witness.shop.b@b@$run" && was=$(tail -n 1 "$(note)") || return 1
	exits 0 "$SPARE" dr countersign --site a --reason "shop b" --json && same 1 "$(grep -o "\"$run\"" out | wc -l)" && exits 0 "$SPARE" dr countersign --site a --reason "shop x" --json && prints '"runs":\[\]' || return 1
	exits 0 "$SPARE" dr countersign --site a --reason "shop b $run 1 $(printf '%064d' 0) ${was##* }" --json && same "$was" "$(tail -n 1 "$(note)")" && exits 13 "$SPARE" dr countersign --site a --reason "shop b $run ${was%% *} $(printf '%064d' 0) ${was##* }" && exits 0 "$SPARE" dr report --site b; local rc=$?
	rm -f state/sites/a/witness.shop@b.c@* state/sites/a/witness.shop.b@*
	return $rc
}
golden_note() { # FORMAT.md: one of any earlier version is read, and goes on as it is
	local run=20261127T113301.123Z-failover-ab12 key=A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg= note hash
	note=state/sites/a/witness.golden@b@$run hash=$(printf '%064d' 7) && cp "$SPARE_SRC/tests/golden/dr-witness" "$note" && exits 0 "$SPARE" dr countersign --site a --reason "golden b" --json && prints "\"runs\":\[\[\"$run\",4,\"$(tail -n 1 "$note" | cut -d' ' -f2)\"\]\]" &&
		exits 0 "$SPARE" dr countersign --site a --reason "golden b $run 9 $hash $key" --json && { cat "$SPARE_SRC/tests/golden/dr-witness"; echo "9 $hash $key"; } | cmp - "$note"; local rc=$?
	rm -f "$note"
	return $rc
}
check "a note of before is read, and goes on as it is" golden_note
golden_runs() { # FORMAT.md: the records of any earlier version are read, and say the same (scripts/dr-golden made them)
	local run
	rm -rf golden && cp -r "$SPARE_SRC/tests/golden/dr" golden && : >golden.says || return 1
	for run in golden/sites/b/runs/*; do SPARE_DR_STATE=$WORK/golden exits 0 "$SPARE" dr report --site b --run "${run##*/}" --json && cat out >>golden.says || return 1; done
	diff "$SPARE_SRC/tests/golden/dr/report" golden.says && same 5 "$(grep -c '"what":"run"' golden.says)"
}
check "runs of before are read, and their reports say what they said" golden_runs
check "what the other site knows is told apart by plan and site; what comes late is no damage" whose
check "a record of the last run that is not there any more is detected" last_run_removed
check "a run whose report nobody asked for, again" no_report
check "and one that the site's key did not sign" damaged "expected a signature by|expected a head signed" other_key

# ---- ready before it is needed

ready() {
	people && sed -i 's/contacts: \[{channel: pager, address: "1"}, /contacts: [/; s/  web: {critical: 2, depends: \[db\]/  web: {critical: 2, max-outage: 1m, depends: [db]/' plan.yaml && printf 'compare: {files: [/etc/passwd], users: [root], packages: [coreutils]}\n' >>plan.yaml
	fresh && exits 3 "$SPARE" dr plan check b.st --site b && prints "ok +site +a, store data: primary" && prints "ok +site +b, store data: standby" && prints "ok +version" && prints "ok +drift" && prints "ok +contact" && fails grep -q PROBLEM out && [ -s shouted ]
}
check "a plan that would work: only warnings" ready
problems() { # one thing each
	local bad
	for bad in 's/svc web start/svk web start/|hook +start/web at a: svk is not there' 's/svc mail stop/"svc mail ("/|hook +stop/mail at b:' 's/critical: 2, max-outage: 1m/critical: 2, max-outage: 1s/|outage +web may be missed for 1s' \
		"s!cat >>$WORK/shouts!exit 3!|contact +carla by shout: exit status 3" 's!/hook"!:1/hook"!; s!http://127.0.0.1:[0-9]*:1!http://127.0.0.1:1!|contact +bert by chat: ' "s!path: $WORK/b.st!path: $WORK/none!|site +b, store data: not reached"; do
		cp plan.yaml good.yaml; sed -i "${bad%%|*}" plan.yaml; exits 1 "$SPARE" dr plan check plan.yaml --site a && prints "PROBLEM +${bad#*|}" || { mv good.yaml plan.yaml; return 1; }
		mv good.yaml plan.yaml
	done
}
check "each thing that would not is named" problems
trials() { # the plan's own checks of its commands: each runs at each site, not the command; one that hangs is ended with its children
	plan "s!start: svc web start!start: {command: svc web start, check: 'echo \$SPARE_SITE \$SPARE_STEP >>$WORK/svc/tried'}!; s!stop: svc web stop!stop: {command: svc web stop, check: 'echo no licence; exit 4'}!; s!{name: address,!{name: address, timeout: 300ms, check: 'sleep 1234 \& echo \$\! >$WORK/svc/sleeper; sleep 1234',!"
	fresh && rm -f svc/tried && exits 1 "$SPARE" dr plan check b.st --site b && prints "PROBLEM +trial +stop/web at a: its check: exit status 4: no licence" && prints "PROBLEM +trial +stop/web at b" && prints "PROBLEM +trial +traffic/address at b: its check took longer than 300 ms, and was ended" &&
		same "a check/start/web;b check/start/web;" "$(tr '\n' ';' <svc/tried)" && same "" "$(calls)" && until_true fails kill -0 "$(cat svc/sleeper)"; local rc=$?
	plan; return $rc
}
check "what a plan says of how to try its commands is tried, at each site" trials

ports() { # taken at both sites, which are one machine: the standby's is
	local port
	python3 -c 'import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1], flush=True); sys.stdin.read()' <> <(:) >udp.port & local pid=$!
	until_true [ -s udp.port ] && port=$(cat udp.port) && plan && echo "compare: {ports: [udp/$port, tcp/$port]}" >>plan.yaml && fresh && { "$SPARE" dr plan check b.st --site b --quick >out 2>&1; prints "port udp/$port: is taken already at b" && fails grep "port udp/$port: nobody" out && prints "port tcp/$port: nobody listens at a"; }; local rc=$?
	kill $pid; plan; return $rc
}
check "ports of both protocols" ports

# ---- the runbook, typed as printed

printed() { # printed FROM TO: the commands of the section that begins with FROM, up to the next one that begins with TO
	awk -v from="## $1" -v to="## $2" 'index($0, from) == 1 { on = 1; next } index($0, to) == 1 { on = 0 } on && /^    [$>] / { print substr($0, 7) }' runbook.txt
}
typed() { # commands that end in a comment, and one that ends its shell
	plan "s!>>$WORK/svc/calls\"!>>$WORK/svc/calls # off\"!; s/start: svc db start/start: 'svc db start # first'/; s/command: svc web health/command: 'svc web health # asked'/; s!svc/address'!svc/address; exit 0 # moved'!"
	fresh && { "$SPARE" dr plan check a.st --site a --quick >/dev/null 2>&1; cp state/runbooks/shop.txt runbook.txt; } && exits 0 "$SPARE" dr plan runbook b.st --html && grep -q '@media print' out && ! grep -qE 'https?://|src=|<script' out && lost || return 1
	printf '#!/bin/sh\n[ "$1" != dr ] || exit 9\nexec %s "$@"\n' "$SPARE" >bin/spare.new && chmod +x bin/spare.new && mv bin/spare.new bin/spare
	printed "Failover: a is gone" "The way back" >typed.sh && [ "$(wc -l <typed.sh)" -gt 10 ] && ! grep -q "spare dr" typed.sh && bash -e typed.sh >typed.out 2>&1 && serves b && ! grep -q NOT typed.out; local rc=$?
	[ $rc = 0 ] || { cat typed.sh typed.out; }
	return $rc
}
check "the runbook's commands, typed as printed, recover the site without dr" typed
by_ssh() { plan && sed -i 's!^  a:!  a:\n    host: there\n    ssh: ssh -F my.conf\n    spare: nice spare!' plan.yaml && exits 0 "$SPARE" dr plan runbook plan.yaml && prints "spare sync $WORK/b.st there:$WORK/a.st --ssh 'ssh -F my.conf' --remote-spare 'nice spare'"; local rc=$?; plan; return $rc; }
check "and it reaches the other site as the plan does" by_ssh
current() { # each check keeps it at each site, as the plan there has it
	fresh && { "$SPARE" dr plan check a.st --site a --quick >out 2>&1; prints "ok +runbook +a: kept in" && prints "ok +runbook +b: kept in"; } && grep -q "^## Failover: a is gone" state/runbooks/shop.txt && grep -q "^<!DOCTYPE html>" state/runbooks/shop.html || return 1
	sed -i 's/svc mail start/svc mail start --new/' a.m/.spare/plan.yaml && { "$SPARE" dr plan check a.st --site a --quick >out 2>&1; prints "warning +runbook +b: its store has another plan"; } && "$SPARE" sync a.st "$WORK/b.st" >/dev/null &&
		"$SPARE" mount b.st b.m && { "$SPARE" dr plan check a.st --site a --quick >out 2>&1; prints "ok +runbook +b: kept in"; } && grep -q "svc mail start --new" state/runbooks/shop.txt	# (also where a standby is mounted for reading)
}
kept() { fresh && exits 0 "$SPARE" dr plan runbook a.st --keep && "$SPARE" sync a.st "$WORK/b.st" >/dev/null && "$SPARE" cat --store b.st .spare/runbook.txt | grep -q "^## Failover: a is gone" && "$SPARE" cat --store b.st .spare/runbook.html | grep -q "^<!DOCTYPE html>"; }
typed_back() {
	returns && printed "The way back" "nothing more" >back.sh && bash -e back.sh >back.out 2>&1 && serves a && ! grep -q NOT back.out && same standby "$("$SPARE" status --json b.st | sed 's/.*"role":"\([a-z]*\)".*/\1/')"; local rc=$?
	[ $rc = 0 ] || { cat back.sh back.out; }
	return $rc
}
check "and the way back, too" typed_back
check "kept in the store it is at the standby, too" kept
check "plan check keeps it current at both sites" current
finish
