/*
 * check_record: records, frames and segment headers as bytes: round trips of every
 * type, bounds, each flipped bit noticed, and golden samples that must never change.
 */
#include "store/log/frame.h"
#include "store/log/segment.h"
#include "tests/lib/log_fixture.h"

#include <check.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* A sealed head of ${type}; returns its length. */
static uint32_t make_head_flags(unsigned type, uint64_t n, unsigned flags, struct record *rec, uint8_t *buf, size_t cap)
{
    uint64_t sums[8];
    uint8_t *data;
    int len;

    fix_sample(type, n, rec);
    rec->flags |= (uint16_t)flags;
    data = fix_data_of(rec);
    ck_assert_uint_le(record_n_sums(rec->data_len), 8);
    record_sums(data, rec->data_len, sums);
    free(data);
    len = record_encode(rec, sums, buf, cap);
    ck_assert_msg(len > 0, "%s: %s", record_type_name(type), err_name(len));
    ck_assert_uint_eq((uint32_t)len, record_head_len(rec));
    rec->lsn = 4096 + 8 * n;
    rec->prev_lsn = 4096;
    memset(rec->prev_hash.b, 0x77, 16);
    rec->epoch = 3;
    rec->incarnation = 0x1122334455667788u;
    rec->wall_ns = 1700000000000000001;
    rec->boot_ns = 12345;
    record_seal(buf, (uint32_t)len, rec);
    return (uint32_t)len;
}

static uint32_t make_head(unsigned type, uint64_t n, struct record *rec, uint8_t *buf, size_t cap)
{
    return make_head_flags(type, n, 0, rec, buf, cap);
}

START_TEST(round_trip_of_every_type)
{
    static uint8_t a[REC_HEAD_MAX], b[REC_HEAD_MAX];
    unsigned types[64], n_types = fix_types(types);

    for (unsigned t = 0; t < n_types; t++)
        for (uint64_t n = 0; n < 40; n++) {
            struct record rec, got;
            struct err err = { 0 };
            uint32_t len = make_head(types[t], n, &rec, a, sizeof a);
            uint64_t sums[8];

            ck_assert_msg(record_decode(a, len, &got, &err) == 0, "%s: %s", record_type_name(types[t]), err.msg);
            ck_assert_uint_eq(got.type, types[t]);
            ck_assert_uint_eq(got.lsn, rec.lsn);
            ck_assert_uint_eq(got.ino, rec.ino);
            ck_assert_uint_eq(got.data_len, rec.data_len);
            ck_assert_int_eq(got.wall_ns, rec.wall_ns);
            ck_assert(hash128_eq(&got.hash, &rec.hash));
            ck_assert_uint_eq(record_dstart(len), 48 + len);
            /* every argument: what was decoded encodes to the same bytes */
            for (uint32_t i = 0; i < record_n_sums(got.data_len); i++)
                sums[i] = get_u64(a + 128 + 8 * i);
            ck_assert_int_eq(record_encode(&got, sums, b, sizeof b), (int)len);
            ck_assert_mem_eq(a, b, len);
        }
}
END_TEST

START_TEST(every_flipped_bit_is_noticed)
{
    static uint8_t a[REC_HEAD_MAX];
    unsigned types[64], n_types = fix_types(types);

    for (unsigned t = 0; t < n_types; t++) {
        struct record rec, got;
        uint32_t len = make_head(types[t], 3, &rec, a, sizeof a);

        for (uint32_t i = 0; i < len * 8; i++) {
            a[i / 8] ^= (uint8_t)(1 << i % 8);
            memset(&got, 0xee, sizeof got);
            ck_assert_int_lt(record_decode(a, len, &got, NULL), 0);
            ck_assert_uint_eq(got.type, 0xeeee);        /* untouched */
            a[i / 8] ^= (uint8_t)(1 << i % 8);
        }
    }
}
END_TEST

START_TEST(truncated_at_every_length)
{
    static uint8_t a[REC_HEAD_MAX];
    unsigned types[64], n_types = fix_types(types);

    for (unsigned t = 0; t < n_types; t++) {
        struct record rec, got;
        uint32_t len = make_head(types[t], 3, &rec, a, sizeof a);

        for (uint32_t i = 0; i < len; i++) {
            uint8_t *exact = malloc(i > 0 ? i : 1);     /* so that ASan sees a read beyond */

            memcpy(exact, a, i);
            ck_assert_int_eq(record_decode(exact, i, &got, NULL), ERR_TRUNCATED);
            free(exact);
        }
    }
}
END_TEST

/* Re-seals after a change, so that only the bound itself can refuse it. */
static int decode_resealed(uint8_t *buf, uint32_t len, struct err *err)
{
    struct record got;
    struct hash128 h;

    memset(buf + 112, 0, 16);
    h = hash128(buf, len);
    memcpy(buf + 112, h.b, 16);
    return record_decode(buf, len, &got, err);
}

START_TEST(bounds_hold_behind_a_valid_hash)
{
    static uint8_t a[REC_HEAD_MAX];
    struct record rec;
    struct err err = { 0 };
    uint32_t len;

    len = make_head(REC_UNLINK, 1, &rec, a, sizeof a);
    a[len - 1] = '/';
    ck_assert_int_eq(decode_resealed(a, len, &err), ERR_BADREC);
    ck_assert_str_eq(err.msg, "record of type 3: bad name");

    len = make_head(REC_UNLINK, 1, &rec, a, sizeof a);
    put_u32(a + 128 + 8, rec.u.link.name.len - 1);
    ck_assert_int_eq(decode_resealed(a, len, &err), ERR_BADREC);
    ck_assert_str_eq(err.msg, "record of type 3: bytes behind the arguments");

    len = make_head(REC_UNLINK, 1, &rec, a, sizeof a);
    put_u32(a + 128 + 8, rec.u.link.name.len + 1);
    ck_assert_int_eq(decode_resealed(a, len, &err), ERR_BADREC);
    ck_assert_str_eq(err.msg, "record of type 3: arguments end too early");

    len = make_head(REC_CANARY, 1, &rec, a, sizeof a);
    a[0] = 23;
    ck_assert_int_eq(decode_resealed(a, len, &err), ERR_BADREC);
    ck_assert_str_eq(err.msg, "record of type 23: unknown type");

    len = make_head(REC_CANARY, 1, &rec, a, sizeof a);
    a[2] = 32;
    ck_assert_int_eq(decode_resealed(a, len, &err), ERR_BADREC);
    ck_assert_str_eq(err.msg, "record of type 19: unknown flag");

    /* Flags that say something of a name: of a record that gives one; the second one where two are given. */
    for (unsigned type = REC_CREATE; type <= REC_RENAME; type++) {
        len = make_head(type, 1, &rec, a, sizeof a);
        a[2] |= RECF_NOHISTORY;
        ck_assert_int_eq(decode_resealed(a, len, &err), type == REC_UNLINK ? ERR_BADREC : 0);
    }
    len = make_head(REC_CANARY, 1, &rec, a, sizeof a);
    a[2] = RECF_NOHISTORY;
    ck_assert_int_eq(decode_resealed(a, len, &err), ERR_BADREC);
    ck_assert_str_eq(err.msg, "record of type 19: a flag of names with a type that gives none");
    len = make_head(REC_RENAME, 1, &rec, a, sizeof a);                  /* one that does not replace */
    a[2] |= RECF_NOHISTORY_BACK;
    ck_assert_int_eq(decode_resealed(a, len, &err), ERR_BADREC);
    len = make_head(REC_RENAME, 2, &rec, a, sizeof a);                  /* one that exchanges */
    a[2] |= RECF_NOHISTORY_BACK;
    ck_assert_int_eq(decode_resealed(a, len, &err), 0);

    len = make_head(REC_CANARY, 1, &rec, a, sizeof a);
    a[104] = 1;
    ck_assert_int_eq(decode_resealed(a, len, &err), ERR_BADREC);

    len = make_head(REC_REAP, 3, &rec, a, sizeof a);
    put_u32(a + 128, 0);
    put_u32(a + 4, 132);                /* head and arguments of no inode */
    put_u32(a + 12, 4);
    ck_assert_int_eq(decode_resealed(a, 132, &err), ERR_BADREC);
    ck_assert_str_eq(err.msg, "record of type 15: no inode");

    /* The pieces of a CLONE begin at 128 + 44: the second one before the end of the first; behind the target's end; of a later record. */
    len = make_head(REC_CLONE, 3, &rec, a, sizeof a);
    put_u64(a + 172 + 32, 8192 + 4095);
    ck_assert_int_eq(decode_resealed(a, len, &err), ERR_BADREC);
    ck_assert_str_eq(err.msg, "record of type 7: piece out of order or out of the target's range");
    len = make_head(REC_CLONE, 3, &rec, a, sizeof a);
    put_u64(a + 172 + 64, 8192 + 8193);
    ck_assert_int_eq(decode_resealed(a, len, &err), ERR_BADREC);
    len = make_head(REC_CLONE, 3, &rec, a, sizeof a);
    put_u64(a + 172 + 64, UINT64_MAX - 5);
    ck_assert_int_eq(decode_resealed(a, len, &err), ERR_BADREC);
    len = make_head(REC_CLONE, 3, &rec, a, sizeof a);
    put_u64(a + 172 + 8, rec.lsn);
    ck_assert_int_eq(decode_resealed(a, len, &err), ERR_BADREC);
    ck_assert_str_eq(err.msg, "record of type 7: piece of no earlier record");

    len = make_head(REC_REAP, 3, &rec, a, sizeof a);
    put_u32(a + 128, 0x40000001);       /* times 8 overflows 32 bits */
    ck_assert_int_eq(decode_resealed(a, len, &err), ERR_BADREC);
}
END_TEST

START_TEST(encode_refuses_what_decode_would)
{
    static uint8_t a[REC_HEAD_MAX];
    static uint8_t big[REC_ARGS_MAX + 8];
    struct record rec;

    fix_sample(REC_CREATE, 0, &rec);
    rec.u.create.name.len = 0;
    ck_assert_int_eq(record_encode(&rec, NULL, a, sizeof a), ERR_INVAL);
    fix_sample(REC_CREATE, 0, &rec);
    memset(big, 'x', sizeof big);
    rec.u.create.name = (struct rec_bytes){ big, 256 };
    ck_assert_int_eq(record_encode(&rec, NULL, a, sizeof a), ERR_INVAL);
    rec.u.create.name = (struct rec_bytes){ big, 255 };
    ck_assert_int_gt(record_encode(&rec, NULL, a, sizeof a), 0);
    rec.u.create.name = (struct rec_bytes){ (const uint8_t *)"..", 2 };
    ck_assert_int_eq(record_encode(&rec, NULL, a, sizeof a), ERR_INVAL);
    fix_sample(REC_WRITE, 1, &rec);
    rec.data_len = REC_DATA_MAX + 1;
    ck_assert_int_eq(record_encode(&rec, NULL, a, sizeof a), ERR_TOOLONG);
    rec.data_len = 0;
    ck_assert_int_eq(record_encode(&rec, NULL, a, sizeof a), ERR_INVAL);
    fix_sample(REC_REAP, 0, &rec);
    rec.u.reap.n = REC_ARGS_MAX / 8;
    rec.u.reap.inos = big;
    ck_assert_int_eq(record_encode(&rec, NULL, a, sizeof a), ERR_TOOLONG);
    rec.u.reap.n--;
    ck_assert_int_eq(record_encode(&rec, NULL, a, 1000), ERR_TOOLONG);
    ck_assert_int_gt(record_encode(&rec, NULL, a, sizeof a), 0);
    record_seal(a, rec.head_len, &rec);
    ck_assert_int_eq(record_decode(a, rec.head_len, &rec, NULL), 0);     /* hashed off the stack */
    fix_sample(REC_CANARY, 0, &rec);
    rec.type = 99;
    ck_assert_int_eq(record_encode(&rec, NULL, a, sizeof a), ERR_INVAL);
}
END_TEST

START_TEST(data_sums_name_the_block)
{
    static const uint32_t lens[] = { 1, 16383, 16384, 16385, 32768, 50000 };
    static uint8_t a[REC_HEAD_MAX];

    for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
        uint64_t sums[8];
        struct record rec, got;
        uint8_t *data;
        uint32_t bad = 0;
        int len;

        fix_sample(REC_WRITE, 0, &rec);
        rec.data_len = lens[i];
        data = fix_data_of(&rec);
        record_sums(data, lens[i], sums);
        len = record_encode(&rec, sums, a, sizeof a);
        record_seal(a, (uint32_t)len, &rec);
        ck_assert_int_eq(record_decode(a, (size_t)len, &got, NULL), 0);
        ck_assert_int_eq(record_check_data(&got, data, 0, lens[i], &bad), 0);
        for (uint32_t at = 0; at < lens[i]; at += 5000) {
            data[at] ^= 1;
            ck_assert_int_eq(record_check_data(&got, data, 0, lens[i], &bad), ERR_DAMAGE);
            ck_assert_uint_eq(bad, at / 16384 * 16384);
            data[at] ^= 1;
        }
        free(data);
    }
}
END_TEST

START_TEST(frame_bits_and_bounds)
{
    struct frame f = { .rec_len = 1000, .lsn = 4096, .gen = 7, .incarnation = 9, .durable = 4000 }, g;
    uint8_t buf[FRAME_BYTES];

    frame_encode(&f, buf);
    ck_assert(frame_decode(buf, &g));
    ck_assert_uint_eq(g.rec_len, 1000);
    ck_assert_uint_eq(g.lsn, 4096);
    ck_assert_uint_eq(g.gen, 7);
    ck_assert_uint_eq(g.incarnation, 9);
    ck_assert_uint_eq(g.durable, 4000);
    for (unsigned i = 0; i < FRAME_BYTES * 8; i++) {
        buf[i / 8] ^= (uint8_t)(1 << i % 8);
        ck_assert(!frame_decode(buf, &g));
        buf[i / 8] ^= (uint8_t)(1 << i % 8);
    }
    f.rec_len = 127;
    frame_encode(&f, buf);
    ck_assert(!frame_decode(buf, &g));
    f.rec_len = 1000;
    f.lsn = 4097;
    frame_encode(&f, buf);
    ck_assert(!frame_decode(buf, &g));
    ck_assert_uint_eq(frame_span(128), 176);
    ck_assert_uint_eq(frame_span(129), 184);
}
END_TEST

static void sample_header(struct segment_header *h)
{
    memset(h, 0, sizeof *h);
    h->version = h->version_min = 1;
    memset(h->lineage, 1, 16);
    memset(h->site, 2, 16);
    h->hash_alg = HASH_XXH3;
    h->gen = 5;
    h->first = h->cut = 65536;
    h->capacity = 1 << 26;
    h->epoch = 2;
    memset(h->epoch_id, 3, 16);
    h->incarnation = 0x1234;
    h->prev_gen = 4;
    h->prev_first = 4096;
    h->prev_lsn = 65000;
    memset(h->prev_hash.b, 4, 16);
    h->created_wall_ns = 1700000000000000000;
}

START_TEST(segment_header_bits_and_versions)
{
    uint8_t buf[SEGMENT_HEADER_BYTES], again[SEGMENT_HEADER_BYTES];
    struct segment_header h, g;
    struct err err = { 0 };

    sample_header(&h);
    segment_header_encode(&h, buf);
    ck_assert_int_eq(segment_header_decode(buf, sizeof buf, &g, &err), 0);
    segment_header_encode(&g, again);
    ck_assert_mem_eq(buf, again, sizeof buf);
    for (unsigned i = 0; i < sizeof buf * 8; i++) {
        buf[i / 8] ^= (uint8_t)(1 << i % 8);
        ck_assert_int_eq(segment_header_decode(buf, sizeof buf, &g, &err), ERR_DAMAGE);
        buf[i / 8] ^= (uint8_t)(1 << i % 8);
    }
    ck_assert_int_eq(segment_header_decode(buf, sizeof buf - 1, &g, &err), ERR_DAMAGE);
    h.version = h.version_min = FORMAT_VERSION + 1;
    segment_header_encode(&h, buf);
    ck_assert_int_eq(segment_header_decode(buf, sizeof buf, &g, &err), ERR_VERSION);
    h.version_min = FORMAT_VERSION;     /* newer, but readable by us */
    segment_header_encode(&h, buf);
    ck_assert_int_eq(segment_header_decode(buf, sizeof buf, &g, &err), 0);
    h.incompat = 2;
    segment_header_encode(&h, buf);
    ck_assert_int_eq(segment_header_decode(buf, sizeof buf, &g, &err), ERR_VERSION);
    h.incompat = 0;
    h.first += 4;
    h.cut = h.first;
    segment_header_encode(&h, buf);
    ck_assert_int_eq(segment_header_decode(buf, sizeof buf, &g, &err), ERR_DAMAGE);
}
END_TEST

START_TEST(segment_names)
{
    static const char *const bad[] = { "", "next", "0000000000001000-00000001.seG", "000000000000100-000000001.seg",
        "0000000000001000-00000001.seg ", "0000000000001001-00000001.seg", "0000000000000000-00000001.seg",
        "0000000000001000-00000000.seg", "000000000000100G-00000001.seg", "ffffffffffffffff-00000001.seg" };
    char buf[SEGMENT_NAME_MAX];
    uint64_t first = 0, gen = 0;

    segment_name(0x123456789abcdef8u & INT64_MAX, 0xfedcba98u, buf);
    ck_assert_str_eq(buf, "log/123456789abcdef8-fedcba98.seg");
    ck_assert(segment_parse(buf + 4, &first, &gen));
    ck_assert_uint_eq(first, 0x123456789abcdef8u);
    ck_assert_uint_eq(gen, 0xfedcba98u);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ck_assert_msg(!segment_parse(bad[i], &first, &gen), "%s", bad[i]);
}
END_TEST

/* Compares with tests/golden/NAME; SPARE_GOLDEN=write makes it. */
static void golden(const char *name, const uint8_t *buf, size_t len)
{
    const char *mode = getenv("SPARE_GOLDEN");
    static uint8_t have[REC_HEAD_MAX];
    size_t n;
    FILE *f;

    if (mode != NULL && strcmp(mode, "write") == 0) {
        f = fix_golden(name, "wb");
        ck_assert_msg(f != NULL, "%s", name);
        ck_assert_uint_eq(fwrite(buf, 1, len, f), len);
        ck_assert_int_eq(fclose(f), 0);
    }
    f = fix_golden(name, "rb");
    ck_assert_msg(f != NULL, "tests/golden/%s is missing", name);
    n = fread(have, 1, sizeof have, f);
    fclose(f);
    ck_assert_uint_eq(n, len);
    ck_assert_msg(memcmp(have, buf, len) == 0, "tests/golden/%s: the format has changed", name);
}

START_TEST(golden_samples_never_change)
{
    static uint8_t a[REC_HEAD_MAX];
    unsigned types[64], n_types = fix_types(types);
    struct segment_header h;
    char name[64];

    for (unsigned t = 0; t < n_types; t++) {
        struct record rec;
        uint32_t len = make_head(types[t], 3, &rec, a, sizeof a);

        snprintf(name, sizeof name, "record-%s.bin", record_type_name(types[t]));
        for (char *p = name; *p; p++)
            *p = (char)(*p == '_' ? '-' : tolower((unsigned char)*p));
        golden(name, a, len);
        ck_assert_int_eq(record_decode(a, len, &rec, NULL), 0);
    }
    struct record rec;
    golden("record-create-nohistory.bin", a, make_head_flags(REC_CREATE, 3, RECF_NOHISTORY, &rec, a, sizeof a));
    golden("record-rename-nohistory.bin", a, make_head_flags(REC_RENAME, 5, RECF_NOHISTORY | RECF_NOHISTORY_BACK, &rec, a, sizeof a));
    sample_header(&h);
    segment_header_encode(&h, a);
    golden("segment.bin", a, SEGMENT_HEADER_BYTES);
    frame_encode(&(struct frame){ .rec_len = 1000, .lsn = 4096, .gen = 7, .incarnation = 9, .durable = 4000 }, a);
    golden("frame.bin", a, FRAME_BYTES);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("record");
    TCase *t = tcase_create("record");
    SRunner *r;
    int failed;

    tcase_set_timeout(t, 120);
    tcase_add_test(t, round_trip_of_every_type);
    tcase_add_test(t, every_flipped_bit_is_noticed);
    tcase_add_test(t, truncated_at_every_length);
    tcase_add_test(t, bounds_hold_behind_a_valid_hash);
    tcase_add_test(t, encode_refuses_what_decode_would);
    tcase_add_test(t, data_sums_name_the_block);
    tcase_add_test(t, frame_bits_and_bounds);
    tcase_add_test(t, segment_header_bits_and_versions);
    tcase_add_test(t, segment_names);
    tcase_add_test(t, golden_samples_never_change);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
