/* retain.c: see retain.h. */
#include "store/core/retain.h"

#include "store/core/core_internal.h"
#include "store/core/moment_internal.h"
#include "store/core/standby.h"

#include <stdlib.h>
#include <string.h>

enum { HOLD_LOG_PART = 10 };             /* a standby that is away holds back so much of the file system's size, at most */
#define HOLD_LOG_MAX (50ull << 30)

static int nomem(struct err *err)
{
    return err_set(err, ERR_NOMEM, "retained set: out of memory");
}

/* ---- who is in a moment ---- */

int store_enter(struct store *s, uint64_t lsn)
{
    struct entered *e;
    int rc = 0;
    if (lsn == AT_LIVE)
        return 0;
    pthread_mutex_lock(&s->list_lock);
    for (e = s->entered; e != NULL && e->lsn != lsn; e = e->next)
        ;
    if (e == NULL && (e = calloc(1, sizeof *e)) != NULL) {
        e->lsn = lsn;
        e->next = s->entered;
        s->entered = e;
    }
    if (e != NULL)
        e->refs++;
    else
        rc = ERR_NOMEM;
    pthread_mutex_unlock(&s->list_lock);
    return rc;
}

void store_leave(struct store *s, uint64_t lsn)
{
    pthread_mutex_lock(&s->list_lock);
    for (struct entered **p = &s->entered; *p != NULL; p = &(*p)->next)
        if ((*p)->lsn == lsn) {
            struct entered *e = *p;
            if (--e->refs == 0) {
                *p = e->next;
                free(e);
            }
            break;
        }
    pthread_mutex_unlock(&s->list_lock);
}

bool store_lists(struct store *s, uint64_t lsn)
{
    bool yes;
    pthread_rwlock_rdlock(&s->retained_lock);
    yes = retained_lists(&s->retained, lsn);
    pthread_rwlock_unlock(&s->retained_lock);
    return yes;
}

int store_retained(struct store *s, struct retained *out, struct err *err)
{
    int rc = 0;
    pthread_rwlock_rdlock(&s->retained_lock);
    *out = s->retained;
    out->point = malloc((out->n + (size_t)1) * sizeof *out->point);
    if (out->point == NULL)
        rc = nomem(err);
    else if (out->n > 0)
        memcpy(out->point, s->retained.point, out->n * sizeof *out->point);
    pthread_rwlock_unlock(&s->retained_lock);
    return rc;
}

uint64_t store_whole_from(struct store *s)
{
    uint64_t first = history_first(s->history), horizon;
    pthread_rwlock_rdlock(&s->retained_lock);
    horizon = s->retained.horizon;
    pthread_rwlock_unlock(&s->retained_lock);
    /* of what is in the log nothing is missing, whatever is kept */
    horizon = horizon < log_first(s->log) ? horizon : log_first(s->log);
    return horizon > first ? horizon : first;
}

/* ---- a plan: every moment there is a word to say about ---- */

static int item(struct retain_plan *p, uint64_t lsn, unsigned reasons, uint64_t leaves, struct err *err)
{
    if (p->n == p->cap) {
        size_t cap = p->cap == 0 ? 64 : 2 * p->cap;
        struct retain_item *v = realloc(p->v, cap * sizeof *v);
        if (v == NULL)
            return nomem(err);
        p->v = v;
        p->cap = cap;
    }
    p->v[p->n++] = (struct retain_item){ .lsn = lsn, .reasons = reasons, .leaves_age_ns = leaves };
    return 0;
}

static int item_cmp(const void *x, const void *y)
{
    const struct retain_item *a = x, *b = y;
    return (a->lsn > b->lsn) - (a->lsn < b->lsn);
}

/* One for each moment, with all its reasons. */
static void merge(struct retain_plan *p)
{
    size_t n = 0;
    if (p->n > 1)
        qsort(p->v, p->n, sizeof *p->v, item_cmp);
    for (size_t i = 0; i < p->n; i++) {
        if (n > 0 && p->v[n - 1].lsn == p->v[i].lsn) {
            p->v[n - 1].reasons |= p->v[i].reasons;
            if (p->v[n - 1].leaves_age_ns < p->v[i].leaves_age_ns)
                p->v[n - 1].leaves_age_ns = p->v[i].leaves_age_ns;
        } else {
            p->v[n++] = p->v[i];
        }
    }
    p->n = n;
}

static int add_periods(struct store *s, struct retain_plan *p, struct err *err)
{
    struct period_list l = { 0 };
    int rc = periods_wanted(s, &p->policy, p->age_ns, &l, err);
    for (size_t i = 0; i < l.n && rc == 0; i++)
        rc = item(p, l.v[i].lsn, l.v[i].kinds, 0, err);
    periods_free(&l);
    return rc;
}

static int add_snapshots(struct store *s, struct retain_plan *p, struct err *err)
{
    const uint8_t lo[] = { 's' }, hi[] = { 's' + 1 };
    struct kv_iter *it = s->kv->ops->iter_new(s->kv, NULL, lo, 1, hi, 1);
    int64_t now = io_wall_ns(s->io);
    int rc = it != NULL ? 0 : nomem(err);
    if (rc < 0)
        return rc;
    for (s->kv->ops->iter_seek(it, lo, 1); rc == 0 && s->kv->ops->iter_valid(it); s->kv->ops->iter_next(it)) {
        size_t vlen;
        struct row_snap row;
        const uint8_t *v = s->kv->ops->iter_val(it, &vlen);
        rc = row_snap_decode(v, vlen, &row, err);
        if (rc == 0)
            rc = item(p, row.at, row.held && (row.until_ns == 0 || row.until_ns > now) ? BY_HOLD : BY_SNAPSHOT, 0, err);
    }
    if (rc == 0)
        rc = s->kv->ops->iter_err(it, err);
    s->kv->ops->iter_free(it);
    return rc;
}

static int add_used(struct store *s, struct retain_plan *p, struct err *err)
{
    uint64_t lsn[256];
    size_t pos = 0, n;
    int rc = 0;
    pthread_mutex_lock(&s->list_lock);
    for (const struct entered *e = s->entered; e != NULL && rc == 0; e = e->next)
        rc = item(p, e->lsn, BY_USE, 0, err);
    pthread_mutex_unlock(&s->list_lock);
    while (rc == 0 && s->opt.hooks.on_used != NULL && (n = s->opt.hooks.on_used(s->opt.hooks.arg, &pos, lsn, sizeof lsn / sizeof lsn[0])) > 0) {
        if (n == SIZE_MAX)
            return err_set(err, ERR_BUSY, "retained set: which moments are in use is not known yet; try again");
        for (size_t i = 0; i < n && rc == 0; i++)
            rc = item(p, lsn[i], BY_USE, 0, err);
    }
    return rc;
}

/* The points of today: those of the set's own making need a reason now, others are somebody's. */
static int add_points(struct retain_plan *p, const struct retained *now, bool at_once, struct err *err)
{
    static const uint8_t own[16];
    uint64_t due = p->age_ns + (at_once ? 0 : p->policy.grace_ns);
    int rc = 0;
    for (uint32_t i = 0; i < now->n && rc == 0; i++) {
        const struct retained_point *q = &now->point[i];
        bool ours = q->kind == RETAIN_KEPT || q->kind == RETAIN_SNAPSHOT || q->kind == RETAIN_HOLD ||
                    (q->kind == RETAIN_PIN && memcmp(q->owner, own, 16) == 0);
        uint64_t left = q->kind == RETAIN_KEPT ? (uint64_t)q->until_ns : 0;
        if (!ours)
            rc = item(p, q->lsn, BY_OTHER, 0, err);
        else if (q->lsn >= p->young)     /* what lay around it is gone, under a policy of then; it is wanted again */
            rc = item(p, q->lsn, BY_AGE, 0, err);
        else if (left == 0)
            rc = item(p, q->lsn, BY_GRACE, due > 0 ? due : 1, err);
        else if (at_once || p->age_ns >= left)
            rc = item(p, q->lsn, 0, 0, err);
        else
            rc = item(p, q->lsn, BY_GRACE, left, err);
    }
    return rc;
}

/* ---- the horizon ---- */

/* A standby that is away keeps what it has not got, within hold-log. */
static uint64_t standbys_need(struct store *s, const struct policy *p)
{
    uint64_t need = UINT64_MAX, head = log_head(s->log), hold = p->hold_log;
    struct io_space_info fs;
    struct standby b;
    if (hold == 0 && io_space(s->io, &fs, NULL) == 0)
        hold = fs.total / HOLD_LOG_PART < HOLD_LOG_MAX ? fs.total / HOLD_LOG_PART : HOLD_LOG_MAX;
    for (unsigned i = 0; i < STANDBYS_MAX; i++)
        if (standby_get(s, i, &b) && b.acked > 0 && (b.acked > head || head - b.acked <= hold) && b.acked < need)
            need = b.acked;
    return need;
}

uint64_t store_held_from(struct store *s)
{
    struct policy p;

    policy_read(s, &p);
    return standbys_need(s, &p);
}

static int new_listed(struct store *s, struct retain_plan *p, uint64_t *listed, struct err *err)
{
    uint64_t lsn = 0;
    uint64_t all = p->policy.keep_all_ns > p->policy.min_age_ns ? p->policy.keep_all_ns : p->policy.min_age_ns;
    int rc = p->age_ns > all ? periods_at_age(s, p->age_ns - all, &lsn, err) : 0;
    if (rc == 0 && lsn > 0)
        rc = moment_outside(s, &lsn, err);
    p->young = lsn;
    *listed = lsn > p->horizon ? lsn : p->horizon;
    return rc;
}

static void new_horizon(struct store *s, struct retain_plan *p, const struct retained *now, bool at_once)
{
    struct retained *n = &p->next;
    uint64_t need = standbys_need(s, &p->policy);
    /* The moment it has is that below its next record: what ends with that one is of it. */
    if (need != UINT64_MAX)
        need--;
    /* what goes was not listed by the set before: nobody can have come in since */
    uint64_t to = now->leaving != 0 && (at_once || p->age_ns >= now->leaving_age_ns) ? now->leaving : 0;
    to = to > n->listed ? n->listed : to;
    if (to > need) {
        p->held_by = need;
        to = need;
    }
    n->horizon = to > now->horizon ? to : now->horizon;
    n->leaving = now->leaving > n->horizon ? now->leaving : 0;
    n->leaving_age_ns = n->leaving != 0 ? now->leaving_age_ns : 0;
    if (n->leaving > n->listed)
        n->leaving = n->listed > n->horizon ? n->listed : 0;
    if (n->leaving == 0) {
        n->leaving = n->listed > n->horizon ? n->listed : 0;
        n->leaving_age_ns = n->leaving != 0 ? p->age_ns + (at_once ? 0 : p->policy.grace_ns) : 0;
    }
}

/* ---- from reasons to points ---- */

/* The first point at or above ${lsn}. */
static uint32_t point_at(const struct retained *r, uint64_t lsn)
{
    uint32_t lo = 0, hi = r->n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (r->point[mid].lsn < lsn)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static bool whole(const struct retained *r, uint64_t lsn)
{
    uint32_t i = point_at(r, lsn);
    return lsn >= r->horizon || (i < r->n && r->point[i].lsn == lsn);
}

static bool same_set(const struct retained *a, const struct retained *b)
{
    if (a->n != b->n || a->horizon != b->horizon || a->listed != b->listed || a->leaving != b->leaving || a->leaving_age_ns != b->leaving_age_ns)
        return false;
    for (uint32_t i = 0; i < a->n; i++)
        if (a->point[i].lsn != b->point[i].lsn || a->point[i].kind != b->point[i].kind || a->point[i].until_ns != b->point[i].until_ns)
            return false;
    return true;
}

/* The points of others stay as they are, with one LSN perhaps several. */
static void copy_others(const struct retained *now, uint64_t lsn, struct retained *n)
{
    static const uint8_t own[16];
    for (uint32_t i = 0; i < now->n; i++) {
        const struct retained_point *q = &now->point[i];
        if (q->lsn == lsn && q->kind != RETAIN_KEPT && q->kind != RETAIN_SNAPSHOT && q->kind != RETAIN_HOLD &&
            !(q->kind == RETAIN_PIN && memcmp(q->owner, own, 16) == 0))
            n->point[n->n++] = *q;
    }
}

/* One of ours; where it was there already it keeps its date. */
static void put_point(const struct store *s, struct retained *n, uint64_t lsn, uint32_t kind, uint64_t until)
{
    static const uint8_t own[16];
    struct retained_point *q = &n->point[n->n++];
    *q = (struct retained_point){ .lsn = lsn, .kind = kind, .placed_ns = io_wall_ns(s->io), .until_ns = (int64_t)until };
    for (uint32_t i = point_at(&s->retained, lsn); i < s->retained.n && s->retained.point[i].lsn == lsn; i++)
        if (s->retained.point[i].kind == kind && memcmp(s->retained.point[i].owner, own, sizeof own) == 0)
            q->placed_ns = s->retained.point[i].placed_ns;
}

static int make_points(struct store *s, struct retain_plan *p, const struct retained *now, struct err *err)
{
    struct retained *n = &p->next;
    size_t kept = 0;
    n->point = calloc(4 * p->n + now->n + 1, sizeof *n->point);      /* one of each kind of ours, and those of others */
    if (n->point == NULL)
        return nomem(err);
    for (size_t i = 0; i < p->n; i++) {
        struct retain_item *t = &p->v[i];
        unsigned reasons = t->reasons;
        bool by_policy = (reasons & (((1u << N_PERIODS) - 1) | BY_AGE)) != 0, other = (reasons & BY_OTHER) != 0;
        t->listed = retained_lists(now, t->lsn);
        if (!whole(now, t->lsn))
            continue;                    /* it was let go of, under a policy of then */
        p->v[kept++] = *t;
        if (t->lsn >= n->listed) {
            if (other)
                copy_others(now, t->lsn, n);
            continue;                    /* kept anyway */
        }
        if (by_policy)
            put_point(s, n, t->lsn, RETAIN_KEPT, 0);
        else if ((reasons & ~(unsigned)(BY_GRACE)) == 0 && (reasons & BY_GRACE))
            put_point(s, n, t->lsn, RETAIN_KEPT, t->leaves_age_ns);
        if (reasons & BY_USE)
            put_point(s, n, t->lsn, RETAIN_PIN, 0);
        if (other)
            copy_others(now, t->lsn, n);
        if (reasons & BY_SNAPSHOT)
            put_point(s, n, t->lsn, RETAIN_SNAPSHOT, 0);
        if (reasons & BY_HOLD)
            put_point(s, n, t->lsn, RETAIN_HOLD, 0);
    }
    p->n = kept;
    return n->n <= RETAINED_POINTS_MAX ? 0 : err_set(err, ERR_TOOLONG, "retained set: %u moments are to be kept, at most %d can be; make the policy keep less, or delete "
                                                     "snapshots", n->n, RETAINED_POINTS_MAX);
}

static int point_cmp(const void *x, const void *y)
{
    const struct retained_point *a = x, *b = y;
    if (a->lsn != b->lsn)
        return a->lsn < b->lsn ? -1 : 1;
    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    return memcmp(a->owner, b->owner, sizeof a->owner);
}

static bool removes(const struct retained *now, const struct retained *next)
{
    if (next->horizon > now->horizon)
        return true;
    for (uint32_t i = 0; i < now->n; i++)
        if (now->point[i].lsn < next->horizon && !whole(next, now->point[i].lsn))
            return true;
    return false;
}

/* mark_lock is held: no snapshot comes or goes meanwhile, and the set stays what it is. */
static int plan_locked(struct store *s, const struct policy *policy, bool at_once, struct retain_plan *p, struct err *err)
{
    const struct retained *now = &s->retained;
    int rc;
    p->horizon = now->horizon;
    p->listed = now->listed;
    p->age_ns = periods_age(s);
    p->next = *now;
    p->next.point = NULL;
    p->next.n = 0;
    if (policy != NULL)
        p->policy = *policy;
    rc = store_apply(s, err);
    if (rc == 0)
        rc = new_listed(s, p, &p->next.listed, err);
    if (rc == 0)
        new_horizon(s, p, now, at_once);
    if (rc == 0)
        rc = add_periods(s, p, err);
    if (rc == 0)
        rc = add_snapshots(s, p, err);
    if (rc == 0)
        rc = add_used(s, p, err);
    if (rc == 0)
        rc = add_points(p, now, at_once, err);
    if (rc == 0) {
        merge(p);
        rc = make_points(s, p, now, err);
    }
    if (rc == 0 && p->next.n > 1)
        qsort(p->next.point, p->next.n, sizeof *p->next.point, point_cmp);
    if (rc == 0) {
        p->changes = !same_set(now, &p->next);
        p->removes = removes(now, &p->next);
    }
    return rc;
}

int retain_plan(struct store *s, const struct policy *policy, bool at_once, struct retain_plan *p, struct err *err)
{
    struct policy own;
    int rc;
    memset(p, 0, sizeof *p);
    policy_read(s, &own);
    pthread_mutex_lock(&s->mark_lock);
    rc = plan_locked(s, policy != NULL ? policy : &own, at_once, p, err);
    pthread_mutex_unlock(&s->mark_lock);
    if (rc < 0)
        retain_plan_free(p);
    return rc < 0 ? rc : 0;
}

void retain_plan_free(struct retain_plan *p)
{
    retained_release(&p->next);
    free(p->v);
    memset(p, 0, sizeof *p);
}

/* ---- making it so ---- */

/* To be the set, once it is durable; mark_lock is held. Takes what ${next} points to. */
int retain_write_locked(struct store *s, struct retained *next, struct err *err)
{
    int rc = retained_write(s->io, s->sb.lineage, next, err);
    if (rc == 0) {                       /* what is on the disk counts, whatever comes next */
        struct retained old = s->retained;
        pthread_rwlock_wrlock(&s->retained_lock);
        s->retained = *next;
        pthread_rwlock_unlock(&s->retained_lock);
        retained_release(&old);
        memset(next, 0, sizeof *next);
    } else {                             /* which copy was about to change is known from here on */
        pthread_rwlock_wrlock(&s->retained_lock);
        s->retained.current = next->current;
        pthread_rwlock_unlock(&s->retained_lock);
    }
    return rc;
}

/* Is something younger than keep-all says let go of, or about to be? */
static int is_short(struct store *s, const struct policy *settings, struct retain_plan *p, struct err *err)
{
    uint64_t young = 0;
    int rc = p->age_ns > settings->keep_all_ns ? periods_at_age(s, p->age_ns - settings->keep_all_ns, &young, err) : 0;
    p->short_of = p->next.listed > LOG_FIRST_ADDR && p->next.listed > young;
    return rc;
}

int retain_update(struct store *s, const struct policy *other, bool at_once, struct err *err)
{
    struct policy policy;
    struct retain_plan p = { 0 };
    int rc;
    bool removes = false;
    if (!s->opt.writable)
        return err_set(err, ERR_ROFS, "retained set: the store is opened for reading only");
    policy_read(s, &policy);
    pthread_mutex_lock(&s->mark_lock);
    rc = plan_locked(s, other != NULL ? other : &policy, at_once, &p, err);
    if (rc == 0)
        rc = is_short(s, &policy, &p, err);
    if (rc == 0)
        atomic_store(&s->short_of, p.short_of);
    if (rc == 0 && p.changes) {
        removes = p.removes;
        rc = retain_write_locked(s, &p.next, err);
    }
    pthread_mutex_unlock(&s->mark_lock);
    for (size_t i = 0; i < p.n && rc == 0 && s->opt.hooks.on_last_use != NULL; i++)
        if (p.v[i].lsn < p.listed && (p.v[i].reasons & ~(unsigned)BY_GRACE) == BY_USE)
            s->opt.hooks.on_last_use(s->opt.hooks.arg, p.v[i].lsn);
    retain_plan_free(&p);
    return rc < 0 ? rc : removes;
}

/* Until both copies say so nothing may be removed: after damage of one the other counts. */
int retain_both_copies(struct store *s, struct err *err)
{
    int rc = 0;
    pthread_mutex_lock(&s->mark_lock);
    if (s->retained_both != s->retained.gen) {
        struct retained next = s->retained;
        rc = retained_write(s->io, s->sb.lineage, &next, err);
        pthread_rwlock_wrlock(&s->retained_lock);
        s->retained = next;
        pthread_rwlock_unlock(&s->retained_lock);
        if (rc == 0)
            s->retained_both = next.gen;
    }
    pthread_mutex_unlock(&s->mark_lock);
    return rc;
}

int retain_keep(struct store *s, struct keep *out, struct err *err)
{
    uint64_t *v;
    int rc = 0;
    pthread_rwlock_rdlock(&s->retained_lock);
    v = malloc((s->retained.n + 1) * sizeof *v);
    if (v == NULL) {
        rc = nomem(err);
    } else {
        for (uint32_t i = 0; i < s->retained.n; i++)
            v[i] = s->retained.point[i].lsn;
        *out = (struct keep){ s->retained.horizon, v, s->retained.n };
    }
    pthread_rwlock_unlock(&s->retained_lock);
    return rc;
}
