/* supply.c: see supply.h. */
#include "store/maint/supply.h"

#include "store/pack/packs.h"

#include <stdlib.h>
#include <string.h>

struct parts { struct packs_piece *v; size_t n, cap; const struct packs_piece *of; struct err *err; };

static int add_part(void *arg, uint32_t doff, uint32_t len)
{
    struct parts *p = arg;
    struct packs_piece *k;

    if (p->n == p->cap) {
        size_t cap = p->cap > 0 ? 2 * p->cap : 64;
        struct packs_piece *v = realloc(p->v, cap * sizeof *v);

        if (v == NULL)
            return err_set(p->err, ERR_NOMEM, "packs: out of memory");
        p->v = v;
        p->cap = cap;
    }
    k = &p->v[p->n++];
    *k = *p->of;
    k->off += doff - k->doff;
    k->bytes += doff - k->doff;
    k->doff = doff;
    k->len = len;
    return 0;
}

static int by_address(const void *x, const void *y)
{
    const struct packs_piece *a = x, *b = y;

    if (a->lsn != b->lsn)
        return a->lsn < b->lsn ? -1 : 1;
    return (a->doff > b->doff) - (a->doff < b->doff);
}

/* Each byte once. */
static size_t without_overlaps(struct packs_piece *v, size_t n)
{
    size_t to = 0;

    for (size_t i = 0; i < n; i++) {
        const struct packs_piece *before = to > 0 ? &v[to - 1] : NULL;
        uint32_t end = before != NULL && before->lsn == v[i].lsn ? before->doff + before->len : 0;
        struct packs_piece k = v[i];

        if (k.doff + k.len <= end)
            continue;
        if (k.doff < end) {
            k.bytes += end - k.doff;
            k.off += end - k.doff;
            k.len -= end - k.doff;
            k.doff = end;
        }
        v[to++] = k;
    }
    return to;
}

static int into_packs(struct store *s, const struct packs_piece *v, size_t n, struct err *err)
{
    struct packs *ps = store_packs(s);
    struct store_info info;
    struct pack_head h = { .retained_gen = store_retained_gen(s) };
    int64_t took = 0;
    int rc = 0;

    store_info(s, &info);
    memcpy(h.lineage, info.lineage, 16);
    memcpy(h.site, info.site, 16);
    h.key_id = info.key_id;
    for (size_t i = 0; rc == 0 && i < n; i += (size_t)took) {
        h.gen = packs_next_gen(ps);
        rc = names_free_gen(store_io(s), "packs", pack_parse, &h.gen, err);
        if (rc == 0)
            took = packs_supplement(ps, v[i].lsn, &h, v + i, n - i, NULL, 0, NULL, err);
        if (took < 0)
            rc = (int)took;
    }
    return rc;
}

int supply(struct store *s, const struct packs_piece *piece, size_t n, struct err *err)
{
    struct parts p = { .err = err };
    int rc = 0;

    store_maint_begin(s);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        p.of = &piece[i];
        rc = packs_lacking(store_packs(s), piece[i].lsn, piece[i].doff, piece[i].len, add_part, &p, err);
    }
    if (rc == 0 && p.n > 1)
        qsort(p.v, p.n, sizeof *p.v, by_address);
    if (rc == 0)
        rc = into_packs(s, p.v, without_overlaps(p.v, p.n), err);
    store_maint_end(s);
    free(p.v);
    return rc;
}
