/* past_internal.h: what past.c (life) and past_ops.c (requests) share. */
#ifndef FS_PAST_INTERNAL_H
#define FS_PAST_INTERNAL_H

#include "fs/past.h"
#include "fs/past_branch.h"
#include "fs/past_slots.h"
#include "store/index/rows.h"

#include <pthread.h>

struct past_shared;

struct past {
    struct fs *fs;
    struct store *store;
    struct shim *shim;
    struct fuse_session *se;
    struct past_slots *slots;
    struct past_branches *branches;
    struct past_shared *sh;
    pthread_mutex_t lock;            /* guards buffers in use, want_room, branches_used, stop; before it none, after it none */
    pthread_cond_t wake;             /* of the janitor */
    bool want_room, branches_used, stop;     /* branches_used: one may be open, and to be closed by and by */
    uint64_t bufs_taken;             /* bit i: buffer i */
    unsigned n_threads;
    pthread_t threads[PAST_THREADS], janitor;
    bool has_janitor;
};

/*
 * Node ids: inode:44 | slot:20. FUSE_ROOT_ID, which would be inode 0 of slot 1, is the root of the session, so slots are from 2 on; inode 0
 * of a slot is the symlink "@LSN" to its moment. The slot is below, since the kernel's hash of inodes folds only lower bits in: with it above,
 * one inode in a thousand moments was one chain of a thousand (6 % of all time in find_inode, and more with each moment).
 */
static inline uint64_t past_node(uint32_t slot, uint64_t ino) { return ino << PAST_SLOTS_LOG2 | slot; }
static inline uint32_t past_node_slot(uint64_t node)
{
    return node == FUSE_ROOT_ID ? 0 : (uint32_t)(node & ((1u << PAST_SLOTS_LOG2) - 1));
}
static inline uint64_t past_node_ino(uint64_t node) { return node >> PAST_SLOTS_LOG2; }

/* past_ops(ops): the handlers; the session's user data is the struct past. */
void past_ops(struct fuse_lowlevel_ops *ops);

/* past_branch_used(p): one may be open now: the janitor looks after it. */
void past_branch_used(struct past *p);

/* past_full(p): there was no slot: wake the janitor. */
void past_full(struct past *p);

#endif
