/*
 * check_packed: what packs hold of what is alike, and of what is not; windows; and readers and a writer while it packs.
 */
#include "store/pack/packs.h"
#include "tests/lib/packrig.h"

#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static struct teststore a;
static struct past past;
static struct packrig_sum sum;               /* of the last packing */

/* ---- what is stored of what is alike ---- */

static uint8_t *some(size_t len, unsigned kind)
{
    uint8_t *buf = malloc(len);

    past_fill(&past, buf, len, kind);
    return buf;
}

static void save(const char *path, const uint8_t *buf, size_t len)
{
    if (ts_ino(&a, path) != 0)
        ts_unlink(&a, path);
    ts_write(&a, ts_create(&a, path, S_IFREG | 0644), 0, buf, len);
}

START_TEST(a_second_copy_adds_no_chunk)
{
    size_t len = 3000000;
    uint8_t *buf;

    packrig_start(&a, &past, 3, 1 << 20);
    buf = some(len, 1);
    save("one", buf, len);
    save("two", buf, len);
    packrig_pack(a.s, &sum);
    ck_assert_uint_eq(sum.r.data_bytes, 2 * len);
    ck_assert_uint_eq(sum.r.chunk_bytes, len);
    ck_assert_uint_eq(sum.r.known, sum.r.chunks);
    ck_assert_uint_gt(sum.r.chunks, 3);
    save("three", buf, len);
    packrig_pack(a.s, &sum);
    ck_assert_uint_eq(sum.r.chunks, 0);
    ck_assert_uint_lt(sum.r.pack_bytes, 10000);
    ts_reopen(&a, false);                    /* what was learned is still known */
    save("four", buf, len);
    memmove(buf + 1000, buf, len - 1000);
    save("five", buf, len);
    packrig_pack(a.s, &sum);
    ck_assert_uint_gt(sum.r.known, sum.r.chunks);
    ck_assert_uint_lt(sum.r.chunk_bytes, 1500000);   /* of the one that moved along, what is near its front */
    free(buf);
    ts_free(&a);
}
END_TEST

START_TEST(what_was_packed_last_is_known_after_a_clean_stop)
{
    size_t len = 500000;
    uint8_t *buf;

    packrig_start(&a, &past, 4, 1 << 20);
    buf = some(len, 1);
    save("one", buf, len);
    packrig_pack(a.s, &sum);
    ts_reopen(&a, false);
    save("two", buf, len);
    packrig_pack(a.s, &sum);
    ck_assert_uint_eq(sum.r.chunks, 0);
    ts_reopen(&a, true);                     /* and after a power cut */
    save("three", buf, len);
    packrig_pack(a.s, &sum);
    ck_assert_uint_eq(sum.r.chunks, 0);
    free(buf);
    ts_free(&a);
}
END_TEST

/* In the order of their inodes and against it, near each other and far, removed, and renamed: each is known by the name it had last. */
START_TEST(each_file_is_known_by_its_name)
{
    enum { N = 40, LEN = 9000 };
    uint8_t *buf[N];
    char name[32];

    packrig_start(&a, &past, 7, 1 << 20);
    ts_create(&a, "d", S_IFDIR | 0755);
    for (unsigned i = 0; i < N; i++)
        buf[i] = some(LEN, 0);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned k = 0; k < N; k++) {
            unsigned i = round == 1 ? N - 1 - k : k * 7 % N;

            buf[i][past_random(&past, LEN)] ^= 1;
            sprintf(name, i % 5 == 1 ? "moved%u" : "d/f%u", i);
            if (ts_ino(&a, name) != 0)
                ts_unlink(&a, name);
            save(i % 5 == 1 ? "d/new" : name, buf[i], LEN);
            if (i % 5 == 1)
                ts_rename(&a, "d/new", name);
            for (unsigned gap = 0; k % 9 == 0 && gap < 30; gap++) {
                sprintf(name, "e%u.%u.%u", round, k, gap);
                ts_create(&a, name, S_IFREG | 0644);
            }
        }
        for (unsigned i = 0; i < N; i += 4) {    /* its last name is of the past when it is packed */
            sprintf(name, i % 5 == 1 ? "moved%u" : "d/f%u", i);
            ts_unlink(&a, name);
        }
        past.m[past.n].lsn = ts_last(&a);
        past.m[past.n++].digest = past_digest(a.s, AT_LIVE);
        packrig_pack(a.s, &sum);
        ck_assert_uint_eq(sum.r.chunks, N);
        ck_assert_uint_eq(sum.r.deltas, round == 0 ? 0 : N);
    }
    packrig_well(&past, a.s, "packed");
    for (unsigned i = 0; i < N; i++)
        free(buf[i]);
    ts_free(&a);
}
END_TEST

/* Each version of a file by one name: a difference, in chains that end. */
static void versions(unsigned n, size_t len, bool each_packed)
{
    uint8_t *buf = some(len, 0), *got = malloc(len);
    uint64_t at[64];
    unsigned whole = 0;

    for (unsigned i = 0; i < n; i++) {
        for (unsigned k = 0; k < 20; k++)
            buf[past_random(&past, len)] = (uint8_t)('a' + i % 26);
        save("file", buf, len);
        at[i] = hash64(buf, len);
        ts_step(&a, 5000);
        past.m[i].lsn = ts_last(&a);
        if (each_packed || i == n - 1) {
            packrig_pack(a.s, &sum);
            whole += (unsigned)(sum.r.chunks - sum.r.deltas);
        }
    }
    ck_assert_uint_ge(whole, n / 17);
    ck_assert_uint_le(whole, n / 4 + 3);
    for (unsigned i = 0; i < n; i++) {
        struct err err = { 0 };
        struct row_ino row;
        uint64_t ino = 0;

        ck_assert_int_eq(store_lookup(a.s, past.m[i].lsn, INO_ROOT, "file", 4, &ino, &row, NULL), 0);
        ck_assert_msg(store_read(a.s, past.m[i].lsn, ino, 0, got, len, false, NULL, &err) == (int64_t)len, "%s", err.msg);
        ck_assert_uint_eq(hash64(got, len), at[i]);
    }
    free(buf);
    free(got);
}

START_TEST(versions_of_a_name_are_differences_in_bounded_chains)
{
    packrig_start(&a, &past, 6, 1 << 20);
    versions(50, _i < 2 ? 40000 : 300000, _i % 2 == 0);
    ts_free(&a);
}
END_TEST

START_TEST(noise_is_stored_as_it_is)
{
    size_t len = 900000;
    uint8_t *buf, *small;

    packrig_start(&a, &past, 8, 1 << 20);
    buf = some(len, 1);
    small = some(3000, 0);
    save("noise", buf, len);
    packrig_pack(a.s, &sum);
    ck_assert_uint_eq(sum.r.chunks, 1);
    ck_assert_uint_ge(sum.r.pack_bytes, len);
    ck_assert_uint_lt(sum.r.pack_bytes, len + 10000);
    for (int i = 0; i < 100; i++) {          /* text, much alike */
        char name[16];

        sprintf(name, "t%d", i);
        small[i] ^= 1;
        save(name, small, 3000);
    }
    packrig_pack(a.s, &sum);
    ck_assert_uint_eq(sum.r.chunks, 100);
    ck_assert_uint_eq(sum.r.data_bytes, 300000);
    ck_assert_uint_lt(sum.r.pack_bytes, 30000);
    free(buf);
    free(small);
    ts_free(&a);
}
END_TEST

/* ---- many threads ---- */

static atomic_bool over;

static void *read_moments(void *arg)
{
    struct past p = { .x = (uint64_t)(uintptr_t)arg };
    unsigned n = 0;

    while (!atomic_load(&over) || n < 20) {
        unsigned i = (unsigned)past_random(&p, past.n);

        if (past_digest(a.s, past.m[i].lsn) != past.m[i].digest)
            return "a moment that is not what it was";
        n++;
    }
    return NULL;
}

static void *write_on(void *arg)
{
    uint8_t buf[5000];
    struct past p = { .x = 17 };
    uint64_t ino = (uint64_t)(uintptr_t)arg;

    for (unsigned i = 0; i < 1500 && !atomic_load(&over); i++) {
        past_fill(&p, buf, sizeof buf, i % 3);
        if (store_write(a.s, &a.who, ino, (i % 50) * 4000, buf, 1 + i % sizeof buf, NULL) < 0)
            return "a write that failed";
    }
    return NULL;
}

START_TEST(readers_and_a_writer_while_it_packs)
{
    pthread_t r[2], w;
    void *what = NULL;
    uint64_t ino;

    packrig_start(&a, &past, 11, 16 << 10);
    a.opt.threads = true;
    a.opt.log.zero_ahead = 64 << 10;
    a.opt.log.zero_after = 1;
    a.opt.log.preallocate = true;
    ts_reopen(&a, false);
    past_work(&a, &past, 60, 6);
    ino = ts_create(&a, "written", S_IFREG | 0644);
    atomic_store(&over, false);
    for (uintptr_t i = 0; i < 2; i++)
        pthread_create(&r[i], NULL, read_moments, (void *)(i + 1));
    pthread_create(&w, NULL, write_on, (void *)(uintptr_t)ino);
    for (int i = 0; i < 15; i++) {
        struct err err = { 0 };

        ck_assert_msg(packrig_try(a.s, &sum, &err) == 0, "%s", err.msg);
    }
    atomic_store(&over, true);
    for (int i = 0; i < 2; i++) {
        pthread_join(r[i], &what);
        ck_assert_msg(what == NULL, "%s", (const char *)what);
    }
    pthread_join(w, &what);
    ck_assert_msg(what == NULL, "%s", (const char *)what);
    packrig_pack(a.s, &sum);
    packrig_well(&past, a.s, "at the end");
    packrig_without_index(&a);
    packrig_well(&past, a.s, "made anew");
    ts_free(&a);
}
END_TEST

/* So many that a window ends before it has as many segments as it may have. */
START_TEST(a_window_of_many_small_writes_ends_early)
{
    enum { WRITES = 110000, PER = 500 };
    uint64_t ino = 0;

    packrig_start(&a, &past, 21, 2 << 20);
    for (unsigned i = 0; i < WRITES; i++) {
        char name[16];

        if (i % PER == 0) {
            sprintf(name, "f%u", i / PER);
            ino = ts_create(&a, name, S_IFREG | 0644);
        }
        ts_write(&a, ino, i % PER * 2, &i, 1);
    }
    past.m[past.n].lsn = ts_last(&a);
    past.m[past.n++].digest = past_digest(a.s, AT_LIVE);
    packrig_pack(a.s, &sum);
    ck_assert_uint_eq(sum.steps, 7);
    ck_assert_uint_eq(sum.r.data_bytes, WRITES);
    ck_assert_uint_le(sum.r.chunks, 256);
    packrig_well(&past, a.s, "packed");
    ts_free(&a);
}
END_TEST

static TCase *tcase(Suite *s, const char *name)
{
    TCase *t = tcase_create(name);

    tcase_set_timeout(t, 300);
    suite_add_tcase(s, t);
    return t;
}

int main(void)
{
    Suite *s = suite_create("packed");
    TCase *t = tcase(s, "alike");
    SRunner *sr;
    int failed;

    tcase_add_test(t, a_second_copy_adds_no_chunk);
    tcase_add_test(t, what_was_packed_last_is_known_after_a_clean_stop);
    tcase_add_test(t, each_file_is_known_by_its_name);
    tcase_add_loop_test(t, versions_of_a_name_are_differences_in_bounded_chains, 0, 4);
    tcase_add_test(t, noise_is_stored_as_it_is);
    tcase_add_test(t, a_window_of_many_small_writes_ends_early);
    t = tcase(s, "threads");
    tcase_add_test(t, readers_and_a_writer_while_it_packs);
    sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed != 0;
}
