/*
 * link.h: one side of a stream between two sites, run over two descriptors on an opened store: link_ship sends, link_receive takes. The
 * rules of the conversation are ship.h's and receive.h's; here is what they need: the log, the clock, the disk, compression.
 *
 * What runs is in a table that `status` reads: struct link_table, one a process.
 *
 * Threads: each stream is run by its caller's thread, any number at once for ships, one for a standby (the second is refused, BUSY).
 * SIGPIPE must be ignored.
 */
#ifndef STORE_SYNC_LINK_H
#define STORE_SYNC_LINK_H

#include "store/core/rewind.h"
#include "store/core/store.h"
#include "store/sync/receive.h"
#include "store/sync/ship.h"

#include <pthread.h>

enum { LINKS_MAX = 16, LINK_NAME_MAX = 255 };

/* Where a stream stands; of one that ended, where it stood. */
struct link_info {
    bool     used, live, sends;
    bool     agreed;                    /* both sides have said who they are, and fit */
    char     name[LINK_NAME_MAX + 1];   /* what the target, or the source, is called here; "" unknown */
    uint8_t  site[16];                  /* the other side's; zero until it said so */
    uint64_t sent, received, durable, applied;      /* there (of a sender), here (of a receiver) */
    uint64_t peer_durable, peer_head;   /* of a receiver: the primary's, as it last said */
    int64_t  heard_wall_ns;             /* when the other side last acknowledged, or sent, anything, by the clock here; 0: never */
    bool     booting;                   /* of a sender: the standby is being made, and not there yet */
    bool     caught;                    /* of a sender: it once acknowledged all that was durable when both sides had agreed */
    bool     stalled;                   /* ship_stalled; not while a limit holds back what is next */
    int64_t  behind_ns;                 /* of a receiver: since when there is more at the primary than is durable here, by the clock here; 0: there is not */
    int      end;                       /* why it ended: 0 as asked, else an err_code */
};

struct link_table {
    pthread_mutex_t lock;
    struct link_info link[LINKS_MAX];   /* lock */
    bool receiving;                     /* lock */
    uint64_t acked;                     /* lock: the highest that any standby ever acknowledged as durable */
    void (*on_acked)(void *arg);        /* lock: called, without it, when a standby acknowledged more as durable; NULL */
    void *on_acked_arg;                 /* lock */
};

void link_table_init(struct link_table *t);
void link_table_release(struct link_table *t);
/* link_table_get(t, i, info): the i-th, i < LINKS_MAX; false: there is none. */
bool link_table_get(struct link_table *t, unsigned i, struct link_info *info);

/* What ends a stream from outside. */
struct link_stop { int fd; const volatile int *flag; };     /* readable or hung up (-1: none); not 0 (NULL: none) */

struct link_ship_options {
    const char *name;
    bool     follow;                    /* else ends once all that is durable at the beginning is durable there */
    bool     probe;                     /* end once both sides have agreed where the stream begins; nothing is sent */
    bool     may_make;                  /* where nothing is, make a standby */
    bool     compress;
    bool     limit;                     /* keep to the setting "bandwidth" */
    struct link_stop stop;
    /* the standby fits and is of that site: its last chance not to be sent anything. Not 0: the stream ends with that. May be NULL. */
    int    (*met)(void *arg, const uint8_t site[16], struct err *err);
    /* a new standby is being sent files, and then the log from ${end} on: from there on nothing may be let go of. 0: files are going to be sent, and nothing is held for what it is to replace. As met.
     * May be NULL. */
    int    (*booting)(void *arg, uint64_t end, struct err *err);
    void   (*progress)(void *arg, const struct link_info *info, uint64_t durable);     /* now and then; may be NULL */
    void    *arg;
};

/*
 * link_ship(s, t, in, out, opt, info, err): ship ${s} over the descriptors until it is done or fails. *${info} says how far it came.
 * Errors: what the other side refused with; AWAY it went; PEERVER, NOSTORE, FENCED, DIVERGED, BOOTSTRAP, USAGE: it cannot be a standby of
 * this store, as the message says; INTR it was stopped; POISONED, DAMAGE, IO: the log here.
 */
int link_ship(struct store *s, struct link_table *t, int in, int out, const struct link_ship_options *opt, struct link_info *info, struct err *err);

/*
 * link_ship_standby(s, t, b, in, out, opt, info, err): link_ship, name, may_make, met and booting apart of ${opt}, to the standby ${b}, and the settings say how far it is: from the first
 * meeting on it is one of ours (unless it was removed meanwhile), and what it acknowledged is noted each minute and at the end. ${make}: also anew.
 */
struct standby;
int link_ship_standby(struct store *s, struct link_table *t, const struct standby *b, bool make, int in, int out, struct link_ship_options opt, struct link_info *info,
                      struct err *err);

struct link_receive_options {
    const char *name;
    bool     probe;                     /* end once both sides have agreed where the stream begins */
    bool     once;                      /* end once all that was durable at the sender when it first said so is durable here */
    void   (*progress)(void *arg, const struct link_info *info);     /* now and then; may be NULL */
    struct link_stop stop;
    /* nothing is here yet, and a standby is to be made (or one beside the store, in incoming/, where it cannot go on; then ${open} is not called): ${place} makes the directory if need be, *${io} (the caller's to free) leads to it; ${open} opens what was
     * made there. Both NULL: none is made. */
    int    (*place)(void *arg, struct io **io, const char **dir, struct err *err);
    int    (*open)(void *arg, struct store **out, struct err *err);
    void    *arg;
    /* where the store holds what the sender does not, or lacks what the sender has not: filled in, at > 0, when link_receive has failed for this (AWAY): the caller closes
     * the store, and store_rewind, or store_anew. NULL: it cannot (DIVERGED, BOOTSTRAP). */
    struct rewind *rewind;
};

/*
 * link_receive(s, t, in, out, opt, info, err): take what comes for the standby ${s} (NULL: there is none yet, opt->make makes it) until the
 * other side is done. Whatever was taken stays.
 * Errors: as link_ship; NOSPC. A stream that just ends is none: 0.
 */
int link_receive(struct store *s, struct link_table *t, int in, int out, const struct link_receive_options *opt, struct link_info *info, struct err *err);

/* link_refuse(in, out, err): tell the other side why there is no stream, as the first and last word. Waits at most some seconds. */
void link_refuse(int in, int out, const struct err *err);

#endif
