/*
 * check_fork: a writable copy of a store that is open. What is written in one is not in the other, and no file that both have is changed by either; packed or not, of a standby, inside a series; each
 * step fails, or is cut off.
 */
#include "store/core/fork.h"
#include "store/core/restore.h"
#include "store/core/role.h"
#include "store/maint/pressure.h"
#include "store/maint/reclaim.h"
#include "tests/lib/packrig.h"
#include "tests/lib/parted.h"
#include "tests/lib/subio.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* A fork, opened by itself: its index is made of archive and log, since the twin has no files. */
static void fork_open(struct teststore *of, const char *name, struct teststore *t)
{
    struct err err = { 0 };
    char dir[160];

    memset(t, 0, sizeof *t);
    snprintf(dir, sizeof dir, "forks/%s", name);
    t->sim = of->sim;
    t->who = of->who;
    t->now_ns = of->now_ns;
    t->opt = (struct store_options){ .writable = true, .log = of->opt.log };
    t->disk = kv_twin_disk_new();
    ck_assert_int_eq(kv_twin_open(t->disk, &t->opt.kv, &err), 0);
    ck_assert_msg(store_open(subio_new(simio_io(of->sim), dir), NULL, &t->opt, &t->s, NULL, &err) == 0, "%s", err.msg);
}

static void fork_close(struct teststore *t)
{
    struct io *io = store_io(t->s);
    struct err err = { 0 };

    ck_assert_msg(store_close(t->s, &err) == 0, "%s", err.msg);
    io->ops->free(io);
    kv_twin_disk_free(t->disk);
}

/* As killed. */
static void fork_drop(struct teststore *t)
{
    struct io *io = store_io(t->s);

    store_drop(t->s);
    io->ops->free(io);
    kv_twin_disk_free(t->disk);
}

static struct fork make(struct teststore *t, const char *name)
{
    struct fork f;
    struct err err = { 0 };

    ck_assert_msg(store_fork(t->s, name, &f, &err) == 0, "%s", err.msg);
    ck_assert_msg(store_fork_finish(simio_io(t->sim), name, f.site, &err) == 0, "%s", err.msg);
    return f;
}

/* ---- files that both have ---- */

struct files { struct io *io; const char *dir; struct { char name[160]; uint64_t ino; struct hash128 hash; } v[256]; unsigned n; };

static int note(void *arg, const char *name)
{
    struct files *w = arg;
    struct io_stat st;
    struct io_file *f;
    uint8_t *buf;
    char path[160];

    snprintf(path, sizeof path, "%s/%s", w->dir, name);
    ck_assert_int_eq(io_stat_path(w->io, path, &st, NULL), 0);
    if (st.nlink < 2)
        return 0;
    ck_assert_uint_lt(w->n, 256);
    buf = malloc(st.size + 1);
    ck_assert_int_eq(io_open(w->io, path, IO_RDONLY, &f, NULL), 0);
    ck_assert_int_eq(io_pread(f, buf, st.size, 0, NULL), (int64_t)st.size);
    io_close(f);
    snprintf(w->v[w->n].name, sizeof w->v[w->n].name, "%s", path);
    w->v[w->n].ino = st.ino;
    w->v[w->n++].hash = hash128(buf, st.size);
    free(buf);
    return 0;
}

static void note_shared(struct files *w, struct io *io)
{
    static const char *const dirs[] = { "log", "archive", "packs" };

    memset(w, 0, sizeof *w);
    w->io = io;
    for (int i = 0; i < 3; i++) {
        w->dir = dirs[i];
        (void)io_list(io, dirs[i], note, w, NULL);
    }
}

/* What is there still, is what it was. */
static void unchanged(const struct files *w)
{
    struct files *now = malloc(sizeof *now);

    note_shared(now, w->io);
    for (unsigned i = 0; i < now->n; i++)
        for (unsigned k = 0; k < w->n; k++)
            if (now->v[i].ino == w->v[k].ino)
                ck_assert_msg(hash128_eq(&now->v[i].hash, &w->v[k].hash), "%s has changed", now->v[i].name);
    free(now);
}

/* ---- */

static uint8_t kept[2][16];
static const uint8_t *lineage(struct teststore *t, int i)
{
    memcpy(kept[i], twosites_super(t->s)->lineage, 16);
    return kept[i];
}

START_TEST(each_goes_on_by_itself)
{
    struct teststore a, f;
    struct files *w = malloc(sizeof *w);
    struct fork made;

    ts_new(&a, "UTC");
    ts_save(&a, "one", "one");
    ts_save(&a, "two", "two");
    if (_i & 1)
        parted_pack(&a);                 /* the log is empty then */
    if (_i & 2)
        ts_save(&a, "three", "three");
    if (_i & 4) {
        ck_assert_int_eq(store_sync(a.s, NULL), 0);
        ts_reopen(&a, true);
    }
    made = make(&a, "f");
    ck_assert_uint_eq(made.moment, made.lsn);
    note_shared(w, simio_io(a.sim));
    ts_save(&a, "one", "there");
    ts_save(&a, "theirs", "there");
    fork_open(&a, "f", &f);
    ck_assert_int_ne(memcmp(lineage(&a, 0), lineage(&f, 1), 16), 0);
    ck_assert_uint_gt(twosites_super(f.s)->epochs[1].first_lsn, made.lsn);
    ts_is(&f, "one", "one");
    ts_is(&f, "two", "two");
    ts_is(&f, "three", _i & 2 ? "three" : NULL);
    ts_is(&f, "theirs", NULL);
    ts_save(&f, "two", "here");
    ts_save(&f, "ours", "here");
    ts_unlink(&f, "one");
    for (int round = 0; round < 3; round++) {
        struct teststore *t = round % 2 ? &a : &f;

        parted_pack(t);
        ts_save(t, "more", round ? "again" : "once");
        unchanged(w);
    }
    fork_close(&f);
    fork_open(&a, "f", &f);
    ts_is(&f, "one", NULL);
    ts_is(&f, "two", "here");
    ts_is(&f, "more", "again");
    ts_is(&a, "one", "there");
    ts_is(&a, "two", "two");
    ts_is(&a, "ours", NULL);
    ts_is(&a, "more", "again");
    fork_drop(&f);                       /* what recovery rewrites is its own */
    ts_reopen(&a, true);
    fork_open(&a, "f", &f);
    unchanged(w);
    fork_close(&f);
    packrig_without_index(&a);
    ts_is(&a, "one", "there");
    ts_is(&a, "two", "two");
    ck_assert_int_eq(store_fork_remove(simio_io(a.sim), "f", NULL), 0);
    ck_assert_int_eq(store_fork_remove(simio_io(a.sim), "f", NULL), ERR_NOENT);
    ts_free(&a);
    free(w);
}
END_TEST

/* What both have is let go of by the original: the fork has it still, and its past. */
START_TEST(the_original_lets_go)
{
    static const char *const keep[] = { "keep-all", "min-age", "reclaim-grace", "keep-hourly", "keep-daily", "keep-weekly", "keep-monthly", "keep-yearly" };
    const struct reclaim_options opt = { .now = true, .sweep = true, .base = true };
    struct files *before = malloc(sizeof *before), *after = malloc(sizeof *after);
    struct teststore a, f;
    struct err err = { 0 };
    uint64_t past, shared;
    char *text;

    ts_new(&a, "UTC");
    ts_save(&a, "one", "one");
    past = ts_last(&a);
    ts_save(&a, "one", "and later");
    parted_pack(&a);
    (void)make(&a, "f");
    note_shared(before, simio_io(a.sim));
    (void)pressure_used(a.s, &shared);
    ck_assert_uint_gt(shared, 0);
    for (size_t i = 0; i < sizeof keep / sizeof *keep; i++)
        ck_assert_int_eq(store_config_set(a.s, keep[i], "0", NULL), 0);
    for (int i = 0; i < 3; i++) {
        ts_step(&a, 1000);
        ts_save(&a, "one", "the original's");
        parted_pack(&a);
    }
    ck_assert_msg(reclaim(a.s, &opt, NULL, &err) == 0, "%s", err.msg);
    note_shared(after, simio_io(a.sim));
    ck_assert_uint_gt(before->n, 0);
    ck_assert_uint_eq(after->n, 0);
    (void)pressure_used(a.s, &shared);
    ck_assert_uint_eq(shared, 0);
    fork_open(&a, "f", &f);
    ts_is(&f, "one", "and later");
    text = ts_read(&f, past, "one");
    ck_assert_str_eq(text, "one");
    free(text);
    fork_close(&f);
    ts_free(&a);
    free(before);
    free(after);
}
END_TEST

START_TEST(of_a_standby_and_shipped_itself)
{
    static const char *const bonds[] = { "lease-told", "lease-in", "promote-at", "uncommitted", "standby-from" };   /* the original's */
    char text[24];
    struct teststore a, b, f, g;
    struct err err = { 0 };
    struct fork made;

    twosites_both(&a, &b);
    for (size_t i = 0; i < sizeof bonds / sizeof *bonds; i++)
        ck_assert_msg(store_config_set(b.s, bonds[i], "1", &err) == 0, "%s", err.msg);
    made = make(&b, "f");
    ck_assert_uint_ne(made.lsn, 0);
    fork_open(&b, "f", &f);
    for (size_t i = 0; i < sizeof bonds / sizeof *bonds; i++) {
        ck_assert_msg(store_config_get(f.s, bonds[i], text, sizeof text) <= 0, "%s=%s", bonds[i], text);
        ck_assert_int_eq(store_config_set(b.s, bonds[i], NULL, &err), 0);
    }
    ts_save(&f, "drilled", "here");
    ts_save(&a, "on", "there");
    ck_assert_msg(twosites_send(&a, &b, &err) == 0, "%s", err.msg);
    ts_is(&b, "on", "there");
    ts_is(&b, "drilled", NULL);
    ts_is(&f, "on", NULL);
    /* a standby of the fork is sent what the fork has of another lineage, too; half of it, and the rest */
    twosites_standby(&f, &g);
    ck_assert_msg(twosites_send(&f, &g, &err) == 0, "%s", err.msg);
    ts_is(&g, "one", "one");
    ts_is(&g, "drilled", "here");
    ck_assert_uint_eq(twosites_super(g.s)->n_epochs, 2);
    ck_assert_int_eq(store_demote(f.s, &err), 0);
    ck_assert_msg(store_promote(g.s, "test", false, &err) == 0, "%s", err.msg);
    ts_save(&g, "one", "promoted");
    ck_assert_msg(twosites_send(&g, &f, &err) == 0, "%s", err.msg);
    ts_is(&f, "one", "promoted");
    ts_is(&b, "one", "one");
    fork_close(&f);
    ts_free(&g);
    ts_free(&b);
    ts_free(&a);
}
END_TEST

START_TEST(inside_a_series_it_is_the_moment_before)
{
    struct teststore a, f;
    struct err err = { 0 };
    struct restore_stats st = { 0 };
    struct fork made;

    ts_new(&a, "UTC");
    ts_save(&a, "one", "one");
    ck_assert_int_eq(store_series(a.s, &a.who, true, "restoring", &err), 0);
    ts_save(&a, "one", "half");
    made = make(&a, "f");
    ck_assert_uint_lt(made.moment, made.lsn);
    fork_open(&a, "f", &f);
    ck_assert_msg(restore_path(f.s, &f.who, made.moment, "", "", true, NULL, NULL, &st, &err) == 0, "%s", err.msg);
    ts_is(&f, "one", "one");
    fork_close(&f);
    ck_assert_int_eq(store_series(a.s, &a.who, false, "", &err), 0);
    ts_is(&a, "one", "half");
    ts_free(&a);
}
END_TEST

/* Fails, or the power does, at the n-th call: the store is as it was; the next try makes it; what was removed by halves is no fork. */
static bool try_at(unsigned n, bool cut, bool removing)
{
    struct teststore a, f;
    struct fork made;
    struct err err = { 0 };
    struct io_stat st;
    uint64_t calls;
    bool done;
    int rc;

    ts_new(&a, "UTC");
    ts_save(&a, "one", "one");
    parted_pack(&a);
    ts_save(&a, "two", "two");
    ck_assert_int_eq(store_sync(a.s, NULL), 0);
    if (removing)
        (void)make(&a, "f");
    calls = simio_calls(a.sim, SIMIO_MUTATING);
    if (cut)
        simio_cut_at(a.sim, n);
    else
        simio_fail_at(a.sim, SIMIO_MUTATING, n, n % 2 ? ERR_IO : ERR_NOSPC);
    rc = removing ? store_fork_remove(simio_io(a.sim), "f", &err) : store_fork(a.s, "f", &made, &err);
    if (rc == 0 && !removing)
        rc = store_fork_finish(simio_io(a.sim), "f", made.site, &err);
    done = rc == 0 && !simio_dead(a.sim) && (cut || simio_calls(a.sim, SIMIO_MUTATING) - calls < n);
    if (rc < 0)
        ck_assert_str_ne(err.msg, "");
    simio_cut_at(a.sim, 0);
    simio_fail_clear(a.sim);
    ts_reopen(&a, true);
    ts_is(&a, "one", "one");
    ts_is(&a, "two", "two");
    if (io_stat_path(simio_io(a.sim), "forks/f", &st, NULL) == 0) {      /* whole, then */
        fork_open(&a, "f", &f);
        ts_is(&f, "two", "two");
        fork_close(&f);
        ck_assert_int_eq(store_fork_remove(simio_io(a.sim), "f", NULL), 0);
    }
    (void)make(&a, "f");
    fork_open(&a, "f", &f);
    ts_is(&f, "one", "one");
    ts_is(&f, "two", "two");
    fork_close(&f);
    ck_assert_int_eq(store_fork_remove(simio_io(a.sim), "f", NULL), 0);
    ts_free(&a);
    return done;
}

START_TEST(cut_off_or_failing_at_any_call)
{
    unsigned n = 1;

    while (!try_at(n, _i & 1, _i & 2))
        ck_assert_uint_lt(++n, 200);
    ck_assert_uint_gt(n, _i & 2 ? 5 : 30);
}
END_TEST

/* One is made, and has no name yet, when another try of that name begins: it takes its place, or fails at the n-th call. What gets the name is whole, and is what that try made. */
START_TEST(another_try_takes_its_place)
{
    bool done = false;
    unsigned n, stays = 0, lost = 0;

    for (n = 1; !done; n++) {
        struct teststore a, f;
        struct fork first, other;
        struct err err = { 0 };
        int rc;

        ts_new(&a, "UTC");
        ts_save(&a, "one", "one");
        ck_assert_int_eq(store_fork(a.s, "f", &first, &err), 0);
        ts_save(&a, "one", "later");
        ck_assert_int_eq(store_sync(a.s, NULL), 0);
        simio_fail_at(a.sim, SIMIO_MUTATING, n, ERR_NOSPC);
        done = store_fork(a.s, "f", &other, &err) == 0;
        simio_fail_clear(a.sim);
        rc = store_fork_finish(simio_io(a.sim), "f", first.site, &err);
        if (rc == 0) {
            ck_assert(!done);
            fork_open(&a, "f", &f);
            ts_is(&f, "one", "one");
            fork_close(&f);
            ck_assert_int_eq(store_fork_remove(simio_io(a.sim), "f", NULL), 0);
        } else {
            ck_assert_msg(rc == ERR_BUSY, "call %u: %s", n, err.msg);
        }
        *(rc == 0 ? &stays : &lost) += 1;
        if (done) {
            ck_assert_msg(store_fork_finish(simio_io(a.sim), "f", other.site, &err) == 0, "%s", err.msg);
        } else {
            ts_reopen(&a, true);         /* a failed write of the log stopped it */
            (void)make(&a, "f");
        }
        fork_open(&a, "f", &f);
        ts_is(&f, "one", "later");
        fork_close(&f);
        ts_free(&a);
        ck_assert_uint_lt(n, 200);
    }
    ck_assert_uint_gt(stays, 0);
    ck_assert_uint_gt(lost, 20);
}
END_TEST

START_TEST(one_that_is_being_made_is_left_alone)
{
    struct teststore a;
    struct fork made;
    struct io_file *lock;
    struct err err = { 0 };

    ts_new(&a, "UTC");
    ts_save(&a, "one", "one");
    ck_assert_int_eq(store_fork(a.s, "f", &made, &err), 0);
    ck_assert_int_eq(io_lock(simio_io(a.sim), "forks/f.part/lock", &lock, &err), 0);
    ck_assert_int_eq(store_fork(a.s, "f", &(struct fork){ 0 }, &err), ERR_BUSY);
    ck_assert_int_eq(store_fork_finish(simio_io(a.sim), "f", made.site, &err), ERR_BUSY);
    ck_assert_int_eq(store_fork_remove(simio_io(a.sim), "f", &err), ERR_LOCKED);
    io_close(lock);
    ck_assert_int_eq(store_fork_finish(simio_io(a.sim), "f", made.site, &err), 0);
    ts_free(&a);
}
END_TEST

START_TEST(names)
{
    static const char *const wrong[] = { "", ".x", "-x", "a/b", "list", "remove", "x.part", "a b", "\xc3\xa4" };
    char name[FORK_NAME_MAX + 2];

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        ck_assert_int_eq(fork_name_check(wrong[i], NULL), ERR_USAGE);
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    ck_assert_int_eq(fork_name_check(name, NULL), ERR_USAGE);
    name[sizeof name - 2] = '\0';
    ck_assert_int_eq(fork_name_check(name, NULL), 0);
    ck_assert_int_eq(fork_name_check("drill-2026.11_1", NULL), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("fork");
    TCase *t = tcase_create("fork");
    SRunner *sr = srunner_create(s);
    int failed;

    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, each_goes_on_by_itself, 0, 8);
    tcase_add_test(t, the_original_lets_go);
    tcase_add_test(t, of_a_standby_and_shipped_itself);
    tcase_add_test(t, inside_a_series_it_is_the_moment_before);
    tcase_add_loop_test(t, cut_off_or_failing_at_any_call, 0, 4);
    tcase_add_test(t, another_try_takes_its_place);
    tcase_add_test(t, one_that_is_being_made_is_left_alone);
    tcase_add_test(t, names);
    suite_add_tcase(s, t);
    srunner_run_all(sr, CK_ENV);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? 0 : 1;
}
