/* ops_names.c: operations on names: lookup, create, link, unlink, rename, readlink. */
#include "fs/fs.h"

#include "fs/snapdir.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

static int first_parent(void *arg, uint64_t parent, const char *name, size_t nlen)
{
    (void)name, (void)nlen;
    *(uint64_t *)arg = parent;
    return 1;
}

/* "." and ".." are asked for by file handles alone (EXPORT_SUPPORT): an inode that the kernel has forgotten, by its number; a directory's parent. */
static void lookup_handle(struct op *op, uint64_t ino, bool up)
{
    struct row_ino row;
    uint64_t parent = ino == INO_ROOT ? INO_ROOT : 0;
    int rc = 0;

    if (up && parent == 0)
        OP_RUN(*op, rc, store_parents(op->fs->store, AT_LIVE, ino, first_parent, &parent, &op->wait));
    if (op->parked)
        return;
    if (up && parent == 0) {
        op_error(op, ERR_STALE);
        return;
    }
    OP_RUN(*op, rc, store_getattr(op->fs->store, AT_LIVE, up ? parent : ino, &row, &op->wait));
    if (op->parked)
        return;
    if (rc < 0 || row.nlink == 0)
        op_error(op, rc < 0 && rc != ERR_NOENT ? rc : ERR_STALE);
    else
        op_entry(op, up ? parent : ino, &row);
}

static void do_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct op op;
    struct row_ino row;
    uint64_t ino = 0;
    size_t nlen = strlen(name);
    int rc;

    op_begin(&op, req);
    if (name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'))) {
        if (node_is_snap(parent))
            op_error(&op, ERR_STALE);
        else
            lookup_handle(&op, parent, name[1] == '.');
        return;
    }
    if (node_is_snap(parent) || name_is_snapdir(op.fs, name)) {
        snapdir_lookup(&op, parent, name);
        return;
    }
    if (nlen > REC_NAME_MAX) {
        op_error(&op, ERR_NAMETOOLONG);
        return;
    }
    OP_RUN(op, rc, store_lookup(op.fs->store, AT_LIVE, parent, name, nlen, &ino, &row, &op.wait));
    if (op.parked)
        return;
    if (rc == ERR_NOENT)
        op_entry_none(&op);
    else if (rc < 0)
        op_error(&op, rc);
    else
        op_entry(&op, ino, &row);
}

/* False, and answered: the name or the place is not one to change. */
static bool may_change(struct op *op, uint64_t parent, const char *name)
{
    int rc = node_is_snap(parent) ? ERR_ROFS : name_check(op->fs, name);

    if (rc < 0)
        op_error(op, rc);
    return rc == 0;
}

static void make(fuse_req_t req, fuse_ino_t parent, const char *name, uint32_t mode, uint32_t rdev, const char *target)
{
    struct op op;
    struct row_ino row;
    uint64_t ino = 0;
    int rc;

    op_begin(&op, req);
    if (!may_change(&op, parent, name))
        return;
    OP_RUN(op, rc, store_create_node(op.fs->store, &op.caller, parent, name, strlen(name), mode, rdev, target,
                                     &ino, &row, &op.wait));
    if (op.parked)
        return;
    if (rc < 0)
        op_error(&op, rc);
    else
        op_entry(&op, ino, &row);
}

static void do_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
    make(req, parent, name, mode & S_IFMT ? mode : mode | S_IFREG, (uint32_t)rdev, NULL);
}

static void do_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    make(req, parent, name, (mode & ~(mode_t)S_IFMT) | S_IFDIR, 0, NULL);
}

static void do_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
    make(req, parent, name, S_IFLNK | 0777, 0, target);
}

static void do_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
    struct op op;
    struct row_ino row;
    int rc;

    op_begin(&op, req);
    if (!may_change(&op, node_is_snap(ino) ? ino : parent, name))
        return;
    OP_RUN(op, rc, store_link_node(op.fs->store, &op.caller, ino, parent, name, strlen(name), &row, &op.wait));
    if (op.parked)
        return;
    if (rc < 0) {
        op_error(&op, rc);
        return;
    }
    lookups_named(op.fs->mem, ino);
    op_entry(&op, ino, &row);
}

static void drop(fuse_req_t req, fuse_ino_t parent, const char *name, bool dir)
{
    struct op op;
    uint64_t gone = 0;
    int rc;

    op_begin(&op, req);
    if (!may_change(&op, parent, name))
        return;
    OP_RUN(op, rc, store_unlink(op.fs->store, &op.caller, parent, name, strlen(name), dir, &gone, &op.wait));
    if (op.parked)
        return;
    if (rc == 0)
        op_gone(op.fs, gone);
    op_error(&op, rc);
}

static void do_unlink(fuse_req_t req, fuse_ino_t parent, const char *name) { drop(req, parent, name, false); }
static void do_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name) { drop(req, parent, name, true); }

static void do_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
                      const char *newname, unsigned int flags)
{
    struct op op;
    uint64_t gone = 0;
    int rc;

    op_begin(&op, req);
    if (flags & ~(unsigned)(RRN_NOREPLACE | RRN_EXCHANGE)) {
        op_error(&op, ERR_INVAL);
        return;
    }
    if (!may_change(&op, parent, name) || !may_change(&op, newparent, newname))
        return;
    OP_RUN(op, rc, store_rename(op.fs->store, &op.caller, parent, name, strlen(name), newparent, newname,
                                strlen(newname), flags, &gone, &op.wait));
    if (op.parked)
        return;
    if (rc == 0)
        op_gone(op.fs, gone);
    op_error(&op, rc);
}

static void do_readlink(fuse_req_t req, fuse_ino_t ino)
{
    struct op op;
    char target[REC_SYMLINK_MAX + 1];
    int rc;

    op_begin(&op, req);
    if (node_is_snap(ino)) {
        snapdir_readlink(&op, ino);
        return;
    }
    OP_RUN(op, rc, store_readlink(op.fs->store, AT_LIVE, ino, target, sizeof target - 1, &op.wait));
    if (op.parked)
        return;
    if (rc < 0) {
        op_error(&op, rc);
        return;
    }
    target[rc] = '\0';
    op_link(&op, target);
}

void ops_names(struct fuse_lowlevel_ops *ops)
{
    ops->lookup = do_lookup;
    ops->mknod = do_mknod;
    ops->mkdir = do_mkdir;
    ops->symlink = do_symlink;
    ops->link = do_link;
    ops->unlink = do_unlink;
    ops->rmdir = do_rmdir;
    ops->rename = do_rename;
    ops->readlink = do_readlink;
}
