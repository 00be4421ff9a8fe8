/* rig.c: one run: a store is made, worked on, crashed and recovered, next to the model. */
#include "tests/sim/rig.h"

#include "store/pack/history.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define START_NS 1767225600000000000ll       /* 2026-01-01 */

int rig_viol(struct rig *r, const char *fmt, ...)
{
    va_list ap;
    if (r->viol[0] != '\0')
        return -1;
    va_start(ap, fmt);
    vsnprintf(r->viol, sizeof r->viol, fmt, ap);
    va_end(ap);
    if (r->viol[0] == '\0')
        strcpy(r->viol, "?");
    return -1;
}

/* ---- opening and closing the main world ---- */

static uint64_t last_lsn(struct store *s)
{
    uint64_t lsn;
    struct hash128 h;
    log_last(store_log(s), &lsn, &h);
    return lsn;
}

/* What every open does: it ends a series that was cut off, reaps orphans, and makes all of it durable. */
void rig_opened(struct rig *r)
{
    bool orphans = false;
    uint64_t lsn = last_lsn(r->w.s);
    for (size_t k = 0; k < r->m->n_ino; k++)
        orphans |= r->m->ino[k]->a.nlink == 0;
    if (r->m->series) {
        struct mop op = { .kind = MOP_SERIES, .lsn = lsn };
        model_do(r->m, &op);
        history_add(r, &op);
    }
    if (orphans && !r->opt.keep_orphans) {
        struct mop op = { .kind = MOP_REAP, .lsn = lsn };
        model_do(r->m, &op);
        history_add(r, &op);
    }
    r->acked = r->answered = lsn;
    if (store_config_get(r->w.s, "nohistory", r->patterns, sizeof r->patterns) < 0)      /* one that was being set may be there or not */
        r->patterns[0] = '\0';
}

int rig_made(struct rig *r, const struct store_init *init)
{
    struct row_ino row;
    int rc = store_getattr(r->w.s, AT_LIVE, r->gen.root, &row, NULL);
    if (rc < 0)
        return rig_viol(r, "no root: %s", err_name(rc));
    struct mop root = { .kind = MOP_CREATE, .ino = r->gen.root, .mode = S_IFDIR | init->root_mode, .uid = init->root_uid,
                        .gid = init->root_gid, .lsn = row.created, .now_ns = r->now_ns };
    model_root(r->m, root.ino, root.mode, root.uid, root.gid, root.now_ns);
    history_add(r, &root);
    r->acked = r->answered = last_lsn(r->w.s);
    return 0;
}

int rig_live_is(struct rig *r)
{
    struct mhash got;
    int rc = oracle_digest(r, r->w.s, AT_LIVE, &got);
    if (rc != 0 || mhash_eq(got, r->m->digest))
        return rc < 0 ? rc : 0;
    rc = oracle_compare(r, r->w.s, AT_LIVE, r->m);
    return rc < 0 ? rc : rig_viol(r, "the live tree is not the model's, though its objects are");
}

/* After a crash of the main world: ${least} is the LSN that must have survived. */
static int reopen(struct rig *r, uint64_t least)
{
    struct log_recovery rec;
    struct err err = { 0 };
    r->faulty = r->full = false;
    r->w.hook.bug_calls = 0;
    simio_set_space(r->w.sim, 0);
    simio_set_wall(r->w.sim, r->now_ns);
    r->opt.keep_orphans = rng_chance(&r->rng, 25);       /* as when a worker is replaced */
    if (r->lose_index || rng_chance(&r->rng, 10))
        world_lose_index(r, &r->w);
    r->lose_index = false;
    int rc = world_open(r, &r->w, &rec, &err);
    if (rc < 0)
        return rig_viol(r, "open after a crash: %s %s", err_name(rc), err.msg);
    r->st->crashes++;
    r->st->torn += rec.torn;
    if (rec.last_lsn < least)
        return rig_viol(r, "recovered to @%" PRIu64 ", but @%" PRIu64 " must have survived", rec.last_lsn, least);
    rc = history_cut(r, rec.last_lsn);
    if (rc == 0)
        rc = oracle_recovered(r, r->w.s, rec.last_lsn, 3);
    char value[64] = "", expect[64];
    snprintf(expect, sizeof expect, "Etc/%" PRIu64, r->config);
    if (rc == 0 && r->config > 0 && (store_config_get(r->w.s, "timezone", value, sizeof value) < 0 || strcmp(value, expect) < 0))
        rc = rig_viol(r, "setting: expected %s, found %s", expect, value);
    if (rc == 0)
        rig_opened(r);
    return rc;
}

static int crash(struct rig *r, bool kill)
{
    bool failed = r->faulty;
    explore_forget(r);
    world_drop(&r->w);
    if (kill)
        simio_kill(r->w.sim);
    else
        simio_cut(r->w.sim, rng_next(&r->rng), (enum simio_cut_mode)rng_below(&r->rng, SIMIO_N_CUT_MODES));
    if (kill && failed)
        simio_evict(r->w.sim);
    uint64_t least = kill && !failed ? r->answered : r->acked;
    r->answered = least;         /* for points inside the recovery */
    return reopen(r, least);
}

static int clean_close(struct rig *r)
{
    struct err err = { 0 };
    struct store *s = r->w.s;
    bool cut = rng_chance(&r->rng, 30);
    r->w.s = NULL;
    int rc = store_close(s, &err);
    if (rc < 0 && !fault_error(r, rc))
        return rig_viol(r, "close: %s %s", err_name(rc), err.msg);
    if (explore_points(r) != 0)
        return -1;
    bool clean = rc == 0;
    if (!clean || cut)           /* after a clean close a cut takes nothing */
        simio_cut(r->w.sim, rng_next(&r->rng), (enum simio_cut_mode)rng_below(&r->rng, SIMIO_N_CUT_MODES));
    else
        simio_kill(r->w.sim);
    uint64_t least = clean ? r->answered : r->acked;
    r->acked = r->answered = least;
    return reopen(r, least);
}

/* ---- steps ---- */

/* The store stopped itself, or the machine did: nothing is acknowledged any more, recover. */
static int after_failure(struct rig *r)
{
    struct store_info info;
    if (r->w.s == NULL)
        return 0;
    store_info(r->w.s, &info);
    if (!info.failed && !simio_dead(r->w.sim))
        return 0;
    if (!r->faulty)
        return rig_viol(r, "the store failed for no reason: %s", err_name(info.failed));
    if (explore_points(r) != 0)
        return -1;
    return crash(r, rng_chance(&r->rng, simio_dead(r->w.sim) ? 25 : 50));
}

static int do_fsync(struct rig *r)
{
    uint64_t ino = rng_chance(&r->rng, 30) ? 0 : gen_ino(&r->gen, r->m, 0);
    struct wait w = { WAIT_NONE, 0 };
    const struct mino *i = ino != 0 ? model_find(r->m, ino) : NULL;
    uint64_t upto = i != NULL ? i->touched : r->answered;
    int rc = 0;
    snprintf(r->doing, sizeof r->doing, "fsync of inode %" PRIu64, ino);
    if (r->cfg->bug == BUG_ACK_EARLY || (r->cfg->bug == BUG_ACK_FILE && ino != r->changed_last)) {
        r->acked = upto > r->acked ? upto : r->acked;
        return 0;
    }
    for (int tries = 0; tries < 50; tries++) {
        rc = store_fsync(r->w.s, ino, rng_chance(&r->rng, 30) ? NULL : &w);
        if (rc != ERR_WAIT)
            break;
        rc = rng_chance(&r->rng, 50) ? store_sync(r->w.s, NULL) : store_await(r->w.s, &w);
        if (rc < 0)
            break;
    }
    if (rc < 0)
        return fault_error(r, rc) ? 0 : rig_viol(r, "fsync of inode %" PRIu64 ": %s", ino, err_name(rc));
    if (upto > r->acked)
        r->acked = upto;
    return 0;
}

static int background(struct rig *r, enum step_kind k)
{
    struct err err = { 0 };
    int rc;
    snprintf(r->doing, sizeof r->doing, "background step %d", (int)k);
    rc = k == STEP_APPLY ? store_apply(r->w.s, &err) : k == STEP_SYNC ? store_sync(r->w.s, &err) : store_flush(r->w.s, &err);
    if (rc < 0)
        return fault_error(r, rc) ? 0 : rig_viol(r, "%s: %s", err_name(rc), err.msg);
    if (k == STEP_SYNC)
        r->acked = r->answered;
    return 0;
}

static void fault(struct rig *r)
{
    static const enum simio_call kinds[] = { SIMIO_PWRITEV, SIMIO_FDATASYNC, SIMIO_FDATASYNC, SIMIO_CREATE, SIMIO_ALLOCATE, SIMIO_SYNCDIR,
                                             SIMIO_PREAD, SIMIO_MUTATING };
    unsigned k = (unsigned)rng_below(&r->rng, sizeof kinds / sizeof *kinds + 1);
    if (k == sizeof kinds / sizeof *kinds)
        kv_twin_fail_at(r->w.twin, 1 + (unsigned)rng_below(&r->rng, 4), ERR_IO);
    else
        simio_fail_at(r->w.sim, kinds[k], 1 + rng_below(&r->rng, 6), rng_chance(&r->rng, 30) ? ERR_NOSPC : ERR_IO);
    r->faulty = true;
}

static void full(struct rig *r)
{
    r->full = !r->full;
    r->faulty |= r->full;
    simio_set_space(r->w.sim, r->full ? simio_used(r->w.sim) + rng_below(&r->rng, 300000) : 0);
}

static enum step_kind some_step(struct rig *r)
{
    static const struct { enum step_kind k; unsigned w; } table[] = {
        { STEP_READ, 120 }, { STEP_APPLY, 110 }, { STEP_SYNC, 80 }, { STEP_FLUSH, 80 }, { STEP_FSYNC, 170 }, { STEP_CLOSE, 20 },
        { STEP_KILL, 25 }, { STEP_CUT, 25 }, { STEP_CRASH_IN_CALL, 30 }, { STEP_FAULT, 45 }, { STEP_FULL, 20 }, { STEP_CLOCK, 25 },
        { STEP_CONFIG, 20 }, { STEP_MOUNTED, 9 }, { STEP_BURST, 1 }, { STEP_PACK, 110 }, { STEP_RECLAIM, 90 }, { STEP_REBUILD, 20 },
    };
    unsigned n = (unsigned)rng_below(&r->rng, 1000);
    for (size_t i = 0;; i++) {
        if (n < table[i].w)
            return table[i].k;
        n -= table[i].w;
    }
}

static int config(struct rig *r)
{
    char value[64];
    struct err err = { 0 };
    snprintf(value, sizeof value, "Etc/%" PRIu64, r->config + 1);
    int rc = store_config_set(r->w.s, "timezone", value, &err);
    if (rc < 0)
        return fault_error(r, rc) ? 0 : rig_viol(r, "config: %s %s", err_name(rc), err.msg);
    r->config++;
    return 0;
}

static int patterns(struct rig *r)
{
    static const char *const values[] = { "", "n2 n4", "n[0-9] *line*", "LL* 7*", "n*" };
    const char *value = values[rng_below(&r->rng, 5)];
    struct err err = { 0 };
    int rc = store_config_set(r->w.s, "nohistory", *value != '\0' ? value : NULL, &err);
    if (rc < 0)
        return fault_error(r, rc) ? 0 : rig_viol(r, "config: %s %s", err_name(rc), err.msg);
    snprintf(r->patterns, sizeof r->patterns, "%s", value);
    return 0;
}

static int mounted(struct rig *r)
{
    struct err err = { 0 };
    int rc = store_mounted(r->w.s, rng_next(&r->rng), rng_chance(&r->rng, 50), "/mnt", &err);
    return rc == 0 || fault_error(r, rc) ? 0 : rig_viol(r, "mount record: %s %s", err_name(rc), err.msg);
}

/* So many small writes to one block that it is folded. */
static int burst(struct rig *r)
{
    uint64_t ino = gen_ino(&r->gen, r->m, S_IFREG);
    unsigned gap = r->point_gap;
    int rc = 0;
    if (ino == 0 || r->faulty)
        return 0;
    r->point_gap = gap * 300;
    for (unsigned k = 0; k < 1500 && rc == 0; k++) {
        struct mop op = { .kind = MOP_WRITE, .ino = ino, .off = k < 1200 ? k * 9 : rng_below(&r->rng, 12000),
                          .dlen = 1 + (uint32_t)rng_below(&r->rng, 9), .now_ns = r->now_ns };
        op.data = m_alloc(op.dlen);
        memset(op.data, (int)k, op.dlen);
        rc = exec_op(r, &op);
        mop_free(&op);
        if (rc == 0)
            rc = explore_points(r);
    }
    r->point_gap = gap;
    return rc;
}

static int other_step(struct rig *r)
{
    enum step_kind k = some_step(r);
    int rc;
    r->cur = MOP_N_KINDS + (int)k;
    r->st->steps[k]++;
    snprintf(r->doing, sizeof r->doing, "step %d", (int)k);
    log_zero_ahead(store_log(r->w.s));       /* what the committer does beside its syncs */
    switch (k) {
    case STEP_READ:
        rc = exec_reads(r);
        return rc < 0 ? rc : 0;
    case STEP_APPLY:
    case STEP_SYNC:
    case STEP_FLUSH: return background(r, k);
    case STEP_FSYNC: return do_fsync(r);
    case STEP_CLOSE: return clean_close(r);
    case STEP_KILL: return crash(r, true);
    case STEP_CUT: return crash(r, false);
    case STEP_CRASH_IN_CALL:
        simio_cut_at(r->w.sim, 1 + rng_below(&r->rng, 12));
        r->faulty = true;
        return 0;
    case STEP_FAULT: fault(r); return 0;
    case STEP_FULL: full(r); return 0;
    case STEP_CLOCK:
        r->now_ns += (int64_t)rng_below(&r->rng, 200000) * 1000000000 - 100000ll * 1000000000;
        return 0;
    case STEP_CONFIG: return r->gen.hides && rng_chance(&r->rng, 50) ? patterns(r) : config(r);
    case STEP_MOUNTED: return mounted(r);
    case STEP_BURST: return burst(r);
    case STEP_PACK: return rig_pack(r);
    case STEP_RECLAIM: return rig_reclaim(r);
    case STEP_REBUILD:
        r->lose_index = true;
        return rng_chance(&r->rng, 40) ? clean_close(r) : crash(r, rng_chance(&r->rng, 50));
    case STEP_MAKE:
    case STEP_N_KINDS: break;
    }
    return 0;
}

static int step(struct rig *r)
{
    int rc;
    uint64_t passed = 1 + rng_below(&r->rng, rng_chance(&r->rng, 10) ? 4000000000u : 1000000u);
    if (r->thins && rng_chance(&r->rng, 4))
        passed *= 1000;          /* so that periods end */
    r->now_ns += (int64_t)passed;
    simio_advance(r->w.sim, passed);
    simio_set_wall(r->w.sim, r->now_ns);
    r->shortened = false;
    if (rng_chance(&r->rng, 75)) {
        struct mop op;
        r->gen.now_ns = r->now_ns;
        gen_op(&r->gen, r->m, &op);
        r->cur = op.kind;
        rc = exec_op(r, &op);
        mop_free(&op);
    } else {
        rc = other_step(r);
    }
    if (rc == 0)
        rc = after_failure(r);
    if (rc == 0)
        rc = explore_points(r);
    if (rc == 0 && r->w.s != NULL && !r->faulty && rng_chance(&r->rng, 12))
        rc = rig_live_is(r);
    return rc;
}

/* ---- a run ---- */

static int start(struct rig *r)
{
    struct err err = { 0 };
    struct log_recovery rec;
    const struct store_init init = { .root_uid = 1000, .root_gid = 100, .root_mode = 0755 };
    /* a store is made with a first segment of 64 MiB: reserving it is right, but slow here, hence rare */
    static const uint64_t segments[] = { 0, 1 << 12, 1 << 13, 1 << 14, 1 << 17 };
    r->now_ns = START_NS + (int64_t)rng_below(&r->rng, 1000000000);
    simio_set_wall(r->w.sim, r->now_ns);
    const uint32_t ahead = r->seed % 3 == 0 ? 1u << (13 + r->seed % 4) : 0;
    r->opt = (struct store_options){ .writable = true, .memory_bytes = rng_chance(&r->rng, 50) ? 0 : 1 << 16,
                                     .log = { .segment_bytes = segments[rng_below(&r->rng, 5)], .preallocate = rng_chance(&r->rng, 6), .zero_ahead = ahead, .zero_after = 1 } };
    if (r->seed % 16 == 0 && explore_make(r, &init) != 0)
        return -1;
    int rc = store_create(&r->w.hook.io, NULL, &init, &err);
    if (rc < 0)
        return rig_viol(r, "create: %s %s", err_name(rc), err.msg);
    rc = world_open(r, &r->w, &rec, &err);
    if (rc < 0)
        return rig_viol(r, "first open: %s %s", err_name(rc), err.msg);
    rc = rig_made(r, &init);
    return rc == 0 && r->gen.hides && rng_chance(&r->rng, 30) ? patterns(r) : rc;
}

int rig_run(uint64_t seed, const struct sim_config *cfg, struct sim_stats *st, char *viol, size_t cap)
{
    struct rig *r = m_alloc(sizeof *r);
    r->cfg = cfg;
    r->st = st;
    r->seed = seed;
    r->thins = seed % 4 < 2;
    gen_init(&r->gen, seed);
    /* through the generator once: neighbouring seeds must not give shifted copies of one stream */
    r->rng.s = rng_next(&(struct rng){ seed ^ 0x5851f42d4c957f2dull });
    r->cut_rng.s = rng_next(&(struct rng){ seed ^ 0x14057b7ef767814full });
    r->point_gap = 2 + (unsigned)rng_below(&r->cut_rng, 8);
    unsigned shape = (unsigned)rng_below(&r->rng, 100);
    unsigned steps = shape < 75 ? 10 + (unsigned)rng_below(&r->rng, 30) : shape < 98 ? 40 + (unsigned)rng_below(&r->rng, 60)
                                                                        : 100 + (unsigned)rng_below(&r->rng, 300);
    if (cfg->steps != 0)
        steps = cfg->steps;
    r->m = model_new();
    r->w.sim = simio_new(seed);
    simio_nowait_misses(r->w.sim, (unsigned)rng_below(&r->rng, 50));
    r->w.disk = kv_twin_disk_new();
    hook_init(&r->w.hook, simio_io(r->w.sim));
    int rc = start(r);
    hook_plant(&r->w.hook, cfg->bug);    /* what was made before is sound */
    r->w.hook.before = explore_hook;
    r->w.hook.arg = r;
    r->w.hook.lies = seed % 2 == 0;
    for (r->step = 1; r->step <= steps && rc == 0; r->step++) {
        rc = step(r);
        if (cfg->verbose && r->doing[0] != '\0')
            fprintf(stderr, "%" PRIu64 ":%u %s\n", seed, r->step, r->doing);
    }
    if (rc == 0) {
        r->w.hook.before = NULL;
        r->cur = MOP_N_KINDS + STEP_CLOSE;
        snprintf(r->doing, sizeof r->doing, "the last close");
        rc = clean_close(r);
        if (rc == 0 && rng_chance(&r->cut_rng, 30))
            rc = rig_check(r, r->w.s);
        snprintf(r->doing, sizeof r->doing, "the standby");
        if (rc == 0 && r->w.s != NULL && !r->faulty)
            rc = store_whole_from(r->w.s) == LOG_FIRST_ADDR ? rig_standby(r) : 0;     /* else it takes files first: unit boot */
    }
    st->seeds++;
    if (rc != 0)
        snprintf(viol, cap, "seed %" PRIu64 " step %u: %s\n  at: %s", seed, r->step, r->viol, r->doing);
    explore_forget(r);
    world_free(&r->w);
    model_free(r->m);
    for (size_t k = 0; k < r->n_hist; k++)
        mop_free(&r->hist[k]);
    free(r->hist);
    free(r->mom);
    free(r);
    return rc;
}
