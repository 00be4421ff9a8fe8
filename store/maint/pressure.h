/*
 * pressure.h: when space is short: less is kept, step by step (policy_squeeze), until there is enough again or only what min-age keeps is left. product.md, "Retention".
 *
 * A disk that is full but for the reserve is helped at once. Else it goes slowly, and begins only after a while: what another program puts on a disk for a moment must not cost the
 * past: a step each ten minutes, and one an hour where it goes below keep-all.
 *
 * Short is: the disk has less free than keep-free, or is full but for the reserve; or the store takes more than history-max beside what is in the tree today.
 */
#ifndef STORE_MAINT_PRESSURE_H
#define STORE_MAINT_PRESSURE_H

#include "store/core/policy.h"

struct pressure {
    unsigned level;                  /* of policy_squeeze; 0: there is enough */
    uint64_t wait_ms;                /* so long until the next step */
    uint64_t look_ms;                /* so long until sizes are looked at again */
    bool     armed;                  /* it was short at the last look */
    bool     full, was_full;         /* by the last look: SPACE_TIGHT or worse; by the one before */
    uint64_t avail, keep_free;       /* bytes, by the last look */
    uint64_t used, most;             /* of the store, and what it may be; most 0: no bound */
    uint64_t shared;                 /* of used: what forks and branches have, too */
};

/* pressure_look(p, s, ms): ${ms} have passed. True: the next step is due: pressure_policy says what is kept from now on. */
bool pressure_look(struct pressure *p, struct store *s, uint64_t ms);
/* pressure_used(s, shared): bytes that the store's files take on the disk; *${shared}: those of them that a fork or a branch has, too, and which stay there when this store lets go of them. */
uint64_t pressure_used(struct store *s, uint64_t *shared);
/* pressure_step(p, s, out): takes it. pressure_done(p): reclaim under it is through. */
void pressure_step(struct pressure *p, struct store *s, struct policy *out);
void pressure_done(struct pressure *p);

#endif
