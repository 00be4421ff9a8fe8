/* asof.c: see asof.h. */
#include "store/index/asof.h"

#include <stdlib.h>
#include <string.h>

static int nomem(struct err *err)
{
    return err_set(err, ERR_NOMEM, "look-up in the past: out of memory");
}

/*
 * The first history row of ${prefix} with death > t: key is prefix|BE64(death). Value copied (malloc).
 */
static int first_history(struct kv *kv, uint64_t t, const uint8_t *prefix, size_t plen, uint8_t **val, size_t *vlen,
                         struct err *err)
{
    uint8_t lo[KV_KEY_MAX], hi[KV_KEY_MAX];
    int rc = ERR_NOENT;
    if (t == UINT64_MAX)
        return ERR_NOENT;
    memcpy(lo, prefix, plen);
    put_be64(lo + plen, t + 1);
    memcpy(hi, prefix, plen);
    memset(hi + plen, 0xff, 9);
    struct kv_iter *it = kv->ops->iter_new(kv, NULL, lo, plen + 8, hi, plen + 9);
    if (it == NULL)
        return nomem(err);
    kv->ops->iter_seek(it, lo, plen + 8);
    if (kv->ops->iter_valid(it)) {
        size_t klen, len;
        const uint8_t *k = kv->ops->iter_key(it, &klen), *v = kv->ops->iter_val(it, &len);
        if (klen == plen + 8 && memcmp(k, prefix, plen) == 0) {
            *val = malloc(len > 0 ? len : 1);
            rc = *val != NULL ? 0 : nomem(err);
            if (rc == 0)
                memcpy(*val, v, len);
            *vlen = len;
        }
    } else {
        int e = kv->ops->iter_err(it, err);
        rc = e < 0 ? e : ERR_NOENT;
    }
    kv->ops->iter_free(it);
    return rc;
}

static int copy_target(const struct row_ino *row, const uint8_t *p, char **target, struct err *err)
{
    if (target == NULL)
        return 0;
    *target = NULL;
    if (row->target_len == 0)
        return 0;
    *target = malloc(row->target_len);
    if (*target == NULL)
        return nomem(err);
    memcpy(*target, p, row->target_len);
    return 0;
}

/* A row that is not of the past is none of a moment. */
static bool no_past(uint64_t t, bool hidden)
{
    return hidden && t != UINT64_MAX;
}

int asof_ino(struct kv *kv, uint64_t t, uint64_t ino, struct row_ino *row, char **target, struct err *err)
{
    uint8_t key[KV_KEY_MAX], *val = NULL;
    const uint8_t *tgt = NULL;
    size_t vlen;
    int rc = kv_get(kv, key, key_ino(key, ino), &val, &vlen, err);
    if (rc == 0)
        rc = row_ino_decode(val, vlen, row, &tgt, err);
    if (rc == ERR_NOENT || (rc == 0 && row->birth > t)) {
        free(val);
        val = NULL;
        size_t plen = key_ino_h(key, ino, 0) - 8;
        rc = first_history(kv, t, key, plen, &val, &vlen, err);
        if (rc == 0)
            rc = row_ino_decode(val, vlen, row, &tgt, err);
        if (rc == 0 && row->birth > t)
            rc = ERR_NOENT;
    }
    if (rc == 0 && no_past(t, row->hidden != 0))
        rc = ERR_NOENT;
    if (rc == 0)
        rc = copy_target(row, tgt, target, err);
    free(val);
    return rc;
}

int asof_den(struct kv *kv, uint64_t t, uint64_t parent, const void *name, size_t nlen, struct row_den *row, struct err *err)
{
    uint8_t key[KV_KEY_MAX], *val = NULL;
    size_t vlen;
    int rc = kv_get(kv, key, key_den(key, parent, name, nlen), &val, &vlen, err);
    if (rc == 0)
        rc = row_den_decode(val, vlen, row, err);
    if (rc == ERR_NOENT || (rc == 0 && row->birth > t)) {
        free(val);
        val = NULL;
        size_t plen = key_den_h(key, parent, name, nlen, 0) - 8;
        rc = first_history(kv, t, key, plen, &val, &vlen, err);
        if (rc == 0)
            rc = row_den_decode(val, vlen, row, err);
        if (rc == 0 && row->birth > t)
            rc = ERR_NOENT;
    } else if (rc == 0 && no_past(t, row->hidden)) {
        rc = ERR_NOENT;
    }
    free(val);
    return rc;
}

int asof_xat(struct kv *kv, uint64_t t, uint64_t ino, const void *name, size_t nlen, uint8_t **out, size_t *len, struct err *err)
{
    uint8_t key[KV_KEY_MAX], *val = NULL;
    const uint8_t *p = NULL;
    size_t vlen;
    uint64_t birth = 0;
    int rc = kv_get(kv, key, key_xat(key, ino, name, nlen), &val, &vlen, err);
    if (rc == 0)
        rc = row_xat_decode(val, vlen, &birth, &p, len, err);
    if (rc == ERR_NOENT || (rc == 0 && birth > t)) {
        free(val);
        val = NULL;
        size_t plen = key_xat_h(key, ino, name, nlen, 0) - 8;
        rc = first_history(kv, t, key, plen, &val, &vlen, err);
        if (rc == 0)
            rc = row_xat_decode(val, vlen, &birth, &p, len, err);
        if (rc == 0 && birth > t)
            rc = ERR_NOENT;
    }
    if (rc == 0) {
        *out = malloc(*len > 0 ? *len : 1);
        rc = *out != NULL ? 0 : nomem(err);
        if (rc == 0 && *len > 0)
            memcpy(*out, p, *len);
    }
    free(val);
    return rc;
}

/* ---- maps ---- */

static int piece_cmp(const void *x, const void *y)
{
    uint32_t a = ((const struct piece *)x)->off, b = ((const struct piece *)y)->off;
    return a < b ? -1 : a > b;
}

struct taking {
    struct row_map *out;
    uint32_t cap;
    uint64_t t;
    uint32_t from, to, left;      /* the bytes asked for; how many of them no piece was found for yet */
};

static int take_pieces(struct taking *k, const struct piece *p, uint32_t n)
{
    struct row_map *out = k->out;
    for (uint32_t i = 0; i < n; i++) {
        if (p[i].birth > k->t)
            continue;
        if (out->n == k->cap) {
            uint32_t c = k->cap == 0 ? 16 : k->cap * 2;
            struct piece *v = realloc(out->piece, c * sizeof *v);
            if (v == NULL)
                return ERR_NOMEM;
            out->piece = v;
            k->cap = c;
        }
        out->piece[out->n++] = p[i];
        uint32_t lo = p[i].off > k->from ? p[i].off : k->from, end = p[i].off + p[i].len, hi = end < k->to ? end : k->to;
        if (lo < hi)
            k->left -= hi - lo < k->left ? hi - lo : k->left;
    }
    return 0;
}

/*
 * A byte is of one piece at one time, and each piece is in one row: what is asked for is found when pieces of that time cover it. So a file
 * that was saved whole takes one row, and the walk to the next image is for what has holes.
 */
int asof_map(struct kv *kv, uint64_t t, uint64_t ino, uint64_t mapgen, uint64_t block, uint32_t from, uint32_t to, struct row_map *map,
             struct err *err)
{
    uint8_t lo[KV_KEY_MAX], hi[KV_KEY_MAX], ck[KV_KEY_MAX];   /* [ck, ck 00) holds ck alone */
    struct row_map cur = { 0 };
    struct taking k = { .out = map, .t = t, .from = from, .to = to, .left = to - from };
    bool image = false;
    memset(map, 0, sizeof *map);
    if (t == UINT64_MAX)
        return err_set(err, ERR_INVAL, "look-up in the past without a moment");
    size_t clen = key_map(ck, ino, mapgen, block);
    size_t llen = key_map_h(lo, ino, mapgen, block, t + 1), hlen = key_map_h(hi, ino, mapgen, block, UINT64_MAX);
    struct kv_snap *snap = kv->ops->snap_new(kv);
    struct kv_iter *it = kv->ops->iter_new(kv, snap, lo, llen, hi, hlen);
    ck[clen] = 0;
    struct kv_iter *ci = kv->ops->iter_new(kv, snap, ck, clen, ck, clen + 1);
    int rc = it != NULL && ci != NULL ? 0 : nomem(err);
    if (rc < 0)
        goto out;
    for (kv->ops->iter_seek(it, lo, llen); rc == 0 && !image && k.left > 0 && kv->ops->iter_valid(it); kv->ops->iter_next(it)) {
        size_t vlen;
        const uint8_t *v = kv->ops->iter_val(it, &vlen);
        struct row_map h = { 0 };
        rc = row_map_decode(v, vlen, &h, err);
        if (rc < 0)
            break;
        /* the image holds what died here too: it alone is the map just before this death */
        image = h.n_image > 0;
        rc = image ? take_pieces(&k, h.piece + h.n, h.n_image) : take_pieces(&k, h.piece, h.n);
        free(h.piece);
    }
    if (rc == 0)
        rc = kv->ops->iter_err(it, err);
    if (rc < 0 || image || k.left == 0)
        goto out;
    kv->ops->iter_seek(ci, ck, clen);
    if (kv->ops->iter_valid(ci)) {
        size_t klen, vlen;
        const uint8_t *found = kv->ops->iter_key(ci, &klen);
        if (klen == clen && memcmp(found, ck, clen) == 0) {
            const uint8_t *v = kv->ops->iter_val(ci, &vlen);
            rc = row_map_decode(v, vlen, &cur, err);
            if (rc == 0)
                rc = take_pieces(&k, cur.piece, cur.n);
            free(cur.piece);
        }
    }
    if (rc == 0)
        rc = kv->ops->iter_err(ci, err);
out:
    if (it != NULL)
        kv->ops->iter_free(it);
    if (ci != NULL)
        kv->ops->iter_free(ci);
    kv->ops->snap_free(kv, snap);
    if (rc == ERR_NOMEM)
        (void)nomem(err);
    if (rc < 0) {
        free(map->piece);
        memset(map, 0, sizeof *map);
    } else if (map->n > 1) {
        qsort(map->piece, map->n, sizeof *map->piece, piece_cmp);
    }
    return rc;
}

/* ---- listings ---- */

/* What an entry takes, malloc's part of its name included. */
static size_t entry_bytes(uint32_t name_len)
{
    return sizeof(struct asof_entry) + 24 + name_len;
}

static int list_add(struct asof_list *l, uint64_t cookie, const struct row_dix *x)
{
    if (l->n == l->cap) {
        size_t cap = l->cap == 0 ? 32 : l->cap * 2;
        struct asof_entry *v = realloc(l->v, cap * sizeof *v);
        if (v == NULL)
            return ERR_NOMEM;
        l->v = v;
        l->cap = cap;
    }
    char *name = malloc(x->name_len + 1u);
    if (name == NULL)
        return ERR_NOMEM;
    memcpy(name, x->name, x->name_len);
    name[x->name_len] = '\0';
    l->v[l->n++] = (struct asof_entry){ .cookie = cookie, .ino = x->ino, .type = x->type, .hidden = x->hidden, .name_len = x->name_len, .name = name };
    l->bytes += entry_bytes(x->name_len);
    return 0;
}

void asof_list_free(struct asof_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->v[i].name);
    free(l->v);
    memset(l, 0, sizeof *l);
}

static int entry_cmp(const void *x, const void *y)
{
    uint64_t a = ((const struct asof_entry *)x)->cookie, b = ((const struct asof_entry *)y)->cookie;
    return a < b ? -1 : a > b;
}

/* Ordered, and no more than ${max_bytes} of it: what is left out ends the listing before it. */
static void list_cut(struct asof_list *l, size_t max_bytes)
{
    if (l->n > 1)
        qsort(l->v, l->n, sizeof *l->v, entry_cmp);
    while (l->n > 1 && l->bytes > max_bytes) {
        struct asof_entry *e = &l->v[--l->n];
        l->bytes -= entry_bytes(e->name_len);
        free(e->name);
        l->last = l->v[l->n - 1].cookie;
    }
}

/*
 * Rows with keys in [lo, hi) that are visible at t and in the listing's part; history and current rows alike are filtered by birth. Current rows
 * come in the order of cookies: the first that goes beyond ${max_bytes} ends the part. History comes in any, and is cut at twice that.
 */
static int list_scan(struct kv *kv, struct kv_snap *snap, const uint8_t *lo, size_t llen, const uint8_t *hi, size_t hlen,
                     uint64_t t, bool history, size_t max_bytes, struct asof_list *out, struct err *err)
{
    bool full = false;
    struct kv_iter *it = kv->ops->iter_new(kv, snap, lo, llen, hi, hlen);
    int rc = it != NULL ? 0 : nomem(err);
    if (rc < 0)
        return rc;
    for (kv->ops->iter_seek(it, lo, llen); rc == 0 && !full && kv->ops->iter_valid(it); kv->ops->iter_next(it)) {
        size_t klen, vlen;
        struct key_parts parts;
        struct row_dix x = { 0 };
        const uint8_t *k = kv->ops->iter_key(it, &klen), *v = kv->ops->iter_val(it, &vlen);
        if (!key_parse(k, klen, &parts))
            rc = err_set(err, ERR_DAMAGE, "index: a key of a directory listing cannot be read; rebuild the index");
        else
            rc = row_dix_decode(v, vlen, &x, err);
        if (rc < 0 || x.birth > t || no_past(t, x.hidden) || parts.cookie <= out->after || parts.cookie > out->last)
            continue;
        full = !history && out->n > 0 && out->bytes >= max_bytes;
        if (full)
            out->last = out->v[out->n - 1].cookie;
        else if (list_add(out, parts.cookie, &x) < 0)
            rc = nomem(err);
        if (history && out->bytes / 2 >= max_bytes)
            list_cut(out, max_bytes);
    }
    if (rc == 0)
        rc = kv->ops->iter_err(it, err);
    kv->ops->iter_free(it);
    return rc;
}

int asof_readdir(struct kv *kv, uint64_t t, uint64_t dir, struct asof_list *out, struct err *err)
{
    return asof_readdir_from(kv, t, dir, 0, SIZE_MAX, out, err);
}

int asof_readdir_from(struct kv *kv, uint64_t t, uint64_t dir, uint64_t after, size_t max_bytes, struct asof_list *out, struct err *err)
{
    uint8_t lo[KV_KEY_MAX], hi[KV_KEY_MAX];
    *out = (struct asof_list){ .after = after, .last = UINT64_MAX };
    struct kv_snap *snap = kv->ops->snap_new(kv);
    size_t llen = key_dix(lo, dir, after), hlen = key_dix(hi, dir + 1, 0);
    int rc = list_scan(kv, snap, lo, llen, hi, hlen, t, false, max_bytes, out, err);
    if (rc == 0 && t != UINT64_MAX) {
        llen = key_dix_h(lo, dir, t + 1, 0);
        hlen = key_dix_h(hi, dir + 1, 0, 0);
        rc = list_scan(kv, snap, lo, llen, hi, hlen, t, true, max_bytes, out, err);
    }
    kv->ops->snap_free(kv, snap);
    if (rc < 0)
        asof_list_free(out);
    else
        list_cut(out, max_bytes);
    return rc;
}

/* ---- xattr names and parents: current rows born <= t, and history rows with birth <= t < death ---- */

typedef int (*name_fn)(void *arg, const struct key_parts *k);

static int names_scan(struct kv *kv, struct kv_snap *snap, const uint8_t *lo, size_t llen, const uint8_t *hi, size_t hlen,
                      uint64_t t, bool xattr, bool history, name_fn fn, void *arg, struct err *err)
{
    struct kv_iter *it = kv->ops->iter_new(kv, snap, lo, llen, hi, hlen);
    int rc = it != NULL ? 0 : nomem(err);
    if (rc < 0)
        return rc;
    for (kv->ops->iter_seek(it, lo, llen); rc == 0 && kv->ops->iter_valid(it); kv->ops->iter_next(it)) {
        size_t klen, vlen, xlen;
        struct key_parts parts;
        const uint8_t *k = kv->ops->iter_key(it, &klen), *v = kv->ops->iter_val(it, &vlen), *xv;
        struct row_par par = { 0 };
        uint64_t birth = 0;
        if (!key_parse(k, klen, &parts))
            rc = err_set(err, ERR_DAMAGE, "index: a key cannot be read; rebuild the index");
        else if (xattr)
            rc = row_xat_decode(v, vlen, &birth, &xv, &xlen, err);
        else
            rc = row_par_decode(v, vlen, &par, err);
        if (!xattr)
            birth = par.birth;
        if (rc == 0 && birth <= t && !no_past(t, par.hidden) && (!history || parts.death > t))
            rc = fn(arg, &parts);
    }
    if (rc == 0)
        rc = kv->ops->iter_err(it, err);
    kv->ops->iter_free(it);
    return rc;
}

struct xattr_arg { int (*fn)(void *, const void *, size_t); void *arg; };
static int xattr_name(void *arg, const struct key_parts *k)
{
    struct xattr_arg *x = arg;
    return x->fn(x->arg, k->name, k->name_len);
}

int asof_listxattr(struct kv *kv, uint64_t t, uint64_t ino, int (*fn)(void *, const void *, size_t), void *arg, struct err *err)
{
    uint8_t lo[KV_KEY_MAX], hi[KV_KEY_MAX];
    struct xattr_arg x = { fn, arg };
    struct kv_snap *snap = kv->ops->snap_new(kv);
    size_t llen = key_xat(lo, ino, "", 0), hlen = key_xat(hi, ino + 1, "", 0);
    int rc = names_scan(kv, snap, lo, llen, hi, hlen, t, true, false, xattr_name, &x, err);
    if (rc == 0 && t != UINT64_MAX) {
        lo[0] = hi[0] = 'A';
        rc = names_scan(kv, snap, lo, llen, hi, hlen, t, true, true, xattr_name, &x, err);
    }
    kv->ops->snap_free(kv, snap);
    return rc;
}

struct parent_arg { int (*fn)(void *, uint64_t, const char *, size_t); void *arg; };
static int parent_name(void *arg, const struct key_parts *k)
{
    struct parent_arg *p = arg;
    return p->fn(p->arg, k->parent, (const char *)k->name, k->name_len);
}

int asof_parents(struct kv *kv, uint64_t t, uint64_t ino, int (*fn)(void *, uint64_t, const char *, size_t), void *arg,
                 struct err *err)
{
    uint8_t lo[KV_KEY_MAX], hi[KV_KEY_MAX];
    struct parent_arg p = { fn, arg };
    struct kv_snap *snap = kv->ops->snap_new(kv);
    size_t llen = key_par(lo, ino, 0, "", 0), hlen = key_par(hi, ino + 1, 0, "", 0);
    int rc = names_scan(kv, snap, lo, llen, hi, hlen, t, false, false, parent_name, &p, err);
    if (rc == 0 && t != UINT64_MAX) {
        lo[0] = hi[0] = 'P';
        rc = names_scan(kv, snap, lo, llen, hi, hlen, t, false, true, parent_name, &p, err);
    }
    kv->ops->snap_free(kv, snap);
    return rc;
}

int asof_blocks(struct kv *kv, uint64_t ino, uint64_t mapgen, uint64_t b0, uint64_t b1, int (*fn)(void *, uint64_t), void *arg,
                struct err *err)
{
    uint8_t lo[KV_KEY_MAX], hi[KV_KEY_MAX];
    struct key_parts parts;
    size_t llen = key_map(lo, ino, mapgen, b0), hlen = key_map(hi, ino, mapgen, b1 + 1);
    struct kv_iter *it = kv->ops->iter_new(kv, NULL, lo, llen, hi, hlen);
    int rc = it != NULL ? 0 : nomem(err);
    if (rc < 0)
        return rc;
    for (kv->ops->iter_seek(it, lo, llen); rc == 0 && kv->ops->iter_valid(it); kv->ops->iter_next(it)) {
        size_t klen;
        const uint8_t *k = kv->ops->iter_key(it, &klen);
        rc = key_parse(k, klen, &parts) ? fn(arg, parts.block)
             : err_set(err, ERR_DAMAGE, "index: a key of a map cannot be read; rebuild the index");
    }
    if (rc == 0)
        rc = kv->ops->iter_err(it, err);
    kv->ops->iter_free(it);
    return rc;
}
