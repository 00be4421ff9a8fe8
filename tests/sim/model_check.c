/* model_check.c: which errors an operation deserves. POSIX leaves the order open: all that apply are listed. */
#include "tests/sim/model_internal.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

static void wrong(struct merrs *e, int eno)
{
    if (e->n < (int)(sizeof e->e / sizeof e->e[0]))
        e->e[e->n++] = eno;
}

/* A directory that names can be looked up in; NULL (and an error) otherwise. */
static const struct mino *dir_of(const struct model *m, uint64_t ino, struct merrs *e)
{
    const struct mino *d = model_find(m, ino);
    if (d == NULL) {
        wrong(e, ESTALE);
        return NULL;
    }
    if (!S_ISDIR(d->a.mode)) {
        wrong(e, ENOTDIR);
        return NULL;
    }
    return d;
}

static const struct mino *find(const struct model *m, uint64_t ino, struct merrs *e)
{
    const struct mino *i = model_find(m, ino);
    if (i == NULL)
        wrong(e, ESTALE);
    return i;
}

/* A regular file, for content. */
static const struct mino *file_of(const struct model *m, uint64_t ino, struct merrs *e)
{
    const struct mino *i = find(m, ino, e);
    if (i == NULL)
        return NULL;
    if (S_ISDIR(i->a.mode)) {
        wrong(e, EISDIR);
        wrong(e, EINVAL);        /* ftruncate(2), copy_file_range(2), fallocate(2) have it so */
        return NULL;
    }
    if (!S_ISREG(i->a.mode)) {
        wrong(e, EINVAL);
        return NULL;
    }
    return i;
}

static void new_name(const struct model *m, uint64_t parent, const char *name, uint32_t nlen, struct merrs *e)
{
    const struct mino *d = dir_of(m, parent, e);
    if (nlen > 255)
        wrong(e, ENAMETOOLONG);
    if (d == NULL)
        return;
    if (d->a.nlink == 0)
        wrong(e, ENOENT);
    if (model_entry(d, name, nlen) != NULL)
        wrong(e, EEXIST);
}

static void check_unlink(const struct model *m, const struct mop *op, struct merrs *e)
{
    const struct mino *d = dir_of(m, op->parent, e);
    const struct mdent *n = d != NULL ? model_entry(d, op->name, op->nlen) : NULL;
    if (op->nlen > 255)
        wrong(e, ENAMETOOLONG);
    if (d == NULL)
        return;
    if (n == NULL) {
        wrong(e, ENOENT);
        return;
    }
    const struct mino *i = model_find(m, n->ino);
    bool dir = S_ISDIR(i->a.mode);
    if (op->kind == MOP_RMDIR && !dir)
        wrong(e, ENOTDIR);
    if (op->kind == MOP_UNLINK && dir)
        wrong(e, EISDIR);
    if (op->kind == MOP_RMDIR && dir && i->n_ent > 0)
        wrong(e, ENOTEMPTY);
}

/* A directory that is hidden does not go where it would not be: what is in it would have no history there. */
static bool stays(const struct mino *what, const struct mino *dir, bool by_name)
{
    return S_ISDIR(what->a.mode) && what->hidden && !by_name && !dir->hidden && model_xattr(dir, M_NOHISTORY) == NULL;
}

static void check_rename(const struct model *m, const struct mop *op, struct merrs *e)
{
    const struct mino *sd = dir_of(m, op->parent, e), *dd = dir_of(m, op->parent2, e);
    if (op->nlen > 255 || op->nlen2 > 255)
        wrong(e, ENAMETOOLONG);
    if (op->flags > M_EXCHANGE)
        wrong(e, EINVAL);
    if (sd != NULL && dd == NULL && model_entry(sd, op->name, op->nlen) == NULL)
        wrong(e, ENOENT);                /* both are true */
    if (sd == NULL || dd == NULL)
        return;
    const struct mdent *s = model_entry(sd, op->name, op->nlen), *d = model_entry(dd, op->name2, op->nlen2);
    if (s == NULL || dd->a.nlink == 0 || ((op->flags & M_EXCHANGE) && d == NULL))
        wrong(e, ENOENT);
    if ((op->flags & M_NOREPLACE) && d != NULL)
        wrong(e, EEXIST);
    if (s == NULL)
        return;
    const struct mino *src = model_find(m, s->ino), *dst = d != NULL ? model_find(m, d->ino) : NULL;
    if (S_ISDIR(src->a.mode) && model_below(m, op->parent2, s->ino))
        wrong(e, EINVAL);
    if (dst == src)
        return;
    if (stays(src, dd, op->by_name) || (dst != NULL && (op->flags & M_EXCHANGE) && stays(dst, sd, op->by_name2)))
        wrong(e, EXDEV);
    if (dst == NULL)
        return;
    bool exchange = (op->flags & M_EXCHANGE) != 0, sdir = S_ISDIR(src->a.mode), ddir = S_ISDIR(dst->a.mode);
    if (exchange && ddir && model_below(m, op->parent, dst->a.ino))
        wrong(e, EINVAL);
    if (exchange)
        return;
    if (sdir && !ddir)
        wrong(e, ENOTDIR);
    if (!sdir && ddir)
        wrong(e, EISDIR);
    if (ddir && dst->n_ent > 0)
        wrong(e, ENOTEMPTY);
}

static void check_range(uint64_t off, uint64_t len, struct merrs *e)
{
    if (off + len < off || off + len > M_SIZE_MAX)
        wrong(e, EFBIG);
}

static void check_setattr(const struct model *m, const struct mop *op, struct merrs *e)
{
    if (op->valid == 0 || !(op->valid & M_SIZE)) {
        (void)find(m, op->ino, e);
        return;
    }
    if (file_of(m, op->ino, e) != NULL)
        check_range(0, op->size, e);
}

static void check_fallocate(const struct model *m, const struct mop *op, struct merrs *e)
{
    const struct mino *i = file_of(m, op->ino, e);
    if (op->len == 0)
        wrong(e, EINVAL);
    if ((op->flags & M_PUNCH) && op->flags != (M_PUNCH | M_KEEP_SIZE)) {
        wrong(e, EOPNOTSUPP);
        wrong(e, EINVAL);
    }
    if (i != NULL)
        check_range(op->off, op->len, e);
}

static void check_clone(const struct model *m, const struct mop *op, struct merrs *e)
{
    if (op->src_at != M_LIVE && op->dlen == 0) {
        check_range(op->off, 0, e);
        return;                  /* nothing there to take: 0 bytes, whatever the target is */
    }
    (void)file_of(m, op->ino, e);
    uint64_t len = op->dlen;
    if (op->src_at == M_LIVE) {
        const struct mino *src = file_of(m, op->src_ino, e);
        if (src == NULL)
            return;
        uint64_t left = op->src_off < src->a.size ? src->a.size - op->src_off : 0;
        len = op->len < left ? op->len : left;
        if (op->src_ino == op->ino && op->src_off < op->off + len && op->off < op->src_off + len)
            wrong(e, EINVAL);    /* copy_file_range(2) */
    }
    check_range(op->off, len, e);
}

static bool prefix(const char *s, const char *p) { return strncmp(s, p, strlen(p)) == 0; }

static void check_xattr(const struct model *m, const struct mop *op, struct merrs *e)
{
    const struct mino *i = find(m, op->ino, e);
    bool acl = strcmp(op->name, "system.posix_acl_access") == 0 || strcmp(op->name, "system.posix_acl_default") == 0;
    if (!acl && !prefix(op->name, "user.") && !prefix(op->name, "trusted.") && !prefix(op->name, "security."))
        wrong(e, EOPNOTSUPP);
    if (strlen(op->name) > 255)
        wrong(e, ERANGE);
    if (i == NULL)
        return;
    const struct mxattr *x = model_xattr(i, op->name);
    if (op->kind == MOP_REMOVEXATTR) {
        if (x == NULL)
            wrong(e, ENODATA);
        return;
    }
    if ((op->flags & M_XCREATE) && x != NULL)
        wrong(e, EEXIST);
    if ((op->flags & M_XREPLACE) && x == NULL)
        wrong(e, ENODATA);
    if (strcmp(op->name, "system.posix_acl_access") == 0 && !macl_valid(op->data, op->dlen))
        wrong(e, EINVAL);
    if (acl && S_ISLNK(i->a.mode))
        wrong(e, EOPNOTSUPP);
}

static void check_snapshot(const struct model *m, const struct mop *op, struct merrs *e)
{
    const struct msnap *s = NULL;
    for (size_t k = 0; k < m->n_snap; k++)
        if (strcmp(m->snap[k].name, op->name) == 0)
            s = &m->snap[k];
    if (op->flags == M_SNAP_CREATE && s != NULL)
        wrong(e, EEXIST);
    if (op->flags != M_SNAP_CREATE && s == NULL)
        wrong(e, ENOENT);
    if (op->flags == M_SNAP_DELETE && s != NULL && s->held)
        wrong(e, EBUSY);
}

void model_check(const struct model *m, const struct mop *op, struct merrs *e)
{
    const struct mino *i;
    e->n = 0;
    switch (op->kind) {
    case MOP_CREATE:
        new_name(m, op->parent, op->name, op->nlen, e);
        break;
    case MOP_LINK:
        i = find(m, op->ino, e);
        if (i != NULL && S_ISDIR(i->a.mode))
            wrong(e, EPERM);
        new_name(m, op->parent, op->name, op->nlen, e);
        break;
    case MOP_UNLINK:
    case MOP_RMDIR:
        check_unlink(m, op, e);
        break;
    case MOP_RENAME:
        check_rename(m, op, e);
        break;
    case MOP_SETATTR:
        check_setattr(m, op, e);
        break;
    case MOP_WRITE:
        if (op->dlen == 0)
            break;
        if (file_of(m, op->ino, e) != NULL && op->off != M_APPEND)
            check_range(op->off, op->dlen, e);
        else if (e->n == 0)
            check_range(model_find(m, op->ino)->a.size, op->dlen, e);
        break;
    case MOP_FALLOCATE:
        check_fallocate(m, op, e);
        break;
    case MOP_CLONE:
        check_clone(m, op, e);
        break;
    case MOP_SETXATTR:
    case MOP_REMOVEXATTR:
        check_xattr(m, op, e);
        break;
    case MOP_SNAPSHOT:
        check_snapshot(m, op, e);
        break;
    case MOP_SERIES:
        if (m->series == (op->flags != 0))
            wrong(e, EBUSY), wrong(e, EINVAL), wrong(e, ENOENT);
        break;
    case MOP_REAP:
    case MOP_N_KINDS:
        break;
    }
}
