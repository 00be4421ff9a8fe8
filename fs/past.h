/*
 * past.h: the second session: every moment, read-only, mounted on the past's name in the mount's root.
 *
 * The supervisor mounts it (mount_open(..., past = true)) when past_wanted says so, and hands the descriptor to each worker,
 * which serves it with past_start on threads of its own.
 *
 * These threads may block: on the disk, on the applier, on a sync. Nothing they wait for waits for them: the store's threads
 * answer no requests, and the live session never asks this one anything. So the two sessions cannot lock each other up; what a
 * slow disk holds up is readers of the past, PAST_THREADS of them at a time.
 */
#ifndef FS_PAST_H
#define FS_PAST_H

#include "fs/fs.h"

#include <sys/stat.h>

enum { PAST_THREADS = 6 };

/* past_wanted(o): shall the supervisor mount it? */
bool past_wanted(const struct fs_options *o);

/*
 * past_start(fs, fd, err): serve the session on /dev/fuse descriptor ${fd} (owned from here on), makes fs->past. A session of an
 * earlier worker is continued: mem_head(fs->mem)->past holds its INIT then (shim_restart), else the area is zeroed; what that
 * worker had read and not answered is answered. Errors: NOMEM, IO.
 */
int past_start(struct fs *fs, int fd, struct err *err);

/* past_stop(p): end its threads and free; accepts NULL. The store is still open. */
void past_stop(struct past *p);

/*
 * past_used(p, pos, lsns, cap): up to ${cap} moments somebody may be in: the kernel holds look-ups of them. From *${pos} (0 at first)
 * on; returns their number, 0 at the end. Accepts NULL. What expires moments pins these for as long as they are here.
 * past_let_go(p, lsn, wait_ms): accepts NULL; waits so long at most for what the kernel says then; ask the kernel to forget that moment unless it is really in use: what stays in past_used after it is. Takes
 * the lock of a directory a reply may be needed for: not on a thread that answers requests.
 * Threads: any.
 */
size_t past_used(struct past *p, size_t *pos, uint64_t *lsns, size_t cap);
void past_let_go(struct past *p, uint64_t lsn, unsigned wait_ms);

/* past_leave_branch(p, name, err): accepts NULL; as past_let_go, of the branch ${name}; it is closed. BUSY: somebody is in it. */
int past_leave_branch(struct past *p, const char *name, struct err *err);

/* past_dir_attr(fs, ino, st): attributes of a directory that is none of the store's, ${ino} as st_ino: of the store's owner and,
 * unless the past is for all, closed to others. Its mtime is now, so that the kernel never answers a listing from its cache. */
void past_dir_attr(const struct fs *fs, uint64_t ino, struct stat *st);
/* past_link_attr(fs, ino, lsn, len, st): those of a symlink to that moment (0: none), ${len} the length of its target; its mtime is
 * that moment. Blocks unless ${lsn} is 0. */
void past_link_attr(const struct fs *fs, uint64_t ino, uint64_t lsn, size_t len, struct stat *st);

/* past_moment(fs, text, lsn, err): as moment_resolve, but what is no moment's name is NOENT. Blocks. */
int past_moment(const struct fs *fs, const char *text, uint64_t *lsn, struct err *err);

#endif
