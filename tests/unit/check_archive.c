/*
 * check_archive: records into an archive file and back: every type, gaps, changes of epoch and writer, many frames;
 * each flipped bit noticed, hostile bytes behind valid hashes refused, and a failure or a power cut at every call.
 */
#include "store/base/filehead.h"
#include "store/log/frame.h"
#include "store/pack/archive_internal.h"
#include "store/pack/squeeze.h"
#include "tests/lib/log_fixture.h"
#include "tests/lib/simio.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

/* A row of sealed records, as a log would give them. */
struct row { uint8_t **head; struct record *rec; size_t n; uint64_t end; };

static const uint8_t epoch_id[16] = { 3, 1, 4, 1, 5 };

static void row_start(struct row *r, size_t cap)
{
    r->head = calloc(cap, sizeof *r->head);
    r->rec = calloc(cap, sizeof *r->rec);
    r->n = 0;
    r->end = LOG_FIRST_ADDR;
    ck_assert(r->head != NULL && r->rec != NULL);
}

static void row_free(struct row *r)
{
    for (size_t i = 0; i < r->n; i++)
        free(r->head[i]);
    free(r->head);
    free(r->rec);
}

static void sums_of(const struct record *rec, uint64_t *sums)
{
    uint8_t *data = fix_data_of(rec);

    ck_assert_uint_le(record_n_sums(rec->data_len), 8);
    record_sums(data, rec->data_len, sums);
    free(data);
}

/* ${rec} (type, args, caller, clocks) as the next one, ${gap} addresses behind the one before. */
static void row_add(struct row *r, struct record *rec, uint64_t gap)
{
    uint32_t len = record_head_len(rec);
    uint8_t *head = malloc(len);
    uint64_t sums[8];

    ck_assert(head != NULL);
    sums_of(rec, sums);
    ck_assert_int_eq(record_encode(rec, sums, head, len), (int)len);
    rec->lsn = r->end + gap;
    rec->prev_lsn = r->n > 0 ? r->rec[r->n - 1].lsn : 0;
    memset(&rec->prev_hash, 0, sizeof rec->prev_hash);
    if (r->n > 0)
        rec->prev_hash = r->rec[r->n - 1].hash;
    record_seal(head, len, rec);
    r->head[r->n] = head;
    ck_assert_int_eq(record_decode(head, len, &r->rec[r->n++], NULL), 0);
    r->end = rec->lsn + frame_span(len + rec->data_len);
}

/* ${n} records of every type in turn, with what changes between records changing in odd ways. */
static void row_fill(struct row *r, size_t n)
{
    unsigned types[64], n_types = fix_types(types);

    row_start(r, n);
    for (size_t i = 0; i < n; i++) {
        struct record rec;

        fix_sample(types[i % n_types], i / n_types % 300, &rec);
        rec.epoch = i < n / 2 ? 7 : i < n / 2 + 3 ? UINT32_MAX : 1;
        rec.incarnation = i % 50 < 30 ? 0x1122334455667788u : UINT64_MAX - i / 50;
        rec.wall_ns = i % 11 == 4 ? INT64_MIN : i % 11 == 5 ? INT64_MAX : 1700000000000000000 - (int64_t)(i * i % 977) * 1000003;
        rec.boot_ns = i % 13 == 6 ? UINT64_MAX : 5000 + i * 1000;
        rec.uid = i % 17 == 3 ? UINT32_MAX : 1000;
        rec.pid = (uint32_t)(i * 7919);
        rec.unique = i % 19 == 2 ? 0 : i * 2;
        row_add(r, &rec, i % 7 == 3 ? 8 * i + 8 : 0);
    }
}

enum { BEHIND = 64 };           /* addresses between the last record and the end */

static void head_for(struct archive_head *h, const struct row *r, uint64_t gen)
{
    memset(h, 0, sizeof *h);
    memset(h->lineage, 0x11, 16);
    memset(h->site, 0x22, 16);
    h->gen = gen;
    h->first = LOG_FIRST_ADDR;
    h->end = r->end + BEHIND;
    h->retained_gen = 5;
}

static void name_of(const struct row *r, uint64_t gen, char name[ARCHIVE_NAME_MAX])
{
    archive_name(LOG_FIRST_ADDR, r->end + BEHIND, gen, name);
}

/* All of it: new, add, finish. */
static int put_row(struct io *io, const struct row *r, uint64_t gen, struct err *err)
{
    struct archive_head h;
    struct archive_writer *w;
    int rc;

    head_for(&h, r, gen);
    rc = archive_new(io, &h, &w, err);
    for (size_t i = 0; rc == 0 && i < r->n; i++) {
        rc = archive_add(w, &r->rec[i], r->head[i], err);
        if (rc != 0)
            archive_drop(w);
    }
    return rc != 0 ? rc : archive_finish(w, epoch_id, err);
}

/* What came back is record ${i}: each byte of the head, and the fields. */
static void check_same(const struct row *r, size_t i, const struct record *got, const uint8_t *head)
{
    const struct record *rec = &r->rec[i];

    ck_assert_uint_eq(got->head_len, rec->head_len);
    ck_assert_msg(memcmp(head, r->head[i], rec->head_len) == 0, "record %zu of type %u is not the same", i, rec->type);
    ck_assert(got->data == NULL && got->lsn == rec->lsn && got->type == rec->type && got->prev_lsn == rec->prev_lsn);
    ck_assert(hash128_eq(&got->hash, &rec->hash) && hash128_eq(&got->prev_hash, &rec->prev_hash));
    if (rec->data_len > 0) {
        uint8_t *data = fix_data_of(rec);

        ck_assert_int_eq(record_check_data(got, data, 0, rec->data_len, NULL), 0);      /* by the sums of got */
        free(data);
    }
}

static struct archive *open_ok(struct io *io, const struct row *r, uint64_t gen)
{
    struct archive *a;
    struct err err = { 0 }, warn = { 0 };

    ck_assert_msg(archive_open(io, LOG_FIRST_ADDR, r->end + BEHIND, gen, &a, &warn, &err) == 0, "%s", err.msg);
    ck_assert_str_eq(warn.msg, "");
    return a;
}

static void check_whole(struct io *io, const struct row *r, uint64_t gen, uint32_t frames)
{
    struct archive *a = open_ok(io, r, gen);
    struct err err = { 0 };
    struct record got;
    const uint8_t *head;
    size_t i = 0;
    int rc;

    ck_assert_uint_eq(archive_head(a)->n_records, r->n);
    ck_assert_uint_eq(archive_head(a)->n_frames, frames);
    while ((rc = archive_next(a, &got, &head, &err)) == 1) {
        ck_assert_uint_lt(i, r->n);
        check_same(r, i++, &got, head);
    }
    ck_assert_msg(rc == 0, "%s", err.msg);
    ck_assert_uint_eq(i, r->n);
    ck_assert_int_eq(archive_next(a, &got, NULL, &err), 0);     /* and stays there */
    ck_assert_msg(archive_check(a, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(archive_next(a, &got, &head, &err), 1);    /* a check begins anew */
    check_same(r, 0, &got, head);
    archive_close(a);
}

START_TEST(every_type_comes_back_byte_for_byte)
{
    struct simio *sim = simio_new(1);
    struct err err = { 0 };
    struct row r;

    row_fill(&r, 2200);
    ck_assert_msg(put_row(simio_io(sim), &r, 1, &err) == 0, "%s", err.msg);
    check_whole(simio_io(sim), &r, 1, 1);
    row_free(&r);
    simio_free(sim);
}
END_TEST

START_TEST(many_records_make_many_frames)
{
    struct simio *sim = simio_new(1);
    struct err err = { 0 };
    struct row r;

    row_fill(&r, 2 * ARCHIVE_FRAME_RECORDS + 1);
    ck_assert_msg(put_row(simio_io(sim), &r, 0xfedcba98u, &err) == 0, "%s", err.msg);
    check_whole(simio_io(sim), &r, 0xfedcba98u, 3);
    row_free(&r);
    simio_free(sim);
}
END_TEST

/* REAPs of as many inodes as one may have. */
static void row_big(struct row *r, size_t n, bool noise)
{
    enum { INOS = REC_ARGS_MAX / 8 - 1 };
    uint8_t *inos = calloc(INOS, 8);

    ck_assert(inos != NULL);
    row_start(r, n);
    for (size_t i = 0; i < n; i++) {
        struct record rec;

        if (noise)
            fix_fill(inos, INOS * 8, i + 1);
        fix_sample(REC_REAP, 1, &rec);
        rec.u.reap.n = INOS;
        rec.u.reap.inos = inos;
        row_add(r, &rec, 0);
    }
    free(inos);
}

START_TEST(large_records_end_a_frame_in_time)
{
    struct simio *sim = simio_new(1);
    struct err err = { 0 };
    struct row r;

    row_big(&r, 7, true);           /* three fit, four would be above 4 MiB */
    ck_assert_msg(put_row(simio_io(sim), &r, 1, &err) == 0, "%s", err.msg);
    check_whole(simio_io(sim), &r, 1, 3);
    row_free(&r);
    simio_free(sim);
}
END_TEST

/* Records [i, to) of the row as the addresses from the i-th on up to ${end}. */
static void put_part(struct io *io, const struct row *r, size_t i, size_t to, uint64_t end, uint64_t gen)
{
    struct archive_head h;
    struct archive_writer *w;
    struct err err = { 0 };

    head_for(&h, r, gen);
    h.first = r->rec[i].lsn;
    h.end = r->end;                 /* the most */
    ck_assert_msg(archive_new(io, &h, &w, &err) == 0, "%s", err.msg);
    for (; i < to; i++)
        ck_assert_msg(archive_add(w, &r->rec[i], r->head[i], &err) == 0, "%s", err.msg);
    ck_assert_msg(archive_cut(w, end, &err) == 0, "%s", err.msg);
    ck_assert_msg(archive_finish(w, epoch_id, &err) == 0, "%s", err.msg);
}

START_TEST(files_follow_each_other)
{
    struct simio *sim = simio_new(1);
    struct archive *a;
    struct err err = { 0 };
    struct record got;
    const uint8_t *head;
    struct row r;

    row_fill(&r, 20);
    put_part(simio_io(sim), &r, 0, 12, r.rec[12].lsn, 1);
    put_part(simio_io(sim), &r, 12, 20, r.end, 2);
    ck_assert_int_eq(archive_open(simio_io(sim), r.rec[12].lsn, r.end, 2, &a, NULL, &err), 0);
    ck_assert_int_eq(archive_next(a, &got, &head, &err), 1);
    check_same(&r, 12, &got, head);
    ck_assert_uint_eq(got.prev_lsn, r.rec[11].lsn);
    ck_assert_int_eq(archive_check(a, &err), 0);
    archive_close(a);
    row_free(&r);
    simio_free(sim);
}
END_TEST

START_TEST(what_does_not_fit_is_not_taken)
{
    struct simio *sim = simio_new(1);
    struct io *io = simio_io(sim);
    struct archive_head h;
    struct archive_writer *w;
    struct archive *a;
    struct err err = { 0 };
    struct record bad;
    struct row r;

    row_fill(&r, 3);
    ck_assert_int_eq(archive_open(io, LOG_FIRST_ADDR, r.end + BEHIND, 1, &a, NULL, &err), ERR_NOENT);
    head_for(&h, &r, 1);
    ck_assert_int_eq(archive_new(io, &h, &w, &err), 0);
    ck_assert_int_eq(archive_finish(w, epoch_id, &err), ERR_INVAL);                     /* no record */
    h.end = r.end - 8;
    ck_assert_int_eq(archive_new(io, &h, &w, &err), 0);
    bad = r.rec[0];
    bad.prev_lsn = LOG_FIRST_ADDR;
    ck_assert_int_eq(archive_add(w, &bad, r.head[0], &err), ERR_INVAL);                 /* behind one that belongs here */
    ck_assert_int_eq(archive_add(w, &r.rec[0], r.head[0], &err), 0);
    ck_assert_int_eq(archive_add(w, &r.rec[0], r.head[0], &err), ERR_INVAL);            /* again */
    ck_assert_int_eq(archive_add(w, &r.rec[2], r.head[2], &err), ERR_INVAL);            /* its predecessor is not there */
    bad = r.rec[1];
    bad.prev_hash.b[0] ^= 1;
    ck_assert_int_eq(archive_add(w, &bad, r.head[1], &err), ERR_INVAL);
    bad = r.rec[1];
    bad.type = 23;
    ck_assert_int_eq(archive_add(w, &bad, r.head[1], &err), ERR_INVAL);
    bad = r.rec[1];
    bad.head_len = REC_HEAD_BYTES;
    ck_assert_int_eq(archive_add(w, &bad, r.head[1], &err), ERR_INVAL);
    ck_assert_int_eq(archive_add(w, &r.rec[1], r.head[1], &err), 0);                    /* unharmed by these */
    ck_assert_int_eq(archive_add(w, &r.rec[2], r.head[2], &err), ERR_INVAL);            /* ends behind the end */
    ck_assert_int_eq(archive_cut(w, r.rec[1].lsn, &err), ERR_INVAL);                    /* in front of what it has */
    ck_assert_int_eq(archive_cut(w, r.end, &err), ERR_INVAL);                           /* behind what was said */
    archive_drop(w);
    ck_assert_int_eq(put_row(io, &r, 1, &err), 0);
    ck_assert_int_eq(put_row(io, &r, 1, &err), ERR_EXIST);                              /* a generation is given out once */
    check_whole(io, &r, 1, 1);
    head_for(&h, &r, 2);
    for (int i = 0; i < 3; i++) {   /* what no reader would take, or take for something else, nor does the writer, if late */
        ck_assert_int_eq(archive_new(io, &h, &w, &err), 0);
        bad = r.rec[0];
        bad.flags ^= i == 0 ? 8 : 0;
        bad.uid += i == 1;
        bad.hash.b[0] ^= i == 2;
        ck_assert_int_eq(archive_add(w, &bad, r.head[0], &err), 0);
        ck_assert_int_eq(archive_finish(w, epoch_id, &err), ERR_INVAL);
        ck_assert_int_eq(archive_open(io, LOG_FIRST_ADDR, r.end + BEHIND, 2, &a, NULL, &err), ERR_NOENT);
    }
    archive_drop(NULL);
    archive_close(NULL);
    row_free(&r);
    simio_free(sim);
}
END_TEST

/* ---- damage ---- */

static uint64_t size_of(struct io *io, const char *name)
{
    struct io_stat st;

    ck_assert_int_eq(io_stat_path(io, name, &st, NULL), 0);
    return st.size;
}

/* Opening or checking it must say DAMAGE, which file and where; what comes until then is a record of the row. */
static void must_be_damage(struct io *io, const struct row *r, uint64_t at)
{
    struct archive *a;
    struct err err = { 0 };
    struct record rec;
    const uint8_t *head;
    char name[ARCHIVE_NAME_MAX];
    int rc = archive_open(io, LOG_FIRST_ADDR, r->end + BEHIND, 1, &a, NULL, &err);

    name_of(r, 1, name);
    if (rc == 0) {
        for (size_t i = 0; archive_next(a, &rec, &head, NULL) == 1; i++)
            check_same(r, i, &rec, head);
        rc = archive_check(a, &err);
        archive_close(a);
    }
    ck_assert_msg(rc == ERR_DAMAGE, "byte %llu: %s: %s", (unsigned long long)at, err_name(rc), err.msg);
    ck_assert_msg(strncmp(err.msg, name, strlen(name)) == 0, "%s", err.msg);
    ck_assert_msg(strstr(err.msg, "offset ") != NULL, "%s", err.msg);
}

START_TEST(every_flipped_bit_is_noticed)
{
    struct simio *sim = simio_new(1);
    char name[ARCHIVE_NAME_MAX];
    struct row r;
    uint64_t size;

    row_fill(&r, 25);
    ck_assert_int_eq(put_row(simio_io(sim), &r, 1, NULL), 0);
    name_of(&r, 1, name);
    size = size_of(simio_io(sim), name);
    ck_assert_uint_lt(size, 4096);
    for (uint64_t i = 0; i < size; i++)
        for (unsigned b = 0; b <= 8; b++) {
            uint8_t mask = (uint8_t)(b < 8 ? 1 << b : 255);

            ck_assert(simio_flip(sim, name, i, mask));
            must_be_damage(simio_io(sim), &r, i);
            ck_assert(simio_flip(sim, name, i, mask));
        }
    check_whole(simio_io(sim), &r, 1, 1);
    row_free(&r);
    simio_free(sim);
}
END_TEST

START_TEST(truncated_at_every_length)
{
    struct simio *sim = simio_new(1);
    struct io *io = simio_io(sim);
    struct io_file *f;
    char name[ARCHIVE_NAME_MAX];
    struct row r;
    uint64_t size;

    row_fill(&r, 25);
    ck_assert_int_eq(put_row(io, &r, 1, NULL), 0);
    name_of(&r, 1, name);
    size = size_of(io, name);
    ck_assert_int_eq(io_open(io, name, IO_RDWR, &f, NULL), 0);
    ck_assert_int_eq(io_ftruncate(f, size + 1, NULL), 0);
    must_be_damage(io, &r, size + 1);
    while (size-- > 0) {
        ck_assert_int_eq(io_ftruncate(f, size, NULL), 0);
        must_be_damage(io, &r, size);
    }
    io_close(f);
    row_free(&r);
    simio_free(sim);
}
END_TEST

/* Reads all there is, over any damage: which records came (bit i), how many failures; the last one's message is *${err}. */
static uint64_t read_on(struct archive *a, const struct row *r, unsigned *failures, struct err *err)
{
    uint64_t seen = 0;
    struct record rec;
    const uint8_t *head;
    int rc;

    *failures = 0;
    while ((rc = archive_next(a, &rec, &head, err)) != 0) {
        size_t i = 0;

        ck_assert_uint_lt(*failures, 100);
        if (rc < 0) {
            ++*failures;
            continue;
        }
        while (i < r->n && r->rec[i].lsn != rec.lsn)
            i++;
        ck_assert_uint_lt(i, r->n);
        check_same(r, i, &rec, head);
        ck_assert_uint_eq(seen >> i, 0);        /* in order */
        seen |= UINT64_C(1) << i;
    }
    return seen;
}

/* Where the n-th frame begins. */
static uint64_t frame_at(struct io *io, const char *name, unsigned n)
{
    uint64_t at = ARCHIVE_HEAD_BYTES;
    uint8_t buf[ARCHIVE_FRAME_HEAD_BYTES];
    struct io_file *f;

    ck_assert_int_eq(io_open(io, name, IO_RDONLY, &f, NULL), 0);
    for (; n > 0; n--) {
        ck_assert_int_eq(io_pread(f, buf, sizeof buf, at, NULL), (int64_t)sizeof buf);
        at += sizeof buf + get_u32(buf + 4);
    }
    io_close(f);
    return at;
}

START_TEST(damage_takes_one_frame_and_no_more)
{
    struct simio *sim = simio_new(1);
    struct io *io = simio_io(sim);
    struct err err = { 0 }, warn = { 0 };
    char name[ARCHIVE_NAME_MAX];
    struct archive *a;
    struct row r;
    unsigned failures;

    row_big(&r, 9, false);          /* three a frame */
    ck_assert_int_eq(put_row(io, &r, 1, NULL), 0);
    check_whole(io, &r, 1, 3);
    name_of(&r, 1, name);
    for (unsigned n = 0; n < 3; n++)
        for (unsigned in = 0; in < 2; in++) {   /* in its head, in its zstd frame */
            uint64_t at = frame_at(io, name, n) + (in == 0 ? 20 : 100), left = 0777 & ~(UINT64_C(7) << 3 * n);

            simio_flip(sim, name, at, 4);
            a = open_ok(io, &r, 1);
            ck_assert_uint_eq(read_on(a, &r, &failures, &err), left);
            ck_assert_uint_eq(failures, 1);
            /* seek: into the damage, and behind it */
            for (size_t i = 0; i < 9; i++) {
                ck_assert_int_eq(archive_seek(a, r.rec[i].lsn, &err), 0);
                ck_assert_uint_eq(read_on(a, &r, &failures, &err), left >> i / 3 * 3 << i / 3 * 3);
                ck_assert_uint_eq(failures, i / 3 <= n);
            }
            archive_close(a);
            simio_flip(sim, name, at, 4);
        }
    simio_flip(sim, name, 70, 1);   /* the first head */
    ck_assert_int_eq(archive_open(io, LOG_FIRST_ADDR, r.end + BEHIND, 1, &a, &warn, &err), 0);
    ck_assert_msg(strstr(warn.msg, "offset 0: archive file: hash at byte 240") != NULL, "%s", warn.msg);
    ck_assert_uint_eq(read_on(a, &r, &failures, &err), 0777);
    ck_assert_uint_eq(failures, 0);
    ck_assert_int_eq(archive_check(a, &err), ERR_DAMAGE);
    archive_close(a);
    simio_flip(sim, name, size_of(io, name) - 272 + 70, 1);     /* and its copy */
    ck_assert_int_eq(archive_open(io, LOG_FIRST_ADDR, r.end + BEHIND, 1, &a, &warn, &err), ERR_DAMAGE);
    row_free(&r);
    simio_free(sim);
}
END_TEST

START_TEST(seek_finds_each_record)
{
    struct simio *sim = simio_new(1);
    struct err err = { 0 };
    struct archive *a;
    struct row r;
    unsigned failures;

    row_big(&r, 9, false);
    ck_assert_int_eq(put_row(simio_io(sim), &r, 1, NULL), 0);
    a = open_ok(simio_io(sim), &r, 1);
    for (size_t i = 0; i < 9; i++)
        for (int d = -8; d <= 8; d += 8) {
            size_t frame = (d < 0 && i > 0 ? i - 1 : i) / 3;

            ck_assert_int_eq(archive_seek(a, r.rec[i].lsn + (uint64_t)(int64_t)d, &err), 0);
            ck_assert_uint_eq(read_on(a, &r, &failures, &err), UINT64_C(0777) >> 3 * frame << 3 * frame);
            ck_assert_uint_eq(failures, 0);
        }
    ck_assert_int_eq(archive_seek(a, r.end, &err), 0);
    ck_assert_uint_eq(read_on(a, &r, &failures, &err), 0);
    ck_assert_int_eq(archive_seek(a, 0, &err), 0);
    ck_assert_uint_eq(read_on(a, &r, &failures, &err), 0777);
    archive_close(a);
    row_free(&r);
    simio_free(sim);
}
END_TEST

/* A frame, good in itself, of a row that differs in one byte of an earlier record. */
START_TEST(a_frame_of_another_history)
{
    struct simio *sim = simio_new(1), *two = simio_new(1);
    struct err err = { 0 };
    struct iovec iov;
    struct io_file *f, *g;
    char name[ARCHIVE_NAME_MAX];
    struct archive *a;
    struct row r, s;
    uint64_t at, to;
    unsigned failures;
    uint8_t *buf;

    row_big(&r, 9, false);
    row_big(&s, 9, false);
    s.n = 0;
    s.end = LOG_FIRST_ADDR;
    for (size_t i = 0; i < 9; i++) {
        struct record rec = r.rec[i];

        free(s.head[i]);
        rec.pid += i == 1;
        row_add(&s, &rec, 0);
    }
    ck_assert_int_eq(put_row(simio_io(sim), &r, 1, NULL), 0);
    ck_assert_int_eq(put_row(simio_io(two), &s, 1, NULL), 0);
    name_of(&r, 1, name);
    at = frame_at(simio_io(sim), name, 1);
    to = frame_at(simio_io(two), name, 1);
    buf = malloc(frame_at(simio_io(two), name, 2));
    iov = (struct iovec){ buf, frame_at(simio_io(two), name, 2) - to };
    ck_assert_uint_eq(iov.iov_len, frame_at(simio_io(sim), name, 2) - at);
    ck_assert(buf != NULL && io_open(simio_io(two), name, IO_RDONLY, &g, NULL) == 0 && io_open(simio_io(sim), name, IO_RDWR, &f, NULL) == 0);
    ck_assert_int_eq(io_pread(g, buf, iov.iov_len, to, NULL), (int64_t)iov.iov_len);
    ck_assert_int_eq(io_pwritev(f, &iov, 1, at, NULL), 0);
    io_close(f);
    io_close(g);
    a = open_ok(simio_io(sim), &r, 1);
    ck_assert_uint_eq(read_on(a, &r, &failures, &err), 0707);
    ck_assert_uint_eq(failures, 1);
    ck_assert_msg(strstr(err.msg, "record before a frame") != NULL, "%s", err.msg);
    archive_close(a);
    free(buf);
    row_free(&r);
    row_free(&s);
    simio_free(sim);
    simio_free(two);
}
END_TEST

/* ---- hostile: every hash is right ---- */

/* The records of frame ${f} of these bytes; 0 or the failure. */
static int walk(const uint8_t *buf, size_t len, const struct archive_frame *f, struct err *err)
{
    uint8_t *exact = malloc(len > 0 ? len : 1);         /* so that ASan sees a read beyond */
    struct archive_heads heads = { 0 };
    int rc;

    ck_assert(exact != NULL);
    if (len > 0)
        memcpy(exact, buf, len);
    rc = archive_unfold(exact, len, f, &heads, err);
    ck_assert(rc == 0 ? heads.len > f->n * (size_t)REC_HEAD_BYTES : heads.len == 0);
    free(heads.p);
    free(exact);
    return rc;
}

/* Columns of ${n} CANARYs, the k-th of them with number ${v} in column ${col}. */
static size_t canaries(uint32_t n, uint32_t k, unsigned col, uint64_t v, uint8_t *buf, size_t cap, struct archive_frame *f)
{
    struct columns c = { 0 };
    size_t len;

    for (uint32_t i = 0; i < n; i++) {
        for (unsigned j = 0; j < ARC_NUMBERS; j++)
            columns_var(&c, j, i == k && j == col ? v : j == ARC_TYPE ? REC_CANARY : j == ARC_ARGS_LEN ? 8 : 0);
        columns_bytes(&c, ARC_FIXED + REC_CANARY - 1, "12345678", 8);
    }
    len = archive_take(&c, buf, cap);
    columns_release(&c);
    *f = (struct archive_frame){ .n = n, .first_lsn = 4096, .end = 4096 + n * frame_span(136) };
    return len;
}

START_TEST(numbers_that_cannot_be)
{
    static const struct { unsigned col; uint64_t v; const char *why; } bad[] = {
        { ARC_TYPE, 0, "found an unknown one" }, { ARC_TYPE, 23, "found an unknown one" }, { ARC_TYPE, UINT64_MAX, "found an unknown one" },
        { ARC_TYPE, 65555, "found an unknown one" }, { ARC_TYPE, REC_LINK, "arguments of type" },
        { ARC_FLAGS, 8, "a flag of names" }, { ARC_FLAGS, 32, "unknown flag" }, { ARC_FLAGS, 65536, "column 1 " }, { ARC_GAP, 8, "column 2 " }, { ARC_GAP, 1, "column 2 " },
        { ARC_GAP, UINT64_MAX - 7, "column 2 " }, { ARC_DATA_LEN, 1, "data with a type that has none" },
        { ARC_DATA_LEN, REC_DATA_MAX + 1, "column 3 " }, { ARC_DATA_LEN, 1 << 20, "behind its frame's end" },
        { ARC_ARGS_LEN, 0, "arguments end too early" }, { ARC_ARGS_LEN, 7, "arguments end too early" },
        { ARC_ARGS_LEN, 9, "behind the arguments" }, { ARC_ARGS_LEN, REC_ARGS_MAX + 1, "column 4 " },
        { ARC_EPOCH, 1, "column 5 " }, { ARC_EPOCH, UINT64_C(1) << 33, "column 5 " }, { ARC_UID, 1, "column 9 " },
        { ARC_GID, UINT64_MAX, "column 10 " }, { ARC_PID, UINT64_MAX - 1, "column 11 " },
    };
    uint8_t buf[1024];
    struct archive_frame f;
    struct err err = { 0 };
    size_t len;

    len = canaries(3, 3, 0, 0, buf, sizeof buf, &f);
    ck_assert_msg(walk(buf, len, &f, &err) == 0, "%s", err.msg);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        for (uint32_t k = 0; k < 3; k++) {
            len = canaries(3, k, bad[i].col, bad[i].v, buf, sizeof buf, &f);
            ck_assert_msg(walk(buf, len, &f, &err) == ERR_DAMAGE, "row %zu, record %u", i, k);
            /* what is short or long in one record may show only in another */
            if (k == 1 && bad[i].col != ARC_ARGS_LEN && bad[i].col != ARC_DATA_LEN && !(bad[i].col == ARC_GAP && bad[i].v == 8))
                ck_assert_msg(strstr(err.msg, bad[i].why) != NULL, "row %zu: %s", i, err.msg);
        }
}
END_TEST

START_TEST(columns_too_short_or_too_long)
{
    uint8_t buf[1024], more[1024];
    struct archive_frame f, g;
    struct err err = { 0 };
    size_t len = canaries(3, 3, 0, 0, buf, sizeof buf, &f);

    for (size_t n = 0; n < len; n++)
        ck_assert_int_eq(walk(buf, n, &f, &err), ERR_DAMAGE);
    buf[len] = 0;
    ck_assert_int_eq(walk(buf, len + 1, &f, &err), ERR_DAMAGE);
    ck_assert_str_eq(err.msg, "1 bytes behind the last column");
    for (uint32_t n = 1; n < 6; n++) {
        g = f;
        g.n = n;
        ck_assert_int_eq(walk(buf, len, &g, &err), n == 3 ? 0 : ERR_DAMAGE);
    }
    g = f;
    g.end += 8;
    ck_assert_int_eq(walk(buf, len, &g, &err), ERR_DAMAGE);
    ck_assert_str_eq(err.msg, "its last record ends at 4648, expected 4656");
    g.end -= 16;
    ck_assert_int_eq(walk(buf, len, &g, &err), ERR_DAMAGE);
    ck_assert_msg(strstr(err.msg, "behind its frame's end") != NULL, "%s", err.msg);
    /* a number in column 1 in a longer form: its length grows by one */
    memcpy(more, buf, 5);
    more[4] = 4;
    more[5] = 0x80;
    memcpy(more + 6, buf + 5, len - 5);
    ck_assert_int_eq(walk(more, len + 1, &f, &err), ERR_DAMAGE);
    ck_assert_msg(strstr(err.msg, "column 1 ") != NULL, "%s", err.msg);
}
END_TEST

/* ${h} with hashes that are right. */
static int decode_head(const struct archive_head *h, struct err *err)
{
    uint8_t buf[ARCHIVE_HEAD_BYTES];
    struct archive_head got;

    archive_head_encode(h, buf);
    return archive_head_decode(buf, sizeof buf, h->size, &got, err);
}

static void good_head(struct archive_head *h)
{
    static const struct row r = { .end = 4096 + 17600 - BEHIND };

    head_for(h, &r, 9);
    memcpy(h->epoch_id, epoch_id, 16);
    h->size = 5000;
    h->n_records = 100;
    h->n_frames = 2;
}

START_TEST(heads_that_cannot_be)
{
    uint8_t buf[ARCHIVE_HEAD_BYTES], again[ARCHIVE_HEAD_BYTES];
    struct archive_head h, got;
    struct err err = { 0 };

    good_head(&h);
    archive_head_encode(&h, buf);
    ck_assert_msg(archive_head_decode(buf, sizeof buf, h.size, &got, &err) == 0, "%s", err.msg);
    archive_head_encode(&got, again);
    ck_assert_mem_eq(buf, again, sizeof buf);
    for (size_t i = 0; i < sizeof buf; i++)
        ck_assert_int_eq(archive_head_decode(buf, i, h.size, &got, &err), ERR_DAMAGE);
    ck_assert_int_eq(archive_head_decode(buf, sizeof buf, h.size + 1, &got, &err), ERR_DAMAGE);
    buf[200] = 1;                   /* reserved */
    filehead_seal(buf, sizeof buf);
    ck_assert_int_eq(archive_head_decode(buf, sizeof buf, h.size, &got, &err), ERR_DAMAGE);
#define BAD(code, change) do { good_head(&h); change; ck_assert_msg(decode_head(&h, &err) == (code), "%s", #change); } while (0)
    BAD(ERR_VERSION, h.incompat = 1);
    BAD(ERR_VERSION, h.hash_alg = 2);
    BAD(0, h.ro_compat = 1);
    BAD(ERR_DAMAGE, memset(h.lineage, 0, 16));
    BAD(ERR_DAMAGE, memset(h.site, 0, 16));
    BAD(ERR_DAMAGE, memset(h.epoch_id, 0, 16));
    BAD(ERR_DAMAGE, h.gen = 0);
    BAD(ERR_DAMAGE, h.gen = UINT64_C(1) << 32);
    BAD(ERR_DAMAGE, h.first = 0);
    BAD(ERR_DAMAGE, h.first = 4097);
    BAD(ERR_DAMAGE, h.end = 4096);
    BAD(ERR_DAMAGE, h.end = UINT64_MAX - 7);
    BAD(ERR_DAMAGE, h.n_records = 0);
    BAD(ERR_DAMAGE, h.n_records = 101);
    BAD(ERR_DAMAGE, h.n_frames = 0);
    BAD(ERR_DAMAGE, h.n_frames = 101);
    BAD(ERR_DAMAGE, (h.n_frames = 1, h.n_records = 65537, h.end = UINT64_C(1) << 32));
    BAD(ERR_DAMAGE, h.n_frames = 56);
    BAD(0, h.n_frames = 55);
#undef BAD
}
END_TEST

START_TEST(frame_heads_that_cannot_be)
{
    static const struct archive_frame good = { .stored = 10, .expanded = 20, .n = 2, .first_lsn = 4096, .end = 4096 + 352 };
    uint8_t buf[ARCHIVE_FRAME_HEAD_BYTES], again[ARCHIVE_FRAME_HEAD_BYTES];
    struct archive_frame f, got;

    archive_frame_encode(&good, buf);
    ck_assert_int_eq(archive_frame_decode(buf, sizeof buf, &got, NULL), 0);
    archive_frame_encode(&got, again);
    ck_assert_mem_eq(buf, again, sizeof buf);
    ck_assert_int_eq(archive_frame_decode(buf, sizeof buf - 1, &got, NULL), ERR_DAMAGE);
    for (unsigned i = 0; i < sizeof buf * 8; i++) {
        buf[i / 8] ^= (uint8_t)(1 << i % 8);
        ck_assert_int_eq(archive_frame_decode(buf, sizeof buf, &got, NULL), ERR_DAMAGE);
        buf[i / 8] ^= (uint8_t)(1 << i % 8);
    }
    put_u32(buf + 72, 1);
    put_u32(buf + 76, hash32(buf, 76));
    ck_assert_int_eq(archive_frame_decode(buf, sizeof buf, &got, NULL), ERR_DAMAGE);
#define BAD(change) do { f = good; change; archive_frame_encode(&f, buf); \
    ck_assert_msg(archive_frame_decode(buf, sizeof buf, &got, NULL) == ERR_DAMAGE, "%s", #change); } while (0)
    BAD(f.stored = 0);
    BAD(f.stored = (1 << 24) + 1);
    BAD(f.expanded = 0);
    BAD(f.expanded = (1 << 24) + 1);
    BAD(f.n = 0);
    BAD(f.n = 65537);
    BAD(f.n = 3);
    BAD(f.first_lsn = 0);
    BAD(f.first_lsn = 4092);
    BAD(f.end = 4096 + 353);
    BAD(f.end = UINT64_MAX - 7);
    BAD(f.end = 4096);
    BAD(f.prev_lsn = 4096);
    BAD(f.prev_lsn = 4);
    BAD(f.prev_hash.b[3] = 1);
#undef BAD
}
END_TEST

START_TEST(names)
{
    static const char *const bad[] = { "", "next", "0000000000001000-0000000000002000-00000001.arC", "000000000000100-00000000000020000-00000001.arc",
        "0000000000001000-0000000000002000-00000001.arc ", "0000000000001001-0000000000002000-00000001.arc",
        "0000000000001000-0000000000002001-00000001.arc", "0000000000000000-0000000000002000-00000001.arc",
        "0000000000001000-0000000000001000-00000001.arc", "0000000000001000-0000000000002000-00000000.arc",
        "000000000000100G-0000000000002000-00000001.arc", "0000000000001000-ffffffffffffffff-00000001.arc",
        "0000000000001000-0000000000002000-00000001.seg", "0000000000001000-00000001.seg", "base-00000001.base" };
    char buf[ARCHIVE_NAME_MAX];
    uint64_t first = 0, end = 0, gen = 0;

    archive_name(0x123456789abcdef8u, 0x7fffffffffffff00u, 0xfedcba98u, buf);
    ck_assert_str_eq(buf, "archive/123456789abcdef8-7fffffffffffff00-fedcba98.arc");
    ck_assert(archive_parse(buf + 8, &first, &end, &gen));
    ck_assert_uint_eq(first, 0x123456789abcdef8u);
    ck_assert_uint_eq(end, 0x7fffffffffffff00u);
    ck_assert_uint_eq(gen, 0xfedcba98u);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ck_assert_msg(!archive_parse(bad[i], &first, &end, &gen), "%s", bad[i]);
}
END_TEST

/* ---- columns, squeeze ---- */

START_TEST(columns_come_back)
{
    static const uint64_t v[] = { 0, 1, 127, 128, UINT32_MAX, INT64_MAX, UINT64_MAX };
    static const unsigned which[] = { 5, 0, COLUMNS_MAX - 1 };
    struct columns c = { 0 };
    uint8_t buf[64];
    struct rd r, col;
    size_t len;

    for (size_t i = 0; i < sizeof v / sizeof v[0]; i++) {
        ck_assert_uint_eq(zz_get(zz(v[i])), v[i]);
        columns_var(&c, 5, v[i]);
    }
    ck_assert_uint_eq(zz((uint64_t)-1), 1);
    ck_assert_uint_eq(zz(1), 2);
    ck_assert_uint_eq(zz((uint64_t)INT64_MIN), UINT64_MAX);
    columns_bytes(&c, COLUMNS_MAX - 1, "abc", 3);
    columns_bytes(&c, COLUMNS_MAX - 1, NULL, 0);
    len = columns_take(&c, which, 3, buf, sizeof buf);
    ck_assert_uint_eq(len, columns_len(&c) + 3);
    for (size_t cap = 0; cap < len; cap++)
        ck_assert_uint_eq(columns_take(&c, which, 3, buf, cap), 0);
    ck_assert_uint_eq(columns_take(&c, which, 3, buf, len), len);
    r = rd_init(buf, len);
    ck_assert(columns_next(&r, &col));
    for (size_t i = 0; i < sizeof v / sizeof v[0]; i++)
        ck_assert_uint_eq(rd_var(&col), v[i]);
    ck_assert(rd_done(&col));
    ck_assert(columns_next(&r, &col) && rd_done(&col));
    ck_assert(columns_next(&r, &col) && memcmp(rd_bytes(&col, 3), "abc", 3) == 0 && rd_done(&col));
    ck_assert(rd_done(&r));
    ck_assert(!columns_next(&r, &col) && r.bad);
    r = rd_init("\x05" "abcd", 5);
    ck_assert(!columns_next(&r, &col) && r.bad);
    columns_clear(&c);
    ck_assert_uint_eq(columns_len(&c), 0);
    columns_release(&c);
}
END_TEST

START_TEST(squeezed_with_and_without_prefix)
{
    enum { N = 1 << 20 };
    struct squeeze *z = squeeze_new();
    uint8_t *a = malloc(N), *b = malloc(N), *out = malloc(squeeze_bound(N)), *back = malloc(N + 1);
    int64_t plain, with;

    ck_assert(z != NULL && a != NULL && b != NULL && out != NULL && back != NULL);
    fix_fill(a, N, 1);
    memcpy(b, a + 1000, N - 1000);          /* nearly all of it, a little way on */
    fix_fill(b + N - 1000, 1000, 2);
    plain = squeeze(z, 3, b, N, NULL, 0, out, squeeze_bound(N));
    ck_assert_int_gt(plain, N);
    ck_assert_int_eq(unsqueeze(z, out, (size_t)plain, NULL, 0, back, N), 0);
    ck_assert_mem_eq(back, b, N);
    ck_assert_int_eq(squeeze(z, 3, b, N, NULL, 0, out, (size_t)plain - 1), ERR_RANGE);
    ck_assert_int_eq(squeeze(z, 3, b, (size_t)SQUEEZE_MAX + 1, NULL, 0, out, 1), ERR_TOOLONG);
    for (int level = 1; level <= 19; level += level < 5 ? 1 : 7) {
        with = squeeze(z, level, b, N, a, N, out, squeeze_bound(N));
        ck_assert_int_gt(with, 0);
        ck_assert_int_lt(with, 5000);
        ck_assert_int_eq(unsqueeze(z, out, (size_t)with, a, N, back, N), 0);
        ck_assert_mem_eq(back, b, N);
    }
    ck_assert(unsqueeze(z, out, (size_t)with, NULL, 0, back, N) != 0 || memcmp(back, b, N) != 0);
    ck_assert_int_eq(unsqueeze(z, out, (size_t)with, a, N, back, N - 1), ERR_DAMAGE);
    ck_assert_int_eq(unsqueeze(z, out, (size_t)with, a, N, back, N + 1), ERR_DAMAGE);
    ck_assert_int_eq(unsqueeze(z, out, (size_t)with - 1, a, N, back, N), ERR_DAMAGE);
    ck_assert_int_eq(unsqueeze(z, out, 0, NULL, 0, back, N), ERR_DAMAGE);
    out[with] = 0;
    ck_assert_int_eq(unsqueeze(z, out, (size_t)with + 1, a, N, back, N), ERR_DAMAGE);
    for (size_t i = 0; i < N; i++)
        b[i] = (uint8_t)(i % 4 == 0 ? a[i] & 3 : i >> 16);
    plain = squeeze(z, SQUEEZE_COLUMNS, b, N, NULL, 0, out, squeeze_bound(N));
    ck_assert_int_gt(plain, 0);
    ck_assert_int_eq(unsqueeze(z, out, (size_t)plain, NULL, 0, back, N), 0);
    ck_assert_mem_eq(back, b, N);
    with = squeeze(z, 3, a, N, NULL, 0, out, squeeze_bound(N));      /* and nothing of it stays */
    ck_assert_int_eq(unsqueeze(z, out, (size_t)with, NULL, 0, back, N), 0);
    ck_assert_mem_eq(back, a, N);
    squeeze_free(z);
    squeeze_free(NULL);
    free(a);
    free(b);
    free(out);
    free(back);
}
END_TEST

/* ---- faults ---- */

/* Under its name there is nothing, or a whole file. */
static bool none_or_whole(struct simio *sim, const struct row *r)
{
    struct archive *a;
    struct err err = { 0 };
    int rc = archive_open(simio_io(sim), LOG_FIRST_ADDR, r->end + BEHIND, 1, &a, NULL, &err);

    if (rc == ERR_NOENT)
        return false;
    ck_assert_msg(rc == 0, "%s", err.msg);
    archive_close(a);
    check_whole(simio_io(sim), r, 1, 2);
    return true;
}

/* The power fails in every way: none or whole; the one, if ${done}; and the next attempt gets through. */
static void cut_and_retry(struct simio *sim, const struct row *r, bool done)
{
    for (int mode = 0; mode < SIMIO_N_CUT_MODES; mode++)
        for (uint64_t seed = 1; seed <= (mode < SIMIO_CUT_PREFIX ? 1 : 3); seed++) {
            struct simio *s = simio_clone(sim);
            struct err err = { 0 };
            bool there;

            simio_cut(s, seed, (enum simio_cut_mode)mode);
            there = none_or_whole(s, r);
            ck_assert(there || !done);
            ck_assert_msg(put_row(simio_io(s), r, 2, &err) == 0, "%s", err.msg);
            simio_cut(s, seed, SIMIO_CUT_DROP_ALL);
            ck_assert(none_or_whole(s, r) == there || !there);
            check_whole(simio_io(s), r, 2, 2);
            simio_free(s);
        }
}

START_TEST(a_call_fails_or_the_power_does)
{
    bool cut = _i != 0;
    struct row r;
    bool done = false;

    row_big(&r, 4, false);
    for (uint64_t n = 1; !done; n++) {
        struct simio *sim = simio_new(n);
        struct io_stat st;
        struct err err = { 0 };
        int rc;

        ck_assert_uint_lt(n, 100);
        if (cut)
            simio_cut_at(sim, n);
        else
            simio_fail_at(sim, SIMIO_ANY, n, n % 2 == 0 ? ERR_IO : ERR_NOSPC);
        rc = put_row(simio_io(sim), &r, 1, &err);
        ck_assert(rc == 0 || (err.code == rc && err.msg[0] != 0));
        done = cut ? !simio_dead(sim) : rc == 0;
        simio_fail_clear(sim);
        ck_assert(!done || rc == 0);
        if (cut) {
            cut_and_retry(sim, &r, rc == 0);
        } else {
            none_or_whole(sim, &r);
            ck_assert_int_eq(io_stat_path(simio_io(sim), "archive/next", &st, NULL), ERR_NOENT);
            cut_and_retry(sim, &r, rc == 0);
        }
        simio_free(sim);
    }
    row_free(&r);
}
END_TEST

START_TEST(a_read_fails)
{
    struct simio *sim = simio_new(1);
    struct row r;
    bool done = false;

    row_big(&r, 4, false);
    ck_assert_int_eq(put_row(simio_io(sim), &r, 1, NULL), 0);
    for (uint64_t n = 1; !done; n++) {
        struct archive *a;
        struct err err = { 0 }, warn = { 0 };
        int rc;

        simio_fail_at(sim, SIMIO_ANY, n, ERR_IO);
        rc = archive_open(simio_io(sim), LOG_FIRST_ADDR, r.end + BEHIND, 1, &a, &warn, &err);
        ck_assert(rc == 0 || n <= 2);           /* a head that cannot be read is there once more */
        if (rc == 0) {
            ck_assert(warn.code == 0 || n == 3);
            rc = archive_check(a, &err);
            ck_assert(rc == 0 || archive_check(a, NULL) == 0);      /* once only: the reader goes on */
            archive_close(a);
        }
        done = rc == 0 && n > 3;
        ck_assert(rc == 0 || rc == ERR_IO);
        simio_fail_clear(sim);
    }
    row_free(&r);
    simio_free(sim);
}
END_TEST

/* ---- golden ---- */

static size_t read_file(struct io *io, const char *name, uint8_t *buf, size_t cap)
{
    struct io_file *f;
    int64_t n;

    ck_assert_int_eq(io_open(io, name, IO_RDONLY, &f, NULL), 0);
    n = io_pread(f, buf, cap, 0, NULL);
    io_close(f);
    ck_assert(n >= 0 && (size_t)n < cap);
    return (size_t)n;
}

/* The expanded bytes of a file's only frame, and before them its head without the compressed length. */
static size_t only_frame(const uint8_t *file, uint8_t *buf, size_t cap)
{
    struct squeeze *z = squeeze_new();
    struct archive_frame f;
    uint32_t stored;

    ck_assert(z != NULL && archive_frame_decode(file + ARCHIVE_HEAD_BYTES, ARCHIVE_FRAME_HEAD_BYTES, &f, NULL) == 0);
    ck_assert_uint_le(ARCHIVE_FRAME_HEAD_BYTES + f.expanded, cap);
    stored = f.stored;
    f.stored = 0;
    archive_frame_encode(&f, buf);
    ck_assert_int_eq(unsqueeze(z, file + ARCHIVE_HEAD_BYTES + ARCHIVE_FRAME_HEAD_BYTES, stored, NULL, 0, buf + ARCHIVE_FRAME_HEAD_BYTES,
                               f.expanded), 0);
    squeeze_free(z);
    return ARCHIVE_FRAME_HEAD_BYTES + f.expanded;
}

/*
 * What zstd makes of the same bytes may change with its version, so the golden file is read, and what is written is compared
 * by the expanded bytes. SPARE_GOLDEN=write makes it.
 */
START_TEST(golden_archive_never_changes)
{
    static uint8_t have[1 << 16], now[1 << 16], a[1 << 16], b[1 << 16];
    const char *mode = getenv("SPARE_GOLDEN");
    struct simio *sim = simio_new(1), *other = simio_new(1);
    struct io_file *f;
    struct iovec iov = { have, 0 };
    char name[ARCHIVE_NAME_MAX];
    struct row r;
    size_t n;
    FILE *g;

    row_fill(&r, 66);
    name_of(&r, 1, name);
    ck_assert_int_eq(put_row(simio_io(sim), &r, 1, NULL), 0);
    n = read_file(simio_io(sim), name, now, sizeof now);
    if (mode != NULL && strcmp(mode, "write") == 0) {
        g = fix_golden("archive.bin", "wb");
        ck_assert(g != NULL && fwrite(now, 1, n, g) == n && fclose(g) == 0);
    }
    g = fix_golden("archive.bin", "rb");
    ck_assert_msg(g != NULL, "tests/golden/archive.bin is missing");
    iov.iov_len = fread(have, 1, sizeof have, g);
    fclose(g);
    ck_assert_int_eq(io_mkdir(simio_io(other), "archive", NULL), 0);
    ck_assert_int_eq(io_open(simio_io(other), name, IO_RDWR | IO_CREATE, &f, NULL), 0);
    ck_assert_int_eq(io_pwritev(f, &iov, 1, 0, NULL), 0);
    io_close(f);
    check_whole(simio_io(other), &r, 1, 1);
    n = only_frame(have, a, sizeof a);
    ck_assert_msg(n == only_frame(now, b, sizeof b) && memcmp(a, b, n) == 0 && memcmp(have + 64, now + 64, 240 - 64) == 0,
                  "tests/golden/archive.bin: the format has changed");
    row_free(&r);
    simio_free(sim);
    simio_free(other);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("archive");
    TCase *t = tcase_create("archive");
    SRunner *r;
    int failed;

    tcase_set_timeout(t, 120);
    tcase_add_test(t, columns_come_back);
    tcase_add_test(t, squeezed_with_and_without_prefix);
    tcase_add_test(t, every_type_comes_back_byte_for_byte);
    tcase_add_test(t, many_records_make_many_frames);
    tcase_add_test(t, large_records_end_a_frame_in_time);
    tcase_add_test(t, files_follow_each_other);
    tcase_add_test(t, what_does_not_fit_is_not_taken);
    tcase_add_test(t, every_flipped_bit_is_noticed);
    tcase_add_test(t, truncated_at_every_length);
    tcase_add_test(t, damage_takes_one_frame_and_no_more);
    tcase_add_test(t, seek_finds_each_record);
    tcase_add_test(t, a_frame_of_another_history);
    tcase_add_test(t, numbers_that_cannot_be);
    tcase_add_test(t, columns_too_short_or_too_long);
    tcase_add_test(t, heads_that_cannot_be);
    tcase_add_test(t, frame_heads_that_cannot_be);
    tcase_add_test(t, names);
    tcase_add_loop_test(t, a_call_fails_or_the_power_does, 0, 2);
    tcase_add_test(t, a_read_fails);
    tcase_add_test(t, golden_archive_never_changes);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
