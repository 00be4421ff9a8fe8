/* fs/shim.h: every FUSE message passes here, between /dev/fuse and stock libfuse.
 *
 * libfuse (3.14 and later) parses requests and formats replies; it does no I/O of its own.
 * The shim owns the device: it reads requests into buffers the caller provides, hands them
 * to libfuse, and sees every reply before it is written. That is what makes possible what
 * libfuse cannot be asked for:
 *   - INIT is answered by our policy, not by what libfuse knows of (shim_policy);
 *   - the reading thread spins for some µs before it sleeps (spin_us);
 *   - a handler sees the raw request (shim_current) and may keep its buffer (shim_take);
 *   - a new process continues a mounted session (shim_saved, shim_restart).
 *
 * Order of calls:
 *     shim_policy_live(&p); s = shim_new(&p, &bufs);
 *     se = fuse_session_new(...); obtain fd (fuse_session_mount or a supervisor)
 *     shim_attach(s, se, fd);
 *     [shim_restart(s, saved)]           only when continuing a session
 *     shim_loop(s) in one or more threads
 *     [fuse_session_unmount(se)]; shim_detach(s); fuse_session_destroy(se); shim_free(s);
 *
 * The descriptor is set to O_NONBLOCK. That is a property of the open file, so it holds for
 * every process that shares it: whoever reads it must poll(2) first.
 */
#ifndef SPARE_FS_SHIM_H
#define SPARE_FS_SHIM_H

#include <linux/fuse.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct fuse_session;
struct shim;

/* Opcodes and bits younger than the oldest <linux/fuse.h> we build with. */
#define SHIM_OP_SYNCFS 50u
#define SHIM_OP_TMPFILE 51u
#define SHIM_OP_STATX 52u
#define SHIM_HAS_RESEND (1ULL << 39)

/* The largest WRITE, and the smallest buffer that holds any request with it: header, body,
 * and a tail the shim zeroes so that a string in a request always ends inside the buffer. */
#define SHIM_MAX_WRITE_BYTES (1u << 20)
#define SHIM_BUF_BYTES ((size_t)SHIM_MAX_WRITE_BYTES + 4096u + 8u)
#define SHIM_SAVED_BYTES 512u

/* ---- policy ------------------------------------------------------------------------- */

/* What to answer to INIT. A flag is a bit of fuse_init_out flags | (flags2 << 32). The
 * answer is: ((what libfuse answers | on) & ~off) & what the kernel offered. Set it up with
 * one of the shim_policy_ functions, then change single fields. */
struct shim_policy {
	uint64_t on;		/* asked for where the kernel offers it */
	uint64_t off;		/* never, whatever libfuse thinks; wins over `on` */
	uint32_t max_write_bytes;	/* largest WRITE; <= SHIM_MAX_WRITE_BYTES */
	uint32_t max_pages;	/* largest READ and WRITE in pages (kernel's own limit: 256) */
	uint32_t max_readahead_bytes;	/* the kernel takes min(this, its bdi's): see
					   shim_raise_readahead */
	uint16_t max_background;	/* readahead and writeback requests in flight */
	uint16_t congestion_threshold;
	uint32_t spin_us;	/* longest spin before sleeping; 0 = never spin */
	uint64_t raw_opcodes;	/* bit n: opcode n (< 64) goes to `raw` before libfuse */
	int (*raw)(void *raw_ctx, struct shim *s, const struct fuse_in_header *in,
		   const void *body, size_t body_len);
	void *raw_ctx;		/* raw returns 1 = taken care of (replied, or will be by
				   shim_reply_raw), 0 = let libfuse have it */
};

/* shim_policy_live(p): the writable mount, with write-through.
 * KILLPRIV_V2 on: WRITE, SETATTR, and OPEN then carry the kill flags and the handler must
 * obey them; ATOMIC_O_TRUNC off: with ENOSYS for OPEN, `>` would otherwise keep the old
 * tail; EXPLICIT_INVAL_DATA instead of AUTO_INVAL_DATA: the page cache is dropped only when
 * we say so; DONT_MASK with POSIX_ACL: the handler applies the umask (ctx.umask) unless a
 * default ACL rules; SETXATTR_EXT on: handlers take their arguments from
 * shim_setxattr_args(), NOT from libfuse; ABORT_ERROR: an abort is told from an unmount.
 * For -o writeback add FUSE_WRITEBACK_CACHE to `on`. */
void shim_policy_live(struct shim_policy *p);

/* shim_policy_past(p): the read-only session. As live without KILLPRIV_V2, WRITEBACK_CACHE,
 * DONT_MASK and SETXATTR_EXT. CACHE_SYMLINKS is off: names of moments are links whose
 * targets change. */
void shim_policy_past(struct shim_policy *p);

/* ---- buffers ------------------------------------------------------------------------ */

/* A request buffer: 8-byte aligned, at least SHIM_BUF_BYTES. `tag` is the provider's own. */
struct shim_buf {
	unsigned char *mem;
	size_t bytes;
	uint64_t tag;
};

/* Where buffers come from. A buffer handed out by `get` has a zeroed fuse_in_header or one
 * that may be overwritten. While len in that header is 0 the buffer holds no request; the
 * shim zeroes it before every read and again once the handler has returned without taking
 * the buffer, so whoever finds the buffer after a crash finds a request or none.
 * get: 0, or -errno when there is none to spare. Threads: both may be called at once from
 * several threads. With bufs == NULL in shim_new, buffers are plain memory. */
struct shim_buf_ops {
	int (*get)(void *ctx, struct shim_buf *out);
	void (*put)(void *ctx, struct shim_buf *buf);
	void *ctx;
};

/* ---- life --------------------------------------------------------------------------- */

/* shim_new(policy, bufs): both are copied. Returns NULL when out of memory, or when the
 * policy asks for max_write_bytes above SHIM_MAX_WRITE_BYTES or below 4096 (errno EINVAL). */
struct shim *shim_new(const struct shim_policy *policy, const struct shim_buf_ops *bufs);

/* shim_free(s): NULL is accepted. No thread may be in shim_loop; detached. */
void shim_free(struct shim *s);

/* shim_attach(s, se, fd): makes s the I/O of session se on the /dev/fuse descriptor fd, which
 * se then owns (closed by fuse_session_destroy), and sets O_NONBLOCK on it. For a session
 * mounted by libfuse, fd is fuse_session_fd(se). Call once, before any request is read.
 * Returns 0; -ENFILE when SHIM_MAX sessions are attached; -errno of fcntl or libfuse.
 * Threads: any; not at once for the same s. */
#define SHIM_MAX 8
int shim_attach(struct shim *s, struct fuse_session *se, int fd);

/* shim_detach(s): after it no reply of the session is seen by s; replies fail with EBADF.
 * No thread may be in shim_loop. Before fuse_session_destroy, since descriptors are reused. */
void shim_detach(struct shim *s);

/* ---- restart ------------------------------------------------------------------------ */

/* What a later process needs to continue the session: the INIT request and the answer the
 * kernel got. The area is the caller's (say, shared memory), and is filled in when INIT has
 * been answered. Plain bytes, same machine and boot only; validated by shim_restart. */
struct shim_saved {
	unsigned char bytes[SHIM_SAVED_BYTES];
};

/* shim_save_to(s, area): where to save; NULL = nowhere. Before the loop. */
void shim_save_to(struct shim *s, struct shim_saved *area);

/* shim_restart(s, saved): feeds the saved INIT to libfuse and swallows the reply; what was
 * negotiated is what `saved` says, since that is what the kernel holds.
 * Returns 0; 1 when our policy would answer differently today (it goes on with the saved
 * answer; the caller decides); -EINVAL when the area holds no valid saved INIT; -EPROTO when
 * libfuse refused it. After attach, before the loop. */
int shim_restart(struct shim *s, const struct shim_saved *saved);

/* ---- loop --------------------------------------------------------------------------- */

enum shim_end {
	SHIM_STOPPED = 0,	/* shim_stop was called */
	SHIM_UNMOUNTED = 1,	/* the kernel closed the session (ENODEV) */
	SHIM_ABORTED = 2,	/* the connection was aborted */
};

/* shim_loop(s): reads and dispatches requests until the session ends. Several threads may run it.
 * One of them leads: it reads, dispatches and reads again, so that a request wakes no other. They come
 * in when its handler is about to wait, which it says by slow_now() of store/base/slow.h: a handler that
 * waits and does not say so holds up all requests. Handing over each time cost 70 us a request where
 * two cores sleep in turn.
 *
 * Spinning is adaptive: after some fruitless spins the thread sleeps at once, and spins
 * again when requests are seen to follow each other closely.
 *
 * A handler may return without having replied; its fuse_req_t stays valid until somebody
 * replies, from any thread. What it needs of the request it copies, or keeps by shim_take.
 * Returns an enum shim_end or -errno (-EPROTO: libfuse refused INIT). */
int shim_loop(struct shim *s);

/* shim_may_wait(s): in a handler: another thread would go on reading if this one waits (after slow_now()).
 * False in a thread that is not in shim_loop(s). */
bool shim_may_wait(const struct shim *s);

/* shim_stop(s): ends every shim_loop soon. Async-signal-safe. Threads: any. */
void shim_stop(struct shim *s);

/* shim_dispatch(s, buf, len): dispatches a request that lies in buf (len bytes from the
 * start): as found in shared memory after a crash. The loop uses the same. A request whose
 * length or fixed part is wrong is answered EIO and goes no further.
 * Returns 0; 1 when the handler took the buffer, and *buf is then its replacement; -EINVAL
 * when not even the header is usable. */
int shim_dispatch(struct shim *s, struct shim_buf *buf, size_t len);

/* ---- in a handler ------------------------------------------------------------------- */

/* The request this thread is dispatching. */
struct shim_req {
	const struct fuse_in_header *in;
	const void *body;	/* what follows the header */
	size_t body_len;
};

/* shim_current(): valid until the handler returns (or, after shim_take, until the buffer is
 * put back); NULL outside of a handler. */
const struct shim_req *shim_current(void);

/* shim_kill_priv(): true when the current request tells to clear setuid and setgid bits and
 * security.capability: WRITE (FUSE_WRITE_KILL_SUIDGID), SETATTR (FATTR_KILL_SUIDGID), OPEN and
 * CREATE (FUSE_OPEN_KILL_SUIDGID). What it does not cover (chown, FALLOCATE,
 * COPY_FILE_RANGE) is the handler's own duty. false outside of these requests. */
bool shim_kill_priv(void);

/* shim_setxattr_args(...): the arguments of the current SETXATTR, whatever the negotiated
 * layout. (libfuse reads the name at one fixed offset, which is right for one layout only;
 * which one depends on the version it was built with.) *kill_sgid: clear setgid as the
 * kernel found that an ACL change demands it. Pointers as shim_current.
 * Returns 0, -EINVAL when this is no SETXATTR or its lengths contradict each other. */
int shim_setxattr_args(struct shim *s, const char **name, const void **value,
		       size_t *value_len, uint32_t *flags, bool *kill_sgid);

/* shim_take(s, out): the handler becomes owner of the current request's buffer, to be given
 * back by shim_put from any thread. Once per request.
 * Returns 0; -errno of `get` when there is no replacement buffer: nothing is taken and the
 * handler must copy what it needs; -EINVAL outside of a handler or when already taken. */
int shim_take(struct shim *s, struct shim_buf *out);

/* shim_put(s, buf): gives a taken buffer back and zeroes *buf. A zeroed one is accepted. */
void shim_put(struct shim *s, struct shim_buf *buf);

/* shim_reply_raw(s, unique, error, data, data_len): a reply made without libfuse, to requests
 * a raw hook took. error: 0 or a positive errno (then data is ignored).
 * Returns 0, -ENOENT when the request is gone (interrupted), -errno. Threads: any. */
int shim_reply_raw(struct shim *s, uint64_t unique, int error, const void *data,
		   size_t data_len);

/* ---- what was negotiated -------------------------------------------------------------- */

struct shim_negotiated {
	bool done;		/* INIT has been answered */
	uint32_t kernel_minor;	/* protocol 7.x of the kernel */
	uint32_t minor;		/* as answered */
	uint64_t offered, flags;
	uint32_t max_write_bytes, max_readahead_bytes, max_pages;
	uint32_t max_background, congestion_threshold, time_gran_ns;
};

/* Threads: any; the answer is stable once done is true. */
void shim_negotiated(struct shim *s, struct shim_negotiated *out);

/* shim_negotiated_print(n, out): two lines of text: numbers, then flags by name. */
void shim_negotiated_print(const struct shim_negotiated *n, FILE *out);

struct shim_stats {
	uint64_t requests;	/* read from the device */
	uint64_t ready;		/* ... already there at the first try */
	uint64_t spun;		/* ... that came while spinning */
	uint64_t slept;		/* ... after a sleep */
	uint64_t spin_missed;	/* spins that ended without a request */
	uint64_t refused;	/* malformed */
};

/* Threads: any; the counters are each exact, not a consistent set. */
void shim_stats(struct shim *s, struct shim_stats *out);

/* shim_raise_readahead(mountpoint, bytes): the kernel reads ahead by its bdi's setting, which
 * INIT can only lower; this raises it through sysfs (needs root). Sends no FUSE request.
 * Returns 0, -ENOENT when nothing is mounted there, -errno. */
int shim_raise_readahead(const char *mountpoint, size_t bytes);

#endif
