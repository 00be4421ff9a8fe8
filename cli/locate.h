/*
 * locate.h: which store a command speaks of, and which path in it. product.md, "Commands".
 *
 * STORE is a store, a mount point, or any path inside one. Without one: the store of the current directory, then
 * $SPARE_STORE. A path of a mount is found by the kernel's list of mounts, which never asks the mount itself.
 */
#ifndef CLI_LOCATE_H
#define CLI_LOCATE_H

#include "store/base/err.h"

#include <stdbool.h>

struct place {
    char *store;        /* the store's directory, absolute */
    char *mount;        /* the mount point the path is in, or NULL */
    char *rel;          /* the path from the store's root, without a leading slash; "" is the root; NULL: none given */
};

/*
 * locate_store(arg, p, err): the store ${arg} speaks of; NULL: by default.
 * Errors: NOSTORE what was looked at and what it is; USAGE a path in the past.
 */
int locate_store(const char *arg, struct place *p, struct err *err);

/*
 * locate_path(store, path, p, err):
 * The store and the path in it. With ${store} (--store) the path counts from the store's root. Else a path inside a mount
 * is that file, whether it exists now or not; elsewhere, with $SPARE_STORE, it counts from that store's root.
 * ${path} NULL: the current directory (with --store: the root).
 * Errors: as locate_store.
 */
int locate_path(const char *store, const char *path, struct place *p, struct err *err);

/* locate_same(a, path, rel, err): *rel (malloced) = the path in the same store as ${p} that ${path} names, by the rules ${p} was
 * found with (${store} as given to locate_path). USAGE: it is in another store. */
int locate_same(const struct place *p, const char *store, const char *path, char **rel, struct err *err);

void locate_release(struct place *p);

/* locate_is_store(dir): does a store lie there? locate_was_store(dir, err): where none does, ERR_DAMAGE if one did, whose superblocks are both gone; else 0. */
bool locate_is_store(const char *dir);
int  locate_was_store(const char *dir, struct err *err);

/* locate_absolute(path, err): malloced: absolute, symlinks of the parts that exist resolved but for the last one, which may be
 * missing, as may any number of parts. */
char *locate_absolute(const char *path, struct err *err);

#endif
