/*
 * past_branch.h: branches (store/core/branch.h), shown beside moments: `.snapshots/@NAME` is what the branch NAME ends with, read-only, names without history too.
 *
 * A branch is a store of its own; this worker has at most PAST_BRANCHES of them open, for reading and without their locks, each with its share of the memory the mount may have. One
 * is opened by the first request for it, and closed when the kernel knows nothing of it any more, when nobody has asked for a while, or when another one needs its place: then the next request
 * opens it again. So look-ups need no open store, and a later worker serves the node ids it finds (past_slots.h).
 *
 * Its key, in a slot, is PAST_BRANCH and bits of its site, which is random and its alone.
 *
 * Locking: one mutex, a leaf; not held while a store is opened or closed. Threads: any that may block.
 */
#ifndef FS_PAST_BRANCH_H
#define FS_PAST_BRANCH_H

#include "store/core/store.h"

#include <stdbool.h>
#include <stdint.h>

enum { PAST_BRANCHES = 2 };

struct past_branches;

/* past_branches_share(memory): of the ${memory} bytes of a mount (0: the default) what one open branch may have, an eighth at most; past_branches_rest(memory): what is left for the store when all
 * of these are open, and one that is restored from. past_branches_any(store): the store in that directory has a branch, perhaps. */
uint64_t past_branches_share(uint64_t memory);
uint64_t past_branches_rest(uint64_t memory);
bool past_branches_any(const char *store);

/* past_branches_new(store, share): of the store in that directory; NULL: out of memory. past_branches_free: closes all; accepts NULL. */
struct past_branches *past_branches_new(const char *store, uint64_t share);
void past_branches_free(struct past_branches *b);

/* past_branch_key(b, name, key, err): of the branch ${name}, without "@". NOENT: there is none. */
int past_branch_key(struct past_branches *b, const char *name, uint64_t *key, struct err *err);

/* past_branch_get(b, key, s, err): it is open until past_branch_put(b, s). While all that may be open are in use it waits for one. STALE: it was removed; what store_open says. */
int past_branch_get(struct past_branches *b, uint64_t key, struct store **s, struct err *err);
void past_branch_put(struct past_branches *b, struct store *s);

/* past_branches_close(b, key): if nobody is using it, and ${key} is it, or is 0 and nobody has asked for it in the last seconds. Returns how many are open still. */
unsigned past_branches_close(struct past_branches *b, uint64_t key);

/* past_branches_each(store, fn, arg): the names of branches, without "@", sorted. */
void past_branches_each(const char *store, void (*fn)(void *arg, const char *name), void *arg);

#endif
