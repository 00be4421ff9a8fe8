/*
 * packs_internal.h: what the files of the set share. packs.c: which packs there are, which one counts. packs_file.c: bytes, heads, tables.
 * packs_cache.c: what was read last. packs_read.c: from an address to bytes. packs_check.c: every hash.
 *
 * Lock: one mutex, a leaf: no I/O, no zstd under it. A field's comment names it; fields without one do not change.
 */
#ifndef STORE_PACK_PACKS_INTERNAL_H
#define STORE_PACK_PACKS_INTERNAL_H

#include "store/pack/packs.h"
#include "store/pack/squeeze.h"

#include <pthread.h>

enum { PACKS_OPEN_MAX = 64, PACKS_CACHE_DEF = 32 << 20, PACKS_BUCKETS = 4096, PACKS_SQUEEZES = 4, PACKS_VERIFIED = 64 };

enum pack_state { PACK_UNREAD, PACK_GOOD, PACK_BAD };

struct pack {
    uint64_t first, end, gen;        /* by its name */
    uint64_t serial;                 /* unlike that of any other in this process */
    char     name[PACK_NAME_MAX];
    enum pack_state state;           /* mutex; of its head. A bad one is tried again when it is needed itself */
    struct pack_head h;              /* written under the mutex before the state becomes good, then constant */
    uint64_t cut;                    /* the same; from here on its addresses are not of this timeline */
    bool     dead;                   /* mutex; forgotten: freed with its last user */
    unsigned refs;                   /* mutex */
    struct io_file *file;            /* mutex; NULL while closed; constant while there are refs, once it is open */
    uint64_t used;                   /* mutex; stamp of the last use */
};

enum cached_kind { CACHED_DIR, CACHED_FRAMES, CACHED_CHUNKS, CACHED_ADDRS, CACHED_BYTES };

/* Something that was read. Tables are verified and immutable, an expanded frame by the chunks that are noted; freed with the last reference. */
struct cached {
    uint64_t serial, at;             /* of which pack, where it begins there (tables: in the first ones) */
    enum cached_kind kind;
    uint32_t n;                      /* entries, or bytes */
    union {
        void *p;
        struct pack_block *dir;
        struct pack_frame *frame;
        struct pack_chunk *chunk;
        struct pack_addr *addr;
        uint8_t *bytes;
    } u;
    size_t   cost;                   /* bytes of memory */
    unsigned refs;                   /* mutex; users, and 1 while it is in the cache */
    unsigned n_verified;             /* mutex; chunks of these bytes that had their hash */
    uint64_t verified[PACKS_VERIFIED];      /* mutex */
    struct cached *chain, *newer, *older;   /* mutex */
};

struct packs {
    struct io *io;
    struct epoch_row *epochs;
    _Atomic uint32_t n_epochs;
    uint32_t key_id;
    uint8_t  lineage[16], key[32];

    pthread_mutex_t mutex;
    struct pack **pack;              /* mutex; by (first, gen) */
    uint64_t *max_end;               /* mutex; the largest end up to here */
    size_t   n, cap;                 /* mutex */
    uint64_t serial, stamp;          /* mutex */
    size_t   n_open;                 /* mutex */
    struct squeeze *idle[PACKS_SQUEEZES];   /* mutex */
    unsigned n_idle;                 /* mutex */

    struct cached *bucket[PACKS_BUCKETS];   /* mutex */
    struct cached *newest, *oldest;  /* mutex */
    uint64_t cached, cache_max;      /* bytes; mutex, constant */
};

/* --- packs.c ---------------------------------------------------------------- */

/* packs_release(ps, p): give back what a search held. NULL is fine. */
void packs_release(struct packs *ps, struct pack *p);
/*
 * packs_find(ps, addr, nowait, out, until, err): the pack that counts for ${addr}, held, its head read; NULL in *${out}: none. *${until}: the same
 * holds for all addresses from ${addr} to below it. Errors: DAMAGE the pack that would count cannot be read; WAIT, IO, NOMEM, VERSION.
 */
int packs_find(struct packs *ps, uint64_t addr, bool nowait, struct pack **out, uint64_t *until, struct err *err);
/* packs_find_named(ps, addr, out, until, err): the same by names alone: its head may be bad, then the pack is in state PACK_BAD. */
int packs_find_named(struct packs *ps, uint64_t addr, struct pack **out, uint64_t *until, struct err *err);
/* packs_held(ps, gen): that pack, held, or NULL. */
struct pack *packs_held(struct packs *ps, uint64_t gen);
/* packs_cut(ps, h, cut): where the addresses of a pack with this head end for this store; false: its epoch is none of the store's. */
bool packs_cut(const struct packs *ps, const struct pack_head *h, uint64_t *cut);

/* --- packs_file.c: bytes of a held pack -------------------------------------- */

/* packs_bad(err, p, at, fmt, ...): ERR_DAMAGE at this file offset of the pack. */
int packs_bad(struct err *err, const struct pack *p, uint64_t at, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* packs_bytes(ps, p, what, buf, n, off, nowait, err): ${n} bytes at ${off}. Errors: DAMAGE the file ends before, or is gone; WAIT, IO. */
int packs_bytes(struct packs *ps, struct pack *p, const char *what, void *buf, size_t n, uint64_t off, bool nowait, struct err *err);
/* packs_size(ps, p, nowait, size, err): of the file, as it is. */
int packs_size(struct packs *ps, struct pack *p, bool nowait, uint64_t *size, struct err *err);
/* packs_get_head(ps, p, at, nowait, h, err): the head at ${at}, checked against name and store. */
int packs_get_head(struct packs *ps, struct pack *p, uint64_t at, bool nowait, struct pack_head *h, struct err *err);
/* packs_load_head(ps, p, nowait, err): the first one or its copy; sets p->state (but not after WAIT, NOMEM). */
int packs_load_head(struct packs *ps, struct pack *p, bool nowait, struct err *err);
/*
 * packs_load_dir, packs_load_block: from the tables at ${tables}, without the cache; *${out} has one reference, of the caller's. ${dir}: the decoded
 * directory, ${i} of which block. Errors: DAMAGE, WAIT, IO, NOMEM.
 */
int packs_load_dir(struct packs *ps, struct pack *p, uint64_t tables, bool nowait, struct cached **out, struct err *err);
int packs_load_block(struct packs *ps, struct pack *p, const struct pack_block *dir, uint32_t i, uint64_t tables, bool nowait, struct cached **out,
                     struct err *err);

/* --- packs_read.c ------------------------------------------------------------ */

/* packs_dir, packs_block: by the cache, from whichever tables are good; give back with packs_put. */
int packs_dir(struct packs *ps, struct pack *p, bool nowait, struct cached **out, struct err *err);
int packs_block(struct packs *ps, struct pack *p, const struct pack_block *dir, uint32_t i, bool nowait, struct cached **out, struct err *err);
/* packs_seek(dir, kind, key): the block of ${kind} that has ${key} if any does; UINT32_MAX: none. ${dir}: as cached. */
uint32_t packs_seek(const struct cached *dir, enum pack_block_kind kind, uint64_t key);

/* packs_seek_addr(c, lsn): in a block of addresses, the first entry of the record at or above ${lsn}; c->n: none. */
uint32_t packs_seek_addr(const struct cached *c, uint64_t lsn);

/* packs_find_chunk(c, number): in a block of chunks, or NULL. */
const struct pack_chunk *packs_find_chunk(const struct cached *c, uint64_t number);

/* A chunk where it lies; packs_place_end gives back. */
struct chunk_place { struct pack *pack; struct cached *chunks, *frames; const struct pack_chunk *chunk; const struct pack_frame *frame; };
/* packs_place(ps, home, number, nowait, out, err): looked for in ${home} (may be NULL), which names it, then by address. NOENT: it is not there. */
int packs_place(struct packs *ps, struct pack *home, uint64_t number, bool nowait, struct chunk_place *out, struct err *err);
void packs_place_end(struct packs *ps, struct chunk_place *pl);
/* packs_expand(ps, p, f, nowait, out, err): the frame's bytes, from the disk; nothing of them is verified but those of its bases. */
int packs_expand(struct packs *ps, struct pack *p, const struct pack_frame *f, bool nowait, struct cached **out, struct err *err);
/* packs_verify(ps, p, f, k, bytes, err): whether the chunk in the expanded ${bytes} has its hash. DAMAGE. */
int packs_verify(struct packs *ps, const struct pack *p, const struct pack_frame *f, const struct pack_chunk *k, const uint8_t *bytes, struct err *err);

/* --- packs_cache.c ----------------------------------------------------------- */

/* packs_cached_new(p, at, kind): with one reference; NULL: no memory. */
struct cached *packs_cached_new(const struct pack *p, uint64_t at, enum cached_kind kind);
/* packs_get: a reference, or NULL. packs_put: gives one back; NULL is fine. */
struct cached *packs_get(struct packs *ps, const struct pack *p, uint64_t at, enum cached_kind kind);
void packs_put(struct packs *ps, struct cached *c);
/* packs_keep(ps, c): into the cache, if nothing is there for its place. The caller keeps its reference. */
void packs_keep(struct packs *ps, struct cached *c);
/* packs_is_verified, packs_note_verified: chunk ${number} of expanded bytes had its hash. Of more than PACKS_VERIFIED it is forgotten. */
bool packs_is_verified(struct packs *ps, const struct cached *c, uint64_t number);
void packs_note_verified(struct packs *ps, struct cached *c, uint64_t number);
void packs_cache_release(struct packs *ps);
/* A context for zstd, given back afterwards. NULL: no memory. */
struct squeeze *packs_squeeze(struct packs *ps);
void packs_squeeze_back(struct packs *ps, struct squeeze *z);

#endif
