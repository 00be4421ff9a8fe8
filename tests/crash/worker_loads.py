#!/usr/bin/env python3
"""kill -9 of the worker of a mount at work, each while it has a request in its hands: the work ends as if nothing had been.

    worker_loads.py DIR SPARE KILL_AT TORTURE RUNS SEED

RUNS kills each during an untar, git (clone, commits), SQLite and tests/e2e/torture, at random times and points of a request. No
load sees an error; what it leaves is what it leaves undisturbed on another file system (torture has its own model).

The last line is of figures. Exit 1 and a line "FAILED ..." for each violation; what was found stays in DIR.
"""
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time

from worker_rig import HERE, Mount, Probe, campaign, failed, hit, hunt, mounts, run, say, tree

SOURCE = os.path.join(HERE, "..", "..")
ANYWHERE = ("read", "append", "appended", "reply")


GIT = dict(os.environ, GIT_AUTHOR_NAME="a", GIT_AUTHOR_EMAIL="a@b", GIT_COMMITTER_NAME="a", GIT_COMMITTER_EMAIL="a@b",
           GIT_AUTHOR_DATE="2020-01-01T00:00:00Z", GIT_COMMITTER_DATE="2020-01-01T00:00:00Z", GIT_CONFIG_GLOBAL="/dev/null",
           GIT_CONFIG_SYSTEM="/dev/null")


def git(d, *args):
    return run("git", "-C", d, *args, env=GIT)


def work_git(origin, d):
    run("git", "clone", "-q", "--no-local", origin, d + "/clone", env=GIT)
    for i in range(8):
        with open(d + "/clone/README.md", "a") as f:
            f.write("line %d\n" % i)
        git(d + "/clone", "mv", "tests/golden/super.bin" if i == 0 else "moved.%d" % i, "moved.%d" % (i + 1))
        git(d + "/clone", "commit", "-q", "-a", "-m", "change %d" % i)


def work_sqlite(mode, d):
    db = sqlite3.connect(d + "/db", isolation_level=None)
    db.execute("pragma journal_mode=" + mode)
    db.execute("pragma synchronous=full")
    db.execute("create table t(i integer primary key, v text)")
    for i in range(150):
        db.execute("begin")
        for j in range(20):
            db.execute("insert into t values (?, ?)", (i * 20 + j, "%d" % (i * j) * 40))
        if i % 10 == 9:
            db.execute("update t set v = v || 'x' where i % 7 = ?", (i % 7,))
        db.execute("commit")
    db.close()


class Loads:
    """One load each: its command, and what its result is, of which an undisturbed run tells what it must be."""

    def __init__(self, where, spare, torture):
        self.where, self.spare, self.torture = where, spare, torture
        self.origin, self.tar = where + "/origin", where + "/tar"
        os.makedirs(where + "/src")
        for part in ("cli", "fs", "store", "tests", "scripts", "README.md"):
            run("cp", "-R", os.path.join(SOURCE, part), where + "/src")
        run("rm", "-rf", where + "/src/tests/__pycache__", where + "/src/tests/crash/__pycache__")
        run("cp", "-R", where + "/src", self.origin)
        run("git", "-C", self.origin, "init", "-q", "-b", "main", env=GIT)
        git(self.origin, "add", "-A")
        git(self.origin, "commit", "-q", "-m", "all of it")
        os.mkdir(where + "/tree")
        for i in range(6):
            run("cp", "-R", where + "/src", "%s/tree/%d" % (where, i))
            os.link("%s/tree/%d/README.md" % (where, i), "%s/tree/%d/README.link" % (where, i))
            os.symlink("../README.md", "%s/tree/%d/link" % (where, i))
        run("tar", "-C", where, "-cf", self.tar, "tree")

    def command(self, kind, d, n):
        me = os.path.abspath(__file__)
        if kind == "untar":
            return ["tar", "-C", d, "-xf", self.tar]
        if kind == "git":
            return [sys.executable, me, "work_git", self.origin, d]
        if kind == "sqlite":
            return [sys.executable, me, "work_sqlite", ("delete", "wal")[n % 2], d]
        return [self.torture, "--seed", str(n), "--ops", "2500", "--moments", "4", "--spare", self.spare, d + "/st", d + "/m"]

    def result(self, kind, d):
        if kind == "untar":
            return tree(d + "/tree")
        if kind == "git":
            git(d + "/clone", "fsck", "--strict")
            return git(d + "/clone", "rev-parse", "HEAD") + git(d + "/clone", "status", "--porcelain") + tree(d + "/clone", "no-times", "skip=.git*")
        db = sqlite3.connect(d + "/db")
        r = db.execute("pragma integrity_check").fetchall(), db.execute("select * from t order by i").fetchall()
        db.close()
        return r


def torture_ok(out, rc):
    """Each result but the one that every kind of operation occurred, which hangs on the seed."""
    bad = [x for x in out.splitlines() if x.startswith("not ok") and "every_kind" not in x]
    return not bad and (rc == 0 or "not ok" in out) and "1..7" in out


def one_load(loads, kind, m, n, want, took, kill_at, rng, pauses):
    """None when the load was over before anything was killed: to be done again."""
    d = m.where if kind == "torture" else "%s/%d" % (m.dir, n)
    os.makedirs(d, exist_ok=True)
    probe = Probe(m)
    probe.start()
    p = subprocess.Popen(loads.command(kind, d, n), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    time.sleep(rng.uniform(0.05, 0.05 + took * (0.3 if kind == "torture" else 0.75)))
    point = ANYWHERE[rng.randrange(len(ANYWHERE))]
    k = hunt(kill_at, m, "any", point, rng.randrange(20), 2) if p.poll() is None else None
    line, killed = hit(k, m) if k else ("", None)
    pause = None
    if killed is not None and (kind != "torture" or p.poll() is None):
        pause = probe.ended(killed)
    probe.stop = True
    try:
        out = p.communicate(timeout=120)[0]
    except subprocess.TimeoutExpired:
        p.kill()
        failed(kind, n, "hangs for 120 s")
        return True
    probe.join(60)
    ok = torture_ok(out, p.returncode) if kind == "torture" else p.returncode == 0
    if not ok:
        failed(kind, n, "exit status", p.returncode, "after", line, out[-3000:])
    elif kind != "torture":
        try:
            if loads.result(kind, d) != want:
                failed(kind, n, "the result is not that of an undisturbed run, after", line)
        except Exception as e:
            failed(kind, n, "after", line, repr(e))
    if kind != "torture":
        shutil.rmtree(d)
    if killed is None:
        return None
    if pause is not None:
        pauses.append(pause)
    say("%s %d: %s; %s" % (kind, n, line, pause))
    return True


def all_loads(where, spare, kill_at, torture, runs, seed):
    rng = random.Random(seed)
    loads = Loads(where, spare, torture)
    kinds = ("untar", "git", "sqlite", "torture")
    want, took, live = {}, {"torture": 2.0}, {}
    for k in kinds[:3]:
        d = "%s/calm.%s" % (where, k)
        os.mkdir(d)
        run(*loads.command(k, d, 0))
        want[k] = loads.result(k, d)
        live[k] = Mount(spare, os.path.join(where, k))
        os.mkdir(live[k].dir + "/calm")
        t = time.monotonic()
        run(*loads.command(k, live[k].dir + "/calm", 0))
        took[k] = time.monotonic() - t
        if loads.result(k, live[k].dir + "/calm") != want[k]:
            failed(k, "undisturbed, its result is not that on another file system")
    pauses, kills, missed = [], 0, 0
    for n in range(seed, seed + runs):
        for k in kinds:
            for _ in range(10):
                if k == "torture":
                    m = Mount(spare, os.path.join(where, k), quiet=False)    # it wants the tree to itself
                else:
                    m = live[k]
                    m.wait_until_apart()
                if one_load(loads, k, m, n, want.get(k), took[k], kill_at, rng, pauses):
                    kills += 1
                    break
                missed += 1
            if k == "torture":
                subprocess.run([spare, "umount", m.dir], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                mounts.remove(m)
    for k in kinds[:3]:
        live[k].umount()
        run(spare, "check", "--read-data", live[k].store)
    return "%d kills during untar, git, SQLite and torture (%d loads ended first)" % (kills, missed), kills, pauses


def main(argv):
    if argv[0] in ("work_git", "work_sqlite"):
        return globals()[argv[0]](*argv[1:])
    where = os.path.abspath(argv[0])
    campaign(where, lambda: all_loads(where, argv[1], argv[2], argv[3], int(argv[4]), int(argv[5])))


if __name__ == "__main__":
    main(sys.argv[1:])
