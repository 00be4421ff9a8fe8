/* fs/shim_init.c: what INIT is answered, and how a later process continues from it.
 * See shim.h for the contract, DESIGN.md for the reasons. */
#define FUSE_USE_VERSION 314
#include "fs/shim_internal.h"

#include <assert.h>
#include <errno.h>
#include <fuse3/fuse_lowlevel.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What shim_saved holds. INIT is answered once its state says so; a process that died between
 * saving and answering leaves PREPARED, and the next one answers: an answer too many is
 * refused by the kernel (ENOENT), one too few would hang the mount for ever. */
enum { SAVED_PREPARED = 1, SAVED_ANSWERED = 2 };
#define SAVED_MAGIC 0x73706172654d4931ull
struct saved {
	uint64_t magic, sum;
	uint32_t in_len, out_len;
	unsigned char in[128];
	struct fuse_init_out out;
	uint32_t state;		/* not summed: changes alone */
};
static_assert(sizeof(struct saved) <= SHIM_SAVED_BYTES, "saved INIT fits its area");
static_assert(sizeof(struct fuse_init_out) == 64, "INIT reply as of protocol 7.23");
static_assert(sizeof(struct fuse_in_header) + sizeof(struct fuse_init_in) <= 128, "fits");

/* ---- policy and names --------------------------------------------------------------- */

#define SHIM_FLAGS(X) \
	X(0, ASYNC_READ) X(1, POSIX_LOCKS) X(2, FILE_OPS) X(3, ATOMIC_O_TRUNC) \
	X(4, EXPORT_SUPPORT) X(5, BIG_WRITES) X(6, DONT_MASK) X(7, SPLICE_WRITE) \
	X(8, SPLICE_MOVE) X(9, SPLICE_READ) X(10, FLOCK_LOCKS) X(11, HAS_IOCTL_DIR) \
	X(12, AUTO_INVAL_DATA) X(13, DO_READDIRPLUS) X(14, READDIRPLUS_AUTO) \
	X(15, ASYNC_DIO) X(16, WRITEBACK_CACHE) X(17, NO_OPEN_SUPPORT) \
	X(18, PARALLEL_DIROPS) X(19, HANDLE_KILLPRIV) X(20, POSIX_ACL) X(21, ABORT_ERROR) \
	X(22, MAX_PAGES) X(23, CACHE_SYMLINKS) X(24, NO_OPENDIR_SUPPORT) \
	X(25, EXPLICIT_INVAL_DATA) X(26, MAP_ALIGNMENT) X(27, SUBMOUNTS) \
	X(28, HANDLE_KILLPRIV_V2) X(29, SETXATTR_EXT) X(30, INIT_EXT) X(32, SECURITY_CTX) \
	X(33, HAS_INODE_DAX) X(34, CREATE_SUPP_GROUP) X(35, HAS_EXPIRE_ONLY) \
	X(36, DIRECT_IO_ALLOW_MMAP) X(37, PASSTHROUGH) X(38, NO_EXPORT_SUPPORT) \
	X(39, HAS_RESEND) X(40, ALLOW_IDMAP) X(41, OVER_IO_URING) X(42, REQUEST_TIMEOUT)

static const struct {
	unsigned bit;
	const char *name;
} flag_names[] = {
#define X(bit, name) { bit, #name },
	SHIM_FLAGS(X)
#undef X
};

/* Never: what this kernel interface would let the kernel do behind our back. */
#define OFF_ALWAYS \
	((uint64_t)FUSE_ATOMIC_O_TRUNC | FUSE_AUTO_INVAL_DATA | FUSE_HANDLE_KILLPRIV | \
	 FUSE_SPLICE_READ | FUSE_SPLICE_WRITE | FUSE_SPLICE_MOVE | FUSE_POSIX_LOCKS | \
	 FUSE_FLOCK_LOCKS | FUSE_ASYNC_DIO)
#define ON_ALWAYS \
	((uint64_t)FUSE_EXPLICIT_INVAL_DATA | FUSE_POSIX_ACL | FUSE_NO_OPEN_SUPPORT | \
	 FUSE_NO_OPENDIR_SUPPORT | FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO | \
	 FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES | FUSE_ASYNC_READ | \
	 FUSE_BIG_WRITES | FUSE_ABORT_ERROR)

void shim_policy_live(struct shim_policy *p)
{
	*p = (struct shim_policy){
		.on = ON_ALWAYS | FUSE_HANDLE_KILLPRIV_V2 | FUSE_DONT_MASK |
		      FUSE_SETXATTR_EXT | FUSE_CACHE_SYMLINKS | FUSE_EXPORT_SUPPORT,
		.off = OFF_ALWAYS,
		.max_write_bytes = SHIM_MAX_WRITE_BYTES,
		.max_pages = 256,
		.max_readahead_bytes = 1u << 20,
		.max_background = 64,
		.congestion_threshold = 48,
		.spin_us = 50,
	};
}

void shim_policy_past(struct shim_policy *p)
{
	shim_policy_live(p);
	p->on = ON_ALWAYS;
	p->off = OFF_ALWAYS | FUSE_HANDLE_KILLPRIV_V2 | FUSE_DONT_MASK | FUSE_SETXATTR_EXT |
		 FUSE_CACHE_SYMLINKS | FUSE_WRITEBACK_CACHE | FUSE_EXPORT_SUPPORT;
}

void shim_negotiated(struct shim *s, struct shim_negotiated *out)
{
	if (!atomic_load_explicit(&s->neg_done, memory_order_acquire)) {
		*out = (struct shim_negotiated){ 0 };
		return;
	}
	*out = s->neg;
}

void shim_negotiated_print(const struct shim_negotiated *n, FILE *out)
{
	uint64_t rest = n->flags;

	if (!n->done) {
		fprintf(out, "fuse: not negotiated\n");
		return;
	}
	fprintf(out, "fuse: kernel 7.%u, answered 7.%u, max_write %u, max_readahead %u, "
		"max_pages %u, background %u/%u, time_gran %u ns\nflags:",
		n->kernel_minor, n->minor, n->max_write_bytes, n->max_readahead_bytes,
		n->max_pages, n->max_background, n->congestion_threshold, n->time_gran_ns);
	for (size_t i = 0; i < sizeof(flag_names) / sizeof(flag_names[0]); i++) {
		uint64_t bit = 1ull << flag_names[i].bit;

		if (n->flags & bit)
			fprintf(out, " %s", flag_names[i].name);
		rest &= ~bit;
	}
	if (rest)
		fprintf(out, " 0x%llx", (unsigned long long)rest);
	fputc('\n', out);
}

/* ---- INIT --------------------------------------------------------------------------- */

static uint64_t saved_sum(const struct saved *v)
{
	const unsigned char *p = (const unsigned char *)v;
	uint64_t h = 0xcbf29ce484222325ull;

	for (size_t i = offsetof(struct saved, in_len); i < offsetof(struct saved, state); i++)
		h = (h ^ p[i]) * 0x100000001b3ull;
	return h;
}

static uint64_t offered_flags(const unsigned char *req, size_t len, uint32_t *minor)
{
	struct fuse_init_in in = { 0 };
	size_t body = len - sizeof(struct fuse_in_header);

	memcpy(&in, req + sizeof(struct fuse_in_header), body < sizeof(in) ? body : sizeof(in));
	*minor = in.minor;
	if ((in.flags & FUSE_INIT_EXT) && body >= offsetof(struct fuse_init_in, unused))
		return (uint64_t)in.flags2 << 32 | in.flags;
	return in.flags & ~(uint32_t)FUSE_INIT_EXT;
}

/* Changes libfuse's answer `out` to what the policy says. */
static void patch_init(const struct shim *s, uint64_t offered, struct fuse_init_out *out)
{
	const struct shim_policy *p = &s->policy;
	uint64_t fl = out->flags;

	if (fl & FUSE_INIT_EXT)
		fl |= (uint64_t)out->flags2 << 32;
	fl = ((fl | p->on) & ~p->off) & offered;
	fl &= ~(uint64_t)FUSE_INIT_EXT;
	if (offered & FUSE_INIT_EXT)
		fl |= FUSE_INIT_EXT;
	out->flags = (uint32_t)fl;
	out->flags2 = (uint32_t)(fl >> 32);
	out->max_write = p->max_write_bytes;
	out->max_pages = (fl & FUSE_MAX_PAGES) ? (uint16_t)p->max_pages : 0;
	if (!(fl & FUSE_MAX_PAGES) && out->max_write > 32u * 4096u)
		out->max_write = 32u * 4096u;
	out->max_readahead = p->max_readahead_bytes;
	out->max_background = p->max_background;
	out->congestion_threshold = p->congestion_threshold;
	out->time_gran = 1;
}

static void record_negotiated(struct shim *s, uint64_t offered, uint32_t kernel_minor,
			      const struct fuse_init_out *out)
{
	s->neg = (struct shim_negotiated){
		.done = true,
		.kernel_minor = kernel_minor,
		.minor = out->minor,
		.offered = offered,
		.flags = (uint64_t)out->flags2 << 32 | out->flags,
		.max_write_bytes = out->max_write,
		.max_readahead_bytes = out->max_readahead,
		.max_pages = out->max_pages,
		.max_background = out->max_background,
		.congestion_threshold = out->congestion_threshold,
		.time_gran_ns = out->time_gran,
	};
	atomic_store_explicit(&s->neg_done, true, memory_order_release);
}

static void save_prepared(struct shim *s, const struct fuse_init_out *out, size_t out_len)
{
	struct saved v = { .magic = SAVED_MAGIC, .in_len = (uint32_t)s->init_in_len,
			   .out_len = (uint32_t)out_len, .out = *out,
			   .state = SAVED_PREPARED };

	memcpy(v.in, s->init_in, s->init_in_len);
	v.sum = saved_sum(&v);
	memset(s->save->bytes, 0, sizeof(v.magic));	/* invalid until complete */
	atomic_thread_fence(memory_order_release);
	memcpy(s->save->bytes + sizeof(v.magic), (const unsigned char *)&v + sizeof(v.magic),
	       sizeof(v) - sizeof(v.magic));
	atomic_thread_fence(memory_order_release);
	memcpy(s->save->bytes, &v.magic, sizeof(v.magic));
}

ssize_t shim_init_answer(struct shim *s, int fd, struct iovec *iov, int count)
{
	struct fuse_out_header oh;
	struct fuse_init_out out = { 0 };
	size_t len;
	uint64_t offered;
	uint32_t kernel_minor;
	struct iovec to[2] = { { &oh, sizeof(oh) }, { &out, 0 } };
	uint32_t answered = SAVED_ANSWERED;
	ssize_t n;

	memcpy(&oh, iov[0].iov_base, sizeof(oh));
	if (oh.error != 0 || count != 2 || iov[1].iov_len > sizeof(out))
		return s->init_swallow ? (ssize_t)oh.len : writev(fd, iov, count);
	len = iov[1].iov_len;
	memcpy(&out, iov[1].iov_base, len);
	offered = offered_flags(s->init_in, s->init_in_len, &kernel_minor);
	patch_init(s, offered, &out);
	atomic_store(&s->init_pending, false);
	if (s->init_swallow) {
		s->init_differs = memcmp(&out, s->init_held, sizeof(out)) != 0;
		record_negotiated(s, offered, kernel_minor, s->init_held);
		return (ssize_t)oh.len;
	}
	if (s->save)
		save_prepared(s, &out, len);
	record_negotiated(s, offered, kernel_minor, &out);
	to[1].iov_len = len;
	n = writev(fd, to, 2);
	if (n >= 0 && s->save)
		memcpy(s->save->bytes + offsetof(struct saved, state), &answered,
		       sizeof(answered));
	return n;
}

void shim_init_note(struct shim *s, const struct fuse_in_header *in, size_t len)
{
	s->init_in_len = len < sizeof(s->init_in) ? len : sizeof(s->init_in);
	memcpy(s->init_in, in, s->init_in_len);
	s->init_unique = in->unique;
	atomic_store(&s->init_pending, true);
}

void shim_save_to(struct shim *s, struct shim_saved *area)
{
	s->save = area;
}

/* The kernel may or may not have got this answer; it refuses a second one with ENOENT. */
static int send_prepared(struct shim *s, const struct saved *v)
{
	struct fuse_in_header in;

	memcpy(&in, v->in, sizeof(in));
	int err = shim_reply_raw(s, in.unique, 0, &v->out, v->out_len);
	return err == -ENOENT ? 0 : err;
}

int shim_restart(struct shim *s, const struct shim_saved *saved)
{
	struct saved v;
	_Alignas(8) unsigned char mem[sizeof(v.in) + TAIL_BYTES] = { 0 };
	struct shim_buf buf = { mem, sizeof(mem), 0 };
	int err;

	memcpy(&v, saved->bytes, sizeof(v));
	if (v.magic != SAVED_MAGIC || v.sum != saved_sum(&v) || v.in_len > sizeof(s->init_in) ||
	    v.in_len < sizeof(struct fuse_in_header) + 16 || v.out_len > sizeof(v.out) ||
	    (v.state != SAVED_PREPARED && v.state != SAVED_ANSWERED))
		return -EINVAL;
	memcpy(mem, v.in, v.in_len);
	s->init_swallow = true;
	s->init_held = &v.out;
	err = shim_dispatch(s, &buf, v.in_len);
	s->init_held = NULL;
	s->init_swallow = false;
	if (err < 0)
		return err;
	if (!atomic_load(&s->neg_done) || fuse_session_exited(s->se))
		return -EPROTO;
	if (v.state == SAVED_PREPARED) {
		err = send_prepared(s, &v);
		if (err)
			return err;
	}
	return s->init_differs ? 1 : 0;
}

/* ---- readahead ---------------------------------------------------------------------- */

int shim_raise_readahead(const char *mountpoint, size_t bytes)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char line[8192], path[4096], sys[128];
	unsigned major_n, minor_n, found = 0, maj = 0, min = 0;
	char *real;
	int err = -ENOENT;

	if (!f)
		return -errno;
	real = mountpoint[0] == '/' ? strdup(mountpoint) : realpath(mountpoint, NULL);
	while (real && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%*d %*d %u:%u %*s %4095s", &major_n, &minor_n, path) == 3 &&
		    strcmp(path, real) == 0) {
			found = 1;	/* the last one is on top */
			maj = major_n;
			min = minor_n;
		}
	}
	fclose(f);
	free(real);
	if (!found)
		return err;
	snprintf(sys, sizeof(sys), "/sys/class/bdi/%u:%u/read_ahead_kb", maj, min);
	f = fopen(sys, "we");
	if (!f)
		return -errno;
	err = fprintf(f, "%zu\n", bytes / 1024) < 0 ? -EIO : 0;
	if (fclose(f) != 0 && err == 0)
		err = -errno;
	return err;
}
