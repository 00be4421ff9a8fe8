/*
 * pack_fill.c: from the data of a window to chunks, frames and addresses.
 *
 * Data that follow each other in a file, as written, are one run. A run of up to a chunk's size is one chunk, a longer one is cut where its content says
 * so. A chunk is
 *   known      if its bytes are there already, in this pack or an older one: the bytes are compared, the hash only finds them;
 *   a delta    if what had its place in the file of the same name before is like it;
 *   raw        if it cannot be compressed;
 *   grouped    else, with others, in the order they come: files of one directory.
 */
#include "store/maint/pack_internal.h"

#include "store/index/kv.h"
#include "store/index/rows.h"
#include "store/pack/chunker.h"

#include <stdlib.h>
#include <string.h>

/* A chunk of this pack. */
struct local { struct hash128 hash; uint64_t number; size_t ext; uint32_t doff, len; uint8_t depth; };
/* What is remembered of a name's part: the newest chunk there; local: 1 + its index, if it is of this pack. */
struct place { uint64_t key, number; uint32_t local; };

struct filled {
    struct local *chunk;
    size_t n, cap;
    uint32_t *table;                 /* by hash: 1 + index of a chunk; a power of two of them */
    size_t slots;
    struct place *place;             /* by key; a power of two of them, key 0: free */
    size_t n_places, places;
};

struct filler {
    struct store *s;
    const struct packer_options *opt;
    const struct window *w;
    struct pack_writer *pack;
    struct packer_result *res;
    struct filled *f;
    bool older_chunks, older_places; /* the index has hints of them at all */
    uint8_t *buf;                    /* data of the run, CHUNKER_MAX + a record's */
    size_t have;                     /* bytes in it */
    uint8_t *base, *other;           /* CHUNKER_MAX each */
    uint8_t *group;                  /* chunks waiting for their frame */
    size_t group_len;
    struct pack_chunk waiting[GROUP_BYTES / 16 + 1];
    uint32_t n_waiting;
    struct err *err;
};

static int nomem(struct err *err)
{
    return err_set(err, ERR_NOMEM, "packing: out of memory");
}

/* ---- tables ---- */

static size_t slot_of(const struct filled *f, const struct hash128 *h)
{
    return (size_t)get_u64(h->b) & (f->slots - 1);
}

static int table_grow(struct filled *f)
{
    size_t slots = f->slots > 0 ? 2 * f->slots : 4096;
    uint32_t *table = calloc(slots, sizeof *table);

    if (table == NULL)
        return ERR_NOMEM;
    free(f->table);
    f->table = table;
    f->slots = slots;
    for (size_t i = 0; i < f->n; i++) {
        size_t at = slot_of(f, &f->chunk[i].hash);

        while (f->table[at] != 0)
            at = (at + 1) & (slots - 1);
        f->table[at] = (uint32_t)i + 1;
    }
    return 0;
}

static int local_add(struct filled *f, const struct local *l)
{
    size_t at;

    if (f->n == f->cap) {
        size_t cap = f->cap > 0 ? 2 * f->cap : 1024;
        struct local *c = realloc(f->chunk, cap * sizeof *c);

        if (c == NULL)
            return ERR_NOMEM;
        f->chunk = c;
        f->cap = cap;
    }
    if (2 * (f->n + 1) > f->slots && table_grow(f) < 0)
        return ERR_NOMEM;
    for (at = slot_of(f, &l->hash); f->table[at] != 0; at = (at + 1) & (f->slots - 1))
        ;
    f->chunk[f->n++] = *l;
    f->table[at] = (uint32_t)f->n;
    return 0;
}

static int place_put(struct filled *f, uint64_t key, uint64_t number, uint32_t local)
{
    size_t at;

    if (2 * (f->n_places + 1) > f->places) {
        size_t old = f->places;
        struct place *v = f->place;

        f->places = old > 0 ? 2 * old : 4096;
        f->place = calloc(f->places, sizeof *f->place);
        if (f->place == NULL) {
            f->place = v;
            f->places = old;
            return ERR_NOMEM;
        }
        for (size_t i = 0; i < old; i++) {
            if (v[i].key == 0)
                continue;
            for (at = (size_t)v[i].key & (f->places - 1); f->place[at].key != 0; at = (at + 1) & (f->places - 1))
                ;
            f->place[at] = v[i];
        }
        free(v);
    }
    for (at = (size_t)key & (f->places - 1); f->place[at].key != 0 && f->place[at].key != key; at = (at + 1) & (f->places - 1))
        ;
    f->n_places += f->place[at].key == 0;
    f->place[at] = (struct place){ key, number, local };
    return 0;
}

static const struct place *place_get(const struct filled *f, uint64_t key)
{
    if (f->places == 0)
        return NULL;
    for (size_t at = (size_t)key & (f->places - 1); f->place[at].key != 0; at = (at + 1) & (f->places - 1))
        if (f->place[at].key == key)
            return &f->place[at];
    return NULL;
}

static uint64_t place_key(uint64_t path, uint64_t off)
{
    uint64_t k = path ^ (off >> PATH_BLOCK_BITS) * UINT64_C(0x9e3779b97f4a7c15);

    return k != 0 ? k : 1;
}

/* ---- bytes that are there already ---- */

/* The bytes of a chunk of this pack: out of the log, whole, though its frame may not be written yet. It may begin in one extent and end in others. */
static int local_bytes(struct filler *k, const struct local *l, uint8_t *out)
{
    size_t ext = l->ext;
    uint32_t doff = l->doff, done = 0;
    int rc = 0;

    while (rc == 0 && done < l->len) {
        const struct extent *e = &k->w->ext[ext++];
        uint32_t n = e->len - doff < l->len - done ? e->len - doff : l->len - done;

        rc = log_read_data(store_log(k->s), e->lsn, e->dstart, doff, n, out + done, false, k->err);
        done += n;
        doff = 0;
    }
    return rc;
}

/* A row of one number: 0 where there is none. */
static int hint(struct filler *k, const uint8_t *key, size_t klen, uint64_t *number)
{
    uint8_t *val = NULL;
    size_t vlen;
    int rc = kv_get(store_kv(k->s), key, klen, &val, &vlen, k->err);

    *number = 0;
    if (rc == 0 && row_u64_decode(val, vlen, number, NULL) < 0)
        *number = 0;                     /* a hint: worth nothing */
    free(val);
    return rc == ERR_NOENT ? 0 : rc;
}

static int any_row(struct kv *kv, const uint8_t *lo, const uint8_t *hi, size_t len, bool *any, struct err *err)
{
    struct kv_iter *it = kv->ops->iter_new(kv, NULL, lo, len, hi, len);
    int rc;

    if (it == NULL)
        return nomem(err);
    kv->ops->iter_seek(it, lo, len);
    *any = kv->ops->iter_valid(it);
    rc = kv->ops->iter_err(it, err);
    kv->ops->iter_free(it);
    return rc;
}

/* Whether there are hints at all: those of a store's first pack would be looked for in vain, one by one, and that is a fifteenth of what it takes. */
static int look_for_hints(struct filler *k)
{
    struct hash128 none, last;
    uint8_t lo[KV_KEY_MAX], hi[KV_KEY_MAX];
    struct kv *kv = store_kv(k->s);
    int rc;

    memset(&none, 0, sizeof none);
    memset(&last, 0xff, sizeof last);
    (void)key_chunk(hi, &last);
    rc = any_row(kv, lo, hi, key_chunk(lo, &none), &k->older_chunks, k->err);
    if (rc < 0)
        return rc;
    (void)key_place(hi, UINT64_MAX);
    return any_row(kv, lo, hi, key_place(lo, 0), &k->older_places, k->err);
}

/* An older chunk with these bytes: its number, else 0. */
static int known_before(struct filler *k, const struct hash128 *h, const uint8_t *p, uint32_t len, uint64_t *number)
{
    uint8_t key[KV_KEY_MAX], depth;
    uint32_t n = 0;
    int rc = 0;

    *number = 0;
    if (k->older_chunks)
        rc = hint(k, key, key_chunk(key, h), number);
    if (rc < 0 || *number == 0)
        return rc;
    rc = packs_chunk(store_packs(k->s), *number, k->other, &n, &depth, NULL);
    if (rc == 0 && n == len && memcmp(k->other, p, len) == 0)
        return 0;
    *number = 0;                         /* let go of, or not the same, or damaged: this one is stored */
    return rc == ERR_NOMEM ? nomem(k->err) : 0;
}

static const struct local *local_find(struct filler *k, const struct hash128 *h, uint32_t len)
{
    const struct filled *f = k->f;

    if (f->slots == 0)
        return NULL;
    for (size_t at = slot_of(f, h); f->table[at] != 0; at = (at + 1) & (f->slots - 1)) {
        const struct local *l = &f->chunk[f->table[at] - 1];

        if (l->len == len && hash128_eq(&l->hash, h))
            return l;
    }
    return NULL;
}

/* The chunk that was in this part of the name before: *${len} 0 where there is none. */
static int base_of(struct filler *k, uint64_t path, uint64_t off, struct pack_base *base)
{
    uint64_t place = place_key(path, off), number = 0;
    const struct place *at = place_get(k->f, place);
    uint8_t key[KV_KEY_MAX];
    int rc = 0;

    base->len = 0;
    if (path == 0)
        return 0;
    if (at != NULL && at->local != 0) {
        const struct local *l = &k->f->chunk[at->local - 1];

        *base = (struct pack_base){ l->number, k->base, l->len, l->depth };
        return local_bytes(k, l, k->base);
    }
    if (at != NULL)
        number = at->number;
    if (number == 0 && k->older_places)
        rc = hint(k, key, key_place(key, place), &number);
    if (rc == 0 && number != 0) {
        *base = (struct pack_base){ .number = number, .bytes = k->base };
        rc = packs_chunk(store_packs(k->s), number, k->base, &base->len, &base->depth, NULL);
        if (rc < 0)
            base->len = 0;
        rc = rc == ERR_NOMEM ? nomem(k->err) : 0;
    }
    return rc;
}

/* ---- frames ---- */

static int group_flush(struct filler *k)
{
    uint32_t stored = 0;
    int rc;

    if (k->n_waiting == 0)
        return 0;
    rc = pack_put_frame(k->pack, PACK_ZSTD, PACK_LEVEL, k->waiting, k->n_waiting, k->group, NULL, &stored, k->err);
    k->n_waiting = 0;
    k->group_len = 0;
    return rc;
}

static int put_alone(struct filler *k, enum pack_frame_kind kind, struct pack_chunk *c, const uint8_t *p, const struct pack_base *base)
{
    return pack_put_frame(k->pack, kind, PACK_LEVEL, c, 1, p, base, NULL, k->err);
}

/* As a difference, if that pays: 1; 0: it does not. */
static int try_delta(struct filler *k, struct pack_chunk *c, const uint8_t *p, const struct extent *e, uint64_t off, uint8_t *depth)
{
    struct pack_base base;
    int64_t d, z;
    int rc = base_of(k, e->path, off + c->len / 2, &base);

    if (rc < 0 || base.len == 0 || base.depth >= (c->len <= SMALL_CHUNK ? DEPTH_SMALL : DEPTH_LARGE))
        return rc;
    d = pack_try(k->pack, PACK_LEVEL, p, c->len, &base, k->err);
    if (d < 0)
        return (int)d;
    if (d > c->len / 4) {
        z = pack_try(k->pack, PACK_LEVEL, p, c->len, NULL, k->err);
        if (z < 0 || 4 * d > 3 * z)
            return z < 0 ? (int)z : 0;
    }
    *depth = (uint8_t)(base.depth + 1);
    k->res->deltas++;
    rc = put_alone(k, PACK_DELTA, c, p, &base);
    return rc < 0 ? rc : 1;
}

/*
 * Whether it would be of no use to compress: its bytes come about equally often, as those of noise (the sum of the squares of their counts, in a sample, is
 * n * n / 256 + n for noise, and more for everything else), and zstd says so too.
 */
static int is_noise(struct filler *k, const uint8_t *p, uint32_t len)
{
    const uint64_t of_noise = (uint64_t)SAMPLE_BYTES * SAMPLE_BYTES / 256 + SAMPLE_BYTES;
    uint32_t count[256] = { 0 };
    uint64_t squares = 0;
    int64_t z;

    if (len < SAMPLE_BYTES)
        return 0;
    p += (len - SAMPLE_BYTES) / 2;
    for (uint32_t i = 0; i < SAMPLE_BYTES; i++)
        count[p[i]]++;
    for (int i = 0; i < 256; i++)
        squares += (uint64_t)count[i] * count[i];
    if (squares > of_noise + of_noise / 8)
        return 0;
    z = pack_try(k->pack, 1, p, SAMPLE_BYTES, NULL, k->err);
    return z < 0 ? (int)z : z > SAMPLE_BYTES - SAMPLE_BYTES / 32;
}

/* A new chunk into a frame. */
static int store_chunk(struct filler *k, struct pack_chunk *c, const uint8_t *p, const struct extent *e, uint64_t off, uint8_t *depth)
{
    int rc = try_delta(k, c, p, e, off, depth);

    if (rc != 0)
        return rc < 0 ? rc : 0;
    rc = is_noise(k, p, c->len);
    if (rc != 0)
        return rc < 0 ? rc : put_alone(k, PACK_RAW, c, p, NULL);
    if (k->group_len + c->len > GROUP_BYTES || k->n_waiting == sizeof k->waiting / sizeof *k->waiting)
        rc = group_flush(k);
    if (rc == 0 && c->len > GROUP_BYTES)
        return put_alone(k, PACK_ZSTD, c, p, NULL);
    if (rc == 0) {
        memcpy(k->group + k->group_len, p, c->len);
        k->group_len += c->len;
        k->waiting[k->n_waiting++] = *c;
    }
    return rc;
}

/* The number of a chunk with these bytes that is there already, 0 none; *${local} as in struct place. */
static int known(struct filler *k, const struct hash128 *h, const uint8_t *p, uint32_t len, uint64_t *number, uint32_t *local)
{
    const struct local *same = local_find(k, h, len);
    int rc;

    *number = *local = 0;
    if (same == NULL)
        return known_before(k, h, p, len, number);
    rc = local_bytes(k, same, k->other);
    if (rc == 0 && memcmp(k->other, p, len) == 0) {
        *number = same->number;
        *local = (uint32_t)(same - k->f->chunk) + 1;
    }
    return rc;
}

/* The chunk of these bytes, which begin ${doff} bytes into extent ${i} and at ${off} of the file: its number. */
static int chunk_of(struct filler *k, const uint8_t *p, uint32_t len, size_t i, uint32_t doff, uint64_t off, uint64_t *number)
{
    const struct extent *e = &k->w->ext[i];
    struct pack_chunk c = { .number = e->lsn + e->dstart + doff, .len = len, .hash = pack_hash(store_hash_key(k->s), p, len) };
    struct local l = { .hash = c.hash, .number = c.number, .ext = i, .doff = doff, .len = len };
    uint32_t local = 0;
    int rc = known(k, &c.hash, p, len, number, &local);

    if (rc == 0 && *number != 0) {
        k->res->known++;
    } else if (rc == 0) {
        *number = c.number;
        rc = store_chunk(k, &c, p, e, off, &l.depth);
        if (rc == 0 && (rc = local_add(k->f, &l)) < 0)
            rc = nomem(k->err);
        local = (uint32_t)k->f->n;
        k->res->chunks++;
        k->res->chunk_bytes += len;
    }
    for (uint64_t at = off >> PATH_BLOCK_BITS; rc == 0 && e->path != 0 && at <= (off + len - 1) >> PATH_BLOCK_BITS; at++)
        if ((rc = place_put(k->f, place_key(e->path, at << PATH_BLOCK_BITS), *number, local)) < 0)
            rc = nomem(k->err);
    return rc;
}

/* ---- runs ---- */

/* Says where ${len} bytes of the extents from (${*i}, ${*doff}) on are: in chunk ${number}. */
static int put_addresses(struct filler *k, size_t *i, uint32_t *doff, uint32_t len, uint64_t number)
{
    uint32_t done = 0;
    int rc = 0;

    while (rc == 0 && done < len) {
        const struct extent *e = &k->w->ext[*i];
        uint32_t n = e->len - *doff < len - done ? e->len - *doff : len - done;
        struct pack_addr a = { .lsn = e->lsn, .chunk = number, .ino = e->ino, .off = e->off + *doff, .doff = *doff, .len = n, .chunk_off = done };

        rc = pack_put_addr(k->pack, &a, k->err);
        done += n;
        *doff += n;
        if (*doff == e->len) {
            ++*i;
            *doff = 0;
        }
    }
    return rc;
}

/* Extents [from, to) follow each other in a file. */
static int pack_run(struct filler *k, size_t from, size_t to)
{
    size_t read = from, at = from;
    uint32_t doff = 0;
    uint64_t off = k->w->ext[from].off, left = 0;
    int rc = 0;

    for (size_t i = from; i < to; i++)
        left += k->w->ext[i].len;
    bool one = left <= CHUNKER_MAX;
    k->have = 0;
    while (rc == 0 && left > 0) {
        while (rc == 0 && read < to && k->have < CHUNKER_MAX) {
            const struct extent *e = &k->w->ext[read++];

            rc = log_read_data(store_log(k->s), e->lsn, e->dstart, 0, e->len, k->buf + k->have, false, k->err);
            k->have += e->len;
        }
        if (rc < 0)
            return rc;
        uint32_t len = (uint32_t)(one ? left : chunker_cut(k->buf, k->have));
        uint64_t number = 0;

        rc = told_to_stop(k->opt, k->err);
        if (rc == 0)
            rc = chunk_of(k, k->buf, len, at, doff, off, &number);
        if (rc == 0)
            rc = put_addresses(k, &at, &doff, len, number);
        k->have -= len;
        memmove(k->buf, k->buf + len, k->have);
        off += len;
        left -= len;
    }
    return rc;
}

static bool follows(const struct extent *a, const struct extent *b)
{
    return a->ino == b->ino && a->off + a->len == b->off;
}

static int pack_all(struct filler *k)
{
    const struct window *w = k->w;
    int rc = 0;

    for (size_t i = 0, to; rc == 0 && i < w->n; i = to) {
        for (to = i + 1; to < w->n && follows(&w->ext[to - 1], &w->ext[to]); to++)
            ;
        rc = pack_run(k, i, to);
    }
    return rc == 0 ? group_flush(k) : rc;
}

int fill_pack(struct store *s, const struct packer_options *opt, const struct window *w, struct pack_writer *pack, struct packer_result *res,
              struct filled **out, struct err *err)
{
    struct filler *k = calloc(1, sizeof *k);
    struct filled *f = calloc(1, sizeof *f);
    int rc = 0;

    if (k != NULL) {
        *k = (struct filler){ .s = s, .opt = opt, .w = w, .pack = pack, .res = res, .f = f, .err = err };
        k->buf = malloc(CHUNKER_MAX + REC_DATA_MAX);
        k->base = malloc(PACK_CHUNK_MAX);
        k->other = malloc(PACK_CHUNK_MAX);
        k->group = malloc(GROUP_BYTES);
    }
    if (k == NULL || f == NULL || k->buf == NULL || k->base == NULL || k->other == NULL || k->group == NULL)
        rc = nomem(err);
    if (rc == 0)
        rc = look_for_hints(k);
    if (rc == 0)
        rc = pack_all(k);
    if (k != NULL) {
        free(k->buf);
        free(k->base);
        free(k->other);
        free(k->group);
    }
    free(k);
    if (rc < 0) {
        fill_free(f);
        return rc;
    }
    *out = f;
    return 0;
}

/* ---- what later packs may refer to ---- */

static void put_rows(void *arg, struct kv *kv, struct kv_batch *b)
{
    const struct filled *f = arg;
    uint8_t key[KV_KEY_MAX], val[ROW_SMALL_MAX];

    for (size_t i = 0; i < f->n; i++)
        kv->ops->batch_put(b, key, key_chunk(key, &f->chunk[i].hash), val, row_u64_encode(f->chunk[i].number, val, sizeof val));
    for (size_t i = 0; i < f->places; i++)
        if (f->place[i].key != 0)
            kv->ops->batch_put(b, key, key_place(key, f->place[i].key), val, row_u64_encode(f->place[i].number, val, sizeof val));
}

int fill_remember(struct filled *f, struct store *s, struct err *err)
{
    return store_put_rows(s, put_rows, f, err);
}

void fill_free(struct filled *f)
{
    if (f == NULL)
        return;
    free(f->chunk);
    free(f->table);
    free(f->place);
    free(f);
}
