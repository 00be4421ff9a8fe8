/* twosites.c: see twosites.h. */
#include "tests/lib/twosites.h"

#include "store/core/anew.h"
#include "store/core/standby.h"
#include "store/log/frame.h"
#include "store/pack/history.h"
#include "tests/lib/subio.h"

#include <check.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct super *twosites_super(struct store *s)
{
    static struct super sb;

    store_super(s, &sb);
    return &sb;
}

unsigned twosites_same_records(struct teststore *a, struct teststore *b)
{
    struct history_iter *x = NULL, *y = NULL;
    struct record p, q;
    struct err err = { 0 };
    unsigned n = 0;

    ck_assert_int_eq(history_iter_new(store_history(a->s), LOG_FIRST_ADDR, log_durable(store_log(b->s)), &x, NULL), 0);
    ck_assert_int_eq(history_iter_new(store_history(b->s), LOG_FIRST_ADDR, UINT64_MAX, &y, NULL), 0);
    for (;; n++) {
        int rx = history_next(x, &p, NULL, &err), ry = history_next(y, &q, NULL, &err);

        ck_assert_msg(rx == ry && rx >= 0, "%d %d %s", rx, ry, err.msg);
        if (rx == 0)
            break;
        ck_assert(p.lsn == q.lsn && hash128_eq(&p.hash, &q.hash));
    }
    history_iter_free(x);
    history_iter_free(y);
    return n;
}

void twosites_standby(struct teststore *of, struct teststore *t)
{
    static uint64_t luck = 9;
    struct store_seed seed = { .timezone = "UTC" };
    const struct super *i = twosites_super(of->s);
    struct err err = { 0 };

    memset(t, 0, sizeof *t);
    memcpy(seed.lineage, i->lineage, 16);
    memcpy(seed.key, i->key, 32);
    seed.epoch = i->epochs[0];
    t->sim = simio_new(luck++);
    t->who = of->who;
    t->now_ns = of->now_ns;
    simio_set_wall(t->sim, t->now_ns);
    t->disk = kv_twin_disk_new();
    t->opt = (struct store_options){ .writable = true, .threads = true, .log = of->opt.log };
    ck_assert_msg(store_create_standby(simio_io(t->sim), NULL, &seed, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(kv_twin_open(t->disk, &t->opt.kv, &err), 0);
    ck_assert_msg(store_open(simio_io(t->sim), NULL, &t->opt, &t->s, NULL, &err) == 0, "%s", err.msg);
}

void twosites_both(struct teststore *a, struct teststore *b)
{
    struct err err = { 0 };

    ts_new(a, "UTC");
    ts_save(a, "one", "one");
    twosites_standby(a, b);
    ck_assert_msg(twosites_send(a, b, &err) == 0, "%s", err.msg);
}

void twosites_wait_for(struct teststore *of, struct teststore *t)
{
    struct standby b = { .acked = log_head(store_log(t->s)), .heard_s = 1 };
    struct err err = { 0 };

    memcpy(b.site, twosites_super(t->s)->site, 16);
    snprintf(b.target, sizeof b.target, "/standby-%02x%02x", b.site[0], b.site[1]);
    ck_assert_msg(standby_note(of->s, &b, &err) == 0, "%s", err.msg);
}

int twosites_send(struct teststore *from, struct teststore *to, struct err *err)
{
    struct history_iter *it = NULL;
    struct record rec;
    const uint8_t *head;
    uint8_t *buf = NULL;
    int rc = 0;

    ck_assert_int_eq(store_sync(from->s, NULL), 0);
    ck_assert_int_eq(history_iter_new(store_history(from->s), log_head(store_log(to->s)), UINT64_MAX, &it, NULL), 0);
    while (rc == 0 && (rc = history_next(it, &rec, &head, err)) == 1) {
        buf = realloc(buf, (size_t)rec.head_len + rec.data_len);
        ck_assert_ptr_nonnull(buf);
        memcpy(buf, head, rec.head_len);
        rc = rec.data_len > 0 ? store_read_data(from->s, rec.lsn, record_dstart(rec.head_len), 0, rec.data_len, buf + rec.head_len, false, err) : 0;
        if (rc == 0)
            rc = store_follow(to->s, buf, (size_t)rec.head_len + rec.data_len, err);
    }
    history_iter_free(it);
    free(buf);
    return rc < 0 ? rc : store_sync(to->s, err);
}

/* Beside a store that is there, on its disk. */
static int place(void *arg, struct io **io, const char **dir, struct err *err)
{
    struct io *disk = arg;
    int rc = anew_begin(disk, err);

    *io = rc == 0 ? subio_new(disk, ANEW_DIR) : NULL;
    *dir = NULL;
    return rc;
}

struct side { struct store *s; int fd; bool sends; struct twosites_end *end; };

static void *run_side(void *arg)
{
    struct side *d = arg;
    struct link_table links;

    link_table_init(&links);
    if (d->sends) {
        struct link_ship_options opt = { .name = "there", .may_make = true, .stop = { -1, NULL } };

        d->end->ship = link_ship(d->s, &links, d->fd, d->fd, &opt, &d->end->shipped, &d->end->ship_err);
    } else {
        struct link_receive_options opt = { .name = "here", .place = place, .arg = store_io(d->s), .stop = { -1, NULL }, .rewind = &d->end->rewind };

        d->end->receive = link_receive(d->s, &links, d->fd, d->fd, &opt, &d->end->received, &d->end->receive_err);
    }
    link_table_release(&links);
    shutdown(d->fd, SHUT_RDWR);
    return NULL;
}

int twosites_ship(struct teststore *from, struct teststore *to, struct twosites_end *end)
{
    struct twosites_end own;
    struct twosites_end *e = end != NULL ? end : &own;
    int fd[2];
    struct side a, b;
    pthread_t ta, tb;

    memset(e, 0, sizeof *e);
    signal(SIGPIPE, SIG_IGN);
    ck_assert_int_eq(store_sync(from->s, NULL), 0);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
    a = (struct side){ from->s, fd[0], true, e };
    b = (struct side){ to->s, fd[1], false, e };
    ck_assert_int_eq(pthread_create(&ta, NULL, run_side, &a), 0);
    ck_assert_int_eq(pthread_create(&tb, NULL, run_side, &b), 0);
    pthread_join(ta, NULL);
    pthread_join(tb, NULL);
    close(fd[0]);
    close(fd[1]);
    if (e->ship == 0 && e->receive == ERR_AWAY)
        e->receive = 0;                  /* its last word found the line closed: the other side had heard enough */
    if (end == NULL)
        ck_assert_msg(e->ship == 0 && e->receive == 0, "sender: %s; receiver: %s", e->ship_err.msg, e->receive_err.msg);
    return e->ship != 0 ? e->ship : e->receive;
}
