/*
 * record.h: one file-system operation as bytes. FORMAT.md, "Records".
 *
 * A record is  fixed head (128) | data sums (8 each) | args | data  and is the
 * same bytes at every site. Its hash covers everything but the data; the data
 * is covered by one XXH3-64 per 16 KiB counted from the data's start, so a
 * record stripped of its data still verifies. What it is wrapped in locally
 * is a frame (frame.h).
 *
 * Threads: pure functions.
 */
#ifndef STORE_LOG_RECORD_H
#define STORE_LOG_RECORD_H

#include "store/base/bytes.h"
#include "store/base/err.h"
#include "store/base/hash.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* X(name, number): numbers are for ever. FORMAT.md says which are written today. */
#define REC_TABLE(X)      \
    X(CREATE,       1)    \
    X(LINK,         2)    \
    X(UNLINK,       3)    \
    X(RENAME,       4)    \
    X(SETATTR,      5)    \
    X(WRITE,        6)    \
    X(CLONE,        7)    \
    X(FALLOCATE,    8)    \
    X(SETXATTR,     9)    \
    X(REMOVEXATTR, 10)    \
    X(SNAPSHOT,    11)    \
    X(PIN,         12)    \
    X(POLICY,      13)    \
    X(PURGE,       14)    \
    X(REAP,        15)    \
    X(REWRITE,     16)    \
    X(SERIES_BEGIN,17)    \
    X(SERIES_END,  18)    \
    X(CANARY,      19)    \
    X(MOUNT,       20)    \
    X(INCARNATION, 21)    \
    X(EPOCH,       22)

enum rec_type {
#define X(name, num) REC_##name = (num),
    REC_TABLE(X)
#undef X
};

enum rec_flags {
    RECF_KILL_PRIV  = 1 << 0,  /* clears suid, sgid (if group-exec) and security.capability */
    RECF_NEW_BURST  = 1 << 1,  /* begins a new burst: the state of ino before it is a version */
    RECF_SERIES     = 1 << 2,  /* between SERIES_BEGIN and SERIES_END */
    RECF_NOHISTORY  = 1 << 3,  /* CREATE, LINK, RENAME: what has this name is not of the past, whatever its directory says */
    RECF_NOHISTORY_BACK = 1 << 4,  /* RENAME that exchanges: so with the source's name, which the other one gets */
};

enum {
    REC_HEAD_BYTES   = 128,         /* the fixed head */
    REC_SUM_BYTES    = 16384,       /* data bytes under one sum */
    REC_DATA_MAX     = 16 << 20,    /* data bytes of one record */
    REC_ARGS_MAX     = 1 << 20,     /* args bytes of one record */
    REC_HEAD_MAX     = REC_HEAD_BYTES + 8 * (REC_DATA_MAX / REC_SUM_BYTES) + REC_ARGS_MAX,
    REC_ROOT_INO     = 1,           /* its CREATE has no name and parent 0 */
    REC_NAME_MAX     = 255,
    REC_SYMLINK_MAX  = 4095,
    REC_XATTR_MAX    = 65536,
};

/* The attribute of a directory that says: what is made in here is not of the past. FORMAT.md, "What a record does". */
#define REC_XATTR_NOHISTORY "user.spare.nohistory"

#define REC_FILE_MAX ((UINT64_C(1) << 43) - 1)      /* bytes of a file: offsets and lengths stay within it, also summed */

/* Times of a file: seconds and nanoseconds since 1970, any year. */
struct rec_time { int64_t sec; uint32_t nsec; };

struct rec_bytes { const uint8_t *p; uint32_t len; };   /* borrowed */

struct rec_xattr { struct rec_bytes name, value; };
enum { REC_CREATE_XATTRS = 4 };

enum rec_setattr_valid {
    RSA_MODE = 1, RSA_UID = 2, RSA_GID = 4, RSA_SIZE = 8, RSA_ATIME = 16, RSA_MTIME = 32,
    RSA_ATIME_NOW = 64, RSA_MTIME_NOW = 128,   /* the record's own clock; atime/mtime are 0 */
    RSA_ALL = 255,
};

enum rec_rename_flags { RRN_NOREPLACE = 1, RRN_EXCHANGE = 2 };
enum rec_fallocate_mode {   /* same values as linux/falloc.h */
    RFA_KEEP_SIZE = 1, RFA_PUNCH_HOLE = 2, RFA_ZERO_RANGE = 16,
};

/* A piece of data somewhere in the stream; see index/rows.h. */
struct rec_piece {
    uint64_t dst_off;     /* in the destination file */
    uint64_t lsn;         /* record that holds the data */
    uint32_t dstart;      /* bytes from the frame's start to the record's data */
    uint32_t doff;        /* offset in the record's data */
    uint32_t len;         /* bytes, > 0 */
};

enum rec_snapshot_action { RSN_CREATE = 1, RSN_DELETE = 2, RSN_HOLD = 3, RSN_RELEASE = 4 };

/*
 * A decoded record. Byte fields point into the buffer it was decoded from (or,
 * to be encoded, at the caller's memory).
 */
struct record {
    /* fixed head */
    uint16_t type, flags;
    uint32_t head_len;         /* fixed head + sums + args; set by record_encode */
    uint32_t data_len;
    uint64_t lsn, prev_lsn;
    struct hash128 prev_hash, hash;
    uint32_t epoch;
    uint64_t incarnation;
    int64_t  wall_ns;          /* CLOCK_REALTIME as read */
    uint64_t boot_ns;          /* CLOCK_BOOTTIME of the writing host */
    uint32_t uid, gid, pid;    /* caller */
    uint64_t unique;           /* FUSE request, 0 if none */
    uint64_t ino;              /* the object; 0 where there is none */
    /* args by type */
    union {
        struct { uint64_t parent; uint32_t mode, uid, gid, rdev;
                 struct rec_bytes name, target;
                 uint32_t n_xattr; struct rec_xattr xattr[REC_CREATE_XATTRS]; } create;
        struct { uint64_t parent; struct rec_bytes name; } link;   /* LINK and UNLINK */
        struct { uint64_t src_parent, dst_parent, dst_ino; uint32_t flags;
                 struct rec_bytes src_name, dst_name; } rename;
        struct { uint32_t valid, mode, uid, gid; uint64_t size;
                 struct rec_time atime, mtime; } setattr;
        struct { uint64_t off; } write;                             /* WRITE and REWRITE */
        struct { uint64_t src_ino, src_off, dst_off, len;
                 uint64_t origin;          /* whole-file restore: content LSN of the version it brings back, else 0 */
                 uint32_t n_pieces; const uint8_t *pieces; } clone; /* 32 bytes each, see rec_piece_get */
        struct { uint32_t mode; uint64_t off, len; } fallocate;
        struct { uint32_t flags, mode;   /* mode: new mode of the inode, or REC_NO_MODE */
                 struct rec_bytes name, value; } xattr;             /* SETXATTR and REMOVEXATTR */
        struct { uint32_t action; uint64_t at; int64_t until_ns;
                 struct rec_bytes name, reason, person; } snapshot;
        struct { uint32_t n; const uint8_t *inos; } reap;           /* 8 bytes each */
        struct { uint64_t id; struct rec_bytes text; } series;      /* id = LSN of BEGIN (0 in BEGIN) */
        struct { uint64_t nonce; } canary;
        struct { uint64_t id; uint32_t action; struct rec_bytes host, dir; } mount; /* 1 mount 2 unmount */
        struct { uint64_t id; struct rec_bytes host, boot_id; } incarnation;
        struct { uint32_t number; uint8_t site[16], id[16], lineage[16]; struct rec_bytes reason; } epoch;
        struct { struct rec_bytes name, value; } text;              /* PIN, POLICY, PURGE */
    } u;
    /* where the rest is */
    const uint8_t *sums;       /* 8 bytes each, ceil(data_len / 16 KiB) of them */
    const uint8_t *data;       /* data_len bytes, or NULL where stripped / not read */
};

#define REC_NO_MODE 0xffffffffu

/* record_n_sums(data_len): number of sums for that many data bytes. */
uint32_t record_n_sums(uint32_t data_len);

/* record_dstart(head_len): bytes from the start of the frame to the data. */
uint32_t record_dstart(uint32_t head_len);

/*
 * record_head_len(rec): bytes record_encode will write for ${rec} (type, args
 * and data_len are looked at).
 */
uint32_t record_head_len(const struct record *rec);

/*
 * record_encode(rec, sums, buf, cap):
 * Write fixed head, sums and args of ${rec} to ${buf}; ${sums} are its data sums
 * (record_sums) or NULL if data_len is 0. Sets rec->head_len; the chain fields
 * (lsn, prev_*, hash) are written as they are in ${rec}; record_seal sets them.
 * Returns head_len, or ERR_TOOLONG / ERR_INVAL for args out of bounds.
 */
int record_encode(struct record *rec, const uint64_t *sums, uint8_t *buf, size_t cap);

/*
 * record_seal(buf, head_len, rec):
 * Patch lsn, prev_lsn, prev_hash, epoch, incarnation, wall_ns and boot_ns of ${rec} into an encoded head,
 * compute the record's hash into it and into rec->hash. Cheap: runs under the log's lock.
 */
void record_seal(uint8_t *buf, uint32_t head_len, struct record *rec);

/* record_sums(data, len, sums): the sums of ${len} data bytes into ${sums}. */
void record_sums(const void *data, size_t len, uint64_t *sums);

/*
 * record_decode(buf, len, rec, err):
 * Decode and validate a head of at least ${len} bytes available at ${buf}:
 * lengths, type, args, the record's hash. Data is not looked at; rec->data is NULL.
 * Errors: TRUNCATED (fewer bytes than head_len), BADREC with what was wrong, NOMEM (a head above 16 KiB).
 * *${rec} is only written on success.
 */
int record_decode(const uint8_t *buf, size_t len, struct record *rec, struct err *err);

/*
 * record_decode_args(args, len, rec, err):
 * Decode and validate the arguments alone: the ${len} bytes of them at ${args}, into rec->u. The other fields of ${rec} are
 * the caller's; type, flags, data_len, lsn and ino are looked at. Errors: BADREC as above; rec->u is then undefined.
 */
int record_decode_args(const uint8_t *args, size_t len, struct record *rec, struct err *err);

/*
 * record_check_data(rec, data, off, len):
 * Verify data bytes [off, off + len) of ${rec} given at ${data}; ${off} is a multiple of
 * 16 KiB and len a multiple of it unless it ends at data_len. 0 or ERR_DAMAGE with the
 * offset of the first bad block in *${bad_off} (may be NULL).
 */
int record_check_data(const struct record *rec, const uint8_t *data, uint32_t off, uint32_t len,
                      uint32_t *bad_off);

/* rec_piece_get/put: i-th piece of a CLONE's list, 32 bytes each. */
enum { REC_PIECE_BYTES = 32 };
struct rec_piece rec_piece_get(const uint8_t *pieces, uint32_t i);
void rec_piece_put(uint8_t *pieces, uint32_t i, const struct rec_piece *p);

/*
 * record_age_add(age, wall, boot, rec): the age of a store at ${rec}, in ns, where it was ${age} at the record before, whose clocks were ${wall} and
 * ${boot}. FORMAT.md, "Age". record_age_now(age, wall, boot, now_wall, now_boot): at a moment behind the last record.
 */
uint64_t record_age_add(uint64_t age_ns, int64_t wall_ns, uint64_t boot_ns, const struct record *rec);
uint64_t record_age_now(uint64_t age_ns, int64_t wall_ns, uint64_t boot_ns, int64_t now_wall_ns, uint64_t now_boot_ns);

/* record_type_name(type): "CREATE"..., or NULL for an unknown number. */
const char *record_type_name(unsigned type);

#endif
