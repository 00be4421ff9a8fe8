/*
 * replicate.h: what whoever has a store mounted does about its standbys, by itself: a stream to each that was added (standby.h, ships), and one from where it
 * fetches, begun again whenever it ends.
 *
 * What may pass by itself is tried again after 0.5 s, then twice as long each time, 30 s at most; what was refused for a reason that stays (another store, another
 * epoch, too far behind) each 5 minutes, or when a person says so. One stream to a standby at a time: a command that wants to run one itself claims it.
 *
 * Threads: one of its own that begins and ends the others, one a standby. All functions may be called from any thread.
 * SIGPIPE must be ignored.
 */
#ifndef STORE_SYNC_REPLICATE_H
#define STORE_SYNC_REPLICATE_H

#include "store/sync/link.h"

enum { REPLICATE_FIRST_MS = 500, REPLICATE_MOST_MS = 30000, REPLICATE_REFUSED_MS = 300000 };

struct replicate;

/*
 * replicate_start(s, say, out, err): ${s} must be writable and outlive it. ${say} (may be NULL) gets a line when a standby comes in touch, and when it goes, with the
 * reason; not for each try. Errors: NOMEM, IO (no thread).
 * replicate_stop(r): ends all streams, and the children behind them: some seconds at most, where one does not listen. Frees ${r}.
 */
int  replicate_start(struct store *s, void (*say)(const char *line), struct replicate **out, struct err *err);
void replicate_stop(struct replicate *r);

/* replicate_links(r): the streams it runs; those of others may be run in it too. NULL where ${r} is. */
struct link_table *replicate_links(struct replicate *r);

/* replicate_changed(r): the standbys among the settings are others, or other than they were. Returns at once. */
void replicate_changed(struct replicate *r);
/* replicate_now(r, target): tried at once, if it waits (NULL: all). */
void replicate_now(struct replicate *r, const char *target);

/*
 * replicate_claim(r, target): no stream of ${r} to it until replicate_release: waits for the end of the one there is.
 * replicate_hold(r, target, ms): the same, for so long at most, unless a claim comes and goes meanwhile.
 */
void replicate_claim(struct replicate *r, const char *target);
void replicate_release(struct replicate *r, const char *target);
void replicate_hold(struct replicate *r, const char *target, unsigned ms);

/* How it goes with one. */
struct replicate_state {
    bool     trying;                    /* a stream is run, or begun */
    unsigned failed;                    /* so many ended otherwise than asked */
    struct err why;                     /* of the last of them, while it counts: code 0 once the two are in touch again */
    int64_t  next_wall_ns;              /* then it is tried again, by the clock here; 0: now */
};
/* replicate_get(r, target, st): false: it is none that is shipped to, or fetched from, by ${r}. */
bool replicate_get(struct replicate *r, const char *target, struct replicate_state *st);

/* replicate_acked(r): the highest address that any standby acknowledged as durable since ${r} began. replicate_on_acked(r, fn, arg): called when it, or that of another, grows; by the threads of
 * streams, without locks; NULL: no more, once those have ended. */
uint64_t replicate_acked(struct replicate *r);
void replicate_on_acked(struct replicate *r, void (*fn)(void *arg), void *arg);
/* replicate_alarm(r, on): something that was to be at a standby before it was answered is not; status says so. replicate_alarmed(r). */
void replicate_alarm(struct replicate *r, bool on);
bool replicate_alarmed(struct replicate *r);

/* replicate_own_name(out): what this machine is called where it fetches: its host name, of letters, digits and "._-". */
enum { REPLICATE_NAME_MAX = 64 };
void replicate_own_name(char out[REPLICATE_NAME_MAX + 1]);
/* replicate_pause_ms(code, before): how long to wait after a stream that ended with ${code}, having waited ${before} the last time (0: it had gone well). Pure. */
uint64_t replicate_pause_ms(int code, uint64_t before);

#endif
