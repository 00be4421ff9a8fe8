/*
 * log_drop.c: the old end of the log: segments whose records lie elsewhere go; and a new segment where none is due, so that they may.
 *
 * Before the first goes, nothing may be left that it, or one behind it, covers (a recovery's copy covers the segments it was made of). Oldest first, the directory synced after each: a crash leaves the log with fewer segments or more, never with one missing in the middle.
 */
#include "store/log/log_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct leftover { struct log *log; struct err *err; };

/* Whether the segment of this name is in the table, which rises by address. */
static bool held(struct log *log, uint64_t first, uint64_t gen)
{
    size_t lo = 0, hi;
    bool yes = false;

    pthread_mutex_lock(&log->mutex);
    for (hi = log->n_segs; lo < hi;) {
        size_t mid = lo + (hi - lo) / 2;

        if (log->segs[mid]->first <= first)
            lo = mid + 1;
        else
            hi = mid;
    }
    for (; !yes && lo > 0 && log->segs[lo - 1]->first == first; lo--)    /* an empty one, too small for a record, begins where the next one does */
        yes = log->segs[lo - 1]->gen == gen;
    pthread_mutex_unlock(&log->mutex);
    return yes;
}

/* A segment that a newer one covers may still be there, or come back with a power cut, and would count once the newer one is gone. */
static int remove_covered(void *arg, const char *name)
{
    struct leftover *l = arg;
    char path[SEGMENT_NAME_MAX];
    uint64_t first, gen;

    if (!segment_parse(name, &first, &gen) || held(l->log, first, gen))
        return 0;
    segment_name(first, gen, path);
    return io_unlink(l->log->io, path, l->err);
}

static bool droppable_locked(struct log *log, uint64_t upto)
{
    const struct segment *seg = log->segs[0];

    return log->n_segs > 1 && seg->end <= upto && seg->end <= atomic_load(&log->durable) && !seg->pinned;
}

/* Takes the first segment out of the table, if it ends by ${upto}. */
static bool drop_first(struct log *log, uint64_t upto, uint64_t *first, uint64_t *gen)
{
    struct io_file *close_it = NULL;
    struct segment *seg;
    bool mine = false;

    pthread_mutex_lock(&log->mutex);
    seg = log->segs[0];
    if (droppable_locked(log, upto)) {
        mine = true;
        *first = seg->first;
        *gen = seg->gen;
        memmove(log->segs, log->segs + 1, --log->n_segs * sizeof *log->segs);
        if (seg->refs == 0) {
            if (seg->file != NULL)
                log_open_remove_locked(log, seg);
            close_it = seg->file;
            free(seg);
        } else {
            seg->dropped = true;
            log->dead[log->n_dead++] = seg;     /* freed with the log: who reads it has it still */
        }
    }
    pthread_mutex_unlock(&log->mutex);
    if (close_it != NULL)
        io_close(close_it);
    return mine;
}

/* Whether the first segment may go. */
static bool droppable(struct log *log, uint64_t upto)
{
    bool yes;

    pthread_mutex_lock(&log->mutex);
    yes = droppable_locked(log, upto);
    pthread_mutex_unlock(&log->mutex);
    return yes;
}

/* What a newer one covers goes first: once, and again after anything was unlinked without a sync. make_lock is held. */
static int sweep(struct log *log, struct err *err)
{
    struct leftover l = { log, err };
    int rc = log->swept ? 0 : io_list(log->io, "log", remove_covered, &l, err);

    if (rc == 0 && !log->swept)
        rc = io_syncdir(log->io, "log", err);
    if (rc == 0)
        log->swept = true;
    return rc;
}

/* Takes the next one that may go out of the table: 1; 0: there is none. Appends wait for make_lock, so that it is not held over what takes long. */
static int take(struct log *log, uint64_t upto, uint64_t *first, uint64_t *gen, struct err *err)
{
    int rc = 0;

    pthread_mutex_lock(&log->make_lock);        /* the table and the dead have room for all: nobody makes one meanwhile */
    if (droppable(log, upto)) {
        rc = sweep(log, err);
        if (rc == 0)
            rc = log_grow(log, err);
        if (rc == 0)
            rc = drop_first(log, upto, first, gen);
    }
    pthread_mutex_unlock(&log->make_lock);
    return rc;
}

int log_drop(struct log *log, uint64_t upto, struct err *err)
{
    char name[SEGMENT_NAME_MAX];
    uint64_t first = 0, gen = 0;
    int rc = 0;

    if (!log->writable)
        return err_set(err, ERR_ROFS, "log: opened for reading only");
    pthread_mutex_lock(&log->drop_lock);        /* two at a time could leave one missing in the middle */
    while (rc == 0 && (rc = take(log, upto, &first, &gen, err)) == 1) {
        segment_name(first, gen, name);
        rc = io_unlink(log->io, name, err);
        if (rc == 0)
            rc = io_syncdir(log->io, "log", err);
        if (rc == 0)
            continue;
        pthread_mutex_lock(&log->make_lock);
        log->swept = false;                     /* its file may be there */
        pthread_mutex_unlock(&log->make_lock);
    }
    pthread_mutex_unlock(&log->drop_lock);
    return rc;
}
