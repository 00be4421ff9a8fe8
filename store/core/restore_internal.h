/* restore_internal.h: what the files of restore share. Public: restore.h. */
#ifndef STORE_CORE_RESTORE_INTERNAL_H
#define STORE_CORE_RESTORE_INTERNAL_H

#include "store/core/restore.h"

/* A file of several names: its inode then, and the live one that stands for it. */
struct twin { uint64_t src, dst; };

struct restore {
    struct store *s;           /* what is changed */
    struct caller c;
    struct store *from;        /* where it comes from: ${s} itself, or a branch of it */
    uint64_t at;               /* a moment of that */
    uint64_t same_until;       /* contents named by LSNs up to here are the same in both */
    bool delete_extra;
    void (*progress)(void *arg, const struct restore_stats *st);
    void *arg;
    struct restore_stats *st;
    struct err *err;
    struct twin *twin;         /* open addressing, 0 = free; one row by src, one by dst */
    size_t n_twin, cap_twin;
    bool changed;
};

/* ---- restore_tree.c ---- */

/*
 * restore_entry(r, src, row, parent, name, nlen): make the live entry what inode ${src} was, with everything below it. ${nlen} 0:
 * the root onto the root.
 */
int restore_entry(struct restore *r, uint64_t src, const struct row_ino *row, uint64_t parent, const char *name, size_t nlen);
void restore_release(struct restore *r);

/* ---- restore_node.c: one inode ---- */

/* restore_content: 1 changed, 0 the same bytes already. */
int restore_content(struct restore *r, uint64_t src, const struct row_ino *row, uint64_t dst, const struct row_ino *live);
/* restore_attrs: mode, owner, times, xattrs; changes what differs. 1 changed, 0 all the same. ${made}: by this restore. */
int restore_attrs(struct restore *r, uint64_t src, const struct row_ino *row, uint64_t dst, bool made);
/* restore_create: a new inode of the same kind. */
int restore_create(struct restore *r, uint64_t src, const struct row_ino *row, uint64_t parent, const char *name, size_t nlen,
                   uint64_t *dst);
/* restore_remove: the live entry, with all below it but what is hidden: then the directories it is in stay too, and EXIST is returned in the end. */
int restore_remove(struct restore *r, uint64_t parent, const char *name, size_t nlen, uint64_t ino, const struct row_ino *live);
/* restore_same_symlink: 1 the same target, 0 another. */
int restore_same_symlink(struct restore *r, uint64_t src, uint64_t dst);
/* The live entries of a directory, names copied. Free with asof_list_free. */
struct asof_list;
int restore_listing(struct restore *r, uint64_t dir, struct asof_list *out);

int restore_fail(struct restore *r, int rc, const char *name, size_t nlen, const char *what);
void restore_tell_ino(struct restore *r, uint64_t ino);
void restore_tell_entry(struct restore *r, uint64_t parent, const char *name, size_t nlen);

#endif
