/*
 * role.h: a mount and the role of its store, which may change while both are in use: promoted, demoted, or fenced by what it met.
 *
 * The store refuses what it may not do at once and by itself (FENCED, EROFS). What is left is done here: that the kernel lets changes through exactly where the store takes
 * them, that a new primary notes whose mount it is, that a former one has nothing in the kernel's caches that never became a record.
 *
 * Locking: fs.role_lock. Threads: any but one that answers requests: the kernel may ask this mount meanwhile.
 */
#ifndef FS_ROLE_H
#define FS_ROLE_H

#include "fs/fs.h"

/*
 * role_begin(fs, err): of a new worker, before it answers anything: takes up the role the store has. What workers before it answered was found.
 * Whether the kernel agrees is for role_fit, once requests are answered. Errors: those of store_mounted.
 */
int role_begin(struct fs *fs, struct err *err);

/* role_changed(fs): there is something for role_fit to do. Cheap; false before role_begin. */
bool role_changed(struct fs *fs);

/*
 * role_fit(fs, why): takes up the role the store has by now, and makes the mount fit it. True: the kernel lets through what the store takes, and nothing else. False: it could
 * not be brought to, ${why} (may be NULL); then the mount is as safe, and answers EROFS where it must, but one that should be writable is not. PERM: not root; BUSY: a file is open for writing.
 */
bool role_fit(struct fs *fs, struct err *why);

#endif
