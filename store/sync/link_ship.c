/* link_ship.c: a store's log to a standby. */
#include "store/sync/link_internal.h"

#include "store/core/lease.h"
#include "store/core/periods.h"
#include "store/core/role.h"
#include "store/log/frame.h"
#include "store/maint/packer.h"
#include "store/maint/upkeep.h"
#include "store/pack/history.h"
#include "store/pack/sealed.h"
#include "store/sync/boot.h"
#include "store/sync/rate.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

enum { BATCH_BYTES = 1 << 20, PART_BYTES = 256 << 10, BATCH_RECORDS = 4096, ZSTD_LEVEL = 1, PROGRESS_MS = 200, SKIP = 16, RATE_LOOK_MS = 1000, HOLD_MOST_MS = 100 };

struct shipping {
    struct loop l;
    const struct link_ship_options *opt;
    struct ship m;
    struct ship_own own;
    struct super super;         /* backs own */
    char zone[PROTO_ZONE_MAX + 1];
    struct proto_msg msg;
    struct log_iter *it;        /* one of these stands at it_at, ends at it_until */
    struct history_iter *old;
    uint64_t it_at, it_until;
    uint8_t *batch, *packed;
    size_t batch_cap, packed_cap;
    ZSTD_CCtx *zstd;
    struct link_data data;      /* asked for, either way */
    struct proto_list list;     /* sent last; its files */
    uint64_t list_end;          /* and its position */
    uint64_t short_end;         /* that of one which what is kept began behind; 0: none */
    uint64_t alive_ms;
    struct err away;            /* why it was not heard any more */
    struct wanted_file { uint32_t index; uint64_t from; struct proto_list_file file; } *want;
    uint32_t n_want, next;      /* next: of want, which is being sent, or is to come */
    struct io_file *part;       /* it, up to at */
    uint64_t at;
    bool met;                   /* opt->met was called */
    bool made;                  /* the standby is made in this stream */
    uint64_t agreed_durable;    /* here, when both sides had agreed */
    struct rate_bucket bucket;
    uint64_t bytes_s, rate_ms;  /* the limit, 0 none; when it was looked up */
    uint64_t hold_ms;           /* so long nothing more may be sent; 0: it may */
    unsigned skip;              /* so many batches are not worth the try */
    uint64_t said_ms;
    uint64_t lease_ms;          /* the store was told so */
};

/* ---- what is sent ---- */

static int room(uint8_t **buf, size_t *cap, size_t need, struct err *err)
{
    uint8_t *p;

    if (need <= *cap)
        return 0;
    p = realloc(*buf, need);
    if (p == NULL)
        return err_set(err, ERR_NOMEM, "stream: out of memory for records");
    *buf = p;
    *cap = need;
    return 0;
}

static void close_iters(struct shipping *h)
{
    log_iter_free(h->it);
    history_iter_free(h->old);
    h->it = NULL;
    h->old = NULL;
}

/* Records with their data out of the log where it has them; what it let go of is put together from archive and packs, byte for byte. */
static int open_iter(struct shipping *h, struct err *err)
{
    struct log *log = store_log(h->l.s);
    uint64_t held = log_first(log);

    if ((h->it != NULL || h->old != NULL) && h->it_at == h->m.sent && h->it_at < h->it_until)
        return 0;
    close_iters(h);
    h->it_at = h->m.sent;
    h->it_until = h->m.durable < h->m.until ? h->m.durable : h->m.until;
    if (h->it_at >= held)
        return log_iter_new(log, h->it_at, h->it_until, LOG_ITER_DATA, &h->it, err);
    if (h->it_until > held)
        h->it_until = held;
    return history_iter_new(store_history(h->l.s), h->it_at, h->it_until, &h->old, err);
}

/* The next record to the end of h->batch, which has room for it: 1, 0 the end of what the iterators were made for, < 0. */
static int put_record(struct shipping *h, struct proto_records *k, struct record *rec, struct err *err)
{
    const uint8_t *head = NULL;
    uint8_t *to;
    int rc = h->old != NULL ? history_next(h->old, rec, &head, err) : log_iter_next(h->it, rec, err);

    if (rc != 1)
        return rc == ERR_NOENT && h->it != NULL ? 0 : rc;    /* let go of since: it is in archive and packs */
    rc = room(&h->batch, &h->batch_cap, (size_t)k->bytes + rec->head_len + rec->data_len + BATCH_BYTES, err);
    if (rc < 0)
        return rc;
    to = h->batch + k->bytes;
    if (h->it != NULL) {
        memcpy(to, log_iter_raw(h->it) + FRAME_BYTES, rec->head_len + rec->data_len);
        return 1;
    }
    memcpy(to, head, rec->head_len);
    if (rec->data_len > 0)
        rc = store_read_data(h->l.s, rec->lsn, record_dstart(rec->head_len), 0, rec->data_len, to + rec->head_len, false, err);
    return rc < 0 ? rc : 1;
}

/* ---- how fast ---- */

/* The limit as the settings have it at this time of the day. What is no limit is none: a stream that stands still for a slip of the pen would be worse. */
static void look_up_rate(struct shipping *h)
{
    char text[RATE_TEXT_MAX];
    struct rate r = { 0 };
    uint64_t now = link_now_ms();

    if (!h->opt->limit || (h->rate_ms != 0 && now - h->rate_ms < RATE_LOOK_MS))
        return;
    h->rate_ms = now;
    if (store_config_get(h->l.s, "bandwidth", text, sizeof text) <= 0 || rate_parse(text, &r, NULL) < 0)
        h->bytes_s = 0;
    else
        h->bytes_s = rate_at(&r, r.n > 0 ? periods_minute(h->l.s, io_wall_ns(store_io(h->l.s))) : 0);
}

static bool may_send(struct shipping *h)
{
    look_up_rate(h);
    h->hold_ms = rate_wait_ms(&h->bucket, h->bytes_s, link_now_ms());
    return h->hold_ms == 0;
}

/* The message is queued. */
static int put_counted(struct shipping *h, struct err *err)
{
    size_t before = h->l.c.tx_len - h->l.c.tx_at;
    int rc = conn_put(&h->l.c, &h->msg, err);

    if (rc == 0)
        rate_took(&h->bucket, h->l.c.tx_len - h->l.c.tx_at - before);
    return rc;
}

/* The records behind s->sent into h->batch: a batch, or up to what is durable. */
static int read_batch(struct shipping *h, struct proto_records *k, struct err *err)
{
    unsigned again = 3;        /* it is let go of while it is read: seldom more than once */
    uint32_t most = rate_piece(h->bytes_s, BATCH_BYTES);
    int rc = open_iter(h, err);

    memset(k, 0, sizeof *k);
    while (rc == 0 && k->n < BATCH_RECORDS && k->bytes < most) {
        struct record rec = { 0 };
        uint32_t len;

        rc = put_record(h, k, &rec, err);
        if (rc != 1) {                   /* the end of what it was made for, or a failure */
            close_iters(h);
            if (rc == 0 && k->n == 0 && again-- > 0) {    /* between archive and log, or let go of in between */
                rc = open_iter(h, err);
                continue;
            }
            break;
        }
        rc = 0;
        len = rec.head_len + rec.data_len;
        k->bytes += len;
        k->n++;
        k->end = h->it_at = rec.lsn + frame_span(len);
    }
    if (rc == 0 && k->n == 0)
        rc = err_set(err, ERR_DAMAGE, "log: expected a record below what is durable, found none");
    return rc;
}

static void pack(struct shipping *h, struct proto_records *k)
{
    size_t n;

    k->p = h->batch;
    k->len = k->bytes;
    if (!h->opt->compress)
        return;
    if (h->skip > 0) {
        h->skip--;
        return;
    }
    if (h->zstd == NULL)
        h->zstd = ZSTD_createCCtx();
    if (h->zstd == NULL || room(&h->packed, &h->packed_cap, ZSTD_compressBound(k->bytes), NULL) < 0)
        return;
    n = ZSTD_compressCCtx(h->zstd, h->packed, h->packed_cap, h->batch, k->bytes, ZSTD_LEVEL);
    if (ZSTD_isError(n) || n > k->bytes - k->bytes / 16) {
        h->skip = k->bytes >= BATCH_BYTES / 2 ? SKIP : 0;
        return;
    }
    k->p = h->packed;
    k->len = (uint32_t)n;
    k->compressed = true;
}

static int send_records(struct shipping *h, struct err *err)
{
    struct proto_msg *m = &h->msg;
    int rc;

    ship_records(&h->m, m);
    rc = read_batch(h, &m->u.records, err);
    if (rc < 0)
        return rc;
    pack(h, &m->u.records);
    rc = put_counted(h, err);
    if (rc == 0)
        ship_sent(&h->m, m->u.records.end);
    return rc;
}

/* ---- files, for a new standby ---- */

/* While this side is at something long: the other one hears that it is there. Nonzero: told to stop. */
static int keep_alive(void *arg)
{
    struct shipping *h = arg;
    uint64_t now = link_now_ms();

    if (now - h->alive_ms >= SYNC_BEAT_MS) {
        h->alive_ms = now;
        h->m.wall_ns = io_wall_ns(store_io(h->l.s));     /* (no tick: nothing is heard while this side is at it, and that is not the other's silence) */
        ship_beat(&h->m, &h->msg);
        if (conn_put(&h->l.c, &h->msg, &h->away) < 0 || conn_flush(&h->l.c, &h->away) < 0)
            return 1;
    }
    return link_stopped(h->l.stop);
}

static int send_list(struct shipping *h, struct err *err)
{
    struct proto_list *l = &h->msg.u.list;
    uint64_t end = 0;
    int rc = 0;

    /* What was held for the one it replaces would hold up the packing, and does so for nothing: that one cannot go on from there. */
    if (h->opt->booting != NULL)
        rc = h->opt->booting(h->opt->arg, 0, err);
    /* All that is durable into archive and packs first: so far reach every base, and what is kept. */
    if (rc == 0)
        rc = upkeep_pack(h->l.s, NULL, keep_alive, h, NULL, err);
    if (rc == ERR_BUSY && h->away.code != 0) {
        *err = h->away;
        return err->code;
    }
    if (rc == ERR_BUSY && link_stopped(h->l.stop))
        return err_set(err, ERR_INTR, "interrupted");
    ship_msg(&h->m, PROTO_LIST, 0, &h->msg);
    if (rc == 0)
        rc = boot_list(h->l.s, l, &end, err);
    if (rc == 0 && h->opt->booting != NULL)
        rc = h->opt->booting(h->opt->arg, end, err);
    if (rc < 0) {
        free((void *)(uintptr_t)l->p);
        return rc;
    }
    h->msg.position = end;
    memcpy(l->lineage, h->own.lineage, 16);
    memcpy(l->key, h->own.key, 32);
    l->key_id = h->own.key_id;
    snprintf(l->timezone, sizeof l->timezone, "%s", h->own.timezone != NULL ? h->own.timezone : "UTC");
    rc = conn_put(&h->l.c, &h->msg, err);
    free((void *)(uintptr_t)h->list.p);
    h->list = *l;
    h->list_end = end;
    if (rc == 0)
        ship_listed(&h->m);
    return rc;
}

/* What the other side wants of them. */
static int note_want(struct shipping *h, const struct proto_want *w, struct err *err)
{
    struct proto_list_file f;
    uint32_t pos = 0, k = 0;

    free(h->want);
    h->n_want = h->next = 0;
    h->want = calloc(w->n + (size_t)1, sizeof *h->want);
    if (h->want == NULL)
        return err_set(err, ERR_NOMEM, "stream: out of memory");
    for (uint32_t i = 0; k < w->n && proto_list_next(&h->list, &pos, &f); i++) {
        uint64_t from;

        if (proto_want_at(w, k, &from) != i)
            continue;
        if (from >= f.size)
            break;
        h->want[k++] = (struct wanted_file){ i, from, f };
    }
    if (k < w->n)
        return err_set(err, ERR_BADREC, "message WANT: expected files below number %u, and places in them", (unsigned)h->list.n);
    h->n_want = w->n;
    return 0;
}

static int send_retained(struct shipping *h, struct err *err)
{
    uint8_t *buf = NULL;
    size_t len = 0;
    int rc = boot_retained(h->l.s, h->list_end, &buf, &len, err);

    if (rc == ERR_BUSY && h->list_end > h->short_end) {      /* the hold was not enough, or too late */
        h->short_end = h->list_end;
        ship_list_again(&h->m);
        return 0;
    }
    if (rc == ERR_BUSY)                  /* nor is another list */
        return err_set(err, ERR_BUSY, "what is kept here begins behind @%" PRIu64 ", and only so far has left the log: what another standby that is away has not got is held back; bring it back, or "
                       "remove it from the list of standbys", h->list_end);
    ship_msg(&h->m, PROTO_RETAINED, h->list_end, &h->msg);
    h->msg.u.retained = (struct proto_retained){ (uint32_t)len, buf };
    if (rc == 0)
        rc = conn_put(&h->l.c, &h->msg, err);
    free(buf);
    if (rc == 0)
        ship_filed(&h->m, true);
    return rc;
}

/* The next part of the next file; one that is gone has a successor, which is in the next list. */
static int send_file(struct shipping *h, struct err *err)
{
    const struct wanted_file *w = &h->want[h->next];
    uint64_t left;
    uint32_t n;
    int rc = 0;

    if (h->next == h->n_want)
        return send_retained(h, err);
    if (h->part == NULL) {
        rc = io_open(store_io(h->l.s), w->file.name, IO_RDONLY, &h->part, NULL);
        h->at = w->from;
        if (rc < 0) {
            h->part = NULL;
            ship_list_again(&h->m);
            return 0;
        }
    }
    left = w->file.size - h->at;
    n = rate_piece(h->bytes_s, PART_BYTES);
    n = left < n ? (uint32_t)left : n;
    rc = room(&h->batch, &h->batch_cap, PART_BYTES, err);
    if (rc == 0)
        rc = sealed_read(h->part, w->file.name, h->batch, n, h->at, err);
    if (rc < 0)
        return rc;
    ship_msg(&h->m, PROTO_FILE, h->at, &h->msg);
    h->msg.u.file = (struct proto_file){ w->index, n, h->batch };
    rc = put_counted(h, err);
    h->at += n;
    if (h->at == w->file.size) {
        io_close(h->part);
        h->part = NULL;
        h->next++;
    }
    return rc;
}

/* It is damaged here: what follows it says which record it was, and the other side has what heals it. 0, DAMAGE nothing says it; IO, NOMEM. */
static int look_behind(struct shipping *h, struct hash128 *hash, struct err *err)
{
    uint64_t lsn;
    int rc = history_behind(store_history(h->l.s), h->m.look_end, &lsn, hash, NULL);

    if (rc == 0 && lsn == h->m.look_lsn) {
        if (err != NULL)
            *err = (struct err){ 0 };
        return 0;
    }
    return rc == ERR_NOMEM ? err_set(err, rc, "stream: out of memory") : ERR_DAMAGE;
}

/* The record that the other side ends with is none of this one's: those around its end are whole, and it is not among them (where it begins may be the middle of one). */
static bool none_such(struct shipping *h)
{
    struct history *history = store_history(h->l.s);
    struct history_place p;
    struct record rec;
    void *buf = NULL;
    bool none = false;

    if (history_before(history, h->m.look_end, &p, NULL) < 0)
        return false;
    if (p.end == h->m.look_end)
        none = p.lsn != h->m.look_lsn;
    else if (history_record(history, p.end, &rec, &buf, NULL) == 0)
        none = rec.prev_lsn == p.lsn && hash128_eq(&rec.prev_hash, &p.hash) && rec.lsn + frame_span(rec.head_len + rec.data_len) > h->m.look_end;
    free(buf);
    return none;
}

static void look_up(struct shipping *h)
{
    struct record rec = { 0 };
    void *buf = NULL;
    struct err err = { 0 };
    struct hash128 hash;
    int rc = history_record(store_history(h->l.s), h->m.look_lsn, &rec, &buf, &err);
    uint64_t end = rc == 0 ? rec.lsn + frame_span(rec.head_len + rec.data_len) : 0;

    if (rc == ERR_NOENT && h->m.look_lsn < history_first(store_history(h->l.s)))
        rc = err_set(&err, ERR_BOOTSTRAP, "the standby ends @%llu, and records before @%llu were let go of here; it must be made anew", (unsigned long long)h->m.look_end,
                     (unsigned long long)history_first(store_history(h->l.s)));
    hash = rec.hash;
    if ((rc == ERR_DAMAGE || rc == ERR_IO) && none_such(h)) {
        rc = ERR_NOENT;
    } else if (rc == ERR_DAMAGE || rc == ERR_IO) {
        rc = look_behind(h, &hash, &err);
        end = h->m.look_end;
    }
    if (rc == ERR_DAMAGE || rc == ERR_NOMEM || rc == ERR_BOOTSTRAP)
        ship_fail(&h->m, true, &err);
    ship_looked(&h->m, rc == 0, &hash, rc == 0 ? end : 0);
    free(buf);
}

/* What the other side asks, to find out where it parts from this one. */
static int tell(struct shipping *h, struct err *err)
{
    struct history_place p;
    int rc = history_before(store_history(h->l.s), h->m.ask_at, &p, err);

    if (rc < 0 && rc != ERR_NOENT)
        return rc;
    ship_msg(&h->m, PROTO_TELL, h->m.ask_at, &h->msg);
    h->msg.u.tell = (struct proto_tell){ p.lsn, p.end, p.hash };
    rc = conn_put(&h->l.c, &h->msg, err);
    if (rc == 0)
        ship_told(&h->m);
    return rc;
}

/* ---- the loop ---- */

static void report(struct shipping *h, bool now)
{
    struct link_info *i = h->l.info;

    memcpy(i->site, h->m.peer_site, 16);
    i->agreed = h->met;
    i->sent = h->m.sent;
    i->received = h->m.received;
    i->durable = h->m.acked;
    i->applied = h->m.applied;
    i->stalled = ship_stalled(&h->m) && (h->hold_ms == 0 || h->m.acked < h->m.sent);
    h->made |= h->m.state == SHIP_LISTED || h->m.state == SHIP_MADE;
    i->caught |= h->met && h->m.acked >= h->agreed_durable;
    i->booting = h->made && !i->caught;
    link_publish(&h->l);
    if (!now && h->m.now_ms - h->said_ms < PROGRESS_MS)
        return;
    h->said_ms = h->m.now_ms;
    if (h->opt->progress != NULL)
        h->opt->progress(h->opt->arg, i, h->m.durable);
}

static int give(struct shipping *h, struct err *err)
{
    int rc;

    ship_msg(&h->m, PROTO_DATA, h->m.sent, &h->msg);
    rc = link_give(&h->l, &h->data, &h->msg, err);
    if (rc == 0)
        ship_gave(&h->m);
    return rc;
}

static int supplied(struct shipping *h, struct err *err)
{
    int rc = link_take(&h->l, &h->data, &h->msg, err);

    if (rc == 0)
        ship_supplied(&h->m);
    return rc;
}

static int hear(struct shipping *h, struct err *err)
{
    int rc;

    while ((rc = conn_next(&h->l.c, &h->msg, err)) == 1) {
        if (h->m.state == SHIP_MADE)         /* files took their time */
            h->own.first = store_whole_from(h->l.s);
        ship_hear(&h->m, &h->msg);
        if (h->m.lease_ms > h->lease_ms && (rc = store_lease_renew(h->l.s, h->m.peer_site, h->lease_ms = h->m.lease_ms, err)) < 0)
            return rc;
        if (h->msg.type == PROTO_WANT && h->m.state == SHIP_FILES && (rc = note_want(h, &h->msg.u.want, err)) < 0)
            return rc;
        if (h->m.supply_due && (rc = supplied(h, err)) < 0)
            return rc;
        if ((h->msg.type == PROTO_FETCH || h->msg.type == PROTO_RECALL) && h->m.say_data && (rc = link_note_fetch(&h->data, &h->msg, err)) < 0)
            return rc;
        h->l.info->heard_wall_ns = io_wall_ns(store_io(h->l.s));
    }
    return rc;
}

/* Before a byte of the log goes out. */
static void meet(struct shipping *h)
{
    struct err err = { 0 };

    h->met = true;
    h->agreed_durable = h->m.durable;
    if (h->opt->met != NULL && h->opt->met(h->opt->arg, h->m.peer_site, &err) < 0)
        ship_fail(&h->m, true, &err);
}

/* Nothing more may be sent for a while: of the files the other side hears no beat else. */
static int say_alive(struct shipping *h, struct err *err)
{
    if (keep_alive(h) != 0 && h->away.code != 0) {
        *err = h->away;
        return err->code;
    }
    return 0;
}

/* How long to wait for something to happen. */
static int poll_ms(const struct shipping *h)
{
    return h->hold_ms > 0 && h->hold_ms < HOLD_MOST_MS ? (int)h->hold_ms : LINK_POLL_MS;
}

/* 1: done. Does what is due until the connection has enough, or there is nothing. */
static int do_due(struct shipping *h, struct err *err)
{
    int rc = 0;

    while (rc == 0 && h->l.c.tx_len - h->l.c.tx_at < LINK_TX_BYTES) {
        if (h->m.state == SHIP_STREAM && !h->met)
            meet(h);
        switch (ship_due(&h->m, &h->msg)) {
        case SHIP_WAIT:    return 0;
        case SHIP_DONE:    return 1;
        case SHIP_SEND:    rc = conn_put(&h->l.c, &h->msg, err); break;
        case SHIP_LIST:    rc = send_list(h, err); break;
        case SHIP_FILE:
            if (!may_send(h))
                return say_alive(h, err);
            rc = send_file(h, err);
            break;
        case SHIP_LOOK_UP: look_up(h); break;
        case SHIP_TELL:    rc = tell(h, err); break;
        case SHIP_DATA:    rc = give(h, err); break;
        case SHIP_READ:
            if (!may_send(h))
                return 0;
            rc = send_records(h, err);
            break;
        case SHIP_FAILED:
            *err = h->m.err;
            return err->code;
        }
    }
    return rc;
}

/* What is damaged here, of the standby. */
static int ask_for_data(struct shipping *h, struct err *err)
{
    struct proto_fetch f;
    int rc = 0;

    if (h->m.state == SHIP_STREAM && !h->m.fetching && (rc = link_want(&h->l, &h->data, false, &f, err)) == 1)
        ship_fetch(&h->m, &f);
    else if (rc == 2)
        ship_recall(&h->m, h->data.from, h->data.until);
    return rc < 0 ? rc : 0;
}

static int run(struct shipping *h, struct err *err)
{
    struct log *log = store_log(h->l.s);
    struct err why = { 0 };
    int rc = 0;

    for (;;) {
        ship_tick(&h->m, link_now_ms(), io_wall_ns(store_io(h->l.s)));
        store_lease(h->l.s, &h->own.lease);
        ship_durable(&h->m, log_durable(log), log_head(log));
        if (log_poisoned(log)) {
            rc = err_set(&why, ERR_POISONED, "log: %s", err_text(ERR_POISONED));
            ship_fail(&h->m, true, &why);
        }
        rc = ask_for_data(h, err);
        if (rc == 0)
            rc = do_due(h, err);
        report(h, rc != 0);
        if (rc == 1)
            return 0;
        if (rc < 0 && h->m.state != SHIP_END) {      /* something here: the other side should know */
            ship_fail(&h->m, true, err);
            continue;
        }
        if (rc < 0)
            return rc;
        rc = link_wait(&h->l, poll_ms(h), &why);
        /* Its last words first: why it does not listen any more may be in them. */
        if (rc == 0 || rc == ERR_AWAY)
            rc = hear(h, rc == 0 ? &why : &(struct err){ 0 }) < 0 && rc == 0 ? why.code : rc;
        if (rc == 0 && h->l.c.eof && h->m.state != SHIP_END && (h->m.state != SHIP_STREAM || h->m.acked < h->m.until))
            rc = err_set(&why, ERR_AWAY, "the standby went away in the middle of the stream");
        if (rc == ERR_INTR) {
            *err = why;
            return rc;
        }
        if (rc < 0)
            ship_fail(&h->m, rc != ERR_AWAY, &why);
    }
}

/* Who ships, as of now. (A standby that ships on may meet an epoch meanwhile: it travels as a record.) */
static void fill_own(struct shipping *h)
{
    struct ship_own *o = &h->own;

    store_super(h->l.s, &h->super);
    memcpy(o->lineage, h->super.lineage, 16);
    memcpy(o->site, h->super.site, 16);
    memcpy(o->key, h->super.key, 32);
    o->key_id = h->super.key_id;
    o->role = h->super.role;
    o->incarnation = h->super.incarnation;
    o->first = store_whole_from(h->l.s);
    o->begins = LOG_FIRST_ADDR;
    o->known = store_epoch_known(h->l.s);
    /* A row of which a standby holds no record is no claim: the record may have been lost, and another primary's come instead. */
    o->n_epochs = o->role == ROLE_PRIMARY ? h->super.n_epochs : epoch_held(h->super.epochs, h->super.n_epochs, log_durable(store_log(h->l.s)));
    o->epochs = h->super.epochs;
    o->may_make = h->opt->may_make;
    if (store_config_get(h->l.s, "timezone", h->zone, sizeof h->zone) > 0)
        o->timezone = h->zone;
}

int link_ship(struct store *s, struct link_table *t, int in, int out, const struct link_ship_options *opt, struct link_info *info, struct err *err)
{
    struct shipping *h = calloc(1, sizeof *h);
    struct log *log = store_log(s);
    uint64_t durable;
    int rc;

    if (h == NULL)
        return err_set(err, ERR_NOMEM, "stream: out of memory");
    h->opt = opt;
    rc = link_begin(&h->l, t, in, out, opt->name, true, &opt->stop, info, err);
    if (rc == 0)
        rc = link_watch(&h->l, s, err);
    if (rc == 0) {
        fill_own(h);
        durable = log_durable(log);
        ship_init(&h->m, &h->own, durable, log_head(log), opt->probe ? 0 : opt->follow ? UINT64_MAX : durable);
        rc = h->own.n_epochs == 0 ? err_set(err, ERR_NOMEM, "stream: out of memory") : run(h, err);
        if (h->m.fenced)                 /* at once, and before anybody hears more of it; a failure to write that down is the store's to say */
            rc = link_fence(s, &h->m.fence, rc, err);
        link_last_words(&h->l.c);
    }
    link_end(&h->l, rc);
    close_iters(h);
    if (h->part != NULL)
        io_close(h->part);
    free((void *)(uintptr_t)h->list.p);
    link_data_release(&h->data);
    free(h->want);
    ZSTD_freeCCtx(h->zstd);
    free(h->batch);
    free(h->packed);
    free(h);
    return rc;
}
