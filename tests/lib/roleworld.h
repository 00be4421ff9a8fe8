/*
 * roleworld.h: three to five sites of one store, in one thread, from a seed: the machines of store/sync as they are, disks, roles and what people do a model. Any site may send
 * to any other, several at once. A primary appends and answers fsyncs, under rpo=0 only when a standby has it; any site is killed between any two steps of what it does, promoted,
 * demoted, fenced at contact, goes back to a fork and keeps a branch; its disk fills up; it is copied behind our back, and told so later; it is set back to an image of before;
 * the way between two is cut at any byte, or carries only one direction; clocks jump. In a third of the runs there are leases (store/core/lease.h): clocks differ, within the margin, sites are
 * suspended, and whoever is told to is promoted as soon as its promises are over.
 *
 * Checked at every step: no site appends in an epoch of another, or below one that fenced it; no two records of one epoch at one address, but where a copy or an image made them; a
 * stream holds at the receiver what the sender holds; what was acknowledged, by fsync, by a standby, under rpo=0, is where it was, or in a branch there; who goes back goes to where
 * both part; with leases, no two sites take changes at one time; both ends of a conversation between two that part, or are one site, say so; a copy that was told so is of a lineage of its own, fences nobody, and it and its original
 * say of each other what they are; a promotion is above all its site was told of. At the end one site of each lineage is promoted above all others, these are demoted, and within a bounded number of conversations all of it hold the same.
 */
#ifndef TESTS_ROLEWORLD_H
#define TESTS_ROLEWORLD_H

#include "store/sync/receive.h"
#include "store/sync/ship.h"

#include <stdbool.h>
#include <stdint.h>

/* X(name): bugs that the checks must catch. */
#define ROLE_PLANTS(X)      \
    X(NONE)                 \
    X(FENCED_APPENDS)       /* a primary that was fenced goes on */ \
    X(FENCE_IN_MEMORY)      /* ... until it is killed: then it does not know */ \
    X(FENCE_IGNORED)        /* a promotion counts on from the epochs it has records of */ \
    X(FENCE_GOES)           /* ... since going back to a fork has forgotten what fenced it */ \
    X(ROW_LATE)             /* an epoch's row is not durable before its record */ \
    X(ROWS_STAY)            /* of several rows whose records a cut took only the last gives way */ \
    X(NO_BRANCH)            /* what was past the fork goes */ \
    X(BACK_TOO_FAR)         /* one record below the fork */ \
    X(BACK_TOO_LITTLE)      /* one above */ \
    X(COMPARE_ADDRESS)      /* records are the same where their addresses are */ \
    X(ACK_UNSYNCED)         /* what may yet be lost is acknowledged as durable */ \
    X(RPO_RECEIVED)         /* an fsync under rpo=0 is answered when the standby has it in memory */ \
    X(OLD_SENDER)           /* a site does not say which epochs it knows */ \
    X(COPY_KEEPS_EPOCH)     /* a copy that is told so goes on in the epoch of the other */ \
    X(COPY_KEEPS_LINEAGE)   /* ... in an epoch of its own, above, but as if it were a site of the other's */ \
    X(COPY_UNNOTICED)       /* two that say they are one site go on as if nothing were */ \
    X(SWALLOWED)            /* that both have parted is heard, and not said */ \
    X(LEASE_MARGIN)         /* a standby waits by its clock as long as the primary writes by its own */ \
    X(LEASE_RECEIPT)        /* a lease counts from when its acknowledgement came */ \
    X(LEASE_FORGOTTEN)      /* a standby that is opened anew has promised nothing */ \
    X(LEASE_KEPT)           /* a primary that is opened anew has the lease of before */
enum role_plant {
#define X(name) ROLE_PLANT_##name,
    ROLE_PLANTS(X)
#undef X
    ROLE_N_PLANTS
};
const char *role_plant_name(enum role_plant p);

/* Reached, over all runs: messages heard by the role of the side that heard them (0: nothing is there), and what happened. */
struct role_seen {
    uint64_t ship[ROLE_FENCED + 1][PROTO_BOOT + 1], receive[ROLE_FENCED + 1][PROTO_BOOT + 1];
    uint64_t steps, lines, calm_lines, cuts, blocks, kills, full, appends, fsyncs, rpo, promotions, twice, demotions, fences;
    uint64_t forks, reported, kin, rewinds, branches, copies, told, images, diverged, leased, lapsed, lease_promotions, suspends;     /* reported: with nothing in the way, by both; diverged: refused, since it is mounted */
};

/* roleworld_run(seed, steps, plant, seen, why, cap): one run. True: everything held; false: ${why} says what did not, at which step. */
bool roleworld_run(uint64_t seed, unsigned steps, enum role_plant plant, struct role_seen *seen, char *why, size_t cap);

#endif
