/*
 * asof.h: rows as they were at a moment T (inclusive: everything up to LSN T), read from the key-value store, which must
 * have applied T. As of T: the current row if born <= T; else the history row with the smallest death > T, if born <= T;
 * else nothing. What is hidden (rows.h) is of no moment: rows of the present that are so do not count, of t UINT64_MAX, the present, they do.
 * In this order a point look-up needs no snapshot: a row that moves to history meanwhile is found there.
 * Scans use one snapshot.
 *
 * Threads: any. Errors of all: NOENT, DAMAGE, IO, NOMEM.
 */
#ifndef STORE_INDEX_ASOF_H
#define STORE_INDEX_ASOF_H

#include "store/index/kv.h"
#include "store/index/rows.h"

/* asof_ino: *${target} (may be NULL) gets the malloced target of a symlink, row->target_len bytes, else NULL. */
int asof_ino(struct kv *kv, uint64_t t, uint64_t ino, struct row_ino *row, char **target, struct err *err);
int asof_den(struct kv *kv, uint64_t t, uint64_t parent, const void *name, size_t nlen, struct row_den *row, struct err *err);
/* asof_xat: *${val} malloced, *${len} bytes. */
int asof_xat(struct kv *kv, uint64_t t, uint64_t ino, const void *name, size_t nlen, uint8_t **val, size_t *len, struct err *err);
/* asof_map: pieces of a block, ascending, all that lie in its bytes [from, to) and maybe others; free map->piece. An empty map is no error. */
int asof_map(struct kv *kv, uint64_t t, uint64_t ino, uint64_t mapgen, uint64_t block, uint32_t from, uint32_t to, struct row_map *map,
             struct err *err);

/* A listing, ordered by cookie: all entries with cookies in (after, last]; last is UINT64_MAX when there are none beyond. */
struct asof_entry { uint64_t cookie, ino; uint32_t type; bool hidden; uint32_t name_len; char *name; };
struct asof_list { struct asof_entry *v; size_t n, cap, bytes; uint64_t after, last; };
int  asof_readdir(struct kv *kv, uint64_t t, uint64_t dir, struct asof_list *out, struct err *err);
/* asof_readdir_from: the entries behind ${after}, as many as take about ${max_bytes}; while it works twice that. At least one, if there is one.
 * Of the present (t UINT64_MAX) it reads what it returns, of a moment all history of the directory since. */
int  asof_readdir_from(struct kv *kv, uint64_t t, uint64_t dir, uint64_t after, size_t max_bytes, struct asof_list *out, struct err *err);
void asof_list_free(struct asof_list *l);

/* Names of all xattrs, and all (parent, name) of an inode. fn nonzero stops. */
int asof_listxattr(struct kv *kv, uint64_t t, uint64_t ino, int (*fn)(void *arg, const void *name, size_t nlen), void *arg, struct err *err);
int asof_parents(struct kv *kv, uint64_t t, uint64_t ino,
                 int (*fn)(void *arg, uint64_t parent, const char *name, size_t nlen), void *arg, struct err *err);

/* asof_blocks: calls fn for each block of (ino, mapgen) in [b0, b1] that has a current map row. Extents for SEEK_DATA: a block
 * without one reads as zeros at every moment of that mapgen. */
int asof_blocks(struct kv *kv, uint64_t ino, uint64_t mapgen, uint64_t b0, uint64_t b1, int (*fn)(void *arg, uint64_t block), void *arg, struct err *err);

#endif
