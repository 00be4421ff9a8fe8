/*
 * wounds.h: data, or records, that are here and damaged: noted where a read finds it, for whoever has another copy (store/maint/heal.h). In memory only: who reads again finds it again.
 *
 * Locking: internal, a leaf. Threads: any.
 */
#ifndef STORE_CORE_WOUNDS_H
#define STORE_CORE_WOUNDS_H

#include "store/core/store.h"

enum { WOUNDS_MAX = 32768 };

/*
 * Bytes [doff, doff + len) of the data of the record at lsn; dstart as in pieces, 0 not known. Where ${until} is not 0: records of addresses [lsn, until), of the log, or of the file of the archive that has them; then len is 0.
 * Where ${hole}: they are nowhere, the file that had them is gone, or nothing says where in it they are (store/maint/holes.h); len 0: that file itself.
 */
struct wound { uint64_t lsn; uint32_t dstart, doff, len; uint64_t until; bool hole; };

/* wounds_note(s, w): more than WOUNDS_MAX are not noted. wounds_first(s, w): the one noted first; false: none. wounds_done(s, w, healed): it is healed, or cannot be. */
void wounds_note(struct store *s, const struct wound *w);
bool wounds_first(struct store *s, struct wound *w);
void wounds_done(struct store *s, const struct wound *w, bool healed);

/* wounds_holes(s, out, cap, behind): the first of those that are holes; their number. *${behind}: the least address above that of the last of them which others of them have; UINT64_MAX: none. */
size_t wounds_holes(struct store *s, struct wound *out, size_t cap, uint64_t *behind);

/* Since the store was opened. */
struct wounds_count { uint64_t noted, healed, given_up; };
void wounds_count(struct store *s, struct wounds_count *n);

#endif
