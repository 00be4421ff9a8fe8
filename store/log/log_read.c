/*
 * log_read.c: one record, or a piece of its data, by address. log_read_data is
 * the path of every cold read(2): no allocation for heads of up to
 * HEAD_ON_STACK bytes, one pread where head and data lie close together,
 * and blocks that are wanted whole go straight to the caller's buffer.
 */
#include "store/log/log_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    DISK_PIECE = 4096,                  /* what a disk gives, or not, as a whole */
    HEAD_ON_STACK = 16896,              /* frame and head of any WRITE; or those of a small one and its data */
    /* Where the data of a WRITE with a single sum starts: all of it is one block, */
    /* wanted whole, so it is read together with the head. */
    DSTART_SINGLE = FRAME_BYTES + REC_HEAD_BYTES + 8 + 8,
};

/* A read under way. */
struct reading {
    struct segment *seg;
    uint64_t lsn;
    bool nowait;
    const struct record *rec;
    uint64_t data_at;           /* file offset of the record's data */
    const uint8_t *ahead;       /* the first ahead_len bytes of the data, read with the head */
    size_t ahead_len;
    struct err *err;
};

static int bad_at(const struct reading *rd, uint64_t offset, const char *why)
{
    struct log_bad bad = { .offset = offset };

    snprintf(bad.why, sizeof bad.why, "%.350s", why);
    return log_bad_set(rd->err, rd->seg, &bad);
}

/* ${n} bytes at file offset ${off}, fewer at the end of the file. */
static int64_t fetch(const struct reading *rd, void *buf, size_t n, uint64_t off)
{
    int64_t got = rd->nowait ? io_pread_nowait(rd->seg->file, buf, n, off)
                             : io_pread(rd->seg->file, buf, n, off, rd->err);

    if (got == ERR_WAIT)
        return err_set(rd->err, ERR_WAIT, "log: not in memory");
    if (got < 0 && rd->nowait)
        return err_set(rd->err, (int)got, "log: read of the record at address %" PRIu64, rd->lsn);
    return got;
}

/* Data bytes [off, off + n), whole blocks (or the last one), verified, into ${out}. */
static int fetch_blocks(const struct reading *rd, uint32_t off, uint32_t n, uint8_t *out)
{
    uint32_t bad_off = 0, len;
    char why[160];

    if ((size_t)off + n <= rd->ahead_len) {
        memcpy(out, rd->ahead + off, n);
    } else {
        int64_t got = fetch(rd, out, n, rd->data_at + off);

        if (got < 0)
            return (int)got;
        if ((uint64_t)got < n) {
            snprintf(why, sizeof why, "expected %" PRIu32 " bytes of data of the record at address %" PRIu64
                     ", found the end of the file after %" PRId64, n, rd->lsn, got);
            return bad_at(rd, rd->data_at + off, why);
        }
    }
    if (record_check_data(rd->rec, out, off, n, &bad_off) == 0)
        return 0;
    len = off + n - bad_off < REC_SUM_BYTES ? off + n - bad_off : REC_SUM_BYTES;
    snprintf(why, sizeof why, "data of the record at address %" PRIu64 ": sum: expected %016" PRIx64 ", found %016" PRIx64,
             rd->lsn, get_u64(rd->rec->sums + 8 * (size_t)(bad_off / REC_SUM_BYTES)), hash64(out + (bad_off - off), len));
    memset(out, 0, n);          /* never hand out what did not verify */
    return bad_at(rd, rd->data_at + bad_off, why);
}

static uint32_t block_len(const struct record *rec, uint32_t start)
{
    return rec->data_len - start < REC_SUM_BYTES ? rec->data_len - start : REC_SUM_BYTES;
}

static int read_range(const struct reading *rd, uint32_t doff, uint32_t len, uint8_t *out)
{
    uint8_t scratch[REC_SUM_BYTES];
    uint32_t end = doff + len;
    int rc = 0;

    while (rc == 0 && doff < end) {
        uint32_t start = doff - doff % REC_SUM_BYTES, block = block_len(rd->rec, start), n;

        if (doff == start && start + block <= end) {
            /* as many whole blocks as are wanted, in one pread */
            n = end == rd->rec->data_len ? end - start : (end - start) / REC_SUM_BYTES * REC_SUM_BYTES;
            rc = fetch_blocks(rd, start, n, out);
        } else {
            n = (end < start + block ? end : start + block) - doff;
            rc = fetch_blocks(rd, start, block, scratch);
            if (rc == 0)
                memcpy(out, scratch + (doff - start), n);
        }
        out += n;
        doff += n;
    }
    return rc;
}

/* Verify frame and head, ${got} bytes of which are at ${buf}. */
static int check_head(const struct reading *rd, const uint8_t *buf, size_t got, uint32_t dstart, struct record *rec)
{
    uint64_t off = segment_offset(rd->seg, rd->lsn);
    struct err e = { 0 };
    struct frame f;
    char why[200];
    int rc;

    if (got < dstart || !log_frame_at(rd->seg, rd->lsn, buf, &f)) {
        snprintf(why, sizeof why, "expected the frame of a record at address %" PRIu64 " and %" PRIu32 " bytes of head, found %s",
                 rd->lsn, dstart, got < dstart ? "the end of the file" : "other bytes");
        return bad_at(rd, off, why);
    }
    rc = record_decode(buf + FRAME_BYTES, dstart - FRAME_BYTES, rec, &e);
    if (rc == ERR_NOMEM)
        return err_set(rd->err, rc, "%s", e.msg);
    if (rc != 0)
        return bad_at(rd, off, e.msg);
    if (rec->lsn != rd->lsn || record_dstart(rec->head_len) != dstart) {
        snprintf(why, sizeof why, "expected the record of address %" PRIu64 " with its data %" PRIu32
                 " bytes on, found %" PRIu64 " and %" PRIu32, rd->lsn, dstart, rec->lsn, record_dstart(rec->head_len));
        return bad_at(rd, off, why);
    }
    return 0;
}

/* Wait until the bytes at ${lsn} are in the file: another thread may still be writing them. */
static int wait_there(struct log *log, uint64_t lsn, bool nowait, struct err *err)
{
    if (log_written(log) > lsn)
        return 0;
    if (lsn >= log_head(log))
        return err_set(err, ERR_NOENT, "log: address %" PRIu64 " is beyond the end", lsn);
    if (nowait)
        return err_set(err, ERR_WAIT, "log: not written yet");
    if (log_wait_written(log, lsn) != 0)
        return err_set(err, ERR_POISONED, "log: an earlier write or flush failed");
    return 0;
}

int log_read_data(struct log *log, uint64_t lsn, uint32_t dstart, uint32_t doff, uint32_t len,
                  uint8_t *out, bool nowait, struct err *err)
{
    struct reading rd = { .lsn = lsn, .nowait = nowait, .err = err };
    uint8_t stack[HEAD_ON_STACK], *buf = stack;
    struct record rec;
    size_t want = dstart;
    int64_t got;
    int rc;

    if (dstart < FRAME_BYTES + REC_HEAD_BYTES || dstart > FRAME_BYTES + REC_HEAD_MAX || lsn % FRAME_ALIGN != 0)
        return err_set(err, ERR_INVAL, "log: no record at %" PRIu64 " has its data %" PRIu32 " bytes on", lsn, dstart);
    rc = wait_there(log, lsn, nowait, err);
    if (rc != 0)
        return rc;
    rc = log_hold(log, lsn, &rd.seg, err);
    if (rc != 0)
        return rc;
    if (dstart > sizeof stack) {
        if ((buf = malloc(dstart)) == NULL) {
            rc = err_set(err, ERR_NOMEM, "log: out of memory for a head of %" PRIu32 " bytes", dstart);
            goto out;
        }
    } else if (dstart <= DSTART_SINGLE && (uint64_t)doff + len <= sizeof stack - dstart) {
        want = (size_t)dstart + doff + len;
    }
    got = fetch(&rd, buf, want, segment_offset(rd.seg, lsn));
    if (got < 0) {
        rc = (int)got;
        goto out;
    }
    rc = check_head(&rd, buf, (size_t)got, dstart, &rec);
    if (rc != 0)
        goto out;
    if (doff > rec.data_len || len > rec.data_len - doff) {
        rc = err_set(err, ERR_INVAL, "log: data [%" PRIu32 ", +%" PRIu32 ") of the record at %" PRIu64 ", which has %" PRIu32 " bytes",
                     doff, len, lsn, rec.data_len);
        goto out;
    }
    rd.rec = &rec;
    rd.data_at = segment_offset(rd.seg, lsn) + dstart;
    rd.ahead = buf + dstart;
    rd.ahead_len = (size_t)got - dstart;
    rc = read_range(&rd, doff, len, out);
out:
    if (buf != stack)
        free(buf);
    log_release(log, rd.seg);
    return rc;
}

int log_read_record(struct log *log, uint64_t lsn, bool with_data, struct record *rec, void **buf, struct err *err)
{
    struct log_window w = { .step = 4096 };
    struct segment *seg = NULL;
    const uint8_t *raw;
    struct log_bad bad;
    struct record r;
    struct frame f;
    int rc;

    if (lsn % FRAME_ALIGN != 0)
        return err_set(err, ERR_NOENT, "log: %" PRIu64 " is not the address of a record", lsn);
    rc = wait_there(log, lsn, false, err);
    if (rc == 0)
        rc = log_hold(log, lsn, &seg, err);
    if (rc != 0)
        return rc;
    rc = log_scan(&w, seg, lsn, log_segment_end(log, seg), &f, &r, &raw, &bad, err);
    if (rc == 1 && with_data)
        rc = log_scan_data(&w, seg, lsn, &r, &raw, &bad, err);
    if (rc == 0)
        rc = log_bad_set(err, seg, &bad);
    log_release(log, seg);
    if (rc == 1) {
        *rec = r;
        *buf = w.buf;           /* rec points into it */
        return 0;
    }
    log_window_release(&w);
    return rc;
}

/* Where the file's next piece begins that a disk may give: one at every address would take a failing one hours. */
static uint64_t behind_sector(struct log *log, uint64_t addr)
{
    struct segment *seg = NULL;
    uint64_t next = addr + 8;

    if (log_hold(log, addr, &seg, NULL) == 0)
        next = addr + DISK_PIECE - segment_offset(seg, addr) % DISK_PIECE;
    log_release(log, seg);
    return next;
}

uint64_t log_next_readable(struct log *log, uint64_t from, uint64_t until, int (*stop)(void *arg), void *arg)
{
    uint64_t next = from, ask = from;

    for (uint64_t at = from; at < until; at = next) {
        struct record rec;
        void *buf = NULL;
        int rc = log_read_record(log, at, false, &rec, &buf, NULL);

        free(buf);
        if (rc >= 0)
            return at;
        next = rc == ERR_IO ? behind_sector(log, at) : at == from || at % DISK_PIECE == 0 ? log_no_bytes(log, at) : at + 8;
        if (stop != NULL && (rc == ERR_IO || at >= ask) && stop(arg) != 0)
            break;
        while (ask <= at)
            ask += LOG_LOOK_BYTES;
    }
    return until;
}
