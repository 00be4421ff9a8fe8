/*
 * check_packed_sites: a store that was packed away ships the same bytes as before; a standby packs for itself, while it follows too, and can take over.
 */
#include "store/log/frame.h"
#include "store/maint/upkeep.h"
#include "store/core/standby.h"
#include "store/pack/history.h"
#include "store/sync/link.h"
#include "tests/lib/packrig.h"

#include <check.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static struct teststore a;
static struct past past;
static struct packrig_records was;           /* as the log had them, before anything was packed */

static void start(uint64_t seed, unsigned work)
{
    packrig_start(&a, &past, seed, 16 << 10);
    past_work(&a, &past, work, 10);
}

static void stop(void)
{
    packrig_forget(&was);
    ts_free(&a);
}

/* ---- another site ---- */

static struct simio *sim_b;
static struct kv_twin_disk *disk_b;
static struct store *b;

static void open_b(bool promote)
{
    struct store_options opt = { .writable = true, .promote = promote, .threads = !promote, .log.segment_bytes = 24 << 10 };
    struct err err = { 0 };

    ck_assert_int_eq(kv_twin_open(disk_b, &opt.kv, &err), 0);
    ck_assert_msg(store_open(simio_io(sim_b), NULL, &opt, &b, NULL, &err) == 0, "%s", err.msg);
}

static void new_b(void)
{
    struct super *sb = malloc(sizeof *sb);
    struct store_seed seed = { .timezone = "UTC" };
    struct err err = { 0 };

    store_super(a.s, sb);
    memcpy(seed.lineage, sb->lineage, 16);
    memcpy(seed.key, sb->key, 32);
    seed.epoch = sb->epochs[0];
    free(sb);
    sim_b = simio_new(7);
    disk_b = kv_twin_disk_new();
    ck_assert_msg(store_create_standby(simio_io(sim_b), NULL, &seed, &err) == 0, "%s", err.msg);
    open_b(false);
}

static void no_b(void)
{
    store_drop(b);
    kv_twin_disk_free(disk_b);
    simio_free(sim_b);
}

struct sender { int line, rc; bool compress; struct err err; };

static void *ship(void *arg)
{
    struct sender *t = arg;
    struct link_ship_options opt = { .name = "b", .stop = { -1, NULL }, .compress = t->compress };
    struct link_table links;
    struct link_info info;

    link_table_init(&links);
    t->rc = link_ship(a.s, &links, t->line, t->line, &opt, &info, &t->err);
    link_table_release(&links);
    shutdown(t->line, SHUT_RDWR);
    return NULL;
}

/* All that is durable at ${a} to ${b}. */
static void send_all(bool compress)
{
    struct link_receive_options opt = { .name = "a", .stop = { -1, NULL } };
    struct sender t = { .compress = compress };
    struct link_table links;
    struct link_info info;
    struct err err = { 0 };
    pthread_t thread;
    int x[2], rc;

    ck_assert_int_eq(store_sync(a.s, NULL), 0);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, x), 0);
    t.line = x[0];
    pthread_create(&thread, NULL, ship, &t);
    link_table_init(&links);
    rc = link_receive(b, &links, x[1], x[1], &opt, &info, &err);
    link_table_release(&links);
    shutdown(x[1], SHUT_RDWR);
    pthread_join(thread, NULL);
    close(x[0]);
    close(x[1]);
    ck_assert_msg(t.rc == 0, "shipping: %s", t.err.msg);
    ck_assert_msg(rc == 0 || rc == ERR_AWAY, "receiving: %s", err.msg);     /* AWAY: the other end is shut before the last acknowledgement */
    ck_assert_uint_eq(log_head(store_log(b)), log_head(store_log(a.s)));
}

/* What the log of ${b} has, with its data, is what that of ${a} had. */
static void log_is_the_same(void)
{
    struct log_iter *it = NULL;
    struct record rec;
    struct err err = { 0 };
    unsigned i = 0;
    int rc;

    ck_assert_int_eq(log_iter_new(store_log(b), 0, UINT64_MAX, LOG_ITER_DATA, &it, &err), 0);
    while ((rc = log_iter_next(it, &rec, &err)) == 1) {
        while (i < was.n && was.v[i].lsn < rec.lsn)
            i++;
        ck_assert_uint_lt(i, was.n);
        ck_assert_uint_eq(was.v[i].lsn, rec.lsn);
        ck_assert_uint_eq(was.v[i].len, rec.head_len + rec.data_len);
        ck_assert(memcmp(was.v[i++].p, log_iter_raw(it) + FRAME_BYTES, rec.head_len + rec.data_len) == 0);
    }
    ck_assert_msg(rc == 0, "%s", err.msg);
    ck_assert_uint_eq(i, was.n);
    log_iter_free(it);
}

START_TEST(a_standby_of_a_store_that_was_packed_away_is_the_same)
{
    start(10, 100);
    for (int i = 0; i < 3; i++) {
        packrig_note(&was, a.s);
        if (i < 2 + _i % 2)
            packrig_pack(a.s, NULL);
        if (i < 2)
            past_work(&a, &past, 30, 10);
    }
    new_b();
    send_all(_i / 2 == 0);
    log_is_the_same();
    ck_assert_uint_eq(past_same(&past, b, "the standby"), past.n);
    packrig_pack(b, NULL);                                 /* and goes on with packs of its own */
    past_work(&a, &past, 30, 10);
    packrig_note(&was, a.s);
    packrig_pack(a.s, NULL);
    send_all(_i / 2 == 0);
    packrig_pack(b, NULL);
    packrig_walks(&was, b);
    ck_assert_uint_eq(past_same(&past, b, "the standby, packed"), past.n);
    no_b();
    stop();
}
END_TEST

struct packing { struct store *s; atomic_bool stop; };

static void *pack_on(void *arg)
{
    struct packing *p = arg;

    while (!atomic_load(&p->stop))
        ck_assert_int_eq(packrig_try(p->s, NULL, NULL), 0);
    return NULL;
}

START_TEST(both_sites_pack_while_one_follows)
{
    struct packing pa = { .s = a.s }, pb = { 0 };
    pthread_t ta, tb;

    start(12, 60);
    packrig_note(&was, a.s);
    new_b();
    pa.s = a.s;
    pb.s = b;
    pthread_create(&ta, NULL, pack_on, &pa);
    pthread_create(&tb, NULL, pack_on, &pb);
    for (int i = 0; i < 8; i++) {
        send_all(i % 2 == 0);
        past_work(&a, &past, 8, 4);
    }
    send_all(true);
    atomic_store(&pa.stop, true);
    atomic_store(&pb.stop, true);
    pthread_join(ta, NULL);
    pthread_join(tb, NULL);
    ck_assert_uint_eq(past_same(&past, a.s, "the primary"), past.n);
    ck_assert_uint_eq(past_same(&past, b, "the standby"), past.n);
    no_b();
    stop();
}
END_TEST

static void write_at_b(const char *text)
{
    struct caller who = { 0 };
    struct row_ino row;
    uint64_t ino = 0;

    ck_assert_int_eq(store_create_node(b, &who, INO_ROOT, text, strlen(text), S_IFREG | 0644, 0, NULL, &ino, &row, NULL), 0);
    ck_assert_int_eq(store_write(b, &who, ino, 0, text, strlen(text), NULL), (int64_t)strlen(text));
}

START_TEST(a_standby_that_was_packed_can_take_over)
{
    struct standby back;

    start(13, 60);
    packrig_pack(a.s, NULL);
    new_b();
    send_all(true);
    if (_i != 1)
        packrig_pack(b, NULL);
    ck_assert_int_eq(store_close(b, NULL), 0);
    open_b(true);
    ck_assert(standby_get(b, 0, &back)); /* the primary of before is expected back, and nothing is packed that it lacks; not in this test */
    ck_assert_int_eq(standby_forget(b, back.target, NULL), 0);
    write_at_b("mine");
    if (_i != 2)
        packrig_pack(b, NULL);
    write_at_b("too");
    packrig_pack(b, NULL);
    for (int round = 0; round < 2; round++) {
        uint64_t live = past_digest(b, AT_LIVE), first = 0, ino;
        struct row_ino row;
        struct history_iter *it = NULL;
        struct record rec;
        struct err err = { 0 };
        int rc;

        ck_assert_uint_eq(past_same(&past, b, "taken over"), past.n);
        ck_assert_int_eq(store_lookup(b, AT_LIVE, INO_ROOT, "mine", 4, &ino, &row, NULL), 0);
        ck_assert_int_eq(history_iter_new(store_history(b), 0, UINT64_MAX, &it, &err), 0);
        while ((rc = history_next(it, &rec, NULL, &err)) == 1)
            first += rec.type == REC_EPOCH;
        ck_assert_msg(rc == 0, "%s", err.msg);
        history_iter_free(it);
        ck_assert_uint_eq(first, 2);
        ck_assert_int_eq(store_close(b, NULL), 0);
        kv_twin_disk_free(disk_b);
        disk_b = kv_twin_disk_new();
        struct store_options opt = { .writable = true };
        ck_assert_int_eq(kv_twin_open(disk_b, &opt.kv, &err), 0);
        ck_assert_msg(store_open(simio_io(sim_b), NULL, &opt, &b, NULL, &err) == 0, "%s", err.msg);
        ck_assert_uint_eq(past_digest(b, AT_LIVE), live);
    }
    no_b();
    stop();
}
END_TEST

/* This program writes at most 1 MiB at once; another one may have written more. */
START_TEST(a_record_of_many_mebibytes_is_packed_and_shipped)
{
    enum { LEN = (5 << 20) + 12345 };
    uint64_t *sums = calloc(LEN / 4096, sizeof *sums), ino;
    uint8_t *buf = malloc(REC_HEAD_MAX + LEN), *got = malloc(LEN);
    struct record rec = { .type = REC_WRITE, .epoch = 1, .incarnation = 5, .data_len = LEN };
    struct err err = { 0 };

    start(14, 5);
    ino = ts_create(&a, "large", S_IFREG | 0644);
    new_b();
    send_all(true);
    past_fill(&past, got, LEN, 2);
    log_last(store_log(b), &rec.prev_lsn, &rec.prev_hash);
    rec.lsn = log_head(store_log(b));
    rec.ino = ino;
    record_sums(got, LEN, sums);
    ck_assert_int_gt(record_encode(&rec, sums, buf, REC_HEAD_MAX), 0);
    record_seal(buf, rec.head_len, &rec);
    memcpy(buf + rec.head_len, got, LEN);
    ck_assert_msg(store_follow(b, buf, (size_t)rec.head_len + LEN, &err) == 0, "%s", err.msg);
    for (int round = 0; round < 2; round++) {
        memset(got, 0, LEN);
        ck_assert_msg(store_read(b, AT_LIVE, ino, 0, got, LEN, false, NULL, &err) == LEN, "%s", err.msg);
        ck_assert(memcmp(got, buf + rec.head_len, LEN) == 0);
        memset(got, 0, LEN);
        ck_assert_msg(store_read_data(b, rec.lsn, record_dstart(rec.head_len), 0, LEN, got, false, &err) == 0, "%s", err.msg);
        ck_assert(memcmp(got, buf + rec.head_len, LEN) == 0);
        packrig_pack(b, NULL);
        ck_assert_uint_eq(log_first(store_log(b)), log_head(store_log(b)));
    }
    free(buf);
    free(got);
    free(sums);
    no_b();
    stop();
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
    Suite *s = suite_create("packed_sites");
    TCase *t = tcase(s, "sites");
    SRunner *sr;
    int failed;

    signal(SIGPIPE, SIG_IGN);
    tcase_add_loop_test(t, a_standby_of_a_store_that_was_packed_away_is_the_same, 0, 4);
    tcase_add_test(t, both_sites_pack_while_one_follows);
    tcase_add_loop_test(t, a_standby_that_was_packed_can_take_over, 0, 3);
    tcase_add_test(t, a_record_of_many_mebibytes_is_packed_and_shipped);
    sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed != 0;
}
