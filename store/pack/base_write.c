/*
 * base_write.c: making a base: all rows of one snapshot of the index, but for those that are made anew or need not be: hints, and what reclaim noted.
 */
#include "store/pack/base.h"

#include "store/pack/sealed.h"
#include "store/pack/squeeze.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { LEVEL = 6 };                      /* of zstd: a base is some hundred bytes for each file, made now and then, beside work */

struct base_writer {
    struct io *io;
    struct kv *kv;
    struct kv_snap *snap;
    struct kv_iter *it;
    struct sealed *file;
    struct base_head head;
    struct row_meta meta;
    struct squeeze *squeeze;
    uint8_t *raw, *out;                  /* the frame being filled; its head and zstd frame */
    size_t len, raw_cap, out_cap;
    uint32_t n;                          /* rows in it */
    uint8_t key[KV_KEY_MAX];             /* of the last of them */
    size_t klen;
};

static int nomem(struct err *err)
{
    return err_set(err, ERR_NOMEM, "base: out of memory");
}

void base_drop(struct base_writer *w)
{
    if (w == NULL)
        return;
    if (w->it != NULL)
        w->kv->ops->iter_free(w->it);
    if (w->snap != NULL)
        w->kv->ops->snap_free(w->kv, w->snap);
    sealed_drop(w->file);
    squeeze_free(w->squeeze);
    free(w->raw);
    free(w->out);
    free(w);
}

/* Room for an expanded frame of ${want} bytes, and for it as it is stored. */
static bool room(struct base_writer *w, size_t want)
{
    if (want > w->raw_cap) {
        uint8_t *raw = realloc(w->raw, want);
        size_t cap = BASE_FRAME_HEAD_BYTES + squeeze_bound(want);
        uint8_t *out = raw != NULL ? realloc(w->out, cap) : NULL;

        w->raw = raw != NULL ? raw : w->raw;
        w->out = out != NULL ? out : w->out;
        if (out == NULL)
            return false;
        w->raw_cap = want;
        w->out_cap = cap;
    }
    return true;
}

/* The row that says how far the rows are, as of the snapshot. */
static int read_meta(struct base_writer *w, struct err *err)
{
    uint8_t lo[KV_KEY_MAX], hi[KV_KEY_MAX];
    size_t len = key_meta(lo, "applied"), vlen;
    struct kv_iter *it;
    int rc;

    memcpy(hi, lo, len);
    hi[len] = 0;
    it = w->kv->ops->iter_new(w->kv, w->snap, lo, len, hi, len + 1);
    if (it == NULL)
        return nomem(err);
    w->kv->ops->iter_seek(it, lo, len);
    if (w->kv->ops->iter_valid(it)) {
        const uint8_t *v = w->kv->ops->iter_val(it, &vlen);

        rc = row_meta_decode(v, vlen, &w->meta, err);
        if (rc == 0 && w->meta.last_lsn == 0)
            rc = err_set(err, ERR_NOENT, "base: nothing was applied yet");
    } else {
        rc = w->kv->ops->iter_err(it, err);
        rc = rc < 0 ? rc : err_set(err, ERR_NOENT, "base: nothing was applied yet");
    }
    w->kv->ops->iter_free(it);
    return rc;
}

int base_new(struct io *io, struct kv *kv, const struct base_head *h, struct base_writer **out, struct err *err)
{
    struct base_writer *w = calloc(1, sizeof *w);
    int rc = 0;

    *out = NULL;
    if (w == NULL)
        return nomem(err);
    w->io = io;
    w->kv = kv;
    w->head = (struct base_head){ .gen = h->gen, .retained_gen = h->retained_gen, .let_go = h->let_go, .hash_alg = HASH_XXH3 };
    memcpy(w->head.lineage, h->lineage, 16);
    memcpy(w->head.site, h->site, 16);
    w->squeeze = squeeze_new();
    w->snap = kv->ops->snap_scan(kv);
    w->it = w->snap != NULL ? kv->ops->iter_new(kv, w->snap, NULL, 0, NULL, 0) : NULL;
    if (w->squeeze == NULL || w->it == NULL || !room(w, BASE_FRAME_EXPANDED))
        rc = nomem(err);
    if (rc == 0)
        rc = read_meta(w, err);
    if (rc == 0)
        rc = sealed_new(io, "archive", "archive/base.next", BASE_HEAD_BYTES, &w->file, err);
    if (rc < 0) {
        base_drop(w);
        return rc;
    }
    w->head.applied = w->meta.applied;
    w->head.last_lsn = w->meta.last_lsn;
    w->head.last_hash = w->meta.last_hash;
    kv->ops->iter_seek(w->it, "", 0);
    *out = w;
    return 0;
}

const struct row_meta *base_meta(const struct base_writer *w)
{
    return &w->meta;
}

/* The rows gathered so far become a frame. */
static int flush(struct base_writer *w, struct err *err)
{
    struct base_frame f = { .expanded = (uint32_t)w->len, .n = w->n, .hash = hash128(w->raw, w->len) };
    int64_t n = squeeze(w->squeeze, LEVEL, w->raw, w->len, NULL, 0, w->out + BASE_FRAME_HEAD_BYTES, w->out_cap - BASE_FRAME_HEAD_BYTES);
    int rc;

    if (n < 0)
        return err_set(err, (int)n, "base: a frame of %zu bytes could not be compressed: %s", w->len, err_text((int)n));
    f.stored = (uint32_t)n;
    base_frame_encode(&f, w->out);
    rc = sealed_put(w->file, w->out, BASE_FRAME_HEAD_BYTES + (size_t)n, err);
    w->head.n_frames++;
    w->n = 0;
    w->len = w->klen = 0;
    return rc;
}

/* Hints are found anew, and what was swept last is of this index. */
static bool belongs(const struct key_parts *k)
{
    return k->table != 'h' && k->table != 'n' && (k->table != '!' || (k->name_len == 7 && memcmp(k->name, "applied", 7) == 0));
}

static int take(struct base_writer *w, const struct base_row *r, struct err *err)
{
    size_t full = w->n > 0 ? BASE_FRAME_EXPANDED : w->raw_cap;
    size_t n = w->len < full ? base_row_put(w->raw + w->len, full - w->len, w->key, w->klen, r) : 0;     /* not: one large row was all of it */
    int rc = 0;

    if (n == 0 && w->n > 0) {
        rc = flush(w, err);
        if (rc == 0)
            n = base_row_put(w->raw, w->raw_cap, NULL, 0, r);
    }
    if (rc == 0 && n == 0) {             /* one that is larger than a frame is meant to be */
        if (!room(w, r->klen + r->vlen + 32))
            return nomem(err);
        n = base_row_put(w->raw, w->raw_cap, NULL, 0, r);
    }
    if (rc < 0)
        return rc;
    memcpy(w->key, r->key, r->klen);
    w->klen = r->klen;
    w->len += n;
    w->n++;
    w->head.n_rows++;
    return 0;
}

int base_step(struct base_writer *w, size_t rows, struct err *err)
{
    const struct kv_ops *ops = w->kv->ops;
    int rc = 0;

    for (; rc == 0 && rows > 0 && ops->iter_valid(w->it); rows--) {
        struct key_parts k;
        struct base_row r;

        r.key = ops->iter_key(w->it, &r.klen);
        r.val = ops->iter_val(w->it, &r.vlen);
        if (!key_parse(r.key, r.klen, &k))
            rc = err_set(err, ERR_DAMAGE, "index: a row's key cannot be read; rebuild the index");
        else if (belongs(&k))
            rc = take(w, &r, err);
        ops->iter_next(w->it);
    }
    if (rc < 0 || ops->iter_valid(w->it))
        return rc < 0 ? rc : 1;
    return ops->iter_err(w->it, err);
}

int base_finish(struct base_writer *w, const uint8_t epoch_id[16], struct base_head *made, struct err *err)
{
    uint8_t head[BASE_HEAD_BYTES];
    char name[BASE_NAME_MAX];
    struct base_head t;
    struct err why = { 0 };
    int rc = w->n > 0 ? flush(w, err) : 0;

    memcpy(w->head.epoch_id, epoch_id, 16);
    w->head.size = sealed_size(w->file);
    base_head_encode(&w->head, head);
    if (rc == 0 && base_head_decode(head, sizeof head, w->head.size, &t, &why) < 0)
        rc = err_set(err, ERR_INVAL, "base: not written: %s", why.msg);
    base_name(w->head.gen, name);
    if (rc == 0) {
        struct sealed *file = w->file;

        w->file = NULL;
        rc = sealed_finish(file, head, name, err);
    }
    if (rc == 0 && made != NULL)
        *made = w->head;
    base_drop(w);
    return rc;
}
