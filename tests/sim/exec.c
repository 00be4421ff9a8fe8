/* exec.c: operations on the store and on the model, and the history they make. */
#include "tests/sim/rig.h"

#include "store/core/retain.h"

#include "store/log/record.h"

#include <errno.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SAME(model, store) _Static_assert((int)(model) == (int)(store), "the model's numbers are the store's")
SAME(M_MODE, RSA_MODE); SAME(M_UID, RSA_UID); SAME(M_GID, RSA_GID); SAME(M_SIZE, RSA_SIZE);
SAME(M_ATIME, RSA_ATIME); SAME(M_MTIME, RSA_MTIME); SAME(M_NOREPLACE, RRN_NOREPLACE); SAME(M_EXCHANGE, RRN_EXCHANGE);
SAME(M_KEEP_SIZE, RFA_KEEP_SIZE); SAME(M_PUNCH, RFA_PUNCH_HOLE); SAME(M_ZERO, RFA_ZERO_RANGE);
SAME(M_SNAP_CREATE, RSN_CREATE); SAME(M_SNAP_DELETE, RSN_DELETE); SAME(M_SNAP_HOLD, RSN_HOLD); SAME(M_SNAP_RELEASE, RSN_RELEASE);
#undef SAME
_Static_assert(M_SIZE_MAX == FILE_SIZE_MAX, "the largest file");

/* ---- history ---- */

void history_add(struct rig *r, struct mop *op)
{
    r->hist = m_grow(r->hist, &r->cap_hist, r->n_hist + 1, sizeof *r->hist);
    r->hist[r->n_hist++] = *op;
    op->data = NULL;             /* it belongs to the history now */
    uint64_t lsn = r->hist[r->n_hist - 1].lsn;
    r->mom = m_grow(r->mom, &r->cap_mom, r->n_mom + 1, sizeof *r->mom);
    r->mom[r->n_mom++] = (struct moment){ lsn, r->m->digest, model_past(r->m) };
}

const struct moment *history_at(const struct rig *r, uint64_t lsn)
{
    size_t k = r->n_mom;
    while (k > 1 && r->mom[k - 1].lsn > lsn)
        k--;
    return &r->mom[k - 1];
}

/* The first entry is the root: operation 0 is a CREATE without a parent. */
static void replay_one(struct model *m, const struct mop *op)
{
    if (op->kind == MOP_CREATE && op->parent == 0)
        model_root(m, op->ino, op->mode, op->uid, op->gid, op->now_ns);
    else
        (void)model_do(m, op);
}

struct model *history_model(const struct rig *r, uint64_t lsn)
{
    struct model *m = model_new();
    for (size_t k = 0; k < r->n_hist && r->hist[k].lsn <= lsn; k++)
        replay_one(m, &r->hist[k]);
    return m;
}

int history_cut(struct rig *r, uint64_t lsn)
{
    while (r->n_hist > 0 && r->hist[r->n_hist - 1].lsn > lsn) {
        mop_free(&r->hist[--r->n_hist]);
        r->n_mom--;
        r->shortened = true;
        r->st->lost++;
    }
    model_free(r->m);
    r->m = history_model(r, lsn);
    if (!mhash_eq(r->m->digest, r->mom[r->n_mom - 1].digest) || !mhash_eq(model_past(r->m), r->mom[r->n_mom - 1].past))
        return rig_viol(r, "the model itself: replaying its history to @%" PRIu64 " gives another digest", lsn);
    return 0;
}

/* ---- one operation ---- */

bool fault_error(const struct rig *r, int64_t rc)
{
    return r->faulty && (rc == ERR_IO || rc == ERR_NOSPC || rc == ERR_POISONED || rc == ERR_DAMAGE || rc == ERR_NOMEM);
}

static struct rec_time time_in(struct mtime t)
{
    return (struct rec_time){ t.sec, t.nsec == M_NOW ? TIME_NOW : t.nsec };
}

/* The store's own call. *ino and *row where it gives them. */
static int64_t call(struct rig *r, struct mop *op, const struct caller *c, uint64_t *ino, struct row_ino *row, uint64_t *gone,
                    struct wait *w)
{
    struct store *s = r->w.s;
    struct setattr_in in = { .valid = op->valid, .mode = op->mode, .uid = op->new_uid, .gid = op->new_gid, .size = op->size,
                             .atime = time_in(op->atime), .mtime = time_in(op->mtime) };
    uint64_t at = 0;
    int rc;
    switch (op->kind) {
    case MOP_CREATE:
        return store_create_node(s, c, op->parent, op->name, op->nlen, op->mode, op->rdev,
                                 S_ISLNK(op->mode) ? (const char *)op->data : NULL, ino, row, w);
    case MOP_LINK:
        return store_link_node(s, c, op->ino, op->parent, op->name, op->nlen, row, w);
    case MOP_UNLINK:
    case MOP_RMDIR:
        return store_unlink(s, c, op->parent, op->name, op->nlen, op->kind == MOP_RMDIR, gone, w);
    case MOP_RENAME:
        return store_rename(s, c, op->parent, op->name, op->nlen, op->parent2, op->name2, op->nlen2, op->flags, gone, w);
    case MOP_SETATTR:
        return store_setattr(s, c, op->ino, &in, row, w);
    case MOP_WRITE:
        return store_write(s, c, op->ino, op->off, op->data, op->dlen, w);
    case MOP_FALLOCATE:
        return store_fallocate(s, c, op->ino, op->flags, op->off, op->len, w);
    case MOP_CLONE:
        return store_clone(s, c, op->src_at == M_LIVE ? AT_LIVE : op->src_at, op->src_ino, op->src_off, op->ino, op->off, op->len, w);
    case MOP_SETXATTR:
        return store_setxattr(s, c, op->ino, op->name, op->data, op->dlen, op->flags, op->kill, w);
    case MOP_REMOVEXATTR:
        return store_removexattr(s, c, op->ino, op->name, w);
    case MOP_SNAPSHOT:
        rc = store_snapshot(s, c, op->flags, op->name, AT_LIVE, "why", "who", 0, &at, NULL);
        if (rc == 0 && op->flags == M_SNAP_CREATE && at < r->answered)
            return rig_viol(r, "snapshot names @%" PRIu64 ", the last operation was @%" PRIu64, at, r->answered);
        return rc;
    case MOP_SERIES:
        return store_series(s, c, op->flags != 0, "a series", NULL);
    case MOP_REAP:
    case MOP_N_KINDS:
        break;
    }
    return 0;
}

static int64_t call_waiting(struct rig *r, struct mop *op, uint64_t *ino, struct row_ino *row, uint64_t *gone)
{
    struct caller c = { .uid = op->uid, .gid = op->gid, .pid = 7, .unique = r->step, .umask = op->umask,
                        .kill_priv = op->kill && op->kind != MOP_SETXATTR, .lsn_out = &op->lsn };
    struct wait w = { WAIT_NONE, 0 };
    if (rng_chance(&r->rng, 60))
        return call(r, op, &c, ino, row, gone, NULL);
    for (int tries = 0; tries < 50; tries++) {
        int64_t rc = call(r, op, &c, ino, row, gone, &w);
        if (rc != ERR_WAIT)
            return rc;
        if (op->lsn != 0)
            return rig_viol(r, "ERR_WAIT from an operation that took LSN @%" PRIu64, op->lsn);
        if (!store_ready(r->w.s, &w) && (rc = store_await(r->w.s, &w)) < 0)
            return rc;
    }
    return rig_viol(r, "ERR_WAIT for ever");
}

static int row_is(struct rig *r, const struct row_ino *row, const struct mino *i)
{
    const struct mattr *a = &i->a;
    if (row->mode != a->mode || row->uid != a->uid || row->gid != a->gid || row->size != a->size || row->nlink != a->nlink ||
        row->rdev != a->rdev || row->mtime.sec != a->mt.sec || row->mtime.nsec != a->mt.nsec || row->ctime.sec != a->ct.sec ||
        row->ctime.nsec != a->ct.nsec || row->atime.sec != a->at.sec || row->atime.nsec != a->at.nsec)
        return rig_viol(r, "attributes in the answer: inode %" PRIu64 " expected mode %o nlink %u size %" PRIu64
                        ", found mode %o nlink %u size %" PRIu64 " (or times)", a->ino, a->mode, a->nlink, a->size, row->mode,
                        row->nlink, row->size);
    return 0;
}

/* Every file that lost its last name is used by nobody any more. */
static int exec_reap(struct rig *r, struct mop *op)
{
    uint64_t v[64];
    size_t n = 0;
    struct store_info before, after;
    for (size_t k = 0; k < r->m->n_ino && n < 64; k++)
        if (r->m->ino[k]->a.nlink == 0)
            v[n++] = r->m->ino[k]->a.ino;
    if (n == 0)
        return 0;
    r->st->ops++;
    r->st->done[MOP_REAP]++;
    n = 1 + (size_t)rng_below(&r->rng, n);
    store_info(r->w.s, &before);
    int rc = store_reap(r->w.s, v, n, NULL);
    store_info(r->w.s, &after);
    if (rc < 0 && !fault_error(r, rc))
        return rig_viol(r, "reap of %zu orphans: %s", n, err_name(rc));
    if (rc < 0 && after.head == before.head)
        return 0;                        /* else it may be in the log or not: recovery shows */
    if (after.head == before.head)
        return rig_viol(r, "reap of %zu orphans left no record", n);
    for (size_t k = 0; k < n; k++) {
        struct mop one = *op;
        one.ino = v[k];
        one.lsn = before.head;
        model_do(r->m, &one);
        history_add(r, &one);
    }
    if (rc == 0)
        r->answered = before.head;
    return 0;
}

/* The bytes a clone out of the past is about to take, as the model remembers them. */
static int past_source(struct rig *r, struct mop *op)
{
    if (op->kind != MOP_CLONE || op->src_at == M_LIVE)
        return 0;
    size_t k = (size_t)rng_below(&r->rng, r->n_mom);
    op->src_at = r->mom[k].lsn;
    if (!store_lists(r->w.s, op->src_at))
        return 1;                /* nobody can get there */
    struct model *m = history_model(r, op->src_at);
    if (rng_chance(&r->rng, 80))
        op->src_ino = gen_ino(&r->gen, m, S_IFREG);
    const struct mino *i = model_find(m, op->src_ino);
    bool ok = i != NULL && S_ISREG(i->a.mode) && !i->hidden;
    if (ok) {
        uint64_t left = op->src_off < i->a.size ? i->a.size - op->src_off : 0;
        uint64_t len = op->len < left ? op->len : left;
        op->data = m_alloc(len + 1);
        op->dlen = (uint32_t)model_read(i, op->src_off, op->data, (size_t)len);
    }
    model_free(m);
    return ok ? 0 : 1;
}

/* Whether the setting has the names that it gives; the store and the model are told the same patterns, and match them each by itself. */
static bool has_name(const struct rig *r, const char *name)
{
    char words[sizeof r->patterns], *save = NULL;
    memcpy(words, r->patterns, sizeof words);
    for (char *p = strtok_r(words, " ", &save); p != NULL; p = strtok_r(NULL, " ", &save))
        if (fnmatch(p, name, 0) == 0)
            return true;
    return false;
}

static void match_names(const struct rig *r, struct mop *op)
{
    if (op->kind != MOP_CREATE && op->kind != MOP_LINK && op->kind != MOP_RENAME)
        return;
    op->by_name = has_name(r, op->kind == MOP_RENAME ? op->name2 : op->name);
    op->by_name2 = op->kind == MOP_RENAME && (op->flags & M_EXCHANGE) && has_name(r, op->name);
}

static bool expected_error(const struct merrs *e, int64_t rc)
{
    for (int k = 0; k < e->n; k++)
        if (err_errno((int)rc) == e->e[k])
            return true;
    return false;
}

static int refused(struct rig *r, struct mop *op, int64_t rc, const struct merrs *e, uint64_t ino)
{
    struct store_info info;
    store_info(r->w.s, &info);
    if (r->viol[0] != '\0')
        return -1;
    if (fault_error(r, rc)) {
        r->st->faults_hit++;
        if (op->lsn != 0) {
            if (!info.failed)
                return rig_viol(r, "%s failed with %s after it took LSN @%" PRIu64 ", and the store goes on", mop_name(op->kind),
                                err_name((int)rc), op->lsn);
            /* it may be in the log or not: recovery shows */
            if (op->kind == MOP_CREATE)
                op->ino = ino;
            if (e->n == 0 && (op->kind != MOP_CREATE || ino != 0)) {
                model_do(r->m, op);
                history_add(r, op);
            }
        }
        return 0;
    }
    if (e->n == 0)
        return rig_viol(r, "expected success, found %s", err_name((int)rc));
    if (!expected_error(e, rc))
        return rig_viol(r, "expected %s, found %s", strerror(e->e[0]), err_name((int)rc));
    if (op->lsn != 0)
        return rig_viol(r, "refused with %s, and yet in the log at @%" PRIu64, err_name((int)rc), op->lsn);
    r->st->refused++;
    r->st->xdev += rc == ERR_XDEV;
    return 0;
}

static int check_gone(struct rig *r, const struct mop *op, uint64_t gone, uint64_t victim)
{
    if (op->kind != MOP_UNLINK && op->kind != MOP_RMDIR && op->kind != MOP_RENAME)
        return 0;
    const struct mino *i = victim != 0 ? model_find(r->m, victim) : NULL;
    uint64_t expect = i != NULL && i->a.nlink == 0 ? victim : 0;
    return gone == expect ? 0 : rig_viol(r, "expected orphan %" PRIu64 ", found %" PRIu64, expect, gone);
}

/* The inode that a removed or replaced name belonged to. */
static uint64_t victim_of(const struct model *m, const struct mop *op)
{
    bool rename = op->kind == MOP_RENAME;
    const struct mino *d = model_find(m, rename ? op->parent2 : op->parent);
    if (d == NULL || (rename && (op->flags & M_EXCHANGE)))
        return 0;
    const struct mdent *n = rename ? model_entry(d, op->name2, op->nlen2) : model_entry(d, op->name, op->nlen);
    return n != NULL ? n->ino : 0;
}

static size_t n_hidden(const struct model *m)
{
    size_t n = 0;
    for (size_t k = 0; k < m->n_ino; k++)
        n += m->ino[k]->hidden;
    return n;
}

int exec_op(struct rig *r, struct mop *op)
{
    struct row_ino row = { 0 };
    struct merrs e;
    uint64_t ino = 0, gone = 0, victim;
    int rc = 0;
    mop_text(op, r->doing, sizeof r->doing);
    if (op->kind == MOP_REAP)
        return exec_reap(r, op);
    if (past_source(r, op) != 0)
        return 0;
    match_names(r, op);
    model_check(r->m, op, &e);
    victim = victim_of(r->m, op);
    if (op->kind == MOP_CREATE)
        op->ino = 0;
    mop_text(op, r->doing, sizeof r->doing);
    r->st->ops++;
    r->st->done[op->kind]++;
    int64_t got = call_waiting(r, op, &ino, &row, &gone);
    mop_text(op, r->doing, sizeof r->doing);
    if (got < 0)
        return refused(r, op, got, &e, ino);
    if (e.n > 0)
        return rig_viol(r, "expected %s, found success", strerror(e.e[0]));
    if (op->kind == MOP_CREATE) {
        op->ino = ino;
        if (ino <= r->m->max_ino)
            return rig_viol(r, "inode number %" PRIu64 " was used before", ino);
    }
    if (op->kind == MOP_WRITE && got != op->dlen)
        return rig_viol(r, "write of %u bytes answers %" PRId64, op->dlen, got);
    if (op->lsn != 0 && op->lsn <= r->answered)
        return rig_viol(r, "LSN @%" PRIu64 " after @%" PRIu64, op->lsn, r->answered);
    struct mhash before = r->m->digest;
    const size_t hidden = n_hidden(r->m);
    uint64_t moved = model_do(r->m, op);
    if (op->lsn == 0) {
        if (!mhash_eq(before, r->m->digest))
            return rig_viol(r, "answered, changes the tree, and left no record");
        return 0;
    }
    if (op->kind == MOP_CREATE)
        r->st->hidden_made += n_hidden(r->m) > hidden;
    else if (op->kind == MOP_RENAME || op->kind == MOP_LINK) {
        r->st->hidden_moved += n_hidden(r->m) > hidden;
        r->st->shown_moved += n_hidden(r->m) < hidden;
    }
    r->answered = op->lsn;
    r->changed_last = op->ino;
    if (op->kind == MOP_SNAPSHOT && op->lsn > r->acked)
        r->acked = op->lsn;
    if (op->kind == MOP_CLONE && (uint64_t)got != moved)
        rc = rig_viol(r, "clone: expected %" PRIu64 " bytes, found %" PRId64, moved, got);
    if (rc == 0 && (op->kind == MOP_CREATE || op->kind == MOP_LINK || op->kind == MOP_SETATTR))
        rc = row_is(r, &row, model_find(r->m, op->ino));
    if (rc == 0)
        rc = check_gone(r, op, gone, victim);
    history_add(r, op);
    return rc;
}

/* ---- reads, compared ---- */

int exec_reads(struct rig *r)
{
    bool past = rng_chance(&r->rng, 40);
    uint64_t at = past ? r->mom[rng_below(&r->rng, r->n_mom)].lsn : AT_LIVE;
    if (past && !store_lists(r->w.s, at))
        past = false, at = AT_LIVE;
    struct model *m = past ? history_model(r, at) : NULL;
    const struct model *look = past ? m : r->m;
    int rc = 0;
    r->st->reads++;
    for (int k = 0; k < 4 && rc == 0; k++) {
        uint64_t ino = gen_ino(&r->gen, look, k == 0 ? S_IFDIR : k == 1 ? S_IFREG : 0);
        if (ino != 0)
            rc = oracle_object(r, r->w.s, at, look, model_find(look, ino));
    }
    model_free(m);
    return rc;
}
