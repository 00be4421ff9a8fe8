/*
 * archive.h: records that left the log, without their data: archive/FIRST-END-GENERATION.arc.
 * FORMAT.md, "Archive".
 *
 * Threads: a writer and a reader belong to one thread each; archive_open and what takes a `const struct archive *` may be
 * called from any. Locking: none.
 */
#ifndef STORE_PACK_ARCHIVE_H
#define STORE_PACK_ARCHIVE_H

#include "store/base/err.h"
#include "store/base/hash.h"
#include "store/base/io.h"
#include "store/log/record.h"
#include "store/pack/names.h"

#include <stdint.h>

enum { ARCHIVE_HEAD_BYTES = 256, ARCHIVE_FRAME_HEAD_BYTES = 80, ARCHIVE_NAME_MAX = NAMES_MAX,
       ARCHIVE_HASH_BYTES = 16,                /* the last ones of a file */
       ARCHIVE_TAIL_BYTES = ARCHIVE_HEAD_BYTES + ARCHIVE_HASH_BYTES,   /* behind the frames */
       ARCHIVE_FRAME_MAX = 1 << 24,            /* bytes of a frame, stored or expanded, as any program may write them */
       ARCHIVE_FRAME_RECORDS = 16384,          /* at most, as this program writes them */
       ARCHIVE_FRAME_EXPANDED = 4 << 20 };     /* a frame ends before it would get larger (a single record may) */

/* The fields of a file's head that are not the same in all. */
struct archive_head {
    uint64_t compat, ro_compat, incompat;
    uint64_t size;
    uint32_t hash_alg;
    uint8_t  lineage[16], site[16], epoch_id[16];
    uint64_t gen, first, end;
    uint64_t n_records;
    uint64_t retained_gen;
    uint32_t n_frames;
};

/* archive_head_encode, archive_head_decode: bytes <-> struct. ${size}: of the whole file. Errors: DAMAGE what, at which byte; VERSION. */
void archive_head_encode(const struct archive_head *h, uint8_t buf[ARCHIVE_HEAD_BYTES]);
int  archive_head_decode(const uint8_t *buf, size_t len, uint64_t size, struct archive_head *h, struct err *err);

struct archive_frame {
    uint32_t stored, expanded, n;
    uint64_t first_lsn, end;
    uint64_t prev_lsn;              /* the record before the first one, 0 none, and its hash */
    struct hash128 prev_hash, last_hash;
};
/* archive_frame_encode, archive_frame_decode: the 80 bytes before a frame's zstd frame. DAMAGE. */
void archive_frame_encode(const struct archive_frame *f, uint8_t buf[ARCHIVE_FRAME_HEAD_BYTES]);
int  archive_frame_decode(const uint8_t *buf, size_t len, struct archive_frame *f, struct err *err);

/* The records of a frame as they were in the log: ${len} bytes of heads, one behind the other. All zero to begin with; free(p). */
struct archive_heads { uint8_t *p; size_t len, cap; uint64_t last_lsn; struct hash128 last_hash; };

/*
 * archive_unfold(buf, len, f, out, err): the ${len} expanded bytes at ${buf} of the frame whose head is ${f}: each record's head made again and
 * checked as record_decode does. Whether the last one's hash is that of ${f} is the caller's to compare. At most n * 128 + len bytes.
 * Errors: DAMAGE which column or record, without the file's name; NOMEM. ${out} is then empty.
 */
int archive_unfold(const uint8_t *buf, size_t len, const struct archive_frame *f, struct archive_heads *out, struct err *err);

/* archive_name(first, end, gen, buf): "archive/....arc"; archive_parse(name, ...): false for any other file name (without "archive/"). */
void archive_name(uint64_t first, uint64_t end, uint64_t gen, char buf[ARCHIVE_NAME_MAX]);
bool archive_parse(const char *name, uint64_t *first, uint64_t *end, uint64_t *gen);

/*
 * Writing one: archive_new, then each record in order, then archive_finish (makes it durable under its name) or archive_drop.
 * archive_new: ${h}: lineage, site, gen, first, end, retained_gen are the caller's; the rest is set here. Makes archive/
 *   if it is missing, and archive/next anew. ${out} is NULL on failure.
 * archive_add: ${rec} as log_iter_next gave it (data need not be there; lsn, prev_lsn, prev_hash, hash, sums set); its head bytes are at ${head}
 *   (rec->head_len of them). The first one's LSN is at or above h->first, each one's at or above the end of the one before and its chain fields say so.
 *   Errors: INVAL out of order, or beyond h->end: ${w} is unchanged; IO, NOSPC, NOMEM. A frame is read back before it is written: INVAL too where a record
 *   and its head bytes are not the same, then or at the end.
 * archive_cut: the file ends at ${end}, with the records it has: a writer that sees only on the way where to stop gives archive_new the most. INVAL: records
 *   lie beyond, or it is more than that.
 * archive_finish: ${epoch_id} of the last record's epoch. Frees ${w} in any case. On failure there is no file under its name, or (a sync of the
 *   directory that failed) nobody knows. INVAL: no record was added; EXIST: the name is there.
 */
struct archive_writer;
int  archive_new(struct io *io, const struct archive_head *h, struct archive_writer **out, struct err *err);
int  archive_add(struct archive_writer *w, const struct record *rec, const uint8_t *head, struct err *err);
int  archive_cut(struct archive_writer *w, uint64_t end, struct err *err);
int  archive_finish(struct archive_writer *w, const uint8_t epoch_id[16], struct err *err);
void archive_drop(struct archive_writer *w);

/*
 * Reading one: archive_open checks a head (the copy at the end where the first is bad: *${warn}, may be NULL, says so). archive_seek goes to the frame that has ${lsn} (or the first one behind it).
 * archive_next gives records in order: 1, 0 at the end, < 0 failed (then the next call goes on with the next frame). All fields are set, chain and hash too, rec->data is NULL;
 * pointers live until the next call. *${head} (may be NULL): the record's head_len bytes, as they were in the log. A frame is given out only after the
 * hash of its last record came out. archive_check reads it all, both heads and the hash of the file included: the first damage; then
 * archive_next begins anew. archive_seek reads heads of frames only and does not fail: what is bad shows when it is read.
 * Errors: DAMAGE file, offset, expected, found; NOENT; VERSION; IO; NOMEM.
 */
struct archive;
int  archive_open(struct io *io, uint64_t first, uint64_t end, uint64_t gen, struct archive **out, struct err *warn, struct err *err);
const struct archive_head *archive_head(const struct archive *a);
int  archive_seek(struct archive *a, uint64_t lsn, struct err *err);
int  archive_next(struct archive *a, struct record *rec, const uint8_t **head, struct err *err);
int  archive_check(struct archive *a, struct err *err);
void archive_close(struct archive *a);

#endif
