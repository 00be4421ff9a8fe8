#include "store/base/hash.h"

#include <string.h>
#ifdef HAVE_XXH_X86DISPATCH
#include <xxh_x86dispatch.h>     /* the same functions, by the widest vectors this processor has */
#else
#include <xxhash.h>
#endif

struct hash128 hash128(const void *p, size_t len)
{
    XXH128_canonical_t c;
    struct hash128 h;

    XXH128_canonicalFromHash(&c, XXH3_128bits(p, len));
    memcpy(h.b, c.digest, sizeof h.b);
    return h;
}

uint64_t hash64(const void *p, size_t len)
{
    return XXH3_64bits(p, len);
}

uint32_t hash32(const void *p, size_t len)
{
    return (uint32_t)(XXH3_64bits(p, len) & 0xffffffffu);
}

int hash128_eq(const struct hash128 *a, const struct hash128 *b)
{
    return memcmp(a->b, b->b, sizeof a->b) == 0;
}
