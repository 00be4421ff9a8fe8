"""circle_model.py: what circle.py's writers did, exactly: the tree behind each operation, and what `spare diff` has to say of two of them.

A state is never changed, only followed by another one: names {(directory's number, name): number} and objects {number: Object}. A number is an
object's for good, so a rename, a hard link, and a name that was given again to something else can be told.
"""
import collections
import hashlib
import os
import stat

# content: counts each change of it, also to what it was before
Object = collections.namedtuple("Object", "kind mode size digest content xattrs")
State = collections.namedtuple("State", "names objects")
ROOT = 0
MODES = (0o600, 0o640, 0o644, 0o664)
FILES_MAX, DIRS_MAX, WRITE_MAX, PAGE = 60, 8, 60000, 4096


def empty():
    return State({}, {ROOT: Object("d", 0o755, 0, "", 0, ())})


def digest(data):
    return hashlib.sha256(data).hexdigest()


def path_of(state, number, above=None):
    """The path of a directory below the writer's, "" for that itself."""
    if number == ROOT:
        return ""
    above = above or {n: k for k, n in state.names.items() if state.objects[n].kind == "d"}
    parent, name = above[number]
    return os.path.join(path_of(state, parent, above), name)


def paths(state):
    """{(parent, name): path} of all names that lead somewhere."""
    above = {n: k for k, n in state.names.items() if state.objects[n].kind == "d"}
    return {k: os.path.join(path_of(state, k[0], above), k[1]) for k in state.names}


def render(state):
    """The state as scan() sees it."""
    links = collections.Counter(state.names.values())
    out = {"": ("d", 0o755, 0, 0, "", ())}
    for key, path in paths(state).items():
        o = state.objects[state.names[key]]
        out[path] = (o.kind, o.mode, 0 if o.kind == "d" else links[state.names[key]], o.size, o.digest, o.xattrs)
    return out


def scan(top):
    """The same of a real tree; {} where it is not."""
    out = {}

    def one(path, rel):
        s = os.lstat(path)
        kind = {stat.S_IFDIR: "d", stat.S_IFLNK: "l"}.get(stat.S_IFMT(s.st_mode), "f")
        if kind == "l":
            out[rel] = (kind, 0o777, s.st_nlink, s.st_size, os.readlink(path), ())
            return
        xattrs = tuple(sorted((x, os.getxattr(path, x)) for x in os.listxattr(path)))
        data = b""
        if kind == "f":
            with open(path, "rb") as f:
                data = f.read()
        out[rel] = (kind, s.st_mode & 0o7777, 0 if kind == "d" else s.st_nlink, len(data), digest(data) if kind == "f" else "", xattrs)
        if kind == "d":
            for name in os.listdir(path):
                one(os.path.join(path, name), os.path.join(rel, name))

    if os.path.lexists(top):
        one(top, "")
    return out


def difference(a, b):
    """A line on the first path where two of these are not the same; None: they are."""
    for p in sorted(set(a) | set(b)):
        if a.get(p) != b.get(p):
            return "%r: %s, not %s" % (p, a.get(p), b.get(p))
    return None


def manifest(before, after):
    """{(change, path, old_path, size_before, size_after)} as `spare diff` is to list it."""
    out, gone, come = set(), {}, {}
    p0, p1 = paths(before), paths(after)

    def size(o):
        return o.size if o.kind == "f" else 0

    for key in set(before.names) | set(after.names):
        i0, i1 = before.names.get(key), after.names.get(key)
        if i0 == i1:
            continue
        o0, o1 = before.objects.get(i0), after.objects.get(i1)
        # The name leads to what was nowhere before: written anew.
        if o0 and o1 and o0.kind == o1.kind != "d" and i1 not in before.objects:
            out.add(("content", p1[key], "", size(o0), size(o1)))
            continue
        if o0:
            gone.setdefault(i0, []).append(p0[key])
        if o1:
            come.setdefault(i1, []).append(p1[key])
    for i in set(gone) | set(come):
        g, c = sorted(gone.get(i, [])), sorted(come.get(i, []))
        for x, y in zip(g, c):
            out.add(("renamed", y, x, size(before.objects[i]), size(after.objects[i])))
        out.update(("removed", x, "", size(before.objects[i]), 0) for x in g[len(c):])
        out.update(("added", y, "", 0, size(after.objects[i])) for y in c[len(g):])
    names = collections.defaultdict(list)
    for key, i in after.names.items():
        names[i].append(p1[key])
    for i in set(before.objects) & set(after.objects):
        o0, o1 = before.objects[i], after.objects[i]
        if o0.content != o1.content and o0.kind == "f":
            kind = "content"
        elif (o0.mode, o0.xattrs) != (o1.mode, o1.xattrs):
            kind = "attributes"
        else:
            continue
        out.add((kind, tuple(sorted(names[i])), "", size(o0), size(o1)))
    return out


def manifest_fits(want, found):
    """A line on the first entry that is wrong; None: none is. An object of several names is told by any of them."""
    rest = set(found)
    for e in sorted(want, key=str):
        several = isinstance(e[1], tuple)
        hit = next((f for f in ([(e[0], p) + e[2:] for p in e[1]] if several else [e]) if f in rest), None)
        if hit is None:
            return "missing: %s" % (e,)
        rest.discard(hit)
    return "not expected: %s" % sorted(rest)[0:3] if rest else None


class Writer:
    """One writer, in DIR/NAME. Each call of step() is one operation of the file system. states[-1] is what it was answered; `pending` the state
    behind an operation that was not."""

    def __init__(self, name, rng):
        self.name, self.rng = name, rng
        self.states, self.pending, self.serial, self.contents = [empty()], None, 1, {}

    def fork(self, state, name, rng):
        """A writer that goes on from a state, with numbers of its own."""
        w = Writer(name, rng)
        w.states, w.serial, w.contents = [state], self.serial + 1000000, dict(self.contents)
        return w

    def number(self):
        self.serial += 1
        return self.serial

    def step(self, top):
        """OSError: the operation was not answered, or refused."""
        s, rng, top = self.states[-1], self.rng, os.path.join(top, self.name)
        where = paths(s)
        full = {k: os.path.join(top, p) for k, p in where.items()}
        by = collections.defaultdict(list)
        for k, n in s.names.items():
            by[s.objects[n].kind].append(k)
        dirs = [ROOT] + [s.names[k] for k in by["d"]]
        for v in by.values():
            v.sort()
        d = rng.choice(dirs)
        new = (d, "%s%d" % (rng.choice("abcd"), rng.randrange(40)))
        into = os.path.join(top, path_of(s, d), new[1])
        f = rng.choice(by["f"]) if by["f"] else None
        what = rng.choice(("create", "write", "write", "write", "write", "append", "append", "truncate", "rename", "over", "unlink", "mkdir", "rmdir", "link", "symlink", "chmod", "xattr", "movedir"))
        if f is None or (what in ("unlink", "rmdir") and len(by["f"]) < 10):
            what = "create"
        if what in ("create", "symlink", "link") and len(by["f"]) + len(by["l"]) > FILES_MAX:
            what = "unlink"
        if what in ("create", "symlink", "link", "mkdir", "rename", "movedir") and new in s.names:
            what = "write" if f else None
        if what == "create":
            n = self.number()
            self.done(self.add(s, new, n, Object("f", 0o644, 0, digest(b""), 0, ())), lambda: os.close(os.open(into, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)))
            self.contents[n] = b""
        elif what in ("write", "append", "truncate"):
            n, old = s.names[f], self.contents[s.names[f]]
            at = len(old) if what == "append" else rng.randrange(len(old) + 1)
            data = rng.randbytes(rng.choice((3, 100, 4000, WRITE_MAX)))
            # Of one that begins inside of a page that it does not have the kernel makes two requests, and something may come between them.
            if at % PAGE + len(data) > PAGE and what == "write":
                at -= at % PAGE
            elif at % PAGE:
                data = data[:PAGE - at % PAGE]
            if what == "truncate" or len(old) > 4 * WRITE_MAX:
                what, to = "truncate", rng.randrange(len(old) + 1) if rng.random() < 0.7 else 0
                if to == len(old):
                    return
                now = old[:to]
            else:
                now = old[:at] + data + old[at + len(data):]

            def call():
                if what == "truncate":
                    return os.truncate(full[f], to)
                fd = os.open(full[f], os.O_WRONLY)
                try:
                    if os.pwrite(fd, data, at) != len(data):
                        raise OSError(5, "a short write")
                    if rng.random() < 0.1:
                        os.fsync(fd)
                finally:
                    os.close(fd)
            o = s.objects[n]
            after = State(s.names, dict(s.objects, **{}))
            after.objects[n] = o._replace(size=len(now), digest=digest(now), content=o.content + 1)
            self.kept = (n, now)
            self.done(after, call)
            self.contents[n] = now
        elif what in ("rename", "over"):
            to = new
            if what == "over":
                to = rng.choice(by["f"])
                if s.names[to] == s.names[f]:
                    return
            names = {k: v for k, v in s.names.items() if k != f}
            names[to] = s.names[f]
            self.done(self.dropped(names, s.objects), lambda: os.rename(full[f], full[to] if what == "over" else into))
        elif what == "unlink":
            k = rng.choice(by["f"] + by["l"])
            self.done(self.dropped({x: v for x, v in s.names.items() if x != k}, s.objects), lambda: os.unlink(full[k]))
        elif what == "mkdir" and len(by["d"]) < DIRS_MAX:
            self.done(self.add(s, new, self.number(), Object("d", 0o755, 0, "", 0, ())), lambda: os.mkdir(into, 0o755))
        elif what == "rmdir":
            used = {k[0] for k in s.names}
            k = next((k for k in by["d"] if s.names[k] not in used), None)
            if k:
                self.done(self.dropped({x: v for x, v in s.names.items() if x != k}, s.objects), lambda: os.rmdir(full[k]))
        elif what == "link":
            self.done(State(dict(s.names, **{}) | {new: s.names[f]}, s.objects), lambda: os.link(full[f], into))
        elif what == "symlink":
            target = "to-%d" % rng.randrange(1000)
            self.done(self.add(s, new, self.number(), Object("l", 0o777, len(target), target, 0, ())), lambda: os.symlink(target, into))
        elif what == "chmod":
            n = s.names[f]
            mode = rng.choice([m for m in MODES if m != s.objects[n].mode])
            self.done(State(s.names, s.objects | {n: s.objects[n]._replace(mode=mode)}), lambda: os.chmod(full[f], mode))
        elif what == "xattr":
            n = s.names[f]
            value = rng.randbytes(rng.randrange(1, 40))
            self.done(State(s.names, s.objects | {n: s.objects[n]._replace(xattrs=(("user.k", value),))}), lambda: os.setxattr(full[f], "user.k", value))
        elif what == "movedir" and by["d"]:
            k = rng.choice(by["d"])
            within = {s.names[k]}            # not into itself
            for _ in by["d"]:
                within |= {v for x, v in s.names.items() if x[0] in within and s.objects[v].kind == "d"}
            if d not in within:
                self.done(State({x: v for x, v in s.names.items() if x != k} | {new: s.names[k]}, s.objects), lambda: os.rename(full[k], into))

    kept = None

    @staticmethod
    def add(s, key, number, o):
        return State(s.names | {key: number}, s.objects | {number: o})

    @staticmethod
    def dropped(names, objects):
        left = set(names.values()) | {ROOT}
        return State(names, {n: o for n, o in objects.items() if n in left})

    def done(self, after, call):
        self.pending = after
        call()
        self.states.append(after)
        self.pending = None

    def resolve(self, top):
        """After a crash: whether the operation that was not answered is there. A line on what is wrong, or None."""
        seen = scan(os.path.join(top, self.name))
        after, self.pending = self.pending, None
        wrong = difference(seen, render(self.states[-1]))
        if wrong and after and difference(seen, render(after)) is None:
            self.states.append(after)
            if self.kept and after.objects.get(self.kept[0]) and after.objects[self.kept[0]].digest == digest(self.kept[1]):
                self.contents[self.kept[0]] = self.kept[1]
            self.serial += 1
            for n, o in after.objects.items():
                if o.kind == "f" and n not in self.contents:
                    self.contents[n] = b""
            return None
        return wrong

    def find(self, seen):
        """The state that was seen; None: none of them."""
        return next((s for s in reversed(self.states + ([self.pending] if self.pending else [])) if difference(seen, render(s)) is None), None)
