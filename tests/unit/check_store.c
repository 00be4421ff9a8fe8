/*
 * check_store.c: a store on a disk in memory with the index's twin: operations, the past, waiting, restart, and what a
 * failing disk may and may not do. Random histories are the simulation's (tests/sim).
 */
#include "store/core/store.h"
#include "store/index/asof.h"
#include "tests/lib/simio.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct simio *sim;
static struct kv_twin_disk *disk;
static struct store *st;
static const struct caller root = { 0 };

static int try_open(struct store **out, struct log_recovery *rec, struct err *err)
{
    struct store_options opt = { .writable = true };
    ck_assert_int_eq(kv_twin_open(disk, &opt.kv, NULL), 0);
    return store_open(simio_io(sim), NULL, &opt, out, rec, err);
}

static void reopen(void)
{
    struct err err = { 0 };
    int rc = try_open(&st, NULL, &err);
    ck_assert_msg(rc == 0, "open: %s", err.msg);
}

static void setup(void)
{
    struct store_init init = { .root_mode = 0755 };
    struct err err = { 0 };
    sim = simio_new(1);
    simio_tick(sim, 1000);
    disk = kv_twin_disk_new();
    ck_assert_msg(store_create(simio_io(sim), NULL, &init, &err) == 0, "create: %s", err.msg);
    reopen();
}

static void teardown(void)
{
    if (st != NULL)
        store_drop(st);
    st = NULL;
    kv_twin_disk_free(disk);
    simio_free(sim);
}

static uint64_t make(uint64_t parent, const char *name, uint32_t mode)
{
    struct row_ino row;
    uint64_t ino = 0;
    int rc = store_create_node(st, &root, parent, name, strlen(name), mode, 0, NULL, &ino, &row, NULL);
    ck_assert_msg(rc == 0, "create %s: %s", name, err_name(rc));
    return ino;
}

static uint64_t find(uint64_t at, uint64_t parent, const char *name)
{
    struct row_ino row;
    uint64_t ino = 0;
    int rc = store_lookup(st, at, parent, name, strlen(name), &ino, &row, NULL);
    ck_assert_msg(rc == 0 || rc == ERR_NOENT, "lookup %s: %s", name, err_name(rc));
    return rc == 0 ? ino : 0;
}

static void put(uint64_t ino, uint64_t off, const char *text)
{
    ck_assert_int_eq(store_write(st, &root, ino, off, text, strlen(text), NULL), (int64_t)strlen(text));
}

static void expect(uint64_t at, uint64_t ino, const char *text)
{
    char buf[256] = "";
    struct err err = { 0 };
    int64_t n = store_read(st, at, ino, 0, buf, sizeof buf - 1, false, NULL, &err);
    ck_assert_msg(n == (int64_t)strlen(text), "read: %ld %s", (long)n, err.msg);
    ck_assert_str_eq(buf, text);
}

static uint64_t now(void)
{
    return log_head(store_log(st)) - 1;
}

static void truncate_to(uint64_t ino, uint64_t size)
{
    struct setattr_in in = { .valid = RSA_SIZE, .size = size };
    ck_assert_int_eq(store_setattr(st, &root, ino, &in, NULL, NULL), 0);
}

START_TEST(every_moment_keeps_its_content)
{
    uint64_t f = make(INO_ROOT, "f", S_IFREG | 0644), m[6];
    put(f, 0, "hello world");
    m[0] = now();
    put(f, 6, "there");
    m[1] = now();
    truncate_to(f, 5);
    m[2] = now();
    truncate_to(f, 0);
    m[3] = now();
    put(f, 0, "new");
    m[4] = now();
    ck_assert_int_eq(store_unlink(st, &root, INO_ROOT, "f", 1, false, NULL, NULL), 0);
    ck_assert_int_eq(store_reap(st, &f, 1, NULL), 0);
    m[5] = now();
    for (int round = 0; round < 2; round++) {
        expect(m[0], find(m[0], INO_ROOT, "f"), "hello world");
        expect(m[1], find(m[1], INO_ROOT, "f"), "hello there");
        expect(m[2], find(m[2], INO_ROOT, "f"), "hello");
        expect(m[3], find(m[3], INO_ROOT, "f"), "");
        expect(m[4], find(m[4], INO_ROOT, "f"), "new");
        ck_assert_uint_eq(find(m[5], INO_ROOT, "f"), 0);
        ck_assert_uint_eq(find(AT_LIVE, INO_ROOT, "f"), 0);
        ck_assert_int_eq(store_close(st, NULL), 0);
        reopen();
    }
}
END_TEST

START_TEST(map_history_is_found_across_images)
{
    char text[16];
    uint64_t f = make(INO_ROOT, "f", S_IFREG | 0644), m[300];
    for (int i = 0; i < 300; i++) {
        snprintf(text, sizeof text, "%05d", i);
        put(f, 0, text);
        m[i] = now();
    }
    ck_assert_int_eq(store_apply(st, NULL), 0);
    for (int i = 0; i < 300; i++) {
        snprintf(text, sizeof text, "%05d", i);
        expect(m[i], f, text);
    }
}
END_TEST

static int collect(void *arg, const struct dirent_out *d)
{
    strncat(arg, d->name, d->nlen);
    return 0;
}

START_TEST(listing_as_it_was)
{
    char names[64] = "";
    make(INO_ROOT, "a", S_IFREG | 0600);
    uint64_t d = make(INO_ROOT, "d", S_IFDIR | 0700);
    make(d, "x", S_IFREG | 0600);
    uint64_t then = now();
    ck_assert_int_eq(store_rename(st, &root, d, "x", 1, INO_ROOT, "a", 1, 0, NULL, NULL), 0);
    ck_assert_int_eq(store_unlink(st, &root, INO_ROOT, "d", 1, true, NULL, NULL), 0);
    make(INO_ROOT, "z", S_IFREG | 0600);
    ck_assert_int_eq(store_readdir(st, AT_LIVE, INO_ROOT, 0, collect, names, NULL), 0);
    ck_assert_str_eq(names, "az");
    names[0] = '\0';
    ck_assert_int_eq(store_readdir(st, then, INO_ROOT, 0, collect, names, NULL), 0);
    ck_assert_str_eq(names, "ad");
    names[0] = '\0';
    ck_assert_int_eq(store_readdir(st, then, d, 0, collect, names, NULL), 0);
    ck_assert_str_eq(names, "x");
}
END_TEST

struct counted { uint64_t last; int n; };

static int count_up(void *arg, const struct dirent_out *d)
{
    struct counted *c = arg;
    ck_assert_uint_gt(d->cookie, c->last);
    c->last = d->cookie;
    c->n++;
    return 0;
}

/* The same entries, whatever a part may take. */
static void parts_agree(uint64_t at, int n)
{
    static const size_t sizes[] = { 1, 1000, 20000, 100000 };
    struct asof_list all, part;
    ck_assert_int_eq(asof_readdir(store_kv(st), at, INO_ROOT, &all, NULL), 0);
    ck_assert_uint_eq(all.n, (size_t)n);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t k = 0;
        for (uint64_t after = 0; after != UINT64_MAX; after = part.last) {
            ck_assert_int_eq(asof_readdir_from(store_kv(st), at, INO_ROOT, after, sizes[i], &part, NULL), 0);
            ck_assert(part.n > 0 || part.last == UINT64_MAX);
            ck_assert(part.n <= 1 || part.bytes <= sizes[i]);
            for (size_t j = 0; j < part.n; j++, k++) {
                ck_assert_uint_lt(k, all.n);
                ck_assert_uint_eq(part.v[j].cookie, all.v[k].cookie);
                ck_assert_uint_eq(part.v[j].ino, all.v[k].ino);
                ck_assert_str_eq(part.v[j].name, all.v[k].name);
            }
            uint64_t last = part.last;
            asof_list_free(&part);
            part.last = last;
        }
        ck_assert_uint_eq(k, all.n);
    }
    asof_list_free(&all);
}

START_TEST(a_large_directory_is_listed_in_parts)
{
    enum { N = 3000 };
    char name[128], to[128];
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "%0100d", i);
        make(INO_ROOT, name, S_IFREG | 0644);
    }
    uint64_t then = now();
    int live = N;
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "%0100d", i);
        snprintf(to, sizeof to, "%0101d", i);
        if (i % 3 == 0) {
            ck_assert_int_eq(store_unlink(st, &root, INO_ROOT, name, strlen(name), false, NULL, NULL), 0);
            live--;
        } else if (i % 5 == 0) {
            ck_assert_int_eq(store_rename(st, &root, INO_ROOT, name, strlen(name), INO_ROOT, to, strlen(to), 0, NULL, NULL), 0);
        }
    }
    ck_assert_int_eq(store_apply(st, NULL), 0);
    struct counted c = { 0 }, p = { 0 };
    ck_assert_int_eq(store_readdir(st, AT_LIVE, INO_ROOT, 0, count_up, &c, NULL), 0);
    ck_assert_int_eq(c.n, live);
    ck_assert_int_eq(store_readdir(st, then, INO_ROOT, 0, count_up, &p, NULL), 0);
    ck_assert_int_eq(p.n, N);
    parts_agree(UINT64_MAX, live);
    parts_agree(then, N);
}
END_TEST

START_TEST(refused_renames_change_nothing)
{
    uint64_t a = make(INO_ROOT, "a", S_IFDIR | 0755), b = make(a, "b", S_IFDIR | 0755);
    uint64_t before = now();
    make(b, "f", S_IFREG | 0644);
    uint64_t head = log_head(store_log(st));
    ck_assert_int_eq(store_rename(st, &root, INO_ROOT, "a", 1, b, "a", 1, 0, NULL, NULL), ERR_INVAL);
    ck_assert_int_eq(store_rename(st, &root, INO_ROOT, "a", 1, b, "f", 1, 0, NULL, NULL), ERR_INVAL);
    ck_assert_int_eq(store_rename(st, &root, b, "f", 1, INO_ROOT, "a", 1, 0, NULL, NULL), ERR_NOTEMPTY);
    ck_assert_int_eq(store_rename(st, &root, b, "f", 1, a, "b", 1, RRN_NOREPLACE, NULL, NULL), ERR_EXIST);
    ck_assert_int_eq(store_rename(st, &root, b, "none", 4, a, "n", 1, 0, NULL, NULL), ERR_NOENT);
    ck_assert_int_eq(store_unlink(st, &root, INO_ROOT, "a", 1, true, NULL, NULL), ERR_NOTEMPTY);
    ck_assert_int_eq(store_unlink(st, &root, INO_ROOT, "a", 1, false, NULL, NULL), ERR_ISDIR);
    ck_assert_uint_eq(log_head(store_log(st)), head);
    ck_assert_uint_eq(find(before, b, "f"), 0);
}
END_TEST

START_TEST(clone_shares_and_stays)
{
    uint64_t a = make(INO_ROOT, "a", S_IFREG | 0644), b = make(INO_ROOT, "b", S_IFREG | 0644);
    put(a, 0, "0123456789");
    uint64_t then = now();
    ck_assert_int_eq(store_clone(st, &root, AT_LIVE, a, 2, b, 0, 100, NULL), 8);
    put(a, 0, "xxxxxxxxxx");
    expect(AT_LIVE, b, "23456789");
    ck_assert_int_eq(store_clone(st, &root, then, a, 0, b, 4, 4, NULL), 4);
    expect(AT_LIVE, b, "23450123");
    struct store_info info;
    store_info(st, &info);
    ck_assert_uint_eq(info.n_bytes, 18);
}
END_TEST

START_TEST(waits_are_returned_not_slept)
{
    struct wait w = { 0 };
    char names[64] = "";
    uint64_t f = make(INO_ROOT, "f", S_IFREG | 0644);
    ck_assert_int_eq(store_readdir(st, AT_LIVE, INO_ROOT, 0, collect, names, &w), ERR_WAIT);
    ck_assert_int_eq(w.kind, WAIT_APPLIED);
    ck_assert(!store_ready(st, &w));
    ck_assert_int_eq(store_apply(st, NULL), 0);
    ck_assert(store_ready(st, &w));
    make(INO_ROOT, "g", S_IFREG | 0644);      /* busy store: what was waited for is enough */
    ck_assert_int_eq(store_readdir(st, AT_LIVE, INO_ROOT, 0, collect, names, &w), 0);
    ck_assert_str_eq(names, "f");
    w = (struct wait){ 0 };
    ck_assert_int_eq(store_fsync(st, f, &w), ERR_WAIT);
    ck_assert_int_eq(w.kind, WAIT_DURABLE);
    ck_assert_int_eq(store_sync(st, NULL), 0);
    put(f, 0, "more");
    ck_assert_int_eq(store_fsync(st, f, &w), 0);
}
END_TEST

START_TEST(orphans_live_until_reaped_and_go_at_open)
{
    uint64_t f = make(INO_ROOT, "f", S_IFREG | 0644), gone = 0;
    put(f, 0, "still open");
    ck_assert_int_eq(store_unlink(st, &root, INO_ROOT, "f", 1, false, &gone, NULL), 0);
    ck_assert_uint_eq(gone, f);
    expect(AT_LIVE, f, "still open");
    put(f, 0, "STILL");
    expect(AT_LIVE, f, "STILL open");
    ck_assert_int_eq(store_sync(st, NULL), 0);
    store_drop(st);
    st = NULL;
    simio_kill(sim);
    reopen();
    struct row_ino row;
    ck_assert_int_eq(store_getattr(st, AT_LIVE, f, &row, NULL), ERR_STALE);
}
END_TEST

START_TEST(folded_blocks_read_the_same)
{
    static char all[1 << 15], back[1 << 15];
    uint64_t f = make(INO_ROOT, "f", S_IFREG | 0644);
    for (int i = 0; i < 3000; i++) {
        char line[16];
        snprintf(line, sizeof line, "%09d\n", i);
        memcpy(all + 10 * i, line, 10);
        put(f, (uint64_t)i * 10, line);
    }
    struct row_ino row;
    ck_assert_int_eq(store_getattr(st, AT_LIVE, f, &row, NULL), 0);
    ck_assert_uint_eq(row.blocks, 30000);
    for (int round = 0; round < 2; round++) {
        ck_assert_int_eq(store_read(st, AT_LIVE, f, 0, back, sizeof back, false, NULL, NULL), 30000);
        ck_assert_int_eq(memcmp(all, back, 30000), 0);
        ck_assert_int_eq(store_close(st, NULL), 0);
        reopen();
    }
}
END_TEST

START_TEST(sparse_files_and_seek)
{
    uint64_t f = make(INO_ROOT, "f", S_IFREG | 0644);
    put(f, (5ull << 30) + 10, "data");
    ck_assert_int_eq(store_seek(st, AT_LIVE, f, 0, SEEK_DATA, NULL), (5ll << 30) + 10);
    ck_assert_int_eq(store_seek(st, AT_LIVE, f, 0, SEEK_HOLE, NULL), 0);
    ck_assert_int_eq(store_seek(st, AT_LIVE, f, (5ull << 30) + 11, SEEK_HOLE, NULL), (5ll << 30) + 14);
    ck_assert_int_eq(store_seek(st, AT_LIVE, f, (5ull << 30) + 14, SEEK_DATA, NULL), ERR_NXIO);
    truncate_to(f, 7ull << 40);
    ck_assert_int_eq(store_seek(st, AT_LIVE, f, (5ull << 30) + 14, SEEK_DATA, NULL), ERR_NXIO);
    ck_assert_int_eq(store_fallocate(st, &root, f, RFA_PUNCH_HOLE | RFA_KEEP_SIZE, 0, 7ull << 40, NULL), 0);
    struct row_ino row;
    ck_assert_int_eq(store_getattr(st, AT_LIVE, f, &row, NULL), 0);
    ck_assert_uint_eq(row.blocks, 0);
}
END_TEST

/* A failed fdatasync at every n-th call: nothing is acknowledged after it, and what was before is there. */
START_TEST(nothing_is_acknowledged_after_a_failed_sync)
{
    struct err err = { 0 };
    uint64_t n = (uint64_t)_i + 1, acked = 0;
    bool failed = false;
    simio_fail_at(sim, SIMIO_FDATASYNC, n, ERR_IO);
    for (int i = 0; i < 12; i++) {
        char name[24];
        struct row_ino row;
        uint64_t ino;
        snprintf(name, sizeof name, "f%d", i);
        int rc = store_create_node(st, &root, INO_ROOT, name, strlen(name), S_IFREG | 0644, 0, NULL, &ino, &row, NULL);
        if (rc == 0)
            rc = store_fsync(st, ino, NULL);
        ck_assert_msg(!failed || rc < 0, "acknowledged after a failed sync");
        failed = failed || rc < 0;
        acked += rc == 0;
    }
    ck_assert(failed == (n <= 12));
    store_drop(st);
    st = NULL;
    simio_cut(sim, n, SIMIO_CUT_RANDOM);
    ck_assert_msg(try_open(&st, NULL, &err) == 0, "open: %s", err.msg);
    for (uint64_t i = 0; i < acked; i++) {
        char name[24];
        snprintf(name, sizeof name, "f%d", (int)i);
        ck_assert_uint_ne(find(AT_LIVE, INO_ROOT, name), 0);
    }
}
END_TEST

START_TEST(second_open_is_refused_by_name)
{
    struct store_options opt = { .writable = true };
    struct kv_twin_disk *d = kv_twin_disk_new();
    struct store *other = NULL;
    struct err err = { 0 };
    ck_assert_int_eq(kv_twin_open(d, &opt.kv, NULL), 0);
    ck_assert_int_eq(store_open(simio_io(sim), NULL, &opt, &other, NULL, &err), ERR_LOCKED);
    ck_assert_str_ne(err.msg, "");
    kv_twin_disk_free(d);
}
END_TEST

START_TEST(no_store_is_named)
{
    struct simio *empty = simio_new(2);
    struct store_options opt = { .writable = true };
    struct store *other = NULL;
    struct err err = { 0 };
    struct kv_twin_disk *d = kv_twin_disk_new();
    ck_assert_int_eq(kv_twin_open(d, &opt.kv, NULL), 0);
    ck_assert_int_eq(store_open(simio_io(empty), NULL, &opt, &other, NULL, &err), ERR_NOSTORE);
    ck_assert_str_eq(err.msg, "store: expected a store, found no superblock; make one with: spare init");
    kv_twin_disk_free(d);
    simio_free(empty);
}
END_TEST

START_TEST(snapshots_hold_and_release)
{
    struct err err = { 0 };
    uint64_t at = 0, f = make(INO_ROOT, "f", S_IFREG | 0644);
    put(f, 0, "one");
    ck_assert_int_eq(store_snapshot(st, &root, RSN_CREATE, "s", AT_LIVE, NULL, NULL, 0, &at, &err), 0);
    put(f, 0, "two");
    expect(at, f, "one");
    ck_assert_int_eq(store_snapshot(st, &root, RSN_CREATE, "s", AT_LIVE, NULL, NULL, 0, &at, &err), ERR_EXIST);
    ck_assert_int_eq(store_snapshot(st, &root, RSN_HOLD, "s", AT_LIVE, "audit", "me", 0, NULL, &err), 0);
    ck_assert_int_eq(store_snapshot(st, &root, RSN_DELETE, "s", AT_LIVE, NULL, NULL, 0, NULL, &err), ERR_BUSY);
    ck_assert_ptr_nonnull(strstr(err.msg, "audit"));
    ck_assert_int_eq(store_snapshot(st, &root, RSN_RELEASE, "s", AT_LIVE, NULL, NULL, 0, NULL, &err), 0);
    ck_assert_int_eq(store_snapshot(st, &root, RSN_DELETE, "s", AT_LIVE, NULL, NULL, 0, NULL, &err), 0);
    ck_assert_int_eq(store_snapshot(st, &root, RSN_DELETE, "s", AT_LIVE, NULL, NULL, 0, NULL, &err), ERR_NOENT);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("store");
    TCase *t = tcase_create("twin");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, every_moment_keeps_its_content);
    tcase_add_test(t, map_history_is_found_across_images);
    tcase_add_test(t, listing_as_it_was);
    tcase_add_test(t, a_large_directory_is_listed_in_parts);
    tcase_add_test(t, refused_renames_change_nothing);
    tcase_add_test(t, clone_shares_and_stays);
    tcase_add_test(t, waits_are_returned_not_slept);
    tcase_add_test(t, orphans_live_until_reaped_and_go_at_open);
    tcase_add_test(t, folded_blocks_read_the_same);
    tcase_add_test(t, sparse_files_and_seek);
    tcase_add_loop_test(t, nothing_is_acknowledged_after_a_failed_sync, 0, 14);
    tcase_add_test(t, second_open_is_refused_by_name);
    tcase_add_test(t, no_store_is_named);
    tcase_add_test(t, snapshots_hold_and_release);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
