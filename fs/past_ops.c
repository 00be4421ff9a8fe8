/* past_ops.c: requests of the past's session. They only read: the mount is read-only, so the kernel refuses the rest. */
#include "fs/past_internal.h"

#include "fs/past_list.h"
#include "store/base/slow.h"
#include "store/core/branch.h"
#include "store/core/retain.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

enum { REPLY_MAX = 128 << 10 };

static struct past *past_of(fuse_req_t req) { return fuse_req_userdata(req); }

static void reply_error(fuse_req_t req, int code) { (void)fuse_reply_err(req, err_errno(code)); }

/* What a node stands for: an inode at a moment, or at the end of a branch, which is another store. */
struct seen { struct past *p; struct store *s; uint64_t at, ino; };

static int see(struct past *p, uint64_t key, struct seen *v)
{
    struct err err = { 0 };
    int rc = 0;

    v->p = p;
    v->s = p->store;
    v->at = key;
    if (key & PAST_BRANCH) {
        v->at = AT_LIVE;
        rc = past_branch_get(p->branches, key, &v->s, &err);
        if (rc < 0)
            fs_log("a branch: %s", err.msg[0] ? err.msg : err_text(rc));
    }
    return rc;
}

/* Before the request is answered, or after. */
static void seen(struct seen *v)
{
    if (v->s == v->p->store)
        return;
    past_branch_put(v->p->branches, v->s);
    past_branch_used(v->p);
}

/* False, and answered: that node is no inode of a moment. True: seen() follows. */
static bool in_moment(fuse_req_t req, uint64_t node, struct seen *v, int otherwise)
{
    struct past *p = past_of(req);
    uint32_t slot = past_node_slot(node);
    uint64_t key = slot ? past_slots_lsn(p->slots, slot) : 0;
    int rc = slot != 0 && key == 0 ? ERR_STALE : otherwise;

    v->ino = past_node_ino(node);
    if (key != 0 && v->ino != 0 && (rc = see(p, key, v)) == 0)
        return true;
    reply_error(req, rc);
    return false;
}

/* The kernel knows that much less of a slot. */
static void forget(struct past *p, uint32_t slot, uint64_t n)
{
    uint64_t gone = past_slots_sub(p->slots, slot, n);

    if (gone & PAST_BRANCH && !(gone & PAST_LINK))
        (void)past_branches_close(p->branches, gone);
}

/* ---- names ---- */

/* An entry in a slot that was counted already. */
static void reply_entry(fuse_req_t req, uint32_t slot, const struct fuse_entry_param *e)
{
    struct past *p = past_of(req);       /* a reply frees the request, also one that fails */

    if (fuse_reply_entry(req, e) < 0)
        past_slots_sub(p->slots, slot, 1);      /* the kernel never saw it */
}

static bool is_lsn(const char *name, uint64_t *lsn)
{
    char again[24];
    char *end;

    if (name[0] != '@' || name[1] < '1' || name[1] > '9')
        return false;
    *lsn = strtoull(name + 1, &end, 10);
    snprintf(again, sizeof again, "@%llu", (unsigned long long)*lsn);
    return *lsn < PAST_BRANCH && strcmp(again, name) == 0;       /* what is above is no place, and the key of something else */
}

/* A counted slot, or a negative error. One that is in use is a moment, whatever has expired meanwhile. */
static int64_t find_slot(struct past *p, const char *name, bool *dir)
{
    struct err err = { 0 };
    uint64_t lsn = 0, wanted = 0;
    bool exact = is_lsn(name, &wanted);
    uint32_t slot = exact ? past_slots_get(p->slots, wanted, false) : 0;
    int rc;

    *dir = true;
    if (slot != 0)
        return slot;
    rc = past_moment(p->fs, name, &lsn, &err);
    if (rc < 0) {
        if (rc != ERR_NOENT)
            fs_log("the past: %s: %s", name, err.msg);
        return rc;
    }
    *dir = exact && wanted == lsn;
    slot = past_slots_get(p->slots, *dir ? lsn : lsn | PAST_LINK, true);
    if (slot == 0) {
        past_full(p);
        return ERR_NOMEM;
    }
    if (!store_lists(p->store, lsn)) {   /* let go of since it was looked up, before anybody could see that it is used */
        past_slots_sub(p->slots, slot, 1);
        return ERR_NOENT;
    }
    return slot;
}

/* The end of a branch: as a moment, of another store. */
static void lookup_branch(fuse_req_t req, const char *name)
{
    struct past *p = past_of(req);
    struct fuse_entry_param e = { 0 };
    struct err err = { 0 };
    struct row_ino row;
    struct seen v;
    uint64_t key = 0;
    uint32_t slot = 0;
    int rc = past_branch_key(p->branches, name, &key, &err);

    if (rc == 0 && (slot = past_slots_get(p->slots, key, true)) == 0) {
        past_full(p);
        rc = ERR_NOMEM;
    }
    if (rc == 0 && (rc = see(p, key, &v)) == 0) {
        rc = store_getattr(v.s, v.at, INO_ROOT, &row, NULL);
        seen(&v);
    }
    if (rc < 0) {
        if (slot)
            forget(p, slot, 1);
        reply_error(req, rc);
        return;
    }
    entry_fill(&row, INO_ROOT, &e);
    e.ino = past_node(slot, INO_ROOT);
    e.entry_timeout = 0;
    reply_entry(req, slot, &e);
}

/* Directly below the root no name stays valid: moments come, expire, and "5m" is another one each time. */
static void lookup_moment(fuse_req_t req, const char *name)
{
    struct past *p = past_of(req);
    struct fuse_entry_param e = { 0 };
    struct row_ino row;
    char target[24];
    bool dir;
    int64_t slot = find_slot(p, name, &dir);
    uint64_t lsn;
    int rc, n;

    if (slot < 0) {
        reply_error(req, (int)slot);
        return;
    }
    lsn = past_slots_lsn(p->slots, (uint32_t)slot) & ~PAST_LINK;
    if (dir) {
        rc = store_getattr(p->store, lsn, INO_ROOT, &row, NULL);
        if (rc < 0) {
            past_slots_sub(p->slots, (uint32_t)slot, 1);
            reply_error(req, rc);
            return;
        }
        entry_fill(&row, INO_ROOT, &e);
        e.ino = past_node((uint32_t)slot, INO_ROOT);
        e.entry_timeout = 0;
    } else {
        n = snprintf(target, sizeof target, "@%llu", (unsigned long long)lsn);
        e.ino = past_node((uint32_t)slot, 0);
        past_link_attr(p->fs, past_link_ino(lsn), lsn, (size_t)n, &e.attr);
    }
    reply_entry(req, (uint32_t)slot, &e);
}

static void do_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct past *p = past_of(req);
    struct fuse_entry_param e;
    struct row_ino row;
    struct seen v;
    const char *branch;
    uint64_t ino = 0;
    int rc;

    if (parent == FUSE_ROOT_ID) {
        if ((branch = branch_at_name(name)) != NULL)
            lookup_branch(req, branch);
        else
            lookup_moment(req, name);
        return;
    }
    if (strlen(name) > REC_NAME_MAX) {
        reply_error(req, ERR_NAMETOOLONG);
        return;
    }
    if (!in_moment(req, parent, &v, ERR_NOTDIR))
        return;
    rc = store_lookup(v.s, v.at, v.ino, name, strlen(name), &ino, &row, NULL);
    seen(&v);
    if (rc == ERR_NOENT) {
        e = (struct fuse_entry_param){ .entry_timeout = FS_TIMEOUT_S };
        (void)fuse_reply_entry(req, &e);
    } else if (rc < 0) {
        reply_error(req, rc);
    } else {
        entry_fill(&row, ino, &e);
        e.ino = past_node(past_node_slot(parent), ino);
        past_slots_add(p->slots, past_node_slot(parent), 1);
        reply_entry(req, past_node_slot(parent), &e);
    }
}

/* From here on a crash loses these forgets rather than repeat them: a slot kept too long does no harm, one given away too early would. */
static void forget_once(void)
{
    const struct shim_req *cur = shim_current();

    if (cur)
        ((struct fuse_in_header *)(uintptr_t)cur->in)->len = 0;
    atomic_thread_fence(memory_order_release);
}

static void do_forget(fuse_req_t req, fuse_ino_t node, uint64_t n)
{
    forget_once();
    forget(past_of(req), past_node_slot(node), n);
    fuse_reply_none(req);
}

static void do_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *f)
{
    forget_once();
    for (size_t i = 0; i < count; i++)
        forget(past_of(req), past_node_slot(f[i].ino), f[i].nlookup);
    fuse_reply_none(req);
}

static void do_readlink(fuse_req_t req, fuse_ino_t node)
{
    struct past *p = past_of(req);
    char target[REC_SYMLINK_MAX + 1];
    struct seen v;
    uint64_t lsn;
    int rc;

    if (past_node_slot(node) != 0 && past_node_ino(node) == 0) {
        lsn = past_slots_lsn(p->slots, past_node_slot(node)) & ~PAST_LINK;
        snprintf(target, sizeof target, "@%llu", (unsigned long long)lsn);
        if (lsn == 0)
            reply_error(req, ERR_STALE);
        else
            (void)fuse_reply_readlink(req, target);
        return;
    }
    if (!in_moment(req, node, &v, ERR_INVAL))
        return;
    rc = store_readlink(v.s, v.at, v.ino, target, sizeof target - 1, NULL);
    seen(&v);
    if (rc < 0) {
        reply_error(req, rc);
        return;
    }
    target[rc] = '\0';
    (void)fuse_reply_readlink(req, target);
}

/* ---- attributes ---- */

static void do_getattr(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    struct past *p = past_of(req);
    struct row_ino row;
    struct stat st;
    struct seen v;
    uint64_t lsn;
    int rc;

    (void)fi;
    if (node == FUSE_ROOT_ID) {
        past_dir_attr(p->fs, past_link_ino(0), &st);
        (void)fuse_reply_attr(req, &st, 0);
        return;
    }
    if (past_node_ino(node) == 0 && (lsn = past_slots_lsn(p->slots, past_node_slot(node)) & ~PAST_LINK) != 0) {
        past_link_attr(p->fs, past_link_ino(lsn), lsn, (size_t)snprintf(NULL, 0, "@%llu", (unsigned long long)lsn), &st);
        (void)fuse_reply_attr(req, &st, 0);
        return;
    }
    if (!in_moment(req, node, &v, ERR_STALE))
        return;
    rc = store_getattr(v.s, v.at, v.ino, &row, NULL);
    seen(&v);
    if (rc < 0) {
        reply_error(req, rc);
        return;
    }
    attr_fill(&row, v.ino, &st);
    (void)fuse_reply_attr(req, &st, FS_TIMEOUT_S);
}

static void get_xattr(fuse_req_t req, fuse_ino_t node, const char *name, size_t size)
{
    void *buf = scratch();
    size_t cap = size < REC_XATTR_MAX ? size : REC_XATTR_MAX;
    struct seen v;
    int64_t n;

    if (!buf) {
        reply_error(req, ERR_NOMEM);
        return;
    }
    if (node == FUSE_ROOT_ID || past_node_ino(node) == 0) {
        if (name)
            reply_error(req, ERR_NODATA);
        else if (size == 0)
            (void)fuse_reply_xattr(req, 0);
        else
            (void)fuse_reply_buf(req, NULL, 0);
        return;
    }
    if (!in_moment(req, node, &v, ERR_STALE))
        return;
    n = name ? store_getxattr(v.s, v.at, v.ino, name, buf, cap, NULL) : store_listxattr(v.s, v.at, v.ino, buf, cap, NULL);
    seen(&v);
    if (n < 0)
        reply_error(req, (int)n);
    else if (size == 0)
        (void)fuse_reply_xattr(req, (size_t)n);
    else
        (void)fuse_reply_buf(req, buf, (size_t)n);
}

static void do_getxattr(fuse_req_t req, fuse_ino_t node, const char *name, size_t size) { get_xattr(req, node, name, size); }
static void do_listxattr(fuse_req_t req, fuse_ino_t node, size_t size) { get_xattr(req, node, NULL, size); }

static void do_statfs(fuse_req_t req, fuse_ino_t node)
{
    struct statfs_out s = { 0 };
    struct statvfs v = { .f_bsize = 4096, .f_frsize = 4096, .f_namemax = REC_NAME_MAX };
    int rc = store_statfs(past_of(req)->store, &s);

    (void)node;
    if (rc < 0) {
        reply_error(req, rc);
        return;
    }
    v.f_blocks = s.total / v.f_frsize;       /* nothing is free here: f_bfree and f_ffree stay 0 */
    v.f_files = s.files;
    (void)fuse_reply_statfs(req, &v);
}

/* ---- data ---- */

static void do_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    (void)node;
    (void)fi;
    (void)fuse_reply_err(req, ENOSYS);       /* zero-message opens; what is read stays in the page cache */
}

static void do_read(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi)
{
    struct err err = { 0 };
    void *buf = scratch();
    struct seen v;
    int64_t n;

    (void)fi;
    if (off < 0 || !buf) {
        reply_error(req, off < 0 ? ERR_INVAL : ERR_NOMEM);
        return;
    }
    if (!in_moment(req, node, &v, ERR_ISDIR))
        return;
    if (size > SHIM_MAX_WRITE_BYTES)
        size = SHIM_MAX_WRITE_BYTES;
    n = store_read(v.s, v.at, v.ino, (uint64_t)off, buf, size, false, NULL, &err);
    seen(&v);
    if (n >= 0) {
        (void)fuse_reply_buf(req, buf, (size_t)n);
        return;
    }
    if (n == ERR_DAMAGE)
        fs_log("reading inode %llu at %lld as of %llu%s: %s", (unsigned long long)v.ino, (long long)off, (unsigned long long)(v.at == AT_LIVE ? 0 : v.at),
               v.at == AT_LIVE ? " (the end of a branch)" : "", err.msg);
    reply_error(req, (int)n);
}

static void do_lseek(fuse_req_t req, fuse_ino_t node, off_t off, int whence, struct fuse_file_info *fi)
{
    struct seen v;
    int64_t at;

    (void)fi;
    if (!in_moment(req, node, &v, ERR_INVAL))
        return;
    at = off < 0 ? ERR_NXIO : store_seek(v.s, v.at, v.ino, (uint64_t)off, whence, NULL);
    seen(&v);
    if (at < 0)
        reply_error(req, (int)at);
    else
        (void)fuse_reply_lseek(req, (off_t)at);
}

/* ---- listing ---- */

struct fill {
    fuse_req_t req;
    struct past *p;
    struct seen v;
    uint32_t slot;
    char *buf;
    size_t size, used;
    uint64_t known;
    bool plus;
    int failed;
};

static bool put(struct fill *f, const char *name, const struct fuse_entry_param *e, uint64_t cookie)
{
    char *at = f->buf + f->used;
    size_t room = f->size - f->used;
    size_t n = f->plus ? fuse_add_direntry_plus(f->req, at, room, name, e, (off_t)cookie)
                       : fuse_add_direntry(f->req, at, room, name, &e->attr, (off_t)cookie);

    if (n > room)
        return false;
    f->used += n;
    return true;
}

static int put_entry(void *arg, const struct dirent_out *d)
{
    struct fill *f = arg;
    struct fuse_entry_param e = { .attr = { .st_ino = d->ino, .st_mode = (mode_t)(d->type << 12) } };
    struct row_ino row;
    char name[REC_NAME_MAX + 1];
    size_t nlen = d->nlen <= REC_NAME_MAX ? d->nlen : REC_NAME_MAX;

    memcpy(name, d->name, nlen);
    name[nlen] = '\0';
    /* An entry whose inode cannot be read is listed all the same; looking it up tells why. */
    if (f->plus && store_getattr(f->v.s, f->v.at, d->ino, &row, NULL) == 0) {
        entry_fill(&row, d->ino, &e);
        e.ino = past_node(f->slot, d->ino);
    }
    if (!put(f, name, &e, d->cookie))
        return 1;
    if (e.ino != 0)
        f->known++;
    return 0;
}

static int put_dots(struct fill *f, uint64_t ino, uint64_t off, bool *full)
{
    struct fuse_entry_param e = { .attr = { .st_ino = ino, .st_mode = S_IFDIR } };
    struct row_ino row;
    int rc = store_getattr(f->v.s, f->v.at, ino, &row, NULL);

    if (rc < 0)
        return rc;
    if (!S_ISDIR(row.mode))
        return ERR_NOTDIR;
    *full = off < 1 && !put(f, ".", &e, 1);
    e.attr.st_ino = ino == INO_ROOT ? past_link_ino(0) : row.parent;
    if (!*full)
        *full = !put(f, "..", &e, 2);
    return 0;
}

static void list(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, bool plus)
{
    struct fill f = { .req = req, .p = past_of(req), .buf = scratch(), .size = size < REPLY_MAX ? size : REPLY_MAX, .plus = plus };
    uint64_t known;
    bool full = false;
    int rc = 0;

    slow_now();              /* long work: others need not wait for it */
    if (node == FUSE_ROOT_ID && off >= 0) {
        past_list_reply(f.p->fs, req, 0, past_link_ino(0), INO_ROOT, f.size, (uint64_t)off, plus);
        return;
    }
    if (!in_moment(req, node, &f.v, ERR_NOTDIR))
        return;
    f.slot = past_node_slot(node);
    if (off < 0 || !f.buf)
        rc = off < 0 ? ERR_INVAL : ERR_NOMEM;
    if (rc == 0 && off < 2)
        rc = put_dots(&f, f.v.ino, (uint64_t)off, &full);
    if (rc == 0 && !full)
        rc = store_readdir(f.v.s, f.v.at, f.v.ino, off < 2 ? 2 : (uint64_t)off, put_entry, &f, NULL);
    seen(&f.v);
    if (rc < 0) {
        reply_error(req, rc);
        return;
    }
    known = f.known;
    past_slots_add(f.p->slots, f.slot, known);
    if (fuse_reply_buf(req, f.buf, f.used) < 0)
        past_slots_sub(f.p->slots, f.slot, known);
}

static void do_readdir(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi)
{
    (void)fi;
    list(req, node, size, off, false);
}

static void do_readdirplus(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi)
{
    (void)fi;
    list(req, node, size, off, true);
}

void past_ops(struct fuse_lowlevel_ops *ops)
{
    ops->lookup = do_lookup;
    ops->forget = do_forget;
    ops->forget_multi = do_forget_multi;
    ops->readlink = do_readlink;
    ops->getattr = do_getattr;
    ops->getxattr = do_getxattr;
    ops->listxattr = do_listxattr;
    ops->statfs = do_statfs;
    ops->open = do_open;
    ops->opendir = do_open;
    ops->read = do_read;
    ops->lseek = do_lseek;
    ops->readdir = do_readdir;
    ops->readdirplus = do_readdirplus;
}
