/*
 * check_log_recover: opening after a clean close, after a torn tail, after damage,
 * after crashes at every call, also of recovery itself.
 */
#include "store/log/log_internal.h"
#include "tests/lib/log_fixture.h"
#include "tests/lib/simio.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_RECS = 600 };
#define SEG1 "log/0000000000001000-00000001.seg"

/* What was appended, in order, whatever became of it. */
struct issued { uint64_t lsn, end; struct hash128 hash; };

static struct simio *sim;
static struct super sb;
static struct log_options opt;
static struct log *lg;
static struct log_recovery lr;
static struct err err;
static struct issued iss[MAX_RECS];
static unsigned n_iss;

#define ok(expr) ck_assert_msg((expr) == 0, "%s: %s", #expr, err.msg)

static void start(uint64_t seed, uint64_t segment_bytes)
{
    sim = simio_new(seed);
    fix_super(&sb);
    opt = (struct log_options){ .segment_bytes = segment_bytes, .preallocate = true };
    memset(&err, 0, sizeof err);
    n_iss = 0;
    ok(log_create(simio_io(sim), &sb, &opt, &err));
    ok(log_open(simio_io(sim), &sb, &opt, true, 0, &lg, &lr, &err));
    ck_assert(lr.clean);
    sb.clean = 0;
    ok(log_set_writer(lg, 1, sb.epochs[0].id, sb.incarnation, &err));
}

static void stop(void)
{
    log_close(lg);
    lg = NULL;
    simio_free(sim);
    sim = NULL;
}

/* Close without any of what a clean close does. */
static void crash(void)
{
    log_close(lg);
    lg = NULL;
    simio_kill(sim);
}

static int append(uint32_t len)
{
    struct record rec;
    int rc = fix_write(lg, n_iss + 1, len, &rec, &err);

    /* It was issued if it got an address, written or not. */
    if (rec.lsn != 0 && (n_iss == 0 || rec.lsn > iss[n_iss - 1].lsn) && n_iss < MAX_RECS)
        iss[n_iss++] = (struct issued){ rec.lsn, rec.lsn + frame_span(rec.head_len + len), rec.hash };
    return rc;
}

static int open_log(bool writable, uint64_t known)
{
    return log_open(simio_io(sim), &sb, &opt, writable, known, &lg, &lr, &err);
}

/* The log holds exactly the first ${n} issued records, data and all. */
static void expect_prefix(unsigned n)
{
    struct log_iter *it;
    struct record rec;
    unsigned i = 0;
    int rc;

    ok(log_iter_new(lg, LOG_FIRST_ADDR, UINT64_MAX, LOG_ITER_DATA, &it, &err));
    while ((rc = log_iter_next(it, &rec, &err)) == 1) {
        ck_assert_uint_lt(i, n);
        ck_assert_uint_eq(rec.lsn, iss[i].lsn);
        ck_assert(hash128_eq(&rec.hash, &iss[i].hash));
        i++;
    }
    ck_assert_msg(rc == 0, "%s", err.msg);
    ck_assert_uint_eq(i, n);
    ck_assert_uint_eq(log_head(lg), n > 0 ? iss[n - 1].end : LOG_FIRST_ADDR);
    log_iter_free(it);
}

/* Cut the file at ${size}; ${refill}: zeros behind it up to the old size. */
static void truncate_at(const char *path, uint64_t size, bool refill)
{
    struct io_file *f;
    struct io_stat st;

    ok(io_open(simio_io(sim), path, IO_RDWR, &f, &err));
    ok(io_fstat(f, &st, &err));
    ok(io_ftruncate(f, size, &err));
    if (refill)
        ok(io_ftruncate(f, st.size, &err));
    io_close(f);
}

static void overwrite(const char *path, uint64_t off, const void *p, size_t len)
{
    struct iovec iov = { (void *)(uintptr_t)p, len };
    struct io_file *f;

    ok(io_open(simio_io(sim), path, IO_RDWR, &f, &err));
    ok(io_pwritev(f, &iov, 1, off, &err));
    io_close(f);
}

static void torn_at_every_byte(bool refill)
{
    struct simio *base;
    uint64_t span, used;

    start(1, 1 << 16);
    for (unsigned i = 0; i < 5; i++)
        ok(append(300));
    ok(log_sync(lg, &err));
    ok(append(300));                            /* its frame knows the five durable */
    ok(append(333));
    used = 48 + 128 + 8 + 8 + 333;
    span = iss[6].end - iss[6].lsn;
    ck_assert_uint_gt(span, used);              /* there is padding: not part of the record */
    crash();
    base = sim;
    for (uint64_t b = 0; b <= span; b++) {
        sim = simio_clone(base);
        truncate_at(SEG1, 4096 + iss[6].lsn - LOG_FIRST_ADDR + b, refill);
        ok(open_log(true, 0));
        ck_assert(!lr.clean && !lr.damaged);
        ck_assert_uint_eq(lr.durable_known, iss[4].end);
        ck_assert_msg(lr.torn == (b > 0 && b < used), "byte %llu: torn %d", (unsigned long long)b, lr.torn);
        ck_assert_uint_eq(lr.cut, b < used ? iss[6].lsn : iss[6].end);
        ck_assert_uint_eq(lr.rewritten, lr.cut - iss[4].end);
        if (b >= 48 && b < used)
            ck_assert_uint_eq(lr.cut_bytes, span);
        expect_prefix(b < used ? 6 : 7);
        ck_assert_uint_eq(log_durable(lg), lr.cut);
        log_close(lg);
        simio_cut(sim, b, SIMIO_CUT_DROP_ALL);  /* and what was kept is on disk */
        ok(open_log(true, lr.cut));
        expect_prefix(b < used ? 6 : 7);
        log_close(lg);
        lg = NULL;
        simio_free(sim);
    }
    sim = base;
    stop();
}

START_TEST(torn_tail_at_every_byte_end_of_file) { torn_at_every_byte(false); } END_TEST
START_TEST(torn_tail_at_every_byte_zeros_behind) { torn_at_every_byte(true); } END_TEST

START_TEST(torn_data_under_a_whole_head_is_cut)
{
    start(1, 1 << 20);
    ok(append(100));
    ok(log_sync(lg, &err));
    ok(append(50000));
    ok(append(100));
    crash();
    ck_assert(simio_flip(sim, SEG1, 4096 + iss[1].lsn - LOG_FIRST_ADDR + 30000, 1));
    ok(open_log(true, 0));
    ck_assert(lr.torn && !lr.damaged);
    ck_assert_uint_eq(lr.cut, iss[1].lsn);
    expect_prefix(1);
    stop();
}
END_TEST

START_TEST(reordered_tail_is_torn_and_never_comes_back)
{
    static const uint8_t zero[4096];
    unsigned n;

    start(1, 1 << 20);
    ok(append(100));
    ok(log_sync(lg, &err));
    for (unsigned i = 0; i < 4; i++)
        ok(append(1000));
    crash();
    overwrite(SEG1, 4096 + iss[2].lsn - LOG_FIRST_ADDR, zero, 48);      /* blank, and later frames are whole */
    ok(open_log(true, 0));
    ck_assert(lr.torn && !lr.damaged);
    ck_assert_uint_eq(lr.cut, iss[2].lsn);
    expect_prefix(2);
    ok(log_set_writer(lg, 1, sb.epochs[0].id, 2, &err));
    n_iss = 2;
    ok(append(1000));                           /* as long as the one that was lost */
    n = n_iss;
    crash();
    ok(open_log(true, 0));
    expect_prefix(n);
    stop();
}
END_TEST

START_TEST(damage_in_the_middle_is_named_and_refuses_writing)
{
    struct record rec;
    void *buf;
    char want[512];

    start(1, 1 << 20);
    for (unsigned i = 0; i < 10; i++) {
        ok(append(500));
        ok(log_sync(lg, &err));
    }
    crash();
    ck_assert(simio_flip(sim, SEG1, 4096 + iss[3].lsn - LOG_FIRST_ADDR + 8, 0x40));     /* the frame's LSN */
    ck_assert_int_eq(open_log(true, 0), ERR_DAMAGE);
    ck_assert(lr.damaged);
    snprintf(want, sizeof want, SEG1 ": offset %llu: expected a frame, found 53505246",
             (unsigned long long)(4096 + iss[3].lsn - LOG_FIRST_ADDR));
    /* the first eight bytes of a frame as they lie in the file */
    ck_assert_msg(strncmp(err.msg, want, 50) == 0, "%s", err.msg);
    snprintf(want, sizeof want, "; addresses below %llu were durable, so this is damage, not a torn tail"
             " (lost: addresses %llu to %llu)", (unsigned long long)iss[9].lsn, (unsigned long long)iss[3].lsn,
             (unsigned long long)iss[3].end);
    ck_assert_msg(strstr(err.msg, want) != NULL, "%s\nwant %s", err.msg, want);
    ck_assert_str_eq(lr.damage.msg, err.msg);
    ck_assert_uint_eq(lr.damage_from, iss[3].lsn);
    ck_assert_uint_eq(lr.damage_to, iss[4].lsn);
    ok(open_log(false, 0));
    ck_assert(lr.damaged);
    ck_assert_uint_eq(lr.cut, iss[9].end);
    ck_assert_uint_eq(lr.last_lsn, iss[9].lsn);
    for (unsigned i = 0; i < 10; i++) {
        int rc = log_read_record(lg, iss[i].lsn, true, &rec, &buf, &err);

        ck_assert_int_eq(rc, i == 3 ? ERR_DAMAGE : 0);
        if (rc == 0)
            free(buf);
    }
    ck_assert_int_eq(append(1), ERR_ROFS);
    ck_assert_int_eq(log_sync(lg, &err), ERR_ROFS);
    stop();
}
END_TEST

START_TEST(damage_at_two_places_is_passed_twice)
{
    struct log_iter *it;
    struct record rec;
    unsigned n = 0;

    start(1, 1 << 20);
    for (unsigned i = 0; i < 10; i++) {
        ok(append(500));
        ok(log_sync(lg, &err));
    }
    crash();
    ck_assert(simio_flip(sim, SEG1, 4096 + iss[3].lsn - LOG_FIRST_ADDR + 60, 1));
    ck_assert(simio_flip(sim, SEG1, 4096 + iss[6].lsn - LOG_FIRST_ADDR + 60, 1));
    ok(open_log(false, 0));
    ck_assert_uint_eq(lr.damage_from, iss[3].lsn);
    ck_assert_uint_eq(lr.cut, iss[9].end);
    ok(log_iter_new(lg, iss[4].lsn, UINT64_MAX, 0, &it, &err));
    while (log_iter_next(it, &rec, &err) == 1)
        n++;
    ck_assert_uint_eq(n, 2);                    /* up to the second */
    log_iter_free(it);
    stop();
}
END_TEST

START_TEST(lost_end_below_a_witness_is_damage)
{
    struct super keep;

    start(1, 1 << 20);
    for (unsigned i = 0; i < 4; i++)
        ok(append(500));
    ok(log_sync(lg, &err));
    keep = sb;
    fix_note(&sb, lg, false);
    crash();
    truncate_at(SEG1, 4096 + iss[3].lsn - LOG_FIRST_ADDR + 100, true);
    ck_assert_int_eq(open_log(true, 0), ERR_DAMAGE);            /* the superblock knew */
    ck_assert_uint_eq(lr.damage_from, iss[3].lsn);
    ck_assert_uint_eq(lr.damage_to, iss[3].end);
    sb = keep;
    ck_assert_int_eq(open_log(true, iss[3].lsn + 1), ERR_DAMAGE);   /* the index knew */
    ok(open_log(false, iss[3].lsn + 1));
    expect_prefix(3);
    log_close(lg);
    ok(open_log(true, iss[3].lsn));                             /* nobody knew */
    ck_assert(lr.torn);
    expect_prefix(3);
    stop();
}
END_TEST

START_TEST(clean_close_that_does_not_hold_is_damage)
{
    start(1, 1 << 20);
    for (unsigned i = 0; i < 4; i++)
        ok(append(500));
    ok(log_finish(lg, &err));
    fix_note(&sb, lg, true);
    crash();
    ok(open_log(true, 0));
    ck_assert(lr.clean && !lr.torn);
    crash();
    ck_assert_int_eq(open_log(true, sb.durable + 1), ERR_DAMAGE);   /* the index is ahead */
    ck_assert(simio_flip(sim, SEG1, 4096 + iss[3].lsn - LOG_FIRST_ADDR + 100, 1));
    ck_assert_int_eq(open_log(true, 0), ERR_DAMAGE);
    ck_assert_uint_eq(lr.damage_from, iss[3].lsn);
    stop();
}
END_TEST

START_TEST(old_superblock_that_says_clean_is_not_believed)
{
    struct super old;

    start(1, 1 << 20);
    ok(append(500));
    ok(log_sync(lg, &err));
    fix_note(&sb, lg, true);
    old = sb;
    ok(append(500));
    ok(append(500));
    crash();
    sb = old;
    ok(open_log(true, 0));
    ck_assert(!lr.clean);
    expect_prefix(3);
    stop();
}
END_TEST

START_TEST(stale_frames_of_an_older_generation_are_the_end)
{
    uint8_t block[48 + 400];
    struct record rec;
    struct frame f;
    int len;

    start(1, 1 << 20);
    ok(append(500));
    ok(log_sync(lg, &err));
    ok(append(500));
    /* what a recycled segment holds at the head: a whole record at this very address, of an earlier use */
    fix_sample(REC_CANARY, 1, &rec);
    len = record_encode(&rec, NULL, block + 48, 400);
    rec.lsn = log_head(lg);
    rec.prev_lsn = iss[1].lsn;
    rec.prev_hash = iss[1].hash;
    record_seal(block + 48, (uint32_t)len, &rec);
    f = (struct frame){ .rec_len = (uint32_t)len, .lsn = rec.lsn, .gen = 77, .incarnation = sb.incarnation, .durable = 1 << 30 };
    frame_encode(&f, block);
    crash();
    overwrite(SEG1, 4096 + iss[1].end - LOG_FIRST_ADDR, block, 48 + (size_t)len);
    ok(open_log(true, 0));
    ck_assert(!lr.torn && !lr.damaged);
    ck_assert_uint_eq(lr.cut_bytes, 0);
    expect_prefix(2);
    stop();
}
END_TEST

START_TEST(damaged_segment_header_is_named_and_its_records_are_read)
{
    start(1, 1 << 20);
    for (unsigned i = 0; i < 4; i++)
        ok(append(500));
    ok(log_sync(lg, &err));
    crash();
    ck_assert(simio_flip(sim, SEG1, 200, 1));
    ck_assert_int_eq(open_log(true, 0), ERR_DAMAGE);
    ck_assert_msg(strncmp(err.msg, SEG1 ": offset 0: segment header: hash: expected", 60) == 0, "%s", err.msg);
    ok(open_log(false, 0));
    expect_prefix(4);
    stop();
}
END_TEST

START_TEST(missing_newest_segment_is_damage)
{
    start(1, 8192);
    for (unsigned i = 0; i < 40; i++)
        ok(append(500));
    ok(log_sync(lg, &err));
    sb.segment_gen = lg->max_gen;
    crash();
    ok(open_log(true, 0));
    crash();
    sb.segment_gen += 5;
    ck_assert_int_eq(open_log(true, 0), ERR_DAMAGE);
    ck_assert_msg(strstr(err.msg, "log: expected a segment of generation ") != NULL, "%s", err.msg);
    stop();
}
END_TEST

static int note_segment(void *arg, const struct log_segment_info *s) { *(struct log_segment_info *)arg = *s; return 0; }

/* The frames of a recovery's copy say that all of it is durable. A fork inside it, with a newer segment from there, lets the rest go. */
START_TEST(a_fork_inside_a_copy_is_no_damage)
{
    uint8_t buf[SEGMENT_HEADER_BYTES];
    struct iovec iov = { buf, sizeof buf };
    char name[SEGMENT_NAME_MAX];
    struct log_segment_info copy = { 0 };
    struct segment_header h;
    struct io_file *f;

    start(1, 1 << 16);
    for (unsigned i = 0; i < 3; i++)
        ok(append(300));
    ok(log_sync(lg, &err));
    for (unsigned i = 0; i < 5; i++)
        ok(append(300));
    crash();
    ok(open_log(true, 0));
    ck_assert_uint_gt(lr.rewritten, 0);
    log_segments(lg, note_segment, &copy);
    ck_assert_uint_eq(copy.first, iss[3].lsn);
    log_close(lg);
    segment_name(copy.first, copy.gen, name);
    ok(io_open(simio_io(sim), name, IO_RDONLY, &f, &err));
    ck_assert_int_eq(io_pread(f, buf, sizeof buf, 0, &err), sizeof buf);
    io_close(f);
    ok(segment_header_decode(buf, sizeof buf, &h, &err));
    h.prev_gen = h.gen++;
    h.prev_first = h.first;
    h.first = h.cut = iss[5].lsn;
    h.capacity = 1 << 16;
    h.prev_lsn = iss[4].lsn;
    h.prev_hash = iss[4].hash;
    h.incarnation++;
    segment_header_encode(&h, buf);
    segment_name(h.first, h.gen, name);
    ok(io_open(simio_io(sim), name, IO_RDWR | IO_CREATE, &f, &err));
    ok(io_pwritev(f, &iov, 1, 0, &err));
    ok(io_fdatasync(f, &err));
    io_close(f);
    ok(io_syncdir(simio_io(sim), "log", &err));
    ok(open_log(true, 0));
    ck_assert(!lr.damaged);
    expect_prefix(5);
    stop();
}
END_TEST

START_TEST(failed_copy_of_the_tail_fails_the_open_and_changes_nothing)
{
    struct simio *base;

    start(1, 1 << 16);
    for (unsigned i = 0; i < 4; i++)
        ok(append(500));
    crash();
    base = sim;
    for (uint64_t n = 1; n < 6; n++) {
        sim = simio_clone(base);
        simio_fail_at(sim, SIMIO_PWRITEV, n, ERR_NOSPC);
        ck_assert_int_eq(open_log(true, 0), n < 6 ? ERR_NOSPC : 0);
        ok(open_log(false, 0));
        expect_prefix(4);
        ck_assert_uint_eq(log_durable(lg), LOG_FIRST_ADDR);     /* nothing of it is proven */
        log_close(lg);
        ok(open_log(true, 0));
        expect_prefix(4);
        log_close(lg);
        lg = NULL;
        simio_free(sim);
    }
    sim = base;
    stop();
}
END_TEST

/* Appends, syncs and now and then another writer, until a call fails. Returns what was acknowledged. */
static uint64_t workload(uint64_t seed, unsigned steps)
{
    uint64_t x = seed * 2654435761u + 1, acked = log_durable(lg);

    for (unsigned i = 0; i < steps; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        if (append((uint32_t)(1 + (x >> 33) % ((x >> 60) == 0 ? 30000 : 900))) != 0)
            break;
        if ((x >> 20) % 5 == 0 && log_sync(lg, &err) != 0)
            break;
        if ((x >> 20) % 5 == 0)
            acked = log_head(lg);
        if ((x >> 25) % 40 == 0 && log_prepare(lg, &err) != 0)
            break;
        if ((x >> 40) % 23 == 0 && log_set_writer(lg, 1, sb.epochs[0].id, x | 1, &err) != 0)
            break;
        if ((x >> 40) % 23 == 0)
            acked = log_head(lg);
    }
    return acked;
}

/* How many issued records end at or below ${cut}, which must be the end of one. */
static unsigned prefix_at(uint64_t cut)
{
    unsigned n = 0;

    while (n < n_iss && iss[n].end <= cut)
        n++;
    ck_assert_uint_eq(cut, n > 0 ? iss[n - 1].end : LOG_FIRST_ADDR);
    return n;
}

START_TEST(cut_at_any_call_leaves_a_prefix_with_all_that_was_acknowledged)
{
    unsigned torn = 0, rewrote = 0, lost = 0;
    const char *many = getenv("SPARE_SEEDS");
    uint64_t seeds = many != NULL ? strtoull(many, NULL, 10) : 100;

    for (uint64_t seed = 1; seed <= seeds; seed++) {
        uint64_t acked, cut_at = 1 + seed * 7919 % 220;

        start(seed, seed % 3 == 0 ? 1 << 16 : 8192);
        opt.preallocate = seed % 2 == 0;
        for (unsigned life = 0; life < 3; life++) {
            unsigned n;

            simio_cut_at(sim, cut_at);
            acked = workload(seed * 3 + life, 120);
            log_close(lg);
            lg = NULL;
            simio_cut(sim, seed, (enum simio_cut_mode)((seed + life) % SIMIO_N_CUT_MODES));
            ck_assert_msg(open_log(true, acked) == 0, "seed %llu life %u: %s", (unsigned long long)seed, life, err.msg);
            ck_assert_msg(lr.cut >= acked, "seed %llu life %u: cut %llu acked %llu", (unsigned long long)seed, life,
                          (unsigned long long)lr.cut, (unsigned long long)acked);
            n = prefix_at(lr.cut);
            expect_prefix(n);
            torn += lr.torn;
            rewrote += lr.rewritten > 0;
            lost += n < n_iss;
            n_iss = n;
            if (log_set_writer(lg, 1, sb.epochs[0].id, seed * 16 + life + 2, &err) != 0)
                ck_abort_msg("%s", err.msg);
        }
        stop();
    }
    ck_assert_uint_gt(torn, 5);                 /* else nothing was tried */
    ck_assert_uint_gt(rewrote, 5);
    ck_assert_uint_gt(lost, 20);
}
END_TEST

START_TEST(crash_at_every_call_of_recovery_gives_the_same)
{
    unsigned tried = 0;

    for (uint64_t seed = 1; seed <= 24; seed++) {
        struct simio *base;
        struct log_recovery want;
        unsigned n;

        start(seed, 8192);
        simio_cut_at(sim, 30 + seed * 11 % 90);
        workload(seed, 120);
        log_close(lg);
        lg = NULL;
        simio_cut(sim, seed, (enum simio_cut_mode)(seed % SIMIO_N_CUT_MODES));
        base = simio_clone(sim);
        ok(open_log(true, 0));
        want = lr;
        n = prefix_at(lr.cut);
        log_close(lg);
        lg = NULL;
        simio_free(sim);
        for (uint64_t at = 1; at < 100; at++) {
            bool dead;

            sim = simio_clone(base);
            simio_cut_at(sim, at);
            if (open_log(true, 0) == 0)
                log_close(lg);
            lg = NULL;
            dead = simio_dead(sim);
            simio_cut(sim, at, (enum simio_cut_mode)(at % SIMIO_N_CUT_MODES));
            ck_assert_msg(open_log(true, 0) == 0, "seed %llu call %llu: %s", (unsigned long long)seed,
                          (unsigned long long)at, err.msg);
            ck_assert_uint_eq(lr.cut, want.cut);
            ck_assert_uint_eq(lr.last_lsn, want.last_lsn);
            ck_assert(hash128_eq(&lr.last_hash, &want.last_hash));
            expect_prefix(n);
            /* and what is appended then stays */
            ok(log_set_writer(lg, 1, sb.epochs[0].id, 99, &err));
            n_iss = n;
            ok(append(700));
            ok(log_sync(lg, &err));
            log_close(lg);
            simio_cut(sim, at, SIMIO_CUT_DROP_ALL);
            ok(open_log(true, 0));
            expect_prefix(n + 1);
            log_close(lg);
            lg = NULL;
            simio_free(sim);
            tried++;
            if (!dead)
                break;
        }
        simio_free(base);
    }
    sim = NULL;
    ck_assert_uint_gt(tried, 24 * 5);
}
END_TEST

START_TEST(opening_walks_two_segments_at_most)
{
    start(1, 8192);
    for (unsigned i = 0; i < 500; i++)
        ok(append(500));
    ok(log_sync(lg, &err));
    crash();
    ok(open_log(true, 0));
    ck_assert_uint_le(lr.n_records, 2 * 12);
    expect_prefix(500);
    stop();
}
END_TEST

START_TEST(superseded_files_are_removed)
{
    struct io_stat st;

    start(1, 8192);
    for (unsigned i = 0; i < 8; i++)
        ok(append(500));
    crash();
    ok(open_log(true, 0));                      /* all of it unproven: copied, the first is covered */
    ck_assert_uint_eq(lr.rewritten, iss[7].end - LOG_FIRST_ADDR);
    ck_assert_int_eq(io_stat_path(simio_io(sim), SEG1, &st, NULL), ERR_NOENT);
    expect_prefix(8);
    stop();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("log_recover");
    TCase *t = tcase_create("log_recover");
    SRunner *r;
    int failed;

    tcase_set_timeout(t, 300);
    tcase_add_test(t, torn_tail_at_every_byte_end_of_file);
    tcase_add_test(t, torn_tail_at_every_byte_zeros_behind);
    tcase_add_test(t, torn_data_under_a_whole_head_is_cut);
    tcase_add_test(t, reordered_tail_is_torn_and_never_comes_back);
    tcase_add_test(t, damage_in_the_middle_is_named_and_refuses_writing);
    tcase_add_test(t, damage_at_two_places_is_passed_twice);
    tcase_add_test(t, lost_end_below_a_witness_is_damage);
    tcase_add_test(t, clean_close_that_does_not_hold_is_damage);
    tcase_add_test(t, old_superblock_that_says_clean_is_not_believed);
    tcase_add_test(t, stale_frames_of_an_older_generation_are_the_end);
    tcase_add_test(t, damaged_segment_header_is_named_and_its_records_are_read);
    tcase_add_test(t, missing_newest_segment_is_damage);
    tcase_add_test(t, a_fork_inside_a_copy_is_no_damage);
    tcase_add_test(t, failed_copy_of_the_tail_fails_the_open_and_changes_nothing);
    tcase_add_test(t, cut_at_any_call_leaves_a_prefix_with_all_that_was_acknowledged);
    tcase_add_test(t, crash_at_every_call_of_recovery_gives_the_same);
    tcase_add_test(t, opening_walks_two_segments_at_most);
    tcase_add_test(t, superseded_files_are_removed);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
