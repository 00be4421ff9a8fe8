/*
 * check_lacking: a standby that keeps less of the past than its primary, which copies out of its own past: what the standby had let go of is fetched, and not said to be durable before;
 * whatever cuts it off.
 */
#include "store/core/lacking.h"
#include "store/core/restore.h"
#include "store/core/version.h"
#include "store/log/frame.h"
#include "store/maint/reclaim.h"
#include "store/maint/supply.h"
#include "store/maint/upkeep.h"
#include "store/pack/history.h"
#include "store/pack/packs.h"
#include "tests/lib/twosites.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { FILES = 6, VERSIONS = 4, SIZE = 150000 };

static struct teststore a, b;
static uint64_t at[VERSIONS];                    /* the moment of each version of all files */

static void noise(uint8_t *p, size_t n, unsigned seed)
{
    uint64_t x = seed * 0x9e3779b97f4a7c15u + 1;

    for (size_t i = 0; i < n; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        p[i] = (uint8_t)x;
    }
}

static void write_version(unsigned file, unsigned version)
{
    static uint8_t buf[SIZE];
    char name[16];
    uint64_t ino;

    snprintf(name, sizeof name, "f%u", file);
    ts_save(&a, name, "");
    ino = ts_ino(&a, name);
    noise(buf, sizeof buf, 100 * file + version);
    ts_write(&a, ino, 0, buf, sizeof buf);
}

static bool has_version(struct teststore *t, uint64_t when, unsigned file, unsigned version, struct err *err)
{
    static uint8_t buf[SIZE], want[SIZE];
    struct row_ino row;
    char name[16];
    uint64_t ino;

    snprintf(name, sizeof name, "f%u", file);
    ck_assert_int_eq(store_walk(t->s, when, name, &ino, &row, NULL), 0);
    ck_assert_uint_eq(row.size, SIZE);
    noise(want, sizeof want, 100 * file + version);
    return store_read(t->s, when, ino, 0, buf, SIZE, false, NULL, err) == SIZE && memcmp(buf, want, SIZE) == 0;
}

static void pack(struct teststore *t)
{
    struct err err = { 0 };

    ck_assert_msg(upkeep_pack(t->s, NULL, NULL, NULL, NULL, &err) == 0, "%s", err.msg);
}

/* Nothing but the present. */
static void forget_past(struct teststore *t)
{
    static const char *const keep[] = { "keep-all", "min-age", "reclaim-grace", "keep-hourly", "keep-daily", "keep-weekly", "keep-monthly", "keep-yearly" };
    const struct reclaim_options opt = { .now = true, .sweep = true };
    struct reclaim_result res;
    struct err err = { 0 };

    for (size_t i = 0; i < sizeof keep / sizeof *keep; i++)
        ck_assert_int_eq(store_config_set(t->s, keep[i], "0", NULL), 0);
    pack(t);
    ck_assert_msg(reclaim(t->s, &opt, &res, &err) == 0, "%s", err.msg);
    ck_assert_uint_lt(res.bytes_after, res.bytes_before);
}

static void both(void)
{
    ts_new(&a, "UTC");
    twosites_standby(&a, &b);
    for (unsigned v = 0; v < VERSIONS; v++) {
        for (unsigned f = 0; f < FILES; f++)
            write_version(f, v);
        ts_step(&a, 10000);
        at[v] = ts_last(&a);
    }
    twosites_ship(&a, &b, NULL);
    ts_step(&b, 60000);
    forget_past(&b);
}

static void neither(void)
{
    ts_free(&b);
    ts_free(&a);
}

static void bring_back(unsigned file, unsigned version)
{
    char name[16];
    struct err err = { 0 };
    uint64_t src, dst;
    struct row_ino row;

    snprintf(name, sizeof name, "f%u", file);
    ck_assert_int_eq(store_walk(a.s, at[version], name, &src, &row, NULL), 0);
    dst = ts_ino(&a, name);
    ck_assert_int_eq(store_clone(a.s, &a.who, at[version], src, 0, dst, 0, SIZE, NULL), SIZE);
    ck_assert_msg(has_version(&a, AT_LIVE, file, version, &err), "%s", err.msg);
}

START_TEST(what_is_lacking_is_fetched)
{
    struct err err = { 0 };
    struct lack k[4];

    bring_back(0, 0);
    bring_back(1, 2);
    bring_back(2, VERSIONS - 1);                 /* that is here */
    write_version(3, 77);
    twosites_ship(&a, &b, NULL);
    ck_assert_uint_eq(store_lacking_from(b.s), UINT64_MAX);
    ck_assert_uint_eq(store_lacking(b.s, k, 4), 0);
    for (int round = 0; round < 3; round++) {
        ck_assert_msg(has_version(&b, AT_LIVE, 0, 0, &err), "%s", err.msg);
        ck_assert_msg(has_version(&b, AT_LIVE, 1, 2, &err), "%s", err.msg);
        ck_assert_msg(has_version(&b, AT_LIVE, 2, VERSIONS - 1, &err), "%s", err.msg);
        ck_assert_msg(has_version(&b, AT_LIVE, 3, 77, &err), "%s", err.msg);
        ck_assert_msg(has_version(&b, AT_LIVE, 4, VERSIONS - 1, &err), "%s", err.msg);
        if (round == 0)
            ts_reopen(&b, true);
        if (round == 1) {                        /* what is needed again stays */
            bring_back(5, 1);
            twosites_ship(&a, &b, NULL);
            ts_step(&b, 60000);
            forget_past(&b);
            ck_assert_msg(has_version(&b, AT_LIVE, 5, 1, &err), "%s", err.msg);
        }
    }
}
END_TEST

/* Cut off at any call of the standby's disk: it goes on, and never says of what is lacking that it is durable. */
START_TEST(cut_off_at_any_call)
{
    bool done = false;

    for (unsigned n = 1; !done; n += 1 + n / 20) {
        struct twosites_end end;
        struct err err = { 0 };

        both();
        bring_back(0, 0);
        bring_back(4, 1);
        simio_cut_at(b.sim, n);
        (void)twosites_ship(&a, &b, &end);
        done = !simio_dead(b.sim);
        simio_cut_at(b.sim, 0);
        ts_reopen(&b, !done);
        if (end.shipped.durable >= log_head(store_log(a.s)))
            ck_assert(has_version(&b, AT_LIVE, 0, 0, &err) && has_version(&b, AT_LIVE, 4, 1, &err));
        else if (log_head(store_log(b.s)) == log_head(store_log(a.s)) && store_lacking_from(b.s) == UINT64_MAX)
            ck_assert_msg(has_version(&b, AT_LIVE, 0, 0, &err) && has_version(&b, AT_LIVE, 4, 1, &err), "call %u: %s", n, err.msg);
        twosites_ship(&a, &b, NULL);
        ck_assert_msg(has_version(&b, AT_LIVE, 0, 0, &err) && has_version(&b, AT_LIVE, 4, 1, &err), "call %u: %s", n, err.msg);
        neither();
        ck_assert_uint_lt(n, 2000);
    }
}
END_TEST

/* Followed by records alone, as if the line had been cut behind them: a restart finds what is lacking. */
START_TEST(a_restart_finds_what_is_lacking)
{
    struct log_iter *it = NULL;
    struct record rec;
    struct err err = { 0 };
    uint64_t clone;

    bring_back(0, 0);
    clone = ts_last(&a);
    write_version(1, 78);
    ck_assert_int_eq(store_sync(a.s, NULL), 0);
    ck_assert_int_eq(log_iter_new(store_log(a.s), log_head(store_log(b.s)), log_head(store_log(a.s)), LOG_ITER_DATA, &it, NULL), 0);
    while (log_iter_next(it, &rec, NULL) == 1)
        ck_assert_int_eq(store_follow(b.s, log_iter_raw(it) + FRAME_BYTES, (size_t)rec.head_len + rec.data_len, &err), 0);
    log_iter_free(it);
    ck_assert_uint_eq(store_lacking_from(b.s), clone);
    ck_assert(!has_version(&b, AT_LIVE, 0, 0, &err));
    ck_assert_int_eq(err.code, ERR_DAMAGE);
    ck_assert_int_eq(store_sync(b.s, NULL), 0);
    ts_reopen(&b, _i);
    ck_assert_uint_eq(store_lacking_from(b.s), clone);
    twosites_ship(&a, &b, NULL);
    ck_assert_uint_eq(store_lacking_from(b.s), UINT64_MAX);
    ck_assert_msg(has_version(&b, AT_LIVE, 0, 0, &err), "%s", err.msg);
    ts_reopen(&b, _i);
    ck_assert_uint_eq(store_lacking_from(b.s), UINT64_MAX);
}
END_TEST

/* Parts of a record's data, in any order and over one another. */
START_TEST(parts_go_into_the_pack_of_their_address)
{
    static uint8_t want[SIZE], got[SIZE];
    struct packs_piece v[4] = { 0 };
    struct history_iter *it = NULL;
    struct record rec;
    struct err err = { 0 };
    uint64_t lsn = 0;
    uint32_t dstart = 0;
    bool had;

    ck_assert_int_eq(history_iter_new(store_history(b.s), LOG_FIRST_ADDR, UINT64_MAX, &it, &err), 0);
    while (history_next(it, &rec, NULL, &err) == 1)
        if (rec.type == REC_WRITE && rec.data_len == SIZE && lsn == 0) {
            lsn = rec.lsn;
            dstart = record_dstart(rec.head_len);
        }
    history_iter_free(it);
    ck_assert_uint_ne(lsn, 0);
    noise(want, SIZE, 0);                        /* the first version of the first file */
    ck_assert_int_eq(store_has_data(b.s, lsn, 0, SIZE, &had, &err), 0);
    ck_assert(!had);
    for (int i = 0; i < 4; i++) {
        static const uint32_t from[] = { 70000, 0, 50000, 120000 }, len[] = { 20000, 60000, 40000, 30000 };

        v[i] = (struct packs_piece){ lsn, 5, from[i], dstart, from[i], len[i], want + from[i] };
    }
    ck_assert_msg(supply(b.s, v, 4, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(store_has_data(b.s, lsn, 0, 90000, &had, &err), 0);
    ck_assert(had);
    ck_assert_int_eq(store_has_data(b.s, lsn, 90000, 1, &had, &err), 0);
    ck_assert(!had);
    ck_assert_msg(packs_read(store_packs(b.s), lsn, 0, 90000, got, false, &err) == 0, "%s", err.msg);
    ck_assert_mem_eq(got, want, 90000);
    ck_assert_msg(packs_read(store_packs(b.s), lsn, 120000, 30000, got, false, &err) == 0, "%s", err.msg);
    ck_assert_mem_eq(got, want + 120000, 30000);
    ck_assert_int_eq(packs_read(store_packs(b.s), lsn, 80000, 20000, got, false, &err), ERR_NOENT);
    ck_assert_msg(supply(b.s, v, 4, &err) == 0, "%s", err.msg);      /* again: nothing */
    v[0].lsn = log_head(store_log(b.s)) + 4096;
    ck_assert_int_eq(supply(b.s, v, 1, &err), ERR_NOENT);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("lacking");
    TCase *t = tcase_create("lacking"), *c = tcase_create("cut");
    SRunner *sr = srunner_create(s);
    int failed;

    tcase_set_timeout(t, 60);
    tcase_set_timeout(c, 300);
    tcase_add_checked_fixture(t, both, neither);
    tcase_add_test(t, what_is_lacking_is_fetched);
    tcase_add_loop_test(t, a_restart_finds_what_is_lacking, 0, 2);
    tcase_add_test(t, parts_go_into_the_pack_of_their_address);
    tcase_add_test(c, cut_off_at_any_call);
    suite_add_tcase(s, t);
    suite_add_tcase(s, c);
    srunner_run_all(sr, CK_ENV);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed != 0;
}
