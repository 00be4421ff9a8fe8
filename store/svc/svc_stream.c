/* svc_stream.c: requests that run a stream to another site (ship, receive), and the one that waits for a standby. */
#include "store/svc/svc_internal.h"

#include "store/core/role.h"
#include "store/core/standby.h"
#include "store/sync/replicate.h"

#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void item_of(const struct link_info *i, json_t *o)
{
    svc_put_hex(o, "site", i->site, sizeof i->site);
    svc_put_u64(o, "sent_lsn", i->sent);
    svc_put_u64(o, "received_lsn", i->received);
    svc_put_u64(o, "durable_lsn", i->durable);
    svc_put_u64(o, "applied_lsn", i->applied);
}

static void progress(void *arg, const struct link_info *i, uint64_t durable)
{
    struct svc_req *q = arg;
    json_t *o = json_object();

    svc_put_text(o, "what", "shipping");
    svc_put_u64(o, "done_bytes", i->durable);
    svc_put_u64(o, "total_bytes", durable);
    json_object_set_new(o, "agreed", json_boolean(i->agreed));
    json_object_set_new(o, "stalled", json_boolean(i->stalled));
    (void)svc_emit(q, "progress", o);
}

int svc_op_ship(struct svc_req *q, struct err *err)
{
    struct link_ship_options opt = { .progress = progress, .arg = q };
    struct standby b = { 0 };
    struct link_info i = { 0 };
    bool make;
    json_t *o;
    int at, r;

    if (!q->stream || !q->env->links)
        return err_set(err, ERR_USAGE, "ship: expected two descriptors with the request");
    if ((r = svc_target(q, b.target, err)) || (r = svc_arg_bool(q, "follow", &opt.follow, err)) || (r = svc_arg_bool(q, "make", &make, err)) ||
        (r = svc_arg_bool(q, "probe", &opt.probe, err)) || (r = svc_arg_bool(q, "compress", &opt.compress, err)) || (r = svc_sync(q, err)))
        return r;
    at = standby_find(q->s, b.target);
    if (at == STANDBY_FROM)
        return err_set(err, ERR_USAGE, "%s: expected a standby, found what this store itself fetches from", b.target);
    if (at >= 0)
        (void)standby_get(q->s, (unsigned)at, &b);
    opt.limit = opt.compress;            /* over ssh both */
    opt.stop = q->stream->stop;
    replicate_claim(q->env->replicate, b.target);
    r = link_ship_standby(q->s, q->env->links, &b, make, q->stream->in, q->stream->out, opt, &i, err);
    replicate_release(q->env->replicate, b.target);
    if (r)
        return r;
    o = json_object();
    svc_put_text(o, "target", b.target);
    item_of(&i, o);
    return svc_emit(q, "item", o);
}

/* ---- what a mount does by itself ---- */

enum { HOLD_MS = 15000, SYNC_POLL_MS = 20, SYNC_SAY_MS = 200 };

/* What the stream to that target says; false: there is none just now, or the two have not agreed. */
static bool agreed_link(const struct svc_req *q, const char *target, bool sends, struct link_info *out)
{
    struct link_info i;

    for (unsigned k = 0; q->env->links && k < LINKS_MAX; k++)
        if (link_table_get(q->env->links, k, &i) && i.sends == sends && i.live && i.agreed && strcmp(i.name, target) == 0) {
            *out = i;
            return true;
        }
    return false;
}

/* With the way there as it was told before. */
static int say_by_mount(struct svc_req *q, const struct standby *b, bool by_mount, const struct link_info *i)
{
    json_t *o = json_object();

    svc_put_text(o, "target", b->target);
    json_object_set_new(o, "by_mount", json_boolean(by_mount));
    svc_put_text(o, "ssh", b->ssh[0] ? b->ssh : NULL);
    svc_put_text(o, "remote", b->remote[0] ? b->remote : NULL);
    if (i)
        item_of(i, o);
    return svc_emit(q, "item", o);
}

/* What a watched stream is to reach. Of what comes here the other side has the last word, and says it each second: then it is known. */
static bool known_end(const struct standby *b, const struct link_info *i, uint64_t waited_ms, uint64_t *end)
{
    if (b->from && *end == 0 && waited_ms > SYNC_BEAT_MS + SYNC_SAY_MS)
        *end = i->peer_durable;
    return *end > 0;
}

/* The stream there is (or comes, tried at once) is watched until what is durable now is durable there; or on and on. */
static int watch(struct svc_req *q, const struct standby *b, bool follow, struct err *err)
{
    struct link_info i = { .live = false };
    struct replicate_state st;
    uint64_t end = b->from ? 0 : log_durable(store_log(q->s)), waited = 0;
    unsigned failed = 0;
    int r = 0;

    if (replicate_get(q->env->replicate, b->target, &st))
        failed = st.failed;
    replicate_now(q->env->replicate, b->target);
    while (r == 0) {
        struct pollfd p = { .fd = -1 };
        bool there = agreed_link(q, b->target, !b->from, &i);

        if (there && known_end(b, &i, waited, &end) && !follow && i.durable >= end)
            return say_by_mount(q, b, true, &i);
        if (!replicate_get(q->env->replicate, b->target, &st))
            return err_set(err, ERR_NOENT, "%s: removed from the standbys meanwhile", b->target);
        if (!there && !follow && st.failed != failed && st.why.code != 0) {
            *err = st.why;
            return err->code;
        }
        if (waited % SYNC_SAY_MS == 0 && there)
            progress(q, &i, b->from ? i.peer_durable : log_durable(store_log(q->s)));
        else if (waited % SYNC_SAY_MS == 0)
            r = svc_emit(q, "progress", json_pack("{s:s}", "what", "waiting for the other side"));
        waited += SYNC_POLL_MS;
        (void)poll(&p, 1, SYNC_POLL_MS);
        r = r ? r : q->stopped;
    }
    return r;
}

/* "sync": whether the mount ships to that target (or fetches from there) by itself; then it waits for that. "hold": it shall not, for the stream that comes now. */
int svc_op_sync(struct svc_req *q, struct err *err)
{
    struct standby b = { 0 };
    struct replicate_state st;
    struct epoch_row by;
    bool follow, hold, by_mount;
    char target[STANDBY_TARGET_MAX + 1];
    int at, r;

    if ((r = svc_target(q, target, err)) || (r = svc_arg_bool(q, "follow", &follow, err)) || (r = svc_arg_bool(q, "hold", &hold, err)) || (r = svc_sync(q, err)))
        return r;
    if (store_fenced_by(q->s, &by) && store_role(q->s) == ROLE_FENCED)
        return err_set(err, ERR_FENCED, "%s: another site is the primary since epoch %u: nothing is shipped from here; `spare demote` makes this one its standby, `spare promote` takes over again",
                       store_dir(q->s), by.number);
    at = standby_find(q->s, target);
    if (at >= 0)
        (void)standby_get(q->s, (unsigned)at, &b);
    snprintf(b.target, sizeof b.target, "%s", target);
    by_mount = !hold && (b.ships || b.from) && !b.paused && replicate_get(q->env->replicate, target, &st);
    if (by_mount)
        return watch(q, &b, follow, err);
    replicate_hold(q->env->replicate, target, HOLD_MS);
    return say_by_mount(q, &b, false, NULL);
}

static void receiving(void *arg, const struct link_info *i)
{
    progress(arg, i, i->peer_durable);
}

int svc_op_receive(struct svc_req *q, struct err *err)
{
    struct link_receive_options opt = { 0 };
    struct store_info info;
    const char *source;
    struct link_info i = { 0 };
    json_t *o;
    int r = svc_arg_text(q, "source", &source, err);

    if (r == 0)
        r = svc_arg_bool(q, "once", &opt.once, err);
    if (r == 0)
        r = svc_arg_bool(q, "probe", &opt.probe, err);
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
    opt.progress = receiving;
    opt.arg = q;
    replicate_claim(q->env->replicate, source ? source : "");
    r = link_receive(q->s, q->env->links, q->stream->in, q->stream->out, &opt, &i, err);
    replicate_release(q->env->replicate, source ? source : "");
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
            return err_set(err, ERR_AWAY, "%s: no standby is connected; `spare status` says why not; `spare standby add` adds one", on);
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
