/*
 * frame.h: what a site wraps a record in. FORMAT.md, "Frames".
 * 48 bytes, counted in the address space, local in content:
 *
 *   0 u32 magic "SPRF"      4 u32 rec_len (head_len + data_len)
 *   8 u64 lsn              16 u64 segment generation
 *  24 u64 site incarnation 32 u64 durable: all below this address was durable here when written
 *  40 u32 flags (0)        44 u32 check: low 32 bits of XXH3-64 of bytes 0..43
 */
#ifndef STORE_LOG_FRAME_H
#define STORE_LOG_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FRAME_BYTES = 48, FRAME_ALIGN = 8 };
#define FRAME_MAGIC 0x46525053u     /* "SPRF" */

struct frame {
    uint32_t rec_len;
    uint64_t lsn, gen, incarnation, durable;
};

void frame_encode(const struct frame *f, uint8_t buf[FRAME_BYTES]);
/* frame_decode: true iff magic, check, flags and bounds hold. */
bool frame_decode(const uint8_t buf[FRAME_BYTES], struct frame *f);
/* frame_span(rec_len): bytes of address space a record takes: frame + record, rounded up to 8. */
uint64_t frame_span(uint32_t rec_len);

#endif
