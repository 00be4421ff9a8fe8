/*
 * apply_names.c: names: create, link, unlink, rename, reap. A name is three rows: den (by name), dix (by cookie, for
 * listings) and par (from the child to its names); each leaves a history row when it ends, unless the name is hidden.
 *
 * Hidden, that is, not of the past, is what is made in a directory that hides (row_hides), or by a record that says so (RECF_NOHISTORY). What is no
 * directory is hidden anew or no more by where it goes: a second name elsewhere is enough to be of the past again, and one that has several names
 * is never hidden by one of them. A directory stays what it was made as, since what is in it is what it was made as.
 */
#include "store/index/apply_internal.h"

#include <string.h>
#include <sys/stat.h>

static uint32_t type_of(uint32_t mode)
{
    return (mode & S_IFMT) >> 12;
}

/* Whether what gets a name in ${parent} by this record is to be hidden. */
static int place_hides(struct apply *a, uint64_t parent, unsigned flag, bool *hides)
{
    struct crow *dir = NULL;
    int rc = cache_ino(&a->ix->cache, parent, &dir, a->err);
    if (rc < 0)
        return rc;
    if (!dir->present)
        return apply_damage(a, "no such directory", parent);
    *hides = (a->rec->flags & flag) != 0 || row_hides(&dir->u.ino.row);
    return 0;
}

static int name_add(struct apply *a, uint64_t parent, const struct rec_bytes *name, const struct crow *child, uint64_t cookie)
{
    const uint32_t type = type_of(child->u.ino.row.mode);
    const bool hidden = child->u.ino.row.hidden != 0;
    uint8_t key[KV_KEY_MAX], val[ROW_SMALL_MAX];
    struct crow *d = NULL;
    int rc = cache_den(&a->ix->cache, parent, name->p, name->len, &d, a->err);
    if (rc < 0)
        return rc;
    if (d->present)
        return apply_damage(a, "the name exists already", parent);
    d->present = true;
    d->u.den = (struct row_den){ .birth = a->lsn, .ino = child->ino, .cookie = cookie, .type = type, .hidden = hidden };
    cache_dirty(&a->ix->cache, d, a->lsn);
    struct row_dix x = { .birth = a->lsn, .ino = child->ino, .type = type, .hidden = hidden, .name_len = (uint16_t)name->len, .name = name->p };
    size_t vlen = row_dix_encode(&x, val, sizeof val);
    apply_put(a, key, key_dix(key, parent, cookie), val, vlen);
    const struct row_par p = { .birth = a->lsn, .hidden = hidden };
    vlen = row_par_encode(&p, val, sizeof val);
    apply_put(a, key, key_par(key, child->ino, parent, name->p, name->len), val, vlen);
    return 0;
}

static int name_del(struct apply *a, uint64_t parent, const struct rec_bytes *name, struct row_den *old)
{
    uint8_t key[KV_KEY_MAX], val[ROW_SMALL_MAX];
    struct crow *d = NULL;
    int rc = cache_den(&a->ix->cache, parent, name->p, name->len, &d, a->err);
    if (rc < 0)
        return rc;
    if (!d->present)
        return apply_damage(a, "no such name", parent);
    *old = d->u.den;
    struct row_dix x = { .birth = old->birth, .ino = old->ino, .type = old->type, .name_len = (uint16_t)name->len,
                         .name = name->p };
    apply_del(a, key, key_dix(key, parent, old->cookie));
    apply_del(a, key, key_par(key, old->ino, parent, name->p, name->len));
    if (old->birth < a->lsn && !old->hidden) {
        const struct row_par p = { .birth = old->birth };
        size_t vlen = row_den_encode(old, val, sizeof val);
        apply_put(a, key, key_den_h(key, parent, name->p, name->len, a->lsn), val, vlen);
        vlen = row_dix_encode(&x, val, sizeof val);
        apply_put(a, key, key_dix_h(key, parent, a->lsn, old->cookie), val, vlen);
        vlen = row_par_encode(&p, val, sizeof val);
        apply_put(a, key, key_par_h(key, old->ino, parent, name->p, name->len, a->lsn), val, vlen);
    }
    d->present = false;
    cache_dirty(&a->ix->cache, d, a->lsn);
    return 0;
}

static void orphan_put(struct apply *a, uint64_t ino)
{
    uint8_t key[KV_KEY_MAX], val[ROW_SMALL_MAX];
    size_t vlen = row_u64_encode(a->lsn, val, sizeof val);
    apply_put(a, key, key_orphan(key, ino), val, vlen);
}

static void orphan_del(struct apply *a, uint64_t ino)
{
    uint8_t key[KV_KEY_MAX];
    apply_del(a, key, key_orphan(key, ino));
}

/* A directory whose entries change: counts, times. */
static int dir_change(struct apply *a, uint64_t dir, int entries, int subdirs)
{
    struct crow *r = NULL;
    int rc = apply_touch(a, dir, &r);
    if (rc < 0)
        return rc;
    if (!S_ISDIR(r->u.ino.row.mode))
        return apply_damage(a, "the parent is not a directory", dir);
    if ((int64_t)r->u.ino.row.entries + entries < 0 || (int64_t)r->u.ino.row.nlink + subdirs < 2)
        return apply_damage(a, "entry count below zero", dir);
    r->u.ino.row.entries = (uint64_t)((int64_t)r->u.ino.row.entries + entries);
    r->u.ino.row.nlink = (uint32_t)((int64_t)r->u.ino.row.nlink + subdirs);
    r->u.ino.row.mtime = r->u.ino.row.ctime = a->now;
    r->u.ino.dir_lsn = a->lsn;
    return 0;
}

int apply_create(struct apply *a)
{
    const struct record *rec = a->rec;
    struct crow *r = NULL;
    bool dir = S_ISDIR(rec->u.create.mode), root = rec->ino == INO_ROOT, hides = false;
    int rc = root ? 0 : place_hides(a, rec->u.create.parent, RECF_NOHISTORY, &hides);
    if (rc == 0)
        rc = cache_fresh(&a->ix->cache, CROW_INO, rec->ino, 0, 0, NULL, 0, &r, a->err);
    if (rc < 0)
        return rc;
    if (r->present)
        return apply_damage(a, "the inode exists already", rec->ino);
    r->present = true;
    r->u.ino.row = (struct row_ino){
        .birth = a->lsn, .created = a->lsn, .content = a->lsn, .mapgen = a->lsn,
        .atime = a->now, .mtime = a->now, .ctime = a->now, .btime = a->now,
        .mode = rec->u.create.mode, .uid = rec->u.create.uid, .gid = rec->u.create.gid, .rdev = rec->u.create.rdev,
        .nlink = dir ? 2 : 1, .parent = dir ? (root ? INO_ROOT : rec->u.create.parent) : 0,
        .flags = INOF_NEW_BURST, .hidden = hides ? a->lsn : 0,
    };
    r->u.ino.dir_lsn = a->lsn;
    if (S_ISLNK(rec->u.create.mode)) {
        r->u.ino.row.size = rec->u.create.target.len;
        if (cache_set_target(&a->ix->cache, r, rec->u.create.target.p, rec->u.create.target.len) < 0)
            return err_set(a->err, ERR_NOMEM, "index: out of memory");
    }
    if (dir)
        cache_whole(r);
    cache_dirty(&a->ix->cache, r, a->lsn);
    for (uint32_t i = 0; i < rec->u.create.n_xattr; i++) {
        rc = apply_put_xattr(a, r, &rec->u.create.xattr[i].name, &rec->u.create.xattr[i].value);
        if (rc < 0)
            return rc;
    }
    a->ix->meta.n_inodes++;
    a->ix->meta.n_hidden += hides;
    if (rec->ino >= a->ix->meta.next_ino)
        a->ix->meta.next_ino = rec->ino + 1;
    if (root)
        return 0;
    rc = name_add(a, rec->u.create.parent, &rec->u.create.name, r, a->lsn);
    return rc < 0 ? rc : dir_change(a, rec->u.create.parent, 1, dir ? 1 : 0);
}

int apply_link(struct apply *a)
{
    const struct record *rec = a->rec;
    struct crow *r = NULL;
    bool hides = false;
    int rc = apply_touch(a, rec->ino, &r);
    if (rc == 0)
        rc = place_hides(a, rec->u.link.parent, RECF_NOHISTORY, &hides);
    if (rc < 0)
        return rc;
    if (r->u.ino.row.nlink == 0)
        orphan_del(a, rec->ino);
    r->u.ino.row.nlink++;
    r->u.ino.row.ctime = a->now;
    if (!hides)
        r->u.ino.row.hidden = 0;
    rc = name_add(a, rec->u.link.parent, &rec->u.link.name, r, a->lsn);
    return rc < 0 ? rc : dir_change(a, rec->u.link.parent, 1, 0);
}

/* One name of an inode is gone. */
static int lost_name(struct apply *a, uint64_t ino, bool *was_dir)
{
    struct crow *r = NULL;
    int rc = apply_touch(a, ino, &r);
    if (rc < 0)
        return rc;
    struct row_ino *row = &r->u.ino.row;
    *was_dir = S_ISDIR(row->mode);
    if (*was_dir && row->entries != 0)
        return apply_damage(a, "a directory with entries is removed", ino);
    if (row->nlink == 0)
        return apply_damage(a, "link count below zero", ino);
    row->nlink = *was_dir ? 0 : row->nlink - 1;
    row->ctime = a->now;
    if (row->nlink == 0)
        orphan_put(a, ino);
    return 0;
}

int apply_unlink(struct apply *a)
{
    const struct record *rec = a->rec;
    struct row_den old;
    bool dir = false;
    int rc = name_del(a, rec->u.link.parent, &rec->u.link.name, &old);
    if (rc < 0)
        return rc;
    if (old.ino != rec->ino)
        return apply_damage(a, "the name belongs to another inode", old.ino);
    rc = lost_name(a, rec->ino, &dir);
    return rc < 0 ? rc : dir_change(a, rec->u.link.parent, -1, dir ? -1 : 0);
}

/* The moved inode: its ctime, ".." of a directory, whether it is of the past; then its new name. ${flag}: the record's, for this way. */
static int moved(struct apply *a, uint64_t ino, uint64_t parent, const struct rec_bytes *name, unsigned flag, uint64_t cookie)
{
    struct crow *r = NULL;
    bool hides = false;
    int rc = apply_touch(a, ino, &r);
    if (rc == 0)
        rc = place_hides(a, parent, flag, &hides);
    if (rc < 0)
        return rc;
    struct row_ino *row = &r->u.ino.row;
    row->ctime = a->now;
    if (S_ISDIR(row->mode))
        row->parent = parent;
    else if (!hides)
        row->hidden = 0;
    else if (row->hidden == 0 && row->nlink == 1) {
        row->hidden = a->lsn;
        a->ix->meta.n_hidden++;
    }
    return name_add(a, parent, name, r, cookie);
}

int apply_rename(struct apply *a)
{
    const struct record *rec = a->rec;
    uint64_t sp = rec->u.rename.src_parent, dp = rec->u.rename.dst_parent;
    bool exchange = (rec->u.rename.flags & RRN_EXCHANGE) != 0, replaced_dir = false;
    struct row_den src, dst = { 0 };
    int rc = name_del(a, sp, &rec->u.rename.src_name, &src);
    if (rc == 0 && src.ino != rec->ino)
        rc = apply_damage(a, "the name belongs to another inode", src.ino);
    if (rc == 0 && rec->u.rename.dst_ino != 0) {
        rc = name_del(a, dp, &rec->u.rename.dst_name, &dst);
        if (rc == 0 && dst.ino != rec->u.rename.dst_ino)
            rc = apply_damage(a, "the replaced name belongs to another inode", dst.ino);
    }
    if (rc == 0)
        rc = moved(a, src.ino, dp, &rec->u.rename.dst_name, RECF_NOHISTORY, a->lsn);
    if (rc == 0 && exchange)
        rc = moved(a, dst.ino, sp, &rec->u.rename.src_name, RECF_NOHISTORY_BACK, a->lsn + 1);
    if (rc == 0 && !exchange && dst.ino != 0)
        rc = lost_name(a, dst.ino, &replaced_dir);
    if (rc < 0)
        return rc;
    bool src_dir = src.type == (S_IFDIR >> 12), dst_dir = dst.type == (S_IFDIR >> 12);
    int src_sub = 0, dst_sub = 0, src_n = exchange ? 0 : -1, dst_n = exchange || dst.ino != 0 ? 0 : 1;
    if (exchange) {
        src_sub = (dst_dir ? 1 : 0) - (src_dir ? 1 : 0);
        dst_sub = -src_sub;
    } else {
        src_sub = src_dir ? -1 : 0;
        dst_sub = (src_dir ? 1 : 0) - (replaced_dir ? 1 : 0);
    }
    if (sp == dp)
        return dir_change(a, sp, src_n + dst_n, src_sub + dst_sub);
    rc = dir_change(a, sp, src_n, src_sub);
    return rc < 0 ? rc : dir_change(a, dp, dst_n, dst_sub);
}

/*
 * The inode goes; its map and xattr rows stay for its past and go with its last history row. Of one that is hidden what has no past goes now; if it was
 * not always hidden it leaves a last row, too, hidden as it is, or nothing would be left to say that the rest is of something that was.
 */
int apply_reap(struct apply *a)
{
    for (uint32_t i = 0; i < a->rec->u.reap.n; i++) {
        uint64_t ino = get_u64(a->rec->u.reap.inos + 8u * i);
        struct crow *r = NULL;
        int rc = cache_ino(&a->ix->cache, ino, &r, a->err);
        if (rc < 0)
            return rc;
        if (!r->present)
            continue;                    /* named twice in the list */
        if (r->u.ino.row.nlink != 0)
            return apply_damage(a, "a reaped inode still has a name", ino);
        if (r->u.ino.row.hidden != 0) {
            rc = apply_drop_map(a, r);
            if (rc == 0)
                rc = apply_drop_xattrs(a, r);
            if (rc < 0)
                return rc;
        }
        if (r->u.ino.row.birth < a->lsn && r->u.ino.row.hidden != r->u.ino.row.created)
            apply_ino_history(a, r);
        orphan_del(a, ino);
        a->ix->meta.n_inodes--;
        a->ix->meta.n_bytes -= r->u.ino.row.blocks;
        r->present = false;
        cache_dirty(&a->ix->cache, r, a->lsn);
    }
    return 0;
}
