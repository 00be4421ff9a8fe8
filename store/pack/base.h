/*
 * base.h: rows of the index as of one address, so that the records before it can go: archive/base-GENERATION.base. FORMAT.md, "Base".
 *
 * Threads: a writer and a reader belong to one thread each. Locking: none; one writer of a store at a time.
 */
#ifndef STORE_PACK_BASE_H
#define STORE_PACK_BASE_H

#include "store/base/err.h"
#include "store/base/hash.h"
#include "store/base/io.h"
#include "store/index/kv.h"
#include "store/index/rows.h"

#include <stdbool.h>
#include <stdint.h>

enum { BASE_HEAD_BYTES = 256, BASE_FRAME_HEAD_BYTES = 40, BASE_NAME_MAX = 256,
       BASE_FRAME_MAX = 1 << 24,               /* bytes of a frame, stored or expanded, as any program may write them */
       BASE_FRAME_EXPANDED = 1 << 20 };        /* a frame ends before it would get larger (a single row may) */

/* The fields of a file's head that are not the same in all. */
struct base_head {
    uint64_t compat, ro_compat, incompat;
    uint64_t size;
    uint32_t hash_alg;
    uint8_t  lineage[16], site[16], epoch_id[16];
    uint64_t gen;
    uint64_t applied;               /* every record below it is in the rows */
    uint64_t last_lsn;              /* the last of them, and its hash */
    struct hash128 last_hash;
    uint64_t n_rows;
    uint64_t retained_gen;
    uint64_t let_go;                /* records below it may go: the times of what is kept of them are rows */
    uint32_t n_frames;
};

/* base_head_encode, base_head_decode: bytes <-> struct. ${size}: of the whole file. Errors: DAMAGE what, at which byte; VERSION. */
void base_head_encode(const struct base_head *h, uint8_t buf[BASE_HEAD_BYTES]);
int  base_head_decode(const uint8_t *buf, size_t len, uint64_t size, struct base_head *h, struct err *err);

struct base_frame { uint32_t stored, expanded, n; struct hash128 hash; };     /* hash: of the expanded bytes */
/* base_frame_encode, base_frame_decode: the 40 bytes before a frame's zstd frame. DAMAGE. */
void base_frame_encode(const struct base_frame *f, uint8_t buf[BASE_FRAME_HEAD_BYTES]);
int  base_frame_decode(const uint8_t *buf, size_t len, struct base_frame *f, struct err *err);

struct base_row { const uint8_t *key, *val; size_t klen, vlen; };
/*
 * The expanded bytes of a frame. base_row_put(buf, cap, before, blen, r): ${r} behind a row of key ${before}; bytes, 0 they are more than ${cap}.
 * base_row_get(buf, len, key, klen, r): the row there, behind one of key ${key}, *${klen} bytes (KV_KEY_MAX of room), which become this one's; r->key is
 * there, r->val in ${buf}. Bytes taken; or DAMAGE, without the file's name: a length, a key that does not rise.
 */
size_t  base_row_put(uint8_t *buf, size_t cap, const uint8_t *before, size_t blen, const struct base_row *r);
int64_t base_row_get(const uint8_t *buf, size_t len, uint8_t *key, size_t *klen, struct base_row *r, struct err *err);

/* base_name(gen, buf): "archive/base-....base"; base_parse(name, gen): false for any other file name (without "archive/"). */
void base_name(uint64_t gen, char buf[BASE_NAME_MAX]);
bool base_parse(const char *name, uint64_t *gen);
/* base_list(io, fn, arg, err): calls fn for each generation that has a file, newest first; nonzero stops and is returned. IO, NOMEM. */
int base_list(struct io *io, int (*fn)(void *arg, uint64_t gen), void *arg, struct err *err);

/*
 * Making one: base_new, base_step until it returns 0, base_finish (durable under its name) or base_drop.
 * base_new: ${h}: lineage, site, gen, retained_gen, let_go are the caller's, the rest is set here. What is written is the rows as they are now; base_meta says up to which
 *   record. Hints for packing are left out. NOENT: nothing was applied yet. ${out} is NULL on failure.
 * base_step: the next ${rows} rows or some more: 1 there are more, 0 that was all.
 * base_finish: every record below base_meta's end must be durable before. ${epoch_id}: of the epoch of the last record. *${made} (may be NULL): the head.
 *   Frees ${w} in any case. On failure there is no file of its name, or nobody knows (sealed.h).
 * Errors: IO, NOSPC, NOMEM, DAMAGE (the index), EXIST.
 */
struct base_writer;
int  base_new(struct io *io, struct kv *kv, const struct base_head *h, struct base_writer **out, struct err *err);
const struct row_meta *base_meta(const struct base_writer *w);
int  base_step(struct base_writer *w, size_t rows, struct err *err);
int  base_finish(struct base_writer *w, const uint8_t epoch_id[16], struct base_head *made, struct err *err);
void base_drop(struct base_writer *w);

/*
 * Reading one: base_open checks a head (the copy at the end where the first is bad: *${warn}, may be NULL, says so). base_next gives rows in order:
 * 1, 0 at the end, < 0 failed, for good. base_open_file: of any name. Their bytes live until the next call. base_check reads it all, both heads and the hash of the file included, every row
 * decoded as far as base_load needs it; then base_next begins anew.
 * Errors: DAMAGE file, offset, expected, found; NOENT; VERSION; IO; NOMEM.
 */
struct base;
int  base_open(struct io *io, uint64_t gen, struct base **out, struct err *warn, struct err *err);
int  base_open_file(struct io *io, const char *path, struct base **out, struct err *warn, struct err *err);
const struct base_head *base_head(const struct base *b);
int  base_next(struct base *b, struct base_row *row, struct err *err);
int  base_check(struct base *b, struct err *err);
void base_close(struct base *b);

/*
 * base_load(b, kv, flush, err): all rows into ${kv}, which has none that count yet: the one that says what is applied comes last, so that one that was cut off
 * begins anew. ${flush}: also make them durable, in portions. Errors: as base_next; those of kv_write and a flush.
 */
int base_load(struct base *b, struct kv *kv, bool flush, struct err *err);

#endif
