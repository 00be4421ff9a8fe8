/*
 * past_slots.h: the moments the kernel knows, numbered: node id of the past = inode:44 | slot:20.
 *
 * A slot is (LSN, look-ups) and is used again when its look-ups are 0. The table lies in the memory that outlives workers; what is
 * found from it (free slots, slot by LSN) is made anew by each. A crash can leave a count too high (the slot is then
 * taken until the unmount), never too low: counts rise before the reply and fall after the request was struck out.
 *
 * Locking: one mutex, a leaf. Threads: any.
 */
#ifndef FS_PAST_SLOTS_H
#define FS_PAST_SLOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PAST_SLOTS_LOG2 = 20 };
/* Of a symlink to a moment, whose node is not of that moment: it has a slot of its own, under the LSN with this bit. Who knows the symlink is not in the moment. */
#define PAST_LINK (1ull << 63)
/* Of the end of a branch, which is no moment of this store: its key (past_branch.h) has this bit. */
#define PAST_BRANCH (1ull << 62)

struct past_slots;

/* past_slots_bytes(n): of memory for ${n} slots. Slots 0 and 1 are never used. */
size_t past_slots_bytes(uint32_t n);
/* past_slots_new(mem, n): ${mem} zeroed, or as an earlier one left it with the same ${n} (3 .. 2^20). NULL: out of memory. */
struct past_slots *past_slots_new(void *mem, uint32_t n);
/* past_slots_free: the memory stays as it is. Accepts NULL. */
void past_slots_free(struct past_slots *s);

/* past_slots_get(s, lsn, make): the slot of that moment, with one look-up more; 0: there is none (${make} false), or no room. */
uint32_t past_slots_get(struct past_slots *s, uint64_t lsn, bool make);
/* past_slots_add, past_slots_sub: of a slot in use. Sub more than there is: all. Returns the moment that is not in use any more by it, else 0. */
void past_slots_add(struct past_slots *s, uint32_t slot, uint64_t n);
uint64_t past_slots_sub(struct past_slots *s, uint32_t slot, uint64_t n);
/* past_slots_lsn(s, slot): its moment; 0 when it is not in use. */
uint64_t past_slots_lsn(struct past_slots *s, uint32_t slot);
/* past_slots_list: as past_used (past.h): without those of symlinks and branches. */
size_t past_slots_list(struct past_slots *s, size_t *pos, uint64_t *lsns, size_t cap);
/* past_slots_clear(s): the kernel has forgotten everything. */
void past_slots_clear(struct past_slots *s);
/* past_slots_used(s): slots in use. */
uint32_t past_slots_used(struct past_slots *s);

#endif
