/* space.c: see space.h. Each answer is a pass over the rows with marks in the packs, under some idea of what is kept. */
#include "store/maint/space.h"

#include "store/core/version.h"
#include "store/pack/packs_mark.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { CUTS = 64 };

static int nomem(struct err *err)
{
    return err_set(err, ERR_NOMEM, "space: out of memory");
}

/* ---- files ---- */

struct sum { struct io *io; const char *dir; uint64_t bytes; };

static int add_file(void *arg, const char *name)
{
    struct sum *z = arg;
    struct io_stat st;
    char path[300];
    size_t d = strlen(z->dir), n = strlen(name);

    if (d + n + 2 > sizeof path)
        return 0;
    memcpy(path, z->dir, d);
    path[d] = '/';
    memcpy(path + d + 1, name, n + 1);
    if (io_stat_path(z->io, path, &st, NULL) == 0)
        z->bytes += st.allocated;
    return 0;
}

static uint64_t bytes_of(struct io *io, const char *dir)
{
    struct sum z = { .io = io, .dir = dir };
    struct io_stat st;

    (void)io_list(io, dir, add_file, &z, NULL);
    if (io_stat_path(io, dir, &st, NULL) == 0)
        z.bytes += st.allocated;
    return z.bytes;
}

static uint64_t bytes_at(struct io *io, const char *name)
{
    struct io_stat st;

    return io_stat_path(io, name, &st, NULL) == 0 ? st.allocated : 0;
}

/* ---- forks and branches ---- */

enum { FORK_DEPTH = 4 };                 /* forks/NAME/branches/NAME/log */

/* Files that were counted, by inode number: a sorted part, and what came since. */
struct seen { struct io *io; const char *path; uint64_t *ino; size_t n, sorted, cap; uint64_t linked, others; bool own; int depth, rc; };

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* False: it was, or there is no memory. */
static bool see(struct seen *z, uint64_t ino)
{
    if (z->n - z->sorted > 1024) {
        qsort(z->ino, z->n, sizeof *z->ino, by_number);
        z->sorted = z->n;
    }
    if (z->sorted > 0 && bsearch(&ino, z->ino, z->sorted, sizeof ino, by_number) != NULL)
        return false;
    for (size_t i = z->sorted; i < z->n; i++)
        if (z->ino[i] == ino)
            return false;
    if (z->n == z->cap) {
        size_t cap = z->cap > 0 ? 2 * z->cap : 256;
        uint64_t *v = realloc(z->ino, cap * sizeof *v);

        if (v == NULL) {
            z->rc = ERR_NOMEM;
            return false;
        }
        z->ino = v;
        z->cap = cap;
    }
    z->ino[z->n++] = ino;
    return true;
}

static int see_file(void *arg, const char *name)
{
    struct seen *z = arg;
    const char *dir = z->path;
    char path[600];
    struct io_stat st;

    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path || io_stat_path(z->io, path, &st, NULL) < 0)
        return 0;
    if (st.is_dir && z->depth > 0) {
        z->depth--;
        z->path = path;
        (void)io_list(z->io, path, see_file, z, NULL);
        z->path = dir;
        z->depth++;
    } else if (see(z, st.ino) && !st.is_dir) {
        z->linked += z->own && st.nlink > 1 ? st.allocated : 0;
        z->others += z->own ? 0 : st.allocated;
    }
    return z->rc;
}

static int look_at_forks(struct io *io, struct space_sizes *out, struct err *err)
{
    static const char *const own[] = { "log", "archive", "packs", "index" }, *const others[] = { "forks", "branches" };
    struct seen z = { .io = io, .own = true };

    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        z.path = own[i];
        (void)io_list(io, own[i], see_file, &z, NULL);
    }
    z.own = false;
    z.depth = FORK_DEPTH;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        z.path = others[i];
        (void)io_list(io, others[i], see_file, &z, NULL);
    }
    free(z.ino);
    out->linked = z.linked;
    out->forks = z.others;
    return z.rc < 0 ? nomem(err) : 0;
}

/* ---- what is kept ---- */

/* What is listed: without what is on its way out. free(out->point). */
static int listed_keep(struct store *s, struct keep *out, struct err *err)
{
    struct retain_plan p;
    uint64_t *v;
    int rc = retain_plan(s, NULL, false, &p, err);

    if (rc < 0)
        return rc;
    v = malloc((p.next.n + (size_t)1) * sizeof *v);
    *out = (struct keep){ p.next.listed, v, 0 };
    if (v == NULL)
        rc = nomem(err);
    for (uint32_t i = 0; v != NULL && i < p.next.n; i++)
        if (p.next.point[i].kind != RETAIN_KEPT || p.next.point[i].until_ns == 0)
            v[out->n++] = p.next.point[i].lsn;
    retain_plan_free(&p);
    return rc;
}

int space_sizes(struct store *s, const struct reclaim_options *opt, struct space_sizes *out, struct err *err)
{
    static const char *const others[] = { "super.0", "super.1", "retained.0", "retained.1", "lock", "." };
    const struct keep today = { UINT64_MAX - 1, NULL, 0 };
    struct reclaim_sizes all = { 0 }, present = { 0 };
    struct keep keep = { 0 };
    struct io *io = store_io(s);
    uint64_t packs = bytes_of(io, "packs");
    int rc = listed_keep(s, &keep, err);

    memset(out, 0, sizeof *out);
    if (rc == 0)
        rc = reclaim_measure(s, &keep, opt, &all, err);
    if (rc == 0)
        rc = reclaim_measure(s, &today, opt, &present, err);
    free((void *)(uintptr_t)keep.point);
    if (rc < 0)
        return rc;
    out->present = present.needed;
    out->past = all.needed > present.needed ? all.needed - present.needed : 0;
    out->leaving = all.stored > all.needed ? all.stored - all.needed : 0;
    out->tables = packs > all.stored ? packs - all.stored : 0;
    out->log = bytes_of(io, "log");
    out->archive = bytes_of(io, "archive");
    out->index = bytes_of(io, "index");
    out->reserve = bytes_at(io, "ballast");
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        out->other += bytes_at(io, others[i]);
    out->total = packs + out->log + out->archive + out->index + out->reserve + out->other;
    return look_at_forks(io, out, err);
}

/* ---- of one directory ---- */

struct below { uint8_t *bits; uint64_t n_bits, count; struct store *s; bool more; };

static bool has(const struct below *b, uint64_t ino)
{
    return ino < b->n_bits && (b->bits[ino / 8] >> ino % 8 & 1);
}

static void put(struct below *b, uint64_t ino)
{
    if (ino >= b->n_bits || has(b, ino))
        return;
    b->bits[ino / 8] |= (uint8_t)(1u << ino % 8);
    b->count++;
    b->more = true;
}

/* Whoever had a name in a directory that is in, then or now, is in: until nobody comes any more. */
static int close_over(struct below *b, struct err *err)
{
    struct kv *kv = store_kv(b->s);
    int rc = 0;

    for (b->more = true; b->more && rc == 0;) {
        b->more = false;
        for (const char *t = "dD"; *t != '\0' && rc == 0; t++) {
            uint8_t lo = (uint8_t)*t, hi = (uint8_t)(lo + 1);
            struct kv_snap *snap = kv->ops->snap_scan(kv);
            struct kv_iter *it = kv->ops->iter_new(kv, snap, &lo, 1, &hi, 1);

            rc = it != NULL ? 0 : nomem(err);
            for (rc == 0 ? kv->ops->iter_seek(it, &lo, 1) : (void)0; rc == 0 && kv->ops->iter_valid(it); kv->ops->iter_next(it)) {
                struct key_parts k;
                struct row_den den;
                size_t klen, vlen;
                const uint8_t *key = kv->ops->iter_key(it, &klen), *val = kv->ops->iter_val(it, &vlen);

                if (!key_parse(key, klen, &k))
                    rc = err_set(err, ERR_DAMAGE, "index: a key cannot be read; rebuild the index");
                else if (has(b, k.parent) && (rc = row_den_decode(val, vlen, &den, err)) == 0)
                    put(b, den.ino);
            }
            if (rc == 0)
                rc = kv->ops->iter_err(it, err);
            if (it != NULL)
                kv->ops->iter_free(it);
            kv->ops->snap_free(kv, snap);
        }
    }
    return rc;
}

static bool only_in(void *arg, uint64_t ino)
{
    return has(arg, ino);
}

static bool only_out(void *arg, uint64_t ino)
{
    return !has(arg, ino);
}

int space_below(struct store *s, uint64_t ino, const struct reclaim_options *opt, struct space_below *out, struct err *err)
{
    struct below b = { .s = s };
    struct reclaim_options o = *opt;
    struct reclaim_sizes all = { 0 }, in = { 0 }, rest = { 0 };
    struct keep keep = { 0 };
    int rc = store_apply(s, err);

    memset(out, 0, sizeof *out);
    b.n_bits = store_next_ino(s);
    b.bits = calloc(b.n_bits / 8 + 1, 1);
    if (rc == 0)
        rc = b.bits != NULL ? listed_keep(s, &keep, err) : nomem(err);
    if (rc == 0 && ino >= b.n_bits)
        rc = err_set(err, ERR_NOENT, "space: inode %" PRIu64 ": there is none", ino);
    if (rc == 0) {
        put(&b, ino);
        rc = close_over(&b, err);
    }
    o.of_arg = &b;
    if (rc == 0)
        rc = reclaim_measure(s, &keep, &o, &all, err);
    o.of = only_in;
    if (rc == 0)
        rc = reclaim_measure(s, &keep, &o, &in, err);
    o.of = only_out;
    if (rc == 0)
        rc = reclaim_measure(s, &keep, &o, &rest, err);
    if (rc == 0) {
        out->inodes = b.count;
        out->alone = all.needed > rest.needed ? all.needed - rest.needed : 0;
        out->shared = in.needed > out->alone ? in.needed - out->alone : 0;
    }
    free((void *)(uintptr_t)keep.point);
    free(b.bits);
    return rc;
}

/* ---- what would free some ---- */

/* Moments at which the past could end, rising: the points that may go, and some of those after which all is listed. */
struct cuts { uint64_t *v; size_t n; uint64_t *fixed; size_t n_fixed; uint64_t now_age; };

static int find_cuts(struct store *s, struct cuts *c, struct err *err)
{
    struct retain_plan p;
    int rc = retain_plan(s, NULL, false, &p, err);

    if (rc < 0)
        return rc;
    c->v = malloc((p.n + CUTS + 1) * sizeof *c->v);
    c->fixed = malloc((p.n + 1) * sizeof *c->fixed);
    c->now_age = p.age_ns;
    rc = c->v != NULL && c->fixed != NULL ? 0 : nomem(err);
    for (size_t i = 0; rc == 0 && i < p.n; i++) {
        if (p.v[i].reasons & (BY_SNAPSHOT | BY_HOLD | BY_USE | BY_OTHER))
            c->fixed[c->n_fixed++] = p.v[i].lsn;
        if (p.v[i].lsn < p.next.listed && (p.v[i].reasons & ~(unsigned)BY_GRACE) != 0)
            c->v[c->n++] = p.v[i].lsn;
    }
    for (unsigned i = 0; rc == 0 && i <= CUTS; i++) {
        uint64_t lsn = 0;

        rc = periods_at_age(s, p.age_ns - (CUTS - i) * (p.age_ns < p.policy.keep_all_ns ? p.age_ns : p.policy.keep_all_ns) / CUTS, &lsn, err);
        if (rc == 0 && lsn >= p.next.listed && (c->n == 0 || c->v[c->n - 1] < lsn))
            c->v[c->n++] = lsn;
    }
    retain_plan_free(&p);
    return rc;
}

static int freed_by(struct store *s, const struct cuts *c, size_t i, const struct reclaim_options *opt, uint64_t *bytes, struct err *err)
{
    uint64_t *v = malloc((c->n + c->n_fixed + 1) * sizeof *v);
    struct keep keep = { c->v[i], v, 0 };
    struct reclaim_sizes z;
    int rc = v != NULL ? 0 : nomem(err);

    for (size_t k = 0; rc == 0 && k < c->n_fixed; k++)
        v[keep.n++] = c->fixed[k];       /* those above the horizon are kept by it */
    if (rc == 0)
        rc = reclaim_measure(s, &keep, opt, &z, err);
    free(v);
    *bytes = rc == 0 && z.stored > z.needed ? z.stored - z.needed : 0;
    return rc;
}

int space_free(struct store *s, uint64_t bytes, const struct reclaim_options *opt, struct space_free *out, struct err *err)
{
    struct cuts c = { 0 };
    size_t lo = 0, hi;
    uint64_t got = 0;
    int rc = find_cuts(s, &c, err);

    memset(out, 0, sizeof *out);
    hi = c.n;
    /* what a later moment frees is never less */
    while (rc == 0 && lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        rc = freed_by(s, &c, mid, opt, &got, err);
        out->looks++;
        if (got >= bytes) {
            out->lsn = c.v[mid];
            out->bytes = got;
            out->enough = true;
            hi = mid;
        } else {
            lo = mid + 1;
        }
    }
    if (rc == 0 && !out->enough && c.n > 0) {
        rc = freed_by(s, &c, c.n - 1, opt, &out->bytes, err);
        out->lsn = c.v[c.n - 1];
    }
    if (rc == 0 && out->lsn > 0)
        rc = periods_age_of(s, out->lsn, &out->age_ns, err);
    out->now_age_ns = c.now_age;
    free(c.v);
    free(c.fixed);
    return rc;
}
