/* sealed.c: see sealed.h. */
#include "store/pack/sealed.h"

#include "store/base/bytes.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { BUFFER = 256 << 10, READ_BACK = 1 << 20 };

struct sealed {
    struct hash128_state sum;        /* of the body, as it was given */
    struct io *io;
    struct io_file *file;
    const char *dir, *next;
    size_t head_bytes;
    uint8_t *buf;                    /* BUFFER bytes that are not in the file yet, and how many are */
    size_t fill;
    uint64_t at;                     /* where the next byte goes, behind those */
};

static int no_memory(const struct sealed *w, struct err *err)
{
    return err_set(err, ERR_NOMEM, "%s: out of memory", w->next);
}

void sealed_drop(struct sealed *w)
{
    if (w == NULL)
        return;
    if (w->file != NULL) {
        io_close(w->file);
        io_unlink(w->io, w->next, NULL);     /* what is left of it has no meaning */
    }
    free(w->buf);
    free(w);
}

static int open_next(struct sealed *w, struct err *err)
{
    int rc = io_mkdir(w->io, w->dir, err);

    /* Also where it is there: who made it may have been killed before this. */
    if (rc == 0 || rc == ERR_EXIST)
        rc = io_syncdir(w->io, ".", err);
    if (rc != 0)
        return rc;
    rc = io_unlink(w->io, w->next, err);     /* left by a crash */
    if (rc != 0 && rc != ERR_NOENT)
        return rc;
    rc = io_open(w->io, w->next, IO_RDWR | IO_CREATE, &w->file, err);
    if (rc != 0)
        w->file = NULL;
    return rc;
}

int sealed_new(struct io *io, const char *dir, const char *next, size_t head_bytes, struct sealed **out, struct err *err)
{
    struct sealed *w = aligned_alloc(_Alignof(struct sealed), sizeof *w);
    int rc;

    *out = NULL;
    if (w == NULL)
        return err_set(err, ERR_NOMEM, "%s: out of memory", dir);
    memset(w, 0, sizeof *w);
    assert(head_bytes <= SEALED_HEAD_MAX);
    w->io = io;
    w->dir = dir;
    w->next = next;
    w->head_bytes = head_bytes;
    w->at = head_bytes;
    hash128_init(&w->sum);
    w->buf = malloc(BUFFER);
    rc = w->buf != NULL ? open_next(w, err) : no_memory(w, err);
    if (rc != 0)
        sealed_drop(w);
    else
        *out = w;
    return rc;
}

static int put_at(struct sealed *w, const void *p, size_t len, uint64_t at, struct err *err)
{
    struct iovec iov = { (void *)(uintptr_t)p, len };

    return len > 0 ? io_pwritev(w->file, &iov, 1, at, err) : 0;
}

static int flush(struct sealed *w, struct err *err)
{
    int rc = put_at(w, w->buf, w->fill, w->at - w->fill, err);

    w->fill = 0;
    return rc;
}

int sealed_put(struct sealed *w, const void *p, size_t len, struct err *err)
{
    int rc = w->fill + len > BUFFER ? flush(w, err) : 0;

    hash128_update(&w->sum, p, len);
    if (rc == 0 && len > BUFFER) {
        rc = put_at(w, p, len, w->at, err);
    } else if (rc == 0 && len > 0) {
        memcpy(w->buf + w->fill, p, len);
        w->fill += len;
    }
    w->at += len;
    return rc;
}

uint64_t sealed_at(const struct sealed *w)
{
    return w->at;
}

uint64_t sealed_size(const struct sealed *w)
{
    return w->at + w->head_bytes + SEALED_HASH_BYTES;
}

/*
 * The hash of all before it begins with the head, which is known last: so the body is read once more, and what comes back must be what was given.
 */
static int hash_file(struct sealed *w, const uint8_t *head, struct hash128 *sum, struct err *err)
{
    struct hash128 given = hash128_final(&w->sum), found;
    struct hash128_state all, body;
    uint8_t *p = malloc(READ_BACK);
    int rc = p != NULL ? 0 : no_memory(w, err);

    hash128_init(&all);
    hash128_init(&body);
    hash128_update(&all, head, w->head_bytes);
    for (uint64_t off = w->head_bytes; rc == 0 && off < w->at;) {
        size_t n = w->at - off < READ_BACK ? (size_t)(w->at - off) : READ_BACK;
        int64_t got = io_pread(w->file, p, n, off, err);

        if (got >= 0 && (size_t)got < n)
            got = err_set(err, ERR_IO, "%s: offset %" PRIu64 ": expected %zu bytes that were written, found %" PRId64, w->next, off, n, got);
        if (got < 0) {
            rc = (int)got;
            break;
        }
        hash128_update(&all, p, n);
        hash128_update(&body, p, n);
        off += n;
    }
    free(p);
    if (rc != 0)
        return rc;
    found = hash128_final(&body);
    if (!hash128_eq(&given, &found))
        return err_set(err, ERR_IO, "%s: offset %zu to %" PRIu64 ": expected the bytes that were written, found others", w->next, w->head_bytes, w->at);
    hash128_update(&all, head, w->head_bytes);
    *sum = hash128_final(&all);
    return 0;
}

/* From next to the name, for good. */
static int publish(struct sealed *w, const char *name, struct err *err)
{
    struct io_stat st;
    int rc = io_stat_path(w->io, name, &st, err);

    if (rc != ERR_NOENT)                        /* a generation is given out once */
        return rc < 0 ? rc : err_set(err, ERR_EXIST, "%s: is there already", name);
    rc = io_rename(w->io, w->next, name, err);
    if (rc != 0)
        return rc;
    io_close(w->file);
    w->file = NULL;                             /* nothing left to drop */
    rc = io_syncdir(w->io, w->dir, err);
    if (rc != 0)
        io_unlink(w->io, name, NULL);           /* it may not last: nobody may count on it, and the next try needs the name */
    return rc;
}

int sealed_finish(struct sealed *w, const uint8_t *head, const char *name, struct err *err)
{
    struct hash128 sum;
    int rc = flush(w, err);

    if (rc == 0)
        rc = hash_file(w, head, &sum, err);
    if (rc == 0)
        rc = put_at(w, head, w->head_bytes, 0, err);
    if (rc == 0) {
        struct iovec tail[2] = { { (void *)(uintptr_t)head, w->head_bytes }, { sum.b, sizeof sum.b } };

        rc = io_pwritev(w->file, tail, 2, w->at, err);
    }
    if (rc == 0)
        rc = io_fdatasync(w->file, err);
    if (rc == 0)
        rc = publish(w, name, err);
    sealed_drop(w);
    return rc;
}

int sealed_read(struct io_file *f, const char *name, void *buf, size_t len, uint64_t off, struct err *err)
{
    int64_t n = io_pread(f, buf, len, off, err);

    if (n < 0)
        return (int)n;
    if ((size_t)n < len)
        return err_set(err, ERR_DAMAGE, "%s: offset %" PRIu64 ": expected %zu bytes, found %" PRId64 " before the end of the file", name, off, len, n);
    return 0;
}

int sealed_check(struct io_file *f, const char *name, uint64_t size, struct err *err)
{
    uint64_t end = size < SEALED_HASH_BYTES ? 0 : size - SEALED_HASH_BYTES;
    uint8_t *buf = malloc(READ_BACK);
    struct hash128_state state;
    struct hash128 sum, found = { { 0 } };
    int rc = buf != NULL ? 0 : err_set(err, ERR_NOMEM, "%s: out of memory", name);

    hash128_init(&state);
    for (uint64_t at = 0; at < end && rc == 0; at += READ_BACK) {
        size_t n = end - at < READ_BACK ? (size_t)(end - at) : READ_BACK;

        rc = sealed_read(f, name, buf, n, at, err);
        if (rc == 0)
            hash128_update(&state, buf, n);
    }
    free(buf);
    if (rc == 0)
        rc = sealed_read(f, name, found.b, sizeof found.b, end, err);
    if (rc != 0)
        return rc;
    sum = hash128_final(&state);
    if (!hash128_eq(&sum, &found))
        return err_set(err, ERR_DAMAGE, "%s: offset %" PRIu64 ": hash of all before: expected %016" PRIx64 "..., found %016" PRIx64 "...", name, end,
                       get_be64(sum.b), get_be64(found.b));
    return 0;
}
