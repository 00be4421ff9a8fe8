/* ops_names.c: operations on names: create, link, unlink, rename, reap. */
#include "store/core/core_internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define ACL_ACCESS  "system.posix_acl_access"
#define ACL_DEFAULT "system.posix_acl_default"
enum { LINK_MAX_NLINK = 1000000 };

/* ---- create ---- */

/* What a new object inherits from its directory: group, and the default ACL instead of the umask. */
struct inherit {
    uint32_t mode, gid;
    uint8_t *access;                     /* access ACL, malloced, or NULL */
    struct crow *def;                    /* row of the directory's default ACL, or NULL */
};

/* Masks ${mode} by the default ACL, and the ACL by the mode (posix_acl_create in acl(5) terms). Returns true if the
 * result says more than mode bits can. */
static bool acl_inherit(uint8_t *acl, size_t len, uint32_t *mode)
{
    uint32_t perm = 0, group = 0, mask = 0;
    bool extended = false;
    for (size_t i = 4; i + 8 <= len; i += 8) {
        unsigned tag = acl[i];
        if (tag == 0x01)
            perm |= (uint32_t)(acl[i + 2] &= (uint8_t)(*mode >> 6 & 7)) << 6;
        else if (tag == 0x20)
            perm |= acl[i + 2] &= (uint8_t)(*mode & 7);
        else if (tag == 0x04)
            group = (uint32_t)i;
        else if (tag == 0x10)
            mask = (uint32_t)i;
        else
            extended = true;
    }
    if (mask != 0) {
        acl[mask + 2] &= (uint8_t)(*mode >> 3 & 7);
        perm |= (uint32_t)acl[mask + 2] << 3;
    } else if (group != 0) {
        acl[group + 2] &= (uint8_t)(*mode >> 3 & 7);
        perm |= (uint32_t)acl[group + 2] << 3;
    }
    *mode = (*mode & ~0777u) | perm;
    return extended || mask != 0;
}

static int inherit(struct store *s, const struct caller *c, const struct crow *dir, uint32_t mode, struct inherit *in)
{
    uint32_t probe = 0;
    in->mode = mode;
    in->gid = c->gid;
    in->access = NULL;
    in->def = NULL;
    if (dir->u.ino.row.mode & S_ISGID) {
        in->gid = dir->u.ino.row.gid;
        if (S_ISDIR(mode))
            in->mode |= S_ISGID;
    }
    if (dir->u.ino.row.n_xattr > 0 && !S_ISLNK(mode)) {
        int rc = cache_xat(&s->ix.cache, dir->ino, ACL_DEFAULT, sizeof ACL_DEFAULT - 1, &in->def, NULL);
        if (rc < 0)
            return rc;
        if (!in->def->present || !acl_mode(in->def->u.xat.val, in->def->val_len, &probe))
            in->def = NULL;
    }
    if (in->def == NULL) {
        if (!S_ISLNK(mode))
            in->mode &= ~(c->umask & 0777u);
        return 0;
    }
    in->access = malloc(in->def->val_len);
    if (in->access == NULL)
        return ERR_NOMEM;
    memcpy(in->access, in->def->u.xat.val, in->def->val_len);
    if (!acl_inherit(in->access, in->def->val_len, &in->mode)) {
        free(in->access);
        in->access = NULL;
    }
    return 0;
}

/* The flag of a record that gives this name: what it is of is not of the past. */
static uint16_t by_name(const struct store *s, const char *name, size_t nlen, unsigned flag)
{
    return nohistory_has(&s->nohistory, name, nlen) ? (uint16_t)flag : 0;
}

static int create_checks(struct store *s, uint64_t parent, const char *name, size_t nlen, uint32_t mode, const char *target,
                         struct crow **dir)
{
    struct crow *den = NULL;
    if (S_ISLNK(mode) != (target != NULL))
        return ERR_INVAL;
    if (target != NULL && target[0] == '\0')
        return ERR_NOENT;
    if (target != NULL && strlen(target) > REC_SYMLINK_MAX)
        return ERR_NAMETOOLONG;
    if (!S_ISREG(mode) && !S_ISDIR(mode) && !S_ISLNK(mode) && !S_ISCHR(mode) && !S_ISBLK(mode) && !S_ISFIFO(mode) && !S_ISSOCK(mode))
        return ERR_INVAL;
    int rc = change_dir(s, parent, dir);
    if (rc == 0)
        rc = change_name(s, parent, name, nlen, &den);
    if (rc == 0 && den->present)
        rc = ERR_EXIST;
    if (rc == 0 && S_ISDIR(mode) && (*dir)->u.ino.row.nlink >= LINK_MAX_NLINK * 1000u)
        rc = ERR_MLINK;
    if (rc == 0 && s->ix.meta.next_ino > INO_MAX)
        rc = ERR_NOSPC;
    return rc;
}

int store_create_node(struct store *s, const struct caller *c, uint64_t parent, const char *name, size_t nlen,
                      uint32_t mode, uint32_t rdev, const char *target, uint64_t *ino, struct row_ino *row, struct wait *wait)
{
    struct inherit in = { 0 };
    struct crow *dir = NULL;
    struct record rec = { .type = REC_CREATE };
    int rc = change_begin(s, wait);
    if (rc < 0)
        return rc;
    rc = create_checks(s, parent, name, nlen, mode, target, &dir);
    if (rc == 0)
        rc = inherit(s, c, dir, mode, &in);
    if (rc < 0) {
        free(in.access);
        return change_abort(s, rc);
    }
    rec.flags = by_name(s, name, nlen, RECF_NOHISTORY);
    rec.ino = *ino = s->ix.meta.next_ino;
    rec.u.create.parent = parent;
    rec.u.create.mode = in.mode;
    rec.u.create.uid = c->uid;
    rec.u.create.gid = in.gid;
    rec.u.create.rdev = S_ISCHR(mode) || S_ISBLK(mode) ? rdev : 0;
    rec.u.create.name = rec_bytes_of(name, nlen);
    rec.u.create.target = rec_bytes_of(target, target != NULL ? strlen(target) : 0);
    if (in.access != NULL)
        rec.u.create.xattr[rec.u.create.n_xattr++] = (struct rec_xattr){
            rec_bytes_of(ACL_ACCESS, sizeof ACL_ACCESS - 1), rec_bytes_of(in.access, in.def->val_len) };
    if (in.def != NULL && S_ISDIR(mode))
        rec.u.create.xattr[rec.u.create.n_xattr++] = (struct rec_xattr){
            rec_bytes_of(ACL_DEFAULT, sizeof ACL_DEFAULT - 1), rec_bytes_of(in.def->u.xat.val, in.def->val_len) };
    rc = change_commit_row(s, c, &rec, NULL, rec.ino, row);
    free(in.access);
    return rc;
}

/* ---- link, unlink ---- */

int store_link_node(struct store *s, const struct caller *c, uint64_t ino, uint64_t parent, const char *name, size_t nlen,
                    struct row_ino *row, struct wait *wait)
{
    struct crow *dir = NULL, *den = NULL, *r = NULL;
    int rc = change_begin(s, wait);
    if (rc < 0)
        return rc;
    rc = change_ino(s, ino, &r);
    if (rc == 0 && S_ISDIR(r->u.ino.row.mode))
        rc = ERR_PERM;
    if (rc == 0 && r->u.ino.row.nlink >= LINK_MAX_NLINK)
        rc = ERR_MLINK;
    if (rc == 0)
        rc = change_dir(s, parent, &dir);
    if (rc == 0)
        rc = change_name(s, parent, name, nlen, &den);
    if (rc == 0 && den->present)
        rc = ERR_EXIST;
    if (rc < 0)
        return change_abort(s, rc);
    struct record rec = { .type = REC_LINK, .ino = ino };
    if (r->u.ino.row.hidden != 0)        /* else it has a past, whatever its second name */
        rec.flags = by_name(s, name, nlen, RECF_NOHISTORY);
    rec.u.link.parent = parent;
    rec.u.link.name = rec_bytes_of(name, nlen);
    return change_commit_row(s, c, &rec, NULL, ino, row);
}

int store_unlink(struct store *s, const struct caller *c, uint64_t parent, const char *name, size_t nlen, bool dir,
                 uint64_t *gone, struct wait *wait)
{
    struct crow *p = NULL, *den = NULL, *r = NULL;
    int rc = change_begin(s, wait);
    if (rc < 0)
        return rc;
    rc = change_dir(s, parent, &p);
    if (rc == 0)
        rc = change_name(s, parent, name, nlen, &den);
    if (rc == 0 && !den->present)
        rc = ERR_NOENT;
    if (rc == 0)
        rc = change_ino(s, den->u.den.ino, &r);
    if (rc == 0 && dir != (S_ISDIR(r->u.ino.row.mode) != 0))
        rc = dir ? ERR_NOTDIR : ERR_ISDIR;
    if (rc == 0 && dir && r->u.ino.row.entries > 0)
        rc = ERR_NOTEMPTY;
    if (rc < 0)
        return change_abort(s, rc);
    struct record rec = { .type = REC_UNLINK, .ino = r->ino };
    rec.u.link.parent = parent;
    rec.u.link.name = rec_bytes_of(name, nlen);
    bool last = dir || r->u.ino.row.nlink == 1;
    rc = change_commit(s, c, &rec, NULL);
    if (rc == 0 && gone != NULL)
        *gone = last ? rec.ino : 0;
    return rc;
}

/* ---- rename ---- */

/* Is ${dir} the directory ${ancestor} or below it? */
static int is_below(struct store *s, uint64_t dir, uint64_t ancestor, bool *below)
{
    *below = false;
    for (int depth = 0; depth < 1 << 20; depth++) {
        struct crow *r = NULL;
        if (dir == ancestor) {
            *below = true;
            return 0;
        }
        if (dir == INO_ROOT)
            return 0;
        int rc = change_dir(s, dir, &r);
        if (rc < 0)
            return rc;
        dir = r->u.ino.row.parent;
    }
    return ERR_DAMAGE;                   /* parents in a circle */
}

struct rename_rows { struct crow *src_dir, *dst_dir, *src_den, *dst_den, *src, *dst; };

static int rename_rows(struct store *s, uint64_t sp, const char *src, size_t slen, uint64_t dp, const char *dst, size_t dlen,
                       struct rename_rows *r)
{
    int rc = change_dir(s, sp, &r->src_dir);
    if (rc == 0)
        rc = change_dir(s, dp, &r->dst_dir);
    if (rc == 0)
        rc = change_name(s, sp, src, slen, &r->src_den);
    if (rc == 0)
        rc = change_name(s, dp, dst, dlen, &r->dst_den);
    if (rc == 0 && !r->src_den->present)
        rc = ERR_NOENT;
    if (rc == 0)
        rc = change_ino(s, r->src_den->u.den.ino, &r->src);
    if (rc == 0 && r->dst_den->present)
        rc = change_ino(s, r->dst_den->u.den.ino, &r->dst);
    return rc;
}

/* A directory that is hidden stays where it would be: ${by}, or its new directory, says so. */
static bool may_go(const struct crow *what, const struct crow *dir, bool by)
{
    return !S_ISDIR(what->u.ino.row.mode) || what->u.ino.row.hidden == 0 || by || row_hides(&dir->u.ino.row);
}

static int rename_checks(struct store *s, const struct rename_rows *r, uint64_t sp, uint64_t dp, uint32_t flags, unsigned by)
{
    bool below = false, src_dir = S_ISDIR(r->src->u.ino.row.mode);
    int rc = 0;
    if ((flags & RRN_NOREPLACE) && r->dst != NULL)
        return ERR_EXIST;
    if ((flags & RRN_EXCHANGE) && r->dst == NULL)
        return ERR_NOENT;
    if (r->dst == r->src)
        return 0;                        /* also of a directory that is not empty */
    if (!may_go(r->src, r->dst_dir, (by & RECF_NOHISTORY) != 0) ||
        ((flags & RRN_EXCHANGE) && !may_go(r->dst, r->src_dir, (by & RECF_NOHISTORY_BACK) != 0)))
        return ERR_XDEV;
    if (src_dir && sp != dp && (rc = is_below(s, dp, r->src->ino, &below)) < 0)
        return rc;
    if (below)
        return ERR_INVAL;
    if (r->dst == NULL)
        return 0;
    bool dst_dir = S_ISDIR(r->dst->u.ino.row.mode);
    if (flags & RRN_EXCHANGE) {
        if (dst_dir && sp != dp && (rc = is_below(s, sp, r->dst->ino, &below)) < 0)
            return rc;
        return below ? ERR_INVAL : 0;
    }
    if (dst_dir && sp != dp && (rc = is_below(s, sp, r->dst->ino, &below)) < 0)
        return rc;
    if (below)
        return ERR_NOTEMPTY;             /* the target holds the source */
    if (dst_dir && !src_dir)
        return ERR_ISDIR;
    if (!dst_dir && src_dir)
        return ERR_NOTDIR;
    return dst_dir && r->dst->u.ino.row.entries > 0 ? ERR_NOTEMPTY : 0;
}

int store_rename(struct store *s, const struct caller *c, uint64_t sp, const char *src, size_t slen, uint64_t dp,
                 const char *dst, size_t dlen, uint32_t flags, uint64_t *gone, struct wait *wait)
{
    struct rename_rows r = { 0 };
    if (gone != NULL)
        *gone = 0;
    if ((flags & ~(uint32_t)(RRN_NOREPLACE | RRN_EXCHANGE)) != 0 || flags == (RRN_NOREPLACE | RRN_EXCHANGE))
        return ERR_INVAL;
    int rc = change_begin(s, wait);
    if (rc < 0)
        return rc;
    rc = rename_rows(s, sp, src, slen, dp, dst, dlen, &r);
    const uint16_t by = rc < 0 ? 0 : by_name(s, dst, dlen, RECF_NOHISTORY) | (flags & RRN_EXCHANGE ? by_name(s, src, slen, RECF_NOHISTORY_BACK) : 0);
    if (rc == 0)
        rc = rename_checks(s, &r, sp, dp, flags, by);
    if (rc < 0)
        return change_abort(s, rc);
    if (r.dst == r.src)                  /* two names of one file: nothing happens (POSIX) */
        return change_abort(s, 0);
    struct record rec = { .type = REC_RENAME, .flags = by, .ino = r.src->ino };
    rec.u.rename.src_parent = sp;
    rec.u.rename.dst_parent = dp;
    rec.u.rename.dst_ino = r.dst != NULL ? r.dst->ino : 0;
    rec.u.rename.flags = flags;
    rec.u.rename.src_name = rec_bytes_of(src, slen);
    rec.u.rename.dst_name = rec_bytes_of(dst, dlen);
    bool last = r.dst != NULL && !(flags & RRN_EXCHANGE) && (S_ISDIR(r.dst->u.ino.row.mode) || r.dst->u.ino.row.nlink == 1);
    rc = change_commit(s, c, &rec, NULL);
    if (rc == 0 && gone != NULL && last)
        *gone = rec.u.rename.dst_ino;
    return rc;
}

/* ---- reap ---- */

enum { REAP_MAX = 4096 };

int store_reap(struct store *s, const uint64_t *inos, size_t n, struct wait *wait)
{
    const struct caller nobody = { 0 };
    while (n > 0) {
        size_t take = n < REAP_MAX ? n : REAP_MAX, have = 0;
        uint8_t *list = malloc(take * 8);
        if (list == NULL)
            return ERR_NOMEM;
        int rc = change_begin(s, wait);
        for (size_t i = 0; i < take && rc == 0; i++) {
            struct crow *r = NULL;
            int one = change_ino(s, inos[i], &r);
            if (one == ERR_STALE)
                continue;                /* reaped before */
            if (one < 0)
                rc = change_abort(s, one);
            else if (r->u.ino.row.nlink == 0)
                put_u64(list + 8 * have++, inos[i]);
        }
        if (rc == 0 && have > 0) {
            struct record rec = { .type = REC_REAP };
            rec.u.reap.n = (uint32_t)have;
            rec.u.reap.inos = list;
            rc = change_commit(s, &nobody, &rec, NULL);
        } else if (rc == 0) {
            rc = change_abort(s, 0);
        }
        free(list);
        if (rc < 0)
            return rc;
        inos += take;
        n -= take;
    }
    return 0;
}
