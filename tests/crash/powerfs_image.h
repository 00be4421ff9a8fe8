/*
 * powerfs_image: the two images of a file system under test.
 *
 * The volatile image is what applications see, the durable image what a
 * power cut leaves at the least.  Between them stand the pending operations:
 * per file a list of page-sized writes and size changes, and one list of
 * directory operations for the whole image.  The rules are in README.md.
 *
 * Locking: none here; the caller holds one lock around every call.
 * Threads: any, one at a time.
 * Errors:  functions returning int give 0 or a negative errno.  Running out
 *          of memory ends the program: this is a test instrument.
 */
#ifndef POWERFS_IMAGE_H
#define POWERFS_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

enum { PF_PAGE = 4096, PF_SECTOR = 512, PF_SECTORS = PF_PAGE / PF_SECTOR };
#define PF_ROOT_INO 1u
#define PF_MAX_SIZE (UINT64_C(64) << 30) /* page tables are flat arrays */

/* A page is immutable while more than one table refers to it. */
struct pf_page {
    unsigned refs;
    uint8_t data[PF_PAGE];
};

/* One table of pages; bytes past size in the last page are always zero. */
struct pf_map {
    struct pf_page **page;
    size_t n;
    uint64_t size;
};

enum pf_data_kind {
    PF_DATA_WRITE,      /* bytes of one page; implies size >= op.size */
    PF_DATA_ZERO,       /* punch or zero range in one page */
    PF_DATA_TRUNC_ZERO, /* what a truncate zeroed: survives only under a later write */
    PF_DATA_EXTEND,     /* the size of an extending write, without its data */
    PF_DATA_TRUNC,      /* size := op.size; survives in order with its like */
};

/* A pending change of one file's content; immutable, shared by saved images. */
struct pf_data_op {
    uint64_t seq;
    uint64_t page;
    uint64_t size;
    unsigned refs;
    uint16_t off;
    uint16_t len;
    enum pf_data_kind kind;
    struct pf_page *whole; /* a write of all of a page shares it; else data[] */
    uint8_t data[];
};

struct pf_attr {
    mode_t mode;
    uid_t uid;
    gid_t gid;
    dev_t rdev;
    struct timespec atime, mtime, ctime;
};

struct pf_dirent {
    uint64_t ino;
    uint64_t cookie; /* ascending, never reused in a directory: readdir offset */
    char *name;
    uint32_t hash;
};

struct pf_dir {
    struct pf_dirent *ent;
    size_t n, cap;
    uint64_t next_cookie;
};

struct pf_inode {
    uint64_t ino;
    uint64_t nlookup;  /* references held by the kernel */
    unsigned vlinks;   /* entries in volatile directories */
    unsigned dlinks;   /* entries in durable directories */
    unsigned pendrefs; /* pending directory operations naming it */
    struct pf_attr attr, dattr;
    uint64_t attr_seq; /* of the last change not yet durable, 0 if none */
    struct pf_map v, d;
    struct pf_data_op **op;
    size_t nops, ops_cap;
    uint64_t *stale; /* pages whose write-back failed: visible, clean, not durable */
    size_t nstale;
    size_t allocated; /* pages of the volatile map that take space */
    char *target;
    struct pf_dir vdir, ddir;
    struct pf_inode *prev, *next;
};

enum pf_dir_kind { PF_DIR_LINK, PF_DIR_UNLINK, PF_DIR_RMDIR, PF_DIR_RENAME };

/* A pending directory operation: up to two entries set at once (ino 0 removes). */
struct pf_dir_op {
    uint64_t seq;
    unsigned refs;
    enum pf_dir_kind kind;
    bool moves_dir;
    uint64_t victim_dir; /* a directory this removes, or 0 */
    unsigned n;
    struct {
        uint64_t dir;
        uint64_t ino;
        char *name;
        uint32_t hash;
    } set[2];
};

struct pf_image {
    struct pf_inode *head;
    struct pf_inode **tab; /* by inode number */
    size_t tab_cap;
    uint64_t next_ino;
    uint64_t next_seq;
    struct pf_dir_op **dop; /* ascending seq */
    size_t ndops, dops_cap;
    uint64_t used_pages;
    uint64_t full_pages; /* ENOSPC above this; 0 = no bound */
    bool ext4_like;
};

enum pf_mode { PF_DROP_ALL, PF_KEEP_ALL, PF_RANDOM, PF_PREFIX };
enum pf_dirs { PF_DIRS_AUTO, PF_DIRS_PREFIX, PF_DIRS_SUBSET };

struct pf_cut {
    uint64_t seed;
    enum pf_mode mode;
    enum pf_dirs dirs;
    bool torn; /* tear pages at sectors */
};

struct pf_cut_stats {
    size_t data_ops, data_lost, data_torn; /* pending page writes */
    size_t dir_ops, dir_lost;
};

/* powerfs_image.c ------------------------------------------------------- */

void *pf_alloc(size_t len);               /* zeroed */
void *pf_grow(void *p, size_t *cap, size_t want, size_t item);
uint64_t pf_random(uint64_t *state);      /* splitmix64 */
uint64_t pf_random_below(uint64_t *state, uint64_t bound);

struct pf_image *pf_image_new(void);
void pf_image_free(struct pf_image *img); /* NULL is fine */

/* A deep copy sharing pages and pending operations; look-ups are zero in it. */
struct pf_image *pf_image_clone(const struct pf_image *img);

/* Make volatile and durable what survives; all look-up counts become 0. */
void pf_image_cut(struct pf_image *img, const struct pf_cut *cut,
                  struct pf_cut_stats *stats);

/* Everything durable, as if every object were synced. */
void pf_image_sync(struct pf_image *img);

struct pf_inode *pf_inode_get(const struct pf_image *img, uint64_t ino); /* or NULL */
struct pf_inode *pf_inode_new(struct pf_image *img, mode_t mode, uid_t uid, gid_t gid);
void pf_inode_maybe_free(struct pf_image *img, struct pf_inode *in);
void pf_attr_touch(struct pf_image *img, struct pf_inode *in, bool mtime);

/* powerfs_data.c -------------------------------------------------------- */

/* Returns bytes written (short when space ends) or -ENOSPC, -EFBIG. */
ssize_t pf_data_write(struct pf_image *img, struct pf_inode *in, const void *buf,
                      size_t len, uint64_t off);
size_t pf_data_read(const struct pf_inode *in, void *buf, size_t len, uint64_t off);
int pf_data_truncate(struct pf_image *img, struct pf_inode *in, uint64_t size);
int pf_data_fallocate(struct pf_image *img, struct pf_inode *in, int mode,
                      uint64_t off, uint64_t len);
void pf_data_sync(struct pf_inode *in);
void pf_data_sync_failed(struct pf_inode *in);

/* Rebuild the file from its durable map and the survivors.  prefix_seq is the
 * last surviving operation in PF_PREFIX mode. */
void pf_data_cut(struct pf_inode *in, const struct pf_cut *cut, uint64_t *rng,
                 uint64_t prefix_seq, struct pf_cut_stats *stats);
void pf_data_clone(struct pf_inode *to, const struct pf_inode *from);
void pf_data_release(struct pf_inode *in);

/* powerfs_dir.c --------------------------------------------------------- */

struct pf_dirent *pf_dir_find(const struct pf_dir *dir, const char *name);
void pf_dir_copy(struct pf_dir *to, const struct pf_dir *from);
void pf_dir_release(struct pf_dir *dir);

int pf_dir_link(struct pf_image *img, struct pf_inode *dir, const char *name,
                struct pf_inode *in);
int pf_dir_unlink(struct pf_image *img, struct pf_inode *dir, const char *name,
                  bool rmdir);
int pf_dir_rename(struct pf_image *img, struct pf_inode *from, const char *name,
                  struct pf_inode *to, const char *to_name, unsigned flags);

void pf_dir_sync(struct pf_image *img, const struct pf_inode *dir);  /* fsync of a directory */
void pf_dir_sync_name(struct pf_image *img, const struct pf_inode *in); /* --ext4-like */
void pf_dir_sync_all(struct pf_image *img);

/* Commit the survivors to the durable directories, forget the rest. */
void pf_dir_cut(struct pf_image *img, const struct pf_cut *cut, uint64_t *rng,
                uint64_t prefix_seq, struct pf_cut_stats *stats);
void pf_dir_ops_release(struct pf_image *img); /* without reference accounting */

#endif
