/* sorted.c: see sorted.h. */
#include "store/index/sorted.h"

#include <stdlib.h>
#include <string.h>

enum { KEPT_BYTES = 8 << 20 };    /* what an emptied one keeps */

struct sorted_row {
    uint64_t head;                /* the key's first eight bytes, so that most comparisons touch nothing else */
    size_t at;                    /* in mem */
};

struct lengths { uint32_t val, key; };
#define NO_VALUE UINT32_MAX

void sorted_release(struct sorted *s)
{
    free(s->mem);
    free(s->row);
    *s = (struct sorted){ 0 };
}

void sorted_clear(struct sorted *s)
{
    if (s->cap > KEPT_BYTES)
        sorted_release(s);
    s->len = s->n = 0;
    s->failed = false;
}

static bool room(struct sorted *s, size_t bytes)
{
    if (s->cap - s->len < bytes) {
        size_t cap = s->cap == 0 ? 64 << 10 : s->cap;
        while (cap - s->len < bytes)
            cap *= 2;
        uint8_t *mem = realloc(s->mem, cap);
        if (mem == NULL)
            return false;
        s->mem = mem;
        s->cap = cap;
    }
    if (s->n == s->rows_cap) {
        size_t cap = s->rows_cap == 0 ? 1024 : 2 * s->rows_cap;
        struct sorted_row *row = realloc(s->row, cap * sizeof *row);
        if (row == NULL)
            return false;
        s->row = row;
        s->rows_cap = cap;
    }
    return true;
}

static uint64_t head_of(const uint8_t *key, size_t klen)
{
    uint64_t h = 0;
    for (size_t i = 0; i < 8; i++)
        h = h << 8 | (i < klen ? key[i] : 0u);
    return h;
}

void sorted_add(struct sorted *s, const void *key, size_t klen, const void *val, size_t vlen)
{
    struct lengths l = { val != NULL ? (uint32_t)vlen : NO_VALUE, (uint32_t)klen };
    size_t bytes = val != NULL ? vlen : 0;
    if (!room(s, sizeof l + klen + bytes)) {
        s->failed = true;
        return;
    }
    uint8_t *p = s->mem + s->len;
    s->row[s->n++] = (struct sorted_row){ head_of(key, klen), s->len };
    memcpy(p, &l, sizeof l);
    memcpy(p + sizeof l, key, klen);
    if (bytes > 0)
        memcpy(p + sizeof l + klen, val, bytes);
    s->len += sizeof l + klen + bytes;
}

static int key_cmp(const uint8_t *mem, const struct sorted_row *a, const struct sorted_row *b)
{
    struct lengths la, lb;
    if (a->head != b->head)
        return a->head < b->head ? -1 : 1;
    memcpy(&la, mem + a->at, sizeof la);
    memcpy(&lb, mem + b->at, sizeof lb);
    int c = memcmp(mem + a->at + sizeof la, mem + b->at + sizeof lb, la.key < lb.key ? la.key : lb.key);
    return c != 0 ? c : la.key < lb.key ? -1 : la.key > lb.key;
}

static int row_cmp(const void *x, const void *y, void *mem)
{
    const struct sorted_row *a = x, *b = y;
    int c = key_cmp(mem, a, b);
    return c != 0 ? c : a->at < b->at ? -1 : a->at > b->at;
}

void sorted_each(struct sorted *s, sorted_fn fn, void *arg)
{
    if (s->n > 1)
        qsort_r(s->row, s->n, sizeof *s->row, row_cmp, s->mem);
    for (size_t i = 0; i < s->n; i++) {
        struct lengths l;
        const uint8_t *p = s->mem + s->row[i].at;
        if (i + 1 < s->n && key_cmp(s->mem, &s->row[i], &s->row[i + 1]) == 0)
            continue;
        memcpy(&l, p, sizeof l);
        p += sizeof l;
        if (l.val == NO_VALUE)
            fn(arg, p, l.key, NULL, 0);
        else
            fn(arg, p, l.key, p + l.key, l.val);
    }
}
