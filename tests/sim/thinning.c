/*
 * thinning.c: a policy lets go of moments, and reclaim of what they alone needed; stopped, cut off or refused at any call. What is still listed is what it was,
 * and so is the present. Half of all seeds keep everything: there nothing may be let go of.
 */
#include "tests/sim/rig.h"

#include "store/core/retain.h"
#include "store/maint/reclaim.h"
#include "store/maint/upkeep.h"

#include <inttypes.h>
#include <stdio.h>

struct thinning { int asks; bool ended; };

static int stop(void *arg)
{
    struct thinning *t = arg;
    t->ended |= t->asks >= 0 && t->asks-- == 0;
    return t->ended;
}

static int set(struct rig *r, const char *name, const char *value)
{
    struct err err = { 0 };
    int rc = store_config_set(r->w.s, name, value, &err);
    return rc == 0 || fault_error(r, rc) ? rc : rig_viol(r, "config %s=%s: %s %s", name, value, err_name(rc), err.msg);
}

/* 0, a failure that was armed, or -1 with a violation. */
static int policy(struct rig *r)
{
    static const char *const all[] = { "0", "0", "1s", "10s", "60s", "1h" }, *const grace[] = { "0", "0", "1s", "1h" };
    char n[16];
    int rc = set(r, "min-age", "0");
    if (rc == 0)
        rc = set(r, "keep-all", all[rng_below(&r->rng, 6)]);
    if (rc == 0)
        rc = set(r, "reclaim-grace", grace[rng_below(&r->rng, 4)]);
    for (int k = 0; k < N_PERIODS && rc == 0; k++) {
        snprintf(n, sizeof n, "%" PRIu64, rng_below(&r->rng, 4));
        rc = set(r, period_setting((enum period_kind)k), n);
    }
    return rc;
}

static uint64_t listed_from(struct store *s)
{
    struct retain_plan p;
    uint64_t lsn = 0;
    if (retain_plan(s, NULL, false, &p, NULL) == 0) {
        lsn = p.listed;
        retain_plan_free(&p);
    }
    return lsn;
}

/* ${again}: what it met is over. */
static int once(struct rig *r, bool again)
{
    struct thinning t = { .asks = !again && rng_chance(&r->rng, 15) ? (int)rng_below(&r->rng, 12) : -1 };
    struct reclaim_options opt = { .now = rng_chance(&r->rng, 50), .sweep = rng_chance(&r->rng, 30), .base = rng_chance(&r->rng, 40), .stop = stop, .arg = &t };
    struct reclaim_result res = { 0 };
    struct err err = { 0 };
    int rc = 0;
    if (rng_chance(&r->rng, 40)) {       /* as where space is short: what nobody needs is not packed */
        opt.needed = upkeep_needed(r->w.s);
        opt.sweep = true;
    }
    rc = reclaim(r->w.s, &opt, &res, &err);
    if (rc == 0 && opt.needed != NULL) {
        rc = upkeep_pack(r->w.s, opt.needed, stop, &t, NULL, &err);
        r->st->packed_needed++;
    }
    needed_free(opt.needed);
    r->st->reclaims++;
    r->st->rows_gone += res.rows_gone;
    r->st->packs_anew += res.packs;
    r->st->bases += res.base_bytes > 0;
    if (rc == ERR_BUSY && t.ended) {
        r->st->reclaim_stopped++;
        return 0;
    }
    if (rc < 0 && (again || !fault_error(r, rc)))
        return rig_viol(r, "reclaim%s: %s %s", again ? ", after one that failed" : "", err_name(rc), err.msg);
    r->st->reclaim_failed += rc < 0;
    return rc < 0 ? 1 : 0;
}

int rig_reclaim(struct rig *r)
{
    struct store_info info;
    int rc;
    snprintf(r->doing, sizeof r->doing, "reclaim");
    if (r->thins && rng_chance(&r->rng, 60) && (rc = policy(r)) != 0)
        return r->viol[0] != '\0' ? -1 : 0;
    if (!r->faulty)
        rig_trouble(r);
    rc = once(r, false);
    if (rc < 0)
        return -1;
    store_info(r->w.s, &info);
    if (rc == 1 && !info.failed && !simio_dead(r->w.sim) && !r->full && rng_chance(&r->rng, 60)) {
        simio_fail_clear(r->w.sim);
        rc = once(r, true);
        store_info(r->w.s, &info);
        if (rc < 0 && (info.failed || simio_dead(r->w.sim))) {       /* it met another one that was armed */
            r->viol[0] = '\0';
            return 0;
        }
        if (rc < 0)
            return -1;
    }
    if (info.failed || simio_dead(r->w.sim))
        return 0;
    if (log_durable(store_log(r->w.s)) > r->answered)
        r->acked = r->answered;
    if (!r->thins && listed_from(r->w.s) > LOG_FIRST_ADDR)
        return rig_viol(r, "reclaim: under a policy that keeps all, moments before @%" PRIu64 " are not listed", listed_from(r->w.s));
    if (r->faulty)
        return 0;
    rc = rng_chance(&r->rng, 60) ? oracle_recovered(r, r->w.s, r->answered, 2) : 0;
    return rc == 0 && rng_chance(&r->rng, 30) ? rig_check(r, r->w.s) : rc;
}

int reclaim_recovered(struct rig *r, struct world *w, uint64_t lsn)
{
    const struct reclaim_options opt = { .now = rng_chance(&r->cut_rng, 50), .sweep = true, .base = rng_chance(&r->cut_rng, 50) };
    struct err err = { 0 };
    int rc = reclaim(w->s, &opt, NULL, &err);
    r->st->reclaimed_after++;
    if (rc < 0)
        return rig_viol(r, "reclaim in a recovered store: %s %s", err_name(rc), err.msg);
    return oracle_recovered(r, w->s, lsn, 1);
}
