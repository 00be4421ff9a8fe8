/*
 * change.c: the one way of every change: lock, validate against rows in memory, take an LSN, apply, unlock, write the
 * record, wait for lower ones to be written. The answer is given after that.
 *
 * Once the LSN is taken nothing may fail: a failure of apply or of the write stops the store for good, and recovery
 * starts from what the log holds.
 */
#include "store/core/core_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { BURST_NS = 2000000000 };       /* quiet time that ends a burst */

int change_begin(struct store *s, struct wait *wait)
{
    struct wait own;
    struct wait *w = wait_or(wait, &own);
    for (;;) {
        int failed = atomic_load(&s->failed);
        if (failed)
            return ERR_POISONED;
        if (!s->opt.writable)
            return ERR_ROFS;
        pthread_mutex_lock(&s->lock);
        if (atomic_load(&s->role) != ROLE_PRIMARY)       /* under the lock: when the role was left no record comes any more */
            return change_abort(s, ERR_FENCED);
        bool leased = lease_holds(s), held = s->hold && !(s->hold_passes && pthread_equal(s->hold_by, pthread_self()));
        if (!leased && (wait == NULL || !lease_waits(s, lease_wait_until(s))))
            return change_abort(s, ERR_FENCED);
        if (leased && !held && run_has_room_locked(s)) {
            s->leased = true;
            return 0;
        }
        /*
         * A command may hold locks that the one who holds changes needs. So may the kernel, of a request: where somebody makes changes of his own meanwhile (a promotion to a moment), and the
         * kernel is told of them, nobody waits for him; until a moment ago it was a standby, which took none.
         */
        if (held && (wait == NULL || s->hold_passes))
            return change_abort(s, wait == NULL ? ERR_BUSY : ERR_FENCED);
        *w = !leased ? (struct wait){ WAIT_LEASE, lease_wait_until(s) } : (struct wait){ held ? WAIT_HOLD : WAIT_BACKLOG, 0 };
        run_nudge_locked(s, w->kind);
        pthread_mutex_unlock(&s->lock);
        if (wait != NULL)
            return ERR_WAIT;
        int rc = store_await(s, w);
        if (rc < 0)
            return rc;
    }
}

int change_own(struct store *s)
{
    if (atomic_load(&s->failed))
        return ERR_POISONED;
    pthread_mutex_lock(&s->lock);
    s->leased = false;
    return 0;
}

int change_more(struct store *s)
{
    int rc = change_own(s);
    if (rc == 0 && atomic_load(&s->role) != ROLE_PRIMARY)
        return change_abort(s, ERR_FENCED);
    if (rc == 0)
        s->leased = true;
    return rc;
}

int change_abort(struct store *s, int rc)
{
    pthread_mutex_unlock(&s->lock);
    return rc;
}

bool change_new_burst(struct store *s, const struct crow *ino)
{
    const struct rec_time *c = &ino->u.ino.row.ctime;
    int64_t then = c->sec * 1000000000 + c->nsec, now = io_wall_ns(s->io);
    return ino->u.ino.synced || now < then || now - then >= BURST_NS;
}

static int commit_locked(struct store *s, const struct caller *c, struct record *rec, uint8_t *head, size_t cap,
                         uint64_t *sums, struct log_slot *slot, struct err *err)
{
    struct crow *r = NULL;
    uint32_t mode = 0, n_xattr = 0;
    rec->uid = c->uid;
    rec->gid = c->gid;
    rec->pid = c->pid;
    rec->unique = c->unique;
    bool series = rec->type == REC_SERIES_BEGIN || (s->series && rec->type != REC_SERIES_END);
    rec->flags |= (uint16_t)((c->kill_priv ? RECF_KILL_PRIV : 0) | (series ? RECF_SERIES : 0));
    if (rec->ino != 0 && (r = cache_peek(&s->ix.cache, CROW_INO, rec->ino, 0, 0, NULL, 0)) != NULL && r->present) {
        if (change_new_burst(s, r))
            rec->flags |= RECF_NEW_BURST;
        r->u.ino.synced = false;
        mode = r->u.ino.row.mode;
        n_xattr = r->u.ino.row.n_xattr;
    }
    int rc = record_encode(rec, sums, head, cap);
    if (rc < 0)
        return rc;
    rc = reserve_allows(s, rec, err);
    if (rc == 0)
        rc = log_room(s->log, (uint64_t)rec->head_len + rec->data_len, err);
    if (rc == 0 && s->leased && !lease_holds(s))         /* it ran out since: nothing of this change has happened */
        rc = ERR_FENCED;
    if (rc == 0)
        rc = log_append_begin(s->log, rec, head, slot);
    if (rc < 0)
        return rc;
    s->series = series;                  /* not before: without room for its record none begins, and none ends */
    if (c->lsn_out != NULL)
        *c->lsn_out = rec->lsn;
    rc = index_apply(&s->ix, rec, err);
    if (rc < 0)
        return ERR_POISONED;             /* the caller stops the store */
    if (c->killed != NULL && mode != 0 && r->present)
        *c->killed = (mode & ~r->u.ino.row.mode & (S_ISUID | S_ISGID)) != 0 || r->u.ino.row.n_xattr < n_xattr;
    run_appended_locked(s);
    return 0;
}

int change_commit_row(struct store *s, const struct caller *c, struct record *rec, const void *data, uint64_t ino,
                      struct row_ino *row)
{
    uint8_t stack[HEAD_STACK];
    uint64_t sums[(1 << 20) / REC_SUM_BYTES + 1];
    struct err err = { 0 };
    struct log_slot slot;
    struct crow *r;
    uint8_t *head = stack, *big = NULL;
    size_t cap = sizeof stack;
    uint32_t need = record_head_len(rec);
    int rc = 0;
    if (rec->data_len > (1u << 20)) {
        rc = ERR_TOOLONG;
    } else if (need > cap) {
        head = big = malloc(need);
        cap = need;
        rc = big != NULL ? 0 : ERR_NOMEM;
    }
    if (rc == 0 && rec->data_len > 0)
        record_sums(data, rec->data_len, sums);
    if (rc == 0)
        rc = commit_locked(s, c, rec, head, cap, sums, &slot, &err);
    if (rc == 0 && row != NULL && (r = cache_peek(&s->ix.cache, CROW_INO, ino, 0, 0, NULL, 0)) != NULL)
        *row = r->u.ino.row;
    pthread_mutex_unlock(&s->lock);
    if (rc == ERR_POISONED) {
        store_fail(s, rc, &err);
    } else if (rc == 0) {
        rc = log_append_write(s->log, &slot, head, rec->head_len, data, rec->data_len, &err);
        if (rc == 0)
            rc = log_wait_written(s->log, rec->lsn);
        if (rc < 0)
            store_fail(s, rc, &err);
    }
    free(big);
    return rc;
}

int change_commit(struct store *s, const struct caller *c, struct record *rec, const void *data)
{
    return change_commit_row(s, c, rec, data, 0, NULL);
}

int change_ino(struct store *s, uint64_t ino, struct crow **out)
{
    int rc = cache_ino(&s->ix.cache, ino, out, NULL);
    return rc < 0 ? rc : (*out)->present ? 0 : ERR_STALE;
}

int change_dir(struct store *s, uint64_t ino, struct crow **out)
{
    int rc = change_ino(s, ino, out);
    if (rc == 0 && !S_ISDIR((*out)->u.ino.row.mode))
        return ERR_NOTDIR;
    if (rc == 0 && (*out)->u.ino.row.nlink == 0)
        return ERR_NOENT;                /* a removed directory takes no names */
    return rc;
}

static int name_ok(const char *name, size_t nlen)
{
    if (nlen == 0)
        return ERR_NOENT;
    if (nlen > REC_NAME_MAX)
        return ERR_NAMETOOLONG;
    if (memchr(name, '/', nlen) != NULL || memchr(name, '\0', nlen) != NULL ||
        (name[0] == '.' && (nlen == 1 || (nlen == 2 && name[1] == '.'))))
        return ERR_INVAL;
    return 0;
}

int change_name(struct store *s, uint64_t parent, const char *name, size_t nlen, struct crow **out)
{
    int rc = name_ok(name, nlen);
    return rc < 0 ? rc : cache_den(&s->ix.cache, parent, name, nlen, out, NULL);
}
