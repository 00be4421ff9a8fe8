/*
 * packs_supplement.h: a pack made anew with more in it: data that this site had let go of and needs again (a standby whose primary copied them out of a past that it keeps
 * and this one does not), and chunks that were damaged, as another site has them.
 *
 * Threads: with nobody else who makes packs (store_maint_begin).
 */
#ifndef STORE_PACK_PACKS_SUPPLEMENT_H
#define STORE_PACK_PACKS_SUPPLEMENT_H

#include "store/pack/packs.h"

/* Bytes [doff, doff + len) of the data of the record at lsn, len at most PACK_CHUNK_MAX; dstart as in pieces; where the record wrote them. */
struct packs_piece { uint64_t lsn, ino, off; uint32_t dstart, doff, len; const uint8_t *bytes; };
/* A chunk as it should be: its hash is asked. */
struct packs_healed { uint64_t number; uint32_t len; const uint8_t *bytes; };

/*
 * packs_lacking(ps, lsn, doff, len, fn, arg, err): calls ${fn} for each part of these bytes that no pack names; nonzero stops. Nothing is read but tables. Of an address that no pack has
 * it is all of them. Errors: DAMAGE, IO, NOMEM; what ${fn} returned.
 */
int packs_lacking(struct packs *ps, uint64_t lsn, uint32_t doff, uint32_t len, int (*fn)(void *arg, uint32_t doff, uint32_t len), void *arg, struct err *err);

/*
 * packs_holes(ps, lsn, doff, len, fn, arg, err): the same, where more is wrong: also what a pack would name whose tables cannot be read, and what is named but in a chunk that is not there, or is shorter.
 * packs_sound(ps, addr, out, err): whether a pack has ${addr} whose head and tables can be read: 1; 0 none has (gone), or not all of them can (some: of head and directory one copy can). first, end: of the addresses around ${addr} for which the pack counts, or of the gap
 * from ${addr} to the next one. Errors: IO, NOMEM.
 */
int packs_holes(struct packs *ps, uint64_t lsn, uint32_t doff, uint32_t len, int (*fn)(void *arg, uint32_t doff, uint32_t len), void *arg, struct err *err);
struct packs_state { uint64_t first, end; bool gone, some; };
int packs_sound(struct packs *ps, uint64_t addr, struct packs_state *out, struct err *err);

/*
 * packs_chunk_parts(ps, lsn, doff, number, len, out, n, err): the chunk that has byte ${doff} of the data of the record at ${lsn}: its number and length, and all that the tables of the pack that names it, and of the one it lies in, say lies in it.
 * *${out} is malloced. Nothing of the chunk is read. Errors: NOENT no pack has the byte; DAMAGE, IO, NOMEM.
 */
struct packs_part { uint64_t lsn; uint32_t doff, len, chunk_off; };
int packs_chunk_parts(struct packs *ps, uint64_t lsn, uint32_t doff, uint64_t *number, uint32_t *len, struct packs_part **out, size_t *n, struct err *err);

/*
 * packs_supplement(ps, addr, h, piece, n, healed, n_healed, made, err): the pack that counts for ${addr} with these in it, too: those of the pieces, from the first on, whose addresses are
 * its own, none of which it names, rising by (lsn, doff); chunks of its own. Frames are taken over as they lie, damaged or not; but one of which each chunk is healed or whole is made anew. ${h}: lineage, site,
 * key_id, gen, retained_gen are the caller's. On return the new one is durable and counts, and the old file is gone: how many
 * of the pieces it took.
 * Errors: NOENT no pack has the address; DAMAGE a piece or a chunk does not fit, or its tables cannot be read; INVAL; IO, NOSPC, NOMEM: all is as before.
 */
int64_t packs_supplement(struct packs *ps, uint64_t addr, const struct pack_head *h, const struct packs_piece *piece, size_t n, const struct packs_healed *healed,
                     size_t n_healed, struct pack_head *made, struct err *err);
/*
 * packs_salvage(ps, addr, h, piece, n, err): the same for pieces that packs_holes says are lacking: blocks of tables that cannot be read are left out, and entries that name what is not there. The head of the pack is good, and its directory.
 * packs_blank(ps, h, epoch_id, err): a pack without data of addresses [h->first, h->end), of which none has any, or one of which nothing can be read; that one's file stays until packs_tidy.
 */
int64_t packs_salvage(struct packs *ps, uint64_t addr, const struct pack_head *h, const struct packs_piece *piece, size_t n, struct err *err);
int     packs_blank(struct packs *ps, const struct pack_head *h, const uint8_t epoch_id[16], struct err *err);

#endif
