#include "cli/busy.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Does the link LINK (of /proc) lead to ${dir} or below? Its text is enough; following it could hang on a dead mount. */
static bool leads_into(int procfd, const char *link, const char *dir, char *path, size_t cap)
{
    size_t n = strlen(dir);
    ssize_t got = readlinkat(procfd, link, path, cap - 1);

    if (got <= 0)
        return false;
    path[got] = '\0';
    return n == 1 ? path[0] == '/' : strncmp(path, dir, n) == 0 && (path[n] == '/' || path[n] == '\0' || path[n] == ' ');
}

static bool can_write(int procfd, const char *fd)
{
    char name[64], line[128];
    bool yes = false;
    unsigned flags;
    FILE *f;
    int d;

    snprintf(name, sizeof name, "fdinfo/%.20s", fd);
    d = openat(procfd, name, O_RDONLY | O_CLOEXEC);
    f = d >= 0 ? fdopen(d, "r") : NULL;
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "flags: %o", &flags) == 1)
            yes = (flags & O_ACCMODE) != O_RDONLY;
    if (f)
        fclose(f);
    else if (d >= 0)
        close(d);
    return yes;
}

static bool held_fd(int procfd, const char *dir, bool writers, struct busy_hold *h)
{
    int d = openat(procfd, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *fds = d >= 0 ? fdopendir(d) : NULL;
    bool found = false;
    struct dirent *e;

    while (fds && !found && (e = readdir(fds))) {
        char link[64];

        if (e->d_name[0] == '.')
            continue;
        snprintf(link, sizeof link, "fd/%.20s", e->d_name);
        if (leads_into(procfd, link, dir, h->path, sizeof h->path) && (!writers || can_write(procfd, e->d_name))) {
            snprintf(h->what, sizeof h->what, "fd %.10s", e->d_name);
            found = true;
        }
    }
    if (fds)
        closedir(fds);
    else if (d >= 0)
        close(d);
    return found;
}

static bool held_map(int procfd, const char *dir, struct busy_hold *h)
{
    int d = openat(procfd, "maps", O_RDONLY | O_CLOEXEC);
    FILE *f = d >= 0 ? fdopen(d, "r") : NULL;
    char *line = NULL, *p;
    size_t cap = 0, n = strlen(dir);
    bool found = false;

    while (f && !found && getline(&line, &cap, f) > 0) {
        p = strchr(line, '/');
        if (p && strncmp(p, dir, n) == 0 && (p[n] == '/' || n == 1)) {
            p[strcspn(p, "\n")] = '\0';
            snprintf(h->path, sizeof h->path, "%s", p);
            snprintf(h->what, sizeof h->what, "map");
            found = true;
        }
    }
    free(line);
    if (f)
        fclose(f);
    else if (d >= 0)
        close(d);
    return found;
}

static bool held(int procfd, const char *dir, bool writers, struct busy_hold *h)
{
    static const char *const links[] = { "cwd", "root", "exe" };

    if (held_fd(procfd, dir, writers, h))
        return true;
    if (writers)
        return false;
    for (unsigned i = 0; i < 3; i++)
        if (leads_into(procfd, links[i], dir, h->path, sizeof h->path)) {
            snprintf(h->what, sizeof h->what, "%s", links[i]);
            return true;
        }
    return held_map(procfd, dir, h);
}

unsigned busy_each(const char *dir, bool writers, int (*fn)(void *arg, const struct busy_hold *h), void *arg)
{
    DIR *proc = opendir("/proc");
    unsigned n = 0;
    struct dirent *e;
    bool stop = false;

    while (proc && !stop && (e = readdir(proc))) {
        struct busy_hold h = { .pid = atoi(e->d_name) };
        int d, c;
        ssize_t got;

        if (h.pid <= 0)
            continue;
        d = openat(dirfd(proc), e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (d < 0)
            continue;
        if (held(d, dir, writers, &h)) {
            c = openat(d, "comm", O_RDONLY | O_CLOEXEC);
            got = c >= 0 ? read(c, h.command, sizeof h.command - 1) : 0;
            h.command[got > 0 ? got : 0] = '\0';
            h.command[strcspn(h.command, "\n")] = '\0';
            if (c >= 0)
                close(c);
            n++;
            stop = fn(arg, &h) != 0;
        }
        close(d);
    }
    if (proc)
        closedir(proc);
    return n;
}

struct list { char *buf; size_t cap, len; unsigned n; };

static int add_hold(void *arg, const struct busy_hold *h)
{
    struct list *l = arg;
    int n;

    l->n++;
    if (l->n > 8 || l->len + 1 >= l->cap)
        return 0;
    n = snprintf(l->buf + l->len, l->cap - l->len, "%s%d %s (%s, %s)", l->len ? "; " : "", h->pid, h->command, h->what, h->path);
    l->len += n < 0 ? 0 : (size_t)n;
    if (l->len >= l->cap)
        l->len = l->cap - 1;
    return 0;
}

unsigned busy_list(const char *dir, bool writers, char *buf, unsigned long cap)
{
    struct list l = { .buf = buf, .cap = cap };

    buf[0] = '\0';
    (void)busy_each(dir, writers, add_hold, &l);
    if (l.n > 8 && l.len + 32 < cap)
        snprintf(buf + l.len, cap - l.len, "; and %u more", l.n - 8);
    return l.n;
}
