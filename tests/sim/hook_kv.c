/* hook_kv.c: the index twin behind a hook. Batches, iterators and snapshots are the twin's own; only what takes the
 * kv itself passes through here. */
#include "tests/sim/hook.h"

#include <stdlib.h>
#include <string.h>

struct hkv {
    struct kv kv;
    struct kv_ops ops;               /* the twin's, with ours in front */
    struct kv *inner;
    struct hook *h;
};

static struct hkv *of(struct kv *kv) { return (struct hkv *)kv; }

/* batch_put and batch_del get no kv: what is planted in them is kept here. */
static enum bug batch_bug;
static uint64_t batch_calls;

void hook_plant(struct hook *h, enum bug bug)
{
    h->bug = bug;
    if (bug != batch_bug)
        batch_calls = 0;
    batch_bug = bug;
}

static int k_get(struct kv *kv, const void *key, size_t klen, uint8_t **val, size_t *vlen, struct err *err)
{
    struct hook *h = of(kv)->h;
    int rc = kv_get(of(kv)->inner, key, klen, val, vlen, err);
    uint8_t *other = h->hint;
    size_t len = h->hint_len;
    if (!h->lies || klen == 0 || (((const char *)key)[0] != 'h' && ((const char *)key)[0] != 'n') || (rc != 0 && rc != ERR_NOENT))
        return rc;
    if (rc == 0) {                       /* for the next lie */
        h->hint = malloc(*vlen + 1);
        if (h->hint == NULL)
            abort();
        memcpy(h->hint, *val, *vlen);
        h->hint_len = *vlen;
    }
    if (other == NULL || ++h->hints % 2 != 0) {
        if (rc == 0)
            free(other);
        return rc;
    }
    if (rc == 0)
        free(*val);
    else
        h->hint = NULL;
    *val = other;
    *vlen = len;
    return 0;
}

static int k_get_persisted(struct kv *kv, const void *key, size_t klen, uint8_t **val, size_t *vlen, struct err *err)
{
    return kv_get_persisted(of(kv)->inner, key, klen, val, vlen, err);
}

static struct kv_batch *k_batch_new(struct kv *kv) { return of(kv)->inner->ops->batch_new(of(kv)->inner); }

static const struct kv_ops *twin_ops;

static void k_batch_put(struct kv_batch *b, const void *key, size_t klen, const void *val, size_t vlen)
{
    if (batch_bug == BUG_BATCH_LOSES_PUT && ++batch_calls % 200 == 0)
        return;
    twin_ops->batch_put(b, key, klen, val, vlen);
}

static void k_batch_del(struct kv_batch *b, const void *key, size_t klen)
{
    if (batch_bug == BUG_BATCH_LOSES_DELETE && ++batch_calls % 20 == 0)
        return;
    twin_ops->batch_del(b, key, klen);
}

static void k_before(struct hkv *k, enum hook_call c)
{
    k->h->count[c]++;
    if (k->h->before != NULL)
        k->h->before(k->h->arg, c);
}

static int k_write(struct kv *kv, struct kv_batch *b, struct err *err)
{
    struct hkv *k = of(kv);
    k_before(k, HOOK_KV_WRITE);
    if (k->h->bug == BUG_KV_WRITE_LOST && ++k->h->bug_calls % 20 == 0)
        return 0;
    int rc = kv_write(k->inner, b, err);
    if (rc == 0 && k->h->bug == BUG_FLUSH_EARLY && ++k->h->bug_calls % 4 == 0 &&
        k->inner->ops->flush_start(k->inner, NULL) == 0)
        (void)k->inner->ops->flush_wait(k->inner, NULL);
    return rc;
}

static int k_flush_start(struct kv *kv, struct err *err)
{
    struct hkv *k = of(kv);
    k_before(k, HOOK_KV_FLUSH);
    return k->inner->ops->flush_start(k->inner, err);
}

static int k_flush_done(struct kv *kv, struct err *err)
{
    struct hkv *k = of(kv);
    k_before(k, HOOK_KV_FLUSH_WAIT);
    return k->inner->ops->flush_done(k->inner, err);
}

static int k_flush_wait(struct kv *kv, struct err *err)
{
    struct hkv *k = of(kv);
    k_before(k, HOOK_KV_FLUSH_WAIT);
    return k->inner->ops->flush_wait(k->inner, err);
}

static struct kv_snap *k_snap_new(struct kv *kv) { return of(kv)->inner->ops->snap_new(of(kv)->inner); }
static void k_snap_free(struct kv *kv, struct kv_snap *s) { of(kv)->inner->ops->snap_free(of(kv)->inner, s); }

static struct kv_iter *k_iter_new(struct kv *kv, struct kv_snap *s, const void *lower, size_t llen, const void *upper, size_t ulen)
{
    struct hkv *k = of(kv);
    /* upper-case tables hold history */
    if (k->h->bug == BUG_HISTORY_BLIND && llen > 0 && ((const char *)lower)[0] == 'D' && ++k->h->bug_calls % 8 == 0)
        upper = lower, ulen = llen;
    return k->inner->ops->iter_new(k->inner, s, lower, llen, upper, ulen);
}

static uint64_t k_memory(struct kv *kv) { return of(kv)->inner->ops->memory(of(kv)->inner); }

static void k_close(struct kv *kv)
{
    struct hkv *k = of(kv);
    kv_close(k->inner);
    free(k);
}

struct kv *hook_kv(struct hook *h, struct kv *inner)
{
    struct hkv *k = calloc(1, sizeof *k);
    if (k == NULL)
        abort();
    k->ops = *inner->ops;
    twin_ops = inner->ops;
    k->ops.get = k_get;
    k->ops.get_persisted = k_get_persisted;
    k->ops.batch_new = k_batch_new;
    k->ops.write = k_write;
    k->ops.flush_start = k_flush_start;
    k->ops.flush_done = k_flush_done;
    k->ops.flush_wait = k_flush_wait;
    k->ops.snap_new = k_snap_new;
    k->ops.snap_scan = k_snap_new;
    k->ops.snap_free = k_snap_free;
    k->ops.iter_new = k_iter_new;
    k->ops.memory = k_memory;
    k->ops.close = k_close;
    k->ops.batch_put = k_batch_put;
    k->ops.batch_del = k_batch_del;
    k->kv.ops = &k->ops;
    k->inner = inner;
    k->h = h;
    return &k->kv;
}
