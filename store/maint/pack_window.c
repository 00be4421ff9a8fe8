/*
 * pack_window.c: the data of a window of the log in the order in which they are packed: directory by directory, file by file, as they were written.
 *
 * A file is known by the hash of its path, as it was last in the window: editors, git and rsync give a new file the old one's name only when it is
 * whole, and a tree that is removed and unpacked anew has new directories too. What has the same path later is taken for its next version.
 */
#include "store/maint/pack_internal.h"

#include "store/index/kv.h"
#include "store/index/rows.h"

#include <stdlib.h>
#include <string.h>

enum { NAMES = 1 << 14, PATH_DEPTH = 512, STEPS = 8 };

/* A table of names of inodes, current or past, and the inode looked up last: the iterator is at the first row behind those of that one. */
struct name_table {
    struct kv_iter *it;
    uint64_t ino;
    size_t (*key)(uint8_t *k, uint64_t ino);     /* where the rows of an inode begin */
};

/* Paths of inodes looked up last, by inode number: a place for each, the newer one wins. */
struct names {
    struct kv *kv;
    uint64_t upto;
    struct name_table now, past;
    struct { uint64_t ino, path, dir; } slot[NAMES];
};

/* Directories in the window: which of their extents comes first. */
struct dirs { struct { uint64_t dir, order; } *v; size_t cap, n; };

int window_add(struct window *w, const struct record *rec, bool data)
{
    w->records++;
    w->last_lsn = rec->lsn;
    if (rec->data_len == 0 || !data)
        return 0;
    if (w->n == w->cap) {
        size_t cap = w->cap > 0 ? 2 * w->cap : 1024;
        struct extent *e = realloc(w->ext, cap * sizeof *e);

        if (e == NULL)
            return ERR_NOMEM;
        w->ext = e;
        w->cap = cap;
    }
    w->ext[w->n++] = (struct extent){ .lsn = rec->lsn, .ino = rec->ino, .off = rec->u.write.off, .dstart = record_dstart(rec->head_len), .len = rec->data_len };
    w->data_bytes += rec->data_len;
    return 0;
}

void window_release(struct window *w)
{
    free(w->ext);
    memset(w, 0, sizeof *w);
}

/* ---- names ---- */

static uint64_t mix(uint64_t parent, const void *name, size_t len)
{
    uint8_t buf[8 + REC_NAME_MAX];

    put_u64(buf, parent);
    memcpy(buf + 8, name, len);
    return hash64(buf, 8 + len);
}

struct name { uint64_t parent, death; uint8_t text[REC_NAME_MAX]; size_t len; };

static size_t key_now(uint8_t *k, uint64_t ino)
{
    return key_par(k, ino, 0, "", 0);
}

static size_t key_past(uint8_t *k, uint64_t ino)
{
    return key_par_h(k, ino, 0, "", 0, 0);
}

static int table_open(struct names *t, struct name_table *n, size_t (*key)(uint8_t *k, uint64_t ino))
{
    uint8_t lo[KV_KEY_MAX], hi[KV_KEY_MAX];
    size_t llen = key(lo, 0), hlen = key(hi, UINT64_MAX);

    n->ino = UINT64_MAX;
    n->key = key;
    n->it = t->kv->ops->iter_new(t->kv, NULL, lo, llen, hi, hlen);
    return n->it != NULL ? 0 : ERR_NOMEM;
}

static void names_free(struct names *t)
{
    if (t == NULL)
        return;
    if (t->now.it != NULL)
        t->kv->ops->iter_free(t->now.it);
    if (t->past.it != NULL)
        t->kv->ops->iter_free(t->past.it);
    free(t);
}

/* The current ones first: a name that ends between the two is then in one of them at least. */
static struct names *names_new(struct store *s, uint64_t upto)
{
    struct names *t = calloc(1, sizeof *t);

    if (t == NULL)
        return NULL;
    t->kv = store_kv(s);
    t->upto = upto;
    if (table_open(t, &t->now, key_now) < 0 || table_open(t, &t->past, key_past) < 0) {
        names_free(t);
        return NULL;
    }
    return t;
}

/* Whether the iterator is at a row before ${key}. */
static bool is_before(struct names *t, const struct name_table *n, const uint8_t *key, size_t len)
{
    const uint8_t *k;
    size_t klen;
    int c;

    if (!t->kv->ops->iter_valid(n->it))
        return false;
    k = t->kv->ops->iter_key(n->it, &klen);
    c = memcmp(k, key, klen < len ? klen : len);
    return c < 0 || (c == 0 && klen < len);
}

/* To the first row of ${ino}. Files of a window mostly lie there as they were made, one behind the other: a step takes a tenth of what a search does. */
static void go_to(struct names *t, struct name_table *n, uint64_t ino)
{
    uint8_t key[KV_KEY_MAX];
    size_t len = n->key(key, ino);
    bool behind = n->ino < ino;

    for (int i = 0; behind && i < STEPS && is_before(t, n, key, len); i++)
        t->kv->ops->iter_next(n->it);
    if (!behind || is_before(t, n, key, len))
        t->kv->ops->iter_seek(n->it, key, len);
    n->ino = ino;
}

/* The last name of ${ino} in a table that began in time and, of history, ended last. */
static int newest_name(struct names *t, struct name_table *n, uint64_t ino, struct name *out, struct err *err)
{
    int rc = 0;

    for (go_to(t, n, ino); rc == 0 && t->kv->ops->iter_valid(n->it); t->kv->ops->iter_next(n->it)) {
        size_t klen, vlen;
        const uint8_t *k = t->kv->ops->iter_key(n->it, &klen), *v = t->kv->ops->iter_val(n->it, &vlen);
        struct key_parts p;
        struct row_par par;

        if (!key_parse(k, klen, &p))
            continue;
        if (p.ino != ino)
            break;
        rc = row_par_decode(v, vlen, &par, err);
        if (rc < 0 || par.birth >= t->upto || (p.death != 0 && p.death <= out->death) || p.name_len > REC_NAME_MAX)
            continue;
        out->parent = p.parent;
        out->death = p.death != 0 ? p.death : UINT64_MAX;
        out->len = p.name_len;
        memcpy(out->text, p.name, p.name_len);
    }
    return rc == 0 ? t->kv->ops->iter_err(n->it, err) : rc;
}

static int last_name(struct names *t, uint64_t ino, struct name *out, struct err *err)
{
    int rc;

    out->death = 0;
    rc = newest_name(t, &t->now, ino, out, err);
    return rc < 0 || out->death != 0 ? rc : newest_name(t, &t->past, ino, out, err);
}

/* The path of ${ino} and of its directory, as hashes; 0 where it has none any more. */
static int path_of(struct names *t, uint64_t ino, int depth, uint64_t *path, uint64_t *dir, struct err *err)
{
    size_t i = (size_t)(ino * UINT64_C(0x9e3779b97f4a7c15) >> 50) % NAMES;
    struct name *n;
    uint64_t up = 0, above;
    int rc;

    *path = *dir = 0;
    if (ino == INO_ROOT) {
        *path = 1;
        return 0;
    }
    if (t->slot[i].ino == ino) {
        *path = t->slot[i].path;
        *dir = t->slot[i].dir;
        return 0;
    }
    n = malloc(sizeof *n);
    if (n == NULL)
        return err_set(err, ERR_NOMEM, "packing: out of memory");
    rc = last_name(t, ino, n, err);
    if (rc == 0 && n->death != 0 && depth < PATH_DEPTH)
        rc = path_of(t, n->parent, depth + 1, &up, &above, err);
    if (rc == 0 && up != 0) {
        *path = mix(up, n->text, n->len);
        *dir = up;
    }
    free(n);
    t->slot[i].ino = ino;
    t->slot[i].path = *path;
    t->slot[i].dir = *dir;
    return rc;
}

/* ---- order ---- */

static int dirs_grow(struct dirs *d)
{
    struct dirs old = *d;

    d->cap = old.cap > 0 ? 2 * old.cap : 1024;
    d->v = calloc(d->cap, sizeof *d->v);
    if (d->v == NULL) {
        *d = old;
        return ERR_NOMEM;
    }
    for (size_t i = 0; i < old.cap; i++) {
        size_t at;

        if (old.v[i].order == 0)
            continue;
        for (at = (size_t)old.v[i].dir & (d->cap - 1); d->v[at].order != 0; at = (at + 1) & (d->cap - 1))
            ;
        d->v[at].dir = old.v[i].dir;
        d->v[at].order = old.v[i].order;
    }
    free(old.v);
    return 0;
}

/* Where the directory comes in: with the first of its extents, which this one is if it is not known yet. */
static int dir_order(struct dirs *d, uint64_t dir, uint64_t lsn, uint64_t *order)
{
    size_t at;

    if (2 * d->n >= d->cap && dirs_grow(d) < 0)
        return ERR_NOMEM;
    for (at = (size_t)dir & (d->cap - 1); d->v[at].order != 0 && d->v[at].dir != dir; at = (at + 1) & (d->cap - 1))
        ;
    if (d->v[at].order == 0) {
        d->v[at].dir = dir;
        d->v[at].order = lsn;
        d->n++;
    }
    *order = d->v[at].order;
    return 0;
}

static int by_place(const void *x, const void *y)
{
    const struct extent *a = x, *b = y;

    if (a->order != b->order)
        return a->order < b->order ? -1 : 1;
    if (a->ino != b->ino)
        return a->ino < b->ino ? -1 : 1;
    return a->lsn < b->lsn ? -1 : a->lsn > b->lsn;
}

int window_arrange(struct window *w, struct store *s, struct err *err)
{
    struct names *t = names_new(s, w->end);
    struct dirs d = { 0 };
    uint64_t dir;
    int rc = t != NULL ? 0 : ERR_NOMEM;

    for (size_t i = 0; rc == 0 && i < w->n; i++) {
        rc = path_of(t, w->ext[i].ino, 0, &w->ext[i].path, &dir, err);
        if (rc == 0)
            rc = dir_order(&d, dir, w->ext[i].lsn, &w->ext[i].order);
    }
    names_free(t);
    free(d.v);
    if (rc == 0 && w->n > 1)
        qsort(w->ext, w->n, sizeof *w->ext, by_place);
    return rc == ERR_NOMEM ? err_set(err, rc, "packing: out of memory") : rc;
}
