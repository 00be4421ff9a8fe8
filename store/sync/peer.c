/* peer.c: see peer.h. */
#include "store/sync/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ARGS_MAX = 64, END_WAIT_MS = 10000, ASKED_WAIT_MS = 2000, TERM_WAIT_MS = 1000, END_POLL_MS = 20, SSH_FAILED = 255, NOT_FOUND = 127 };

extern char **environ;

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

struct command_line { char *argv[ARGS_MAX + 24]; char *words, *remote; };

/* Options of the far end, the same by either way; ${send} goes through a shell there, and is of letters and digits. */
static int serve_args(char **argv, const struct peer_options *opt)
{
    static char serve[] = "serve", stdio[] = "--stdio", moved[] = "--moved", copied[] = "--copied", send[] = "--send", as[] = "--as", anew[] = "--new", end[] = "--";
    int n = 0;

    argv[n++] = serve;
    argv[n++] = stdio;
    if (opt->moved)
        argv[n++] = moved;
    if (opt->copied)
        argv[n++] = copied;
    if (opt->send != NULL) {
        argv[n++] = send;
        argv[n++] = as;
        argv[n++] = (char *)(uintptr_t)opt->send;
    }
    if (opt->send != NULL && opt->anew)
        argv[n++] = anew;
    argv[n++] = end;
    return n;
}

/* The command there as one line for its shell. */
static char *remote_line(const char *store, const struct peer_options *opt)
{
    char *args[16], *line = NULL, *q = quoted(store);
    size_t len = 0;
    FILE *f = q ? open_memstream(&line, &len) : NULL;
    int n = serve_args(args, opt);

    if (f) {
        fputs(opt->remote ? opt->remote : "spare", f);
        for (int i = 0; i < n; i++)
            fprintf(f, " %s", args[i]);
        fprintf(f, " %s", q);
        if (fclose(f)) {
            free(line);
            line = NULL;
        }
    }
    free(q);
    return line;
}

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
    c->remote = remote_line(store, opt);
    return ssh_args(c, host, opt, err);
}

static void local_args(struct command_line *c, const char *dir, const struct peer_options *opt)
{
    static char spare[] = "spare";
    int n = 1;

    c->argv[0] = spare;
    n += serve_args(c->argv + 1, opt);
    c->argv[n++] = (char *)(uintptr_t)dir;
    c->argv[n] = NULL;
}

/* It has the line as its standard input and output and nothing else of ours, no signal blocked, and a group of its own: a terminal's Ctrl-C is for the command,
 * which tells it by closing its end. */
static int spawn(const struct command_line *c, bool by_path, int line, int said, pid_t *pid)
{
    posix_spawn_file_actions_t fa;
    posix_spawnattr_t at;
    sigset_t none, usual;
    int e;

    sigemptyset(&none);
    sigemptyset(&usual);
    sigaddset(&usual, SIGPIPE);
    posix_spawn_file_actions_init(&fa);
    posix_spawnattr_init(&at);
    posix_spawn_file_actions_adddup2(&fa, line, 0);
    posix_spawn_file_actions_adddup2(&fa, 0, 1);
    if (said >= 0)
        posix_spawn_file_actions_adddup2(&fa, said, 2);
#if defined __GLIBC__ && __GLIBC_PREREQ(2, 34)
    posix_spawn_file_actions_addclosefrom_np(&fa, 3);
#endif
    posix_spawnattr_setflags(&at, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setsigmask(&at, &none);
    posix_spawnattr_setsigdefault(&at, &usual);
    e = by_path ? posix_spawnp(pid, c->argv[0], &fa, &at, c->argv, environ) : posix_spawn(pid, "/proc/self/exe", &fa, &at, c->argv, environ);
    posix_spawn_file_actions_destroy(&fa);
    posix_spawnattr_destroy(&at);
    return e;
}

/* Above 2, so that putting one where a child has its standard files does not close another. */
static int raised(int fd)
{
    int up = fd > 2 || fd < 0 ? fd : fcntl(fd, F_DUPFD_CLOEXEC, 3);

    if (up != fd)
        close(fd);
    return up;
}

static int start(const struct command_line *c, const char *target, bool by_path, bool keep, struct peer *p, struct err *err)
{
    int sv[2] = { -1, -1 }, pp[2] = { -1, -1 }, e;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0 || (keep && pipe2(pp, O_CLOEXEC | O_NONBLOCK) < 0)) {
        e = err_from_errno(err, errno, "%s: a line to the other end", target);
    } else {
        sv[1] = raised(sv[1]);
        pp[1] = raised(pp[1]);
        e = spawn(c, by_path, sv[1], pp[1], &p->pid);
        if (e != 0) {
            p->pid = -1;
            e = err_set(err, e == ENOENT || e == EACCES ? ERR_USAGE : ERR_IO, "%s: expected to start %s, found: %s", target, c->argv[0], strerror(e));
        }
    }
    if (sv[1] >= 0)
        close(sv[1]);
    if (pp[1] >= 0)
        close(pp[1]);
    if (e == 0) {
        p->fd = sv[0];
        p->said = pp[0];
        return 0;
    }
    if (sv[0] >= 0)
        close(sv[0]);
    if (pp[0] >= 0)
        close(pp[0]);
    return e;
}

/* Those that would not end: one a try, for as long as that lasts. They are waited for when the next peer begins, or ends. */
static struct left { pid_t pid; struct left *next; } *left_behind;       /* left_lock */
static pthread_mutex_t left_lock = PTHREAD_MUTEX_INITIALIZER;

static void leave_behind(pid_t pid)
{
    struct left *l = malloc(sizeof *l);

    if (!l)
        return;              /* (it stays a zombie, once it has ended) */
    l->pid = pid;
    pthread_mutex_lock(&left_lock);
    l->next = left_behind;
    left_behind = l;
    pthread_mutex_unlock(&left_lock);
}

static void wait_for_those_left(void)
{
    pthread_mutex_lock(&left_lock);
    for (struct left **at = &left_behind; *at;) {
        struct left *l = *at;

        if (waitpid(l->pid, NULL, WNOHANG) == 0) {
            at = &l->next;
            continue;
        }
        *at = l->next;
        free(l);
    }
    pthread_mutex_unlock(&left_lock);
}

int peer_start(const char *target, const struct peer_options *opt, struct peer *p, struct err *err)
{
    struct command_line c = { 0 };
    char host[256];
    const char *store = peer_host(target, host, sizeof host);
    int r = 0;

    *p = (struct peer){ -1, -1, -1 };
    wait_for_those_left();
    if (store && host[0] == '-')
        return err_set(err, ERR_USAGE, "%s: expected HOST:STORE, found a host that looks like an option", target);
    if (store)
        r = remote_args(&c, host, store, opt, err);
    else
        local_args(&c, target, opt);
    if (r == 0)
        r = start(&c, target, store != NULL, opt->quiet, p, err);
    free(c.words);
    free(c.remote);
    return r;
}

/* ---- its end ---- */

/* False: it runs on after that time. */
static bool gone(pid_t pid, int *status, int ms)
{
    for (int waited = 0; waitpid(pid, status, WNOHANG) == 0; waited += END_POLL_MS) {
        if (waited >= ms)
            return false;
        (void)poll(NULL, 0, END_POLL_MS);
    }
    return true;
}

/* The last line of what it said; "" nothing. The pipe's buffer is all that is kept: who says more is not waited for. */
static void last_line(int fd, char *out, size_t cap)
{
    char buf[4096];
    size_t have = 0;
    ssize_t n;

    out[0] = '\0';
    while (fd >= 0 && (n = read(fd, buf + have, sizeof buf - 1 - have)) > 0) {
        have += (size_t)n;
        if (have > sizeof buf / 2) {
            memmove(buf, buf + have - sizeof buf / 4, sizeof buf / 4);
            have = sizeof buf / 4;
        }
    }
    while (have > 0 && (buf[have - 1] == '\n' || buf[have - 1] == '\r'))
        have--;
    buf[have] = '\0';
    if (have > 0)
        snprintf(out, cap, "%.*s", (int)cap - 1, strrchr(buf, '\n') ? strrchr(buf, '\n') + 1 : buf);
    for (char *p = out; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
}

int peer_end(struct peer *p, const char *target, int rc, struct err *err)
{
    char said[200], why[212] = "", host[256];
    int status = 0;

    if (p->fd >= 0)
        close(p->fd);
    p->fd = -1;
    if (p->pid > 0 && !gone(p->pid, &status, rc == ERR_INTR || p->said >= 0 ? ASKED_WAIT_MS : END_WAIT_MS)) {
        bool ended;

        (void)kill(-p->pid, SIGTERM);    /* of ssh the commands it began, too */
        ended = gone(p->pid, &status, TERM_WAIT_MS);
        if (!ended && peer_host(target, host, sizeof host)) {
            (void)kill(-p->pid, SIGKILL);
            (void)waitpid(p->pid, &status, 0);
        } else if (!ended) {             /* spare itself is closing its store: it ends when it has */
            leave_behind(p->pid);
            status = 0;
        }
    }
    wait_for_those_left();
    last_line(p->said, said, sizeof said);
    if (p->said >= 0)
        close(p->said);
    if (p->pid > 0 && rc == ERR_AWAY && WIFEXITED(status)) {
        if (said[0])
            snprintf(why, sizeof why, ": %s", said);
        else if (p->said < 0)
            snprintf(why, sizeof why, " (see above)");
        if (WEXITSTATUS(status) == SSH_FAILED)
            err_set(err, rc, "%s: the host cannot be reached, or does not let this user in without asking%s", target, why);
        else if (WEXITSTATUS(status) == NOT_FOUND)
            err_set(err, rc, "%s: expected spare at the other end, found none; install it there, or say where by --remote-spare", target);
    }
    p->pid = -1;
    p->said = -1;
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

int peer_run(const char *target, const struct peer_options *opt, const char *verb, const char *const *options, struct err *err)
{
    enum { OPTIONS = 8 };
    char host[256], words[256] = "", *q, *remote = NULL, *argv[OPTIONS + 5] = { (char[]){ "spare" }, (char *)(uintptr_t)verb };
    const char *store = peer_host(target, host, sizeof host);
    size_t n = 2, len = 0;

    for (; n < OPTIONS + 2 && *options && len < sizeof words; options++) {
        len += (size_t)snprintf(words + len, sizeof words - len, " %s", *options);
        argv[n++] = (char *)(uintptr_t)*options;
    }
    argv[n++] = (char[]){ "--" };
    argv[n] = (char *)(uintptr_t)target;

    if (!store)
        return run("/proc/self/exe", argv, true, err);
    q = quoted(store);
    if (!q || asprintf(&remote, "%s %s%s -- %s", opt->remote ? opt->remote : "spare", verb, words, q) < 0)
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
