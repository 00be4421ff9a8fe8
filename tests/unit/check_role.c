/*
 * check_role: roles of a store that is open: promoted, fenced, demoted, held; and what is left of each after a cut at any call.
 */
#include "store/core/core_internal.h"
#include "store/core/lease.h"
#include "store/core/role.h"
#include "store/core/standby.h"
#include "tests/lib/twosites.h"

#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static struct teststore a;                       /* the primary */
static struct teststore b;                       /* its standby */

static void both(void)
{
    twosites_both(&a, &b);
}

static void neither(void)
{
    ts_free(&b);
    ts_free(&a);
}

START_TEST(promoted_in_place)
{
    struct epoch_row old = twosites_super(a.s)->epochs[0];
    struct standby back;
    struct err err = { 0 };
    uint64_t head = log_head(store_log(b.s));

    ck_assert_int_eq(ts_try_create(&b, "two"), ERR_FENCED);
    ck_assert_msg(store_promote(b.s, "a test", false, &err) == 0, "%s", err.msg);
    ck_assert_uint_eq(store_role(b.s), ROLE_PRIMARY);
    ck_assert_uint_eq(twosites_super(b.s)->n_epochs, 2);
    ck_assert_uint_eq(twosites_super(b.s)->epochs[1].first_lsn, head);
    ck_assert_int_eq(ts_try_create(&b, "two"), 0);
    ts_is(&b, "one", "one");
    /* what the primary of before lacks is held for it */
    ck_assert(standby_get(b.s, 0, &back));
    ck_assert_mem_eq(back.site, old.site, 16);
    ck_assert_uint_eq(back.acked, head);
    ck_assert_int_eq(store_promote(b.s, "again", false, &err), ERR_INVAL);
    ck_assert_int_eq(twosites_send(&a, &b, &err), 0);         /* it has nothing more */
    ts_reopen(&b, true);
    ck_assert_uint_eq(store_role(b.s), ROLE_PRIMARY);
    ts_is(&b, "one", "one");
}
END_TEST

/* Nobody is left without a primary: the last row that there is room for may be taken, and not given up. */
START_TEST(a_table_that_is_full_keeps_its_role)
{
    struct err err = { 0 };
    uint32_t n = twosites_super(a.s)->n_epochs;

    for (; n < SUPER_EPOCHS_MAX - SUPER_EPOCHS_KEPT; n++) {
        ck_assert_msg(store_may_hand_over(a.s, &err) == 0 && store_demote(a.s, &err) == 0 && store_promote(a.s, "again", false, &err) == 0, "%u: %s", n, err.msg);
        if (n == 140)                    /* the files have grown */
            ts_reopen(&a, true);
    }
    ck_assert_int_eq(store_may_hand_over(a.s, &err), ERR_NOSPC);
    ck_assert_msg(strstr(err.msg, "expected room for one more epoch, found 1008 of 1024 there") && strstr(err.msg, "spare init"), "%s", err.msg);
    for (; n < SUPER_EPOCHS_MAX; n++)
        ck_assert_msg(store_demote(a.s, &err) == 0 && store_promote(a.s, "again", false, &err) == 0, "%u: %s", n, err.msg);
    ck_assert_int_eq(store_demote(a.s, &err), ERR_NOSPC);
    ck_assert_uint_eq(store_role(a.s), ROLE_PRIMARY);
    ts_reopen(&a, true);
    ck_assert_int_eq(ts_try_create(&a, "two"), 0);
    ck_assert_int_eq(twosites_send(&a, &b, &err), ERR_NOSPC);      /* it leaves room for itself */
    ck_assert_uint_eq(twosites_super(b.s)->n_epochs, SUPER_EPOCHS_MAX - SUPER_EPOCHS_KEPT);
    ck_assert_msg(store_promote(b.s, "here", false, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(ts_try_create(&b, "three"), 0);
}
END_TEST

static unsigned standbys_of(struct teststore *t, const uint8_t site[16], struct standby *last)
{
    struct standby one;
    unsigned n = 0;

    for (unsigned i = 0; i < STANDBYS_MAX; i++)
        if (standby_get(t->s, i, &one) && memcmp(one.site, site, 16) == 0) {
            *last = one;
            n++;
        }
    return n;
}

START_TEST(who_is_expected_back_is_one_standby)
{
    struct epoch_row old = twosites_super(a.s)->epochs[0];
    struct standby named = { .target = "/where/it/is" }, known = { 0 };
    struct err err = { 0 };
    uint64_t head = log_head(store_log(b.s));

    ck_assert_int_eq(store_promote(b.s, "a test", false, &err), 0);
    ck_assert_uint_eq(standbys_of(&b, old.site, &known), 1);
    ck_assert_int_eq(known.target[0], '@');
    /* it is found, by a name: the same one */
    memcpy(named.site, old.site, 16);
    ck_assert_int_eq(standby_note(b.s, &named, &err), 0);
    ck_assert_uint_eq(standbys_of(&b, old.site, &known), 1);
    ck_assert_str_eq(known.target, named.target);
    ck_assert_uint_eq(known.acked, head);
}
END_TEST

START_TEST(a_standby_of_before_is_expected_back_by_its_name)
{
    struct epoch_row old = twosites_super(a.s)->epochs[0];
    struct standby named = { .target = "/where/it/is", .acked = log_head(store_log(b.s)) + 100 }, known = { 0 };
    struct err err = { 0 };
    uint64_t head = log_head(store_log(b.s));

    memcpy(named.site, old.site, 16);
    ck_assert_int_eq(standby_note(b.s, &named, &err), 0);
    ck_assert_int_eq(store_promote(b.s, "a test", false, &err), 0);
    ck_assert_uint_eq(standbys_of(&b, old.site, &known), 1);
    ck_assert_str_eq(known.target, named.target);
    ck_assert_uint_eq(known.acked, head);
}
END_TEST

/* What is noted is its own epoch, of which the row went: that says nothing of who was primary before. */
START_TEST(the_primary_before_is_expected_back_where_what_is_noted_is_its_own)
{
    const struct super *sb = twosites_super(b.s);
    struct epoch_row old = sb->epochs[0];
    struct standby known = { 0 };
    struct err err = { 0 };
    char text[128], site[33];
    uint64_t head = log_head(store_log(b.s));

    for (int i = 0; i < 16; i++)
        snprintf(site + 2 * i, 3, "%02x", sb->site[i]);
    snprintf(text, sizeof text, "7 %s %s %llu", site, site, (unsigned long long)head - 8);
    ck_assert_int_eq(store_config_set(b.s, "fenced", text, &err), 0);
    ck_assert_int_eq(store_promote(b.s, "a test", false, &err), 0);
    ck_assert_uint_eq(twosites_super(b.s)->epochs[1].number, 8);
    ck_assert_uint_eq(standbys_of(&b, old.site, &known), 1);
    ck_assert_uint_eq(known.acked, head);
}
END_TEST

/* ---- a lease ---- */

static uint64_t boot_ms(struct teststore *t)
{
    return io_boot_ns(store_io(t->s)) / 1000000;
}

static void ask_for_lease(void)
{
    struct standby named = { .target = "/where/it/is" };
    struct err err = { 0 };

    memcpy(named.site, twosites_super(b.s)->site, 16);
    ck_assert_int_eq(standby_note(a.s, &named, &err), 0);
    ck_assert_msg(store_config_set(a.s, "lease", "10s /where/it/is", &err) == 0, "%s", err.msg);
}

START_TEST(a_primary_whose_lease_ran_out_takes_no_change)
{
    struct lease l;
    uint64_t left;

    ask_for_lease();
    store_lease(a.s, &l);
    ck_assert_uint_eq(l.ms, 10000);
    ck_assert_mem_eq(l.site, twosites_super(b.s)->site, 16);
    ck_assert_int_eq(store_lease_state(a.s, &left), LEASE_TO_COME);
    ck_assert_int_eq(ts_try_create(&a, "before"), 0);
    l.site[0] ^= 1;
    ck_assert_int_eq(store_lease_renew(a.s, l.site, boot_ms(&a) + 10000, NULL), 0);         /* of another */
    ck_assert_int_eq(store_lease_state(a.s, &left), LEASE_TO_COME);
    l.site[0] ^= 1;
    ck_assert_int_eq(store_lease_renew(a.s, l.site, boot_ms(&a) + 10000, NULL), 0);
    ck_assert_int_eq(store_lease_state(a.s, &left), LEASE_HELD);
    ck_assert_int_eq(ts_try_create(&a, "within"), 0);
    ts_step(&a, 11000);
    ck_assert_int_eq(store_lease_state(a.s, &left), LEASE_OUT);
    ck_assert_int_eq(ts_try_create(&a, "out"), ERR_FENCED);
    ck_assert_int_eq(store_lease_renew(a.s, l.site, boot_ms(&a) + 10000, NULL), 0);
    ck_assert_int_eq(ts_try_create(&a, "again"), 0);
    ts_reopen(&a, true);                 /* it has none until one is given */
    ck_assert_int_eq(store_lease_state(a.s, &left), LEASE_OUT);
    ck_assert_int_eq(ts_try_create(&a, "anew"), ERR_FENCED);
    ck_assert_int_eq(store_config_set(a.s, "lease", NULL, NULL), 0);
    ck_assert_int_eq(ts_try_create(&a, "off"), 0);
}
END_TEST

static bool time_goes(void *arg, uint64_t left_ms)
{
    unsigned *turns = arg;

    ck_assert_uint_le(left_ms, lease_promise_ms(10000));
    ts_step(&b, 5000);
    return ++*turns != 1000;
}

static bool not_so_long(void *arg, uint64_t left_ms)
{
    (void)arg, (void)left_ms;
    return false;
}

START_TEST(a_standby_that_promised_waits)
{
    struct lease l = { .ms = 10000 };
    struct err err = { 0 };
    uint32_t epoch = twosites_super(b.s)->epochs[0].number;
    unsigned turns = 0;

    memcpy(l.site, twosites_super(b.s)->site, 16);
    ck_assert_int_eq(store_lease_promise(b.s, &l, epoch, boot_ms(&b) + lease_promise_ms(10000), &err), 0);
    ck_assert_int_eq(store_promote(b.s, "a test", false, &err), ERR_FENCED);
    ck_assert_int_eq(store_lease_await(b.s, false, not_so_long, NULL, &err), ERR_INTR);
    if (_i == 1)                         /* when it acknowledged last is not known any more */
        ts_reopen(&b, true);
    ck_assert_int_eq(store_promote(b.s, "a test", false, &err), ERR_FENCED);
    ck_assert_msg(store_lease_await(b.s, false, time_goes, &turns, &err) == 0, "%s", err.msg);
    ck_assert_uint_ge(turns, 3);
    ck_assert_int_eq(store_lease_promise(b.s, &l, epoch, UINT64_MAX, &err), ERR_BUSY);
    ck_assert_msg(store_promote(b.s, "a test", false, &err) == 0, "%s", err.msg);
    store_lease(b.s, &l);
    ck_assert_uint_eq(l.ms, 0);
    ck_assert_int_eq(ts_try_create(&b, "two"), 0);
}
END_TEST

START_TEST(a_standby_that_does_not_give_it_needs_a_word)
{
    struct lease l = { 10000, { 9 } };
    struct err err = { 0 };
    uint32_t epoch = twosites_super(b.s)->epochs[0].number;

    ck_assert_int_eq(store_lease_promise(b.s, &l, epoch, boot_ms(&b) + lease_promise_ms(10000), &err), 0);
    ck_assert_int_eq(store_lease_await(b.s, false, NULL, NULL, &err), ERR_FENCED);
    ck_assert(strstr(err.msg, "--unfenced") != NULL);
    ck_assert_int_eq(store_promote(b.s, "a test", false, &err), ERR_FENCED);
    ck_assert_int_eq(store_lease_await(b.s, true, NULL, NULL, &err), 0);
    ck_assert_msg(store_promote(b.s, "a test", false, &err) == 0, "%s", err.msg);
}
END_TEST

START_TEST(fenced_at_once_and_for_good)
{
    struct epoch_row by, said;
    struct err err = { 0 };
    char *text;

    ck_assert_int_eq(store_promote(b.s, "a test", false, &err), 0);
    by = twosites_super(b.s)->epochs[1];
    ts_save(&a, "late", "work that was not shipped");
    ck_assert_msg(store_fence(a.s, &by, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(ts_try_create(&a, "no"), ERR_FENCED);
    ck_assert_uint_eq(store_role(a.s), ROLE_FENCED);
    for (int cut = 0; cut < 2; cut++) {
        ts_reopen(&a, cut);
        ck_assert_uint_eq(store_role(a.s), ROLE_FENCED);
        ck_assert_int_eq(ts_try_create(&a, "no"), ERR_FENCED);
        ck_assert(store_fenced_by(a.s, &said));
        ck_assert_uint_eq(said.number, 2);
        ck_assert_mem_eq(said.id, by.id, 16);
        ck_assert_mem_eq(said.site, by.site, 16);
        ck_assert_uint_eq(said.first_lsn, by.first_lsn);
        text = ts_read(&a, AT_LIVE, "late");
        ck_assert_str_eq(text, "work that was not shipped");
        free(text);
    }
    /* the fail-over is taken back: nothing is changed here, and the number is above the other's */
    ck_assert_msg(store_promote(a.s, "rolled back", false, &err) == 0, "%s", err.msg);
    ck_assert_uint_eq(twosites_super(a.s)->epochs[1].number, 3);
    ck_assert(!store_fenced_by(a.s, &said));
    ck_assert_int_eq(ts_try_create(&a, "yes"), 0);
    ts_is(&a, "late", "work that was not shipped");
    struct standby back;
    ck_assert(standby_get(a.s, 0, &back));
    ck_assert_mem_eq(back.site, by.site, 16);
    ck_assert_uint_eq(back.acked, by.first_lsn);
}
END_TEST

START_TEST(an_older_epoch_fences_nobody)
{
    struct epoch_row by = twosites_super(a.s)->epochs[0];
    struct err err = { 0 };

    ck_assert_int_eq(store_fence(a.s, &by, &err), 0);
    ck_assert_int_eq(ts_try_create(&a, "yes"), 0);
    by.number = 9;
    ck_assert_int_eq(store_fence(b.s, &by, &err), 0);    /* a standby has nothing to stop */
    ck_assert_uint_eq(store_role(b.s), ROLE_STANDBY);
}
END_TEST

/* Who was told of an epoch counts on from it, whatever its role was then. */
START_TEST(a_promotion_is_above_all_that_was_heard_of)
{
    struct epoch_row by = twosites_super(b.s)->epochs[0], said;
    struct err err = { 0 };

    by.number = 7;
    by.first_lsn = log_head(store_log(b.s)) + 800;
    by.id[0] ^= 1;
    ck_assert_int_eq(store_fence(b.s, &by, &err), 0);
    ck_assert_uint_eq(store_role(b.s), ROLE_STANDBY);
    by.number = 5;
    ck_assert_int_eq(store_fence(b.s, &by, &err), 0);
    ts_reopen(&b, true);
    ck_assert(store_fenced_by(b.s, &said) && said.number == 7);
    by.number = 3;                       /* one that was fenced hears of more */
    ck_assert_int_eq(store_fence(a.s, &by, &err), 0);
    ck_assert_uint_eq(store_role(a.s), ROLE_FENCED);
    by.number = 9;
    ck_assert_int_eq(store_fence(a.s, &by, &err), 0);
    ck_assert_uint_eq(store_role(a.s), ROLE_FENCED);
    ck_assert_int_eq(store_promote(a.s, "a test", false, &err), 0);
    ck_assert_uint_eq(twosites_super(a.s)->epochs[1].number, 10);
    ck_assert_int_eq(store_promote(b.s, "a test", false, &err), 0);
    ck_assert_uint_eq(twosites_super(b.s)->epochs[1].number, 8);
}
END_TEST

START_TEST(handed_over_and_back)
{
    struct err err = { 0 };

    for (int i = 0; i < 3; i++) {
        struct teststore *from = i % 2 ? &b : &a, *to = i % 2 ? &a : &b;

        ck_assert_msg(store_demote(from->s, &err) == 0, "%s", err.msg);
        ck_assert_int_eq(store_demote(from->s, &err), 0);
        ck_assert_int_eq(ts_try_create(from, "no"), ERR_FENCED);
        ck_assert_msg(twosites_send(from, to, &err) == 0, "%s", err.msg);
        ck_assert_msg(store_promote(to->s, "switched over", false, &err) == 0, "%s", err.msg);
        ts_save(to, "one", i % 2 ? "from a" : "from b");
        ck_assert_msg(twosites_send(to, from, &err) == 0, "%s", err.msg);
        ts_is(from, "one", i % 2 ? "from a" : "from b");
    }
    ck_assert_uint_eq(twosites_super(a.s)->epochs[3].number, 4);
}
END_TEST

START_TEST(held_changes_wait_and_are_refused)
{
    struct wait w = { 0 };
    uint64_t ino;
    struct row_ino row;

    ck_assert_int_eq(store_hold(a.s, NULL), 0);
    ck_assert_int_eq(store_hold(a.s, NULL), ERR_BUSY);
    ck_assert_int_eq(store_create_node(a.s, &a.who, INO_ROOT, "x", 1, S_IFREG | 0644, 0, NULL, &ino, &row, &w), ERR_WAIT);
    ck_assert(!store_ready(a.s, &w));
    store_unhold(a.s);
    ck_assert(store_ready(a.s, &w));
    ck_assert_int_eq(store_create_node(a.s, &a.who, INO_ROOT, "x", 1, S_IFREG | 0644, 0, NULL, &ino, &row, &w), 0);
    ck_assert_int_eq(store_hold(a.s, NULL), 0);
    memset(&w, 0, sizeof w);
    ck_assert_int_eq(store_create_node(a.s, &a.who, INO_ROOT, "y", 1, S_IFREG | 0644, 0, NULL, &ino, &row, &w), ERR_WAIT);
    ck_assert_int_eq(store_demote(a.s, NULL), 0);
    ck_assert(store_ready(a.s, &w));
    ck_assert_int_eq(store_create_node(a.s, &a.who, INO_ROOT, "y", 1, S_IFREG | 0644, 0, NULL, &ino, &row, &w), ERR_FENCED);
}
END_TEST

/* A change of role cut off at each of its calls: it is the one or the other, and what was answered is there. */
START_TEST(cut_off_at_any_call)
{
    struct epoch_row by;
    struct err err = { 0 };
    bool done = false;

    for (unsigned n = 0; !done; n++) {
        int rc;

        both();
        by = twosites_super(a.s)->epochs[0];
        by.number = 5;
        memset(by.id, 7, 16);
        simio_cut_at(_i == 2 ? b.sim : a.sim, n + 1);
        rc = _i == 0 ? store_fence(a.s, &by, &err) : _i == 1 ? store_demote(a.s, &err) : store_promote(b.s, "x", false, &err);
        struct teststore *t = _i == 2 ? &b : &a;

        done = rc == 0 && !simio_dead(t->sim);
        if (!done) {
            ts_reopen(t, true);
            if (_i == 2)
                ck_assert(store_role(t->s) == ROLE_STANDBY || ts_try_create(t, "new") == 0);
            else
                ck_assert(store_role(t->s) == ROLE_PRIMARY ? ts_try_create(t, "new") == 0 : ts_try_create(t, "new") == ERR_FENCED);
            ts_is(t, "one", "one");
        }
        simio_cut_at(t->sim, 0);
        neither();
        ck_assert_uint_lt(n, 400);
    }
}
END_TEST

static uint64_t end_of(struct teststore *t)
{
    struct hash128 hash;
    uint64_t lsn = 0;

    log_last(store_log(t->s), &lsn, &hash);
    return lsn;
}

static bool there(struct teststore *t, const char *name)
{
    struct row_ino row;
    uint64_t ino;

    return store_lookup(t->s, AT_LIVE, INO_ROOT, name, strlen(name), &ino, &row, NULL) == 0;
}

/* To a moment, cut off at every third of its calls: a standby as before, or a primary that says that its tree is not that one's yet, or is; the same call then makes it so. */
START_TEST(to_a_moment_cut_off_at_any_call)
{
    struct restore_stats st;
    struct err err = { 0 };
    bool done = false;

    for (unsigned n = 0; !done; n += 3) {
        uint64_t at;
        int rc;

        both();
        at = end_of(&b);
        ck_assert_int_eq(ts_try_create(&a, "two"), 0);
        ck_assert_int_eq(ts_try_create(&a, "three"), 0);
        ck_assert_int_eq(twosites_send(&a, &b, &err), 0);
        ck_assert(there(&b, "two"));
        simio_cut_at(b.sim, n + 1);
        rc = store_promote_at(b.s, &b.who, at, "x", false, NULL, NULL, &st, &err);
        done = rc == 0 && !simio_dead(b.sim);
        if (!done) {
            uint64_t unfinished;

            ts_reopen(&b, true);
            unfinished = store_promote_unfinished(b.s);
            ck_assert(unfinished == 0 || unfinished == at);
            if (store_role(b.s) == ROLE_STANDBY || unfinished != 0)
                ck_assert_msg(store_promote_at(b.s, &b.who, at, "x", false, NULL, NULL, &st, &err) == 0, "%s", err.msg);
        }
        ck_assert_uint_eq(store_role(b.s), ROLE_PRIMARY);
        ck_assert_uint_eq(store_promote_unfinished(b.s), 0);
        ck_assert(!there(&b, "two") && !there(&b, "three"));
        ts_is(&b, "one", "one");
        ck_assert_int_eq(ts_try_create(&b, "new"), 0);
        ck_assert_int_eq(store_promote_at(b.s, &b.who, at, "x", false, NULL, NULL, &st, &err), ERR_INVAL);
        ck_assert(there(&b, "new"));
        simio_cut_at(b.sim, 0);
        neither();
        ck_assert_uint_lt(n, 600);
    }
}
END_TEST

/* More changes than may wait for the index at a time: who holds changes for a moment's tree waits for room, and for nothing else. */
START_TEST(to_a_moment_with_more_than_the_backlog)
{
    struct restore_stats st;
    struct err err = { 0 };
    char name[24];
    uint64_t at;

    both();
    at = end_of(&b);
    for (unsigned i = 0; i < BACKLOG_OPS + 100; i++) {
        snprintf(name, sizeof name, "%u", i);
        ck_assert_int_eq(ts_try_create(&a, name), 0);
    }
    ck_assert_int_eq(twosites_send(&a, &b, &err), 0);
    ck_assert(there(&b, "0"));
    ck_assert_msg(store_promote_at(b.s, &b.who, at, "x", false, NULL, NULL, &st, &err) == 0, "%s", err.msg);
    ck_assert_uint_eq(st.removed, BACKLOG_OPS + 100);
    ck_assert(!there(&b, "0"));
    neither();
}
END_TEST

struct meeting { pthread_t thread; struct epoch_row by; bool begun; int rc; };

static void *meets(void *arg)
{
    struct meeting *m = arg;

    m->rc = store_fence(b.s, &m->by, NULL);
    return NULL;
}

/* In the middle of the restore another site's epoch is met. */
static void met_meanwhile(void *arg, const struct restore_stats *st)
{
    struct meeting *m = arg;

    (void)st;
    if (m->begun)
        return;
    m->begun = true;
    ck_assert_int_eq(pthread_create(&m->thread, NULL, meets, m), 0);
    while (store_role(b.s) == ROLE_PRIMARY)      /* not when the restore is over: now */
        sched_yield();
}

START_TEST(fenced_in_the_middle_of_a_moment)
{
    struct restore_stats st;
    struct err err = { 0 };
    struct meeting m = { 0 };
    uint64_t at;

    both();
    at = end_of(&b);
    ck_assert_int_eq(ts_try_create(&a, "two"), 0);
    ck_assert_int_eq(twosites_send(&a, &b, &err), 0);
    m.by = twosites_super(b.s)->epochs[0];
    m.by.number = 9;
    memset(m.by.id, 7, 16);
    ck_assert_int_eq(store_promote_at(b.s, &b.who, at, "x", false, met_meanwhile, &m, &st, &err), ERR_FENCED);
    ck_assert(m.begun);
    ck_assert_int_eq(pthread_join(m.thread, NULL), 0);
    ck_assert_int_eq(m.rc, 0);
    ck_assert_uint_eq(store_role(b.s), ROLE_FENCED);
    ck_assert_int_eq(ts_try_create(&b, "new"), ERR_FENCED);
    ts_reopen(&b, true);
    ck_assert_uint_eq(store_role(b.s), ROLE_FENCED);
    neither();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("role");
    TCase *t = tcase_create("role"), *c = tcase_create("cut");
    SRunner *sr = srunner_create(s);
    int failed;

    tcase_set_timeout(t, 60);
    tcase_set_timeout(c, 120);
    tcase_add_checked_fixture(t, both, neither);
    tcase_add_test(t, promoted_in_place);
    tcase_add_test(t, a_table_that_is_full_keeps_its_role);
    tcase_add_test(t, who_is_expected_back_is_one_standby);
    tcase_add_test(t, a_standby_of_before_is_expected_back_by_its_name);
    tcase_add_test(t, the_primary_before_is_expected_back_where_what_is_noted_is_its_own);
    tcase_add_test(t, a_primary_whose_lease_ran_out_takes_no_change);
    tcase_add_loop_test(t, a_standby_that_promised_waits, 0, 2);
    tcase_add_test(t, a_standby_that_does_not_give_it_needs_a_word);
    tcase_add_test(t, fenced_at_once_and_for_good);
    tcase_add_test(t, an_older_epoch_fences_nobody);
    tcase_add_test(t, a_promotion_is_above_all_that_was_heard_of);
    tcase_add_test(t, handed_over_and_back);
    tcase_add_test(t, held_changes_wait_and_are_refused);
    tcase_add_loop_test(c, cut_off_at_any_call, 0, 3);
    tcase_add_test(c, to_a_moment_cut_off_at_any_call);
    tcase_add_test(c, to_a_moment_with_more_than_the_backlog);
    tcase_add_test(c, fenced_in_the_middle_of_a_moment);
    suite_add_tcase(s, t);
    suite_add_tcase(s, c);
    srunner_run_all(sr, CK_ENV);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed != 0;
}
