/*
 * check_boot.c: a standby made of a store's files: it has every moment that is listed there, whichever call fails or cuts it off on the way, and takes nothing
 * again that is whole. What a hostile list or file says is refused.
 */
#include "store/core/moment.h"
#include "store/core/retain.h"
#include "store/maint/reclaim.h"
#include "store/pack/history.h"
#include "store/pack/packs.h"
#include "store/sync/boot.h"
#include "tests/lib/packrig.h"
#include "tests/lib/twosites.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PART = 3000 };

static struct teststore a;
static struct past past;

static void set(const char *name, const char *value)
{
    ck_assert_int_eq(store_config_set(a.s, name, value, NULL), 0);
}

/* A store that keeps three snapshots and the last of its records; ${base}: of older ones there is a base alone. */
static void thinned(bool base)
{
    static const char *const keep[] = { "keep-all", "min-age", "reclaim-grace", "keep-hourly", "keep-daily", "keep-weekly", "keep-monthly", "keep-yearly" };
    const struct reclaim_options opt = { .now = true, .base = base, .sweep = true };
    struct err err = { 0 };
    char name[8];

    packrig_start(&a, &past, 11, 16 << 10);
    for (unsigned i = 0; i < 5; i++) {
        past_work(&a, &past, 12, 6);
        ts_step(&a, 40 * 60 * 1000);
        snprintf(name, sizeof name, "s%u", i);
        if (i % 2 == 0)
            ck_assert_int_eq(store_snapshot(a.s, &a.who, RSN_CREATE, name, AT_LIVE, "", "", 0, NULL, &err), 0);
        packrig_pack(a.s, NULL);
    }
    for (size_t i = 0; i < sizeof keep / sizeof *keep; i++)
        set(keep[i], "0");
    ts_step(&a, 1000);
    past_work(&a, &past, 5, 1);
    packrig_pack(a.s, NULL);
    ck_assert_msg(reclaim(a.s, &opt, NULL, &err) == 0, "%s", err.msg);
    ck_assert(!base || history_first(store_history(a.s)) > LOG_FIRST_ADDR);
    past_work(&a, &past, 3, 1);
    ck_assert_int_eq(store_sync(a.s, &err), 0);
}

struct sent { uint64_t bytes; unsigned files; };

static int send_one(struct boot *b, const struct proto_list_file *f, uint32_t index, uint64_t from, struct sent *sent, struct err *err)
{
    uint8_t buf[PART];
    struct io_file *file;
    int rc = 0;

    ck_assert_int_eq(io_open(simio_io(a.sim), f->name, IO_RDONLY, &file, NULL), 0);
    for (uint64_t at = from; rc == 0 && at < f->size;) {
        int64_t n = io_pread(file, buf, f->size - at < PART ? (size_t)(f->size - at) : PART, at, NULL);
        const struct proto_file k = { .index = index, .len = (uint32_t)n, .p = buf };

        ck_assert_int_gt(n, 0);
        rc = boot_take(b, &k, at, err);
        at += (uint64_t)n;
        sent->bytes += (uint64_t)n;
    }
    io_close(file);
    sent->files++;
    return rc;
}

/* All that a standby is made of, from ${a} to an empty directory. */
static int transfer(struct simio *to, struct sent *sent, struct err *err)
{
    struct proto_list list = { .key_id = 0, .timezone = "UTC" };
    struct boot b = { 0 };
    uint8_t *retained = NULL;
    uint64_t end = 0;
    size_t len = 0;
    int rc;

    ck_assert_int_eq(boot_list(a.s, &list, &end, err), 0);
    memcpy(list.lineage, twosites_super(a.s)->lineage, 16);
    memcpy(list.key, twosites_super(a.s)->key, 32);
    rc = boot_begin(&b, simio_io(to), &list, end, err);
    for (uint32_t i = 0; rc == 0 && i < b.n_want; i++)
        rc = send_one(&b, &b.file[b.want[i].index], b.want[i].index, b.want[i].from, sent, err);
    ck_assert_int_eq(boot_retained(a.s, end, &retained, &len, NULL), 0);
    if (rc == 0)
        rc = boot_make(&b, NULL, retained, len, err);
    boot_release(&b);
    free(retained);
    free((void *)(uintptr_t)list.p);
    return rc;
}

/* The standby that was made has what the other one lists, as far as its log goes. */
static void well(struct simio *sim, const char *when)
{
    struct kv_twin_disk *disk = kv_twin_disk_new();
    struct store_options opt = { .writable = true };
    struct store *s = NULL;
    struct err err = { 0 };
    unsigned n = 0;

    ck_assert_int_eq(kv_twin_open(disk, &opt.kv, NULL), 0);
    ck_assert_msg(store_open(simio_io(sim), NULL, &opt, &s, NULL, &err) == 0, "%s: %s", when, err.msg);
    for (unsigned i = 0; i < past.n; i++) {
        uint64_t digest = 0;

        if (past.m[i].lsn >= log_head(store_log(s)))
            continue;
        ck_assert_msg(store_lists(s, past.m[i].lsn) == store_lists(a.s, past.m[i].lsn), "%s: @%lu is listed at one of them alone", when, (unsigned long)past.m[i].lsn);
        if (!store_lists(s, past.m[i].lsn))
            continue;
        ck_assert_msg(past_try(s, past.m[i].lsn, &digest) == 0 && digest == past.m[i].digest, "%s: @%lu is not what it was", when, (unsigned long)past.m[i].lsn);
        n++;
    }
    ck_assert_uint_ge(n, 1);
    ck_assert_msg(store_close(s, &err) == 0, "%s", err.msg);
    kv_twin_disk_free(disk);
}

START_TEST(it_has_every_moment_that_is_listed)
{
    struct simio *to = simio_new(5);
    struct sent sent = { 0 };
    struct err err = { 0 };

    thinned(_i == 1);
    ck_assert_msg(transfer(to, &sent, &err) == 0, "%s", err.msg);
    ck_assert_uint_gt(sent.files, 2);
    well(to, "made");
    ck_assert_int_eq(transfer(to, &sent, &err), ERR_EXIST);      /* not over a store */
    simio_free(to);
    ts_free(&a);
}
END_TEST

START_TEST(cut_off_anywhere_it_goes_on)
{
    uint64_t calls, whole;
    struct simio *to = simio_new(5);
    struct sent sent = { 0 };

    thinned(true);
    calls = simio_mutations(to);
    ck_assert_int_eq(transfer(to, &sent, NULL), 0);
    calls = simio_mutations(to) - calls;
    whole = sent.bytes;
    simio_free(to);
    ck_assert_uint_gt(calls, 30);
    for (uint64_t n = 1; n <= calls; n++) {
        struct sent first = { 0 }, again = { 0 };
        struct err err = { 0 };

        to = simio_new(n);
        simio_cut_at(to, n);
        ck_assert_int_lt(transfer(to, &first, &err), 0);
        if (n % 4 == 3)
            simio_kill(to);
        else
            simio_cut(to, n, (enum simio_cut_mode)(n % SIMIO_N_CUT_MODES));
        /* A part that the power took a piece of is not believed: then it comes once more. */
        for (int i = 0; i < 3; i++) {
            int rc = transfer(to, &again, &err);

            if (rc == 0 || rc == ERR_EXIST)
                break;
            ck_assert_msg(rc == ERR_AWAY && i < 2, "call %lu: %s", (unsigned long)n, err.msg);
        }
        if (n % 4 == 3)
            ck_assert_msg(first.bytes + again.bytes <= whole + PART, "call %lu: %lu and %lu bytes of %lu", (unsigned long)n, (unsigned long)first.bytes,
                          (unsigned long)again.bytes, (unsigned long)whole);
        well(to, "after a cut");
        simio_free(to);
    }
    ts_free(&a);
}
END_TEST

START_TEST(whichever_call_fails_it_can_be_done_again)
{
    static const enum simio_call kinds[] = { SIMIO_MUTATING, SIMIO_PREAD, SIMIO_LIST, SIMIO_OPEN, SIMIO_STAT };
    struct simio *to = simio_new(5);
    struct sent sent = { 0 };
    uint64_t calls;

    thinned(true);
    calls = simio_calls(to, kinds[_i]);
    ck_assert_int_eq(transfer(to, &sent, NULL), 0);
    calls = simio_calls(to, kinds[_i]) - calls;
    simio_free(to);
    for (uint64_t n = 1; n <= calls; n++) {
        struct err err = { 0 };
        int rc;

        to = simio_new(n);
        simio_fail_at(to, kinds[_i], n, n % 2 ? ERR_NOSPC : ERR_IO);
        rc = transfer(to, &sent, &err);
        simio_fail_clear(to);
        for (int i = 0; i < 3 && rc < 0 && rc != ERR_EXIST; i++)
            rc = transfer(to, &sent, &err);
        ck_assert_msg(rc == 0 || (rc == ERR_EXIST && strstr(err.msg, "a store is there already") != NULL), "call %lu: %s", (unsigned long)n, err.msg);
        well(to, "after a call that failed");
        simio_free(to);
    }
    ts_free(&a);
}
END_TEST

/* Killed anywhere, done to its end by the next try, and then the power goes: what was made stays. */
START_TEST(killed_and_made_it_outlives_a_cut)
{
    struct simio *to = simio_new(5);
    struct sent sent = { 0 };
    uint64_t calls;

    thinned(true);
    calls = simio_mutations(to);
    ck_assert_int_eq(transfer(to, &sent, NULL), 0);
    calls = simio_mutations(to) - calls;
    simio_free(to);
    for (uint64_t n = 1; n <= calls; n++) {
        struct err err = { 0 };
        int rc;

        to = simio_new(n);
        simio_cut_at(to, n);
        ck_assert_int_lt(transfer(to, &sent, &err), 0);
        simio_kill(to);
        rc = transfer(to, &sent, &err);
        ck_assert_msg(rc == 0 || rc == ERR_EXIST, "call %lu: %s", (unsigned long)n, err.msg);
        simio_cut(to, n, n % 2 ? SIMIO_CUT_DROP_ALL : SIMIO_CUT_RANDOM);
        if (rc == 0)                     /* (what the killed one made it had told nobody of) */
            well(to, "after a kill, the next try and a cut");
        simio_free(to);
    }
    ts_free(&a);
}
END_TEST

/* A base of records that are not packed yet, and a horizon among them: neither is handed out. */
START_TEST(what_is_ahead_of_the_files_is_not_listed)
{
    const struct reclaim_options opt = { .now = true, .base = true, .sweep = true };
    struct proto_list list = { .key_id = 0 };
    struct err err = { 0 };
    uint8_t *retained = NULL;
    uint64_t end = 0;
    size_t len = 0;

    thinned(true);
    ck_assert_int_eq(boot_list(a.s, &list, &end, &err), 0);
    free((void *)(uintptr_t)list.p);
    past_work(&a, &past, 5, 1);
    ts_step(&a, 5000);
    past_work(&a, &past, 2, 1);
    ck_assert_int_eq(reclaim(a.s, &opt, NULL, &err), 0);
    ck_assert_int_eq(boot_list(a.s, &list, &end, &err), ERR_NOENT);
    ck_assert_int_eq(boot_retained(a.s, packs_end(store_packs(a.s)), &retained, &len, &err), ERR_BUSY);
    free(retained);
    packrig_pack(a.s, NULL);
    ck_assert_msg(boot_list(a.s, &list, &end, &err) == 0, "%s", err.msg);
    free((void *)(uintptr_t)list.p);
    ts_free(&a);
}
END_TEST

static void put_file(struct simio *sim, const char *name)
{
    struct io_file *f;

    ck_assert_int_eq(io_open(simio_io(sim), name, IO_RDWR | IO_CREATE, &f, NULL), 0);
    io_close(f);
}

static bool there(struct simio *sim, const char *name)
{
    struct io_stat st;

    return io_stat_path(simio_io(sim), name, &st, NULL) == 0;
}

static int count_names(void *arg, const char *name)
{
    (void)name;
    ++*(unsigned *)arg;
    return 0;
}

static unsigned files_in(struct simio *sim, const char *dir)
{
    unsigned n = 0;

    ck_assert_int_ge(io_list(simio_io(sim), dir, count_names, &n, NULL), 0);
    return n;
}

START_TEST(nothing_that_is_another_s_is_removed)
{
    struct simio *to = simio_new(5), *other = simio_new(6);
    struct sent sent = { 0 };
    struct err err = { 0 };
    unsigned packs, archive;

    thinned(true);
    ck_assert_int_eq(transfer(to, &sent, &err), 0);
    packs = files_in(to, "packs");
    archive = files_in(to, "archive");
    past_work(&a, &past, 5, 1);          /* other files from here on */
    packrig_pack(a.s, NULL);
    ck_assert_int_eq(transfer(to, &sent, &err), ERR_EXIST);
    ck_assert(files_in(to, "packs") == packs && files_in(to, "archive") == archive);
    /* ... nor of a store that lost its superblocks: by a stream, or by init */
    ck_assert_int_eq(io_unlink(simio_io(to), "super.0", NULL), 0);
    ck_assert_int_eq(io_unlink(simio_io(to), "super.1", NULL), 0);
    put_file(to, "log/0000000000009000-00000009.seg");
    {
        struct io_file *f;
        uint8_t bytes[8192] = { 1 };
        struct iovec iov = { bytes, sizeof bytes };

        ck_assert_int_eq(io_open(simio_io(to), "log/0000000000009000-00000009.seg", IO_RDWR, &f, NULL), 0);
        ck_assert_int_eq(io_pwritev(f, &iov, 1, 0, NULL), 0);
        io_close(f);
    }
    ck_assert_int_eq(transfer(to, &sent, &err), ERR_NOTEMPTY);
    ck_assert_int_eq(store_create(simio_io(to), NULL, &(struct store_init){ .root_mode = 0755 }, &err), ERR_NOTEMPTY);
    ck_assert(files_in(to, "packs") == packs && files_in(to, "archive") == archive);
    /* somebody's own directory */
    ck_assert_int_eq(io_mkdir(simio_io(other), "archive", NULL), 0);
    put_file(other, "archive/nextcloud.tar");
    put_file(other, "thesis");
    ck_assert_int_eq(transfer(other, &sent, &err), ERR_NOTEMPTY);
    ck_assert(there(other, "archive/nextcloud.tar") && there(other, "thesis") && !there(other, "packs"));
    ck_assert_int_eq(io_unlink(simio_io(other), "thesis", NULL), 0);
    ck_assert_int_eq(transfer(other, &sent, &err), ERR_NOTEMPTY);
    ck_assert(there(other, "archive/nextcloud.tar"));
    simio_free(to);
    simio_free(other);
    ts_free(&a);
}
END_TEST

START_TEST(what_a_list_may_not_say_is_refused)
{
    static const char *const names[] = { "super.0", "archive/../super.0", "packs/next", "log/0000000000001000-00000001.seg", "archive/0000000000001000-0000000000002000-00000001.pack", "/etc/passwd", "packs/x" };
    struct proto_list_file f = { .size = 100 };
    uint8_t buf[256], junk[100] = { 1, 2, 3 };
    struct simio *to = simio_new(5);
    struct proto_list list = { .n = 1, .p = buf, .timezone = "UTC" };
    struct proto_file part = { .index = 0, .len = 100, .p = junk };
    struct boot b = { 0 };
    struct err err = { 0 };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(f.name, sizeof f.name, "%s", names[i]);
        list.len = (uint32_t)proto_list_put(buf, sizeof buf, &f);
        ck_assert_msg(boot_begin(&b, simio_io(to), &list, 8192, &err) == ERR_BADREC, "%s", names[i]);
        boot_release(&b);
    }
    snprintf(f.name, sizeof f.name, "packs/0000000000001000-0000000000002000-00000001.pack");
    list.len = (uint32_t)proto_list_put(buf, sizeof buf, &f);
    ck_assert_int_eq(boot_begin(&b, simio_io(to), &list, 8192, &err), 0);
    ck_assert_int_eq(b.n_want, 1);
    ck_assert_int_eq(boot_take(&b, &part, 8, &err), ERR_BADREC);             /* not its beginning */
    part.index = 1;
    ck_assert_int_eq(boot_take(&b, &part, 0, &err), ERR_BADREC);             /* no such file */
    part.index = 0;
    ck_assert_int_eq(boot_make(&b, NULL, junk, sizeof junk, &err), ERR_BADREC);
    ck_assert_int_eq(boot_take(&b, &part, 0, &err), ERR_AWAY);               /* not what its hash says */
    ck_assert_msg(strstr(err.msg, "did not come as it was sent") != NULL, "%s", err.msg);
    boot_release(&b);
    simio_free(to);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("boot");
    TCase *t = tcase_create("boot");
    SRunner *r;
    int failed;

    tcase_set_timeout(t, 250);
    tcase_add_loop_test(t, it_has_every_moment_that_is_listed, 0, 2);
    tcase_add_test(t, cut_off_anywhere_it_goes_on);
    tcase_add_loop_test(t, whichever_call_fails_it_can_be_done_again, 0, 5);
    tcase_add_test(t, killed_and_made_it_outlives_a_cut);
    tcase_add_test(t, what_is_ahead_of_the_files_is_not_listed);
    tcase_add_test(t, nothing_that_is_another_s_is_removed);
    tcase_add_test(t, what_a_list_may_not_say_is_refused);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
