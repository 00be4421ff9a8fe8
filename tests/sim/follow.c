/*
 * follow.c: at the end of a run its log goes to a standby on a disk of its own, in pieces, while the power is cut there at any call, the
 * process dies, the disk fills up and bytes change on the way. After each of it the standby is the primary at its last record, live tree and
 * every moment, and what it had synced is there; at the end it is promoted, and is the primary.
 */
#include "tests/sim/rig.h"

#include "store/log/frame.h"
#include "store/maint/upkeep.h"
#include "store/pack/history.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE_MAX = 1 << 22, CUTS_MAX = 12 };

struct standby {
    struct rig *r;
    struct world w;
    struct rng *rng;
    uint8_t *piece;
    size_t len;
    uint64_t piece_end;
    uint64_t synced;             /* end of what it said is durable */
    unsigned cuts;
};

static int fits(struct standby *b)
{
    struct rig *r = b->r;
    struct store *a = r->w.s;
    struct record mine, theirs;
    struct err err = { 0 };
    struct hash128 hash;
    void *buf = NULL;
    uint64_t last;
    int rc;
    log_last(store_log(b->w.s), &last, &hash);
    if (log_head(store_log(b->w.s)) < b->synced)
        return rig_viol(r, "standby: it ends @%" PRIu64 ", @%" PRIu64 " was durable", log_head(store_log(b->w.s)), b->synced);
    if (last == 0)
        return log_head(store_log(b->w.s)) == LOG_FIRST_ADDR ? 0 : rig_viol(r, "standby: no last record, though it ends @%" PRIu64, log_head(store_log(b->w.s)));
    rc = history_record(store_history(a), last, &theirs, &buf, &err);
    free(buf);
    if (rc < 0 || !hash128_eq(&theirs.hash, &hash))
        return rig_viol(r, "standby: its last record @%" PRIu64 " is not the primary's %s", last, err.msg);
    rc = last >= log_first(store_log(b->w.s)) ? log_read_record(store_log(b->w.s), last, true, &mine, &buf, &err)
                                              : history_record(store_history(b->w.s), last, &mine, &buf, &err);
    free(buf);
    if (rc < 0)
        return rig_viol(r, "standby: its last record @%" PRIu64 ": %s", last, err.msg);
    last = last_operation(b->w.s, last);
    return last < r->hist[0].lsn ? 0 : oracle_recovered(r, b->w.s, last, b->cuts % 4 == 0 ? 2 : 0);     /* before the root there is nothing */
}

static int open_standby(struct standby *b)
{
    struct log_recovery rec;
    struct err err = { 0 };
    int rc = world_open(b->r, &b->w, &rec, &err);
    if (rc < 0)
        return rig_viol(b->r, "standby: open: %s %s", err_name(rc), err.msg);
    if (rec.damaged)
        return rig_viol(b->r, "standby: damage found where there is none: %s", rec.damage.msg);
    b->r->st->standby_states++;
    return fits(b);
}

/* The next records behind what the standby holds. */
static int load(struct standby *b)
{
    struct rig *r = b->r;
    struct log *log = store_log(r->w.s);
    struct log_iter *it = NULL;
    struct history_iter *old = NULL;
    const uint8_t *head = NULL;
    struct record rec;
    struct err err = { 0 };
    unsigned n = 1 + (unsigned)rng_below(b->rng, 40);
    uint64_t from = log_head(store_log(b->w.s));
    bool of_log = from >= log_first(log) && rng_chance(b->rng, 50);      /* else put together of archive, packs and log */
    int rc = of_log ? log_iter_new(log, from, log_durable(log), LOG_ITER_DATA, &it, &err)
                    : history_iter_new(store_history(r->w.s), from, log_durable(log), &old, &err);
    b->len = 0;
    while (rc == 0 && n-- > 0 && (of_log ? log_iter_next(it, &rec, &err) : history_next(old, &rec, &head, &err)) == 1) {
        size_t len = (size_t)rec.head_len + rec.data_len;
        if (b->len + len > PIECE_MAX)
            break;
        memcpy(b->piece + b->len, of_log ? log_iter_raw(it) + FRAME_BYTES : head, of_log ? len : rec.head_len);
        if (!of_log && rec.data_len > 0)
            rc = store_read_data(r->w.s, rec.lsn, record_dstart(rec.head_len), 0, rec.data_len, b->piece + b->len + rec.head_len, false, &err);
        r->st->shipped_old += rec.lsn < log_first(log);
        b->len += len;
        b->piece_end = rec.lsn + frame_span((uint32_t)len);
    }
    log_iter_free(it);
    history_iter_free(old);
    if (err.code != 0)
        return rig_viol(r, "standby: reading the primary's log: %s", err.msg);
    return b->len > 0 || from >= log_durable(log) ? 0 : rig_viol(r, "standby: the primary has no record @%" PRIu64 ", though it is durable up to @%" PRIu64, from, log_durable(log));
}

static int crash(struct standby *b)
{
    bool kill = rng_chance(b->rng, 25);
    world_drop(&b->w);
    if (kill)
        simio_kill(b->w.sim);
    else
        simio_cut(b->w.sim, rng_next(b->rng), (enum simio_cut_mode)rng_below(b->rng, SIMIO_N_CUT_MODES));
    simio_set_space(b->w.sim, 0);
    simio_fail_clear(b->w.sim);
    b->cuts++;
    if (rng_chance(b->rng, 20))
        world_lose_index(b->r, &b->w);
    return open_standby(b);
}

/* A byte changes on the way: nothing from there on is taken. */
static int corrupt(struct standby *b)
{
    struct err err = { 0 };
    size_t at = rng_below(b->rng, b->len);
    uint64_t head = log_head(store_log(b->w.s));
    b->piece[at] ^= (uint8_t)(1u << rng_below(b->rng, 8));
    int rc = store_follow(b->w.s, b->piece, b->len, &err);
    if (rc != ERR_BADREC)
        return rig_viol(b->r, "standby: byte %zu of %zu changed on the way from @%" PRIu64 ": %s %s", at, b->len, head, err_name(rc), err.msg);
    return fits(b);
}

static int one_piece(struct standby *b)
{
    struct err err = { 0 };
    struct store *s = b->w.s;
    bool trouble = b->cuts < CUTS_MAX;
    uint64_t head;
    int rc = load(b);
    if (rc < 0 || b->len == 0)
        return rc;
    simio_set_space(b->w.sim, 0);
    if (trouble && rng_chance(b->rng, 8))
        return corrupt(b);
    if (trouble && rng_chance(b->rng, 30))
        simio_cut_at(b->w.sim, 1 + rng_below(b->rng, 60));
    else if (trouble && rng_chance(b->rng, 10))
        simio_set_space(b->w.sim, simio_used(b->w.sim) + rng_below(b->rng, 20000));
    rc = store_follow(s, b->piece, b->len, &err);
    if (rc == 0 && rng_chance(b->rng, 40))
        rc = store_sync(s, &err);
    if (rc == 0 && rng_chance(b->rng, 20))
        rc = store_flush(s, &err);
    if (rc == 0 && rng_chance(b->rng, 25)) {
        if (trouble && rng_chance(b->rng, 30))
            simio_cut_at(b->w.sim, 1 + rng_below(b->rng, 60));
        b->r->st->packs_standby++;
        rc = pack_some(b->r->st, b->rng, s, &err);
    }
    head = log_durable(store_log(s));
    if (rc == 0 && head > b->synced)
        b->synced = head;
    if (rc == ERR_NOSPC) {
        simio_set_space(b->w.sim, 0);
        simio_cut_at(b->w.sim, 0);
        return fits(b);
    }
    if (rc < 0 && !simio_dead(b->w.sim) && rc != ERR_POISONED)
        return rig_viol(b->r, "standby: following: %s %s", err_name(rc), err.msg);
    if (rc < 0 || simio_dead(b->w.sim) || (trouble && rng_chance(b->rng, 10)))
        return crash(b);
    simio_cut_at(b->w.sim, 0);
    return 0;
}

/* What is of two epochs is packed, and the index is made of it. */
static int packed_promoted(struct standby *b, uint64_t last)
{
    struct log_recovery rec;
    struct err err = { 0 };
    int rc = upkeep_pack(b->w.s, NULL, NULL, NULL, NULL, &err);
    if (rc < 0)
        return rig_viol(b->r, "promoted: packing: %s %s", err_name(rc), err.msg);
    world_drop(&b->w);
    simio_cut(b->w.sim, rng_next(b->rng), (enum simio_cut_mode)rng_below(b->rng, SIMIO_N_CUT_MODES));
    world_lose_index(b->r, &b->w);
    rc = world_open(b->r, &b->w, &rec, &err);
    if (rc < 0)
        return rig_viol(b->r, "promoted, packed, without an index: %s %s", err_name(rc), err.msg);
    struct mhash got;                    /* the live tree has changed since */
    rc = oracle_digest(b->r, b->w.s, last, &got);
    if (rc == 0 && !mhash_eq(got, history_at(b->r, last)->past))
        rc = rig_viol(b->r, "promoted, packed: the moment @%" PRIu64 " is another one", last);
    return rc == 0 ? rig_check(b->r, b->w.s) : rc;
}

/* With the primary gone, the standby is one. */
static int promote(struct standby *b)
{
    struct rig *r = b->r;
    struct store_options opt = r->opt;
    struct err err = { 0 };
    struct store_info info;
    struct caller c = { 0 };
    struct wait none = { WAIT_NONE, 0 };
    struct hash128 hash;
    uint64_t last;
    struct setattr_in touch = { .valid = RSA_MODE, .mode = 0700 };
    struct row_ino row;
    bool cut = rng_chance(b->rng, 50);
    simio_set_space(b->w.sim, 0);
    log_last(store_log(b->w.s), &last, &hash);
    last = last_operation(b->w.s, last);
    int rc = store_setattr(b->w.s, &c, r->gen.root, &touch, &row, &none);
    if (rc != ERR_FENCED)
        return rig_viol(r, "standby: a change was answered %s", err_name(rc));
    rc = store_close(b->w.s, &err);
    b->w.s = NULL;
    if (rc < 0)
        return rig_viol(r, "standby: close: %s", err.msg);
    r->opt.promote = true;
    if (cut)
        simio_cut_at(b->w.sim, 1 + rng_below(b->rng, 30));
    struct log_recovery rec;
    rc = world_open(r, &b->w, &rec, &err);
    if (cut && (rc < 0 || simio_dead(b->w.sim))) {   /* a promotion that was cut off: done again, or done already */
        world_drop(&b->w);
        simio_cut(b->w.sim, rng_next(b->rng), (enum simio_cut_mode)rng_below(b->rng, SIMIO_N_CUT_MODES));
        rc = world_open(r, &b->w, &rec, &err);
        if (rc == ERR_INVAL) {
            r->opt.promote = false;
            rc = world_open(r, &b->w, &rec, &err);
        }
    }
    r->opt = opt;
    if (rc < 0)
        return rig_viol(r, "promote: %s %s", err_name(rc), err.msg);
    simio_cut_at(b->w.sim, 0);
    store_info(b->w.s, &info);
    if (info.role != ROLE_PRIMARY || info.n_epochs < 2)
        return rig_viol(r, "promote: role %u, %u epochs", info.role, info.n_epochs);
    rc = oracle_recovered(r, b->w.s, last, 4);
    if (rc == 0 && (rc = store_setattr(b->w.s, &c, r->gen.root, &touch, &row, &none)) < 0)
        return rig_viol(r, "promoted: a change was answered %s", err_name(rc));
    return rc == 0 && rng_chance(b->rng, 50) ? packed_promoted(b, last) : rc;
}

int rig_standby(struct rig *r)
{
    struct standby b = { .r = r, .rng = &r->cut_rng };
    struct super *sb;
    uint64_t end;
    struct store_seed seed = { .timezone = "UTC" };
    struct err err = { 0 };
    int rc = store_sync(r->w.s, &err);
    if (rc < 0)
        return rig_viol(r, "standby: sync of the primary: %s", err.msg);
    sb = m_alloc(sizeof *sb);
    store_super(r->w.s, sb);
    end = log_durable(store_log(r->w.s));
    memcpy(seed.lineage, sb->lineage, 16);
    memcpy(seed.key, sb->key, 32);
    seed.epoch = sb->epochs[0];
    free(sb);
    b.piece = m_alloc(PIECE_MAX);
    b.w.sim = simio_new(r->seed ^ 0x5b5b5b);
    b.w.disk = kv_twin_disk_new();
    hook_init(&b.w.hook, simio_io(b.w.sim));
    rc = store_create_standby(&b.w.hook.io, NULL, &seed, &err);
    if (rc < 0)
        rc = rig_viol(r, "standby: create: %s %s", err_name(rc), err.msg);
    else
        rc = open_standby(&b);
    if (rc == 0 && rng_chance(b.rng, 30) && (rc = pack_some(r->st, b.rng, r->w.s, &err)) < 0)
        rc = rig_viol(r, "packing the primary: %s %s", err_name(rc), err.msg);
    while (rc == 0 && log_head(store_log(b.w.s)) < end) {
        rc = one_piece(&b);
        if (rc == 0 && rng_chance(b.rng, 4) && (rc = pack_some(r->st, b.rng, r->w.s, &err)) < 0)
            rc = rig_viol(r, "packing the primary under a stream: %s %s", err_name(rc), err.msg);
    }
    if (rc == 0)
        rc = fits(&b);
    if (rc == 0)
        rc = promote(&b);
    world_free(&b.w);
    free(b.piece);
    return rc;
}
