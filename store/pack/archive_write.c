/*
 * archive_write.c: making an archive file.
 *
 * Crash story: archive/next made | frames written, each behind the one before | heads, hash, sync | renamed | directory synced.
 * Before the rename a file without meaning, made anew the next time; after it, with or without the name, a whole one. The
 * records are still in the log: they leave it only once archive_finish has returned 0.
 */
#include "store/pack/archive_internal.h"
#include "store/log/frame.h"
#include "store/pack/squeeze.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { READ_BACK_BYTES = 1 << 20 };

struct archive_writer {
    struct io *io;
    struct io_file *file;           /* archive/next */
    struct archive_head head;
    uint64_t n_added;
    uint64_t at;                    /* where the next frame goes */
    uint64_t last_lsn;              /* the last record, and its hash */
    struct hash128 last_hash;
    int failed;                     /* sticks: the file is not what the fields say */
    /* the frame that is being filled */
    struct columns columns;
    struct archive_before before;   /* its end is that of the last record, also between two frames */
    struct archive_frame frame;     /* of its head: what is known before it is compressed */
    struct archive_heads back;      /* read back */
    struct squeeze *squeeze;
    struct hash128_state *digest;   /* of the frames as they were written; apart, for its alignment */
    uint8_t *raw;                   /* the expanded bytes */
    uint8_t *out;                   /* frame head, then the zstd frame */
    size_t out_cap;
};

static int no_memory(struct err *err)
{
    return err_set(err, ERR_NOMEM, "archive: out of memory");
}

void archive_drop(struct archive_writer *w)
{
    if (w == NULL)
        return;
    if (w->file != NULL) {
        io_close(w->file);
        io_unlink(w->io, ARCHIVE_NEXT, NULL);
    }
    columns_release(&w->columns);
    squeeze_free(w->squeeze);
    free(w->digest);
    free(w->back.p);
    free(w->raw);
    free(w->out);
    free(w);
}

/* An empty archive/next, in a directory whose own name will survive. */
static int make_next(struct archive_writer *w, struct err *err)
{
    int rc = io_mkdir(w->io, "archive", err);

    if (rc != 0 && rc != ERR_EXIST)
        return rc;
    rc = io_syncdir(w->io, ".", err);           /* also where it is there: whoever made it may have died before this */
    if (rc != 0)
        return rc;
    rc = io_unlink(w->io, ARCHIVE_NEXT, err);   /* left by a crash */
    if (rc != 0 && rc != ERR_NOENT)
        return rc;
    rc = io_open(w->io, ARCHIVE_NEXT, IO_RDWR | IO_CREATE, &w->file, err);
    if (rc != 0)
        w->file = NULL;
    return rc;
}

int archive_new(struct io *io, const struct archive_head *h, struct archive_writer **out, struct err *err)
{
    struct archive_writer *w = calloc(1, sizeof *w);
    int rc = 0;

    *out = NULL;
    if (w == NULL)
        return no_memory(err);
    w->io = io;
    w->head = *h;
    w->head.compat = w->head.ro_compat = w->head.incompat = 0;
    w->head.hash_alg = HASH_XXH3;
    w->head.n_records = 0;
    w->head.n_frames = 0;
    w->at = ARCHIVE_HEAD_BYTES;
    w->before.end = h->first;
    w->squeeze = squeeze_new();
    w->digest = aligned_alloc(_Alignof(struct hash128_state), sizeof *w->digest);
    w->raw = malloc(ARCHIVE_FRAME_EXPANDED);
    w->out_cap = ARCHIVE_FRAME_HEAD_BYTES + squeeze_bound(ARCHIVE_FRAME_EXPANDED);
    w->out = malloc(w->out_cap);
    if (w->squeeze == NULL || w->digest == NULL || w->raw == NULL || w->out == NULL)
        rc = no_memory(err);
    if (rc == 0) {
        hash128_init(w->digest);
        rc = make_next(w, err);
    }
    if (rc != 0)
        archive_drop(w);
    else
        *out = w;
    return rc;
}

/* What could not be read back must never get to the disk: the chain of hashes says that every byte of the heads came back. */
static int check_readable(struct archive_writer *w, size_t len, struct err *err)
{
    struct err why = { 0 };
    int rc = archive_unfold(w->raw, len, &w->frame, &w->back, &why);

    if (rc == ERR_NOMEM)
        return no_memory(err);
    if (rc != 0)
        return err_set(err, ERR_INVAL, "archive: frame not written: %s", why.msg);
    if (!hash128_eq(&w->back.last_hash, &w->frame.last_hash))
        return err_set(err, ERR_INVAL, "archive: frame not written: the hash of its last record, LSN %" PRIu64
                       ", comes out as %016" PRIx64 "..., expected %016" PRIx64 "...", w->last_lsn, get_be64(w->back.last_hash.b),
                       get_be64(w->frame.last_hash.b));
    return 0;
}

/* The records gathered so far become a frame. */
static int flush(struct archive_writer *w, struct err *err)
{
    struct archive_frame *f = &w->frame;
    size_t len = archive_take(&w->columns, w->raw, ARCHIVE_FRAME_EXPANDED);
    struct iovec iov = { w->out, 0 };
    int64_t n;
    int rc;

    if (len == 0)
        return no_memory(err);
    f->end = w->before.end;
    f->last_hash = w->last_hash;
    rc = check_readable(w, len, err);
    if (rc != 0)
        return rc;
    n = squeeze(w->squeeze, ARCHIVE_LEVEL, w->raw, len, NULL, 0, w->out + ARCHIVE_FRAME_HEAD_BYTES, w->out_cap - ARCHIVE_FRAME_HEAD_BYTES);
    if (n < 0)
        return err_set(err, (int)n, "archive: frame of %zu bytes at LSN %" PRIu64 " not compressed: %s", len, f->first_lsn,
                       err_text((int)n));
    f->stored = (uint32_t)n;
    f->expanded = (uint32_t)len;
    archive_frame_encode(f, w->out);
    iov.iov_len = ARCHIVE_FRAME_HEAD_BYTES + (size_t)n;
    rc = io_pwritev(w->file, &iov, 1, w->at, err);
    if (rc != 0)
        return rc;
    hash128_update(w->digest, w->out, iov.iov_len);
    w->at += iov.iov_len;
    w->head.n_frames++;
    f->n = 0;
    columns_clear(&w->columns);
    return 0;
}

/* Whether ${rec} may follow, so that what is left out of it can be made again. */
static int check_next(const struct archive_writer *w, const struct record *rec, struct err *err)
{
    static const struct hash128 none;
    uint64_t fixed = REC_HEAD_BYTES + 8 * (uint64_t)record_n_sums(rec->data_len);
    bool first = w->n_added == 0;

    if (record_type_name(rec->type) == NULL || rec->data_len > REC_DATA_MAX || rec->head_len <= fixed ||
        rec->head_len - fixed > REC_ARGS_MAX)
        return err_set(err, ERR_INVAL, "archive: LSN %" PRIu64 ": type %u or lengths out of bounds", rec->lsn, rec->type);
    if (rec->lsn % 8 != 0 || rec->lsn < w->before.end || rec->lsn > w->head.end ||
        frame_span(rec->head_len + rec->data_len) > w->head.end - rec->lsn)
        return err_set(err, ERR_INVAL, "archive: expected a record between %" PRIu64 " and %" PRIu64 ", found one at %" PRIu64
                       " of %" PRIu32 " bytes", w->before.end, w->head.end, rec->lsn, rec->head_len + rec->data_len);
    if (first ? rec->prev_lsn >= w->head.first || (rec->prev_lsn == 0 && !hash128_eq(&rec->prev_hash, &none))
              : rec->prev_lsn != w->last_lsn || !hash128_eq(&rec->prev_hash, &w->last_hash))
        return err_set(err, ERR_INVAL, "archive: LSN %" PRIu64 ": expected a record behind %s%" PRIu64 ", found one behind %" PRIu64
                       ", hash %016" PRIx64 "...", rec->lsn, first ? "one below " : "", first ? w->head.first : w->last_lsn,
                       rec->prev_lsn, get_be64(rec->prev_hash.b));
    return 0;
}

int archive_add(struct archive_writer *w, const struct record *rec, const uint8_t *head, struct err *err)
{
    int rc = w->failed ? err_set(err, w->failed, "archive: an earlier call failed") : check_next(w, rec, err);

    if (rc != 0)
        return rc;
    if (w->frame.n == ARCHIVE_FRAME_RECORDS ||
        (w->frame.n > 0 && columns_len(&w->columns) + ARCHIVE_LENGTHS_BOUND + archive_put_bound(rec->head_len) > ARCHIVE_FRAME_EXPANDED))
        w->failed = rc = flush(w, err);
    if (rc != 0)
        return rc;
    if (w->frame.n == 0) {
        w->frame = (struct archive_frame){ .first_lsn = rec->lsn, .prev_lsn = rec->prev_lsn, .prev_hash = rec->prev_hash };
        w->before = (struct archive_before){ .end = rec->lsn };
    }
    archive_put(&w->columns, &w->before, rec, head);
    if (w->columns.bad)
        return w->failed = no_memory(err);
    w->frame.n++;
    w->n_added++;
    w->last_lsn = rec->lsn;
    w->last_hash = rec->hash;
    return 0;
}

/*
 * The hash of the file begins with its head, which is known only now: so the frames are read once more, and
 * compared with what was written on the way.
 */
static int hash_file(struct archive_writer *w, const uint8_t head[ARCHIVE_HEAD_BYTES], struct hash128 *sum, struct err *err)
{
    struct hash128 wrote = hash128_final(w->digest), read;
    struct hash128_state whole;
    uint8_t *buf = malloc(READ_BACK_BYTES);
    uint64_t at = ARCHIVE_HEAD_BYTES;
    int rc = 0;

    if (buf == NULL)
        return no_memory(err);
    hash128_init(w->digest);
    hash128_init(&whole);
    hash128_update(&whole, head, ARCHIVE_HEAD_BYTES);
    while (at < w->at) {
        size_t want = w->at - at < READ_BACK_BYTES ? (size_t)(w->at - at) : READ_BACK_BYTES;
        int64_t n = io_pread(w->file, buf, want, at, err);

        if (n < 0) {
            rc = (int)n;
            goto out;
        }
        if (n == 0)
            break;
        hash128_update(w->digest, buf, (size_t)n);
        hash128_update(&whole, buf, (size_t)n);
        at += (uint64_t)n;
    }
    hash128_update(&whole, head, ARCHIVE_HEAD_BYTES);
    read = hash128_final(w->digest);
    if (at < w->at || !hash128_eq(&read, &wrote))
        rc = err_set(err, ERR_IO, "%s: offset %d to %" PRIu64 ": expected the bytes just written, read others", ARCHIVE_NEXT,
                     (int)ARCHIVE_HEAD_BYTES, w->at);
    *sum = hash128_final(&whole);
out:
    free(buf);
    return rc;
}

/* The head on both sides of the frames, the hash behind it, all of it on disk. */
static int seal(struct archive_writer *w, struct err *err)
{
    uint8_t head[ARCHIVE_HEAD_BYTES];
    struct archive_head t;
    struct err why = { 0 };
    struct hash128 sum;
    struct iovec front = { head, sizeof head }, tail[2] = { { head, sizeof head }, { sum.b, sizeof sum.b } };
    int rc;

    w->head.size = w->at + ARCHIVE_TAIL_BYTES;
    w->head.n_records = w->n_added;
    archive_head_encode(&w->head, head);
    if (archive_head_decode(head, sizeof head, w->head.size, &t, &why) != 0)
        return err_set(err, ERR_INVAL, "archive: not written: %s", why.msg);
    rc = hash_file(w, head, &sum, err);
    if (rc == 0)
        rc = io_pwritev(w->file, &front, 1, 0, err);
    if (rc == 0)
        rc = io_pwritev(w->file, tail, 2, w->at, err);
    if (rc == 0)
        rc = io_fdatasync(w->file, err);
    return rc;
}

/* From archive/next to the name, for good. */
static int publish(struct archive_writer *w, struct err *err)
{
    char name[ARCHIVE_NAME_MAX];
    struct io_stat st;
    int rc;

    archive_name(w->head.first, w->head.end, w->head.gen, name);
    rc = io_stat_path(w->io, name, &st, err);
    if (rc != ERR_NOENT)                        /* a generation is given out once */
        return rc < 0 ? rc : err_set(err, ERR_EXIST, "%s: is there already", name);
    rc = io_rename(w->io, ARCHIVE_NEXT, name, err);
    if (rc != 0)
        return rc;
    io_close(w->file);
    w->file = NULL;                             /* nothing left to drop */
    rc = io_syncdir(w->io, "archive", err);
    if (rc != 0)
        io_unlink(w->io, name, NULL);           /* it may not last: nobody may count on it, and the next try needs the name */
    return rc;
}

int archive_finish(struct archive_writer *w, const uint8_t epoch_id[16], struct err *err)
{
    int rc = w->failed ? err_set(err, w->failed, "archive: an earlier call failed") : 0;

    if (rc == 0 && w->n_added == 0)
        rc = err_set(err, ERR_INVAL, "archive: no record was added");
    if (rc == 0)
        rc = flush(w, err);
    if (rc == 0) {
        memcpy(w->head.epoch_id, epoch_id, 16);
        rc = seal(w, err);
    }
    if (rc == 0)
        rc = publish(w, err);
    archive_drop(w);
    return rc;
}
