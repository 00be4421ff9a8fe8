/* segment.c: header and name of a log file. */
#include "store/log/segment.h"
#include "store/base/bytes.h"
#include "store/base/super.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { SH_FIELDS = 192, SH_HASH = SEGMENT_HEADER_BYTES - 16 };
static const uint8_t segment_magic[8] = { 'S', 'P', 'A', 'R', 'E', 'L', 'O', 'G' };

void segment_header_encode(const struct segment_header *h, uint8_t buf[SEGMENT_HEADER_BYTES])
{
    struct wr w = wr_init(buf, SEGMENT_HEADER_BYTES);
    struct hash128 sum;

    wr_bytes(&w, segment_magic, sizeof segment_magic);
    wr_u32(&w, h->version);
    wr_u32(&w, h->version_min);
    wr_u64(&w, h->compat);
    wr_u64(&w, h->ro_compat);
    wr_u64(&w, h->incompat);
    wr_bytes(&w, h->lineage, 16);
    wr_bytes(&w, h->site, 16);
    wr_u32(&w, h->hash_alg);
    wr_u32(&w, h->key_id);
    wr_u64(&w, h->gen);
    wr_u64(&w, h->first);
    wr_u64(&w, h->capacity);
    wr_u32(&w, h->epoch);
    wr_u32(&w, 0);
    wr_bytes(&w, h->epoch_id, 16);
    wr_u64(&w, h->incarnation);
    wr_u64(&w, h->prev_gen);
    wr_u64(&w, h->prev_first);
    wr_u64(&w, h->cut);
    wr_u64(&w, h->prev_lsn);
    wr_bytes(&w, h->prev_hash.b, 16);
    wr_i64(&w, h->created_wall_ns);
    assert(!w.bad && w.len == SH_FIELDS);
    wr_zero(&w, SH_HASH - SH_FIELDS);
    sum = hash128(buf, SH_HASH);
    wr_bytes(&w, sum.b, sizeof sum.b);
}

static void decode_fields(struct rd *r, struct segment_header *h)
{
    const uint8_t *p;

    h->compat = rd_u64(r);
    h->ro_compat = rd_u64(r);
    h->incompat = rd_u64(r);
    if ((p = rd_bytes(r, 16)) != NULL)
        memcpy(h->lineage, p, 16);
    if ((p = rd_bytes(r, 16)) != NULL)
        memcpy(h->site, p, 16);
    h->hash_alg = rd_u32(r);
    h->key_id = rd_u32(r);
    h->gen = rd_u64(r);
    h->first = rd_u64(r);
    h->capacity = rd_u64(r);
    h->epoch = rd_u32(r);
    rd_zero(r, 4);
    if ((p = rd_bytes(r, 16)) != NULL)
        memcpy(h->epoch_id, p, 16);
    h->incarnation = rd_u64(r);
    h->prev_gen = rd_u64(r);
    h->prev_first = rd_u64(r);
    h->cut = rd_u64(r);
    h->prev_lsn = rd_u64(r);
    if ((p = rd_bytes(r, 16)) != NULL)
        memcpy(h->prev_hash.b, p, 16);
    h->created_wall_ns = rd_i64(r);
}

int segment_header_decode(const uint8_t *buf, size_t len, struct segment_header *h, struct err *err)
{
    struct segment_header t;
    struct hash128 sum, want;
    struct rd r;
    const uint8_t *magic;

    if (len < SEGMENT_HEADER_BYTES)
        return err_set(err, ERR_DAMAGE, "segment header: expected %d bytes, found %zu",
                       (int)SEGMENT_HEADER_BYTES, len);
    memset(&t, 0, sizeof t);
    r = rd_init(buf, SH_HASH);
    magic = rd_bytes(&r, sizeof segment_magic);
    if (magic == NULL || memcmp(magic, segment_magic, sizeof segment_magic) != 0)
        return err_set(err, ERR_DAMAGE, "segment header: expected SPARELOG at its start, found other bytes");
    /* The hash has its place in every version, so that damage is not taken for a newer format. */
    sum = hash128(buf, SH_HASH);
    memcpy(want.b, buf + SH_HASH, sizeof want.b);
    if (!hash128_eq(&sum, &want))
        return err_set(err, ERR_DAMAGE, "segment header: hash: expected %016" PRIx64 "..., found %016" PRIx64 "...",
                       get_be64(want.b), get_be64(sum.b));
    t.version = rd_u32(&r);
    t.version_min = rd_u32(&r);
    if (t.version_min == 0 || t.version_min > t.version)
        return err_set(err, ERR_DAMAGE, "segment header: format %u readable from %u up", t.version, t.version_min);
    if (t.version_min > FORMAT_VERSION || t.version < FORMAT_VERSION_MIN)
        return err_set(err, ERR_VERSION, "segment header: format %u (readable from %u up), this program reads %d to %d",
                       t.version, t.version_min, (int)FORMAT_VERSION_MIN, (int)FORMAT_VERSION);
    decode_fields(&r, &t);
    if ((t.compat | t.ro_compat | t.incompat) == 0)     /* features may explain other bytes */
        rd_zero(&r, SH_HASH - SH_FIELDS);
    if (r.bad)
        return err_set(err, ERR_DAMAGE, "segment header: reserved bytes are not zero");
    if (t.incompat != 0)
        return err_set(err, ERR_VERSION, "segment header: unknown features %#" PRIx64, t.incompat);
    if (t.hash_alg != HASH_XXH3)
        return err_set(err, ERR_VERSION, "segment header: unknown hash algorithm %u", t.hash_alg);
    if (t.gen == 0 || t.gen > UINT32_MAX || t.first == 0 || t.first % 8 != 0 ||
        t.first > INT64_MAX || t.capacity > INT64_MAX || t.cut != t.first || t.prev_gen >= t.gen)
        return err_set(err, ERR_DAMAGE, "segment header: generation, first address or capacity out of bounds");
    *h = t;
    return 0;
}

void segment_name(uint64_t first, uint64_t gen, char buf[SEGMENT_NAME_MAX])
{
    /* Generations above 32 bits do not occur: one a segment. */
    snprintf(buf, SEGMENT_NAME_MAX, "log/%016" PRIx64 "-%08" PRIx32 ".seg", first, (uint32_t)gen);
}

bool segment_parse(const char *name, uint64_t *first, uint64_t *gen)
{
    uint64_t f, g;

    if (strlen(name) != 16 + 1 + 8 + 4 || name[16] != '-' || strcmp(name + 25, ".seg") != 0)
        return false;
    if (!hex_digits(name, 16, &f) || !hex_digits(name + 17, 8, &g))
        return false;
    if (f == 0 || f % 8 != 0 || f > INT64_MAX || g == 0)
        return false;
    *first = f;
    *gen = g;
    return true;
}
