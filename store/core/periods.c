/*
 * periods.c: see periods.h. One iterator goes over the rows of the clock in the order of the stream, from the beginning of an hour to that of the
 * next: the first record of each quarter of an hour has a row, and hours begin with a quarter in every time zone.
 */
#include "store/core/periods.h"

#include "store/core/core_internal.h"
#include "store/core/moment_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define NS 1000000000ll
enum { HOUR = 3600, DAY = 86400, AGAIN_MAX = 8 };     /* ends of one period that a clock brings again and again */

static int nomem(struct err *err)
{
    return err_set(err, ERR_NOMEM, "periods: out of memory");
}

static int64_t div_down(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

/* ---- rows of the clock ---- */

struct ticks { struct kv *kv; struct kv_iter *it; };
struct tick { uint32_t run; int64_t wall_ns; struct row_time row; };

static int ticks_open(struct ticks *t, struct store *s, struct err *err)
{
    uint8_t lo[KV_KEY_MAX], hi[KV_KEY_MAX];
    size_t llen = key_time(lo, 0, INT64_MIN), hlen = key_time(hi, UINT32_MAX, INT64_MAX);

    t->kv = s->kv;
    t->it = s->kv->ops->iter_new(s->kv, NULL, lo, llen, hi, hlen);
    return t->it != NULL ? 0 : nomem(err);
}

static void ticks_close(struct ticks *t)
{
    if (t->it != NULL)
        t->kv->ops->iter_free(t->it);
}

static int tick_here(struct ticks *t, struct tick *out, struct err *err)
{
    struct key_parts k;
    size_t klen, vlen;
    const uint8_t *key, *val;
    int rc;

    if (!t->kv->ops->iter_valid(t->it))
        return t->kv->ops->iter_err(t->it, err);
    key = t->kv->ops->iter_key(t->it, &klen);
    val = t->kv->ops->iter_val(t->it, &vlen);
    if (!key_parse(key, klen, &k))
        return err_set(err, ERR_DAMAGE, "index: a row of the clock cannot be read; rebuild the index");
    rc = row_time_decode(val, vlen, &out->row, err);
    out->run = k.run;
    out->wall_ns = k.wall_ns;
    return rc < 0 ? rc : 1;
}

/* The first row at or behind this place of the clock: 1, 0 none, < 0. */
static int tick_from(struct ticks *t, uint32_t run, int64_t wall_ns, struct tick *out, struct err *err)
{
    uint8_t key[KV_KEY_MAX];

    t->kv->ops->iter_seek(t->it, key, key_time(key, run, wall_ns));
    return tick_here(t, out, err);
}

static int tick_next(struct ticks *t, struct tick *out, struct err *err)
{
    t->kv->ops->iter_next(t->it);
    return tick_here(t, out, err);
}

/* Behind the hour of ${t}, of which ${off} is the offset from UTC. */
static int64_t next_hour(const struct tick *t, int32_t off)
{
    int64_t utc = div_down(t->wall_ns, NS), local = utc + off, left = HOUR - (local - div_down(local, HOUR) * HOUR);

    return (utc + left) * NS;
}

/* ---- names of periods ---- */

static int64_t label_of(enum period_kind k, int64_t local)
{
    int64_t days = div_down(local, DAY);
    struct civil c;

    switch (k) {
    case HOURLY:
        return div_down(local, HOUR);
    case DAILY:
        return days;
    case WEEKLY:                         /* weeks begin on Monday; day 0 was a Thursday */
        return div_down(days + 3, 7);
    case MONTHLY:
        c = civil_of(days);
        return c.year * 12 + c.month - 1;
    default:
        c = civil_of(days);
        return c.year;
    }
}

/* Where it ends, as clocks there show it. */
static int64_t label_end(enum period_kind k, int64_t label)
{
    int64_t next = label + 1;

    switch (k) {
    case HOURLY:
        return next * HOUR;
    case DAILY:
        return next * DAY;
    case WEEKLY:
        return (next * 7 - 3) * DAY;
    case MONTHLY:
        return civil_days(div_down(next, 12), (int)(next - div_down(next, 12) * 12) + 1, 1) * DAY;
    default:
        return civil_days(next, 1, 1) * DAY;
    }
}

/* ---- the ends of one kind ---- */

struct end { int64_t label; uint64_t lsn, age_ns; };
struct ends { struct end *v; size_t first, n, cap; int64_t newest; bool again; };    /* newest: the largest label there ever was; again: some came twice */

/* Of a period that has ended so often already the oldest end goes: a machine that forgets the time at each start would fill the set. */
static void end_limit(struct ends *l, int64_t label)
{
    size_t oldest = l->n, times = 0;

    for (size_t i = l->n; i-- > l->first;)
        if (l->v[i].label == label) {
            oldest = i;
            times++;
        }
    if (times < AGAIN_MAX)
        return;
    memmove(l->v + oldest, l->v + oldest + 1, (l->n - oldest - 1) * sizeof *l->v);
    l->n--;
}

/*
 * A period has ended, perhaps once more: a clock that was set back brings one again, of today or of years ago. Each end counts: what such a period was before is
 * no less worth keeping for it.
 */
static int end_add(struct ends *l, int64_t label, uint64_t lsn, uint64_t age_ns, struct err *err)
{
    if (l->n > 0 && label <= l->newest) {
        l->again = true;
        end_limit(l, label);
    }
    if (l->n == l->cap && l->first > l->cap / 2) {
        memmove(l->v, l->v + l->first, (l->n - l->first) * sizeof *l->v);
        l->n -= l->first;
        l->first = 0;
    } else if (l->n == l->cap) {
        size_t cap = l->cap == 0 ? 64 : 2 * l->cap;
        struct end *v = realloc(l->v, cap * sizeof *v);

        if (v == NULL)
            return nomem(err);
        l->v = v;
        l->cap = cap;
    }
    l->newest = l->n == 0 || label > l->newest ? label : l->newest;
    l->v[l->n++] = (struct end){ label, lsn, age_ns };
    return 0;
}

static int by_label(const void *x, const void *y)
{
    int64_t a = *(const int64_t *)x, b = *(const int64_t *)y;

    return (a > b) - (a < b);
}

/* How many other periods have ended since the oldest of them. */
static int since_first(const struct ends *l, size_t *count, struct err *err)
{
    size_t n = l->n - l->first;
    int64_t *label;

    *count = n - 1;
    if (!l->again)
        return 0;
    label = malloc(n * sizeof *label);
    if (label == NULL)
        return nomem(err);
    for (size_t i = 0; i < n; i++)
        label[i] = l->v[l->first + i].label;
    qsort(label, n, sizeof *label, by_label);
    for (size_t i = 1; i < n; i++)
        *count -= label[i] == label[i - 1];
    free(label);
    return 0;
}

/* From the oldest on go those that are too many, if they are old enough, too. */
static int ends_trim(struct ends *l, enum period_kind k, uint32_t keep, uint64_t age_ns, struct err *err)
{
    size_t since;
    int rc = 0;

    while (rc == 0 && l->n - l->first > keep && (age_ns - l->v[l->first].age_ns) / period_ns(k) >= keep) {
        rc = since_first(l, &since, err);
        if (rc < 0 || since < keep)
            break;
        l->first++;
    }
    return rc;
}

struct walk { struct ends ends[N_PERIODS]; int64_t label[N_PERIODS]; bool any; };

static int walk_tick(struct walk *w, const struct policy *p, const struct tz *tz, const struct tick *t, uint64_t age_ns, struct err *err)
{
    int64_t utc = div_down(t->wall_ns, NS), local = utc + tz_offset(tz, utc);
    int rc = 0;

    for (int k = 0; k < N_PERIODS && rc == 0; k++) {
        int64_t label = label_of((enum period_kind)k, local);

        if (w->any && label != w->label[k] && t->row.age_ns <= age_ns) {
            rc = end_add(&w->ends[k], w->label[k], t->row.prev, t->row.age_ns, err);
            if (rc == 0)
                rc = ends_trim(&w->ends[k], (enum period_kind)k, p->keep[k], age_ns, err);
        }
        w->label[k] = label;
    }
    w->any = true;
    return rc;
}

/* ---- all of them, in the order of the stream ---- */

static int list_add(struct period_list *l, const struct period_end *e, struct err *err)
{
    if (l->n == l->cap) {
        size_t cap = l->cap == 0 ? 64 : 2 * l->cap;
        struct period_end *v = realloc(l->v, cap * sizeof *v);

        if (v == NULL)
            return nomem(err);
        l->v = v;
        l->cap = cap;
    }
    l->v[l->n++] = *e;
    return 0;
}

static int by_lsn(const void *x, const void *y)
{
    const struct period_end *a = x, *b = y;

    return (a->lsn > b->lsn) - (a->lsn < b->lsn);
}

static void merge(struct period_list *l)
{
    size_t n = 0;

    if (l->n > 1)
        qsort(l->v, l->n, sizeof *l->v, by_lsn);
    for (size_t i = 0; i < l->n; i++) {
        struct period_end *to = n > 0 ? &l->v[n - 1] : NULL;

        if (to == NULL || to->lsn != l->v[i].lsn) {
            l->v[n++] = l->v[i];
            continue;
        }
        for (int k = 0; k < N_PERIODS; k++)
            if (l->v[i].kinds & 1u << k)
                to->wall_ns[k] = l->v[i].wall_ns[k];
        to->kinds |= l->v[i].kinds;
        to->age_ns = to->age_ns > l->v[i].age_ns ? to->age_ns : l->v[i].age_ns;
    }
    l->n = n;
}

static int list_kind(struct store *s, const struct ends *ends, enum period_kind k, const struct tz *tz, uint64_t created, struct period_list *out,
                     struct err *err)
{
    int rc = 0;

    for (size_t i = ends->first; i < ends->n && rc == 0; i++) {
        struct period_end e = { .lsn = ends->v[i].lsn, .age_ns = ends->v[i].age_ns, .kinds = 1u << k };
        int64_t local = label_end(k, ends->v[i].label), u[2] = { 0, 0 };

        if (tz_utc(tz, local, u) == 0)
            u[0] = local - tz_offset(tz, local - DAY);
        e.wall_ns[k] = u[0] * NS;
        rc = moment_outside(s, &e.lsn, err);
        if (rc == 0 && e.lsn >= created)
            rc = list_add(out, &e, err);
    }
    return rc;
}

static int zone_of(struct store *s, struct tz **tz, struct err *err)
{
    char zone[256];

    if (store_config_get(s, "timezone", zone, sizeof zone) < 0)
        memcpy(zone, "UTC", 4);
    /* a zone that is not on this machine moves the ends of periods, not the moments */
    return tz_load(zone, tz, NULL) == 0 ? 0 : tz_load("UTC", tz, err);
}

unsigned periods_minute(struct store *s, int64_t wall_ns)
{
    struct tz *tz = NULL;
    int64_t utc = div_down(wall_ns, NS), local = utc;

    if (zone_of(s, &tz, NULL) == 0)
        local += tz_offset(tz, utc);
    tz_free(tz);
    return (unsigned)((local - div_down(local, DAY) * DAY) / 60);
}

int periods_wanted(struct store *s, const struct policy *p, uint64_t age_ns, struct period_list *out, struct err *err)
{
    struct walk w = { 0 };
    struct ticks ticks = { 0 };
    struct tick t;
    struct row_ino root = { 0 };
    struct tz *tz = NULL;
    int rc = zone_of(s, &tz, err), more;

    memset(out, 0, sizeof *out);
    if (rc == 0)
        rc = ticks_open(&ticks, s, err);
    more = rc == 0 ? tick_from(&ticks, 0, INT64_MIN, &t, err) : 0;
    while (rc == 0 && more == 1) {
        rc = walk_tick(&w, p, tz, &t, age_ns, err);
        if (rc == 0)
            more = tick_from(&ticks, t.run, next_hour(&t, tz_offset(tz, div_down(t.wall_ns, NS))), &t, err);
    }
    rc = rc == 0 && more < 0 ? more : rc;
    if (rc == 0 && w.any)
        rc = asof_ino(s->kv, UINT64_MAX - 1, INO_ROOT, &root, NULL, err);
    if (rc == ERR_NOENT)
        root.created = UINT64_MAX;       /* no tree yet: nothing to keep */
    rc = rc == ERR_NOENT ? 0 : rc;
    for (int k = 0; k < N_PERIODS; k++) {
        if (rc == 0)
            rc = ends_trim(&w.ends[k], (enum period_kind)k, p->keep[k], age_ns, err);
        if (rc == 0)
            rc = list_kind(s, &w.ends[k], (enum period_kind)k, tz, root.created, out, err);
        free(w.ends[k].v);
    }
    if (rc == 0)
        merge(out);
    ticks_close(&ticks);
    tz_free(tz);
    if (rc < 0)
        periods_free(out);
    return rc;
}

void periods_free(struct period_list *l)
{
    free(l->v);
    memset(l, 0, sizeof *l);
}

/* ---- ages ---- */

/* From the record of ${t} to the last one that is at most so old and at most at ${upto}: it, and its age. */
static int last_of_age(struct store *s, const struct tick *t, uint64_t age_ns, uint64_t upto, uint64_t *lsn, uint64_t *its_age, struct err *err)
{
    struct history_iter *it = NULL;
    struct record rec;
    uint64_t age = t->row.age_ns, boot = 0;
    int64_t wall = 0;
    bool first = true;
    int rc;

    *lsn = t->row.lsn;
    *its_age = age;
    rc = history_iter_new(s->history, t->row.lsn, log_written(s->log), &it, err);
    if (rc < 0)
        return rc;
    while ((rc = history_next(it, &rec, NULL, err)) == 1) {
        /* the first one is that of the row; or, where records were let go of, one of the same time, and age (clocks_begin), or what came between is not known */
        if (first && rec.lsn != t->row.lsn && rec.wall_ns != t->wall_ns)
            break;
        if (!first)
            age = record_age_add(age, wall, boot, &rec);
        if (age > age_ns || rec.lsn > upto)
            break;
        *lsn = rec.lsn;
        *its_age = age;
        first = false;
        wall = rec.wall_ns;
        boot = rec.boot_ns;
    }
    history_iter_free(it);
    return rc < 0 ? rc : 0;
}

/* The last row of the clock that is not beyond either bound: 1, 0 none, < 0. Hour by hour, then row by row. */
static int last_tick(struct store *s, uint64_t age_ns, uint64_t upto, struct tick *last, struct err *err)
{
    struct ticks ticks = { 0 };
    struct tick t;
    bool any = false;
    int rc = ticks_open(&ticks, s, err), more;

    if (rc < 0)
        return rc;
    for (more = tick_from(&ticks, 0, INT64_MIN, &t, err); more == 1 && t.row.age_ns <= age_ns && t.row.lsn <= upto;) {
        any = true;
        *last = t;
        more = tick_from(&ticks, t.run, next_hour(&t, 0), &t, err);
    }
    if (more >= 0 && any)
        more = tick_from(&ticks, last->run, last->wall_ns, &t, err);
    for (; any && more == 1 && t.row.age_ns <= age_ns && t.row.lsn <= upto; more = tick_next(&ticks, &t, err))
        *last = t;
    ticks_close(&ticks);
    return more < 0 ? more : any;
}

int periods_at_age(struct store *s, uint64_t age_ns, uint64_t *lsn, struct err *err)
{
    struct tick last;
    uint64_t age;
    int rc = last_tick(s, age_ns, UINT64_MAX, &last, err);

    *lsn = 0;
    return rc == 1 ? last_of_age(s, &last, age_ns, UINT64_MAX, lsn, &age, err) : rc;
}

int periods_age_of(struct store *s, uint64_t lsn, uint64_t *age_ns, struct err *err)
{
    struct tick last;
    uint64_t at;
    int rc = last_tick(s, UINT64_MAX, lsn, &last, err);

    *age_ns = 0;
    return rc == 1 ? last_of_age(s, &last, UINT64_MAX, lsn, &at, age_ns, err) : rc;
}

int periods_start(struct store *s, uint64_t lsn, uint64_t *start, struct err *err)
{
    struct tick last;
    int rc = last_tick(s, UINT64_MAX, lsn, &last, err);

    if (rc == 1)
        *start = last.row.lsn;
    return rc < 0 ? rc : rc == 1 ? 0 : err_set(err, ERR_NOENT, "@%" PRIu64 ": before the first record", lsn);
}

uint64_t periods_age(struct store *s)
{
    struct row_meta m;

    pthread_mutex_lock(&s->lock);
    m = s->ix.meta;
    pthread_mutex_unlock(&s->lock);
    return m.last_lsn == 0 ? 0 : record_age_now(m.age_ns, m.last_wall, m.last_boot, io_wall_ns(s->io), io_boot_ns(s->io));
}
