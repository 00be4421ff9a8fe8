/*
 * explore.c: crash states. The main world is copied in the middle of its calls; each copy is cut in several ways and
 * recovered, while the main run goes on as if nothing had been.
 */
#include "tests/sim/rig.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void explore_hook(void *arg, enum hook_call call)
{
    struct rig *r = arg;
    if (r->n_point == POINTS_MAX || r->point_gap == 0 || rng_below(&r->cut_rng, r->point_gap) != 0)
        return;
    struct point *p = &r->point[r->n_point++];
    *p = (struct point){ .sim = simio_clone(r->w.sim), .disk = kv_twin_disk_clone(r->w.disk), .acked = r->acked,
                         .answered = r->answered, .faulty = r->faulty, .op = r->cur, .call = call };
    r->st->by_op[p->op]++;
    r->st->by_call[call]++;
}

static void forget(struct point *p)
{
    simio_free(p->sim);
    kv_twin_disk_free(p->disk);
}

void explore_forget(struct rig *r)
{
    while (r->n_point > 0)
        forget(&r->point[--r->n_point]);
}

static uint64_t last_issued(const struct rig *r) { return r->n_hist > 0 ? r->hist[r->n_hist - 1].lsn : 0; }

/* A store that was recovered takes new work, and that survives a cut like any other. */
static int write_after(struct rig *r, struct world *w, uint64_t lsn)
{
    struct caller c = { 0 };
    struct row_ino row;
    struct wait none = { WAIT_NONE, 0 };
    struct log_recovery rec;
    struct err err = { 0 };
    struct mhash got;
    uint64_t ino = 0, found = 0;
    char data[300];
    memset(data, 'w', sizeof data);
    r->st->written_after++;
    int64_t rc = store_create_node(w->s, &c, r->gen.root, "after the crash", 15, 0100600, 0, NULL, &ino, &row, NULL);
    if (rc == 0)
        rc = store_write(w->s, &c, ino, 0, data, sizeof data, NULL);
    if (rc >= 0)
        rc = store_fsync(w->s, ino, &none);
    if (rc == ERR_WAIT)
        rc = store_sync(w->s, &err);
    if (rc < 0)
        return rig_viol(r, "a recovered store refuses work: %s %s", err_name((int)rc), err.msg);
    world_drop(w);
    simio_cut(w->sim, rng_next(&r->cut_rng), (enum simio_cut_mode)rng_below(&r->cut_rng, SIMIO_N_CUT_MODES));
    rc = world_open(r, w, &rec, &err);
    if (rc < 0)
        return rig_viol(r, "second open: %s %s", err_name((int)rc), err.msg);
    rc = store_lookup(w->s, AT_LIVE, r->gen.root, "after the crash", 15, &found, &row, NULL);
    if (rc < 0 || found != ino || row.size != sizeof data)
        return rig_viol(r, "what was fsynced after a recovery to @%" PRIu64 " is gone: %s", lsn, err_name((int)rc));
    rc = oracle_digest(r, w->s, lsn, &got);
    return rc != 0 ? (int)rc : mhash_eq(got, history_at(r, lsn)->digest) ? 0
           : rig_viol(r, "the moment @%" PRIu64 " changed after a second crash", lsn);
}

/* One state. kill: the process alone dies. twice: recovery is cut off in the middle too. */
static int state(struct rig *r, struct world *w, const struct point *p, bool kill, bool twice)
{
    struct log_recovery rec;
    struct err err = { 0 };
    int rc;
    if (twice) {
        simio_cut_at(w->sim, 1 + rng_below(&r->cut_rng, 20));
        rc = world_open(r, w, &rec, &err);
        bool died = simio_dead(w->sim);
        if (rc < 0 && !died)
            return rig_viol(r, "open: %s %s", err_name(rc), err.msg);
        if (died)
            r->st->twice++;
        if (rc == 0 && rec.last_lsn < p->acked)
            return rig_viol(r, "recovered to @%" PRIu64 ", @%" PRIu64 " was acknowledged", rec.last_lsn, p->acked);
        world_drop(w);
        simio_cut(w->sim, rng_next(&r->cut_rng), SIMIO_CUT_RANDOM);
    }
    memset(&err, 0, sizeof err);
    rc = world_open(r, w, &rec, &err);
    if (rc < 0)
        return rig_viol(r, "open: %s %s", err_name(rc), err.msg);
    r->st->torn += rec.torn;
    uint64_t least = kill && !p->faulty && !twice ? p->answered : p->acked;
    if (rec.last_lsn < least)
        return rig_viol(r, "recovered to @%" PRIu64 ", but @%" PRIu64 " was %s", rec.last_lsn, least, kill ? "answered" : "acknowledged");
    if (rec.damaged)
        return rig_viol(r, "damage found where there is none: %s", rec.damage.msg);
    r->st->states_deep++;
    rc = oracle_recovered(r, w->s, rec.last_lsn, 10);
    if (rc == 0 && rng_below(&r->cut_rng, 8) == 0)
        rc = write_after(r, w, rec.last_lsn);
    return rc;
}

static int explore(struct rig *r, const struct point *p, bool last)
{
    static const char *const mode_name[] = { "drop all", "keep all", "prefix", "random", "kill" };
    int rc = 0;
    (void)last;
    for (unsigned c = 0; c < r->cfg->cuts && rc == 0; c++) {
        uint64_t seed = rng_next(&r->cut_rng);
        unsigned mode = (unsigned)(rng_chance(&r->cut_rng, 55) ? SIMIO_CUT_RANDOM : rng_below(&r->cut_rng, SIMIO_N_CUT_MODES + 1));
        bool kill = mode == SIMIO_N_CUT_MODES;
        struct world w = { .sim = simio_clone(p->sim), .disk = kv_twin_disk_clone(p->disk) };
        hook_init(&w.hook, simio_io(w.sim), r->cfg->bug);
        if (kill)
            simio_kill(w.sim);
        else
            simio_cut(w.sim, seed, (enum simio_cut_mode)mode);
        rc = state(r, &w, p, kill, rng_below(&r->cut_rng, 6) == 0);
        world_free(&w);
        r->st->states++;
        r->st->states_by_op[p->op]++;
        r->st->states_by_call[p->call]++;
        r->st->states_by_mode[mode]++;
        if (rc != 0) {
            size_t n = strlen(r->viol);
            snprintf(r->viol + n, sizeof r->viol - n, "\n  crash state: before %s, cut %s; acknowledged @%" PRIu64 ", answered @%" PRIu64
                     ", issued @%" PRIu64, hook_name(p->call), mode_name[mode], p->acked, p->answered, last_issued(r));
        }
    }
    return rc;
}

int explore_points(struct rig *r)
{
    int rc = 0;
    /* What is explored must not leave its own points; it has its own hooks, without any. */
    for (unsigned k = 0; k < r->n_point && rc == 0; k++)
        rc = explore(r, &r->point[k], k + 1 == r->n_point);
    explore_forget(r);
    return rc;
}
