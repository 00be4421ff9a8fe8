/*
 * receive.h: the receiver's side of the stream between two sites, a state machine as ship.h is. PROTOCOL.md.
 *
 *   HELLO ──► (MAKE ──► (FILES ──►)) START ──► STREAM ──► END
 *     └────► FORK: this side holds what the sender does not: it finds out where they part, and ends; its host goes back to there
 *
 * Threads: none; one caller at a time.
 */
#ifndef STORE_SYNC_RECEIVE_H
#define STORE_SYNC_RECEIVE_H

#include "store/sync/ship.h"

#define RECEIVE_STATES(X) X(HELLO) X(MAKE) X(FILES) X(START) X(STREAM) X(FORK) X(END)
enum receive_state {
#define X(name) RECEIVE_##name,
    RECEIVE_STATES(X)
#undef X
    RECEIVE_N_STATES
};

enum receive_due {
    RECEIVE_WAIT,
    RECEIVE_SEND,              /* a message is due: *out */
    RECEIVE_MAKE_STORE,        /* a standby is to be made of r->make: receive_made tells */
    RECEIVE_LIST,              /* a list of files was heard: receive_wants tells which of them are not here */
    RECEIVE_FILE,              /* the part of one that was just heard: receive_filed, once it is written */
    RECEIVE_INSTALL,           /* all files are here, and the retained set just heard: make a standby of them: receive_made tells */
    RECEIVE_DATA,              /* the parts that were asked for last (FETCH): a message DATA for receive_gave, or receive_fail */
    RECEIVE_SUPPLY,            /* the DATA just heard: receive_supplied, once they are here */
    RECEIVE_JUDGE,             /* where both part is known (r->fork): receive_judged tells whether this side can go back to there */
    RECEIVE_COMPARE,           /* whether the record r->told is held here: receive_compared tells */
    RECEIVE_PROMISE,           /* r->promise was heard: it is written down, and this side is not promoted before r->promise_ms: receive_promised tells */
    RECEIVE_APPEND,            /* the records of the message just heard are to be appended: receive_appended tells */
    RECEIVE_FAILED,            /* r->err */
};

/* Who receives. All zero but first: there is nothing here yet. */
struct receive_own {
    uint8_t  lineage[16], site[16];
    uint32_t role;             /* 0: nothing here */
    uint64_t incarnation;
    uint64_t durable;          /* end of what is held, all of it durable; 0 where nothing is here */
    uint64_t whole;            /* below it all data that records name are here, too */
    uint32_t known;            /* proto_hello */
    uint64_t last_lsn;
    struct hash128 last_hash;
    uint32_t n_epochs;
    struct epoch_row epochs[SUPER_EPOCHS_MAX];
    struct lease lease;        /* what was told last, and written down */
};

struct receive {
    struct receive_own own;
    enum receive_state state;
    uint32_t epoch;            /* the sender's */
    uint8_t  epoch_id[16];
    uint8_t  peer_site[16];
    uint64_t received, durable, applied;
    struct proto_make make;
    bool     say_hello, say_ack, say_want, tell, make_due, append_due, list_due, file_due, install_due;
    uint64_t list_at;          /* position of the list heard last */
    struct proto_want want;    /* borrowed from who said receive_wants */
    bool     hold_ack;         /* the host's: the one before is not on its way yet; what is to be acknowledged meanwhile is in one, and DATA wait */
    bool     may_part;         /* the sender is of a later epoch: where this side parts from it, it goes back */
    bool     may_go_back;      /* the host's: it can; else to part from the sender is an error */
    struct {
        uint64_t low, high;    /* what ends at or below low is the same at both; they part at or below high */
        uint64_t asked;
        uint64_t floor;        /* low, or the highest address at or below which the sender has no record */
        struct proto_tell low_rec;      /* the record that ends at low */
        bool     found;        /* low is where they part, and what this side is to go back to */
    } fork;
    struct proto_tell told;
    bool     compare_due, say_ask, judge_due, say_boot;
    bool     fetching, supply_due;      /* a FETCH was said, and not answered yet; the answer is here */
    struct proto_fetch fetch;  /* borrowed from who said receive_fetch */
    uint64_t recall_from, recall_until; /* a RECALL was said instead: of these addresses; else 0 */
    bool     say_fetch, say_data;
    bool     fenced;           /* the sender is above: this side is primary no more */
    struct epoch_row fence;
    uint64_t peer_durable, peer_head;   /* as of the last BEAT */
    uint64_t beat;
    struct lease promise;      /* of the BEAT heard last, whose number is promise_beat; the time by the clock of receive_tick */
    uint64_t promise_beat, promise_ms;
    bool     promise_due;
    uint64_t now_ms, silent_ms;
    bool     clocked;
    struct err err;
};

void receive_init(struct receive *r, const struct receive_own *own);

/* receive_hear(r, m): a message came. Records are appended before the next is heard. */
void receive_hear(struct receive *r, const struct proto_msg *m);

/* receive_made(r, own): the standby is there, and this is what it is. */
void receive_made(struct receive *r, const struct receive_own *own);

/* receive_wants(r, w): ${w} lives until it was sent. receive_filed(r). */
void receive_wants(struct receive *r, const struct proto_want *w);
void receive_filed(struct receive *r);

/* receive_recall(r, from, until): as receive_fetch, of records whose heads cannot be read here. */
void receive_recall(struct receive *r, uint64_t from, uint64_t until);
/* receive_fetch(r, f): these parts are lacking; ${f} lives until it was sent. Nothing where one is on its way already, or there is no stream. receive_supplied(r): what came is here, or never will be. */
void receive_fetch(struct receive *r, const struct proto_fetch *f);
void receive_supplied(struct receive *r);
/* receive_msg(r, type, m): head of a DATA; the caller fills in the rest. receive_gave(r): it is on its way. */
void receive_msg(const struct receive *r, uint16_t type, struct proto_msg *m);
void receive_gave(struct receive *r);

/* receive_judged(r, possible): else it is made anew, of files. receive_installed(r): those of a store that is there already: a new one beside it is whole. */
void receive_judged(struct receive *r, bool possible);
void receive_installed(struct receive *r);

/* receive_compared(r, same): r->told is (not) the record that is held here at its place. */
void receive_compared(struct receive *r, bool same);
/* receive_cannot_compare(r): what was held there was let go of. */
void receive_cannot_compare(struct receive *r);

/* receive_appended(r, end): the records of that message are in the log here, up to ${end}. */
void receive_appended(struct receive *r, uint64_t end);

/* receive_progress(r, durable, applied): so much is durable here by now, and can be read. Never falls. */
void receive_progress(struct receive *r, uint64_t durable, uint64_t applied);

/* receive_promised(r, given): of RECEIVE_PROMISE; else that BEAT is not acknowledged. */
void receive_promised(struct receive *r, bool given);

/* receive_tick: as ship_tick; between the arrival of a message and receive_hear, too, since a promise counts from there. receive_fail: as ship_fail. */
void receive_tick(struct receive *r, uint64_t now_ms);
void receive_fail(struct receive *r, bool tell, const struct err *err);

enum receive_due receive_due(struct receive *r, struct proto_msg *out);

const char *receive_state_name(enum receive_state st);

#endif
