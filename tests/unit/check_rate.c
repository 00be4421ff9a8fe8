/* check_rate.c: the limit of bandwidth as text, by the time of day, and kept to. */
#include "store/sync/rate.h"

#include <check.h>
#include <stdlib.h>

static struct rate parsed(const char *text)
{
    struct rate r;
    struct err err = { 0 };

    ck_assert_msg(rate_parse(text, &r, &err) == 0, "%s: %s", text, err.msg);
    return r;
}

START_TEST(one_limit_for_the_day)
{
    struct rate r = parsed("10M");

    ck_assert_uint_eq(rate_at(&r, 0), 10 << 20);
    ck_assert_uint_eq(rate_at(&r, 1439), 10 << 20);
    r = parsed("none");
    ck_assert_uint_eq(rate_at(&r, 700), 0);
    r = parsed("1K");
    ck_assert_uint_eq(rate_at(&r, 700), 1024);
}
END_TEST

START_TEST(by_the_time_of_day)
{
    struct rate r = parsed("08:00-18:00=2M,18:00-20:30=none,else=20M");

    ck_assert_uint_eq(rate_at(&r, 8 * 60 - 1), 20 << 20);
    ck_assert_uint_eq(rate_at(&r, 8 * 60), 2 << 20);
    ck_assert_uint_eq(rate_at(&r, 18 * 60 - 1), 2 << 20);
    ck_assert_uint_eq(rate_at(&r, 18 * 60), 0);
    ck_assert_uint_eq(rate_at(&r, 20 * 60 + 30), 20 << 20);
    r = parsed("22:00-06:00=1M");
    ck_assert_uint_eq(rate_at(&r, 23 * 60), 1 << 20);
    ck_assert_uint_eq(rate_at(&r, 0), 1 << 20);
    ck_assert_uint_eq(rate_at(&r, 6 * 60), 0);
    r = parsed("00:00-24:00=5000");
    ck_assert_uint_eq(rate_at(&r, 1439), 5000);
    r = parsed("08:00-12:00=1M,10:00-18:00=2M");     /* the first that fits */
    ck_assert_uint_eq(rate_at(&r, 11 * 60), 1 << 20);
}
END_TEST

START_TEST(what_is_no_limit_is_refused)
{
    static const char *const bad[] = {
        "", "fast", "0", "1000", "10X", "-1", ",", "10M,", "10M,20M", "08:00=1M", "08:00-18:00", "08:00-18:00=", "08:00-18:00=0", "8:00-18:00=1M", "24:00-06:00=1M",
        "08:00-08:00=1M", "08:60-09:00=1M", "25:00-26:00=1M", "else=1M,else=2M", "08:00-18:00=2M,,else=1M", "08:00-18:00=2M;else=1M", "99999999999999999999M",
        "00:00-01:00=1M,01:00-02:00=1M,02:00-03:00=1M,03:00-04:00=1M,04:00-05:00=1M,05:00-06:00=1M,06:00-07:00=1M,07:00-08:00=1M,08:00-09:00=1M",
    };

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct rate r = { .otherwise = 7 };
        struct err err = { 0 };

        ck_assert_msg(rate_parse(bad[i], &r, &err) == ERR_USAGE, "taken: %s", bad[i]);
        ck_assert_uint_eq(r.otherwise, 7);
        ck_assert_int_ne(err.msg[0], 0);
    }
}
END_TEST

/* Whatever the messages' sizes and the times at which somebody looks: over a minute no more than the limit, and not much less. */
START_TEST(it_is_kept_to)
{
    static const uint64_t limits[] = { 1024, 10000, 1 << 20, 100 << 20 };

    for (size_t k = 0; k < sizeof limits / sizeof limits[0]; k++) {
        struct rate_bucket b = { 0 };
        uint64_t sent = 0, now = 1000000, most = limits[k] / 2 + 1;

        srand(5);
        while (now < 1060000) {
            uint64_t wait = rate_wait_ms(&b, limits[k], now);

            if (wait > 0) {
                now += wait < 100 ? wait : 1 + (uint64_t)rand() % 100;
                continue;
            }
            uint64_t n = 1 + (uint64_t)rand() % most;

            rate_took(&b, n);
            sent += n;
        }
        ck_assert_msg(sent <= limits[k] * 61 + most, "%llu: %llu", (unsigned long long)limits[k], (unsigned long long)sent);
        ck_assert_msg(sent >= limits[k] * 57, "%llu: %llu", (unsigned long long)limits[k], (unsigned long long)sent);
    }
}
END_TEST

START_TEST(what_is_owed_is_paid_before_the_next)
{
    struct rate_bucket b = { 0 };

    ck_assert_uint_eq(rate_wait_ms(&b, 1000, 5000), 0);
    rate_took(&b, 10000);
    ck_assert_uint_ge(rate_wait_ms(&b, 1000, 5000), 9000);
    ck_assert_uint_gt(rate_wait_ms(&b, 1000, 14000), 0);
    ck_assert_uint_eq(rate_wait_ms(&b, 1000, 16000), 0);
    rate_took(&b, 1 << 30);
    ck_assert_uint_gt(rate_wait_ms(&b, 1000, 16001), 0);
    ck_assert_uint_eq(rate_wait_ms(&b, 0, 16002), 0);            /* the limit is taken away */
    ck_assert_uint_eq(rate_wait_ms(&b, 1 << 20, 16002 + 300), 0);
}
END_TEST

START_TEST(pieces_are_a_quarter_of_a_second)
{
    ck_assert_uint_eq(rate_piece(0, 1 << 20), 1 << 20);
    ck_assert_uint_eq(rate_piece(1 << 30, 1 << 20), 1 << 20);
    ck_assert_uint_eq(rate_piece(1 << 20, 1 << 20), 256 << 10);
    ck_assert_uint_eq(rate_piece(1024, 1 << 20), RATE_PIECE_LEAST);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("rate");
    Suite *s = suite_create("rate");
    SRunner *r = srunner_create(s);
    int failed;

    tcase_add_test(t, one_limit_for_the_day);
    tcase_add_test(t, by_the_time_of_day);
    tcase_add_test(t, what_is_no_limit_is_refused);
    tcase_add_test(t, it_is_kept_to);
    tcase_add_test(t, what_is_owed_is_paid_before_the_next);
    tcase_add_test(t, pieces_are_a_quarter_of_a_second);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
