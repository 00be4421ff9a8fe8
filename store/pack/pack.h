/*
 * pack.h: one pack: packs/FIRST-END-GENERATION.pack as bytes, and making one. FORMAT.md, "Packs". Which packs there are, and reading
 * from them: packs.h.
 *
 * Threads: the codecs are pure functions; a writer belongs to one thread.
 */
#ifndef STORE_PACK_PACK_H
#define STORE_PACK_PACK_H

#include "store/base/err.h"
#include "store/base/hash.h"
#include "store/base/io.h"
#include "store/pack/names.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    PACK_HEAD_BYTES = 256, PACK_BLOCK_ENTRY_BYTES = 48, PACK_NAME_MAX = NAMES_MAX, PACK_TABLES_APART = 4096,
    PACK_CHUNK_MAX = 1 << 20, PACK_FRAME_MAX = 4 << 20, PACK_STORED_MAX = (4 << 20) + (64 << 10),
    PACK_DEPTH_MAX = 64, PACK_BLOCK_BYTES_MAX = 4 << 20, PACK_BLOCKS_MAX = 16384, PACK_ENTRIES_MAX = 65536,
    PACK_BLOCK_ENTRIES = 4096,                               /* as this program writes them (a record's addresses are not split) */
};

struct pack_head {
    uint64_t compat, ro_compat, incompat;
    uint64_t size;
    uint32_t hash_alg, key_id;
    uint8_t  lineage[16], site[16], epoch_id[16];
    uint64_t gen, first, end;
    uint64_t retained_gen;
    uint64_t tables_at, tables2_at, tables_bytes;
    uint32_t n_blocks;
};
/* ${size}: of the file, for what lies where; *${other_size} (may be NULL) is set when the head says another: no failure by itself. Errors: DAMAGE what, at which byte; VERSION. */
void pack_head_encode(const struct pack_head *h, uint8_t buf[PACK_HEAD_BYTES]);
int  pack_head_decode(const uint8_t *buf, size_t len, uint64_t size, struct pack_head *h, bool *other_size, struct err *err);

enum pack_block_kind { PACK_FRAMES = 1, PACK_CHUNKS = 2, PACK_ADDRESSES = 3 };
struct pack_block { uint32_t kind, entries; uint64_t at; uint32_t stored, expanded; uint64_t least, frames_at, sum; };
/* The directory: h->n_blocks entries and their hash. decode: *${out} is malloced. It checks order, bounds, places against ${h}. DAMAGE, NOMEM. */
size_t pack_dir_bytes(uint32_t n_blocks);
void pack_dir_encode(const struct pack_block *b, uint32_t n, uint8_t *buf);
int  pack_dir_decode(const uint8_t *buf, size_t len, const struct pack_head *h, struct pack_block **out, struct err *err);

enum pack_frame_kind { PACK_RAW = 0, PACK_ZSTD = 1, PACK_DELTA = 2 };
struct pack_frame { uint64_t at, base; uint32_t stored, expanded; uint8_t kind, depth; };     /* at: computed */
struct pack_chunk { uint64_t number; struct hash128 hash; uint32_t frame, off, len; };
struct pack_addr  { uint64_t lsn, chunk, ino, off; uint32_t doff, len, chunk_off; };

/*
 * Expanded bytes of a block <-> its entries. encode: returns the bytes written, 0 when ${cap} does not do (pack_block_bound(n) is enough).
 * decode: ${b} is its directory entry, ${h} the pack's head; every bound of FORMAT.md that one block can show is checked. *${out}: b->entries of them, malloced.
 * Errors: DAMAGE, NOMEM.
 */
size_t pack_block_bound(uint32_t n);
size_t pack_frames_encode(const struct pack_frame *v, uint32_t n, uint8_t *buf, size_t cap);
int    pack_frames_decode(const uint8_t *buf, size_t len, const struct pack_head *h, const struct pack_block *b, struct pack_frame **out, struct err *err);
size_t pack_chunks_encode(const struct pack_chunk *v, uint32_t n, uint8_t *buf, size_t cap);
int    pack_chunks_decode(const uint8_t *buf, size_t len, const struct pack_head *h, const struct pack_block *b, struct pack_chunk **out, struct err *err);
size_t pack_addrs_encode(const struct pack_addr *v, uint32_t n, uint8_t *buf, size_t cap);
int    pack_addrs_decode(const uint8_t *buf, size_t len, const struct pack_head *h, const struct pack_block *b, struct pack_addr **out, struct err *err);

void pack_name(uint64_t first, uint64_t end, uint64_t gen, char buf[PACK_NAME_MAX]);              /* "packs/....pack" */
bool pack_parse(const char *name, uint64_t *first, uint64_t *end, uint64_t *gen);                 /* without "packs/" */

/* pack_hash(key, p, len): the keyed hash of a chunk. */
struct hash128 pack_hash(const uint8_t key[32], const void *p, size_t len);

/*
 * Making a pack. pack_new: ${h}: lineage, site, key_id, gen, first, end, retained_gen are the caller's. Makes packs/ if it is missing,
 * and packs/next anew.
 * pack_put_frame: a frame of ${n} chunks whose bytes lie one behind the other at ${bytes} (chunk[i].number, hash, len are the caller's; frame and off are set
 *   here; numbers in any order, each once); for PACK_DELTA one chunk, and its base. Compressed here (level; PACK_RAW: not) and written; *${stored} (may be NULL) gets the bytes it takes.
 * pack_put_stored: a frame as another pack has it: kind, bytes stored and expanded, base and depth of ${f}; ${chunk}: what counts of it, number, hash, off and len as there (all; but for chunks that
 *   were damaged there and lie in frames of their own now).
 * pack_try: what PACK_DELTA (or, with ${base} NULL, PACK_ZSTD) would take, without writing; for the choice. < 0 on failure.
 * pack_put_addr: entries in any order; they are sorted at the end.
 * pack_finish: tables, heads, hash; syncs, renames, syncs the directory. ${epoch_id}: of the last record below end. Nothing put at all is fine. *${out} (may be NULL): the head as
 *   written. Frees ${w} in any case. INVAL: what was put does not fit together (a bug of the caller's), nothing was named.
 * Errors: IO, NOSPC, NOMEM; after any, pack_drop.
 */
struct pack_writer;
struct pack_base { uint64_t number; const uint8_t *bytes; uint32_t len; uint8_t depth; };   /* depth: of the base */
int  pack_new(struct io *io, const struct pack_head *h, struct pack_writer **out, struct err *err);
int  pack_put_frame(struct pack_writer *w, enum pack_frame_kind kind, int level, struct pack_chunk *chunk, uint32_t n,
                    const uint8_t *bytes, const struct pack_base *base, uint32_t *stored, struct err *err);
int  pack_put_stored(struct pack_writer *w, const struct pack_frame *f, struct pack_chunk *chunk, uint32_t n, const uint8_t *stored, struct err *err);
int64_t pack_try(struct pack_writer *w, int level, const uint8_t *bytes, uint32_t len, const struct pack_base *base, struct err *err);
int  pack_put_addr(struct pack_writer *w, const struct pack_addr *a, struct err *err);
int  pack_finish(struct pack_writer *w, const uint8_t epoch_id[16], struct pack_head *out, struct err *err);
void pack_drop(struct pack_writer *w);

#endif
