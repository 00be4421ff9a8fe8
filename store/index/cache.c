/* cache.c: see cache.h. */
#include "store/index/cache.h"

#include "store/base/hash.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static uint64_t mix(uint64_t x)
{
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdull;
    x ^= x >> 33;
    x *= 0xc4ceb9fe1a85ec53ull;
    return x ^ (x >> 33);
}

static uint64_t key_hash(enum crow_kind kind, uint64_t ino, uint64_t mapgen, uint64_t block,
                         const void *name, size_t nlen)
{
    uint64_t h = mix(ino + ((uint64_t)kind << 56));
    if (kind == CROW_MAP)
        h = mix(h ^ mix(mapgen) ^ (block * 0x9e3779b97f4a7c15ull));
    else if (nlen > 0)
        h ^= hash64(name, nlen);
    return mix(h);
}

/* Memory a row takes, for the bound; not exact to the malloc header. */
static size_t row_bytes(const struct crow *r)
{
    size_t n = sizeof *r + 32 + r->name_len;
    if (r->kind == CROW_MAP)
        n += r->u.map.cap * sizeof(struct piece);
    else if (r->kind == CROW_XAT)
        n += r->val_len;
    else if (r->kind == CROW_INO && r->u.ino.target != NULL)
        n += r->u.ino.row.target_len;
    return n;
}

static void row_free(struct crow *r)
{
    free(r->name);
    if (r->kind == CROW_INO)
        free(r->u.ino.target);
    else if (r->kind == CROW_MAP)
        free(r->u.map.row.piece);
    else if (r->kind == CROW_XAT)
        free(r->u.xat.val);
    free(r);
}

static struct crow *row_new(enum crow_kind kind, uint64_t ino, uint64_t mapgen, uint64_t block,
                            const void *name, size_t nlen)
{
    struct crow *r = calloc(1, sizeof *r);
    if (r == NULL)
        return NULL;
    r->kind = (uint8_t)kind;
    r->ino = ino;
    r->mapgen = mapgen;
    r->block = block;
    r->name_len = (uint16_t)nlen;
    if (nlen > 0) {
        r->name = malloc(nlen);
        if (r->name == NULL) {
            free(r);
            return NULL;
        }
        memcpy(r->name, name, nlen);
    }
    r->hash = key_hash(kind, ino, mapgen, block, name, nlen);
    return r;
}

static void lru_remove(struct crow *r)
{
    if (r->lru_next != NULL) {
        r->lru_prev->lru_next = r->lru_next;
        r->lru_next->lru_prev = r->lru_prev;
        r->lru_prev = r->lru_next = NULL;
    }
}

static void lru_front(struct cache *c, struct crow *r)
{
    lru_remove(r);
    r->lru_next = c->lru.lru_next;
    r->lru_prev = &c->lru;
    c->lru.lru_next->lru_prev = r;
    c->lru.lru_next = r;
}

int cache_init(struct cache *c, struct kv *kv, struct err *err)
{
    memset(c, 0, sizeof *c);
    c->n_buckets = 1024;
    c->bucket = calloc(c->n_buckets, sizeof(struct crow *));
    if (c->bucket == NULL)
        return err_set(err, ERR_NOMEM, "row cache: out of memory");
    c->kv = kv;
    c->lru.lru_next = c->lru.lru_prev = &c->lru;
    return 0;
}

void cache_release(struct cache *c)
{
    for (size_t i = 0; i < c->n_buckets && c->bucket != NULL; i++)
        for (struct crow *r = c->bucket[i], *next; r != NULL; r = next) {
            next = r->hash_next;
            row_free(r);
        }
    free(c->bucket);
    memset(c, 0, sizeof *c);
}

static void grow(struct cache *c)
{
    size_t n = c->n_buckets * 2;
    struct crow **b = calloc(n, sizeof(struct crow *));
    if (b == NULL)
        return;                 /* longer chains, nothing worse */
    for (size_t i = 0; i < c->n_buckets; i++)
        for (struct crow *r = c->bucket[i], *next; r != NULL; r = next) {
            next = r->hash_next;
            r->hash_next = b[r->hash & (n - 1)];
            b[r->hash & (n - 1)] = r;
        }
    free(c->bucket);
    c->bucket = b;
    c->n_buckets = n;
}

static void insert(struct cache *c, struct crow *r)
{
    if (c->n_rows >= c->n_buckets)
        grow(c);
    size_t i = r->hash & (c->n_buckets - 1);
    r->hash_next = c->bucket[i];
    c->bucket[i] = r;
    c->n_rows++;
    c->bytes += row_bytes(r);
    lru_front(c, r);
}

static struct crow *find(struct cache *c, uint64_t hash, enum crow_kind kind, uint64_t ino, uint64_t mapgen,
                         uint64_t block, const void *name, size_t nlen)
{
    for (struct crow *r = c->bucket[hash & (c->n_buckets - 1)]; r != NULL; r = r->hash_next)
        if (r->hash == hash && r->kind == kind && r->ino == ino && r->mapgen == mapgen &&
            r->block == block && r->name_len == nlen && (nlen == 0 || memcmp(r->name, name, nlen) == 0))
            return r;
    return NULL;
}

static struct crow *find_ino(struct cache *c, uint64_t ino)
{
    return find(c, key_hash(CROW_INO, ino, 0, 0, NULL, 0), CROW_INO, ino, 0, 0, NULL, 0);
}

void cache_whole(struct crow *row)
{
    row->u.ino.whole = true;
}

bool cache_is_whole(struct cache *c, uint64_t dir)
{
    const struct crow *r = find_ino(c, dir);
    return r != NULL && r->u.ino.whole;
}

struct crow *cache_peek(struct cache *c, enum crow_kind kind, uint64_t ino, uint64_t mapgen, uint64_t block,
                        const void *name, size_t nlen)
{
    struct crow *r = find(c, key_hash(kind, ino, mapgen, block, name, nlen), kind, ino, mapgen, block, name, nlen);
    if (r != NULL && r->lru_next != NULL)
        lru_front(c, r);
    return r;
}

static size_t row_key(const struct crow *r, uint8_t *k)
{
    switch (r->kind) {
    case CROW_INO:
        return key_ino(k, r->ino);
    case CROW_DEN:
        return key_den(k, r->ino, r->name, r->name_len);
    case CROW_MAP:
        return key_map(k, r->ino, r->mapgen, r->block);
    default:
        return key_xat(k, r->ino, r->name, r->name_len);
    }
}

static int decode_ino(struct crow *r, const uint8_t *val, size_t vlen, struct err *err)
{
    const uint8_t *target = NULL;
    int rc = row_ino_decode(val, vlen, &r->u.ino.row, &target, err);
    if (rc < 0)
        return rc;
    if (r->u.ino.row.target_len > 0) {
        r->u.ino.target = malloc(r->u.ino.row.target_len);
        if (r->u.ino.target == NULL)
            return err_set(err, ERR_NOMEM, "row cache: out of memory");
        memcpy(r->u.ino.target, target, r->u.ino.row.target_len);
    }
    return 0;
}

static int decode(struct crow *r, const uint8_t *val, size_t vlen, struct err *err)
{
    const uint8_t *p = NULL;
    size_t len = 0;
    int rc;
    switch (r->kind) {
    case CROW_INO:
        return decode_ino(r, val, vlen, err);
    case CROW_DEN:
        return row_den_decode(val, vlen, &r->u.den, err);
    case CROW_MAP:
        rc = row_map_decode(val, vlen, &r->u.map.row, err);
        r->u.map.cap = rc == 0 ? r->u.map.row.n : 0;
        return rc;
    default:
        rc = row_xat_decode(val, vlen, &r->u.xat.birth, &p, &len, err);
        if (rc < 0 || len == 0)
            return rc;
        r->u.xat.val = malloc(len);
        if (r->u.xat.val == NULL)
            return err_set(err, ERR_NOMEM, "row cache: out of memory");
        memcpy(r->u.xat.val, p, len);
        r->val_len = (uint32_t)len;
        return 0;
    }
}

int cache_load(struct kv *kv, enum crow_kind kind, uint64_t ino, uint64_t mapgen, uint64_t block,
               const void *name, size_t nlen, struct crow **out, struct err *err)
{
    uint8_t key[KV_KEY_MAX];
    uint8_t *val = NULL;
    size_t vlen = 0;
    struct crow *r = row_new(kind, ino, mapgen, block, name, nlen);
    if (r == NULL)
        return err_set(err, ERR_NOMEM, "row cache: out of memory");
    int rc = kv_get(kv, key, row_key(r, key), &val, &vlen, err);
    if (rc == 0) {
        r->present = true;
        rc = decode(r, val, vlen, err);
    } else if (rc == ERR_NOENT) {
        rc = 0;
    }
    free(val);
    if (rc < 0) {
        row_free(r);
        return rc;
    }
    *out = r;
    return 0;
}

int cache_insert_loaded(struct cache *c, struct crow *row, uint64_t evictions)
{
    if (find(c, row->hash, row->kind, row->ino, row->mapgen, row->block, row->name, row->name_len) != NULL) {
        row_free(row);
        return 1;
    }
    if (c->evictions != evictions) {
        row_free(row);
        return 0;
    }
    insert(c, row);
    return 1;
}

static int get(struct cache *c, enum crow_kind kind, uint64_t ino, uint64_t mapgen, uint64_t block,
               const void *name, size_t nlen, struct crow **out, struct err *err)
{
    struct crow *r = cache_peek(c, kind, ino, mapgen, block, name, nlen);
    if (r != NULL) {
        c->hits++;
        *out = r;
        return 0;
    }
    if (kind == CROW_DEN && cache_is_whole(c, ino))
        return cache_fresh(c, kind, ino, 0, 0, name, nlen, out, err);
    c->misses++;
    int rc = cache_load(c->kv, kind, ino, mapgen, block, name, nlen, &r, err);
    if (rc < 0)
        return rc;
    insert(c, r);
    *out = r;
    return 0;
}

int cache_ino(struct cache *c, uint64_t ino, struct crow **out, struct err *err)
{
    return get(c, CROW_INO, ino, 0, 0, NULL, 0, out, err);
}

int cache_den(struct cache *c, uint64_t parent, const void *name, size_t nlen, struct crow **out, struct err *err)
{
    return get(c, CROW_DEN, parent, 0, 0, name, nlen, out, err);
}

int cache_map(struct cache *c, uint64_t ino, uint64_t mapgen, uint64_t block, struct crow **out, struct err *err)
{
    return get(c, CROW_MAP, ino, mapgen, block, NULL, 0, out, err);
}

int cache_xat(struct cache *c, uint64_t ino, const void *name, size_t nlen, struct crow **out, struct err *err)
{
    return get(c, CROW_XAT, ino, 0, 0, name, nlen, out, err);
}

int cache_fresh(struct cache *c, enum crow_kind kind, uint64_t ino, uint64_t mapgen, uint64_t block,
                const void *name, size_t nlen, struct crow **out, struct err *err)
{
    struct crow *r = cache_peek(c, kind, ino, mapgen, block, name, nlen);
    if (r == NULL) {
        r = row_new(kind, ino, mapgen, block, name, nlen);
        if (r == NULL)
            return err_set(err, ERR_NOMEM, "row cache: out of memory");
        insert(c, r);
    }
    *out = r;
    return 0;
}

void cache_dirty(struct cache *c, struct crow *row, uint64_t lsn)
{
    row->lsn = lsn;
    if (row->dirty)
        return;
    row->dirty = true;
    lru_remove(row);
    row->dirty_next = c->dirty;
    c->dirty = row;
}

int cache_map_reserve(struct cache *c, struct crow *row, uint32_t n)
{
    if (n <= row->u.map.cap)
        return 0;
    uint32_t cap = row->u.map.cap < 4 ? 4 : row->u.map.cap;
    while (cap < n)
        cap *= 2;
    struct piece *p = realloc(row->u.map.row.piece, cap * sizeof *p);
    if (p == NULL)
        return ERR_NOMEM;
    row->u.map.row.piece = p;
    c->bytes += (cap - row->u.map.cap) * sizeof *p;
    row->u.map.cap = cap;
    return 0;
}

int cache_set_target(struct cache *c, struct crow *row, const void *p, size_t len)
{
    char *t = NULL;
    if (len > 0) {
        t = malloc(len);
        if (t == NULL)
            return ERR_NOMEM;
        memcpy(t, p, len);
    }
    c->bytes -= row->u.ino.target != NULL ? row->u.ino.row.target_len : 0;
    free(row->u.ino.target);
    row->u.ino.target = t;
    row->u.ino.row.target_len = (uint16_t)len;
    c->bytes += len;
    return 0;
}

int cache_set_val(struct cache *c, struct crow *row, const void *p, size_t len)
{
    uint8_t *v = NULL;
    if (len > 0) {
        v = malloc(len);
        if (v == NULL)
            return ERR_NOMEM;
        memcpy(v, p, len);
    }
    c->bytes += len;
    c->bytes -= row->val_len;
    free(row->u.xat.val);
    row->u.xat.val = v;
    row->val_len = (uint32_t)len;
    return 0;
}

int cache_encode(struct kv *kv, const struct crow *row, struct kv_batch *b)
{
    uint8_t key[KV_KEY_MAX], small[ROW_INO_MAX];
    size_t klen = row_key(row, key), vlen = 0, cap;
    uint8_t *buf = NULL;
    if (!row->present) {
        kv->ops->batch_del(b, key, klen);
        return 0;
    }
    switch (row->kind) {
    case CROW_INO:
        vlen = row_ino_encode(&row->u.ino.row, row->u.ino.target, small, sizeof small);
        break;
    case CROW_DEN:
        vlen = row_den_encode(&row->u.den, small, sizeof small);
        break;
    case CROW_MAP:
        cap = row_map_bound(row->u.map.row.n);
        buf = cap > sizeof small ? malloc(cap) : NULL;
        if (cap > sizeof small && buf == NULL)
            return ERR_NOMEM;
        vlen = row_map_encode(&row->u.map.row, buf != NULL ? buf : small, buf != NULL ? cap : sizeof small);
        break;
    default:
        cap = row->val_len + 16u;
        buf = cap > sizeof small ? malloc(cap) : NULL;
        if (cap > sizeof small && buf == NULL)
            return ERR_NOMEM;
        vlen = row_xat_encode(row->u.xat.birth, row->u.xat.val, row->val_len, buf != NULL ? buf : small,
                              buf != NULL ? cap : sizeof small);
        break;
    }
    kv->ops->batch_put(b, key, klen, buf != NULL ? buf : small, vlen);
    free(buf);
    return 0;
}

int cache_drain_begin(struct cache *c, struct kv_batch *b)
{
    int rc = 0;
    assert(c->draining == NULL);
    for (struct crow *r = c->dirty; r != NULL; r = r->dirty_next) {
        int one = cache_encode(c->kv, r, b);
        rc = rc < 0 ? rc : one;
        r->dirty = false;
        r->draining = true;
        r->drain_next = r->dirty_next;
    }
    c->draining = c->dirty;
    c->dirty = NULL;
    return rc;
}

void cache_drain_end(struct cache *c)
{
    for (struct crow *r = c->draining, *next; r != NULL; r = next) {
        next = r->drain_next;
        r->drain_next = NULL;
        r->draining = false;
        if (!r->dirty)
            lru_front(c, r);
    }
    c->draining = NULL;
}

static void remove_row(struct cache *c, struct crow *r)
{
    struct crow **pp = &c->bucket[r->hash & (c->n_buckets - 1)], *dir;
    if (r->kind == CROW_DEN && r->present && (dir = find_ino(c, r->ino)) != NULL)
        dir->u.ino.whole = false;
    while (*pp != r)
        pp = &(*pp)->hash_next;
    *pp = r->hash_next;
    lru_remove(r);
    c->n_rows--;
    c->bytes -= row_bytes(r);
    c->evictions++;
    row_free(r);
}

void cache_trim(struct cache *c, size_t max_bytes)
{
    while (c->bytes > max_bytes && c->lru.lru_prev != &c->lru)
        remove_row(c, c->lru.lru_prev);
}
