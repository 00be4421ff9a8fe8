#include "fs/worker.h"

#include "fs/chores.h"
#include "fs/fs.h"
#include "fs/park.h"
#include "fs/past.h"
#include "fs/past_branch.h"
#include "fs/recover.h"
#include "fs/remote.h"
#include "fs/role.h"
#include "fs/snapdir.h"
#include "store/maint/upkeep.h"
#include "store/svc/server.h"
#include "store/sync/replicate.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <linux/magic.h>
#include <unistd.h>

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

/* Threads of the live session's loop: one reads, so many may wait in place: for a disk, a row that is not in memory, a sync. Others park. */
enum { READERS = 4 };

struct worker {
    struct fs fs;
    struct io *io;
    int ctl;
    pid_t supervisor;
    bool again;
    pthread_t control;
    int done[2];             /* closed at the end: the control thread leaves */
    struct log_recovery recovery;
    struct svc_server *server;
    struct svc_hooks svc;
    struct upkeep *upkeep;
    struct replicate *replicate;
};

/* ---- hooks of the store ---- */

enum { PAST_COMES_S = 30 };
static time_t began_s;          /* this worker */

static time_t monotonic_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec;
}

enum { LET_GO_MS = 50 };        /* a moment that nobody is in is forgotten by the kernel much faster */

static void on_progress(void *arg)
{
    const uint64_t one = 1;
    struct fs *fs = arg;

    park_progress(fs->park);
    /* What there is to do may take a while, and locks may be held here. */
    if (role_changed(fs) && write(fs->role_wake, &one, sizeof one) < 0) {
        /* EAGAIN: it is readable already */
    }
}

static void on_inval_entry(void *arg, uint64_t parent, const char *name, size_t nlen)
{
    chores_inval_entry(((struct fs *)arg)->chores, parent, name, nlen, true);
}

static int inval_name(void *arg, uint64_t parent, const char *name, size_t nlen)
{
    on_inval_entry(arg, parent, name, nlen);
    return 0;
}

/*
 * With -o writeback the kernel believes no size of ours for a regular file it has: it must forget the inode, and so its names. (Not so a
 * directory: what is mounted below it would go with the name.)
 */
static void on_inval_ino(void *arg, uint64_t ino)
{
    struct fs *fs = arg;
    struct row_ino row;

    chores_inval_ino(fs->chores, ino);
    if (fs->o->writeback && store_getattr(fs->store, AT_LIVE, ino, &row, NULL) == 0 && S_ISREG(row.mode))
        (void)store_parents(fs->store, AT_LIVE, ino, inval_name, fs, NULL);
}

/* The kernel may hold moments from before this worker began; it is asked once the past is served again, which takes a moment. Where that never comes nobody is in any. */
static size_t on_used(void *arg, size_t *pos, uint64_t *lsns, size_t cap)
{
    struct fs *fs = arg;
    struct past *p = fs->past;

    if (p == NULL && past_wanted(fs->o) && monotonic_s() < began_s + PAST_COMES_S)
        return SIZE_MAX;
    return past_used(p, pos, lsns, cap);
}
static void on_last_use(void *arg, uint64_t lsn) { past_let_go(((struct fs *)arg)->past, lsn, LET_GO_MS); }
static void on_gone(void *arg, uint64_t ino) { op_gone(arg, ino); }
static bool on_settle(void *arg) { return chores_settle(((struct fs *)arg)->chores); }

/* Nothing may be acknowledged any more, and nothing in memory be believed: the next worker reads the disk. */
static void on_fatal(void *arg, const struct err *err)
{
    (void)arg;
    fs_log("the store failed: %s; starting over from what the disk holds", err->msg[0] ? err->msg : err_text(err->code));
    _exit(WORKER_FATAL);
}

/* ---- set-up ---- */

enum { LOCK_WAIT_MS = 10000, LOCK_POLL_MS = 20 };

/* A store that is in use and not mounted anywhere is just being closed, or a command has it for a moment; of a mount whose worker died
 * it can only be a command. */
static int open_when_free(struct worker *w, struct store_options *so, struct err *err)
{
    const char *dir = w->fs.o->store;

    for (int waited_ms = 0;; waited_ms += LOCK_POLL_MS) {
        int rc;

        /* A branch comes about while its store is not open here, so this tells whether any will be read. */
        so->memory_bytes = past_branches_any(dir) ? past_branches_rest(w->fs.o->memory_bytes) : w->fs.o->memory_bytes;
        rc = store_open(w->io, dir, so, &w->fs.store, &w->recovery, err);
        if (rc == ERR_LOCKED && waited_ms == 0)
            svc_yield(dir);      /* a stream into a standby gives way, and comes back into this mount */
        if (rc != ERR_LOCKED || waited_ms >= LOCK_WAIT_MS || (!w->again && fs_mounted_store(dir, NULL) == 0))
            return rc;
        (void)poll(NULL, 0, LOCK_POLL_MS);
    }
}

/* A standby that was never sent anything has no root to show. A role that changed since the mount was asked for is not mounted by it; once it is mounted it may (role.h). */
static int has_tree(struct worker *w, struct err *err)
{
    const char *dir = w->fs.o->store;
    struct row_ino root;
    int rc = 0;

    if (!w->again && (store_role(w->fs.store) != ROLE_PRIMARY) != w->fs.o->standby)
        rc = err_set(err, ERR_BUSY, "%s: its role just changed; mount it again", dir);
    else if (store_getattr(w->fs.store, AT_LIVE, INO_ROOT, &root, NULL) < 0 && w->fs.o->standby)
        rc = err_set(err, ERR_BOOTSTRAP, "%s: expected a standby that holds a tree, found one that was never sent any; let `spare sync` run first", dir);
    if (rc < 0) {
        (void)store_close(w->fs.store, NULL);
        w->fs.store = NULL;
    }
    return rc;
}

/*
 * Writing zeros ahead is worth it where a block, once written, is written again in its place. Where it is copied, as on btrfs, it gains
 * nothing and takes the space that a record was promised.
 */
static uint32_t zero_ahead(const char *dir)
{
    struct statfs sf;

    return statfs(dir, &sf) == 0 && (sf.f_type == EXT4_SUPER_MAGIC || sf.f_type == XFS_SUPER_MAGIC) ? 4 << 20 : 0;
}

static int open_store(struct worker *w, struct err *err)
{
    struct fs *fs = &w->fs;
    const struct fs_options *o = fs->o;
    struct store_options so = {
        .writable = !o->read_only, .threads = true, .keep_orphans = w->again,
        .location = w->again ? LOCATION_AS_IS : o->location,
        .log = { .preallocate = true, .zero_ahead = zero_ahead(o->store), .zero_after = 16, .least_lsn = atomic_load(&mem_head(fs->mem)->acked_lsn),
                 .least_writer = mem_head(fs->mem)->acked_writer },
        .hooks = { .arg = fs, .on_progress = on_progress, .on_inval_ino = on_inval_ino, .on_inval_entry = on_inval_entry,
                   .on_gone = on_gone, .on_settle = on_settle, .on_used = on_used, .on_last_use = on_last_use, .on_fatal = on_fatal },
    };
    const struct log_recovery *rec = &w->recovery;
    int rc = io_posix_new(o->store, &w->io, err);

    if (rc == 0)
        rc = open_when_free(w, &so, err);
    if (rc == 0)
        rc = has_tree(w, err);
    if (rc < 0)
        return rc;
    if (rec->torn)
        fs_log("%s: the log ended in the middle of a record; cut at %llu, which no fsync had acknowledged", o->store,
               (unsigned long long)rec->cut);
    if (rec->damaged)
        fs_log("%s: damage: %s", o->store, rec->damage.msg);
    if (rec->index_mended)
        fs_log("%s: the index was as a power cut leaves it: set back to what is whole of it, and made up for from the log", o->store);
    return 0;
}

static int raw_interrupt(void *ctx, struct shim *s, const struct fuse_in_header *in, const void *body, size_t len)
{
    struct fs *fs = ctx;

    (void)s;
    (void)in;
    if (len >= sizeof(struct fuse_interrupt_in))
        park_interrupt(fs->park, ((const struct fuse_interrupt_in *)body)->unique);
    return 1;                /* never answered */
}

static int make_session(struct fs *fs, int fd, struct err *err)
{
    struct fuse_lowlevel_ops ops = { 0 };
    struct shim_policy p;
    struct shim_buf_ops bufs = { park_buf_get, park_buf_put, fs->mem };
    char *argv[] = { (char[]){ "spare" }, NULL };
    struct fuse_args args = { .argc = 1, .argv = argv };
    int rc;

    ops_names(&ops);
    ops_attr(&ops);
    ops_data(&ops);
    ops_dir(&ops);
    ops_xattr(&ops);
    ops_misc(&ops);
    shim_policy_live(&p);
    if (fs->o->writeback)
        p.on |= FUSE_WRITEBACK_CACHE;
    if (fs->o->spin_us != UINT32_MAX)
        p.spin_us = fs->o->spin_us;
    p.raw_opcodes = 1ull << FUSE_INTERRUPT;
    p.raw = raw_interrupt;
    p.raw_ctx = fs;
    fs->shim = shim_new(&p, &bufs);
    fs->se = fuse_session_new(&args, &ops, sizeof ops, fs);
    if (!fs->shim || !fs->se)
        return err_set(err, ERR_NOMEM, "FUSE session: out of memory");
    rc = shim_attach(fs->shim, fs->se, fd);
    if (rc < 0)
        return err_from_errno(err, -rc, "FUSE session on /dev/fuse");
    return 0;
}

static int begin_or_continue(struct worker *w, struct err *err)
{
    struct fs *fs = &w->fs;
    struct mem_head *h = mem_head(fs->mem);
    struct recover_stats st;
    int rc;

    shim_save_to(fs->shim, &h->live);
    rc = role_begin(fs, err);
    if (rc < 0 || !w->again)
        return rc;
    rc = shim_restart(fs->shim, &h->live);
    if (rc < 0 && rc != -EINVAL)    /* EINVAL: it died before INIT was answered; INIT comes again */
        return err_from_errno(err, -rc, "continue the FUSE session");
    /* What a restore had changed behind the kernel's back may not have been told to it: that queue died with its worker. */
    chores_inval_all(fs->chores);
    recover_requests(fs, &st);
    fs_log("took over: %u requests found, %u answered from the log, %u done again, %u given up", st.found, st.answered,
           st.redone, st.given_up);
    return 0;
}

/* ---- control ---- */

static void told(struct worker *w, const struct ctl_msg *m, int fd)
{
    struct err err = { 0 };

    if (m->kind == CTL_STOP) {
        shim_stop(w->fs.shim);
    } else if (m->kind == CTL_PAST && fd >= 0 && !w->fs.past) {
        if (past_start(&w->fs, fd, &err) < 0)
            fs_log("the past is not shown: %s", err.msg);
        return;
    }
    if (fd >= 0)
        close(fd);
}

/* A signal meant for the mount: the supervisor knows how; without it, this process unmounts itself. */
static void asked_to_end(struct worker *w)
{
    struct err err = { 0 };

    if (getppid() == w->supervisor) {
        (void)kill(w->supervisor, SIGTERM);
        return;
    }
    if (fs_umount(w->fs.o->dir, true, 0, &err) < 0)
        fs_log("%s", err.msg);
}

static void *control_main(void *arg)
{
    struct worker *w = arg;
    sigset_t set;
    int sig;
    struct pollfd p[4];

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sig = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    p[0] = (struct pollfd){ .fd = w->done[0], .events = POLLIN };
    p[1] = (struct pollfd){ .fd = sig, .events = POLLIN };
    p[2] = (struct pollfd){ .fd = w->ctl, .events = POLLIN };
    p[3] = (struct pollfd){ .fd = w->fs.role_wake, .events = POLLIN };
    for (;;) {
        struct signalfd_siginfo si;
        struct ctl_msg m;
        uint64_t n;
        int fd;

        if (poll(p, 4, -1) < 0 && errno != EINTR)
            break;
        if (p[0].revents)
            break;
        if ((p[1].revents & POLLIN) && read(sig, &si, sizeof si) == (ssize_t)sizeof si)
            asked_to_end(w);
        if (p[3].revents && read(w->fs.role_wake, &n, sizeof n) == (ssize_t)sizeof n) {
            if (!store_role_moves(w->fs.store))              /* its end wakes again; a promotion to a moment may take an hour, and there are others to answer to */
                (void)role_fit(&w->fs, NULL);
            if (fs_changes(&w->fs))
                replicate_now(w->replicate, NULL);       /* what a standby did not ship may be due */
        }
        if (!p[2].revents)
            continue;
        if (ctl_recv(w->ctl, &m, &fd) == 1) {
            told(w, &m, fd);
        } else {
            fs_log("the supervisor is gone; serving on, but a crash will not be survived any more");
            p[2].fd = -1;
        }
    }
    close(sig);
    return NULL;
}

/* ---- life ---- */

static int release(struct worker *w, bool clean)
{
    struct fs *fs = &w->fs;
    struct err err = { 0 };
    int rc;

    svc_server_stop(w->server);
    park_stop(fs->park);
    replicate_stop(w->replicate);        /* behind the server and the parked: both ask it */
    upkeep_stop(w->upkeep);              /* it asks which moments are in use */
    past_stop(fs->past);
    fs->past = NULL;
    chores_stop(fs->chores);
    shim_detach(fs->shim);
    if (clean && fs_changes(fs)) {
        rc = store_mounted(fs->store, mem_head(fs->mem)->mount_id, false, fs->o->dir, &err);
        if (rc < 0)
            fs_log("%s: %s", fs->o->store, err.msg);
    }
    rc = store_close(fs->store, &err);
    if (rc < 0)
        fs_log("closing %s: %s", fs->o->store, err.msg);
    remote_free(fs->remote);
    snapdir_free(fs->snapdir);
    fuse_session_destroy(fs->se);
    shim_free(fs->shim);
    park_free(fs->park);
    chores_free(fs->chores);
    w->io->ops->free(w->io);
    return rc < 0 ? WORKER_UNCLEAN : WORKER_DONE;
}

static void counters(void *arg, void (*put)(void *put_arg, const char *name, uint64_t value), void *put_arg)
{
    struct worker *w = arg;
    struct shim_stats st;
    struct stat exe;

    shim_stats(w->fs.shim, &st);
    put(put_arg, "fuse_requests", st.requests);
    put(put_arg, "fuse_slept", st.slept);
    put(put_arg, "fuse_refused", st.refused);
    put(put_arg, "parked", park_count(w->fs.park));
    put(put_arg, "workers_started", mem_head(w->fs.mem)->workers);
    put(put_arg, "program_inode", stat("/proc/self/exe", &exe) == 0 ? exe.st_ino : 0);
}

static bool same_namespace(uint32_t pid, const char *kind)
{
    char path[64];
    struct stat own, his;

    snprintf(path, sizeof path, "/proc/self/ns/%s", kind);
    if (stat(path, &own) < 0)
        return false;
    snprintf(path, sizeof path, "/proc/%u/ns/%s", pid, kind);
    return stat(path, &his) == 0 && his.st_ino == own.st_ino && his.st_dev == own.st_dev;
}

struct within { uint64_t dev; const char *source; };

static int is_ours(void *arg, const struct fs_mounted *m)
{
    const struct within *w = arg;

    return m->dev == w->dev && strcmp(m->source, w->source) == 0;
}

/*
 * Whoever may make this process run a program of his choice could do so before: root, and whose process it is; but not the root of a container that
 * was given the store. And a program in the mount would have to be read from itself.
 */
static int may_run(const struct worker *w, const struct caller *who, int fd, const char *program, struct err *err)
{
    struct within in = { 0, w->fs.o->fsname };
    struct stat st;

    if ((who->uid != 0 && who->uid != geteuid()) || !same_namespace(who->pid, "mnt") || !same_namespace(who->pid, "user"))
        return err_set(err, ERR_PERM, "%s: expected the user who mounted it, or root, of this system; found user %u", w->fs.o->dir, who->uid);
    if (fstat(fd, &st) < 0)
        return err_from_errno(err, errno, "%s", program);
    if (!S_ISREG(st.st_mode) || (st.st_uid != 0 && st.st_uid != geteuid()) || (st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return err_set(err, ERR_PERM, "%s: expected a program that belongs to root or to who mounted, and that nobody else may write", program);
    in.dev = st.st_dev;
    if (fs_mounted_each(is_ours, &in) == 1)
        return err_set(err, ERR_USAGE, "%s: lies in the mount it shall serve; copy it to another place first", program);
    return 0;
}

static int upgrade(void *arg, const struct caller *who, const char *program, uint64_t layout, struct err *err)
{
    struct worker *w = arg;
    int fd, rc, sent;

    if (layout != MEM_LAYOUT)
        return err_set(err, ERR_NOTSUP, "%s: the running program keeps requests in memory in layout %d, %s in layout %llu; unmount, and mount again",
                       w->fs.o->dir, MEM_LAYOUT, program, (unsigned long long)layout);
    if (getppid() != w->supervisor)
        return err_set(err, ERR_NOTSUP, "%s: its supervisor is gone; unmount, and mount again", w->fs.o->dir);
    fd = open(program, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return err_from_errno(err, errno, "%s", program);
    rc = may_run(w, who, fd, program, err);
    sent = rc == 0 ? ctl_send(w->ctl, CTL_UPGRADE, fd, NULL) : 0;
    close(fd);
    return sent < 0 ? err_from_errno(err, -sent, "%s: its supervisor", w->fs.o->dir) : rc;
}

static bool fit(void *arg, char *options, size_t cap, struct err *why)
{
    struct worker *w = arg;

    if (options && fs_options_text(w->fs.o, options, cap) < 0)
        options[0] = '\0';
    return role_fit(&w->fs, why);
}

static int leave_branch(void *arg, const char *name, struct err *err)
{
    return past_leave_branch(((struct worker *)arg)->fs.past, name, err);
}

/* Commands reach the store through this process. Without it they cannot, but files can be worked on. */
static void start_server(struct worker *w)
{
    struct err err = { 0 };

    w->svc = (struct svc_hooks){ .mount_dir = w->fs.o->dir, .recovery = &w->recovery, .replicate = w->replicate, .arg = w, .counters = counters, .upgrade = upgrade, .fit = fit, .leave_branch = leave_branch,
                                 .branch_memory = past_branches_share(w->fs.o->memory_bytes) };
    if (svc_server_start(w->fs.store, w->fs.o->store, &w->svc, &w->server, &err) < 0) {
        w->server = NULL;
        fs_log("commands will find this mount deaf: %s", err.msg);
    }
}

static void *reader_main(void *arg)
{
    return (void *)(intptr_t)shim_loop(arg);
}

/* Reads requests in several threads until there are none any more: as shim_loop. They end for one reason, but for one that could not begin:
 * that is only one less. */
static int read_requests(struct worker *w)
{
    pthread_t readers[READERS - 1];
    void *other = NULL;
    unsigned n = 0;
    int end;

    while (n < READERS - 1 && pthread_create(&readers[n], NULL, reader_main, w->fs.shim) == 0)
        n++;                 /* with fewer, more is parked */
    end = shim_loop(w->fs.shim);
    while (n > 0) {
        pthread_join(readers[--n], &other);
        if (end < 0)
            end = (int)(intptr_t)other;
    }
    return end;
}

static void say(const char *line)
{
    fs_log("%s", line);
}

static int serve(struct worker *w)
{
    struct err err = { 0 };
    int end, rc;

    if (pipe2(w->done, O_CLOEXEC) < 0 || park_start(w->fs.park, &err) < 0 || chores_start(w->fs.chores, &err) < 0) {
        fs_log("starting threads: %s", err.msg[0] ? err.msg : strerror(errno));
        return WORKER_FATAL;
    }
    if (!w->fs.o->read_only && replicate_start(w->fs.store, say, &w->replicate, &err) < 0)
        fs_log("%s; nothing is shipped", err.msg);
    if (pthread_create(&w->control, NULL, control_main, w) != 0) {
        fs_log("starting a thread: %s", strerror(errno));
        return WORKER_FATAL;
    }
    remote_attach(w->fs.remote, w->replicate);
    start_server(w);
    if (!w->fs.o->read_only && upkeep_start(w->fs.store, say, &w->upkeep, &err) < 0)
        fs_log("%s; nothing is packed", err.msg);
    (void)ctl_send(w->ctl, CTL_SERVING, -1, NULL);
    end = read_requests(w);
    close(w->done[1]);
    pthread_join(w->control, NULL);
    close(w->done[0]);
    if (end < 0) {
        fs_log("reading requests: %s", strerror(-end));
        return WORKER_FATAL;
    }
    rc = release(w, true);
    return rc;
}

/* What must be there before requests: in an order such that hooks always find what they need. */
static int set_up(struct worker *w, struct err *err)
{
    struct fs *fs = &w->fs;
    struct ctl_msg m;
    int fd = -1, rc = park_new(fs, &fs->park, err);

    began_s = monotonic_s();
    if (rc == 0)
        rc = chores_new(fs, &fs->chores, err);
    if (rc == 0)
        rc = remote_new(fs, &fs->remote, err);
    if (rc == 0)
        rc = open_store(w, err);
    if (rc == 0)
        rc = snapdir_new(fs, err);
    (void)ctl_send(w->ctl, CTL_OPENED, -1, rc < 0 ? err : NULL);    /* err may hold what was overcome */
    if (rc < 0)
        return WORKER_REFUSED;
    if (ctl_recv(w->ctl, &m, &fd) != 1 || m.kind != CTL_LIVE || fd < 0)
        return -1;           /* not mounted after all */
    rc = make_session(fs, fd, err);
    if (rc == 0)
        rc = begin_or_continue(w, err);
    if (rc < 0) {
        fs_log("%s", err->msg);
        return WORKER_FATAL;
    }
    if (geteuid() == 0 && !w->again)
        (void)shim_raise_readahead(fs->o->dir, 1u << 20);
    return 0;
}

/*
 * What is large goes back to the system when it is freed, and a few heaps do. Left to itself glibc raises the bound of what is large to 32 MiB and has eight heaps a
 * processor: reclaim of 1.5 million rows took 59 MiB more than before it, with this 32.
 */
static void keep_heap_small(void)
{
#ifdef __GLIBC__
    (void)mallopt(M_MMAP_THRESHOLD, 256 << 10);
    (void)mallopt(M_ARENA_MAX, 4);
#endif
}

int worker_main(const struct fs_options *o, struct mem *mem, int ctl, bool again)
{
    struct worker *w = calloc(1, sizeof *w);
    struct err err = { 0 };
    int rc;

    if (!w)
        return WORKER_FATAL;
    pthread_mutex_init(&w->fs.dir_lock, NULL);
    pthread_mutex_init(&w->fs.role_lock, NULL);
    w->fs.role_wake = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);    /* a worker before this one may not have come so far as to make the mount fit */
    w->fs.o = o;
    w->fs.mem = mem;
    w->ctl = ctl;
    w->again = again;
    w->supervisor = getppid();
    keep_heap_small();
    /* Memory for us must not wait for pages that are written back through us. Needs privilege; best effort. */
    (void)prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
    mem_attach(mem);
    mem_head(mem)->workers++;
    rc = set_up(w, &err);
    if (rc == 0) {
        rc = serve(w);
    } else if (rc == -1) {
        (void)store_close(w->fs.store, &err);
        rc = WORKER_DONE;
    }
    free(w);
    return rc;
}
