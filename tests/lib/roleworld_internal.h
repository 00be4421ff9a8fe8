/* roleworld_internal.h: what the files of roleworld.h share. */
#ifndef TESTS_ROLEWORLD_INTERNAL_H
#define TESTS_ROLEWORLD_INTERNAL_H

#include "tests/lib/roleworld.h"

enum { FIRST_LINEAGE = 7, BEGINS = 4096, SITES_MAX = 5, LINES_MAX = 6, RECS_MAX = 1500, DATA_MAX = 1200, BRANCHES_MAX = 96, ROWS_MAX = 100, EPOCHS_MAX = 400, PROOFS_MAX = 1024, WAITS = 8,
       WIRE_BYTES = 256 << 10, WIRE_ENOUGH = 64 << 10, REC_MIN = 128, BATCH = 8 };

enum rec_kind { KIND_DATA, KIND_EPOCH, KIND_MARK };

/* A record of the model. Its hash covers the one before it, so that a chain is one thing. */
struct rec { uint64_t lsn, end; struct hash128 hash; uint32_t len; enum rec_kind kind; uint32_t number; uint8_t id[16], site[16], lineage; };

struct disk {
    struct rec rec[RECS_MAX];
    unsigned n, durable;
    struct epoch_row rows[ROWS_MAX];     /* these are written through, as a superblock is */
    uint32_t n_rows;
    uint32_t role;                       /* 0: nothing is there */
    struct epoch_row fence;              /* number 0: none */
    uint8_t site[16], lineage;           /* (the first byte, the rest is zero) */
    unsigned n_branches;
    struct lease lease_told;
    uint32_t lease_epoch;                /* a primary's: the lease has begun in that epoch, given by lease_site */
    uint8_t lease_site[16];
};

struct branch { struct rec *rec; unsigned n; };

struct site {
    struct disk d;
    struct branch branch[BRANCHES_MAX];
    bool full, mounted;
    bool copied;                         /* of another site, and nobody has said so */
    struct disk *image;
    uint32_t image_heard;
    /* what the checks know */
    uint32_t heard;                      /* the highest epoch it was told of, and has written down */
    unsigned row_lost;                   /* planted: rows that a kill takes */
    int clock_ppm;                       /* its clock is so much faster */
    uint64_t frozen_ms;                  /* suspended until then; its clock goes on */
    uint64_t lease_ms, promised_ms;      /* by its own clock */
    unsigned n_waits;
    unsigned wait[WAITS];                /* fsyncs under rpo=0, each for so many records */
};

struct wire { uint8_t buf[WIRE_BYTES]; size_t from, there, to; bool eof; };    /* there: so far it was delivered */

struct line {
    bool used, ship_live, receive_live;
    int from, to;
    struct ship ship;
    struct ship_own own;
    struct epoch_row rows[ROWS_MAX];
    struct receive receive;
    struct wire to_b, to_a;
    bool clean;                          /* nothing came between the two */
    bool parted, same_site, kin;         /* at the beginning: each holds what the other does not; they say they are one site; they are of two lineages, one forked from the other or both from a third */
    uint32_t knows_a, knows_b;           /* the highest epochs */
    bool a_heard, b_heard;               /* the other's first words */
    bool done;
};

/* The site holds, in its log or in a branch, at that place of its chain, that record. */
struct proof { int site; unsigned i; struct hash128 hash; const char *what; bool off; };

struct epoch_seen { int owner; bool twice; uint8_t copy_of; };     /* copy_of: begun by a copy that was told so: the lineage of its original */

struct world {
    uint64_t seed, now_ms, salt;
    enum role_plant plant;
    struct role_seen *seen;
    int n_sites;
    struct site site[SITES_MAX];
    bool blocked[SITES_MAX][SITES_MAX];
    struct line line[LINES_MAX];
    struct epoch_seen epoch[EPOCHS_MAX];
    unsigned n_epochs, n_sites_made, n_lineages;
    struct proof proof[PROOFS_MAX];
    unsigned n_proofs;
    unsigned copies, images;
    unsigned quiet;                      /* how seldom something comes between */
    bool calm, trace, leases;
    struct proto_msg in, out;            /* spare: heard, to be said */
    char *why;
    size_t cap;
    bool failed;
};

uint64_t rw_rnd(struct world *w);
unsigned rw_below(struct world *w, unsigned n);
bool     rw_one_in(struct world *w, unsigned n);         /* never when all is calm */
void     rw_wrong(struct world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- roleworld_disk.c: chains, roles ---- */

uint64_t rw_end(const struct disk *d, unsigned n);       /* where the first n records end */
unsigned rw_index(const struct disk *d, uint64_t end);   /* how many records end at or below */
unsigned rw_common(const struct disk *a, unsigned na, const struct disk *b, unsigned nb);
uint32_t rw_known(const struct disk *d);                 /* the highest epoch it has records of, durably */
uint32_t rw_heard_of(const struct disk *d);              /* the highest there is a word of, with records or without */
void     rw_prove(struct world *w, int i, unsigned n, const char *what);    /* its first n records count from here on */
void     rw_proofs(struct world *w, int i, bool excuse); /* all of them hold; ${excuse}: those that do not are no fault from here on */

void rw_create(struct world *w, int i);
bool rw_append(struct world *w, int i);
void rw_sync(struct world *w, int i);
void rw_fsync(struct world *w, int i);
void rw_answer(struct world *w, int i);                  /* fsyncs under rpo=0 */
void rw_kill(struct world *w, int i);
bool rw_begin_epoch(struct world *w, int i);
bool rw_promote(struct world *w, int i);
void rw_demote(struct world *w, int i);
void rw_fence(struct world *w, int i, const struct epoch_row *by);
bool rw_follow(struct world *w, int i, const uint8_t *p, uint32_t len, struct err *err);
void rw_put_record(const struct disk *d, unsigned k, uint8_t *p);
void rw_go_back(struct world *w, int i, const struct receive *r, const struct line *l);

/* ---- roleworld_lease.c: who may take changes, where there are leases ---- */

uint64_t rw_clock(const struct world *w, int i);         /* ms since boot, as that site has it */
bool rw_frozen(const struct world *w, int i);
bool rw_leased(const struct world *w, int i);            /* it needs no lease, or has one */
void rw_lease_of(const struct world *w, int i, struct lease *out);   /* what it says in a BEAT */
bool rw_lease_promise(struct world *w, int i, const struct receive *r);
void rw_lease_renew(struct world *w, const struct line *l);
bool rw_lease_allows(const struct world *w, int i);      /* to be promoted */
void rw_lease_opened(struct world *w, int i);            /* after a kill */
void rw_lease_promoted(struct world *w, int i);
void rw_lease_events(struct world *w);
void rw_lease_check(struct world *w);

/* ---- roleworld_host.c: disks that are copied and set back ---- */

void rw_copy(struct world *w, int from, int to);
void rw_told(struct world *w, int i);
void rw_image(struct world *w, int i);
void rw_set_back(struct world *w, int i);

/* ---- roleworld_line.c: conversations ---- */

bool rw_connect(struct world *w, int from, int to, bool until_now);
void rw_run(struct world *w, struct line *l);
void rw_cut(struct world *w, struct line *l);
void rw_give_up(struct world *w, struct line *l);         /* something fails at one end, which says so */
void rw_down(struct world *w, int i);                    /* the process of that site is gone */

#endif
