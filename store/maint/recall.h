/*
 * recall.h: records whose heads cannot be read here, in the log or in a file of the archive, made whole with what another site has. Records are the same bytes at every site, and each says the hash of the one before it: so
 * the first good one behind them proves them all. store/maint/DESIGN.md, "Scrub and healing".
 *
 *     recall_new | recall_next: ask for these | recall_heard: they came | ... | recall_next: nothing more | recall_apply
 *
 * Threads: one for each; recall_apply takes store_maint_try where a file is made anew.
 */
#ifndef STORE_MAINT_RECALL_H
#define STORE_MAINT_RECALL_H

#include "store/core/wounds.h"

enum { RECALL_BYTES_MAX = 64 << 20 };        /* of heads, for one wound; more is given up: they are proven from the end on, so all of them are held until the last one came */

/* recall_limit(w): what a message about this wound says of that bound, where it may be reached: of more addresses than it has bytes; else "". */
const char *recall_limit(const struct wound *w);

/*
 * recall_new(s, w, out, err): what is needed for a wound of records. Errors: NOENT nothing there is damaged (any more); IO, NOMEM.
 * recall_next(r, from, until): 1 the addresses of the next records that are needed; 0 nothing more is: what is left can be done here.
 * recall_heard(r, heads, len, end, err): what came for these: heads, one behind the other, the last of which is said to end at ${end}. They are those that were asked for, or the first of them; what they say is not believed yet.
 * Errors: NOENT nothing came; DAMAGE no such records; TOOLONG, NOMEM.
 * recall_apply(r, err): what came is proven, and written where it belongs; a file of the archive is made anew. What data behind such heads are damaged, too, is noted (wounds_note). Durable on return.
 * Errors: DAMAGE it is not what was there, or more is damaged by now: no file is made anew that lacks what the one before it had; NOENT, also where the file was made anew, or let go of, meanwhile; BUSY somebody
 * works on the archive: try again; NOSPC, IO, NOMEM: all is as before, or so much of the log less damaged.
 */
struct recall;
int  recall_new(struct store *s, const struct wound *w, struct recall **out, struct err *err);
int  recall_next(const struct recall *r, uint64_t *from, uint64_t *until);
int  recall_heard(struct recall *r, const uint8_t *heads, size_t len, uint64_t end, struct err *err);
int  recall_apply(struct recall *r, struct err *err);
void recall_free(struct recall *r);

/*
 * recall_file_check(s, addr, f, why): the file of the archive that has ${addr}, *${f}: 0 it is whole: itself, and all of its addresses have a record, which those of the file behind it follow. ${why}: zeroed by the caller, not NULL.
 * Errors: NOENT no file that counts has it; DAMAGE, also one that is gone; IO, VERSION, NOMEM.
 */
struct history_file;
int recall_file_check(struct store *s, uint64_t addr, struct history_file *f, struct err *why);

/*
 * recall_gap(s, from, w, err): 1 records of addresses [w->lsn, w->until) at or above ${from} are in no file of the archive, and not in the log any more, though they should be: from the first address on, or where a base takes the place of
 * those before, from the horizon on. 0: none. Errors: IO, NOMEM.
 */
int recall_gap(struct store *s, uint64_t from, struct wound *w, struct err *err);

/* recall_whole(s, w): whether these records can be read by now, wherever they lie: in the log, and in a file of the archive that has just these. recall_head(s, lsn, w): whether the head of that record of the log cannot be read: then *${w} is the wound. */
bool recall_whole(struct store *s, const struct wound *w);
bool recall_head(struct store *s, uint64_t lsn, struct wound *w);

#endif
