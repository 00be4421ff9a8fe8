/* powerfs_ops: the FUSE low-level operations. */
#define FUSE_USE_VERSION 312
#include "tests/crash/powerfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

/*
 * A node id is generation << 40 | inode number, so after a cut every node the
 * kernel knows, but the root, is one of a dead machine and answers EIO.  Names
 * are looked up each time, which finds the new nodes without invalidation
 * (a name moved into the root keeps the timeout it had below it, so no name
 * may have one); attributes and pages belong to a node and are cached.
 */
enum { GENERATION_SHIFT = 40 };
static const double FOREVER_S = 1e9;

struct call {
    fuse_req_t req;
    struct pf_fs *fs;
    struct pf_inode *in;
    enum pf_kind kind;
};

static struct pf_inode *node(const struct pf_fs *fs, fuse_ino_t id)
{
    if (id == FUSE_ROOT_ID)
        return pf_inode_get(fs->img, PF_ROOT_INO);
    if (id >> GENERATION_SHIFT != fs->generation)
        return NULL;
    return pf_inode_get(fs->img, id & ((UINT64_C(1) << GENERATION_SHIFT) - 1));
}

static fuse_ino_t node_id(const struct pf_fs *fs, const struct pf_inode *in)
{
    return in->ino == PF_ROOT_INO ? FUSE_ROOT_ID : fs->generation << GENERATION_SHIFT | in->ino;
}

/*
 * Begin a call on node id: lock, wait for thaw, count, fire what is due at a
 * sync.  False: answered already with EIO, and unlocked.
 */
static bool enter(struct call *c, fuse_req_t req, fuse_ino_t id, enum pf_kind kind)
{
    struct pf_fs *fs = fuse_req_userdata(req);
    *c = (struct call){ .req = req, .fs = fs, .kind = kind };
    pthread_mutex_lock(&fs->lock);
    while (fs->frozen)
        pthread_cond_wait(&fs->thawed, &fs->lock);
    c->in = node(fs, id);
    if (fs->dead || c->in == NULL)
        goto eio;
    fs->calls[kind]++;
    bool sync = kind == PF_KIND_FSYNC || kind == PF_KIND_FDATASYNC || kind == PF_KIND_FSYNCDIR;
    /* A sync cut short made nothing durable: cut before it. */
    if (sync && pf_trigger_due(&fs->arm, kind)) {
        pf_fs_cut(fs, &fs->arm_cut);
        goto eio;
    }
    if (pf_trigger_due(&fs->eio, kind)) {
        if (sync && kind != PF_KIND_FSYNCDIR)
            pf_data_sync_failed(c->in);
        goto eio;
    }
    return true;
eio:
    pthread_mutex_unlock(&fs->lock);
    fuse_reply_err(req, EIO);
    return false;
}

/*
 * End a changing call.  An armed cut fires after the change was made, so that
 * it is one of the pending operations; the caller only sees EIO.
 */
static bool survives(struct call *c)
{
    struct pf_fs *fs = c->fs;
    bool sync = c->kind == PF_KIND_FSYNC || c->kind == PF_KIND_FDATASYNC ||
                c->kind == PF_KIND_FSYNCDIR;
    if (sync || !pf_trigger_due(&fs->arm, c->kind))
        return true;
    pf_fs_cut(fs, &fs->arm_cut);
    pthread_mutex_unlock(&fs->lock);
    fuse_reply_err(c->req, EIO);
    return false;
}

static void leave(struct call *c, int rc)
{
    if (!survives(c))
        return;
    pthread_mutex_unlock(&c->fs->lock);
    fuse_reply_err(c->req, -rc);
}

static void fill_stat(const struct pf_image *img, const struct pf_inode *in, struct stat *st)
{
    *st = (struct stat){ .st_ino = in->ino, .st_mode = in->attr.mode, .st_uid = in->attr.uid,
                         .st_gid = in->attr.gid, .st_rdev = in->attr.rdev,
                         .st_atim = in->attr.atime, .st_mtim = in->attr.mtime,
                         .st_ctim = in->attr.ctime, .st_blksize = PF_PAGE,
                         .st_nlink = in->vlinks,
                         .st_blocks = (blkcnt_t)(in->allocated * (PF_PAGE / PF_SECTOR)),
                         .st_size = (off_t)in->v.size };
    if (S_ISLNK(in->attr.mode))
        st->st_size = (off_t)strlen(in->target);
    if (!S_ISDIR(in->attr.mode))
        return;
    st->st_nlink = 2;
    for (size_t i = 0; i < in->vdir.n; i++)
        st->st_nlink += S_ISDIR(pf_inode_get(img, in->vdir.ent[i].ino)->attr.mode) != 0;
    st->st_size = PF_PAGE;
}

static void fill_entry(const struct call *c, struct pf_inode *in, struct fuse_entry_param *e)
{
    *e = (struct fuse_entry_param){ .ino = node_id(c->fs, in), .generation = 1,
                                    .attr_timeout = FOREVER_S };
    fill_stat(c->fs->img, in, &e->attr);
    in->nlookup++;
}

/* End a call that made or found in under c->in. */
static void leave_entry(struct call *c, struct pf_inode *in, struct fuse_file_info *fi)
{
    struct fuse_entry_param e;
    if (!survives(c))
        return;
    fill_entry(c, in, &e);
    pthread_mutex_unlock(&c->fs->lock);
    if (fi != NULL)
        fuse_reply_create(c->req, &e, fi);
    else
        fuse_reply_entry(c->req, &e);
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
    (void)userdata;
    /* With opens unanswered the kernel must send O_TRUNC as a setattr. */
    conn->want &= ~(unsigned)(FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_WRITEBACK_CACHE |
                              FUSE_CAP_HANDLE_KILLPRIV | FUSE_CAP_SPLICE_READ |
                              FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
    conn->want &= ~(unsigned)(FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO |
                              FUSE_CAP_AUTO_INVAL_DATA);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct call c;
    if (!enter(&c, req, parent, PF_KIND_OTHER))
        return;
    const struct pf_dirent *e = pf_dir_find(&c.in->vdir, name);
    if (e != NULL)
        leave_entry(&c, pf_inode_get(c.fs->img, e->ino), NULL);
    else
        leave(&c, -ENOENT);
}

static void forget_one(struct pf_fs *fs, fuse_ino_t id, uint64_t n)
{
    struct pf_inode *in = node(fs, id);
    if (in == NULL || id == FUSE_ROOT_ID)
        return; /* the look-ups of a dead machine were dropped with it */
    in->nlookup -= n < in->nlookup ? n : in->nlookup;
    pf_inode_maybe_free(fs->img, in);
}

static void op_forget(fuse_req_t req, fuse_ino_t id, uint64_t n)
{
    struct pf_fs *fs = fuse_req_userdata(req);
    pthread_mutex_lock(&fs->lock);
    forget_one(fs, id, n);
    pthread_mutex_unlock(&fs->lock);
    fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *f)
{
    struct pf_fs *fs = fuse_req_userdata(req);
    pthread_mutex_lock(&fs->lock);
    for (size_t i = 0; i < count; i++)
        forget_one(fs, f[i].ino, f[i].nlookup);
    pthread_mutex_unlock(&fs->lock);
    fuse_reply_none(req);
}

static void leave_attr(struct call *c)
{
    struct stat st;
    if (!survives(c))
        return;
    double timeout = c->in->ino == PF_ROOT_INO ? 0 : FOREVER_S;
    fill_stat(c->fs->img, c->in, &st);
    pthread_mutex_unlock(&c->fs->lock);
    fuse_reply_attr(c->req, &st, timeout);
}

static void op_getattr(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
    struct call c;
    (void)fi;
    if (enter(&c, req, id, PF_KIND_OTHER))
        leave_attr(&c);
}

static void op_setattr(fuse_req_t req, fuse_ino_t id, struct stat *st, int set,
                       struct fuse_file_info *fi)
{
    struct call c;
    (void)fi;
    bool size = (set & FUSE_SET_ATTR_SIZE) != 0;
    if (!enter(&c, req, id, size ? PF_KIND_TRUNCATE : PF_KIND_SETATTR))
        return;
    int rc = size ? pf_data_truncate(c.fs->img, c.in, (uint64_t)st->st_size) : 0;
    if (rc != 0) {
        leave(&c, rc);
        return;
    }
    struct pf_attr *a = &c.in->attr;
    pf_attr_touch(c.fs->img, c.in, size);
    if (set & FUSE_SET_ATTR_MODE)
        a->mode = (a->mode & S_IFMT) | (st->st_mode & 07777);
    if (set & FUSE_SET_ATTR_UID)
        a->uid = st->st_uid;
    if (set & FUSE_SET_ATTR_GID)
        a->gid = st->st_gid;
    if (set & FUSE_SET_ATTR_ATIME_NOW)
        a->atime = a->ctime;
    else if (set & FUSE_SET_ATTR_ATIME)
        a->atime = st->st_atim;
    if (set & FUSE_SET_ATTR_MTIME_NOW)
        a->mtime = a->ctime;
    else if (set & FUSE_SET_ATTR_MTIME)
        a->mtime = st->st_mtim;
    leave_attr(&c);
}

static void op_readlink(fuse_req_t req, fuse_ino_t id)
{
    struct call c;
    if (!enter(&c, req, id, PF_KIND_OTHER))
        return;
    fuse_reply_readlink(req, c.in->target);
    pthread_mutex_unlock(&c.fs->lock);
}

/* Make an object of any type and enter it under its parent. */
static void make(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev,
                 const char *target, enum pf_kind kind, struct fuse_file_info *fi)
{
    struct call c;
    if (!enter(&c, req, parent, kind))
        return;
    const struct fuse_ctx *ctx = fuse_req_ctx(req);
    struct pf_inode *in = pf_inode_new(c.fs->img, mode, ctx->uid, ctx->gid);
    in->attr.rdev = rdev;
    if (c.in->attr.mode & S_ISGID) {
        in->attr.gid = c.in->attr.gid;
        in->attr.mode |= S_ISDIR(mode) ? S_ISGID : 0;
    }
    in->dattr = in->attr;
    if (target != NULL && (in->target = strdup(target)) == NULL)
        abort();
    int rc = pf_dir_link(c.fs->img, c.in, name, in);
    if (rc != 0) {
        pf_inode_maybe_free(c.fs->img, in);
        leave(&c, rc);
        return;
    }
    leave_entry(&c, in, fi);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                      struct fuse_file_info *fi)
{
    make(req, parent, name, S_IFREG | (mode & 07777), 0, NULL, PF_KIND_CREATE, fi);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                     dev_t rdev)
{
    make(req, parent, name, mode, rdev, NULL, PF_KIND_MKNOD, NULL);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    make(req, parent, name, S_IFDIR | (mode & 07777), 0, NULL, PF_KIND_MKDIR, NULL);
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
    make(req, parent, name, S_IFLNK | 0777, 0, target, PF_KIND_SYMLINK, NULL);
}

static void op_link(fuse_req_t req, fuse_ino_t id, fuse_ino_t parent, const char *name)
{
    struct call c;
    if (!enter(&c, req, parent, PF_KIND_LINK))
        return;
    struct pf_inode *in = node(c.fs, id);
    int rc = in == NULL ? -EIO : pf_dir_link(c.fs->img, c.in, name, in);
    if (rc != 0) {
        leave(&c, rc);
        return;
    }
    pf_attr_touch(c.fs->img, in, false);
    leave_entry(&c, in, NULL);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct call c;
    if (enter(&c, req, parent, PF_KIND_UNLINK))
        leave(&c, pf_dir_unlink(c.fs->img, c.in, name, false));
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct call c;
    if (enter(&c, req, parent, PF_KIND_RMDIR))
        leave(&c, pf_dir_unlink(c.fs->img, c.in, name, true));
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name,
                      fuse_ino_t new_parent, const char *new_name, unsigned flags)
{
    struct call c;
    if (!enter(&c, req, parent, PF_KIND_RENAME))
        return;
    struct pf_inode *to = node(c.fs, new_parent);
    leave(&c, to == NULL ? -EIO
                         : pf_dir_rename(c.fs->img, c.in, name, to, new_name, flags));
}

/* No state per open file: the kernel need not ask again. */
static void op_open(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
    struct call c;
    (void)fi;
    if (enter(&c, req, id, PF_KIND_OTHER))
        leave(&c, -ENOSYS);
}

/* Directories are opened by message: the root's node outlives a cut, its handle must not. */
static void op_opendir(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
    struct call c;
    if (!enter(&c, req, id, PF_KIND_OTHER))
        return;
    fi->fh = c.fs->generation;
    pthread_mutex_unlock(&c.fs->lock);
    fuse_reply_open(req, fi);
}

static void op_flush(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
    (void)id;
    (void)fi;
    fuse_reply_err(req, ENOSYS);
}

static void op_read(fuse_req_t req, fuse_ino_t id, size_t len, off_t off,
                    struct fuse_file_info *fi)
{
    struct call c;
    (void)fi;
    if (!enter(&c, req, id, PF_KIND_READ))
        return;
    char *buf = pf_alloc(len);
    size_t got = pf_data_read(c.in, buf, len, (uint64_t)off);
    pthread_mutex_unlock(&c.fs->lock);
    fuse_reply_buf(req, buf, got);
    free(buf);
}

static void sync_inode(struct pf_fs *fs, struct pf_inode *in, bool attr)
{
    pf_data_sync(in);
    if (attr) {
        in->dattr = in->attr;
        in->attr_seq = 0;
    }
    if (fs->img->ext4_like)
        pf_dir_sync_name(fs->img, in);
}

static void op_write(fuse_req_t req, fuse_ino_t id, const char *buf, size_t len, off_t off,
                     struct fuse_file_info *fi)
{
    struct call c;
    if (!enter(&c, req, id, PF_KIND_WRITE))
        return;
    ssize_t done = pf_data_write(c.fs->img, c.in, buf, len, (uint64_t)off);
    if (done < 0) {
        leave(&c, (int)done);
        return;
    }
    pf_attr_touch(c.fs->img, c.in, true);
    if (!survives(&c))
        return;
    if (fi->flags & O_DSYNC)
        sync_inode(c.fs, c.in, (fi->flags & O_SYNC) == O_SYNC);
    pthread_mutex_unlock(&c.fs->lock);
    fuse_reply_write(req, (size_t)done);
}

static void op_fallocate(fuse_req_t req, fuse_ino_t id, int mode, off_t off, off_t len,
                         struct fuse_file_info *fi)
{
    struct call c;
    (void)fi;
    if (!enter(&c, req, id, PF_KIND_FALLOCATE))
        return;
    int rc = pf_data_fallocate(c.fs->img, c.in, mode, (uint64_t)off, (uint64_t)len);
    if (rc == 0)
        pf_attr_touch(c.fs->img, c.in, true);
    leave(&c, rc);
}

static void op_fsync(fuse_req_t req, fuse_ino_t id, int datasync, struct fuse_file_info *fi)
{
    struct call c;
    (void)fi;
    if (!enter(&c, req, id, datasync ? PF_KIND_FDATASYNC : PF_KIND_FSYNC))
        return;
    sync_inode(c.fs, c.in, !datasync);
    leave(&c, 0);
}

static void op_fsyncdir(fuse_req_t req, fuse_ino_t id, int datasync, struct fuse_file_info *fi)
{
    struct call c;
    (void)datasync;
    if (!enter(&c, req, id, PF_KIND_FSYNCDIR))
        return;
    if (fi->fh != c.fs->generation) {
        leave(&c, -EIO);
        return;
    }
    pf_dir_sync(c.fs->img, c.in);
    c.in->dattr = c.in->attr;
    c.in->attr_seq = 0;
    leave(&c, 0);
}

static void op_readdir(fuse_req_t req, fuse_ino_t id, size_t size, off_t off,
                       struct fuse_file_info *fi)
{
    struct call c;
    if (!enter(&c, req, id, PF_KIND_OTHER))
        return;
    if (fi->fh != c.fs->generation) {
        leave(&c, -EIO);
        return;
    }
    char *buf = pf_alloc(size);
    size_t used = 0;
    static const char *const dots[] = { ".", ".." };
    /* Offsets 1 and 2 are the dots, an entry's is its cookie + 2. */
    for (uint64_t at = (uint64_t)off; at < 2; at++) {
        struct stat st = { .st_ino = c.in->ino, .st_mode = S_IFDIR };
        used += fuse_add_direntry(req, buf + used, size - used, dots[at], &st,
                                  (off_t)at + 1);
    }
    for (size_t i = 0; i < c.in->vdir.n; i++) {
        const struct pf_dirent *e = &c.in->vdir.ent[i];
        if (e->cookie + 2 <= (uint64_t)off)
            continue;
        struct stat st = { .st_ino = e->ino,
                           .st_mode = pf_inode_get(c.fs->img, e->ino)->attr.mode };
        size_t need = fuse_add_direntry(req, buf + used, size - used, e->name, &st,
                                        (off_t)e->cookie + 2);
        if (need > size - used)
            break;
        used += need;
    }
    pthread_mutex_unlock(&c.fs->lock);
    fuse_reply_buf(req, buf, used);
    free(buf);
}

static void op_statfs(fuse_req_t req, fuse_ino_t id)
{
    struct call c;
    if (!enter(&c, req, id, PF_KIND_OTHER))
        return;
    uint64_t total = c.fs->img->full_pages;
    uint64_t used = c.fs->img->used_pages;
    if (total == 0)
        total = (UINT64_C(64) << 30) / PF_PAGE;
    struct statvfs st = { .f_bsize = PF_PAGE, .f_frsize = PF_PAGE, .f_blocks = total,
                          .f_bfree = used < total ? total - used : 0, .f_files = 1u << 30,
                          .f_ffree = 1u << 30, .f_favail = 1u << 30, .f_namemax = 255 };
    st.f_bavail = st.f_bfree;
    pthread_mutex_unlock(&c.fs->lock);
    fuse_reply_statfs(req, &st);
}

const struct fuse_lowlevel_ops pf_ops = {
    .init = op_init,
    .lookup = op_lookup,
    .forget = op_forget,
    .forget_multi = op_forget_multi,
    .getattr = op_getattr,
    .setattr = op_setattr,
    .readlink = op_readlink,
    .mknod = op_mknod,
    .mkdir = op_mkdir,
    .unlink = op_unlink,
    .rmdir = op_rmdir,
    .symlink = op_symlink,
    .rename = op_rename,
    .link = op_link,
    .open = op_open,
    .read = op_read,
    .write = op_write,
    .flush = op_flush,
    .fsync = op_fsync,
    .opendir = op_opendir,
    .readdir = op_readdir,
    .fsyncdir = op_fsyncdir,
    .statfs = op_statfs,
    .create = op_create,
    .fallocate = op_fallocate,
};
