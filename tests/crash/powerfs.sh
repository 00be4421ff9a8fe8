#!/bin/bash
# powerfs.sh: powerfs keeps its own rules, bites careless programs and spares careful ones (SQLite, RocksDB).
# Environment: tests/lib/tap.sh; POWERFS_CUTS cuts per victim (30), POWERFS_SEED the first seed (1); a failure prints the seed.
set -u
. "${SPARE_SRC:?}/tests/lib/tap.sh"
. "$SPARE_SRC/tests/lib/powerfs.sh"
need_root
need_fuse
cuts=${POWERFS_CUTS:-30}
first=${POWERFS_SEED:-1}
trap powerfs_stop EXIT

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
    powerfs_ctl load empty >/dev/null
    mkdir "$PFS/db"
    fresh=1
    while [ "$done_cuts" -lt "$3" ]; do
        db=$PFS/db/x$fresh.sqlite
        [ -e "$db" ] || {
            sqlite3 "$db" "PRAGMA journal_mode=$1; CREATE TABLE t(n INTEGER, v BLOB);
                CREATE TABLE c(n INTEGER); INSERT INTO c VALUES(0);" >/dev/null
            powerfs_ctl sync >/dev/null
            ack=0
        }
        case $((seed % 4)) in
        0) mode=drop-all ;;
        1) mode=prefix ;;
        *) mode=random ;;
        esac
        load "$1" "$2" "$ack" >"$WORK/sql"
        powerfs_ctl arm $((1 + seed * 7919 % (seed % 5 ? 150 : 700))) "$seed" "$mode" >/dev/null
        sqlite3 "$db" <"$WORK/sql" >"$WORK/out" 2>/dev/null
        case $(powerfs_ctl status) in
        *state=dead*) done_cuts=$((done_cuts + 1)) ;;
        *) powerfs_ctl cut "$seed" "$mode" >/dev/null && done_cuts=$((done_cuts + 1)) ;;
        esac
        powerfs_ctl revive >/dev/null
        said=$(sed -n 's/^ack|//p' "$WORK/out" | tail -n 1)
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


rules() { # rules KIND OPTION...
	local kind=$1
	shift
	powerfs_start "$@" && timeout 120 "$(tool crash/powerfs_selftest)" "$PFS" "$PFS_CTL" "$kind" && powerfs_stop
}
check rules_strict rules strict
check rules_ext4_like rules ext4-like --ext4-like
victims() { powerfs_start && powerfs_ctl save empty; }
check "powerfs for the victims" victims
spares() { [ "$(sqlite_cuts "$1" "$2" "$cuts" all)" = 0 ]; }
for pair in DELETE:EXTRA TRUNCATE:FULL PERSIST:FULL WAL:FULL; do
	check "sqlite_${pair%:*}_${pair#*:}_survives_$cuts" spares "${pair%:*}" "${pair#*:}"
done
# The cuts must bite: what does not sync is damaged; what does not sync the directory after unlinking its journal loses
# its last commit.
bites() { [ "$(sqlite_cuts DELETE OFF 300 damage)" = damage ]; }
loses() { [ "$(sqlite_cuts DELETE FULL 300 first)" != 0 ]; }
check sqlite_DELETE_OFF_is_damaged bites
check sqlite_DELETE_FULL_loses_a_commit loses
rocks() { powerfs_ctl load empty && mkdir "$PFS/rocks" && "$(tool crash/powerfs_rocks)" "$PFS/rocks" "$PFS_CTL" "$first" "$cuts"; }
check "rocksdb_without_wal_survives_$cuts" rocks
check "powerfs ends quietly" powerfs_stop
finish
