#include "tests/lib/simio_internal.h"

#include <stdlib.h>
#include <string.h>

static struct simio *of(struct io *io) { return (struct simio *)io; }

static bool mutating(enum simio_call k)
{
    switch (k) {
    case SIMIO_CREATE: case SIMIO_PWRITEV: case SIMIO_FDATASYNC: case SIMIO_FTRUNCATE: case SIMIO_ALLOCATE:
    case SIMIO_MKDIR: case SIMIO_RENAME: case SIMIO_LINK: case SIMIO_UNLINK: case SIMIO_SYNCDIR:
    case SIMIO_LOCK:
        return true;
    default:
        return false;
    }
}

static int planted(struct simio *sim, enum simio_call k)
{
    int code = 0;

    for (int i = 0; i < SIM_FAULTS; i++) {
        struct fault *f = &sim->fault[i];

        if (!f->armed || (f->kind != SIMIO_ANY && f->kind != k && !(f->kind == SIMIO_MUTATING && mutating(k))))
            continue;
        if (f->left > 1) {
            f->left--;
            continue;
        }
        code = f->code;
        if (!f->forever)
            f->armed = false;
    }
    return code;
}

/* Takes the mutex and decides; sim_leave() gives it back. ${sf} is NULL for calls on names. */
enum fate sim_enter(struct simio *sim, enum simio_call k, const struct sim_file *sf, const char *path,
                       int *rc, struct err *err)
{
    int code;

    pthread_mutex_lock(&sim->mu);
    *rc = 0;
    if (sim->dead || (sf && sf->epoch != sim->epoch)) {
        *rc = err_set(err, ERR_IO, "%s %s: the machine is off (simulated)", simio_call_name(k), path);
        return FAIL;
    }
    sim->calls[SIMIO_ANY]++;
    sim->calls[k]++;
    if (mutating(k)) {
        sim->calls[SIMIO_MUTATING]++;
        if (sim->cut_left && --sim->cut_left == 0) {
            sim->dead = true;
            *rc = err_set(err, ERR_IO, "%s %s: the power failed (simulated)", simio_call_name(k), path);
            return DIE;
        }
    }
    code = planted(sim, k);
    if (code) {
        *rc = err_set(err, code, "%s %s: %s (simulated)", simio_call_name(k), path, err_text(code));
        return FAIL;
    }
    return GO;
}

/* ${rc} of enter wins over what the call itself found: a dead machine says nothing else. */
int sim_leave(struct simio *sim, int rc)
{
    pthread_mutex_unlock(&sim->mu);
    return rc;
}

/* For calls that happen or not: whether to do it. */
bool sim_happens(struct simio *sim, enum fate fate)
{
    return fate == GO || (fate == DIE && sim_below(&sim->fault_rng, 2) == 0);
}

/* Fails a call from inside, unless the machine died under it. */
void sim_refuse(enum fate fate, int *rc, struct err *err, int code, const char *call, const char *path)
{
    if (fate == GO)
        *rc = err_set(err, code, "%s %s: %s", call, path, err_text(code));
}

/* --- names --- */

struct where { uint32_t dir, ino; struct sname *name; };    /* ino 0: no such entry; name NULL: the root */

/* Finds ${path}; 0, or NOENT / NOTDIR when its directory is not there. Release the name. */
static int look(struct simio *sim, const char *path, struct where *w)
{
    *w = (struct where){ SIM_ROOT, SIM_ROOT, NULL };
    if (!path || !*path || *path == '/')
        return ERR_INVAL;
    if (strcmp(path, ".") == 0)
        return 0;
    for (const char *s = path; ; ) {
        const char *slash = strchr(s, '/');
        size_t len = slash ? (size_t)(slash - s) : strlen(s);
        const struct entry *e;

        if (len == 0 || len > 255 || (len <= 2 && strncmp(s, "..", len) == 0))
            return len > 255 ? ERR_NAMETOOLONG : ERR_INVAL;
        if (!w->ino)
            return ERR_NOENT;
        if (!sim->ino[w->ino].is_dir)
            return ERR_NOTDIR;
        w->dir = w->ino;
        name_unref(w->name);
        w->name = name_new(s, len);
        e = dirmap_find(&sim->ino[w->dir].cur_dir, w->name->s);
        w->ino = e ? e->ino : 0;
        if (!slash)
            return 0;
        s = slash + 1;
    }
}

static int make_file(struct simio *sim, const struct where *w, bool is_dir, uint32_t *ino)
{
    if (sim->limit && sim->used >= sim->limit)
        return ERR_NOSPC;
    *ino = inode_new(sim, is_dir);
    dirop_do(sim, 0, NULL, w->dir, w->name, *ino);
    return 0;
}

static struct io_file *file_new(struct simio *sim, const char *path, uint32_t ino, bool writable)
{
    struct sim_file *sf = sim_alloc(sizeof *sf + strlen(path) + 1);

    sf->f.io = &sim->io;
    sf->epoch = sim->epoch;
    sf->ino = ino;
    sf->writable = writable;
    strcpy(sf->path, path);
    sim->ino[ino].opens++;
    return &sf->f;
}

static int s_open(struct io *io, const char *path, int flags, struct io_file **out, struct err *err)
{
    struct simio *sim = of(io);
    bool create = flags & IO_CREATE;
    struct where w = { 0 };
    uint32_t ino = 0;
    int rc, got;
    enum fate fate = sim_enter(sim, create ? SIMIO_CREATE : SIMIO_OPEN, NULL, path, &rc, err);

    if (fate == FAIL)
        return sim_leave(sim, rc);
    got = look(sim, path, &w);
    if (!got && create)
        got = w.ino ? ERR_EXIST : sim_happens(sim, fate) ? make_file(sim, &w, false, &ino) : 0;
    else if (!got)
        got = !w.ino ? ERR_NOENT : sim->ino[w.ino].is_dir ? ERR_ISDIR : 0;
    if (got)
        sim_refuse(fate, &rc, err, got, create ? "create" : "open", path);
    else if (fate == GO)
        *out = file_new(sim, path, create ? ino : w.ino, flags & (IO_RDWR | IO_CREATE));
    name_unref(w.name);
    return sim_leave(sim, rc);
}

static void s_close(struct io_file *f)
{
    struct sim_file *sf = (struct sim_file *)f;
    struct simio *sim = of(f->io);

    pthread_mutex_lock(&sim->mu);
    if (sf->epoch == sim->epoch) {
        sim->ino[sf->ino].opens--;
        if (sf->lock)
            sim->ino[sf->ino].locked = false;
    }
    pthread_mutex_unlock(&sim->mu);
    free(sf);
}

static int s_stat(struct io *io, const char *path, struct io_stat *st, struct err *err)
{
    struct simio *sim = of(io);
    struct where w = { 0 };
    int rc, got;
    enum fate fate = sim_enter(sim, SIMIO_STAT, NULL, path, &rc, err);

    if (fate != GO)
        return sim_leave(sim, rc);
    got = look(sim, path, &w);
    if (!got && !w.ino)
        got = ERR_NOENT;
    if (got) {
        sim_refuse(fate, &rc, err, got, "stat", path);
    } else {
        const struct inode *in = &sim->ino[w.ino];
        *st = (struct io_stat){ in->size, (in->reserved + in->loose) * SIM_PAGE, 1, w.ino, in->is_dir, inode_names(sim, w.ino) };
    }
    name_unref(w.name);
    return sim_leave(sim, rc);
}

static int s_mkdir(struct io *io, const char *path, struct err *err)
{
    struct simio *sim = of(io);
    struct where w = { 0 };
    uint32_t ino;
    int rc, got;
    enum fate fate = sim_enter(sim, SIMIO_MKDIR, NULL, path, &rc, err);

    if (fate == FAIL)
        return sim_leave(sim, rc);
    got = look(sim, path, &w);
    if (!got)
        got = w.ino ? ERR_EXIST : sim_happens(sim, fate) ? make_file(sim, &w, true, &ino) : 0;
    if (got)
        sim_refuse(fate, &rc, err, got, "mkdir", path);
    name_unref(w.name);
    return sim_leave(sim, rc);
}

static int may_replace(const struct simio *sim, uint32_t from, uint32_t to)
{
    const struct inode *a = &sim->ino[from], *b = &sim->ino[to];

    if (!to)
        return 0;
    if (a->is_dir != b->is_dir)
        return b->is_dir ? ERR_ISDIR : ERR_NOTDIR;
    return b->is_dir && b->cur_dir.n ? ERR_NOTEMPTY : 0;
}

static int two_names(struct io *io, enum simio_call k, const char *from, const char *to, struct err *err)
{
    struct simio *sim = of(io);
    struct where a = { 0 }, b = { 0 };
    int rc, got;
    enum fate fate = sim_enter(sim, k, NULL, from, &rc, err);

    if (fate == FAIL)
        return sim_leave(sim, rc);
    got = look(sim, from, &a);
    if (!got)
        got = look(sim, to, &b);
    if (!got && (!a.name || !b.name))
        got = ERR_INVAL;
    if (!got && !a.ino)
        got = ERR_NOENT;
    if (!got && k == SIMIO_LINK)
        got = b.ino ? ERR_EXIST : sim->ino[a.ino].is_dir ? ERR_PERM : 0;
    else if (!got)
        got = may_replace(sim, a.ino, b.ino);
    if (got)
        sim_refuse(fate, &rc, err, got, simio_call_name(k), from);
    else if (a.ino != b.ino && sim_happens(sim, fate))
        dirop_do(sim, a.dir, k == SIMIO_RENAME ? a.name : NULL, b.dir, b.name, a.ino);
    name_unref(a.name);
    name_unref(b.name);
    return sim_leave(sim, rc);
}

static int s_rename(struct io *io, const char *from, const char *to, struct err *err)
{
    return two_names(io, SIMIO_RENAME, from, to, err);
}

static int s_link(struct io *io, const char *from, const char *to, struct err *err)
{
    return two_names(io, SIMIO_LINK, from, to, err);
}

static int s_unlink(struct io *io, const char *path, struct err *err)
{
    struct simio *sim = of(io);
    struct where w = { 0 };
    int rc, got;
    enum fate fate = sim_enter(sim, SIMIO_UNLINK, NULL, path, &rc, err);

    if (fate == FAIL)
        return sim_leave(sim, rc);
    got = look(sim, path, &w);
    if (!got)
        got = !w.name ? ERR_INVAL : !w.ino ? ERR_NOENT : sim->ino[w.ino].cur_dir.n ? ERR_NOTEMPTY : 0;
    if (got)
        sim_refuse(fate, &rc, err, got, "unlink", path);
    else if (sim_happens(sim, fate))
        dirop_do(sim, w.dir, w.name, 0, NULL, 0);
    name_unref(w.name);
    return sim_leave(sim, rc);
}

bool sim_skipped(const char *prefix, const char *path)
{
    return prefix && strncmp(path, prefix, strlen(prefix)) == 0;
}

static int s_syncdir(struct io *io, const char *path, struct err *err)
{
    struct simio *sim = of(io);
    struct where w = { 0 };
    int rc, got;
    enum fate fate = sim_enter(sim, SIMIO_SYNCDIR, NULL, path, &rc, err);

    if (fate != GO)
        return sim_leave(sim, rc);
    got = look(sim, path, &w);
    if (!got)
        got = !w.ino ? ERR_NOENT : !sim->ino[w.ino].is_dir ? ERR_NOTDIR : 0;
    if (got)
        sim_refuse(fate, &rc, err, got, "syncdir", path);
    else if (!sim_skipped(sim->skip_syncdir, path))
        dir_sync(sim, w.ino);
    name_unref(w.name);
    return sim_leave(sim, rc);
}

/* The names are copied and the mutex is free while fn runs: it may call anything here. */
static int s_list(struct io *io, const char *path, int (*fn)(void *arg, const char *name), void *arg,
                  struct err *err)
{
    struct simio *sim = of(io);
    struct where w = { 0 };
    struct dirmap copy = { 0 };
    int rc, got;
    enum fate fate = sim_enter(sim, SIMIO_LIST, NULL, path, &rc, err);

    if (fate != GO)
        return sim_leave(sim, rc);
    got = look(sim, path, &w);
    if (!got)
        got = !w.ino ? ERR_NOENT : !sim->ino[w.ino].is_dir ? ERR_NOTDIR : 0;
    if (got)
        sim_refuse(fate, &rc, err, got, "list", path);
    else
        dirmap_clone(&copy, &sim->ino[w.ino].cur_dir);
    name_unref(w.name);
    sim_leave(sim, rc);
    for (size_t i = 0; rc == 0 && i < copy.n; i++)
        rc = fn(arg, copy.e[i].name->s);
    dirmap_release(&copy);
    return rc;
}

static int s_lock(struct io *io, const char *path, struct io_file **out, struct err *err)
{
    struct simio *sim = of(io);
    struct where w = { 0 };
    uint32_t ino;
    int rc, got;
    enum fate fate = sim_enter(sim, SIMIO_LOCK, NULL, path, &rc, err);

    if (fate == FAIL)
        return sim_leave(sim, rc);
    got = look(sim, path, &w);
    ino = w.ino;
    if (!got && !ino && sim_happens(sim, fate))
        got = make_file(sim, &w, false, &ino);
    if (!got && ino && sim->ino[ino].locked)
        got = ERR_LOCKED;
    if (got) {
        sim_refuse(fate, &rc, err, got, "lock", path);
    } else if (fate == GO) {
        *out = file_new(sim, path, ino, true);
        ((struct sim_file *)*out)->lock = true;
        sim->ino[ino].locked = true;
    }
    name_unref(w.name);
    return sim_leave(sim, rc);
}

static int s_space(struct io *io, struct io_space_info *sp, struct err *err)
{
    struct simio *sim = of(io);
    int rc;

    if (sim_enter(sim, SIMIO_SPACE, NULL, ".", &rc, err) == GO) {
        uint64_t total = sim->limit ? sim->limit : UINT64_C(1) << 28;   /* 1 TiB */
        *sp = (struct io_space_info){ total * SIM_PAGE, (total > sim->used ? total - sim->used : 0) * SIM_PAGE,
                                      1 << 20, 1 << 20 };
    }
    return sim_leave(sim, rc);
}

/* --- clocks and randomness: these work on a dead machine too, whoever reads them there --- */

static int64_t s_wall_ns(struct io *io)
{
    struct simio *sim = of(io);
    int64_t t;

    pthread_mutex_lock(&sim->mu);
    t = sim->wall_ns;
    sim->wall_ns += (int64_t)sim->tick_ns;
    sim->boot_ns += sim->tick_ns;
    pthread_mutex_unlock(&sim->mu);
    return t;
}

static uint64_t s_boot_ns(struct io *io)
{
    struct simio *sim = of(io);
    uint64_t t;

    pthread_mutex_lock(&sim->mu);
    t = sim->boot_ns;
    sim->wall_ns += (int64_t)sim->tick_ns;
    sim->boot_ns += sim->tick_ns;
    pthread_mutex_unlock(&sim->mu);
    return t;
}

static void s_random(struct io *io, void *buf, size_t len)
{
    struct simio *sim = of(io);

    pthread_mutex_lock(&sim->mu);
    for (size_t done = 0; done < len; ) {
        uint64_t v = sim_next(&sim->rng);
        size_t n = len - done < sizeof v ? len - done : sizeof v;

        memcpy((char *)buf + done, &v, n);
        done += n;
    }
    pthread_mutex_unlock(&sim->mu);
}

static void s_free(struct io *io) { (void)io; }

static const struct io_ops sim_ops = {
    .open = s_open, .close = s_close,
    .pread = sim_pread, .pread_nowait = sim_pread_nowait, .pwritev = sim_pwritev,
    .fdatasync = sim_fdatasync, .ftruncate = sim_ftruncate, .allocate = sim_allocate, .fstat = sim_fstat,
    .stat = s_stat, .mkdir = s_mkdir, .rename = s_rename, .link = s_link, .unlink = s_unlink,
    .syncdir = s_syncdir, .list = s_list, .space = s_space, .lock = s_lock,
    .wall_ns = s_wall_ns, .boot_ns = s_boot_ns, .random = s_random, .free = s_free,
};

struct simio *simio_new(uint64_t seed)
{
    struct simio *sim = sim_alloc(sizeof *sim);

    sim->io.ops = &sim_ops;
    pthread_mutex_init(&sim->mu, NULL);
    sim->rng = seed;
    sim->fault_rng = ~seed;
    sim->seq = 1;
    sim->epoch = 1;
    sim->wall_ns = INT64_C(1767225600) * 1000000000;
    sim->boot_ns = 1000000000;
    inode_new(sim, true);
    return sim;
}
