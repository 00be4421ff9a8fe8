/* retained.c: the retained set, see super.h. FORMAT.md, "Retained set". */
#include "store/base/super.h"
#include "store/base/bytes.h"
#include "store/base/filehead.h"
#include "store/base/pair.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { AT_FIELDS = FILEHEAD_BYTES, FIELD_BYTES = 60 };
static_assert(AT_FIELDS + FIELD_BYTES + RETAINED_RESERVED_BYTES == RETAINED_FIXED_BYTES, "layout");

static const char magic[8] = { 'S', 'P', 'A', 'R', 'E', 'R', 'E', 'T' };
static const char what[] = "retained set";

static size_t file_bytes(uint32_t n)
{
    return RETAINED_FIXED_BYTES + n * (size_t)RETAINED_POINT_BYTES + FILEHEAD_HASH_BYTES;
}

size_t retained_encode(const struct retained *r, const uint8_t lineage[16], uint8_t *buf, size_t cap)
{
    size_t size = file_bytes(r->n);
    struct filehead h = { .version = r->version, .version_min = r->version_min, .compat = r->compat,
                          .ro_compat = r->ro_compat, .incompat = r->incompat, .size = size };
    struct wr w;

    if (r->n > RETAINED_POINTS_MAX || size > cap)
        return 0;
    w = wr_init(buf + AT_FIELDS, size - AT_FIELDS);
    filehead_encode(&h, magic, buf);
    wr_u64(&w, r->gen);
    wr_bytes(&w, lineage, 16);
    wr_u64(&w, r->horizon);
    wr_u32(&w, r->n);
    wr_bytes(&w, r->reserved, sizeof r->reserved);
    wr_u64(&w, r->listed);
    wr_u64(&w, r->leaving);
    wr_u64(&w, r->leaving_age_ns);
    for (uint32_t i = 0; i < r->n; i++) {
        const struct retained_point *p = &r->point[i];

        wr_u64(&w, p->lsn);
        wr_u32(&w, p->kind);
        wr_u32(&w, p->reserved);
        wr_i64(&w, p->placed_ns);
        wr_i64(&w, p->until_ns);
        wr_bytes(&w, p->owner, 16);
    }
    assert(!w.bad && w.left == FILEHEAD_HASH_BYTES);
    filehead_seal(buf, size);
    return size;
}

/* By LSN, kind and owner. */
static int point_cmp(const struct retained_point *a, const struct retained_point *b)
{
    if (a->lsn != b->lsn)
        return a->lsn < b->lsn ? -1 : 1;
    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    return memcmp(a->owner, b->owner, sizeof a->owner);
}

static int check_point(const struct retained *t, uint32_t i, struct err *err)
{
    const struct retained_point *p = &t->point[i];
    unsigned at = RETAINED_FIXED_BYTES + i * RETAINED_POINT_BYTES;

    if (p->kind == 0)
        return err_set(err, ERR_DAMAGE, "%s: point %" PRIu32 " at byte %u is of kind 0", what, i, at);
    if (p->reserved && !(t->compat | t->ro_compat))
        return err_set(err, ERR_DAMAGE, "%s: point %" PRIu32 " at byte %u: reserved bytes are not zero", what,
                       i, at);
    if (p->lsn == 0 || (p->kind == RETAIN_KEPT && p->lsn >= t->listed))
        return err_set(err, ERR_DAMAGE, "%s: point %" PRIu32 " at byte %u is LSN %" PRIu64 " of kind %" PRIu32
                       ", expected one below @%" PRIu64 ", from where on all are listed", what, i, at, p->lsn, p->kind, t->listed);
    if (i && point_cmp(p - 1, p) >= 0)
        return err_set(err, ERR_DAMAGE, "%s: point %" PRIu32 " at byte %u, LSN %" PRIu64 " of kind %" PRIu32
                       ", is not above the one before it", what, i, at, p->lsn, p->kind);
    return 0;
}

static void get_point(struct rd *r, struct retained_point *p)
{
    const uint8_t *owner;

    p->lsn = rd_u64(r);
    p->kind = rd_u32(r);
    p->reserved = rd_u32(r);
    p->placed_ns = rd_i64(r);
    p->until_ns = rd_i64(r);
    owner = rd_bytes(r, sizeof p->owner);
    if (owner)
        memcpy(p->owner, owner, sizeof p->owner);
}

static int get_points(struct rd *r, struct retained *t, struct err *err)
{
    if (t->n == 0)
        return 0;
    t->point = calloc(t->n, sizeof *t->point);
    if (!t->point)
        return err_set(err, ERR_NOMEM, "%s: %" PRIu32 " points: out of memory", what, t->n);
    for (uint32_t i = 0; i < t->n; i++) {
        int rc;

        get_point(r, &t->point[i]);
        rc = check_point(t, i, err);
        if (rc)
            return rc;
    }
    return 0;
}

/* The fields before the points; the head and the hash are good. */
static int get_fields(struct rd *r, size_t len, uint8_t id[16], struct retained *t, struct err *err)
{
    static const uint8_t none[16];
    const uint8_t *p;

    t->gen = rd_u64(r);
    if ((p = rd_bytes(r, 16)))
        memcpy(id, p, 16);
    t->horizon = rd_u64(r);
    t->n = rd_u32(r);
    if ((p = rd_bytes(r, sizeof t->reserved)))
        memcpy(t->reserved, p, sizeof t->reserved);
    t->listed = rd_u64(r);
    t->leaving = rd_u64(r);
    t->leaving_age_ns = rd_u64(r);
    if (t->gen == 0)
        return err_set(err, ERR_DAMAGE, "%s: generation at byte 64 is 0", what);
    if (memcmp(id, none, 16) == 0)
        return err_set(err, ERR_DAMAGE, "%s: lineage at byte 72 is zero", what);
    if (t->n > RETAINED_POINTS_MAX || len != file_bytes(t->n))
        return err_set(err, ERR_DAMAGE, "%s: number of points at byte 96 is %" PRIu32
                       ", which does not fit a file of %zu bytes", what, t->n, len);
    if (memcmp(t->reserved, none, sizeof t->reserved) != 0 && !(t->compat | t->ro_compat))
        return err_set(err, ERR_DAMAGE, "%s: reserved bytes 100 to 103 are not zero", what);
    if (t->listed < t->horizon)
        return err_set(err, ERR_DAMAGE, "%s: at byte 104: expected an LSN at or above the horizon %" PRIu64 ", found %" PRIu64, what, t->horizon, t->listed);
    if (t->leaving != 0 && (t->leaving <= t->horizon || t->leaving > t->listed))
        return err_set(err, ERR_DAMAGE, "%s: at byte 112: expected 0, or an LSN above %" PRIu64 " and at most %" PRIu64 ", found %" PRIu64, what, t->horizon,
                       t->listed, t->leaving);
    if (t->leaving == 0 && t->leaving_age_ns != 0)
        return err_set(err, ERR_DAMAGE, "%s: an age at byte 120 for nothing at byte 112", what);
    return 0;
}

int retained_decode(const uint8_t *buf, size_t len, uint8_t lineage[16], struct retained *out,
                    struct err *err)
{
    struct retained t = { 0 };
    struct rd r = rd_init(buf, len);
    struct filehead h;
    uint8_t id[16] = { 0 };
    int rc = filehead_decode(buf, len, magic, what, &h, err);

    if (!rc)
        rc = len < file_bytes(0) || len > RETAINED_FILE_MAX
            ? err_set(err, ERR_DAMAGE, "%s: %zu bytes long, expected %zu to %d", what, len, file_bytes(0),
                      RETAINED_FILE_MAX)
            : filehead_check(buf, len, what, err);
    if (rc)
        return rc;
    if (h.key_id)
        return err_set(err, ERR_DAMAGE, "%s: key id at byte 52 is %" PRIu32 ", expected 0", what, h.key_id);
    t.version = h.version;
    t.version_min = h.version_min;
    t.compat = h.compat;
    t.ro_compat = h.ro_compat;
    t.incompat = h.incompat;
    (void)rd_bytes(&r, AT_FIELDS);
    rc = get_fields(&r, len, id, &t, err);
    if (!rc)
        rc = get_points(&r, &t, err);
    if (rc) {
        retained_release(&t);
        return rc;
    }
    memcpy(lineage, id, 16);
    *out = t;
    return 0;
}

void retained_release(struct retained *r)
{
    free(r->point);
    r->point = NULL;
    r->n = 0;
}

static bool leaves(const struct retained_point *p)
{
    return p->kind == RETAIN_KEPT && p->until_ns != 0;
}

uint64_t retained_first(const struct retained *r, uint64_t from, uint64_t until)
{
    uint32_t lo = 0, hi = r->n;
    uint64_t whole = from > r->listed ? from : r->listed;

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;

        if (r->point[mid].lsn < from)
            lo = mid + 1;
        else
            hi = mid;
    }
    while (lo < r->n && leaves(&r->point[lo]))
        lo++;
    if (lo < r->n && r->point[lo].lsn < until && r->point[lo].lsn < whole)
        return r->point[lo].lsn;
    return whole < until ? whole : 0;
}

uint64_t retained_last(const struct retained *r, uint64_t from, uint64_t until)
{
    uint64_t last = until > from && until > r->listed ? until - 1 : 0;

    for (uint32_t i = r->n; last == 0 && i-- > 0;)
        if (r->point[i].lsn < until && !leaves(&r->point[i]))
            last = r->point[i].lsn;
    return last >= from ? last : 0;
}

bool retained_lists(const struct retained *r, uint64_t lsn)
{
    return retained_first(r, lsn, lsn + 1) == lsn;
}

uint64_t retained_near(const struct retained *r, uint64_t lsn)
{
    uint64_t near = r->listed;

    for (uint32_t i = 0; i < r->n; i++) {
        uint64_t p = r->point[i].lsn;

        if (!leaves(&r->point[i]) && (p > lsn ? p - lsn : lsn - p) < (near > lsn ? near - lsn : lsn - near))
            near = p;
    }
    return near;
}

static int check_copy(const uint8_t *buf, size_t len, uint64_t *gen, struct err *err)
{
    struct retained t;
    uint8_t lineage[16];
    int rc = retained_decode(buf, len, lineage, &t, err);

    if (!rc) {
        *gen = t.gen;
        retained_release(&t);
    }
    return rc;
}

int retained_read(struct io *io, const uint8_t lineage[16], const uint8_t *before, struct retained *r, struct err *warn,
                  struct err *err)
{
    struct retained t;
    struct pair p;
    uint8_t found[16];
    int i, rc = pair_load(io, "retained", RETAINED_FILE_MAX, check_copy, &p, err);

    if (rc)
        goto out;
    i = pair_current(&p, warn, err);
    rc = i < 0 ? i : retained_decode(p.copy[i].buf, p.copy[i].len, found, &t, err);
    if (rc)
        goto out;
    if (memcmp(found, lineage, 16) != 0)
        rc = before && memcmp(found, before, 16) == 0 ? 1 :
             err_set(err, ERR_DAMAGE, "%s: its lineage at byte 72 is not that of the superblock: it belongs to another store", p.copy[i].name);
    if (rc < 0)
        retained_release(&t);
    else
        *r = t;
out:
    pair_release(&p);
    return rc;
}

int retained_writable(const struct retained *r, struct err *err)
{
    struct filehead h = { .ro_compat = r->ro_compat };

    return filehead_writable(&h, what, err);
}

/* What could not be read back must never get to the disk. */
static int encode_checked(const struct retained *r, const uint8_t lineage[16], uint8_t *buf, size_t cap, size_t *len, struct err *err)
{
    struct retained t;
    struct err why = { 0 };
    uint8_t found[16];

    *len = retained_encode(r, lineage, buf, cap);
    if (*len == 0)
        return err_set(err, ERR_TOOLONG, "not written: %s: %" PRIu32 " points, at most %d fit", what, r->n, RETAINED_POINTS_MAX);
    if (retained_decode(buf, *len, found, &t, &why))
        return err_set(err, ERR_INVAL, "not written: %s", why.msg);
    retained_release(&t);
    return 0;
}

/* ${next} over a set of generation ${gen}, 0: there is none. */
static int write_set(struct io *io, const uint8_t lineage[16], const struct retained *next, uint64_t gen, int *current, struct err *err)
{
    size_t len, cap = file_bytes(next->n < RETAINED_POINTS_MAX ? next->n : RETAINED_POINTS_MAX);
    uint8_t *buf;
    int rc = retained_writable(next, err);

    if (rc)
        return rc;
    buf = malloc(cap);
    if (!buf)
        return err_set(err, ERR_NOMEM, "%s: out of memory", what);
    rc = encode_checked(next, lineage, buf, cap, &len, err);
    if (!rc)
        rc = pair_update(io, "retained", RETAINED_FILE_MAX, check_copy, gen, current, buf, len, err);
    free(buf);
    return rc;
}

int retained_write(struct io *io, const uint8_t lineage[16], struct retained *r, struct err *err)
{
    struct retained next = *r;
    int rc;

    next.gen++;
    rc = write_set(io, lineage, &next, r->gen, &r->current, err);
    if (!rc)
        r->gen++;
    return rc;
}

int retained_create(struct io *io, const uint8_t lineage[16], struct retained *r, struct err *err)
{
    return write_set(io, lineage, r, 0, &r->current, err);
}
