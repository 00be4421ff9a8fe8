/*
 * renew.c: see renew.h.
 *
 *   clocks of kept moments into the index, flushed     they were in records that go
 *   archive/base.next, the rows of one snapshot        synced, named: the base
 *   archive files below it go, the oldest first
 *   older bases go
 *
 * A crash leaves a base, or none, and all records from the newest one's end on; more than that is in nobody's way, and goes the next time.
 *
 * A standby that is waited for may take over, and this store then goes back to what that one has: by a base that has no more than that, and the records behind it (store/core/rewind.h). So the last two steps are by the newest such base,
 * which may be one of before: then they are done once the standby has more.
 */
#include "store/maint/renew.h"

#include "store/core/clocks.h"
#include "store/core/retain.h"
#include "store/maint/pack_internal.h"
#include "store/pack/base.h"

#include <string.h>

enum {
    ROW_BYTES = 12,                  /* of a base, about, for each row of the index */
    WORTH = 1 << 20,                 /* bytes of records: less is not worth a pass over all rows */
    STEP_ROWS = 2048,
};

struct bases {
    struct store *s;
    uint64_t newest, size, applied;  /* of the newest one */
    bool any, bad;
    uint64_t held;                   /* what a standby has that is waited for */
    struct base_head stands;         /* the newest whole one of which it has all; generation 0: none */
    struct err *err;
};

/* Newest first, until one is found that stands. */
static int look(void *arg, uint64_t gen)
{
    struct bases *l = arg;
    struct base *b = NULL;
    int rc = base_open(store_io(l->s), gen, &b, NULL, NULL);
    const struct base_head *h = rc == 0 ? base_head(b) : NULL;

    if (rc == 0)
        rc = base_check(b, NULL);
    if (!l->any) {
        l->newest = gen;
        l->bad = rc == ERR_DAMAGE;
        l->size = h != NULL ? h->size : 0;
        l->applied = h != NULL ? h->applied : 0;
    }
    l->any = true;
    if (rc == 0 && h->applied <= l->held)
        l->stands = *h;
    base_close(b);
    return l->stands.gen != 0;
}

/* All but the newest and the one that stands. */
static int remove_useless(void *arg, uint64_t gen)
{
    struct bases *l = arg;
    char name[BASE_NAME_MAX];
    int rc;

    if (gen == l->newest || gen == l->stands.gen)
        return 0;
    base_name(gen, name);
    rc = io_unlink(store_io(l->s), name, l->err);
    return rc == ERR_NOENT ? 0 : rc;
}

static int write_rows(struct base_writer *w, const struct reclaim_options *opt, struct err *err)
{
    uint64_t done = 0;
    int more;

    while ((more = base_step(w, STEP_ROWS, err)) == 1) {
        done += STEP_ROWS;
        if (opt->tell != NULL)
            opt->tell(opt->arg, "base", done, 0);
        if (opt->stop != NULL && opt->stop(opt->arg))
            return err_set(err, ERR_BUSY, "reclaim: told to stop");
    }
    return more;
}

static int write_base(struct store *s, uint64_t gen, uint64_t set_gen, uint64_t least, const struct reclaim_options *opt, struct base_head *made, struct err *err)
{
    struct base_head h = { .gen = gen, .retained_gen = set_gen, .let_go = least };
    struct base_writer *w = NULL;
    struct store_info info;
    uint8_t epoch[16];
    int rc;

    store_info(s, &info);
    memcpy(h.lineage, info.lineage, 16);
    memcpy(h.site, info.site, 16);
    rc = base_new(store_io(s), store_kv(s), &h, &w, err);
    if (rc == 0)
        rc = write_rows(w, opt, err);
    if (rc == 0 && log_durable(store_log(s)) < base_meta(w)->applied)
        rc = store_sync(s, err);
    if (rc < 0) {
        base_drop(w);
        return rc;
    }
    store_epoch_id(s, base_meta(w)->epoch, epoch);
    return base_finish(w, epoch, made, err);
}

/* The records that the one that stands takes the place of, then the bases. */
static int let_go(struct bases *l, struct reclaim_result *res)
{
    uint64_t upto = l->stands.let_go < l->stands.last_lsn ? l->stands.let_go : l->stands.last_lsn;
    int64_t gone = 0;

    store_maint_begin(l->s);             /* (a file that is being made anew would come back) */
    if (upto > 0)
        gone = history_let_go(store_history(l->s), upto, l->err);
    store_maint_end(l->s);
    if (gone < 0)
        return (int)gone;
    res->archive_gone += (uint64_t)gone;
    return l->bad ? 0 : base_list(store_io(l->s), remove_useless, l, l->err);
}

int renew_base(struct store *s, const struct keep *keep, uint64_t set_gen, uint64_t rows, const struct reclaim_options *opt, struct reclaim_result *res, struct err *err)
{
    struct bases l = { .s = s, .held = store_held_from(s), .err = err };
    struct base_head made = { 0 };
    uint64_t first, least, older, size;
    int rc = base_list(store_io(s), look, &l, err);

    if (rc >= 0)
        rc = let_go(&l, res);
    if (rc < 0)
        return rc;
    older = history_older(store_history(s), keep->horizon, &first, &least);
    size = l.size > rows * ROW_BYTES ? l.size : rows * ROW_BYTES;
    if (!l.any && history_first(store_history(s)) > LOG_FIRST_ADDR)
        l.bad = true;                    /* somebody took it away */
    if (!l.bad && !opt->base && (l.applied > l.held || older == 0 || older < size || (older < WORTH && !opt->now)))
        return 0;
    rc = clocks_keep(s, keep, keep->horizon, err);
    if (rc == 0)
        rc = clocks_begin(s, first, err);
    if (rc == 0)
        rc = store_flush(s, err);
    if (rc == 0)
        rc = write_base(s, l.newest + 1, set_gen, least, opt, &made, err);
    if (rc == ERR_NOSPC)
        return 0;
    if (rc < 0)
        return rc;
    res->base_bytes = made.size;
    l.newest = made.gen;
    l.bad = false;
    l.held = store_held_from(s);         /* it went on meanwhile */
    if (made.applied <= l.held)
        l.stands = made;
    return let_go(&l, res);
}
