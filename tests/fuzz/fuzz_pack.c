/*
 * fuzz_pack: the parsers of a pack, and reading a set whose one pack holds these bytes. Nothing may crash or take memory without bound; what a
 * codec accepts must encode to the same bytes. The first byte chooses: 0 name, 1 a block's expanded bytes, 2 a file as it is, else a file whose
 * sums and hashes are put right, so that the checks behind them are reached too.
 */
#include "store/base/bytes.h"
#include "store/base/filehead.h"
#include "store/pack/packs.h"
#include "store/pack/squeeze.h"
#include "tests/lib/simio.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST = 4096, END = 8192, GEN = 2 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t lineage[16] = "lineage-of-test", epoch[16] = "the first epoch";

static void fuzz_name(const uint8_t *p, size_t len)
{
    char name[64], again[PACK_NAME_MAX];
    uint64_t first, end, gen;

    if (len >= sizeof name)
        return;
    memcpy(name, p, len);
    name[len] = 0;
    if (!pack_parse(name, &first, &end, &gen))
        return;
    pack_name(first, end, gen, again);
    if (strcmp(again + 6, name) != 0)
        abort();
}

/* A kind, a number of entries, a least, then what the block expands to. */
static void fuzz_block(const uint8_t *p, size_t len)
{
    struct pack_head h = { .first = 8, .end = UINT64_C(1) << 62, .tables_at = UINT64_C(1) << 40 };
    struct pack_block b = { .frames_at = PACK_HEAD_BYTES };
    struct pack_frame *f;
    struct pack_chunk *c;
    struct pack_addr *a;
    uint8_t *out;
    size_t n = 0, cap;

    if (len < 12)
        return;
    b.kind = p[0] % 3 + 1;
    b.entries = (uint32_t)p[1] | (uint32_t)p[2] << 8;
    b.least = get_u64(p + 4) >> 2;
    p += 12, len -= 12;
    cap = pack_block_bound(b.entries);
    out = malloc(cap);
    if (out == NULL)
        abort();
    if (b.kind == PACK_FRAMES && pack_frames_decode(p, len, &h, &b, &f, NULL) == 0) {
        n = pack_frames_encode(f, b.entries, out, cap);
        free(f);
    } else if (b.kind == PACK_CHUNKS && pack_chunks_decode(p, len, &h, &b, &c, NULL) == 0) {
        n = pack_chunks_encode(c, b.entries, out, cap);
        free(c);
    } else if (b.kind == PACK_ADDRESSES && pack_addrs_decode(p, len, &h, &b, &a, NULL) == 0) {
        n = pack_addrs_encode(a, b.entries, out, cap);
        free(a);
    } else {
        free(out);
        return;
    }
    if (n != len || memcmp(out, p, n) != 0)
        abort();
    free(out);
}

/* ---- a file ---- */

static void mend_head(uint8_t *p, size_t len)
{
    struct hash128 sum;

    memcpy(p, "SPAREPAK", 8);
    put_u64(p + 40, len);
    put_u32(p + 60, hash32(p, 60));
    sum = hash128(p, PACK_HEAD_BYTES - 16);
    memcpy(p + PACK_HEAD_BYTES - 16, sum.b, 16);
}

static void mend(uint8_t *p, size_t len)
{
    uint64_t at;
    uint32_t n;
    struct hash128 sum;

    if (len < 2 * PACK_HEAD_BYTES + 16)
        return;
    mend_head(p, len);
    at = get_u64(p + 144);
    n = get_u32(p + 168);
    if (n > 64 || at > len || len - at < pack_dir_bytes(n))
        return;
    for (uint32_t i = 0; i < n; i++) {      /* the sums of the blocks, so that zstd gets them */
        uint8_t *e = p + at + i * (size_t)PACK_BLOCK_ENTRY_BYTES;
        uint64_t b = get_u64(e + 8), stored = get_u32(e + 16);

        if (b <= len - at && stored <= len - at - b)
            put_u64(e + 40, hash64(p + at + b, stored));
    }
    sum = hash128(p + at, n * (size_t)PACK_BLOCK_ENTRY_BYTES);
    memcpy(p + at + n * (size_t)PACK_BLOCK_ENTRY_BYTES, sum.b, 16);
}

static int read_one(void *arg, const struct pack_addr *a)
{
    struct packs *ps = arg;
    static uint8_t buf[PACK_CHUNK_MAX];
    uint32_t len;
    uint8_t depth;

    packs_read(ps, a->lsn, a->doff, a->len, buf, false, NULL);
    packs_chunk(ps, a->chunk, buf, &len, &depth, NULL);
    return 0;
}

static void ignore(void *arg, const struct err *e)
{
    (void)arg, (void)e;
}

static void fuzz_file(const uint8_t *p, size_t len)
{
    struct epoch_row row = { .number = 1, .first_lsn = 8 };
    struct packs_options opt = { .epochs = &row, .n_epochs = 1, .key_id = 3, .cache_bytes = 1 << 20 };
    struct simio *sim = simio_new(1);
    struct io *io = simio_io(sim);
    struct iovec iov = { (void *)(uintptr_t)p, len };
    char name[PACK_NAME_MAX];
    struct io_file *f;
    struct packs *ps;

    memcpy(row.id, epoch, 16);
    memcpy(row.lineage, lineage, 16);
    memcpy(opt.lineage, lineage, 16);
    memset(opt.key, 0x6b, 32);
    pack_name(FIRST, END, GEN, name);
    if (io_mkdir(io, "packs", NULL) || io_open(io, name, IO_RDWR | IO_CREATE, &f, NULL) || io_pwritev(f, &iov, 1, 0, NULL))
        abort();
    io_close(f);
    if (packs_open(io, &opt, &ps, NULL))
        abort();
    if (packs_end(ps) != END || packs_next_gen(ps) != GEN + 1)
        abort();
    packs_walk(ps, 0, UINT64_MAX, read_one, ps, NULL);
    if (packs_check(ps, GEN, ignore, NULL, NULL) < 0)
        abort();
    packs_close(ps);
    simio_free(sim);
}

/*
 * Behind the choice, for a mended file: what is not a whole file but pieces of one, blocks expanded, makes a file of its own:
 * kind, entries, length (u8, u16, u16), bytes; frames of raw bytes before them.
 */
static void fuzz_built(const uint8_t *p, size_t len)
{
    enum { FRAMES = 512, FILE_MAX = 1 << 19 };
    struct pack_head h = { .key_id = 3, .gen = GEN, .first = FIRST, .end = END, .tables_at = PACK_HEAD_BYTES + FRAMES };
    struct pack_block b[3] = { { 0 } };
    struct squeeze *z = squeeze_new();
    uint8_t *file = calloc(1, FILE_MAX), *body = malloc(FILE_MAX);
    size_t at = 0, dir, n = 0;

    if (z == NULL || file == NULL || body == NULL)
        abort();
    memcpy(h.lineage, lineage, 16);
    memcpy(h.epoch_id, epoch, 16);
    for (size_t i = 0; i < FRAMES; i++)
        file[PACK_HEAD_BYTES + i] = (uint8_t)i;
    while (n < 3 && len >= 13) {
        size_t bytes = (size_t)p[3] | (size_t)p[4] << 8;
        int64_t got;

        b[n] = (struct pack_block){ .kind = (uint32_t)n + 1, .entries = (uint32_t)p[1] | (uint32_t)p[2] << 8, .least = get_u64(p + 5), .at = at };
        if (n == 0)
            b[n].least = 0, b[n].frames_at = PACK_HEAD_BYTES;
        p += 13, len -= 13;
        bytes = bytes < len ? bytes : len;
        if (bytes == 0)
            break;
        got = squeeze(z, 1, p, bytes, NULL, 0, body + at, FILE_MAX - at);
        if (got < 0)
            abort();
        b[n].stored = (uint32_t)got;
        b[n].expanded = (uint32_t)bytes;
        b[n].sum = hash64(body + at, (size_t)got);
        at += (size_t)got;
        p += bytes, len -= bytes;
        n++;
    }
    dir = pack_dir_bytes((uint32_t)n);
    for (size_t i = 0; i < n; i++)
        b[i].at += dir;
    h.n_blocks = (uint32_t)n;
    h.tables_bytes = dir + at;
    h.tables2_at = h.tables_at + (h.tables_bytes > PACK_TABLES_APART ? h.tables_bytes : PACK_TABLES_APART);
    h.size = h.tables2_at + h.tables_bytes + PACK_HEAD_BYTES + 16;
    if (h.size <= FILE_MAX) {
        pack_head_encode(&h, file);
        pack_head_encode(&h, file + h.size - 16 - PACK_HEAD_BYTES);
        for (int i = 0; i < 2; i++) {
            uint8_t *t = file + (i ? h.tables2_at : h.tables_at);

            pack_dir_encode(b, (uint32_t)n, t);
            memcpy(t + dir, body, at);
        }
        filehead_seal(file, h.size);
        fuzz_file(file, h.size);
    }
    squeeze_free(z);
    free(file);
    free(body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy;

    if (size < 1 || size > (1 << 16))
        return 0;
    switch (data[0]) {
    case 0: fuzz_name(data + 1, size - 1); break;
    case 1: fuzz_block(data + 1, size - 1); break;
    case 2: fuzz_file(data + 1, size - 1); break;
    case 3: fuzz_built(data + 1, size - 1); break;
    default:
        copy = malloc(size);
        if (copy == NULL)
            abort();
        memcpy(copy, data + 1, size - 1);
        mend(copy, size - 1);
        fuzz_file(copy, size - 1);
        free(copy);
        break;
    }
    return 0;
}
