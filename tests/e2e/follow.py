#!/usr/bin/env python3
"""follow.py PRIMARY_STORE PRIMARY_MOUNT STANDBY_MOUNT SECONDS: one changes names and content at the primary, and as soon as the standby reports
that applied, looks at it there: stat, open and read, listing, and names that are not there. Others look all the time, so that the kernel has
everything cached, and another writes, so that there is always something to be told. Prints what was done; exit status 1: a difference, or a look
that took 20 s (a deadlock)."""
import os
import random
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from control import Control  # noqa: E402

store, here, there, seconds = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])
r = random.Random(int(os.environ.get("SEED", "1")))
names = ["n%d" % i for i in range(12)]
dirs = ["", "d0/", "d1/"]
paths = [d + n for d in dirs for n in names]
for d in ("d0", "d1", "load"):
    os.makedirs(os.path.join(here, d), exist_ok=True)
stop = threading.Event()
busy_since = [0.0]
failed = []
looks = [0]


def fail(text):
    failed.append(text)
    stop.set()


def look(top, path):
    """What everybody can see of a path: (mode, size, content), None: not there."""
    p = os.path.join(top, path)
    try:
        s = os.stat(p)
        with open(p, "rb") as f:
            data = f.read()
        return s.st_mode, s.st_size, data
    except FileNotFoundError:
        return None


def looker(seed):
    q = random.Random(seed)
    while not stop.is_set():
        p = q.choice(paths)
        try:
            if q.randrange(6) == 0:
                os.listdir(os.path.join(there, q.choice(dirs)))
            else:
                look(there, p)
        except OSError as e:
            # A file that goes between stat, open and read is gone: that is what the primary's users would see, too.
            if e.errno not in (2, 116):
                fail("%s at the standby: %s" % (p, e))
        looks[0] += 1


def loader():
    q = random.Random(99)
    i = 0
    while not stop.is_set():
        i += 1
        p = os.path.join(here, "load", "l%d" % q.randrange(200))
        with open(p, "wb") as f:
            f.write(b"x" * q.choice([10, 4096, 100000]))
        if q.randrange(3) == 0:
            os.unlink(p)
        time.sleep(0.002)


def watchdog():
    while not stop.wait(0.5):
        if busy_since[0] and time.time() - busy_since[0] > 20:
            print("a look at the standby, or the wait for it, takes more than 20 s", flush=True)
            os._exit(1)


c = Control(store)
threads = [threading.Thread(target=looker, args=(i,), daemon=True) for i in range(3)]
threads += [threading.Thread(target=loader, daemon=True), threading.Thread(target=watchdog, daemon=True)]
for t in threads:
    t.start()
end = time.time() + seconds
done = {}
while time.time() < end and not stop.is_set():
    touched = set()
    for _ in range(r.randrange(1, 4)):
        p, q = r.choice(paths), r.choice(paths)
        kind = r.choice(["write", "append", "unlink", "rename", "chmod", "shrink"])
        a, b = os.path.join(here, p), os.path.join(here, q)
        try:
            if kind == "write":
                with open(a, "wb") as f:
                    f.write(b"%d " % r.randrange(10**9) * r.choice([1, 10, 1000, 30000]))
            elif kind == "append":
                with open(a, "ab") as f:
                    f.write(b"%d " % r.randrange(10**9))
            elif kind == "unlink":
                os.unlink(a)
            elif kind == "rename":
                os.rename(a, b)
            elif kind == "chmod":
                os.chmod(a, r.choice([0o600, 0o644, 0o755]))
            else:
                os.truncate(a, r.randrange(100))
        except FileNotFoundError:
            pass
        done[kind] = done.get(kind, 0) + 1
        touched |= {p, q}
    busy_since[0] = time.time()
    want = c.ask("info")[0]["head_lsn"]
    while not stop.is_set():
        at = c.ask("status")[0]["standbys"]
        if at and at[0]["connected"] and at[0].get("applied_lsn", 0) >= want:
            break
        time.sleep(0.001)
    for p in sorted(touched):
        x, y = look(here, p), look(there, p)
        if x != y:
            fail("%s: the primary has %s, the standby %s" % (p, x and (oct(x[0]), x[1], x[2][:30]), y and (oct(y[0]), y[1], y[2][:30])))
    for d in {os.path.dirname(p) for p in touched}:
        x, y = set(os.listdir(os.path.join(here, d))), set(os.listdir(os.path.join(there, d)))
        if x != y:
            fail("%s: listed only here %s, only there %s" % (d or "the root", x - y, y - x))
    busy_since[0] = 0
    done["compared"] = done.get("compared", 0) + len(touched)
stop.set()
print(done, "looks beside:", looks[0], flush=True)
for f in failed[:5]:
    print(f, flush=True)
sys.exit(bool(failed) or done.get("compared", 0) < 20)
