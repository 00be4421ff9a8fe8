/*
 * kv_twin.c: the index's key-value store in memory, for the simulation.
 *
 * Rows are in a treap (treap.h): a snapshot, a flush and a copy of the "disk"
 * are one reference to a root. A batch builds its own tree beside the visible
 * one, and becomes visible by one exchange of the root.
 *
 * Locking: kv_twin_disk.lock guards the disk's root, kv_twin.lock the visible
 * root; neither is held while a tree is walked or freed.
 */
#include "store/index/kv.h"
#include "store/index/treap.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* How often flush_done answers "under way" before it answers "done". */
enum { FLUSH_CALLS = 2 };

struct kv_twin_disk {
    pthread_mutex_t lock;
    struct treap tree;
    bool open;                 /* by a kv */
};

struct kv_twin {
    struct kv kv;
    pthread_mutex_t lock;
    struct treap tree;         /* visible; lock */
    struct kv_twin_disk *disk;
    /* the applier's thread only */
    struct treap pending;      /* being flushed */
    bool flushing;
    unsigned flush_calls;      /* left until done */
    int flush_failed;          /* code of the last flush, 0 = it went well */
    unsigned fail_in;          /* calls until one fails; 0 = none will */
    int fail_code;
};

struct kv_snap { struct treap_node *root; };

struct kv_batch {
    uint8_t *buf;
    size_t len, cap;
    int failed;                /* code; a batch that lost a row is never written */
};

struct kv_iter { struct treap_cursor c; };

/* Roots that several threads see */

static struct treap root_get(pthread_mutex_t *lock, const struct treap *t)
{
    struct treap r;

    pthread_mutex_lock(lock);
    r = treap_ref(t);
    pthread_mutex_unlock(lock);
    return r;
}

/* Consumes ${t}. The old tree is let go of outside the lock: that may be long. */
static void root_set(pthread_mutex_t *lock, struct treap *at, struct treap t)
{
    struct treap old;

    pthread_mutex_lock(lock);
    old = *at;
    *at = t;
    pthread_mutex_unlock(lock);
    treap_node_unref(old.root);
}

static struct kv_twin *twin(struct kv *kv)
{
    return (struct kv_twin *)kv;
}

/* Reads */

static int get_from(struct treap t, const void *key, size_t klen, uint8_t **val, size_t *vlen, struct err *err)
{
    const struct treap_row *e = treap_get(t.root, key, klen);
    int rc = 0;

    if (e) {
        *val = malloc(e->vlen ? e->vlen : 1);
        if (*val)
            memcpy(*val, e->bytes + e->klen, e->vlen);
        else
            rc = err_set(err, ERR_NOMEM, "a value of %u bytes", e->vlen);
        *vlen = e->vlen;
    } else {
        rc = kv_no_row(err);
    }
    treap_node_unref(t.root);
    return rc;
}

static int twin_get(struct kv *kv, const void *key, size_t klen, uint8_t **val, size_t *vlen, struct err *err)
{
    struct kv_twin *t = twin(kv);

    return get_from(root_get(&t->lock, &t->tree), key, klen, val, vlen, err);
}

static int twin_get_persisted(struct kv *kv, const void *key, size_t klen, uint8_t **val, size_t *vlen,
                              struct err *err)
{
    struct kv_twin *t = twin(kv);

    return get_from(root_get(&t->disk->lock, &t->disk->tree), key, klen, val, vlen, err);
}

/* Batches: "op, klen, vlen, key, value" one after another; op is 1 for put, 0 for delete. */

struct batch_op { uint32_t put, klen, vlen; };

static struct kv_batch *twin_batch_new(struct kv *kv)
{
    (void)kv;
    return calloc(1, sizeof(struct kv_batch));
}

static void batch_add(struct kv_batch *b, uint32_t put, const void *key, size_t klen, const void *val, size_t vlen)
{
    struct batch_op op = { put, (uint32_t)klen, (uint32_t)vlen };
    size_t end = b->len + sizeof op + klen + vlen;

    if (klen > KV_KEY_MAX || vlen > UINT32_MAX / 2) {
        b->failed = ERR_INVAL;
        return;
    }
    if (end > b->cap) {
        size_t cap = end * 2;
        uint8_t *p = realloc(b->buf, cap);

        if (!p) {
            b->failed = ERR_NOMEM;
            return;
        }
        b->buf = p;
        b->cap = cap;
    }
    memcpy(b->buf + b->len, &op, sizeof op);
    if (klen)
        memcpy(b->buf + b->len + sizeof op, key, klen);
    if (vlen)
        memcpy(b->buf + b->len + sizeof op + klen, val, vlen);
    b->len = end;
}

static void twin_batch_put(struct kv_batch *b, const void *key, size_t klen, const void *val, size_t vlen)
{
    batch_add(b, 1, key, klen, val, vlen);
}

static void twin_batch_del(struct kv_batch *b, const void *key, size_t klen)
{
    batch_add(b, 0, key, klen, NULL, 0);
}

static size_t twin_batch_bytes(const struct kv_batch *b)
{
    return b->len;
}

static void twin_batch_clear(struct kv_batch *b)
{
    b->len = 0;
    b->failed = 0;
}

static void twin_batch_free(struct kv_batch *b)
{
    if (b)
        free(b->buf);
    free(b);
}

/* Is this the call that shall fail? */
static int planned_failure(struct kv_twin *t, const char *what, struct err *err)
{
    if (t->fail_in == 0 || --t->fail_in > 0)
        return 0;
    return err_set(err, t->fail_code, "%s: planned failure", what);
}

static int twin_write(struct kv *kv, struct kv_batch *b, struct err *err)
{
    struct kv_twin *t = twin(kv);
    struct treap now;
    int rc = planned_failure(t, "write", err);

    if (rc)
        return rc;
    if (b->failed)
        return err_set(err, b->failed, "a row did not fit the batch");
    now = root_get(&t->lock, &t->tree);
    for (size_t at = 0; at < b->len;) {
        struct batch_op op;
        const uint8_t *key;

        memcpy(&op, b->buf + at, sizeof op);
        key = b->buf + at + sizeof op;
        if (op.put)
            treap_put(&now, key, op.klen, key + op.klen, op.vlen);
        else
            treap_del(&now, key, op.klen);
        at += sizeof op + op.klen + op.vlen;
    }
    root_set(&t->lock, &t->tree, now);
    return 0;
}

/* Flush */

static int twin_flush_start(struct kv *kv, struct err *err)
{
    struct kv_twin *t = twin(kv);
    int rc = planned_failure(t, "flush", err);

    if (rc)
        return rc;
    if (t->flushing)
        return err_set(err, ERR_BUSY, "a flush is under way");
    t->pending = root_get(&t->lock, &t->tree);
    t->flushing = true;
    t->flush_calls = FLUSH_CALLS;
    t->flush_failed = 0;
    return 0;
}

/* The flush ends here, well or not. */
static int flush_end(struct kv_twin *t, struct err *err)
{
    t->flushing = false;
    t->flush_failed = planned_failure(t, "flush", err);
    if (t->flush_failed)
        treap_node_unref(t->pending.root);
    else
        root_set(&t->disk->lock, &t->disk->tree, t->pending);
    t->pending = (struct treap){ 0 };
    return t->flush_failed;
}

static int twin_flush_done(struct kv *kv, struct err *err)
{
    struct kv_twin *t = twin(kv);
    int rc;

    if (t->flushing) {
        if (t->flush_calls > 0) {
            t->flush_calls--;
            return 0;
        }
        rc = flush_end(t, err);
        return rc ? rc : 1;
    }
    if (t->flush_failed)
        return err_set(err, t->flush_failed, "the last flush failed");
    return 1;
}

static int twin_flush_wait(struct kv *kv, struct err *err)
{
    struct kv_twin *t = twin(kv);

    if (t->flushing)
        return flush_end(t, err);
    return t->flush_failed ? err_set(err, t->flush_failed, "the last flush failed") : 0;
}

/* Snapshots and iterators */

static struct kv_snap *twin_snap_new(struct kv *kv)
{
    struct kv_twin *t = twin(kv);
    struct kv_snap *s = malloc(sizeof *s);

    if (s)
        s->root = root_get(&t->lock, &t->tree).root;
    return s;
}

static void twin_snap_free(struct kv *kv, struct kv_snap *s)
{
    (void)kv;
    if (s)
        treap_node_unref(s->root);
    free(s);
}

static struct kv_iter *twin_iter_new(struct kv *kv, struct kv_snap *s, const void *lower, size_t llen,
                                     const void *upper, size_t ulen)
{
    struct kv_twin *t = twin(kv);
    struct kv_iter *it = malloc(sizeof *it);

    if (it)
        treap_cursor_init(&it->c, s ? treap_node_ref(s->root) : root_get(&t->lock, &t->tree).root,
                          lower, llen, upper, ulen);
    return it;
}

static void twin_iter_seek(struct kv_iter *it, const void *key, size_t klen)
{
    treap_cursor_seek(&it->c, key, klen);
}

static void twin_iter_seek_prev(struct kv_iter *it, const void *key, size_t klen)
{
    treap_cursor_seek_prev(&it->c, key, klen);
}

static void twin_iter_next(struct kv_iter *it)
{
    treap_cursor_next(&it->c);
}

static void twin_iter_prev(struct kv_iter *it)
{
    treap_cursor_prev(&it->c);
}

static bool twin_iter_valid(struct kv_iter *it)
{
    return it->c.depth > 0;
}

static const uint8_t *twin_iter_key(struct kv_iter *it, size_t *len)
{
    const struct treap_row *row = treap_cursor_row(&it->c);

    *len = row->klen;
    return row->bytes;
}

static const uint8_t *twin_iter_val(struct kv_iter *it, size_t *len)
{
    const struct treap_row *row = treap_cursor_row(&it->c);

    *len = row->vlen;
    return row->bytes + row->klen;
}

static int twin_iter_err(struct kv_iter *it, struct err *err)
{
    (void)it;
    (void)err;
    return 0;
}

static void twin_iter_free(struct kv_iter *it)
{
    if (it)
        treap_cursor_release(&it->c);
    free(it);
}

/* Life */

static uint64_t twin_memory(struct kv *kv)
{
    struct kv_twin *t = twin(kv);
    uint64_t bytes;

    pthread_mutex_lock(&t->lock);
    bytes = t->tree.bytes;
    pthread_mutex_unlock(&t->lock);
    return bytes;
}

static void twin_close(struct kv *kv)
{
    struct kv_twin *t = twin(kv);

    if (!t)
        return;
    treap_node_unref(t->tree.root);
    treap_node_unref(t->pending.root);
    pthread_mutex_lock(&t->disk->lock);
    t->disk->open = false;
    pthread_mutex_unlock(&t->disk->lock);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

static const struct kv_ops twin_ops = {
    .get = twin_get,
    .get_persisted = twin_get_persisted,
    .batch_new = twin_batch_new,
    .batch_put = twin_batch_put,
    .batch_del = twin_batch_del,
    .batch_bytes = twin_batch_bytes,
    .batch_clear = twin_batch_clear,
    .batch_free = twin_batch_free,
    .write = twin_write,
    .flush_start = twin_flush_start,
    .flush_done = twin_flush_done,
    .flush_wait = twin_flush_wait,
    .snap_new = twin_snap_new,
    .snap_scan = twin_snap_new,
    .snap_free = twin_snap_free,
    .iter_new = twin_iter_new,
    .iter_seek = twin_iter_seek,
    .iter_seek_prev = twin_iter_seek_prev,
    .iter_next = twin_iter_next,
    .iter_prev = twin_iter_prev,
    .iter_valid = twin_iter_valid,
    .iter_key = twin_iter_key,
    .iter_val = twin_iter_val,
    .iter_err = twin_iter_err,
    .iter_free = twin_iter_free,
    .memory = twin_memory,
    .close = twin_close,
};

struct kv_twin_disk *kv_twin_disk_new(void)
{
    struct kv_twin_disk *d = calloc(1, sizeof *d);

    if (d)
        pthread_mutex_init(&d->lock, NULL);
    return d;
}

struct kv_twin_disk *kv_twin_disk_clone(const struct kv_twin_disk *d)
{
    struct kv_twin_disk *c = kv_twin_disk_new();

    /* The lock is the only thing of ${d} that is changed. */
    if (c)
        c->tree = root_get(&((struct kv_twin_disk *)(uintptr_t)d)->lock, &d->tree);
    return c;
}

void kv_twin_disk_free(struct kv_twin_disk *d)
{
    if (!d)
        return;
    treap_node_unref(d->tree.root);
    pthread_mutex_destroy(&d->lock);
    free(d);
}

int kv_twin_open(struct kv_twin_disk *disk, struct kv **out, struct err *err)
{
    struct kv_twin *t = calloc(1, sizeof *t);

    if (!t)
        return err_set(err, ERR_NOMEM, "kv_twin_open");
    pthread_mutex_lock(&disk->lock);
    if (disk->open) {
        pthread_mutex_unlock(&disk->lock);
        free(t);
        return err_set(err, ERR_BUSY, "the twin's disk is open already");
    }
    disk->open = true;
    t->tree = treap_ref(&disk->tree);
    pthread_mutex_unlock(&disk->lock);
    pthread_mutex_init(&t->lock, NULL);
    t->kv.ops = &twin_ops;
    t->disk = disk;
    *out = &t->kv;
    return 0;
}

void kv_twin_fail_at(struct kv *kv, unsigned n, int code)
{
    struct kv_twin *t = twin(kv);

    t->fail_in = n;
    t->fail_code = code;
}
