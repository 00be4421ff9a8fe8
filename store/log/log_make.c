/*
 * log_make.c: new segments, the identity they are written under, and the
 * clean end of the last one.
 *
 * A segment is made as log/next and gets its name only when header and space
 * are on disk: a crash before the rename leaves a file without meaning, after
 * it an empty segment at the head.
 */
#include "store/log/log_internal.h"
#include "store/base/super.h"

#include <stdlib.h>
#include <string.h>

void log_next_drop(struct log *log)
{
    if (log->next == NULL)
        return;
    io_close(log->next);
    log->next = NULL;
    io_unlink(log->io, LOG_NEXT, NULL);
}

/* File systems that cannot reserve space report a full disk late; that is all. */
static int allocate(struct io_file *f, uint64_t bytes, struct err *err)
{
    int rc = io_allocate(f, bytes, err);

    return rc == ERR_NOTSUP ? 0 : rc;
}

int log_next_open(struct log *log, uint64_t capacity, bool reserve, struct err *err)
{
    int rc;

    log_next_drop(log);
    rc = io_unlink(log->io, LOG_NEXT, err);     /* left by a crash */
    if (rc != 0 && rc != ERR_NOENT)
        return rc;
    rc = io_open(log->io, LOG_NEXT, IO_RDWR | IO_CREATE, &log->next, err);
    if (rc != 0) {
        log->next = NULL;
        return rc;
    }
    log->next_capacity = capacity;
    rc = allocate(log->next, SEGMENT_HEADER_BYTES + (reserve ? capacity : 0), err);
    /* Synced here, where nobody waits, so that the sync under log_publish has little to do. */
    if (rc == 0)
        rc = io_fdatasync(log->next, err);
    if (rc != 0)
        log_next_drop(log);
    return rc;
}

void log_header_fill(struct log *log, struct segment_header *h)
{
    memset(h, 0, sizeof *h);
    h->version = FORMAT_VERSION;
    h->version_min = FORMAT_VERSION_MIN;
    memcpy(h->lineage, log->lineage, 16);
    memcpy(h->site, log->site, 16);
    h->hash_alg = HASH_XXH3;
    h->key_id = log->key_id;
    h->epoch = log->epoch;
    memcpy(h->epoch_id, log->epoch_id, 16);
    h->incarnation = log->incarnation;
    h->created_wall_ns = io_wall_ns(log->io);
}

int log_publish(struct log *log, const struct segment_header *h, struct segment **out, struct err *err)
{
    uint8_t buf[SEGMENT_HEADER_BYTES];
    struct iovec iov = { buf, sizeof buf };
    char name[SEGMENT_NAME_MAX];
    struct segment *seg;
    int rc;

    seg = log_segment_new(h, NULL);
    if (seg == NULL)
        return err_set(err, ERR_NOMEM, "log: out of memory");
    segment_header_encode(h, buf);
    segment_name(h->first, h->gen, name);
    rc = io_pwritev(log->next, &iov, 1, 0, err);
    if (rc == 0)
        rc = io_fdatasync(log->next, err);
    if (rc == 0)
        rc = io_rename(log->io, LOG_NEXT, name, err);
    if (rc == 0)
        rc = io_syncdir(log->io, "log", err);
    if (rc != 0) {
        free(seg);
        return rc;
    }
    seg->file = log->next;
    seg->pinned = true;
    seg->refs = 1;
    log->next = NULL;
    log->max_gen = h->gen;
    *out = seg;
    return 0;
}

/*
 * Make the next segment at the head and append to it from here on. make_lock is held. The head stands
 * still meanwhile: appenders wait in log_append_begin.
 */
static int switch_segment(struct log *log, struct err *err)
{
    struct io_file *close_it = NULL;
    struct segment_header h;
    struct segment *seg = NULL;
    int rc;

    rc = log_grow(log, err);
    if (rc != 0)
        return rc;
    pthread_mutex_lock(&log->mutex);
    log->switching = true;
    log_header_fill(log, &h);
    h.gen = log->max_gen + 1;
    h.first = h.cut = atomic_load(&log->head);
    h.capacity = log->next_capacity;
    h.prev_gen = log->cur->gen;
    h.prev_first = log->cur->first;
    h.prev_lsn = log->last_lsn;
    h.prev_hash = log->last_hash;
    pthread_mutex_unlock(&log->mutex);

    rc = log_publish(log, &h, &seg, err);
    if (rc != 0)
        log_poison(log);        /* whether the name is there is not known */

    pthread_mutex_lock(&log->mutex);
    if (rc == 0) {
        struct segment *old = log->cur;

        seg->reserved = log->opt.preallocate;
        log_add_locked(log, seg);
        log_unpin_locked(log, old);
        close_it = log_evict_locked(log);
    }
    log->switching = false;
    log_wake_locked(log);
    pthread_mutex_unlock(&log->mutex);
    if (close_it != NULL)
        io_close(close_it);
    return rc;
}

/*
 * Recovery looks at the last two segments only: before a third is begun, all but the
 * current one must be durable (invariant 4). Group commit has long done that, as a rule.
 */
static int settle_older(struct log *log, struct err *err)
{
    uint64_t first;

    pthread_mutex_lock(&log->mutex);
    first = log->cur->first;
    while (atomic_load(&log->written) < first && atomic_load(&log->poisoned) == 0)
        log_wait_locked(log);
    pthread_mutex_unlock(&log->mutex);
    if (atomic_load(&log->durable) >= first)
        return log_poisoned(log);
    return log_sync(log, err);
}

/* Whether ${span} more bytes fit into the current segment. */
static bool fits(struct log *log, uint64_t span)
{
    bool yes;

    pthread_mutex_lock(&log->mutex);
    yes = atomic_load(&log->head) + span <= log->cur->first + log->cur->capacity;
    pthread_mutex_unlock(&log->mutex);
    return yes;
}

/* After a clean close the tail was trimmed: reserve it again before it is counted on. */
static int reserve_current(struct log *log, struct err *err)
{
    struct segment *seg = log->cur;     /* changes under make_lock only */
    int rc;

    if (!log->opt.preallocate || seg->reserved)
        return 0;
    rc = allocate(seg->file, SEGMENT_HEADER_BYTES + seg->capacity, err);
    if (rc == 0)
        seg->reserved = true;
    return rc;
}

int log_room(struct log *log, uint64_t rec_bytes, struct err *err)
{
    uint64_t span, capacity;
    int rc;

    if (!log->writable)
        return err_set(err, ERR_ROFS, "log: opened for reading only");
    if (log_poisoned(log))
        return err_set(err, ERR_POISONED, "log: an earlier write or flush failed");
    if (rec_bytes > REC_HEAD_MAX + REC_DATA_MAX)
        return err_set(err, ERR_TOOLONG, "log: record of %llu bytes", (unsigned long long)rec_bytes);
    span = frame_span((uint32_t)rec_bytes);
    pthread_mutex_lock(&log->make_lock);
    rc = 0;
    if (fits(log, span)) {
        rc = reserve_current(log, err);
        goto out;
    }
    rc = settle_older(log, err);
    if (rc != 0)
        goto out;
    capacity = log->opt.segment_bytes > span ? log->opt.segment_bytes : span;
    if (log->next == NULL || log->next_capacity < capacity)
        rc = log_next_open(log, capacity, log->opt.preallocate, err);
    if (rc == 0)
        rc = switch_segment(log, err);
out:
    pthread_mutex_unlock(&log->make_lock);
    return rc;
}

int log_roll(struct log *log, struct err *err)
{
    struct segment *old = NULL;
    uint64_t end;
    int rc;

    if (!log->writable)
        return err_set(err, ERR_ROFS, "log: opened for reading only");
    pthread_mutex_lock(&log->make_lock);
    rc = log_poisoned(log) ? err_set(err, ERR_POISONED, "log: an earlier write or flush failed") : settle_older(log, err);
    if (rc != 0 || log->finished || log_head(log) == log->cur->first)
        goto out;
    if (log->next == NULL)
        rc = log_next_open(log, log->opt.segment_bytes, log->opt.preallocate, err);
    if (rc != 0)
        goto out;
    pthread_mutex_lock(&log->mutex);
    old = log->cur;
    old->refs++;
    pthread_mutex_unlock(&log->mutex);
    rc = switch_segment(log, err);
    end = log_segment_end(log, old);
    if (rc == 0)
        (void)log_trim(old->file, segment_offset(old, end), NULL);    /* what is still being written lies below */
    log_release(log, old);
out:
    pthread_mutex_unlock(&log->make_lock);
    return rc;
}

int log_cover(struct log *log, uint64_t first, struct err *err)
{
    struct segment *old = NULL;
    int rc;

    pthread_mutex_lock(&log->make_lock);
    rc = log_poisoned(log) ? err_set(err, ERR_POISONED, "log: an earlier write or flush failed") : settle_older(log, err);
    if (rc == 0 && (log->finished || log->cur->first != first || log_head(log) != first))
        rc = err_set(err, ERR_BUSY, "log: expected the current segment to begin @%llu and to hold nothing", (unsigned long long)first);
    if (rc == 0 && log->next == NULL)
        rc = log_next_open(log, log->opt.segment_bytes, log->opt.preallocate, err);
    if (rc != 0)
        goto out;
    pthread_mutex_lock(&log->mutex);
    old = log->cur;
    old->refs++;
    pthread_mutex_unlock(&log->mutex);
    rc = switch_segment(log, err);
    if (rc == 0 && log->cur->first != first) {
        rc = err_set(err, ERR_BUSY, "log: a record came into the segment that begins @%llu", (unsigned long long)first);
    } else if (rc == 0) {
        log_forget(log, old);
        log_unlink(log, old->first, old->gen);
    }
    log_release(log, old);
out:
    pthread_mutex_unlock(&log->make_lock);
    return rc;
}

int log_prepare(struct log *log, struct err *err)
{
    bool due;
    int rc = 0;

    if (!log->writable || log_poisoned(log))
        return log->writable ? err_set(err, ERR_POISONED, "log: an earlier write or flush failed")
                             : err_set(err, ERR_ROFS, "log: opened for reading only");
    pthread_mutex_lock(&log->make_lock);
    due = log->next == NULL && !log->finished && !fits(log, log->cur->capacity / 2);
    if (due)
        rc = log_next_open(log, log->opt.segment_bytes, log->opt.preallocate, err);
    pthread_mutex_unlock(&log->make_lock);
    return rc;
}

void log_set_lineage(struct log *log, const uint8_t lineage[16])
{
    pthread_mutex_lock(&log->mutex);
    memcpy(log->lineage, lineage, 16);   /* (that of before is one of of_epoch) */
    pthread_mutex_unlock(&log->mutex);
}

int log_set_writer(struct log *log, uint32_t epoch, const uint8_t epoch_id[16], uint64_t incarnation,
                   struct err *err)
{
    struct segment *old;
    uint64_t head = 0;
    bool anew;
    int rc = 0;

    if (!log->writable)
        return err_set(err, ERR_ROFS, "log: opened for reading only");
    pthread_mutex_lock(&log->make_lock);
    pthread_mutex_lock(&log->mutex);
    old = log->cur;
    old->refs++;
    pthread_mutex_unlock(&log->mutex);
    anew = old->incarnation != incarnation || old->capacity == 0;
    if (anew) {
        rc = log_sync(log, err);
        head = log_head(log);
        if (rc == 0 && log_durable(log) != head)
            rc = err_set(err, ERR_BUSY, "log: the writer changes while records are being appended");
        if (rc != 0)
            goto out;
        if (log->next == NULL)
            rc = log_next_open(log, log->opt.segment_bytes, log->opt.preallocate, err);
        if (rc != 0)
            goto out;
    }
    pthread_mutex_lock(&log->mutex);
    log->epoch = epoch;
    memcpy(log->epoch_id, epoch_id, 16);
    log->incarnation = incarnation;
    pthread_mutex_unlock(&log->mutex);
    if (!anew)
        goto out;
    rc = switch_segment(log, err);
    if (rc != 0)
        goto out;
    if (old->first == head) {   /* it never held a record: the new one covers it */
        log_forget(log, old);
        log_unlink(log, old->first, old->gen);
    } else {
        (void)log_trim(old->file, segment_offset(old, head), NULL);   /* gives its reserve back, else no harm */
    }
out:
    log_release(log, old);
    pthread_mutex_unlock(&log->make_lock);
    return rc;
}

int log_finish(struct log *log, struct err *err)
{
    uint64_t head;
    int rc;

    if (!log->writable)
        return 0;
    rc = log_sync(log, err);
    if (rc != 0)
        return rc;
    pthread_mutex_lock(&log->make_lock);
    pthread_mutex_lock(&log->mutex);
    head = atomic_load(&log->head);
    if (atomic_load(&log->durable) == head)
        log->finished = true;
    pthread_mutex_unlock(&log->mutex);
    if (!log->finished) {
        rc = err_set(err, ERR_BUSY, "log: closed while records are being appended");
        goto out;
    }
    log_next_drop(log);
    rc = log_trim(log->cur->file, segment_offset(log->cur, head), err);
    if (rc == 0) {
        rc = io_fdatasync(log->cur->file, err);
        if (rc != 0)
            log_poison(log);
    }
out:
    pthread_mutex_unlock(&log->make_lock);
    return rc;
}
