/*
 * store_on_powerfs: a whole store, RocksDB included, on a file system that loses what was not synced.
 *
 *   store_on_powerfs DIR SOCKET FIRST_SEED STATES [CUTS_PER_IMAGE]
 *
 * DIR is where powerfs is mounted. Each seed is a run of one or more lives of a store: a worker process opens it and works,
 * next to the model of tests/sim; meanwhile, at moments it knows nothing of, the powerfs takes images with all that is pending.
 * Each image is cut in several ways; after each cut a new process opens the store and compares.
 *
 * Oracle: the recovered store equals the model at its last record, that record is not before the last one acknowledged as
 * durable when the image was taken and not after the last one begun then; the live tree and ten moments before are compared
 * by digest, for some states all objects one by one. Some recoveries are cut in their turn, some are repeated. Workers pack and reclaim; in every second seed under
 * a policy that lets go of nearly all of the past: then moments that are not listed any more are not compared.
 *
 * Comments on stdout, the last line sums up; the exit code is 0 when nothing was violated, 1 when something was, 2 when it did
 * not run.
 */
#include "store/core/retain.h"
#include "store/maint/reclaim.h"
#include "store/maint/upkeep.h"
#include "store/pack/history.h"
#include "tests/crash/powerfs_client.h"
#include "tests/sim/rig.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { IMAGES = 8, LIVES_MAX = 3, MOMENTS = 10, DIED = 42, VIOLATED = 1 };

/* What the processes tell each other. */
struct shared {
    _Atomic uint64_t step, begun, acked;     /* of the worker; begun: entries of the history, the one under way included */
    uint64_t recovered;                      /* LSN the worker found when it opened */
    uint64_t writer[LIVES_MAX];              /* incarnations of the workers so far */
    unsigned writers;
    uint64_t torn, lost, rewritten, moments, contents, unlisted;
    char msg[3000];
};

struct image { uint64_t acked, begun; };

struct drive {
    const char *dir;
    char store[4100];
    int ctl;
    uint64_t seed, states, nested, again, lives, images;
    unsigned cuts, steps;
    uint64_t by_mode[4];
    struct shared *sh;
    struct rig r;
    struct sim_config cfg;
    struct sim_stats st;
    struct image image[IMAGES];
    unsigned n_image;
    FILE *hist;
    struct rng rng;
};

static const char *const modes[] = { "random", "prefix", "drop-all", "keep-all" };

/* ---- the real disk, with the model's clock ---- */

static _Atomic int64_t clock_ns;
static struct io_ops clock_ops;
static int64_t model_wall(struct io *io) { (void)io; return clock_ns; }

static struct io *disk(const char *dir, struct err *err)
{
    struct io *io = NULL;
    if (io_posix_new(dir, &io, err) < 0)
        return NULL;
    clock_ops = *io->ops;
    clock_ops.wall_ns = model_wall;
    io->ops = &clock_ops;
    return io;
}

static void say(struct drive *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(struct drive *d, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(d->sh->msg, sizeof d->sh->msg, fmt, ap);
    va_end(ap);
}

/* A store or RocksDB that meets EIO may end its process any way it likes: no core of it is wanted. */
static void quiet(void)
{
    const struct rlimit none = { 0, 0 };
    (void)setrlimit(RLIMIT_CORE, &none);
    if (freopen("/dev/null", "w", stderr) == NULL)
        _exit(2);
}

static void fatal(void *arg, const struct err *err)
{
    struct drive *d = arg;
    if (d->sh->msg[0] == '\0')
        say(d, "the store stopped itself: %s", err != NULL ? err->msg : "?");
    _exit(DIED);
}

static int open_store(struct drive *d, struct log_recovery *rec)
{
    struct err err = { 0 };
    struct io *io = disk(d->store, &err);
    memset(rec, 0, sizeof *rec);
    d->r.opt.hooks = (struct store_hooks){ .arg = d, .on_fatal = fatal };
    int rc = io == NULL ? err.code : store_open(io, d->store, &d->r.opt, &d->r.w.s, rec, &err);
    if (rc < 0)
        say(d, "open: %s %s", err_name(rc), err.msg);
    return rc;
}

/* ---- the worker ---- */

static void tell_history(struct drive *d, size_t from)
{
    for (size_t k = from; k < d->r.n_hist; k++) {
        const struct mop *op = &d->r.hist[k];
        if (fwrite(op, sizeof *op, 1, d->hist) != 1 || (op->dlen > 0 && fwrite(op->data, op->dlen, 1, d->hist) != 1))
            abort();
    }
}

/* A worker's records are told from what opening after a cut appends: an LSN alone may be either's. */
static void note_writer(struct drive *d)
{
    struct store_info info;
    store_info(d->r.w.s, &info);
    d->sh->writer[d->sh->writers++] = info.incarnation;
}

static int last_of_workers(struct drive *d, uint64_t lsn, uint64_t *out)
{
    struct history *history = store_history(d->r.w.s);
    struct record rec;
    struct err err = { 0 };
    void *buf;
    for (;; lsn = rec.prev_lsn) {
        bool ours = false;
        int rc = history_record(history, lsn, &rec, &buf, &err);
        if (rc < 0)
            return rig_viol(&d->r, "the record at @%" PRIu64 " cannot be read: %s", lsn, err.msg);
        for (unsigned k = 0; k < d->sh->writers; k++)
            ours |= rec.incarnation == d->sh->writer[k];
        free(buf);
        if (ours || rec.prev_lsn == 0)
            break;
    }
    *out = lsn;
    return 0;
}

/* In every second seed the policy lets go of all but the present, the ends of a few hours and days, and snapshots. */
static int set_policy(struct drive *d)
{
    static const char *const zero[] = { "keep-all", "min-age", "reclaim-grace", "keep-weekly", "keep-monthly", "keep-yearly" };
    struct err err = { 0 };
    int rc = 0;
    for (size_t k = 0; k < sizeof zero / sizeof zero[0] && rc == 0 && d->seed % 2 == 1; k++)
        rc = store_config_set(d->r.w.s, zero[k], "0", &err);
    return rc < 0 ? rig_viol(&d->r, "config: %s %s", err_name(rc), err.msg) : 0;
}

static int first_life(struct drive *d)
{
    struct rig *r = &d->r;
    struct err err = { 0 };
    struct log_recovery rec;
    const struct store_init init = { .root_uid = 1000, .root_gid = 100, .root_mode = 0755 };
    struct io *io = disk(d->store, &err);
    int rc = io == NULL ? err.code : store_create(io, d->store, &init, &err);
    if (rc < 0) {
        say(d, "create: %s %s", err_name(rc), err.msg);
        return rc;
    }
    io->ops->free(io);
    d->sh->writers = 0;
    if ((rc = open_store(d, &rec)) < 0)
        return rc;
    note_writer(d);
    rc = rig_made(r, &init);
    return rc == 0 ? set_policy(d) : rc;
}

/* What every open after a crash does is part of the history. */
static int next_life(struct drive *d, uint64_t least, size_t *from)
{
    struct rig *r = &d->r;
    struct log_recovery rec;
    int rc = open_store(d, &rec);
    if (rc < 0)
        return rc;
    note_writer(d);
    d->sh->recovered = rec.last_lsn;
    if (rec.last_lsn < least)
        return rig_viol(r, "recovered to @%" PRIu64 ", but @%" PRIu64 " was durable", rec.last_lsn, least);
    if ((rc = history_cut(r, rec.last_lsn)) != 0)
        return rc;
    *from = r->n_hist;
    rig_opened(r);
    return 0;
}

/* What upkeep does by itself. */
static int pack_or_reclaim(struct drive *d, struct err *err)
{
    struct rig *r = &d->r;
    const struct reclaim_options opt = { .now = rng_chance(&r->rng, 50), .sweep = true, .base = rng_chance(&r->rng, 50) };
    int rc = rng_chance(&r->rng, 70) ? upkeep_pack(r->w.s, NULL, NULL, NULL, NULL, err) : 0;
    if (rc == 0 && rng_chance(&r->rng, 60))
        rc = reclaim(r->w.s, &opt, NULL, err);
    if (rc == 0 && log_durable(store_log(r->w.s)) > r->answered)
        r->acked = r->answered;
    return rc;
}

static int work_step(struct drive *d)
{
    struct rig *r = &d->r;
    struct err err = { 0 };
    unsigned k = (unsigned)rng_below(&r->rng, 100);
    int rc = 0;
    r->now_ns += 1 + (int64_t)rng_below(&r->rng, rng_chance(&r->rng, 10) ? 4000000000u : 1000000u);
    clock_ns = r->now_ns;
    if (k < 85) {
        struct mop op;
        size_t from = r->n_hist;
        r->gen.now_ns = r->now_ns;
        gen_op(&r->gen, r->m, &op);
        atomic_store(&d->sh->begun, r->n_hist + (op.kind == MOP_REAP ? 64 : 1));
        rc = exec_op(r, &op);
        mop_free(&op);
        tell_history(d, from);
        atomic_store(&d->sh->begun, r->n_hist);
    } else if (k < 95) {
        uint64_t ino = rng_chance(&r->rng, 30) ? 0 : gen_ino(&r->gen, r->m, 0);
        const struct mino *i = ino != 0 ? model_find(r->m, ino) : NULL;
        uint64_t upto = i != NULL ? i->touched : r->answered;
        rc = store_fsync(r->w.s, ino, NULL);
        if (rc == 0 && upto > r->acked)
            r->acked = upto;
    } else if (k < 96) {
        rc = store_flush(r->w.s, &err);
    } else if (k < 98) {
        rc = pack_or_reclaim(d, &err);
    } else {
        rc = exec_reads(r);
        rc = rc < 0 ? rc : 0;
    }
    if (rc != 0 && r->viol[0] == '\0')
        (void)rig_viol(r, "step %u: %s %s", r->step, err_name(rc), err.msg);
    atomic_store(&d->sh->acked, r->acked);
    return rc;
}

static void worker(struct drive *d, unsigned life, uint64_t least)
{
    struct rig *r = &d->r;
    size_t from = 0;
    struct err err = { 0 };
    quiet();
    clock_ns = r->now_ns;
    int rc = life == 0 ? first_life(d) : next_life(d, least, &from);
    if (rc == 0) {
        tell_history(d, from);
        atomic_store(&d->sh->acked, r->acked);
        atomic_store(&d->sh->begun, r->n_hist);
    }
    for (r->step = 1; r->step <= d->steps && rc == 0; r->step++) {
        atomic_store(&d->sh->step, r->step);
        rc = work_step(d);
    }
    if (rc == 0 && rng_chance(&r->rng, 30)) {
        struct store *s = r->w.s;
        r->w.s = NULL;
        rc = store_close(s, &err);
        if (rc < 0)
            (void)rig_viol(r, "close: %s %s", err_name(rc), err.msg);
    }
    if (r->viol[0] != '\0')
        say(d, "%s\n#   at: %s", r->viol, r->doing);
    fflush(d->hist);
    _exit(rc == 0 ? 0 : VIOLATED);
}

/* ---- after a cut ---- */

static int digest_is(struct drive *d, uint64_t at, const struct moment *want, bool content)
{
    struct rig *r = &d->r;
    struct mhash got;
    int rc = oracle_digest(r, r->w.s, at, &got);
    d->sh->moments++;
    if (rc != 0 || (mhash_eq(got, want->past) && !content))
        return rc;
    struct model *m = history_model(r, want->lsn);
    rc = oracle_compare(r, r->w.s, at, m);
    model_free(m);
    d->sh->contents++;
    if (rc == 0 && !mhash_eq(got, want->past))
        rc = rig_viol(r, "the tree at @%" PRIu64 " is not the model's, though its objects are", want->lsn);
    return rc;
}

static void verify(struct drive *d, const struct image *im, uint64_t cut_seed)
{
    struct rig *r = &d->r;
    struct log_recovery rec;
    struct rng rng = { cut_seed };
    bool content = rng_chance(&rng, 10);
    quiet();
    clock_ns = r->now_ns + 1000000000;
    if (open_store(d, &rec) < 0)
        _exit(VIOLATED);
    d->sh->torn += rec.torn;
    d->sh->rewritten += rec.rewritten > 0;
    uint64_t last = 0;
    int rc = last_of_workers(d, rec.last_lsn, &last);
    size_t had = r->n_hist < im->begun ? r->n_hist : (size_t)im->begun;
    if (rc == 0 && last < im->acked)
        rc = rig_viol(r, "recovered to @%" PRIu64 ", but @%" PRIu64 " was durable", last, im->acked);
    if (rc == 0)
        rc = history_cut(r, last);
    if (rc == 0 && r->n_hist > had)
        rc = rig_viol(r, "recovered %zu operations, only %zu had begun", r->n_hist, had);
    d->sh->lost += rc == 0 && r->n_hist < had;
    if (rc == 0) {
        rig_opened(r);
        rc = rig_live_is(r);
    }
    if (rc == 0 && content)
        rc = oracle_compare(r, r->w.s, AT_LIVE, r->m);
    for (int k = 0; k < MOMENTS && rc == 0; k++) {
        size_t at = (size_t)rng_below(&rng, r->n_mom);
        while (at + 1 < r->n_mom && r->mom[at + 1].lsn == r->mom[at].lsn)
            at++;
        if (!store_lists(r->w.s, r->mom[at].lsn)) {
            d->sh->unlisted++;
            continue;
        }
        rc = digest_is(d, r->mom[at].lsn, &r->mom[at], content && k < 2);
    }
    if (rc < 0)
        say(d, "%s; recovered to @%" PRIu64 ", durable was @%" PRIu64 "%s", r->viol, last, im->acked, rec.torn ? ", torn" : "");
    if (rc < 0 && getenv("SPW_DUMP") != NULL) {
        FILE *f = fopen(getenv("SPW_DUMP"), "w");
        for (size_t k = 0; f != NULL && k < r->n_hist; k++) {
            char b[900];
            mop_text(&r->hist[k], b, sizeof b);
            fprintf(f, "%zu %s\n", k, b);
        }
        if (f != NULL)
            fclose(f);
    }
    _exit(rc == 0 ? 0 : VIOLATED);
}

/* ---- the driver ---- */

static int ask(struct drive *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int ask(struct drive *d, const char *fmt, ...)
{
    char line[300], reply[1000];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    int rc = powerfs_command(d->ctl, reply, sizeof reply, "%s", line);
    if (rc != 0)
        printf("# powerfs %s: %s\n", line, reply);
    return rc;
}

static bool dead(struct drive *d)
{
    char reply[1000];
    return powerfs_command(d->ctl, reply, sizeof reply, "status") == 0 && strstr(reply, "state=dead") != NULL;
}

/* Take images while the worker works. */
static int watch(struct drive *d, pid_t pid, int *status)
{
    uint64_t next = 1 + rng_below(&d->rng, d->steps / IMAGES + 1);
    d->n_image = 0;
    for (;;) {
        pid_t p = waitpid(pid, status, WNOHANG);
        if (p == pid)
            return 0;
        if (p < 0)
            return -1;
        if (d->n_image < IMAGES && atomic_load(&d->sh->step) >= next) {
            struct image *im = &d->image[d->n_image];
            im->acked = atomic_load(&d->sh->acked);
            if (ask(d, "save i%u", d->n_image) != 0)
                return -1;
            im->begun = atomic_load(&d->sh->begun);
            d->n_image++;
            next += 1 + rng_below(&d->rng, 2 * d->steps / IMAGES);
        }
        sched_yield();
    }
}

static int hear_history(struct drive *d)
{
    struct rig *r = &d->r;
    struct mop op;
    rewind(d->hist);
    while (fread(&op, sizeof op, 1, d->hist) == 1) {
        op.data = op.dlen > 0 || op.data != NULL ? m_alloc(op.dlen + 1u) : NULL;
        if (op.dlen > 0 && fread(op.data, op.dlen, 1, d->hist) != 1)
            return -1;
        if (op.kind == MOP_CREATE && op.parent == 0)
            model_root(r->m, op.ino, op.mode, op.uid, op.gid, op.now_ns);
        else
            (void)model_do(r->m, &op);
        r->now_ns = op.now_ns > r->now_ns ? op.now_ns : r->now_ns;
        history_add(r, &op);
    }
    return 0;
}

static int told(struct drive *d, unsigned life, const char *what, int status)
{
    printf("# seed %" PRIu64 " life %u, %s, status %x: %s\n", d->seed, life, what, (unsigned)status, d->sh->msg);
    return VIOLATED;
}

static int one_life(struct drive *d, unsigned life, uint64_t least)
{
    int status;
    d->hist = tmpfile();
    memset(d->sh->msg, 0, sizeof d->sh->msg);
    atomic_store(&d->sh->step, 0);
    atomic_store(&d->sh->begun, d->r.n_hist);
    atomic_store(&d->sh->acked, least);
    if (d->hist == NULL)
        return 2;
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        worker(d, life, least);
    if (pid < 0 || watch(d, pid, &status) != 0)
        return 2;
    d->lives++;
    if (status != 0)
        return told(d, life, "worker", status);
    if (life > 0 && history_cut(&d->r, d->sh->recovered) != 0)
        return told(d, life, "history", 0);
    int rc = hear_history(d);
    fclose(d->hist);
    d->hist = NULL;
    return rc < 0 ? 2 : 0;
}

static int verify_once(struct drive *d, const struct image *im, uint64_t cut_seed, int *status)
{
    memset(d->sh->msg, 0, sizeof d->sh->msg);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        verify(d, im, cut_seed);
    return pid > 0 && waitpid(pid, status, 0) == pid ? 0 : 2;
}

static int one_cut(struct drive *d, unsigned life, unsigned i)
{
    uint64_t seed = rng_next(&d->rng) >> 16;
    unsigned n = (unsigned)rng_below(&d->rng, 100), mode = n < 55 ? 0 : n < 80 ? 1 : n < 90 ? 2 : 3;
    bool nested = rng_chance(&d->rng, 15), again = rng_chance(&d->rng, 10);
    char what[200];
    int status = 0;
    snprintf(what, sizeof what, "image %u, cut %" PRIu64 " %s%s", i, seed, modes[mode], nested ? ", cut again while opening" : "");
    if (ask(d, "load i%u", i) != 0 || ask(d, "cut %" PRIu64 " %s", seed, modes[mode]) != 0 || ask(d, "revive") != 0)
        return 2;
    d->by_mode[mode]++;
    d->states++;
    if (nested) {
        if (ask(d, "arm %" PRIu64 " %" PRIu64 " %s", 1 + rng_below(&d->rng, 40), seed + 1, modes[seed % 2]) != 0 ||
            verify_once(d, &d->image[i], seed, &status) != 0)
            return 2;
        bool died = dead(d);
        if (!died && ask(d, "arm 0 1 random") != 0)
            return 2;
        if (!died && status != 0)
            return told(d, life, what, status);
        if (died && ask(d, "revive") != 0)
            return 2;
        d->nested += died;
        d->states += died;
    }
    for (int k = 0; k < 1 + again; k++)
        if (verify_once(d, &d->image[i], seed, &status) != 0 || status != 0)
            return told(d, life, what, status);
    d->again += again;
    return 0;
}

/* The next life begins where a cut of a random image left it. */
static int between(struct drive *d, uint64_t *least)
{
    unsigned i = (unsigned)rng_below(&d->rng, d->n_image);
    *least = d->image[i].acked;
    d->r.gen.rng.s ^= rng_next(&d->rng);
    d->r.rng.s ^= rng_next(&d->rng);
    return ask(d, "load i%u", i) != 0 || ask(d, "cut %" PRIu64 " random", rng_next(&d->rng) >> 16) != 0 || ask(d, "revive") != 0 ? 2 : 0;
}

static void start(struct drive *d)
{
    struct rig *r = &d->r;
    static const uint64_t segments[] = { 1 << 14, 1 << 16, 1 << 18, 1 << 20 };
    memset(r, 0, sizeof *r);
    memset(&d->st, 0, sizeof d->st);
    r->cfg = &d->cfg;
    r->st = &d->st;
    r->seed = d->seed;
    gen_init(&r->gen, d->seed);
    d->rng.s = d->seed * 0xd6e8feb86659fd93ull + 71;
    r->rng.s = rng_next(&d->rng);
    r->cut_rng.s = rng_next(&d->rng);
    r->m = model_new();
    r->now_ns = 1767225600000000000ll;
    r->opt = (struct store_options){ .writable = true, .threads = true, .memory_bytes = rng_chance(&d->rng, 30) ? 1 << 16 : 0,
                                     .commit_ms = 1 + (uint32_t)rng_below(&d->rng, 50),
                                     .log = { .segment_bytes = segments[rng_below(&d->rng, 4)], .preallocate = rng_chance(&d->rng, 50), .zero_ahead = 1 << 16, .zero_after = 2 } };
    d->steps = 60 + (unsigned)rng_below(&d->rng, 300);
}

static void stop(struct drive *d)
{
    model_free(d->r.m);
    for (size_t k = 0; k < d->r.n_hist; k++)
        mop_free(&d->r.hist[k]);
    free(d->r.hist);
    free(d->r.mom);
}

static int one_seed(struct drive *d)
{
    unsigned lives;
    uint64_t least = 0;
    int rc;
    start(d);
    lives = 1 + (unsigned)rng_below(&d->rng, LIVES_MAX);
    snprintf(d->store, sizeof d->store, "%s/s", d->dir);
    if (ask(d, "load empty") != 0 || mkdir(d->store, 0700) != 0 || ask(d, "sync") != 0)
        return 2;
    for (unsigned life = 0; life < lives; life++) {
        if (life > 0 && (d->n_image == 0 || (rc = between(d, &least)) != 0))
            return d->n_image == 0 ? 0 : rc;
        if ((rc = one_life(d, life, least)) != 0)
            return rc;
        d->images += d->n_image;
        for (unsigned i = 0; i < d->n_image; i++)
            for (unsigned c = 0; c < d->cuts; c++)
                if ((rc = one_cut(d, life, i)) != 0)
                    return rc;
    }
    for (unsigned i = 0; i < d->n_image; i++)
        (void)ask(d, "forget i%u", i);
    stop(d);
    return 0;
}

int main(int argc, char **argv)
{
    static struct drive d;
    int rc = 0;
    if (argc < 5) {
        fprintf(stderr, "store_on_powerfs DIR SOCKET FIRST_SEED STATES [CUTS_PER_IMAGE]\n");
        return 2;
    }
    d.dir = argv[1];
    d.ctl = powerfs_connect(argv[2]);
    d.sh = mmap(NULL, sizeof *d.sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    d.cuts = argc > 5 ? (unsigned)strtoul(argv[5], NULL, 10) : 6;
    uint64_t states = strtoull(argv[4], NULL, 10), seeds = 0;
    if (d.ctl < 0 || d.sh == MAP_FAILED || d.cuts == 0 || ask(&d, "sync") != 0 || ask(&d, "save empty") != 0)
        return 2;
    for (d.seed = strtoull(argv[3], NULL, 10); d.states < states && rc == 0; d.seed++, seeds++)
        rc = one_seed(&d);
    (void)ask(&d, "load empty");
    (void)ask(&d, "forget empty");
    printf("# %" PRIu64 " states of %" PRIu64 " images, %" PRIu64 " lives, %" PRIu64 " seeds: random %" PRIu64 ", prefix %" PRIu64
           ", drop-all %" PRIu64 ", keep-all %" PRIu64 "; cut while opening %" PRIu64 ", opened twice %" PRIu64 "; torn tail %" PRIu64
           ", lost what was not synced %" PRIu64 ", tail copied %" PRIu64 "; compared %" PRIu64 " trees by digest, %" PRIu64
           " by content, %" PRIu64 " moments not listed any more; next seed %" PRIu64 "\n",
           d.states, d.images, d.lives, seeds, d.by_mode[0], d.by_mode[1], d.by_mode[2], d.by_mode[3], d.nested, d.again,
           d.sh->torn, d.sh->lost, d.sh->rewritten, d.sh->moments, d.sh->contents, d.sh->unlisted, d.seed);
    return rc;
}
