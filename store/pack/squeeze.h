/*
 * squeeze.h: zstd, in one place: whole buffers to one frame and back, with or without another buffer's bytes as prefix.
 *
 * A frame has zstd's defaults: the content size, no checksum (ours are outside it), no dictionary. Its window covers prefix and source, at
 * most 2^24 bytes. Others are refused.
 *
 * Threads: a context belongs to one thread at a time; contexts are reusable.
 */
#ifndef STORE_PACK_SQUEEZE_H
#define STORE_PACK_SQUEEZE_H

#include "store/base/err.h"

#include <stddef.h>
#include <stdint.h>

enum { SQUEEZE_MAX = 16 << 20,           /* bytes of source and prefix together, at most: what the window may be */
       SQUEEZE_COLUMNS = 1000 };         /* in place of a level of zstd's: for columns of small numbers */

struct squeeze;                          /* both directions; what one of them needs is made when it is first used */

/* squeeze_new(): NULL without memory. squeeze_free accepts NULL. */
struct squeeze *squeeze_new(void);
void squeeze_free(struct squeeze *z);

/* squeeze_bound(n): bytes that always do for a frame of ${n} bytes. */
size_t squeeze_bound(size_t n);

/*
 * squeeze(z, level, src, n, prefix, prefix_len, dst, cap): one frame at ${dst}; ${level}: one of zstd's, or SQUEEZE_COLUMNS. ${prefix} NULL: none (not the same as one of no bytes).
 * Returns its bytes. Errors: RANGE it takes more than ${cap}; TOOLONG more than SQUEEZE_MAX; NOMEM.
 */
int64_t squeeze(struct squeeze *z, int level, const void *src, size_t n, const void *prefix, size_t prefix_len, void *dst, size_t cap);

/*
 * unsqueeze(z, src, n, prefix, prefix_len, dst, exact_len): the ${n} bytes at ${src}, from anywhere, are exactly one frame, which expands to
 * ${exact_len} bytes at ${dst}, never a byte more. ${prefix} as it was given to squeeze. 0, or DAMAGE (${dst} is undefined), NOMEM.
 */
int unsqueeze(struct squeeze *z, const void *src, size_t n, const void *prefix, size_t prefix_len, void *dst, size_t exact_len);

#endif
