/* model_hash.c: the model's own hash, and small things that belong to no object. */
#include "tests/sim/model.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define K0 0x9e3779b97f4a7c15ull
#define K1 0xbf58476d1ce4e5b9ull
#define K2 0x94d049bb133111ebull
#define K3 0xd6e8feb86659fd93ull

void *m_alloc(size_t n)
{
    void *p = calloc(1, n > 0 ? n : 1);
    if (p == NULL)
        abort();
    return p;
}

void *m_grow(void *p, size_t *cap, size_t need, size_t each)
{
    if (need <= *cap)
        return p;
    size_t n = *cap == 0 ? 8 : *cap;
    while (n < need)
        n *= 2;
    p = realloc(p, n * each);
    if (p == NULL)
        abort();
    *cap = n;
    return p;
}

static uint64_t mum(uint64_t x, uint64_t y)
{
    unsigned __int128 r = (unsigned __int128)x * y;
    return (uint64_t)r ^ (uint64_t)(r >> 64);
}

static uint64_t load(const uint8_t *p, size_t n)
{
    uint64_t v = 0;
    memcpy(&v, p, n);
    return v;
}

struct mhash mhash_bytes(uint64_t seed, const void *data, size_t n)
{
    const uint8_t *p = data;
    uint64_t a = seed ^ K0, b = (seed + n) * K3 + 1;
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        uint64_t x = load(p + i, 8), y = load(p + i + 8, 8);
        a = mum(x ^ K1 ^ b, y ^ a);
        b = (b << 23 | b >> 41) * K2 + (x ^ (y * K3));
    }
    if (i < n) {
        size_t k = n - i;
        uint64_t x = load(p + i, k < 8 ? k : 8), y = k > 8 ? load(p + i + 8, k - 8) : 0;
        a = mum(x ^ K1 ^ b, y ^ a);
        b = (b << 23 | b >> 41) * K2 + (x ^ (y * K3));
    }
    return (struct mhash){ mum(a ^ n, K2 ^ b), mum(b ^ K0, a ^ K3) };
}

struct mhash mhash_add(struct mhash x, struct mhash y) { return (struct mhash){ x.a + y.a, x.b + y.b }; }
struct mhash mhash_sub(struct mhash x, struct mhash y) { return (struct mhash){ x.a - y.a, x.b - y.b }; }
bool mhash_eq(struct mhash x, struct mhash y) { return x.a == y.a && x.b == y.b; }

struct mhash mhash_page(uint64_t idx, const uint8_t *p)
{
    if (p[0] == 0 && memcmp(p, p + 1, M_PAGE - 1) == 0)
        return (struct mhash){ 0, 0 };
    return mhash_bytes(idx * K1 + 7, p, M_PAGE);
}

struct mhash mhash_xattr(const char *name, const void *val, size_t vlen)
{
    struct mhash n = mhash_bytes(3, name, strlen(name));
    return mhash_bytes(n.a ^ n.b, val, vlen);
}

struct mhash mhash_attr(const struct mattr *a)
{
    uint64_t v[] = {
        a->ino, a->size, a->mode, a->uid, a->gid, a->rdev, a->nlink,
        (uint64_t)a->at.sec, a->at.nsec, (uint64_t)a->mt.sec, a->mt.nsec, (uint64_t)a->ct.sec, a->ct.nsec,
        a->data.a, a->data.b, a->xattr.a, a->xattr.b, 0, 0,
    };
    if (a->target != NULL) {
        struct mhash t = mhash_bytes(5, a->target, strlen(a->target));
        v[17] = t.a;
        v[18] = t.b;
    }
    return mhash_bytes(1, v, sizeof v);
}

struct mhash mhash_dent(uint64_t parent, const char *name, size_t nlen, uint64_t child, uint32_t type)
{
    struct mhash n = mhash_bytes(11, name, nlen);
    uint64_t v[] = { parent, child, type, n.a, n.b };
    return mhash_bytes(2, v, sizeof v);
}

const char *mop_name(enum mop_kind k)
{
    static const char *const names[] = {
#define X(name) #name,
        MOP_TABLE(X)
#undef X
    };
    return k < MOP_N_KINDS ? names[k] : "NONE";
}

void mop_free(struct mop *op)
{
    free(op->data);
    op->data = NULL;
}

void mop_copy(struct mop *to, const struct mop *from)
{
    *to = *from;
    if (from->data != NULL) {
        to->data = m_alloc(from->dlen + 1u);
        memcpy(to->data, from->data, from->dlen);
    }
}

static void name_text(const char *name, uint32_t nlen, char *buf, size_t cap)
{
    size_t n = 0;
    for (uint32_t i = 0; i < nlen && i < 12 && n + 8 < cap; i++) {
        unsigned char c = (unsigned char)name[i];
        if (c > 32 && c < 127)
            buf[n++] = (char)c;
        else
            n += (size_t)snprintf(buf + n, cap - n, "\\x%02x", c);
    }
    snprintf(buf + n, cap - n, nlen > 12 ? "..(%u)" : "%.0u", nlen);
}

void mop_text(const struct mop *op, char *buf, size_t cap)
{
    char a[80], b[80];
    name_text(op->name, op->nlen, a, sizeof a);
    name_text(op->name2, op->nlen2, b, sizeof b);
    snprintf(buf, cap,
             "%s ino=%" PRIu64 " parent=%" PRIu64 " name='%s' parent2=%" PRIu64 " name2='%s' mode=%o flags=%u valid=%u "
             "size=%" PRIu64 " off=%" PRIu64 " len=%" PRIu64 " src=%" PRIu64 "@%" PRIu64 "+%" PRIu64
             " dlen=%u uid=%u kill=%d by_name=%d%d now=%" PRId64 " lsn=%" PRIu64,
             mop_name(op->kind), op->ino, op->parent, a, op->parent2, b, op->mode, op->flags, op->valid, op->size, op->off,
             op->len, op->src_ino, op->src_at, op->src_off, op->dlen, op->uid, op->kill, op->by_name, op->by_name2, op->now_ns, op->lsn);
}
