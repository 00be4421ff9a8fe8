#!/usr/bin/env python3
"""watch.py STORE OUT: until its standard input ends, every 50 ms what the two processes of STORE's mount take and what of its work is not in
the index, or not durable there. The highest of each goes to OUT as one JSON object: TEXT_kib of supervisor and worker (VmRSS and what it is of),
both_kib the highest of the sum; unapplied and unflushed as the store counts them; samples, and the longest time between two."""
import json
import os
import select
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from control import Control  # noqa: E402

KINDS = ("VmRSS", "RssAnon", "RssFile", "RssShmem")
COUNTERS = ("unapplied_operations", "unapplied_bytes", "unflushed_operations", "unflushed_bytes", "memory_bytes", "cache_rows")


def processes(store):
    """Of the mount: pid of the supervisor and of the worker, its child."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/cmdline" % pid, "rb") as f:
                args = f.read().split(b"\0")
            with open("/proc/%s/stat" % pid) as f:
                parent = int(f.read().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        if b"mount" in args and store.encode() in args:
            found[int(pid)] = parent
    for pid, parent in found.items():
        if parent in found:
            return parent, pid
    sys.exit("watch.py: %s: no mount found" % store)


def sizes(pid):
    kib = {}
    with open("/proc/%d/status" % pid) as f:
        for line in f:
            k, _, v = line.partition(":")
            if k in KINDS:
                kib[k] = int(v.split()[0])
    return kib


def main():
    store, out = sys.argv[1:]
    who = dict(zip(("supervisor", "worker"), processes(store)))
    control = Control(store)
    top, n, longest, last = {}, 0, 0.0, time.monotonic()
    while not select.select([sys.stdin], [], [], 0.05)[0]:
        try:
            now = {"%s_%s_kib" % (w, k): v for w, pid in who.items() for k, v in sizes(pid).items()}
            info = control.ask("info")[0]
        except (OSError, EOFError):
            break
        now["both_kib"] = now["supervisor_VmRSS_kib"] + now["worker_VmRSS_kib"]
        now.update({k: info[k] for k in COUNTERS if k in info})
        for k, v in now.items():
            top[k] = max(v, top.get(k, 0))
        n += 1
        t = time.monotonic()
        longest, last = max(longest, t - last), t
    top.update(samples=n, longest_ms=round(longest * 1000), last=now)
    with open(out, "w") as f:
        json.dump(top, f)


main()
