/*
 * pair.h: a small file kept as two copies, NAME.0 and NAME.1, each with a
 * generation and a hash. A write goes to the older copy and is synced before it
 * counts, so whatever happens to it the current one stays.
 *
 * After a failed sync the page cache shows bytes the disk may not have. So the
 * first write of a process does not trust the copy it read: it writes that
 * one's bytes once more and syncs them, and only then touches the other copy.
 *
 * Locking: the caller serialises. Threads: none of its own.
 */
#ifndef STORE_BASE_PAIR_H
#define STORE_BASE_PAIR_H

#include "store/base/err.h"
#include "store/base/io.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pair_copy {
    char     name[32];
    int      rc;            /* 0 valid; NOENT; DAMAGE, VERSION, IO... as in err */
    uint64_t gen;           /* where valid */
    uint8_t *buf;           /* malloc; NULL unless it could be read */
    size_t   len;
    struct err err;         /* begins with the name */
};

struct pair {
    const char *name;
    struct pair_copy copy[2];
};

/* Validates the ${len} bytes of one copy and says its generation; 0 or a negative code. */
typedef int pair_check_fn(const uint8_t *buf, size_t len, uint64_t *gen, struct err *err);

/*
 * pair_load(io, name, max, check, p, err):
 * Read both copies into ${p}; a file longer than ${max} bytes is bad. The state of each copy is in ${p}.
 * Release with pair_release, also after a failure. Errors: NOMEM.
 */
int pair_load(struct io *io, const char *name, size_t max, pair_check_fn *check, struct pair *p,
              struct err *err);
void pair_release(struct pair *p);

/*
 * pair_current(p, warn, err):
 * The index of the current copy: the valid one of the larger generation. *${warn} (may be NULL) is set
 * if the other is not valid: then the current one may be a generation behind what was written last.
 * Errors: NOENT neither file exists; VERSION either is of a newer format (the other must not be used
 * then: it is the state before an upgrade); DAMAGE, IO both are bad.
 */
int pair_current(const struct pair *p, struct err *warn, struct err *err);

/*
 * pair_update(io, name, max, check, gen, current, buf, len, err):
 * Write ${buf}, which holds generation ${gen} + 1, over the copy that is not of generation ${gen}, and sync
 * it. ${gen} 0 makes both files of a new store. *${current} is the caller's memory: 0, or 1 + the index of the copy that this
 * process itself wrote generation ${gen} to and synced; if 0, the copy of that generation is first written anew (see above), and a
 * copy the disk does not give fails the call: it may be that one.
 * On failure generation ${gen} is as valid on disk as it was; calling again is safe.
 * Errors: EXIST files exist though ${gen} is 0; NOENT they are gone; INVAL another process wrote a newer
 * generation; VERSION; IO, NOSPC, NOMEM.
 */
int pair_update(struct io *io, const char *name, size_t max, pair_check_fn *check, uint64_t gen,
                int *current, const uint8_t *buf, size_t len, struct err *err);

#endif
