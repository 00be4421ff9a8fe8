/* roleworld_host.c: disks that are copied behind our back, and set back to an image of before. */
#include "tests/lib/roleworld_internal.h"

#include <stdlib.h>
#include <string.h>

static void copy_branches(struct site *to, const struct site *from)
{
    for (unsigned k = 0; k < from->d.n_branches; k++) {
        struct branch *b = &to->branch[k];

        free(b->rec);
        b->n = from->branch[k].n;
        b->rec = malloc(b->n * sizeof *b->rec);
        if (b->rec == NULL)
            abort();
        memcpy(b->rec, from->branch[k].rec, b->n * sizeof *b->rec);
    }
}

/* What is written now may be written twice: of the epoch that it goes on with, if it does. */
static void written_twice(struct world *w, const struct disk *d)
{
    if (d->role != 0)
        w->epoch[get_u32(d->rows[d->n_rows - 1].id)].twice = true;
}

/* The disk of ${to} is another one from here on; what it had is gone with it. */
static void other_disk(struct world *w, int to)
{
    struct site *s = &w->site[to];

    free(s->image);
    s->image = NULL;
    s->row_lost = s->n_waits = 0;
    rw_proofs(w, to, true);
}

void rw_copy(struct world *w, int from, int to)
{
    struct site *a = &w->site[from], *b = &w->site[to];

    if (a->d.role == 0 || a->copied || b->copied || (b->d.role == ROLE_PRIMARY && !rw_one_in(w, 4)))
        return;
    rw_down(w, to);
    copy_branches(b, a);
    b->d = a->d;
    b->d.n = b->d.durable;
    b->heard = a->heard;
    b->copied = true;
    written_twice(w, &a->d);
    other_disk(w, to);
    w->copies++;
    w->seen->copies++;
    rw_kill(w, to);                      /* its first open */
}

/* Where it writes: as a fork does, in an epoch of a lineage of its own, which nothing binds to the one before. */
static void own_lineage(struct world *w, int i)
{
    struct disk *d = &w->site[i].d;
    uint8_t of = d->lineage;

    if (w->plant != ROLE_PLANT_COPY_KEEPS_LINEAGE)
        d->lineage = (uint8_t)(FIRST_LINEAGE + ++w->n_lineages);
    if (rw_begin_epoch(w, i)) {
        w->epoch[w->n_epochs].copy_of = of;
        return;
    }
    d->role = ROLE_STANDBY;              /* (no room for one) */
    d->lineage = of;
}

/* Told so, at its next open: a site of its own. */
void rw_told(struct world *w, int i)
{
    struct site *s = &w->site[i];
    struct disk *d = &s->d;

    if (!s->copied || d->n == 0)
        return;
    rw_down(w, i);
    rw_sync(w, i);
    d->site[0] = (uint8_t)++w->n_sites_made;
    if (d->role == ROLE_PRIMARY && w->plant != ROLE_PLANT_COPY_KEEPS_EPOCH)
        own_lineage(w, i);
    s->copied = false;
    w->seen->told++;
    do
        rw_kill(w, i);                   /* opened, which makes the record of its epoch, or cut off there */
    while (rw_one_in(w, 4));
    rw_sync(w, i);                       /* an open ends so, before anybody meets it */
}

void rw_image(struct world *w, int i)
{
    struct site *s = &w->site[i];

    if (s->d.role == 0 || s->copied)
        return;
    if (s->image == NULL)
        s->image = malloc(sizeof *s->image);
    if (s->image == NULL)
        abort();
    *s->image = s->d;
    s->image->n = s->image->durable;
    s->image_heard = s->heard;
}

void rw_set_back(struct world *w, int i)
{
    struct site *s = &w->site[i];

    if (s->image == NULL || s->copied)
        return;
    rw_down(w, i);
    s->d = *s->image;
    s->heard = s->image_heard;
    written_twice(w, &s->d);
    other_disk(w, i);
    w->images++;
    w->seen->images++;
    rw_kill(w, i);
}
