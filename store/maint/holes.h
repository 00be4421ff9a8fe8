/*
 * holes.h: data that rows of kept moments name and no pack has: a pack is gone, or neither copy of its tables says what is where. Another site is asked for them by address (FETCH, PROTOCOL.md); what comes is proven by the sums
 * of the record that wrote it, so far as they are whole blocks, and goes into a pack made anew. DESIGN.md, "Files that are gone".
 *
 * Threads: any; holes_look within store_reclaim_begin: what is kept, and what packs have, must be of one time; holes_apply, holes_close within store_maint_try.
 */
#ifndef STORE_MAINT_HOLES_H
#define STORE_MAINT_HOLES_H

#include "store/core/wounds.h"
#include "store/pack/packs_supplement.h"

/*
 * holes_look(s, stop, each, arg, err): calls ${each} for each hole, by address within 65,536 pieces that rows name; where the disk does not give what says where they are, too. Errors: BUSY told to stop; DAMAGE a row cannot be read; IO, NOMEM.
 * holes_gone(s, each, arg, err): calls ${each} for each range of addresses below the log that no pack has, or one has whose tables cannot be read (by the disk, too); nonzero stops and is returned.
 */
int holes_look(struct store *s, int (*stop)(void *arg), void (*each)(void *arg, const struct wound *w, uint64_t ino), void *arg, struct err *err);
int holes_gone(struct store *s, int (*each)(void *arg, const struct packs_state *r), void *arg, struct err *err);

/*
 * holes_block(s, w, from, to): the bytes of that record to ask for: the wound's, and what makes them whole blocks, which the record's sums prove; false: it is just those.
 * holes_prove(s, k): whether these bytes are what the record at k->lsn wrote, by its sums, and where it wrote them; false also where the record cannot be read.
 * holes_apply(s, piece, n, behind, err): these, rising by (lsn, doff), into packs. Where no pack has an address one is made that ends at ${behind} at the latest (what is asked for next begins there). Durable on return. Of a pack that the disk does not give nothing is made anew, since it may come back: IO, and
 * all others have theirs.
 * holes_close(s, addr, err): rows name nothing of the gap, or of the pack that cannot be read, at ${addr}: a pack without data takes its place, so that packs lie end to end again.
 * Errors: IO, NOSPC, NOMEM, DAMAGE.
 */
bool holes_block(struct store *s, const struct wound *w, uint32_t *from, uint32_t *to);
bool holes_prove(struct store *s, const struct packs_piece *k);
int  holes_apply(struct store *s, const struct packs_piece *piece, size_t n, uint64_t behind, struct err *err);
int  holes_close(struct store *s, uint64_t addr, struct err *err);

#endif
