/*
 * fuzz_base: a base from hostile hands: name, heads, rows of a frame, whole files. Hashes, sums and sizes are put right, so that the checks behind them are
 * reached. What is accepted must come out as the same bytes again; a file that passes its check can be loaded.
 * The first byte chooses: 0 name, 1 head, 2 head of a frame, 3 rows, else a file.
 */
#include "store/base/bytes.h"
#include "store/base/filehead.h"
#include "store/pack/base.h"
#include "store/pack/squeeze.h"
#include "tests/lib/simio.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_name(const uint8_t *p, size_t len)
{
    char name[80], again[BASE_NAME_MAX];
    uint64_t gen;

    if (len >= sizeof name)
        return;
    memcpy(name, p, len);
    name[len] = 0;
    if (!base_parse(name, &gen))
        return;
    base_name(gen, again);
    if (strcmp(again + 8, name) != 0)
        abort();
}

static void mend_head(uint8_t *p, uint64_t size)
{
    memcpy(p, "SPAREBAS", 8);
    put_u64(p + 40, size);
    put_u32(p + 60, hash32(p, 60));
    filehead_seal(p, BASE_HEAD_BYTES);
}

static void fuzz_head(const uint8_t *p, size_t len)
{
    uint8_t buf[BASE_HEAD_BYTES] = { 0 }, again[BASE_HEAD_BYTES];
    struct base_head h;

    memcpy(buf, p, len < sizeof buf ? len : sizeof buf);
    mend_head(buf, get_u64(buf + 40));
    (void)base_head_decode(p, len, len, &h, NULL);
    if (base_head_decode(buf, sizeof buf, get_u64(buf + 40), &h, NULL) != 0)
        return;
    base_head_encode(&h, again);
    /* A newer version and reserved bytes that a feature explains are not kept. */
    if (get_u32(buf + 8) == 1 && (h.compat | h.ro_compat) == 0 && memcmp(buf, again, sizeof buf) != 0)
        abort();
}

static void mend_frame(uint8_t *p)
{
    memcpy(p, "SPBF", 4);
    put_u32(p + 36, hash32(p, 36));
}

static void fuzz_frame(const uint8_t *p, size_t len)
{
    uint8_t buf[BASE_FRAME_HEAD_BYTES] = { 0 }, again[BASE_FRAME_HEAD_BYTES];
    struct base_frame f;

    memcpy(buf, p, len < sizeof buf ? len : sizeof buf);
    mend_frame(buf);
    if (base_frame_decode(buf, sizeof buf, &f, NULL) != 0)
        return;
    base_frame_encode(&f, again);
    if (memcmp(buf, again, sizeof buf) != 0)
        abort();
}

static void fuzz_rows(const uint8_t *p, size_t len)
{
    uint8_t key[KV_KEY_MAX], before[KV_KEY_MAX], *again = malloc(len + 1);
    size_t klen = 0, blen = 0;
    struct base_row r;

    if (again == NULL)
        abort();
    while (len > 0) {
        int64_t n = base_row_get(p, len, key, &klen, &r, NULL);

        if (n < 0)
            break;
        if (n == 0 || (size_t)n > len || base_row_put(again, (size_t)n, before, blen, &r) != (size_t)n || memcmp(again, p, (size_t)n) != 0)
            abort();
        memcpy(before, key, klen);
        blen = klen;
        p += n;
        len -= (size_t)n;
    }
    free(again);
}

/* The frames' heads say what lies behind them. */
static void mend_frames(uint8_t *p, size_t len)
{
    static uint8_t raw[1 << 20];
    struct squeeze *z = squeeze_new();
    struct base_frame f;
    size_t at = BASE_HEAD_BYTES, tail = BASE_HEAD_BYTES + sizeof(struct hash128);

    if (z == NULL)
        abort();
    while (at + BASE_FRAME_HEAD_BYTES + tail < len) {
        size_t room = len - tail - at - BASE_FRAME_HEAD_BYTES;

        put_u32(p + at + 4, get_u32(p + at + 4) <= room ? get_u32(p + at + 4) : (uint32_t)room);
        mend_frame(p + at);
        if (base_frame_decode(p + at, BASE_FRAME_HEAD_BYTES, &f, NULL) == 0 && f.expanded <= sizeof raw &&
            unsqueeze(z, p + at + BASE_FRAME_HEAD_BYTES, f.stored, NULL, 0, raw, f.expanded) == 0) {
            f.hash = hash128(raw, f.expanded);
            base_frame_encode(&f, p + at);
        }
        at += BASE_FRAME_HEAD_BYTES + get_u32(p + at + 4);
    }
    squeeze_free(z);
}

static void read_file(struct io *io, uint64_t gen)
{
    struct kv_twin_disk *disk = kv_twin_disk_new();
    struct base *b = NULL;
    struct base_row row;
    struct kv *kv = NULL;
    uint64_t n = 0;
    int good, rc;

    if (base_open(io, gen, &b, NULL, NULL) == 0 && kv_twin_open(disk, &kv, NULL) == 0) {
        good = base_check(b, NULL) == 0;
        while ((rc = base_next(b, &row, NULL)) == 1)
            n++;
        if (good && (rc != 0 || n != base_head(b)->n_rows))
            abort();
        rc = base_load(b, kv, true, NULL);
        if (good && rc != 0)
            abort();
        kv_close(kv);
    }
    base_close(b);
    kv_twin_disk_free(disk);
}

static void fuzz_file(uint8_t *p, size_t len)
{
    struct simio *sim;
    struct base_head h;
    char name[BASE_NAME_MAX];
    struct iovec iov = { p, len };
    struct io_file *f;

    if (len < 2 * BASE_HEAD_BYTES + sizeof(struct hash128))
        return;
    mend_frames(p, len);
    mend_head(p, len);
    memcpy(p + len - BASE_HEAD_BYTES - sizeof(struct hash128), p, BASE_HEAD_BYTES);
    filehead_seal(p, len);
    if (base_head_decode(p, BASE_HEAD_BYTES, len, &h, NULL) != 0)
        return;
    sim = simio_new(1);
    base_name(h.gen, name);
    if (io_mkdir(simio_io(sim), "archive", NULL) != 0 || io_open(simio_io(sim), name, IO_RDWR | IO_CREATE, &f, NULL) != 0 ||
        io_pwritev(f, &iov, 1, 0, NULL) != 0)
        abort();
    io_close(f);
    read_file(simio_io(sim), h.gen);
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
    case 3: fuzz_rows(data + 1, size - 1); return 0;
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
