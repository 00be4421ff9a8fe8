/* Compare a directory with the store's live tree: everything a person could miss later. */
#include "cli/import_internal.h"

#include "cli/out.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NAMED_DIFFERENCES = 20 };

static int differs(struct import *im, const char *what)
{
    if (++im->st->differ <= NAMED_DIFFERENCES)
        out_message("%s: %s differs from what the store holds", im->path, what);
    return 0;
}

/* The store has every attribute of the source, with its value; kinds it does not take were named by the copy. */
static int same_xattrs(struct import *im, const struct import_entry *e, uint64_t ino, const struct row_ino *row)
{
    char *names = NULL;
    size_t len, vlen;
    uint64_t kept = 0;
    int r = import_listxattr(im, e, &names, &len);

    for (size_t i = 0; r == 0 && i < len; i += strlen(names + i) + 1) {
        int64_t n;

        r = import_getxattr(im, e, names + i, &vlen);
        if (r)
            break;
        n = store_getxattr(im->s, AT_LIVE, ino, names + i, im->buf2, 65536, NULL);
        if (n == ERR_NOTSUP)
            continue;
        kept++;
        if (n < 0 || (size_t)n != vlen || memcmp(im->buf, im->buf2, vlen) != 0)
            differs(im, names + i);
    }
    if (r == 0 && kept < row->n_xattr)
        differs(im, "the number of its attributes");
    free(names);
    return r;
}

static int same_attributes(struct import *im, const struct import_entry *e, uint64_t ino, const struct row_ino *row)
{
    if (row->mode != e->st.st_mode)
        differs(im, "type or mode");
    if (row->uid != e->st.st_uid || row->gid != e->st.st_gid)
        differs(im, "owner");
    if (!import_same_time(e->st.st_mtim, row->mtime))
        differs(im, "modification time");
    if ((S_ISCHR(row->mode) || S_ISBLK(row->mode)) && row->rdev != (uint32_t)e->st.st_rdev)
        differs(im, "device number");
    return same_xattrs(im, e, ino, row);
}

static int compare_entry(struct import *im, const struct import_entry *e);

static int no_extra(struct import *im, uint64_t parent, const char *name, uint64_t ino, uint32_t type, int dirfd)
{
    struct stat st;

    (void)parent, (void)ino, (void)type;
    if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return 0;
    if (errno != ENOENT)
        return import_fail(im, errno, name);
    if (++im->st->differ <= NAMED_DIFFERENCES)
        out_message("%s/%s: the store holds it, the directory does not", im->path, name);
    return 0;
}

static int compare_dir(struct import *im, const struct import_entry *e, uint64_t ino)
{
    int fd = openat(e->dirfd, e->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), r;

    if (fd < 0)
        return import_fail(im, errno, "opening the directory");
    r = import_each(im, fd, ino, compare_entry);
    if (r == 0)
        r = import_names(im, ino, no_extra, fd);
    close(fd);
    return r;
}

static int compare_entry(struct import *im, const struct import_entry *e)
{
    char target[REC_SYMLINK_MAX + 2], now[REC_SYMLINK_MAX + 2];
    uint64_t ino, *slot;
    struct row_ino row;
    bool same = true;
    int64_t n;
    int r = store_lookup(im->s, AT_LIVE, e->parent, e->name, strlen(e->name), &ino, &row, NULL);

    im->st->objects++;
    if (r == ERR_NOENT)
        return differs(im, "that it is there");
    if (r)
        return import_store_fail(im, r, "looking it up");
    if ((row.mode & S_IFMT) != (e->st.st_mode & S_IFMT))
        return differs(im, "its type");
    if (!S_ISDIR(row.mode) && e->st.st_nlink > 1) {
        slot = import_link_slot(im, e->st.st_ino);
        if (!slot)
            return import_fail(im, ENOMEM, "remembering hard links");
        if (*slot)
            return *slot == ino ? 0 : differs(im, "that it is another name of the same file");
        *slot = ino;
    }
    if (S_ISLNK(row.mode)) {
        r = import_readlink(im, e, target, sizeof target);
        n = r ? 0 : store_readlink(im->s, AT_LIVE, ino, now, sizeof now, NULL);
        same = r || ((size_t)n == strlen(target) && memcmp(now, target, (size_t)n) == 0);
    } else if (S_ISREG(row.mode)) {
        if (row.size != (uint64_t)e->st.st_size)
            same = false;
        else if (!import_looks_same(im, &e->st, &row))
            r = import_same_data(im, e, ino, &same);
        im->st->bytes += row.size;
    }
    if (r)
        return r;
    if (!same)
        differs(im, "its content");
    if (S_ISDIR(row.mode) && (r = compare_dir(im, e, ino)))
        return r;
    return same_attributes(im, e, ino, &row);
}

int import_verify(struct store *s, const char *dir, const struct import_options *opt, struct import_stats *st, struct err *err)
{
    struct import *im = malloc(sizeof *im);
    struct import_entry self = { .name = "." };
    struct row_ino row;
    int fd = -1, r;

    if (!im)
        return err_set(err, ERR_NOMEM, "%s: no memory", dir);
    r = import_begin(im, s, dir, opt, st, "comparing", &fd, &self.st, err);
    self.dirfd = fd;
    if (r == 0 && (r = store_getattr(s, AT_LIVE, INO_ROOT, &row, NULL)))
        import_store_fail(im, r, "reading the root");
    if (r == 0)
        r = compare_dir(im, &self, INO_ROOT);
    if (r == 0)
        r = same_attributes(im, &self, INO_ROOT, &row);
    import_end(im, fd);
    free(im);
    return r;
}
