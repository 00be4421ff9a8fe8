/*
 * diff_rows.c: what changed between two kept moments whose records are gone: every row of names and inodes that was there at one of them and not at the
 * other. Rows of both moments are there, since both are kept.
 */
#include "store/core/diff_internal.h"

#include "store/core/core_internal.h"

#include <stdlib.h>

struct scan { struct store *s; struct kv_snap *snap; uint64_t from, to; struct touched *t; struct err *err; };

/* A row that lived in [birth, death) is of one of the two alone. */
static bool of_one(const struct scan *c, uint64_t birth, uint64_t death)
{
    bool was = birth <= c->from && c->from < death, is = birth <= c->to && c->to < death;

    return was != is;
}

static int one_row(const struct scan *c, const struct key_parts *k, const uint8_t *val, size_t len)
{
    const uint8_t *target;
    struct row_den den;
    struct row_ino ino;
    uint64_t death = k->table == 'd' || k->table == 'i' ? UINT64_MAX : k->death;
    int rc;

    if (k->table == 'd' || k->table == 'D') {
        const struct rec_bytes name = { .p = k->name, .len = (uint32_t)k->name_len };

        rc = row_den_decode(val, len, &den, c->err);
        return rc == 0 && of_one(c, den.birth, death) ? diff_touch_name(c->t, k->parent, &name, c->err) : rc;
    }
    rc = row_ino_decode(val, len, &ino, &target, c->err);
    return rc == 0 && of_one(c, ino.birth, death) ? diff_touch_object(c->t, k->ino, DIFF_BY_XATTR, c->err) : rc;
}

static int table(const struct scan *c, char tag)
{
    const uint8_t lo[] = { (uint8_t)tag }, hi[] = { (uint8_t)(tag + 1) };
    const struct kv_ops *ops = c->s->kv->ops;
    struct kv_iter *it = ops->iter_new(c->s->kv, c->snap, lo, 1, hi, 1);
    int rc = it != NULL ? 0 : err_set(c->err, ERR_NOMEM, "diff: out of memory");

    if (rc < 0)
        return rc;
    for (ops->iter_seek(it, lo, 1); rc == 0 && ops->iter_valid(it); ops->iter_next(it)) {
        struct key_parts k;
        size_t klen, vlen;
        const uint8_t *key = ops->iter_key(it, &klen), *val = ops->iter_val(it, &vlen);

        if (!key_parse(key, klen, &k))
            rc = err_set(c->err, ERR_DAMAGE, "index: a row's key cannot be read; rebuild the index");
        else if (k.table == tag)             /* maps lie among the past inodes */
            rc = one_row(c, &k, val, vlen);
    }
    if (rc == 0)
        rc = ops->iter_err(it, c->err);
    ops->iter_free(it);
    return rc;
}

int diff_touch_rows(struct store *s, uint64_t from, uint64_t to, struct touched *t, struct err *err)
{
    static const char tables[] = "dDiI";
    struct scan c = { .s = s, .from = from, .to = to == AT_LIVE ? AT_LIVE - 1 : to, .t = t, .err = err };
    struct hash128 hash;
    uint64_t last;
    int rc;

    log_last(s->log, &last, &hash);
    rc = read_applied(s, to < last ? to : last, NULL);
    if (rc < 0)
        return err_set(err, rc, "diff: %s", err_text(rc));
    c.snap = s->kv->ops->snap_scan(s->kv);
    if (c.snap == NULL)
        return err_set(err, ERR_NOMEM, "diff: out of memory");
    for (size_t i = 0; i < sizeof tables - 1 && rc == 0; i++)
        rc = table(&c, tables[i]);
    s->kv->ops->snap_free(s->kv, c.snap);
    return rc;
}
