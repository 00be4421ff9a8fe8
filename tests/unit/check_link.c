/*
 * check_link: the loops of both sides over real descriptors, while the standby's disk fails to sync at every n-th call: who says that all is
 * durable there has it after a power cut; a receiver that could not sync never says success, also when its line just ends.
 */
#include "store/sync/link.h"
#include "tests/lib/teststore.h"

#include <check.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FAULTS_MAX = 200 };

static struct teststore a;                       /* the primary */
static uint64_t end;                             /* of its log, all durable */
static struct store_seed seed = { .timezone = "UTC" };
static struct simio *sim;                        /* the standby's */
static struct kv_twin_disk *disk;
static struct store *b;

/* All the primary ever said in a stream to an empty standby. */
static uint8_t *said;
static size_t said_len;

static void open_b(void)
{
    struct store_options opt = { .writable = true, .threads = true };
    struct err err = { 0 };

    ck_assert_int_eq(kv_twin_open(disk, &opt.kv, &err), 0);
    ck_assert_msg(store_open(simio_io(sim), NULL, &opt, &b, NULL, &err) == 0, "%s", err.msg);
}

/* The same bytes each time: what was said to one is understood by the next. */
static void new_b(void)
{
    struct err err = { 0 };

    sim = simio_new(7);
    disk = kv_twin_disk_new();
    ck_assert_msg(store_create_standby(simio_io(sim), NULL, &seed, &err) == 0, "%s", err.msg);
    open_b();
}

static void no_b(void)
{
    store_drop(b);
    kv_twin_disk_free(disk);
    simio_free(sim);
}

static void primary(void)
{
    struct super *sb = malloc(sizeof *sb);
    char name[16];

    signal(SIGPIPE, SIG_IGN);
    ts_new(&a, "UTC");
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof name, "f%d", i);
        ts_save(&a, name, "some text");
    }
    ck_assert_int_eq(store_sync(a.s, NULL), 0);
    store_super(a.s, sb);
    memcpy(seed.lineage, sb->lineage, 16);
    memcpy(seed.key, sb->key, 32);
    seed.epoch = sb->epochs[0];
    end = log_durable(store_log(a.s));
    free(sb);
}

static void no_primary(void)
{
    free(said);
    said = NULL;
    said_len = 0;
    ts_free(&a);
}

/* ---- the sender, and a line that remembers what it said ---- */

struct sender {
    int line, far;          /* its end, and the relay's; -1 when given back */
    int to;                 /* where the relay writes to */
    int rc;
    struct link_info info;
    pthread_t ship, relay;
};

static void *ship(void *arg)
{
    struct sender *t = arg;
    struct link_ship_options opt = { .name = "b", .stop = { -1, NULL } };
    struct link_table links;
    struct err err = { 0 };

    link_table_init(&links);
    t->rc = link_ship(a.s, &links, t->line, t->line, &opt, &t->info, &err);
    link_table_release(&links);
    shutdown(t->line, SHUT_RDWR);
    return NULL;
}

static void copy(int from, int to, bool remember, bool *open)
{
    uint8_t buf[4096];
    ssize_t n = read(from, buf, sizeof buf), done = 0;

    if (n <= 0) {
        *open = false;
        shutdown(to, SHUT_WR);
        return;
    }
    while (done < n) {
        ssize_t k = write(to, buf + done, (size_t)(n - done));

        if (k < 0)
            break;          /* nobody reads it any more */
        done += k;
    }
    if (remember) {
        said = realloc(said, said_len + (size_t)n);
        memcpy(said + said_len, buf, (size_t)n);
        said_len += (size_t)n;
    }
}

static void *relay(void *arg)
{
    struct sender *t = arg;
    bool there = true, back = true;

    said_len = 0;
    while (there || back) {
        struct pollfd p[2] = { { .fd = there ? t->far : -1, .events = POLLIN }, { .fd = back ? t->to : -1, .events = POLLIN } };

        poll(p, 2, -1);
        if (p[0].revents != 0)
            copy(t->far, t->to, true, &there);
        if (p[1].revents != 0)
            copy(t->to, t->far, false, &back);
    }
    return NULL;
}

static int receive(int line, struct link_info *info)
{
    struct link_receive_options opt = { .name = "a", .stop = { -1, NULL } };
    struct link_table links;
    struct err err = { 0 };
    int rc;

    link_table_init(&links);
    rc = link_receive(b, &links, line, line, &opt, info, &err);
    link_table_release(&links);
    ck_assert_msg((rc == 0) == (err.code == 0), "returned %s, said \"%s\"", err_name(rc), err.msg);
    return rc;
}

/* Both, until both have ended; what the receiver returned. */
static int stream(struct sender *t, struct link_info *info)
{
    int x[2], y[2], rc;

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, x), 0);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, y), 0);
    *t = (struct sender){ .line = x[0], .far = x[1], .to = y[0] };
    pthread_create(&t->ship, NULL, ship, t);
    pthread_create(&t->relay, NULL, relay, t);
    rc = receive(y[1], info);
    shutdown(y[1], SHUT_RDWR);
    pthread_join(t->ship, NULL);
    pthread_join(t->relay, NULL);
    for (int i = 0; i < 2; i++) {
        close(x[i]);
        close(y[i]);
    }
    return rc;
}

/* What was said before, and the line ends: no word from the sender. */
static int replay(struct link_info *info)
{
    int x[2], rc, space = 1 << 20;

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, x), 0);
    setsockopt(x[0], SOL_SOCKET, SO_SNDBUF, &space, sizeof space);
    ck_assert_int_eq(write(x[0], said, said_len), (ssize_t)said_len);
    shutdown(x[0], SHUT_WR);
    rc = receive(x[1], info);
    close(x[0]);
    close(x[1]);
    return rc;
}

/* The power fails at the standby: ${durable} and all before it is there. */
static void cut_keeps(uint64_t durable)
{
    store_drop(b);
    simio_cut(sim, 1, SIMIO_CUT_DROP_ALL);
    open_b();
    ck_assert_uint_ge(log_head(store_log(b)), durable);
    ck_assert_uint_le(log_head(store_log(b)), end);
}

/* There were fewer syncs than ${n}. */
static bool fault_over(unsigned n, uint64_t before)
{
    return simio_calls(sim, SIMIO_FDATASYNC) - before < n;
}

/* ---- tests ---- */

START_TEST(what_is_said_to_be_durable_is_whichever_sync_fails)
{
    unsigned failed = 0, n = 1;
    bool over = false;

    for (; !over && n < FAULTS_MAX; n++) {
        struct sender t;
        struct link_info info;
        uint64_t before;
        int rc;

        new_b();
        before = simio_calls(sim, SIMIO_FDATASYNC);
        simio_fail_from(sim, SIMIO_FDATASYNC, n, ERR_IO);
        rc = stream(&t, &info);
        over = fault_over(n, before);
        simio_fail_clear(sim);
        failed += rc < 0;
        if (rc == 0)
            ck_assert_uint_eq(info.durable, log_head(store_log(b)));
        if (t.rc == 0)
            ck_assert_uint_ge(t.info.durable, end);
        if (over)
            ck_assert_msg(rc == 0 && t.rc == 0, "no sync failed, but there: %s, here: %s", err_name(rc), err_name(t.rc));
        ck_assert_uint_le(t.info.durable, t.info.received);
        cut_keeps(t.info.durable > info.durable ? t.info.durable : info.durable);
        no_b();
    }
    ck_assert_msg(over, "still syncs after %u", n);
    ck_assert_uint_gt(failed, 0);
}
END_TEST

START_TEST(a_line_that_just_ends_is_no_success_when_the_disk_here_could_not_sync)
{
    struct sender t;
    struct link_info info;
    unsigned all_came = 0, n = 1;
    bool over = false;

    new_b();
    ck_assert_int_eq(stream(&t, &info), 0);
    no_b();
    for (; !over && n < FAULTS_MAX; n++) {
        uint64_t before;
        int rc;

        new_b();
        before = simio_calls(sim, SIMIO_FDATASYNC);
        simio_fail_from(sim, SIMIO_FDATASYNC, n, ERR_IO);
        rc = replay(&info);
        over = fault_over(n, before);
        simio_fail_clear(sim);
        if (rc == 0) {
            ck_assert_uint_eq(info.durable, end);
            ck_assert_msg(over, "sync %u failed, and the receiver said success", n);
        }
        all_came += rc < 0 && log_head(store_log(b)) == end;
        cut_keeps(info.durable);
        no_b();
    }
    ck_assert_msg(over, "still syncs after %u", n);
    ck_assert_uint_gt(all_came, 0);              /* else no last sync ever failed */
}
END_TEST

int main(void)
{
    Suite *s = suite_create("link");
    TCase *t = tcase_create("link");
    SRunner *sr;
    int failed;

    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, primary, no_primary);
    tcase_add_test(t, what_is_said_to_be_durable_is_whichever_sync_fails);
    tcase_add_test(t, a_line_that_just_ends_is_no_success_when_the_disk_here_could_not_sync);
    suite_add_tcase(s, t);
    sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed != 0;
}
