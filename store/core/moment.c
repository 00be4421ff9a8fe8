/*
 * moment.c: from a text to a moment that is there: durable, outside any series, kept, and in the index.
 *
 * A time is looked up in the newest run of the clock that contains it ('r' rows; a backward step starts a run): the last
 * time row ('t') at or before it, then the log from there, at most the bytes between two time rows.
 */
#include "store/core/moment.h"
#include "store/core/core_internal.h"

#include "store/base/slow.h"
#include "store/core/moment_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- rows of one table ---- */

struct rows { struct kv *kv; struct kv_iter *it; };

static int rows_open(struct rows *r, struct kv *kv, const uint8_t *lo, size_t llen, const uint8_t *hi, size_t hlen, struct err *err)
{
    r->kv = kv;
    r->it = kv->ops->iter_new(kv, NULL, lo, llen, hi, hlen);
    return r->it != NULL ? 0 : err_set(err, ERR_NOMEM, "moment: out of memory");
}

static void rows_close(struct rows *r)
{
    if (r->it != NULL)
        r->kv->ops->iter_free(r->it);
}

static int bad_row(struct err *err)
{
    return err_set(err, ERR_DAMAGE, "index: a row of the clock or of a series cannot be read; rebuild the index");
}

/* ---- runs and times ---- */

struct run { uint32_t id; uint64_t first_lsn, end_lsn; int64_t first_wall; };   /* end_lsn exclusive: the next run's first */

/* The last time row of run ${id} at or before ${wall}: its record, else the run's first. */
struct tick { uint64_t lsn; int64_t wall; };
static int time_row(struct store *s, const struct run *run, int64_t wall, struct tick *out, struct err *err)
{
    uint8_t lo[KV_KEY_MAX], hi[KV_KEY_MAX], k[KV_KEY_MAX];
    size_t llen = key_time(lo, run->id, INT64_MIN), hlen = key_time(hi, run->id + 1, INT64_MIN), klen = key_time(k, run->id, wall);
    struct rows r;
    int rc = rows_open(&r, s->kv, lo, llen, hi, hlen, err);
    *out = (struct tick){ run->first_lsn, run->first_wall };
    if (rc < 0)
        return rc;
    s->kv->ops->iter_seek_prev(r.it, k, klen);
    if (s->kv->ops->iter_valid(r.it)) {
        size_t n, vlen;
        struct key_parts kp;
        const uint8_t *key = s->kv->ops->iter_key(r.it, &n), *v = s->kv->ops->iter_val(r.it, &vlen);
        struct row_time t;
        rc = key_parse(key, n, &kp) ? row_time_decode(v, vlen, &t, err) : bad_row(err);
        if (rc == 0)
            *out = (struct tick){ t.lsn, kp.wall_ns };
    } else {
        rc = s->kv->ops->iter_err(r.it, err);
    }
    rows_close(&r);
    return rc;
}

/* As last_record, of the moments in [from, until) whose records are gone. 1: one was found that is beyond a bound. */
static int last_clock(struct store *s, uint64_t from, uint64_t until, int64_t wall, uint64_t max, uint64_t *lsn, int64_t *at, struct err *err)
{
    uint8_t lo[KV_KEY_MAX], hi[KV_KEY_MAX];
    size_t llen = key_clock(lo, from), hlen = key_clock(hi, until);
    struct rows r;
    int rc = rows_open(&r, s->kv, lo, llen, hi, hlen, err);
    if (rc < 0)
        return rc;
    for (s->kv->ops->iter_seek(r.it, lo, llen); rc == 0 && s->kv->ops->iter_valid(r.it); s->kv->ops->iter_next(r.it)) {
        size_t n, vlen;
        struct key_parts kp;
        uint64_t when;
        const uint8_t *key = s->kv->ops->iter_key(r.it, &n), *v = s->kv->ops->iter_val(r.it, &vlen);
        if (!key_parse(key, n, &kp) || row_u64_decode(v, vlen, &when, err) < 0) {
            rc = bad_row(err);
        } else if ((int64_t)when > wall || kp.lsn > max) {
            rc = 1;
        } else {
            *lsn = kp.lsn;
            *at = (int64_t)when;
        }
    }
    if (rc == 0)
        rc = s->kv->ops->iter_err(r.it, err);
    rows_close(&r);
    return rc;
}

/*
 * The last record from ${from} on, below ${until}, with a clock not after ${wall} and an LSN not after ${max}; that of ${from} is one. Of records that were let go
 * of, those of kept moments alone are known.
 */
static int last_record(struct store *s, const struct tick *from, uint64_t until, int64_t wall, uint64_t max, uint64_t *lsn, int64_t *at,
                       struct err *err)
{
    struct history_iter *it = NULL;
    struct record rec;
    uint64_t first = history_first(s->history);
    int rc = 0;
    *lsn = 0;
    if (from->lsn < first && from->wall <= wall && from->lsn <= max) {
        *lsn = from->lsn;
        *at = from->wall;
        rc = last_clock(s, from->lsn, until < first ? until : first, wall, max, lsn, at, err);
    }
    if (rc != 0)
        return rc < 0 ? rc : 0;
    rc = history_iter_new(s->history, from->lsn, until, &it, err);
    if (rc < 0)
        return rc;
    while ((rc = history_next(it, &rec, NULL, err)) == 1) {
        if (rec.wall_ns > wall || rec.lsn > max)
            break;
        *lsn = rec.lsn;
        *at = rec.wall_ns;
    }
    history_iter_free(it);
    return rc < 0 ? rc : 0;
}

/*
 * Calls fn for each run, newest first; fn returns nonzero to stop. Returns what stopped it, 0 at the end, or an error.
 */
static int runs(struct store *s, int (*fn)(void *arg, const struct run *r, struct err *err), void *arg, struct err *err)
{
    uint8_t lo[KV_KEY_MAX], hi[KV_KEY_MAX];
    size_t llen = key_run(lo, 0), hlen = key_run(hi, UINT32_MAX);
    uint64_t end = log_head(s->log);
    struct rows r;
    int rc = rows_open(&r, s->kv, lo, llen, hi, hlen, err);
    if (rc < 0)
        return rc;
    for (s->kv->ops->iter_seek_prev(r.it, hi, hlen); rc == 0 && s->kv->ops->iter_valid(r.it); s->kv->ops->iter_prev(r.it)) {
        size_t klen, vlen;
        struct key_parts kp;
        struct row_run row;
        const uint8_t *k = s->kv->ops->iter_key(r.it, &klen), *v = s->kv->ops->iter_val(r.it, &vlen);
        if (!key_parse(k, klen, &kp) || row_run_decode(v, vlen, &row, err) < 0) {
            rc = bad_row(err);
            break;
        }
        struct run run = { .id = kp.run, .first_lsn = row.first_lsn, .end_lsn = end, .first_wall = row.first_wall };
        end = row.first_lsn;
        rc = fn(arg, &run, err);
    }
    if (rc == 0)
        rc = s->kv->ops->iter_err(r.it, err);
    rows_close(&r);
    return rc;
}

struct find { struct store *s; int64_t wall, now; uint64_t lsn; int64_t at; bool newest; };

/* Does this run contain the time? 1 and the last record in it at or before the time, else 0. */
static int in_run(void *arg, const struct run *run, struct err *err)
{
    struct find *f = arg;
    bool newest = f->newest;
    struct tick from;
    f->newest = false;
    if (run->first_wall > f->wall)
        return 0;
    int rc = time_row(f->s, run, f->wall, &from, err);
    if (rc == 0)
        rc = last_record(f->s, &from, run->end_lsn, f->wall, UINT64_MAX, &f->lsn, &f->at, err);
    if (rc < 0 || f->lsn == 0)
        return rc;
    if (newest)
        return f->wall <= f->now || f->at == f->wall ? 1 : 0;
    /* an older run contains what is not after its last record */
    uint64_t last = 0;
    int64_t at = 0;
    rc = time_row(f->s, run, INT64_MAX, &from, err);
    if (rc == 0)
        rc = last_record(f->s, &from, run->end_lsn, INT64_MAX, UINT64_MAX, &last, &at, err);
    return rc < 0 ? rc : f->wall <= at;
}

int moment_find(struct store *s, int64_t wall, int64_t now, uint64_t *lsn, struct err *err)
{
    struct find f = { .s = s, .wall = wall, .now = now, .newest = true };
    int rc = runs(s, in_run, &f, err);
    if (rc < 0)
        return rc;
    *lsn = f.lsn;
    return rc == 1 ? 0 : ERR_NOENT;
}

struct walk { struct store *s; uint64_t lsn; int64_t wall; };

/* The run that holds an LSN: its time rows rise with the address, so halving the time finds the last one before it. */
static int wall_in_run(void *arg, const struct run *run, struct err *err)
{
    struct walk *w = arg;
    struct tick at = { 0, 0 };
    uint64_t got = 0;
    if (run->first_lsn > w->lsn)
        return 0;
    int64_t lo = run->first_wall, hi = INT64_MAX;
    int rc = 0;
    while (lo < hi && rc == 0) {
        int64_t mid = (int64_t)((uint64_t)lo + ((uint64_t)hi - (uint64_t)lo + 1) / 2);
        rc = time_row(w->s, run, mid, &at, err);
        if (at.lsn <= w->lsn)
            lo = mid;
        else
            hi = mid - 1;
    }
    if (rc == 0)
        rc = time_row(w->s, run, lo, &at, err);
    if (rc == 0)
        rc = last_record(w->s, &at, run->end_lsn, INT64_MAX, w->lsn, &got, &w->wall, err);
    return rc < 0 ? rc : got != 0 ? 1 : 0;
}

/* That of a kept moment whose record was let go of. */
static int clock_of(struct store *s, uint64_t lsn, int64_t *wall_ns)
{
    uint8_t key[KV_KEY_MAX], *val = NULL;
    uint64_t when = 0;
    size_t len = 0;
    int rc = kv_get(s->kv, key, key_clock(key, lsn), &val, &len, NULL);
    if (rc == 0)
        rc = row_u64_decode(val, len, &when, NULL);
    *wall_ns = (int64_t)when;
    free(val);
    return rc;
}

int moment_record_wall(struct store *s, uint64_t lsn, int64_t *wall_ns)
{
    bool archived = lsn < log_first(s->log);
    size_t i = (size_t)(lsn / 8 % WALLS);
    struct record rec;
    void *buf = NULL;
    int rc = 1;
    pthread_mutex_lock(&s->list_lock);
    if (archived && s->wall[i].lsn == lsn) {
        *wall_ns = s->wall[i].ns;
        rc = 0;
    }
    pthread_mutex_unlock(&s->list_lock);
    if (rc == 0)
        return 0;
    rc = history_record(s->history, lsn, &rec, &buf, NULL);
    if (rc == 0)
        *wall_ns = rec.wall_ns;
    else if (rc == ERR_NOENT)
        rc = clock_of(s, lsn, wall_ns);
    free(buf);
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&s->list_lock);
    s->wall[i].lsn = lsn;
    s->wall[i].ns = *wall_ns;
    pthread_mutex_unlock(&s->list_lock);
    return 0;
}

int moment_wall(struct store *s, uint64_t lsn, int64_t *wall_ns, struct err *err)
{
    struct walk w = { .s = s, .lsn = lsn };
    uint64_t head = log_head(s->log);
    if (lsn == AT_LIVE || lsn >= head)
        log_last(s->log, &lsn, &(struct hash128){ 0 });
    int rc = lsn < LOG_FIRST_ADDR ? ERR_NOENT : moment_record_wall(s, lsn, wall_ns);
    if (rc == 0)
        return 0;
    w.lsn = lsn;
    rc = read_applied(s, lsn, NULL);
    if (rc < 0)
        return err_set(err, rc, "moment @%" PRIu64 ": %s", lsn, err_text(rc));
    rc = runs(s, wall_in_run, &w, err);
    if (rc == 0)
        return err_set(err, ERR_NOMOMENT, "moment @%" PRIu64 ": before the first one, @%" PRIu64, lsn, history_first(s->history));
    *wall_ns = w.wall;
    return rc < 0 ? rc : 0;
}

/* ---- what a moment must be ---- */

int moment_outside(struct store *s, uint64_t *lsn, struct err *err)
{
    uint8_t lo[KV_KEY_MAX], hi[KV_KEY_MAX], k[KV_KEY_MAX];
    size_t llen = key_series(lo, 0), hlen = key_series(hi, UINT64_MAX), klen = key_series(k, *lsn);
    struct key_parts kp;
    struct rows r;
    int rc = rows_open(&r, s->kv, lo, llen, hi, hlen, err);
    if (rc < 0)
        return rc;
    s->kv->ops->iter_seek_prev(r.it, k, klen);
    if (s->kv->ops->iter_valid(r.it)) {
        size_t n, vlen;
        const uint8_t *key = s->kv->ops->iter_key(r.it, &n), *v = s->kv->ops->iter_val(r.it, &vlen);
        uint64_t end = 0;
        if (!key_parse(key, n, &kp) || row_u64_decode(v, vlen, &end, err) < 0)
            rc = bad_row(err);
        else if (end == 0 || *lsn < end)
            *lsn = kp.begin - 1;
    } else {
        rc = s->kv->ops->iter_err(r.it, err);
    }
    rows_close(&r);
    return rc;
}

static void lsn_text(struct store *s, uint64_t lsn, char *buf, size_t cap)
{
    char when[40];
    int64_t wall;
    if (moment_wall(s, lsn, &wall, NULL) == 0) {
        moment_rfc3339(wall, when);
        snprintf(buf, cap, "@%" PRIu64 " (%s)", lsn, when);
    } else {
        snprintf(buf, cap, "@%" PRIu64, lsn);
    }
}

/* Listed, and behind the making of the tree. Else NOMOMENT, naming the nearest that is. */
static int kept(struct store *s, const char *text, uint64_t lsn, struct err *err)
{
    struct row_ino root;
    uint64_t near;
    char name[80];
    bool lists;
    int rc;
    pthread_rwlock_rdlock(&s->retained_lock);
    lists = retained_lists(&s->retained, lsn);
    near = retained_near(&s->retained, lsn);
    pthread_rwlock_unlock(&s->retained_lock);
    if (lists) {
        rc = asof_ino(s->kv, lsn, INO_ROOT, &root, NULL, NULL);
        if (rc != ERR_NOENT)
            return rc < 0 ? err_set(err, rc, "%.64s: %s", text, err_text(rc)) : 0;
        rc = asof_ino(s->kv, UINT64_MAX - 1, INO_ROOT, &root, NULL, err);
        if (rc < 0)
            return rc;
        near = root.created;             /* before the tree was made */
    }
    lsn_text(s, near, name, sizeof name);
    return err_set(err, ERR_NOMOMENT, "%.64s: this moment is not kept; the nearest one is %s", text, name);
}

static int snap_at(struct store *s, const char *name, uint64_t *lsn, struct err *err)
{
    uint8_t key[KV_KEY_MAX], *val = NULL;
    struct row_snap row;
    size_t vlen = 0;
    int rc = kv_get(s->kv, key, key_snap(key, name, strlen(name)), &val, &vlen, err);
    if (rc == ERR_NOENT)
        return err_set(err, ERR_NOMOMENT, "%.255s: neither a time nor the name of a snapshot; see: spare snapshot list", name);
    if (rc == 0)
        rc = row_snap_decode(val, vlen, &row, err);
    if (rc == 0)
        *lsn = row.at;
    free(val);
    return rc;
}

static int sync_to(struct store *s, uint64_t lsn, struct err *err)
{
    if (log_durable(s->log) > lsn || !s->opt.writable)
        return 0;
    slow_now();
    int rc = log_wait_written(s->log, lsn);
    return rc < 0 ? err_set(err, rc, "moment @%" PRIu64 ": %s", lsn, err_text(rc)) : store_sync(s, err);
}

static int future(struct store *s, const char *text, struct err *err)
{
    char name[80];
    uint64_t last = 0;
    struct hash128 h;
    log_last(s->log, &last, &h);
    lsn_text(s, last, name, sizeof name);
    return err_set(err, ERR_NOMOMENT, "%.64s: it has not come yet; the newest moment is %s", text, name);
}

static int too_early(struct store *s, const char *text, struct err *err)
{
    char name[80];
    lsn_text(s, history_first(s->history), name, sizeof name);
    return err_set(err, ERR_NOMOMENT, "%.64s: before the first moment of this store, %s", text, name);
}

static int by_time(struct store *s, const char *text, int64_t wall, uint64_t last, uint64_t *lsn, struct err *err)
{
    int64_t now = io_wall_ns(s->io), at = 0;
    int rc = read_applied(s, last, NULL);
    if (rc < 0)
        return err_set(err, rc, "%.64s: %s", text, err_text(rc));
    rc = moment_wall(s, last, &at, err);
    if (rc == 0)
        rc = moment_find(s, wall, now > at ? now : at, lsn, err);
    if (rc != ERR_NOENT)
        return rc;
    return wall > now && wall > at ? future(s, text, err) : too_early(s, text, err);
}

int moment_resolve(struct store *s, const char *text, uint64_t *lsn, struct err *err)
{
    struct moment_spec spec = { 0 };
    struct hash128 h;
    char tz[256];
    uint64_t last = 0, got = 0;
    if (store_config_get(s, "timezone", tz, sizeof tz) < 0)
        memcpy(tz, "UTC", 4);
    int rc = moment_parse(text, io_wall_ns(s->io), tz, &spec, err);
    if (rc < 0)
        return rc;
    log_last(s->log, &last, &h);
    if (last == 0)                       /* a standby that was never sent anything: nothing would ever be applied */
        return err_set(err, ERR_NOMOMENT, "%.64s: expected a moment of this store, found that it holds nothing yet", text);
    switch (spec.kind) {
    case MOMENT_NOW:
        got = last;
        break;
    case MOMENT_LSN:
        got = spec.lsn;
        if (got >= log_head(s->log))
            return future(s, text, err);
        if (got < LOG_FIRST_ADDR)
            return too_early(s, text, err);
        break;
    case MOMENT_TIME:
        rc = by_time(s, text, spec.wall_ns, last, &got, err);
        break;
    case MOMENT_NAME:
        rc = read_applied(s, last, NULL);
        if (rc < 0)
            return err_set(err, rc, "%.64s: %s", text, err_text(rc));
        rc = snap_at(s, spec.name, &got, err);
        break;
    }
    if (rc == 0)
        rc = sync_to(s, got, err);
    if (rc == 0 && (rc = read_at(s, got, NULL)) < 0)
        return err_set(err, rc, "%.64s: %s", text, err_text(rc));
    if (rc == 0)
        rc = moment_outside(s, &got, err);
    if (rc == 0)
        rc = kept(s, text, got, err);
    if (rc == 0)
        *lsn = got;
    return rc;
}
