/*
 * diff.h: what changed between two moments, and where names were that are gone. The records between the moments say what may have changed; what did is asked
 * of both.
 */
#ifndef STORE_CORE_DIFF_H
#define STORE_CORE_DIFF_H

#include "store/core/store.h"

enum { DIFF_MAX = 4 << 20 };             /* names and objects touched, at most: they are held in memory, 100 bytes each */

enum diff_kind { DIFF_ADDED, DIFF_REMOVED, DIFF_RENAMED, DIFF_CONTENT, DIFF_ATTRS };
struct diff_entry {
    enum diff_kind kind;
    const char *path, *old_path;         /* without a leading slash; old_path: of RENAMED */
    uint64_t ino;
    uint32_t mode;
    uint64_t size_before, size_after;    /* of regular files; 0 where it was not there */
    uint64_t operations;                 /* on this object, by any of its names; 0 where the records are gone */
};

/*
 * All operations between: also those on what is the same again at the end, or came and went, and what was done to snapshots. Not of a store's own records (a mount, an epoch, a reap). last_ns: the latest clock of them, which is not
 * that of the last one where the clock was set back.
 */
struct diff_total {
    uint64_t operations, first_lsn, last_lsn;        /* 0: there was none */
    int64_t  first_ns, last_ns;
    bool     known;                      /* false: the records are gone */
};

/*
 * diff_moments(s, from, to, fn, arg, total, err): *${total} (may be NULL) is set before ${fn} is called. ${from} <= ${to}, both moments that resolve (AT_LIVE for ${to}: the present). By path. Times alone are no change; of what was renamed with a directory
 * the directory is told. fn nonzero stops. Errors: TOOLONG more than DIFF_MAX; NOMEM, DAMAGE, IO.
 */
int diff_moments(struct store *s, uint64_t from, uint64_t to, int (*fn)(void *arg, const struct diff_entry *e), void *arg, struct diff_total *total, struct err *err);

struct find_entry {
    const char *path, *moved_to;         /* moved_to: where it is today, if it only got another name; else NULL */
    uint64_t ino;
    uint32_t type;                       /* S_IFMT >> 12 */
    bool     gone;                       /* the name is not there today */
    uint64_t gone_lsn, at;               /* the record that took it away; a moment listed at which it was there */
    int64_t  gone_ns;
};
/*
 * find_names(s, pattern, deleted, fn, arg, err): names that match a shell pattern (of the whole path, if there is a slash in it): today's, or those that are gone, each at its last time. Of what
 * no listed moment has nothing is said. Reads the names of all directories. fn nonzero stops. Errors: NOMEM, DAMAGE, IO.
 */
int find_names(struct store *s, const char *pattern, bool deleted, int (*fn)(void *arg, const struct find_entry *e), void *arg, struct err *err);

#endif
