/*
 * fuzz_proto: messages between two sites. The first byte chooses: bit 0 puts the sums right, so that the fields behind them are reached. What
 * is accepted must encode to the same bytes; and no machine may break whatever it hears.
 */
#include "store/sync/receive.h"
#include "store/sync/ship.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void machines(const struct proto_msg *m)
{
    static struct ship ship;
    static struct receive receive;
    static struct proto_msg out;
    static const struct receive_own nothing;
    static struct epoch_row row = { .number = 1, .first_lsn = 4096, .site = { 1 }, .id = { 1 }, .lineage = { 1 } };
    const struct ship_own own = { .lineage = { 1 }, .site = { 1 }, .role = ROLE_PRIMARY, .first = 4096, .begins = 4096, .n_epochs = 1, .epochs = &row, .may_make = true };

    ship_init(&ship, &own, 8192, 8192, UINT64_MAX);
    (void)ship_due(&ship, &out);
    ship_hear(&ship, m);
    (void)ship_due(&ship, &out);
    ship_hear(&ship, m);
    receive_init(&receive, &nothing);
    (void)receive_due(&receive, &out);
    receive_hear(&receive, m);
    (void)receive_due(&receive, &out);
    receive_hear(&receive, m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct proto_msg m;
    struct proto_head h;
    uint8_t *buf, *again;
    size_t len;

    if (size < 1 + PROTO_HEAD_BYTES || size > (1 << 20))
        return 0;
    len = size - 1;
    buf = malloc(len);
    if (buf == NULL)
        abort();
    memcpy(buf, data + 1, len);
    if (data[0] & 1) {
        put_u32(buf, 0x4d575053);
        buf[4] = (uint8_t)(1 + buf[4] % 19);
        memset(buf + 5, 0, 3);
        put_u32(buf + 8, (uint32_t)(len - PROTO_HEAD_BYTES));
        put_u32(buf + 40, hash32(buf + PROTO_HEAD_BYTES, len - PROTO_HEAD_BYTES));
        put_u32(buf + 44, hash32(buf, 44));
    }
    if (proto_head_decode(buf, &h, NULL) == 0 && h.body <= len - PROTO_HEAD_BYTES && proto_decode(&h, buf + PROTO_HEAD_BYTES, &m, NULL) == 0) {
        again = malloc(proto_bound(&m));
        if (again == NULL)
            abort();
        /* (A code this program does not know becomes UNKNOWN.) */
        if (proto_encode(&m, again, proto_bound(&m)) != PROTO_HEAD_BYTES + h.body ||
            (m.type != PROTO_REFUSE && memcmp(again, buf, PROTO_HEAD_BYTES + h.body) != 0))
            abort();
        free(again);
        machines(&m);
    }
    free(buf);
    return 0;
}
