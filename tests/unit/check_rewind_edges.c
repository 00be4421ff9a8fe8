/*
 * check_rewind_edges: roles and rewinds where something else goes wrong, or on, at the same time: no room, numbers nobody has, a record that is being written, what was there at the fork let go of,
 * a second fork.
 */
#include "store/core/policy.h"
#include "store/core/retain.h"
#include "store/core/role.h"
#include "store/maint/reclaim.h"
#include "store/pack/base.h"
#include "store/pack/history.h"
#include "store/sync/boot.h"
#include "tests/lib/packrig.h"
#include "tests/lib/parted.h"

#include <check.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct parted p;
static struct teststore c;                       /* a second standby */

/* ---- roles ---- */

/* In memory it followed on while its superblock said that it was primary, of an epoch which by then was the other's. */
START_TEST(promotion_without_room_is_taken_back)
{
    struct err err = { 0 };

    twosites_both(&p.a, &p.b);
    simio_fail_from(p.b.sim, SIMIO_ALLOCATE, 1, ERR_NOSPC);
    ck_assert_int_eq(store_promote(p.b.s, "x", false, &err), ERR_NOSPC);
    simio_fail_clear(p.b.sim);
    ck_assert_uint_eq(store_role(p.b.s), ROLE_STANDBY);
    if (_i == 0) {
        ts_save(&p.a, "two", "of the primary, which goes on");
        ck_assert_msg(twosites_send(&p.a, &p.b, &err) == 0, "%s", err.msg);
        ts_reopen(&p.b, false);
        ck_assert_uint_eq(store_role(p.b.s), ROLE_STANDBY);
        ck_assert_uint_eq(twosites_super(p.b.s)->n_epochs, 1);
        ts_is(&p.b, "two", "of the primary, which goes on");
    }
    ck_assert_msg(store_promote(p.b.s, "again", false, &err) == 0, "%s", err.msg);
    ts_save(&p.b, "three", "of the new primary");
    ts_reopen(&p.b, true);
    ck_assert_uint_eq(store_role(p.b.s), ROLE_PRIMARY);
    parted_free(&p);
}
END_TEST

/* Behind such a number there is none to be promoted with. */
START_TEST(the_last_number_fences_nobody)
{
    struct epoch_row by;
    struct err err = { 0 };

    twosites_both(&p.a, &p.b);
    by = twosites_super(p.a.s)->epochs[0];
    by.number = UINT32_MAX - (uint32_t)_i;
    memset(by.id, 7, 16);
    by.first_lsn += 8;
    ck_assert_int_eq(store_fence(p.a.s, &by, &err), ERR_BADREC);
    ck_assert_uint_eq(store_role(p.a.s), ROLE_PRIMARY);
    ts_save(&p.a, "two", "two");
    ck_assert_msg(twosites_send(&p.a, &p.b, &err) == 0, "%s", err.msg);
    ts_is(&p.b, "two", "two");
    parted_free(&p);
}
END_TEST

/* The next write into ${p.a} says that it begins, and waits. */
static const struct io_ops *straight;
static struct io_ops gated;
static atomic_bool armed, answered;
static sem_t begun, gate;

static int gated_pwritev(struct io_file *f, const struct iovec *iov, int n, uint64_t off, struct err *err)
{
    if (atomic_exchange(&armed, false)) {
        sem_post(&begun);
        sem_wait(&gate);
    }
    return straight->pwritev(f, iov, n, off, err);
}

static void *writes_late(void *arg)
{
    return (void *)(intptr_t)ts_try_create(arg, "late");
}

static void *gives_up(void *arg)
{
    const struct epoch_row *by = arg;    /* NULL: unasked */
    int rc = by != NULL ? store_fence(p.a.s, by, NULL) : store_demote(p.a.s, NULL);

    atomic_store(&answered, true);
    return (void *)(intptr_t)rc;
}

/* Its LSN is given, so that it counts, and the superblock that has to say the new role says the end of the log, too. */
START_TEST(giving_up_waits_for_a_record_that_is_being_written)
{
    pthread_t writer, leaver;
    struct epoch_row by;
    void *rc;

    twosites_both(&p.a, &p.b);
    by = twosites_super(p.a.s)->epochs[0];
    by.number = 5;
    memset(by.id, 7, 16);
    ck_assert(sem_init(&begun, 0, 0) == 0 && sem_init(&gate, 0, 0) == 0);
    straight = simio_io(p.a.sim)->ops;
    gated = *straight;
    gated.pwritev = gated_pwritev;
    simio_io(p.a.sim)->ops = &gated;
    atomic_store(&armed, true);
    ck_assert_int_eq(pthread_create(&writer, NULL, writes_late, &p.a), 0);
    sem_wait(&begun);
    ck_assert_int_eq(pthread_create(&leaver, NULL, gives_up, _i == 0 ? &by : NULL), 0);
    while (store_role(p.a.s) == ROLE_PRIMARY)    /* within the test's time */
        usleep(1000);
    for (int i = 0; i < 100 && !atomic_load(&answered); i++)     /* time to answer too soon */
        usleep(1000);
    ck_assert(!atomic_load(&answered));
    sem_post(&gate);
    pthread_join(leaver, &rc);
    ck_assert_int_eq((intptr_t)rc, 0);
    pthread_join(writer, &rc);
    ck_assert_int_eq((intptr_t)rc, 0);
    simio_io(p.a.sim)->ops = straight;
    ts_reopen(&p.a, true);
    ck_assert_uint_eq(store_role(p.a.s), _i == 0 ? ROLE_FENCED : ROLE_STANDBY);
    ts_is(&p.a, "late", "");
    parted_free(&p);
}
END_TEST

/* It waited under a lock that everybody needs who asks how the store is, the one who holds the changes too. */
START_TEST(a_snapshot_while_changes_are_held)
{
    uint64_t at;
    struct err err = { 0 };

    ts_new(&p.a, "UTC");
    p.a.opt.threads = true;
    ts_reopen(&p.a, false);
    ck_assert_int_eq(store_hold(p.a.s, NULL), 0);
    ck_assert_int_eq(store_snapshot(p.a.s, &p.a.who, RSN_CREATE, "s", AT_LIVE, NULL, NULL, 0, &at, &err), ERR_BUSY);
    ck_assert_uint_eq(twosites_super(p.a.s)->role, ROLE_PRIMARY);
    store_unhold(p.a.s);
    ck_assert_msg(store_snapshot(p.a.s, &p.a.who, RSN_CREATE, "s", AT_LIVE, NULL, NULL, 0, &at, &err) == 0, "%s", err.msg);
    ts_free(&p.a);
}
END_TEST

/* ---- no way back ---- */

/* Closed, and refused for that reason; nothing on the disk changes. */
static void cannot_go_back(struct teststore *t, struct rewind r, const char *why)
{
    struct err err = { 0 };
    uint64_t before;

    packrig_close(t);
    before = simio_digest(t->sim);
    r.keep = true;
    ck_assert_int_eq(store_rewind(simio_io(t->sim), NULL, &r, &err), ERR_BOOTSTRAP);
    ck_assert_msg(strstr(err.msg, why) != NULL, "expected \"%s\", found \"%s\"", why, err.msg);
    ck_assert_uint_eq(simio_digest(t->sim), before);
    packrig_open(t);
}

static void nothing_is_kept(struct teststore *t)
{
    static const char *const all[] = { "keep-all", "min-age", "reclaim-grace" };

    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        ck_assert_int_eq(store_config_set(t->s, all[i], "0", NULL), 0);
    for (int i = 0; i < N_PERIODS; i++)
        ck_assert_int_eq(store_config_set(t->s, period_setting(i), "0", NULL), 0);
}

static void reclaim_now(struct teststore *t, bool base)
{
    const struct reclaim_options opt = { .now = true, .base = base, .sweep = true };
    struct err err = { 0 };

    ck_assert_msg(reclaim(t->s, &opt, NULL, &err) == 0, "%s", err.msg);
}

static uint64_t fork_of(struct teststore *by, uint32_t row)
{
    return twosites_super(by->s)->epochs[row].first_lsn;
}

/* It followed one that took over, packed, and now follows another that did, too: nothing would say where in the file both part. */
START_TEST(what_a_standby_packed_holds_both_sides)
{
    struct err err = { 0 };

    twosites_both(&p.a, &p.b);
    ts_save(&p.a, "both1", "of both");
    ck_assert_int_eq(twosites_send(&p.a, &p.b, &err), 0);
    twosites_standby(&p.a, &c);
    ck_assert_int_eq(twosites_send(&p.a, &c, &err), 0);
    for (int i = 0; i < 2; i++) {        /* twice, so that its number is the higher one */
        ck_assert_int_eq(store_promote(p.b.s, "x", false, &err), 0);
        if (i == 0)
            ck_assert_int_eq(store_demote(p.b.s, &err), 0);
    }
    ts_save(&p.b, "theirs", "theirs");
    ck_assert_int_eq(store_demote(p.a.s, &err), 0);
    ck_assert_int_eq(store_promote(p.a.s, "x", false, &err), 0);
    ts_save(&p.a, "mine", "mine");
    ck_assert_int_eq(twosites_send(&p.a, &c, &err), 0);
    parted_pack(&c);
    cannot_go_back(&c, parted_fork(&p.b, fork_of(&p.b, 1)), "inside of what it has packed");
    ts_is(&c, "mine", "mine");
    ts_free(&c);
    parted_free(&p);
}
END_TEST

/* What it packed ends at the fork or begins there, but it did not wait for the other one, and its horizon went on. */
START_TEST(horizon_behind_the_fork)
{
    twosites_both(&p.a, &p.b);
    parted_pack(&p.a);
    ck_assert_int_eq(store_promote(p.b.s, "x", false, NULL), 0);
    nothing_is_kept(&p.a);
    for (int i = 0; i < 3; i++) {
        ts_step(&p.a, 3600 * 1000);
        ts_save(&p.a, "mine", i == 0 ? "and" : "again");
        parted_pack(&p.a);
        ck_assert_int_ge(retain_update(p.a.s, NULL, true, NULL), 0);     /* from here on data may go; the records stay */
    }
    ck_assert_int_eq(store_demote(p.a.s, NULL), 0);
    cannot_go_back(&p.a, parted_fork(&p.b, fork_of(&p.b, 1)), "keeps what was there from");
    ts_is(&p.a, "mine", "again");
    parted_free(&p);
}
END_TEST

/* No row names it any more, but its record is behind the horizon: its data are kept, for whoever is sent that record, and for a way back (whether the other one is waited for or not). */
START_TEST(content_without_history_of_before_the_fork)
{
    static char text[100001];
    struct rewind r;
    struct err err = { 0 };

    for (size_t i = 0; i < sizeof text - 1; i++)
        text[i] = (char)('a' + rand() % 26);
    ts_new(&p.a, "UTC");
    ck_assert_int_eq(store_config_set(p.a.s, "nohistory", "*.tmp", NULL), 0);
    ts_save(&p.a, "f.tmp", text);
    twosites_standby(&p.a, &p.b);
    ck_assert_msg(twosites_send(&p.a, &p.b, &err) == 0, "%s", err.msg);
    parted_pack(&p.a);                   /* as far as the fork */
    if (_i == 0)
        twosites_wait_for(&p.a, &p.b);
    ts_save(&p.a, "f.tmp", "another content");
    for (int i = 0; i < 20; i++) {
        ts_step(&p.a, 3600 * 1000);
        ts_save(&p.a, "mine", "was never shipped");
    }
    ck_assert_int_eq(store_promote(p.b.s, "x", false, &err), 0);
    ts_save(&p.b, "theirs", "after the fail-over");
    parted_pack(&p.a);
    reclaim_now(&p.a, false);
    ck_assert_int_eq(store_demote(p.a.s, &err), 0);
    r = parted_fork(&p.b, fork_of(&p.b, 1));
    parted_go_back(&p.a, &r);
    ck_assert_msg(twosites_send(&p.b, &p.a, &err) == 0, "%s", err.msg);
    ts_is(&p.a, "theirs", "after the fail-over");
    ts_is(&p.a, "f.tmp", text);
    parted_free(&p);
}
END_TEST

static int newest(void *arg, uint64_t gen)
{
    uint64_t *max = arg;

    *max = gen > *max ? gen : *max;
    return 0;
}

static void hours_of_work(struct teststore *t, const char *name)
{
    for (int i = 0; i < 20; i++) {
        ts_step(t, 3600 * 1000);
        ts_save(t, name, "hour after hour");
        if (i % 5 == 4) {
            parted_pack(t);
            reclaim_now(t, false);
        }
    }
    ts_step(t, 3600 * 1000);
    reclaim_now(t, true);
}

/* The other site is made of an image of it. */
static void image_of_a(void)
{
    packrig_close(&p.a);
    p.b = p.a;
    p.b.sim = simio_clone(p.a.sim);
    p.b.disk = kv_twin_disk_new();
    p.b.opt.location = LOCATION_AS_IS;
    packrig_open(&p.b);
    packrig_open(&p.a);
}

/* A cut between the removal of records and that of the base which lacks them now (store/maint/renew.c). */
START_TEST(an_older_base_without_the_records_behind_it)
{
    struct err err = { 0 };
    char name[BASE_NAME_MAX];
    uint64_t gen = 0;
    struct io *io;

    ts_new(&p.a, "UTC");
    io = simio_io(p.a.sim);
    nothing_is_kept(&p.a);
    hours_of_work(&p.a, "both1");
    ck_assert_int_eq(base_list(io, newest, &gen, &err), 0);
    ck_assert_uint_gt(gen, 0);
    base_name(gen, name);
    ck_assert_int_eq(io_link(io, name, "archive/older", &err), 0);
    ts_save(&p.a, "both2", "of both");
    parted_pack(&p.a);
    image_of_a();
    ck_assert_int_eq(store_demote(p.b.s, &err), 0);
    ck_assert_int_eq(store_promote(p.b.s, "x", false, &err), 0);
    hours_of_work(&p.a, "mine");
    ck_assert_int_eq(store_demote(p.a.s, &err), 0);
    packrig_close(&p.a);
    ck_assert_int_eq(io_rename(io, "archive/older", name, &err), 0);
    ck_assert_int_eq(io_syncdir(io, "archive", &err), 0);
    packrig_open(&p.a);                  /* in nobody's way */
    cannot_go_back(&p.a, parted_fork(&p.b, fork_of(&p.b, 1)), "were let go of since");
    parted_free(&p);
}
END_TEST

/* A base of behind what the other one has takes the place neither of the one before nor of records, as long as that one is waited for; once it has more, both go. */
START_TEST(a_base_of_behind_the_fork)
{
    struct err err = { 0 };
    uint64_t before = 0, behind = 0, first, end;
    struct proto_list *list = calloc(1, sizeof *list);
    struct rewind r;
    struct io *io;

    ts_new(&p.a, "UTC");
    io = simio_io(p.a.sim);
    nothing_is_kept(&p.a);
    hours_of_work(&p.a, "both1");
    image_of_a();
    ck_assert_int_eq(store_demote(p.b.s, &err), 0);
    twosites_wait_for(&p.a, &p.b);
    ck_assert_int_eq(base_list(io, newest, &before, &err), 0);
    ck_assert_uint_gt(before, 0);
    hours_of_work(&p.a, "mine");
    ck_assert_int_eq(base_list(io, newest, &behind, &err), 0);
    ck_assert_uint_eq(behind, before + 1);
    first = history_first(store_history(p.a.s));
    ck_assert_msg(boot_list(p.a.s, list, &end, &err) == 0, "%s", err.msg);      /* a new standby is given the one before */
    free((void *)(uintptr_t)list->p);
    free(list);
    if (_i == 0) {
        ck_assert_int_eq(store_promote(p.b.s, "x", false, &err), 0);
        ts_save(&p.b, "theirs", "after the fail-over");
        ck_assert_int_eq(store_demote(p.a.s, &err), 0);
        r = parted_fork(&p.b, fork_of(&p.b, 1));
        parted_go_back(&p.a, &r);
        ck_assert_msg(twosites_send(&p.b, &p.a, &err) == 0, "%s", err.msg);
        ts_is(&p.a, "theirs", "after the fail-over");
        ts_is(&p.a, "both1", "hour after hour");
        ts_is(&p.a, "mine", NULL);
    } else {
        char name[BASE_NAME_MAX];
        struct io_stat st;

        for (int i = 0; i < 3; i++) {
            ts_step(&p.a, 3600 * 1000);
            ts_save(&p.a, "mine", "hour after hour");
            parted_pack(&p.a);
            ck_assert_msg(twosites_send(&p.a, &p.b, &err) == 0, "%s", err.msg);
            twosites_wait_for(&p.a, &p.b);
            reclaim_now(&p.a, i < 2);
        }
        ck_assert_uint_gt(history_first(store_history(p.a.s)), first);
        base_name(before, name);
        ck_assert_int_eq(io_stat_path(io, name, &st, NULL), ERR_NOENT);
        packrig_without_index(&p.a);
        ts_is(&p.a, "mine", "hour after hour");
    }
    parted_free(&p);
}
END_TEST

/* ---- and on from there ---- */

/* Its own row stands where the other's epoch began: files it packs behind that are its own, and read as such. */
START_TEST(gone_back_then_promoted_and_packed)
{
    static const struct past none;
    struct rewind r;
    struct err err = { 0 };

    parted_make(&p, _i == 0 ? 0 : PARTED_PACKED | PARTED_PACKED_BEFORE | PARTED_OTHER_PACKED);
    r = parted_fork(&p.b, p.at);
    parted_go_back(&p.a, &r);
    ck_assert_msg(store_promote(p.a.s, "b is gone for good", false, &err) == 0, "%s", err.msg);
    ts_save(&p.a, "new", "after the promotion");
    parted_pack(&p.a);
    ts_is(&p.a, "new", "after the promotion");
    ts_is(&p.a, "both1", "of both");
    packrig_well(&none, p.a.s, "promoted");
    parted_free(&p);
}
END_TEST

/* The one with which it parts first is behind (0), before (1, 2) that second fork; unpacked in between (2). */
START_TEST(a_second_rewind)
{
    struct rewind r;
    struct err err = { 0 };

    twosites_both(&p.a, &p.b);
    twosites_standby(&p.a, &c);
    ck_assert_int_eq(twosites_send(&p.a, &c, &err), 0);
    twosites_wait_for(&p.a, &c);
    ts_save(&p.a, "later", "of two of them");
    ck_assert_int_eq(twosites_send(&p.a, &p.b, &err), 0);
    twosites_wait_for(&p.a, &p.b);
    ts_save(&p.a, "mine", "was never shipped");
    parted_pack(&p.a);
    ck_assert_int_eq(store_promote(p.b.s, "x", false, &err), 0);
    ts_save(&p.b, "theirs", "after the fail-over");
    ck_assert_int_eq(store_demote(p.a.s, &err), 0);
    r = parted_fork(&p.b, fork_of(&p.b, 1));
    parted_go_back(&p.a, &r);
    ck_assert_int_eq(twosites_send(&p.b, &p.a, &err), 0);
    if (_i == 0)
        ck_assert_int_eq(twosites_send(&p.b, &c, &err), 0);
    ts_save(&p.b, "theirs2", "what the third one never had");
    ck_assert_int_eq(twosites_send(&p.b, &p.a, &err), 0);
    if (_i < 2)
        parted_pack(&p.a);
    for (int i = 0; i < 3; i++) {        /* so often that its number is the highest */
        ck_assert_int_eq(store_promote(c.s, "x", false, &err), 0);
        if (i < 2)
            ck_assert_int_eq(store_demote(c.s, &err), 0);
    }
    ts_save(&c, "c", "of the third");
    r = parted_fork(&c, fork_of(&c, _i == 0 ? 2 : 1));
    r.keep = true;
    parted_go_back(&p.a, &r);
    ck_assert_msg(twosites_send(&c, &p.a, &err) == 0, "%s", err.msg);
    for (int i = 0; i < 2; i++) {
        ts_is(&p.a, "one", "one");
        ts_is(&p.a, "c", "of the third");
        ts_is(&p.a, "theirs2", NULL);
        ts_is(&p.a, "theirs", _i == 0 ? "after the fail-over" : NULL);
        ts_is(&p.a, "mine", NULL);
        parted_pack(&p.a);
        packrig_without_index(&p.a);
    }
    ts_free(&c);
    parted_free(&p);
}
END_TEST

START_TEST(cut_off_with_a_base_before_the_fork)
{
    const int how = PARTED_BASE | PARTED_PACKED | (_i & 2 ? PARTED_OTHER_PACKED : 0);

    for (unsigned n = 1; !parted_cut_off(how, n, _i & 1 ? SIMIO_CUT_RANDOM : SIMIO_CUT_PREFIX); n++)
        ck_assert_uint_lt(n, 400);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("rewind_edges");
    TCase *t = tcase_create("edges"), *cut = tcase_create("cut");
    SRunner *sr = srunner_create(s);
    int failed;

    tcase_set_timeout(t, 60);
    tcase_set_timeout(cut, 300);
    tcase_add_loop_test(t, promotion_without_room_is_taken_back, 0, 2);
    tcase_add_loop_test(t, the_last_number_fences_nobody, 0, 2);
    tcase_add_loop_test(t, giving_up_waits_for_a_record_that_is_being_written, 0, 2);
    tcase_add_test(t, a_snapshot_while_changes_are_held);
    tcase_add_test(t, what_a_standby_packed_holds_both_sides);
    tcase_add_test(t, horizon_behind_the_fork);
    tcase_add_loop_test(t, content_without_history_of_before_the_fork, 0, 2);
    tcase_add_test(t, an_older_base_without_the_records_behind_it);
    tcase_add_loop_test(t, a_base_of_behind_the_fork, 0, 2);
    tcase_add_loop_test(t, gone_back_then_promoted_and_packed, 0, 2);
    tcase_add_loop_test(t, a_second_rewind, 0, 3);
    tcase_add_loop_test(cut, cut_off_with_a_base_before_the_fork, 0, 4);
    suite_add_tcase(s, t);
    suite_add_tcase(s, cut);
    srunner_run_all(sr, CK_ENV);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed != 0;
}
