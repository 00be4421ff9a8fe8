/* svc_retain.c: the request "retain": what is kept, why, and what goes when; also under a policy that is only being thought about. */
#include "store/svc/svc_internal.h"

#include "store/core/moment.h"
#include "store/core/retain.h"
#include "store/index/sweep.h"
#include "store/maint/reclaim.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static int asked_to_stop(void *arg)
{
    return ((struct svc_req *)arg)->stopped;
}

/* The policy of the settings, with what the request sets instead. */
static int policy_of(struct svc_req *q, struct policy *p, struct err *err)
{
    json_t *set = json_object_get(q->args, "policy");
    const char *name;
    json_t *v;
    char norm[64];

    policy_read(q->s, p);
    if (!set || json_is_null(set))
        return 0;
    if (!json_is_object(set))
        return err_set(err, ERR_USAGE, "policy: expected names and values");
    json_object_foreach(set, name, v) {
        int r = !json_is_string(v) ? ERR_NOENT : policy_check(name, json_string_value(v), norm, sizeof norm, err);

        if (r == 0)
            r = policy_put(p, name, norm, err);
        if (r < 0)
            return r == ERR_NOENT ? err_set(err, ERR_USAGE, "%.64s: expected a setting of retention: keep-all, keep-hourly, ..., min-age, reclaim-grace", name) : r;
    }
    return 0;
}

static int emit_point(struct svc_req *q, const struct retain_plan *p, const struct retain_item *t)
{
    json_t *o = json_object(), *why = json_array();
    bool stays = t->lsn >= p->next.listed || (t->reasons & ~(unsigned)BY_GRACE) != 0;
    int64_t wall;

    for (int k = 0; k < N_PERIODS; k++)
        if (t->reasons & 1u << k)
            json_array_append_new(why, json_string(period_setting((enum period_kind)k)));
    if (t->reasons & BY_SNAPSHOT)
        json_array_append_new(why, json_string("snapshot"));
    if (t->reasons & BY_HOLD)
        json_array_append_new(why, json_string("hold"));
    if (t->reasons & BY_USE)
        json_array_append_new(why, json_string("in use"));
    if (t->reasons & BY_OTHER)
        json_array_append_new(why, json_string("pin"));
    if ((t->reasons & BY_AGE) || t->lsn >= p->next.listed)
        json_array_append_new(why, json_string("keep-all"));
    svc_put_text(o, "kind", "moment");
    svc_put_u64(o, "lsn", t->lsn);
    if (moment_wall(q->s, t->lsn, &wall, NULL) == 0)
        svc_put_time(o, "time", wall);
    svc_put_text(o, "state", stays ? "kept" : (t->reasons & BY_GRACE) ? "leaving" : "goes");
    json_object_set_new(o, "listed", json_boolean(t->listed));
    json_object_set_new(o, "reasons", why);
    if (!stays && (t->reasons & BY_GRACE))
        json_object_set_new(o, "leaves_in_seconds", json_real(t->leaves_age_ns > p->age_ns ? (double)(t->leaves_age_ns - p->age_ns) / 1e9 : 0));
    return svc_emit(q, "item", o);
}

/* What the packs need once all that is on its way out is gone. */
static int measure(struct svc_req *q, const struct retain_plan *p, struct reclaim_sizes *sizes, struct err *err)
{
    const struct reclaim_options opt = { .stop = asked_to_stop, .arg = q };
    uint64_t *v = malloc((p->next.n + (size_t)1) * sizeof *v);
    struct keep keep = { p->next.listed, v, 0 };
    int r;

    if (v == NULL)
        return err_set(err, ERR_NOMEM, "retain: out of memory");
    for (uint32_t i = 0; i < p->next.n; i++)
        if (p->next.point[i].kind != RETAIN_KEPT || p->next.point[i].until_ns == 0)
            v[keep.n++] = p->next.point[i].lsn;
    r = reclaim_measure(q->s, &keep, &opt, sizes, err);
    free(v);
    return r;
}

static void put_moment(struct svc_req *q, json_t *o, const char *lsn_key, const char *time_key, uint64_t lsn)
{
    int64_t wall;

    svc_put_u64(o, lsn_key, lsn);
    if (lsn > 0 && moment_wall(q->s, lsn, &wall, NULL) == 0)
        svc_put_time(o, time_key, wall);
}

int svc_op_retain(struct svc_req *q, struct err *err)
{
    struct retain_plan p;
    struct policy policy;
    struct reclaim_sizes sizes = { 0 };
    bool measures = false;
    json_t *o;
    int r = policy_of(q, &policy, err);

    if (r == 0)
        r = svc_arg_bool(q, "measure", &measures, err);
    if (r == 0)
        r = retain_plan(q->s, &policy, false, &p, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < p.n && r == 0; i++)
        r = emit_point(q, &p, &p.v[i]);
    if (r == 0 && measures)
        r = measure(q, &p, &sizes, err);
    if (r == 0) {
        o = json_object();
        svc_put_text(o, "kind", "set");
        put_moment(q, o, "all_from_lsn", "all_from", p.next.listed);
        put_moment(q, o, "whole_from_lsn", "whole_from", p.horizon);
        svc_put_u64(o, "points", p.next.n);
        json_object_set_new(o, "age_seconds", json_real((double)p.age_ns / 1e9));
        if (p.held_by > 0)
            svc_put_u64(o, "held_by_standby_lsn", p.held_by);
        if (measures) {
            svc_put_u64(o, "packs_bytes", sizes.stored);
            svc_put_u64(o, "would_free_bytes", sizes.stored > sizes.needed ? sizes.stored - sizes.needed : 0);
        }
        r = svc_emit(q, "item", o);
    }
    retain_plan_free(&p);
    return r;
}
