/*
 * packs.h: the packs of a store, opened: from an address or a chunk number to verified bytes.
 *
 * In memory: one small entry a pack, and within a bound what was read last: blocks of tables, expanded frames. Nothing of a pack is read before it is
 * needed but its name (which says what it has); head and directory at the first look into it.
 *
 * Locking: one internal mutex, never held over reading or expanding. Threads: any, but packs_added, packs_forget by one at a time.
 */
#ifndef STORE_PACK_PACKS_H
#define STORE_PACK_PACKS_H

#include "store/base/epoch.h"
#include "store/pack/pack.h"

struct packs;
struct packs_options {
    const struct epoch_row *epochs;  /* the superblock's table (copied): which timeline a pack must be of, and where it is cut off ("Which files count") */
    uint32_t n_epochs;
    uint8_t  lineage[16];            /* the store's; a pack may be of this or of that of a row */
    uint8_t  key[32];                /* of the superblock */
    uint32_t key_id;
    uint64_t cache_bytes;            /* 32 MiB where 0 */
};

/*
 * packs_open(io, opt, out, err): lists packs/ (none is fine). Which packs count where two have an address: the larger generation.
 * Errors: IO, NOMEM. A file of another name is left alone; a pack that cannot be read shows when it is needed.
 */
int  packs_open(struct io *io, const struct packs_options *opt, struct packs **out, struct err *err);
void packs_close(struct packs *ps);
/* packs_epochs(ps, epochs, n): the table has more rows by now, or lost the last ones again. */
void packs_epochs(struct packs *ps, const struct epoch_row *epochs, uint32_t n);

/* packs_end(ps): behind the last address in packs that lie end to end from the first one on; 0: none. packs_next_gen: for a new one. */
uint64_t packs_end(struct packs *ps);
/* packs_run(ps, addr): behind the last address in packs that lie end to end from the one on that has ${addr}; 0: none has it. */
uint64_t packs_run(struct packs *ps, uint64_t addr);
/* packs_gap(ps, from, until, first, end, err): 1 addresses [*${first}, *${end}) are the first ones of these that no pack has: one is gone; 0 none are. Names alone say it. */
int packs_gap(struct packs *ps, uint64_t from, uint64_t until, uint64_t *first, uint64_t *end, struct err *err);
uint64_t packs_next_gen(struct packs *ps);

/* packs_added(ps, h): a new one, durable, counts from here on; it may supersede others. packs_forget(ps, gen): one whose file is gone. */
int  packs_added(struct packs *ps, const struct pack_head *h, struct err *err);
void packs_forget(struct packs *ps, uint64_t gen);

/*
 * packs_read(ps, lsn, doff, len, out, nowait, err): data bytes [doff, doff + len) of the record at ${lsn}, verified.
 * ${nowait}: ERR_WAIT rather than read the disk. NOENT: no pack has this address, or not all of these bytes. DAMAGE names the pack, the place, expected, found.
 */
int  packs_read(struct packs *ps, uint64_t lsn, uint32_t doff, uint32_t len, uint8_t *out, bool nowait, struct err *err);

/* packs_chunk(ps, number, buf, len, depth, err): the bytes of a chunk into ${buf} (PACK_CHUNK_MAX bytes), its length and depth, found by its number as an address. NOENT: it is not there (any more); DAMAGE. */
int  packs_chunk(struct packs *ps, uint64_t number, uint8_t *buf, uint32_t *len, uint8_t *depth, struct err *err);

/* packs_walk(ps, from, to, fn): each address entry of the range, in order: for check and reclaim. fn nonzero stops. */
int  packs_walk(struct packs *ps, uint64_t from, uint64_t to, int (*fn)(void *arg, const struct pack_addr *a), void *arg, struct err *err);

/* packs_check(ps, gen, bad, arg, err): reads one pack whole: every hash, both heads and tables. Calls ${bad} for each damage, goes on; returns how many, < 0 on failure. */
int64_t packs_check(struct packs *ps, uint64_t gen, void (*bad)(void *arg, const struct err *e), void *arg, struct err *err);

/* packs_check_shape: as packs_check, but of frames and what lies in them: their bytes are seen by the hash of the file alone. */
int64_t packs_check_shape(struct packs *ps, uint64_t gen, void (*bad)(void *arg, const struct err *e), void *arg, struct err *err);

/* packs_list(ps, fn): each pack that counts, by address. counts_to: its end, or before it, where its timeline leaves this one. */
struct packs_info { uint64_t first, end, counts_to, gen, bytes; char name[PACK_NAME_MAX]; };
int  packs_list(struct packs *ps, int (*fn)(void *arg, const struct packs_info *i), void *arg, struct err *err);
uint64_t packs_memory(struct packs *ps);
/* packs_cold(ps): nothing of what was read is remembered: what is read next comes from the files. */
void packs_cold(struct packs *ps);

#endif
