/*
 * explore.c: crash states. The main world is copied in the middle of its calls; each copy is cut in several ways and
 * recovered, while the main run goes on as if nothing had been.
 */
#include "tests/sim/rig.h"

#include "store/pack/history.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void explore_hook(void *arg, enum hook_call call)
{
    struct rig *r = arg;
    unsigned gap = r->cur == MOP_N_KINDS + STEP_PACK ? 4 * r->point_gap : r->point_gap;       /* it has many calls */
    if (r->n_point == POINTS_MAX || r->point_gap == 0 || rng_below(&r->cut_rng, gap) != 0)
        return;
    struct point *p = &r->point[r->n_point++];
    *p = (struct point){ .sim = simio_clone(r->w.sim), .disk = kv_twin_disk_clone(r->w.disk), .acked = r->acked,
                         
                         .answered = r->answered, .config = r->config, .faulty = r->faulty, .op = r->cur, .call = call };
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
    return rc != 0 ? (int)rc : mhash_eq(got, history_at(r, lsn)->past) ? 0
           : rig_viol(r, "the moment @%" PRIu64 " changed after a second crash", lsn);
}

/*
 * The last record that is an operation: what an open appends by itself says nothing of the tree, and a recovery that was
 * cut off may have put it where, in the main run, an operation is that this state lost.
 */
uint64_t last_operation(struct store *s, uint64_t lsn)
{
    for (;;) {
        struct record rec;
        void *buf = NULL;
        int rc = history_record(store_history(s), lsn, &rec, &buf, NULL);
        bool marker = rc == 0 && rec.prev_lsn != 0 &&
                      (rec.type == REC_INCARNATION || rec.type == REC_REAP || rec.type == REC_SERIES_END || rec.type == REC_MOUNT);
        free(buf);
        if (!marker)
            return lsn;
        lsn = rec.prev_lsn;
    }
}

/* The last operation of the history at or below ${lsn} that is no marker. */
static uint64_t operation_at(const struct rig *r, uint64_t lsn)
{
    size_t k = r->n_hist;
    while (k > 1 && (r->hist[k - 1].lsn > lsn || r->hist[k - 1].kind == MOP_REAP || r->hist[k - 1].kind == MOP_SERIES))
        k--;
    return r->hist[k - 1].lsn;
}

/* A record that the main run lost, and that its history has no more: nothing to compare with. */
static bool beyond(const struct rig *r, uint64_t lsn)
{
    return r->shortened && lsn > r->hist[r->n_hist - 1].lsn;
}

/* What must have survived has. *${lsn}: up to where the recovered store is this history. */
static int bounds(struct rig *r, struct store *s, uint64_t last, uint64_t least, bool once, const char *why, uint64_t *lsn)
{
    *lsn = last_operation(s, last);
    if ((once && last < least) || operation_at(r, *lsn) < operation_at(r, least))
        return rig_viol(r, "recovered to @%" PRIu64 " (operation @%" PRIu64 "), but @%" PRIu64 " was %s", last, *lsn, least, why);
    return 0;
}

/* A recovery that does not get to its end: cut off, or met by an error. What it leaves must be as good as before. */
static int first_try(struct rig *r, struct world *w)
{
    static const enum simio_call kinds[] = { SIMIO_PWRITEV, SIMIO_FDATASYNC, SIMIO_PREAD, SIMIO_CREATE, SIMIO_RENAME, SIMIO_SYNCDIR,
                                             SIMIO_OPEN, SIMIO_FTRUNCATE, SIMIO_UNLINK, SIMIO_ANY };
    struct log_recovery rec;
    struct err err = { 0 };
    bool fault = rng_chance(&r->cut_rng, 40);
    if (fault)
        simio_fail_at(w->sim, kinds[rng_below(&r->cut_rng, sizeof kinds / sizeof *kinds)], 1 + rng_below(&r->cut_rng, 8),
                      rng_chance(&r->cut_rng, 25) ? ERR_NOSPC : ERR_IO);
    else
        simio_cut_at(w->sim, 1 + rng_below(&r->cut_rng, 20));
    int rc = world_open(r, w, &rec, &err);
    if (fault)
        r->st->open_faults += rc < 0;
    else
        r->st->twice += simio_dead(w->sim);
    if (rc < 0 && !fault && !simio_dead(w->sim))
        return rig_viol(r, "open: %s %s", err_name(rc), err.msg);
    world_drop(w);
    if (fault && rng_chance(&r->cut_rng, 50)) {
        simio_kill(w->sim);
        simio_evict(w->sim);
    } else {
        simio_cut(w->sim, rng_next(&r->cut_rng), SIMIO_CUT_RANDOM);
    }
    return 0;
}

/* A store that was recovered, and is cut off once more while it packs: what was found under its name may not have been durable. */
static int cut_packing(struct rig *r, struct world *w)
{
    struct log_recovery rec;
    struct err err = { 0 };
    int rc = world_open(r, w, &rec, &err);
    if (rc < 0)
        return rig_viol(r, "open: %s %s", err_name(rc), err.msg);
    simio_cut_at(w->sim, 1 + rng_below(&r->cut_rng, 80));
    r->st->packing_cut++;
    rc = pack_some(r->st, &r->cut_rng, w->s, &err);
    if (rc < 0 && !simio_dead(w->sim))
        return rig_viol(r, "packing a recovered store: %s %s", err_name(rc), err.msg);
    world_drop(w);
    if (rng_below(&r->cut_rng, 4) == 0)
        simio_kill(w->sim);
    else
        simio_cut(w->sim, rng_next(&r->cut_rng), (enum simio_cut_mode)rng_below(&r->cut_rng, SIMIO_N_CUT_MODES));
    return 0;
}

/* Opened for reading only, the same is there, and not a byte changes. */
static int read_only(struct rig *r, struct world *w, const struct point *p)
{
    struct store_options opt = r->opt;
    struct log_recovery rec;
    struct err err = { 0 };
    struct io_file *lock = NULL;         /* the lock file may be made; it says nothing */
    uint64_t lsn, before, mutations;
    if (io_lock(simio_io(w->sim), "lock", &lock, &err) >= 0)
        io_close(lock);
    before = simio_digest(w->sim);
    mutations = simio_mutations(w->sim);
    r->st->read_only++;
    r->opt.writable = false;
    int rc = world_open(r, w, &rec, &err);
    r->opt = opt;
    if (rc < 0)
        return rig_viol(r, "open for reading: %s %s", err_name(rc), err.msg);
    if (bounds(r, w->s, rec.last_lsn, p->acked, true, "acknowledged (read-only)", &lsn) != 0)
        return -1;
    rc = beyond(r, lsn) ? 0 : oracle_recovered(r, w->s, lsn, 0);
    world_drop(w);
    if (rc == 0 && (simio_digest(w->sim) != before || simio_mutations(w->sim) > mutations + 1))
        return rig_viol(r, "an open for reading changed the store");
    simio_kill(w->sim);
    return rc;
}

static int config_is(struct rig *r, struct store *s, uint64_t least)
{
    char buf[64] = "";
    uint64_t v = 0;
    int rc = store_config_get(s, "timezone", buf, sizeof buf);
    if (rc < 0 || (sscanf(buf, "Etc/%" SCNu64, &v) != 1 && least > 0) || v < least)
        return rig_viol(r, "setting: expected Etc/%" PRIu64 " or later, found %s (%s)", least, buf, err_name(rc));
    return 0;
}

/* One state. kill: the process alone dies. twice: the first recovery does not get to its end. */
static int state(struct rig *r, struct world *w, const struct point *p, bool kill, bool twice)
{
    struct log_recovery rec;
    struct err err = { 0 };
    if (rng_below(&r->cut_rng, 8) == 0)
        world_lose_index(r, w);
    int rc = twice ? first_try(r, w) : rng_below(&r->cut_rng, 12) == 0 ? read_only(r, w, p) : 0;
    if (rc != 0)
        return rc;
    bool packing = p->op == MOP_N_KINDS + STEP_PACK;
    if (rng_below(&r->cut_rng, packing && kill ? 2 : packing ? 6 : 40) == 0) {
        rc = cut_packing(r, w);
        twice = true;
    }
    if (rc != 0)
        return rc;
    memset(&err, 0, sizeof err);
    rc = world_open(r, w, &rec, &err);
    if (rc < 0)
        return rig_viol(r, "open: %s %s", err_name(rc), err.msg);
    r->st->torn += rec.torn;
    uint64_t least = kill && !p->faulty && !twice ? p->answered : p->acked;
    uint64_t lsn;
    if (bounds(r, w->s, rec.last_lsn, least, !twice, kill ? "answered" : "acknowledged", &lsn) != 0)
        return -1;
    if (rec.damaged)
        return rig_viol(r, "damage found where there is none: %s", rec.damage.msg);
    r->st->states_deep++;
    if (beyond(r, lsn))
        return 0;
    rc = oracle_recovered(r, w->s, lsn, 10);
    if (rc == 0)
        rc = config_is(r, w->s, p->config);
    if (rc == 0 && rng_below(&r->cut_rng, 16) == 0)
        rc = pack_recovered(r, w, lsn);
    if (rc == 0 && rng_chance(&r->cut_rng, 12))
        rc = reclaim_recovered(r, w, lsn);
    if (rc == 0 && rng_below(&r->cut_rng, 8) == 0)
        rc = write_after(r, w, lsn);
    return rc;
}

static int explore(struct rig *r, const struct point *p)
{
    static const char *const mode_name[] = { "drop all", "keep all", "prefix", "random", "kill" };
    int rc = 0;
    for (unsigned c = 0; c < r->cfg->cuts && rc == 0; c++) {
        uint64_t seed = rng_next(&r->cut_rng);
        unsigned mode = (unsigned)(rng_chance(&r->cut_rng, 55) ? SIMIO_CUT_RANDOM : rng_below(&r->cut_rng, SIMIO_N_CUT_MODES + 1));
        bool kill = mode == SIMIO_N_CUT_MODES;
        struct world w = { .sim = simio_clone(p->sim), .disk = kv_twin_disk_clone(p->disk) };
        hook_init(&w.hook, simio_io(w.sim));
        hook_plant(&w.hook, r->cfg->bug);
        w.hook.lies = r->w.hook.lies;
        simio_set_space(w.sim, 0);       /* what a full disk refuses is no violation */
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
    for (unsigned k = 0; k < r->n_point && rc == 0; k++)
        rc = explore(r, &r->point[k]);
    explore_forget(r);
    return rc;
}

/* ---- making a store ---- */

static int made_or_not(struct rig *r, const struct point *p)
{
    struct world w = { .sim = simio_clone(p->sim), .disk = kv_twin_disk_new() };
    struct log_recovery rec;
    struct err err = { 0 };
    struct row_ino row;
    hook_init(&w.hook, simio_io(w.sim));
    simio_cut(w.sim, rng_next(&r->cut_rng), (enum simio_cut_mode)rng_below(&r->cut_rng, SIMIO_N_CUT_MODES));
    int rc = world_open(r, &w, &rec, &err);
    if (rc == 0)
        rc = store_getattr(w.s, AT_LIVE, r->gen.root, &row, NULL) == 0 ? 0 : rig_viol(r, "a new store without a root");
    else
        rc = rc == ERR_NOSTORE || rc == ERR_DAMAGE ? 0       /* DAMAGE: the first superblock was being written */
             : rig_viol(r, "a store that was not made to its end: expected NOSTORE or DAMAGE, found %s %s", err_name(rc), err.msg);
    world_free(&w);
    r->st->states++;
    r->st->states_by_op[p->op]++;
    r->st->states_by_call[p->call]++;
    return rc;
}

int explore_make(struct rig *r, const struct store_init *init)
{
    struct rig *other = m_alloc(sizeof *other);       /* a store beside the one of the run */
    struct err err = { 0 };
    other->st = r->st;
    other->cfg = r->cfg;
    other->cut_rng = r->cut_rng;
    other->point_gap = 4;
    other->cur = MOP_N_KINDS + STEP_MAKE;
    other->w.sim = simio_new(r->seed);
    other->w.disk = kv_twin_disk_new();
    hook_init(&other->w.hook, simio_io(other->w.sim));
    other->w.hook.before = explore_hook;
    other->w.hook.arg = other;
    int rc = store_create(&other->w.hook.io, NULL, init, &err);
    if (rc < 0)
        rc = rig_viol(r, "create: %s %s", err_name(rc), err.msg);
    for (unsigned k = 0; k < other->n_point && rc == 0; k++)
        for (unsigned c = 0; c < r->cfg->cuts && rc == 0; c++)
            rc = made_or_not(r, &other->point[k]);
    explore_forget(other);
    world_free(&other->w);
    free(other);
    return rc;
}
