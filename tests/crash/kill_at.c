/*
 * kill_at: kill -9 of a mount's worker at one exact point of one request's life, seen from outside: no hook in the product.
 *
 *   kill_at [--skip N] [--seconds S] PID OPCODES POINT
 *
 * PID is the worker, OPCODES numbers of FUSE requests with commas between them, or `any` (all that are answered). Every thread of the worker is
 * traced (ptrace), its system calls looked at: a read of /dev/fuse tells which request that thread has got, a pwritev of a record with the same
 * unique into a segment of the log its append, a writev to the same device with the same unique its answer, by whatever thread. POINT:
 *
 *   read       it has been read, nothing was done
 *   append     its record is about to be written to the log
 *   appended   its record is in the log, not applied
 *   applied    as `reply`, of a request whose record is in the log
 *   reply      its answer is about to be written: that call is not made any more
 *   replied    its answer was written
 *
 * The first N requests that come to that point pass. Prints `armed` when all threads are traced; then one line
 *
 *   killed POINT opcode O unique U node I at T          T: CLOCK_MONOTONIC, ns, just before the kill
 *
 * and exits with 0; 1 trouble, 2 usage, 3 nothing came to that point in S seconds (10; the worker lives), 4 the worker ended by itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <dirent.h>
#include <linux/ptrace.h>

#define TRACE_OPTIONS (PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE)

enum {
    THREADS_MAX = 256, PENDING_MAX = 256,
    RECORD_UNIQUE = 88,                  /* of a record's head: FORMAT.md */
};

enum point { AT_READ, AT_APPEND, AT_APPENDED, AT_APPLIED, AT_REPLY, AT_REPLIED, N_POINTS };
static const char *const point_names[N_POINTS] = { "read", "append", "appended", "applied", "reply", "replied" };

struct thread {
    pid_t tid;
    bool in_call;
    uint64_t nr, arg[6];
};

/* A request that was read and is not answered. */
struct request {
    uint64_t unique, node;               /* unique 0: none */
    uint32_t opcode;
    int fd;
    bool appended;
};

static struct thread threads[THREADS_MAX];
static struct request pending[PENDING_MAX];
static size_t n_threads, next_pending;
static pid_t worker;
static uint64_t wanted;                  /* bits of opcodes */
static enum point point;
static unsigned long skip;
static volatile sig_atomic_t late;

static int trouble(const char *what)
{
    fprintf(stderr, "kill_at: %s: %s\n", what, strerror(errno));
    return 1;
}

static void on_alarm(int sig)
{
    (void)sig;
    late = 1;
}

static bool look(uint64_t at, void *to, size_t len)
{
    struct iovec mine = { to, len }, his = { (void *)(uintptr_t)at, len };

    return process_vm_readv(worker, &mine, 1, &his, 1, 0) == (ssize_t)len;
}

static bool fd_is(uint64_t fd, const char *part)
{
    char link[64], path[4096];
    ssize_t n;

    snprintf(link, sizeof link, "/proc/%ld/fd/%d", (long)worker, (int)fd);
    n = readlink(link, path, sizeof path - 1);
    if (n < 0)
        return false;
    path[n] = '\0';
    return strstr(path, part) != NULL;
}

/* ---- threads ---- */

static struct thread *thread_of(pid_t tid)
{
    for (size_t i = 0; i < n_threads; i++)
        if (threads[i].tid == tid)
            return threads + i;
    if (n_threads == THREADS_MAX)
        return NULL;
    threads[n_threads] = (struct thread){ .tid = tid };
    return threads + n_threads++;
}

/* Seizes what is not seized yet; < 0 trouble, else how many were new. */
static int seize_all(void)
{
    char path[64];
    struct dirent *e;
    int fresh = 0;
    DIR *d;

    snprintf(path, sizeof path, "/proc/%ld/task", (long)worker);
    d = opendir(path);
    if (!d)
        return -1;
    while ((e = readdir(d)) != NULL) {
        pid_t tid = (pid_t)atol(e->d_name);
        bool known = tid <= 0;

        for (size_t i = 0; i < n_threads && !known; i++)
            known = threads[i].tid == tid;
        if (known)
            continue;
        if (ptrace(PTRACE_SEIZE, tid, NULL, TRACE_OPTIONS) < 0) {
            if (errno == ESRCH || errno == EPERM)    /* ended meanwhile; or a child of one that is seized, which came with it */
                continue;
            closedir(d);
            return -1;
        }
        if (!thread_of(tid) || ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) < 0) {
            closedir(d);
            return -1;
        }
        fresh++;
    }
    closedir(d);
    return fresh;
}

/* ---- what they do ---- */

static bool opcode_wanted(uint32_t opcode) { return opcode < 64 && (wanted >> opcode & 1) != 0; }

static struct request *request_of(uint64_t unique, int fd)
{
    for (size_t i = 0; unique != 0 && i < PENDING_MAX; i++)
        if (pending[i].unique == unique && (fd < 0 || pending[i].fd == fd))
            return pending + i;
    return NULL;
}

/* ${r} has come to ${here}: true when that is what was waited for. */
static bool reached(const struct request *r, enum point here)
{
    if (here != point && !(here == AT_REPLY && point == AT_APPLIED && r->appended))
        return false;
    return skip == 0 || skip-- == 0;
}

/* The request whose record this pwritev is to append, if any. */
static struct request *appending(const struct thread *t)
{
    struct iovec v[2];
    uint64_t unique;

    if (t->nr != SYS_pwritev || t->arg[2] < 2 || !look(t->arg[1], v, sizeof v) || v[1].iov_len < RECORD_UNIQUE + sizeof unique ||
        !look((uint64_t)(uintptr_t)v[1].iov_base + RECORD_UNIQUE, &unique, sizeof unique) || !fd_is(t->arg[0], "/log/"))
        return NULL;
    return request_of(unique, -1);
}

/* The request this write to the device answers, if any. */
static struct request *answering(const struct thread *t)
{
    struct fuse_out_header h;
    struct iovec v;

    if (t->nr != SYS_writev || !look(t->arg[1], &v, sizeof v) || v.iov_len < sizeof h || !look((uint64_t)(uintptr_t)v.iov_base, &h, sizeof h))
        return NULL;
    return request_of(h.unique, (int)t->arg[0]);
}

static struct request *was_read(const struct thread *t, int64_t n)
{
    struct fuse_in_header h;
    struct request *r;

    if (t->nr != SYS_read || n < (int64_t)sizeof h || !look(t->arg[1], &h, sizeof h) || h.len != n || !fd_is(t->arg[0], "/dev/fuse"))
        return NULL;
    h.opcode &= 0xffff;
    if (!opcode_wanted(h.opcode))
        return NULL;
    r = pending + next_pending++ % PENDING_MAX;
    *r = (struct request){ .unique = h.unique, .node = h.nodeid, .opcode = h.opcode, .fd = (int)t->arg[0] };
    return r;
}

/* One stop at a system call. The request that is where it was waited for, or NULL. */
static struct request *at_call(struct thread *t)
{
    struct ptrace_syscall_info si;
    struct request *r = NULL;

    if (ptrace(PTRACE_GET_SYSCALL_INFO, t->tid, sizeof si, &si) <= 0)
        return NULL;
    if (si.op == PTRACE_SYSCALL_INFO_ENTRY) {
        t->in_call = true;
        t->nr = si.entry.nr;
        memcpy(t->arg, si.entry.args, sizeof t->arg);
        if ((r = appending(t)) != NULL)
            return reached(r, AT_APPEND) ? r : NULL;
        if ((r = answering(t)) != NULL)
            return reached(r, AT_REPLY) ? r : NULL;
    } else if (si.op == PTRACE_SYSCALL_INFO_EXIT && t->in_call) {
        t->in_call = false;
        if (si.exit.is_error)
            return NULL;
        if ((r = was_read(t, si.exit.rval)) != NULL)
            return reached(r, AT_READ) ? r : NULL;
        if ((r = appending(t)) != NULL) {
            r->appended = true;
            return reached(r, AT_APPENDED) ? r : NULL;
        }
        if ((r = answering(t)) != NULL) {
            bool hit = reached(r, AT_REPLIED);

            if (!hit)
                r->unique = 0;
            return hit ? r : NULL;
        }
    }
    return NULL;
}

/* ---- the hunt ---- */

/* Reaps until the process is gone: before that its supervisor is not told. */
static int kill_worker(const struct request *r)
{
    struct timespec now;
    pid_t tid;
    int status;

    clock_gettime(CLOCK_MONOTONIC, &now);
    if (kill(worker, SIGKILL) < 0)
        return trouble("kill");
    alarm(0);
    while ((tid = waitpid(-1, &status, __WALL)) > 0 || errno == EINTR)
        if (tid == worker && (WIFSIGNALED(status) || WIFEXITED(status)))
            break;
    printf("killed %s opcode %" PRIu32 " unique %" PRIu64 " node %" PRIu64 " at %lld\n", point_names[point], r->opcode, r->unique, r->node,
           (long long)now.tv_sec * 1000000000 + now.tv_nsec);
    return 0;
}

static int hunt(void)
{
    while (!late) {
        int status, sig = 0, event;
        struct request *r = NULL;
        struct thread *t;
        pid_t tid = waitpid(-1, &status, __WALL);

        if (tid < 0 && errno == EINTR)
            continue;
        if (tid < 0)
            return trouble("waitpid");
        if (!WIFSTOPPED(status)) {
            if (tid == worker) {
                printf("ended by itself\n");
                return 4;
            }
            continue;
        }
        t = thread_of(tid);
        if (!t)
            return trouble("more threads than expected");
        event = status >> 16;
        if (WSTOPSIG(status) == (SIGTRAP | 0x80))
            r = at_call(t);
        else if (event == 0)
            sig = WSTOPSIG(status);
        if (r)
            return kill_worker(r);
        (void)ptrace(PTRACE_SYSCALL, tid, NULL, sig);
    }
    printf("nothing came to that point\n");
    return 3;                                /* the kernel lets go of all threads when we end */
}

static bool parse_opcodes(const char *s)
{
    if (strcmp(s, "any") == 0) {
        wanted = ~(1ull << FUSE_FORGET | 1ull << FUSE_BATCH_FORGET | 1ull << FUSE_INTERRUPT);
        return true;
    }
    while (*s) {
        char *end;
        unsigned long op = strtoul(s, &end, 10);

        if (end == s || op >= 64 || (*end != ',' && *end != '\0'))
            return false;
        wanted |= 1ull << op;
        s = *end ? end + 1 : end;
    }
    return wanted != 0;
}

int main(int argc, char **argv)
{
    struct sigaction sa = { .sa_handler = on_alarm };    /* no SA_RESTART: waitpid must return */
    unsigned seconds = 10;
    int i = 1, fresh;

    for (; i + 1 < argc && strncmp(argv[i], "--", 2) == 0; i += 2) {
        if (strcmp(argv[i], "--skip") == 0)
            skip = strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--seconds") == 0)
            seconds = (unsigned)strtoul(argv[i + 1], NULL, 10);
        else
            break;
    }
    if (argc - i == 3) {
        worker = (pid_t)atol(argv[i]);
        while (point < N_POINTS && strcmp(argv[i + 2], point_names[point]) != 0)
            point++;
    }
    if (argc - i != 3 || worker <= 0 || point == N_POINTS || !parse_opcodes(argv[i + 1])) {
        fprintf(stderr, "usage: kill_at [--skip N] [--seconds S] PID OPCODES|any read|append|appended|applied|reply|replied\n");
        return 2;
    }
    sigaction(SIGALRM, &sa, NULL);
    /* Threads may be made while we go through them. */
    while ((fresh = seize_all()) > 0)
        ;
    if (fresh < 0)
        return trouble("ptrace");
    printf("armed\n");
    fflush(stdout);
    alarm(seconds);
    return hunt();
}
