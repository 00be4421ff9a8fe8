/* moment_list.c: the moments worth showing: snapshots, the ends of past hours, days, weeks, months and years as retention
 * names them, and the newest. One look-up a point, so the cost does not grow with history. */
#include "store/core/moment.h"
#include "store/core/core_internal.h"
#include "store/core/moment_internal.h"

#include <stdlib.h>
#include <string.h>

#define NS 1000000000ll
enum { DAY = 86400, POINTS_OF_A_KIND = 1000 };

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

static int64_t keep(struct store *s, const char *name, int64_t otherwise)
{
    char text[64], *end = NULL;
    if (store_config_get(s, name, text, sizeof text) < 0)
        return otherwise;
    long long v = strtoll(text, &end, 10);
    return end == text || v < 0 ? otherwise : v > POINTS_OF_A_KIND ? POINTS_OF_A_KIND : v;
}

enum kind { HOURLY, DAILY, WEEKLY, MONTHLY, YEARLY, N_KINDS };

/* The i-th boundary before now (0: the last one), as local seconds. */
static int64_t boundary(enum kind kind, int64_t here, int64_t i)
{
    int64_t days = here >= 0 ? here / DAY : (here - DAY + 1) / DAY;
    struct civil c = civil_of(days);
    switch (kind) {
    case HOURLY:
        return days * DAY + (here - days * DAY) / 3600 * 3600 - i * 3600;
    case DAILY:
        return (days - i) * DAY;
    case WEEKLY:                         /* weeks begin on Monday; day 0 was a Thursday */
        return (days - ((days + 3) % 7 + 7) % 7 - 7 * i) * DAY;
    case MONTHLY: {
        int64_t m = c.year * 12 + c.month - 1 - i;
        return civil_days(m >= 0 ? m / 12 : (m - 11) / 12, (int)((m % 12 + 12) % 12) + 1, 1) * DAY;
    }
    default:
        return civil_days(c.year - i, 1, 1) * DAY;
    }
}

static int points(struct store *s, struct entries *l, int64_t oldest, struct err *err)
{
    static const struct { const char *name; int64_t n; } kinds[N_KINDS] = {
        { "keep-hourly", 48 }, { "keep-daily", 30 }, { "keep-weekly", 8 }, { "keep-monthly", 12 }, { "keep-yearly", 3 } };
    struct tz *tz = NULL;
    char zone[256];
    int64_t now_ns = io_wall_ns(s->io), now = now_ns / NS;
    if (store_config_get(s, "timezone", zone, sizeof zone) < 0)
        memcpy(zone, "UTC", 4);
    /* a zone that is not on this machine moves the boundaries, not the moments */
    int rc = tz_load(zone, &tz, NULL);
    if (rc < 0)
        rc = tz_load("UTC", &tz, err);
    for (int k = 0; k < N_KINDS && rc == 0; k++) {
        int64_t n = keep(s, kinds[k].name, kinds[k].n);
        for (int64_t i = 0; i < n && rc == 0; i++) {
            int64_t local = boundary((enum kind)k, now + tz_offset(tz, now), i), u[2] = { 0, 0 };
            uint64_t lsn = 0;
            if (tz_utc(tz, local, u) == 0)
                u[0] = local - tz_offset(tz, local - DAY);
            if (u[0] * NS > now_ns)
                continue;
            if (u[0] * NS < oldest)
                break;
            rc = moment_find(s, u[0] * NS, now_ns, &lsn, err);
            if (rc == ERR_NOENT) {
                rc = 0;
                continue;
            }
            if (rc == 0)
                rc = moment_outside(s, &lsn, err);
            if (rc == 0)
                rc = add(l, lsn, u[0] * NS, NULL, NULL, err);
        }
    }
    tz_free(tz);
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
    return (lsn >= s->retained.horizon && lsn >= first) || retained_has(&s->retained, lsn);
}

int moment_list(struct store *s, int (*fn)(void *arg, const struct moment_entry *e), void *arg, struct err *err)
{
    struct entries l = { 0 };
    struct row_ino root = { 0 };
    uint64_t last = 0, shown = 0;
    int64_t oldest = 0, wall = 0;
    int rc = moment_resolve(s, "now", &last, err);
    if (rc == 0)
        rc = moment_wall(s, last, &wall, err);
    if (rc == 0)
        rc = asof_ino(s->kv, last, INO_ROOT, &root, NULL, err);
    if (rc == 0)
        rc = moment_wall(s, root.created, &oldest, err);
    if (rc == 0)
        rc = snapshots(s, &l, err);
    if (rc == 0)
        rc = points(s, &l, oldest, err);
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
