/*
 * archive_internal.h: what the archive's files share: the expanded bytes of a frame.
 *
 * Threads: one object, one thread.
 */
#ifndef STORE_PACK_ARCHIVE_INTERNAL_H
#define STORE_PACK_ARCHIVE_INTERNAL_H

#include "store/pack/archive.h"
#include "store/pack/columns.h"

enum { ARCHIVE_FRAME_RECORDS_MAX = 65536,       /* as any program may write them */
       ARCHIVE_RECORD_SPAN_MIN = 176 };         /* addresses that a record takes, at least */

#define ARCHIVE_FRAME_MAGIC 0x46415053u         /* "SPAF" */

/* The columns, in their order. FORMAT.md, "Archive". */
enum archive_column {
    ARC_TYPE, ARC_FLAGS, ARC_GAP, ARC_DATA_LEN, ARC_ARGS_LEN, ARC_EPOCH, ARC_INCARNATION, ARC_WALL, ARC_BOOT,
    ARC_UID, ARC_GID, ARC_PID, ARC_UNIQUE, ARC_INO,
    ARC_NUMBERS,                                /* those before hold numbers, one a record */
    ARC_SUMS = ARC_NUMBERS,
    ARC_FIXED,
    ARC_TYPES = COLUMNS_MAX - ARC_FIXED,        /* arguments of type t: column ARC_FIXED + t - 1 */
};

/* The record before in its frame; end: the address behind it. For the first one all zero but end: its own LSN. */
struct archive_before { uint64_t end, epoch, incarnation, wall, boot, uid, gid, pid, unique, ino; };

/* archive_put(c, b, rec, head): ${rec}, whose head bytes are ${head}, as one more of the frame in ${c}; ${b} is moved on. No memory: c->bad. */
void archive_put(struct columns *c, struct archive_before *b, const struct record *rec, const uint8_t *head);

/* archive_take(c, buf, cap): the expanded bytes of the frame; 0 without memory or where ${cap} is too small. */
size_t archive_take(const struct columns *c, uint8_t *buf, size_t cap);

/* archive_put_bound(head_len): bytes that one more record adds to them, at most; ARCHIVE_LENGTHS_BOUND: those of the columns' lengths. */
enum { ARCHIVE_LENGTHS_BOUND = COLUMNS_MAX * 5 };
size_t archive_put_bound(uint32_t head_len);

#endif
