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
    uint64_t last_lsn;           /* that record */
    struct hash128 last_hash;
    bool     has_next;           /* the primary's epoch that begins there is known: */
    struct epoch_row next;
    bool     keep;               /* there is something to be kept as a branch */
    char     branch[BRANCH_NAME_MAX];    /* out: its name; "": none was made */
    bool     anew;               /* not that, but store_anew: what was sent lies in incoming/ */
};

/* rewind_worth_keeping(s, at): whether any record from ${at} on changes what is in a file or a directory, or names a moment; true where that cannot be said. */
bool rewind_worth_keeping(struct store *s, uint64_t at);

/* rewind_possible(io, r, err): whether what is left makes an index: records from the beginning, or a base of before the fork. BOOTSTRAP; then it is made anew (anew.h). */
int rewind_possible(struct io *io, const struct rewind *r, struct err *err);

/*
 * store_rewind(io, dir, r, err): of a store that nobody has open: its lock is taken meanwhile. It was closed cleanly, and is a standby. On return it ends at r->at, durably, and its
 * index is gone: the next open makes it anew of what is left. Every step can be repeated: what a crash leaves is the store of before, or with the branch there already, or gone back.
 * Errors: LOCKED; INVAL it is no such store, or not behind r->at; BOOTSTRAP what is left does not make an index (records before were let go of, and the base that has them is later): nothing
 * was done; NOSPC, IO, DAMAGE.
 */
int store_rewind(struct io *io, const char *dir, struct rewind *r, struct err *err);

#endif
