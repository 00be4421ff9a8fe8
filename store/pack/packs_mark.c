/* packs_mark.c: see packs_mark.h. Marks are bits, by the place in the tables; what is asked for is sorted in portions, so that the tables are read in order. */
#include "store/pack/packs_mark_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static int nomem(struct err *err)
{
    return err_set(err, ERR_NOMEM, "packs: out of memory");
}

/* ---- the packs ---- */

/* Where blocks of a kind begin in the directory, and how many entries come before each. */
static int count_kind(const struct cached *dir, enum pack_block_kind kind, struct block_counts *c, struct err *err)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < dir->n; i++)
        if (dir->u.dir[i].kind == (uint32_t)kind && n++ == 0)
            c->first = i;
    c->before = calloc((size_t)n + 1, sizeof *c->before);
    if (c->before == NULL)
        return nomem(err);
    for (uint32_t i = 0; i < n; i++)
        c->before[i + 1] = c->before[i] + dir->u.dir[c->first + i].entries;
    c->total = c->before[n];
    c->bits = calloc(c->total / 8 + 1, 1);
    return c->bits != NULL ? 0 : nomem(err);
}

static int add_pack(void *arg, const struct packs_info *info)
{
    struct adding *a = arg;
    struct packs_mark *m = a->m;
    struct cached *dir = NULL;
    struct marked *k;
    int rc;

    if (m->n == m->cap) {
        size_t cap = m->cap == 0 ? 32 : 2 * m->cap;
        struct marked *v = realloc(m->v, cap * sizeof *v);

        if (v == NULL)
            return nomem(a->err);
        m->v = v;
        m->cap = cap;
    }
    k = &m->v[m->n];
    memset(k, 0, sizeof *k);
    k->use = (struct packs_use){ .first = info->first, .end = info->end, .gen = info->gen, .bytes = info->bytes };
    if (m->n > 0 && m->v[m->n - 1].use.end > info->first)
        k->use.fixed = k->use.blind = true;      /* two that overlap: cannot be, and if it is, nothing is done */
    k->pack = packs_held(m->ps, info->gen);
    if (k->pack == NULL)
        return 0;                        /* forgotten in between: cannot be, and harmless */
    m->n++;
    m->last_gen = info->gen > m->last_gen ? info->gen : m->last_gen;
    m->end = info->end > m->end ? info->end : m->end;
    rc = packs_load_head(m->ps, k->pack, false, NULL);
    if (rc == 0)
        rc = packs_dir(m->ps, k->pack, false, &dir, NULL);
    if (rc != 0 || k->pack->cut != k->pack->end) {
        packs_put(m->ps, dir);
        k->use.fixed = k->use.blind = true;      /* of a branch: its addresses overlap those of others, and what is looked up here is by names */
        return rc == ERR_NOMEM ? nomem(a->err) : 0;
    }
    rc = count_kind(dir, PACK_CHUNKS, &k->chunks, a->err);
    if (rc == 0)
        rc = count_kind(dir, PACK_ADDRESSES, &k->addrs, a->err);
    packs_put(m->ps, dir);
    k->use.stored = k->pack->h.tables_at - PACK_HEAD_BYTES;
    k->use.chunks = k->chunks.total;
    k->use.entries = k->addrs.total;
    return rc;
}

int packs_mark_new(struct packs *ps, struct packs_mark **out, struct err *err)
{
    struct packs_mark *m = calloc(1, sizeof *m);
    struct adding a = { m, err };
    int rc;

    if (m == NULL)
        return nomem(err);
    m->ps = ps;
    m->queue = malloc(MARK_QUEUE * sizeof *m->queue);
    rc = m->queue != NULL ? packs_list(ps, add_pack, &a, err) : nomem(err);
    if (rc < 0) {
        packs_mark_free(m);
        return rc;
    }
    m->seen_gen = m->last_gen;
    *out = m;
    return 0;
}

void packs_mark_free(struct packs_mark *m)
{
    if (m == NULL)
        return;
    for (size_t i = 0; i < m->n; i++) {
        packs_release(m->ps, m->v[i].pack);
        free(m->v[i].chunks.before);
        free(m->v[i].chunks.bits);
        free(m->v[i].addrs.before);
        free(m->v[i].addrs.bits);
    }
    free(m->v);
    free(m->queue);
    free(m);
}

size_t packs_mark_n(const struct packs_mark *m)
{
    return m->n;
}

struct packs_use packs_mark_use(const struct packs_mark *m, size_t i)
{
    return m->v[i].use;
}

struct marked *packs_marked(struct packs_mark *m, uint64_t addr)
{
    size_t lo = 0, hi = m->n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (m->v[mid].use.end <= addr)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < m->n && m->v[lo].use.first <= addr ? &m->v[lo] : NULL;
}

/* ---- chunks ---- */

static bool set_bit(uint8_t *bits, uint32_t i)
{
    bool was = packs_bit(bits, i);

    bits[i / 8] |= (uint8_t)(1u << i % 8);
    return !was;
}

/* The place of a chunk among those of its pack; NOENT. */
static int chunk_place(struct packs_mark *m, struct marked *k, uint64_t number, uint32_t *at, struct pack_chunk *chunk, struct err *err)
{
    struct cached *dir, *block = NULL;
    const struct pack_chunk *found = NULL;
    uint32_t i;
    int rc = packs_dir(m->ps, k->pack, false, &dir, err);

    if (rc)
        return rc;
    i = packs_seek(dir, PACK_CHUNKS, number);
    if (i != UINT32_MAX)
        rc = packs_block(m->ps, k->pack, dir->u.dir, i, false, &block, err);
    if (rc == 0 && block)
        found = packs_find_chunk(block, number);
    if (found) {
        *at = k->chunks.before[i - k->chunks.first] + (uint32_t)(found - block->u.chunk);
        *chunk = *found;
    }
    packs_put(m->ps, block);
    packs_put(m->ps, dir);
    return rc ? rc : found ? 0 : packs_bad(err, k->pack, 0, "expected chunk %" PRIu64 ", which is needed, found none of that number", number);
}

static int frame_of(struct packs_mark *m, struct marked *k, uint32_t number, struct pack_frame *f, struct err *err)
{
    struct cached *dir, *block = NULL;
    uint32_t i;
    int rc = packs_dir(m->ps, k->pack, false, &dir, err);

    if (rc)
        return rc;
    i = packs_seek(dir, PACK_FRAMES, number);
    if (i != UINT32_MAX)
        rc = packs_block(m->ps, k->pack, dir->u.dir, i, false, &block, err);
    if (rc == 0 && block && number - dir->u.dir[i].least < block->n)
        *f = block->u.frame[number - dir->u.dir[i].least];
    else if (rc == 0)
        rc = packs_bad(err, k->pack, 0, "expected frame %" PRIu32 ", which a chunk names, found none of that number", number);
    packs_put(m->ps, block);
    packs_put(m->ps, dir);
    return rc;
}

int packs_mark_chunk(struct packs_mark *m, uint64_t number, struct err *err)
{
    for (;;) {
        struct marked *k = packs_marked(m, number);
        struct pack_chunk c = { 0 };
        struct pack_frame f = { 0 };
        uint32_t at = 0;
        int rc;

        if (k == NULL || k->use.fixed)
            return 0;                    /* of a pack that stays as it is */
        rc = chunk_place(m, k, number, &at, &c, err);
        if (rc || !set_bit(k->chunks.bits, at))
            return rc;
        rc = frame_of(m, k, c.frame, &f, err);
        if (rc)
            return rc;
        k->use.chunks_needed++;
        k->use.needed += f.expanded > 0 ? ((uint64_t)f.stored * c.len + f.expanded - 1) / f.expanded : 0;
        if (f.kind != PACK_DELTA)
            return 0;
        number = f.base;
    }
}

/* ---- data ---- */

static int by_place(const void *x, const void *y)
{
    const struct wanted *a = x, *b = y;

    if (a->lsn != b->lsn)
        return a->lsn < b->lsn ? -1 : 1;
    return (a->doff > b->doff) - (a->doff < b->doff);
}

/* The entries of these bytes, which are in one block. */
static int mark_range(struct packs_mark *m, struct marked *k, const struct wanted *w, const struct cached *t, uint32_t before, struct err *err)
{
    uint64_t pos = w->doff, end = pos + w->len;
    int rc = 0;

    for (uint32_t i = packs_seek_addr(t, w->lsn); rc == 0 && pos < end && i < t->n && t->u.addr[i].lsn == w->lsn; i++) {
        const struct pack_addr *a = &t->u.addr[i];

        if ((uint64_t)a->doff + a->len <= pos)
            continue;
        if (a->doff > pos)
            break;
        if (set_bit(k->addrs.bits, before + i))
            k->use.entries_needed++;
        rc = packs_mark_chunk(m, a->chunk, err);
        pos = (uint64_t)a->doff + a->len;
    }
    if (rc == 0 && pos < end)
        rc = packs_bad(err, k->pack, 0, "expected byte %" PRIu64 " of the data of the record at address %" PRIu64 ", which is needed, found no entry for it",
                       pos, w->lsn);
    return rc;
}

static int mark_one(struct packs_mark *m, const struct wanted *w, struct cached **table, struct marked **of, uint32_t *block, struct err *err)
{
    struct marked *k = packs_marked(m, w->lsn);
    struct cached *dir;
    uint32_t i;
    int rc;

    if (k == NULL || k->use.fixed)
        return 0;
    rc = packs_dir(m->ps, k->pack, false, &dir, err);
    if (rc)
        return rc;
    i = packs_seek(dir, PACK_ADDRESSES, w->lsn);
    if (i == UINT32_MAX) {
        rc = packs_bad(err, k->pack, 0, "expected data of the record at address %" PRIu64 ", which are needed, found none", w->lsn);
    } else if (*table == NULL || *of != k || *block != i) {
        packs_put(m->ps, *table);
        *table = NULL;
        *of = k;
        *block = i;
        rc = packs_block(m->ps, k->pack, dir->u.dir, i, false, table, err);
    }
    packs_put(m->ps, dir);
    return rc ? rc : mark_range(m, k, w, *table, k->addrs.before[i - k->addrs.first], err);
}

int packs_mark_flush(struct packs_mark *m, struct err *err)
{
    struct cached *table = NULL;
    struct marked *of = NULL;
    uint32_t block = 0;
    int rc = 0;

    if (m->n_queue > 1)
        qsort(m->queue, m->n_queue, sizeof *m->queue, by_place);
    for (size_t i = 0; i < m->n_queue && rc == 0; i++)
        rc = mark_one(m, &m->queue[i], &table, &of, &block, err);
    packs_put(m->ps, table);
    m->n_queue = 0;
    return rc;
}

int packs_mark_data(struct packs_mark *m, uint64_t lsn, uint32_t doff, uint32_t len, struct err *err)
{
    int rc = 0;

    if (lsn >= m->end)
        return 0;                        /* the log's */
    if (m->n_queue == MARK_QUEUE)
        rc = packs_mark_flush(m, err);
    m->queue[m->n_queue++] = (struct wanted){ lsn, doff, len };
    return rc;
}

static int mark_pack_from(struct packs_mark *m, struct marked *k, uint64_t lsn, bool (*of)(void *arg, uint64_t ino), void *arg, struct err *err)
{
    struct cached *dir, *t;
    uint32_t n = 0;
    int rc = packs_dir(m->ps, k->pack, false, &dir, err);

    if (rc)
        return rc;
    for (uint32_t i = k->addrs.first; rc == 0 && i < dir->n && dir->u.dir[i].kind == PACK_ADDRESSES; n += dir->u.dir[i++].entries) {
        if (i + 1 < dir->n && dir->u.dir[i + 1].kind == PACK_ADDRESSES && dir->u.dir[i + 1].least <= lsn)
            continue;
        rc = packs_block(m->ps, k->pack, dir->u.dir, i, false, &t, err);
        if (rc)
            break;
        for (uint32_t a = 0; rc == 0 && a < t->n; a++) {
            if (t->u.addr[a].lsn < lsn || (of != NULL && !of(arg, t->u.addr[a].ino)))
                continue;
            if (set_bit(k->addrs.bits, n + a))
                k->use.entries_needed++;
            rc = packs_mark_chunk(m, t->u.addr[a].chunk, err);
        }
        packs_put(m->ps, t);
    }
    packs_put(m->ps, dir);
    return rc;
}

int packs_mark_from(struct packs_mark *m, uint64_t lsn, bool (*of)(void *arg, uint64_t ino), void *arg, struct err *err)
{
    int rc = 0;

    for (size_t i = 0; i < m->n && rc == 0; i++)
        if (m->v[i].use.end > lsn && !m->v[i].use.fixed && m->v[i].addrs.total > 0)
            rc = mark_pack_from(m, &m->v[i], lsn, of, arg, err);
    return rc;
}

/* ---- what stays as it is ---- */

/* All that a pack names or builds on. */
int packs_mark_needs(struct packs_mark *m, struct pack *p, struct err *err)
{
    struct cached *dir;
    int rc = packs_dir(m->ps, p, false, &dir, err);

    if (rc)
        return rc;
    for (uint32_t i = 0; rc == 0 && i < dir->n; i++) {
        enum pack_block_kind kind = (enum pack_block_kind)dir->u.dir[i].kind;
        struct cached *t;

        if (kind != PACK_FRAMES && kind != PACK_ADDRESSES)
            continue;
        rc = packs_block(m->ps, p, dir->u.dir, i, false, &t, err);
        for (uint32_t k = 0; rc == 0 && k < t->n; k++) {
            if (kind == PACK_ADDRESSES)
                rc = packs_mark_chunk(m, t->u.addr[k].chunk, err);
            else if (t->u.frame[k].kind == PACK_DELTA)
                rc = packs_mark_chunk(m, t->u.frame[k].base, err);
        }
        if (t)
            packs_put(m->ps, t);
    }
    packs_put(m->ps, dir);
    return rc;
}

int packs_mark_all(struct packs_mark *m, size_t i, struct err *err)
{
    struct marked *k = &m->v[i];

    if (k->use.blind)
        return 0;                        /* nobody knows what it names: whoever asks must let go of nothing */
    k->use.fixed = true;
    return packs_mark_needs(m, k->pack, err);
}

struct newer { struct packs_mark *m; uint64_t gen[NEWER_MAX]; size_t n; bool more; };

static int find_newer(void *arg, const struct packs_info *info)
{
    struct newer *w = arg;

    if (info->gen > w->m->seen_gen) {
        if (w->n == NEWER_MAX)
            w->more = true;
        else
            w->gen[w->n++] = info->gen;
    }
    return 0;
}

/* Packs that were made since: what they name was there when they did. */
int packs_mark_newer(struct packs_mark *m, struct err *err)
{
    struct newer w = { .m = m };
    uint64_t seen = m->seen_gen;
    int rc = packs_list(m->ps, find_newer, &w, err);

    if (rc == 0 && w.more)
        rc = err_set(err, ERR_BUSY, "packs: %d new ones came in between", NEWER_MAX);
    for (size_t i = 0; i < w.n && rc == 0; i++) {
        struct pack *p = packs_held(m->ps, w.gen[i]);

        if (p) {
            rc = packs_load_head(m->ps, p, false, err);
            if (rc == 0)
                rc = packs_mark_needs(m, p, err);
        }
        packs_release(m->ps, p);
        seen = w.gen[i] > seen ? w.gen[i] : seen;
    }
    if (rc == 0)
        m->seen_gen = seen;
    return rc;
}
