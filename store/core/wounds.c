/* wounds.c: see wounds.h. */
#include "store/core/wounds.h"

#include "store/core/core_internal.h"

#include <stdlib.h>

static bool same(const struct wound *a, const struct wound *b)
{
    return a->lsn == b->lsn && a->doff == b->doff && a->len == b->len && a->until == b->until && a->hole == b->hole;
}

void wounds_note(struct store *s, const struct wound *w)
{
    bool known = false;

    pthread_mutex_lock(&s->wounds_lock);
    if (s->wounds == NULL)
        s->wounds = malloc(WOUNDS_MAX * sizeof *s->wounds);
    for (size_t i = 0; i < s->n_wounds && !known; i++)
        known = same(&s->wounds[i], w);
    if (!known && s->wounds != NULL && s->n_wounds < WOUNDS_MAX) {
        s->wounds[s->n_wounds++] = *w;
        s->wounds_noted++;
    }
    pthread_mutex_unlock(&s->wounds_lock);
}

bool wounds_first(struct store *s, struct wound *w)
{
    bool any;

    pthread_mutex_lock(&s->wounds_lock);
    any = s->n_wounds > 0;
    if (any)
        *w = s->wounds[0];
    pthread_mutex_unlock(&s->wounds_lock);
    return any;
}

void wounds_done(struct store *s, const struct wound *w, bool healed)
{
    pthread_mutex_lock(&s->wounds_lock);
    for (size_t i = 0; i < s->n_wounds; i++)
        if (same(&s->wounds[i], w)) {
            memmove(s->wounds + i, s->wounds + i + 1, (--s->n_wounds - i) * sizeof *s->wounds);
            s->wounds_healed += healed;
            s->wounds_given_up += !healed;
            break;
        }
    pthread_mutex_unlock(&s->wounds_lock);
}

size_t wounds_holes(struct store *s, struct wound *out, size_t cap, uint64_t *behind)
{
    size_t n = 0;

    *behind = UINT64_MAX;
    pthread_mutex_lock(&s->wounds_lock);
    for (size_t i = 0; i < s->n_wounds && n < cap; i++)
        if (s->wounds[i].hole)
            out[n++] = s->wounds[i];
    for (size_t i = 0; n > 0 && i < s->n_wounds; i++)
        if (s->wounds[i].hole && s->wounds[i].lsn > out[n - 1].lsn && s->wounds[i].lsn < *behind)
            *behind = s->wounds[i].lsn;
    pthread_mutex_unlock(&s->wounds_lock);
    return n;
}

void wounds_count(struct store *s, struct wounds_count *n)
{
    pthread_mutex_lock(&s->wounds_lock);
    *n = (struct wounds_count){ s->wounds_noted, s->wounds_healed, s->wounds_given_up };
    pthread_mutex_unlock(&s->wounds_lock);
}
