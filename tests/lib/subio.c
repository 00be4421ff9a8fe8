/* subio.c: see subio.h. */
#include "tests/lib/subio.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_BYTES = 1024 };

struct subio { struct io io; struct io *under; char dir[256]; };

static struct io *below(struct io *io, const char *path, char buf[PATH_BYTES])
{
    struct subio *s = (struct subio *)io;

    snprintf(buf, PATH_BYTES, strcmp(path, ".") == 0 ? "%s" : "%s/%s", s->dir, path);
    return s->under;
}

static int sub_open(struct io *io, const char *path, int flags, struct io_file **out, struct err *err)
{
    char p[PATH_BYTES];
    struct io *u = below(io, path, p);

    return io_open(u, p, flags, out, err);
}

static int sub_stat(struct io *io, const char *path, struct io_stat *st, struct err *err)
{
    char p[PATH_BYTES];
    struct io *u = below(io, path, p);

    return io_stat_path(u, p, st, err);
}

static int sub_mkdir(struct io *io, const char *path, struct err *err)
{
    char p[PATH_BYTES];
    struct io *u = below(io, path, p);

    return io_mkdir(u, p, err);
}

static int sub_rename(struct io *io, const char *from, const char *to, struct err *err)
{
    char f[PATH_BYTES], t[PATH_BYTES];
    struct io *u = below(io, from, f);

    (void)below(io, to, t);
    return io_rename(u, f, t, err);
}

static int sub_link(struct io *io, const char *from, const char *to, struct err *err)
{
    char f[PATH_BYTES], t[PATH_BYTES];
    struct io *u = below(io, from, f);

    (void)below(io, to, t);
    return io_link(u, f, t, err);
}

static int sub_unlink(struct io *io, const char *path, struct err *err)
{
    char p[PATH_BYTES];
    struct io *u = below(io, path, p);

    return io_unlink(u, p, err);
}

static int sub_syncdir(struct io *io, const char *path, struct err *err)
{
    char p[PATH_BYTES];
    struct io *u = below(io, path, p);

    return io_syncdir(u, p, err);
}

static int sub_list(struct io *io, const char *path, int (*fn)(void *arg, const char *name), void *arg, struct err *err)
{
    char p[PATH_BYTES];
    struct io *u = below(io, path, p);

    return io_list(u, p, fn, arg, err);
}

static int sub_lock(struct io *io, const char *path, struct io_file **out, struct err *err)
{
    char p[PATH_BYTES];
    struct io *u = below(io, path, p);

    return io_lock(u, p, out, err);
}

static int sub_space(struct io *io, struct io_space_info *sp, struct err *err) { return io_space(((struct subio *)io)->under, sp, err); }
static int64_t sub_wall(struct io *io) { return io_wall_ns(((struct subio *)io)->under); }
static uint64_t sub_boot(struct io *io) { return io_boot_ns(((struct subio *)io)->under); }
static void sub_random(struct io *io, void *buf, size_t len) { io_random(((struct subio *)io)->under, buf, len); }
static void sub_free(struct io *io) { free(io); }

struct io *subio_new(struct io *under, const char *dir)
{
    /* (What is done with a file is asked of the table of who opened it.) */
    static const struct io_ops ops = {
        .open = sub_open, .stat = sub_stat, .mkdir = sub_mkdir, .rename = sub_rename, .link = sub_link, .unlink = sub_unlink, .syncdir = sub_syncdir,
        .list = sub_list, .space = sub_space, .lock = sub_lock, .wall_ns = sub_wall, .boot_ns = sub_boot, .random = sub_random, .free = sub_free,
    };
    struct subio *s = calloc(1, sizeof *s);

    if (s == NULL)
        abort();
    s->io.ops = &ops;
    s->under = under;
    snprintf(s->dir, sizeof s->dir, "%s", dir);
    return &s->io;
}
