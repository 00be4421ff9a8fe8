/* pressure.c: see pressure.h. */
#include "store/maint/pressure.h"

#include "store/pack/history.h"
#include "store/pack/packs.h"

#include <string.h>

enum { SIZES_MS = 10000, STEP_MS = 600000, BELOW_MS = 3600000, FULL_LAST_MS = 10000, EASE = 8 };   /* EASE: an eighth more than is asked for ends it */

struct sizes { struct io *io; const char *dir; uint64_t bytes, shared; };

static int add_file(void *arg, const char *name)
{
    struct sizes *z = arg;
    struct io_stat st;
    char path[300];

    if (strlen(z->dir) + strlen(name) + 2 > sizeof path)
        return 0;
    memcpy(path, z->dir, strlen(z->dir));
    path[strlen(z->dir)] = '/';
    memcpy(path + strlen(z->dir) + 1, name, strlen(name) + 1);
    if (io_stat_path(z->io, path, &st, NULL) == 0) {
        z->bytes += st.allocated;
        z->shared += st.nlink > 1 ? st.allocated : 0;
    }
    return 0;
}

uint64_t pressure_used(struct store *s, uint64_t *shared)
{
    static const char *const dirs[] = { "log", "packs", "archive", "index" };
    struct sizes z = { .io = store_io(s) };

    for (size_t i = 0; i < sizeof dirs / sizeof dirs[0]; i++) {
        z.dir = dirs[i];
        (void)io_list(z.io, dirs[i], add_file, &z, NULL);
    }
    *shared = z.shared;
    return z.bytes;
}

static bool is_short(const struct pressure *p)
{
    uint64_t ease = p->level > 0 ? EASE : 0;     /* once begun it goes on until there is a little more */

    return p->full || p->avail < p->keep_free + (ease ? p->keep_free / ease : 0) || (p->most > 0 && p->used > p->most - (ease ? p->most / ease : 0));
}

bool pressure_look(struct pressure *p, struct store *s, uint64_t ms)
{
    struct io_space_info sp = { 0 };
    struct store_info info;
    struct policy policy;

    p->full = store_space_look(s, &sp) != SPACE_ENOUGH;
    p->avail = sp.total > 0 ? sp.avail : UINT64_MAX;
    p->wait_ms = p->wait_ms > ms ? p->wait_ms - ms : 0;
    p->look_ms = p->look_ms > ms ? p->look_ms - ms : 0;
    if (p->look_ms == 0) {
        policy_read(s, &policy);
        store_info(s, &info);
        p->keep_free = policy.keep_free;
        p->used = pressure_used(s, &p->shared);
        p->most = policy.history_max > 0 ? policy.history_max + info.n_bytes : 0;
        p->look_ms = SIZES_MS;
    }
    if (!is_short(p)) {
        p->level = 0;
        p->armed = p->was_full = false;
        return false;
    }
    if (!p->armed)
        p->wait_ms = STEP_MS;
    if (p->full && !p->was_full)
        p->wait_ms = 0;
    p->armed = true;
    p->was_full = p->full;
    return p->wait_ms == 0;
}

void pressure_step(struct pressure *p, struct store *s, struct policy *out)
{
    if (p->full)
        (void)store_reserve_use(s);      /* to give space takes some */
    p->level += p->level < POLICY_LEVELS;
    policy_read(s, out);
    policy_squeeze(out, p->level);
}

void pressure_done(struct pressure *p)
{
    if (p->full)
        p->wait_ms = p->level == POLICY_LEVELS ? FULL_LAST_MS : 1;
    else
        p->wait_ms = p->level < POLICY_PERIODS ? STEP_MS : BELOW_MS;
    p->look_ms = 0;
}
