/*
 * packing.c: what is old leaves the log for packs and archive, whole or in part, and is stopped, cut off or refused at any call; and stores whose index is
 * gone. Nothing of it may be seen: neither in the tree nor in any moment.
 */
#include "tests/sim/rig.h"

#include "store/maint/packer.h"
#include "store/maint/upkeep.h"
#include "store/svc/svc.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { BORDERS = 512 };

struct packing {
    struct sim_stats *st;
    uint64_t border[BORDERS];            /* where segments ended before */
    size_t n;
    int asks, steps;                     /* stopped when asked so often, ended after so many steps; < 0: never */
    bool ended;
};

static int border(void *arg, const struct log_segment_info *s)
{
    struct packing *p = arg;
    if (p->n < BORDERS)
        p->border[p->n++] = s->end;
    return 0;
}

static size_t borders(const struct packing *p, uint64_t after, uint64_t upto)
{
    size_t n = 0;
    for (size_t k = 0; k < p->n; k++)
        n += p->border[k] > after && p->border[k] <= upto;
    return n;
}

static int stop(void *arg)
{
    struct packing *p = arg;
    p->ended |= p->asks >= 0 && p->asks-- == 0;
    return p->ended;
}

static int packed(void *arg, const struct packer_result *res)
{
    struct packing *p = arg;
    p->st->packs++;
    p->st->packs_wide += borders(p, res->first, res->end) > 1;
    p->st->chunks += res->chunks;
    p->st->known += res->known;
    p->st->deltas += res->deltas;
    p->ended |= p->steps >= 0 && p->steps-- == 0;
    return p->ended ? ERR_BUSY : 0;
}

/* Some of what upkeep_pack does, in its order. */
static int parts(struct packing *p, struct rng *rng, struct store *s, struct err *err)
{
    struct packer_options opt = { .stop = stop, .arg = p };
    struct packer_result res;
    int rc = rng_chance(rng, 70) ? store_sync(s, err) : 0;
    if (rc == 0 && rng_chance(rng, 60))
        rc = store_roll(s, err);
    if (rc == 0 && rng_chance(rng, 50))
        rc = store_sync(s, err);
    if (rc == 0 && rng_chance(rng, 70))
        rc = store_flush(s, err);
    uint64_t first = log_first(store_log(s)), upto = log_head(store_log(s));
    if (rng_chance(rng, 30))
        upto = first + rng_below(rng, upto - first + 1);
    for (uint64_t n = 1 + rng_below(rng, 3); n > 0 && rc == 0; n--) {
        rc = packer_step(s, &opt, upto, &res, err);
        if (rc <= 0)
            break;
        rc = packed(p, &res);
    }
    return rc;
}

int pack_some(struct sim_stats *st, struct rng *rng, struct store *s, struct err *err)
{
    struct packing p = { .st = st, .asks = rng_chance(rng, 10) ? (int)rng_below(rng, 12) : -1, .steps = rng_chance(rng, 10) ? (int)rng_below(rng, 2) : -1 };
    uint64_t first = log_first(store_log(s));
    (void)log_segments(store_log(s), border, &p);
    st->pack_calls++;
    int rc = rng_chance(rng, 65) ? upkeep_pack(s, NULL, stop, &p, packed, err) : parts(&p, rng, s, err);
    st->dropped += borders(&p, first, log_first(store_log(s)));
    if (rc == ERR_BUSY && p.ended) {
        st->pack_stopped++;
        return 0;
    }
    return rc;
}

/* ---- the main run ---- */

void rig_trouble(struct rig *r)
{
    static const enum simio_call kinds[] = { SIMIO_PWRITEV, SIMIO_FDATASYNC, SIMIO_CREATE, SIMIO_SYNCDIR, SIMIO_RENAME, SIMIO_UNLINK, SIMIO_PREAD,
                                             SIMIO_MKDIR, SIMIO_OPEN, SIMIO_LIST, SIMIO_MUTATING, SIMIO_ANY };
    unsigned n = (unsigned)rng_below(&r->rng, 100);
    if (n < 20)
        simio_cut_at(r->w.sim, 1 + rng_below(&r->rng, 60));
    else if (n < 35)
        simio_fail_at(r->w.sim, kinds[rng_below(&r->rng, sizeof kinds / sizeof *kinds)], 1 + rng_below(&r->rng, 12), rng_chance(&r->rng, 30) ? ERR_NOSPC : ERR_IO);
    else if (n < 38)
        kv_twin_fail_at(r->w.twin, 1 + (unsigned)rng_below(&r->rng, 4), ERR_IO);
    else
        return;
    r->faulty = true;
}

/* A step that failed is done again, once what it met is over. */
static int again(struct rig *r)
{
    struct store_info info;
    struct err err = { 0 };
    store_info(r->w.s, &info);
    if (info.failed || simio_dead(r->w.sim) || r->full)
        return 0;
    simio_fail_clear(r->w.sim);
    int rc = upkeep_pack(r->w.s, NULL, NULL, NULL, NULL, &err);
    store_info(r->w.s, &info);
    if (info.failed || simio_dead(r->w.sim))     /* it met another one that was armed */
        return 0;
    r->st->pack_again++;
    return rc < 0 ? rig_viol(r, "packing, after one that failed: %s %s", err_name(rc), err.msg) : oracle_recovered(r, r->w.s, r->answered, 1);
}

int rig_pack(struct rig *r)
{
    struct err err = { 0 };
    snprintf(r->doing, sizeof r->doing, "packing");
    if (!r->faulty)
        rig_trouble(r);
    int rc = pack_some(r->st, &r->rng, r->w.s, &err);
    if (rc < 0 && !fault_error(r, rc))
        return rig_viol(r, "packing: %s %s", err_name(rc), err.msg);
    if (rc < 0) {
        r->st->pack_failed++;
        return rng_chance(&r->rng, 60) ? again(r) : 0;
    }
    if (log_durable(store_log(r->w.s)) > r->answered)
        r->acked = r->answered;
    if (r->faulty)
        return 0;
    rc = rng_chance(&r->rng, 40) ? oracle_recovered(r, r->w.s, r->answered, 2) : 0;
    return rc == 0 && rng_chance(&r->rng, 20) ? rig_check(r, r->w.s) : rc;
}

/* ---- a store's own check ---- */

struct finding { char text[600]; bool torn; };

static int found(void *arg, const char *type, const json_t *item, const void *bin, size_t len)
{
    struct finding *f = arg;
    const char *kind = item != NULL ? json_string_value(json_object_get(item, "kind")) : NULL;
    const char *text = item != NULL ? json_string_value(json_object_get(item, "message")) : NULL;
    (void)type; (void)bin; (void)len;
    if (kind == NULL || strcmp(kind, "finding") != 0)
        return 0;
    if (text != NULL && strncmp(text, "retained.", 9) == 0)
        f->torn = true;          /* a write of that copy was cut off: reported until the next one, and no damage (FORMAT.md, "Two copies") */
    else if (f->text[0] == '\0')
        snprintf(f->text, sizeof f->text, "%s", text != NULL ? text : "?");
    return 0;
}

int rig_check(struct rig *r, struct store *s)
{
    const struct svc_env env = { .s = s };
    const struct caller who = { 0 };
    struct finding f = { .text = "" };
    struct err err = { 0 };
    json_t *req = json_pack("{s:s, s:b}", "op", "check", "read_data", 1);
    int rc = svc_call(&env, &who, req, NULL, found, &f, &err);
    json_decref(req);
    r->st->checks++;
    if (rc == ERR_DAMAGE && f.torn && f.text[0] == '\0')
        rc = 0;
    return rc < 0 || f.text[0] != '\0' ? rig_viol(r, "check: %s %s: %s", err_name(rc), err.msg, f.text) : 0;
}

/* ---- a store that was recovered ---- */

int pack_recovered(struct rig *r, struct world *w, uint64_t lsn)
{
    struct log_recovery rec;
    struct err err = { 0 };
    int rc = upkeep_pack(w->s, NULL, NULL, NULL, NULL, &err);
    r->st->packed_after++;
    if (rc < 0)
        return rig_viol(r, "packing a recovered store: %s %s", err_name(rc), err.msg);
    if (log_first(store_log(w->s)) != log_head(store_log(w->s)))
        return rig_viol(r, "packing all there is left @%" PRIu64 " to @%" PRIu64 " in the log", log_first(store_log(w->s)), log_head(store_log(w->s)));
    rc = oracle_recovered(r, w->s, lsn, 1);
    if (rc != 0 || rng_chance(&r->cut_rng, 50))
        return rc;
    world_drop(w);
    simio_cut(w->sim, rng_next(&r->cut_rng), (enum simio_cut_mode)rng_below(&r->cut_rng, SIMIO_N_CUT_MODES));
    if (rng_chance(&r->cut_rng, 50))
        world_lose_index(r, w);
    rc = world_open(r, w, &rec, &err);
    if (rc < 0)
        return rig_viol(r, "open after packing: %s %s", err_name(rc), err.msg);
    rc = oracle_recovered(r, w->s, lsn, 1);
    return rc == 0 && rng_chance(&r->cut_rng, 20) ? rig_check(r, w->s) : rc;
}
