/*
 * packs.c: which packs there are, and which one counts for an address: of those that have it the one of the largest generation. Names
 * say what a pack has; that a part of it is of another timeline only its head does, so that is read before a pack counts. One whose heads
 * are both bad counts for all its name says: what would be its is damage, and nothing else is.
 */
#include "store/pack/packs_internal.h"

#include "store/base/super.h"

#include <assert.h>
#include <stdlib.h>
#include <stdatomic.h>
#include <string.h>

/* ---- the table ---- */

/* The number of packs that come before (first, gen). */
static size_t position(const struct packs *ps, uint64_t first, uint64_t gen)
{
    size_t lo = 0, hi = ps->n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        const struct pack *p = ps->pack[mid];

        if (p->first < first || (p->first == first && p->gen < gen))
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static struct pack *held_locked(const struct packs *ps, uint64_t gen, size_t *at)
{
    for (*at = 0; *at < ps->n; (*at)++)
        if (ps->pack[*at]->gen == gen)
            return ps->pack[*at];
    return NULL;
}

static void renew_max_end(struct packs *ps, size_t from)
{
    for (size_t i = from; i < ps->n; i++)
        ps->max_end[i] = i > 0 && ps->max_end[i - 1] > ps->pack[i]->end ? ps->max_end[i - 1] : ps->pack[i]->end;
}

/* Room for one more; under the mutex, which is short: it happens seldom. */
static bool room(struct packs *ps)
{
    size_t cap = ps->cap ? 2 * ps->cap : 64;
    struct pack **pack;
    uint64_t *ends;

    if (ps->n < ps->cap)
        return true;
    pack = realloc(ps->pack, cap * sizeof(struct pack *));
    if (pack)
        ps->pack = pack;
    ends = realloc(ps->max_end, cap * sizeof *ends);
    if (ends)
        ps->max_end = ends;
    if (pack && ends)
        ps->cap = cap;
    return pack && ends;
}

bool packs_cut(const struct packs *ps, const struct pack_head *h, uint64_t *cut)
{
    for (uint32_t i = 0; i < ps->n_epochs; i++) {
        if (memcmp(ps->epochs[i].id, h->epoch_id, 16) != 0)
            continue;
        *cut = i + 1 < ps->n_epochs && ps->epochs[i + 1].first_lsn < h->end ? ps->epochs[i + 1].first_lsn : h->end;
        return true;
    }
    *cut = h->end;
    return false;
}

/* A pack of this name, into the table; ${h} NULL: not read yet. */
static int insert(struct packs *ps, uint64_t first, uint64_t end, uint64_t gen, const struct pack_head *h, struct err *err)
{
    struct pack *p = calloc(1, sizeof *p);
    size_t i, dup;
    int rc = 0;

    if (p == NULL)
        return err_set(err, ERR_NOMEM, "packs: out of memory");
    p->first = first;
    p->end = end;
    p->gen = gen;
    pack_name(first, end, gen, p->name);
    if (h) {
        p->h = *h;
        packs_cut(ps, h, &p->cut);      /* an epoch that began since the set was opened is ours */
        p->state = PACK_GOOD;
    }
    pthread_mutex_lock(&ps->mutex);
    p->serial = ++ps->serial;
    i = position(ps, first, gen);
    if (h && held_locked(ps, gen, &dup)) {
        rc = err_set(err, ERR_INVAL, "%s: its generation is that of another one", p->name);
    } else if (!room(ps)) {
        rc = err_set(err, ERR_NOMEM, "packs: out of memory");
    } else {
        memmove(ps->pack + i + 1, ps->pack + i, (ps->n - i) * sizeof(struct pack *));
        ps->pack[i] = p;
        ps->n++;
        renew_max_end(ps, i);
    }
    pthread_mutex_unlock(&ps->mutex);
    if (rc)
        free(p);
    return rc;
}

static void pack_free(struct pack *p)
{
    if (p->file)
        io_close(p->file);
    free(p);
}

void packs_release(struct packs *ps, struct pack *p)
{
    bool last;

    if (p == NULL)
        return;
    pthread_mutex_lock(&ps->mutex);
    p->used = ++ps->stamp;
    last = --p->refs == 0 && p->dead;
    if (last && p->file)
        ps->n_open--;
    pthread_mutex_unlock(&ps->mutex);
    if (last)
        pack_free(p);
}

struct pack *packs_held(struct packs *ps, uint64_t gen)
{
    struct pack *p;
    size_t at;

    pthread_mutex_lock(&ps->mutex);
    p = held_locked(ps, gen, &at);
    if (p)
        p->refs++;
    pthread_mutex_unlock(&ps->mutex);
    return p;
}

int packs_added(struct packs *ps, const struct pack_head *h, struct err *err)
{
    return insert(ps, h->first, h->end, h->gen, h, err);
}

void packs_forget(struct packs *ps, uint64_t gen)
{
    struct pack *p;
    bool last = false;
    size_t i;

    pthread_mutex_lock(&ps->mutex);
    p = held_locked(ps, gen, &i);
    if (p) {
        ps->n--;
        memmove(ps->pack + i, ps->pack + i + 1, (ps->n - i) * sizeof(struct pack *));
        renew_max_end(ps, i);
        p->dead = true;
        last = p->refs == 0;
        if (last && p->file)
            ps->n_open--;
    }
    pthread_mutex_unlock(&ps->mutex);
    if (last)
        pack_free(p);
}

/* ---- which one counts ---- */

enum look { LOOK_NONE, LOOK_FOUND, LOOK_READ };     /* READ: the head of *out is needed first */

/* Whether an address below ${end} may be of a branch: some epoch behind the first one begins below it. */
static bool may_be_cut(const struct packs *ps, uint64_t end)
{
    return ps->n_epochs > 1 && ps->epochs[1].first_lsn < end;
}

/* ${any}: where names say all, heads need not be read, and may be bad. */
static enum look look(struct packs *ps, uint64_t addr, bool any, struct pack **out, uint64_t *until)
{
    size_t behind = position(ps, addr, UINT64_MAX);
    uint64_t end = UINT64_MAX;
    struct pack *best = NULL;

    for (size_t i = behind; i-- > 0 && ps->max_end[i] > addr;) {
        struct pack *p = ps->pack[i];
        uint64_t to = p->state == PACK_GOOD ? p->cut : p->end;

        if (to <= addr || (best && p->gen <= best->gen))
            continue;
        if (p->state == PACK_UNREAD && (!any || may_be_cut(ps, p->end))) {
            *out = p;
            return LOOK_READ;
        }
        best = p;
        end = to;
    }
    for (size_t i = behind; i < ps->n && ps->pack[i]->first < end; i++)
        if (best == NULL || ps->pack[i]->gen > best->gen)
            end = ps->pack[i]->first;
    *until = end;
    *out = best;
    return best ? LOOK_FOUND : LOOK_NONE;
}

/* Learn a head; a bad one is known as that from here on. */
static int learn(struct packs *ps, struct pack *p, bool nowait, struct err *err)
{
    struct err why = { 0 };
    int rc = packs_load_head(ps, p, nowait, &why);

    return rc == ERR_WAIT || rc == ERR_NOMEM ? err_set(err, rc, "%s", why.msg) : 0;
}

/* The pack that counts, held. ${any}: see look. */
static int search(struct packs *ps, uint64_t addr, bool nowait, bool any, struct pack **out, uint64_t *until, struct err *err)
{
    for (;;) {
        bool bad;
        enum look l;
        int rc;

        *out = NULL;
        pthread_mutex_lock(&ps->mutex);
        l = look(ps, addr, any, out, until);
        if (*out)
            (*out)->refs++;
        bad = *out && (*out)->state == PACK_BAD;
        pthread_mutex_unlock(&ps->mutex);
        if (l == LOOK_NONE || (l == LOOK_FOUND && (!bad || any)))
            return 0;
        /* A bad one is wanted itself: perhaps the disk gives it now. */
        rc = l == LOOK_READ ? learn(ps, *out, nowait, err) : packs_load_head(ps, *out, nowait, err);
        packs_release(ps, *out);
        *out = NULL;
        if (rc)
            return rc;
    }
}

int packs_find(struct packs *ps, uint64_t addr, bool nowait, struct pack **out, uint64_t *until, struct err *err)
{
    return search(ps, addr, nowait, false, out, until, err);
}

int packs_find_named(struct packs *ps, uint64_t addr, struct pack **out, uint64_t *until, struct err *err)
{
    return search(ps, addr, false, true, out, until, err);
}

/* ---- all of them ---- */

uint64_t packs_run(struct packs *ps, uint64_t addr)
{
    uint64_t at = addr, until;
    struct pack *p;

    while (at && search(ps, at, false, true, &p, &until, NULL) == 0 && p) {
        packs_release(ps, p);
        at = until;
    }
    return at == addr ? 0 : at;
}

uint64_t packs_end(struct packs *ps)
{
    uint64_t first = 0, end;

    pthread_mutex_lock(&ps->mutex);
    if (ps->n)
        first = ps->pack[0]->first;
    pthread_mutex_unlock(&ps->mutex);
    end = packs_run(ps, first);
    return end > 0 ? end : first;
}

int packs_gap(struct packs *ps, uint64_t from, uint64_t until, uint64_t *first, uint64_t *end, struct err *err)
{
    struct pack *p;
    uint64_t to;
    int rc = 0;

    for (uint64_t at = from; rc == 0 && at < until; at = to) {
        rc = search(ps, at, false, true, &p, &to, err);
        if (rc == 0 && p == NULL) {
            *first = at;
            *end = to < until ? to : until;
            return 1;
        }
        packs_release(ps, p);
    }
    return rc;
}

void packs_epochs(struct packs *ps, const struct epoch_row *epochs, uint32_t n)
{
    uint32_t have;

    pthread_mutex_lock(&ps->mutex);
    have = ps->n_epochs < n ? ps->n_epochs : n;
    while (have > 0 && memcmp(ps->epochs[have - 1].id, epochs[have - 1].id, 16) != 0)      /* one whose record never came gave way to another */
        have--;
    if (have < n && n <= SUPER_EPOCHS_MAX)
        memcpy(ps->epochs + have, epochs + have, (n - have) * sizeof *epochs);
    if (n <= SUPER_EPOCHS_MAX)
        atomic_store(&ps->n_epochs, n);      /* read without the lock */
    pthread_mutex_unlock(&ps->mutex);
}

uint64_t packs_next_gen(struct packs *ps)
{
    uint64_t gen = 0;

    pthread_mutex_lock(&ps->mutex);
    for (size_t i = 0; i < ps->n; i++)
        gen = ps->pack[i]->gen > gen ? ps->pack[i]->gen : gen;
    pthread_mutex_unlock(&ps->mutex);
    return gen + 1;
}

/* Whether any address of ${p} is won by it. */
static int counts(struct packs *ps, const struct pack *p, bool *yes, struct err *err)
{
    uint64_t until = 0;
    struct pack *q;
    int rc = 0;

    *yes = false;
    for (uint64_t at = p->first; rc == 0 && !*yes && at < p->end; at = until) {
        rc = search(ps, at, false, true, &q, &until, err);
        *yes = rc == 0 && q == p;
        packs_release(ps, q);
    }
    return rc;
}

int packs_list(struct packs *ps, int (*fn)(void *arg, const struct packs_info *i), void *arg, struct err *err)
{
    int rc = 0;

    uint64_t first = 0, gen = 0;         /* of the last one: packs may go, and come, meanwhile */

    while (rc == 0) {
        struct packs_info info = { 0 };
        struct io_stat st = { 0 };
        struct pack *p = NULL;
        bool yes = false;

        pthread_mutex_lock(&ps->mutex);
        for (size_t i = 0; i < ps->n; i++) {
            struct pack *q = ps->pack[i];

            if ((q->first > first || (q->first == first && q->gen > gen)) && (p == NULL || q->first < p->first || (q->first == p->first && q->gen < p->gen)))
                p = q;
        }
        if (p)
            p->refs++;
        pthread_mutex_unlock(&ps->mutex);
        if (p == NULL)
            break;
        first = p->first;
        gen = p->gen;
        info.first = p->first;
        info.end = p->end;
        info.gen = p->gen;
        memcpy(info.name, p->name, sizeof info.name);
        if (io_stat_path(ps->io, p->name, &st, NULL) == 0)      /* of one that is not given: 0 */
            info.bytes = st.size;
        rc = counts(ps, p, &yes, err);
        info.counts_to = p->state == PACK_GOOD ? p->cut : p->end;      /* (counts has read its head, where it matters) */
        packs_release(ps, p);
        if (rc == 0 && yes)
            rc = fn(arg, &info);
    }
    return rc;
}

uint64_t packs_memory(struct packs *ps)
{
    uint64_t n;

    pthread_mutex_lock(&ps->mutex);
    n = sizeof *ps + ps->cached + ps->n * sizeof(struct pack) + ps->cap * (sizeof(struct pack *) + sizeof *ps->max_end);
    pthread_mutex_unlock(&ps->mutex);
    return n;
}

/* ---- life ---- */

struct listing { struct packs *ps; struct err *err; };

static int list_one(void *arg, const char *name)
{
    struct listing *l = arg;
    uint64_t first, end, gen;

    return pack_parse(name, &first, &end, &gen) ? insert(l->ps, first, end, gen, NULL, l->err) : 0;
}

int packs_open(struct io *io, const struct packs_options *opt, struct packs **out, struct err *err)
{
    struct packs *ps = calloc(1, sizeof *ps);
    struct listing l = { ps, err };
    int rc;

    *out = NULL;
    if (ps == NULL)
        return err_set(err, ERR_NOMEM, "packs: out of memory");
    ps->io = io;
    ps->key_id = opt->key_id;
    memcpy(ps->lineage, opt->lineage, sizeof ps->lineage);
    memcpy(ps->key, opt->key, sizeof ps->key);
    ps->cache_max = opt->cache_bytes ? opt->cache_bytes : PACKS_CACHE_DEF;
    pthread_mutex_init(&ps->mutex, NULL);
    ps->epochs = calloc(opt->n_epochs + (size_t)SUPER_EPOCHS_MAX, sizeof *ps->epochs);     /* room for what comes */
    if (ps->epochs) {
        ps->n_epochs = opt->n_epochs;
        if (opt->n_epochs)
            memcpy(ps->epochs, opt->epochs, opt->n_epochs * sizeof *ps->epochs);
        rc = io_list(io, "packs", list_one, &l, err);
    } else {
        rc = err_set(err, ERR_NOMEM, "packs: out of memory");
    }
    if (rc != 0 && rc != ERR_NOENT) {
        packs_close(ps);
        return rc;
    }
    *out = ps;
    return 0;
}

void packs_close(struct packs *ps)
{
    if (ps == NULL)
        return;
    packs_cache_release(ps);
    for (size_t i = 0; i < ps->n; i++) {
        assert(ps->pack[i]->refs == 0);
        pack_free(ps->pack[i]);
    }
    pthread_mutex_destroy(&ps->mutex);
    free(ps->pack);
    free(ps->max_end);
    free(ps->epochs);
    free(ps);
}
