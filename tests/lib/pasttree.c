/* pasttree.c: see pasttree.h. */
#include "tests/lib/pasttree.h"

#include "store/base/hash.h"
#include "store/log/log.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { DIRS = 4, FILES = 6, READ_BYTES = 1 << 20, SMALL = 9000 };

uint64_t past_random(struct past *p, uint64_t n)
{
    p->x = p->x * 6364136223846793005u + 1442695040888963407u;
    return (p->x >> 33) % n;
}

void past_fill(struct past *p, uint8_t *buf, size_t len, unsigned kind)
{
    static const char *const words[] = { "int ", "return ", "struct ", "store", "\n", "uint64_t ", "(", "); ", "static ", "record", " = ", "0x" };

    for (size_t i = 0; i < len;) {
        if (kind == 1) {
            buf[i++] = (uint8_t)(past_random(p, 1 << 20) >> 7);
        } else if (kind == 2 && past_random(p, 3) == 0) {
            size_t n = 1 + past_random(p, 3000);

            for (; n > 0 && i < len; n--)
                buf[i++] = 0;
        } else {
            const char *w = words[past_random(p, sizeof words / sizeof *words)];

            while (*w != '\0' && i < len)
                buf[i++] = (uint8_t)*w++;
        }
    }
}

/* ---- the tree as a number ---- */

struct walk { struct store *s; uint64_t at, h; uint8_t *buf; bool may_fail; int rc; };
struct entry { uint64_t ino; char name[256]; };
struct entries { struct entry *v; size_t n; };

static void add(struct walk *w, const void *p, size_t len)
{
    uint64_t two[2] = { w->h, hash64(p, len) };

    w->h = hash64(two, sizeof two);
}

/* True: this failed, and may; the walk is over. */
static bool failed(struct walk *w, int64_t rc)
{
    if (rc >= 0 || !w->may_fail)
        return w->rc < 0;
    w->rc = (int)rc;
    return true;
}

static void add_number(struct walk *w, uint64_t v)
{
    add(w, &v, sizeof v);
}

static int add_entry(void *arg, const struct dirent_out *d)
{
    struct entries *e = arg;

    e->v = realloc(e->v, (e->n + 1) * sizeof *e->v);
    e->v[e->n].ino = d->ino;
    memcpy(e->v[e->n].name, d->name, d->nlen);
    e->v[e->n++].name[d->nlen] = '\0';
    return 0;
}

static void add_content(struct walk *w, uint64_t ino, uint64_t size)
{
    struct err err = { 0 };

    for (uint64_t off = 0; off < size; off += READ_BYTES) {
        int64_t n = store_read(w->s, w->at, ino, off, w->buf, READ_BYTES, false, NULL, &err);

        if (failed(w, n))
            return;
        ck_assert_msg(n == (int64_t)(size - off < READ_BYTES ? size - off : READ_BYTES), "read of inode %lu at %lu as of @%lu: %ld %s",
                      (unsigned long)ino, (unsigned long)off, (unsigned long)w->at, (long)n, err.msg);
        add(w, w->buf, (size_t)n);
    }
}

static void add_xattrs(struct walk *w, uint64_t ino)
{
    char names[4096], val[4096];
    int64_t len = store_listxattr(w->s, w->at, ino, names, sizeof names, NULL);

    if (failed(w, len))
        return;
    ck_assert_int_ge(len, 0);
    add(w, names, (size_t)len);
    for (const char *n = names; n < names + len; n += strlen(n) + 1) {
        int64_t got = store_getxattr(w->s, w->at, ino, n, val, sizeof val, NULL);

        if (failed(w, got))
            return;
        ck_assert_int_ge(got, 0);
        add(w, val, (size_t)got);
    }
}

static void add_node(struct walk *w, uint64_t ino)
{
    struct entries e = { 0 };
    struct row_ino r = { 0 };
    char target[4096];
    int rc = store_getattr(w->s, w->at, ino, &r, NULL);

    if (failed(w, rc))
        return;
    ck_assert_msg(rc == 0, "inode %lu as of @%lu: %s", (unsigned long)ino, (unsigned long)w->at, err_name(rc));
    const uint64_t f[] = { ino, r.mode, r.uid, r.gid, r.nlink, r.size, r.blocks, r.created, r.content, r.mapgen, r.n_xattr,
                           (uint64_t)r.mtime.sec, r.mtime.nsec, (uint64_t)r.ctime.sec, r.ctime.nsec };
    add(w, f, sizeof f);
    if (r.n_xattr > 0)
        add_xattrs(w, ino);
    if (S_ISREG(r.mode))
        add_content(w, ino, r.size);
    if (S_ISLNK(r.mode)) {
        rc = store_readlink(w->s, w->at, ino, target, sizeof target, NULL);
        if (failed(w, rc))
            return;
        ck_assert_int_ge(rc, 0);
        add(w, target, (size_t)rc);
    }
    if (!S_ISDIR(r.mode))
        return;
    rc = store_readdir(w->s, w->at, ino, 0, add_entry, &e, NULL);
    if (!failed(w, rc))
        ck_assert_int_eq(rc, 0);
    add_number(w, e.n);
    for (size_t i = 0; i < e.n && w->rc == 0; i++) {
        add(w, e.v[i].name, strlen(e.v[i].name));
        add_node(w, e.v[i].ino);
    }
    free(e.v);
}

uint64_t past_digest(struct store *s, uint64_t at)
{
    struct walk w = { .s = s, .at = at, .buf = malloc(READ_BYTES) };

    add_node(&w, INO_ROOT);
    free(w.buf);
    return w.h;
}

int past_try(struct store *s, uint64_t at, uint64_t *digest)
{
    struct walk w = { .s = s, .at = at, .buf = malloc(READ_BYTES), .may_fail = true };

    add_node(&w, INO_ROOT);
    free(w.buf);
    *digest = w.h;
    return w.rc;
}

/* ---- work ---- */

static void any_name(struct past *p, char *to)
{
    sprintf(to, "d%u/f%u", (unsigned)past_random(p, DIRS), (unsigned)past_random(p, FILES));
}

/* The inode of a name: made if it is not there. */
static uint64_t there(struct teststore *t, const char *path)
{
    char dir[32];
    uint64_t ino = ts_ino(t, path);

    if (ino != 0)
        return ino;
    sprintf(dir, "%.2s", path);
    if (ts_ino(t, dir) == 0)
        ts_create(t, dir, S_IFDIR | 0755);
    return ts_create(t, path, S_IFREG | 0644);
}

static void remove_if(struct teststore *t, const char *path)
{
    if (ts_ino(t, path) != 0)
        ts_unlink(t, path);
}

static uint64_t size_of(struct teststore *t, uint64_t ino)
{
    struct row_ino r = { 0 };

    ck_assert_int_eq(store_getattr(t->s, AT_LIVE, ino, &r, NULL), 0);
    return r.size;
}

/* As editors and rsync do: ${len} bytes into a new file, which takes the name. */
static void replace(struct teststore *t, const char *path, const uint8_t *buf, size_t len)
{
    (void)there(t, path);
    remove_if(t, "new");
    ts_write(t, ts_create(t, "new", S_IFREG | 0600), 0, buf, len);
    ts_rename(t, "new", path);
}

/* The content of ${from}, ${changes} bytes of it changed, by the name of ${to}. */
static void copy(struct teststore *t, struct past *p, const char *from, const char *to, unsigned changes)
{
    uint64_t ino = there(t, from), size = size_of(t, ino);
    uint8_t *buf = malloc(size + 1);

    ck_assert_int_eq(store_read(t->s, AT_LIVE, ino, 0, buf, size, false, NULL, NULL), (int64_t)size);
    for (; size > 0 && changes > 0; changes--)
        buf[past_random(p, size)] ^= (uint8_t)(1 + past_random(p, 255));
    replace(t, to, buf, size);
    free(buf);
}

/* A directory with all that is in it goes, and comes again with about the same. */
static void anew(struct teststore *t, struct past *p)
{
    char path[32], text[64];
    unsigned d = (unsigned)past_random(p, DIRS);

    for (unsigned i = 0; i < FILES; i++) {
        sprintf(path, "d%u/f%u", d, i);
        remove_if(t, path);
    }
    sprintf(path, "d%u", d);
    remove_if(t, path);
    for (unsigned i = 0; i < 3; i++) {
        sprintf(path, "d%u/f%u", d, i);
        sprintf(text, "unpacked once more: %u %u", d, i);
        ts_write(t, there(t, path), 0, text, strlen(text));
    }
}

static void attributes(struct teststore *t, struct past *p, uint64_t ino)
{
    char val[600];

    past_fill(p, (uint8_t *)val, sizeof val, 0);
    switch (past_random(p, 3)) {
    case 0:
        (void)store_removexattr(t->s, &t->who, ino, "user.a", NULL);
        return;
    case 1:
        ck_assert_int_eq(store_setxattr(t->s, &t->who, ino, "user.a", val, 1 + past_random(p, sizeof val), 0, false, NULL), 0);
        return;
    default:
        ts_chmod(t, ino, 0600 + (uint32_t)past_random(p, 64));
    }
}

/* Which may not have been there at that moment. */
static void clone_from(struct teststore *t, uint64_t at, uint64_t ino, uint64_t to)
{
    int64_t n = store_clone(t->s, &t->who, at, ino, 0, to, 4096, 65536, NULL);

    ck_assert_msg(n >= 0 || n == ERR_STALE, "clone: %s", err_name((int)n));
}

static void one(struct teststore *t, struct past *p)
{
    size_t len = 1 + past_random(p, SMALL);
    uint8_t *buf = calloc(1, (len > p->big ? len : p->big) + 100);
    char a[32], b[32];
    uint64_t ino, other;

    any_name(p, a);
    any_name(p, b);
    past_fill(p, buf, len, (unsigned)past_random(p, 3));
    switch (past_random(p, p->big > 0 ? 15 : 14)) {
    case 0: case 1:
        ts_write(t, there(t, a), past_random(p, 20000), buf, len);
        break;
    case 2: case 3:
        ino = there(t, a);
        ts_write(t, ino, size_of(t, ino), buf, len);
        break;
    case 4:
        ts_truncate(t, there(t, a), past_random(p, 12000));
        break;
    case 5:
        ino = there(t, a);
        other = there(t, b);
        if (ino != other)
            clone_from(t, p->n > 0 && past_random(p, 2) ? p->m[p->n - 1].lsn : AT_LIVE, ino, other);
        break;
    case 6:
        replace(t, a, buf, len);
        break;
    case 7:
        remove_if(t, a);
        break;
    case 8:
        anew(t, p);
        break;
    case 9: case 10:
        attributes(t, p, there(t, a));
        break;
    case 11:
        copy(t, p, a, b, 0);
        break;
    case 12:
        copy(t, p, a, a, 3);
        break;
    case 13:                             /* a hole; a name more, and a link */
        ino = there(t, a);
        ts_write(t, ino, 3000000 + past_random(p, 100000), buf, 100);
        ts_truncate(t, ino, 20000);
        remove_if(t, "hard");
        ts_link(t, a, "hard");
        remove_if(t, "soft");
        ts_symlink(t, "soft", b);
        break;
    default:
        past_fill(p, buf, p->big, (unsigned)past_random(p, 3));
        replace(t, "d0/f0", buf, p->big);
        if (past_random(p, 2) == 0)
            copy(t, p, "d0/f0", "d0/f0", 2);
    }
    free(buf);
}

void past_work(struct teststore *t, struct past *p, unsigned ops, unsigned every)
{
    for (unsigned i = 1; i <= ops; i++) {
        one(t, p);
        ts_step(t, 700);
        if (i % every != 0 || p->n == PAST_MAX)
            continue;
        p->m[p->n].lsn = ts_last(t);
        p->m[p->n].digest = past_digest(t->s, AT_LIVE);
        ck_assert_uint_eq(past_digest(t->s, p->m[p->n].lsn), p->m[p->n].digest);
        p->n++;
    }
}

unsigned past_same(const struct past *p, struct store *s, const char *when)
{
    uint64_t head = log_head(store_log(s));
    unsigned n = 0;

    for (; n < p->n && p->m[n].lsn < head; n++)
        ck_assert_msg(past_digest(s, p->m[n].lsn) == p->m[n].digest, "%s: moment %u, @%lu, is not what it was", when, n, (unsigned long)p->m[n].lsn);
    return n;
}
