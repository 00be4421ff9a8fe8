/*
 * check_rewind: a primary of before goes back to where it parts from the one that took over: it follows, what it had beyond is a branch, and every byte of both reads
 * back; whether packed or not; cut off at any call.
 */
#include "store/core/moment.h"
#include "store/core/rewind.h"
#include "store/core/role.h"
#include "store/core/standby.h"
#include "store/core/version.h"
#include "store/log/frame.h"
#include "store/maint/upkeep.h"
#include "store/pack/history.h"
#include "tests/lib/subio.h"
#include "tests/lib/twosites.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static struct teststore a, b;                    /* who was primary, who took over */
static uint64_t fork_at, tail_end;
static struct epoch_row next;

/* Everything the one has and the other has not, wherever it is. */
static int send_all(struct teststore *from, struct teststore *to, struct err *err)
{
    struct history_iter *it = NULL;
    struct record rec;
    const uint8_t *head;
    uint8_t *buf = malloc(1 << 21);
    int rc = 0;

    ck_assert_int_eq(store_sync(from->s, NULL), 0);
    ck_assert_int_eq(history_iter_new(store_history(from->s), log_head(store_log(to->s)), UINT64_MAX, &it, NULL), 0);
    while (rc == 0 && history_next(it, &rec, &head, err) == 1) {
        memcpy(buf, head, rec.head_len);
        if (rec.data_len > 0)
            rc = store_read_data(from->s, rec.lsn, record_dstart(rec.head_len), 0, rec.data_len, buf + rec.head_len, false, err);
        if (rc == 0)
            rc = store_follow(to->s, buf, (size_t)rec.head_len + rec.data_len, err);
    }
    history_iter_free(it);
    free(buf);
    return rc < 0 ? rc : store_sync(to->s, err);
}

static void pack(struct teststore *t)
{
    struct err err = { 0 };

    ck_assert_msg(upkeep_pack(t->s, NULL, NULL, NULL, NULL, &err) == 0, "%s", err.msg);
}

/* The other one is a standby of it, so that nothing leaves the log which that one has not got; but not where ${forgotten}. */
static void waited_for(bool forgotten)
{
    struct standby b_of_a = { .target = "/b", .acked = log_head(store_log(b.s)), .heard_s = 1 };

    memcpy(b_of_a.site, twosites_info(b.s)->super.site, 16);
    if (!forgotten)
        ck_assert_int_eq(standby_note(a.s, &b_of_a, NULL), 0);
}

/* ${packed} bit 0: the primary of before packed all it had, past the fork; bit 1: before the fork, too; bit 2: the other one has packed; bit 3: it is no standby of the other any more. */
static void apart(int packed)
{
    struct err err = { 0 };
    char name[16];

    ts_new(&a, "UTC");
    for (int i = 0; i < 5; i++) {
        snprintf(name, sizeof name, "both%d", i);
        ts_save(&a, name, "of both");
    }
    if (packed & 2)
        pack(&a);
    ts_save(&a, "later", "of both, in the log");
    twosites_standby(&a, &b);
    ck_assert_msg(send_all(&a, &b, &err) == 0, "%s", err.msg);
    waited_for(packed & 8);
    ts_save(&a, "both1", "changed there alone");
    ts_save(&a, "mine", "was never shipped");
    ck_assert_int_eq(store_sync(a.s, NULL), 0);
    ck_assert_msg(store_promote(b.s, "a was gone", false, &err) == 0, "%s", err.msg);
    ts_save(&b, "both1", "changed here");
    ts_save(&b, "theirs", "after the fail-over");
    ts_unlink(&b, "both2");
    if (packed & 4)
        pack(&b);
    if (packed & 1)
        pack(&a);
    next = twosites_info(b.s)->super.epochs[1];
    fork_at = next.first_lsn;
    ck_assert_msg(store_fence(a.s, &next, &err) == 0, "%s", err.msg);
    ck_assert_msg(store_demote(a.s, &err) == 0, "%s", err.msg);
    tail_end = log_head(store_log(a.s));
    ck_assert_uint_gt(tail_end, fork_at);
}

static struct rewind to_fork(void)
{
    struct rewind r = { .at = fork_at };
    struct history_place p;

    ck_assert_int_eq(history_before(store_history(b.s), fork_at, &p, NULL), 0);
    ck_assert_uint_eq(p.end, fork_at);
    r.last_lsn = p.lsn;
    r.last_hash = p.hash;
    return r;
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

static char *content(struct store *s, const char *path)
{
    struct row_ino row;
    struct err err = { 0 };
    uint64_t ino;
    char *buf;

    if (store_walk(s, AT_LIVE, path, &ino, &row, NULL) < 0)
        return NULL;
    buf = calloc(1, row.size + 1);
    ck_assert_msg(store_read(s, AT_LIVE, ino, 0, buf, row.size, false, NULL, &err) == (int64_t)row.size, "%s: %s", path, err.msg);
    return buf;
}

static void is(struct store *s, const char *path, const char *text)
{
    char *got = content(s, path);

    ck_assert_msg(text == NULL ? got == NULL : got != NULL && strcmp(got, text) == 0, "%s: expected %s, found %s", path, text ? text : "none", got ? got : "none");
    free(got);
}

static void is_back(struct store *s)
{
    ck_assert_uint_eq(log_head(store_log(s)), fork_at);
    is(s, "both1", "of both");
    is(s, "both2", "of both");
    is(s, "later", "of both, in the log");
    is(s, "mine", NULL);
}

static void is_followed(struct store *s)
{
    is(s, "both1", "changed here");
    is(s, "both2", NULL);
    is(s, "later", "of both, in the log");
    is(s, "mine", NULL);
    is(s, "theirs", "after the fail-over");
}

/* What is in the branch: all of the other timeline, and nothing changes it. */
static void branch_is_whole(const char *name, bool with_index)
{
    struct store_options opt = { .fresh_index = false };
    struct kv_twin_disk *disk = kv_twin_disk_new();
    struct store *s = NULL;
    struct err err = { 0 };
    char dir[256];
    struct io *io;

    (void)with_index;
    snprintf(dir, sizeof dir, "branches/%s", name);
    io = subio_new(simio_io(a.sim), dir);
    ck_assert_int_eq(kv_twin_open(disk, &opt.kv, &err), 0);
    ck_assert_msg(store_open(io, NULL, &opt, &s, NULL, &err) == 0, "%s", err.msg);
    ck_assert_uint_eq(log_head(store_log(s)), tail_end);
    is(s, "both1", "changed there alone");
    is(s, "mine", "was never shipped");
    is(s, "both2", "of both");
    is(s, "theirs", NULL);
    store_drop(s);
    opt = (struct store_options){ .writable = true };
    ck_assert_int_eq(kv_twin_open(disk, &opt.kv, &err), 0);
    ck_assert_int_eq(store_open(io, NULL, &opt, &s, NULL, &err), ERR_ROFS);
    kv_twin_disk_free(disk);
    io->ops->free(io);
}

static void neither(void)
{
    ts_free(&a);
    ts_free(&b);
}

START_TEST(it_goes_back_and_follows)
{
    struct rewind r;
    struct err err = { 0 };

    apart(_i);
    ck_assert(rewind_worth_keeping(a.s, fork_at));
    ck_assert(!rewind_worth_keeping(a.s, tail_end));
    r = to_fork();
    r.keep = true;
    ck_assert_int_eq(store_close(a.s, &err), 0);
    ck_assert_msg(store_rewind(simio_io(a.sim), NULL, &r, &err) == 0, "%s", err.msg);
    ck_assert_str_ne(r.branch, "");
    branch_is_whole(r.branch, true);
    fresh_index(&a);
    open_it(&a);
    is_back(a.s);
    for (int i = 0; i < 3; i++) {
        ck_assert_msg(send_all(&b, &a, &err) == 0, "%s", err.msg);
        is_followed(a.s);
        ts_save(&b, "more", i ? "again" : "once");
        if (i == 1) {                    /* the index made anew of what is left of both timelines */
            pack(&a);
            ts_reopen(&a, false);
            ck_assert_int_eq(store_close(a.s, &err), 0);
            fresh_index(&a);
            open_it(&a);
        }
    }
    branch_is_whole(r.branch, true);
    /* the way back: who followed is promoted again, and the other way round */
    ck_assert_int_eq(store_demote(b.s, &err), 0);
    ck_assert_msg(send_all(&b, &a, &err) == 0, "%s", err.msg);
    ck_assert_msg(store_promote(a.s, "switched back", false, &err) == 0, "%s", err.msg);
    ts_save(&a, "both3", "back home");
    ck_assert_msg(send_all(&a, &b, &err) == 0, "%s", err.msg);
    is(b.s, "both3", "back home");
    is_followed(b.s);
    neither();
}
END_TEST

START_TEST(nothing_worth_keeping_makes_no_branch)
{
    struct rewind r;
    struct err err = { 0 };
    struct io_stat st;

    ts_new(&a, "UTC");
    ts_save(&a, "one", "one");
    twosites_standby(&a, &b);
    ck_assert_msg(send_all(&a, &b, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(store_mounted(a.s, 5, true, "/mnt", &err), 0);
    ck_assert_int_eq(store_promote(b.s, "x", false, &err), 0);
    next = twosites_info(b.s)->super.epochs[1];
    fork_at = next.first_lsn;
    ck_assert_int_eq(store_demote(a.s, &err), 0);
    ck_assert(!rewind_worth_keeping(a.s, fork_at));
    r = to_fork();
    ck_assert_int_eq(store_close(a.s, &err), 0);
    ck_assert_msg(store_rewind(simio_io(a.sim), NULL, &r, &err) == 0, "%s", err.msg);
    ck_assert_str_eq(r.branch, "");
    ck_assert_int_eq(io_stat_path(simio_io(a.sim), "branches", &st, NULL), ERR_NOENT);
    fresh_index(&a);
    open_it(&a);
    ck_assert_msg(send_all(&b, &a, &err) == 0, "%s", err.msg);
    is(a.s, "one", "one");
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

/* Cut off at any call, by a power cut: the store is that of before, or has gone back; another try ends it; and there is one branch. */
START_TEST(cut_off_at_any_call)
{
    bool done = false;

    for (unsigned n = 1; !done; n++) {
        struct counted c = { 0 };
        struct rewind r;
        struct err err = { 0 };
        int rc;

        apart(_i % 2 ? 7 : 0);
        r = to_fork();
        r.keep = true;
        ck_assert_int_eq(store_close(a.s, &err), 0);
        simio_cut_at(a.sim, n);
        rc = store_rewind(simio_io(a.sim), NULL, &r, &err);
        done = rc == 0 && !simio_dead(a.sim);
        simio_cut_at(a.sim, 0);
        if (!done)
            simio_cut(a.sim, n, _i < 2 ? SIMIO_CUT_DROP_ALL : SIMIO_CUT_RANDOM);
        fresh_index(&a);
        open_it(&a);
        if (log_head(store_log(a.s)) != fork_at) {
            ck_assert_uint_eq(log_head(store_log(a.s)), tail_end);
            is(a.s, "mine", "was never shipped");
            ck_assert_int_eq(store_close(a.s, &err), 0);
            ck_assert_msg(store_rewind(simio_io(a.sim), NULL, &r, &err) == 0, "call %u: %s", n, err.msg);
            fresh_index(&a);
            open_it(&a);
        }
        is_back(a.s);
        ck_assert_int_eq(io_list(simio_io(a.sim), "branches", count_one, &c, &err), 0);
        ck_assert_uint_eq(c.n, 1);
        branch_is_whole(c.name, true);
        ck_assert_msg(send_all(&b, &a, &err) == 0, "call %u: %s", n, err.msg);
        is_followed(a.s);
        neither();
        ck_assert_uint_lt(n, 400);
    }
}
END_TEST

/* What was packed holds both sides of the fork: nothing is done, and it is made anew instead (check_anew). */
START_TEST(refused_where_nothing_is_left_to_go_back_with)
{
    struct rewind r;
    struct err err = { 0 };

    apart(1 + 8);
    r = to_fork();
    r.keep = true;
    ck_assert_int_eq(store_close(a.s, &err), 0);
    ck_assert_int_eq(store_rewind(simio_io(a.sim), NULL, &r, &err), ERR_BOOTSTRAP);
    r.at = tail_end;
    ck_assert_int_eq(store_rewind(simio_io(a.sim), NULL, &r, &err), ERR_INVAL);
    open_it(&a);
    is(a.s, "mine", "was never shipped");
    neither();
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
    tcase_add_loop_test(t, it_goes_back_and_follows, 0, 8);
    tcase_add_test(t, nothing_worth_keeping_makes_no_branch);
    tcase_add_test(t, refused_where_nothing_is_left_to_go_back_with);
    tcase_add_loop_test(c, cut_off_at_any_call, 0, 4);
    suite_add_tcase(s, t);
    suite_add_tcase(s, c);
    srunner_run_all(sr, CK_ENV);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed != 0;
}
