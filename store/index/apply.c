/*
 * apply.c: one record against the current rows. Deterministic: everything that is not in the record comes from the rows.
 * Names in apply_names.c, attributes in apply_attr.c, content in apply_map.c.
 */
#include "store/index/apply_internal.h"

#include "store/log/frame.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { TIME_ROW_EVERY = 65536 };      /* bytes of stream between time rows */

int index_open(struct index *ix, struct kv *kv, struct err *err)
{
    uint8_t key[KV_KEY_MAX];
    uint8_t *val = NULL;
    size_t vlen = 0;
    memset(ix, 0, sizeof *ix);
    ix->kv = kv;
    int rc = cache_init(&ix->cache, kv, err);
    if (rc < 0)
        goto out;
    rc = kv_get(kv, key, key_meta(key, "applied"), &val, &vlen, err);
    if (rc == 0)
        rc = row_meta_decode(val, vlen, &ix->meta, err);
    else if (rc == ERR_NOENT)
        rc = 0;
    if (rc < 0)
        goto out;
    if (ix->meta.next_ino < INO_FIRST)
        ix->meta.next_ino = INO_FIRST;
    ix->applied = ix->meta.applied;
    ix->filling = kv->ops->batch_new(kv);
    ix->draining = kv->ops->batch_new(kv);
    if (ix->filling == NULL || ix->draining == NULL)
        rc = err_set(err, ERR_NOMEM, "index: out of memory");
out:
    free(val);
    if (rc < 0)
        index_release(ix);
    return rc;
}

void index_release(struct index *ix)
{
    if (ix->filling != NULL)
        ix->kv->ops->batch_free(ix->filling);
    if (ix->draining != NULL)
        ix->kv->ops->batch_free(ix->draining);
    cache_release(&ix->cache);
    free(ix->scratch);
    free(ix->row_scratch);
    memset(ix, 0, sizeof *ix);
}

void apply_put(struct apply *a, const uint8_t *key, size_t klen, const uint8_t *val, size_t vlen)
{
    a->ix->kv->ops->batch_put(a->ix->filling, key, klen, val, vlen);
}

void apply_del(struct apply *a, const uint8_t *key, size_t klen)
{
    a->ix->kv->ops->batch_del(a->ix->filling, key, klen);
}

int apply_damage(struct apply *a, const char *what, uint64_t ino)
{
    const char *type = record_type_name(a->rec->type);
    return err_set(a->err, ERR_DAMAGE,
                   "index: record %s at @%" PRIu64 ": %s (inode %" PRIu64 "); the rows contradict the log, "
                   "rebuild the index", type != NULL ? type : "?", a->lsn, what, ino);
}

void apply_ino_history(struct apply *a, const struct crow *row)
{
    uint8_t key[KV_KEY_MAX], val[ROW_INO_MAX];
    size_t klen = key_ino_h(key, row->ino, a->lsn);
    size_t vlen = row_ino_encode(&row->u.ino.row, row->u.ino.target, val, sizeof val);
    apply_put(a, key, klen, val, vlen);
    a->ix->meta.n_past++;
}

int apply_touch(struct apply *a, uint64_t ino, struct crow **out)
{
    struct crow *r = NULL;
    int rc = cache_ino(&a->ix->cache, ino, &r, a->err);
    if (rc < 0)
        return rc;
    if (!r->present)
        return apply_damage(a, "no such inode", ino);
    if (r->u.ino.row.birth < a->lsn) {
        if (r->u.ino.row.hidden == 0)
            apply_ino_history(a, r);
        r->u.ino.row.birth = a->lsn;
        r->u.ino.row.flags &= ~(uint32_t)INOF_NEW_BURST;
    }
    cache_dirty(&a->ix->cache, r, a->lsn);
    *out = r;
    return 0;
}

/* The quarter of an hour since 1970. */
static int64_t quarter(int64_t wall)
{
    return wall / QUARTER_NS - (wall % QUARTER_NS < 0);
}

/*
 * The clock: a step backwards starts a run; rows lead from a time to an address (struct row_time). Two records of the same time have one key: the row
 * that is due because of the bytes waits, so that the first of a quarter stays.
 */
static void apply_clock(struct apply *a)
{
    struct row_meta *m = &a->ix->meta;
    uint8_t key[KV_KEY_MAX], val[ROW_SMALL_MAX];
    size_t len;
    bool first = m->last_lsn == 0, due;
    if (!first)
        m->age_ns = record_age_add(m->age_ns, m->last_wall, m->last_boot, a->rec);
    if (first || a->rec->wall_ns < m->last_wall) {
        struct row_run run = { a->lsn, a->rec->wall_ns, a->rec->wall_ns };
        m->run = first ? 1 : m->run + 1;
        m->last_time_lsn = 0;
        len = row_run_encode(&run, val, sizeof val);
        apply_put(a, key, key_run(key, m->run), val, len);
    }
    due = quarter(a->rec->wall_ns) != quarter(m->last_wall) || (a->lsn - m->last_time_lsn >= TIME_ROW_EVERY && a->rec->wall_ns != m->last_wall);
    if (m->last_time_lsn == 0 || due) {
        const struct row_time t = { .lsn = a->lsn, .prev = m->last_lsn, .age_ns = m->age_ns };
        len = row_time_encode(&t, val, sizeof val);
        apply_put(a, key, key_time(key, m->run, a->rec->wall_ns), val, len);
        m->last_time_lsn = a->lsn;
    }
    m->last_wall = a->rec->wall_ns;
    m->last_boot = a->rec->boot_ns;
}

static int apply_snapshot(struct apply *a)
{
    uint8_t key[KV_KEY_MAX];
    const struct record *rec = a->rec;
    size_t klen = key_snap(key, rec->u.snapshot.name.p, rec->u.snapshot.name.len);
    if (rec->u.snapshot.action == RSN_DELETE) {
        apply_del(a, key, klen);
        a->ix->meta.snapshots -= a->ix->meta.snapshots > 0;
        return 0;
    }
    if (rec->u.snapshot.reason.len > UINT16_MAX || rec->u.snapshot.person.len > UINT16_MAX)
        return apply_damage(a, "text of a snapshot is too long", 0);
    struct row_snap s = {
        .lsn = a->lsn, .at = rec->u.snapshot.at, .wall_ns = rec->wall_ns, .until_ns = rec->u.snapshot.until_ns,
        .held = rec->u.snapshot.action == RSN_HOLD,
        .reason = rec->u.snapshot.reason.p, .reason_len = (uint16_t)rec->u.snapshot.reason.len,
        .person = rec->u.snapshot.person.p, .person_len = (uint16_t)rec->u.snapshot.person.len,
    };
    size_t cap = 64u + s.reason_len + s.person_len;
    uint8_t *val = malloc(cap);
    if (val == NULL)
        return err_set(a->err, ERR_NOMEM, "index: out of memory");
    apply_put(a, key, klen, val, row_snap_encode(&s, val, cap));
    free(val);
    a->ix->meta.snapshots += rec->u.snapshot.action == RSN_CREATE;
    return 0;
}

static int apply_series(struct apply *a, bool begin)
{
    uint8_t key[KV_KEY_MAX], val[ROW_SMALL_MAX];
    uint64_t id = begin ? a->lsn : a->rec->u.series.id;
    size_t klen = key_series(key, id);
    size_t vlen = row_u64_encode(begin ? 0 : a->lsn, val, sizeof val);
    apply_put(a, key, klen, val, vlen);
    a->ix->meta.series = begin ? a->lsn : 0;
    return 0;
}

static int dispatch(struct apply *a)
{
    switch ((enum rec_type)a->rec->type) {
    case REC_CREATE:
        return apply_create(a);
    case REC_LINK:
        return apply_link(a);
    case REC_UNLINK:
        return apply_unlink(a);
    case REC_RENAME:
        return apply_rename(a);
    case REC_SETATTR:
        return apply_setattr(a);
    case REC_WRITE:
        return apply_write(a);
    case REC_CLONE:
        return apply_clone(a);
    case REC_FALLOCATE:
        return apply_fallocate(a);
    case REC_SETXATTR:
        return apply_setxattr(a);
    case REC_REMOVEXATTR:
        return apply_removexattr(a);
    case REC_REAP:
        return apply_reap(a);
    case REC_REWRITE:
        return apply_rewrite(a);
    case REC_SNAPSHOT:
        return apply_snapshot(a);
    case REC_SERIES_BEGIN:
        return apply_series(a, true);
    case REC_SERIES_END:
        return apply_series(a, false);
    case REC_MOUNT:
        a->ix->meta.mount_id = a->rec->u.mount.id;
        return 0;
    case REC_EPOCH:
    case REC_INCARNATION:
    case REC_CANARY:
    case REC_PIN:
    case REC_POLICY:
    case REC_PURGE:
        return 0;            /* markers: no rows yet */
    }
    return apply_damage(a, "unknown type of record", a->rec->ino);
}

int index_apply(struct index *ix, const struct record *rec, struct err *err)
{
    int64_t sec = rec->wall_ns / 1000000000, nsec = rec->wall_ns % 1000000000;
    if (nsec < 0) {
        nsec += 1000000000;
        sec--;
    }
    struct apply a = { .ix = ix, .rec = rec, .lsn = rec->lsn, .err = err,
                       .now = { .sec = sec, .nsec = (uint32_t)nsec } };
    if (rec->lsn < ix->meta.applied)
        return apply_damage(&a, "its address is applied already", rec->ino);
    apply_clock(&a);
    int rc = dispatch(&a);
    if (rc < 0) {
        ix->broken = true;
        return rc;
    }
    struct crow *r;
    if (rec->ino != 0 && (r = cache_peek(&ix->cache, CROW_INO, rec->ino, 0, 0, NULL, 0)) != NULL && r->present &&
        r->u.ino.row.birth == rec->lsn && (rec->flags & RECF_NEW_BURST))
        r->u.ino.row.flags |= INOF_NEW_BURST;
    ix->meta.applied = rec->lsn + frame_span(rec->head_len + rec->data_len);
    ix->meta.last_lsn = rec->lsn;
    ix->meta.last_hash = rec->hash;
    ix->meta.epoch = rec->epoch;
    ix->pending_ops++;
    return 0;
}

void index_trim(struct index *ix, const struct index_trim *t)
{
    const uint8_t *k = t->keys;
    for (size_t i = 0; i < t->n; i++) {
        uint16_t len;
        memcpy(&len, k, sizeof len);
        ix->kv->ops->batch_del(ix->filling, k + sizeof len, len);
        k += sizeof len + len;
    }
    ix->meta.n_past -= t->past;
    ix->meta.n_held -= t->held;
    ix->pending_ops++;
}

size_t index_pending_bytes(const struct index *ix)
{
    return ix->kv->ops->batch_bytes(ix->filling) + ix->kv->ops->batch_bytes(ix->draining);
}

int index_drain_begin(struct index *ix, struct err *err)
{
    uint8_t key[KV_KEY_MAX], val[ROW_SMALL_MAX];
    if (ix->broken)
        return err_set(err, ERR_POISONED, "index: a record could not be applied");
    if (ix->pending_ops == 0)
        return 0;
    struct kv_batch *b = ix->filling;
    if (cache_drain_begin(&ix->cache, b) < 0)
        return err_set(err, ERR_NOMEM, "index: out of memory");
    size_t vlen = row_meta_encode(&ix->meta, val, sizeof val);
    ix->kv->ops->batch_put(b, key, key_meta(key, "applied"), val, vlen);
    ix->filling = ix->draining;
    ix->draining = b;
    ix->drain_to = ix->meta.applied;
    ix->draining_ops = ix->pending_ops;
    ix->pending_ops = 0;
    return 1;
}

int index_drain_write(struct index *ix, struct err *err)
{
    return kv_write(ix->kv, ix->draining, err);
}

void index_drain_end(struct index *ix)
{
    ix->kv->ops->batch_clear(ix->draining);
    ix->draining_ops = 0;
    ix->applied = ix->drain_to;
    cache_drain_end(&ix->cache);
}
