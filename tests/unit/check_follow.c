/*
 * check_follow: what a standby takes from a stream, and what it does not: a primary that lies, however well it seals its records, leaves the
 * standby as it was, and able to go on by itself.
 */
#include "store/log/frame.h"
#include "store/maint/upkeep.h"
#include "tests/lib/teststore.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static struct teststore a;                       /* the primary */
static struct simio *sim;
static struct kv_twin_disk *disk;
static struct store *b;

static struct store *open_b(bool promote)
{
    struct store_options opt = { .writable = true, .promote = promote };
    struct store *s = NULL;
    struct err err = { 0 };

    ck_assert_int_eq(kv_twin_open(disk, &opt.kv, &err), 0);
    ck_assert_msg(store_open(simio_io(sim), NULL, &opt, &s, NULL, &err) == 0, "%s", err.msg);
    return s;
}

static void both(void)
{
    struct super *sb = malloc(sizeof *sb);
    struct store_seed seed = { .timezone = "UTC" };
    struct err err = { 0 };

    ts_new(&a, "UTC");
    ts_save(&a, "one", "one");
    ck_assert_int_eq(store_sync(a.s, NULL), 0);
    store_super(a.s, sb);
    memcpy(seed.lineage, sb->lineage, 16);
    memcpy(seed.key, sb->key, 32);
    seed.epoch = sb->epochs[0];
    free(sb);
    sim = simio_new(7);
    disk = kv_twin_disk_new();
    ck_assert_msg(store_create_standby(simio_io(sim), NULL, &seed, &err) == 0, "%s", err.msg);
    b = open_b(false);
}

static void neither(void)
{
    store_drop(b);
    kv_twin_disk_free(disk);
    simio_free(sim);
    ts_free(&a);
}

/* Everything the primary has and the standby has not. */
static int send_all(struct err *err)
{
    struct log_iter *it = NULL;
    struct record rec;
    int rc = 0;

    ck_assert_int_eq(store_sync(a.s, NULL), 0);
    ck_assert_int_eq(log_iter_new(store_log(a.s), log_head(store_log(b)), log_head(store_log(a.s)), LOG_ITER_DATA, &it, NULL), 0);
    while (rc == 0 && log_iter_next(it, &rec, NULL) == 1)
        rc = store_follow(b, log_iter_raw(it) + FRAME_BYTES, (size_t)rec.head_len + rec.data_len, err);
    log_iter_free(it);
    return rc;
}

/* A record as the primary would seal it, the next one of the standby's log unless ${lsn} says otherwise. */
static int send_one(struct record *rec, uint64_t lsn, struct err *err)
{
    uint8_t head[1024];

    log_last(store_log(b), &rec->prev_lsn, &rec->prev_hash);
    rec->lsn = lsn != 0 ? lsn : log_head(store_log(b));
    if (rec->epoch == 0)
        rec->epoch = 1;
    rec->incarnation = 5;
    ck_assert_int_gt(record_encode(rec, NULL, head, sizeof head), 0);
    record_seal(head, rec->head_len, rec);
    return store_follow(b, head, rec->head_len, err);
}

static struct record create(uint64_t ino)
{
    struct record rec = { .type = REC_CREATE, .ino = ino };

    rec.u.create.parent = INO_ROOT;
    rec.u.create.mode = S_IFREG | 0644;
    rec.u.create.name = (struct rec_bytes){ (const uint8_t *)"new", 3 };
    return rec;
}

static struct record epoch(uint32_t number, uint8_t lineage)
{
    struct record rec = { .type = REC_EPOCH, .epoch = number };
    struct super *sb = malloc(sizeof *sb);

    store_super(b, sb);
    rec.u.epoch.number = number;
    memset(rec.u.epoch.site, 3, 16);
    memset(rec.u.epoch.id, (int)(number % 200) + 1, 16);
    memcpy(rec.u.epoch.lineage, sb->lineage, 16);
    rec.u.epoch.lineage[0] ^= lineage;
    free(sb);
    return rec;
}

static uint32_t n_epochs(void)
{
    struct super *sb = malloc(sizeof *sb);
    uint32_t n;

    store_super(b, sb);
    n = sb->n_epochs;
    free(sb);
    return n;
}

static void content_is(struct store *s, const char *name, const char *text)
{
    char buf[64] = "";
    uint64_t ino;
    struct row_ino row;
    struct wait w = { 0 };

    ck_assert_int_eq(store_lookup(s, AT_LIVE, INO_ROOT, name, strlen(name), &ino, &row, &w), 0);
    ck_assert_int_eq(store_read(s, AT_LIVE, ino, 0, buf, sizeof buf, false, &w, NULL), (int64_t)strlen(text));
    ck_assert_str_eq(buf, text);
}

START_TEST(it_holds_what_the_primary_did_and_can_take_over)
{
    struct err err = { 0 };
    struct caller who = { 0 };
    uint64_t ino;
    struct row_ino row;

    ck_assert_msg(send_all(&err) == 0, "%s", err.msg);
    content_is(b, "one", "one");
    ck_assert_int_eq(store_create_node(b, &who, INO_ROOT, "x", 1, S_IFREG | 0644, 0, NULL, &ino, &row, NULL), ERR_FENCED);
    ck_assert_uint_eq(store_shown(b), log_head(store_log(a.s)));
    ck_assert_int_eq(store_close(b, &err), 0);
    b = open_b(true);
    content_is(b, "one", "one");
    ck_assert_int_eq(store_create_node(b, &who, INO_ROOT, "x", 1, S_IFREG | 0644, 0, NULL, &ino, &row, NULL), 0);
    ck_assert_uint_eq(n_epochs(), 2);
    ck_assert_int_eq(store_follow(b, NULL, 0, &err), ERR_FENCED);
}
END_TEST

START_TEST(what_is_not_the_next_record_changes_nothing)
{
    struct err err = { 0 };
    struct record rec;
    uint64_t head;

    ck_assert_int_eq(send_all(&err), 0);
    head = log_head(store_log(b));
    rec = epoch(2, 0);
    ck_assert_int_eq(send_one(&rec, head + 800, &err), ERR_BADREC);
    ck_assert_uint_eq(n_epochs(), 1);            /* its row would be of an epoch without a record */
    rec = epoch(2, 1);
    ck_assert_int_eq(send_one(&rec, 0, &err), ERR_BADREC);
    rec = epoch(5000, 0);
    ck_assert_int_eq(send_one(&rec, 0, &err), ERR_BADREC);
    rec = epoch(UINT32_MAX, 0);
    ck_assert_int_eq(send_one(&rec, 0, &err), ERR_BADREC);
    rec = create(INO_MAX);
    ck_assert_int_eq(send_one(&rec, 0, &err), ERR_BADREC);
    rec = create(0);
    ck_assert_int_eq(send_one(&rec, 0, &err), ERR_BADREC);
    rec = create(INO_FIRST + 7);
    ck_assert_int_eq(send_one(&rec, 0, &err), ERR_BADREC);
    rec = create(INO_FIRST + 1);
    rec.epoch = 2;
    ck_assert_int_eq(send_one(&rec, 0, &err), ERR_BADREC);
    ck_assert_uint_eq(log_head(store_log(b)), head);
    ck_assert_uint_eq(n_epochs(), 1);
    ts_save(&a, "two", "two");
    ck_assert_msg(send_all(&err) == 0, "%s", err.msg);
    content_is(b, "two", "two");
}
END_TEST

START_TEST(rows_are_left_for_a_promotion_here)
{
    struct err err = { 0 };
    struct record rec;
    uint32_t n = 2;
    int rc = 0;

    ck_assert_int_eq(send_all(&err), 0);
    while (rc == 0 && n < 2000) {
        rec = epoch(n++, 0);
        rc = send_one(&rec, 0, &err);
    }
    ck_assert_int_eq(rc, ERR_NOSPC);
    ck_assert_msg(strstr(err.msg, "found 1008 of 1024 there") && strstr(err.msg, "this standby takes nothing any more") && strstr(err.msg, "can be promoted"), "%s", err.msg);
    ck_assert_uint_eq(n_epochs(), SUPER_EPOCHS_MAX - SUPER_EPOCHS_KEPT);
    ck_assert_int_eq(store_close(b, &err), 0);
    b = open_b(true);
    ck_assert_uint_eq(n_epochs(), SUPER_EPOCHS_MAX - SUPER_EPOCHS_KEPT + 1);
    content_is(b, "one", "one");
}
END_TEST

START_TEST(an_epoch_that_was_cut_off_may_come_again_or_another)
{
    struct err err = { 0 };
    struct record rec;
    uint64_t head;

    ck_assert_int_eq(send_all(&err), 0);
    ck_assert_int_eq(store_sync(b, &err), 0);
    head = log_head(store_log(b));
    rec = epoch(2, 0);
    /* The row is written twice, then the segment of the epoch and its record: cut before each. */
    for (uint64_t n = 1; n < 12; n++) {
        simio_cut_at(sim, n);
        (void)send_one(&rec, 0, &err);
        store_drop(b);
        simio_cut(sim, n, SIMIO_CUT_RANDOM);
        b = open_b(false);
        ck_assert_uint_le(n_epochs(), 2);
        ck_assert_uint_ge(log_head(store_log(b)), head);
        if (log_head(store_log(b)) == head) {
            rec = epoch(2 + (uint32_t)(n % 2), 0);      /* the same, or another primary's */
            continue;
        }
        break;
    }
    if (log_head(store_log(b)) == head)
        ck_assert_msg(send_one(&rec, 0, &err) == 0, "%s", err.msg);
    ck_assert_uint_eq(n_epochs(), 2);
}
END_TEST

/* The records of two epochs came and went with the power, their rows did not: the same come again, the primary of before goes on, or this side is promoted. */
START_TEST(a_cut_takes_the_records_of_two_epochs)
{
    struct err err = { 0 };
    struct record rec;
    uint64_t head;

    if (_i > 0)                          /* else all there is goes, down to the first record */
        ck_assert_int_eq(send_all(&err), 0);
    ck_assert_int_eq(store_sync(b, &err), 0);
    head = log_head(store_log(b));
    ck_assert_int_eq(send_all(&err), 0);
    for (uint32_t n = 2; n <= 3; n++) {
        rec = epoch(n, 0);
        ck_assert_msg(send_one(&rec, 0, &err) == 0, "%s", err.msg);
    }
    store_drop(b);
    simio_cut(sim, 1, SIMIO_CUT_DROP_ALL);
    if (_i == 3) {
        b = open_b(true);
        ck_assert_uint_eq(n_epochs(), 2);
        ck_assert_int_eq(store_close(b, &err), 0);
        b = open_b(false);
        ck_assert_uint_eq(n_epochs(), 2);
        content_is(b, "one", "one");
        return;
    }
    b = open_b(false);
    ck_assert_uint_eq(log_head(store_log(b)), head);
    ck_assert_uint_eq(n_epochs(), 3);
    if (_i == 1)
        ts_save(&a, "two", "two");
    ck_assert_msg(send_all(&err) == 0, "%s", err.msg);
    for (uint32_t n = 2; _i == 2 && n <= 3; n++) {
        rec = epoch(n, 0);
        ck_assert_msg(send_one(&rec, 0, &err) == 0, "%s", err.msg);
    }
    ck_assert_int_eq(store_close(b, &err), 0);
    b = open_b(false);
    content_is(b, "one", "one");
    ck_assert_uint_eq(n_epochs(), _i == 2 ? 3 : 1);     /* (rows whose records are still to come go where others come first) */
}
END_TEST

/* The row of another primary's epoch came, its record did not; then the one of before goes on. */
START_TEST(an_epoch_that_never_came_does_not_part_it_from_the_one_of_before)
{
    struct err err = { 0 };
    struct record rec = epoch(2, 0);
    uint64_t n = 1, head;

    ck_assert_int_eq(send_all(&err), 0);
    ck_assert_int_eq(store_sync(b, &err), 0);
    head = log_head(store_log(b));
    while (n_epochs() == 1) {
        rec = epoch(2, 0);
        simio_cut_at(sim, n);
        (void)send_one(&rec, 0, &err);
        store_drop(b);
        simio_cut(sim, n++, SIMIO_CUT_DROP_ALL);
        b = open_b(false);
    }
    ck_assert_uint_eq(log_head(store_log(b)), head);
    for (int i = 0; i < 4; i++) {
        static const char *const names[] = { "two", "three", "four", "five" };

        ts_save(&a, names[i], names[i]);
        ck_assert_msg(send_all(&err) == 0, "%s", err.msg);
        ck_assert_uint_eq(n_epochs(), 1);
        if (i < 3)
            ck_assert_msg(upkeep_pack(b, NULL, NULL, NULL, NULL, &err) == 0, "%s", err.msg);
        content_is(b, names[i], names[i]);
        ck_assert_int_eq(store_close(b, &err), 0);
        if (i == 2) {                    /* made anew from the archive */
            kv_twin_disk_free(disk);
            disk = kv_twin_disk_new();
        }
        b = open_b(false);
        content_is(b, names[i], names[i]);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("follow");
    TCase *t = tcase_create("follow");
    SRunner *sr;
    int failed;

    tcase_add_checked_fixture(t, both, neither);
    tcase_add_test(t, it_holds_what_the_primary_did_and_can_take_over);
    tcase_add_test(t, what_is_not_the_next_record_changes_nothing);
    tcase_add_test(t, rows_are_left_for_a_promotion_here);
    tcase_add_test(t, an_epoch_that_was_cut_off_may_come_again_or_another);
    tcase_add_loop_test(t, a_cut_takes_the_records_of_two_epochs, 0, 4);
    tcase_add_test(t, an_epoch_that_never_came_does_not_part_it_from_the_one_of_before);
    suite_add_tcase(s, t);
    sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed != 0;
}
