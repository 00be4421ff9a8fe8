/* syncworld.c: see syncworld.h. */
#include "tests/lib/syncworld.h"

#include "store/log/frame.h"
#include "store/log/record.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BEGINS = 4096, MAX_RECORDS = 4096, WIRE_BYTES = 1 << 20, FILES = 4, FILE_BYTES = 300, PART = 128, REC_MIN = REC_HEAD_BYTES, BATCH = 8 };

/* A record of the model: where it lies and what it is. Its hash covers the one before it, so that a chain is one thing. */
struct rec { uint64_t lsn, end; struct hash128 hash; uint32_t len; };

struct disk { struct rec rec[MAX_RECORDS]; unsigned n, durable; };

struct wire { uint8_t buf[WIRE_BYTES]; size_t from, to; };

struct world {
    uint64_t seed, now_ms, salt;
    enum sync_plant plant;
    struct sync_seen *seen;
    struct disk a, b;                    /* primary, standby */
    uint32_t n_epochs;
    struct epoch_row epochs[SUPER_EPOCHS_MAX];
    bool made;                           /* the standby is there */
    unsigned thin;                       /* so many of the primary's first records are there in files alone; 0: none */
    struct { unsigned upto, n, k, at; } list;    /* of the sender: files of records below, how many; the one being sent, and where in it */
    struct { unsigned upto, n, n_want; uint32_t want[FILES]; uint8_t bytes[PROTO_WANT_BYTES * FILES]; unsigned next, at; } take;    /* of the receiver */
    uint64_t held[FILES];                /* what the standby-to-be has: sums of whole files */
    bool set_back;                       /* the primary lost what the standby has: they must find out, and nothing else may happen */
    uint8_t b_site[16];
    uint64_t b_promised;                 /* end of what it acknowledged durable, ever */
    uint64_t b_resumes;                  /* what it said it holds at the beginning of this connection */
    bool up;                             /* connected */
    bool closing;                        /* what was sent still arrives, nothing more is sent */
    struct ship ship;
    struct ship_own own;
    struct receive *receive;             /* NULL while that side is down */
    struct wire to_b, to_a;
    uint8_t stale[4096];                 /* a message of an earlier connection */
    size_t stale_len;
    bool stale_for_b;
    bool gave_up;                        /* the sender has said why */
    bool old_hello;                      /* one of those was the first that a side heard */
    struct proto_msg heard;              /* whose records are to be appended */
    uint8_t *body;
    bool calm;                           /* nothing goes wrong any more */
    bool done;
    char *why;
    size_t cap;
    bool failed;
};

static uint64_t rnd(struct world *w)
{
    w->seed ^= w->seed << 13;
    w->seed ^= w->seed >> 7;
    w->seed ^= w->seed << 17;
    return w->seed;
}

static unsigned below(struct world *w, unsigned n) { return (unsigned)(rnd(w) % n); }
static bool one_in(struct world *w, unsigned n) { return !w->calm && below(w, n) == 0; }

static void wrong(struct world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void wrong(struct world *w, const char *fmt, ...)
{
    va_list ap;

    if (w->failed)
        return;
    w->failed = true;
    va_start(ap, fmt);
    vsnprintf(w->why, w->cap, fmt, ap);
    va_end(ap);
}

const char *sync_plant_name(enum sync_plant p)
{
    static const char *const names[] = {
#define X(name) #name,
        SYNC_PLANTS(X)
#undef X
    };

    return names[p];
}

/* ---- disks ---- */

static uint64_t disk_end(const struct disk *d, unsigned n) { return n > 0 ? d->rec[n - 1].end : BEGINS; }

static void append(struct world *w)
{
    struct disk *d = &w->a;
    struct rec *r = &d->rec[d->n];
    uint64_t mix[4];

    if (d->n == MAX_RECORDS)
        return;
    r->lsn = disk_end(d, d->n);
    r->len = REC_MIN + 8 * below(w, 20);
    r->end = r->lsn + frame_span(r->len);
    mix[0] = r->lsn;
    mix[1] = d->n > 0 ? get_u64(d->rec[d->n - 1].hash.b) : 0;
    mix[2] = w->salt++;                  /* what is written again after a loss is something else */
    mix[3] = r->len;
    r->hash = hash128(mix, sizeof mix);
    d->n++;
}

/* The process or the power goes: what was not synced may go with it. */
static void lose(struct world *w, struct disk *d)
{
    if (d->n > d->durable)
        d->n -= below(w, d->n - d->durable + 1);
    d->durable = d->n;                   /* recovery syncs what is left */
}

/* ---- the way between ---- */

static void put(struct world *w, struct wire *x, const struct proto_msg *m)
{
    size_t n;

    if (w->closing)
        return;
    if (x->from == x->to)
        x->from = x->to = 0;
    n = proto_encode(m, x->buf + x->to, WIRE_BYTES - x->to);
    if (n == 0) {
        wrong(w, "message %s does not fit", proto_name(m->type));
        return;
    }
    if (n <= sizeof w->stale && one_in(w, 20)) {
        memcpy(w->stale, x->buf + x->to, n);
        w->stale_len = n;
        w->stale_for_b = x == &w->to_b;
    }
    x->to += n;
}

/* The next whole message, if there is one. What it points to stays until the next call. */
static bool get(struct world *w, struct wire *x, struct proto_msg *m)
{
    struct proto_head h;
    struct err err = { 0 };

    if (x->to - x->from < PROTO_HEAD_BYTES)
        return false;
    if (proto_head_decode(x->buf + x->from, &h, &err) < 0) {
        wrong(w, "a head that was sent does not decode: %s", err.msg);
        return false;
    }
    if (x->to - x->from < PROTO_HEAD_BYTES + h.body)
        return false;
    if (proto_decode(&h, x->buf + x->from + PROTO_HEAD_BYTES, m, &err) < 0) {
        wrong(w, "a message that was sent does not decode: %s", err.msg);
        return false;
    }
    x->from += PROTO_HEAD_BYTES + h.body;
    return true;
}

static void hang_up(struct world *w)
{
    w->up = w->closing = false;
    w->to_a.from = w->to_a.to = w->to_b.from = w->to_b.to = 0;
    w->receive->state = RECEIVE_END;
}

/* ---- the sender and its host ---- */

static uint64_t a_shippable(const struct world *w) { return disk_end(&w->a, w->plant == PLANT_SHIP_UNDURABLE ? w->a.n : w->a.durable); }

static void own_of_a(struct world *w)
{
    struct ship_own *o = &w->own;
    unsigned n = w->a.durable;

    memset(o, 0, sizeof *o);
    o->lineage[0] = 7;
    o->site[0] = 1;
    o->role = ROLE_PRIMARY;
    o->begins = BEGINS;
    o->first = disk_end(&w->a, w->thin < n ? w->thin : 0);
    o->last_lsn = n > 0 ? w->a.rec[n - 1].lsn : 0;
    if (n > 0)
        o->last_hash = w->a.rec[n - 1].hash;
    o->n_epochs = w->n_epochs;
    o->known = w->epochs[w->n_epochs - 1].number;
    o->epochs = w->epochs;
    o->may_make = true;
}

static void look_up(struct world *w)
{
    struct ship *s = &w->ship;
    struct hash128 none = { { 0 } };

    if (w->plant == PLANT_LOOK_UNCHECKED) {
        ship_looked(s, true, &s->look_hash, s->look_end);
        return;
    }
    for (unsigned i = 0; i < w->a.durable; i++)
        if (w->a.rec[i].lsn == s->look_lsn) {
            ship_looked(s, true, &w->a.rec[i].hash, w->a.rec[i].end);
            return;
        }
    ship_looked(s, false, &none, 0);
}

/* The model's record as bytes: its address, its hash, filling. */
static void ship_some(struct world *w)
{
    static uint8_t buf[BATCH * 512];
    struct ship *s = &w->ship;
    struct proto_msg *m = malloc(sizeof *m);
    unsigned first = 0, n = 0, most = 1 + below(w, BATCH);
    uint32_t len = 0;
    uint64_t from = s->sent;

    if (m == NULL)
        abort();
    if (w->plant == PLANT_RESEND && one_in(w, 10))
        from = s->sent = w->b_resumes > BEGINS ? BEGINS : from;
    while (first < w->a.n && w->a.rec[first].lsn < from)
        first++;
    ship_records(s, m);
    while (n < most && first + n < w->a.n && w->a.rec[first + n].end <= s->durable) {
        const struct rec *r = &w->a.rec[first + n];

        memset(buf + len, 0, r->len);
        put_u64(buf + len, r->lsn);
        memcpy(buf + len + 8, r->hash.b, 16);
        put_u32(buf + len + 24, r->len);
        len += r->len;
        n++;
    }
    if (n == 0 || (first < w->a.n && w->a.rec[first].lsn != from)) {
        wrong(w, "no record begins where the sender stands, @%" PRIu64, from);
        free(m);
        return;
    }
    /* (A HELLO of before makes it begin too early; the receiver refuses that at START, and nothing of it counts.) */
    if (from < w->b_resumes && !w->old_hello)
        wrong(w, "records from @%" PRIu64 " are sent again, acknowledged was up to @%" PRIu64, from, w->b_resumes);
    m->u.records = (struct proto_records){ .n = n, .bytes = len, .end = w->a.rec[first + n - 1].end, .p = buf, .len = len };
    put(w, &w->to_b, m);
    ship_sent(s, m->u.records.end);
    if (w->plant == PLANT_SKIP && first + n < w->a.n && below(w, 10) == 0)
        ship_sent(s, w->a.rec[first + n].end);
    w->seen->records += n;
    free(m);
}

/* ---- files: ${n} of them have the records below ${upto}, and are other ones for each ---- */

static uint64_t file_sum(unsigned upto, unsigned i)
{
    uint64_t mix[2] = { upto, i };

    return hash64(mix, sizeof mix) | 1;
}

static void list_files(struct world *w)
{
    struct proto_msg *m = calloc(1, sizeof *m);
    struct proto_list *l = &m->u.list;
    static uint8_t buf[FILES * 128];
    size_t len = 0;

    if (m == NULL)
        abort();
    w->list.upto = w->thin + below(w, w->a.durable - w->thin + 1);
    w->list.n = 1 + below(w, FILES);
    for (unsigned i = 0; i < w->list.n; i++) {
        struct proto_list_file f = { .size = FILE_BYTES };

        snprintf(f.name, sizeof f.name, "packs/%u-%u", w->list.upto, i);
        put_u64(f.hash.b, file_sum(w->list.upto, i));
        len += proto_list_put(buf + len, sizeof buf - len, &f);
    }
    ship_msg(&w->ship, PROTO_LIST, disk_end(&w->a, w->list.upto), m);
    *l = (struct proto_list){ .n = w->list.n, .p = buf, .len = (uint32_t)len, .last_lsn = w->a.rec[w->list.upto - 1].lsn, .last_hash = w->a.rec[w->list.upto - 1].hash,
                              .timezone = "UTC" };
    l->lineage[0] = 7;
    for (uint32_t i = 0; i < w->n_epochs; i++)
        if (w->epochs[i].first_lsn < m->position)
            l->epochs[l->n_epochs++] = w->epochs[i];
    put(w, &w->to_b, m);
    ship_listed(&w->ship);
    free(m);
}

static void send_file(struct world *w)
{
    static uint8_t buf[PART];
    struct proto_msg *m = malloc(sizeof *m);
    uint32_t left = FILE_BYTES - w->list.at;

    if (m == NULL)
        abort();
    if (w->list.k == w->take.n_want || (w->plant == PLANT_ANY_FILES && w->list.at == 0 && one_in(w, 4))) {
        ship_msg(&w->ship, PROTO_RETAINED, disk_end(&w->a, w->list.upto), m);
        m->u.retained = (struct proto_retained){ 8, buf };
        put(w, &w->to_b, m);
        ship_filed(&w->ship, true);
    } else if (w->list.at == 0 && one_in(w, 8)) {
        ship_list_again(&w->ship);           /* it has gone meanwhile */
    } else {
        ship_msg(&w->ship, PROTO_FILE, w->list.at, m);
        m->u.file = (struct proto_file){ w->take.want[w->list.k], left < PART ? left : PART, buf };
        put_u64(buf, file_sum(w->list.upto, m->u.file.index));
        put(w, &w->to_b, m);
        w->list.at += m->u.file.len;
        if (w->list.at == FILE_BYTES) {
            w->list.at = 0;
            w->list.k++;
        }
    }
    free(m);
}

/* The other side has some of them from before. */
static void take_list(struct world *w, const struct proto_msg *m)
{
    struct proto_want want = { .p = w->take.bytes };
    struct proto_list_file f;
    uint64_t keep[FILES] = { 0 };
    uint32_t pos = 0;

    w->take.upto = 0;
    while (disk_end(&w->a, w->take.upto) < m->position)
        w->take.upto++;
    w->take.n = m->u.list.n;
    w->take.n_want = w->take.next = w->take.at = 0;
    for (uint32_t i = 0; proto_list_next(&m->u.list, &pos, &f); i++) {
        bool has = false;

        for (unsigned k = 0; k < FILES; k++)
            has |= w->held[k] == get_u64(f.hash.b);
        if (has)
            keep[i] = get_u64(f.hash.b);
        else
            w->take.want[w->take.n_want++] = i;
    }
    memcpy(w->held, keep, sizeof keep);
    for (unsigned i = 0; i < w->take.n_want; i++)
        proto_want_put(w->take.bytes + PROTO_WANT_BYTES * i, w->take.want[i], 0);
    want.n = w->take.n_want;
    receive_wants(w->receive, &want);
}

static void take_file(struct world *w)
{
    const struct proto_file *f = &w->heard.u.file;
    struct err bad = { ERR_BADREC, "not the next part" };

    if (w->take.next >= w->take.n_want || f->index != w->take.want[w->take.next] || w->heard.position != w->take.at || f->len > FILE_BYTES - w->take.at ||
        get_u64(w->body) != file_sum(w->take.upto, f->index)) {
        receive_fail(w->receive, true, &bad);
        return;
    }
    w->take.at += f->len;
    if (w->take.at == FILE_BYTES) {
        w->held[f->index] = get_u64(w->body);
        w->take.at = 0;
        w->take.next++;
    }
    receive_filed(w->receive);
}

static void own_of_b(struct world *w, struct receive_own *o);

static void install(struct world *w)
{
    struct err bad = { ERR_BADREC, "not all files are here" };
    struct receive_own own;

    for (unsigned i = 0; i < w->take.n; i++)
        if (w->held[i] != file_sum(w->take.upto, i) && w->plant != PLANT_ANY_FILES) {
            receive_fail(w->receive, true, &bad);
            return;
        } else if (w->held[i] != file_sum(w->take.upto, i)) {
            wrong(w, "a standby was made without file %u of %u", i, w->take.n);
        }
    w->made = true;
    memset(w->held, 0, sizeof w->held);
    memset(w->b_site, 2, 16);
    w->b.n = w->b.durable = w->take.upto;
    memcpy(w->b.rec, w->a.rec, w->b.n * sizeof *w->b.rec);
    own_of_b(w, &own);
    receive_made(w->receive, &own);
    w->b_resumes = own.durable;
    w->seen->booted++;
}

static void run_ship(struct world *w)
{
    struct proto_msg *m = malloc(sizeof *m);
    unsigned turns = 1 + below(w, 4);

    if (m == NULL)
        abort();
    while (turns-- > 0 && w->up && !w->failed) {
        if (get(w, &w->to_a, m)) {
            w->seen->ship[w->ship.state][m->type]++;
            if (w->plant != PLANT_DEAF || m->type != PROTO_ACK)
                ship_hear(&w->ship, m);
            if (m->type == PROTO_WANT)
                w->list.k = w->list.at = 0;
        }
        ship_durable(&w->ship, a_shippable(w), disk_end(&w->a, w->a.n));
        switch (ship_due(&w->ship, m)) {
        case SHIP_WAIT: break;
        case SHIP_SEND: put(w, &w->to_b, m); break;
        case SHIP_LIST: list_files(w); break;
        case SHIP_FILE: send_file(w); break;
        case SHIP_LOOK_UP: look_up(w); break;
        case SHIP_DATA: ship_gave(&w->ship); break;      /* (nothing is lacking in this world) */
        case SHIP_TELL: ship_told(&w->ship); break;      /* (no standby here goes back: roles have a world of their own) */
        case SHIP_READ: ship_some(w); break;
        case SHIP_DONE: w->done = true; break;
        case SHIP_FAILED:
            if (w->gave_up)
                break;
            w->gave_up = true;
            if (w->set_back && w->ship.err.code == ERR_DIVERGED) {
                w->set_back = w->made = false;       /* a person has it made anew */
                w->b.n = w->b.durable = 0;
                w->b_promised = 0;
                w->stale_len = 0;                    /* words of that one do not reach this one */
                w->receive->state = RECEIVE_END;
                w->receive->tell = false;
                w->seen->diverged++;
            } else if (!w->old_hello && (w->ship.err.code == ERR_DIVERGED || w->ship.err.code == ERR_FENCED || w->ship.err.code == ERR_AWAY))
                wrong(w, "the sender gave up: %s", w->ship.err.msg);
            w->closing = true;
            break;
        }
    }
    free(m);
}

/* ---- the receiver and its host ---- */

static void own_of_b(struct world *w, struct receive_own *o)
{
    unsigned n;

    memset(o, 0, sizeof *o);
    if (!w->made)
        return;
    if (w->plant != PLANT_HELLO_UNSYNCED)
        w->b.durable = w->b.n;           /* synced before a word is said */
    n = w->b.n;
    o->lineage[0] = 7;
    memcpy(o->site, w->b_site, 16);
    o->role = ROLE_STANDBY;
    o->durable = o->whole = disk_end(&w->b, n);
    o->last_lsn = n > 0 ? w->b.rec[n - 1].lsn : 0;
    if (n > 0)
        o->last_hash = w->b.rec[n - 1].hash;
    /* It knows the epochs whose records it holds, and the first one. */
    for (uint32_t i = 0; i < w->n_epochs; i++)
        if (i == 0 || w->epochs[i].first_lsn < o->durable)
            o->epochs[o->n_epochs++] = w->epochs[i];
    o->known = o->epochs[o->n_epochs - 1].number;
    w->b_promised = w->b_promised > o->durable ? w->b_promised : o->durable;
}

static void append_heard(struct world *w)
{
    const struct proto_records *k = &w->heard.u.records;
    const uint8_t *p = w->body;
    unsigned room = one_in(w, 25) ? below(w, k->n + 1) : k->n;
    struct err full = { ERR_NOSPC, "no space left" }, junk = { ERR_BADREC, "not a valid record" };

    for (unsigned i = 0; i < k->n && i < room; i++) {
        struct rec *r = &w->b.rec[w->b.n];

        if (w->b.n == MAX_RECORDS)
            break;
        r->lsn = get_u64(p);
        if (r->lsn == 0) {               /* no record at all: a log knows */
            receive_fail(w->receive, true, &junk);
            return;
        }
        memcpy(r->hash.b, p + 8, 16);
        r->len = get_u32(p + 24);
        r->end = r->lsn + frame_span(r->len);
        p += r->len;
        w->b.n++;
    }
    if (room < k->n) {
        w->seen->full++;
        if (w->plant == PLANT_FULL_IS_FINE)
            w->receive->append_due = false;
        else if (w->plant == PLANT_WHOLE_MESSAGE)
            receive_appended(w->receive, k->end);
        else
            receive_fail(w->receive, true, &full);
        return;
    }
    receive_appended(w->receive, k->end);
}

static void b_hears(struct world *w, struct proto_msg *m)
{
    struct receive *r = w->receive;

    w->seen->receive[r->state][m->type]++;
    if (w->plant == PLANT_ANY_POSITION && m->type == PROTO_RECORDS)
        m->position = r->received;
    if (w->plant == PLANT_ANY_EPOCH && m->type != PROTO_HELLO) {
        m->epoch = r->epoch;
        memcpy(m->epoch_id, r->epoch_id, 16);
    }
    receive_hear(r, m);
    if (r->list_due && m->type == PROTO_LIST)
        take_list(w, m);
    if (r->append_due || r->file_due) {
        const uint8_t *p = r->append_due ? m->u.records.p : m->u.file.p;
        size_t len = r->append_due ? m->u.records.len : m->u.file.len;

        free(w->body);
        w->body = malloc(len + 8);
        if (w->body == NULL)
            abort();
        memcpy(w->body, p, len);
        w->heard = *m;
    }
}

static void run_receive(struct world *w)
{
    struct proto_msg *m = malloc(sizeof *m);
    struct receive *r = w->receive;
    struct receive_own own;
    unsigned turns = 1 + below(w, 4);

    if (m == NULL)
        abort();
    while (turns-- > 0 && w->up && !w->failed) {
        if (!r->append_due && !r->make_due && !r->file_due && !r->install_due && get(w, &w->to_b, m))
            b_hears(w, m);
        receive_progress(r, disk_end(&w->b, w->plant == PLANT_ACK_UNSYNCED ? w->b.n : w->b.durable), disk_end(&w->b, w->b.n));
        switch (receive_due(r, m)) {
        case RECEIVE_WAIT: break;
        case RECEIVE_SEND:
            if (m->type == PROTO_ACK && m->u.ack.durable > w->b_promised)
                w->b_promised = m->u.ack.durable;
            put(w, &w->to_a, m);
            break;
        case RECEIVE_MAKE_STORE:
            w->made = true;
            memset(w->b_site, 2, 16);
            own_of_b(w, &own);
            receive_made(r, &own);
            w->b_resumes = own.durable;
            break;
        case RECEIVE_LIST: break;
        case RECEIVE_FILE: take_file(w); break;
        case RECEIVE_INSTALL: install(w); break;
        case RECEIVE_DATA: receive_gave(r); break;
        case RECEIVE_SUPPLY: receive_supplied(r); break;
        case RECEIVE_JUDGE: receive_judged(r, true); break;
        case RECEIVE_COMPARE: receive_compared(r, false); break;
        case RECEIVE_PROMISE: receive_promised(r, true); break;
        case RECEIVE_APPEND: append_heard(w); break;
        case RECEIVE_FAILED: w->closing = true; break;
        }
    }
    free(m);
}

/* ---- what happens ---- */

static void connect_both(struct world *w)
{
    struct receive_own own;

    own_of_a(w);
    own_of_b(w, &own);
    ship_init(&w->ship, &w->own, a_shippable(w), disk_end(&w->a, w->a.n), w->calm ? a_shippable(w) : UINT64_MAX);
    receive_init(w->receive, &own);
    w->b_resumes = w->made ? own.durable : BEGINS;
    w->up = true;
    w->done = w->old_hello = w->gave_up = false;
    w->seen->sessions++;
}

/* What was on its way arrives up to some byte; and now and then something of an earlier connection turns up in this one. */
static void cut(struct world *w)
{
    w->to_b.to = w->to_b.from + below(w, (unsigned)(w->to_b.to - w->to_b.from) + 1);
    w->to_a.to = w->to_a.from + below(w, (unsigned)(w->to_a.to - w->to_a.from) + 1);
    w->seen->cuts++;
    w->closing = true;
}

/* A connection that ends: both sides read what is still there, then it is gone. */
static void close_down(struct world *w)
{
    for (int i = 0; i < 8; i++) {
        run_receive(w);
        run_ship(w);
    }
    hang_up(w);
}

static void stray(struct world *w)
{
    struct wire *x = w->stale_for_b ? &w->to_b : &w->to_a;

    if (w->stale_len == 0 || x->to + w->stale_len > WIRE_BYTES || x->from != x->to)
        return;                          /* between two messages, never inside one */
    x->from = 0;
    memcpy(x->buf, w->stale, w->stale_len);
    x->to = w->stale_len;
    w->old_hello |= x->buf[4] == PROTO_HELLO && (w->stale_for_b ? w->receive->state == RECEIVE_HELLO : w->ship.state <= SHIP_MADE);
    w->stale_len = 0;
}

/* A message of any kind with nothing but its form right: no state may be moved by it where it has no place. */
static void nonsense(struct world *w)
{
    struct proto_msg *m = calloc(1, sizeof *m);
    bool for_b = below(w, 2);
    static uint8_t junk[REC_MIN], file[128];

    if (m == NULL)
        abort();
    m->type = (uint16_t)(1 + below(w, PROTO_RETAINED));
    m->epoch = w->epochs[w->n_epochs - 1].number + below(w, 2);
    memcpy(m->epoch_id, w->epochs[w->n_epochs - 1].id, 16);
    m->position = below(w, 2) ? BEGINS + 8 * (uint64_t)below(w, 64) : w->receive->received;
    switch (m->type) {
    case PROTO_HELLO:
        m->u.hello = (struct proto_hello){ .lowest = 1 + below(w, 3), .highest = 3, .part = 1 + below(w, 2), .role = 1 + below(w, 2), .n_epochs = 1, .known = 1 + below(w, 3) };
        m->u.hello.lineage[0] = m->u.hello.epochs[0].lineage[0] = (uint8_t)(7 + below(w, 2));
        m->u.hello.site[0] = m->u.hello.epochs[0].site[0] = 9;
        m->u.hello.epochs[0].id[0] = 5;
        m->u.hello.epochs[0].number = 1;
        m->u.hello.epochs[0].first_lsn = BEGINS;
        m->u.hello.lowest = m->u.hello.lowest > 2 ? 2 : m->u.hello.lowest;
        break;
    case PROTO_REFUSE: m->u.refuse = (struct proto_refuse){ .code = ERR_BUSY, .text = "not now" }; break;
    case PROTO_MAKE:
        m->u.make.lineage[0] = 7;
        m->u.make.epoch = w->epochs[0];
        break;
    case PROTO_RECORDS: m->u.records = (struct proto_records){ .n = 1, .bytes = REC_MIN, .end = m->position + 176, .p = junk, .len = REC_MIN }; break;
    case PROTO_ACK: m->u.ack = (struct proto_ack){ .durable = m->position, .applied = m->position }; break;
    case PROTO_WANT: m->u.want = (struct proto_want){ .n = 1, .p = junk }; break;
    case PROTO_FILE: m->u.file = (struct proto_file){ .index = below(w, 3), .len = REC_MIN, .p = junk }; break;
    case PROTO_RETAINED: m->u.retained = (struct proto_retained){ .len = 8, .p = junk }; break;
    case PROTO_LIST:
        m->u.list = (struct proto_list){ .last_lsn = BEGINS, .n_epochs = 1, .n = 1, .p = file, .timezone = "UTC" };
        m->u.list.lineage[0] = 7;
        m->u.list.epochs[0] = w->epochs[0];
        m->u.list.len = (uint32_t)proto_list_put(file, sizeof file, &(struct proto_list_file){ .name = "packs/1-0", .size = 1 });
        m->position = BEGINS + 800;
        break;
    case PROTO_BEAT: m->u.beat = (struct proto_beat){ .number = 1 + below(w, 9), .head = m->position }; break;
    default: break;
    }
    struct wire *x = for_b ? &w->to_b : &w->to_a;
    bool other = m->epoch != w->epochs[w->n_epochs - 1].number;      /* of a primary that is none any more */
    if (other) {                         /* ... and a record of its time line */
        put_u64(junk, m->position);
        put_u32(junk + 24, REC_MIN);
    } else {
        memset(junk, 0, sizeof junk);
    }
    /* RECORDS of nobody would be appended where they fit: who may write there is not for a machine to tell. A HELLO that fits is the same. */
    bool fits = (m->type == PROTO_RECORDS && for_b && w->receive->state == RECEIVE_STREAM) ||
                (m->type == PROTO_HELLO && for_b && w->receive->state == RECEIVE_HELLO) ||
                (m->type == PROTO_HELLO && !for_b && (w->ship.state == SHIP_HELLO || w->ship.state == SHIP_MADE)) ||
                (m->type == PROTO_MAKE && for_b && w->receive->state == RECEIVE_MAKE) ||
                (m->type == PROTO_LIST && for_b && (w->receive->state == RECEIVE_MAKE || w->receive->state == RECEIVE_FILES)) ||
                ((m->type == PROTO_FILE || m->type == PROTO_RETAINED) && for_b && w->receive->state == RECEIVE_FILES) ||
                (m->type == PROTO_WANT && !for_b && w->ship.state == SHIP_LISTED) || (m->type == PROTO_ACK && !for_b && w->ship.state == SHIP_STREAM);
    if (x->from == x->to && (!fits || (other && m->type == PROTO_RECORDS)))
        put(w, x, m);
    free(m);
}

/* Another epoch of the same primary: a copy that was told so, a promotion to and fro. */
static void next_epoch(struct world *w)
{
    struct epoch_row *e = &w->epochs[w->n_epochs];

    if (w->n_epochs == 8 || w->a.durable != w->a.n || w->up)
        return;
    *e = (struct epoch_row){ .number = w->n_epochs + 1, .first_lsn = disk_end(&w->a, w->a.n) };
    e->site[0] = 1;
    e->lineage[0] = 7;
    e->id[0] = (uint8_t)(w->n_epochs + 1);
    w->n_epochs++;
    append(w);
    w->a.durable = w->a.n;
}

/* The machine of the primary is set back to an image of before, and goes on from there as if nothing were. */
static void set_back(struct world *w)
{
    unsigned n = 1 + below(w, w->a.n);

    if (w->up || w->n_epochs > 1 || !w->made || w->b.n < 3 || n >= w->b.n)
        return;
    w->a.n = n;
    w->thin = 0;                         /* the image had it all */
    for (unsigned i = below(w, 20); i > 0; i--)
        append(w);
    w->a.durable = w->a.n;
    w->set_back = true;
}

static void event(struct world *w)
{
    struct receive_own own;

    if (below(w, 3) == 0)
        append(w);
    if (below(w, 6) == 0)
        w->a.durable = w->a.n;
    if (below(w, 6) == 0 && w->made)
        w->b.durable = w->b.n;
    if (!w->up && below(w, 4) == 0)
        connect_both(w);
    if (w->up && one_in(w, 60))
        cut(w);
    if (w->up && one_in(w, 60))
        stray(w);
    if (w->up && one_in(w, 40))
        nonsense(w);
    if (!w->up && w->a.durable > 4 && !w->made && !w->set_back && one_in(w, 30))
        w->thin = 1 + below(w, w->a.durable - 1);
    if (one_in(w, 200))
        next_epoch(w);
    if (one_in(w, 400))
        set_back(w);
    if (one_in(w, 150)) {                /* the primary goes */
        if (w->up)
            hang_up(w);
        lose(w, &w->a);
        w->seen->kills++;
    }
    if (one_in(w, 150)) {                /* the standby goes */
        if (w->up)
            hang_up(w);
        lose(w, &w->b);
        own_of_b(w, &own);
        w->seen->kills++;
    }
    w->now_ms += one_in(w, 100) ? 3600000 : below(w, 400);
    if (w->plant == PLANT_IMPATIENT && w->up && w->ship.clocked && w->now_ms - w->ship.now_ms > SYNC_SILENT_MS)
        w->ship.silent_ms = SYNC_SILENT_MS;
    if (w->up) {
        ship_tick(&w->ship, w->now_ms, (int64_t)rnd(w));
        receive_tick(w->receive, w->now_ms);
    }
}

static void check(struct world *w)
{
    if (w->set_back) {                   /* the standby stays as it is */
        if (disk_end(&w->b, w->b.n) < w->b_promised)
            wrong(w, "the standby lost what it had when the primary was set back");
        for (unsigned i = 1; i < w->b.n && !w->failed; i++)
            if (w->b.rec[i].lsn != w->b.rec[i - 1].end)
                wrong(w, "record %u of the standby does not follow the one before", i);
        return;
    }
    if (w->b.n > w->a.durable && w->plant != PLANT_SHIP_UNDURABLE)
        wrong(w, "the standby holds %u records, the primary has %u durable", w->b.n, w->a.durable);
    for (unsigned i = w->b.n > 64 && !w->calm ? w->b.n - 64 : 0; i < w->b.n && !w->failed; i++)
        if (i >= w->a.n || w->b.rec[i].lsn != w->a.rec[i].lsn || !hash128_eq(&w->b.rec[i].hash, &w->a.rec[i].hash))
            wrong(w, "record %u of the standby, @%" PRIu64 ", is not the primary's", i, w->b.rec[i].lsn);
    if (disk_end(&w->b, w->b.n) < w->b_promised)
        wrong(w, "the standby holds up to @%" PRIu64 " and had acknowledged @%" PRIu64 " as durable", disk_end(&w->b, w->b.n), w->b_promised);
    if (w->up && !w->gave_up && w->ship.acked > w->b_promised)
        wrong(w, "the sender believes @%" PRIu64 " durable at the standby, which said @%" PRIu64, w->ship.acked, w->b_promised);
}

/* All is well from here on: the standby gets everything, and the sender hears so. */
static void settle(struct world *w)
{
    w->calm = true;
    if (w->up)
        hang_up(w);
    lose(w, &w->a);
    lose(w, &w->b);
    if (w->set_back) {
        w->set_back = w->made = false;
        w->b.n = w->b.durable = 0;
        w->b_promised = 0;
    }
    connect_both(w);
    for (unsigned i = 0; i < 20000 && !w->done && !w->failed; i++) {
        if (w->closing)
            wrong(w, "with nothing in the way the stream ended: %s / %s", w->ship.err.msg, w->receive->err.msg);
        run_ship(w);
        run_receive(w);
        w->b.durable = w->b.n;
        w->now_ms += 10;
        ship_tick(&w->ship, w->now_ms, 0);
        receive_tick(w->receive, w->now_ms);
        check(w);
    }
    if (!w->failed && (!w->done || w->b.n != w->a.n))
        wrong(w, "at the end the standby holds %u of %u records%s", w->b.n, w->a.n, w->done ? "" : ", and the sender does not hear of it");
}

bool syncworld_run(uint64_t seed, unsigned steps, enum sync_plant plant, struct sync_seen *seen, char *why, size_t cap)
{
    struct world *w = calloc(1, sizeof *w);
    bool ok;

    if (w == NULL || (w->receive = calloc(1, sizeof *w->receive)) == NULL)
        abort();
    w->seed = seed * 0x9e3779b97f4a7c15ull + 1;
    w->plant = plant;
    w->seen = seen;
    w->why = why;
    w->cap = cap;
    for (int i = 0; i < 8; i++)
        (void)rnd(w);
    w->epochs[0] = (struct epoch_row){ .number = 1, .first_lsn = BEGINS };
    w->epochs[0].site[0] = w->epochs[0].id[0] = 1;
    w->epochs[0].lineage[0] = 7;
    w->n_epochs = 1;
    w->receive->state = RECEIVE_END;
    append(w);
    w->a.durable = 1;
    if (below(w, 3) == 0) {
        for (unsigned i = 0; i < 12; i++)
            append(w);
        w->a.durable = w->a.n;
        w->thin = 1 + below(w, 8);
    }
    for (unsigned i = 0; i < steps && !w->failed; i++) {
        event(w);
        if (w->up && below(w, 2))
            run_ship(w);
        if (w->up && below(w, 2))
            run_receive(w);
        if (w->closing)
            close_down(w);
        check(w);
        seen->steps++;
        if (w->failed) {
            size_t n = strlen(why);
            snprintf(why + n, cap - n, " (seed %" PRIu64 ", step %u)", seed, i);
        }
    }
    if (!w->failed)
        settle(w);
    ok = !w->failed;
    free(w->body);
    free(w->receive);
    free(w);
    return ok;
}
