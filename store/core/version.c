/*
 * version.c: versions of a name. A path is followed through time from the root: at every component the rows of the name,
 * newest first, each cut to the time for which the path before it led there. What is left at the end are the intervals
 * in which the name led to some inode; in each the inode's rows are read backwards and cut where bursts ended.
 *
 * Everything streams: memory is the depth of the path, and who stops early has paid for what was seen only.
 *
 * What is no version, besides states in the middle of a burst:
 *   an empty state which the same file outgrew: the beginning of a save, however slow, not its result;
 *   an empty state younger than a burst when its name went: the first half of a save by another way;
 *   a name that was gone for less than a burst: saving by unlink and create deletes nothing.
 * With every_write all of these are listed.
 */
#include "store/core/version_internal.h"
#include "store/core/core_internal.h"
#include "store/core/moment.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { DEPTH_MAX = 4096 };
#define BURST_NS 2000000000ll

struct scan {
    struct store *s;
    struct kv *kv;
    struct kv_snap *snap;
    bool every;
    int (*fn)(void *arg, const struct version_seen *x);
    void *arg;
    struct err *err;
    uint64_t *cuts;            /* snapshots and kept moments, ascending */
    size_t n_cuts;
    bool any;                  /* the name existed */
    bool stopped;
    bool has_next;             /* an interval newer than the present one was seen */
    uint64_t next_from;        /* and began here */
    /* the version seen last, held back until it is known how it came about */
    struct version_seen held;
    bool has_held;
    uint64_t last_ino, last_content;   /* of the last one emitted or held, 0 after a deletion */
};

static int nomem(struct scan *c)
{
    return err_set(c->err, ERR_NOMEM, "versions: out of memory");
}

static int64_t ns_of(const struct rec_time *t)
{
    return t->sec * 1000000000 + t->nsec;
}

/* ---- one row by key, one table backwards, all in the snapshot ---- */

static struct kv_iter *iter(struct scan *c, const uint8_t *lo, size_t llen, const uint8_t *hi, size_t hlen)
{
    return c->kv->ops->iter_new(c->kv, c->snap, lo, llen, hi, hlen);
}

/* 1: *${it} stands on the row; 0: there is none. Free *${it}. */
static int get(struct scan *c, const uint8_t *key, size_t klen, struct kv_iter **it)
{
    uint8_t hi[KV_KEY_MAX + 1];
    memcpy(hi, key, klen);
    hi[klen] = 0;
    *it = iter(c, key, klen, hi, klen + 1);
    if (*it == NULL)
        return nomem(c);
    c->kv->ops->iter_seek(*it, key, klen);
    return c->kv->ops->iter_valid(*it) ? 1 : c->kv->ops->iter_err(*it, c->err);
}

/* ---- emitting ---- */

static int emit_held(struct scan *c, const char *how)
{
    int rc = 0;
    if (!c->has_held)
        return 0;
    c->has_held = false;
    c->held.v.how = how;
    if (c->fn(c->arg, &c->held) != 0) {
        c->stopped = true;
        rc = 1;
    }
    return rc;
}

/*
 * A version's moment is one that resolves: the first one listed of those in which it was there, none (0) where all were let go of; inside a series it is the
 * series' end, if the row lived that long.
 */
static int listed_lsn(struct scan *c, uint64_t at, uint64_t until, uint64_t *lsn)
{
    uint8_t lo[KV_KEY_MAX], hi[KV_KEY_MAX], k[KV_KEY_MAX];
    size_t llen = key_series(lo, 0), hlen = key_series(hi, UINT64_MAX), klen = key_series(k, at);
    struct kv_iter *it = iter(c, lo, llen, hi, hlen);
    uint64_t end = 0;
    int rc = it != NULL ? 0 : nomem(c);
    pthread_rwlock_rdlock(&c->s->retained_lock);
    *lsn = retained_first(&c->s->retained, at, until);
    pthread_rwlock_unlock(&c->s->retained_lock);
    if (rc < 0)
        return rc;
    if (*lsn != at) {
        c->kv->ops->iter_free(it);
        return 0;
    }
    c->kv->ops->iter_seek_prev(it, k, klen);
    if (c->kv->ops->iter_valid(it)) {
        size_t vlen;
        const uint8_t *v = c->kv->ops->iter_val(it, &vlen);
        rc = row_u64_decode(v, vlen, &end, c->err);
        if (rc == 0 && end > at && end < until)
            *lsn = end;
    } else {
        rc = c->kv->ops->iter_err(it, c->err);
    }
    c->kv->ops->iter_free(it);
    return rc;
}

/* The row of ${ino} valid in [birth, until) became a version. */
static int hold(struct scan *c, uint64_t ino, const struct row_ino *row, uint64_t from, uint64_t until, bool live)
{
    struct row_ino then;
    uint64_t at = row->birth > from ? row->birth : from, lsn;
    if (ino == c->last_ino && row->content == c->last_content)
        return 0;
    int rc = listed_lsn(c, at, until, &lsn);
    if (rc < 0 || lsn == 0)
        return rc;
    rc = emit_held(c, "write");
    if (rc != 0)
        return rc;
    c->held = (struct version_seen){ .at = at, .origin = row->origin };
    c->held.v = (struct version){ .lsn = lsn, .ino = ino, .content = row->content, .size = row->size, .mode = row->mode, .uid = row->uid,
                                  .gid = row->gid, .live = live, .wall_ns = ns_of(&row->ctime) };
    if (row->birth != row->content && asof_ino(c->kv, row->content, ino, &then, NULL, NULL) == 0 && then.birth == row->content)
        c->held.v.wall_ns = ns_of(&then.ctime);
    c->has_held = true;
    c->last_ino = ino;
    c->last_content = row->content;
    return rc;
}

/* What the record at ${lsn} did to the name, and when. */
static const char *what_at(struct scan *c, uint64_t lsn, bool gone, int64_t *wall)
{
    struct record rec;
    void *buf = NULL;
    const char *how = gone ? "delete" : "rename";
    if (history_record(c->s->history, lsn, &rec, &buf, NULL) < 0) {
        (void)moment_wall(c->s, lsn, wall, NULL);     /* let go of, or damaged: the rows alone say that it happened, and about when */
        return how;
    }
    *wall = rec.wall_ns;
    if (gone)
        how = rec.type == REC_RENAME ? "moved-away" : "delete";
    else
        how = rec.type == REC_CREATE ? "create" : rec.type == REC_LINK ? "link" : "rename";
    free(buf);
    return how;
}

static int emit_gone(struct scan *c, uint64_t ino, uint64_t lsn)
{
    struct version_seen x = { .at = lsn };
    int64_t then = 0, back = 0;
    int rc = emit_held(c, "write");
    if (rc != 0)
        return rc;
    x.v = (struct version){ .lsn = lsn, .ino = ino, .deleted = true };
    x.v.how = what_at(c, lsn, true, &then);
    x.v.wall_ns = then;
    if (c->has_next && !c->every) {
        (void)what_at(c, c->next_from, false, &back);
        if (back - then < BURST_NS && back >= then)
            return 0;                    /* it came back at once: a way of saving */
    }
    c->last_ino = c->last_content = 0;
    if (c->fn(c->arg, &x) != 0) {
        c->stopped = true;
        return 1;
    }
    return 0;
}

/* ---- the rows of one inode in an interval ---- */

struct span { uint64_t ino, from, to; bool live; };     /* [from, to); live: to is the present */

static bool cut_between(const struct scan *c, uint64_t from, uint64_t to)
{
    size_t lo = 0, hi = c->n_cuts;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (c->cuts[mid] < from)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < c->n_cuts && c->cuts[lo] < to;
}

struct newer { bool any, new_burst; uint64_t birth, size; };

/* Row by row from new to old. ${n} is the row after this one. */
static int take_row(struct scan *c, const struct span *sp, const struct row_ino *row, const struct newer *n)
{
    uint64_t start = row->birth > sp->from ? row->birth : sp->from, until = n->any ? n->birth : sp->to;
    if (c->every)
        return hold(c, sp->ino, row, sp->from, until, sp->live && !n->any);
    if (cut_between(c, start, until))
        return hold(c, sp->ino, row, sp->from, until, sp->live && !n->any);
    if (!n->any) {                       /* how the interval ended */
        int64_t wall = ns_of(&row->ctime) + BURST_NS;
        if (!sp->live && S_ISREG(row->mode) && row->size == 0 && row->content >= sp->from) {
            (void)what_at(c, sp->to, true, &wall);
            if (wall - ns_of(&row->ctime) < BURST_NS && wall >= ns_of(&row->ctime))
                return 0;
        }
        return hold(c, sp->ino, row, sp->from, until, sp->live);
    }
    if (!n->new_burst || (S_ISREG(row->mode) && row->size == 0 && n->size > 0))
        return 0;
    return hold(c, sp->ino, row, sp->from, until, false);
}

/* Calls take_row for each row of the inode that touches [from, to), newest first; *${first} gets the oldest. */
static int rows_of(struct scan *c, const struct span *sp, struct row_ino *first)
{
    uint8_t lo[KV_KEY_MAX], hi[KV_KEY_MAX], k[KV_KEY_MAX];
    size_t vlen, llen = key_ino_h(lo, sp->ino, 0), hlen = key_ino_h(hi, sp->ino, UINT64_MAX), klen = key_ino(k, sp->ino);
    struct newer n = { 0 };
    struct kv_iter *it = NULL;
    struct row_ino row = { .birth = UINT64_MAX };
    const uint8_t *v, *target;
    int rc = get(c, k, klen, &it);
    if (rc == 1) {
        v = c->kv->ops->iter_val(it, &vlen);
        rc = row_ino_decode(v, vlen, &row, &target, c->err);
    }
    if (it != NULL)
        c->kv->ops->iter_free(it);
    if (rc == 0 && row.birth < sp->to && row.hidden == 0) {
        *first = row;
        rc = take_row(c, sp, &row, &n);
        n = (struct newer){ true, (row.flags & INOF_NEW_BURST) != 0, row.birth, row.size };
    }
    if (rc != 0 || (n.any && n.birth <= sp->from))
        return rc;
    it = iter(c, lo, llen, hi, hlen);
    if (it == NULL)
        return nomem(c);
    /* the row valid just before ${to} has the smallest death >= to; where rows are whole, deaths below n.birth follow */
    klen = key_ino_h(k, sp->ino, sp->to);
    if (n.any) {
        klen = key_ino_h(k, sp->ino, n.birth);
        c->kv->ops->iter_seek_prev(it, k, klen);
    } else {
        c->kv->ops->iter_seek(it, k, klen);
        if (!c->kv->ops->iter_valid(it))
            c->kv->ops->iter_seek_prev(it, hi, hlen);   /* reaped before the interval ended: cannot be, but harmless */
    }
    for (; rc == 0 && c->kv->ops->iter_valid(it); c->kv->ops->iter_prev(it)) {
        v = c->kv->ops->iter_val(it, &vlen);
        rc = row_ino_decode(v, vlen, &row, &target, c->err);
        if (rc < 0 || row.birth >= sp->to || row.hidden != 0)
            continue;
        *first = row;
        rc = take_row(c, sp, &row, &n);
        n = (struct newer){ true, (row.flags & INOF_NEW_BURST) != 0, row.birth, row.size };
        if (row.birth <= sp->from)
            break;
    }
    if (rc == 0)
        rc = c->kv->ops->iter_err(it, c->err);
    c->kv->ops->iter_free(it);
    return rc;
}

/* An interval in which the name led to an inode. */
static int leaf(struct scan *c, const struct span *sp, uint32_t type)
{
    struct row_ino first = { 0 };
    int64_t wall = INT64_MIN;
    int rc = 0;
    c->any = true;
    if (type == S_IFDIR >> 12)
        goto out;
    if (!sp->live && (!c->has_next || c->next_from > sp->to))
        rc = emit_gone(c, sp->ino, sp->to);
    if (rc == 0)
        rc = rows_of(c, sp, &first);
    if (rc == 0 && c->has_held && c->held.v.ino == sp->ino && c->held.at >= sp->from) {
        const char *how = what_at(c, sp->from, false, &wall);
        if (wall > c->held.v.wall_ns && c->held.v.content < sp->from)
            c->held.v.wall_ns = wall;    /* the content is older than the name's holding it */
        rc = emit_held(c, how);
    }
out:
    c->has_next = true;
    c->next_from = sp->from;
    return rc;
}

/* ---- the names of a path through time ---- */

static int step(struct scan *c, const char *path, uint64_t dir, uint64_t from, uint64_t to, int depth);

static int entry(struct scan *c, const char *rest, const struct row_den *den, uint64_t death, uint64_t from, uint64_t to, int depth)
{
    uint64_t f = den->birth > from ? den->birth : from, t = death < to ? death : to;
    const char *p = rest, *name;
    size_t len;
    if (f >= t || den->hidden)
        return 0;
    if (!path_next(&p, &name, &len)) {
        struct span sp = { den->ino, f, t, t == UINT64_MAX };
        return leaf(c, &sp, den->type);
    }
    return den->type == S_IFDIR >> 12 ? step(c, rest, den->ino, f, t, depth + 1) : 0;
}

/* The first component of ${path} in directory ${dir} during [from, to), newest first. */
static int step(struct scan *c, const char *path, uint64_t dir, uint64_t from, uint64_t to, int depth)
{
    uint8_t lo[KV_KEY_MAX], hi[KV_KEY_MAX + 1], k[KV_KEY_MAX];
    const char *name = NULL;
    struct key_parts kp;
    struct row_den den;
    struct kv_iter *it = NULL;
    size_t nlen = 0, klen, vlen;
    const uint8_t *v;
    if (depth > DEPTH_MAX)
        return err_set(c->err, ERR_TOOLONG, "a path of more than %d names", DEPTH_MAX);
    (void)path_next(&path, &name, &nlen);
    if (nlen > REC_NAME_MAX)
        return err_set(c->err, ERR_NAMETOOLONG, "%.64s...: %s", name, err_text(ERR_NAMETOOLONG));
    int rc = get(c, k, key_den(k, dir, name, nlen), &it);
    if (rc == 1) {
        v = c->kv->ops->iter_val(it, &vlen);
        rc = row_den_decode(v, vlen, &den, c->err);
        if (rc == 0)
            rc = entry(c, path, &den, UINT64_MAX, from, to, depth);
    }
    if (it != NULL)
        c->kv->ops->iter_free(it);
    if (rc != 0)
        return rc;
    size_t llen = key_den_h(lo, dir, name, nlen, from), hlen = key_den_h(hi, dir, name, nlen, UINT64_MAX);
    hi[hlen] = 0;
    it = iter(c, lo, llen, hi, hlen + 1);
    if (it == NULL)
        return nomem(c);
    for (c->kv->ops->iter_seek_prev(it, hi, hlen); rc == 0 && c->kv->ops->iter_valid(it); c->kv->ops->iter_prev(it)) {
        const uint8_t *key = c->kv->ops->iter_key(it, &klen);
        v = c->kv->ops->iter_val(it, &vlen);
        if (!key_parse(key, klen, &kp))
            rc = err_set(c->err, ERR_DAMAGE, "index: the key of a name cannot be read; rebuild the index");
        else
            rc = row_den_decode(v, vlen, &den, c->err);
        if (rc == 0 && kp.death > from)
            rc = entry(c, path, &den, kp.death, from, to, depth);
    }
    if (rc == 0)
        rc = c->kv->ops->iter_err(it, c->err);
    c->kv->ops->iter_free(it);
    return rc;
}

/* ---- set-up ---- */

static int cut_cmp(const void *x, const void *y)
{
    uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;
    return a < b ? -1 : a > b;
}

static int add_cut(struct scan *c, size_t *cap, uint64_t lsn)
{
    if (c->n_cuts == *cap) {
        size_t n = *cap == 0 ? 64 : *cap * 2;
        uint64_t *p = realloc(c->cuts, n * sizeof *p);
        if (p == NULL)
            return nomem(c);
        c->cuts = p;
        *cap = n;
    }
    c->cuts[c->n_cuts++] = lsn;
    return 0;
}

static int load_cuts(struct scan *c)
{
    const uint8_t lo[] = { 's' }, hi[] = { 's' + 1 };
    size_t cap = 0;
    struct kv_iter *it = iter(c, lo, 1, hi, 1);
    int rc = it != NULL ? 0 : nomem(c);
    if (rc < 0)
        return rc;
    for (c->kv->ops->iter_seek(it, lo, 1); rc == 0 && c->kv->ops->iter_valid(it); c->kv->ops->iter_next(it)) {
        size_t vlen;
        struct row_snap row;
        const uint8_t *v = c->kv->ops->iter_val(it, &vlen);
        rc = row_snap_decode(v, vlen, &row, c->err);
        if (rc == 0)
            rc = add_cut(c, &cap, row.at);
    }
    if (rc == 0)
        rc = c->kv->ops->iter_err(it, c->err);
    c->kv->ops->iter_free(it);
    pthread_rwlock_rdlock(&c->s->retained_lock);
    for (uint32_t i = 0; i < c->s->retained.n && rc == 0; i++)
        rc = add_cut(c, &cap, c->s->retained.point[i].lsn);
    pthread_rwlock_unlock(&c->s->retained_lock);
    if (rc == 0 && c->n_cuts > 1)
        qsort(c->cuts, c->n_cuts, sizeof *c->cuts, cut_cmp);
    return rc;
}

static int scan_begin(struct scan *c)
{
    /* what is shown is durable, and in the index */
    int rc = c->s->opt.writable ? store_sync(c->s, c->err) : 0;
    if (rc == 0 && (rc = read_applied(c->s, log_head(c->s->log) - 1, NULL)) < 0)
        return err_set(c->err, rc, "versions: %s", err_text(rc));
    if (rc < 0)
        return rc;
    c->kv = c->s->kv;
    c->snap = c->kv->ops->snap_new(c->kv);
    if (c->snap == NULL)
        return nomem(c);
    return c->every ? 0 : load_cuts(c);
}

static int scan_end(struct scan *c, int rc)
{
    if (c->snap != NULL)
        c->kv->ops->snap_free(c->kv, c->snap);
    free(c->cuts);
    return c->stopped && rc > 0 ? 0 : rc;
}

int version_scan(struct store *s, const char *path, bool every_write, int (*fn)(void *arg, const struct version_seen *x), void *arg,
                 struct err *err)
{
    struct scan c = { .s = s, .every = every_write, .fn = fn, .arg = arg, .err = err };
    const char *p = path, *name;
    size_t len;
    if (!path_next(&p, &name, &len))
        return err_set(err, ERR_ISDIR, "/: the root is a directory; its files have versions");
    int rc = scan_begin(&c);
    if (rc == 0)
        rc = step(&c, path, INO_ROOT, 0, UINT64_MAX, 0);
    if (rc == 0 && !c.any && nohistory_explain(s, path, err) != 0)
        rc = ERR_NOENT;
    else if (rc == 0 && !c.any)
        rc = err_set(err, ERR_NOENT, "%s: no such name, now or at any moment kept", path);
    return scan_end(&c, rc);
}

struct plain { int (*fn)(void *arg, const struct version *v); void *arg; };

static int plain_one(void *arg, const struct version_seen *x)
{
    struct plain *p = arg;
    return p->fn(p->arg, &x->v);
}

int version_list(struct store *s, const char *path, bool every_write, int (*fn)(void *arg, const struct version *v), void *arg,
                 struct err *err)
{
    struct plain p = { fn, arg };
    return version_scan(s, path, every_write, plain_one, &p, err);
}

int version_list_file(struct store *s, uint64_t ino, bool every_write, int (*fn)(void *arg, const struct version *v), void *arg,
                      struct err *err)
{
    struct plain p = { fn, arg };
    struct scan c = { .s = s, .every = every_write, .fn = plain_one, .arg = &p, .err = err };
    struct span sp = { ino, 0, UINT64_MAX, true };
    struct row_ino row, first = { 0 };
    int rc = scan_begin(&c);
    if (rc == 0) {
        int now = asof_ino(c.kv, UINT64_MAX - 1, ino, &row, NULL, NULL);
        if (now == 0 && S_ISDIR(row.mode))
            rc = err_set(err, ERR_ISDIR, "inode %" PRIu64 ": a directory has no versions of its own", ino);
        sp.live = now == 0 && row.nlink > 0;
    }
    if (rc == 0)
        rc = rows_of(&c, &sp, &first);
    if (rc == 0 && first.birth == 0)
        rc = err_set(err, ERR_NOENT, "inode %" PRIu64 ": there never was one", ino);
    if (rc == 0)
        rc = emit_held(&c, "create");
    return scan_end(&c, rc);
}
