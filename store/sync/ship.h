/*
 * ship.h: the sender's side of the stream between two sites, a state machine without I/O, clock or memory of its own. PROTOCOL.md.
 *
 * Whoever runs it (link.h; the simulation) tells it what came, what is so here and what time it is, then asks what is due, until that is
 * SHIP_WAIT. Everything it holds is in the struct; it reads the fields of ${own} only.
 *
 *   HELLO ──► (LISTED ──► FILES ──►) (MADE) ──► LOOK ──► STREAM ──► END
 *     └────► FORK: it holds what this side does not, and asks where they part
 *
 * Threads: none; one caller at a time.
 */
#ifndef STORE_SYNC_SHIP_H
#define STORE_SYNC_SHIP_H

#include "store/sync/proto.h"

enum {
    SYNC_BEAT_MS   = 1000,     /* the sender says where it stands at least so often */
    SYNC_SILENT_MS = 30000,    /* nothing heard for so long, while this side ran: the other is gone */
    SYNC_INSTALL_MS = 3600000, /* so long a standby may take to make its index of what it was sent, before it says a word */
    SYNC_STALL_MS  = 8000,     /* nothing more acknowledged for so long while there is something: said aloud (within 10 s) */
    SHIP_BEATS     = 64,       /* that are remembered: when they were sent, with which lease */
};

/* X(name): the states. */
#define SHIP_STATES(X) X(HELLO) X(LISTED) X(FILES) X(MADE) X(LOOK) X(STREAM) X(FORK) X(END)
enum ship_state {
#define X(name) SHIP_##name,
    SHIP_STATES(X)
#undef X
    SHIP_N_STATES
};

enum ship_due {
    SHIP_WAIT,                 /* for the other side, or for more to be durable here */
    SHIP_SEND,                 /* a message is due: *out */
    SHIP_LIST,                 /* the files a new standby takes: a message for ship_listed, or ship_fail */
    SHIP_FILE,                 /* the next part of those it wants, or the retained set behind the last: ship_filed; ship_list_again where one is gone meanwhile */
    SHIP_LOOK_UP,              /* the record at s->look_lsn: ship_looked tells */
    SHIP_DATA,                 /* the parts that were asked for last (FETCH): a message DATA for ship_gave, or ship_fail */
    SHIP_TELL,                 /* the last record that ends at or below s->ask_at: a message TELL for ship_told, or ship_fail */
    SHIP_READ,                 /* records from s->sent on, below s->durable: ship_sent, once they are on their way */
    SHIP_DONE,                 /* everything up to s->until is durable there */
    SHIP_FAILED,               /* s->err; where s->tell a REFUSE was due before */
};

/* Who sends. Borrowed; of it only ${first} (data are let go of) and ${lease} may change while the machine runs. */
struct ship_own {
    uint8_t  lineage[16], site[16];
    uint32_t role;
    uint64_t incarnation;
    uint64_t last_lsn;         /* of the record that ends at durable, at the beginning */
    struct hash128 last_hash;
    uint64_t first;            /* lowest address from which on every record is held with its data */
    uint64_t begins;           /* where a log begins */
    uint32_t known;            /* proto_hello */
    uint32_t n_epochs;
    const struct epoch_row *epochs;
    uint8_t  key[32];
    uint32_t key_id;
    const char *timezone;      /* for a standby to be made */
    bool     may_make;         /* nothing there yet: make a standby; else it is an error */
    struct lease lease;        /* what is asked for; ms 0: none */
};

struct ship {
    const struct ship_own *own;
    enum ship_state state;
    uint64_t until;            /* UINT64_MAX: follow */
    uint64_t durable, head;    /* here */
    uint64_t sent;             /* end of what is on its way */
    uint64_t received, acked, applied;  /* there */
    uint64_t whole;            /* what it says it has with all data, in its HELLO */
    uint64_t look_lsn, look_end;        /* what the other side says is its last record, and where it ends */
    struct hash128 look_hash;
    uint8_t  peer_site[16];
    bool     say_hello, say_make, say_list, say_start, say_told, say_data, tell;
    bool     fetching, say_fetch, supply_due;    /* a FETCH was said, and not answered yet; is to be sent; the answer was just heard: ship_supplied, before anything else is */
    struct proto_fetch fetch;  /* borrowed from who said ship_fetch */
    uint64_t recall_from, recall_until; /* a RECALL was said instead: of these addresses; else 0 */
    bool     booted;           /* it was sent files */
    uint64_t ask_at;
    bool     may_part;         /* the other side is of an older epoch: where it parts from this one it goes back */
    bool     fenced;           /* the other side knows of a higher epoch: where this one is primary, it is so no more */
    struct epoch_row fence;    /* that epoch */
    uint64_t beat;             /* number of the last */
    struct { uint64_t number, sent_ms; struct lease lease; } beats[SHIP_BEATS];
    uint64_t lease_ms;         /* of a primary: the other side gives it a lease until then, by the clock of ship_tick; 0: none */
    int64_t  wall_ns;
    uint64_t now_ms, silent_ms, beat_ms, stall_ms;
    bool     clocked;
    struct err err;
};

/* ship_init(s, own, durable, head, until): at the beginning of a connection. */
void ship_init(struct ship *s, const struct ship_own *own, uint64_t durable, uint64_t head, uint64_t until);

/* ship_hear(s, m): a message came. What is wrong with it ends the stream (SHIP_FAILED). */
void ship_hear(struct ship *s, const struct proto_msg *m);

/* ship_durable(s, durable, head): so much is durable here by now, and written. Never falls. */
void ship_durable(struct ship *s, uint64_t durable, uint64_t head);

/* ship_tick(s, now_ms, wall_ns): a clock that does not go back and goes on while the host is suspended, and the one on the wall. Of silence, time in which nobody called counts at most a second.
 * A lease counts from the tick before its BEAT. */
void ship_tick(struct ship *s, uint64_t now_ms, int64_t wall_ns);

/* ship_looked(s, held, hash, end): the record at s->look_lsn: its hash and the address behind it; ${held} false: there is none there (any more). */
void ship_looked(struct ship *s, bool held, const struct hash128 *hash, uint64_t end);

/* ship_told(s): a TELL is on its way; ship_gave(s): the DATA. */
void ship_told(struct ship *s);
void ship_gave(struct ship *s);
/* ship_recall(s, from, until): as ship_fetch, of records whose heads cannot be read here. */
void ship_recall(struct ship *s, uint64_t from, uint64_t until);
/* ship_fetch(s, f): these parts are damaged here; ${f} lives until it was answered. Nothing where one is on its way already, or there is no stream. ship_supplied(s): what came is here. */
void ship_fetch(struct ship *s, const struct proto_fetch *f);
void ship_supplied(struct ship *s);

/* ship_beat(s, m): a BEAT, for who is at something long in between. */
void ship_beat(struct ship *s, struct proto_msg *m);

/*
 * ship_msg(s, type, position, m): head of a LIST, FILE or RETAINED; the caller fills in the rest, and when it is on its way says ship_listed, ship_filed (${last}: it
 * was the retained set). ship_list_again: a file that is wanted is not there any more; the list is made anew.
 */
void ship_msg(const struct ship *s, uint16_t type, uint64_t position, struct proto_msg *m);
void ship_listed(struct ship *s);
void ship_filed(struct ship *s, bool last);
void ship_list_again(struct ship *s);

/* ship_records(s, m): head and position of the RECORDS message that is due; the caller fills in the rest, and when it is on its way says
 * ship_sent(s, end). */
void ship_records(const struct ship *s, struct proto_msg *m);
void ship_sent(struct ship *s, uint64_t end);

/* ship_fail(s, tell, err): something here failed (reading the log, the connection): the stream ends; ${tell}: the other side is told. */
void ship_fail(struct ship *s, bool tell, const struct err *err);

/* ship_due(s, out): what to do next. */
enum ship_due ship_due(struct ship *s, struct proto_msg *out);

/* ship_stalled(s): there is something to be acknowledged, and for SYNC_STALL_MS nothing was. */
bool ship_stalled(const struct ship *s);

const char *ship_state_name(enum ship_state st);

#endif
