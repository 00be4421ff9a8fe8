"""control.py: asks whoever serves a store, over its control socket, as store/svc/wire.h says."""
import json
import os
import socket
import struct


class Control:
    def __init__(self, store):
        self.s = socket.socket(socket.AF_UNIX)
        d = os.open(store, os.O_PATH | os.O_DIRECTORY)
        self.s.connect("/proc/self/fd/%d/control" % d)
        os.close(d)
        assert self.take(1) == b"S"

    def take(self, n):
        data = b""
        while len(data) < n:
            more = self.s.recv(n - len(data))
            if not more:
                raise EOFError("nobody serves the store any more")
            data += more
        return data

    def ask(self, op, **args):
        """The items of the answer; an error is raised."""
        text = json.dumps(dict(args, op=op)).encode()
        self.s.sendall(struct.pack("<II", len(text), 0) + text)
        items = []
        while True:
            n, b = struct.unpack("<II", self.take(8))
            f = json.loads(self.take(n))
            self.take(b)
            if f["type"] == "end":
                if "error" in f:
                    raise RuntimeError(f["error"]["message"])
                return items
            if f["type"] == "item":
                items.append(f["item"])
