#!/usr/bin/env python3
"""relay.py [up=N] [down=N] [log=FILE] [kill=1] ARG... COMMAND: stands for ssh (spare sync --ssh): runs COMMAND by sh, and passes bytes both ways.

up, down: after so many bytes towards COMMAND, or back, the line is cut: not one more passes in any direction. kill: COMMAND is killed then (-9),
so that what it has not written is lost. log: one line is appended: bytes up, bytes down, position of the first RECORDS message, largest
durable address acknowledged, largest position of what was acknowledged as received. All read from what passed.
"""
import os
import select
import struct
import subprocess
import sys

opts = dict(a.split("=", 1) for a in sys.argv[1:-1] if a.split("=", 1)[0] in ("up", "down", "log", "kill") and "=" in a)
limit = [int(opts.get("up", -1)), int(opts.get("down", -1))]
# setsid: the command runs as at the far end of a line, not as a part of this process's group.
child = subprocess.Popen(["sh", "-c", sys.argv[-1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
ways = [(0, child.stdin.fileno()), (child.stdout.fileno(), 1)]
count, seen = [0, 0], [b"", b""]
first, durable, received = 0, 0, 0

HEAD = struct.Struct("<IHHII16sQII")


def look(way, data):
    """What passed, message by message."""
    global first, durable, received
    seen[way] += data
    while len(seen[way]) >= 48:
        magic, kind, _, body, _, _, position, _, _ = HEAD.unpack_from(seen[way])
        if magic != 0x4D575053 or len(seen[way]) < 48 + body:
            return
        if kind == 5 and first == 0:
            first = position
        if kind == 6:
            durable = max(durable, struct.unpack_from("<Q", seen[way], 48)[0])
            received = max(received, position)
        seen[way] = seen[way][48 + body:]


open_ways = [0, 1]
cut = False
while open_ways and not cut:
    ready, _, _ = select.select([ways[w][0] for w in open_ways], [], [])
    for w in list(open_ways):
        if ways[w][0] not in ready or cut:
            continue
        try:
            data = os.read(ways[w][0], 65536)
        except OSError:
            data = b""
        if limit[w] >= 0 and count[w] + len(data) >= limit[w] and data:
            data = data[:limit[w] - count[w]]
            cut = True
        if data:
            count[w] += len(data)
            look(w, data)
            try:
                os.write(ways[w][1], data) if len(data) <= 4096 else [os.write(ways[w][1], data[i:i + 4096]) for i in range(0, len(data), 4096)]
            except OSError:
                data = b""
        if not data:
            open_ways.remove(w)
            os.close(ways[w][1])
            if w == 1:
                open_ways = []
# Before the ends are closed: whoever started this may end it as soon as they are.
if "log" in opts:
    with open(opts["log"], "a") as f:
        f.write("%d %d %d %d %d\n" % (count[0], count[1], first, durable, received))
if cut and opts.get("kill"):
    child.kill()
for f in (child.stdin, child.stdout):
    try:
        f.close()
    except OSError:
        pass
for fd in (0, 1) if cut else ():
    try:
        os.close(fd)
    except OSError:
        pass
child.wait()
sys.exit(child.returncode if not cut else 0)
