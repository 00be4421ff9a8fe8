/*
 * import_tree.h: make the tree of a store equal to a directory, and compare the two. Both may be repeated: what is
 * equal already costs a look.
 */
#ifndef CLI_IMPORT_TREE_H
#define CLI_IMPORT_TREE_H

#include "store/core/store.h"

struct import_stats { uint64_t objects, bytes, copied, removed, differ, skipped; };

struct import_options {
    /* Files whose ctime is below this and whose size and mtime agree count as equal without reading. INT64_MIN: read everything. */
    int64_t changed_since_ns;
    uint64_t total_bytes;       /* for progress; 0 unknown */
};

/* import_measure(dir, bytes, objects, err): sizes; refuses what import cannot take: USAGE another file system is mounted inside. */
int import_measure(const char *dir, uint64_t *bytes, uint64_t *objects, struct err *err);

/*
 * import_copy(s, dir, opt, st, err): create, change and remove in the store's live tree until it is what ${dir} is: content, holes,
 * mode, owner, times, symlinks, hard links, devices, xattrs. An xattr the store does not take is skipped and counted, and named.
 * Errors: those of the store; IO reading ${dir}, naming the file; INTR.
 */
int import_copy(struct store *s, const char *dir, const struct import_options *opt, struct import_stats *st, struct err *err);

/*
 * import_verify(s, dir, opt, st, err): compare; each difference is named on stderr (20 of them) and counted in st->differ.
 */
int import_verify(struct store *s, const char *dir, const struct import_options *opt, struct import_stats *st, struct err *err);

#endif
