/*
 * tree.h: YAML text as a tree in which every node knows its line and column. Less than YAML on purpose: one document; no anchors, aliases, tags or merge
 * keys; a key once in its mapping; bounded.
 */
#ifndef CLI_DR_TREE_H
#define CLI_DR_TREE_H

#include "store/base/err.h"

#include <stdint.h>

/* What a plan may be at most. */
enum { TREE_MAX_BYTES = 256 * 1024, TREE_MAX_NODES = 20000, TREE_MAX_DEPTH = 12 };

/* A place in the text, from 1; columns count characters. */
struct mark { unsigned line, column; };

/* Memory that goes as one. Zeroed: empty. arena_get: zeroed memory, NULL without any; arena_text: a copy of len bytes and a NUL. */
struct arena { struct arena_block *blocks; };
void *arena_get(struct arena *a, size_t len);
char *arena_text(struct arena *a, const char *text, size_t len);
void  arena_release(struct arena *a);

/* What is wrong with a text, each as "FILE:LINE:COLUMN: expected ..., found ...", in the order they were found; at most TREE_MAX_PROBLEMS. */
enum { TREE_MAX_PROBLEMS = 50 };
struct problems {
    const char *file;           /* as messages name it; borrowed */
    unsigned n;
    char *text[TREE_MAX_PROBLEMS];
    struct mark at[TREE_MAX_PROBLEMS];
};
void problem_add(struct problems *p, struct mark at, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Sorted by place. problems_release: a zeroed one is accepted. */
void problems_sort(struct problems *p);
void problems_release(struct problems *p);

enum tree_kind { TREE_SCALAR, TREE_LIST, TREE_MAP };

/* All of it lies in the arena. */
struct tree {
    enum tree_kind kind;
    struct mark at;
    bool plain;                 /* a scalar without quotes */
    const char *text;           /* a scalar: UTF-8, without NUL bytes */
    struct tree *first, *next;  /* children of a list or map, in order; next: the sibling */
    const char *key;            /* a child of a map: its key */
    struct mark key_at;
};

/*
 * tree_read(text, len, a, out, p):
 * 0 and *out, NULL for an empty text. USAGE: what is wrong is in ${p} (which names the file). NOMEM.
 */
int tree_read(const char *text, size_t len, struct arena *a, struct tree **out, struct problems *p);

/* tree_kind_text(t): "a mapping", "a list", or the scalar in quotes, cut to what fits a message. A static buffer. */
const char *tree_kind_text(const struct tree *t);

#endif
