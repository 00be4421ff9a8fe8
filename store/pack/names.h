/*
 * names.h: names of the files that hold a range of addresses: DIR/FIRST-END-GENERATION.EXT. FORMAT.md, "Archive".
 *
 * Threads: pure functions.
 */
#ifndef STORE_PACK_NAMES_H
#define STORE_PACK_NAMES_H

#include <stdbool.h>
#include <stdint.h>

enum { NAMES_MAX = 64 };

/* names_put(dir, ext, first, end, gen, buf); names_parse(name, ext, ...): of a name without DIR; false for any other. */
void names_put(const char *dir, const char *ext, uint64_t first, uint64_t end, uint64_t gen, char buf[NAMES_MAX]);
bool names_parse(const char *name, const char *ext, uint64_t *first, uint64_t *end, uint64_t *gen);

#endif
