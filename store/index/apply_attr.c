/* apply_attr.c: attributes, extended attributes, ACLs, and what a change of content does to privileges. */
#include "store/index/apply_internal.h"

#include <string.h>
#include <sys/stat.h>

#define XATTR_ACL "system.posix_acl_access"
#define XATTR_CAP "security.capability"

/* The kernel's xattr form of a POSIX ACL: le32 version 2, then {le16 tag, le16 perm, le32 id}. */
enum { ACL_USER_OBJ = 0x01, ACL_GROUP_OBJ = 0x04, ACL_MASK = 0x10, ACL_OTHER = 0x20 };

static bool acl_valid(size_t len)
{
    return len >= 4 && (len - 4) % 8 == 0;
}

static uint32_t acl_find(const uint8_t *val, size_t len, unsigned tag)
{
    for (size_t i = 4; i + 8 <= len; i += 8)
        if (((unsigned)val[i] | (unsigned)val[i + 1] << 8) == tag)
            return (uint32_t)i;
    return 0;
}

bool acl_mode(const uint8_t *val, size_t len, uint32_t *mode)
{
    if (!acl_valid(len) || get_u32(val) != 2)
        return false;
    uint32_t u = acl_find(val, len, ACL_USER_OBJ), g = acl_find(val, len, ACL_MASK), o = acl_find(val, len, ACL_OTHER);
    if (g == 0)
        g = acl_find(val, len, ACL_GROUP_OBJ);
    if (u == 0 || g == 0 || o == 0)
        return false;
    *mode = (*mode & ~0777u) | (uint32_t)(val[u + 2] & 7) << 6 | (uint32_t)(val[g + 2] & 7) << 3 | (uint32_t)(val[o + 2] & 7);
    return true;
}

/* chmod of a file that has an access ACL: owner, mask (or group) and other entries follow the mode. */
static void acl_chmod(uint8_t *val, size_t len, uint32_t mode)
{
    uint32_t u = acl_find(val, len, ACL_USER_OBJ), g = acl_find(val, len, ACL_MASK), o = acl_find(val, len, ACL_OTHER);
    if (g == 0)
        g = acl_find(val, len, ACL_GROUP_OBJ);
    if (u != 0)
        val[u + 2] = (uint8_t)(mode >> 6 & 7);
    if (g != 0)
        val[g + 2] = (uint8_t)(mode >> 3 & 7);
    if (o != 0)
        val[o + 2] = (uint8_t)(mode & 7);
}

static void xattr_history(struct apply *a, const struct crow *ino, const struct crow *x)
{
    uint8_t key[KV_KEY_MAX], val[REC_XATTR_MAX + 64];
    if (!x->present || !apply_kept(a, ino, x->u.xat.birth) || x->val_len > REC_XATTR_MAX)
        return;
    size_t vlen = row_xat_encode(x->u.xat.birth, x->u.xat.val, x->val_len, val, sizeof val);
    apply_put(a, key, key_xat_h(key, x->ino, x->name, x->name_len, a->lsn), val, vlen);
}

/* Attributes that the inode's row knows of: the bit, or 0. */
static uint32_t flag_of(const struct crow *ino, const void *name, size_t nlen)
{
    if (nlen == sizeof XATTR_ACL - 1 && memcmp(name, XATTR_ACL, nlen) == 0)
        return INOF_HAS_ACL;
    if (S_ISDIR(ino->u.ino.row.mode) && nlen == sizeof REC_XATTR_NOHISTORY - 1 && memcmp(name, REC_XATTR_NOHISTORY, nlen) == 0)
        return INOF_NOHISTORY;
    return 0;
}

int apply_put_xattr(struct apply *a, struct crow *ino, const struct rec_bytes *name, const struct rec_bytes *value)
{
    struct crow *x = NULL;
    int rc = cache_xat(&a->ix->cache, ino->ino, name->p, name->len, &x, a->err);
    if (rc < 0)
        return rc;
    xattr_history(a, ino, x);
    ino->u.ino.row.n_xattr += !x->present;
    ino->u.ino.row.flags |= flag_of(ino, name->p, name->len);
    if (cache_set_val(&a->ix->cache, x, value->p, value->len) < 0)
        return err_set(a->err, ERR_NOMEM, "index: out of memory");
    x->present = true;
    x->u.xat.birth = a->lsn;
    cache_dirty(&a->ix->cache, x, a->lsn);
    return 0;
}

int apply_del_xattr(struct apply *a, struct crow *ino, const void *name, size_t nlen)
{
    struct crow *x = NULL;
    int rc = cache_xat(&a->ix->cache, ino->ino, name, nlen, &x, a->err);
    if (rc < 0)
        return rc;
    if (!x->present)
        return 0;
    xattr_history(a, ino, x);
    if (ino->u.ino.row.n_xattr == 0)
        return apply_damage(a, "attribute count below zero", ino->ino);
    ino->u.ino.row.n_xattr--;
    ino->u.ino.row.flags &= ~flag_of(ino, name, nlen);
    (void)cache_set_val(&a->ix->cache, x, NULL, 0);
    x->present = false;
    cache_dirty(&a->ix->cache, x, a->lsn);
    return 0;
}

/* One of those that go: a row in memory says so with the next drain, one that is only in the key-value store goes by its key. */
static void drop_xattr(struct apply *a, const struct crow *ino, const void *name, size_t nlen, uint64_t birth)
{
    uint8_t key[KV_KEY_MAX];
    struct crow *x = cache_peek(&a->ix->cache, CROW_XAT, ino->ino, 0, 0, name, nlen);
    if (x == NULL) {
        if (!apply_kept(a, ino, birth))
            apply_del(a, key, key_xat(key, ino->ino, name, nlen));
    } else if (x->present && !apply_kept(a, ino, x->u.xat.birth)) {
        (void)cache_set_val(&a->ix->cache, x, NULL, 0);
        x->present = false;
        cache_dirty(&a->ix->cache, x, a->lsn);
    }
}

int apply_drop_xattrs(struct apply *a, struct crow *ino)
{
    struct kv *kv = a->ix->kv;
    uint8_t lo[KV_KEY_MAX], hi[KV_KEY_MAX];
    if (ino->u.ino.row.n_xattr == 0)
        return 0;
    /* Those that are not in the key-value store yet; the lists grow at their heads, which is behind us. */
    for (struct crow *x = a->ix->cache.dirty; x != NULL; x = x->dirty_next)
        if (x->kind == CROW_XAT && x->ino == ino->ino)
            drop_xattr(a, ino, x->name, x->name_len, 0);
    for (struct crow *x = a->ix->cache.draining; x != NULL; x = x->drain_next)
        if (x->kind == CROW_XAT && x->ino == ino->ino)
            drop_xattr(a, ino, x->name, x->name_len, 0);
    size_t llen = key_xat(lo, ino->ino, "", 0), hlen = key_xat(hi, ino->ino + 1, "", 0);
    struct kv_iter *it = kv->ops->iter_new(kv, NULL, lo, llen, hi, hlen);
    int rc = it != NULL ? 0 : err_set(a->err, ERR_NOMEM, "index: out of memory");
    for (rc == 0 ? kv->ops->iter_seek(it, lo, llen) : (void)0; rc == 0 && kv->ops->iter_valid(it); kv->ops->iter_next(it)) {
        size_t klen, vlen, len;
        struct key_parts k;
        uint64_t birth;
        const uint8_t *key = kv->ops->iter_key(it, &klen), *val = kv->ops->iter_val(it, &vlen), *p;
        rc = key_parse(key, klen, &k) ? row_xat_decode(val, vlen, &birth, &p, &len, a->err) : apply_damage(a, "the key of an attribute cannot be read", ino->ino);
        if (rc == 0)
            drop_xattr(a, ino, k.name, k.name_len, birth);
    }
    if (rc == 0)
        rc = kv->ops->iter_err(it, a->err);
    if (it != NULL)
        kv->ops->iter_free(it);
    return rc;
}

int apply_kill_priv(struct apply *a, struct crow *ino)
{
    struct row_ino *row = &ino->u.ino.row;
    if (S_ISDIR(row->mode))              /* a directory's setgid is no privilege */
        return 0;
    if (a->rec->flags & RECF_KILL_PRIV) {
        row->mode &= ~(uint32_t)S_ISUID;
        if (row->mode & S_IXGRP)
            row->mode &= ~(uint32_t)S_ISGID;
    }
    return row->n_xattr == 0 ? 0 : apply_del_xattr(a, ino, XATTR_CAP, sizeof XATTR_CAP - 1);
}

static int chmod_acl(struct apply *a, struct crow *ino)
{
    struct crow *x = NULL;
    int rc = cache_xat(&a->ix->cache, ino->ino, XATTR_ACL, sizeof XATTR_ACL - 1, &x, a->err);
    if (rc < 0 || !x->present || !acl_valid(x->val_len))
        return rc;
    xattr_history(a, ino, x);
    acl_chmod(x->u.xat.val, x->val_len, ino->u.ino.row.mode);
    x->u.xat.birth = a->lsn;
    cache_dirty(&a->ix->cache, x, a->lsn);
    return 0;
}

int apply_setattr(struct apply *a)
{
    const struct record *rec = a->rec;
    uint32_t valid = rec->u.setattr.valid;
    struct crow *r = NULL;
    int rc = apply_touch(a, rec->ino, &r);
    if (rc < 0)
        return rc;
    struct row_ino *row = &r->u.ino.row;
    row->ctime = a->now;
    if (valid & RSA_UID)
        row->uid = rec->u.setattr.uid;
    if (valid & RSA_GID)
        row->gid = rec->u.setattr.gid;
    if (valid & RSA_SIZE) {
        row->mtime = a->now;
        rc = apply_resize(a, r, rec->u.setattr.size);
    }
    if (rc == 0 && (valid & (RSA_UID | RSA_GID | RSA_SIZE)))
        rc = apply_kill_priv(a, r);
    if (rc < 0)
        return rc;
    if (valid & RSA_MODE) {
        row->mode = (row->mode & S_IFMT) | (rec->u.setattr.mode & 07777);
        if (row->flags & INOF_HAS_ACL)
            rc = chmod_acl(a, r);
    }
    if (valid & (RSA_ATIME | RSA_ATIME_NOW))
        row->atime = valid & RSA_ATIME ? rec->u.setattr.atime : a->now;
    if (valid & (RSA_MTIME | RSA_MTIME_NOW))
        row->mtime = valid & RSA_MTIME ? rec->u.setattr.mtime : a->now;
    return rc;
}

/* The mode bits an access ACL brings with it. */
static void set_mode(struct apply *a, struct crow *ino)
{
    if (a->rec->u.xattr.mode != REC_NO_MODE)
        ino->u.ino.row.mode = (ino->u.ino.row.mode & S_IFMT) | (a->rec->u.xattr.mode & 07777);
}

int apply_setxattr(struct apply *a)
{
    const struct record *rec = a->rec;
    struct crow *r = NULL;
    int rc = apply_touch(a, rec->ino, &r);
    if (rc < 0)
        return rc;
    r->u.ino.row.ctime = a->now;
    set_mode(a, r);
    return apply_put_xattr(a, r, &rec->u.xattr.name, &rec->u.xattr.value);
}

int apply_removexattr(struct apply *a)
{
    struct crow *r = NULL;
    int rc = apply_touch(a, a->rec->ino, &r);
    if (rc < 0)
        return rc;
    r->u.ino.row.ctime = a->now;
    set_mode(a, r);
    return apply_del_xattr(a, r, a->rec->u.xattr.name.p, a->rec->u.xattr.name.len);
}
