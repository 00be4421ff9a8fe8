/* ops_attr.c: attributes and extended attributes. */
#include "store/core/core_internal.h"

#include <string.h>
#include <sys/stat.h>

#define ACL_ACCESS  "system.posix_acl_access"
#define ACL_DEFAULT "system.posix_acl_default"
enum { XATTR_FLAG_CREATE = 1, XATTR_FLAG_REPLACE = 2 };

static int setattr_checks(const struct setattr_in *in, const struct row_ino *row)
{
    if (in->valid & RSA_SIZE) {
        if (S_ISDIR(row->mode))
            return ERR_ISDIR;
        if (!S_ISREG(row->mode))
            return ERR_INVAL;
        if (in->size > FILE_SIZE_MAX)
            return ERR_FBIG;
    }
    if (((in->valid & RSA_ATIME) && in->atime.nsec != TIME_NOW && in->atime.nsec > 999999999) ||
        ((in->valid & RSA_MTIME) && in->mtime.nsec != TIME_NOW && in->mtime.nsec > 999999999))
        return ERR_INVAL;
    return 0;
}

/* A time as given, or the record's own clock. */
static void time_of(struct record *rec, uint32_t asked, uint32_t bit, uint32_t now_bit, const struct rec_time *in,
                    struct rec_time *out)
{
    if (!(asked & bit))
        return;
    if (in->nsec == TIME_NOW)
        rec->u.setattr.valid = (rec->u.setattr.valid & ~bit) | now_bit;
    else
        *out = *in;
}

int store_setattr(struct store *s, const struct caller *c, uint64_t ino, const struct setattr_in *in, struct row_ino *row,
                  struct wait *wait)
{
    struct crow *r = NULL;
    struct record rec = { .type = REC_SETATTR, .ino = ino };
    if ((in->valid & RSA_ALL) == 0)
        return row != NULL ? store_getattr(s, AT_LIVE, ino, row, wait) : 0;
    int rc = change_begin(s, wait);
    if (rc < 0)
        return rc;
    rc = change_ino(s, ino, &r);
    if (rc == 0)
        rc = setattr_checks(in, &r->u.ino.row);
    if (rc < 0)
        return change_abort(s, rc);
    rec.u.setattr.valid = in->valid & RSA_ALL;
    time_of(&rec, in->valid, RSA_ATIME, RSA_ATIME_NOW, &in->atime, &rec.u.setattr.atime);
    time_of(&rec, in->valid, RSA_MTIME, RSA_MTIME_NOW, &in->mtime, &rec.u.setattr.mtime);
    rec.u.setattr.mode = in->valid & RSA_MODE ? in->mode & 07777 : 0;
    rec.u.setattr.uid = in->valid & RSA_UID ? in->uid : 0;
    rec.u.setattr.gid = in->valid & RSA_GID ? in->gid : 0;
    rec.u.setattr.size = in->valid & RSA_SIZE ? in->size : 0;
    /* what is cut to nothing was a version: `> file` twice in a second is two of them */
    if ((in->valid & RSA_SIZE) && in->size == 0 && r->u.ino.row.size > 0)
        rec.flags |= RECF_NEW_BURST;
    return change_commit_row(s, c, &rec, NULL, ino, row);
}

static bool is(const char *name, const char *what)
{
    return strcmp(name, what) == 0;
}

static int xattr_name_ok(const char *name)
{
    size_t n = strlen(name);
    if (n == 0 || n > REC_NAME_MAX)
        return ERR_RANGE;
    if (strncmp(name, "user.", 5) != 0 && strncmp(name, "trusted.", 8) != 0 && strncmp(name, "security.", 9) != 0 &&
        !is(name, ACL_ACCESS) && !is(name, ACL_DEFAULT))
        return ERR_NOTSUP;
    return 0;
}

/* An ACL of owner, group and others alone says what the mode says. */
enum { ACL_MINIMAL_BYTES = 4 + 3 * 8 };

int store_setxattr(struct store *s, const struct caller *c, uint64_t ino, const char *name, const void *val, size_t len,
                   uint32_t flags, bool acl_kill_sgid, struct wait *wait)
{
    struct crow *r = NULL, *x = NULL;
    struct record rec = { .type = REC_SETXATTR, .ino = ino };
    bool access = is(name, ACL_ACCESS);
    uint32_t mode = REC_NO_MODE;
    int rc = xattr_name_ok(name);
    if (rc == 0 && len > REC_XATTR_MAX)
        rc = ERR_TOOLONG;
    if (rc < 0 || (rc = change_begin(s, wait)) < 0)
        return rc;
    rc = change_ino(s, ino, &r);
    if (rc == 0)
        rc = cache_xat(&s->ix.cache, ino, name, strlen(name), &x, NULL);
    if (rc == 0 && (flags & XATTR_FLAG_CREATE) && x->present)
        rc = ERR_EXIST;
    if (rc == 0 && (flags & XATTR_FLAG_REPLACE) && !x->present)
        rc = ERR_NODATA;
    if (rc == 0 && access) {
        mode = r->u.ino.row.mode & 07777;
        if (!acl_mode(val, len, &mode))
            rc = ERR_INVAL;
        if (acl_kill_sgid)
            mode &= ~(uint32_t)S_ISGID;
    }
    if (rc < 0)
        return change_abort(s, rc);
    if (access && len == ACL_MINIMAL_BYTES && !x->present) {
        rec.type = REC_SETATTR;
        rec.u.setattr.valid = RSA_MODE;
        rec.u.setattr.mode = mode;
        return change_commit(s, c, &rec, NULL);
    }
    if (access && len == ACL_MINIMAL_BYTES)
        rec.type = REC_REMOVEXATTR;
    rec.u.xattr.flags = flags;
    rec.u.xattr.mode = mode;
    rec.u.xattr.name = rec_bytes_of(name, strlen(name));
    if (rec.type == REC_SETXATTR)
        rec.u.xattr.value = rec_bytes_of(val, len);
    return change_commit(s, c, &rec, NULL);
}

int store_removexattr(struct store *s, const struct caller *c, uint64_t ino, const char *name, struct wait *wait)
{
    struct crow *r = NULL, *x = NULL;
    struct record rec = { .type = REC_REMOVEXATTR, .ino = ino };
    int rc = xattr_name_ok(name);
    if (rc < 0 || (rc = change_begin(s, wait)) < 0)
        return rc;
    rc = change_ino(s, ino, &r);
    if (rc == 0)
        rc = cache_xat(&s->ix.cache, ino, name, strlen(name), &x, NULL);
    if (rc == 0 && !x->present)
        rc = ERR_NODATA;
    if (rc < 0)
        return change_abort(s, rc);
    rec.u.xattr.mode = REC_NO_MODE;
    rec.u.xattr.name = rec_bytes_of(name, strlen(name));
    return change_commit(s, c, &rec, NULL);
}
