/*
 * archive_write.c: making an archive file.
 *
 * Crash story: archive/next made | frames written, each behind the one before | what sealed.h says of its end.
 * Before the rename a file without meaning, made anew the next time; after it, with or without the name, a whole one. The
 * records are still in the log: they leave it only once archive_finish has returned 0.
 */
#include "store/pack/archive_internal.h"
#include "store/log/frame.h"
#include "store/pack/sealed.h"
#include "store/pack/squeeze.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct archive_writer {
    struct sealed *file;
    struct archive_head head;
    uint64_t n_added;
    uint64_t last_lsn;              /* the last record, and its hash */
    struct hash128 last_hash;
    int failed;                     /* sticks: the file is not what the fields say */
    /* the frame that is being filled */
    struct columns columns;
    struct archive_before before;   /* its end is that of the last record, also between two frames */
    struct archive_frame frame;     /* of its head: what is known before it is compressed */
    struct archive_heads back;      /* read back */
    struct squeeze *squeeze;
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
    sealed_drop(w->file);
    columns_release(&w->columns);
    squeeze_free(w->squeeze);
    free(w->back.p);
    free(w->raw);
    free(w->out);
    free(w);
}

int archive_new(struct io *io, const struct archive_head *h, struct archive_writer **out, struct err *err)
{
    struct archive_writer *w = calloc(1, sizeof *w);
    int rc = 0;

    *out = NULL;
    if (w == NULL)
        return no_memory(err);
    w->head = *h;
    w->head.compat = w->head.ro_compat = w->head.incompat = 0;
    w->head.hash_alg = HASH_XXH3;
    w->head.n_records = 0;
    w->head.n_frames = 0;
    w->before.end = h->first;
    w->squeeze = squeeze_new();
    w->raw = malloc(ARCHIVE_FRAME_EXPANDED);
    w->out_cap = ARCHIVE_FRAME_HEAD_BYTES + squeeze_bound(ARCHIVE_FRAME_EXPANDED);
    w->out = malloc(w->out_cap);
    if (w->squeeze == NULL || w->raw == NULL || w->out == NULL)
        rc = no_memory(err);
    if (rc == 0)
        rc = sealed_new(io, "archive", "archive/next", ARCHIVE_HEAD_BYTES, &w->file, err);
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
    int64_t n;
    int rc;

    if (len == 0)
        return no_memory(err);
    f->end = w->before.end;
    f->last_hash = w->last_hash;
    rc = check_readable(w, len, err);
    if (rc != 0)
        return rc;
    n = squeeze(w->squeeze, SQUEEZE_COLUMNS, w->raw, len, NULL, 0, w->out + ARCHIVE_FRAME_HEAD_BYTES, w->out_cap - ARCHIVE_FRAME_HEAD_BYTES);
    if (n < 0)
        return err_set(err, (int)n, "archive: frame of %zu bytes at LSN %" PRIu64 " not compressed: %s", len, f->first_lsn,
                       err_text((int)n));
    f->stored = (uint32_t)n;
    f->expanded = (uint32_t)len;
    archive_frame_encode(f, w->out);
    rc = sealed_put(w->file, w->out, ARCHIVE_FRAME_HEAD_BYTES + (size_t)n, err);
    if (rc != 0)
        return rc;
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

/* The head, and all of it under its name. */
static int seal(struct archive_writer *w, struct err *err)
{
    uint8_t head[ARCHIVE_HEAD_BYTES];
    char name[ARCHIVE_NAME_MAX];
    struct sealed *file = w->file;
    struct archive_head t;
    struct err why = { 0 };

    w->head.size = sealed_size(w->file);
    w->head.n_records = w->n_added;
    archive_head_encode(&w->head, head);
    if (archive_head_decode(head, sizeof head, w->head.size, &t, &why) != 0)
        return err_set(err, ERR_INVAL, "archive: not written: %s", why.msg);
    archive_name(w->head.first, w->head.end, w->head.gen, name);
    w->file = NULL;
    return sealed_finish(file, head, name, err);
}

int archive_cut(struct archive_writer *w, uint64_t end, struct err *err)
{
    if (end < w->before.end || end > w->head.end)
        return err_set(err, ERR_INVAL, "archive: expected an end between %" PRIu64 " and %" PRIu64 ", found %" PRIu64, w->before.end, w->head.end, end);
    w->head.end = end;
    return 0;
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
    archive_drop(w);
    return rc;
}
