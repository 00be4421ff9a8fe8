#include "store/base/bytes.h"

#include <string.h>

const uint8_t *rd_bytes(struct rd *r, size_t len)
{
    const uint8_t *p = r->p;

    if (r->bad || r->left < len) {
        r->bad = true;
        return NULL;
    }
    if (len) {
        r->p += len;
        r->left -= len;
    }
    return p;
}

/* Little-endian value of n <= 8 bytes; 0 when there are too few. */
static uint64_t rd_le(struct rd *r, size_t n)
{
    const uint8_t *p = rd_bytes(r, n);
    uint64_t v = 0;

    for (size_t i = n; p && i > 0; i--)
        v = v << 8 | p[i - 1];
    return v;
}

static uint64_t rd_be(struct rd *r, size_t n)
{
    const uint8_t *p = rd_bytes(r, n);
    uint64_t v = 0;

    for (size_t i = 0; p && i < n; i++)
        v = v << 8 | p[i];
    return v;
}

uint8_t  rd_u8(struct rd *r)   { return (uint8_t)rd_le(r, 1); }
uint16_t rd_u16(struct rd *r)  { return (uint16_t)rd_le(r, 2); }
uint32_t rd_u32(struct rd *r)  { return (uint32_t)rd_le(r, 4); }
uint64_t rd_u64(struct rd *r)  { return rd_le(r, 8); }
int64_t  rd_i64(struct rd *r)  { return (int64_t)rd_le(r, 8); }
uint32_t rd_be32(struct rd *r) { return (uint32_t)rd_be(r, 4); }
uint64_t rd_be64(struct rd *r) { return rd_be(r, 8); }

uint64_t rd_var(struct rd *r)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < 10; i++) {
        const uint8_t *p = rd_bytes(r, 1);

        if (!p)
            return 0;
        if (i == 9 && *p > 1)           /* beyond 64 bits */
            break;
        if (i > 0 && *p == 0)           /* a shorter encoding exists */
            break;
        v |= (uint64_t)(*p & 0x7f) << (7 * i);
        if (!(*p & 0x80))
            return v;
    }
    r->bad = true;
    return 0;
}

void rd_zero(struct rd *r, size_t len)
{
    const uint8_t *p = rd_bytes(r, len);

    for (size_t i = 0; p && i < len; i++)
        if (p[i]) {
            r->bad = true;
            return;
        }
}

bool rd_done(const struct rd *r)
{
    return !r->bad && r->left == 0;
}

/* The next len bytes to write to, or NULL and bad. */
static uint8_t *wr_take(struct wr *w, size_t len)
{
    uint8_t *p = w->p;

    if (w->bad || w->left < len) {
        w->bad = true;
        return NULL;
    }
    if (len) {
        w->p += len;
        w->left -= len;
        w->len += len;
    }
    return p;
}

void wr_bytes(struct wr *w, const void *src, size_t len)
{
    uint8_t *p = wr_take(w, len);

    if (p && len)
        memcpy(p, src, len);
}

static void wr_le(struct wr *w, uint64_t v, size_t n)
{
    uint8_t *p = wr_take(w, n);

    for (size_t i = 0; p && i < n; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static void wr_be(struct wr *w, uint64_t v, size_t n)
{
    uint8_t *p = wr_take(w, n);

    for (size_t i = 0; p && i < n; i++)
        p[i] = (uint8_t)(v >> (8 * (n - 1 - i)));
}

void wr_u8(struct wr *w, uint8_t v)    { wr_le(w, v, 1); }
void wr_u16(struct wr *w, uint16_t v)  { wr_le(w, v, 2); }
void wr_u32(struct wr *w, uint32_t v)  { wr_le(w, v, 4); }
void wr_u64(struct wr *w, uint64_t v)  { wr_le(w, v, 8); }
void wr_i64(struct wr *w, int64_t v)   { wr_le(w, (uint64_t)v, 8); }
void wr_be32(struct wr *w, uint32_t v) { wr_be(w, v, 4); }
void wr_be64(struct wr *w, uint64_t v) { wr_be(w, v, 8); }

void wr_var(struct wr *w, uint64_t v)
{
    uint8_t buf[10];
    size_t n = 0;

    do {
        buf[n++] = (uint8_t)((v & 0x7f) | (v > 0x7f ? 0x80 : 0));
        v >>= 7;
    } while (v);
    wr_bytes(w, buf, n);
}

void wr_zero(struct wr *w, size_t len)
{
    uint8_t *p = wr_take(w, len);

    if (p && len)
        memset(p, 0, len);
}

void put_u32(uint8_t *p, uint32_t v)
{
    for (unsigned i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

void put_u64(uint8_t *p, uint64_t v)
{
    for (unsigned i = 0; i < 8; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

void put_be64(uint8_t *p, uint64_t v)
{
    for (unsigned i = 0; i < 8; i++)
        p[i] = (uint8_t)(v >> (8 * (7 - i)));
}

uint32_t get_u32(const uint8_t *p)
{
    uint32_t v = 0;

    for (unsigned i = 4; i > 0; i--)
        v = v << 8 | p[i - 1];
    return v;
}

uint64_t get_u64(const uint8_t *p)
{
    uint64_t v = 0;

    for (unsigned i = 8; i > 0; i--)
        v = v << 8 | p[i - 1];
    return v;
}

uint64_t get_be64(const uint8_t *p)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < 8; i++)
        v = v << 8 | p[i];
    return v;
}
