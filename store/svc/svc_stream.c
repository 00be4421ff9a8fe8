/* Requests that run a stream to another site (ship, receive), and the one that waits for a standby. */
#include "store/svc/svc_internal.h"

#include "store/core/standby.h"

#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

struct shipping { struct svc_req *q; struct standby b; };

static int64_t now_s(const struct svc_req *q)
{
    return io_wall_ns(store_io(q->s)) / 1000000000;
}

static void item_of(const struct link_info *i, json_t *o)
{
    svc_put_hex(o, "site", i->site, sizeof i->site);
    svc_put_u64(o, "sent_lsn", i->sent);
    svc_put_u64(o, "received_lsn", i->received);
    svc_put_u64(o, "durable_lsn", i->durable);
    svc_put_u64(o, "applied_lsn", i->applied);
}

/* A standby that fits is one of ours from now on, also after a crash: its place is not made anew unasked. */
static int met(void *arg, const uint8_t site[16], struct err *err)
{
    struct shipping *h = arg;

    if (memcmp(h->b.site, site, 16) == 0)
        return 0;
    h->b.acked = memcmp(h->b.site, (const uint8_t[16]){ 0 }, 16) == 0 ? h->b.acked : 0;     /* of one that was just made, what was held */
    memcpy(h->b.site, site, 16);
    h->b.heard_s = now_s(h->q);
    return standby_note(h->q->s, &h->b, err);
}

/* It has no site yet; what it is going to be sent is held for it. */
static int booting(void *arg, uint64_t end, struct err *err)
{
    struct shipping *h = arg;

    h->b.acked = end;
    memset(h->b.site, 0, sizeof h->b.site);      /* of one that is no more */
    h->b.heard_s = now_s(h->q);
    return standby_note(h->q->s, &h->b, err);
}

static void progress(void *arg, const struct link_info *i, uint64_t durable)
{
    struct shipping *h = arg;
    json_t *o = json_object();

    svc_put_text(o, "what", "shipping");
    svc_put_u64(o, "done_bytes", i->durable);
    svc_put_u64(o, "total_bytes", durable);
    json_object_set_new(o, "agreed", json_boolean(i->agreed));
    json_object_set_new(o, "stalled", json_boolean(i->stalled));
    (void)svc_emit(h->q, "progress", o);
}

int svc_op_ship(struct svc_req *q, struct err *err)
{
    struct shipping h = { .q = q };
    struct link_ship_options opt = { .met = met, .booting = booting, .progress = progress, .arg = &h };
    static const uint8_t none[16];
    struct link_info i = { 0 };
    bool make;
    json_t *o;
    int at, r;

    if (!q->stream || !q->env->links)
        return err_set(err, ERR_USAGE, "ship: expected two descriptors with the request");
    if ((r = svc_target(q, h.b.target, err)) || (r = svc_arg_bool(q, "follow", &opt.follow, err)) ||
        (r = svc_arg_bool(q, "make", &make, err)) || (r = svc_arg_bool(q, "probe", &opt.probe, err)) || (r = svc_arg_bool(q, "compress", &opt.compress, err)) || (r = svc_sync(q, err)))
        return r;
    at = standby_find(q->s, h.b.target);
    if (at >= 0)
        (void)standby_get(q->s, (unsigned)at, &h.b);
    opt.name = h.b.target;
    opt.may_make = make || memcmp(h.b.site, none, 16) == 0;
    opt.stop = q->stream->stop;
    r = link_ship(q->s, q->env->links, q->stream->in, q->stream->out, &opt, &i, err);
    /* How far it came; unless a person removed it from the list meanwhile. */
    if (i.durable > h.b.acked && standby_find(q->s, h.b.target) >= 0) {
        h.b.acked = i.durable;
        h.b.heard_s = i.heard_wall_ns / 1000000000;
        (void)standby_note(q->s, &h.b, NULL);
    }
    if (r)
        return r;
    o = json_object();
    svc_put_text(o, "target", h.b.target);
    item_of(&i, o);
    return svc_emit(q, "item", o);
}

int svc_op_receive(struct svc_req *q, struct err *err)
{
    struct link_receive_options opt = { 0 };
    struct store_info info;
    const char *source;
    struct link_info i = { 0 };
    json_t *o;
    int r = svc_arg_text(q, "source", &source, err);

    if (r)
        return r;
    if (!q->stream || !q->env->links)
        return err_set(err, ERR_USAGE, "receive: expected two descriptors with the request");
    store_info(q->s, &info);
    if (!info.writable) {
        r = err_set(err, ERR_ROFS, "%s: expected a standby that can take records, found its store open read-only; mount it without -o ro: "
                    "the mount of a standby is read-only in any case", store_dir(q->s) ? store_dir(q->s) : "store");
        link_refuse(q->stream->in, q->stream->out, err);
        return r;
    }
    opt.name = source;
    opt.stop = q->stream->stop;
    if (!opt.stop.flag)
        opt.stop.flag = q->env->end_receive;
    r = link_receive(q->s, q->env->links, q->stream->in, q->stream->out, &opt, &i, err);
    if (r == ERR_INTR && q->env->end_receive && *q->env->end_receive) {      /* it comes back, and learns how that ended */
        r = err_set(err, ERR_BUSY, "%s: is being promoted", store_dir(q->s) ? store_dir(q->s) : "store");
        link_refuse(q->stream->in, q->stream->out, err);
    }
    if (r)
        return r;
    o = json_object();
    item_of(&i, o);
    return svc_emit(q, "item", o);
}

/* A mount wants the store. What only receives can go: the sender comes back, and finds the mount. */
int svc_op_yield(struct svc_req *q, struct err *err)
{
    if (!q->env->yield)
        return err_set(err, ERR_BUSY, "this process does not give the store up");
    *q->env->yield = SIGTERM;
    return 0;
}

/* ---- waiting for a standby ---- */

enum { POLL_MS = 20, NOBODY_MS = 10000 };

/* 1: a standby of that name (any, for "standby") has it; 0: not yet, *live says whether one is connected. */
static int reached(const struct svc_req *q, const char *on, uint64_t end, bool *live)
{
    struct link_info i;

    *live = false;
    for (unsigned k = 0; q->env->links && k < LINKS_MAX; k++) {
        if (!link_table_get(q->env->links, k, &i) || !i.sends || (strcmp(on, "standby") != 0 && strcmp(on, i.name) != 0))
            continue;
        *live |= i.live;
        if (i.durable >= end)
            return 1;
    }
    return 0;
}

int svc_wait_standby(struct svc_req *q, const char *on, struct err *err)
{
    uint64_t end, timeout, waited = 0, alone = 0;
    bool live;
    json_t *o;
    int r = svc_arg_u64(q, "timeout_ms", 0, &timeout, err);

    /* Everything so far: a path is more than its last name, and what is above it may have been renamed. */
    end = log_head(store_log(q->s));
    if (r == 0)
        r = svc_sync(q, err);
    while (r == 0 && !reached(q, on, end, &live)) {
        struct pollfd p = { .fd = -1 };

        alone = live ? 0 : alone + POLL_MS;
        waited += POLL_MS;
        if (alone >= NOBODY_MS)
            return err_set(err, ERR_AWAY, "%s: no standby is connected; `spare sync --follow` connects one", on);
        if (timeout && waited >= timeout)
            return err_set(err, ERR_AWAY, "%s: not durable there within %" PRIu64 " ms", on, timeout);
        (void)poll(&p, 1, POLL_MS);
        /* whoever asked may have gone */
        if (waited % 1000 == 0) {
            o = json_object();
            svc_put_text(o, "what", "waiting for the standby");
            r = svc_emit(q, "progress", o);
        }
    }
    if (r)
        return r;
    o = json_object();
    svc_put_text(o, "reached", on);
    svc_put_u64(o, "lsn", end);
    return svc_emit(q, "item", o);
}
