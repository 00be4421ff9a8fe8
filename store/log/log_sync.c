/*
 * log_sync.c: group commit. One thread syncs, the others wait for it; whoever
 * came too late for that round does the next one. Segments are synced in
 * order, so `durable` never runs ahead of an older one. A failure is final:
 * after it the page cache says nothing about the disk.
 */
#include "store/log/log_internal.h"

/* The segment with the first byte that is not durable. */
static struct segment *first_dirty_locked(struct log *log, uint64_t durable)
{
    size_t i = log->n_segs - 1;

    while (i > 0 && log->segs[i]->first > durable)
        i--;
    return log->segs[i];
}

/* Sync one segment; the mutex is held at call and return, not between. */
static int sync_one_locked(struct log *log, uint64_t target, struct err *err)
{
    struct segment *seg = first_dirty_locked(log, atomic_load(&log->durable));
    uint64_t upto = seg->end < target ? seg->end : target;
    int rc;

    seg->refs++;
    pthread_mutex_unlock(&log->mutex);
    rc = io_fdatasync(seg->file, err);
    if (rc != 0)
        log_poison(log);
    pthread_mutex_lock(&log->mutex);
    seg->refs--;
    /* A failure elsewhere meanwhile: the bytes are there, but nothing is acknowledged any more. */
    if (rc != 0 || atomic_load(&log->poisoned) != 0)
        return rc != 0 ? rc : ERR_POISONED;
    atomic_store(&log->durable, upto);
    log_unpin_locked(log, seg);
    return 0;
}

int log_sync(struct log *log, struct err *err)
{
    uint64_t want, target;
    int rc = 0;

    if (!log->writable)
        return err_set(err, ERR_ROFS, "log: opened for reading only");
    pthread_mutex_lock(&log->mutex);
    want = atomic_load(&log->written);
    while (log->syncing && atomic_load(&log->poisoned) == 0 && atomic_load(&log->durable) < want)
        log_wait_locked(log);
    if (atomic_load(&log->poisoned) != 0) {
        rc = err_set(err, ERR_POISONED, "log: an earlier write or flush failed");
    } else if (atomic_load(&log->durable) < want) {
        log->syncing = true;
        target = atomic_load(&log->written);    /* takes those along who came meanwhile */
        log->small_syncs = target - atomic_load(&log->durable) > LOG_SMALL_SYNC ? 0 : log->small_syncs + 1;
        while (rc == 0 && atomic_load(&log->durable) < target) {
            rc = sync_one_locked(log, target, err);
            log_wake_locked(log);
        }
        if (rc == ERR_POISONED)
            err_set(err, ERR_POISONED, "log: a write failed");
        log->syncing = false;
        log_wake_locked(log);
    }
    pthread_mutex_unlock(&log->mutex);
    return rc;
}

/* ---- blocks ahead -------------------------------------------------------- */

bool log_zero_due(struct log *log)
{
    bool due;

    if (log->opt.zero_ahead == 0)
        return false;
    pthread_mutex_lock(&log->mutex);
    due = log->small_syncs >= log->opt.zero_after && log->zeroed < atomic_load(&log->head) + log->opt.zero_ahead / 2 &&
          log->zeroed < log->cur->first + log->cur->capacity;
    pthread_mutex_unlock(&log->mutex);
    return due;
}

/* The next piece that no append has an address in yet; false: there is none, or nothing to be gained by it. */
static bool zero_piece(struct log *log, uint64_t upto)
{
    static const uint8_t zeros[LOG_ZERO_PIECE];
    struct segment *seg;
    struct iovec iov = { (void *)(uintptr_t)zeros, 0 };
    uint64_t from, end, off;

    pthread_mutex_lock(&log->mutex);
    if (log->zeroed == UINT64_MAX || log->zeroing != UINT64_MAX) {    /* it failed once; or another thread is at it */
        pthread_mutex_unlock(&log->mutex);
        return false;
    }
    seg = log->cur;
    end = seg->first + seg->capacity < upto ? seg->first + seg->capacity : upto;
    from = atomic_load(&log->head) > log->zeroed ? atomic_load(&log->head) : log->zeroed;
    off = (segment_offset(seg, from) + 4095) / 4096 * 4096;    /* whole pages: no append shares one */
    from += off - segment_offset(seg, from);
    if (from >= end || log->switching || log->finished || log_poisoned(log) != 0) {
        pthread_mutex_unlock(&log->mutex);
        return false;
    }
    iov.iov_len = end - from < sizeof zeros ? (size_t)(end - from) : sizeof zeros;
    log->zeroing = from;
    seg->refs++;
    pthread_mutex_unlock(&log->mutex);
    /* What fails here was no record; it is tried no further, and what it means for records the next sync says. */
    if (io_pwritev(seg->file, &iov, 1, off, NULL) != 0)
        upto = 0;
    pthread_mutex_lock(&log->mutex);
    seg->refs--;
    log->zeroing = UINT64_MAX;
    log->zeroed = upto == 0 ? UINT64_MAX : from + iov.iov_len;
    log_wake_locked(log);
    pthread_mutex_unlock(&log->mutex);
    return upto != 0;
}

void log_zero_ahead(struct log *log)
{
    uint64_t upto = log_head(log) + log->opt.zero_ahead;

    if (!log_zero_due(log))
        return;
    while (zero_piece(log, upto))
        ;
}
