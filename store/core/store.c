/*
 * store.c: the life of a store: opened (lock, superblock, log, index, replay), closed. The only file that wires the layers
 * together. Made: make.c; who it is: identity.c.
 *
 * Order of an open, and what a crash at each step leaves:
 *   lock, superblock        nothing changed
 *   index opened            nothing changed (RocksDB may rewrite its own manifest)
 *   log recovered           an unproven tail copied to a new segment; done again next time, with the same result
 *   superblock: not clean   the next open scans the log's end instead of trusting it
 *   replay                  rows in memory; done again next time
 *   INCARNATION, REAP       records like others
 */
#include "store/core/core_internal.h"
#include "store/core/lacking.h"
#include "store/core/wounds.h"
#include "store/core/moment_internal.h"

#include "store/log/frame.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MEMORY_DEFAULT = 256 << 20, COMMIT_MS_DEFAULT = 100,
       PACK_CACHE_MIN = 4 << 20 };       /* with less the tables of one pack are read anew for each piece of a file of many */

/* ---- opening ---- */

/* The index is made from the log, so that nothing is lost with it. */
static int index_refused(const struct store *s, const struct err *why, struct err *err)
{
    return err_set(err, ERR_DAMAGE, "%.500s; %s", why->msg, s->opt.writable ?
                   "rebuild it: spare rebuild-index" :
                   "where a power cut left it so, mounting the store (not ro) mends it");
}

static int open_index(struct store *s, struct log_recovery *rec, struct err *err)
{
    char path[PATH_MAX];
    struct kv_options ko = { .cache_bytes = s->opt.memory_bytes / 16 * 3, .read_only = !s->opt.writable };
    if (s->kv != NULL)
        return 0;
    if (s->dir == NULL)
        return err_set(err, ERR_INVAL, "store: neither a directory nor an index was given");
    if (snprintf(path, sizeof path, "%s/index", s->dir) >= (int)sizeof path)
        return err_set(err, ERR_NAMETOOLONG, "%s: the path is too long", s->dir);
    struct kv *rocks = NULL;
    struct err why = { 0 };
    int rc = kv_rocks_open(path, s->opt.writable, &ko, &rocks, &why);
    /* Not where another process has it open, or memory or rights are missing: then its files are as they should be. */
    while ((rc == ERR_DAMAGE || rc == ERR_IO) && s->opt.writable && index_files_heal(s->io, NULL) > 0) {
        rec->index_mended = true;
        rc = kv_rocks_open(path, true, &ko, &rocks, &why);
    }
    if (rc < 0)
        return rc == ERR_DAMAGE ? index_refused(s, &why, err) : err_set(err, rc, "%s", why.msg);
    if (s->opt.writable) {
        s->kv = rocks;
        return 0;
    }
    rc = kv_layer_open(rocks, &s->kv, err);     /* what the log has beyond the index may not be put into it */
    if (rc < 0)
        kv_close(rocks);
    return rc;
}

/* The index must be of this very history: the last record it applied is there, with the same hash. */
static int check_index(struct store *s, const struct log_recovery *rec, struct err *err)
{
    const struct row_meta *m = &s->ix.meta;
    struct record last;
    void *buf = NULL;
    if (m->last_lsn == 0)
        return 0;
    if (m->applied > log_head(s->log))
        return err_set(err, ERR_DAMAGE, "index: it has applied up to @%" PRIu64 ", but the log ends at @%" PRIu64
                       "; records are lost, see spare check", m->applied, log_head(s->log));
    if (rec->damaged && m->last_lsn >= rec->damage_from && m->last_lsn < rec->damage_to)
        return 0;
    log_last(s->log, &last.lsn, &last.hash);     /* after a clean stop it is this one: it may lie in a file of the archive that is damaged */
    int rc = last.lsn == m->last_lsn ? 0 : history_record(s->history, m->last_lsn, &last, &buf, err);
    if (rc == 0 && !hash128_eq(&last.hash, &m->last_hash))
        rc = err_set(err, ERR_DAMAGE, "index: its last record @%" PRIu64 " is not the one in the log; the index is of another "
                     "history, rebuild it", m->last_lsn);
    free(buf);
    return rc;
}

/*
 * A damaged record could have been anything, so what follows it cannot be made of the tree before it. For reading the store then
 * is what it was there: whole, and a moment like any other. (Where the index got past the damage before, nothing is left out.)
 */
static int end_at_damage(struct store *s, struct log_recovery *rec, const struct err *found)
{
    size_t n;
    if (!rec->damaged)
        rec->damage = *found;
    rec->damaged = true;
    n = strlen(rec->damage.msg);
    snprintf(rec->damage.msg + n, sizeof rec->damage.msg - n, "; shown is what was before it, up to @%" PRIu64, s->ix.meta.applied);
    log_end_here(s->log, s->ix.meta.applied, s->ix.meta.last_lsn, &s->ix.meta.last_hash);
    return 0;
}

static int replay(struct store *s, struct log_recovery *recovery, struct err *err)
{
    struct history_iter *it = NULL;
    struct record rec;
    uint64_t first = history_first(s->history), from = s->ix.meta.applied != 0 ? s->ix.meta.applied : first;
    if (from < first || (s->ix.meta.applied == 0 && from != LOG_FIRST_ADDR))
        return err_set(err, ERR_DAMAGE, "index: it has applied up to @%" PRIu64 ", and archive and log begin at @%" PRIu64 "; records are lost%s%.300s",
                       s->ix.meta.applied, first, s->no_base.code != 0 ? ". " : "", s->no_base.msg);
    int rc = history_iter_new(s->history, from, log_head(s->log), &it, err);
    if (rc < 0)
        return rc;
    while ((rc = history_next(it, &rec, NULL, err)) == 1) {
        rc = index_apply(&s->ix, &rec, err);
        if (rc == 0 && (s->ix.pending_ops >= DRAIN_OPS || index_pending_bytes(&s->ix) > BACKLOG_BYTES / 4))
            rc = run_drain(s, err);
        if (rc < 0)
            goto out;
    }
    if (rc == ERR_DAMAGE && !s->opt.writable)
        rc = end_at_damage(s, recovery, err);
out:
    history_iter_free(it);
    return rc < 0 ? rc : store_apply(s, err);
}

/* Orphans nobody can use any more, since nothing is mounted. */
static int reap_orphans(struct store *s, struct err *err)
{
    uint8_t lo[KV_KEY_MAX], hi[KV_KEY_MAX];
    uint64_t *list = NULL;
    size_t n = 0, cap = 0;
    struct key_parts parts;
    int rc = store_apply(s, err);
    if (rc < 0)
        return rc;
    size_t llen = key_orphan(lo, 0), hlen = key_orphan(hi, INO_MAX + 1);
    struct kv_iter *it = s->kv->ops->iter_new(s->kv, NULL, lo, llen, hi, hlen);
    if (it == NULL)
        return err_set(err, ERR_NOMEM, "store: out of memory");
    for (s->kv->ops->iter_seek(it, lo, llen); rc == 0 && s->kv->ops->iter_valid(it); s->kv->ops->iter_next(it)) {
        size_t klen;
        const uint8_t *k = s->kv->ops->iter_key(it, &klen);
        if (n == cap) {
            cap = cap == 0 ? 64 : cap * 2;
            uint64_t *p = realloc(list, cap * sizeof *p);
            if (p == NULL) {
                rc = err_set(err, ERR_NOMEM, "store: out of memory");
                break;
            }
            list = p;
        }
        if (key_parse(k, klen, &parts))
            list[n++] = parts.ino;
    }
    if (rc == 0)
        rc = s->kv->ops->iter_err(it, err);
    s->kv->ops->iter_free(it);
    if (rc == 0 && n > 0 && (rc = store_reap(s, list, n, NULL)) < 0)
        err_set(err, rc, "store: cannot reap orphans: %s", err_text(rc));
    free(list);
    return rc;
}

static void store_free(struct store *s)
{
    for (int i = 0; i < LISTINGS; i++)
        if (s->listing[i] != NULL) {
            asof_list_free(&s->listing[i]->list);
            free(s->listing[i]);
        }
    if (s->ix.kv != NULL)
        index_release(&s->ix);
    history_close(s->history);
    packs_close(s->packs);
    if (s->log != NULL)
        log_close(s->log);
    if (s->kv != NULL)
        kv_close(s->kv);                 /* writes nothing that was not flushed */
    if (s->lock_file != NULL)
        io_close(s->lock_file);          /* last: whoever waits for it opens the index next */
    pthread_mutex_destroy(&s->lock);
    pthread_mutex_destroy(&s->lacking_lock);
    pthread_mutex_destroy(&s->wounds_lock);
    free(s->wounds);
    free(s->lacking);
    pthread_mutex_destroy(&s->role_lock);
    pthread_mutex_destroy(&s->lease_lock);
    pthread_mutex_destroy(&s->drain_lock);
    pthread_mutex_destroy(&s->mark_lock);
    pthread_mutex_destroy(&s->reclaim_lock);
    pthread_mutex_destroy(&s->maint_lock);
    pthread_mutex_destroy(&s->watch_lock);
    pthread_mutex_destroy(&s->list_lock);
    pthread_rwlock_destroy(&s->retained_lock);
    pthread_cond_destroy(&s->work);
    pthread_cond_destroy(&s->commit);
    pthread_cond_destroy(&s->progress);
    retained_release(&s->retained);
    free(s->dir);
    free(s);
}

static struct store *store_new(struct io *io, const char *dir, const struct store_options *opt)
{
    pthread_condattr_t attr;
    pthread_mutexattr_t again;
    struct store *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->io = io;
    atomic_store(&s->lease_until, UINT64_MAX);
    s->opt = *opt;
    s->kv = opt->kv;
    if (s->opt.memory_bytes == 0)
        s->opt.memory_bytes = MEMORY_DEFAULT;
    if (s->opt.commit_ms == 0)
        s->opt.commit_ms = COMMIT_MS_DEFAULT;
    pthread_mutex_init(&s->lock, NULL);
    pthread_mutex_init(&s->lacking_lock, NULL);
    pthread_mutex_init(&s->wounds_lock, NULL);
    pthread_mutex_init(&s->role_lock, NULL);
    pthread_mutex_init(&s->lease_lock, NULL);
    pthread_mutex_init(&s->drain_lock, NULL);
    pthread_mutexattr_init(&again);
    pthread_mutexattr_settype(&again, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&s->mark_lock, &again);
    pthread_mutexattr_destroy(&again);
    pthread_mutex_init(&s->reclaim_lock, NULL);
    pthread_mutex_init(&s->maint_lock, NULL);
    pthread_mutex_init(&s->watch_lock, NULL);
    pthread_mutex_init(&s->list_lock, NULL);
    pthread_rwlock_init(&s->retained_lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->work, &attr);
    pthread_cond_init(&s->commit, &attr);
    pthread_cond_init(&s->progress, &attr);
    pthread_condattr_destroy(&attr);
    s->dir = dir != NULL ? strdup(dir) : NULL;
    if (dir != NULL && s->dir == NULL) {
        s->kv = NULL;                    /* the caller's still */
        store_free(s);
        return NULL;
    }
    return s;
}

/*
 * What a stream needs to begin is gone, so nothing can be healed in place: the other site has what was acknowledged, and makes another one. (To begin without it would be to say that what is lost was never there.)
 */
static int beyond_healing(const struct store *s, const struct err *why, struct err *err)
{
    const char *dir = s->dir != NULL ? s->dir : "STORE";
    bool standby = s->sb.role == ROLE_STANDBY;

    if (!s->opt.writable)
        return err_set(err, why->code, "%s", why->msg);
    return standby ? err_set(err, why->code, "%.450s. This cannot be healed in place: move %.100s away, then at its primary: spare sync STORE %.100s --new", why->msg, dir, dir) :
           err_set(err, why->code, "%.450s. This cannot be healed in place. A standby has all that it acknowledged; there: spare promote STORE; then move %.100s away, and from there: spare sync STORE %.100s --new", why->msg, dir, dir);
}

static int open_log(struct store *s, struct log_recovery *rec, struct err *err)
{
    struct err why = { 0 };
    struct packs_options po = { .epochs = s->sb.epochs, .n_epochs = s->sb.n_epochs, .key_id = s->sb.key_id, .cache_bytes = s->opt.memory_bytes / 16 };
    if (po.cache_bytes < PACK_CACHE_MIN)
        po.cache_bytes = PACK_CACHE_MIN;
    memcpy(po.lineage, s->sb.lineage, 16);
    memcpy(po.key, s->sb.key, 32);
    int rc = log_open(s->io, &s->sb, &s->opt.log, s->opt.writable, s->ix.meta.applied, &s->log, rec, &why);
    if (rc == ERR_DAMAGE)
        return beyond_healing(s, &why, err);
    if (rc < 0)
        return err_set(err, rc, "%s", why.msg);
    if (rc == 0)
        rc = history_open(s->io, s->log, &s->sb, &s->history, err);
    if (rc == 0)
        rc = packs_open(s->io, &po, &s->packs, err);
    if (rc == 0)
        rc = check_index(s, rec, err);
    if (rc < 0)
        return rc;
    atomic_store(&s->applied, s->ix.applied);
    atomic_store(&s->persisted, s->ix.applied);
    return 0;
}

/*
 * A copy that the disk does not give may be the newer one, and the next write would put it out of the way for good: settings and
 * epochs in it, too. One that rotted is passed over; this one may be there at the next try.
 */
static int both_read(struct store *s, const struct err *warn, struct err *err)
{
    if (!s->opt.writable || warn->code != ERR_IO)
        return 0;
    return err_set(err, ERR_IO, "%.400s, but it may be the older one. Try again; reading works (mount -o ro); if the disk never gives it "
                   "again, move it out of the store, and the other copy is used", warn->msg);
}

/* A restore was cut off: what it did stays, and moments resolve again. And orphans that nobody can use any more. */
int role_settle(struct store *s, bool keep_orphans, struct err *err)
{
    int rc = 0;
    s->series = s->ix.meta.series != 0;
    if (s->series)
        rc = store_series(s, &(struct caller){ 0 }, false, "cut off", err);
    if (rc == 0 && !keep_orphans)
        rc = reap_orphans(s, err);
    return rc < 0 ? rc : store_sync(s, err);
}

/* Who appends here from now on. */
static int take_role(struct store *s, struct err *err)
{
    bool clean = s->sb.clean != 0;
    int rc = 0;
    atomic_store(&s->role, s->sb.role);
    s->series = s->ix.meta.series != 0;
    if (!s->opt.writable)
        return 0;
    if (s->sb.role == ROLE_BRANCH)       /* its index is made anew, and nothing else */
        return 0;
    if (s->opt.promote)
        rc = role_may_promote(s, err);
    if (rc == 0 && s->sb.role != ROLE_PRIMARY && !s->opt.promote)
        rc = identity_become_follower(s, clean, err);
    else if (rc == 0)
        rc = identity_become_writer(s, clean, s->opt.promote ? "promoted" : NULL, err);
    if (rc == 0)
        rc = lacking_scan(s, err);
    return rc < 0 || s->sb.role != ROLE_PRIMARY ? rc : role_settle(s, s->opt.keep_orphans, err);
}

/* A set of the lineage before is this store's until its own has a record. */
static int check_retained(const struct store *s, struct err *err)
{
    struct err why = { 0 };

    if (memcmp(identity_epoch_held(s)->lineage, s->sb.lineage, 16) != 0)
        return 0;
    err_set(&why, ERR_DAMAGE, "retained set: its lineage at byte 72 is not that of the superblock, but of the store that this one was copied or forked from: it belongs to another store");
    return beyond_healing(s, &why, err);
}

static int open_steps(struct store *s, struct log_recovery *rec, struct err *err)
{
    char patterns[NOHISTORY_MAX + 1];
    struct err warn = { 0 }, why = { 0 };
    struct io *io = s->io;
    bool of_before;
    int rc = super_read(io, &s->sb, &warn, err);
    if (rc == 0)
        rc = both_read(s, &warn, err);
    if (rc == 0 && s->opt.writable)
        rc = super_writable(&s->sb, err);
    if (rc == 0 && s->sb.role == ROLE_BRANCH && s->opt.writable && !s->opt.fresh_index)
        rc = err_set(err, ERR_ROFS, "%s: a branch is for reading; mount it -o ro, or `spare fork` makes a store of it", s->dir != NULL ? s->dir : "store");
    if (rc == 0 && anew_pending(&s->sb))
        rc = s->opt.writable ? anew_finish(io, &s->sb, err)
           : err_set(err, ERR_BUSY, "%s: being made anew was cut off; whoever opens it to write does the rest", s->dir != NULL ? s->dir : "store");
    if (rc == 0 && rewind_pending(&s->sb))
        rc = s->opt.writable ? rewind_finish(io, &s->sb, err)
           : err_set(err, ERR_BUSY, "%s: going back to where it parted from its primary was cut off; whoever opens it to write does the rest", s->dir != NULL ? s->dir : "store");
    if (rc == 0)
        nohistory_set(&s->nohistory, super_config_get(&s->sb, "nohistory", patterns, sizeof patterns) < 0 ? NULL : patterns);
    if (rc == 0)
        rc = identity_check(s, err);
    if (rc == 0)
        rc = identity_relocate(s, err);
    if (rc == 0)
        rc = retained_read(s->io, s->sb.lineage, super_before(&s->sb), &s->retained, &warn, &why);
    of_before = rc == 1;
    rc = rc == 1 ? 0 : rc;
    if (why.code != 0 && rc < 0)
        return rc == ERR_DAMAGE || rc == ERR_NOENT ? beyond_healing(s, &why, err) : err_set(err, rc, "%s", why.msg);
    if (rc == 0)
        rc = both_read(s, &warn, err);
    if (rc == 0 && s->opt.writable)
        rc = retained_writable(&s->retained, err);
    if (rc == 0 && s->opt.log.segment_bytes == 0)
        s->opt.log.segment_bytes = reserve_segment(s->io);
    if (rc == 0 && s->opt.writable)
        reserve_at_open(s);
    if (rc == 0 && s->opt.writable && s->opt.fresh_index) {
        rc = index_files_replace(s->io, err);
        s->replaced = rc == 0;
    }
    if (rc == 0)
        rc = open_index(s, rec, err);
    if (rc == 0)
        rc = rebase(s, err);
    if (rc == 0)
        rc = index_open(&s->ix, s->kv, err);
    if (rc == 0)
        rc = open_log(s, rec, err);
    if (rc == 0 && of_before)
        rc = check_retained(s, err);
    if (rc == 0)
        rc = replay(s, rec, err);
    if (rc == 0)
        rc = identity_check_epoch(s, err);
    if (rc == 0)
        rc = take_role(s, err);
    if (rc == 0)
        lease_take(s);
    if (rc == 0)
        atomic_store(&s->shown, log_head(s->log));
    return rc;
}

int store_open(struct io *io, const char *dir, const struct store_options *opt, struct store **out,
               struct log_recovery *recovery, struct err *err)
{
    struct log_recovery own = { 0 }, *rec = recovery != NULL ? recovery : &own;
    struct io_stat st;
    memset(rec, 0, sizeof *rec);
    struct store *s = store_new(io, dir, opt);
    if (s == NULL) {
        if (opt->kv != NULL)
            kv_close(opt->kv);
        return err_set(err, ERR_NOMEM, "store: out of memory");
    }
    int rc = 0;
    if (io_stat_path(io, "super.0", &st, NULL) < 0 && io_stat_path(io, "super.1", &st, NULL) < 0)
        rc = err_set(err, ERR_NOSTORE, "%s: expected a store, found no superblock; make one with: spare init", dir != NULL ? dir : "store");
    if (rc == 0 && !(opt->unlocked && !opt->writable))
        rc = io_lock(io, "lock", &s->lock_file, err);
    if (rc == ERR_ROFS && !opt->writable) {
        s->lock_file = NULL;             /* nobody can write there */
        rc = 0;
    }
    if (rc == 0)
        rc = open_steps(s, rec, err);
    if (rc == 0)
        rc = run_start(s, err);
    if (rc < 0) {
        bool replaced = s->replaced;
        store_drop(s);
        if (replaced)
            (void)index_files_bring_back(io, NULL);
        return rc;
    }
    if (s->replaced)
        (void)index_files_discard(io, NULL);
    *out = s;
    return 0;
}

/* ---- closing ---- */

void store_drop(struct store *s)
{
    run_stop(s);
    store_free(s);
}

int store_close(struct store *s, struct err *err)
{
    int rc = 0;
    run_stop(s);
    if (atomic_load(&s->failed) != 0) {
        rc = err_set(err, ERR_POISONED, "%s: %s", s->dir != NULL ? s->dir : "store", err_text(ERR_POISONED));
        store_drop(s);
        return rc;
    }
    if (s->opt.writable) {
        rc = store_sync(s, err);
        if (rc == 0)
            rc = store_flush(s, err);
        if (rc == 0)
            rc = log_finish(s->log, err);
        if (rc == 0) {
            s->sb.durable = log_durable(s->log);
            s->sb.segment_gen = log_newest(s->log);
            log_last(s->log, &s->sb.last_lsn, &s->sb.last_hash);
            s->sb.clean = 1;
            rc = super_write(s->io, &s->sb, err);
        }
        if (rc == 0)
            reserve_at_close(s);
    }
    if (rc < 0 || !s->opt.writable) {
        store_drop(s);
        return rc;
    }
    store_free(s);
    return 0;
}

/* ---- looking at it ---- */

void store_info(struct store *s, struct store_info *info)
{
    memset(info, 0, sizeof *info);
    identity_info(s, info);
    info->head = log_head(s->log);
    info->written = log_written(s->log);
    info->durable = log_durable(s->log);
    info->first = history_first(s->history);
    info->shown = atomic_load(&s->shown);
    info->applied = atomic_load(&s->applied);
    info->persisted = atomic_load(&s->persisted);
    info->failed = atomic_load(&s->failed);
    info->writable = s->opt.writable;
    info->tight = atomic_load(&s->tight) != SPACE_ENOUGH;
    info->short_of = atomic_load(&s->short_of);
    pthread_mutex_lock(&s->lock);
    info->n_inodes = s->ix.meta.n_inodes;
    info->n_bytes = s->ix.meta.n_bytes;
    info->ever_hidden = s->ix.meta.n_hidden;
    info->unapplied_ops = s->ix.pending_ops + s->ix.draining_ops;
    info->unapplied_bytes = index_pending_bytes(&s->ix);
    info->unflushed_ops = s->unflushed_ops + s->flush_ops;
    info->unflushed_bytes = s->unflushed_bytes + s->flush_bytes;
    info->memory_bytes = s->ix.cache.bytes;
    info->cache_rows = s->ix.cache.n_rows;
    info->cache_hits = s->ix.cache.hits;
    info->cache_misses = s->ix.cache.misses;
    pthread_mutex_unlock(&s->lock);
    info->memory_bytes += s->kv->ops->memory(s->kv);
    info->memory_bytes += packs_memory(s->packs);
    info->log_bytes = info->head - log_first(s->log);
    (void)moment_record_wall(s, info->first, &info->oldest_wall_ns);
    pthread_rwlock_rdlock(&s->retained_lock);
    info->listed_from = s->retained.listed;
    for (uint32_t i = 0; i < s->retained.n; i++)
        info->points += s->retained.point[i].lsn < info->listed_from && retained_lists(&s->retained, s->retained.point[i].lsn) &&
                        (i == 0 || s->retained.point[i - 1].lsn != s->retained.point[i].lsn);
    pthread_rwlock_unlock(&s->retained_lock);
}

uint64_t store_next_ino(struct store *s)
{
    uint64_t n;

    pthread_mutex_lock(&s->lock);
    n = s->ix.meta.next_ino;
    pthread_mutex_unlock(&s->lock);
    return n;
}

struct io *store_io(struct store *s)
{
    return s->io;
}

struct kv *store_kv(struct store *s)
{
    return s->kv;
}

struct log *store_log(struct store *s)
{
    return s->log;
}

struct history *store_history(struct store *s)
{
    return s->history;
}

struct packs *store_packs(struct store *s)
{
    return s->packs;
}

const uint8_t *store_hash_key(struct store *s)
{
    return s->sb.key;                    /* never changes */
}

uint64_t store_retained_gen(struct store *s)
{
    uint64_t gen;

    pthread_rwlock_rdlock(&s->retained_lock);
    gen = s->retained.gen;
    pthread_rwlock_unlock(&s->retained_lock);
    return gen;
}

bool store_reclaim_begin(struct store *s)
{
    return pthread_mutex_trylock(&s->reclaim_lock) == 0;
}

void store_reclaim_end(struct store *s)
{
    pthread_mutex_unlock(&s->reclaim_lock);
}

void store_maint_begin(struct store *s)
{
    pthread_mutex_lock(&s->maint_lock);
}

bool store_maint_try(struct store *s)
{
    return pthread_mutex_trylock(&s->maint_lock) == 0;
}

void store_maint_end(struct store *s)
{
    pthread_mutex_unlock(&s->maint_lock);
}

const char *store_dir(struct store *s)
{
    return s->dir;
}
