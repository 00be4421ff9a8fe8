/*
 * check, second part: every row of the index decodes, and lies within the log; svc_check_tree.c then looks at
 * what the current rows say about each other. Memory does not grow with the store: one pass over the rows.
 */
#include "store/base/bytes.h"
#include "store/pack/history.h"
#include "store/svc/svc_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROGRESS_ROWS = 32768, FINDINGS_OF_A_TABLE = 100 };

static const struct { char tag; const char *what; bool history; } tables[] = {
    { 'i', "inodes", false }, { 'I', "past inodes", true }, { 'd', "names", false }, { 'D', "past names", true },
    { 'x', "directory positions", false }, { 'X', "past directory positions", true }, { 'p', "parents", false },
    { 'P', "past parents", true }, { 'm', "block maps", false }, { 'M', "past block maps", true },
    { 'a', "attributes", false }, { 'A', "past attributes", true }, { 'o', "unlinked open files", false },
    { 't', "times", false }, { 'r', "runs of the clock", false }, { 'w', "clocks of moments", false }, { 's', "snapshots", false }, { 'e', "series", false },
    { 'h', "hints for packing: chunks", false }, { 'n', "hints for packing: names", false }, { '!', "counters", false },
};
enum { N_TABLES = sizeof tables / sizeof tables[0] };

struct rows { struct svc_check *c; uint64_t first, applied, seen, count[N_TABLES], bad[N_TABLES]; };

static int pieces_check(const struct row_map *m, uint64_t first, uint64_t applied, struct err *err)
{
    uint64_t end = 0;

    for (uint32_t i = 0; i < m->n + m->n_image; i++) {
        const struct piece *p = &m->piece[i];

        if (i == m->n)
            end = 0;            /* the image is a list of its own */
        if (p->len == 0 || p->off < end || (uint64_t)p->off + p->len > BLOCK_BYTES)
            return err_set(err, ERR_DAMAGE, "piece %u: expected ascending pieces of one block, found offset %u, length %u", i,
                           p->off, p->len);
        if (p->lsn < first || p->lsn >= applied || p->birth >= applied)
            return err_set(err, ERR_DAMAGE, "piece %u: expected data in the log, [%llu, %llu), found LSN %llu", i,
                           (unsigned long long)first, (unsigned long long)applied, (unsigned long long)p->lsn);
        end = (uint64_t)p->off + p->len;
    }
    return 0;
}

/* The birth of a row, and what else its value alone can tell. */
static int value_check(const struct rows *t, const struct key_parts *k, const uint8_t *val, size_t len, uint64_t *birth,
                       struct err *err)
{
    const uint8_t *p;
    size_t n;
    struct row_ino ino;
    struct row_den den;
    struct row_dix dix;
    struct row_par par;
    struct row_map map = { 0 };
    struct row_run run;
    struct row_time time;
    struct row_snap snap;
    struct row_meta meta;
    int r;

    switch (k->table) {
    case 'i': case 'I':
        r = row_ino_decode(val, len, &ino, &p, err);
        *birth = r ? 0 : ino.birth;
        return r;
    case 'd': case 'D':
        r = row_den_decode(val, len, &den, err);
        *birth = r ? 0 : den.birth;
        return r;
    case 'x': case 'X':
        r = row_dix_decode(val, len, &dix, err);
        *birth = r ? 0 : dix.birth;
        return r;
    case 'm': case 'M':
        r = row_map_decode(val, len, &map, err);
        if (r == 0)
            r = pieces_check(&map, t->first, t->applied, err);
        *birth = r || k->table == 'M' ? 0 : map.birth;
        free(map.piece);
        return r;
    case 'a': case 'A':
        return row_xat_decode(val, len, birth, &p, &n, err);
    case 'r':
        return row_run_decode(val, len, &run, err);
    case 's':
        r = row_snap_decode(val, len, &snap, err);
        *birth = r ? 0 : snap.lsn;
        return r;
    case 't':
        r = row_time_decode(val, len, &time, err);
        *birth = r ? 0 : time.lsn;
        return r;
    case '!':
        return k->name_len == 7 && memcmp(k->name, "applied", 7) == 0 ? row_meta_decode(val, len, &meta, err) : 0;
    case 'p': case 'P':
        r = row_par_decode(val, len, &par, err);
        *birth = r ? 0 : par.birth;
        return r;
    case 'h': case 'n': case 'w':
        r = row_u64_decode(val, len, birth, err);
        *birth = 0;                      /* a chunk's number, a time: the row has no birth */
        return r;
    default:
        return row_u64_decode(val, len, birth, err);
    }
}

static int one_row(struct rows *t, const uint8_t *key, size_t klen, const uint8_t *val, size_t vlen)
{
    struct key_parts k;
    struct err e = { 0 };
    uint64_t birth = 0;
    char hex[2 * 40 + 1];
    size_t i = 0;
    int r;

    hex_put(hex, key, klen < 40 ? klen : 40);
    if (!key_parse(key, klen, &k))
        return svc_finding(t->c, "index", "row %s: expected the key of a table, found none", hex);
    while (i < N_TABLES && tables[i].tag != k.table)
        i++;
    if (i == N_TABLES)
        return svc_finding(t->c, "index", "row %s: expected a known table, found '%c'", hex, k.table);
    t->count[i]++;
    r = value_check(t, &k, val, vlen, &birth, &e);
    if (r == 0 && birth >= t->applied)
        r = err_set(&e, ERR_DAMAGE, "born at %llu, behind the last record applied (%llu)", (unsigned long long)birth,
                    (unsigned long long)t->applied);
    if (r == 0 && tables[i].history && (k.death == 0 || k.death >= t->applied || (birth && birth >= k.death)))
        r = err_set(&e, ERR_DAMAGE, "expected a life that ended, found [%llu, %llu)", (unsigned long long)birth,
                    (unsigned long long)k.death);
    /* One broken table should not print a million lines. */
    if (r == 0 || ++t->bad[i] > FINDINGS_OF_A_TABLE)
        return 0;
    return svc_finding(t->c, "index", "%s, row %s: %s", tables[i].what, hex, e.msg[0] ? e.msg : err_text(r));
}

static int read_meta(struct kv *kv, struct kv_snap *snap, struct row_meta *meta, struct err *err)
{
    uint8_t key[KV_KEY_MAX], upper = 0xff;
    size_t klen = key_meta(key, "applied"), n;
    struct kv_iter *it = kv->ops->iter_new(kv, snap, key, klen, &upper, 1);
    const uint8_t *p;
    int r;

    kv->ops->iter_seek(it, key, klen);
    if (!kv->ops->iter_valid(it)) {
        r = kv->ops->iter_err(it, err);
        if (r == 0)
            r = err_set(err, ERR_DAMAGE, "index: expected a row that says how far the log is applied, found none");
    } else {
        p = kv->ops->iter_val(it, &n);
        r = row_meta_decode(p, n, meta, err);
    }
    kv->ops->iter_free(it);
    return r;
}

int svc_check_rows(struct svc_check *c, struct err *err)
{
    struct kv *kv = store_kv(c->q->s);
    struct kv_snap *snap;
    struct kv_iter *it = NULL;
    struct row_meta meta;
    struct err e = { 0 };
    struct rows t = { .c = c, .first = LOG_FIRST_ADDR };
    uint8_t lower = 0, upper = 0xff;
    int r;

    if (!kv)
        return svc_finding(c, "index", "index: could not be opened");
    snap = kv->ops->snap_new(kv);
    r = read_meta(kv, snap, &meta, &e);
    if (r) {
        r = svc_finding(c, "index", "%s", e.msg[0] ? e.msg : err_text(r));
        goto out;
    }
    t.applied = meta.applied;
    it = kv->ops->iter_new(kv, snap, &lower, 1, &upper, 1);
    for (kv->ops->iter_seek(it, &lower, 1); kv->ops->iter_valid(it); kv->ops->iter_next(it)) {
        size_t klen, vlen;
        const uint8_t *key = kv->ops->iter_key(it, &klen), *val = kv->ops->iter_val(it, &vlen);

        if ((r = one_row(&t, key, klen, val, vlen)))
            goto out;
        if (++t.seen % PROGRESS_ROWS == 0 && (r = svc_progress(c, "index rows", t.seen, 0)))
            goto out;
    }
    if (kv->ops->iter_err(it, &e) && (r = svc_finding(c, "index", "%s", e.msg)))
        goto out;
    for (size_t i = 0; i < N_TABLES; i++) {
        if (t.bad[i] > FINDINGS_OF_A_TABLE
            && (r = svc_finding(c, "index", "%s: %llu bad rows in all", tables[i].what, (unsigned long long)t.bad[i])))
            goto out;
        if (t.count[i] && (r = svc_looked(c, tables[i].what, t.count[i])))
            goto out;
    }
    r = svc_check_tree(c, kv, snap, &meta, err);
out:
    if (it)
        kv->ops->iter_free(it);
    kv->ops->snap_free(kv, snap);
    return r;
}
