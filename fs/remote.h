/*
 * remote.h: fsync that waits for a standby: of files in a directory with the attribute user.spare.rpo = 0, and below it.
 *
 * The attribute is looked for from the file upwards, at each fsync. So that this costs nothing where nobody asks for it, the root has one too, "below", as soon as any
 * directory got it: an ordinary attribute, so that a standby that was promoted has it as well. Without it nothing is looked for.
 *
 * A request waits parked (park.h), for an acknowledgement of any standby that it holds everything up to where the log was durable here. Where none comes within 5 s, the setting
 * rpo-away says what then: degrade (the default): it is answered, with an alarm, and so are all until a standby has what this one waited for; fail: EIO, each after 5 s; wait: on and on.
 * A store that has no standby waits for none.
 *
 * Threads: any.
 */
#ifndef FS_REMOTE_H
#define FS_REMOTE_H

#include "fs/fs.h"

#define REMOTE_XATTR "user.spare.rpo"

enum { REMOTE_WAIT_MS = 5000 };

struct replicate;

/*
 * remote_new(fs, out, err): before any request, also one that a worker left that died: it waits, and nothing is acknowledged yet. NOMEM.
 * remote_attach(rm, r): ${r} says when something is; it is not to be stopped before nobody waits any more. remote_free: nobody asks any more; NULL is fine.
 */
int  remote_new(struct fs *fs, struct remote **out, struct err *err);
void remote_attach(struct remote *rm, struct replicate *r);
void remote_free(struct remote *rm);

/* remote_wanted(fs, ino, wait): 1 fsync of ${ino} waits for a standby, 0 not; ERR_WAIT as functions of the store. */
int  remote_wanted(struct fs *fs, uint64_t ino, struct wait *wait);
/* remote_ready(fs, w, since_ms): of a wait WAIT_REMOTE that began then (CLOCK_MONOTONIC): over. remote_result(fs, w): its end: 0 or IO. */
bool remote_ready(struct fs *fs, const struct wait *w, uint64_t since_ms);
int  remote_result(struct fs *fs, const struct wait *w);

/* remote_check(value, len): a value of the attribute that is taken: 0; else INVAL. remote_mark(fs, c, ino, wait): a directory is about to get it: the root has one from then on. */
int  remote_check(const void *value, size_t len);
int  remote_mark(struct fs *fs, const struct caller *c, uint64_t ino, struct wait *wait);

#endif
