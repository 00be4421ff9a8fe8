/*
 * rate.h: how much may be sent: a limit by the time of day, and a bucket that keeps to it.
 *
 *   bandwidth = none | SIZE | HH:MM-HH:MM=SIZE,...[,else=SIZE]      bytes a second; the first that fits counts; without else: none
 *
 * Threads: none; all pure.
 */
#ifndef STORE_SYNC_RATE_H
#define STORE_SYNC_RATE_H

#include "store/base/err.h"

#include <stddef.h>
#include <stdint.h>

enum { RATE_SPANS_MAX = 8, RATE_TEXT_MAX = 256, RATE_LEAST = 1024, RATE_PIECE_LEAST = 4096 };

struct rate {
    struct rate_span { uint16_t from, to; uint64_t bytes_s; } span[RATE_SPANS_MAX];     /* minutes of the day; from > to: over midnight */
    unsigned n;
    uint64_t otherwise;                 /* bytes a second, as everywhere here; 0: no limit */
};

/* rate_parse(text, r, err): USAGE what was expected; ${r} is then as it was. rate_at(r, minute): the limit at that minute of the day. */
int      rate_parse(const char *text, struct rate *r, struct err *err);
uint64_t rate_at(const struct rate *r, unsigned minute);

/*
 * What is sent is taken from the bucket, which may owe for it afterwards: a message is never cut by it, and whatever else is to be said is said meanwhile.
 * rate_wait_ms(b, bytes_s, now_ms): 0: something may be sent; else so long nothing may. rate_took(b, n): ${n} bytes are on their way.
 * rate_piece(bytes_s, most): messages of about so many bytes at that limit: a quarter of a second, so that nothing behind one waits long on a line that is
 * as slow as the limit.
 */
struct rate_bucket { int64_t left; uint64_t at_ms; };
uint64_t rate_wait_ms(struct rate_bucket *b, uint64_t bytes_s, uint64_t now_ms);
void     rate_took(struct rate_bucket *b, uint64_t n);
uint32_t rate_piece(uint64_t bytes_s, uint32_t most);

#endif
