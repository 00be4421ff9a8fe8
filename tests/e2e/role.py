#!/usr/bin/env python3
"""role.py DIR1,DIR2 STOP: a client of a service that moves between two mounts. It appends lines 0, 1, 2... to the file "numbers" of the one that takes them, and turns
to the other where it is answered "read-only file system"; each line is tried until it is taken. Ends when the file STOP is there. Prints how many lines, and the longest
time without one; exit status 1: another error, or the file does not have exactly these lines."""
import errno
import os
import sys
import time

dirs, stop = sys.argv[1].split(","), sys.argv[2]
at = count = turns = 0
taken_at = 0
longest, last, fd = 0.0, time.monotonic(), None
while not os.path.exists(stop):
    try:
        if fd is None:
            fd = os.open(os.path.join(dirs[at], "numbers"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(fd, b"%d\n" % count)
    except OSError as e:
        if e.errno != errno.EROFS:
            raise
        if fd is not None:
            os.close(fd)
        fd = None
        at = (at + 1) % len(dirs)
        continue
    now = time.monotonic()
    longest, last = max(longest, now - last), now
    count += 1
    turns += at != taken_at
    taken_at = at
    time.sleep(0.0005)       # some 1,500 lines a second: with the sanitizers a standby takes no more
with open(os.path.join(dirs[at], "numbers")) as f:
    lines = f.read().split()
print("%d lines, %d times to the other side, longest pause %.3f s" % (count, turns, longest), flush=True)
if lines != [str(i) for i in range(count)]:
    print("the file has %d lines, ending %s" % (len(lines), lines[-3:]))
    sys.exit(1)
