/*
 * role.h: who may append, of a store that is open. (store_options.promote is the same at an open.)
 *
 *                 promote                       fence: a higher epoch was met
 *     STANDBY ───────────────► PRIMARY ────────────────────────────► FENCED
 *        ▲                        │  ▲                                  │ │
 *        └──────── demote ────────┘  └──────────── promote ─────────────┘ │
 *        └───────────────────────── demote ───────────────────────────────┘
 *
 * Leaving the role of the primary is at once in memory, then durable: what comes after it is refused (FENCED), what was answered before counts.
 * Entering it is durable first.
 *
 * Locking: internal (role_lock, before all others of the store). Threads: any.
 */
#ifndef STORE_CORE_ROLE_H
#define STORE_CORE_ROLE_H

#include "store/core/restore.h"

/* Of numbers of epochs: so many may be skipped, by whoever speaks of one. */
enum { NUMBERS_SKIPPED_MAX = 1000 };

/*
 * store_promote(s, reason, keep_orphans, err): a standby, or a primary of before, becomes the primary, in an epoch of its own above all it has heard of; what it received
 * counts. The primary of before is expected back: for it the log is held from here on, within hold-log. ${keep_orphans}: the kernel may have unlinked files open.
 * Errors: FENCED a lease was promised, and its end not awaited (lease.h); INVAL it is the primary; BOOTSTRAP it holds no tree, or not all yet; ROFS; NOSPC the table of epochs is full; POISONED, IO.
 */
int store_promote(struct store *s, const char *reason, bool keep_orphans, struct err *err);

/*
 * store_promote_at(s, c, at, reason, keep_orphans, progress, arg, st, err): the same, and then the live tree is made what it was at the listed moment ${at}, as a series of ordinary records
 * (restore_path with delete_extra: what came after stays in history; what is hidden is not touched). Until that is over every other change is refused (FENCED; of commands BUSY), and who asks for the role waits
 * (store_role_settled): a mount turns writable with the tree of then. Cut off in between it is a primary whose tree is neither the one nor the other; store_promote_unfinished(s) is then the moment, else 0,
 * and the same call, also with another moment, goes on; a primary where nothing is unfinished is INVAL. Progress, *${st}: as of restore_path.
 * Errors: those of store_promote, and BUSY a switchover is under way, then nothing was changed; those of restore_path, said as such: then it is the primary.
 */
int store_promote_at(struct store *s, const struct caller *c, uint64_t at, const char *reason, bool keep_orphans, void (*progress)(void *arg, const struct restore_stats *st),
                     void *arg, struct restore_stats *st, struct err *err);
uint64_t store_promote_unfinished(struct store *s);

/*
 * store_fence(s, by, err): another site began the epoch ${by}, above this one's: nothing is accepted any more, and nothing else is changed. A store that is not primary
 * writes down that it was told so, for a promotion to be above it. BADREC: a number more than NUMBERS_SKIPPED_MAX above. store_fenced_by(s, by): what was said then, the highest; false: it is not so, or that epoch is known here by now. store_fenced_since(s): the number of that epoch, also
 * while it is not written down yet: changes are refused before that.
 * store_demote(s, err): it is a standby from now on. Nothing happens to one that is.
 * Errors: ROFS; IO, NOSPC: nothing is accepted any more all the same, but a restart would not know. NOSPC also, and then it is the primary still: its table of epochs is full, so that nobody could promote it again.
 * store_may_hand_over(s, err): NOSPC: its table has no room for the epoch of whoever takes over: it could not follow.
 */
int  store_fence(struct store *s, const struct epoch_row *by, struct err *err);
bool store_fenced_by(struct store *s, struct epoch_row *by);
uint32_t store_fenced_since(struct store *s);
int  store_demote(struct store *s, struct err *err);
int  store_may_hand_over(struct store *s, struct err *err);

/*
 * A failover that may still be undone: the store was a standby, and was promoted while another site was primary: until a person commits it, or that site follows. It binds nobody: it says that the site of before can be resumed as it was.
 * store_uncommitted(s, site): the site that was primary; false: it is not so. store_commit(s, err): it is final; nothing happens where it is. FENCED no primary; IO, NOSPC.
 */
bool store_uncommitted(struct store *s, uint8_t site[16]);
int  store_commit(struct store *s, struct err *err);

/* store_hold(s, err): changes wait until store_unhold, or until the role is lost: then they are refused. Those of commands, which do not come again by themselves, are refused at once (BUSY). BUSY: somebody
 * holds them already. */
int  store_hold(struct store *s, struct err *err);
void store_unhold(struct store *s);

/* store_epoch_known(s): the highest number of an epoch that was heard of, with records or without. */
uint32_t store_epoch_known(struct store *s);

/* store_role(s): enum super_role. store_role_settled(s): the same, once a change that is under way is durable, or has failed. store_role_moves(s): one is under way; its end is progress. role_name(role): "primary", "standby", "fenced", "branch". */
uint32_t store_role(struct store *s);
uint32_t store_role_settled(struct store *s);
bool     store_role_moves(struct store *s);
const char *role_name(uint32_t role);

#endif
