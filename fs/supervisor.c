#include "fs/supervisor.h"

#include "fs/fs.h"
#include "fs/past.h"
#include "fs/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* So many crashes within so long, and it is given up: no storm of restarts. */
#define CRASHES_MAX 5
#define CRASHES_MS 10000u
/* Asked to end while in use: so long until the worker stops all the same. */
#define STOP_AFTER_MS 5000u
/* And so often until it is killed. */
#define STOPS_MAX 6u
/* Without space to write a worker serves read-only; so often it is looked at, and so much must be free before it is tried again. */
#define ROOM_EVERY_MS 5000u
#define ROOM_MIN (16ull << 20)
/* After so many looks it is tried whatever there is: it may have been a quota, or the disk is that small. */
#define ROOM_LOOKS 120u

struct sup {
    const struct fs_options *o;
    struct fs_options again;         /* of later workers: may be read-only */
    struct mem *mem;
    struct fuse_session *live;
    int live_fd, past_fd;
    uint64_t live_dev, past_dev;     /* st_dev of the two mounts: what else is mounted there is not ours */
    int ctl;                         /* to the worker, -1 when none runs */
    int helper_ctl;                  /* to the child that mounts the past */
    int sig;
    pid_t worker, helper, ender;
    int program;                     /* to go on as; -1: this one */
    bool replaced;                   /* the worker was ended to start one of this program */
    uint64_t room;                   /* it serves read-only for want of space: bytes that must be free before another may write; 0: not so */
    uint64_t room_at_ms;             /* when that is looked at next */
    unsigned room_looks;             /* so often it was not enough */
    bool ever_served, announced, ending;
    bool serving;                    /* this worker has said so */
    bool killed;                     /* by us: it did not end when asked to */
    unsigned stops;
    uint64_t start_at_ms;            /* start a worker then; 0: none due */
    uint64_t stop_at_ms;             /* 0: not asked to end */
    uint64_t crash_ms[CRASHES_MAX];
    unsigned crashes;
    void (*ready)(void *arg);
    void *ready_arg;
    int code;
    struct err *err;
    bool over;
};

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/*
 * Whether the mount that this descriptor serves is still there: an unmounted one is disconnected. (So is one that was aborted, which stays in the
 * tree; that one then answers nothing.) The same store may be mounted at the same place again by now, with the same device number.
 */
static bool connected(int fd)
{
    struct pollfd p = { .fd = fd };

    return fd >= 0 && poll(&p, 1, 0) >= 0 && !(p.revents & (POLLERR | POLLNVAL));
}

static bool aborted(const char *dir)
{
    struct statvfs v;

    return statvfs(dir, &v) < 0 && (errno == ENOTCONN || errno == ECONNABORTED);
}

/* The st_dev of the spare of this store that is mounted there now; 0: none. Numbers are used again. */
static uint64_t dev_at(const struct sup *s, const char *dir)
{
    struct fs_mounted *m = malloc(sizeof *m);
    uint64_t dev = m && fs_mounted_at(dir, m) == 0 && strcmp(m->source, s->o->fsname) == 0 ? m->dev : 0;

    free(m);
    return dev;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* ---- children ---- */

static pid_t spawn(struct sup *s, int *ours, int *theirs)
{
    int pair[2];
    pid_t pid;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -1;
    pid = fork();
    if (pid == 0) {
        close(pair[0]);
        close(s->sig);
        close_fd(&s->ctl);
        close_fd(&s->helper_ctl);
        *theirs = pair[1];
        return 0;
    }
    close(pair[1]);
    if (pid < 0)
        close(pair[0]);
    else
        *ours = pair[0];
    return pid;
}

static void start_worker(struct sup *s)
{
    bool again = s->live_fd >= 0;
    int theirs = -1;

    s->start_at_ms = 0;
    s->serving = false;
    s->worker = spawn(s, &s->ctl, &theirs);
    if (s->worker == 0) {
        /* Only what it is handed: the last descriptor of a session must be the supervisor's or its own. */
        close_fd(&s->live_fd);
        close_fd(&s->past_fd);
        if (!s->o->foreground)
            fs_log_detach();
        _exit(worker_main(again ? &s->again : s->o, s->mem, theirs, again));
    }
    if (s->worker < 0) {
        s->worker = 0;
        s->start_at_ms = now_ms() + 1000;
        fs_log("fork: %s", strerror(errno));
    }
}

/* Mounts the past. What walks paths may have to wait for a worker, so a child does it. */
static void start_helper(struct sup *s)
{
    char dir[PATH_MAX];
    struct fuse_session *se = NULL;
    struct fs_mounted left;
    struct err err = { 0 };
    int theirs = -1, fd;

    if (mount_past_dir(s->o, dir, sizeof dir, &err) < 0) {
        fs_log("the past is not shown: %s", err.msg);
        return;
    }
    s->helper = spawn(s, &s->helper_ctl, &theirs);
    if (s->helper != 0)
        return;
    /* One whose processes were all killed may be left. */
    if (fs_mounted_at(dir, &left) == 0 && left.past)
        (void)mount_take_down(dir, true, &err);
    fd = mount_open(s->o, dir, true, &se, &err);
    (void)ctl_send(theirs, CTL_MOUNTED, fd, &err);
    _exit(0);
}

/* Takes the mount down. At first as it should be, then from under whoever is in it. */
static void start_ender(struct sup *s)
{
    char dir[PATH_MAX];
    struct err err = { 0 };
    sigset_t none;

    if (s->ender > 0)
        return;
    s->ender = fork();
    if (s->ender != 0)
        return;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (connected(s->past_fd) && mount_past_dir(s->o, dir, sizeof dir, &err) == 0 && dev_at(s, dir) == s->past_dev && s->past_dev != 0 &&
        mount_take_down(dir, false, &err) < 0)
        (void)mount_take_down(dir, true, &err);
    if (connected(s->live_fd) && dev_at(s, s->o->dir) == s->live_dev && mount_take_down(s->o->dir, false, &err) < 0)
        (void)mount_take_down(s->o->dir, true, &err);
    _exit(0);
}

static void end_mount(struct sup *s)
{
    s->ending = true;
    if (s->stop_at_ms == 0)
        s->stop_at_ms = now_ms() + STOP_AFTER_MS;
    if (s->live_fd >= 0)
        start_ender(s);
    else
        (void)ctl_send(s->ctl, CTL_STOP, -1, NULL);
}

/* ---- what the worker says ---- */

static void give_up(struct sup *s, int code, const char *why)
{
    s->code = err_set(s->err, code, "%s", why);
    fs_log("%s", s->err->msg);
    s->over = true;
}

/* Each try takes the mount a moment: the next one is made when there is twice as much as was not enough. */
static void wait_for_room(struct sup *s)
{
    struct statvfs v;
    uint64_t has = statvfs(s->o->store, &v) == 0 ? (uint64_t)v.f_bavail * v.f_frsize : 0;

    s->room = 2 * has > ROOM_MIN ? 2 * has : ROOM_MIN;
    s->room_looks = 0;
    s->room_at_ms = now_ms() + ROOM_EVERY_MS;
}

/* Space may have come back: then a worker that writes takes the place of this one, as after any death. */
static void look_for_room(struct sup *s)
{
    struct statvfs v;

    s->room_at_ms = now_ms() + ROOM_EVERY_MS;
    if (s->worker <= 0 || !s->serving || s->ending || statvfs(s->o->store, &v) < 0 || ((uint64_t)v.f_bavail * v.f_frsize < s->room && ++s->room_looks < ROOM_LOOKS))
        return;
    fs_log("there is space again: trying to write");
    s->room = 0;
    s->again.read_only = s->o->read_only;
    s->replaced = true;
    mem_head(s->mem)->planned = mem_head(s->mem)->workers;
    (void)kill(s->worker, SIGKILL);
}

static void opened(struct sup *s, const struct err *e)
{
    if (e->code == 0) {
        if (s->live_fd < 0) {
            int fd = mount_open(s->o, s->o->dir, false, &s->live, s->err);

            if (fd < 0) {
                s->code = fd;
                s->ending = true;
                close_fd(&s->ctl);       /* the worker closes the store and ends */
                return;
            }
            s->live_fd = fd;
            s->live_dev = dev_at(s, s->o->dir);
        }
        (void)ctl_send(s->ctl, CTL_LIVE, s->live_fd, NULL);
        return;
    }
    if (s->live_fd < 0) {
        *s->err = *e;
        s->code = e->code;
        s->ending = true;
    } else {
        bool in_use = e->code == ERR_LOCKED || e->code == ERR_BUSY;    /* a command has it: that ends */

        fs_log("the store could not be opened again: %s%s", e->msg, s->again.read_only || in_use ? "" : "; trying read-only");
        s->again.read_only |= !in_use;
        if (e->code == ERR_NOSPC && !s->o->read_only)
            wait_for_room(s);
        s->over |= in_use && !connected(s->live_fd);     /* unmounted meanwhile, and mounted by another: nothing is left to serve */
    }
}

static void announce(struct sup *s)
{
    if (s->announced)
        return;
    s->announced = true;
    if (s->ready)
        s->ready(s->ready_arg);
}

static void hear_worker(struct sup *s)
{
    struct ctl_msg m;
    int fd;

    if (ctl_recv(s->ctl, &m, &fd) != 1) {
        close_fd(&s->ctl);               /* SIGCHLD tells the rest */
        return;
    }
    if (m.kind == CTL_UPGRADE && fd >= 0 && s->program < 0) {
        s->program = fd;
        return;
    }
    close_fd(&fd);
    if (m.kind == CTL_OPENED) {
        opened(s, &m.err);
    } else if (m.kind == CTL_SERVING) {
        if (s->past_fd >= 0)
            (void)ctl_send(s->ctl, CTL_PAST, s->past_fd, NULL);
        else if (!s->ever_served && past_wanted(s->o))
            start_helper(s);
        s->ever_served = s->serving = true;
        if (s->helper <= 0)
            announce(s);
    }
}

static void hear_helper(struct sup *s)
{
    struct ctl_msg m;
    int fd;

    if (ctl_recv(s->helper_ctl, &m, &fd) == 1 && m.kind == CTL_MOUNTED && fd >= 0) {
        char dir[PATH_MAX];
        struct err err = { 0 };

        s->past_fd = fd;
        if (mount_past_dir(s->o, dir, sizeof dir, &err) == 0)
            s->past_dev = dev_at(s, dir);
        if (s->serving)                  /* else it gets it when it says so */
            (void)ctl_send(s->ctl, CTL_PAST, fd, NULL);
    } else {
        fs_log("the past is not shown: it could not be mounted");
    }
    close_fd(&s->helper_ctl);
    announce(s);
}

/* ---- what the kernel says ---- */

static void worker_crashed(struct sup *s, int status)
{
    uint64_t now = now_ms(), first;

    if (WIFSIGNALED(status))
        fs_log("worker %ld was killed by signal %d", (long)s->worker, WTERMSIG(status));
    else if (WEXITSTATUS(status) != WORKER_REFUSED)
        fs_log("worker %ld ended with code %d", (long)s->worker, WEXITSTATUS(status));
    if (s->live_fd < 0) {
        if (s->code == 0)
            give_up(s, ERR_IO, "the worker died before the store was open");
        s->over = true;
        return;
    }
    first = s->crash_ms[s->crashes % CRASHES_MAX];
    s->crash_ms[s->crashes++ % CRASHES_MAX] = now;
    if (s->crashes > CRASHES_MAX && now - first < CRASHES_MS) {
        give_up(s, ERR_IO, "the worker failed again and again: unmounting; spare check says what is wrong with the store");
        return;
    }
    /* At once the first time; then 100 ms, 200 ms, ... for crashes in a row. */
    s->start_at_ms = now;
    for (unsigned i = 1; i < CRASHES_MAX && i < s->crashes; i++)
        if (now - s->crash_ms[(s->crashes - 1 - i) % CRASHES_MAX] < CRASHES_MS)
            s->start_at_ms += 100u;
    if (s->start_at_ms == 0)
        s->start_at_ms = 1;
}

static void worker_ended(struct sup *s, int status)
{
    close_fd(&s->ctl);
    if (s->killed) {
        if (s->code == 0)
            s->code = err_set(s->err, ERR_IO, "%s was not closed cleanly; the next mount recovers it", s->o->store);
        s->over = true;
    } else if (WIFEXITED(status) && (WEXITSTATUS(status) == WORKER_DONE || WEXITSTATUS(status) == WORKER_UNCLEAN)) {
        if (WEXITSTATUS(status) == WORKER_UNCLEAN && s->code == 0)
            s->code = err_set(s->err, ERR_IO, "%s was not closed cleanly; the next mount recovers it", s->o->store);
        s->over = true;
    } else if (s->ending && s->live_fd < 0) {
        s->over = true;
    } else if (s->replaced && !s->ending) {
        s->start_at_ms = 1;
    } else {
        worker_crashed(s, status);
    }
    s->worker = 0;
    s->replaced = false;
}

static void reap_children(struct sup *s)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == s->worker)
            worker_ended(s, status);
        else if (pid == s->helper)
            s->helper = 0;
        else if (pid == s->ender)
            s->ender = 0;
    }
}

static void hear_signal(struct sup *s)
{
    struct signalfd_siginfo si;

    while (read(s->sig, &si, sizeof si) == (ssize_t)sizeof si) {
        if (si.ssi_signo == SIGCHLD)
            reap_children(s);
        else
            end_mount(s);
    }
}

/* ---- another program ---- */

static void hand_on(const struct sup *s, bool on)
{
    const int fds[] = { mem_fd(s->mem), s->live_fd, s->past_fd, s->ctl };

    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        if (fds[i] >= 0)
            (void)fcntl(fds[i], F_SETFD, on ? 0 : FD_CLOEXEC);
}

/*
 * Becomes that program, which calls supervisor_resume. The worker serves on meanwhile, so that a program that cannot be run, or is not ours, costs
 * nothing but the supervisor: this returns, or the worker finds itself without one.
 */
static void become(struct sup *s)
{
    char link[64], path[PATH_MAX], options[FS_OPTIONS_TEXT_MAX], handed[200];
    char *argv[] = { (char[]){ "spare" }, (char[]){ "mount" }, (char[]){ "--resume" }, handed, (char[]){ "-o" }, options, NULL, NULL, NULL, NULL };
    int n = 6;
    ssize_t len;

    snprintf(link, sizeof link, "/proc/self/fd/%d", s->program);
    errno = ENAMETOOLONG;
    len = readlink(link, path, sizeof path - 1);
    if (len > 0 && fs_options_text(s->o, options, sizeof options) == 0) {
        path[len] = '\0';
        snprintf(handed, sizeof handed, "%d,%d,%d,%llu,%llu,%d,%ld", mem_fd(s->mem), s->live_fd, s->past_fd, (unsigned long long)s->live_dev,
                 (unsigned long long)s->past_dev, s->ctl, (long)s->worker);
        if (s->o->foreground)
            argv[n++] = (char[]){ "-f" };
        argv[n++] = (char *)(uintptr_t)s->o->store;
        argv[n++] = (char *)(uintptr_t)s->o->dir;
        hand_on(s, true);
        fs_log("going on as %s", path);
        execv(path, argv);
        hand_on(s, false);
    }
    fs_log("going on as this program: the other one could not be run: %s", strerror(errno));
    close_fd(&s->program);
}

/* Nothing else is under way: the mount is announced, its past mounted, nobody ends it. */
static bool may_become(const struct sup *s)
{
    return s->program >= 0 && s->announced && s->serving && s->worker > 0 && s->ctl >= 0 && s->helper <= 0 && s->helper_ctl < 0 && s->ender <= 0 && !s->ending;
}

/* ---- life ---- */

static int next_timeout(const struct sup *s)
{
    uint64_t now = now_ms(), at = UINT64_MAX;

    if (s->start_at_ms && s->start_at_ms < at)
        at = s->start_at_ms;
    if (s->stop_at_ms && s->stop_at_ms < at)
        at = s->stop_at_ms;
    if (s->room && s->room_at_ms < at)
        at = s->room_at_ms;
    return at == UINT64_MAX ? -1 : at <= now ? 0 : (int)(at - now);
}

static void run(struct sup *s)
{
    if (s->worker <= 0)
        start_worker(s);
    while (!s->over) {
        struct pollfd p[3] = { { .fd = s->sig, .events = POLLIN }, { .fd = s->ctl, .events = POLLIN },
                               { .fd = s->helper_ctl, .events = POLLIN } };

        if (poll(p, 3, next_timeout(s)) < 0 && errno != EINTR) {
            give_up(s, ERR_IO, "supervisor: poll failed");
            break;
        }
        if (p[1].revents)
            hear_worker(s);
        if (p[2].revents)
            hear_helper(s);
        if (p[0].revents)
            hear_signal(s);
        if (may_become(s))
            become(s);
        if (s->start_at_ms && now_ms() >= s->start_at_ms)
            start_worker(s);
        if (s->room && now_ms() >= s->room_at_ms)
            look_for_room(s);
        if (s->stop_at_ms && now_ms() >= s->stop_at_ms) {
            s->stop_at_ms = now_ms() + STOP_AFTER_MS;
            if (++s->stops > STOPS_MAX && s->worker > 0) {
                fs_log("worker %ld does not end: killed; the next mount recovers the store", (long)s->worker);
                s->killed = true;
                (void)kill(s->worker, SIGKILL);
            } else if (s->ctl >= 0)
                (void)ctl_send(s->ctl, CTL_STOP, -1, NULL);
        }
    }
}

/* Whatever is still mounted goes now, lazily: nobody answers any more. */
static void clear_mounts(struct sup *s)
{
    char dir[PATH_MAX];
    struct err err = { 0 };
    bool live = connected(s->live_fd), past = connected(s->past_fd);

    /* With the last descriptor closed the kernel answers ENOTCONN, so that nothing below can hang. */
    close_fd(&s->past_fd);
    if (s->live_fd >= 0) {
        if (s->live)
            fuse_session_destroy(s->live);
        else
            close(s->live_fd);           /* the session was that of another program */
        s->live = NULL;
        s->live_fd = -1;
        if (mount_past_dir(s->o, dir, sizeof dir, &err) == 0 && s->past_dev != 0 && dev_at(s, dir) == s->past_dev &&
            (past || aborted(dir)))
            (void)mount_take_down(dir, true, &err);
        if (s->live_dev != 0 && dev_at(s, s->o->dir) == s->live_dev && (live || aborted(s->o->dir)))
            (void)mount_take_down(s->o->dir, true, &err);
        mount_past_done(s->o);
    }
}

static void blank(struct sup *s, const struct fs_options *o, struct err *err)
{
    *s = (struct sup){ .o = o, .again = *o, .live_fd = -1, .past_fd = -1, .ctl = -1, .helper_ctl = -1, .sig = -1, .program = -1, .err = err };
}

/* From its memory on. */
static int live(struct sup *s)
{
    sigset_t set, old;

    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGPIPE);
    sigprocmask(SIG_BLOCK, &set, &old);
    sigdelset(&set, SIGHUP);
    sigdelset(&set, SIGPIPE);
    s->sig = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (s->sig < 0)
        s->code = err_from_errno(s->err, errno, "supervisor");
    else
        run(s);
    clear_mounts(s);
    close_fd(&s->ctl);
    close_fd(&s->sig);
    close_fd(&s->program);
    mem_free(s->mem);
    sigprocmask(SIG_SETMASK, &old, NULL);
    return s->code;
}

int supervisor_run(const struct fs_options *o, void (*ready)(void *arg), void *arg, struct err *err)
{
    struct err local = { 0 };
    struct sup s;
    int rc;

    blank(&s, o, err ? err : &local);
    s.ready = ready;
    s.ready_arg = arg;
    rc = mem_new(&s.mem, s.err);
    return rc < 0 ? rc : live(&s);
}

int supervisor_resume(const struct fs_options *o, const char *handed, struct err *err)
{
    unsigned long long live_dev, past_dev;
    struct sup s;
    long worker;
    int mem, rc;
    char end;

    blank(&s, o, err);
    if (sscanf(handed, "%d,%d,%d,%llu,%llu,%d,%ld%c", &mem, &s.live_fd, &s.past_fd, &live_dev, &past_dev, &s.ctl, &worker, &end) != 7 || mem < 0 ||
        s.live_fd < 0 || s.ctl < 0 || worker <= 0)
        return err_set(err, ERR_USAGE, "mount --resume %s: expected what a running mount hands over", handed);
    s.live_dev = live_dev;
    s.past_dev = past_dev;
    s.worker = (pid_t)worker;
    s.ever_served = s.announced = s.replaced = true;
    rc = mem_adopt(mem, &s.mem, err);
    if (rc < 0)
        return rc;                       /* the worker serves on alone */
    hand_on(&s, false);
    mem_head(s.mem)->planned = mem_head(s.mem)->workers;
    (void)kill(s.worker, SIGKILL);       /* all it had in its hands is found by the next one, as after any death */
    return live(&s);
}
