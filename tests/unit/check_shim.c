/* tests/unit/check_shim.c: the shim against a kernel played by the other end of a socket. */
#define FUSE_USE_VERSION 314
#include "fs/shim.h"
#include "store/base/slow.h"

#include <check.h>
#include <errno.h>
#include <fuse3/fuse_lowlevel.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct shim *shim;
static struct fuse_session *se;
static int kernel;	/* our end */
static atomic_int looped;
static pthread_t thread;

/* What handlers saw. */
static char seen_name[64], seen_value[64];
static size_t seen_len;
static uint32_t seen_flags;
static bool seen_kill, seen_sgid;
static uint64_t seen_unique;
static fuse_req_t parked;
static struct shim_buf parked_buf;
static const char *parked_name;
static int take_result;
static atomic_uint gates, gate, waited_in_place, told_not_to_wait;

/* What a handler does that needs the disk: here another request is the disk. */
static void wait_for_gate(void)
{
	if (!shim_may_wait(shim)) {
		told_not_to_wait++;
		return;
	}
	slow_now();
	waited_in_place++;
	while (gates < gate)
		usleep(20);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	(void)parent;
	ck_assert_ptr_nonnull(shim_current());
	seen_unique = shim_current()->in->unique;
	if (strcmp(name, "park") == 0) {
		take_result = shim_take(shim, &parked_buf);
		parked_name = name;
		parked = req;
		return;
	}
	if (strcmp(name, "wait") == 0)
		wait_for_gate();
	if (strcmp(name, "gate") == 0)
		gates++;
	fuse_reply_err(req, ENOENT);
}

static void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *n, const char *v, size_t l,
			int f)
{
	const char *name;
	const void *value;
	int err = shim_setxattr_args(shim, &name, &value, &seen_len, &seen_flags, &seen_sgid);
	(void)ino;
	(void)n;
	(void)v;
	(void)l;
	(void)f;

	if (!err) {
		snprintf(seen_name, sizeof(seen_name), "%s", name);
		memcpy(seen_value, value, seen_len);
	}
	fuse_reply_err(req, -err);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
		     struct fuse_file_info *fi)
{
	(void)ino;
	(void)buf;
	(void)off;
	(void)fi;
	seen_kill = shim_kill_priv();
	fuse_reply_write(req, size);
}

static const struct fuse_lowlevel_ops ops = {
	.lookup = op_lookup, .setxattr = op_setxattr, .write = op_write,
};

static void open_shim(const struct shim_policy *policy)
{
	char *argv[] = { (char *)"check_shim", NULL };
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);
	int fds[2], big = 4 << 20;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
	setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &big, sizeof(big));
	shim = shim_new(policy, NULL);
	ck_assert_ptr_nonnull(shim);
	se = fuse_session_new(&args, &ops, sizeof(ops), NULL);
	ck_assert_ptr_nonnull(se);
	ck_assert_int_eq(shim_attach(shim, se, fds[0]), 0);
	kernel = fds[1];
	fuse_opt_free_args(&args);
}

static void close_shim(void)
{
	shim_detach(shim);
	fuse_session_destroy(se);
	shim_free(shim);
	close(kernel);
}

static void *run_loop(void *arg)
{
	(void)arg;
	looped = shim_loop(shim);
	return NULL;
}

static void start(void)
{
	ck_assert_int_eq(pthread_create(&thread, NULL, run_loop, NULL), 0);
}

static void stop(void)
{
	shim_stop(shim);
	pthread_join(thread, NULL);
	ck_assert_int_eq(looped, SHIM_STOPPED);
}

static void send_request(uint32_t opcode, uint64_t unique, const void *body, size_t len)
{
	unsigned char m[8192];
	struct fuse_in_header in = { .len = (uint32_t)(sizeof(in) + len), .opcode = opcode,
				     .unique = unique, .nodeid = 1 };

	memcpy(m, &in, sizeof(in));
	memcpy(m + sizeof(in), body, len);
	ck_assert_int_eq(write(kernel, m, sizeof(in) + len), (ssize_t)(sizeof(in) + len));
}

/* The next reply, within 10 s. Its body is returned in `body`; the length is the result. */
static size_t reply(struct fuse_out_header *oh, void *body, size_t room)
{
	unsigned char m[8192];
	struct pollfd p = { .fd = kernel, .events = POLLIN };
	ssize_t n;

	ck_assert_int_eq(poll(&p, 1, 10000), 1);
	n = read(kernel, m, sizeof(m));
	ck_assert_int_ge(n, (ssize_t)sizeof(*oh));
	memcpy(oh, m, sizeof(*oh));
	ck_assert_uint_eq(oh->len, (size_t)n);
	n -= (ssize_t)sizeof(*oh);
	ck_assert_uint_le((size_t)n, room);
	memcpy(body, m + sizeof(*oh), (size_t)n);
	return (size_t)n;
}

static bool reply_waits(void)
{
	struct pollfd p = { .fd = kernel, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

static void send_init(uint64_t offered)
{
	struct fuse_init_in in = { .major = 7, .minor = 45, .max_readahead = 131072,
				   .flags = (uint32_t)offered,
				   .flags2 = (uint32_t)(offered >> 32) };

	send_request(FUSE_INIT, 2, &in, sizeof(in));
}

#define ALL_FLAGS ((uint64_t)-1 & ~((uint64_t)1 << 31))

static void init_live(struct fuse_init_out *out)
{
	struct fuse_out_header oh;

	send_init(ALL_FLAGS);
	ck_assert_uint_eq(reply(&oh, out, sizeof(*out)), sizeof(*out));
	ck_assert_int_eq(oh.error, 0);
	ck_assert_uint_eq(oh.unique, 2);
}

START_TEST(init_answer_follows_policy)
{
	struct shim_policy p;
	struct fuse_init_out out;
	struct shim_negotiated n;

	shim_policy_live(&p);
	p.on |= SHIM_HAS_RESEND;
	open_shim(&p);
	start();
	init_live(&out);
	ck_assert(out.flags & FUSE_HANDLE_KILLPRIV_V2);
	ck_assert(out.flags & FUSE_EXPLICIT_INVAL_DATA);
	ck_assert(out.flags & FUSE_SETXATTR_EXT);
	ck_assert(!(out.flags & FUSE_ATOMIC_O_TRUNC));
	ck_assert(!(out.flags & FUSE_AUTO_INVAL_DATA));
	ck_assert(!(out.flags & FUSE_WRITEBACK_CACHE));
	ck_assert_uint_eq((uint64_t)out.flags2 << 32, SHIM_HAS_RESEND);
	ck_assert_uint_eq(out.max_write, 1u << 20);
	ck_assert_uint_eq(out.max_pages, 256);
	stop();
	shim_negotiated(shim, &n);
	ck_assert(n.done);
	ck_assert_uint_eq(n.kernel_minor, 45);
	ck_assert_uint_eq(n.flags, (uint64_t)out.flags2 << 32 | out.flags);
	close_shim();
}
END_TEST

START_TEST(init_answers_only_what_was_offered)
{
	struct shim_policy p;
	struct fuse_init_out out;
	struct fuse_out_header oh;
	uint64_t offered = FUSE_BIG_WRITES | FUSE_ATOMIC_O_TRUNC | FUSE_PARALLEL_DIROPS;

	shim_policy_live(&p);
	open_shim(&p);
	start();
	send_init(offered);
	reply(&oh, &out, sizeof(out));
	ck_assert_uint_eq(out.flags, FUSE_BIG_WRITES | FUSE_PARALLEL_DIROPS);
	ck_assert_uint_eq(out.flags2, 0);
	ck_assert_uint_eq(out.max_pages, 0);
	ck_assert_uint_eq(out.max_write, 32u * 4096u);
	stop();
	close_shim();
}
END_TEST

START_TEST(restart_swallows_the_reply)
{
	struct shim_policy p;
	struct fuse_init_out out;
	struct fuse_out_header oh;
	struct shim_saved saved = { { 0 } };
	struct shim_negotiated a, b;
	char none[64];

	shim_policy_live(&p);
	open_shim(&p);
	shim_save_to(shim, &saved);
	start();
	init_live(&out);
	stop();
	shim_negotiated(shim, &a);
	close_shim();

	p.max_background = 7;	/* a later version thinks otherwise */
	open_shim(&p);
	ck_assert_int_eq(shim_restart(shim, &saved), 1);
	ck_assert(!reply_waits());
	shim_negotiated(shim, &b);
	ck_assert_mem_eq(&a, &b, sizeof(a));
	start();
	send_request(FUSE_LOOKUP, 10, "x", 2);
	reply(&oh, none, sizeof(none));
	ck_assert_uint_eq(oh.unique, 10);
	ck_assert_int_eq(oh.error, -ENOENT);
	stop();
	close_shim();

	for (size_t i = 0; i < 200; i++) {	/* any flipped bit of what is summed */
		struct shim_saved bad = saved;

		bad.bytes[i] ^= 1;
		p.max_background = 64;
		open_shim(&p);
		ck_assert_int_eq(shim_restart(shim, &bad), -EINVAL);
		close_shim();
	}
}
END_TEST

START_TEST(init_saved_but_not_answered_is_answered)
{
	struct shim_policy p;
	struct fuse_init_out again;
	struct fuse_out_header oh;
	struct shim_saved saved = { { 0 } };

	shim_policy_live(&p);
	open_shim(&p);
	shim_save_to(shim, &saved);
	close(kernel);
	int fds[2];	/* answering fails: the peer is gone, state stays PREPARED */
	signal(SIGPIPE, SIG_IGN);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), 0);
	kernel = fds[0];
	struct shim_buf buf;
	_Alignas(8) unsigned char mem[512] = { 0 };
	struct { struct fuse_in_header h; struct fuse_init_in in; } m = {
		{ .len = sizeof(m), .opcode = FUSE_INIT, .unique = 2 },
		{ .major = 7, .minor = 45, .flags = (uint32_t)ALL_FLAGS, .flags2 = ~0u } };
	memcpy(mem, &m, sizeof(m));
	buf = (struct shim_buf){ mem, sizeof(mem), 0 };
	ck_assert_int_eq(shim_dispatch(shim, &buf, sizeof(m)), 0);
	close(fds[1]);
	close_shim();

	open_shim(&p);
	ck_assert_int_eq(shim_restart(shim, &saved), 0);
	ck_assert_uint_eq(reply(&oh, &again, sizeof(again)), sizeof(again));
	ck_assert_uint_eq(oh.unique, 2);
	ck_assert(again.flags & FUSE_HANDLE_KILLPRIV_V2);
	close_shim();
}
END_TEST

START_TEST(taken_buffer_outlives_the_handler)
{
	struct shim_policy p;
	struct fuse_init_out out;
	struct fuse_out_header oh;
	char none[64];

	shim_policy_live(&p);
	open_shim(&p);
	start();
	init_live(&out);
	send_request(FUSE_LOOKUP, 20, "park", 5);
	for (uint64_t i = 0; i < 100; i++) {	/* others pass it */
		send_request(FUSE_LOOKUP, 100 + i, "other", 6);
		reply(&oh, none, sizeof(none));
		ck_assert_uint_eq(oh.unique, 100 + i);
	}
	ck_assert_int_eq(take_result, 0);
	ck_assert_ptr_null(shim_current());	/* this thread is in no handler */
	ck_assert_str_eq(parked_name, "park");
	ck_assert_uint_eq(((struct fuse_in_header *)(void *)parked_buf.mem)->unique, 20);
	fuse_reply_err(parked, EINTR);
	reply(&oh, none, sizeof(none));
	ck_assert_uint_eq(oh.unique, 20);
	shim_put(shim, &parked_buf);
	ck_assert_ptr_null(parked_buf.mem);
	stop();
	close_shim();
}
END_TEST

START_TEST(setxattr_in_both_layouts)
{
	for (int ext = 0; ext < 2; ext++) {
		struct shim_policy p;
		struct fuse_init_out out;
		struct fuse_out_header oh;
		struct fuse_setxattr_in x = { .size = 3, .flags = 1,
					      .setxattr_flags = FUSE_SETXATTR_ACL_KILL_SGID };
		size_t fixed = ext ? sizeof(x) : FUSE_COMPAT_SETXATTR_IN_SIZE;
		char m[128], none[64];

		shim_policy_live(&p);
		if (!ext)
			p.off |= FUSE_SETXATTR_EXT;
		open_shim(&p);
		start();
		init_live(&out);
		memcpy(m, &x, fixed);
		memcpy(m + fixed, "user.k\0val", 10);
		send_request(FUSE_SETXATTR, 30, m, fixed + 10);
		reply(&oh, none, sizeof(none));
		ck_assert_int_eq(oh.error, 0);
		ck_assert_str_eq(seen_name, "user.k");
		ck_assert_uint_eq(seen_len, 3);
		ck_assert_mem_eq(seen_value, "val", 3);
		ck_assert_uint_eq(seen_flags, 1);
		ck_assert_int_eq(seen_sgid, ext);
		send_request(FUSE_SETXATTR, 31, m, fixed + 9);	/* a byte short */
		reply(&oh, none, sizeof(none));
		ck_assert_int_eq(oh.error, -EINVAL);
		stop();
		close_shim();
	}
}
END_TEST

START_TEST(malformed_requests_are_refused)
{
	struct shim_policy p;
	struct fuse_init_out out;
	struct fuse_out_header oh;
	struct shim_stats st;
	struct fuse_write_in w = { .size = 100 };
	char none[64], m[sizeof(w) + 99] = { 0 };

	shim_policy_live(&p);
	open_shim(&p);
	start();
	init_live(&out);
	send_request(FUSE_LOOKUP, 40, "", 0);
	reply(&oh, none, sizeof(none));
	ck_assert_int_eq(oh.error, -EIO);
	memcpy(m, &w, sizeof(w));
	send_request(FUSE_WRITE, 41, m, sizeof(m));	/* says 100 bytes, has 99 */
	reply(&oh, none, sizeof(none));
	ck_assert_int_eq(oh.error, -EIO);
	send_request(FUSE_FORGET, 42, m, 4);	/* gets no reply */
	send_request(SHIM_OP_STATX, 43, m, 24);	/* unknown to libfuse */
	reply(&oh, none, sizeof(none));
	ck_assert_uint_eq(oh.unique, 43);
	ck_assert_int_eq(oh.error, -ENOSYS);
	stop();
	shim_stats(shim, &st);
	ck_assert_uint_eq(st.refused, 3);
	close_shim();
}
END_TEST

START_TEST(kill_flag_of_write)
{
	struct shim_policy p;
	struct fuse_init_out out;
	struct fuse_out_header oh;
	struct fuse_write_in w = { .size = 1 };
	char none[64], m[sizeof(w) + 1] = { 0 };

	shim_policy_live(&p);
	open_shim(&p);
	start();
	init_live(&out);
	for (int kill = 0; kill < 2; kill++) {
		w.write_flags = kill ? FUSE_WRITE_KILL_SUIDGID : 0;
		memcpy(m, &w, sizeof(w));
		send_request(FUSE_WRITE, 50, m, sizeof(m));
		reply(&oh, none, sizeof(none));
		ck_assert_int_eq(seen_kill, kill);
	}
	ck_assert(!shim_kill_priv());
	stop();
	close_shim();
}
END_TEST

static int raw(void *ctx, struct shim *s, const struct fuse_in_header *in, const void *body,
	       size_t len)
{
	(void)ctx;
	(void)body;
	(void)len;
	ck_assert_int_eq(shim_reply_raw(s, in->unique, 0, "pong", 4), 0);
	return 1;
}

START_TEST(raw_opcode_goes_around_libfuse)
{
	struct shim_policy p;
	struct fuse_init_out out;
	struct fuse_out_header oh;
	char body[64];

	shim_policy_live(&p);
	p.raw_opcodes = 1ull << SHIM_OP_SYNCFS;
	p.raw = raw;
	open_shim(&p);
	start();
	init_live(&out);
	send_request(SHIM_OP_SYNCFS, 60, "12345678", 8);
	ck_assert_uint_eq(reply(&oh, body, sizeof(body)), 4);
	ck_assert_mem_eq(body, "pong", 4);
	stop();
	close_shim();
}
END_TEST

START_TEST(several_threads_answer_each_request_once)
{
	struct shim_policy p;
	struct fuse_init_out out;
	struct fuse_out_header oh;
	pthread_t t[4];
	char none[64];
	bool got[2000] = { false };

	shim_policy_live(&p);
	open_shim(&p);
	start();
	init_live(&out);
	for (int i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, run_loop, NULL);
	for (uint64_t i = 0; i < 2000; i += 50) {
		for (uint64_t j = 0; j < 50; j++)
			send_request(FUSE_LOOKUP, 1000 + i + j, "x", 2);
		for (uint64_t j = 0; j < 50; j++) {
			reply(&oh, none, sizeof(none));
			ck_assert_uint_lt(oh.unique - 1000, 2000);
			ck_assert(!got[oh.unique - 1000]);
			got[oh.unique - 1000] = true;
		}
	}
	stop();
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	close_shim();
}
END_TEST

/* However many wait, requests are read: the one that ends all waits comes last. */
START_TEST(who_waits_holds_up_nobody)
{
	struct shim_policy p;
	struct fuse_init_out out;
	struct fuse_out_header oh;
	pthread_t t[3];
	char none[64];
	uint64_t unique = 1000, rounds = 2000;

	shim_policy_live(&p);
	p.spin_us = _i == 0 ? 0 : 50;
	open_shim(&p);
	start();
	init_live(&out);
	ck_assert(!shim_may_wait(shim));
	for (int i = 0; i < 3; i++)
		pthread_create(&t[i], NULL, run_loop, NULL);
	waited_in_place = told_not_to_wait = 0;
	for (uint64_t i = 0; i < rounds; i++) {
		unsigned n = 1 + (unsigned)(i * 7919 % 6);
		uint64_t first = unique, seen = 0;

		gate = gates + 1;

		for (unsigned k = 0; k < n; k++)
			send_request(FUSE_LOOKUP, unique++, i % 3 == 0 && k % 2 == 1 ? "x" : "wait", k % 2 == 1 && i % 3 == 0 ? 2 : 5);
		send_request(FUSE_LOOKUP, unique++, "gate", 5);
		for (unsigned k = 0; k <= n; k++) {
			reply(&oh, none, sizeof(none));
			ck_assert_uint_lt(oh.unique - first, n + 1);
			ck_assert(!(seen >> (oh.unique - first) & 1));
			seen |= 1ull << (oh.unique - first);
		}
	}
	ck_assert_uint_gt(waited_in_place, rounds);
	ck_assert_uint_gt(told_not_to_wait, 0);
	stop();
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	close_shim();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("shim");
	TCase *tc = tcase_create("shim");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, init_answer_follows_policy);
	tcase_add_test(tc, init_answers_only_what_was_offered);
	tcase_add_test(tc, restart_swallows_the_reply);
	tcase_add_test(tc, init_saved_but_not_answered_is_answered);
	tcase_add_test(tc, taken_buffer_outlives_the_handler);
	tcase_add_test(tc, setxattr_in_both_layouts);
	tcase_add_test(tc, malformed_requests_are_refused);
	tcase_add_test(tc, kill_flag_of_write);
	tcase_add_test(tc, raw_opcode_goes_around_libfuse);
	tcase_add_test(tc, several_threads_answer_each_request_once);
	tcase_add_loop_test(tc, who_waits_holds_up_nobody, 0, 2);
	suite_add_tcase(suite, tc);
	sr = srunner_create(suite);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
