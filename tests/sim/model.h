/*
 * model.h: a file system in memory, written from product.md and POSIX, as plain as can be: what the store is compared
 * with. It shares no code with the store (scripts/check-layering): it knows operations, not records or rows.
 *
 * Every change is a struct mop. The model checks it (which errors it deserves) and applies it; the list of operations
 * applied so far is the history, and any past state is had by applying its beginning to a new model.
 *
 * Digest: two sums mod 2^64 over all objects that have a name and all names; equal trees have equal digests, and each
 * operation changes the sums by what it touched. Content counts by 4 KiB pages, pages of zeros count nothing: so a hole
 * and zeros are the same, as they are for read(2).
 *
 * Hidden, that is, there today and in no past moment: an object by what it was made or last named as, and each name as its object was when it got it.
 * The digest of a moment is of what can be reached from the root by names that are not hidden.
 */
#ifndef TESTS_SIM_MODEL_H
#define TESTS_SIM_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MOP_TABLE(X)                                                          \
    X(CREATE) X(LINK) X(UNLINK) X(RMDIR) X(RENAME) X(SETATTR) X(WRITE)        \
    X(FALLOCATE) X(CLONE) X(SETXATTR) X(REMOVEXATTR) X(SNAPSHOT) X(SERIES)    \
    X(REAP)

enum mop_kind {
#define X(name) MOP_##name,
    MOP_TABLE(X)
#undef X
    MOP_N_KINDS
};

enum { M_MODE = 1, M_UID = 2, M_GID = 4, M_SIZE = 8, M_ATIME = 16, M_MTIME = 32 };     /* SETATTR */
enum { M_NOREPLACE = 1, M_EXCHANGE = 2 };                                               /* RENAME */
enum { M_KEEP_SIZE = 1, M_PUNCH = 2, M_ZERO = 16 };                                     /* FALLOCATE */
enum { M_XCREATE = 1, M_XREPLACE = 2 };                                                 /* SETXATTR */
enum { M_SNAP_CREATE = 1, M_SNAP_DELETE = 2, M_SNAP_HOLD = 3, M_SNAP_RELEASE = 4 };     /* SNAPSHOT */

enum { M_PAGE = 4096, M_NAME_CAP = 300 };
#define M_SIZE_MAX ((1ull << 43) - 1)     /* product limit: files up to 8 TiB - 1 */
#define M_NOW 0xffffffffu                 /* nsec of a time that is "now" */
#define M_APPEND UINT64_MAX               /* WRITE off */
#define M_LIVE UINT64_MAX                 /* CLONE src_at */
#define M_NOHISTORY "user.spare.nohistory"        /* of a directory: what is made in it is hidden */

struct mtime { int64_t sec; uint32_t nsec; };

/* One operation. Zeroed fields where a kind has no use for them. `data` is owned. */
struct mop {
    enum mop_kind kind;
    uint64_t lsn;                /* where the store put it; 0: it left no record */
    int64_t  now_ns;             /* clock of the operation */
    uint32_t uid, gid, umask;    /* caller */
    bool     kill;               /* caller's kill-suid flag */
    bool     by_name, by_name2;  /* CREATE, LINK, RENAME: the setting has the new name; RENAME that exchanges: the old one */
    uint64_t ino;                /* object; CREATE: the new one */
    uint64_t parent, parent2;
    char     name[M_NAME_CAP], name2[M_NAME_CAP];
    uint32_t nlen, nlen2;
    uint32_t mode, rdev, flags, valid, new_uid, new_gid;
    uint64_t size, off, len, src_at, src_ino, src_off;
    struct mtime atime, mtime;
    uint8_t *data;               /* WRITE, SETXATTR value, CREATE symlink target (NUL-terminated), CLONE of the past: the source's bytes */
    uint32_t dlen;
};

struct mhash { uint64_t a, b; };

/* What is visible of an inode; also what the oracle fills in from the store. */
struct mattr {
    uint64_t ino, size;
    uint32_t mode, uid, gid, rdev, nlink;
    struct mtime at, mt, ct;
    struct mhash data, xattr;    /* sums over pages and attributes */
    const char *target;          /* symlinks */
};

struct mpage { uint64_t idx; uint8_t *p; struct mhash h; };
struct mdent { char *name; uint32_t nlen; bool hidden; uint64_t ino; };
struct mxattr { char *name; uint8_t *val; uint32_t vlen; };
struct mino {
    struct mattr a;
    uint64_t parent;             /* directories */
    uint64_t touched;            /* LSN of the last operation on it */
    bool hidden;
    struct mpage *page; size_t n_page, cap_page;
    struct mdent *ent;  size_t n_ent, cap_ent;
    struct mxattr *x;   size_t n_x, cap_x;
    char *target;
};
struct msnap { char name[M_NAME_CAP]; bool held; };

struct model {
    struct mino **ino; size_t n_ino, cap_ino;      /* ascending by number */
    struct msnap *snap; size_t n_snap, cap_snap;
    bool series;
    struct mhash digest;
    uint64_t max_ino;            /* largest number ever seen */
    uint64_t n_hidden;           /* names that are hidden */
};

/* The errors (errno) an operation deserves; more than one may be right, where several things are wrong at once. */
struct merrs { int n, e[8]; };

struct model *model_new(void);
void model_free(struct model *m);
/* model_root: the root directory as the store made it. */
void model_root(struct model *m, uint64_t ino, uint32_t mode, uint32_t uid, uint32_t gid, int64_t now_ns);

/* model_check: what is wrong with the operation; e->n == 0: nothing. Changes nothing. */
void model_check(const struct model *m, const struct mop *op, struct merrs *e);
/* model_do: apply an operation that model_check found nothing wrong with. Returns the bytes of a CLONE, else 0. */
uint64_t model_do(struct model *m, const struct mop *op);
/* model_reap_all: what an open after a crash does to files that have no name. */
void model_reap_all(struct model *m);

struct mino *model_find(const struct model *m, uint64_t ino);
const struct mdent *model_entry(const struct mino *dir, const char *name, uint32_t nlen);
const struct mxattr *model_xattr(const struct mino *i, const char *name);
/* model_read: bytes at off, short at the end of file. */
size_t model_read(const struct mino *i, uint64_t off, void *buf, size_t len);
/* model_page_zero: no byte other than 0 in this page. */
bool model_page_zero(const struct mino *i, uint64_t idx);
/* model_past: the digest of the moment that this is. */
struct mhash model_past(const struct model *m);
/* model_below: is ${ino} the directory ${dir} or below it? */
bool model_below(const struct model *m, uint64_t ino, uint64_t dir);

/* Hashes, for whoever computes the digest of another tree. */
struct mhash mhash_add(struct mhash x, struct mhash y);
struct mhash mhash_sub(struct mhash x, struct mhash y);
bool mhash_eq(struct mhash x, struct mhash y);
struct mhash mhash_bytes(uint64_t seed, const void *p, size_t n);
struct mhash mhash_page(uint64_t idx, const uint8_t *p);        /* M_PAGE bytes; zeros give 0 */
struct mhash mhash_xattr(const char *name, const void *val, size_t vlen);
struct mhash mhash_attr(const struct mattr *a);
struct mhash mhash_dent(uint64_t parent, const char *name, size_t nlen, uint64_t child, uint32_t type);

/* mop_free: the operation's data. mop_copy: deep. mop_text: one line for a report. */
void mop_free(struct mop *op);
void mop_copy(struct mop *to, const struct mop *from);
void mop_text(const struct mop *op, char *buf, size_t cap);
const char *mop_name(enum mop_kind k);

/* ACLs in the kernel's xattr form. */
bool macl_valid(const uint8_t *v, size_t len);
uint32_t macl_mode(const uint8_t *v, size_t len, uint32_t mode);       /* permission bits an access ACL stands for */
void macl_chmod(uint8_t *v, size_t len, uint32_t mode);
/* macl_create: ${v}, a copy of the parent's default ACL, becomes the access ACL of a new object; returns its mode. */
uint32_t macl_create(uint8_t *v, size_t len, uint32_t mode);
bool macl_is_mode(const uint8_t *v, size_t len);                       /* nothing beyond the mode bits */

/* Memory that is there, or the test ends. */
void *m_alloc(size_t n);
void *m_grow(void *p, size_t *cap, size_t need, size_t each);

#endif
