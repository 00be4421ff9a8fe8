/*
 * fuzz_super: the decoder of the superblock. What it accepts must encode to the same bytes, and still do
 * after a setting was written. The input is tried as it is and, so that the checks behind the hashes are
 * reached too, with both sums put right.
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
    static uint8_t out[SUPER_FILE_MAX];
    static struct super sb, again;
    struct err err;
    char value[16];

    if (super_decode(buf, len, &sb, &err))
        return;
    if (super_encode(&sb, out) != len || memcmp(buf, out, len) != 0)
        abort();
    if (super_config_set(&sb, "fuzz", "1", &err) == 0) {
        if (super_decode(out, super_encode(&sb, out), &again, &err) || super_config_get(&again, "fuzz", value, sizeof value) != 1)
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t buf[SUPER_FILE_MAX];
    size_t len;

    try(data, size);
    if (size < FILEHEAD_BYTES)
        return 0;
    memset(buf, 0, sizeof buf);
    memcpy(buf, data, size < sizeof buf ? size : sizeof buf);
    len = super_bytes(get_u32(buf + 232) % (SUPER_EPOCHS_MAX + 1));
    memcpy(buf, "SPARESUP", 8);
    put_u64(buf + 40, len);
    put_u32(buf + 60, hash32(buf, 60));
    filehead_seal(buf, len);
    try(buf, len);
    return 0;
}
