/*
 * heal.h: damaged data made whole with the bytes that another site has.
 *
 * Threads: any; takes store_maint_try where a pack is made anew.
 */
#ifndef STORE_MAINT_HEAL_H
#define STORE_MAINT_HEAL_H

#include "store/core/wounds.h"

enum { HEAL_LOG_BYTES = 1 << 20 };

/*
 * heal_good(s, w): how many of its first bytes read well. A plan is for the first that does not: its chunk, or up to HEAL_LOG_BYTES of the log; what lies behind takes another one.
 *
 * What is needed for a wound: parts of the data of records which together are what is damaged (a chunk of a pack may be made of the data of many), each once.
 * heal_plan_new(s, w, out, err): NOENT it is not damaged any more (or not there), or its parts are not known to be all of it; DAMAGE, IO, NOMEM.
 * heal_apply(s, plan, bytes, err): the bytes of its parts, one behind the other: verified by the sums or the hash that are here; durable on return. DAMAGE they are not those; BUSY somebody
 * works on the packs: try again; NOSPC, IO, NOMEM.
 */
struct heal_plan { struct wound w; struct wound *part; size_t n; uint64_t bytes; uint64_t chunk; uint32_t chunk_len, *at; };
int  heal_plan_new(struct store *s, const struct wound *w, struct heal_plan **out, struct err *err);
int  heal_apply(struct store *s, const struct heal_plan *p, const uint8_t *bytes, struct err *err);
void heal_plan_free(struct heal_plan *p);
uint32_t heal_good(struct store *s, const struct wound *w);

/*
 * What needs nobody else, since the store has it twice. heal_header(s, first, err): the header of the segment of the log that begins @${first}, of its records: 1 it was made anew, 0 it is whole (log_heal_header).
 * heal_pack(s, addr, err): the pack that has ${addr} is made anew, of whichever of its heads and tables are good; frames stay what they are, damaged or not. DAMAGE neither is; BUSY; NOSPC, IO, NOMEM: all is as before.
 */
int heal_header(struct store *s, uint64_t first, struct err *err);
int heal_pack(struct store *s, uint64_t addr, struct err *err);

#endif
