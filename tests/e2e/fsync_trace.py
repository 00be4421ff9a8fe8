#!/usr/bin/env python3
"""What strace saw of a worker: was each fsync answered only when what it asked for was on the disk?

    fsync_trace.py TRACE LOGDIR   TRACE of strace -f -y -xx -s 40 with the calls that read, write and sync; LOGDIR the log of the store

For each FSYNC and FSYNCDIR read from /dev/fuse: every write to a file of the log that ended, and was answered, before the request
was read must be followed by a sync of that file that began after that write ended, and ended with 0 before the reply began. strace
stops a thread when a call begins and when it ends and writes lines in that order, so the order of lines is what happened: a begin
is written before the call is made, an end after it. A write counts as answered once its thread goes on to another message.

Prints one line of figures: fsyncs answered, those of them with something to sync when they came, and violations; exit 1 with any,
after a line for each of the first.
"""
import re
import struct
import sys

FSYNC, FSYNCDIR = 20, 30
LINE = re.compile(r"^(\d+) +(?:<\.\.\. (\w+) resumed>|(\w+)\()(.*)$")
FILE = re.compile(r"^(\d+)<([^>]*)>")
RESULT = re.compile(r"\) += (-?\d+)")
BYTES = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


def plain(hexed):
    return bytes.fromhex(hexed.replace("\\x", ""))


class Trace:
    def __init__(self, logdir):
        self.logdir = logdir.rstrip("/")
        self.begun = {}         # thread: (line, arguments) of a call that has not ended
        self.written = {}       # thread: {file: line at which its last write of it ended}, not answered yet
        self.answered = {}      # file: the last such line among those answered
        self.synced = {}        # file: the line at which the last sync that ended had begun
        self.asked = {}         # (descriptor, unique): (line, what had been answered then)
        self.fsyncs = self.waited = 0
        self.bad = []

    def of_log(self, args):
        """The file of the log that a call is about, or None."""
        f = FILE.match(args)
        path = plain(f.group(2)).decode() if f and f.group(2).startswith("\\x") else f and f.group(2)
        return path if path and path.rsplit("/", 1)[0] == self.logdir else None

    @staticmethod
    def device(args):
        f = FILE.match(args)
        return int(f.group(1)) if f and f.group(2) in ("/dev/fuse", "".join("\\x%02x" % b for b in b"/dev/fuse")) else None

    def unsynced(self, need):
        return [f for f, line in need.items() if self.synced.get(f, -1) < line]

    def goes_on(self, thread):
        for f, line in self.written.pop(thread, {}).items():
            self.answered[f] = max(line, self.answered.get(f, -1))

    def begin(self, at, thread, call, args):
        device = self.device(args)
        if device is None:
            return
        self.goes_on(thread)
        head = BYTES.search(args)
        if call not in ("write", "writev") or not head or len(plain(head.group(1))) < 16:
            return
        _, error, unique = struct.unpack("<IiQ", plain(head.group(1))[:16])
        came, need = self.asked.pop((device, unique), (0, None))
        if need is None or error != 0:
            return
        self.fsyncs += 1
        for f in self.unsynced(need):
            self.bad.append("line %d: fsync %d, read at line %d, is answered: %s was written up to line %d, the last sync that ended began at line %d"
                            % (at, unique, came, f, need[f], self.synced.get(f, -1)))

    def end(self, at, began, thread, call, args, result):
        f = self.of_log(args)
        if f and call.startswith("pwrite") and result > 0:
            self.written.setdefault(thread, {})[f] = at
        elif f and call in ("fsync", "fdatasync") and result == 0:
            self.synced[f] = max(began, self.synced.get(f, -1))
        elif self.device(args) is not None and call in ("read", "readv") and result >= 40:
            head = plain(BYTES.search(args).group(1))
            _, opcode, unique = struct.unpack("<IIQ", head[:16])
            if opcode in (FSYNC, FSYNCDIR):
                need = dict(self.answered)
                self.waited += bool(self.unsynced(need))
                self.asked[(self.device(args), unique)] = (at, need)

    def line(self, at, text):
        m = LINE.match(text)
        if not m:
            return
        thread, resumed, call, rest = m.groups()
        if call:
            self.begin(at, thread, call, rest)
            if rest.endswith("<unfinished ...>"):
                self.begun[thread] = (at, rest[:-len("<unfinished ...>")])
                return
            began, args = at, rest
        else:
            if thread not in self.begun:
                return              # it had begun before strace came
            began, args = self.begun.pop(thread)
            args, call = args + rest, resumed
        result = RESULT.search(args)
        if result:
            self.end(at, began, thread, call, args, int(result.group(1)))


def main(path, logdir):
    t = Trace(logdir)
    for at, text in enumerate(open(path), 1):
        t.line(at, text.rstrip("\n"))
    for b in t.bad[:5]:
        print(b)
    print("fsyncs %d waited %d violations %d" % (t.fsyncs, t.waited, len(t.bad)))
    return 1 if t.bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
