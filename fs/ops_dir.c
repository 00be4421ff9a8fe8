/* ops_dir.c: listing. Cookies 1 and 2 are "." and "..", the store's begin above. */
#include "fs/fs.h"

#include "fs/snapdir.h"

#include <string.h>
#include <sys/stat.h>

/* A reply, and behind it the inodes it makes known: all in one thread's scratch. */
#define REPLY_MAX (128u << 10)
#define KNOWN_MAX ((SHIM_MAX_WRITE_BYTES - REPLY_MAX) / sizeof(uint64_t))

struct fill {
    struct op *op;
    char *buf;
    size_t size, used;
    uint64_t end;           /* entries from this cookie on are not of this listing */
    bool at_end;            /* and there are some */
    uint64_t *known;
    size_t n_known, n_entries;
    bool plus;
};

/* False: no room. */
static bool add(struct fill *f, const char *name, const struct fuse_entry_param *e, uint64_t cookie)
{
    size_t n = f->plus ? fuse_add_direntry_plus(f->op->req, f->buf + f->used, f->size - f->used, name, e, (off_t)cookie)
                       : fuse_add_direntry(f->op->req, f->buf + f->used, f->size - f->used, name, &e->attr,
                                           (off_t)cookie);

    if (n > f->size - f->used)
        return false;
    f->used += n;
    f->n_entries++;
    return true;
}

static bool has_room(struct fill *f, const char *name)
{
    size_t n = f->plus ? fuse_add_direntry_plus(f->op->req, NULL, 0, name, NULL, 0)
                       : fuse_add_direntry(f->op->req, NULL, 0, name, NULL, 0);

    return n <= f->size - f->used;
}

/* Node id 0: no attributes with it, the kernel asks when it wants them. */
static void bare(struct fuse_entry_param *e, uint64_t ino, uint32_t type)
{
    *e = (struct fuse_entry_param){ 0 };
    e->attr.st_ino = ino;
    e->attr.st_mode = (mode_t)(type << 12);
}

static int add_entry(void *arg, const struct dirent_out *d)
{
    struct fill *f = arg;
    struct fuse_entry_param e;
    struct row_ino row;
    struct wait w = { 0 };
    char name[REC_NAME_MAX + 1];
    size_t nlen = d->nlen <= REC_NAME_MAX ? d->nlen : REC_NAME_MAX;

    memcpy(name, d->name, nlen);
    name[nlen] = '\0';
    f->at_end = d->cookie >= f->end;
    if (f->at_end || !has_room(f, name))
        return 1;
    bare(&e, d->ino, d->type);
    /* An entry that would have to wait, or is gone by now, goes without attributes. */
    if (f->plus && f->n_known < KNOWN_MAX && store_getattr(f->op->fs->store, AT_LIVE, d->ino, &row, &w) == 0 &&
        row.nlink > 0 && lookups_add(f->op->fs->mem, d->ino, 1) == 0) {
        entry_fill(&row, d->ino, &e);
        f->known[f->n_known++] = d->ino;
    }
    return add(f, name, &e, d->cookie) ? 0 : 1;
}

/*
 * A new entry comes at the end of a listing, and one that is renamed is new: who renames each file as he lists them would never come to
 * the end. So a listing ends at what was there when it came for the first time to the end of what was there when it began: who is renamed over
 * meanwhile, as an editor saves, is not missed. Nothing is opened here (OPENDIR is answered ENOSYS), so it is kept by directory: the listing that
 * began last counts for all that go on. One that was pushed out of the table ends where the directory does.
 */
static bool listing_again(struct fs *fs, struct fill *f, uint64_t ino)
{
    struct dir_end *d = &fs->dir_end[(ino ^ ino >> 8) % DIR_ENDS];
    bool again;

    pthread_mutex_lock(&fs->dir_lock);
    again = d->ino == ino && !d->again;
    if (again)
        *d = (struct dir_end){ ino, log_head(store_log(fs->store)), true };
    if (d->ino == ino)
        f->end = d->end;
    pthread_mutex_unlock(&fs->dir_lock);
    return again;
}

static uint64_t listing_end(struct fs *fs, uint64_t ino, bool begins)
{
    struct dir_end *d = &fs->dir_end[(ino ^ ino >> 8) % DIR_ENDS];
    uint64_t end = UINT64_MAX;

    pthread_mutex_lock(&fs->dir_lock);
    if (begins)
        *d = (struct dir_end){ ino, log_head(store_log(fs->store)), false };
    if (d->ino == ino)
        end = d->end;
    pthread_mutex_unlock(&fs->dir_lock);
    return end;
}

static void forget_known(struct fill *f)
{
    while (f->n_known > 0)
        fs_forget(f->op->fs, f->known[--f->n_known], 1);
}

static int fill_once(struct fill *f, uint64_t ino, uint64_t off)
{
    struct fs *fs = f->op->fs;
    struct fuse_entry_param e;
    struct row_ino row;
    int rc;

    f->used = f->n_entries = 0;
    f->at_end = false;
    if (off < 2) {
        rc = store_getattr(fs->store, AT_LIVE, ino, &row, &f->op->wait);
        if (rc < 0)
            return rc;
        if (!S_ISDIR(row.mode))
            return ERR_NOTDIR;
        bare(&e, ino, S_IFDIR >> 12);
        if (off < 1 && !add(f, ".", &e, 1))
            return 0;
        bare(&e, row.parent ? row.parent : ino, S_IFDIR >> 12);
        if (!add(f, "..", &e, 2))
            return 0;
        if (row.nlink == 0)
            return 0;       /* removed while open: it lists nothing */
    }
    rc = store_readdir(fs->store, AT_LIVE, ino, off < 2 ? 2 : off, add_entry, f, &f->op->wait);
    if (rc == ERR_WAIT && f->n_entries > 0)
        return 0;           /* the rest comes with the next call */
    return rc < 0 ? rc : 0;
}

static void list(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, bool plus)
{
    struct op op;
    struct fill f = { .op = &op, .buf = scratch(), .size = size < REPLY_MAX ? size : REPLY_MAX, .plus = plus };
    int rc;

    op_begin(&op, req);
    if (node_is_snap(ino)) {
        snapdir_readdir(&op, ino, f.size, (uint64_t)off, plus);
        return;
    }
    if (!f.buf || off < 0) {
        op_error(&op, f.buf ? ERR_INVAL : ERR_NOMEM);
        return;
    }
    f.end = listing_end(op.fs, ino, off < 2);
    f.known = (uint64_t *)(void *)(f.buf + REPLY_MAX);
    OP_RUN(op, rc, fill_once(&f, ino, (uint64_t)off));
    if (!op.parked && rc == 0 && f.n_entries == 0 && f.at_end && listing_again(op.fs, &f, ino))
        OP_RUN(op, rc, fill_once(&f, ino, (uint64_t)off));
    if (op.parked)
        return;             /* nothing was made known: it waits only with an empty reply */
    if (rc < 0) {
        forget_known(&f);
        op_error(&op, rc);
    } else if (fuse_reply_buf(req, f.buf, f.used) < 0) {
        forget_known(&f);
    }
}

static void do_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    (void)fi;
    list(req, ino, size, off, false);
}

static void do_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    (void)fi;
    list(req, ino, size, off, true);
}

void ops_dir(struct fuse_lowlevel_ops *ops)
{
    ops->readdir = do_readdir;
    ops->readdirplus = do_readdirplus;
}
