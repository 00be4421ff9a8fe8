/*
 * packs_check.c: one pack read whole, past the cache, on after damage: both heads, both tables, every chunk, every entry, the hash of the
 * file. What a delta is based on is taken by the way of every read, so a base that is damaged elsewhere shows here as well: these chunks
 * cannot be read.
 */
#include "store/base/bytes.h"
#include "store/pack/packs_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE = 1 << 20 };

struct check {
    struct packs *ps;
    struct pack *p;
    void (*bad)(void *arg, const struct err *e);
    void *arg;
    bool shape;                      /* what is in frames is not looked at */
    int64_t n;
    struct err e;                    /* of the call that was made last */
};

/* Damage is told and counted; what else failed ends the check. */
static int told(struct check *c, int rc)
{
    if (rc != ERR_DAMAGE && rc != ERR_VERSION && rc != ERR_IO)
        return rc;
    c->n++;
    c->bad(c->arg, &c->e);
    memset(&c->e, 0, sizeof c->e);
    return 0;
}

static int check_heads(struct check *c, uint64_t size, bool good)
{
    struct pack_head a, b;
    int rc = told(c, packs_get_head(c->ps, c->p, 0, false, &a, &c->e));

    if (rc == 0 && size >= 2 * PACK_HEAD_BYTES + 16)
        rc = told(c, packs_get_head(c->ps, c->p, size - PACK_HEAD_BYTES - 16, false, &b, &c->e));
    if (rc == 0 && good && c->p->h.size != size)
        rc = told(c, packs_bad(&c->e, c->p, size, "expected a file of %" PRIu64 " bytes, found %" PRIu64, c->p->h.size, size));
    return rc;
}

/* Directory and blocks of one of the two tables. */
static int check_tables(struct check *c, uint64_t tables)
{
    struct cached *dir = NULL, *block;
    int rc = told(c, packs_load_dir(c->ps, c->p, tables, false, &dir, &c->e));

    for (uint32_t i = 0; rc == 0 && dir && i < dir->n; i++) {
        rc = told(c, packs_load_block(c->ps, c->p, dir->u.dir, i, tables, false, &block, &c->e));
        packs_put(c->ps, block);
    }
    packs_put(c->ps, dir);
    return rc;
}

/* ---- chunks ---- */

struct chunks { struct pack_chunk *v; size_t n, cap; };

static int by_place(const void *x, const void *y)
{
    const struct pack_chunk *a = x, *b = y;

    if (a->frame != b->frame)
        return a->frame < b->frame ? -1 : 1;
    return (a->off > b->off) - (a->off < b->off);
}

/* All chunks of the pack, as far as its tables can be read, by where they lie. */
static int gather(struct check *c, const struct cached *dir, struct chunks *all)
{
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < dir->n; i++) {
        struct cached *t;

        if (dir->u.dir[i].kind != PACK_CHUNKS)
            continue;
        rc = packs_block(c->ps, c->p, dir->u.dir, i, false, &t, &c->e);
        if (rc) {
            rc = rc == ERR_DAMAGE || rc == ERR_IO ? 0 : rc;     /* told already */
            continue;
        }
        if (all->cap - all->n < t->n) {
            size_t cap = 2 * (all->cap + t->n);
            struct pack_chunk *bigger = realloc(all->v, cap * sizeof *bigger);

            if (bigger == NULL) {
                packs_put(c->ps, t);
                return err_set(&c->e, ERR_NOMEM, "%s: out of memory", c->p->name);
            }
            all->v = bigger;
            all->cap = cap;
        }
        memcpy(all->v + all->n, t->u.chunk, t->n * sizeof *all->v);
        all->n += t->n;
        packs_put(c->ps, t);
    }
    if (all->n > 1)
        qsort(all->v, all->n, sizeof *all->v, by_place);
    return rc;
}

/* The chunks v[0..n) of one frame. */
static int check_frame(struct check *c, const struct pack_chunk *v, size_t n)
{
    struct chunk_place pl;
    struct cached *bytes = NULL;
    int rc = told(c, packs_place(c->ps, c->p, v[0].number, false, &pl, &c->e));

    if (rc || pl.frame == NULL)
        return rc;
    if (pl.frame->kind == PACK_DELTA && n != 1)
        rc = told(c, packs_bad(&c->e, c->p, pl.frame->at, "frame %" PRIu32 ": expected one chunk, found %zu", v[0].frame, n));
    if (rc == 0)
        rc = told(c, packs_expand(c->ps, c->p, pl.frame, false, &bytes, &c->e));
    for (size_t i = 0; rc == 0 && i < n; i++) {
        if (v[i].off > pl.frame->expanded || v[i].len > pl.frame->expanded - v[i].off)
            rc = told(c, packs_bad(&c->e, c->p, pl.frame->at, "frame %" PRIu32 ": chunk %" PRIu64 " ends behind it", v[i].frame, v[i].number));
        else if (bytes)
            rc = told(c, packs_verify(c->ps, c->p, pl.frame, &v[i], bytes->u.bytes, &c->e));
        if (rc == 0 && i > 0 && v[i].off < v[i - 1].off + v[i - 1].len)
            rc = told(c, packs_bad(&c->e, c->p, pl.frame->at, "frame %" PRIu32 ": chunks %" PRIu64 " and %" PRIu64 " overlap", v[i].frame,
                                   v[i - 1].number, v[i].number));
    }
    packs_put(c->ps, bytes);
    packs_place_end(c->ps, &pl);
    return rc;
}

static int check_chunks(struct check *c, const struct cached *dir)
{
    struct chunks all = { 0 };
    int rc = gather(c, dir, &all);

    for (size_t i = 0, to; rc == 0 && i < all.n; i = to) {
        for (to = i + 1; to < all.n && all.v[to].frame == all.v[i].frame; to++)
            ;
        rc = check_frame(c, all.v + i, to - i);
    }
    free(all.v);
    return rc;
}

/* ---- addresses ---- */

static int check_addr(struct check *c, const struct cached *t, const struct pack_addr *a)
{
    struct chunk_place pl;
    int rc = packs_place(c->ps, c->p, a->chunk, false, &pl, &c->e);

    if (rc == ERR_NOENT)
        return told(c, packs_bad(&c->e, c->p, t->at, "block of addresses: the data of the record at address %" PRIu64 " are in chunk %" PRIu64
                                 ", which is nowhere", a->lsn, a->chunk));
    if (rc)
        return told(c, rc);
    if (a->chunk_off > pl.chunk->len || a->len > pl.chunk->len - a->chunk_off)
        rc = told(c, packs_bad(&c->e, c->p, t->at, "block of addresses: the data of the record at address %" PRIu64 " lie at %" PRIu32 " + %" PRIu32
                               " of chunk %" PRIu64 ", which has %" PRIu32 " bytes", a->lsn, a->chunk_off, a->len, a->chunk, pl.chunk->len));
    packs_place_end(c->ps, &pl);
    return rc;
}

static int check_addrs(struct check *c, const struct cached *dir)
{
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < dir->n; i++) {
        struct cached *t;

        if (dir->u.dir[i].kind != PACK_ADDRESSES)
            continue;
        rc = packs_block(c->ps, c->p, dir->u.dir, i, false, &t, &c->e);
        if (rc) {
            rc = rc == ERR_DAMAGE || rc == ERR_IO ? 0 : rc;     /* told already */
            continue;
        }
        for (uint32_t k = 0; rc == 0 && k < t->n; k++)
            rc = check_addr(c, t, &t->u.addr[k]);
        packs_put(c->ps, t);
    }
    return rc;
}

/* ---- the file ---- */

static int check_hash(struct check *c, uint64_t size)
{
    uint64_t end = size < sizeof(struct hash128) ? 0 : size - sizeof(struct hash128);
    uint8_t *buf = malloc(PIECE);
    struct hash128_state s;
    struct hash128 sum, want;
    int rc = buf ? 0 : err_set(&c->e, ERR_NOMEM, "%s: out of memory", c->p->name);

    hash128_init(&s);
    for (uint64_t at = 0; rc == 0 && at < end; at += PIECE) {
        size_t n = end - at < PIECE ? (size_t)(end - at) : PIECE;

        rc = packs_bytes(c->ps, c->p, "bytes", buf, n, at, false, &c->e);
        if (rc == 0)
            hash128_update(&s, buf, n);
    }
    if (rc == 0)
        rc = packs_bytes(c->ps, c->p, "hash of the file", want.b, sizeof want.b, end, false, &c->e);
    free(buf);
    if (rc)
        return told(c, rc);
    sum = hash128_final(&s);
    if (hash128_eq(&sum, &want))
        return 0;
    return told(c, packs_bad(&c->e, c->p, end, "hash of the file: expected %016" PRIx64 "..., found %016" PRIx64 "...", get_be64(want.b),
                             get_be64(sum.b)));
}

/* What the head leads to. */
static int check_inside(struct check *c)
{
    struct cached *dir = NULL;
    int rc = check_tables(c, c->p->h.tables_at);

    if (rc == 0)
        rc = check_tables(c, c->p->h.tables2_at);
    if (rc == 0)
        rc = packs_dir(c->ps, c->p, false, &dir, &c->e);
    if (rc)
        return rc == ERR_DAMAGE || rc == ERR_IO ? 0 : rc;       /* told already */
    if (!c->shape)
        rc = check_chunks(c, dir);
    if (rc == 0 && !c->shape)
        rc = check_addrs(c, dir);
    packs_put(c->ps, dir);
    return rc;
}

static int64_t check_pack(struct packs *ps, uint64_t gen, bool shape, void (*bad)(void *arg, const struct err *e), void *arg, struct err *err)
{
    struct check c = { .ps = ps, .p = packs_held(ps, gen), .shape = shape, .bad = bad, .arg = arg };
    uint64_t size = 0;
    bool good;
    int rc;

    if (c.p == NULL)
        return err_set(err, ERR_NOENT, "packs: none has generation %" PRIu64, gen);
    rc = packs_size(ps, c.p, false, &size, &c.e);
    if (rc == 0) {
        int head = packs_load_head(ps, c.p, false, NULL);

        good = head == 0;
        rc = head == ERR_NOMEM ? err_set(&c.e, head, "%s: out of memory", c.p->name) : check_heads(&c, size, good);
        if (rc == 0 && good)
            rc = check_inside(&c);
        if (rc == 0)
            rc = check_hash(&c, size);
    } else {
        rc = told(&c, rc);
    }
    packs_release(ps, c.p);
    if (rc)
        return err_set(err, rc, "%s", c.e.msg);
    return c.n;
}

int64_t packs_check(struct packs *ps, uint64_t gen, void (*bad)(void *arg, const struct err *e), void *arg, struct err *err)
{
    return check_pack(ps, gen, false, bad, arg, err);
}

int64_t packs_check_shape(struct packs *ps, uint64_t gen, void (*bad)(void *arg, const struct err *e), void *arg, struct err *err)
{
    return check_pack(ps, gen, true, bad, arg, err);
}
