/* ops_attr.c: attributes. The kernel has checked permissions; KILLPRIV_V2 tells by flag when bits must go. */
#include "fs/fs.h"

#include "fs/snapdir.h"

static void do_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct op op;
    struct row_ino row;
    int rc;

    (void)fi;
    op_begin(&op, req);
    if (node_is_snap(ino)) {
        snapdir_getattr(&op, ino);
        return;
    }
    OP_RUN(op, rc, store_getattr(op.fs->store, AT_LIVE, ino, &row, &op.wait));
    if (op.parked)
        return;
    if (rc < 0)
        op_error(&op, rc);
    else
        op_attr(&op, &row, ino);
}

static struct rec_time time_in(const struct timespec *t, bool now)
{
    return now ? (struct rec_time){ 0, TIME_NOW } : (struct rec_time){ t->tv_sec, (uint32_t)t->tv_nsec };
}

static struct setattr_in setattr_args(const struct stat *st, unsigned to_set)
{
    struct setattr_in in = { .mode = st->st_mode & 07777, .uid = st->st_uid, .gid = st->st_gid,
                             .size = (uint64_t)st->st_size };

    if (to_set & FUSE_SET_ATTR_MODE)
        in.valid |= RSA_MODE;
    if (to_set & FUSE_SET_ATTR_UID)
        in.valid |= RSA_UID;
    if (to_set & FUSE_SET_ATTR_GID)
        in.valid |= RSA_GID;
    if (to_set & FUSE_SET_ATTR_SIZE)
        in.valid |= RSA_SIZE;
    if (to_set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW)) {
        in.valid |= RSA_ATIME;
        in.atime = time_in(&st->st_atim, to_set & FUSE_SET_ATTR_ATIME_NOW);
    }
    if (to_set & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW)) {
        in.valid |= RSA_MTIME;
        in.mtime = time_in(&st->st_mtim, to_set & FUSE_SET_ATTR_MTIME_NOW);
    }
    return in;
}

static void do_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int to_set, struct fuse_file_info *fi)
{
    struct op op;
    struct row_ino row;
    struct setattr_in in = setattr_args(st, (unsigned)to_set);
    int rc;

    (void)fi;
    op_begin(&op, req);
    if (node_is_snap(ino)) {
        op_error(&op, ERR_ROFS);
        return;
    }
    /* Only a change time of the kernel's, or nothing: changes nothing and leaves no record. */
    if (in.valid == 0)
        OP_RUN(op, rc, store_getattr(op.fs->store, AT_LIVE, ino, &row, &op.wait));
    else
        OP_RUN(op, rc, store_setattr(op.fs->store, &op.caller, ino, &in, &row, &op.wait));
    if (op.parked)
        return;
    if (rc < 0)
        op_error(&op, rc);
    else
        op_attr(&op, &row, ino);
}

void ops_attr(struct fuse_lowlevel_ops *ops)
{
    ops->getattr = do_getattr;
    ops->setattr = do_setattr;
}
