/*
 * kv.h: the ordered key-value store under the index, behind few functions so
 * that it has two implementations: RocksDB (kv_rocks.c) and an in-memory twin
 * (kv_twin.c) that makes the simulation deterministic; and one that lays the
 * second over the first, for opening read-only (kv_layer.c).
 *
 * Keys order as bytes. One column family, no write-ahead log: what was written
 * but not flushed is lost at a crash, and the log replays it. Only kv_flush
 * makes rows durable; nothing is flushed behind our back.
 *
 * Threads: reads from any thread at any time; kv_write and kv_flush_* by one
 * thread at a time (the applier).
 */
#ifndef STORE_INDEX_KV_H
#define STORE_INDEX_KV_H

#include "store/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { KV_KEY_MAX = 600 };

struct kv;
struct kv_batch;
struct kv_iter;
struct kv_snap;

struct kv_ops {
    /* get: a malloced copy of the value in *val (free it), or ERR_NOENT. */
    int (*get)(struct kv *kv, const void *key, size_t klen, uint8_t **val, size_t *vlen, struct err *err);
    /* get_persisted: as get, but what a crash right now would leave. */
    int (*get_persisted)(struct kv *kv, const void *key, size_t klen, uint8_t **val, size_t *vlen, struct err *err);
    struct kv_batch *(*batch_new)(struct kv *kv);
    void (*batch_put)(struct kv_batch *b, const void *key, size_t klen, const void *val, size_t vlen);
    void (*batch_del)(struct kv_batch *b, const void *key, size_t klen);
    size_t (*batch_bytes)(const struct kv_batch *b);
    void (*batch_clear)(struct kv_batch *b);
    void (*batch_free)(struct kv_batch *b);
    /* write: the whole batch or nothing, visible at once. The batch stays as it is: clear it.
     * Errors: INVAL a key longer than KV_KEY_MAX was put into it; ROFS; IO; NOSPC; NOMEM. */
    int (*write)(struct kv *kv, struct kv_batch *b, struct err *err);
    /* flush_start: everything written so far begins to become durable, in the background;
     * later writes are not part of it. One at a time. flush_wait: until it is durable.
     * flush_done: 1 done (or none was ever begun), 0 under way, < 0 failed; stays so until the next start.
     * flush_start while one is under way: ERR_BUSY. */
    int (*flush_start)(struct kv *kv, struct err *err);
    int (*flush_done)(struct kv *kv, struct err *err);
    int (*flush_wait)(struct kv *kv, struct err *err);
    struct kv_snap *(*snap_new)(struct kv *kv);
    /* snap_scan: as snap_new, for a pass over very much: what its iterators read takes the place of nothing in a cache. */
    struct kv_snap *(*snap_scan)(struct kv *kv);
    void (*snap_free)(struct kv *kv, struct kv_snap *s);
    /* iter_new: over keys in [lower, upper) at snapshot ${s} (NULL: now). Bounds are copied; a NULL bound
     * is none. NULL when out of memory, as are snap_new and batch_new. At no row until the first seek;
     * next and prev from no row do nothing. */
    struct kv_iter *(*iter_new)(struct kv *kv, struct kv_snap *s, const void *lower, size_t llen,
                                const void *upper, size_t ulen);
    void (*iter_seek)(struct kv_iter *it, const void *key, size_t klen);       /* first >= key */
    void (*iter_seek_prev)(struct kv_iter *it, const void *key, size_t klen);  /* last <= key */
    void (*iter_next)(struct kv_iter *it);
    void (*iter_prev)(struct kv_iter *it);
    bool (*iter_valid)(struct kv_iter *it);
    const uint8_t *(*iter_key)(struct kv_iter *it, size_t *len);
    const uint8_t *(*iter_val)(struct kv_iter *it, size_t *len);
    int (*iter_err)(struct kv_iter *it, struct err *err);   /* an iterator that ends early has failed: ask */
    void (*iter_free)(struct kv_iter *it);
    /* checkpoint: what a crash right now would leave, as an index of its own in ${path}, which must not exist (its parent must), durable on return: hard links to files that are never changed.
     * Any thread; reads, writes and flushes go on. NULL: it has no files. Errors: IO, NOSPC. */
    int (*checkpoint)(struct kv *kv, const char *path, struct err *err);
    /* settle: nothing is written for a while, it seems: what was flushed is put in order behind, until the next flush_start. For whoever calls that. NULL: it is always in order. */
    void (*settle)(struct kv *kv);
    /* memory: bytes in memtables and caches. */
    uint64_t (*memory)(struct kv *kv);
    /* close: no flush; what was not flushed is gone, as at a crash (a flush under way may or may not
     * count). All iterators, snapshots and batches must be freed before. */
    void (*close)(struct kv *kv);
};

struct kv { const struct kv_ops *ops; };

struct kv_options {
    uint64_t cache_bytes;   /* block cache */
    bool     read_only;
};

/*
 * kv_rocks_open(path, create, opt, out, err): RocksDB in directory ${path}.
 * Errors: NOENT missing and not ${create}; DAMAGE with RocksDB's text; IO; BUSY (another process).
 */
int kv_rocks_open(const char *path, bool create, const struct kv_options *opt, struct kv **out, struct err *err);

/*
 * kv_layer_open(below, out, err): a store that takes rows in memory on top of ${below}, which is read-only or not to be changed:
 * reads see both, nothing is ever flushed (flush_start: ROFS). Owns ${below} from here on; on failure it stays the caller's. NOMEM.
 */
int kv_layer_open(struct kv *below, struct kv **out, struct err *err);

/*
 * The twin. A kv_twin_disk is its "disk": what was flushed; it outlives the kv, so that a test can
 * close (or drop, as a crash does) and open again. kv_twin_disk_clone: a copy, cheap (shared structure or
 * copy on write), for exploring many cuts from one run. Nothing unflushed ever reaches the disk, and
 * flush_start takes effect at flush_wait/flush_done == 1 (done after a set number of calls), all or nothing.
 */
struct kv_twin_disk;
struct kv_twin_disk *kv_twin_disk_new(void);
struct kv_twin_disk *kv_twin_disk_clone(const struct kv_twin_disk *d);
void kv_twin_disk_free(struct kv_twin_disk *d);
int kv_twin_open(struct kv_twin_disk *disk, struct kv **out, struct err *err);
/* kv_twin_fail_at(kv, n, code): the n-th call from now of write, flush_start or what ends a flush
 * (flush_wait, the flush_done that would return 1) fails, once, and does nothing (0 = off). */
void kv_twin_fail_at(struct kv *kv, unsigned n, int code);

/* kv_no_row(err): ERR_NOENT. A miss is an everyday answer of the hot path: it formats no text. */
static inline int kv_no_row(struct err *err)
{
    static const char text[] = "no such row";

    if (err) {
        err->code = ERR_NOENT;
        for (size_t i = 0; i < sizeof text; i++)
            err->msg[i] = text[i];
    }
    return ERR_NOENT;
}

#define kv_get(kv, ...)           ((kv)->ops->get((kv), __VA_ARGS__))
#define kv_get_persisted(kv, ...) ((kv)->ops->get_persisted((kv), __VA_ARGS__))
#define kv_write(kv, ...)         ((kv)->ops->write((kv), __VA_ARGS__))
#define kv_close(kv)              ((kv)->ops->close(kv))

#endif
