/*
 * record_check.c: the bounds of every field of a record. Asked before a record
 * is written and after one is read, so that nothing gets in that could not be
 * read again.
 */
#include "store/log/record_internal.h"

#include <string.h>
#include <sys/stat.h>

/* A name in a directory. Any bytes but those no directory can hold. */
static bool name_ok(const struct rec_bytes *b)
{
    if (b->len < 1 || b->len > REC_NAME_MAX)
        return false;
    if (memchr(b->p, '/', b->len) != NULL || memchr(b->p, 0, b->len) != NULL)
        return false;
    if (b->p[0] == '.' && (b->len == 1 || (b->len == 2 && b->p[1] == '.')))
        return false;
    return true;
}

/* Text without NUL, ${min} to ${max} bytes. */
static bool text_ok(const struct rec_bytes *b, uint32_t min, uint32_t max)
{
    return b->len >= min && b->len <= max && (b->len == 0 || memchr(b->p, 0, b->len) == NULL);
}

/* Whether [off, off + len) lies within what a file can be. */
static bool range_ok(uint64_t off, uint64_t len)
{
    return off <= REC_FILE_MAX && len <= REC_FILE_MAX - off;
}

static const char *check_create(const struct record *rec)
{
    uint32_t type = rec->u.create.mode & S_IFMT;

    if (rec->u.create.mode & ~(uint32_t)(S_IFMT | 07777))
        return "mode out of bounds";
    if (type != S_IFREG && type != S_IFDIR && type != S_IFLNK && type != S_IFCHR &&
        type != S_IFBLK && type != S_IFIFO && type != S_IFSOCK)
        return "unknown kind of file";
    /* the root alone has no name */
    if (rec->ino == REC_ROOT_INO ? rec->u.create.name.len != 0 : !name_ok(&rec->u.create.name))
        return "bad name";
    if (type == S_IFLNK ? !text_ok(&rec->u.create.target, 1, REC_SYMLINK_MAX)
                        : rec->u.create.target.len != 0)
        return "bad symlink target";
    if (rec->u.create.n_xattr > REC_CREATE_XATTRS)
        return "too many attributes";
    for (uint32_t i = 0; i < rec->u.create.n_xattr; i++) {
        if (!text_ok(&rec->u.create.xattr[i].name, 1, REC_NAME_MAX))
            return "bad attribute name";
        if (rec->u.create.xattr[i].value.len > REC_XATTR_MAX)
            return "attribute value too long";
    }
    return NULL;
}

static const char *check_setattr(const struct record *rec)
{
    if (rec->u.setattr.valid & ~(uint32_t)RSA_ALL)
        return "unknown attribute";
    if (rec->u.setattr.mode & ~(uint32_t)(S_IFMT | 07777))
        return "mode out of bounds";
    if (rec->u.setattr.size > REC_FILE_MAX)
        return "size out of bounds";
    if (rec->u.setattr.atime.nsec > 999999999 || rec->u.setattr.mtime.nsec > 999999999)
        return "nanoseconds out of bounds";
    return NULL;
}

static const char *check_clone(const struct record *rec)
{
    uint64_t last = rec->u.clone.dst_off, end = last + rec->u.clone.len;

    if (!range_ok(rec->u.clone.src_off, rec->u.clone.len) ||
        !range_ok(rec->u.clone.dst_off, rec->u.clone.len))
        return "range out of bounds";
    if (rec->u.clone.src_ino != 0 && rec->u.clone.n_pieces != 0)
        return "both a source and pieces";
    if (rec->lsn != 0 && rec->u.clone.origin >= rec->lsn)   /* while it is encoded it may have no LSN yet */
        return "content of no earlier record";
    for (uint32_t i = 0; i < rec->u.clone.n_pieces; i++) {
        struct rec_piece p = rec_piece_get(rec->u.clone.pieces, i);

        if (p.len == 0 || p.len > REC_DATA_MAX || p.doff > REC_DATA_MAX - p.len)
            return "piece out of bounds";
        if (p.dst_off < last || p.dst_off > end || p.len > end - p.dst_off)
            return "piece out of order or out of the target's range";
        if (p.lsn == 0 || (rec->lsn != 0 && p.lsn >= rec->lsn))
            return "piece of no earlier record";
        last = p.dst_off + p.len;
        if (get_u32(rec->u.clone.pieces + (size_t)i * REC_PIECE_BYTES + 28) != 0)
            return "piece with reserved bits";
    }
    return NULL;
}

static const char *check_snapshot(const struct record *rec)
{
    if (rec->u.snapshot.action < RSN_CREATE || rec->u.snapshot.action > RSN_RELEASE)
        return "unknown snapshot action";
    if (!text_ok(&rec->u.snapshot.name, 1, REC_NAME_MAX))
        return "bad snapshot name";
    if (!text_ok(&rec->u.snapshot.reason, 0, REC_TEXT_MAX) ||
        !text_ok(&rec->u.snapshot.person, 0, REC_TEXT_MAX))
        return "bad snapshot text";
    return NULL;
}

static const char *check_rename(const struct record *rec)
{
    if (!name_ok(&rec->u.rename.src_name) || !name_ok(&rec->u.rename.dst_name))
        return "bad name";
    if (rec->u.rename.flags & ~(uint32_t)(RRN_NOREPLACE | RRN_EXCHANGE))
        return "unknown rename flag";
    return NULL;
}

static const char *check_xattr(const struct record *rec)
{
    if (!text_ok(&rec->u.xattr.name, 1, REC_NAME_MAX))
        return "bad attribute name";
    if (rec->u.xattr.value.len > (rec->type == REC_SETXATTR ? REC_XATTR_MAX : 0))
        return "attribute value too long";
    return NULL;
}

/* Flags that say something of a name: only with a type that gives one. */
static bool name_flags_ok(const struct record *rec)
{
    bool gives = (rec->type == REC_CREATE && rec->ino != REC_ROOT_INO) || rec->type == REC_LINK || rec->type == REC_RENAME;

    if ((rec->flags & RECF_NOHISTORY) && !gives)
        return false;
    return !(rec->flags & RECF_NOHISTORY_BACK) || (rec->type == REC_RENAME && (rec->u.rename.flags & RRN_EXCHANGE));
}

const char *record_check(const struct record *rec)
{
    if (record_type_name(rec->type) == NULL)
        return "unknown type";
    if (rec->flags & ~(RECF_KILL_PRIV | RECF_NEW_BURST | RECF_SERIES | RECF_NOHISTORY | RECF_NOHISTORY_BACK))
        return "unknown flag";
    if (!name_flags_ok(rec))
        return "a flag of names with a type that gives none";
    if (rec->type == REC_WRITE || rec->type == REC_REWRITE) {
        if (rec->data_len == 0 || rec->data_len > REC_DATA_MAX)
            return "data length out of bounds";
        return range_ok(rec->u.write.off, rec->data_len) ? NULL : "range out of bounds";
    }
    if (rec->data_len != 0)
        return "data with a type that has none";
    switch (rec->type) {
    case REC_CREATE:
        return check_create(rec);
    case REC_LINK: case REC_UNLINK:
        return name_ok(&rec->u.link.name) ? NULL : "bad name";
    case REC_RENAME:
        return check_rename(rec);
    case REC_SETATTR:
        return check_setattr(rec);
    case REC_CLONE:
        return check_clone(rec);
    case REC_FALLOCATE:
        if (rec->u.fallocate.mode & ~(uint32_t)(RFA_KEEP_SIZE | RFA_PUNCH_HOLE | RFA_ZERO_RANGE))
            return "unknown fallocate mode";
        return range_ok(rec->u.fallocate.off, rec->u.fallocate.len) ? NULL : "range out of bounds";
    case REC_SETXATTR: case REC_REMOVEXATTR:
        return check_xattr(rec);
    case REC_SNAPSHOT:
        return check_snapshot(rec);
    case REC_PIN: case REC_POLICY: case REC_PURGE:
        if (!text_ok(&rec->u.text.name, 0, REC_TEXT_MAX) || rec->u.text.value.len > REC_VALUE_MAX)
            return "text out of bounds";
        return NULL;
    case REC_SERIES_BEGIN: case REC_SERIES_END:
        return text_ok(&rec->u.series.text, 0, REC_VALUE_MAX) ? NULL : "text out of bounds";
    case REC_MOUNT:
        if (rec->u.mount.action < 1 || rec->u.mount.action > 2)
            return "unknown mount action";
        return text_ok(&rec->u.mount.host, 0, REC_TEXT_MAX) &&
               text_ok(&rec->u.mount.dir, 0, REC_TEXT_MAX) ? NULL : "text out of bounds";
    case REC_INCARNATION:
        return text_ok(&rec->u.incarnation.host, 0, REC_TEXT_MAX) &&
               text_ok(&rec->u.incarnation.boot_id, 0, REC_TEXT_MAX) ? NULL : "text out of bounds";
    case REC_EPOCH:
        if (rec->u.epoch.number == 0)
            return "epoch 0";
        return text_ok(&rec->u.epoch.reason, 0, REC_TEXT_MAX) ? NULL : "text out of bounds";
    case REC_REAP:
        return rec->u.reap.n > 0 ? NULL : "no inode";
    default:            /* CANARY: any value will do */
        return NULL;
    }
}
