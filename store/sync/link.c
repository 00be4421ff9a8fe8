/* link.c: the table of streams, and what the loops of both directions share. */
#include "store/sync/link_internal.h"

#include "store/core/role.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/* ---- the table ---- */

void link_table_init(struct link_table *t)
{
    memset(t, 0, sizeof *t);
    pthread_mutex_init(&t->lock, NULL);
}

void link_table_release(struct link_table *t)
{
    pthread_mutex_destroy(&t->lock);
}

bool link_table_get(struct link_table *t, unsigned i, struct link_info *info)
{
    pthread_mutex_lock(&t->lock);
    *info = t->link[i];
    pthread_mutex_unlock(&t->lock);
    return info->used;
}

/* The place of a stream of that name that ended, a free one, or that of any that ended. */
static int take_slot(struct link_table *t, const char *name, bool sends)
{
    int same = -1, empty = -1, old = -1;

    for (int i = 0; i < LINKS_MAX; i++) {
        const struct link_info *k = &t->link[i];

        if (!k->used)
            empty = empty < 0 ? i : empty;
        else if (!k->live && k->sends == sends && strcmp(k->name, name) == 0)
            same = i;
        else if (!k->live)
            old = i;
    }
    return same >= 0 ? same : empty >= 0 ? empty : old;
}

void link_publish(struct loop *l)
{
    struct link_table *t = l->table;
    void (*tell)(void *arg) = NULL;
    void *arg;

    pthread_mutex_lock(&t->lock);
    if (l->slot >= 0)
        t->link[l->slot] = *l->info;
    if (l->info->sends && l->info->agreed && l->info->durable > l->durable) {
        l->durable = l->info->durable;
        t->acked = l->durable > t->acked ? l->durable : t->acked;
        tell = t->on_acked;
    }
    arg = t->on_acked_arg;
    pthread_mutex_unlock(&t->lock);
    if (tell != NULL)
        tell(arg);
}

/* ---- a loop ---- */

uint64_t link_now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_BOOTTIME, &t);      /* leases count time in which the host is suspended; silence does not (ship_tick) */
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

int link_begin(struct loop *l, struct link_table *t, int in, int out, const char *name, bool sends, const struct link_stop *stop,
               struct link_info *info, struct err *err)
{
    memset(l, 0, sizeof *l);
    memset(info, 0, sizeof *info);
    l->table = t;
    l->watch = -1;
    l->stop = stop;
    l->info = info;
    info->used = info->live = true;
    info->sends = sends;
    snprintf(info->name, sizeof info->name, "%s", name != NULL ? name : "");
    pthread_mutex_lock(&t->lock);
    if (!sends && t->receiving) {
        pthread_mutex_unlock(&t->lock);
        return err_set(err, ERR_BUSY, "expected one sender at a time, found a stream under way already");
    }
    t->receiving |= !sends;
    l->slot = take_slot(t, info->name, sends);
    if (l->slot >= 0)
        t->link[l->slot] = *info;
    pthread_mutex_unlock(&t->lock);
    conn_init(&l->c, in, out);
    return 0;
}

int link_watch(struct loop *l, struct store *s, struct err *err)
{
    l->s = s;
    l->watch = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->watch < 0)
        return err_from_errno(err, errno, "stream: eventfd");
    return store_watch(s, l->watch) < 0 ? err_set(err, ERR_BUSY, "stream: too many at once") : 0;
}

void link_end(struct loop *l, int rc)
{
    if (l->watch >= 0) {
        if (l->s != NULL)
            store_unwatch(l->s, l->watch);
        close(l->watch);
    }
    conn_release(&l->c);
    l->info->live = false;
    l->info->end = rc;
    link_publish(l);
    if (!l->info->sends) {
        pthread_mutex_lock(&l->table->lock);
        l->table->receiving = false;
        pthread_mutex_unlock(&l->table->lock);
    }
}

bool link_stopped(const struct link_stop *stop)
{
    struct pollfd p = { .fd = stop->fd, .events = POLLIN | POLLRDHUP };

    return (stop->flag != NULL && *stop->flag != 0) || (stop->fd >= 0 && poll(&p, 1, 0) > 0 && p.revents != 0);
}

int link_wait(struct loop *l, int ms, struct err *err)
{
    struct pollfd p[4] = {
        { .fd = l->c.eof ? -1 : l->c.in, .events = POLLIN }, { .fd = conn_idle(&l->c) ? -1 : l->c.out, .events = POLLOUT },
        { .fd = l->watch, .events = POLLIN }, { .fd = l->stop->fd, .events = POLLIN | POLLRDHUP },
    };
    uint64_t n;
    int rc = 0;

    if (poll(p, 4, ms) < 0 && errno != EINTR)
        return err_from_errno(err, errno, "stream: poll");
    if ((l->stop->flag != NULL && *l->stop->flag != 0) || p[3].revents != 0)
        return err_set(err, ERR_INTR, "interrupted");
    if (p[2].revents != 0 && read(l->watch, &n, sizeof n) < 0) {
        /* EAGAIN */
    }
    if (p[0].revents != 0)
        rc = conn_read(&l->c, err);
    if (rc == 0)
        rc = conn_flush(&l->c, err);
    return rc;
}

int link_fence(struct store *s, const struct epoch_row *by, int rc, struct err *err)
{
    struct err why = { 0 };
    int f = store_fence(s, by, &why);

    return f == 0 ? rc : err_set(err, f, "another site is primary since epoch %u; writing that down here failed: %.300s", by->number, why.msg);
}

void link_last_words(struct conn *c)
{
    uint64_t until = link_now_ms() + LINK_LAST_WORDS_MS, now;

    while (!conn_idle(c) && (now = link_now_ms()) < until) {
        struct pollfd p = { .fd = c->out, .events = POLLOUT };

        (void)poll(&p, 1, (int)(until - now));
        if (conn_flush(c, NULL) < 0)
            return;
    }
}

void link_refuse(int in, int out, const struct err *err)
{
    struct proto_msg *m = calloc(1, sizeof *m);
    struct conn c;

    conn_init(&c, in, out);
    if (m != NULL) {
        m->type = PROTO_REFUSE;
        m->u.refuse.code = err->code != 0 ? err->code : ERR_UNKNOWN;
        snprintf(m->u.refuse.text, sizeof m->u.refuse.text, "%s", err->msg[0] != '\0' ? err->msg : err_text(err->code));
        if (conn_put(&c, m, NULL) == 0)
            link_last_words(&c);
    }
    free(m);
    conn_release(&c);
}
