/*
 * snapdir.c: see snapdir.h. Nodes are of two kinds:
 *
 *   bit 62 | inode     `.snapshots` of that directory: needs no memory, the same for ever; that of the root is a symlink
 *   bit 61 | number    a symlink out of one: a number for each look-up, never given twice during a mount, since the kernel keeps
 *                      a link's target by its node. In a table until the kernel forgets it. A later worker does not know it:
 *                      ESTALE, and the kernel looks the name up again.
 *
 * Links are relative, up to the root and down its `.snapshots`, which leads to where the past is mounted (mount_past_dir).
 */
#include "fs/snapdir.h"

#include "fs/chores.h"
#include "fs/past.h"
#include "fs/past_list.h"
#include "store/core/version.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NODE_DIR (1ull << 62)
#define NODE_LINK (1ull << 61)

enum {
    BUCKETS = 1024,
    LINKS_SOFT = 8192,       /* beyond it the kernel is asked to forget the oldest */
    LINKS_MAX = 1 << 20,     /* beyond it there are no more: ENOMEM */
    WORKER_SHIFT = 40,       /* numbers of different workers differ above it */
};

struct link {
    struct link *chain;      /* of its bucket */
    struct link *older, *newer;
    uint64_t node, lookups;
    uint64_t dir;            /* the node it was looked up in, by this name */
    char *name;
    struct stat st;
    char target[];
};

struct snapdir {
    pthread_mutex_t lock;    /* guards all below; a leaf */
    struct link *buckets[BUCKETS];
    struct link *newest, *sweep;     /* sweep: the oldest the kernel was not yet asked to forget */
    uint64_t next;
    unsigned n;
    char *past;              /* where the past is mounted; "": nowhere; constant */
};

static bool is_link(uint64_t node) { return (node & NODE_LINK) != 0; }
static uint64_t dir_of(uint64_t node) { return node & INO_MAX; }
/* As st_ino: apart from inodes, and from past_link_ino. */
static uint64_t shown_ino(uint64_t dir) { return (1ull << 61) | dir; }
static bool is_root(uint64_t node) { return !is_link(node) && dir_of(node) == INO_ROOT; }

int snapdir_new(struct fs *fs, struct err *err)
{
    struct snapdir *d = calloc(1, sizeof *d);
    char path[PATH_MAX];
    struct stat st;

    if (!d)
        return err_set(err, ERR_NOMEM, "%s: out of memory", fs->o->snapdir);
    if (stat(fs->o->store, &st) == 0) {
        fs->store_uid = st.st_uid;
        fs->store_gid = st.st_gid;
    } else {
        fs->store_uid = geteuid();
        fs->store_gid = getegid();
    }
    d->past = strdup(past_wanted(fs->o) && mount_past_dir(fs->o, path, sizeof path, NULL) == 0 ? path : "");
    if (!d->past) {
        free(d);
        return err_set(err, ERR_NOMEM, "%s: out of memory", fs->o->snapdir);
    }
    d->next = ((uint64_t)mem_head(fs->mem)->workers << WORKER_SHIFT & (NODE_LINK - 1)) + 1;
    (void)pthread_mutex_init(&d->lock, NULL);
    fs->snapdir = d;
    return 0;
}

void snapdir_free(struct snapdir *d)
{
    if (!d)
        return;
    for (unsigned i = 0; i < BUCKETS; i++) {
        while (d->buckets[i]) {
            struct link *l = d->buckets[i];

            d->buckets[i] = l->chain;
            free(l->name);
            free(l);
        }
    }
    pthread_mutex_destroy(&d->lock);
    free(d->past);
    free(d);
}

/* ---- the table of links ---- */

static struct link **find_locked(struct snapdir *d, uint64_t node)
{
    struct link **at = &d->buckets[node % BUCKETS];

    while (*at && (*at)->node != node)
        at = &(*at)->chain;
    return at;
}

/* Asks the kernel to forget one name more, when there are too many. */
static void sweep_one(struct fs *fs)
{
    struct snapdir *d = fs->snapdir;
    uint64_t dir = 0;
    char *name = NULL;

    pthread_mutex_lock(&d->lock);
    if (d->n > LINKS_SOFT && d->sweep) {
        dir = d->sweep->dir;
        name = strdup(d->sweep->name);
        d->sweep = d->sweep->newer;
    }
    pthread_mutex_unlock(&d->lock);
    if (name)
        chores_inval_entry(fs->chores, dir, name, strlen(name), false);
    free(name);
}

/* The node of a new link, with one look-up; 0: out of memory. */
static uint64_t link_new(struct fs *fs, uint64_t dir, const char *name, const struct stat *st, const char *target)
{
    struct snapdir *d = fs->snapdir;
    size_t size = strlen(target) + 1;
    struct link *l = malloc(sizeof *l + size), **at;
    char *own = strdup(name);

    pthread_mutex_lock(&d->lock);
    if (!l || !own || d->n >= LINKS_MAX) {
        pthread_mutex_unlock(&d->lock);
        free(l);
        free(own);
        return 0;
    }
    *l = (struct link){ .older = d->newest, .node = NODE_LINK | d->next++, .lookups = 1, .dir = dir, .name = own, .st = *st };
    memcpy(l->target, target, size);
    at = find_locked(d, l->node);
    *at = l;
    if (d->newest)
        d->newest->newer = l;
    d->newest = l;
    if (!d->sweep)
        d->sweep = l;
    d->n++;
    dir = l->node;
    pthread_mutex_unlock(&d->lock);
    sweep_one(fs);
    return dir;
}

void snapdir_forget(struct fs *fs, uint64_t node, uint64_t n)
{
    struct snapdir *d = fs->snapdir;
    struct link **at, *l;

    if (!is_link(node))
        return;
    pthread_mutex_lock(&d->lock);
    at = find_locked(d, node);
    l = *at;
    if (l && l->lookups > n) {
        l->lookups -= n;
        l = NULL;
    }
    if (l) {
        *at = l->chain;
        if (l->older)
            l->older->newer = l->newer;
        if (l->newer)
            l->newer->older = l->older;
        if (d->newest == l)
            d->newest = l->older;
        if (d->sweep == l)
            d->sweep = l->newer;
        d->n--;
    }
    pthread_mutex_unlock(&d->lock);
    if (l)
        free(l->name);
    free(l);
}

/* What is needed of a link; false: not ours. */
static bool link_get(struct snapdir *d, uint64_t node, struct stat *st, char target[PATH_MAX])
{
    struct link *l;

    pthread_mutex_lock(&d->lock);
    l = *find_locked(d, node);
    if (l) {
        *st = l->st;
        snprintf(target, PATH_MAX, "%s", l->target);
    }
    pthread_mutex_unlock(&d->lock);
    return l != NULL;
}

/* ---- look-up ---- */

static void reply_entry(struct op *op, const struct fuse_entry_param *e)
{
    if (fuse_reply_entry(op->req, e) < 0)
        snapdir_forget(op->fs, e->ino, 1);
}

/* The name of the past in an inode of the store. */
static void lookup_name(struct op *op, uint64_t parent)
{
    struct fs *fs = op->fs;
    struct fuse_entry_param e = { .ino = NODE_DIR | parent, .entry_timeout = FS_TIMEOUT_S };

    if (!fs->snapdir->past[0]) {
        op_entry_none(op);
        return;
    }
    if (parent == INO_ROOT) {
        past_link_attr(fs, shown_ino(parent), 0, strlen(fs->snapdir->past), &e.attr);
        e.attr_timeout = FS_TIMEOUT_S;
    } else {
        past_dir_attr(fs, shown_ino(parent), &e.attr);
    }
    reply_entry(op, &e);
}

/* From the `.snapshots` of directory ${dir} to what it was at ${lsn}. Blocks. */
static int make_target(struct fs *fs, uint64_t dir, uint64_t lsn, char target[PATH_MAX], struct err *err)
{
    char live[PATH_MAX], then[PATH_MAX];
    size_t n = 0, ups = 2;
    int rc = store_path(fs->store, lsn, dir, then, sizeof then, err);

    if (rc >= 0)
        rc = store_path(fs->store, AT_LIVE, dir, live, sizeof live, err);
    if (rc < 0)
        return rc;
    for (const char *c = live; *c; c++)
        ups += *c == '/';
    for (; ups > 0 && n + 3 < PATH_MAX; ups--, n += 3)
        memcpy(target + n, "../", 3);
    n += (size_t)snprintf(target + n, PATH_MAX - n, "%s/@%llu%s%s", fs->o->snapdir, (unsigned long long)lsn, then[0] ? "/" : "",
                          then);
    return n < PATH_MAX ? 0 : ERR_NAMETOOLONG;
}

/* As OP_RUN wants it: what may block does so on a thread of the pool. */
static int resolve(struct op *op, uint64_t dir, const char *name, uint64_t *lsn, char target[PATH_MAX])
{
    struct err err = { 0 };
    int rc;

    if (op->nowait) {
        op->wait.kind = WAIT_NONE;
        return ERR_WAIT;
    }
    rc = past_moment(op->fs, name, lsn, &err);
    if (rc == 0)
        rc = make_target(op->fs, dir, *lsn, target, &err);
    if (rc < 0 && rc != ERR_NOENT && rc != ERR_STALE)
        fs_log("%s/%s: %s", op->fs->o->snapdir, name, err.msg[0] ? err.msg : err_text(rc));
    return rc == ERR_STALE ? ERR_NOENT : rc;
}

static void lookup_moment(struct op *op, uint64_t node, const char *name)
{
    struct fuse_entry_param e = { 0 };
    char target[PATH_MAX];
    uint64_t lsn = 0;
    int rc;

    OP_RUN(*op, rc, resolve(op, dir_of(node), name, &lsn, target));
    if (op->parked)
        return;
    if (rc < 0) {
        op_error(op, rc);
        return;
    }
    past_link_attr(op->fs, past_link_ino(lsn), lsn, strlen(target), &e.attr);
    e.ino = link_new(op->fs, node, name, &e.attr, target);
    if (e.ino == 0) {
        op_error(op, ERR_NOMEM);
        return;
    }
    reply_entry(op, &e);
}

void snapdir_lookup(struct op *op, uint64_t parent, const char *name)
{
    if (!node_is_snap(parent))
        lookup_name(op, parent);
    else if (is_link(parent) || is_root(parent))
        op_error(op, ERR_NOTDIR);
    else
        lookup_moment(op, parent, name);
}

/* ---- what is there ---- */

void snapdir_getattr(struct op *op, uint64_t node)
{
    struct fs *fs = op->fs;
    char target[PATH_MAX];
    struct stat st;

    if (is_link(node)) {
        if (!link_get(fs->snapdir, node, &st, target)) {
            op_error(op, ERR_STALE);
            return;
        }
    } else if (is_root(node)) {
        past_link_attr(fs, shown_ino(INO_ROOT), 0, strlen(fs->snapdir->past), &st);
    } else {
        past_dir_attr(fs, shown_ino(dir_of(node)), &st);
    }
    (void)fuse_reply_attr(op->req, &st, 0);
}

void snapdir_readlink(struct op *op, uint64_t node)
{
    char target[PATH_MAX];
    struct stat st;

    if (is_link(node) && link_get(op->fs->snapdir, node, &st, target))
        op_link(op, target);
    else if (is_root(node))
        op_link(op, op->fs->snapdir->past);
    else
        op_error(op, is_link(node) ? ERR_STALE : ERR_INVAL);
}

static int blocking_thread(struct op *op)
{
    op->wait.kind = WAIT_NONE;
    return op->nowait ? ERR_WAIT : 0;
}

void snapdir_readdir(struct op *op, uint64_t node, size_t size, uint64_t off, bool plus)
{
    uint64_t dir = dir_of(node);
    int rc;

    if (is_link(node) || is_root(node)) {
        op_error(op, ERR_NOTDIR);
        return;
    }
    OP_RUN(*op, rc, blocking_thread(op));
    if (op->parked)
        return;
    past_list_reply(op->fs, op->req, dir, shown_ino(dir), dir, size, off, plus);
}
