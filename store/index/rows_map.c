/*
 * rows_map.c: map rows. A piece starts with a byte that says which of its
 * fields are not as after the piece before it, so that a run of equal writes
 * in order costs four bytes a piece.
 */
#include "store/index/rows.h"
#include "store/index/rows_internal.h"

#include <assert.h>
#include <stdlib.h>

enum piece_bits {
    PB_GAP    = 1 << 0,   /* does not start where the piece before it ends */
    PB_LEN    = 1 << 1,   /* len differs from the piece before */
    PB_LSN    = 1 << 2,   /* lsn differs */
    PB_DSTART = 1 << 3,   /* dstart differs */
    PB_DOFF   = 1 << 4,   /* doff is not 0 */
    PB_BIRTH  = 1 << 5,   /* birth is not lsn */
    PB_ALL    = (1 << 6) - 1,
};

/* bits 1, gap 3, len 3, lsn 10, dstart 5, doff 4, birth 10 */
enum { PIECE_MAX = 36, MAP_HEAD_MAX = 1 + 10 + 5 + 5 + 5 };

/* Data of a record ends within it; its start is behind a frame header and the record's head. */
enum { DSTART_MAX = REC_HEAD_MAX + 65536 };

size_t row_map_bound(uint32_t n)
{
    return MAP_HEAD_MAX + (size_t)n * PIECE_MAX;
}

static const char *piece_wrong(const struct piece *p, uint32_t prev_end)
{
    if (p->len == 0 || p->off > BLOCK_BYTES || p->len > BLOCK_BYTES - p->off)
        return "a piece lies outside its block";
    if (p->off < prev_end)
        return "pieces overlap or are out of order";
    if (p->lsn == 0 || p->birth == 0)
        return "a piece without address or birth";
    if (p->dstart > DSTART_MAX || p->doff > REC_DATA_MAX || p->len > REC_DATA_MAX - p->doff)
        return "a piece beyond the data of its record";
    return NULL;
}

static unsigned piece_bits(const struct piece *p, const struct piece *prev, uint32_t prev_end)
{
    unsigned b = 0;

    b |= p->off != prev_end ? PB_GAP : 0u;
    b |= p->len != prev->len ? PB_LEN : 0u;
    b |= p->lsn != prev->lsn ? PB_LSN : 0u;
    b |= p->dstart != prev->dstart ? PB_DSTART : 0u;
    b |= p->doff != 0 ? PB_DOFF : 0u;
    b |= p->birth != p->lsn ? PB_BIRTH : 0u;
    return b;
}

static void put_pieces(struct wr *w, const struct piece *p, uint32_t n)
{
    struct piece prev = { 0 };
    uint32_t end = 0;

    for (uint32_t i = 0; i < n; i++, p++) {
        unsigned b = piece_bits(p, &prev, end);

        assert(!piece_wrong(p, end));
        wr_u8(w, (uint8_t)b);
        if (b & PB_GAP)
            wr_var(w, p->off - end);
        if (b & PB_LEN)
            wr_var(w, p->len);
        if (b & PB_LSN)
            wr_delta(w, p->lsn, prev.lsn);
        if (b & PB_DSTART)
            wr_var(w, p->dstart);
        if (b & PB_DOFF)
            wr_var(w, p->doff);
        if (b & PB_BIRTH)
            wr_delta(w, p->birth, p->lsn);
        prev = *p;
        end = p->off + p->len;
    }
}

size_t row_map_encode(const struct row_map *r, uint8_t *buf, size_t cap)
{
    struct wr w = wr_init(buf, cap);

    wr_u8(&w, ROW_VERSION);
    wr_var(&w, r->birth);
    wr_var(&w, r->since_image);
    wr_var(&w, r->n);
    wr_var(&w, r->n_image);
    put_pieces(&w, r->piece, r->n);
    if (r->n_image)
        put_pieces(&w, r->piece + r->n, r->n_image);
    return row_end(&w);
}

/* ${n} pieces into ${p}; NULL, or what is wrong. */
static const char *get_pieces(struct rd *r, struct piece *p, uint32_t n)
{
    struct piece prev = { 0 };
    uint32_t end = 0;

    for (uint32_t i = 0; i < n; i++, p++) {
        struct piece o;
        unsigned b = rd_u8(r);
        uint64_t gap;
        const char *wrong;

        gap = b & PB_GAP ? rd_var(r) : 0;
        o.len = b & PB_LEN ? rd_var32(r) : prev.len;
        o.lsn = b & PB_LSN ? rd_delta(r, prev.lsn) : prev.lsn;
        o.dstart = b & PB_DSTART ? rd_var32(r) : prev.dstart;
        o.doff = b & PB_DOFF ? rd_var32(r) : 0;
        o.birth = b & PB_BIRTH ? rd_delta(r, o.lsn) : o.lsn;
        if (r->bad || gap > BLOCK_BYTES)
            return "a field is cut off or out of range";
        o.off = end + (uint32_t)gap;
        wrong = piece_wrong(&o, end);
        if (wrong)
            return wrong;
        if (piece_bits(&o, &prev, end) != b)
            return "a field that says nothing";
        *p = o;
        prev = o;
        end = o.off + o.len;
    }
    return NULL;
}

int row_map_decode(const uint8_t *buf, size_t len, struct row_map *out, struct err *err)
{
    struct rd r = rd_init(buf, len);
    struct row_map o = { 0 };
    const char *wrong;

    if (rd_u8(&r) != ROW_VERSION)
        return row_damage(err, "map", "version");
    o.birth = rd_var(&r);
    o.since_image = rd_var32(&r);
    o.n = rd_var32(&r);
    o.n_image = rd_var32(&r);
    /* Each piece takes at least its first byte: this bounds what a false count can make us allocate. */
    if (r.bad || o.n > r.left || o.n_image > r.left - o.n)
        return row_damage(err, "map", "number of pieces");
    if (o.n + o.n_image > 0) {
        o.piece = calloc(o.n + o.n_image, sizeof *o.piece);
        if (!o.piece)
            return err_set(err, ERR_NOMEM, "map row of %u pieces", o.n + o.n_image);
        wrong = get_pieces(&r, o.piece, o.n);
        if (!wrong)
            wrong = get_pieces(&r, o.piece + o.n, o.n_image);
        if (wrong) {
            free(o.piece);
            return row_damage(err, "map", wrong);
        }
    }
    if (!rd_done(&r)) {
        free(o.piece);
        return row_damage(err, "map", "bytes behind its end");
    }
    *out = o;
    return 0;
}
