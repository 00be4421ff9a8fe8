/* holes.c: see holes.h. */
#include "store/maint/holes.h"

#include "store/core/retain.h"
#include "store/index/sweep.h"
#include "store/maint/pack_internal.h"
#include "store/pack/history.h"
#include "store/pack/packs.h"

#include <stdlib.h>
#include <string.h>

enum { BATCH = 65536, STEP_ROWS = 2048 };

/* ---- what rows name ---- */

struct named { uint64_t lsn, ino; uint32_t dstart, doff, len; };

struct looking {
    struct store *s;
    int (*stop)(void *arg);
    void (*each)(void *arg, const struct wound *w, uint64_t ino);
    void *arg;
    struct named *v;
    size_t n;
    struct named at;                 /* whose parts are looked at */
    struct err *err;
};

static int by_place(const void *x, const void *y)
{
    const struct named *a = x, *b = y;

    if (a->lsn != b->lsn)
        return a->lsn < b->lsn ? -1 : 1;
    return (a->doff > b->doff) - (a->doff < b->doff);
}

static int on_part(void *arg, uint32_t doff, uint32_t len)
{
    struct looking *k = arg;

    for (uint32_t n; len > 0; doff += n, len -= n) {
        n = len < PACK_CHUNK_MAX ? len : PACK_CHUNK_MAX;
        k->each(k->arg, &(struct wound){ .lsn = k->at.lsn, .dstart = k->at.dstart, .doff = doff, .len = n, .hole = true }, k->at.ino);
    }
    return 0;
}

/* What several rows name is looked at once. */
static int look_up(struct looking *k)
{
    uint64_t lsn = 0, end = 0;
    int rc = 0;

    qsort(k->v, k->n, sizeof *k->v, by_place);
    for (size_t i = 0; rc == 0 && i < k->n; i++) {
        struct named p = k->v[i];
        uint64_t stop = (uint64_t)p.doff + p.len;

        if (p.lsn == lsn && p.doff < end) {
            p.len = stop > end ? (uint32_t)(stop - end) : 0;
            p.doff = (uint32_t)end;
        }
        end = p.lsn == lsn && end > stop ? end : stop;
        lsn = p.lsn;
        k->at = p;
        if (p.len > 0 && p.lsn < log_first(store_log(k->s)))
            rc = packs_holes(store_packs(k->s), p.lsn, p.doff, p.len, on_part, k, k->err);
    }
    k->n = 0;
    return rc;
}

static int on_piece(void *arg, uint64_t ino, bool live, const struct piece *p)
{
    struct looking *k = arg;

    (void)live;
    if (p->lsn >= log_first(store_log(k->s)))
        return 0;
    k->v[k->n++] = (struct named){ p->lsn, ino, p->dstart, p->doff, p->len };
    return k->n == BATCH ? look_up(k) : 0;
}

int holes_look(struct store *s, int (*stop)(void *arg), void (*each)(void *arg, const struct wound *w, uint64_t ino), void *arg, struct err *err)
{
    struct looking k = { .s = s, .stop = stop, .each = each, .arg = arg, .v = malloc(BATCH * sizeof *k.v), .err = err };
    const struct sweep_hooks hooks = { .arg = &k, .on_piece = on_piece };
    struct keep keep = { 0 };
    struct index_trim trim;
    struct sweep *w = NULL;
    int rc = k.v != NULL ? retain_keep(s, &keep, err) : err_set(err, ERR_NOMEM, "holes: out of memory"), more = 1;

    if (rc == 0)
        rc = sweep_new(store_kv(s), &keep, &hooks, &w, err);
    while (rc == 0 && more == 1) {
        more = sweep_step(w, STEP_ROWS, &trim, err);
        rc = more < 0 ? more : stop != NULL && stop(arg) ? err_set(err, ERR_BUSY, "told to stop") : 0;
    }
    if (rc == 0)
        rc = look_up(&k);
    sweep_free(w);
    free((void *)(uintptr_t)keep.point);
    free(k.v);
    return rc;
}

int holes_gone(struct store *s, int (*each)(void *arg, const struct packs_state *r), void *arg, struct err *err)
{
    uint64_t until = log_first(store_log(s));
    struct packs_state r;
    int rc = 0;

    for (uint64_t at = LOG_FIRST_ADDR; rc == 0 && at < until; at = r.end) {
        rc = packs_sound(store_packs(s), at, &r, NULL);
        rc = rc == ERR_IO ? 0 : rc < 0 ? err_set(err, rc, "packs: the tables of the pack that has @%llu cannot be looked at: %s", (unsigned long long)at, err_text(rc)) : rc;
        r.end = r.end < until ? r.end : until;
        rc = rc == 0 ? each(arg, &r) : rc < 0 ? rc : 0;
    }
    return rc;
}

/* ---- what came ---- */

bool holes_block(struct store *s, const struct wound *w, uint32_t *from, uint32_t *to)
{
    struct record rec;
    void *buf = NULL;
    uint64_t end = ((uint64_t)w->doff + w->len + REC_SUM_BYTES - 1) / REC_SUM_BYTES * REC_SUM_BYTES;
    int rc = history_record(store_history(s), w->lsn, &rec, &buf, NULL);

    free(buf);
    *from = w->doff / REC_SUM_BYTES * REC_SUM_BYTES;
    *to = rc == 0 && end > rec.data_len ? rec.data_len : (uint32_t)end;
    return rc == 0 && *to >= w->doff + w->len && (*from < w->doff || *to > w->doff + w->len);
}

bool holes_prove(struct store *s, const struct packs_piece *k)
{
    uint32_t from = (k->doff + REC_SUM_BYTES - 1) / REC_SUM_BYTES * REC_SUM_BYTES, to = k->doff + k->len, bad;
    struct record rec;
    void *buf = NULL;
    bool yes;

    if (history_record(store_history(s), k->lsn, &rec, &buf, NULL) < 0)
        return false;
    yes = (rec.type != REC_WRITE || (k->ino == rec.ino && k->off == rec.u.write.off + k->doff)) && to <= rec.data_len && (k->dstart == 0 || k->dstart == record_dstart(rec.head_len));
    to = to == rec.data_len ? to : to / REC_SUM_BYTES * REC_SUM_BYTES;
    if (yes && from < to)
        yes = record_check_data(&rec, k->bytes + (from - k->doff), from, to - from, &bad) == 0;
    free(buf);
    return yes;
}

/* Whose the addresses below ${end} are: the epoch of the last record there. */
static int epoch_below(struct store *s, uint64_t end, uint8_t id[16], struct err *err)
{
    struct history_place p;
    struct record rec;
    void *buf = NULL;
    int rc = history_before(store_history(s), end, &p, err);

    if (rc == 0)
        rc = history_record(store_history(s), p.lsn, &rec, &buf, err);
    if (rc == 0)
        store_epoch_id(s, rec.epoch, id);
    free(buf);
    return rc;
}

static int head_of(struct store *s, struct pack_head *h, struct err *err)
{
    struct store_info info;

    store_info(s, &info);
    *h = (struct pack_head){ .retained_gen = store_retained_gen(s), .gen = packs_next_gen(store_packs(s)), .key_id = info.key_id };
    memcpy(h->lineage, info.lineage, 16);
    memcpy(h->site, info.site, 16);
    return names_free_gen(store_io(s), "packs", pack_parse, &h->gen, err);
}

/* A pack without data at ${addr}, where none is, or nothing of it can be read. */
static int blank_at(struct store *s, uint64_t addr, uint64_t behind, struct err *err)
{
    uint64_t from = LOG_FIRST_ADDR, held = log_first(store_log(s));
    struct packs_state r;
    struct pack_head h = { 0 };
    uint8_t epoch[16] = { 0 };
    int rc = packs_sound(store_packs(s), addr, &r, err);

    if (rc != 0 || r.some)
        return rc < 0 ? rc : 0;
    if (r.gone) {
        for (uint64_t end = from; rc == 0 && end <= addr;) {     /* where the gap begins */
            uint64_t at = end;

            rc = packs_gap(store_packs(s), at, addr + 1, &from, &end, err);
            rc = rc < 0 ? rc : 0;
        }
        r.first = from;
        r.end = behind > addr && behind < r.end ? behind : r.end;
        r.end = r.end < held ? r.end : held;
    }
    if (rc == 0)
        rc = head_of(s, &h, err);
    if (rc == 0)
        rc = epoch_below(s, r.end, epoch, err);
    h.first = r.first;
    h.end = r.end;
    return rc == 0 ? packs_blank(store_packs(s), &h, epoch, err) : rc;
}

static int64_t put(struct store *s, uint64_t addr, const struct packs_piece *v, size_t n, uint64_t behind, struct err *err)
{
    struct pack_head h = { 0 };
    int rc = blank_at(s, addr, behind, err);

    if (rc == 0)
        rc = head_of(s, &h, err);
    return rc < 0 ? rc : packs_salvage(store_packs(s), addr, &h, v, n, err);
}

/* How many of them lie in the pack that has the first one. */
static size_t of_its_pack(struct store *s, const struct packs_piece *v, size_t n)
{
    struct packs_state r = { 0 };
    size_t k = 1;

    (void)packs_sound(store_packs(s), v->lsn, &r, NULL);
    while (k < n && v[k].lsn < r.end)
        k++;
    return k;
}

int holes_apply(struct store *s, const struct packs_piece *v, size_t n, uint64_t behind, struct err *err)
{
    int rc = 0;

    for (size_t i = 0, k; i < n && (rc == 0 || rc == ERR_IO); i += k) {
        int64_t took = put(s, v[i].lsn, v + i, n - i, behind, err);

        k = took == ERR_IO ? of_its_pack(s, v + i, n - i) : took > 0 ? (size_t)took : 0;
        rc = took < 0 ? (int)took : rc;
    }
    return rc;
}

int holes_close(struct store *s, uint64_t addr, struct err *err)
{
    int64_t took = put(s, addr, NULL, 0, UINT64_MAX, err);

    return took < 0 ? (int)took : 0;
}
