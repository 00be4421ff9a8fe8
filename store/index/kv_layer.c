/*
 * kv_layer.c: what a read-only index lacks, in memory on top of it. Opening an unclean store for reading replays the log, and the
 * rows of that may go nowhere on disk. They are at most what a flush would have taken.
 *
 * Rows on top are a twin's, each value led by a byte: 1 the row, 0 there is none (whatever is below). Nothing below changes, so a
 * snapshot is one of the top alone.
 */
#include "store/index/kv.h"

#include <stdlib.h>
#include <string.h>

struct kv_layer {
    struct kv kv;
    struct kv_twin_disk *disk;     /* of the top; nothing is ever flushed to it */
    struct kv *top, *below;
};

struct kv_snap { struct kv_snap *top; };

struct kv_batch {
    struct kv *of;
    struct kv_batch *top;
    uint8_t *buf;
    size_t cap;
    bool failed;
};

enum side { TOP, BELOW };
enum way { NOWHERE, FORTH, BACK };

/* Two iterators, both at or beyond the row it stands on, in the direction it last moved. */
struct kv_iter {
    const struct kv_ops *ops[2];
    struct kv_iter *it[2];
    enum way way;
    int at;                        /* the side the row is from; -1: at none */
};

static struct kv_layer *layer(struct kv *kv) { return (struct kv_layer *)kv; }

/* ---- one row ---- */

static int layer_get(struct kv *kv, const void *key, size_t klen, uint8_t **val, size_t *vlen, struct err *err)
{
    struct kv_layer *l = layer(kv);
    int rc = kv_get(l->top, key, klen, val, vlen, err);

    if (rc == ERR_NOENT)
        return kv_get(l->below, key, klen, val, vlen, err);
    if (rc < 0)
        return rc;
    if ((*val)[0] == 0) {
        free(*val);
        *val = NULL;
        return kv_no_row(err);
    }
    *vlen -= 1;
    memmove(*val, *val + 1, *vlen);
    return 0;
}

static int layer_get_persisted(struct kv *kv, const void *key, size_t klen, uint8_t **val, size_t *vlen, struct err *err)
{
    return kv_get_persisted(layer(kv)->below, key, klen, val, vlen, err);
}

/* ---- batches ---- */

static struct kv_batch *layer_batch_new(struct kv *kv)
{
    struct kv_batch *b = calloc(1, sizeof *b);

    if (!b)
        return NULL;
    b->of = layer(kv)->top;
    b->top = b->of->ops->batch_new(b->of);
    if (!b->top) {
        free(b);
        return NULL;
    }
    return b;
}

static void layer_batch_put(struct kv_batch *b, const void *key, size_t klen, const void *val, size_t vlen)
{
    if (vlen + 1 > b->cap) {
        uint8_t *p = realloc(b->buf, 2 * (vlen + 1));

        if (!p) {
            b->failed = true;
            return;
        }
        b->buf = p;
        b->cap = 2 * (vlen + 1);
    }
    b->buf[0] = 1;
    if (vlen > 0)
        memcpy(b->buf + 1, val, vlen);
    b->of->ops->batch_put(b->top, key, klen, b->buf, vlen + 1);
}

static void layer_batch_del(struct kv_batch *b, const void *key, size_t klen)
{
    static const uint8_t none = 0;

    b->of->ops->batch_put(b->top, key, klen, &none, 1);
}

static size_t layer_batch_bytes(const struct kv_batch *b) { return b->of->ops->batch_bytes(b->top); }

static void layer_batch_clear(struct kv_batch *b)
{
    b->failed = false;
    b->of->ops->batch_clear(b->top);
}

static void layer_batch_free(struct kv_batch *b)
{
    if (!b)
        return;
    b->of->ops->batch_free(b->top);
    free(b->buf);
    free(b);
}

static int layer_write(struct kv *kv, struct kv_batch *b, struct err *err)
{
    return b->failed ? err_set(err, ERR_NOMEM, "a row did not fit the batch") : kv_write(layer(kv)->top, b->top, err);
}

/* ---- nothing is ever made durable ---- */

static int layer_flush_start(struct kv *kv, struct err *err)
{
    (void)kv;
    return err_set(err, ERR_ROFS, "index: opened read-only");
}

static int layer_flush_done(struct kv *kv, struct err *err)
{
    (void)kv;
    (void)err;
    return 1;
}

static int layer_flush_wait(struct kv *kv, struct err *err)
{
    (void)kv;
    (void)err;
    return 0;
}

/* ---- snapshots and iterators ---- */

static struct kv_snap *layer_snap_new(struct kv *kv)
{
    struct kv_snap *s = malloc(sizeof *s);

    if (!s)
        return NULL;
    s->top = layer(kv)->top->ops->snap_new(layer(kv)->top);
    if (!s->top) {
        free(s);
        return NULL;
    }
    return s;
}

static void layer_snap_free(struct kv *kv, struct kv_snap *s)
{
    if (s)
        layer(kv)->top->ops->snap_free(layer(kv)->top, s->top);
    free(s);
}

static void layer_iter_free(struct kv_iter *it)
{
    if (!it)
        return;
    for (int i = 0; i < 2; i++)
        if (it->it[i])
            it->ops[i]->iter_free(it->it[i]);
    free(it);
}

static struct kv_iter *layer_iter_new(struct kv *kv, struct kv_snap *s, const void *lower, size_t llen, const void *upper, size_t ulen)
{
    struct kv_layer *l = layer(kv);
    struct kv_iter *it = calloc(1, sizeof *it);

    if (!it)
        return NULL;
    it->at = -1;
    it->ops[TOP] = l->top->ops;
    it->ops[BELOW] = l->below->ops;
    it->it[TOP] = l->top->ops->iter_new(l->top, s ? s->top : NULL, lower, llen, upper, ulen);
    it->it[BELOW] = l->below->ops->iter_new(l->below, NULL, lower, llen, upper, ulen);
    if (!it->it[TOP] || !it->it[BELOW]) {
        layer_iter_free(it);
        return NULL;
    }
    return it;
}

static int order(const uint8_t *a, size_t alen, const uint8_t *b, size_t blen)
{
    int c = memcmp(a, b, alen < blen ? alen : blen);

    return c != 0 ? c : alen < blen ? -1 : alen > blen;
}

static void step(struct kv_iter *it, enum side i)
{
    if (it->way == FORTH)
        it->ops[i]->iter_next(it->it[i]);
    else
        it->ops[i]->iter_prev(it->it[i]);
}

/* Stands on the nearer of both; where both have the key it is the top's, and below goes along with it. */
static void settle(struct kv_iter *it)
{
    for (;;) {
        bool top = it->ops[TOP]->iter_valid(it->it[TOP]), below = it->ops[BELOW]->iter_valid(it->it[BELOW]);
        size_t tlen = 0, blen = 0, vlen;
        const uint8_t *t = top ? it->ops[TOP]->iter_key(it->it[TOP], &tlen) : NULL;
        const uint8_t *b = below ? it->ops[BELOW]->iter_key(it->it[BELOW], &blen) : NULL;
        int c;

        if (!t || !b) {
            it->at = t ? TOP : b ? BELOW : -1;
        } else {
            c = order(t, tlen, b, blen);
            if (c == 0)
                step(it, BELOW);
            it->at = c == 0 || (c < 0) == (it->way == FORTH) ? TOP : BELOW;
        }
        if (it->at != TOP || it->ops[TOP]->iter_val(it->it[TOP], &vlen)[0] != 0)
            return;
        step(it, TOP);             /* there is no such row */
    }
}

static void seek(struct kv_iter *it, enum way way, const void *key, size_t klen)
{
    it->way = way;
    for (int i = 0; i < 2; i++) {
        if (way == FORTH)
            it->ops[i]->iter_seek(it->it[i], key, klen);
        else
            it->ops[i]->iter_seek_prev(it->it[i], key, klen);
    }
    settle(it);
}

static void layer_iter_seek(struct kv_iter *it, const void *key, size_t klen) { seek(it, FORTH, key, klen); }
static void layer_iter_seek_prev(struct kv_iter *it, const void *key, size_t klen) { seek(it, BACK, key, klen); }

static const uint8_t *layer_iter_key(struct kv_iter *it, size_t *len) { return it->ops[it->at]->iter_key(it->it[it->at], len); }

static void move(struct kv_iter *it, enum way way)
{
    uint8_t key[KV_KEY_MAX];
    size_t klen;
    const uint8_t *k;

    if (it->at < 0)
        return;
    if (it->way == way) {
        step(it, (enum side)it->at);
        settle(it);
        return;
    }
    /* Turning round: the other side is beyond this row, in the wrong direction. */
    k = layer_iter_key(it, &klen);
    memcpy(key, k, klen);
    seek(it, way, key, klen);
    step(it, (enum side)it->at);
    settle(it);
}

static void layer_iter_next(struct kv_iter *it) { move(it, FORTH); }
static void layer_iter_prev(struct kv_iter *it) { move(it, BACK); }
static bool layer_iter_valid(struct kv_iter *it) { return it->at >= 0; }

static const uint8_t *layer_iter_val(struct kv_iter *it, size_t *len)
{
    const uint8_t *v = it->ops[it->at]->iter_val(it->it[it->at], len);

    if (it->at == BELOW)
        return v;
    *len -= 1;
    return v + 1;
}

static int layer_iter_err(struct kv_iter *it, struct err *err)
{
    int rc = it->ops[BELOW]->iter_err(it->it[BELOW], err);

    return rc < 0 ? rc : it->ops[TOP]->iter_err(it->it[TOP], err);
}

/* ---- life ---- */

static int layer_checkpoint(struct kv *kv, const char *path, struct err *err)
{
    struct kv *below = layer(kv)->below;

    return below->ops->checkpoint ? below->ops->checkpoint(below, path, err) : 0;     /* it has no files */
}

static uint64_t layer_memory(struct kv *kv)
{
    struct kv_layer *l = layer(kv);

    return l->top->ops->memory(l->top) + l->below->ops->memory(l->below);
}

static void layer_close(struct kv *kv)
{
    struct kv_layer *l = layer(kv);

    if (!l)
        return;
    if (l->top)
        kv_close(l->top);
    kv_twin_disk_free(l->disk);
    kv_close(l->below);
    free(l);
}

static const struct kv_ops layer_ops = {
    .get = layer_get,
    .get_persisted = layer_get_persisted,
    .batch_new = layer_batch_new,
    .batch_put = layer_batch_put,
    .batch_del = layer_batch_del,
    .batch_bytes = layer_batch_bytes,
    .batch_clear = layer_batch_clear,
    .batch_free = layer_batch_free,
    .write = layer_write,
    .flush_start = layer_flush_start,
    .flush_done = layer_flush_done,
    .flush_wait = layer_flush_wait,
    .snap_new = layer_snap_new,
    .snap_scan = layer_snap_new,
    .snap_free = layer_snap_free,
    .iter_new = layer_iter_new,
    .iter_seek = layer_iter_seek,
    .iter_seek_prev = layer_iter_seek_prev,
    .iter_next = layer_iter_next,
    .iter_prev = layer_iter_prev,
    .iter_valid = layer_iter_valid,
    .iter_key = layer_iter_key,
    .iter_val = layer_iter_val,
    .iter_err = layer_iter_err,
    .iter_free = layer_iter_free,
    .checkpoint = layer_checkpoint,
    .memory = layer_memory,
    .close = layer_close,
};

int kv_layer_open(struct kv *below, struct kv **out, struct err *err)
{
    struct kv_layer *l = calloc(1, sizeof *l);
    int rc = l ? 0 : ERR_NOMEM;

    if (l) {
        l->kv.ops = &layer_ops;
        l->below = below;
        l->disk = kv_twin_disk_new();
        rc = l->disk ? kv_twin_open(l->disk, &l->top, NULL) : ERR_NOMEM;
    }
    if (rc < 0) {
        if (l)
            kv_twin_disk_free(l->disk);
        free(l);
        return err_set(err, rc, "index: no memory for what the log has beyond it");
    }
    *out = &l->kv;
    return 0;
}
