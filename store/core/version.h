/*
 * version.h: versions of a name. product.md, "Four words".
 *
 * A version is the content of a name at the end of a burst: at fsync, at a rename onto the name, after 2 s without an
 * operation on the file, before a truncation to nothing, at a snapshot. A change of mode or owner alone makes none.
 */
#ifndef STORE_CORE_VERSION_H
#define STORE_CORE_VERSION_H

#include "store/core/store.h"

struct version {
    uint64_t lsn;             /* a moment at which the name had this content (the end of its burst, inclusive) */
    uint64_t ino;
    uint64_t content;         /* identity of the bytes: equal content LSN and ino = equal bytes */
    int64_t  wall_ns;         /* when the content was last changed */
    uint64_t size;
    uint32_t mode, uid, gid;
    bool     deleted;         /* the name went away here (unlink, rename away): content is not valid */
    bool     live;            /* is what the name holds now */
    const char *how;          /* "write" "rename" "create" "delete" "moved-away" "link" */
};

/*
 * version_list(s, path, every_write, fn, arg, err):
 * Newest first, of the NAME (a path relative to the root, "/"-separated, no leading "/" needed): through deletion,
 * re-creation and rename-over. Stops when ${fn} returns nonzero. With ${every_write} each state is listed.
 * Errors: NOENT the name never existed.
 */
int version_list(struct store *s, const char *path, bool every_write,
                 int (*fn)(void *arg, const struct version *v), void *arg, struct err *err);
/* version_list_file: of the file (through renames): `log --follow`. */
int version_list_file(struct store *s, uint64_t ino, bool every_write,
                      int (*fn)(void *arg, const struct version *v), void *arg, struct err *err);

/* store_walk(s, at, path, ino, row, err): resolve a path (symlinks are not followed). */
int store_walk(struct store *s, uint64_t at, const char *path, uint64_t *ino, struct row_ino *row, struct err *err);
/* store_path(s, at, ino, buf, cap, err): some path of ${ino} at that moment, "" for the root. NOENT if it has none. */
int store_path(struct store *s, uint64_t at, uint64_t ino, char *buf, size_t cap, struct err *err);

#endif
