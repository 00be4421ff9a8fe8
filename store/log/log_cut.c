/*
 * log_cut.c: a log that goes back: what lies at or behind an address is not its any more.
 *
 * An empty segment of a new generation begins there; by its name the older ones end there, and those that begin behind are superseded, for good. So one rename is
 * all of it. The superseded files go after it, and again at the next open that writes: a crash in between leaves files that count for nothing.
 */
#include "store/log/log_internal.h"

#include <stdlib.h>

struct behind { struct io *io; uint64_t at, gen; uint64_t max_gen, prev_gen, prev_first; struct err *err; };

static int look(void *arg, const char *name)
{
    struct behind *b = arg;
    uint64_t first, gen;

    if (!segment_parse(name, &first, &gen))
        return 0;
    b->max_gen = gen > b->max_gen ? gen : b->max_gen;
    if (first < b->at && gen > b->prev_gen) {
        b->prev_gen = gen;
        b->prev_first = first;
    }
    return 0;
}

static int remove_one(void *arg, const char *name)
{
    struct behind *b = arg;
    uint64_t first, gen;
    char path[SEGMENT_NAME_MAX];

    if (!segment_parse(name, &first, &gen) || first < b->at || gen == b->gen)
        return 0;
    segment_name(first, gen, path);
    return io_unlink(b->io, path, b->err);
}

int log_end_at(struct io *io, const struct super *sb, uint64_t at, uint64_t last_lsn, const struct hash128 *last_hash, struct err *err)
{
    struct behind b = { .io = io, .at = at, .err = err };
    struct log *log = log_alloc(io, sb, NULL);
    struct segment *seg = NULL;
    struct segment_header h;
    int rc = log != NULL ? io_list(io, "log", look, &b, err) : err_set(err, ERR_NOMEM, "log: out of memory");

    if (rc == 0)
        rc = log_next_open(log, 0, false, err);
    if (rc < 0)
        goto out;
    log_epoch_at(log, sb, at);
    log_header_fill(log, &h);
    h.gen = b.gen = b.max_gen + 1;
    h.first = h.cut = at;
    h.prev_gen = b.prev_gen;
    h.prev_first = b.prev_first;
    h.prev_lsn = last_lsn;
    h.prev_hash = *last_hash;
    rc = log_publish(log, &h, &seg, err);
    if (rc == 0) {
        io_close(seg->file);
        free(seg);
        rc = io_list(io, "log", remove_one, &b, err);
    }
    if (rc == 0)
        rc = io_syncdir(io, "log", err);
out:
    log_close(log);
    return rc;
}
