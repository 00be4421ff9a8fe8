#!/bin/sh
# test_powerfs.sh: powerfs keeps its own rules, bites a careless program and
# spares careful ones (SQLite, RocksDB).  TAP on stdout.
#
#   POWERFS_BUILD=DIR   use powerfs, powerfs_selftest and powerfs_rocks from DIR,
#                       else build them with gcc, ASan and UBSan
#   POWERFS_CUTS=N      cuts per victim (default 100)
#   POWERFS_SEED=N      first seed (default 1); a failure prints the seed
set -u

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
cuts=${POWERFS_CUTS:-100}
first=${POWERFS_SEED:-1}
tmp=$(mktemp -d) || exit 2
mnt=$tmp/mnt
sock=$tmp/ctl
pid=

finish() {
    if [ -n "$pid" ]; then
        umount "$mnt" 2>/dev/null || fusermount3 -uz "$mnt" 2>/dev/null
        wait "$pid"
    fi
    rm -rf "$tmp"
}
trap finish EXIT
trap 'exit 130' INT TERM

if [ ! -c /dev/fuse ]; then
    echo "1..0 # SKIP no /dev/fuse"
    exit 0
fi

count=0
failed=0
result() { # STATUS NAME
    count=$((count + 1))
    if [ "$1" -eq 0 ]; then
        echo "ok $count - $2"
    else
        echo "not ok $count - $2"
        failed=$((failed + 1))
    fi
}

build() {
    flags="-std=c11 -D_GNU_SOURCE -Wall -Wextra -Wshadow -Wconversion -Werror -g -O1 -I$top"
    san="-fsanitize=address,undefined -fno-sanitize-recover=undefined"
    c=$here/powerfs
    set -- "$c.c" "${c}_ctl.c" "${c}_client.c" "${c}_data.c" "${c}_dir.c" "${c}_fs.c" \
        "${c}_image.c" "${c}_ops.c"
    # shellcheck disable=SC2086,SC2046
    gcc $flags $san $(pkg-config --cflags fuse3) "$@" -o "$tmp/powerfs" \
        $(pkg-config --libs fuse3) -lpthread &&
        gcc $flags $(pkg-config --cflags fuse3) "$@" -o "$tmp/powerfs_ctl" \
            $(pkg-config --libs fuse3) -lpthread &&
        gcc $flags $san "${c}_selftest.c" "${c}_client.c" -o "$tmp/powerfs_selftest" &&
        gcc $flags "${c}_rocks.c" "${c}_client.c" -o "$tmp/powerfs_rocks" -lrocksdb
}

ctl() { "$client" --client="$sock" "$@"; }

# The socket listens before the mount and answers after it.
start() { # OPTION...
    mkdir -p "$mnt"
    "$bin/powerfs" -f "$@" --ctl="$sock" "$mnt" 2>"$tmp/log" &
    pid=$!
    deadline=$(($(date +%s) + 20))
    until ctl status >/dev/null 2>&1; do
        if [ "$(date +%s)" -ge "$deadline" ] || ! kill -0 "$pid" 2>/dev/null; then
            sed 's/^/# /' "$tmp/log"
            echo "Bail out! powerfs did not start"
            exit 1
        fi
    done
}

stop() {
    umount "$mnt" 2>/dev/null || fusermount3 -u "$mnt"
    wait "$pid"
    rc=$?
    pid=
    [ -s "$tmp/log" ] && sed 's/^/# /' "$tmp/log" && rc=1
    return "$rc"
}

# Transactions of three rows and a counter; "ack N" after each commit.
load() { # JOURNAL SYNCHRONOUS FROM
    echo ".bail on"
    echo "PRAGMA journal_mode=$1; PRAGMA synchronous=$2; PRAGMA cache_size=20; PRAGMA wal_autocheckpoint=20;"
    i=$3
    last=$(($3 + 40))
    while [ "$i" -lt "$last" ]; do
        i=$((i + 1))
        echo "BEGIN;"
        echo "INSERT INTO t SELECT $i, randomblob(1500) FROM (SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3);"
        echo "UPDATE t SET v = randomblob(900) WHERE n = $i - 5;"
        echo "UPDATE c SET n = $i; COMMIT;"
        echo "SELECT 'ack', $i;"
    done
}

# Cut SQLite at random calls; prints the number of bad ends, and "damage" if it
# stopped at a database that is not sound.
sqlite_cuts() { # JOURNAL SYNCHRONOUS CUTS all|first|damage
    bad=0
    done_cuts=0
    acks=0
    seed=$first
    ctl load empty >/dev/null
    mkdir "$mnt/db"
    fresh=1
    while [ "$done_cuts" -lt "$3" ]; do
        db=$mnt/db/x$fresh.sqlite
        [ -e "$db" ] || {
            sqlite3 "$db" "PRAGMA journal_mode=$1; CREATE TABLE t(n INTEGER, v BLOB);
                CREATE TABLE c(n INTEGER); INSERT INTO c VALUES(0);" >/dev/null
            ctl sync >/dev/null
            ack=0
        }
        case $((seed % 4)) in
        0) mode=drop-all ;;
        1) mode=prefix ;;
        *) mode=random ;;
        esac
        load "$1" "$2" "$ack" >"$tmp/sql"
        ctl arm $((1 + seed * 7919 % (seed % 5 ? 150 : 700))) "$seed" "$mode" >/dev/null
        sqlite3 "$db" <"$tmp/sql" >"$tmp/out" 2>/dev/null
        case $(ctl status) in
        *state=dead*) done_cuts=$((done_cuts + 1)) ;;
        *) ctl cut "$seed" "$mode" >/dev/null && done_cuts=$((done_cuts + 1)) ;;
        esac
        ctl revive >/dev/null
        said=$(sed -n 's/^ack|//p' "$tmp/out" | tail -n 1)
        said=${said:-$ack}
        acks=$((acks + said - ack))
        check=$(sqlite3 "$db" "PRAGMA integrity_check; SELECT n FROM c; SELECT count(*) FROM t;" \
            2>&1 | tr '\n' ' ')
        # shellcheck disable=SC2086
        set -- "$1" "$2" "$3" "$4" $check
        if [ $# -eq 7 ] && [ "$5" = ok ] && [ "$6" -ge "$said" ] &&
            [ "$6" -le $((said + 1)) ] && [ "$7" -eq $(($6 * 3)) ]; then
            ack=$6
        else
            bad=$((bad + 1))
            echo "# $1 $2 seed $seed $mode: acknowledged $said, found: $(echo "$check" | cut -c1-120)" >&2
            fresh=$((fresh + 1))
            [ "$4" = first ] && break
            [ "$4" = damage ] && [ "${5:-}" != ok ] && break
        fi
        set -- "$1" "$2" "$3" "$4"
        seed=$((seed + 1))
    done
    [ "$4" = damage ] && [ "${5:-ok}" != ok ] && bad=damage
    echo "# $1 $2: $done_cuts cuts, $acks acknowledged transactions, $bad bad" >&2
    echo "$bad"
}

if [ -n "${POWERFS_BUILD:-}" ]; then
    bin=$POWERFS_BUILD
    client=$bin/powerfs
else
    bin=$tmp
    client=$tmp/powerfs_ctl # starts faster than a sanitized one
    build || {
        echo "Bail out! build failed"
        exit 1
    }
fi

echo "1..9"
for kind in strict ext4-like; do
    if [ $kind = strict ]; then start; else start --ext4-like; fi
    timeout 120 "$bin/powerfs_selftest" "$mnt" "$sock" $kind >"$tmp/tap"
    rc=$?
    sed 's/^/# /' "$tmp/tap"
    result $rc "rules_$kind"
    stop || failed=$((failed + 1))
done

start
ctl save empty >/dev/null
for pair in DELETE:EXTRA TRUNCATE:FULL PERSIST:FULL WAL:FULL; do
    bad=$(sqlite_cuts "${pair%:*}" "${pair#*:}" "$cuts" all 2>"$tmp/notes")
    cat "$tmp/notes"
    [ "$bad" = 0 ]
    result $? "sqlite_${pair%:*}_${pair#*:}_survives_$cuts"
done
# The cuts must bite: what does not sync is damaged, what does not sync the
# directory after unlinking its journal loses its last commit.
bad=$(sqlite_cuts DELETE OFF "$cuts" damage 2>"$tmp/notes")
cat "$tmp/notes"
[ "$bad" = damage ]
result $? "sqlite_DELETE_OFF_is_damaged"
bad=$(sqlite_cuts DELETE FULL "$cuts" first 2>"$tmp/notes")
cat "$tmp/notes"
[ "$bad" != 0 ]
result $? "sqlite_DELETE_FULL_loses_a_commit"
ctl load empty >/dev/null
mkdir "$mnt/rocks"
"$bin/powerfs_rocks" "$mnt/rocks" "$sock" "$first" "$cuts"
result $? "rocksdb_without_wal_survives_$cuts"
stop || failed=$((failed + 1))
[ "$failed" -eq 0 ]
