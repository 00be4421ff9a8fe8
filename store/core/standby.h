/*
 * standby.h: the standbys a store knows, kept among its settings ("standby-1" ... "standby-8"), so that a store that was sent somewhere
 * knows that it was: a target that is gone is never made anew unasked. And, of a standby that fetches, where from ("standby-from").
 *
 * A setting's text: site (32 digits), what it acknowledged, when it was heard, and the target behind that; between them, where there is more to say, "+" and letters
 * (s: a mount ships to it by itself; p: paused), the ssh command and the program at the other end, "-" for none, each one word with % and two
 * digits for what no word may hold.
 *
 * Threads: any; changes are ordered.
 */
#ifndef STORE_CORE_STANDBY_H
#define STORE_CORE_STANDBY_H

#include "store/core/store.h"

#include <string.h>

enum { STANDBYS_MAX = 8, STANDBY_FROM = STANDBYS_MAX, STANDBY_TARGET_MAX = 400, STANDBY_COMMAND_MAX = 256, STANDBY_TEXT_MAX = 2200 };

struct standby {
    char     target[STANDBY_TARGET_MAX + 1];    /* a directory, or HOST:STORE; "pull:NAME" of one that fetches */
    uint8_t  site[16];                          /* zero: never reached */
    uint64_t acked;                             /* end of what it acknowledged durable, as last noted */
    int64_t  heard_s;                           /* when, seconds since 1970 */
    bool     ships;                             /* whoever has the store mounted ships to it by itself */
    bool     paused;
    bool     from;                              /* no standby: where this one fetches from */
    char     ssh[STANDBY_COMMAND_MAX + 1], remote[STANDBY_COMMAND_MAX + 1];     /* peer_options; "" the default */
};

/* standby_fetches(b): it comes itself, and is known here by the name it said. */
static inline bool standby_fetches(const struct standby *b) { return strncmp(b->target, "pull:", 5) == 0; }
/* standby_parse(text, out): a setting's text; false: it is none. standby_format(b, buf, cap): and back; false: it needs more. Both pure. */
bool standby_parse(const char *text, struct standby *out);
bool standby_format(const struct standby *b, char *buf, size_t cap);

/* standby_get(s, i, out): the i-th, i < STANDBYS_MAX, or STANDBY_FROM; false: there is none. */
bool standby_get(struct store *s, unsigned i, struct standby *out);
/* standby_find(s, target): its number, STANDBY_FROM where that is what it fetches from, or -1. */
int  standby_find(struct store *s, const char *target);
/* standby_note(s, b, err): adds ${b}, or replaces the one of that target (or what it fetches from), and that of its site which no target was known for ("@...", role.h). NOSPC: there are
 * STANDBYS_MAX; INVAL; USAGE no such text; TOOLONG: no room among the settings. */
int  standby_note(struct store *s, const struct standby *b, struct err *err);
/* standby_acked(s, target, site, acked, heard_s, err): of the one of that target these change; ${site} NULL: not it. standby_pause: whether it is paused. NOENT. */
int  standby_acked(struct store *s, const char *target, const uint8_t site[16], uint64_t acked, int64_t heard_s, struct err *err);
int  standby_pause(struct store *s, const char *target, bool paused, struct err *err);
/* standby_forget(s, target, err): NOENT. What is there stays as it is. */
int  standby_forget(struct store *s, const char *target, struct err *err);

/* standbys_cut(sb, at): of a store that is not open and goes back to ${at}: no standby has acknowledged more. */
void standbys_cut(struct super *sb, uint64_t at);
/* standbys_none(sb): of what is to be a store of its own: it ships to nobody, and fetches from nowhere. */
void standbys_none(struct super *sb);

#endif
