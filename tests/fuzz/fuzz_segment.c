/*
 * fuzz_segment: header and name of a segment file, and opening a log whose one segment holds these
 * bytes behind a good header. Nothing may crash; what opens must be readable to its end.
 * The first byte chooses: 0 name, 1 header, else the log.
 */
#include "store/log/log.h"
#include "store/log/segment.h"
#include "tests/lib/log_fixture.h"
#include "tests/lib/simio.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_name(const uint8_t *p, size_t len)
{
    char name[64], again[SEGMENT_NAME_MAX];
    uint64_t first, gen;

    if (len >= sizeof name)
        return;
    memcpy(name, p, len);
    name[len] = 0;
    if (!segment_parse(name, &first, &gen))
        return;
    segment_name(first, gen, again);
    if (strcmp(again + 4, name) != 0)
        abort();
}

static void fuzz_header(const uint8_t *p, size_t len)
{
    uint8_t buf[SEGMENT_HEADER_BYTES] = { 0 };
    struct segment_header h;
    struct hash128 sum;

    memcpy(buf, p, len < sizeof buf - 16 ? len : sizeof buf - 16);
    memcpy(buf, "SPARELOG", 8);
    sum = hash128(buf, sizeof buf - 16);
    memcpy(buf + sizeof buf - 16, sum.b, 16);
    segment_header_decode(buf, sizeof buf, &h, NULL);
    segment_header_decode(p, len, &h, NULL);
}

static void put_bytes(struct io *io, const uint8_t *p, size_t len)
{
    struct iovec iov = { (void *)(uintptr_t)p, len };
    struct io_file *f;

    if (len == 0)
        return;
    if (io_open(io, "log/0000000000001000-00000001.seg", IO_RDWR, &f, NULL) != 0 ||
        io_pwritev(f, &iov, 1, SEGMENT_HEADER_BYTES, NULL) != 0)
        abort();
    io_close(f);
}

/* Frames get their check, so that the fuzzer need not find it. */
static void mend_frames(uint8_t *p, size_t len)
{
    for (size_t i = 0; i + 48 <= len; i += 8)
        if (memcmp(p + i, "SPRF", 4) == 0 || get_u32(p + i) == 0x46525053u)
            put_u32(p + i + 44, hash32(p + i, 44));
}

static void fuzz_log(uint8_t *p, size_t len, bool writable)
{
    struct log_options opt = { .segment_bytes = 1 << 16 };
    struct simio *sim = simio_new(1);
    struct log_recovery lr;
    struct log_iter *it;
    struct log *log = NULL;
    struct record rec;
    struct super *sb = malloc(sizeof *sb);
    int rc;

    if (sb == NULL)
        abort();
    fix_super(sb);
    sb->clean = 0;
    mend_frames(p, len);
    if (log_create(simio_io(sim), sb, &opt, NULL) != 0)
        abort();
    put_bytes(simio_io(sim), p, len);
    if (log_open(simio_io(sim), sb, &opt, writable, 0, &log, &lr, NULL) == 0) {
        /* Data below the proven durable address are not read at open: damage there shows now. */
        for (int flags = 0; flags <= LOG_ITER_DATA; flags++) {
            if (log_iter_new(log, LOG_FIRST_ADDR, UINT64_MAX, flags, &it, NULL) != 0)
                abort();
            while ((rc = log_iter_next(it, &rec, NULL)) == 1)
                ;
            if (rc != 0 && writable && (flags == 0 || rc != ERR_DAMAGE))
                abort();
            log_iter_free(it);
        }
    } else if (!writable) {
        abort();                /* what is whole can always be read */
    }
    log_close(log);
    simio_free(sim);
    free(sb);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy;

    if (size < 1 || size > (1 << 16))
        return 0;
    if (data[0] == 0)
        fuzz_name(data + 1, size - 1);
    if (data[0] == 1)
        fuzz_header(data + 1, size - 1);
    if (data[0] <= 1)
        return 0;
    copy = malloc(size);
    if (copy == NULL)
        abort();
    memcpy(copy, data + 1, size - 1);
    fuzz_log(copy, size - 1, data[0] % 2 != 0);
    free(copy);
    return 0;
}
