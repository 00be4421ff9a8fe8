/*
 * io_posix.c: the io table on a real directory. All names are looked up below
 * one directory descriptor, so the store may be renamed while it is open.
 */
#include "store/base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define IOV_BATCH 64        /* <= IOV_MAX; longer vectors go in several calls */

struct posix {
    struct io io;
    int dirfd;
    char *dir;              /* as given, for messages only */
};

struct posix_file {
    struct io_file f;
    int fd;
    char path[];
};

static struct posix *of_io(struct io *io) { return (struct posix *)io; }
static struct posix_file *of_file(struct io_file *f) { return (struct posix_file *)f; }
static const char *dir_of(const struct io_file *f) { return ((const struct posix *)f->io)->dir; }

/* Names come from this program, never from a user; an absolute one is a mistake that would leave the store. */
static int check_path(const char *path, struct err *err)
{
    if (!path || !*path || *path == '/')
        return err_set(err, ERR_INVAL, "\"%s\" is not a path inside the store", path ? path : "");
    return 0;
}

static int file_new(struct io *io, const char *path, int fd, struct io_file **out, struct err *err)
{
    size_t len = strlen(path) + 1;
    struct posix_file *pf = malloc(sizeof *pf + len);

    if (!pf) {
        close(fd);
        return err_set(err, ERR_NOMEM, "open %s: out of memory", path);
    }
    pf->f.io = io;
    pf->fd = fd;
    memcpy(pf->path, path, len);
    *out = &pf->f;
    return 0;
}

static int p_open(struct io *io, const char *path, int flags, struct io_file **out, struct err *err)
{
    int fl = O_CLOEXEC | O_NOFOLLOW, rc = check_path(path, err);
    int fd;

    if (rc)
        return rc;
    fl |= flags & (IO_RDWR | IO_CREATE) ? O_RDWR : O_RDONLY;
    if (flags & IO_CREATE)
        fl |= O_CREAT | O_EXCL;
    do
        fd = openat(of_io(io)->dirfd, path, fl, 0600);
    while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return err_from_errno(err, errno, "%s %s/%s", flags & IO_CREATE ? "create" : "open",
                              of_io(io)->dir, path);
    return file_new(io, path, fd, out, err);
}

static void p_close(struct io_file *f)
{
    struct posix_file *pf = of_file(f);

    close(pf->fd);      /* what matters was synced; nothing can be done about a failure here */
    free(pf);
}

static int check_range(struct io_file *f, const char *what, uint64_t off, uint64_t len, struct err *err)
{
    if (off > INT64_MAX || len > INT64_MAX - off)
        return err_set(err, ERR_FBIG, "%s %s: range %llu + %llu is beyond any file", what,
                       of_file(f)->path, (unsigned long long)off, (unsigned long long)len);
    return 0;
}

static int64_t p_pread(struct io_file *f, void *buf, size_t len, uint64_t off, struct err *err)
{
    struct posix_file *pf = of_file(f);
    size_t done = 0;
    int rc = check_range(f, "read", off, len, err);

    if (rc)
        return rc;
    while (done < len) {
        ssize_t n = pread(pf->fd, (char *)buf + done, len - done, (off_t)(off + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_from_errno(err, errno, "read %s/%s at %llu", dir_of(f), pf->path,
                                  (unsigned long long)(off + done));
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (int64_t)done;
}

static int64_t p_pread_nowait(struct io_file *f, void *buf, size_t len, uint64_t off)
{
    struct posix_file *pf = of_file(f);
    size_t done = 0;
    int rc = check_range(f, "read", off, len, NULL);

    if (rc)
        return rc;
    while (done < len) {
        struct iovec v = { (char *)buf + done, len - done };
        ssize_t n = preadv2(pf->fd, &v, 1, (off_t)(off + done), RWF_NOWAIT);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return ERR_WAIT;
        if (n < 0 && (errno == EOPNOTSUPP || errno == ENOSYS))
            return p_pread(f, buf, len, off, NULL);     /* this file system cannot tell */
        if (n < 0)
            return err_from_errno(NULL, errno, "read");
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (int64_t)done;
}

static uint64_t p_next_data(struct io_file *f, uint64_t off)
{
    off_t at;

    if (off > INT64_MAX)
        return off;
    at = lseek(of_file(f)->fd, (off_t)off, SEEK_DATA);    /* nobody here uses the position */
    if (at >= 0)
        return (uint64_t)at;
    return errno == ENXIO ? UINT64_MAX : off;
}

static int p_pwritev(struct io_file *f, const struct iovec *iov, int cnt, uint64_t off, struct err *err)
{
    struct posix_file *pf = of_file(f);
    size_t skip = 0;        /* bytes of iov[0] that are written already */
    uint64_t total = 0;
    int rc;

    for (int i = 0; i < cnt; i++)
        total += iov[i].iov_len;
    rc = check_range(f, "write", off, total, err);
    if (rc)
        return rc;
    while (cnt > 0) {
        struct iovec v[IOV_BATCH];
        int n = cnt < IOV_BATCH ? cnt : IOV_BATCH;
        ssize_t w;

        if (iov[0].iov_len == skip) {
            iov++, cnt--, skip = 0;
            continue;
        }
        memcpy(v, iov, (size_t)n * sizeof v[0]);
        v[0].iov_base = (char *)v[0].iov_base + skip;
        v[0].iov_len -= skip;
        w = pwritev(pf->fd, v, n, (off_t)off);
        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return err_from_errno(err, errno, "write %s/%s at %llu", dir_of(f), pf->path,
                                  (unsigned long long)off);
        if (w == 0)
            return err_set(err, ERR_IO, "write %s/%s at %llu: nothing was written", dir_of(f),
                           pf->path, (unsigned long long)off);
        off += (uint64_t)w;
        for (skip += (size_t)w; cnt > 0 && skip >= iov[0].iov_len; iov++, cnt--)
            skip -= iov[0].iov_len;
    }
    return 0;
}

static int p_fdatasync(struct io_file *f, struct err *err)
{
    /* No retry, not even after EINTR: a second call may say yes to pages the first one gave up. */
    if (fdatasync(of_file(f)->fd))
        return err_from_errno(err, errno, "fdatasync %s/%s", dir_of(f), of_file(f)->path);
    return 0;
}

static int p_ftruncate(struct io_file *f, uint64_t size, struct err *err)
{
    int rc = check_range(f, "truncate", 0, size, err);

    if (rc)
        return rc;
    do
        rc = ftruncate(of_file(f)->fd, (off_t)size);
    while (rc < 0 && errno == EINTR);
    if (rc < 0)
        return err_from_errno(err, errno, "truncate %s/%s to %llu", dir_of(f), of_file(f)->path,
                              (unsigned long long)size);
    return 0;
}

static int p_allocate(struct io_file *f, uint64_t size, struct err *err)
{
    int rc = check_range(f, "allocate", 0, size, err);

    if (rc || size == 0)
        return rc;
    do
        rc = fallocate(of_file(f)->fd, 0, 0, (off_t)size);
    while (rc < 0 && errno == EINTR);
    if (rc < 0)     /* no emulation by writing zeros: the caller knows whether that is worth it */
        return err_from_errno(err, errno, "allocate %llu bytes for %s/%s", (unsigned long long)size,
                              dir_of(f), of_file(f)->path);
    return 0;
}

static void stat_from(struct io_stat *st, const struct stat *s)
{
    st->size = (uint64_t)s->st_size;
    st->allocated = (uint64_t)s->st_blocks * 512;
    st->dev = s->st_dev;
    st->ino = s->st_ino;
    st->is_dir = S_ISDIR(s->st_mode);
    st->nlink = (uint32_t)s->st_nlink;
}

static int p_fstat(struct io_file *f, struct io_stat *st, struct err *err)
{
    struct stat s;

    if (fstat(of_file(f)->fd, &s))
        return err_from_errno(err, errno, "stat %s/%s", dir_of(f), of_file(f)->path);
    stat_from(st, &s);
    return 0;
}

static int p_stat(struct io *io, const char *path, struct io_stat *st, struct err *err)
{
    struct stat s;
    int rc = check_path(path, err);

    if (rc)
        return rc;
    if (fstatat(of_io(io)->dirfd, path, &s, AT_SYMLINK_NOFOLLOW))
        return err_from_errno(err, errno, "stat %s/%s", of_io(io)->dir, path);
    stat_from(st, &s);
    return 0;
}

static int p_mkdir(struct io *io, const char *path, struct err *err)
{
    int rc = check_path(path, err);

    if (!rc && mkdirat(of_io(io)->dirfd, path, 0700))
        rc = err_from_errno(err, errno, "mkdir %s/%s", of_io(io)->dir, path);
    return rc;
}

static int p_rename(struct io *io, const char *from, const char *to, struct err *err)
{
    int fd = of_io(io)->dirfd, rc = check_path(from, err);

    if (!rc)
        rc = check_path(to, err);
    if (!rc && renameat(fd, from, fd, to))
        rc = err_from_errno(err, errno, "rename %s to %s in %s", from, to, of_io(io)->dir);
    return rc;
}

static int p_link(struct io *io, const char *from, const char *to, struct err *err)
{
    int fd = of_io(io)->dirfd, rc = check_path(from, err);

    if (!rc)
        rc = check_path(to, err);
    if (!rc && linkat(fd, from, fd, to, 0))
        rc = err_from_errno(err, errno, "link %s to %s in %s", from, to, of_io(io)->dir);
    return rc;
}

/* Removes a file or an empty directory. */
static int p_unlink(struct io *io, const char *path, struct err *err)
{
    int fd = of_io(io)->dirfd, rc = check_path(path, err);

    if (rc)
        return rc;
    rc = unlinkat(fd, path, 0);
    if (rc && (errno == EISDIR || errno == EPERM))
        rc = unlinkat(fd, path, AT_REMOVEDIR);
    if (rc)
        return err_from_errno(err, errno, "remove %s/%s", of_io(io)->dir, path);
    return 0;
}

static int open_dir(struct io *io, const char *path, int *fd, struct err *err)
{
    int rc = check_path(path, err);

    if (rc)
        return rc;
    *fd = openat(of_io(io)->dirfd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (*fd < 0)
        return err_from_errno(err, errno, "open directory %s/%s", of_io(io)->dir, path);
    return 0;
}

static int p_syncdir(struct io *io, const char *path, struct err *err)
{
    int fd = -1, rc = open_dir(io, path, &fd, err);

    if (rc)
        return rc;
    if (fsync(fd))
        rc = err_from_errno(err, errno, "fsync directory %s/%s", of_io(io)->dir, path);
    close(fd);
    return rc;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Reads all names first, so that ${fn} may create and remove entries. */
static int read_names(DIR *d, char ***names, size_t *n)
{
    size_t cap = 0;
    struct dirent *e;

    for (errno = 0; (e = readdir(d)) != NULL; errno = 0) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        if (*n == cap) {
            size_t want = cap ? 2 * cap : 64;
            char **bigger = realloc(*names, want * sizeof **names);
            if (!bigger)
                return ENOMEM;
            *names = bigger;
            cap = want;
        }
        (*names)[*n] = strdup(e->d_name);
        if (!(*names)[*n])
            return ENOMEM;
        (*n)++;
    }
    return errno;
}

static int p_list(struct io *io, const char *path, int (*fn)(void *arg, const char *name), void *arg,
                  struct err *err)
{
    char **names = NULL;
    size_t n = 0;
    DIR *d = NULL;
    int fd = -1, eno, rc = open_dir(io, path, &fd, err);

    if (rc)
        return rc;
    d = fdopendir(fd);
    if (!d) {
        rc = err_from_errno(err, errno, "read directory %s/%s", of_io(io)->dir, path);
        close(fd);
        goto out;
    }
    eno = read_names(d, &names, &n);
    if (eno) {
        rc = err_from_errno(err, eno, "read directory %s/%s", of_io(io)->dir, path);
        goto out;
    }
    if (n > 1)
        qsort(names, n, sizeof *names, by_name);
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = fn(arg, names[i]);
out:
    for (size_t i = 0; i < n; i++)
        free(names[i]);
    free(names);
    if (d)
        closedir(d);
    return rc;
}

static int p_space(struct io *io, struct io_space_info *sp, struct err *err)
{
    struct statvfs s;

    if (fstatvfs(of_io(io)->dirfd, &s))
        return err_from_errno(err, errno, "statvfs %s", of_io(io)->dir);
    sp->total = (uint64_t)s.f_blocks * s.f_frsize;
    sp->avail = (uint64_t)s.f_bavail * s.f_frsize;
    sp->files = s.f_files;
    sp->files_avail = s.f_favail;
    return 0;
}

/* The pid in a lock file, or 0: its holder may just be about to write it. */
static long lock_holder(int fd)
{
    char buf[24];
    ssize_t n = pread(fd, buf, sizeof buf - 1, 0);

    if (n <= 0)
        return 0;
    buf[n] = '\0';
    return strtol(buf, NULL, 10);
}

static int lock_refused(struct io *io, const char *path, int fd, struct err *err)
{
    long pid = lock_holder(fd);

    if (pid > 0)
        return err_set(err, ERR_LOCKED, "%s/%s is locked by process %ld", of_io(io)->dir, path, pid);
    return err_set(err, ERR_LOCKED, "%s/%s is locked by another process", of_io(io)->dir, path);
}

/* Whether the name still leads to what was opened by it: who removed it meanwhile may have let go of its lock only then. */
static bool same_file(struct io *io, const char *path, int fd)
{
    struct stat a, b;

    return fstat(fd, &a) == 0 && fstatat(of_io(io)->dirfd, path, &b, AT_SYMLINK_NOFOLLOW) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/*
 * The kernel drops the lock with the last descriptor of this open file
 * description, however its owner died: what a dead process locked is free. The
 * pid inside is for messages; nothing is decided by it, and it is not synced.
 */
static int p_lock(struct io *io, const char *path, struct io_file **out, struct err *err)
{
    struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    char pid[24];
    int n, fd = -1, rc = check_path(path, err);

    if (rc)
        return rc;
    do {
        if (fd >= 0)
            close(fd);
        fd = openat(of_io(io)->dirfd, path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
            return err_from_errno(err, errno, "open %s/%s", of_io(io)->dir, path);
        if (fcntl(fd, F_OFD_SETLK, &fl)) {
            if (errno == EAGAIN || errno == EACCES)
                rc = lock_refused(io, path, fd, err);
            else
                rc = err_from_errno(err, errno, "lock %s/%s", of_io(io)->dir, path);
            close(fd);
            return rc;
        }
    } while (!same_file(io, path, fd));
    n = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) || pwrite(fd, pid, (size_t)n, 0) != n) {
        /* A full disk: locked all the same, only the message of others is poorer. */
        if (errno != ENOSPC && errno != EDQUOT) {
            rc = err_from_errno(err, errno, "write %s/%s", of_io(io)->dir, path);
            close(fd);
            return rc;
        }
    }
    return file_new(io, path, fd, out, err);
}

static int64_t p_wall_ns(struct io *io)
{
    struct timespec t;

    (void)io;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static uint64_t p_boot_ns(struct io *io)
{
    struct timespec t;

    (void)io;
    clock_gettime(CLOCK_BOOTTIME, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void p_random(struct io *io, void *buf, size_t len)
{
    (void)io;
    for (size_t done = 0; done < len; ) {
        ssize_t n = getrandom((char *)buf + done, len - done, 0);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            abort();    /* every supported kernel has it; ids that repeat would be worse */
        done += (size_t)n;
    }
}

static void p_free(struct io *io)
{
    struct posix *p = of_io(io);

    if (!p)
        return;
    close(p->dirfd);
    free(p->dir);
    free(p);
}

static const struct io_ops posix_ops = {
    .open = p_open, .close = p_close,
    .pread = p_pread, .pread_nowait = p_pread_nowait, .next_data = p_next_data, .pwritev = p_pwritev,
    .fdatasync = p_fdatasync, .ftruncate = p_ftruncate, .allocate = p_allocate, .fstat = p_fstat,
    .stat = p_stat, .mkdir = p_mkdir, .rename = p_rename, .link = p_link, .unlink = p_unlink,
    .syncdir = p_syncdir, .list = p_list, .space = p_space, .lock = p_lock,
    .wall_ns = p_wall_ns, .boot_ns = p_boot_ns, .random = p_random, .free = p_free,
};

int io_posix_new(const char *dir, struct io **out, struct err *err)
{
    struct posix *p = calloc(1, sizeof *p);

    if (!p)
        return err_set(err, ERR_NOMEM, "%s: out of memory", dir);
    p->io.ops = &posix_ops;
    p->dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (p->dirfd < 0) {
        int eno = errno;
        free(p);
        if (eno == ENOENT || eno == ENOTDIR)
            return err_set(err, ERR_NOSTORE, "%s: no such directory", dir);
        return err_from_errno(err, eno, "open directory %s", dir);
    }
    p->dir = strdup(dir);
    if (!p->dir) {
        p_free(&p->io);
        return err_set(err, ERR_NOMEM, "%s: out of memory", dir);
    }
    *out = &p->io;
    return 0;
}
