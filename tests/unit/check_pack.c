/* check_pack.c: packs: codecs, making one, reading back, which one counts, damage of every byte, failures and power cuts. */
#include "store/base/bytes.h"
#include "store/pack/packs_internal.h"
#include "store/pack/squeeze.h"
#include "tests/lib/log_fixture.h"
#include "tests/lib/simio.h"

#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ok(expr) ck_assert_msg((expr) == 0, "%s: %s", #expr, err.msg)

enum { CHUNKS_MAX = 4096, RECORDS_MAX = 4096 };

static const uint8_t lineage[16] = "lineage-of-test", epoch_a[16] = "the first epoch", epoch_b[16] = "the second one";
static uint8_t key[32];
static struct epoch_row epochs[2];
static struct err err;
static struct simio *sim;

/* What was put into packs: chunks by number, and data of records. */
static struct known { uint64_t number; uint32_t len; uint8_t depth, *bytes; } known[CHUNKS_MAX];
static struct model { uint64_t lsn; uint32_t len; uint8_t *bytes; bool *has; } model[RECORDS_MAX];
static size_t n_known, n_model;

static uint64_t rng_state = 1;
static uint64_t rng(void)
{
    uint64_t z = (rng_state += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}
static uint32_t below(uint32_t n) { return (uint32_t)(rng() % n); }

static void set_up(void)
{
    memset(&err, 0, sizeof err);
    memset(epochs, 0, sizeof epochs);
    memset(key, 0x6b, sizeof key);
    for (int i = 0; i < 2; i++) {
        epochs[i].number = 1 + (uint32_t)i;
        epochs[i].first_lsn = i ? UINT64_C(1) << 40 : 8;
        memcpy(epochs[i].id, i ? epoch_b : epoch_a, 16);
        memcpy(epochs[i].lineage, lineage, 16);
    }
    n_known = n_model = 0;
    sim = simio_new(1);
}

static void tear_down(void)
{
    for (size_t i = 0; i < n_known; i++)
        free(known[i].bytes);
    for (size_t i = 0; i < n_model; i++) {
        free(model[i].bytes);
        free(model[i].has);
    }
    n_known = n_model = 0;
    simio_free(sim);
}

static struct packs *open_small(struct simio *s, uint64_t cache_bytes)
{
    struct packs_options opt = { .epochs = epochs, .n_epochs = 2, .key_id = 3, .cache_bytes = cache_bytes };
    struct packs *ps;

    memcpy(opt.lineage, lineage, 16);
    memcpy(opt.key, key, 32);
    ok(packs_open(simio_io(s), &opt, &ps, &err));
    return ps;
}

static struct packs *open_set(void) { return open_small(sim, 0); }

/* ---- making ---- */

static struct pack_writer *begin(uint64_t gen, uint64_t first, uint64_t end)
{
    struct pack_head h = { .key_id = 3, .gen = gen, .first = first, .end = end, .retained_gen = 7 };
    struct pack_writer *w;

    memcpy(h.lineage, lineage, 16);
    memset(h.site, 0x51, 16);
    ok(pack_new(simio_io(sim), &h, &w, &err));
    return w;
}

static struct pack_head finish(struct pack_writer *w)
{
    struct pack_head h;

    ok(pack_finish(w, epoch_a, &h, &err));
    return h;
}

static struct known *chunk_of(uint64_t number)
{
    for (size_t i = n_known; i-- > 0;)
        if (known[i].number == number)
            return &known[i];
    return NULL;
}

/* A new chunk's bytes; like those of ${base} where there is one. */
static struct known *invent(uint64_t number, uint32_t len, uint64_t base)
{
    struct known *k = &known[n_known], *b = base ? chunk_of(base) : NULL;

    ck_assert_uint_lt(n_known, CHUNKS_MAX);
    *k = (struct known){ .number = number, .len = len, .bytes = malloc(len) };
    rng_state = number * 31 + len;
    for (uint32_t i = 0; i < len; i++)
        k->bytes[i] = (uint8_t)(b && i < b->len ? b->bytes[i] : below(4) ? 'a' + i / 7 % 9 : rng());
    for (uint32_t i = 0; b && i < 5; i++)
        k->bytes[below(len)] ^= 0x55;
    n_known++;
    return k;
}

/* A frame of ${n} new chunks, ${step} numbers apart. */
static uint32_t put_frame(struct pack_writer *w, enum pack_frame_kind kind, uint64_t number, uint32_t n, uint32_t len, uint64_t step, uint64_t base)
{
    struct pack_chunk c[64] = { { 0 } };
    struct pack_base b = { 0 };
    uint8_t *all = malloc((size_t)n * len);
    uint32_t stored = 0;

    ck_assert_uint_le(n, 64);
    for (uint32_t i = 0; i < n; i++) {
        struct known *k = invent(number + i * step, len, base);

        c[i].number = k->number;
        c[i].len = len;
        c[i].hash = pack_hash(key, k->bytes, len);
        memcpy(all + (size_t)i * len, k->bytes, len);
        if (kind == PACK_DELTA) {
            struct known *bk = chunk_of(base);

            b = (struct pack_base){ bk->number, bk->bytes, bk->len, bk->depth };
            k->depth = (uint8_t)(bk->depth + 1);
        }
    }
    ok(pack_put_frame(w, kind, 5, c, n, all, kind == PACK_DELTA ? &b : NULL, &stored, &err));
    free(all);
    return stored;
}

static struct model *record_of(uint64_t lsn)
{
    for (size_t i = 0; i < n_model; i++)
        if (model[i].lsn == lsn)
            return &model[i];
    ck_assert_uint_lt(n_model, RECORDS_MAX);
    model[n_model].lsn = lsn;
    model[n_model].len = 0;
    model[n_model].bytes = NULL;
    model[n_model].has = NULL;
    return &model[n_model++];
}

static void put_addr(struct pack_writer *w, uint64_t lsn, uint32_t doff, uint32_t len, uint64_t chunk, uint32_t off)
{
    struct pack_addr a = { .lsn = lsn, .chunk = chunk, .ino = lsn / 64, .off = doff + 4096, .doff = doff, .len = len, .chunk_off = off };
    struct known *k = chunk_of(chunk);
    struct model *m = record_of(lsn);

    ok(pack_put_addr(w, &a, &err));
    if (m->len < doff + len) {
        m->bytes = realloc(m->bytes, doff + len);
        m->has = realloc(m->has, (doff + len) * sizeof *m->has);
        memset(m->has + m->len, 0, (doff + len - m->len) * sizeof *m->has);
        m->len = doff + len;
    }
    memcpy(m->bytes + doff, k->bytes + off, len);
    for (uint32_t i = 0; i < len; i++)
        m->has[doff + i] = true;
}

/* Three small packs: the second one names a chunk of the first, the third one's delta has its base in the second. */
static void make_small(void)
{
    struct pack_writer *w = begin(1, 1024, 4096);

    put_frame(w, PACK_RAW, 2048, 1, 256, 0, 0);
    put_addr(w, 1024, 0, 256, 2048, 0);
    finish(w);
    w = begin(2, 4096, 8192);
    put_frame(w, PACK_RAW, 4200, 2, 150, 300, 0);
    put_frame(w, PACK_ZSTD, 4600, 3, 500, 400, 0);
    put_frame(w, PACK_DELTA, 6000, 1, 520, 0, 5000);
    put_frame(w, PACK_DELTA, 6600, 1, 520, 0, 6000);
    put_addr(w, 6400, 0, 520, 6600, 0);
    put_addr(w, 4096, 0, 150, 4200, 0);
    put_addr(w, 4160, 0, 100, 4500, 50);
    put_addr(w, 4544, 0, 200, 4600, 100);
    put_addr(w, 4544, 200, 300, 5000, 0);
    put_addr(w, 4544, 600, 500, 5400, 0);       /* a hole before it */
    put_addr(w, 5600, 0, 520, 6000, 0);
    put_addr(w, 7168, 0, 100, 2048, 100);       /* of the first pack */
    finish(w);
    w = begin(3, 8192, 16384);
    put_frame(w, PACK_DELTA, 9000, 1, 400, 0, 6000);
    put_frame(w, PACK_ZSTD, 10000, 1, 900, 0, 0);
    put_addr(w, 8192, 0, 400, 9000, 0);
    put_addr(w, 9216, 0, 500, 5400, 0);
    put_addr(w, 9600, 0, 900, 10000, 0);
    finish(w);
}

/* ---- reading ---- */

/* A range as the model has it: true and bytes, or false. */
static bool model_read(const struct model *m, uint32_t doff, uint32_t len)
{
    for (uint32_t i = doff; i < doff + len; i++)
        if (i >= m->len || !m->has[i])
            return false;
    return true;
}

static void expect_range(struct packs *ps, const struct model *m, uint32_t doff, uint32_t len, uint8_t *buf)
{
    int rc = packs_read(ps, m->lsn, doff, len, buf, false, &err);

    if (model_read(m, doff, len)) {
        ck_assert_msg(rc == 0, "record %llu, %u + %u: %s", (unsigned long long)m->lsn, doff, len, err.msg);
        ck_assert_mem_eq(buf, m->bytes + doff, len);
    } else {
        ck_assert_int_eq(rc, ERR_NOENT);
    }
}

static void expect_all(struct packs *ps, unsigned rounds)
{
    uint8_t *buf = malloc(REC_DATA_MAX);

    for (size_t i = 0; i < n_model; i++)
        for (unsigned r = 0; r < rounds; r++) {
            uint32_t at = r ? below(model[i].len) : 0, len = r ? 1 + below(model[i].len) : model[i].len;

            expect_range(ps, &model[i], at, len, buf);
        }
    free(buf);
}

static void count_bad(void *arg, const struct err *e)
{
    ck_assert_msg(strncmp(e->msg, "packs/", 6) == 0, "%s", e->msg);
    *(struct err *)arg = *e;
}

static void expect_whole(struct packs *ps, uint64_t gen)
{
    struct err last = { 0 };

    if (packs_check(ps, gen, count_bad, &last, &err) != 0)
        ck_abort_msg("pack %llu: %s", (unsigned long long)gen, last.msg);
}

/* ---- codecs ---- */

START_TEST(random_tables_come_back_as_they_were)
{
    enum { N = 10000 };
    struct pack_frame *f = calloc(N, sizeof *f), *f2;
    struct pack_chunk *c = calloc(N, sizeof *c), *c2;
    struct pack_addr *a = calloc(N, sizeof *a), *a2;
    struct pack_head h = { .first = 8, .end = UINT64_C(1) << 60 };
    struct pack_block b = { .entries = N, .frames_at = PACK_HEAD_BYTES };
    size_t cap = pack_block_bound(N), n;
    uint8_t *buf = malloc(cap);
    uint64_t at = PACK_HEAD_BYTES, number = 1000, lsn = 800;

    rng_state = 42;
    for (uint32_t i = 0; i < N; i++) {
        f[i].at = at;
        f[i].kind = (uint8_t)below(3);
        f[i].stored = f[i].expanded = 1 + below(PACK_CHUNK_MAX);
        if (f[i].kind)
            f[i].stored = 1 + below(PACK_STORED_MAX);
        if (f[i].kind == PACK_DELTA) {
            f[i].base = 1 + (rng() >> 2);
            f[i].depth = (uint8_t)(1 + below(PACK_DEPTH_MAX));
        }
        at += f[i].stored;
        c[i] = (struct pack_chunk){ .number = number, .frame = below(1 << 20), .len = 1 + below(PACK_CHUNK_MAX) };
        if (i && below(2))
            c[i].frame = c[i - 1].frame;
        c[i].off = below(PACK_FRAME_MAX - c[i].len);
        for (int k = 0; k < 16; k++)
            c[i].hash.b[k] = (uint8_t)rng();
        number += 1 + (rng() >> (10 + below(50))) / N;
        a[i] = (struct pack_addr){ .lsn = lsn, .chunk = 1 + (rng() >> 2), .ino = rng(), .off = rng(), .len = 1 + below(900), .doff = below(900) };
        if (i && a[i - 1].lsn == lsn)
            a[i].doff += a[i - 1].doff + a[i - 1].len;
        a[i].chunk_off = below(PACK_CHUNK_MAX - a[i].len);
        lsn += below(3) && a[i].doff < 1 << 20 ? 0 : 8 + 8 * (uint64_t)below(10000);
    }
    h.tables_at = at;
    n = pack_frames_encode(f, N, buf, cap);
    ck_assert_uint_gt(n, 0);
    ok(pack_frames_decode(buf, n, &h, &b, &f2, &err));
    ck_assert_mem_eq(f, f2, N * sizeof *f);
    b.least = c[0].number;
    n = pack_chunks_encode(c, N, buf, cap);
    ck_assert_uint_gt(n, 0);
    ok(pack_chunks_decode(buf, n, &h, &b, &c2, &err));
    ck_assert_mem_eq(c, c2, N * sizeof *c);
    b.least = a[0].lsn;
    n = pack_addrs_encode(a, N, buf, cap);
    ck_assert_uint_gt(n, 0);
    ok(pack_addrs_decode(buf, n, &h, &b, &a2, &err));
    ck_assert_mem_eq(a, a2, N * sizeof *a);
    ck_assert_uint_eq(pack_addrs_encode(a, N, buf, n - 1), 0);
    free(f), free(f2), free(c), free(c2), free(a), free(a2), free(buf);
}
END_TEST

START_TEST(keyed_hash_is_that_of_key_and_bytes)
{
    uint8_t buf[32 + 5000];
    struct hash128 want, got;
    struct hash128_state s;

    for (size_t i = 0; i < sizeof buf; i++)
        buf[i] = (uint8_t)(i * 7);
    for (size_t len = 0; len <= 5000; len += 1 + len / 5) {
        want = hash128(buf, 32 + len);
        got = pack_hash(buf, buf + 32, len);
        ck_assert_mem_eq(want.b, got.b, 16);
        hash128_init(&s);
        for (size_t at = 0, n; at < 32 + len; at += n) {
            n = 1 + at % 300 < 32 + len - at ? 1 + at % 300 : 32 + len - at;
            hash128_update(&s, buf + at, n);
        }
        got = hash128_final(&s);
        ck_assert_mem_eq(want.b, got.b, 16);
    }
}
END_TEST

START_TEST(names_are_exact)
{
    char buf[PACK_NAME_MAX];
    uint64_t first = 0, end = 0, gen = 0;

    pack_name(0x1000, 0x123456789abcdef0, 0xfffffffe, buf);
    ck_assert_str_eq(buf, "packs/0000000000001000-123456789abcdef0-fffffffe.pack");
    ck_assert(pack_parse(buf + 6, &first, &end, &gen));
    ck_assert(first == 0x1000 && end == 0x123456789abcdef0 && gen == 0xfffffffe);
    ck_assert(!pack_parse("next", &first, &end, &gen));
    ck_assert(!pack_parse("0000000000001000-0000000000001000-00000001.pack", &first, &end, &gen));     /* nothing in it */
    ck_assert(!pack_parse("0000000000001000-0000000000002000-00000000.pack", &first, &end, &gen));
    ck_assert(!pack_parse("0000000000001004-0000000000002000-00000001.pack", &first, &end, &gen));
    ck_assert(!pack_parse("000000000000100A-0000000000002000-00000001.pack", &first, &end, &gen));
    ck_assert(!pack_parse("0000000000001000-0000000000002000-00000001.packs", &first, &end, &gen));
}
END_TEST

/* A head as bytes, one field of it changed, its hashes right. */
static int head_with(size_t at, size_t width, uint64_t v, struct pack_head *out, bool *other)
{
    struct pack_head h = { .key_id = 3, .gen = 2, .first = 4096, .end = 8192, .tables_at = 1000, .tables2_at = 6000, .tables_bytes = 500, .n_blocks = 3,
                           .size = 6000 + 500 + 272 };
    uint8_t buf[PACK_HEAD_BYTES];
    struct hash128 sum;

    memcpy(h.lineage, lineage, 16);
    pack_head_encode(&h, buf);
    for (size_t i = 0; i < width; i++)
        buf[at + i] = (uint8_t)(v >> 8 * i);
    put_u32(buf + 60, hash32(buf, 60));
    sum = hash128(buf, 240);
    memcpy(buf + 240, sum.b, 16);
    return pack_head_decode(buf, sizeof buf, 6772, out, other, &err);
}

START_TEST(each_wrong_field_of_the_head_is_named)
{
    static const struct { unsigned at, width; uint64_t v; int rc; const char *msg; } t[] = {
        { 112, 8, 0, ERR_DAMAGE, "generation at byte 112 is 0" },
        { 112, 8, UINT64_C(1) << 32, ERR_DAMAGE, "generation" },
        { 120, 8, 4100, ERR_DAMAGE, "first address" },
        { 120, 8, 0, ERR_DAMAGE, "first address" },
        { 128, 8, 4096, ERR_DAMAGE, "end address" },
        { 128, 8, UINT64_MAX - 7, ERR_DAMAGE, "end address" },
        { 144, 8, 255, ERR_DAMAGE, "first tables" },
        { 144, 8, UINT64_MAX, ERR_DAMAGE, "first tables" },
        { 152, 8, 5095, ERR_DAMAGE, "second tables" },
        { 152, 8, UINT64_MAX - 100, ERR_DAMAGE, "second tables" },
        { 160, 8, 159, ERR_DAMAGE, "bytes of the tables" },
        { 160, 8, UINT64_MAX, ERR_DAMAGE, "bytes of the tables" },
        { 160, 8, 501, ERR_DAMAGE, "size at byte 40" },
        { 168, 4, 16385, ERR_DAMAGE, "number of blocks" },
        { 168, 4, UINT32_MAX, ERR_DAMAGE, "number of blocks" },
        { 172, 1, 1, ERR_DAMAGE, "reserved bytes" },
        { 239, 1, 1, ERR_DAMAGE, "reserved bytes" },
        { 40, 8, 6773, ERR_DAMAGE, "size at byte 40" },
        { 12, 4, 9, ERR_DAMAGE, "version" },
        { 8, 8, UINT64_C(9) << 32 | 9, ERR_VERSION, "format version 9" },
        { 32, 8, 4, ERR_VERSION, "features" },
        { 48, 4, 2, ERR_VERSION, "hash algorithm" },
        { 0, 1, 'X', ERR_DAMAGE, "SPAREPAK" },
        { 136, 8, UINT64_MAX, 0, "" },
        { 24, 8, 1, 0, "" },
    };
    struct pack_head h;
    bool other = true;

    ck_assert_int_eq(head_with(t[_i].at, t[_i].width, t[_i].v, &h, &other), t[_i].rc);
    if (t[_i].rc)
        ck_assert_msg(strstr(err.msg, t[_i].msg) != NULL, "%s", err.msg);
    else
        ck_assert(!other);
}
END_TEST

/* A pack file as bytes. */
static uint8_t *file_bytes(struct simio *s, const char *name, size_t *len)
{
    struct io_file *f;
    struct io_stat st;
    uint8_t *buf;

    ok(io_open(simio_io(s), name, IO_RDONLY, &f, &err));
    ok(io_fstat(f, &st, &err));
    buf = malloc(st.size + 1);
    ck_assert_int_eq(io_pread(f, buf, st.size, 0, &err), (int64_t)st.size);
    io_close(f);
    *len = st.size;
    return buf;
}

static void put_file(struct simio *s, const char *name, const uint8_t *buf, size_t len)
{
    struct iovec iov = { (void *)(uintptr_t)buf, len };
    struct io_file *f;

    io_mkdir(simio_io(s), "packs", NULL);
    io_unlink(simio_io(s), name, NULL);
    ok(io_open(simio_io(s), name, IO_RDWR | IO_CREATE, &f, &err));
    ok(io_pwritev(f, &iov, 1, 0, &err));
    io_close(f);
}

/* A block of ${file}, expanded. */
static uint8_t *block_bytes(const uint8_t *file, const struct pack_head *h, const struct pack_block *b)
{
    struct squeeze *z = squeeze_new();
    uint8_t *buf = malloc(b->expanded);

    ck_assert_uint_eq(hash64(file + h->tables_at + b->at, b->stored), b->sum);
    ck_assert_int_eq(unsqueeze(z, file + h->tables_at + b->at, b->stored, NULL, 0, buf, b->expanded), 0);
    squeeze_free(z);
    return buf;
}

/*
 * The second pack of make_small. Its frames and blocks are as zstd made them, another zstd may make others: what is compared is what they
 * expand to. SPARE_GOLDEN=write makes it.
 */
START_TEST(golden_pack_is_read_and_its_tables_are_written_the_same)
{
    const char *mode = getenv("SPARE_GOLDEN"), name[] = "packs/0000000000001000-0000000000002000-00000002.pack";
    uint8_t *file, head[PACK_HEAD_BYTES], *again = malloc(pack_block_bound(64));
    struct pack_block *dir;
    struct pack_head h;
    struct packs *ps;
    size_t len = 0;
    bool other;
    FILE *f;

    make_small();
    if (mode && strcmp(mode, "write") == 0) {
        file = file_bytes(sim, name, &len);
        f = fix_golden("pack.bin", "wb");
        ck_assert(fwrite(file, 1, len, f) == len && fclose(f) == 0);
        free(file);
    }
    file = malloc(1 << 16);
    f = fix_golden("pack.bin", "rb");
    len = fread(file, 1, 1 << 16, f);
    fclose(f);
    ok(pack_head_decode(file, len, len, &h, &other, &err));
    ck_assert(!other);
    pack_head_encode(&h, head);
    ck_assert_mem_eq(head, file, sizeof head);
    ck_assert_mem_eq(head, file + len - 272, sizeof head);
    ck_assert_uint_eq(h.n_blocks, 3);
    ck_assert_uint_eq(h.retained_gen, 7);
    ok(pack_dir_decode(file + h.tables_at, pack_dir_bytes(h.n_blocks), &h, &dir, &err));
    for (uint32_t i = 0; i < 3; i++) {
        uint8_t *raw = block_bytes(file, &h, &dir[i]);
        size_t n = 0;

        if (dir[i].kind == PACK_FRAMES) {
            struct pack_frame *v;

            ok(pack_frames_decode(raw, dir[i].expanded, &h, &dir[i], &v, &err));
            n = pack_frames_encode(v, dir[i].entries, again, pack_block_bound(64));
            ck_assert_uint_eq(dir[i].entries, 4);
            ck_assert_uint_eq(v[0].kind, PACK_RAW);
            ck_assert_uint_eq(v[1].expanded, 1500);
            ck_assert_uint_eq(v[3].base, 6000);
            ck_assert_uint_eq(v[3].depth, 2);
            free(v);
        } else if (dir[i].kind == PACK_CHUNKS) {
            struct pack_chunk *v;

            ok(pack_chunks_decode(raw, dir[i].expanded, &h, &dir[i], &v, &err));
            n = pack_chunks_encode(v, dir[i].entries, again, pack_block_bound(64));
            ck_assert_uint_eq(v[4].number, 5400);
            ck_assert_uint_eq(v[4].off, 1000);
            free(v);
        } else {
            struct pack_addr *v;

            ok(pack_addrs_decode(raw, dir[i].expanded, &h, &dir[i], &v, &err));
            n = pack_addrs_encode(v, dir[i].entries, again, pack_block_bound(64));
            ck_assert_uint_eq(v[7].lsn, 7168);
            ck_assert_uint_eq(v[7].chunk, 2048);
            free(v);
        }
        ck_assert_uint_eq(n, dir[i].expanded);
        ck_assert_mem_eq(again, raw, n);
        free(raw);
    }
    put_file(sim, name, file, len);     /* in the place of the one just made */
    ps = open_set();
    expect_all(ps, 20);
    for (uint64_t gen = 1; gen <= 3; gen++)
        expect_whole(ps, gen);
    packs_close(ps);
    free(dir), free(file), free(again);
}
END_TEST

/* ---- reading back ---- */

/* Some packs of random chunks of all kinds and of records in pieces. */
static void make_random(unsigned packs)
{
    uint64_t at = 4096;

    for (unsigned g = 1; g <= packs; g++) {
        uint64_t first = at, end = first + (1 << 20), number = first + 100, lsn = first;
        struct pack_writer *w = begin(g, first, end);
        size_t from = n_known;

        for (int i = 0; i < 40; i++) {
            uint64_t base = n_known && i % 3 == 2 ? known[n_known - 1 - below((uint32_t)(n_known < 20 ? n_known : 20))].number : 0;
            uint32_t n = base ? 1 : 1 + below(6), len = 1 + below(5000);

            if (base && chunk_of(base)->depth == PACK_DEPTH_MAX)
                base = 0;
            put_frame(w, base ? PACK_DELTA : below(4) ? PACK_ZSTD : PACK_RAW, number, base ? 1 : n, len, 7, base);
            number += 1000;
        }
        for (int i = 0; i < 60; i++) {
            uint32_t doff = below(3) ? 0 : below(100);

            for (int k = 0; k < 1 + i % 5; k++) {
                const struct known *c = &known[below(8) ? from + below((uint32_t)(n_known - from)) : below((uint32_t)n_known)];
                uint32_t off = below(c->len), len = 1 + below(c->len - off);

                rng_state += 3;
                put_addr(w, lsn, doff, len, c->number, off);
                doff += len + (below(4) ? 0 : 10);
            }
            lsn += 8 * (uint64_t)(1 + below(100));
        }
        finish(w);
        at = end;
    }
}

START_TEST(every_byte_comes_back_from_random_ranges)
{
    struct packs *ps;

    rng_state = 7;
    make_random(5);
    ps = open_small(sim, _i ? 100000 : 0);
    rng_state = 99;
    expect_all(ps, 40);
    ck_assert_uint_le(packs_memory(ps), (_i ? 100000u : 32u << 20) + sizeof *ps + 8192);
    for (uint64_t gen = 1; gen <= 5; gen++)
        expect_whole(ps, gen);
    for (size_t i = 0; i < n_known; i++) {
        static uint8_t buf[PACK_CHUNK_MAX];
        uint32_t len = 0;
        uint8_t depth = 255;

        ok(packs_chunk(ps, known[i].number, buf, &len, &depth, &err));
        ck_assert_uint_eq(len, known[i].len);
        ck_assert_uint_eq(depth, known[i].depth);
        ck_assert_mem_eq(buf, known[i].bytes, len);
    }
    packs_close(ps);
}
END_TEST

struct reader { struct packs *ps; uint64_t seed; unsigned wrong; };

static void *read_much(void *arg)
{
    struct reader *r = arg;
    uint8_t *buf = malloc(1 << 20);
    uint64_t x = r->seed;

    for (int i = 0; i < 3000; i++) {
        const struct model *m;
        uint32_t at, len;

        x = x * UINT64_C(6364136223846793005) + 1442695040888963407;
        m = &model[(x >> 33) % n_model];
        at = (uint32_t)(x >> 20) % m->len;
        len = 1 + (uint32_t)(x >> 7) % (m->len - at);
        if (packs_read(r->ps, m->lsn, at, len, buf, false, NULL))
            r->wrong += model_read(m, at, len);
        else
            r->wrong += !model_read(m, at, len) || memcmp(buf, m->bytes + at, len) != 0;
    }
    free(buf);
    return NULL;
}

START_TEST(threads_read_the_same_frames_at_once)
{
    struct reader r[4];
    pthread_t t[4];
    struct packs *ps;

    rng_state = 8;
    make_random(3);
    ps = open_small(sim, 60000);
    for (unsigned i = 0; i < 4; i++) {
        r[i] = (struct reader){ ps, i + 1, 0 };
        ck_assert_int_eq(pthread_create(&t[i], NULL, read_much, &r[i]), 0);
    }
    for (unsigned i = 0; i < 4; i++) {
        pthread_join(t[i], NULL);
        ck_assert_uint_eq(r[i].wrong, 0);
    }
    packs_close(ps);
}
END_TEST

START_TEST(chain_of_the_largest_depth_is_read_and_a_longer_one_refused)
{
    struct pack_writer *w = begin(1, 4096, 1 << 20);
    struct known *top;
    struct pack_base b;
    struct pack_chunk c = { .number = 900000, .len = 10 };
    struct packs *ps;

    put_frame(w, PACK_ZSTD, 5000, 1, 3000, 0, 0);
    for (uint64_t i = 1; i <= PACK_DEPTH_MAX; i++)
        put_frame(w, PACK_DELTA, 5000 + 8 * i, 1, 3000, 0, 5000 + 8 * (i - 1));
    put_addr(w, 4096, 0, 3000, 5000 + 8 * PACK_DEPTH_MAX, 0);
    top = chunk_of(5000 + 8 * PACK_DEPTH_MAX);
    ck_assert_uint_eq(top->depth, PACK_DEPTH_MAX);
    b = (struct pack_base){ top->number, top->bytes, top->len, top->depth };
    ck_assert_int_eq(pack_put_frame(w, PACK_DELTA, 3, &c, 1, top->bytes, &b, NULL, &err), ERR_INVAL);
    finish(w);
    ps = open_small(sim, 1);        /* nothing stays in the cache */
    expect_all(ps, 2);
    expect_whole(ps, 1);
    packs_close(ps);
}
END_TEST

START_TEST(delta_costs_less_and_a_try_says_so)
{
    struct pack_writer *w = begin(1, 4096, 1 << 20);
    struct known *k, *like;
    struct pack_base b;
    int64_t alone, delta;

    put_frame(w, PACK_ZSTD, 5000, 1, 100000, 0, 0);
    k = chunk_of(5000);
    like = invent(200000, 100000, 5000);
    b = (struct pack_base){ 5000, k->bytes, k->len, 0 };
    alone = pack_try(w, 3, like->bytes, like->len, NULL, &err);
    delta = pack_try(w, 3, like->bytes, like->len, &b, &err);
    ck_assert_int_gt(alone, 10000);
    ck_assert_int_gt(delta, 0);
    ck_assert_int_lt(delta, 2000);
    pack_drop(w);
    ck_assert_int_eq(io_stat_path(simio_io(sim), "packs/next", &(struct io_stat){ 0 }, NULL), ERR_NOENT);
}
END_TEST

START_TEST(nowait_reads_what_is_in_memory_and_waits_for_nothing)
{
    struct packs *ps;
    uint8_t buf[2000];
    uint64_t preads, opens;

    make_small();
    ps = open_set();
    simio_nowait_misses(sim, 100);
    for (size_t i = 0; i < n_model; i++)
        ck_assert_int_eq(packs_read(ps, model[i].lsn, 0, 1, buf, true, &err), ERR_WAIT);
    expect_all(ps, 1);
    preads = simio_calls(sim, SIMIO_PREAD), opens = simio_calls(sim, SIMIO_OPEN);
    for (size_t i = 0; i < n_model; i++)
        for (uint32_t at = 0; at < model[i].len; at++)
            ck_assert_int_eq(packs_read(ps, model[i].lsn, at, 1, buf, true, &err), model[i].has[at] ? 0 : ERR_NOENT);
    ck_assert_uint_eq(simio_calls(sim, SIMIO_PREAD), preads);
    ck_assert_uint_eq(simio_calls(sim, SIMIO_OPEN), opens);
    packs_close(ps);
    ps = open_small(sim, 1);            /* no cache: what the kernel has in memory does as well */
    expect_all(ps, 1);
    for (size_t i = 0; i < n_model; i++)
        ck_assert_int_eq(packs_read(ps, model[i].lsn, 0, 1, buf, true, &err), ERR_WAIT);
    simio_nowait_misses(sim, 0);
    for (size_t i = 0; i < n_model; i++) {
        ok(packs_read(ps, model[i].lsn, 0, 1, buf, true, &err));
        ck_assert_uint_eq(buf[0], model[i].bytes[0]);
    }
    packs_close(ps);
}
END_TEST

START_TEST(many_packs_few_open_files)
{
    struct packs *ps;

    for (uint64_t i = 0; i < 100; i++) {
        struct pack_writer *w = begin(100 - i, 4096 + 1024 * i, 4096 + 1024 * (i + 1));

        put_frame(w, PACK_RAW, 4096 + 1024 * i + 200, 1, 50, 0, 0);
        put_addr(w, 4096 + 1024 * i, 0, 50, 4096 + 1024 * i + 200, 0);
        finish(w);
    }
    ps = open_set();
    ck_assert_uint_eq(simio_calls(sim, SIMIO_OPEN), 0);
    ck_assert_uint_eq(packs_end(ps), 4096 + 1024 * 100);
    ck_assert_uint_eq(packs_next_gen(ps), 101);
    ck_assert_uint_eq(simio_calls(sim, SIMIO_OPEN), 0);     /* names say it */
    for (int round = 0; round < 2; round++) {
        expect_all(ps, 1);
        ck_assert_uint_le(ps->n_open, PACKS_OPEN_MAX);
    }
    packs_close(ps);
}
END_TEST

START_TEST(pack_without_data_is_whole_and_has_nothing)
{
    struct pack_writer *w = begin(1, 4096, 8192);
    struct pack_head h = finish(w);
    struct packs *ps = open_set();
    uint8_t buf[8];

    ck_assert_uint_eq(h.n_blocks, 0);
    ck_assert_uint_eq(h.tables_at, PACK_HEAD_BYTES);
    expect_whole(ps, 1);
    ck_assert_uint_eq(packs_end(ps), 8192);
    ck_assert_int_eq(packs_read(ps, 4096, 0, 1, buf, false, &err), ERR_NOENT);
    ck_assert_int_eq(packs_chunk(ps, 5000, buf, &(uint32_t){ 0 }, buf, &err), ERR_NOENT);
    packs_close(ps);
    ps = open_set();
    ck_assert_int_eq(packs_read(ps, 8192, 0, 1, buf, false, &err), ERR_NOENT);
    ck_assert_int_eq(packs_read(ps, 4088, 0, 1, buf, false, &err), ERR_NOENT);
    packs_close(ps);
}
END_TEST

START_TEST(record_of_many_pieces_is_in_one_block)
{
    struct pack_writer *w = begin(1, 4096, 1 << 20);
    struct pack_head h;
    struct packs *ps;

    put_frame(w, PACK_ZSTD, 5000, 1, 60000, 0, 0);
    for (uint32_t i = 0; i < 4000; i++)
        put_addr(w, 4096 + 8 * (uint64_t)(i / 2), i % 2, 1, 5000, i);
    for (uint32_t i = 0; i < 6000; i++)
        put_addr(w, 50000, i * 2, 1, 5000, i);
    for (uint32_t i = 0; i < 6000; i++)
        put_addr(w, 60000, i, 1, 5000, 59999 - i);
    h = finish(w);
    ck_assert_uint_eq(h.n_blocks, 1 + 1 + 3);
    ps = open_set();
    expect_whole(ps, 1);
    expect_all(ps, 1);
    packs_close(ps);
}
END_TEST

/* ---- what does not fit together ---- */

START_TEST(what_could_not_be_read_back_is_not_named)
{
    struct pack_writer *w = begin(1, 4096, 8192);
    struct pack_chunk c = { .number = 5000, .len = 4 };
    struct pack_addr a = { .lsn = 4096, .chunk = 5000, .len = 4 };
    struct packs *ps;

    ok(pack_put_frame(w, PACK_RAW, 0, &c, 1, (const uint8_t *)"abcd", NULL, NULL, &err));
    switch (_i) {
    case 0: ok(pack_put_frame(w, PACK_RAW, 0, &c, 1, (const uint8_t *)"abcd", NULL, NULL, &err)); break;
    case 1: ok(pack_put_addr(w, &a, &err)); ok(pack_put_addr(w, &a, &err)); break;
    case 2: a.chunk_off = 1; ok(pack_put_addr(w, &a, &err)); break;
    case 3: a.lsn = 8192; ck_assert_int_eq(pack_put_addr(w, &a, &err), ERR_INVAL); break;
    case 4: a.lsn = 4100; ck_assert_int_eq(pack_put_addr(w, &a, &err), ERR_INVAL); break;
    case 5: a.len = 0; ck_assert_int_eq(pack_put_addr(w, &a, &err), ERR_INVAL); break;
    case 6: a.doff = REC_DATA_MAX; ck_assert_int_eq(pack_put_addr(w, &a, &err), ERR_INVAL); break;
    case 7: c.len = 0; ck_assert_int_eq(pack_put_frame(w, PACK_RAW, 0, &c, 1, (const uint8_t *)"", NULL, NULL, &err), ERR_INVAL); break;
    case 8: {       /* a base as deep as its delta */
        struct pack_base b = { 5000, (const uint8_t *)"abcd", 4, 0 }, b2 = { 6000, (const uint8_t *)"abcd", 4, 0 };

        c.number = 6000;
        ok(pack_put_frame(w, PACK_DELTA, 3, &c, 1, (const uint8_t *)"abce", &b, NULL, &err));
        c.number = 7000;
        ok(pack_put_frame(w, PACK_DELTA, 3, &c, 1, (const uint8_t *)"abcf", &b2, NULL, &err));
        break;
    }
    default: break;
    }
    if (_i < 3 || _i == 8)
        ck_assert_int_eq(pack_finish(w, epoch_a, NULL, &err), ERR_INVAL);
    else
        pack_drop(w);
    ps = open_set();
    ck_assert_uint_eq(packs_end(ps), 0);
    packs_close(ps);
    ck_assert_int_eq(io_stat_path(simio_io(sim), "packs/next", &(struct io_stat){ 0 }, NULL), ERR_NOENT);
}
END_TEST

/* ---- which one counts ---- */

/* A pack whose records, one every 1024, all have the byte of its generation. */
static struct pack_head make_marked(uint64_t gen, uint64_t first, uint64_t end, const uint8_t epoch[16])
{
    struct pack_writer *w = begin(gen, first, end);
    struct pack_chunk c = { .number = first + 100 + gen, .len = 1 };
    uint8_t mark = (uint8_t)gen;
    struct pack_head h;

    c.hash = pack_hash(key, &mark, 1);
    ok(pack_put_frame(w, PACK_RAW, 0, &c, 1, &mark, NULL, NULL, &err));
    for (uint64_t lsn = first; lsn < end; lsn += 1024) {
        struct pack_addr a = { .lsn = lsn, .chunk = c.number, .len = 1 };

        ok(pack_put_addr(w, &a, &err));
    }
    ok(pack_finish(w, epoch, &h, &err));
    return h;
}

/* Which pack serves: its generation, 0 none, < 0 an error. */
static int served(struct packs *ps, uint64_t lsn)
{
    uint8_t b = 0;
    int rc = packs_read(ps, lsn, 0, 1, &b, false, &err);

    return rc == ERR_NOENT ? 0 : rc ? rc : b;
}

static int list_gen(void *arg, const struct packs_info *i)
{
    char *s = arg;

    snprintf(s + strlen(s), 100, "%llu:%llu-%llu ", (unsigned long long)i->gen, (unsigned long long)i->first, (unsigned long long)i->end);
    ck_assert_uint_gt(i->bytes, 4096);
    return 0;
}

static int walk_lsn(void *arg, const struct pack_addr *a)
{
    char *s = arg;

    snprintf(s + strlen(s), 100, "%llu ", (unsigned long long)(a->lsn / 1024));
    return strlen(s) > 300;
}

static void expect_list(struct packs *ps, const char *want)
{
    char got[1000] = "";

    ok(packs_list(ps, list_gen, got, &err));
    ck_assert_str_eq(got, want);
}

START_TEST(newer_pack_counts_where_it_covers_and_the_older_one_elsewhere)
{
    struct packs *ps = open_set();
    struct pack_head h;
    char walked[1000] = "";

    ck_assert_uint_eq(packs_end(ps), 0);
    ck_assert_uint_eq(packs_next_gen(ps), 1);
    h = make_marked(1, 1024, 8192, epoch_a);
    ok(packs_added(ps, &h, &err));
    h = make_marked(2, 3072, 5120, epoch_a);
    ok(packs_added(ps, &h, &err));
    ck_assert_int_eq(packs_added(ps, &h, &err), ERR_INVAL);
    h = make_marked(3, 9216, 10240, epoch_a);       /* behind a gap */
    for (int again = 0; again < 2; again++) {
        ck_assert_int_eq(served(ps, 1024), 1);
        ck_assert_int_eq(served(ps, 2048), 1);
        ck_assert_int_eq(served(ps, 3072), 2);
        ck_assert_int_eq(served(ps, 4096), 2);
        ck_assert_int_eq(served(ps, 5120), 1);
        ck_assert_int_eq(served(ps, 8192), 0);
        ck_assert_uint_eq(packs_end(ps), 8192);
        ck_assert_uint_eq(packs_next_gen(ps), again ? 4 : 3);
        packs_close(ps);
        ps = open_set();
    }
    expect_list(ps, "1:1024-8192 2:3072-5120 3:9216-10240 ");
    ok(packs_walk(ps, 2048, UINT64_MAX, walk_lsn, walked, &err));
    ck_assert_str_eq(walked, "2 3 4 5 6 7 9 ");
    h = make_marked(4, 1024, 9216, epoch_a);        /* all of it anew */
    ok(packs_added(ps, &h, &err));
    ck_assert_uint_eq(packs_end(ps), 10240);
    expect_list(ps, "4:1024-9216 3:9216-10240 ");
    ck_assert_int_eq(served(ps, 3072), 4);
    packs_forget(ps, 1);
    packs_forget(ps, 2);
    packs_forget(ps, 2);
    ck_assert_int_eq(served(ps, 5120), 4);
    packs_forget(ps, 4);
    ck_assert_int_eq(served(ps, 5120), 0);
    packs_close(ps);
}
END_TEST

START_TEST(what_lies_behind_a_fork_is_not_there)
{
    struct packs *ps;

    epochs[1].first_lsn = 4096;
    make_marked(1, 1024, 3072, epoch_a);
    make_marked(2, 3072, 6144, epoch_a);            /* went on where this store forked off */
    make_marked(3, 6144, 8192, epoch_a);            /* all of it of the branch */
    ps = open_set();
    ck_assert_int_eq(served(ps, 3072), 2);
    ck_assert_int_eq(served(ps, 4096), 0);
    ck_assert_int_eq(served(ps, 7168), 0);
    ck_assert_uint_eq(packs_end(ps), 4096);
    expect_list(ps, "1:1024-3072 2:3072-6144 ");
    packs_close(ps);
    make_marked(4, 4096, 8192, epoch_b);
    ps = open_set();
    ck_assert_int_eq(served(ps, 3072), 2);
    ck_assert_int_eq(served(ps, 5120), 4);
    ck_assert_int_eq(served(ps, 7168), 4);
    ck_assert_uint_eq(packs_end(ps), 8192);
    packs_close(ps);
    make_marked(5, 1024, 8192, (const uint8_t *)"nobody's epoch..");
    ps = open_set();
    ck_assert_int_eq(served(ps, 5120), ERR_DAMAGE);
    ck_assert_ptr_nonnull(strstr(err.msg, "its epoch at byte 96 is none of this store's"));
    packs_close(ps);
}
END_TEST

START_TEST(pack_of_another_store_or_key_or_name_is_damage)
{
    static const char name[] = "packs/0000000000000400-0000000000000c00-00000001.pack";
    static const char *const want[] = { "it belongs to another store", "expected key id 4, found 3", "chunk 1125: hash: expected ",
                                        "and generation 7 by the file's name" };
    struct packs_options opt = { .epochs = epochs, .n_epochs = 2, .key_id = 3 };
    struct packs *ps;
    uint8_t *file;
    size_t len;

    make_marked(1, 1024, 3072, epoch_a);
    memcpy(opt.lineage, lineage, 16);
    memcpy(opt.key, key, 32);
    if (_i == 0) {
        memset(opt.lineage, 1, 16);
        memset(epochs[0].lineage, 2, 16);
        memset(epochs[1].lineage, 2, 16);
    } else if (_i == 1) {
        opt.key_id = 4;
    } else if (_i == 2) {
        opt.key[5] ^= 1;
    } else {
        file = file_bytes(sim, name, &len);
        put_file(sim, "packs/0000000000000400-0000000000000c00-00000007.pack", file, len);
        free(file);
    }
    ok(packs_open(simio_io(sim), &opt, &ps, &err));
    ck_assert_int_eq(served(ps, 1024), ERR_DAMAGE);
    ck_assert_msg(strstr(err.msg, want[_i]) != NULL, "%s", err.msg);
    ck_assert_msg(strncmp(err.msg, name, 40) == 0, "%s", err.msg);
    packs_close(ps);
}
END_TEST

/* ---- damage ---- */

static const char *const small_names[] = { "packs/0000000000000400-0000000000001000-00000001.pack", "packs/0000000000001000-0000000000002000-00000002.pack",
                                           "packs/0000000000002000-0000000000004000-00000003.pack" };

/* Frames and chunks of the small packs, as their tables say. */
static struct layout { struct pack_head h; struct pack_frame *f; struct pack_chunk *c; uint32_t nf, nc; size_t len; } lay[3];

static void learn_layout(void)
{
    for (int i = 0; i < 3; i++) {
        uint8_t *file = file_bytes(sim, small_names[i], &lay[i].len);
        struct pack_block *dir;

        ok(pack_head_decode(file, lay[i].len, lay[i].len, &lay[i].h, NULL, &err));
        ok(pack_dir_decode(file + lay[i].h.tables_at, pack_dir_bytes(lay[i].h.n_blocks), &lay[i].h, &dir, &err));
        for (uint32_t b = 0; b < lay[i].h.n_blocks; b++) {
            uint8_t *raw = block_bytes(file, &lay[i].h, &dir[b]);

            if (dir[b].kind == PACK_FRAMES) {
                ok(pack_frames_decode(raw, dir[b].expanded, &lay[i].h, &dir[b], &lay[i].f, &err));
                lay[i].nf = dir[b].entries;
            } else if (dir[b].kind == PACK_CHUNKS) {
                ok(pack_chunks_decode(raw, dir[b].expanded, &lay[i].h, &dir[b], &lay[i].c, &err));
                lay[i].nc = dir[b].entries;
            }
            free(raw);
        }
        free(dir);
        free(file);
    }
}

static void free_layout(void)
{
    for (int i = 0; i < 3; i++)
        free(lay[i].f), free(lay[i].c);
}

/* Whether a flip of that byte may take the chunk: it lies in its frame, or in that of a base; of a raw frame in the chunk itself. */
static bool may_fail(uint64_t number, int pack, size_t at)
{
    for (int i = 0; i < 3; i++)
        for (uint32_t k = 0; k < lay[i].nc; k++) {
            const struct pack_frame *f = &lay[i].f[lay[i].c[k].frame];

            if (lay[i].c[k].number != number)
                continue;
            if (i == pack && f->kind == PACK_RAW)
                return at >= f->at + lay[i].c[k].off && at < f->at + lay[i].c[k].off + lay[i].c[k].len;
            if (i == pack && at >= f->at && at < f->at + f->stored)
                return true;
            return f->kind == PACK_DELTA && may_fail(f->base, pack, at);
        }
    return false;
}

/* The entries of make_small. */
static const struct { uint64_t lsn; uint32_t doff, len; uint64_t chunk; } small_entries[] = {
    { 1024, 0, 256, 2048 }, { 6400, 0, 520, 6600 }, { 4096, 0, 150, 4200 }, { 4160, 0, 100, 4500 }, { 4544, 0, 200, 4600 }, { 4544, 200, 300, 5000 },
    { 4544, 600, 500, 5400 }, { 5600, 0, 520, 6000 }, { 7168, 0, 100, 2048 }, { 8192, 0, 400, 9000 }, { 9216, 0, 500, 5400 }, { 9600, 0, 900, 10000 },
};

/* Reads each entry: right bytes or DAMAGE; how many failed. ${at} < 0: any may fail. */
static unsigned read_damaged(struct packs *ps, int pack, int64_t at)
{
    static uint8_t buf[2000];
    unsigned failed = 0;

    for (size_t i = 0; i < sizeof small_entries / sizeof small_entries[0]; i++) {
        struct model *m = record_of(small_entries[i].lsn);
        int rc = packs_read(ps, m->lsn, small_entries[i].doff, small_entries[i].len, buf, false, &err);

        if (rc == 0) {
            ck_assert_mem_eq(buf, m->bytes + small_entries[i].doff, small_entries[i].len);
            continue;
        }
        failed++;
        ck_assert_msg(rc == ERR_DAMAGE, "%s: %s", err_name(rc), err.msg);
        ck_assert_msg(strncmp(err.msg, "packs/", 6) == 0 && strstr(err.msg, ": offset ") != NULL, "%s", err.msg);
        ck_assert_msg(at < 0 || may_fail(small_entries[i].chunk, pack, (size_t)at), "pack %d, byte %lld took record %llu + %u: %s", pack, (long long)at,
                      (unsigned long long)m->lsn, small_entries[i].doff, err.msg);
        if (at >= 0 && (uint64_t)at < lay[pack].h.tables_at)
            ck_assert_msg(strncmp(err.msg, small_names[pack], strlen(small_names[pack])) == 0, "%s", err.msg);
    }
    return failed;
}

START_TEST(each_flipped_byte_takes_only_what_lies_there)
{
    unsigned took = 0, in_frames = 0;

    make_small();
    learn_layout();
    for (size_t at = 0; at < lay[_i].len; at++) {
        struct packs *ps;
        struct err last = { 0 };
        unsigned failed;

        ck_assert(simio_flip(sim, small_names[_i], at, (uint8_t)(1u << at % 8)));
        ps = open_set();
        failed = read_damaged(ps, _i, (int64_t)at);
        took += failed > 0;
        if (at >= PACK_HEAD_BYTES && at < lay[_i].h.tables_at) {
            in_frames++;        /* zstd has a few bits that change nothing, such as a larger window */
        } else {
            ck_assert_uint_eq(failed, 0);
        }
        ck_assert_int_gt(packs_check(ps, (uint64_t)_i + 1, count_bad, &last, &err), 0);
        packs_close(ps);
        ck_assert(simio_flip(sim, small_names[_i], at, (uint8_t)(1u << at % 8)));
    }
    ck_assert_uint_ge(took, in_frames - in_frames / 50);
    free_layout();
}
END_TEST

START_TEST(cut_off_at_each_length_it_gives_what_it_still_has)
{
    struct io_file *f;
    size_t len;

    make_small();
    learn_layout();
    len = lay[1].len;
    ok(io_open(simio_io(sim), small_names[1], IO_RDWR, &f, &err));
    while (len-- > 0) {
        struct packs *ps;
        struct err last = { 0 };
        unsigned failed;

        ok(io_ftruncate(f, len, &err));
        ps = open_set();
        failed = read_damaged(ps, 1, -1);
        if (len >= lay[1].h.tables_at + lay[1].h.tables_bytes)
            ck_assert_uint_eq(failed, 0);
        else
            ck_assert_uint_gt(failed, 0);
        ck_assert_uint_le(failed, 10);          /* of 12: not the first pack's, nor what only the third has */
        ck_assert_int_gt(packs_check(ps, 2, count_bad, &last, &err), 0);
        packs_close(ps);
    }
    io_close(f);
    free_layout();
}
END_TEST

START_TEST(longer_file_than_its_head_says_is_told_and_read)
{
    struct io_file *f;
    struct packs *ps;
    struct err last = { 0 };

    make_small();
    learn_layout();
    ok(io_open(simio_io(sim), small_names[1], IO_RDWR, &f, &err));
    ok(io_ftruncate(f, lay[1].len + 100, &err));
    io_close(f);
    ps = open_set();
    ck_assert_uint_eq(read_damaged(ps, 1, -1), 0);
    ck_assert_int_gt(packs_check(ps, 2, count_bad, &last, &err), 0);
    packs_close(ps);
    free_layout();
}
END_TEST

START_TEST(damage_of_kept_bytes_is_mended_by_the_disk)
{
    struct packs *ps;
    uint8_t buf[600];

    make_small();
    ps = open_set();
    ok(packs_read(ps, 4544, 0, 200, buf, false, &err));
    for (struct cached *c = ps->newest; c; c = c->older)
        if (c->kind == CACHED_BYTES)
            c->u.bytes[600] ^= 1;       /* of the second chunk, which nobody asked for yet */
    ok(packs_read(ps, 4544, 200, 300, buf, false, &err));
    ck_assert_mem_eq(buf, record_of(4544)->bytes + 200, 300);
    packs_close(ps);
}
END_TEST

START_TEST(pack_that_is_gone_is_damage_and_takes_no_other)
{
    struct packs *ps;
    char got[1000] = "";

    make_small();
    learn_layout();
    ps = open_set();
    ok(io_unlink(simio_io(sim), small_names[1], &err));
    ck_assert_uint_eq(read_damaged(ps, 1, -1), 10);     /* the first one's own record and one of the third are left */
    ck_assert_msg(strstr(err.msg, "expected a pack, found no file") != NULL, "%s", err.msg);
    ok(packs_walk(ps, 0, 4096, walk_lsn, got, &err));
    ck_assert_int_eq(packs_walk(ps, 0, 16384, walk_lsn, got, &err), ERR_DAMAGE);
    ck_assert_uint_eq(packs_end(ps), 16384);
    packs_close(ps);
    free_layout();
}
END_TEST

START_TEST(disk_that_gives_nothing_is_an_error_and_not_for_ever)
{
    make_small();
    for (uint64_t n = 1; n < 40; n++) {
        struct packs *ps = open_set();
        uint8_t buf[600];
        int rc;

        simio_fail_at(sim, SIMIO_ANY, n, ERR_IO);
        rc = packs_read(ps, 8192, 0, 400, buf, false, &err);
        simio_fail_clear(sim);
        ck_assert(rc == 0 || rc == ERR_IO);
        ok(packs_read(ps, 8192, 0, 400, buf, false, &err));
        ck_assert_mem_eq(buf, record_of(8192)->bytes, 400);
        packs_close(ps);
    }
}
END_TEST

/* ---- making, and what goes wrong then ---- */

static int make_quietly(struct simio *s)
{
    struct pack_head h = { .key_id = 3, .gen = 9, .first = 1 << 16, .end = 1 << 20 };
    struct pack_chunk c = { .number = 70000, .len = 5000 };
    struct pack_addr a = { .lsn = 1 << 16, .chunk = 70000, .len = 5000 };
    struct pack_writer *w;
    uint8_t bytes[5000];
    int rc;

    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * i >> 3);
    c.hash = pack_hash(key, bytes, sizeof bytes);
    memcpy(h.lineage, lineage, 16);
    rc = pack_new(simio_io(s), &h, &w, NULL);
    if (rc)
        return rc;
    rc = pack_put_frame(w, PACK_ZSTD, 3, &c, 1, bytes, NULL, NULL, NULL);
    if (rc == 0)
        rc = pack_put_addr(w, &a, NULL);
    if (rc) {
        pack_drop(w);
        return rc;
    }
    return pack_finish(w, epoch_a, NULL, NULL);
}

/* Whether the pack of make_quietly is there; then it is whole. */
static bool is_there(struct simio *s)
{
    struct packs *ps = open_small(s, 0);
    uint64_t end = packs_end(ps);
    uint8_t buf[5000];

    if (end) {
        ck_assert_uint_eq(end, 1 << 20);
        expect_whole(ps, 9);
        ok(packs_read(ps, 1 << 16, 0, 5000, buf, false, &err));
        ck_assert_uint_eq(buf[4999], (uint8_t)(4999 * 4999 >> 3));
    }
    packs_close(ps);
    return end != 0;
}

START_TEST(failure_anywhere_leaves_no_named_file)
{
    static const int codes[] = { ERR_IO, ERR_NOSPC };
    bool done = false;

    for (uint64_t n = 1; !done; n++)
        for (int i = 0; i < 2; i++) {
            struct simio *s = simio_new(n);
            int rc;

            simio_fail_at(s, SIMIO_ANY, n, codes[i]);
            rc = make_quietly(s);
            simio_fail_clear(s);
            done = rc == 0 && n > 12;           /* nothing failed any more */
            if (rc)
                ck_assert_int_eq(rc, codes[i]);
            ck_assert(is_there(s) == (rc == 0));
            if (rc) {
                ck_assert_int_eq(io_stat_path(simio_io(s), "packs/next", &(struct io_stat){ 0 }, NULL), ERR_NOENT);
                ck_assert_int_eq(make_quietly(s), 0);
                ck_assert(is_there(s));
            }
            simio_free(s);
        }
}
END_TEST

START_TEST(power_cut_anywhere_leaves_no_named_file_or_a_whole_one)
{
    unsigned there = 0, gone = 0;
    bool done = false;

    for (uint64_t n = 1; !done; n++)
        for (uint64_t seed = 0; seed < 12; seed++)
            for (int m = 0; m < SIMIO_N_CUT_MODES; m++) {
                struct simio *s = simio_new(seed);
                bool was;
                int rc;

                simio_cut_at(s, n);
                rc = make_quietly(s);
                done = !simio_dead(s);
                simio_cut(s, seed, (enum simio_cut_mode)m);
                was = is_there(s);
                ck_assert(rc != 0 || was);
                there += was;
                gone += !was;
                ck_assert(was || make_quietly(s) == 0);     /* and on with it */
                simio_free(s);
            }
    ck_assert_uint_gt(there, 10);
    ck_assert_uint_gt(gone, 10);
}
END_TEST

START_TEST(pack_that_is_there_is_not_replaced)
{
    ck_assert_int_eq(make_quietly(sim), 0);
    ck_assert_int_eq(make_quietly(sim), ERR_EXIST);
    ck_assert(is_there(sim));
}
END_TEST

START_TEST(a_sync_that_is_left_out_is_caught)
{
    unsigned lost = 0;

    for (uint64_t seed = 0; seed < 40; seed++) {
        struct simio *s = simio_new(seed);
        struct err last = { 0 };
        struct packs *ps;

        if (_i)
            simio_bug_skip_syncdir(s, "packs");
        else
            simio_bug_skip_sync(s, "packs");
        ck_assert_int_eq(make_quietly(s), 0);
        simio_cut(s, seed, SIMIO_CUT_RANDOM);
        ps = open_small(s, 0);
        lost += packs_end(ps) == 0 || packs_check(ps, 9, count_bad, &last, &err) > 0;
        packs_close(ps);
        simio_free(s);
    }
    ck_assert_uint_gt(lost, 5);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("pack");
    TCase *c = tcase_create("codecs"), *r = tcase_create("reading"), *d = tcase_create("damage"), *m = tcase_create("making");
    SRunner *sr;
    int failed;

    tcase_add_checked_fixture(c, set_up, tear_down);
    tcase_add_test(c, random_tables_come_back_as_they_were);
    tcase_add_test(c, keyed_hash_is_that_of_key_and_bytes);
    tcase_add_test(c, names_are_exact);
    tcase_add_loop_test(c, each_wrong_field_of_the_head_is_named, 0, 25);
    tcase_add_test(c, golden_pack_is_read_and_its_tables_are_written_the_same);
    suite_add_tcase(s, c);
    tcase_add_checked_fixture(r, set_up, tear_down);
    tcase_set_timeout(r, 120);
    tcase_add_loop_test(r, every_byte_comes_back_from_random_ranges, 0, 2);
    tcase_add_test(r, threads_read_the_same_frames_at_once);
    tcase_add_test(r, chain_of_the_largest_depth_is_read_and_a_longer_one_refused);
    tcase_add_test(r, delta_costs_less_and_a_try_says_so);
    tcase_add_test(r, nowait_reads_what_is_in_memory_and_waits_for_nothing);
    tcase_add_test(r, many_packs_few_open_files);
    tcase_add_test(r, pack_without_data_is_whole_and_has_nothing);
    tcase_add_test(r, record_of_many_pieces_is_in_one_block);
    tcase_add_test(r, newer_pack_counts_where_it_covers_and_the_older_one_elsewhere);
    tcase_add_test(r, what_lies_behind_a_fork_is_not_there);
    tcase_add_loop_test(r, pack_of_another_store_or_key_or_name_is_damage, 0, 4);
    suite_add_tcase(s, r);
    tcase_add_checked_fixture(d, set_up, tear_down);
    tcase_set_timeout(d, 300);
    tcase_add_loop_test(d, each_flipped_byte_takes_only_what_lies_there, 0, 3);
    tcase_add_test(d, cut_off_at_each_length_it_gives_what_it_still_has);
    tcase_add_test(d, longer_file_than_its_head_says_is_told_and_read);
    tcase_add_test(d, damage_of_kept_bytes_is_mended_by_the_disk);
    tcase_add_test(d, pack_that_is_gone_is_damage_and_takes_no_other);
    tcase_add_test(d, disk_that_gives_nothing_is_an_error_and_not_for_ever);
    suite_add_tcase(s, d);
    tcase_add_checked_fixture(m, set_up, tear_down);
    tcase_set_timeout(m, 120);
    tcase_add_loop_test(m, what_could_not_be_read_back_is_not_named, 0, 9);
    tcase_add_test(m, failure_anywhere_leaves_no_named_file);
    tcase_add_test(m, power_cut_anywhere_leaves_no_named_file_or_a_whole_one);
    tcase_add_test(m, pack_that_is_there_is_not_replaced);
    tcase_add_loop_test(m, a_sync_that_is_left_out_is_caught, 0, 2);
    suite_add_tcase(s, m);
    sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
