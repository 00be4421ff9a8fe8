/*
 * treap.c: a sorted set of rows in immutable, counted nodes.
 *
 * Priorities are hashes of the keys, so a set of rows has one shape however it
 * came about. What is referred to once is changed in place; whatever somebody
 * else may see has a second reference somewhere above it, and is copied.
 */
#include "store/index/treap.h"

#include "store/base/hash.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Node, row and malloc's own, bytes. */
enum { ROW_OVERHEAD = 112 };

struct treap_node {
    atomic_uint refs;
    struct treap_node *left, *right; /* counted */
    struct treap_row *e;             /* counted */
    uint64_t prio;
};

static void *need(void *p)
{
    if (!p) {
        fputs("treap: out of memory\n", stderr);
        abort();
    }
    return p;
}

static int key_cmp(const void *a, size_t alen, const void *b, size_t blen)
{
    size_t n = alen < blen ? alen : blen;
    int c = n ? memcmp(a, b, n) : 0;

    return c ? c : (alen > blen) - (alen < blen);
}

static int entry_cmp(const struct treap_row *e, const void *key, size_t klen)
{
    return key_cmp(e->bytes, e->klen, key, klen);
}

/* References */

static struct treap_row *entry_new(const void *key, size_t klen, const void *val, size_t vlen)
{
    struct treap_row *e = need(malloc(sizeof *e + klen + vlen));

    atomic_init(&e->refs, 1);
    e->klen = (uint32_t)klen;
    e->vlen = (uint32_t)vlen;
    memcpy(e->bytes, key, klen);
    if (vlen)
        memcpy(e->bytes + klen, val, vlen);
    return e;
}

static void entry_unref(struct treap_row *e)
{
    if (atomic_fetch_sub_explicit(&e->refs, 1, memory_order_acq_rel) == 1)
        free(e);
}

struct treap_node *treap_node_ref(struct treap_node *n)
{
    if (n)
        atomic_fetch_add_explicit(&n->refs, 1, memory_order_relaxed);
    return n;
}

/* As deep as the tree, which is some 3 log2 n: shapes come from hashes, not from the input's order. */
void treap_node_unref(struct treap_node *n)
{
    while (n && atomic_fetch_sub_explicit(&n->refs, 1, memory_order_acq_rel) == 1) {
        struct treap_node *right = n->right;

        treap_node_unref(n->left);
        entry_unref(n->e);
        free(n);
        n = right;
    }
}

/* The functions below consume the tree they are given and return one the caller owns. */

/* ${n}, or a copy of it if somebody else refers to it: what is returned may be changed. */
static struct treap_node *node_own(struct treap_node *n)
{
    struct treap_node *c;

    if (atomic_load_explicit(&n->refs, memory_order_acquire) == 1)
        return n;
    c = need(malloc(sizeof *c));
    atomic_init(&c->refs, 1);
    c->left = treap_node_ref(n->left);
    c->right = treap_node_ref(n->right);
    c->e = n->e;
    atomic_fetch_add_explicit(&c->e->refs, 1, memory_order_relaxed);
    c->prio = n->prio;
    treap_node_unref(n);
    return c;
}

/* Rows below ${key} to *lo, rows above to *hi; ${key} itself is not in ${n}. */
static void tree_split(struct treap_node *n, const void *key, size_t klen, struct treap_node **lo, struct treap_node **hi)
{
    while (n) {
        n = node_own(n);
        if (entry_cmp(n->e, key, klen) < 0) {
            *lo = n;
            lo = &n->right;
            n = n->right;
        } else {
            *hi = n;
            hi = &n->left;
            n = n->left;
        }
    }
    *lo = NULL;
    *hi = NULL;
}

/* All rows of ${a} are below all of ${b}. */
static struct treap_node *tree_join(struct treap_node *a, struct treap_node *b)
{
    struct treap_node *root = NULL, **at = &root;

    while (a && b) {
        bool a_above = a->prio != b->prio ? a->prio > b->prio
                                          : entry_cmp(a->e, b->e->bytes, b->e->klen) < 0;
        if (a_above) {
            *at = a = node_own(a);
            at = &a->right;
            a = a->right;
        } else {
            *at = b = node_own(b);
            at = &b->left;
            b = b->left;
        }
    }
    *at = a ? a : b;
    return root;
}

static uint64_t row_bytes(const struct treap_row *e)
{
    return (uint64_t)e->klen + e->vlen + ROW_OVERHEAD;
}

void treap_put(struct treap *t, const void *key, size_t klen, const void *val, size_t vlen)
{
    uint64_t prio = hash64(key, klen);
    struct treap_node **at = &t->root, *n;
    struct treap_row *e = entry_new(key, klen, val, vlen);

    t->bytes += row_bytes(e);
    while ((n = *at)) {
        int c = entry_cmp(n->e, key, klen);

        /* Equal priorities are ordered by key, so that the shape stays a function of the set. */
        if (c != 0 && (n->prio < prio || (n->prio == prio && c > 0)))
            break;
        *at = n = node_own(n);
        if (c == 0) {
            t->bytes -= row_bytes(n->e);
            entry_unref(n->e);
            n->e = e;
            return;
        }
        at = c > 0 ? &n->left : &n->right;
    }
    n = need(malloc(sizeof *n));
    atomic_init(&n->refs, 1);
    n->e = e;
    n->prio = prio;
    tree_split(*at, key, klen, &n->left, &n->right);
    *at = n;
}

const struct treap_row *treap_get(const struct treap_node *n, const void *key, size_t klen)
{
    while (n) {
        int c = entry_cmp(n->e, key, klen);

        if (c == 0)
            return n->e;
        n = c > 0 ? n->left : n->right;
    }
    return NULL;
}

void treap_del(struct treap *t, const void *key, size_t klen)
{
    struct treap_node **at = &t->root, *n;

    if (!treap_get(t->root, key, klen))
        return;   /* else its path would be copied for nothing */
    while ((n = *at)) {
        int c = entry_cmp(n->e, key, klen);

        *at = n = node_own(n);
        if (c == 0) {
            t->bytes -= row_bytes(n->e);
            *at = tree_join(n->left, n->right);
            n->left = n->right = NULL;
            treap_node_unref(n);
            return;
        }
        at = c > 0 ? &n->left : &n->right;
    }
}

struct treap treap_ref(const struct treap *t)
{
    struct treap r = { treap_node_ref(t->root), t->bytes };

    return r;
}

/* Cursors */

static uint8_t *bound_copy(const void *p, size_t len)
{
    uint8_t *c;

    if (!p || len == 0)
        return NULL;
    c = need(malloc(len));
    memcpy(c, p, len);
    return c;
}

void treap_cursor_init(struct treap_cursor *c, struct treap_node *root, const void *lower, size_t llen,
                       const void *upper, size_t ulen)
{
    memset(c, 0, sizeof *c);
    c->root = root;
    c->lower = bound_copy(lower, llen);
    c->llen = llen;
    c->upper = bound_copy(upper, ulen);
    c->ulen = ulen;
}

static void push(struct treap_cursor *c, struct treap_node *n)
{
    if (c->depth == c->cap) {
        c->cap = c->cap ? c->cap * 2 : 48;
        c->path = need(realloc(c->path, c->cap * sizeof *c->path));
    }
    c->path[c->depth++] = n;
}

static void check_bounds(struct treap_cursor *c)
{
    const struct treap_row *e;

    if (c->depth == 0)
        return;
    e = c->path[c->depth - 1]->e;
    if ((c->upper && entry_cmp(e, c->upper, c->ulen) >= 0) ||
        (c->lower && entry_cmp(e, c->lower, c->llen) < 0))
        c->depth = 0;
}

void treap_cursor_seek(struct treap_cursor *c, const void *key, size_t klen)
{
    size_t best = 0;

    if (c->lower && key_cmp(key, klen, c->lower, c->llen) < 0) {
        key = c->lower;
        klen = c->llen;
    }
    c->depth = 0;
    for (struct treap_node *n = c->root; n;) {
        push(c, n);
        if (entry_cmp(n->e, key, klen) >= 0) {
            best = c->depth;
            n = n->left;
        } else {
            n = n->right;
        }
    }
    c->depth = best;
    check_bounds(c);
}

void treap_cursor_seek_prev(struct treap_cursor *c, const void *key, size_t klen)
{
    bool below = false;   /* strictly below ${key}: the upper bound itself is outside */
    size_t best = 0;

    if (c->upper && key_cmp(key, klen, c->upper, c->ulen) >= 0) {
        key = c->upper;
        klen = c->ulen;
        below = true;
    }
    c->depth = 0;
    for (struct treap_node *n = c->root; n;) {
        int d = entry_cmp(n->e, key, klen);

        push(c, n);
        if (d < 0 || (d == 0 && !below)) {
            best = c->depth;
            n = n->right;
        } else {
            n = n->left;
        }
    }
    c->depth = best;
    check_bounds(c);
}

void treap_cursor_next(struct treap_cursor *c)
{
    struct treap_node *n;

    if (c->depth == 0)
        return;
    n = c->path[c->depth - 1];
    if (n->right) {
        for (n = n->right; n; n = n->left)
            push(c, n);
    } else {
        do
            n = c->path[--c->depth];
        while (c->depth > 0 && c->path[c->depth - 1]->right == n);
    }
    check_bounds(c);
}

void treap_cursor_prev(struct treap_cursor *c)
{
    struct treap_node *n;

    if (c->depth == 0)
        return;
    n = c->path[c->depth - 1];
    if (n->left) {
        for (n = n->left; n; n = n->right)
            push(c, n);
    } else {
        do
            n = c->path[--c->depth];
        while (c->depth > 0 && c->path[c->depth - 1]->left == n);
    }
    check_bounds(c);
}

const struct treap_row *treap_cursor_row(const struct treap_cursor *c)
{
    return c->path[c->depth - 1]->e;
}

void treap_cursor_release(struct treap_cursor *c)
{
    treap_node_unref(c->root);
    free(c->path);
    free(c->lower);
    free(c->upper);
    memset(c, 0, sizeof *c);
}
