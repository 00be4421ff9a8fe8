/* fs/shim.c: see shim.h for the contract, DESIGN.md for the reasons. */
#define FUSE_USE_VERSION 314
#include "fs/shim_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <fuse3/fuse_lowlevel.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct dispatch {
	struct shim_req req;
	struct shim *s;
	struct shim_buf *buf;
	bool taken;
};
static _Thread_local struct dispatch *current;

/* libfuse calls back with the descriptor and the session's user data, which is the file
 * system's own: so the shim is found by descriptor. */
static _Atomic(struct shim *) attached[SHIM_MAX];

/* ---- custom io ---------------------------------------------------------------------- */

static struct shim *find(int fd)
{
	for (int i = 0; i < SHIM_MAX; i++) {
		struct shim *s = atomic_load_explicit(&attached[i], memory_order_acquire);

		if (s && s->fd == fd)
			return s;
	}
	return NULL;
}

static ssize_t io_read(int fd, void *buf, size_t len, void *userdata)
{
	(void)userdata;
	return read(fd, buf, len);
}

static ssize_t io_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	struct shim *s = find(fd);
	ssize_t n;
	(void)userdata;

	if (!s) {
		errno = EBADF;
		return -1;
	}
	if (atomic_load_explicit(&s->init_pending, memory_order_relaxed)) {
		const struct fuse_out_header *oh = iov[0].iov_base;

		if (oh->unique == s->init_unique)
			return shim_init_answer(s, fd, iov, count);
	}
	n = writev(fd, iov, count);
	if (n < 0 && (errno == ENODEV || errno == ECONNABORTED || errno == EPERM)) {
		/* Unmounted under us: libfuse would complain for each reply still due. */
		int err = errno;

		fuse_session_exit(s->se);
		errno = err;
	}
	return n;
}

int shim_reply_raw(struct shim *s, uint64_t unique, int error, const void *data,
		   size_t data_len)
{
	struct fuse_out_header oh = { .unique = unique, .error = -error };
	struct iovec iov[2] = { { &oh, sizeof(oh) }, { (void *)(uintptr_t)data, data_len } };
	int count = error || data_len == 0 ? 1 : 2;

	oh.len = (uint32_t)(sizeof(oh) + (count == 2 ? data_len : 0));
	return writev(s->fd, iov, count) < 0 ? -errno : 0;
}

/* ---- life --------------------------------------------------------------------------- */

static int plain_get(void *ctx, struct shim_buf *out)
{
	void *p;
	(void)ctx;

	if (posix_memalign(&p, 4096, SHIM_BUF_BYTES))
		return -ENOMEM;
	memset(p, 0, sizeof(struct fuse_in_header));
	*out = (struct shim_buf){ p, SHIM_BUF_BYTES, 0 };
	return 0;
}

static void plain_put(void *ctx, struct shim_buf *buf)
{
	(void)ctx;
	free(buf->mem);
}

struct shim *shim_new(const struct shim_policy *policy, const struct shim_buf_ops *bufs)
{
	struct shim *s;

	if (policy->max_write_bytes > SHIM_MAX_WRITE_BYTES || policy->max_write_bytes < 4096 ||
	    policy->max_pages > UINT16_MAX) {
		errno = EINVAL;
		return NULL;
	}
	s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->policy = *policy;
	s->bufs = bufs ? *bufs : (struct shim_buf_ops){ plain_get, plain_put, NULL };
	s->fd = -1;
	s->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->stop_fd < 0) {
		free(s);
		return NULL;
	}
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->lead_free, NULL);
	return s;
}

void shim_free(struct shim *s)
{
	if (!s)
		return;
	shim_detach(s);
	close(s->stop_fd);
	pthread_cond_destroy(&s->lead_free);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

int shim_attach(struct shim *s, struct fuse_session *se, int fd)
{
	static const struct fuse_custom_io io = { .read = io_read, .writev = io_writev };
	int fl = fcntl(fd, F_GETFL);
	int err;

	if (fl < 0 || fcntl(fd, F_SETFL, fl | O_NONBLOCK) < 0)
		return -errno;
	s->fd = fd;
	s->se = se;
	for (int i = 0; i < SHIM_MAX; i++) {
		struct shim *none = NULL;

		if (!atomic_compare_exchange_strong(&attached[i], &none, s))
			continue;
		err = fuse_session_custom_io(se, &io, fd);
		if (err)
			atomic_store(&attached[i], NULL);
		return err < 0 ? err : err ? -EIO : 0;
	}
	return -ENFILE;
}

void shim_detach(struct shim *s)
{
	for (int i = 0; i < SHIM_MAX; i++) {
		struct shim *me = s;

		atomic_compare_exchange_strong(&attached[i], &me, NULL);
	}
}

/* ---- dispatch ----------------------------------------------------------------------- */

#define WITH_NAME(t) (sizeof(struct t) + 1)
/* The least body of each opcode: what libfuse reads without looking at the length. */
static const uint16_t least_body[] = {
	[FUSE_LOOKUP] = 1, [FUSE_FORGET] = sizeof(struct fuse_forget_in),
	[FUSE_GETATTR] = sizeof(struct fuse_getattr_in),
	[FUSE_SETATTR] = sizeof(struct fuse_setattr_in), [FUSE_SYMLINK] = 2,
	[FUSE_MKNOD] = WITH_NAME(fuse_mknod_in), [FUSE_MKDIR] = WITH_NAME(fuse_mkdir_in),
	[FUSE_UNLINK] = 1, [FUSE_RMDIR] = 1, [FUSE_RENAME] = WITH_NAME(fuse_rename_in) + 1,
	[FUSE_LINK] = WITH_NAME(fuse_link_in), [FUSE_OPEN] = sizeof(struct fuse_open_in),
	[FUSE_READ] = sizeof(struct fuse_read_in), [FUSE_WRITE] = sizeof(struct fuse_write_in),
	[FUSE_RELEASE] = sizeof(struct fuse_release_in),
	[FUSE_FSYNC] = sizeof(struct fuse_fsync_in),
	[FUSE_SETXATTR] = FUSE_COMPAT_SETXATTR_IN_SIZE + 1,
	[FUSE_GETXATTR] = WITH_NAME(fuse_getxattr_in),
	[FUSE_LISTXATTR] = sizeof(struct fuse_getxattr_in), [FUSE_REMOVEXATTR] = 1,
	[FUSE_FLUSH] = sizeof(struct fuse_flush_in), [FUSE_INIT] = 16,
	[FUSE_OPENDIR] = sizeof(struct fuse_open_in),
	[FUSE_READDIR] = sizeof(struct fuse_read_in),
	[FUSE_RELEASEDIR] = sizeof(struct fuse_release_in),
	[FUSE_FSYNCDIR] = sizeof(struct fuse_fsync_in), [FUSE_GETLK] = sizeof(struct fuse_lk_in),
	[FUSE_SETLK] = sizeof(struct fuse_lk_in), [FUSE_SETLKW] = sizeof(struct fuse_lk_in),
	[FUSE_ACCESS] = sizeof(struct fuse_access_in), [FUSE_CREATE] = WITH_NAME(fuse_create_in),
	[FUSE_INTERRUPT] = sizeof(struct fuse_interrupt_in),
	[FUSE_BMAP] = sizeof(struct fuse_bmap_in), [FUSE_IOCTL] = sizeof(struct fuse_ioctl_in),
	[FUSE_POLL] = sizeof(struct fuse_poll_in),
	[FUSE_NOTIFY_REPLY] = sizeof(struct fuse_notify_retrieve_in),
	[FUSE_BATCH_FORGET] = sizeof(struct fuse_batch_forget_in),
	[FUSE_FALLOCATE] = sizeof(struct fuse_fallocate_in),
	[FUSE_READDIRPLUS] = sizeof(struct fuse_read_in),
	[FUSE_RENAME2] = WITH_NAME(fuse_rename2_in) + 1,
	[FUSE_LSEEK] = sizeof(struct fuse_lseek_in),
	[FUSE_COPY_FILE_RANGE] = sizeof(struct fuse_copy_file_range_in),
};

static bool body_is_sound(uint32_t opcode, const void *body, size_t len)
{
	if (opcode < sizeof(least_body) / sizeof(least_body[0]) && len < least_body[opcode])
		return false;
	if (opcode == FUSE_WRITE) {
		const struct fuse_write_in *w = body;

		return w->size <= len - sizeof(*w);
	}
	if (opcode == FUSE_BATCH_FORGET) {
		const struct fuse_batch_forget_in *f = body;

		return f->count <= (len - sizeof(*f)) / sizeof(struct fuse_forget_one);
	}
	return true;
}

int shim_dispatch(struct shim *s, struct shim_buf *buf, size_t len)
{
	const struct fuse_in_header *in = (const void *)buf->mem;
	struct dispatch d = { .s = s, .buf = buf };
	uint32_t op;

	if (len < sizeof(*in) || len > buf->bytes - TAIL_BYTES || in->len != len) {
		INC(s->n_refused);
		return -EINVAL;
	}
	op = in->opcode;
	memset(buf->mem + len, 0, TAIL_BYTES);
	d.req = (struct shim_req){ in, in + 1, len - sizeof(*in) };
	if (!body_is_sound(op, d.req.body, d.req.body_len)) {
		INC(s->n_refused);
		if (op != FUSE_FORGET && op != FUSE_BATCH_FORGET && op != FUSE_INTERRUPT)
			shim_reply_raw(s, in->unique, EIO, NULL, 0);
		goto out;
	}
	if (op == FUSE_INIT && !atomic_load(&s->neg_done))
		shim_init_note(s, in, len);
	current = &d;
	if (op >= 64 || !(s->policy.raw_opcodes >> op & 1) ||
	    !s->policy.raw(s->policy.raw_ctx, s, in, d.req.body, d.req.body_len)) {
		struct fuse_buf fb = { .size = len, .mem = buf->mem };

		fuse_session_process_buf(s->se, &fb);
	}
	current = NULL;
out:
	if (!d.taken)
		memset(buf->mem, 0, sizeof(*in));
	return d.taken ? 1 : 0;
}

const struct shim_req *shim_current(void)
{
	return current ? &current->req : NULL;
}

bool shim_kill_priv(void)
{
	if (!current)
		return false;
	switch (current->req.in->opcode) {
	case FUSE_WRITE:
		return ((const struct fuse_write_in *)current->req.body)->write_flags &
		       FUSE_WRITE_KILL_SUIDGID;
	case FUSE_SETATTR:
		return ((const struct fuse_setattr_in *)current->req.body)->valid &
		       FATTR_KILL_SUIDGID;
	case FUSE_OPEN:
		return ((const struct fuse_open_in *)current->req.body)->open_flags &
		       FUSE_OPEN_KILL_SUIDGID;
	case FUSE_CREATE:
		return ((const struct fuse_create_in *)current->req.body)->open_flags &
		       FUSE_OPEN_KILL_SUIDGID;
	default:
		return false;
	}
}

int shim_setxattr_args(struct shim *s, const char **name, const void **value,
		       size_t *value_len, uint32_t *flags, bool *kill_sgid)
{
	bool ext = s->neg.flags & FUSE_SETXATTR_EXT;
	size_t fixed = ext ? sizeof(struct fuse_setxattr_in) : FUSE_COMPAT_SETXATTR_IN_SIZE;
	const struct fuse_setxattr_in *x;
	const char *p, *nul;
	size_t rest;

	if (!current || current->req.in->opcode != FUSE_SETXATTR ||
	    current->req.body_len <= fixed)
		return -EINVAL;
	x = current->req.body;
	p = (const char *)current->req.body + fixed;
	rest = current->req.body_len - fixed;
	nul = memchr(p, 0, rest);
	if (!nul || rest - (size_t)(nul + 1 - p) < x->size)
		return -EINVAL;
	*name = p;
	*value = nul + 1;
	*value_len = x->size;
	*flags = x->flags;
	*kill_sgid = ext && (x->setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID);
	return 0;
}

int shim_take(struct shim *s, struct shim_buf *out)
{
	struct shim_buf fresh;
	int err;

	if (!current || current->taken)
		return -EINVAL;
	err = s->bufs.get(s->bufs.ctx, &fresh);
	if (err)
		return err;
	*out = *current->buf;
	*current->buf = fresh;
	current->taken = true;
	return 0;
}

void shim_put(struct shim *s, struct shim_buf *buf)
{
	if (!buf->mem)
		return;
	memset(buf->mem, 0, sizeof(struct fuse_in_header));
	s->bufs.put(s->bufs.ctx, buf);
	*buf = (struct shim_buf){ 0 };
}

/* ---- the end, and counters ----------------------------------------------------------- */

void shim_stop(struct shim *s)
{
	uint64_t one = 1;
	int err = errno;

	atomic_store(&s->stopping, true);
	if (write(s->stop_fd, &one, sizeof(one)) < 0) {
		/* Only EAGAIN: the counter is full, so it is readable already. */
	}
	errno = err;
}

void shim_stats(struct shim *s, struct shim_stats *out)
{
	*out = (struct shim_stats){
		.requests = atomic_load(&s->n_requests), .ready = atomic_load(&s->n_ready),
		.spun = atomic_load(&s->n_spun), .slept = atomic_load(&s->n_slept),
		.spin_missed = atomic_load(&s->n_spin_missed),
		.refused = atomic_load(&s->n_refused),
	};
}
