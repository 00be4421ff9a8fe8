/*
 * rig.h: a store on a simulated disk next to the model, and the oracle between them.
 *
 * A world is a disk, the index twin's disk and a store opened on both. A rig is one run: the main world, the model, and
 * the history: every operation with its LSN, and the model's digest after each.
 *
 * Oracle, after any crash: the recovered store equals the model at its last record, that record is not before the last
 * one acknowledged as durable (after a kill: answered), and every moment at or before it equals the model.
 *
 * A failed expectation is a violation: rig_viol keeps the first one, and everything returns -1 from there.
 */
#ifndef TESTS_SIM_RIG_H
#define TESTS_SIM_RIG_H

#include "store/core/store.h"
#include "tests/lib/simio.h"
#include "tests/sim/hook.h"
#include "tests/sim/model.h"
#include "tests/sim/ops.h"

struct world {
    struct simio *sim;
    struct kv_twin_disk *disk;
    struct hook hook;
    struct kv *twin;             /* of the open store */
    struct store *s;             /* NULL: not open */
};

struct moment { uint64_t lsn; struct mhash digest, past; };      /* past: without what is hidden */

/* A copy of the main world in the middle of a call, to be cut in many ways. */
struct point {
    struct simio *sim;
    struct kv_twin_disk *disk;
    uint64_t acked, answered, config;
    bool faulty;                 /* a fault was armed: what a kill leaves is not bounded by what was answered */
    int op;                      /* enum mop_kind, or enum step_kind + MOP_N_KINDS */
    enum hook_call call;
};
#define STEP_TABLE(X) X(READ) X(APPLY) X(SYNC) X(FLUSH) X(FSYNC) X(CLOSE) X(KILL) X(CUT) X(CRASH_IN_CALL) X(FAULT) X(FULL) X(CLOCK) \
                      X(CONFIG) X(MOUNTED) X(BURST) X(PACK) X(RECLAIM) X(REBUILD) X(MAKE)
enum step_kind {
#define X(name) STEP_##name,
    STEP_TABLE(X)
#undef X
    STEP_N_KINDS
};
enum { OP_KINDS = MOP_N_KINDS + STEP_N_KINDS, POINTS_MAX = 64 };

struct sim_stats {
    uint64_t seeds, ops, refused, reads, crashes, states, states_deep, moments, contents, torn, lost, twice, written_after, read_only, open_faults, folds, standby_states;
    uint64_t by_op[OP_KINDS], by_call[HOOK_N_CALLS], states_by_op[OP_KINDS], states_by_call[HOOK_N_CALLS];
    uint64_t states_by_mode[SIMIO_N_CUT_MODES + 1];     /* last: kill */
    uint64_t steps[STEP_N_KINDS], done[MOP_N_KINDS], faults_hit;
    uint64_t pack_calls, packs, packs_wide, dropped, chunks, known, deltas;      /* packs_wide: of several segments; dropped: segments */
    uint64_t pack_stopped, pack_failed, pack_again, packed_after, packing_cut, packs_standby, rebuilt, checks, shipped_old;
    uint64_t xdev, hidden_made, hidden_moved, shown_moved, hidden_looks;     /* refused for it; made hidden, hidden and shown again by a new name; found absent in the past */
    uint64_t reclaims, reclaim_stopped, reclaim_failed, reclaimed_after, rows_gone, packs_anew, bases, unlisted, packed_needed;
};

struct sim_config {
    unsigned steps;              /* of a run; 0: chosen by the seed */
    unsigned cuts;               /* of each point */
    bool verbose;
    enum bug bug;
};

struct rig {
    const struct sim_config *cfg;
    struct sim_stats *st;
    uint64_t seed;
    unsigned step;
    struct world w;
    struct store_options opt;
    struct gen gen;
    struct rng rng;              /* what is done around the operations */
    struct rng cut_rng;          /* which calls become points, how they are cut: changes nothing in the run itself */
    struct model *m;
    int64_t now_ns;
    struct mop *hist; size_t n_hist, cap_hist;
    bool shortened;              /* this step's recovery took operations out of the history that copies taken in it may hold */
    struct moment *mom; size_t n_mom, cap_mom;
    uint64_t acked;              /* everything at or below this LSN was acknowledged as durable */
    uint64_t answered;           /* LSN of the last answered operation */
    bool faulty;                 /* a fault is armed: operations may fail with IO, NOSPC, POISONED */
    bool full;                   /* the disk is small */
    bool lose_index;             /* the next open finds none */
    bool thins;                  /* its policies let go of moments; else all is kept */
    uint64_t config;             /* the value last set, and answered */
    char patterns[64];           /* the setting nohistory of the open store */
    int  cur;                    /* what is being done now, for points */
    struct point point[POINTS_MAX]; unsigned n_point, point_gap;
    uint64_t changed_last;       /* inode changed by the last operation (ACK_FILE) */
    char viol[1500];             /* "" : none */
    char doing[700];
};

/* rig.c: one run. rig_run: 0, or -1 with r->viol set. */
int rig_run(uint64_t seed, const struct sim_config *cfg, struct sim_stats *st, char *viol, size_t cap);
int rig_viol(struct rig *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* world.c */
int world_open(struct rig *r, struct world *w, struct log_recovery *rec, struct err *err);
void world_drop(struct world *w);             /* as a crash of the process */
void world_free(struct world *w);
/* world_lose_index(r, w): not open: its index is gone, and is made anew from archive and log when it is opened. */
void world_lose_index(struct rig *r, struct world *w);

/* exec.c: one operation on the store and the model. history_cut: forget what comes after ${lsn}. history_add: see there. */
int exec_op(struct rig *r, struct mop *op);
int exec_reads(struct rig *r);
int history_cut(struct rig *r, uint64_t lsn);
void history_add(struct rig *r, struct mop *op);
/* history_model: the model after everything at or below ${lsn}. Free it. */
struct model *history_model(const struct rig *r, uint64_t lsn);
const struct moment *history_at(const struct rig *r, uint64_t lsn);
bool fault_error(const struct rig *r, int64_t rc);

/* rig_made: a store just made with ${init}, and opened: its root becomes model and history. rig_opened: what every open after a crash does becomes part of model and history. rig_live_is: the live tree is the model's. */
int rig_made(struct rig *r, const struct store_init *init);
void rig_opened(struct rig *r);
int rig_live_is(struct rig *r);

/* oracle.c */
int oracle_digest(struct rig *r, struct store *s, uint64_t at, struct mhash *out);
int oracle_compare(struct rig *r, struct store *s, uint64_t at, const struct model *m);
int oracle_object(struct rig *r, struct store *s, uint64_t at, const struct model *m, const struct mino *i);
/* oracle_recovered: ${s} was recovered up to ${lsn}: live tree, every moment by digest, ${contents} of them by content. */
int oracle_recovered(struct rig *r, struct store *s, uint64_t lsn, unsigned contents);

/*
 * packing.c. pack_some(st, rng, s, err): packs, all of it, or some of the steps; 0, also when it was stopped as it should be; else as packer_step.
 * rig_pack: one step of the main run. pack_recovered: a copy that was recovered to ${lsn} packs all there is. rig_check: a store's own check finds nothing.
 */
int pack_some(struct sim_stats *st, struct rng *rng, struct store *s, struct err *err);
int rig_pack(struct rig *r);
int pack_recovered(struct rig *r, struct world *w, uint64_t lsn);
int rig_check(struct rig *r, struct store *s);
/* rig_trouble(r): perhaps something goes wrong in what comes now. */
void rig_trouble(struct rig *r);

/* thinning.c. rig_reclaim: one step of the main run: perhaps another policy, then reclaim. reclaim_recovered: in a copy that was recovered to ${lsn}. */
int rig_reclaim(struct rig *r);
int reclaim_recovered(struct rig *r, struct world *w, uint64_t lsn);

/* follow.c: the log of the run's store, which is open, to a standby; then that is promoted. */
int rig_standby(struct rig *r);

/* explore.c. last_operation(s, last): the newest record at or below the one at ${last} that is an operation. */
uint64_t last_operation(struct store *s, uint64_t last);
void explore_hook(void *arg, enum hook_call call);
int explore_points(struct rig *r);
/* explore_make: cuts while the store is being made: it is there whole, or it is no store. */
int explore_make(struct rig *r, const struct store_init *init);
void explore_forget(struct rig *r);

#endif
