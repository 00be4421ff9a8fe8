/*
 * check_copied: a store that was copied behind its back, and is told so (LOCATION_COPIED): a store of its own, with its history, that fences nobody; cut off at any call, and told again.
 */
#include "store/core/core_internal.h"
#include "store/core/fork.h"
#include "store/core/role.h"
#include "store/core/standby.h"
#include "tests/lib/twosites.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct teststore a, b;                    /* a primary and its standby */

static void both(void)
{
    struct err err = { 0 };

    twosites_both(&a, &b);
    twosites_wait_for(&a, &b);
    ck_assert_msg(store_config_set(a.s, "lease", "30s /standby", &err) == 0 && store_config_set(a.s, "keep-daily", "9", &err) == 0 && store_config_set(a.s, "import", "x", &err) == 0, "%s", err.msg);
    ts_save(&a, "one", "one, as it was copied");
    ck_assert_int_eq(store_sync(a.s, &err), 0);
}

static void neither(void)
{
    ts_free(&b);
    ts_free(&a);
}

/* The disk of ${of} as it is, in use. */
static void copy(struct teststore *of, struct teststore *t, uint64_t luck)
{
    uint64_t drawn;

    memset(t, 0, sizeof *t);
    t->sim = simio_clone(of->sim);
    t->disk = kv_twin_disk_clone(of->disk);
    t->who = of->who;
    t->now_ns = of->now_ns;
    t->opt = (struct store_options){ .writable = true, .log = of->opt.log };
    for (uint64_t i = 0; i <= luck; i++)
        io_random(simio_io(t->sim), &drawn, sizeof drawn);       /* ids of its own */
}

/* ${dir} NULL: it lies nowhere, and everywhere. */
static int open_in(struct teststore *t, const char *dir, enum store_location location, struct err *err)
{
    int rc = kv_twin_open(t->disk, &t->opt.kv, err);

    t->opt.location = location;
    if (rc == 0)
        rc = store_open(simio_io(t->sim), dir, &t->opt, &t->s, NULL, err);
    if (rc < 0)
        t->s = NULL;
    return rc;
}

static int open_as(struct teststore *t, enum store_location location, struct err *err)
{
    return open_in(t, NULL, location, err);
}

/* As it is on disk; free. */
static struct super *super_of(struct teststore *t)
{
    struct super *sb = malloc(sizeof *sb);
    struct err err = { 0 };

    ck_assert_msg(super_read(simio_io(t->sim), sb, NULL, &err) == 0, "%s", err.msg);
    return sb;
}

/* The whole of ${t}, which nobody has open, is where it was not before. */
static void lies_elsewhere(struct teststore *t)
{
    struct super *sb = super_of(t);
    struct err err = { 0 };

    sb->ino += 1000;
    for (int i = 0; i < 2; i++)
        ck_assert_msg(super_write(simio_io(t->sim), sb, &err) == 0, "%s", err.msg);
    free(sb);
}

static void told(struct teststore *t)
{
    struct err err = { 0 };

    ck_assert_msg(open_as(t, LOCATION_COPIED, &err) == 0, "%s", err.msg);
    t->opt.location = LOCATION_AS_IS;
}

static void put_away(struct teststore *t)
{
    struct err err = { 0 };

    if (t->s != NULL)
        ck_assert_msg(store_close(t->s, &err) == 0, "%s", err.msg);
    kv_twin_disk_free(t->disk);
    simio_free(t->sim);
}

/* Both copies of both files are whole, and of one lineage. */
static void whole(struct teststore *t)
{
    struct super *sb = malloc(sizeof *sb);
    struct retained r = { 0 };
    struct err err = { 0 }, warn = { 0 };

    ck_assert_msg(super_read(simio_io(t->sim), sb, &warn, &err) == 0 && warn.code == 0, "%s%s", err.msg, warn.msg);
    ck_assert_msg(retained_read(simio_io(t->sim), sb->lineage, NULL, &r, &warn, &err) == 0 && warn.code == 0, "%s%s", err.msg, warn.msg);
    retained_release(&r);
    ck_assert_mem_eq(sb->epochs[sb->n_epochs - 1].lineage, sb->lineage, 16);
    free(sb);
}

static bool has_setting(struct teststore *t, const char *name)
{
    char text[STANDBY_TEXT_MAX];

    return store_config_get(t->s, name, text, sizeof text) > 0;
}

/* ${t} is a store of its own since ${before}, and holds what it was copied with. */
static void is_its_own(struct teststore *t, const struct super *before)
{
    const struct super *sb = twosites_super(t->s);
    const struct epoch_row *e = &sb->epochs[sb->n_epochs - 1];
    struct standby one;

    ck_assert(memcmp(sb->lineage, before->lineage, 16) != 0 && memcmp(sb->site, before->site, 16) != 0);
    ck_assert_uint_eq(sb->n_epochs, before->n_epochs + 1);
    ck_assert_uint_eq(e->number, before->epochs[before->n_epochs - 1].number + 1);
    ck_assert_mem_eq(e->lineage, sb->lineage, 16);
    ck_assert_mem_eq(e->site, sb->site, 16);
    ck_assert_mem_eq(e[-1].lineage, before->lineage, 16);
    ck_assert_mem_eq(super_before(sb), before->lineage, 16);
    ck_assert_mem_eq(sb->key, before->key, 32);
    for (unsigned i = 0; i <= STANDBY_FROM; i++)
        ck_assert(!standby_get(t->s, i, &one));
    ck_assert(has_setting(t, FORK_PARTED) && has_setting(t, "keep-daily") && !has_setting(t, "lease") && !has_setting(t, "import"));
    ts_is(t, "one", "one, as it was copied");
    ck_assert_int_eq(ts_try_create(t, "mine"), 0);
    ck_assert_int_eq(store_sync(t->s, NULL), 0);
}

START_TEST(a_store_of_its_own_with_its_history)
{
    struct super *before = malloc(sizeof *before);
    struct teststore c;
    uint64_t at = ts_last(&a);
    char *was;

    super_copy(before, twosites_super(a.s));
    ts_save(&a, "one", "changed meanwhile");
    ts_save(&a, "one", "one, as it was copied");
    ck_assert_int_eq(store_sync(a.s, NULL), 0);
    copy(&a, &c, 0);
    told(&c);
    is_its_own(&c, before);
    was = ts_read(&c, at, "one");
    ck_assert_str_eq(was, "one, as it was copied");
    free(was);
    for (int cut = 0; cut < 2; cut++) {          /* as any other from here on */
        ts_reopen(&c, cut);
        ts_is(&c, "one", "one, as it was copied");
        ck_assert_int_eq(ts_try_create(&c, cut ? "x" : "y"), 0);
    }
    whole(&c);
    put_away(&c);
    free(before);
}
END_TEST

/* Whichever copy of superblock or retained set rots later: it does not become its original again. */
START_TEST(one_copy_rots)
{
    static const char *const names[] = { "super.0", "super.1", "retained.0", "retained.1" };
    struct super *before = malloc(sizeof *before);
    struct teststore c;
    struct err err = { 0 };

    super_copy(before, twosites_super(a.s));
    copy(&a, &c, 0);
    told(&c);
    store_drop(c.s);
    simio_cut(c.sim, 1, SIMIO_CUT_DROP_ALL);
    ck_assert(simio_flip(c.sim, names[_i], 100, 4));
    ck_assert_msg(open_as(&c, LOCATION_AS_IS, &err) == 0, "%s", err.msg);
    is_its_own(&c, before);
    put_away(&c);
    free(before);
}
END_TEST

/* What nobody said stays: the place alone has changed. */
START_TEST(moved_keeps_everything)
{
    struct super *before = malloc(sizeof *before);
    struct teststore c;
    struct err err = { 0 };

    super_copy(before, twosites_super(a.s));
    copy(&a, &c, 0);
    ck_assert_int_eq(open_as(&c, LOCATION_MOVED, &err), 0);
    ck_assert_mem_eq(twosites_super(c.s)->lineage, before->lineage, 16);
    ck_assert_mem_eq(twosites_super(c.s)->site, before->site, 16);
    ck_assert_uint_eq(twosites_super(c.s)->n_epochs, before->n_epochs);
    ck_assert(has_setting(&c, "standby-1") && has_setting(&c, "lease") && !has_setting(&c, FORK_PARTED));
    put_away(&c);
    free(before);
}
END_TEST

static void refused(struct teststore *from, struct teststore *to, const char *sender_says, const char *receiver_says)
{
    struct twosites_end end = { 0 };

    ck_assert_int_ne(twosites_ship(from, to, &end), 0);
    ck_assert_int_eq(end.ship, ERR_NOSTORE);
    ck_assert_int_eq(end.receive, ERR_NOSTORE);
    ck_assert_msg(strstr(end.ship_err.msg, sender_says) || strstr(end.ship_err.msg, receiver_says), "%s", end.ship_err.msg);
    ck_assert_msg(strstr(end.receive_err.msg, receiver_says) || strstr(end.receive_err.msg, sender_says), "%s", end.receive_err.msg);
}

/* Whoever meets whom: refused by name at both ends, and the original goes on as if nothing were. */
START_TEST(fences_nobody_and_is_refused_by_name)
{
    static const char from_this[] = "forked from this one, or copied, @", this_from[] = "which this one was forked from, or copied, @", both_of[] = "forked or copied from one that this one was, too";
    struct teststore c, d;
    struct err err = { 0 };

    copy(&a, &c, 0);
    copy(&a, &d, 1);
    told(&c);
    told(&d);
    for (int i = 0; i < 3; i++) {        /* far above the original */
        ck_assert_int_eq(store_demote(c.s, &err), 0);
        ck_assert_int_eq(store_promote(c.s, "again", false, &err), 0);
    }
    refused(&c, &b, this_from, from_this);
    refused(&c, &a, this_from, from_this);
    refused(&a, &c, from_this, this_from);
    refused(&c, &d, both_of, both_of);
    ck_assert_uint_eq(store_role(a.s), ROLE_PRIMARY);
    ck_assert_uint_eq(store_epoch_known(b.s), 1);
    ts_save(&a, "one", "the original goes on");
    ck_assert_int_eq(twosites_send(&a, &b, &err), 0);
    ts_is(&b, "one", "the original goes on");
    put_away(&c);
    put_away(&d);
}
END_TEST

/* A standby of the copy's own takes all of it, what it has of its original's lineage first. */
START_TEST(a_copy_has_standbys_of_its_own)
{
    struct teststore c, e;
    struct err err = { 0 };

    copy(&a, &c, 0);
    told(&c);
    twosites_standby(&c, &e);
    ck_assert_msg(twosites_send(&c, &e, &err) == 0, "%s", err.msg);
    ts_is(&e, "one", "one, as it was copied");
    ck_assert_int_eq(ts_try_create(&c, "mine"), 0);
    ck_assert_int_eq(twosites_ship(&c, &e, NULL), 0);
    ts_is(&e, "mine", "");
    ts_reopen(&e, true);
    put_away(&e);
    put_away(&c);
}
END_TEST

/* Said at every boot, as an option of a mount may be: what it has become since stays. Copied anew it is said once more. */
START_TEST(told_again_it_loses_nothing)
{
    struct super *before, *after;
    struct teststore c;
    struct err err = { 0 };

    copy(&a, &c, 0);
    ck_assert_msg(open_in(&c, "copy", LOCATION_COPIED, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(store_config_set(c.s, "lease", "30s /other", &err), 0);
    ck_assert_int_eq(store_close(c.s, &err), 0);
    before = super_of(&c);
    ck_assert_int_eq(open_in(&c, "copy", LOCATION_COPIED, &err), ERR_INVAL);
    ck_assert_msg(strstr(err.msg, "copy: expected a store that was copied just now, found one that lies where it says and is a store of its own already") && strstr(err.msg, "leave --copied away"), "%s", err.msg);
    ck_assert_msg(open_in(&c, "copy", LOCATION_AS_IS, &err) == 0, "%s", err.msg);
    ck_assert(has_setting(&c, "lease"));
    ck_assert_int_eq(store_close(c.s, &err), 0);
    after = super_of(&c);
    ck_assert_mem_eq(after->site, before->site, 16);
    ck_assert_mem_eq(after->lineage, before->lineage, 16);
    ck_assert_uint_eq(after->n_epochs, before->n_epochs);
    free(after);
    lies_elsewhere(&c);
    ck_assert_int_eq(open_in(&c, "copy", LOCATION_AS_IS, &err), ERR_MOVED);
    ck_assert_msg(open_in(&c, "copy", LOCATION_COPIED, &err) == 0, "%s", err.msg);
    ck_assert(memcmp(twosites_super(c.s)->lineage, before->lineage, 16) != 0 && !has_setting(&c, "lease"));
    put_away(&c);
    free(before);
}
END_TEST

/*
 * Told, and cut off with a row whose record is not there; copied then, and told so, and cut off at each call: never does one that is the other's in site or epoch open without being asked
 * about.
 */
START_TEST(the_copy_of_one_that_was_cut_off)
{
    struct super *pending = NULL;
    struct teststore d, e;
    struct err err = { 0 };
    unsigned asked = 0, own = 0;
    bool done = false;

    for (unsigned n = 1; pending == NULL; n++) {         /* its first superblock is there, and no more */
        copy(&a, &d, 0);
        simio_cut_at(d.sim, n);
        ck_assert_int_lt(open_in(&d, "original", LOCATION_COPIED, &err), 0);
        simio_cut(d.sim, n, SIMIO_CUT_DROP_ALL);
        pending = super_of(&d);
        if (pending->n_epochs > twosites_super(a.s)->n_epochs)
            break;
        free(pending);
        pending = NULL;
        kv_twin_disk_free(d.disk);
        simio_free(d.sim);
    }
    lies_elsewhere(&d);                  /* so that what is copied of it does */
    for (unsigned n = 1; !done; n++)
        for (unsigned mode = 0; mode < SIMIO_N_CUT_MODES; mode++) {
            copy(&d, &e, n);
            simio_cut_at(e.sim, n);
            if (open_in(&e, "copy", LOCATION_COPIED, &err) == 0)
                store_drop(e.s);
            done = !simio_dead(e.sim);
            simio_cut(e.sim, n, (enum simio_cut_mode)mode);
            int rc = open_in(&e, "copy", LOCATION_AS_IS, &err);

            if (rc == 0) {
                const struct super *sb = twosites_super(e.s);

                ck_assert_msg(memcmp(sb->site, pending->site, 16) != 0 && memcmp(sb->lineage, pending->lineage, 16) != 0, "call %u, mode %u: it has the other's site, and is not asked about", n, mode);
                own++;
            } else {
                ck_assert_msg(rc == ERR_MOVED, "call %u, mode %u: %s", n, mode, err.msg);
                ck_assert_msg(open_in(&e, "copy", LOCATION_COPIED, &err) == 0, "call %u, mode %u: %s", n, mode, err.msg);
                ck_assert(memcmp(twosites_super(e.s)->site, pending->site, 16) != 0);
                asked++;
            }
            ts_is(&e, "one", "one, as it was copied");
            put_away(&e);
        }
    ck_assert_msg(own > 3 && asked > 3, "%u %u", own, asked);
    kv_twin_disk_free(d.disk);
    simio_free(d.sim);
    free(pending);
}
END_TEST

/* A command that is for standbys alone does not first make a store of its own of a primary's copy, and then refuse it. */
START_TEST(the_copy_of_a_standby_was_meant)
{
    struct super *before, *after;
    struct teststore c;
    struct err err = { 0 };

    copy(&a, &c, 0);
    before = super_of(&c);
    ck_assert_int_eq(open_as(&c, LOCATION_COPIED_STANDBY, &err), ERR_INVAL);
    ck_assert_msg(strstr(err.msg, "expected the copy of a standby, found that of a primary") && strstr(err.msg, "spare mount --copied"), "%s", err.msg);
    after = super_of(&c);
    ck_assert_uint_eq(after->gen, before->gen);
    ck_assert_mem_eq(after->site, before->site, 16);
    put_away(&c);
    free(after);
    free(before);
    copy(&b, &c, 0);
    before = super_of(&c);
    c.opt.threads = true;
    ck_assert_msg(open_as(&c, LOCATION_COPIED_STANDBY, &err) == 0, "%s", err.msg);
    ck_assert(memcmp(twosites_super(c.s)->site, before->site, 16) != 0);
    ck_assert_msg(twosites_send(&a, &c, &err) == 0, "%s", err.msg);
    put_away(&c);
    free(before);
}
END_TEST

static void put_file(struct teststore *from, struct teststore *to, const char *name)
{
    static uint8_t buf[1 << 16];
    struct io_file *f = NULL, *g = NULL;
    struct err err = { 0 };
    int64_t n;

    ck_assert_msg(io_open(simio_io(from->sim), name, IO_RDONLY, &f, &err) == 0, "%s", err.msg);
    ck_assert_msg(io_open(simio_io(to->sim), name, IO_RDWR, &g, &err) == 0, "%s", err.msg);
    n = io_pread(f, buf, sizeof buf, 0, &err);
    ck_assert_int_gt(n, 0);
    ck_assert_int_eq(io_ftruncate(g, 0, &err), 0);
    ck_assert_int_eq(io_pwritev(g, &(struct iovec){ buf, (size_t)n }, 1, 0, &err), 0);
    ck_assert_int_eq(io_fdatasync(g, &err), 0);
    io_close(f);
    io_close(g);
}

/* What another store keeps of its past says nothing of this one's, even where that is the one it was copied from. */
START_TEST(the_set_of_its_original_is_not_its_own)
{
    struct teststore c;
    struct err err = { 0 };

    copy(&a, &c, 0);
    told(&c);
    ck_assert_int_eq(store_close(c.s, &err), 0);
    put_file(&a, &c, "retained.0");
    put_file(&a, &c, "retained.1");
    for (int i = 0; i < 2; i++) {
        c.opt.writable = i != 0;
        ck_assert_int_eq(open_as(&c, LOCATION_AS_IS, &err), ERR_DAMAGE);
        ck_assert_msg(strstr(err.msg, "retained set: its lineage at byte 72") && strstr(err.msg, "it belongs to another store"), "%s", err.msg);
    }
    put_away(&c);
}
END_TEST

/* ${t} has ${n} epochs. */
static void grow(struct teststore *t, uint32_t n)
{
    struct err err = { 0 };

    while (twosites_super(t->s)->n_epochs < n)
        ck_assert_msg(store_demote(t->s, &err) == 0 && store_promote(t->s, "again", false, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(store_sync(t->s, &err), 0);
}

/* Nobody is given a store that nothing could follow; what is left is for promotions. */
START_TEST(a_copy_that_nothing_could_follow)
{
    struct super *sb;
    struct teststore c;
    struct fork fork;
    struct err err = { 0 };

    grow(&a, SUPER_EPOCHS_MAX - SUPER_EPOCHS_KEPT - 1);
    copy(&a, &c, 0);
    told(&c);
    ck_assert_uint_eq(twosites_super(c.s)->n_epochs, SUPER_EPOCHS_MAX - SUPER_EPOCHS_KEPT);
    ck_assert_uint_eq(super_epochs_left(twosites_super(c.s)->n_epochs), 0);
    put_away(&c);
    grow(&a, SUPER_EPOCHS_MAX - SUPER_EPOCHS_KEPT);
    ck_assert_int_eq(store_fork(a.s, "full", &fork, &err), ERR_NOSPC);
    copy(&a, &c, 0);
    ck_assert_int_eq(open_as(&c, LOCATION_COPIED, &err), ERR_NOSPC);
    ck_assert_msg(strstr(err.msg, "found 1008 of 1024") && strstr(err.msg, "cannot become a store of its own") && strstr(err.msg, "-o ro") && strstr(err.msg, "--moved"), "%s", err.msg);
    sb = super_of(&c);
    ck_assert_mem_eq(sb->lineage, twosites_super(a.s)->lineage, 16);
    free(sb);
    put_away(&c);
    grow(&a, SUPER_EPOCHS_MAX - SUPER_EPOCHS_KEPT + 1);
    ck_assert_uint_eq(super_epochs_left(twosites_super(a.s)->n_epochs), 0);
}
END_TEST

/* Where settings are full the one that only says something is left out. */
START_TEST(settings_that_are_full)
{
    static const char *const goes[] = { "standby-1", "lease", "import" };
    char text[SUPER_CONFIG_MAX];
    struct super *sb;
    struct teststore c;
    struct err err = { 0 };

    copy(&a, &c, 0);
    sb = super_of(&c);
    for (size_t i = 0; i < sizeof goes / sizeof *goes; i++)
        ck_assert_int_eq(super_config_set(sb, goes[i], NULL, &err), 0);
    memset(text, 'x', sizeof text);
    text[SUPER_CONFIG_MAX - sb->config_len - strlen("full=\n")] = '\0';
    ck_assert_int_eq(super_config_set(sb, "full", text, &err), 0);
    ck_assert_uint_eq(sb->config_len, SUPER_CONFIG_MAX);
    for (int i = 0; i < 2; i++)
        ck_assert_msg(super_write(simio_io(c.sim), sb, &err) == 0, "%s", err.msg);
    free(sb);
    ck_assert_msg(open_as(&c, LOCATION_COPIED, &err) == 0, "%s", err.msg);
    put_away(&c);
}
END_TEST

/* A standby that is copied is another standby of the same store. */
START_TEST(a_standby_stays_one)
{
    struct teststore c;
    struct err err = { 0 };

    copy(&b, &c, 0);
    c.opt.threads = true;
    told(&c);
    ck_assert_mem_eq(twosites_super(c.s)->lineage, twosites_super(a.s)->lineage, 16);
    ck_assert_uint_eq(store_role(c.s), ROLE_STANDBY);
    ck_assert_msg(twosites_send(&a, &c, &err) == 0, "%s", err.msg);
    ts_is(&c, "one", "one, as it was copied");
    put_away(&c);
}
END_TEST

/*
 * Told, and cut off at each call, whatever of it is left; then opened as it is, told once more and cut off again, or told once more: its original's in everything, or a store of its own in
 * everything, and whole in the end.
 */
START_TEST(cut_off_at_any_call)
{
    struct super *before = malloc(sizeof *before);
    unsigned own = 0, not_yet = 0;
    bool done = false;

    super_copy(before, twosites_super(a.s));
    for (unsigned n = 1; !done; n++)
        for (unsigned seed = 0; seed < 8; seed++) {
            struct teststore c;
            struct err err = { 0 };

            copy(&a, &c, seed);
            simio_cut_at(c.sim, n);
            int rc = open_as(&c, LOCATION_COPIED, &err);
            bool cut = simio_dead(c.sim);

            done = !cut;
            if (rc == 0)
                store_drop(c.s);
            simio_cut(c.sim, n * 8 + seed, (enum simio_cut_mode)(seed % SIMIO_N_CUT_MODES));
            if (_i == 1 && cut) {        /* again, and cut off elsewhere */
                simio_cut_at(c.sim, 1 + (n * 7 + seed * 5) % 40);
                if (open_as(&c, LOCATION_COPIED, &err) == 0)
                    store_drop(c.s);
                simio_cut(c.sim, n + seed, (enum simio_cut_mode)((seed + 1) % SIMIO_N_CUT_MODES));
            }
            rc = open_as(&c, _i == 2 ? LOCATION_COPIED : LOCATION_AS_IS, &err);
            ck_assert_msg(rc == 0, "call %u, seed %u: %s", n, seed, err.msg);
            c.opt.location = LOCATION_AS_IS;
            if (memcmp(twosites_super(c.s)->lineage, before->lineage, 16) == 0) {
                ck_assert_mem_eq(twosites_super(c.s)->site, before->site, 16);
                ck_assert(_i != 2 && has_setting(&c, "standby-1") && !has_setting(&c, FORK_PARTED));
                ck_assert_uint_eq(twosites_super(c.s)->n_epochs, before->n_epochs);
                ts_is(&c, "one", "one, as it was copied");
                not_yet++;
            } else if (_i > 0 && twosites_super(c.s)->n_epochs == before->n_epochs + 2) {
                ts_is(&c, "one", "one, as it was copied");     /* it was one already, and is another one now */
                own++;
            } else {
                is_its_own(&c, before);
                own++;
            }
            ts_reopen(&c, seed % 2);
            ck_assert_int_eq(ts_try_create(&c, "later"), 0);
            put_away(&c);
        }
    ck_assert(own > 50 && (_i == 2 || not_yet > 5));
    free(before);
}
END_TEST

/* Each call fails once: then the open says so, and the next one does the rest. */
START_TEST(each_call_fails)
{
    struct super *before = malloc(sizeof *before);
    bool done = false;

    super_copy(before, twosites_super(a.s));
    for (unsigned n = 1; !done; n++) {
        struct teststore c;
        struct err err = { 0 };
        uint64_t calls;

        copy(&a, &c, 0);
        calls = simio_calls(c.sim, SIMIO_ANY);
        simio_fail_at(c.sim, SIMIO_ANY, n, n % 2 ? ERR_IO : ERR_NOSPC);
        int rc = open_as(&c, LOCATION_COPIED, &err);

        done = simio_calls(c.sim, SIMIO_ANY) - calls < n;
        simio_fail_clear(c.sim);
        if (rc < 0) {
            simio_kill(c.sim);
            memset(&err, 0, sizeof err);
            ck_assert_msg(open_as(&c, LOCATION_COPIED, &err) == 0, "call %u: %s", n, err.msg);
        }
        c.opt.location = LOCATION_AS_IS;
        ck_assert(memcmp(twosites_super(c.s)->lineage, before->lineage, 16) != 0);
        ts_is(&c, "one", "one, as it was copied");
        ck_assert_int_eq(ts_try_create(&c, "mine"), 0);
        ts_reopen(&c, true);
        whole(&c);
        put_away(&c);
    }
    free(before);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("copied");
    TCase *t = tcase_create("copied");
    SRunner *sr = srunner_create(s);
    int failed;

    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, both, neither);
    tcase_add_test(t, a_store_of_its_own_with_its_history);
    tcase_add_loop_test(t, one_copy_rots, 0, 4);
    tcase_add_test(t, moved_keeps_everything);
    tcase_add_test(t, fences_nobody_and_is_refused_by_name);
    tcase_add_test(t, a_copy_has_standbys_of_its_own);
    tcase_add_test(t, told_again_it_loses_nothing);
    tcase_add_test(t, the_copy_of_one_that_was_cut_off);
    tcase_add_test(t, the_copy_of_a_standby_was_meant);
    tcase_add_test(t, the_set_of_its_original_is_not_its_own);
    tcase_add_test(t, a_copy_that_nothing_could_follow);
    tcase_add_test(t, settings_that_are_full);
    tcase_add_test(t, a_standby_stays_one);
    tcase_add_loop_test(t, cut_off_at_any_call, 0, 3);
    tcase_add_test(t, each_call_fails);
    suite_add_tcase(s, t);
    srunner_run_all(sr, CK_ENV);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed != 0;
}
