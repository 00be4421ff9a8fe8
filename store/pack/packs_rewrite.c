/*
 * packs_rewrite.c: packs made anew with what is needed of them. A frame all of whose chunks are needed is taken over as it is; of another one what is
 * needed is compressed again. Differences stay what they are, and so does how deep they lie.
 */
#include "store/pack/packs_mark_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { LEVEL = 3 };

struct rewrite {
    struct packs_mark *m;
    struct pack_writer *w;
    int (*stop)(void *arg);
    void *arg;
    struct pack_chunk *chunk;            /* of one pack, by where they lie; those that are not needed have length 0 in ${need} */
    uint8_t *need;
    size_t n;
    uint8_t *bytes;                      /* PACK_STORED_MAX */
    struct err *err;
};

static int nomem(struct err *err)
{
    return err_set(err, ERR_NOMEM, "packs: out of memory");
}

struct placed { struct pack_chunk c; uint8_t need; };

static int by_place(const void *x, const void *y)
{
    const struct pack_chunk *a = &((const struct placed *)x)->c, *b = &((const struct placed *)y)->c;

    if (a->frame != b->frame)
        return a->frame < b->frame ? -1 : 1;
    return (a->off > b->off) - (a->off < b->off);
}

/* All chunks of the pack, by where they lie, and which of them are needed. */
static int gather(struct rewrite *r, const struct marked *k, struct placed **out, struct err *err)
{
    struct packs *ps = r->m->ps;
    struct placed *v = malloc(((size_t)k->chunks.total + 1) * sizeof *v);
    struct cached *dir = NULL, *t;
    uint32_t n = 0;
    int rc = v ? packs_dir(ps, k->pack, false, &dir, err) : nomem(err);

    for (uint32_t i = 0; rc == 0 && i < dir->n; i++) {
        if (dir->u.dir[i].kind != PACK_CHUNKS)
            continue;
        rc = packs_block(ps, k->pack, dir->u.dir, i, false, &t, err);
        for (uint32_t c = 0; rc == 0 && c < t->n; c++, n++)
            v[n] = (struct placed){ t->u.chunk[c], packs_bit(k->chunks.bits, n) };
        if (rc == 0)
            packs_put(ps, t);
    }
    packs_put(ps, dir);
    if (rc) {
        free(v);
        return rc;
    }
    if (n > 1)
        qsort(v, n, sizeof *v, by_place);
    *out = v;
    return 0;
}

/* One frame: chunks v[0..n). Every one that is needed is verified. */
static int copy_frame(struct rewrite *r, const struct marked *k, const struct placed *v, size_t n)
{
    struct packs *ps = r->m->ps;
    struct chunk_place pl;
    struct cached *bytes = NULL;
    size_t need = 0;
    uint64_t len = 0;
    int rc;

    for (size_t i = 0; i < n; i++)
        need += v[i].need;
    if (need == 0)
        return 0;
    rc = packs_place(ps, k->pack, v[0].c.number, false, &pl, r->err);
    if (rc)
        return rc;
    rc = packs_expand(ps, pl.pack, pl.frame, false, &bytes, r->err);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const struct pack_chunk *c = &v[i].c;

        if (c->off > pl.frame->expanded || c->len > pl.frame->expanded - c->off)
            rc = packs_bad(r->err, k->pack, pl.frame->at, "frame %" PRIu32 ": chunk %" PRIu64 " ends behind it", c->frame, c->number);
        else if (v[i].need)
            rc = packs_verify(ps, pl.pack, pl.frame, c, bytes->u.bytes, r->err);
        len += c->len;
        if (v[i].need)
            r->chunk[r->n++] = *c;
    }
    if (rc == 0 && need == n && len == pl.frame->expanded) {
        rc = packs_bytes(ps, pl.pack, "frame", r->bytes, pl.frame->stored, pl.frame->at, false, r->err);
        if (rc == 0)
            rc = pack_put_stored(r->w, pl.frame, r->chunk, (uint32_t)r->n, r->bytes, r->err);
    } else if (rc == 0) {
        uint32_t at = 0;

        for (size_t i = 0; rc == 0 && i < r->n; i++) {
            if (r->chunk[i].len > PACK_FRAME_MAX - at) {
                rc = packs_bad(r->err, k->pack, pl.frame->at, "frame %" PRIu32 ": its chunks lie over one another", r->chunk[i].frame);
                break;
            }
            memcpy(r->bytes + at, bytes->u.bytes + r->chunk[i].off, r->chunk[i].len);
            at += r->chunk[i].len;
        }
        if (rc == 0)
            rc = pack_put_frame(r->w, pl.frame->kind == PACK_RAW ? PACK_RAW : PACK_ZSTD, LEVEL, r->chunk, (uint32_t)r->n, r->bytes, NULL, NULL, r->err);
    }
    r->n = 0;
    packs_put(ps, bytes);
    packs_place_end(ps, &pl);
    return rc;
}

static int copy_chunks(struct rewrite *r, const struct marked *k)
{
    struct placed *v = NULL;
    int rc = gather(r, k, &v, r->err);

    for (size_t i = 0, to; rc == 0 && i < k->chunks.total; i = to) {
        for (to = i + 1; to < k->chunks.total && v[to].c.frame == v[i].c.frame; to++)
            ;
        if (to - i > PACK_ENTRIES_MAX)
            rc = packs_bad(r->err, k->pack, 0, "frame %" PRIu32 " has %zu chunks", v[i].c.frame, to - i);
        else if (r->stop && r->stop(r->arg))
            rc = err_set(r->err, ERR_BUSY, "packs: told to stop");
        else
            rc = copy_frame(r, k, v + i, to - i);
    }
    free(v);
    return rc;
}

static int copy_entries(struct rewrite *r, const struct marked *k)
{
    struct packs *ps = r->m->ps;
    struct cached *dir, *t;
    uint32_t n = 0;
    int rc = packs_dir(ps, k->pack, false, &dir, r->err);

    if (rc)
        return rc;
    for (uint32_t i = 0; rc == 0 && i < dir->n; i++) {
        if (dir->u.dir[i].kind != PACK_ADDRESSES)
            continue;
        rc = packs_block(ps, k->pack, dir->u.dir, i, false, &t, r->err);
        for (uint32_t a = 0; rc == 0 && a < t->n; a++, n++)
            if (packs_bit(k->addrs.bits, n))
                rc = pack_put_addr(r->w, &t->u.addr[a], r->err);
        if (t)
            packs_put(ps, t);
    }
    packs_put(ps, dir);
    return rc;
}

/* No address is asked of it any more. Who reads in it goes on: its file is open, and stays so until he is done. */
static int retire(struct packs *ps, uint64_t gen, struct err *err)
{
    struct pack *p = packs_held(ps, gen);
    char name[PACK_NAME_MAX];
    uint64_t size;
    int rc;

    if (p == NULL)
        return 0;
    memcpy(name, p->name, sizeof name);
    (void)packs_size(ps, p, false, &size, NULL);
    packs_forget(ps, gen);
    packs_release(ps, p);
    rc = io_unlink(ps->io, name, err);
    return rc == ERR_NOENT ? 0 : rc;
}

int packs_rewrite(struct packs_mark *m, size_t i, size_t n, const struct pack_head *h, int (*stop)(void *arg), void *arg, struct pack_head *made,
                  struct err *err)
{
    struct rewrite r = { .m = m, .stop = stop, .arg = arg, .err = err };
    struct pack_head head = *h;
    struct pack *last = m->v[i + n - 1].pack;
    uint8_t epoch[16];
    int rc = packs_mark_newer(m, err);

    for (size_t k = i; rc == 0 && k < i + n; k++)
        if (m->v[k].pack->dead)
            rc = err_set(err, ERR_BUSY, "packs: made anew by another in between");
    if (rc)
        return rc;
    head.first = m->v[i].use.first;
    head.end = m->v[i + n - 1].use.end;
    memcpy(epoch, last->h.epoch_id, sizeof epoch);
    r.chunk = malloc(PACK_ENTRIES_MAX * sizeof *r.chunk);
    r.bytes = malloc(PACK_STORED_MAX);
    rc = r.chunk && r.bytes ? pack_new(m->ps->io, &head, &r.w, err) : nomem(err);
    for (size_t k = i; rc == 0 && k < i + n; k++) {
        rc = copy_chunks(&r, &m->v[k]);
        if (rc == 0)
            rc = copy_entries(&r, &m->v[k]);
    }
    free(r.chunk);
    free(r.bytes);
    if (rc) {
        pack_drop(r.w);
        return rc;
    }
    rc = pack_finish(r.w, epoch, made, err);
    if (rc == 0)
        rc = packs_added(m->ps, made, err);
    if (rc)
        return rc;
    if (made->gen > m->seen_gen)
        m->seen_gen = made->gen;         /* what it names was marked */
    for (size_t k = i; k < i + n; k++) {
        int gone = retire(m->ps, m->v[k].use.gen, err);

        m->v[k].use.fixed = true;
        rc = rc ? rc : gone;
    }
    return rc;
}

/* ---- files that were left ---- */

/* Whether a pack names data: 1, 0; < 0 its tables cannot be read. */
static int names_any(struct packs *ps, struct pack *p)
{
    struct cached *dir = NULL;
    int rc = packs_dir(ps, p, false, &dir, NULL), any = 0;

    for (uint32_t i = 0; rc == 0 && i < dir->n; i++)
        any |= dir->u.dir[i].kind == PACK_ADDRESSES && dir->u.dir[i].entries > 0;
    packs_put(ps, dir);
    return rc < 0 ? rc : any;
}

/* Whether every address of ${p} is of another pack, which can be read. One without data took the place of what could not be read (holes.c), and perhaps not of this one. */
static int superseded(struct packs *ps, struct pack *p, bool *yes, struct err *err)
{
    uint64_t until = 0;
    int rc = 0, any = names_any(ps, p);      /* (of one whose tables are damaged: nothing that anybody could read) */

    *yes = any >= 0 || any == ERR_DAMAGE || any == ERR_NOENT;
    for (uint64_t at = p->first; rc == 0 && *yes && at < p->end; at = until) {
        struct pack *q = NULL;

        rc = packs_find(ps, at, false, &q, &until, err);
        *yes = rc == 0 && q != NULL && q != p && names_any(ps, q) >= (any > 0);
        packs_release(ps, q);
    }
    if (rc == ERR_DAMAGE) {
        *yes = false;
        rc = 0;
    }
    return rc;
}

int64_t packs_tidy(struct packs *ps, struct err *err)
{
    int64_t gone = 0;
    int rc = 0;

    for (size_t i = 0; rc == 0; i++) {
        struct pack *p;
        uint64_t gen;
        bool yes = false;

        pthread_mutex_lock(&ps->mutex);
        p = i < ps->n ? ps->pack[i] : NULL;
        if (p)
            p->refs++;
        pthread_mutex_unlock(&ps->mutex);
        if (p == NULL)
            break;
        gen = p->gen;
        rc = superseded(ps, p, &yes, err);
        packs_release(ps, p);
        if (rc == 0 && yes) {
            if (gone == 0)               /* the name that took its place lasts */
                rc = io_syncdir(ps->io, "packs", err);
            if (rc == 0)
                rc = retire(ps, gen, err);
            gone++;
            i--;
        }
    }
    return rc < 0 ? rc : gone;
}
