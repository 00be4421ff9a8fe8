/* moment_list.c: the moments worth showing: snapshots, the ends of past hours, days, weeks, months and years that the policy keeps, and
 * the newest. */
#include "store/core/moment.h"
#include "store/core/core_internal.h"
#include "store/core/moment_internal.h"
#include "store/core/periods.h"

#include <stdlib.h>
#include <string.h>

struct entry { struct moment_entry e; char *name, *reason; };
struct entries { struct entry *v; size_t n, cap; };

static int add(struct entries *l, uint64_t lsn, int64_t wall, const struct key_parts *kp, const struct row_snap *row, struct err *err)
{
    if (l->n == l->cap) {
        size_t cap = l->cap == 0 ? 128 : l->cap * 2;
        struct entry *v = realloc(l->v, cap * sizeof *v);
        if (v == NULL)
            return err_set(err, ERR_NOMEM, "moments: out of memory");
        l->v = v;
        l->cap = cap;
    }
    struct entry *e = &l->v[l->n];
    memset(e, 0, sizeof *e);
    e->e.lsn = lsn;
    e->e.wall_ns = wall;
    if (kp != NULL) {
        e->name = strndup((const char *)kp->name, kp->name_len);
        e->reason = strndup(row->reason_len > 0 ? (const char *)row->reason : "", row->reason_len);
        if (e->name == NULL || e->reason == NULL) {
            free(e->name);
            free(e->reason);
            return err_set(err, ERR_NOMEM, "moments: out of memory");
        }
        e->e.held = row->held;
    }
    l->n++;
    return 0;
}

static int snapshots(struct store *s, struct entries *l, struct err *err)
{
    uint8_t lo[KV_KEY_MAX], hi[KV_KEY_MAX];
    size_t llen = key_snap(lo, "", 0);
    memcpy(hi, lo, llen);
    hi[llen - 1]++;
    struct kv_iter *it = s->kv->ops->iter_new(s->kv, NULL, lo, llen, hi, llen);
    int rc = it != NULL ? 0 : err_set(err, ERR_NOMEM, "moments: out of memory");
    if (rc < 0)
        return rc;
    for (s->kv->ops->iter_seek(it, lo, llen); rc == 0 && s->kv->ops->iter_valid(it); s->kv->ops->iter_next(it)) {
        size_t klen, vlen;
        struct key_parts kp;
        struct row_snap row = { 0 };
        int64_t wall = 0;
        const uint8_t *k = s->kv->ops->iter_key(it, &klen), *v = s->kv->ops->iter_val(it, &vlen);
        if (!key_parse(k, klen, &kp))
            rc = err_set(err, ERR_DAMAGE, "index: the key of a snapshot cannot be read; rebuild the index");
        else
            rc = row_snap_decode(v, vlen, &row, err);
        if (rc == 0 && moment_wall(s, row.at, &wall, NULL) < 0)
            wall = row.wall_ns;
        if (rc == 0)
            rc = add(l, row.at, wall, &kp, &row, err);
    }
    if (rc == 0)
        rc = s->kv->ops->iter_err(it, err);
    s->kv->ops->iter_free(it);
    return rc;
}

/* The ends of periods that the policy wants, named by where the periods end. */
static int points(struct store *s, struct entries *l, struct err *err)
{
    struct period_list ends = { 0 };
    struct policy p;
    int rc;
    policy_read(s, &p);
    rc = periods_wanted(s, &p, periods_age(s), &ends, err);
    for (size_t i = 0; i < ends.n && rc == 0; i++)
        for (int k = 0; k < N_PERIODS && rc == 0; k++)
            if (ends.v[i].kinds & 1u << k)
                rc = add(l, ends.v[i].lsn, ends.v[i].wall_ns[k], NULL, NULL, err);
    periods_free(&ends);
    return rc;
}

/* Oldest first; of one LSN snapshots first, then the earliest time that names it. */
static int entry_cmp(const void *x, const void *y)
{
    const struct entry *a = x, *b = y;
    if (a->e.lsn != b->e.lsn)
        return a->e.lsn < b->e.lsn ? -1 : 1;
    if ((a->name == NULL) != (b->name == NULL))
        return a->name == NULL ? 1 : -1;
    if (a->name != NULL)
        return strcmp(a->name, b->name);
    return a->e.wall_ns < b->e.wall_ns ? -1 : a->e.wall_ns > b->e.wall_ns;
}

static bool is_kept(struct store *s, uint64_t lsn, uint64_t first)
{
    bool yes;
    pthread_rwlock_rdlock(&s->retained_lock);
    yes = lsn >= first && retained_lists(&s->retained, lsn);
    pthread_rwlock_unlock(&s->retained_lock);
    return yes;
}

int moment_list(struct store *s, int (*fn)(void *arg, const struct moment_entry *e), void *arg, struct err *err)
{
    struct entries l = { 0 };
    struct row_ino root = { 0 };
    uint64_t last = 0, shown = 0;
    int64_t wall = 0;
    int rc = moment_resolve(s, "now", &last, err);
    if (rc == 0)
        rc = moment_wall(s, last, &wall, err);
    if (rc == 0)
        rc = asof_ino(s->kv, last, INO_ROOT, &root, NULL, err);
    if (rc == 0)
        rc = snapshots(s, &l, err);
    if (rc == 0)
        rc = points(s, &l, err);
    if (rc == 0)
        rc = add(&l, last, wall, NULL, NULL, err);
    if (rc == 0 && l.n > 1)
        qsort(l.v, l.n, sizeof *l.v, entry_cmp);
    for (size_t i = 0; i < l.n && rc == 0; i++) {
        struct entry *e = &l.v[i];
        if (e->name == NULL && (e->e.lsn == shown || !is_kept(s, e->e.lsn, root.created)))
            continue;
        if (e->name == NULL)
            shown = e->e.lsn;
        e->e.name = e->name;
        e->e.reason = e->reason;
        if (fn(arg, &e->e) != 0)
            break;
    }
    for (size_t i = 0; i < l.n; i++) {
        free(l.v[i].name);
        free(l.v[i].reason);
    }
    free(l.v);
    return rc;
}
