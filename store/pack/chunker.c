/* chunker.c: see chunker.h. */
#include "store/pack/chunker.h"

#include <pthread.h>

/* The wanted size is 2^18; two bits more before it, two fewer behind it. High bits: they have seen the last 64 bytes. */
#define MASK_HARD (((UINT64_C(1) << 20) - 1) << 44)
#define MASK_EASY (((UINT64_C(1) << 16) - 1) << 44)

static uint64_t gear[256];
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* SplitMix64 (Steele, Lea, Flood, 2014), from a fixed seed. */
static void make_gear(void)
{
    uint64_t x = 0x7370617265;

    for (int i = 0; i < 256; i++) {
        uint64_t z = x += UINT64_C(0x9e3779b97f4a7c15);

        z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
        gear[i] = z ^ z >> 31;
    }
}

size_t chunker_cut(const uint8_t *p, size_t n)
{
    uint64_t h = 0;
    size_t i = CHUNKER_MIN, end = n < CHUNKER_MAX ? n : CHUNKER_MAX, wanted = end < CHUNKER_WANTED ? end : CHUNKER_WANTED;

    if (n <= CHUNKER_MIN)
        return n;
    pthread_once(&once, make_gear);
    for (i -= 64; i < CHUNKER_MIN; i++)
        h = (h << 1) + gear[p[i]];
    for (; i < wanted; i++) {
        h = (h << 1) + gear[p[i]];
        if ((h & MASK_HARD) == 0)
            return i + 1;
    }
    for (; i < end; i++) {
        h = (h << 1) + gear[p[i]];
        if ((h & MASK_EASY) == 0)
            return i + 1;
    }
    return end;
}
