#!/usr/bin/env python3
"""lag.py STORE MOUNT untar|sqlite|rpo0 SECONDS TAR: works in the mount for so long (rpo0: four writers fsync in directories whose fsync returns once a standby has it, beside untar), and asks every 50 ms how far the standby is behind by what it
acknowledged as durable: the age of the oldest operation it lacks. Prints the percentiles."""
import os
import sqlite3
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from control import Control  # noqa: E402

store, mount, load, seconds, tar = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]), sys.argv[5]
end = time.time() + seconds


def untar():
    i = 0
    while time.time() < end:
        d = os.path.join(mount, "t%d" % (i % 3))
        subprocess.run(["rm", "-rf", d], check=True)
        os.mkdir(d)
        subprocess.run(["tar", "-xf", tar, "-C", d], check=True)
        i += 1


def sqlite():
    c = sqlite3.connect(os.path.join(mount, "load.db"), isolation_level=None)
    c.execute("pragma journal_mode=wal")
    c.execute("pragma synchronous=full")
    c.execute("create table if not exists t(a integer primary key, b text)")
    while time.time() < end:
        c.execute("insert into t(b) values (?)", ("x" * 500,))


waits = []               # of each fsync in a directory with rpo=0


def committer(n):
    d = os.path.join(mount, "rpo0-%d" % n)
    os.makedirs(d, exist_ok=True)
    os.setxattr(d, "user.spare.rpo", b"0")
    i = 0
    while time.time() < end:
        fd = os.open(os.path.join(d, "f%d" % (i % 100)), os.O_CREAT | os.O_WRONLY)
        os.pwrite(fd, b"%0500d\n" % i, i % 7 * 500)
        begin = time.time()
        os.fsync(fd)
        waits.append(time.time() - begin)
        os.close(fd)
        i += 1


def rpo0():
    workers = [threading.Thread(target=committer, args=(n,)) for n in range(4)]
    for w in workers:
        w.start()
    untar()
    for w in workers:
        w.join()


worker = threading.Thread(target={"untar": untar, "sqlite": sqlite, "rpo0": rpo0}[load])
worker.start()
control = Control(store)
lags, bytes_, ops, due = [], [], [], time.time()
while time.time() < end:
    due += 0.05
    time.sleep(max(0, due - time.time()))
    b = control.ask("status")[0]["standbys"][0]
    if not b["connected"]:
        sys.exit("the standby went away")
    lags.append(b["lag_seconds"])
    bytes_.append(b["lag_bytes"])
    ops.append(b["lag_operations"])
worker.join()
at = lambda v, q: sorted(v)[min(len(v) - 1, int(len(v) * q))]  # noqa: E731
print("p50 %.3f s, p99 %.3f s, max %.3f s of %d samples; at most %.1f MB and %d operations" % (at(lags, 0.5), at(lags, 0.99), max(lags), len(lags),
      max(bytes_) / 1e6, max(ops)) + ("; %d fsyncs there, p50 %.1f ms, p99 %.1f ms" % (len(waits), at(waits, 0.5) * 1e3, at(waits, 0.99) * 1e3) if waits else ""))
