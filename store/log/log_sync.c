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
