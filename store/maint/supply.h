/*
 * supply.h: data from another site into the packs of this one.
 *
 * Threads: any; takes store_maint_begin.
 */
#ifndef STORE_MAINT_SUPPLY_H
#define STORE_MAINT_SUPPLY_H

#include "store/core/store.h"
#include "store/pack/packs_supplement.h"

/*
 * supply(s, piece, n, err): what of these is in no pack goes into the pack that has its address, which is made anew for it (a pack of 64 MiB is copied for one byte: give many at once). In any
 * order; they may overlap. Durable on return. Errors: NOENT no pack has an address; NOSPC, IO, NOMEM, DAMAGE.
 */
int supply(struct store *s, const struct packs_piece *piece, size_t n, struct err *err);

#endif
