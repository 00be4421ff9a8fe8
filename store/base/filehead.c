#include "store/base/filehead.h"
#include "store/base/bytes.h"
#include "store/base/hash.h"
#include "store/base/super.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* What this program knows. A new feature gets its bit here and a line in FORMAT.md. */
#define KNOWN_COMPAT    UINT64_C(0)
#define KNOWN_RO_COMPAT UINT64_C(0)
#define KNOWN_INCOMPAT  UINT64_C(0)

void filehead_encode(const struct filehead *h, const char magic[8], uint8_t buf[FILEHEAD_BYTES])
{
    struct wr w = wr_init(buf, FILEHEAD_BYTES);

    wr_bytes(&w, magic, 8);
    wr_u32(&w, h->version ? h->version : FORMAT_VERSION);
    wr_u32(&w, h->version_min ? h->version_min : FORMAT_VERSION_MIN);
    wr_u64(&w, h->compat);
    wr_u64(&w, h->ro_compat);
    wr_u64(&w, h->incompat);
    wr_u64(&w, h->size);
    wr_u32(&w, h->hash_alg ? h->hash_alg : HASH_XXH3);
    wr_u32(&w, h->key_id);
    wr_u32(&w, 0);
    wr_u32(&w, hash32(buf, FILEHEAD_BYTES - 4));
}

/* Whether this program may read on. The head's own sum was right, so this is no accident of the disk. */
static int check_version(const struct filehead *h, const char *what, struct err *err)
{
    if (h->version_min > h->version || h->version_min == 0)
        return err_set(err, ERR_DAMAGE, "%s: version %" PRIu32 " at byte 8 claims the oldest reader to be "
                       "version %" PRIu32 ", which cannot be", what, h->version, h->version_min);
    if (h->version_min > FORMAT_VERSION)
        return err_set(err, ERR_VERSION, "%s: format version %" PRIu32 ", readable from version %" PRIu32
                       " on; this program reads versions %d to %d: use a newer program", what, h->version,
                       h->version_min, FORMAT_VERSION_MIN, FORMAT_VERSION);
    if (h->version < FORMAT_VERSION_MIN)
        return err_set(err, ERR_VERSION, "%s: format version %" PRIu32 "; this program reads versions %d to "
                       "%d: use an older program", what, h->version, FORMAT_VERSION_MIN, FORMAT_VERSION);
    if (h->incompat & ~KNOWN_INCOMPAT)
        return err_set(err, ERR_VERSION, "%s: incompatible features 0x%" PRIx64 " are in use; this program, of "
                       "format version %d, knows 0x%" PRIx64 ": use a newer program", what, h->incompat,
                       FORMAT_VERSION, KNOWN_INCOMPAT);
    if (h->hash_alg != HASH_XXH3)
        return err_set(err, ERR_VERSION, "%s: hash algorithm %" PRIu32 " is in use; this program, of format "
                       "version %d, knows %d: use a newer program", what, h->hash_alg, FORMAT_VERSION, HASH_XXH3);
    return 0;
}

int filehead_decode(const uint8_t *buf, size_t len, const char magic[8], const char *what,
                    struct filehead *h, struct err *err)
{
    struct rd r = rd_init(buf, len);
    struct filehead t;
    const uint8_t *m;
    uint32_t zero, sum;
    int rc;

    if (len < FILEHEAD_BYTES + FILEHEAD_HASH_BYTES)
        return err_set(err, ERR_DAMAGE, "%s: %zu bytes long, expected at least %d", what, len,
                       FILEHEAD_BYTES + FILEHEAD_HASH_BYTES);
    m = rd_bytes(&r, 8);
    if (!m || memcmp(m, magic, 8) != 0)
        return err_set(err, ERR_DAMAGE, "%s: does not begin with \"%.8s\"", what, magic);
    t.version = rd_u32(&r);
    t.version_min = rd_u32(&r);
    t.compat = rd_u64(&r);
    t.ro_compat = rd_u64(&r);
    t.incompat = rd_u64(&r);
    t.size = rd_u64(&r);
    t.hash_alg = rd_u32(&r);
    t.key_id = rd_u32(&r);
    zero = rd_u32(&r);
    sum = rd_u32(&r);
    if (sum != hash32(buf, FILEHEAD_BYTES - 4))
        return err_set(err, ERR_DAMAGE, "%s: checksum of its head at byte 60 is %08" PRIx32
                       ", expected %08" PRIx32, what, sum, hash32(buf, FILEHEAD_BYTES - 4));
    rc = check_version(&t, what, err);
    if (rc)
        return rc;
    if (zero)
        return err_set(err, ERR_DAMAGE, "%s: reserved bytes 56 to 59 are not zero", what);
    if (t.size != len)
        return err_set(err, ERR_DAMAGE, "%s: %zu bytes long, expected %" PRIu64, what, len, t.size);
    *h = t;
    return 0;
}

int filehead_writable(const struct filehead *h, const char *what, struct err *err)
{
    if (h->ro_compat & ~KNOWN_RO_COMPAT)
        return err_set(err, ERR_VERSION, "%s: features 0x%" PRIx64 " are in use, with which this program, of "
                       "format version %d, can only read the store", what, h->ro_compat, FORMAT_VERSION);
    return 0;
}

void filehead_seal(uint8_t *buf, size_t size)
{
    struct hash128 h = hash128(buf, size - FILEHEAD_HASH_BYTES);

    memcpy(buf + size - FILEHEAD_HASH_BYTES, h.b, FILEHEAD_HASH_BYTES);
}

static const char *hex(const uint8_t *b, char out[2 * FILEHEAD_HASH_BYTES + 1])
{
    hex_put(out, b, FILEHEAD_HASH_BYTES);
    return out;
}

int filehead_check(const uint8_t *buf, size_t size, const char *what, struct err *err)
{
    char a[2 * FILEHEAD_HASH_BYTES + 1], b[2 * FILEHEAD_HASH_BYTES + 1];
    struct hash128 h = hash128(buf, size - FILEHEAD_HASH_BYTES);
    const uint8_t *found = buf + size - FILEHEAD_HASH_BYTES;

    if (memcmp(found, h.b, FILEHEAD_HASH_BYTES) == 0)
        return 0;
    return err_set(err, ERR_DAMAGE, "%s: hash at byte %zu is %s, expected %s", what,
                   size - FILEHEAD_HASH_BYTES, hex(found, a), hex(h.b, b));
}
