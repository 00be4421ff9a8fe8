/*
 * check_packer: whatever is packed, and wherever that is cut off or fails, every moment reads as it did. What packs hold: check_packed.c. Records and
 * other sites: check_history.c, check_packed_sites.c.
 */
#include "store/maint/upkeep.h"
#include "store/pack/packs.h"
#include "tests/lib/packrig.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

enum { SEGMENT = 32 << 10 };

static struct teststore a;
static struct past past;
static struct packrig_sum sum;               /* of the last packing */

/* ---- the same, wherever it is ---- */

static void random_work(uint64_t seed, uint64_t segment, size_t big)
{
    uint64_t live;

    packrig_start(&a, &past, seed, segment);
    past.big = big;
    past_work(&a, &past, 120, 9);
    live = past_digest(a.s, AT_LIVE);
    packrig_pack(a.s, &sum);
    ck_assert_uint_gt(sum.steps, big > 0 ? 1 : 0);
    packrig_well(&past, a.s, "packed");
    ck_assert_uint_eq(past_digest(a.s, AT_LIVE), live);
    for (int i = 0; i < 3; i++) {
        past_work(&a, &past, 40, 7);
        packrig_pack(a.s, &sum);
        packrig_well(&past, a.s, "packed again");
    }
    past_work(&a, &past, 10, 3);             /* these are in the log */
    live = past_digest(a.s, AT_LIVE);
    ts_reopen(&a, false);
    packrig_well(&past, a.s, "opened again");
    ts_reopen(&a, true);
    packrig_well(&past, a.s, "opened after a power cut");
    packrig_without_index(&a);
    packrig_well(&past, a.s, "index made anew");
    ck_assert_uint_eq(past_digest(a.s, AT_LIVE), live);
    past_work(&a, &past, 20, 5);
    packrig_pack(a.s, &sum);
    packrig_well(&past, a.s, "packed with an index made anew");
    packrig_close(&a);
    a.opt.writable = false;
    packrig_open(&a);
    packrig_well(&past, a.s, "read-only");
    ck_assert_int_lt(packrig_try(a.s, &sum, &(struct err){ 0 }), 0);
    ts_free(&a);
}

START_TEST(random_work_reads_the_same_wherever_it_is)
{
    random_work(1000 + (uint64_t)_i, _i % 2 ? 64 << 10 : 16 << 10, _i % 3 == 0 ? 2500000 : 0);
}
END_TEST

/* ---- cut off ---- */

static struct teststore at_rest;             /* closed; what is done is done to copies */

static void rest(uint64_t seed)
{
    packrig_start(&a, &past, seed, SEGMENT);
    past_work(&a, &past, 25, 5);
    packrig_pack(a.s, &sum);
    past_work(&a, &past, 30, 5);
    packrig_close(&a);
    at_rest = a;
}

static void copy_store(struct teststore *t)
{
    *t = at_rest;
    t->sim = simio_clone(at_rest.sim);
    t->disk = kv_twin_disk_clone(at_rest.disk);
    packrig_open(t);
}

static void no_copy(struct teststore *t)
{
    store_drop(t->s);
    simio_free(t->sim);
    kv_twin_disk_free(t->disk);
}

static void no_rest(void)
{
    kv_twin_disk_free(at_rest.disk);
    simio_free(at_rest.sim);
}

/* Cut at the n-th call; true: it was reached. */
static bool cut_once(uint64_t n, int mode, bool more)
{
    struct teststore t;
    struct past p = past;
    bool dead;

    copy_store(&t);
    if (more)                                /* not durable yet when it begins */
        past_work(&t, &p, 6, 100);
    simio_cut_at(t.sim, n);
    (void)packrig_try(t.s, &sum, &(struct err){ 0 });
    dead = simio_dead(t.sim);
    store_drop(t.s);
    if (mode == SIMIO_N_CUT_MODES)
        simio_kill(t.sim);
    else
        simio_cut(t.sim, n * 31 + (uint64_t)mode, (enum simio_cut_mode)mode);
    if (n % 5 == 0) {                        /* and the index is gone, too */
        kv_twin_disk_free(t.disk);
        t.disk = kv_twin_disk_new();
    }
    packrig_open(&t);
    packrig_well(&past, t.s, "cut off while it was packed");
    if (n % 3 == 0)
        past_work(&t, &p, 5, 100);
    packrig_pack(t.s, &sum);
    packrig_well(&past, t.s, "cut off, then packed");
    if (n % 4 == 0)
        packrig_without_index(&t);
    else
        ts_reopen(&t, n % 4 == 1);
    packrig_well(&past, t.s, "cut off, packed, and opened again");
    no_copy(&t);
    return dead;
}

START_TEST(cut_off_at_any_call_it_goes_on)
{
    unsigned n = 1;

    rest(77 + (uint64_t)_i);
    while (cut_once(n, _i, _i % 2 == 1))
        n++;
    ck_assert_uint_gt(n, 30);
    no_rest();
}
END_TEST

/* What is there after a kill may not have its name for good: nothing is let go of on its word. */
START_TEST(killed_then_let_go_of_then_cut)
{
    bool dead = true;

    rest(78);
    for (unsigned n = 1; dead; n++) {
        struct teststore t;

        copy_store(&t);
        simio_cut_at(t.sim, n);
        (void)packrig_try(t.s, &sum, &(struct err){ 0 });
        dead = simio_dead(t.sim);
        store_drop(t.s);
        simio_kill(t.sim);
        packrig_open(&t);
        (void)packer_step(t.s, NULL, packs_end(store_packs(t.s)), NULL, &(struct err){ 0 });
        store_drop(t.s);
        simio_cut(t.sim, n, n % 2 ? SIMIO_CUT_DROP_ALL : SIMIO_CUT_RANDOM);
        packrig_open(&t);
        packrig_well(&past, t.s, "killed, let go of, cut");
        packrig_pack(t.s, &sum);
        packrig_well(&past, t.s, "killed, let go of, cut, packed");
        no_copy(&t);
    }
    no_rest();
}
END_TEST

/* Cut off again and again: each time somewhat later. */
START_TEST(cut_off_many_times_it_ends)
{
    struct teststore t;
    struct past p;

    rest(5);
    p = past;
    copy_store(&t);
    for (uint64_t n = 1; n < 60; n++) {
        simio_cut_at(t.sim, 3 + n * 17 % 50);
        (void)packrig_try(t.s, &sum, &(struct err){ 0 });
        store_drop(t.s);
        simio_cut(t.sim, n, SIMIO_CUT_RANDOM);
        packrig_open(&t);
        if (n % 4 == 0)
            past_work(&t, &p, 3, 100);
        if (n % 10 == 0)
            packrig_well(&past, t.s, "cut off many times");
    }
    packrig_pack(t.s, &sum);
    packrig_well(&past, t.s, "cut off many times, then packed");
    packrig_without_index(&t);
    packrig_well(&past, t.s, "and the index made anew");
    no_copy(&t);
    no_rest();
}
END_TEST

/* ---- calls that fail ---- */

static bool fail_once(uint64_t n, enum simio_call kind, int code, bool forever, unsigned *poisoned)
{
    struct teststore t;
    struct err err = { 0 };
    uint64_t before;
    bool reached;
    int rc;

    copy_store(&t);
    before = simio_calls(t.sim, kind);
    if (forever)
        simio_fail_from(t.sim, kind, n, code);
    else
        simio_fail_at(t.sim, kind, n, code);
    rc = packrig_try(t.s, &sum, &err);
    reached = simio_calls(t.sim, kind) - before >= n;
    simio_fail_clear(t.sim);
    ck_assert_msg(rc == 0 || err.code == rc, "%s, but said %s: %s", err_name(rc), err_name(err.code), err.msg);
    ck_assert_msg(rc < 0 || !forever || !reached || kind == SIMIO_ANY, "call %lu failed, and all after it; packing said success", (unsigned long)n);
    packrig_well(&past, t.s, "a call failed");
    if (log_poisoned(store_log(t.s))) {      /* a segment's name, or a sync of the log: the worker leaves, as ever */
        ++*poisoned;
        store_drop(t.s);
        simio_kill(t.sim);
        packrig_open(&t);
        packrig_well(&past, t.s, "a call failed; opened again");
    }
    packrig_pack(t.s, &sum);                               /* in the same process */
    packrig_well(&past, t.s, "a call failed, then packed");
    ts_reopen(&t, true);
    packrig_well(&past, t.s, "a call failed, then packed, then cut");
    if (n % 4 == 0) {
        packrig_without_index(&t);
        packrig_well(&past, t.s, "a call failed, then packed, and the index made anew");
    }
    no_copy(&t);
    return reached;
}

static const struct { enum simio_call kind; int code; bool forever; } faults[] = {
    { SIMIO_MUTATING, ERR_IO, false }, { SIMIO_MUTATING, ERR_NOSPC, true }, { SIMIO_SYNCDIR, ERR_IO, true },
    { SIMIO_UNLINK, ERR_IO, false }, { SIMIO_PREAD, ERR_IO, false }, { SIMIO_FDATASYNC, ERR_IO, false }, { SIMIO_RENAME, ERR_IO, false },
};

START_TEST(whichever_call_fails_nothing_is_lost)
{
    unsigned n = 1, poisoned = 0;

    rest(177);
    while (fail_once(n, faults[_i].kind, faults[_i].code, faults[_i].forever, &poisoned))
        n++;
    ck_assert_uint_gt(n, 3);
    no_rest();
}
END_TEST

static int stop_soon(void *arg)
{
    return --*(int *)arg < 0;
}

START_TEST(told_to_stop_it_has_done_nothing_wrong)
{
    struct err err = { 0 };

    packrig_start(&a, &past, 9, SEGMENT);
    past_work(&a, &past, 40, 5);
    for (int left, n = 0; n < 30; n++) {
        int rc;

        left = n;
        rc = upkeep_pack(a.s, NULL, stop_soon, &left, NULL, &err);
        ck_assert_msg(rc == 0 || rc == ERR_BUSY, "%s", err.msg);
        past_work(&a, &past, 2, 2);
    }
    packrig_pack(a.s, &sum);
    packrig_well(&past, a.s, "stopped many times");
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
    const char *many = getenv("SPARE_SEEDS");
    Suite *s = suite_create("packer");
    TCase *t = tcase(s, "same");
    SRunner *sr;
    int failed;

    tcase_add_loop_test(t, random_work_reads_the_same_wherever_it_is, 0, many != NULL ? atoi(many) : 4);
    tcase_add_test(t, told_to_stop_it_has_done_nothing_wrong);
    t = tcase(s, "cut");
    tcase_add_loop_test(t, cut_off_at_any_call_it_goes_on, 0, SIMIO_N_CUT_MODES + 1);
    tcase_add_test(t, cut_off_many_times_it_ends);
    tcase_add_test(t, killed_then_let_go_of_then_cut);
    t = tcase(s, "fail");
    tcase_add_loop_test(t, whichever_call_fails_nothing_is_lost, 0, (int)(sizeof faults / sizeof *faults));
    sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed != 0;
}
