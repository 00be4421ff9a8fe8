#include "store/base/pair.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int read_copy(struct io *io, struct pair_copy *c, size_t max, pair_check_fn *check)
{
    struct io_file *f = NULL;
    struct io_stat st;
    struct err e = { 0 };
    int64_t n;
    int rc = io_open(io, c->name, IO_RDONLY, &f, &c->err);

    if (rc)
        return rc;
    rc = io_fstat(f, &st, &c->err);
    if (rc)
        goto out;
    if (st.size > max) {
        rc = err_set(&c->err, ERR_DAMAGE, "%s: %" PRIu64 " bytes long, expected at most %zu", c->name,
                     st.size, max);
        goto out;
    }
    c->buf = malloc(st.size ? (size_t)st.size : 1);
    if (!c->buf) {
        rc = err_set(&c->err, ERR_NOMEM, "%s: out of memory", c->name);
        goto out;
    }
    n = io_pread(f, c->buf, (size_t)st.size, 0, &c->err);
    if (n < 0) {
        rc = (int)n;
        goto out;
    }
    c->len = (size_t)n;
    rc = check(c->buf, c->len, &c->gen, &e);
    if (rc)
        err_set(&c->err, rc, "%s: %s", c->name, e.msg);
out:
    io_close(f);
    return rc;
}

/* The disk did not give it: what it holds is not known, as it is of one that is missing or not valid. */
static bool not_given(const struct pair_copy *c)
{
    return c->rc != 0 && c->rc != ERR_NOENT && c->rc != ERR_DAMAGE && c->rc != ERR_VERSION;
}

int pair_load(struct io *io, const char *name, size_t max, pair_check_fn *check, struct pair *p,
              struct err *err)
{
    memset(p, 0, sizeof *p);
    p->name = name;
    for (int i = 0; i < 2; i++) {
        struct pair_copy *c = &p->copy[i];

        snprintf(c->name, sizeof c->name, "%s.%d", name, i);
        c->rc = read_copy(io, c, max, check);
        if (c->rc == ERR_NOMEM)
            return err_set(err, ERR_NOMEM, "%s", c->err.msg);
    }
    return 0;
}

void pair_release(struct pair *p)
{
    for (int i = 0; i < 2; i++) {
        free(p->copy[i].buf);
        p->copy[i].buf = NULL;
    }
}

int pair_current(const struct pair *p, struct err *warn, struct err *err)
{
    const struct pair_copy *a = &p->copy[0], *b = &p->copy[1];

    for (int i = 0; i < 2; i++)
        if (p->copy[i].rc == ERR_VERSION)
            return err_set(err, ERR_VERSION, "%s", p->copy[i].err.msg);
    if (a->rc == ERR_NOENT && b->rc == ERR_NOENT)
        return err_set(err, ERR_NOENT, "neither %s nor %s exists", a->name, b->name);
    if (a->rc == 0 && b->rc == 0) {
        if (a->gen == b->gen && (a->len != b->len || memcmp(a->buf, b->buf, a->len) != 0))
            return err_set(err, ERR_DAMAGE, "%s and %s are both of generation %" PRIu64
                           " but differ: put back one of them from a backup", a->name, b->name, a->gen);
        return b->gen > a->gen ? 1 : 0;
    }
    if (a->rc == 0 || b->rc == 0) {
        const struct pair_copy *good = a->rc == 0 ? a : b, *bad = a->rc == 0 ? b : a;

        err_set(warn, not_given(bad) ? ERR_IO : ERR_DAMAGE, "%s; %s, of generation %" PRIu64 ", is used%s",
                bad->err.msg, good->name, good->gen, not_given(bad) ? "" : " and the next write heals it");
        return a->rc == 0 ? 0 : 1;
    }
    /* A disk that does not answer may do so later; say so rather than "damage". */
    return err_set(err, a->rc == ERR_DAMAGE || b->rc == ERR_DAMAGE ? ERR_DAMAGE : a->rc,
                   "both copies are bad: %.300s; %.300s", a->err.msg, b->err.msg);
}

/* Overwrite one copy and sync it; where the file is missing its name is synced too, last. */
static int write_copy(struct io *io, const struct pair_copy *c, bool sync_name, const uint8_t *buf,
                      size_t len, struct err *err)
{
    struct iovec v = { .iov_base = (void *)(uintptr_t)buf, .iov_len = len };
    struct io_file *f = NULL;
    struct io_stat st;
    int rc = io_open(io, c->name, IO_RDWR, &f, err);

    if (rc == ERR_NOENT) {
        sync_name = true;
        rc = io_open(io, c->name, IO_RDWR | IO_CREATE, &f, err);
    }
    if (rc)
        return rc;
    rc = io_fstat(f, &st, err);
    if (!rc && st.size > len)
        rc = io_ftruncate(f, len, err);
    if (!rc)
        rc = io_pwritev(f, &v, 1, 0, err);
    if (!rc)
        rc = io_fdatasync(f, err);
    if (!rc && sync_name)
        rc = io_syncdir(io, ".", err);
    io_close(f);
    return rc;
}

/*
 * Which copy must stay untouched while generation gen + 1 is written: the one of generation gen. If it
 * rotted meanwhile, the older one, if any; the caller's state in memory is newer than either. -1: none.
 */
static int keep_which(const struct pair *p, uint64_t gen, int current, int *keep, struct err *err)
{
    const struct pair_copy *c = p->copy;
    int missing = (c[0].rc == ERR_NOENT) + (c[1].rc == ERR_NOENT);

    *keep = -1;
    for (int i = 0; i < 2 && gen == 0; i++)
        if (not_given(&c[i]))            /* who knows whether it is there */
            return err_set(err, c[i].rc, "%s", c[i].err.msg);
    if (gen == 0 && missing < 2)
        return err_set(err, ERR_EXIST, "%s exists already", c[c[0].rc == ERR_NOENT].name);
    if (gen == 0)
        return 0;
    if (missing == 2)
        return err_set(err, ERR_NOENT, "%s and %s are gone", c[0].name, c[1].name);
    for (int i = 0; i < 2; i++) {
        if (c[i].rc == ERR_VERSION)
            return err_set(err, ERR_VERSION, "%s", c[i].err.msg);
        if (not_given(&c[i]) && current == 0)
            return err_set(err, ERR_IO, "%s", c[i].err.msg);
        if (not_given(&c[i]) && i == current - 1)
            *keep = i;
        if (c[i].rc)
            continue;
        /* A newer one is our own if a sync of ours failed before, else another's. */
        if (c[i].gen > gen && !(current != 0 && c[i].gen == gen + 1))
            return err_set(err, ERR_INVAL, "%s: generation %" PRIu64 " is on disk, expected %" PRIu64
                           ": another process wrote it", c[i].name, c[i].gen, gen);
        if (c[i].gen <= gen && (*keep < 0 || (c[*keep].rc == 0 && c[i].gen > c[*keep].gen)))
            *keep = i;
    }
    return 0;
}

int pair_update(struct io *io, const char *name, size_t max, pair_check_fn *check, uint64_t gen,
                int *current, const uint8_t *buf, size_t len, struct err *err)
{
    struct pair p;
    int keep = -1, rc = pair_load(io, name, max, check, &p, err);

    if (!rc)
        rc = keep_which(&p, gen, *current, &keep, err);
    if (rc)
        goto out;
    if (keep >= 0 && *current == 0) {
        const struct pair_copy *c = &p.copy[keep];

        rc = write_copy(io, c, true, c->buf, c->len, err);
        if (rc)
            goto out;
        *current = 1 + keep;
    }
    if (keep < 0)
        rc = write_copy(io, &p.copy[0], true, buf, len, err);
    if (!rc)
        rc = write_copy(io, &p.copy[keep < 0 ? 1 : 1 - keep], keep < 0, buf, len, err);
    if (!rc)
        *current = keep < 0 ? 2 : 2 - keep;
out:
    pair_release(&p);
    return rc;
}
