/*
 * fork.h: a writable copy of what a store is now: forks/NAME, a store of its own of hard links, with a lineage of its own. FORMAT.md, "Branches".
 *
 * It is made of a store that is open, and written to. Both go on by themselves: no file that both have is ever changed (DESIGN.md, "Forks").
 */
#ifndef STORE_CORE_FORK_H
#define STORE_CORE_FORK_H

#include "store/core/store.h"

enum { FORK_NAME_MAX = 100 };

/* A setting of a fork: the LSN of the last record that it was made with. */
#define FORK_PARTED "forked"

struct fork {
    uint64_t lsn;                        /* the last record it has of the other store */
    uint64_t moment;                     /* the moment that this is; before lsn where that lies inside a series: its tree must be restored to it */
    uint64_t paused_ns;                  /* how long the log made its new segment, and writers perhaps waited */
    uint64_t links;                      /* files that both have */
    uint8_t  site[16];                   /* whose it is: no other try of that name has this one */
};

/*
 * store_fork(s, name, out, err): forks/${name}.part is the fork, whole and durable; store_fork_finish gives it its name. Of a store of any role; opened writable, but for a branch. What
 * a try that was cut off left under that name is removed first. Forks of a branch are those of the store around it, two directories up.
 * Errors: USAGE not a name of a fork; EXIST; BUSY the one of that name is being made; BOOTSTRAP a standby that has no tree yet; NOSPC, also of the table of epochs; IO, DAMAGE. Then
 * the part may be there, without meaning.
 * Locking: takes store_maint_begin. Threads: any.
 */
int store_fork(struct store *s, const char *name, struct fork *out, struct err *err);

/* Of a store's directory, open or not. fork_name_check(name, err): USAGE.
 * store_fork_finish(io, name, site, err): the part, which nobody has open, gets its name. Errors: EXIST; BUSY another try of that name took its place, or removed it; IO, DAMAGE.
 * store_fork_remove(io, name, err): the fork, or what is left of one, goes. Errors: NOENT; LOCKED somebody has it open; NOTEMPTY it has forks itself; IO: then what is left is a part. */
int fork_name_check(const char *name, struct err *err);
int store_fork_finish(struct io *io, const char *name, const uint8_t site[16], struct err *err);
int store_fork_remove(struct io *io, const char *name, struct err *err);

#endif
