#include "fs/recover.h"

#include "fs/park.h"
#include "store/pack/history.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct found {
    struct shim_buf buf;
    struct mem_slot *slot;
    uint64_t unique;
};

static const struct fuse_in_header *head_of(const struct found *f) { return (const void *)f->buf.mem; }

static int by_unique(const void *a, const void *b)
{
    const struct found *x = a, *y = b;

    return x->unique < y->unique ? -1 : x->unique > y->unique;
}

static struct fuse_attr attr_raw(const struct row_ino *row, uint64_t ino)
{
    struct stat st;

    attr_fill(row, ino, &st);
    return (struct fuse_attr){
        .ino = ino, .size = row->size, .blocks = (uint64_t)st.st_blocks,
        .atime = (uint64_t)row->atime.sec, .mtime = (uint64_t)row->mtime.sec, .ctime = (uint64_t)row->ctime.sec,
        .atimensec = row->atime.nsec, .mtimensec = row->mtime.nsec, .ctimensec = row->ctime.nsec,
        .mode = row->mode, .nlink = row->nlink, .uid = row->uid, .gid = row->gid, .rdev = row->rdev,
        .blksize = 4096,
    };
}

static void send_entry(struct fs *fs, uint64_t unique, uint64_t ino)
{
    struct row_ino row;
    struct fuse_entry_out o = { .nodeid = ino, .entry_valid = (uint64_t)FS_TIMEOUT_S, .attr_valid = (uint64_t)FS_TIMEOUT_S };
    int rc = store_getattr(fs->store, AT_LIVE, ino, &row, NULL);

    if (rc == 0)
        rc = lookups_add(fs->mem, ino, 1);
    if (rc < 0) {
        (void)shim_reply_raw(fs->shim, unique, err_errno(rc), NULL, 0);
        return;
    }
    lookups_named(fs->mem, ino);
    o.attr = attr_raw(&row, ino);
    if (shim_reply_raw(fs->shim, unique, 0, &o, sizeof o) < 0)
        fs_forget(fs, ino, 1);
}

static void send_attr(struct fs *fs, uint64_t unique, uint64_t ino)
{
    struct row_ino row;
    struct fuse_attr_out o = { .attr_valid = (uint64_t)FS_TIMEOUT_S };
    int rc = store_getattr(fs->store, AT_LIVE, ino, &row, NULL);

    if (rc == 0)
        o.attr = attr_raw(&row, ino);
    (void)shim_reply_raw(fs->shim, unique, rc < 0 ? err_errno(rc) : 0, &o, sizeof o);
}

static void note_gone(struct fs *fs, uint64_t ino)
{
    struct row_ino row;

    if (ino != 0 && store_getattr(fs->store, AT_LIVE, ino, &row, NULL) == 0 && row.nlink == 0)
        op_gone(fs, ino);
}

/* Does this type of record stem from that request? */
static bool fits(const struct record *rec, uint32_t opcode)
{
    switch (opcode) {
    case FUSE_MKNOD: case FUSE_MKDIR: case FUSE_SYMLINK: return rec->type == REC_CREATE;
    case FUSE_LINK: return rec->type == REC_LINK;
    case FUSE_UNLINK: case FUSE_RMDIR: return rec->type == REC_UNLINK;
    case FUSE_RENAME: case FUSE_RENAME2: return rec->type == REC_RENAME;
    case FUSE_SETATTR: return rec->type == REC_SETATTR;
    case FUSE_WRITE: return rec->type == REC_WRITE;
    case FUSE_FALLOCATE: return rec->type == REC_FALLOCATE;
    case FUSE_COPY_FILE_RANGE: return rec->type == REC_CLONE;
    case FUSE_SETXATTR: return rec->type == REC_SETXATTR;
    case FUSE_REMOVEXATTR: return rec->type == REC_REMOVEXATTR;
    default: return false;
    }
}

static void send_from_record(struct fs *fs, uint64_t unique, const struct record *rec)
{
    struct fuse_write_out w = { 0 };

    switch (rec->type) {
    case REC_CREATE:
    case REC_LINK:
        send_entry(fs, unique, rec->ino);
        return;
    case REC_SETATTR:
        send_attr(fs, unique, rec->ino);
        return;
    case REC_WRITE:
    case REC_CLONE:
        w.size = rec->type == REC_WRITE ? rec->data_len : (uint32_t)rec->u.clone.len;
        (void)shim_reply_raw(fs->shim, unique, 0, &w, sizeof w);
        return;
    case REC_UNLINK:
        note_gone(fs, rec->ino);
        break;
    case REC_RENAME:
        note_gone(fs, rec->u.rename.dst_ino);
        break;
    default:
        break;
    }
    (void)shim_reply_raw(fs->shim, unique, 0, NULL, 0);
}

/* True: its record is in the log, and it is answered. An LSN that was taken and not written may have become another
 * record's: so the record must be that of this request, and of this mount (uniques restart with each). */
static bool answer_from_log(struct fs *fs, const struct found *f)
{
    struct record rec;
    void *buf = NULL;
    bool mine;

    if (f->slot->unique != f->unique || f->slot->lsn == 0 || f->slot->lsn < mem_head(fs->mem)->mount_lsn)
        return false;
    if (history_record(store_history(fs->store), f->slot->lsn, &rec, &buf, NULL) < 0)
        return false;
    mine = rec.unique == f->unique && fits(&rec, head_of(f)->opcode);
    if (mine)
        send_from_record(fs, f->unique, &rec);
    free(buf);
    return mine;
}

static void recover_one(struct fs *fs, struct found *f, struct recover_stats *st)
{
    uint32_t opcode = head_of(f)->opcode;
    bool known = f->slot->unique == f->unique;

    if (known && f->slot->state == SLOT_RUNNING && mem_crashed(mem_head(fs->mem)))
        f->slot->crashes++;
    if (known && f->slot->state == SLOT_ANSWERING) {
        (void)shim_reply_raw(fs->shim, f->unique, f->slot->result, NULL, 0);
        st->answered++;
    } else if (answer_from_log(fs, f)) {
        st->answered++;
    } else if (known && f->slot->crashes >= MEM_CRASHES_MAX) {
        fs_log("request %llu (operation %u on inode %llu) was being worked on in %u crashes: it is answered with an error",
               (unsigned long long)f->unique, opcode, (unsigned long long)head_of(f)->nodeid, f->slot->crashes);
        (void)shim_reply_raw(fs->shim, f->unique, EIO, NULL, 0);
        st->given_up++;
    } else {
        st->redone++;
        park_redo(fs->park, &f->buf);
        return;
    }
    shim_put(fs->shim, &f->buf);
}

void recover_requests(struct fs *fs, struct recover_stats *st)
{
    struct found *f = calloc(MEM_LARGE + MEM_SMALL, sizeof *f);
    size_t n = 0;

    *st = (struct recover_stats){ 0 };
    if (!f) {
        fs_log("recovering requests: out of memory");
        _Exit(70);           /* the next worker tries */
    }
    for (unsigned i = 0; i < MEM_LARGE + MEM_SMALL; i++) {
        if (!mem_found(fs->mem, i, &f[n].buf, &f[n].slot))
            continue;
        f[n].unique = head_of(&f[n])->unique;
        n++;
    }
    qsort(f, n, sizeof *f, by_unique);
    for (size_t i = 0; i < n; i++) {
        /* Copied into a small buffer and not yet gone from the large one. */
        if (i + 1 < n && f[i + 1].unique == f[i].unique) {
            shim_put(fs->shim, &f[i].buf);
            continue;
        }
        st->found++;
        recover_one(fs, &f[i], st);
    }
    free(f);
}
