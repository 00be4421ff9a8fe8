/*
 * chunker.h: where the content itself says that a chunk ends, so that bytes put in at the front of a file move the places along.
 * After FastCDC (Xia et al., USENIX ATC 2016): a gear hash, a mask that is harder to meet before the wanted size and easier behind it. The table of the
 * gear is our own. Where chunks end is not part of a format: a pack says how its own were cut.
 *
 * Threads: pure.
 */
#ifndef STORE_PACK_CHUNKER_H
#define STORE_PACK_CHUNKER_H

#include <stddef.h>
#include <stdint.h>

enum { CHUNKER_MIN = 64 << 10, CHUNKER_WANTED = 256 << 10, CHUNKER_MAX = 1 << 20 };

/* chunker_cut(p, n): how many of the ${n} > 0 bytes the first chunk has: all of them if they end before it does. Give it CHUNKER_MAX bytes, unless
 * there are fewer. */
size_t chunker_cut(const uint8_t *p, size_t n);

#endif
