/* torture_check.c: a tree as stat, readdir, readlink, getxattr and read show it, against the model. */
#include "tests/e2e/torture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { XATTR_CAP = 65536, CHUNK = 256 << 10 };

struct look {
    struct tort *t;
    const struct model *m;
    const char *what;
    struct mino **seen; size_t n_seen, cap_seen;   /* files and directories that were compared */
    uint8_t *a, *b;                                /* CHUNK bytes each */
    char path[256];                                /* for messages: the last names on the way */
};

int tort_fail(const struct tort *t, const char *fmt, ...)
{
    va_list ap;
    printf("# seed %" PRIu64 ", after %zu operations: ", t->seed, t->n_done);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("\n#   doing: ");
    for (const char *p = t->doing; *p != '\0'; p++)
        printf((unsigned char)*p < ' ' || (unsigned char)*p > '~' ? "\\x%02x" : "%c", (unsigned char)*p);
    printf("\n");
    return -1;
}

static int differs(const struct look *l, const char *what, uint64_t expect, uint64_t found)
{
    return tort_fail(l->t, "%s: %s: %s expected %" PRIu64 " (%" PRIo64 " octal), found %" PRIu64 " (%" PRIo64 ")", l->what, l->path, what,
                     expect, expect, found, found);
}

static int failed(const struct look *l, const char *call)
{
    return tort_fail(l->t, "%s: %s: %s: %s", l->what, l->path, call, strerror(errno));
}

static uint32_t rdev_of(const struct stat *st)
{
    return major(st->st_rdev) << 8 | (minor(st->st_rdev) & 0xff) | (minor(st->st_rdev) & ~0xffu) << 12;
}

/* Only a time that was set is known exactly. */
static bool time_differs(struct mtime m, struct timespec ts)
{
    return m.sec != TORT_NOW_SEC && (m.sec != ts.tv_sec || (long)m.nsec != ts.tv_nsec);
}

static int check_attr(const struct look *l, const struct mino *i, const struct stat *st)
{
    const struct mattr *a = &i->a;
    bool dev = S_ISCHR(a->mode) || S_ISBLK(a->mode);
    if (st->st_mode != a->mode)
        return differs(l, "mode", a->mode, st->st_mode);
    if (st->st_uid != a->uid)
        return differs(l, "uid", a->uid, st->st_uid);
    if (st->st_gid != a->gid)
        return differs(l, "gid", a->gid, st->st_gid);
    if (st->st_nlink != a->nlink)
        return differs(l, "link count", a->nlink, st->st_nlink);
    if (!S_ISDIR(a->mode) && (uint64_t)st->st_size != a->size)
        return differs(l, "size", a->size, (uint64_t)st->st_size);
    if (st->st_ino != a->ino)
        return differs(l, "inode", a->ino, st->st_ino);
    if (dev && rdev_of(st) != a->rdev)
        return differs(l, "device number", a->rdev, rdev_of(st));
    if (time_differs(a->mt, st->st_mtim))
        return differs(l, "mtime seconds", (uint64_t)a->mt.sec, (uint64_t)st->st_mtim.tv_sec);
    if (time_differs(a->at, st->st_atim))
        return differs(l, "atime seconds", (uint64_t)a->at.sec, (uint64_t)st->st_atim.tv_sec);
    return 0;
}

static int check_xattrs(const struct look *l, const struct mino *i, const char *path)
{
    char names[16384];
    static uint8_t val[XATTR_CAP];
    size_t n_found = 0;
    ssize_t n = llistxattr(path, names, sizeof names);
    if (n < 0)
        return failed(l, "llistxattr");
    for (char *p = names; p < names + n; p += strlen(p) + 1, n_found++)
        if (model_xattr(i, p) == NULL)
            return tort_fail(l->t, "%s: %s: attribute %s is not expected", l->what, l->path, p);
    if (n_found != i->n_x)
        return differs(l, "number of attributes", i->n_x, n_found);
    for (size_t k = 0; k < i->n_x; k++) {
        const struct mxattr *x = &i->x[k];
        ssize_t v = lgetxattr(path, x->name, val, sizeof val);
        if (v < 0)
            return failed(l, x->name);
        if ((size_t)v != x->vlen || memcmp(val, x->val, x->vlen) != 0)
            return tort_fail(l->t, "%s: %s: attribute %s differs (%zd bytes, expected %u)", l->what, l->path, x->name, v, x->vlen);
    }
    return 0;
}

static int check_range(struct look *l, const struct mino *i, int fd, uint64_t off, size_t len)
{
    size_t want = model_read(i, off, l->a, len), got = 0;
    while (got < len) {
        ssize_t n = pread(fd, l->b + got, len - got, (off_t)(off + got));
        if (n < 0)
            return failed(l, "pread");
        if (n == 0)
            break;
        got += (size_t)n;
    }
    if (got != want)
        return differs(l, "bytes read", want, got);
    for (size_t k = 0; k < want; k++)
        if (l->a[k] != l->b[k])
            return tort_fail(l->t, "%s: %s: byte %" PRIu64 " of %" PRIu64 " expected %02x, found %02x", l->what, l->path, off + k, i->a.size,
                             l->a[k], l->b[k]);
    l->t->bytes += want;
    return 0;
}

/* Pages of the model inside what is said to be a hole must be zeros. */
static int check_hole(struct look *l, const struct mino *i, uint64_t from, uint64_t to)
{
    for (size_t k = 0; k < i->n_page; k++) {
        uint64_t at = i->page[k].idx * M_PAGE;
        if (at >= from && at + M_PAGE <= to && !model_page_zero(i, i->page[k].idx))
            return differs(l, "data in a hole, at", 0, at);
    }
    return 0;
}

static int check_content(struct look *l, const struct mino *i, int fd)
{
    uint64_t off = 0, size = i->a.size;
    int rc = 0;
    if (size <= 1 << 20) {
        for (; off <= size && rc == 0; off += CHUNK)
            rc = check_range(l, i, fd, off, CHUNK);
        return rc;
    }
    while (off < size && rc == 0) {
        off_t d = lseek(fd, (off_t)off, SEEK_DATA);
        if (d < 0 && errno != ENXIO)
            return failed(l, "SEEK_DATA");
        rc = check_hole(l, i, off, d < 0 ? size : (uint64_t)d);
        if (rc != 0 || d < 0)
            break;
        off_t h = lseek(fd, d, SEEK_HOLE);
        if (h <= d)
            return failed(l, "SEEK_HOLE");
        for (off = (uint64_t)d; off < (uint64_t)h && rc == 0; off += CHUNK)
            rc = check_range(l, i, fd, off, (uint64_t)h - off < CHUNK ? (size_t)((uint64_t)h - off) : CHUNK);
        off = (uint64_t)h;
    }
    for (size_t k = 0; k < i->n_page && rc == 0; k++)        /* and nothing is missing where a hole was not said */
        if (i->page[k].idx * M_PAGE < size)
            rc = check_range(l, i, fd, i->page[k].idx * M_PAGE, M_PAGE);
    return rc;
}

static int check_dir(struct look *l, const struct mino *i, int fd);

/* ${path}: of /proc/self/fd, so that any name will do. */
static int check_object(struct look *l, const struct mino *i, int dirfd, const char *name)
{
    struct stat st;
    char path[M_NAME_CAP + 40], target[4200];
    int fd, rc;
    snprintf(path, sizeof path, "/proc/self/fd/%d/%s", dirfd, name);
    if (lstat(path, &st) != 0)
        return failed(l, "lstat");
    if ((rc = check_attr(l, i, &st)) != 0)
        return rc;
    for (size_t k = 0; k < l->n_seen; k++)
        if (l->seen[k] == i)
            return 0;            /* another name of it was compared */
    l->seen = m_grow(l->seen, &l->cap_seen, l->n_seen + 1, sizeof *l->seen);
    l->seen[l->n_seen++] = model_find(l->m, i->a.ino);
    l->t->objects++;
    if ((rc = check_xattrs(l, i, path)) != 0)
        return rc;
    if (S_ISLNK(i->a.mode)) {
        ssize_t n = readlink(path, target, sizeof target);
        if (n < 0)
            return failed(l, "readlink");
        if ((uint64_t)n != i->a.size || memcmp(target, i->target, (size_t)n) != 0)
            return tort_fail(l->t, "%s: %s: target of the link differs", l->what, l->path);
    }
    if (!S_ISREG(i->a.mode) && !S_ISDIR(i->a.mode))
        return 0;
    fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return failed(l, "open");
    rc = S_ISREG(i->a.mode) ? check_content(l, i, fd) : check_dir(l, i, fd);
    close(fd);
    return rc;
}

static int check_entry(struct look *l, const struct mino *i, const struct dirent *d, int fd)
{
    size_t n = strlen(d->d_name), had = strlen(l->path);
    const struct mdent *e = n < M_NAME_CAP ? model_entry(i, d->d_name, (uint32_t)n) : NULL;
    snprintf(l->path + had, sizeof l->path - had, "/%.20s", d->d_name);
    if (e == NULL)
        return tort_fail(l->t, "%s: %s: a name that is not expected", l->what, l->path);
    const struct mino *child = model_find(l->m, e->ino);
    if (d->d_type != DT_UNKNOWN && d->d_type != child->a.mode >> 12)
        return differs(l, "type in the listing", child->a.mode >> 12, d->d_type);
    if (d->d_ino != e->ino)
        return differs(l, "inode in the listing", e->ino, d->d_ino);
    int rc = check_object(l, child, fd, d->d_name);
    if (rc == 0)
        l->path[had] = '\0';
    return rc;
}

static int check_dir(struct look *l, const struct mino *i, int fd)
{
    DIR *dir = fdopendir(dup(fd));
    size_t n = 0;
    int rc = 0;
    if (dir == NULL)
        return failed(l, "opendir");
    for (struct dirent *d; rc == 0 && (errno = 0, d = readdir(dir)) != NULL;) {
        if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
            continue;
        n++;
        rc = check_entry(l, i, d, fd);
    }
    if (rc == 0 && errno != 0)
        rc = failed(l, "readdir");
    closedir(dir);
    return rc != 0 ? rc : n != i->n_ent ? differs(l, "number of entries", i->n_ent, n) : 0;
}

int tort_check(struct tort *t, const char *root, const struct model *m, const char *what)
{
    struct look l = { .t = t, .m = m, .what = what };
    int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc;
    if (fd < 0)
        return tort_fail(t, "%s: open: %s", what, strerror(errno));
    l.a = m_alloc(CHUNK);
    l.b = m_alloc(CHUNK);
    rc = check_object(&l, model_find(m, t->gen.root), fd, ".");
    if (rc == 0)
        for (size_t k = 0; k < m->n_ino && rc == 0; k++) {
            bool seen = m->ino[k]->a.nlink == 0;
            for (size_t s = 0; s < l.n_seen && !seen; s++)
                seen = l.seen[s] == m->ino[k];
            if (!seen)
                rc = tort_fail(t, "%s: inode %" PRIu64 " was not found by any name", what, m->ino[k]->a.ino);
        }
    close(fd);
    free(l.a);
    free(l.b);
    free(l.seen);
    return rc;
}
