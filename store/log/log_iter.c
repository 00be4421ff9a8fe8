/*
 * log_iter.c: records in order, each verified, and the chain between them.
 */
#include "store/log/log_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct log_iter {
    struct log *log;
    uint64_t pos, until;
    int flags;
    bool chained;               /* prev_* hold the record before pos */
    uint64_t prev_lsn;
    struct hash128 prev_hash;
    struct log_window win;
    const uint8_t *raw;
};

int log_iter_new(struct log *log, uint64_t from, uint64_t until, int flags, struct log_iter **out, struct err *err)
{
    struct log_iter *it = calloc(1, sizeof *it);
    uint64_t first = log_first(log), written = log_written(log);

    if (it == NULL)
        return err_set(err, ERR_NOMEM, "log: out of memory");
    it->log = log;
    it->pos = from > first ? from : first;
    it->until = until < written ? until : written;
    it->flags = flags;
    if (it->pos % FRAME_ALIGN != 0) {
        free(it);
        return err_set(err, ERR_INVAL, "log: %" PRIu64 " is not the address of a record", from);
    }
    *out = it;
    return 0;
}

void log_iter_free(struct log_iter *it)
{
    if (it == NULL)
        return;
    log_window_release(&it->win);
    free(it);
}

const uint8_t *log_iter_raw(const struct log_iter *it)
{
    return it->raw;
}

static bool chain_ok(const struct log_iter *it, const struct record *rec, struct log_bad *bad)
{
    if (!it->chained || (rec->prev_lsn == it->prev_lsn && hash128_eq(&rec->prev_hash, &it->prev_hash)))
        return true;
    snprintf(bad->why, sizeof bad->why,
             "chain: expected predecessor %" PRIu64 " %016" PRIx64 "..., found %" PRIu64 " %016" PRIx64 "...",
             it->prev_lsn, get_be64(it->prev_hash.b), rec->prev_lsn, get_be64(rec->prev_hash.b));
    return false;
}

int log_iter_next(struct log_iter *it, struct record *rec, struct err *err)
{
    struct segment *seg = NULL;
    struct log_bad bad;
    struct record r;
    struct frame f;
    uint64_t limit;
    int rc;

    if (it->pos >= it->until)
        return 0;
    rc = log_hold(it->log, it->pos, &seg, err);
    if (rc != 0)
        return rc;
    limit = log_segment_end(it->log, seg);
    rc = log_scan(&it->win, seg, it->pos, limit, &f, &r, &it->raw, &bad, err);
    if (rc == 1 && (it->flags & LOG_ITER_DATA))
        rc = log_scan_data(&it->win, seg, it->pos, &r, &it->raw, &bad, err);
    if (rc == 1 && !chain_ok(it, &r, &bad))
        rc = 0;
    if (rc == 0)
        rc = log_bad_set(err, seg, &bad);
    log_release(it->log, seg);
    if (rc < 0)
        return rc;
    it->pos += frame_span(f.rec_len);
    it->chained = true;
    it->prev_lsn = r.lsn;
    it->prev_hash = r.hash;
    *rec = r;
    return 1;
}
