/*
 * io.h: the one way to the disk, the clock and randomness. Outside RocksDB's
 * own files, only an implementation of this table syncs, renames or unlinks,
 * so a test can cut the power at any call (tests/lib/simio.c) or fail the
 * n-th one.
 *
 * All paths are relative to the store's directory, given at io_posix_new.
 * Return values: >= 0 or a negative err_code, with a message in ${err} (may
 * be NULL) that names the path and the call.
 *
 * Threads: every function may be called from any thread.
 */
#ifndef STORE_BASE_IO_H
#define STORE_BASE_IO_H

#include "store/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct io;
struct io_file;

enum io_open_flags {
    IO_RDONLY = 0,
    IO_RDWR   = 1,
    IO_CREATE = 2,   /* create, must not exist; mode 0600 */
};

struct io_stat {
    uint64_t size;       /* bytes */
    uint64_t allocated;  /* bytes on disk */
    uint64_t dev, ino;
    bool     is_dir;
    uint32_t nlink;      /* names it has; of a directory without meaning */
};

struct io_space_info {
    uint64_t total, avail;        /* bytes; avail as an ordinary user sees it */
    uint64_t files, files_avail;
};

struct io_ops {
    /* files */
    int (*open)(struct io *io, const char *path, int flags, struct io_file **out, struct err *err);
    void (*close)(struct io_file *f);
    /* pread: reads until len bytes or end of file; returns the bytes read. */
    int64_t (*pread)(struct io_file *f, void *buf, size_t len, uint64_t off, struct err *err);
    /* pread_nowait: as pread, but ERR_WAIT if it would have to wait for the disk. */
    int64_t (*pread_nowait)(struct io_file *f, void *buf, size_t len, uint64_t off);
    /* next_data: the first offset from ${off} on where anything but zeros may be, UINT64_MAX for none before the end of the file;
     * ${off} where that is not known. May be NULL: nothing is known. */
    uint64_t (*next_data)(struct io_file *f, uint64_t off);
    /* pwritev: writes all of it or fails; after a failure the range is undefined. */
    int (*pwritev)(struct io_file *f, const struct iovec *iov, int cnt, uint64_t off, struct err *err);
    int (*fdatasync)(struct io_file *f, struct err *err);
    int (*ftruncate)(struct io_file *f, uint64_t size, struct err *err);
    /* allocate: reserve [0, size), extending the file with zeros; ERR_NOSPC early; ERR_NOTSUP
     * where the file system cannot (go on without). */
    int (*allocate)(struct io_file *f, uint64_t size, struct err *err);
    int (*fstat)(struct io_file *f, struct io_stat *st, struct err *err);
    /* directories and names */
    int (*stat)(struct io *io, const char *path, struct io_stat *st, struct err *err);
    int (*mkdir)(struct io *io, const char *path, struct err *err);
    int (*rename)(struct io *io, const char *from, const char *to, struct err *err);
    int (*link)(struct io *io, const char *from, const char *to, struct err *err);
    /* unlink: a file or an empty directory. */
    int (*unlink)(struct io *io, const char *path, struct err *err);
    /* syncdir: makes the names in ${path} durable ("." is the store's directory). */
    int (*syncdir)(struct io *io, const char *path, struct err *err);
    /* list: calls fn(arg, name) for each entry but . and .., in byte order; stops at
     * nonzero and returns it. fn may create and remove entries. */
    int (*list)(struct io *io, const char *path,
                int (*fn)(void *arg, const char *name), void *arg, struct err *err);
    int (*space)(struct io *io, struct io_space_info *sp, struct err *err);
    /* lock: exclusive lock on ${path} (created if missing), held until the returned file is
     * closed or every process holding it is gone. ERR_LOCKED names the holder's pid. */
    int (*lock)(struct io *io, const char *path, struct io_file **out, struct err *err);
    /* clocks and randomness */
    int64_t  (*wall_ns)(struct io *io);   /* CLOCK_REALTIME */
    uint64_t (*boot_ns)(struct io *io);   /* CLOCK_BOOTTIME */
    void     (*random)(struct io *io, void *buf, size_t len);
    void     (*free)(struct io *io);
};

struct io { const struct io_ops *ops; };

/*
 * io_posix_new(dir, out, err):
 * The real thing on directory ${dir}, which must exist (its descriptor is
 * kept, so a later rename of ${dir} does no harm). Release with
 * (*out)->ops->free(*out), after all its files were closed.
 * Errors: NOSTORE when ${dir} is missing or no directory, NOMEM, ACCES, IO.
 */
int io_posix_new(const char *dir, struct io **out, struct err *err);

/* struct io_file starts with its io, so that calls on it need no table argument. */
struct io_file { struct io *io; };

/* Call forms that read like calls; functions, so that an argument is evaluated once. */
static inline int io_open(struct io *io, const char *path, int flags, struct io_file **out, struct err *err)
{ return io->ops->open(io, path, flags, out, err); }
static inline int io_stat_path(struct io *io, const char *path, struct io_stat *st, struct err *err)
{ return io->ops->stat(io, path, st, err); }
/* 1, 0 where there is nothing of that name, < 0: a disk that does not say so is not one where it is not. */
static inline int io_there(struct io *io, const char *path, struct err *err)
{
    struct io_stat st;
    struct err why = { .code = 0 };
    int rc = io->ops->stat(io, path, &st, &why);

    return rc == 0 || rc == ERR_NOENT ? rc == 0 : err_set(err, rc, "%s", why.msg);
}
static inline int io_mkdir(struct io *io, const char *path, struct err *err)
{ return io->ops->mkdir(io, path, err); }
static inline int io_rename(struct io *io, const char *from, const char *to, struct err *err)
{ return io->ops->rename(io, from, to, err); }
static inline int io_link(struct io *io, const char *from, const char *to, struct err *err)
{ return io->ops->link(io, from, to, err); }
static inline int io_unlink(struct io *io, const char *path, struct err *err)
{ return io->ops->unlink(io, path, err); }
static inline int io_syncdir(struct io *io, const char *path, struct err *err)
{ return io->ops->syncdir(io, path, err); }
static inline int io_list(struct io *io, const char *path, int (*fn)(void *arg, const char *name), void *arg,
                          struct err *err)
{ return io->ops->list(io, path, fn, arg, err); }
static inline int io_space(struct io *io, struct io_space_info *sp, struct err *err)
{ return io->ops->space(io, sp, err); }
static inline int io_lock(struct io *io, const char *path, struct io_file **out, struct err *err)
{ return io->ops->lock(io, path, out, err); }
static inline int64_t io_wall_ns(struct io *io)
{ return io->ops->wall_ns(io); }
static inline uint64_t io_boot_ns(struct io *io)
{ return io->ops->boot_ns(io); }
static inline void io_random(struct io *io, void *buf, size_t len)
{ io->ops->random(io, buf, len); }

static inline void io_close(struct io_file *f)
{ f->io->ops->close(f); }
static inline int64_t io_pread(struct io_file *f, void *buf, size_t len, uint64_t off, struct err *err)
{ return f->io->ops->pread(f, buf, len, off, err); }
static inline int64_t io_pread_nowait(struct io_file *f, void *buf, size_t len, uint64_t off)
{ return f->io->ops->pread_nowait(f, buf, len, off); }
static inline uint64_t io_next_data(struct io_file *f, uint64_t off)
{ return f->io->ops->next_data ? f->io->ops->next_data(f, off) : off; }
static inline int io_pwritev(struct io_file *f, const struct iovec *iov, int cnt, uint64_t off, struct err *err)
{ return f->io->ops->pwritev(f, iov, cnt, off, err); }
static inline int io_fdatasync(struct io_file *f, struct err *err)
{ return f->io->ops->fdatasync(f, err); }
static inline int io_ftruncate(struct io_file *f, uint64_t size, struct err *err)
{ return f->io->ops->ftruncate(f, size, err); }
static inline int io_allocate(struct io_file *f, uint64_t size, struct err *err)
{ return f->io->ops->allocate(f, size, err); }
static inline int io_fstat(struct io_file *f, struct io_stat *st, struct err *err)
{ return f->io->ops->fstat(f, st, err); }

#endif
