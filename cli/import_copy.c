/* Make the store's live tree equal to a directory. */
#include "cli/import_internal.h"

#include "cli/out.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static int remove_name(struct import *im, uint64_t parent, const char *name, uint64_t ino, uint32_t type, int dirfd)
{
    bool dir = type == S_IFDIR >> 12;
    uint64_t gone = 0;
    int r = 0;

    (void)dirfd;
    if (dir)
        r = import_names(im, ino, remove_name, -1);
    if (r == 0)
        r = store_unlink(im->s, &im->who, parent, name, strlen(name), dir, &gone, NULL);
    if (r == 0 && gone)
        r = store_reap(im->s, &gone, 1, NULL);
    if (r == 0)
        im->st->removed++;
    return r < 0 ? import_store_fail(im, r, "removing what the source does not have") : 0;
}

static int remove_if_extra(struct import *im, uint64_t parent, const char *name, uint64_t ino, uint32_t type, int dirfd)
{
    struct stat st;

    if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return 0;
    return errno == ENOENT ? remove_name(im, parent, name, ino, type, dirfd) : import_fail(im, errno, name);
}

/* Data between holes, 1 MiB at a time. The size is set first, so holes are holes. */
static int copy_data(struct import *im, const struct import_entry *e, uint64_t ino)
{
    struct setattr_in to = { .valid = RSA_SIZE, .size = 0 };
    int fd = openat(e->dirfd, e->name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC), r;
    off_t at = 0, end;

    if (fd < 0)
        return import_fail(im, errno, "opening the file");
    r = store_setattr(im->s, &im->who, ino, &to, NULL, NULL);
    to.size = (uint64_t)e->st.st_size;
    if (r == 0 && to.size)
        r = store_setattr(im->s, &im->who, ino, &to, NULL, NULL);
    if (r < 0) {
        r = import_store_fail(im, r, "setting the size");
        goto out;
    }
    while (at < e->st.st_size) {
        off_t data = lseek(fd, at, SEEK_DATA);

        if (data < 0 && errno == ENXIO)
            break;
        if (data < 0)
            data = at;          /* a file system that knows no holes */
        end = lseek(fd, data, SEEK_HOLE);
        if (end < 0 || end > e->st.st_size)
            end = e->st.st_size;
        for (at = data; at < end;) {
            size_t want = end - at < IMPORT_CHUNK ? (size_t)(end - at) : IMPORT_CHUNK;
            ssize_t n = pread(fd, im->buf, want, at);
            int64_t w;

            if (n < 0 && errno == EINTR && !out_interrupted)
                continue;
            if (n < 0) {
                r = import_fail(im, errno, "reading the file");
                goto out;
            }
            if (n == 0)
                goto out;       /* it became shorter meanwhile: the comparison sees it */
            w = store_write(im->s, &im->who, ino, (uint64_t)at, im->buf, (size_t)n, NULL);
            if (w < 0) {
                r = import_store_fail(im, (int)w, "writing the file");
                goto out;
            }
            at += n;
            import_tick(im, (uint64_t)n);
        }
    }
    im->st->copied++;
out:
    close(fd);
    return r;
}

static bool has_name(const char *names, size_t len, const char *name)
{
    for (size_t i = 0; i < len; i += strlen(names + i) + 1)
        if (strcmp(names + i, name) == 0)
            return true;
    return false;
}

static int copy_xattrs(struct import *im, const struct import_entry *e, uint64_t ino)
{
    char *src = NULL, *dst = NULL;
    size_t slen, vlen;
    int64_t dlen;
    int r = import_listxattr(im, e, &src, &slen);

    for (size_t i = 0; r == 0 && i < slen; i += strlen(src + i) + 1) {
        r = import_getxattr(im, e, src + i, &vlen);
        if (r)
            break;
        dlen = store_getxattr(im->s, AT_LIVE, ino, src + i, im->buf2, 65536, NULL);
        if (dlen >= 0 && (size_t)dlen == vlen && memcmp(im->buf, im->buf2, vlen) == 0)
            continue;
        r = store_setxattr(im->s, &im->who, ino, src + i, im->buf, vlen, 0, false, NULL);
        if (r == ERR_NOTSUP) {
            out_warn("%s: attribute %s is not kept: the store does not take its kind", im->path, src + i);
            im->st->skipped++;
            r = 0;
        } else if (r < 0) {
            r = import_store_fail(im, r, src + i);
        }
    }
    dlen = r ? 0 : store_listxattr(im->s, AT_LIVE, ino, NULL, 0, NULL);
    if (dlen > 0 && (dst = malloc((size_t)dlen)))
        dlen = store_listxattr(im->s, AT_LIVE, ino, dst, (size_t)dlen, NULL);
    for (int64_t i = 0; dst && r == 0 && i < dlen; i += (int64_t)strlen(dst + i) + 1)
        if (!has_name(src, slen, dst + i) && (r = store_removexattr(im->s, &im->who, ino, dst + i, NULL)) < 0)
            r = import_store_fail(im, r, dst + i);
    free(src);
    free(dst);
    return r;
}

static int copy_attributes(struct import *im, const struct stat *st, uint64_t ino)
{
    struct setattr_in in = { .valid = RSA_UID | RSA_GID, .mode = st->st_mode & 07777, .uid = st->st_uid, .gid = st->st_gid,
                             .atime = { st->st_atim.tv_sec, (uint32_t)st->st_atim.tv_nsec },
                             .mtime = { st->st_mtim.tv_sec, (uint32_t)st->st_mtim.tv_nsec } };
    struct row_ino row;
    int r = store_getattr(im->s, AT_LIVE, ino, &row, NULL);

    /* Content was dealt with before; a second pass should not make history of what is right already. */
    if (r == 0 && row.mode == st->st_mode && row.uid == st->st_uid && row.gid == st->st_gid
        && import_same_time(st->st_mtim, row.mtime))
        return 0;
    if (r == 0 && (row.uid != st->st_uid || row.gid != st->st_gid))
        r = store_setattr(im->s, &im->who, ino, &in, NULL, NULL);
    /* In this order: a change of owner may clear the set-id bits. */
    in.valid = RSA_ATIME | RSA_MTIME | (S_ISLNK(st->st_mode) ? 0u : (uint32_t)RSA_MODE);
    if (r == 0)
        r = store_setattr(im->s, &im->who, ino, &in, NULL, NULL);
    return r < 0 ? import_store_fail(im, r, "setting owner, mode and times") : 0;
}

/* Could what is there become e by changing content and attributes only? */
static bool reusable(struct import *im, const struct import_entry *e, uint64_t ino, const struct row_ino *row, const char *target)
{
    char now[REC_SYMLINK_MAX + 1];
    int64_t n;

    if ((row->mode & S_IFMT) != (e->st.st_mode & S_IFMT))
        return false;
    if (S_ISLNK(row->mode)) {
        n = store_readlink(im->s, AT_LIVE, ino, now, sizeof now, NULL);
        return n >= 0 && (size_t)n == strlen(target) && memcmp(now, target, (size_t)n) == 0;
    }
    return (!S_ISCHR(row->mode) && !S_ISBLK(row->mode)) || row->rdev == (uint32_t)e->st.st_rdev;
}

/* A further name of a file that was copied under another one. 1 done, 0 it is the first name. */
static int copy_link(struct import *im, const struct import_entry *e, uint64_t have, uint32_t have_type, uint64_t **slot)
{
    struct row_ino row;
    int r;

    *slot = NULL;
    if (S_ISDIR(e->st.st_mode) || e->st.st_nlink < 2)
        return 0;
    *slot = import_link_slot(im, e->st.st_ino);
    if (!*slot)
        return import_fail(im, ENOMEM, "remembering hard links");
    if (!**slot)
        return 0;
    if (have == **slot)
        return 1;
    if (have && (r = remove_name(im, e->parent, e->name, have, have_type, -1)))
        return r;
    r = store_link_node(im->s, &im->who, **slot, e->parent, e->name, strlen(e->name), &row, NULL);
    return r < 0 ? import_store_fail(im, r, "making a hard link") : 1;
}

static int copy_entry(struct import *im, const struct import_entry *e);

static int copy_content(struct import *im, const struct import_entry *e, uint64_t ino, const struct row_ino *row, bool fresh)
{
    bool same = false;
    int fd, r = 0;

    if (S_ISREG(e->st.st_mode)) {
        /* A pass after the first writes only what did change: history should not hold it twice. */
        if (!fresh && import_looks_same(im, &e->st, row))
            same = true;
        else if (!fresh && row->size == (uint64_t)e->st.st_size)
            r = import_same_data(im, e, ino, &same);
        return r || same ? r : copy_data(im, e, ino);
    }
    if (!S_ISDIR(e->st.st_mode))
        return 0;
    fd = openat(e->dirfd, e->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return import_fail(im, errno, "opening the directory");
    r = import_each(im, fd, ino, copy_entry);
    if (r == 0 && !fresh)
        r = import_names(im, ino, remove_if_extra, fd);
    close(fd);
    return r;
}

static int copy_entry(struct import *im, const struct import_entry *e)
{
    char target[REC_SYMLINK_MAX + 2] = "";
    uint64_t ino = 0, *slot;
    struct row_ino row = { 0 };
    bool fresh = false;
    int r;

    im->st->objects++;
    if (S_ISLNK(e->st.st_mode) && (r = import_readlink(im, e, target, sizeof target)))
        return r;
    r = store_lookup(im->s, AT_LIVE, e->parent, e->name, strlen(e->name), &ino, &row, NULL);
    if (r && r != ERR_NOENT)
        return import_store_fail(im, r, "looking it up");
    if (r)
        ino = 0;
    r = copy_link(im, e, ino, row.mode >> 12, &slot);
    if (r)
        return r < 0 ? r : 0;
    /* What is shared with a name that is yet to come would be changed under it. */
    if (ino && (!reusable(im, e, ino, &row, target) || (!S_ISDIR(row.mode) && row.nlink > 1 && !slot))) {
        r = remove_name(im, e->parent, e->name, ino, row.mode >> 12, -1);
        if (r)
            return r;
        ino = 0;
    }
    if (!ino) {
        fresh = true;
        r = store_create_node(im->s, &im->who, e->parent, e->name, strlen(e->name), e->st.st_mode, (uint32_t)e->st.st_rdev,
                              S_ISLNK(e->st.st_mode) ? target : NULL, &ino, &row, NULL);
        if (r < 0)
            return import_store_fail(im, r, "making it");
    }
    if (slot)
        *slot = ino;
    r = copy_content(im, e, ino, &row, fresh);
    if (r == 0)
        r = copy_xattrs(im, e, ino);
    if (r == 0)
        r = copy_attributes(im, &e->st, ino);
    return r;
}

int import_copy(struct store *s, const char *dir, const struct import_options *opt, struct import_stats *st, struct err *err)
{
    struct import *im = malloc(sizeof *im);
    struct import_entry self = { .name = "." };
    int fd = -1, r;

    if (!im)
        return err_set(err, ERR_NOMEM, "%s: no memory", dir);
    r = import_begin(im, s, dir, opt, st, "copying", &fd, &self.st, err);
    if (r == 0)
        r = import_each(im, fd, INO_ROOT, copy_entry);
    if (r == 0)
        r = import_names(im, INO_ROOT, remove_if_extra, fd);
    self.dirfd = fd;
    if (r == 0)
        r = copy_xattrs(im, &self, INO_ROOT);
    if (r == 0)
        r = copy_attributes(im, &self.st, INO_ROOT);
    import_end(im, fd);
    free(im);
    return r;
}
