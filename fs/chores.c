#include "fs/chores.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Protocol 7.44: one message that makes every name the kernel knows be asked for again. */
#define NOTIFY_INC_EPOCH 8
#define INC_EPOCH_MINOR 44u
#define BATCH 256u
#define SETTLE_S 5
#define REAP_MS 100          /* unlinked files are let go of this much later, or BATCH at once: to wake a thread for each cost more than its unlink */
#define CHORES_SPARE 64u

struct inval {
    uint64_t ino;            /* parent, where there is a name */
    uint32_t nlen;           /* 0: the inode itself */
    char name[REC_NAME_MAX + 1];
};

struct chores {
    struct fs *fs;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_t thread;
    bool running, stopping;                      /* lock */
    struct inval *inval;                         /* lock: a ring of CHORES_MAX */
    size_t first, n;                             /* lock */
    bool everything;                             /* lock: invalidate all */
    uint64_t queued, told;                       /* lock: notifications ever; told: the kernel knows of so many */
    pthread_cond_t settled;                      /* lock */
    uint64_t reap[CHORES_MAX];                   /* lock */
    size_t n_reap;                               /* lock */
    struct timespec reap_at;                     /* lock: when those must be, where they stay fewer than BATCH */
    bool reap_due;                               /* lock: it is that late */
    bool again;                                  /* lock: some could not be reaped for now: they are looked for in the table at reap_at */
    bool search;                                 /* lock: orphans to reap are in the table */
};

int chores_new(struct fs *fs, struct chores **out, struct err *err)
{
    struct chores *c = calloc(1, sizeof *c);
    pthread_condattr_t attr;

    if (c)
        c->inval = calloc(CHORES_MAX, sizeof *c->inval);
    if (!c || !c->inval) {
        free(c);
        return err_set(err, ERR_NOMEM, "queue of chores: out of memory");
    }
    c->fs = fs;
    c->search = true;        /* what an earlier worker left */
    pthread_mutex_init(&c->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&c->wake, &attr);
    pthread_condattr_destroy(&attr);
    pthread_cond_init(&c->settled, NULL);
    *out = c;
    return 0;
}

void chores_free(struct chores *c)
{
    if (!c)
        return;
    pthread_cond_destroy(&c->wake);
    pthread_cond_destroy(&c->settled);
    pthread_mutex_destroy(&c->lock);
    free(c->inval);
    free(c);
}

/* ---- queueing ---- */

static void reap_later_locked(struct chores *c)
{
    clock_gettime(CLOCK_MONOTONIC, &c->reap_at);
    c->reap_at.tv_nsec += REAP_MS * 1000000;
    c->reap_at.tv_sec += c->reap_at.tv_nsec / 1000000000;
    c->reap_at.tv_nsec %= 1000000000;
}

void chores_reap(struct chores *c, uint64_t ino)
{
    pthread_mutex_lock(&c->lock);
    if (c->n_reap < CHORES_MAX)
        c->reap[c->n_reap++] = ino;
    else
        c->search = true;
    if (c->n_reap == 1)
        reap_later_locked(c);
    if (c->n_reap == 1 || c->n_reap == BATCH || c->search)
        pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->lock);
}

/* Counts as one notification. What is queued is told all the same: it may be of names that nobody can list any more. */
static void everything_locked(struct chores *c)
{
    c->queued += !c->everything;
    c->everything = true;
}

/*
 * A command that changes more than the queue holds waits for room, so that no name is left out: kernels before 7.44 have no message for all.
 * A thread whose reply the kernel may wait for does not; some places are left for it.
 */
static void queue(struct chores *c, uint64_t ino, const char *name, size_t nlen, bool may_wait)
{
    pthread_mutex_lock(&c->lock);
    while (may_wait && c->running && !c->stopping && c->n >= CHORES_MAX - CHORES_SPARE)
        pthread_cond_wait(&c->settled, &c->lock);
    if (c->n == CHORES_MAX || nlen > REC_NAME_MAX) {
        everything_locked(c);
    } else {
        struct inval *i = &c->inval[(c->first + c->n++) % CHORES_MAX];

        c->queued++;
        i->ino = ino;
        i->nlen = (uint32_t)nlen;
        if (nlen > 0)
            memcpy(i->name, name, nlen);
        i->name[nlen] = '\0';
    }
    pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->lock);
}

void chores_inval_ino(struct chores *c, uint64_t ino) { queue(c, ino, NULL, 0, true); }

void chores_inval_entry(struct chores *c, uint64_t parent, const char *name, size_t nlen, bool may_wait)
{
    queue(c, parent, name, nlen, may_wait);
}

void chores_inval_all(struct chores *c)
{
    pthread_mutex_lock(&c->lock);
    everything_locked(c);
    pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->lock);
}

bool chores_settle(struct chores *c)
{
    struct timespec until;
    uint64_t want;
    bool done;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += SETTLE_S;
    pthread_mutex_lock(&c->lock);
    want = c->queued;
    while (c->running && !c->stopping && c->told < want)
        if (pthread_cond_timedwait(&c->settled, &c->lock, &until) == ETIMEDOUT)
            break;
    done = c->told >= want;
    pthread_mutex_unlock(&c->lock);
    return done;
}

/* ---- doing ---- */

/* ENOENT: the kernel does not know it; nothing to tell. */
static void inval_one(struct fs *fs, const struct inval *i)
{
    if (i->nlen > 0)
        (void)fuse_lowlevel_notify_inval_entry(fs->se, i->ino, i->name, i->nlen);
    else
        (void)fuse_lowlevel_notify_inval_inode(fs->se, i->ino, 0, 0);
}

static int inval_name(void *arg, uint64_t parent, const char *name, size_t nlen)
{
    struct fs *fs = arg;

    (void)fuse_lowlevel_notify_inval_entry(fs->se, parent, name, nlen);
    return 0;
}

static bool inc_epoch(struct fs *fs)
{
    struct fuse_out_header oh = { .len = sizeof oh, .error = NOTIFY_INC_EPOCH };
    struct shim_negotiated neg;

    shim_negotiated(fs->shim, &neg);
    return neg.kernel_minor >= INC_EPOCH_MINOR &&
           write(fuse_session_fd(fs->se), &oh, sizeof oh) == (ssize_t)sizeof oh;
}

static void inval_everything(struct fs *fs)
{
    uint64_t inos[BATCH];
    size_t n, pos = 0;
    struct row_ino row;
    bool names_done = inc_epoch(fs);

    (void)fuse_lowlevel_notify_inval_inode(fs->se, INO_ROOT, 0, 0);
    while ((n = lookups_list(fs->mem, false, &pos, inos, BATCH)) > 0) {
        for (size_t i = 0; i < n; i++) {
            (void)fuse_lowlevel_notify_inval_inode(fs->se, inos[i], 0, 0);
            /* A directory's name would take with it what is mounted below, and who works there. */
            if (!names_done && store_getattr(fs->store, AT_LIVE, inos[i], &row, NULL) == 0 && !S_ISDIR(row.mode))
                (void)store_parents(fs->store, AT_LIVE, inos[i], inval_name, fs, NULL);
        }
    }
}

static void try_again(struct chores *c)
{
    pthread_mutex_lock(&c->lock);
    c->again = true;
    reap_later_locked(c);
    pthread_mutex_unlock(&c->lock);
}

static void reap(struct fs *fs, const uint64_t *inos, size_t n)
{
    int rc = store_reap(fs->store, inos, n, NULL);

    /* changes are held, or the lease is out: that ends */
    if ((rc == ERR_BUSY || rc == ERR_FENCED) && store_role(fs->store) == ROLE_PRIMARY) {
        try_again(fs->chores);
        return;
    }
    if (rc < 0) {
        if (rc != ERR_POISONED && rc != ERR_ROFS && rc != ERR_FENCED)      /* a standby's are reaped by its primary */
            fs_log("reaping %zu unlinked files: %s", n, err_text(rc));
        return;
    }
    for (size_t i = 0; i < n; i++)
        lookups_named(fs->mem, inos[i]);
}

static void reap_found(struct fs *fs)
{
    uint64_t inos[BATCH];
    size_t n, pos = 0;

    while ((n = lookups_list(fs->mem, true, &pos, inos, BATCH)) > 0)
        reap(fs, inos, n);
}

/* One round; true if there was something to do. */
static bool round_locked(struct chores *c)
{
    uint64_t inos[BATCH];
    struct inval one;
    size_t n = 0;
    uint64_t told = c->told;

    /* In this order: what a command waits for (chores_settle) is counted, and must be told by then. */
    if (c->n > 0 && !c->stopping) {
        one = c->inval[c->first];
        c->first = (c->first + 1) % CHORES_MAX;
        c->n--;
        told++;
        pthread_mutex_unlock(&c->lock);
        inval_one(c->fs, &one);
    } else if (c->everything && !c->stopping) {
        c->everything = false;
        told++;
        pthread_mutex_unlock(&c->lock);
        inval_everything(c->fs);
    } else if (c->n_reap >= BATCH || (c->n_reap > 0 && (c->reap_due || c->stopping))) {
        while (n < BATCH && c->n_reap > 0)
            inos[n++] = c->reap[--c->n_reap];
        c->reap_due = c->reap_due && c->n_reap > 0;
        if (c->n_reap > 0)
            reap_later_locked(c);
        pthread_mutex_unlock(&c->lock);
        reap(c->fs, inos, n);
    } else if (c->search || (c->again && c->reap_due)) {
        c->search = c->again = false;
        pthread_mutex_unlock(&c->lock);
        reap_found(c->fs);
    } else {
        return false;
    }
    pthread_mutex_lock(&c->lock);
    c->told = told;
    pthread_cond_broadcast(&c->settled);
    return true;
}

static void *chores_main(void *arg)
{
    struct chores *c = arg;

    pthread_mutex_lock(&c->lock);
    for (;;) {
        if (round_locked(c))
            continue;
        if (c->stopping)
            break;
        if (c->n_reap == 0 && !c->again)
            pthread_cond_wait(&c->wake, &c->lock);
        else
            c->reap_due = pthread_cond_timedwait(&c->wake, &c->lock, &c->reap_at) == ETIMEDOUT;
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

int chores_start(struct chores *c, struct err *err)
{
    int eno = pthread_create(&c->thread, NULL, chores_main, c);

    if (eno)
        return err_from_errno(err, eno, "start a thread");
    c->running = true;
    return 0;
}

void chores_stop(struct chores *c)
{
    pthread_mutex_lock(&c->lock);
    c->stopping = true;
    pthread_cond_signal(&c->wake);
    pthread_cond_broadcast(&c->settled);
    pthread_mutex_unlock(&c->lock);
    if (c->running)
        pthread_join(c->thread, NULL);
    c->running = false;
}
