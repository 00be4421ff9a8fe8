/* model_data.c: content of the model's files, and its ACLs. */
#include "tests/sim/model_internal.h"

#include <stdlib.h>
#include <string.h>

static size_t page_at(const struct mino *i, uint64_t idx)
{
    size_t lo = 0, hi = i->n_page;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (i->page[mid].idx < idx)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static struct mpage *page_get(struct mino *i, uint64_t idx)
{
    size_t at = page_at(i, idx);
    if (at < i->n_page && i->page[at].idx == idx)
        return &i->page[at];
    i->page = m_grow(i->page, &i->cap_page, i->n_page + 1, sizeof *i->page);
    memmove(i->page + at + 1, i->page + at, (i->n_page - at) * sizeof *i->page);
    i->page[at] = (struct mpage){ .idx = idx, .p = m_alloc(M_PAGE) };
    i->n_page++;
    return &i->page[at];
}

static void page_changed(struct mino *i, struct mpage *p)
{
    struct mhash h = mhash_page(p->idx, p->p);
    i->a.data = mhash_add(mhash_sub(i->a.data, p->h), h);
    p->h = h;
}

void mdata_write(struct mino *i, uint64_t off, const uint8_t *buf, size_t len)
{
    while (len > 0) {
        size_t in = (size_t)(off % M_PAGE), n = M_PAGE - in < len ? M_PAGE - in : len;
        struct mpage *p = page_get(i, off / M_PAGE);
        memcpy(p->p + in, buf, n);
        page_changed(i, p);
        off += n;
        buf += n;
        len -= n;
    }
}

/* Zeros in [from, to); what is not there is zero already. */
void mdata_zero(struct mino *i, uint64_t from, uint64_t to)
{
    size_t keep = 0;
    if (from >= to)
        return;
    for (size_t k = 0; k < i->n_page; k++) {
        struct mpage *p = &i->page[k];
        uint64_t base = p->idx * M_PAGE;
        if (base + M_PAGE > from && base < to) {
            uint64_t f = from > base ? from - base : 0, t = to - base < M_PAGE ? to - base : M_PAGE;
            memset(p->p + f, 0, (size_t)(t - f));
            page_changed(i, p);
            if (f == 0 && t == M_PAGE) {
                free(p->p);
                continue;
            }
        }
        i->page[keep++] = *p;
    }
    i->n_page = keep;
}

size_t model_read(const struct mino *i, uint64_t off, void *buf, size_t len)
{
    uint8_t *out = buf;
    size_t got = 0;
    if (off >= i->a.size)
        return 0;
    if (len > i->a.size - off)
        len = (size_t)(i->a.size - off);
    memset(out, 0, len);
    for (size_t k = page_at(i, off / M_PAGE); k < i->n_page && i->page[k].idx * M_PAGE < off + len; k++) {
        uint64_t base = i->page[k].idx * M_PAGE;
        uint64_t f = base > off ? base : off, t = base + M_PAGE < off + len ? base + M_PAGE : off + len;
        memcpy(out + (f - off), i->page[k].p + (f - base), (size_t)(t - f));
    }
    got = len;
    return got;
}

bool model_page_zero(const struct mino *i, uint64_t idx)
{
    size_t at = page_at(i, idx);
    return at >= i->n_page || i->page[at].idx != idx || (i->page[at].h.a == 0 && i->page[at].h.b == 0);
}

void mdata_resize(struct mino *i, uint64_t size)
{
    if (size < i->a.size)
        mdata_zero(i, size, (i->a.size + M_PAGE - 1) / M_PAGE * M_PAGE);
    i->a.size = size;
}

/* As read before written: the ranges may overlap. */
void mdata_clone(struct mino *dst, uint64_t dst_off, const struct mino *src, uint64_t src_off, uint64_t len)
{
    uint64_t from = src_off / M_PAGE, to = (src_off + len + M_PAGE - 1) / M_PAGE;
    size_t n = 0, first = page_at(src, from), last = page_at(src, to);
    struct { uint64_t off; uint8_t p[M_PAGE]; size_t len; } *copy = m_alloc((last - first) * sizeof *copy);
    for (size_t k = first; k < last; k++, n++) {
        uint64_t base = src->page[k].idx * M_PAGE;
        uint64_t f = base > src_off ? base : src_off, t = base + M_PAGE < src_off + len ? base + M_PAGE : src_off + len;
        copy[n].off = dst_off + (f - src_off);
        copy[n].len = t > f ? (size_t)(t - f) : 0;
        memcpy(copy[n].p, src->page[k].p + (f - base), copy[n].len);
    }
    mdata_zero(dst, dst_off, dst_off + len);
    for (size_t k = 0; k < n; k++)
        mdata_write(dst, copy[k].off, copy[k].p, copy[k].len);
    free(copy);
}

/* ---- ACLs: le32 version 2, then {le16 tag, le16 permissions, le32 id} ---- */

enum { TAG_USER_OBJ = 1, TAG_USER = 2, TAG_GROUP_OBJ = 4, TAG_GROUP = 8, TAG_MASK = 16, TAG_OTHER = 32 };

static unsigned tag_at(const uint8_t *v, size_t at) { return (unsigned)v[at] | (unsigned)v[at + 1] << 8; }

static uint8_t *entry(uint8_t *v, size_t len, unsigned tag)
{
    for (size_t at = 4; at + 8 <= len; at += 8)
        if (tag_at(v, at) == tag)
            return v + at + 2;
    return NULL;
}

bool macl_valid(const uint8_t *v, size_t len)
{
    unsigned seen = 0;
    if (len < 4 || (len - 4) % 8 != 0 || v[0] != 2 || v[1] != 0 || v[2] != 0 || v[3] != 0)
        return false;
    for (size_t at = 4; at < len; at += 8)
        seen |= tag_at(v, at);
    bool base = (seen & 1) && (seen & 4) && (seen & 32) && seen < 64;
    return base && (!(seen & (TAG_USER | TAG_GROUP)) || (seen & TAG_MASK));
}

bool macl_is_mode(const uint8_t *v, size_t len)
{
    for (size_t at = 4; at + 8 <= len; at += 8)
        if (tag_at(v, at) & (TAG_USER | TAG_GROUP | TAG_MASK))
            return false;
    return true;
}

static void three(uint8_t *v, size_t len, uint8_t *who[3])
{
    who[0] = entry(v, len, TAG_USER_OBJ);
    who[1] = entry(v, len, TAG_MASK);
    if (who[1] == NULL)
        who[1] = entry(v, len, TAG_GROUP_OBJ);
    who[2] = entry(v, len, TAG_OTHER);
}

uint32_t macl_mode(const uint8_t *v, size_t len, uint32_t mode)
{
    uint8_t copy[1024], *who[3];
    memcpy(copy, v, len < sizeof copy ? len : sizeof copy);
    three(copy, len, who);
    return (mode & ~0777u) | (uint32_t)(*who[0] & 7) << 6 | (uint32_t)(*who[1] & 7) << 3 | (uint32_t)(*who[2] & 7);
}

void macl_chmod(uint8_t *v, size_t len, uint32_t mode)
{
    uint8_t *who[3];
    three(v, len, who);
    *who[0] = (uint8_t)(mode >> 6 & 7);
    *who[1] = (uint8_t)(mode >> 3 & 7);
    *who[2] = (uint8_t)(mode & 7);
}

uint32_t macl_create(uint8_t *v, size_t len, uint32_t mode)
{
    uint8_t *who[3];
    three(v, len, who);
    *who[0] = (uint8_t)(*who[0] & (mode >> 6 & 7));
    *who[1] = (uint8_t)(*who[1] & (mode >> 3 & 7));
    *who[2] = (uint8_t)(*who[2] & (mode & 7));
    return macl_mode(v, len, mode);
}
