/*
 * super.h: the superblock (super.0, super.1) and the retained set
 * (retained.0, retained.1). FORMAT.md, "Superblock" and "Retained set".
 *
 * Each is kept in two files, each with a generation and a hash; a write goes to the older copy, is synced, and only then counts. The
 * newer valid copy is the current one. Damage of one copy is reported and
 * healed by the next write; damage of both is ERR_DAMAGE.
 *
 * Locking: the caller serialises. Threads: none of its own.
 */
#ifndef STORE_BASE_SUPER_H
#define STORE_BASE_SUPER_H

#include "store/base/epoch.h"
#include "store/base/err.h"
#include "store/base/hash.h"
#include "store/base/io.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SUPER_FILE_MIN     = 16384,  /* a file grows with its epoch rows: super_bytes */
    SUPER_FILE_MAX     = 90112,
    SUPER_EPOCHS_MAX   = 1024,
    SUPER_EPOCHS_SOON  = SUPER_EPOCHS_MAX / 8 * 7,  /* from so many on a person is told that the table fills */
    SUPER_EPOCHS_KEPT  = 16,     /* of the table: what another site says leaves so many to begin here */
    SUPER_CONFIG_MAX   = 4096,
    SUPER_RESERVED_BYTES = 784,
    FORMAT_VERSION     = 1,      /* written by this program */
    FORMAT_VERSION_MIN = 1,      /* oldest this program reads */
};

enum super_role {
    ROLE_PRIMARY = 1,           /* appends; at most one of an epoch */
    ROLE_STANDBY = 2,           /* takes its primary's records */
    ROLE_FENCED  = 3,           /* was primary, and has met a higher epoch: nothing changes it until a person decides */
    ROLE_BRANCH  = 4,           /* what a store had past a fork, kept for reading */
};

struct super {
    uint64_t gen;               /* of this copy; set by super_write; 0 in a new store */
    int      current;           /* not stored; super_write's own: 1 + the copy this process wrote generation gen to */
    uint32_t version, version_min;          /* of the format; 0 = this program's */
    uint64_t compat, ro_compat, incompat;   /* feature bits, kept as read */
    uint8_t  lineage[16];       /* shared by a store and its standbys */
    uint8_t  site[16];          /* this store */
    uint8_t  key[32];           /* hash key of the lineage (pack dedup) */
    uint32_t role;              /* enum super_role */
    uint32_t hash_alg, key_id;
    int64_t  created_wall_ns;
    /* where it lives; elsewhere mount asks for --moved or --copied */
    uint8_t  machine[16];       /* /etc/machine-id, or zero */
    uint64_t dev, ino;          /* of the store's directory */
    /* state at the last write of the superblock */
    uint32_t clean;             /* 1: closed cleanly, head and durable are equal and exact */
    uint64_t durable;           /* every record below this address is durable */
    uint64_t last_lsn;          /* the record that ends at durable, and its hash */
    struct hash128 last_hash;
    uint64_t incarnation;       /* of the last writer; 0 before the first */
    uint64_t segment_gen;       /* generation of the newest segment known */
    /* settings: "name=value\n" lines, UTF-8, see cli `config` */
    uint32_t config_len;
    char     config[SUPER_CONFIG_MAX];
    /* fields of a newer program that this one may ignore, kept as read where a compat or ro_compat bit is set; else zero */
    uint8_t  reserved[SUPER_RESERVED_BYTES];
    /* last, so that a copy takes the rows that there are: super_copy */
    uint32_t n_epochs;
    struct epoch_row epochs[SUPER_EPOCHS_MAX];
};

/* super_copy(to, from): all of it; of the epochs the rows that there are. super_bytes(n_epochs): of a file with so many. */
void super_copy(struct super *to, const struct super *from);
size_t super_bytes(uint32_t n_epochs);
/* super_before(sb): the lineage that the store was of before its own began: of a fork, a copy, or a standby of one; NULL: it always was of this one. */
const uint8_t *super_before(const struct super *sb);

/* super_epochs_left(n_epochs): so many more fit in a table of ${n_epochs} with which another site can still follow: the last SUPER_EPOCHS_KEPT are for promotions, and end that. */
static inline uint32_t super_epochs_left(uint32_t n_epochs)
{
    return n_epochs < SUPER_EPOCHS_MAX - SUPER_EPOCHS_KEPT ? SUPER_EPOCHS_MAX - SUPER_EPOCHS_KEPT - n_epochs : 0;
}

/*
 * super_read(io, sb, warn, err):
 * Read the current superblock of the store into *${sb}. If one copy is bad,
 * *${warn} (may be NULL) is set to say which; the other may then be the one
 * before the last, so sb->clean is 0 whatever it says, and incarnation and
 * segment_gen are lower bounds.
 * What was read is only known to be durable after the next super_write.
 * Errors: NOSTORE neither file exists; VERSION a newer format or an unknown
 * incompatible feature bit; DAMAGE both copies are bad; IO.
 */
int super_read(struct io *io, struct super *sb, struct err *warn, struct err *err);
/* super_read_file(io, path, sb, err): one copy, wherever it lies. Errors: NOENT, VERSION, DAMAGE, IO, NOMEM. */
int super_read_file(struct io *io, const char *path, struct super *sb, struct err *err);

/* super_writable(sb, err), retained_writable(r, err): 0, or VERSION where a feature this program does not know allows reading only.
 * To be asked before anything of the store is written. */
struct retained;
int super_writable(const struct super *sb, struct err *err);
int retained_writable(const struct retained *r, struct err *err);

/*
 * super_write(io, sb, err):
 * Write *${sb} as the next generation over the older copy and sync it; creates
 * both files (and syncs the directory) in a new store, where sb->gen is 0.
 * On success sb->gen is the new generation. On failure the current copy on disk
 * is untouched; sb->gen is unchanged; calling again is safe.
 * Errors: INVAL a field that super_decode would refuse, or another process wrote
 * since; EXIST sb->gen is 0 and there is a superblock; VERSION a feature forbids
 * this program to write; IO, NOSPC, NOMEM.
 */
int super_write(struct io *io, struct super *sb, struct err *err);

/*
 * super_decode(buf, len, sb, err), super_encode(sb, buf): bytes of one file <-> struct; for tests, dump
 * and the fuzzer. decode validates every field and leaves *${sb} alone on failure; encode validates
 * nothing and reads at most the *_MAX of each table.
 * Returns the bytes of the file. Errors: DAMAGE what is wrong, at which byte; VERSION; NOMEM.
 */
int super_decode(const uint8_t *buf, size_t len, struct super *sb, struct err *err);
size_t super_encode(const struct super *sb, uint8_t buf[SUPER_FILE_MAX]);

/*
 * super_config_get(sb, name, buf, cap): the value of a setting into ${buf} (NUL terminated);
 * returns its length, or ERR_NOENT, or ERR_RANGE if it needs more than ${cap} bytes.
 * super_config_set(sb, name, value, err): replace or add; NULL removes. TOOLONG when full,
 * INVAL for an empty name, '=' in the name, or control characters or invalid UTF-8 in either.
 */
int super_config_get(const struct super *sb, const char *name, char *buf, size_t cap);
int super_config_set(struct super *sb, const char *name, const char *value, struct err *err);

/* The retained set R: what is kept of the past. Only rises or shrinks as FORMAT.md says. */
enum { RETAINED_POINTS_MAX = 65536, RETAINED_RESERVED_BYTES = 4 };
enum retained_kind { RETAIN_KEPT = 1, RETAIN_PIN = 2, RETAIN_SNAPSHOT = 3, RETAIN_HOLD = 4 };   /* others: of newer programs, kept */
struct retained_point {
    uint64_t lsn;
    uint32_t kind;
    uint32_t reserved;          /* as super.reserved */
    int64_t  placed_ns;         /* when it was placed, by the clock of then */
    int64_t  until_ns;          /* when it may go; 0: without end. Of RETAIN_KEPT: the age of the store then; it is not listed any more */
    uint8_t  owner[16];         /* whose it is: a standby's site, a drill's id; zero: the store's */
};
struct retained {
    uint64_t gen;
    uint64_t horizon;           /* every moment >= horizon is kept whole */
    uint64_t listed;            /* every moment >= it is listed; what lies between is on its way out, and can be brought back; >= horizon */
    uint64_t leaving;           /* where the horizon goes next, above it, at most listed; 0: nowhere yet */
    uint64_t leaving_age_ns;    /* not before the store is so old */
    int      current;           /* not stored; retained_write's own */
    uint32_t version, version_min;          /* as in struct super */
    uint64_t compat, ro_compat, incompat;
    uint8_t  reserved[RETAINED_RESERVED_BYTES];   /* as super.reserved */
    uint32_t n;                 /* ascending by (lsn, kind, owner), each once; RETAIN_KEPT below listed, others anywhere */
    struct retained_point *point;   /* malloc; n of them */
};
enum { RETAINED_FIXED_BYTES = 128, RETAINED_POINT_BYTES = 48,
       RETAINED_FILE_MAX = RETAINED_FIXED_BYTES + RETAINED_POINTS_MAX * RETAINED_POINT_BYTES + 16 };

/*
 * retained_read(io, lineage, before, r, warn, err), retained_write(io, lineage, r, err):
 * As super_read and super_write; retained_read returns 1 where the set is of ${before} (super_before; may be NULL): a copy takes a lineage of its own in the superblock first. A file of another lineage is
 * ERR_DAMAGE. After a ${warn} the set may be
 * the one before the last: larger than what was meant to be kept, or without the point added last.
 * *${r} takes the set; release it with retained_release. Errors: as there, but NOENT where neither file exists.
 */
int retained_read(struct io *io, const uint8_t lineage[16], const uint8_t *before, struct retained *r, struct err *warn, struct err *err);
int retained_write(struct io *io, const uint8_t lineage[16], struct retained *r, struct err *err);
/* retained_create(io, lineage, r, err): the first one of a new store, of generation r->gen: packs and bases that were taken over name theirs. EXIST there is one. */
int retained_create(struct io *io, const uint8_t lineage[16], struct retained *r, struct err *err);
/*
 * retained_decode(buf, len, lineage, r, err): as super_decode; ${lineage} is an output; release *${r} with retained_release.
 * Errors also: NOMEM.
 * retained_encode(r, lineage, buf, cap): returns the bytes written, 0 if r->n or ${cap} does not fit.
 */
int retained_decode(const uint8_t *buf, size_t len, uint8_t lineage[16], struct retained *r, struct err *err);
size_t retained_encode(const struct retained *r, const uint8_t lineage[16], uint8_t *buf, size_t cap);
/* retained_release(r): frees the points; an all-zero set may be released too. */
void retained_release(struct retained *r);
/*
 * Which moments are listed: those at or above r->listed, and points, but for those on their way out.
 * retained_lists(r, lsn): that one is. retained_first(r, from, until), retained_last: the first one, the last one in [from, until), or 0. retained_near(r, lsn): the nearest to ${lsn}. O(log n)
 * but for points on their way out.
 */
bool retained_lists(const struct retained *r, uint64_t lsn);
uint64_t retained_first(const struct retained *r, uint64_t from, uint64_t until);
uint64_t retained_last(const struct retained *r, uint64_t from, uint64_t until);
uint64_t retained_near(const struct retained *r, uint64_t lsn);

#endif
