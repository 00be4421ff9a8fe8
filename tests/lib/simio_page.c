#include "tests/lib/simio_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *sim_alloc(size_t len)
{
    void *p = calloc(1, len ? len : 1);

    if (!p) {
        fprintf(stderr, "simio: out of memory\n");
        abort();
    }
    return p;
}

/* Room for n + 1 elements. */
void *sim_grow(void *p, size_t n, size_t *cap, size_t elem)
{
    if (n < *cap)
        return p;
    *cap = *cap ? 2 * *cap : 8;
    p = realloc(p, *cap * elem);
    if (!p) {
        fprintf(stderr, "simio: out of memory\n");
        abort();
    }
    return p;
}

/* splitmix64: every seed gives a full-period stream of its own. */
uint64_t sim_next(uint64_t *rng)
{
    uint64_t z = (*rng += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t sim_below(uint64_t *rng, uint64_t n)
{
    return n ? sim_next(rng) % n : 0;
}

static void ref(atomic_uint *r) { atomic_fetch_add_explicit(r, 1, memory_order_relaxed); }
static bool unref(atomic_uint *r) { return atomic_fetch_sub_explicit(r, 1, memory_order_acq_rel) == 1; }

struct page *page_copy(const struct page *from)
{
    struct page *p = malloc(sizeof *p);

    if (!p)
        return sim_alloc(SIZE_MAX / 2);     /* says so and aborts */
    atomic_init(&p->refs, 1);
    if (from)
        memcpy(p->b, from->b, SIM_PAGE);
    else
        memset(p->b, 0, SIM_PAGE);
    return p;
}

struct page *page_ref(struct page *p)
{
    if (p)
        ref(&p->refs);
    return p;
}

void page_unref(struct page *p)
{
    if (p && unref(&p->refs))
        free(p);
}

static void chunk_unref(struct chunk *c)
{
    if (!c || !unref(&c->refs))
        return;
    for (int i = 0; i < SIM_CHUNK; i++)
        page_unref(c->p[i]);
    free(c);
}

struct page *pages_get(const struct pages *ps, uint64_t i)
{
    uint64_t k = i / SIM_CHUNK;

    return k < ps->n && ps->c[k] ? ps->c[k]->p[i % SIM_CHUNK] : NULL;
}

void pages_set(struct pages *ps, uint64_t i, struct page *p)
{
    size_t k = (size_t)(i / SIM_CHUNK);
    struct page **slot;

    if (k >= ps->n) {
        struct chunk **c;
        size_t n = k + 1 > 2 * ps->n ? k + 1 : 2 * ps->n;

        if (!p)
            return;
        c = sim_alloc(n * sizeof *c);
        if (ps->n)
            memcpy(c, ps->c, ps->n * sizeof *c);
        free(ps->c);
        ps->c = c;
        ps->n = n;
    }
    if (!ps->c[k]) {
        if (!p)
            return;
        ps->c[k] = sim_alloc(sizeof **ps->c);
        atomic_init(&ps->c[k]->refs, 1);
    } else if (atomic_load_explicit(&ps->c[k]->refs, memory_order_acquire) > 1) {
        struct chunk *own = sim_alloc(sizeof *own);

        atomic_init(&own->refs, 1);
        for (int j = 0; j < SIM_CHUNK; j++)
            own->p[j] = page_ref(ps->c[k]->p[j]);
        chunk_unref(ps->c[k]);
        ps->c[k] = own;
    }
    slot = &ps->c[k]->p[i % SIM_CHUNK];
    page_ref(p);
    page_unref(*slot);
    *slot = p;
}

void pages_clone(struct pages *to, const struct pages *from)
{
    to->n = from->n;
    to->c = from->n ? sim_alloc(from->n * sizeof *to->c) : NULL;
    for (size_t i = 0; i < from->n; i++) {
        to->c[i] = from->c[i];
        if (to->c[i])
            ref(&to->c[i]->refs);
    }
}

void pages_release(struct pages *ps)
{
    for (size_t i = 0; i < ps->n; i++)
        chunk_unref(ps->c[i]);
    free(ps->c);
    ps->c = NULL;
    ps->n = 0;
}

struct sname *name_new(const char *s, size_t len)
{
    struct sname *n = sim_alloc(sizeof *n + len + 1);

    atomic_init(&n->refs, 1);
    memcpy(n->s, s, len);
    return n;
}

struct sname *name_ref(struct sname *n)
{
    if (n)
        ref(&n->refs);
    return n;
}

void name_unref(struct sname *n)
{
    if (n && unref(&n->refs))
        free(n);
}

/* Index of the first entry not below s. */
static size_t lower(const struct dirmap *d, const char *s)
{
    size_t lo = 0, hi = d->n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (strcmp(d->e[mid].name->s, s) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

struct entry *dirmap_find(const struct dirmap *d, const char *s)
{
    size_t i = lower(d, s);

    return i < d->n && strcmp(d->e[i].name->s, s) == 0 ? &d->e[i] : NULL;
}

void dirmap_set(struct dirmap *d, struct sname *name, uint32_t ino)
{
    size_t i = lower(d, name->s);

    if (i < d->n && strcmp(d->e[i].name->s, name->s) == 0) {
        d->e[i].ino = ino;
        return;
    }
    d->e = sim_grow(d->e, d->n, &d->cap, sizeof *d->e);
    memmove(d->e + i + 1, d->e + i, (d->n - i) * sizeof *d->e);
    d->e[i] = (struct entry){ name_ref(name), ino };
    d->n++;
}

void dirmap_remove(struct dirmap *d, const char *s)
{
    size_t i = lower(d, s);

    if (i >= d->n || strcmp(d->e[i].name->s, s) != 0)
        return;
    name_unref(d->e[i].name);
    memmove(d->e + i, d->e + i + 1, (d->n - i - 1) * sizeof *d->e);
    d->n--;
}

void dirmap_clone(struct dirmap *to, const struct dirmap *from)
{
    to->n = to->cap = from->n;
    to->e = from->n ? sim_alloc(from->n * sizeof *to->e) : NULL;
    for (size_t i = 0; i < from->n; i++)
        to->e[i] = (struct entry){ name_ref(from->e[i].name), from->e[i].ino };
}

void dirmap_release(struct dirmap *d)
{
    for (size_t i = 0; i < d->n; i++)
        name_unref(d->e[i].name);
    free(d->e);
    *d = (struct dirmap){ 0 };
}
