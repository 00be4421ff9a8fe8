/* names.c: see names.h. */
#include "store/pack/names.h"

#include "store/base/bytes.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void names_put(const char *dir, const char *ext, uint64_t first, uint64_t end, uint64_t gen, char buf[NAMES_MAX])
{
    snprintf(buf, NAMES_MAX, "%s/%016" PRIx64 "-%016" PRIx64 "-%08" PRIx32 ".%s", dir, first, end, (uint32_t)gen, ext);
}

bool names_parse(const char *name, const char *ext, uint64_t *first, uint64_t *end, uint64_t *gen)
{
    uint64_t f, e, g;

    if (strlen(name) != 16 + 1 + 16 + 1 + 8 + 1 + strlen(ext) || name[16] != '-' || name[33] != '-' || name[42] != '.' || strcmp(name + 43, ext) != 0)
        return false;
    if (!hex_digits(name, 16, &f) || !hex_digits(name + 17, 16, &e) || !hex_digits(name + 34, 8, &g))
        return false;
    if (f == 0 || f % 8 != 0 || e % 8 != 0 || e <= f || e > INT64_MAX || g == 0)
        return false;
    *first = f;
    *end = e;
    *gen = g;
    return true;
}

struct generation { bool (*parse)(const char *name, uint64_t *first, uint64_t *end, uint64_t *gen); uint64_t free; };

static int above(void *arg, const char *name)
{
    struct generation *g = arg;
    uint64_t first, end, gen;

    if (g->parse(name, &first, &end, &gen) && gen >= g->free)
        g->free = gen + 1;
    return 0;
}

int names_free_gen(struct io *io, const char *dir, bool (*parse)(const char *name, uint64_t *first, uint64_t *end, uint64_t *gen), uint64_t *gen,
                   struct err *err)
{
    struct generation g = { parse, *gen };
    int rc = io_list(io, dir, above, &g, err);

    *gen = g.free;
    return rc == ERR_NOENT ? 0 : rc;
}
