#!/usr/bin/env python3
"""tree.py DIR [no-times] [skip=GLOB...]: one line for each object below DIR, in order: everything that makes two trees the same.
tree.py --same A B [A B]...: whether each two are; says where the first ones are not, and ends with 1.

Path, mode, owner; mtime in ns unless no-times; links, size and device number (not of directories); content as SHA-256 or target;
extended attributes. skip: paths relative to DIR.
"""
import fnmatch
import hashlib
import os
import stat
import sys


def tree(top, times=True, skip=()):
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
            yield what


def main(argv):
    if argv[0] != "--same":
        skip = [os.fsencode(a[5:]) for a in argv[1:] if a.startswith("skip=")]
        for what in tree(os.fsencode(argv[0]), "no-times" not in argv, skip):
            print(what)
        return 0
    for a, b in zip(argv[1::2], argv[2::2], strict=True):
        one, two = list(tree(os.fsencode(a))), list(tree(os.fsencode(b)))
        if one != two or not one:
            print(a, b, "differ:", next(((x, y) for x, y in zip(one, two) if x != y), (len(one), len(two))))
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
