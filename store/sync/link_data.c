/* link_data.c: data that one side does not have, or has damaged, and the other one may have. */
#include "store/sync/link_internal.h"

#include "store/core/lacking.h"
#include "store/log/frame.h"
#include "store/maint/heal.h"
#include "store/maint/holes.h"
#include "store/maint/recall.h"
#include "store/maint/supply.h"
#include "store/pack/history.h"

#include <stdlib.h>
#include <string.h>

enum { FETCH_PARTS = 1024, TRIES = 16, HEADS_BYTES = 1 << 20, HEADS_RECORDS = 65536 };

static int nomem(struct err *err)
{
    return err_set(err, ERR_NOMEM, "stream: out of memory");
}

void link_data_release(struct link_data *d)
{
    free((void *)(uintptr_t)d->asked.p);
    free(d->parts);
    free(d->buf);
    free(d->came);
    free(d->holes);
    heal_plan_free(d->plan);
    recall_free(d->recall);
}

/* ---- asking ---- */

static int want_lacking(struct loop *l, struct link_data *d, struct proto_fetch *f, struct err *err)
{
    struct lack *v = malloc(FETCH_PARTS * sizeof *v);
    uint64_t bytes = 0;
    size_t n = v != NULL ? store_lacking(l->s, v, FETCH_PARTS) : 0;

    if (v == NULL)
        return nomem(err);
    for (size_t i = 0; i < n; i++) {
        struct proto_data_part p = { .lsn = v[i].lsn, .dstart = v[i].dstart, .doff = v[i].doff, .len = v[i].len < PROTO_PART_MAX ? v[i].len : PROTO_PART_MAX };

        if ((bytes += p.len) > PROTO_DATA_MAX)
            break;
        proto_part_put(d->parts + PROTO_PART_BYTES * (size_t)f->n++, &p);
    }
    free(v);
    return f->n > 0;
}

/* What of d->recall is to be asked for: 2; 0: nothing (more): it is over, or waits for who packs. */
static int want_records(struct loop *l, struct link_data *d)
{
    if (recall_next(d->recall, &d->from, &d->until) == 1)
        return 2;
    if (recall_apply(d->recall, NULL) == ERR_BUSY)
        return 0;
    wounds_done(l->s, &d->wound, recall_whole(l->s, &d->wound));     /* (another stream may have been first) */
    recall_free(d->recall);
    d->recall = NULL;
    return 0;
}

static int begin_records(struct loop *l, struct link_data *d, struct err *err)
{
    int rc = recall_new(l->s, &d->wound, &d->recall, NULL);

    if (rc == ERR_NOMEM)
        return nomem(err);
    if (rc < 0)
        wounds_done(l->s, &d->wound, recall_whole(l->s, &d->wound));
    return rc < 0 ? 0 : want_records(l, d);
}

/* What no pack has, so much at once as fits. Not while somebody packs: it could not be put anywhere. */
static int want_holes(struct loop *l, struct link_data *d, struct proto_fetch *f, struct err *err)
{
    uint64_t bytes = 0;

    if (!store_maint_try(l->s))
        return 0;
    store_maint_end(l->s);
    if (d->holes == NULL && (d->holes = malloc(FETCH_PARTS * sizeof *d->holes)) == NULL)
        return nomem(err);
    d->bare = d->n_again > 0;
    d->n_holes = d->bare ? d->n_again : wounds_holes(l->s, d->holes, FETCH_PARTS, &d->behind);
    d->n_again = 0;
    for (size_t i = 0; i < d->n_holes; i++) {
        const struct wound *w = &d->holes[i];
        struct proto_data_part p = { .lsn = w->lsn, .dstart = w->dstart, .doff = w->doff, .len = w->len };
        uint32_t from, to;

        if (!d->bare && holes_block(l->s, w, &from, &to) && to - from <= PROTO_PART_MAX) {
            p.doff = from;
            p.len = to - from;
        }
        if ((bytes += p.len) > PROTO_DATA_MAX) {
            d->behind = i > 0 && w->lsn > d->holes[i - 1].lsn && w->lsn < d->behind ? w->lsn : d->behind;
            d->n_holes = i;
            break;
        }
        proto_part_put(d->parts + PROTO_PART_BYTES * (size_t)f->n++, &p);
    }
    return f->n > 0;
}

/* The first wound of which all that is needed is known. */
static int want_wound(struct loop *l, struct link_data *d, struct proto_fetch *f, struct err *err)
{
    for (int i = 0; i < TRIES && wounds_first(l->s, &d->wound); i++) {
        struct err why = { 0 };
        struct wound head;
        int rc;

        if (d->wound.hole)
            return want_holes(l, d, f, err);
        if (d->wound.until > 0) {
            if ((rc = begin_records(l, d, err)) != 0 || d->recall != NULL)
                return rc;
            continue;
        }
        rc = heal_plan_new(l->s, &d->wound, &d->plan, &why);
        if (rc == ERR_NOMEM)
            return nomem(err);
        if (rc == ERR_DAMAGE && recall_head(l->s, d->wound.lsn, &head))
            wounds_note(l->s, &head);    /* with the head its data come up again */
        if (rc < 0 || d->plan->bytes > PROTO_DATA_MAX || d->plan->n > PROTO_PARTS_MAX) {
            heal_plan_free(d->plan);
            d->plan = NULL;
            wounds_done(l->s, &d->wound, false);
            continue;
        }
        for (size_t k = 0; k < d->plan->n; k++) {
            const struct wound *w = &d->plan->part[k];
            const struct proto_data_part p = { .lsn = w->lsn, .dstart = w->dstart, .doff = w->doff, .len = w->len };

            proto_part_put(d->parts + PROTO_PART_BYTES * (size_t)f->n++, &p);
        }
        return 1;
    }
    return 0;
}

/*
 * What came, where it belongs; at a later turn where somebody packs: a stream that waited would let leases run out, and end.
 * A wound that the other side cannot heal stays, and is no reason to end the stream.
 */
static void heal_wound(struct loop *l, struct link_data *d)
{
    int rc = d->came != NULL ? heal_apply(l->s, d->plan, d->came, NULL) : ERR_NOENT;
    uint32_t good;

    if (rc == ERR_BUSY)
        return;
    good = rc == 0 ? heal_good(l->s, &d->wound) : 0;
    if (good == d->wound.len || good <= d->plan->w.doff - d->wound.doff)         /* else it goes on behind what is healed now */
        wounds_done(l->s, &d->wound, good == d->wound.len);
    heal_plan_free(d->plan);
    d->plan = NULL;
    free(d->came);
    d->came = NULL;
}

int link_want(struct loop *l, struct link_data *d, bool lacking, struct proto_fetch *f, struct err *err)
{
    struct wound w;

    memset(f, 0, sizeof *f);
    if (d->recall != NULL)
        return want_records(l, d);
    if (d->plan != NULL)
        heal_wound(l, d);
    if (d->plan != NULL || l->s == NULL || ((!lacking || store_lacking_from(l->s) == UINT64_MAX) && !wounds_first(l->s, &w)))
        return 0;
    if (d->parts == NULL && (d->parts = malloc(PROTO_PART_BYTES * (size_t)PROTO_PARTS_MAX)) == NULL)
        return nomem(err);
    f->p = d->parts;
    return lacking && store_lacking_from(l->s) != UINT64_MAX ? want_lacking(l, d, f, err) : want_wound(l, d, f, err);
}

/* ---- what came ---- */

/* Into the packs. What the other side does not have either is nowhere. */
static int take_lacking(struct loop *l, const struct proto_data *data, struct err *err)
{
    struct packs_piece *v = calloc(data->n, sizeof *v);
    struct lack *gone = calloc(data->n, sizeof *gone);
    const uint8_t *p = data->data;
    size_t n = 0, n_gone = 0;
    int rc = v != NULL && gone != NULL ? 0 : nomem(err);

    for (uint32_t i = 0; rc == 0 && i < data->n; i++) {
        struct proto_data_part a;

        proto_data_get(data->p, i, &a);
        if (!a.had) {
            gone[n_gone++] = (struct lack){ .lsn = a.lsn, .doff = a.doff, .len = a.len };
            continue;
        }
        v[n++] = (struct packs_piece){ a.lsn, a.ino, a.off, a.dstart, a.doff, a.len, p };
        p += a.len;
    }
    if (rc == 0)
        rc = supply(l->s, v, n, err);
    if (rc == 0)
        rc = store_lacking_again(l->s, gone, n_gone, err);
    free(v);
    free(gone);
    return rc;
}

/* Rising, each byte once, as they were asked for. */
static int by_address(const void *x, const void *y)
{
    const struct packs_piece *a = x, *b = y;

    if (a->lsn != b->lsn)
        return a->lsn < b->lsn ? -1 : 1;
    return (a->doff > b->doff) - (a->doff < b->doff);
}

/* The wounds of which something came, or nothing could, are over: what stays lacking the next look finds. Others are asked for again, without what would make them whole blocks. */
static void over(struct loop *l, struct link_data *d, const struct proto_data *data)
{
    for (size_t i = 0; i < d->n_holes; i++) {
        const struct wound w = d->holes[i];
        struct proto_data_part a = { .had = true };

        if (i < data->n)
            proto_data_get(data->p, (uint32_t)i, &a);
        if (!a.had && a.len > w.len)
            d->holes[d->n_again++] = w;
        else
            wounds_done(l->s, &w, heal_good(l->s, &w) == w.len);
    }
    d->n_holes = 0;
}

static int take_holes(struct loop *l, struct link_data *d, const struct proto_data *data, struct err *err)
{
    struct packs_piece *v = calloc(data->n, sizeof *v);
    const uint8_t *p = data->data;
    size_t n = 0;

    if (v == NULL)
        return nomem(err);
    if (!store_maint_try(l->s)) {        /* asked for again */
        d->n_holes = 0;
        free(v);
        return 0;
    }
    for (uint32_t i = 0; i < data->n && i < d->n_holes; i++) {
        const struct wound *w = &d->holes[i];
        struct proto_data_part a;
        uint32_t skip;

        proto_data_get(data->p, i, &a);
        if (!a.had)
            continue;
        v[n] = (struct packs_piece){ a.lsn, a.ino, a.off, a.dstart, a.doff, a.len, p };
        p += a.len;
        if (!holes_prove(l->s, &v[n]))
            continue;
        skip = w->doff - a.doff;
        v[n].off += skip;
        v[n].doff += skip;
        v[n].bytes += skip;
        v[n++].len = w->len;
    }
    qsort(v, n, sizeof *v, by_address);
    (void)holes_apply(l->s, v, n, d->behind, NULL);
    store_maint_end(l->s);
    over(l, d, data);
    free(v);
    return 0;
}

static int take_wound(struct loop *l, struct link_data *d, const struct proto_data *data, struct err *err)
{
    bool all = true;

    for (uint32_t i = 0; i < data->n; i++) {
        struct proto_data_part a;

        proto_data_get(data->p, i, &a);
        all = all && a.had;
    }
    if (all) {
        if ((d->came = malloc(data->bytes)) == NULL)
            return nomem(err);
        memcpy(d->came, data->data, data->bytes);
    }
    heal_wound(l, d);
    return 0;
}

int link_take(struct loop *l, struct link_data *d, const struct proto_msg *m, struct err *err)
{
    const struct proto_heads *h = &m->u.heads;

    if (m->type == PROTO_HEADS && d->recall != NULL) {
        if (recall_heard(d->recall, h->p, h->bytes, h->end, NULL) < 0) {
            wounds_done(l->s, &d->wound, false);
            recall_free(d->recall);
            d->recall = NULL;
        }
        return 0;
    }
    if (d->n_holes > 0)
        return take_holes(l, d, &m->u.data, err);
    if (d->plan == NULL)
        return take_lacking(l, &m->u.data, err);
    return take_wound(l, d, &m->u.data, err);
}

/* ---- giving ---- */

/* It is answered when there is room; the bytes it came in are gone by then. */
int link_note_fetch(struct link_data *d, const struct proto_msg *m, struct err *err)
{
    const struct proto_fetch *f = &m->u.fetch;
    size_t len;
    uint8_t *p;

    d->asked_from = m->position;
    d->asked_until = m->type == PROTO_RECALL ? m->u.recall.until : 0;
    if (d->asked_until > 0)
        return 0;
    len = PROTO_PART_BYTES * (size_t)f->n;
    p = malloc(len);
    if (p == NULL)
        return nomem(err);
    memcpy(p, f->p, len);
    free((void *)(uintptr_t)d->asked.p);
    d->asked = (struct proto_fetch){ f->n, p };
    return 0;
}

/* Where the record wrote the byte at ${k}->doff of its data, if the record is had; and where its data begin, if nobody said. */
static int where_from(struct store *s, struct proto_data_part *k, uint32_t *dstart)
{
    struct record rec;
    void *buf = NULL;
    int rc = history_record(store_history(s), k->lsn, &rec, &buf, NULL);

    if (rc == 0) {
        *dstart = record_dstart(rec.head_len);
        if (rec.type == REC_WRITE) {
            k->ino = rec.ino;
            k->off = rec.u.write.off + k->doff;
        }
    }
    free(buf);
    return rc == ERR_NOMEM ? rc : 0;
}

/* What is not here either, or is damaged here, too, is said so. */
static int give_part(struct store *s, struct proto_data_part *k, uint8_t *to, struct err *err)
{
    uint32_t dstart = k->dstart;
    int rc = store_has_data(s, k->lsn, k->doff, k->len, &k->had, err);

    if (rc == 0 && k->had)
        rc = where_from(s, k, &dstart);
    if (rc == 0 && k->had)
        rc = store_try_data(s, k->lsn, dstart, k->doff, k->len, to, false, err);
    if (rc == ERR_DAMAGE || rc == ERR_IO || rc == ERR_INVAL || rc == ERR_NOENT) {
        if (err != NULL)
            *err = (struct err){ 0 };
        k->had = false;
        rc = 0;
    }
    if (!k->had)
        k->ino = k->off = 0;
    return rc;
}

/* Heads of records, as far as they can be read here and are durable. */
static int give_heads(struct loop *l, struct link_data *d, struct proto_msg *m, struct err *err)
{
    uint64_t durable = log_durable(store_log(l->s)), until = d->asked_until < durable ? d->asked_until : durable;
    struct proto_heads h = { .end = d->asked_from };
    struct history_iter *it = NULL;
    const uint8_t *head;
    struct record rec;
    int rc;

    if (d->buf == NULL && (d->buf = malloc(PROTO_DATA_MAX)) == NULL)
        return nomem(err);
    rc = history_iter_new(store_history(l->s), d->asked_from, until, &it, NULL);
    while (rc == 0 && h.bytes < HEADS_BYTES && h.n < HEADS_RECORDS && (rc = history_next(it, &rec, &head, NULL)) == 1) {
        rc = rec.lsn == h.end ? 0 : ERR_NOENT;
        if (rc < 0)
            break;
        memcpy(d->buf + h.bytes, head, rec.head_len);
        h.bytes += rec.head_len;
        h.n++;
        h.end = rec.lsn + frame_span(rec.head_len + rec.data_len);
    }
    history_iter_free(it);
    if (rc == ERR_NOMEM)
        return nomem(err);
    h.p = d->buf;
    m->type = PROTO_HEADS;
    m->position = d->asked_from;
    m->u.heads = h;
    return conn_put(&l->c, m, err);
}

static int give_data(struct loop *l, struct link_data *d, struct proto_msg *m, struct err *err)
{
    const struct proto_fetch *f = &d->asked;
    uint8_t *parts = malloc(PROTO_DATA_PART_BYTES * (size_t)f->n);
    uint32_t bytes = 0;
    int rc = 0;

    if (d->buf == NULL)
        d->buf = malloc(PROTO_DATA_MAX);
    if (parts == NULL || d->buf == NULL)
        rc = nomem(err);
    for (uint32_t i = 0; rc == 0 && i < f->n; i++) {
        struct proto_data_part k;

        proto_part_get(f->p, i, &k);
        rc = give_part(l->s, &k, d->buf + bytes, err);
        bytes += rc == 0 && k.had ? k.len : 0;
        if (rc == 0)
            proto_data_put(parts + PROTO_DATA_PART_BYTES * (size_t)i, &k);
    }
    if (rc == 0) {
        m->u.data = (struct proto_data){ f->n, bytes, parts, d->buf };
        rc = conn_put(&l->c, m, err);
    }
    free(parts);
    return rc;
}

int link_give(struct loop *l, struct link_data *d, struct proto_msg *m, struct err *err)
{
    return d->asked_until > 0 ? give_heads(l, d, m, err) : give_data(l, d, m, err);
}
