/* ops_data.c: file content. State is keyed by inode: there are no open files here (OPEN is answered ENOSYS). */
#include "fs/fs.h"

#include "fs/park.h"
#include "fs/remote.h"
#include "store/base/slow.h"

#include <assert.h>
#include <errno.h>
#include <linux/falloc.h>
#include <poll.h>
#include <time.h>

enum { REMOTE_POLL_MS = 20 };

/* COPY_FILE_RANGE answers with 32 bits; whole MiB, so that the next call continues at a block. */
#define CLONE_MAX 0x7ff00000ull

static_assert(RFA_KEEP_SIZE == FALLOC_FL_KEEP_SIZE && RFA_PUNCH_HOLE == FALLOC_FL_PUNCH_HOLE &&
              RFA_ZERO_RANGE == FALLOC_FL_ZERO_RANGE, "fallocate modes are the kernel's");

static void do_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    struct op op;
    struct err err = { 0 };
    void *buf = scratch();
    int64_t n;

    (void)fi;
    op_begin(&op, req);
    if (node_is_snap(ino) || off < 0 || !buf) {
        op_error(&op, node_is_snap(ino) ? ERR_ISDIR : off < 0 ? ERR_INVAL : ERR_NOMEM);
        return;
    }
    if (size > SHIM_MAX_WRITE_BYTES)
        size = SHIM_MAX_WRITE_BYTES;
    OP_RUN(op, n, store_read(op.fs->store, AT_LIVE, ino, (uint64_t)off, buf, size, op.nowait, &op.wait, &err));
    if (op.parked)
        return;
    if (n >= 0) {
        op_bytes(&op, buf, (size_t)n);
        return;
    }
    if (n == ERR_DAMAGE)
        fs_log("reading inode %llu at %lld: %s", (unsigned long long)ino, (long long)off, err.msg);
    op_error(&op, (int)n);
}

/*
 * A change of content that took suid, sgid or a capability away: the kernel keeps attributes for ever and must be told
 * before the answer, else the next exec or stat sees what is gone. Attributes only: no page is touched, so no lock of
 * the kernel's that this request holds is waited for.
 */
static void tell_killed(struct op *op, uint64_t ino, bool killed)
{
    if (killed)
        (void)fuse_lowlevel_notify_inval_inode(op->fs->se, ino, -1, 0);
}

static void do_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off, struct fuse_file_info *fi)
{
    struct op op;
    bool killed = false;
    uint64_t tagged = 0;
    int64_t n;

    (void)fi;
    op_begin(&op, req);
    op.caller.killed = &killed;
    op.caller.tagged = &tagged;
    if (node_is_snap(ino) || off < 0) {
        op_error(&op, off < 0 ? ERR_INVAL : ERR_ROFS);
        return;
    }
    OP_RUN(op, n, store_write(op.fs->store, &op.caller, ino, (uint64_t)off, buf, size, &op.wait));
    if (op.parked)
        return;
    tell_killed(&op, ino, killed);
    if (tagged != 0)                     /* its change time, and as above */
        (void)fuse_lowlevel_notify_inval_inode(op.fs->se, tagged, -1, 0);
    if (n < 0)
        op_error(&op, (int)n);
    else
        op_count(&op, n);
}

/* Space is not set aside here, but who asks for more than there is should hear so now. What the file holds already is not asked for again. */
static int has_space(struct op *op, uint64_t ino, uint64_t off, uint64_t len)
{
    uint64_t end = off + len, held;
    struct statfs_out s;
    struct row_ino row;
    struct wait w = { 0 };

    if (store_statfs(op->fs->store, &s) < 0 || len <= s.avail || store_getattr(op->fs->store, AT_LIVE, ino, &row, &w) < 0)
        return 0;
    held = row.size > off ? row.size : off;
    return end > held && end - held > s.avail ? ERR_NOSPC : 0;
}

static void do_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len, struct fuse_file_info *fi)
{
    struct op op;
    bool killed = false;
    int rc;

    (void)fi;
    op_begin(&op, req);
    op.caller.killed = &killed;
    if (node_is_snap(ino) || off < 0 || len <= 0) {
        op_error(&op, node_is_snap(ino) ? ERR_ROFS : ERR_INVAL);
        return;
    }
    if (mode & ~(RFA_KEEP_SIZE | RFA_PUNCH_HOLE | RFA_ZERO_RANGE)) {
        op_error(&op, ERR_NOTSUP);
        return;
    }
    rc = mode & RFA_PUNCH_HOLE ? 0 : has_space(&op, ino, (uint64_t)off, (uint64_t)len);
    if (rc < 0) {
        op_error(&op, rc);
        return;
    }
    op.caller.kill_priv = op.caller.uid != 0;    /* no flag says so */
    OP_RUN(op, rc, store_fallocate(op.fs->store, &op.caller, ino, (uint32_t)mode, (uint64_t)off, (uint64_t)len, &op.wait));
    if (op.parked)
        return;
    tell_killed(&op, ino, killed);
    op_error(&op, rc);
}

static void do_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
    struct op op;
    int64_t at;

    (void)fi;
    op_begin(&op, req);
    if (node_is_snap(ino) || off < 0) {
        op_error(&op, node_is_snap(ino) ? ERR_INVAL : ERR_NXIO);
        return;
    }
    OP_RUN(op, at, store_seek(op.fs->store, AT_LIVE, ino, (uint64_t)off, whence, &op.wait));
    if (op.parked)
        return;
    if (at < 0)
        op_error(&op, (int)at);
    else
        op_offset(&op, at);
}

static void do_copy(fuse_req_t req, fuse_ino_t src, off_t src_off, struct fuse_file_info *src_fi, fuse_ino_t dst,
                    off_t dst_off, struct fuse_file_info *dst_fi, size_t len, int flags)
{
    struct op op;
    bool killed = false;
    int64_t n;

    (void)src_fi;
    (void)dst_fi;
    op_begin(&op, req);
    op.caller.killed = &killed;
    if (node_is_snap(src) || node_is_snap(dst) || src_off < 0 || dst_off < 0 || flags != 0) {
        op_error(&op, node_is_snap(dst) ? ERR_ROFS : ERR_INVAL);
        return;
    }
    op.caller.kill_priv = op.caller.uid != 0;    /* no flag says so */
    OP_RUN(op, n, store_clone(op.fs->store, &op.caller, AT_LIVE, src, (uint64_t)src_off, dst, (uint64_t)dst_off,
                              len < CLONE_MAX ? len : CLONE_MAX, &op.wait));
    if (op.parked)
        return;
    tell_killed(&op, dst, killed);
    if (n < 0)
        op_error(&op, (int)n);
    else
        op_count(&op, n);
}

/*
 * A resumed fsync is done: what was there when it came is durable. Asking again would chase a busy writer for ever.
 * A store that failed leaves by _exit before it could come here; should it not have yet, this asks it.
 */
/* It is durable here; where a standby must have it before it is answered, it waits for that, parked. */
static void sync_remote(struct op *op, uint64_t ino)
{
    struct wait w = { WAIT_REMOTE, log_durable(store_log(op->fs->store)) };
    struct timespec t;
    int rc;

    OP_RUN(*op, rc, remote_wanted(op->fs, ino, &op->wait));
    if (op->parked)
        return;
    if (rc == 1 && park_current(op->fs->park, &w)) {
        fuse_reply_none(op->req);        /* as op_again */
        return;
    }
    if (rc == 1) {                       /* no room to park: here */
        clock_gettime(CLOCK_MONOTONIC, &t);
        slow_now();
        while (!remote_ready(op->fs, &w, (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000))
            (void)poll(NULL, 0, REMOTE_POLL_MS);
        rc = remote_result(op->fs, &w);
    }
    op_error(op, rc);
}

static void sync_inode(fuse_req_t req, fuse_ino_t ino)
{
    struct op op;
    struct wait w;
    int rc = 0;

    op_begin(&op, req);
    if (node_is_snap(ino)) {
        op_error(&op, 0);
        return;
    }
    if (op.fs->o->read_only && mem_head(op.fs->mem)->mount_lsn != 0) {
        op_error(&op, ERR_IO);   /* it was writable: what the disk lost since must not be called durable */
        return;
    }
    if (op_resumed(&op, &w) && w.kind == WAIT_REMOTE) {
        op_error(&op, remote_result(op.fs, &w));
        return;
    }
    if (op_resumed(&op, &w) && w.kind == WAIT_DURABLE) {
        rc = log_poisoned(store_log(op.fs->store));
        if (rc < 0)
            op_error(&op, rc);
        else
            sync_remote(&op, ino);
        return;
    }
    if (op.fs->o->fsync_ordered) {
        OP_RUN(op, rc, remote_wanted(op.fs, ino, &op.wait));
        if (op.parked)
            return;
    }
    if (op.fs->o->fsync_ordered && rc != 1) {
        store_mark_version(op.fs->store, ino);    /* and no more: the group commit comes in its own time */
        op_error(&op, log_poisoned(store_log(op.fs->store)));
        return;
    }
    OP_RUN(op, rc, store_fsync(op.fs->store, ino, op.nowait ? &op.wait : NULL));
    if (op.parked)
        return;
    if (rc < 0)
        op_error(&op, rc);
    else
        sync_remote(&op, ino);
}

static void do_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
    (void)datasync;
    (void)fi;
    sync_inode(req, ino);
}

/* Zero-message opens: the kernel stops asking after the first. */
static void do_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)ino;
    (void)fi;
    (void)fuse_reply_err(req, ENOSYS);
}

void ops_data(struct fuse_lowlevel_ops *ops)
{
    ops->open = do_open;
    ops->opendir = do_open;
    ops->read = do_read;
    ops->write = do_write;
    ops->fallocate = do_fallocate;
    ops->lseek = do_lseek;
    ops->copy_file_range = do_copy;
    ops->fsync = do_fsync;
    ops->fsyncdir = do_fsync;
}
