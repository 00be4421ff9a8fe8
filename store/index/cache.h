/*
 * cache.h: rows in memory: cache and overlay in one.
 *
 * Every current row that a not yet applied record has changed is here (dirty or draining) and cannot be
 * evicted; so what is not here is in the key-value store as it must be read. Absence is a row too.
 *
 * Locking: everything under the caller's one lock (store.c). A struct crow * is valid until the lock is
 * released or cache_trim is called, whichever is first.
 */
#ifndef STORE_INDEX_CACHE_H
#define STORE_INDEX_CACHE_H

#include "store/index/kv.h"
#include "store/index/rows.h"

enum crow_kind { CROW_INO = 1, CROW_DEN, CROW_MAP, CROW_XAT };

struct crow {
    struct crow *hash_next;
    struct crow *lru_prev, *lru_next;   /* clean rows only */
    struct crow *dirty_next;            /* list of the batch being filled */
    struct crow *drain_next;            /* list of the batch being written */
    uint64_t hash;
    uint64_t ino;                       /* INO, MAP, XAT: inode; DEN: parent */
    uint64_t mapgen, block;             /* MAP */
    uint8_t  kind;
    bool     present;                   /* false: known not to exist */
    bool     dirty, draining;
    uint16_t name_len;                  /* DEN, XAT */
    uint32_t val_len;                   /* XAT */
    uint64_t lsn;                       /* last change; 0 as loaded */
    char    *name;                      /* DEN, XAT: owned */
    union {
        struct { struct row_ino row; char *target; uint64_t dir_lsn; bool synced, whole; int64_t last_op_ns; } ino;
        struct row_den den;
        struct { struct row_map row; uint32_t cap; } map;
        struct { uint64_t birth; uint8_t *val; } xat;
    } u;
};

struct cache {
    struct kv *kv;
    struct crow **bucket;
    size_t n_buckets, n_rows;
    struct crow lru;                    /* list head: next = newest */
    struct crow *dirty;                 /* rows of the batch being filled */
    struct crow *draining;              /* rows of the batch being written */
    size_t bytes;                       /* memory of all rows */
    uint64_t evictions;                 /* counts removals: see cache_insert_loaded */
    uint64_t hits, misses;
};

int  cache_init(struct cache *c, struct kv *kv, struct err *err);
void cache_release(struct cache *c);

/*
 * cache_ino(c, ino, out, err) and so on: the row, loaded from the key-value store if it is not in
 * memory. *${out} is never NULL on success; look at (*out)->present. Errors: IO, DAMAGE, NOMEM.
 */
int cache_ino(struct cache *c, uint64_t ino, struct crow **out, struct err *err);
int cache_den(struct cache *c, uint64_t parent, const void *name, size_t nlen, struct crow **out, struct err *err);
int cache_map(struct cache *c, uint64_t ino, uint64_t mapgen, uint64_t block, struct crow **out, struct err *err);
int cache_xat(struct cache *c, uint64_t ino, const void *name, size_t nlen, struct crow **out, struct err *err);

/* cache_fresh_map: as cache_map for a row known not to be in the key-value store (new mapgen): no look-up. */
int cache_fresh(struct cache *c, enum crow_kind kind, uint64_t ino, uint64_t mapgen, uint64_t block,
                const void *name, size_t nlen, struct crow **out, struct err *err);

/*
 * cache_whole(row): the directory was just made, so that what names it has is in memory. Until one of them is evicted, a name that is not
 * here does not exist, and is not looked for elsewhere: that look-up was a thirteenth of what unpacking a tree cost.
 */
void cache_whole(struct crow *row);
bool cache_is_whole(struct cache *c, uint64_t dir);

/* cache_peek: the row if it is in memory, else NULL. */
struct crow *cache_peek(struct cache *c, enum crow_kind kind, uint64_t ino, uint64_t mapgen, uint64_t block,
                        const void *name, size_t nlen);

/*
 * Loading outside the lock: cache_load reads and decodes a row without touching the cache (no lock needed);
 * cache_insert_loaded adds it under the lock unless the row came in meanwhile or any row was evicted since
 * ${evictions} was read (then the caller loads again): what was read may be older than what was evicted.
 * Returns 1 added or present, 0 load again.
 */
int cache_load(struct kv *kv, enum crow_kind kind, uint64_t ino, uint64_t mapgen, uint64_t block,
               const void *name, size_t nlen, struct crow **out, struct err *err);
int cache_insert_loaded(struct cache *c, struct crow *row, uint64_t evictions);

/* cache_dirty(c, row, lsn): the row was changed by ${lsn}: keep it and put it in the next batch. */
void cache_dirty(struct cache *c, struct crow *row, uint64_t lsn);

/* cache_map_reserve(row, n): room for ${n} pieces. */
int cache_map_reserve(struct cache *c, struct crow *row, uint32_t n);
/* Owned values. */
int cache_set_target(struct cache *c, struct crow *row, const void *p, size_t len);
int cache_set_val(struct cache *c, struct crow *row, const void *p, size_t len);

/* cache_encode(row, batch): put or delete the row in ${batch}. */
int cache_encode(struct kv *kv, const struct crow *row, struct kv_batch *b);

/* cache_drain_begin: the dirty rows become the draining ones, encoded into ${b}. cache_drain_end: they are in the kv. */
int  cache_drain_begin(struct cache *c, struct kv_batch *b);
void cache_drain_end(struct cache *c);

/* cache_trim(c, max_bytes): evict clean rows, oldest first. */
void cache_trim(struct cache *c, size_t max_bytes);

#endif
