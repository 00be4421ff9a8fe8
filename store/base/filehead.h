/*
 * filehead.h: the 64 bytes that begin the superblock and the retained set, and
 * say whether this program may read and write the rest. FORMAT.md, "File head".
 * Place and meaning of these 64 bytes are the same in every format version, so
 * that an old program can name a newer one instead of calling it damage.
 *
 *   0 u8[8] magic      8 u32 version       12 u32 version_min
 *  16 u64 compat      24 u64 ro_compat     32 u64 incompat
 *  40 u64 size of the file in bytes        48 u32 hash_alg     52 u32 key_id
 *  56 u32 0           60 u32 low 32 bits of XXH3-64 of bytes 0..59
 *
 * The last 16 bytes of the file are the hash (by hash_alg) of all before them.
 *
 * Threads: pure functions.
 */
#ifndef STORE_BASE_FILEHEAD_H
#define STORE_BASE_FILEHEAD_H

#include "store/base/err.h"

#include <stddef.h>
#include <stdint.h>

enum { FILEHEAD_BYTES = 64, FILEHEAD_HASH_BYTES = 16 };

struct filehead {
    uint32_t version, version_min;          /* written by; oldest reader that will do */
    uint64_t compat, ro_compat, incompat;   /* feature bits; none is defined yet */
    uint64_t size;
    uint32_t hash_alg, key_id;
};

/* filehead_encode(h, magic, buf): zeros in version, version_min and hash_alg stand for this program's. */
void filehead_encode(const struct filehead *h, const char magic[8], uint8_t buf[FILEHEAD_BYTES]);

/*
 * filehead_decode(buf, len, magic, what, h, err):
 * Decode and validate; ${what} names the kind of file in messages. ${len} is the length of the whole
 * file, of which h->size must be the exact value.
 * Errors: DAMAGE no such head, or a false one; VERSION a newer format, an unknown incompatible
 * feature or hash algorithm: the message names both numbers.
 */
int filehead_decode(const uint8_t *buf, size_t len, const char magic[8], const char *what,
                    struct filehead *h, struct err *err);

/*
 * filehead_writable(h, what, err): 0, or ERR_VERSION where an unknown ro_compat bit forbids this
 * program to write.
 */
int filehead_writable(const struct filehead *h, const char *what, struct err *err);

/* filehead_seal(buf, size): put the hash of buf[0, size - 16) into the last 16 of its ${size} bytes. */
void filehead_seal(uint8_t *buf, size_t size);

/* filehead_check(buf, size, what, err): verify that hash; ERR_DAMAGE with both values. */
int filehead_check(const uint8_t *buf, size_t size, const char *what, struct err *err);

#endif
