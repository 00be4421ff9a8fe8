/* packs_cache.c: directories, blocks and expanded frames that were read last, within a bound; contexts for zstd. */
#include "store/pack/packs_internal.h"

#include <stdlib.h>

struct cached *packs_cached_new(const struct pack *p, uint64_t at, enum cached_kind kind)
{
    struct cached *c = calloc(1, sizeof *c);

    if (c) {
        c->serial = p->serial;
        c->at = at;
        c->kind = kind;
        c->refs = 1;
        c->cost = sizeof *c;
    }
    return c;
}

static void cached_free(struct cached *c)
{
    free(c->u.p);
    free(c);
}

static struct cached **bucket_of(struct packs *ps, uint64_t serial, uint64_t at)
{
    uint64_t x = (serial * UINT64_C(0x9e3779b97f4a7c15) ^ at) * UINT64_C(0xbf58476d1ce4e5b9);

    return &ps->bucket[(x ^ x >> 32) % PACKS_BUCKETS];
}

static void unlink_age(struct packs *ps, struct cached *c)
{
    *(c->newer ? &c->newer->older : &ps->newest) = c->older;
    *(c->older ? &c->older->newer : &ps->oldest) = c->newer;
}

static void link_newest(struct packs *ps, struct cached *c)
{
    c->newer = NULL;
    c->older = ps->newest;
    *(ps->newest ? &ps->newest->newer : &ps->oldest) = c;
    ps->newest = c;
}

static struct cached *find(struct packs *ps, uint64_t serial, uint64_t at, enum cached_kind kind)
{
    struct cached *c = *bucket_of(ps, serial, at);

    while (c && !(c->serial == serial && c->at == at && c->kind == kind))
        c = c->chain;
    return c;
}

/* Out of the cache; the caller frees it where it was the last reference. */
static struct cached *drop_oldest(struct packs *ps)
{
    struct cached *c = ps->oldest, **at = bucket_of(ps, c->serial, c->at);

    while (*at != c)
        at = &(*at)->chain;
    *at = c->chain;
    unlink_age(ps, c);
    ps->cached -= c->cost;
    return --c->refs == 0 ? c : NULL;
}

struct cached *packs_get(struct packs *ps, const struct pack *p, uint64_t at, enum cached_kind kind)
{
    struct cached *c;

    pthread_mutex_lock(&ps->mutex);
    c = find(ps, p->serial, at, kind);
    if (c) {
        c->refs++;
        unlink_age(ps, c);
        link_newest(ps, c);
    }
    pthread_mutex_unlock(&ps->mutex);
    return c;
}

void packs_put(struct packs *ps, struct cached *c)
{
    bool last;

    if (c == NULL)
        return;
    pthread_mutex_lock(&ps->mutex);
    last = --c->refs == 0;
    pthread_mutex_unlock(&ps->mutex);
    if (last)
        cached_free(c);
}

void packs_keep(struct packs *ps, struct cached *c)
{
    struct cached **at, *gone = NULL;

    pthread_mutex_lock(&ps->mutex);
    if (find(ps, c->serial, c->at, c->kind) == NULL && c->cost <= ps->cache_max) {
        at = bucket_of(ps, c->serial, c->at);
        c->chain = *at;
        *at = c;
        c->refs++;
        link_newest(ps, c);
        ps->cached += c->cost;
    }
    while (ps->cached > ps->cache_max) {        /* ${c} alone does not exceed it */
        struct cached *d = drop_oldest(ps);

        if (d) {
            d->chain = gone;
            gone = d;
        }
    }
    pthread_mutex_unlock(&ps->mutex);
    while (gone) {
        struct cached *next = gone->chain;

        cached_free(gone);
        gone = next;
    }
}

void packs_cold(struct packs *ps)
{
    struct cached *gone = NULL, *d;

    pthread_mutex_lock(&ps->mutex);
    while (ps->oldest)
        if ((d = drop_oldest(ps)) != NULL) {
            d->chain = gone;
            gone = d;
        }
    pthread_mutex_unlock(&ps->mutex);
    while (gone) {
        d = gone->chain;
        cached_free(gone);
        gone = d;
    }
}

bool packs_is_verified(struct packs *ps, const struct cached *c, uint64_t number)
{
    bool yes = false;

    pthread_mutex_lock(&ps->mutex);
    for (unsigned i = 0; !yes && i < c->n_verified; i++)
        yes = c->verified[i] == number;
    pthread_mutex_unlock(&ps->mutex);
    return yes;
}

void packs_note_verified(struct packs *ps, struct cached *c, uint64_t number)
{
    pthread_mutex_lock(&ps->mutex);
    if (c->n_verified < PACKS_VERIFIED)
        c->verified[c->n_verified++] = number;
    pthread_mutex_unlock(&ps->mutex);
}

void packs_cache_release(struct packs *ps)
{
    struct cached *c;

    while (ps->oldest)
        if ((c = drop_oldest(ps)) != NULL)
            cached_free(c);
    while (ps->n_idle)
        squeeze_free(ps->idle[--ps->n_idle]);
}

struct squeeze *packs_squeeze(struct packs *ps)
{
    struct squeeze *z = NULL;

    pthread_mutex_lock(&ps->mutex);
    if (ps->n_idle)
        z = ps->idle[--ps->n_idle];
    pthread_mutex_unlock(&ps->mutex);
    return z ? z : squeeze_new();
}

void packs_squeeze_back(struct packs *ps, struct squeeze *z)
{
    pthread_mutex_lock(&ps->mutex);
    if (ps->n_idle < PACKS_SQUEEZES) {
        ps->idle[ps->n_idle++] = z;
        z = NULL;
    }
    pthread_mutex_unlock(&ps->mutex);
    squeeze_free(z);
}
