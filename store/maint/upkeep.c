/*
 * upkeep.c: when to pack. Two reasons: nobody has changed anything for a while, and there is enough to be worth it; or the log has grown so long that it does not
 * wait for that. While somebody works, a step goes on in the pauses.
 */
#include "store/maint/upkeep.h"

#include "store/maint/packer.h"
#include "store/maint/pressure.h"
#include "store/maint/reclaim.h"
#include "store/pack/packs.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { LOOK_MS = 1000, QUIET_MS = 10000, PAUSE_MS = 2, PAUSES = 50, WORK_MS = 50, NICE = 19, AGAIN_MS = 60000,
       RECLAIM_FIRST_MS = 60000, RECLAIM_EACH_MS = 600000,    /* what is kept is looked at so often */
       RECLAIM_REST = 20 };              /* and not before so many times what the last one took */
#define WORTH_BYTES (1ull << 20)         /* less than this in the log is left there */
#define LONG_BYTES  (4ull << 30)         /* more than this is packed in the pauses */

struct upkeep {
    struct store *s;
    void (*say)(const char *line);
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;                 /* lock */
    bool stop;                           /* lock */
    uint64_t head;                       /* at the last look */
    uint64_t still_ms;                   /* for so long it has not moved */
    uint64_t wait_ms;                    /* after a failure: not before */
    uint64_t reclaim_ms;                 /* so long until what is kept is looked at again */
    uint64_t paused_ms;                  /* CLOCK_MONOTONIC, end of the last pause */
    struct pressure pressure;
    bool failing, stuck, least;          /* packing; reclaim; no less can be kept */
};

static bool stopping(struct upkeep *u)
{
    bool stop;

    pthread_mutex_lock(&u->lock);
    stop = u->stop;
    pthread_mutex_unlock(&u->lock);
    return stop;
}

static uint64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* Until nobody changes anything, but not for ever. */
static int wait_for_pause(struct upkeep *u)
{
    const struct timespec t = { 0, PAUSE_MS * 1000000L };

    for (int i = 0; i < PAUSES; i++) {
        uint64_t head = log_head(store_log(u->s));

        if (stopping(u))
            return 1;
        if (head == u->head)
            return 0;
        u->head = head;
        u->still_ms = 0;
        nanosleep(&t, NULL);
    }
    return stopping(u);
}

/* Asked between two chunks, of which there are many: it pauses after a while of work only. */
static int pause_or_stop(void *arg)
{
    struct upkeep *u = arg;
    int stop;

    if (now_ms() - u->paused_ms < WORK_MS)
        return stopping(u);
    stop = wait_for_pause(u);
    u->paused_ms = now_ms();
    return stop;
}

int upkeep_pack(struct store *s, const struct needed *needed, int (*stop)(void *arg), void *arg, int (*each)(void *arg, const struct packer_result *r), struct err *err)
{
    struct packer_options opt = { .needed = needed, .stop = stop, .arg = arg };
    struct packer_result r;
    uint64_t upto;
    int rc = store_roll(s, err);         /* first: of a store opened for reading it says so, and a sync would fail the store */

    if (rc == ERR_NOSPC)                 /* then the segment that is written to stays */
        rc = 0;

    upto = log_head(store_log(s));
    if (rc == 0)
        rc = store_sync(s, err);
    if (rc == 0)
        rc = store_flush(s, err);
    while (rc == 0 && (rc = packer_step(s, &opt, upto, &r, err)) == 1) {
        rc = each != NULL ? each(arg, &r) : 0;
        if (rc == 0)                     /* hints count among what a restart would lose, of which there is only so much room */
            rc = store_flush(s, err);
    }
    return rc == 0 ? store_flush(s, err) : rc;       /* hints: nothing else would make them durable in a store at rest */
}

static void told(struct upkeep *u, int rc, const struct err *err)
{
    char line[ERR_MSG_MAX + 64];

    if (rc < 0 && rc != ERR_BUSY) {
        if (!u->failing && u->say != NULL) {
            snprintf(line, sizeof line, "packing: %s; the log keeps what it has, tried again every minute", err->msg[0] ? err->msg : err_text(rc));
            u->say(line);
        }
        u->failing = true;
        u->wait_ms = AGAIN_MS;
    } else if (rc == 0 && u->failing) {
        u->failing = false;
        if (u->say != NULL)
            u->say("packing: goes on");
    }
}

static int told_to_end(void *arg)
{
    return stopping(arg);
}

/* What no moment needs any more goes. */
static void give_back(struct upkeep *u)
{
    const struct reclaim_options opt = { .stop = pause_or_stop, .arg = u };
    char line[ERR_MSG_MAX + 64];
    struct err err = { 0 };
    uint64_t began = now_ms(), took;
    int rc = reclaim(u->s, &opt, NULL, &err);

    took = now_ms() - began;
    u->reclaim_ms = RECLAIM_REST * took > RECLAIM_EACH_MS ? RECLAIM_REST * took : RECLAIM_EACH_MS;
    if (rc < 0 && rc != ERR_BUSY && rc != ERR_ROFS && !u->stuck && u->say != NULL) {
        snprintf(line, sizeof line, "reclaim: %s", err.msg[0] ? err.msg : err_text(rc));
        u->say(line);
    }
    u->stuck = rc < 0 && rc != ERR_BUSY;
}

/* For all of the log that is in no pack yet; NULL: there is nothing, or no memory. */
struct needed *upkeep_needed(struct store *s)
{
    struct store_info info;
    uint64_t packed = packer_from(s);

    if (store_flush(s, NULL) < 0)
        return NULL;
    store_info(s, &info);
    return needed_new(packed > 0 ? packed : LOG_FIRST_ADDR, info.applied);
}

/* Space is short: less is kept from now on. Nobody works in the meantime who needs space, so nobody is waited for where the disk is full. */
static void make_room(struct upkeep *u)
{
    struct pressure *p = &u->pressure;
    struct policy policy;
    struct reclaim_options opt = { .stop = p->full ? told_to_end : pause_or_stop, .arg = u, .policy = &policy, .now = true, .sweep = true };
    char line[400];
    struct err err = { 0 };
    int rc = 0;

    if (p->level == 0 && u->say != NULL) {
        snprintf(line, sizeof line, "space is short: %llu MiB free, %llu MiB to be kept free; the store takes %llu MiB (%llu MiB of which forks or branches hold, too: only to remove these gives it back), at most %llu MiB it may; letting go of the past, step by step",
                 (unsigned long long)(p->avail >> 20), (unsigned long long)(p->keep_free >> 20), (unsigned long long)(p->used >> 20), (unsigned long long)(p->shared >> 20),
                 (unsigned long long)(p->most >> 20));
        u->say(line);
    }
    pressure_step(p, u->s, &policy);
    opt.needed = upkeep_needed(u->s);
    rc = reclaim(u->s, &opt, NULL, &err);
    if (rc == 0 || rc == ERR_NOSPC)      /* what nobody needs is not even packed */
        rc = upkeep_pack(u->s, rc == 0 ? opt.needed : NULL, opt.stop, u, NULL, &err);
    needed_free(opt.needed);
    if (rc < 0 && rc != ERR_BUSY && !u->stuck && u->say != NULL) {
        snprintf(line, sizeof line, "reclaim: %.250s", err.msg[0] ? err.msg : err_text(rc));
        u->say(line);
    }
    u->stuck = rc < 0 && rc != ERR_BUSY;
    pressure_done(p);
    if (p->level == POLICY_LEVELS && !u->least && u->say != NULL)
        u->say("space is short: of the past only what min-age, snapshots and holds keep is left");
    u->least = p->level == POLICY_LEVELS;
}

static void look(struct upkeep *u)
{
    uint64_t head = log_head(store_log(u->s)), unpacked;
    struct err err = { 0 };
    int rc;

    u->still_ms = head == u->head ? u->still_ms + LOOK_MS : 0;
    u->head = head;
    u->wait_ms = u->wait_ms > LOOK_MS ? u->wait_ms - LOOK_MS : 0;
    unpacked = packer_from(u->s);
    unpacked = head - (unpacked > 0 ? unpacked : LOG_FIRST_ADDR);
    if (u->wait_ms == 0 && ((u->still_ms >= QUIET_MS && unpacked >= WORTH_BYTES) || unpacked >= LONG_BYTES)) {
        rc = upkeep_pack(u->s, NULL, pause_or_stop, u, NULL, &err);
        told(u, rc, &err);
        if (rc == 0 && u->still_ms >= QUIET_MS && u->pressure.level == 0)
            store_settle(u->s);          /* (it takes space before it gives some) */
    }
    u->reclaim_ms = u->reclaim_ms > LOOK_MS ? u->reclaim_ms - LOOK_MS : 0;
    if (pressure_look(&u->pressure, u->s, LOOK_MS))
        make_room(u);
    else if (u->reclaim_ms == 0)
        give_back(u);
}

static void *upkeep_main(void *arg)
{
    struct upkeep *u = arg;
    struct timespec ts;

    (void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE);    /* of this thread alone */
    pthread_mutex_lock(&u->lock);
    while (!u->stop) {
        clock_gettime(CLOCK_MONOTONIC, &ts);
        ts.tv_sec += LOOK_MS / 1000;
        if (pthread_cond_timedwait(&u->wake, &u->lock, &ts) == 0)
            continue;
        pthread_mutex_unlock(&u->lock);
        look(u);
        pthread_mutex_lock(&u->lock);
    }
    pthread_mutex_unlock(&u->lock);
    return NULL;
}

int upkeep_start(struct store *s, void (*say)(const char *line), struct upkeep **out, struct err *err)
{
    struct upkeep *u = calloc(1, sizeof *u);
    pthread_condattr_t attr;
    int e;

    if (u == NULL)
        return err_set(err, ERR_NOMEM, "upkeep: out of memory");
    u->s = s;
    u->say = say;
    u->head = log_head(store_log(s));
    u->reclaim_ms = RECLAIM_FIRST_MS;
    pthread_mutex_init(&u->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&u->wake, &attr);
    pthread_condattr_destroy(&attr);
    e = pthread_create(&u->thread, NULL, upkeep_main, u);
    if (e != 0) {
        free(u);
        return err_from_errno(err, e, "upkeep: cannot start a thread");
    }
    *out = u;
    return 0;
}

void upkeep_stop(struct upkeep *u)
{
    if (u == NULL)
        return;
    pthread_mutex_lock(&u->lock);
    u->stop = true;
    pthread_cond_signal(&u->wake);
    pthread_mutex_unlock(&u->lock);
    pthread_join(u->thread, NULL);
    pthread_mutex_destroy(&u->lock);
    pthread_cond_destroy(&u->wake);
    free(u);
}
