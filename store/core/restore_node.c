/* restore_node.c: one object of a restore: content, attributes, making, removing. */
#include "store/core/restore_internal.h"
#include "store/core/core_internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { COPY_BYTES = 1 << 18 };

int restore_fail(struct restore *r, int rc, const char *name, size_t nlen, const char *what)
{
    return err_set(r->err, rc, "restore of %.*s: %s: %s; what was restored before it stays, and can be undone", nlen > 0 ? (int)nlen : 1,
                   nlen > 0 ? name : "/", what, err_text(rc));
}

void restore_tell_ino(struct restore *r, uint64_t ino)
{
    r->changed = true;
    if (r->s->opt.hooks.on_inval_ino != NULL)
        r->s->opt.hooks.on_inval_ino(r->s->opt.hooks.arg, ino);
}

void restore_tell_entry(struct restore *r, uint64_t parent, const char *name, size_t nlen)
{
    r->changed = true;
    if (r->s->opt.hooks.on_inval_entry != NULL)
        r->s->opt.hooks.on_inval_entry(r->s->opt.hooks.arg, parent, name, nlen);
    restore_tell_ino(r, parent);
}

/* ---- content ---- */

/* What ${dst} held at ${at}, when it was that large. It is no version of its own, and what came between is none. */
static int put_back(struct restore *r, uint64_t at, uint64_t dst, const struct row_ino *was)
{
    struct setattr_in empty = { .valid = RSA_SIZE }, full = { .valid = RSA_SIZE | RSA_MTIME, .size = was->size, .mtime = was->mtime };
    int64_t rc = store_setattr(r->s, &r->c, dst, &empty, NULL, NULL);
    for (uint64_t off = 0; rc >= 0 && off < was->size; off += (uint64_t)rc)
        if ((rc = store_clone(r->s, &r->c, at, dst, off, dst, off, was->size - off, NULL)) == 0)
            rc = ERR_DAMAGE;             /* its row said that there is more */
    return rc < 0 ? (int)rc : store_setattr(r->s, &r->c, dst, &full, NULL, NULL);
}

static int copy_pieces(struct restore *r, uint64_t src, uint64_t dst, uint64_t size, uint8_t *buf)
{
    int rc = 0;
    for (uint64_t off = 0; rc == 0 && off < size;) {
        int64_t from = store_seek(r->from, r->at, src, off, SEEK_DATA, NULL), to;
        if (from == ERR_NXIO)
            break;
        to = from < 0 ? from : store_seek(r->from, r->at, src, (uint64_t)from, SEEK_HOLE, NULL);
        if (to < 0)
            rc = (int)to;
        for (off = (uint64_t)from; rc == 0 && off < (uint64_t)to;) {
            uint64_t want = (uint64_t)to - off;
            int64_t n = store_read(r->from, r->at, src, off, buf, want < COPY_BYTES ? want : COPY_BYTES, false, NULL, NULL);
            if (n > 0)
                n = store_write(r->s, &r->c, dst, off, buf, (size_t)n, NULL);
            if (n <= 0)
                rc = n < 0 ? (int)n : ERR_DAMAGE;    /* it said that there is more */
            else
                off += (uint64_t)n;
        }
    }
    return rc;
}

/* Out of another store. What it held before is a version; where the other one cannot be read to its end it holds that again. */
static int copy_data(struct restore *r, uint64_t src, uint64_t dst, uint64_t size)
{
    struct setattr_in empty = { .valid = RSA_SIZE }, full = { .valid = RSA_SIZE, .size = size };
    struct row_ino was;
    struct hash128 hash;
    uint64_t before = 0;
    uint8_t *buf = malloc(COPY_BYTES);
    int rc = buf != NULL ? store_getattr(r->s, AT_LIVE, dst, &was, NULL) : ERR_NOMEM;
    if (rc == 0) {
        store_mark_version(r->s, dst);
        log_last(r->s->log, &before, &hash);
        rc = store_setattr(r->s, &r->c, dst, &empty, NULL, NULL);
        if (rc == 0)
            rc = copy_pieces(r, src, dst, size, buf);
        if (rc == 0)
            rc = store_setattr(r->s, &r->c, dst, &full, NULL, NULL);
        if (rc < 0) {
            (void)put_back(r, before, dst, &was);
            restore_tell_ino(r, dst);
        }
    }
    free(buf);
    return rc;
}

int restore_content(struct restore *r, uint64_t src, const struct row_ino *row, uint64_t dst, const struct row_ino *live)
{
    uint64_t then = row->origin != 0 ? row->origin : row->content, now = live->origin != 0 ? live->origin : live->content;
    if ((then == now && then <= r->same_until) || (row->size == 0 && live->size == 0))
        return 0;
    int rc = r->from != r->s ? copy_data(r, src, dst, row->size) : data_restore(r->s, &r->c, r->at, src, dst, row->size);
    if (rc < 0)
        return rc;
    r->st->bytes += row->size;
    restore_tell_ino(r, dst);
    return 1;
}

/* ---- extended attributes ---- */

struct names { char *v; int64_t len; };

static int names_of(struct store *s, uint64_t at, uint64_t ino, struct names *out)
{
    out->v = NULL;
    out->len = store_listxattr(s, at, ino, NULL, 0, NULL);
    if (out->len <= 0)
        return (int)out->len;
    out->v = malloc((size_t)out->len);
    if (out->v == NULL)
        return ERR_NOMEM;
    out->len = store_listxattr(s, at, ino, out->v, (size_t)out->len, NULL);
    return out->len < 0 ? (int)out->len : 0;
}

static bool has(const struct names *l, const char *name)
{
    for (const char *p = l->v; p != NULL && p < l->v + l->len; p += strlen(p) + 1)
        if (strcmp(p, name) == 0)
            return true;
    return false;
}

/* Not of then: a directory goes on hiding what is made in it, or not, as it does today. */
static bool of_today(const char *name, const struct row_ino *row, bool made)
{
    return S_ISDIR(row->mode) && !made && strcmp(name, REC_XATTR_NOHISTORY) == 0;
}

/* Attributes that were not there then go first: an ACL would follow the mode. */
static int xattrs_drop(struct restore *r, uint64_t src, const struct row_ino *row, uint64_t dst, bool made)
{
    struct names then = { 0 }, now = { 0 };
    int did = 0, rc = names_of(r->from, r->at, src, &then);
    if (rc == 0)
        rc = names_of(r->s, AT_LIVE, dst, &now);
    for (const char *p = now.v; rc == 0 && p != NULL && p < now.v + now.len; p += strlen(p) + 1)
        if (!has(&then, p) && !of_today(p, row, made)) {
            rc = store_removexattr(r->s, &r->c, dst, p, NULL);
            did = 1;
            if (rc == ERR_NODATA)
                rc = 0;
        }
    free(then.v);
    free(now.v);
    return rc < 0 ? rc : did;
}

static int xattr_put(struct restore *r, uint64_t src, uint64_t dst, const char *name, uint8_t *a, uint8_t *b)
{
    int64_t n = store_getxattr(r->from, r->at, src, name, a, REC_XATTR_MAX, NULL);
    int64_t m = n < 0 ? 0 : store_getxattr(r->s, AT_LIVE, dst, name, b, REC_XATTR_MAX, NULL);
    if (n < 0)
        return (int)n;
    if (m < 0 && m != ERR_NODATA)
        return (int)m;
    if (m == n && memcmp(a, b, (size_t)n) == 0)
        return 0;
    int rc = store_setxattr(r->s, &r->c, dst, name, a, (size_t)n, 0, false, NULL);
    return rc < 0 ? rc : 1;
}

static int xattrs_put(struct restore *r, uint64_t src, const struct row_ino *row, uint64_t dst, bool made)
{
    struct names then = { 0 };
    uint8_t *a = NULL;
    int did = 0, rc = names_of(r->from, r->at, src, &then);
    if (rc == 0 && then.len > 0 && (a = malloc(2 * (size_t)REC_XATTR_MAX)) == NULL)
        rc = ERR_NOMEM;
    for (const char *p = then.v; rc >= 0 && p != NULL && p < then.v + then.len; p += strlen(p) + 1) {
        rc = of_today(p, row, made) ? 0 : xattr_put(r, src, dst, p, a, a + REC_XATTR_MAX);
        did |= rc > 0;
    }
    free(a);
    free(then.v);
    return rc < 0 ? rc : did;
}

/* ---- attributes ---- */

static bool same_time(const struct rec_time *a, const struct rec_time *b)
{
    return a->sec == b->sec && a->nsec == b->nsec;
}

static uint32_t differing(const struct row_ino *then, const struct row_ino *now)
{
    uint32_t valid = 0;
    if (then->uid != now->uid)
        valid |= RSA_UID;
    if (then->gid != now->gid)
        valid |= RSA_GID;
    if (((then->mode ^ now->mode) & 07777) != 0 && !S_ISLNK(then->mode))
        valid |= RSA_MODE;
    if (!same_time(&then->mtime, &now->mtime))
        valid |= RSA_MTIME;
    if (valid != 0 && !same_time(&then->atime, &now->atime))
        valid |= RSA_ATIME;
    return valid;
}

/* Owner before mode and capabilities, which a change of owner takes away; ACLs last, since a mode changes them. */
int restore_attrs(struct restore *r, uint64_t src, const struct row_ino *row, uint64_t dst, bool made)
{
    struct row_ino now;
    int did = 0, rc = store_getattr(r->s, AT_LIVE, dst, &now, NULL);
    if (rc == 0 && now.n_xattr > 0)
        did = rc = xattrs_drop(r, src, row, dst, made);
    if (rc >= 0) {
        struct setattr_in in = { .valid = differing(row, &now), .mode = row->mode & 07777, .uid = row->uid, .gid = row->gid,
                                 .atime = row->atime, .mtime = row->mtime };
        did |= in.valid != 0;
        rc = in.valid != 0 ? store_setattr(r->s, &r->c, dst, &in, NULL, NULL) : 0;
    }
    if (rc == 0 && row->n_xattr > 0) {
        rc = xattrs_put(r, src, row, dst, made);
        did |= rc > 0;
    }
    /* a removed or replaced ACL may have left other bits */
    if (rc >= 0 && (rc = store_getattr(r->s, AT_LIVE, dst, &now, NULL)) == 0 && ((row->mode ^ now.mode) & 07777) != 0 && !S_ISLNK(row->mode)) {
        struct setattr_in in = { .valid = RSA_MODE, .mode = row->mode & 07777 };
        rc = store_setattr(r->s, &r->c, dst, &in, NULL, NULL);
        did = 1;
    }
    if (rc < 0)
        return rc;
    if (did)
        restore_tell_ino(r, dst);
    return did;
}

/* ---- making and removing ---- */

int restore_same_symlink(struct restore *r, uint64_t src, uint64_t dst)
{
    char a[REC_SYMLINK_MAX + 1], b[REC_SYMLINK_MAX + 1];
    int n = store_readlink(r->from, r->at, src, a, sizeof a, NULL), m = n < 0 ? n : store_readlink(r->s, AT_LIVE, dst, b, sizeof b, NULL);
    return m < 0 ? m : m == n && memcmp(a, b, (size_t)n) == 0;
}

int restore_create(struct restore *r, uint64_t src, const struct row_ino *row, uint64_t parent, const char *name, size_t nlen,
                   uint64_t *dst)
{
    char target[REC_SYMLINK_MAX + 1];
    struct row_ino made;
    int n = 0;
    if (S_ISLNK(row->mode)) {
        n = store_readlink(r->from, r->at, src, target, sizeof target - 1, NULL);
        if (n < 0)
            return n;
        target[n] = '\0';
    }
    int rc = store_create_node(r->s, &r->c, parent, name, nlen, row->mode, row->rdev, S_ISLNK(row->mode) ? target : NULL, dst, &made, NULL);
    if (rc == 0)
        restore_tell_entry(r, parent, name, nlen);
    return rc;
}

static int add_entry(void *arg, const struct dirent_out *d)
{
    struct asof_list *l = arg;
    if (l->n == l->cap) {
        size_t cap = l->cap == 0 ? 32 : l->cap * 2;
        struct asof_entry *v = realloc(l->v, cap * sizeof *v);
        if (v == NULL)
            return 1;
        l->v = v;
        l->cap = cap;
    }
    char *name = malloc(d->nlen + 1);
    if (name == NULL)
        return 1;
    memcpy(name, d->name, d->nlen);
    name[d->nlen] = '\0';
    l->v[l->n++] = (struct asof_entry){ .cookie = d->cookie, .ino = d->ino, .type = d->type, .hidden = d->hidden, .name_len = (uint32_t)d->nlen, .name = name };
    return 0;
}

struct counted { struct asof_list *l; bool full; };

static int count_entry(void *arg, const struct dirent_out *d)
{
    struct counted *k = arg;
    k->full = add_entry(k->l, d) != 0;
    return k->full;
}

int restore_listing(struct restore *r, uint64_t dir, struct asof_list *out)
{
    struct counted k = { out, false };
    memset(out, 0, sizeof *out);
    int rc = store_readdir(r->s, AT_LIVE, dir, 0, count_entry, &k, NULL);
    if (rc == 0 && k.full)
        rc = ERR_NOMEM;
    if (rc < 0)
        asof_list_free(out);
    return rc;
}

static int unlink_one(struct restore *r, uint64_t parent, const char *name, size_t nlen, uint64_t ino, bool dir)
{
    uint64_t gone = 0;
    int rc = store_unlink(r->s, &r->c, parent, name, nlen, dir, &gone, NULL);
    if (rc < 0)
        return rc == ERR_NOENT ? 0 : rc;
    r->st->removed++;
    restore_tell_entry(r, parent, name, nlen);
    restore_tell_ino(r, ino);            /* who still uses it learns that it has no name */
    if (gone != 0 && r->s->opt.hooks.on_gone != NULL)
        r->s->opt.hooks.on_gone(r->s->opt.hooks.arg, gone);
    else if (gone != 0)
        return store_reap(r->s, &gone, 1, NULL);
    return 0;
}

/* A directory on the way down: what is left to remove in it. */
struct removal { uint64_t parent, ino; char *name; size_t nlen; struct asof_list list; size_t i; bool stays; };

int restore_remove(struct restore *r, uint64_t parent, const char *name, size_t nlen, uint64_t ino, const struct row_ino *live)
{
    struct removal *stack = NULL;
    size_t n = 0, cap = 0;
    int rc = 0;
    if (!S_ISDIR(live->mode))
        return unlink_one(r, parent, name, nlen, ino, false);
    struct removal next = { .parent = parent, .ino = ino, .nlen = nlen, .name = strndup(name, nlen) };
    for (;;) {
        if (next.ino != 0) {
            if (n == cap) {
                cap = cap == 0 ? 16 : cap * 2;
                struct removal *v = realloc(stack, cap * sizeof *v);
                if (v == NULL || next.name == NULL) {
                    free(next.name);
                    if (v != NULL)
                        stack = v;
                    rc = ERR_NOMEM;
                    break;
                }
                stack = v;
            }
            stack[n++] = next;
            rc = next.name != NULL ? restore_listing(r, next.ino, &stack[n - 1].list) : ERR_NOMEM;
            if (rc < 0)
                break;
            next.ino = 0;
        }
        struct removal *top = &stack[n - 1];
        if (top->i < top->list.n) {
            const struct asof_entry *e = &top->list.v[top->i++];
            if (e->hidden) {
                r->st->left++;
                top->stays = true;
            } else if (e->type == S_IFDIR >> 12)
                next = (struct removal){ .parent = top->ino, .ino = e->ino, .nlen = e->name_len, .name = strndup(e->name, e->name_len) };
            else
                rc = unlink_one(r, top->ino, e->name, e->name_len, e->ino, false);
        } else {
            if (!top->stays)
                rc = unlink_one(r, top->parent, top->name, top->nlen, top->ino, true);
            else if (n > 1)
                top[-1].stays = true;
            else
                rc = ERR_EXIST;
            free(top->name);
            asof_list_free(&top->list);
            n--;
        }
        if (rc < 0 || (n == 0 && next.ino == 0))
            break;
    }
    while (n > 0) {
        free(stack[--n].name);
        asof_list_free(&stack[n].list);
    }
    free(stack);
    return rc;
}
