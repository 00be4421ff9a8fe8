/*
 * fs.h: what the files of the worker share: the mount as one object, the life of one request, replies.
 *
 * A handler reads
 *
 *     struct op op;
 *     op_begin(&op, req);
 *     OP_RUN(op, rc, store_x(op.fs->store, &op.caller, ..., &op.wait));
 *     if (op.parked)
 *         return;
 *     rc < 0 ? op_error(&op, (int)rc) : op_reply_...(&op, ...);
 *
 * A call that must wait changes nothing, so parking keeps only the bytes of the request: later it is
 * dispatched again from the start. A restart after a crash takes the same way.
 */
#ifndef FS_FS_H
#define FS_FS_H

#ifndef FUSE_USE_VERSION
#define FUSE_USE_VERSION 314
#endif
#include <fuse3/fuse_lowlevel.h>

#include "fs/memfd.h"
#include "fs/mount.h"
#include "fs/shim.h"
#include "store/core/role.h"
#include "store/core/store.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct chores;
struct park;
struct past;
struct remote;
struct snapdir;

/* Node ids of the live session: an inode of the store, or one of snapdir.h's. */
#define FS_NODE_SNAP (3ull << 61)    /* bits 62 and 61: snapdir.h's */
/* "For ever", as timeouts go; the kernel clamps it. */
#define FS_TIMEOUT_S 1e9

/* Where a listing of a directory that began last shall end; ops_dir.c. */
struct dir_end { uint64_t ino, end; bool again; };
enum { DIR_ENDS = 256 };

struct fs {
    const struct fs_options *o;
    struct store *store;
    struct mem *mem;
    struct shim *shim;
    struct fuse_session *se;
    struct park *park;
    struct chores *chores;
    struct snapdir *snapdir;     /* snapdir.h */
    struct past *past;           /* past.h */
    struct remote *remote;       /* remote.h; NULL: fsync waits for no standby */
    pthread_mutex_t role_lock;   /* role.h */
    int role_wake;               /* eventfd: there may be something for role_fit to do */
    _Atomic uint32_t role;       /* role_lock; enum super_role that this mount has taken up; 0: none yet */
    uid_t store_uid;             /* whose the store is: who may see the past */
    gid_t store_gid;
    pthread_mutex_t dir_lock;
    struct dir_end dir_end[DIR_ENDS];    /* dir_lock; by inode */
};

/* fs_changes(fs): this mount may change the live tree, as of now. */
static inline bool fs_changes(const struct fs *fs) { return !fs->o->read_only && store_role(fs->store) == ROLE_PRIMARY; }

/* fs_log(fmt, ...): one message, to stderr, the log file or syslog; no newline at the end. Threads: any. */
void fs_log(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* fs_log_open(o, detached): where messages go from here on. Supervisor and worker, before threads. */
void fs_log_open(const struct fs_options *o, bool detached);
/* fs_log_detach(): standard input, output and error become /dev/null: no shell waits for this process. */
void fs_log_detach(void);

/* ---- one request ---- */

struct op {
    struct fs *fs;
    fuse_req_t req;
    struct mem_slot *slot;
    struct caller caller;
    struct wait wait;
    bool nowait;                 /* this thread must not wait: pass to store_read; no wait of store_fsync's own */
    bool parked;
};

/* op_begin(op, req): of a handler, on the thread that dispatches. caller.kill_priv is shim_kill_priv(). */
void op_begin(struct op *op, fuse_req_t req);

/* op_again(op, rc): true: call again. false: done with ${rc}, or op->parked. Use OP_RUN. */
bool op_again(struct op *op, int64_t rc);
#define OP_RUN(op, rc, call)                     \
    do {                                         \
        (op).wait = (struct wait){ 0 };          \
        (rc) = (call);                           \
    } while (op_again(&(op), (int64_t)(rc)))

/* op_resumed(op, w): this request was parked for *${w} and is here again because that is over. */
bool op_resumed(const struct op *op, struct wait *w);

/* Replies; each ends the request. ${code}: 0 or a negative err_code. */
void op_error(struct op *op, int code);
void op_errno(struct op *op, int eno);
void op_entry(struct op *op, uint64_t ino, const struct row_ino *row);
void op_entry_none(struct op *op);            /* "no such name", cached */
void op_attr(struct op *op, const struct row_ino *row, uint64_t ino);
void op_count(struct op *op, int64_t n);      /* WRITE, COPY_FILE_RANGE */
void op_bytes(struct op *op, const void *p, size_t n);
void op_offset(struct op *op, int64_t off);
void op_link(struct op *op, const char *target);
void op_xattr_size(struct op *op, size_t n);

/* op_gone(fs, ino): ${ino} (0: none) lost its last name: reap it once the kernel does not know it. */
void op_gone(struct fs *fs, uint64_t ino);

/* fs_forget(fs, ino, n): FORGET. */
void fs_forget(struct fs *fs, uint64_t ino, uint64_t n);

/* attr_fill(row, ino, st); entry_fill(row, ino, e): as the kernel wants them, cached for ever. */
void attr_fill(const struct row_ino *row, uint64_t ino, struct stat *st);
void entry_fill(const struct row_ino *row, uint64_t ino, struct fuse_entry_param *e);

/* name_check(fs, name): 0, ERR_NAMETOOLONG, or ERR_PERM for the name of the past, which nothing may take. */
int name_check(const struct fs *fs, const char *name);
bool name_is_snapdir(const struct fs *fs, const char *name);

/* scratch(): SHIM_MAX_WRITE_BYTES of this thread's own for a reply; NULL when out of memory. */
void *scratch(void);

static inline struct fs *fs_of(fuse_req_t req) { return fuse_req_userdata(req); }
static inline bool node_is_snap(uint64_t ino) { return (ino & FS_NODE_SNAP) != 0; }

/* ---- the handlers, by family ---- */

void ops_names(struct fuse_lowlevel_ops *ops);
void ops_attr(struct fuse_lowlevel_ops *ops);
void ops_data(struct fuse_lowlevel_ops *ops);
void ops_dir(struct fuse_lowlevel_ops *ops);
void ops_xattr(struct fuse_lowlevel_ops *ops);
void ops_misc(struct fuse_lowlevel_ops *ops);

#endif
