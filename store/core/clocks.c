/* clocks.c: see clocks.h. */
#include "store/core/clocks.h"

#include "store/core/core_internal.h"
#include "store/core/moment.h"
#include "store/core/periods.h"

#include <inttypes.h>
#include <stdlib.h>

/* Of each point, and of the record behind it: a time at which that had happened leads to none of the two any more. */
struct changes { const uint64_t *point; struct clock { uint64_t lsn; int64_t wall; } *next; int64_t *wall; bool *put; size_t n; uint64_t *gone; size_t n_gone; };

static void fill(void *arg, struct kv *kv, struct kv_batch *b)
{
    const struct changes *c = arg;
    uint8_t key[KV_KEY_MAX], val[ROW_SMALL_MAX];

    for (size_t i = 0; i < c->n; i++)
        if (c->put[i]) {
            size_t len = row_u64_encode((uint64_t)c->wall[i], val, sizeof val);

            kv->ops->batch_put(b, key, key_clock(key, c->point[i]), val, len);
            if (c->next[i].lsn != 0) {
                len = row_u64_encode((uint64_t)c->next[i].wall, val, sizeof val);
                kv->ops->batch_put(b, key, key_clock(key, c->next[i].lsn), val, len);
            }
        }
    for (size_t i = 0; i < c->n_gone; i++)
        kv->ops->batch_del(b, key, key_clock(key, c->gone[i]));
}

static bool is_point(const struct keep *k, uint64_t lsn)
{
    return keep_needs(&(struct keep){ .horizon = UINT64_MAX, .point = k->point, .n = k->n }, lsn, lsn + 1);
}

/* Rows of what is no point any more into c->gone. */
static int stale(struct store *s, const struct keep *keep, struct changes *c, struct err *err)
{
    const uint8_t lo[] = { 'w' }, hi[] = { 'w' + 1 };
    struct kv_iter *it = s->kv->ops->iter_new(s->kv, NULL, lo, 1, hi, 1);
    size_t cap = 0;
    bool behind = false;                 /* the row before is of a point */
    int rc = it != NULL ? 0 : err_set(err, ERR_NOMEM, "index: out of memory");

    if (rc < 0)
        return rc;
    for (s->kv->ops->iter_seek(it, lo, 1); rc == 0 && s->kv->ops->iter_valid(it); s->kv->ops->iter_next(it)) {
        struct key_parts k;
        size_t len;
        const uint8_t *key = s->kv->ops->iter_key(it, &len);

        if (!key_parse(key, len, &k))
            rc = err_set(err, ERR_DAMAGE, "index: the row of a clock cannot be read; rebuild the index");
        if (rc < 0 || is_point(keep, k.lsn) || behind) {
            behind = rc == 0 && is_point(keep, k.lsn);
            continue;
        }
        if (c->n_gone == cap) {
            uint64_t *v = realloc(c->gone, (cap = cap == 0 ? 64 : 2 * cap) * sizeof *v);

            if (v == NULL) {
                rc = err_set(err, ERR_NOMEM, "index: out of memory");
                break;
            }
            c->gone = v;
        }
        c->gone[c->n_gone++] = k.lsn;
    }
    if (rc == 0)
        rc = s->kv->ops->iter_err(it, err);
    s->kv->ops->iter_free(it);
    return rc;
}

/* Whether the index has the clock of ${lsn} already. */
static bool has_row(struct store *s, uint64_t lsn)
{
    uint8_t key[KV_KEY_MAX], *val = NULL;
    size_t len;
    int rc = kv_get(s->kv, key, key_clock(key, lsn), &val, &len, NULL);

    free(val);
    return rc == 0;
}

/* The record behind that at ${lsn}, 0 none. */
static int record_behind(struct store *s, uint64_t lsn, struct clock *out, struct err *err)
{
    struct history_iter *it = NULL;
    struct record rec;
    int rc = history_iter_new(s->history, lsn, UINT64_MAX, &it, err);

    out->lsn = 0;
    while (rc == 0 && (rc = history_next(it, &rec, NULL, err)) == 1) {
        rc = 0;
        if (rec.lsn <= lsn)
            continue;
        *out = (struct clock){ rec.lsn, rec.wall_ns };
        break;
    }
    history_iter_free(it);
    return rc;
}

int clocks_keep(struct store *s, const struct keep *keep, uint64_t upto, struct err *err)
{
    struct changes c = { .point = keep->point };
    size_t n_put = 0;
    int rc;

    while (c.n < keep->n && keep->point[c.n] < upto)
        c.n++;
    c.wall = calloc(c.n + 1, sizeof *c.wall);
    c.put = calloc(c.n + 1, sizeof *c.put);
    c.next = calloc(c.n + 1, sizeof *c.next);
    rc = c.wall != NULL && c.put != NULL && c.next != NULL ? 0 : err_set(err, ERR_NOMEM, "index: out of memory");
    for (size_t i = 0; i < c.n && rc == 0; i++) {
        c.put[i] = !has_row(s, c.point[i]);
        n_put += c.put[i];
        if (c.put[i] && ((rc = moment_wall(s, c.point[i], &c.wall[i], err)) < 0 || (rc = record_behind(s, c.point[i], &c.next[i], err)) < 0))
            break;
    }
    if (rc == 0)
        rc = stale(s, keep, &c, err);
    if (rc == 0 && (n_put > 0 || c.n_gone > 0))
        rc = store_put_rows(s, fill, &c, err);
    free(c.wall);
    free(c.put);
    free(c.next);
    free(c.gone);
    return rc;
}

/* The run of the clock that has the record at ${lsn}. */
static int run_of(struct store *s, uint64_t lsn, uint32_t *run, struct err *err)
{
    const uint8_t lo[] = { 'r' }, hi[] = { 'r' + 1 };
    const struct kv_ops *ops = s->kv->ops;
    struct kv_iter *it = ops->iter_new(s->kv, NULL, lo, 1, hi, 1);
    bool found = false;
    int rc = it != NULL ? 0 : err_set(err, ERR_NOMEM, "index: out of memory");

    if (rc < 0)
        return rc;
    for (ops->iter_seek_prev(it, hi, 1); rc == 0 && !found && ops->iter_valid(it); ops->iter_prev(it)) {
        struct key_parts k;
        struct row_run row;
        size_t klen, vlen;
        const uint8_t *key = ops->iter_key(it, &klen), *val = ops->iter_val(it, &vlen);

        rc = key_parse(key, klen, &k) ? row_run_decode(val, vlen, &row, err) : err_set(err, ERR_DAMAGE, "index: the row of a run of the clock cannot be read; rebuild the index");
        found = rc == 0 && row.first_lsn <= lsn;
        *run = k.run;
    }
    if (rc == 0)
        rc = ops->iter_err(it, err);
    ops->iter_free(it);
    return rc < 0 || found ? rc : err_set(err, ERR_DAMAGE, "index: no run of the clock has @%" PRIu64 "; rebuild the index", lsn);
}

struct beginning { uint32_t run; int64_t wall_ns; struct row_time row; };

static void put_beginning(void *arg, struct kv *kv, struct kv_batch *b)
{
    const struct beginning *x = arg;
    uint8_t key[KV_KEY_MAX], val[ROW_SMALL_MAX];
    size_t len = row_time_encode(&x->row, val, sizeof val);

    kv->ops->batch_put(b, key, key_time(key, x->run, x->wall_ns), val, len);
}

int clocks_begin(struct store *s, uint64_t first, struct err *err)
{
    struct beginning x = { 0 };
    struct history_iter *it = NULL;
    struct record rec = { 0 };
    uint8_t key[KV_KEY_MAX], *val = NULL;
    size_t len;
    int rc = history_iter_new(s->history, first, UINT64_MAX, &it, err);

    if (rc == 0)
        rc = history_next(it, &rec, NULL, err);
    if (rc == 1) {
        x.wall_ns = rec.wall_ns;
        x.row.lsn = rec.lsn;
        x.row.prev = rec.prev_lsn;
        rc = periods_age_of(s, rec.lsn, &x.row.age_ns, err);
        if (rc == 0)
            rc = run_of(s, rec.lsn, &x.run, err);
        /* of the same time: it has the same age, and is found by that */
        if (rc == 0 && kv_get(s->kv, key, key_time(key, x.run, x.wall_ns), &val, &len, NULL) == ERR_NOENT)
            rc = store_put_rows(s, put_beginning, &x, err);
        free(val);
    }
    history_iter_free(it);
    return rc < 0 ? rc : 0;
}
