/* past.c: the life of the past's session: start, continue, end; see past.h. */
#include "fs/past_internal.h"

#include "fs/past_list.h"
#include "store/core/moment.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/*
 * In the memory that outlives workers: slots, and the buffers requests are read into, one for each thread. A request found in one
 * by the next worker is answered again; all of them only read, so that twice does no harm.
 */
enum { BUFS = PAST_THREADS + 2, BUF_BYTES = (int)((SHIM_BUF_BYTES + 4095) / 4096 * 4096) };
enum { LEAVE_MS = 1000 };            /* of FORGETs under way */
#define SLOTS (1u << PAST_SLOTS_LOG2)
#define OFF_SLOTS 4096u
#define OFF_BUFS (32u << 20)

struct buf_note { uint64_t unique; uint32_t crashes, pad; };
struct past_shared { struct buf_note notes[BUFS]; };

static_assert(sizeof(struct past_shared) <= OFF_SLOTS, "notes end before the slots");
static_assert((uint64_t)OFF_BUFS + (uint64_t)BUFS * BUF_BYTES <= MEM_PAST_BYTES, "the past fits into its memory");

/* ---- buffers ---- */

static unsigned char *buf_at(const struct past *p, unsigned i)
{
    return (unsigned char *)p->sh + OFF_BUFS + (size_t)i * BUF_BYTES;
}

static int buf_get(void *ctx, struct shim_buf *out)
{
    struct past *p = ctx;
    unsigned i = 0;

    pthread_mutex_lock(&p->lock);
    while (i < BUFS && (p->bufs_taken >> i & 1))
        i++;
    if (i < BUFS)
        p->bufs_taken |= 1ull << i;
    pthread_mutex_unlock(&p->lock);
    if (i == BUFS)
        return -ENOBUFS;
    *out = (struct shim_buf){ buf_at(p, i), BUF_BYTES, i };
    return 0;
}

static void buf_put(void *ctx, struct shim_buf *buf)
{
    struct past *p = ctx;

    pthread_mutex_lock(&p->lock);
    p->bufs_taken &= ~(1ull << buf->tag);
    pthread_mutex_unlock(&p->lock);
    *buf = (struct shim_buf){ 0 };
}

/* What the worker before had read and not answered. */
static void redo(struct past *p)
{
    for (unsigned i = 0; i < BUFS; i++) {
        struct shim_buf b = { buf_at(p, i), BUF_BYTES, i };
        struct fuse_in_header *in = (void *)b.mem;
        struct buf_note *note = &p->sh->notes[i];

        if (in->len == 0)
            continue;
        if (note->unique != in->unique)
            *note = (struct buf_note){ .unique = in->unique };
        note->crashes += mem_crashed(mem_head(p->fs->mem));
        if (note->crashes >= MEM_CRASHES_MAX && in->opcode != FUSE_FORGET && in->opcode != FUSE_BATCH_FORGET)
            (void)shim_reply_raw(p->shim, in->unique, EIO, NULL, 0);
        else
            (void)shim_dispatch(p->shim, &b, in->len);
        in->len = 0;
    }
}

/* ---- threads ---- */

static void *serve(void *arg)
{
    struct past *p = arg;
    int end = shim_loop(p->shim);

    if (end < 0)
        fs_log("the past: reading requests: %s", strerror(-end));
    else if (end != SHIM_STOPPED)
        past_slots_clear(p->slots);      /* unmounted: nobody is in any moment */
    return NULL;
}

/*
 * Slots run out only after a million different moments were looked at. Then the kernel is asked to forget those nobody is in.
 * It takes the root's lock for that, under which a look-up may wait for an answer: hence a thread that gives none.
 */
static void tend_branches(struct past *p)
{
    struct timespec until;
    unsigned open;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec++;
    (void)pthread_cond_timedwait(&p->wake, &p->lock, &until);
    p->branches_used = false;            /* before it looks: one that is used meanwhile says so again */
    pthread_mutex_unlock(&p->lock);
    open = past_branches_close(p->branches, 0);
    pthread_mutex_lock(&p->lock);
    p->branches_used |= open > 0;
}

static void *janitor_main(void *arg)
{
    struct past *p = arg;
    uint64_t lsns[256];
    size_t pos, n;

    pthread_mutex_lock(&p->lock);
    while (!p->stop) {
        if (!p->want_room && p->branches_used) {
            tend_branches(p);
            continue;
        }
        if (!p->want_room) {
            pthread_cond_wait(&p->wake, &p->lock);
            continue;
        }
        p->want_room = false;
        pthread_mutex_unlock(&p->lock);
        fs_log("%u moments are in use, as many as there may be; letting go of those nobody is in", past_slots_used(p->slots));
        for (pos = 0; (n = past_used(p, &pos, lsns, sizeof lsns / sizeof lsns[0])) > 0;)
            while (n > 0)
                past_let_go(p, lsns[--n], 0);
        pthread_mutex_lock(&p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

void past_full(struct past *p)
{
    pthread_mutex_lock(&p->lock);
    p->want_room = true;
    pthread_cond_signal(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

void past_branch_used(struct past *p)
{
    pthread_mutex_lock(&p->lock);
    if (!p->branches_used) {
        p->branches_used = true;
        pthread_cond_signal(&p->wake);
    }
    pthread_mutex_unlock(&p->lock);
}

size_t past_used(struct past *p, size_t *pos, uint64_t *lsns, size_t cap)
{
    return p ? past_slots_list(p->slots, pos, lsns, cap) : 0;
}

/* False: somebody is in it. */
static bool let_go(struct past *p, uint64_t key, const char *name, unsigned wait_ms)
{
    const struct timespec ms = { 0, 1000000 };
    uint32_t slot;

    /* ENOENT: the kernel does not know the name. */
    (void)fuse_lowlevel_notify_inval_entry(p->se, FUSE_ROOT_ID, name, strlen(name));
    /* its FORGETs come by and by, to other threads */
    for (;; wait_ms--) {
        slot = past_slots_get(p->slots, key, false);
        if (slot == 0 || past_slots_sub(p->slots, slot, 1) != 0)
            return true;
        if (wait_ms == 0)
            return false;
        nanosleep(&ms, NULL);
    }
}

void past_let_go(struct past *p, uint64_t lsn, unsigned wait_ms)
{
    char name[24];

    snprintf(name, sizeof name, "@%llu", (unsigned long long)lsn);
    if (p != NULL)
        (void)let_go(p, lsn, name, wait_ms);
}

int past_leave_branch(struct past *p, const char *name, struct err *err)
{
    char entry[NAME_MAX + 2];
    uint64_t key;
    int rc;

    if (p == NULL)
        return 0;
    rc = past_branch_key(p->branches, name, &key, err);
    if (rc < 0)
        return rc == ERR_NOENT ? 0 : rc;
    snprintf(entry, sizeof entry, "@%s", name);
    if (!let_go(p, key, entry, LEAVE_MS))
        return err_set(err, ERR_BUSY, "%s: expected a branch that nobody uses, found somebody in %s/%s of the mount at %s; let that end first", name, p->fs->o->snapdir, entry, p->fs->o->dir);
    (void)past_branches_close(p->branches, key);
    return 0;
}

/* ---- life ---- */

bool past_wanted(const struct fs_options *o) { return o->past != FS_PAST_OFF && o->snapdir[0] != '\0'; }

static int ignore_interrupt(void *ctx, struct shim *s, const struct fuse_in_header *in, const void *body, size_t len)
{
    (void)ctx;
    (void)s;
    (void)in;
    (void)body;
    (void)len;
    return 1;                /* no wait here is long enough */
}

static int make_session(struct past *p, struct err *err)
{
    struct fuse_lowlevel_ops ops = { 0 };
    struct shim_policy policy;
    struct shim_buf_ops bufs = { buf_get, buf_put, p };
    char *argv[] = { (char[]){ "spare" }, NULL };
    struct fuse_args args = { .argc = 1, .argv = argv };

    past_ops(&ops);
    shim_policy_past(&policy);
    policy.raw_opcodes = 1ull << FUSE_INTERRUPT;
    policy.raw = ignore_interrupt;
    p->shim = shim_new(&policy, &bufs);
    p->se = fuse_session_new(&args, &ops, sizeof ops, p);
    return p->shim && p->se ? 0 : err_set(err, ERR_NOMEM, "session of the past: out of memory");
}

static int start_threads(struct past *p, struct err *err)
{
    if (pthread_create(&p->janitor, NULL, janitor_main, p) != 0)
        return err_set(err, ERR_NOMEM, "session of the past: no threads");
    p->has_janitor = true;
    while (p->n_threads < PAST_THREADS && pthread_create(&p->threads[p->n_threads], NULL, serve, p) == 0)
        p->n_threads++;
    return p->n_threads > 0 ? 0 : err_set(err, ERR_NOMEM, "session of the past: no threads");
}

int past_start(struct fs *fs, int fd, struct err *err)
{
    struct past *p = calloc(1, sizeof *p);
    struct shim_saved *saved = &mem_head(fs->mem)->past;
    pthread_condattr_t attr;
    bool attached = false;
    int rc = ERR_NOMEM;

    if (!p) {
        (void)close(fd);
        return err_set(err, rc, "session of the past: out of memory");
    }
    p->fs = fs;
    p->store = fs->store;
    p->sh = mem_past(fs->mem);
    (void)pthread_mutex_init(&p->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&p->wake, &attr);
    pthread_condattr_destroy(&attr);
    p->branches = past_branches_new(fs->o->store, past_branches_share(fs->o->memory_bytes));
    p->slots = past_slots_new((unsigned char *)p->sh + OFF_SLOTS, SLOTS);
    rc = p->slots && p->branches ? make_session(p, err) : err_set(err, ERR_NOMEM, "session of the past: out of memory");
    if (rc < 0)
        goto out;
    rc = shim_attach(p->shim, p->se, fd);
    if (rc < 0) {
        rc = err_from_errno(err, -rc, "session of the past on /dev/fuse");
        goto out;
    }
    attached = true;
    shim_save_to(p->shim, saved);
    rc = shim_restart(p->shim, saved);
    if (rc >= 0 || rc == -EINVAL)    /* EINVAL: there was none; INIT is still to come, or was read and is among these */
        redo(p);
    else
        rc = err_from_errno(err, -rc, "continue the session of the past");
    if (rc >= 0 || rc == -EINVAL)
        rc = start_threads(p, err);
out:
    if (!attached)
        (void)close(fd);
    if (rc < 0)
        past_stop(p);
    else
        fs->past = p;
    return rc;
}

void past_stop(struct past *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_signal(&p->wake);
    pthread_mutex_unlock(&p->lock);
    if (p->has_janitor)
        pthread_join(p->janitor, NULL);
    if (p->n_threads > 0)
        shim_stop(p->shim);
    while (p->n_threads > 0)
        pthread_join(p->threads[--p->n_threads], NULL);
    if (p->shim)
        shim_detach(p->shim);
    if (p->se)
        fuse_session_destroy(p->se);
    shim_free(p->shim);
    past_branches_free(p->branches);
    past_slots_free(p->slots);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

/* ---- what both sessions show ---- */

void past_dir_attr(const struct fs *fs, uint64_t ino, struct stat *st)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    *st = (struct stat){
        .st_ino = ino, .st_mode = S_IFDIR | (fs->o->past == FS_PAST_ALL ? 0755 : 0700), .st_nlink = 2,
        .st_uid = fs->store_uid, .st_gid = fs->store_gid, .st_blksize = 4096,
        .st_atim = now, .st_mtim = now, .st_ctim = now,
    };
}

void past_link_attr(const struct fs *fs, uint64_t ino, uint64_t lsn, size_t len, struct stat *st)
{
    int64_t wall_ns = 0;
    struct timespec t = { 0 };

    if (lsn != 0 && moment_wall(fs->store, lsn, &wall_ns, NULL) == 0) {
        t.tv_sec = (time_t)(wall_ns / 1000000000);
        t.tv_nsec = (long)(wall_ns % 1000000000);
        if (t.tv_nsec < 0) {
            t.tv_nsec += 1000000000;
            t.tv_sec--;
        }
    }
    *st = (struct stat){
        .st_ino = ino, .st_mode = S_IFLNK | 0777, .st_nlink = 1, .st_uid = fs->store_uid, .st_gid = fs->store_gid,
        .st_size = (off_t)len, .st_blksize = 4096, .st_atim = t, .st_mtim = t, .st_ctim = t,
    };
}

int past_moment(const struct fs *fs, const char *text, uint64_t *lsn, struct err *err)
{
    /* The name leads nowhere in the past, also where a snapshot were called so: it contains none of itself. */
    int rc = name_is_snapdir(fs, text) ? ERR_NOENT : moment_resolve(fs->store, text, lsn, err);

    return rc == ERR_NOMOMENT || rc == ERR_USAGE || rc == ERR_INVAL ? ERR_NOENT : rc;
}
