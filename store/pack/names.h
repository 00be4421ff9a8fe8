/*
 * names.h: names of the files that hold a range of addresses: DIR/FIRST-END-GENERATION.EXT. FORMAT.md, "Archive".
 *
 * Threads: any.
 */
#ifndef STORE_PACK_NAMES_H
#define STORE_PACK_NAMES_H

#include "store/base/io.h"

#include <stdbool.h>
#include <stdint.h>

enum { NAMES_MAX = 64 };

/* names_put(dir, ext, first, end, gen, buf); names_parse(name, ext, ...): of a name without DIR; false for any other. */
void names_put(const char *dir, const char *ext, uint64_t first, uint64_t end, uint64_t gen, char buf[NAMES_MAX]);
bool names_parse(const char *name, const char *ext, uint64_t *first, uint64_t *end, uint64_t *gen);

/*
 * names_free_gen(io, dir, parse, gen, err): *${gen}, or the next one that no file in ${dir} has: where a sync of the directory failed, the name of that try may be
 * there, and nobody knows of it. ${parse}: of a name there. Errors: IO.
 */
int names_free_gen(struct io *io, const char *dir, bool (*parse)(const char *name, uint64_t *first, uint64_t *end, uint64_t *gen), uint64_t *gen,
                   struct err *err);

#endif
