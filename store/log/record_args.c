/*
 * record_args.c: the arguments of each record type: bytes, length, bounds.
 *
 * Numbers are fixed-width little-endian, byte strings a u32 length and the
 * bytes. One switch per direction, in the order of REC_TABLE, so that a new
 * type is seen to be missing in any of them.
 */
#include "store/log/record_internal.h"

#include <string.h>
#include <sys/stat.h>

static void put_str(struct wr *w, const struct rec_bytes *b)
{
    wr_u32(w, b->len);
    if (b->len > 0)
        wr_bytes(w, b->p, b->len);
}

static void get_str(struct rd *r, struct rec_bytes *b)
{
    uint32_t len = rd_u32(r);

    b->p = rd_bytes(r, len);
    b->len = r->bad ? 0 : len;
}

static void put_time(struct wr *w, const struct rec_time *t)
{
    wr_i64(w, t->sec);
    wr_u32(w, t->nsec);
}

static void get_time(struct rd *r, struct rec_time *t)
{
    t->sec = rd_i64(r);
    t->nsec = rd_u32(r);
}

static void put_create(const struct record *rec, struct wr *w)
{
    uint32_t n = rec->u.create.n_xattr;

    wr_u64(w, rec->u.create.parent);
    wr_u32(w, rec->u.create.mode);
    wr_u32(w, rec->u.create.uid);
    wr_u32(w, rec->u.create.gid);
    wr_u32(w, rec->u.create.rdev);
    put_str(w, &rec->u.create.name);
    put_str(w, &rec->u.create.target);
    wr_u32(w, n);
    for (uint32_t i = 0; i < n && i < REC_CREATE_XATTRS; i++) {
        put_str(w, &rec->u.create.xattr[i].name);
        put_str(w, &rec->u.create.xattr[i].value);
    }
}

static const char *get_create(struct rd *r, struct record *rec)
{
    rec->u.create.parent = rd_u64(r);
    rec->u.create.mode = rd_u32(r);
    rec->u.create.uid = rd_u32(r);
    rec->u.create.gid = rd_u32(r);
    rec->u.create.rdev = rd_u32(r);
    get_str(r, &rec->u.create.name);
    get_str(r, &rec->u.create.target);
    rec->u.create.n_xattr = rd_u32(r);
    if (rec->u.create.n_xattr > REC_CREATE_XATTRS)
        return "too many attributes";
    for (uint32_t i = 0; i < rec->u.create.n_xattr; i++) {
        get_str(r, &rec->u.create.xattr[i].name);
        get_str(r, &rec->u.create.xattr[i].value);
    }
    return NULL;
}

/* An array of fixed-size elements: a u32 count and the bytes. */
static void put_array(struct wr *w, uint32_t n, const uint8_t *p, uint32_t each)
{
    wr_u32(w, n);
    if (n > 0)
        wr_bytes(w, p, (size_t)n * each);
}

static uint32_t get_array(struct rd *r, const uint8_t **p, uint32_t each)
{
    uint32_t n = rd_u32(r);

    *p = rd_bytes(r, (size_t)n * each);
    return r->bad ? 0 : n;
}

void record_args_put(const struct record *rec, struct wr *w)
{
    switch (rec->type) {
    case REC_CREATE:
        put_create(rec, w);
        break;
    case REC_LINK: case REC_UNLINK:
        wr_u64(w, rec->u.link.parent);
        put_str(w, &rec->u.link.name);
        break;
    case REC_RENAME:
        wr_u64(w, rec->u.rename.src_parent);
        wr_u64(w, rec->u.rename.dst_parent);
        wr_u64(w, rec->u.rename.dst_ino);
        wr_u32(w, rec->u.rename.flags);
        put_str(w, &rec->u.rename.src_name);
        put_str(w, &rec->u.rename.dst_name);
        break;
    case REC_SETATTR:
        wr_u32(w, rec->u.setattr.valid);
        wr_u32(w, rec->u.setattr.mode);
        wr_u32(w, rec->u.setattr.uid);
        wr_u32(w, rec->u.setattr.gid);
        wr_u64(w, rec->u.setattr.size);
        put_time(w, &rec->u.setattr.atime);
        put_time(w, &rec->u.setattr.mtime);
        break;
    case REC_WRITE: case REC_REWRITE:
        wr_u64(w, rec->u.write.off);
        break;
    case REC_CLONE:
        wr_u64(w, rec->u.clone.src_ino);
        wr_u64(w, rec->u.clone.src_off);
        wr_u64(w, rec->u.clone.dst_off);
        wr_u64(w, rec->u.clone.len);
        wr_u64(w, rec->u.clone.origin);
        put_array(w, rec->u.clone.n_pieces, rec->u.clone.pieces, REC_PIECE_BYTES);
        break;
    case REC_FALLOCATE:
        wr_u32(w, rec->u.fallocate.mode);
        wr_u64(w, rec->u.fallocate.off);
        wr_u64(w, rec->u.fallocate.len);
        break;
    case REC_SETXATTR: case REC_REMOVEXATTR:
        wr_u32(w, rec->u.xattr.flags);
        wr_u32(w, rec->u.xattr.mode);
        put_str(w, &rec->u.xattr.name);
        put_str(w, &rec->u.xattr.value);
        break;
    case REC_SNAPSHOT:
        wr_u32(w, rec->u.snapshot.action);
        wr_u64(w, rec->u.snapshot.at);
        wr_i64(w, rec->u.snapshot.until_ns);
        put_str(w, &rec->u.snapshot.name);
        put_str(w, &rec->u.snapshot.reason);
        put_str(w, &rec->u.snapshot.person);
        break;
    case REC_PIN: case REC_POLICY: case REC_PURGE:
        put_str(w, &rec->u.text.name);
        put_str(w, &rec->u.text.value);
        break;
    case REC_REAP:
        put_array(w, rec->u.reap.n, rec->u.reap.inos, 8);
        break;
    case REC_SERIES_BEGIN: case REC_SERIES_END:
        wr_u64(w, rec->u.series.id);
        put_str(w, &rec->u.series.text);
        break;
    case REC_CANARY:
        wr_u64(w, rec->u.canary.nonce);
        break;
    case REC_MOUNT:
        wr_u64(w, rec->u.mount.id);
        wr_u32(w, rec->u.mount.action);
        put_str(w, &rec->u.mount.host);
        put_str(w, &rec->u.mount.dir);
        break;
    case REC_INCARNATION:
        wr_u64(w, rec->u.incarnation.id);
        put_str(w, &rec->u.incarnation.host);
        put_str(w, &rec->u.incarnation.boot_id);
        break;
    case REC_EPOCH:
        wr_u32(w, rec->u.epoch.number);
        wr_bytes(w, rec->u.epoch.site, 16);
        wr_bytes(w, rec->u.epoch.id, 16);
        wr_bytes(w, rec->u.epoch.lineage, 16);
        put_str(w, &rec->u.epoch.reason);
        break;
    default:
        w->bad = true;
        break;
    }
}

uint64_t record_args_len(const struct record *rec)
{
    uint64_t n = 0;

    switch (rec->type) {
    case REC_CREATE:
        n = 8 + 16 + 4 + (uint64_t)rec->u.create.name.len + 4 + rec->u.create.target.len + 4;
        for (uint32_t i = 0; i < rec->u.create.n_xattr && i < REC_CREATE_XATTRS; i++)
            n += 8 + (uint64_t)rec->u.create.xattr[i].name.len + rec->u.create.xattr[i].value.len;
        return n;
    case REC_LINK: case REC_UNLINK:
        return 8 + 4 + (uint64_t)rec->u.link.name.len;
    case REC_RENAME:
        return 28 + 8 + (uint64_t)rec->u.rename.src_name.len + rec->u.rename.dst_name.len;
    case REC_SETATTR:
        return 16 + 8 + 24;
    case REC_WRITE: case REC_REWRITE: case REC_CANARY:
        return 8;
    case REC_CLONE:
        return 44 + (uint64_t)rec->u.clone.n_pieces * REC_PIECE_BYTES;
    case REC_FALLOCATE:
        return 20;
    case REC_SETXATTR: case REC_REMOVEXATTR:
        return 16 + (uint64_t)rec->u.xattr.name.len + rec->u.xattr.value.len;
    case REC_SNAPSHOT:
        return 20 + 12 + (uint64_t)rec->u.snapshot.name.len + rec->u.snapshot.reason.len
               + rec->u.snapshot.person.len;
    case REC_PIN: case REC_POLICY: case REC_PURGE:
        return 8 + (uint64_t)rec->u.text.name.len + rec->u.text.value.len;
    case REC_REAP:
        return 4 + (uint64_t)rec->u.reap.n * 8;
    case REC_SERIES_BEGIN: case REC_SERIES_END:
        return 12 + (uint64_t)rec->u.series.text.len;
    case REC_MOUNT:
        return 12 + 8 + (uint64_t)rec->u.mount.host.len + rec->u.mount.dir.len;
    case REC_INCARNATION:
        return 16 + (uint64_t)rec->u.incarnation.host.len + rec->u.incarnation.boot_id.len;
    case REC_EPOCH:
        return 56 + (uint64_t)rec->u.epoch.reason.len;
    default:
        return UINT64_MAX;
    }
}

static void get_16(struct rd *r, uint8_t out[16])
{
    const uint8_t *p = rd_bytes(r, 16);

    if (p != NULL)
        memcpy(out, p, 16);
}

const char *record_args_get(struct rd *r, struct record *rec)
{
    switch (rec->type) {
    case REC_CREATE:
        return get_create(r, rec);
    case REC_LINK: case REC_UNLINK:
        rec->u.link.parent = rd_u64(r);
        get_str(r, &rec->u.link.name);
        break;
    case REC_RENAME:
        rec->u.rename.src_parent = rd_u64(r);
        rec->u.rename.dst_parent = rd_u64(r);
        rec->u.rename.dst_ino = rd_u64(r);
        rec->u.rename.flags = rd_u32(r);
        get_str(r, &rec->u.rename.src_name);
        get_str(r, &rec->u.rename.dst_name);
        break;
    case REC_SETATTR:
        rec->u.setattr.valid = rd_u32(r);
        rec->u.setattr.mode = rd_u32(r);
        rec->u.setattr.uid = rd_u32(r);
        rec->u.setattr.gid = rd_u32(r);
        rec->u.setattr.size = rd_u64(r);
        get_time(r, &rec->u.setattr.atime);
        get_time(r, &rec->u.setattr.mtime);
        break;
    case REC_WRITE: case REC_REWRITE:
        rec->u.write.off = rd_u64(r);
        break;
    case REC_CLONE:
        rec->u.clone.src_ino = rd_u64(r);
        rec->u.clone.src_off = rd_u64(r);
        rec->u.clone.dst_off = rd_u64(r);
        rec->u.clone.len = rd_u64(r);
        rec->u.clone.origin = rd_u64(r);
        rec->u.clone.n_pieces = get_array(r, &rec->u.clone.pieces, REC_PIECE_BYTES);
        break;
    case REC_FALLOCATE:
        rec->u.fallocate.mode = rd_u32(r);
        rec->u.fallocate.off = rd_u64(r);
        rec->u.fallocate.len = rd_u64(r);
        break;
    case REC_SETXATTR: case REC_REMOVEXATTR:
        rec->u.xattr.flags = rd_u32(r);
        rec->u.xattr.mode = rd_u32(r);
        get_str(r, &rec->u.xattr.name);
        get_str(r, &rec->u.xattr.value);
        break;
    case REC_SNAPSHOT:
        rec->u.snapshot.action = rd_u32(r);
        rec->u.snapshot.at = rd_u64(r);
        rec->u.snapshot.until_ns = rd_i64(r);
        get_str(r, &rec->u.snapshot.name);
        get_str(r, &rec->u.snapshot.reason);
        get_str(r, &rec->u.snapshot.person);
        break;
    case REC_PIN: case REC_POLICY: case REC_PURGE:
        get_str(r, &rec->u.text.name);
        get_str(r, &rec->u.text.value);
        break;
    case REC_REAP:
        rec->u.reap.n = get_array(r, &rec->u.reap.inos, 8);
        break;
    case REC_SERIES_BEGIN: case REC_SERIES_END:
        rec->u.series.id = rd_u64(r);
        get_str(r, &rec->u.series.text);
        break;
    case REC_CANARY:
        rec->u.canary.nonce = rd_u64(r);
        break;
    case REC_MOUNT:
        rec->u.mount.id = rd_u64(r);
        rec->u.mount.action = rd_u32(r);
        get_str(r, &rec->u.mount.host);
        get_str(r, &rec->u.mount.dir);
        break;
    case REC_INCARNATION:
        rec->u.incarnation.id = rd_u64(r);
        get_str(r, &rec->u.incarnation.host);
        get_str(r, &rec->u.incarnation.boot_id);
        break;
    case REC_EPOCH:
        rec->u.epoch.number = rd_u32(r);
        get_16(r, rec->u.epoch.site);
        get_16(r, rec->u.epoch.id);
        get_16(r, rec->u.epoch.lineage);
        get_str(r, &rec->u.epoch.reason);
        break;
    default:
        return "unknown type";
    }
    return NULL;
}
