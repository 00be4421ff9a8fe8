/*
 * treap.h: a sorted set of rows that is copied by taking a reference. Under
 * kv_twin.c only.
 *
 * Out of memory ends the process: this serves the simulation, and functions
 * that consume a tree and return the next could not give the old one back.
 *
 * Threads: nodes and rows may be shared between threads; a struct treap and a
 * cursor belong to one thread at a time.
 */
#ifndef STORE_INDEX_TREAP_H
#define STORE_INDEX_TREAP_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* A row: key, then value. Never changes once a second reference exists. */
struct treap_row {
    atomic_uint refs;
    uint32_t klen, vlen;
    uint8_t bytes[];
};

struct treap_node;

/* A tree (NULL: empty; counted) and the bytes of all its rows. Zeroed = empty. */
struct treap { struct treap_node *root; uint64_t bytes; };

/* treap_ref(t): another handle on what ${t} holds now; neither sees the other's changes. */
struct treap treap_ref(const struct treap *t);
struct treap_node *treap_node_ref(struct treap_node *n);
/* treap_node_unref(n): give a reference back; ${n} may be NULL. */
void treap_node_unref(struct treap_node *n);

/* treap_put(t, ...): insert or replace. treap_del: remove, if there. Only ${t} changes. */
void treap_put(struct treap *t, const void *key, size_t klen, const void *val, size_t vlen);
void treap_del(struct treap *t, const void *key, size_t klen);
/* treap_get(root, ...): the row, borrowed from ${root}, or NULL. */
const struct treap_row *treap_get(const struct treap_node *n, const void *key, size_t klen);

/* A place in a tree, between bounds [lower, upper). depth 0: at no row. */
struct treap_cursor {
    struct treap_node *root;
    struct treap_node **path;   /* from the root to the row; borrowed from root */
    size_t depth, cap;
    uint8_t *lower, *upper;     /* NULL: none */
    size_t llen, ulen;
};

/* treap_cursor_init(c, root, ...): takes over the caller's reference to ${root}; bounds are copied. */
void treap_cursor_init(struct treap_cursor *c, struct treap_node *root, const void *lower, size_t llen,
                       const void *upper, size_t ulen);
void treap_cursor_release(struct treap_cursor *c);
void treap_cursor_seek(struct treap_cursor *c, const void *key, size_t klen);        /* first >= key */
void treap_cursor_seek_prev(struct treap_cursor *c, const void *key, size_t klen);   /* last <= key */
void treap_cursor_next(struct treap_cursor *c);
void treap_cursor_prev(struct treap_cursor *c);
/* treap_cursor_row(c): the row it is at (depth > 0), borrowed from the cursor. */
const struct treap_row *treap_cursor_row(const struct treap_cursor *c);

#endif
