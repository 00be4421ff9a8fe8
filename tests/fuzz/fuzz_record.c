/*
 * fuzz_record: record and frame decoders. The first byte chooses: bit 0 re-seals the head,
 * so that the bytes behind the hash are reached. What is accepted must encode to the same bytes.
 */
#include "store/log/frame.h"
#include "store/log/record.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_frame(const uint8_t *p, size_t len)
{
    uint8_t buf[FRAME_BYTES], again[FRAME_BYTES];
    struct frame f;

    if (len < FRAME_BYTES)
        return;
    memcpy(buf, p, FRAME_BYTES);
    put_u32(buf, FRAME_MAGIC);
    put_u32(buf + 44, hash32(buf, 44));
    if (!frame_decode(buf, &f))
        return;
    frame_encode(&f, again);
    if (memcmp(buf, again, FRAME_BYTES) != 0)
        abort();
}

static void fuzz_head(uint8_t *buf, size_t len)
{
    struct record rec;
    uint64_t *sums;
    uint32_t n;
    uint8_t *out;

    if (record_decode(buf, len, &rec, NULL) != 0)
        return;
    n = record_n_sums(rec.data_len);
    sums = malloc((n + 1) * sizeof *sums);
    out = malloc(rec.head_len);
    if (sums == NULL || out == NULL)
        abort();
    for (uint32_t i = 0; i < n; i++)
        sums[i] = get_u64(rec.sums + 8 * (size_t)i);
    if (record_encode(&rec, sums, out, rec.head_len) != (int)rec.head_len ||
        memcmp(out, buf, rec.head_len) != 0)
        abort();
    free(sums);
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hash128 h;
    uint8_t *buf;
    size_t len;

    if (size < 1 || size > (1 << 20))
        return 0;
    fuzz_frame(data + 1, size - 1);
    len = size - 1;
    buf = malloc(len > 0 ? len : 1);
    if (buf == NULL)
        abort();
    memcpy(buf, data + 1, len);
    if ((data[0] & 1) && len >= REC_HEAD_BYTES) {
        uint32_t data_len = get_u32(buf + 8) % (4 * REC_SUM_BYTES), n = record_n_sums(data_len);

        if (REC_HEAD_BYTES + 8 * (size_t)n <= len) {
            put_u32(buf + 4, (uint32_t)len);
            put_u32(buf + 8, data_len);
            put_u32(buf + 12, (uint32_t)(len - REC_HEAD_BYTES - 8 * (size_t)n));
        }
        memset(buf + 104, 0, 24);
        h = hash128(buf, len);
        memcpy(buf + 112, h.b, 16);
    }
    fuzz_head(buf, len);
    free(buf);
    return 0;
}
