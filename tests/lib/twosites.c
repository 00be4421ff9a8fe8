/* twosites.c: see twosites.h. */
#include "tests/lib/twosites.h"

#include "store/core/anew.h"
#include "tests/lib/subio.h"

#include <check.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct store_info *twosites_info(struct store *s)
{
    static struct store_info info;

    store_info(s, &info);
    return &info;
}

void twosites_standby(struct teststore *of, struct teststore *t)
{
    struct store_seed seed = { .timezone = "UTC" };
    const struct store_info *i = twosites_info(of->s);
    struct err err = { 0 };

    memset(t, 0, sizeof *t);
    memcpy(seed.lineage, i->super.lineage, 16);
    memcpy(seed.key, i->super.key, 32);
    seed.epoch = i->super.epochs[0];
    t->sim = simio_new(9);
    t->who = of->who;
    t->now_ns = of->now_ns;
    simio_set_wall(t->sim, t->now_ns);
    t->disk = kv_twin_disk_new();
    t->opt = (struct store_options){ .writable = true, .threads = true, .log = of->opt.log };
    ck_assert_msg(store_create_standby(simio_io(t->sim), NULL, &seed, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(kv_twin_open(t->disk, &t->opt.kv, &err), 0);
    ck_assert_msg(store_open(simio_io(t->sim), NULL, &t->opt, &t->s, NULL, &err) == 0, "%s", err.msg);
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
