/* version_internal.h: what undo needs to know of a version beyond version.h. */
#ifndef STORE_CORE_VERSION_INTERNAL_H
#define STORE_CORE_VERSION_INTERNAL_H

#include "store/core/version.h"

struct version_seen {
    struct version v;
    uint64_t at;               /* a moment at which the name led to this very row (not moved out of a series, as v.lsn is) */
    uint64_t origin;           /* row_ino.origin */
};

/* version_id(x): two versions with equal ids have equal bytes, also when one was restored from the other. */
static inline uint64_t version_id(const struct version_seen *x)
{
    return x->origin != 0 ? x->origin : x->v.content;
}

/* version_scan: as version_list. */
int version_scan(struct store *s, const char *path, bool every_write,
                 int (*fn)(void *arg, const struct version_seen *x), void *arg, struct err *err);

/* path_next(path, name, len): the next component of a path behind *${path}, which moves on; false at the end. "." and
 * empty ones are skipped. */
bool path_next(const char **path, const char **name, size_t *len);

#endif
