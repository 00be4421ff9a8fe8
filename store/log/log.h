/*
 * log.h: the one ordered log of everything.
 *
 * Addresses. All watermarks are exclusive ends: everything below `durable` is
 * on disk, below `written` is in the page cache, `head` is where the next
 * record goes.  durable <= written <= head.
 *
 * Appending has three steps, so that the caller can apply the operation to
 * its rows in LSN order while the bytes are still on their way:
 *   log_append_begin  under the caller's lock: takes the LSN, seals the hash chain (log_append_place where both are there already)
 *   log_append_write  without that lock: one pwritev
 *   log_wait_written  returns when every lower record is written too; then answer
 *
 * A failed pwritev or fdatasync poisons the log: every later call fails with
 * ERR_POISONED and nothing more is acknowledged. The process should leave by
 * _exit and recover from what the disk holds.
 *
 * Locking: log.c has one internal mutex, a leaf. log_append_begin calls must be
 * ordered by the caller's own lock if it wants LSN order to mean something.
 * Threads: all functions may be called from any thread, unless said otherwise.
 */
#ifndef STORE_LOG_LOG_H
#define STORE_LOG_LOG_H

#include "store/base/err.h"
#include "store/base/io.h"
#include "store/log/record.h"

#include <stdint.h>

struct log;
struct super;

enum { LOG_FIRST_ADDR = 4096 };         /* of a new store; LSN 0 means none */

struct log_options {
    uint64_t segment_bytes;     /* capacity of new segments; 64 MiB default where 0 */
    bool     preallocate;       /* reserve the space of a segment when it is made */
    uint32_t zero_ahead;        /* bytes, for log_zero_ahead; 0: never */
    uint32_t zero_after;        /* small syncs in a row until it is due */
    /* a writable open must find the record of this LSN and of this writer's incarnation, else it changes nothing and fails with IO: it had
     * been answered; 0: no such */
    uint64_t least_lsn, least_writer;
};

/* What recovery found. */
struct log_recovery {
    bool     clean;             /* the log ended exactly where the superblock says */
    bool     torn;              /* a torn tail was cut */
    uint64_t cut;               /* address of the cut: the new head */
    uint64_t cut_bytes;         /* bytes of the incomplete record that went (what is known of them) */
    uint64_t durable_known;     /* the largest address known durable from any source */
    uint64_t rewritten;         /* bytes copied into a new segment because their sync was unproven */
    bool     damaged;           /* damage in the middle: the log can be read, not written */
    struct err damage;          /* segment, offset, expected, found */
    uint64_t damage_from, damage_to; /* addresses that cannot be read, [from, to); to = next good record */
    uint64_t last_lsn;          /* last good record (0: none) */
    struct hash128 last_hash;
    uint64_t n_records;         /* scanned */
    bool     index_mended;      /* store_open's: files of the index were as a power cut leaves them (index_files_heal) */
};

/*
 * log_create(io, sb, opt, err): make log/ and its first segment for a new store; durable on return.
 */
int log_create(struct io *io, const struct super *sb, const struct log_options *opt, struct err *err);
/* log_create_at(io, sb, opt, first, last_lsn, last_hash, err): one that begins at ${first}, behind a record that is not in it. */
int log_create_at(struct io *io, const struct super *sb, const struct log_options *opt, uint64_t first, uint64_t last_lsn, const struct hash128 *last_hash,
                  struct err *err);

/*
 * log_end_at(io, sb, at, last_lsn, last_hash, err): of a log that nobody has open: it ends at ${at}, behind the record ${last_lsn}, from now on; what lies behind counts for nothing,
 * and goes. Can be repeated. Files with another name (a branch's) stay there. Errors: NOENT there is no log; NOSPC, IO.
 */
int log_end_at(struct io *io, const struct super *sb, uint64_t at, uint64_t last_lsn, const struct hash128 *last_hash, struct err *err);

/*
 * log_open(io, sb, opt, writable, known_durable, out, rec, err):
 * Open and recover. ${known_durable}: an address that some other witness (persisted index, a
 * standby's acknowledgement) says was durable; 0 if none. Where the log ends below it, or a
 * later frame of this site's own incarnation knew a larger durable address than a bad place,
 * that place is damage, not a torn tail.
 * After an unclean stop and if ${writable}: everything after the last address proven durable is copied
 * into a new segment and synced before this returns; the old one is cut there for good.
 * The caller then sets the incarnation (log_set_writer) and appends INCARNATION.
 * With damage: fails with ERR_DAMAGE if ${writable}; else opens what is whole (*${rec} says what).
 * *${rec} is filled in whenever the log could be scanned, also on ERR_DAMAGE.
 */
int log_open(struct io *io, const struct super *sb, const struct log_options *opt, bool writable,
             uint64_t known_durable, struct log **out, struct log_recovery *rec, struct err *err);

/* log_end_here(log, addr, lsn, hash): of a log opened for reading: as if it ended at ${addr}, where the record at ${lsn} ends, because
 * what follows cannot be read. Before other threads use it. */
void log_end_here(struct log *log, uint64_t addr, uint64_t lsn, const struct hash128 *hash);

/* log_set_lineage(log, lineage): of the segments made from here on; those that are there stay this store's. By who writes, before log_set_writer. */
void log_set_lineage(struct log *log, const uint8_t lineage[16]);
/* log_set_writer(log, epoch, epoch_id, incarnation): identity of the records and frames from here on;
 * starts a new segment if the current one carries another incarnation, or has a second link (a branch's). An empty one is replaced. */
int log_set_writer(struct log *log, uint32_t epoch, const uint8_t epoch_id[16], uint64_t incarnation,
                   struct err *err);

/* log_close(log): frees; syncs nothing and trims nothing (see log_finish). */
void log_close(struct log *log);

/* log_finish(log, err): for a clean close: sync, trim the preallocated tail, sync. Nothing may be appended after. */
int log_finish(struct log *log, struct err *err);

/* One append under way. Small: lives on the caller's stack or in its request. */
struct log_slot {
    uint64_t lsn;
    uint64_t span;              /* bytes of address space, the frame included */
    uint32_t ring;              /* internal */
    void    *segment;           /* internal */
    uint64_t offset;            /* internal: file offset of the frame */
    uint8_t  frame[48];         /* internal */
};

/*
 * log_room(log, rec_bytes, err):
 * Make sure a record of head_len + data_len = ${rec_bytes} can be appended without needing new disk
 * space: may create the next segment. Call before changing any state. Not under a lock that
 * readers need: it may do disk work (a second segment is normally prepared ahead by log_prepare).
 * Errors: NOSPC, IO, POISONED.
 */
int log_room(struct log *log, uint64_t rec_bytes, struct err *err);

/* log_prepare(log): background: make the next segment ahead of need. Returns 0 or an error (not poisoning). */
int log_prepare(struct log *log, struct err *err);

/*
 * log_roll(log, err): begin a new segment, unless the current one holds nothing: so that the old one may be dropped. Its reserve is given back.
 * log_drop(log, upto, err): let go of segments that end by ${upto} and are durable, oldest first, never the current one. What lies in them is elsewhere:
 * reading it here is NOENT from then on. Background; any thread. Errors: ROFS, IO, NOSPC (roll); after a failure of roll's sync or rename POISONED.
 */
int log_roll(struct log *log, struct err *err);
int log_drop(struct log *log, uint64_t upto, struct err *err);

/*
 * log_zero_due(log): syncs have followed each other closely, and the blocks that the next ones will write were allocated but never written:
 * log_zero_ahead(log) writes zeros there. A sync of blocks once written needs no change of the file system's own (extents
 * become "written" by a transaction), which makes it cheaper by a third or more on ext4 and XFS. Appends go on, but for those that
 * would reach the piece under way. Background; any thread, not two at once. A failure shows in the next sync.
 */
bool log_zero_due(struct log *log);
void log_zero_ahead(struct log *log);

/*
 * log_append_begin(log, rec, head, slot):
 * ${head} is the head as record_encode wrote it (rec->head_len bytes). Takes the LSN and both clocks,
 * sets rec->lsn, prev_*, wall_ns, boot_ns, hash; patches ${head}; fills ${slot}.
 * Does no I/O. Cannot fail for want of space after log_room said yes under the same caller lock.
 * Sets epoch and incarnation too. Waits while 4,096 appends are under way or log_room makes a segment.
 * Errors: POISONED, NOSPC (no room was made), ROFS.
 */
int log_append_begin(struct log *log, struct record *rec, uint8_t *head, struct log_slot *slot);

/*
 * log_append_place(log, rec, slot): as log_append_begin, for a record that another site made: address, chain, clocks and hash are its own.
 * Errors also: BADREC it is not the very next one, or not of the epoch that log_set_writer said.
 */
int log_append_place(struct log *log, const struct record *rec, struct log_slot *slot);

/*
 * log_append_write(log, slot, head, head_len, data, data_len, err):
 * One pwritev of frame, head and data. On failure the log is poisoned.
 */
int log_append_write(struct log *log, struct log_slot *slot, const uint8_t *head, uint32_t head_len,
                     const void *data, uint32_t data_len, struct err *err);

/* log_wait_written(log, lsn): wait (microseconds: other threads' pwritev) until written > ${lsn}; 0 or POISONED. */
int log_wait_written(struct log *log, uint64_t lsn);

/*
 * log_sync(log, err): fdatasync whatever is written and not yet durable, in segment order; returns 0 with
 * durable >= the `written` at the time of the call. Concurrent callers share one fdatasync.
 */
int log_sync(struct log *log, struct err *err);

uint64_t log_head(struct log *log);
uint64_t log_written(struct log *log);
uint64_t log_durable(struct log *log);
uint64_t log_first(struct log *log);          /* lowest address still held */
uint64_t log_newest(struct log *log);         /* generation of the newest segment */
int      log_poisoned(struct log *log);       /* 0 or ERR_POISONED */
/* The record below head: its LSN (0 none) and hash. */
void     log_last(struct log *log, uint64_t *lsn, struct hash128 *hash);

/*
 * log_read_record(log, lsn, with_data, rec, buf, err):
 * Read and verify the head of the record at ${lsn}. *${buf} is a malloced buffer that backs ${rec}'s pointers;
 * free it. With ${with_data}, the data too (verified), rec->data set.
 * Errors: NOENT ${lsn} is outside the log (or no multiple of 8); DAMAGE, also where no record begins there.
 */
int log_read_record(struct log *log, uint64_t lsn, bool with_data, struct record *rec, void **buf, struct err *err);

/*
 * log_read_data(log, lsn, dstart, doff, len, out, nowait, err):
 * Read data bytes [doff, doff + len) of the record at ${lsn}, whose data starts ${dstart} bytes behind its
 * frame's start, into ${out}, verified against the record's sums (the head is read and verified
 * too; small reads are one or two preads). ${nowait}: fail with ERR_WAIT rather than wait for the disk.
 * Errors: DAMAGE names segment, offset, expected, found; never returns unverified bytes. NOENT: not in the log.
 */
int log_read_data(struct log *log, uint64_t lsn, uint32_t dstart, uint32_t doff, uint32_t len,
                  uint8_t *out, bool nowait, struct err *err);

/*
 * log_heal_data(log, lsn, doff, bytes, len, err): whole blocks of REC_SUM_BYTES of the data of a record (the last one may be shorter), written where they lie, if they are what the record's sums say.
 * Durable on return. Errors: DAMAGE they are not, or the record's head cannot be read; NOENT; INVAL; IO.
 */
int log_heal_data(struct log *log, uint64_t lsn, uint32_t doff, const uint8_t *bytes, uint32_t len, struct err *err);

/* log_behind(log, end, lsn, hash, err): which record ends at ${end}, and its hash, by what the one behind it says; where none is yet, by what the next one will say. Errors: as log_read_record. */
int log_behind(struct log *log, uint64_t end, uint64_t *lsn, struct hash128 *hash, struct err *err);

/*
 * log_heads_check(heads, len, from, dense, last, err): whether these ${len} bytes are heads of records one behind the other, the first of which is that of @${from}, each in the chain of the one before it, and (${dense}) at the
 * address where that one ends. *${last}: the last one; its pointers are into ${heads}. Errors: DAMAGE they are not; NOENT there is none; NOMEM.
 * log_heal_heads(log, sb, from, heads, len, err): records of addresses from ${from} on whose frames or heads cannot be read, written where they lie, if they are what the first one behind them (or the end of the log) says is before
 * it: each hash then proves the one before. Their data stay what they are, good or bad: their sums say so. Of a segment whose file is gone it makes
 * another one, whose data are all bad. Durable on return. Errors: DAMAGE they are not those, or not all of a segment that is gone; NOENT; IO, NOMEM.
 * log_heal_header(log, sb, first, err): the header of the segment that begins @${first}: 0 it is whole; 1 it was not, and was made anew of the segment's name and records. Errors: NOENT its first record cannot be read; IO, NOMEM.
 * log_heal_name(log, first, err): the file of the segment that begins @${first} has lost its name while it was open: 1 it was written once more, from what is open, under its name; 0 its name is there. A current one ends first; one that holds nothing gives way to a new one. Errors:
 * NOENT none begins there; DAMAGE it is not open either; BUSY it is still being written, or the log is being closed; IO, NOSPC, NOMEM, POISONED.
 * log_check_header(log, first, err): 0 it is whole. Errors: DAMAGE, VERSION; NOENT, INVAL none begins there; IO.
 */
int log_heads_check(const uint8_t *heads, size_t len, uint64_t from, bool dense, struct record *last, struct err *err);
int log_heal_heads(struct log *log, const struct super *sb, uint64_t from, const uint8_t *heads, size_t len, struct err *err);
int log_heal_header(struct log *log, const struct super *sb, uint64_t first, struct err *err);
int log_heal_name(struct log *log, uint64_t first, struct err *err);
int log_check_header(struct log *log, uint64_t first, struct err *err);

/*
 * log_next_readable(log, from, until, stop, arg): behind damage: the first record that can be read at or behind ${from}, a multiple of 8; ${until} when there is none, or ${stop}
 * (may be NULL, called each LOG_LOOK_BYTES, and wherever the disk gives nothing) was not 0. Where the disk gives nothing it goes on 4,096 bytes behind.
 */
enum { LOG_LOOK_BYTES = 1 << 20 };
uint64_t log_next_readable(struct log *log, uint64_t from, uint64_t until, int (*stop)(void *arg), void *arg);

/*
 * Iteration in LSN order over records, with or without data:
 *   struct log_iter *it; log_iter_new(log, from, until, flags, &it, err);
 *   while ((r = log_iter_next(it, &rec, err)) == 1) ...   0 at the end, < 0 on failure
 * ${from} is an address: the first record at or above it that starts a known place
 * (a record start, or a segment's first address) - pass a record start, or LOG_FIRST_ADDR / log_first.
 * Ends before ${until} (an exclusive end; at most `written`). rec's pointers live until the next call.
 * Verifies frame, head hash and the chain (prev_lsn, prev_hash); with LOG_ITER_DATA also reads and verifies data.
 */
enum { LOG_ITER_DATA = 1 };
struct log_iter;
int  log_iter_new(struct log *log, uint64_t from, uint64_t until, int flags, struct log_iter **out, struct err *err);
int  log_iter_next(struct log_iter *it, struct record *rec, struct err *err);
/* log_iter_raw(it): frame and head of the record last returned as they are on disk (data follows them with LOG_ITER_DATA). As long as its pointers. */
const uint8_t *log_iter_raw(const struct log_iter *it);
void log_iter_free(struct log_iter *it);

/* Calls fn for each segment file, oldest first: for status, check, dump. */
struct log_segment_info { uint64_t first, end, gen, file_bytes; char name[40]; };
int log_segments(struct log *log, int (*fn)(void *arg, const struct log_segment_info *s), void *arg);

#endif
