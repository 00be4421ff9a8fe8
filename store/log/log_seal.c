/*
 * log_seal.c: after an unclean stop. What lies behind the last proven durable
 * address may be in the page cache only, and after a failed sync the page
 * cache lies: it is copied into a segment of a new generation, and counts
 * once that is on disk. The old segments end there for good.
 *
 * Crash story: the copy is made as log/next, without meaning. It gets its name
 * when all of it is synced. Before the directory is synced a crash leaves the
 * old state or the new one; both recover to the same records. Superseded files
 * go last, and recovery ignores them.
 */
#include "store/log/log_internal.h"

#include <stdlib.h>
#include <string.h>

/* One record into log->next at ${addr}, in a frame of the new generation. */
static int copy_one(struct log *log, const struct segment_header *h, const struct record *rec,
                    const uint8_t *raw, uint64_t durable, struct err *err)
{
    uint8_t frame[FRAME_BYTES];
    struct frame f = { .rec_len = rec->head_len + rec->data_len, .lsn = rec->lsn, .gen = h->gen,
                       .incarnation = h->incarnation, .durable = durable };
    struct iovec iov[2] = {
        { frame, sizeof frame },
        { (void *)(uintptr_t)(raw + FRAME_BYTES), f.rec_len },
    };

    frame_encode(&f, frame);
    return io_pwritev(log->next, iov, 2, SEGMENT_HEADER_BYTES + (rec->lsn - h->first), err);
}

static int copy_records(struct log *log, const struct segment_header *h, uint64_t until, struct err *err)
{
    struct log_iter *it = NULL;
    struct record rec;
    int rc;

    rc = log_iter_new(log, h->first, until, LOG_ITER_DATA, &it, err);
    if (rc != 0)
        return rc;
    /* The frames say "durable up to the end of the copy": true by the time the file has its name. */
    while ((rc = log_iter_next(it, &rec, err)) == 1) {
        rc = copy_one(log, h, &rec, log_iter_raw(it), until, err);
        if (rc != 0)
            break;
    }
    log_iter_free(it);
    return rc;
}

/* Forget (and remove) the segments the new one covers wholly. Returns the one that now ends at ${first}. */
static struct segment *drop_covered(struct log *log, uint64_t first, struct segment **gone, size_t *n_gone)
{
    *n_gone = 0;
    while (log->n_segs > 0 && log->segs[log->n_segs - 1]->first >= first) {
        gone[(*n_gone)++] = log->segs[log->n_segs - 1];
        log_forget(log, log->segs[log->n_segs - 1]);
    }
    return log->cur;
}

/* The space behind the cut of the old segment; what is there is superseded. Failure does no harm. */
static void trim(struct log *log, const struct segment *seg, uint64_t cut)
{
    char name[SEGMENT_NAME_MAX];
    struct io_file *file = NULL;

    segment_name(seg->first, seg->gen, name);
    if (io_open(log->io, name, IO_RDWR, &file, NULL) != 0)
        return;
    (void)log_trim(file, segment_offset(seg, cut), NULL);
    io_close(file);
}

int log_seal(struct log *log, const struct log_end *end, struct log_recovery *rec, struct err *err)
{
    struct segment *old = NULL, *seg = NULL, **gone = NULL;
    struct segment_header h;
    uint64_t cut = rec->cut, copied = cut - end->copy_from;
    size_t n_gone = 0;
    int rc;

    gone = calloc(log->n_segs, sizeof(struct segment *));
    if (gone == NULL)
        return err_set(err, ERR_NOMEM, "log: out of memory");
    rc = log_grow(log, err);
    if (rc != 0)
        goto out;
    for (size_t i = log->n_segs; i > 0 && old == NULL; i--)
        if (log->segs[i - 1]->first < end->copy_from)
            old = log->segs[i - 1];
    log->incarnation = log->cur->incarnation;
    log_header_fill(log, &h);
    h.gen = log->max_gen + 1;
    h.first = h.cut = end->copy_from;
    h.capacity = copied;                        /* full: the next append takes a new one */
    h.prev_gen = old != NULL ? old->gen : 0;
    h.prev_first = old != NULL ? old->first : 0;
    h.prev_lsn = end->copy_prev_lsn;
    h.prev_hash = end->copy_prev_hash;
    rc = log_next_open(log, 0, false, err);
    if (rc == 0)
        rc = copy_records(log, &h, cut, err);
    if (rc == 0)
        rc = log_publish(log, &h, &seg, err);
    if (rc != 0) {
        log_next_drop(log);
        goto out;
    }
    old = drop_covered(log, h.first, gone, &n_gone);
    log_add_locked(log, seg);                   /* nobody else has the log yet */
    seg->reserved = true;
    for (size_t i = 0; i < n_gone; i++)
        log_unlink(log, gone[i]->first, gone[i]->gen);
    if (old != NULL)
        trim(log, old, h.first);
    atomic_store(&log->durable, cut);
    rec->rewritten = copied;
out:
    free(gone);
    return rc;
}
