/* op.c: the life of one request and every reply; see fs.h. The one place where error codes become errno. */
#include "fs/fs.h"

#include "fs/chores.h"
#include "fs/park.h"
#include "fs/snapdir.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

void op_begin(struct op *op, fuse_req_t req)
{
    const struct fuse_ctx *ctx = fuse_req_ctx(req);
    const struct shim_req *cur = shim_current();
    struct fs *fs = fs_of(req);

    *op = (struct op){ .fs = fs, .req = req, .nowait = !park_may_block() && !shim_may_wait(fs->shim) };
    op->caller = (struct caller){ .uid = ctx->uid, .gid = ctx->gid, .pid = (uint32_t)ctx->pid,
                                  .umask = ctx->umask, .kill_priv = shim_kill_priv() };
    if (!cur)
        return;
    op->caller.unique = cur->in->unique;
    op->slot = mem_slot_of(fs->mem, cur->in);
    if (!op->slot)
        return;
    if (op->slot->unique != cur->in->unique)
        *op->slot = (struct mem_slot){ .unique = cur->in->unique };
    op->slot->lsn = 0;
    op->slot->state = SLOT_RUNNING;
    op->caller.lsn_out = &op->slot->lsn;
}

bool op_again(struct op *op, int64_t rc)
{
    if (rc != ERR_WAIT)
        return false;
    if (park_current(op->fs->park, &op->wait)) {
        op->parked = true;
        fuse_reply_none(op->req);    /* only frees it: the one who takes it up makes another */
        return false;
    }
    op->nowait = false;
    if (op->wait.kind != WAIT_NONE)
        (void)store_await(op->fs->store, &op->wait);   /* a failed store: the next call says so */
    return true;
}

bool op_resumed(const struct op *op, struct wait *w)
{
    (void)op;
    return park_resumed(w);
}

/* ---- replies ---- */

/* From here on a crash finds the answer in the slot: doing it again could end otherwise. */
static void answering(struct op *op, int eno)
{
    struct mem_head *h;
    uint64_t was;

    if (!op->slot)
        return;
    if (eno != 0) {
        op->slot->result = eno;
        atomic_thread_fence(memory_order_release);
        op->slot->state = SLOT_ANSWERING;
        return;
    }
    if (op->slot->lsn == 0 || atomic_load(&op->fs->role) != ROLE_PRIMARY)    /* of a role that is just being entered, whose writer is not noted yet */
        return;
    h = mem_head(op->fs->mem);
    was = atomic_load_explicit(&h->acked_lsn, memory_order_relaxed);
    while (was < op->slot->lsn && !atomic_compare_exchange_weak(&h->acked_lsn, &was, op->slot->lsn))
        ;
}

void op_errno(struct op *op, int eno)
{
    answering(op, eno);
    (void)fuse_reply_err(op->req, eno);
}

void op_error(struct op *op, int code)
{
    op_errno(op, code == 0 ? 0 : err_errno(code));
}

void attr_fill(const struct row_ino *row, uint64_t ino, struct stat *st)
{
    *st = (struct stat){
        .st_ino = ino, .st_mode = row->mode, .st_nlink = row->nlink, .st_uid = row->uid, .st_gid = row->gid,
        .st_rdev = row->rdev, .st_size = (off_t)row->size, .st_blksize = 4096,
        .st_blocks = (blkcnt_t)((row->blocks + 511) / 512),
        .st_atim = { row->atime.sec, (long)row->atime.nsec },
        .st_mtim = { row->mtime.sec, (long)row->mtime.nsec },
        .st_ctim = { row->ctime.sec, (long)row->ctime.nsec },
    };
}

void entry_fill(const struct row_ino *row, uint64_t ino, struct fuse_entry_param *e)
{
    *e = (struct fuse_entry_param){ .ino = ino, .attr_timeout = FS_TIMEOUT_S, .entry_timeout = FS_TIMEOUT_S };
    attr_fill(row, ino, &e->attr);
}

void op_entry(struct op *op, uint64_t ino, const struct row_ino *row)
{
    struct fuse_entry_param e;

    if (lookups_add(op->fs->mem, ino, 1) < 0) {
        op_error(op, ERR_NOMEM);
        return;
    }
    entry_fill(row, ino, &e);
    answering(op, 0);
    if (fuse_reply_entry(op->req, &e) < 0)
        fs_forget(op->fs, ino, 1);   /* interrupted: the kernel never saw it */
}

void op_entry_none(struct op *op)
{
    struct fuse_entry_param e = { .entry_timeout = FS_TIMEOUT_S };

    (void)fuse_reply_entry(op->req, &e);
}

void op_attr(struct op *op, const struct row_ino *row, uint64_t ino)
{
    struct stat st;

    attr_fill(row, ino, &st);
    answering(op, 0);
    (void)fuse_reply_attr(op->req, &st, FS_TIMEOUT_S);
}

void op_count(struct op *op, int64_t n)
{
    answering(op, 0);
    (void)fuse_reply_write(op->req, (size_t)n);
}

void op_bytes(struct op *op, const void *p, size_t n) { (void)fuse_reply_buf(op->req, p, n); }
void op_offset(struct op *op, int64_t off) { (void)fuse_reply_lseek(op->req, (off_t)off); }
void op_link(struct op *op, const char *target) { (void)fuse_reply_readlink(op->req, target); }
void op_xattr_size(struct op *op, size_t n) { (void)fuse_reply_xattr(op->req, n); }

/* ---- look-up counts ---- */

void op_gone(struct fs *fs, uint64_t ino)
{
    if (ino != 0 && lookups_orphan(fs->mem, ino))
        chores_reap(fs->chores, ino);
}

void fs_forget(struct fs *fs, uint64_t ino, uint64_t n)
{
    if (node_is_snap(ino))
        snapdir_forget(fs, ino, n);
    else if (ino != INO_ROOT && lookups_sub(fs->mem, ino, n))
        chores_reap(fs->chores, ino);
}

/* ---- names and memory ---- */

bool name_is_snapdir(const struct fs *fs, const char *name)
{
    return fs->o->snapdir[0] != '\0' && strcmp(name, fs->o->snapdir) == 0;
}

int name_check(const struct fs *fs, const char *name)
{
    if (strlen(name) > REC_NAME_MAX)
        return ERR_NAMETOOLONG;
    return name_is_snapdir(fs, name) ? ERR_PERM : 0;
}

static _Thread_local struct scratch { void *p; } mine;

/* A thread's scratch lives as long as the worker, whose threads do too. */
void *scratch(void)
{
    if (!mine.p)
        mine.p = aligned_alloc(4096, SHIM_MAX_WRITE_BYTES);
    return mine.p;
}
