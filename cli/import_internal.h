/* import_internal.h: what copying and comparing share. */
#ifndef CLI_IMPORT_INTERNAL_H
#define CLI_IMPORT_INTERNAL_H

#include "cli/import_tree.h"

#include <sys/stat.h>

enum { IMPORT_CHUNK = 1 << 20, IMPORT_DEPTH_MAX = 400 };

/* Hard links seen: source (dev, inode) to the store's inode. Only files with more than one name are in it. */
struct import_link { uint64_t src, ino; };

struct import {
    struct store *s;
    struct caller who;
    const struct import_options *opt;
    struct import_stats *st;
    struct err *err;
    uint64_t dev;
    struct import_link *links;  /* open addressing; src 0 is free */
    size_t links_cap, links_n;
    uint8_t *buf, *buf2;        /* IMPORT_CHUNK each */
    char path[8192];            /* of the object at hand, for messages */
    size_t path_len;
    unsigned depth;
    uint64_t done_bytes;
    const char *what;           /* for progress */
};

/* One directory of the source, with what its entries are compared to. */
struct import_entry { const char *name; int dirfd; struct stat st; uint64_t parent; };

int import_begin(struct import *im, struct store *s, const char *dir, const struct import_options *opt, struct import_stats *st,
                 const char *what, int *dirfd, struct stat *root, struct err *err);
void import_end(struct import *im, int dirfd);

/* import_each(im, dirfd, parent, fn): every entry of a source directory; path is kept. fn: 0 or an error. */
int import_each(struct import *im, int dirfd, uint64_t parent, int (*fn)(struct import *im, const struct import_entry *e));
/* import_names(im, parent, fn): every name of a directory of the store, collected first, so that fn may change it. */
int import_names(struct import *im, uint64_t parent, int (*fn)(struct import *im, uint64_t parent, const char *name, uint64_t ino,
                 uint32_t type, int dirfd), int dirfd);

uint64_t *import_link_slot(struct import *im, uint64_t src);   /* NULL: no memory; *slot 0: not seen yet */
int import_fail(struct import *im, int eno, const char *doing);
int import_store_fail(struct import *im, int code, const char *doing);
/* import_listxattr(im, e, names, len): malloced names of a source object's xattrs. import_getxattr: into im->buf, up to 64 KiB. */
int import_listxattr(struct import *im, const struct import_entry *e, char **names, size_t *len);
int import_getxattr(struct import *im, const struct import_entry *e, const char *name, size_t *len);
int import_readlink(struct import *im, const struct import_entry *e, char *buf, size_t cap);
bool import_same_time(struct timespec a, struct rec_time b);
bool import_looks_same(const struct import *im, const struct stat *st, const struct row_ino *row);
/* import_same_data(im, e, ino, same): read and compare both. */
int import_same_data(struct import *im, const struct import_entry *e, uint64_t ino, bool *same);
void import_tick(struct import *im, uint64_t bytes);

#endif
