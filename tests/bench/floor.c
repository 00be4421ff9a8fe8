/* tests/bench/floor.c: an in-memory file system on the same shim and with the same negotiated
 * options as the product, that stores nothing durable. It is the floor of what a FUSE file
 * system of this shape can cost; the product is measured against it.
 *
 *     spare-floor DIR [-f] [-o spin=US,writeback,background=N,sync=FILE,...]
 *
 * With sync=FILE an fsync costs what a log's must: the bytes of all WRITEs since the last one, in whole pages, at least one, written to FILE,
 * 64 MiB of zeros at first, and one fdatasync. (Of one page alone it would be the floor of a log that does not keep what was written.)
 *
 * One thread, no locks: a fuse_ino_t is the address of its node, but for the root. */
#define FUSE_USE_VERSION 314
#include "fs/shim.h"
#include "tests/bench/floor.h"

#include <errno.h>
#include <fcntl.h>
#include <fuse3/fuse_lowlevel.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define FOREVER 1e9		/* seconds */
#define READ_IOV 18u		/* 1 MiB read at any offset: 17 chunks, and libfuse's header */

static unsigned char zeros[CHUNK_BYTES];
static size_t sync_due;			/* bytes written since the last fsync */
static struct shim *shim;
static struct fuse_session *session;

static struct node *node_of(fuse_ino_t ino)
{
	return ino == FUSE_ROOT_ID ? floor_root : (struct node *)(uintptr_t)ino;
}

static void fill_entry(struct node *n, struct fuse_entry_param *e)
{
	*e = (struct fuse_entry_param){ .ino = n == floor_root ? FUSE_ROOT_ID : (uintptr_t)n,
					.attr = n->st, .attr_timeout = FOREVER,
					.entry_timeout = FOREVER };
}

static void reply_node(fuse_req_t req, struct node *n)
{
	struct fuse_entry_param e;

	fill_entry(n, &e);
	n->lookups++;
	if (fuse_reply_entry(req, &e) != 0) {
		n->lookups--;
		floor_maybe_free(n);
	}
}

/* ---- data -------------------------------------------------------------------------- */

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
		     struct fuse_file_info *fi)
{
	struct node *n = node_of(ino);
	size_t done = 0;
	(void)fi;

	if (off < 0 || (uint64_t)off > (1ull << 42) - size) {
		fuse_reply_err(req, EFBIG);
		return;
	}
	while (done < size) {
		uint64_t at = (uint64_t)off + done;
		uint32_t in = (uint32_t)(at % CHUNK_BYTES), len = CHUNK_BYTES - in;

		if (len > size - done)
			len = (uint32_t)(size - done);
		if (floor_need_chunk(n, at / CHUNK_BYTES, in + len)) {
			fuse_reply_err(req, ENOSPC);
			return;
		}
		memcpy(n->chunks[at / CHUNK_BYTES].mem + in, buf + done, len);
		done += len;
	}
	sync_due += size;
	if (off + (off_t)size > n->st.st_size)
		floor_set_size(n, off + (off_t)size);
	else
		n->st.st_mtim = n->st.st_ctim = floor_now();
	/* A reply to WRITE has no attributes, and the kernel goes on with the old mode. */
	if (shim_kill_priv() && floor_kill_priv(n))
		fuse_lowlevel_notify_inval_inode(session, ino, -1, 0);
	fuse_reply_write(req, size);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	struct node *n = node_of(ino);
	struct iovec iov[2 * READ_IOV];
	int count = 0;
	size_t done = 0;
	(void)fi;

	if (off < 0 || off >= n->st.st_size)
		size = 0;
	else if ((off_t)size > n->st.st_size - off)
		size = (size_t)(n->st.st_size - off);
	while (done < size && count < (int)(2 * READ_IOV) - 2) {
		uint64_t at = (uint64_t)off + done;
		size_t i = at / CHUNK_BYTES, in = at % CHUNK_BYTES, len = CHUNK_BYTES - in;
		size_t have = 0;

		if (len > size - done)
			len = size - done;
		if (i < n->n_chunks && n->chunks[i].cap > in)
			have = n->chunks[i].cap - in < len ? n->chunks[i].cap - in : len;
		if (have)
			iov[count++] = (struct iovec){ n->chunks[i].mem + in, have };
		if (have < len)
			iov[count++] = (struct iovec){ zeros, len - have };
		done += len;
	}
	fuse_reply_iov(req, iov, count);
}

/* ---- operations --------------------------------------------------------------------- */

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct entry *e = floor_find_entry(node_of(parent), name);
	struct fuse_entry_param none = { .entry_timeout = FOREVER };

	if (e)
		reply_node(req, e->child);
	else
		fuse_reply_entry(req, &none);
}

static void forget_one(fuse_ino_t ino, uint64_t count)
{
	struct node *n = node_of(ino);

	n->lookups -= count < n->lookups ? count : n->lookups;
	floor_maybe_free(n);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count)
{
	forget_one(ino, count);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *f)
{
	for (size_t i = 0; i < count; i++)
		forget_one(f[i].ino, f[i].nlookup);
	fuse_reply_none(req);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)fi;
	fuse_reply_attr(req, &node_of(ino)->st, FOREVER);
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *a, int set,
		       struct fuse_file_info *fi)
{
	struct node *n = node_of(ino);
	struct timespec t = floor_now();
	(void)fi;

	if (set & FUSE_SET_ATTR_SIZE)
		floor_set_size(n, a->st_size);
	if (shim_kill_priv() || (set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)))
		if (!S_ISDIR(n->st.st_mode))
			floor_kill_priv(n);
	if (set & FUSE_SET_ATTR_MODE)
		floor_chmod(n, a->st_mode);
	if (set & FUSE_SET_ATTR_UID)
		n->st.st_uid = a->st_uid;
	if (set & FUSE_SET_ATTR_GID)
		n->st.st_gid = a->st_gid;
	if (set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW))
		n->st.st_atim = set & FUSE_SET_ATTR_ATIME_NOW ? t : a->st_atim;
	if (set & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW))
		n->st.st_mtim = set & FUSE_SET_ATTR_MTIME_NOW ? t : a->st_mtim;
	if (set)
		n->st.st_ctim = set & FUSE_SET_ATTR_CTIME ? a->st_ctim : t;
	fuse_reply_attr(req, &n->st, FOREVER);
}

static void make(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev,
		 const char *target)
{
	struct node *dir = node_of(parent), *n;
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	gid_t gid = ctx->gid;
	int err = EEXIST;

	if (floor_find_entry(dir, name)) {
		fuse_reply_err(req, EEXIST);
		return;
	}
	if (!target)
		mode &= ~ctx->umask;	/* DONT_MASK: ours to apply */
	if (dir->st.st_mode & S_ISGID) {
		gid = dir->st.st_gid;
		if (S_ISDIR(mode))
			mode |= S_ISGID;
	}
	n = floor_new_node(mode, ctx->uid, gid, rdev);
	if (!n || (target && !(n->target = strdup(target)))) {
		free(n);
		fuse_reply_err(req, ENOMEM);
		return;
	}
	if (target)
		n->st.st_size = (off_t)strlen(target);
	err = floor_add_entry(dir, name, n);
	if (err) {
		n->st.st_nlink = 0;
		floor_maybe_free(n);
		fuse_reply_err(req, err);
		return;
	}
	reply_node(req, n);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		     dev_t rdev)
{
	make(req, parent, name, mode, rdev, NULL);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	make(req, parent, name, S_IFDIR | (mode & 07777), 0, NULL);
}

static void op_symlink(fuse_req_t req, const char *link, fuse_ino_t parent, const char *name)
{
	make(req, parent, name, S_IFLNK | 0777, 0, link);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	fuse_reply_readlink(req, node_of(ino)->target ? node_of(ino)->target : "");
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct entry *e = floor_find_entry(node_of(parent), name);

	if (e)
		floor_unlink_entry(e);
	fuse_reply_err(req, e ? 0 : ENOENT);
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct entry *e = floor_find_entry(node_of(parent), name);
	int err = !e ? ENOENT : e->child->live_ents ? ENOTEMPTY : 0;

	if (!err)
		floor_unlink_entry(e);
	fuse_reply_err(req, err);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	struct node *n = node_of(ino);
	int err = floor_find_entry(node_of(parent), name) ? EEXIST
		  : floor_add_entry(node_of(parent), name, n);

	if (err) {
		fuse_reply_err(req, err);
		return;
	}
	n->st.st_nlink++;
	n->st.st_ctim = floor_now();
	reply_node(req, n);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t to,
		      const char *newname, unsigned flags)
{
	struct node *dir = node_of(parent), *dst = node_of(to), *n;
	struct entry *e = floor_find_entry(dir, name), *old = floor_find_entry(dst, newname);
	int err = 0;

	if (!e || ((flags & RENAME_EXCHANGE) && !old))
		err = ENOENT;
	else if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE))
		err = EINVAL;
	else if (old && (flags & RENAME_NOREPLACE))
		err = EEXIST;
	else if (old && !(flags & RENAME_EXCHANGE) && old->child->live_ents)
		err = ENOTEMPTY;
	if (err || (old && old->child == e->child)) {
		fuse_reply_err(req, err);
		return;
	}
	n = e->child;
	if (flags & RENAME_EXCHANGE) {
		struct node *o = old->child;

		floor_drop_entry(e);
		floor_drop_entry(old);
		err = floor_add_entry(dir, name, o);
		o->st.st_ctim = floor_now();
	} else {
		if (old)
			floor_unlink_entry(old);
		floor_drop_entry(e);
	}
	if (!err)
		err = floor_add_entry(dst, newname, n);
	n->st.st_ctim = floor_now();
	fuse_reply_err(req, err);
}

/* CREATE and OPEN: not known, so the kernel goes on with MKNOD and without handles. */
static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	(void)fi;
	fuse_reply_err(req, ENOSYS);
}

#define SYNC_BYTES (64u << 20)
static int sync_fd = -1;

static bool sync_open(const char *path)
{
	sync_fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	for (unsigned off = 0; sync_fd >= 0 && off < SYNC_BYTES; off += CHUNK_BYTES)
		if (pwrite(sync_fd, zeros, CHUNK_BYTES, off) != (ssize_t)CHUNK_BYTES)
			return false;
	return sync_fd >= 0 && fsync(sync_fd) == 0;
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	static unsigned at;
	size_t len = sync_due > 4096 ? (sync_due + 4095) & ~(size_t)4095 : 4096;
	int eno = 0;

	(void)ino;
	(void)datasync;
	(void)fi;
	if (sync_fd >= 0) {
		for (size_t n; len > 0; len -= n, at = (at + n) % SYNC_BYTES) {
			n = len < CHUNK_BYTES - at % CHUNK_BYTES ? len : CHUNK_BYTES - at % CHUNK_BYTES;
			if (pwrite(sync_fd, zeros, n, at) != (ssize_t)n)
				eno = EIO;
		}
		if (fdatasync(sync_fd) != 0)
			eno = EIO;
		sync_due = 0;
	}
	fuse_reply_err(req, eno);
}

static size_t put_entry(fuse_req_t req, char *p, size_t room, const char *name, struct node *n,
			uint64_t next, bool plus)
{
	struct fuse_entry_param e;

	if (!plus)
		return fuse_add_direntry(req, p, room, name, &n->st, (off_t)next);
	fill_entry(n, &e);
	return fuse_add_direntry_plus(req, p, room, name, &e, (off_t)next);
}

static void list(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, bool plus)
{
	static char buf[SHIM_MAX_WRITE_BYTES];
	struct node *dir = node_of(ino);
	size_t used = 0, len;

	if (size > sizeof(buf))
		size = sizeof(buf);
	for (uint64_t c = (uint64_t)off + 1; c <= 2; c++) {
		struct node *n = c == 1 || !dir->parent ? dir : dir->parent;

		len = put_entry(req, buf + used, size - used, c == 1 ? "." : "..", n, c, plus);
		if (len > size - used)
			goto out;
		used += len;
	}
	for (size_t i = floor_slot_of(dir, (uint64_t)off + 1); i < dir->n_ents; i++) {
		struct entry *e = dir->ents[i];

		if (!e)
			continue;
		len = put_entry(req, buf + used, size - used, e->name, e->child, e->cookie, plus);
		if (len > size - used)
			break;
		used += len;
		if (plus)
			e->child->lookups++;
	}
out:
	fuse_reply_buf(req, buf, used);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		       struct fuse_file_info *fi)
{
	(void)fi;
	list(req, ino, size, off, false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
			   struct fuse_file_info *fi)
{
	(void)fi;
	list(req, ino, size, off, true);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct statvfs v = { .f_bsize = 4096, .f_frsize = 4096, .f_namemax = 255,
			     .f_blocks = 1u << 26, .f_files = 1u << 26 };
	(void)ino;

	v.f_bfree = v.f_bavail = v.f_blocks - floor_n_bytes / 4096;
	v.f_ffree = v.f_favail = v.f_files - floor_n_nodes;
	fuse_reply_statfs(req, &v);
}

/* ---- extended attributes ------------------------------------------------------------ */

static void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *lib_name,
			const char *lib_value, size_t lib_size, int lib_flags)
{
	const char *name;
	const void *value;
	size_t len;
	uint32_t flags;
	bool kill_sgid = false;
	int err = -shim_setxattr_args(shim, &name, &value, &len, &flags, &kill_sgid);
	(void)lib_name;
	(void)lib_value;
	(void)lib_size;
	(void)lib_flags;

	if (!err)
		err = floor_set_xattr_acl(node_of(ino), name, value, len, flags);
	if (!err && kill_sgid)
		node_of(ino)->st.st_mode &= ~(mode_t)S_ISGID;
	fuse_reply_err(req, err);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct xattr *x = *floor_find_xattr(node_of(ino), name);

	if (!x)
		fuse_reply_err(req, ENODATA);
	else if (size == 0)
		fuse_reply_xattr(req, x->len);
	else if (x->len > size)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, x->value, x->len);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	char buf[65536];
	size_t used = 0;

	for (struct xattr *x = node_of(ino)->xattrs; x; x = x->next) {
		size_t len = strlen(x->name) + 1;

		if (len > sizeof(buf) - used) {
			fuse_reply_err(req, E2BIG);
			return;
		}
		memcpy(buf + used, x->name, len);
		used += len;
	}
	if (size == 0)
		fuse_reply_xattr(req, used);
	else if (used > size)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, buf, used);
}

static void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct xattr **p = floor_find_xattr(node_of(ino), name), *x = *p;

	if (x) {
		*p = x->next;
		free(x->value);
		free(x);
		node_of(ino)->st.st_ctim = floor_now();
	}
	fuse_reply_err(req, x ? 0 : ENODATA);
}

/* ---- program ------------------------------------------------------------------------ */

static const struct fuse_lowlevel_ops ops = {
	.lookup = op_lookup, .forget = op_forget, .forget_multi = op_forget_multi,
	.getattr = op_getattr, .setattr = op_setattr, .readlink = op_readlink,
	.mknod = op_mknod, .mkdir = op_mkdir, .symlink = op_symlink, .unlink = op_unlink,
	.rmdir = op_rmdir, .link = op_link, .rename = op_rename, .open = op_open,
	.opendir = op_open, .read = op_read, .write = op_write, .fsync = op_fsync,
	.fsyncdir = op_fsync, .readdir = op_readdir, .readdirplus = op_readdirplus,
	.statfs = op_statfs, .setxattr = op_setxattr, .getxattr = op_getxattr,
	.listxattr = op_listxattr, .removexattr = op_removexattr,
};

struct options {
	int spin, writeback, background;
	char *sync;
};

static const struct fuse_opt option_table[] = {
	{ "spin=%d", offsetof(struct options, spin), 0 },
	{ "background=%d", offsetof(struct options, background), 0 },
	{ "writeback", offsetof(struct options, writeback), 1 },
	{ "sync=%s", offsetof(struct options, sync), 0 },
	FUSE_OPT_END
};

static void on_signal(int sig)
{
	(void)sig;
	shim_stop(shim);
}

static int serve(const char *dir, bool foreground)
{
	struct sigaction sa = { .sa_handler = on_signal };
	struct shim_negotiated neg;
	struct shim_stats st;
	int end;

	if (fuse_daemonize(foreground) != 0)
		return 1;
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
	(void)shim_raise_readahead(dir, 1u << 20);	/* needs root; slower reads without */
	end = shim_loop(shim);
	shim_negotiated(shim, &neg);
	shim_negotiated_print(&neg, stderr);
	shim_stats(shim, &st);
	fprintf(stderr, "requests %llu: ready %llu, spun %llu, slept %llu; fruitless spins %llu, "
		"refused %llu; end %d\n", (unsigned long long)st.requests,
		(unsigned long long)st.ready, (unsigned long long)st.spun,
		(unsigned long long)st.slept, (unsigned long long)st.spin_missed,
		(unsigned long long)st.refused, end);
	return end < 0 ? 1 : 0;
}

static int mount_and_serve(struct fuse_args *args, const char *dir, bool foreground)
{
	struct fuse_session *se = fuse_session_new(args, &ops, sizeof(ops), NULL);
	int status = 1;

	session = se;
	if (!se)
		return 1;
	if (fuse_session_mount(se, dir) == 0) {
		if (shim_attach(shim, se, fuse_session_fd(se)) == 0)
			status = serve(dir, foreground);
		fuse_session_unmount(se);
	}
	shim_detach(shim);
	fuse_session_destroy(se);
	return status;
}

int main(int argc, char **argv)
{
	struct fuse_args args = FUSE_ARGS_INIT(argc, argv);
	struct fuse_cmdline_opts cmd = { 0 };
	struct options opt = { .spin = 50, .background = 64 };
	struct shim_policy policy;
	int status = 2;

	/* One heap that neither returns nor maps memory while it is being measured. */
	mallopt(M_MMAP_THRESHOLD, 1 << 30);
	mallopt(M_TRIM_THRESHOLD, 2047 << 20);
	mallopt(M_TOP_PAD, 64 << 20);
	if (fuse_parse_cmdline(&args, &cmd) != 0 || !cmd.mountpoint ||
	    fuse_opt_parse(&args, &opt, option_table, NULL) != 0 ||
	    fuse_opt_add_arg(&args, "-odefault_permissions,allow_other,fsname=floor,"
				    "subtype=floor") != 0) {
		fprintf(stderr, "usage: spare-floor DIR [-f] [-o spin=US,writeback,"
			"background=N,sync=FILE]\n");
		goto out;
	}
	if (opt.sync && !sync_open(opt.sync)) {
		perror(opt.sync);
		goto out;
	}
	shim_policy_live(&policy);
	policy.spin_us = opt.spin > 0 ? (uint32_t)opt.spin : 0;
	policy.max_background = (uint16_t)opt.background;
	policy.congestion_threshold = (uint16_t)(opt.background * 3 / 4);
	if (opt.writeback)
		policy.on |= FUSE_WRITEBACK_CACHE;
	floor_root = floor_new_node(S_IFDIR | 0755, getuid(), getgid(), 0);
	shim = shim_new(&policy, NULL);
	if (!floor_root || !shim || floor_grow_table())
		goto out;
	status = mount_and_serve(&args, cmd.mountpoint, cmd.foreground);
out:
	shim_free(shim);
	free(cmd.mountpoint);
	fuse_opt_free_args(&args);
	return status;
}
