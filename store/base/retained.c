/* retained.c: the retained set, see super.h. FORMAT.md, "Retained set". */
#include "store/base/super.h"
#include "store/base/bytes.h"
#include "store/base/filehead.h"
#include "store/base/pair.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { AT_FIELDS = FILEHEAD_BYTES, FIELD_BYTES = 40 };
static_assert(AT_FIELDS + FIELD_BYTES <= RETAINED_FIXED_BYTES, "layout");

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
    wr_u32(&w, 0);
    wr_zero(&w, RETAINED_FIXED_BYTES - AT_FIELDS - FIELD_BYTES);
    for (uint32_t i = 0; i < r->n; i++) {
        wr_u64(&w, r->point[i].lsn);
        wr_u32(&w, r->point[i].kind);
        wr_u32(&w, r->point[i].reserved);
    }
    assert(!w.bad && w.left == FILEHEAD_HASH_BYTES);
    filehead_seal(buf, size);
    return size;
}

/* One point, checked against the one before it (NULL for the first). */
static int check_point(uint32_t i, const struct retained_point *p, const struct retained_point *before,
                       uint64_t horizon, struct err *err)
{
    unsigned at = RETAINED_FIXED_BYTES + i * RETAINED_POINT_BYTES;

    if (p->kind < RETAIN_KEPT || p->kind > RETAIN_HOLD)
        return err_set(err, ERR_DAMAGE, "%s: point %" PRIu32 " at byte %u is of kind %" PRIu32
                       ", expected %d to %d", what, i, at, p->kind, RETAIN_KEPT, RETAIN_HOLD);
    if (p->reserved)
        return err_set(err, ERR_DAMAGE, "%s: point %" PRIu32 " at byte %u: reserved bytes are not zero", what,
                       i, at);
    if (p->lsn == 0 || p->lsn >= horizon)
        return err_set(err, ERR_DAMAGE, "%s: point %" PRIu32 " at byte %u is LSN %" PRIu64
                       ", expected one below the horizon %" PRIu64, what, i, at, p->lsn, horizon);
    if (before && (p->lsn < before->lsn || (p->lsn == before->lsn && p->kind <= before->kind)))
        return err_set(err, ERR_DAMAGE, "%s: point %" PRIu32 " at byte %u, LSN %" PRIu64 " of kind %" PRIu32
                       ", is not above the one before it", what, i, at, p->lsn, p->kind);
    return 0;
}

static struct retained_point get_point(struct rd *r)
{
    struct retained_point p;

    p.lsn = rd_u64(r);
    p.kind = rd_u32(r);
    p.reserved = rd_u32(r);
    return p;
}

static int check_points(struct rd r, uint32_t n, uint64_t horizon, struct err *err)
{
    struct retained_point p, before = { 0 };

    for (uint32_t i = 0; i < n; i++) {
        int rc;

        p = get_point(&r);
        rc = check_point(i, &p, i ? &before : NULL, horizon, err);
        if (rc)
            return rc;
        before = p;
    }
    return 0;
}

int retained_decode(const uint8_t *buf, size_t len, uint8_t lineage[16], struct retained *out,
                    struct err *err)
{
    static const uint8_t none[16];
    struct rd r = rd_init(buf, len);
    struct filehead h;
    const uint8_t *id;
    uint64_t gen, horizon;
    uint32_t n;
    int rc = filehead_decode(buf, len, magic, what, &h, err);

    if (!rc)
        rc = len < file_bytes(0) || len > RETAINED_FILE_MAX
            ? err_set(err, ERR_DAMAGE, "%s: %zu bytes long, expected %zu to %d", what, len, file_bytes(0),
                      RETAINED_FILE_MAX)
            : filehead_check(buf, len, what, err);
    if (rc)
        return rc;
    (void)rd_bytes(&r, AT_FIELDS);
    gen = rd_u64(&r);
    id = rd_bytes(&r, 16);
    horizon = rd_u64(&r);
    n = rd_u32(&r);
    if (gen == 0)
        return err_set(err, ERR_DAMAGE, "%s: generation at byte 64 is 0", what);
    if (!id || memcmp(id, none, 16) == 0)
        return err_set(err, ERR_DAMAGE, "%s: lineage at byte 72 is zero", what);
    if (n > RETAINED_POINTS_MAX || len != file_bytes(n))
        return err_set(err, ERR_DAMAGE, "%s: number of points at byte 96 is %" PRIu32
                       ", which does not fit a file of %zu bytes", what, n, len);
    if (h.key_id)
        return err_set(err, ERR_DAMAGE, "%s: key id at byte 52 is %" PRIu32 ", expected 0", what, h.key_id);
    rd_zero(&r, RETAINED_FIXED_BYTES - AT_FIELDS - FIELD_BYTES + 4);
    if (r.bad)
        return err_set(err, ERR_DAMAGE, "%s: reserved bytes 100 to 127 are not zero", what);
    rc = check_points(r, n, horizon, err);
    if (rc)
        return rc;

    memset(out, 0, sizeof *out);
    memcpy(lineage, id, 16);
    out->gen = gen;
    out->version = h.version;
    out->version_min = h.version_min;
    out->compat = h.compat;
    out->ro_compat = h.ro_compat;
    out->incompat = h.incompat;
    out->horizon = horizon;
    out->n = n;
    for (uint32_t i = 0; i < n; i++)
        out->point[i] = get_point(&r);
    return 0;
}

static int check_copy(const uint8_t *buf, size_t len, uint64_t *gen, struct err *err)
{
    struct retained *t = malloc(sizeof *t);
    uint8_t lineage[16];
    int rc;

    if (!t)
        return err_set(err, ERR_NOMEM, "%s: out of memory", what);
    rc = retained_decode(buf, len, lineage, t, err);
    if (!rc)
        *gen = t->gen;
    free(t);
    return rc;
}

int retained_read(struct io *io, const uint8_t lineage[16], struct retained *r, struct err *warn,
                  struct err *err)
{
    struct retained *t = NULL;
    struct pair p;
    uint8_t found[16];
    int i, rc = pair_load(io, "retained", RETAINED_FILE_MAX, check_copy, &p, err);

    if (rc)
        goto out;
    i = pair_current(&p, warn, err);
    if (i < 0) {
        rc = i;
        goto out;
    }
    t = malloc(sizeof *t);
    if (!t) {
        rc = err_set(err, ERR_NOMEM, "%s: out of memory", what);
        goto out;
    }
    rc = retained_decode(p.copy[i].buf, p.copy[i].len, found, t, err);
    if (!rc && memcmp(found, lineage, 16) != 0)
        rc = err_set(err, ERR_DAMAGE, "%s: its lineage at byte 72 is not that of the superblock: it belongs "
                     "to another store", p.copy[i].name);
    if (!rc)
        *r = *t;
out:
    free(t);
    pair_release(&p);
    return rc;
}

int retained_writable(const struct retained *r, struct err *err)
{
    struct filehead h = { .ro_compat = r->ro_compat };

    return filehead_writable(&h, what, err);
}

int retained_write(struct io *io, const uint8_t lineage[16], struct retained *r, struct err *err)
{
    struct retained *t = NULL;
    struct err why = { 0 };
    uint8_t found[16], *buf = NULL;
    size_t len;
    int rc = retained_writable(r, err);

    if (rc)
        return rc;
    buf = malloc(RETAINED_FILE_MAX);
    t = malloc(sizeof *t);
    if (!buf || !t) {
        rc = err_set(err, ERR_NOMEM, "%s: out of memory", what);
        goto out;
    }
    *t = *r;
    t->gen++;
    len = retained_encode(t, lineage, buf, RETAINED_FILE_MAX);
    /* What could not be read back must never get to the disk. */
    rc = len ? retained_decode(buf, len, found, t, &why)
             : err_set(&why, ERR_TOOLONG, "%s: %" PRIu32 " points, at most %d fit", what, r->n,
                       RETAINED_POINTS_MAX);
    if (rc) {
        rc = err_set(err, len ? ERR_INVAL : rc, "not written: %s", why.msg);
        goto out;
    }
    rc = pair_update(io, "retained", RETAINED_FILE_MAX, check_copy, r->gen, &r->current, buf, len, err);
    if (!rc)
        r->gen++;
out:
    free(t);
    free(buf);
    return rc;
}
