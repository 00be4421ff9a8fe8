#!/usr/bin/env python3
"""circle.py DIR SPARE RUNS FROM: the whole circle of two sites, RUNS times, from seed FROM on; last a line of figures.

A is the primary, mounted, and ships to B by itself. The line is cut while work goes on, A dies (all of it, its worker, or nothing but the line),
B is promoted; both go on, pack, thin, name moments, hold some open. A goes back and follows B: what only it had is a branch. Then the roles are
switched back. Processes of either side are killed (-9) at random times in all of this, and each command is given again until it is done.

Compared with the model (circle_model.py): both trees, each snapshot, the branch and what was named in it, its manifest and what both sides
changed; all of it again with the indexes made anew. What was sent to A is held against what B has beyond the fork and its base.
"""
import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import circle_model as model  # noqa: E402
import tree  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
WRITERS = ("w0", "w1")
KEEP_NOTHING = ["keep-all=1s", "min-age=0", "reclaim-grace=0"] + ["keep-%s=0" % k for k in ("hourly", "daily", "weekly", "monthly", "yearly")]
KILLS_IN_10_S = 4                # fs/supervisor.c gives up after more
TRIES = 60
SLACK = 64 << 10                 # what the conversation itself takes
HELLO = 8 * 80                   # and for each epoch: each HELLO has all rows of the table
KEEP_BRANCHES = 2


class Violation(Exception):
    pass


def say(*what):
    sys.stdout.write(" ".join(map(str, what)) + "\n")
    sys.stdout.flush()


def processes(test):
    out = []
    for p in os.listdir("/proc"):
        try:
            with open("/proc/%s/cmdline" % p, "rb") as f:
                args = os.fsdecode(f.read()).split("\0")
            if p.isdigit() and test(args):
                out.append(int(p))
        except OSError:
            pass
    return out


def kill(pids):
    for p in pids:
        try:
            os.kill(p, signal.SIGKILL)
        except ProcessLookupError:
            pass


def until(what, test, seconds=30):
    end = time.monotonic() + seconds
    while not test():
        if time.monotonic() > end:
            raise Violation("not within %d s: %s" % (seconds, what))
        time.sleep(0.03)


class Site:
    def __init__(self, rig, name):
        self.rig, self.name = rig, name
        self.store, self.dir, self.log = (os.path.join(rig.where, x % name) for x in ("%s", "m.%s", "%s.log"))
        self.killed, self.moments = [], {}           # name -> {writer: State}
        self.dead, self.life = False, 0              # nothing is left of its mount, for we ended it; how often we did
        os.mkdir(self.dir)

    def mounted(self):
        with open("/proc/self/mountinfo") as f:
            return any(line.split()[4] == self.dir for line in f)

    def daemons(self):
        return processes(lambda a: "log=" + self.log in a or any(x.endswith("log=" + self.log) for x in a))

    def worker(self):
        parents = {}
        for p in self.daemons():
            try:
                with open("/proc/%d/stat" % p) as f:
                    parents[p] = int(f.read().rsplit(") ", 1)[1].split()[1])
            except OSError:
                pass
        return [p for p, parent in parents.items() if parent in parents]

    def serves(self):
        return processes(lambda a: "serve" in a and "--stdio" in a and self.store in a)

    def kill_worker(self):
        now = time.monotonic()
        self.killed = [t for t in self.killed if now - t < 11]
        w = self.worker()
        if w and len(self.killed) < KILLS_IN_10_S:
            self.killed.append(now)
            kill(w)
            self.rig.count("worker")

    def kill_serve(self):
        s = self.serves()
        if s:
            kill(s)
            self.rig.count("far end")

    def kill_all(self):
        self.dead = True
        self.life += 1
        kill(self.daemons())
        until("the daemons of %s are gone" % self.name, lambda: not self.daemons())
        subprocess.run(["umount", "-l", self.dir], stderr=subprocess.DEVNULL)
        self.killed = []
        self.rig.count("all of a mount")

    def mount(self, how=None):
        (how or self.rig.do)("mount", self.store, self.dir, "-o", "log=" + self.log)
        self.killed, self.dead = [], False

    def umount(self):
        rc, err = 0, ""
        for _ in range(TRIES):
            if not self.mounted():
                break
            if err:
                time.sleep(0.1)
            rc, _, err = self.rig.spare("umount", self.dir, ok=None)
            if rc and not self.mounted():
                say("umount of %s: done, with exit status %d: %s" % (self.name, rc, err))
        else:
            raise Violation("umount of %s: exit status %d: %s" % (self.name, rc, err))
        if not self.mounted():
            until("the daemons of %s are gone" % self.name, lambda: not self.daemons())

    def place(self):
        return self.dir if self.mounted() else self.store

    def status(self):
        return json.loads(self.rig.spare("status", "--json", self.place(), ok=None)[1] or "{}")

    def role(self):
        return self.status().get("role")


class Load(threading.Thread):
    """Writers at a site until stopped or refused."""

    def __init__(self, site, writers, rng):
        super().__init__(daemon=True)
        self.site, self.writers, self.rng, self.stop, self.error, self.steps = site, writers, rng, False, None, 0
        self.life = site.life
        self.start()

    def run(self):
        try:
            while not self.stop:
                self.rng.choice(self.writers).step(self.site.dir)
                self.steps += 1
                if self.rng.random() < 0.3:
                    time.sleep(self.rng.random() * 0.004)
        except OSError as e:
            self.error = e
        except Exception as e:       # of the rig itself
            self.error = e
            self.site.rig.failed = self.site.rig.failed or repr(e)

    def end(self):
        self.stop = True
        self.join(60)
        if self.is_alive():
            raise Violation("a write at %s hangs" % self.site.name)


class Rig:
    def __init__(self, where, spare_program):
        self.where, self.program = where, spare_program
        self.kills, self.failed, self.figures, self.named = {}, None, {}, 0
        self.bytes_log = os.path.join(where, "bytes")
        self.said = os.path.join(where, "said")      # by the far end at A
        self.cut_file = os.path.join(where, "cut")
        self.way = {}
        for site, command in (("a", 'exec sh -c "$a"'), ("b", 'exec python3 %s log=%s "$a" 2>>%s' % (os.path.join(HERE, "..", "lib", "relay.py"), self.bytes_log, self.said))):
            self.way[site] = os.path.join(where, "way." + site)
            with open(self.way[site], "w") as f:
                f.write("#!/bin/sh\n[ ! -e %s ] || exit 255\nfor a; do :; done\n%s\n" % (self.cut_file, command))
            os.chmod(self.way[site], 0o755)
        self.a, self.b = Site(self, "a"), Site(self, "b")

    def count(self, what, n=1):
        self.kills[what] = self.kills.get(what, 0) + n

    def figure(self, what, n=1):
        self.figures[what] = self.figures.get(what, 0) + n

    # ---- commands

    def spare(self, *args, ok=(0,), before_end=None):
        """Runs one; before_end(process): called while it runs."""
        p = subprocess.Popen([self.program, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self.where)
        if before_end:
            before_end(p)
        try:
            out, err = p.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            p.kill()
            raise Violation("spare %s: no end within 120 s" % " ".join(args)) from None
        err = err.decode(errors="replace")
        if p.returncode < 0 and p.returncode != -signal.SIGKILL:
            raise Violation("spare %s: died by signal %d: %s" % (" ".join(args), -p.returncode, err))
        if ok is not None and p.returncode not in ok:
            raise Violation("spare %s: exit status %d: %s" % (" ".join(args), p.returncode, err[-1500:]))
        return p.returncode, out.decode(errors="replace"), err

    def do(self, *args):
        """Until it is done: what it needs may be between two lives. Where nothing was killed: spare()."""
        for i in range(TRIES):
            rc, out, err = self.spare(*args, ok=None)
            if rc in (0, 3):
                return out
            time.sleep(0.1)
        raise Violation("spare %s: exit status %d, %d times: %s" % (" ".join(args), rc, TRIES, err[-1500:]))

    def killing(self, rng, args, victims, done, p=0.6, within=0.5, retry=None):
        """A command, with something killed while it runs, given again until done()."""
        rc, err = None, ""
        for i in range(TRIES):
            def before_end(process):
                if i < 3 and rng.random() < p:
                    time.sleep(rng.random() * within)
                    victim = rng.choice(victims + ["command"])
                    if victim == "command":
                        if process.poll() is None:
                            process.kill()
                            self.count("command")
                    else:
                        victim()
            rc, out, err = self.spare(*args, ok=None, before_end=before_end)
            if done(rc):
                return rc
            if retry:
                retry()
            time.sleep(0.1)
        raise Violation("spare %s: not done after %d times, exit status %d: %s" % (" ".join(args), TRIES, rc, err[-1500:]))

    def sleep(self, rng, at_most, victims=()):
        """Time for work, with perhaps a kill in it."""
        t = rng.random() * at_most
        time.sleep(t)
        if victims and rng.random() < 0.5:
            rng.choice(victims)()
        time.sleep(at_most - t if rng.random() < 0.5 else 0)

    # ---- comparisons

    def same(self, what, top, states):
        for name, state in states.items():
            wrong = model.difference(model.scan(os.path.join(top, name)), model.render(state))
            if wrong:
                raise Violation("%s, %s: %s" % (what, name, wrong))

    def moments_are(self, what, site, top, needed=True):
        for name, states in site.moments.items():
            if not os.path.isdir(os.path.join(top, ".snapshots", name) + "/."):
                if needed:
                    raise Violation("%s: the snapshot %s is not there" % (what, name))
                continue
            self.same("%s, at %s" % (what, name), os.path.join(top, ".snapshots", name), states)
            self.figure("moments compared")

    def check(self, store):
        rc, out, err = self.spare("check", "--read-data", store)
        if "No damage" not in out:
            raise Violation("%s: %s%s" % (store, out, err))


def states_of(writers):
    return {w.name: w.states[-1] for w in writers}


class Circle:
    def __init__(self, rig, n, writers):
        self.rig, self.n, self.rng, self.a, self.b = rig, n, random.Random(n), rig.a, rig.b
        self.writers = writers           # of A
        self.other = None                # of B
        self.held = []                   # (site, its life, open file, what it has)

    def load(self, site, writers):
        return Load(site, writers, random.Random(self.rng.random()))

    @staticmethod
    def end(load, fenced=False):
        """The load of a site ends. Nothing ends it before but that the site leaves its role, or that all of its mount dies: that a worker was killed nobody notices."""
        load.end()
        if load.error and load.life == load.site.life and not (fenced and isinstance(load.error, OSError) and load.error.errno == errno.EROFS):
            raise Violation("%s: its load ended after %d operations: %r" % (load.site.name, load.steps, load.error))

    def settle(self, site, writers, load, fenced=False):
        """The load of a site ends; what it was not answered is looked at."""
        self.end(load, fenced)
        if site.dead:
            return
        if not site.mounted() or not site.daemons():
            raise Violation("%s: nobody ended its mount, and it is %s" % (site.name, "without a process" if site.mounted() else "gone"))
        for w in writers:
            until("%s answers" % site.name, lambda: self.answers(site))
            wrong = w.resolve(site.dir)
            if wrong:
                raise Violation("%s, %s after its load (%s): %s" % (site.name, w.name, load.error, wrong))

    @staticmethod
    def answers(site):
        try:
            os.listdir(site.dir)
            return True
        except OSError:
            return False

    def past(self, site, writers):
        """Work on the past of a site while its load rests: a snapshot, one held open and deleted, packing, thinning."""
        rng, rig = self.rng, self.rig
        if rng.random() < 0.7:
            self.rig.named += 1
            name = "%s-%d-%d" % (site.name, self.n, self.rig.named)
            rig.do("snapshot", "create", name, "--store", site.dir)
            site.moments[name] = states_of(writers)
        if rng.random() < 0.4:
            rc, out, err = rig.spare("snapshot", "create", "open-%d" % self.n, "--store", site.dir, ok=None)
            if rc == 0:
                w = rng.choice(writers)
                seen = model.render(w.states[-1])
                files = [p for p, o in seen.items() if o[0] == "f"]
                for p in rng.sample(files, min(3, len(files))):
                    self.held.append((site, site.life, open(os.path.join(site.dir, ".snapshots", "open-%d" % self.n, w.name, p), "rb"), seen[p][4]))
            rig.spare("snapshot", "delete", "open-%d" % self.n, "--store", site.dir, ok=None)
        if rng.random() < 0.7:
            rig.killing(rng, ["reclaim", *(["--now"] if rng.random() < 0.6 else []), site.dir], [site.kill_worker], lambda rc: rc in (0, 3), p=0.3, within=0.2)
            rig.figure("reclaims")
        if len(site.moments) > 5 and rng.random() < 0.5:
            name = next(iter(site.moments))
            if rig.spare("snapshot", "delete", name, "--store", site.dir, ok=None)[0] == 0:
                del site.moments[name]

    def let_go(self, site):
        """What is held open reads as it was, and is closed."""
        for _, life, f, want in [h for h in self.held if h[0] is site]:
            try:
                data = f.read()
                if model.digest(data) != want:
                    raise Violation("%s: a moment held open reads %d other bytes" % (site.name, len(data)))
                self.rig.figure("open moments read")
            except OSError as e:
                if life == site.life:
                    raise Violation("%s: a moment held open: %s" % (site.name, e)) from None
            finally:
                f.close()
        self.held = [h for h in self.held if h[0] is not site]

    # ---- the parts of it

    def together(self):
        """A works and ships, B follows; some die."""
        a, b, rng = self.a, self.b, self.rng
        if not a.mounted():
            a.mount()
        if not b.mounted() and rng.random() < 0.6:
            b.mount()
        load = self.load(a, self.writers)
        self.rig.sleep(rng, 0.5, [a.kill_worker, b.kill_serve] + ([b.kill_worker] if b.mounted() else []))
        self.settle(a, self.writers, load)
        self.past(a, self.writers)
        self.rig.do("sync", a.dir, "there:" + b.store)       # it does not wait for its next try
        until("B follows", lambda: self.follows(a, "there:" + b.store), 60)
        for w in self.writers:           # from here on what B has is looked for
            del w.states[:-1]

    def follows(self, site, target):
        """All of it, as that standby acknowledged; the load rests."""
        for s in site.status().get("standbys", []):
            if s["target"] == target:
                return s["state"] == "Protected" and s["lag_operations"] == 0
        return False

    def part(self):
        """The line is cut somewhere in A's work, A dies or does not, B is promoted, both go on."""
        a, b, rng, rig = self.a, self.b, self.rng, self.rig
        self.how = rng.choice(["all", "all", "worker", "line"])
        load = self.load(a, self.writers)
        time.sleep(rng.random() * 0.4)
        open(rig.cut_file, "w").close()
        kill(b.serves())
        until("the line is cut", lambda: not b.serves())
        if rng.random() < 0.9:
            time.sleep(rng.random() * 0.3)
        if self.how == "all":
            a.kill_all()
            load.end()
        elif self.how == "worker":
            a.kill_worker()
        if self.how == "all" and rng.random() < 0.6:
            a.mount()
            self.settle(a, self.writers, load)
            load = self.load(a, self.writers)
        self.load_a = load
        victims = [b.kill_worker] if b.mounted() else []
        rig.killing(rng, ["promote", b.place()], victims, lambda rc: b.role() == "primary", within=0.15)
        if not b.mounted():
            b.mount()
        self.fork = {}
        for w in self.writers:
            seen = model.scan(os.path.join(b.dir, w.name))
            self.fork[w.name] = w.find(seen)
            if self.fork[w.name] is None:
                raise Violation("B after its promotion, %s: no moment of A: against its last one %s" % (w.name, model.difference(seen, model.render(w.states[-1]))))
        self.other = [w.fork(self.fork[w.name], w.name, random.Random(rng.random())) for w in self.writers]
        for w in self.other:
            w.contents = {n: self.content(b, w, n) for n, o in w.states[-1].objects.items() if o.kind == "f"}

    @staticmethod
    def content(site, w, number):
        p = model.paths(w.states[-1])
        path = next(p[k] for k, n in w.states[-1].names.items() if n == number)
        with open(os.path.join(site.dir, w.name, path), "rb") as f:
            return f.read()

    def apart(self):
        a, b, rng, rig = self.a, self.b, self.rng, self.rig
        load_b = self.load(b, self.other)
        rig.sleep(rng, 0.4, [b.kill_worker])
        self.settle(b, self.other, load_b)
        self.past(b, self.other)
        if not a.dead:
            self.settle(a, self.writers, self.load_a)
            self.past(a, self.writers)
            self.let_go(a)
            load = self.load(a, self.writers)
            rig.sleep(rng, 0.2)
            self.settle(a, self.writers, load)
        load_b = self.load(b, self.other)
        rig.sleep(rng, 0.2)
        self.settle(b, self.other, load_b)

    def back(self):
        """A goes back, and follows B."""
        a, b, rng, rig = self.a, self.b, self.rng, self.rig
        by_mount = rng.random() < 0.5
        # before the line is there again: B's mount may ship by itself
        for f in (rig.bytes_log, rig.said):
            if os.path.exists(f):
                os.unlink(f)
        self.branches_before = self.branches()
        before = sum(rig.kills.values())
        if not a.dead and rng.random() < 0.4:        # it meets B while it is mounted, and written to
            load = self.load(a, self.writers)
            os.unlink(rig.cut_file)
            until("A is fenced", lambda: a.role() == "fenced", 60)
            self.settle(a, self.writers, load, fenced=True)
            rig.figure("fenced while in use")
        if not a.dead:
            self.mtimes = list(tree.tree(os.fsencode(a.dir)))
        else:
            self.mtimes = None
        if not a.dead:
            a.umount()
        rig.killing(rng, ["demote", a.store], [], lambda rc: a.role() == "standby", within=0.1)
        if os.path.exists(rig.cut_file):
            os.unlink(rig.cut_file)
        victims = [b.kill_worker, a.kill_serve]
        target = "there:" + a.store
        if by_mount:
            rig.killing(rng, ["standby", "add", b.dir, target, "--ssh", rig.way["b"], "--remote-spare", rig.program], victims,
                        lambda rc: rc == 0, within=0.4)
            for _ in range(rng.randrange(3)):
                time.sleep(rng.random() * 0.3)
                rng.choice(victims)()
            load = self.load(b, self.other)
            rig.sleep(rng, 0.1)
            self.settle(b, self.other, load)
            rig.do("sync", b.dir, target)
            until("A follows B", lambda: self.follows(b, target), 60)
        rig.killing(rng, ["sync", b.dir, target, "--ssh", rig.way["b"], "--remote-spare", rig.program], victims, lambda rc: rc == 0, within=0.4)
        self.kills_back = sum(rig.kills.values()) - before
        if by_mount and rng.random() < 0.5:
            rig.do("standby", "remove", b.dir, target)

    def branches(self):
        return {j["name"]: j for j in map(json.loads, self.rig.spare("branch", "list", self.a.store, "--json")[1].splitlines())}

    def compare(self, when):
        """Everything, with what is mounted."""
        a, b, rig = self.a, self.b, self.rig
        if not b.mounted():
            b.mount()
        rig.same("B, %s" % when, b.dir, states_of(self.other))
        rig.moments_are("B, %s" % when, b, b.dir)
        a.mount(rig.spare)
        rig.same("A back, %s" % when, a.dir, states_of(self.other))
        one, two = list(tree.tree(os.fsencode(a.dir))), list(tree.tree(os.fsencode(b.dir)))
        if one != two:
            raise Violation("A and B differ, %s: %s" % (when, next((x for x in zip(one, two) if x[0] != x[1]), (len(one), len(two)))))
        a.umount()
        for store in (a.store, b.dir):
            rig.check(store)
        new = set(self.branches()) - set(self.branches_before)
        want = self.manifests()
        if not any(want[0].values()) and not new:
            return None
        if len(new) != 1:
            raise Violation("expected one new branch, found %s" % sorted(new))
        self.branch = name = new.pop()
        place = os.path.join(a.store, "branches", name)
        self.compare_branch(when, name, place, want)
        return name

    def manifests(self):
        mine = {w.name: model.manifest(self.fork[w.name], w.states[-1]) for w in self.writers}
        theirs = {w.name: model.manifest(self.fork[w.name], w.states[-1]) for w in self.other}
        return mine, theirs

    def compare_branch(self, when, name, place, want):
        a, rig = self.a, self.rig
        m = os.path.join(rig.where, "m.branch")
        os.makedirs(m, exist_ok=True)
        rig.spare("mount", place, m, "-o", "ro,log=" + os.path.join(rig.where, "branch.log"))
        try:
            for w in self.writers:
                wrong = w.resolve(m)
                if wrong:
                    raise Violation("the branch, %s, %s: %s" % (when, w.name, wrong))
            want = self.manifests()
            if self.mtimes and list(tree.tree(os.fsencode(m))) != self.mtimes:
                raise Violation("the branch, %s: not the tree that was unmounted" % when)
            rig.moments_are("the branch, %s" % when, a, m)
        finally:
            rig.spare("umount", m)
        rig.check(place)
        items = [json.loads(x) for x in rig.spare("branch", "show", name, a.store, "--json", ok=(0, 3))[1].splitlines()]
        items = [i for i in items if i.get("what") != "total"]
        for w in WRITERS:
            found = [(i["change"], os.path.relpath(i["path"], w), os.path.relpath(i["old_path"], w) if "old_path" in i else "", i["size_before_bytes"], i["size_after_bytes"])
                     for i in items if i["path"].startswith(w + "/")]
            wrong = model.manifest_fits(want[0][w], found)
            if wrong:
                raise Violation("the manifest of %s, %s, %s: %s" % (name, when, w, wrong))
            rig.figure("manifest entries", len(found))
            told = [i for i in items if i["path"].startswith(w + "/")]
            if any(i["changed_since_in_store"] is None for i in told):
                rig.figure("manifests that could not say what changed since")
                continue
            since = set()
            for e in want[1][w]:
                since |= set(e[1] if isinstance(e[1], tuple) and len(e[1]) == 1 else [e[1]] if isinstance(e[1], str) else []) | ({e[2]} if e[2] else set())
            doubt = {p for e in want[1][w] if isinstance(e[1], tuple) and len(e[1]) > 1 for p in e[1]}
            for i in told:
                names = {os.path.relpath(i[k], w) for k in ("path", "old_path") if k in i}
                if not names & doubt and i["changed_since_in_store"] != bool(names & since):
                    raise Violation("the manifest of %s, %s: %s: changed since: %s" % (name, when, i["path"], i["changed_since_in_store"]))
                rig.figure("conflicts", bool(i["changed_since_in_store"]))
        left = [i for i in items if i["path"].split("/")[0] not in WRITERS]
        if left:
            raise Violation("the manifest of %s, %s: %s" % (name, when, left[:3]))

    def measured(self):
        """What was sent towards A, against what B has beyond the fork and, where A could not go back, the files that A is made anew of. What was killed may have been sent again, and may not
        have said that A was made anew."""
        rig, b = self.rig, self.b
        parted = self.branches()[self.branch]["parted_lsn"] if self.branch else None
        until("the line to A is closed", lambda: not self.a.serves())
        try:
            with open(rig.bytes_log) as f:
                sent = sum(int(line.split()[0]) for line in f)
        except FileNotFoundError:
            sent = 0
        if parted is None:
            return "no branch, %d bytes sent" % sent
        status = b.status()
        difference, hello = status["durable_lsn"] - parted, HELLO * status["epoch"]
        base = sum(os.path.getsize(os.path.join(b.store, d, f)) for d in ("archive", "packs") if os.path.isdir(os.path.join(b.store, d)) for f in os.listdir(os.path.join(b.store, d)))
        try:
            with open(rig.said) as f:
                anew = "was made anew" in f.read()
        except FileNotFoundError:
            anew = False
        rig.figure("made anew", anew)
        rig.figure("sent", sent)
        rig.figure("might be sent", difference + (base if anew else 0))
        if sent > (1 + self.kills_back) * (difference + (base if anew or self.kills_back else 0) + SLACK + hello):
            raise Violation("%d bytes were sent for A to come back%s, with %d kills: the difference is %d bytes, archive and packs %d"
                            % (sent, ", made anew" if anew else "", self.kills_back, difference, base))
        return "%d bytes sent for a difference of %d%s" % (sent, difference, " and archive and packs of %d" % base if anew else "")

    def anew(self):
        """Both indexes are made anew, A's with a kill in it."""
        a, b, rig = self.a, self.b, self.rig
        b.umount()
        sent = self.measured()
        for site in (a, b):
            rig.killing(self.rng, ["rebuild-index", site.store], [], lambda rc: rc == 0, p=0.4, within=0.3)
        return sent

    def home(self):
        """The roles are switched back, under the load of B."""
        a, b, rng, rig = self.a, self.b, self.rng, self.rig
        if not b.mounted():
            b.mount()
        if rng.random() < 0.6:
            a.mount()
        load = self.load(b, self.other)
        victims = [b.kill_worker, a.kill_serve] + ([a.kill_worker] if a.mounted() else [])
        target = "there:" + a.store

        def once_more():
            """None is the primary: one command makes it so; both never are."""
            # what a command that was killed had begun at A goes on there, as behind a line that was lost (also where the line is still being made, with the command as one of its words): to promote B beside it would be two persons' word for two primaries
            until("nothing promotes A any more", lambda: not processes(lambda x: any("promote" in y for y in x) and any(a.store in y for y in x)))
            roles = (a.role(), b.role())
            if roles == ("primary", "primary"):
                raise Violation("two primaries")
            if roles == ("standby", "standby"):
                rig.do("promote", b.place())

        def done(rc):
            return a.role() == "primary" and b.role() == "standby"

        rig.killing(rng, ["switchover", b.dir, target, "--ssh", rig.way["b"], "--remote-spare", rig.program], victims, done, within=0.5, retry=once_more)
        self.end(load, fenced=True)
        for w in self.other:
            if not a.mounted():
                a.mount()
            until("A answers", lambda: self.answers(a))
            wrong = w.resolve(a.dir)
            if wrong:
                raise Violation("A after the switchover, %s (%s): %s" % (w.name, load.error, wrong))
        rig.moments_are("A after the switchover", b, a.dir, needed=False)
        # What was named at B is B's own; A goes on with what it has of it.
        self.writers = self.other
        rig.do("sync", a.dir, "there:" + b.store)
        until("B follows again", lambda: self.follows(a, "there:" + b.store), 60)
        a.moments = {n: s for n, s in {**b.moments}.items() if os.path.isdir(os.path.join(a.dir, ".snapshots", n) + "/.")}
        if rng.random() < 0.5:
            b.umount()

    def run(self):
        a, b, rig = self.a, self.b, self.rig
        self.branch = None
        self.together()
        b.moments = {n: s for n, s in a.moments.items()}
        self.part()
        self.apart()
        self.back()
        self.let_go(b)
        self.compare("as it came back")
        sent = self.anew()
        self.compare("with new indexes")
        old = sorted(self.branches())
        for name in old[:-KEEP_BRANCHES]:
            rig.spare("branch", "remove", name, a.store)
        self.home()
        rig.figure("circles")
        rig.figure("branches", self.branch is not None)
        rig.figure("operations", sum(len(w.states) for w in self.writers))
        return sent


def main(where, program, runs, first):
    with open("/proc/self/mountinfo") as f:
        if any(line.split()[4].startswith(where + "/") for line in f):
            sys.exit("%s: something is mounted below it" % where)
    shutil.rmtree(where, ignore_errors=True)
    os.makedirs(where)
    rig = Rig(where, program)
    a, b = rig.a, rig.b
    violations, n = 0, first
    began = time.monotonic()
    try:
        rig.do("init", a.store)
        a.mount()
        rng = random.Random(first)
        writers = [model.Writer(w, random.Random(rng.random())) for w in WRITERS]
        for w in WRITERS:
            os.mkdir(os.path.join(a.dir, w), 0o755)
        rig.do("retain", "set", a.dir, *KEEP_NOTHING)
        rig.do("standby", "add", a.dir, "there:" + b.store, "--ssh", rig.way["a"], "--remote-spare", program)
        until("B is there", lambda: os.path.exists(os.path.join(b.store, "super.1")))
        rig.do("retain", "set", b.store, *KEEP_NOTHING)
        for n in range(first, first + runs):
            c = Circle(rig, n, writers)
            at = time.monotonic()
            sent = c.run()
            writers = c.writers
            if rig.failed:
                raise Violation("the rig: %s" % rig.failed)
            say("circle %d: %s, %.1f s, %s" % (n, c.how, time.monotonic() - at, sent))
    except Violation as e:
        violations = 1
        say("circle %d: FAILED: %s" % (n, e))
        for s in (a, b):
            say(s.name, json.dumps(s.status()), "processes", s.daemons(), s.serves())
    finally:
        open(rig.cut_file, "w").close()
        for s in (a, b):
            kill(s.daemons())
        for m in (a.dir, b.dir, os.path.join(where, "m.branch")):
            subprocess.run(["umount", "-l", m], stderr=subprocess.DEVNULL)
    figures = rig.figures
    print("%d circles, %d operations, %d branches (%d entries of manifests, %d changed by both), %d moments compared, %d held open read, %d reclaims, %d times fenced while in use, %d made anew; %d bytes sent to come back where difference and base are %d; killed: %s; %.0f s; %d violations"
          % (figures.get("circles", 0), figures.get("operations", 0), figures.get("branches", 0), figures.get("manifest entries", 0), figures.get("conflicts", 0), figures.get("moments compared", 0),
             figures.get("open moments read", 0), figures.get("reclaims", 0), figures.get("fenced while in use", 0), figures.get("made anew", 0), figures.get("sent", 0),
             figures.get("might be sent", 0), ", ".join("%d %s" % (v, k) for k, v in sorted(rig.kills.items())) or "nothing",
             time.monotonic() - began, violations))
    return 1 if violations or figures.get("circles", 0) == 0 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
