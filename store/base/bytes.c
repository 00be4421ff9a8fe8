#include "store/base/bytes.h"

#include <endian.h>
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

uint8_t rd_u8(struct rd *r)
{
    const uint8_t *p = rd_bytes(r, 1);

    return p ? *p : 0;
}

uint16_t rd_u16(struct rd *r)
{
    const uint8_t *p = rd_bytes(r, 2);

    return (uint16_t)(p ? p[0] | p[1] << 8 : 0);
}

uint32_t rd_u32(struct rd *r)
{
    const uint8_t *p = rd_bytes(r, 4);

    return p ? get_u32(p) : 0;
}

uint64_t rd_u64(struct rd *r)
{
    const uint8_t *p = rd_bytes(r, 8);

    return p ? get_u64(p) : 0;
}

int64_t rd_i64(struct rd *r) { return (int64_t)rd_u64(r); }

uint32_t rd_be32(struct rd *r)
{
    const uint8_t *p = rd_bytes(r, 4);
    uint32_t v = 0;

    if (p)
        memcpy(&v, p, 4);
    return be32toh(v);
}

uint64_t rd_be64(struct rd *r)
{
    const uint8_t *p = rd_bytes(r, 8);

    return p ? get_be64(p) : 0;
}

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

void wr_u8(struct wr *w, uint8_t v)
{
    uint8_t *p = wr_take(w, 1);

    if (p)
        *p = v;
}

void wr_u16(struct wr *w, uint16_t v)
{
    uint8_t *p = wr_take(w, 2);

    if (p) {
        p[0] = (uint8_t)v;
        p[1] = (uint8_t)(v >> 8);
    }
}

void wr_u32(struct wr *w, uint32_t v)
{
    uint8_t *p = wr_take(w, 4);

    if (p)
        put_u32(p, v);
}

void wr_u64(struct wr *w, uint64_t v)
{
    uint8_t *p = wr_take(w, 8);

    if (p)
        put_u64(p, v);
}

void wr_i64(struct wr *w, int64_t v) { wr_u64(w, (uint64_t)v); }

void wr_be32(struct wr *w, uint32_t v)
{
    v = htobe32(v);
    wr_bytes(w, &v, 4);
}

void wr_be64(struct wr *w, uint64_t v)
{
    uint8_t *p = wr_take(w, 8);

    if (p)
        put_be64(p, v);
}

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
    v = htole32(v);
    memcpy(p, &v, 4);
}

void put_u64(uint8_t *p, uint64_t v)
{
    v = htole64(v);
    memcpy(p, &v, 8);
}

void put_be64(uint8_t *p, uint64_t v)
{
    v = htobe64(v);
    memcpy(p, &v, 8);
}

uint32_t get_u32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, 4);
    return le32toh(v);
}

uint64_t get_u64(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, 8);
    return le64toh(v);
}

uint64_t get_be64(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, 8);
    return be64toh(v);
}

bool hex_digits(const char *s, int n, uint64_t *out)
{
    uint64_t v = 0;

    for (int i = 0; i < n; i++) {
        if (s[i] >= '0' && s[i] <= '9')
            v = v << 4 | (uint64_t)(s[i] - '0');
        else if (s[i] >= 'a' && s[i] <= 'f')
            v = v << 4 | (uint64_t)(s[i] - 'a' + 10);
        else
            return false;
    }
    *out = v;
    return true;
}

void hex_put(char *to, const uint8_t *p, size_t n)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < n; i++) {
        *to++ = digits[p[i] >> 4];
        *to++ = digits[p[i] & 15];
    }
    *to = '\0';
}

bool hex_get(const char *hex, uint8_t *p, size_t n)
{
    uint64_t v;

    for (size_t i = 0; i < n; i++) {
        if (!hex_digits(hex + 2 * i, 2, &v))
            return false;
        p[i] = (uint8_t)v;
    }
    return true;
}
