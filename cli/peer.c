#include "cli/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ARGS_MAX = 64, END_WAIT_MS = 10000, END_POLL_MS = 20, SSH_FAILED = 255, NOT_FOUND = 127 };

const char *peer_host(const char *target, char *host, size_t cap)
{
    const char *colon, *slash = strchr(target, '/'), *h = target;
    size_t n;

    if (*target == '[') {                /* [::1]:/path */
        const char *end = strchr(target, ']');

        if (!end || end[1] != ':')
            return NULL;
        h = target + 1;
        n = (size_t)(end - h);
        colon = end + 1;
    } else {
        colon = strchr(target, ':');
        if (!colon || colon == target || (slash && slash < colon))
            return NULL;
        n = (size_t)(colon - target);
    }
    if (n >= cap || !colon[1])
        return NULL;
    memcpy(host, h, n);
    host[n] = '\0';
    return colon + 1;
}

/* One word for a shell at the other end, whatever its bytes. */
static char *quoted(const char *s)
{
    char *q = malloc(4 * strlen(s) + 3), *o = q;

    if (!q)
        return NULL;
    *o++ = '\'';
    for (; *s; s++) {
        if (*s == '\'') {
            memcpy(o, "'\\''", 4);
            o += 4;
        } else {
            *o++ = *s;
        }
    }
    *o++ = '\'';
    *o = '\0';
    return q;
}

/* The words of --ssh; they stay in ${words}. */
static int split(char *words, char **argv, int max)
{
    char *save = NULL;
    int n = 0;

    for (char *w = strtok_r(words, " ", &save); w && n < max; w = strtok_r(NULL, " ", &save))
        argv[n++] = w;
    return n;
}

struct command_line { char *argv[ARGS_MAX + 16]; char *words, *remote; };

/* What ssh is called with to run c->remote on that host. */
static int ssh_args(struct command_line *c, char *host, const struct peer_options *opt, struct err *err)
{
    static char batch[] = "-oBatchMode=yes", connect[] = "-oConnectTimeout=10", alive[] = "-oServerAliveInterval=10", none[] = "-T", end[] = "--";
    int n;

    c->words = strdup(opt->ssh ? opt->ssh : "ssh");
    if (!c->words || !c->remote)
        return err_set(err, ERR_NOMEM, "no memory");
    n = split(c->words, c->argv, ARGS_MAX);
    if (n == 0)
        return err_set(err, ERR_USAGE, "--ssh: expected a command, found none");
    c->argv[n++] = batch;
    c->argv[n++] = connect;
    c->argv[n++] = alive;
    c->argv[n++] = none;
    c->argv[n++] = end;
    c->argv[n++] = host;
    c->argv[n++] = c->remote;
    c->argv[n] = NULL;
    return 0;
}

static int remote_args(struct command_line *c, char *host, const char *store, const struct peer_options *opt, struct err *err)
{
    char *q = quoted(store);

    if (!q || asprintf(&c->remote, "%s serve --stdio%s%s -- %s", opt->remote ? opt->remote : "spare", opt->moved ? " --moved" : "", opt->copied ? " --copied" : "", q) < 0)
        c->remote = NULL;
    free(q);
    return ssh_args(c, host, opt, err);
}

static void local_args(struct command_line *c, const char *dir, const struct peer_options *opt)
{
    static char spare[] = "spare", serve[] = "serve", stdio[] = "--stdio", moved[] = "--moved", copied[] = "--copied", end[] = "--";
    int n = 0;

    c->argv[n++] = spare;
    c->argv[n++] = serve;
    c->argv[n++] = stdio;
    if (opt->moved)
        c->argv[n++] = moved;
    if (opt->copied)
        c->argv[n++] = copied;
    c->argv[n++] = end;
    c->argv[n++] = (char *)(uintptr_t)dir;
    c->argv[n] = NULL;
}

int peer_start(const char *target, const struct peer_options *opt, struct peer *p, struct err *err)
{
    struct command_line c = { 0 };
    char host[256];
    const char *store = peer_host(target, host, sizeof host);
    int sv[2], r = 0;

    p->pid = -1;
    p->fd = -1;
    if (store && host[0] == '-')
        return err_set(err, ERR_USAGE, "%s: expected HOST:STORE, found a host that looks like an option", target);
    if (store)
        r = remote_args(&c, host, store, opt, err);
    else
        local_args(&c, target, opt);
    if (r == 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv))
        r = err_from_errno(err, errno, "%s: socketpair", target);
    if (r)
        goto out;
    p->pid = fork();
    if (p->pid == 0) {
        int line = fcntl(sv[1], F_DUPFD_CLOEXEC, 3);     /* it may be 0 or 1 itself, where these were closed */

        if (line < 0 || dup2(line, 0) < 0 || dup2(line, 1) < 0)
            _exit(1);
        /* A terminal's Ctrl-C is for the command; it tells this one by closing its end. */
        (void)setpgid(0, 0);
        if (store)
            execvp(c.argv[0], c.argv);
        else
            execv("/proc/self/exe", c.argv);
        fprintf(stderr, "spare: %s: %s\n", c.argv[0], strerror(errno));
        _exit(NOT_FOUND);
    }
    close(sv[1]);
    if (p->pid < 0) {
        r = err_from_errno(err, errno, "%s: fork", target);
        close(sv[0]);
        goto out;
    }
    p->fd = sv[0];
out:
    free(c.words);
    free(c.remote);
    return r;
}

int peer_end(struct peer *p, const char *target, int rc, struct err *err)
{
    int status = 0, waited = 0;

    if (p->fd >= 0)
        close(p->fd);
    p->fd = -1;
    if (p->pid <= 0)
        return rc;
    while (waitpid(p->pid, &status, WNOHANG) == 0) {
        if (waited >= END_WAIT_MS) {
            (void)kill(p->pid, SIGTERM);
            (void)waitpid(p->pid, &status, 0);
            break;
        }
        (void)poll(NULL, 0, END_POLL_MS);
        waited += END_POLL_MS;
    }
    p->pid = -1;
    if (rc != ERR_AWAY || !WIFEXITED(status))
        return rc;
    if (WEXITSTATUS(status) == SSH_FAILED)
        err_set(err, rc, "%s: the host cannot be reached, or does not let this user in without asking (see above)", target);
    else if (WEXITSTATUS(status) == NOT_FOUND)
        err_set(err, rc, "%s: expected spare at the other end, found none; install it there, or say where by --remote-spare", target);
    return rc;
}

/* ---- commands at the other end ---- */

/* To its end: its exit status. */
static int run(const char *program, char **argv, bool quiet, struct err *err)
{
    int status = 0;
    pid_t pid = fork();

    if (pid < 0)
        return err_from_errno(err, errno, "%s: fork", program);
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);

        if (null < 0 || dup2(null, 0) < 0 || (quiet && dup2(null, 1) < 0))
            _exit(1);
        if (null > 2)
            close(null);
        execvp(program, argv);
        fprintf(stderr, "spare: %s: %s\n", argv[0], strerror(errno));
        _exit(NOT_FOUND);
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int run_there(char *host, char *remote, const struct peer_options *opt, bool quiet, struct err *err)
{
    struct command_line c = { .remote = remote };
    int r = host[0] == '-' ? err_set(err, ERR_USAGE, "%s: expected a host, found what looks like an option", host) : ssh_args(&c, host, opt, err);

    if (r == 0)
        r = run(c.argv[0], c.argv, quiet, err);
    free(c.words);
    free(remote);
    return r;
}

int peer_run(const char *target, const struct peer_options *opt, const char *verb, struct err *err)
{
    char host[256], *q, *remote = NULL;
    char *argv[] = { (char[]){ "spare" }, (char *)(uintptr_t)verb, (char[]){ "--" }, (char *)(uintptr_t)target, NULL };
    const char *store = peer_host(target, host, sizeof host);

    if (!store)
        return run("/proc/self/exe", argv, true, err);
    q = quoted(store);
    if (!q || asprintf(&remote, "%s %s -- %s", opt->remote ? opt->remote : "spare", verb, q) < 0)
        remote = NULL;
    free(q);
    return run_there(host, remote, opt, true, err);
}

int peer_shell(const char *target, const struct peer_options *opt, const char *command, struct err *err)
{
    char host[256];
    char *argv[] = { (char[]){ "sh" }, (char[]){ "-c" }, (char *)(uintptr_t)command, NULL };

    if (!target || !peer_host(target, host, sizeof host))
        return run("/bin/sh", argv, false, err);
    return run_there(host, strdup(command), opt, false, err);
}
