/*
 * index.h: the rows of a store, kept by applying records in LSN order.
 *
 * Apply is one function, used by the live path, recovery, rebuild and standby: it changes current rows in memory
 * (cache.h) and puts history rows into the batch being filled. Draining moves that batch to the key-value store.
 *
 * Locking: everything under the caller's one lock, except index_drain_write. Threads: see there.
 */
#ifndef STORE_INDEX_INDEX_H
#define STORE_INDEX_INDEX_H

#include "store/index/cache.h"
#include "store/log/record.h"

struct index {
    struct kv *kv;
    struct cache cache;
    struct row_meta meta;          /* as of the last record applied in memory */
    struct kv_batch *filling;      /* history and other rows not kept in the cache */
    struct kv_batch *draining;     /* being written by index_drain_write */
    uint64_t drain_to;             /* applied address of the draining batch */
    uint64_t applied;              /* exclusive end: what the key-value store holds */
    uint64_t pending_ops;          /* records in the batch being filled */
    uint64_t draining_ops;
    struct piece *scratch;         /* for map edits */
    uint32_t scratch_cap;
    uint8_t *row_scratch;          /* and for a row of them as bytes */
    size_t row_scratch_cap;
    bool broken;                   /* apply failed in the middle: what is in memory must never be put */
};

/*
 * index_files_heal(io, err): after RocksDB refused to open ${io}'s index/ for writing: mend what a power cut may have left of the
 * files that say what is in it. 1: something was changed, opening again may help; 0: nothing to mend. Errors: IO, NOSPC.
 */
struct io;
int index_files_heal(struct io *io, struct err *err);

/*
 * index_files_replace(io, err): not open: what is there becomes INDEX_REPLACED, and there is no index. index_files_bring_back: it is the index again, whatever was
 * made since. index_files_discard: its files go (the empty directory stays). Errors: IO; NOENT there is none (of replace: that is no failure).
 */
#define INDEX_REPLACED "index.replaced"
int index_files_replace(struct io *io, struct err *err);
int index_files_bring_back(struct io *io, struct err *err);
int index_files_discard(struct io *io, struct err *err);

/*
 * index_open(ix, kv, err): start from what the key-value store holds; an empty one starts at address 0.
 * Errors: DAMAGE, NOMEM, IO. Release with index_release (the kv is the caller's).
 */
int  index_open(struct index *ix, struct kv *kv, struct err *err);
void index_release(struct index *ix);

/*
 * index_apply(ix, rec, err): apply one record; rec->lsn >= ix->meta.applied. Advances meta.applied to its end.
 * Errors: DAMAGE where the record contradicts the rows (names both), IO, NOMEM. After any failure the rows in
 * memory are undefined: drop the index and recover.
 */
int index_apply(struct index *ix, const struct record *rec, struct err *err);

/*
 * Draining: begin (under the lock) takes all that is pending, returns 1, or 0 if there is nothing; write (without the lock,
 * one thread) puts it into the key-value store atomically with the meta row; end (under the lock).
 */
int  index_drain_begin(struct index *ix, struct err *err);
int  index_drain_write(struct index *ix, struct err *err);
void index_drain_end(struct index *ix);

/*
 * index_trim(ix, t): rows that nobody needs any more go, with the next drain, and what is counted of them. They must be in the key-value store, of tables
 * that the cache does not have or of inodes that are no more.
 */
struct index_trim { const uint8_t *keys; size_t n; uint64_t past, held; };    /* n keys, each a u16 length and so many bytes; what they take from meta.n_past, n_held */
void index_trim(struct index *ix, const struct index_trim *t);

/* index_pending_bytes: rows and batches not yet in the key-value store, roughly. */
size_t index_pending_bytes(const struct index *ix);

/* acl_mode(val, len, mode): the permission bits an access ACL stands for, merged into ${mode}; false: not a valid ACL. */
bool acl_mode(const uint8_t *val, size_t len, uint32_t *mode);

/* index_fold_range(row, off, len): the longest run of adjacent pieces each shorter than 16 KiB in a map row with more than
 * BLOCK_PIECES_MAX pieces; false if none is worth folding. */
bool index_fold_range(const struct row_map *map, uint32_t *off, uint32_t *len);

#endif
