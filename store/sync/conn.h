/*
 * conn.h: messages over two descriptors (which may be one), without waiting.
 *
 * Threads: one at a time.
 */
#ifndef STORE_SYNC_CONN_H
#define STORE_SYNC_CONN_H

#include "store/sync/proto.h"

struct conn {
    int in, out;
    uint8_t *rx, *tx;
    size_t rx_at, rx_len, rx_cap;      /* [rx_at, rx_len) was read and not yet taken */
    size_t tx_at, tx_len, tx_cap;      /* [tx_at, tx_len) is to be written */
    bool eof;
};

/* conn_init(c, in, out): makes both non-blocking and their buffers in the kernel large, where they can be. conn_release closes neither. */
void conn_init(struct conn *c, int in, int out);
void conn_release(struct conn *c);

/* conn_read(c, err): what there is to read, some of it; 0, also with nothing there or at the end (c->eof). Errors: AWAY, NOMEM. */
int conn_read(struct conn *c, struct err *err);

/* conn_next(c, m, err): 1 the next message, whose pointers are good until the next conn_read; 0 none is whole yet. Errors: BADREC, PEERVER, NOMEM. */
int conn_next(struct conn *c, struct proto_msg *m, struct err *err);

/* conn_put(c, m, err): queue a message; NOMEM. conn_flush(c, err): write some of what is queued; AWAY: nobody takes it any more. */
int conn_put(struct conn *c, const struct proto_msg *m, struct err *err);
int conn_flush(struct conn *c, struct err *err);

static inline bool conn_idle(const struct conn *c) { return c->tx_at == c->tx_len; }

#endif
