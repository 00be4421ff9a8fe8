#!/bin/bash
# dr_services.sh: PostgreSQL, nginx and an SQLite application, their data in the mount, on two hosts (network namespaces); the first is killed under load and the plan brings all three up at the other one, at the address the
# clients know; then the way back. Environment: tests/lib/tap.sh; RUNS (1), how often. Prints RTO, of which ours, and RPO as the clients saw it.
set -u
. "${SPARE_SRC:?}/tests/lib/tap.sh"
need_root
need_fuse
RUNS=${RUNS:-1} ID=$$ NET=198.$((18 + $$ % 2)).$(($$ / 2 % 250))    # (RFC 2544: of no real network)
PG=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -n 1)
NGINX=$(command -v nginx || ls /usr/sbin/nginx 2>/dev/null)
[ -n "$PG" ] && [ -n "$NGINX" ] && command -v sqlite3 >/dev/null || skip_all "needs postgresql, nginx and sqlite3"
ip netns add "drt$ID" 2>/dev/null && ip netns del "drt$ID" || skip_all "cannot make network namespaces"
export SPARE_DR_STATE=$WORK/state PATH=$WORK/bin:$PG:/usr/sbin:/sbin:$PATH
mkdir -p bin a.m b.m state etc
chmod 755 "$WORK" a.m b.m
ln -s "$SPARE" bin/spare
host() { local n=$1; shift; nsenter --net=/run/netns/dr$n$ID "$@"; }	# (ip netns exec would make a mount namespace, too)
of_host() { ip netns pids "dr$1$ID" 2>/dev/null; }
kill_host() { local p; while p=$(of_host "$1") && [ -n "$p" ]; do kill -9 $p 2>/dev/null; done; }
cleanup() {
	local h m
	kill $LOADS 2>/dev/null
	for h in a b; do kill_host $h; done
	for m in a.m b.m; do umount -l "$WORK/$m/.snapshots" 2>/dev/null; umount -l "$WORK/$m" 2>/dev/null; done
	for h in a b; do ip netns del "dr$h$ID" 2>/dev/null; done
	ip link del "drbr$ID" 2>/dev/null
	awk -v w="$WORK/" 'index($1, w) == 1 { print $2 }' /proc/mounts | while read -r m; do umount -l "$m"; done	# (what was killed leaves the mount of its past)
}
LOADS=
trap cleanup EXIT
network() {
	ip link add "drbr$ID" type bridge && ip addr add $NET.1/24 dev "drbr$ID" && ip link set "drbr$ID" up || return 1
	local h n=2
	for h in a b; do
		ip netns add "dr$h$ID" && ip link add "dr$h$ID" type veth peer name eth0 netns "dr$h$ID" && ip link set "dr$h$ID" master "drbr$ID" up &&
			host $h ip addr add $NET.$n/24 dev eth0 && host $h ip link set eth0 up && host $h ip link set lo up || return 1
		n=$((n + 1))
	done
}
check "two hosts and a client on one network" network

# ---- the services: each takes its site from the environment the plan gives

cat >etc/nginx.conf <<-END2
	daemon on; pid /tmp/nginx.$ID.pid; error_log /dev/null; worker_processes 1;
	events { worker_connections 64; }
	http { access_log off; client_body_temp_path /tmp/nginx.$ID.body; proxy_temp_path /tmp/nginx.$ID.proxy; fastcgi_temp_path /tmp/nginx.$ID.f; uwsgi_temp_path /tmp/nginx.$ID.u; scgi_temp_path /tmp/nginx.$ID.s;
	server { listen 80; root MOUNT/www; } }
END2
cat >bin/app.py <<-'END2'
	import os, socketserver, sqlite3, sys
	db = sys.argv[1]
	class H(socketserver.StreamRequestHandler):
	    def handle(self):
	        c = sqlite3.connect(db, timeout=5)
	        c.execute("pragma synchronous=full")
	        for line in self.rfile:
	            w = line.split()
	            if w[0] == b"put":
	                with c: c.execute("insert into t values (?)", (int(w[1]),))
	                self.wfile.write(b"ok %s\n" % w[1])
	            else:
	                self.wfile.write(b"%d\n" % (c.execute("select max(n) from t").fetchone()[0] or 0))
	class S(socketserver.ThreadingTCPServer): allow_reuse_address = True; daemon_threads = True
	S(("0.0.0.0", 7000), H).serve_forever()
END2
cat >bin/svc <<-END2
	#!/bin/bash
	# svc NAME start|stop|health, on the host of SPARE_SITE
	M=\$SPARE_MOUNT
	pg() { setpriv --reuid postgres --regid postgres --clear-groups "\$@"; }
	case \$1.\$2 in
	pg.start) chown postgres:postgres /tmp/pg.\$SPARE_SITE.$ID.log 2>/dev/null || { : >/tmp/pg.\$SPARE_SITE.$ID.log; chown postgres:postgres /tmp/pg.\$SPARE_SITE.$ID.log; }
		rm -f \$M/pg/postmaster.pid; pg pg_ctl -s -w -t 30 -D \$M/pg -l /tmp/pg.\$SPARE_SITE.$ID.log -o "-c listen_addresses=* -c unix_socket_directories= -c max_connections=20 -c shared_buffers=16MB" start ;;
	pg.stop) pg pg_ctl -s -w -m fast -D \$M/pg stop ;;
	pg.health) psql -h 127.0.0.1 -U postgres -qAtc "select count(*) > 0 from seed where v = 'right'" postgres | grep -qx t ;;
	web.start) sed "s!MOUNT!\$M!" $WORK/etc/nginx.conf >/tmp/nginx.\$SPARE_SITE.$ID.conf && sed -i "s!nginx.$ID!nginx.\$SPARE_SITE.$ID!g" /tmp/nginx.\$SPARE_SITE.$ID.conf && $NGINX -c /tmp/nginx.\$SPARE_SITE.$ID.conf ;;
	web.stop) nsenter --net=/run/netns/dr\$SPARE_SITE$ID ip addr del $NET.10/24 dev eth0; $NGINX -c /tmp/nginx.\$SPARE_SITE.$ID.conf -s quit ;;
	web.health) python3 -c 'import urllib.request; assert urllib.request.urlopen("http://127.0.0.1/page", timeout=2).read() == b"right\n"' ;;
	app.start) setsid python3 $WORK/bin/app.py \$M/app.db </dev/null >/dev/null 2>&1 & echo \$! >/tmp/app.\$SPARE_SITE.$ID.pid ;;
	app.stop) kill \$(cat /tmp/app.\$SPARE_SITE.$ID.pid) ;;
	app.health) python3 -c 'import socket; s = socket.create_connection(("127.0.0.1", 7000), 2); s.sendall(b"max\n"); assert int(s.recv(100)) >= 0' ;;
	esac
END2
chmod +x bin/svc
cat >bin/announce.py <<-'END2'
	"""Gratuitous ARP: this address is here now."""
	import socket, sys
	s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(("eth0", 0x0806))
	mac, ip = s.getsockname()[4], socket.inet_aton(sys.argv[1])
	for op in (1, 2):
	    s.send(b"\xff" * 6 + mac + b"\x08\x06" + b"\x00\x01\x08\x00\x06\x04\x00" + bytes([op]) + mac + ip + b"\xff" * 6 + ip)
END2
cat >plan.yaml <<-END2
	plan: services
	version: 1
	primary: a
	objectives: {rpo: 1s, rto: 15s}
	sites:
	  a:
	    contact-timeout: 500ms
	    stores: {data: {path: $WORK/a.st, mount: $WORK/a.m, options: "allow_other,log=$WORK/a.log"}}
	    fence: [{name: link, command: "test -z \"\$(ip netns pids dra$ID)\" || test -e $WORK/keep"}]
	  b:
	    contact-timeout: 500ms
	    stores: {data: {path: $WORK/b.st, mount: $WORK/b.m, options: "allow_other,log=$WORK/b.log"}}
	systems:
	  postgres: {critical: 1, start: svc pg start, stop: svc pg stop, health: {command: svc pg health, timeout: 20s, interval: 100ms}}
	  application: {critical: 2, start: svc app start, stop: svc app stop, health: {command: svc app health, timeout: 10s, interval: 100ms}}
	  web: {critical: 3, depends: [postgres, application], start: svc web start, stop: svc web stop, health: {command: svc web health, timeout: 10s, interval: 100ms}}
	traffic: [{name: address, command: "ip addr replace $NET.10/24 dev eth0 && python3 $WORK/bin/announce.py $NET.10"}]
END2
site() { # site NAME COMMAND...: on that host, as the plan's commands run
	local s=$1; shift
	host "$s" env SPARE_SITE="$s" SPARE_MOUNT="$WORK/$s.m" "$@"
}
begin() {
	kill_host a; kill_host b
	for m in a.m b.m; do umount -l "$WORK/$m/.snapshots" 2>/dev/null; umount -l "$WORK/$m" 2>/dev/null; done
	for h in a b; do host $h ip addr del $NET.10/24 dev eth0 2>/dev/null; host $h ip link set eth0 up; done
	rm -rf a.st a.gone b.st state/*
	"$SPARE" init a.st >/dev/null && host a "$SPARE" mount a.st a.m -o "allow_other,log=$WORK/a.log" || return 1
	mkdir -p a.m/.spare a.m/www a.m/pg && cp plan.yaml a.m/.spare/ && echo right >a.m/www/page && sqlite3 a.m/app.db 'create table t (n integer)' && chown postgres a.m/pg && chmod 700 a.m/pg &&
		setpriv --reuid postgres --regid postgres --clear-groups "$PG/initdb" -D "$WORK/a.m/pg" -A trust --no-sync >initdb.out 2>&1 && echo "host all all 0.0.0.0/0 trust" >>a.m/pg/pg_hba.conf || { cat initdb.out; return 1; }
	for s in pg app web; do site a svc $s start || { echo "$s"; cat /tmp/pg.a.$ID.log; return 1; }; done
	until_true psql -h $NET.2 -U postgres -qc 'select 1' postgres && psql -h $NET.2 -U postgres -qc "create table seed (v text); insert into seed values ('right'); create table t (n bigint primary key)" postgres || return 1
	host a ip addr add $NET.10/24 dev eth0 && host a python3 bin/announce.py $NET.10 && "$SPARE" sync a.st "$WORK/b.st" >/dev/null || return 1
	host a "$SPARE" sync --follow a.st "$WORK/b.st" >follow.out 2>&1 &
	for s in pg app web; do until_true site a svc $s health || { echo "$s"; return 1; }; done
}
check "host a serves" begin
cat >bin/load.py <<-'END2'
	"""A client that knows one address and writes numbers, one after the other: what was answered, and when. Call form: load.py KIND ADDRESS FILE"""
	import socket, subprocess, sys, time
	kind, address, out = sys.argv[1:]
	f = open(out, "a", buffering=1)
	n = int(subprocess.run(["tail", "-n", "1", out], capture_output=True, text=True).stdout.split()[0]) + 1 if f.tell() else 1
	def app():
	    s = socket.create_connection((address, 7000), 1); s.settimeout(2)
	    def put(n):
	        s.sendall(b"put %d\n" % n)
	        assert s.recv(100).split()[1] == b"%d" % n
	    return put
	def pg():
	    p = subprocess.Popen(["psql", "-h", address, "-U", "postgres", "-qAt", "-v", "ON_ERROR_STOP=1", "postgres"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={**__import__("os").environ, "PGCONNECT_TIMEOUT": "2"})
	    def put(n):
	        p.stdin.write("insert into t values (%d) on conflict do nothing;\nselect %d;\n" % (n, n)); p.stdin.flush()
	        import select
	        assert select.select([p.stdout], [], [], 2)[0] and p.stdout.readline().strip() == str(n)
	    return put
	while True:
	    try:
	        put = {"app": app, "pg": pg}[kind]()
	        while True:
	            put(n)
	            f.write("%d %.3f\n" % (n, time.time()))
	            n += 1
	            time.sleep(0.005)
	    except Exception: time.sleep(0.05)
END2
held() { # held KIND: the largest number at host b
	if [ "$1" = app ]; then host b python3 -c 'import socket; s = socket.create_connection(("127.0.0.1", 7000), 2); s.sendall(b"max\n"); print(int(s.recv(100)))'
	else host b psql -h 127.0.0.1 -U postgres -qAtc 'select max(n) from t' postgres; fi
}
one_run() {
	rm -f load.app load.pg; : >load.app; : >load.pg
	for k in app pg; do python3 bin/load.py $k $NET.10 load.$k & LOADS="$LOADS $!"; done
	until_true eval '[ "$(wc -l <load.app)" -gt 100 ] && [ "$(wc -l <load.pg)" -gt 100 ]' || return 1
	local killed
	host a ip link set eth0 down
	kill_host a; killed=$(date +%s.%3N)
	umount -l a.m/.snapshots a.m 2>/dev/null; mv a.st a.gone
	timeout 60 nsenter --net=/run/netns/drb$ID "$SPARE" dr failover b.st --site b --accept-loss any >fail.out 2>&1 </dev/null; local rc=$?
	[ $rc = 0 ] || [ $rc = 20 ] || { cat fail.out; return 1; }
	local before_app before_pg
	until_true eval '[ "$(tail -n 1 load.app | cut -d" " -f2 | cut -d. -f1)" -gt "${killed%.*}" ] && [ "$(tail -n 1 load.pg | cut -d" " -f2 | cut -d. -f1)" -gt "${killed%.*}" ]' || { echo "the clients do not go on"; tail -n 1 load.app load.pg; return 1; }
	kill $LOADS; wait $LOADS 2>/dev/null; LOADS=
	exits 0 "$SPARE" dr report --site b --json || return 1
	host b psql -h 127.0.0.1 -U postgres -qAtc 'select n from t' postgres >pg.have && sqlite3 -readonly b.m/app.db 'select n from t' >app.have || return 1
	python3 - "$WORK" "$killed" <<-'END2'
		import json, sys
		work, killed = sys.argv[1], float(sys.argv[2])
		run = json.loads(open(work + "/out").readline())
		rpo, lost, back = 0, 0, 0
		for kind in "app", "pg":
		    said = [(int(n), float(t)) for n, t in (l.split() for l in open("%s/load.%s" % (work, kind)))]
		    have = {int(l) for l in open("%s/%s.have" % (work, kind))}
		    gone = [(n, t) for n, t in said if n not in have]
		    assert not gone or max(t for n, t in gone) <= killed, "lost after it came back"
		    rpo = max(rpo, killed - min(t for n, t in gone) if gone else 0)
		    lost += len(gone)
		    back = max(back, min(t for n, t in said if t > killed + 0.2) - killed)
		print("FIGURE rto_ms %d own_ms %d rpo_client_ms %d lost %d rpo_said_ms %s client_gap_ms %d" % (run["up_ms"], run["own_ms"], rpo * 1000, lost, run["loss_at_most_ms"], back * 1000))
	END2
}
runs() {
	local i
	for i in $(seq "$RUNS"); do [ "$i" = 1 ] || begin || return 1; one_run >run.out 2>&1 || { cat run.out; return 1; }; grep FIGURE run.out | tee -a figures; done
}
check "killed under load: all three are up at b, and clients that know one address go on" runs
bounds() { awk '{ for (i = 2; i < NF; i += 2) v[$i] = $(i + 1); if (v["rto_ms"] > 15000 || v["own_ms"] > 2000 || v["rpo_client_ms"] > 1000) { print; bad = 1 } } END { exit bad || NR == 0 }' figures; }
check "RTO at most 15 s, of which ours 2 s; RPO at most 1 s as a client saw it" bounds
way_back() { # a is repaired: it rejoins, and all moves back; nothing that b had is lost
	mv a.gone a.st && host a ip addr del $NET.10/24 dev eth0; host a ip link set eth0 up
	exits 0 nsenter --net=/run/netns/drb$ID "$SPARE" dr commit && exits 0 nsenter --net=/run/netns/drb$ID "$SPARE" dr rejoin b.st --site b && exits 0 nsenter --net=/run/netns/dra$ID "$SPARE" dr switchover a.st --site a || return 1
	local s
	for s in pg app web; do site a svc $s health || { echo "$s is not healthy"; return 1; }; done
	sqlite3 -readonly a.m/app.db 'select n from t' >app.back && psql -h $NET.10 -U postgres -qAtc 'select n from t' postgres >pg.back && cmp app.have app.back || return 1
	[ -z "$(sort pg.have | comm -23 - <(sort pg.back))" ] && same standby "$("$SPARE" status --json b.st | sed 's/.*"role":"\([a-z]*\)".*/\1/')"
}
check "the way back: all is as before, and nothing of it lost" way_back
sed 's/^/# /' figures 2>/dev/null
finish
