/* oracle.c: a store's tree, live or past, against the model: by digest, and object by object. */
#include "tests/sim/rig.h"

#include "store/core/retain.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct mtime mt(struct rec_time t) { return (struct mtime){ t.sec, t.nsec }; }

static const char *when(uint64_t at, char buf[32])
{
    if (at == AT_LIVE)
        return "live";
    snprintf(buf, 32, "@%" PRIu64, at);
    return buf;
}

/* An unexpected failure of a read; while a fault is armed it is none (then 1: cannot be compared). */
static int failed(struct rig *r, const char *what, uint64_t at, uint64_t ino, int64_t rc, const struct err *err)
{
    char b[32];
    if (fault_error(r, rc))
        return 1;
    return rig_viol(r, "%s of inode %" PRIu64 " %s: %s %s", what, ino, when(at, b), err_name((int)rc), err != NULL ? err->msg : "");
}

/* ---- digest ---- */

enum { CHUNK = 16 * M_PAGE, MOMENTS_ALL = 100 };

static void pages(uint64_t off, const uint8_t *buf, size_t len, struct mhash *sum)
{
    uint8_t tail[M_PAGE];
    for (size_t at = 0; at < len; at += M_PAGE) {
        const uint8_t *p = buf + at;
        if (len - at < M_PAGE) {
            memset(tail, 0, sizeof tail);
            memcpy(tail, p, len - at);
            p = tail;
        }
        *sum = mhash_add(*sum, mhash_page((off + at) / M_PAGE, p));
    }
}

/* Only where SEEK_DATA says there is data: what it leaves out counts as zeros, so that it is held to its word. */
static int data_digest(struct rig *r, struct store *s, uint64_t at, uint64_t ino, uint64_t size, struct mhash *sum)
{
    uint8_t buf[CHUNK];
    struct err err = { 0 };
    uint64_t off = 0;
    while (off < size) {
        int64_t d = (int64_t)off, h = (int64_t)size;
        if (size > CHUNK) {
            d = store_seek(s, at, ino, off, SEEK_DATA, NULL);
            if (d == ERR_NXIO)
                return 0;
            h = d < 0 ? d : store_seek(s, at, ino, (uint64_t)d, SEEK_HOLE, NULL);
            if (d < 0 || h <= d || (uint64_t)d < off || (uint64_t)h > size)
                return d < 0 || h < 0 ? failed(r, "seek", at, ino, d < 0 ? d : h, NULL)
                                      : rig_viol(r, "seek of inode %" PRIu64 " from %" PRIu64 ": data %" PRId64 " hole %" PRId64, ino, off, d, h);
        }
        for (off = (uint64_t)d / M_PAGE * M_PAGE; off < (uint64_t)h; off += CHUNK) {
            uint64_t end = ((uint64_t)h + M_PAGE - 1) / M_PAGE * M_PAGE;
            size_t want = end - off < CHUNK ? (size_t)(end - off) : CHUNK;
            uint64_t expect = size - off < want ? size - off : want;
            int64_t n = store_read(s, at, ino, off, buf, want, false, NULL, &err);
            if (n < 0)
                return failed(r, "read", at, ino, n, &err);
            if ((uint64_t)n != expect)
                return rig_viol(r, "read of inode %" PRIu64 " at %" PRIu64 ": expected %" PRIu64 " bytes, found %" PRId64, ino, off, expect, n);
            pages(off, buf, (size_t)n, sum);
        }
        off = ((uint64_t)h + M_PAGE - 1) / M_PAGE * M_PAGE;
    }
    return 0;
}

static int xattr_digest(struct rig *r, struct store *s, uint64_t at, uint64_t ino, struct mhash *sum)
{
    char names[8192];
    uint8_t val[8192];
    int64_t n = store_listxattr(s, at, ino, names, sizeof names, NULL);
    if (n < 0)
        return failed(r, "listxattr", at, ino, n, NULL);
    for (char *p = names; p < names + n; p += strlen(p) + 1) {
        int64_t v = store_getxattr(s, at, ino, p, val, sizeof val, NULL);
        if (v < 0)
            return failed(r, "getxattr", at, ino, v, NULL);
        *sum = mhash_add(*sum, mhash_xattr(p, val, (size_t)v));
    }
    return 0;
}

struct walk {
    struct rig *r;
    uint64_t dir, last;
    struct mhash sum;
    uint64_t *ino; uint32_t *type; size_t n, cap, cap2;
    int bad;
};

static int entry(void *arg, const struct dirent_out *d)
{
    struct walk *w = arg;
    if (d->cookie <= w->last || d->nlen == 0 || d->nlen > 255) {
        w->bad = rig_viol(w->r, "readdir of %" PRIu64 ": cookie %" PRIu64 " after %" PRIu64 ", name of %zu bytes", w->dir, d->cookie, w->last, d->nlen);
        return 1;
    }
    w->last = d->cookie;
    w->sum = mhash_add(w->sum, mhash_dent(w->dir, d->name, d->nlen, d->ino, d->type));
    w->ino = m_grow(w->ino, &w->cap, w->n + 1, sizeof *w->ino);
    w->type = m_grow(w->type, &w->cap2, w->n + 1, sizeof *w->type);
    w->ino[w->n] = d->ino;
    w->type[w->n++] = d->type;
    return 0;
}

static int object_digest(struct rig *r, struct store *s, uint64_t at, uint64_t ino, uint32_t type, struct mhash *sum)
{
    struct row_ino row;
    char target[4200];
    struct mattr a = { .ino = ino };
    int64_t rc = store_getattr(s, at, ino, &row, NULL);
    if (rc < 0)
        return failed(r, "getattr", at, ino, rc, NULL);
    if (row.mode >> 12 != type)
        return rig_viol(r, "inode %" PRIu64 ": listed with type %u, has mode %o", ino, type, row.mode);
    a.mode = row.mode, a.uid = row.uid, a.gid = row.gid, a.rdev = row.rdev, a.nlink = row.nlink, a.size = row.size;
    a.at = mt(row.atime), a.mt = mt(row.mtime), a.ct = mt(row.ctime);
    if (S_ISLNK(row.mode)) {
        rc = store_readlink(s, at, ino, target, sizeof target - 1, NULL);
        if (rc < 0)
            return failed(r, "readlink", at, ino, rc, NULL);
        target[rc] = '\0';
        a.target = target;
    }
    rc = row.n_xattr > 0 ? xattr_digest(r, s, at, ino, &a.xattr) : 0;
    if (rc == 0 && S_ISREG(row.mode) && row.size > 0)
        rc = data_digest(r, s, at, ino, row.size, &a.data);
    *sum = mhash_add(*sum, mhash_attr(&a));
    return (int)rc;
}

int oracle_digest(struct rig *r, struct store *s, uint64_t at, struct mhash *out)
{
    struct walk w = { .r = r };
    int rc = object_digest(r, s, at, r->gen.root, S_IFDIR >> 12, &w.sum);
    w.ino = m_grow(NULL, &w.cap, 1, sizeof *w.ino);
    w.type = m_grow(NULL, &w.cap2, 1, sizeof *w.type);
    w.ino[0] = r->gen.root;
    w.type[w.n++] = S_IFDIR >> 12;
    for (size_t k = 0; k < w.n && rc == 0; k++) {
        size_t first = w.n;
        if (w.type[k] != S_IFDIR >> 12)
            continue;
        w.dir = w.ino[k];
        w.last = 0;
        rc = store_readdir(s, at, w.dir, 0, entry, &w, NULL);
        rc = w.bad != 0 ? w.bad : rc < 0 ? failed(r, "readdir", at, w.dir, rc, NULL) : 0;
        for (size_t i = first; i < w.n && rc == 0; i++) {
            size_t seen = 0;     /* a file counts once, however many names it has */
            while (seen < i && w.ino[seen] != w.ino[i])
                seen++;
            if (seen == i)
                rc = object_digest(r, s, at, w.ino[i], w.type[i], &w.sum);
        }
        if (w.n > 100000)
            rc = rig_viol(r, "a directory tree without end");
    }
    *out = w.sum;
    free(w.ino);
    free(w.type);
    return rc;
}

/* ---- object by object ---- */

static int compare_attr(struct rig *r, uint64_t at, const struct row_ino *row, const struct mino *i)
{
    const struct mattr *a = &i->a;
    char b[32];
#define SAME(what, found, expect)                                                                                       \
    if ((found) != (expect))                                                                                            \
        return rig_viol(r, "inode %" PRIu64 " %s: " what " expected %lld, found %lld", a->ino, when(at, b), (long long)(expect), \
                        (long long)(found))
    SAME("mode", row->mode, a->mode);
    SAME("uid", row->uid, a->uid);
    SAME("gid", row->gid, a->gid);
    SAME("rdev", row->rdev, a->rdev);
    SAME("nlink", row->nlink, a->nlink);
    SAME("size", row->size, a->size);
    SAME("atime", row->atime.sec, a->at.sec);
    SAME("atime nsec", row->atime.nsec, a->at.nsec);
    SAME("mtime", row->mtime.sec, a->mt.sec);
    SAME("mtime nsec", row->mtime.nsec, a->mt.nsec);
    SAME("ctime", row->ctime.sec, a->ct.sec);
    SAME("ctime nsec", row->ctime.nsec, a->ct.nsec);
    SAME("attributes", row->n_xattr, i->n_x);
    SAME("hidden", row->hidden != 0, i->hidden);
    if (S_ISDIR(a->mode)) {
        SAME("parent", row->parent, i->parent);
        SAME("entries", row->entries, i->n_ent);
    }
#undef SAME
    return 0;
}

static int compare_xattrs(struct rig *r, struct store *s, uint64_t at, const struct mino *i)
{
    uint8_t val[8192];
    char b[32], names[8192];
    size_t total = 0;
    for (size_t k = 0; k < i->n_x; k++) {
        const struct mxattr *x = &i->x[k];
        int64_t n = store_getxattr(s, at, i->a.ino, x->name, val, sizeof val, NULL);
        if (n < 0)
            return failed(r, "getxattr", at, i->a.ino, n, NULL);
        if (n != (int64_t)x->vlen || memcmp(val, x->val, x->vlen) != 0)
            return rig_viol(r, "inode %" PRIu64 " %s: attribute %s differs", i->a.ino, when(at, b), x->name);
        if (store_getxattr(s, at, i->a.ino, x->name, NULL, 0, NULL) != n)
            return rig_viol(r, "inode %" PRIu64 " %s: the length of attribute %s differs", i->a.ino, when(at, b), x->name);
        total += strlen(x->name) + 1;
    }
    int64_t n = store_listxattr(s, at, i->a.ino, names, sizeof names, NULL);
    if (n < 0)
        return failed(r, "listxattr", at, i->a.ino, n, NULL);
    if ((uint64_t)n != total)
        return rig_viol(r, "inode %" PRIu64 " %s: list of attributes: expected %zu bytes, found %" PRId64, i->a.ino, when(at, b), total, n);
    int64_t no = store_getxattr(s, at, i->a.ino, "user.never-set", val, sizeof val, NULL);
    return no == ERR_NODATA || fault_error(r, no) ? 0 : rig_viol(r, "an attribute never set: expected NODATA, found %" PRId64, no);
}

/* Listing with stops in between: taken entries never come again. */
struct list { struct rig *r; const struct mino *dir; bool past; size_t n, stop; uint64_t last; int bad; };

static int listed(void *arg, const struct dirent_out *d)
{
    struct list *l = arg;
    if (l->n == l->stop)
        return 1;
    const struct mdent *e = d->nlen < M_NAME_CAP ? model_entry(l->dir, d->name, (uint32_t)d->nlen) : NULL;
    if (e == NULL || e->ino != d->ino || d->cookie <= l->last || (l->past ? e->hidden : e->hidden != d->hidden)) {
        l->bad = rig_viol(l->r, "readdir of %" PRIu64 ": found %.40s -> %" PRIu64 ", cookie %" PRIu64 " after %" PRIu64,
                          l->dir->a.ino, d->name, d->ino, d->cookie, l->last);
        return 1;
    }
    l->last = d->cookie;
    l->n++;
    return 0;
}

static int compare_dir(struct rig *r, struct store *s, uint64_t at, const struct mino *i)
{
    struct list l = { .r = r, .dir = i, .past = at != AT_LIVE };
    size_t want = 0;
    char b[32];
    for (size_t had = SIZE_MAX; l.n != had && l.bad == 0;) {
        had = l.n;
        l.stop = l.n + 1 + (size_t)rng_below(&r->cut_rng, 20);
        int rc = store_readdir(s, at, i->a.ino, l.last, listed, &l, NULL);
        if (l.bad == 0 && rc < 0)
            return failed(r, "readdir", at, i->a.ino, rc, NULL);
    }
    if (l.bad != 0)
        return l.bad;
    for (size_t k = 0; k < i->n_ent; k++)
        want += at == AT_LIVE || !i->ent[k].hidden;
    if (l.n != want)
        return rig_viol(r, "readdir of %" PRIu64 " %s: expected %zu entries, found %zu", i->a.ino, when(at, b), want, l.n);
    for (size_t k = 0; k < i->n_ent; k++) {
        uint64_t ino = 0;
        struct row_ino row;
        int rc = store_lookup(s, at, i->a.ino, i->ent[k].name, i->ent[k].nlen, &ino, &row, NULL);
        if (at != AT_LIVE && i->ent[k].hidden) {
            r->st->hidden_looks++;
            if (rc != ERR_NOENT && !fault_error(r, rc))
                return rig_viol(r, "lookup in %" PRIu64 " %s of %" PRIu64 ", which is hidden: found %s", i->a.ino, when(at, b), i->ent[k].ino, err_name(rc));
            continue;
        }
        if (rc < 0)
            return failed(r, "lookup", at, i->a.ino, rc, NULL);
        if (ino != i->ent[k].ino)
            return rig_viol(r, "lookup in %" PRIu64 " %s: expected %" PRIu64 ", found %" PRIu64, i->a.ino, when(at, b), i->ent[k].ino, ino);
    }
    for (unsigned k = 0; k < r->gen.names; k++) {
        char name[M_NAME_CAP];
        uint64_t ino;
        struct row_ino row;
        uint32_t n = gen_name(&r->gen, k, name);
        if (model_entry(i, name, n) != NULL)
            continue;
        int rc = store_lookup(s, at, i->a.ino, name, n, &ino, &row, NULL);
        if (rc != ERR_NOENT && !fault_error(r, rc))
            return rig_viol(r, "lookup in %" PRIu64 " %s of a name that is not there: found %s", i->a.ino, when(at, b), err_name(rc));
    }
    return 0;
}

static int compare_range(struct rig *r, struct store *s, uint64_t at, const struct mino *i, uint64_t off, size_t len)
{
    struct err err = { 0 };
    char b[32];
    uint8_t *x = m_alloc(len), *y = m_alloc(len);
    memset(y, 0x5a, len);
    size_t want = model_read(i, off, x, len);
    struct wait w = { WAIT_NONE, 0 };
    bool nowait = rng_chance(&r->cut_rng, 20);
    int64_t got = store_read(s, at, i->a.ino, off, y, len, nowait, &w, &err);
    if (got == ERR_WAIT)
        got = store_read(s, at, i->a.ino, off, y, len, false, NULL, &err);
    int rc = 0;
    if (got < 0)
        rc = failed(r, "read", at, i->a.ino, got, &err);
    else if ((uint64_t)got != want)
        rc = rig_viol(r, "read of inode %" PRIu64 " %s at %" PRIu64 ": expected %zu bytes, found %" PRId64, i->a.ino, when(at, b), off, want, got);
    else if (memcmp(x, y, want) != 0) {
        size_t k = 0;
        while (x[k] == y[k])
            k++;
        rc = rig_viol(r, "read of inode %" PRIu64 " %s: byte %" PRIu64 " expected %02x, found %02x", i->a.ino, when(at, b), off + k, x[k], y[k]);
    }
    free(x);
    free(y);
    return rc;
}

static int compare_file(struct rig *r, struct store *s, uint64_t at, const struct mino *i)
{
    char b[32];
    int rc = 0;
    uint64_t size = i->a.size;
    if (size <= (1 << 18))
        return compare_range(r, s, at, i, 0, (size_t)size + 100);
    for (size_t k = 0; k < i->n_page && rc == 0; k++)
        rc = compare_range(r, s, at, i, i->page[k].idx * M_PAGE, M_PAGE);
    for (int k = 0; k < 3 && rc == 0; k++)
        rc = compare_range(r, s, at, i, rng_below(&r->cut_rng, size), 1 + (size_t)rng_below(&r->cut_rng, 70000));
    unsigned seeks = 0;
    for (uint64_t off = 0; off < size && rc == 0;) {
        int64_t d = store_seek(s, at, i->a.ino, off, SEEK_DATA, NULL);
        if (d < 0 && d != ERR_NXIO)
            return failed(r, "seek", at, i->a.ino, d, NULL);
        uint64_t to = d == ERR_NXIO ? size : (uint64_t)d;
        for (size_t k = 0; k < i->n_page; k++)       /* whole pages in what is said to be a hole */
            if (i->page[k].idx * M_PAGE >= off && (i->page[k].idx + 1) * M_PAGE <= to && !model_page_zero(i, i->page[k].idx))
                return rig_viol(r, "inode %" PRIu64 " %s: hole [%" PRIu64 ", %" PRIu64 ") holds data", i->a.ino, when(at, b), off, to);
        if (d < 0)
            break;
        int64_t h = store_seek(s, at, i->a.ino, (uint64_t)d, SEEK_HOLE, NULL);
        if (h <= d)
            return h < 0 ? failed(r, "seek", at, i->a.ino, h, NULL) : rig_viol(r, "SEEK_HOLE does not move");
        off = (uint64_t)h;
        if (++seeks > 64)                            /* a block in 1,500 pieces: some of its holes do */
            off += rng_below(&r->cut_rng, size / 16 + 1);
    }
    return rc;
}

struct parents { struct rig *r; const struct model *m; uint64_t ino; bool past; size_t n; int bad; };

static int parent_seen(void *arg, uint64_t parent, const char *name, size_t nlen)
{
    struct parents *p = arg;
    const struct mino *d = model_find(p->m, parent);
    const struct mdent *e = d != NULL && nlen < M_NAME_CAP ? model_entry(d, name, (uint32_t)nlen) : NULL;
    p->n++;
    if (e == NULL || e->ino != p->ino || (p->past && e->hidden))
        p->bad = rig_viol(p->r, "parents of %" PRIu64 ": found a name in %" PRIu64 " that is not its own", p->ino, parent);
    return p->bad;
}

int oracle_object(struct rig *r, struct store *s, uint64_t at, const struct model *m, const struct mino *i)
{
    struct row_ino row;
    char target[4200], b[32];
    int rc = store_getattr(s, at, i->a.ino, &row, NULL);
    if (at != AT_LIVE && i->hidden)
        return rc == ERR_STALE || fault_error(r, rc) ? 0 : rig_viol(r, "inode %" PRIu64 " %s: it is hidden, found %s", i->a.ino, when(at, b), err_name(rc));
    if (rc < 0)
        return failed(r, "getattr", at, i->a.ino, rc, NULL);
    rc = compare_attr(r, at, &row, i);
    if (rc == 0)
        rc = compare_xattrs(r, s, at, i);
    if (rc == 0 && S_ISDIR(i->a.mode))
        rc = compare_dir(r, s, at, i);
    if (rc == 0 && S_ISREG(i->a.mode))
        rc = compare_file(r, s, at, i);
    if (rc == 0 && S_ISLNK(i->a.mode)) {
        int n = store_readlink(s, at, i->a.ino, target, sizeof target, NULL);
        if (n < 0)
            return failed(r, "readlink", at, i->a.ino, n, NULL);
        if ((uint64_t)n != i->a.size || memcmp(target, i->target, (size_t)n) != 0)
            return rig_viol(r, "inode %" PRIu64 " %s: target of the link differs", i->a.ino, when(at, b));
    }
    if (rc == 0 && i->a.ino != r->gen.root) {
        struct parents p = { .r = r, .m = m, .ino = i->a.ino, .past = at != AT_LIVE };
        rc = store_parents(s, at, i->a.ino, parent_seen, &p, NULL);
        if (p.bad != 0 || rc < 0)
            return p.bad != 0 ? p.bad : failed(r, "parents", at, i->a.ino, rc, NULL);
        size_t want = S_ISDIR(i->a.mode) ? i->a.nlink > 0 : i->a.nlink;
        for (size_t k = 0; p.past && k < m->n_ino; k++)
            for (size_t e = 0; e < m->ino[k]->n_ent; e++)
                want -= m->ino[k]->ent[e].ino == i->a.ino && m->ino[k]->ent[e].hidden;
        if (p.n != want)
            rc = rig_viol(r, "inode %" PRIu64 " %s: expected %zu names, found %zu", i->a.ino, when(at, b), want, p.n);
    }
    return rc;
}

int oracle_compare(struct rig *r, struct store *s, uint64_t at, const struct model *m)
{
    int rc = 0;
    for (size_t k = 0; k < m->n_ino && rc == 0; k++)
        rc = oracle_object(r, s, at, m, m->ino[k]);
    return rc;
}

static int digest_is(struct rig *r, struct store *s, uint64_t at, const struct moment *want)
{
    struct mhash got;
    char b[32];
    r->st->moments++;
    int rc = oracle_digest(r, s, at, &got);
    if (rc != 0 || mhash_eq(got, at == AT_LIVE ? want->digest : want->past))
        return rc;
    struct model *m = history_model(r, want->lsn);
    rc = oracle_compare(r, s, at, m);        /* says what differs */
    model_free(m);
    return rc != 0 ? rc : rig_viol(r, "the tree %s is not that of @%" PRIu64 ", though its objects are", when(at, b), want->lsn);
}

/* Whether anybody can get at that moment. */
static bool lists(struct rig *r, struct store *s, uint64_t at)
{
    bool yes = store_lists(s, at);
    r->st->unlisted += !yes;
    return yes;
}

int oracle_recovered(struct rig *r, struct store *s, uint64_t lsn, unsigned contents)
{
    int rc = digest_is(r, s, AT_LIVE, history_at(r, lsn));
    size_t n = 0;
    bool all = r->n_mom <= MOMENTS_ALL;          /* of a long history, about so many */
    for (size_t k = 0; k < r->n_mom && r->mom[k].lsn <= lsn && rc == 0; k++, n++)
        if ((k + 1 == r->n_mom || r->mom[k + 1].lsn != r->mom[k].lsn) &&
            (all || rng_below(&r->cut_rng, r->n_mom) < MOMENTS_ALL) && lists(r, s, r->mom[k].lsn))
            rc = digest_is(r, s, r->mom[k].lsn, &r->mom[k]);
    /* an address inside a record is the moment before it */
    if (rc == 0 && n > 1) {
        size_t k = (size_t)rng_below(&r->cut_rng, n - 1);
        uint64_t gap = r->mom[k + 1].lsn - r->mom[k].lsn, at = gap > 0 ? r->mom[k].lsn + rng_below(&r->cut_rng, gap) : 0;
        if (gap > 0 && lists(r, s, at))
            rc = digest_is(r, s, at, &r->mom[k]);
    }
    if (rc != 0 || contents == 0)
        return rc < 0 ? rc : 0;
    struct model *m = model_new();
    size_t at = 0;
    for (unsigned c = 1; c <= contents && rc == 0; c++) {
        size_t stop = n * c / contents;
        for (; at < stop; at++) {
            const struct mop *op = &r->hist[at];
            if (op->kind == MOP_CREATE && op->parent == 0)
                model_root(m, op->ino, op->mode, op->uid, op->gid, op->now_ns);
            else
                (void)model_do(m, op);
        }
        if (stop == 0 || (stop < r->n_mom && r->mom[stop].lsn == r->mom[stop - 1].lsn) || !lists(r, s, r->mom[stop - 1].lsn))
            continue;
        r->st->contents++;
        rc = oracle_compare(r, s, r->mom[stop - 1].lsn, m);
    }
    model_free(m);
    return rc < 0 ? rc : 0;
}
