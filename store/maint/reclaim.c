/* reclaim.c: see reclaim.h. The steps, in their order, are in reclaim(). */
#include "store/maint/reclaim.h"

#include "store/core/retain.h"
#include "store/index/sweep.h"
#include "store/maint/renew.h"
#include "store/pack/packs_mark.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    STEP_ROWS = 2048,                /* read between two looks around */
    WORTH_PART = 60,                 /* of a hundred: packs with less that is needed are made anew */
    WORTH_NOW = 98,                  /* when somebody asked for it */
    UPDATES_NOW = 4,
    SMALL_PACK = 8 << 20,            /* neighbours that are smaller become one */
    JOIN_ENTRIES = 64 << 10,         /* of one that is made anew, at most: each takes about 100 bytes of memory meanwhile */
};
#define JOIN_BYTES (256ull << 20)

struct run {
    struct store *s;
    const struct reclaim_options *opt;
    struct reclaim_result *res;
    struct packs_mark *mark;
    bool skipped;                    /* some packs wait for room on the disk */
    struct err *err;
};

static int look_around(struct run *r)
{
    return r->opt->stop != NULL && r->opt->stop(r->opt->arg) ? err_set(r->err, ERR_BUSY, "reclaim: told to stop") : 0;
}

static void tell(struct run *r, const char *what, uint64_t done, uint64_t total)
{
    if (r->opt->tell != NULL)
        r->opt->tell(r->opt->arg, what, done, total);
}

/* ---- what was swept last ---- */

/* A number for what is kept. */
static uint64_t sum_of(const struct keep *k)
{
    struct { uint64_t horizon, points; } x = { k->horizon, hash64(k->point, k->n * sizeof *k->point) };

    return hash64(&x, sizeof x);
}

/* That of the last time when all rows were seen and all packs looked at; lost with the index, which then has all rows again. */
static uint64_t swept_last(struct store *s)
{
    uint8_t key[KV_KEY_MAX], *val = NULL;
    struct kv *kv = store_kv(s);
    size_t len;
    uint64_t sum = 0;

    if (kv_get(kv, key, key_meta(key, "swept"), &val, &len, NULL) == 0 && row_u64_decode(val, len, &sum, NULL) < 0)
        sum = 0;
    free(val);
    return sum;
}

static void put_swept(void *arg, struct kv *kv, struct kv_batch *b)
{
    uint8_t key[KV_KEY_MAX], val[ROW_SMALL_MAX];
    size_t len = row_u64_encode(*(const uint64_t *)arg, val, sizeof val);

    kv->ops->batch_put(b, key, key_meta(key, "swept"), val, len);
}

/* ---- rows ---- */

static int on_piece(void *arg, uint64_t ino, bool live, const struct piece *p)
{
    struct run *r = arg;

    (void)live;
    if (r->opt->of != NULL && !r->opt->of(r->opt->of_arg, ino))
        return 0;
    if (r->opt->needed != NULL)
        needed_set(r->opt->needed, p->lsn);
    return packs_mark_data(r->mark, p->lsn, p->doff, p->len, r->err);
}

/*
 * A standby is sent every record from the horizon on with its data, also those of which no history is kept: no row names these any more. So where there
 * are such at all, all data from there on are needed.
 */
static int mark_whole(struct run *r, const struct keep *keep)
{
    struct store_info info;

    store_info(r->s, &info);
    if (info.ever_hidden == 0)
        return 0;
    if (r->opt->needed != NULL && r->opt->needed->end > keep->horizon)
        r->opt->needed->end = keep->horizon;
    return packs_mark_from(r->mark, keep->horizon, r->opt->of, r->opt->of_arg, r->err);
}

static int sweep_rows(struct run *r, const struct keep *keep, bool trims)
{
    const struct sweep_hooks hooks = { .arg = r, .on_piece = on_piece };
    struct index_trim trim;
    struct sweep_seen seen;
    struct sweep *w = NULL;
    int rc = sweep_new(store_kv(r->s), keep, &hooks, &w, r->err), more = 1;

    while (rc == 0 && more == 1) {
        more = sweep_step(w, STEP_ROWS, &trim, r->err);
        rc = more < 0 ? more : 0;
        if (rc == 0 && trims && trim.n > 0)
            rc = store_trim(r->s, &trim, r->err);
        if (rc == 0)
            rc = look_around(r);
        sweep_seen(w, &seen);
        tell(r, "rows", seen.rows, 0);
    }
    if (rc == 0) {
        r->res->rows = seen.rows;
        r->res->rows_gone = seen.gone;
        r->res->swept = true;
        rc = sweep_whole(w, r->err);
    }
    sweep_free(w);
    return rc == 0 ? mark_whole(r, keep) : rc;
}

/* ---- packs ---- */

/* Whether the i-th is to be made anew for what can go of it. */
static bool worth(const struct run *r, const struct packs_use *u)
{
    uint64_t part = r->opt->now ? WORTH_NOW : WORTH_PART;

    return !u->fixed && (u->needed * 100 < u->stored * part || (uint64_t)u->entries_needed * 100 < (uint64_t)u->entries * part);
}

/* From the i-th on, how many become one: those that are worth it, and small ones that are their neighbours. 0: it stays as it is. */
static size_t group(const struct run *r, size_t i)
{
    uint64_t bytes = 0, entries = 0, last = 0, room = JOIN_BYTES;
    struct io_space_info sp;
    bool any = false;
    size_t n = 0, best = 0;

    if (io_space(store_io(r->s), &sp, NULL) == 0 && sp.avail / 2 < room)
        room = sp.avail / 2;             /* the old ones go when the new one is there */
    for (; i + n < packs_mark_n(r->mark); n++) {
        struct packs_use u = packs_mark_use(r->mark, i + n);
        bool w = worth(r, &u);

        bytes += u.needed;
        entries += u.entries_needed + u.chunks_needed;
        if (u.fixed || (!w && u.bytes > SMALL_PACK) || (n > 0 && (u.first != last || bytes > room || entries > JOIN_ENTRIES)))
            break;
        last = u.end;
        any = any || w;
        if (any)
            best = n + 1;
    }
    return best;
}

static int rewrite_group(struct run *r, size_t i, size_t n)
{
    struct packs *ps = store_packs(r->s);
    struct pack_head h = { .retained_gen = store_retained_gen(r->s) }, made = { 0 };
    struct store_info info;
    int rc;

    store_info(r->s, &info);
    memcpy(h.lineage, info.lineage, 16);
    memcpy(h.site, info.site, 16);
    h.key_id = info.key_id;
    store_maint_begin(r->s);
    h.gen = packs_next_gen(ps);
    rc = names_free_gen(store_io(r->s), "packs", pack_parse, &h.gen, r->err);
    if (rc == 0)
        rc = packs_rewrite(r->mark, i, n, &h, r->opt->stop, r->opt->arg, &made, r->err);
    store_maint_end(r->s);
    if (rc == 0) {
        r->res->packs++;
        r->res->packs_gone += n;
    }
    return rc;
}

static int add_bytes(void *arg, const struct packs_info *i)
{
    *(uint64_t *)arg += i->bytes;
    return 0;
}

/* What a crash left of the last time. */
static int tidy(struct run *r)
{
    int64_t gone = packs_tidy(store_packs(r->s), r->err);

    r->res->packs_gone += gone > 0 ? (uint64_t)gone : 0;
    return gone < 0 ? (int)gone : 0;
}

static int reclaim_packs(struct run *r)
{
    size_t n = packs_mark_n(r->mark);
    size_t *groups = calloc(n + 1, sizeof *groups);
    int rc = groups != NULL ? packs_mark_flush(r->mark, r->err) : err_set(r->err, ERR_NOMEM, "reclaim: out of memory");

    for (size_t i = 0; i < n && rc == 0; i++) {
        struct packs_use u = packs_mark_use(r->mark, i);

        r->res->needed += u.needed;
        if (u.blind)
            rc = err_set(r->err, ERR_DAMAGE, "packs/%016" PRIx64 "-...: it cannot be read, or a part of it is of another branch: nobody knows what it builds on; no "
                         "data are let go of until it is repaired or moved out of the store; see: spare check", u.first);
    }
    /* what is chosen first, by what is needed itself; then all that the others need, too */
    for (size_t i = 0; i < n && rc == 0; i += groups[i] > 0 ? groups[i] : 1)
        groups[i] = group(r, i);
    for (size_t i = 0, skip = 0; i < n && rc == 0; i++) {
        skip = groups[i] > 0 ? groups[i] : skip;
        if (skip == 0)
            rc = packs_mark_all(r->mark, i, r->err);
        else
            skip--;
    }
    for (size_t i = 0; i < n && rc == 0; i++) {
        tell(r, "packs", i, n);
        if (groups[i] > 0)
            rc = rewrite_group(r, i, groups[i]);
        if (rc == ERR_NOSPC && (r->res->packs > 0 || i + 1 < n)) {
            r->skipped = true;              /* others may fit, and make room */
            rc = 0;
        }
    }
    if (rc == 0 && r->skipped && r->res->packs == 0)
        rc = ERR_NOSPC;                  /* as the last one said */
    free(groups);
    return rc;
}

/* Two at once would count what goes twice, and make one pack of what another makes one of. */
static int begin(struct run *r)
{
    const struct timespec ms = { 0, 10000000 };

    while (!store_reclaim_begin(r->s)) {
        if (look_around(r) < 0)
            return ERR_BUSY;
        nanosleep(&ms, NULL);
    }
    return 0;
}

/* What millions of deleted rows took in RocksDB's tables is free by now, but in pieces that the process keeps: the next step needs others. */
static void give_back(void)
{
#ifdef __GLIBC__
    (void)malloc_trim(0);
#endif
}

static int reclaim_all(struct run *r)
{
    const struct reclaim_options *opt = r->opt;
    struct store *s = r->s;
    struct keep keep = { 0 };
    uint64_t sum = 0, set_gen = 0;
    int rc = 0;

    /* now: what the first one unlisted goes with the next; what the kernel was asked to forget with one more */
    for (int i = 0, n = opt->now ? UPDATES_NOW : 1; i < n && (rc = retain_update(s, opt->policy, opt->now, r->err)) >= 0; i++)
        ;
    rc = rc > 0 ? 0 : rc;
    if (rc == 0)
        rc = retain_keep(s, &keep, r->err);
    if (rc == 0)
        sum = sum_of(&keep);
    if (rc == 0 && keep.horizon <= LOG_FIRST_ADDR && !opt->sweep)
        goto out;                        /* nothing was ever let go of */
    if (rc == 0 && (opt->sweep || sum != swept_last(s))) {
        rc = retain_both_copies(s, r->err);
        set_gen = store_retained_gen(s);
        set_gen -= set_gen > 1;          /* that of the older copy: the newer one may rot, and nothing is lost with it */
        store_maint_begin(s);
        if (rc == 0)
            rc = tidy(r);
        if (rc == 0)
            rc = packs_mark_new(store_packs(s), &r->mark, r->err);
        store_maint_end(s);
        if (rc == 0)
            rc = packs_list(store_packs(s), add_bytes, &r->res->bytes_before, r->err);
        if (rc == 0)
            rc = sweep_rows(r, &keep, true);
        if (rc == 0)                     /* no row that a crash brings back shall name data that are gone */
            rc = store_flush(s, r->err);
        give_back();
        if (rc == 0)
            rc = reclaim_packs(r);
        give_back();
        if (rc == 0)
            rc = renew_base(s, &keep, set_gen, r->res->rows - r->res->rows_gone, opt, r->res, r->err);
        if (rc == 0)
            rc = packs_list(store_packs(s), add_bytes, &r->res->bytes_after, r->err);
        if (rc == 0 && !r->skipped)
            rc = store_put_rows(s, put_swept, &sum, r->err);
        packs_mark_free(r->mark);
    }
out:
    free((void *)(uintptr_t)keep.point);
    return rc;
}

int reclaim(struct store *s, const struct reclaim_options *opt, struct reclaim_result *res, struct err *err)
{
    struct reclaim_result own;
    struct run r = { .s = s, .opt = opt, .res = res != NULL ? res : &own, .err = err };
    int rc;

    memset(r.res, 0, sizeof *r.res);
    rc = begin(&r);
    if (rc == 0) {
        rc = reclaim_all(&r);
        store_reclaim_end(s);
    }
    return rc;
}

int reclaim_measure(struct store *s, const struct keep *keep, const struct reclaim_options *opt, struct reclaim_sizes *out, struct err *err)
{
    struct reclaim_result res = { 0 };
    struct run r = { .s = s, .opt = opt, .res = &res, .err = err };
    int rc;

    memset(out, 0, sizeof *out);
    rc = begin(&r);
    if (rc < 0)
        return rc;
    store_maint_begin(s);
    rc = packs_mark_new(store_packs(s), &r.mark, err);
    store_maint_end(s);
    if (rc == 0)
        rc = sweep_rows(&r, keep, false);     /* also: what was seen is what the index counts */
    if (rc == 0)
        rc = packs_mark_flush(r.mark, err);
    for (size_t i = 0; rc == 0 && i < packs_mark_n(r.mark); i++) {
        struct packs_use u = packs_mark_use(r.mark, i);

        out->stored += u.stored;
        out->needed += u.fixed ? u.stored : u.needed;
    }
    packs_mark_free(r.mark);
    store_reclaim_end(s);
    return rc;
}
