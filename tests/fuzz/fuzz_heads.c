/*
 * fuzz_heads: heads of records that another site gave (log_heads_check). The first byte chooses whether they must lie end to end; then 8 bytes of the first one's address. What is accepted
 * are records that each follow the one before, byte for byte as they came.
 */
#include "store/log/frame.h"
#include "store/log/log.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct record last = { 0 }, rec;
    uint64_t from, at;
    size_t len, off = 0;
    uint8_t *p;

    if (size < 9 || size > (1 << 20))
        return 0;
    from = at = get_u64(data + 1);
    len = size - 9;
    p = malloc(len > 0 ? len : 1);
    if (p == NULL)
        abort();
    memcpy(p, data + 9, len);
    if (log_heads_check(p, len, from, data[0] & 1, &last, NULL) == 0) {
        for (; off < len; off += rec.head_len) {
            if (record_decode(p + off, len - off, &rec, NULL) != 0 || (off == 0 && rec.lsn != from) || rec.lsn < at || ((data[0] & 1) && rec.lsn != at))
                abort();
            at = rec.lsn + frame_span(rec.head_len + rec.data_len);
        }
        if (off != len || last.lsn != rec.lsn)
            abort();
    }
    free(p);
    return 0;
}
