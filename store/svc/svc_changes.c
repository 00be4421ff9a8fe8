/*
 * Changes below a directory, newest first, read from the log and the archive. Their files are gone through from the newest
 * back, and each keeps only the last `limit` changes, so memory is bounded and a short answer reads little.
 */
#include "store/svc/svc_internal.h"

#include "store/core/retain.h"
#include "store/core/version.h"
#include "store/pack/history.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHANGES_DEFAULT = 1000, CHANGES_MAX = 100000, SEEN_SLOTS = 1 << 14, PATH_BUF = 8192 };

struct change { uint64_t lsn, ino; int64_t wall_ns; uint32_t uid, pid; const char *what; char *path, *path2; };

struct segs { uint64_t *first, *end; size_t n, cap; };

struct walk {
    struct svc_req *q;
    const char *dir;            /* without slashes at either end */
    size_t dir_len;
    struct change *ring;        /* the last `cap` changes of this segment */
    size_t cap, n, next;
    uint64_t seen[SEEN_SLOTS];  /* inodes whose current burst is already listed; a collision lists one twice */
};

static int add_span(struct segs *v, uint64_t first, uint64_t end)
{
    if (v->n > 0 && first < v->end[v->n - 1])
        first = v->end[v->n - 1];        /* the archive has the beginning of the log too */
    if (first >= end)
        return 0;
    if (v->n == v->cap) {
        size_t cap = v->cap ? 2 * v->cap : 16;
        uint64_t *a = realloc(v->first, cap * sizeof *a), *b;

        if (!a)
            return ERR_NOMEM;
        v->first = a;
        b = realloc(v->end, cap * sizeof *b);
        if (!b)
            return ERR_NOMEM;
        v->end = b;
        v->cap = cap;
    }
    v->first[v->n] = first;
    v->end[v->n++] = end;
    return 0;
}

static int add_file(void *arg, const struct history_file *f)
{
    return add_span(arg, f->first, f->end);
}

static int add_segment(void *arg, const struct log_segment_info *s)
{
    return add_span(arg, s->first, s->end);
}

static bool below(const struct walk *w, const char *path)
{
    if (w->dir_len == 0)
        return true;
    return strncmp(path, w->dir, w->dir_len) == 0 && (path[w->dir_len] == '/' || path[w->dir_len] == '\0');
}

/* path_of: malloced path of ${ino} (and ${name} in it) just after ${lsn}; NULL if it has none. */
static char *path_of(struct walk *w, uint64_t lsn, uint64_t ino, const struct rec_bytes *name)
{
    char *buf = malloc(PATH_BUF);
    size_t len;

    if (!buf || store_path(w->q->s, lsn, ino, buf, PATH_BUF, NULL)) {
        free(buf);
        return NULL;
    }
    if (name) {
        len = strlen(buf);
        if (len + name->len + 2 > PATH_BUF) {
            free(buf);
            return NULL;
        }
        if (len)
            buf[len++] = '/';
        memcpy(buf + len, name->p, name->len);
        buf[len + name->len] = '\0';
    }
    return buf;
}

/* Whether a name was of the moment at ${lsn}; of moments that are not listed any more nobody can tell: then it is shown. */
static bool was_there(struct walk *w, uint64_t lsn, uint64_t parent, const struct rec_bytes *name)
{
    struct row_ino row;
    uint64_t ino;

    return !store_lists(w->q->s, lsn) || store_lookup(w->q->s, lsn, parent, (const char *)name->p, name->len, &ino, &row, NULL) != ERR_NOENT;
}

/* The path of a name that came with the record (${gone}: that went), if history is kept of it. */
static char *name_path(struct walk *w, const struct record *rec, bool gone, uint64_t parent, const struct rec_bytes *name)
{
    return was_there(w, gone ? rec->lsn - 1 : rec->lsn, parent, name) ? path_of(w, rec->lsn, parent, name) : NULL;
}

static void keep(struct walk *w, const struct record *rec, const char *what, char *path, char *path2)
{
    struct change *c;

    if (!path || (!below(w, path) && !(path2 && below(w, path2)))) {
        free(path);
        free(path2);
        return;
    }
    c = &w->ring[w->next];
    free(c->path);
    free(c->path2);
    *c = (struct change){ rec->lsn, rec->ino, rec->wall_ns, rec->uid, rec->pid, what, path, path2 };
    w->next = (w->next + 1) % w->cap;
    if (w->n < w->cap)
        w->n++;
}

/* One line for each burst of writes. */
static bool first_of_burst(struct walk *w, const struct record *rec)
{
    uint64_t *slot = &w->seen[rec->ino % SEEN_SLOTS];

    if (rec->flags & RECF_NEW_BURST && *slot == rec->ino)
        *slot = 0;
    if (*slot == rec->ino)
        return false;
    *slot = rec->ino;
    return true;
}

static void look_at(struct walk *w, const struct record *rec)
{
    char *a, *b;

    switch (rec->type) {
    case REC_CREATE:
        /* What is written in the burst that created it belongs to "create". */
        w->seen[rec->ino % SEEN_SLOTS] = rec->ino;
        if (rec->u.create.parent)
            keep(w, rec, "create", name_path(w, rec, false, rec->u.create.parent, &rec->u.create.name), NULL);
        break;
    case REC_LINK:
        keep(w, rec, "link", name_path(w, rec, false, rec->u.link.parent, &rec->u.link.name), NULL);
        break;
    case REC_UNLINK:
        keep(w, rec, "delete", name_path(w, rec, true, rec->u.link.parent, &rec->u.link.name), NULL);
        break;
    case REC_RENAME:
        a = name_path(w, rec, true, rec->u.rename.src_parent, &rec->u.rename.src_name);
        b = name_path(w, rec, false, rec->u.rename.dst_parent, &rec->u.rename.dst_name);
        keep(w, rec, rec->u.rename.flags & RRN_EXCHANGE ? "exchange" : a && !b ? "moved-away" : "rename", a ? a : b, a ? b : NULL);
        break;
    case REC_WRITE:
    case REC_CLONE:
    case REC_FALLOCATE:
        if (first_of_burst(w, rec))
            keep(w, rec, "write", path_of(w, rec->lsn, rec->ino, NULL), NULL);
        break;
    case REC_SETATTR:
        if (rec->u.setattr.valid & RSA_SIZE) {
            if (first_of_burst(w, rec))
                keep(w, rec, "write", path_of(w, rec->lsn, rec->ino, NULL), NULL);
        } else if (rec->u.setattr.valid & (RSA_MODE | RSA_UID | RSA_GID)) {
            keep(w, rec, "attributes", path_of(w, rec->lsn, rec->ino, NULL), NULL);
        }
        break;
    case REC_SETXATTR:
    case REC_REMOVEXATTR:
        keep(w, rec, "attributes", path_of(w, rec->lsn, rec->ino, NULL), NULL);
        break;
    default:
        break;
    }
}

static int emit_ring(struct walk *w)
{
    int r = 0;

    for (size_t i = 0; i < w->n; i++) {
        struct change *c = &w->ring[(w->next + w->cap - 1 - i) % w->cap];
        json_t *o = json_object();

        svc_put_u64(o, "lsn", c->lsn);
        svc_put_time(o, "time", c->wall_ns);
        svc_put_text(o, "how", c->what);
        svc_put_text(o, "path", c->path);
        if (c->path2)
            svc_put_text(o, "to", c->path2);
        svc_put_u64(o, "inode", c->ino);
        svc_put_u64(o, "uid", c->uid);
        svc_put_u64(o, "pid", c->pid);
        r = svc_emit(w->q, "item", o);
        if (r)
            break;
    }
    return r;
}

static void clear_ring(struct walk *w)
{
    for (size_t i = 0; i < w->cap; i++) {
        free(w->ring[i].path);
        free(w->ring[i].path2);
        w->ring[i].path = w->ring[i].path2 = NULL;
    }
    w->n = w->next = 0;
}

static int one_segment(struct walk *w, uint64_t first, uint64_t until, uint64_t from, uint64_t to, struct err *err)
{
    struct history_iter *it = NULL;
    struct record rec;
    int r = history_iter_new(store_history(w->q->s), first, until, &it, err);

    while (r == 0 && (r = history_next(it, &rec, NULL, err)) == 1) {
        r = 0;
        if (rec.lsn > to)
            break;
        if (rec.lsn >= from)
            look_at(w, &rec);
        if (w->q->stopped)
            break;
    }
    history_iter_free(it);
    return r;
}

int svc_log_dir(struct svc_req *q, const char *path, uint64_t from, uint64_t to, uint64_t limit, struct err *err)
{
    struct walk *w = calloc(1, sizeof *w);
    struct segs v = { 0 }, held = { 0 };
    uint64_t until, left = limit ? limit : CHANGES_DEFAULT;
    char *dir = NULL;
    int r;

    if (left > CHANGES_MAX)
        left = CHANGES_MAX;
    while (*path == '/')
        path++;
    dir = strdup(path);
    if (!w || !dir || !(w->ring = calloc((size_t)left, sizeof *w->ring))) {
        r = err_set(err, ERR_NOMEM, "log: no memory for %llu changes", (unsigned long long)left);
        goto out;
    }
    w->q = q;
    w->dir = dir;
    w->dir_len = strlen(dir);
    while (w->dir_len && dir[w->dir_len - 1] == '/')
        dir[--w->dir_len] = '\0';
    /* Only what is durable is shown as a fact; paths are looked up in the index. */
    r = svc_settle(q, err);
    if (r)
        goto out;
    until = log_durable(store_log(q->s));
    r = log_segments(store_log(q->s), add_segment, &held);    /* first: what leaves it meanwhile is in the archive by then */
    if (r == 0)
        r = history_files(store_history(q->s), add_file, &v);
    for (size_t i = 0; r == 0 && i < held.n; i++)
        r = add_span(&v, held.first[i], held.end[i]);
    if (r)
        goto out;
    for (size_t i = v.n; i-- > 0 && left > 0 && !q->stopped;) {
        uint64_t end = v.end[i] < until ? v.end[i] : until;

        if (v.first[i] > to || v.first[i] >= end)
            continue;
        if (end <= from)
            break;
        w->cap = (size_t)left;
        memset(w->seen, 0, sizeof w->seen);
        r = one_segment(w, v.first[i], end, from, to, err);
        if (r)
            break;
        left -= w->n;
        r = emit_ring(w);
        if (r)
            break;
        clear_ring(w);
    }
out:
    if (w && w->ring)
        clear_ring(w);
    if (w)
        free(w->ring);
    free(w);
    free(dir);
    free(v.first);
    free(v.end);
    free(held.first);
    free(held.end);
    return r;
}
