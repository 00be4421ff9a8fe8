#include "fs/past_branch.h"

#include "fs/past_slots.h"
#include "store/base/super.h"
#include "store/core/branch.h"

#include <dirent.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { IDLE_S = 5, SHARE_MIN = 8 << 20, MEMORY_DEFAULT = 256 << 20 };

struct opened {
    uint64_t key;            /* 0: nothing */
    struct store *s;         /* NULL: being opened or closed, by a thread that has let go of the lock */
    struct io *io;
    unsigned refs;
    time_t used_s;
};

struct past_branches {
    pthread_mutex_t lock;    /* guards all below */
    pthread_cond_t free;     /* a place may be */
    struct opened v[PAST_BRANCHES];
    uint64_t share;
    char store[];
};

static time_t now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec;
}

uint64_t past_branches_share(uint64_t memory)
{
    uint64_t all = memory ? memory : MEMORY_DEFAULT, share = all / 16 < SHARE_MIN ? SHARE_MIN : all / 16;

    return share < all / 8 ? share : all / 8;
}

uint64_t past_branches_rest(uint64_t memory)
{
    return (memory ? memory : MEMORY_DEFAULT) - (PAST_BRANCHES + 1) * past_branches_share(memory);
}

struct past_branches *past_branches_new(const char *store, uint64_t share)
{
    struct past_branches *b = calloc(1, sizeof *b + strlen(store) + 1);

    if (!b)
        return NULL;
    strcpy(b->store, store);
    b->share = share;
    (void)pthread_mutex_init(&b->lock, NULL);
    (void)pthread_cond_init(&b->free, NULL);
    return b;
}

static void close_it(struct opened *o)
{
    if (o->s)
        (void)store_close(o->s, NULL);   /* only read */
    if (o->io)
        o->io->ops->free(o->io);
}

void past_branches_free(struct past_branches *b)
{
    if (!b)
        return;
    for (unsigned i = 0; i < PAST_BRANCHES; i++)
        close_it(&b->v[i]);
    pthread_cond_destroy(&b->free);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

/* ---- names and keys ---- */

static int shown(const struct dirent *d) { return branch_name_ok(d->d_name); }

void past_branches_each(const char *store, void (*fn)(void *arg, const char *name), void *arg)
{
    char dir[PATH_MAX];
    struct dirent **v = NULL;
    int n;

    if (snprintf(dir, sizeof dir, "%s/branches", store) >= (int)sizeof dir)
        return;
    n = scandir(dir, &v, shown, alphasort);
    for (int i = 0; i < n; i++) {
        fn(arg, v[i]->d_name);
        free(v[i]);
    }
    free(v);
}

static void count(void *arg, const char *name)
{
    (void)name;
    *(bool *)arg = true;
}

bool past_branches_any(const char *store)
{
    bool any = false;

    past_branches_each(store, count, &any);
    return any;
}

/* The directory of a branch, opened, and its key. */
static int look(const char *store, const char *name, uint64_t *key, struct io **io, char dir[PATH_MAX], struct err *err)
{
    struct super *sb;
    int rc;

    *io = NULL;
    if (!branch_name_ok(name) || snprintf(dir, PATH_MAX, "%s/branches/%s", store, name) >= PATH_MAX)
        return ERR_NOENT;
    sb = malloc(sizeof *sb);
    rc = sb ? io_posix_new(dir, io, err) : err_set(err, ERR_NOMEM, "%s: out of memory", name);
    if (rc == 0)
        rc = super_read(*io, sb, NULL, err);
    if (rc == 0 && sb->role != ROLE_BRANCH)
        rc = ERR_NOENT;
    if (rc == 0) {
        memcpy(key, sb->site, sizeof *key);
        *key = (*key & (PAST_BRANCH - 1)) | PAST_BRANCH;
    } else if (*io) {
        (*io)->ops->free(*io);
        *io = NULL;
    }
    free(sb);
    return rc == ERR_NOSTORE ? ERR_NOENT : rc;
}

int past_branch_key(struct past_branches *b, const char *name, uint64_t *key, struct err *err)
{
    char dir[PATH_MAX];
    struct io *io = NULL;
    int rc = look(b->store, name, key, &io, dir, err);

    if (rc == 0)
        io->ops->free(io);
    return rc;
}

/* ---- open ---- */

struct search { const char *store; uint64_t key; char name[NAME_MAX + 1]; };

static void try_one(void *arg, const char *name)
{
    struct search *f = arg;
    struct io *io = NULL;
    char dir[PATH_MAX];
    uint64_t key = 0;

    if (f->name[0] || look(f->store, name, &key, &io, dir, NULL) < 0)
        return;
    if (key == f->key)
        snprintf(f->name, sizeof f->name, "%s", name);
    io->ops->free(io);
}

static int open_it(const struct past_branches *b, uint64_t key, struct opened *out, struct err *err)
{
    struct search f = { .store = b->store, .key = key };
    uint64_t parted;

    past_branches_each(b->store, try_one, &f);
    if (!f.name[0])
        return err_set(err, ERR_STALE, "%s: a branch that somebody is in was removed", b->store);
    return branch_open(b->store, f.name, b->share, &out->s, &out->io, &parted, err);
}

/* One that nobody is using: free, or else unused for longest. NULL: none. */
static struct opened *place_locked(struct past_branches *b)
{
    struct opened *best = NULL;

    for (unsigned i = 0; i < PAST_BRANCHES; i++) {
        struct opened *o = &b->v[i];

        if (o->key == 0)
            return o;
        if (o->s && o->refs == 0 && (!best || o->used_s < best->used_s))
            best = o;
    }
    return best;
}

static struct opened *find_locked(struct past_branches *b, uint64_t key)
{
    for (unsigned i = 0; i < PAST_BRANCHES; i++)
        if (b->v[i].key == key)
            return &b->v[i];
    return NULL;
}

int past_branch_get(struct past_branches *b, uint64_t key, struct store **s, struct err *err)
{
    struct opened *o, was, now = { .key = key, .refs = 1 };
    int rc = 0;

    pthread_mutex_lock(&b->lock);
    for (;;) {
        o = find_locked(b, key);
        if (o && o->s) {
            o->refs++;
            o->used_s = now_s();
            *s = o->s;
            break;
        }
        o = o ? NULL : place_locked(b);
        if (!o) {
            pthread_cond_wait(&b->free, &b->lock);
            continue;
        }
        was = *o;
        *o = (struct opened){ .key = key };
        pthread_mutex_unlock(&b->lock);
        close_it(&was);
        rc = open_it(b, key, &now, err);
        now.used_s = now_s();
        pthread_mutex_lock(&b->lock);
        *o = rc < 0 ? (struct opened){ 0 } : now;
        *s = now.s;
        pthread_cond_broadcast(&b->free);
        break;
    }
    pthread_mutex_unlock(&b->lock);
    return rc;
}

void past_branch_put(struct past_branches *b, struct store *s)
{
    pthread_mutex_lock(&b->lock);
    for (unsigned i = 0; i < PAST_BRANCHES; i++)
        if (b->v[i].s == s && --b->v[i].refs == 0) {
            b->v[i].used_s = now_s();
            pthread_cond_broadcast(&b->free);
        }
    pthread_mutex_unlock(&b->lock);
}

unsigned past_branches_close(struct past_branches *b, uint64_t key)
{
    unsigned open = 0;

    pthread_mutex_lock(&b->lock);
    for (unsigned i = 0; i < PAST_BRANCHES; i++) {
        struct opened *o = &b->v[i], was = *o;

        if (was.s && was.refs == 0 && (key ? was.key == key : now_s() - was.used_s >= IDLE_S)) {
            o->s = NULL;
            pthread_mutex_unlock(&b->lock);
            close_it(&was);
            pthread_mutex_lock(&b->lock);
            *o = (struct opened){ 0 };
            pthread_cond_broadcast(&b->free);
        }
        open += o->key != 0;
    }
    pthread_mutex_unlock(&b->lock);
    return open;
}
