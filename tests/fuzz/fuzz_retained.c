/*
 * fuzz_retained: the decoder of the retained set. What it accepts must encode to the same bytes. The input
 * is tried as it is and, so that the checks behind the hashes are reached too, with its sums and size put
 * right.
 */
#include "store/base/bytes.h"
#include "store/base/filehead.h"
#include "store/base/super.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try(const uint8_t *buf, size_t len)
{
    static uint8_t out[RETAINED_FILE_MAX];
    struct retained r;
    uint8_t lineage[16];
    struct err err;

    if (retained_decode(buf, len, lineage, &r, &err))
        return;
    if (retained_encode(&r, lineage, out, sizeof out) != len || memcmp(buf, out, len) != 0)
        abort();
    retained_release(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t buf[RETAINED_FILE_MAX];

    try(data, size);
    if (size < RETAINED_FIXED_BYTES + FILEHEAD_HASH_BYTES || size > sizeof buf)
        return 0;
    size -= (size - RETAINED_FIXED_BYTES - FILEHEAD_HASH_BYTES) % RETAINED_POINT_BYTES;
    memcpy(buf, data, size);
    memcpy(buf, "SPARERET", 8);
    put_u64(buf + 40, size);
    put_u32(buf + 96, (uint32_t)((size - RETAINED_FIXED_BYTES - FILEHEAD_HASH_BYTES) / RETAINED_POINT_BYTES));
    put_u32(buf + 60, hash32(buf, 60));
    filehead_seal(buf, size);
    try(buf, size);
    return 0;
}
