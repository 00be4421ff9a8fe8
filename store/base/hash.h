/*
 * hash.h: the hashes of the formats. Algorithm ids are stored in every file
 * (HASH_XXH3 today), so that another one can take the same 16 bytes later.
 * XXH3 is Yann Collet's xxHash family (libxxhash >= 0.8, stable output).
 * It detects accidents, not adversaries.
 */
#ifndef STORE_BASE_HASH_H
#define STORE_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

enum { HASH_XXH3 = 1 };

/* 128 bits in canonical (big-endian) byte order, as XXH128_canonicalFromHash gives. */
struct hash128 { uint8_t b[16]; };

/* hash128(p, len): XXH3-128, no seed. */
struct hash128 hash128(const void *p, size_t len);
/*
 * The same of bytes that come in parts: hash128_init(s), hash128_update(s, p, len) ..., hash128_final(s). No memory of its own: it cannot
 * fail, and a state is forgotten without a release.
 */
enum { HASH128_STATE_BYTES = 1024 };    /* what XXH3 needs and room for a newer libxxhash */
struct hash128_state { _Alignas(64) uint8_t b[HASH128_STATE_BYTES]; };
void hash128_init(struct hash128_state *s);
void hash128_update(struct hash128_state *s, const void *p, size_t len);
struct hash128 hash128_final(const struct hash128_state *s);
/* hash64(p, len): XXH3-64, no seed; the checksum of 16 KiB of data. */
uint64_t hash64(const void *p, size_t len);
/* hash32(p, len): the low 32 bits of XXH3-64; checksum of small headers. */
uint32_t hash32(const void *p, size_t len);
/* hash128_eq(a, b): 1 when equal. */
int hash128_eq(const struct hash128 *a, const struct hash128 *b);

#endif
