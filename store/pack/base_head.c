/* base_head.c: head, frame heads, rows as bytes and name of a base. */
#include "store/pack/base.h"

#include "store/base/bytes.h"
#include "store/base/filehead.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BH_RESERVED = 180, BH_HASH = 240, BF_SUM = 36 };
#define BASE_FRAME_MAGIC 0x46425053u            /* "SPBF" */
static_assert(BH_HASH + FILEHEAD_HASH_BYTES == BASE_HEAD_BYTES, "layout");
static_assert(BF_SUM + 4 == BASE_FRAME_HEAD_BYTES, "layout");

static const char magic[8] = { 'S', 'P', 'A', 'R', 'E', 'B', 'A', 'S' };
static const char what[] = "base";
static const uint8_t none[16];

void base_head_encode(const struct base_head *h, uint8_t buf[BASE_HEAD_BYTES])
{
    struct filehead fh = { .compat = h->compat, .ro_compat = h->ro_compat, .incompat = h->incompat, .size = h->size, .hash_alg = h->hash_alg };
    struct wr w = wr_init(buf + FILEHEAD_BYTES, BASE_HEAD_BYTES - FILEHEAD_BYTES);

    filehead_encode(&fh, magic, buf);
    wr_bytes(&w, h->lineage, 16);
    wr_bytes(&w, h->site, 16);
    wr_bytes(&w, h->epoch_id, 16);
    wr_u64(&w, h->gen);
    wr_u64(&w, h->applied);
    wr_u64(&w, h->last_lsn);
    wr_bytes(&w, h->last_hash.b, 16);
    wr_u64(&w, h->n_rows);
    wr_u64(&w, h->retained_gen);
    wr_u32(&w, h->n_frames);
    wr_u64(&w, h->let_go);
    assert(FILEHEAD_BYTES + w.len == BH_RESERVED);
    wr_zero(&w, BH_HASH - BH_RESERVED);
    assert(!w.bad && w.left == FILEHEAD_HASH_BYTES);
    filehead_seal(buf, BASE_HEAD_BYTES);
}

static void get_16(struct rd *r, uint8_t out[16])
{
    const uint8_t *p = rd_bytes(r, 16);

    if (p != NULL)
        memcpy(out, p, 16);
}

/* Whether the numbers fit each other. */
static int check_fields(const struct base_head *h, struct err *err)
{
    if (memcmp(h->lineage, none, 16) == 0 || memcmp(h->site, none, 16) == 0 || memcmp(h->epoch_id, none, 16) == 0)
        return err_set(err, ERR_DAMAGE, "%s: lineage, site or epoch id at byte 64, 80 or 96 is zero", what);
    if (h->gen == 0 || h->gen > UINT32_MAX)
        return err_set(err, ERR_DAMAGE, "%s: generation at byte 112 is %" PRIu64 ", expected 1 to 2^32 - 1", what, h->gen);
    if (h->last_lsn == 0 || h->last_lsn % 8 != 0 || h->applied % 8 != 0 || h->applied <= h->last_lsn || h->applied > INT64_MAX)
        return err_set(err, ERR_DAMAGE, "%s: applied address at byte 120 is %" PRIu64 ", of the last record at byte 128 %" PRIu64
                       ", expected multiples of 8, the first one above", what, h->applied, h->last_lsn);
    if (h->n_frames == 0 || h->n_frames > h->n_rows)
        return err_set(err, ERR_DAMAGE, "%s: number of frames at byte 168 is %" PRIu32 ", of rows at byte 152 %" PRIu64 ", which do not fit", what,
                       h->n_frames, h->n_rows);
    if (h->size < 2 * (uint64_t)BASE_HEAD_BYTES + sizeof(struct hash128) + h->n_frames * (uint64_t)(BASE_FRAME_HEAD_BYTES + 1))
        return err_set(err, ERR_DAMAGE, "%s: number of frames at byte 168 is %" PRIu32 ", which does not fit a file of %" PRIu64 " bytes", what,
                       h->n_frames, h->size);
    return 0;
}

int base_head_decode(const uint8_t *buf, size_t len, uint64_t size, struct base_head *h, struct err *err)
{
    struct rd r = rd_init(buf, BASE_HEAD_BYTES);
    struct base_head t;
    struct filehead fh;
    int rc;

    if (len < BASE_HEAD_BYTES || size < BASE_HEAD_BYTES)
        return err_set(err, ERR_DAMAGE, "%s: %zu bytes long, expected a head of %d", what, len, (int)BASE_HEAD_BYTES);
    rc = filehead_decode(buf, (size_t)size, magic, what, &fh, err);
    if (rc == 0)
        rc = filehead_check(buf, BASE_HEAD_BYTES, what, err);
    if (rc < 0)
        return rc;
    memset(&t, 0, sizeof t);
    t.compat = fh.compat;
    t.ro_compat = fh.ro_compat;
    t.incompat = fh.incompat;
    t.size = fh.size;
    t.hash_alg = fh.hash_alg;
    if (fh.key_id != 0)
        return err_set(err, ERR_DAMAGE, "%s: key id at byte 52 is %" PRIu32 ", expected 0", what, fh.key_id);
    (void)rd_bytes(&r, FILEHEAD_BYTES);
    get_16(&r, t.lineage);
    get_16(&r, t.site);
    get_16(&r, t.epoch_id);
    t.gen = rd_u64(&r);
    t.applied = rd_u64(&r);
    t.last_lsn = rd_u64(&r);
    get_16(&r, t.last_hash.b);
    t.n_rows = rd_u64(&r);
    t.retained_gen = rd_u64(&r);
    t.n_frames = rd_u32(&r);
    t.let_go = rd_u64(&r);
    if ((t.compat | t.ro_compat) == 0)          /* else a feature says what these are */
        rd_zero(&r, BH_HASH - BH_RESERVED);
    if (r.bad)
        return err_set(err, ERR_DAMAGE, "%s: reserved bytes %d to %d are not zero", what, (int)BH_RESERVED, BH_HASH - 1);
    rc = check_fields(&t, err);
    if (rc == 0)
        *h = t;
    return rc;
}

void base_frame_encode(const struct base_frame *f, uint8_t buf[BASE_FRAME_HEAD_BYTES])
{
    struct wr w = wr_init(buf, BASE_FRAME_HEAD_BYTES);

    wr_u32(&w, BASE_FRAME_MAGIC);
    wr_u32(&w, f->stored);
    wr_u32(&w, f->expanded);
    wr_u32(&w, f->n);
    wr_bytes(&w, f->hash.b, 16);
    wr_u32(&w, 0);
    assert(!w.bad && w.len == BF_SUM);
    wr_u32(&w, hash32(buf, BF_SUM));
}

int base_frame_decode(const uint8_t *buf, size_t len, struct base_frame *f, struct err *err)
{
    struct rd r = rd_init(buf, len);
    struct base_frame t;
    uint32_t mark;

    if (len < BASE_FRAME_HEAD_BYTES)
        return err_set(err, ERR_DAMAGE, "expected a frame's head of %d bytes, found %zu", (int)BASE_FRAME_HEAD_BYTES, len);
    mark = rd_u32(&r);
    if (mark != BASE_FRAME_MAGIC)
        return err_set(err, ERR_DAMAGE, "expected a frame (SPBF), found %08" PRIx32, mark);
    if (get_u32(buf + BF_SUM) != hash32(buf, BF_SUM))
        return err_set(err, ERR_DAMAGE, "checksum of a frame's head at byte %d of it: expected %08" PRIx32 ", found %08" PRIx32, (int)BF_SUM,
                       hash32(buf, BF_SUM), get_u32(buf + BF_SUM));
    t.stored = rd_u32(&r);
    t.expanded = rd_u32(&r);
    t.n = rd_u32(&r);
    get_16(&r, t.hash.b);
    if (rd_u32(&r) != 0)
        return err_set(err, ERR_DAMAGE, "reserved bytes 32 to 35 of a frame's head are not zero");
    if (t.stored == 0 || t.stored > BASE_FRAME_MAX || t.expanded == 0 || t.expanded > BASE_FRAME_MAX)
        return err_set(err, ERR_DAMAGE, "lengths of a frame: expected 1 to %d bytes, found %" PRIu32 " that expand to %" PRIu32, (int)BASE_FRAME_MAX,
                       t.stored, t.expanded);
    if (t.n == 0 || t.n > t.expanded)
        return err_set(err, ERR_DAMAGE, "rows of a frame of %" PRIu32 " bytes: found %" PRIu32, t.expanded, t.n);
    *f = t;
    return 0;
}

size_t base_row_put(uint8_t *buf, size_t cap, const uint8_t *before, size_t blen, const struct base_row *r)
{
    struct wr w = wr_init(buf, cap);
    size_t same = 0;

    while (same < blen && same < r->klen && before[same] == r->key[same])
        same++;
    wr_var(&w, same);
    wr_var(&w, r->klen - same);
    wr_var(&w, r->vlen);
    wr_bytes(&w, r->key + same, r->klen - same);
    wr_bytes(&w, r->val, r->vlen);
    return w.bad ? 0 : w.len;
}

int64_t base_row_get(const uint8_t *buf, size_t len, uint8_t *key, size_t *klen, struct base_row *r, struct err *err)
{
    struct rd d = rd_init(buf, len);
    uint64_t same = rd_var(&d), rest = rd_var(&d), vlen = rd_var(&d);
    const uint8_t *p;
    size_t common;
    int c;

    if (d.bad || same > *klen || rest == 0 || same + rest > KV_KEY_MAX || rest > d.left || vlen > d.left - rest)
        return err_set(err, ERR_DAMAGE, "lengths of a row do not fit its frame");
    p = rd_bytes(&d, (size_t)rest);
    common = *klen - (size_t)same < rest ? *klen - (size_t)same : (size_t)rest;
    c = common > 0 ? memcmp(key + same, p, common) : 0;
    /* each key has one form: its first byte that is not shared differs */
    if (c > 0 || (common > 0 && key[same] == p[0]) || (c == 0 && same < *klen))
        return err_set(err, ERR_DAMAGE, "a row's key does not rise");
    memcpy(key + same, p, (size_t)rest);
    *klen = (size_t)(same + rest);
    *r = (struct base_row){ .key = key, .klen = *klen, .val = rd_bytes(&d, (size_t)vlen), .vlen = (size_t)vlen };
    return (int64_t)(len - d.left);
}

void base_name(uint64_t gen, char buf[BASE_NAME_MAX])
{
    snprintf(buf, BASE_NAME_MAX, "archive/base-%08" PRIx32 ".base", (uint32_t)gen);
}

bool base_parse(const char *name, uint64_t *gen)
{
    return strlen(name) == 5 + 8 + 5 && memcmp(name, "base-", 5) == 0 && strcmp(name + 13, ".base") == 0 && hex_digits(name + 5, 8, gen) && *gen != 0;
}

struct gens { uint64_t *v; size_t n, cap; };

static int add_gen(void *arg, const char *name)
{
    struct gens *l = arg;
    uint64_t gen;

    if (!base_parse(name, &gen))
        return 0;
    if (l->n == l->cap) {
        size_t cap = l->cap > 0 ? 2 * l->cap : 8;
        uint64_t *v = realloc(l->v, cap * sizeof *v);

        if (v == NULL)
            return ERR_NOMEM;
        l->v = v;
        l->cap = cap;
    }
    l->v[l->n++] = gen;
    return 0;
}

int base_list(struct io *io, int (*fn)(void *arg, uint64_t gen), void *arg, struct err *err)
{
    struct gens l = { 0 };
    int rc = io_list(io, "archive", add_gen, &l, err);     /* in the order of bytes, so of generations */

    if (rc == ERR_NOENT)
        rc = 0;
    if (rc == ERR_NOMEM)
        (void)err_set(err, rc, "archive: out of memory");
    for (size_t i = l.n; rc == 0 && i > 0; i--)
        rc = fn(arg, l.v[i - 1]);
    free(l.v);
    return rc;
}
