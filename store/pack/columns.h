/*
 * columns.h: many small numbers as bytes: columns of vars, each with its length before it. FORMAT.md, "Archive" and "Packs".
 *
 * Threads: one object, one thread.
 */
#ifndef STORE_PACK_COLUMNS_H
#define STORE_PACK_COLUMNS_H

#include "store/base/bytes.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* zz(diff), zz_get(v): a signed difference as an unsigned number and back; differences are modulo 2^64. */
static inline uint64_t zz(uint64_t diff)
{
    return diff << 1 ^ (0 - (diff >> 63));
}

static inline uint64_t zz_get(uint64_t v)
{
    return v >> 1 ^ (0 - (v & 1));
}

enum { COLUMNS_MAX = 40 };

/* Columns being written. All zero to begin with; columns_release frees. After NOMEM (`bad`) nothing counts. */
struct columns { struct { uint8_t *p; size_t len, cap; } col[COLUMNS_MAX]; bool bad; };
void columns_var(struct columns *c, unsigned col, uint64_t v);
void columns_bytes(struct columns *c, unsigned col, const void *p, size_t len);
size_t columns_len(const struct columns *c);                /* bytes in all columns, without their lengths */
/* columns_take(c, which, n, buf, cap): the columns which[0..n) one behind the other, each with its length; returns the bytes, 0 if ${cap} is too small. */
size_t columns_take(const struct columns *c, const unsigned *which, size_t n, uint8_t *buf, size_t cap);
void columns_clear(struct columns *c);                      /* empty again; keeps the memory */
void columns_release(struct columns *c);

/* columns_next(r, out): the next column of ${r}: a cursor over its bytes; false (and r->bad) when its length does not fit. */
bool columns_next(struct rd *r, struct rd *out);

#endif
