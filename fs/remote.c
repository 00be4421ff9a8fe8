/* remote.c: see remote.h. */
#include "fs/remote.h"

#include "fs/park.h"
#include "store/core/standby.h"
#include "store/sync/replicate.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PARENTS_MAX = 16, DEPTH_MAX = 4096, LOOK_MS = 1000 };
#define BELOW "below"

enum away { AWAY_DEGRADE, AWAY_WAIT, AWAY_FAIL };

struct remote {
    struct fs *fs;
    struct replicate *_Atomic r;         /* NULL: nothing is shipped, or not yet */
    atomic_uint_fast64_t degraded;       /* 0: not; else what a standby must have for it to be over */
    pthread_mutex_t lock;
    uint64_t looked_ms;                  /* lock: when the settings were */
    bool any;                            /* lock: there is a standby */
    enum away away;                      /* lock */
};

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static bool has_acked(struct remote *rm, uint64_t addr)
{
    struct replicate *r = atomic_load(&rm->r);

    return r != NULL && replicate_acked(r) >= addr;
}

static void alarm_is(struct remote *rm, bool on)
{
    struct replicate *r = atomic_load(&rm->r);

    if (r != NULL)
        replicate_alarm(r, on);
}

/* ---- what the settings say, as of a second ago ---- */

static void look(struct remote *rm, bool *any, enum away *away)
{
    struct store *s = rm->fs->store;
    uint64_t now = now_ms();
    char text[16];
    struct standby b;

    pthread_mutex_lock(&rm->lock);
    if (rm->looked_ms == 0 || now - rm->looked_ms >= LOOK_MS) {
        rm->looked_ms = now;
        rm->any = false;
        for (unsigned i = 0; i < STANDBYS_MAX && !rm->any; i++)
            rm->any = standby_get(s, i, &b) && (b.ships || standby_fetches(&b));
        if (store_config_get(s, "rpo-away", text, sizeof text) <= 0)
            text[0] = '\0';
        rm->away = strcmp(text, "wait") == 0 ? AWAY_WAIT : strcmp(text, "fail") == 0 ? AWAY_FAIL : AWAY_DEGRADE;
    }
    *any = rm->any;
    *away = rm->away;
    pthread_mutex_unlock(&rm->lock);
}

static enum away away_of(struct remote *rm)
{
    enum away away;
    bool any;

    look(rm, &any, &away);
    return away;
}

/* ---- who wants it ---- */

/* 1: it has the attribute, "0"; 0 not; or ERR_WAIT. */
static int has(struct fs *fs, uint64_t ino, struct wait *wait)
{
    char v[4];
    int64_t n = store_getxattr(fs->store, AT_LIVE, ino, REMOTE_XATTR, v, sizeof v, wait);

    return n == ERR_WAIT ? ERR_WAIT : n == 1 && v[0] == '0';
}

struct up { uint64_t ino[PARENTS_MAX]; unsigned n; };

static int add(void *arg, uint64_t parent, const char *name, size_t nlen)
{
    struct up *u = arg;

    (void)name;
    (void)nlen;
    if (u->n < PARENTS_MAX)
        u->ino[u->n++] = parent;
    return 0;
}

/* A directory has one parent: upwards from it. */
static int has_above(struct fs *fs, uint64_t dir, struct wait *wait)
{
    int rc = 0;

    for (int depth = 0; rc == 0 && dir != 0 && depth < DEPTH_MAX; depth++) {
        struct up u = { .n = 0 };

        rc = has(fs, dir, wait);
        if (rc == 0 && dir != INO_ROOT)
            rc = store_parents(fs->store, AT_LIVE, dir, add, &u, wait);
        dir = u.n > 0 ? u.ino[0] : 0;
    }
    return rc == ERR_WAIT || rc == 1 ? rc : 0;
}

int remote_wanted(struct fs *fs, uint64_t ino, struct wait *wait)
{
    struct up u = { .n = 0 };
    enum away away;
    bool any;
    int64_t n;
    int rc;

    if (fs->remote == NULL || !fs_changes(fs))
        return 0;
    n = store_getxattr(fs->store, AT_LIVE, INO_ROOT, REMOTE_XATTR, NULL, 0, wait);
    if (n < 0)
        return n == ERR_WAIT ? ERR_WAIT : 0;
    look(fs->remote, &any, &away);
    if (!any)
        return 0;
    rc = has(fs, ino, wait);
    if (rc == 0 && ino != INO_ROOT)
        rc = store_parents(fs->store, AT_LIVE, ino, add, &u, wait);
    for (unsigned i = 0; i < u.n && rc == 0; i++)
        rc = has_above(fs, u.ino[i], wait);
    return rc == ERR_WAIT || rc == 1 ? rc : 0;
}

int remote_check(const void *value, size_t len)
{
    return len == 1 && *(const char *)value == '0' ? 0 : ERR_INVAL;
}

int remote_mark(struct fs *fs, const struct caller *c, uint64_t ino, struct wait *wait)
{
    struct caller own = { .uid = 0, .pid = c->pid };
    int64_t n;

    if (ino == INO_ROOT)
        return 0;
    n = store_getxattr(fs->store, AT_LIVE, INO_ROOT, REMOTE_XATTR, NULL, 0, wait);
    if (n != ERR_NODATA)
        return n < 0 ? (int)n : 0;
    return store_setxattr(fs->store, &own, INO_ROOT, REMOTE_XATTR, BELOW, strlen(BELOW), 0, false, wait);
}

/* ---- the wait ---- */

bool remote_ready(struct fs *fs, const struct wait *w, uint64_t since_ms)
{
    struct remote *rm = fs->remote;
    enum away away;

    if (rm == NULL || log_poisoned(store_log(fs->store)) || has_acked(rm, w->addr))
        return true;
    away = away_of(rm);
    if (away == AWAY_DEGRADE && atomic_load(&rm->degraded) != 0)
        return true;
    return away != AWAY_WAIT && now_ms() - since_ms >= REMOTE_WAIT_MS;
}

int remote_result(struct fs *fs, const struct wait *w)
{
    struct remote *rm = fs->remote;
    uint_fast64_t not_yet = 0;
    int rc;

    if (log_poisoned(store_log(fs->store)))
        return log_poisoned(store_log(fs->store));
    if (rm == NULL || has_acked(rm, w->addr))
        return 0;
    rc = away_of(rm) == AWAY_FAIL ? ERR_IO : 0;
    if (atomic_compare_exchange_strong(&rm->degraded, &not_yet, w->addr)) {
        fs_log("%s: no standby has acknowledged what was synced where rpo is 0, within %d s; %s until one has", fs->o->store, REMOTE_WAIT_MS / 1000,
               rc ? "fsync fails there" : "fsync does not wait for them any more");
        alarm_is(rm, true);
        (void)store_canary(fs->store, w->addr, NULL);
    }
    return rc;
}

/* A standby acknowledged something. */
static void acknowledged(void *arg)
{
    struct remote *rm = arg;
    uint_fast64_t degraded = atomic_load(&rm->degraded);

    if (degraded != 0 && has_acked(rm, degraded) && atomic_compare_exchange_strong(&rm->degraded, &degraded, 0)) {
        fs_log("%s: a standby has what was synced where rpo is 0: fsync waits for it again", rm->fs->o->store);
        alarm_is(rm, false);
    }
    park_progress(rm->fs->park);
}

int remote_new(struct fs *fs, struct remote **out, struct err *err)
{
    struct remote *rm = calloc(1, sizeof *rm);

    if (rm == NULL)
        return err_set(err, ERR_NOMEM, "waiting for standbys: out of memory");
    rm->fs = fs;
    pthread_mutex_init(&rm->lock, NULL);
    *out = rm;
    return 0;
}

void remote_attach(struct remote *rm, struct replicate *r)
{
    atomic_store(&rm->r, r);
    if (r != NULL)
        replicate_on_acked(r, acknowledged, rm);
}

void remote_free(struct remote *rm)
{
    if (rm == NULL)
        return;
    pthread_mutex_destroy(&rm->lock);
    free(rm);
}
