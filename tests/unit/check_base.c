/* check_base.c: errors, byte cursors, hashes, and the io table on a real directory. */
#include "store/base/bytes.h"
#include "store/base/err.h"
#include "store/base/hash.h"
#include "store/base/io.h"

#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define OK(call) ck_assert_int_eq((call), 0)

/* --- err --- */

START_TEST(error_numbers_never_change)
{
    ck_assert_int_eq(ERR_IO, -1);
    ck_assert_int_eq(ERR_NOSTORE, -23);
    ck_assert_int_eq(ERR_UNKNOWN, -38);
    ck_assert_int_eq(err_errno(ERR_NOSPC), ENOSPC);
    ck_assert_int_eq(err_errno(0), 0);
    ck_assert_int_eq(err_errno(-999), EIO);
    ck_assert_int_eq(err_exit(ERR_LOCKED), 11);
    ck_assert_int_eq(err_exit(0), 0);
    ck_assert_int_eq(err_exit(-999), 1);
    ck_assert_str_eq(err_name(ERR_LOSTDATA), "LOSTDATA");
    ck_assert_str_eq(err_text(ERR_DAMAGE), "damage found");
    ck_assert_str_eq(err_name(-999), "?");
    ck_assert_str_eq(err_text(7), "?");
}
END_TEST

START_TEST(message_is_one_line_and_keeps_within_its_bounds)
{
    struct err err = { 0 };
    char big[2 * ERR_MSG_MAX];

    ck_assert_int_eq(err_set(&err, ERR_DAMAGE, "%s: %d", "a\nb\033[31m\x7f\xc3\xa9", 5), ERR_DAMAGE);
    ck_assert_int_eq(err.code, ERR_DAMAGE);
    ck_assert_str_eq(err.msg, "a?b?[31m?\xc3\xa9: 5");
    err_set(&err, ERR_IO, "outer: %s", err.msg);
    ck_assert_str_eq(err.msg, "outer: a?b?[31m?\xc3\xa9: 5");
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    err_set(&err, ERR_IO, "%s", big);
    ck_assert_uint_eq(strlen(err.msg), ERR_MSG_MAX - 1);
    ck_assert_str_eq(err.msg + ERR_MSG_MAX - 5, "x...");
    ck_assert_int_eq(err_from_errno(&err, ENOENT, "%s", big), ERR_NOENT);
    ck_assert_str_eq(err.msg + ERR_MSG_MAX - 5, "x...");
    ck_assert_int_eq(err_set(NULL, ERR_PERM, "nobody listens"), ERR_PERM);
    ck_assert_int_eq(err_set(&err, 0, "no success"), ERR_UNKNOWN);
    ck_assert_int_eq(err_set(&err, 5, "no count either"), ERR_UNKNOWN);
}
END_TEST

START_TEST(each_errno_has_its_plain_code)
{
    static const struct { int eno, code; } map[] = {
        { EIO, ERR_IO }, { ENOENT, ERR_NOENT }, { EBUSY, ERR_BUSY }, { EINVAL, ERR_INVAL }, { EROFS, ERR_ROFS },
        { EDQUOT, ERR_NOSPC }, { ENOSPC, ERR_NOSPC }, { ENOSYS, ERR_NOTSUP }, { EOPNOTSUPP, ERR_NOTSUP },
        { EACCES, ERR_ACCES }, { ENOMEM, ERR_NOMEM }, { EXDEV, ERR_XDEV }, { EDOM, ERR_UNKNOWN }, { 0, ERR_UNKNOWN },
    };
    struct err err = { 0 };

    for (size_t i = 0; i < sizeof map / sizeof map[0]; i++)
        ck_assert_int_eq(err_from_errno(&err, map[i].eno, "x"), map[i].code);
    err_from_errno(&err, ENOSPC, "write %s", "f");
    ck_assert_str_eq(err.msg, "write f: No space left on device");
}
END_TEST

/* --- bytes --- */

START_TEST(what_is_written_is_read)
{
    uint8_t b[80];
    struct wr w = wr_init(b, sizeof b);
    struct rd r;

    wr_u8(&w, 0xab);
    wr_u16(&w, 0x1234);
    wr_u32(&w, 0xdeadbeef);
    wr_u64(&w, UINT64_C(0x0102030405060708));
    wr_i64(&w, INT64_MIN);
    wr_be32(&w, 0x01020304);
    wr_be64(&w, UINT64_C(0x0102030405060708));
    wr_bytes(&w, "xyz", 3);
    wr_zero(&w, 5);
    ck_assert(!w.bad);
    ck_assert_uint_eq(w.len, 43);
    ck_assert_mem_eq(b, "\xab\x34\x12\xef\xbe\xad\xde\x08\x07\x06\x05", 11);
    ck_assert_mem_eq(b + 23, "\x01\x02\x03\x04\x01\x02\x03", 7);
    r = rd_init(b, w.len);
    ck_assert_uint_eq(rd_u8(&r), 0xab);
    ck_assert_uint_eq(rd_u16(&r), 0x1234);
    ck_assert_uint_eq(rd_u32(&r), 0xdeadbeef);
    ck_assert_uint_eq(rd_u64(&r), UINT64_C(0x0102030405060708));
    ck_assert_int_eq(rd_i64(&r), INT64_MIN);
    ck_assert_uint_eq(rd_be32(&r), 0x01020304);
    ck_assert_uint_eq(rd_be64(&r), UINT64_C(0x0102030405060708));
    ck_assert_mem_eq(rd_bytes(&r, 3), "xyz", 3);
    ck_assert(!rd_done(&r));
    rd_zero(&r, 5);
    ck_assert(rd_done(&r));
    put_u32(b, 0x01020304);
    put_u64(b + 4, 5);
    put_be64(b + 12, 6);
    ck_assert_uint_eq(b[0], 4);
    ck_assert_uint_eq(b[19], 6);
    ck_assert_uint_eq(get_u32(b), 0x01020304);
    ck_assert_uint_eq(get_u64(b + 4), 5);
    ck_assert_uint_eq(get_be64(b + 12), 6);
}
END_TEST

START_TEST(first_failure_sticks_and_nothing_leaves_the_buffer)
{
    uint8_t b[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
    struct rd r = rd_init(b, 5);
    struct wr w = wr_init(b, 3);

    ck_assert_uint_eq(rd_u64(&r), 0);
    ck_assert(r.bad);
    ck_assert_uint_eq(rd_u8(&r), 0);
    ck_assert_ptr_null(rd_bytes(&r, 0));
    ck_assert(!rd_done(&r));
    r = rd_init(b, 5);
    rd_zero(&r, 1);
    ck_assert(r.bad);
    r = rd_init(b, 5);
    ck_assert_ptr_null(rd_bytes(&r, SIZE_MAX));
    wr_u32(&w, 0xffffffff);
    ck_assert(w.bad);
    wr_u8(&w, 0xff);
    ck_assert_uint_eq(w.len, 0);
    ck_assert_uint_eq(b[0], 1);
}
END_TEST

START_TEST(varints_have_one_encoding)
{
    static const uint64_t values[] = { 0, 1, 127, 128, 16383, 16384, UINT32_MAX, UINT64_MAX - 1, UINT64_MAX };
    static const struct { const char *b; size_t len; } bad[] = {
        { "", 0 }, { "\x80", 1 }, { "\x80\x00", 2 }, { "\xff\x80\x00", 3 },
        { "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10 }, { "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x81\x00", 11 },
        { "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", 10 },
    };

    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        uint8_t b[10];
        struct wr w = wr_init(b, sizeof b);
        struct rd r;

        wr_var(&w, values[i]);
        ck_assert(!w.bad);
        r = rd_init(b, w.len);
        ck_assert_uint_eq(rd_var(&r), values[i]);
        ck_assert(rd_done(&r));
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct rd r = rd_init(bad[i].b, bad[i].len);

        ck_assert_uint_eq(rd_var(&r), 0);
        ck_assert(r.bad);
    }
}
END_TEST

/* --- hash: the values published with the algorithm, so that no build computes another --- */

START_TEST(hexadecimal_and_back)
{
    const uint8_t p[4] = { 0x00, 0x9a, 0xff, 0x10 };
    uint8_t q[4];
    char text[9];

    hex_put(text, p, 4);
    ck_assert_str_eq(text, "009aff10");
    ck_assert(hex_get(text, q, 4));
    ck_assert_mem_eq(p, q, 4);
    ck_assert(!hex_get("009aff1", q, 4) && !hex_get("009AFF10", q, 4) && !hex_get("", q, 1) && !hex_get("0x1234", q, 2));
    hex_put(text, p, 0);
    ck_assert_str_eq(text, "");
}
END_TEST

START_TEST(hashes_are_those_of_the_specification)
{
    static const uint8_t empty[16] = { 0x99, 0xaa, 0x06, 0xd3, 0x01, 0x47, 0x98, 0xd8,
                                       0x60, 0x01, 0xc3, 0x24, 0x46, 0x8d, 0x49, 0x7f };
    struct hash128 h = hash128("", 0), g = hash128("a", 1);

    ck_assert_mem_eq(h.b, empty, 16);
    ck_assert_uint_eq(hash64("", 0), UINT64_C(0x2d06800538d394c2));
    ck_assert_uint_eq(hash32("", 0), 0x38d394c2);
    ck_assert(hash128_eq(&h, &h));
    ck_assert(!hash128_eq(&h, &g));
}
END_TEST

/* --- io_posix --- */

static char dir[] = "/tmp/spare-check-base-XXXXXX";
static struct io *io;

static void set_up(void)
{
    ck_assert_ptr_nonnull(mkdtemp(dir));
    OK(io_posix_new(dir, &io, NULL));
}

static int remove_all(void *arg, const char *name)
{
    (void)arg;
    return io_unlink(io, name, NULL);
}

static void tear_down(void)
{
    OK(io_list(io, ".", remove_all, NULL, NULL));
    io->ops->free(io);
    OK(rmdir(dir));
}

START_TEST(long_vectors_are_written_whole)
{
    enum { N = 3000 };
    struct iovec *v = calloc(N, sizeof *v);
    uint8_t *want = malloc(N * 3), *got = malloc(N * 3 + 10);
    struct io_file *f = NULL;
    struct io_stat st;
    size_t total = 0;

    for (size_t i = 0; i < N; i++) {
        v[i].iov_base = want + total;
        v[i].iov_len = i % 4 == 3 ? 0 : i % 3 + 1;      /* also empty pieces */
        for (size_t j = 0; j < v[i].iov_len; j++)
            want[total++] = (uint8_t)(i * 7 + j);
    }
    OK(io_open(io, "f", IO_RDWR | IO_CREATE, &f, NULL));
    OK(io_pwritev(f, v, N, 100, NULL));
    OK(io_pwritev(f, v, 0, 100, NULL));
    OK(io_fdatasync(f, NULL));
    ck_assert_int_eq(io_pread(f, got, N * 3 + 10, 100, NULL), (int64_t)total);
    ck_assert(memcmp(got, want, total) == 0);
    ck_assert_int_eq(io_pread_nowait(f, got, 50, 100), 50);
    ck_assert_int_eq(io_pread(f, got, 10, 1 << 30, NULL), 0);
    OK(io_fstat(f, &st, NULL));
    ck_assert_uint_eq(st.size, 100 + total);
    io_close(f);
    free(v);
    free(want);
    free(got);
}
END_TEST

/* Where it says that nothing is, nothing may be; it need not know more than that. */
START_TEST(what_was_written_is_never_said_to_be_a_hole)
{
    enum { SIZE = 4 << 20, AT = (2 << 20) + 100 };
    struct io_file *f = NULL;
    struct iovec v = { "x", 1 };
    uint64_t next;
    int rc;

    OK(io_open(io, "holes", IO_RDWR | IO_CREATE, &f, NULL));
    rc = io_allocate(f, SIZE, NULL);
    ck_assert(rc == 0 || rc == ERR_NOTSUP);
    OK(io_ftruncate(f, SIZE, NULL));
    OK(io_pwritev(f, &v, 1, AT, NULL));
    for (int synced = 0; synced < 2; synced++) {
        ck_assert_uint_le(io_next_data(f, 0), AT);
        ck_assert_uint_le(io_next_data(f, AT - 100), AT);
        ck_assert_uint_eq(io_next_data(f, AT), AT);
        next = io_next_data(f, AT + 1);
        ck_assert_uint_ge(next, AT + 1);
        OK(io_fdatasync(f, NULL));
    }
    next = io_next_data(f, SIZE);
    ck_assert(next == SIZE || next == UINT64_MAX);
    io_close(f);
    OK(io_unlink(io, "holes", NULL));
}
END_TEST

START_TEST(file_sizes_and_bad_ranges)
{
    struct io_file *f = NULL;
    struct io_stat st;
    struct iovec v = { "x", 1 };
    struct err err = { 0 };
    char c;
    int rc;

    OK(io_open(io, "f", IO_RDWR | IO_CREATE, &f, NULL));
    rc = io_allocate(f, 100000, &err);
    ck_assert(rc == 0 || rc == ERR_NOTSUP);
    OK(io_ftruncate(f, 100000, NULL));
    OK(io_fstat(f, &st, NULL));
    ck_assert_uint_eq(st.size, 100000);
    if (rc == 0)
        ck_assert_uint_ge(st.allocated, 100000);
    ck_assert_int_eq(io_pread(f, &c, 1, 99999, NULL), 1);
    ck_assert_int_eq(c, 0);
    ck_assert_int_eq(io_pwritev(f, &v, 1, UINT64_MAX, &err), ERR_FBIG);
    ck_assert_int_eq(io_pwritev(f, &v, 1, INT64_MAX, &err), ERR_FBIG);
    ck_assert_int_eq(io_pread(f, &c, 1, UINT64_MAX, &err), ERR_FBIG);
    ck_assert_int_eq(io_ftruncate(f, UINT64_MAX, &err), ERR_FBIG);
    io_close(f);
}
END_TEST

static int collect(void *arg, const char *name)
{
    strcat(strcat(arg, name), " ");
    return strcmp(name, "stop") == 0 ? 42 : 0;
}

START_TEST(names_are_listed_in_byte_order)
{
    static const char *const names[] = { "b", "a", "\xc3\xa9", "B", "stop", "a.b" };
    char got[64] = "";
    struct io_file *f = NULL;

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        OK(io_open(io, names[i], IO_RDWR | IO_CREATE, &f, NULL));
        io_close(f);
    }
    ck_assert_int_eq(io_list(io, ".", collect, got, NULL), 42);
    ck_assert_str_eq(got, "B a a.b b stop ");
    ck_assert_int_eq(io_open(io, "a", IO_RDWR | IO_CREATE, &f, NULL), ERR_EXIST);
}
END_TEST

START_TEST(names_change_and_failures_name_path_and_call)
{
    struct err err = { 0 };
    struct io_stat st, st2;
    struct io_file *f = NULL;
    struct io_space_info sp;
    char want[256];

    OK(io_mkdir(io, "d", NULL));
    ck_assert_int_eq(io_mkdir(io, "d", NULL), ERR_EXIST);
    OK(io_open(io, "d/f", IO_RDWR | IO_CREATE, &f, NULL));
    io_close(f);
    OK(io_link(io, "d/f", "g", NULL));
    OK(io_rename(io, "g", "h", NULL));
    OK(io_stat_path(io, "h", &st, NULL));
    OK(io_stat_path(io, "d/f", &st2, NULL));
    ck_assert_uint_eq(st.ino, st2.ino);
    ck_assert(!st.is_dir);
    OK(io_syncdir(io, "d", NULL));
    OK(io_syncdir(io, ".", NULL));
    ck_assert_int_eq(io_unlink(io, "d", NULL), ERR_NOTEMPTY);
    OK(io_unlink(io, "d/f", NULL));
    OK(io_unlink(io, "d", NULL));
    ck_assert_int_eq(io_open(io, "no/f", IO_RDONLY, &f, &err), ERR_NOENT);
    snprintf(want, sizeof want, "open %s/no/f: No such file or directory", dir);
    ck_assert_str_eq(err.msg, want);
    ck_assert_int_eq(io_open(io, "/etc/passwd", IO_RDONLY, &f, &err), ERR_INVAL);
    ck_assert_int_eq(io_open(io, "", IO_RDONLY, &f, &err), ERR_INVAL);
    OK(io_space(io, &sp, NULL));
    ck_assert_uint_gt(sp.total, 0);
    ck_assert_uint_le(sp.avail, sp.total);
    ck_assert_int_gt(io_wall_ns(io), INT64_C(1500000000) * 1000000000);
    ck_assert_uint_le(io_boot_ns(io), io_boot_ns(io));
}
END_TEST

START_TEST(symlinks_are_not_followed)
{
    struct io_file *f = NULL;
    char path[64];

    snprintf(path, sizeof path, "%s/link", dir);
    OK(symlink("/etc/passwd", path));
    ck_assert_int_ne(io_open(io, "link", IO_RDONLY, &f, NULL), 0);
    ck_assert_int_ne(io_lock(io, "link", &f, NULL), 0);
}
END_TEST

START_TEST(renamed_directory_stays_usable)
{
    char moved[64];
    struct io_file *f = NULL;

    snprintf(moved, sizeof moved, "%s-moved", dir);
    OK(rename(dir, moved));
    OK(io_open(io, "f", IO_RDWR | IO_CREATE, &f, NULL));
    io_close(f);
    OK(rename(moved, dir));
}
END_TEST

START_TEST(missing_directory_is_no_store)
{
    struct io *none = NULL;
    struct err err = { 0 };

    ck_assert_int_eq(io_posix_new("/nonexistent/x", &none, &err), ERR_NOSTORE);
    ck_assert_str_eq(err.msg, "/nonexistent/x: no such directory");
    ck_assert_int_eq(io_posix_new("/dev/null", &none, &err), ERR_NOSTORE);
}
END_TEST

START_TEST(randomness_does_not_repeat)
{
    uint8_t a[1000] = { 0 }, b[1000] = { 0 };

    io_random(io, a, sizeof a);
    io_random(io, b, sizeof b);
    ck_assert(memcmp(a, b, 16) != 0);
    ck_assert(memcmp(a + 900, b + 900, 100) != 0);
}
END_TEST

/* Another process takes the lock and waits to be killed; returns its pid once it has it. */
static pid_t other_holder(void)
{
    int p[2];
    char c;
    pid_t pid;

    OK(pipe(p));
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        struct io_file *f = NULL;

        close(p[0]);
        if (io_lock(io, "lock", &f, NULL) || write(p[1], "y", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    close(p[1]);
    ck_assert_int_eq(read(p[0], &c, 1), 1);
    close(p[0]);
    return pid;
}

START_TEST(lock_of_another_process_is_named_and_dies_with_it)
{
    struct io_file *f = NULL, *g = NULL;
    struct err err = { 0 };
    char want[128];
    pid_t pid = other_holder();

    ck_assert_int_eq(io_lock(io, "lock", &f, &err), ERR_LOCKED);
    snprintf(want, sizeof want, "%s/lock is locked by process %ld", dir, (long)pid);
    ck_assert_str_eq(err.msg, want);
    OK(kill(pid, SIGKILL));
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
    OK(io_lock(io, "lock", &f, &err));
    ck_assert_int_eq(io_lock(io, "lock", &g, &err), ERR_LOCKED);
    snprintf(want, sizeof want, "%s/lock is locked by process %ld", dir, (long)getpid());
    ck_assert_str_eq(err.msg, want);
    io_close(f);
    OK(io_lock(io, "lock", &g, &err));
    io_close(g);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("base");
    TCase *t = tcase_create("memory"), *p = tcase_create("posix");
    SRunner *r;
    int failed;

    tcase_add_test(t, error_numbers_never_change);
    tcase_add_test(t, message_is_one_line_and_keeps_within_its_bounds);
    tcase_add_test(t, each_errno_has_its_plain_code);
    tcase_add_test(t, what_is_written_is_read);
    tcase_add_test(t, first_failure_sticks_and_nothing_leaves_the_buffer);
    tcase_add_test(t, varints_have_one_encoding);
    tcase_add_test(t, hexadecimal_and_back);
    tcase_add_test(t, hashes_are_those_of_the_specification);
    suite_add_tcase(s, t);
    tcase_set_timeout(p, 30);
    tcase_add_checked_fixture(p, set_up, tear_down);
    tcase_add_test(p, long_vectors_are_written_whole);
    tcase_add_test(p, what_was_written_is_never_said_to_be_a_hole);
    tcase_add_test(p, file_sizes_and_bad_ranges);
    tcase_add_test(p, names_are_listed_in_byte_order);
    tcase_add_test(p, names_change_and_failures_name_path_and_call);
    tcase_add_test(p, symlinks_are_not_followed);
    tcase_add_test(p, renamed_directory_stays_usable);
    tcase_add_test(p, missing_directory_is_no_store);
    tcase_add_test(p, randomness_does_not_repeat);
    tcase_add_test(p, lock_of_another_process_is_named_and_dies_with_it);
    suite_add_tcase(s, p);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
