/* check_super.c: superblock and retained set: round trip, damage of every field, torn and failed writes. */
#include "store/base/bytes.h"
#include "store/base/filehead.h"
#include "store/base/super.h"
#include "tests/lib/simio.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK(call) ck_assert_int_eq((call), 0)

static const uint8_t lineage[16] = "lineage-of-test";

static void sample(struct super *sb)
{
    memset(sb, 0, sizeof *sb);
    sb->gen = 5;
    memcpy(sb->lineage, lineage, 16);
    memset(sb->site, 0x51, 16);
    memset(sb->key, 0x6b, 32);
    sb->role = ROLE_PRIMARY;
    sb->hash_alg = HASH_XXH3;
    sb->key_id = 3;
    sb->created_wall_ns = -12345;
    memset(sb->machine, 0x33, 16);
    sb->dev = 0x801;
    sb->ino = 77;
    sb->clean = 1;
    sb->durable = 123456;
    sb->last_lsn = 123000;
    memset(sb->last_hash.b, 0xaa, 16);
    sb->incarnation = UINT64_C(0xfedcba9876543210);
    sb->segment_gen = 9;
    sb->n_epochs = 2;
    for (uint32_t i = 0; i < 2; i++) {
        sb->epochs[i].number = 1 + 3 * i;
        memset(sb->epochs[i].site, 0x51, 16);
        memset(sb->epochs[i].id, 0xe0 + (int)i, 16);
        sb->epochs[i].first_lsn = 4096 + i * 1000;
        memset(sb->epochs[i].prev_hash.b, i ? 0xbb : 0, 16);
        memcpy(sb->epochs[i].lineage, i ? lineage : (const uint8_t *)"forked-off-this", 16);
    }
    OK(super_config_set(sb, "zone", "Europe/Z\xc3\xbcrich", NULL));
    OK(super_config_set(sb, "keep-all", "7d", NULL));
}

static void sample_retained(struct retained *r)
{
    memset(r, 0, sizeof *r);
    r->gen = 2;
    r->horizon = 9000;
    r->listed = 11000;
    r->leaving = 10000;
    r->leaving_age_ns = 86400000000000;
    r->n = 5;
    r->point = calloc(r->n, sizeof *r->point);
    r->point[0] = (struct retained_point){ .lsn = 4096, .kind = RETAIN_KEPT };
    r->point[1] = (struct retained_point){ .lsn = 4096, .kind = RETAIN_HOLD, .placed_ns = 1795262400000000000, .until_ns = 1795348800000000000 };
    r->point[2] = (struct retained_point){ .lsn = 4096, .kind = RETAIN_HOLD, .until_ns = -1, .owner = "a standby's site" };
    r->point[3] = (struct retained_point){ .lsn = 9001, .kind = 77 };
    r->point[4] = (struct retained_point){ .lsn = 10500, .kind = RETAIN_KEPT, .until_ns = 90000000000000 };
}

/* --- golden files: the bytes of version 1 --- */

static size_t golden(const char *name, uint8_t *buf, size_t cap)
{
    const char *src = getenv("SPARE_SRC");
    char path[4096];
    FILE *f;
    size_t n;

    snprintf(path, sizeof path, "%s/tests/golden/%s", src ? src : ".", name);
    f = fopen(path, "rb");
    ck_assert_msg(f != NULL, "cannot open %s", path);
    n = fread(buf, 1, cap, f);
    fclose(f);
    return n;
}

START_TEST(golden_superblock_is_read_and_written_the_same)
{
    uint8_t *a = malloc(SUPER_FILE_MAX), *b = malloc(SUPER_FILE_MAX);
    struct super want, got;
    struct err err = { 0 };

    ck_assert_uint_eq(golden("super.bin", a, SUPER_FILE_MIN + 1), SUPER_FILE_MIN);
    ck_assert_msg(super_decode(a, SUPER_FILE_MIN, &got, &err) == 0, "%s", err.msg);
    super_encode(&got, b);
    ck_assert(memcmp(a, b, SUPER_FILE_MIN) == 0);
    sample(&want);
    super_encode(&want, b);
    ck_assert_msg(memcmp(a, b, SUPER_FILE_MIN) == 0, "the encoding changed");
    ck_assert_uint_eq(got.epochs[1].first_lsn, 5096);
    ck_assert_int_eq(got.created_wall_ns, -12345);
    ck_assert_uint_eq(got.incarnation, want.incarnation);
    free(a);
    free(b);
}
END_TEST

START_TEST(golden_retained_set_is_read_and_written_the_same)
{
    uint8_t a[512], b[512], id[16];
    struct retained r;
    size_t n = golden("retained.bin", a, sizeof a);

    ck_assert_uint_eq(n, 144 + 5 * 48);
    OK(retained_decode(a, n, id, &r, NULL));
    ck_assert_mem_eq(id, lineage, 16);
    ck_assert_uint_eq(retained_encode(&r, id, b, sizeof b), n);
    ck_assert_mem_eq(a, b, n);
    ck_assert(retained_lists(&r, 4096) && retained_lists(&r, 9001) && !retained_lists(&r, 4095) && !retained_lists(&r, 9000));
    ck_assert(!retained_lists(&r, 10500) && !retained_lists(&r, 10999) && retained_lists(&r, 11000) && retained_lists(&r, UINT64_MAX - 1));
    ck_assert_uint_eq(retained_first(&r, 4000, 5000), 4096);
    ck_assert_uint_eq(retained_first(&r, 4096, 4097), 4096);
    ck_assert_uint_eq(retained_first(&r, 4097, 9001), 0);
    ck_assert_uint_eq(retained_first(&r, 9002, 11000), 0);
    ck_assert_uint_eq(retained_first(&r, 9002, 11001), 11000);
    ck_assert_uint_eq(retained_first(&r, 12000, 12001), 12000);
    ck_assert_uint_eq(retained_last(&r, 4000, 5000), 4096);
    ck_assert_uint_eq(retained_last(&r, 4097, 9001), 0);
    ck_assert_uint_eq(retained_last(&r, 4097, 11000), 9001);
    ck_assert_uint_eq(retained_last(&r, 4097, 11001), 11000);
    ck_assert_uint_eq(retained_last(&r, 12000, 12500), 12499);
    ck_assert_uint_eq(retained_near(&r, 6000), 4096);
    ck_assert_uint_eq(retained_near(&r, 10500), 11000);
    retained_release(&r);
    ck_assert(!retained_lists(&r, 4096));
    sample_retained(&r);
    ck_assert_uint_eq(retained_encode(&r, lineage, b, sizeof b), n);
    ck_assert_msg(memcmp(a, b, n) == 0, "the encoding changed");
    ck_assert_uint_eq(retained_encode(&r, lineage, b, n - 1), 0);
    retained_release(&r);
}
END_TEST

/* --- every field --- */

struct damage { unsigned at; unsigned bytes; uint64_t value; int code; const char *msg; };

/* With the hashes put right, so that only the field itself is wrong. */
static const struct damage super_damage[] = {
    { 0, 1, 'X', ERR_DAMAGE, "superblock: does not begin with \"SPARESUP\"" },
    { 8, 4, 9, ERR_DAMAGE, NULL },      /* the head's own sum is left wrong: see below */
    { 64, 8, 0, ERR_DAMAGE, "superblock: generation at byte 64 is 0" },
    { 72, 16, 0, ERR_DAMAGE, "superblock: lineage at byte 72 is zero" },
    { 88, 16, 0, ERR_DAMAGE, "superblock: site at byte 88 is zero" },
    { 136, 4, 5, ERR_DAMAGE, "superblock: role at byte 136 is 5, expected 1 to 4" },
    { 140, 4, 2, ERR_DAMAGE, "superblock: clean at byte 140 is 2, expected 0 or 1" },
    { 184, 8, 123000, ERR_DAMAGE, "superblock: last record at byte 192 is LSN 123000, which does not fit durable 123000 or its hash" },
    { 192, 8, 0, ERR_DAMAGE, "superblock: last record at byte 192 is LSN 0, which does not fit durable 123456 or its hash" },
    { 232, 4, 1025, ERR_DAMAGE, "superblock: number of epochs at byte 232 is 1025, at most 1024 fit" },
    { 232, 4, 141, ERR_DAMAGE, "superblock: 16384 bytes long, expected 20480 for the 141 epochs of byte 232" },
    { 232, 4, 1, ERR_DAMAGE, "superblock: the bytes behind the epoch rows, from 5200 on, are not all zero" },
    { 72, 16, 1, ERR_DAMAGE, "superblock: epoch row 1 at byte 5200, the last, is of another lineage than that at byte 72" },
    { 236, 4, 4097, ERR_DAMAGE, "superblock: length of the settings at byte 236 is 4097, at most 4096 fit" },
    { 236, 4, 3, ERR_DAMAGE, "superblock: the bytes behind the settings, from 1027 on, are not all zero" },
    { 236, 4, 64, ERR_DAMAGE, "superblock: settings at byte 1056 are not a line of name=value" },
    { 1023, 1, 1, ERR_DAMAGE, "superblock: reserved bytes from 240 on are not zero" },
    { 5124, 1, 1, ERR_DAMAGE, "superblock: epoch row 0 at byte 5120: reserved bytes are not zero" },
    { 5120, 4, 0, ERR_DAMAGE, "superblock: epoch row 0 at byte 5120 (number 0, LSN 4096): its number does not rise" },
    { 5120, 4, 4, ERR_DAMAGE, "superblock: epoch row 1 at byte 5200 (number 4, LSN 5096): its number does not rise" },
    { 5128, 16, 0, ERR_DAMAGE, "superblock: epoch row 0 at byte 5120 (number 1, LSN 4096): it has no site, no id or no lineage" },
    { 5224, 16, 0, ERR_DAMAGE, "superblock: epoch row 1 at byte 5200 (number 4, LSN 5096): it has no site, no id or no lineage" },
    { 5184, 16, 0, ERR_DAMAGE, "superblock: epoch row 0 at byte 5120 (number 1, LSN 4096): it has no site, no id or no lineage" },
    { 5240, 8, 4096, ERR_DAMAGE, "superblock: epoch row 1 at byte 5200 (number 4, LSN 4096): its LSN does not rise" },
    { 1024, 1, '=', ERR_DAMAGE, "superblock: settings at byte 1024 are not a line of name=value" },
    { 1024, 1, 0xff, ERR_DAMAGE, "superblock: settings at byte 1024 are not a line of name=value" },
    { 1028, 1, '\n', ERR_DAMAGE, "superblock: settings at byte 1024 are not a line of name=value" },
    { 1208, 1, 1, ERR_DAMAGE, "superblock: the bytes behind the settings, from 1056 on, are not all zero" },
    { 5119, 1, 1, ERR_DAMAGE, "superblock: the bytes behind the settings, from 1056 on, are not all zero" },
    { 5280, 1, 1, ERR_DAMAGE, "superblock: the bytes behind the epoch rows, from 5280 on, are not all zero" },
    { 16367, 1, 1, ERR_DAMAGE, "superblock: the bytes behind the epoch rows, from 5280 on, are not all zero" },
};

static void poke(uint8_t *buf, const struct damage *d)
{
    for (unsigned i = 0; i < d->bytes; i++)
        buf[d->at + i] = (uint8_t)(i < 8 ? d->value >> (8 * i) : 0);
}

/* So many epochs, each another one for another ${n}. */
static void fill_epochs(struct super *sb, uint32_t n)
{
    sb->n_epochs = n;
    for (uint32_t i = 0; i < n; i++) {
        sb->epochs[i] = (struct epoch_row){ .number = i + 1, .first_lsn = 4096 + 8 * i };
        memset(sb->epochs[i].site, 0x51, 16);
        put_u32(sb->epochs[i].id, n);
        memcpy(sb->epochs[i].lineage, lineage, 16);
    }
}

static bool same_epochs(const struct super *a, const struct super *b)
{
    bool same = a->n_epochs == b->n_epochs;

    for (uint32_t i = 0; same && i < a->n_epochs; i++)
        same = a->epochs[i].number == b->epochs[i].number && a->epochs[i].first_lsn == b->epochs[i].first_lsn && memcmp(a->epochs[i].id, b->epochs[i].id, 16) == 0;
    return same;
}

START_TEST(a_file_grows_with_its_epochs)
{
    static const struct { uint32_t n; size_t bytes; } cases[] = { { 0, 16384 }, { 1, 16384 }, { 140, 16384 }, { 141, 20480 }, { 191, 20480 }, { 192, 24576 }, { SUPER_EPOCHS_MAX, SUPER_FILE_MAX } };
    uint8_t *buf = malloc(SUPER_FILE_MAX);
    struct super *sb = malloc(sizeof *sb), *got = malloc(sizeof *got);
    struct err err = { 0 };

    sample(sb);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fill_epochs(sb, cases[i].n);
        ck_assert_uint_eq(super_bytes(cases[i].n), cases[i].bytes);
        ck_assert_uint_eq(super_encode(sb, buf), cases[i].bytes);
        ck_assert_msg(super_decode(buf, cases[i].bytes, got, &err) == 0, "%s", err.msg);
        ck_assert(same_epochs(got, sb));
        ck_assert_int_eq(super_decode(buf, cases[i].bytes - 4096, got, &err), ERR_DAMAGE);
    }
    free(sb);
    free(got);
    free(buf);
}
END_TEST

START_TEST(each_wrong_field_of_the_superblock_is_named)
{
    const struct damage *d = &super_damage[_i];
    uint8_t *buf = malloc(SUPER_FILE_MAX);
    struct super sb, before;
    struct err err = { 0 };

    sample(&sb);
    before = sb;
    super_encode(&sb, buf);
    poke(buf, d);
    filehead_seal(buf, SUPER_FILE_MIN);
    ck_assert_int_eq(super_decode(buf, SUPER_FILE_MIN, &sb, &err), d->code);
    if (d->msg)
        ck_assert_str_eq(err.msg, d->msg);
    else
        ck_assert_ptr_nonnull(strstr(err.msg, "superblock: checksum of its head at byte 60 is "));
    ck_assert(memcmp(&sb, &before, sizeof sb) == 0);
    free(buf);
}
END_TEST

START_TEST(one_flipped_bit_anywhere_is_found)
{
    uint8_t *buf = malloc(SUPER_FILE_MAX);
    struct super sb, got;
    struct err err;

    sample(&sb);
    super_encode(&sb, buf);
    for (unsigned at = 0; at < SUPER_FILE_MIN; at += at < 1200 ? 1 : 61) {
        buf[at] ^= (uint8_t)(1u << (at % 8));
        if (super_decode(buf, SUPER_FILE_MIN, &got, &err) != ERR_DAMAGE)
            ck_abort_msg("a flipped bit in byte %u went unnoticed", at);
        if (at >= 64 && !strstr(err.msg, "superblock: hash at byte 16368 is "))
            ck_abort_msg("byte %u: %s", at, err.msg);
        buf[at] ^= (uint8_t)(1u << (at % 8));
    }
    OK(super_decode(buf, SUPER_FILE_MIN, &got, &err));
    for (unsigned len = 0; len < SUPER_FILE_MIN; len += len < 200 ? 1 : 511)
        if (super_decode(buf, len, &got, &err) != ERR_DAMAGE)
            ck_abort_msg("cut to %u bytes it was read", len);
    free(buf);
}
END_TEST

static void head_with(struct filehead h, uint8_t *buf)
{
    struct super sb;

    sample(&sb);
    super_encode(&sb, buf);
    h.size = SUPER_FILE_MIN;
    filehead_encode(&h, "SPARESUP", buf);
    filehead_seal(buf, SUPER_FILE_MIN);
}

START_TEST(newer_versions_and_features_are_named_with_both_numbers)
{
    static const struct { struct filehead h; int code; const char *msg; } cases[] = {
        { { .version = 7, .version_min = 3 }, ERR_VERSION,
          "superblock: format version 7, readable from version 3 on; this program reads versions 1 to 1: use a newer program" },
        { { .version = 7, .version_min = 1 }, 0, "" },
        { { .version = 2, .version_min = 3 }, ERR_DAMAGE,
          "superblock: version 2 at byte 8 claims the oldest reader to be version 3, which cannot be" },
        { { .incompat = 0x30 }, ERR_VERSION,
          "superblock: incompatible features 0x30 are in use; this program, of format version 1, knows 0x0: use a newer program" },
        { { .hash_alg = 2 }, ERR_VERSION,
          "superblock: hash algorithm 2 is in use; this program, of format version 1, knows 1: use a newer program" },
        { { .compat = 1, .ro_compat = 2 }, 0, "" },
    };
    uint8_t *buf = malloc(SUPER_FILE_MAX);
    struct super sb;
    struct err err = { 0 };

    head_with(cases[_i].h, buf);
    ck_assert_int_eq(super_decode(buf, SUPER_FILE_MIN, &sb, &err), cases[_i].code);
    ck_assert_str_eq(err.msg, cases[_i].msg);
    free(buf);
}
END_TEST

static const struct damage retained_damage[] = {
    { 64, 8, 0, ERR_DAMAGE, "retained set: generation at byte 64 is 0" },
    { 72, 16, 0, ERR_DAMAGE, "retained set: lineage at byte 72 is zero" },
    { 88, 8, 11001, ERR_DAMAGE, "retained set: at byte 104: expected an LSN at or above the horizon 11001, found 11000" },
    { 88, 8, 10000, ERR_DAMAGE, "retained set: at byte 112: expected 0, or an LSN above 10000 and at most 11000, found 10000" },
    { 104, 8, 9999, ERR_DAMAGE, "retained set: at byte 112: expected 0, or an LSN above 9000 and at most 9999, found 10000" },
    { 104, 8, 10500, ERR_DAMAGE, "retained set: point 4 at byte 320 is LSN 10500 of kind 1, expected one below @10500, from where on all are listed" },
    { 112, 8, 0, ERR_DAMAGE, "retained set: an age at byte 120 for nothing at byte 112" },
    { 96, 4, 2, ERR_DAMAGE, "retained set: number of points at byte 96 is 2, which does not fit a file of 384 bytes" },
    { 96, 4, 0xffffffff, ERR_DAMAGE, "retained set: number of points at byte 96 is 4294967295, which does not fit a file of 384 bytes" },
    { 100, 1, 1, ERR_DAMAGE, "retained set: reserved bytes 100 to 103 are not zero" },
    { 103, 1, 1, ERR_DAMAGE, "retained set: reserved bytes 100 to 103 are not zero" },
    { 128, 8, 0, ERR_DAMAGE, "retained set: point 0 at byte 128 is LSN 0 of kind 1, expected one below @11000, from where on all are listed" },
    { 136, 4, 0, ERR_DAMAGE, "retained set: point 0 at byte 128 is of kind 0" },
    { 184, 4, 1, ERR_DAMAGE, "retained set: point 1 at byte 176, LSN 4096 of kind 1, is not above the one before it" },
    { 184, 4, 5, ERR_DAMAGE, "retained set: point 2 at byte 224, LSN 4096 of kind 4, is not above the one before it" },
    { 256, 16, 0, ERR_DAMAGE, "retained set: point 2 at byte 224, LSN 4096 of kind 4, is not above the one before it" },
    { 272, 8, 4095, ERR_DAMAGE, "retained set: point 3 at byte 272, LSN 4095 of kind 77, is not above the one before it" },
    { 320, 8, 11000, ERR_DAMAGE, "retained set: point 4 at byte 320 is LSN 11000 of kind 1, expected one below @11000, from where on all are listed" },
    { 284, 4, 1, ERR_DAMAGE, "retained set: point 3 at byte 272: reserved bytes are not zero" },
};

START_TEST(each_wrong_field_of_the_retained_set_is_named)
{
    const struct damage *d = &retained_damage[_i];
    uint8_t buf[384], id[16] = "unchanged";
    struct retained r;
    struct err err = { 0 };

    sample_retained(&r);
    ck_assert_uint_eq(retained_encode(&r, lineage, buf, sizeof buf), sizeof buf);
    poke(buf, d);
    filehead_seal(buf, sizeof buf);
    ck_assert_int_eq(retained_decode(buf, sizeof buf, id, &r, &err), d->code);
    ck_assert_str_eq(err.msg, d->msg);
    ck_assert_str_eq((const char *)id, "unchanged");
    ck_assert_uint_eq(r.horizon, 9000);
    retained_release(&r);
}
END_TEST

/* What a newer program put where this one knows nothing: read, and written back as it was. */
START_TEST(bytes_that_a_compat_bit_explains_are_kept)
{
    uint8_t *a = malloc(SUPER_FILE_MAX), *b = malloc(SUPER_FILE_MAX), c[384], d[384], id[16];
    struct super sb;
    struct retained r, got;
    struct err err = { 0 };

    sample(&sb);
    sb.ro_compat = _i == 0 ? 2 : 0;
    sb.compat = _i == 1 ? 8 : 0;
    memset(sb.reserved, 0x77, sizeof sb.reserved);
    sb.epochs[1].reserved = 0x12345678;
    super_encode(&sb, a);
    ck_assert_int_eq(super_decode(a, SUPER_FILE_MIN, &sb, &err), _i < 2 ? 0 : ERR_DAMAGE);
    super_encode(&sb, b);
    ck_assert(memcmp(a, b, SUPER_FILE_MIN) == 0);

    sample_retained(&r);
    r.ro_compat = _i == 0 ? 2 : 0;
    r.compat = _i == 1 ? 8 : 0;
    memset(r.reserved, 0x77, sizeof r.reserved);
    r.point[2].reserved = 99;
    ck_assert_uint_eq(retained_encode(&r, lineage, c, sizeof c), sizeof c);
    ck_assert_int_eq(retained_decode(c, sizeof c, id, &got, &err), _i < 2 ? 0 : ERR_DAMAGE);
    if (_i < 2) {
        ck_assert_uint_eq(retained_encode(&got, id, d, sizeof d), sizeof d);
        ck_assert_mem_eq(c, d, sizeof c);
        retained_release(&got);
    }
    retained_release(&r);
    free(a);
    free(b);
}
END_TEST

/* --- two copies --- */

static struct simio *sim;
static struct io *io;

static void set_up(void)
{
    struct super sb;

    sim = simio_new(1);
    io = simio_io(sim);
    sample(&sb);
    sb.gen = 0;
    OK(super_write(io, &sb, NULL));
    ck_assert_uint_eq(sb.gen, 1);
    ck_assert_uint_eq(simio_pending(sim), 0);
    sb.durable = 200000;
    OK(super_write(io, &sb, NULL));
    ck_assert_uint_eq(sb.gen, 2);
}

static void tear_down(void) { simio_free(sim); }

START_TEST(one_bad_copy_is_named_used_and_healed)
{
    static const char *const names[] = { "super.0", "super.1" };
    struct super sb;
    struct err warn = { 0 }, err = { 0 };

    /* generation 2 went to super.1 */
    ck_assert(simio_flip(sim, names[_i], 200, 4));
    OK(super_read(io, &sb, &warn, &err));
    ck_assert_uint_eq(sb.gen, _i == 0 ? 2 : 1);
    ck_assert_uint_eq(sb.clean, 0);
    ck_assert_int_eq(warn.code, ERR_DAMAGE);
    ck_assert_ptr_eq(strstr(warn.msg, names[_i]), warn.msg);
    ck_assert_ptr_nonnull(strstr(warn.msg, "superblock: hash at byte 16368 is "));
    ck_assert_ptr_nonnull(strstr(warn.msg, _i == 0 ? "; super.1, of generation 2, is used and the next write heals it"
                                                    : "; super.0, of generation 1, is used and the next write heals it"));
    OK(super_write(io, &sb, &err));
    memset(&warn, 0, sizeof warn);
    OK(super_read(io, &sb, &warn, &err));
    ck_assert_int_eq(warn.code, 0);
    ck_assert_uint_eq(sb.gen, _i == 0 ? 3 : 2);
}
END_TEST

START_TEST(missing_copy_is_made_again)
{
    struct super sb;
    struct err warn = { 0 };

    OK(io_unlink(io, "super.0", NULL));
    OK(io_syncdir(io, ".", NULL));
    OK(super_read(io, &sb, &warn, NULL));
    ck_assert_ptr_nonnull(strstr(warn.msg, "super.0: no such file"));
    OK(super_write(io, &sb, NULL));
    simio_cut(sim, 1, SIMIO_CUT_DROP_ALL);
    memset(&warn, 0, sizeof warn);
    OK(super_read(io, &sb, &warn, NULL));
    ck_assert_int_eq(warn.code, 0);
    ck_assert_uint_eq(sb.gen, 3);
}
END_TEST

START_TEST(both_bad_copies_are_damage_and_none_is_no_store)
{
    struct super sb;
    struct err err = { 0 };
    struct simio *empty = simio_new(2);

    ck_assert_int_eq(super_read(simio_io(empty), &sb, NULL, &err), ERR_NOSTORE);
    ck_assert_str_eq(err.msg, "this is not a store: it has neither super.0 nor super.1");
    simio_free(empty);
    ck_assert(simio_flip(sim, "super.0", 0, 4));
    ck_assert(simio_flip(sim, "super.1", 137, 4));
    ck_assert_int_eq(super_read(io, &sb, NULL, &err), ERR_DAMAGE);
    ck_assert_ptr_nonnull(strstr(err.msg, "both copies are bad: super.0: superblock: does not begin with \"SPARESUP\"; "
                                          "super.1: superblock: hash at byte 16368 is "));
}
END_TEST

static void overwrite(const char *path, const uint8_t *buf, size_t len)
{
    struct io_file *f = NULL;
    struct iovec v = { (void *)(uintptr_t)buf, len };

    OK(io_open(io, path, IO_RDWR, &f, NULL));
    OK(io_pwritev(f, &v, 1, 0, NULL));
    OK(io_fdatasync(f, NULL));
    io_close(f);
}

START_TEST(newer_copy_is_never_passed_over_for_an_older_one)
{
    uint8_t *buf = malloc(SUPER_FILE_MAX);
    struct super sb;
    struct err err = { 0 };

    head_with((struct filehead){ .version = 7, .version_min = 7 }, buf);
    overwrite("super.0", buf, SUPER_FILE_MIN);
    ck_assert_int_eq(super_read(io, &sb, NULL, &err), ERR_VERSION);
    ck_assert_ptr_eq(strstr(err.msg, "super.0: superblock: format version 7, "), err.msg);
    head_with((struct filehead){ .ro_compat = 2 }, buf);
    overwrite("super.0", buf, SUPER_FILE_MIN);
    OK(super_read(io, &sb, NULL, NULL));
    ck_assert_uint_eq(sb.gen, 5);
    ck_assert_int_eq(super_write(io, &sb, &err), ERR_VERSION);
    ck_assert_str_eq(err.msg, "superblock: features 0x2 are in use, with which this program, of format version 1, "
                              "can only read the store");
    free(buf);
}
END_TEST

START_TEST(compatible_fields_of_a_newer_program_are_kept)
{
    uint8_t *buf = malloc(SUPER_FILE_MAX);
    struct super sb;

    sample(&sb);
    sb.version = 3;
    sb.version_min = 1;
    sb.compat = 4;
    sb.reserved[783] = 0x5a;
    super_encode(&sb, buf);
    overwrite("super.0", buf, SUPER_FILE_MIN);
    OK(super_read(io, &sb, NULL, NULL));
    OK(super_write(io, &sb, NULL));
    OK(super_read(io, &sb, NULL, NULL));
    ck_assert_uint_eq(sb.gen, 6);
    ck_assert_uint_eq(sb.version, 3);
    ck_assert_uint_eq(sb.compat, 4);
    ck_assert_uint_eq(sb.reserved[783], 0x5a);
    free(buf);
}
END_TEST

START_TEST(what_could_not_be_read_is_not_written)
{
    struct super sb;
    struct err err = { 0 };
    uint64_t writes = simio_calls(sim, SIMIO_PWRITEV);

    OK(super_read(io, &sb, NULL, NULL));
    sb.role = 0;
    ck_assert_int_eq(super_write(io, &sb, &err), ERR_INVAL);
    ck_assert_str_eq(err.msg, "not written: superblock: role at byte 136 is 0, expected 1 to 4");
    sb.role = ROLE_STANDBY;
    sb.gen = 1;
    ck_assert_int_eq(super_write(io, &sb, &err), ERR_INVAL);
    ck_assert_str_eq(err.msg, "super.1: generation 2 is on disk, expected 1: another process wrote it");
    sb.gen = 0;
    ck_assert_int_eq(super_write(io, &sb, &err), ERR_EXIST);
    ck_assert_uint_eq(simio_calls(sim, SIMIO_PWRITEV), writes);
}
END_TEST

/* Reads the store after a crash: generation and content must belong together and be one of [from, to]. */
static uint64_t expect_between(struct simio *s, uint64_t from, uint64_t to)
{
    struct super sb;
    struct err err = { 0 };

    if (super_read(simio_io(s), &sb, NULL, &err))
        ck_abort_msg("not readable after the cut: %s", err.msg);
    if (sb.gen < from || sb.gen > to || sb.durable != 200000 + (sb.gen - 2) * 8)
        ck_abort_msg("generation %llu with durable %llu", (unsigned long long)sb.gen, (unsigned long long)sb.durable);
    return sb.gen;
}

START_TEST(torn_at_every_call_the_store_stays_readable)
{
    unsigned seen[16] = { 0 };

    for (uint64_t n = 1; n <= 12; n++)
        for (uint64_t seed = 0; seed < 40; seed++)
            for (int mode = 0; mode < SIMIO_N_CUT_MODES; mode++) {
                struct simio *s = simio_clone(sim);
                struct super sb;
                uint64_t durable_gen;

                OK(super_read(simio_io(s), &sb, NULL, NULL));
                durable_gen = sb.gen;
                simio_cut_at(s, n);
                for (int i = 0; i < 3; i++) {
                    sb.durable += 8;
                    if (super_write(simio_io(s), &sb, NULL))
                        break;
                    durable_gen = sb.gen;
                }
                simio_cut(s, seed, (enum simio_cut_mode)mode);
                seen[expect_between(s, durable_gen, durable_gen + 1)]++;
                simio_free(s);
            }
    ck_assert_uint_gt(seen[2], 0);
    ck_assert_uint_gt(seen[3], 0);
    ck_assert_uint_gt(seen[5], 0);
}
END_TEST

START_TEST(grown_and_shrunk_at_every_call_one_of_both_is_there)
{
    static const uint32_t n_epochs[] = { 140, 141, 2, SUPER_EPOCHS_MAX, 700, 1 };
    struct super *sb = malloc(sizeof *sb), *got = malloc(sizeof *got);
    unsigned old = 0, new = 0;

    for (size_t k = 0; k < sizeof n_epochs / sizeof *n_epochs; k++) {
        for (uint64_t n = 1; n <= 6; n++)
            for (uint64_t seed = 0; seed < 4 * SIMIO_N_CUT_MODES; seed++) {
                struct simio *s = simio_clone(sim);
                uint32_t before;

                OK(super_read(simio_io(s), sb, NULL, NULL));
                before = sb->n_epochs;
                fill_epochs(sb, n_epochs[k]);
                simio_cut_at(s, n);
                (void)super_write(simio_io(s), sb, NULL);
                simio_cut(s, seed / SIMIO_N_CUT_MODES, (enum simio_cut_mode)(seed % SIMIO_N_CUT_MODES));
                OK(super_read(simio_io(s), got, NULL, NULL));
                ck_assert(got->n_epochs == before || same_epochs(got, sb));
                old += got->n_epochs == before;
                new += got->n_epochs == n_epochs[k];
                simio_free(s);
            }
        OK(super_read(io, sb, NULL, NULL));
        fill_epochs(sb, n_epochs[k]);
        OK(super_write(io, sb, NULL));
    }
    ck_assert(old > 100 && new > 100);
    sb->n_epochs = SUPER_EPOCHS_MAX + 1;
    ck_assert_int_eq(super_write(io, sb, NULL), ERR_INVAL);
    free(sb);
    free(got);
}
END_TEST

START_TEST(torn_at_every_sector_the_older_copy_counts)
{
    uint8_t *old = malloc(SUPER_FILE_MAX), *new = malloc(SUPER_FILE_MAX);
    struct super sb;

    OK(super_read(io, &sb, NULL, NULL));
    super_encode(&sb, old);
    sb.gen = 3;
    sb.durable += 8;
    super_encode(&sb, new);
    for (size_t len = 0; len < SUPER_FILE_MIN; len += 512) {
        struct simio *s = simio_clone(sim);

        memcpy(old, new, len);
        io = simio_io(s);
        overwrite("super.0", old, SUPER_FILE_MIN);
        ck_assert_uint_eq(expect_between(s, 2, 2), 2);
        io = simio_io(sim);
        simio_free(s);
    }
    free(old);
    free(new);
}
END_TEST

/*
 * A sync fails, the process leaves, the next one finds in the page cache what the disk does not have and
 * writes on, and then the power fails: nowhere on this way may both copies be bad.
 */
static unsigned failed_sync_then_cut(bool trust_the_cache)
{
    unsigned bad = 0;

    for (uint64_t seed = 0; seed < 60; seed++)
        for (uint64_t n = 1; n <= 8; n++) {
            struct simio *s = simio_new(seed);
            struct super sb;

            sample(&sb);
            sb.gen = 0;
            OK(super_write(simio_io(s), &sb, NULL));
            OK(super_write(simio_io(s), &sb, NULL));
            simio_fail_at(s, SIMIO_FDATASYNC, 1, ERR_IO);
            ck_assert_int_eq(super_write(simio_io(s), &sb, NULL), ERR_IO);
            ck_assert_uint_eq(sb.gen, 2);
            simio_kill(s);
            if (super_read(simio_io(s), &sb, NULL, NULL))
                ck_abort_msg("not readable in the next process");
            sb.current = trust_the_cache ? 1 + (sb.gen % 2 == 0) : 0;   /* generation 3 went to copy 0 */
            simio_cut_at(s, n);
            while (super_write(simio_io(s), &sb, NULL) == 0)
                ;
            simio_cut(s, seed * 8 + n, SIMIO_CUT_RANDOM);
            bad += super_read(simio_io(s), &sb, NULL, NULL) != 0;
            simio_free(s);
        }
    return bad;
}

START_TEST(after_a_failed_sync_the_next_process_never_loses_both_copies)
{
    ck_assert_uint_eq(failed_sync_then_cut(false), 0);
    ck_assert_uint_gt(failed_sync_then_cut(true), 0);   /* the test can see it */
}
END_TEST

/* The disk does not give the current copy, and the power fails during the write that follows: it is still there. */
START_TEST(a_copy_that_is_not_given_is_not_written_over)
{
    unsigned refused = 0;

    for (uint64_t seed = 0; seed < 40; seed++)
        for (uint64_t n = 1; n <= 16; n++) {
            struct simio *s = simio_new(seed);
            struct super sb;

            sample(&sb);
            sb.gen = 0;
            for (int i = 0; i < 4; i++)
                OK(super_write(simio_io(s), &sb, NULL));
            if (n > 8)
                OK(super_read(simio_io(s), &sb, NULL, NULL));      /* as a process that has not written yet */
            simio_fail_at(s, SIMIO_PREAD, 1 + seed % 2, ERR_IO);
            simio_cut_at(s, 2 + n % 8);
            refused += super_write(simio_io(s), &sb, NULL) == ERR_IO;
            simio_cut(s, seed * 16 + n, SIMIO_CUT_RANDOM);
            OK(super_read(simio_io(s), &sb, NULL, NULL));
            ck_assert_uint_ge(sb.gen, 4);
            simio_free(s);
        }
    ck_assert_uint_gt(refused, 0);
}
END_TEST

START_TEST(every_failing_call_leaves_the_current_copy_and_a_retry_works)
{
    uint64_t gen = 2;

    for (uint64_t n = 1; n <= 20; n++) {
        struct super sb;
        int rc;

        OK(super_read(io, &sb, NULL, NULL));
        simio_fail_at(sim, SIMIO_ANY, n, n % 2 ? ERR_IO : ERR_NOSPC);
        rc = super_write(io, &sb, NULL);
        simio_fail_clear(sim);
        ck_assert_uint_eq(sb.gen, rc ? gen : gen + 1);
        OK(super_write(io, &sb, NULL));
        gen = sb.gen;
        simio_cut(sim, n, SIMIO_CUT_DROP_ALL);
        OK(super_read(io, &sb, NULL, NULL));
        ck_assert_uint_eq(sb.gen, gen);
    }
}
END_TEST

START_TEST(a_removed_sync_is_caught)
{
    struct super sb;
    unsigned lost = 0;

    OK(super_read(io, &sb, NULL, NULL));
    simio_bug_skip_sync(sim, "super");
    for (int i = 0; i < 4; i++)
        OK(super_write(io, &sb, NULL));
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct simio *s = simio_clone(sim);
        struct super got;

        simio_cut(s, seed, SIMIO_CUT_RANDOM);
        lost += super_read(simio_io(s), &got, NULL, NULL) || got.gen < sb.gen;
        simio_free(s);
    }
    ck_assert_uint_gt(lost, 20);
}
END_TEST

START_TEST(new_store_is_there_whole_or_in_a_named_state)
{
    unsigned none = 0, whole = 0, other = 0;

    for (uint64_t n = 1; n <= 8; n++)
        for (uint64_t seed = 0; seed < 50; seed++) {
            struct simio *s = simio_new(seed);
            struct super sb;
            int done, rc;

            sample(&sb);
            sb.gen = 0;
            simio_cut_at(s, n);
            done = super_write(simio_io(s), &sb, NULL) == 0;
            simio_cut(s, seed, SIMIO_CUT_RANDOM);
            rc = super_read(simio_io(s), &sb, NULL, NULL);
            if (done && rc)
                ck_abort_msg("lost though it was made");
            if (rc && rc != ERR_NOSTORE && rc != ERR_DAMAGE)
                ck_abort_msg("state %s", err_name(rc));
            whole += rc == 0;
            none += rc == ERR_NOSTORE;
            other += rc == ERR_DAMAGE;
            simio_free(s);
        }
    ck_assert_uint_gt(none, 0);
    ck_assert_uint_gt(whole, 0);
    ck_assert_uint_gt(other, 0);
}
END_TEST

/* The set of a round: its horizon tells which. */
static void round_of(struct retained *r, uint64_t round)
{
    r->horizon = r->listed = 100000 * round;
    r->n = round == 6 ? RETAINED_POINTS_MAX : (uint32_t)(round * 37 % 11);
    r->point = realloc(r->point, (r->n + 1) * sizeof *r->point);
    for (uint32_t i = 0; i < r->n; i++)
        r->point[i] = (struct retained_point){ .lsn = 1 + i * round, .kind = RETAIN_KEPT, .until_ns = (int64_t)i };
}

START_TEST(retained_set_grows_shrinks_and_survives_cuts)
{
    struct retained r = { 0 }, got = { 0 };
    uint8_t other[16] = "another";
    struct err err = { 0 };

    ck_assert_int_eq(retained_read(io, lineage, NULL, &got, NULL, NULL), ERR_NOENT);
    for (uint64_t round = 1; round <= 12; round++) {
        struct simio *s = simio_clone(sim);

        round_of(&r, round);
        OK(retained_write(io, lineage, &r, &err));
        ck_assert_uint_eq(r.gen, round);
        for (uint64_t seed = 0; round > 1 && seed < (round == 6 ? 4 : 24); seed++) {
            struct simio *c = simio_clone(s);
            struct retained w;

            OK(retained_read(simio_io(c), lineage, NULL, &w, NULL, NULL));
            simio_cut_at(c, 1 + seed % 8);
            round_of(&w, round);
            (void)retained_write(simio_io(c), lineage, &w, NULL);
            simio_cut(c, seed, SIMIO_CUT_RANDOM);
            OK(retained_read(simio_io(c), lineage, NULL, &got, NULL, &err));
            if (got.horizon != 100000 * got.gen || got.gen < round - 1)
                ck_abort_msg("generation %llu: horizon %llu", (unsigned long long)got.gen,
                             (unsigned long long)got.horizon);
            retained_release(&got);
            retained_release(&w);
            simio_free(c);
        }
        simio_free(s);
        simio_cut(sim, round, SIMIO_CUT_DROP_ALL);
        OK(retained_read(io, lineage, NULL, &got, NULL, NULL));
        ck_assert_uint_eq(got.n, r.n);
        ck_assert(r.n == 0 || memcmp(got.point, r.point, r.n * sizeof r.point[0]) == 0);
        retained_release(&got);
    }
    ck_assert_int_eq(retained_read(io, other, NULL, &got, NULL, &err), ERR_DAMAGE);
    ck_assert_ptr_nonnull(strstr(err.msg, "it belongs to another store"));
    ck_assert_int_eq(retained_read(io, other, lineage, &got, NULL, NULL), 1);       /* which it was of before */
    retained_release(&got);
    r.n = RETAINED_POINTS_MAX + 1;
    ck_assert_int_eq(retained_write(io, lineage, &r, &err), ERR_TOOLONG);
    ck_assert_str_eq(err.msg, "not written: retained set: 65537 points, at most 65536 fit");
    retained_release(&r);
}
END_TEST

START_TEST(settings_are_replaced_removed_and_bounded)
{
    struct super sb = { 0 };
    char buf[64], big[SUPER_CONFIG_MAX];
    struct err err = { 0 };

    OK(super_config_set(&sb, "a", "1", NULL));
    OK(super_config_set(&sb, "ab", "x=y", NULL));
    OK(super_config_set(&sb, "a", "", NULL));
    ck_assert_int_eq(super_config_get(&sb, "a", buf, sizeof buf), 0);
    ck_assert_str_eq(buf, "");
    ck_assert_int_eq(super_config_get(&sb, "ab", buf, sizeof buf), 3);
    ck_assert_str_eq(buf, "x=y");
    ck_assert_int_eq(super_config_get(&sb, "ab", buf, 3), ERR_RANGE);
    ck_assert_int_eq(super_config_get(&sb, "b", buf, sizeof buf), ERR_NOENT);
    ck_assert_int_eq(super_config_get(&sb, "", buf, sizeof buf), ERR_NOENT);
    OK(super_config_set(&sb, "a", NULL, NULL));
    OK(super_config_set(&sb, "never", NULL, NULL));
    ck_assert_int_eq(super_config_get(&sb, "a", buf, sizeof buf), ERR_NOENT);
    ck_assert_uint_eq(sb.config_len, 7);
    ck_assert_int_eq(super_config_set(&sb, "a=b", "1", NULL), ERR_INVAL);
    ck_assert_int_eq(super_config_set(&sb, "", "1", NULL), ERR_INVAL);
    ck_assert_int_eq(super_config_set(&sb, "a", "1\n2", NULL), ERR_INVAL);
    ck_assert_int_eq(super_config_set(&sb, "a", "\xed\xa0\x80", NULL), ERR_INVAL);
    ck_assert_int_eq(super_config_set(&sb, "a", "\xc0\x80", NULL), ERR_INVAL);
    ck_assert_int_eq(super_config_set(&sb, "a", "\xf4\x90\x80\x80", NULL), ERR_INVAL);
    ck_assert_int_eq(super_config_set(&sb, "a", "\xe2\x82", NULL), ERR_INVAL);
    OK(super_config_set(&sb, "a", "\xe2\x82\xac \xf0\x9f\x98\x80", NULL));
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    ck_assert_int_eq(super_config_set(&sb, "big", big, &err), ERR_TOOLONG);
    ck_assert_ptr_nonnull(strstr(err.msg, "at most 4096 fit"));
    OK(super_config_set(&sb, "a", NULL, NULL));
    OK(super_config_set(&sb, "ab", NULL, NULL));
    big[SUPER_CONFIG_MAX - 3] = '\0';
    big[SUPER_CONFIG_MAX - 4] = '\0';
    OK(super_config_set(&sb, "bi", big, NULL));
    ck_assert_uint_le(sb.config_len, SUPER_CONFIG_MAX);
    ck_assert_uint_gt(sb.config_len, SUPER_CONFIG_MAX - 2);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("super");
    TCase *f = tcase_create("format"), *t = tcase_create("copies");
    SRunner *r;
    int failed;

    tcase_add_test(f, golden_superblock_is_read_and_written_the_same);
    tcase_add_test(f, golden_retained_set_is_read_and_written_the_same);
    tcase_add_loop_test(f, each_wrong_field_of_the_superblock_is_named, 0,
                        sizeof super_damage / sizeof super_damage[0]);
    tcase_add_test(f, a_file_grows_with_its_epochs);
    tcase_add_test(f, one_flipped_bit_anywhere_is_found);
    tcase_add_loop_test(f, newer_versions_and_features_are_named_with_both_numbers, 0, 6);
    tcase_add_loop_test(f, bytes_that_a_compat_bit_explains_are_kept, 0, 3);
    tcase_add_loop_test(f, each_wrong_field_of_the_retained_set_is_named, 0,
                        sizeof retained_damage / sizeof retained_damage[0]);
    tcase_add_test(f, settings_are_replaced_removed_and_bounded);
    suite_add_tcase(s, f);
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_loop_test(t, one_bad_copy_is_named_used_and_healed, 0, 2);
    tcase_add_test(t, missing_copy_is_made_again);
    tcase_add_test(t, both_bad_copies_are_damage_and_none_is_no_store);
    tcase_add_test(t, newer_copy_is_never_passed_over_for_an_older_one);
    tcase_add_test(t, compatible_fields_of_a_newer_program_are_kept);
    tcase_add_test(t, what_could_not_be_read_is_not_written);
    tcase_add_test(t, torn_at_every_call_the_store_stays_readable);
    tcase_add_test(t, grown_and_shrunk_at_every_call_one_of_both_is_there);
    tcase_add_test(t, torn_at_every_sector_the_older_copy_counts);
    tcase_add_test(t, after_a_failed_sync_the_next_process_never_loses_both_copies);
    tcase_add_test(t, every_failing_call_leaves_the_current_copy_and_a_retry_works);
    tcase_add_test(t, a_copy_that_is_not_given_is_not_written_over);
    tcase_add_test(t, a_removed_sync_is_caught);
    tcase_add_test(t, new_store_is_there_whole_or_in_a_named_state);
    tcase_add_test(t, retained_set_grows_shrinks_and_survives_cuts);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
