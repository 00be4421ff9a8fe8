#!/usr/bin/env python3
"""kill -9 of the worker of a mount between a record's append and its answer: nobody may notice, and nothing be done twice.

    worker_points.py DIR SPARE KILL_AT RUNS SEED [quick]

For each of create, rename, unlink, link and append a mount, two writers that do a fixed sequence of such operations, and RUNS kills
of the worker between append and answer (by turns before and after the record was applied), a tenth of that each before the append
and after the answer; kill_at.c has the points. quick: four kills for each, and no time between them. What must hold: no writer sees
an error, which a doubled operation would be (EEXIST, ENOENT, a line twice), the tree is the one of a run without kills, after the
next mount too, and the log has as many records of each type as there.

The last line is of figures. Exit 1 and a line "FAILED ..." for each violation; what was found stays in DIR.
"""
import concurrent.futures
import os
import random
import select
import stat
import subprocess
import sys

from worker_rig import Mount, Probe, campaign, failed, hit, hunt, put, run, say, tree

OPS = 30                         # of each writer for each kill

OPCODES = {"create": "6,8,9,35", "rename": "12,45", "unlink": "10,11", "link": "13", "append": "16"}
BETWEEN = ("appended", "applied")
AROUND = ("read", "append", "replied")


def do_create(d, r):
    for i in range(OPS):
        p = "%s/%d.%d" % (d, r, i)
        if i % 4 == 0:
            os.mknod(p, stat.S_IFREG | 0o640)
        elif i % 4 == 1:
            os.close(os.open(p, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        elif i % 4 == 2:
            os.mkdir(p, 0o750)
        else:
            os.symlink("target %d" % i, p)
        yield


def do_rename(d, r):
    for i in range(OPS):
        put("%s/%d.%d.from" % (d, r, i), b"%d of %d" % (i, r))
        if i % 3 == 0:
            put("%s/%d.%d.to" % (d, r, i), b"replaced")
    yield
    for i in range(OPS):
        os.rename("%s/%d.%d.from" % (d, r, i), "%s/%d.%d.to" % (d, r, i))
        yield


def do_unlink(d, r):
    for i in range(OPS):
        p = "%s/%d.%d" % (d, r, i)
        if i % 4 == 0:
            os.mkdir(p)
        else:
            put(p, b"%d of %d" % (i, r))
            if i % 3 == 0:
                os.link(p, p + ".kept")
    unnamed = os.open("%s/%d.1" % (d, r), os.O_RDONLY)
    yield
    for i in range(OPS):
        p = "%s/%d.%d" % (d, r, i)
        os.rmdir(p) if i % 4 == 0 else os.unlink(p)
        yield
    assert os.read(unnamed, 100) == b"1 of %d" % r and os.fstat(unnamed).st_nlink == 0
    os.close(unnamed)


def do_link(d, r):
    p = "%s/%d" % (d, r)
    put(p, b"%d" % r)
    yield
    for i in range(OPS):
        os.link(p, "%s.%d" % (p, i))
        assert os.stat(p).st_nlink == 2 + i
        yield


def do_append(d, r):
    f = os.open(d + "/lines", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
    yield
    for i in range(OPS):
        line = b"%d.%d\n" % (r, i)
        assert os.write(f, line) == len(line)
        yield
    os.close(f)
    with open(d + "/lines", "rb") as f:
        assert f.read().splitlines()[-OPS:] == [b"%d.%d" % (r, i) for i in range(OPS)]


def writer(kind, d, rounds, ops):
    """Prepares each round, says so, waits for a line, does it, says so, waits for a line."""
    global OPS
    OPS = int(ops)
    os.umask(0o22)
    os.makedirs(d, exist_ok=True)
    for r in range(int(rounds)):
        steps = globals()["do_" + kind](d, r)
        if kind != "create":
            next(steps)
        os.write(1, b"ready\n")
        os.read(0, 1)
        for _ in steps:
            pass
        os.write(1, b"done\n")
        os.read(0, 1)


class Writers:
    """Two, which live through all kills of a mount."""

    def __init__(self, kind, m, rounds):
        self.kind = kind
        self.all = [subprocess.Popen([sys.executable, os.path.abspath(__file__), "writer", kind, "%s/w/%d" % (m.dir, me), str(rounds), str(OPS)],
                                     bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for me in (1, 2)]

    def go(self):
        """To the next thing they wait for."""
        for p in self.all:
            p.stdin.write(b"g")

    def said(self, word):
        for p in self.all:
            got = os.read(p.stdout.fileno(), 100) if select.select([p.stdout], [], [], 60)[0] else b"nothing for 60 s"
            if got != word + b"\n":
                p.kill()
                raise RuntimeError("%s: a writer: %s" % (self.kind, (got + p.communicate()[0]).decode()))


def one_point(kill_at, m, w, kind, point, r, rng, pauses):
    probe = Probe(m)
    probe.start()
    w.said(b"ready")
    skip = rng.randrange(OPS)        # of 2 * OPS that come
    p = hunt(kill_at, m, OPCODES[kind], point, skip, 20)
    w.go()
    line, killed = hit(p, m) if p else ("no worker to be found", None)
    w.said(b"done")
    if killed is None:
        failed(kind, point, "no kill:", line)
    pause = probe.ended(killed or 0)
    w.go()
    pauses.append(pause)
    say("%s %d: %s; %s" % (kind, r, line, pause))
    return killed is not None


def compare(spare, where, kind, m, rounds):
    """The mount with the kills against one that does the same without."""
    calm = Mount(spare, os.path.join(where, "calm-" + kind))
    w = Writers(kind, calm, rounds)
    for r in range(rounds):
        w.said(b"ready")
        w.go()
        w.said(b"done")
        w.go()
    want = tree(calm.dir + "/w", "no-times")
    for when in "before", "after":
        if tree(m.dir + "/w", "no-times") != want:
            failed(kind, "the tree", when, "the next mount is not that of a run without kills")
        m.umount()
        if when == "before":
            m.mount()
    calm.umount()
    if m.records() != calm.records():
        failed(kind, "records in the log:", dict(m.records()), "and without kills:", dict(calm.records()))
    run(spare, "check", "--read-data", m.store)


def points(where, spare, kill_at, runs, seed, quick):
    global OPS
    rng = random.Random(seed)
    if quick:
        OPS = 12
        plan = list(BETWEEN) + ["append", "replied"]
    else:
        plan = [BETWEEN[i % 2] for i in range(runs)] + [p for p in AROUND for _ in range(max(1, runs // 10))]
    live = {k: Mount(spare, os.path.join(where, k)) for k in OPCODES}
    w = {k: Writers(k, live[k], len(plan)) for k in OPCODES}
    pauses, kills = [], []

    def turn(r, kind):
        if not quick:
            live[kind].wait_until_apart()
        if one_point(kill_at, live[kind], w[kind], kind, plan[r], r, rng, pauses):
            kills.append(kind)

    def all_of(kind):
        for r in range(len(plan)):
            turn(r, kind)
        compare(spare, where, kind, live[kind], len(plan))

    if quick:
        with concurrent.futures.ThreadPoolExecutor(len(OPCODES)) as pool:
            list(pool.map(all_of, OPCODES))
    else:
        for r in range(len(plan)):
            for k in OPCODES:
                turn(r, k)
        for k in OPCODES:
            compare(spare, where, k, live[k], len(plan))
    return "%d kills at forced points, %d each between append and answer of create, rename, unlink, link and append" % (
        len(kills), len([p for p in plan if p in BETWEEN])), len(kills), pauses


def main(argv):
    if argv[0] == "writer":
        return writer(*argv[1:])
    quick = "quick" in argv
    where = os.path.abspath(argv[0])
    campaign(where, lambda: points(where, argv[1], argv[2], int(argv[3]), int(argv[4]), quick), not quick)


if __name__ == "__main__":
    main(sys.argv[1:])
