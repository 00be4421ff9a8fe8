/*
 * packer.h: moves what is old out of the log: data into packs, records into the archive, and lets the log's segments go.
 * store/maint/DESIGN.md has the order of steps, and what a crash at each leaves.
 *
 * Threads: any; one step at a time (store_maint_begin). It takes the store's own locks for moments only.
 */
#ifndef STORE_MAINT_PACKER_H
#define STORE_MAINT_PACKER_H

#include "store/core/store.h"

/*
 * Which records of a part of the log have data that some moment needs: a bit for each place where a record may begin (they lie at least NEEDED_GRAIN bytes apart).
 * needed_new: of [first, end), none yet; NULL: no memory. Filled by reclaim, which then is through with all records below ${end}.
 */
enum { NEEDED_GRAIN = 128 };
struct needed { uint64_t first, end; uint8_t *bits; };
struct needed *needed_new(uint64_t first, uint64_t end);
void needed_free(struct needed *n);
static inline void needed_set(struct needed *n, uint64_t lsn)
{
    if (lsn >= n->first && lsn < n->end)
        n->bits[(lsn - n->first) / NEEDED_GRAIN / 8] |= (uint8_t)(1u << (lsn - n->first) / NEEDED_GRAIN % 8);
}
static inline bool needed_has(const struct needed *n, uint64_t lsn)
{
    return lsn < n->first || lsn >= n->end || (n->bits[(lsn - n->first) / NEEDED_GRAIN / 8] >> (lsn - n->first) / NEEDED_GRAIN % 8 & 1);
}

struct packer_options {
    const struct needed *needed;     /* data of other records are not packed, and gone with the log; NULL: all are */
    int (*stop)(void *arg);          /* asked at each chunk and every some records: nonzero ends a step early, at most with the archive one file ahead; may be NULL */
    void *arg;
};

/* What the last step did. */
struct packer_result {
    uint64_t first, end;             /* addresses */
    uint64_t records, data_bytes;    /* of the records there */
    uint64_t chunks, known, deltas, chunk_bytes;     /* new ones, those that were there already, new ones stored as a difference; bytes of the new ones */
    uint64_t pack_bytes, archive_bytes;              /* of the files */
};

/*
 * packer_step(s, opt, upto, res, err):
 * Packs whole segments that end by ${upto}, are durable and in the persisted index, as many as one pack takes: 1; 0: there are none; and lets segments
 * go that need not be in the log any more. *${res} (may be NULL) is of this step. BUSY: told to stop.
 * Errors: NOSPC, IO, DAMAGE (a record or its data cannot be read: the log keeps them), POISONED. Nothing is lost by any: the step is done again.
 */
int packer_step(struct store *s, const struct packer_options *opt, uint64_t upto, struct packer_result *res, struct err *err);

/* packer_from(s): the address from which on nothing is packed yet; 0: nothing is. Where a pack is gone further down that is what hangs together with the log. */
uint64_t packer_from(struct store *s);

#endif
