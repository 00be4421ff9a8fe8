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
static void become(char *const argv[], char *const env[], int out, int data, bool tied)
{
    int null = open("/dev/null", O_RDONLY);

    (void)setpgid(0, 0);
    if (tied)
        (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    signal(SIGPIPE, SIG_DFL);
    if (null < 0 || dup2(null, 0) < 0 || dup2(data >= 0 ? data : out, 1) < 0 || dup2(out, 2) < 0)
        _exit(126);
    for (; env && *env; env++)
        (void)putenv(*env);
    execvp(argv[0], argv);
    fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

int proc_start(char *const argv[], char *const env[], const char *log, bool apart, int64_t timeout_ms, bool tied, struct proc *p, struct err *err)
{
    *p = (struct proc){ .out = -1, .data = -1 };
    p->out = log ? open(log, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : memfd_create("out", MFD_CLOEXEC);
    if (p->out >= 0 && apart)
        p->data = memfd_create("data", MFD_CLOEXEC);
    if (p->out < 0 || (apart && p->data < 0)) {
        int e = errno;

        proc_release(p);
        return err_from_errno(err, e, "%s", log ? log : "memfd");
    }
    p->began_ms = proc_ms();
    p->deadline_ms = p->began_ms + timeout_ms;
    p->pid = fork();
    if (p->pid == 0)
        become(argv, env, p->out, p->data, tied);
    if (p->pid < 0) {
        int e = errno;

        proc_release(p);
        return err_from_errno(err, e, "fork");
    }
    (void)setpgid(p->pid, p->pid);
    return 0;
}

bool proc_poll(struct proc *p, struct proc_end *end)
{
    int64_t now = proc_ms();
    int status = 0;
    pid_t got = waitpid(p->pid, &status, WNOHANG);

    if (got == 0 && now < p->deadline_ms)
        return false;
    if (got == 0 && !p->killed) {
        (void)kill(-p->pid, SIGTERM);
        p->killed = true;
        p->deadline_ms = now + GRACE_MS;
        return false;
    }
    if (got == 0) {
        /* One that sleeps in the kernel may not go even now: it is not waited for. */
        (void)kill(-p->pid, SIGKILL);
        (void)poll(NULL, 0, POLL_MS);
        (void)waitpid(p->pid, &status, WNOHANG);
    }
    end->ms = proc_ms() - p->began_ms;
    end->exit = p->killed ? -1 : got < 0 ? 255 : WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    p->pid = 0;
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

char *proc_data(const struct proc *p, size_t cap)
{
    const int fd = p->data >= 0 ? p->data : p->out;
    struct stat st;
    size_t len = fstat(fd, &st) == 0 ? (size_t)st.st_size : 0;
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
    text[n > 0 ? n : 0] = '\0';
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
