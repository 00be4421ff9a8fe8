/*
 * rows_internal.h: what rows.c and rows_map.c share.
 */
#ifndef STORE_INDEX_ROWS_INTERNAL_H
#define STORE_INDEX_ROWS_INTERNAL_H

#include "store/base/bytes.h"
#include "store/base/err.h"

#include <stddef.h>
#include <stdint.h>

enum { ROW_VERSION = 1 };   /* first byte of each value */
enum { LAYOUT_VERSION = 5 }; /* of the meta row: keys and values as a whole */

/* row_end(w): the length written; the buffer was large enough (our own code says how large). */
size_t row_end(const struct wr *w);

/* row_damage(err, row, what): ERR_DAMAGE for a row of table ${row}. */
int row_damage(struct err *err, const char *row, const char *what);

/* A number near ${base}, either side: the difference mod 2^64, sign in the lowest bit. Any pair of
 * numbers has exactly one encoding. */
static inline void wr_delta(struct wr *w, uint64_t v, uint64_t base)
{
    uint64_t d = v - base;

    wr_var(w, d >> 63 ? ~(d << 1) : d << 1);
}

static inline uint64_t rd_delta(struct rd *r, uint64_t base)
{
    uint64_t z = rd_var(r);

    return base + (z & 1 ? ~(z >> 1) : z >> 1);
}

/* rd_var32(r): a varint that must fit 32 bits. */
static inline uint32_t rd_var32(struct rd *r)
{
    uint64_t v = rd_var(r);

    if (v > UINT32_MAX)
        r->bad = true;
    return r->bad ? 0 : (uint32_t)v;
}

#endif
