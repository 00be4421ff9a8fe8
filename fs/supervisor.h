/*
 * supervisor.h: the small process that outlives workers: it mounts, keeps /dev/fuse and the shared memory, starts a worker, starts
 * another when that dies, and unmounts. It never opens the store and has one thread; whatever walks a path
 * into the mount (mounting the past, unmounting) is done by a child, since it may have to wait for a worker.
 */
#ifndef FS_SUPERVISOR_H
#define FS_SUPERVISOR_H

#include "fs/mount.h"

/*
 * supervisor_run(o, ready, err): until the mount has ended. ${ready} (may be NULL) is called once with arg when the mount serves.
 * Errors: those of store_open and mount_open; IO when workers kept failing.
 */
int supervisor_run(const struct fs_options *o, void (*ready)(void *arg), void *arg, struct err *err);

/*
 * supervisor_resume(o, handed, err): the same in a process that was another program until now (`spare upgrade`): it has the mounts, and the children,
 * of that one. ${handed}: "MEMORY,LIVE,PAST,LIVE_DEV,PAST_DEV,CONTROL,WORKER", descriptors, device numbers and a process, as the other program wrote it.
 * Ends that worker, and starts its own.
 * Errors: USAGE, DAMAGE: what is handed over is not that; nothing was done.
 */
int supervisor_resume(const struct fs_options *o, const char *handed, struct err *err);

#endif
