/*
 * renew.h: a new base of the archive, and what it takes the place of. FORMAT.md, "Base".
 *
 * Threads: any, inside store_reclaim_begin.
 */
#ifndef STORE_MAINT_RENEW_H
#define STORE_MAINT_RENEW_H

#include "store/index/sweep.h"
#include "store/maint/reclaim.h"

/*
 * renew_base(s, keep, rows, opt, res, err): where the archive's records of which no moment is kept whole take more than a base would (of ${rows} rows), or the base that is
 * there is damaged: makes one and lets these records go, as far as a standby that is waited for has them (store_held_from); what it has not is let go of by a later call. ${keep}: what is kept; both copies of the set have it, the older one as generation ${set_gen}. *${res}: base, archive_gone. BUSY: told to
 * stop. Errors: DAMAGE, IO, NOMEM; no room on the disk is none: the archive stays as it is.
 */
int renew_base(struct store *s, const struct keep *keep, uint64_t set_gen, uint64_t rows, const struct reclaim_options *opt, struct reclaim_result *res, struct err *err);

#endif
