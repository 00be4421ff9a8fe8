/* roleworld_lease.c: leases between the sites of roleworld.h. What store/core/lease.c does, as a model; and that no two sites take changes at one time. */
#include "tests/lib/roleworld_internal.h"

#include <inttypes.h>
#include <string.h>

enum { LEASE_MS = 30000, PPM_MOST = 4900 };      /* two clocks differ by less than 1 % */

uint64_t rw_clock(const struct world *w, int i)
{
    return w->now_ms + w->now_ms / 1000 * (uint64_t)(PPM_MOST + w->site[i].clock_ppm) / 1000;
}

bool rw_frozen(const struct world *w, int i)
{
    return w->leases && !w->calm && w->now_ms < w->site[i].frozen_ms;
}

static bool begun(const struct disk *d)
{
    return d->n_rows > 0 && d->lease_epoch == d->rows[d->n_rows - 1].number;
}

static int site_of(const struct world *w, const uint8_t site[16])
{
    for (int i = 0; i < w->n_sites; i++)
        if (w->site[i].d.role != 0 && memcmp(w->site[i].d.site, site, 16) == 0)
            return i;
    return -1;
}

bool rw_leased(const struct world *w, int i)
{
    const struct site *s = &w->site[i];

    return !w->leases || w->calm || !begun(&s->d) || rw_clock(w, i) < s->lease_ms;
}

void rw_lease_of(const struct world *w, int i, struct lease *out)
{
    const struct disk *d = &w->site[i].d;

    memset(out, 0, sizeof *out);
    if (!w->leases)
        return;
    if (d->role != ROLE_PRIMARY) {
        *out = d->lease_told;
    } else if (d->lease_site[0] != 0) {
        out->ms = LEASE_MS;
        memcpy(out->site, d->lease_site, 16);
    }
}

bool rw_lease_promise(struct world *w, int i, const struct receive *r)
{
    struct site *s = &w->site[i];
    uint64_t until = r->promise_ms;

    if (s->d.role != ROLE_STANDBY || r->epoch < rw_heard_of(&s->d))
        return false;
    if (w->plant == ROLE_PLANT_LEASE_MARGIN && r->promise.ms > 0)
        until -= lease_promise_ms(r->promise.ms) - r->promise.ms;
    s->d.lease_told = r->promise;
    if (r->promise.ms > 0 && memcmp(r->promise.site, s->d.site, 16) == 0 && until > s->promised_ms)
        s->promised_ms = until;
    return true;
}

void rw_lease_renew(struct world *w, const struct line *l)
{
    struct site *s = &w->site[l->from];
    uint64_t until = w->plant == ROLE_PLANT_LEASE_RECEIPT ? rw_clock(w, l->from) + LEASE_MS : l->ship.lease_ms;

    if (!w->leases || l->ship.lease_ms == 0 || s->d.role != ROLE_PRIMARY || memcmp(s->d.lease_site, l->ship.peer_site, 16) != 0)
        return;
    if (!begun(&s->d)) {
        s->d.lease_epoch = s->d.rows[s->d.n_rows - 1].number;
        s->lease_ms = 0;
        w->seen->leased++;
    }
    if (until > s->lease_ms)
        s->lease_ms = until;
}

/* People promote whoever gives the lease of the primary it follows, once that has begun and its promises are over; nobody else. */
bool rw_lease_allows(const struct world *w, int i)
{
    const struct site *s = &w->site[i];
    bool relied_on = false;

    if (!w->leases || w->calm)
        return true;
    for (int k = 0; k < w->n_sites; k++)
        relied_on |= begun(&w->site[k].d) && w->site[k].d.lease_epoch == rw_heard_of(&s->d) && memcmp(w->site[k].d.lease_site, s->d.site, 16) == 0;
    return s->d.role == ROLE_STANDBY && relied_on && s->d.lease_told.ms > 0 && memcmp(s->d.lease_told.site, s->d.site, 16) == 0 && rw_clock(w, i) >= s->promised_ms;
}

void rw_lease_opened(struct world *w, int i)
{
    struct site *s = &w->site[i];

    if (w->plant != ROLE_PLANT_LEASE_KEPT)
        s->lease_ms = 0;
    else if (s->lease_ms > 0)
        s->lease_ms = rw_clock(w, i) + LEASE_MS;
    s->promised_ms = w->plant == ROLE_PLANT_LEASE_FORGOTTEN ? 0 : rw_clock(w, i) + lease_promise_ms(s->d.lease_told.ms);
}

void rw_lease_promoted(struct world *w, int i)
{
    struct site *s = &w->site[i];

    memset(&s->d.lease_told, 0, sizeof s->d.lease_told);
    memset(s->d.lease_site, 0, sizeof s->d.lease_site);
    s->d.lease_epoch = 0;
    w->seen->lease_promotions += w->leases && !w->calm;
}

/* Somebody else believes to give a lease: before another does, he must have heard of that. */
static bool another_gives(const struct world *w, int but)
{
    for (int i = 0; i < w->n_sites; i++)
        if (i != but && w->site[i].d.lease_told.ms > 0 && memcmp(w->site[i].d.lease_told.site, w->site[i].d.site, 16) == 0)
            return true;
    return false;
}

void rw_lease_events(struct world *w)
{
    int i = (int)rw_below(w, (unsigned)w->n_sites);

    if (!w->leases)
        return;
    if (rw_one_in(w, 200)) {
        w->site[i].frozen_ms = w->now_ms + rw_below(w, rw_below(w, 4) == 0 ? 2 * LEASE_MS : 5000);
        w->seen->suspends++;
    }
    for (int k = 0; k < w->n_sites; k++)
        if (w->site[k].promised_ms > 0 && rw_lease_allows(w, k))
            (void)rw_promote(w, k);
    for (int k = 0; k < LINES_MAX; k++) {        /* a lease is asked for of one that follows */
        const struct line *l = &w->line[k];
        struct disk *a = &w->site[l->from].d;

        if (l->used && l->ship_live && l->ship.state == SHIP_STREAM && a->role == ROLE_PRIMARY && a->lease_site[0] == 0 && rw_one_in(w, 10) &&
            site_of(w, l->ship.peer_site) == l->to && !another_gives(w, l->to))
            memcpy(a->lease_site, l->ship.peer_site, 16);
    }
}

void rw_lease_check(struct world *w)
{
    int one = -1;

    if (!w->leases || w->calm)
        return;
    for (int i = 0; i < w->n_sites; i++) {
        if (w->site[i].d.role != ROLE_PRIMARY)
            continue;
        w->seen->lapsed += !rw_leased(w, i);
        if (!rw_leased(w, i))
            continue;
        if (one >= 0)
            rw_wrong(w, "sites %d and %d both take changes, with leases: at %" PRIu64 " ms, the one until %" PRIu64 " by its clock, the other until %" PRIu64, one, i, w->now_ms,
                     w->site[one].lease_ms, w->site[i].lease_ms);
        one = i;
    }
}
