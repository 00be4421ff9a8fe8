/*
 * renew.c: see renew.h.
 *
 *   clocks of kept moments into the index, flushed     they were in records that go
 *   archive/base.next, the rows of one snapshot        synced, named: the base
 *   archive files below it go, the oldest first
 *   older bases go
 *
 * A crash leaves a base, or none, and all records from the newest one's end on; more than that is in nobody's way, and goes the next time.
 */
#include "store/maint/renew.h"

#include "store/core/clocks.h"
#include "store/maint/pack_internal.h"
#include "store/pack/base.h"

#include <string.h>

enum {
    ROW_BYTES = 12,                  /* of a base, about, for each row of the index */
    WORTH = 1 << 20,                 /* bytes of records: less is not worth a pass over all rows */
    STEP_ROWS = 2048,
};

struct bases { struct store *s; uint64_t newest, size; bool any, bad; uint64_t below; struct err *err; };

/* The newest one: is it whole? */
static int look(void *arg, uint64_t gen)
{
    struct bases *l = arg;
    struct base *b = NULL;
    int rc = base_open(store_io(l->s), gen, &b, NULL, NULL);

    if (!l->any)
        l->newest = gen;
    l->any = true;
    if (rc == 0)
        l->size = base_head(b)->size;
    if (rc == 0)
        rc = base_check(b, NULL);
    base_close(b);
    l->bad = rc == ERR_DAMAGE;
    return 1;
}

static int remove_older(void *arg, uint64_t gen)
{
    struct bases *l = arg;
    char name[BASE_NAME_MAX];
    int rc;

    if (gen >= l->below)
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

static int write_base(struct store *s, uint64_t gen, uint64_t set_gen, const struct reclaim_options *opt, struct base_head *made, struct err *err)
{
    struct base_head h = { .gen = gen, .retained_gen = set_gen };
    struct base_writer *w = NULL;
    struct store_info info;
    uint8_t epoch[16];
    int rc;

    store_info(s, &info);
    memcpy(h.lineage, info.super.lineage, 16);
    memcpy(h.site, info.super.site, 16);
    rc = base_new(store_io(s), store_kv(s), &h, &w, err);
    if (rc == 0)
        rc = write_rows(w, opt, err);
    if (rc == 0 && log_durable(store_log(s)) < base_meta(w)->applied)
        rc = store_sync(s, err);
    if (rc < 0) {
        base_drop(w);
        return rc;
    }
    epoch_id_of(s, base_meta(w)->epoch, epoch);
    return base_finish(w, epoch, made, err);
}

int renew_base(struct store *s, const struct keep *keep, uint64_t set_gen, uint64_t rows, const struct reclaim_options *opt, struct reclaim_result *res, struct err *err)
{
    struct bases l = { .s = s, .err = err };
    struct base_head made = { 0 };
    uint64_t first, older = history_older(store_history(s), keep->horizon, &first), size;
    int64_t gone;
    int rc = base_list(store_io(s), look, &l, err);

    if (rc < 0)
        return rc;
    size = l.size > rows * ROW_BYTES ? l.size : rows * ROW_BYTES;
    if (!l.any && history_first(store_history(s)) > LOG_FIRST_ADDR)
        l.bad = true;                    /* somebody took it away */
    if (!l.bad && !opt->base && (older == 0 || older < size || (older < WORTH && !opt->now)))
        return 0;
    rc = clocks_keep(s, keep, keep->horizon, err);
    if (rc == 0)
        rc = clocks_begin(s, first, err);
    if (rc == 0)
        rc = store_flush(s, err);
    if (rc == 0)
        rc = write_base(s, l.newest + 1, set_gen, opt, &made, err);
    if (rc == ERR_NOSPC)
        return 0;
    if (rc < 0)
        return rc;
    res->base_bytes = made.size;
    store_maint_begin(s);                /* (a file that is being made anew would come back) */
    gone = history_let_go(store_history(s), keep->horizon < made.last_lsn ? keep->horizon : made.last_lsn, err);
    store_maint_end(s);
    if (gone < 0)
        return (int)gone;
    res->archive_gone = (uint64_t)gone;
    l.below = made.gen;
    return base_list(store_io(s), remove_older, &l, err);
}
