/* packrig.c: see packrig.h. */
#include "tests/lib/packrig.h"

#include "store/log/frame.h"
#include "store/maint/upkeep.h"
#include "store/pack/history.h"
#include "store/pack/packs.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

/* ---- packing ---- */

static int each_step(void *arg, const struct packer_result *r)
{
    struct packrig_sum *sum = arg;
    struct packer_result *total = &sum->r;

    sum->steps++;
    ck_assert_uint_gt(r->end, r->first);
    ck_assert_uint_gt(r->records, 0);
    ck_assert_uint_le(r->chunk_bytes, r->data_bytes);
    ck_assert_uint_le(r->deltas, r->chunks);
    ck_assert_uint_gt(r->pack_bytes, 0);
    if (total->end != 0)
        ck_assert_uint_eq(r->first, total->end);
    total->end = r->end;
    total->records += r->records;
    total->data_bytes += r->data_bytes;
    total->chunks += r->chunks;
    total->known += r->known;
    total->deltas += r->deltas;
    total->chunk_bytes += r->chunk_bytes;
    total->pack_bytes += r->pack_bytes;
    return 0;
}

int packrig_try(struct store *s, struct packrig_sum *sum, struct err *err)
{
    struct packrig_sum own;

    sum = sum != NULL ? sum : &own;
    memset(sum, 0, sizeof *sum);
    return upkeep_pack(s, NULL, NULL, sum, each_step, err);
}

void packrig_pack(struct store *s, struct packrig_sum *sum)
{
    struct err err = { 0 };
    int rc = packrig_try(s, sum, &err);

    ck_assert_msg(rc == 0, "packing: %s", err.msg);
    ck_assert_uint_eq(log_first(store_log(s)), log_head(store_log(s)));
    ck_assert_uint_eq(packs_end(store_packs(s)), log_head(store_log(s)));
    ck_assert_uint_eq(history_end(store_history(s)), log_head(store_log(s)));
    ck_assert_int_eq(packer_step(s, NULL, UINT64_MAX, NULL, &err), 0);
}

/* ---- the store ---- */

void packrig_open(struct teststore *t)
{
    struct err err = { 0 };

    ck_assert_int_eq(kv_twin_open(t->disk, &t->opt.kv, &err), 0);
    ck_assert_msg(store_open(simio_io(t->sim), NULL, &t->opt, &t->s, NULL, &err) == 0, "open: %s", err.msg);
}

void packrig_close(struct teststore *t)
{
    struct err err = { 0 };

    ck_assert_msg(store_close(t->s, &err) == 0, "close: %s", err.msg);
}

/* Closed, the index thrown away, opened: made anew from archive and log. */
void packrig_without_index(struct teststore *t)
{
    packrig_close(t);
    kv_twin_disk_free(t->disk);
    t->disk = kv_twin_disk_new();
    packrig_open(t);
}

void packrig_start(struct teststore *t, struct past *p, uint64_t seed, uint64_t segment)
{
    ts_new(t, "UTC");
    t->opt.log.segment_bytes = segment;
    ts_reopen(t, false);
    ck_assert_int_eq(store_roll(t->s, NULL), 0);     /* the first one was made before that was said */
    memset(p, 0, sizeof *p);
    p->x = seed;
}

static void bad_pack(void *arg, const struct err *e)
{
    (void)arg;
    ck_abort_msg("%s", e->msg);
}

static int check_pack(void *arg, const struct packs_info *i)
{
    struct err err = { 0 };

    ck_assert_msg(packs_check(arg, i->gen, bad_pack, NULL, &err) == 0, "%s: %s", i->name, err.msg);
    return 0;
}

static int depth_is_bounded(void *arg, const struct pack_addr *e)
{
    static uint8_t buf[PACK_CHUNK_MAX];
    struct err err = { 0 };
    uint32_t len = 0;
    uint8_t depth = 0;

    ck_assert_msg(packs_chunk(arg, e->chunk, buf, &len, &depth, &err) == 0, "%s", err.msg);
    ck_assert_uint_le(depth, len <= 64 << 10 ? 16 : 6);
    return 0;
}

void packrig_well(const struct past *p, struct store *s, const char *when)
{
    struct err err = { 0 };

    ck_assert_uint_eq(past_same(p, s, when), p->n);
    ck_assert_uint_eq(past_digest(s, AT_LIVE), past_digest(s, log_head(store_log(s)) - 1));
    ck_assert_msg(packs_list(store_packs(s), check_pack, store_packs(s), &err) == 0, "%s", err.msg);
    ck_assert_msg(packs_walk(store_packs(s), 0, UINT64_MAX, depth_is_bounded, store_packs(s), &err) == 0, "%s", err.msg);
}

/* ---- records ---- */

void packrig_note(struct packrig_records *w, struct store *s)
{
    struct err err = { 0 };
    struct log_iter *it = NULL;
    struct record rec;

    ck_assert_int_eq(log_iter_new(store_log(s), w->n > 0 ? w->v[w->n - 1].lsn : 0, UINT64_MAX, LOG_ITER_DATA, &it, &err), 0);
    while (log_iter_next(it, &rec, &err) == 1) {
        if (w->n > 0 && rec.lsn <= w->v[w->n - 1].lsn)
            continue;
        ck_assert_uint_lt(w->n, PACKRIG_RECORDS);
        w->v[w->n].lsn = rec.lsn;
        w->v[w->n].head_len = rec.head_len;
        w->v[w->n].len = rec.head_len + rec.data_len;
        w->v[w->n].p = malloc(w->v[w->n].len);
        memcpy(w->v[w->n++].p, log_iter_raw(it) + FRAME_BYTES, rec.head_len + rec.data_len);
    }
    ck_assert_msg(err.code == 0, "%s", err.msg);
    log_iter_free(it);
}

void packrig_forget(struct packrig_records *w)
{
    for (unsigned i = 0; i < w->n; i++)
        free(w->v[i].p);
    w->n = 0;
}

void packrig_same(const struct packrig_records *w, unsigned i, const struct record *rec, const uint8_t *head)
{
    ck_assert_uint_lt(i, w->n);
    ck_assert_uint_eq(rec->lsn, w->v[i].lsn);
    ck_assert_uint_eq(rec->head_len, w->v[i].head_len);
    ck_assert_uint_eq(rec->data_len, w->v[i].len - w->v[i].head_len);
    ck_assert_ptr_null(rec->data);
    ck_assert(memcmp(head, w->v[i].p, rec->head_len) == 0);
}

void packrig_walk(const struct packrig_records *w, struct store *s, unsigned from, void (*each)(struct store *s, unsigned i))
{
    struct err err = { 0 };
    struct history_iter *it = NULL;
    struct record rec;
    const uint8_t *head = NULL;
    unsigned i = from;
    int rc = history_iter_new(store_history(s), w->v[from].lsn, UINT64_MAX, &it, &err);

    ck_assert_int_eq(rc, 0);
    for (;; i++) {
        if (each != NULL)
            each(s, i);
        rc = history_next(it, &rec, &head, &err);
        if (rc != 1)
            break;
        packrig_same(w, i, &rec, head);
    }
    history_iter_free(it);
    ck_assert_msg(rc == 0, "%s", err.msg);
    ck_assert_uint_eq(i, w->n);
}

void packrig_walks(const struct packrig_records *w, struct store *s)
{
    for (unsigned i = 0; i < w->n; i += 17)
        packrig_walk(w, s, i, NULL);
}
