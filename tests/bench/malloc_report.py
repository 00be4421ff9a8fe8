#!/usr/bin/env python3
"""malloc_report.py BEFORE AFTER MAPS PER: what was asked of malloc between two readings of a file of preload/malloc_count.c; MAPS is a copy of the
process's /proc/PID/maps. A line for each thread, by what it does or the outermost function of ours in it: what it asked for, and times for each of PER requests;
below it who asked most."""
import bisect
import collections
import struct
import subprocess
import sys

DEPTH = 28
ROW = struct.Struct("<%dQ" % (3 + DEPTH))
SHOWN = 4
MAINS = {"shim_loop": "requests", "applier_main": "applier", "committer_main": "committer"}


class Names:
    def __init__(self, maps):
        self.parts, self.tables = [], {}
        for line in open(maps):
            f = line.split()
            if len(f) >= 6 and f[5].startswith("/") and "x" in f[1]:
                lo, hi = (int(x, 16) for x in f[0].split("-"))
                self.parts.append((lo, hi, int(f[2], 16), f[5]))

    def table(self, path):
        """Functions of a file by address in it; of a stripped one those it exports."""
        if path not in self.tables:
            rows = []
            for arg in ([], ["-D"]):
                out = subprocess.run(["nm", "-C", "-S", "--defined-only", *arg, path], capture_output=True, text=True).stdout
                for line in out.splitlines():
                    f = line.split(None, 3)
                    if len(f) == 4 and f[2] in "tTwWiu":
                        rows.append((int(f[0], 16), f[3].split("(")[0], int(f[1], 16)))
                if rows:
                    break
            self.tables[path] = sorted(rows)
        return self.tables[path]

    def name(self, a):
        for lo, hi, off, path in self.parts:
            if lo <= a < hi:
                t = self.table(path)
                i = bisect.bisect_right(t, (a - 1 - lo + off + self.bias(path), "\xff", 0)) - 1
                at = a - 1 - lo + off + self.bias(path)
                return (t[i][1] if i >= 0 and at < t[i][0] + t[i][2] else "?"), path.rsplit("/", 1)[-1]
        return "?", "?"

    def bias(self, path):
        key = ("bias", path)
        if key not in self.tables:
            out = subprocess.run(["readelf", "-lW", path], capture_output=True, text=True).stdout
            loads = [line.split() for line in out.splitlines() if line.split()[:1] == ["LOAD"] and " E " in line.replace("R E", " E ")]
            self.tables[key] = int(loads[0][2], 16) - int(loads[0][1], 16) if loads else 0
        return self.tables[key]


def read(path):
    data = open(path, "rb").read()
    rows = {}
    for o in range(0, len(data) - ROW.size + 1, ROW.size):
        r = ROW.unpack_from(data, o)
        if r[0]:
            rows[(r[0], r[3:])] = r[1:3]
    return rows


before, after, names, per = read(sys.argv[1]), read(sys.argv[2]), Names(sys.argv[3]), int(sys.argv[4])
threads = collections.defaultdict(list)
for (tid, stack), (n, size) in after.items():
    was = before.get((tid, stack), (0, 0))
    if n > was[0]:
        threads[tid].append((n - was[0], size - was[1], [names.name(a) for a in stack if a]))
for tid, rows in sorted(threads.items(), key=lambda x: -sum(r[0] for r in x[1])):
    ours = collections.Counter()
    for n, _, stack in rows:
        mine = [f for f, lib in stack if lib == "spare"]
        libs = [lib.split(".")[0] for f, lib in stack if not lib.startswith(("spare", "libc.", "libstdc"))]
        begun = [f for f in mine if f in MAINS]
        ours[MAINS[begun[0]] if begun else mine[-1] if mine else libs[0] if libs else "?"] += n
    total = sum(r[0] for r in rows)
    print("thread %d (%s): %d, %.3f for each of %d" % (tid, ours.most_common(1)[0][0], total, total / per, per))
    merged = collections.Counter()
    for n, _, stack in rows:
        inner = [f if lib == "spare" else "%s %s" % (lib.split(".")[0], f[:50]) for f, lib in stack]
        merged[" < ".join(inner[:6])] += n
    for text, n in merged.most_common(SHOWN):
        print("    %9d  %s" % (n, text))
