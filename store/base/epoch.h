/*
 * epoch.h: rows of the epoch table: which primary gave out the addresses from where on. FORMAT.md, "Superblock".
 *
 * A table is rows rising by number and by LSN. Two tables of one lineage agree up to some row and part there, or one is the beginning of
 * the other.
 *
 * Threads: pure functions.
 */
#ifndef STORE_BASE_EPOCH_H
#define STORE_BASE_EPOCH_H

#include "store/base/bytes.h"
#include "store/base/hash.h"

#include <stdint.h>

enum { EPOCH_ROW_BYTES = 80 };

struct epoch_row {
    uint32_t number;            /* epoch number, from 1 */
    uint8_t  site[16];          /* the site that was primary */
    uint8_t  id[16];            /* random id of the epoch */
    uint64_t first_lsn;         /* LSN of its EPOCH record */
    struct hash128 prev_hash;   /* hash of the record before it; zero for the first */
    uint8_t  lineage[16];       /* what the store was then: a fork begins one of its own, and keeps the segments before */
    uint32_t reserved;          /* zero, or a newer program's */
};

/* epoch_row_put(w, e), epoch_row_get(r, e): the ${EPOCH_ROW_BYTES} of a row; a cursor that ran out says so itself. */
void epoch_row_put(struct wr *w, const struct epoch_row *e);
void epoch_row_get(struct rd *r, struct epoch_row *e);

/* epoch_row_wrong(e, before): NULL, or what ${e} may not be behind ${before} (NULL: it is the first): a few words. */
const char *epoch_row_wrong(const struct epoch_row *e, const struct epoch_row *before);

/* epoch_common(a, na, b, nb): rows both tables begin with. (Tables that lost rows at the front are not compared yet.) */
uint32_t epoch_common(const struct epoch_row *a, uint32_t na, const struct epoch_row *b, uint32_t nb);

/* epoch_held(e, n, end): rows of which a log that ends at ${end} has the record, and the first one. Those behind point to where their record would have been, or beyond: a cut took it. */
uint32_t epoch_held(const struct epoch_row *e, uint32_t n, uint64_t end);

/*
 * epoch_fork(a, na, a_end, b, nb, b_end): an upper bound of the address up to which both hold the same: the smaller of the two ends of the
 * last row they share; 0 where they share none. ${a_end}, ${b_end}: where each one's log ends.
 */
uint64_t epoch_fork(const struct epoch_row *a, uint32_t na, uint64_t a_end, const struct epoch_row *b, uint32_t nb, uint64_t b_end);

/*
 * epoch_kin(a, na, a_lineage, b, nb, b_lineage, buf, cap): of two stores of different lineages, what the one at ${b} is to the one at ${a}, as words that follow "a store of another lineage":
 * forked from it (spare fork, or a copy that was told so), or the other way round, or both from a third; "" where they have nothing in common. Returns ${buf}; EPOCH_KIN_MAX bytes are enough.
 */
enum { EPOCH_KIN_MAX = 128 };
const char *epoch_kin(const struct epoch_row *a, uint32_t na, const uint8_t a_lineage[16], const struct epoch_row *b, uint32_t nb, const uint8_t b_lineage[16], char *buf, size_t cap);

#endif
