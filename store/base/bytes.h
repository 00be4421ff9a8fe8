/*
 * bytes.h: cursors over bytes from disk or wire. Little-endian in files and on
 * the wire, big-endian in index keys. A cursor never reads or writes outside
 * its buffer; the first failure sticks (`bad`), later calls do nothing and
 * return zeros, so a decoder may check once at the end.
 *
 * Threads: a cursor belongs to one thread. Nothing here allocates.
 */
#ifndef STORE_BASE_BYTES_H
#define STORE_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rd { const uint8_t *p; size_t left; bool bad; };
struct wr { uint8_t *p; size_t left; size_t len; bool bad; };

static inline struct rd rd_init(const void *p, size_t len)
{
    struct rd r = { p, len, false };
    return r;
}

static inline struct wr wr_init(void *p, size_t cap)
{
    struct wr w = { p, cap, 0, false };
    return w;
}

/* rd_bytes(r, len): a pointer to the next ${len} bytes inside the buffer, or NULL and bad. */
const uint8_t *rd_bytes(struct rd *r, size_t len);
uint8_t  rd_u8(struct rd *r);
uint16_t rd_u16(struct rd *r);
uint32_t rd_u32(struct rd *r);
uint64_t rd_u64(struct rd *r);
int64_t  rd_i64(struct rd *r);
uint32_t rd_be32(struct rd *r);
uint64_t rd_be64(struct rd *r);
/* LEB128, at most 10 bytes; a non-minimal or overlong encoding is bad. */
uint64_t rd_var(struct rd *r);
/* rd_zero(r, len): the next ${len} bytes must all be 0, else bad. */
void rd_zero(struct rd *r, size_t len);
/* rd_done(r): true iff nothing failed and nothing is left. */
bool rd_done(const struct rd *r);

/* Writers; wr->len counts what was written. */
void wr_bytes(struct wr *w, const void *src, size_t len);
void wr_u8(struct wr *w, uint8_t v);
void wr_u16(struct wr *w, uint16_t v);
void wr_u32(struct wr *w, uint32_t v);
void wr_u64(struct wr *w, uint64_t v);
void wr_i64(struct wr *w, int64_t v);
void wr_be32(struct wr *w, uint32_t v);
void wr_be64(struct wr *w, uint64_t v);
void wr_var(struct wr *w, uint64_t v);
void wr_zero(struct wr *w, size_t len);

/* hex_digits(s, n, out): exactly ${n} lower-case hexadecimal digits at ${s}, as in names of files; false for anything else. */
bool hex_digits(const char *s, int n, uint64_t *out);
/* hex_put(to, p, n): ${n} bytes as so many pairs of those, ended with NUL: ${to} has room for 2 n + 1. hex_get(hex, p, n): the bytes again; false, *${p} is undefined: they are not all there. */
void hex_put(char *to, const uint8_t *p, size_t n);
bool hex_get(const char *hex, uint8_t *p, size_t n);

/* Fixed-place access for patches of an encoded buffer. */
void     put_u32(uint8_t *p, uint32_t v);
void     put_u64(uint8_t *p, uint64_t v);
uint32_t get_u32(const uint8_t *p);
uint64_t get_u64(const uint8_t *p);
void     put_be64(uint8_t *p, uint64_t v);
uint64_t get_be64(const uint8_t *p);

#endif
