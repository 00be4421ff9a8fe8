/*
 * lease.h: a primary that takes changes only as long as it knows that its standby is not promoted. Off by default.
 *
 * The setting `lease`, "TIME TARGET", of a primary: TARGET, one of its standbys, gives it. Each second the primary sends it what the lease is (BEAT, PROTOCOL.md); what TARGET acknowledges
 * allows changes until (when that was sent) + TIME. Before it acknowledges, TARGET promises: it is not promoted before (when it heard) + TIME + a margin for the clocks (base/lease.h). So at no time
 * do both take changes. It begins with the first acknowledgement in an epoch, which is noted ("lease-in", the epoch's number): from then on, over restarts too, the primary needs one.
 *
 * A primary without: changes wait for LEASE_WAIT_MS, in which a lease may come, then are refused (FENCED), until one comes. Reads go on.
 * The standby notes what it was told ("lease-told") before it acknowledges it. Opened anew it waits for the whole time, since nobody knows when it acknowledged last. A standby that was told that
 * another one gives the lease is not promoted, but with a person's word (${unfenced}) that the primary writes no more.
 *
 * Times: ms of CLOCK_BOOTTIME of this host, which goes on while it is suspended (but not while a virtual machine's host stops it).
 *
 * Locking: internal (mark_lock; what streams ask each turn: a leaf). Threads: any.
 */
#ifndef STORE_CORE_LEASE_H
#define STORE_CORE_LEASE_H

#include "store/base/lease.h"
#include "store/core/store.h"

enum { LEASE_WAIT_MS = 5000 };

/* lease_parse(text, out_ms, target, cap, err): the setting. Pure. USAGE. */
int lease_parse(const char *text, uint32_t *ms, char *target, size_t cap, struct err *err);

/* store_lease(s, out): of a primary, what it asks for (its site zero: that standby was never reached); else what it was told. */
void store_lease(struct store *s, struct lease *out);

/* store_lease_renew(s, site, until_ms, err): the standby of that site acknowledged: changes are taken until then. Nothing where it does not give the lease (any more), or this is no primary. TOOLONG, NOSPC, IO: that it has begun
 * cannot be noted; it has not. */
int store_lease_renew(struct store *s, const uint8_t site[16], uint64_t until_ms, struct err *err);

/* store_lease_promise(s, l, epoch, until_ms, err): of a standby: its primary, of that epoch, says ${l}; durable on return, and no promotion before ${until_ms}. Errors: BUSY a promotion is under way, or a later
 * epoch is known here: none is given; IO, NOSPC. */
int store_lease_promise(struct store *s, const struct lease *l, uint32_t epoch, uint64_t until_ms, struct err *err);

/*
 * store_lease_await(s, unfenced, waiting, arg, err): before store_promote: no promise is given any more, and those given are over on return. ${unfenced}: at once, whoever gives the lease. ${waiting} (NULL:
 * nobody asks) is called some times a second with the ms that are left; false ends it. Nothing happens to a store that is no standby.
 * Errors: FENCED another standby gives the lease; INTR.
 */
int store_lease_await(struct store *s, bool unfenced, bool (*waiting)(void *arg, uint64_t left_ms), void *arg, struct err *err);

/* store_lease_resume(s): the promotion that was awaited did not come about: promises are given again. */
void store_lease_resume(struct store *s);

/* store_lease_state(s, left_ms): how a primary stands. *${left_ms}: of LEASE_HELD. */
enum lease_state {
    LEASE_NONE,                /* it needs none */
    LEASE_TO_COME,             /* it will, once it has been given one; until then it is as if there were none */
    LEASE_HELD,
    LEASE_OUT,                 /* no change is taken */
};
enum lease_state store_lease_state(struct store *s, uint64_t *left_ms);

#endif
