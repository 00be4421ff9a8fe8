/*
 * rows_keys.c: keys of the index rows, built and taken apart. Fields are
 * big-endian so that byte order is number order; a name is followed by a 0
 * byte where a number comes after it, so that "a" and its history sort before
 * "ab" and no name can reach into another's range.
 */
#include "store/index/rows.h"

#include <assert.h>
#include <string.h>

/* A clock's sign bit is flipped, so that times before 1970 sort first. */
#define WALL_BIAS (1ull << 63)

static struct wr key_begin(uint8_t *k, char tag)
{
    struct wr w = wr_init(k, KV_KEY_MAX);

    wr_u8(&w, (uint8_t)tag);
    return w;
}

static size_t key_end(const struct wr *w)
{
    assert(!w->bad);
    return w->len;
}

static size_t key_1(uint8_t *k, char tag, uint64_t a)
{
    struct wr w = key_begin(k, tag);

    wr_be64(&w, a);
    return key_end(&w);
}

static size_t key_2(uint8_t *k, char tag, uint64_t a, uint64_t b)
{
    struct wr w = key_begin(k, tag);

    wr_be64(&w, a);
    wr_be64(&w, b);
    return key_end(&w);
}

static size_t key_3(uint8_t *k, char tag, uint64_t a, uint64_t b, uint64_t c)
{
    struct wr w = key_begin(k, tag);

    wr_be64(&w, a);
    wr_be64(&w, b);
    wr_be64(&w, c);
    return key_end(&w);
}

/* ${n_num} numbers (1 or 2), a name; with ${hist} also 00 and the death. */
static size_t key_named(uint8_t *k, char tag, int n_num, uint64_t a, uint64_t b, const void *name, size_t nlen,
                        bool hist, uint64_t death)
{
    struct wr w = key_begin(k, tag);

    assert(nlen <= REC_NAME_MAX);
    wr_be64(&w, a);
    if (n_num > 1)
        wr_be64(&w, b);
    wr_bytes(&w, name, nlen);
    if (hist) {
        wr_u8(&w, 0);
        wr_be64(&w, death);
    }
    return key_end(&w);
}

size_t key_ino(uint8_t *k, uint64_t ino)
{
    return key_1(k, 'i', ino);
}

/*
 * History of an inode and its maps are one table, so that what a read in the past asks for is mostly one block of RocksDB's. Most maps are of
 * the past too: those of generations that a truncation ended, and of inodes that are gone. Current inodes are a table of their own, dense.
 */
enum part { PART_PAST_INO = 0, PART_MAP = 1, PART_PAST_MAP = 2 };

static struct wr part_begin(uint8_t *k, uint64_t ino, enum part part)
{
    struct wr w = key_begin(k, 'I');

    wr_be64(&w, ino);
    wr_u8(&w, (uint8_t)part);
    return w;
}

size_t key_ino_h(uint8_t *k, uint64_t ino, uint64_t death)
{
    struct wr w = part_begin(k, ino, PART_PAST_INO);

    wr_be64(&w, death);
    return key_end(&w);
}

size_t key_den(uint8_t *k, uint64_t parent, const void *name, size_t nlen)
{
    return key_named(k, 'd', 1, parent, 0, name, nlen, false, 0);
}

size_t key_den_h(uint8_t *k, uint64_t parent, const void *name, size_t nlen, uint64_t death)
{
    return key_named(k, 'D', 1, parent, 0, name, nlen, true, death);
}

size_t key_dix(uint8_t *k, uint64_t parent, uint64_t cookie)
{
    return key_2(k, 'x', parent, cookie);
}

size_t key_dix_h(uint8_t *k, uint64_t parent, uint64_t death, uint64_t cookie)
{
    return key_3(k, 'X', parent, death, cookie);
}

size_t key_par(uint8_t *k, uint64_t ino, uint64_t parent, const void *name, size_t nlen)
{
    return key_named(k, 'p', 2, ino, parent, name, nlen, false, 0);
}

size_t key_par_h(uint8_t *k, uint64_t ino, uint64_t parent, const void *name, size_t nlen, uint64_t death)
{
    return key_named(k, 'P', 2, ino, parent, name, nlen, true, death);
}

size_t key_map(uint8_t *k, uint64_t ino, uint64_t mapgen, uint64_t block)
{
    struct wr w = part_begin(k, ino, PART_MAP);

    wr_be64(&w, mapgen);
    wr_be64(&w, block);
    return key_end(&w);
}

size_t key_map_h(uint8_t *k, uint64_t ino, uint64_t mapgen, uint64_t block, uint64_t death)
{
    struct wr w = part_begin(k, ino, PART_PAST_MAP);

    wr_be64(&w, mapgen);
    wr_be64(&w, block);
    wr_be64(&w, death);
    return key_end(&w);
}

size_t key_xat(uint8_t *k, uint64_t ino, const void *name, size_t nlen)
{
    return key_named(k, 'a', 1, ino, 0, name, nlen, false, 0);
}

size_t key_xat_h(uint8_t *k, uint64_t ino, const void *name, size_t nlen, uint64_t death)
{
    return key_named(k, 'A', 1, ino, 0, name, nlen, true, death);
}

size_t key_orphan(uint8_t *k, uint64_t ino)
{
    return key_1(k, 'o', ino);
}

size_t key_time(uint8_t *k, uint32_t run, int64_t wall_ns)
{
    struct wr w = key_begin(k, 't');

    wr_be32(&w, run);
    wr_be64(&w, (uint64_t)wall_ns ^ WALL_BIAS);
    return key_end(&w);
}

size_t key_run(uint8_t *k, uint32_t run)
{
    struct wr w = key_begin(k, 'r');

    wr_be32(&w, run);
    return key_end(&w);
}

size_t key_clock(uint8_t *k, uint64_t lsn)
{
    return key_1(k, 'w', lsn);
}

size_t key_snap(uint8_t *k, const void *name, size_t nlen)
{
    struct wr w = key_begin(k, 's');

    assert(nlen <= REC_NAME_MAX);
    wr_bytes(&w, name, nlen);
    return key_end(&w);
}

size_t key_series(uint8_t *k, uint64_t begin)
{
    return key_1(k, 'e', begin);
}

size_t key_chunk(uint8_t *k, const struct hash128 *hash)
{
    return key_1(k, 'h', get_be64(hash->b));
}

size_t key_place(uint8_t *k, uint64_t place)
{
    return key_1(k, 'n', place);
}

size_t key_meta(uint8_t *k, const char *name)
{
    struct wr w = key_begin(k, '!');

    assert(strlen(name) <= REC_NAME_MAX);
    wr_bytes(&w, name, strlen(name));
    return key_end(&w);
}

static bool good_ino(uint64_t ino)
{
    return ino > 0 && ino <= INO_MAX;
}

/* The rest of the key is a name; in history keys "name 00 death". */
static void parse_name(struct rd *r, bool hist, bool slash, struct key_parts *o)
{
    size_t tail = hist ? 9 : 0;

    if (r->bad || r->left <= tail || r->left - tail > REC_NAME_MAX) {
        r->bad = true;
        return;
    }
    o->name_len = r->left - tail;
    o->name = rd_bytes(r, o->name_len);
    if (memchr(o->name, 0, o->name_len) || (!slash && memchr(o->name, '/', o->name_len)))
        r->bad = true;
    if (hist) {
        rd_zero(r, 1);
        o->death = rd_be64(r);
    }
}

/* What follows the inode's number. */
static void parse_map(struct rd *r, bool hist, struct key_parts *o)
{
    o->mapgen = rd_be64(r);
    o->block = rd_be64(r);
    if (hist)
        o->death = rd_be64(r);
    if (o->block > FILE_SIZE_MAX >> BLOCK_SHIFT)
        r->bad = true;
}

/* The parts have tables of their own to those who ask. */
static void parse_part(struct rd *r, struct key_parts *o)
{
    o->ino = rd_be64(r);
    switch (rd_u8(r)) {
    case PART_PAST_INO:
        o->death = rd_be64(r);
        break;
    case PART_MAP:
        o->table = 'm';
        parse_map(r, false, o);
        break;
    case PART_PAST_MAP:
        o->table = 'M';
        parse_map(r, true, o);
        break;
    default:
        r->bad = true;
    }
}

/* Which of the numbers a table's key has, for the checks at the end of key_parse. */
#define HAS_INO    "iIpPmMaAo"
#define HAS_PARENT "dDxXpP"
#define HAS_DEATH  "IDXPMA"

static bool has(const char *set, char c)
{
    return strchr(set, c) != NULL;
}

bool key_parse(const uint8_t *k, size_t len, struct key_parts *out)
{
    struct rd r = rd_init(k, len);
    struct key_parts o = { 0 };

    o.table = (char)rd_u8(&r);
    if (r.bad || o.table == 0)
        return false;
    switch (o.table) {
    case 'i': case 'o':
        o.ino = rd_be64(&r);
        break;
    case 'I':
        parse_part(&r, &o);
        break;
    case 'd': case 'D':
        o.parent = rd_be64(&r);
        parse_name(&r, o.table == 'D', false, &o);
        break;
    case 'x':
        o.parent = rd_be64(&r);
        o.cookie = rd_be64(&r);
        break;
    case 'X':
        o.parent = rd_be64(&r);
        o.death = rd_be64(&r);
        o.cookie = rd_be64(&r);
        break;
    case 'p': case 'P':
        o.ino = rd_be64(&r);
        o.parent = rd_be64(&r);
        parse_name(&r, o.table == 'P', false, &o);
        break;
    case 'a': case 'A':
        o.ino = rd_be64(&r);
        parse_name(&r, o.table == 'A', true, &o);
        break;
    case 't':
        o.run = rd_be32(&r);
        o.wall_ns = (int64_t)(rd_be64(&r) ^ WALL_BIAS);
        break;
    case 'r':
        o.run = rd_be32(&r);
        break;
    case 'w':
        o.lsn = rd_be64(&r);
        break;
    case 'e':
        o.begin = rd_be64(&r);
        break;
    case 'h': case 'n':
        o.place = rd_be64(&r);
        break;
    case 's': case '!':
        parse_name(&r, false, true, &o);
        break;
    default:
        return false;
    }
    if (!rd_done(&r) || (has(HAS_INO, o.table) && !good_ino(o.ino)) ||
        (has(HAS_PARENT, o.table) && !good_ino(o.parent)) || (has(HAS_DEATH, o.table) && o.death == 0))
        return false;
    *out = o;
    return true;
}
