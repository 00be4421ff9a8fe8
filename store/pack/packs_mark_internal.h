/* packs_mark_internal.h: what packs_mark.c (which chunks are needed) and packs_rewrite.c (packs without the others) share. */
#ifndef STORE_PACK_PACKS_MARK_INTERNAL_H
#define STORE_PACK_PACKS_MARK_INTERNAL_H

#include "store/pack/packs_internal.h"
#include "store/pack/packs_mark.h"

enum { MARK_QUEUE = 1 << 18, NEWER_MAX = 1024 };

/* Blocks of one kind in a pack's directory: the first of them, the entries before each, and a bit for each entry. */
struct block_counts { uint32_t first, total; uint32_t *before; uint8_t *bits; };

struct marked {
    struct packs_use use;
    struct pack *pack;                   /* held */
    struct block_counts chunks, addrs;
};

struct wanted { uint64_t lsn; uint32_t doff, len; };

struct packs_mark {
    struct packs *ps;
    struct marked *v;                    /* by address; they lie end to end, or nearly */
    size_t n, cap;
    uint64_t last_gen, seen_gen;         /* the newest of them; up to which newer ones were looked at */
    uint64_t end;
    struct wanted *queue;
    size_t n_queue;
};

struct adding { struct packs_mark *m; struct err *err; };

static inline bool packs_bit(const uint8_t *bits, uint32_t i)
{
    return bits[i / 8] >> i % 8 & 1;
}

/* packs_marked(m, addr): the pack of that address, or NULL. */
struct marked *packs_marked(struct packs_mark *m, uint64_t addr);
/* packs_mark_chunk(m, number, err): it is needed, and what it is a difference to. DAMAGE: it is not there. */
int packs_mark_chunk(struct packs_mark *m, uint64_t number, struct err *err);
/* packs_mark_needs(m, p, err): all chunks that this pack names or builds on. packs_mark_newer: of all packs that came since the marks began. */
int packs_mark_needs(struct packs_mark *m, struct pack *p, struct err *err);
int packs_mark_newer(struct packs_mark *m, struct err *err);

#endif
