/* record_age.c: how old a store is by its records: time that really passed, whatever its clocks were set to. FORMAT.md, "Age". */
#include "store/log/record.h"

enum { DAY_S = 86400 };

/* The smaller of what two clocks say has passed; of a clock that went back nothing. A machine that was off for long counts a day. */
static uint64_t add(uint64_t age, int64_t wall, int64_t now_wall, uint64_t boot, uint64_t now_boot, bool stop)
{
    const uint64_t day = DAY_S * 1000000000ull;
    uint64_t step, most = stop || now_boot < boot ? day : now_boot - boot;

    if (now_wall <= wall)
        return age;
    step = (uint64_t)now_wall - (uint64_t)wall;
    step = step < most ? step : most;
    return age > UINT64_MAX - step ? UINT64_MAX : age + step;
}

uint64_t record_age_add(uint64_t age_ns, int64_t wall_ns, uint64_t boot_ns, const struct record *rec)
{
    return add(age_ns, wall_ns, rec->wall_ns, boot_ns, rec->boot_ns,
               rec->type == REC_MOUNT || rec->type == REC_INCARNATION || rec->type == REC_EPOCH);
}

uint64_t record_age_now(uint64_t age_ns, int64_t wall_ns, uint64_t boot_ns, int64_t now_wall_ns, uint64_t now_boot_ns)
{
    return add(age_ns, wall_ns, now_wall_ns, boot_ns, now_boot_ns, false);
}
