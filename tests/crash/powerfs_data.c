/* powerfs_data: content of files, its pending writes, and what a cut leaves. */
#include "tests/crash/powerfs_image.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>

/* Stands for allocated space that holds no data; never counted, never freed. */
static struct pf_page zero_page;

static void page_unref(struct pf_page *pg)
{
    if (pg != NULL && pg != &zero_page && --pg->refs == 0)
        free(pg);
}

static struct pf_page *page_ref(struct pf_page *pg)
{
    if (pg != NULL && pg != &zero_page)
        pg->refs++;
    return pg;
}

static struct pf_page *map_get(const struct pf_map *m, uint64_t idx)
{
    return idx < m->n ? m->page[idx] : NULL;
}

static void map_set(struct pf_map *m, uint64_t idx, struct pf_page *pg)
{
    if (idx >= m->n) {
        if (pg == NULL)
            return;
        size_t cap = m->n;
        size_t want = (size_t)idx + 1 + (size_t)idx / 4;
        m->page = pf_grow(m->page, &cap, want, sizeof(struct pf_page *));
        m->n = cap;
    }
    page_unref(m->page[idx]);
    m->page[idx] = pg;
}

/* A page of m that may be changed in place. */
static uint8_t *map_own(struct pf_map *m, uint64_t idx)
{
    struct pf_page *pg = map_get(m, idx);
    if (pg != NULL && pg != &zero_page && pg->refs == 1)
        return pg->data;
    struct pf_page *fresh = malloc(sizeof(*fresh));
    if (fresh == NULL)
        abort();
    fresh->refs = 1;
    if (pg != NULL)
        memcpy(fresh->data, pg->data, PF_PAGE);
    else
        memset(fresh->data, 0, PF_PAGE);
    map_set(m, idx, fresh);
    return fresh->data;
}

static void map_release(struct pf_map *m)
{
    for (size_t i = 0; i < m->n; i++)
        page_unref(m->page[i]);
    free(m->page);
    *m = (struct pf_map){ 0 };
}

static void map_copy(struct pf_map *to, const struct pf_map *from)
{
    size_t n = from->n;
    while (n > 0 && from->page[n - 1] == NULL)
        n--;
    *to = (struct pf_map){ .n = n, .size = from->size };
    if (n == 0)
        return;
    to->page = pf_alloc(n * sizeof(struct pf_page *));
    for (size_t i = 0; i < n; i++)
        to->page[i] = page_ref(from->page[i]);
}

static void map_truncate(struct pf_map *m, uint64_t size)
{
    uint64_t idx = size / PF_PAGE;
    size_t tail = size % PF_PAGE;
    if (size < m->size) {
        if (tail != 0 && map_get(m, idx) != NULL && map_get(m, idx) != &zero_page)
            memset(map_own(m, idx) + tail, 0, PF_PAGE - tail);
        for (uint64_t i = idx + (tail != 0); i < m->n; i++)
            map_set(m, i, NULL);
    }
    m->size = size;
}

static bool is_stale(const struct pf_inode *in, uint64_t idx)
{
    for (size_t i = 0; i < in->nstale; i++)
        if (in->stale[i] == idx)
            return true;
    return false;
}

static void stale_remove(struct pf_inode *in, uint64_t first, uint64_t last)
{
    size_t k = 0;
    for (size_t i = 0; i < in->nstale; i++)
        if (in->stale[i] < first || in->stale[i] > last)
            in->stale[k++] = in->stale[i];
    in->nstale = k;
}

static void stale_add(struct pf_inode *in, uint64_t idx)
{
    if (is_stale(in, idx))
        return;
    size_t cap = in->nstale;
    in->stale = pf_grow(in->stale, &cap, in->nstale + 1, sizeof(uint64_t));
    in->stale[in->nstale++] = idx;
}

static void op_unref(struct pf_data_op *op)
{
    if (--op->refs > 0)
        return;
    page_unref(op->whole);
    free(op);
}

static void op_add(struct pf_image *img, struct pf_inode *in, enum pf_data_kind kind,
                   uint64_t page, size_t off, size_t len, uint64_t size, const void *data)
{
    bool whole = data != NULL && len == PF_PAGE;
    struct pf_data_op *op = malloc(sizeof(*op) + (data != NULL && !whole ? len : 0));
    if (op == NULL)
        abort();
    /* What a truncate zeroes shares the number of the truncate, which follows. */
    uint64_t seq = kind == PF_DATA_TRUNC_ZERO ? img->next_seq : img->next_seq++;
    *op = (struct pf_data_op){ .seq = seq, .page = page, .size = size,
                               .refs = 1, .off = (uint16_t)off, .len = (uint16_t)len,
                               .kind = kind };
    if (whole)
        op->whole = page_ref(map_get(&in->v, page));
    else if (data != NULL)
        memcpy(op->data, data, len);
    in->op = pf_grow(in->op, &in->ops_cap, in->nops + 1, sizeof(*in->op));
    in->op[in->nops++] = op;
}

static void account(struct pf_image *img, struct pf_inode *in, int delta)
{
    if (delta > 0) {
        in->allocated++;
        img->used_pages++;
    } else {
        in->allocated--;
        img->used_pages--;
    }
}

static bool has_room(const struct pf_image *img)
{
    return img->full_pages == 0 || img->used_pages < img->full_pages;
}

ssize_t pf_data_write(struct pf_image *img, struct pf_inode *in, const void *buf,
                      size_t len, uint64_t off)
{
    const uint8_t *p = buf;
    size_t done = 0;
    if (off > PF_MAX_SIZE || len > PF_MAX_SIZE - off)
        return -EFBIG;
    while (done < len) {
        uint64_t pos = off + done;
        uint64_t idx = pos / PF_PAGE;
        size_t in_page = pos % PF_PAGE;
        size_t part = PF_PAGE - in_page < len - done ? PF_PAGE - in_page : len - done;
        if (map_get(&in->v, idx) == NULL) {
            if (!has_room(img))
                break;
            account(img, in, 1);
        }
        uint8_t *page = map_own(&in->v, idx);
        memcpy(page + in_page, p + done, part);
        uint64_t end = pos + part;
        /* The size may reach the disk before, or without, the data. */
        if (end > in->v.size) {
            in->v.size = end;
            op_add(img, in, PF_DATA_EXTEND, 0, 0, 0, end, NULL);
        }
        if (is_stale(in, idx)) {
            /* Dirtying a page again writes all of it, the lost bytes too. */
            uint64_t page_end = (idx + 1) * PF_PAGE;
            stale_remove(in, idx, idx);
            op_add(img, in, PF_DATA_WRITE, idx, 0, PF_PAGE,
                   page_end < in->v.size ? page_end : in->v.size, page);
        } else {
            op_add(img, in, PF_DATA_WRITE, idx, in_page, part, end, p + done);
        }
        done += part;
    }
    return done == 0 && len > 0 ? -ENOSPC : (ssize_t)done;
}

size_t pf_data_read(const struct pf_inode *in, void *buf, size_t len, uint64_t off)
{
    uint8_t *p = buf;
    if (off >= in->v.size)
        return 0;
    if (len > in->v.size - off)
        len = (size_t)(in->v.size - off);
    for (size_t done = 0; done < len;) {
        uint64_t pos = off + done;
        size_t in_page = pos % PF_PAGE;
        size_t part = PF_PAGE - in_page < len - done ? PF_PAGE - in_page : len - done;
        const struct pf_page *pg = map_get(&in->v, pos / PF_PAGE);
        if (pg != NULL)
            memcpy(p + done, pg->data + in_page, part);
        else
            memset(p + done, 0, part);
        done += part;
    }
    return len;
}

int pf_data_truncate(struct pf_image *img, struct pf_inode *in, uint64_t size)
{
    if (size > PF_MAX_SIZE)
        return -EFBIG;
    if (size < in->v.size) {
        uint64_t first = size / PF_PAGE;
        size_t tail = size % PF_PAGE;
        for (uint64_t i = first; i < in->v.n; i++) {
            size_t off = i == first ? tail : 0;
            if (in->v.page[i] == NULL)
                continue;
            op_add(img, in, PF_DATA_TRUNC_ZERO, i, off, PF_PAGE - off, 0, NULL);
            if (off == 0)
                account(img, in, -1);
        }
        stale_remove(in, first + (tail != 0), UINT64_MAX);
    }
    map_truncate(&in->v, size);
    op_add(img, in, PF_DATA_TRUNC, 0, 0, 0, size, NULL);
    return 0;
}

static void zero_range(struct pf_image *img, struct pf_inode *in, uint64_t off, uint64_t end)
{
    while (off < end) {
        uint64_t idx = off / PF_PAGE;
        size_t in_page = off % PF_PAGE;
        size_t part = PF_PAGE - in_page < end - off ? PF_PAGE - in_page : (size_t)(end - off);
        if (idx >= in->v.n)
            break; /* nothing but holes from here on */
        if (in->v.page[idx] != NULL) {
            op_add(img, in, PF_DATA_ZERO, idx, in_page, part, 0, NULL);
            if (part == PF_PAGE) {
                map_set(&in->v, idx, NULL);
                stale_remove(in, idx, idx);
                account(img, in, -1);
            } else {
                memset(map_own(&in->v, idx) + in_page, 0, part);
            }
        }
        off += part;
    }
}

static int reserve(struct pf_image *img, struct pf_inode *in, uint64_t off, uint64_t end)
{
    uint64_t missing = 0;
    uint64_t last = (end - 1) / PF_PAGE;
    for (uint64_t i = off / PF_PAGE; i <= last; i++)
        missing += map_get(&in->v, i) == NULL;
    if (img->full_pages != 0 && img->used_pages + missing > img->full_pages)
        return -ENOSPC;
    for (uint64_t i = off / PF_PAGE; i <= last; i++) {
        if (map_get(&in->v, i) == NULL) {
            map_set(&in->v, i, &zero_page);
            account(img, in, 1);
        }
    }
    return 0;
}

int pf_data_fallocate(struct pf_image *img, struct pf_inode *in, int mode,
                      uint64_t off, uint64_t len)
{
    int keep = mode & FALLOC_FL_KEEP_SIZE;
    int what = mode & ~FALLOC_FL_KEEP_SIZE;
    if (off > PF_MAX_SIZE || len > PF_MAX_SIZE - off)
        return -EFBIG;
    if (len == 0)
        return -EINVAL;
    uint64_t end = off + len;
    if (what == FALLOC_FL_PUNCH_HOLE) {
        if (!keep)
            return -EOPNOTSUPP;
        zero_range(img, in, off, end);
        return 0;
    }
    if (what != 0 && what != FALLOC_FL_ZERO_RANGE)
        return -EOPNOTSUPP;
    if (what == FALLOC_FL_ZERO_RANGE)
        zero_range(img, in, off, end);
    int rc = reserve(img, in, off, end);
    if (rc == 0 && !keep && end > in->v.size)
        rc = pf_data_truncate(img, in, end);
    return rc;
}

/* Apply the sectors in mask of one pending operation to a durable map. */
static void op_apply(struct pf_map *m, const struct pf_data_op *op, unsigned mask)
{
    bool zero = op->kind != PF_DATA_WRITE;
    if (zero && map_get(m, op->page) == NULL)
        return;
    if (op->whole != NULL && mask == 0xff) {
        map_set(m, op->page, page_ref(op->whole));
        return;
    }
    uint8_t *page = map_own(m, op->page);
    const uint8_t *data = op->whole != NULL ? op->whole->data : op->data;
    for (unsigned s = 0; s < PF_SECTORS; s++) {
        size_t from = s * PF_SECTOR, to = from + PF_SECTOR;
        size_t end = (size_t)op->off + op->len;
        if (from < op->off)
            from = op->off;
        if (to > end)
            to = end;
        if ((mask >> s & 1) == 0 || from >= to)
            continue;
        if (zero)
            memset(page + from, 0, to - from);
        else
            memcpy(page + from, data + (from - op->off), to - from);
    }
}

static void ops_clear(struct pf_inode *in)
{
    for (size_t i = 0; i < in->nops; i++)
        op_unref(in->op[i]);
    in->nops = 0;
    if (in->ops_cap > 1024) {
        free(in->op);
        in->op = NULL;
        in->ops_cap = 0;
    }
}

void pf_data_sync(struct pf_inode *in)
{
    for (size_t i = 0; i < in->nops; i++) {
        const struct pf_data_op *op = in->op[i];
        switch (op->kind) {
        case PF_DATA_TRUNC:
            map_truncate(&in->d, op->size);
            continue;
        case PF_DATA_WRITE:
        case PF_DATA_EXTEND:
            if (op->size > in->d.size)
                in->d.size = op->size;
            break;
        case PF_DATA_ZERO:
        case PF_DATA_TRUNC_ZERO:
            break;
        }
        if (op->kind == PF_DATA_EXTEND)
            continue;
        if (in->nstale > 0 && is_stale(in, op->page))
            op_apply(&in->d, op, 0xff);
        else
            map_set(&in->d, op->page, page_ref(map_get(&in->v, op->page)));
    }
    ops_clear(in);
}

void pf_data_sync_failed(struct pf_inode *in)
{
    size_t k = 0;
    for (size_t i = 0; i < in->nops; i++) {
        struct pf_data_op *op = in->op[i];
        if (op->kind == PF_DATA_TRUNC || op->kind == PF_DATA_ZERO) {
            in->op[k++] = op; /* metadata is not what failed */
            continue;
        }
        if (op->kind == PF_DATA_WRITE && map_get(&in->v, op->page) != NULL)
            stale_add(in, op->page);
        op_unref(op);
    }
    in->nops = k;
}

/* --- the cut --------------------------------------------------------------- */

struct piece {
    uint64_t page;
    size_t at; /* index in the file's list */
};

static int piece_cmp(const void *a, const void *b)
{
    const struct piece *x = a, *y = b;
    if (x->page != y->page)
        return x->page < y->page ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

/*
 * How many of the page's n operations a sector holds.  A write-back carries
 * the page as it was after some write, so the candidates are "none" and
 * "after write i": never one write without an older one below it.
 */
static size_t pick_version(const struct pf_inode *in, const struct piece *pc, size_t n,
                           uint64_t *rng, uint64_t keep_in_16)
{
    size_t writes = 0;
    if (pf_random_below(rng, 16) >= keep_in_16)
        return 0;
    for (size_t i = 0; i < n; i++)
        writes += in->op[pc[i].at]->kind != PF_DATA_TRUNC_ZERO;
    if (writes == 0)
        return 0;
    uint64_t want = pf_random_below(rng, 2) ? writes : 1 + pf_random_below(rng, writes);
    for (size_t i = 0; i < n; i++)
        if (in->op[pc[i].at]->kind != PF_DATA_TRUNC_ZERO && --want == 0)
            return i + 1;
    return n;
}

/* Decide, page by page, which sectors of which operation survive. */
static void choose_pages(const struct pf_inode *in, const struct pf_cut *cut,
                         uint64_t *rng, uint8_t *mask)
{
    static const uint8_t odds[] = { 1, 4, 8, 12, 15 };
    uint64_t keep = odds[pf_random_below(rng, sizeof(odds))];
    struct piece *pc = pf_alloc(in->nops * sizeof(*pc));
    size_t n = 0;
    for (size_t i = 0; i < in->nops; i++)
        if (in->op[i]->kind <= PF_DATA_TRUNC_ZERO)
            pc[n++] = (struct piece){ .page = in->op[i]->page, .at = i };
    qsort(pc, n, sizeof(*pc), piece_cmp);
    for (size_t i = 0, j; i < n; i = j) {
        for (j = i; j < n && pc[j].page == pc[i].page; j++)
            ;
        size_t main = pick_version(in, pc + i, j - i, rng, keep);
        bool torn = cut->torn && pf_random_below(rng, 4) == 0;
        for (unsigned s = 0; s < PF_SECTORS; s++) {
            size_t version = main;
            if (torn && pf_random_below(rng, 2))
                version = pick_version(in, pc + i, j - i, rng, 8);
            for (size_t k = 0; k < version; k++)
                mask[pc[i + k].at] |= (uint8_t)(1u << s);
        }
    }
    free(pc);
}

static void choose(const struct pf_inode *in, const struct pf_cut *cut, uint64_t *rng,
                   uint64_t prefix_seq, uint8_t *mask)
{
    size_t truncs = 0;
    switch (cut->mode) {
    case PF_DROP_ALL:
        return;
    case PF_KEEP_ALL:
        memset(mask, 0xff, in->nops);
        return;
    case PF_PREFIX:
        for (size_t i = 0; i < in->nops; i++) {
            if (in->op[i]->seq < prefix_seq)
                mask[i] = 0xff;
            else if (in->op[i]->seq == prefix_seq)
                mask[i] = (uint8_t)(cut->torn && in->op[i]->kind == PF_DATA_WRITE
                                        ? (1u << pf_random_below(rng, PF_SECTORS + 1)) - 1
                                        : 0xff);
        }
        return;
    case PF_RANDOM:
        break;
    }
    choose_pages(in, cut, rng, mask);
    for (size_t i = 0; i < in->nops; i++) {
        if (in->op[i]->kind == PF_DATA_EXTEND)
            mask[i] = pf_random_below(rng, 4) == 0 ? 0xff : 0;
        truncs += in->op[i]->kind == PF_DATA_TRUNC;
    }
    /* Size changes are one inode field: they survive in order. */
    uint64_t kept = pf_random_below(rng, truncs + 1);
    for (size_t i = 0; i < in->nops; i++)
        if (in->op[i]->kind == PF_DATA_TRUNC && kept > 0) {
            mask[i] = 0xff;
            kept--;
        }
}

static unsigned sectors_of(const struct pf_data_op *op)
{
    unsigned first = op->off / PF_SECTOR;
    unsigned last = (unsigned)(op->off + op->len - 1) / PF_SECTOR;
    return (0xffu << first) & (0xffu >> (PF_SECTORS - 1 - last));
}

void pf_data_cut(struct pf_inode *in, const struct pf_cut *cut, uint64_t *rng,
                 uint64_t prefix_seq, struct pf_cut_stats *stats)
{
    if (in->nops == 0 && in->nstale == 0)
        goto same;
    uint8_t *mask = pf_alloc(in->nops + 1);
    choose(in, cut, rng, prefix_seq, mask);
    for (size_t i = 0; i < in->nops; i++) {
        const struct pf_data_op *op = in->op[i];
        if (op->kind == PF_DATA_WRITE) {
            unsigned own = sectors_of(op), kept = mask[i] & own;
            stats->data_ops++;
            stats->data_lost += kept == 0;
            stats->data_torn += kept != 0 && kept != own;
            if (kept == 0)
                continue;
        }
        if (mask[i] == 0)
            continue;
        if (op->kind == PF_DATA_TRUNC)
            map_truncate(&in->d, op->size);
        else if (op->kind != PF_DATA_EXTEND)
            op_apply(&in->d, op, mask[i]);
        if ((op->kind == PF_DATA_WRITE || op->kind == PF_DATA_EXTEND) && op->size > in->d.size)
            in->d.size = op->size;
    }
    free(mask);
    ops_clear(in);
    in->nstale = 0;
same:
    /* An untouched file keeps its tables; preallocation never synced stays. */
    if (in->v.size == in->d.size && in->v.n == in->d.n &&
        (in->v.n == 0 || memcmp(in->v.page, in->d.page, in->v.n * sizeof(*in->v.page)) == 0))
        return;
    map_release(&in->v);
    map_copy(&in->v, &in->d);
    in->allocated = 0;
    for (size_t i = 0; i < in->v.n; i++)
        in->allocated += in->v.page[i] != NULL;
}

void pf_data_clone(struct pf_inode *to, const struct pf_inode *from)
{
    map_copy(&to->v, &from->v);
    map_copy(&to->d, &from->d);
    to->op = NULL;
    to->ops_cap = 0;
    to->nops = from->nops;
    if (from->nops > 0)
        to->op = pf_grow(NULL, &to->ops_cap, from->nops, sizeof(*to->op));
    for (size_t i = 0; i < from->nops; i++) {
        to->op[i] = from->op[i];
        to->op[i]->refs++;
    }
    to->stale = NULL;
    to->nstale = from->nstale;
    if (from->nstale > 0) {
        to->stale = pf_alloc(from->nstale * sizeof(uint64_t));
        memcpy(to->stale, from->stale, from->nstale * sizeof(uint64_t));
    }
}

void pf_data_release(struct pf_inode *in)
{
    map_release(&in->v);
    map_release(&in->d);
    ops_clear(in);
    free(in->op);
    free(in->stale);
    in->op = NULL;
    in->stale = NULL;
    in->nstale = in->ops_cap = 0;
}
