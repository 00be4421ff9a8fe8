/*
 * upkeep.h: what a store does behind for its own good while it is open: packing, once there is quiet.
 *
 * Threads: one of its own, at the lowest priority.
 */
#ifndef STORE_MAINT_UPKEEP_H
#define STORE_MAINT_UPKEEP_H

#include "store/core/store.h"

struct upkeep;

/* upkeep_start(s, say, out, err): ${s} must be writable and outlive it. ${say} (may be NULL) gets a line when a step failed, and when that ends.
 * upkeep_stop(u): ends a step early, joins. NULL is fine. Errors: NOMEM, IO (no thread). */
int  upkeep_start(struct store *s, void (*say)(const char *line), struct upkeep **out, struct err *err);
void upkeep_stop(struct upkeep *u);

/*
 * upkeep_pack(s, needed, stop, arg, each, err): pack all there is, now (${needed}: as packer_options): begins a segment, flushes the index, and goes step by step; ${each} (may be NULL) is
 * called after each with what it did. ${stop}: as packer_options. Errors: as packer_step, and what ${each} returned.
 */
struct packer_result;
struct needed;
int upkeep_pack(struct store *s, const struct needed *needed, int (*stop)(void *arg), void *arg, int (*each)(void *arg, const struct packer_result *r), struct err *err);

/* upkeep_needed(s): for reclaim and then upkeep_pack: all of the log that is in no pack yet. NULL: there is nothing, or it cannot be said. needed_free. */
struct needed *upkeep_needed(struct store *s);

#endif
