/* roleworld_line.c: conversations between sites: the machines of store/sync, driven as link_ship.c and link_receive.c drive them. */
#include "tests/lib/roleworld_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- the way between ---- */

static void put(struct world *w, struct wire *x, const struct proto_msg *m)
{
    size_t n;

    if (x->eof)
        return;                          /* cut */
    if (x->from > 0) {                   /* what was heard last is done with by now */
        memmove(x->buf, x->buf + x->from, x->to - x->from);
        x->to -= x->from;
        x->there -= x->from;
        x->from = 0;
    }
    n = proto_encode(m, x->buf + x->to, WIRE_BYTES - x->to);
    if (n == 0)
        rw_wrong(w, "message %s does not fit", proto_name(m->type));
    x->to += n;
}

static bool get(struct world *w, struct wire *x, struct proto_msg *m)
{
    struct proto_head h;
    struct err err = { 0 };

    if (x->there - x->from < PROTO_HEAD_BYTES)
        return false;
    if (proto_head_decode(x->buf + x->from, &h, &err) < 0) {
        rw_wrong(w, "a head that was sent does not decode: %s", err.msg);
        return false;
    }
    if (x->there - x->from < PROTO_HEAD_BYTES + h.body)
        return false;
    if (proto_decode(&h, x->buf + x->from + PROTO_HEAD_BYTES, m, &err) < 0) {
        rw_wrong(w, "a message that was sent does not decode: %s", err.msg);
        return false;
    }
    x->from += PROTO_HEAD_BYTES + h.body;
    return true;
}

static void deliver(struct world *w, struct wire *x, bool blocked)
{
    if (blocked || x->there == x->to)
        return;
    if (w->calm || rw_below(w, 4))
        x->there = x->to;
    else
        x->there += rw_below(w, (unsigned)(x->to - x->there) + 1);
}

/* Nothing more comes: what is on its way arrives up to some byte. */
static void cut_wire(struct world *w, struct wire *x)
{
    if (x->eof)
        return;
    x->to = x->there + rw_below(w, (unsigned)(x->to - x->there) + 1);
    x->eof = true;
}

static bool is_over(const struct wire *x) { return x->eof && x->there == x->to; }

void rw_cut(struct world *w, struct line *l)
{
    cut_wire(w, &l->to_a);
    cut_wire(w, &l->to_b);
    l->clean = false;
    w->seen->cuts++;
}

void rw_give_up(struct world *w, struct line *l)
{
    const struct err why = { ERR_IO, "a disk that does not answer" };

    l->clean = false;
    if (l->ship_live && rw_below(w, 2))
        ship_fail(&l->ship, true, &why);
    else if (l->receive_live)
        receive_fail(&l->receive, true, &why);
}

void rw_down(struct world *w, int i)
{
    for (int k = 0; k < LINES_MAX; k++) {
        struct line *l = &w->line[k];

        if (!l->used || (l->from != i && l->to != i))
            continue;
        l->clean = false;
        if (l->from == i) {
            l->ship_live = false;
            cut_wire(w, &l->to_b);
        }
        if (l->to == i) {
            l->receive_live = false;
            cut_wire(w, &l->to_a);
        }
    }
}

/* ---- the sender and its host ---- */

static void own_of_sender(struct world *w, struct line *l)
{
    const struct disk *d = &w->site[l->from].d;
    struct ship_own *o = &l->own;

    memset(o, 0, sizeof *o);
    memcpy(l->rows, d->rows, sizeof l->rows);
    o->lineage[0] = d->lineage;
    memcpy(o->site, d->site, 16);
    o->role = d->role;
    o->begins = o->first = BEGINS;
    o->n_epochs = d->role == ROLE_PRIMARY ? d->n_rows : epoch_held(d->rows, d->n_rows, rw_end(d, d->durable));
    o->epochs = l->rows;
    o->known = rw_heard_of(d);
    rw_lease_of(w, l->from, &o->lease);
    o->may_make = w->calm || rw_below(w, 8) != 0;
}

static void look_up(struct world *w, struct line *l)
{
    const struct disk *d = &w->site[l->from].d;
    const struct hash128 none = { { 0 } };
    unsigned k = rw_index(d, l->ship.look_lsn);

    if (k < d->n && d->rec[k].lsn == l->ship.look_lsn)
        ship_looked(&l->ship, true, &d->rec[k].hash, d->rec[k].end);
    else
        ship_looked(&l->ship, false, &none, 0);
}

static void tell(struct world *w, struct line *l)
{
    const struct disk *d = &w->site[l->from].d;
    unsigned k = rw_index(d, l->ship.ask_at);
    struct proto_msg *m = &w->out;

    ship_msg(&l->ship, PROTO_TELL, l->ship.ask_at, m);
    m->u.tell = (struct proto_tell){ 0 };
    if (k > 0)
        m->u.tell = (struct proto_tell){ d->rec[k - 1].lsn, d->rec[k - 1].end, d->rec[k - 1].hash };
    put(w, &l->to_b, m);
    ship_told(&l->ship);
}

static void ship_some(struct world *w, struct line *l)
{
    static uint8_t buf[BATCH * 512];
    const struct disk *d = &w->site[l->from].d;
    struct ship *s = &l->ship;
    unsigned first = rw_index(d, s->sent), n = 0, most = 1 + rw_below(w, BATCH);
    uint32_t len = 0;

    if (rw_end(d, first) != s->sent) {
        rw_wrong(w, "site %d: no record begins where it stands as a sender, @%" PRIu64, l->from, s->sent);
        return;
    }
    for (; n < most && first + n < d->n && d->rec[first + n].end <= s->durable; n++) {
        rw_put_record(d, first + n, buf + len);
        len += d->rec[first + n].len;
    }
    ship_records(s, &w->out);
    w->out.u.records = (struct proto_records){ .n = n, .bytes = len, .end = d->rec[first + n - 1].end, .p = buf, .len = len };
    put(w, &l->to_b, &w->out);
    ship_sent(s, w->out.u.records.end);
}

static void end_ship(struct world *w, struct line *l)
{
    const struct disk *d = &w->site[l->from].d;
    uint64_t kills = w->seen->kills;

    l->ship_live = false;
    l->to_b.eof = true;
    if (l->ship.fenced)
        rw_fence(w, l->from, &l->ship.fence);
    if (l->a_heard && d->role == ROLE_PRIMARY && d->rows[d->n_rows - 1].number < l->knows_b && w->seen->kills == kills && w->plant != ROLE_PLANT_FENCE_IN_MEMORY)
        rw_wrong(w, "site %d sends to site %d, which knows of epoch %" PRIu32 ", and is primary in epoch %" PRIu32 " still", l->from, l->to, l->knows_b,
                 d->rows[d->n_rows - 1].number);
}

static void run_ship(struct world *w, struct line *l)
{
    const struct disk *d = &w->site[l->from].d;
    unsigned turns = 1 + rw_below(w, 4);
    const struct err away = { ERR_AWAY, "the standby went away in the middle of the stream" };
    struct ship *s = &l->ship;

    while (turns-- > 0 && l->ship_live && !w->failed) {
        ship_durable(s, rw_end(d, d->durable), rw_end(d, d->n));
        if (l->to_b.to - l->to_b.from > WIRE_ENOUGH && s->state != SHIP_END)
            return;
        switch (ship_due(s, &w->out)) {
        case SHIP_WAIT: break;
        case SHIP_SEND: put(w, &l->to_b, &w->out); break;
        case SHIP_LOOK_UP: look_up(w, l); break;
        case SHIP_TELL: tell(w, l); break;
        case SHIP_READ: ship_some(w, l); break;
        case SHIP_DONE: l->done = true; end_ship(w, l); return;
        case SHIP_FAILED: end_ship(w, l); return;
        case SHIP_LIST: case SHIP_FILE: case SHIP_DATA: rw_wrong(w, "files are due, and all records are there"); return;
        }
        if (get(w, &l->to_a, &w->in)) {
            w->seen->ship[d->role][w->in.type]++;
            l->a_heard |= s->state != SHIP_END && w->in.type == PROTO_HELLO && w->in.u.hello.part == PROTO_RECEIVER;
            ship_hear(s, &w->in);
            if (w->in.type == PROTO_ACK)
                rw_lease_renew(w, l);
        } else if (is_over(&l->to_a) && s->state != SHIP_END && s->acked < s->until) {
            ship_fail(s, false, &away);
        }
    }
}

/* ---- the receiver and its host ---- */

static void own_of_receiver(struct world *w, int i, struct receive_own *o)
{
    struct disk *d = &w->site[i].d;

    memset(o, 0, sizeof *o);
    if (d->role == 0)
        return;
    if (d->role == ROLE_STANDBY)
        rw_sync(w, i);
    o->lineage[0] = d->lineage;
    memcpy(o->site, d->site, 16);
    if (w->plant == ROLE_PLANT_COPY_UNNOTICED)
        o->site[1] = (uint8_t)(i + 1);
    o->role = d->role;
    o->durable = rw_end(d, d->durable);
    if (d->durable > 0 && d->role != ROLE_PRIMARY) {
        o->last_lsn = d->rec[d->durable - 1].lsn;
        o->last_hash = d->rec[d->durable - 1].hash;
    }
    o->n_epochs = w->plant == ROLE_PLANT_OLD_SENDER ? 1 : epoch_held(d->rows, d->n_rows, o->durable);
    o->known = w->plant == ROLE_PLANT_OLD_SENDER ? 1 : rw_heard_of(d);
    o->whole = o->durable;
    if (d->role != ROLE_PRIMARY)
        o->lease = d->lease_told;
    memcpy(o->epochs, d->rows, o->n_epochs * sizeof *o->epochs);
    if (d->role == ROLE_STANDBY)
        rw_prove(w, i, d->durable, "acknowledged as durable");
}

static void make_store(struct world *w, struct line *l)
{
    struct disk *d = &w->site[l->to].d;
    struct receive_own own;

    d->role = ROLE_STANDBY;
    memset(d->site, 0, sizeof d->site);
    d->site[0] = (uint8_t)++w->n_sites_made;
    d->lineage = l->receive.make.lineage[0];
    d->rows[0] = l->receive.make.epoch;
    d->n_rows = 1;
    own_of_receiver(w, l->to, &own);
    receive_made(&l->receive, &own);
}

static void compare(struct world *w, struct line *l)
{
    const struct disk *d = &w->site[l->to].d;
    const struct proto_tell *t = &l->receive.told;
    unsigned k = rw_index(d, t->end);
    bool same = t->lsn != 0 && k > 0 && d->rec[k - 1].lsn == t->lsn && d->rec[k - 1].end == t->end;

    receive_compared(&l->receive, same && (w->plant == ROLE_PLANT_COMPARE_ADDRESS || hash128_eq(&d->rec[k - 1].hash, &t->hash)));
}

static void append(struct world *w, struct line *l)
{
    struct err err = { 0 };

    if (!rw_follow(w, l->to, w->in.u.records.p, w->in.u.records.bytes, &err))
        receive_fail(&l->receive, true, &err);
    else
        receive_appended(&l->receive, w->in.u.records.end);
}

static void end_receive(struct world *w, struct line *l)
{
    const struct disk *d = &w->site[l->to].d;
    struct receive *r = &l->receive;
    uint64_t kills = w->seen->kills;

    if (w->site[l->to].mounted && r->err.code == ERR_DIVERGED)
        w->seen->diverged++;
    l->receive_live = false;
    l->to_a.eof = true;
    if (r->fenced)
        rw_fence(w, l->to, &r->fence);
    if (l->b_heard && d->role == ROLE_PRIMARY && d->rows[d->n_rows - 1].number < l->knows_a && w->seen->kills == kills && w->plant != ROLE_PLANT_FENCE_IN_MEMORY)
        rw_wrong(w, "site %d receives from site %d, which knows of epoch %" PRIu32 ", and is primary in epoch %" PRIu32 " still", l->to, l->from, l->knows_a,
                 d->rows[d->n_rows - 1].number);
    if (r->fork.found && w->seen->kills == kills)
        rw_go_back(w, l->to, r, l);
    else if (d->role == ROLE_STANDBY)
        rw_sync(w, l->to);
}

static void do_due(struct world *w, struct line *l)
{
    const struct disk *d = &w->site[l->to].d;
    struct receive *r = &l->receive;

    for (;;) {
        r->hold_ack = l->to_a.to - l->to_a.from > WIRE_ENOUGH;
        switch (receive_due(r, &w->out)) {
        case RECEIVE_WAIT: return;
        case RECEIVE_SEND:
            if (w->out.type == PROTO_ACK)
                rw_prove(w, l->to, rw_index(d, w->out.u.ack.durable), "acknowledged as durable");
            put(w, &l->to_a, &w->out);
            break;
        case RECEIVE_MAKE_STORE: make_store(w, l); break;
        case RECEIVE_COMPARE: compare(w, l); break;
        case RECEIVE_JUDGE: receive_judged(r, true); break;
        case RECEIVE_PROMISE: receive_promised(r, rw_lease_promise(w, l->to, r)); break;
        case RECEIVE_APPEND: append(w, l); break;
        case RECEIVE_FAILED: end_receive(w, l); return;
        case RECEIVE_LIST: case RECEIVE_FILE: case RECEIVE_INSTALL: case RECEIVE_DATA: case RECEIVE_SUPPLY: rw_wrong(w, "files or data came, and none were sent"); return;
        }
    }
}

static void run_receive(struct world *w, struct line *l)
{
    const struct disk *d = &w->site[l->to].d;
    struct receive *r = &l->receive;
    unsigned turns = 1 + rw_below(w, 4);

    do_due(w, l);
    while (turns-- > 0 && l->receive_live && !w->failed) {
        if (d->role != 0)
            receive_progress(r, rw_end(d, w->plant == ROLE_PLANT_ACK_UNSYNCED ? d->n : d->durable), rw_end(d, d->n));
        if (get(w, &l->to_b, &w->in)) {
            w->seen->receive[d->role][w->in.type]++;
            l->b_heard |= r->state == RECEIVE_HELLO && w->in.type == PROTO_HELLO && w->in.u.hello.part == PROTO_SENDER;
            if (w->plant != ROLE_PLANT_SWALLOWED || w->in.type != PROTO_REFUSE || w->in.u.refuse.code != ERR_DIVERGED)
                receive_hear(r, &w->in);
        } else if (is_over(&l->to_b)) {
            end_receive(w, l);
            return;
        }
        do_due(w, l);
    }
}

/* ---- the two of them ---- */

bool rw_connect(struct world *w, int from, int to, bool until_now)
{
    struct disk *a = &w->site[from].d, *b = &w->site[to].d;
    struct line *l = NULL;
    struct receive_own own;
    unsigned k;

    if (from == to || a->role == 0)
        return false;
    for (int i = 0; i < LINES_MAX; i++) {
        if (w->line[i].used && w->line[i].to == to)
            return false;                /* one stream for a standby */
        if (!w->line[i].used)
            l = &w->line[i];
    }
    if (l == NULL)
        return false;
    l->used = l->ship_live = l->receive_live = true;
    l->from = from;
    l->to = to;
    l->a_heard = l->b_heard = l->done = false;
    l->clean = !w->blocked[from][to] && !w->blocked[to][from];
    l->to_a.from = l->to_a.there = l->to_a.to = l->to_b.from = l->to_b.there = l->to_b.to = 0;
    l->to_a.eof = l->to_b.eof = false;
    own_of_sender(w, l);
    own_of_receiver(w, to, &own);
    ship_init(&l->ship, &l->own, rw_end(a, a->durable), rw_end(a, a->n), until_now ? rw_end(a, a->durable) : UINT64_MAX);
    receive_init(&l->receive, &own);
    l->receive.may_go_back = !w->site[to].mounted;
    k = rw_common(a, a->durable, b, b->durable);
    l->parted = b->role != 0 && k < a->durable && k < b->durable;
    l->same_site = b->role != 0 && memcmp(a->site, b->site, 16) == 0;
    l->kin = b->role != 0 && a->lineage != b->lineage;
    l->knows_a = l->kin ? 0 : l->rows[l->own.n_epochs - 1].number;      /* epochs of another lineage are nothing to it */
    l->knows_b = l->kin ? 0 : rw_known(b);
    if (l->parted && memcmp(a->rec[k].id, b->rec[k].id, 16) == 0 && !w->epoch[get_u32(a->rec[k].id)].twice)
        rw_wrong(w, "sites %d and %d hold different records @%" PRIu64 ", both of epoch %" PRIu32, from, to, a->rec[k].lsn, a->rec[k].number);
    w->seen->lines++;
    w->seen->forks += l->parted;
    w->seen->kin += l->kin;
    return true;
}

static bool says_so(int code)
{
    return code == ERR_DIVERGED || code == ERR_FENCED || code == ERR_USAGE || code == ERR_AWAY;
}

static bool says_kin(const struct err *err)
{
    return err->code == ERR_NOSTORE && strstr(err->msg, "forked") != NULL;
}

/* A stream holds at the receiver what the sender holds. */
static void check_stream(struct world *w, const struct line *l)
{
    const struct disk *a = &w->site[l->from].d, *b = &w->site[l->to].d;
    unsigned n = rw_index(b, l->receive.received);

    if (!l->ship_live || !l->receive_live || l->receive.state != RECEIVE_STREAM || b->role == 0)
        return;
    if (memcmp(a->site, b->site, 16) == 0)
        rw_wrong(w, "sites %d and %d say they are one, and a stream runs between them", l->from, l->to);
    if (a->lineage != b->lineage)
        rw_wrong(w, "sites %d and %d are of two lineages, and a stream runs between them", l->from, l->to);
    if (rw_end(b, n) != l->receive.received || n > a->n || (n > 0 && !hash128_eq(&a->rec[n - 1].hash, &b->rec[n - 1].hash)))
        rw_wrong(w, "site %d receives from site %d, and its %u records are not the first of the %u there", l->to, l->from, n, a->n);
}

static void retire(struct world *w, struct line *l)
{
    const struct disk *a = &w->site[l->from].d, *b = &w->site[l->to].d;

    l->used = false;
    w->seen->reported += l->clean && (l->parted || l->same_site || l->kin);
    if (w->trace)
        fprintf(stderr, "%d (role %" PRIu32 ", epoch %" PRIu32 ", %u records) -> %d (role %" PRIu32 ", epoch %" PRIu32 ", %u): %s, %s / %s, %s\n", l->from, a->role, l->knows_a, a->n,
                l->to, b->role, l->knows_b, b->n, ship_state_name(l->ship.state), l->ship.err.msg, receive_state_name(l->receive.state), l->receive.err.msg);
    if (l->clean && l->kin && !(says_kin(&l->ship.err) && says_kin(&l->receive.err)))
        rw_wrong(w, "sites %d and %d are a store and a fork of it, and the conversation ended with: %s / %s", l->from, l->to, l->ship.err.code == 0 ? "nothing" : l->ship.err.msg,
                 l->receive.err.code == 0 ? "nothing" : l->receive.err.msg);
    if (l->clean && !l->kin && (l->parted || l->same_site) && !(says_so(l->ship.err.code) && says_so(l->receive.err.code)))
        rw_wrong(w, "sites %d and %d %s, and the conversation ended with: %s / %s", l->from, l->to, l->parted ? "have parted" : "are one",
                 l->ship.err.code == 0 ? "nothing" : l->ship.err.msg, l->receive.err.code == 0 ? "nothing" : l->receive.err.msg);
}

void rw_run(struct world *w, struct line *l)
{
    bool ab = w->blocked[l->from][l->to], ba = w->blocked[l->to][l->from];

    l->clean &= !ab && !ba;
    deliver(w, &l->to_b, ab);
    deliver(w, &l->to_a, ba);
    if (l->ship_live && !rw_frozen(w, l->from)) {
        ship_tick(&l->ship, rw_clock(w, l->from), (int64_t)rw_rnd(w));
        rw_lease_of(w, l->from, &l->own.lease);
        if (w->calm || rw_below(w, 3))
            run_ship(w, l);
    }
    if (l->receive_live && !rw_frozen(w, l->to)) {
        receive_tick(&l->receive, rw_clock(w, l->to));
        if (w->calm || rw_below(w, 3))
            run_receive(w, l);
    }
    if (!w->failed)
        check_stream(w, l);
    if (!l->ship_live && !l->receive_live && !w->failed)
        retire(w, l);
}
