/*
 * retain.h: which moments are kept, and what is let go of: the retained set (super.h, FORMAT.md) under a policy.
 *
 * Two steps lead out. First a moment is not listed any more; nothing of it is lost, and a policy made looser lists it again. When the grace has passed
 * it leaves the set, and only what has left a set that is durable in both copies may be removed. Who is in a moment (store_enter, or a look-up of the
 * kernel) before it is not listed any more keeps it in the set until he is out.
 */
#ifndef STORE_CORE_RETAIN_H
#define STORE_CORE_RETAIN_H

#include "store/core/periods.h"
#include "store/index/sweep.h"

/* Why a moment is kept: bit k for period k, and: */
enum retain_reason { BY_SNAPSHOT = 1 << 8, BY_HOLD = 1 << 9, BY_USE = 1 << 10, BY_OTHER = 1 << 11, BY_GRACE = 1 << 12, BY_AGE = 1 << 13 };
struct retain_item {
    uint64_t lsn;
    unsigned reasons;                    /* 0: it leaves the set now */
    uint64_t leaves_age_ns;              /* BY_GRACE alone: not before the store is so old */
    bool     listed;                     /* today */
};

struct retain_plan {
    struct policy policy;
    uint64_t age_ns;                     /* of the store */
    uint64_t horizon, listed;            /* from where on everything is whole, and listed: today */
    uint64_t young;                      /* from here on keep-all, or min-age, wants everything; may lie before what there is */
    struct retained next;                /* what the set becomes */
    bool     changes, removes;           /* it is another one; something is let go of */
    bool     short_of;                   /* less is whole than keep-all of the settings says */
    uint64_t held_by;                    /* the LSN of a standby's acknowledgement that keeps the horizon where it is; 0: none does */
    struct retain_item *v;               /* points of today and of then, rising */
    size_t   n, cap;
};

/*
 * retain_plan(s, policy, at_once, out, err): what the set becomes now; changes nothing. ${policy} NULL: that of the settings. ${at_once}: without grace for what
 * is not listed already. Errors: NOMEM, DAMAGE, IO.
 */
int  retain_plan(struct store *s, const struct policy *policy, bool at_once, struct retain_plan *out, struct err *err);
void retain_plan_free(struct retain_plan *p);

/*
 * retain_update(s, policy, at_once, err): makes it so, durable in both copies: 1: something was let go of, 0: not. One at a time (store_maint_begin is the caller's).
 * Errors: as retain_plan; ROFS; NOSPC.
 */
int  retain_update(struct store *s, const struct policy *policy, bool at_once, struct err *err);

/* retain_keep(s, out, err): what may not be removed, by the set. free(out->point). NOMEM. retain_both_copies: both copies have it when this returns; before
 * anything is removed. IO, NOSPC. */
int  retain_keep(struct store *s, struct keep *out, struct err *err);
int  retain_both_copies(struct store *s, struct err *err);

/* store_held_from(s): the least that a standby which is waited for (hold-log) has acknowledged as durable; UINT64_MAX: none is waited for. */
uint64_t store_held_from(struct store *s);

/*
 * store_enter(s, lsn): somebody reads at this moment until store_leave; it stays whole, if it is still listed afterwards (store_lists). To be called before
 * that is asked. AT_LIVE is ignored. NOMEM.
 */
int  store_enter(struct store *s, uint64_t lsn);
void store_leave(struct store *s, uint64_t lsn);
bool store_lists(struct store *s, uint64_t lsn);

#endif
