/*
 * log_heal.c: bytes of the log that went bad, written once more where they lie: data, whose sums in the record's head say that they are what was there; heads, which the chain proves: these become what they were. A segment's
 * header is made anew of its name and its records, and says the same of addresses, epoch and chain. So nothing but damage is written over, also where a branch has a link to the file. A write that is cut off leaves what was
 * damaged damaged. A segment that is gone: log_anew.c.
 */
#include "store/log/log_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static int open_there(struct log *log, const struct segment *seg, struct io_file **out, struct err *err)
{
    char name[SEGMENT_NAME_MAX];

    segment_name(seg->first, seg->gen, name);
    return io_open(log->io, name, IO_RDWR, out, err);
}

static int write_there(struct log *log, const struct segment *seg, const uint8_t *bytes, uint32_t len, uint64_t at, struct err *err)
{
    struct iovec iov = { (void *)(uintptr_t)bytes, len };
    struct io_file *f = NULL;
    int rc = open_there(log, seg, &f, err);

    if (rc < 0)
        return rc;
    rc = io_pwritev(f, &iov, 1, at, err);
    if (rc == 0)
        rc = io_fdatasync(f, err);
    io_close(f);
    return rc;
}

int log_heal_data(struct log *log, uint64_t lsn, uint32_t doff, const uint8_t *bytes, uint32_t len, struct err *err)
{
    struct segment *seg = NULL;
    struct record rec;
    void *buf = NULL;
    uint32_t bad = 0;
    int rc = log_read_record(log, lsn, false, &rec, &buf, err);

    if (rc < 0)
        return rc;
    if (doff % REC_SUM_BYTES != 0 || doff > rec.data_len || len > rec.data_len - doff || (len % REC_SUM_BYTES != 0 && doff + len != rec.data_len))
        rc = err_set(err, ERR_INVAL, "log: expected whole blocks of the data of @%" PRIu64 ", found [%" PRIu32 ", +%" PRIu32 ")", lsn, doff, len);
    else if (record_check_data(&rec, bytes, doff, len, &bad) < 0)
        rc = err_set(err, ERR_DAMAGE, "log: what shall take the place of the data of @%" PRIu64 " is not what its checksum says, at %" PRIu32, lsn, bad);
    if (rc == 0)
        rc = log_hold(log, lsn, &seg, err);
    if (rc == 0) {
        rc = write_there(log, seg, bytes, len, segment_offset(seg, lsn) + record_dstart(rec.head_len) + doff, err);
        log_release(log, seg);
    }
    free(buf);
    return rc;
}

/* ---- a segment's header ---- */

/* The first record of a segment that can be read, and its frame. */
static int first_good(struct log *log, struct segment *seg, struct record *rec, struct frame *f, struct err *err)
{
    uint64_t end = log_segment_end(log, seg), at;
    struct log_window w = { .step = 4096 };
    const uint8_t *raw;
    struct log_bad bad;
    int rc;

    end = end < log_written(log) ? end : log_written(log);
    at = log_next_readable(log, seg->first, end, NULL, NULL);
    if (at >= end)
        return err_set(err, ERR_NOENT, "log: the segment that begins @%" PRIu64 " has no record that can be read", seg->first);
    rc = log_scan(&w, seg, at, end, f, rec, &raw, &bad, err);
    if (rc == 0)
        rc = log_bad_set(err, seg, &bad);
    log_window_release(&w);
    return rc < 0 ? rc : 0;
}

/* What the first record says, or where there is none yet, will say; and who wrote it. */
static int known_of(struct log *log, struct segment *seg, struct record *rec, struct frame *f, struct err *err)
{
    int rc;

    if (seg->first == log_head(log)) {
        log_last(log, &rec->prev_lsn, &rec->prev_hash);
        pthread_mutex_lock(&log->mutex);
        f->incarnation = log->incarnation;
        rec->epoch = log->epoch;
        pthread_mutex_unlock(&log->mutex);
        rec->lsn = seg->first;
        rec->wall_ns = io_wall_ns(log->io);
        if (seg->first == log_head(log))
            return 0;
    }
    rc = first_good(log, seg, rec, f, err);
    if (rc == 0 && rec->lsn != seg->first)
        rc = err_set(err, ERR_NOENT, "log: the first record of the segment that begins @%" PRIu64 " cannot be read", seg->first);
    return rc;
}

static int header_anew(struct log *log, const struct super *sb, struct segment *seg, struct segment_header *h, struct err *err)
{
    uint64_t end = log_segment_end(log, seg), capacity;
    struct record rec = { 0 };
    struct frame f = { 0 };
    int rc = known_of(log, seg, &rec, &f, err);

    capacity = seg->header_known && seg->capacity > 0 ? seg->capacity : end == UINT64_MAX || end - seg->first < log->opt.segment_bytes ? log->opt.segment_bytes : end - seg->first;
    if (rc == 0)
        log_header_say(log, sb, &rec, seg->first, seg->gen, capacity, f.incarnation, h);
    return rc;
}

int log_heal_header(struct log *log, const struct super *sb, uint64_t first, struct err *err)
{
    uint8_t buf[SEGMENT_HEADER_BYTES];
    struct segment_header h;
    struct segment *seg = NULL;
    struct err why = { 0 };
    int rc = log_hold(log, first, &seg, err);

    if (rc < 0)
        return rc;
    rc = seg->first == first ? log_read_header(log, seg, &h, &why) : err_set(err, ERR_INVAL, "log: no segment begins @%" PRIu64, first);
    if (rc == ERR_DAMAGE || rc == ERR_IO) {
        rc = header_anew(log, sb, seg, &h, err);
        if (rc == 0) {
            segment_header_encode(&h, buf);
            rc = write_there(log, seg, buf, sizeof buf, 0, err);
        }
        if (rc == 0)
            rc = log_read_header(log, seg, &h, err);
        rc = rc == 0 ? 1 : rc;
    } else if (rc < 0 && why.code != 0) {
        rc = err_set(err, rc, "%s", why.msg);
    }
    log_release(log, seg);
    return rc;
}

int log_check_header(struct log *log, uint64_t first, struct err *err)
{
    struct segment_header h;
    struct segment *seg = NULL;
    int rc = log_hold(log, first, &seg, err);

    if (rc < 0)
        return rc;
    rc = seg->first == first ? log_read_header(log, seg, &h, err) : err_set(err, ERR_INVAL, "log: no segment begins @%" PRIu64, first);
    log_release(log, seg);
    return rc;
}

/* ---- heads ---- */

int log_behind(struct log *log, uint64_t end, uint64_t *lsn, struct hash128 *hash, struct err *err)
{
    struct record rec;
    void *buf = NULL;
    int rc;

    if (end == log_head(log)) {
        log_last(log, lsn, hash);
        if (end == log_head(log))
            return 0;
    }
    rc = log_read_record(log, end, false, &rec, &buf, err);
    if (rc < 0)
        return rc;
    *lsn = rec.prev_lsn;
    *hash = rec.prev_hash;
    free(buf);
    return 0;
}

int log_heads_check(const uint8_t *p, size_t len, uint64_t from, bool dense, struct record *last, struct err *err)
{
    struct record rec, was = { 0 };
    uint64_t at = from;
    bool any = false;
    int rc = 0;

    for (size_t off = 0; rc == 0 && off < len; off += rec.head_len) {
        rc = record_decode(p + off, len - off, &rec, err);
        if (rc == ERR_TRUNCATED || rc == ERR_BADREC)
            rc = err_set(err, ERR_DAMAGE, "records of another site: expected one of @%" PRIu64 ", found other bytes", at);
        if (rc < 0)
            break;
        if (rec.lsn < at || (rec.lsn != at && (dense || !any)))
            rc = err_set(err, ERR_DAMAGE, "records of another site: expected one of @%" PRIu64 ", found @%" PRIu64, at, rec.lsn);
        else if (any && (rec.prev_lsn != was.lsn || !hash128_eq(&rec.prev_hash, &was.hash)))
            rc = err_set(err, ERR_DAMAGE, "records of another site: @%" PRIu64 " does not follow the one before it", rec.lsn);
        was = rec;
        at = rec.lsn + frame_span(rec.head_len + rec.data_len);
        any = true;
    }
    if (rc == 0 && !any)
        rc = err_set(err, ERR_NOENT, "records of another site: none of @%" PRIu64, from);
    if (rc == 0)
        *last = was;
    return rc;
}

/* One frame and head where they lie. */
static int put_head(struct log *log, struct segment *seg, struct io_file *f, uint64_t incarnation, const struct record *rec, const uint8_t *head, struct err *err)
{
    struct frame fr = { .rec_len = rec->head_len + rec->data_len, .lsn = rec->lsn, .gen = seg->gen, .incarnation = incarnation, .durable = log_durable(log) };
    uint64_t end = log_segment_end(log, seg), to = rec->lsn + frame_span(fr.rec_len);
    uint8_t buf[FRAME_BYTES];
    struct iovec iov[2] = { { buf, sizeof buf }, { (void *)(uintptr_t)head, rec->head_len } };

    if (to > end || to > log_written(log) || (seg->header_known && seg->capacity > 0 && to > seg->first + seg->capacity))
        return err_set(err, ERR_DAMAGE, "log: the record @%" PRIu64 " does not end in its segment, which begins @%" PRIu64, rec->lsn, seg->first);
    if (fr.durable > end)
        fr.durable = end;
    frame_encode(&fr, buf);
    return io_pwritev(f, iov, 2, segment_offset(seg, rec->lsn), err);
}

/* Who wrote a segment: where its header cannot be read its other frames say it; where none of them can be either it is made anew of ${first}, its first record. */
static int written_by(struct log *log, const struct super *sb, struct segment *seg, const struct record *first, uint64_t *incarnation, struct err *err)
{
    uint8_t buf[SEGMENT_HEADER_BYTES];
    uint64_t end = log_segment_end(log, seg);
    struct segment_header h;
    struct err why = { 0 };
    struct record rec;
    struct frame f = { 0 };
    int rc = seg->header_known ? 0 : log_read_header(log, seg, &h, &why);

    if (rc == 0) {
        *incarnation = seg->incarnation;
        return 0;
    }
    if (rc != ERR_DAMAGE && rc != ERR_IO)
        return err_set(err, rc, "%s", why.msg);
    rc = first_good(log, seg, &rec, &f, &why);
    *incarnation = f.incarnation;
    if (rc != ERR_NOENT || first->lsn != seg->first || end == UINT64_MAX)
        return rc < 0 ? err_set(err, rc, "%s", why.msg) : 0;
    log_header_say(log, sb, first, seg->first, seg->gen, end - seg->first > log->opt.segment_bytes ? end - seg->first : log->opt.segment_bytes, log_writer(log), &h);
    segment_header_encode(&h, buf);
    rc = write_there(log, seg, buf, sizeof buf, 0, err);
    if (rc == 0)
        rc = log_read_header(log, seg, &h, err);
    *incarnation = h.incarnation;
    return rc;
}

static void leave(struct log *log, struct segment **seg, struct io_file **f)
{
    if (*f != NULL)
        io_close(*f);
    log_release(log, *seg);
    *f = NULL;
    *seg = NULL;
}

/* One behind the other up to ${end}, each segment synced: those that are there in place, one that is gone whole. */
static int put_heads(struct log *log, const struct super *sb, const uint8_t *p, size_t len, uint64_t end, struct err *err)
{
    struct log_gone gone = { 0 };
    struct segment *seg = NULL;
    struct io_file *f = NULL;
    uint64_t incarnation = 0;
    struct record rec;
    int64_t took;
    int rc = 0;

    for (size_t off = 0; rc == 0 && off < len; off += (size_t)took) {
        rc = record_decode(p + off, len - off, &rec, err);
        took = rc == 0 ? rec.head_len : 0;
        if (rc == 0 && seg != NULL && (rec.lsn >= log_segment_end(log, seg) || log_is_gone(&gone, &rec))) {
            rc = io_fdatasync(f, err);
            leave(log, &seg, &f);
        }
        if (rc == 0 && seg == NULL)
            rc = log_look_gone(log, rec.lsn, &gone, err);
        if (rc == 0 && seg == NULL && gone.shared && end >= gone.next)
            log_gone_from(&gone, rec.lsn);
        if (rc == 0 && seg == NULL && log_is_gone(&gone, &rec)) {
            took = log_segment_anew(log, sb, &gone, p + off, len - off, err);
            rc = took < 0 ? (int)took : 0;
            continue;
        }
        if (rc == 0 && seg == NULL && (rc = log_hold(log, rec.lsn, &seg, err)) == 0) {
            rc = written_by(log, sb, seg, &rec, &incarnation, err);
            if (rc == 0)
                rc = open_there(log, seg, &f, err);
        }
        if (rc == 0)
            rc = put_head(log, seg, f, incarnation, &rec, p + off, err);
    }
    if (rc == 0 && f != NULL)
        rc = io_fdatasync(f, err);
    leave(log, &seg, &f);
    return rc;
}

int log_heal_heads(struct log *log, const struct super *sb, uint64_t from, const uint8_t *heads, size_t len, struct err *err)
{
    struct hash128 hash;
    struct record last;
    uint64_t end, lsn;
    int rc = log_heads_check(heads, len, from, true, &last, err);

    if (rc < 0)
        return rc;
    end = last.lsn + frame_span(last.head_len + last.data_len);
    rc = log_behind(log, end, &lsn, &hash, err);
    if (rc == 0 && (lsn != last.lsn || !hash128_eq(&hash, &last.hash)))
        rc = err_set(err, ERR_DAMAGE, "records of another site: @%" PRIu64 " is not what the record @%" PRIu64 " here follows", last.lsn, end);
    return rc == 0 ? put_heads(log, sb, heads, len, end, err) : rc;
}
