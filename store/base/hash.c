#include "store/base/hash.h"

#include <assert.h>
#include <string.h>
#define XXH_STATIC_LINKING_ONLY  /* the size of XXH3_state_t */
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

static_assert(sizeof(XXH3_state_t) <= HASH128_STATE_BYTES && _Alignof(XXH3_state_t) <= 64, "a state fits");

static XXH3_state_t *state(struct hash128_state *s)
{
    return (XXH3_state_t *)(void *)s->b;
}

void hash128_init(struct hash128_state *s)
{
    XXH3_INITSTATE(state(s));
    (void)XXH3_128bits_reset(state(s));
}

void hash128_update(struct hash128_state *s, const void *p, size_t len)
{
    if (len > 0)
        (void)XXH3_128bits_update(state(s), p, len);
}

struct hash128 hash128_final(const struct hash128_state *s)
{
    XXH128_canonical_t c;
    struct hash128 h;

    XXH128_canonicalFromHash(&c, XXH3_128bits_digest((const XXH3_state_t *)(const void *)s->b));
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
