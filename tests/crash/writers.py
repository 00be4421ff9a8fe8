#!/usr/bin/env python3
"""Writers that note what was answered, and a check of what is left after a crash.

    writers.py load ME DIR NOTES [UNTIL]   one writer, in DIR/wME; ends with the mount, or when the file UNTIL exists
    writers.py verify DIR answered|synced NOTES...
    writers.py count NOTES...              "OPERATIONS FSYNCS", answered so far

Each operation leaves something that tells whether it survived, and is noted in NOTES (outside of the mount): a line when it
begins, one when it was answered, with the time. Verified is that what is left is a prefix of the order:

    answered   every operation that was answered survived (the daemon died)
    synced     every one answered before an fsync began that was answered survived (the disk lost what was not synced)
    both       none survived that began after one ended that did not; what survived is whole

Prints one line of figures. Exit 1 and a line for each violation.
"""
import os
import sys
import time

BIG = 1 << 20
LINE = 10


def payload(me, i):
    """Every 4th is large, and not all alike."""
    line = b"%s-%07d\n" % (me.encode(), i)
    return (line * (BIG // len(line) + 1))[:BIG] if i % 4 == 0 else line[-LINE:]


def load(me, root, notes, until=None):
    d = os.path.join(root, "w" + me)
    os.makedirs(d, exist_ok=True)
    out = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
    app = os.open(d + "/append", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    seq = 0

    def do(kind, i, call):
        nonlocal seq
        seq += 1
        os.write(out, b"B %d %s %d %d\n" % (seq, kind.encode(), i, time.monotonic_ns()))
        r = call()
        os.write(out, b"E %d %d\n" % (seq, time.monotonic_ns()))
        return r

    i = 0
    try:
        while not (until and os.path.exists(until)):
            i += 1
            name = "%s/f%d" % (d, i)
            fd = do("create", i, lambda: os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644))
            data = payload(me, i)
            do("write", i, lambda: os.write(fd, data))
            if i % 7 == 0:
                do("fsync", i, lambda: os.fsync(fd))
            os.close(fd)
            do("append", i, lambda: os.write(app, b"%09d\n" % i))
            do("link", i, lambda: os.link(name, name + ".l"))
            do("rename", i, lambda: os.rename(name + ".l", name + ".r"))
            do("setxattr", i, lambda: os.setxattr(name, "user.i", b"%d" % i))
            do("mkdir", i, lambda: os.mkdir(name + ".d"))
            do("symlink", i, lambda: os.symlink("to-%d" % i, name + ".s"))
            do("chmod", i, lambda: os.chmod(name, 0o600))
            if i % 5 == 0:
                do("rmdir", i, lambda: os.rmdir(name + ".d"))
            if i % 11 == 0:
                do("truncate", i, lambda: os.truncate(name, 3))
    except OSError as e:
        os.write(out, b"X %d %s\n" % (seq, str(e).encode()))
        return 0 if until is None else 1
    return 0


def read_notes(path):
    ops = []
    for line in open(path, "rb"):
        f = line.split()
        if not line.endswith(b"\n") or f[0] == b"X":
            continue
        if f[0] == b"B":
            ops.append([f[2].decode(), int(f[3]), int(f[4]), None])
        else:
            assert int(f[1]) == len(ops)
            ops[-1][3] = int(f[2])
    return ops


class Tree:
    """What one writer left."""

    def __init__(self, d, me):
        self.d, self.me = d, me
        self.names = set(os.listdir(d)) if os.path.isdir(d) else set()
        try:
            with open(d + "/append", "rb") as f:
                self.lines = f.read()
        except FileNotFoundError:
            self.lines = b""
        self.bad = []
        n = len(self.lines) // LINE
        if self.lines != b"".join(b"%09d\n" % (k + 1) for k in range(n)):
            self.bad.append("w%s/append: %d bytes, not the lines in their order" % (me, len(self.lines)))

    def survived(self, kind, i, later):
        """True, False, or None when it cannot be told. later: kinds of the same i that were begun."""
        n = "f%d" % i
        p = os.path.join(self.d, n)
        if kind == "append":
            return len(self.lines) >= i * LINE
        if kind == "mkdir":
            return None if "rmdir" in later else n + ".d" in self.names
        if kind == "rmdir":
            return n + ".d" not in self.names and n + ".s" in self.names
        if kind == "symlink":
            if n + ".s" not in self.names:
                return False
            if os.readlink(p + ".s") != "to-%d" % i:
                self.bad.append(p + ".s: another target")
            return True
        if kind == "link":
            if n + ".l" in self.names and n + ".r" in self.names:
                self.bad.append(p + ": both names of a rename")
            return n + ".l" in self.names or n + ".r" in self.names
        if kind == "rename":
            return n + ".r" in self.names
        if n not in self.names:
            return None if kind == "fsync" else False
        st = os.stat(p)
        if kind == "create":
            return True
        if kind == "chmod":
            return st.st_mode & 0o777 == 0o600
        if kind == "truncate":
            return st.st_size == 3
        if kind == "setxattr":
            try:
                return os.getxattr(p, "user.i") == b"%d" % i
            except OSError:
                return False
        if kind == "write":
            if "truncate" in later and st.st_size == 3:
                return True
            want = payload(self.me, i)
            with open(p, "rb") as f:
                got = f.read()
            if got != want[:len(got)]:
                self.bad.append("%s: %d bytes, which were never written" % (p, len(got)))
            return len(got) == len(want)
        return None


def verify(root, mode, files):
    bad, last_begin, first_end, lost, whole, flying, synced_at = [], (0, ""), (1 << 63, ""), 0, 0, 0, 0
    all_ops = []
    for path in files:
        me = path.rsplit(".", 1)[1]
        ops = read_notes(path)
        tree = Tree(os.path.join(root, "w" + me), me)
        kinds = {}
        for kind, i, _, _ in ops:
            kinds.setdefault(i, set()).add(kind)
        for kind, i, begin, end in ops:
            if kind == "fsync":
                if end is not None:
                    synced_at = max(synced_at, begin)
                continue
            ok = tree.survived(kind, i, kinds[i])
            if ok is None:
                continue
            name = "w%s/%s %d" % (me, kind, i)
            flying += end is None
            if ok:
                whole += 1
                last_begin = max(last_begin, (begin, name))
            else:
                lost += end is not None
                if end is not None:
                    first_end = min(first_end, (end, name))
            all_ops.append((name, end, ok))
        bad += tree.bad
    for name, end, ok in all_ops:
        if not ok and end is not None and (mode == "answered" or end < synced_at):
            bad.append("%s was %s and is missing" % (name, mode))
    if last_begin[0] > first_end[0]:
        bad.append("no prefix: %s survived, %s, which had ended before it began, did not" % (last_begin[1], first_end[1]))
    for b in bad[:20]:
        print("VIOLATION", b)
    print("survived %d, answered and lost %d, in flight %d, violations %d" % (whole, lost, flying, len(bad)))
    return 1 if bad else 0


def count(files):
    ops = [o for f in files if os.path.exists(f) for o in read_notes(f)]
    done = [o for o in ops if o[3] is not None]
    print(len(done), sum(o[0] == "fsync" for o in done))
    return 0


if __name__ == "__main__":
    what = sys.argv[1]
    if what == "load":
        sys.exit(load(*sys.argv[2:]))
    if what == "verify":
        sys.exit(verify(sys.argv[2], sys.argv[3], sys.argv[4:]))
    sys.exit(count(sys.argv[2:]))
