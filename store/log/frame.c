/* frame.c: what a site wraps a record in. */
#include "store/log/frame.h"
#include "store/base/bytes.h"
#include "store/base/hash.h"
#include "store/log/record.h"

#include <assert.h>

enum {
    FR_MAGIC = 0, FR_REC_LEN = 4, FR_LSN = 8, FR_GEN = 16, FR_INCARNATION = 24, FR_DURABLE = 32,
    FR_FLAGS = 40, FR_CHECK = 44,
};
static_assert(FR_CHECK + 4 == FRAME_BYTES, "frame");

void frame_encode(const struct frame *f, uint8_t buf[FRAME_BYTES])
{
    put_u32(buf + FR_MAGIC, FRAME_MAGIC);
    put_u32(buf + FR_REC_LEN, f->rec_len);
    put_u64(buf + FR_LSN, f->lsn);
    put_u64(buf + FR_GEN, f->gen);
    put_u64(buf + FR_INCARNATION, f->incarnation);
    put_u64(buf + FR_DURABLE, f->durable);
    put_u32(buf + FR_FLAGS, 0);
    put_u32(buf + FR_CHECK, hash32(buf, FR_CHECK));
}

bool frame_decode(const uint8_t buf[FRAME_BYTES], struct frame *f)
{
    struct frame t;

    if (get_u32(buf + FR_MAGIC) != FRAME_MAGIC || get_u32(buf + FR_FLAGS) != 0)
        return false;
    t.rec_len = get_u32(buf + FR_REC_LEN);
    t.lsn = get_u64(buf + FR_LSN);
    t.gen = get_u64(buf + FR_GEN);
    t.incarnation = get_u64(buf + FR_INCARNATION);
    t.durable = get_u64(buf + FR_DURABLE);
    if (t.rec_len < REC_HEAD_BYTES || t.rec_len > REC_HEAD_MAX + REC_DATA_MAX)
        return false;
    if (t.lsn == 0 || t.lsn % FRAME_ALIGN != 0 || t.gen == 0)
        return false;
    if (get_u32(buf + FR_CHECK) != hash32(buf, FR_CHECK))
        return false;
    *f = t;
    return true;
}

uint64_t frame_span(uint32_t rec_len)
{
    return ((uint64_t)FRAME_BYTES + rec_len + FRAME_ALIGN - 1) & ~(uint64_t)(FRAME_ALIGN - 1);
}
