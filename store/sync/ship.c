/* ship.c: see ship.h. */
#include "store/sync/ship.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct epoch_row *newest(const struct ship *s)
{
    return &s->own->epochs[s->own->n_epochs - 1];
}

const char *ship_state_name(enum ship_state st)
{
    static const char *const names[] = {
#define X(name) #name,
        SHIP_STATES(X)
#undef X
    };

    return st < SHIP_N_STATES ? names[st] : "?";
}

void ship_init(struct ship *s, const struct ship_own *own, uint64_t durable, uint64_t head, uint64_t until)
{
    memset(s, 0, sizeof *s);
    s->own = own;
    s->durable = durable;
    s->head = head;
    s->until = until;
    s->say_hello = true;
}

/* Ends the stream; the first reason counts. ${tell}: the other side has not heard of it. */
static void end(struct ship *s, bool tell, int code, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
static void end(struct ship *s, bool tell, int code, const char *fmt, ...)
{
    va_list ap;

    if (s->state == SHIP_END)
        return;
    s->state = SHIP_END;
    s->tell = tell;
    s->err.code = code;
    va_start(ap, fmt);
    vsnprintf(s->err.msg, sizeof s->err.msg, fmt, ap);
    va_end(ap);
}

void ship_fail(struct ship *s, bool tell, const struct err *err)
{
    end(s, tell, err->code != 0 ? err->code : ERR_UNKNOWN, "%s", err->msg[0] != '\0' ? err->msg : err_text(err->code));
}

/* ---- the first words ---- */

/* Whoever is above is primary, whatever else is wrong; by its own records, or by what it heard of. */
static void look_for_fence(struct ship *s, const struct proto_hello *h)
{
    const struct epoch_row *e = h->role != 0 ? &h->epochs[h->n_epochs - 1] : NULL;

    if (e == NULL || memcmp(h->lineage, s->own->lineage, 16) != 0 || h->known <= newest(s)->number)
        return;
    s->fenced = true;
    s->fence = *e;
    if (e->number < h->known) {
        memset(&s->fence, 0, sizeof s->fence);
        s->fence.number = h->known;
        memcpy(s->fence.site, h->site, 16);      /* who said so */
        s->fence.first_lsn = e->first_lsn;
    }
}

/* What the other side is, whether or not it has a store. */
static bool peer_fits(struct ship *s, const struct proto_hello *h)
{
    char kin[EPOCH_KIN_MAX];

    look_for_fence(s, h);
    if (h->lowest > PROTO_HIGHEST || h->highest < PROTO_LOWEST) {
        end(s, true, ERR_PEERVER, "the standby speaks protocol %" PRIu32 " to %" PRIu32 ", this side %d to %d; bring the older one up to date",
            h->lowest, h->highest, PROTO_LOWEST, PROTO_HIGHEST);
    } else if (h->part != PROTO_RECEIVER) {
        end(s, true, ERR_USAGE, "expected a side that receives, found another that sends");
    } else if (h->role == 0) {
        return true;
    } else if (memcmp(h->lineage, s->own->lineage, 16) != 0) {
        end(s, true, ERR_NOSTORE, "expected a standby of this store (lineage %02x%02x%02x%02x...), found a store of another lineage (%02x%02x%02x%02x...)%s; name the right one, or an "
            "empty place", s->own->lineage[0], s->own->lineage[1], s->own->lineage[2], s->own->lineage[3], h->lineage[0], h->lineage[1], h->lineage[2], h->lineage[3],
            epoch_kin(s->own->epochs, s->own->n_epochs, s->own->lineage, h->epochs, h->n_epochs, h->lineage, kin, sizeof kin));
    } else if (memcmp(h->site, s->own->site, 16) == 0) {
        end(s, true, ERR_USAGE, "expected a standby, found this store itself, or a copy of it that was not told so (mount it with --copied)");
    } else if (h->role == ROLE_FENCED) {
        end(s, true, ERR_FENCED, "expected a standby, found a primary of before (epoch %" PRIu32 ", here %" PRIu32 "), which has stopped; once it shall follow, `spare "
            "demote` there: what it has that nobody else has is kept", h->epochs[h->n_epochs - 1].number, newest(s)->number);
    } else if (h->role == ROLE_PRIMARY) {
        end(s, true, ERR_FENCED, "expected a standby, found a store that is itself writable (epoch %" PRIu32 ", here %" PRIu32 ")%s", h->epochs[h->n_epochs - 1].number,
            newest(s)->number, h->known < s->own->known ? "; it takes no writes from now on. Once it shall follow, `spare demote` there: what it has that nobody else has is kept" : "");
    } else {
        return true;
    }
    return false;
}

/* What it holds is ours: from here on it counts. */
static void agree(struct ship *s)
{
    s->received = s->sent = s->look_end;
    s->acked = s->whole;
    s->state = SHIP_STREAM;
    s->say_start = true;
    s->beat_ms = s->own->lease.ms > 0 ? SYNC_BEAT_MS : s->beat_ms;       /* at once */
}

/* It goes back to where both part, and says who it is anew; a side that is not above may not ask that of anybody. */
static bool may_part(const struct ship *s, const struct proto_hello *h)
{
    return newest(s)->number > h->epochs[h->n_epochs - 1].number;
}

/* The store there holds what is not ours. */
static void apart(struct ship *s, const struct proto_hello *h, uint64_t fork)
{
    if (s->fenced)
        end(s, true, ERR_FENCED, "the standby follows another primary, of epoch %" PRIu32 "; this store is of epoch %" PRIu32
            ". They part at @%" PRIu64 " at the latest", s->fence.number, newest(s)->number, fork);
    else if (may_part(s, h) && fork > 0)
        s->state = SHIP_FORK;
    else
        end(s, true, ERR_DIVERGED, "the standby holds records up to @%" PRIu64 " that are not this store's, which ends @%" PRIu64
            "; they part at @%" PRIu64 " at the latest", h->durable, s->durable, fork);
}

/* The store there knows our history, or a beginning of it. */
static void meet(struct ship *s, const struct proto_hello *h)
{
    uint64_t fork = epoch_fork(s->own->epochs, s->own->n_epochs, s->durable, h->epochs, h->n_epochs, h->durable);

    memcpy(s->peer_site, h->site, 16);
    if (h->durable > fork || epoch_common(s->own->epochs, s->own->n_epochs, h->epochs, h->n_epochs) < h->n_epochs) {
        apart(s, h, fork);
        return;
    }
    s->may_part = may_part(s, h);
    s->look_end = h->durable;
    s->whole = h->whole;
    if (h->durable < s->own->first) {    /* what it lacks is not all there any more: it takes files, as a new one does */
        s->state = SHIP_LISTED;
        s->say_list = true;
    } else if (h->last_lsn == 0) {
        if (h->durable != s->own->begins) {
            end(s, true, ERR_BADREC, "the standby holds nothing, and says it ends @%" PRIu64, h->durable);
            return;
        }
        agree(s);
    } else {
        s->state = SHIP_LOOK;
        s->look_lsn = h->last_lsn;
        s->look_hash = h->last_hash;
    }
}

static void hear_hello(struct ship *s, const struct proto_hello *h)
{
    look_for_fence(s, h);
    if (!peer_fits(s, h))
        return;
    if (s->fenced) {
        apart(s, h, epoch_fork(s->own->epochs, s->own->n_epochs, s->durable, h->epochs, h->n_epochs, h->durable));
    } else if (h->role != 0) {
        meet(s, h);
    } else if (s->state == SHIP_MADE) {
        end(s, true, ERR_BADREC, "expected the standby that was made, found none");
    } else if (!s->own->may_make) {
        end(s, true, ERR_AWAY, "expected a standby, found nothing there; it was there before: bring it back, or remove it from the list of standbys and "
            "add it anew");
    } else if (s->own->first != s->own->begins) {
        s->state = SHIP_LISTED;
        s->say_list = true;
    } else {
        s->state = SHIP_MADE;
        s->say_make = true;
    }
}

void ship_listed(struct ship *s)
{
    s->say_list = false;
}

void ship_list_again(struct ship *s)
{
    if (s->state != SHIP_FILES)
        return;
    s->state = SHIP_LISTED;
    s->say_list = true;
}

void ship_filed(struct ship *s, bool last)
{
    if (s->state != SHIP_FILES || !last)
        return;
    s->state = SHIP_MADE;
    s->booted = true;
}

void ship_looked(struct ship *s, bool held, const struct hash128 *hash, uint64_t end_addr)
{
    if (s->state != SHIP_LOOK)
        return;
    if ((!held || !hash128_eq(hash, &s->look_hash) || end_addr != s->look_end) && s->may_part) {
        s->state = SHIP_FORK;            /* what is here instead of it: from there it goes on asking */
        s->ask_at = s->look_end;
        s->say_told = true;
    } else if (!held || !hash128_eq(hash, &s->look_hash) || end_addr != s->look_end) {
        end(s, true, ERR_DIVERGED, "the standby's last record @%" PRIu64 " is not this store's record there; they have gone different ways before "
            "that, without a new epoch", s->look_lsn);
    } else {
        agree(s);
    }
}

/* ---- the stream ---- */

static bool same_lease(const struct lease *a, const struct lease *b)
{
    return a->ms == b->ms && memcmp(a->site, b->site, 16) == 0;
}

/* What it acknowledges is a BEAT: from when that was sent the lease counts that was in it, if it is of this standby. */
static void renew(struct ship *s, uint64_t beat)
{
    const struct lease *l = &s->beats[beat % SHIP_BEATS].lease;
    uint64_t until = s->beats[beat % SHIP_BEATS].sent_ms + l->ms;

    if (beat == 0 || s->beats[beat % SHIP_BEATS].number != beat || s->own->role != ROLE_PRIMARY)
        return;
    if (l->ms > 0 && memcmp(l->site, s->peer_site, 16) == 0 && until > s->lease_ms)
        s->lease_ms = until;
}

static void hear_ack(struct ship *s, uint64_t position, const struct proto_ack *a)
{
    if (position > s->sent || position < s->received || a->durable < s->acked) {
        end(s, true, ERR_BADREC, "the standby acknowledged @%" PRIu64 ", durable @%" PRIu64 "; sent was up to @%" PRIu64 ", acknowledged @%" PRIu64
            ", durable @%" PRIu64 " before", position, a->durable, s->sent, s->received, s->acked);
        return;
    }
    if (a->durable > s->acked || position > s->received)
        s->stall_ms = 0;
    s->received = position;
    s->acked = a->durable;
    if (a->applied > s->applied)
        s->applied = a->applied;
    renew(s, a->beat);
}

static void hear_ask(struct ship *s, uint64_t position)
{
    s->ask_at = position;
    s->say_told = true;
}

void ship_fetch(struct ship *s, const struct proto_fetch *f)
{
    if (s->state != SHIP_STREAM || s->fetching)
        return;
    s->fetch = *f;
    s->fetching = s->say_fetch = true;
}

void ship_recall(struct ship *s, uint64_t from, uint64_t until)
{
    if (s->state != SHIP_STREAM || s->fetching)
        return;
    s->recall_from = from;
    s->recall_until = until;
    s->fetching = s->say_fetch = true;
}

void ship_supplied(struct ship *s)
{
    s->fetching = s->supply_due = false;
    s->recall_from = s->recall_until = 0;
}

static void hear_data(struct ship *s, const struct proto_msg *m)
{
    if (m->type == PROTO_HEADS ? s->recall_until > 0 && m->position == s->recall_from : s->recall_until == 0 && proto_answers(&s->fetch, &m->u.data))
        s->supply_due = true;
    else
        end(s, true, ERR_BADREC, "message %s: expected what was asked for, found something else", proto_name(m->type));
}

void ship_gave(struct ship *s)
{
    s->say_data = false;
}

void ship_told(struct ship *s)
{
    s->say_told = false;
}

static bool of_our_epoch(struct ship *s, const struct proto_msg *m)
{
    if (m->type == PROTO_HELLO || m->type == PROTO_REFUSE ||
        (m->epoch == newest(s)->number && memcmp(m->epoch_id, newest(s)->id, 16) == 0))
        return true;
    end(s, true, ERR_BADREC, "message %s: expected epoch %" PRIu32 ", found %" PRIu32, proto_name(m->type), newest(s)->number, m->epoch);
    return false;
}

void ship_hear(struct ship *s, const struct proto_msg *m)
{
    if (s->state == SHIP_END)
        return;
    s->silent_ms = 0;
    if (m->type == PROTO_REFUSE)
        end(s, false, m->u.refuse.code, "%s", m->u.refuse.text);
    else if (!of_our_epoch(s, m))
        return;
    else if ((m->type == PROTO_DATA || m->type == PROTO_HEADS) && s->state == SHIP_STREAM && s->fetching && !s->say_fetch && !s->supply_due)
        hear_data(s, m);
    else if ((m->type == PROTO_FETCH || m->type == PROTO_RECALL) && s->state == SHIP_STREAM && !s->say_data)
        s->say_data = true;
    else if (m->type == PROTO_BOOT && s->state == SHIP_FORK && !s->say_told) {
        s->state = SHIP_LISTED;          /* it cannot go back to there */
        s->say_list = true;
    } else if (m->type == PROTO_ASK && s->state == SHIP_FORK && !s->say_told)
        hear_ask(s, m->position);
    else if (m->type == PROTO_HELLO && (s->state == SHIP_HELLO || s->state == SHIP_MADE) && !s->say_hello)
        hear_hello(s, &m->u.hello);
    else if (m->type == PROTO_ACK && s->state == SHIP_STREAM)
        hear_ack(s, m->position, &m->u.ack);
    else if (m->type == PROTO_ACK && (s->state == SHIP_LISTED || s->state == SHIP_FILES || (s->state == SHIP_MADE && s->booted)))
        return;                          /* it is there */
    else if (m->type == PROTO_WANT && s->state == SHIP_LISTED && !s->say_list)
        s->state = SHIP_FILES;
    else
        end(s, true, ERR_BADREC, "message %s came where it has no place (%s)", proto_name(m->type), ship_state_name(s->state));
}

void ship_durable(struct ship *s, uint64_t durable, uint64_t head)
{
    if (durable > s->durable)
        s->durable = durable;
    if (head > s->head)
        s->head = head;
    if (s->head < s->durable)
        s->head = s->durable;
}

void ship_tick(struct ship *s, uint64_t now_ms, int64_t wall_ns)
{
    uint64_t ran = s->clocked && now_ms > s->now_ms ? now_ms - s->now_ms : 0;

    if (ran > SYNC_BEAT_MS)            /* suspended, frozen or starved: that says nothing of the other side */
        ran = SYNC_BEAT_MS;
    s->clocked = true;
    s->now_ms = now_ms;
    s->wall_ns = wall_ns;
    s->silent_ms += ran;
    s->beat_ms += ran;
    s->stall_ms = s->state == SHIP_STREAM && s->acked < s->durable ? s->stall_ms + ran : 0;
    if (s->silent_ms >= (s->state == SHIP_MADE && s->booted ? (uint64_t)SYNC_INSTALL_MS : SYNC_SILENT_MS))
        end(s, true, ERR_AWAY, "nothing was heard of the standby for %u seconds", SYNC_SILENT_MS / 1000);
}

bool ship_stalled(const struct ship *s)
{
    return s->stall_ms >= SYNC_STALL_MS;
}

/* ---- what is due ---- */

static void begin_msg(const struct ship *s, struct proto_msg *m, uint16_t type, uint64_t position)
{
    proto_begin(m, type);
    m->epoch = newest(s)->number;
    memcpy(m->epoch_id, newest(s)->id, 16);
    m->position = position;
}

static void fill_hello(const struct ship *s, struct proto_msg *m)
{
    struct proto_hello *h = &m->u.hello;

    begin_msg(s, m, PROTO_HELLO, s->durable);
    h->lowest = PROTO_LOWEST;
    h->highest = PROTO_HIGHEST;
    memcpy(h->lineage, s->own->lineage, 16);
    memcpy(h->site, s->own->site, 16);
    h->role = s->own->role;
    h->known = s->own->known;
    h->part = PROTO_SENDER;
    h->incarnation = s->own->incarnation;
    h->durable = h->whole = s->durable;
    h->last_lsn = s->own->last_lsn;
    h->last_hash = s->own->last_hash;
    h->n_epochs = s->own->n_epochs;
    memcpy(h->epochs, s->own->epochs, s->own->n_epochs * sizeof *h->epochs);
}

static void fill_make(const struct ship *s, struct proto_msg *m)
{
    struct proto_make *k = &m->u.make;

    begin_msg(s, m, PROTO_MAKE, s->own->begins);
    memcpy(k->lineage, s->own->lineage, 16);
    memcpy(k->key, s->own->key, 32);
    k->key_id = s->own->key_id;
    k->epoch = s->own->epochs[0];
    snprintf(k->timezone, sizeof k->timezone, "%s", s->own->timezone != NULL ? s->own->timezone : "UTC");
}

static void fill_beat(struct ship *s, struct proto_msg *m)
{
    begin_msg(s, m, PROTO_BEAT, s->durable);
    m->u.beat.number = ++s->beat;
    m->u.beat.wall_ns = s->wall_ns;
    m->u.beat.head = s->head;
    m->u.beat.lease = s->own->lease;
    s->beats[s->beat % SHIP_BEATS].number = s->beat;
    s->beats[s->beat % SHIP_BEATS].sent_ms = s->now_ms;
    s->beats[s->beat % SHIP_BEATS].lease = s->own->lease;
    s->beat_ms = 0;
}

static void fill_refuse(struct ship *s, struct proto_msg *m)
{
    begin_msg(s, m, PROTO_REFUSE, s->sent);
    m->u.refuse.code = s->err.code;
    snprintf(m->u.refuse.text, sizeof m->u.refuse.text, "%s", s->err.msg);
    s->tell = false;
}

void ship_beat(struct ship *s, struct proto_msg *m)
{
    fill_beat(s, m);
}

void ship_msg(const struct ship *s, uint16_t type, uint64_t position, struct proto_msg *m)
{
    begin_msg(s, m, type, position);
}

void ship_records(const struct ship *s, struct proto_msg *m)
{
    begin_msg(s, m, PROTO_RECORDS, s->sent);
}

void ship_sent(struct ship *s, uint64_t end_addr)
{
    s->sent = end_addr;
}

static enum ship_due due_in_stream(struct ship *s, struct proto_msg *out)
{
    if (s->say_start) {
        begin_msg(s, out, PROTO_START, s->sent);
        s->say_start = false;
        return SHIP_SEND;
    }
    if (s->say_data)
        return SHIP_DATA;
    if (s->say_fetch) {
        begin_msg(s, out, s->recall_until > 0 ? PROTO_RECALL : PROTO_FETCH, s->recall_until > 0 ? s->recall_from : s->sent);
        if (s->recall_until > 0)
            out->u.recall.until = s->recall_until;
        else
            out->u.fetch = s->fetch;
        s->say_fetch = false;
        return SHIP_SEND;
    }
    if (s->acked >= s->until && !s->fetching)
        return SHIP_DONE;
    if (s->beat_ms >= SYNC_BEAT_MS || !same_lease(&s->own->lease, &s->beats[s->beat % SHIP_BEATS].lease)) {
        fill_beat(s, out);
        return SHIP_SEND;
    }
    return s->sent < s->durable && s->sent < s->until ? SHIP_READ : SHIP_WAIT;
}

enum ship_due ship_due(struct ship *s, struct proto_msg *out)
{
    if (s->say_hello) {
        fill_hello(s, out);
        s->say_hello = false;
        return SHIP_SEND;
    }
    switch (s->state) {
    case SHIP_HELLO:
        return SHIP_WAIT;
    case SHIP_LISTED:
        return s->say_list ? SHIP_LIST : SHIP_WAIT;
    case SHIP_FILES:
        return SHIP_FILE;
    case SHIP_MADE:
        if (!s->say_make)
            return SHIP_WAIT;
        fill_make(s, out);
        s->say_make = false;
        return SHIP_SEND;
    case SHIP_LOOK:
        return SHIP_LOOK_UP;
    case SHIP_FORK:
        return s->say_told ? SHIP_TELL : SHIP_WAIT;
    case SHIP_STREAM:
        return due_in_stream(s, out);
    default:
        if (!s->tell)
            return SHIP_FAILED;
        fill_refuse(s, out);
        return SHIP_SEND;
    }
}
