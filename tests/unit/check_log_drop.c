/*
 * check_log_drop: the log's old end goes segment by segment, its new one begins when asked; and cuts at every call of both.
 */
#include "store/log/log_internal.h"
#include "tests/lib/log_fixture.h"
#include "tests/lib/simio.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_RECS = 400 };
struct issued { uint64_t lsn, end; struct hash128 hash; };

static struct simio *sim;
static struct super sb;
static struct log_options opt;
static struct log *lg;
static struct log_recovery lr;
static struct err err;
static struct issued iss[MAX_RECS];
static unsigned n_iss;

#define ok(expr) ck_assert_msg((expr) == 0, "%s: %s", #expr, err.msg)

static void start(uint64_t seed)
{
    sim = simio_new(seed);
    fix_super(&sb);
    opt = (struct log_options){ .segment_bytes = 8192, .preallocate = true };
    memset(&err, 0, sizeof err);
    n_iss = 0;
    ok(log_create(simio_io(sim), &sb, &opt, &err));
    ok(log_open(simio_io(sim), &sb, &opt, true, 0, &lg, &lr, &err));
    sb.clean = 0;
    ok(log_set_writer(lg, 1, sb.epochs[0].id, sb.incarnation, &err));
}

static void stop(void)
{
    log_close(lg);
    lg = NULL;
    simio_free(sim);
}

static int append(uint32_t len)
{
    struct record rec = { 0 };
    int rc = fix_write(lg, n_iss + 1, len, &rec, &err);

    if (rec.lsn != 0 && (n_iss == 0 || rec.lsn > iss[n_iss - 1].lsn) && n_iss < MAX_RECS)
        iss[n_iss++] = (struct issued){ rec.lsn, rec.lsn + frame_span(rec.head_len + len), rec.hash };
    return rc;
}

/* What is held are the issued records from log_first up to the head, one behind the other; returns how many were issued below the head. */
static unsigned expect_suffix(void)
{
    struct log_iter *it;
    struct record rec;
    unsigned i = 0;
    int rc;

    while (i < n_iss && iss[i].lsn < log_first(lg))
        i++;
    ok(log_iter_new(lg, log_first(lg), UINT64_MAX, LOG_ITER_DATA, &it, &err));
    while ((rc = log_iter_next(it, &rec, &err)) == 1) {
        ck_assert_uint_lt(i, n_iss);
        ck_assert_uint_eq(rec.lsn, iss[i].lsn);
        ck_assert(hash128_eq(&rec.hash, &iss[i].hash));
        i++;
    }
    ck_assert_msg(rc == 0, "%s", err.msg);
    log_iter_free(it);
    ck_assert_uint_eq(log_head(lg), i > 0 ? iss[i - 1].end : LOG_FIRST_ADDR);
    return i;
}

START_TEST(old_segments_go_and_reading_them_says_so)
{
    uint8_t out[300];
    uint64_t used;

    start(1);
    for (unsigned i = 0; i < 120; i++)
        ok(append(300));
    ok(log_sync(lg, &err));
    used = simio_used(sim);
    ok(log_drop(lg, iss[60].lsn, &err));
    ck_assert_uint_gt(log_first(lg), iss[30].lsn);
    ck_assert_uint_le(log_first(lg), iss[60].lsn);
    ck_assert_uint_lt(simio_used(sim), used - 8192);
    ck_assert_int_eq(log_read_data(lg, iss[2].lsn, record_dstart(128 + 8 + 8), 0, 300, out, false, &err), ERR_NOENT);
    ok(log_read_data(lg, iss[70].lsn, record_dstart(128 + 8 + 8), 0, 300, out, false, &err));
    ck_assert_uint_eq(expect_suffix(), 120);
    ok(log_drop(lg, UINT64_MAX, &err));           /* never the current one */
    ck_assert_uint_lt(log_first(lg), log_head(lg));
    ck_assert_uint_eq(expect_suffix(), 120);
    ok(append(300));
    fix_note(&sb, lg, false);
    log_close(lg);
    simio_kill(sim);
    ok(log_open(simio_io(sim), &sb, &opt, true, 0, &lg, &lr, &err));
    ck_assert_uint_eq(expect_suffix(), 121);
    stop();
}
END_TEST

START_TEST(what_is_not_durable_is_not_dropped)
{
    start(2);
    for (unsigned i = 0; i < 20; i++)
        ok(append(300));
    ck_assert_uint_lt(log_durable(lg), log_head(lg));
    ok(log_drop(lg, UINT64_MAX, &err));
    ck_assert_uint_le(log_first(lg), log_durable(lg));
    ck_assert_uint_eq(expect_suffix(), 20);
    stop();
}
END_TEST

START_TEST(a_new_segment_when_asked_and_none_where_the_last_is_empty)
{
    uint64_t gen;

    start(3);
    gen = log_newest(lg);
    ok(log_roll(lg, &err));
    ck_assert_uint_eq(log_newest(lg), gen);
    ok(append(100));
    ok(log_roll(lg, &err));
    ck_assert_uint_eq(log_newest(lg), gen + 1);
    ok(log_roll(lg, &err));
    ck_assert_uint_eq(log_newest(lg), gen + 1);
    ok(log_sync(lg, &err));
    ok(log_drop(lg, UINT64_MAX, &err));
    ck_assert_uint_eq(log_first(lg), log_head(lg));     /* the current one, with nothing in it */
    ok(append(100));
    ck_assert_uint_eq(expect_suffix(), 2);
    ok(log_finish(lg, &err));
    fix_note(&sb, lg, true);
    log_close(lg);
    ok(log_open(simio_io(sim), &sb, &opt, true, 0, &lg, &lr, &err));
    ck_assert(lr.clean);
    ck_assert_uint_eq(expect_suffix(), 2);
    stop();
}
END_TEST

START_TEST(a_log_with_nothing_in_it_ends_cleanly_and_opens)
{
    start(4);
    for (unsigned i = 0; i < 30; i++)
        ok(append(300));
    ok(log_roll(lg, &err));
    ok(log_sync(lg, &err));
    ok(log_drop(lg, UINT64_MAX, &err));
    ok(log_finish(lg, &err));
    fix_note(&sb, lg, true);
    log_close(lg);
    ok(log_open(simio_io(sim), &sb, &opt, true, 0, &lg, &lr, &err));
    ck_assert_uint_eq(log_head(lg), iss[29].end);
    ck_assert_uint_eq(log_first(lg), iss[29].end);
    ok(log_set_writer(lg, 1, sb.epochs[0].id, sb.incarnation + 1, &err));
    ok(append(300));
    ck_assert_uint_eq(expect_suffix(), 31);
    log_close(lg);
    simio_cut(sim, 9, SIMIO_CUT_DROP_ALL);
    ok(log_open(simio_io(sim), &sb, &opt, true, 0, &lg, &lr, &err));
    ck_assert_uint_ge(expect_suffix(), 30);
    stop();
}
END_TEST

/* Appends, syncs, rolls and drops until a call fails. Returns what was acknowledged as durable; *${dropped}: nothing below may be held any more. */
static uint64_t workload(uint64_t seed, unsigned steps, uint64_t *allowed)
{
    uint64_t x = seed * 2654435761u + 1, acked = log_durable(lg);

    for (unsigned i = 0; i < steps; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        if (append((uint32_t)(1 + (x >> 33) % 900)) != 0)
            break;
        if ((x >> 20) % 4 == 0) {
            if (log_sync(lg, &err) != 0)
                break;
            acked = log_head(lg);
        }
        if ((x >> 25) % 9 == 0 && log_roll(lg, &err) != 0)
            break;
        if ((x >> 40) % 11 == 0) {
            *allowed = log_durable(lg);
            if (log_drop(lg, *allowed, &err) != 0)
                break;
        }
    }
    return acked;
}

START_TEST(cut_at_any_call_loses_nothing_that_was_not_let_go)
{
    const char *many = getenv("SPARE_SEEDS");
    uint64_t seeds = many != NULL ? strtoull(many, NULL, 10) : 300, dropped = 0;

    for (uint64_t seed = 1; seed <= seeds; seed++) {
        uint64_t acked, allowed = LOG_FIRST_ADDR;

        start(seed);
        opt.preallocate = seed % 2 == 0;
        for (unsigned life = 0; life < 3; life++) {
            unsigned n;

            simio_cut_at(sim, 1 + seed * 7919 % 160 + life * 13);
            acked = workload(seed * 3 + life, 90, &allowed);
            log_close(lg);
            lg = NULL;
            simio_cut(sim, seed + life, (enum simio_cut_mode)(seed % SIMIO_N_CUT_MODES));
            ok(log_open(simio_io(sim), &sb, &opt, true, 0, &lg, &lr, &err));
            n = expect_suffix();
            ck_assert_uint_ge(log_head(lg), acked);
            ck_assert_uint_le(log_first(lg), allowed > acked ? allowed : acked);
            dropped += log_first(lg) > LOG_FIRST_ADDR;
            n_iss = n;
            ok(log_set_writer(lg, 1, sb.epochs[0].id, seed * 100 + life + 7, &err));
        }
        stop();
    }
    ck_assert_uint_gt(dropped, seeds / 4);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("log_drop");
    TCase *t = tcase_create("drop");
    int failed;

    tcase_set_timeout(t, 120);
    tcase_add_test(t, old_segments_go_and_reading_them_says_so);
    tcase_add_test(t, what_is_not_durable_is_not_dropped);
    tcase_add_test(t, a_new_segment_when_asked_and_none_where_the_last_is_empty);
    tcase_add_test(t, a_log_with_nothing_in_it_ends_cleanly_and_opens);
    tcase_add_test(t, cut_at_any_call_loses_nothing_that_was_not_let_go);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
