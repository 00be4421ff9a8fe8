/* svc_role.c: the request that changes who may append: promoted, demoted, handed over to a standby; and the one that lets go of a branch. */
#include "store/svc/svc_internal.h"

#include "store/core/lease.h"
#include "store/core/role.h"
#include "store/core/standby.h"
#include "store/svc/server.h"
#include "store/sync/replicate.h"

#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    NEAR_MS       = 100,        /* a standby that acknowledges within this what there is: changes need not wait long for it */
    POLL_MS       = 2,          /* changes wait meanwhile */
    SAY_MS        = 100,        /* whoever asked may have gone */
    STREAM_END_MS = 20000,      /* a stream into this store is told to end: it finishes a batch, and syncs */
    HOLD_MS       = 5000,       /* changes wait for the standby at most so long */
    TIMEOUT_MS    = 30000,
};

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void pause_ms(int ms)
{
    (void)poll(NULL, 0, ms);
}

/* What it is now, and what its mount lets through; of a promotion to a moment, what was restored. */
static int tell(struct svc_req *q, const struct restore_stats *st)
{
    char options[SVC_MOUNT_OPTIONS_MAX] = "";
    struct store_info info;
    struct err why = { 0 };
    bool fits = q->env->fit == NULL || q->env->fit(q->env->counters_arg, options, sizeof options, &why);
    json_t *o = json_object();

    store_info(q->s, &info);
    svc_put_text(o, "role", role_name(store_role(q->s)));
    svc_put_u64(o, "epoch", info.epoch);
    svc_put_u64(o, "epochs_left", super_epochs_left(info.n_epochs));
    svc_put_u64(o, "lsn", info.durable);
    svc_put_text(o, "mounted_at", q->env->mount_dir);
    json_object_set_new(o, "mount_fits", json_boolean(fits));
    svc_put_u64(o, "promote_unfinished_at_lsn", store_promote_unfinished(q->s));
    if (st)
        svc_put_restored(o, st);
    if (options[0])
        wire_set_bytes(o, "mount_options", options, strlen(options));
    if (!fits)
        wire_set_bytes(o, "mount_why", why.msg, strlen(why.msg));
    return svc_emit(q, "item", o);
}

/* ---- promote ---- */

static bool receiving(const struct svc_req *q)
{
    struct link_info i;

    for (unsigned k = 0; q->env->links && k < LINKS_MAX; k++)
        if (link_table_get(q->env->links, k, &i) && !i.sends && i.live)
            return true;
    return false;
}

/* The stream into it ends first, in order, with a reason: what it was sent is durable, and the sender will find out. */
static int end_stream(struct svc_req *q, struct err *err)
{
    uint64_t until = now_ms() + STREAM_END_MS;
    struct standby from;

    if (q->env->replicate && standby_get(q->s, STANDBY_FROM, &from))
        replicate_hold(q->env->replicate, from.target, STREAM_END_MS);       /* it fetches */
    while (receiving(q)) {
        if (now_ms() >= until)
            return err_set(err, ERR_BUSY, "%s: expected the stream into it to end, found it busy; end it at the other side, and promote again", store_dir(q->s));
        pause_ms(POLL_MS);
    }
    return 0;
}

struct waiting { struct svc_req *q; uint64_t said_ms; };

/* Whoever asked may have gone: then it is not promoted. */
static bool still_wanted(void *arg, uint64_t left_ms)
{
    struct waiting *w = arg;
    json_t *o;

    if (now_ms() < w->said_ms + SAY_MS)
        return true;
    w->said_ms = now_ms();
    o = json_object();
    svc_put_text(o, "what", "waiting for the end of the lease");
    svc_put_u64(o, "left_ms", left_ms);
    return svc_emit(w->q, "progress", o) == 0;
}

static int promote(struct svc_req *q, struct err *err)
{
    struct waiting w = { .q = q };
    struct svc_restoring says = { .q = q };
    struct restore_stats st = { 0 };
    const char *reason;
    uint64_t at = 0;
    bool unfenced = false;
    int r = svc_arg_text(q, "reason", &reason, err);

    if (r == 0)
        r = svc_arg_bool(q, "unfenced", &unfenced, err);
    if (r == 0)
        r = svc_arg_at(q, "at", 0, &at, err);    /* before anything is changed */
    if (r)
        return r;
    if (q->env->yield) {
        *q->env->yield = SIGTERM;
        return err_set(err, ERR_BUSY, "%s: a stream runs into it, and ends now", store_dir(q->s));
    }
    if (q->env->end_receive)
        *q->env->end_receive = 1;
    r = end_stream(q, err);
    reason = reason ? reason : "promoted";
    if (r == 0)
        r = store_lease_await(q->s, unfenced, still_wanted, &w, err);
    if (r == 0) {
        r = at ? store_promote_at(q->s, q->who, at, reason, q->env->mount_dir != NULL, svc_restoring, &says, &st, err)
               : store_promote(q->s, reason, q->env->mount_dir != NULL, err);
        if (r)
            store_lease_resume(q->s);
    }
    if (q->env->end_receive)
        *q->env->end_receive = 0;
    return r ? r : tell(q, at ? &st : NULL);
}

/* ---- hand over ---- */

struct handing { struct svc_req *q; const char *target; uint64_t until_ms, say_ms; };

/* That standby has everything below ${end}, durably, and every look there sees it. */
static bool has_all(const struct handing *h, uint64_t end, bool *live)
{
    struct link_info i;

    *live = false;
    for (unsigned k = 0; h->q->env->links && k < LINKS_MAX; k++)
        if (link_table_get(h->q->env->links, k, &i) && i.sends && i.live && strcmp(i.name, h->target) == 0) {
            *live = true;
            return i.agreed && i.durable >= end && i.applied >= end;
        }
    return false;
}

/* Until the standby has everything below ${end}. */
static int await_target(struct handing *h, uint64_t end, struct err *err)
{
    bool live;
    json_t *o;
    int r = 0;

    while (r == 0 && !has_all(h, end, &live)) {
        uint64_t now = now_ms();

        if (!live)
            return err_set(err, ERR_AWAY, "%s: no stream to it is under way", h->target);
        if (now >= h->until_ms)
            return err_set(err, ERR_AWAY, "%s: it has not acknowledged everything up to @%" PRIu64 " in time", h->target, end);
        if (now >= h->say_ms) {
            h->say_ms = now + SAY_MS;
            o = json_object();
            svc_put_text(o, "what", "handing over");
            r = svc_emit(h->q, "progress", o);
        }
        pause_ms(POLL_MS);
    }
    return r;
}

/* All there is, which a request that was under way may still add to. */
static int await_all(struct handing *h, struct err *err)
{
    struct log *log = store_log(h->q->s);
    uint64_t end;
    int r;

    do {
        end = log_head(log);
        r = store_sync(h->q->s, err);
        if (r == 0)
            r = await_target(h, end, err);
    } while (r == 0 && log_head(log) != end);
    return r;
}

/* While changes go on; as long as that helps. Where they come as fast as they can be shipped, half of the time is enough for trying. */
static int come_near(struct handing *h, struct err *err)
{
    uint64_t begun = now_ms(), enough = begun + (h->until_ms - begun) / 2, at;
    int r;

    do {
        at = now_ms();
        r = store_sync(h->q->s, err);
        if (r == 0)
            r = await_target(h, log_durable(store_log(h->q->s)), err);
    } while (r == 0 && now_ms() - at > NEAR_MS && now_ms() < enough);
    return r;
}

/* Nobody else would know that its tree is not the one that was asked for. */
static int whole_tree(struct svc_req *q, struct err *err)
{
    uint64_t at = store_promote_unfinished(q->s);

    return at == 0 ? 0 : err_set(err, ERR_BUSY, "%s: its tree is not yet the one of @%" PRIu64 "; first `spare promote --at @%" PRIu64 "` goes on with it", store_dir(q->s), at, at);
}

/*
 * Three times the standby is waited for: with changes going on, so that it is near; with changes held, so that it has all; and once nothing is accepted any more, for
 * what a request that had begun before still wrote. Whatever fails before the last lets the work go on here.
 */
static int hand_over(struct svc_req *q, struct err *err)
{
    char target[STANDBY_TARGET_MAX + 1];
    struct handing h = { .q = q, .target = target };
    uint64_t timeout, begun = now_ms(), held;
    struct err why = { 0 };
    json_t *o;
    int r = svc_target(q, target, err);

    if (r == 0)
        r = svc_arg_u64(q, "timeout_ms", TIMEOUT_MS, &timeout, err);
    if (r == 0 && store_role(q->s) != ROLE_PRIMARY)
        r = err_set(err, ERR_FENCED, "%s: expected the primary, found a store that is %s", store_dir(q->s), role_name(store_role(q->s)));
    h.until_ms = begun + timeout;
    if (r == 0)
        r = store_may_hand_over(q->s, err);
    if (r == 0)
        r = come_near(&h, err);
    if (r == 0)
        r = store_hold(q->s, err);
    if (r)
        return r;
    held = now_ms();
    if (h.until_ms > held + HOLD_MS)
        h.until_ms = held + HOLD_MS;
    r = whole_tree(q, err);
    if (r == 0)
        r = await_all(&h, err);
    if (r == 0)
        r = store_demote(q->s, err);
    if (r) {
        store_unhold(q->s);
        return r;
    }
    h.until_ms = now_ms() + HOLD_MS;
    (void)await_all(&h, &why);           /* what is missing is said, and is all here */
    o = json_object();
    svc_put_text(o, "role", role_name(store_role(q->s)));
    svc_put_text(o, "target", target);
    svc_put_u64(o, "lsn", log_head(store_log(q->s)));
    svc_put_u64(o, "held_ms", now_ms() - held);
    json_object_set_new(o, "complete", json_boolean(why.code == 0));
    if (why.code != 0)
        wire_set_bytes(o, "missing", why.msg, strlen(why.msg));
    if (q->env->fit)
        (void)q->env->fit(q->env->counters_arg, NULL, 0, NULL);
    return svc_emit(q, "item", o);
}

int svc_op_leave_branch(struct svc_req *q, struct err *err)
{
    char *name = NULL;
    int r = svc_arg_path(q, "name", &name, err);

    if (r == 0 && !name)
        r = err_set(err, ERR_USAGE, "leave_branch: expected the name of a branch");
    if (r == 0 && q->env->leave_branch)
        r = q->env->leave_branch(q->env->counters_arg, name, err);
    free(name);
    return r;
}

int svc_op_role(struct svc_req *q, struct err *err)
{
    const char *action;
    bool hands_over = false;
    int r = svc_arg_text(q, "action", &action, err);

    if (r)
        return r;
    if (action && strcmp(action, "promote") == 0)
        return promote(q, err);
    if (action && strcmp(action, "hand_over") == 0)
        return hand_over(q, err);
    if (action && strcmp(action, "demote") == 0)
        r = svc_arg_bool(q, "hands_over", &hands_over, err);
    if (r == 0 && hands_over)
        r = store_may_hand_over(q->s, err);
    if (r)
        return r;
    if (action && strcmp(action, "demote") == 0)
        r = store_demote(q->s, err);
    else if (action && strcmp(action, "commit") == 0)
        r = store_commit(q->s, err);
    else if (!action || strcmp(action, "show") != 0)
        return err_set(err, ERR_USAGE, "role: expected promote, commit, demote, hand_over or show");
    return r ? r : tell(q, NULL);
}
