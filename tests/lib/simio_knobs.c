/* simio_knobs.c: life of a sim, faults, clocks, counters, digest: what a test says to the disk. */
#include "tests/lib/simio_internal.h"

#include "store/base/hash.h"

#include <stdlib.h>
#include <string.h>

static void lock(struct simio *sim) { pthread_mutex_lock(&sim->mu); }
static void unlock(struct simio *sim) { pthread_mutex_unlock(&sim->mu); }

void simio_free(struct simio *sim)
{
    if (!sim)
        return;
    for (uint32_t n = SIM_ROOT; n < sim->n_ino; n++)
        if (sim->ino[n].used)
            inode_release(sim, n);
    for (size_t i = 0; i < sim->n_dirop; i++) {
        name_unref(sim->dirop[i].from);
        name_unref(sim->dirop[i].to);
    }
    free(sim->ino);
    free(sim->dirop);
    free(sim->skip_sync);
    free(sim->skip_syncdir);
    pthread_mutex_destroy(&sim->mu);
    free(sim);
}

struct io *simio_io(struct simio *sim) { return &sim->io; }
struct simio *simio_of(struct io *io) { return (struct simio *)io; }

static void *copy_array(const void *p, size_t n, size_t elem, size_t *cap)
{
    void *q = n ? sim_alloc(n * elem) : NULL;

    if (n)
        memcpy(q, p, n * elem);
    *cap = n;
    return q;
}

static void clone_inode(struct inode *to, const struct inode *from)
{
    *to = *from;
    pages_clone(&to->cur, &from->cur);
    pages_clone(&to->dur, &from->dur);
    to->pend = copy_array(from->pend, from->n_pend, sizeof *to->pend, &to->cap_pend);
    for (size_t i = 0; i < to->n_pend; i++)
        page_ref(to->pend[i].v);
    to->psize = copy_array(from->psize, from->n_psize, sizeof *to->psize, &to->cap_psize);
    to->lost = copy_array(from->lost, from->n_lost, sizeof *to->lost, &to->cap_lost);
    dirmap_clone(&to->cur_dir, &from->cur_dir);
    dirmap_clone(&to->dur_dir, &from->dur_dir);
}

struct simio *simio_clone(struct simio *sim)
{
    struct simio *c = sim_alloc(sizeof *c);

    lock(sim);
    *c = *sim;
    pthread_mutex_init(&c->mu, NULL);
    c->skip_sync = c->skip_syncdir = NULL;
    c->ino = sim_alloc(sim->n_ino * sizeof *c->ino);
    for (uint32_t n = SIM_ROOT; n < sim->n_ino; n++)
        if (sim->ino[n].used)
            clone_inode(&c->ino[n], &sim->ino[n]);
    c->dirop = copy_array(sim->dirop, sim->n_dirop, sizeof *c->dirop, &c->cap_dirop);
    for (size_t i = 0; i < c->n_dirop; i++) {
        name_ref(c->dirop[i].from);
        name_ref(c->dirop[i].to);
    }
    unlock(sim);
    sim_forget_process(c);
    return c;
}

void simio_cut(struct simio *sim, uint64_t seed, enum simio_cut_mode mode)
{
    lock(sim);
    sim_cut(sim, seed, mode);
    sim->boot_ns = 1000000000;
    unlock(sim);
}

void simio_kill(struct simio *sim)
{
    lock(sim);
    sim_forget_process(sim);
    unlock(sim);
}

void simio_cut_at(struct simio *sim, uint64_t n)
{
    lock(sim);
    sim->cut_left = n;
    unlock(sim);
}

bool simio_dead(struct simio *sim)
{
    bool dead;

    lock(sim);
    dead = sim->dead;
    unlock(sim);
    return dead;
}

static void arm(struct simio *sim, enum simio_call kind, uint64_t n, int code, bool forever)
{
    lock(sim);
    for (int i = 0; i < SIM_FAULTS; i++)
        if (!sim->fault[i].armed) {
            sim->fault[i] = (struct fault){ kind, n ? n : 1, code, forever, true };
            break;
        }
    unlock(sim);
}

void simio_fail_at(struct simio *sim, enum simio_call kind, uint64_t n, int code)
{
    arm(sim, kind, n, code, false);
}

void simio_fail_from(struct simio *sim, enum simio_call kind, uint64_t n, int code)
{
    arm(sim, kind, n, code, true);
}

void simio_fail_clear(struct simio *sim)
{
    lock(sim);
    memset(sim->fault, 0, sizeof sim->fault);
    unlock(sim);
}

void simio_evict(struct simio *sim)
{
    lock(sim);
    for (uint32_t n = SIM_ROOT; n < sim->n_ino; n++)
        if (sim->ino[n].used)
            inode_evict(sim, &sim->ino[n]);
    unlock(sim);
}

uint64_t simio_calls(struct simio *sim, enum simio_call kind)
{
    uint64_t n;

    lock(sim);
    n = sim->calls[kind];
    unlock(sim);
    return n;
}

uint64_t simio_mutations(struct simio *sim) { return simio_calls(sim, SIMIO_MUTATING); }

const char *simio_call_name(enum simio_call kind)
{
    static const char *const names[] = { "ANY", "MUTATING",
#define X(name) #name,
        SIMIO_CALLS(X)
#undef X
    };

    return (unsigned)kind < SIMIO_N_CALLS ? names[kind] : "?";
}

void simio_set_space(struct simio *sim, uint64_t bytes)
{
    lock(sim);
    sim->limit = bytes / SIM_PAGE;
    unlock(sim);
}

uint64_t simio_used(struct simio *sim)
{
    uint64_t n;

    lock(sim);
    n = sim->used * SIM_PAGE;
    unlock(sim);
    return n;
}

void simio_set_wall(struct simio *sim, int64_t wall_ns)
{
    lock(sim);
    sim->wall_ns = wall_ns;
    unlock(sim);
}

void simio_advance(struct simio *sim, uint64_t ns)
{
    lock(sim);
    sim->wall_ns += (int64_t)ns;
    sim->boot_ns += ns;
    unlock(sim);
}

void simio_tick(struct simio *sim, uint64_t ns_per_call)
{
    lock(sim);
    sim->tick_ns = ns_per_call;
    unlock(sim);
}

void simio_nowait_misses(struct simio *sim, unsigned percent)
{
    lock(sim);
    sim->nowait_percent = percent;
    unlock(sim);
}

static void set_prefix(struct simio *sim, char **slot, const char *prefix)
{
    lock(sim);
    free(*slot);
    *slot = prefix ? sim_alloc(strlen(prefix) + 1) : NULL;
    if (prefix)
        strcpy(*slot, prefix);
    unlock(sim);
}

void simio_bug_skip_sync(struct simio *sim, const char *prefix)
{
    set_prefix(sim, &sim->skip_sync, prefix);
}

void simio_bug_skip_syncdir(struct simio *sim, const char *prefix)
{
    set_prefix(sim, &sim->skip_syncdir, prefix);
}

/* In view and on disk alike; a file of the root or of a directory in it. */
bool simio_flip(struct simio *sim, const char *path, uint64_t off, uint8_t mask)
{
    struct pages *ps[2];
    struct inode *in = NULL;
    uint32_t dir = SIM_ROOT;
    bool found = false;

    lock(sim);
    for (const char *s = path; s; ) {
        const char *slash = strchr(s, '/');
        struct sname *name = name_new(s, slash ? (size_t)(slash - s) : strlen(s));
        const struct entry *e = dirmap_find(&sim->ino[dir].cur_dir, name->s);

        name_unref(name);
        if (!e)
            goto out;
        dir = e->ino;
        s = slash ? slash + 1 : NULL;
    }
    in = &sim->ino[dir];
    if (in->is_dir || off >= in->size)
        goto out;
    ps[0] = &in->cur;
    ps[1] = &in->dur;
    for (int i = 0; i < 2; i++) {
        struct page *p = page_copy(pages_get(ps[i], off / SIM_PAGE));

        p->b[off % SIM_PAGE] ^= mask;
        if (i == 0 && !pages_get(ps[0], off / SIM_PAGE) && off / SIM_PAGE >= in->reserved)
            in->loose++, sim->used++;
        pages_set(ps[i], off / SIM_PAGE, p);
        page_unref(p);
    }
    found = true;
out:
    unlock(sim);
    return found;
}

static uint64_t digest_add(uint64_t h, const void *p, size_t len)
{
    uint64_t v[2] = { h, hash64(p, len) };

    return hash64(v, sizeof v);
}

static uint64_t digest_inode(const struct simio *sim, uint32_t n, uint64_t h)
{
    static const uint8_t zeros[SIM_PAGE];
    const struct inode *in = &sim->ino[n];

    if (!in->is_dir) {
        h = digest_add(h, &in->size, sizeof in->size);
        for (uint64_t i = 0; i * SIM_PAGE < in->size; i++) {
            const struct page *p = pages_get(&in->cur, i);

            if (p && memcmp(p->b, zeros, SIM_PAGE) != 0)
                h = digest_add(digest_add(h, &i, sizeof i), p->b, SIM_PAGE);
        }
        return h;
    }
    for (size_t i = 0; i < in->cur_dir.n; i++) {
        h = digest_add(h, in->cur_dir.e[i].name->s, strlen(in->cur_dir.e[i].name->s) + 1);
        h = digest_inode(sim, in->cur_dir.e[i].ino, h);
    }
    return digest_add(h, "/", 1);
}

uint64_t simio_digest(struct simio *sim)
{
    uint64_t h;

    lock(sim);
    h = digest_inode(sim, SIM_ROOT, 0);
    unlock(sim);
    return h;
}

uint64_t simio_pending(struct simio *sim)
{
    uint64_t n;

    lock(sim);
    n = sim->n_dirop;
    for (uint32_t i = SIM_ROOT; i < sim->n_ino; i++)
        if (sim->ino[i].used)
            n += sim->ino[i].n_pend + sim->ino[i].n_psize + sim->ino[i].n_lost;
    unlock(sim);
    return n;
}
