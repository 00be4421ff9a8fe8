/*
 * rows.c: values of the index rows, but for maps (rows_map.c). Each value
 * starts with a version byte. What is usual costs nothing: a bit says that a
 * field differs from what is expected. There is one encoding of each row: a
 * field that is present and has the expected value is damage.
 */
#include "store/index/rows.h"
#include "store/index/rows_internal.h"

#include <assert.h>
#include <string.h>
#include <sys/stat.h>

/* Which fields of an inode row are not as usual. */
enum ino_bits {
    IB_CREATED = 1 << 0,   /* created != birth */
    IB_CONTENT = 1 << 1,   /* content != birth */
    IB_MAPGEN  = 1 << 2,   /* mapgen != created */
    IB_BLOCKS  = 1 << 3,   /* blocks != size */
    IB_ENTRIES = 1 << 4,   /* these five: != 0 */
    IB_RDEV    = 1 << 5,
    IB_XATTR   = 1 << 6,
    IB_FLAGS   = 1 << 7,
    IB_PARENT  = 1 << 8,
    IB_NLINK   = 1 << 9,   /* nlink != 1 */
    IB_CTIME   = 1 << 10,  /* ctime != btime */
    IB_MTIME   = 1 << 11,  /* mtime != ctime */
    IB_ATIME   = 1 << 12,  /* atime != btime */
    IB_ORIGIN  = 1 << 13,  /* origin != 0 */
    IB_HIDDEN  = 1 << 14,  /* hidden != 0 */
    IB_ALL     = (1 << 15) - 1,
};

enum { TYPE_HIDDEN = 16 };     /* beside the type of an entry: the name is not of the past */

#define NSEC_PER_SEC 1000000000u

size_t row_end(const struct wr *w)
{
    assert(!w->bad);
    return w->len;
}

int row_damage(struct err *err, const char *row, const char *what)
{
    return err_set(err, ERR_DAMAGE, "index row (%s): %s; rebuild the index: spare rebuild-index", row, what);
}

static bool time_eq(const struct rec_time *a, const struct rec_time *b)
{
    return a->sec == b->sec && a->nsec == b->nsec;
}

static void wr_time(struct wr *w, const struct rec_time *t, const struct rec_time *base)
{
    wr_delta(w, (uint64_t)t->sec, (uint64_t)base->sec);
    wr_delta(w, t->nsec, base->nsec);
}

static struct rec_time rd_time(struct rd *r, const struct rec_time *base)
{
    struct rec_time t;
    uint64_t nsec;

    t.sec = (int64_t)rd_delta(r, (uint64_t)base->sec);
    nsec = rd_delta(r, base->nsec);
    if (nsec >= NSEC_PER_SEC)
        r->bad = true;
    t.nsec = r->bad ? 0 : (uint32_t)nsec;
    return t;
}

static bool type_ok(uint32_t type)
{
    switch (type << 12) {
    case S_IFREG: case S_IFDIR: case S_IFLNK: case S_IFCHR: case S_IFBLK: case S_IFIFO: case S_IFSOCK:
        return true;
    default:
        return false;
    }
}

static bool name_ok(const uint8_t *name, size_t len)
{
    return len > 0 && len <= REC_NAME_MAX && !memchr(name, 0, len) && !memchr(name, '/', len);
}

/* What must hold of an inode row, in memory and on disk; NULL or what is wrong. */
static const char *ino_wrong(const struct row_ino *r, const uint8_t *target)
{
    if (r->mode > 0177777 || !type_ok(r->mode >> 12))
        return "mode is of no file type";
    if (r->created > r->birth || r->content > r->birth || r->mapgen > r->birth)
        return "created, content or mapgen is after its birth";
    if (r->origin != 0 && r->origin >= r->birth)
        return "origin is not before its birth";
    if (r->hidden > r->birth || (r->hidden != 0 && r->hidden < r->created))
        return "it is hidden since before it was made, or after its birth";
    if ((r->flags & INOF_NOHISTORY) && !S_ISDIR(r->mode))
        return "a flag of directories";
    if (r->size > FILE_SIZE_MAX || r->blocks > FILE_SIZE_MAX)
        return "larger than a file may be";
    if (r->flags & ~(uint32_t)(INOF_NEW_BURST | INOF_NOHISTORY | INOF_HAS_ACL))
        return "unknown flags";
    if (r->parent > INO_MAX)
        return "parent is no inode number";
    if (!S_ISDIR(r->mode) && (r->parent != 0 || r->entries != 0))
        return "parent or entries, but not a directory";
    if (S_ISLNK(r->mode) ? (r->target_len == 0 || r->target_len > REC_SYMLINK_MAX || r->target_len != r->size)
                         : r->target_len != 0)
        return "length of the symlink's target";
    if (r->target_len && memchr(target, 0, r->target_len))
        return "a 0 byte in the symlink's target";
    if (r->atime.nsec >= NSEC_PER_SEC || r->mtime.nsec >= NSEC_PER_SEC || r->ctime.nsec >= NSEC_PER_SEC ||
        r->btime.nsec >= NSEC_PER_SEC)
        return "nanoseconds";
    return NULL;
}

static unsigned ino_bits(const struct row_ino *r)
{
    unsigned b = 0;

    b |= r->created != r->birth ? IB_CREATED : 0u;
    b |= r->content != r->birth ? IB_CONTENT : 0u;
    b |= r->mapgen != r->created ? IB_MAPGEN : 0u;
    b |= r->origin ? IB_ORIGIN : 0u;
    b |= r->blocks != r->size ? IB_BLOCKS : 0u;
    b |= r->entries ? IB_ENTRIES : 0u;
    b |= r->rdev ? IB_RDEV : 0u;
    b |= r->n_xattr ? IB_XATTR : 0u;
    b |= r->flags ? IB_FLAGS : 0u;
    b |= r->hidden ? IB_HIDDEN : 0u;
    b |= r->parent ? IB_PARENT : 0u;
    b |= r->nlink != 1 ? IB_NLINK : 0u;
    b |= time_eq(&r->ctime, &r->btime) ? 0u : IB_CTIME;
    b |= time_eq(&r->mtime, &r->ctime) ? 0u : IB_MTIME;
    b |= time_eq(&r->atime, &r->btime) ? 0u : IB_ATIME;
    return b;
}

size_t row_ino_encode(const struct row_ino *r, const void *target, uint8_t *buf, size_t cap)
{
    static const struct rec_time zero;
    struct wr w = wr_init(buf, cap);
    unsigned b = ino_bits(r);

    assert(!ino_wrong(r, target));
    wr_u8(&w, ROW_VERSION);
    wr_u16(&w, (uint16_t)b);
    wr_var(&w, r->created);
    wr_time(&w, &r->btime, &zero);
    wr_u16(&w, (uint16_t)r->mode);
    wr_var(&w, r->uid);
    wr_var(&w, r->gid);
    if (b & IB_PARENT)
        wr_var(&w, r->parent);
    if (b & IB_RDEV)
        wr_var(&w, r->rdev);
    if (b & IB_NLINK)
        wr_var(&w, r->nlink);
    if (b & IB_XATTR)
        wr_var(&w, r->n_xattr);
    if (b & IB_FLAGS)
        wr_var(&w, r->flags);
    if (b & IB_HIDDEN)
        wr_delta(&w, r->hidden, r->created);
    if (b & IB_MAPGEN)
        wr_delta(&w, r->mapgen, r->created);
    if (b & IB_ATIME)
        wr_time(&w, &r->atime, &r->btime);
    wr_var(&w, r->size);
    if (b & IB_BLOCKS)
        wr_var(&w, r->blocks);
    if (b & IB_ENTRIES)
        wr_var(&w, r->entries);
    if (b & IB_MTIME)
        wr_time(&w, &r->mtime, &r->btime);
    if (b & IB_CONTENT)
        wr_delta(&w, r->content, r->created);
    if (b & IB_ORIGIN)
        wr_delta(&w, r->origin, r->created);
    if (b & IB_CREATED)
        wr_var(&w, r->birth - r->created);
    if (b & IB_CTIME)
        wr_time(&w, &r->ctime, &r->btime);
    if (r->target_len)
        wr_bytes(&w, target, r->target_len);
    return row_end(&w);
}

/* In the order of row_ino_encode: what stays the same from version to version first, so that rows of one inode, which lie together, have it in common. */
static void ino_read(struct rd *r, unsigned b, struct row_ino *o)
{
    static const struct rec_time zero;

    o->created = rd_var(r);
    o->btime = rd_time(r, &zero);
    o->mode = rd_u16(r);
    o->uid = rd_var32(r);
    o->gid = rd_var32(r);
    o->parent = b & IB_PARENT ? rd_var(r) : 0;
    o->rdev = b & IB_RDEV ? rd_var32(r) : 0;
    o->nlink = b & IB_NLINK ? rd_var32(r) : 1;
    o->n_xattr = b & IB_XATTR ? rd_var32(r) : 0;
    o->flags = b & IB_FLAGS ? rd_var32(r) : 0;
    o->hidden = b & IB_HIDDEN ? rd_delta(r, o->created) : 0;
    o->mapgen = b & IB_MAPGEN ? rd_delta(r, o->created) : o->created;
    o->atime = b & IB_ATIME ? rd_time(r, &o->btime) : o->btime;
    o->size = rd_var(r);
    o->blocks = b & IB_BLOCKS ? rd_var(r) : o->size;
    o->entries = b & IB_ENTRIES ? rd_var(r) : 0;
    o->mtime = b & IB_MTIME ? rd_time(r, &o->btime) : o->btime;
    o->content = b & IB_CONTENT ? rd_delta(r, o->created) : 0;
    o->origin = b & IB_ORIGIN ? rd_delta(r, o->created) : 0;
    o->birth = b & IB_CREATED ? o->created + rd_var(r) : o->created;
    o->ctime = b & IB_CTIME ? rd_time(r, &o->btime) : o->btime;
    if (!(b & IB_CONTENT))
        o->content = o->birth;
    if (!(b & IB_MTIME))
        o->mtime = o->ctime;
}

int row_ino_decode(const uint8_t *buf, size_t len, struct row_ino *out, const uint8_t **target, struct err *err)
{
    struct rd r = rd_init(buf, len);
    struct row_ino o = { 0 };
    const uint8_t *t = NULL;
    const char *wrong;
    unsigned b;

    if (rd_u8(&r) != ROW_VERSION)
        return row_damage(err, "inode", "version");
    b = rd_u16(&r);
    if (b & ~(unsigned)IB_ALL)
        return row_damage(err, "inode", "unknown fields");
    ino_read(&r, b, &o);
    if (r.bad)
        return row_damage(err, "inode", "a field is cut off or out of range");
    if (S_ISLNK(o.mode)) {
        if (r.left > REC_SYMLINK_MAX)
            return row_damage(err, "inode", "length of the symlink's target");
        o.target_len = (uint16_t)r.left;
        t = rd_bytes(&r, r.left);
    }
    if (!rd_done(&r))
        return row_damage(err, "inode", "bytes behind its end");
    wrong = ino_wrong(&o, t);
    if (!wrong && ino_bits(&o) != b)
        wrong = "a field that says nothing";
    if (wrong)
        return row_damage(err, "inode", wrong);
    *out = o;
    if (target)
        *target = t;
    return 0;
}

/* Type and whether it is hidden, as one byte. */
static uint8_t type_byte(uint32_t type, bool hidden)
{
    return (uint8_t)(type | (hidden ? TYPE_HIDDEN : 0u));
}

static uint32_t type_read(struct rd *r, bool *hidden)
{
    uint32_t b = rd_u8(r);

    *hidden = (b & TYPE_HIDDEN) != 0;
    return b & ~(uint32_t)TYPE_HIDDEN;
}

size_t row_den_encode(const struct row_den *r, uint8_t *buf, size_t cap)
{
    struct wr w = wr_init(buf, cap);

    assert(type_ok(r->type) && r->ino > 0 && r->ino <= INO_MAX);
    wr_u8(&w, ROW_VERSION);
    wr_var(&w, r->birth);
    wr_delta(&w, r->cookie, r->birth);
    wr_u8(&w, type_byte(r->type, r->hidden));
    wr_var(&w, r->ino);
    return row_end(&w);
}

int row_den_decode(const uint8_t *buf, size_t len, struct row_den *out, struct err *err)
{
    struct rd r = rd_init(buf, len);
    struct row_den o = { 0 };

    if (rd_u8(&r) != ROW_VERSION)
        return row_damage(err, "entry", "version");
    o.birth = rd_var(&r);
    o.cookie = rd_delta(&r, o.birth);
    o.type = type_read(&r, &o.hidden);
    o.ino = rd_var(&r);
    if (!rd_done(&r))
        return row_damage(err, "entry", "length");
    if (!type_ok(o.type))
        return row_damage(err, "entry", "unknown file type");
    if (o.ino == 0 || o.ino > INO_MAX)
        return row_damage(err, "entry", "no inode number");
    *out = o;
    return 0;
}

size_t row_dix_encode(const struct row_dix *r, uint8_t *buf, size_t cap)
{
    struct wr w = wr_init(buf, cap);

    assert(type_ok(r->type) && r->ino > 0 && r->ino <= INO_MAX && name_ok(r->name, r->name_len));
    wr_u8(&w, ROW_VERSION);
    wr_var(&w, r->birth);
    wr_u8(&w, type_byte(r->type, r->hidden));
    wr_var(&w, r->ino);
    wr_bytes(&w, r->name, r->name_len);
    return row_end(&w);
}

int row_dix_decode(const uint8_t *buf, size_t len, struct row_dix *out, struct err *err)
{
    struct rd r = rd_init(buf, len);
    struct row_dix o = { 0 };

    if (rd_u8(&r) != ROW_VERSION)
        return row_damage(err, "listing", "version");
    o.birth = rd_var(&r);
    o.type = type_read(&r, &o.hidden);
    o.ino = rd_var(&r);
    if (r.bad || r.left > REC_NAME_MAX)
        return row_damage(err, "listing", "length");
    o.name_len = (uint16_t)r.left;
    o.name = rd_bytes(&r, r.left);
    if (!name_ok(o.name, o.name_len))
        return row_damage(err, "listing", "no file name");
    if (!type_ok(o.type))
        return row_damage(err, "listing", "unknown file type");
    if (o.ino == 0 || o.ino > INO_MAX)
        return row_damage(err, "listing", "no inode number");
    *out = o;
    return 0;
}

size_t row_xat_encode(uint64_t birth, const void *val, size_t vlen, uint8_t *buf, size_t cap)
{
    struct wr w = wr_init(buf, cap);

    assert(vlen <= REC_XATTR_MAX);
    wr_u8(&w, ROW_VERSION);
    wr_var(&w, birth);
    if (vlen)
        wr_bytes(&w, val, vlen);
    return row_end(&w);
}

int row_xat_decode(const uint8_t *buf, size_t len, uint64_t *birth, const uint8_t **val, size_t *vlen, struct err *err)
{
    struct rd r = rd_init(buf, len);
    uint64_t b;

    if (rd_u8(&r) != ROW_VERSION)
        return row_damage(err, "xattr", "version");
    b = rd_var(&r);
    if (r.bad || r.left > REC_XATTR_MAX)
        return row_damage(err, "xattr", "length");
    *birth = b;
    *vlen = r.left;
    *val = r.p;
    return 0;
}

/* Addresses are multiples of 8: the lowest bit is free. */
size_t row_par_encode(const struct row_par *r, uint8_t *buf, size_t cap)
{
    assert((r->birth & 1) == 0);
    return row_u64_encode(r->birth | (r->hidden ? 1u : 0u), buf, cap);
}

int row_par_decode(const uint8_t *buf, size_t len, struct row_par *r, struct err *err)
{
    uint64_t v;
    int rc = row_u64_decode(buf, len, &v, err);

    if (rc == 0)
        *r = (struct row_par){ v & ~UINT64_C(1), (v & 1) != 0 };
    return rc;
}

size_t row_u64_encode(uint64_t v, uint8_t *buf, size_t cap)
{
    struct wr w = wr_init(buf, cap);

    wr_u8(&w, ROW_VERSION);
    wr_var(&w, v);
    return row_end(&w);
}

int row_u64_decode(const uint8_t *buf, size_t len, uint64_t *v, struct err *err)
{
    struct rd r = rd_init(buf, len);
    uint64_t o;

    if (rd_u8(&r) != ROW_VERSION)
        return row_damage(err, "number", "version");
    o = rd_var(&r);
    if (!rd_done(&r))
        return row_damage(err, "number", "length");
    *v = o;
    return 0;
}

size_t row_run_encode(const struct row_run *r, uint8_t *buf, size_t cap)
{
    struct wr w = wr_init(buf, cap);

    wr_u8(&w, ROW_VERSION);
    wr_var(&w, r->first_lsn);
    wr_delta(&w, (uint64_t)r->first_wall, 0);
    wr_delta(&w, (uint64_t)r->last_wall, (uint64_t)r->first_wall);
    return row_end(&w);
}

int row_run_decode(const uint8_t *buf, size_t len, struct row_run *out, struct err *err)
{
    struct rd r = rd_init(buf, len);
    struct row_run o = { 0 };

    if (rd_u8(&r) != ROW_VERSION)
        return row_damage(err, "run", "version");
    o.first_lsn = rd_var(&r);
    o.first_wall = (int64_t)rd_delta(&r, 0);
    o.last_wall = (int64_t)rd_delta(&r, (uint64_t)o.first_wall);
    if (!rd_done(&r))
        return row_damage(err, "run", "length");
    *out = o;
    return 0;
}

size_t row_time_encode(const struct row_time *r, uint8_t *buf, size_t cap)
{
    struct wr w = wr_init(buf, cap);

    wr_u8(&w, ROW_VERSION);
    wr_var(&w, r->lsn);
    wr_delta(&w, r->prev, r->lsn);
    wr_var(&w, r->age_ns);
    return row_end(&w);
}

int row_time_decode(const uint8_t *buf, size_t len, struct row_time *out, struct err *err)
{
    struct rd r = rd_init(buf, len);
    struct row_time o;

    if (rd_u8(&r) != ROW_VERSION)
        return row_damage(err, "time", "version");
    o.lsn = rd_var(&r);
    o.prev = rd_delta(&r, o.lsn);
    o.age_ns = rd_var(&r);
    if (!rd_done(&r))
        return row_damage(err, "time", "length");
    if (o.lsn == 0 || o.prev >= o.lsn)
        return row_damage(err, "time", "addresses");
    *out = o;
    return 0;
}

size_t row_snap_encode(const struct row_snap *r, uint8_t *buf, size_t cap)
{
    struct wr w = wr_init(buf, cap);

    wr_u8(&w, ROW_VERSION);
    wr_u8(&w, r->held ? 1 : 0);
    wr_var(&w, r->lsn);
    wr_delta(&w, r->at, r->lsn);
    wr_delta(&w, (uint64_t)r->wall_ns, 0);
    wr_delta(&w, (uint64_t)r->until_ns, 0);
    wr_var(&w, r->reason_len);
    wr_var(&w, r->person_len);
    if (r->reason_len)
        wr_bytes(&w, r->reason, r->reason_len);
    if (r->person_len)
        wr_bytes(&w, r->person, r->person_len);
    return row_end(&w);
}

int row_snap_decode(const uint8_t *buf, size_t len, struct row_snap *out, struct err *err)
{
    struct rd r = rd_init(buf, len);
    struct row_snap o = { 0 };
    uint64_t reason_len, person_len;
    uint8_t held;

    if (rd_u8(&r) != ROW_VERSION)
        return row_damage(err, "snapshot", "version");
    held = rd_u8(&r);
    o.held = held == 1;
    o.lsn = rd_var(&r);
    o.at = rd_delta(&r, o.lsn);
    o.wall_ns = (int64_t)rd_delta(&r, 0);
    o.until_ns = (int64_t)rd_delta(&r, 0);
    reason_len = rd_var(&r);
    person_len = rd_var(&r);
    if (r.bad || held > 1 || reason_len > UINT16_MAX || person_len > UINT16_MAX)
        return row_damage(err, "snapshot", "a field is cut off or out of range");
    o.reason_len = (uint16_t)reason_len;
    o.person_len = (uint16_t)person_len;
    o.reason = rd_bytes(&r, o.reason_len);
    o.person = rd_bytes(&r, o.person_len);
    if (!rd_done(&r))
        return row_damage(err, "snapshot", "length");
    *out = o;
    return 0;
}

/* Every address in the meta row lies below `applied`: else index and log do not belong together. */
static const char *meta_wrong(const struct row_meta *r)
{
    if (r->last_lsn > r->applied || r->last_time_lsn > r->applied || r->series > r->applied)
        return "an address beyond applied";
    if (r->next_ino > INO_MAX + 1)
        return "next inode number";
    return NULL;
}

size_t row_meta_encode(const struct row_meta *r, uint8_t *buf, size_t cap)
{
    struct wr w = wr_init(buf, cap);

    assert(!meta_wrong(r));
    wr_u8(&w, LAYOUT_VERSION);
    wr_var(&w, r->applied);
    wr_var(&w, r->last_lsn);
    wr_bytes(&w, r->last_hash.b, sizeof r->last_hash.b);
    wr_var(&w, r->next_ino);
    wr_var(&w, r->n_inodes);
    wr_var(&w, r->n_bytes);
    wr_var(&w, r->run);
    wr_delta(&w, (uint64_t)r->last_wall, 0);
    wr_var(&w, r->last_time_lsn);
    wr_var(&w, r->series);
    wr_var(&w, r->snapshots);
    wr_u64(&w, r->mount_id);
    wr_var(&w, r->epoch);
    wr_var(&w, r->age_ns);
    wr_var(&w, r->last_boot);
    wr_var(&w, r->n_past);
    wr_var(&w, r->n_held);
    wr_var(&w, r->n_hidden);
    return row_end(&w);
}

int row_meta_decode(const uint8_t *buf, size_t len, struct row_meta *out, struct err *err)
{
    struct rd r = rd_init(buf, len);
    struct row_meta o = { 0 };
    const uint8_t *h;
    const char *wrong;
    unsigned layout;

    layout = rd_u8(&r);
    if (!r.bad && layout != LAYOUT_VERSION)
        return err_set(err, ERR_DAMAGE, "index: expected rows of layout %d, found layout %u; make it anew: spare rebuild-index", LAYOUT_VERSION, layout);
    o.applied = rd_var(&r);
    o.last_lsn = rd_var(&r);
    h = rd_bytes(&r, sizeof o.last_hash.b);
    if (h)
        memcpy(o.last_hash.b, h, sizeof o.last_hash.b);
    o.next_ino = rd_var(&r);
    o.n_inodes = rd_var(&r);
    o.n_bytes = rd_var(&r);
    o.run = rd_var32(&r);
    o.last_wall = (int64_t)rd_delta(&r, 0);
    o.last_time_lsn = rd_var(&r);
    o.series = rd_var(&r);
    o.snapshots = rd_var(&r);
    o.mount_id = rd_u64(&r);
    o.epoch = rd_var32(&r);
    o.age_ns = rd_var(&r);
    o.last_boot = rd_var(&r);
    o.n_past = rd_var(&r);
    o.n_held = rd_var(&r);
    o.n_hidden = rd_var(&r);
    if (!rd_done(&r))
        return row_damage(err, "meta", "length");
    wrong = meta_wrong(&o);
    if (wrong)
        return row_damage(err, "meta", wrong);
    *out = o;
    return 0;
}
