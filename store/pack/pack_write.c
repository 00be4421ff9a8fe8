/*
 * pack_write.c: making a pack. Frames go to packs/next as they come, what describes them stays in memory until the end.
 *
 * packs/next made anew | frames | tables, zeros, tables | and what sealed.h says of its end. Before the rename: a
 * file without meaning, removed when the next one is made. After it: a whole pack, with or without its name.
 */
#include "store/log/record.h"
#include "store/pack/pack.h"
#include "store/pack/sealed.h"
#include "store/pack/squeeze.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct pack_writer {
    struct sealed *file;
    struct pack_head h;
    struct squeeze *z;
    uint8_t *squeezed;               /* PACK_STORED_MAX: a frame's */
    struct pack_frame *frame;
    struct pack_chunk *chunk;        /* as they come; by number at the end */
    struct pack_addr *addr;
    uint32_t n_frames, cap_frames, n_chunks, cap_chunks, n_addrs, cap_addrs;
    struct pack_block *block;        /* made at the end, and their bytes */
    uint32_t n_blocks, cap_blocks;
    uint8_t *body;
    size_t body_len, body_cap;
};

static int no_memory(struct err *err)
{
    return err_set(err, ERR_NOMEM, "pack: out of memory");
}

/* Room for ${more} further entries of ${size} bytes behind ${n}, of at most UINT32_MAX. */
static int grow(void *array, uint32_t n, uint32_t more, uint32_t *cap, size_t size, struct err *err)
{
    void **p = array, *bigger;
    uint64_t want = (uint64_t)n + more, to = *cap ? *cap : 64;

    if (want <= *cap)
        return 0;
    while (to < want)
        to *= 2;
    bigger = to <= UINT32_MAX ? realloc(*p, to * size) : NULL;
    if (bigger == NULL)
        return no_memory(err);
    *p = bigger;
    *cap = (uint32_t)to;
    return 0;
}

/* ---- begin, end ---- */

void pack_drop(struct pack_writer *w)
{
    if (w == NULL)
        return;
    sealed_drop(w->file);
    squeeze_free(w->z);
    free(w->squeezed);
    free(w->frame);
    free(w->chunk);
    free(w->addr);
    free(w->block);
    free(w->body);
    free(w);
}

int pack_new(struct io *io, const struct pack_head *h, struct pack_writer **out, struct err *err)
{
    struct pack_writer *w = calloc(1, sizeof *w);
    int rc;

    *out = NULL;
    if (w == NULL)
        return no_memory(err);
    w->h = *h;
    w->z = squeeze_new();
    w->squeezed = malloc(PACK_STORED_MAX);
    rc = w->z && w->squeezed ? sealed_new(io, "packs", "packs/next", PACK_HEAD_BYTES, &w->file, err) : no_memory(err);
    if (rc) {
        pack_drop(w);
        return rc;
    }
    *out = w;
    return 0;
}

/* ---- frames ---- */

/* 0, or INVAL: a frame that could not be read back. *${len}: its expanded bytes. */
static int check_frame(enum pack_frame_kind kind, const struct pack_chunk *chunk, uint32_t n, const struct pack_base *base, uint32_t *len,
                       struct err *err)
{
    *len = 0;
    if (n == 0 || n > PACK_ENTRIES_MAX || (kind == PACK_DELTA) != (base != NULL) || (base && n != 1))
        return err_set(err, ERR_INVAL, "pack: a frame of kind %d with %" PRIu32 " chunks", (int)kind, n);
    for (uint32_t i = 0; i < n; i++) {
        if (chunk[i].number == 0 || chunk[i].number > INT64_MAX)
            return err_set(err, ERR_INVAL, "pack: chunk number %" PRIu64, chunk[i].number);
        if (chunk[i].len == 0 || chunk[i].len > PACK_CHUNK_MAX || chunk[i].len > PACK_FRAME_MAX - *len)
            return err_set(err, ERR_INVAL, "pack: chunk %" PRIu64 " is %" PRIu32 " bytes, behind %" PRIu32 " in its frame",
                           chunk[i].number, chunk[i].len, *len);
        *len += chunk[i].len;
    }
    if (base && (base->number == 0 || base->number > INT64_MAX || base->depth >= PACK_DEPTH_MAX || base->len == 0 ||
                 base->len > PACK_CHUNK_MAX))
        return err_set(err, ERR_INVAL, "pack: chunk %" PRIu64 " of depth %d, %" PRIu32 " bytes, is no base", base->number, base->depth,
                       base->len);
    return 0;
}

static int squeeze_failed(int64_t rc, struct err *err)
{
    return err_set(err, (int)rc, "pack: a frame could not be compressed");
}

static int64_t squeeze_frame(struct pack_writer *w, int level, const uint8_t *bytes, uint32_t len, const struct pack_base *base)
{
    return squeeze(w->z, level, bytes, len, base ? base->bytes : NULL, base ? base->len : 0, w->squeezed, PACK_STORED_MAX);
}

int pack_put_frame(struct pack_writer *w, enum pack_frame_kind kind, int level, struct pack_chunk *chunk, uint32_t n, const uint8_t *bytes,
                   const struct pack_base *base, uint32_t *stored, struct err *err)
{
    struct pack_frame f = { .at = sealed_at(w->file) };
    int64_t got = 0;
    uint32_t off = 0;
    int rc = check_frame(kind, chunk, n, base, &f.expanded, err);

    if (rc == 0)
        rc = grow(&w->chunk, w->n_chunks, n, &w->cap_chunks, sizeof *w->chunk, err);
    if (rc == 0)
        rc = grow(&w->frame, w->n_frames, 1, &w->cap_frames, sizeof *w->frame, err);
    if (rc)
        return rc;
    if (kind != PACK_RAW)
        got = squeeze_frame(w, level, bytes, f.expanded, base);
    if (got < 0)
        return squeeze_failed(got, err);
    /* What does not get smaller lies there as it is. A delta stays one: others may count on its depth. */
    f.kind = (uint8_t)(kind == PACK_ZSTD && got >= f.expanded ? PACK_RAW : kind);
    f.stored = f.kind == PACK_RAW ? f.expanded : (uint32_t)got;
    if (f.kind == PACK_DELTA) {
        f.base = base->number;
        f.depth = (uint8_t)(base->depth + 1);
    }
    rc = sealed_put(w->file, f.kind == PACK_RAW ? bytes : w->squeezed, f.stored, err);
    if (rc)
        return rc;
    for (uint32_t i = 0; i < n; i++) {
        chunk[i].frame = w->n_frames;
        chunk[i].off = off;
        off += chunk[i].len;
        w->chunk[w->n_chunks++] = chunk[i];
    }
    w->frame[w->n_frames++] = f;
    if (stored)
        *stored = f.stored;
    return 0;
}

int pack_put_stored(struct pack_writer *w, const struct pack_frame *from, struct pack_chunk *chunk, uint32_t n, const uint8_t *stored, struct err *err)
{
    const struct pack_base base = { .number = from->base, .bytes = NULL, .len = 1, .depth = (uint8_t)(from->depth - 1) };
    struct pack_frame f = *from;
    uint32_t len;
    int rc = check_frame((enum pack_frame_kind)from->kind, chunk, n, from->kind == PACK_DELTA ? &base : NULL, &len, err);

    if (rc == 0 && (len > from->expanded || from->stored > PACK_STORED_MAX))
        rc = err_set(err, ERR_INVAL, "pack: a frame of %" PRIu32 " bytes, with %" PRIu32 " bytes of chunks", from->expanded, len);
    if (rc == 0)
        rc = grow(&w->chunk, w->n_chunks, n, &w->cap_chunks, sizeof *w->chunk, err);
    if (rc == 0)
        rc = grow(&w->frame, w->n_frames, 1, &w->cap_frames, sizeof *w->frame, err);
    f.at = sealed_at(w->file);
    if (rc == 0)
        rc = sealed_put(w->file, stored, from->stored, err);
    if (rc)
        return rc;
    for (uint32_t i = 0; i < n; i++) {
        chunk[i].frame = w->n_frames;
        w->chunk[w->n_chunks++] = chunk[i];
    }
    w->frame[w->n_frames++] = f;
    return 0;
}

int64_t pack_try(struct pack_writer *w, int level, const uint8_t *bytes, uint32_t len, const struct pack_base *base, struct err *err)
{
    int64_t got = squeeze_frame(w, level, bytes, len, base);

    return got < 0 ? squeeze_failed(got, err) : got;
}

/* ---- addresses ---- */

int pack_put_addr(struct pack_writer *w, const struct pack_addr *a, struct err *err)
{
    int rc;

    if (a->lsn < w->h.first || a->lsn >= w->h.end || a->lsn % 8 != 0 || a->len == 0 || a->len > PACK_CHUNK_MAX ||
        a->doff > REC_DATA_MAX || a->doff + a->len > REC_DATA_MAX || a->chunk == 0 || a->chunk > INT64_MAX ||
        a->chunk_off > PACK_CHUNK_MAX - a->len)
        return err_set(err, ERR_INVAL, "pack: an entry for address %" PRIu64 ", data %" PRIu32 " + %" PRIu32 ", chunk %" PRIu64
                       " at %" PRIu32, a->lsn, a->doff, a->len, a->chunk, a->chunk_off);
    rc = grow(&w->addr, w->n_addrs, 1, &w->cap_addrs, sizeof *w->addr, err);
    if (rc == 0)
        w->addr[w->n_addrs++] = *a;
    return rc;
}

/* ---- what was put fits together ---- */

static int by_number(const void *x, const void *y)
{
    const struct pack_chunk *a = x, *b = y;

    return (a->number > b->number) - (a->number < b->number);
}

static int by_address(const void *x, const void *y)
{
    const struct pack_addr *a = x, *b = y;

    if (a->lsn != b->lsn)
        return a->lsn < b->lsn ? -1 : 1;
    return (a->doff > b->doff) - (a->doff < b->doff);
}

/* A chunk of this pack, once they are sorted; NULL: it is not of this one. */
static const struct pack_chunk *find_chunk(const struct pack_writer *w, uint64_t number)
{
    struct pack_chunk key = { .number = number };

    return w->n_chunks ? bsearch(&key, w->chunk, w->n_chunks, sizeof key, by_number) : NULL;
}

/* Each number once, and each base above its deltas. */
static int settle_chunks(struct pack_writer *w, struct err *err)
{
    if (w->n_chunks > 1)
        qsort(w->chunk, w->n_chunks, sizeof *w->chunk, by_number);
    for (uint32_t i = 1; i < w->n_chunks; i++)
        if (w->chunk[i - 1].number == w->chunk[i].number)
            return err_set(err, ERR_INVAL, "pack: chunk %" PRIu64 " was put twice", w->chunk[i].number);
    for (uint32_t i = 0; i < w->n_frames; i++) {
        const struct pack_frame *f = &w->frame[i];
        const struct pack_chunk *base = f->kind == PACK_DELTA ? find_chunk(w, f->base) : NULL;

        if (base && w->frame[base->frame].depth >= f->depth)
            return err_set(err, ERR_INVAL, "pack: chunk %" PRIu64 " of depth %d is the base of one of depth %d", f->base,
                           w->frame[base->frame].depth, f->depth);
    }
    return 0;
}

/* Without overlaps, each in its chunk where that is of this pack. */
static int settle_addrs(struct pack_writer *w, struct err *err)
{
    if (w->n_addrs > 1)
        qsort(w->addr, w->n_addrs, sizeof *w->addr, by_address);
    for (uint32_t i = 0; i < w->n_addrs; i++) {
        const struct pack_addr *a = &w->addr[i];
        const struct pack_chunk *k = find_chunk(w, a->chunk);

        if (i > 0 && a[-1].lsn == a->lsn && a[-1].doff + a[-1].len > a->doff)
            return err_set(err, ERR_INVAL, "pack: two entries for byte %" PRIu32 " of the data at address %" PRIu64, a->doff, a->lsn);
        if (k && (a->chunk_off > k->len || a->len > k->len - a->chunk_off))
            return err_set(err, ERR_INVAL, "pack: the data at address %" PRIu64 " lie at %" PRIu32 " + %" PRIu32 " of chunk %" PRIu64
                           ", which has %" PRIu32 " bytes", a->lsn, a->chunk_off, a->len, a->chunk, k->len);
    }
    return 0;
}

/* ---- tables ---- */

/* Room in the body for ${len} more bytes. */
static int body_room(struct pack_writer *w, size_t len, struct err *err)
{
    size_t to = 2 * (w->body_cap + len);
    uint8_t *bigger;

    if (w->body_cap - w->body_len >= len)
        return 0;
    bigger = realloc(w->body, to);
    if (bigger == NULL)
        return no_memory(err);
    w->body = bigger;
    w->body_cap = to;
    return 0;
}

/* One more block: ${len} bytes at ${p}, expanded; 0: they did not fit in memory. */
static int add_block(struct pack_writer *w, struct pack_block b, const uint8_t *p, size_t len, struct err *err)
{
    int64_t got;
    int rc = len ? grow(&w->block, w->n_blocks, 1, &w->cap_blocks, sizeof *w->block, err) : no_memory(err);

    if (rc == 0 && (len > PACK_BLOCK_BYTES_MAX || w->n_blocks == PACK_BLOCKS_MAX))
        rc = err_set(err, ERR_INVAL, "pack: a block of %zu bytes, behind %" PRIu32 " others", len, w->n_blocks);
    if (rc == 0)
        rc = body_room(w, squeeze_bound(len), err);
    if (rc)
        return rc;
    got = squeeze(w->z, SQUEEZE_COLUMNS, p, len, NULL, 0, w->body + w->body_len, w->body_cap - w->body_len);
    if (got > PACK_BLOCK_BYTES_MAX)
        got = ERR_TOOLONG;
    if (got < 0)
        return squeeze_failed(got, err);
    b.at = w->body_len;             /* from the first block, until their number is known */
    b.stored = (uint32_t)got;
    b.expanded = (uint32_t)len;
    b.sum = hash64(w->body + w->body_len, (size_t)got);
    w->block[w->n_blocks++] = b;
    w->body_len += (size_t)got;
    return 0;
}

/* Where the block that begins with entry ${i} of ${n} ends: what a record has is not split. */
static uint32_t block_end(const struct pack_writer *w, enum pack_block_kind kind, uint32_t i, uint32_t n)
{
    uint32_t end = n - i > PACK_BLOCK_ENTRIES ? i + PACK_BLOCK_ENTRIES : n, whole = end;

    if (kind != PACK_ADDRESSES || end == n)
        return end;
    while (whole > i && w->addr[whole - 1].lsn == w->addr[whole].lsn)
        whole--;
    if (whole > i)
        return whole;
    while (end < n && w->addr[end].lsn == w->addr[i].lsn)
        end++;
    return end;
}

static int add_blocks(struct pack_writer *w, enum pack_block_kind kind, uint32_t n, struct err *err)
{
    int rc = 0;

    for (uint32_t i = 0, to; rc == 0 && i < n; i = to) {
        struct pack_block b = { .kind = (uint32_t)kind };
        size_t cap, len = 0;
        uint8_t *p;

        to = block_end(w, kind, i, n);
        b.entries = to - i;
        if (b.entries > PACK_ENTRIES_MAX)
            return err_set(err, ERR_INVAL, "pack: the record at address %" PRIu64 " has %" PRIu32 " entries", w->addr[i].lsn, b.entries);
        cap = pack_block_bound(b.entries);
        p = malloc(cap);
        if (p && kind == PACK_FRAMES) {
            b.least = i;
            b.frames_at = w->frame[i].at;
            len = pack_frames_encode(w->frame + i, b.entries, p, cap);
        } else if (p && kind == PACK_CHUNKS) {
            b.least = w->chunk[i].number;
            len = pack_chunks_encode(w->chunk + i, b.entries, p, cap);
        } else if (p) {
            b.least = w->addr[i].lsn;
            len = pack_addrs_encode(w->addr + i, b.entries, p, cap);
        }
        rc = add_block(w, b, p, len, err);
        free(p);
    }
    return rc;
}

/* Directory and blocks, once. */
static int put_tables(struct pack_writer *w, const uint8_t *dir, size_t len, struct err *err)
{
    int rc = sealed_put(w->file, dir, len, err);

    return rc ? rc : sealed_put(w->file, w->body, w->body_len, err);
}

/* Everything behind the frames but head and hash. */
static int put_end(struct pack_writer *w, uint8_t head[PACK_HEAD_BYTES], struct err *err)
{
    static const uint8_t zeros[PACK_TABLES_APART];
    size_t len = pack_dir_bytes(w->n_blocks), tables = len + w->body_len, gap = tables < PACK_TABLES_APART ? PACK_TABLES_APART - tables : 0;
    uint64_t at = sealed_at(w->file);
    uint8_t *dir = malloc(len);
    struct pack_block *check = NULL;
    struct err why = { 0 };
    int rc;

    if (dir == NULL)
        return no_memory(err);
    w->h.tables_at = at;
    w->h.tables2_at = at + tables + gap;
    w->h.tables_bytes = tables;
    w->h.n_blocks = w->n_blocks;
    w->h.size = w->h.tables2_at + tables + PACK_HEAD_BYTES + sizeof(struct hash128);
    for (uint32_t i = 0; i < w->n_blocks; i++)
        w->block[i].at += len;
    pack_dir_encode(w->block, w->n_blocks, dir);
    pack_head_encode(&w->h, head);
    /* What could not be read back must never get a name. */
    rc = pack_head_decode(head, PACK_HEAD_BYTES, w->h.size, &w->h, NULL, &why);
    if (rc == 0)
        rc = pack_dir_decode(dir, len, &w->h, &check, &why);
    if (rc)
        rc = err_set(err, rc == ERR_NOMEM ? rc : ERR_INVAL, "pack: not written: %s", why.msg);
    if (rc == 0)
        rc = put_tables(w, dir, len, err);
    if (rc == 0)
        rc = sealed_put(w->file, zeros, gap, err);
    if (rc == 0)
        rc = put_tables(w, dir, len, err);
    free(check);
    free(dir);
    return rc;
}

int pack_finish(struct pack_writer *w, const uint8_t epoch_id[16], struct pack_head *out, struct err *err)
{
    uint8_t head[PACK_HEAD_BYTES];
    char name[PACK_NAME_MAX];
    int rc;

    memcpy(w->h.epoch_id, epoch_id, 16);
    rc = settle_chunks(w, err);
    if (rc == 0)
        rc = settle_addrs(w, err);
    if (rc == 0)
        rc = add_blocks(w, PACK_FRAMES, w->n_frames, err);
    if (rc == 0)
        rc = add_blocks(w, PACK_CHUNKS, w->n_chunks, err);
    if (rc == 0)
        rc = add_blocks(w, PACK_ADDRESSES, w->n_addrs, err);
    if (rc == 0)
        rc = put_end(w, head, err);
    if (rc == 0) {
        struct sealed *file = w->file;

        w->file = NULL;
        pack_name(w->h.first, w->h.end, w->h.gen, name);
        rc = sealed_finish(file, head, name, err);
    }
    if (rc == 0 && out)
        *out = w->h;
    pack_drop(w);
    return rc;
}
