/*
 * restore_tree.c: a past tree over a live one, entry by entry, without recursion: a directory's attributes and times come
 * after all that is in it.
 *
 * A live file is written into only if it is the very file of then, or has no other name: what somebody linked here
 * since is not ours to change, so its name is taken away and a file made anew.
 */
#include "store/core/restore_internal.h"
#include "store/core/core_internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- files of several names ---- */

static struct twin *twin_slot(struct twin *v, size_t cap, uint64_t src)
{
    size_t i = (size_t)(src * 0x9e3779b97f4a7c15ull >> 17) & (cap - 1);
    while (v[i].src != 0 && v[i].src != src)
        i = (i + 1) & (cap - 1);
    return &v[i];
}

/* One table for both ways: live inodes are kept with the top bit, which no inode number has. */
#define LIVE_KEY(ino) ((ino) | 1ull << 63)

static uint64_t twin_get(const struct restore *r, uint64_t key)
{
    return r->cap_twin == 0 ? 0 : twin_slot(r->twin, r->cap_twin, key)->dst;
}

static int twin_put(struct restore *r, uint64_t key, uint64_t val)
{
    if (r->n_twin * 2 >= r->cap_twin) {
        size_t cap = r->cap_twin == 0 ? 64 : r->cap_twin * 2;
        struct twin *v = calloc(cap, sizeof *v);
        if (v == NULL)
            return ERR_NOMEM;
        for (size_t i = 0; i < r->cap_twin; i++)
            if (r->twin[i].src != 0)
                *twin_slot(v, cap, r->twin[i].src) = r->twin[i];
        free(r->twin);
        r->twin = v;
        r->cap_twin = cap;
    }
    struct twin *t = twin_slot(r->twin, r->cap_twin, key);
    r->n_twin += t->src == 0;
    *t = (struct twin){ key, val };
    return 0;
}

void restore_release(struct restore *r)
{
    free(r->twin);
    r->twin = NULL;
    r->n_twin = r->cap_twin = 0;
}

/* ---- one entry that is no directory ---- */

/* May the live inode under this name become ${src}? 1 yes, 0 it must give way. */
static int fits(struct restore *r, uint64_t src, const struct row_ino *row, uint64_t dst, const struct row_ino *live)
{
    uint64_t used = twin_get(r, LIVE_KEY(dst));
    if ((row->mode & S_IFMT) != (live->mode & S_IFMT) || (used != 0 && used != src))
        return 0;
    if (S_ISLNK(row->mode))
        return restore_same_symlink(r, src, dst);
    if ((S_ISCHR(row->mode) || S_ISBLK(row->mode)) && row->rdev != live->rdev)
        return 0;
    return (dst == src && r->from == r->s) || live->nlink == 1;
}

/* A further name of a file that was restored already. */
static int further_name(struct restore *r, uint64_t twin, uint64_t parent, const char *name, size_t nlen, uint64_t dst,
                        const struct row_ino *live)
{
    int rc = 0;
    if (dst == twin)
        return 0;
    if (dst != 0)
        rc = restore_remove(r, parent, name, nlen, dst, live);
    if (rc == 0)
        rc = store_link_node(r->s, &r->c, twin, parent, name, nlen, NULL, NULL);
    if (rc == 0) {
        restore_tell_entry(r, parent, name, nlen);
        restore_tell_ino(r, twin);
    }
    return rc;
}

static int one_file(struct restore *r, uint64_t src, const struct row_ino *row, uint64_t parent, const char *name, size_t nlen,
                    uint64_t dst, const struct row_ino *live)
{
    struct row_ino made = { .size = 0 };
    uint64_t twin = row->nlink > 1 ? twin_get(r, src) : 0;
    int did = 0, rc = 0;
    if (twin != 0)
        return further_name(r, twin, parent, name, nlen, dst, live);
    if (dst != 0) {
        rc = fits(r, src, row, dst, live);
        if (rc == 0) {
            rc = restore_remove(r, parent, name, nlen, dst, live);
            if (rc == 0)
                r->st->removed--;        /* it gives way: its name stays */
            dst = 0;
        }
        if (rc < 0)
            return rc;
    }
    if (dst == 0) {
        rc = restore_create(r, src, row, parent, name, nlen, &dst);
        live = &made;
        did = 1;
    }
    if (rc >= 0 && S_ISREG(row->mode) && !(live == &made && row->size == 0)) {
        rc = restore_content(r, src, row, dst, live);
        did |= rc > 0;
    }
    if (rc >= 0) {
        rc = restore_attrs(r, src, row, dst, live == &made);
        did |= rc > 0;
    }
    if (rc >= 0 && (row->nlink > 1 || (live != &made && live->nlink > 1))) {
        rc = twin_put(r, src, dst);
        if (rc == 0)
            rc = twin_put(r, LIVE_KEY(dst), src);
    }
    if (rc < 0)
        return rc;
    if (did) {
        store_mark_version(r->s, dst);
        r->st->files++;
    } else {
        r->st->unchanged++;
    }
    return 0;
}

/* ---- directories ---- */

struct level { uint64_t src, dst; struct row_ino row; bool made; struct asof_list list; size_t i; };
struct stack { struct level *v; size_t n, cap; };

static int name_cmp(const struct asof_entry *a, const char *name, size_t nlen)
{
    size_t n = a->name_len < nlen ? a->name_len : nlen;
    int d = memcmp(a->name, name, n);
    return d != 0 ? d : a->name_len < nlen ? -1 : a->name_len > nlen;
}

static int by_name(const void *x, const void *y)
{
    const struct asof_entry *b = y;
    return name_cmp(x, b->name, b->name_len);
}

static bool in_list(const struct asof_list *l, const char *name, size_t nlen)
{
    size_t lo = 0, hi = l->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int d = name_cmp(&l->v[mid], name, nlen);
        if (d == 0)
            return true;
        if (d < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return false;
}

/* What is there and was not then, but for what is hidden. */
static int remove_extra(struct restore *r, const struct level *l)
{
    struct asof_list live = { 0 };
    int rc = restore_listing(r, l->dst, &live);
    for (size_t i = 0; i < live.n && rc == 0; i++) {
        const struct asof_entry *e = &live.v[i];
        struct row_ino row;
        if (in_list(&l->list, e->name, e->name_len))
            continue;
        if (e->hidden) {
            r->st->left++;
            continue;
        }
        rc = store_getattr(r->s, AT_LIVE, e->ino, &row, NULL);
        if (rc == ERR_STALE) {
            rc = 0;
            continue;
        }
        if (rc == 0)
            rc = restore_remove(r, l->dst, e->name, e->name_len, e->ino, &row);
        if (rc == ERR_EXIST)
            rc = 0;                      /* something in it is hidden, and was counted */
        if (rc < 0)
            rc = restore_fail(r, rc, e->name, e->name_len, "cannot remove it");
    }
    asof_list_free(&live);
    return rc;
}

static int push(struct restore *r, struct stack *st, uint64_t src, const struct row_ino *row, uint64_t dst, bool made)
{
    if (st->n == st->cap) {
        size_t cap = st->cap == 0 ? 16 : st->cap * 2;
        struct level *v = realloc(st->v, cap * sizeof *v);
        if (v == NULL)
            return err_set(r->err, ERR_NOMEM, "restore: out of memory");
        st->v = v;
        st->cap = cap;
    }
    struct level *l = &st->v[st->n++];
    *l = (struct level){ .src = src, .dst = dst, .row = *row, .made = made };
    int rc = asof_readdir(r->from->kv, r->at, src, &l->list, r->err);
    if (rc == 0 && l->list.n > 1)
        qsort(l->list.v, l->list.n, sizeof *l->list.v, by_name);
    return rc == 0 && r->delete_extra ? remove_extra(r, l) : rc;
}

static int pop(struct restore *r, struct stack *st)
{
    struct level *l = &st->v[st->n - 1];
    int rc = restore_attrs(r, l->src, &l->row, l->dst, l->made);
    if (rc < 0)
        return restore_fail(r, rc, "", 0, "attributes of a directory");
    r->st->dirs++;
    asof_list_free(&l->list);
    st->n--;
    return 0;
}

/* The live directory for a past one: there, or made. */
static int directory(struct restore *r, uint64_t src, const struct row_ino *row, uint64_t parent, const char *name, size_t nlen,
                     uint64_t *dst, const struct row_ino *live)
{
    int rc = 0;
    if (*dst != 0 && !S_ISDIR(live->mode)) {
        rc = restore_remove(r, parent, name, nlen, *dst, live);
        *dst = 0;
    }
    return rc == 0 && *dst == 0 ? restore_create(r, src, row, parent, name, nlen, dst) : rc;
}

/* What has the place is hidden, and stays. At the top that is a failure. */
static int blocked(struct restore *r, const struct stack *st, uint64_t ino, const char *name, size_t nlen)
{
    if (st->n == 0)
        return err_set(r->err, ERR_EXIST, "restore of %.*s: what is there now keeps no history: it could not be brought back; move it away, or restore to another "
                       "name", (int)nlen, name);
    if (r->st->blocked++ == 0)
        r->st->blocked_ino = ino;
    return 0;
}

static int one_entry(struct restore *r, struct stack *st, uint64_t src, const struct row_ino *row, uint64_t parent, const char *name,
                     size_t nlen)
{
    struct row_ino live = { .size = 0 };
    struct row_den den;
    uint64_t dst = 0;
    bool there;
    int rc = nlen == 0 ? store_getattr(r->s, AT_LIVE, dst = INO_ROOT, &live, NULL)
                       : store_lookup(r->s, AT_LIVE, parent, name, nlen, &dst, &live, NULL);
    if (rc == ERR_NOENT) {
        dst = 0;
        rc = 0;
    }
    if (rc < 0)
        return restore_fail(r, rc, name, nlen, "looking it up");
    if (dst != 0 && nlen > 0 && read_den(r->s, parent, name, nlen, &den) == 0 && den.hidden)
        return blocked(r, st, dst, name, nlen);
    if (S_ISDIR(row->mode)) {
        there = dst != 0 && S_ISDIR(live.mode);
        rc = directory(r, src, row, parent, name, nlen, &dst, &live);
        return rc < 0 ? restore_fail(r, rc, name, nlen, "making the directory") : push(r, st, src, row, dst, !there);
    }
    if (dst != 0 && S_ISDIR(live.mode) && (!r->delete_extra || nlen == 0))
        return err_set(r->err, ERR_EXIST, "restore of %.*s: expected no directory of that name, found one; remove it, or allow what is "
                       "extra to be removed", nlen > 0 ? (int)nlen : 1, nlen > 0 ? name : "/");
    rc = one_file(r, src, row, parent, name, nlen, dst, &live);
    if (rc < 0)
        return restore_fail(r, rc, name, nlen, rc == ERR_EXIST ? "something is kept in the directory of that name that has no history" : "restoring it");
    if (r->progress != NULL)
        r->progress(r->arg, r->st);
    return 0;
}

int restore_entry(struct restore *r, uint64_t src, const struct row_ino *row, uint64_t parent, const char *name, size_t nlen)
{
    struct stack st = { 0 };
    int rc = one_entry(r, &st, src, row, parent, name, nlen);
    while (rc == 0 && st.n > 0) {
        struct level *l = &st.v[st.n - 1];
        struct row_ino child;
        if (l->i == l->list.n) {
            rc = pop(r, &st);
            continue;
        }
        const struct asof_entry *e = &l->list.v[l->i++];
        uint64_t dir = l->dst;           /* the stack may move */
        rc = store_getattr(r->from, r->at, e->ino, &child, NULL);
        if (rc < 0)
            rc = restore_fail(r, rc, e->name, e->name_len, "reading what it was");
        else
            rc = one_entry(r, &st, e->ino, &child, dir, e->name, e->name_len);
    }
    for (size_t i = 0; i < st.n; i++)
        asof_list_free(&st.v[i].list);
    free(st.v);
    return rc;
}
