#!/usr/bin/env python3
"""SQLite as a load that can be verified after a crash.

    sqlite_load.py load NAME DIR NOTES [UNTIL]  one writer on DIR/NAME.db; ends with the mount, or when the file UNTIL exists
    sqlite_load.py verify DIR durable|ordered BEFORE AFTER
    sqlite_load.py count NOTES...               the least number of commits of one of these writers

NAME is one of MODES: how that database is kept. Each commit is noted in NOTES (outside of the mount), a line when it begins, one
when it was answered. What a database holds after k commits is a function of k alone: several rows, of mixed sizes, come with
each, some are changed three commits later, some deleted, all after WINDOW commits. BEFORE and AFTER are folders with copies of
all notes NAME.notes, from before the disk was cut and from after. Verified is, for each database:

    both      SQLite can open it, integrity_check says ok, it holds what it held after some k commits, and those were begun;
              across the databases no commit survived that began after one was answered that did not (the state is a prefix)
    durable   every commit that was answered before the cut is there

But for one commit that SQLite itself does not promise: a rollback journal in mode DELETE with FULL is unlinked, which is the
commit, and the folder not synced (EXTRA does that), so the commit is durable with whatever is synced next. Only that one may be
missing, and only when the journal is there again and no commit of any database began after it and was answered; it is counted as
"unsynced".

Prints one line of figures: commits, rows and milliseconds answered and missing, unsynced, commits in flight that are there.
Exit 1 and a line for each violation.
"""
import os
import sqlite3
import sys
import time

MODES = {"delete": ("delete", "full"), "extra": ("delete", "extra"), "wal": ("wal", "full")}
SIZES = (30, 300, 5000, 900, 90, 12000, 2000)
WINDOW = 300
IDS = 64                                # ids of one commit


def rows_of(i):
    """Some commits are larger than the cache, so that SQLite writes before it commits."""
    return 40 if i % 37 == 0 else 1 + i % 5


def value(name, i, j, generation):
    line = b"%s-%d-%d-%d;" % (name.encode(), i, j, generation)
    size = SIZES[(i + j + generation) % len(SIZES)]
    return (line * (size // len(line) + 1))[:size]


def hashed(i, j):
    return (i * 7919 + j * 104729) % 1000003


def changed_in(i):
    return i % 3 == 0


def deleted_in(i):
    return i % 5 == 0


def expected(name, k):
    """All rows after k commits, in the order of their ids."""
    for i in range(max(1, k - WINDOW + 1), k + 1):
        for j in range(rows_of(i)):
            if j == 1 and i + 7 <= k and deleted_in(i + 7):
                continue
            generation = i + 3 if j == 0 and i + 3 <= k and changed_in(i + 3) else i
            yield i * IDS + j, hashed(i, j), value(name, i, j, generation)


def one_commit(c, name, i):
    c.execute("BEGIN IMMEDIATE")
    c.executemany("INSERT INTO t VALUES(?,?,?)", ((i * IDS + j, hashed(i, j), value(name, i, j, i)) for j in range(rows_of(i))))
    if changed_in(i) and i > 3:
        c.execute("UPDATE t SET v = ? WHERE id = ?", (value(name, i - 3, 0, i), (i - 3) * IDS))
    if deleted_in(i) and i > 7:
        c.execute("DELETE FROM t WHERE id = ?", ((i - 7) * IDS + 1,))
    if i > WINDOW:
        c.execute("DELETE FROM t WHERE id BETWEEN ? AND ?", ((i - WINDOW) * IDS, (i - WINDOW) * IDS + IDS - 1))
    c.execute("UPDATE c SET n = ?", (i,))
    c.execute("COMMIT")


def load(name, root, notes, until=None):
    journal, synchronous = MODES[name]
    out = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)

    def note(what, i):
        os.write(out, b"%s %d %d\n" % (what, i, time.monotonic_ns()))

    i = 0
    try:
        c = sqlite3.connect(os.path.join(root, name + ".db"), isolation_level=None)
        for pragma in ("journal_mode=" + journal, "synchronous=" + synchronous, "cache_size=20", "wal_autocheckpoint=60"):
            c.execute("PRAGMA " + pragma)
        note(b"B", 0)
        c.executescript("BEGIN; CREATE TABLE t(id INTEGER PRIMARY KEY, h INTEGER, v BLOB); CREATE INDEX th ON t(h);"
                        "CREATE TABLE c(n INTEGER); INSERT INTO c VALUES(0); COMMIT;")
        note(b"E", 0)
        while not (until and os.path.exists(until)):
            i += 1
            note(b"B", i)
            one_commit(c, name, i)
            note(b"E", i)
    except (sqlite3.Error, OSError) as e:
        os.write(out, b"X %d %s\n" % (i, str(e).encode()))
        return 0 if until is None else 1
    return 0


def read_notes(path):
    """Two lists of times, by commit: begun, answered."""
    begun, answered = [], []
    for line in open(path, "rb"):
        f = line.split()
        if line.endswith(b"\n") and f[0] in b"BE":
            into = begun if f[0] == b"B" else answered
            assert int(f[1]) == len(into), path
            into.append(int(f[2]))
    return begun, answered


def look(root, name, bad):
    """The last commit of a database, -1 when it has no tables yet; None when what it holds is wrong."""
    try:
        c = sqlite3.connect(os.path.join(root, name + ".db"), isolation_level=None)
        check = c.execute("PRAGMA integrity_check").fetchall()
        if check != [("ok",)]:
            bad.append("%s.db: integrity_check: %s" % (name, check[:3]))
            return None
        if not c.execute("SELECT 1 FROM sqlite_master WHERE name = 'c'").fetchone():
            return -1
        (k,), = c.execute("SELECT n FROM c").fetchall()
        want = expected(name, k)
        for found in c.execute("SELECT id, h, v FROM t ORDER BY id"):
            w = next(want, None)
            if found != w:
                bad.append("%s.db after commit %d: found row %s, expected %s" % (name, k, found[:2], w and w[:2]))
                return None
        w = next(want, None)
        if w is not None:
            bad.append("%s.db after commit %d: row %s is missing" % (name, k, w[:2]))
            return None
        c.close()
        return k
    except sqlite3.Error as e:
        bad.append("%s.db: %s" % (name, e))
        return None


def verify(root, profile, before, after):
    bad, have, answered, begun = [], {}, {}, {}
    unlink_undone = os.path.exists(os.path.join(root, "delete.db-journal"))
    names = sorted(f[:-len(".notes")] for f in os.listdir(before) if f.endswith(".notes"))
    for name in names:
        answered[name] = read_notes(os.path.join(before, name + ".notes"))[1]
        begun[name], ended = read_notes(os.path.join(after, name + ".notes"))
        have[name] = (look(root, name, bad), ended)
    if not names:
        bad.append("no notes in " + before)
    # What was answered before this moment was synced by the commit that began then and was answered, whoever's it was.
    synced_at = max(begun[name][len(answered[name]) - 1] for name in names if answered[name])
    now = max(a[-1] for a in answered.values() if a)
    commits = rows = unsynced = flying = since = 0
    for name in names:
        k, _ = have[name]
        if k is None:
            continue
        missing = range(k + 1, len(answered[name]))
        flying += max(0, k + 1 - len(answered[name]))
        if k >= len(begun[name]):
            bad.append("%s.db: commit %d was never begun" % (name, k))
        if name == "delete" and profile == "durable" and len(missing) == 1 and unlink_undone and answered[name][-1] > synced_at:
            unsynced += 1
            continue
        commits += len(missing)
        rows += sum(rows_of(i) for i in missing if i)
        since = max([since] + [now - answered[name][i] for i in missing[:1]])
        if missing and profile == "durable":
            bad.append("%s.db: commit %d was answered and is missing, the last one there is %d" % (name, missing[0], k))
    for a in names:
        for b in names:
            (k, _), (lost, ended) = have[a], have[b]
            if None in (k, lost) or not 0 <= k < len(begun[a]) or lost + 1 >= len(ended):
                continue
            if begun[a][k] > ended[lost + 1]:
                bad.append("no prefix: commit %d of %s.db survived, commit %d of %s.db, answered before that began, did not" % (k, a, lost + 1, b))
    for b in bad[:20]:
        print("VIOLATION", b)
    print("missing %d commits %d rows %d ms unsynced %d flying %d violations %d" % (commits, rows, since // 1000000, unsynced, flying, len(bad)))
    return 1 if bad else 0


def count(files):
    print(min(len(read_notes(f)[1]) if os.path.exists(f) else 0 for f in files))
    return 0


if __name__ == "__main__":
    what = {"load": load, "verify": verify}.get(sys.argv[1])
    sys.exit(what(*sys.argv[2:]) if what else count(sys.argv[2:]))
