/* torture_ops.c: the model's operations as system calls on the mount. */
#include "tests/e2e/torture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { NOT_EXPRESSIBLE = -1000000 };

/* ---- where things are ---- */

int tort_dir(const struct tort *t, uint64_t ino)
{
    const struct mino *d = model_find(t->m, ino);
    if (d == NULL || !S_ISDIR(d->a.mode) || d->a.nlink == 0)
        return -1;
    if (ino == t->gen.root)
        return open(t->mnt, O_PATH | O_DIRECTORY | O_CLOEXEC);
    const struct mino *p = model_find(t->m, d->parent);
    for (size_t k = 0; p != NULL && k < p->n_ent; k++) {
        if (p->ent[k].ino != ino)
            continue;
        int up = tort_dir(t, d->parent);
        int fd = up < 0 ? -1 : openat(up, p->ent[k].name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (up >= 0)
            close(up);
        return fd;
    }
    return -1;
}

struct place { int dir; const char *name; int fd; char path[M_NAME_CAP + 40]; };

static void place_release(struct place *p)
{
    if (p->dir >= 0)
        close(p->dir);
    p->dir = -1;
}

/* One of the names of ${ino}, or the descriptor that still holds it. */
static bool place_of(struct tort *t, uint64_t ino, struct place *p)
{
    const struct mino *i = model_find(t->m, ino);
    p->dir = p->fd = -1;
    if (i == NULL)
        return false;
    for (int k = 0; k < TORT_FDS; k++)
        if (t->fd[k].fd >= 0 && t->fd[k].ino == ino)
            p->fd = t->fd[k].fd;
    if (i->a.nlink == 0) {
        snprintf(p->path, sizeof p->path, "/proc/self/fd/%d", p->fd);
        return p->fd >= 0;
    }
    if (ino == t->gen.root) {
        p->dir = open(t->mnt, O_PATH | O_DIRECTORY | O_CLOEXEC);
        p->name = ".";
    } else {
        size_t from = (size_t)rng_below(&t->rng, t->m->n_ino);
        for (size_t k = 0; k < t->m->n_ino && p->dir < 0; k++) {
            const struct mino *d = t->m->ino[(from + k) % t->m->n_ino];
            for (size_t e = 0; e < d->n_ent && p->dir < 0; e++)
                if (d->ent[e].ino == ino) {
                    p->name = d->ent[e].name;
                    p->dir = tort_dir(t, d->a.ino);
                }
        }
    }
    if (p->dir < 0)
        return false;
    snprintf(p->path, sizeof p->path, "/proc/self/fd/%d/%s", p->dir, p->name);
    return true;
}

static bool is_type(const struct tort *t, uint64_t ino, uint32_t type)
{
    const struct mino *i = model_find(t->m, ino);
    return i != NULL && (i->a.mode & S_IFMT) == type;
}

/* Only for regular files and directories: a FIFO or a device would do what it is made for. */
static int open_file(struct tort *t, uint64_t ino, int flags)
{
    struct place p;
    int fd;
    if ((!is_type(t, ino, S_IFREG) && !is_type(t, ino, S_IFDIR)) || !place_of(t, ino, &p)) {
        errno = 0;
        return NOT_EXPRESSIBLE;
    }
    fd = open(p.path, flags | O_CLOEXEC | (p.dir >= 0 ? O_NOFOLLOW : 0));
    int eno = errno;
    place_release(&p);
    errno = eno;
    return fd;
}

static int done(int fd, int rc)
{
    int eno = errno;
    if (fd >= 0)
        close(fd);
    errno = eno;
    return rc;
}

/* ---- the calls: 0 or more, -1 with errno, NOT_EXPRESSIBLE ---- */

static dev_t dev_of(uint32_t rdev)
{
    return makedev((rdev & 0xfff00) >> 8, (rdev & 0xff) | (rdev >> 12 & 0xfff00));
}

static int64_t call_create(struct tort *t, const struct mop *op)
{
    int dir = tort_dir(t, op->parent), rc = -1, fd;
    mode_t old = umask(op->umask);
    if (dir < 0) {
        umask(old);
        return NOT_EXPRESSIBLE;
    }
    unsigned how = (unsigned)rng_below(&t->rng, 3);
    if (S_ISDIR(op->mode)) {
        t->ways[TORT_MKDIR]++;
        rc = mkdirat(dir, op->name, op->mode & 07777);
    } else if (S_ISLNK(op->mode)) {
        t->ways[TORT_SYMLINK]++;
        rc = symlinkat((const char *)op->data, dir, op->name);
    } else if (S_ISREG(op->mode) && how > 0) {
        t->ways[how == 1 ? TORT_OPEN_CREAT : TORT_CREAT]++;
        /* creat(2) would take what is there: only for a name that is free */
        bool there = how == 2 && model_entry(model_find(t->m, op->parent), op->name, op->nlen) != NULL;
        fd = openat(dir, op->name, O_CREAT | (how == 1 || there ? O_EXCL | O_RDWR : O_WRONLY | O_TRUNC) | O_CLOEXEC, op->mode & 07777);
        rc = done(fd, fd < 0 ? -1 : 0);
    } else {
        t->ways[TORT_MKNOD]++;
        rc = mknodat(dir, op->name, op->mode, S_ISREG(op->mode) ? 0 : dev_of(op->rdev));
    }
    int eno = errno;
    umask(old);
    errno = eno;
    return done(dir, rc);
}

static int64_t call_link(struct tort *t, const struct mop *op)
{
    struct place p;
    const struct mino *i = model_find(t->m, op->ino);
    int dir = tort_dir(t, op->parent);
    if (i == NULL || i->a.nlink == 0 || op->ino == t->gen.root || dir < 0 || !place_of(t, op->ino, &p))
        return done(dir, NOT_EXPRESSIBLE);
    t->ways[TORT_LINK]++;
    int rc = linkat(p.dir, p.name, dir, op->name, 0);
    rc = done(dir, rc);
    return done(p.dir, rc);
}

static int64_t call_unlink(struct tort *t, const struct mop *op)
{
    int dir = tort_dir(t, op->parent);
    if (dir < 0)
        return NOT_EXPRESSIBLE;
    t->ways[op->kind == MOP_RMDIR ? TORT_RMDIR : TORT_UNLINK]++;
    return done(dir, unlinkat(dir, op->name, op->kind == MOP_RMDIR ? AT_REMOVEDIR : 0));
}

static int64_t call_rename(struct tort *t, const struct mop *op)
{
    int a = tort_dir(t, op->parent), b = a < 0 ? -1 : tort_dir(t, op->parent2);
    int rc = NOT_EXPRESSIBLE;
    if (b >= 0) {
        t->ways[op->flags & M_EXCHANGE ? TORT_EXCHANGE : op->flags & M_NOREPLACE ? TORT_NOREPLACE : TORT_RENAME]++;
        rc = renameat2(a, op->name, b, op->name2, op->flags);
    }
    rc = done(a, rc);
    return done(b, rc);
}

static int64_t call_truncate(struct tort *t, const struct mop *op)
{
    struct place p;
    int fd, rc;
    unsigned how = (unsigned)rng_below(&t->rng, 3);
    if (op->size == 0 && how == 0 && is_type(t, op->ino, S_IFREG)) {
        t->ways[TORT_OPEN_TRUNC]++;
        fd = open_file(t, op->ino, O_WRONLY | O_TRUNC);
        return fd == NOT_EXPRESSIBLE ? fd : done(fd, fd < 0 ? -1 : 0);
    }
    if (how == 1 && is_type(t, op->ino, S_IFREG)) {
        t->ways[TORT_FTRUNCATE]++;
        fd = open_file(t, op->ino, O_WRONLY);
        return fd == NOT_EXPRESSIBLE ? fd : done(fd, fd < 0 ? -1 : ftruncate(fd, (off_t)op->size));
    }
    if (is_type(t, op->ino, S_IFLNK) || !place_of(t, op->ino, &p))
        return NOT_EXPRESSIBLE;
    t->ways[TORT_TRUNCATE]++;
    rc = truncate(p.path, (off_t)op->size);
    return done(p.dir, rc);
}

static struct timespec time_of(const struct mop *op, uint32_t bit, struct mtime m)
{
    if (!(op->valid & bit))
        return (struct timespec){ 0, UTIME_OMIT };
    return m.nsec == M_NOW ? (struct timespec){ 0, UTIME_NOW } : (struct timespec){ m.sec, m.nsec };
}

/* One call sets one group of attributes: the operation is cut down to it. */
static int64_t call_setattr(struct tort *t, struct mop *op)
{
    struct place p;
    int rc;
    if (op->valid & M_SIZE) {
        op->valid = M_SIZE;
        return call_truncate(t, op);
    }
    if (!place_of(t, op->ino, &p))
        return NOT_EXPRESSIBLE;
    if (op->valid & M_MODE) {
        op->valid = M_MODE;
        t->ways[TORT_CHMOD]++;
        if (is_type(t, op->ino, S_IFLNK))
            return done(p.dir, NOT_EXPRESSIBLE);
        rc = p.fd >= 0 && rng_chance(&t->rng, 50) ? fchmod(p.fd, op->mode & 07777) : chmod(p.path, op->mode & 07777);
    } else if (op->valid & (M_UID | M_GID)) {
        op->valid &= M_UID | M_GID;
        t->ways[TORT_CHOWN]++;
        uid_t uid = op->valid & M_UID ? op->new_uid : (uid_t)-1;
        gid_t gid = op->valid & M_GID ? op->new_gid : (gid_t)-1;
        rc = p.dir < 0 ? chown(p.path, uid, gid) : lchown(p.path, uid, gid);
    } else if (op->valid & (M_ATIME | M_MTIME)) {
        struct timespec ts[2] = { time_of(op, M_ATIME, op->atime), time_of(op, M_MTIME, op->mtime) };
        t->ways[TORT_UTIMENS]++;
        rc = utimensat(AT_FDCWD, p.path, ts, p.dir < 0 ? 0 : AT_SYMLINK_NOFOLLOW);
    } else {
        rc = NOT_EXPRESSIBLE;
    }
    return done(p.dir, rc);
}

/* A store through a shared mapping, written back before it counts. */
static int mmap_write(int fd, uint64_t off, const void *data, size_t len)
{
    uint64_t base = off / 4096 * 4096;
    size_t n = (size_t)(off - base) + len;
    char *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)base);
    if (p == MAP_FAILED)
        return -1;
    memcpy(p + (off - base), data, len);
    int rc = msync(p, n, MS_SYNC);
    return munmap(p, n) == 0 ? rc : -1;
}

static int64_t call_write(struct tort *t, struct mop *op)
{
    bool append = op->off == M_APPEND;
    const struct mino *i = model_find(t->m, op->ino);
    int fd = op->dlen == 0 && !is_type(t, op->ino, S_IFREG) ? NOT_EXPRESSIBLE
           : open_file(t, op->ino, append ? O_WRONLY | O_APPEND : O_RDWR);
    if (fd < 0)
        return fd;
    if (!append && op->dlen > 0 && op->off < i->a.size && op->dlen <= i->a.size - op->off && rng_chance(&t->rng, 50)) {
        t->ways[TORT_MMAP]++;
        return done(fd, mmap_write(fd, op->off, op->data, op->dlen));
    }
    t->ways[append ? TORT_APPEND : TORT_PWRITE]++;
    ssize_t n = append ? write(fd, op->data, op->dlen) : pwrite(fd, op->data, op->dlen, (off_t)op->off);
    uint64_t at = append ? i->a.size : op->off;
    if (n > 0 && (uint64_t)n < op->dlen && at + op->dlen > M_SIZE_MAX)
        op->dlen = (uint32_t)n;          /* at the largest size a part may be taken */
    if (n >= 0 && n != (ssize_t)op->dlen) {
        (void)tort_fail(t, "short write: %zd of %u bytes", n, op->dlen);
        n = -1;
        errno = 0;
    }
    return done(fd, n < 0 ? -1 : 0);
}

static int64_t call_fallocate(struct tort *t, const struct mop *op)
{
    int fd = is_type(t, op->ino, S_IFREG) ? open_file(t, op->ino, O_WRONLY) : NOT_EXPRESSIBLE;
    if (fd < 0)
        return fd;
    t->ways[op->flags & M_PUNCH ? TORT_PUNCH : op->flags & M_ZERO ? TORT_ZERO : TORT_FALLOCATE]++;
    return done(fd, fallocate(fd, (int)op->flags, (off_t)op->off, (off_t)op->len));
}

static int64_t call_copy(struct tort *t, const struct mop *op)
{
    bool files = is_type(t, op->ino, S_IFREG) && is_type(t, op->src_ino, S_IFREG);
    int in = files ? open_file(t, op->src_ino, O_RDONLY) : NOT_EXPRESSIBLE;
    int out = in < 0 ? in : open_file(t, op->ino, O_WRONLY);
    if (out < 0)
        return done(in, out);
    t->ways[TORT_COPY_FILE_RANGE]++;
    off_t from = (off_t)op->src_off, to = (off_t)op->off;
    uint64_t size = model_find(t->m, op->src_ino)->a.size, there = op->src_off < size ? size - op->src_off : 0;
    int64_t total = 0, left = (int64_t)(there > 0 && there < op->len ? there : op->len);      /* the source may grow under way */
    ssize_t n = 1;
    while (left > 0 && n > 0) {
        n = copy_file_range(in, &from, out, &to, (size_t)left, 0);
        if (n > 0)
            left -= n, total += n;
    }
    int rc = done(in, n < 0 ? -1 : 0);
    rc = done(out, rc);
    return rc < 0 ? rc : total;
}

/* What the kernel lets through: user.* for files and directories, a capability in the form it knows. */
static bool xattr_fit(const struct tort *t, struct mop *op)
{
    bool plain = is_type(t, op->ino, S_IFREG) || is_type(t, op->ino, S_IFDIR);
    if (!plain && strncmp(op->name, "trusted.", 8) != 0)
        return false;
    if (strcmp(op->name, "security.capability") == 0) {
        if (!is_type(t, op->ino, S_IFREG))
            return false;
        if (op->kind == MOP_SETXATTR) {
            uint8_t first = op->dlen > 0 ? op->data[0] : 1;
            free(op->data);
            op->data = m_alloc(20);
            op->dlen = 20;
            op->data[3] = 2;
            op->data[4] = first;
        }
    }
    return true;
}

static int64_t call_xattr(struct tort *t, struct mop *op)
{
    struct place p;
    int rc;
    if (!xattr_fit(t, op) || !place_of(t, op->ino, &p))
        return NOT_EXPRESSIBLE;
    bool acl = strncmp(op->name, "system.", 7) == 0;
    op->kill = false;
    if (op->kind == MOP_REMOVEXATTR) {
        t->ways[TORT_REMOVEXATTR]++;
        rc = p.dir < 0 ? removexattr(p.path, op->name) : lremovexattr(p.path, op->name);
    } else {
        t->ways[acl ? TORT_ACL : TORT_SETXATTR]++;
        rc = p.dir < 0 ? setxattr(p.path, op->name, op->data, op->dlen, (int)op->flags)
                       : lsetxattr(p.path, op->name, op->data, op->dlen, (int)op->flags);
    }
    return done(p.dir, rc);
}

static int64_t call(struct tort *t, struct mop *op)
{
    switch (op->kind) {
    case MOP_CREATE: return call_create(t, op);
    case MOP_LINK: return call_link(t, op);
    case MOP_UNLINK:
    case MOP_RMDIR: return call_unlink(t, op);
    case MOP_RENAME: return call_rename(t, op);
    case MOP_SETATTR: return call_setattr(t, op);
    case MOP_WRITE: return call_write(t, op);
    case MOP_FALLOCATE: return call_fallocate(t, op);
    case MOP_CLONE: return call_copy(t, op);
    case MOP_SETXATTR:
    case MOP_REMOVEXATTR: return call_xattr(t, op);
    case MOP_SNAPSHOT:
    case MOP_SERIES:
    case MOP_REAP:
    case MOP_N_KINDS: break;
    }
    return NOT_EXPRESSIBLE;
}

/* ---- an operation next to the model ---- */

/* Beyond what the model says, errors of the VFS, which looks at some things in another order or refuses them by itself. */
static bool vfs_says(const struct mop *op, int eno)
{
    switch (op->kind) {
    case MOP_RENAME: return eno == ENOTEMPTY || eno == EINVAL || eno == EEXIST;
    case MOP_SETXATTR: return strncmp(op->name, "system.", 7) == 0 && eno == EOPNOTSUPP;
    case MOP_LINK: return eno == EXDEV;
    case MOP_CREATE: return eno == EEXIST;
    default: return false;
    }
}

static int refused(const struct tort *t, const struct mop *op, const struct merrs *e, int eno)
{
    for (int k = 0; k < e->n; k++)
        if (e->e[k] == eno)
            return 0;
    if (e->n == 0)
        return tort_fail(t, "expected success, found %s", strerror(eno));
    return vfs_says(op, eno) ? 0 : tort_fail(t, "expected %s, found %s", strerror(e->e[0]), strerror(eno));
}

static int created(struct tort *t, struct mop *op)
{
    struct stat st;
    int dir = tort_dir(t, op->parent);
    if (fstatat(dir, op->name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return done(dir, tort_fail(t, "stat of what was just made: %s", strerror(errno)));
    close(dir);
    if (st.st_ino <= t->m->max_ino)
        return tort_fail(t, "inode number %ju was used before", (uintmax_t)st.st_ino);
    op->ino = st.st_ino;
    t->big_names += op->nlen == 255;
    return 0;
}

/* What has neither name nor descriptor is gone. */
static void reap(struct tort *t)
{
    for (size_t k = t->m->n_ino; k-- > 0;) {
        struct place p;
        struct mop op = { .kind = MOP_REAP, .ino = t->m->ino[k]->a.ino };
        if (t->m->ino[k]->a.nlink > 0)
            continue;
        if (!place_of(t, op.ino, &p))
            (void)model_do(t->m, &op);
    }
}

/* Before it asks for a change that is refused as too large, the kernel takes the file's capability away by a REMOVEXATTR of its own. */
static bool kernel_acts_first(const struct tort *t, const struct mop *op)
{
    const struct mino *i = model_find(t->m, op->ino);
    struct merrs e;

    if (op->kind != MOP_WRITE && op->kind != MOP_FALLOCATE && op->kind != MOP_CLONE && !(op->kind == MOP_SETATTR && (op->valid & M_SIZE)))
        return false;
    if (i == NULL || model_xattr(i, "security.capability") == NULL)
        return false;
    model_check(t->m, op, &e);
    for (int k = 0; k < e.n; k++)
        if (e.e[k] == EFBIG)
            return true;
    return false;
}

int tort_op(struct tort *t, struct mop *op)
{
    struct merrs e;
    mop_text(op, t->doing, sizeof t->doing);
    if (op->kind == MOP_CLONE)
        op->src_at = M_LIVE;
    op->uid = op->gid = 0;
    op->kill = op->kind == MOP_SETATTR && (op->valid & (M_UID | M_GID)) != 0;
    if (op->kind == MOP_SETATTR && (op->valid & M_SIZE))
        op->kill = false;
    if (kernel_acts_first(t, op)) {
        t->n_given++;
        return 0;
    }
    int64_t rc = call(t, op);
    int eno = errno;
    if (rc == NOT_EXPRESSIBLE) {
        t->n_given++;
        return 0;
    }
    mop_text(op, t->doing, sizeof t->doing);
    model_check(t->m, op, &e);
    if (rc < 0) {
        t->n_refused++;
        return refused(t, op, &e, eno);
    }
    if (op->kind == MOP_CLONE && rc == 0 && e.n > 0) {    /* nothing to copy: the kernel answers without asking */
        t->n_given++;
        return 0;
    }
    if (e.n > 0)
        return tort_fail(t, "expected %s, found success", strerror(e.e[0]));
    if (op->kind == MOP_CREATE && created(t, op) != 0)
        return -1;
    const struct mino *i = model_find(t->m, op->ino);
    t->ways[TORT_UNNAMED] += i != NULL && i->a.nlink == 0;
    uint64_t moved = model_do(t->m, op);
    if (op->kind == MOP_CLONE && (uint64_t)rc != moved)
        return tort_fail(t, "copy_file_range: expected %ju bytes, found %jd", (uintmax_t)moved, (intmax_t)rc);
    reap(t);
    op->lsn = tort_moment(t);
    if (op->lsn == 0)
        return -1;
    t->n_done++;
    t->live_sum += t->m->n_ino;
    t->live_max = t->m->n_ino > t->live_max ? t->m->n_ino : t->live_max;
    t->hist = m_grow(t->hist, &t->cap_hist, t->n_hist + 1, sizeof *t->hist);
    t->hist[t->n_hist++] = *op;
    op->data = NULL;
    return 0;
}

/* ---- beside the model ---- */

int tort_fsync(struct tort *t)
{
    uint64_t ino = gen_ino(&t->gen, t->m, rng_chance(&t->rng, 70) ? S_IFREG : S_IFDIR);
    int fd = open_file(t, ino, O_RDONLY);
    snprintf(t->doing, sizeof t->doing, "fsync of inode %ju", (uintmax_t)ino);
    if (fd == NOT_EXPRESSIBLE)
        return 0;
    if (fd < 0 || (rng_chance(&t->rng, 50) ? fsync(fd) : fdatasync(fd)) != 0)
        return done(fd, tort_fail(t, "%s", strerror(errno)));
    t->ways[TORT_FSYNC]++;
    return done(fd, 0);
}

int tort_open_some(struct tort *t)
{
    struct tort_fd *f = &t->fd[rng_below(&t->rng, TORT_FDS)];
    uint64_t ino = gen_ino(&t->gen, t->m, S_IFREG);
    const struct mino *i = model_find(t->m, ino);
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
    reap(t);
    if (i == NULL || (i = model_find(t->m, ino)) == NULL || i->a.nlink == 0 || !S_ISREG(i->a.mode))
        return 0;
    int fd = open_file(t, ino, O_RDWR);
    snprintf(t->doing, sizeof t->doing, "open of inode %ju", (uintmax_t)ino);
    if (fd < 0)
        return tort_fail(t, "%s", strerror(errno));
    *f = (struct tort_fd){ fd, ino };
    return 0;
}

void tort_close_all(struct tort *t)
{
    for (int k = 0; k < TORT_FDS; k++) {
        if (t->fd[k].fd >= 0)
            close(t->fd[k].fd);
        t->fd[k].fd = -1;
    }
    reap(t);
}
