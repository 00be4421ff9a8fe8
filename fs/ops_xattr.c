/* ops_xattr.c: extended attributes and, as such, posix ACLs. */
#include "fs/fs.h"

#include "fs/remote.h"

#include <string.h>

static void get(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
    struct op op;
    void *buf = scratch();
    size_t cap = size < REC_XATTR_MAX ? size : REC_XATTR_MAX;
    int64_t n;

    op_begin(&op, req);
    if (node_is_snap(ino)) {
        if (name)
            op_error(&op, ERR_NODATA);
        else if (size == 0)
            op_xattr_size(&op, 0);
        else
            op_bytes(&op, NULL, 0);
        return;
    }
    if (!buf) {
        op_error(&op, ERR_NOMEM);
        return;
    }
    if (name)
        OP_RUN(op, n, store_getxattr(op.fs->store, AT_LIVE, ino, name, buf, cap, &op.wait));
    else
        OP_RUN(op, n, store_listxattr(op.fs->store, AT_LIVE, ino, buf, cap, &op.wait));
    if (op.parked)
        return;
    if (n < 0)
        op_error(&op, (int)n);
    else if (size == 0)
        op_xattr_size(&op, (size_t)n);
    else
        op_bytes(&op, buf, (size_t)n);
}

static void do_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size) { get(req, ino, name, size); }
static void do_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size) { get(req, ino, NULL, size); }

/* libfuse knows one layout of SETXATTR; which one is in use was negotiated behind its back (shim.h). */
static void do_setxattr(fuse_req_t req, fuse_ino_t ino, const char *unused, const char *unused_value, size_t unused_size,
                        int unused_flags)
{
    struct op op;
    const char *name = NULL;
    const void *value = NULL;
    size_t len = 0;
    uint32_t flags = 0;
    bool kill_sgid = false;
    int rc;

    (void)unused;
    (void)unused_value;
    (void)unused_size;
    (void)unused_flags;
    op_begin(&op, req);
    if (node_is_snap(ino) ||
        shim_setxattr_args(op.fs->shim, &name, &value, &len, &flags, &kill_sgid) < 0) {
        op_error(&op, node_is_snap(ino) ? ERR_ROFS : ERR_INVAL);
        return;
    }
    if (strcmp(name, REMOTE_XATTR) == 0) {
        rc = remote_check(value, len);
        if (rc == 0)
            OP_RUN(op, rc, remote_mark(op.fs, &op.caller, ino, &op.wait));
        if (op.parked)
            return;
        if (rc < 0) {
            op_error(&op, rc);
            return;
        }
    }
    OP_RUN(op, rc, store_setxattr(op.fs->store, &op.caller, ino, name, value, len, flags, kill_sgid, &op.wait));
    if (op.parked)
        return;
    op_error(&op, rc);
}

static void do_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
    struct op op;
    int rc;

    op_begin(&op, req);
    if (node_is_snap(ino)) {
        op_error(&op, ERR_ROFS);
        return;
    }
    OP_RUN(op, rc, store_removexattr(op.fs->store, &op.caller, ino, name, &op.wait));
    if (op.parked)
        return;
    op_error(&op, rc);
}

void ops_xattr(struct fuse_lowlevel_ops *ops)
{
    ops->getxattr = do_getxattr;
    ops->listxattr = do_listxattr;
    ops->setxattr = do_setxattr;
    ops->removexattr = do_removexattr;
}
