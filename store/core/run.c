/*
 * run.c: what runs behind: the applier puts pending rows into the index in batches and flushes it, the committer makes
 * the log durable within commit_ms. Both steps can be driven by hand (threads == false).
 */
#include "store/core/core_internal.h"

#include "store/base/slow.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/*
 * Who asks for a change and who answers it keep two processors busy between them; where there are no more, the applier takes its turn
 * from one of the two. So it comes after them, but not last: a machine that is busy with other work must not starve it.
 */
enum { APPLIER_NICE = 5 };

enum { TRIM_COST = 96 };         /* bytes of memory for a row that goes, beside its key */

void run_progress(struct store *s)
{
    const uint64_t one = 1;
    pthread_mutex_lock(&s->watch_lock);
    for (int i = 0; i < s->n_watch; i++)
        if (write(s->watch[i], &one, sizeof one) < 0) {
            /* EAGAIN: it is readable already */
        }
    pthread_mutex_unlock(&s->watch_lock);
    if (s->opt.hooks.on_progress != NULL)
        s->opt.hooks.on_progress(s->opt.hooks.arg);
}

int store_watch(struct store *s, int fd)
{
    int rc = ERR_BUSY;
    pthread_mutex_lock(&s->watch_lock);
    if (s->n_watch < WATCHES) {
        s->watch[s->n_watch++] = fd;
        rc = 0;
    }
    pthread_mutex_unlock(&s->watch_lock);
    return rc;
}

void store_unwatch(struct store *s, int fd)
{
    pthread_mutex_lock(&s->watch_lock);
    for (int i = 0; i < s->n_watch; i++)
        if (s->watch[i] == fd)
            s->watch[i--] = s->watch[--s->n_watch];
    pthread_mutex_unlock(&s->watch_lock);
}

void run_appended_locked(struct store *s)
{
    if (!s->has_threads)
        return;
    if (s->ix.pending_ops == 1 || s->ix.pending_ops == DRAIN_OPS)
        pthread_cond_signal(&s->work);
    if (s->commit_idle) {
        s->commit_idle = false;
        pthread_cond_signal(&s->commit);
    }
}

int store_fail(struct store *s, int code, const struct err *err)
{
    int none = 0;
    bool first = !atomic_exchange(&s->told_fatal, true);
    /* before anybody can see it: a daemon ends here, and what was asked meanwhile is answered by the next one, not with an error */
    if (first && s->opt.hooks.on_fatal != NULL)
        s->opt.hooks.on_fatal(s->opt.hooks.arg, err);
    (void)atomic_compare_exchange_strong(&s->failed, &none, code);
    pthread_mutex_lock(&s->lock);
    pthread_cond_broadcast(&s->work);
    pthread_cond_broadcast(&s->commit);
    pthread_cond_broadcast(&s->progress);
    pthread_mutex_unlock(&s->lock);
    run_progress(s);
    return code;
}

/*
 * Rows may be in the index's memory before their records are durable, but never in its files: the log is synced up to
 * what is applied before a flush begins. Called with drain_lock held, so nothing is applied meanwhile.
 */
static int flush_start(struct store *s, struct err *err)
{
    int rc = 0;
    uint64_t to = atomic_load(&s->applied);
    if (log_durable(s->log) < to)
        rc = log_sync(s->log, err);
    if (rc == 0)
        rc = s->kv->ops->flush_start(s->kv, err);
    if (rc < 0)
        return rc;
    s->flushing = true;
    s->flush_to = to;
    s->flush_ops = s->unflushed_ops;
    s->flush_bytes = s->unflushed_bytes;
    s->unflushed_ops = s->unflushed_bytes = 0;
    return 0;
}

static int flush_poll(struct store *s, bool wait, struct err *err)
{
    if (!s->flushing)
        return 0;
    int rc = wait ? s->kv->ops->flush_wait(s->kv, err) : s->kv->ops->flush_done(s->kv, err);
    if (rc < 0 || (!wait && rc == 0))
        return rc;
    s->flushing = false;
    s->flush_ops = s->flush_bytes = 0;
    atomic_store(&s->persisted, s->flush_to);
    return 0;
}

static int drain_locked(struct store *s, struct err *err)
{
    pthread_mutex_lock(&s->lock);
    size_t bytes = index_pending_bytes(&s->ix);
    uint64_t ops = s->ix.pending_ops;
    int rc = index_drain_begin(&s->ix, err);
    s->want_apply = false;
    pthread_mutex_unlock(&s->lock);
    if (rc <= 0)
        return rc;
    /* a record whose bytes are not all written yet must not be in the index */
    rc = log_wait_written(s->log, s->ix.drain_to - 1);
    if (rc < 0)
        return err_set(err, rc, "log: a write failed");
    rc = index_drain_write(&s->ix, err);
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&s->lock);
    index_drain_end(&s->ix);
    atomic_store(&s->applied, s->ix.applied);
    cache_trim(&s->ix.cache, s->opt.memory_bytes / 4);
    s->unflushed_ops += ops;
    s->unflushed_bytes += bytes;
    pthread_cond_broadcast(&s->progress);
    pthread_mutex_unlock(&s->lock);
    return 1;
}

static bool much_behind(const struct store *s)
{
    return s->unflushed_ops + s->flush_ops >= 2 * FLUSH_OPS || s->unflushed_bytes + s->flush_bytes >= 2 * (uint64_t)FLUSH_BYTES;
}

/* On return there is room for changes again (run_has_room_locked): who waits for some is woken by a drain, and there might be nothing to drain. */
static int flush_on(struct store *s, struct err *err)
{
    int rc;
    do {
        rc = flush_poll(s, much_behind(s), err);
        if (rc >= 0 && !s->flushing && (s->unflushed_ops >= FLUSH_OPS || s->unflushed_bytes >= FLUSH_BYTES))
            rc = flush_start(s, err);
    } while (rc >= 0 && much_behind(s));
    return rc;
}

bool run_has_room_locked(const struct store *s)
{
    const struct index *ix = &s->ix;
    return ix->pending_ops + ix->draining_ops + s->unflushed_ops + s->flush_ops < BACKLOG_OPS &&
           index_pending_bytes(ix) + s->unflushed_bytes + s->flush_bytes < BACKLOG_BYTES;
}

int run_drain(struct store *s, struct err *err)
{
    struct err own = { 0 };
    struct err *e = err != NULL ? err : &own;
    if (atomic_load(&s->failed))
        return err_set(err, atomic_load(&s->failed), "the store has failed");
    pthread_mutex_lock(&s->drain_lock);
    int rc = drain_locked(s, e), put = rc;
    if (put > 0)
        run_progress(s);                     /* now: who waits for what was applied does not wait for a flush */
    if (rc >= 0 && s->opt.writable)
        rc = flush_on(s, e);
    pthread_mutex_unlock(&s->drain_lock);
    if (rc < 0)
        return store_fail(s, rc, e);
    if (put > 0)
        run_progress(s);
    return put;
}

static void until(struct timespec *ts, uint32_t ms)
{
    clock_gettime(CLOCK_MONOTONIC, ts);
    ts->tv_nsec += (long)(ms % 1000) * 1000000;
    ts->tv_sec += ms / 1000 + ts->tv_nsec / 1000000000;
    ts->tv_nsec %= 1000000000;
}

static void *applier_main(void *arg)
{
    struct store *s = arg;
    struct timespec ts;
    (void)nice(APPLIER_NICE);        /* of this thread alone, and of those that RocksDB starts for it */
    for (;;) {
        pthread_mutex_lock(&s->lock);
        while (!s->stop && !atomic_load(&s->failed) && s->ix.pending_ops == 0)
            pthread_cond_wait(&s->work, &s->lock);
        until(&ts, DRAIN_MS);
        while (!s->stop && !atomic_load(&s->failed) && !s->want_apply && s->ix.pending_ops < DRAIN_OPS)
            if (pthread_cond_timedwait(&s->work, &s->lock, &ts) == ETIMEDOUT)
                break;
        bool end = atomic_load(&s->failed) != 0 || (s->stop && s->ix.pending_ops == 0);
        pthread_mutex_unlock(&s->lock);
        if (end || run_drain(s, NULL) < 0)
            return NULL;
    }
}

/*
 * The superblock names the newest segment, so that its loss shows. A lower bound, at most a commit late: nobody waits for it, and
 * whoever holds the lock writes the superblock himself.
 */
static void note_segment(struct store *s)
{
    uint64_t gen = log_newest(s->log), was;
    if (!s->opt.writable || pthread_mutex_trylock(&s->mark_lock) != 0)
        return;
    was = s->sb.segment_gen;
    if (gen > was) {
        s->sb.segment_gen = gen;
        if (super_write(s->io, &s->sb, NULL) < 0)
            s->sb.segment_gen = was;
    }
    pthread_mutex_unlock(&s->mark_lock);
}

static void *committer_main(void *arg)
{
    struct store *s = arg;
    struct timespec ts;
    struct err err = { 0 };
    if (!s->opt.writable)
        return NULL;      /* what an unclean stop left behind the last sync stays as it is, and is no failure */
    for (;;) {
        pthread_mutex_lock(&s->lock);
        while (!s->stop && !atomic_load(&s->failed) && !s->want_sync && log_head(s->log) == log_durable(s->log)) {
            s->commit_idle = true;
            pthread_cond_wait(&s->commit, &s->lock);
        }
        s->commit_idle = false;
        until(&ts, s->opt.commit_ms);
        while (!s->stop && !atomic_load(&s->failed) && !s->want_sync)
            if (pthread_cond_timedwait(&s->commit, &s->lock, &ts) == ETIMEDOUT)
                break;
        s->want_sync = false;
        bool end = s->stop || atomic_load(&s->failed);
        pthread_mutex_unlock(&s->lock);
        if (end)
            return NULL;
        int rc = log_sync(s->log, &err);
        if (rc < 0) {
            store_fail(s, rc, &err);
            return NULL;
        }
        note_segment(s);
        (void)log_prepare(s->log, NULL);     /* a failure shows when room is needed */
        log_zero_ahead(s->log);
        pthread_mutex_lock(&s->lock);
        pthread_cond_broadcast(&s->progress);
        pthread_mutex_unlock(&s->lock);
        run_progress(s);
    }
}

int run_start(struct store *s, struct err *err)
{
    if (!s->opt.threads)
        return 0;
    int e = pthread_create(&s->applier, NULL, applier_main, s);
    if (e == 0) {
        e = pthread_create(&s->committer, NULL, committer_main, s);
        if (e == 0) {
            s->has_threads = true;
            return 0;
        }
        s->has_threads = false;
        pthread_mutex_lock(&s->lock);
        s->stop = true;
        pthread_cond_broadcast(&s->work);
        pthread_mutex_unlock(&s->lock);
        pthread_join(s->applier, NULL);
    }
    return err_from_errno(err, e, "store: cannot start a thread");
}

void run_stop(struct store *s)
{
    if (!s->has_threads)
        return;
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_cond_broadcast(&s->work);
    pthread_cond_broadcast(&s->commit);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->applier, NULL);
    pthread_join(s->committer, NULL);
    s->has_threads = false;
}

int store_apply(struct store *s, struct err *err)
{
    int rc;
    do {
        rc = run_drain(s, err);
    } while (rc > 0);
    return rc;
}

int store_sync(struct store *s, struct err *err)
{
    struct err own = { 0 };
    struct err *e = err != NULL ? err : &own;
    if (atomic_load(&s->failed))
        return err_set(err, atomic_load(&s->failed), "the store has failed");
    int rc = log_sync(s->log, e);
    if (rc < 0)
        return store_fail(s, rc, e);
    note_segment(s);
    if (log_zero_due(s->log)) {              /* by the committer: somebody waits for this thread */
        pthread_mutex_lock(&s->lock);
        run_nudge_locked(s, WAIT_DURABLE);
        pthread_mutex_unlock(&s->lock);
    }
    run_progress(s);
    return 0;
}

int store_flush(struct store *s, struct err *err)
{
    struct err own = { 0 };
    struct err *e = err != NULL ? err : &own;
    int rc = store_apply(s, e);
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&s->drain_lock);
    rc = flush_poll(s, true, e);
    if (rc == 0 && (atomic_load(&s->persisted) < atomic_load(&s->applied) || s->unflushed_bytes > 0)) {    /* also rows no record made */
        rc = flush_start(s, e);
        if (rc == 0)
            rc = flush_poll(s, true, e);
    }
    pthread_mutex_unlock(&s->drain_lock);
    if (rc == 0)
        run_progress(s);                     /* there is room again */
    return rc < 0 ? store_fail(s, rc, e) : 0;
}

void store_settle(struct store *s)
{
    pthread_mutex_lock(&s->drain_lock);
    if (s->kv->ops->settle != NULL && atomic_load(&s->failed) == 0)
        s->kv->ops->settle(s->kv);
    pthread_mutex_unlock(&s->drain_lock);
}

int store_put_rows(struct store *s, void (*fill)(void *arg, struct kv *kv, struct kv_batch *b), void *arg, struct err *err)
{
    struct err own = { 0 };
    struct kv_batch *b;
    int rc = atomic_load(&s->failed);
    if (rc != 0)
        return err_set(err, rc, "the store has failed");
    b = s->kv->ops->batch_new(s->kv);
    if (b == NULL)
        return err_set(err, ERR_NOMEM, "index: out of memory");
    fill(arg, s->kv, b);
    pthread_mutex_lock(&s->drain_lock);
    rc = kv_write(s->kv, b, &own);
    if (rc == 0)
        s->unflushed_bytes += s->kv->ops->batch_bytes(b);
    pthread_mutex_unlock(&s->drain_lock);
    s->kv->ops->batch_free(b);
    if (rc < 0) {
        err_set(err, rc, "%s", own.msg);
        return store_fail(s, rc, &own);      /* RocksDB takes nothing any more */
    }
    return 0;
}

int store_trim(struct store *s, const struct index_trim *t, struct err *err)
{
    struct wait w = { .kind = WAIT_BACKLOG };
    int rc = store_await(s, &w);
    if (rc < 0)
        return err_set(err, rc, "the store has failed");
    /* a short key takes many times its bytes in RocksDB's memory, and these come by the million */
    pthread_mutex_lock(&s->drain_lock);
    s->unflushed_bytes += t->n * TRIM_COST;
    pthread_mutex_unlock(&s->drain_lock);
    pthread_mutex_lock(&s->lock);
    index_trim(&s->ix, t);
    if (s->has_threads)
        pthread_cond_signal(&s->work);
    pthread_mutex_unlock(&s->lock);
    return s->has_threads ? 0 : store_apply(s, err);
}

int store_roll(struct store *s, struct err *err)
{
    struct err own = { 0 };
    int rc = atomic_load(&s->failed);
    if (rc != 0)
        return err_set(err, rc, "the store has failed");
    rc = log_roll(s->log, &own);
    if (rc < 0)
        err_set(err, rc, "%s", own.msg);
    return rc < 0 && log_poisoned(s->log) ? store_fail(s, rc, &own) : rc;
}

/* ---- waiting ---- */

void run_nudge_locked(struct store *s, enum wait_kind kind)
{
    if (kind == WAIT_DURABLE) {
        s->want_sync = true;
        pthread_cond_signal(&s->commit);
    } else if (kind != WAIT_NONE) {
        s->want_apply = true;
        pthread_cond_signal(&s->work);
    }
}

bool store_ready(struct store *s, const struct wait *w)
{
    bool ready = true;
    if (atomic_load(&s->failed))
        return true;
    switch (w->kind) {
    case WAIT_NONE:
        return true;
    case WAIT_APPLIED:
        return atomic_load(&s->applied) >= w->addr;
    case WAIT_DURABLE:
        return log_durable(s->log) >= w->addr;
    case WAIT_BACKLOG:
        pthread_mutex_lock(&s->lock);
        ready = run_has_room_locked(s);
        pthread_mutex_unlock(&s->lock);
        return ready;
    case WAIT_HOLD:
        pthread_mutex_lock(&s->lock);
        ready = !s->hold;
        pthread_mutex_unlock(&s->lock);
        return ready;
    case WAIT_LEASE:
        return lease_holds(s) || atomic_load(&s->role) != ROLE_PRIMARY || !lease_waits(s, w->addr);
    case WAIT_REMOTE:
        return true;
    }
    return true;
}

static int drive(struct store *s, const struct wait *w)
{
    return w->kind == WAIT_DURABLE ? store_sync(s, NULL) : store_apply(s, NULL);
}

int store_await(struct store *s, const struct wait *w)
{
    struct timespec ts;
    while (!store_ready(s, w)) {
        slow_now();
        if (!s->has_threads) {
            int rc = drive(s, w);
            if (rc < 0)
                return rc;
            continue;
        }
        pthread_mutex_lock(&s->lock);
        run_nudge_locked(s, w->kind);
        /* readiness is looked at outside the lock: the time-out only bounds a wake-up missed in between */
        until(&ts, 2);
        pthread_cond_timedwait(&s->progress, &s->lock, &ts);
        pthread_mutex_unlock(&s->lock);
    }
    return atomic_load(&s->failed);
}
