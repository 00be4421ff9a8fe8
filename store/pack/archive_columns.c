/*
 * archive_columns.c: records as the expanded bytes of a frame and back. Fields are columns, so that like lies with like;
 * arguments are one column a type.
 */
#include "store/pack/archive_internal.h"
#include "store/log/frame.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define X(name, num) static_assert((num) >= 1 && (num) <= ARC_TYPES, "a column for its arguments");
REC_TABLE(X)
#undef X

enum { VAR_MAX = 10, SUMS_MAX = REC_DATA_MAX / REC_SUM_BYTES };

static unsigned args_column(uint64_t type)
{
    return (unsigned)(ARC_FIXED + type - 1);
}

/* ${rec} becomes the record before. */
static void move_on(struct archive_before *b, const struct record *rec)
{
    *b = (struct archive_before){
        .end = rec->lsn + frame_span(rec->head_len + rec->data_len), .epoch = rec->epoch, .incarnation = rec->incarnation,
        .wall = (uint64_t)rec->wall_ns, .boot = rec->boot_ns, .uid = rec->uid, .gid = rec->gid, .pid = rec->pid,
        .unique = rec->unique, .ino = rec->ino,
    };
}

void archive_put(struct columns *c, struct archive_before *b, const struct record *rec, const uint8_t *head)
{
    uint32_t sums_len = 8 * record_n_sums(rec->data_len), args_len = rec->head_len - REC_HEAD_BYTES - sums_len;
    uint64_t d_wall = (uint64_t)rec->wall_ns - b->wall;

    columns_var(c, ARC_TYPE, rec->type);
    columns_var(c, ARC_FLAGS, rec->flags);
    columns_var(c, ARC_GAP, rec->lsn - b->end);
    columns_var(c, ARC_DATA_LEN, rec->data_len);
    columns_var(c, ARC_ARGS_LEN, args_len);
    columns_var(c, ARC_EPOCH, zz(rec->epoch - b->epoch));
    columns_var(c, ARC_INCARNATION, rec->incarnation ^ b->incarnation);
    columns_var(c, ARC_WALL, zz(d_wall));
    columns_var(c, ARC_BOOT, zz(rec->boot_ns - b->boot - d_wall));
    columns_var(c, ARC_UID, zz(rec->uid - b->uid));
    columns_var(c, ARC_GID, zz(rec->gid - b->gid));
    columns_var(c, ARC_PID, zz(rec->pid - b->pid));
    columns_var(c, ARC_UNIQUE, zz(rec->unique - b->unique));
    columns_var(c, ARC_INO, zz(rec->ino - b->ino));
    columns_bytes(c, ARC_SUMS, head + REC_HEAD_BYTES, sums_len);
    columns_bytes(c, args_column(rec->type), head + REC_HEAD_BYTES + sums_len, args_len);
    move_on(b, rec);
}

size_t archive_put_bound(uint32_t head_len)
{
    return ARC_NUMBERS * (size_t)VAR_MAX + head_len - REC_HEAD_BYTES;
}

size_t archive_take(const struct columns *c, uint8_t *buf, size_t cap)
{
    unsigned which[COLUMNS_MAX];
    size_t n = 0;

    /* No type is without arguments: one that occurs has bytes in its column. */
    for (unsigned i = 0; i < COLUMNS_MAX; i++)
        if (i < ARC_FIXED || c->col[i].len > 0)
            which[n++] = i;
    return columns_take(c, which, n, buf, cap);
}

/* Reading: a place between two records. */
struct cursor {
    struct rd col[COLUMNS_MAX];
    struct archive_before before;
    uint64_t end;                               /* address behind the last record */
    uint32_t at, n;                             /* records taken, records */
};

/* Which types occur in column 0: bit t of *${seen}. */
static int types_of(struct rd types, uint32_t n, uint64_t *seen, struct err *err)
{
    *seen = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t t = rd_var(&types);

        if (types.bad || t > ARC_TYPES || record_type_name((unsigned)t) == NULL)
            return err_set(err, ERR_DAMAGE, "record %" PRIu32 " of %" PRIu32 ": expected a type in column 0, found %s", i, n,
                           types.bad ? "none" : "an unknown one");
        *seen |= UINT64_C(1) << t;
    }
    return 0;
}

static int cursor_open(struct cursor *c, const uint8_t *buf, size_t len, const struct archive_frame *f, struct err *err)
{
    struct rd r = rd_init(buf, len);
    uint64_t seen;
    int rc;

    memset(c, 0, sizeof *c);
    c->n = f->n;
    c->end = f->end;
    c->before.end = f->first_lsn;
    for (unsigned i = 0; i < ARC_FIXED; i++)
        if (!columns_next(&r, &c->col[i]))
            return err_set(err, ERR_DAMAGE, "column %u is longer than what is left of the frame's %zu bytes", i, len);
    rc = types_of(c->col[ARC_TYPE], f->n, &seen, err);
    if (rc != 0)
        return rc;
    for (unsigned t = 1; t <= ARC_TYPES; t++)
        if ((seen >> t & 1) != 0 && !columns_next(&r, &c->col[args_column(t)]))
            return err_set(err, ERR_DAMAGE, "arguments of type %u are longer than what is left of the frame's %zu bytes", t, len);
    if (!rd_done(&r))
        return err_set(err, ERR_DAMAGE, "%zu bytes behind the last column", r.left);
    return 0;
}

/* The last record was taken: nothing may be left over. */
static int cursor_end(const struct cursor *c, struct err *err)
{
    for (unsigned i = 0; i < COLUMNS_MAX; i++)
        if (c->col[i].left > 0)
            return err_set(err, ERR_DAMAGE, "column %u: %zu bytes behind those of the last record", i, c->col[i].left);
    if (c->before.end != c->end)
        return err_set(err, ERR_DAMAGE, "its last record ends at %" PRIu64 ", expected %" PRIu64, c->before.end, c->end);
    return 0;
}

/* The numbers of the next record: what belongs into its fields. */
static void get_numbers(struct cursor *c, uint64_t v[ARC_NUMBERS])
{
    const struct archive_before *b = &c->before;
    uint64_t d_wall;

    for (unsigned i = 0; i < ARC_NUMBERS; i++)
        v[i] = rd_var(&c->col[i]);
    d_wall = zz_get(v[ARC_WALL]);
    v[ARC_EPOCH] = b->epoch + zz_get(v[ARC_EPOCH]);
    v[ARC_INCARNATION] ^= b->incarnation;
    v[ARC_WALL] = b->wall + d_wall;
    v[ARC_BOOT] = b->boot + d_wall + zz_get(v[ARC_BOOT]);
    v[ARC_UID] = b->uid + zz_get(v[ARC_UID]);
    v[ARC_GID] = b->gid + zz_get(v[ARC_GID]);
    v[ARC_PID] = b->pid + zz_get(v[ARC_PID]);
    v[ARC_UNIQUE] = b->unique + zz_get(v[ARC_UNIQUE]);
    v[ARC_INO] = b->ino + zz_get(v[ARC_INO]);
}

/* The first column whose number cannot be, or ARC_NUMBERS. */
static unsigned bad_number(const struct cursor *c, const uint64_t v[ARC_NUMBERS])
{
    static const uint64_t max[ARC_NUMBERS] = {
        [ARC_TYPE] = ARC_TYPES, [ARC_FLAGS] = UINT16_MAX, [ARC_GAP] = UINT64_MAX, [ARC_DATA_LEN] = REC_DATA_MAX,
        [ARC_ARGS_LEN] = REC_ARGS_MAX, [ARC_EPOCH] = UINT32_MAX, [ARC_INCARNATION] = UINT64_MAX, [ARC_WALL] = UINT64_MAX,
        [ARC_BOOT] = UINT64_MAX, [ARC_UID] = UINT32_MAX, [ARC_GID] = UINT32_MAX, [ARC_PID] = UINT32_MAX,
        [ARC_UNIQUE] = UINT64_MAX, [ARC_INO] = UINT64_MAX,
    };

    for (unsigned i = 0; i < ARC_NUMBERS; i++)
        if (c->col[i].bad || v[i] > max[i])
            return i;
    if (v[ARC_GAP] % 8 != 0 || v[ARC_GAP] > c->end - c->before.end || (c->at == 0 && v[ARC_GAP] != 0))
        return ARC_GAP;
    return ARC_NUMBERS;
}

static void set_fields(const uint64_t v[ARC_NUMBERS], uint64_t lsn, struct record *r)
{
    memset(r, 0, sizeof *r);
    r->type = (uint16_t)v[ARC_TYPE];
    r->flags = (uint16_t)v[ARC_FLAGS];
    r->data_len = (uint32_t)v[ARC_DATA_LEN];
    r->head_len = REC_HEAD_BYTES + 8 * record_n_sums(r->data_len) + (uint32_t)v[ARC_ARGS_LEN];
    r->lsn = lsn;
    r->epoch = (uint32_t)v[ARC_EPOCH];
    r->incarnation = v[ARC_INCARNATION];
    r->wall_ns = (int64_t)v[ARC_WALL];
    r->boot_ns = v[ARC_BOOT];
    r->uid = (uint32_t)v[ARC_UID];
    r->gid = (uint32_t)v[ARC_GID];
    r->pid = (uint32_t)v[ARC_PID];
    r->unique = v[ARC_UNIQUE];
    r->ino = v[ARC_INO];
}

/* The next record, but for chain and hash; its sums are *${sums}. Its arguments passed the checks of record_decode. */
static int cursor_next(struct cursor *c, struct record *r, const uint8_t **sums, struct err *err)
{
    struct err why = { 0 };
    const uint8_t *args;
    uint64_t v[ARC_NUMBERS], span;
    unsigned bad;

    get_numbers(c, v);
    bad = bad_number(c, v);
    if (bad < ARC_NUMBERS)
        return err_set(err, ERR_DAMAGE, "record %" PRIu32 " of %" PRIu32 ": column %u holds no number that can be there", c->at, c->n, bad);
    set_fields(v, c->before.end + v[ARC_GAP], r);
    span = frame_span(r->head_len + r->data_len);
    if (span > c->end - r->lsn)
        return err_set(err, ERR_DAMAGE, "record %" PRIu32 " of %" PRIu32 ", LSN %" PRIu64 ": ends at %" PRIu64 ", behind its frame's end %"
                       PRIu64, c->at, c->n, r->lsn, r->lsn + span, c->end);
    *sums = rd_bytes(&c->col[ARC_SUMS], 8 * (size_t)record_n_sums(r->data_len));
    args = rd_bytes(&c->col[args_column(r->type)], (size_t)v[ARC_ARGS_LEN]);
    if (*sums == NULL || args == NULL)
        return err_set(err, ERR_DAMAGE, "record %" PRIu32 " of %" PRIu32 ", LSN %" PRIu64 ": expected %" PRIu32 " sums and %" PRIu64
                       " bytes of arguments, found fewer", c->at, c->n, r->lsn, record_n_sums(r->data_len), v[ARC_ARGS_LEN]);
    if (record_decode_args(args, (size_t)v[ARC_ARGS_LEN], r, &why) != 0)
        return err_set(err, ERR_DAMAGE, "record %" PRIu32 " of %" PRIu32 ", LSN %" PRIu64 ": expected a record, found: %s", c->at, c->n,
                       r->lsn, why.msg);
    c->at++;
    move_on(&c->before, r);
    return 0;
}

/* Room for the heads of ${n} records, whose sums and arguments are among ${len} bytes. */
static int heads_room(struct archive_heads *out, uint32_t n, size_t len, struct err *err)
{
    size_t want = n * (size_t)REC_HEAD_BYTES + len;
    uint8_t *p;

    if (out->cap >= want)
        return 0;
    p = malloc(want);
    if (p == NULL)
        return err_set(err, ERR_NOMEM, "%" PRIu32 " records: out of memory", n);
    free(out->p);
    out->p = p;
    out->cap = want;
    return 0;
}

/* ${r} behind the heads in ${out}, chained to the last one, with its hash. */
static int add_head(struct archive_heads *out, struct record *r, const uint8_t *sums_at, struct err *err)
{
    uint64_t sums[SUMS_MAX];
    uint32_t head_len = r->head_len;
    uint8_t *head = out->p + out->len;

    for (uint32_t i = 0; i < record_n_sums(r->data_len); i++)
        sums[i] = get_u64(sums_at + 8 * (size_t)i);
    if (record_encode(r, sums, head, out->cap - out->len) != (int)head_len)
        return err_set(err, ERR_DAMAGE, "LSN %" PRIu64 ": arguments that no program writes", r->lsn);
    r->prev_lsn = out->last_lsn;
    r->prev_hash = out->last_hash;
    record_seal(head, head_len, r);
    out->len += head_len;
    out->last_lsn = r->lsn;
    out->last_hash = r->hash;
    return 0;
}

int archive_unfold(const uint8_t *buf, size_t len, const struct archive_frame *f, struct archive_heads *out, struct err *err)
{
    const uint8_t *sums = NULL;
    struct cursor c;
    struct record r;
    int rc;

    out->len = 0;
    out->last_lsn = f->prev_lsn;
    out->last_hash = f->prev_hash;
    rc = cursor_open(&c, buf, len, f, err);
    if (rc == 0)
        rc = heads_room(out, f->n, len, err);
    while (rc == 0 && c.at < c.n) {
        rc = cursor_next(&c, &r, &sums, err);
        if (rc == 0)
            rc = add_head(out, &r, sums, err);
    }
    if (rc == 0)
        rc = cursor_end(&c, err);
    if (rc != 0)
        out->len = 0;
    return rc;
}
