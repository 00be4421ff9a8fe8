/*
 * check_rewind: a primary of before goes back to where it parts from the one that took over: it follows, what it had beyond is a branch, and every byte of both reads
 * back; whether packed or not; cut off at any call.
 */
#include "store/core/branch.h"
#include "store/core/role.h"
#include "tests/lib/packrig.h"
#include "tests/lib/parted.h"

#include <check.h>
#include <stdio.h>

static struct parted p;

START_TEST(it_goes_back_and_follows)
{
    struct rewind r;
    struct err err = { 0 };

    parted_make(&p, _i);                 /* packed or not: before, behind, there */
    ck_assert(rewind_worth_keeping(p.a.s, p.at));
    ck_assert(!rewind_worth_keeping(p.a.s, p.end));
    r = parted_fork(&p.b, p.at);
    r.keep = true;
    packrig_close(&p.a);
    ck_assert_msg(store_rewind(simio_io(p.a.sim), NULL, &r, &err) == 0, "%s", err.msg);
    ck_assert_str_ne(r.branch, "");
    parted_branch_is_whole(&p, r.branch);
    parted_reindex(&p.a);
    parted_is_back(&p);
    for (int i = 0; i < 3; i++) {
        ck_assert_msg(twosites_send(&p.b, &p.a, &err) == 0, "%s", err.msg);
        parted_is_followed(&p.a);
        ts_save(&p.b, "more", i ? "again" : "once");
        if (i == 1) {                    /* the index made anew of what is left of both timelines */
            parted_pack(&p.a);
            ts_reopen(&p.a, false);
            packrig_without_index(&p.a);
        }
    }
    parted_branch_is_whole(&p, r.branch);
    /* the way back: who followed is promoted again, and the other way round */
    ck_assert_int_eq(store_demote(p.b.s, &err), 0);
    ck_assert_msg(twosites_send(&p.b, &p.a, &err) == 0, "%s", err.msg);
    ck_assert_msg(store_promote(p.a.s, "switched back", false, &err) == 0, "%s", err.msg);
    ts_save(&p.a, "both3", "back home");
    ck_assert_msg(twosites_send(&p.a, &p.b, &err) == 0, "%s", err.msg);
    ts_is(&p.b, "both3", "back home");
    parted_is_followed(&p.b);
    parted_free(&p);
}
END_TEST

START_TEST(nothing_worth_keeping_makes_no_branch)
{
    struct rewind r;
    struct err err = { 0 };
    struct io_stat st;

    twosites_both(&p.a, &p.b);
    ck_assert_int_eq(store_mounted(p.a.s, 5, true, "/mnt", &err), 0);
    ck_assert_int_eq(store_promote(p.b.s, "x", false, &err), 0);
    p.at = twosites_super(p.b.s)->epochs[1].first_lsn;
    ck_assert_int_eq(store_demote(p.a.s, &err), 0);
    ck_assert(!rewind_worth_keeping(p.a.s, p.at));
    r = parted_fork(&p.b, p.at);
    parted_go_back(&p.a, &r);
    ck_assert_str_eq(r.branch, "");
    ck_assert_int_eq(io_stat_path(simio_io(p.a.sim), "branches", &st, NULL), ERR_NOENT);
    ck_assert_msg(twosites_send(&p.b, &p.a, &err) == 0, "%s", err.msg);
    ts_is(&p.a, "one", "one");
    parted_free(&p);
}
END_TEST

/* By a power cut: the store is that of before, or has gone back; another try ends it; and there is one branch. */
START_TEST(cut_off_at_any_call)
{
    const int how = _i % 2 ? PARTED_PACKED | PARTED_PACKED_BEFORE | PARTED_OTHER_PACKED : 0;

    for (unsigned n = 1; !parted_cut_off(how, n, _i < 2 ? SIMIO_CUT_DROP_ALL : SIMIO_CUT_RANDOM); n++)
        ck_assert_uint_lt(n, 400);
}
END_TEST

/* What was packed holds both sides of the fork: nothing is done, and it is made anew instead (check_anew). */
START_TEST(refused_where_nothing_is_left_to_go_back_with)
{
    struct rewind r;
    struct err err = { 0 };

    parted_make(&p, PARTED_PACKED | PARTED_FORGOTTEN);
    r = parted_fork(&p.b, p.at);
    r.keep = true;
    packrig_close(&p.a);
    ck_assert_int_eq(store_rewind(simio_io(p.a.sim), NULL, &r, &err), ERR_BOOTSTRAP);
    r.at = p.end;
    ck_assert_int_eq(store_rewind(simio_io(p.a.sim), NULL, &r, &err), ERR_INVAL);
    packrig_open(&p.a);
    ts_is(&p.a, "mine", "was never shipped");
    parted_free(&p);
}
END_TEST

static int count_one(void *arg, const char *name)
{
    (void)name;
    ++*(unsigned *)arg;
    return 0;
}

/* A branch that goes, as the power does, or the disk fails, at the n-th call: it is whole, or none; another try ends it, by the same name. Not while somebody has it. */
START_TEST(a_branch_that_goes_is_whole_or_none)
{
    struct simio *whole;
    struct rewind r;
    struct err err = { 0 };
    struct io_file *lock;
    char path[160];
    bool done = false;

    parted_make(&p, PARTED_PACKED | PARTED_PACKED_BEFORE);
    r = parted_fork(&p.b, p.at);
    r.keep = true;
    parted_go_back(&p.a, &r);
    packrig_close(&p.a);
    whole = p.a.sim;
    snprintf(path, sizeof path, "branches/%s/lock", r.branch);
    ck_assert_int_eq(io_lock(simio_io(whole), path, &lock, &err), 0);
    ck_assert_int_eq(store_branch_remove(simio_io(whole), r.branch, &err), ERR_LOCKED);
    io_close(lock);
    ck_assert_int_eq(store_branch_remove(simio_io(whole), "nosuch", &err), ERR_NOENT);
    for (unsigned n = 1; !done; n++) {
        unsigned left = 0;
        int rc;

        p.a.sim = simio_clone(whole);
        if (_i == 0)
            simio_cut_at(p.a.sim, n);
        else
            simio_fail_at(p.a.sim, SIMIO_MUTATING, n, ERR_IO);
        rc = store_branch_remove(simio_io(p.a.sim), r.branch, &err);
        done = rc == 0 && !simio_dead(p.a.sim);
        ck_assert(done || err.msg[0] != '\0');
        simio_fail_clear(p.a.sim);
        if (_i == 0)
            simio_cut(p.a.sim, n, n % 2 ? SIMIO_CUT_DROP_ALL : SIMIO_CUT_RANDOM);
        snprintf(path, sizeof path, "branches/%s", r.branch);
        if (io_there(simio_io(p.a.sim), path, &err) == 1)
            parted_branch_is_whole(&p, r.branch);
        rc = store_branch_remove(simio_io(p.a.sim), r.branch, &err);
        ck_assert_msg(rc == (done ? ERR_NOENT : 0) || rc == ERR_NOENT, "call %u: %s", n, err.msg);
        ck_assert_int_eq(io_list(simio_io(p.a.sim), "branches", count_one, &left, &err), 0);
        ck_assert_uint_eq(left, 0);
        simio_free(p.a.sim);
        ck_assert_uint_lt(n, 100);
    }
    p.a.sim = whole;
    packrig_open(&p.a);
    parted_free(&p);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("rewind");
    TCase *t = tcase_create("rewind"), *c = tcase_create("cut");
    SRunner *sr = srunner_create(s);
    int failed;

    tcase_set_timeout(t, 60);
    tcase_set_timeout(c, 300);
    tcase_add_loop_test(t, it_goes_back_and_follows, 0, PARTED_PACKED + PARTED_PACKED_BEFORE + PARTED_OTHER_PACKED + 1);
    tcase_add_test(t, nothing_worth_keeping_makes_no_branch);
    tcase_add_test(t, refused_where_nothing_is_left_to_go_back_with);
    tcase_add_loop_test(c, a_branch_that_goes_is_whole_or_none, 0, 2);
    tcase_add_loop_test(c, cut_off_at_any_call, 0, 4);
    suite_add_tcase(s, t);
    suite_add_tcase(s, c);
    srunner_run_all(sr, CK_ENV);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed != 0;
}
