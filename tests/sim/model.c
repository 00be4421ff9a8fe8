/* model.c: objects, names, attributes: applying operations. What is wrong with one is found in model_check.c. */
#include "tests/sim/model_internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define ACL_ACCESS "system.posix_acl_access"
#define ACL_DEFAULT "system.posix_acl_default"
#define XATTR_CAP "security.capability"

struct model *model_new(void) { return m_alloc(sizeof(struct model)); }

static void ino_free(struct mino *i)
{
    for (size_t k = 0; k < i->n_page; k++)
        free(i->page[k].p);
    for (size_t k = 0; k < i->n_ent; k++)
        free(i->ent[k].name);
    for (size_t k = 0; k < i->n_x; k++) {
        free(i->x[k].name);
        free(i->x[k].val);
    }
    free(i->page);
    free(i->ent);
    free(i->x);
    free(i->target);
    free(i);
}

void model_free(struct model *m)
{
    if (m == NULL)
        return;
    for (size_t k = 0; k < m->n_ino; k++)
        ino_free(m->ino[k]);
    free(m->ino);
    free(m->snap);
    free(m);
}

static size_t ino_at(const struct model *m, uint64_t ino)
{
    size_t lo = 0, hi = m->n_ino;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (m->ino[mid]->a.ino < ino)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

struct mino *model_find(const struct model *m, uint64_t ino)
{
    size_t at = ino_at(m, ino);
    return at < m->n_ino && m->ino[at]->a.ino == ino ? m->ino[at] : NULL;
}

static struct mino *ino_new(struct model *m, uint64_t ino)
{
    size_t at = ino_at(m, ino);
    m->ino = m_grow(m->ino, &m->cap_ino, m->n_ino + 1, sizeof *m->ino);
    memmove(m->ino + at + 1, m->ino + at, (m->n_ino - at) * sizeof *m->ino);
    m->ino[at] = m_alloc(sizeof **m->ino);
    m->n_ino++;
    m->ino[at]->a.ino = ino;
    if (ino > m->max_ino)
        m->max_ino = ino;
    return m->ino[at];
}

static void ino_drop(struct model *m, uint64_t ino)
{
    size_t at = ino_at(m, ino);
    ino_free(m->ino[at]);
    memmove(m->ino + at, m->ino + at + 1, (m->n_ino - at - 1) * sizeof *m->ino);
    m->n_ino--;
}

void model_out(struct model *m, const struct mino *i)
{
    if (i->a.nlink > 0)
        m->digest = mhash_sub(m->digest, mhash_attr(&i->a));
}

void model_in(struct model *m, const struct mino *i)
{
    if (i->a.nlink > 0)
        m->digest = mhash_add(m->digest, mhash_attr(&i->a));
}

static struct mtime mtime_of(int64_t ns)
{
    struct mtime t = { ns / 1000000000, 0 };
    int64_t rest = ns % 1000000000;
    if (rest < 0) {
        rest += 1000000000;
        t.sec--;
    }
    t.nsec = (uint32_t)rest;
    return t;
}

void model_root(struct model *m, uint64_t ino, uint32_t mode, uint32_t uid, uint32_t gid, int64_t now_ns)
{
    struct mino *r = ino_new(m, ino);
    r->a.mode = S_IFDIR | mode;
    r->a.uid = uid;
    r->a.gid = gid;
    r->a.nlink = 2;
    r->a.at = r->a.mt = r->a.ct = mtime_of(now_ns);
    r->parent = ino;
    model_in(m, r);
}

static bool is_dir(const struct mino *i) { return S_ISDIR(i->a.mode); }

/* ---- names ---- */

const struct mdent *model_entry(const struct mino *dir, const char *name, uint32_t nlen)
{
    for (size_t k = 0; k < dir->n_ent; k++)
        if (dir->ent[k].nlen == nlen && memcmp(dir->ent[k].name, name, nlen) == 0)
            return &dir->ent[k];
    return NULL;
}

bool model_below(const struct model *m, uint64_t ino, uint64_t dir)
{
    const struct mino *i = model_find(m, ino);
    while (i != NULL) {
        if (i->a.ino == dir)
            return true;
        if (i->parent == i->a.ino)
            return false;
        i = model_find(m, i->parent);
    }
    return false;
}

/* What is made in it is hidden. */
static bool hides(const struct mino *dir)
{
    return dir->hidden || model_xattr(dir, M_NOHISTORY) != NULL;
}

struct mhash model_past(const struct model *m)
{
    struct mhash sum = { 0, 0 };
    if (m->n_hidden == 0)
        return m->digest;
    bool *in = m_alloc(m->n_ino * sizeof *in);
    size_t *queue = m_alloc(m->n_ino * sizeof *queue), n = 0;
    for (size_t k = 0; k < m->n_ino; k++)            /* the root is its own parent */
        if (is_dir(m->ino[k]) && m->ino[k]->parent == m->ino[k]->a.ino)
            in[queue[n++] = k] = true;
    for (size_t q = 0; q < n; q++) {
        const struct mino *i = m->ino[queue[q]];
        sum = mhash_add(sum, mhash_attr(&i->a));
        for (size_t k = 0; k < i->n_ent; k++) {
            const struct mdent *e = &i->ent[k];
            size_t at = ino_at(m, e->ino);
            if (e->hidden)
                continue;
            sum = mhash_add(sum, mhash_dent(i->a.ino, e->name, e->nlen, e->ino, m->ino[at]->a.mode >> 12));
            if (!in[at])
                in[queue[n++] = at] = true;
        }
    }
    free(in);
    free(queue);
    return sum;
}

static void name_add(struct model *m, struct mino *dir, const char *name, uint32_t nlen, const struct mino *child)
{
    dir->ent = m_grow(dir->ent, &dir->cap_ent, dir->n_ent + 1, sizeof *dir->ent);
    struct mdent *d = &dir->ent[dir->n_ent++];
    d->name = m_alloc(nlen + 1u);
    memcpy(d->name, name, nlen);
    d->nlen = nlen;
    d->ino = child->a.ino;
    d->hidden = child->hidden;
    m->n_hidden += d->hidden;
    m->digest = mhash_add(m->digest, mhash_dent(dir->a.ino, name, nlen, child->a.ino, child->a.mode >> 12));
}

static void name_del(struct model *m, struct mino *dir, const char *name, uint32_t nlen)
{
    size_t at = (size_t)(model_entry(dir, name, nlen) - dir->ent);
    const struct mino *child = model_find(m, dir->ent[at].ino);
    m->digest = mhash_sub(m->digest, mhash_dent(dir->a.ino, name, nlen, child->a.ino, child->a.mode >> 12));
    m->n_hidden -= dir->ent[at].hidden;
    free(dir->ent[at].name);
    dir->ent[at] = dir->ent[--dir->n_ent];
}

/* An object's change begins and ends here: times, who touched it last, its share of the digest. */
static struct mino *begin(struct model *m, uint64_t ino)
{
    struct mino *i = model_find(m, ino);
    model_out(m, i);
    return i;
}

static void end(struct model *m, const struct mop *op, struct mino *i, bool content)
{
    i->a.ct = mtime_of(op->now_ns);
    if (content)
        i->a.mt = i->a.ct;
    i->touched = op->lsn;
    model_in(m, i);
}

static void dir_change(struct model *m, const struct mop *op, uint64_t dir, int subdirs)
{
    struct mino *d = begin(m, dir);
    d->a.nlink = (uint32_t)((int)d->a.nlink + subdirs);
    end(m, op, d, true);
}

/* ---- extended attributes ---- */

const struct mxattr *model_xattr(const struct mino *i, const char *name)
{
    for (size_t k = 0; k < i->n_x; k++)
        if (strcmp(i->x[k].name, name) == 0)
            return &i->x[k];
    return NULL;
}

static void xattr_del(struct mino *i, const char *name)
{
    const struct mxattr *x = model_xattr(i, name);
    if (x == NULL)
        return;
    size_t at = (size_t)(x - i->x);
    i->a.xattr = mhash_sub(i->a.xattr, mhash_xattr(name, x->val, x->vlen));
    free(i->x[at].name);
    free(i->x[at].val);
    i->x[at] = i->x[--i->n_x];
}

static void xattr_set(struct mino *i, const char *name, const void *val, uint32_t vlen)
{
    xattr_del(i, name);
    i->x = m_grow(i->x, &i->cap_x, i->n_x + 1, sizeof *i->x);
    struct mxattr *x = &i->x[i->n_x++];
    x->name = m_alloc(strlen(name) + 1);
    memcpy(x->name, name, strlen(name));
    x->val = m_alloc(vlen);
    if (vlen > 0)
        memcpy(x->val, val, vlen);
    x->vlen = vlen;
    i->a.xattr = mhash_add(i->a.xattr, mhash_xattr(name, val, vlen));
}

/* A change of content or owner takes privileges away. */
static void kill_priv(struct mino *i, bool bits)
{
    if (S_ISDIR(i->a.mode))
        return;
    if (bits) {
        i->a.mode &= ~(uint32_t)S_ISUID;
        if (i->a.mode & S_IXGRP)
            i->a.mode &= ~(uint32_t)S_ISGID;
    }
    xattr_del(i, XATTR_CAP);
}

/* ---- operations ---- */

static void do_create(struct model *m, const struct mop *op)
{
    struct mino *dir = model_find(m, op->parent), *i = ino_new(m, op->ino);
    const struct mxattr *def = S_ISLNK(op->mode) ? NULL : model_xattr(dir, ACL_DEFAULT);
    uint32_t mode = op->mode;
    i->a.uid = op->uid;
    i->a.gid = op->gid;
    i->a.rdev = op->rdev;
    i->hidden = op->by_name || hides(dir);
    if (dir->a.mode & S_ISGID) {
        i->a.gid = dir->a.gid;
        if (S_ISDIR(mode))
            mode |= S_ISGID;
    }
    if (def != NULL) {
        uint8_t acl[1024];
        memcpy(acl, def->val, def->vlen);
        mode = macl_create(acl, def->vlen, mode);
        if (!macl_is_mode(acl, def->vlen))
            xattr_set(i, ACL_ACCESS, acl, def->vlen);
        if (S_ISDIR(mode))
            xattr_set(i, ACL_DEFAULT, def->val, def->vlen);
    } else if (!S_ISLNK(mode)) {
        mode &= ~(op->umask & 0777);
    }
    i->a.mode = mode;
    i->a.nlink = S_ISDIR(mode) ? 2 : 1;
    i->a.at = mtime_of(op->now_ns);
    i->parent = S_ISDIR(mode) ? op->parent : 0;
    if (S_ISLNK(mode)) {
        i->target = m_alloc(op->dlen + 1u);
        memcpy(i->target, op->data, op->dlen);
        i->a.target = i->target;
        i->a.size = op->dlen;
    }
    end(m, op, i, true);
    name_add(m, dir, op->name, op->nlen, i);
    dir_change(m, op, op->parent, S_ISDIR(mode) ? 1 : 0);
}

static void do_link(struct model *m, const struct mop *op)
{
    struct mino *i = begin(m, op->ino), *dir = model_find(m, op->parent);
    i->a.nlink++;
    if (!op->by_name && !hides(dir))
        i->hidden = false;               /* a name outside: from now on it has history */
    end(m, op, i, false);
    name_add(m, dir, op->name, op->nlen, i);
    dir_change(m, op, op->parent, 0);
}

/* Returns whether it was a directory. */
static bool lost_name(struct model *m, const struct mop *op, uint64_t ino)
{
    struct mino *i = begin(m, ino);
    i->a.nlink = is_dir(i) ? 0 : i->a.nlink - 1;
    end(m, op, i, false);
    return is_dir(i);
}

static void do_unlink(struct model *m, const struct mop *op)
{
    struct mino *dir = model_find(m, op->parent);
    uint64_t ino = model_entry(dir, op->name, op->nlen)->ino;
    name_del(m, dir, op->name, op->nlen);
    bool d = lost_name(m, op, ino);
    dir_change(m, op, op->parent, d ? -1 : 0);
}

static void moved(struct model *m, const struct mop *op, uint64_t ino, uint64_t parent, bool by_name)
{
    struct mino *i = begin(m, ino);
    if (is_dir(i))
        i->parent = parent;              /* and hidden or not as it was made */
    else if (!by_name && !hides(model_find(m, parent)))
        i->hidden = false;
    else if (i->a.nlink == 1)
        i->hidden = true;
    end(m, op, i, false);
}

static void do_rename(struct model *m, const struct mop *op)
{
    struct mino *sd = model_find(m, op->parent), *dd = model_find(m, op->parent2);
    const struct mdent *d = model_entry(dd, op->name2, op->nlen2);
    uint64_t src = model_entry(sd, op->name, op->nlen)->ino, dst = d != NULL ? d->ino : 0;
    const struct mino *s = model_find(m, src), *t = dst != 0 ? model_find(m, dst) : NULL;
    if (src == dst)
        return;                  /* two names of one file: POSIX says nothing happens */
    bool exchange = (op->flags & M_EXCHANGE) != 0, lost_dir = false;
    name_del(m, sd, op->name, op->nlen);
    if (t != NULL)
        name_del(m, dd, op->name2, op->nlen2);
    moved(m, op, src, op->parent2, op->by_name);
    if (exchange)
        moved(m, op, dst, op->parent, op->by_name2);
    name_add(m, dd, op->name2, op->nlen2, s);
    if (exchange)
        name_add(m, sd, op->name, op->nlen, t);
    else if (t != NULL)
        lost_dir = lost_name(m, op, dst);
    int sn = is_dir(s) ? -1 : 0, dn = is_dir(s) ? 1 : 0;
    if (exchange && is_dir(t)) {
        sn++;
        dn--;
    }
    if (lost_dir)
        dn--;
    dir_change(m, op, op->parent, sn);
    dir_change(m, op, op->parent2, dn);
}

static struct mtime time_or_now(const struct mop *op, struct mtime t)
{
    return t.nsec == M_NOW ? mtime_of(op->now_ns) : t;
}

static void chmod_acl(struct mino *i)
{
    const struct mxattr *x = model_xattr(i, ACL_ACCESS);
    uint8_t acl[1024];
    uint32_t len = x != NULL ? x->vlen : 0;
    if (x == NULL || !macl_valid(x->val, x->vlen))
        return;
    memcpy(acl, x->val, len);
    macl_chmod(acl, len, i->a.mode);
    xattr_set(i, ACL_ACCESS, acl, len);
}

static void do_setattr(struct model *m, const struct mop *op)
{
    if (op->valid == 0)
        return;
    struct mino *i = begin(m, op->ino);
    if (op->valid & M_UID)
        i->a.uid = op->new_uid;
    if (op->valid & M_GID)
        i->a.gid = op->new_gid;
    if (op->valid & M_SIZE)
        mdata_resize(i, op->size);
    if (op->valid & (M_UID | M_GID | M_SIZE))
        kill_priv(i, op->kill || (op->valid & (M_UID | M_GID)));
    if (op->valid & M_MODE) {
        i->a.mode = (i->a.mode & S_IFMT) | (op->mode & 07777);
        chmod_acl(i);
    }
    end(m, op, i, (op->valid & M_SIZE) != 0);
    model_out(m, i);
    if (op->valid & M_ATIME)
        i->a.at = time_or_now(op, op->atime);
    if (op->valid & M_MTIME)
        i->a.mt = time_or_now(op, op->mtime);
    model_in(m, i);
}

static void do_write(struct model *m, const struct mop *op)
{
    if (op->dlen == 0)
        return;
    struct mino *i = begin(m, op->ino);
    uint64_t off = op->off == M_APPEND ? i->a.size : op->off;
    mdata_write(i, off, op->data, op->dlen);
    if (off + op->dlen > i->a.size)
        i->a.size = off + op->dlen;
    kill_priv(i, op->kill);
    end(m, op, i, true);
}

static void do_fallocate(struct model *m, const struct mop *op)
{
    struct mino *i = begin(m, op->ino);
    bool content = (op->flags & (M_PUNCH | M_ZERO)) != 0;
    if (content)
        mdata_zero(i, op->off, op->off + op->len);
    if (!(op->flags & M_KEEP_SIZE) && op->off + op->len > i->a.size) {
        i->a.size = op->off + op->len;
        content = true;
    }
    kill_priv(i, op->kill);
    end(m, op, i, content);
}

static uint64_t do_clone(struct model *m, const struct mop *op)
{
    uint64_t len = op->len;
    if (op->src_at == M_LIVE) {
        const struct mino *s = model_find(m, op->src_ino);
        uint64_t left = op->src_off < s->a.size ? s->a.size - op->src_off : 0;
        len = len < left ? len : left;
    } else {
        len = op->dlen;
    }
    if (len == 0)
        return 0;
    struct mino *i = begin(m, op->ino);
    if (op->src_at == M_LIVE) {
        mdata_clone(i, op->off, model_find(m, op->src_ino), op->src_off, len);
    } else {
        mdata_zero(i, op->off, op->off + len);
        mdata_write(i, op->off, op->data, (size_t)len);
    }
    if (op->off + len > i->a.size)
        i->a.size = op->off + len;
    kill_priv(i, op->kill);
    end(m, op, i, true);
    return len;
}

static void do_xattr(struct model *m, const struct mop *op)
{
    struct mino *i = begin(m, op->ino);
    if (op->kind == MOP_SETXATTR) {
        if (strcmp(op->name, ACL_ACCESS) == 0)
            i->a.mode = macl_mode(op->data, op->dlen, i->a.mode);
        if (strcmp(op->name, ACL_ACCESS) == 0 && op->kill)
            i->a.mode &= ~(uint32_t)S_ISGID;
        if (strcmp(op->name, ACL_ACCESS) == 0 && macl_is_mode(op->data, op->dlen))
            xattr_del(i, op->name);          /* says nothing that the mode does not */
        else
            xattr_set(i, op->name, op->data, op->dlen);
    } else {
        xattr_del(i, op->name);
    }
    end(m, op, i, false);
}

static void do_snapshot(struct model *m, const struct mop *op)
{
    size_t at = 0;
    while (at < m->n_snap && strcmp(m->snap[at].name, op->name) != 0)
        at++;
    if (op->flags == M_SNAP_CREATE) {
        m->snap = m_grow(m->snap, &m->cap_snap, m->n_snap + 1, sizeof *m->snap);
        memset(&m->snap[m->n_snap], 0, sizeof *m->snap);
        memcpy(m->snap[m->n_snap++].name, op->name, sizeof op->name);
    } else if (op->flags == M_SNAP_DELETE) {
        m->snap[at] = m->snap[--m->n_snap];
    } else {
        m->snap[at].held = op->flags == M_SNAP_HOLD;
    }
}

void model_reap_all(struct model *m)
{
    for (size_t k = m->n_ino; k-- > 0;)
        if (m->ino[k]->a.nlink == 0)
            ino_drop(m, m->ino[k]->a.ino);
}

uint64_t model_do(struct model *m, const struct mop *op)
{
    switch (op->kind) {
    case MOP_CREATE: do_create(m, op); break;
    case MOP_LINK: do_link(m, op); break;
    case MOP_UNLINK:
    case MOP_RMDIR: do_unlink(m, op); break;
    case MOP_RENAME: do_rename(m, op); break;
    case MOP_SETATTR: do_setattr(m, op); break;
    case MOP_WRITE: do_write(m, op); break;
    case MOP_FALLOCATE: do_fallocate(m, op); break;
    case MOP_CLONE: return do_clone(m, op);
    case MOP_SETXATTR:
    case MOP_REMOVEXATTR: do_xattr(m, op); break;
    case MOP_SNAPSHOT: do_snapshot(m, op); break;
    case MOP_SERIES: m->series = op->flags != 0; break;
    case MOP_REAP:
        if (op->ino != 0)
            ino_drop(m, op->ino);
        else
            model_reap_all(m);
        break;
    case MOP_N_KINDS: break;
    }
    return 0;
}
