#!/usr/bin/env python3
"""handles.py DIR: files opened by handle after the kernel has forgotten them, as an NFS server does; one that is gone is stale."""
import ctypes
import os
import sys

libc = ctypes.CDLL(None, use_errno=True)
top = sys.argv[1]
N = 50


class Handle(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_uint), ("type", ctypes.c_int), ("data", ctypes.c_ubyte * 128)]


def handle(path):
    h, mount = Handle(128), ctypes.c_int()
    if libc.name_to_handle_at(-100, path.encode(), ctypes.byref(h), ctypes.byref(mount), 0) != 0:
        raise OSError(ctypes.get_errno(), "handle of " + path)
    return h


os.makedirs(top + "/h/i")
names = [top + "/h/i/f%d" % i for i in range(N)]
for n in names:
    with open(n, "w") as f:
        f.write(n)
handles = [handle(n) for n in names + [top + "/h/i"]]
os.unlink(names[7])
root = os.open(top, os.O_RDONLY)
with open("/proc/sys/vm/drop_caches", "w") as f:
    f.write("3")
for i, h in enumerate(handles):
    fd = libc.open_by_handle_at(root, ctypes.byref(h), os.O_RDONLY)
    if i == 7:
        assert fd < 0 and ctypes.get_errno() == 116, "a file that is gone was opened"
    elif i == N:
        assert len(os.listdir(fd)) == N - 1 and os.readlink("/proc/self/fd/%d" % fd).endswith("/h/i")
    else:
        assert os.read(fd, 4096).decode() == names[i]
