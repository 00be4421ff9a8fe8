/*
 * standby.h: the standbys a store knows, kept among its settings ("standby-1" ... "standby-8"), so that a store that was sent somewhere
 * knows that it was: a target that is gone is never made anew unasked.
 *
 * Threads: any; store_config_set orders changes.
 */
#ifndef STORE_CORE_STANDBY_H
#define STORE_CORE_STANDBY_H

#include "store/core/store.h"

enum { STANDBYS_MAX = 8, STANDBY_TARGET_MAX = 400 };

struct standby {
    char     target[STANDBY_TARGET_MAX + 1];    /* a directory, or HOST:STORE */
    uint8_t  site[16];                          /* zero: never reached */
    uint64_t acked;                             /* end of what it acknowledged durable, as last noted */
    int64_t  heard_s;                           /* when, seconds since 1970 */
};

/* standby_get(s, i, out): the i-th, i < STANDBYS_MAX; false: there is none. */
bool standby_get(struct store *s, unsigned i, struct standby *out);
/* standby_find(s, target): its number, or -1. */
int  standby_find(struct store *s, const char *target);
/* standby_note(s, b, err): adds ${b}, or replaces the one of that target, and that of its site which no target was known for ("@...", role.h). NOSPC: there are STANDBYS_MAX; INVAL; USAGE no such text. */
int  standby_note(struct store *s, const struct standby *b, struct err *err);
/* standby_forget(s, target, err): NOENT. What is there stays as it is. */
int  standby_forget(struct store *s, const char *target, struct err *err);

#endif
