/* columns.c: see columns.h. */
#include "store/pack/columns.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { VAR_MAX = 10, COLUMN_FIRST_BYTES = 256 };

/* Room for ${len} more bytes in ${col}, or NULL and bad. */
static uint8_t *room(struct columns *c, unsigned col, size_t len)
{
    size_t cap, want;
    uint8_t *p;

    assert(col < COLUMNS_MAX);
    if (c->bad)
        return NULL;
    want = c->col[col].len + len;
    if (want > c->col[col].cap) {
        cap = c->col[col].cap ? c->col[col].cap : COLUMN_FIRST_BYTES;
        while (cap < want)
            cap *= 2;
        p = realloc(c->col[col].p, cap);
        if (p == NULL) {
            c->bad = true;
            return NULL;
        }
        c->col[col].p = p;
        c->col[col].cap = cap;
    }
    return c->col[col].p + c->col[col].len;
}

void columns_var(struct columns *c, unsigned col, uint64_t v)
{
    uint8_t *p = room(c, col, VAR_MAX);
    struct wr w;

    if (p == NULL)
        return;
    w = wr_init(p, VAR_MAX);
    wr_var(&w, v);
    assert(!w.bad);
    c->col[col].len += w.len;
}

void columns_bytes(struct columns *c, unsigned col, const void *src, size_t len)
{
    uint8_t *p = len ? room(c, col, len) : NULL;

    if (p == NULL)
        return;
    memcpy(p, src, len);
    c->col[col].len += len;
}

size_t columns_len(const struct columns *c)
{
    size_t n = 0;

    for (unsigned i = 0; i < COLUMNS_MAX; i++)
        n += c->col[i].len;
    return n;
}

size_t columns_take(const struct columns *c, const unsigned *which, size_t n, uint8_t *buf, size_t cap)
{
    struct wr w = wr_init(buf, cap);

    if (c->bad)
        return 0;
    for (size_t i = 0; i < n; i++) {
        assert(which[i] < COLUMNS_MAX);
        wr_var(&w, c->col[which[i]].len);
        if (c->col[which[i]].len)
            wr_bytes(&w, c->col[which[i]].p, c->col[which[i]].len);
    }
    return w.bad ? 0 : w.len;
}

void columns_clear(struct columns *c)
{
    for (unsigned i = 0; i < COLUMNS_MAX; i++)
        c->col[i].len = 0;
    c->bad = false;
}

void columns_release(struct columns *c)
{
    for (unsigned i = 0; i < COLUMNS_MAX; i++)
        free(c->col[i].p);
    memset(c, 0, sizeof *c);
}

bool columns_next(struct rd *r, struct rd *out)
{
    uint64_t len = rd_var(r);
    const uint8_t *p;

    if (len > r->left)
        r->bad = true;
    if (r->bad)
        return false;
    p = rd_bytes(r, (size_t)len);
    *out = rd_init(p, (size_t)len);
    return true;
}
