/* svc_standby.c: the requests that list, add and remove standbys, and how far each is behind. */
#include "store/core/standby.h"
#include "store/pack/history.h"
#include "store/svc/svc_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int svc_target(const struct svc_req *q, char *out, struct err *err)
{
    char *t = NULL;
    int r = svc_arg_path(q, "target", &t, err);

    if (r == 0 && (!t || !*t || strlen(t) > STANDBY_TARGET_MAX))
        r = err_set(err, ERR_USAGE, "expected a directory or HOST:STORE of at most %d bytes as target", STANDBY_TARGET_MAX);
    for (const char *p = t; r == 0 && *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            r = err_set(err, ERR_USAGE, "target: expected a name without control characters");
    if (r == 0)
        snprintf(out, STANDBY_TARGET_MAX + 1, "%s", t);
    free(t);
    return r;
}

int svc_op_standby(struct svc_req *q, struct err *err)
{
    struct standby b = { 0 };
    const char *action;
    int r = svc_arg_text(q, "action", &action, err);

    if (r == 0)
        r = svc_target(q, b.target, err);
    if (r)
        return r;
    if (action && strcmp(action, "add") == 0)
        return standby_find(q->s, b.target) >= 0 ? 0 : standby_note(q->s, &b, err);
    if (action && strcmp(action, "remove") == 0)
        return standby_forget(q->s, b.target, err);
    return err_set(err, ERR_USAGE, "standby: expected add or remove");
}

/* How far a standby is behind: by what it acknowledged as durable, never by what was sent. */
struct lag { uint64_t bytes, ops; bool more_ops, unknown; double seconds; };
enum { OPS_MAX = 200000 };

static void measure(struct store *s, uint64_t acked, struct lag *lag)
{
    struct history_iter *it = NULL;
    struct record rec;
    uint64_t head = log_written(store_log(s));

    memset(lag, 0, sizeof *lag);
    if (acked >= head)
        return;
    lag->bytes = head - acked;
    lag->unknown = true;
    if (history_iter_new(store_history(s), acked, head, &it, NULL) < 0)
        return;
    while (lag->ops < OPS_MAX && history_next(it, &rec, NULL, NULL) == 1) {
        if (lag->ops++ == 0)
            lag->seconds = (double)(io_wall_ns(store_io(s)) - rec.wall_ns) / 1e9;
    }
    lag->unknown = lag->ops == 0;        /* the log does not give it: that is not "nothing" */
    lag->more_ops = lag->ops == OPS_MAX;
    if (lag->seconds < 0)
        lag->seconds = 0;                /* a clock went back */
    history_iter_free(it);
}

static bool live_link(const struct svc_req *q, const char *target, struct link_info *info)
{
    for (unsigned i = 0; q->env->links && i < LINKS_MAX; i++)
        if (link_table_get(q->env->links, i, info) && info->sends && info->live && strcmp(info->name, target) == 0)
            return true;
    return false;
}

const char *svc_standby_state(const struct svc_req *q, json_t *list, double *rpo_s)
{
    static const uint8_t never[16];
    const char *best = "Local only";
    struct standby b;

    *rpo_s = -1;
    for (unsigned i = 0; i < STANDBYS_MAX; i++) {
        struct link_info info = { 0 };
        const char *state;
        struct lag lag;
        json_t *o;
        bool live;

        if (!standby_get(q->s, i, &b))
            continue;
        live = live_link(q, b.target, &info);
        if (live && info.durable > 0) {
            b.acked = info.durable;
            b.heard_s = info.heard_wall_ns / 1000000000;
        }
        measure(q->s, b.acked > 0 ? b.acked : history_first(store_history(q->s)), &lag);
        state = memcmp(b.site, never, 16) == 0 && !live ? "Local only" : !live ? "Standby away" : info.stalled || lag.unknown ? "RPO not met"
              : lag.seconds > 10 ? (info.applied == 0 ? "Bootstrapping" : "Catching up") : "Protected";
        o = json_object();
        svc_put_text(o, "target", b.target);
        svc_put_hex(o, "site", b.site, sizeof b.site);
        svc_put_text(o, "state", state);
        json_object_set_new(o, "connected", json_boolean(live));
        json_object_set_new(o, "stalled", json_boolean(live && info.stalled));
        svc_put_u64(o, "durable_lsn", b.acked);
        if (live)
            svc_put_u64(o, "applied_lsn", info.applied);
        svc_put_u64(o, "lag_bytes", lag.bytes);
        svc_put_u64(o, "lag_operations", lag.ops);
        json_object_set_new(o, "lag_operations_at_least", json_boolean(lag.more_ops));
        json_object_set_new(o, "lag_seconds", lag.unknown ? json_null() : json_real(lag.seconds));
        if (b.heard_s)
            svc_put_time(o, "heard", b.heard_s * 1000000000);
        json_array_append_new(list, o);
        if (lag.unknown || (memcmp(b.site, never, 16) == 0 && b.acked == 0))
            continue;
        if (*rpo_s < 0 || lag.seconds < *rpo_s) {
            *rpo_s = lag.seconds;
            best = state;
        }
    }
    return best;
}
