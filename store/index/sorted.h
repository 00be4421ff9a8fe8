/*
 * sorted.h: rows to be put and deleted, handed on in the order of their keys and each key once: as its last row says. Keys order as bytes.
 *
 * RocksDB's table in memory is a skip list that begins where the row before went in: in order a row costs it a few comparisons, in the
 * order of records a walk from the top through memory that is in no cache.
 *
 * Threads: one at a time. Owns copies of all keys and values.
 */
#ifndef STORE_INDEX_SORTED_H
#define STORE_INDEX_SORTED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sorted {
    uint8_t *mem;                 /* for each row: lengths, key, value */
    size_t len, cap;
    struct sorted_row *row;
    size_t n, rows_cap;
    bool failed;                  /* out of memory: rows are missing */
};

/* A zeroed struct is empty. */
void sorted_release(struct sorted *s);
/* sorted_clear: empty, its memory kept for the next ones unless it is much. */
void sorted_clear(struct sorted *s);

/* sorted_add(s, key, klen, val, vlen): a row to be put; a val of NULL: to be deleted. both lengths < UINT32_MAX. */
void sorted_add(struct sorted *s, const void *key, size_t klen, const void *val, size_t vlen);

/* sorted_each(s, fn, arg): fn for the last row of each key, in order; val NULL: deleted. Pointers hold for the call. */
typedef void (*sorted_fn)(void *arg, const void *key, size_t klen, const void *val, size_t vlen);
void sorted_each(struct sorted *s, sorted_fn fn, void *arg);

#endif
