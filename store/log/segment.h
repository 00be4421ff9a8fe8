/*
 * segment.h: the files of the log. FORMAT.md, "Segments".
 *
 * A segment is a 4096-byte header, then frames. Header space is not address
 * space: file offset = 4096 + (address - first). Named
 * log/<first address, 16 hex>-<generation, 8 hex>.seg. The segment with the
 * largest generation wins where two cover an address: recovery writes what it
 * keeps behind the last durable address into a new one.
 */
#ifndef STORE_LOG_SEGMENT_H
#define STORE_LOG_SEGMENT_H

#include "store/base/err.h"
#include "store/base/hash.h"
#include "store/base/io.h"

#include <stdint.h>

enum { SEGMENT_HEADER_BYTES = 4096, SEGMENT_NAME_MAX = 40 };

struct segment_header {
    uint32_t version, version_min;     /* of the format; see FORMAT_VERSION */
    uint64_t compat, ro_compat, incompat;   /* feature bits */
    uint8_t  lineage[16], site[16];
    uint32_t hash_alg, key_id;
    uint64_t gen;                      /* unique and rising per site */
    uint64_t first;                    /* address of its first byte behind the header */
    uint64_t capacity;                 /* bytes of address space it may hold */
    uint32_t epoch;                    /* epoch number (timeline) of its first record */
    uint8_t  epoch_id[16];
    uint64_t incarnation;              /* of the writer, stamped in its frames */
    /* predecessor */
    uint64_t prev_gen;                 /* 0 for the first segment */
    uint64_t prev_first;
    uint64_t cut;                      /* address at which the predecessor ends for good (== first) */
    uint64_t prev_lsn;                 /* last record below first; 0 if none */
    struct hash128 prev_hash;
    int64_t  created_wall_ns;
};

void segment_header_encode(const struct segment_header *h, uint8_t buf[SEGMENT_HEADER_BYTES]);
/* Errors: DAMAGE what is wrong; VERSION newer format or unknown incompat bit. */
int segment_header_decode(const uint8_t *buf, size_t len, struct segment_header *h, struct err *err);

/* segment_name(h, buf): "log/....seg"; segment_parse: false for any other file name (no "log/"). */
void segment_name(uint64_t first, uint64_t gen, char buf[SEGMENT_NAME_MAX]);
bool segment_parse(const char *name, uint64_t *first, uint64_t *gen);

#endif
