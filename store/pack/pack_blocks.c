/* pack_blocks.c: blocks of frames, of chunks and of addresses, as columns. What is accepted has this one encoding. */
#include "store/log/record.h"
#include "store/pack/columns.h"
#include "store/pack/pack.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { VAR_MAX = 10, HASH_BYTES = 16 };
enum { F_KIND, F_STORED, F_EXPANDED, F_BASE, F_DEPTH, FRAME_COLUMNS };
enum { C_NUMBER, C_FRAME, C_OFF, C_LEN, C_HASH, CHUNK_COLUMNS };
enum { A_LSN, A_DOFF, A_LEN, A_CHUNK, A_CHUNK_OFF, A_INO, A_OFF, ADDR_COLUMNS };
static_assert(FRAME_COLUMNS == 5 && CHUNK_COLUMNS == 5 && (int)ADDR_COLUMNS == 7, "columns in the order of FORMAT.md");

static const unsigned in_order[] = { 0, 1, 2, 3, 4, 5, 6 };

size_t pack_block_bound(uint32_t n)
{
    return (size_t)n * ADDR_COLUMNS * VAR_MAX + ADDR_COLUMNS * VAR_MAX;     /* addresses take the most */
}

static size_t take(struct columns *c, unsigned columns, uint8_t *buf, size_t cap)
{
    size_t len = columns_take(c, in_order, columns, buf, cap);

    columns_release(c);
    return len;
}

/* The ${n} columns of a block and nothing behind them. */
static bool get_columns(const uint8_t *buf, size_t len, struct rd *col, unsigned n)
{
    struct rd r = rd_init(buf, len);

    for (unsigned i = 0; i < n; i++)
        if (!columns_next(&r, &col[i]))
            return false;
    return rd_done(&r);
}

/* What ails the columns behind an entry; NULL: nothing. */
static const char *bad_columns(const struct rd *col, unsigned n, bool last)
{
    for (unsigned i = 0; i < n; i++) {
        if (col[i].bad)
            return "has a column that ends in it";
        if (last && col[i].left)
            return "is the last one, and the columns go on";
    }
    return NULL;
}

/*
 * Memory for b->entries entries of ${size} bytes, each of which has at least a byte in the first column; the block's columns into ${col}.
 */
static int begin(const uint8_t *buf, size_t len, const struct pack_block *b, const char *me, struct rd *col, unsigned n, size_t size, void **out,
                 struct err *err)
{
    if (b->entries == 0 || b->entries > PACK_ENTRIES_MAX)
        return err_set(err, ERR_DAMAGE, "%s: %" PRIu32 " entries, expected 1 to %d", me, b->entries, (int)PACK_ENTRIES_MAX);
    if (!get_columns(buf, len, col, n) || col[0].left < b->entries)
        return err_set(err, ERR_DAMAGE, "%s: expected %u columns of %" PRIu32 " numbers, found other bytes", me, n, b->entries);
    *out = calloc(b->entries, size);
    return *out ? 0 : err_set(err, ERR_NOMEM, "%s: out of memory", me);
}

static int end(void *v, void **out, const char *me, const char *why, uint32_t i, const struct pack_block *b, struct err *err)
{
    if (why == NULL) {
        *out = v;
        return 0;
    }
    free(v);
    return err_set(err, ERR_DAMAGE, "%s: entry %" PRIu32 " of %" PRIu32 " %s", me, i, b->entries, why);
}

/* ---- frames ---- */

size_t pack_frames_encode(const struct pack_frame *v, uint32_t n, uint8_t *buf, size_t cap)
{
    struct columns c = { 0 };
    uint64_t base = 0;

    for (uint32_t i = 0; i < n; i++) {
        columns_var(&c, F_KIND, v[i].kind);
        columns_var(&c, F_STORED, v[i].stored);
        columns_var(&c, F_EXPANDED, v[i].expanded);
        if (v[i].kind != PACK_DELTA)
            continue;
        columns_var(&c, F_BASE, zz(v[i].base - base));
        columns_var(&c, F_DEPTH, v[i].depth);
        base = v[i].base;
    }
    return take(&c, FRAME_COLUMNS, buf, cap);
}

/* One frame, which begins at f->at. *${base}: that of the delta before. NULL: it is good. */
static const char *get_frame(struct rd *col, uint64_t limit, uint64_t *base, struct pack_frame *f)
{
    uint64_t kind = rd_var(&col[F_KIND]), stored = rd_var(&col[F_STORED]), expanded = rd_var(&col[F_EXPANDED]), depth;

    if (kind > PACK_DELTA)
        return "is of no known kind";
    if (expanded == 0 || expanded > PACK_FRAME_MAX || stored == 0 || stored > PACK_STORED_MAX || stored > limit - f->at ||
        (kind == PACK_RAW && stored != expanded) || (kind == PACK_DELTA && expanded > PACK_CHUNK_MAX))
        return "has a length out of its bounds";
    f->kind = (uint8_t)kind;
    f->stored = (uint32_t)stored;
    f->expanded = (uint32_t)expanded;
    if (kind != PACK_DELTA)
        return NULL;
    *base += zz_get(rd_var(&col[F_BASE]));
    depth = rd_var(&col[F_DEPTH]);
    if (*base == 0 || *base > INT64_MAX)
        return "has a base out of its bounds";
    if (depth == 0 || depth > PACK_DEPTH_MAX)
        return "has a depth out of its bounds";
    f->base = *base;
    f->depth = (uint8_t)depth;
    return NULL;
}

int pack_frames_decode(const uint8_t *buf, size_t len, const struct pack_head *h, const struct pack_block *b, struct pack_frame **out, struct err *err)
{
    static const char me[] = "block of frames";
    struct rd col[FRAME_COLUMNS];
    uint64_t at = b->frames_at, base = 0;
    const char *why = NULL;
    struct pack_frame *v;
    void *p = NULL;
    uint32_t i = 0;
    int rc = begin(buf, len, b, me, col, FRAME_COLUMNS, sizeof *v, &p, err);

    if (rc)
        return rc;
    v = p;
    if (at < PACK_HEAD_BYTES || at > h->tables_at)
        why = "begins out of its bounds";
    while (why == NULL) {
        v[i].at = at;
        why = get_frame(col, h->tables_at, &base, &v[i]);
        at += v[i].stored;
        if (why == NULL)
            why = bad_columns(col, FRAME_COLUMNS, i + 1 == b->entries);
        if (why || ++i == b->entries)
            break;
    }
    rc = end(v, &p, me, why, i, b, err);
    if (rc == 0)
        *out = v;
    return rc;
}

/* ---- chunks ---- */

size_t pack_chunks_encode(const struct pack_chunk *v, uint32_t n, uint8_t *buf, size_t cap)
{
    struct columns c = { 0 };
    struct pack_chunk p = { .number = n ? v[0].number : 0 };

    for (uint32_t i = 0; i < n; p = v[i++]) {
        columns_var(&c, C_NUMBER, v[i].number - p.number);
        columns_var(&c, C_FRAME, zz((uint64_t)v[i].frame - p.frame));
        columns_var(&c, C_OFF, zz(v[i].frame == p.frame ? (uint64_t)v[i].off - p.off - p.len : v[i].off));
        columns_var(&c, C_LEN, v[i].len);
        columns_bytes(&c, C_HASH, v[i].hash.b, HASH_BYTES);
    }
    return take(&c, CHUNK_COLUMNS, buf, cap);
}

/* One chunk behind ${p} (all zero but its number for the ${first} one). NULL: it is good. */
static const char *get_chunk(struct rd *col, bool first, const struct pack_chunk *p, struct pack_chunk *k)
{
    uint64_t gap = rd_var(&col[C_NUMBER]), frame = p->frame + zz_get(rd_var(&col[C_FRAME])), off = zz_get(rd_var(&col[C_OFF])),
             len = rd_var(&col[C_LEN]);
    const uint8_t *sum = rd_bytes(&col[C_HASH], HASH_BYTES);

    if ((gap == 0) != first || gap > INT64_MAX - p->number)
        return "has a chunk number out of its bounds";
    if (frame >= (uint64_t)PACK_BLOCKS_MAX * PACK_ENTRIES_MAX)
        return "has a frame out of its bounds";
    if (frame == p->frame)
        off += (uint64_t)p->off + p->len;
    if (len == 0 || len > PACK_CHUNK_MAX || off > PACK_FRAME_MAX - len)
        return "has a length or a place out of its bounds";
    if (sum == NULL)
        return "has no hash";
    *k = (struct pack_chunk){ .number = p->number + gap, .frame = (uint32_t)frame, .off = (uint32_t)off, .len = (uint32_t)len };
    memcpy(k->hash.b, sum, HASH_BYTES);
    return NULL;
}

int pack_chunks_decode(const uint8_t *buf, size_t len, const struct pack_head *h, const struct pack_block *b, struct pack_chunk **out, struct err *err)
{
    static const char me[] = "block of chunks";
    struct pack_chunk p = { .number = b->least }, *v;
    struct rd col[CHUNK_COLUMNS];
    const char *why = NULL;
    void *at = NULL;
    uint32_t i = 0;
    int rc = begin(buf, len, b, me, col, CHUNK_COLUMNS, sizeof *v, &at, err);

    (void)h;
    if (rc)
        return rc;
    v = at;
    if (b->least == 0 || b->least > INT64_MAX)
        why = "has a chunk number out of its bounds";
    while (why == NULL) {
        why = get_chunk(col, i == 0, &p, &v[i]);
        if (why == NULL)
            why = bad_columns(col, CHUNK_COLUMNS, i + 1 == b->entries);
        p = v[i];
        if (why || ++i == b->entries)
            break;
    }
    rc = end(v, &at, me, why, i, b, err);
    if (rc == 0)
        *out = v;
    return rc;
}

/* ---- addresses ---- */

size_t pack_addrs_encode(const struct pack_addr *v, uint32_t n, uint8_t *buf, size_t cap)
{
    struct columns c = { 0 };
    struct pack_addr p = { .lsn = n ? v[0].lsn : 0 };
    uint64_t diff = 0;

    for (uint32_t i = 0; i < n; p = v[i++]) {
        const struct pack_addr *a = &v[i];

        columns_var(&c, A_LSN, (a->lsn - p.lsn) / 8);
        columns_var(&c, A_DOFF, i > 0 && a->lsn == p.lsn ? a->doff - (p.doff + p.len) : a->doff);
        columns_var(&c, A_LEN, a->len);
        columns_var(&c, A_CHUNK, zz(a->chunk - a->lsn - diff));
        columns_var(&c, A_CHUNK_OFF, zz(a->chunk == p.chunk ? (uint64_t)a->chunk_off - p.chunk_off - p.len : a->chunk_off));
        columns_var(&c, A_INO, zz(a->ino - p.ino));
        columns_var(&c, A_OFF, zz(a->off - p.off - p.len));
        diff = a->chunk - a->lsn;
    }
    return take(&c, ADDR_COLUMNS, buf, cap);
}

/* One entry behind ${p} (all zero but lsn for the ${first} one); *${diff}: chunk less LSN of it. NULL: it is good. */
static const char *get_addr(struct rd *col, uint64_t limit, bool first, const struct pack_addr *p, uint64_t *diff, struct pack_addr *a)
{
    uint64_t gap = rd_var(&col[A_LSN]), doff = rd_var(&col[A_DOFF]), len = rd_var(&col[A_LEN]), coff;

    if (gap > (limit - 1 - p->lsn) / 8 || (first && gap != 0))
        return "has an address out of its bounds";
    if (len == 0 || len > PACK_CHUNK_MAX || doff > REC_DATA_MAX)
        return "has a length or an offset out of its bounds";
    doff += !first && gap == 0 ? p->doff + p->len : 0;
    if (doff + len > REC_DATA_MAX)
        return "ends behind any record's data";
    *diff += zz_get(rd_var(&col[A_CHUNK]));
    a->lsn = p->lsn + 8 * gap;
    a->chunk = a->lsn + *diff;
    if (a->chunk == 0 || a->chunk > INT64_MAX)
        return "has a chunk number out of its bounds";
    coff = zz_get(rd_var(&col[A_CHUNK_OFF]));
    if (a->chunk == p->chunk)
        coff += (uint64_t)p->chunk_off + p->len;
    if (coff > PACK_CHUNK_MAX - len)
        return "ends behind any chunk";
    a->doff = (uint32_t)doff;
    a->len = (uint32_t)len;
    a->chunk_off = (uint32_t)coff;
    a->ino = p->ino + zz_get(rd_var(&col[A_INO]));
    a->off = p->off + p->len + zz_get(rd_var(&col[A_OFF]));
    return NULL;
}

int pack_addrs_decode(const uint8_t *buf, size_t len, const struct pack_head *h, const struct pack_block *b, struct pack_addr **out, struct err *err)
{
    static const char me[] = "block of addresses";
    struct pack_addr p = { .lsn = b->least }, *v;
    struct rd col[ADDR_COLUMNS];
    const char *why = NULL;
    uint64_t diff = 0;
    void *at = NULL;
    uint32_t i = 0;
    int rc = begin(buf, len, b, me, col, ADDR_COLUMNS, sizeof *v, &at, err);

    if (rc)
        return rc;
    v = at;
    if (b->least < h->first || b->least >= h->end || b->least % 8 != 0)
        why = "has an address out of its bounds";
    while (why == NULL) {
        why = get_addr(col, h->end, i == 0, &p, &diff, &v[i]);
        if (why == NULL)
            why = bad_columns(col, ADDR_COLUMNS, i + 1 == b->entries);
        p = v[i];
        if (why || ++i == b->entries)
            break;
    }
    rc = end(v, &at, me, why, i, b, err);
    if (rc == 0)
        *out = v;
    return rc;
}
