/*
 * rows.h: keys and values of the index rows. FORMAT.md, "Index rows (not for ever)".
 *
 * Keys: a one-byte table tag, then big-endian fields. `_c` rows are current, `_h` rows are
 * history, valid in [birth, death). Every row knows its birth.
 *
 *   'i' ino                      'I' ino 00 death          -> struct row_ino
 *   'd' parent name              'D' parent name 00 death  -> struct row_den
 *   'x' parent cookie            'X' parent death cookie   -> struct row_dix
 *   'p' ino parent name          'P' ino parent name 00 death -> struct row_par
 *   'I' ino 01 mapgen block      'I' ino 02 mapgen block death -> struct row_map
 *   'a' ino name                 'A' ino name 00 death     -> birth, value
 *   'o' ino                      orphans (nlink 0, not reaped) -> birth of the orphan state
 *   't' run wall                 -> struct row_time (64 KiB of stream, or a quarter of an hour; wall is biased to sort)
 *   'r' run                      -> struct row_run
 *   'w' lsn                      -> the clock of a kept moment whose record was let go of
 *   's' name                     snapshots -> struct row_snap
 *   'e' begin                    series -> end LSN, 0 while open
 *   'h' hash                     a chunk with this keyed hash (its first 8 bytes): its number. A hint for packing
 *   'n' place                    the newest chunk of a part of a name (a hash of both): its number. A hint for packing
 *   '!' name                     meta: "applied" and the counters
 *
 * Decoders validate everything (ERR_DAMAGE); encoders write into a caller's buffer.
 * Threads: pure functions.
 */
#ifndef STORE_INDEX_ROWS_H
#define STORE_INDEX_ROWS_H

#include "store/base/err.h"
#include "store/index/kv.h"
#include "store/base/hash.h"
#include "store/log/record.h"

#include <stdbool.h>
#include <stdint.h>

enum { INO_ROOT = 1, INO_BITS = 44, INO_FIRST = 16 };   /* 2..15 are reserved */
#define INO_MAX ((1ull << INO_BITS) - 1)
enum { BLOCK_SHIFT = 20, BLOCK_BYTES = 1 << BLOCK_SHIFT };
enum { BLOCK_PIECES_MAX = 1024 };     /* beyond it a block is folded by REWRITE */
enum { MAP_IMAGE_EVERY = 64 };        /* every that many history rows carry the full map */
#define FILE_SIZE_MAX REC_FILE_MAX

enum row_ino_flags {
    INOF_NEW_BURST = 1,    /* the record that made this row began a new burst */
    INOF_NOHISTORY = 2,    /* directories: has REC_XATTR_NOHISTORY: what is made in here is not of the past */
    INOF_HAS_ACL   = 4,    /* has system.posix_acl_access */
};

/* An inode. `content` is the LSN of the last change of its data or size: two rows with the same
 * content have the same bytes, and a version is named by it. `hidden`: since this LSN it is not of the past: what
 * was before has its history, what came since leaves none. */
struct row_ino {
    uint64_t birth;            /* LSN of the record that made this row */
    uint64_t created;          /* LSN of its CREATE */
    uint64_t content;
    uint64_t origin;           /* content LSN of the version this content was restored from, 0 if none */
    uint64_t mapgen;           /* its map rows; a truncation to 0 starts a new one (the LSN of it) */
    uint64_t size;             /* bytes; symlink: length of the target */
    uint64_t blocks;           /* bytes held by pieces */
    uint64_t entries;          /* directories: number of entries */
    struct rec_time atime, mtime, ctime, btime;
    uint32_t mode, uid, gid, rdev, nlink;
    uint32_t n_xattr;
    uint32_t flags;
    uint64_t parent;           /* directories: the parent (".."), else 0 */
    uint64_t hidden;           /* 0: it is of the past as any other */
    uint16_t target_len;       /* symlinks: the target follows the row */
};

/* A name: by name, by its place in the listing, and from its inode. type: S_IFMT bits >> 12. hidden: as its inode was when it got the name; then the
 * name is not of the past, and leaves no row when it goes. All names of an inode that is hidden are. */
struct row_den { uint64_t birth, ino, cookie; uint32_t type; bool hidden; };
struct row_dix { uint64_t birth, ino; uint32_t type; bool hidden; uint16_t name_len; const uint8_t *name; };
struct row_par { uint64_t birth; bool hidden; };

/* row_hides(dir): what is made in this directory is not of the past. */
static inline bool row_hides(const struct row_ino *dir)
{
    return dir->hidden != 0 || (dir->flags & INOF_NOHISTORY) != 0;
}

/* A run of bytes of a block and where they are in the stream. */
struct piece {
    uint32_t off, len;         /* in the block, bytes */
    uint64_t lsn;              /* record that holds them */
    uint32_t dstart, doff;     /* see log_read_data */
    uint64_t birth;            /* LSN since which they are here */
};

/* A map row: pieces ascending by off, not overlapping; what no piece covers reads as zeros.
 * History row: the pieces that died at `death`; if image, also the whole map just before it. */
struct row_map {
    uint64_t birth;            /* last change (current rows) */
    uint32_t since_image;      /* current rows: history rows since the last image */
    uint32_t n, n_image;
    struct piece *piece;       /* n, then n_image of the image */
};

/* A record by its clock: one at least every 64 KiB of stream, and the first one of each quarter of an hour (QUARTER_NS since 1970, so of every hour and
 * day in any time zone). prev: LSN of the record before it, 0 for none. age: of the store, record.h. */
#define QUARTER_NS 900000000000ll
struct row_time { uint64_t lsn, prev, age_ns; };
struct row_run { uint64_t first_lsn; int64_t first_wall, last_wall; };
struct row_snap { uint64_t lsn, at; int64_t wall_ns, until_ns; bool held;
                  uint16_t reason_len, person_len; const uint8_t *reason, *person; };

/* Keys: written to ${k} (KV_KEY_MAX bytes), length returned. */
size_t key_ino(uint8_t *k, uint64_t ino);
size_t key_ino_h(uint8_t *k, uint64_t ino, uint64_t death);
size_t key_den(uint8_t *k, uint64_t parent, const void *name, size_t nlen);
size_t key_den_h(uint8_t *k, uint64_t parent, const void *name, size_t nlen, uint64_t death);
size_t key_dix(uint8_t *k, uint64_t parent, uint64_t cookie);
size_t key_dix_h(uint8_t *k, uint64_t parent, uint64_t death, uint64_t cookie);
size_t key_par(uint8_t *k, uint64_t ino, uint64_t parent, const void *name, size_t nlen);
size_t key_par_h(uint8_t *k, uint64_t ino, uint64_t parent, const void *name, size_t nlen, uint64_t death);
size_t key_map(uint8_t *k, uint64_t ino, uint64_t mapgen, uint64_t block);
size_t key_map_h(uint8_t *k, uint64_t ino, uint64_t mapgen, uint64_t block, uint64_t death);
size_t key_xat(uint8_t *k, uint64_t ino, const void *name, size_t nlen);
size_t key_xat_h(uint8_t *k, uint64_t ino, const void *name, size_t nlen, uint64_t death);
size_t key_orphan(uint8_t *k, uint64_t ino);
size_t key_time(uint8_t *k, uint32_t run, int64_t wall_ns);
size_t key_run(uint8_t *k, uint32_t run);
size_t key_clock(uint8_t *k, uint64_t lsn);
size_t key_snap(uint8_t *k, const void *name, size_t nlen);
size_t key_series(uint8_t *k, uint64_t begin);
size_t key_chunk(uint8_t *k, const struct hash128 *hash);
size_t key_place(uint8_t *k, uint64_t place);
size_t key_meta(uint8_t *k, const char *name);

/*
 * key_parse(k, len, out): take any key apart (dump, check, tests). False if it is none. ${table} is the key's letter; 'm' for a
 * map, and 'M' for its history.
 */
struct key_parts { char table; uint64_t ino, parent, mapgen, block, death, cookie, begin, place, lsn; uint32_t run;
                   int64_t wall_ns; const uint8_t *name; size_t name_len; };
bool key_parse(const uint8_t *k, size_t len, struct key_parts *out);

/* Values. Encoders return the length; ${cap} must be at least the ..._MAX (asserted: our own code).
 * Decoders: 0, or ERR_DAMAGE saying what. */
enum { ROW_INO_MAX = 256 + REC_SYMLINK_MAX, ROW_SMALL_MAX = 512 };
size_t row_ino_encode(const struct row_ino *r, const void *target, uint8_t *buf, size_t cap);
int    row_ino_decode(const uint8_t *buf, size_t len, struct row_ino *r, const uint8_t **target, struct err *err);
size_t row_den_encode(const struct row_den *r, uint8_t *buf, size_t cap);
int    row_den_decode(const uint8_t *buf, size_t len, struct row_den *r, struct err *err);
size_t row_dix_encode(const struct row_dix *r, uint8_t *buf, size_t cap);
int    row_dix_decode(const uint8_t *buf, size_t len, struct row_dix *r, struct err *err);
/* map: pieces delta-coded with varints; sequential writes cost about 10 bytes a piece.
 * row_map_bound(n): enough bytes for n pieces in all. decode: r->piece is malloced (free it), or NULL if n is 0. */
size_t row_map_bound(uint32_t n);
size_t row_map_encode(const struct row_map *r, uint8_t *buf, size_t cap);
int    row_map_decode(const uint8_t *buf, size_t len, struct row_map *r, struct err *err);
size_t row_xat_encode(uint64_t birth, const void *val, size_t vlen, uint8_t *buf, size_t cap); /* cap >= vlen + 16 */
int    row_xat_decode(const uint8_t *buf, size_t len, uint64_t *birth, const uint8_t **val, size_t *vlen, struct err *err);
size_t row_par_encode(const struct row_par *r, uint8_t *buf, size_t cap);
int    row_par_decode(const uint8_t *buf, size_t len, struct row_par *r, struct err *err);
size_t row_u64_encode(uint64_t v, uint8_t *buf, size_t cap);                 /* orphan, series, hints, clocks */
int    row_u64_decode(const uint8_t *buf, size_t len, uint64_t *v, struct err *err);
size_t row_time_encode(const struct row_time *r, uint8_t *buf, size_t cap);
int    row_time_decode(const uint8_t *buf, size_t len, struct row_time *r, struct err *err);
size_t row_run_encode(const struct row_run *r, uint8_t *buf, size_t cap);
int    row_run_decode(const uint8_t *buf, size_t len, struct row_run *r, struct err *err);
size_t row_snap_encode(const struct row_snap *r, uint8_t *buf, size_t cap);  /* cap >= 64 + reason + person */
int    row_snap_decode(const uint8_t *buf, size_t len, struct row_snap *r, struct err *err);

/* Meta row "applied": where the index stands, and the counters that replay must continue from. */
struct row_meta {
    uint64_t applied;          /* exclusive end: every record below this address is in the rows */
    uint64_t last_lsn;         /* last record applied, and its hash (ties the index to this log) */
    struct hash128 last_hash;
    uint64_t next_ino;
    uint64_t n_inodes, n_bytes;  /* live inodes; sum of `blocks` of live inodes */
    uint32_t run;              /* current run */
    int64_t  last_wall;        /* of the last record */
    uint64_t last_time_lsn;    /* LSN of the last time row */
    uint64_t series;           /* LSN of an open SERIES_BEGIN, 0 if none */
    uint64_t snapshots;        /* number of snapshots */
    uint64_t mount_id;         /* of the last MOUNT */
    uint32_t epoch;            /* of the last record */
    uint64_t age_ns;           /* of the store at the last record, record_age_step */
    uint64_t last_boot;        /* of the last record: ns since boot */
    uint64_t n_past;           /* history rows of inodes */
    uint64_t n_held;           /* bytes of all pieces of map rows, current and history, images apart */
    uint64_t n_hidden;         /* how often an inode was made hidden: 0: rows name all data from the horizon on */
};
size_t row_meta_encode(const struct row_meta *r, uint8_t *buf, size_t cap);
int    row_meta_decode(const uint8_t *buf, size_t len, struct row_meta *r, struct err *err);

#endif
