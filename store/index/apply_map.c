/*
 * apply_map.c: content. A file is blocks of 1 MiB; a block's row lists the pieces that make it up. History holds only
 * the pieces that died; every 64th history row of a block carries the whole map before it, so that a look into the past
 * reads at most that many rows.
 *
 * A truncation to nothing starts a new map (mapgen) instead of ending every piece: the old rows stay as they are, and
 * the inode's history says which map was its own. So `> file`, cp over a file and unlink cost the same at any size.
 *
 * One record changes a block's row at most once, so a history row's key (block, LSN) is unique.
 *
 * Of a hidden inode no history is left of what came since it is hidden: pieces that end are gone. Nothing of the past names a map that was begun since
 * then: a block that has nothing left has no row, and where the whole map ends its rows go with it.
 */
#include "store/index/apply_internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { RANGE_DIRECT_BLOCKS = 64 };    /* up to this many blocks are looked up one by one */

static int scratch_reserve(struct apply *a, uint32_t n)
{
    struct index *ix = a->ix;
    if (n <= ix->scratch_cap)
        return 0;
    uint32_t cap = ix->scratch_cap < 64 ? 64 : ix->scratch_cap;
    while (cap < n)
        cap *= 2;
    struct piece *p = realloc(ix->scratch, cap * sizeof *p);
    if (p == NULL)
        return err_set(a->err, ERR_NOMEM, "index: out of memory");
    ix->scratch = p;
    ix->scratch_cap = cap;
    return 0;
}

/* Room for ${n} pieces as bytes. */
static int scratch_row(struct apply *a, size_t cap)
{
    struct index *ix = a->ix;
    if (cap <= ix->row_scratch_cap)
        return 0;
    uint8_t *p = realloc(ix->row_scratch, 2 * cap);
    if (p == NULL)
        return err_set(a->err, ERR_NOMEM, "index: out of memory");
    ix->row_scratch = p;
    ix->row_scratch_cap = 2 * cap;
    return 0;
}

/*
 * The pieces that end at this LSN (n of them at ${dead}, and behind them room for those of the map), and the whole map before it if it is time
 * for an image. Each write over old bytes comes here: nothing is asked of malloc once the scratch is large enough.
 */
static int map_history(struct apply *a, struct crow *m, struct piece *dead, uint32_t n)
{
    uint8_t key[KV_KEY_MAX];
    struct row_map *cur = &m->u.map.row;
    bool image = ++cur->since_image >= MAP_IMAGE_EVERY;
    struct row_map h = { .birth = a->lsn, .n = n, .n_image = image ? cur->n : 0, .piece = dead };
    int rc = scratch_row(a, row_map_bound(h.n + h.n_image));
    if (rc < 0)
        return rc;
    if (image) {
        memcpy(dead + n, cur->piece, cur->n * sizeof *dead);
        cur->since_image = 0;
    }
    size_t vlen = row_map_encode(&h, a->ix->row_scratch, a->ix->row_scratch_cap);
    apply_put(a, key, key_map_h(key, m->ino, m->mapgen, m->block, a->lsn), a->ix->row_scratch, vlen);
    return 0;
}

/* Nothing of the past names this inode's map of today. */
static bool map_unkept(const struct crow *ino)
{
    return ino->u.ino.row.hidden != 0 && ino->u.ino.row.mapgen >= ino->u.ino.row.hidden;
}

static struct piece part(const struct piece *p, uint32_t from, uint32_t to)
{
    struct piece q = *p;
    q.off = from;
    q.len = to - from;
    q.doff = p->doff + (from - p->off);
    return q;
}

/*
 * Replace [off, off + len) of the block by the ${n_ins} pieces at ${ins} (ascending, inside the range). *${delta} gets
 * the change in bytes held.
 */
static int map_edit(struct apply *a, const struct crow *ino, struct crow *m, uint32_t off, uint32_t len, const struct piece *ins, uint32_t n_ins,
                    int64_t *delta)
{
    struct row_map *cur = &m->u.map.row;
    uint32_t end = off + len, n_new = 0, n_dead = 0, gone = 0;
    uint32_t lo = 0, hi;
    int rc = scratch_reserve(a, 2 * cur->n + n_ins + 4);    /* what comes, what ends, and the map for an image */
    if (rc < 0)
        return rc;
    /* first piece that ends behind off: binary search, so that appending stays cheap */
    for (hi = cur->n; lo < hi;) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (cur->piece[mid].off + cur->piece[mid].len <= off)
            lo = mid + 1;
        else
            hi = mid;
    }
    struct piece *mid_new = a->ix->scratch, *dead = a->ix->scratch + n_ins + 2;
    uint32_t i = lo;
    for (; i < cur->n && cur->piece[i].off < end; i++) {
        const struct piece *p = &cur->piece[i];
        uint32_t pe = p->off + p->len, from = p->off > off ? p->off : off, to = pe < end ? pe : end;
        if (p->off < off)
            mid_new[n_new++] = part(p, p->off, off);
        *delta -= (int64_t)(to - from);
        if (apply_kept(a, ino, p->birth))
            dead[n_dead++] = part(p, from, to);
        else
            a->ix->meta.n_held -= to - from;
        gone++;
        if (pe > end) {
            /* the tail goes behind what is inserted */
            if (n_ins > 0)
                memcpy(mid_new + n_new, ins, n_ins * sizeof *ins);
            n_new += n_ins;
            mid_new[n_new++] = part(p, end, pe);
            i++;
            goto inserted;
        }
    }
    if (n_ins > 0)
        memcpy(mid_new + n_new, ins, n_ins * sizeof *ins);
    n_new += n_ins;
inserted:
    for (uint32_t k = 0; k < n_ins; k++) {
        *delta += ins[k].len;
        a->ix->meta.n_held += ins[k].len;
    }
    if (gone == 0 && n_ins == 0)
        return 0;
    if (n_dead > 0 && (rc = map_history(a, m, dead, n_dead)) < 0)
        return rc;
    uint32_t tail = cur->n - i;
    if (cache_map_reserve(&a->ix->cache, m, cur->n - gone + n_new) < 0)
        return err_set(a->err, ERR_NOMEM, "index: out of memory");
    memmove(cur->piece + lo + n_new, cur->piece + i, tail * sizeof *cur->piece);
    memcpy(cur->piece + lo, mid_new, n_new * sizeof *cur->piece);
    cur->n = lo + n_new + tail;
    cur->birth = a->lsn;
    m->present = cur->n > 0 || !map_unkept(ino);     /* also when empty: the row says that the block has a past */
    cache_dirty(&a->ix->cache, m, a->lsn);
    return 0;
}

static void add_blocks(struct apply *a, struct crow *ino, int64_t delta)
{
    ino->u.ino.row.blocks = (uint64_t)((int64_t)ino->u.ino.row.blocks + delta);
    a->ix->meta.n_bytes = (uint64_t)((int64_t)a->ix->meta.n_bytes + delta);
}

static int get_map(struct apply *a, const struct crow *ino, uint64_t block, struct crow **out)
{
    return cache_map(&a->ix->cache, ino->ino, ino->u.ino.row.mapgen, block, out, a->err);
}

/* Blocks in [b0, b1] that have a row: in the key-value store, or not there yet. */
struct block_list { uint64_t *b; size_t n, cap; };

static int block_add(struct block_list *l, uint64_t b)
{
    if (l->n == l->cap) {
        size_t cap = l->cap == 0 ? 64 : l->cap * 2;
        uint64_t *p = realloc(l->b, cap * sizeof *p);
        if (p == NULL)
            return ERR_NOMEM;
        l->b = p;
        l->cap = cap;
    }
    l->b[l->n++] = b;
    return 0;
}

static int block_cmp(const void *x, const void *y)
{
    uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;
    return a < b ? -1 : a > b;
}

static int blocks_existing(struct apply *a, const struct crow *ino, uint64_t b0, uint64_t b1, struct block_list *l)
{
    uint8_t lo[KV_KEY_MAX], hi[KV_KEY_MAX];
    uint64_t gen = ino->u.ino.row.mapgen;
    struct kv *kv = a->ix->kv;
    struct key_parts parts;
    int rc = 0;
    for (struct crow *r = a->ix->cache.dirty; r != NULL && rc == 0; r = r->dirty_next)
        if (r->kind == CROW_MAP && r->ino == ino->ino && r->mapgen == gen && r->block >= b0 && r->block <= b1)
            rc = block_add(l, r->block);
    for (struct crow *r = a->ix->cache.draining; r != NULL && rc == 0; r = r->drain_next)
        if (r->kind == CROW_MAP && r->ino == ino->ino && r->mapgen == gen && r->block >= b0 && r->block <= b1)
            rc = block_add(l, r->block);
    if (rc < 0)
        return err_set(a->err, rc, "index: out of memory");
    size_t llen = key_map(lo, ino->ino, gen, b0), hlen = key_map(hi, ino->ino, gen, b1 + 1);
    struct kv_iter *it = kv->ops->iter_new(kv, NULL, lo, llen, hi, hlen);
    if (it == NULL)
        return err_set(a->err, ERR_NOMEM, "index: out of memory");
    for (kv->ops->iter_seek(it, lo, llen); rc == 0 && kv->ops->iter_valid(it); kv->ops->iter_next(it)) {
        size_t klen;
        const uint8_t *k = kv->ops->iter_key(it, &klen);
        if (key_parse(k, klen, &parts))
            rc = block_add(l, parts.block);
    }
    if (rc == 0)
        rc = kv->ops->iter_err(it, a->err);
    kv->ops->iter_free(it);
    if (rc == 0 && l->n > 1)
        qsort(l->b, l->n, sizeof *l->b, block_cmp);
    return rc;
}

static int punch_block(struct apply *a, struct crow *ino, uint64_t block, uint64_t from, uint64_t to, int64_t *delta)
{
    struct crow *m = NULL;
    uint64_t base = block << BLOCK_SHIFT;
    uint64_t f = from > base ? from - base : 0, t = to - base < BLOCK_BYTES ? to - base : BLOCK_BYTES;
    int rc = get_map(a, ino, block, &m);
    if (rc < 0 || m->u.map.row.n == 0)
        return rc;
    return map_edit(a, ino, m, (uint32_t)f, (uint32_t)(t - f), NULL, 0, delta);
}

/* Remove what lies in [from, to). */
static int punch(struct apply *a, struct crow *ino, uint64_t from, uint64_t to)
{
    struct block_list l = { 0 };
    int64_t delta = 0;
    int rc = 0;
    if (from >= to || ino->u.ino.row.blocks == 0)
        return 0;
    uint64_t b0 = from >> BLOCK_SHIFT, b1 = (to - 1) >> BLOCK_SHIFT;
    if (b1 - b0 < RANGE_DIRECT_BLOCKS) {
        for (uint64_t b = b0; b <= b1 && rc == 0; b++)
            rc = punch_block(a, ino, b, from, to, &delta);
    } else {
        rc = blocks_existing(a, ino, b0, b1, &l);
        for (size_t i = 0; i < l.n && rc == 0; i++)
            if (i == 0 || l.b[i] != l.b[i - 1])
                rc = punch_block(a, ino, l.b[i], from, to, &delta);
    }
    free(l.b);
    add_blocks(a, ino, delta);
    return rc;
}

/* The row of one block goes unread: what it held is counted with the map. */
static void drop_block(struct apply *a, const struct crow *ino, uint64_t block)
{
    uint8_t key[KV_KEY_MAX];
    const uint64_t gen = ino->u.ino.row.mapgen;
    struct crow *m = cache_peek(&a->ix->cache, CROW_MAP, ino->ino, gen, block, NULL, 0);
    if (m == NULL) {
        apply_del(a, key, key_map(key, ino->ino, gen, block));
    } else if (m->present) {
        m->present = false;
        m->u.map.row.n = 0;
        cache_dirty(&a->ix->cache, m, a->lsn);
    }
}

int apply_drop_map(struct apply *a, const struct crow *ino)
{
    const struct row_ino *row = &ino->u.ino.row;
    struct block_list l = { 0 };
    int rc = 0;
    if (!map_unkept(ino) || row->blocks == 0)
        return 0;
    uint64_t last = (row->size - 1) >> BLOCK_SHIFT;
    if (last < RANGE_DIRECT_BLOCKS) {
        for (uint64_t b = 0; b <= last; b++)
            drop_block(a, ino, b);
    } else {
        rc = blocks_existing(a, ino, 0, last, &l);
        for (size_t i = 0; i < l.n && rc == 0; i++)
            drop_block(a, ino, l.b[i]);
    }
    free(l.b);
    a->ix->meta.n_held -= row->blocks;
    return rc;
}

int apply_resize(struct apply *a, struct crow *ino, uint64_t size)
{
    struct row_ino *row = &ino->u.ino.row;
    uint64_t old = row->size;
    int rc = 0;
    if (size == 0 && row->blocks > 0) {
        rc = apply_drop_map(a, ino);
        add_blocks(a, ino, -(int64_t)row->blocks);
        row->mapgen = a->lsn;
    } else if (size < old) {
        rc = punch(a, ino, size, old);
    }
    if (size != old) {
        row->content = a->lsn;
        row->origin = 0;
    }
    row->size = size;
    return rc;
}

/* Put ${len} bytes of record ${lsn} at ${off} of the file. */
static int put_data(struct apply *a, struct crow *ino, uint64_t off, uint32_t len)
{
    uint32_t dstart = record_dstart(a->rec->head_len), doff = 0;
    int64_t delta = 0;
    int rc = 0;
    while (doff < len && rc == 0) {
        struct crow *m = NULL;
        uint64_t pos = off + doff, block = pos >> BLOCK_SHIFT;
        uint32_t in = (uint32_t)(pos & (BLOCK_BYTES - 1));
        uint32_t n = len - doff < BLOCK_BYTES - in ? len - doff : BLOCK_BYTES - in;
        struct piece p = { .off = in, .len = n, .lsn = a->lsn, .dstart = dstart, .doff = doff, .birth = a->lsn };
        if (ino->u.ino.row.blocks == 0 && doff == 0 && ino->u.ino.row.mapgen == ino->u.ino.row.created &&
            ino->u.ino.row.content == ino->u.ino.row.created)
            rc = cache_fresh(&a->ix->cache, CROW_MAP, ino->ino, ino->u.ino.row.mapgen, block, NULL, 0, &m, a->err);
        else
            rc = get_map(a, ino, block, &m);
        if (rc == 0)
            rc = map_edit(a, ino, m, in, n, &p, 1, &delta);
        doff += n;
    }
    add_blocks(a, ino, delta);
    return rc;
}

static int touch_file(struct apply *a, uint64_t ino, struct crow **out)
{
    int rc = apply_touch(a, ino, out);
    if (rc == 0 && !S_ISREG((*out)->u.ino.row.mode))
        return apply_damage(a, "not a regular file", ino);
    return rc;
}

static void changed(struct apply *a, struct crow *ino)
{
    ino->u.ino.row.mtime = ino->u.ino.row.ctime = a->now;
    ino->u.ino.row.content = a->lsn;
    ino->u.ino.row.origin = 0;
}

int apply_write(struct apply *a)
{
    struct crow *ino = NULL;
    uint64_t end = a->rec->u.write.off + a->rec->data_len;
    int rc = touch_file(a, a->rec->ino, &ino);
    if (rc == 0 && (end < a->rec->u.write.off || end > FILE_SIZE_MAX))
        rc = apply_damage(a, "a write beyond the largest file", a->rec->ino);
    if (rc == 0)
        rc = put_data(a, ino, a->rec->u.write.off, a->rec->data_len);
    if (rc < 0)
        return rc;
    changed(a, ino);
    if (end > ino->u.ino.row.size)
        ino->u.ino.row.size = end;
    return apply_kill_priv(a, ino);
}

/* The same bytes in fewer pieces: neither content nor times change. */
int apply_rewrite(struct apply *a)
{
    struct crow *ino = NULL;
    int rc = touch_file(a, a->rec->ino, &ino);
    if (rc == 0 && a->rec->u.write.off + a->rec->data_len > ino->u.ino.row.size)
        rc = apply_damage(a, "a rewrite beyond the end of the file", a->rec->ino);
    return rc < 0 ? rc : put_data(a, ino, a->rec->u.write.off, a->rec->data_len);
}

int apply_fallocate(struct apply *a)
{
    struct crow *ino = NULL;
    const struct record *rec = a->rec;
    uint64_t off = rec->u.fallocate.off, end = off + rec->u.fallocate.len;
    uint32_t mode = rec->u.fallocate.mode;
    int rc = touch_file(a, rec->ino, &ino);
    if (rc == 0 && (end < off || end > FILE_SIZE_MAX))
        rc = apply_damage(a, "an allocation beyond the largest file", rec->ino);
    if (rc < 0)
        return rc;
    uint64_t size = ino->u.ino.row.size;
    if (mode & (RFA_PUNCH_HOLE | RFA_ZERO_RANGE)) {
        rc = punch(a, ino, off, end < size ? end : size);
        if (rc < 0)
            return rc;
        changed(a, ino);
    }
    if (!(mode & (RFA_KEEP_SIZE | RFA_PUNCH_HOLE)) && end > size) {
        ino->u.ino.row.size = end;
        changed(a, ino);
    }
    ino->u.ino.row.ctime = a->now;
    return apply_kill_priv(a, ino);
}

/* ---- clone: the destination's range gets pieces that name the source's data ---- */

struct clone_piece { uint64_t off; struct piece p; };     /* off in the destination file */
struct clone_list { struct clone_piece *v; size_t n, cap; };

static int clone_add(struct apply *a, struct clone_list *l, uint64_t off, const struct piece *p)
{
    if (l->n == l->cap) {
        size_t cap = l->cap == 0 ? 64 : l->cap * 2;
        struct clone_piece *v = realloc(l->v, cap * sizeof *v);
        if (v == NULL)
            return err_set(a->err, ERR_NOMEM, "index: out of memory");
        l->v = v;
        l->cap = cap;
    }
    l->v[l->n].off = off;
    l->v[l->n++].p = *p;
    return 0;
}

/* Pieces of the live source, as of just before this record. */
static int clone_from_live(struct apply *a, struct crow *src, struct clone_list *l)
{
    const struct record *rec = a->rec;
    struct block_list blocks = { 0 };
    uint64_t from = rec->u.clone.src_off, to = from + rec->u.clone.len;
    if (from >= to || src->u.ino.row.blocks == 0)
        return 0;
    uint64_t b0 = from >> BLOCK_SHIFT, b1 = (to - 1) >> BLOCK_SHIFT;
    int rc = 0;
    if (b1 - b0 < RANGE_DIRECT_BLOCKS)
        for (uint64_t b = b0; b <= b1 && rc == 0; b++)
            rc = block_add(&blocks, b);
    else
        rc = blocks_existing(a, src, b0, b1, &blocks);
    for (size_t i = 0; i < blocks.n && rc == 0; i++) {
        struct crow *m = NULL;
        if (i > 0 && blocks.b[i] == blocks.b[i - 1])
            continue;
        rc = get_map(a, src, blocks.b[i], &m);
        for (uint32_t k = 0; rc == 0 && k < m->u.map.row.n; k++) {
            struct piece p = m->u.map.row.piece[k];
            uint64_t at = (blocks.b[i] << BLOCK_SHIFT) + p.off, pe = at + p.len;
            uint64_t f = at > from ? at : from, t = pe < to ? pe : to;
            if (f >= t)
                continue;
            p.doff += (uint32_t)(f - at);
            p.len = (uint32_t)(t - f);
            rc = clone_add(a, l, rec->u.clone.dst_off + (f - from), &p);
        }
    }
    free(blocks.b);
    return rc;
}

static int clone_from_list(struct apply *a, struct clone_list *l)
{
    uint64_t last = a->rec->u.clone.dst_off, end = last + a->rec->u.clone.len;
    int rc = 0;
    for (uint32_t i = 0; i < a->rec->u.clone.n_pieces && rc == 0; i++) {
        struct rec_piece r = rec_piece_get(a->rec->u.clone.pieces, i);
        struct piece p = { .len = r.len, .lsn = r.lsn, .dstart = r.dstart, .doff = r.doff };
        if (r.dst_off < last || r.len == 0 || r.dst_off + r.len > end || r.lsn == 0 || r.lsn >= a->lsn)
            return apply_damage(a, "a piece of a clone is out of order", a->rec->ino);
        last = r.dst_off + r.len;
        rc = clone_add(a, l, r.dst_off, &p);
    }
    return rc;
}

/* The range of one block of the destination. *${k} moves over ${l}; a piece across the border is split. */
static int clone_block(struct apply *a, struct crow *dst, uint64_t block, uint64_t from, uint64_t to,
                       const struct clone_list *l, size_t *k, int64_t *delta)
{
    uint64_t base = block << BLOCK_SHIFT;
    struct piece *ins = NULL;
    size_t n = 0, cap = 0, i = *k;
    struct crow *m = NULL;
    int rc = 0;
    while (i < l->n && l->v[i].off < base + BLOCK_BYTES) {
        const struct clone_piece *c = &l->v[i];
        uint64_t ce = c->off + c->p.len, f = c->off > base ? c->off : base;
        uint64_t t = ce < base + BLOCK_BYTES ? ce : base + BLOCK_BYTES;
        if (n == cap) {
            cap = cap == 0 ? 16 : cap * 2;
            struct piece *p = realloc(ins, cap * sizeof *p);
            if (p == NULL) {
                free(ins);
                return err_set(a->err, ERR_NOMEM, "index: out of memory");
            }
            ins = p;
        }
        ins[n] = c->p;
        ins[n].off = (uint32_t)(f - base);
        ins[n].len = (uint32_t)(t - f);
        ins[n].doff = c->p.doff + (uint32_t)(f - c->off);
        ins[n].birth = a->lsn;
        n++;
        if (ce > base + BLOCK_BYTES)
            break;
        i++;
    }
    *k = i;
    rc = get_map(a, dst, block, &m);
    if (rc == 0 && (n > 0 || m->u.map.row.n > 0)) {
        uint64_t f = from > base ? from - base : 0, t = to - base < BLOCK_BYTES ? to - base : BLOCK_BYTES;
        rc = map_edit(a, dst, m, (uint32_t)f, (uint32_t)(t - f), ins, (uint32_t)n, delta);
    }
    free(ins);
    return rc;
}

static int clone_into(struct apply *a, struct crow *dst, const struct clone_list *l)
{
    uint64_t from = a->rec->u.clone.dst_off, to = from + a->rec->u.clone.len;
    /* a restore replaces all there is: what lies behind its end goes with the same record */
    if (a->rec->u.clone.origin != 0 && dst->u.ino.row.size > to)
        to = dst->u.ino.row.size;
    struct block_list blocks = { 0 };
    int64_t delta = 0;
    size_t k = 0;
    int rc = 0;
    if (from >= to)
        return 0;
    uint64_t b0 = from >> BLOCK_SHIFT, b1 = (to - 1) >> BLOCK_SHIFT;
    if (b1 - b0 < RANGE_DIRECT_BLOCKS) {
        for (uint64_t b = b0; b <= b1 && rc == 0; b++)
            rc = block_add(&blocks, b);
    } else {
        rc = blocks_existing(a, dst, b0, b1, &blocks);
        for (size_t i = 0; i < l->n && rc == 0; i++)
            for (uint64_t b = l->v[i].off >> BLOCK_SHIFT; b <= (l->v[i].off + l->v[i].p.len - 1) >> BLOCK_SHIFT && rc == 0; b++)
                rc = block_add(&blocks, b);
        if (rc == 0 && blocks.n > 1)
            qsort(blocks.b, blocks.n, sizeof *blocks.b, block_cmp);
    }
    for (size_t i = 0; i < blocks.n && rc == 0; i++)
        if (i == 0 || blocks.b[i] != blocks.b[i - 1])
            rc = clone_block(a, dst, blocks.b[i], from, to, l, &k, &delta);
    free(blocks.b);
    add_blocks(a, dst, delta);
    return rc;
}

int apply_clone(struct apply *a)
{
    const struct record *rec = a->rec;
    struct crow *src = NULL, *dst = NULL;
    struct clone_list l = { 0 };
    uint64_t end = rec->u.clone.dst_off + rec->u.clone.len;
    int rc = touch_file(a, rec->ino, &dst);
    if (rc == 0 && (end < rec->u.clone.dst_off || end > FILE_SIZE_MAX))
        rc = apply_damage(a, "a clone beyond the largest file", rec->ino);
    if (rc == 0 && rec->u.clone.origin >= a->lsn)
        rc = apply_damage(a, "a clone brings back what is not there yet", rec->ino);
    if (rc == 0 && rec->u.clone.src_ino == 0) {
        rc = clone_from_list(a, &l);
    } else if (rc == 0) {
        rc = cache_ino(&a->ix->cache, rec->u.clone.src_ino, &src, a->err);
        if (rc == 0 && !src->present)
            rc = apply_damage(a, "the source of a clone is gone", rec->u.clone.src_ino);
        if (rc == 0)
            rc = clone_from_live(a, src, &l);
    }
    if (rc == 0)
        rc = clone_into(a, dst, &l);
    free(l.v);
    if (rc < 0)
        return rc;
    changed(a, dst);
    dst->u.ino.row.origin = rec->u.clone.origin;
    if (end > dst->u.ino.row.size || rec->u.clone.origin != 0)
        dst->u.ino.row.size = end;
    return apply_kill_priv(a, dst);
}

bool index_fold_range(const struct row_map *map, uint32_t *off, uint32_t *len)
{
    uint32_t best = 0, start = 0;
    for (uint32_t i = 0; i < map->n; i++) {
        const struct piece *p = &map->piece[i];
        bool joins = i > 0 && map->piece[i - 1].off + map->piece[i - 1].len == p->off;
        if (p->len >= 16384) {
            start = i + 1;
            continue;
        }
        if (!joins)
            start = i;
        if (i + 1 - start > best) {
            best = i + 1 - start;
            *off = map->piece[start].off;
            *len = p->off + p->len - *off;
        }
    }
    return best >= 16;
}
