#include "fs/past_list.h"

#include "fs/past_branch.h"
#include "store/core/moment.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Cookie: LSN, then its place among the names of one LSN. 1 and 2 are "." and "..". */
enum { RANK_BITS = 8, RANK_MAX = (1 << RANK_BITS) - 1 };

struct item { uint64_t lsn; char *name; };

struct items {
    struct item *v;
    size_t n, cap;
    struct store *store;
    uint64_t dir;
    bool failed;
};

uint64_t past_link_ino(uint64_t lsn) { return (1ull << 62) | lsn; }

static bool was_there(const struct items *l, uint64_t lsn)
{
    struct row_ino row;

    return l->dir == 0 || (store_getattr(l->store, lsn, l->dir, &row, NULL) == 0 && row.nlink > 0);
}

static int add(void *arg, const struct moment_entry *e)
{
    struct items *l = arg;
    uint64_t lsn = e->lsn;
    char text[40];

    if (!e->name)
        moment_format(e->wall_ns, text);
    /* A name tells seconds: within one it stands for the moment at its begin. */
    if (!e->name && e->wall_ns % 1000000000 != 0 && moment_resolve(l->store, text, &lsn, NULL) < 0)
        return 0;
    if (!was_there(l, lsn))
        return 0;
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 64;
        struct item *v = realloc(l->v, cap * sizeof *v);

        if (!v) {
            l->failed = true;
            return 1;
        }
        l->v = v;
        l->cap = cap;
    }
    l->v[l->n] = (struct item){ lsn, strdup(e->name ? e->name : text) };
    if (!l->v[l->n].name) {
        l->failed = true;
        return 1;
    }
    l->n++;
    return 0;
}

static int by_lsn(const void *a, const void *b)
{
    const struct item *x = a, *y = b;

    return x->lsn != y->lsn ? (x->lsn < y->lsn ? -1 : 1) : strcmp(x->name, y->name);
}

static int by_name(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    int c = strcmp(x->name, y->name);

    return c ? c : x->lsn < y->lsn ? -1 : x->lsn > y->lsn;
}

/* Two moments of the same second have one name; it is listed once. */
static void tidy(struct items *l)
{
    size_t n = 0;

    if (l->n == 0)
        return;
    qsort(l->v, l->n, sizeof *l->v, by_name);
    for (size_t i = 0; i < l->n; i++) {
        if (n > 0 && strcmp(l->v[n - 1].name, l->v[i].name) == 0)
            free(l->v[i].name);
        else
            l->v[n++] = l->v[i];
    }
    l->n = n;
    qsort(l->v, l->n, sizeof *l->v, by_lsn);
}

struct fill { fuse_req_t req; char *buf; size_t size, used; bool plus; };

/* Node id 0: the kernel looks it up when it wants to know more, so that listing makes no moment be "in use". */
static bool put(struct fill *f, const char *name, uint64_t ino, mode_t type, uint64_t cookie)
{
    struct fuse_entry_param e = { .attr = { .st_ino = ino, .st_mode = type } };
    char *at = f->buf + f->used;
    size_t room = f->size - f->used;
    size_t n = f->plus ? fuse_add_direntry_plus(f->req, at, room, name, &e, (off_t)cookie)
                       : fuse_add_direntry(f->req, at, room, name, &e.attr, (off_t)cookie);

    if (n > room)
        return false;
    f->used += n;
    return true;
}

/* Behind all moments, as directories. Cookies come from names, so that one removed meanwhile hides no other. */
struct branches { struct item *v; size_t n; };

static uint64_t branch_cookie(const char *name)
{
    uint64_t h = 0xcbf29ce484222325ull;

    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 0x100000001b3ull;
    return 1ull << 62 | h >> 2;
}

static void add_branch(void *arg, const char *name)
{
    struct branches *b = arg;
    struct item *v = realloc(b->v, (b->n + 1) * sizeof *v);

    if (v)
        b->v = v;
    if (v && asprintf(&v[b->n].name, "@%s", name) >= 0)
        v[b->n++].lsn = branch_cookie(name);
}

/* False: there is no more room. */
static bool fill_branches(struct fill *f, const char *store, uint64_t off)
{
    struct branches b = { 0 };
    bool room = true;

    past_branches_each(store, add_branch, &b);
    if (b.n > 1)
        qsort(b.v, b.n, sizeof *b.v, by_lsn);
    for (size_t i = 0; i < b.n; i++) {
        if (room && b.v[i].lsn > off)
            room = put(f, b.v[i].name, b.v[i].lsn, S_IFDIR, b.v[i].lsn);
        free(b.v[i].name);
    }
    free(b.v);
    return room;
}

static bool fill_in(struct fill *f, const struct items *l, uint64_t ino, uint64_t up, uint64_t off)
{
    uint64_t rank = 0, cookie;

    if (off < 1 && !put(f, ".", ino, S_IFDIR, 1))
        return false;
    if (off < 2 && !put(f, "..", up, S_IFDIR, 2))
        return false;
    for (size_t i = 0; i < l->n; i++) {
        rank = i > 0 && l->v[i - 1].lsn == l->v[i].lsn ? rank + 1 : 0;
        if (rank > RANK_MAX)
            continue;
        cookie = l->v[i].lsn << RANK_BITS | rank;
        if (cookie > off && !put(f, l->v[i].name, past_link_ino(l->v[i].lsn), S_IFLNK, cookie))
            return false;
    }
    return true;
}

void past_list_reply(const struct fs *fs, fuse_req_t req, uint64_t dir, uint64_t ino, uint64_t up, size_t size, uint64_t off,
                     bool plus)
{
    struct items l = { .store = fs->store, .dir = dir };
    struct fill f = { .req = req, .buf = scratch(), .size = size, .plus = plus };
    struct err err = { 0 };
    int rc = f.buf ? moment_list(fs->store, add, &l, &err) : ERR_NOMEM;

    if (f.buf && l.failed)
        rc = ERR_NOMEM;
    if (rc < 0) {
        if (rc != ERR_NOMEM)
            fs_log("listing moments: %s", err.msg);
        (void)fuse_reply_err(req, err_errno(rc));
    } else {
        tidy(&l);
        if (fill_in(&f, &l, ino, up, off) && dir == 0)
            (void)fill_branches(&f, fs->o->store, off);
        (void)fuse_reply_buf(req, f.buf, f.used);
    }
    for (size_t i = 0; i < l.n; i++)
        free(l.v[i].name);
    free(l.v);
}
