/*
 * check_log: appending, reading, iterating, syncing, segments. Recovery is in
 * check_log_recover.
 */
#include "store/log/log_internal.h"
#include "tests/lib/log_fixture.h"
#include "tests/lib/simio.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static struct simio *sim;
static struct super sb;
static struct log_options opt;
static struct log *lg;
static struct log_recovery rec0;
static struct err err;

#define ok(expr) ck_assert_msg((expr) == 0, "%s: %s", #expr, err.msg)

static void reopen(bool writable)
{
    ok(log_open(simio_io(sim), &sb, &opt, writable, 0, &lg, &rec0, &err));
}

static void setup(void)
{
    sim = simio_new(1);
    simio_tick(sim, 10);
    fix_super(&sb);
    opt = (struct log_options){ .segment_bytes = 1 << 20, .preallocate = true };
    memset(&err, 0, sizeof err);
    ok(log_create(simio_io(sim), &sb, &opt, &err));
    reopen(true);
    ck_assert(rec0.clean);
    ok(log_set_writer(lg, 1, sb.epochs[0].id, sb.incarnation, &err));
    sb.clean = 0;
}

static void teardown(void)
{
    log_close(lg);
    simio_free(sim);
}

static void append_samples(uint64_t n)
{
    unsigned types[64], n_types = fix_types(types);
    struct record rec;

    for (uint64_t i = 0; i < n; i++) {
        fix_sample(types[i % n_types], i, &rec);
        ok(fix_append(lg, &rec, &err));
    }
}

/* All samples of append_samples(n), in order, with the right arguments and data. */
static void expect_samples(uint64_t n, int flags)
{
    unsigned types[64], n_types = fix_types(types);
    struct log_iter *it;
    struct record rec, want;
    static uint8_t a[REC_HEAD_MAX], b[REC_HEAD_MAX];
    uint64_t i = 0;
    int rc;

    ok(log_iter_new(lg, LOG_FIRST_ADDR, UINT64_MAX, flags, &it, &err));
    while ((rc = log_iter_next(it, &rec, &err)) == 1) {
        uint64_t sums[16];
        uint8_t *data;

        fix_sample(types[i % n_types], i, &want);
        data = fix_data_of(&want);
        record_sums(data, want.data_len, sums);
        ck_assert_int_gt(record_encode(&want, sums, a, sizeof a), 0);
        ck_assert_int_eq(record_encode(&rec, sums, b, sizeof b), (int)want.head_len);
        /* all but chain, identity and clocks */
        ck_assert_mem_eq(a, b, 16);
        ck_assert_mem_eq(a + 80, b + 80, 32);
        ck_assert_mem_eq(a + 128, b + 128, want.head_len - 128);
        ck_assert_uint_eq(rec.epoch, 1);
        ck_assert_uint_eq(rec.incarnation, sb.incarnation);
        if (flags & LOG_ITER_DATA)
            ck_assert(rec.data_len == 0 || memcmp(rec.data, data, rec.data_len) == 0);
        free(data);
        i++;
    }
    ck_assert_msg(rc == 0, "%s", err.msg);
    ck_assert_uint_eq(i, n);
    log_iter_free(it);
}

START_TEST(round_trip_of_every_type)
{
    append_samples(300);
    expect_samples(300, 0);
    expect_samples(300, LOG_ITER_DATA);
    ck_assert_uint_gt(log_head(lg), LOG_FIRST_ADDR + (1 << 20) / 2);
    ck_assert_uint_eq(log_head(lg), log_written(lg));
    ok(log_sync(lg, &err));
    ck_assert_uint_eq(log_durable(lg), log_head(lg));
}
END_TEST

static int count_segment(void *arg, const struct log_segment_info *s)
{
    (void)s;
    ++*(unsigned *)arg;
    return 0;
}

static unsigned n_segments(void)
{
    unsigned n = 0;

    log_segments(lg, count_segment, &n);
    return n;
}

START_TEST(clean_close_over_many_segments)
{
    uint64_t head;

    append_samples(2000);
    ck_assert_uint_gt(n_segments(), 3);
    ok(log_finish(lg, &err));
    fix_note(&sb, lg, true);
    head = log_head(lg);
    log_close(lg);
    simio_cut(sim, 1, SIMIO_CUT_DROP_ALL);
    reopen(true);
    ck_assert(rec0.clean && !rec0.torn && !rec0.damaged);
    ck_assert_uint_eq(rec0.cut, head);
    ck_assert_uint_eq(rec0.rewritten, 0);
    ck_assert_uint_eq(rec0.n_records, 0);           /* nothing was scanned */
    expect_samples(2000, LOG_ITER_DATA);
    append_samples(1);
}
END_TEST

struct last_info { struct log_segment_info s; };
static int keep_last(void *arg, const struct log_segment_info *s)
{
    ((struct last_info *)arg)->s = *s;
    return 0;
}

START_TEST(clean_close_trims_and_appends_go_on_in_the_same_segment)
{
    struct last_info a, b;
    struct record rec;

    ok(fix_write(lg, 1, 1000, &rec, &err));
    log_segments(lg, keep_last, &a);
    ck_assert_uint_eq(a.s.file_bytes, 4096 + (1 << 20));
    ok(log_finish(lg, &err));
    log_segments(lg, keep_last, &b);
    ck_assert_uint_eq(b.s.file_bytes, 4096 + frame_span(rec.head_len + 1000));
    ck_assert_int_ne(fix_write(lg, 1, 1, &rec, &err), 0);
    fix_note(&sb, lg, true);
    log_close(lg);
    reopen(true);
    ok(log_set_writer(lg, 1, sb.epochs[0].id, sb.incarnation, &err));
    ok(fix_write(lg, 2, 1000, &rec, &err));
    log_segments(lg, keep_last, &b);
    ck_assert_uint_eq(b.s.gen, a.s.gen);
    ck_assert_uint_eq(b.s.file_bytes, 4096 + (1 << 20));    /* reserved again */
    ck_assert_uint_eq(rec.prev_lsn, LOG_FIRST_ADDR);
}
END_TEST

START_TEST(read_data_at_every_alignment)
{
    static const uint32_t lens[] = { 1, 100, 4096, 16383, 16384, 16385, 40000, 65536, 200000 };
    static uint8_t out[200000 + 16];

    for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
        uint32_t len = lens[i];
        struct record rec;
        uint8_t *data;

        ok(fix_write(lg, 5, len, &rec, &err));
        data = fix_data_of(&rec);
        for (uint32_t off = 0; off < len; off += 1 + len / 13)
            for (uint32_t n = 1; n <= len - off; n += 1 + len / 11) {
                memset(out, 0xaa, n + 1);
                ok(log_read_data(lg, rec.lsn, record_dstart(rec.head_len), off, n, out, n % 2 != 0, &err));
                ck_assert_mem_eq(out, data + off, n);
                ck_assert_uint_eq(out[n], 0xaa);
            }
        ok(log_read_data(lg, rec.lsn, record_dstart(rec.head_len), 0, len, out, false, &err));
        ck_assert_mem_eq(out, data, len);
        free(data);
    }
}
END_TEST

START_TEST(read_data_refuses_nonsense)
{
    uint8_t out[64];
    struct record rec;
    uint32_t d;

    ok(fix_write(lg, 5, 64, &rec, &err));
    d = record_dstart(rec.head_len);
    ck_assert_int_eq(log_read_data(lg, rec.lsn, d, 1, 64, out, false, &err), ERR_INVAL);
    ck_assert_int_eq(log_read_data(lg, rec.lsn, d, UINT32_MAX, 2, out, false, &err), ERR_INVAL);
    ck_assert_int_eq(log_read_data(lg, rec.lsn, d + 8, 0, 1, out, false, &err), ERR_DAMAGE);
    ck_assert_int_eq(log_read_data(lg, rec.lsn, 10, 0, 1, out, false, &err), ERR_INVAL);
    ck_assert_int_eq(log_read_data(lg, log_head(lg), d, 0, 1, out, false, &err), ERR_NOENT);
    ck_assert_int_eq(log_read_data(lg, 8, d, 0, 1, out, false, &err), ERR_NOENT);
}
END_TEST

START_TEST(damaged_data_is_named_and_never_returned)
{
    static uint8_t out[50000], zero[50000];
    char want[256];
    struct record rec;
    uint32_t d;

    ok(fix_write(lg, 5, 50000, &rec, &err));
    d = record_dstart(rec.head_len);
    ck_assert(simio_flip(sim, "log/0000000000001000-00000001.seg", 4096 + d + 20000, 4));
    ok(log_read_data(lg, rec.lsn, d, 0, 16384, out, false, &err));
    ok(log_read_data(lg, rec.lsn, d, 32768, 17232, out, false, &err));
    memset(out, 0, sizeof out);
    ck_assert_int_eq(log_read_data(lg, rec.lsn, d, 16000, 1000, out, false, &err), ERR_DAMAGE);
    snprintf(want, sizeof want, "log/0000000000001000-00000001.seg: offset %u: data of the record at address 4096: sum: expected ",
             4096 + d + 16384);
    ck_assert_msg(strncmp(err.msg, want, strlen(want)) == 0, "%s", err.msg);
    memset(out, 0, sizeof out);
    ck_assert_int_eq(log_read_data(lg, rec.lsn, d, 16384, 16384, out, false, &err), ERR_DAMAGE);
    ck_assert_mem_eq(out, zero, sizeof out);
    /* the head: the sums are not to be trusted */
    ck_assert(simio_flip(sim, "log/0000000000001000-00000001.seg", 4096 + 48 + 130, 1));
    ck_assert_int_eq(log_read_data(lg, rec.lsn, d, 32768, 10, out, false, &err), ERR_DAMAGE);
    ck_assert_msg(strstr(err.msg, "offset 4096: record hash: expected") != NULL, "%s", err.msg);
}
END_TEST

START_TEST(read_record_with_and_without_data)
{
    struct record rec, got;
    void *buf = NULL;
    uint8_t *data;

    ok(fix_write(lg, 5, 100000, &rec, &err));
    data = fix_data_of(&rec);
    ok(log_read_record(lg, rec.lsn, false, &got, &buf, &err));
    ck_assert_ptr_null(got.data);
    ck_assert(hash128_eq(&got.hash, &rec.hash));
    free(buf);
    ok(log_read_record(lg, rec.lsn, true, &got, &buf, &err));
    ck_assert_mem_eq(got.data, data, 100000);
    free(buf);
    free(data);
    ck_assert_int_eq(log_read_record(lg, log_head(lg), true, &got, &buf, &err), ERR_NOENT);
    ck_assert_int_eq(log_read_record(lg, 8, true, &got, &buf, &err), ERR_NOENT);
    ck_assert_int_eq(log_read_record(lg, rec.lsn + 8, true, &got, &buf, &err), ERR_DAMAGE);
}
END_TEST

START_TEST(written_waits_for_every_lower_record)
{
    static uint8_t head[3][REC_HEAD_MAX];
    struct log_slot slot[3];
    struct record rec[3];

    for (unsigned i = 0; i < 3; i++) {
        fix_sample(REC_CANARY, i, &rec[i]);
        ck_assert_int_gt(record_encode(&rec[i], NULL, head[i], sizeof head[i]), 0);
        ok(log_room(lg, rec[i].head_len, &err));
        ok(log_append_begin(lg, &rec[i], head[i], &slot[i]));
    }
    ok(log_append_write(lg, &slot[2], head[2], rec[2].head_len, NULL, 0, &err));
    ok(log_append_write(lg, &slot[1], head[1], rec[1].head_len, NULL, 0, &err));
    ck_assert_uint_eq(log_written(lg), LOG_FIRST_ADDR);
    ok(log_sync(lg, &err));                         /* nothing to do, nothing to claim */
    ck_assert_uint_eq(log_durable(lg), LOG_FIRST_ADDR);
    ok(log_append_write(lg, &slot[0], head[0], rec[0].head_len, NULL, 0, &err));
    ck_assert_uint_eq(log_written(lg), log_head(lg));
    ok(log_wait_written(lg, rec[2].lsn));
}
END_TEST

static uint64_t count_chain(void)
{
    struct log_iter *it;
    struct record rec;
    uint64_t n = 0;
    int rc;

    ok(log_iter_new(lg, LOG_FIRST_ADDR, UINT64_MAX, LOG_ITER_DATA, &it, &err));
    while ((rc = log_iter_next(it, &rec, &err)) == 1)
        n++;
    ck_assert_msg(rc == 0, "%s", err.msg);
    log_iter_free(it);
    return n;
}

START_TEST(failed_fdatasync_at_every_nth_call_is_final)
{
    unsigned tried = 0;

    for (uint64_t n = 1; n < 40; n++) {
        struct record rec;
        uint64_t acked = 0, head;
        bool failed = false;

        teardown();
        setup();
        opt.segment_bytes = 8192;
        log_close(lg);
        reopen(true);
        ok(log_set_writer(lg, 1, sb.epochs[0].id, 77, &err));
        simio_fail_at(sim, SIMIO_FDATASYNC, n, ERR_IO);
        for (unsigned i = 0; i < 60; i++) {
            if (fix_write(lg, i + 1, 500, &rec, &err) != 0 || (i % 3 == 2 && log_sync(lg, &err) != 0)) {
                /* log/next is nobody's until it has a name: its failure need not be final */
                failed = failed || log_poisoned(lg);
                if (!failed)
                    continue;
            }
            if (failed)
                break;
            acked = log_durable(lg);
        }
        if (!failed)
            continue;
        head = log_durable(lg);
        ck_assert_uint_ge(head, acked);
        simio_fail_clear(sim);
        for (unsigned i = 0; i < 3; i++) {
            static uint8_t buf[REC_HEAD_MAX];
            struct log_slot slot;

            ck_assert_int_eq(log_sync(lg, &err), ERR_POISONED);
            ck_assert_int_eq(log_room(lg, 1000, &err), ERR_POISONED);
            ck_assert_int_eq(log_wait_written(lg, 4096), ERR_POISONED);
            fix_sample(REC_CANARY, 1, &rec);
            record_encode(&rec, NULL, buf, sizeof buf);
            ck_assert_int_eq(log_append_begin(lg, &rec, buf, &slot), ERR_POISONED);
        }
        ck_assert_uint_eq(log_durable(lg), head);
        log_close(lg);
        lg = NULL;
        simio_kill(sim);
        simio_evict(sim);
        reopen(true);
        ck_assert_msg(rec0.cut >= head, "n %llu", (unsigned long long)n);
        count_chain();
        tried++;
    }
    ck_assert_uint_gt(tried, 20);
}
END_TEST

START_TEST(failed_pwritev_is_final)
{
    struct record rec;

    ok(fix_write(lg, 1, 500, &rec, &err));
    simio_fail_at(sim, SIMIO_PWRITEV, 1, ERR_NOSPC);
    ck_assert_int_eq(fix_write(lg, 1, 500, &rec, &err), ERR_NOSPC);
    ck_assert_int_eq(log_poisoned(lg), ERR_POISONED);
    ck_assert_int_eq(log_sync(lg, &err), ERR_POISONED);
    ck_assert_uint_eq(log_durable(lg), LOG_FIRST_ADDR);
}
END_TEST

START_TEST(full_disk_when_a_segment_is_made_loses_nothing)
{
    struct record rec;
    uint64_t n = 0;
    int rc;

    simio_set_space(sim, simio_used(sim) + 65536);
    while ((rc = fix_write(lg, n + 1, 50000, &rec, &err)) == 0)
        n++;
    ck_assert_int_eq(rc, ERR_NOSPC);
    ck_assert_uint_ge(n, 19);                       /* the first segment is full */
    ck_assert_int_eq(log_poisoned(lg), 0);
    ok(log_sync(lg, &err));
    ok(fix_write(lg, 99, 100, &rec, &err));         /* what fits is still taken */
    ck_assert_int_eq(log_room(lg, 100000, &err), ERR_NOSPC);
    simio_set_space(sim, 0);
    ok(fix_write(lg, 100, 100000, &rec, &err));
    ok(log_sync(lg, &err));
}
END_TEST

START_TEST(prepared_segment_is_used_and_not_left_behind)
{
    struct record rec;
    struct io_stat st;
    uint64_t made;

    ok(log_prepare(lg, &err));                      /* not due yet */
    ck_assert_int_eq(io_stat_path(simio_io(sim), "log/next", &st, NULL), ERR_NOENT);
    for (unsigned i = 0; i < 6; i++)
        ok(fix_write(lg, 1, 100000, &rec, &err));
    ok(log_prepare(lg, &err));
    ok(io_stat_path(simio_io(sim), "log/next", &st, &err));
    ck_assert_uint_eq(st.size, 4096 + (1 << 20));
    made = simio_calls(sim, SIMIO_ALLOCATE);
    for (unsigned i = 0; i < 6; i++)
        ok(fix_write(lg, 1, 100000, &rec, &err));
    ck_assert_uint_eq(n_segments(), 2);
    ck_assert_uint_eq(simio_calls(sim, SIMIO_ALLOCATE), made);
    for (unsigned i = 0; i < 5; i++)
        ok(fix_write(lg, 1, 100000, &rec, &err));
    ok(log_prepare(lg, &err));
    ok(log_finish(lg, &err));
    ck_assert_int_eq(io_stat_path(simio_io(sim), "log/next", &st, NULL), ERR_NOENT);
}
END_TEST

START_TEST(blocks_ahead_are_written_where_syncs_are_small)
{
    struct record rec;
    uint64_t calls, at;

    lg->opt.zero_ahead = 1 << 19;
    lg->opt.zero_after = 4;
    for (unsigned i = 0; i < 4; i++) {
        ck_assert(!log_zero_due(lg));
        ok(fix_write(lg, 1, 100, &rec, &err));
        ok(log_sync(lg, &err));
    }
    ck_assert(log_zero_due(lg));
    calls = simio_calls(sim, SIMIO_PWRITEV);
    at = log_head(lg);
    log_zero_ahead(lg);
    ck_assert_uint_eq(simio_calls(sim, SIMIO_PWRITEV), calls + 2);
    ck_assert_uint_eq(lg->zeroed, at + (1 << 19));
    ck_assert(!log_zero_due(lg));                   /* until half of it is used */
    ok(fix_write(lg, 2, 600000, &rec, &err));
    ok(log_sync(lg, &err));
    ck_assert(!log_zero_due(lg));                   /* that was no small one */
    for (unsigned i = 0; i < 4; i++) {
        ok(fix_write(lg, 3, 100, &rec, &err));
        ok(log_sync(lg, &err));
    }
    log_zero_ahead(lg);
    ck_assert_uint_eq(lg->zeroed, lg->cur->first + lg->cur->capacity);   /* not beyond the segment */
    ck_assert_uint_eq(count_chain(), 9);
    for (unsigned i = 0; i < 3; i++)
        ok(fix_write(lg, 4, 300000, &rec, &err));
    ck_assert_uint_eq(n_segments(), 2);
    ok(log_sync(lg, &err));
    for (unsigned i = 0; i < 4; i++) {
        ok(fix_write(lg, 3, 100, &rec, &err));
        ok(log_sync(lg, &err));
    }
    ck_assert(log_zero_due(lg));
    simio_fail_at(sim, SIMIO_PWRITEV, 1, ERR_IO);   /* of no record: what it means for those, their sync says */
    log_zero_ahead(lg);
    ck_assert(!log_zero_due(lg));
    ok(fix_write(lg, 5, 100000, &rec, &err));
    ok(log_finish(lg, &err));
    ck_assert_uint_eq(count_chain(), 17);
}
END_TEST

START_TEST(record_larger_than_a_segment)
{
    struct record rec, got;
    void *buf;

    ok(fix_write(lg, 1, 10, &rec, &err));
    ok(fix_write(lg, 1, REC_DATA_MAX, &rec, &err));
    ok(log_read_record(lg, rec.lsn, true, &got, &buf, &err));
    free(buf);
    ok(fix_write(lg, 1, 10, &rec, &err));
    ok(log_sync(lg, &err));
    ck_assert_uint_eq(n_segments(), 3);
}
END_TEST

START_TEST(another_writer_starts_another_segment)
{
    struct last_info a;
    struct record rec;

    ok(fix_write(lg, 1, 10, &rec, &err));
    ok(log_set_writer(lg, 2, sb.epochs[0].id, 1234, &err));
    ck_assert_uint_eq(n_segments(), 2);
    log_segments(lg, keep_last, &a);
    ck_assert_uint_eq(a.s.first, log_head(lg));
    ok(log_set_writer(lg, 2, sb.epochs[0].id, 12345, &err));    /* the empty one is replaced */
    ck_assert_uint_eq(n_segments(), 2);
    ok(fix_write(lg, 1, 10, &rec, &err));
    ck_assert_uint_eq(rec.incarnation, 12345);
    ck_assert_uint_eq(rec.epoch, 2);
    ck_assert_uint_eq(rec.prev_lsn, LOG_FIRST_ADDR);
}
END_TEST

/* The bytes of a file of the disk in memory; its length in *len. */
static uint8_t *bytes_of(const char *path, size_t *len)
{
    struct io_file *f = NULL;
    struct io_stat st = { 0 };
    uint8_t *b;

    ok(io_open(simio_io(sim), path, IO_RDONLY, &f, &err));
    ok(io_fstat(f, &st, &err));
    b = malloc(st.size + 1);
    *len = (size_t)io_pread(f, b, st.size, 0, &err);
    ck_assert_uint_eq(*len, st.size);
    io_close(f);
    return b;
}

/* A branch has a link to the newest segment. Then: a clean stop; a crash; another writer; a clean stop, and no writer is set (a standby). */
START_TEST(what_a_branch_links_to_is_never_changed)
{
    char name[SEGMENT_NAME_MAX];
    struct last_info a;
    uint8_t *was, *is;
    size_t n_was, n_is;

    append_samples(10);
    ok(log_sync(lg, &err));
    log_segments(lg, keep_last, &a);
    segment_name(a.s.first, a.s.gen, name);
    ok(io_mkdir(simio_io(sim), "branch", &err));
    ok(io_link(simio_io(sim), name, "branch/x", &err));
    was = bytes_of("branch/x", &n_was);
    if (_i == 0 || _i == 3) {
        ok(log_finish(lg, &err));
        fix_note(&sb, lg, true);
    }
    if (_i == 2)
        ok(log_set_writer(lg, 1, sb.epochs[0].id, 12345, &err));
    log_close(lg);
    reopen(true);
    ck_assert(rec0.clean == (_i == 0 || _i == 3));
    if (_i != 3)
        ok(log_set_writer(lg, 1, sb.epochs[0].id, _i == 2 ? 12345 : sb.incarnation, &err));
    append_samples(7);
    ok(log_finish(lg, &err));
    is = bytes_of("branch/x", &n_is);
    ck_assert_uint_eq(n_is, n_was);
    ck_assert(memcmp(is, was, n_was) == 0);
    ck_assert_uint_gt(n_segments(), 1);
    free(was);
    free(is);
}
END_TEST

/* A fork has a lineage of its own from its epoch on, and the segments of the store it was made of before. */
START_TEST(segments_are_of_a_lineage_of_the_epoch_table)
{
    append_samples(3);
    ok(log_finish(lg, &err));
    log_close(lg);
    lg = NULL;
    memset(sb.lineage, 0x77, 16);
    ck_assert_uint_eq(sb.n_epochs, 1);
    sb.epochs[1] = sb.epochs[0];
    sb.epochs[1].number = 2;
    memcpy(sb.epochs[1].lineage, sb.lineage, 16);
    sb.n_epochs = 2;
    reopen(false);
    expect_samples(3, 0);
    log_close(lg);
    lg = NULL;
    memset(sb.epochs[0].lineage, 0x78, 16);
    ck_assert_int_eq(log_open(simio_io(sim), &sb, &opt, true, 0, &lg, &rec0, &err), ERR_DAMAGE);
    ck_assert_ptr_nonnull(strstr(err.msg, "offset 0: expected a segment of this store's lineage, found one of another"));
}
END_TEST

/* Not there; there, but another's; there. Only the last opens, and until then nothing is changed. */
START_TEST(a_record_that_was_answered_must_be_there)
{
    struct record rec;
    uint64_t last, head;

    append_samples(3);
    ok(fix_write(lg, 1, 10, &rec, &err));
    last = rec.lsn;
    head = log_head(lg);
    log_close(lg);
    for (int i = 0; i < 3; i++) {
        struct simio *was = simio_clone(sim);
        size_t n = 0;

        opt.least_lsn = i == 0 ? head : last;
        opt.least_writer = sb.incarnation + (i == 1);
        if (i < 2) {
            ck_assert_int_eq(log_open(simio_io(sim), &sb, &opt, true, 0, &lg, &rec0, &err), ERR_IO);
            ck_assert_ptr_nonnull(strstr(err.msg, "operations that had been answered are lost"));
            ck_assert_uint_eq(simio_pending(sim), simio_pending(was));
        } else {
            reopen(true);
            n = n_segments();
            ck_assert_uint_gt(n, 0);
        }
        simio_free(was);
    }
}
END_TEST

START_TEST(more_segments_than_open_files)
{
    struct record rec;
    uint64_t *lsn = calloc(700, 8);
    uint32_t d = 0;

    log_close(lg);
    opt.segment_bytes = 4096;
    reopen(true);
    ok(log_set_writer(lg, 1, sb.epochs[0].id, 5, &err));
    for (unsigned i = 0; i < 700; i++) {
        ok(fix_write(lg, i + 1, 3000, &rec, &err));
        lsn[i] = rec.lsn;
        d = record_dstart(rec.head_len);
    }
    ok(log_sync(lg, &err));
    for (unsigned round = 0; round < 3; round++)
        for (unsigned i = 0; i < 700; i++) {
            uint8_t out[3000], want[3000];

            fix_fill(want, 3000, i + 1 + 3000);
            ok(log_read_data(lg, lsn[i * 37 % 700], d, 0, 3000, out, false, &err));
            fix_fill(want, 3000, i * 37 % 700 + 1 + 3000);
            ck_assert_mem_eq(out, want, 3000);
            ck_assert_uint_le(lg->n_open, LOG_OPEN_MAX + 2);
        }
    free(lsn);
}
END_TEST

/* --- threads ---------------------------------------------------------------- */

enum { WRITERS = 4, EACH = 400 };
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;

static void *writer(void *arg)
{
    unsigned id = *(unsigned *)arg;
    uint8_t *head = malloc(REC_HEAD_MAX), *out = malloc(20000);

    for (unsigned i = 0; i < EACH; i++) {
        struct err e = { 0 };
        struct record rec;
        struct log_slot slot;
        uint64_t sums[4];
        uint8_t *data;
        int rc;

        fix_sample(REC_WRITE, i, &rec);
        rec.ino = id * 1000 + i;
        rec.data_len = 1 + (i * 977 + id * 131) % 20000;
        data = fix_data_of(&rec);
        record_sums(data, rec.data_len, sums);
        if (record_encode(&rec, sums, head, REC_HEAD_MAX) < 0)
            abort();
        pthread_mutex_lock(&order);
        rc = log_room(lg, rec.head_len + rec.data_len, &e);
        if (rc == 0)
            rc = log_append_begin(lg, &rec, head, &slot);
        pthread_mutex_unlock(&order);
        if (rc == 0)
            rc = log_append_write(lg, &slot, head, rec.head_len, data, rec.data_len, &e);
        if (rc == 0)
            rc = log_wait_written(lg, rec.lsn);
        if (rc == 0 && i % 16 == 0)
            rc = log_sync(lg, &e);
        if (rc == 0 && i % 16 == 0 && log_durable(lg) <= rec.lsn)
            abort();
        if (rc == 0)
            rc = log_read_data(lg, rec.lsn, record_dstart(rec.head_len), 0, rec.data_len, out, false, &e);
        if (rc != 0 || memcmp(out, data, rec.data_len) != 0)
            abort();
        free(data);
    }
    free(head);
    free(out);
    return NULL;
}

START_TEST(four_writers_make_one_chain)
{
    pthread_t t[WRITERS];
    unsigned id[WRITERS];

    lg->opt.zero_ahead = _i == 0 ? 0 : 1 << 18;     /* zeros are never written over a record */
    for (unsigned i = 0; i < WRITERS; i++) {
        id[i] = i + 1;
        ck_assert_int_eq(pthread_create(&t[i], NULL, writer, &id[i]), 0);
    }
    for (unsigned i = 0; i < 20; i++) {             /* beside them */
        ok(log_prepare(lg, &err));
        count_chain();
        for (unsigned k = 0; k < 200; k++)
            log_zero_ahead(lg);
    }
    ck_assert_int_eq(lg->zeroed > 0, _i);
    for (unsigned i = 0; i < WRITERS; i++)
        pthread_join(t[i], NULL);
    ck_assert_uint_eq(log_written(lg), log_head(lg));
    ck_assert_uint_eq(count_chain(), WRITERS * EACH);
    ck_assert_uint_gt(n_segments(), 10);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("log");
    TCase *t = tcase_create("log");
    SRunner *r;
    int failed;

    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, round_trip_of_every_type);
    tcase_add_test(t, clean_close_over_many_segments);
    tcase_add_test(t, clean_close_trims_and_appends_go_on_in_the_same_segment);
    tcase_add_test(t, read_data_at_every_alignment);
    tcase_add_test(t, read_data_refuses_nonsense);
    tcase_add_test(t, damaged_data_is_named_and_never_returned);
    tcase_add_test(t, read_record_with_and_without_data);
    tcase_add_test(t, written_waits_for_every_lower_record);
    tcase_add_test(t, failed_fdatasync_at_every_nth_call_is_final);
    tcase_add_test(t, failed_pwritev_is_final);
    tcase_add_test(t, full_disk_when_a_segment_is_made_loses_nothing);
    tcase_add_test(t, prepared_segment_is_used_and_not_left_behind);
    tcase_add_test(t, record_larger_than_a_segment);
    tcase_add_test(t, another_writer_starts_another_segment);
    tcase_add_loop_test(t, what_a_branch_links_to_is_never_changed, 0, 4);
    tcase_add_test(t, a_record_that_was_answered_must_be_there);
    tcase_add_test(t, segments_are_of_a_lineage_of_the_epoch_table);
    tcase_add_test(t, more_segments_than_open_files);
    tcase_add_test(t, blocks_ahead_are_written_where_syncs_are_small);
    tcase_add_loop_test(t, four_writers_make_one_chain, 0, 2);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
