/* archive_head.c: head, frame heads and name of an archive file. */
#include "store/pack/archive_internal.h"
#include "store/base/filehead.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { AH_RESERVED = 156, AH_HASH = 240, AF_SUM = 76 };
static_assert(AH_HASH + FILEHEAD_HASH_BYTES == ARCHIVE_HEAD_BYTES, "layout");
static_assert(AF_SUM + 4 == ARCHIVE_FRAME_HEAD_BYTES, "layout");

static const char magic[8] = { 'S', 'P', 'A', 'R', 'E', 'A', 'R', 'C' };
static const char what[] = "archive file";
static const uint8_t none[16];

void archive_head_encode(const struct archive_head *h, uint8_t buf[ARCHIVE_HEAD_BYTES])
{
    struct filehead fh = { .compat = h->compat, .ro_compat = h->ro_compat, .incompat = h->incompat, .size = h->size,
                           .hash_alg = h->hash_alg };
    struct wr w = wr_init(buf + FILEHEAD_BYTES, ARCHIVE_HEAD_BYTES - FILEHEAD_BYTES);

    filehead_encode(&fh, magic, buf);
    wr_bytes(&w, h->lineage, 16);
    wr_bytes(&w, h->site, 16);
    wr_bytes(&w, h->epoch_id, 16);
    wr_u64(&w, h->gen);
    wr_u64(&w, h->first);
    wr_u64(&w, h->end);
    wr_u64(&w, h->n_records);
    wr_u64(&w, h->retained_gen);
    wr_u32(&w, h->n_frames);
    assert(FILEHEAD_BYTES + w.len == AH_RESERVED);
    wr_zero(&w, AH_HASH - AH_RESERVED);
    assert(!w.bad && w.left == FILEHEAD_HASH_BYTES);
    filehead_seal(buf, ARCHIVE_HEAD_BYTES);
}

static void get_16(struct rd *r, uint8_t out[16])
{
    const uint8_t *p = rd_bytes(r, 16);

    if (p != NULL)
        memcpy(out, p, 16);
}

static void get_fields(struct rd *r, struct archive_head *h)
{
    (void)rd_bytes(r, FILEHEAD_BYTES);
    get_16(r, h->lineage);
    get_16(r, h->site);
    get_16(r, h->epoch_id);
    h->gen = rd_u64(r);
    h->first = rd_u64(r);
    h->end = rd_u64(r);
    h->n_records = rd_u64(r);
    h->retained_gen = rd_u64(r);
    h->n_frames = rd_u32(r);
    if ((h->compat | h->ro_compat) == 0)        /* else a feature says what these are */
        rd_zero(r, AH_HASH - AH_RESERVED);
}

/* Whether the numbers fit each other. */
static int check_fields(const struct archive_head *h, struct err *err)
{
    if (memcmp(h->lineage, none, 16) == 0 || memcmp(h->site, none, 16) == 0 || memcmp(h->epoch_id, none, 16) == 0)
        return err_set(err, ERR_DAMAGE, "%s: lineage, site or epoch id at byte 64, 80 or 96 is zero", what);
    if (h->gen == 0 || h->gen > UINT32_MAX)
        return err_set(err, ERR_DAMAGE, "%s: generation at byte 112 is %" PRIu64 ", expected 1 to 2^32 - 1", what, h->gen);
    if (h->first == 0 || h->first % 8 != 0 || h->end % 8 != 0 || h->end <= h->first || h->end > INT64_MAX)
        return err_set(err, ERR_DAMAGE, "%s: addresses at byte 120 are %" PRIu64 " to %" PRIu64 ", expected a range of multiples of 8",
                       what, h->first, h->end);
    if (h->n_records == 0 || h->n_records > (h->end - h->first) / ARCHIVE_RECORD_SPAN_MIN)
        return err_set(err, ERR_DAMAGE, "%s: number of records at byte 136 is %" PRIu64 ", which does not fit %" PRIu64 " addresses",
                       what, h->n_records, h->end - h->first);
    if (h->n_frames == 0 || h->n_frames > h->n_records || h->n_records > (uint64_t)h->n_frames * ARCHIVE_FRAME_RECORDS_MAX)
        return err_set(err, ERR_DAMAGE, "%s: number of frames at byte 152 is %" PRIu32 ", which does not fit %" PRIu64 " records", what,
                       h->n_frames, h->n_records);
    if (h->size < ARCHIVE_HEAD_BYTES + h->n_frames * (uint64_t)(ARCHIVE_FRAME_HEAD_BYTES + 1) + ARCHIVE_TAIL_BYTES)
        return err_set(err, ERR_DAMAGE, "%s: number of frames at byte 152 is %" PRIu32 ", which does not fit a file of %" PRIu64
                       " bytes", what, h->n_frames, h->size);
    return 0;
}

int archive_head_decode(const uint8_t *buf, size_t len, uint64_t size, struct archive_head *h, struct err *err)
{
    struct rd r = rd_init(buf, ARCHIVE_HEAD_BYTES);
    struct archive_head t;
    struct filehead fh;
    int rc;

    if (len < ARCHIVE_HEAD_BYTES || size < ARCHIVE_HEAD_BYTES)
        return err_set(err, ERR_DAMAGE, "%s: %zu bytes long, expected a head of %d", what, len, (int)ARCHIVE_HEAD_BYTES);
    /* It looks at 64 bytes; the size is that of the file. */
    rc = filehead_decode(buf, (size_t)size, magic, what, &fh, err);
    if (rc == 0)
        rc = filehead_check(buf, ARCHIVE_HEAD_BYTES, what, err);
    if (rc != 0)
        return rc;
    memset(&t, 0, sizeof t);
    t.compat = fh.compat;
    t.ro_compat = fh.ro_compat;
    t.incompat = fh.incompat;
    t.size = fh.size;
    t.hash_alg = fh.hash_alg;
    if (fh.key_id != 0)
        return err_set(err, ERR_DAMAGE, "%s: key id at byte 52 is %" PRIu32 ", expected 0", what, fh.key_id);
    get_fields(&r, &t);
    if (r.bad)
        return err_set(err, ERR_DAMAGE, "%s: reserved bytes %d to %d are not zero", what, (int)AH_RESERVED, AH_HASH - 1);
    rc = check_fields(&t, err);
    if (rc == 0)
        *h = t;
    return rc;
}

void archive_frame_encode(const struct archive_frame *f, uint8_t buf[ARCHIVE_FRAME_HEAD_BYTES])
{
    struct wr w = wr_init(buf, ARCHIVE_FRAME_HEAD_BYTES);

    wr_u32(&w, ARCHIVE_FRAME_MAGIC);
    wr_u32(&w, f->stored);
    wr_u32(&w, f->expanded);
    wr_u32(&w, f->n);
    wr_u64(&w, f->first_lsn);
    wr_u64(&w, f->end);
    wr_u64(&w, f->prev_lsn);
    wr_bytes(&w, f->prev_hash.b, 16);
    wr_bytes(&w, f->last_hash.b, 16);
    wr_u32(&w, 0);
    assert(!w.bad && w.len == AF_SUM);
    wr_u32(&w, hash32(buf, AF_SUM));
}

int archive_frame_decode(const uint8_t *buf, size_t len, struct archive_frame *f, struct err *err)
{
    struct rd r = rd_init(buf, len);
    struct archive_frame t;
    uint32_t mark, zero;

    if (len < ARCHIVE_FRAME_HEAD_BYTES)
        return err_set(err, ERR_DAMAGE, "expected a frame's head of %d bytes, found %zu", (int)ARCHIVE_FRAME_HEAD_BYTES, len);
    memset(&t, 0, sizeof t);
    mark = rd_u32(&r);
    if (mark != ARCHIVE_FRAME_MAGIC)
        return err_set(err, ERR_DAMAGE, "expected a frame (SPAF), found %08" PRIx32, mark);
    if (get_u32(buf + AF_SUM) != hash32(buf, AF_SUM))
        return err_set(err, ERR_DAMAGE, "checksum of a frame's head at byte %d of it: expected %08" PRIx32 ", found %08" PRIx32,
                       (int)AF_SUM, hash32(buf, AF_SUM), get_u32(buf + AF_SUM));
    t.stored = rd_u32(&r);
    t.expanded = rd_u32(&r);
    t.n = rd_u32(&r);
    t.first_lsn = rd_u64(&r);
    t.end = rd_u64(&r);
    t.prev_lsn = rd_u64(&r);
    get_16(&r, t.prev_hash.b);
    get_16(&r, t.last_hash.b);
    zero = rd_u32(&r);
    if (zero != 0)
        return err_set(err, ERR_DAMAGE, "reserved bytes 72 to 75 of a frame's head are not zero");
    if (t.stored == 0 || t.stored > ARCHIVE_FRAME_MAX || t.expanded == 0 || t.expanded > ARCHIVE_FRAME_MAX)
        return err_set(err, ERR_DAMAGE, "lengths of a frame: expected 1 to %d bytes, found %" PRIu32 " that expand to %" PRIu32,
                       (int)ARCHIVE_FRAME_MAX, t.stored, t.expanded);
    if (t.n == 0 || t.n > ARCHIVE_FRAME_RECORDS_MAX)
        return err_set(err, ERR_DAMAGE, "records of a frame: expected 1 to %d, found %" PRIu32, (int)ARCHIVE_FRAME_RECORDS_MAX, t.n);
    if (t.first_lsn == 0 || t.first_lsn % 8 != 0 || t.end % 8 != 0 || t.end > INT64_MAX || t.end <= t.first_lsn ||
        (t.end - t.first_lsn) / ARCHIVE_RECORD_SPAN_MIN < t.n)
        return err_set(err, ERR_DAMAGE, "addresses of a frame of %" PRIu32 " records: found %" PRIu64 " to %" PRIu64
                       ", in which they cannot lie", t.n, t.first_lsn, t.end);
    if (t.prev_lsn >= t.first_lsn || t.prev_lsn % 8 != 0 || (t.prev_lsn == 0 && memcmp(t.prev_hash.b, none, 16) != 0))
        return err_set(err, ERR_DAMAGE, "record before those of a frame from LSN %" PRIu64 " on: found LSN %" PRIu64 ", hash %016" PRIx64
                       "..., which cannot be", t.first_lsn, t.prev_lsn, get_be64(t.prev_hash.b));
    *f = t;
    return 0;
}

void archive_name(uint64_t first, uint64_t end, uint64_t gen, char buf[ARCHIVE_NAME_MAX])
{
    names_put("archive", "arc", first, end, gen, buf);
}

bool archive_parse(const char *name, uint64_t *first, uint64_t *end, uint64_t *gen)
{
    return names_parse(name, "arc", first, end, gen);
}
