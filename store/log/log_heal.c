/*
 * log_heal.c: bytes of a record's data that went bad, written once more where they lie. Their sums, in the record's head, say that they are what was there; so nothing but damage is written over,
 * also where a branch has a link to the file. A write that is cut off leaves what was damaged damaged.
 */
#include "store/log/log_internal.h"

#include <inttypes.h>
#include <stdlib.h>

static int write_there(struct log *log, const struct segment *seg, const uint8_t *bytes, uint32_t len, uint64_t at, struct err *err)
{
    struct iovec iov = { (void *)(uintptr_t)bytes, len };
    struct io_file *f = NULL;
    char name[SEGMENT_NAME_MAX];
    int rc;

    segment_name(seg->first, seg->gen, name);
    rc = io_open(log->io, name, IO_RDWR, &f, err);
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
