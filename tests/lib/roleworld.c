/* roleworld.c: see roleworld.h. What happens, and how it ends. */
#include "tests/lib/roleworld_internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 12, TURNS = 4000 };

uint64_t rw_rnd(struct world *w)
{
    w->seed ^= w->seed << 13;
    w->seed ^= w->seed >> 7;
    w->seed ^= w->seed << 17;
    return w->seed;
}

unsigned rw_below(struct world *w, unsigned n) { return (unsigned)(rw_rnd(w) % n); }
bool rw_one_in(struct world *w, unsigned n) { return !w->calm && rw_below(w, n) == 0; }

void rw_wrong(struct world *w, const char *fmt, ...)
{
    va_list ap;

    if (w->failed)
        return;
    w->failed = true;
    va_start(ap, fmt);
    vsnprintf(w->why, w->cap, fmt, ap);
    va_end(ap);
}

const char *role_plant_name(enum role_plant p)
{
    static const char *const names[] = {
#define X(name) #name,
        ROLE_PLANTS(X)
#undef X
    };

    return names[p];
}

/* ---- what happens ---- */

static int any(struct world *w) { return (int)rw_below(w, (unsigned)w->n_sites); }

/* A primary mostly; but any site may send. */
static void connect_some(struct world *w)
{
    int from = any(w), to = any(w);

    const struct line *l = &w->line[to];

    for (int k = 0; k < 4 && w->site[from].d.role != ROLE_PRIMARY; k++)
        from = any(w);
    if (l->used && l->receive_live && w->site[l->to].d.role == ROLE_PRIMARY)     /* promoted while it receives: now it sends, too */
        from = l->to;
    if (w->blocked[from][to] && w->blocked[to][from])
        return;
    (void)rw_connect(w, from, to, false);
}

static void people(struct world *w)
{
    int i = any(w);

    if (rw_one_in(w, 160) && rw_promote(w, i) && rw_below(w, 3) == 0)
        w->seen->twice += rw_promote(w, any(w));
    if (w->line[i].used && (w->line[i].receive.state == RECEIVE_START || w->line[i].receive.state == RECEIVE_FORK) && rw_one_in(w, 60))
        w->blocked[w->line[i].from][w->line[i].to] |= rw_promote(w, w->line[i].to);      /* in the middle of the first words, of which the rest comes late */
    i = any(w);
    if (w->site[i].d.role == ROLE_FENCED ? rw_one_in(w, 12) : rw_one_in(w, 250))
        rw_demote(w, i);
    i = any(w);
    if (rw_one_in(w, 15))
        w->site[i].mounted = rw_below(w, 4) == 0;
    if (w->site[i].copied && rw_one_in(w, 40))
        rw_told(w, i);
}

static void misfortune(struct world *w)
{
    int i = any(w), k = any(w);

    if (rw_one_in(w, 40 * w->quiet))
        rw_kill(w, i);
    if (rw_one_in(w, 40 * w->quiet) && i != k) {
        w->blocked[i][k] = true;
        if (rw_below(w, 2))
            w->blocked[k][i] = true;
        w->seen->blocks++;
    }
    if (rw_one_in(w, w->leases ? 100 : 20))      /* (so that a lease runs out) */
        w->blocked[any(w)][any(w)] = false;
    if (rw_one_in(w, 100))
        w->site[i].full = true;
    if (rw_one_in(w, 10))
        w->site[any(w)].full = false;
    if (rw_one_in(w, 150))
        rw_image(w, i);
    if (w->images < 3 && rw_one_in(w, 900))
        rw_set_back(w, any(w));
    if (w->copies < 2 && rw_one_in(w, 700) && i != k)
        rw_copy(w, i, k);
    if (w->line[i].used && rw_one_in(w, 30 * w->quiet))
        rw_cut(w, &w->line[i]);
    if (w->line[k].used && rw_one_in(w, 100))
        rw_give_up(w, &w->line[k]);
    if (w->leases)                       /* much at one time, so that what comes of it is as near as clocks allow */
        w->now_ms += rw_below(w, 6) ? 0 : rw_below(w, 1200);
    else
        w->now_ms += rw_one_in(w, 100) ? 3600000 : rw_below(w, 400);
}

static void event(struct world *w)
{
    int i = any(w);

    if (rw_below(w, 3) == 0)
        (void)rw_append(w, i);
    if (rw_below(w, 6) == 0)
        rw_sync(w, any(w));
    if (rw_below(w, 10) == 0)
        rw_fsync(w, i);
    if (rw_below(w, 5) == 0)
        connect_some(w);
    people(w);
    rw_lease_events(w);
    misfortune(w);
    for (int l = 0; l < LINES_MAX && !w->failed; l++)
        if (w->line[l].used)
            rw_run(w, &w->line[l]);
    rw_lease_check(w);
    for (int s = 0; s < w->n_sites; s++)
        rw_answer(w, s);
}

/* ---- and how it ends ---- */

static void run_all(struct world *w)
{
    bool busy = true;

    for (unsigned t = 0; t < TURNS && busy && !w->failed; t++) {
        busy = false;
        for (int l = 0; l < LINES_MAX; l++)
            if (w->line[l].used) {
                busy = true;
                rw_sync(w, w->line[l].to);
                rw_run(w, &w->line[l]);
            }
        w->now_ms += 10;
    }
    if (busy && !w->failed)
        rw_wrong(w, "with nothing in the way a conversation does not end");
}

/* A person makes it the one: above what it has heard of. */
static void promote_it(struct world *w, int one)
{
    rw_demote(w, one);
    if (!rw_promote(w, one))
        rw_wrong(w, "site %d cannot be promoted at the end", one);
}

static bool follows(const struct world *w, int i, int one)
{
    const struct disk *a = &w->site[one].d, *b = &w->site[i].d;

    return a->n == b->n && rw_common(a, a->n, b, b->n) == a->n && b->role == ROLE_STANDBY;
}

/* Who shall be its standby: those of its lineage, and those that are nothing yet. */
static bool of_it(const struct world *w, int i, int one)
{
    return w->site[i].d.role == 0 || w->site[i].d.lineage == w->site[one].d.lineage;
}

static void decide(struct world *w, uint8_t lineage)
{
    int one = any(w);
    unsigned rounds = 0;
    bool all = false;

    for (int k = 0; k < w->n_sites && (w->site[one].d.n == 0 || w->site[one].d.lineage != lineage); k++)
        one = (one + 1) % w->n_sites;
    if (w->site[one].d.n == 0 || w->site[one].d.lineage != lineage)      /* (an empty standby was copied over the only one that held anything) */
        return;
    promote_it(w, one);
    while (!all && !w->failed) {
        bool another = false;

        all = true;
        if (++rounds > ROUNDS)
            rw_wrong(w, "after %d rounds not all sites follow site %d, with nothing in the way", ROUNDS, one);
        for (int i = 0; i < w->n_sites && !w->failed; i++) {
            struct line *l = NULL;

            if (i == one || !of_it(w, i, one) || follows(w, i, one))
                continue;
            all = false;
            rw_demote(w, i);
            (void)rw_connect(w, one, i, true);
            w->seen->calm_lines++;
            for (int k = 0; k < LINES_MAX; k++)
                if (w->line[k].used)
                    l = &w->line[k];
            run_all(w);
            another |= w->site[one].d.role != ROLE_PRIMARY || (l != NULL && l->ship.err.code == ERR_DIVERGED);
        }
        if (another)                     /* one that was above, or as high */
            promote_it(w, one);
    }
}

/* Each meets each that is of another lineage: the primaries stay what they are. */
static void strangers(struct world *w)
{
    for (int i = 0; i < w->n_sites; i++)
        for (int k = 0; k < w->n_sites && !w->failed; k++) {
            uint32_t was = w->site[i].d.role, is = w->site[k].d.role;

            if (was == 0 || is == 0 || w->site[i].d.lineage == w->site[k].d.lineage)
                continue;
            (void)rw_connect(w, i, k, true);
            run_all(w);
            if (w->site[i].d.role != was || w->site[k].d.role != is)
                rw_wrong(w, "sites %d and %d, of two lineages, met, and one is not what it was", i, k);
        }
}

static void settle(struct world *w)
{
    w->calm = true;
    for (int i = 0; i < w->n_sites && !w->failed; i++) {
        rw_kill(w, i);
        w->site[i].full = w->site[i].mounted = false;
        rw_told(w, i);
        if (w->site[i].d.role != 0)
            rw_prove(w, i, w->site[i].d.durable, "there at the end");
    }
    memset(w->blocked, 0, sizeof w->blocked);
    run_all(w);
    for (unsigned k = 0; k <= w->n_lineages && !w->failed; k++)
        decide(w, (uint8_t)(FIRST_LINEAGE + k));
    if (!w->failed)
        strangers(w);
    for (int i = 0; i < w->n_sites && !w->failed; i++)
        rw_proofs(w, i, false);
}

static void free_world(struct world *w)
{
    for (int i = 0; i < SITES_MAX; i++) {
        free(w->site[i].image);
        for (unsigned k = 0; k < BRANCHES_MAX; k++)
            free(w->site[i].branch[k].rec);
    }
    free(w);
}

bool roleworld_run(uint64_t seed, unsigned steps, enum role_plant plant, struct role_seen *seen, char *why, size_t cap)
{
    struct world *w = calloc(1, sizeof *w);
    unsigned i = 0;
    bool ok;

    if (w == NULL)
        abort();
    w->seed = seed * 0x9e3779b97f4a7c15ull + 1;
    w->plant = plant;
    w->seen = seen;
    w->why = why;
    w->cap = cap;
    w->trace = getenv("SPARE_TRACE") != NULL;
    for (int k = 0; k < 8; k++)
        (void)rw_rnd(w);
    w->n_sites = 3 + (int)rw_below(w, SITES_MAX - 2);
    w->quiet = 1 + rw_below(w, 6);
    w->leases = seed % 3 == 0 || plant >= ROLE_PLANT_LEASE_MARGIN;           /* (a disk that is copied or set back keeps no promise) */
    if (w->leases) {
        w->copies = w->images = UINT32_MAX;
        w->quiet += 4;
        for (int k = 0; k < w->n_sites; k++)
            w->site[k].clock_ppm = rw_below(w, 2) == 0 ? 4900 : -4900;
    }
    rw_create(w, 0);
    for (; i < steps && !w->failed; i++) {
        event(w);
        seen->steps++;
    }
    if (!w->failed)
        settle(w);
    ok = !w->failed;
    if (!ok) {
        size_t n = strlen(why);
        snprintf(why + n, cap - n, " (seed %" PRIu64 ", step %u)", seed, i);
    }
    free_world(w);
    return ok;
}
