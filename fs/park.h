/*
 * park.h: requests that wait, and the threads that take them up again.
 *
 * No wait holds up the reading of requests. A parked request is its bytes, in a buffer of the shared memory, and what
 * it waits for; when that is over a thread of the pool dispatches it again. Up to 4 KiB it sits in a
 * small buffer, so that waiting fsyncs cost little; larger ones keep their buffer. When there is no buffer left the caller
 * waits in place: that is the back-pressure.
 *
 * INTERRUPT. A parked request is answered EINTR, but not before a second has passed: these waits end by themselves within
 * milliseconds, and an fsync or write that fails with EINTR because of some SIGALRM makes databases stop
 * and copies break off. What really hangs can be killed.
 *
 * Locking: one mutex, under which only store_ready and remote_ready are called. Threads: any.
 */
#ifndef FS_PARK_H
#define FS_PARK_H

#include "fs/fs.h"

enum { PARK_THREADS = 3 };

/* park_new(fs, out, err): without threads; requests may be parked already. NOMEM. park_free accepts NULL; threads stopped. */
int  park_new(struct fs *fs, struct park **out, struct err *err);
void park_free(struct park *p);
/* park_start: start the pool. park_stop: end it; what is parked stays unanswered. */
int  park_start(struct park *p, struct err *err);
void park_stop(struct park *p);

/*
 * park_current(p, w): keep the request this thread is dispatching until store_ready(w); a wait of kind WAIT_NONE wants a thread
 * that may block instead. true: kept, the handler must not reply and must free its fuse_req_t with
 * fuse_reply_none. false: no room, wait in place.
 */
bool park_current(struct park *p, const struct wait *w);

/* park_may_block(): this thread is one of the pool: a read may wait for the disk. */
bool park_may_block(void);
/* park_resumed(w): what the request this thread dispatches has waited for; false if it is here for the first time. */
bool park_resumed(struct wait *w);

/* park_progress(p): something moved. Cheap when nothing waits. */
void park_progress(struct park *p);

/* park_interrupt(p, unique): the kernel would like that request to end. */
void park_interrupt(struct park *p, uint64_t unique);

/* The buffers of the shim: as mem_get and mem_put, but on a pool thread a stand-in takes the place of the buffer
 * a request keeps while it is parked again. ctx: struct mem. */
int  park_buf_get(void *mem, struct shim_buf *out);
void park_buf_put(void *mem, struct shim_buf *buf);

/* park_redo(p, buf): dispatch now, on this thread, a request found in shared memory. May park it. */
void park_redo(struct park *p, struct shim_buf *buf);

/* park_count(p): requests parked, for status. */
size_t park_count(struct park *p);

#endif
