/* pack.c: head, directory and name of a pack; the keyed hash. */
#include "store/pack/pack.h"
#include "store/base/bytes.h"
#include "store/base/filehead.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { AT_SIZE = 40, AT_RESERVED = 172, AT_HASH = PACK_HEAD_BYTES - 16, TAIL_BYTES = PACK_HEAD_BYTES + 16 };
static const char magic[8] = { 'S', 'P', 'A', 'R', 'E', 'P', 'A', 'K' };
static const char what[] = "pack head";

/* ---- head ---- */

void pack_head_encode(const struct pack_head *h, uint8_t buf[PACK_HEAD_BYTES])
{
    struct filehead f = { .compat = h->compat, .ro_compat = h->ro_compat, .incompat = h->incompat, .size = h->size,
                          .hash_alg = h->hash_alg, .key_id = h->key_id };
    struct wr w = wr_init(buf + FILEHEAD_BYTES, PACK_HEAD_BYTES - FILEHEAD_BYTES);
    struct hash128 sum;

    filehead_encode(&f, magic, buf);
    wr_bytes(&w, h->lineage, 16);
    wr_bytes(&w, h->site, 16);
    wr_bytes(&w, h->epoch_id, 16);
    wr_u64(&w, h->gen);
    wr_u64(&w, h->first);
    wr_u64(&w, h->end);
    wr_u64(&w, h->retained_gen);
    wr_u64(&w, h->tables_at);
    wr_u64(&w, h->tables2_at);
    wr_u64(&w, h->tables_bytes);
    wr_u32(&w, h->n_blocks);
    assert(!w.bad && w.len == AT_RESERVED - FILEHEAD_BYTES);
    wr_zero(&w, AT_HASH - AT_RESERVED);
    sum = hash128(buf, AT_HASH);
    wr_bytes(&w, sum.b, sizeof sum.b);
    assert(!w.bad && w.left == 0);
}

static int bounds(const char *field, unsigned at, uint64_t found, struct err *err)
{
    return err_set(err, ERR_DAMAGE, "%s: %s at byte %u is %" PRIu64 ", out of its bounds", what, field, at, found);
}

static int check_places(const struct pack_head *h, struct err *err)
{
    uint64_t dir, apart;

    if (h->n_blocks > PACK_BLOCKS_MAX)
        return bounds("number of blocks", 168, h->n_blocks, err);
    dir = pack_dir_bytes(h->n_blocks);
    if (h->tables_bytes < dir || h->tables_bytes > dir + h->n_blocks * (uint64_t)PACK_BLOCK_BYTES_MAX)
        return bounds("bytes of the tables", 160, h->tables_bytes, err);
    if (h->tables_at < PACK_HEAD_BYTES || h->tables_at > INT64_MAX)
        return bounds("place of the first tables", 144, h->tables_at, err);
    apart = h->tables_bytes > PACK_TABLES_APART ? h->tables_bytes : PACK_TABLES_APART;
    if (h->tables2_at < h->tables_at + apart || h->tables2_at > INT64_MAX)
        return bounds("place of the second tables", 152, h->tables2_at, err);
    if (h->size != h->tables2_at + h->tables_bytes + TAIL_BYTES)
        return err_set(err, ERR_DAMAGE, "%s: size at byte %d is %" PRIu64 ", expected %" PRIu64 " by its tables", what, (int)AT_SIZE, h->size,
                       h->tables2_at + h->tables_bytes + TAIL_BYTES);
    return 0;
}

static int check_fields(const struct pack_head *h, struct err *err)
{
    static const uint8_t none[16];

    if (memcmp(h->lineage, none, 16) == 0)
        return err_set(err, ERR_DAMAGE, "%s: lineage at byte 64 is zero", what);
    if (h->gen == 0 || h->gen > UINT32_MAX)
        return bounds("generation", 112, h->gen, err);
    if (h->first == 0 || h->first % 8 != 0 || h->first > INT64_MAX)
        return bounds("first address", 120, h->first, err);
    if (h->end <= h->first || h->end % 8 != 0 || h->end > INT64_MAX)
        return bounds("end address", 128, h->end, err);
    return check_places(h, err);
}

static void get_id(struct rd *r, uint8_t id[16])
{
    const uint8_t *p = rd_bytes(r, 16);

    if (p)
        memcpy(id, p, 16);
}

int pack_head_decode(const uint8_t *buf, size_t len, uint64_t size, struct pack_head *h, bool *other_size, struct err *err)
{
    struct pack_head t = { 0 };
    struct filehead f;
    struct hash128 sum, want;
    struct rd r;
    int rc;

    if (len < PACK_HEAD_BYTES)
        return err_set(err, ERR_DAMAGE, "%s: expected %d bytes, found %zu", what, (int)PACK_HEAD_BYTES, len);
    /* It looks at no more than its own bytes; whether the file has this size is another question. */
    rc = filehead_decode(buf, (size_t)get_u64(buf + AT_SIZE), magic, what, &f, err);
    if (rc)
        return rc;
    sum = hash128(buf, AT_HASH);
    memcpy(want.b, buf + AT_HASH, sizeof want.b);
    if (!hash128_eq(&sum, &want))
        return err_set(err, ERR_DAMAGE, "%s: hash at byte %d: expected %016" PRIx64 "..., found %016" PRIx64 "...", what, (int)AT_HASH,
                       get_be64(want.b), get_be64(sum.b));
    t.compat = f.compat;
    t.ro_compat = f.ro_compat;
    t.incompat = f.incompat;
    t.size = f.size;
    t.hash_alg = f.hash_alg;
    t.key_id = f.key_id;
    r = rd_init(buf + FILEHEAD_BYTES, AT_HASH - FILEHEAD_BYTES);
    get_id(&r, t.lineage);
    get_id(&r, t.site);
    get_id(&r, t.epoch_id);
    t.gen = rd_u64(&r);
    t.first = rd_u64(&r);
    t.end = rd_u64(&r);
    t.retained_gen = rd_u64(&r);
    t.tables_at = rd_u64(&r);
    t.tables2_at = rd_u64(&r);
    t.tables_bytes = rd_u64(&r);
    t.n_blocks = rd_u32(&r);
    if ((t.compat | t.ro_compat) == 0)      /* features may explain other bytes */
        rd_zero(&r, AT_HASH - AT_RESERVED);
    if (r.bad)
        return err_set(err, ERR_DAMAGE, "%s: reserved bytes %d to %d are not zero", what, (int)AT_RESERVED, (int)AT_HASH - 1);
    rc = check_fields(&t, err);
    if (rc)
        return rc;
    *h = t;
    if (other_size)
        *other_size = t.size != size;
    return 0;
}

/* ---- directory ---- */

size_t pack_dir_bytes(uint32_t n_blocks)
{
    return n_blocks * (size_t)PACK_BLOCK_ENTRY_BYTES + sizeof(struct hash128);
}

void pack_dir_encode(const struct pack_block *b, uint32_t n, uint8_t *buf)
{
    size_t len = n * (size_t)PACK_BLOCK_ENTRY_BYTES;
    struct wr w = wr_init(buf, pack_dir_bytes(n));
    struct hash128 sum;

    for (uint32_t i = 0; i < n; i++, b++) {
        wr_u32(&w, b->kind);
        wr_u32(&w, b->entries);
        wr_u64(&w, b->at);
        wr_u32(&w, b->stored);
        wr_u32(&w, b->expanded);
        wr_u64(&w, b->least);
        wr_u64(&w, b->frames_at);
        wr_u64(&w, b->sum);
    }
    sum = hash128(buf, len);
    wr_bytes(&w, sum.b, sizeof sum.b);
    assert(!w.bad && w.left == 0);
}

/* What is wrong with block ${i}, whose predecessors are good; NULL: nothing. */
static const char *bad_block(const struct pack_head *h, const struct pack_block *all, uint32_t i)
{
    const struct pack_block *b = &all[i], *before = i ? b - 1 : NULL;
    uint64_t at = before ? before->at + before->stored : pack_dir_bytes(h->n_blocks);

    if (before && b->kind < before->kind)
        return "is of a kind below that of the one before";
    if (before && b->kind != before->kind)
        before = NULL;
    if (b->entries == 0 || b->entries > PACK_ENTRIES_MAX)
        return "has a number of entries out of its bounds";
    if (b->stored == 0 || b->stored > PACK_BLOCK_BYTES_MAX || b->expanded == 0 || b->expanded > PACK_BLOCK_BYTES_MAX)
        return "has a length out of its bounds";
    if (b->at != at || at > h->tables_bytes || b->stored > h->tables_bytes - at)
        return "does not lie behind the one before";
    if (before && b->least <= before->least)
        return "begins at or below the one before";
    switch (b->kind) {
    case PACK_FRAMES:
        if (b->least != (before ? before->least + before->entries : 0))
            return "does not begin with the frame behind the one before";
        if (before ? b->frames_at <= before->frames_at : b->frames_at != PACK_HEAD_BYTES)
            return "has frames that do not lie behind those before";
        return b->frames_at < h->tables_at ? NULL : "has frames behind the end of the frames";
    case PACK_CHUNKS:
        if (b->least == 0 || b->least > INT64_MAX)
            return "begins with a chunk out of bounds";
        break;
    case PACK_ADDRESSES:
        if (b->least < h->first || b->least >= h->end || b->least % 8 != 0)
            return "begins with an address that is not the pack's";
        break;
    default:
        return NULL;            /* of a newer program: nothing is known of its fields */
    }
    return b->frames_at == 0 ? NULL : "has frames, but is not of that kind";
}

static int check_dir(const struct pack_head *h, const struct pack_block *b, struct err *err)
{
    uint32_t n = h->n_blocks, i;
    uint64_t end = n ? b[n - 1].at + b[n - 1].stored : pack_dir_bytes(0);

    for (i = 0; i < n; i++) {
        const char *why = bad_block(h, b, i);

        if (why)
            return err_set(err, ERR_DAMAGE, "directory: block %" PRIu32 " at byte %zu %s", i, i * (size_t)PACK_BLOCK_ENTRY_BYTES, why);
    }
    if (end != h->tables_bytes)
        return err_set(err, ERR_DAMAGE, "directory: expected tables of %" PRIu64 " bytes, found %" PRIu64, h->tables_bytes, end);
    for (i = 0; i < n && b[i].kind != PACK_FRAMES; i++)
        ;
    if (i == n && h->tables_at != PACK_HEAD_BYTES)
        return err_set(err, ERR_DAMAGE, "directory: expected blocks for %" PRIu64 " bytes of frames, found none",
                       h->tables_at - PACK_HEAD_BYTES);
    return 0;
}

int pack_dir_decode(const uint8_t *buf, size_t len, const struct pack_head *h, struct pack_block **out, struct err *err)
{
    size_t n = h->n_blocks;
    struct pack_block *b;
    struct hash128 sum, want;
    struct rd r;
    int rc;

    if (h->n_blocks > PACK_BLOCKS_MAX || len != pack_dir_bytes(h->n_blocks))
        return err_set(err, ERR_DAMAGE, "directory: expected %zu bytes for %zu blocks, found %zu", pack_dir_bytes(h->n_blocks), n, len);
    sum = hash128(buf, len - sizeof sum.b);
    memcpy(want.b, buf + len - sizeof sum.b, sizeof want.b);
    if (!hash128_eq(&sum, &want))
        return err_set(err, ERR_DAMAGE, "directory: hash: expected %016" PRIx64 "..., found %016" PRIx64 "...", get_be64(want.b),
                       get_be64(sum.b));
    b = calloc(n ? n : 1, sizeof *b);
    if (b == NULL)
        return err_set(err, ERR_NOMEM, "directory of %zu blocks: out of memory", n);
    r = rd_init(buf, len - sizeof sum.b);
    for (size_t i = 0; i < n; i++) {
        b[i].kind = rd_u32(&r);
        b[i].entries = rd_u32(&r);
        b[i].at = rd_u64(&r);
        b[i].stored = rd_u32(&r);
        b[i].expanded = rd_u32(&r);
        b[i].least = rd_u64(&r);
        b[i].frames_at = rd_u64(&r);
        b[i].sum = rd_u64(&r);
    }
    assert(rd_done(&r));
    rc = check_dir(h, b, err);
    if (rc)
        free(b);
    else
        *out = b;
    return rc;
}

/* ---- name, hash ---- */

void pack_name(uint64_t first, uint64_t end, uint64_t gen, char buf[PACK_NAME_MAX])
{
    names_put("packs", "pack", first, end, gen, buf);
}

bool pack_parse(const char *name, uint64_t *first, uint64_t *end, uint64_t *gen)
{
    return names_parse(name, "pack", first, end, gen);
}

struct hash128 pack_hash(const uint8_t key[32], const void *p, size_t len)
{
    struct hash128_state s;

    hash128_init(&s);
    hash128_update(&s, key, 32);
    hash128_update(&s, p, len);
    return hash128_final(&s);
}
