#!/usr/bin/env python3
"""tree.py DIR [no-times] [skip=GLOB...]: one line for each object below DIR, in order: everything that makes two trees the same.

Path, mode, owner; mtime in ns unless no-times; links, size and device number (not of directories); content as SHA-256 or target;
extended attributes. skip: paths relative to DIR.
"""
import fnmatch
import hashlib
import os
import stat
import sys

top = os.fsencode(sys.argv[1])
times = "no-times" not in sys.argv
skip = [os.fsencode(a[5:]) for a in sys.argv[2:] if a.startswith("skip=")]
for d, dirs, files in os.walk(top):
    dirs.sort()
    for name in sorted([b"."] if d == top else []) + sorted(dirs) + sorted(files):
        p = os.path.join(d, name)
        rel = os.path.relpath(p, top)
        if any(fnmatch.fnmatch(rel, g) for g in skip):
            continue
        s = os.lstat(p)
        t = stat.S_IFMT(s.st_mode)
        what = [rel, oct(s.st_mode), s.st_uid, s.st_gid]
        if times:
            what.append(s.st_mtime_ns)
        if t != stat.S_IFDIR:
            what += [s.st_nlink, s.st_size, s.st_rdev]
        if t == stat.S_IFREG:
            h = hashlib.sha256()
            with open(p, "rb") as f:
                for piece in iter(lambda: f.read(1 << 20), b""):
                    h.update(piece)
            what.append(h.hexdigest())
        if t == stat.S_IFLNK:
            what.append(os.readlink(p))
        else:
            what.append(sorted((x, os.getxattr(p, x)) for x in os.listxattr(p)))
        print(what)
