/*
 * packs_mark.h: which chunks of the packs are needed, and packs made anew without the others.
 *
 * Whoever knows what is needed names it (packs_mark_data). A chunk is needed if something needed is in it, or if a needed one is a difference to it. What
 * stays as it is (packs_mark_all) needs all it has: a pack never names what is not there. Packs that were added since the marks began are of that kind.
 *
 * Threads: one for a set of marks; packs_rewrite and packs_mark_new with nobody else who makes packs (store_maint_begin).
 */
#ifndef STORE_PACK_PACKS_MARK_H
#define STORE_PACK_PACKS_MARK_H

#include "store/pack/packs.h"

struct packs_mark;

/* packs_mark_new(ps, out, err): of the packs there are now. A bit for each chunk and each entry of their tables, and 4 MiB. A pack that cannot be read, or of which
 * a part is of a branch, stays as it is. Errors: NOMEM, IO. */
int  packs_mark_new(struct packs *ps, struct packs_mark **out, struct err *err);
void packs_mark_free(struct packs_mark *m);

/* packs_mark_data(m, lsn, doff, len, err): these bytes of the data of that record are needed. In any order. packs_mark_flush: after the last.
 * Errors: DAMAGE there is no such data though its pack can be read; IO, NOMEM. */
int  packs_mark_data(struct packs_mark *m, uint64_t lsn, uint32_t doff, uint32_t len, struct err *err);
int  packs_mark_flush(struct packs_mark *m, struct err *err);

/* packs_mark_from(m, lsn, of, arg, err): all data of the records from ${lsn} on, so far as they are in packs; of those inodes alone that ${of} says yes to (NULL: of all). */
int  packs_mark_from(struct packs_mark *m, uint64_t lsn, bool (*of)(void *arg, uint64_t ino), void *arg, struct err *err);

/* What was found of the i-th pack, by address, i < packs_mark_n. fixed: it stays as it is; blind: for it cannot be read, or overlaps another: then nothing may be let go of. stored: bytes of frames; needed: of them, by what is in them. */
struct packs_use { uint64_t first, end, gen, bytes, stored, needed; uint32_t chunks, chunks_needed, entries, entries_needed; bool fixed, blind; };
size_t packs_mark_n(const struct packs_mark *m);
struct packs_use packs_mark_use(const struct packs_mark *m, size_t i);
/* packs_mark_all(m, i, err): it stays as it is. */
int  packs_mark_all(struct packs_mark *m, size_t i, struct err *err);

/*
 * packs_rewrite(m, i, n, h, stop, arg, made, err): the ${n} packs from the i-th on, which lie end to end and are not fixed, as one, with what is needed. ${h}: lineage, site, key_id, gen,
 * retained_gen are the caller's. Each chunk is read and verified on the way. When it returns the new one is durable and counts, and the old files are gone. It stays as it is for
 * these marks from there on. Errors: DAMAGE a chunk that is needed cannot be read (all stays as it was); BUSY told to stop; IO, NOSPC, NOMEM.
 */
int  packs_rewrite(struct packs_mark *m, size_t i, size_t n, const struct pack_head *h, int (*stop)(void *arg), void *arg, struct pack_head *made,
                   struct err *err);

/* packs_tidy(ps, err): files that no address is asked of any more go, once what took their place was seen to be readable. Returns how many. */
int64_t packs_tidy(struct packs *ps, struct err *err);

#endif
