/*
 * check, third part: what the current rows say about each other. All tables order by inode first, so they are
 * walked side by side: for each inode its names, positions, parents, attributes and maps are counted and
 * compared with what its row says.
 */
#include "store/svc/svc_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { DEPTH_MAX = 1 << 16 };

/* One table, walked along. */
struct along { struct kv *kv; struct kv_iter *it; struct key_parts k; char tag; bool valid; };

struct tree {
    struct svc_check *c;
    struct kv *kv;
    struct kv_snap *snap;
    struct along den, dix, par, xat, map, orphan;
    uint64_t inodes, bytes, reached;
};

/* Passes over other rows of the same letter, and over keys that do not parse: the pass over all rows reported them. */
static void along_load(struct along *a)
{
    size_t n;
    const uint8_t *key;

    for (; (a->valid = a->kv->ops->iter_valid(a->it)); a->kv->ops->iter_next(a->it)) {
        key = a->kv->ops->iter_key(a->it, &n);
        if (key_parse(key, n, &a->k) && a->k.table == a->tag)
            return;
    }
}

static void along_open(struct along *a, struct tree *t, char tag)
{
    uint8_t lower = tag == 'm' ? 'I' : (uint8_t)tag, upper = (uint8_t)(lower + 1);

    a->kv = t->kv;
    a->tag = tag;
    a->it = t->kv->ops->iter_new(t->kv, t->snap, &lower, 1, &upper, 1);
    t->kv->ops->iter_seek(a->it, &lower, 1);
    along_load(a);
}

static void along_next(struct along *a)
{
    a->kv->ops->iter_next(a->it);
    along_load(a);
}

static uint64_t owner(const struct along *a)
{
    return a->tag == 'd' || a->tag == 'x' ? a->k.parent : a->k.ino;
}

/* Rows of inodes below ${ino} that have no inode row of their own. */
static int along_skip(struct tree *t, struct along *a, uint64_t ino, const char *what)
{
    while (a->valid && owner(a) < ino) {
        int r = svc_finding(t->c, "tree", "inode %llu: has %s but does not exist", (unsigned long long)owner(a), what);

        if (r)
            return r;
        along_next(a);
    }
    return 0;
}

/* get at the snapshot: an exact seek. */
static const uint8_t *get(struct tree *t, struct kv_iter **it, const uint8_t *key, size_t klen, size_t *vlen)
{
    uint8_t upper[KV_KEY_MAX + 1];
    const uint8_t *k;
    size_t n;

    memcpy(upper, key, klen);
    upper[klen] = 0;
    *it = t->kv->ops->iter_new(t->kv, t->snap, key, klen, upper, klen + 1);
    t->kv->ops->iter_seek(*it, key, klen);
    if (!t->kv->ops->iter_valid(*it))
        return NULL;
    k = t->kv->ops->iter_key(*it, &n);
    return n == klen && memcmp(k, key, n) == 0 ? t->kv->ops->iter_val(*it, vlen) : NULL;
}

static bool get_ino(struct tree *t, uint64_t ino, struct row_ino *row)
{
    uint8_t key[KV_KEY_MAX];
    struct kv_iter *it;
    const uint8_t *v, *target;
    size_t n = 0;
    bool ok;

    v = get(t, &it, key, key_ino(key, ino), &n);
    ok = v && row_ino_decode(v, n, row, &target, NULL) == 0;
    t->kv->ops->iter_free(it);
    return ok;
}

/* One name of a directory: its position, its inode and the way back agree with it. */
static int check_name(struct tree *t, uint64_t parent, uint64_t *subdirs)
{
    struct along *a = &t->den;
    uint8_t key[KV_KEY_MAX];
    struct kv_iter *it;
    struct row_den den;
    struct row_dix dix;
    struct row_par par;
    struct row_ino child;
    const uint8_t *v;
    const char *bad = NULL;
    size_t n, klen;

    v = t->kv->ops->iter_val(a->it, &n);
    if (row_den_decode(v, n, &den, NULL))
        return 0;               /* reported */
    klen = key_dix(key, parent, den.cookie);
    v = get(t, &it, key, klen, &n);
    if (!v || row_dix_decode(v, n, &dix, NULL) || dix.ino != den.ino || dix.type != den.type || dix.hidden != den.hidden
        || dix.name_len != a->k.name_len || memcmp(dix.name, a->k.name, dix.name_len) != 0)
        bad = "expected a position that names it, found another or none";
    t->kv->ops->iter_free(it);
    klen = key_par(key, den.ino, parent, a->k.name, a->k.name_len);
    v = get(t, &it, key, klen, &n);
    if ((!v || row_par_decode(v, n, &par, NULL) || par.hidden != den.hidden) && !bad)
        bad = "expected its inode to know this parent, found it does not";
    t->kv->ops->iter_free(it);
    if (!get_ino(t, den.ino, &child))
        bad = "names an inode that does not exist";
    else if ((child.mode & S_IFMT) >> 12 != den.type)
        bad = "expected the type of its inode, found another";
    else if (S_ISDIR(child.mode) && child.parent != parent)
        bad = "is a directory whose parent is another one";
    else if (child.hidden != 0 && !den.hidden)
        bad = "expected to be hidden as its inode is, found it is of the past";
    if (den.type == S_IFDIR >> 12)
        ++*subdirs;
    if (!bad)
        return 0;
    return svc_finding(t->c, "tree", "directory %llu, name \"%.*s\" (inode %llu): %s", (unsigned long long)parent,
                       (int)a->k.name_len, (const char *)a->k.name, (unsigned long long)den.ino, bad);
}

static uint64_t count(struct along *a, uint64_t ino)
{
    uint64_t n = 0;

    for (; a->valid && owner(a) == ino; along_next(a))
        n++;
    return n;
}

/* Bytes of the current map; rows of an older mapgen are no longer part of the file. */
static uint64_t map_bytes(struct along *a, uint64_t ino, uint64_t mapgen)
{
    uint64_t sum = 0;

    for (; a->valid && owner(a) == ino; along_next(a)) {
        struct row_map m = { 0 };
        size_t n;
        const uint8_t *v = a->kv->ops->iter_val(a->it, &n);

        if (a->k.mapgen == mapgen && row_map_decode(v, n, &m, NULL) == 0)
            for (uint32_t i = 0; i < m.n; i++)
                sum += m.piece[i].len;
        free(m.piece);
    }
    return sum;
}

/* A directory's chain of parents ends at the root. */
static int check_reached(struct tree *t, uint64_t ino, const struct row_ino *row)
{
    struct row_ino up = *row;

    for (unsigned i = 0; i < DEPTH_MAX; i++) {
        if (up.parent == INO_ROOT || ino == INO_ROOT) {
            t->reached++;
            return 0;
        }
        if (!get_ino(t, up.parent, &up) || !S_ISDIR(up.mode))
            return svc_finding(t->c, "tree", "directory %llu: expected parents up to the root, found a missing one",
                               (unsigned long long)ino);
    }
    return svc_finding(t->c, "tree", "directory %llu: expected parents up to the root, found a circle (or more than %d)",
                       (unsigned long long)ino, DEPTH_MAX);
}

static int differs(struct tree *t, uint64_t ino, const char *what, uint64_t says, uint64_t found)
{
    if (says == found)
        return 0;
    return svc_finding(t->c, "tree", "inode %llu: its row says %llu %s, found %llu", (unsigned long long)ino,
                       (unsigned long long)says, what, (unsigned long long)found);
}

static int check_inode(struct tree *t, uint64_t ino, const struct row_ino *row)
{
    uint64_t names = 0, subdirs = 0, parents, positions, bytes;
    bool dir = S_ISDIR(row->mode), orphan;
    int r;

    for (; t->den.valid && owner(&t->den) == ino; along_next(&t->den), names++)
        if ((r = check_name(t, ino, &subdirs)))
            return r;
    positions = count(&t->dix, ino);
    parents = count(&t->par, ino);
    orphan = count(&t->orphan, ino) > 0;
    bytes = map_bytes(&t->map, ino, row->mapgen);
    if (!dir && names && (r = svc_finding(t->c, "tree", "inode %llu: is no directory but has names in it", (unsigned long long)ino)))
        return r;
    if ((dir && ((r = differs(t, ino, "entries", row->entries, names)) || (r = differs(t, ino, "entries (positions)", row->entries, positions))))
        || (r = differs(t, ino, "attributes", row->n_xattr, count(&t->xat, ino)))
        || (r = differs(t, ino, "bytes held", row->blocks, bytes)))
        return r;
    if (row->nlink == 0) {
        if ((r = differs(t, ino, "names", 0, parents)))
            return r;
        if (!orphan && (r = svc_finding(t->c, "tree", "inode %llu: has no name and is not listed as unlinked", (unsigned long long)ino)))
            return r;
    } else {
        if (orphan && (r = svc_finding(t->c, "tree", "inode %llu: has names and is listed as unlinked", (unsigned long long)ino)))
            return r;
        if (dir) {
            if ((r = differs(t, ino, "links", row->nlink, 2 + subdirs)) || (ino != INO_ROOT && (r = differs(t, ino, "names", 1, parents)))
                || (r = check_reached(t, ino, row)))
                return r;
        } else if ((r = differs(t, ino, "links", row->nlink, parents))) {
            return r;
        }
    }
    t->inodes++;
    t->bytes += row->blocks;
    return 0;
}

/* Maps and attributes of an inode that is gone stay for its past: then it has a past. */
static int past_skip(struct tree *t, struct along *a, uint64_t ino, const char *what)
{
    while (a->valid && owner(a) < ino) {
        uint64_t dead = owner(a);
        uint8_t lower[KV_KEY_MAX], upper[KV_KEY_MAX];
        size_t llen = key_ino_h(lower, dead, 0), ulen = key_ino_h(upper, dead, UINT64_MAX);
        struct kv_iter *it = t->kv->ops->iter_new(t->kv, t->snap, lower, llen, upper, ulen);
        int r = 0;

        t->kv->ops->iter_seek(it, lower, llen);
        if (!t->kv->ops->iter_valid(it))
            r = svc_finding(t->c, "tree", "inode %llu: has %s but neither exists nor ever did", (unsigned long long)dead, what);
        t->kv->ops->iter_free(it);
        if (r)
            return r;
        (void)count(a, dead);
    }
    return 0;
}

static int skip_all(struct tree *t, uint64_t ino)
{
    int r;

    if ((r = along_skip(t, &t->den, ino, "names in it")) || (r = along_skip(t, &t->dix, ino, "positions"))
        || (r = along_skip(t, &t->par, ino, "parents")) || (r = past_skip(t, &t->xat, ino, "attributes"))
        || (r = past_skip(t, &t->map, ino, "maps")) || (r = along_skip(t, &t->orphan, ino, "an entry as unlinked")))
        return r;
    return 0;
}

int svc_check_tree(struct svc_check *c, struct kv *kv, struct kv_snap *snap, const struct row_meta *meta, struct err *err)
{
    struct tree t = { .c = c, .kv = kv, .snap = snap };
    struct along inodes, *all[] = { &inodes, &t.den, &t.dix, &t.par, &t.xat, &t.map, &t.orphan };
    struct row_ino row;
    const uint8_t *v, *target;
    size_t n;
    int r = 0;

    (void)err;
    along_open(&inodes, &t, 'i');
    along_open(&t.den, &t, 'd');
    along_open(&t.dix, &t, 'x');
    along_open(&t.par, &t, 'p');
    along_open(&t.xat, &t, 'a');
    along_open(&t.map, &t, 'm');
    along_open(&t.orphan, &t, 'o');
    if (!get_ino(&t, INO_ROOT, &row) || !S_ISDIR(row.mode))
        r = svc_finding(c, "tree", "inode %d: expected the root directory, found none", INO_ROOT);
    for (; r == 0 && inodes.valid; along_next(&inodes)) {
        uint64_t ino = inodes.k.ino;

        v = kv->ops->iter_val(inodes.it, &n);
        r = skip_all(&t, ino);
        if (r == 0 && row_ino_decode(v, n, &row, &target, NULL) == 0)
            r = check_inode(&t, ino, &row);
    }
    if (r == 0)
        r = skip_all(&t, UINT64_MAX);
    if (r == 0 && meta->n_inodes != t.inodes)
        r = svc_finding(c, "tree", "counters: %llu objects expected, %llu found", (unsigned long long)meta->n_inodes,
                        (unsigned long long)t.inodes);
    if (r == 0 && meta->n_bytes != t.bytes)
        r = svc_finding(c, "tree", "counters: %llu bytes expected, %llu found", (unsigned long long)meta->n_bytes,
                        (unsigned long long)t.bytes);
    if (r == 0)
        r = svc_looked(c, "directories reached from the root", t.reached);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        kv->ops->iter_free(all[i]->it);
    return r;
}
