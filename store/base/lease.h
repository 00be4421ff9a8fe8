/*
 * lease.h: what a primary and the one standby that holds its lease agree on. store/core/lease.h has the rule.
 */
#ifndef STORE_BASE_LEASE_H
#define STORE_BASE_LEASE_H

#include <stdint.h>

enum {
    LEASE_LEAST_MS = 5000,
    LEASE_MOST_MS  = 3600000,
    LEASE_FIXED_MS = 100,       /* of the margin, beside a hundredth of the lease: what clocks may differ by while it runs */
};

/* ms 0: there is none. ${site}: of the standby that gives it. */
struct lease { uint32_t ms; uint8_t site[16]; };

/* lease_promise_ms(ms): so long, from when it heard, a standby waits before it is promoted: longer than the primary writes, by clocks of which the one is up to 1 % faster than the other. */
static inline uint64_t lease_promise_ms(uint32_t ms)
{
    return ms == 0 ? 0 : (uint64_t)ms + ms / 100 + LEASE_FIXED_MS;
}

#endif
