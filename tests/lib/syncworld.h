/*
 * syncworld.h: two sites and the way between them, in one thread, from a seed: the machines of store/sync as they are, everything round
 * them a model. The primary's log grows, is synced and loses what was not; the standby appends, syncs, fills up, loses what was not
 * synced; either is killed; the primary lets go of records, so that a new standby takes files first; the primary is set back to an image; the way is cut at any byte, and what was cut off may turn up later in another connection.
 *
 * Checked after every step: what the standby holds is what the primary holds durably, record for record from the beginning; nothing the
 * standby acknowledged durable is ever missing there; nothing it had acknowledged is sent again; at the end, when all is well again, it holds all.
 */
#ifndef TESTS_SYNCWORLD_H
#define TESTS_SYNCWORLD_H

#include "store/sync/receive.h"
#include "store/sync/ship.h"

#include <stdbool.h>
#include <stdint.h>

/* X(name): bugs, in the machines or in how they are driven, that the checks must catch. */
#define SYNC_PLANTS(X)      \
    X(NONE)                 \
    X(SHIP_UNDURABLE)       /* the sender ships what its disk may yet lose */ \
    X(ACK_UNSYNCED)         /* the receiver acknowledges as durable what is not */ \
    X(HELLO_UNSYNCED)       /* ... and says so in its HELLO */ \
    X(ANY_POSITION)         /* records are taken wherever they begin */ \
    X(ANY_EPOCH)            /* of any primary */ \
    X(LOOK_UNCHECKED)       /* the last record is not compared */ \
    X(WHOLE_MESSAGE)        /* a message of which a part was appended counts as a whole */ \
    X(FULL_IS_FINE)         /* a full disk is passed over */ \
    X(SKIP)                 /* the sender believes it sent one record more */ \
    X(RESEND)               /* the sender begins where it had begun before */ \
    X(IMPATIENT)            /* time asleep counts as silence */ \
    X(DEAF)                 /* acknowledgements are not heard */ \
    X(ANY_FILES)            /* what is kept is said before all files were sent, and a standby is made without them */
enum sync_plant {
#define X(name) PLANT_##name,
    SYNC_PLANTS(X)
#undef X
    N_PLANTS
};
const char *sync_plant_name(enum sync_plant p);

/* Reached, over all runs: (state, message) of each side, a count; index 0: an unknown type never gets so far. */
struct sync_seen { uint64_t ship[SHIP_N_STATES][PROTO_BOOT + 1], receive[RECEIVE_N_STATES][PROTO_BOOT + 1], booted, steps, sessions, cuts, kills, full, diverged, records; };

/*
 * syncworld_run(seed, steps, plant, seen, why, cap): one run. True: everything held; false: ${why} says what did not, at which step.
 */
bool syncworld_run(uint64_t seed, unsigned steps, enum sync_plant plant, struct sync_seen *seen, char *why, size_t cap);

#endif
