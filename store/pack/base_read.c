/* base_read.c: a base's rows in order, and into an index. A frame is checked whole before the first of its rows is given. */
#include "store/pack/base.h"

#include "store/base/bytes.h"
#include "store/pack/sealed.h"
#include "store/pack/squeeze.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LOAD_BATCH = 1 << 20, LOAD_FLUSH = 64 << 20 };      /* bytes of rows in a write, and between two flushes */

struct base {
    struct io_file *file;
    char name[BASE_NAME_MAX];
    uint64_t gen, size, frames_end;
    struct base_head head;
    uint64_t at;                     /* of the next frame */
    uint64_t rows, frames;           /* so far */
    struct squeeze *squeeze;
    uint8_t *raw, *stored;           /* the frame that is read, and as it lies in the file */
    size_t raw_cap, stored_cap;
    struct base_frame f;
    size_t pos;                      /* in it */
    uint32_t given;                  /* rows of it */
    uint8_t key[KV_KEY_MAX], last[KV_KEY_MAX];
    size_t klen, last_len;           /* last: of the row before, in the frame before, too */
};

static int nomem(const struct base *b, struct err *err)
{
    return err_set(err, ERR_NOMEM, "%s: out of memory", b->name);
}

static int read_all(const struct base *b, uint8_t *buf, size_t len, uint64_t off, struct err *err)
{
    return sealed_read(b->file, b->name, buf, len, off, err);
}

/* The head at ${off}, of a file of ${size} bytes. */
static int read_head(const struct base *b, uint64_t off, uint8_t buf[BASE_HEAD_BYTES], struct base_head *h, struct err *err)
{
    struct err why = { 0 };
    int rc = read_all(b, buf, BASE_HEAD_BYTES, off, err);

    if (rc < 0)
        return rc;
    rc = base_head_decode(buf, BASE_HEAD_BYTES, b->size, h, &why);
    if (rc < 0)
        return err_set(err, rc, "%s: offset %" PRIu64 ": %s", b->name, off, why.msg);
    if (b->gen != 0 && h->gen != b->gen)
        return err_set(err, ERR_DAMAGE, "%s: offset %" PRIu64 ": expected the generation of its name, found %" PRIu64, b->name, off + 112, h->gen);
    return 0;
}

static void rewind_to_first(struct base *b)
{
    b->at = BASE_HEAD_BYTES;
    b->rows = b->frames = 0;
    b->f = (struct base_frame){ 0 };
    b->pos = 0;
    b->given = 0;
    b->klen = b->last_len = 0;
}

static int open_it(struct io *io, const char *path, uint64_t gen, struct base **out, struct err *warn, struct err *err)
{
    uint8_t buf[BASE_HEAD_BYTES];
    struct base *b = calloc(1, sizeof *b);
    struct io_stat st = { 0 };
    struct err why = { 0 };
    int rc;

    *out = NULL;
    if (b == NULL)
        return err_set(err, ERR_NOMEM, "base: out of memory");
    snprintf(b->name, sizeof b->name, "%s", path);
    b->gen = gen;                    /* 0: whatever the head says */
    b->squeeze = squeeze_new();
    rc = b->squeeze != NULL ? io_open(io, b->name, IO_RDONLY, &b->file, &why) : nomem(b, &why);
    if (rc < 0)
        b->file = NULL;
    if (rc == 0)
        rc = io_fstat(b->file, &st, &why);
    b->size = st.size;
    if (rc == 0)
        rc = read_head(b, 0, buf, &b->head, &why);
    if (rc == ERR_DAMAGE && b->size >= BASE_HEAD_BYTES + SEALED_HASH_BYTES &&
        read_head(b, b->size - SEALED_HASH_BYTES - BASE_HEAD_BYTES, buf, &b->head, NULL) == 0) {
        if (warn != NULL)
            *warn = why;
        rc = 0;
    }
    if (rc < 0) {
        base_close(b);
        return err_set(err, rc, "%s", why.msg);
    }
    b->frames_end = b->size - SEALED_HASH_BYTES - BASE_HEAD_BYTES;
    rewind_to_first(b);
    *out = b;
    return 0;
}

int base_open(struct io *io, uint64_t gen, struct base **out, struct err *warn, struct err *err)
{
    char name[BASE_NAME_MAX];

    base_name(gen, name);
    return open_it(io, name, gen, out, warn, err);
}

int base_open_file(struct io *io, const char *path, struct base **out, struct err *warn, struct err *err)
{
    return open_it(io, path, 0, out, warn, err);
}

void base_close(struct base *b)
{
    if (b == NULL)
        return;
    if (b->file != NULL)
        io_close(b->file);
    squeeze_free(b->squeeze);
    free(b->raw);
    free(b->stored);
    free(b);
}

const struct base_head *base_head(const struct base *b)
{
    return &b->head;
}

/* Room for ${want} bytes; what was there is not kept. */
static bool room(uint8_t **buf, size_t *cap, size_t want)
{
    if (want > *cap) {
        free(*buf);
        *buf = malloc(want);
        *cap = *buf != NULL ? want : 0;
    }
    return want <= *cap;
}

static int load_frame(struct base *b, struct err *err)
{
    uint8_t head[BASE_FRAME_HEAD_BYTES];
    struct base_frame f;
    struct hash128 sum;
    struct err why = { 0 };
    int rc = read_all(b, head, sizeof head, b->at, err);

    if (rc < 0)
        return rc;
    if (base_frame_decode(head, sizeof head, &f, &why) < 0)
        return err_set(err, ERR_DAMAGE, "%s: offset %" PRIu64 ": %s", b->name, b->at, why.msg);
    if (f.stored > b->frames_end - b->at - BASE_FRAME_HEAD_BYTES)
        return err_set(err, ERR_DAMAGE, "%s: offset %" PRIu64 ": expected a frame before offset %" PRIu64 ", found one of %" PRIu32 " bytes", b->name, b->at,
                       b->frames_end, f.stored);
    if (!room(&b->stored, &b->stored_cap, f.stored) || !room(&b->raw, &b->raw_cap, f.expanded))
        return nomem(b, err);
    rc = read_all(b, b->stored, f.stored, b->at + BASE_FRAME_HEAD_BYTES, err);
    if (rc == 0)
        rc = unsqueeze(b->squeeze, b->stored, f.stored, NULL, 0, b->raw, f.expanded);
    if (rc == ERR_NOMEM)
        return nomem(b, err);
    sum = rc == 0 ? hash128(b->raw, f.expanded) : (struct hash128){ 0 };
    if (rc == ERR_DAMAGE || (rc == 0 && !hash128_eq(&sum, &f.hash)))
        return err_set(err, ERR_DAMAGE, "%s: offset %" PRIu64 ": expected a zstd frame of %" PRIu32 " bytes that expands to %" PRIu32 " of hash %016" PRIx64
                       "..., found other bytes", b->name, b->at + BASE_FRAME_HEAD_BYTES, f.stored, f.expanded, get_be64(f.hash.b));
    if (rc < 0)
        return rc;
    b->at += BASE_FRAME_HEAD_BYTES + f.stored;
    b->frames++;
    b->f = f;
    b->pos = 0;
    b->given = 0;
    b->klen = 0;
    return 0;
}

/* Behind the last frame: whether they were as many as the head says. */
static int count(const struct base *b, struct err *err)
{
    if (b->frames == b->head.n_frames && b->rows == b->head.n_rows)
        return 0;
    return err_set(err, ERR_DAMAGE, "%s: offset 152: expected %" PRIu64 " rows in %" PRIu32 " frames, found %" PRIu64 " in %" PRIu64, b->name,
                   b->head.n_rows, b->head.n_frames, b->rows, b->frames);
}

int base_next(struct base *b, struct base_row *row, struct err *err)
{
    struct err why = { 0 };
    int64_t n;

    if (b->given == b->f.n) {
        int rc = b->at + BASE_FRAME_HEAD_BYTES < b->frames_end ? load_frame(b, err) : count(b, err);

        if (rc < 0 || b->given == b->f.n)
            return rc;
    }
    n = base_row_get(b->raw + b->pos, b->f.expanded - b->pos, b->key, &b->klen, row, &why);
    if (n >= 0 && b->given == 0 && b->last_len > 0) {        /* the first of a frame says all of its key: here it is compared with the one before */
        size_t common = b->last_len < b->klen ? b->last_len : b->klen;
        int c = memcmp(b->last, b->key, common);

        if (c > 0 || (c == 0 && b->klen <= b->last_len))
            n = err_set(&why, ERR_DAMAGE, "a row's key does not rise");
    }
    if (n >= 0 && b->given + 1 == b->f.n && b->pos + (size_t)n != b->f.expanded)
        n = err_set(&why, ERR_DAMAGE, "%zu bytes behind its last row", b->f.expanded - b->pos - (size_t)n);
    if (n < 0)
        return err_set(err, (int)n, "%s: frame before offset %" PRIu64 ", row %" PRIu32 ": %s", b->name, b->at, b->given, why.msg);
    b->pos += (size_t)n;
    b->given++;
    b->rows++;
    if (b->given == b->f.n) {
        memcpy(b->last, b->key, b->klen);
        b->last_len = b->klen;
    }
    return 1;
}

/* Is this the row that says what is applied? */
static bool is_meta(const struct base_row *r)
{
    uint8_t key[KV_KEY_MAX];
    size_t len = key_meta(key, "applied");

    return r->klen == len && memcmp(r->key, key, len) == 0;
}

static int check_row(const struct base *b, const struct base_row *r, bool *meta, struct err *err)
{
    struct row_meta m;
    struct key_parts k;
    int rc;

    if (!key_parse(r->key, r->klen, &k))
        return err_set(err, ERR_DAMAGE, "%s: row %" PRIu64 ": expected the key of a table, found none", b->name, b->rows - 1);
    if (!is_meta(r))
        return 0;
    *meta = true;
    rc = row_meta_decode(r->val, r->vlen, &m, err);
    if (rc == 0 && (m.applied != b->head.applied || m.last_lsn != b->head.last_lsn || !hash128_eq(&m.last_hash, &b->head.last_hash)))
        rc = err_set(err, ERR_DAMAGE, "%s: expected rows as of @%" PRIu64 ", found rows as of @%" PRIu64, b->name, b->head.applied, m.applied);
    return rc;
}

int base_check(struct base *b, struct err *err)
{
    uint8_t one[BASE_HEAD_BYTES], two[BASE_HEAD_BYTES];
    struct base_head h;
    struct base_row r;
    bool meta = false;
    int rc = read_head(b, 0, one, &h, err), more = 1;

    if (rc == 0)
        rc = read_head(b, b->frames_end, two, &h, err);
    if (rc == 0 && memcmp(one, two, sizeof one) != 0)
        rc = err_set(err, ERR_DAMAGE, "%s: offset %" PRIu64 ": expected the first head's bytes once more, found others", b->name, b->frames_end);
    rewind_to_first(b);
    while (rc == 0 && more == 1) {
        more = base_next(b, &r, err);
        rc = more == 1 ? check_row(b, &r, &meta, err) : more;
    }
    if (rc == 0 && !meta)
        rc = err_set(err, ERR_DAMAGE, "%s: expected a row that says how far the log is applied, found none", b->name);
    if (rc == 0)                    /* last: what is above says more precisely where */
        rc = sealed_check(b->file, b->name, b->size, err);
    rewind_to_first(b);
    return rc;
}

struct loading { struct kv *kv; struct kv_batch *batch; size_t written; bool flush; };

static int write_batch(struct loading *l, struct err *err)
{
    int rc = kv_write(l->kv, l->batch, err);

    l->written += l->kv->ops->batch_bytes(l->batch);
    l->kv->ops->batch_clear(l->batch);
    if (rc == 0 && l->flush && l->written >= LOAD_FLUSH) {
        rc = l->kv->ops->flush_start(l->kv, err);
        if (rc == 0)
            rc = l->kv->ops->flush_wait(l->kv, err);
        l->written = 0;
    }
    return rc;
}

int base_load(struct base *b, struct kv *kv, bool flush, struct err *err)
{
    struct loading l = { .kv = kv, .batch = kv->ops->batch_new(kv), .flush = flush };
    uint8_t *meta = NULL;
    size_t meta_len = 0;
    struct base_row r;
    int rc = l.batch != NULL ? 0 : nomem(b, err), more = 1;

    rewind_to_first(b);
    while (rc == 0 && (more = base_next(b, &r, err)) == 1) {
        if (is_meta(&r)) {
            free(meta);
            meta = malloc(r.vlen + 1);
            rc = meta != NULL ? 0 : nomem(b, err);
            if (rc == 0)
                memcpy(meta, r.val, r.vlen);
            meta_len = r.vlen;
            continue;
        }
        kv->ops->batch_put(l.batch, r.key, r.klen, r.val, r.vlen);
        if (kv->ops->batch_bytes(l.batch) >= LOAD_BATCH)
            rc = write_batch(&l, err);
    }
    rc = rc == 0 && more < 0 ? more : rc;
    if (rc == 0 && meta == NULL)
        rc = err_set(err, ERR_DAMAGE, "%s: expected a row that says how far the log is applied, found none", b->name);
    if (rc == 0) {
        uint8_t key[KV_KEY_MAX];

        kv->ops->batch_put(l.batch, key, key_meta(key, "applied"), meta, meta_len);
        rc = write_batch(&l, err);
    }
    if (rc == 0 && flush)
        rc = kv->ops->flush_start(kv, err);
    if (rc == 0 && flush)
        rc = kv->ops->flush_wait(kv, err);
    if (l.batch != NULL)
        kv->ops->batch_free(l.batch);
    free(meta);
    return rc;
}
