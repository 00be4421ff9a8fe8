/* rebase.c: an index that is made anew begins with the newest base that is whole and of this timeline. */
#include "store/core/core_internal.h"

#include "store/pack/base.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Whether its rows are of what this store is: its epoch is one of ours, and nothing in it lies behind a fork. */
static bool ours(const struct store *s, const struct base_head *h)
{
    for (uint32_t i = 0; i < s->sb.n_epochs; i++)
        if (memcmp(s->sb.epochs[i].id, h->epoch_id, 16) == 0 && memcmp(s->sb.epochs[i].lineage, h->lineage, 16) == 0)
            return i + 1 == s->sb.n_epochs || h->applied <= s->sb.epochs[i + 1].first_lsn;
    return false;
}

/* 1: loaded; 0: another one is to be tried, s->no_base says why not this. */
static int try_base(void *arg, uint64_t gen)
{
    struct store *s = arg;
    struct err why = { 0 };
    struct base *b = NULL;
    int rc = base_open(s->io, gen, &b, NULL, &why);

    if (rc == 0 && !ours(s, base_head(b))) {
        base_close(b);
        return 0;
    }
    if (rc == 0 && base_head(b)->retained_gen > s->retained.gen)
        rc = err_set(&why, ERR_DAMAGE, "retained set: expected generation %" PRIu64 " or later, which a base names, found %" PRIu64,
                     base_head(b)->retained_gen, s->retained.gen);
    if (rc == 0)
        rc = base_check(b, &why);        /* first all of it: rows of half a base are in nobody's way, but those of two would be mixed */
    if (rc == 0)
        rc = base_load(b, s->kv, s->opt.writable, &why);
    base_close(b);
    if (rc < 0 && s->no_base.code == 0)
        s->no_base = why;
    return rc == 0 ? 1 : rc == ERR_DAMAGE || rc == ERR_VERSION || rc == ERR_NOENT ? 0 : rc;
}

int rebase(struct store *s, struct err *err)
{
    uint8_t key[KV_KEY_MAX], *val = NULL;
    size_t len = 0;
    int rc = kv_get(s->kv, key, key_meta(key, "applied"), &val, &len, err);

    free(val);
    if (rc != ERR_NOENT)
        return rc;
    rc = base_list(s->io, try_base, s, err);
    if (rc < 0 && s->no_base.code == rc)
        *err = s->no_base;
    return rc < 0 ? rc : 0;
}
