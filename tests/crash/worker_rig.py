"""worker_rig.py: what worker_points.py and worker_loads.py share: mounts, kills at a point of a request, and the pause of each.

While a worker dies something asks every few milliseconds for what nobody touched in the last second and the kernel cannot know: the
longest such wait around a kill is its pause. A supervisor waits longer before each restart when kills of one mount are less than
10 s apart, and gives up after six; so they are further apart where the pause counts.
"""
import collections
import json
import os
import shutil
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TREE = os.path.join(HERE, "..", "lib", "tree.py")
APART_S = 10.3                   # fs/supervisor.c counts crashes within 10 s
PROBE_S = 0.003
PAUSE_MAX_MS = 300
# On a machine that has other work the pause is that of the others. With CRASH_REALTIME the mount, who kills it and who measures get
# a processor before anybody else; the loads do not.
REALTIME = ["chrt", "--rr", "1"] if os.environ.get("CRASH_REALTIME") else []

violations = []


def say(*what):
    """A line, as one: print writes the end of a line by itself, and another thread's line gets between."""
    sys.stdout.write(" ".join(map(str, what)) + "\n")
    sys.stdout.flush()


def failed(*what):
    violations.append(what)
    say("FAILED", *what)


def run(*args, **kw):
    r = subprocess.run(args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300, **kw)
    if r.returncode != 0:
        raise RuntimeError("%s: exit status %d: %s" % (" ".join(map(str, args)), r.returncode, r.stdout.decode(errors="replace")[-2000:]))
    return r.stdout


def tree(path, *how):
    return run(sys.executable, TREE, path, *how)


def put(path, text):
    with open(path, "xb") as f:
        f.write(text)


# ---- mounts


class Mount:
    def __init__(self, spare, where, quiet=True):
        self.spare, self.where = spare, where
        self.store, self.dir, self.log = (os.path.join(where, x) for x in ("st", "m", "daemon.log"))
        self.killed_at = -APART_S
        shutil.rmtree(where, ignore_errors=True)
        os.makedirs(self.dir)
        run(spare, "init", self.store)
        self.mount()
        mounts.append(self)
        self.quiet = None
        if quiet:
            self.quiet = os.path.join(self.dir, "quiet")
            os.mkdir(self.quiet)
            put(self.quiet + "/file", b"")
            os.setxattr(self.quiet + "/file", "user.x", b"1")

    def mount(self):
        run(*REALTIME, self.spare, "mount", self.store, self.dir, "-o", "log=" + self.log)

    def umount(self):
        run(self.spare, "umount", self.dir)

    def worker(self):
        """The child among the two processes of this mount; None between two of them."""
        found = {}
        for p in os.listdir("/proc"):
            try:
                with open("/proc/%s/cmdline" % p, "rb") as f:
                    args = f.read().split(b"\0")
                if b"mount" in args and self.store.encode() in args:
                    with open("/proc/%s/stat" % p) as f:
                        found[int(p)] = int(f.read().rsplit(") ", 1)[1].split()[1])
            except (OSError, ValueError, IndexError):
                pass
        return next((p for p, parent in found.items() if parent in found), None)

    def wait_until_apart(self):
        time.sleep(max(0, self.killed_at + APART_S - time.monotonic()))

    def records(self):
        """How many of each type are in the log, but for those of mounts and restarts, and of what hangs on when the kernel forgets."""
        n = collections.Counter()
        d = os.path.join(self.store, "log")
        for segment in sorted(os.listdir(d)):
            for line in run(self.spare, "dump", "--json", os.path.join(d, segment)).splitlines():
                n[json.loads(line).get("type", "-")] += 1
        for other in ("-", "EPOCH", "INCARNATION", "MOUNT", "REAP"):
            n.pop(other, None)
        return n


mounts = []


# ---- the pause


class Pause(collections.namedtuple("Pause", "ms busy_ms starved_ms")):
    def __str__(self):
        return "pause %.0f ms (the new worker ran for %.0f ms and waited %.0f ms for a processor)" % self


class Probe(threading.Thread):
    """Asks on and on until stopped; times in ns."""

    serial = 0

    def __init__(self, m):
        super().__init__(daemon=True)
        self.m, self.took, self.stop, self.error = m, [], False, None

    def ask(self):
        Probe.serial += 1
        kind = Probe.serial % 3 if self.m.quiet else 2
        if kind == 0:
            try:                     # a name nobody asked for yet
                os.stat("%s/missing-%d" % (self.m.quiet, Probe.serial))
                raise RuntimeError("a name that was never made is there")
            except FileNotFoundError:
                pass
        elif kind == 1:
            if os.getxattr(self.m.quiet + "/file", "user.x") != b"1":
                raise RuntimeError("the attribute has another value")
        else:
            os.statvfs(self.m.dir)

    def run(self):
        if REALTIME:
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(2))     # this thread
        try:
            while not self.stop:
                t = time.monotonic_ns()
                self.ask()
                self.took.append((t, time.monotonic_ns()))
                time.sleep(PROBE_S)
        except Exception as e:
            self.error = repr(e)

    def ended(self, killed_ns):
        """Stops it some time after the kill; the pause."""
        def after():
            return next((e for b, e in reversed(self.took) if b > killed_ns), None)
        end = time.monotonic() + 60
        while after() is None and not self.error and time.monotonic() < end:
            time.sleep(0.005)
        busy_ns = starved_ns = 0
        try:                         # of the new worker's main thread, which does all that a restart takes
            with open("/proc/%d/schedstat" % self.m.worker()) as f:
                busy_ns, starved_ns = map(int, f.read().split()[:2])
        except (OSError, TypeError):
            pass
        time.sleep(0.25)
        self.stop = True
        self.join(60)
        if self.error or self.is_alive():
            failed("probe:", self.error or "it hangs")
        return Pause(*(x / 1e6 for x in (max((e - b for b, e in self.took if e > killed_ns), default=0), busy_ns, starved_ns)))


def hunt(kill_at, m, opcodes, point, skip, seconds):
    """A kill_at that has everything in its hands, None when the worker is just gone."""
    w = m.worker()
    if w is None:
        return None
    p = subprocess.Popen(REALTIME + [kill_at, "--skip", str(skip), "--seconds", str(seconds), str(w), opcodes, point], stdout=subprocess.PIPE, text=True)
    if p.stdout.readline() != "armed\n":
        p.wait()
        return None
    return p


def hit(p, m):
    """Its line, and when it killed; None when nothing came to the point."""
    line = p.stdout.readline().strip()
    if p.wait() != 0:
        return line, None
    m.killed_at = time.monotonic()
    return line, int(line.rsplit(" ", 1)[1])


def quantile(values, q):
    s = sorted(values)
    return s[min(len(s) - 1, int(q * len(s)))]


def figures(pauses):
    def three(name, values):
        return "%s p50 %.0f ms, p99 %.0f ms, longest %.0f ms" % (name, quantile(values, .5), quantile(values, .99), max(values))
    if not pauses:
        return "no pause was measured"
    return "%s (%s; %s)" % (three("pause", [p.ms for p in pauses]), three("of which the new worker ran", [p.busy_ms for p in pauses]),
                            three("and waited for a processor", [p.starved_ms for p in pauses]))


def campaign(where, text_kills_pauses, pause_counts=True):
    """Runs one in ${where}, which is emptied first; prints its figures, and ends with its exit status."""
    with open("/proc/self/mountinfo") as f:
        if any(line.split()[4].startswith(where + "/") for line in f):
            sys.exit("%s: something is mounted below it" % where)
    shutil.rmtree(where, ignore_errors=True)
    os.makedirs(where)
    try:
        text, kills, pauses = text_kills_pauses()
    finally:
        for m in mounts:
            subprocess.run(["umount", "-l", m.dir], stderr=subprocess.DEVNULL)
    if pause_counts:
        text += "; " + figures(pauses)
        if pauses and quantile([p.ms for p in pauses], .99) >= PAUSE_MAX_MS:
            failed("the pause: its p99 is to stay below %d ms" % PAUSE_MAX_MS)
    print("%s; %d violations" % (text, len(violations)))
    sys.exit(1 if violations or kills == 0 else 0)
