/* diff.c: see diff.h. */
#include "store/core/diff_internal.h"

#include "store/core/core_internal.h"
#include "store/core/moment_internal.h"
#include "store/core/periods.h"
#include "store/core/version.h"

#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PATH_CAP = 8192, XATTRS_CAP = 64 << 10 };

static int nomem(struct err *err)
{
    return err_set(err, ERR_NOMEM, "diff: out of memory");
}

/* The path of a name at a moment, malloced; NULL: its directory had none. */
static char *path_at(struct store *s, uint64_t at, uint64_t parent, const char *name, size_t len)
{
    char buf[PATH_CAP];
    size_t n;
    if (store_path(s, at, parent, buf, sizeof buf, NULL) < 0)
        return NULL;
    n = strlen(buf);
    if (n + len + 2 > sizeof buf)
        return NULL;
    if (n > 0)
        buf[n++] = '/';
    memcpy(buf + n, name, len);
    buf[n + len] = '\0';
    return strdup(buf);
}

/* ---- what records touched ---- */

static int name_cmp(const void *x, const void *y)
{
    const struct name *a = x, *b = y;
    int c;
    if (a->parent != b->parent)
        return a->parent < b->parent ? -1 : 1;
    c = memcmp(a->p, b->p, a->len < b->len ? a->len : b->len);
    return c != 0 ? c : (a->len > b->len) - (a->len < b->len);
}

static int object_cmp(const void *x, const void *y)
{
    const struct object *a = x, *b = y;
    return (a->ino > b->ino) - (a->ino < b->ino);
}

/* Sorted, and each once. */
static void names_once(struct touched *t)
{
    size_t n = 0;
    if (t->n_names > 1)
        qsort(t->name, t->n_names, sizeof *t->name, name_cmp);
    for (size_t i = 0; i < t->n_names; i++)
        if (n > 0 && name_cmp(&t->name[n - 1], &t->name[i]) == 0)
            free((char *)(uintptr_t)t->name[i].p);
        else
            t->name[n++] = t->name[i];
    t->n_names = n;
}

static void objects_once(struct touched *t)
{
    size_t n = 0;
    if (t->n_objs > 1)
        qsort(t->obj, t->n_objs, sizeof *t->obj, object_cmp);
    for (size_t i = 0; i < t->n_objs; i++)
        if (n > 0 && t->obj[n - 1].ino == t->obj[i].ino) {
            t->obj[n - 1].n += t->obj[i].n;
            t->obj[n - 1].how |= t->obj[i].how;
        } else {
            t->obj[n++] = t->obj[i];
        }
    t->n_objs = n;
}

/* Room for one more of ${n}, by what is there once only, or by twice the room: what is written again and again takes none. */
static int room(void **v, size_t size, size_t *cap, const size_t *n, void (*once)(struct touched *t), struct touched *t, const char *what, struct err *err)
{
    void *more;
    if (*n < *cap)
        return 0;
    once(t);
    if (*n < *cap - *cap / 4)
        return 0;
    if (2 * *cap > DIFF_MAX)
        return err_set(err, ERR_TOOLONG, "diff: more than %d %s changed; ask for a shorter time", DIFF_MAX, what);
    more = realloc(*v, (*cap == 0 ? 256 : 2 * *cap) * size);
    if (more == NULL)
        return nomem(err);
    *v = more;
    *cap = *cap == 0 ? 256 : 2 * *cap;
    return 0;
}

int diff_touch_name(struct touched *t, uint64_t parent, const struct rec_bytes *name, struct err *err)
{
    void *v = t->name;
    char *p;
    int rc = parent == 0 ? 0 : room(&v, sizeof *t->name, &t->cap_names, &t->n_names, names_once, t, "names", err);
    t->name = v;
    if (rc < 0 || parent == 0)
        return rc;
    p = malloc(name->len + 1u);
    if (p == NULL)
        return nomem(err);
    memcpy(p, name->p, name->len);
    p[name->len] = '\0';
    t->name[t->n_names++] = (struct name){ parent, name->len, p };
    return 0;
}

int diff_touch_object(struct touched *t, uint64_t ino, enum diff_how how, struct err *err)
{
    struct object *last = t->n_objs > 0 ? &t->obj[t->n_objs - 1] : NULL;
    void *v = t->obj;
    int rc;
    if (ino == 0)
        return 0;
    if (last != NULL && last->ino == ino) {
        last->n++;
        last->how |= how;
        return 0;
    }
    rc = room(&v, sizeof *t->obj, &t->cap_objs, &t->n_objs, objects_once, t, "objects", err);
    t->obj = v;
    if (rc == 0)
        t->obj[t->n_objs++] = (struct object){ ino, 1, how };
    return rc;
}

static void count(struct diff_total *all, const struct record *rec)
{
    if (all->operations++ == 0) {
        all->first_lsn = rec->lsn;
        all->first_ns = all->last_ns = rec->wall_ns;
    }
    all->last_lsn = rec->lsn;
    if (rec->wall_ns > all->last_ns)     /* the clock may have been set back */
        all->last_ns = rec->wall_ns;
}

static int take(struct touched *t, const struct record *rec, struct err *err)
{
    enum diff_how how = DIFF_BY_NAME;
    int rc = 0;
    switch ((enum rec_type)rec->type) {
    case REC_CREATE:
        rc = diff_touch_name(t, rec->u.create.parent, &rec->u.create.name, err);
        break;
    case REC_LINK: case REC_UNLINK:
        rc = diff_touch_name(t, rec->u.link.parent, &rec->u.link.name, err);
        break;
    case REC_RENAME:
        rc = diff_touch_name(t, rec->u.rename.src_parent, &rec->u.rename.src_name, err);
        if (rc == 0)
            rc = diff_touch_name(t, rec->u.rename.dst_parent, &rec->u.rename.dst_name, err);
        if (rc == 0)
            rc = diff_touch_object(t, rec->u.rename.dst_ino, how, err);
        break;
    case REC_SETXATTR: case REC_REMOVEXATTR:
        how = DIFF_BY_XATTR;
        break;
    case REC_SETATTR: case REC_WRITE: case REC_CLONE: case REC_FALLOCATE:
        how = DIFF_BY_DATA;
        break;
    case REC_SNAPSHOT: case REC_PURGE:
        break;                           /* of no object, but somebody's */
    default:
        return 0;                        /* of who wrote, not of what: as rewind.c has it */
    }
    count(&t->total, rec);
    return rc < 0 ? rc : diff_touch_object(t, rec->ino, how, err);
}

static void touched_free(struct touched *t)
{
    for (size_t i = 0; i < t->n_names; i++)
        free((char *)(uintptr_t)t->name[i].p);
    free(t->name);
    free(t->obj);
    memset(t, 0, sizeof *t);
}

/* ---- entries ---- */

struct side { uint64_t ino; char *path; struct row_ino row; };
struct sides { struct side *v; size_t n, cap; };
struct diff {
    struct store *s;
    uint64_t from, to;
    struct sides gone, come;             /* names, by inode, to be paired */
    struct diff_entry *v;
    size_t n, cap;
    struct err *err;
};

static int put(struct diff *d, const struct diff_entry *e)
{
    if (d->n == d->cap) {
        size_t cap = d->cap == 0 ? 256 : 2 * d->cap;
        struct diff_entry *v = realloc(d->v, cap * sizeof *v);
        if (v == NULL)
            return nomem(d->err);
        d->v = v;
        d->cap = cap;
    }
    d->v[d->n++] = *e;
    return 0;
}

static int side_add(struct diff *d, struct sides *l, uint64_t ino, char *path, const struct row_ino *row)
{
    if (l->n == l->cap) {
        size_t cap = l->cap == 0 ? 256 : 2 * l->cap;
        struct side *v = realloc(l->v, cap * sizeof *v);
        if (v == NULL) {
            free(path);
            return nomem(d->err);
        }
        l->v = v;
        l->cap = cap;
    }
    l->v[l->n++] = (struct side){ ino, path, *row };
    return 0;
}

static uint64_t size_of(const struct row_ino *r)
{
    return S_ISREG(r->mode) ? r->size : 0;
}

/* The same name leads to another object: as if it had been written anew, unless that was elsewhere before. */
static int replaced(struct diff *d, char *path, uint64_t ino, const struct row_ino *was, const struct row_ino *is)
{
    const struct diff_entry e = { .kind = DIFF_CONTENT, .path = path, .ino = ino, .mode = is->mode, .size_before = size_of(was), .size_after = size_of(is) };
    int rc = put(d, &e);
    if (rc < 0)
        free(path);
    return rc;
}

static int one_name(struct diff *d, const struct name *n)
{
    struct row_ino was, is, then;
    uint64_t i0 = 0, i1 = 0;
    char *p0, *p1;
    int r0 = store_lookup(d->s, d->from, n->parent, n->p, n->len, &i0, &was, NULL), r1 = store_lookup(d->s, d->to, n->parent, n->p, n->len, &i1, &is, NULL);
    if (r0 < 0 && r0 != ERR_NOENT && r0 != ERR_STALE && r0 != ERR_NOTDIR)
        return err_set(d->err, r0, "diff: %s", err_text(r0));
    if (r1 < 0 && r1 != ERR_NOENT && r1 != ERR_STALE && r1 != ERR_NOTDIR)
        return err_set(d->err, r1, "diff: %s", err_text(r1));
    if (r0 == 0 && r1 == 0 && i0 == i1)
        return 0;
    p0 = r0 == 0 ? path_at(d->s, d->from, n->parent, n->p, n->len) : NULL;
    p1 = r1 == 0 ? path_at(d->s, d->to, n->parent, n->p, n->len) : NULL;
    if (p0 != NULL && p1 != NULL && (was.mode & S_IFMT) == (is.mode & S_IFMT) && !S_ISDIR(is.mode) &&
        store_getattr(d->s, d->from, i1, &then, NULL) < 0) {
        free(p0);
        return replaced(d, p1, i1, &was, &is);
    }
    int rc = p0 != NULL ? side_add(d, &d->gone, i0, p0, &was) : 0;
    if (rc == 0 && p1 != NULL)
        rc = side_add(d, &d->come, i1, p1, &is);
    else
        free(p1);
    return rc;
}

/* Extended attributes of an inode at a moment as one number. */
static uint64_t xattrs_sum(struct store *s, uint64_t at, uint64_t ino, const struct row_ino *row)
{
    char names[XATTRS_CAP], val[XATTRS_CAP];
    uint64_t sum = 0;
    int64_t n = row->n_xattr > 0 ? store_listxattr(s, at, ino, names, sizeof names, NULL) : 0;
    for (const char *p = names; p < names + n; p += strlen(p) + 1) {
        int64_t len = store_getxattr(s, at, ino, p, val, sizeof val, NULL);
        uint64_t x[2] = { hash64(p, strlen(p)), len > 0 ? hash64(val, (size_t)len) : (uint64_t)len };
        sum += hash64(x, sizeof x);      /* in any order */
    }
    return n < 0 ? (uint64_t)n : sum;
}

static int one_object(struct diff *d, const struct object *o)
{
    char path[PATH_CAP];
    struct row_ino was, is;
    struct diff_entry e = { .ino = o->ino };
    if (o->how == DIFF_BY_NAME || store_getattr(d->s, d->from, o->ino, &was, NULL) < 0 || store_getattr(d->s, d->to, o->ino, &is, NULL) < 0 || is.nlink == 0 ||
        store_path(d->s, d->to, o->ino, path, sizeof path, NULL) < 0)
        return 0;                        /* it came or went: its name says so */
    if (was.content != is.content && !S_ISDIR(is.mode))
        e.kind = DIFF_CONTENT;
    else if (((o->how & DIFF_BY_XATTR) && xattrs_sum(d->s, d->from, o->ino, &was) != xattrs_sum(d->s, d->to, o->ino, &is)) || was.mode != is.mode || was.uid != is.uid || was.gid != is.gid)
        e.kind = DIFF_ATTRS;
    else
        return 0;
    e.path = strdup(path);
    e.mode = is.mode;
    e.size_before = size_of(&was);
    e.size_after = size_of(&is);
    if (e.path == NULL)
        return nomem(d->err);
    int rc = put(d, &e);
    if (rc < 0)
        free((char *)(uintptr_t)e.path);
    return rc;
}

static int side_cmp(const void *x, const void *y)
{
    const struct side *a = x, *b = y;
    return a->ino != b->ino ? (a->ino < b->ino ? -1 : 1) : strcmp(a->path, b->path);
}

/* A name that went and one that came, of the same object: a rename. */
static int pair_up(struct diff *d)
{
    size_t i = 0, k = 0;
    int rc = 0;
    if (d->gone.n > 1)
        qsort(d->gone.v, d->gone.n, sizeof *d->gone.v, side_cmp);
    if (d->come.n > 1)
        qsort(d->come.v, d->come.n, sizeof *d->come.v, side_cmp);
    while (rc == 0 && (i < d->gone.n || k < d->come.n)) {
        struct side *g = i < d->gone.n ? &d->gone.v[i] : NULL, *c = k < d->come.n ? &d->come.v[k] : NULL;
        struct diff_entry e = { 0 };
        if (g != NULL && c != NULL && g->ino == c->ino) {
            e = (struct diff_entry){ DIFF_RENAMED, c->path, g->path, c->ino, c->row.mode, size_of(&g->row), size_of(&c->row), 0 };
            g->path = c->path = NULL;
            i++, k++;
        } else if (c == NULL || (g != NULL && g->ino < c->ino)) {
            e = (struct diff_entry){ DIFF_REMOVED, g->path, NULL, g->ino, g->row.mode, size_of(&g->row), 0, 0 };
            g->path = NULL;
            i++;
        } else {
            e = (struct diff_entry){ DIFF_ADDED, c->path, NULL, c->ino, c->row.mode, 0, size_of(&c->row), 0 };
            c->path = NULL;
            k++;
        }
        rc = put(d, &e);
        if (rc < 0) {
            free((char *)(uintptr_t)e.path);
            free((char *)(uintptr_t)e.old_path);
        }
    }
    return rc;
}

static int entry_cmp(const void *x, const void *y)
{
    const struct diff_entry *a = x, *b = y;
    int c = strcmp(a->path, b->path);
    return c != 0 ? c : (int)a->kind - (int)b->kind;
}

static void sides_free(struct sides *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->v[i].path);
    free(l->v);
}

static int read_records(struct store *s, uint64_t from, uint64_t to, struct touched *t, struct err *err)
{
    struct history_iter *it = NULL;
    struct record rec;
    uint64_t start = 0;
    int rc;
    if (from < history_first(s->history))
        return diff_touch_rows(s, from, to, t, err);
    rc = periods_start(s, from, &start, err);
    if (rc == 0)
        rc = history_iter_new(s->history, start, to + 1, &it, err);
    if (rc == 0 && from < history_first(s->history))     /* meanwhile */
        rc = ERR_NOENT;
    while (rc == 0 && (rc = history_next(it, &rec, NULL, err)) == 1)
        rc = rec.lsn > from ? take(t, &rec, err) : 0;
    history_iter_free(it);
    t->total.known = rc == 0;
    if (rc == ERR_NOENT) {               /* let go of meanwhile */
        touched_free(t);
        rc = diff_touch_rows(s, from, to, t, err);
    }
    return rc < 0 ? rc : 0;
}

/* How many records were about the object of an entry. ${t}: its objects are there once, sorted. */
static uint64_t operations(const struct touched *t, uint64_t ino)
{
    const struct object key = { ino, 0, 0 }, *o = t->total.known && t->n_objs > 0 ? bsearch(&key, t->obj, t->n_objs, sizeof *t->obj, object_cmp) : NULL;
    return o != NULL ? o->n : 0;
}

int diff_moments(struct store *s, uint64_t from, uint64_t to, int (*fn)(void *arg, const struct diff_entry *e), void *arg, struct diff_total *total, struct err *err)
{
    to = to == AT_LIVE ? log_written(s->log) - 1 : to;     /* as a moment: what is hidden is in none */
    struct touched t = { 0 };
    struct diff d = { .s = s, .from = from, .to = to, .err = err };
    int rc = read_records(s, from, to, &t, err);
    names_once(&t);
    objects_once(&t);
    if (total != NULL)
        *total = t.total;
    for (size_t i = 0; i < t.n_names && rc == 0; i++)
        rc = one_name(&d, &t.name[i]);
    for (size_t i = 0; i < t.n_objs && rc == 0; i++)
        rc = one_object(&d, &t.obj[i]);
    if (rc == 0)
        rc = pair_up(&d);
    if (d.n > 1)
        qsort(d.v, d.n, sizeof *d.v, entry_cmp);
    for (size_t i = 0; i < d.n && rc == 0; i++) {
        d.v[i].operations = operations(&t, d.v[i].ino);
        if (fn(arg, &d.v[i]) != 0)
            break;
    }
    for (size_t i = 0; i < d.n; i++) {
        free((char *)(uintptr_t)d.v[i].path);
        free((char *)(uintptr_t)d.v[i].old_path);
    }
    free(d.v);
    sides_free(&d.gone);
    sides_free(&d.come);
    touched_free(&t);
    return rc;
}

/* ---- names ---- */

struct finding {
    struct store *s;
    const char *pattern;
    bool whole;                          /* of the path */
    int (*fn)(void *arg, const struct find_entry *e);
    void *arg;
    struct err *err;
    /* of a name that went several times the last time counts: held until another one comes */
    bool held;
    struct key_parts k;
    uint8_t name[REC_NAME_MAX];
    struct row_den den;
    uint64_t at;
};

/* 1: told to stop. */
static int tell(struct finding *f, const struct key_parts *k, const struct row_den *den, uint64_t at, bool gone)
{
    char name[REC_NAME_MAX + 1], now[PATH_CAP];
    struct find_entry e = { .ino = den->ino, .type = den->type, .gone = gone, .gone_lsn = gone ? k->death : 0, .at = at };
    struct row_ino row;
    char *path;
    int rc;
    memcpy(name, k->name, k->name_len);
    name[k->name_len] = '\0';
    if (!f->whole && fnmatch(f->pattern, name, 0) != 0)
        return 0;
    path = path_at(f->s, at, k->parent, name, k->name_len);
    if (path == NULL || (f->whole && fnmatch(f->pattern, path, FNM_PATHNAME) != 0)) {
        free(path);
        return 0;
    }
    e.path = path;
    if (gone) {
        (void)moment_record_wall(f->s, k->death, &e.gone_ns);
        if (store_getattr(f->s, AT_LIVE, den->ino, &row, NULL) == 0 && row.nlink > 0 && store_path(f->s, AT_LIVE, den->ino, now, sizeof now, NULL) == 0)
            e.moved_to = now;
    }
    rc = f->fn(f->arg, &e) != 0;
    free(path);
    return rc;
}

static int tell_held(struct finding *f)
{
    bool was = f->held;
    f->held = false;
    return was ? tell(f, &f->k, &f->den, f->at, true) : 0;
}

static int hold(struct finding *f, const struct key_parts *k, const struct row_den *den, uint64_t at)
{
    int rc = 0;
    if (f->held && (f->k.parent != k->parent || f->k.name_len != k->name_len || memcmp(f->name, k->name, k->name_len) != 0))
        rc = tell_held(f);
    f->held = true;
    f->k = *k;
    memcpy(f->name, k->name, k->name_len);
    f->k.name = f->name;
    f->den = *den;
    f->at = at;
    return rc;
}

static int scan(struct finding *f, char table)
{
    struct kv *kv = f->s->kv;
    uint8_t lo = (uint8_t)table, hi = (uint8_t)(table + 1);
    struct kv_snap *snap = kv->ops->snap_scan(kv);
    struct kv_iter *it = snap != NULL ? kv->ops->iter_new(kv, snap, &lo, 1, &hi, 1) : NULL;
    int rc = it != NULL ? 0 : nomem(f->err);
    if (rc == 0)
        kv->ops->iter_seek(it, &lo, 1);
    while (rc == 0 && kv->ops->iter_valid(it)) {
        struct key_parts k;
        struct row_den den;
        struct row_ino row;
        size_t klen, vlen;
        uint64_t now, at = AT_LIVE;
        const uint8_t *key = kv->ops->iter_key(it, &klen), *val = kv->ops->iter_val(it, &vlen);
        if (!key_parse(key, klen, &k))
            rc = err_set(f->err, ERR_DAMAGE, "index: the key of a name cannot be read; rebuild the index");
        else
            rc = row_den_decode(val, vlen, &den, f->err);
        if (rc == 0 && table == 'D') {
            pthread_rwlock_rdlock(&f->s->retained_lock);
            at = retained_last(&f->s->retained, den.birth, k.death);
            pthread_rwlock_unlock(&f->s->retained_lock);
            if (at == 0 || store_lookup(f->s, AT_LIVE, k.parent, (const char *)k.name, k.name_len, &now, &row, NULL) == 0)
                at = 0;
        }
        if (rc == 0 && at != 0)
            rc = table == 'D' ? hold(f, &k, &den, at) : tell(f, &k, &den, at, false);
        if (rc == 0)
            kv->ops->iter_next(it);
    }
    if (rc == 0)
        rc = kv->ops->iter_err(it, f->err);
    if (rc == 0)
        rc = tell_held(f);
    if (it != NULL)
        kv->ops->iter_free(it);
    if (snap != NULL)
        kv->ops->snap_free(kv, snap);
    return rc < 0 ? rc : 0;
}

int find_names(struct store *s, const char *pattern, bool deleted, int (*fn)(void *arg, const struct find_entry *e), void *arg, struct err *err)
{
    struct finding f = { .s = s, .pattern = pattern, .whole = strchr(pattern, '/') != NULL, .fn = fn, .arg = arg, .err = err };
    int rc = store_apply(s, err);
    return rc < 0 ? rc : scan(&f, deleted ? 'D' : 'd');
}
