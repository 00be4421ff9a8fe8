/*
 * log_scan.c: one record where it lies, and the window through which a walk
 * reads a segment.
 */
#include "store/log/log_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void log_window_release(struct log_window *w)
{
    free(w->buf);
    memset(w, 0, sizeof *w);
}

int log_window_get(struct log_window *w, struct segment *seg, uint64_t off, size_t n,
                   const uint8_t **p, size_t *got, struct err *err)
{
    size_t step = w->step > 0 ? w->step : LOG_WINDOW, want = n > step ? n : step;
    int64_t rd;

    if (w->gen == seg->gen && off >= w->off && off - w->off <= w->len && n <= w->len - (off - w->off)) {
        *p = w->buf + (off - w->off);
        *got = n;
        return 0;
    }
    w->gen = 0;
    if (want > w->cap) {
        uint8_t *buf = malloc(want);

        if (buf == NULL)
            return err_set(err, ERR_NOMEM, "log: out of memory for %zu bytes of a segment", want);
        free(w->buf);
        w->buf = buf;
        w->cap = want;
    }
    rd = io_pread(seg->file, w->buf, want, off, want > n ? NULL : err);
    if (rd < 0 && want > n)              /* a sector behind it that the disk does not give is not this one's */
        rd = io_pread(seg->file, w->buf, n, off, err);
    if (rd < 0)
        return (int)rd;
    w->gen = seg->gen;
    w->off = off;
    w->len = (size_t)rd;
    *p = w->buf;
    *got = (size_t)rd < n ? (size_t)rd : n;
    return 0;
}

bool log_frame_at(const struct segment *seg, uint64_t pos, const uint8_t *buf, struct frame *f)
{
    return pos < seg->cut && frame_decode(buf, f) && f->lsn == pos && f->gen == seg->gen &&
           (!seg->header_known || f->incarnation == seg->incarnation);
}

int log_bad_set(struct err *err, const struct segment *seg, const struct log_bad *bad)
{
    char name[SEGMENT_NAME_MAX];

    segment_name(seg->first, seg->gen, name);
    return err_set(err, ERR_DAMAGE, "%s: offset %" PRIu64 ": %s", name, bad->offset, bad->why);
}

/* What is at a place that holds no frame of this segment. */
static void bad_frame(const struct segment *seg, uint64_t pos, const uint8_t *p, size_t got, struct log_bad *bad)
{
    static const uint8_t zero[FRAME_BYTES];
    struct frame f;

    if (pos >= seg->cut) {
        snprintf(bad->why, sizeof bad->why, "expected a frame of this store, found that from address %" PRIu64 " on the file went another way: the one that had these is gone", seg->cut);
    } else if (got < FRAME_BYTES) {
        bad->blank = got == 0 || memcmp(p, zero, got) == 0;
        snprintf(bad->why, sizeof bad->why, "expected a frame, found the end of the file after %zu bytes", got);
    } else if (memcmp(p, zero, FRAME_BYTES) == 0) {
        bad->blank = true;
        snprintf(bad->why, sizeof bad->why, "expected a frame, found zeros");
    } else if (!frame_decode(p, &f)) {
        snprintf(bad->why, sizeof bad->why, "expected a frame, found %016" PRIx64 "...", get_be64(p));
    } else {
        /* A frame of another generation is what these blocks held before they were recycled. */
        bad->blank = f.gen != seg->gen;
        snprintf(bad->why, sizeof bad->why,
                 "expected a frame of address %" PRIu64 ", generation %" PRIu64 ", incarnation %016" PRIx64
                 ", found %" PRIu64 ", %" PRIu64 ", %016" PRIx64,
                 pos, seg->gen, seg->header_known ? seg->incarnation : f.incarnation, f.lsn, f.gen, f.incarnation);
    }
}

int log_scan(struct log_window *w, struct segment *seg, uint64_t pos, uint64_t limit, struct frame *f,
             struct record *rec, const uint8_t **raw, struct log_bad *bad, struct err *err)
{
    uint64_t off = segment_offset(seg, pos), span;
    struct err e = { 0 };
    const uint8_t *p;
    uint32_t head_len;
    size_t got;
    int rc;

    memset(bad, 0, sizeof *bad);
    bad->offset = off;
    rc = log_window_get(w, seg, off, FRAME_BYTES + REC_HEAD_BYTES, &p, &got, err);
    if (rc != 0)
        return rc;
    if (got < FRAME_BYTES || !log_frame_at(seg, pos, p, f)) {
        bad_frame(seg, pos, p, got, bad);
        return 0;
    }
    span = bad->span = frame_span(f->rec_len);
    if (pos >= limit || span > limit - pos) {
        snprintf(bad->why, sizeof bad->why, "expected a record of at most %" PRIu64 " bytes, found one of %" PRIu64,
                 limit - pos, span);
        return 0;
    }
    head_len = got < FRAME_BYTES + 8 ? 0 : get_u32(p + FRAME_BYTES + 4);
    if (head_len < REC_HEAD_BYTES || head_len > f->rec_len || head_len > REC_HEAD_MAX) {
        snprintf(bad->why, sizeof bad->why, "expected a record head of %d to %" PRIu32 " bytes, found %" PRIu32,
                 (int)REC_HEAD_BYTES, f->rec_len, head_len);
        return 0;
    }
    rc = log_window_get(w, seg, off, FRAME_BYTES + (size_t)head_len, &p, &got, err);
    if (rc != 0)
        return rc;
    rc = record_decode(p + FRAME_BYTES, got > FRAME_BYTES ? got - FRAME_BYTES : 0, rec, &e);
    if (rc == ERR_NOMEM)
        return err_set(err, rc, "%s", e.msg);
    if (rc != 0) {
        snprintf(bad->why, sizeof bad->why, "%.350s", e.msg);
        return 0;
    }
    if (rec->lsn != pos || rec->head_len + rec->data_len != f->rec_len) {
        snprintf(bad->why, sizeof bad->why,
                 "expected the record of address %" PRIu64 " and %" PRIu32 " bytes, found %" PRIu64 " and %" PRIu32,
                 pos, f->rec_len, rec->lsn, rec->head_len + rec->data_len);
        return 0;
    }
    *raw = p;
    return 1;
}

int log_scan_data(struct log_window *w, struct segment *seg, uint64_t pos, struct record *rec,
                  const uint8_t **raw, struct log_bad *bad, struct err *err)
{
    uint64_t off = segment_offset(seg, pos);
    uint32_t dstart = record_dstart(rec->head_len), bad_off = 0;
    size_t n = (size_t)dstart + rec->data_len, got;
    const uint8_t *p;
    int rc;

    memset(bad, 0, sizeof *bad);
    bad->offset = off;
    bad->span = frame_span(rec->head_len + rec->data_len);
    rc = log_window_get(w, seg, off, n, &p, &got, err);
    if (rc != 0)
        return rc;
    if (got < n) {
        bad->offset = off + got;
        snprintf(bad->why, sizeof bad->why, "expected %zu bytes of a record at address %" PRIu64 ", found the end of the file after %zu",
                 n, pos, got);
        return 0;
    }
    /* The window may have moved: rec's pointers with it. */
    rc = record_decode(p + FRAME_BYTES, rec->head_len, rec, err);
    if (rc == ERR_NOMEM)
        return rc;
    if (rc != 0) {
        snprintf(bad->why, sizeof bad->why, "expected the record head read before, found another");
        return 0;
    }
    rc = record_check_data(rec, p + dstart, 0, rec->data_len, &bad_off);
    if (rc != 0) {
        uint32_t len = rec->data_len - bad_off < REC_SUM_BYTES ? rec->data_len - bad_off : REC_SUM_BYTES;

        bad->offset = off + dstart + bad_off;
        snprintf(bad->why, sizeof bad->why, "data of the record at address %" PRIu64 ": sum: expected %016" PRIx64 ", found %016" PRIx64,
                 pos, get_u64(rec->sums + 8 * (size_t)(bad_off / REC_SUM_BYTES)),
                 hash64(p + dstart + bad_off, len));
        return 0;
    }
    rec->data = rec->data_len > 0 ? p + dstart : NULL;
    *raw = p;
    return 1;
}
