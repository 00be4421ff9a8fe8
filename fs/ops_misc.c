/* ops_misc.c: FORGET and STATFS. */
#include "fs/fs.h"

#include "fs/park.h"

#include <sys/statvfs.h>

/*
 * From here on a crash loses these forgets rather than repeat them: a count too high keeps an unlinked file until the
 * unmount, one too low would take it from under an open descriptor.
 */
static void forget_once(void)
{
    const struct shim_req *cur = shim_current();

    if (cur)
        ((struct fuse_in_header *)(uintptr_t)cur->in)->len = 0;
    atomic_thread_fence(memory_order_release);
}

static void do_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n)
{
    forget_once();
    fs_forget(fs_of(req), ino, n);
    fuse_reply_none(req);
}

static void do_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
    forget_once();
    for (size_t i = 0; i < count; i++)
        fs_forget(fs_of(req), forgets[i].ino, forgets[i].nlookup);
    fuse_reply_none(req);
}

static void do_statfs(fuse_req_t req, fuse_ino_t ino)
{
    struct op op;
    struct statfs_out s = { 0 };
    struct statvfs v = { .f_bsize = 4096, .f_frsize = 4096, .f_namemax = REC_NAME_MAX };
    int rc;

    (void)ino;
    op_begin(&op, req);
    rc = store_statfs(op.fs->store, &s);
    if (rc < 0) {
        op_error(&op, rc);
        return;
    }
    v.f_blocks = s.total / v.f_frsize;
    v.f_bfree = v.f_bavail = s.avail / v.f_frsize;
    v.f_files = s.files;
    v.f_ffree = v.f_favail = s.files_free;
    (void)fuse_reply_statfs(req, &v);
}

void ops_misc(struct fuse_lowlevel_ops *ops)
{
    ops->forget = do_forget;
    ops->forget_multi = do_forget_multi;
    ops->statfs = do_statfs;
}
