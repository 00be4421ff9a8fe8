/* receive.c: see receive.h. */
#include "store/sync/receive.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *receive_state_name(enum receive_state st)
{
    static const char *const names[] = {
#define X(name) #name,
        RECEIVE_STATES(X)
#undef X
    };

    return st < RECEIVE_N_STATES ? names[st] : "?";
}

static void end(struct receive *r, bool tell, int code, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
static void end(struct receive *r, bool tell, int code, const char *fmt, ...)
{
    va_list ap;

    if (r->state == RECEIVE_END)
        return;
    r->state = RECEIVE_END;
    r->make_due = r->append_due = r->list_due = r->file_due = r->install_due = r->say_want = r->compare_due = r->say_ask = r->say_fetch = r->say_data = r->supply_due = r->judge_due = r->say_boot = r->promise_due = false;
    r->tell = tell;
    r->err.code = code;
    va_start(ap, fmt);
    vsnprintf(r->err.msg, sizeof r->err.msg, fmt, ap);
    va_end(ap);
}

void receive_fail(struct receive *r, bool tell, const struct err *err)
{
    end(r, tell, err->code != 0 ? err->code : ERR_UNKNOWN, "%s", err->msg[0] != '\0' ? err->msg : err_text(err->code));
}

static void take_own(struct receive *r, const struct receive_own *own)
{
    r->own = *own;
    r->received = own->durable;
    r->durable = own->whole;
    r->say_hello = true;
}

void receive_init(struct receive *r, const struct receive_own *own)
{
    memset(r, 0, sizeof *r);
    take_own(r, own);
}

/* ---- where both part ---- */

static void ask(struct receive *r, uint64_t at)
{
    r->fork.asked = at;
    r->say_ask = true;
}

/* It cannot go back to where they part, or that cannot be found out any more: it is made anew, of files. */
static void want_files(struct receive *r)
{
    r->say_boot = true;
    r->state = RECEIVE_MAKE;
}

/* They part at low: the sender's next record is another one. */
static void found(struct receive *r)
{
    r->fork.found = r->judge_due = true;
}

void receive_cannot_compare(struct receive *r)
{
    if (!r->compare_due)
        return;
    r->compare_due = false;
    want_files(r);
}

void receive_judged(struct receive *r, bool possible)
{
    if (!r->judge_due)
        return;
    r->judge_due = false;
    if (!possible) {
        want_files(r);
        return;
    }
    end(r, true, ERR_AWAY, "the standby holds records up to @%" PRIu64 " that are not the sender's; it goes back to @%" PRIu64 ", where they part, and keeps what it "
        "has beyond as a branch; the next try finds it there", r->own.durable, r->fork.low);
}

static void hear_tell(struct receive *r, const struct proto_msg *m)
{
    if (m->position != r->fork.asked) {
        end(r, true, ERR_BADREC, "expected the record below @%" PRIu64 ", found that below @%" PRIu64, r->fork.asked, m->position);
        return;
    }
    r->told = m->u.tell;
    r->compare_due = true;
}

/*
 * Both hold a chain, so what is the same at one record is the same before it. The first question is for the end of the last epoch that both know, which is the answer
 * where a store was promoted; else (a machine set back to an image) halving finds it.
 */
void receive_compared(struct receive *r, bool same)
{
    uint64_t before = r->fork.asked;

    if (!r->compare_due)
        return;
    r->compare_due = false;
    if (same) {
        r->fork.low = r->fork.floor = r->told.end;
        r->fork.low_rec = r->told;
    } else if (r->told.lsn != 0) {
        r->fork.high = r->told.lsn;
    } else {
        r->fork.floor = before;          /* its first record ends behind that: halving fell below where a log begins */
    }
    if (before == r->fork.high && same)
        found(r);                        /* the last one below high is the same */
    else if (r->fork.high <= r->fork.low && r->fork.low > 0)
        found(r);
    else if (before == r->fork.high || r->fork.high <= r->fork.floor)
        want_files(r);                   /* what both had once was let go of at one of them */
    else
        ask(r, same || r->fork.high - r->fork.floor < 2 ? r->fork.high : r->fork.floor + (r->fork.high - r->fork.floor) / 2);
}

/* What is held here that the sender does not have. */
static void part(struct receive *r, uint64_t fork)
{
    if (!r->may_go_back) {
        end(r, true, ERR_DIVERGED, "here are records up to @%" PRIu64 " that the sender does not have; they part at @%" PRIu64 " at the latest. The store is mounted: once it is "
            "unmounted it goes back to there, and keeps what it has beyond as a branch", r->own.durable, fork);
        return;
    }
    r->state = RECEIVE_FORK;
    r->fork.high = fork;
    ask(r, fork);
}

/* The last record here is not the sender's, without a new epoch that tells: this is what it has there. */
static void hear_other(struct receive *r, const struct proto_msg *m)
{
    part(r, r->own.durable);
    if (r->state != RECEIVE_FORK)
        return;
    r->say_ask = false;
    hear_tell(r, m);
}

/* ---- the first words ---- */

static void hear_hello(struct receive *r, const struct proto_msg *m)
{
    const struct proto_hello *h = &m->u.hello;
    const struct receive_own *o = &r->own;
    const struct epoch_row *newest = &h->epochs[h->n_epochs - 1];
    uint32_t known = o->n_epochs > 0 ? o->epochs[o->n_epochs - 1].number : 0;
    char kin[EPOCH_KIN_MAX];
    uint64_t fork;

    r->fenced = o->role != 0 && memcmp(h->lineage, o->lineage, 16) == 0 && h->known > o->known;
    r->fence = *newest;
    if (newest->number < h->known) {
        memset(&r->fence, 0, sizeof r->fence);
        r->fence.number = h->known;
        memcpy(r->fence.site, h->site, 16);
        r->fence.first_lsn = newest->first_lsn;
    }
    if (h->lowest > PROTO_HIGHEST || h->highest < PROTO_LOWEST) {
        end(r, true, ERR_PEERVER, "the sender speaks protocol %" PRIu32 " to %" PRIu32 ", the standby %d to %d; bring the older one up to date",
            h->lowest, h->highest, PROTO_LOWEST, PROTO_HIGHEST);
    } else if (h->part != PROTO_SENDER) {
        end(r, true, ERR_USAGE, "expected a side that sends, found another that receives");
    } else if (o->role != 0 && memcmp(h->lineage, o->lineage, 16) != 0) {
        end(r, true, ERR_NOSTORE, "expected the primary of the store here (lineage %02x%02x%02x%02x...), found a store of another lineage (%02x%02x%02x%02x...)%s", o->lineage[0],
            o->lineage[1], o->lineage[2], o->lineage[3], h->lineage[0], h->lineage[1], h->lineage[2], h->lineage[3],
            epoch_kin(o->epochs, o->n_epochs, o->lineage, h->epochs, h->n_epochs, h->lineage, kin, sizeof kin));
    } else if (o->role != 0 && o->role != ROLE_STANDBY) {
        end(r, true, ERR_FENCED, "expected a standby here, found a store that %s (epoch %" PRIu32 ", the sender's %" PRIu32 ")",
            o->role == ROLE_FENCED ? "was primary, and follows nobody yet (`spare demote` here)" : "is itself writable", known, newest->number);
    } else if (newest->number < o->known) {
        end(r, true, ERR_FENCED, "the sender is of epoch %" PRIu32 ", and here epoch %" PRIu32 " is known: another site is primary", newest->number, o->known);
    } else {
        r->epoch = m->epoch;
        memcpy(r->epoch_id, m->epoch_id, 16);
        memcpy(r->peer_site, h->site, 16);
        r->state = o->role == 0 ? RECEIVE_MAKE : RECEIVE_START;
        fork = o->role == 0 ? 0 : epoch_fork(h->epochs, h->n_epochs, h->durable, o->epochs, o->n_epochs, o->durable);
        r->may_part = o->role != 0 && newest->number > known;
        /* (One of this very epoch that has less than this side is not to be followed: the sender says so.) */
        if (r->may_part && fork > 0 &&
            (o->durable > fork || epoch_common(h->epochs, h->n_epochs, o->epochs, o->n_epochs) < o->n_epochs))
            part(r, fork);
    }
}

static void hear_make(struct receive *r, const struct proto_make *k)
{
    r->make = *k;
    r->make_due = true;
}

void receive_installed(struct receive *r)
{
    if (r->install_due)
        end(r, true, ERR_AWAY, "the standby was made anew, and takes its own place now; what it had is kept as a branch; the next try finds it");
}

void receive_made(struct receive *r, const struct receive_own *own)
{
    if (r->state != RECEIVE_MAKE && r->state != RECEIVE_FILES)
        return;
    r->make_due = r->install_due = false;
    r->state = RECEIVE_START;
    take_own(r, own);
}

void receive_wants(struct receive *r, const struct proto_want *w)
{
    if (!r->list_due)
        return;
    r->list_due = false;
    r->want = *w;
    r->say_want = true;
    r->state = RECEIVE_FILES;
}

void receive_filed(struct receive *r)
{
    r->file_due = false;
    r->say_ack = true;
}

static void hear_list(struct receive *r, uint64_t position)
{
    r->list_at = position;
    r->list_due = true;
}

static void hear_retained(struct receive *r, uint64_t position)
{
    if (position != r->list_at)
        end(r, true, ERR_BADREC, "expected what is kept of the files up to @%" PRIu64 ", found it to be of those up to @%" PRIu64, r->list_at, position);
    else
        r->install_due = true;
}

static void hear_start(struct receive *r, uint64_t position)
{
    if (position != r->received)
        end(r, true, ERR_BADREC, "expected the stream from @%" PRIu64 " on, found it to begin @%" PRIu64, r->received, position);
    else
        r->state = RECEIVE_STREAM;
}

/* ---- data that are lacking ---- */

void receive_fetch(struct receive *r, const struct proto_fetch *f)
{
    if (r->state != RECEIVE_STREAM || r->fetching)
        return;
    r->fetch = *f;
    r->fetching = r->say_fetch = true;
}

void receive_recall(struct receive *r, uint64_t from, uint64_t until)
{
    if (r->state != RECEIVE_STREAM || r->fetching)
        return;
    r->recall_from = from;
    r->recall_until = until;
    r->fetching = r->say_fetch = true;
}

void receive_supplied(struct receive *r)
{
    r->fetching = r->supply_due = false;
    r->recall_from = r->recall_until = 0;
}

static void hear_data(struct receive *r, const struct proto_msg *m)
{
    if (m->type == PROTO_HEADS ? r->recall_until > 0 && m->position == r->recall_from : r->recall_until == 0 && proto_answers(&r->fetch, &m->u.data))
        r->supply_due = true;
    else
        end(r, true, ERR_BADREC, "message %s: expected what was asked for, found something else", proto_name(m->type));
}

void receive_gave(struct receive *r)
{
    r->say_data = false;
}

/* ---- the stream ---- */

static void hear_records(struct receive *r, uint64_t position)
{
    if (position != r->received)
        end(r, true, ERR_BADREC, "expected records from @%" PRIu64 " on, found them to begin @%" PRIu64, r->received, position);
    else
        r->append_due = true;
}

void receive_appended(struct receive *r, uint64_t end_addr)
{
    if (r->state != RECEIVE_STREAM)
        return;
    r->append_due = false;
    r->received = end_addr;
    r->say_ack = true;
}

void receive_progress(struct receive *r, uint64_t durable, uint64_t applied)
{
    if (r->state != RECEIVE_STREAM)
        return;
    if (durable > r->received)
        durable = r->received;
    if (applied > r->received)
        applied = r->received;
    if (durable > r->durable || applied > r->applied)
        r->say_ack = true;
    if (durable > r->durable)
        r->durable = durable;
    if (applied > r->applied)
        r->applied = applied;
}

static void hear_beat(struct receive *r, const struct proto_msg *m)
{
    const struct lease *l = &m->u.beat.lease;

    r->peer_durable = m->position;
    r->peer_head = m->u.beat.head;
    r->say_ack = true;
    if (l->ms == 0 && r->own.lease.ms == 0) {
        r->beat = m->u.beat.number;
        return;
    }
    r->promise = *l;
    r->promise_beat = m->u.beat.number;
    r->promise_ms = r->now_ms + lease_promise_ms(l->ms);
    r->promise_due = true;
}

void receive_promised(struct receive *r, bool given)
{
    if (!r->promise_due)
        return;
    r->promise_due = false;
    if (!given)
        return;
    r->own.lease = r->promise;
    r->beat = r->promise_beat;
    r->say_ack = true;
}

static bool of_its_epoch(struct receive *r, const struct proto_msg *m)
{
    if (m->type == PROTO_HELLO || m->type == PROTO_REFUSE || r->state == RECEIVE_HELLO ||
        (m->epoch == r->epoch && memcmp(m->epoch_id, r->epoch_id, 16) == 0))
        return true;
    end(r, true, ERR_BADREC, "message %s: expected epoch %" PRIu32 ", found %" PRIu32, proto_name(m->type), r->epoch, m->epoch);
    return false;
}

void receive_hear(struct receive *r, const struct proto_msg *m)
{
    if (r->state == RECEIVE_END)
        return;
    r->silent_ms = 0;
    if (m->type == PROTO_REFUSE)
        end(r, false, m->u.refuse.code, "%s", m->u.refuse.text);
    else if (!of_its_epoch(r, m))
        return;
    else if (m->type == PROTO_HELLO && r->state == RECEIVE_HELLO)
        hear_hello(r, m);
    else if (m->type == PROTO_MAKE && r->state == RECEIVE_MAKE && r->own.role == 0 && !r->make_due && !r->list_due)
        hear_make(r, &m->u.make);
    else if (m->type == PROTO_LIST && r->state == RECEIVE_START && !r->may_go_back)
        end(r, true, ERR_BOOTSTRAP, "the standby ends @%" PRIu64 ", and what came next was let go of at the sender; it is mounted: once it is unmounted it is made anew, and what it has is kept as a branch",
            r->own.durable);
    else if (m->type == PROTO_LIST && r->state == RECEIVE_START && r->own.role == ROLE_STANDBY)
        hear_list(r, m->position);
    else if (m->type == PROTO_LIST && ((r->state == RECEIVE_MAKE && !r->make_due && !r->list_due) || (r->state == RECEIVE_FILES && !r->install_due)))
        hear_list(r, m->position);
    else if (m->type == PROTO_FILE && r->state == RECEIVE_FILES && !r->list_due && !r->say_want && !r->file_due && !r->install_due)
        r->file_due = true;
    else if (m->type == PROTO_RETAINED && r->state == RECEIVE_FILES && !r->list_due && !r->say_want && !r->file_due && !r->install_due)
        hear_retained(r, m->position);
    else if (m->type == PROTO_TELL && r->state == RECEIVE_START && m->position == r->own.durable && r->may_part)
        hear_other(r, m);
    else if (m->type == PROTO_TELL && r->state == RECEIVE_FORK && !r->say_ask && !r->compare_due)
        hear_tell(r, m);
    else if (m->type == PROTO_START && r->state == RECEIVE_START)
        hear_start(r, m->position);
    else if (m->type == PROTO_RECORDS && r->state == RECEIVE_STREAM && !r->append_due)
        hear_records(r, m->position);
    else if ((m->type == PROTO_FETCH || m->type == PROTO_RECALL) && r->state == RECEIVE_STREAM && !r->say_data)
        r->say_data = true;
    else if ((m->type == PROTO_DATA || m->type == PROTO_HEADS) && r->state == RECEIVE_STREAM && r->fetching && !r->say_fetch && !r->supply_due)
        hear_data(r, m);
    else if (m->type == PROTO_BEAT && r->state == RECEIVE_STREAM)
        hear_beat(r, m);
    else if (m->type == PROTO_BEAT && (r->state == RECEIVE_MAKE || r->state == RECEIVE_FILES || r->state == RECEIVE_START))
        return;                          /* it is there */
    else
        end(r, true, ERR_BADREC, "message %s came where it has no place (%s)", proto_name(m->type), receive_state_name(r->state));
}

void receive_tick(struct receive *r, uint64_t now_ms)
{
    uint64_t ran = r->clocked && now_ms > r->now_ms ? now_ms - r->now_ms : 0;

    r->clocked = true;
    r->now_ms = now_ms;
    r->silent_ms += ran < SYNC_BEAT_MS ? ran : SYNC_BEAT_MS;
    if (r->silent_ms >= SYNC_SILENT_MS)
        end(r, true, ERR_AWAY, "nothing was heard of the sender for %u seconds", SYNC_SILENT_MS / 1000);
}

/* ---- what is due ---- */

static void begin_msg(const struct receive *r, struct proto_msg *m, uint16_t type)
{
    proto_begin(m, type);
    m->epoch = r->epoch;
    memcpy(m->epoch_id, r->epoch_id, 16);
    m->position = r->received;
}

static void fill_hello(const struct receive *r, struct proto_msg *m)
{
    struct proto_hello *h = &m->u.hello;
    const struct receive_own *o = &r->own;

    begin_msg(r, m, PROTO_HELLO);
    m->epoch = o->n_epochs > 0 ? o->epochs[o->n_epochs - 1].number : 0;
    memset(m->epoch_id, 0, 16);
    if (o->n_epochs > 0)
        memcpy(m->epoch_id, o->epochs[o->n_epochs - 1].id, 16);
    h->lowest = PROTO_LOWEST;
    h->highest = PROTO_HIGHEST;
    memcpy(h->lineage, o->lineage, 16);
    memcpy(h->site, o->site, 16);
    h->role = o->role;
    h->known = o->known;
    h->part = PROTO_RECEIVER;
    h->incarnation = o->incarnation;
    h->durable = o->durable;
    h->whole = o->whole;
    h->last_lsn = o->last_lsn;
    h->last_hash = o->last_hash;
    h->n_epochs = o->n_epochs;
    memcpy(h->epochs, o->epochs, o->n_epochs * sizeof *h->epochs);
}

static void fill_ack(struct receive *r, struct proto_msg *m)
{
    begin_msg(r, m, PROTO_ACK);
    m->u.ack.durable = r->durable;
    m->u.ack.applied = r->applied;
    m->u.ack.beat = r->beat;
    r->say_ack = false;
}

void receive_msg(const struct receive *r, uint16_t type, struct proto_msg *m)
{
    begin_msg(r, m, type);
}

enum receive_due receive_due(struct receive *r, struct proto_msg *out)
{
    if (r->say_hello) {
        fill_hello(r, out);
        r->say_hello = false;
        return RECEIVE_SEND;
    }
    if (r->state == RECEIVE_END) {
        if (!r->tell)
            return RECEIVE_FAILED;
        begin_msg(r, out, PROTO_REFUSE);
        out->u.refuse.code = r->err.code;
        snprintf(out->u.refuse.text, sizeof out->u.refuse.text, "%s", r->err.msg);
        r->tell = false;
        return RECEIVE_SEND;
    }
    if (r->make_due)
        return RECEIVE_MAKE_STORE;
    if (r->list_due)
        return RECEIVE_LIST;
    if (r->file_due)
        return RECEIVE_FILE;
    if (r->install_due)
        return RECEIVE_INSTALL;
    if (r->say_want) {
        begin_msg(r, out, PROTO_WANT);
        out->u.want = r->want;
        r->say_want = false;
        return RECEIVE_SEND;
    }
    if (r->compare_due)
        return RECEIVE_COMPARE;
    if (r->judge_due)
        return RECEIVE_JUDGE;
    if (r->say_boot) {
        begin_msg(r, out, PROTO_BOOT);
        r->say_boot = false;
        return RECEIVE_SEND;
    }
    if (r->say_ask) {
        begin_msg(r, out, PROTO_ASK);
        out->position = r->fork.asked;
        r->say_ask = false;
        return RECEIVE_SEND;
    }
    if (r->supply_due)
        return RECEIVE_SUPPLY;
    if (r->say_data && !r->hold_ack)     /* else who asks and does not read would be answered into memory without end */
        return RECEIVE_DATA;
    if (r->promise_due)
        return RECEIVE_PROMISE;
    if (r->append_due)
        return RECEIVE_APPEND;
    if (r->say_fetch) {
        begin_msg(r, out, r->recall_until > 0 ? PROTO_RECALL : PROTO_FETCH);
        if (r->recall_until > 0) {
            out->position = r->recall_from;
            out->u.recall.until = r->recall_until;
        } else {
            out->u.fetch = r->fetch;
        }
        r->say_fetch = false;
        return RECEIVE_SEND;
    }
    if (r->say_ack && !r->hold_ack) {
        fill_ack(r, out);
        return RECEIVE_SEND;
    }
    return RECEIVE_WAIT;
}
