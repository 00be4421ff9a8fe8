/* link_standby.c: a stream to a standby of which the settings say how far it is. */
#include "store/sync/link.h"

#include "store/core/standby.h"

#include <string.h>

enum { NOTE_S = 60, CAUGHT_S = 3 };      /* so old what is noted may be: while it comes, when it has all */

static const uint8_t never[16];

struct keeping {
    struct store *s;
    struct standby b;
    int64_t noted_s;
    void (*progress)(void *arg, const struct link_info *info, uint64_t durable);
    void *arg;
};

static int64_t now_s(const struct keeping *k)
{
    return io_wall_ns(store_io(k->s)) / 1000000000;
}

/* A standby that fits is one of ours from now on, also after a crash: its place is not made anew unasked. */
static int note(struct keeping *k, struct err *err)
{
    k->b.heard_s = k->noted_s = now_s(k);
    if (standby_find(k->s, k->b.target) < 0)
        return standby_note(k->s, &k->b, err);
    return standby_acked(k->s, k->b.target, k->b.site, k->b.acked, k->b.heard_s, err);
}

static int met(void *arg, const uint8_t site[16], struct err *err)
{
    struct keeping *k = arg;

    if (memcmp(k->b.site, site, 16) == 0)
        return 0;
    if (memcmp(k->b.site, never, 16) != 0)
        k->b.acked = 0;                  /* of another; of one that was just made, what was held */
    memcpy(k->b.site, site, 16);
    return note(k, err);
}

/* It has no site yet; what it is going to be sent is held for it. */
static int booting(void *arg, uint64_t end, struct err *err)
{
    struct keeping *k = arg;

    k->b.acked = end;
    memset(k->b.site, 0, sizeof k->b.site);      /* of one that is no more */
    return note(k, err);
}

/* How far it came; unless a person removed it from the list meanwhile. */
static void note_acked(struct keeping *k, const struct link_info *i)
{
    if (i->durable <= k->b.acked || !i->agreed)
        return;
    k->b.acked = i->durable;
    k->b.heard_s = i->heard_wall_ns / 1000000000;
    k->noted_s = now_s(k);
    (void)standby_acked(k->s, k->b.target, NULL, k->b.acked, k->b.heard_s, NULL);
}

/* What is held back for it is let go of as it comes there, not at the end of a stream that may last for years. */
static void progress(void *arg, const struct link_info *i, uint64_t durable)
{
    struct keeping *k = arg;
    int64_t now = now_s(k);

    if (now < k->noted_s || now >= k->noted_s + (i->durable >= durable ? CAUGHT_S : NOTE_S))
        note_acked(k, i);
    if (k->progress != NULL)
        k->progress(k->arg, i, durable);
}

int link_ship_standby(struct store *s, struct link_table *t, const struct standby *b, bool make, int in, int out, struct link_ship_options opt, struct link_info *info,
                      struct err *err)
{
    struct keeping k = { .s = s, .b = *b, .progress = opt.progress, .arg = opt.arg };
    int rc;

    k.noted_s = now_s(&k);
    opt.name = k.b.target;
    opt.may_make = make || memcmp(k.b.site, never, 16) == 0;
    opt.met = met;
    opt.booting = booting;
    opt.progress = progress;
    opt.arg = &k;
    rc = link_ship(s, t, in, out, &opt, info, err);
    note_acked(&k, info);
    return rc;
}
