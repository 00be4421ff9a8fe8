/*
 * check_anew: a standby that cannot go on from what it has is made anew beside itself, and takes its own place: it follows, what it had is a branch with all of its moments, also where it was
 * cut off at any call.
 */
#include "store/core/anew.h"
#include "store/core/branch.h"
#include "store/core/restore.h"
#include "store/core/retain.h"
#include "store/core/role.h"
#include "store/core/standby.h"
#include "store/core/version.h"
#include "store/maint/reclaim.h"
#include "store/maint/upkeep.h"
#include "store/pack/history.h"
#include "tests/lib/packrig.h"
#include "tests/lib/subio.h"
#include "tests/lib/twosites.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static struct teststore a, b;                    /* who sends, who cannot go on */
static struct past past;                         /* of the store that both were once */
static uint64_t both_end, both_of;

static void pack(struct teststore *t)
{
    struct err err = { 0 };

    ck_assert_msg(upkeep_pack(t->s, NULL, NULL, NULL, NULL, &err) == 0, "%s", err.msg);
}

/* Of what was before only the present stays in ${t}, which has what ${src} does (itself, or a standby); ${base}: and records of before are in a base. */
static void forget_of(struct teststore *src, struct teststore *t, bool base)
{
    static const char *const keep[] = { "keep-all", "min-age", "reclaim-grace", "keep-hourly", "keep-daily", "keep-weekly", "keep-monthly", "keep-yearly" };
    const struct reclaim_options opt = { .now = true, .sweep = true, .base = base };
    struct err err = { 0 };

    for (size_t i = 0; i < sizeof keep / sizeof *keep; i++)
        ck_assert_int_eq(store_config_set(t->s, keep[i], "0", NULL), 0);
    for (int i = 0; i < 3; i++) {
        ts_step(src, 1000);
        ts_save(src, "one more", "so that there is something behind it");
        if (src != t) {
            ck_assert_msg(twosites_send(src, t, &err) == 0, "%s", err.msg);
            ts_step(t, 1000);
        }
        pack(t);
    }
    ck_assert_msg(reclaim(t->s, &opt, NULL, &err) == 0, "%s", err.msg);
}

static void forget(struct teststore *t, bool base)
{
    forget_of(t, t, base);
}

static void forget_past(struct teststore *t)
{
    forget(t, true);
    ck_assert_uint_gt(history_first(store_history(t->s)), LOG_FIRST_ADDR);
}

static void both_work(void)
{
    packrig_start(&a, &past, 11, 16 << 10);
    past_work(&a, &past, 20, 6);
    twosites_standby(&a, &b);
    twosites_ship(&a, &b, NULL);
    both_end = log_head(store_log(b.s));
}

/* The sender went on, and let go of what the standby lacks. */
static void fell_behind(void)
{
    both_work();
    past_work(&a, &past, 10, 6);
    forget_past(&a);
    ts_save(&a, "last", "words");
}

static void the_other_takes_over(void)
{
    struct teststore t;
    struct err err = { 0 };

    ck_assert_msg(store_promote(b.s, "a was gone", false, &err) == 0, "%s", err.msg);
    ts_save(&b, "last", "words");
    ck_assert_int_eq(store_demote(a.s, &err), 0);
    t = a;                               /* from here on ${a} sends */
    a = b;
    b = t;
    ck_assert_int_eq(store_close(b.s, &err), 0);
    b.opt.threads = true;
    b.opt.kv = NULL;
    ck_assert_int_eq(kv_twin_open(b.disk, &b.opt.kv, &err), 0);
    ck_assert_msg(store_open(simio_io(b.sim), NULL, &b.opt, &b.s, NULL, &err) == 0, "%s", err.msg);
}

/* The one was primary, went on and let go of the place where they part; the other took over. */
static void cannot_go_back(void)
{
    both_work();
    ts_save(&a, "unshipped", "of the primary of before");
    forget_past(&a);
    the_other_takes_over();
}

/* It kept that place, its horizon one below the next record, for as long as the other one was waited for; then it packed both sides in one file. */
static void packed_across(void)
{
    struct standby was;
    struct err err = { 0 };

    both_work();
    twosites_wait_for(&a, &b);
    ts_save(&a, "unshipped", "of the primary of before");
    forget(&a, false);
    ck_assert(standby_get(a.s, 0, &was));
    ck_assert_msg(standby_forget(a.s, was.target, &err) == 0, "%s", err.msg);
    pack(&a);
    the_other_takes_over();
}

static void fresh_index(struct teststore *t)
{
    kv_twin_disk_free(t->disk);
    t->disk = kv_twin_disk_new();
}

static void open_it(struct teststore *t)
{
    struct err err = { 0 };

    t->opt.kv = NULL;
    ck_assert_int_eq(kv_twin_open(t->disk, &t->opt.kv, &err), 0);
    ck_assert_msg(store_open(simio_io(t->sim), NULL, &t->opt, &t->s, NULL, &err) == 0, "%s", err.msg);
}

/* Where they parted: the last moment of both that is whole there. */
static void parted_there(struct io *io)
{
    struct super *sb = malloc(sizeof *sb);
    struct retained r = { 0 };
    char text[24] = "";
    uint64_t lsn, to;
    struct err err = { 0 };

    ck_assert_msg(super_read(io, sb, NULL, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(retained_read(io, sb->lineage, NULL, &r, NULL, &err), 0);
    lsn = super_config_get(sb, BRANCH_PARTED, text, sizeof text) > 0 ? strtoull(text, NULL, 10) : 0;
    to = r.horizon < both_end ? both_end : 0;
    for (uint32_t i = 0; i < r.n; i++)
        to = r.point[i].lsn < both_end && r.point[i].lsn >= to ? r.point[i].lsn + 1 : to;
    ck_assert_msg(to == 0 ? lsn == 0 : lsn < both_end && lsn >= (to == both_end ? r.horizon : to - 1), "horizon @%lu, both have up to @%lu: parted @%lu", (unsigned long)r.horizon, (unsigned long)both_end, (unsigned long)lsn);
    retained_release(&r);
    free(sb);
}

/* Whatever both had once is in the branch, moment for moment; so is what the primary of before had beyond. */
static void branch_is_whole(const char *name)
{
    struct store_options opt = { 0 };
    struct kv_twin_disk *disk = kv_twin_disk_new();
    struct store *s = NULL;
    struct err err = { 0 };
    char dir[256];
    struct row_ino row;
    struct io *io;
    uint64_t ino, digest;
    unsigned n = 0;

    snprintf(dir, sizeof dir, "branches/%s", name);
    io = subio_new(simio_io(b.sim), dir);
    parted_there(io);
    ck_assert_int_eq(kv_twin_open(disk, &opt.kv, &err), 0);
    ck_assert_msg(store_open(io, NULL, &opt, &s, NULL, &err) == 0, "%s", err.msg);
    for (unsigned i = 0; i < past.n; i++) {
        if (past.m[i].lsn >= both_end || !store_lists(s, past.m[i].lsn))
            continue;
        ck_assert_msg(past_try(s, past.m[i].lsn, &digest) == 0 && digest == past.m[i].digest, "@%lu is not what it was", (unsigned long)past.m[i].lsn);
        n++;
    }
    ck_assert(n > 0 || store_walk(s, AT_LIVE, "unshipped", &ino, &row, NULL) == 0);
    store_drop(s);
    kv_twin_disk_free(disk);
    io->ops->free(io);
}

static void same_tree(void)
{
    uint64_t x = 0, y = 0;

    ck_assert_int_eq(store_apply(a.s, NULL), 0);
    ck_assert_int_eq(past_try(a.s, ts_last(&a), &x), 0);
    ck_assert_int_eq(past_try(b.s, ts_last(&a), &y), 0);
    ck_assert_uint_eq(x, y);
    ts_is(&b, "last", "words");
    ts_is(&b, "unshipped", NULL);
}

static void neither(void)
{
    ts_free(&a);
    ts_free(&b);
}

static void sent(void)
{
    struct twosites_end end;
    struct err err = { 0 };

    ck_assert_msg(twosites_ship(&a, &b, &end) == ERR_AWAY, "%s / %s", end.ship_err.msg, end.receive_err.msg);
    ck_assert_msg(end.rewind.anew, "%s / %s", end.ship_err.msg, end.receive_err.msg);
    both_of = end.rewind.last_lsn;
    ck_assert_int_eq(store_close(b.s, &err), 0);
}

START_TEST(it_takes_its_own_place)
{
    char name[BRANCH_NAME_MAX];
    uint8_t site[16];
    struct io_stat st;
    struct err err = { 0 };

    if (_i == 0)
        fell_behind();
    else if (_i == 1)
        cannot_go_back();
    else
        packed_across();
    memcpy(site, twosites_super(b.s)->site, 16);
    ck_assert_int_eq(store_config_set(b.s, "keep-all", "9d", NULL), 0);
    sent();
    ck_assert_msg(store_anew(simio_io(b.sim), NULL, both_of, name, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(io_stat_path(simio_io(b.sim), ANEW_DIR, &st, NULL), ERR_NOENT);
    fresh_index(&b);
    open_it(&b);
    branch_is_whole(name);
    twosites_ship(&a, &b, NULL);
    same_tree();
    ck_assert_mem_eq(twosites_super(b.s)->site, site, 16);
    char buf[32];
    ck_assert_int_gt(store_config_get(b.s, "keep-all", buf, sizeof buf), 0);
    ck_assert_str_eq(buf, "9d");
    ts_save(&a, "last", "but not least");
    ts_save(&a, "last", "words");
    twosites_ship(&a, &b, NULL);
    same_tree();
    ts_reopen(&b, true);
    same_tree();
    branch_is_whole(name);
    neither();
}
END_TEST

static uint64_t horizon_of(struct store *s)
{
    struct retained r = { 0 };
    uint64_t horizon;

    ck_assert_int_eq(store_retained(s, &r, NULL), 0);
    horizon = r.horizon;
    retained_release(&r);
    return horizon;
}

/* What the next record ended is of the moment that a standby has, and stays with it. */
START_TEST(the_moment_of_a_standby_is_kept)
{
    both_work();
    twosites_wait_for(&a, &b);
    ts_save(&a, "next", "the first that it lacks");
    forget(&a, false);
    ck_assert_uint_eq(horizon_of(a.s), both_end - 1);
    neither();
}
END_TEST

/* Another one that is away has a place in the middle of a segment, the horizon is there, and files reach to that segment only: said, and not listed for ever. */
START_TEST(files_that_end_below_the_horizon_are_an_error)
{
    struct standby away = { .target = "away", .site = { 1 } };
    struct twosites_end end;
    struct err err = { 0 };

    fell_behind();
    ts_save(&a, "more", "in the segment");
    away.acked = log_head(store_log(a.s));
    ck_assert_int_eq(standby_note(a.s, &away, &err), 0);
    forget(&a, false);
    ck_assert_uint_eq(horizon_of(a.s), away.acked - 1);
    ck_assert_msg(twosites_ship(&a, &b, &end) == ERR_BUSY, "%s", end.ship_err.msg);
    ck_assert_ptr_nonnull(strstr(end.ship_err.msg, "remove it from the list of standbys"));
    neither();
}
END_TEST

/*
 * What ${a} did behind the end of both was shipped; then its machine was set back to an image (${image}), did other things, and got as far, in an epoch of its own that begins behind what the
 * standby has: epochs do not say where they part. ${forgetful}: the standby keeps nothing of before its end. ${fill}: how long the name is of what it does, so that the last record of the standby falls anywhere into one of its own.
 */
static struct teststore image;
static void set_back(unsigned fill, bool forgetful)
{
    struct err err = { 0 };
    char name[240] = "";

    both_work();
    ts_save(&a, "two", "both");
    twosites_ship(&a, &b, NULL);
    both_end = log_head(store_log(b.s));
    packrig_close(&a);
    image = a;
    image.sim = simio_clone(a.sim);
    image.disk = kv_twin_disk_new();
    packrig_open(&image);
    packrig_open(&a);
    ts_step(&image, 1000);               /* else the first record is the same */
    ts_save(&a, "two", "ours");
    ts_save(&a, "unshipped", "by the image");
    ck_assert_msg(twosites_send(&a, &b, &err) == 0, "%s", err.msg);
    if (forgetful)
        forget_of(&a, &b, false);
    memset(name, 'f', fill);
    ts_save(&image, "two", "else");
    while (log_head(store_log(image.s)) <= log_head(store_log(b.s)))
        ts_save(&image, name, "so that it gets as far");
    ck_assert_int_eq(store_demote(image.s, &err), 0);
    ck_assert_msg(store_promote(image.s, "x", false, &err) == 0, "%s", err.msg);
    ts_save(&image, "last", "words");
}

/* Where ${a} is forgotten, and ${b} is what was made anew: what differs is brought back out of the branch, which says where both were the same. */
static void differs_in_the_branch(const char *name, bool forgetful)
{
    struct store_options opt = { .unlocked = true };
    struct kv_twin_disk *disk = kv_twin_disk_new();
    struct super *sb = malloc(sizeof *sb);
    struct restore_stats st = { 0 };
    struct store *s = NULL;
    struct err err = { 0 };
    char dir[256], text[24] = "";
    unsigned failed = 0;
    struct io *io;
    int rc = -1;

    snprintf(dir, sizeof dir, "branches/%s", name);
    io = subio_new(simio_io(b.sim), dir);
    ck_assert_int_eq(super_read(io, sb, NULL, &err), 0);
    (void)super_config_get(sb, BRANCH_PARTED, text, sizeof text);
    ck_assert_int_eq(kv_twin_open(disk, &opt.kv, &err), 0);
    ck_assert_msg(store_open(io, NULL, &opt, &s, NULL, &err) == 0, "%s", err.msg);
    for (unsigned n = 1; rc < 0; n++) {  /* it cannot be read: the file stays what it was */
        ts_is(&b, "two", "else");
        simio_fail_at(b.sim, SIMIO_PREAD, n, ERR_IO);
        rc = restore_branch(b.s, &b.who, s, strtoull(text, NULL, 10), "two", "two", false, NULL, NULL, &st, &err);
        simio_fail_clear(b.sim);
        ck_assert_uint_lt(n, 50);
        failed += rc < 0;
    }
    ck_assert(failed > 0 || forgetful);    /* (what was packed is read once) */
    ck_assert_uint_eq(st.unchanged, 0);
    ts_is(&b, "two", "ours");
    store_drop(s);
    kv_twin_disk_free(disk);
    io->ops->free(io);
    free(sb);
}

/* Wherever in a record of the sender's the standby ends, it parts from it; where it went on past its horizon it is made anew, and its branch says no more to be of both than is. */
START_TEST(set_back_to_an_image_it_parts_below_its_epoch)
{
    struct twosites_end end;
    struct err err = { 0 };
    char name[BRANCH_NAME_MAX];
    int rc;

    set_back(1 + (unsigned)_i * 8, _i % 2);
    rc = twosites_ship(&image, &b, &end);
    ck_assert_msg(rc == ERR_AWAY, "%d: %s / %s", rc, end.ship_err.msg, end.receive_err.msg);
    both_of = end.rewind.last_lsn;
    ck_assert_int_eq(store_close(b.s, &err), 0);
    if (end.rewind.anew) {
        ck_assert_msg(store_anew(simio_io(b.sim), NULL, both_of, name, &err) == 0, "%s", err.msg);
    } else {
        ck_assert_uint_eq(end.rewind.at, both_end);
        ck_assert_msg(store_rewind(simio_io(b.sim), NULL, &end.rewind, &err) == 0, "%s", err.msg);
        snprintf(name, sizeof name, "%s", end.rewind.branch);
    }
    fresh_index(&b);
    open_it(&b);
    branch_is_whole(name);
    twosites_ship(&image, &b, NULL);
    ck_assert_int_eq(store_demote(image.s, &err), 0);
    ck_assert_msg(store_promote(b.s, "y", false, &err) == 0, "%s", err.msg);
    differs_in_the_branch(name, _i % 2);
    ts_free(&image);
    neither();
}
END_TEST

struct counted { unsigned n; char name[BRANCH_NAME_MAX]; };
static int count_one(void *arg, const char *name)
{
    struct counted *c = arg;

    if (strstr(name, ".part") == NULL) {
        c->n++;
        snprintf(c->name, sizeof c->name, "%s", name);
    }
    return 0;
}

/* One that is whole and was not taken goes, for another: cut off there, what is left is no beginning that has a log. */
START_TEST(a_whole_one_goes_cut_off_at_any_call)
{
    bool done = false;

    for (unsigned n = 1; !done; n++) {
        struct err err = { 0 };
        struct io_stat st;

        fell_behind();
        sent();
        simio_cut_at(b.sim, n);
        done = anew_begin(simio_io(b.sim), &err) == 0 && !simio_dead(b.sim);
        simio_cut_at(b.sim, 0);
        if (!done)
            simio_cut(b.sim, n, SIMIO_CUT_RANDOM);
        ck_assert_msg(anew_begin(simio_io(b.sim), &err) == 0, "call %u: %s", n, err.msg);
        ck_assert_int_eq(io_stat_path(simio_io(b.sim), ANEW_DIR "/log", &st, NULL), ERR_NOENT);
        open_it(&b);
        neither();
    }
}
END_TEST

START_TEST(cut_off_at_any_call)
{
    bool done = false;

    for (unsigned n = 1; !done; n++) {
        struct counted c = { 0 };
        char name[BRANCH_NAME_MAX];
        struct err err = { 0 };
        uint64_t before;
        int rc;

        fell_behind();
        before = log_head(store_log(b.s));
        sent();
        simio_cut_at(b.sim, n);
        rc = store_anew(simio_io(b.sim), NULL, both_of, name, &err);
        done = rc == 0 && !simio_dead(b.sim);
        simio_cut_at(b.sim, 0);
        if (!done)
            simio_cut(b.sim, n, _i == 0 ? SIMIO_CUT_DROP_ALL : SIMIO_CUT_RANDOM);
        fresh_index(&b);
        open_it(&b);
        if (log_head(store_log(b.s)) == before) {        /* as before: again */
            sent();
            ck_assert_msg(store_anew(simio_io(b.sim), NULL, both_of, name, &err) == 0, "call %u: %s", n, err.msg);
            fresh_index(&b);
            open_it(&b);
        }
        twosites_ship(&a, &b, NULL);
        same_tree();
        ck_assert_int_eq(io_list(simio_io(b.sim), "branches", count_one, &c, &err), 0);
        ck_assert_uint_eq(c.n, 1);
        branch_is_whole(c.name);
        neither();
        ck_assert_uint_lt(n, 600);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("anew");
    TCase *t = tcase_create("anew"), *c = tcase_create("cut");
    SRunner *sr = srunner_create(s);
    int failed;

    tcase_set_timeout(t, 60);
    tcase_set_timeout(c, 300);
    tcase_add_loop_test(t, it_takes_its_own_place, 0, 3);
    tcase_add_loop_test(t, set_back_to_an_image_it_parts_below_its_epoch, 0, 12);
    tcase_add_test(c, a_whole_one_goes_cut_off_at_any_call);
    tcase_add_test(t, the_moment_of_a_standby_is_kept);
    tcase_add_test(t, files_that_end_below_the_horizon_are_an_error);
    tcase_add_loop_test(c, cut_off_at_any_call, 0, 2);
    suite_add_tcase(s, t);
    suite_add_tcase(s, c);
    srunner_run_all(sr, CK_ENV);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed != 0;
}
