/* packs_supplement.c: see packs_supplement.h. */
#include "store/pack/packs_supplement.h"

#include "store/pack/packs_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { LEVEL = 3 };

static int nomem(struct err *err)
{
    return err_set(err, ERR_NOMEM, "packs: out of memory");
}

/* ---- what is lacking ---- */

int packs_lacking(struct packs *ps, uint64_t lsn, uint32_t doff, uint32_t len, int (*fn)(void *arg, uint32_t doff, uint32_t len), void *arg, struct err *err)
{
    uint64_t until, pos = doff, end = pos + len;
    struct cached *dir = NULL, *table = NULL;
    struct pack *p;
    uint32_t i;
    int rc = packs_find(ps, lsn, false, &p, &until, err);

    if (rc == 0 && p != NULL)
        rc = packs_dir(ps, p, false, &dir, err);
    if (rc == 0 && dir != NULL && (i = packs_seek(dir, PACK_ADDRESSES, lsn)) != UINT32_MAX)
        rc = packs_block(ps, p, dir->u.dir, i, false, &table, err);
    for (i = table != NULL ? packs_seek_addr(table, lsn) : 0; rc == 0 && table != NULL && pos < end && i < table->n && table->u.addr[i].lsn == lsn; i++) {
        const struct pack_addr *a = &table->u.addr[i];
        uint64_t stop = (uint64_t)a->doff + a->len;

        if (stop <= pos)
            continue;
        if (a->doff > pos)
            rc = fn(arg, (uint32_t)pos, (uint32_t)((a->doff < end ? a->doff : end) - pos));
        pos = stop;
    }
    if (rc == 0 && pos < end)
        rc = fn(arg, (uint32_t)pos, (uint32_t)(end - pos));
    packs_put(ps, table);
    packs_put(ps, dir);
    packs_release(ps, p);
    return rc;
}

/* ---- what is lost ---- */

/* A place of a table, or of a file, that the disk gives and that is not right; what it does not give may be there at the next try. */
static bool is_lost(int rc)
{
    return rc == ERR_DAMAGE || rc == ERR_NOENT;
}

static bool leads_nowhere(struct packs *ps, struct pack *p, const struct pack_addr *a, int *rc)
{
    struct chunk_place pl;
    bool lost;

    *rc = packs_place(ps, p, a->chunk, false, &pl, NULL);
    if (*rc != 0) {
        lost = is_lost(*rc);
        *rc = lost ? 0 : *rc;
        return lost;
    }
    lost = a->chunk_off > pl.chunk->len || a->len > pl.chunk->len - a->chunk_off;
    packs_place_end(ps, &pl);
    return lost;
}

int packs_holes(struct packs *ps, uint64_t lsn, uint32_t doff, uint32_t len, int (*fn)(void *arg, uint32_t doff, uint32_t len), void *arg, struct err *err)
{
    uint64_t until, pos = doff, end = pos + len;
    struct cached *dir = NULL, *table = NULL;
    struct pack *p = NULL;
    uint32_t i;
    int rc = packs_find(ps, lsn, false, &p, &until, NULL);

    if (rc == 0 && p != NULL)
        rc = packs_dir(ps, p, false, &dir, NULL);
    if (rc == 0 && dir != NULL && (i = packs_seek(dir, PACK_ADDRESSES, lsn)) != UINT32_MAX)
        rc = packs_block(ps, p, dir->u.dir, i, false, &table, NULL);
    rc = is_lost(rc) || rc == ERR_IO ? 0 : rc;       /* (a sector that the disk does not give is lost here as everywhere, but for who would write anew what it is in) */
    for (i = table != NULL ? packs_seek_addr(table, lsn) : 0; rc == 0 && table != NULL && pos < end && i < table->n && table->u.addr[i].lsn == lsn; i++) {
        const struct pack_addr *a = &table->u.addr[i];
        uint64_t stop = (uint64_t)a->doff + a->len;

        if (stop <= pos || a->doff >= end)
            continue;
        if (leads_nowhere(ps, p, a, &rc) || rc == ERR_IO) {
            rc = 0;
            continue;
        }
        if (rc == 0 && a->doff > pos)
            rc = fn(arg, (uint32_t)pos, (uint32_t)(a->doff - pos));
        pos = stop;
    }
    if (rc == 0 && pos < end)
        rc = fn(arg, (uint32_t)pos, (uint32_t)(end - pos));
    packs_put(ps, table);
    packs_put(ps, dir);
    packs_release(ps, p);
    return rc < 0 && err != NULL && err->code == 0 ? err_set(err, rc, "packs: the data of @%" PRIu64 " cannot be looked up: %s", lsn, err_text(rc)) : rc;
}

/* Where the addresses around ${addr} begin that are ${p}'s: a newer one may have others of those that its name says. */
static int begins_to_count(struct packs *ps, const struct pack *p, uint64_t addr, uint64_t *first, struct err *err)
{
    uint64_t until;
    int rc = 0;

    for (uint64_t at = p->first; rc == 0 && at <= addr; at = until) {
        struct pack *q = NULL;

        *first = at;
        rc = packs_find_named(ps, at, &q, &until, err);
        packs_release(ps, q);
    }
    return rc;
}

int packs_sound(struct packs *ps, uint64_t addr, struct packs_state *out, struct err *err)
{
    struct cached *dir = NULL, *t = NULL;
    struct pack *p = NULL;
    int rc = packs_find_named(ps, addr, &p, &out->end, err);

    out->first = addr;
    out->gone = p == NULL;
    out->some = false;
    if (rc < 0 || p == NULL)
        return rc;
    rc = begins_to_count(ps, p, addr, &out->first, err);
    if (rc < 0) {
        packs_release(ps, p);
        return rc;
    }
    rc = packs_load_head(ps, p, false, NULL);
    if (rc == 0)
        rc = packs_dir(ps, p, false, &dir, NULL);
    out->some = rc == 0;
    for (uint32_t i = 0; rc == 0 && i < dir->n; i++) {
        if (dir->u.dir[i].kind < PACK_FRAMES || dir->u.dir[i].kind > PACK_ADDRESSES)
            continue;
        rc = packs_block(ps, p, dir->u.dir, i, false, &t, NULL);
        if (rc == 0)
            packs_put(ps, t);
    }
    packs_put(ps, dir);
    packs_release(ps, p);
    return rc == 0 ? 1 : is_lost(rc) ? 0 : err_set(err, rc, "packs: the tables of the pack that has @%" PRIu64 " cannot be looked at: %s", addr, err_text(rc));
}

/* ---- the pack as it is ---- */

struct supplement {
    struct packs *ps;
    struct pack *p;
    struct pack_writer *w;
    const struct packs_healed *healed;
    size_t n_healed;
    struct pack_chunk *chunk;            /* of one frame */
    uint8_t *bytes;                      /* PACK_STORED_MAX */
    bool salvage;                        /* what cannot be read is left out */
    struct err *err;
};

static int by_place(const void *x, const void *y)
{
    const struct pack_chunk *a = x, *b = y;

    if (a->frame != b->frame)
        return a->frame < b->frame ? -1 : 1;
    return (a->off > b->off) - (a->off < b->off);
}

/* All entries of one kind of its tables. */
static int gather(struct supplement *u, enum pack_block_kind kind, int (*each)(struct supplement *u, void *arg, const struct cached *t), void *arg)
{
    struct cached *dir = NULL, *t;
    int rc = packs_dir(u->ps, u->p, false, &dir, u->err);

    for (uint32_t i = 0; rc == 0 && i < dir->n; i++) {
        if (dir->u.dir[i].kind != (uint32_t)kind)
            continue;
        rc = packs_block(u->ps, u->p, dir->u.dir, i, false, &t, u->salvage ? NULL : u->err);
        if (u->salvage && is_lost(rc)) {
            rc = 0;
            continue;
        }
        if (rc == 0) {
            rc = each(u, arg, t);
            packs_put(u->ps, t);
        }
    }
    packs_put(u->ps, dir);
    return rc;
}

struct chunks { struct pack_chunk *v; size_t n, cap; };

static int keep_chunks(struct supplement *u, void *arg, const struct cached *t)
{
    struct chunks *c = arg;

    if (c->n + t->n > c->cap) {
        size_t cap = 2 * (c->n + t->n);
        struct pack_chunk *v = realloc(c->v, cap * sizeof *v);

        if (v == NULL)
            return nomem(u->err);
        c->v = v;
        c->cap = cap;
    }
    memcpy(c->v + c->n, t->u.chunk, t->n * sizeof *c->v);
    c->n += t->n;
    return 0;
}

static int copy_entries(struct supplement *u, void *arg, const struct cached *t)
{
    int rc = 0;

    (void)arg;
    for (uint32_t i = 0; rc == 0 && i < t->n; i++)
        if (!u->salvage || !leads_nowhere(u->ps, u->p, &t->u.addr[i], &rc))
            rc = rc < 0 ? rc : pack_put_addr(u->w, &t->u.addr[i], u->err);
    return rc;
}

static const struct packs_healed *healed_of(const struct supplement *u, const struct pack_chunk *c)
{
    for (size_t i = 0; i < u->n_healed; i++)
        if (u->healed[i].number == c->number)
            return &u->healed[i];
    return NULL;
}

/* A frame with healed chunks in it, made anew if all the others are whole: 1; 0 it is not to be. */
static int renew_frame(struct supplement *u, const struct chunk_place *pl, const struct pack_chunk *v, uint32_t n)
{
    struct cached *bytes = NULL;
    uint32_t at = 0;
    bool any = false, whole = true;
    int rc;

    for (uint32_t i = 0; i < n; i++)
        any |= healed_of(u, &v[i]) != NULL;
    if (!any)
        return 0;
    rc = packs_expand(u->ps, pl->pack, pl->frame, false, &bytes, NULL);
    if (rc == ERR_NOMEM)
        return nomem(u->err);
    for (uint32_t i = 0; whole && i < n; i++) {
        const struct packs_healed *h = healed_of(u, &v[i]);
        bool here = h == NULL && bytes != NULL && v[i].off <= pl->frame->expanded && v[i].len <= pl->frame->expanded - v[i].off &&
                    packs_verify(u->ps, pl->pack, pl->frame, &v[i], bytes->u.bytes, NULL) == 0;

        whole = (h != NULL || here) && v[i].len <= PACK_FRAME_MAX - at;
        if (!whole)
            break;
        memcpy(u->bytes + at, h != NULL ? h->bytes : bytes->u.bytes + v[i].off, v[i].len);
        u->chunk[i] = v[i];
        at += v[i].len;
    }
    packs_put(u->ps, bytes);
    if (!whole)
        return 0;
    rc = pack_put_frame(u->w, PACK_ZSTD, LEVEL, u->chunk, n, u->bytes, NULL, NULL, u->err);
    return rc < 0 ? rc : 1;
}

/* Others of it are damaged, too, or all that zstd expands it to: what is healed goes into frames of its own, what is left (to u->chunk) stays as it lies, for who has it. */
static int take_out(struct supplement *u, const struct pack_chunk *v, uint32_t n, uint32_t *left)
{
    int rc = 0;

    *left = 0;
    for (uint32_t i = 0; rc == 0 && i < n; i++) {
        const struct packs_healed *h = healed_of(u, &v[i]);
        struct pack_chunk c = v[i];

        if (h == NULL)
            u->chunk[(*left)++] = c;
        else
            rc = pack_put_frame(u->w, PACK_ZSTD, LEVEL, &c, 1, h->bytes, NULL, NULL, u->err);
    }
    return rc;
}

static int copy_frame(struct supplement *u, const struct pack_chunk *v, uint32_t n)
{
    struct chunk_place pl;
    uint32_t left = 0;
    int rc = packs_place(u->ps, u->p, v[0].number, false, &pl, u->salvage ? NULL : u->err);

    if (rc)
        return u->salvage && is_lost(rc) ? 0 : rc;
    rc = renew_frame(u, &pl, v, n);
    if (rc == 0)
        rc = take_out(u, v, n, &left);
    if (rc == 0 && left > 0)
        rc = packs_bytes(u->ps, pl.pack, "frame", u->bytes, pl.frame->stored, pl.frame->at, false, u->err);
    if (rc == 0 && left > 0)
        rc = pack_put_stored(u->w, pl.frame, u->chunk, left, u->bytes, u->err);
    packs_place_end(u->ps, &pl);
    return rc < 0 ? rc : 0;
}

static int copy_frames(struct supplement *u)
{
    struct chunks c = { 0 };
    int rc = gather(u, PACK_CHUNKS, keep_chunks, &c);

    if (rc == 0 && c.n > 1)
        qsort(c.v, c.n, sizeof *c.v, by_place);
    for (size_t i = 0, to; rc == 0 && i < c.n; i = to) {
        for (to = i + 1; to < c.n && c.v[to].frame == c.v[i].frame; to++)
            ;
        rc = to - i > PACK_ENTRIES_MAX ? packs_bad(u->err, u->p, 0, "frame %" PRIu32 " has %zu chunks", c.v[i].frame, to - i)
           : copy_frame(u, c.v + i, (uint32_t)(to - i));
    }
    free(c.v);
    return rc;
}

/* ---- what lies in a chunk ---- */

struct parts { uint64_t chunk; struct packs_part *v; size_t n, cap; };

static int keep_parts(struct supplement *u, void *arg, const struct cached *t)
{
    struct parts *p = arg;

    for (uint32_t i = 0; i < t->n; i++) {
        const struct pack_addr *a = &t->u.addr[i];

        if (a->chunk != p->chunk)
            continue;
        if (p->n == p->cap) {
            size_t cap = p->cap > 0 ? 2 * p->cap : 32;
            struct packs_part *v = realloc(p->v, cap * sizeof *v);

            if (v == NULL)
                return nomem(u->err);
            p->v = v;
            p->cap = cap;
        }
        p->v[p->n++] = (struct packs_part){ a->lsn, a->doff, a->len, a->chunk_off };
    }
    return 0;
}

struct looked { uint64_t lsn, chunk; uint32_t doff; };

static int find_entry(struct supplement *u, void *arg, const struct cached *t)
{
    struct looked *l = arg;

    (void)u;
    for (uint32_t i = packs_seek_addr(t, l->lsn); l->chunk == 0 && i < t->n && t->u.addr[i].lsn == l->lsn; i++)
        if (t->u.addr[i].doff <= l->doff && l->doff - t->u.addr[i].doff < t->u.addr[i].len)
            l->chunk = t->u.addr[i].chunk;
    return 0;
}

int packs_chunk_parts(struct packs *ps, uint64_t lsn, uint32_t doff, uint64_t *number, uint32_t *len, struct packs_part **out, size_t *n, struct err *err)
{
    struct supplement u = { .ps = ps, .err = err };
    struct looked l = { .lsn = lsn, .doff = doff };
    struct parts p = { 0 };
    struct chunk_place pl;
    struct pack *first = NULL;
    uint64_t until;
    int rc = packs_find(ps, lsn, false, &u.p, &until, err);

    first = u.p;
    if (rc == 0 && u.p != NULL)
        rc = gather(&u, PACK_ADDRESSES, find_entry, &l);
    if (rc == 0 && l.chunk == 0)
        rc = err_set(err, ERR_NOENT, "packs: byte %" PRIu32 " of the data of @%" PRIu64 " is in no pack", doff, lsn);
    if (rc == 0)
        rc = packs_place(ps, u.p, l.chunk, false, &pl, err);
    if (rc == 0) {
        *number = p.chunk = l.chunk;
        *len = pl.chunk->len;
        rc = gather(&u, PACK_ADDRESSES, keep_parts, &p);
        if (rc == 0 && pl.pack != first) {      /* an older pack has it, and names it, too */
            u.p = pl.pack;
            rc = gather(&u, PACK_ADDRESSES, keep_parts, &p);
        }
        packs_place_end(ps, &pl);
    }
    packs_release(ps, first);
    if (rc < 0) {
        free(p.v);
        return rc;
    }
    *out = p.v;
    *n = p.n;
    return 0;
}

/* ---- what is new ---- */

static int check_healed(struct supplement *u)
{
    struct chunk_place pl;
    struct hash128 sum;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < u->n_healed; i++) {
        const struct packs_healed *h = &u->healed[i];

        rc = packs_place(u->ps, u->p, h->number, false, &pl, u->err);
        if (rc)
            break;
        sum = pack_hash(u->ps->key, h->bytes, h->len);
        if (pl.pack != u->p || h->len != pl.chunk->len || !hash128_eq(&sum, &pl.chunk->hash))
            rc = packs_bad(u->err, u->p, 0, "chunk %" PRIu64 ": what shall take its place is not what its hash says", h->number);
        packs_place_end(u->ps, &pl);
    }
    return rc;
}

/* The length of the chunk of this number that the pack has already; 0: none. It was kept for other bytes of it. */
static int same_number(struct supplement *u, uint64_t number, uint32_t *len)
{
    struct chunk_place pl;
    int rc = packs_place(u->ps, u->p, number, false, &pl, NULL);

    *len = 0;
    if (rc == ERR_NOENT || (u->salvage && is_lost(rc)))      /* (of a table that is not taken over) */
        return 0;
    if (rc)
        return err_set(u->err, rc, "packs: chunk %" PRIu64 " of %s cannot be looked up", number, u->p->name);
    if (pl.pack == u->p)
        *len = pl.chunk->len;
    packs_place_end(u->ps, &pl);
    return 0;
}

static int put_piece(struct supplement *u, const struct packs_piece *k)
{
    struct pack_chunk c = { .number = k->lsn + k->dstart + k->doff, .len = k->len };
    struct pack_addr a = { .lsn = k->lsn, .chunk = c.number, .ino = k->ino, .off = k->off, .doff = k->doff, .len = k->len };
    struct packs_piece rest = *k;
    uint32_t there;
    int rc;

    if (k->len == 0 || k->len > PACK_CHUNK_MAX || k->lsn < u->p->first || k->lsn >= u->p->cut)
        return err_set(u->err, ERR_INVAL, "packs: %" PRIu32 " bytes of @%" PRIu64 " do not belong into %s", k->len, k->lsn, u->p->name);
    rc = same_number(u, c.number, &there);
    if (rc == 0 && there > 0) {          /* a number names the same bytes for ever */
        a.len = there < k->len ? there : k->len;
        rc = pack_put_addr(u->w, &a, u->err);
        rest.doff += a.len;
        rest.len -= a.len;
        rest.off += a.len;
        rest.bytes += a.len;
        return rc < 0 || rest.len == 0 ? rc : put_piece(u, &rest);
    }
    if (rc)
        return rc;
    c.hash = pack_hash(u->ps->key, k->bytes, k->len);
    rc = pack_put_frame(u->w, PACK_ZSTD, LEVEL, &c, 1, k->bytes, NULL, NULL, u->err);
    return rc < 0 ? rc : pack_put_addr(u->w, &a, u->err);
}

static void retire(struct packs *ps, struct pack *p)
{
    char name[PACK_NAME_MAX];

    memcpy(name, p->name, sizeof name);
    packs_forget(ps, p->gen);
    (void)io_unlink(ps->io, name, NULL);     /* else packs_tidy finds it */
}

static int64_t supplement(struct packs *ps, uint64_t addr, const struct pack_head *h, const struct packs_piece *piece, size_t n, const struct packs_healed *healed,
                          size_t n_healed, bool salvage, struct pack_head *made, struct err *err)
{
    struct supplement u = { .ps = ps, .healed = healed, .n_healed = n_healed, .salvage = salvage, .err = err };
    struct pack_head head = *h, own;
    uint8_t epoch[16];
    uint64_t until;
    size_t took = 0;
    int rc = packs_find(ps, addr, false, &u.p, &until, err);

    if (rc == 0 && u.p == NULL)
        return err_set(err, ERR_NOENT, "packs: address %" PRIu64 " is in no pack", addr);
    if (rc)
        return rc;
    head.first = u.p->first;
    head.end = u.p->end;
    memcpy(epoch, u.p->h.epoch_id, sizeof epoch);
    u.chunk = malloc(PACK_ENTRIES_MAX * sizeof *u.chunk);
    u.bytes = malloc(PACK_STORED_MAX);
    rc = u.chunk != NULL && u.bytes != NULL ? check_healed(&u) : nomem(err);
    if (rc == 0)
        rc = pack_new(ps->io, &head, &u.w, err);
    if (rc == 0)
        rc = copy_frames(&u);
    if (rc == 0)
        rc = gather(&u, PACK_ADDRESSES, copy_entries, NULL);
    for (; rc == 0 && took < n && piece[took].lsn < until; took++)
        rc = put_piece(&u, &piece[took]);
    if (rc == 0)
        rc = pack_finish(u.w, epoch, &own, err);
    else
        pack_drop(u.w);
    if (rc == 0)
        rc = packs_added(ps, &own, err);
    if (rc == 0)
        retire(ps, u.p);
    if (rc == 0 && made != NULL)
        *made = own;
    packs_release(ps, u.p);
    free(u.chunk);
    free(u.bytes);
    return rc < 0 ? rc : (int64_t)took;
}

int64_t packs_supplement(struct packs *ps, uint64_t addr, const struct pack_head *h, const struct packs_piece *piece, size_t n, const struct packs_healed *healed,
                     size_t n_healed, struct pack_head *made, struct err *err)
{
    return supplement(ps, addr, h, piece, n, healed, n_healed, false, made, err);
}

int64_t packs_salvage(struct packs *ps, uint64_t addr, const struct pack_head *h, const struct packs_piece *piece, size_t n, struct err *err)
{
    return supplement(ps, addr, h, piece, n, NULL, 0, true, NULL, err);
}

int packs_blank(struct packs *ps, const struct pack_head *h, const uint8_t epoch_id[16], struct err *err)
{
    struct pack_writer *w = NULL;
    struct pack_head own;
    int rc = pack_new(ps->io, h, &w, err);

    if (rc == 0)
        rc = pack_finish(w, epoch_id, &own, err);
    return rc == 0 ? packs_added(ps, &own, err) : rc;
}
