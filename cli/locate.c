#include "cli/locate.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct mount { char *dir, *root, *source; bool past; };

/* The kernel writes blanks and backslashes in names as \ooo. */
static void unescape(char *s)
{
    char *o = s;

    for (; *s; s++) {
        if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' && s[3] >= '0' && s[3] <= '7') {
            *o++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
            s += 3;
        } else {
            *o++ = *s;
        }
    }
    *o = '\0';
}

static bool within(const char *path, const char *dir)
{
    size_t n = strlen(dir);

    if (n == 1)
        return path[0] == '/';
    return strncmp(path, dir, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

/* mount_of(path, m): the innermost mount that ${path} lies in, if it is one of ours. Strings are malloced. */
static bool mount_of(const char *path, struct mount *m)
{
    FILE *f = fopen("/proc/self/mountinfo", "re");
    char *line = NULL;
    size_t cap = 0, best = 0;
    bool ours = false;

    memset(m, 0, sizeof *m);
    while (f && getline(&line, &cap, f) > 0) {
        char *save = NULL, *field[16] = { 0 }, *sep = strstr(line, " - ");
        char *type, *source;
        unsigned n = 0;

        if (!sep)
            continue;
        *sep = '\0';
        for (char *t = strtok_r(line, " ", &save); t && n < 16; t = strtok_r(NULL, " ", &save))
            field[n++] = t;
        type = strtok_r(sep + 3, " \n", &save);
        source = strtok_r(NULL, " \n", &save);
        if (n < 5 || !type || !source)
            continue;
        unescape(field[4]);
        /* The last of equals is on top. */
        if (!within(path, field[4]) || strlen(field[4]) < best)
            continue;
        best = strlen(field[4]);
        free(m->dir);
        free(m->root);
        free(m->source);
        ours = strcmp(type, "fuse.spare") == 0 || strcmp(type, "fuse.spare-past") == 0;
        unescape(field[3]);
        unescape(source);
        *m = (struct mount){ strdup(field[4]), strdup(field[3]), strdup(source), strcmp(type, "fuse.spare-past") == 0 };
    }
    free(line);
    if (f)
        fclose(f);
    return ours && m->dir && m->root && m->source;
}

int locate_was_store(const char *dir, struct err *err)
{
    static const char *const parts[] = { "log", "retained.0", "retained.1" };
    char path[PATH_MAX];
    struct stat st;
    unsigned n = 0;

    for (int i = 0; i < 3; i++)
        n += snprintf(path, sizeof path, "%s/%s", dir, parts[i]) < (int)sizeof path && stat(path, &st) == 0;
    return n < 2 ? 0 : err_set(err, ERR_DAMAGE, "%.200s: expected super.0 or super.1, found neither beside log/ and the retained set: who this store is is lost, and cannot be healed in place. Move it away; where a primary "
                               "is left, from there: spare sync STORE %.200s --new; else at a standby first: spare promote STORE", dir, dir);
}

static void mount_release(struct mount *m)
{
    free(m->dir);
    free(m->root);
    free(m->source);
}

bool locate_is_store(const char *dir)
{
    char path[PATH_MAX];
    struct stat st;

    for (int i = 0; i < 2; i++) {
        if (snprintf(path, sizeof path, "%s/super.%d", dir, i) >= (int)sizeof path)
            return false;
        if (stat(path, &st) == 0 && S_ISREG(st.st_mode))
            return true;
    }
    return false;
}

/* "a//b/./c/.." by text; symlinks were resolved where they exist. */
static void tidy(char *path)
{
    char *copy = strdup(path), *save = NULL, *o = path;

    if (!copy)
        return;
    *o = '\0';
    for (char *t = strtok_r(copy, "/", &save); t; t = strtok_r(NULL, "/", &save)) {
        if (strcmp(t, ".") == 0)
            continue;
        if (strcmp(t, "..") == 0) {
            while (o > path && *o != '/')
                o--;
            *o = '\0';
            continue;
        }
        *o++ = '/';
        memcpy(o, t, strlen(t) + 1);
        o += strlen(t);
    }
    if (o == path)
        memcpy(path, "/", 2);
    free(copy);
}

char *locate_absolute(const char *path, struct err *err)
{
    char *full = NULL, *real, *slash, *out = NULL;
    char cwd[PATH_MAX];
    char *rest = NULL;

    if (path[0] != '/' && !getcwd(cwd, sizeof cwd)) {
        err_from_errno(err, errno, "the current directory");
        return NULL;
    }
    if (asprintf(&full, "%s%s%s", path[0] == '/' ? "" : cwd, path[0] == '/' ? "" : "/", path) < 0) {
        err_set(err, ERR_NOMEM, "no memory");
        return NULL;
    }
    /* "dir/" and "dir/." name the directory itself; a last "name" is kept, since it may be a symlink or gone. */
    for (size_t n = strlen(full); n > 1 && full[n - 1] == '/'; n--)
        full[n - 1] = '\0';
    slash = strrchr(full, '/');
    if (slash && (strcmp(slash, "/.") == 0 || strcmp(slash, "/..") == 0)) {
        real = realpath(full, NULL);
        if (real) {
            free(full);
            return real;
        }
        tidy(full);
        return full;
    }
    /* Resolve the longest part before the last name that exists. */
    for (slash = strrchr(full, '/'); slash && slash > full; ) {
        *slash = '\0';
        real = realpath(full, NULL);
        *slash = '/';
        if (real) {
            if (asprintf(&out, "%s%s", strcmp(real, "/") ? real : "", slash) < 0)
                out = NULL;
            free(real);
            break;
        }
        for (rest = slash - 1; rest > full && *rest != '/'; rest--)
            ;
        slash = rest;
    }
    if (!out)
        out = strdup(full);
    free(full);
    if (!out)
        err_set(err, ERR_NOMEM, "no memory");
    else
        tidy(out);
    return out;
}

void locate_release(struct place *p)
{
    free(p->store);
    free(p->mount);
    free(p->rel);
    memset(p, 0, sizeof *p);
}

/* in_mount(abs, p, err): 1 found, 0 not in a mount of ours, < 0. */
static int in_mount(const char *abs, struct place *p, struct err *err)
{
    struct mount m;
    const char *tail;
    int r = 0;

    if (!mount_of(abs, &m))
        goto out;
    if (m.past) {
        r = err_set(err, ERR_USAGE, "%s: lies in the past; name the file where it lives, and the moment by --at", abs);
        goto out;
    }
    if (!locate_is_store(m.source)) {
        r = err_set(err, ERR_NOSTORE, "%s: is mounted at %s from \"%s\", where no store is found; name it by --store", abs, m.dir,
                    m.source);
        goto out;
    }
    tail = abs + (strlen(m.dir) > 1 ? strlen(m.dir) : 0);
    while (*tail == '/')
        tail++;
    /* A bind mount shows a part of the tree: root is the path of that part. */
    if (asprintf(&p->rel, "%s%s%s", m.root + 1, m.root[1] && *tail ? "/" : "", tail) < 0)
        p->rel = NULL;
    p->store = realpath(m.source, NULL);
    p->mount = strdup(m.dir);
    r = p->rel && p->store && p->mount ? 1 : err_set(err, ERR_NOMEM, "no memory");
out:
    mount_release(&m);
    return r;
}

static int store_at(const char *arg, struct place *p, struct err *err)
{
    struct stat st;
    char *abs = locate_absolute(arg, err);
    int r;

    if (!abs)
        return ERR_NOMEM;
    r = in_mount(abs, p, err);
    if (r)
        goto out;
    if (locate_is_store(arg)) {
        p->store = realpath(arg, NULL);
        r = p->store ? 1 : err_set(err, ERR_NOMEM, "no memory");
        goto out;
    }
    r = locate_was_store(arg, err);
    if (r)
        goto out;
    r = stat(arg, &st) ? err_set(err, ERR_NOSTORE, "%s: expected a store, a mount point or a path inside one, found: %s", arg,
                                 strerror(errno))
                       : err_set(err, ERR_NOSTORE, "%s: expected a store, a mount point or a path inside one, found a %s that "
                                 "is none; `spare init` makes a store", arg, S_ISDIR(st.st_mode) ? "directory" : "file");
out:
    free(abs);
    return r < 0 ? r : 0;
}

int locate_store(const char *arg, struct place *p, struct err *err)
{
    const char *env = getenv("SPARE_STORE");
    int r;

    memset(p, 0, sizeof *p);
    if (arg) {
        r = store_at(arg, p, err);
    } else {
        r = store_at(".", p, err);
        if (r == ERR_NOSTORE && env && *env)
            r = store_at(env, p, err);
        else if (r == ERR_NOSTORE)
            err_set(err, r, "the current directory: expected a store or a path inside a mount, found neither; name a store, or "
                    "set SPARE_STORE");
    }
    if (r)
        locate_release(p);
    return r;
}

/* A path that counts from the root of the store. */
static char *from_root(const char *path)
{
    char *s = NULL;

    if (asprintf(&s, "/%s", path) < 0)
        return NULL;
    tidy(s);
    memmove(s, s + 1, strlen(s));
    return s;
}

int locate_path(const char *store, const char *path, struct place *p, struct err *err)
{
    const char *env = getenv("SPARE_STORE");
    char *abs = NULL;
    int r;

    memset(p, 0, sizeof *p);
    if (!store) {
        abs = locate_absolute(path ? path : ".", err);
        if (!abs)
            return ERR_NOMEM;
        r = in_mount(abs, p, err);
        free(abs);
        if (r > 0)
            return 0;
        if (r < 0)
            goto fail;
        if (!env || !*env) {
            r = err_set(err, ERR_NOSTORE, "%s: expected a path inside a mount, found none there; for a store that is not mounted: "
                        "--store STORE, and the path from its root", path ? path : "the current directory");
            goto fail;
        }
        store = env;
    }
    r = store_at(store, p, err);
    if (r)
        goto fail;
    free(p->rel);
    p->rel = from_root(path ? path : "");
    if (p->rel)
        return 0;
    r = err_set(err, ERR_NOMEM, "no memory");
fail:
    locate_release(p);
    return r;
}

int locate_same(const struct place *p, const char *store, const char *path, char **rel, struct err *err)
{
    struct place q;
    int r = locate_path(store, path, &q, err);

    if (r)
        return r;
    if (strcmp(p->store, q.store) != 0)
        r = err_set(err, ERR_USAGE, "%s: expected a path in the store %s, found one in %s", path, p->store, q.store);
    if (r == 0) {
        *rel = q.rel;
        q.rel = NULL;
    }
    locate_release(&q);
    return r;
}
