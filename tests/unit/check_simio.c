/* check_simio.c: the simulated disk does what a real one may do, and no more. */
#include "tests/lib/simio.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static struct simio *sim;
static struct io *io;

static void set_up(void) { sim = simio_new(7); io = simio_io(sim); }
static void tear_down(void) { simio_free(sim); }

#define OK(call) ck_assert_int_eq((call), 0)

static struct io_file *make(struct io *at, const char *path)
{
    struct io_file *f = NULL;

    OK(io_open(at, path, IO_RDWR | IO_CREATE, &f, NULL));
    return f;
}

static int put(struct io_file *f, const void *p, size_t len, uint64_t off)
{
    struct iovec v = { (void *)(uintptr_t)p, len };

    return io_pwritev(f, &v, 1, off, NULL);
}

static int fill(struct io_file *f, uint8_t byte, size_t len, uint64_t off)
{
    uint8_t *b = malloc(len);
    int rc;

    memset(b, byte, len);
    rc = put(f, b, len, off);
    free(b);
    return rc;
}

/* A new file of len bytes whose content and name are durable. */
static struct io_file *durable_file(const char *path, uint8_t byte, size_t len)
{
    struct io_file *f = make(io, path);

    OK(fill(f, byte, len, 0));
    OK(io_fdatasync(f, NULL));
    OK(io_syncdir(io, ".", NULL));
    return f;
}

/* The byte of a file, or -1: no file, -2: beyond its end. */
static int byte_at(struct simio *s, const char *path, uint64_t off)
{
    struct io_file *f = NULL;
    uint8_t b = 0;
    int64_t n;

    if (io_open(simio_io(s), path, IO_RDONLY, &f, NULL))
        return -1;
    n = io_pread(f, &b, 1, off, NULL);
    io_close(f);
    return n == 1 ? b : -2;
}

START_TEST(unsynced_name_is_lost_even_if_content_was_synced)
{
    struct io_file *f = make(io, "a");

    OK(fill(f, 1, 100, 0));
    OK(io_fdatasync(f, NULL));
    io_close(f);
    simio_cut(sim, 1, SIMIO_CUT_DROP_ALL);
    ck_assert_int_eq(byte_at(sim, "a", 0), -1);
}
END_TEST

START_TEST(synced_name_without_content_is_empty)
{
    struct io_file *f = make(io, "a");

    OK(fill(f, 1, 100, 0));
    OK(io_syncdir(io, ".", NULL));
    io_close(f);
    simio_cut(sim, 1, SIMIO_CUT_DROP_ALL);
    ck_assert_int_eq(byte_at(sim, "a", 0), -2);
}
END_TEST

START_TEST(what_was_synced_survives_every_cut)
{
    io_close(durable_file("a", 1, 10000));
    for (int mode = 0; mode < SIMIO_N_CUT_MODES; mode++)
        for (uint64_t seed = 0; seed < 50; seed++) {
            struct simio *s = simio_clone(sim);

            simio_cut(s, seed, (enum simio_cut_mode)mode);
            ck_assert_int_eq(byte_at(s, "a", 9999), 1);
            ck_assert_int_eq(byte_at(s, "a", 10000), -2);
            simio_free(s);
        }
}
END_TEST

START_TEST(random_cut_tears_at_512_bytes_and_mixes_versions)
{
    struct io_file *f = durable_file("a", 1, 8192);
    unsigned seen_old = 0, seen_mid = 0, seen_new = 0, torn = 0;

    OK(fill(f, 2, 8192, 0));
    OK(fill(f, 3, 8192, 0));
    for (uint64_t seed = 0; seed < 400; seed++) {
        struct simio *s = simio_clone(sim);
        uint8_t b[8192];
        struct io_file *g = NULL;

        simio_cut(s, seed, SIMIO_CUT_RANDOM);
        OK(io_open(simio_io(s), "a", IO_RDONLY, &g, NULL));
        ck_assert_int_eq(io_pread(g, b, sizeof b, 0, NULL), 8192);
        for (int i = 0; i < 8192; i++) {
            if (b[i] < 1 || b[i] > 3 || (i % 512 && b[i] != b[i - 1]))
                ck_abort_msg("torn inside a sector, at %d", i);
        }
        for (int i = 512; i < 4096; i += 512)
            torn += b[i] != b[i - 1];
        seen_old += b[0] == 1;
        seen_mid += b[0] == 2;
        seen_new += b[0] == 3;
        io_close(g);
        simio_free(s);
    }
    ck_assert_uint_gt(seen_old, 20);
    ck_assert_uint_gt(seen_mid, 20);
    ck_assert_uint_gt(seen_new, 20);
    ck_assert_uint_gt(torn, 20);
    io_close(f);
}
END_TEST

START_TEST(random_cut_reorders_pages_and_prefix_cut_does_not)
{
    struct io_file *f = durable_file("a", 1, 8 * 4096);
    unsigned reordered[SIMIO_N_CUT_MODES] = { 0 };

    for (unsigned i = 0; i < 8; i++)
        OK(fill(f, 2, 4096, i * 4096));
    for (int mode = SIMIO_CUT_PREFIX; mode <= SIMIO_CUT_RANDOM; mode++)
        for (uint64_t seed = 0; seed < 100; seed++) {
            struct simio *s = simio_clone(sim);

            simio_cut(s, seed, (enum simio_cut_mode)mode);
            for (unsigned i = 1; i < 8; i++)
                reordered[mode] += byte_at(s, "a", i * 4096) == 2 && byte_at(s, "a", (i - 1) * 4096 + 4095) == 1;
            simio_free(s);
        }
    ck_assert_uint_eq(reordered[SIMIO_CUT_PREFIX], 0);
    ck_assert_uint_gt(reordered[SIMIO_CUT_RANDOM], 0);
    io_close(f);
}
END_TEST

START_TEST(names_of_one_file_survive_in_order)
{
    /* create x, rename x to y, create x anew: x new without y, or y without its making, cannot be. */
    unsigned both = 0, none = 0;

    io_close(make(io, "x"));
    OK(io_rename(io, "x", "y", NULL));
    io_close(make(io, "x"));
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct simio *s = simio_clone(sim);
        int x, y;

        simio_cut(s, seed, SIMIO_CUT_RANDOM);
        x = byte_at(s, "x", 0);
        y = byte_at(s, "y", 0);
        both += x == -2 && y == -2;
        none += x == -1 && y == -1;
        simio_free(s);
    }
    ck_assert_uint_gt(both, 0);
    ck_assert_uint_gt(none, 0);
}
END_TEST

START_TEST(rename_between_directories_is_atomic)
{
    OK(io_mkdir(io, "d", NULL));
    OK(io_mkdir(io, "e", NULL));
    OK(io_syncdir(io, ".", NULL));
    io_close(make(io, "d/f"));
    OK(io_syncdir(io, "d", NULL));
    OK(io_rename(io, "d/f", "e/g", NULL));
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct simio *s = simio_clone(sim);

        simio_cut(s, seed, SIMIO_CUT_RANDOM);
        ck_assert((byte_at(s, "d/f", 0) == -1) != (byte_at(s, "e/g", 0) == -1));
        simio_free(s);
    }
    OK(io_syncdir(io, "d", NULL));
    simio_cut(sim, 0, SIMIO_CUT_DROP_ALL);
    ck_assert_int_eq(byte_at(sim, "e/g", 0), -2);
    ck_assert_int_eq(byte_at(sim, "d/f", 0), -1);
}
END_TEST

START_TEST(unlinked_file_comes_back_unless_its_directory_was_synced)
{
    struct simio *s;

    io_close(durable_file("a", 5, 10));
    OK(io_unlink(io, "a", NULL));
    s = simio_clone(sim);
    simio_cut(s, 0, SIMIO_CUT_DROP_ALL);
    ck_assert_int_eq(byte_at(s, "a", 9), 5);
    simio_free(s);
    OK(io_syncdir(io, ".", NULL));
    simio_cut(sim, 0, SIMIO_CUT_DROP_ALL);
    ck_assert_int_eq(byte_at(sim, "a", 9), -1);
    ck_assert_uint_eq(simio_used(sim), 0);
}
END_TEST

START_TEST(kill_keeps_what_was_seen_and_what_was_pending)
{
    struct io_file *f = make(io, "a");
    struct err err = { 0 };

    OK(fill(f, 1, 10, 0));
    simio_kill(sim);
    ck_assert_int_eq(byte_at(sim, "a", 9), 1);
    ck_assert_uint_gt(simio_pending(sim), 0);
    ck_assert_int_eq(io_fdatasync(f, &err), ERR_IO);
    ck_assert_str_eq(err.msg, "FDATASYNC a: the machine is off (simulated)");
    io_close(f);
    simio_cut(sim, 0, SIMIO_CUT_DROP_ALL);
    ck_assert_int_eq(byte_at(sim, "a", 9), -1);
}
END_TEST

START_TEST(clone_is_independent_in_both_directions)
{
    struct io_file *f = durable_file("a", 1, 300000), *g = NULL;
    struct simio *s = simio_clone(sim);
    uint64_t before = simio_digest(sim);

    ck_assert_uint_eq(simio_digest(s), before);
    OK(fill(f, 2, 1, 0));
    ck_assert_int_eq(byte_at(s, "a", 0), 1);
    OK(io_open(simio_io(s), "a", IO_RDWR, &g, NULL));
    OK(fill(g, 3, 1, 299999));
    OK(io_ftruncate(g, 299999, NULL));
    ck_assert_int_eq(byte_at(sim, "a", 299999), 1);
    ck_assert_uint_ne(simio_digest(s), before);
    ck_assert_uint_ne(simio_digest(sim), before);
    io_close(f);
    io_close(g);
    simio_free(s);
}
END_TEST

START_TEST(cut_at_stops_everything_from_that_call_on)
{
    struct io_file *f = durable_file("a", 1, 4096);
    unsigned happened = 0;

    for (uint64_t i = 0; i < 60; i++) {
        simio_cut_at(sim, 2);
        ck_assert(!simio_dead(sim));
        OK(fill(f, 1, 4096, 0));
        ck_assert_int_eq(fill(f, 2, 4096, 0), ERR_IO);
        ck_assert(simio_dead(sim));
        ck_assert_int_eq(io_fdatasync(f, NULL), ERR_IO);
        ck_assert_int_eq(byte_at(sim, "a", 0), -1);
        io_close(f);
        simio_kill(sim);
        happened += byte_at(sim, "a", 4095) == 2;
        OK(io_open(io, "a", IO_RDWR, &f, NULL));
    }
    ck_assert_uint_gt(happened, 5);
    ck_assert_uint_lt(happened, 55);
    io_close(f);
}
END_TEST

START_TEST(fault_hits_the_nth_call_of_its_kind_once)
{
    struct io_file *f = make(io, "a");

    simio_fail_at(sim, SIMIO_PWRITEV, 2, ERR_NOSPC);
    OK(fill(f, 1, 10, 0));
    OK(io_fdatasync(f, NULL));
    ck_assert_int_eq(fill(f, 1, 10, 0), ERR_NOSPC);
    OK(fill(f, 1, 10, 0));
    simio_fail_from(sim, SIMIO_FDATASYNC, 1, ERR_IO);
    ck_assert_int_eq(io_fdatasync(f, NULL), ERR_IO);
    ck_assert_int_eq(io_fdatasync(f, NULL), ERR_IO);
    simio_fail_clear(sim);
    OK(io_fdatasync(f, NULL));
    ck_assert_uint_eq(simio_calls(sim, SIMIO_PWRITEV), 3);
    io_close(f);
}
END_TEST

START_TEST(pages_of_a_failed_sync_never_reach_the_disk_unless_rewritten)
{
    struct io_file *f = durable_file("a", 1, 64 * 4096);
    struct simio *s;
    unsigned lost = 0, shown = 0;

    OK(fill(f, 2, 64 * 4096, 0));
    simio_fail_at(sim, SIMIO_FDATASYNC, 1, ERR_IO);
    ck_assert_int_eq(io_fdatasync(f, NULL), ERR_IO);
    OK(io_fdatasync(f, NULL));                      /* says yes, as the kernel does */
    for (unsigned i = 0; i < 64; i++)
        shown += byte_at(sim, "a", i * 4096) == 2;
    ck_assert_uint_eq(shown, 64);
    s = simio_clone(sim);
    simio_cut(s, 0, SIMIO_CUT_KEEP_ALL);
    for (unsigned i = 0; i < 64; i++)
        lost += byte_at(s, "a", i * 4096) == 1;
    ck_assert_uint_gt(lost, 30);
    ck_assert_uint_lt(lost, 64);
    simio_free(s);
    s = simio_clone(sim);
    simio_evict(s);
    for (unsigned i = 0; i < 64; i++)
        lost -= byte_at(s, "a", i * 4096) == 1;
    ck_assert_uint_eq(lost, 0);
    simio_free(s);
    OK(fill(f, 2, 64 * 4096, 0));
    OK(io_fdatasync(f, NULL));
    io_close(f);
    simio_cut(sim, 0, SIMIO_CUT_DROP_ALL);
    for (unsigned i = 0; i < 64; i++)
        ck_assert_int_eq(byte_at(sim, "a", i * 4096), 2);
}
END_TEST

START_TEST(planted_bugs_answer_yes_and_do_nothing)
{
    struct io_file *f = make(io, "log1");

    simio_bug_skip_sync(sim, "log");
    OK(fill(f, 1, 10, 0));
    OK(io_fdatasync(f, NULL));
    OK(io_syncdir(io, ".", NULL));
    io_close(f);
    simio_cut(sim, 0, SIMIO_CUT_DROP_ALL);
    ck_assert_int_eq(byte_at(sim, "log1", 0), -2);
    simio_bug_skip_sync(sim, NULL);
    simio_bug_skip_syncdir(sim, "");
    OK(io_unlink(io, "log1", NULL));
    OK(io_syncdir(io, ".", NULL));
    simio_cut(sim, 0, SIMIO_CUT_DROP_ALL);
    ck_assert_int_eq(byte_at(sim, "log1", 0), -2);
}
END_TEST

START_TEST(full_disk_refuses_new_pages_only)
{
    struct io_file *f, *g;
    struct io_space_info sp;

    simio_set_space(sim, 16 * 4096);
    f = make(io, "a");
    OK(io_allocate(f, 8 * 4096, NULL));
    ck_assert_uint_eq(simio_used(sim), 8 * 4096);
    ck_assert_int_eq(io_allocate(f, 17 * 4096, NULL), ERR_NOSPC);
    g = make(io, "b");
    ck_assert_int_eq(fill(g, 1, 9 * 4096, 0), ERR_NOSPC);
    ck_assert_uint_eq(simio_used(sim), 16 * 4096);
    OK(fill(f, 1, 8 * 4096, 0));        /* reserved before */
    OK(fill(g, 2, 8 * 4096, 0));        /* there already */
    OK(io_space(io, &sp, NULL));
    ck_assert_uint_eq(sp.avail, 0);
    OK(io_ftruncate(g, 4096, NULL));
    OK(io_ftruncate(f, 0, NULL));
    ck_assert_uint_eq(simio_used(sim), 4096);
    io_close(f);
    io_close(g);
    simio_cut(sim, 0, SIMIO_CUT_KEEP_ALL);
    ck_assert_uint_eq(simio_used(sim), 4096);
}
END_TEST

START_TEST(truncate_then_extend_reads_zeros)
{
    struct io_file *f = durable_file("a", 9, 10000);

    OK(io_ftruncate(f, 100, NULL));
    OK(io_ftruncate(f, 10000, NULL));
    ck_assert_int_eq(byte_at(sim, "a", 99), 9);
    ck_assert_int_eq(byte_at(sim, "a", 100), 0);
    ck_assert_int_eq(byte_at(sim, "a", 9999), 0);
    io_close(f);
}
END_TEST

START_TEST(lock_is_exclusive_until_close_or_death)
{
    struct io_file *a = NULL, *b = NULL;

    OK(io_lock(io, "lock", &a, NULL));
    ck_assert_int_eq(io_lock(io, "lock", &b, NULL), ERR_LOCKED);
    io_close(a);
    OK(io_lock(io, "lock", &a, NULL));
    simio_kill(sim);
    OK(io_lock(io, "lock", &b, NULL));
    io_close(a);
    ck_assert_int_eq(io_lock(io, "lock", &a, NULL), ERR_LOCKED);
    io_close(b);
}
END_TEST

static int collect(void *arg, const char *name)
{
    strcat(strcat(arg, name), " ");
    return strcmp(name, "b") == 0 ? 3 : 0;
}

START_TEST(names_behave_as_in_posix)
{
    char got[64] = "";
    struct io_file *f = NULL;
    struct io_stat st;

    OK(io_mkdir(io, "d", NULL));
    io_close(make(io, "d/c"));
    io_close(make(io, "d/b"));
    OK(io_link(io, "d/b", "d/a", NULL));
    ck_assert_int_eq(io_list(io, "d", collect, got, NULL), 3);
    ck_assert_str_eq(got, "a b ");
    ck_assert_int_eq(io_open(io, "d/a", IO_RDWR | IO_CREATE, &f, NULL), ERR_EXIST);
    ck_assert_int_eq(io_open(io, "d", IO_RDONLY, &f, NULL), ERR_ISDIR);
    ck_assert_int_eq(io_open(io, "x/y", IO_RDONLY, &f, NULL), ERR_NOENT);
    ck_assert_int_eq(io_open(io, "d/a/y", IO_RDONLY, &f, NULL), ERR_NOTDIR);
    ck_assert_int_eq(io_unlink(io, "d", NULL), ERR_NOTEMPTY);
    ck_assert_int_eq(io_rename(io, "nothing", "d/z", NULL), ERR_NOENT);
    ck_assert_int_eq(io_rename(io, "d/a", "d", NULL), ERR_ISDIR);
    OK(io_rename(io, "d/c", "d/b", NULL));
    OK(io_stat_path(io, "d", &st, NULL));
    ck_assert(st.is_dir);
    OK(io_unlink(io, "d/a", NULL));
    OK(io_unlink(io, "d/b", NULL));
    OK(io_unlink(io, "d", NULL));
    ck_assert_int_eq(io_stat_path(io, "d", &st, NULL), ERR_NOENT);
}
END_TEST

START_TEST(same_seed_same_world)
{
    struct simio *other = simio_new(7);
    uint8_t a[16], b[16];

    io_random(io, a, sizeof a);
    io_random(simio_io(other), b, sizeof b);
    ck_assert_mem_eq(a, b, sizeof a);
    simio_free(other);
    simio_tick(sim, 5);
    ck_assert_int_eq(io_wall_ns(io) + 5, io_wall_ns(io));
    simio_set_wall(sim, -77);
    ck_assert_int_eq(io_wall_ns(io), -77);
    ck_assert_uint_eq(io_boot_ns(io) + 5, io_boot_ns(io));
}
END_TEST

START_TEST(flip_shows_damage_now_and_after_a_cut)
{
    io_close(durable_file("a", 1, 100));
    ck_assert(simio_flip(sim, "a", 7, 0x80));
    ck_assert(!simio_flip(sim, "a", 100, 1));
    ck_assert(!simio_flip(sim, "b", 0, 1));
    ck_assert_int_eq(byte_at(sim, "a", 7), 0x81);
    simio_cut(sim, 0, SIMIO_CUT_DROP_ALL);
    ck_assert_int_eq(byte_at(sim, "a", 7), 0x81);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("simio");
    TCase *t = tcase_create("disk");
    SRunner *r;
    int failed;

    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, unsynced_name_is_lost_even_if_content_was_synced);
    tcase_add_test(t, synced_name_without_content_is_empty);
    tcase_add_test(t, what_was_synced_survives_every_cut);
    tcase_add_test(t, random_cut_tears_at_512_bytes_and_mixes_versions);
    tcase_add_test(t, random_cut_reorders_pages_and_prefix_cut_does_not);
    tcase_add_test(t, names_of_one_file_survive_in_order);
    tcase_add_test(t, rename_between_directories_is_atomic);
    tcase_add_test(t, unlinked_file_comes_back_unless_its_directory_was_synced);
    tcase_add_test(t, kill_keeps_what_was_seen_and_what_was_pending);
    tcase_add_test(t, clone_is_independent_in_both_directions);
    tcase_add_test(t, cut_at_stops_everything_from_that_call_on);
    tcase_add_test(t, fault_hits_the_nth_call_of_its_kind_once);
    tcase_add_test(t, pages_of_a_failed_sync_never_reach_the_disk_unless_rewritten);
    tcase_add_test(t, planted_bugs_answer_yes_and_do_nothing);
    tcase_add_test(t, full_disk_refuses_new_pages_only);
    tcase_add_test(t, truncate_then_extend_reads_zeros);
    tcase_add_test(t, lock_is_exclusive_until_close_or_death);
    tcase_add_test(t, names_behave_as_in_posix);
    tcase_add_test(t, same_seed_same_world);
    tcase_add_test(t, flip_shows_damage_now_and_after_a_cut);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
