/*
 * worker.h: the process that holds the store and answers requests; ctl: what it says to its supervisor.
 */
#ifndef FS_WORKER_H
#define FS_WORKER_H

#include "fs/memfd.h"
#include "fs/mount.h"
#include "store/base/err.h"

#include <stdint.h>

/* How a worker ends; anything else, signals included, is a crash and it is started again. */
enum {
    WORKER_DONE = 0,         /* unmounted, the store closed */
    WORKER_UNCLEAN = 3,      /* unmounted, but the store could not be closed cleanly: the next open recovers */
    WORKER_REFUSED = 4,      /* the store could not be opened; said so with CTL_OPENED */
    WORKER_FATAL = 70,       /* the store failed: recover from what the disk holds */
};

enum ctl_kind {
    CTL_OPENED = 1,          /* worker: the store is open, or err says why not */
    CTL_SERVING,             /* worker: requests are answered from now on */
    CTL_LIVE,                /* supervisor: here is the live session's descriptor */
    CTL_PAST,                /* supervisor: and that of the past */
    CTL_STOP,                /* supervisor: end, even though the mount is still in use */
    CTL_MOUNTED,             /* a helper that mounts, to the supervisor: here is the descriptor, or err */
    CTL_UPGRADE,             /* worker: go on as the program behind this descriptor */
};

struct ctl_msg { uint32_t kind; struct err err; };

/* ctl_send(sock, kind, fd, err): one message; ${fd} < 0 none, ${err} may be NULL. 0, or -errno. */
int ctl_send(int sock, uint32_t kind, int fd, const struct err *err);
/* ctl_recv(sock, msg, fd): blocks for one; *${fd} is -1 or the caller's. 1, 0 when the other side is gone, -errno. */
int ctl_recv(int sock, struct ctl_msg *msg, int *fd);

/*
 * worker_main(o, mem, ctl, again): run in a process of its own until the mount ends; returns a WORKER_ code for _exit. ${again}: not
 * the first worker of this mount. ${ctl}: its end of a SOCK_SEQPACKET pair. Signals are blocked by the caller.
 */
int worker_main(const struct fs_options *o, struct mem *mem, int ctl, bool again);

#endif
