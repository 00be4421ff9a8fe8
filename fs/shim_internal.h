/* fs/shim_internal.h: shared by shim.c (device, dispatch), shim_loop.c and shim_init.c (INIT). */
#ifndef SPARE_FS_SHIM_INTERNAL_H
#define SPARE_FS_SHIM_INTERNAL_H

#include "fs/shim.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/uio.h>

/* Bytes after the request that are zeroed, so that strlen() on a name ends in the buffer. */
#define TAIL_BYTES 8u

#define INC(c) atomic_fetch_add_explicit(&(c), 1, memory_order_relaxed)

struct shim {
	struct shim_policy policy;
	struct shim_buf_ops bufs;
	struct fuse_session *se;
	int fd;
	int stop_fd;
	atomic_bool stopping;
	atomic_int ended;	/* 0; 1 + the enum shim_end, or the -errno, that every shim_loop returns */

	/* Who reads; shim_loop.c. Changed under the lock. */
	pthread_mutex_t lock;
	pthread_cond_t lead_free;
	atomic_bool led;	/* a thread leads: it reads, and sleeps where there is nothing */
	atomic_uint waiting;	/* threads that would lead */
	atomic_uint active;	/* threads back from a wait: each will lead if nobody does, before it waits again */
	atomic_uint misses;	/* fruitless spins in a row */
	unsigned bursts;	/* the leader's: short sleeps in a row */

	/* INIT: dispatched before anything else, by one thread. */
	atomic_bool init_pending;
	bool init_swallow;
	uint64_t init_unique;
	struct shim_saved *save;
	const struct fuse_init_out *init_held;	/* restart: what the kernel already has */
	bool init_differs;
	size_t init_in_len;
	unsigned char init_in[sizeof(struct fuse_in_header) + sizeof(struct fuse_init_in)];
	struct shim_negotiated neg;
	atomic_bool neg_done;

	_Atomic uint64_t n_requests, n_ready, n_spun, n_slept, n_spin_missed, n_refused;
};

/* INIT as read: remembered for the answer, and to be saved. */
void shim_init_note(struct shim *s, const struct fuse_in_header *in, size_t len);

/* libfuse's reply to INIT on its way out: patched, saved, written or swallowed. As writev(2). */
ssize_t shim_init_answer(struct shim *s, int fd, struct iovec *iov, int count);

#endif
