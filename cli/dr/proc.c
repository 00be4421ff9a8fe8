#include "cli/dr/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { GRACE_MS = 1000, POLL_MS = 5 };

int64_t proc_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* In the child. */
static void become(char *const argv[], const struct proc_how *how, const struct proc *p)
{
    int null = open("/dev/null", O_RDONLY);

    (void)setpgid(0, 0);
    if (how->tied)
        (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    signal(SIGPIPE, SIG_DFL);
    if (null < 0 || dup2(null, 0) < 0 || dup2(p->data >= 0 ? p->data : p->out, 1) < 0 || dup2(p->out, 2) < 0)
        _exit(126);
    if (how->notes && proc_note(how->notes, p->deadline_ms)) {       /* what nobody would wait for does not begin */
        fprintf(stderr, "%s: %s\n", how->notes, strerror(errno));
        _exit(126);
    }
    for (char *const *env = how->env; env && *env; env++)
        (void)putenv(*env);
    execvp(argv[0], argv);
    fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

int proc_start(char *const argv[], const struct proc_how *how, struct proc *p, struct err *err)
{
    *p = (struct proc){ .out = -1, .data = -1, .notes = how->notes, .keep_bytes = how->keep_bytes ? how->keep_bytes : PROC_KEEP_BYTES };
    p->out = how->log ? open(how->log, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : memfd_create("out", MFD_CLOEXEC);
    if (p->out >= 0 && how->apart)
        p->data = memfd_create("data", MFD_CLOEXEC);
    if (p->out < 0 || (how->apart && p->data < 0)) {
        int e = errno;

        proc_release(p);
        return err_from_errno(err, e, "%s", how->log ? how->log : "memfd");
    }
    p->began_ms = proc_ms();
    p->deadline_ms = p->began_ms + how->timeout_ms;
    p->pid = fork();
    if (p->pid == 0)
        become(argv, how, p);
    if (p->pid < 0) {
        int e = errno;

        proc_release(p);
        return err_from_errno(err, e, "fork");
    }
    (void)setpgid(p->pid, p->pid);
    return 0;
}

/* One that says too much takes no more than that: what is between is given back, and reads as NUL bytes. */
static void bound(const struct proc *p)
{
    struct stat st;

    if (p->out >= 0 && fstat(p->out, &st) == 0 && st.st_size > 2 * PROC_KEEP_BYTES)
        (void)fallocate(p->out, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, st.st_size - PROC_KEEP_BYTES);
    if (p->data >= 0 && fstat(p->data, &st) == 0 && st.st_size > 2 * p->keep_bytes)
        (void)fallocate(p->data, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, p->keep_bytes, st.st_size - p->keep_bytes);
}

bool proc_poll(struct proc *p, struct proc_end *end)
{
    int64_t now = proc_ms();
    int status = 0;
    siginfo_t si = { 0 };
    bool over = waitid(P_PID, (id_t)p->pid, &si, WEXITED | WNOHANG | WNOWAIT) != 0 || si.si_pid == p->pid;

    bound(p);
    if (!over && now < p->deadline_ms)
        return false;
    if (!over && !p->killed) {
        (void)kill(-p->pid, SIGTERM);
        p->killed = true;
        p->deadline_ms = now + GRACE_MS;
        return false;
    }
    /* Also what it began: as long as it is not reaped, its number is that of its group. One that sleeps in the kernel may not go even now: it is not waited for. */
    if (p->killed)
        (void)kill(-p->pid, SIGKILL);
    if (!over)
        (void)poll(NULL, 0, POLL_MS);
    over = waitpid(p->pid, &status, WNOHANG) == p->pid;
    if (p->notes && (over || errno == ECHILD))
        proc_unnote(p->notes, p->pid);
    end->ms = proc_ms() - p->began_ms;
    end->exit = p->killed ? -1 : !over ? 255 : WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    p->pid = 0;
    bound(p);
    return true;
}

void proc_wait(struct proc *p, struct proc_end *end, const volatile int *stop)
{
    while (!proc_poll(p, end)) {
        if (stop && *stop && !p->killed)         /* (else it had no time to end by itself) */
            p->deadline_ms = 0;
        (void)poll(NULL, 0, POLL_MS);
    }
}

int64_t proc_data_bytes(const struct proc *p)
{
    struct stat st;

    return fstat(p->data >= 0 ? p->data : p->out, &st) == 0 ? st.st_size : 0;
}

char *proc_data(const struct proc *p, size_t cap)
{
    const int fd = p->data >= 0 ? p->data : p->out;
    size_t len = (size_t)proc_data_bytes(p);
    char *buf;
    ssize_t n;

    if (len > cap)
        len = cap;
    buf = malloc(len + 1);
    if (!buf)
        return NULL;
    n = pread(fd, buf, len, 0);
    buf[n > 0 ? n : 0] = '\0';
    return buf;
}

void proc_tail(const struct proc *p, char *buf, size_t cap)
{
    struct stat st;
    char text[1024];
    off_t from;
    ssize_t n;
    char *line;

    buf[0] = '\0';
    if (p->out < 0 || fstat(p->out, &st))
        return;
    from = st.st_size > (off_t)sizeof text - 1 ? st.st_size - (off_t)sizeof text + 1 : 0;
    n = pread(p->out, text, sizeof text - 1, from);
    while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == ' '))
        n--;
    n = n > 0 ? n : 0;
    for (ssize_t i = 0; i < n; i++)
        if (text[i] == '\0')
            text[i] = '?';
    text[n] = '\0';
    line = strrchr(text, '\n');
    snprintf(buf, cap, "%s", line ? line + 1 : text);
}

void proc_release(struct proc *p)
{
    if (p->out > 0)
        close(p->out);
    if (p->data > 0)
        close(p->data);
    p->out = p->data = -1;
}
