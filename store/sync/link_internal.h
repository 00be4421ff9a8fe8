/* link_internal.h: what both directions of link.h share. */
#ifndef STORE_SYNC_LINK_INTERNAL_H
#define STORE_SYNC_LINK_INTERNAL_H

#include "store/core/wounds.h"
#include "store/sync/conn.h"
#include "store/sync/link.h"

enum { LINK_POLL_MS = 100, LINK_LAST_WORDS_MS = 3000, LINK_TX_BYTES = 2 << 20 };

/* What a loop of either side turns round. */
struct loop {
    struct store *s;            /* NULL: none yet */
    struct link_table *table;
    int slot;                   /* in table; -1: it is full, and nobody will see this stream */
    struct conn c;
    int watch;                  /* eventfd; -1 */
    const struct link_stop *stop;
    struct link_info *info;
    uint64_t durable;           /* of a sender: published */
};

/* link_begin(l, t, in, out, name, sends, stop, info, err): NOMEM, IO; BUSY the second receiver. link_end: gives everything back. */
int  link_begin(struct loop *l, struct link_table *t, int in, int out, const char *name, bool sends, const struct link_stop *stop,
                struct link_info *info, struct err *err);
void link_end(struct loop *l, int rc);
/* link_watch(l, s): wake up for what becomes durable and applied in ${s}. */
int  link_watch(struct loop *l, struct store *s, struct err *err);
/* link_publish(l): the table shows what *l->info says. */
void link_publish(struct loop *l);
/* link_wait(l, ms, err): until there is something to read, room to write, progress in the store, or ${ms} are over. INTR: asked to stop. */
int  link_wait(struct loop *l, int ms, struct err *err);
/* link_last_words(c): what is queued goes out, if the other side takes it in time. */
void link_last_words(struct conn *c);

/* link_stopped(stop): asked to end. */
bool link_stopped(const struct link_stop *stop);

/*
 * Data that one side does not have, or has damaged, and asks of the other. link_want: the next parts: what records name that is not here (${lacking}), else the first wound: 1 *${f} is set, 0 there is
 * nothing, < 0; 2: records, of addresses d->from to d->until (RECALL). link_take: what came. link_note_fetch: the other side asks (FETCH, RECALL); link_give: the answer to it, into the connection: ${m} has its head.
 * link_data_release.
 */
struct link_data {
    struct proto_fetch asked;   /* by the other side; its parts */
    uint8_t *parts;             /* of what this side asked for */
    struct heal_plan *plan;     /* of that, where it is a wound; NULL: it is lacking */
    uint8_t *came;              /* for it; NULL: nothing yet */
    struct recall *recall;      /* instead, where it is one of records */
    uint64_t from, until;
    uint64_t asked_from, asked_until;   /* by the other side: records; until 0: parts of data */
    struct wound wound;
    struct wound *holes;        /* instead, where it is what no pack has: so many, and where the next ones begin */
    size_t n_holes, n_again;    /* again: the first of them were asked for as whole blocks, which the other side does not have */
    bool bare;                  /* these were asked for as they are */
    uint64_t behind;
    uint8_t *buf;               /* PROTO_DATA_MAX */
};
int  link_want(struct loop *l, struct link_data *d, bool lacking, struct proto_fetch *f, struct err *err);
int  link_take(struct loop *l, struct link_data *d, const struct proto_msg *m, struct err *err);
int  link_note_fetch(struct link_data *d, const struct proto_msg *m, struct err *err);
int  link_give(struct loop *l, struct link_data *d, struct proto_msg *m, struct err *err);
void link_data_release(struct link_data *d);

/* link_fence(s, by, rc, err): whoever is above was met. Returns ${rc}, or why it could not be written down, which then is what the person has to hear. */
int link_fence(struct store *s, const struct epoch_row *by, int rc, struct err *err);

uint64_t link_now_ms(void);

#endif
