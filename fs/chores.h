/*
 * chores.h: the thread for what no reply may depend on: telling the kernel that something changed behind its back,
 * and reaping unlinked files that nobody uses any more.
 *
 * The kernel takes a directory's lock for a notification, under which it may be waiting for a reply of ours; and a reap waits for the
 * applier. So neither happens on a thread that answers. The queue is bounded; at its end a command waits for room, and what a thread
 * that answers cannot queue invalidates everything; the orphans to reap are found again in the look-up table.
 *
 * Locking: one mutex, a leaf. Threads: any.
 */
#ifndef FS_CHORES_H
#define FS_CHORES_H

#include "fs/fs.h"

enum { CHORES_MAX = 4096 };

int  chores_new(struct fs *fs, struct chores **out, struct err *err);
void chores_free(struct chores *c);
/* chores_start: its thread; fs->se is serving. chores_stop: reaps what is queued, drops notifications, ends it. */
int  chores_start(struct chores *c, struct err *err);
void chores_stop(struct chores *c);

/* chores_reap: within 100 ms, or with 255 others: so the log may gain a record that long after an unlink. */
void chores_reap(struct chores *c, uint64_t ino);
/* chores_inval_ino: may wait for room. chores_inval_entry: where ${may_wait}; not on a thread that answers requests. */
void chores_inval_ino(struct chores *c, uint64_t ino);
void chores_inval_entry(struct chores *c, uint64_t parent, const char *name, size_t nlen, bool may_wait);
void chores_inval_all(struct chores *c);
/* chores_settle: wait until the kernel was told what is queued now; 5 s at most, since it may be waiting for a lock of the kernel's.
 * Not on a thread that answers requests. False: that time was not enough. */
bool chores_settle(struct chores *c);

#endif
