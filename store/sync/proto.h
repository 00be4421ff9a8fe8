/*
 * proto.h: the messages between two sites as bytes. PROTOCOL.md has the conversation.
 *
 * A message is a head of 48 bytes and a body. Every field is checked where it is decoded: lengths, sums, counts, ids that may not be zero;
 * what a message means at this point of the conversation is ship.h's and receive.h's to judge.
 *
 * Threads: pure functions.
 */
#ifndef STORE_SYNC_PROTO_H
#define STORE_SYNC_PROTO_H

#include "store/base/err.h"
#include "store/base/hash.h"
#include "store/base/lease.h"
#include "store/base/super.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Spoken today. A program speaks the newest version and the one before; the first has none before it. */
enum { PROTO_LOWEST = 1, PROTO_HIGHEST = 1 };

/* X(name, number): numbers are for ever. */
#define PROTO_TABLE(X) \
    X(HELLO,   1)      \
    X(REFUSE,  2)      \
    X(MAKE,    3)      \
    X(START,   4)      \
    X(RECORDS, 5)      \
    X(ACK,     6)      \
    X(BEAT,    7)      \
    X(LIST,    8)      \
    X(WANT,    9)      \
    X(FILE,    10)     \
    X(RETAINED, 11)     \
    X(ASK,     12)      \
    X(TELL,    13)      \
    X(FETCH,   14)      \
    X(DATA,    15)      \
    X(BOOT,    16)      \
    X(RECALL,  17)      \
    X(HEADS,   18)

enum proto_type {
#define X(name, num) PROTO_##name = (num),
    PROTO_TABLE(X)
#undef X
};

enum {
    PROTO_HEAD_BYTES   = 48,
    PROTO_BODY_MAX     = 1 << 25,
    PROTO_RECORDS_MAX  = 1 << 24,   /* expanded bytes of one RECORDS message, but for a single larger record */
    PROTO_TEXT_MAX     = ERR_MSG_MAX - 1,
    PROTO_ZONE_MAX     = 255,
    PROTO_FILES_MAX    = 1 << 18,   /* of one LIST */
    PROTO_FILE_NAME_MAX = 80,
    PROTO_FILE_BYTES   = 1 << 20,   /* of a file in one FILE, at most */
};

/* Which part a side plays. */
enum proto_part { PROTO_SENDER = 1, PROTO_RECEIVER = 2 };

struct proto_head {
    uint16_t type;
    uint32_t body;             /* bytes that follow */
    uint32_t epoch;            /* number of the epoch the stream is of; in HELLO the speaker's own, 0 where nothing is held */
    uint8_t  epoch_id[16];
    uint64_t position;
    uint32_t body_sum;
};

/* Who speaks, and what it holds. */
struct proto_hello {
    uint32_t lowest, highest;  /* protocol versions */
    uint8_t  lineage[16], site[16];
    uint32_t role;             /* enum super_role; 0: there is no store here yet, all else of it is zero */
    uint32_t part;             /* enum proto_part */
    uint32_t known;            /* the highest number of an epoch that was heard of, whether its records are held or not */
    uint64_t incarnation;
    uint64_t durable;          /* end of what is held and durable; 0 where nothing is */
    uint64_t whole;            /* below it all data that records name are held, too; durable, or a record that names what is lacking */
    uint64_t last_lsn;         /* the record that ends there; 0: none */
    struct hash128 last_hash;
    uint32_t n_epochs;
    struct epoch_row epochs[SUPER_EPOCHS_MAX];  /* last: no more than there are is looked at, or copied */
};

/* What a new standby is made with. */
struct proto_make {
    uint8_t  lineage[16];
    uint8_t  key[32];
    uint32_t key_id;
    struct epoch_row epoch;    /* the one its first record is of */
    char     timezone[PROTO_ZONE_MAX + 1];
};

/*
 * What a new standby takes instead of the records before position: files of archive and packs. All that a standby is made with, too.
 * Files are n times: name ("archive/..." or "packs/..."), size, the hash that is its last bytes: proto_list_next.
 */
struct proto_list {
    uint8_t  lineage[16];
    uint8_t  key[32];
    uint32_t key_id;
    uint64_t last_lsn;         /* the last record below position, and its hash */
    struct hash128 last_hash;
    char     timezone[PROTO_ZONE_MAX + 1];
    uint32_t n;
    const uint8_t *p;          /* in the body */
    uint32_t len;
    uint32_t n_epochs;         /* those of which there are records below position */
    struct epoch_row epochs[SUPER_EPOCHS_MAX];  /* last, as in proto_hello */
};
struct proto_list_file { char name[PROTO_FILE_NAME_MAX + 1]; uint64_t size; struct hash128 hash; };

/* Which of them the standby has not, n times: number (rising, below the number of files), and from where on: what a stream that was cut off brought of it need not come again. */
enum { PROTO_WANT_BYTES = 12 };
struct proto_want { uint32_t n; const uint8_t *p; };

/* A part of one of them; position: where in the file. */
struct proto_file { uint32_t index, len; const uint8_t *p; };

/* The sender's retained set, as the bytes of its file. The last of what a standby is made with. */
struct proto_retained { uint32_t len; const uint8_t *p; };

struct proto_records {
    uint32_t n;                /* records, at least 1 */
    uint32_t bytes;            /* of them, expanded */
    uint64_t end;              /* address behind the last one */
    bool     compressed;       /* a zstd frame; else as they are */
    const uint8_t *p;          /* in the body */
    uint32_t len;
};

struct proto_ack {
    uint64_t durable, applied; /* ends; position is the end of what was received. applied <= received, durable <= received */
    uint64_t beat;             /* number of the last BEAT heard, 0: none */
};

struct proto_beat {
    uint64_t number;           /* from 1 */
    int64_t  wall_ns;          /* the sender's clock */
    uint64_t head;             /* where its log ends, durable or not; position is the end of what is durable */
    struct lease lease;        /* what the primary asks for, and of whom */
};

/* The sender's last record that ends at or below position: ASK is without a body. */
struct proto_tell {
    uint64_t lsn, end;         /* where it ends; 0, 0: it has none so far back (any more) */
    struct hash128 hash;
};

/*
 * Parts of the data of records. FETCH: n times (lsn, dstart, doff, len), which the speaker lacks. DATA: the answer, in the same order: each with where in which file the record wrote it, or that the
 * speaker does not have it either; and the bytes of those it has, one behind the other. proto_part_get, proto_part_put.
 */
enum { PROTO_PARTS_MAX = 4096, PROTO_PART_BYTES = 20, PROTO_DATA_PART_BYTES = 40, PROTO_PART_MAX = 1 << 20, PROTO_DATA_MAX = 4 << 20 };
struct proto_data_part { uint64_t lsn, ino, off; uint32_t dstart, doff, len; bool had; };
struct proto_fetch { uint32_t n; const uint8_t *p; };       /* in the body */
struct proto_data { uint32_t n, bytes; const uint8_t *p, *data; };

/*
 * Heads of records. RECALL: those that begin at or above position and below ${until}, which the speaker cannot read. HEADS, with the same position: the first of them, whole, one behind the other;
 * n 0: not here either.
 */
enum { PROTO_HEADS_MAX = 4 << 20 };
struct proto_recall { uint64_t until; };
struct proto_heads { uint64_t end; uint32_t n, bytes; const uint8_t *p; };  /* end: behind the last record, its data included */

struct proto_refuse {
    int  code;                 /* a negative err_code; UNKNOWN for a number this program does not know */
    char text[PROTO_TEXT_MAX + 1];
};

/* A message, decoded. */
struct proto_msg {
    uint16_t type;
    uint32_t epoch;
    uint8_t  epoch_id[16];
    uint64_t position;
    union {
        struct proto_hello hello;
        struct proto_make make;
        struct proto_records records;   /* all with a ${p} point into the body */
        struct proto_list list;
        struct proto_want want;
        struct proto_file file;
        struct proto_retained retained;
        struct proto_ack ack;
        struct proto_beat beat;
        struct proto_tell tell;
        struct proto_fetch fetch;
        struct proto_data data;
        struct proto_recall recall;
        struct proto_heads heads;
        struct proto_refuse refuse;
    } u;
};

/* proto_begins(buf, n, err): 0 where these bytes may begin a message; AWAY: no spare speaks there. */
int proto_begins(const uint8_t *buf, size_t n, struct err *err);

/*
 * proto_head_decode(buf, h, err): the 48 bytes that begin a message. An unknown type is not refused here: later protocols have others.
 * Errors: BADREC what is wrong; AWAY as proto_begins.
 */
int proto_head_decode(const uint8_t buf[PROTO_HEAD_BYTES], struct proto_head *h, struct err *err);

/*
 * proto_decode(h, body, m, err): the message of head ${h} and its ${h}->body bytes. *${m} is only written on success.
 * Errors: BADREC; PEERVER a type that this protocol does not have.
 */
int proto_decode(const struct proto_head *h, const uint8_t *body, struct proto_msg *m, struct err *err);

/*
 * proto_list_next(l, pos, out): the file at *${pos} (0 at first) of what proto_decode accepted; false at the end. proto_list_put(buf, cap, f): one more of a list
 * that is being made: bytes, 0 more than ${cap}. proto_want_at(w, i, from): the i-th number, and its place; proto_want_put(p, index, from): PROTO_WANT_BYTES.
 */
bool     proto_list_next(const struct proto_list *l, uint32_t *pos, struct proto_list_file *out);
size_t   proto_list_put(uint8_t *buf, size_t cap, const struct proto_list_file *f);
uint32_t proto_want_at(const struct proto_want *w, uint32_t i, uint64_t *from);
void     proto_want_put(uint8_t *p, uint32_t index, uint64_t from);

/*
 * proto_part_get(p, i, out), proto_part_put(p, k): the i-th of a FETCH; proto_data_get, proto_data_put: of a DATA. put: at ${p}, PROTO_PART_BYTES, PROTO_DATA_PART_BYTES.
 */
void proto_part_get(const uint8_t *p, uint32_t i, struct proto_data_part *out);
void proto_part_put(uint8_t *p, const struct proto_data_part *k);
void proto_data_get(const uint8_t *p, uint32_t i, struct proto_data_part *out);
void proto_data_put(uint8_t *p, const struct proto_data_part *k);
/* proto_answers(f, d): the answer has the parts that were asked for, in their order. */
bool proto_answers(const struct proto_fetch *f, const struct proto_data *d);

/* proto_begin(m, type): all of it zero but the type; rows of epochs are as they were. */
void proto_begin(struct proto_msg *m, uint16_t type);
/* proto_bound(m): bytes proto_encode may need. proto_encode(m, buf, cap): writes head and body; returns the bytes, 0 if ${cap} is too small. */
size_t proto_bound(const struct proto_msg *m);
size_t proto_encode(const struct proto_msg *m, uint8_t *buf, size_t cap);

/* proto_name(type): "HELLO"..., or "?". */
const char *proto_name(unsigned type);

#endif
