#include "tests/lib/simio_internal.h"

#include <stdlib.h>
#include <string.h>

static uint64_t n_pages(uint64_t size) { return (size + SIM_PAGE - 1) / SIM_PAGE; }

uint32_t inode_new(struct simio *sim, bool is_dir)
{
    uint32_t n;

    for (n = SIM_ROOT; n < sim->n_ino && sim->ino[n].used; n++)
        ;
    if (n >= sim->n_ino) {
        uint32_t want = sim->n_ino ? 2 * sim->n_ino : 32;
        struct inode *bigger = sim_alloc(want * sizeof *bigger);

        if (sim->n_ino)
            memcpy(bigger, sim->ino, sim->n_ino * sizeof *bigger);
        free(sim->ino);
        sim->ino = bigger;
        sim->n_ino = want;
    }
    memset(&sim->ino[n], 0, sizeof sim->ino[n]);
    sim->ino[n].used = true;
    sim->ino[n].is_dir = is_dir;
    return n;
}

static void drop_pending(struct inode *in)
{
    for (size_t i = 0; i < in->n_pend; i++)
        page_unref(in->pend[i].v);
    in->n_pend = in->n_psize = 0;
}

uint32_t inode_names(const struct simio *sim, uint32_t n)
{
    uint32_t names = 0;

    for (uint32_t d = 1; d < sim->n_ino; d++)
        for (size_t k = 0; sim->ino[d].used && k < sim->ino[d].cur_dir.n; k++)
            names += sim->ino[d].cur_dir.e[k].ino == n;
    return names;
}

void inode_release(struct simio *sim, uint32_t n)
{
    struct inode *in = &sim->ino[n];

    sim->used -= in->reserved + in->loose;
    drop_pending(in);
    free(in->pend);
    free(in->psize);
    free(in->lost);
    pages_release(&in->cur);
    pages_release(&in->dur);
    dirmap_release(&in->cur_dir);
    dirmap_release(&in->dur_dir);
    memset(in, 0, sizeof *in);
}

/* Puts a page into view, counting space. */
static void show_page(struct simio *sim, struct inode *in, uint64_t i, struct page *p)
{
    bool had = pages_get(&in->cur, i) != NULL, has = p != NULL;

    if (i >= in->reserved && had != has) {
        in->loose += has ? 1 : (uint64_t)-1;
        sim->used += has ? 1 : (uint64_t)-1;
    }
    pages_set(&in->cur, i, p);
}

static void lost_remove(struct inode *in, uint64_t page)
{
    for (size_t i = 0; i < in->n_lost; i++)
        if (in->lost[i] == page) {
            in->lost[i] = in->lost[--in->n_lost];
            return;
        }
}

void inode_set_page(struct simio *sim, struct inode *in, uint64_t i, struct page *p)
{
    lost_remove(in, i);
    show_page(sim, in, i, p);
    in->pend = sim_grow(in->pend, in->n_pend, &in->cap_pend, sizeof *in->pend);
    in->pend[in->n_pend++] = (struct pend){ sim->seq++, (uint32_t)i, p };
}

/* A new size in view; what a shrink cuts off is gone. The size goes first: a crash may show it without its data. */
void inode_set_size(struct simio *sim, struct inode *in, uint64_t size)
{
    uint64_t old = in->size;

    if (size == old)
        return;
    in->psize = sim_grow(in->psize, in->n_psize, &in->cap_psize, sizeof *in->psize);
    in->psize[in->n_psize++] = (struct pend_size){ sim->seq++, size };
    in->size = size;
    if (size > old)
        return;
    if (in->reserved > n_pages(size)) {     /* the pages behind stay counted as loose ones, until they go below */
        uint64_t keep = n_pages(size);

        for (uint64_t i = keep; i < in->reserved; i++)
            if (pages_get(&in->cur, i))
                in->loose++, sim->used++;
        sim->used -= in->reserved - keep;
        in->reserved = keep;
    }
    for (uint64_t i = n_pages(size); i < n_pages(old); i++)
        if (pages_get(&in->cur, i))
            inode_set_page(sim, in, i, NULL);
    if (size % SIM_PAGE && pages_get(&in->cur, size / SIM_PAGE)) {
        struct page *p = page_copy(pages_get(&in->cur, size / SIM_PAGE));

        memset(p->b + size % SIM_PAGE, 0, SIM_PAGE - size % SIM_PAGE);
        inode_set_page(sim, in, size / SIM_PAGE, p);
    }
}

/* Space for the first n pages was taken by the caller's check. */
void inode_reserve(struct simio *sim, struct inode *in, uint64_t n)
{
    for (uint64_t i = in->reserved; i < n; i++) {
        if (pages_get(&in->cur, i))
            in->loose--;
        else
            sim->used++;
    }
    if (n > in->reserved)
        in->reserved = n;
}

void inode_sync(struct inode *in)
{
    for (size_t i = 0; i < in->n_pend; i++)
        pages_set(&in->dur, in->pend[i].page, in->pend[i].v);
    in->dsize = in->size;
    drop_pending(in);
}

static bool is_last_of_page(const struct inode *in, size_t i)
{
    for (size_t j = i + 1; j < in->n_pend; j++)
        if (in->pend[j].page == in->pend[i].page)
            return false;
    return true;
}

void inode_sync_failed(struct simio *sim, struct inode *in)
{
    for (size_t i = 0; i < in->n_pend; i++) {
        const struct pend *p = &in->pend[i];

        if (!is_last_of_page(in, i))
            continue;
        if (sim_below(&sim->fault_rng, 4) == 0) {
            pages_set(&in->dur, p->page, p->v);
            continue;
        }
        in->lost = sim_grow(in->lost, in->n_lost, &in->cap_lost, sizeof *in->lost);
        in->lost[in->n_lost++] = p->page;
    }
    for (size_t i = 0; i < in->n_pend; i++)
        page_unref(in->pend[i].v);
    in->n_pend = 0;     /* the size is metadata and stays pending */
}

void inode_evict(struct simio *sim, struct inode *in)
{
    for (size_t i = 0; i < in->n_lost; i++)
        show_page(sim, in, in->lost[i], pages_get(&in->dur, in->lost[i]));
    in->n_lost = 0;
}

static void dirop_apply(struct simio *sim, const struct dirop *d, bool durable)
{
    if (d->from)
        dirmap_remove(durable ? &sim->ino[d->from_dir].dur_dir : &sim->ino[d->from_dir].cur_dir, d->from->s);
    if (d->to)
        dirmap_set(durable ? &sim->ino[d->to_dir].dur_dir : &sim->ino[d->to_dir].cur_dir, d->to, d->ino);
}

void dirop_do(struct simio *sim, uint32_t from_dir, struct sname *from, uint32_t to_dir, struct sname *to,
              uint32_t ino)
{
    struct dirop d = { sim->seq++, from_dir, to_dir, ino, name_ref(from), name_ref(to) };

    dirop_apply(sim, &d, false);
    sim->dirop = sim_grow(sim->dirop, sim->n_dirop, &sim->cap_dirop, sizeof *sim->dirop);
    sim->dirop[sim->n_dirop++] = d;
}

static void dirop_release(struct dirop *d)
{
    name_unref(d->from);
    name_unref(d->to);
}

static bool touches(const struct dirop *d, const bool *dirs)
{
    return (d->from && dirs[d->from_dir]) || (d->to && dirs[d->to_dir]);
}

/*
 * Makes durable, in order, what is pending in ${dir}, and where one of it is a move between directories what
 * came before it in the other one: a journal cannot commit one half of a rename.
 */
void dir_sync(struct simio *sim, uint32_t dir)
{
    bool *dirs = sim_alloc(sim->n_ino * sizeof *dirs), *take = sim_alloc(sim->n_dirop * sizeof *take);
    size_t kept = 0;

    dirs[dir] = true;
    for (size_t i = sim->n_dirop; i-- > 0; ) {
        const struct dirop *d = &sim->dirop[i];

        take[i] = touches(d, dirs);
        if (take[i] && d->from)
            dirs[d->from_dir] = true;
        if (take[i] && d->to)
            dirs[d->to_dir] = true;
    }
    for (size_t i = 0; i < sim->n_dirop; i++) {
        if (take[i]) {
            dirop_apply(sim, &sim->dirop[i], true);
            dirop_release(&sim->dirop[i]);
        } else {
            sim->dirop[kept++] = sim->dirop[i];
        }
    }
    sim->n_dirop = kept;
    free(dirs);
    free(take);
    sim_gc(sim);
}

static void mark(struct simio *sim, uint32_t n, bool *seen)
{
    const struct inode *in = &sim->ino[n];

    if (seen[n])
        return;
    seen[n] = true;
    for (size_t i = 0; i < in->cur_dir.n; i++)
        mark(sim, in->cur_dir.e[i].ino, seen);
    for (size_t i = 0; i < in->dur_dir.n; i++)
        mark(sim, in->dur_dir.e[i].ino, seen);
}

/* Frees files that no name, seen or durable or pending, and no open file leads to. */
void sim_gc(struct simio *sim)
{
    bool *seen = sim_alloc(sim->n_ino * sizeof *seen);

    mark(sim, SIM_ROOT, seen);
    for (size_t i = 0; i < sim->n_dirop; i++) {
        const struct dirop *d = &sim->dirop[i];

        if (d->ino)
            mark(sim, d->ino, seen);
        if (d->from)
            mark(sim, d->from_dir, seen);
        if (d->to)
            mark(sim, d->to_dir, seen);
    }
    for (uint32_t n = SIM_ROOT; n < sim->n_ino; n++)
        if (sim->ino[n].used && sim->ino[n].opens)
            mark(sim, n, seen);
    for (uint32_t n = SIM_ROOT; n < sim->n_ino; n++)
        if (sim->ino[n].used && !seen[n])
            inode_release(sim, n);
    free(seen);
}

/* All that belongs to the process: open files, locks, and what a test armed against it. */
void sim_forget_process(struct simio *sim)
{
    sim->epoch++;
    sim->dead = false;
    sim->cut_left = 0;
    memset(sim->fault, 0, sizeof sim->fault);
    for (uint32_t n = SIM_ROOT; n < sim->n_ino; n++) {
        sim->ino[n].opens = 0;
        sim->ino[n].locked = false;
    }
    sim_gc(sim);
}

/* --- the cut --- */

struct cut {
    enum simio_cut_mode mode;
    uint64_t rng;
    uint64_t upto;          /* PREFIX: changes with a smaller seq survive; the one of this seq is torn */
    unsigned keep_percent;  /* RANDOM: how often the newest version survives */
};

static int by_page(const void *a, const void *b)
{
    const struct pend *x = a, *y = b;

    if (x->page != y->page)
        return x->page < y->page ? -1 : 1;
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

/* A page of sectors from a where mask has a 1, else from b. Takes no reference, gives one. */
static struct page *mix(const struct page *a, const struct page *b, uint64_t mask)
{
    struct page *p = page_copy(b);

    for (unsigned s = 0; s < SIM_PAGE / SIM_SECTOR; s++) {
        uint8_t *to = p->b + s * SIM_SECTOR;

        if (!(mask >> s & 1))
            continue;
        if (a)
            memcpy(to, a->b + s * SIM_SECTOR, SIM_SECTOR);
        else
            memset(to, 0, SIM_SECTOR);
    }
    return p;
}

/* What the disk has of one page, whose n pending versions are v, oldest first. Gives a reference. */
static struct page *survivor(struct cut *c, struct page *durable, const struct pend *v, size_t n)
{
    struct page *a = durable, *b;
    size_t i, j;

    if (c->mode == SIMIO_CUT_PREFIX) {
        for (i = 0; i < n && v[i].seq < c->upto; i++)
            a = v[i].v;
        if (i < n && v[i].seq == c->upto)   /* its first sectors got there */
            return mix(v[i].v, a, (UINT64_C(1) << sim_below(&c->rng, SIM_PAGE / SIM_SECTOR + 1)) - 1);
        return page_ref(a);
    }
    i = sim_below(&c->rng, 100) < c->keep_percent ? n : sim_below(&c->rng, n + 1);
    a = i ? v[i - 1].v : durable;
    if (sim_below(&c->rng, 4))
        return page_ref(a);
    j = sim_below(&c->rng, n + 1);
    b = j ? v[j - 1].v : durable;
    return mix(a, b, sim_next(&c->rng));
}

static void cut_pages(struct cut *c, struct inode *in)
{
    if (c->mode == SIMIO_CUT_DROP_ALL || in->n_pend == 0)
        return;
    if (c->mode == SIMIO_CUT_KEEP_ALL) {
        for (size_t i = 0; i < in->n_pend; i++)
            pages_set(&in->dur, in->pend[i].page, in->pend[i].v);
        return;
    }
    qsort(in->pend, in->n_pend, sizeof *in->pend, by_page);
    for (size_t i = 0, j; i < in->n_pend; i = j) {
        struct page *p;

        for (j = i; j < in->n_pend && in->pend[j].page == in->pend[i].page; j++)
            ;
        p = survivor(c, pages_get(&in->dur, in->pend[i].page), in->pend + i, j - i);
        pages_set(&in->dur, in->pend[i].page, p);
        page_unref(p);
    }
}

static void cut_size(struct cut *c, struct inode *in)
{
    size_t n = in->n_psize, i = 0;

    switch (c->mode) {
    case SIMIO_CUT_KEEP_ALL: i = n; break;
    case SIMIO_CUT_PREFIX:
        while (i < n && in->psize[i].seq < c->upto)
            i++;
        break;
    case SIMIO_CUT_RANDOM:
        i = sim_below(&c->rng, 100) < c->keep_percent ? n : sim_below(&c->rng, n + 1);
        break;
    default: break;
    }
    if (i)
        in->dsize = in->psize[i - 1].size;
}

static bool same_name(uint32_t da, const struct sname *a, uint32_t db, const struct sname *b)
{
    return a && b && da == db && strcmp(a->s, b->s) == 0;
}

static bool depends(const struct dirop *d, const struct dirop *e)
{
    return same_name(d->from_dir, d->from, e->from_dir, e->from)
        || same_name(d->from_dir, d->from, e->to_dir, e->to)
        || same_name(d->to_dir, d->to, e->from_dir, e->from)
        || same_name(d->to_dir, d->to, e->to_dir, e->to);
}

static void cut_names(struct simio *sim, struct cut *c)
{
    size_t n = sim->n_dirop, prefix = n;
    bool *in = sim_alloc(n * sizeof *in);
    bool ordered = c->mode != SIMIO_CUT_RANDOM || sim_below(&c->rng, 2) == 0;

    if (c->mode == SIMIO_CUT_DROP_ALL)
        prefix = 0;
    else if (c->mode == SIMIO_CUT_RANDOM && sim_below(&c->rng, 100) >= c->keep_percent)
        prefix = sim_below(&c->rng, n + 1);
    for (size_t i = 0; i < n; i++) {
        const struct dirop *d = &sim->dirop[i];

        if (c->mode == SIMIO_CUT_PREFIX)
            in[i] = d->seq < c->upto;
        else if (ordered)
            in[i] = i < prefix;
        else
            in[i] = sim_below(&c->rng, 100) < (c->keep_percent < 50 ? 50 : c->keep_percent);
        /* Changes of one name happen in their order or not at all. */
        for (size_t j = 0; in[i] && j < i; j++)
            if (!in[j] && depends(d, &sim->dirop[j]))
                in[i] = false;
        if (in[i])
            dirop_apply(sim, d, true);
    }
    for (size_t i = 0; i < n; i++)
        dirop_release(&sim->dirop[i]);
    sim->n_dirop = 0;
    free(in);
}

/* What is durable becomes what is seen. */
static void show_durable(struct simio *sim, struct inode *in)
{
    uint64_t end = n_pages(in->dsize), all = in->dur.n * SIM_CHUNK;

    for (uint64_t i = end; i < all; i++)
        if (pages_get(&in->dur, i))
            pages_set(&in->dur, i, NULL);
    if (in->dsize % SIM_PAGE && pages_get(&in->dur, in->dsize / SIM_PAGE)) {
        struct page *p = page_copy(pages_get(&in->dur, in->dsize / SIM_PAGE));

        memset(p->b + in->dsize % SIM_PAGE, 0, SIM_PAGE - in->dsize % SIM_PAGE);
        pages_set(&in->dur, in->dsize / SIM_PAGE, p);
        page_unref(p);
    }
    drop_pending(in);
    in->n_lost = 0;
    pages_release(&in->cur);
    pages_clone(&in->cur, &in->dur);
    dirmap_release(&in->cur_dir);
    dirmap_clone(&in->cur_dir, &in->dur_dir);
    in->size = in->dsize;
    sim->used -= in->reserved + in->loose;
    if (in->reserved > end)
        in->reserved = end;
    in->loose = 0;
    for (uint64_t i = in->reserved; i < end; i++)
        in->loose += pages_get(&in->cur, i) != NULL;
    sim->used += in->reserved + in->loose;
}

/* The oldest pending seq, for PREFIX: what is before it is durable anyway. */
static uint64_t first_pending(const struct simio *sim)
{
    uint64_t low = sim->n_dirop ? sim->dirop[0].seq : sim->seq;

    for (uint32_t n = SIM_ROOT; n < sim->n_ino; n++) {
        const struct inode *in = &sim->ino[n];

        if (in->n_pend && in->pend[0].seq < low)
            low = in->pend[0].seq;
        if (in->n_psize && in->psize[0].seq < low)
            low = in->psize[0].seq;
    }
    return low;
}

void sim_cut(struct simio *sim, uint64_t seed, enum simio_cut_mode mode)
{
    static const unsigned percents[] = { 5, 30, 50, 80, 95 };
    struct cut c = { .mode = mode, .rng = seed ^ UINT64_C(0x5eed0000c0ffee) };
    uint64_t low = first_pending(sim);

    c.keep_percent = percents[sim_below(&c.rng, sizeof percents / sizeof percents[0])];
    c.upto = low + sim_below(&c.rng, sim->seq - low + 1);
    for (uint32_t n = SIM_ROOT; n < sim->n_ino; n++) {
        if (!sim->ino[n].used)
            continue;
        cut_pages(&c, &sim->ino[n]);
        cut_size(&c, &sim->ino[n]);
    }
    cut_names(sim, &c);
    for (uint32_t n = SIM_ROOT; n < sim->n_ino; n++)
        if (sim->ino[n].used)
            show_durable(sim, &sim->ino[n]);
    sim_forget_process(sim);
}
