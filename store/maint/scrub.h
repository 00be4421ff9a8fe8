/*
 * scrub.h: every byte that the store holds is read, of data in the log and in packs, then of all other files but the index, before somebody needs it: what is damaged is noted for who has another copy (heal.h).
 *
 * Threads: any; takes no lock but for moments.
 */
#ifndef STORE_MAINT_SCRUB_H
#define STORE_MAINT_SCRUB_H

#include "store/core/wounds.h"

struct scrub_options {
    bool again;                      /* from the beginning, wherever the last one was stopped */
    bool close;                      /* gaps of packs are closed that have data which moments need, too: nobody has them any more */
    bool gentle;                     /* rests as long as it reads */
    int (*stop)(void *arg);          /* asked often: nonzero ends it; the next one goes on there */
    void (*tell)(void *arg, uint64_t done, uint64_t total);      /* addresses; now and then */
    void (*found)(void *arg, const struct wound *w, uint64_t ino, const char *message);      /* damage; ${w}->len 0: not of data; ${w}->until 0 then: nobody else is asked for it */
    void *arg;
};
struct scrub_result { uint64_t from, to, bytes, damaged, mended; };      /* addresses from where to where; bytes of data read; places; of those, what is whole again already */

/*
 * scrub(s, opt, res, err): damage is no failure. BUSY: told to stop; ${res} is what was done. Where it stopped is the setting "scrub-at", kept every minute and
 * at the end, where the store is writable. Errors: IO, NOMEM, what packs cannot say.
 */
int scrub(struct store *s, const struct scrub_options *opt, struct scrub_result *res, struct err *err);

/* scrub_place(s, w, buf): whether that place reads well by now; what is there no more does. ${buf}: PACK_CHUNK_MAX bytes. */
bool scrub_place(struct store *s, const struct wound *w, uint8_t *buf);

#endif
