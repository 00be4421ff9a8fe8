/* replicate.c: see replicate.h. */
#include "store/sync/replicate.h"

#include "store/core/role.h"
#include "store/core/standby.h"
#include "store/sync/peer.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { PUMPS = STANDBYS_MAX + 1, CLAIMS = 16 };

/* One standby, or what is fetched from; its thread. */
struct pump {
    struct replicate *r;
    bool used, done;                    /* lock; done: the thread is about to end */
    bool stop, again;                   /* lock: end; look at the settings again */
    bool trying;                        /* lock: in once() */
    struct standby b;                   /* lock: as the thread saw it last */
    int wake;                           /* eventfd: readable ends a stream, or a wait */
    pthread_t thread;
    uint64_t pause_ms, next_ms;         /* lock; next_ms: CLOCK_MONOTONIC, not before; 0 now */
    unsigned failed;                    /* lock */
    struct err why;                     /* lock */
    int64_t next_wall_ns;               /* lock */
    uint32_t role;                      /* of the thread: the store's, when it looked last */
    int told;                           /* of the thread: what was said last: 0 nothing, 1 in touch, < 0 that code, as said_as has it */
};

struct claim { char target[STANDBY_TARGET_MAX + 1]; unsigned n; uint64_t until_ms; };

struct replicate {
    struct store *s;
    void (*say)(const char *line);
    struct link_table links;
    pthread_t thread;
    pthread_mutex_t lock;               /* inside it: that of the settings */
    pthread_cond_t cond;                /* lock: anything below, or of a pump, is other than it was */
    bool stop, changed;                 /* lock */
    bool alarm;                         /* lock */
    struct pump pump[PUMPS];
    struct claim claim[CLAIMS];         /* lock */
    char own_name[REPLICATE_NAME_MAX + 1];  /* what this machine is called, where it fetches */
};

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void ring(int fd)
{
    uint64_t one = 1;

    while (write(fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

static void drain(int fd)
{
    uint64_t n;

    while (read(fd, &n, sizeof n) < 0 && errno == EINTR)
        ;
}

/* ---- when ---- */

/* What is wrong there or here stays so until a person does something. */
static bool stays(int code)
{
    static const int codes[] = { ERR_FENCED, ERR_DIVERGED, ERR_BOOTSTRAP, ERR_NOSTORE, ERR_PEERVER, ERR_USAGE, ERR_MOVED, ERR_VERSION, ERR_DAMAGE, ERR_EXIST, ERR_NOTDIR,
                                 ERR_LOSTDATA, ERR_TOOLONG, ERR_PERM, ERR_ACCES, ERR_ROFS };

    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        if (codes[i] == code)
            return true;
    return false;
}

/* A line that is bad, or a side that restarts, has many ways to say so: one line for all of them. */
static int said_as(int code)
{
    return code == ERR_BUSY || code == ERR_LOCKED || code == ERR_IO || code == ERR_TRUNCATED ? ERR_AWAY : code;
}

uint64_t replicate_pause_ms(int code, uint64_t before)
{
    if (stays(code))
        return REPLICATE_REFUSED_MS;
    if (before < REPLICATE_FIRST_MS || before > REPLICATE_MOST_MS)
        return REPLICATE_FIRST_MS;
    return 2 * before < REPLICATE_MOST_MS ? 2 * before : REPLICATE_MOST_MS;
}

/* ---- claims ---- */

static struct claim *claim_of(struct replicate *r, const char *target, bool make)
{
    struct claim *empty = NULL;

    for (int i = 0; i < CLAIMS; i++) {
        struct claim *c = &r->claim[i];

        if (c->n == 0 && c->until_ms <= now_ms())
            empty = c;
        else if (strcmp(c->target, target) == 0)
            return c;
    }
    if (empty == NULL || !make)
        return NULL;
    memset(empty, 0, sizeof *empty);
    snprintf(empty->target, sizeof empty->target, "%s", target);
    return empty;
}

/* 0: not claimed; else until then, UINT64_MAX without end. */
static uint64_t claimed_until(struct replicate *r, const char *target)
{
    const struct claim *c = claim_of(r, target, false);

    return c == NULL ? 0 : c->n > 0 ? UINT64_MAX : c->until_ms;
}

static struct pump *pump_of(struct replicate *r, const char *target)
{
    for (int i = 0; i < PUMPS; i++)
        if (r->pump[i].used && !r->pump[i].done && strcmp(r->pump[i].b.target, target) == 0)
            return &r->pump[i];
    return NULL;
}

static void again(struct pump *p)
{
    p->again = true;
    ring(p->wake);
}

static void take(struct replicate *r, const char *target, unsigned ms)
{
    struct claim *c;
    struct pump *p;

    if (r == NULL)
        return;
    pthread_mutex_lock(&r->lock);
    c = claim_of(r, target, true);
    if (c != NULL && ms > 0)
        c->until_ms = now_ms() + ms;
    else if (c != NULL)
        c->n++;
    if ((p = pump_of(r, target)) != NULL)
        again(p);
    while ((p = pump_of(r, target)) != NULL && p->trying && p->again)
        pthread_cond_wait(&r->cond, &r->lock);
    pthread_mutex_unlock(&r->lock);
}

void replicate_claim(struct replicate *r, const char *target) { take(r, target, 0); }
void replicate_hold(struct replicate *r, const char *target, unsigned ms) { take(r, target, ms); }

void replicate_release(struct replicate *r, const char *target)
{
    struct claim *c;
    struct pump *p;

    if (r == NULL)
        return;
    pthread_mutex_lock(&r->lock);
    c = claim_of(r, target, false);
    if (c != NULL) {
        c->n -= c->n > 0;
        c->until_ms = 0;
    }
    if ((p = pump_of(r, target)) != NULL) {
        p->next_ms = 0;
        again(p);
    }
    pthread_mutex_unlock(&r->lock);
}

/* ---- one stream ---- */

static void say(const struct pump *p, const char *what, const char *more)
{
    char line[STANDBY_TARGET_MAX + 700];

    if (p->r->say == NULL)
        return;
    snprintf(line, sizeof line, "%s %s: %s%s", p->b.from ? "fetching from" : "standby", p->b.target, what, more);
    p->r->say(line);
}

/* The two are in touch: whatever was wrong is over. */
static void in_touch(struct pump *p)
{
    if (p->told == 1)
        return;
    p->told = 1;
    pthread_mutex_lock(&p->r->lock);
    memset(&p->why, 0, sizeof p->why);
    pthread_mutex_unlock(&p->r->lock);
    say(p, "in touch", "");
}

static void shipping(void *arg, const struct link_info *i, uint64_t durable)
{
    (void)durable;
    if (i->agreed)
        in_touch(arg);
}

static void fetching(void *arg, const struct link_info *i)
{
    if (i->agreed)
        in_touch(arg);
}

/* What was promoted fetches nothing, whatever its settings say. */
static bool may_fetch(struct store *s)
{
    struct store_info info;

    store_info(s, &info);
    return info.role == ROLE_STANDBY;
}

/* A stream and the other end of it, from beginning to end. *${on}: how far it came. */
static int once(struct pump *p, const struct standby *b, uint64_t *on, struct err *err)
{
    struct replicate *r = p->r;
    struct peer_options po = { .ssh = b->ssh[0] ? b->ssh : NULL, .remote = b->remote[0] ? b->remote : NULL, .quiet = true, .send = b->from ? r->own_name : NULL };
    struct link_stop stop = { p->wake, NULL };
    struct link_info info = { 0 };
    struct peer peer;
    char host[256];
    bool ssh = peer_host(b->target, host, sizeof host) != NULL;
    int rc = peer_start(b->target, &po, &peer, err);

    *on = 0;
    if (rc < 0)
        return rc;
    if (b->from) {
        struct link_receive_options opt = { .name = b->target, .stop = stop, .progress = fetching, .arg = p };

        rc = link_receive(r->s, &r->links, peer.fd, peer.fd, &opt, &info, err);
    } else {
        struct link_ship_options opt = { .follow = true, .compress = ssh, .limit = ssh, .stop = stop, .progress = shipping, .arg = p };

        rc = link_ship_standby(r->s, &r->links, b, false, peer.fd, peer.fd, opt, &info, err);
    }
    *on = info.agreed ? info.durable : 0;
    if (rc == 0)                         /* nobody ends such a stream but here: a line that was cut, a side that was stopped */
        rc = err_set(err, ERR_AWAY, "the other side ended the stream");
    return peer_end(&peer, b->target, rc, err);
}

static void failed(struct pump *p, int rc, const struct err *err, bool advanced)
{
    struct replicate *r = p->r;
    struct err why = *err;
    char more[40];

    if (why.code == 0)
        err_set(&why, rc, "%s", err_text(rc));
    pthread_mutex_lock(&r->lock);
    p->pause_ms = replicate_pause_ms(rc, advanced ? 0 : p->pause_ms);
    p->next_ms = now_ms() + p->pause_ms;
    p->next_wall_ns = io_wall_ns(store_io(r->s)) + (int64_t)p->pause_ms * 1000000;
    p->failed++;
    p->why = why;
    pthread_mutex_unlock(&r->lock);
    if (p->told == said_as(rc))
        return;
    p->told = said_as(rc);
    snprintf(more, sizeof more, stays(rc) ? "; tried again each 5 minutes" : "; trying again");
    say(p, why.msg, more);
}

/* ---- the thread of one ---- */

/* Whether to run a stream now; else how long to wait, -1 until something changes. Leaves *${b} as the settings have it; false: it is no more. */
static bool due(struct pump *p, struct standby *b, int *wait_ms)
{
    struct replicate *r = p->r;
    char target[STANDBY_TARGET_MAX + 1];
    uint64_t until, now = now_ms();
    uint32_t role = store_role(r->s);
    int at;

    snprintf(target, sizeof target, "%s", p->b.target);
    at = p->b.from ? STANDBY_FROM : standby_find(r->s, target);
    if (at < 0 || !standby_get(r->s, (unsigned)at, b) || strcmp(b->target, target) != 0 || (!b->ships && !b->from))
        return false;
    p->b = *b;
    until = claimed_until(r, target);
    if (p->role != role)                 /* what was refused in another role may not be in this one; a standby ships on to its own */
        p->next_ms = 0;
    p->role = role;
    if (b->paused || until == UINT64_MAX || (b->from && !may_fetch(r->s)) || (!b->from && role != ROLE_PRIMARY && role != ROLE_STANDBY))
        *wait_ms = -1;
    else if (now < until)
        *wait_ms = (int)(until - now);
    else
        *wait_ms = now < p->next_ms ? (int)(p->next_ms - now) : 0;
    return true;
}

static void *pump_main(void *arg)
{
    struct pump *p = arg;
    struct replicate *r = p->r;

    pthread_mutex_lock(&r->lock);
    for (;;) {
        struct pollfd pfd = { .fd = p->wake, .events = POLLIN };
        struct err err = { 0 };
        struct standby b;
        uint64_t began = now_ms(), on = 0;
        int wait_ms = 0, rc;

        drain(p->wake);
        p->again = false;
        if (p->stop || !due(p, &b, &wait_ms))
            break;
        if (wait_ms != 0) {
            pthread_mutex_unlock(&r->lock);
            (void)poll(&pfd, 1, wait_ms);
            pthread_mutex_lock(&r->lock);
            continue;
        }
        p->trying = true;
        p->next_wall_ns = 0;
        pthread_mutex_unlock(&r->lock);
        rc = once(p, &b, &on, &err);
        if (rc != ERR_INTR)
            failed(p, rc, &err, p->told == 1 && (on > b.acked || now_ms() - began >= REPLICATE_MOST_MS));
        pthread_mutex_lock(&r->lock);
        p->trying = false;
        pthread_cond_broadcast(&r->cond);
    }
    p->done = true;
    r->changed = true;
    pthread_cond_broadcast(&r->cond);
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

/* ---- the thread of all ---- */

static void begin(struct replicate *r, const struct standby *b)
{
    struct pump *p = NULL;

    for (int i = 0; i < PUMPS && p == NULL; i++)
        if (!r->pump[i].used)
            p = &r->pump[i];
    if (p == NULL)
        return;                          /* one that is just ending has its place: its end brings us here again */
    memset(p, 0, sizeof *p);
    p->r = r;
    p->b = *b;
    p->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    p->used = p->wake >= 0 && pthread_create(&p->thread, NULL, pump_main, p) == 0;
    if (!p->used) {
        say(p, "no thread or descriptor for it; nothing is shipped until the settings change", "");
        if (p->wake >= 0)
            close(p->wake);
    }
}

/* locked; joins what has ended. */
static void tidy(struct replicate *r)
{
    for (int i = 0; i < PUMPS; i++) {
        struct pump *p = &r->pump[i];

        if (!p->used || !p->done)
            continue;
        pthread_mutex_unlock(&r->lock);
        pthread_join(p->thread, NULL);
        pthread_mutex_lock(&r->lock);
        close(p->wake);
        p->used = false;
    }
}

/* It is not as its thread saw it. */
static bool differs(const struct standby *a, const struct standby *b)
{
    return a->paused != b->paused || a->ships != b->ships || strcmp(a->ssh, b->ssh) != 0 || strcmp(a->remote, b->remote) != 0;
}

static void compare(struct replicate *r)
{
    struct standby b;

    for (int i = 0; i < PUMPS; i++) {
        struct pump *p = &r->pump[i];
        int at = p->used && !p->done ? standby_find(r->s, p->b.target) : -1;

        if (p->used && !p->done && (at < 0 || !standby_get(r->s, (unsigned)at, &b) || b.from != p->b.from || differs(&p->b, &b)))
            again(p);
    }
    for (unsigned i = 0; i <= STANDBY_FROM; i++)
        if (standby_get(r->s, i, &b) && (b.ships || b.from) && !standby_fetches(&b) && pump_of(r, b.target) == NULL)
            begin(r, &b);
}

static void *replicate_main(void *arg)
{
    struct replicate *r = arg;

    pthread_mutex_lock(&r->lock);
    while (!r->stop) {
        if (!r->changed) {
            pthread_cond_wait(&r->cond, &r->lock);
            continue;
        }
        r->changed = false;
        tidy(r);
        compare(r);
    }
    for (int i = 0; i < PUMPS; i++) {
        if (!r->pump[i].used)
            continue;
        r->pump[i].stop = true;
        ring(r->pump[i].wake);
    }
    pthread_mutex_unlock(&r->lock);
    for (int i = 0; i < PUMPS; i++) {
        if (!r->pump[i].used)
            continue;
        pthread_join(r->pump[i].thread, NULL);
        close(r->pump[i].wake);
    }
    return NULL;
}

/* Letters, digits and "._-" of what the machine is called: it goes through a shell at the other end. */
void replicate_own_name(char out[REPLICATE_NAME_MAX + 1])
{
    char host[REPLICATE_NAME_MAX + 1] = "";
    size_t n = 0;

    (void)gethostname(host, REPLICATE_NAME_MAX);
    for (const char *p = host; *p != '\0' && n < REPLICATE_NAME_MAX; p++)
        if ((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || *p == '.' || *p == '_' || (*p == '-' && n > 0))
            out[n++] = *p;
    snprintf(out + n, REPLICATE_NAME_MAX + 1 - n, "%s", n > 0 ? "" : "standby");
}

int replicate_start(struct store *s, void (*line)(const char *line), struct replicate **out, struct err *err)
{
    struct replicate *r = calloc(1, sizeof *r);
    int e;

    if (r == NULL)
        return err_set(err, ERR_NOMEM, "standbys: out of memory");
    r->s = s;
    r->say = line;
    r->changed = true;
    replicate_own_name(r->own_name);
    link_table_init(&r->links);
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->cond, NULL);
    e = pthread_create(&r->thread, NULL, replicate_main, r);
    if (e != 0) {
        link_table_release(&r->links);
        free(r);
        return err_from_errno(err, e, "standbys: cannot start a thread");
    }
    *out = r;
    return 0;
}

void replicate_stop(struct replicate *r)
{
    if (r == NULL)
        return;
    pthread_mutex_lock(&r->lock);
    r->stop = true;
    pthread_cond_broadcast(&r->cond);
    pthread_mutex_unlock(&r->lock);
    pthread_join(r->thread, NULL);
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->cond);
    link_table_release(&r->links);
    free(r);
}

/* ---- from outside ---- */

struct link_table *replicate_links(struct replicate *r)
{
    return r == NULL ? NULL : &r->links;
}

void replicate_changed(struct replicate *r)
{
    if (r == NULL)
        return;
    pthread_mutex_lock(&r->lock);
    r->changed = true;
    pthread_cond_broadcast(&r->cond);
    pthread_mutex_unlock(&r->lock);
}

void replicate_now(struct replicate *r, const char *target)
{
    if (r == NULL)
        return;
    pthread_mutex_lock(&r->lock);
    for (int i = 0; i < PUMPS; i++) {
        struct pump *p = &r->pump[i];

        if (!p->used || p->done || p->trying || (target != NULL && strcmp(p->b.target, target) != 0))
            continue;
        p->next_ms = 0;
        p->pause_ms = 0;
        ring(p->wake);
    }
    pthread_mutex_unlock(&r->lock);
}

bool replicate_get(struct replicate *r, const char *target, struct replicate_state *st)
{
    struct pump *p;

    memset(st, 0, sizeof *st);
    if (r == NULL)
        return false;
    pthread_mutex_lock(&r->lock);
    p = pump_of(r, target);
    if (p != NULL)
        *st = (struct replicate_state){ .trying = p->trying, .failed = p->failed, .why = p->why, .next_wall_ns = p->trying ? 0 : p->next_wall_ns };
    pthread_mutex_unlock(&r->lock);
    return p != NULL;
}

uint64_t replicate_acked(struct replicate *r)
{
    uint64_t acked;

    pthread_mutex_lock(&r->links.lock);
    acked = r->links.acked;
    pthread_mutex_unlock(&r->links.lock);
    return acked;
}

void replicate_on_acked(struct replicate *r, void (*fn)(void *arg), void *arg)
{
    pthread_mutex_lock(&r->links.lock);
    r->links.on_acked = fn;
    r->links.on_acked_arg = arg;
    pthread_mutex_unlock(&r->links.lock);
}

void replicate_alarm(struct replicate *r, bool on)
{
    pthread_mutex_lock(&r->lock);
    r->alarm = on;
    pthread_mutex_unlock(&r->lock);
}

bool replicate_alarmed(struct replicate *r)
{
    bool alarm;

    if (r == NULL)
        return false;
    pthread_mutex_lock(&r->lock);
    alarm = r->alarm;
    pthread_mutex_unlock(&r->lock);
    return alarm;
}
