/* hook.c: see hook.h. The disk's half; the index's half is hook_kv.c. */
#include "tests/sim/hook.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct hfile { struct io_file f; struct io_file *inner; bool log, next, old; };

static struct hook *of(struct io *io) { return (struct hook *)io; }
static struct hook *of_file(struct io_file *f) { return (struct hook *)f->io; }
static struct io_file *in(struct io_file *f) { return ((struct hfile *)f)->inner; }

const char *hook_name(enum hook_call c)
{
    static const char *const names[] = {
#define X(name) #name,
        HOOK_TABLE(X)
#undef X
    };
    return c < HOOK_N_CALLS ? names[c] : "?";
}

const char *bug_name(enum bug b)
{
    static const char *const names[] = { "NONE",
#define X(name, text) #name,
        BUG_TABLE(X)
#undef X
    };
    return b < BUG_N ? names[b] : "?";
}

const char *bug_text(enum bug b)
{
    static const char *const texts[] = { "",
#define X(name, text) text,
        BUG_TABLE(X)
#undef X
    };
    return b < BUG_N ? texts[b] : "?";
}

static void saw(struct hook *h, enum hook_call c)
{
    h->count[c]++;
    if (h->before != NULL)
        h->before(h->arg, c);
}

static bool in_old(const char *path) { return strncmp(path, "packs", 5) == 0 || strncmp(path, "archive", 7) == 0; }
static bool in_log(const char *path) { return strncmp(path, "log", 3) == 0; }

static struct io_file *wrap(struct hook *h, struct io_file *inner, const char *path)
{
    struct hfile *f = calloc(1, sizeof *f);
    if (f == NULL)
        abort();
    f->f.io = &h->io;
    f->inner = inner;
    f->log = in_log(path);
    f->old = in_old(path);
    f->next = strcmp(path, "log/next") == 0;
    return &f->f;
}

static int h_open(struct io *io, const char *path, int flags, struct io_file **out, struct err *err)
{
    struct hook *h = of(io);
    struct io_file *f = NULL;
    if (flags & IO_CREATE)
        saw(h, HOOK_CREATE);
    int rc = io_open(h->inner, path, flags, &f, err);
    if (rc >= 0)
        *out = wrap(h, f, path);
    return rc;
}

/* A write that was held back goes out. */
static void let_go(struct hook *h)
{
    if (h->held == NULL)
        return;
    struct iovec v = { h->held, h->held_len };
    (void)io_pwritev(in(h->held_file), &v, 1, h->held_off, NULL);
    free(h->held);
    h->held = NULL;
}

static void h_close(struct io_file *f)
{
    struct hook *h = of_file(f);
    if (h->held != NULL && h->held_file == f) {
        free(h->held);
        h->held = NULL;
    }
    io_close(in(f));
    free(f);
}

static int64_t h_pread(struct io_file *f, void *buf, size_t len, uint64_t off, struct err *err)
{
    struct hook *h = of_file(f);
    int64_t n = io_pread(in(f), buf, len, off, err);
    if (h->bug == BUG_READ_FLIPPED && ((struct hfile *)f)->log && n > 0 && ++h->bug_calls % 50 == 0)
        ((uint8_t *)buf)[n / 2] ^= 4;
    return n;
}

static int64_t h_pread_nowait(struct io_file *f, void *buf, size_t len, uint64_t off)
{
    return io_pread_nowait(in(f), buf, len, off);
}

static int bad_write(struct hook *h, struct io_file *f, const struct iovec *iov, int cnt, uint64_t off, struct err *err)
{
    size_t len = 0;
    for (int i = 0; i < cnt; i++)
        len += iov[i].iov_len;
    uint8_t *all = malloc(len + 1);
    if (all == NULL)
        abort();
    len = 0;
    for (int i = 0; i < cnt; i++) {
        memcpy(all + len, iov[i].iov_base, iov[i].iov_len);
        len += iov[i].iov_len;
    }
    int rc = 0;
    if (h->bug == BUG_WRITES_SWAPPED && h->held == NULL && off > 0) {     /* not a segment's header */
        h->held = all;
        h->held_len = len;
        h->held_off = off;
        h->held_file = f;
        return 0;
    }
    if (h->bug == BUG_WRITE_TORN && len > 0 && ++h->bug_calls % 50 == 0)
        len--;
    if (h->bug != BUG_WRITE_DROPPED || ++h->bug_calls % 50 != 0)
        rc = io_pwritev(in(f), &(struct iovec){ all, len }, 1, off, err);
    free(all);
    let_go(h);
    return rc;
}

static int h_pwritev(struct io_file *f, const struct iovec *iov, int cnt, uint64_t off, struct err *err)
{
    struct hook *h = of_file(f);
    saw(h, HOOK_PWRITEV);
    if (((struct hfile *)f)->log &&
        (h->bug == BUG_WRITES_SWAPPED || h->bug == BUG_WRITE_DROPPED || h->bug == BUG_WRITE_TORN))
        return bad_write(h, f, iov, cnt, off, err);
    return io_pwritev(in(f), iov, cnt, off, err);
}

static int h_fdatasync(struct io_file *f, struct err *err)
{
    struct hook *h = of_file(f);
    saw(h, HOOK_FDATASYNC);
    if (((struct hfile *)f)->log) {
        if (h->bug == BUG_LOG_SYNC_IGNORED || (h->bug == BUG_LOG_SYNC_SOMETIMES && ++h->bug_calls % 3 == 0))
            return 0;
        if (h->bug == BUG_NEXT_SYNC_IGNORED && ((struct hfile *)f)->next)
            return 0;
    } else if (h->bug == BUG_SUPER_SYNC_IGNORED || (h->bug == BUG_PACK_SYNC_IGNORED && ((struct hfile *)f)->old)) {
        return 0;
    }
    return io_fdatasync(in(f), err);
}

static int h_ftruncate(struct io_file *f, uint64_t size, struct err *err)
{
    saw(of_file(f), HOOK_FTRUNCATE);
    return io_ftruncate(in(f), size, err);
}

static int h_allocate(struct io_file *f, uint64_t size, struct err *err)
{
    saw(of_file(f), HOOK_ALLOCATE);
    return io_allocate(in(f), size, err);
}

static int h_fstat(struct io_file *f, struct io_stat *st, struct err *err) { return io_fstat(in(f), st, err); }

static int h_stat(struct io *io, const char *path, struct io_stat *st, struct err *err)
{
    return io_stat_path(of(io)->inner, path, st, err);
}

static int h_mkdir(struct io *io, const char *path, struct err *err)
{
    saw(of(io), HOOK_MKDIR);
    return io_mkdir(of(io)->inner, path, err);
}

static int h_rename(struct io *io, const char *from, const char *to, struct err *err)
{
    saw(of(io), HOOK_RENAME);
    return io_rename(of(io)->inner, from, to, err);
}

static int h_link(struct io *io, const char *from, const char *to, struct err *err)
{
    saw(of(io), HOOK_LINK);
    return io_link(of(io)->inner, from, to, err);
}

static int h_unlink(struct io *io, const char *path, struct err *err)
{
    struct hook *h = of(io);
    saw(h, HOOK_UNLINK);
    if (h->bug == BUG_DROP_ORDER && in_log(path) && strcmp(path, "log/next") != 0 && h->held_name[0] == '\0') {
        snprintf(h->held_name, sizeof h->held_name, "%s", path);
        return 0;
    }
    int rc = io_unlink(h->inner, path, err);
    if (h->held_name[0] != '\0')
        (void)io_unlink(h->inner, h->held_name, NULL);
    h->held_name[0] = '\0';
    return rc;
}

static int h_syncdir(struct io *io, const char *path, struct err *err)
{
    struct hook *h = of(io);
    saw(h, HOOK_SYNCDIR);
    if (h->bug == BUG_SYNCDIR_IGNORED || (h->bug == BUG_PACK_NAME_IGNORED && in_old(path)))
        return 0;
    return io_syncdir(h->inner, path, err);
}

static int h_list(struct io *io, const char *path, int (*fn)(void *arg, const char *name), void *arg, struct err *err)
{
    return io_list(of(io)->inner, path, fn, arg, err);
}

static int h_space(struct io *io, struct io_space_info *sp, struct err *err) { return io_space(of(io)->inner, sp, err); }

static int h_lock(struct io *io, const char *path, struct io_file **out, struct err *err)
{
    struct io_file *f = NULL;
    int rc = io_lock(of(io)->inner, path, &f, err);
    if (rc >= 0)
        *out = wrap(of(io), f, path);
    return rc;
}

static int64_t h_wall_ns(struct io *io)
{
    return io_wall_ns(of(io)->inner) + (of(io)->bug == BUG_CLOCK_OTHER && ++of(io)->bug_calls % 64 == 0);
}

static uint64_t h_boot_ns(struct io *io) { return io_boot_ns(of(io)->inner); }
static void h_random(struct io *io, void *buf, size_t len) { io_random(of(io)->inner, buf, len); }
static void h_free(struct io *io) { (void)io; }

void hook_init(struct hook *h, struct io *inner)
{
    static const struct io_ops ops = {
        .open = h_open, .close = h_close, .pread = h_pread, .pread_nowait = h_pread_nowait, .pwritev = h_pwritev,
        .fdatasync = h_fdatasync, .ftruncate = h_ftruncate, .allocate = h_allocate, .fstat = h_fstat, .stat = h_stat,
        .mkdir = h_mkdir, .rename = h_rename, .link = h_link, .unlink = h_unlink, .syncdir = h_syncdir, .list = h_list,
        .space = h_space, .lock = h_lock, .wall_ns = h_wall_ns, .boot_ns = h_boot_ns, .random = h_random, .free = h_free,
    };
    memset(h, 0, sizeof *h);
    h->io.ops = &ops;
    h->inner = inner;
    hook_plant(h, BUG_NONE);
}

void hook_release(struct hook *h)
{
    free(h->hint);
    free(h->held);
    h->held = NULL;
}
