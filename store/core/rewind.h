/*
 * rewind.h: a standby that holds what its primary does not (it was primary itself, or followed another one) goes back to where both part. What it held beyond is kept as
 * a branch: a store of its own in branches/NAME, for reading, of hard links to all files the store had. FORMAT.md, "Branches".
 */
#ifndef STORE_CORE_REWIND_H
#define STORE_CORE_REWIND_H

#include "store/core/store.h"

enum { BRANCH_NAME_MAX = 128 };

struct rewind {
    uint64_t at;                 /* where both part: the end of the last record that both hold */
    uint64_t last_lsn;           /* that record; of ${anew}: what store_anew takes */
    struct hash128 last_hash;
    bool     keep;               /* there is something to be kept as a branch; store_rewind looks itself, too */
    char     branch[BRANCH_NAME_MAX];    /* out: its name; "": none was made */
    bool     anew;               /* not that, but store_anew: what was sent lies in incoming/ */
};

/* rewind_worth_keeping(s, at): whether any record from ${at} on changes what is in a file or a directory, or names a moment; true where that cannot be said. */
bool rewind_worth_keeping(struct store *s, uint64_t at);

/*
 * rewind_possible(io, sb, r, err): whether what is left is whole: records from the beginning, or a base of before the fork and those behind it; no file of archive or packs holds both sides of the fork
 * (nothing would say where it ends), and nothing of what was there at the fork was let go of. It is so where the primary was waited for as a standby (store_held_from). BOOTSTRAP: then it is made
 * anew (anew.h). Errors: IO, DAMAGE, NOMEM.
 */
struct super;
int rewind_possible(struct io *io, const struct super *sb, const struct rewind *r, struct err *err);

/*
 * store_rewind(io, dir, r, err): of a store that nobody has open: its lock is taken meanwhile. It was closed cleanly, and is a standby. On return it ends at r->at, durably, and its
 * index is gone: the next open makes it anew of what is left. Every step can be repeated: what a crash leaves is the store of before, or with the branch there already, or gone back.
 * Errors: LOCKED; INVAL it is no such store, or not behind r->at, or has another record there; BOOTSTRAP as rewind_possible: nothing was done; NOSPC, IO, DAMAGE.
 */
int store_rewind(struct io *io, const char *dir, struct rewind *r, struct err *err);

#endif
