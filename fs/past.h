/*
 * past.h: the second session: every moment, read-only, mounted on the past's name in the mount's root.
 *
 * The supervisor mounts it (mount_open(..., past = true)) when past_wanted says so, and hands the descriptor to each worker,
 * which serves it with past_start on threads of its own.
 */
#ifndef FS_PAST_H
#define FS_PAST_H

#include "fs/fs.h"

/* past_wanted(o): shall the supervisor mount it? */
bool past_wanted(const struct fs_options *o);

/*
 * past_start(fs, fd, err): serve the session on /dev/fuse descriptor ${fd} (owned from here on), makes fs->past. A session of an
 * earlier worker is continued: mem_head(fs->mem)->past holds its INIT then (shim_restart), else the area is zeroed.
 */
int past_start(struct fs *fs, int fd, struct err *err);

/* past_stop(p): end its threads and free; accepts NULL. The store is still open. */
void past_stop(struct past *p);

#endif
