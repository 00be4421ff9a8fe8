/*
 * check_history: the records of a store are the same bytes wherever they lie, which files of the archive count, and where chunks end.
 */
#include "store/pack/archive.h"
#include "store/pack/chunker.h"
#include "store/pack/history.h"
#include "store/maint/upkeep.h"
#include "tests/lib/packrig.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct teststore a;
static struct past past;
static struct packrig_records was;           /* as the log had them, before anything was packed */

static void start(uint64_t seed, unsigned work)
{
    packrig_start(&a, &past, seed, 16 << 10);
    past_work(&a, &past, work, 10);
}

static void stop(void)
{
    packrig_forget(&was);
    ts_free(&a);
}

/* One segment or so. */
static int pack_some(struct store *s, uint64_t upto)
{
    struct err err = { 0 };
    int rc = packer_step(s, NULL, upto, NULL, &err);

    ck_assert_msg(rc >= 0, "%s", err.msg);
    return rc;
}

START_TEST(records_are_the_same_bytes_wherever_they_lie)
{
    start(1, 150);
    packrig_note(&was, a.s);
    packrig_walks(&was, a.s);
    ck_assert_int_eq(store_sync(a.s, NULL), 0);
    ck_assert_int_eq(store_flush(a.s, NULL), 0);
    for (unsigned i = 0; i < was.n; i += was.n / 7) {
        (void)pack_some(a.s, was.v[i].lsn);
        packrig_walk(&was, a.s, 0, NULL);
        packrig_walks(&was, a.s);
    }
    packrig_pack(a.s, NULL);
    packrig_walks(&was, a.s);
    past_work(&a, &past, 20, 10);
    packrig_note(&was, a.s);
    packrig_walks(&was, a.s);
    stop();
}
END_TEST

static unsigned pack_at;

static void pack_then(struct store *s, unsigned i)
{
    if (i == pack_at)
        packrig_pack(s, NULL);
}

static void pack_a_little(struct store *s, unsigned i)
{
    (void)pack_some(s, was.v[i + 40 < was.n ? i + 40 : was.n - 1].lsn);
}

START_TEST(a_reader_goes_on_where_the_log_was_let_go_of)
{
    start(2, 60);
    packrig_note(&was, a.s);
    ck_assert_int_eq(store_close(a.s, NULL), 0);
    for (pack_at = 0; pack_at < was.n + 3; pack_at += 9) {
        struct teststore t = a;

        t.sim = simio_clone(a.sim);
        t.disk = kv_twin_disk_clone(a.disk);
        ck_assert_int_eq(kv_twin_open(t.disk, &t.opt.kv, NULL), 0);
        ck_assert_int_eq(store_open(simio_io(t.sim), NULL, &t.opt, &t.s, NULL, NULL), 0);
        packrig_walk(&was, t.s, pack_at % 3, pack_at % 2 ? pack_then : pack_a_little);
        packrig_walks(&was, t.s);
        ts_free(&t);
    }
    ck_assert_int_eq(kv_twin_open(a.disk, &a.opt.kv, NULL), 0);
    ck_assert_int_eq(store_open(simio_io(a.sim), NULL, &a.opt, &a.s, NULL, NULL), 0);
    stop();
}
END_TEST

/* Whether a record begins there is known of what left the log; within the log it may be damage, as log_read_record says. */
static void look_at(uint64_t lsn, unsigned next)
{
    struct record rec = { 0 };
    void *buf = NULL;
    int rc = history_record(store_history(a.s), lsn, &rec, &buf, &(struct err){ 0 });

    if (next < was.n && was.v[next].lsn == lsn) {
        ck_assert_msg(rc == 0, "record @%lu: %s", (unsigned long)lsn, err_name(rc));
        ck_assert_uint_eq(rec.lsn, lsn);
        ck_assert_uint_eq(rec.head_len, was.v[next].head_len);
        ck_assert_ptr_null(rec.data);
    } else {
        ck_assert_msg(rc == ERR_NOENT || (rc == ERR_DAMAGE && lsn >= log_first(store_log(a.s))), "no record @%lu: %s", (unsigned long)lsn, err_name(rc));
    }
    free(buf);
}

START_TEST(a_record_is_found_by_its_address_and_by_no_other)
{
    unsigned next = 0;

    start(3, 40);
    packrig_note(&was, a.s);
    packrig_pack(a.s, NULL);
    past_work(&a, &past, 10, 100);
    packrig_note(&was, a.s);
    for (uint64_t lsn = 0; lsn < log_head(store_log(a.s)) + 4096; lsn += lsn < 8192 ? 1 : 8) {
        while (next < was.n && was.v[next].lsn < lsn)
            next++;
        look_at(lsn, next);
    }
    for (int i = 0; i < 2000; i++) {
        next = (unsigned)past_random(&past, was.n);
        look_at(was.v[next].lsn, next);
        look_at(was.v[next].lsn, next);
        look_at(was.v[next].lsn + 8, was.n);
    }
    look_at(UINT64_MAX - 7, was.n);
    stop();
}
END_TEST

/* ---- which files count ---- */

struct files { struct history_file v[64]; unsigned n; };

static int add_file(void *arg, const struct history_file *f)
{
    struct files *l = arg;

    l->v[l->n++] = *f;
    return 0;
}

static void list_files(struct files *l)
{
    l->n = 0;
    ck_assert_int_eq(history_files(store_history(a.s), add_file, l), 0);
}

static void several_files(struct files *l)
{
    for (int i = 0; i < 4; i++) {
        packrig_note(&was, a.s);
        packrig_pack(a.s, NULL);
        past_work(&a, &past, 15, 5);
    }
    packrig_note(&was, a.s);
    packrig_pack(a.s, NULL);
    list_files(l);
    ck_assert_uint_ge(l->n, 5);
}

/* All before it, then damage that names ${what}. */
static void ends_at(uint64_t lsn, const char *what)
{
    struct err err = { 0 };
    struct history_iter *it = NULL;
    struct record rec;
    const uint8_t *head;
    unsigned i = 0;
    int rc;

    ck_assert_int_eq(history_iter_new(store_history(a.s), 0, UINT64_MAX, &it, &err), 0);
    for (; (rc = history_next(it, &rec, &head, &err)) == 1; i++)
        packrig_same(&was, i, &rec, head);
    ck_assert_int_eq(rc, ERR_DAMAGE);
    ck_assert_uint_eq(was.v[i].lsn, lsn);
    ck_assert_msg(strstr(err.msg, what) != NULL, "expected \"%s\" in: %s", what, err.msg);
    history_iter_free(it);
}

START_TEST(a_file_that_is_missing_is_damage_and_named)
{
    struct files l;
    char name[ARCHIVE_NAME_MAX], where[32];
    struct record rec;
    void *buf = NULL;
    struct err err = { 0 };

    start(4, 60);
    several_files(&l);
    archive_name(l.v[1].first, l.v[1].end, l.v[1].gen, name);
    ck_assert_int_eq(io_unlink(simio_io(a.sim), name, NULL), 0);
    ends_at(l.v[1].first, name);
    ck_assert_int_eq(history_record(store_history(a.s), l.v[1].first, &rec, &buf, &err), ERR_DAMAGE);
    ck_assert_int_eq(store_close(a.s, NULL), 0);
    packrig_open(&a);                            /* the index is all that is needed */
    snprintf(where, sizeof where, "@%lu", (unsigned long)l.v[1].first);
    ends_at(l.v[1].first, where);
    packrig_walk(&was, a.s, was.n - 3, NULL);
    ck_assert_uint_eq(past_same(&past, a.s, "a file is missing"), past.n);
    past_work(&a, &past, 3, 1);
    ck_assert_int_eq(packrig_try(a.s, NULL, &err), 0);      /* packing goes on behind it, and hides nothing */
    ck_assert_uint_eq(log_first(store_log(a.s)), log_head(store_log(a.s)));
    ends_at(l.v[1].first, where);
    ck_assert_int_eq(store_close(a.s, NULL), 0);
    kv_twin_disk_free(a.disk);               /* now it is not */
    a.disk = kv_twin_disk_new();
    ck_assert_int_eq(kv_twin_open(a.disk, &a.opt.kv, NULL), 0);
    ck_assert_int_eq(store_open(simio_io(a.sim), NULL, &a.opt, &a.s, NULL, &err), ERR_DAMAGE);
    ck_assert_msg(strstr(err.msg, where) != NULL, "%s", err.msg);
    packrig_forget(&was);
    kv_twin_disk_free(a.disk);
    simio_free(a.sim);
}
END_TEST

START_TEST(without_the_newest_file_it_opens_and_reads)
{
    struct files l;
    char name[ARCHIVE_NAME_MAX];
    struct err err = { 0 };

    start(7, 40);
    several_files(&l);
    past_work(&a, &past, 3, 1);
    packrig_pack(a.s, NULL);
    list_files(&l);
    packrig_close(&a);
    archive_name(l.v[l.n - 1].first, l.v[l.n - 1].end, l.v[l.n - 1].gen, name);
    ck_assert_int_eq(io_unlink(simio_io(a.sim), name, NULL), 0);
    for (int round = 0; round < 2; round++) {
        a.opt.writable = round == 1;
        packrig_open(&a);
        ck_assert_uint_eq(past_same(&past, a.s, "the newest file is missing"), past.n);
        ck_assert_int_lt(packer_step(a.s, NULL, UINT64_MAX, NULL, &err), 0);
        if (round == 0)
            packrig_close(&a);
    }
    past_work(&a, &past, 5, 5);
    stop();
}
END_TEST

/* Two files written anew as one, of a larger generation; the old ones are still there. */
static void merge(const struct history_file *x, const struct history_file *y)
{
    struct super *sb = malloc(sizeof *sb);
    struct archive_head h = { .gen = history_next_gen(store_history(a.s)), .first = x->first, .end = y->end };
    struct archive_writer *w = NULL;
    struct history_iter *it = NULL;
    struct record rec;
    struct err err = { 0 };
    const uint8_t *head;

    store_super(a.s, sb);
    memcpy(h.lineage, sb->lineage, 16);
    memcpy(h.site, sb->site, 16);
    ck_assert_int_eq(archive_new(simio_io(a.sim), &h, &w, &err), 0);
    ck_assert_int_eq(history_iter_new(store_history(a.s), x->first, y->end, &it, &err), 0);
    while (history_next(it, &rec, &head, &err) == 1)
        ck_assert_msg(archive_add(w, &rec, head, &err) == 0, "%s", err.msg);
    history_iter_free(it);
    ck_assert_msg(archive_finish(w, sb->epochs[0].id, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(history_added(store_history(a.s), x->first, y->end, h.gen, &err), 0);
    free(sb);
}

START_TEST(of_two_files_the_newer_counts_and_the_older_may_go)
{
    struct files l, m;
    char name[ARCHIVE_NAME_MAX];

    start(5, 60);
    several_files(&l);
    merge(&l.v[1], &l.v[2]);
    for (int round = 0; round < 3; round++) {
        list_files(&m);
        ck_assert_uint_eq(m.n, l.n - 1);
        ck_assert_uint_eq(m.v[1].first, l.v[1].first);
        ck_assert_uint_eq(m.v[1].end, l.v[2].end);
        ck_assert_uint_eq(history_end(store_history(a.s)), log_head(store_log(a.s)));
        packrig_walks(&was, a.s);
        for (unsigned k = 1; k < 3 && round == 1; k++) {
            archive_name(l.v[k].first, l.v[k].end, l.v[k].gen, name);
            ck_assert_int_eq(io_unlink(simio_io(a.sim), name, NULL), 0);
        }
        ts_reopen(&a, false);
    }
    past_work(&a, &past, 10, 5);
    packrig_note(&was, a.s);
    packrig_pack(a.s, NULL);
    packrig_walks(&was, a.s);
    ck_assert_uint_eq(past_same(&past, a.s, "files were merged"), past.n);
    stop();
}
END_TEST

START_TEST(log_and_archive_may_both_have_a_record)
{
    struct err err = { 0 };

    start(6, 60);
    packrig_note(&was, a.s);
    simio_fail_from(a.sim, SIMIO_UNLINK, 3, ERR_IO);     /* archive/next and packs/next are the first */
    ck_assert_int_lt(upkeep_pack(a.s, NULL, NULL, NULL, NULL, &err), 0);
    simio_fail_clear(a.sim);
    store_drop(a.s);
    simio_kill(a.sim);
    packrig_open(&a);
    packrig_note(&was, a.s);
    ck_assert_uint_lt(log_first(store_log(a.s)), history_end(store_history(a.s)));
    packrig_walks(&was, a.s);
    packrig_pack(a.s, NULL);
    packrig_walks(&was, a.s);
    ck_assert_uint_eq(past_same(&past, a.s, "both had them"), past.n);
    stop();
}
END_TEST

/* ---- where chunks end ---- */

static size_t cuts(const uint8_t *p, size_t n, size_t *end)
{
    size_t k = 0;

    for (size_t at = 0; at < n; end[k++] = at) {
        size_t left = n - at, len = chunker_cut(p + at, left < CHUNKER_MAX ? left : CHUNKER_MAX);

        ck_assert_uint_gt(len, 0);
        ck_assert_uint_le(len, CHUNKER_MAX);
        ck_assert(len >= CHUNKER_MIN || len == left);
        ck_assert_uint_eq(chunker_cut(p + at, left), len);   /* more bytes change nothing */
        at += len;
    }
    return k;
}

START_TEST(chunks_end_where_the_content_says)
{
    enum { N = 24 << 20, FRONT = 12345 };
    struct past p = { .x = 99 };
    uint8_t *buf = malloc(N + FRONT);
    size_t *x = calloc(N / CHUNKER_MIN + 2, sizeof *x), *y = calloc(N / CHUNKER_MIN + 2, sizeof *y), nx, ny, alike = 0;

    past_fill(&p, buf, N + FRONT, (unsigned)_i);
    nx = cuts(buf + FRONT, N, x);
    ny = cuts(buf, N + FRONT, y);                            /* the same, with something in front */
    for (size_t i = 0, k = 0; i < nx; i++) {
        while (k < ny && y[k] < x[i] + FRONT)
            k++;
        alike += k < ny && y[k] == x[i] + FRONT;
    }
    ck_assert_uint_ge(alike, nx - nx / 8 - 4);
    ck_assert_uint_gt(nx, N / CHUNKER_WANTED / (_i == 2 ? 4u : 2u));   /* about the size that is wanted; zeros hold nothing to go by */
    ck_assert_uint_lt(nx, N / CHUNKER_WANTED * 2);
    memset(buf, 'x', N);                                     /* nothing to go by */
    ck_assert_uint_le(cuts(buf, N, x), N / CHUNKER_MIN);
    ck_assert_uint_eq(chunker_cut(buf, 1), 1);
    ck_assert_uint_eq(chunker_cut(buf, CHUNKER_MIN), CHUNKER_MIN);
    free(buf);
    free(x);
    free(y);
}
END_TEST

static TCase *tcase(Suite *s, const char *name)
{
    TCase *t = tcase_create(name);

    tcase_set_timeout(t, 300);
    suite_add_tcase(s, t);
    return t;
}

int main(void)
{
    Suite *s = suite_create("history");
    TCase *t = tcase(s, "records");
    SRunner *sr;
    int failed;

    tcase_add_test(t, records_are_the_same_bytes_wherever_they_lie);
    tcase_add_test(t, a_reader_goes_on_where_the_log_was_let_go_of);
    tcase_add_test(t, a_record_is_found_by_its_address_and_by_no_other);
    tcase_add_test(t, a_file_that_is_missing_is_damage_and_named);
    tcase_add_test(t, without_the_newest_file_it_opens_and_reads);
    tcase_add_test(t, of_two_files_the_newer_counts_and_the_older_may_go);
    tcase_add_test(t, log_and_archive_may_both_have_a_record);
    t = tcase(s, "chunks");
    tcase_add_loop_test(t, chunks_end_where_the_content_says, 0, 3);
    sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed != 0;
}
