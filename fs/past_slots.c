#include "fs/past_slots.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { FIRST = 2 };                  /* 0: none; 1 would make the node id of the root */

/* In memory that outlives workers. lsn is set before look-ups and cleared after: look-ups != 0 means both are good. */
struct slot {
    uint64_t lsn;
    _Atomic uint64_t lookups;
};

struct shared {
    uint32_t high;                  /* slots below it have been used */
    uint32_t pad[15];
    struct slot slots[];
};

struct past_slots {
    pthread_mutex_t lock;           /* guards all of it, and the shared memory */
    struct shared *sh;
    uint32_t n, used, n_buckets;
    uint32_t free_head;             /* 0: none below high */
    uint32_t *heads;                /* by hash of the LSN; 0 ends a chain */
    uint32_t *next;                 /* of the chain, or of the free list */
};

size_t past_slots_bytes(uint32_t n) { return sizeof(struct shared) + (size_t)n * sizeof(struct slot); }

static uint32_t bucket_of(const struct past_slots *s, uint64_t lsn)
{
    return (uint32_t)((lsn * 0x9e3779b97f4a7c15ull) >> 32) % s->n_buckets;
}

static void link_in(struct past_slots *s, uint32_t i)
{
    uint32_t *head = &s->heads[bucket_of(s, s->sh->slots[i].lsn)];

    s->next[i] = *head;
    *head = i;
    s->used++;
}

static void rebuild(struct past_slots *s)
{
    uint32_t high = s->sh->high < s->n ? s->sh->high : s->n;

    for (uint32_t i = high; i-- > FIRST;) {
        struct slot *v = &s->sh->slots[i];

        if (v->lsn != 0 && atomic_load(&v->lookups) != 0) {
            link_in(s, i);
        } else {
            v->lsn = 0;
            s->next[i] = s->free_head;
            s->free_head = i;
        }
    }
}

struct past_slots *past_slots_new(void *mem, uint32_t n)
{
    struct past_slots *s = calloc(1, sizeof *s);

    if (!s)
        return NULL;
    s->sh = mem;
    s->n = n;
    s->n_buckets = n < 1024 ? n : n / 16;
    s->heads = calloc(s->n_buckets, sizeof *s->heads);
    s->next = calloc(n, sizeof *s->next);
    if (!s->heads || !s->next || pthread_mutex_init(&s->lock, NULL) != 0) {
        free(s->heads);
        free(s->next);
        free(s);
        return NULL;
    }
    if (s->sh->high == 0)
        s->sh->high = FIRST;
    rebuild(s);
    return s;
}

void past_slots_free(struct past_slots *s)
{
    if (!s)
        return;
    pthread_mutex_destroy(&s->lock);
    free(s->heads);
    free(s->next);
    free(s);
}

static uint32_t find_locked(const struct past_slots *s, uint64_t lsn)
{
    uint32_t i = s->heads[bucket_of(s, lsn)];

    while (i != 0 && s->sh->slots[i].lsn != lsn)
        i = s->next[i];
    return i;
}

static uint32_t take_locked(struct past_slots *s, uint64_t lsn)
{
    uint32_t i = s->free_head;

    if (i != 0)
        s->free_head = s->next[i];
    else if (s->sh->high < s->n)
        i = s->sh->high++;
    else
        return 0;
    s->sh->slots[i].lsn = lsn;
    atomic_store(&s->sh->slots[i].lookups, 1);
    link_in(s, i);
    return i;
}

static void release_locked(struct past_slots *s, uint32_t i)
{
    uint32_t *at = &s->heads[bucket_of(s, s->sh->slots[i].lsn)];

    while (*at != i)
        at = &s->next[*at];
    *at = s->next[i];
    s->sh->slots[i].lsn = 0;
    s->next[i] = s->free_head;
    s->free_head = i;
    s->used--;
}

uint32_t past_slots_get(struct past_slots *s, uint64_t lsn, bool make)
{
    uint32_t i;

    pthread_mutex_lock(&s->lock);
    i = find_locked(s, lsn);
    if (i != 0)
        atomic_fetch_add(&s->sh->slots[i].lookups, 1);
    else if (make)
        i = take_locked(s, lsn);
    pthread_mutex_unlock(&s->lock);
    return i;
}

static bool in_use_locked(const struct past_slots *s, uint32_t i) { return i != 0 && i < s->sh->high && s->sh->slots[i].lsn != 0; }

void past_slots_add(struct past_slots *s, uint32_t i, uint64_t n)
{
    pthread_mutex_lock(&s->lock);
    if (in_use_locked(s, i))
        atomic_fetch_add(&s->sh->slots[i].lookups, n);
    pthread_mutex_unlock(&s->lock);
}

uint64_t past_slots_sub(struct past_slots *s, uint32_t i, uint64_t n)
{
    uint64_t have, gone = 0;

    pthread_mutex_lock(&s->lock);
    if (in_use_locked(s, i)) {
        have = atomic_load(&s->sh->slots[i].lookups);
        atomic_store(&s->sh->slots[i].lookups, have > n ? have - n : 0);
        if (have <= n) {
            gone = s->sh->slots[i].lsn;
            release_locked(s, i);
        }
    }
    pthread_mutex_unlock(&s->lock);
    return gone;
}

uint64_t past_slots_lsn(struct past_slots *s, uint32_t i)
{
    uint64_t lsn;

    pthread_mutex_lock(&s->lock);
    lsn = in_use_locked(s, i) ? s->sh->slots[i].lsn : 0;
    pthread_mutex_unlock(&s->lock);
    return lsn;
}

size_t past_slots_list(struct past_slots *s, size_t *pos, uint64_t *lsns, size_t cap)
{
    size_t n = 0;

    pthread_mutex_lock(&s->lock);
    for (; *pos < s->sh->high && n < cap; ++*pos)
        if (in_use_locked(s, (uint32_t)*pos) && !(s->sh->slots[*pos].lsn & (PAST_LINK | PAST_BRANCH)))
            lsns[n++] = s->sh->slots[*pos].lsn;
    pthread_mutex_unlock(&s->lock);
    return n;
}

void past_slots_clear(struct past_slots *s)
{
    pthread_mutex_lock(&s->lock);
    for (uint32_t i = 1; i < s->sh->high; i++) {
        if (!in_use_locked(s, i))
            continue;
        atomic_store(&s->sh->slots[i].lookups, 0);
        release_locked(s, i);
    }
    pthread_mutex_unlock(&s->lock);
}

uint32_t past_slots_used(struct past_slots *s)
{
    uint32_t n;

    pthread_mutex_lock(&s->lock);
    n = s->used;
    pthread_mutex_unlock(&s->lock);
    return n;
}
