/*
 * fuzz_archive: an archive file from hostile hands: name, heads, the expanded bytes of a frame, whole files. Hashes, sums and sizes are put right,
 * so that the checks behind them are reached. What is accepted must come out as the same bytes again.
 * The first byte chooses: 0 name, 1 head, 2 head of a frame, 3 expanded bytes (then u16 records - 1), else a file.
 */
#include "store/base/filehead.h"
#include "store/pack/archive_internal.h"
#include "store/pack/squeeze.h"
#include "tests/lib/simio.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_name(const uint8_t *p, size_t len)
{
    char name[80], again[ARCHIVE_NAME_MAX];
    uint64_t first, end, gen;

    if (len >= sizeof name)
        return;
    memcpy(name, p, len);
    name[len] = 0;
    if (!archive_parse(name, &first, &end, &gen))
        return;
    archive_name(first, end, gen, again);
    if (strcmp(again + 8, name) != 0)
        abort();
}

static void mend_head(uint8_t *p, uint64_t size)
{
    memcpy(p, "SPAREARC", 8);
    put_u64(p + 40, size);
    put_u32(p + 60, hash32(p, 60));
    filehead_seal(p, ARCHIVE_HEAD_BYTES);
}

static void fuzz_head(const uint8_t *p, size_t len)
{
    uint8_t buf[ARCHIVE_HEAD_BYTES] = { 0 }, again[ARCHIVE_HEAD_BYTES];
    struct archive_head h;

    memcpy(buf, p, len < sizeof buf ? len : sizeof buf);
    mend_head(buf, get_u64(buf + 40));
    (void)archive_head_decode(p, len, len, &h, NULL);
    if (archive_head_decode(buf, sizeof buf, get_u64(buf + 40), &h, NULL) != 0)
        return;
    archive_head_encode(&h, again);
    /* A newer version and reserved bytes that a feature explains are not kept. */
    if (get_u32(buf + 8) == 1 && (h.compat | h.ro_compat) == 0 && memcmp(buf, again, sizeof buf) != 0)
        abort();
}

static void fuzz_frame(const uint8_t *p, size_t len)
{
    uint8_t buf[ARCHIVE_FRAME_HEAD_BYTES] = { 0 }, again[ARCHIVE_FRAME_HEAD_BYTES];
    struct archive_frame f;

    memcpy(buf, p, len < sizeof buf ? len : sizeof buf);
    put_u32(buf, ARCHIVE_FRAME_MAGIC);
    put_u32(buf + 76, hash32(buf, 76));
    if (archive_frame_decode(buf, sizeof buf, &f, NULL) != 0)
        return;
    archive_frame_encode(&f, again);
    if (memcmp(buf, again, sizeof buf) != 0)
        abort();
}

/* Unfolds, and again with the end that came out, if that is all that was wrong. */
static int unfold(const uint8_t *p, size_t len, struct archive_frame *f, struct archive_heads *heads)
{
    struct err err = { 0 };
    unsigned long long end;
    int rc;

    f->end = UINT64_C(1) << 60;
    rc = archive_unfold(p, len, f, heads, &err);
    if (rc != ERR_DAMAGE || sscanf(err.msg, "its last record ends at %llu", &end) != 1)
        return rc;
    f->end = end;
    return archive_unfold(p, len, f, heads, NULL);
}

static void fuzz_columns(const uint8_t *p, size_t len)
{
    struct archive_frame f = { .first_lsn = 4096 };
    struct archive_before before = { .end = 4096 };
    struct archive_heads heads = { 0 };
    struct columns c = { 0 };
    struct record rec;
    uint8_t *again;
    uint32_t n = 0;

    if (len < 2)
        return;
    f.n = 1u + p[0] + 256u * p[1];
    p += 2;
    len -= 2;
    if (unfold(p, len, &f, &heads) == 0) {
        for (size_t at = 0; at < heads.len; at += rec.head_len, n++) {
            if (record_decode(heads.p + at, heads.len - at, &rec, NULL) != 0)
                abort();
            archive_put(&c, &before, &rec, heads.p + at);
        }
        again = malloc(len);
        if (again == NULL || n != f.n || rec.lsn != heads.last_lsn || archive_take(&c, again, len) != len || memcmp(p, again, len) != 0)
            abort();
        free(again);
    }
    columns_release(&c);
    free(heads.p);
}

/* The frames' heads, as far as they follow each other, say what lies behind them. */
static void mend_frames(uint8_t *p, size_t len)
{
    static uint8_t raw[1 << 20];
    struct squeeze *z = squeeze_new();
    struct archive_heads heads = { 0 };
    struct archive_frame f;
    struct hash128 last = { { 0 } };
    uint64_t last_lsn = 0;
    size_t at = ARCHIVE_HEAD_BYTES;

    if (z == NULL)
        abort();
    while (at + ARCHIVE_FRAME_HEAD_BYTES + ARCHIVE_TAIL_BYTES < len) {
        uint8_t *h = p + at;
        size_t room = len - ARCHIVE_TAIL_BYTES - at - ARCHIVE_FRAME_HEAD_BYTES;

        put_u32(h, ARCHIVE_FRAME_MAGIC);
        put_u32(h + 4, get_u32(h + 4) <= room ? get_u32(h + 4) : (uint32_t)room);
        put_u32(h + 76, hash32(h, 76));
        if (archive_frame_decode(h, ARCHIVE_FRAME_HEAD_BYTES, &f, NULL) == 0 && f.expanded <= sizeof raw &&
            unsqueeze(z, h + ARCHIVE_FRAME_HEAD_BYTES, f.stored, NULL, 0, raw, f.expanded) == 0) {
            if (at > ARCHIVE_HEAD_BYTES && p[0] % 2 == 0) {
                f.prev_lsn = last_lsn;
                f.prev_hash = last;
            }
            if (unfold(raw, f.expanded, &f, &heads) == 0)
                f.last_hash = heads.last_hash;
            last = heads.last_hash;
            last_lsn = heads.last_lsn;
            archive_frame_encode(&f, h);
        }
        at += ARCHIVE_FRAME_HEAD_BYTES + get_u32(h + 4);
    }
    free(heads.p);
    squeeze_free(z);
}

static void read_file(struct io *io, const struct archive_head *h)
{
    struct archive *a;
    struct record rec;
    const uint8_t *head;
    uint64_t n = 0, seen = 0;
    int rc;

    rc = archive_open(io, h->first, h->end, h->gen, &a, NULL, NULL);
    if (rc != 0)
        return;
    rc = archive_check(a, NULL);
    /* Each failure moves on: it ends. */
    for (int got; (got = archive_next(a, &rec, &head, NULL)) != 0; n += got == 1) {
        if (got == 1 && (rec.lsn < h->first || rec.lsn >= h->end || get_u64(head + 16) != rec.lsn))
            abort();
        if (got < 0 && rc == 0)
            abort();
        if (got == 1)
            seen = rec.lsn;
    }
    if (rc == 0 && n != archive_head(a)->n_records)
        abort();
    (void)archive_seek(a, seen, NULL);
    while ((rc = archive_next(a, &rec, NULL, NULL)) == 1 && rec.lsn != seen)
        ;
    if (n > 0 && rc == 0)
        abort();
    archive_close(a);
}

static void fuzz_file(uint8_t *p, size_t len)
{
    struct simio *sim;
    struct archive_head h;
    char name[ARCHIVE_NAME_MAX];
    struct iovec iov = { p, len };
    struct io_file *f;

    if (len < ARCHIVE_HEAD_BYTES + ARCHIVE_TAIL_BYTES)
        return;
    mend_frames(p, len);
    mend_head(p, len);
    memcpy(p + len - ARCHIVE_TAIL_BYTES, p, ARCHIVE_HEAD_BYTES);
    filehead_seal(p, len);
    if (archive_head_decode(p, ARCHIVE_HEAD_BYTES, len, &h, NULL) != 0)
        return;
    sim = simio_new(1);
    archive_name(h.first, h.end, h.gen, name);
    if (io_mkdir(simio_io(sim), "archive", NULL) != 0 || io_open(simio_io(sim), name, IO_RDWR | IO_CREATE, &f, NULL) != 0 ||
        io_pwritev(f, &iov, 1, 0, NULL) != 0)
        abort();
    io_close(f);
    read_file(simio_io(sim), &h);
    simio_free(sim);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy;

    if (size < 1 || size > (1 << 16))
        return 0;
    switch (data[0]) {
    case 0: fuzz_name(data + 1, size - 1); return 0;
    case 1: fuzz_head(data + 1, size - 1); return 0;
    case 2: fuzz_frame(data + 1, size - 1); return 0;
    case 3: fuzz_columns(data + 1, size - 1); return 0;
    default: break;
    }
    copy = malloc(size);
    if (copy == NULL)
        abort();
    memcpy(copy, data + 1, size - 1);
    fuzz_file(copy, size - 1);
    free(copy);
    return 0;
}
