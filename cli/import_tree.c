/* What copying and comparing share: walking the source and the store, reading xattrs, hard links, messages. */
#include "cli/import_internal.h"

#include "cli/out.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

int import_fail(struct import *im, int eno, const char *doing)
{
    return err_from_errno(im->err, eno, "%s: %s", im->path, doing);
}

int import_store_fail(struct import *im, int code, const char *doing)
{
    return err_set(im->err, code, "%s: %s in the store: %s", im->path, doing, err_text(code));
}

int import_begin(struct import *im, struct store *s, const char *dir, const struct import_options *opt, struct import_stats *st,
                 const char *what, int *dirfd, struct stat *root, struct err *err)
{
    memset(im, 0, sizeof *im);
    *im = (struct import){ .s = s, .opt = opt, .st = st, .err = err, .what = what,
                           .who = { .uid = geteuid(), .gid = getegid(), .pid = (uint32_t)getpid() } };
    im->path_len = (size_t)snprintf(im->path, sizeof im->path, "%.4096s", dir);
    memset(st, 0, sizeof *st);
    *dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*dirfd < 0 || fstat(*dirfd, root))
        return import_fail(im, errno, "opening the directory");
    im->dev = root->st_dev;
    im->links_cap = 1024;
    im->links = calloc(im->links_cap, sizeof *im->links);
    im->buf = malloc(IMPORT_CHUNK);
    im->buf2 = malloc(IMPORT_CHUNK);
    return im->links && im->buf && im->buf2 ? 0 : import_fail(im, ENOMEM, "beginning");
}

void import_end(struct import *im, int dirfd)
{
    if (dirfd >= 0)
        close(dirfd);
    free(im->links);
    free(im->buf);
    free(im->buf2);
    out_progress_end();
}

void import_tick(struct import *im, uint64_t bytes)
{
    im->done_bytes += bytes;
    out_progress(im->what, im->done_bytes, im->opt->total_bytes);
}

static int one_entry(struct import *im, int dirfd, uint64_t parent, const char *name,
                     int (*fn)(struct import *im, const struct import_entry *e))
{
    struct import_entry e = { .name = name, .dirfd = dirfd, .parent = parent };
    size_t keep = im->path_len;
    int n, r;

    if (out_interrupted)
        return err_set(im->err, ERR_INTR, "interrupted; the same command goes on where it was");
    n = snprintf(im->path + keep, sizeof im->path - keep, "/%s", name);
    if (n < 0 || (size_t)n >= sizeof im->path - keep) {
        im->path[keep] = '\0';
        return err_set(im->err, ERR_TOOLONG, "%s/%s: the path is longer than %zu bytes", im->path, name, sizeof im->path);
    }
    im->path_len = keep + (size_t)n;
    if (fstatat(dirfd, name, &e.st, AT_SYMLINK_NOFOLLOW))
        r = errno == ENOENT ? 0 : import_fail(im, errno, "reading its attributes");  /* gone meanwhile: the comparison sees it */
    else if (e.st.st_dev != im->dev)
        r = err_set(im->err, ERR_USAGE, "%s: expected one file system, found another one mounted here; unmount it, or move it away",
                    im->path);
    else
        r = fn(im, &e);
    im->path_len = keep;
    im->path[keep] = '\0';
    return r;
}

int import_each(struct import *im, int dirfd, uint64_t parent, int (*fn)(struct import *im, const struct import_entry *e))
{
    int d = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
    DIR *dir = d >= 0 ? fdopendir(d) : NULL;
    struct dirent *de;

    if (!dir) {
        r = import_fail(im, errno, "listing the directory");
        if (d >= 0)
            close(d);
        return r;
    }
    if (im->depth >= IMPORT_DEPTH_MAX) {
        r = err_set(im->err, ERR_TOOLONG, "%s: expected at most %d directories inside each other", im->path, IMPORT_DEPTH_MAX);
        goto out;
    }
    im->depth++;
    for (;;) {
        errno = 0;
        de = readdir(dir);
        if (!de) {
            if (errno)
                r = import_fail(im, errno, "listing the directory");
            break;
        }
        if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
            continue;
        r = one_entry(im, dirfd, parent, de->d_name, fn);
        if (r)
            break;
    }
    im->depth--;
out:
    closedir(dir);
    return r;
}

struct names { char *p; size_t len, cap; bool failed; };
struct name_head { uint64_t ino; uint32_t type; uint32_t nlen; };

static int add_name(void *arg, const struct dirent_out *d)
{
    struct names *v = arg;
    struct name_head h = { d->ino, d->type, (uint32_t)d->nlen };
    size_t need = v->len + sizeof h + d->nlen + 1;

    if (need > v->cap) {
        size_t cap = 2 * need + 4096;
        char *p = realloc(v->p, cap);

        if (!p) {
            v->failed = true;
            return 1;
        }
        v->p = p;
        v->cap = cap;
    }
    memcpy(v->p + v->len, &h, sizeof h);
    memcpy(v->p + v->len + sizeof h, d->name, d->nlen);
    v->p[need - 1] = '\0';
    v->len = need;
    return 0;
}

int import_names(struct import *im, uint64_t parent, int (*fn)(struct import *im, uint64_t parent, const char *name, uint64_t ino,
                 uint32_t type, int dirfd), int dirfd)
{
    struct names v = { 0 };
    struct name_head h;
    int r = store_readdir(im->s, AT_LIVE, parent, 0, add_name, &v, NULL);

    if (r < 0 || v.failed) {
        r = r < 0 ? import_store_fail(im, r, "listing the directory") : import_fail(im, ENOMEM, "listing the directory");
        goto out;
    }
    r = 0;
    for (size_t i = 0; i < v.len && r == 0; i += sizeof h + h.nlen + 1) {
        memcpy(&h, v.p + i, sizeof h);
        r = fn(im, parent, v.p + i + sizeof h, h.ino, h.type, dirfd);
    }
out:
    free(v.p);
    return r;
}

static struct import_link *probe(struct import_link *t, size_t cap, uint64_t src)
{
    size_t i = (size_t)(src * 0x9e3779b97f4a7c15u >> 17) & (cap - 1);

    while (t[i].src && t[i].src != src)
        i = (i + 1) & (cap - 1);
    return &t[i];
}

uint64_t *import_link_slot(struct import *im, uint64_t src)
{
    struct import_link *l;

    if (2 * im->links_n >= im->links_cap) {
        struct import_link *t = calloc(2 * im->links_cap, sizeof *t);

        if (!t)
            return NULL;
        for (size_t i = 0; i < im->links_cap; i++)
            if (im->links[i].src)
                *probe(t, 2 * im->links_cap, im->links[i].src) = im->links[i];
        free(im->links);
        im->links = t;
        im->links_cap *= 2;
    }
    l = probe(im->links, im->links_cap, src);
    if (!l->src) {
        l->src = src;
        im->links_n++;
    }
    return &l->ino;
}

/* The source object by a path that xattr calls take: they have no form with a directory descriptor. */
static void proc_path(const struct import_entry *e, char *buf, size_t cap)
{
    snprintf(buf, cap, "/proc/self/fd/%d/%s", e->dirfd, e->name);
}

int import_listxattr(struct import *im, const struct import_entry *e, char **names, size_t *len)
{
    char path[320];
    ssize_t n;

    *names = NULL;
    *len = 0;
    proc_path(e, path, sizeof path);
    n = llistxattr(path, NULL, 0);
    if (n <= 0)
        return n == 0 || errno == ENOTSUP || errno == ENOENT ? 0 : import_fail(im, errno, "listing its attributes");
    *names = malloc((size_t)n + 1);
    if (!*names)
        return import_fail(im, ENOMEM, "listing its attributes");
    n = llistxattr(path, *names, (size_t)n);
    if (n < 0)
        return import_fail(im, errno, "listing its attributes");
    *len = (size_t)n;
    (*names)[n] = '\0';
    return 0;
}

int import_getxattr(struct import *im, const struct import_entry *e, const char *name, size_t *len)
{
    char path[320];
    ssize_t n;

    proc_path(e, path, sizeof path);
    n = lgetxattr(path, name, im->buf, 65536);
    if (n < 0)
        return import_fail(im, errno, name);
    *len = (size_t)n;
    return 0;
}

int import_readlink(struct import *im, const struct import_entry *e, char *buf, size_t cap)
{
    ssize_t n = readlinkat(e->dirfd, e->name, buf, cap - 1);

    if (n < 0)
        return import_fail(im, errno, "reading the symbolic link");
    buf[n] = '\0';
    return 0;
}

bool import_same_time(struct timespec a, struct rec_time b)
{
    return a.tv_sec == b.sec && (uint32_t)a.tv_nsec == b.nsec;
}

bool import_looks_same(const struct import *im, const struct stat *st, const struct row_ino *row)
{
    int64_t ctime_ns = st->st_ctim.tv_sec * 1000000000 + st->st_ctim.tv_nsec;

    return ctime_ns < im->opt->changed_since_ns && (uint64_t)st->st_size == row->size && import_same_time(st->st_mtim, row->mtime);
}

int import_same_data(struct import *im, const struct import_entry *e, uint64_t ino, bool *same)
{
    int fd = openat(e->dirfd, e->name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC), r = 0;
    uint64_t off = 0;

    *same = false;
    if (fd < 0)
        return import_fail(im, errno, "opening the file");
    for (;;) {
        ssize_t n = pread(fd, im->buf, IMPORT_CHUNK, (off_t)off);
        int64_t m;

        if (n < 0) {
            r = import_fail(im, errno, "reading the file");
            break;
        }
        m = store_read(im->s, AT_LIVE, ino, off, im->buf2, IMPORT_CHUNK, false, NULL, im->err);
        if (m < 0) {
            r = (int)m;
            break;
        }
        if (n != m || memcmp(im->buf, im->buf2, (size_t)n) != 0)
            break;
        if (n == 0) {
            *same = true;
            break;
        }
        off += (uint64_t)n;
        import_tick(im, (uint64_t)n);
        if (out_interrupted) {
            r = err_set(im->err, ERR_INTR, "interrupted; the same command goes on where it was");
            break;
        }
    }
    close(fd);
    return r;
}

/* ---- measuring ---- */

static int measure(struct import *im, const struct import_entry *e)
{
    int fd, r;

    im->st->objects++;
    if (S_ISREG(e->st.st_mode))
        im->st->bytes += (uint64_t)e->st.st_size;
    if (!S_ISDIR(e->st.st_mode))
        return 0;
    fd = openat(e->dirfd, e->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return import_fail(im, errno, "opening the directory");
    r = import_each(im, fd, 0, measure);
    close(fd);
    return r;
}

int import_measure(const char *dir, uint64_t *bytes, uint64_t *objects, struct err *err)
{
    struct import_options opt = { 0 };
    struct import_stats st;
    struct import im;
    struct stat root;
    int fd = -1, r = import_begin(&im, NULL, dir, &opt, &st, "looking", &fd, &root, err);

    if (r == 0)
        r = import_each(&im, fd, 0, measure);
    *bytes = st.bytes;
    *objects = st.objects;
    import_end(&im, fd);
    return r;
}
