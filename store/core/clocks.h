/*
 * clocks.h: the clocks of kept moments whose records are let go of, as rows of the index: a time leads to them, and they are shown with it, for ever.
 *
 * Threads: one at a time (store_reclaim_begin is the caller's).
 */
#ifndef STORE_CORE_CLOCKS_H
#define STORE_CORE_CLOCKS_H

#include "store/core/store.h"
#include "store/index/sweep.h"

/*
 * clocks_keep(s, keep, upto, err): a row for each point of ${keep} below ${upto}, where records will be let go of, and for the record behind it; none for what is no
 * point any more.
 * clocks_begin(s, first, err): a row of the clock (struct row_time) for the record from which on they stay: ages are counted from there.
 * Not durable before the next flush. Errors: DAMAGE, IO, NOMEM; NOENT there is neither record nor row.
 */
int clocks_keep(struct store *s, const struct keep *keep, uint64_t upto, struct err *err);
int clocks_begin(struct store *s, uint64_t first, struct err *err);

#endif
