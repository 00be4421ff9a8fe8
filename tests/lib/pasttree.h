/*
 * pasttree.h: random work on a teststore, and the moments of it: what the whole tree was at each (names, attributes, content, as one number), to be
 * compared later, however the store keeps it by then. Failures fail the test.
 */
#ifndef TESTS_LIB_PASTTREE_H
#define TESTS_LIB_PASTTREE_H

#include "tests/lib/teststore.h"

enum { PAST_MAX = 256 };

struct past {
    uint64_t x;                          /* the seed, and what became of it */
    size_t big;                          /* bytes of a large file; 0: none is made */
    struct { uint64_t lsn, digest; } m[PAST_MAX];
    unsigned n;
};

/* past_random(p, n): 0 to n - 1. past_fill(p, buf, len, kind): 0 text, 1 noise, 2 zeros in between. */
uint64_t past_random(struct past *p, uint64_t n);
void past_fill(struct past *p, uint8_t *buf, size_t len, unsigned kind);

/* past_digest(s, at): of everything below the root. */
uint64_t past_digest(struct store *s, uint64_t at);

/* past_try(s, at, digest): the same of a store that may be damaged: 0, or the first error. */
int past_try(struct store *s, uint64_t at, uint64_t *digest);

/* past_work(t, p, ops, every): so many changes; each ${every}-th is remembered as a moment. */
void past_work(struct teststore *t, struct past *p, unsigned ops, unsigned every);
/* past_same(p, s, when): every moment of it that ${s} has in its log or behind it is what it was. Returns how many were looked at. */
unsigned past_same(const struct past *p, struct store *s, const char *when);

#endif
