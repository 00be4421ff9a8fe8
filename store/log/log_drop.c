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

/* A segment that a newer one covers may still be there, or come back with a power cut, and would count once the newer one is gone. */
static int remove_covered(void *arg, const char *name)
{
    struct leftover *l = arg;
    char path[SEGMENT_NAME_MAX];
    uint64_t first, gen;
    bool held = false;

    if (!segment_parse(name, &first, &gen))
        return 0;
    pthread_mutex_lock(&l->log->mutex);
    for (size_t i = 0; i < l->log->n_segs && !held; i++)
        held = l->log->segs[i]->gen == gen;
    pthread_mutex_unlock(&l->log->mutex);
    if (held)
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

int log_drop(struct log *log, uint64_t upto, struct err *err)
{
    struct leftover l = { log, err };
    char name[SEGMENT_NAME_MAX];
    uint64_t first, gen;
    int rc = 0;

    if (!log->writable)
        return err_set(err, ERR_ROFS, "log: opened for reading only");
    pthread_mutex_lock(&log->make_lock);        /* the table and the dead have room for all: nobody makes one meanwhile */
    if (!droppable(log, upto))
        goto out;
    rc = io_list(log->io, "log", remove_covered, &l, err);
    if (rc == 0)
        rc = io_syncdir(log->io, "log", err);
    if (rc == 0)
        rc = log_grow(log, err);
    while (rc == 0 && drop_first(log, upto, &first, &gen)) {
        segment_name(first, gen, name);
        rc = io_unlink(log->io, name, err);
        if (rc == 0)
            rc = io_syncdir(log->io, "log", err);
    }
out:
    pthread_mutex_unlock(&log->make_lock);
    return rc;
}
